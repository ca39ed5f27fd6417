//! Rollouts as people see them: lists, one rollout with its counts, its terminals, a terminal's timeline. Reads only.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Error;
use super::assignment::Phase;
use super::filter::Filter;
use super::store::{self, Stored};
use crate::db::{self, Conn};
use crate::operators::Scope;

/// Lines of a terminal's timeline.
pub const TIMELINE_MAX: i64 = 200;
/// Rollouts whose failures are still somebody's work.
const RECENT_ROLLOUTS_MAX: i64 = 50;
/// Terminals with a failed update that are named: more are not worked through by hand.
pub const UNSUCCESSFUL_MAX: i64 = 1_000;
/// Above this many open offers their deferrals are not counted by reason: the page would have to read them all.
const DEFERRALS_COUNTED_MAX: i64 = 50_000;

/// One rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Rollout {
    /// Its number.
    pub id: i64,
    /// Organization it belongs to.
    pub organization_id: i64,
    /// Name.
    pub name: String,
    /// The release.
    pub release_id: i64,
    /// The release's name.
    pub release_name: String,
    /// The release's version.
    pub release_version: String,
    /// Which terminals.
    pub filter: Filter,
    /// `draft`, `awaiting_approval`, `running`, `paused`, `halted`, `succeeded` or `cancelled`.
    pub state: String,
    /// Stage, from 0.
    pub stage: i64,
    /// Why it is paused, halted or cancelled; empty otherwise.
    pub why: String,
    /// Since when it is in this state, Unix ms.
    pub state_since_ms: i64,
    /// When this state's time limit passes, Unix ms; absent in final states.
    pub deadline_ms: Option<i64>,
    /// An offer's time limit, s.
    pub assignment_timeout_s: i64,
    /// Whether every terminal that the filter means has its assignment.
    pub is_admitted: bool,
    /// Assignments by phase.
    pub counts: BTreeMap<String, i64>,
    /// Who made it.
    pub created_by: String,
    /// When, Unix ms.
    pub created_at_ms: i64,
    /// When it was started first, Unix ms.
    pub started_at_ms: Option<i64>,
    /// When it ended, Unix ms.
    pub finished_at_ms: Option<i64>,
}

/// One rollout with the reasons of its failures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RolloutDetail {
    /// The rollout.
    #[serde(flatten)]
    pub rollout: Rollout,
    /// Why assignments failed, were rolled back, timed out or are put off, most frequent first.
    pub reasons: Vec<ReasonCount>,
}

/// How often a reason stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReasonCount {
    /// Phase of the assignments.
    pub phase: String,
    /// Reason.
    pub reason: String,
    /// Assignments.
    pub n: i64,
}

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
    /// Stage it belongs to.
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

/// Rollouts in the scope, newest first, before the number `before`; of one state if given.
///
/// # Errors
/// [`Error::Db`].
pub fn list(
    conn: &mut Conn,
    scope: &Scope,
    state: Option<&str>,
    before: Option<i64>,
    limit: u32,
) -> Result<Vec<Rollout>, Error> {
    let rows = store::list(conn, scope, state, before, i64::from(limit))?;
    shown(conn, rows)
}

/// One rollout with its counts and reasons.
///
/// # Errors
/// [`Error::NotFound`], also out of the scope.
pub fn get(conn: &mut Conn, scope: &Scope, id: i64) -> Result<RolloutDetail, Error> {
    let row = store::get(conn, scope, id)?.ok_or(Error::NotFound)?;
    let rollout = shown(conn, vec![row])?.pop().ok_or(Error::NotFound)?;
    let mut phases = vec![Phase::Failed, Phase::RolledBack, Phase::TimedOut];
    if rollout.counts.get(Phase::Offered.as_str()).is_some_and(|&n| n <= DEFERRALS_COUNTED_MAX) {
        phases.push(Phase::Offered);
    }
    let reasons = store::pages::reasons(conn, id, &phases)?;
    Ok(RolloutDetail { rollout, reasons })
}

fn shown(conn: &mut Conn, rows: Vec<Stored>) -> Result<Vec<Rollout>, Error> {
    let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    let mut counts: BTreeMap<i64, BTreeMap<String, i64>> = BTreeMap::new();
    for (id, phase, n) in store::counts(conn, &ids)? {
        counts.entry(id).or_default().insert(phase.as_str().to_owned(), n);
    }
    let release_ids: Vec<i64> = rows.iter().map(|row| row.release_id).collect();
    let names: BTreeMap<i64, (String, String)> = store::release_names(conn, &release_ids)?
        .into_iter()
        .map(|(id, name, version)| (id, (name, version)))
        .collect();
    Ok(rows
        .into_iter()
        .map(|row| {
            let (release_name, release_version) = names.get(&row.release_id).cloned().unwrap_or_default();
            Rollout {
                state: row.state.as_str().to_owned(),
                why: row.state.why().to_owned(),
                is_admitted: row.admitted_up_to == store::PASSED,
                counts: counts.remove(&row.id).unwrap_or_default(),
                id: row.id,
                organization_id: row.organization_id,
                name: row.name,
                release_id: row.release_id,
                release_name,
                release_version,
                filter: row.filter,
                stage: row.stage,
                state_since_ms: row.state_since_ms,
                deadline_ms: row.deadline_ms,
                assignment_timeout_s: row.assignment_timeout_s,
                created_by: row.created_by_name,
                created_at_ms: row.created_at_ms,
                started_at_ms: row.started_at_ms,
                finished_at_ms: row.finished_at_ms,
            }
        })
        .collect())
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
) -> Result<Vec<AssignmentRow>, Error> {
    store::get(conn, scope, id)?.ok_or(Error::NotFound)?;
    Ok(store::pages::assignments_of(conn, scope, id, phase, after.unwrap_or(0), i64::from(limit))?)
}

impl AssignmentRow {
    /// The key by which a list of one phase, or of all, is read on.
    pub fn key(&self, phase: Option<Phase>) -> i64 {
        if phase.is_some() { self.id } else { self.terminal_id }
    }
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
