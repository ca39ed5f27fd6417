//! Rollouts as seen from terminals: who is in one and why it waits, a terminal's timeline, what failed last. Reads only.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Rollout, shown};
use crate::clock::Now;
use crate::db::{self, Conn};
use crate::operators::Scope;
use crate::rollouts::Error;
use crate::rollouts::assignment::Phase;
use crate::rollouts::store::{self, Stored};
use crate::rollouts::strategy::Wait;

/// Lines of a terminal's timeline.
pub const TIMELINE_MAX: i64 = 200;
/// Rollouts whose failures are still somebody's work.
const RECENT_ROLLOUTS_MAX: i64 = 50;
/// Terminals with a failed update that are named: more are not worked through by hand.
pub const UNSUCCESSFUL_MAX: usize = 1_000;

/// One terminal's part in a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AssignmentRow {
    /// Its number.
    pub id: i64,
    /// The terminal.
    pub terminal_id: i64,
    /// The terminal's serial number.
    pub sn: String,
    /// Phase.
    pub phase: String,
    /// Why it failed, was rolled back or is put off; the last phase of a timed-out one.
    pub reason: Option<String>,
    /// One sentence from the terminal.
    pub detail: Option<String>,
    /// Stage it belongs to, -1 while that is not open.
    pub stage: i64,
    /// Attempts that failed; what passes by itself burns none.
    pub attempts: i64,
    /// Payload bytes on the terminal.
    pub bytes_done: i64,
    /// Size of the payload, bytes.
    pub bytes_total: i64,
    /// Version it ran when it was admitted.
    pub from_firmware: Option<String>,
    /// Version it runs now.
    pub firmware: Option<String>,
    /// When it was admitted, Unix ms.
    pub created_at_ms: i64,
    /// Since when it is in this phase, Unix ms.
    pub phase_since_ms: i64,
    /// When this phase's time limit passes, Unix ms.
    pub deadline_ms: Option<i64>,
    /// When it ended, Unix ms.
    pub finished_at_ms: Option<i64>,
    /// Last check-in, Unix ms.
    pub last_seen_ms: Option<i64>,
    /// Next expected check-in, Unix ms.
    pub next_check_in_ms: Option<i64>,
    /// While it waits: when it may be offered at the earliest, Unix ms.
    pub ready_ms: Option<i64>,
    /// While it waits: what holds it.
    pub wait: Option<Wait>,
    /// When the terminal first accepted the order, Unix ms.
    pub started_at_ms: Option<i64>,
}

/// One line of a terminal's update timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TimelineEvent {
    /// When, Unix ms.
    pub at_ms: i64,
    /// Assignment.
    pub assignment: i64,
    /// Rollout.
    pub rollout_id: i64,
    /// The rollout's name.
    pub rollout: String,
    /// The release's version.
    pub release_version: String,
    /// Phase it came to.
    pub phase: String,
    /// Why.
    pub reason: Option<String>,
    /// One sentence from the terminal.
    pub detail: Option<String>,
    /// Version it ran then.
    pub firmware: Option<String>,
}

/// Assignments of a rollout: in one phase ordered by their number, in all phases by terminal; `after` is the last row's
/// [`AssignmentRow::key`].
///
/// # Errors
/// [`Error::NotFound`], also out of the scope.
pub fn assignments(
    conn: &mut Conn,
    scope: &Scope,
    id: i64,
    phase: Option<Phase>,
    after: Option<i64>,
    limit: u32,
    now: Now,
) -> Result<Vec<AssignmentRow>, Error> {
    let rollout = store::get(conn, scope, id)?.ok_or(Error::NotFound)?;
    let mut rows = store::pages::assignments_of(conn, scope, id, phase, after.unwrap_or(0), i64::from(limit))?;
    for row in rows.iter_mut().filter(|row| row.phase == Phase::Waiting.as_str()) {
        row.wait = Some(why_waiting(&rollout, row, now));
    }
    Ok(rows)
}

/// What holds a waiting terminal, the most general reason first.
fn why_waiting(rollout: &Stored, row: &AssignmentRow, now: Now) -> Wait {
    let last = i64::from(rollout.strategy.stage_count()) - 1;
    let is_held_back = rollout.strategy.hold_back_percent > 0 && rollout.stage + 1 == last;
    if !rollout.state.offers() {
        Wait::Stopped
    } else if rollout.starts_at_ms.is_some_and(|starts| starts > now.0) {
        Wait::Scheduled
    } else {
        match row.ready_ms {
            None if is_held_back => Wait::HoldBack,
            None => Wait::Stage,
            Some(ready_ms) if ready_ms > now.0 => row.wait.unwrap_or(Wait::Turn),
            Some(_) if rollout.strategy.in_flight_max.is_some() => Wait::Capacity,
            Some(_) => Wait::Turn,
        }
    }
}

impl AssignmentRow {
    /// The key by which a list of one phase, or of all, is read on.
    pub fn key(&self, phase: Option<Phase>) -> i64 {
        if phase.is_some() { self.id } else { self.terminal_id }
    }
}

/// The update that a terminal is in the middle of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveAssignment {
    /// The rollout.
    pub rollout: Rollout,
    /// The terminal's part in it.
    pub row: AssignmentRow,
}

/// The update that a terminal within the scope is in the middle of, also one of an organization above: by the unique
/// index on live assignments.
///
/// # Errors
/// [`Error::Db`].
pub fn live_assignment(
    conn: &mut Conn,
    scope: &Scope,
    terminal_id: i64,
    now: Now,
) -> Result<Option<LiveAssignment>, Error> {
    let Some(rollout_id) = store::pages::live_rollout(conn, terminal_id)? else { return Ok(None) };
    let Some(stored) = store::get_any(conn, rollout_id)? else { return Ok(None) };
    let rows = store::pages::assignments_of(conn, scope, rollout_id, None, terminal_id.saturating_sub(1), 1)?;
    let Some(mut row) = rows.into_iter().find(|row| row.terminal_id == terminal_id) else { return Ok(None) };
    if row.phase == Phase::Waiting.as_str() {
        row.wait = Some(why_waiting(&stored, &row, now));
    }
    let rollout = shown(conn, vec![stored])?.pop();
    Ok(rollout.map(|rollout| LiveAssignment { rollout, row }))
}

/// What stopping a part of a rollout alone would do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PartCounts {
    /// Assignments that it would cancel: not offered yet, offered, or downloading.
    pub open: i64,
    /// Terminals that are past that and go on: installing, rebooting or on trial.
    pub installing: i64,
}

/// What stopping this part alone would do now, from counters by cell.
///
/// # Errors
/// [`Error::NotFound`], also out of the scope.
pub fn part_counts(conn: &mut Conn, scope: &Scope, id: i64, attribute: &str, value: &str) -> Result<PartCounts, Error> {
    let rollout = store::get(conn, scope, id)?.ok_or(Error::NotFound)?;
    let cells: BTreeSet<i64> = store::gate::cells(conn, rollout.id)?
        .into_iter()
        .filter(|cell| cell.attributes.value(attribute) == Some(value))
        .map(|cell| cell.cell)
        .collect();
    let mut counts = PartCounts::default();
    for count in store::gate::counts(conn, rollout.id)?.iter().filter(|count| cells.contains(&count.cell)) {
        counts.open += count.waiting;
    }
    let under_way = [Phase::Offered, Phase::Downloading, Phase::Installing, Phase::Rebooting, Phase::Trial];
    for (phase, cell, n) in store::pages::count_by_cell(conn, rollout.id, &under_way)? {
        match Phase::parse(&phase) {
            Some(Phase::Offered | Phase::Downloading) if cells.contains(&cell) => counts.open += n,
            Some(_) if cells.contains(&cell) => counts.installing += n,
            _ => {}
        }
    }
    Ok(counts)
}

/// The last update that a terminal was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Rollout.
    pub rollout_id: i64,
    /// Version ordered.
    pub release_version: String,
    /// Phase it came to.
    pub phase: String,
    /// Why.
    pub reason: Option<String>,
    /// Whether it is still under way.
    pub is_live: bool,
}

/// The last update of each of `terminal_ids`, for one page of a list; two queries. The caller has checked the
/// terminals' scope.
///
/// # Errors
/// [`db::Error`].
pub fn tasks(conn: &mut Conn, terminal_ids: &[i64]) -> Result<BTreeMap<i64, Task>, db::Error> {
    store::pages::tasks(conn, terminal_ids)
}

/// Terminals within the scope whose last update ended badly, in the newest [`RECENT_ROLLOUTS_MAX`] rollouts; at most
/// [`UNSUCCESSFUL_MAX`].
///
/// # Errors
/// [`db::Error`].
pub fn unsuccessful_terminals(conn: &mut Conn, scope: &Scope) -> Result<Vec<i64>, db::Error> {
    store::pages::unsuccessful_terminals(conn, scope, RECENT_ROLLOUTS_MAX, UNSUCCESSFUL_MAX)
}

/// A terminal's update timeline, newest first, the last [`TIMELINE_MAX`] lines. The caller has checked the terminal's
/// scope.
///
/// # Errors
/// [`db::Error`].
pub fn timeline(conn: &mut Conn, terminal_id: i64) -> Result<Vec<TimelineEvent>, db::Error> {
    store::pages::timeline(conn, terminal_id, TIMELINE_MAX)
}

/// As [`timeline`], for a terminal within the scope.
///
/// # Errors
/// [`Error::NotFound`], also out of the scope.
pub fn timeline_in(conn: &mut Conn, scope: &Scope, terminal_id: i64) -> Result<Vec<TimelineEvent>, Error> {
    if !store::pages::has_terminal(conn, scope, terminal_id)? {
        return Err(Error::NotFound);
    }
    Ok(timeline(conn, terminal_id)?)
}
