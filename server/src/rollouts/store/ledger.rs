//! What follows from the steps of assignments: counts, the gate's counters, timelines, director versions. Written once a
//! transaction, in the order of the keys, so that two transactions never wait for each other in a circle.

use std::collections::{BTreeMap, BTreeSet};

use diesel::prelude::*;
use diesel::upsert::excluded;

use super::assignments::{Assignment, Said};
use super::{CHANGED, CHUNK};
use crate::clock::Now;
use crate::db::schema::{gate_commits, gate_counts, rollout_counts, rollout_reasons, terminals, update_events};
use crate::db::{self, Conn};
use crate::on_backend;
use crate::rollouts::assignment::{Phase, State};

/// Stage of an assignment whose stage is not open.
pub(in crate::rollouts) const CLOSED: i64 = -1;
/// Commits are kept by minute: fine enough for windows of an hour, few enough to add up at each look.
pub(in crate::rollouts) const MINUTE_MS: i64 = 60_000;

/// Whether an assignment in this phase has been accepted by its terminal at least once, whatever was before.
pub(in crate::rollouts) fn has_started(phase: Phase) -> bool {
    match phase {
        Phase::Downloading
        | Phase::Installing
        | Phase::Rebooting
        | Phase::Trial
        | Phase::Succeeded
        | Phase::Failed
        | Phase::RolledBack => true,
        Phase::Waiting | Phase::Offered | Phase::TimedOut | Phase::Cancelled => false,
    }
}

/// One row of a terminal's update timeline, as inserted.
#[derive(Debug, Insertable)]
#[diesel(table_name = update_events)]
struct NewEvent {
    terminal_id: i64,
    at_ms: i64,
    assignment_id: i64,
    phase: &'static str,
    reason: Option<&'static str>,
    detail: Option<String>,
    firmware: Option<String>,
}

/// What a row of `gate_counts` grows by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Growth {
    waiting: i64,
    started: i64,
    failed: i64,
    finished: i64,
}

#[derive(Debug, Insertable)]
#[diesel(table_name = gate_counts)]
struct NewCount {
    rollout_id: i64,
    stage: i64,
    cell: i64,
    waiting: i64,
    started: i64,
    failed: i64,
    finished: i64,
}

#[derive(Debug, Insertable)]
#[diesel(table_name = rollout_reasons)]
struct NewReason {
    rollout_id: i64,
    phase: &'static str,
    reason: &'static str,
    cell: i64,
    n: i64,
}

/// Whether assignments in this phase are counted by reason and cell: what waits is counted by stage and cell, and what
/// went well or was withdrawn is asked for by nobody.
fn has_reasons(phase: Phase) -> bool {
    match phase {
        Phase::Offered
        | Phase::Downloading
        | Phase::Installing
        | Phase::Rebooting
        | Phase::Trial
        | Phase::Failed
        | Phase::RolledBack
        | Phase::TimedOut => true,
        Phase::Waiting | Phase::Succeeded | Phase::Cancelled => false,
    }
}

#[derive(Debug, Insertable)]
#[diesel(table_name = gate_commits)]
struct NewCommits {
    rollout_id: i64,
    minute_ms: i64,
    cell: i64,
    n: i64,
}

/// What a transaction's steps change beside the assignments themselves.
#[derive(Debug, Default)]
pub(in crate::rollouts) struct Ledger {
    counts: BTreeMap<(i64, Phase), i64>,
    gate: BTreeMap<(i64, i64, i64), Growth>,
    reasons: BTreeMap<(i64, &'static str, &'static str, i64), i64>,
    commits: BTreeMap<(i64, i64, i64), i64>,
    events: Vec<NewEvent>,
    reordered: BTreeSet<i64>,
}

impl Ledger {
    /// Notes a step that was written.
    pub(in crate::rollouts) fn note(&mut self, before: &Assignment, after: State, said: Said<'_>, now: Now) {
        let (from, to) = (before.state.phase(), after.phase());
        if from != to {
            *self.counts.entry((before.rollout_id, from)).or_default() -= 1;
            *self.counts.entry((before.rollout_id, to)).or_default() += 1;
            self.note_for_gate(before, to, now);
        }
        for (state, by) in [(before.state, -1), (after, 1)] {
            if has_reasons(state.phase()) {
                let key = (before.rollout_id, state.phase().as_str(), state.reason().unwrap_or_default(), before.cell);
                *self.reasons.entry(key).or_default() += by;
            }
        }
        if from.is_ordered() != to.is_ordered() {
            self.reordered.insert(before.terminal_id);
        }
        self.events.push(NewEvent {
            terminal_id: before.terminal_id,
            at_ms: now.0,
            assignment_id: before.id,
            phase: to.as_str(),
            reason: after.reason(),
            detail: said.detail.map(str::to_owned),
            firmware: said.firmware.map(str::to_owned),
        });
    }

    fn note_for_gate(&mut self, before: &Assignment, to: Phase, now: Now) {
        let from = before.state.phase();
        let had_started = before.started_at_ms.is_some();
        let is_started = had_started || has_started(to);
        let growth = self.gate.entry((before.rollout_id, before.stage, before.cell)).or_default();
        growth.waiting += i64::from(to == Phase::Waiting) - i64::from(from == Phase::Waiting);
        growth.started += i64::from(is_started && !had_started);
        if is_started && to.is_final() {
            growth.finished += 1;
            // A terminal that fell silent after it had accepted the order counts against the release.
            growth.failed += i64::from(matches!(to, Phase::Failed | Phase::RolledBack | Phase::TimedOut));
        }
        if to == Phase::Succeeded {
            let minute_ms = now.0.div_euclid(MINUTE_MS) * MINUTE_MS;
            *self.commits.entry((before.rollout_id, minute_ms, before.cell)).or_default() += 1;
        }
    }

    /// Notes a new assignment, which waits for its stage.
    pub(super) fn note_new(&mut self, rollout_id: i64, cell: i64) {
        *self.counts.entry((rollout_id, Phase::Waiting)).or_default() += 1;
        self.gate.entry((rollout_id, CLOSED, cell)).or_default().waiting += 1;
    }

    /// Notes that a waiting assignment's stage opens.
    pub(in crate::rollouts) fn note_opened(&mut self, assignment: &Assignment, stage: i64) {
        let (rollout_id, cell) = (assignment.rollout_id, assignment.cell);
        self.gate.entry((rollout_id, assignment.stage, cell)).or_default().waiting -= 1;
        self.gate.entry((rollout_id, stage, cell)).or_default().waiting += 1;
    }

    /// Notes that the director's answer for this terminal changes without a step.
    pub(in crate::rollouts) fn note_reordered(&mut self, terminal_id: i64) {
        self.reordered.insert(terminal_id);
    }

    /// Writes what was noted.
    pub(in crate::rollouts) fn write(self, conn: &mut Conn) -> Result<(), db::Error> {
        let reordered: Vec<i64> = self.reordered.into_iter().collect();
        for ids in reordered.chunks(CHANGED) {
            diesel::update(terminals::table.filter(terminals::id.eq_any(ids)))
                .set(terminals::assignment_version.eq(terminals::assignment_version + 1))
                .execute(conn)?;
        }
        insert_events(conn, &self.events)?;
        for ((rollout_id, phase), by) in self.counts.into_iter().filter(|&(_, by)| by != 0) {
            let row = rollout_counts::table.find((rollout_id, phase.as_str()));
            diesel::update(row).set(rollout_counts::n.eq(rollout_counts::n + by)).execute(conn)?;
        }
        let grown = self.gate.into_iter().filter(|(_, growth)| *growth != Growth::default());
        let grown: Vec<NewCount> = grown.map(|(key, growth)| NewCount::of(key, growth)).collect();
        grow(conn, &grown)?;
        let changed = self.reasons.into_iter().filter(|(_, by)| *by != 0);
        let changed: Vec<NewReason> = changed
            .map(|((rollout_id, phase, reason, cell), n)| NewReason { rollout_id, phase, reason, cell, n })
            .collect();
        count_reasons(conn, &changed)?;
        for ((rollout_id, minute_ms, cell), n) in self.commits {
            let row = NewCommits { rollout_id, minute_ms, cell, n };
            on_backend!(conn, |c| {
                diesel::insert_into(gate_commits::table)
                    .values(&row)
                    .on_conflict((gate_commits::rollout_id, gate_commits::minute_ms, gate_commits::cell))
                    .do_update()
                    .set(gate_commits::n.eq(gate_commits::n + excluded(gate_commits::n)))
                    .execute(c)
            })?;
        }
        Ok(())
    }
}

impl NewCount {
    fn of((rollout_id, stage, cell): (i64, i64, i64), by: Growth) -> Self {
        let Growth { waiting, started, failed, finished } = by;
        Self { rollout_id, stage, cell, waiting, started, failed, finished }
    }
}

/// A chunk of a large rollout touches some hundred rows: on PostgreSQL they go in one statement, in their order.
fn grow(conn: &mut Conn, rows: &[NewCount]) -> Result<(), db::Error> {
    macro_rules! upsert {
        ($conn:ident, $rows:ident) => {
            diesel::insert_into(gate_counts::table)
                .values($rows)
                .on_conflict((gate_counts::rollout_id, gate_counts::stage, gate_counts::cell))
                .do_update()
                .set((
                    gate_counts::waiting.eq(gate_counts::waiting + excluded(gate_counts::waiting)),
                    gate_counts::started.eq(gate_counts::started + excluded(gate_counts::started)),
                    gate_counts::failed.eq(gate_counts::failed + excluded(gate_counts::failed)),
                    gate_counts::finished.eq(gate_counts::finished + excluded(gate_counts::finished)),
                ))
                .execute($conn)?
        };
    }
    match conn {
        Conn::Sqlite(c) => {
            for row in rows {
                upsert!(c, row);
            }
        }
        Conn::Postgres(c) => {
            for rows in rows.chunks(CHUNK) {
                upsert!(c, rows);
            }
        }
    }
    Ok(())
}

/// As [`grow`], for the counts by reason.
fn count_reasons(conn: &mut Conn, rows: &[NewReason]) -> Result<(), db::Error> {
    macro_rules! upsert {
        ($conn:ident, $rows:ident) => {
            diesel::insert_into(rollout_reasons::table)
                .values($rows)
                .on_conflict((
                    rollout_reasons::rollout_id,
                    rollout_reasons::phase,
                    rollout_reasons::reason,
                    rollout_reasons::cell,
                ))
                .do_update()
                .set(rollout_reasons::n.eq(rollout_reasons::n + excluded(rollout_reasons::n)))
                .execute($conn)?
        };
    }
    match conn {
        Conn::Sqlite(c) => {
            for row in rows {
                upsert!(c, row);
            }
        }
        Conn::Postgres(c) => {
            for rows in rows.chunks(CHUNK) {
                upsert!(c, rows);
            }
        }
    }
    Ok(())
}

/// Two steps to one phase within a millisecond stand as one line of the timeline.
fn insert_events(conn: &mut Conn, events: &[NewEvent]) -> Result<(), db::Error> {
    match conn {
        // SQLite's dialect has no conflict clause on many rows; one row a statement costs it no round trip.
        Conn::Sqlite(c) => {
            for event in events {
                diesel::insert_into(update_events::table).values(event).on_conflict_do_nothing().execute(c)?;
            }
        }
        Conn::Postgres(c) => {
            for events in events.chunks(CHANGED) {
                diesel::insert_into(update_events::table).values(events).on_conflict_do_nothing().execute(c)?;
            }
        }
    }
    Ok(())
}
