//! Writing assignments: steps, alone and many at once, and new ones. Every step goes through a [`Ledger`], which keeps what
//! follows from it in the same transaction.

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Bool;

use super::assignments::Assignment;
use super::ledger::{CLOSED, Ledger, has_started};
use super::{CHANGED, CHUNK, is_waiting, raced};
use crate::clock::Now;
use crate::db::schema::{assignments, terminals};
use crate::db::{self, Conn, Sequence, next_ids};
use crate::on_backend;
use crate::rollouts::assignment::{Phase, State};
use crate::rollouts::strategy::Wait;

/// What came with a report, beside the step itself.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::rollouts) struct Said<'a> {
    /// When the next attempt may begin, where this one failed and another is left.
    pub retry_ms: Option<i64>,
    pub detail: Option<&'a str>,
    pub bytes: Option<(i64, i64)>,
    pub firmware: Option<&'a str>,
}

/// When the time of an assignment is over that comes to `phase` now, unless the terminal shows a sign of life; and when
/// the planner looks at it again at the latest.
fn time_limits(before: &Assignment, phase: Phase, now: Now) -> (Option<i64>, Option<i64>) {
    let limit = phase.time_limit_ms(before.offer_ms).map(|limit| now.0.saturating_add(limit));
    let give_up_ms = match phase {
        Phase::Waiting => before.give_up_ms,
        Phase::Offered | Phase::Downloading => limit,
        Phase::Installing
        | Phase::Rebooting
        | Phase::Trial
        | Phase::Succeeded
        | Phase::Failed
        | Phase::RolledBack
        | Phase::TimedOut
        | Phase::Cancelled => None,
    };
    let deadline_ms = match phase {
        Phase::Waiting => give_up_ms.or(limit),
        // A window that closes takes the offer back; what has begun to install goes on.
        Phase::Offered | Phase::Downloading => {
            limit.map(|limit| before.window_ends_ms.map_or(limit, |ends| ends.min(limit)))
        }
        Phase::Installing
        | Phase::Rebooting
        | Phase::Trial
        | Phase::Succeeded
        | Phase::Failed
        | Phase::RolledBack
        | Phase::TimedOut
        | Phase::Cancelled => limit,
    };
    (give_up_ms, deadline_ms)
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
    let (give_up_ms, deadline_ms) = time_limits(before, phase, now);
    let burnt = i64::from(matches!(phase, Phase::Failed | Phase::RolledBack) || said.retry_ms.is_some());
    let next = Assignment {
        state: after,
        attempts: before.attempts + burnt,
        bytes_done,
        bytes_total,
        // What the terminal gave back may be offered again at once, unless it is to be tried again later.
        ready_ms: if phase == Phase::Waiting { Some(said.retry_ms.unwrap_or(now.0)) } else { before.ready_ms },
        give_up_ms,
        started_at_ms: before.started_at_ms.or_else(|| has_started(phase).then_some(now.0)),
        phase_since_ms: if phase == before.state.phase() { before.phase_since_ms } else { now.0 },
        deadline_ms,
        version: before.version + 1,
        ..before.clone()
    };
    let row = assignments::table.find(before.id).filter(assignments::version.eq(before.version));
    let written = diesel::update(row)
        .set((
            assignments::phase.eq(phase.as_str()),
            assignments::reason.eq(after.reason()),
            assignments::detail.eq(said.detail),
            assignments::live.eq(i64::from(!phase.is_final())),
            assignments::attempts.eq(next.attempts),
            assignments::ready_ms.eq(next.ready_ms),
            assignments::wait.eq(said.retry_ms.map(|_| Wait::Retry.as_str())),
            assignments::give_up_ms.eq(next.give_up_ms),
            assignments::started_at_ms.eq(next.started_at_ms),
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
    let (give_up_ms, deadline_ms) = time_limits(before, before.state.phase(), now);
    let (bytes_done, bytes_total) = bytes.unwrap_or((before.bytes_done, before.bytes_total));
    let row = assignments::table.find(before.id).filter(assignments::version.eq(before.version));
    diesel::update(row)
        .set((
            assignments::give_up_ms.eq(give_up_ms),
            assignments::deadline_ms.eq(deadline_ms),
            assignments::bytes_done.eq(bytes_done),
            assignments::bytes_total.eq(bytes_total),
        ))
        .execute(conn)?;
    Ok(Assignment { give_up_ms, deadline_ms, bytes_done, bytes_total, ..before.clone() })
}

/// One step of many assignments that are in one phase and come to the same values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::rollouts) struct Bulk {
    pub from: Phase,
    /// Whether the terminal had accepted the order before: the gate counts by it.
    pub had_started: bool,
    pub after: State,
    /// When a waiting assignment may be offered again.
    pub ready_ms: Option<i64>,
    pub wait: Option<Wait>,
    pub give_up_ms: Option<i64>,
    pub window_ends_ms: Option<i64>,
    pub deadline_ms: Option<i64>,
}

impl Bulk {
    /// The step of `assignment` to `after`; `ready_ms` and `wait` where it waits then, `window_ends_ms` where it is offered.
    pub(in crate::rollouts) fn of(
        assignment: &Assignment,
        after: State,
        ready: Option<(i64, Wait)>,
        window_ends_ms: Option<i64>,
        now: Now,
    ) -> Self {
        let before = Assignment { window_ends_ms, ..assignment.clone() };
        let (give_up_ms, deadline_ms) = time_limits(&before, after.phase(), now);
        Self {
            from: assignment.state.phase(),
            had_started: assignment.started_at_ms.is_some(),
            after,
            ready_ms: ready.map(|(at, _)| at),
            wait: ready.map(|(_, wait)| wait),
            give_up_ms,
            window_ends_ms,
            deadline_ms,
        }
    }
}

/// Locks these assignments in the order of their numbers, as reports do, before a chunk of them is written in another
/// order: two transactions never wait for each other in a circle. SQLite has one writer and needs none.
pub(in crate::rollouts) fn lock(conn: &mut Conn, ids: &[i64]) -> Result<(), db::Error> {
    if let Conn::Postgres(c) = conn {
        for ids in ids.chunks(CHUNK) {
            let rows = assignments::table.filter(assignments::id.eq_any(ids)).order(assignments::id);
            rows.select(assignments::id).for_no_key_update().load::<i64>(c)?;
        }
    }
    Ok(())
}

/// As [`lock`], of terminals; whoever writes their assignments, too, locks those first.
pub(in crate::rollouts) fn lock_terminals(conn: &mut Conn, ids: &[i64]) -> Result<(), db::Error> {
    if let Conn::Postgres(c) = conn {
        for ids in ids.chunks(CHUNK) {
            let rows = terminals::table.filter(terminals::id.eq_any(ids)).order(terminals::id);
            rows.select(terminals::id).for_no_key_update().load::<i64>(c)?;
        }
    }
    Ok(())
}

/// Writes the same step for many assignments, a statement for each [`CHANGED`].
///
/// When one of them was stepped by somebody else in the meantime, the whole transaction is given up.
pub(in crate::rollouts) fn swap_all(conn: &mut Conn, bulk: &Bulk, ids: &[i64], now: Now) -> Result<(), db::Error> {
    let phase = bulk.after.phase();
    for ids in ids.chunks(CHANGED) {
        let rows = assignments::table
            .filter(assignments::id.eq_any(ids))
            .filter(assignments::phase.eq(bulk.from.as_str()))
            .filter(assignments::started_at_ms.is_not_null().eq(bulk.had_started));
        let written = diesel::update(rows)
            .set((
                assignments::phase.eq(phase.as_str()),
                assignments::reason.eq(bulk.after.reason()),
                assignments::detail.eq(None::<String>),
                assignments::live.eq(i64::from(!phase.is_final())),
                assignments::ready_ms.eq(bulk.ready_ms),
                assignments::wait.eq(bulk.wait.map(Wait::as_str)),
                assignments::give_up_ms.eq(bulk.give_up_ms),
                assignments::window_ends_ms.eq(bulk.window_ends_ms),
                assignments::phase_since_ms.eq(now.0),
                assignments::deadline_ms.eq(bulk.deadline_ms),
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
    pub rank: i64,
    pub is_hand_picked: bool,
    pub site: i64,
    pub cell: i64,
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
    rank: i64,
    hand_picked: i64,
    site: i64,
    cell: i64,
    attempts: i64,
    bytes_done: i64,
    bytes_total: i64,
    from_firmware: Option<String>,
    created_at_ms: i64,
    phase_since_ms: i64,
    deadline_ms: Option<i64>,
    version: i64,
}

/// Inserts waiting assignments, all stages closed; a terminal with a live one is refused by the index
/// `assignments_live`.
pub(in crate::rollouts) fn insert(
    conn: &mut Conn,
    rollout_id: i64,
    length_bytes: i64,
    admitted: Vec<Admitted>,
    now: Now,
) -> Result<(), db::Error> {
    let count = i64::try_from(admitted.len()).unwrap_or(i64::MAX);
    if count == 0 {
        return Ok(());
    }
    let mut ledger = Ledger::default();
    let first = next_ids(conn, Sequence::Assignments, count)?;
    let rows: Vec<NewAssignment> = (first..)
        .zip(admitted)
        .map(|(id, admitted)| {
            ledger.note_new(rollout_id, admitted.cell);
            NewAssignment {
                id,
                rollout_id,
                terminal_id: admitted.terminal_id,
                org_path: admitted.org_path,
                phase: Phase::Waiting.as_str(),
                live: 1,
                stage: CLOSED,
                rank: admitted.rank,
                hand_picked: i64::from(admitted.is_hand_picked),
                site: admitted.site,
                cell: admitted.cell,
                attempts: 0,
                bytes_done: 0,
                bytes_total: length_bytes,
                from_firmware: admitted.firmware,
                created_at_ms: now.0,
                phase_since_ms: now.0,
                deadline_ms: Phase::Waiting.time_limit_ms(0).map(|limit| now.0.saturating_add(limit)),
                version: 1,
            }
        })
        .collect();
    for rows in rows.chunks(CHANGED) {
        on_backend!(conn, |c| diesel::insert_into(assignments::table).values(rows).execute(c))?;
    }
    ledger.write(conn)
}

/// Opens the stage `stage` for these assignments, which wait for it: each may be offered from `ready_ms` on.
pub(in crate::rollouts) fn open(
    conn: &mut Conn,
    stage: i64,
    ids: &[i64],
    ready_ms: i64,
    wait: Option<Wait>,
) -> Result<(), db::Error> {
    let mut written = 0;
    for ids in ids.chunks(CHANGED) {
        let rows = assignments::table
            .filter(assignments::id.eq_any(ids))
            // So spelt the index `assignments_unopened` does not hold it: only the primary key is left.
            .filter(sql::<Bool>("assignments.phase || '' = 'waiting' AND (assignments.ready_ms + 0) IS NULL"));
        written += diesel::update(rows)
            .set((
                assignments::stage.eq(stage),
                assignments::ready_ms.eq(ready_ms),
                assignments::wait.eq(wait.map(Wait::as_str)),
                assignments::version.eq(assignments::version + 1),
            ))
            .execute(conn)?;
    }
    if written == ids.len() { Ok(()) } else { Err(raced()) }
}

/// Puts off these waiting assignments until `ready_ms`.
pub(in crate::rollouts) fn put_off(conn: &mut Conn, ids: &[i64], ready_ms: i64, wait: Wait) -> Result<(), db::Error> {
    let mut written = 0;
    for ids in ids.chunks(CHANGED) {
        let rows = assignments::table.filter(assignments::id.eq_any(ids)).filter(is_waiting());
        written += diesel::update(rows)
            .set((
                assignments::ready_ms.eq(ready_ms),
                assignments::wait.eq(wait.as_str()),
                assignments::version.eq(assignments::version + 1),
            ))
            .execute(conn)?;
    }
    if written == ids.len() { Ok(()) } else { Err(raced()) }
}
