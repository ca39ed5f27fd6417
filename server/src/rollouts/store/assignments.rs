//! SQL of assignments. Every step goes through a [`Ledger`], which keeps the counts, the timeline and the terminals'
//! director versions in the same transaction.

use std::collections::{BTreeMap, BTreeSet};

use diesel::prelude::*;

use super::{CHUNK, raced};
use crate::clock::Now;
use crate::db::schema::{assignments, releases, rollout_counts, rollouts, terminals, update_events};
use crate::db::{self, Conn, Sequence, next_ids};
use crate::on_backend;
use crate::rollouts::assignment::{Phase, State};

/// An assignment with what its steps need of its rollout and release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::rollouts) struct Assignment {
    pub id: i64,
    pub rollout_id: i64,
    pub terminal_id: i64,
    pub state: State,
    pub bytes_done: i64,
    pub bytes_total: i64,
    pub phase_since_ms: i64,
    pub deadline_ms: Option<i64>,
    pub version: i64,
    /// The rollout's limit for an offer, ms.
    pub offer_ms: i64,
    pub target: Target,
}

/// What a terminal's manifest must show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::rollouts) struct Target {
    pub component: String,
    pub version: String,
    pub sha256: String,
}

type Columns =
    ((i64, i64, i64, String, Option<String>), (i64, i64, i64, Option<i64>, i64), (i64, String, String, String));

fn assignment(row: Columns) -> Option<Assignment> {
    let (
        (id, rollout_id, terminal_id, phase, reason),
        (bytes_done, bytes_total, phase_since_ms, deadline_ms, version),
        (timeout_s, component, firmware_version, sha256),
    ) = row;
    let Some(state) = State::from_columns(&phase, reason.as_deref()) else {
        tracing::error!(assignment = id, %phase, ?reason, "an assignment's phase and reason do not fit together");
        return None;
    };
    Some(Assignment {
        id,
        rollout_id,
        terminal_id,
        state,
        bytes_done,
        bytes_total,
        phase_since_ms,
        deadline_ms,
        version,
        offer_ms: timeout_s.saturating_mul(1000),
        target: Target { component, version: firmware_version, sha256 },
    })
}

macro_rules! joined {
    () => {
        assignments::table
            .inner_join(rollouts::table.on(rollouts::id.eq(assignments::rollout_id)))
            .inner_join(releases::table.on(releases::id.eq(rollouts::release_id)))
            .select((
                (
                    assignments::id,
                    assignments::rollout_id,
                    assignments::terminal_id,
                    assignments::phase,
                    assignments::reason,
                ),
                (
                    assignments::bytes_done,
                    assignments::bytes_total,
                    assignments::phase_since_ms,
                    assignments::deadline_ms,
                    assignments::version,
                ),
                (rollouts::assignment_timeout_s, releases::component, releases::firmware_version, releases::sha256),
            ))
    };
}

/// These assignments, by primary key; unknown ids are left out.
pub(in crate::rollouts) fn by_ids(conn: &mut Conn, ids: &[i64]) -> Result<Vec<Assignment>, db::Error> {
    let mut found = Vec::with_capacity(ids.len());
    for ids in ids.chunks(CHUNK) {
        found.extend(
            joined!().filter(assignments::id.eq_any(ids)).load::<Columns>(conn)?.into_iter().filter_map(assignment),
        );
    }
    Ok(found)
}

/// The live assignments of these terminals, by the index `assignments_live`.
pub(in crate::rollouts) fn live_of(conn: &mut Conn, terminals: &[i64]) -> Result<Vec<Assignment>, db::Error> {
    let mut found = Vec::new();
    for terminals in terminals.chunks(CHUNK) {
        let rows = joined!()
            .filter(assignments::terminal_id.eq_any(terminals))
            .filter(assignments::live.eq(1))
            .load::<Columns>(conn)?;
        found.extend(rows.into_iter().filter_map(assignment));
    }
    Ok(found)
}

/// The next assignments of a rollout in `phase`, by the index `assignments_by_phase`.
pub(in crate::rollouts) fn in_phase(
    conn: &mut Conn,
    rollout_id: i64,
    phase: Phase,
    limit: usize,
) -> Result<Vec<Assignment>, db::Error> {
    let rows = joined!()
        .filter(assignments::rollout_id.eq(rollout_id))
        .filter(assignments::phase.eq(phase.as_str()))
        .order(assignments::id)
        .limit(i64::try_from(limit).unwrap_or(i64::MAX))
        .load::<Columns>(conn)?;
    Ok(rows.into_iter().filter_map(assignment).collect())
}

/// Live assignments whose time is over, by the index `assignments_due`.
pub(in crate::rollouts) fn due(conn: &mut Conn, now: Now, limit: usize) -> Result<Vec<Assignment>, db::Error> {
    let rows = joined!()
        .filter(assignments::live.eq(1))
        .filter(assignments::deadline_ms.le(now.0))
        .order(assignments::deadline_ms)
        .limit(i64::try_from(limit).unwrap_or(i64::MAX))
        .load::<Columns>(conn)?;
    Ok(rows.into_iter().filter_map(assignment).collect())
}

/// The next assignments that write, boot or try the firmware, after `after`, in the order of their ids.
pub(in crate::rollouts) fn in_flight(
    conn: &mut Conn,
    rollout_id: i64,
    after: i64,
    limit: usize,
) -> Result<Vec<(i64, i64)>, db::Error> {
    let phases = [Phase::Installing.as_str(), Phase::Rebooting.as_str(), Phase::Trial.as_str()];
    Ok(assignments::table
        .filter(assignments::rollout_id.eq(rollout_id))
        .filter(assignments::phase.eq_any(phases))
        .filter(assignments::id.gt(after))
        .order(assignments::id)
        .limit(i64::try_from(limit).unwrap_or(i64::MAX))
        .select((assignments::id, assignments::terminal_id))
        .load(conn)?)
}

/// What came with a report, beside the step itself.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::rollouts) struct Said<'a> {
    pub detail: Option<&'a str>,
    pub bytes: Option<(i64, i64)>,
    pub firmware: Option<&'a str>,
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

/// What a transaction's steps change beside the assignments themselves. Rows are written once, in the order of their
/// keys, so that two transactions never wait for each other in a circle.
#[derive(Debug, Default)]
pub(in crate::rollouts) struct Ledger {
    counts: BTreeMap<(i64, Phase), i64>,
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

    /// Notes new assignments, all waiting.
    fn note_new(&mut self, rollout_id: i64, count: i64) {
        *self.counts.entry((rollout_id, Phase::Waiting)).or_default() += count;
    }

    /// Notes that the director's answer for this terminal changes without a step.
    pub(in crate::rollouts) fn note_reordered(&mut self, terminal_id: i64) {
        self.reordered.insert(terminal_id);
    }

    /// Writes what was noted.
    pub(in crate::rollouts) fn write(self, conn: &mut Conn) -> Result<(), db::Error> {
        let reordered: Vec<i64> = self.reordered.into_iter().collect();
        for ids in reordered.chunks(CHUNK) {
            diesel::update(terminals::table.filter(terminals::id.eq_any(ids)))
                .set(terminals::assignment_version.eq(terminals::assignment_version + 1))
                .execute(conn)?;
        }
        insert_events(conn, &self.events)?;
        for ((rollout_id, phase), by) in self.counts {
            let row = rollout_counts::table.find((rollout_id, phase.as_str()));
            diesel::update(row).set(rollout_counts::n.eq(rollout_counts::n + by)).execute(conn)?;
        }
        Ok(())
    }
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
            for events in events.chunks(CHUNK) {
                diesel::insert_into(update_events::table).values(events).on_conflict_do_nothing().execute(c)?;
            }
        }
    }
    Ok(())
}

/// Writes one step if nobody was faster; returns the assignment as it then is.
pub(in crate::rollouts) fn swap(
    conn: &mut Conn,
    before: &Assignment,
    after: State,
    said: Said<'_>,
    now: Now,
) -> Result<Option<Assignment>, db::Error> {
    let phase = after.phase();
    let (bytes_done, bytes_total) = said.bytes.unwrap_or((before.bytes_done, before.bytes_total));
    let next = Assignment {
        state: after,
        bytes_done,
        bytes_total,
        phase_since_ms: if phase == before.state.phase() { before.phase_since_ms } else { now.0 },
        deadline_ms: phase.time_limit_ms(before.offer_ms).map(|limit| now.0.saturating_add(limit)),
        version: before.version + 1,
        ..before.clone()
    };
    let row = assignments::table.find(before.id).filter(assignments::version.eq(before.version));
    let burnt = i64::from(matches!(phase, Phase::Failed | Phase::RolledBack));
    let written = diesel::update(row)
        .set((
            assignments::phase.eq(phase.as_str()),
            assignments::reason.eq(after.reason()),
            assignments::detail.eq(said.detail),
            assignments::live.eq(i64::from(!phase.is_final())),
            assignments::attempts.eq(assignments::attempts + burnt),
            assignments::bytes_done.eq(next.bytes_done),
            assignments::bytes_total.eq(next.bytes_total),
            assignments::phase_since_ms.eq(next.phase_since_ms),
            assignments::deadline_ms.eq(next.deadline_ms),
            assignments::finished_at_ms.eq(phase.is_final().then_some(now.0)),
            assignments::version.eq(next.version),
        ))
        .execute(conn)?;
    Ok((written == 1).then_some(next))
}

/// Writes progress or a sign of life without a step: nothing on the timeline, no count changes. Where somebody was
/// faster, nothing: the next report says it again.
pub(in crate::rollouts) fn renew(
    conn: &mut Conn,
    before: &Assignment,
    bytes: Option<(i64, i64)>,
    now: Now,
) -> Result<Assignment, db::Error> {
    let limit = before.state.phase().time_limit_ms(before.offer_ms);
    let deadline_ms = limit.map(|limit| now.0.saturating_add(limit));
    let (bytes_done, bytes_total) = bytes.unwrap_or((before.bytes_done, before.bytes_total));
    let row = assignments::table.find(before.id).filter(assignments::version.eq(before.version));
    diesel::update(row)
        .set((
            assignments::deadline_ms.eq(deadline_ms),
            assignments::bytes_done.eq(bytes_done),
            assignments::bytes_total.eq(bytes_total),
        ))
        .execute(conn)?;
    Ok(Assignment { deadline_ms, bytes_done, bytes_total, ..before.clone() })
}

/// Writes the same step for many assignments that are in one phase, as one statement.
///
/// When one of them was stepped by somebody else in the meantime, the whole transaction is given up.
pub(in crate::rollouts) fn swap_all(
    conn: &mut Conn,
    from: Phase,
    after: State,
    ids: &[i64],
    offer_ms: i64,
    now: Now,
) -> Result<(), db::Error> {
    let phase = after.phase();
    let deadline_ms = phase.time_limit_ms(offer_ms).map(|limit| now.0.saturating_add(limit));
    for ids in ids.chunks(CHUNK) {
        let rows = assignments::table.filter(assignments::id.eq_any(ids)).filter(assignments::phase.eq(from.as_str()));
        let written = diesel::update(rows)
            .set((
                assignments::phase.eq(phase.as_str()),
                assignments::reason.eq(after.reason()),
                assignments::detail.eq(None::<String>),
                assignments::live.eq(i64::from(!phase.is_final())),
                assignments::phase_since_ms.eq(now.0),
                assignments::deadline_ms.eq(deadline_ms),
                assignments::finished_at_ms.eq(phase.is_final().then_some(now.0)),
                assignments::version.eq(assignments::version + 1),
            ))
            .execute(conn)?;
        if written != ids.len() {
            return Err(raced());
        }
    }
    Ok(())
}

/// A terminal that gets an assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::rollouts) struct Admitted {
    pub terminal_id: i64,
    pub org_path: String,
    pub firmware: Option<String>,
}

#[derive(Debug, Insertable)]
#[diesel(table_name = assignments)]
struct NewAssignment {
    id: i64,
    rollout_id: i64,
    terminal_id: i64,
    org_path: String,
    phase: &'static str,
    live: i64,
    stage: i64,
    attempts: i64,
    bytes_done: i64,
    bytes_total: i64,
    from_firmware: Option<String>,
    created_at_ms: i64,
    phase_since_ms: i64,
    deadline_ms: Option<i64>,
    version: i64,
}

/// Inserts waiting assignments; a terminal with a live one is refused by the index `assignments_live`.
pub(in crate::rollouts) fn insert(
    conn: &mut Conn,
    rollout_id: i64,
    stage: i64,
    length_bytes: i64,
    admitted: Vec<Admitted>,
    now: Now,
) -> Result<(), db::Error> {
    let count = i64::try_from(admitted.len()).unwrap_or(i64::MAX);
    if count == 0 {
        return Ok(());
    }
    let first = next_ids(conn, Sequence::Assignments, count)?;
    let rows: Vec<NewAssignment> = (first..)
        .zip(admitted)
        .map(|(id, admitted)| NewAssignment {
            id,
            rollout_id,
            terminal_id: admitted.terminal_id,
            org_path: admitted.org_path,
            phase: Phase::Waiting.as_str(),
            live: 1,
            stage,
            attempts: 0,
            bytes_done: 0,
            bytes_total: length_bytes,
            from_firmware: admitted.firmware,
            created_at_ms: now.0,
            phase_since_ms: now.0,
            deadline_ms: Phase::Waiting.time_limit_ms(0).map(|limit| now.0.saturating_add(limit)),
            version: 1,
        })
        .collect();
    for rows in rows.chunks(CHUNK) {
        on_backend!(conn, |c| diesel::insert_into(assignments::table).values(rows).execute(c))?;
    }
    let mut ledger = Ledger::default();
    ledger.note_new(rollout_id, count);
    ledger.write(conn)
}
