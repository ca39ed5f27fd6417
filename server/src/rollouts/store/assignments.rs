//! SQL of assignments. Every step goes through a [`Ledger`], which keeps what follows from it in the same transaction.

use std::collections::HashMap;

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Bool;

use super::ledger::{CLOSED, Ledger, has_started};
use super::{CHUNK, is_live, is_waiting, raced};
use crate::clock::Now;
use crate::db::schema::{assignments, releases, rollouts, terminal_states, terminals};
use crate::db::{self, Conn, Sequence, next_ids};
use crate::on_backend;
use crate::rollouts::assignment::{Phase, State};
use crate::rollouts::strategy::Wait;

/// An assignment with what its steps need of its rollout and release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::rollouts) struct Assignment {
    pub id: i64,
    pub rollout_id: i64,
    pub terminal_id: i64,
    pub state: State,
    pub stage: i64,
    pub cell: i64,
    pub site: i64,
    pub attempts: i64,
    pub ready_ms: Option<i64>,
    pub give_up_ms: Option<i64>,
    pub window_ends_ms: Option<i64>,
    pub started_at_ms: Option<i64>,
    pub bytes_done: i64,
    pub bytes_total: i64,
    pub phase_since_ms: i64,
    pub deadline_ms: Option<i64>,
    pub version: i64,
    /// The rollout's limit for an offer, ms.
    pub offer_ms: i64,
    /// Attempts after the first that the rollout grants, and the first pause, s.
    pub retry_max: i64,
    pub retry_wait_s: i64,
    pub target: Target,
}

impl Assignment {
    /// Whether its stage is open, or it went on without that.
    pub(in crate::rollouts) fn is_open(&self) -> bool {
        self.state != State::Waiting || self.ready_ms.is_some()
    }
}

/// What a terminal must show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::rollouts) enum Target {
    /// In its signed manifest.
    Release { component: String, version: String, sha256: String },
    /// In its check-in: the config hash that it is told to apply.
    Config,
}

type Columns = (
    (i64, i64, i64, String, Option<String>, i64, i64, i64),
    (i64, Option<i64>, Option<i64>, Option<i64>, Option<i64>),
    (i64, i64, i64, Option<i64>, i64),
    (i64, i64, i64),
    Option<(String, String, String)>,
);

fn assignment(row: Columns) -> Option<Assignment> {
    let (
        (id, rollout_id, terminal_id, phase, reason, stage, cell, site),
        (attempts, ready_ms, give_up_ms, window_ends_ms, started_at_ms),
        (bytes_done, bytes_total, phase_since_ms, deadline_ms, version),
        (timeout_s, retry_max, retry_wait_s),
        release,
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
        stage,
        cell,
        site,
        attempts,
        ready_ms,
        give_up_ms,
        window_ends_ms,
        started_at_ms,
        bytes_done,
        bytes_total,
        phase_since_ms,
        deadline_ms,
        version,
        offer_ms: timeout_s.saturating_mul(1000),
        retry_max,
        retry_wait_s,
        target: release.map_or(Target::Config, |(component, version, sha256)| Target::Release {
            component,
            version,
            sha256,
        }),
    })
}

macro_rules! joined {
    () => {
        assignments::table
            .inner_join(rollouts::table.on(rollouts::id.eq(assignments::rollout_id)))
            .left_join(releases::table.on(rollouts::release_id.eq(releases::id.nullable())))
            .select((
                (
                    assignments::id,
                    assignments::rollout_id,
                    assignments::terminal_id,
                    assignments::phase,
                    assignments::reason,
                    assignments::stage,
                    assignments::cell,
                    assignments::site,
                ),
                (
                    assignments::attempts,
                    assignments::ready_ms,
                    assignments::give_up_ms,
                    assignments::window_ends_ms,
                    assignments::started_at_ms,
                ),
                (
                    assignments::bytes_done,
                    assignments::bytes_total,
                    assignments::phase_since_ms,
                    assignments::deadline_ms,
                    assignments::version,
                ),
                (rollouts::assignment_timeout_s, rollouts::retry_max, rollouts::retry_wait_s),
                (releases::component, releases::firmware_version, releases::sha256).nullable(),
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
        let rows =
            joined!().filter(assignments::terminal_id.eq_any(terminals)).filter(is_live()).load::<Columns>(conn)?;
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

/// The next assignments of a rollout whose stage is not open yet, in the order of their rank, below `bound` if given; by
/// the index `assignments_unopened`.
pub(in crate::rollouts) fn unopened(
    conn: &mut Conn,
    rollout_id: i64,
    bound: Option<i64>,
    limit: usize,
) -> Result<Vec<Assignment>, db::Error> {
    let rows = joined!()
        .filter(assignments::rollout_id.eq(rollout_id))
        .filter(is_waiting())
        .filter(assignments::ready_ms.is_null())
        .filter(assignments::rank.lt(bound.unwrap_or(i64::MAX)))
        .order(assignments::rank)
        .limit(i64::try_from(limit).unwrap_or(i64::MAX))
        .load::<Columns>(conn)?;
    Ok(rows.into_iter().filter_map(assignment).collect())
}

/// The next assignments of a rollout that may be offered now, those ready longest first, by the index
/// `assignments_ready`.
pub(in crate::rollouts) fn ready(
    conn: &mut Conn,
    rollout_id: i64,
    now: Now,
    limit: usize,
) -> Result<Vec<Assignment>, db::Error> {
    let rows = joined!()
        .filter(assignments::rollout_id.eq(rollout_id))
        .filter(is_waiting())
        .filter(assignments::ready_ms.le(now.0))
        .order(assignments::ready_ms)
        .limit(i64::try_from(limit).unwrap_or(i64::MAX))
        .load::<Columns>(conn)?;
    Ok(rows.into_iter().filter_map(assignment).collect())
}

/// Whether something may be offered now, by the index `assignments_ready`.
pub(in crate::rollouts) fn is_ready(conn: &mut Conn, rollout_id: i64, now: Now) -> Result<bool, db::Error> {
    let first: Option<i64> = assignments::table
        .filter(assignments::rollout_id.eq(rollout_id))
        .filter(is_waiting())
        .filter(assignments::ready_ms.le(now.0))
        .select(assignments::id)
        .first(conn)
        .optional()?;
    Ok(first.is_some())
}

/// The next live assignments of a rollout that belong to these cells and have not begun to install, by the index
/// `assignments_in_cell`.
pub(in crate::rollouts) fn in_cells(
    conn: &mut Conn,
    rollout_id: i64,
    cells: &[i64],
    limit: usize,
) -> Result<Vec<Assignment>, db::Error> {
    let rows = joined!()
        .filter(assignments::rollout_id.eq(rollout_id))
        .filter(assignments::cell.eq_any(cells))
        .filter(is_live())
        .filter(assignments::phase.eq_any(["waiting", "offered", "downloading"]))
        .limit(i64::try_from(limit).unwrap_or(i64::MAX))
        .load::<Columns>(conn)?;
    Ok(rows.into_iter().filter_map(assignment).collect())
}

/// What the offer of these terminals depends on, by primary keys.
pub(in crate::rollouts) fn circumstances(
    conn: &mut Conn,
    terminal_ids: &[i64],
) -> Result<HashMap<i64, Circumstances>, db::Error> {
    type Columns = (i64, String, Option<i64>, Option<i64>, Option<i64>);
    let rows: Vec<Columns> = terminals::table
        .left_join(terminal_states::table.on(terminal_states::terminal_id.eq(terminals::id)))
        .filter(terminals::id.eq_any(terminal_ids))
        .select((
            terminals::id,
            terminals::org_path,
            terminals::utc_offset_min,
            terminal_states::last_seen_ms.nullable(),
            terminal_states::interval_s.nullable(),
        ))
        .load(conn)?;
    Ok(rows
        .into_iter()
        .map(|(id, org_path, utc_offset_min, last_seen_ms, interval_s)| {
            (id, Circumstances { org_path, utc_offset_min, last_seen_ms, interval_s })
        })
        .collect())
}

/// The config hashes that these terminals reported last, by primary key.
pub(in crate::rollouts) fn reported_configs(
    conn: &mut Conn,
    terminal_ids: &[i64],
) -> Result<HashMap<i64, String>, db::Error> {
    let rows = terminal_states::table
        .filter(terminal_states::terminal_id.eq_any(terminal_ids))
        .select((terminal_states::terminal_id, terminal_states::config_hash))
        .load::<(i64, Option<String>)>(conn)?;
    Ok(rows.into_iter().filter_map(|(id, hash)| Some((id, hash?))).collect())
}

/// Where a terminal is, and when it called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::rollouts) struct Circumstances {
    pub org_path: String,
    pub utc_offset_min: Option<i64>,
    pub last_seen_ms: Option<i64>,
    pub interval_s: Option<i64>,
}

/// How many of each of these sites are at an update now, of any rollout, by the index `assignments_at_site`.
pub(in crate::rollouts) fn at_sites(conn: &mut Conn, sites: &[i64]) -> Result<HashMap<i64, i64>, db::Error> {
    let rows = assignments::table
        .filter(assignments::site.eq_any(sites))
        .filter(sql::<Bool>("assignments.live = 1 AND assignments.site <> 0 AND assignments.phase <> 'waiting'"))
        .group_by(assignments::site)
        .select((assignments::site, diesel::dsl::count_star()))
        .load::<(i64, i64)>(conn)?;
    Ok(rows.into_iter().collect())
}

/// Opens the stage `stage` for these assignments, which wait for it: each may be offered from `ready_ms` on.
pub(in crate::rollouts) fn open(
    conn: &mut Conn,
    stage: i64,
    ids: &[i64],
    ready_ms: i64,
    wait: Option<Wait>,
) -> Result<(), db::Error> {
    let rows = assignments::table
        .filter(assignments::id.eq_any(ids))
        // So spelt the index `assignments_unopened` does not hold it: only the primary key is left.
        .filter(sql::<Bool>("assignments.phase || '' = 'waiting' AND (assignments.ready_ms + 0) IS NULL"));
    let written = diesel::update(rows)
        .set((
            assignments::stage.eq(stage),
            assignments::ready_ms.eq(ready_ms),
            assignments::wait.eq(wait.map(Wait::as_str)),
            assignments::version.eq(assignments::version + 1),
        ))
        .execute(conn)?;
    if written == ids.len() { Ok(()) } else { Err(raced()) }
}

/// Puts off these waiting assignments until `ready_ms`.
pub(in crate::rollouts) fn put_off(conn: &mut Conn, ids: &[i64], ready_ms: i64, wait: Wait) -> Result<(), db::Error> {
    let rows = assignments::table.filter(assignments::id.eq_any(ids)).filter(is_waiting());
    let written = diesel::update(rows)
        .set((
            assignments::ready_ms.eq(ready_ms),
            assignments::wait.eq(wait.as_str()),
            assignments::version.eq(assignments::version + 1),
        ))
        .execute(conn)?;
    if written == ids.len() { Ok(()) } else { Err(raced()) }
}

/// Live assignments whose time is over, by the index `assignments_due`.
pub(in crate::rollouts) fn due(conn: &mut Conn, now: Now, limit: usize) -> Result<Vec<Assignment>, db::Error> {
    let rows = joined!()
        .filter(is_live())
        .filter(assignments::deadline_ms.le(now.0))
        .order(assignments::deadline_ms)
        .limit(i64::try_from(limit).unwrap_or(i64::MAX))
        .load::<Columns>(conn)?;
    Ok(rows.into_iter().filter_map(assignment).collect())
}

/// The next assignments that write, boot or try the firmware, after `after`, in the order of their ids. Phase by phase:
/// over several at once the index `assignments_by_phase` would be read whole and sorted for each chunk.
pub(in crate::rollouts) fn in_flight(
    conn: &mut Conn,
    rollout_id: i64,
    after: i64,
    limit: usize,
) -> Result<Vec<(i64, i64)>, db::Error> {
    let mut found = Vec::new();
    for phase in [Phase::Installing, Phase::Rebooting, Phase::Trial] {
        let rows = assignments::table
            .filter(assignments::rollout_id.eq(rollout_id))
            .filter(assignments::phase.eq(phase.as_str()))
            .filter(assignments::id.gt(after))
            .order(assignments::id)
            .limit(i64::try_from(limit).unwrap_or(i64::MAX))
            .select((assignments::id, assignments::terminal_id));
        found.extend(rows.load::<(i64, i64)>(conn)?);
    }
    found.sort_unstable();
    found.truncate(limit);
    Ok(found)
}

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

/// Writes the same step for many assignments, as one statement.
///
/// When one of them was stepped by somebody else in the meantime, the whole transaction is given up.
pub(in crate::rollouts) fn swap_all(conn: &mut Conn, bulk: &Bulk, ids: &[i64], now: Now) -> Result<(), db::Error> {
    let phase = bulk.after.phase();
    for ids in ids.chunks(CHUNK) {
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
    for rows in rows.chunks(CHUNK) {
        on_backend!(conn, |c| diesel::insert_into(assignments::table).values(rows).execute(c))?;
    }
    ledger.write(conn)
}
