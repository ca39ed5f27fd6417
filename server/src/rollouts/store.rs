//! Reading rollouts themselves; all else has its own file below.

pub(super) mod assignments;
pub(super) mod candidates;
pub(super) mod gate;
pub(super) mod journal;
pub(super) mod ledger;
pub(super) mod minutes;
mod named;
pub(super) mod pages;
mod steps;
mod writes;

use diesel::dsl::sql;
use diesel::expression::SqlLiteral;
use diesel::prelude::*;
use diesel::sql_types::Bool;

use named::releases_bringing;
pub(super) use named::{Release, announced, organization_path, profile_names, release, release_names};
pub(super) use writes::{Draft, hold, insert, note_target, swap};

use super::assignment::Phase;
use super::filter::Filter;
use super::state::State;
use super::strategy::Strategy;
use super::{ListFilter, Request};
use crate::clock::Now;
use crate::db::schema::{releases, rollout_counts, rollout_progress, rollouts};
use crate::db::{self, Conn};
use crate::operators::Scope;
use crate::profiles::LayerKey;

/// Rows that one statement of a pass reads or writes at most: some milliseconds, so that check-ins are never kept
/// waiting for long, and within SQLite's limit of bound parameters.
pub(super) const CHUNK: usize = 500;
/// Rows that one statement changes at most: PostgreSQL writes a changed row anew, and mostly an entry for each index of
/// its table, each in another page of a large fleet's.
pub(super) const CHANGED: usize = 200;
/// Rollouts that one pass looks at.
const ROLLOUTS_MAX: i64 = 1_000;
/// A cursor that has passed everything.
pub(super) const PASSED: i64 = i64::MAX;
/// PostgreSQL's advisory lock under which one planner writes at a time ("rollouts" in base 36, cut to 63 bits).
const LEADER_LOCK: i64 = 2_161_985_047_108;

/// Whether an assignment is live, and whether one waits, as the partial indexes say it: with a parameter in its place a
/// prepared statement is planned for every value, and may not use them.
pub(super) fn is_live() -> SqlLiteral<Bool> {
    sql("assignments.live = 1")
}

/// See [`is_live`].
pub(super) fn is_waiting() -> SqlLiteral<Bool> {
    sql("assignments.phase = 'waiting'")
}

/// Another writer was faster; the transaction is given up and the next pass looks anew.
pub(super) fn raced() -> db::Error {
    db::Error::Query(diesel::result::Error::RollbackTransaction)
}

/// Whether this transaction may do the planner's work. On SQLite the one writer thread is leader enough.
///
/// PostgreSQL learns only after a while how many rows were written, and until then takes a table that grows by millions
/// for a small one. Every statement of a pass has an index, so reading whole tables is forbidden to it; where two fit,
/// the statement leaves it only one (a column `+ 0` is none that an index holds).
pub(super) fn leads(conn: &mut Conn) -> Result<bool, db::Error> {
    match conn {
        Conn::Sqlite(_) => Ok(true),
        Conn::Postgres(c) => {
            let by_index = "set_config('enable_seqscan', 'off', true) IS NOT NULL";
            let ask = format!("pg_try_advisory_xact_lock({LEADER_LOCK}) AND {by_index}");
            Ok(diesel::select(sql::<Bool>(&ask)).get_result(c)?)
        }
    }
}

/// What a rollout brings to its terminals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Subject {
    /// A release, by its number.
    Release(i64),
    /// A version of a profile on a layer.
    Profile { id: i64, layer: LayerKey },
}

impl Subject {
    /// The release, if it is one.
    pub(super) fn release_id(&self) -> Option<i64> {
        match self {
            Self::Release(id) => Some(*id),
            Self::Profile { .. } => None,
        }
    }
}

/// A rollout as its steps need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    pub id: i64,
    pub organization_id: i64,
    pub org_path: String,
    pub name: String,
    pub subject: Subject,
    pub filter: Filter,
    pub strategy: Strategy,
    pub state: State,
    pub stage: i64,
    pub state_since_ms: i64,
    pub deadline_ms: Option<i64>,
    pub assignment_timeout_s: i64,
    pub retry_max: i64,
    pub retry_wait_s: i64,
    pub priority: i64,
    pub starts_at_ms: Option<i64>,
    pub ends_at_ms: Option<i64>,
    pub targeted: Option<i64>,
    pub target_digest: Option<String>,
    pub request: Option<Request>,
    pub parent_id: Option<i64>,
    pub created_by: i64,
    pub created_by_name: String,
    pub created_at_ms: i64,
    pub started_at_ms: Option<i64>,
    pub finished_at_ms: Option<i64>,
    pub version: i64,
    pub progress: Progress,
}

/// How far the planner got.
#[derive(Debug, Clone, PartialEq, Eq, Queryable)]
pub(super) struct Progress {
    pub admitted_up_to: i64,
    pub admitted: i64,
    pub scanned_at_ms: Option<i64>,
    pub opened: i64,
    pub stage_opened_ms: Option<i64>,
    pub stage_filled_ms: Option<i64>,
    pub swept_up_to: i64,
    pub swept_at_ms: Option<i64>,
    pub signalled_up_to: i64,
    /// Where taking back went on last; a hint and no promise, see `withdraw`.
    pub withdrawn_up_to: i64,
    /// No assignment of a smaller rank waits for its stage.
    pub opened_up_to: i64,
}

impl Progress {
    /// Of a new draft.
    fn fresh() -> Self {
        Self {
            admitted_up_to: 0,
            admitted: 0,
            scanned_at_ms: None,
            opened: 0,
            stage_opened_ms: None,
            stage_filled_ms: None,
            swept_up_to: 0,
            swept_at_ms: None,
            signalled_up_to: PASSED,
            withdrawn_up_to: 0,
            opened_up_to: 0,
        }
    }
}

#[derive(Debug, Queryable)]
struct Row {
    id: i64,
    organization_id: i64,
    org_path: String,
    name: String,
    release_id: Option<i64>,
    profile_id: Option<i64>,
    layer: Option<String>,
    filter: String,
    strategy: String,
    state: String,
    stage: i64,
    why: String,
    state_since_ms: i64,
    deadline_ms: Option<i64>,
    assignment_timeout_s: i64,
    retry_max: i64,
    retry_wait_s: i64,
    priority: i64,
    starts_at_ms: Option<i64>,
    ends_at_ms: Option<i64>,
    targeted: Option<i64>,
    target_digest: Option<String>,
    request: Option<String>,
    parent_id: Option<i64>,
    created_by: i64,
    created_by_name: String,
    created_at_ms: i64,
    started_at_ms: Option<i64>,
    finished_at_ms: Option<i64>,
    version: i64,
    progress: Progress,
}

macro_rules! columns {
    () => {
        (
            rollouts::id,
            rollouts::organization_id,
            rollouts::org_path,
            rollouts::name,
            rollouts::release_id,
            rollouts::profile_id,
            rollouts::layer,
            rollouts::filter,
            rollouts::strategy,
            rollouts::state,
            rollouts::stage,
            rollouts::why,
            rollouts::state_since_ms,
            rollouts::deadline_ms,
            rollouts::assignment_timeout_s,
            rollouts::retry_max,
            rollouts::retry_wait_s,
            rollouts::priority,
            rollouts::starts_at_ms,
            rollouts::ends_at_ms,
            rollouts::targeted,
            rollouts::target_digest,
            rollouts::request,
            rollouts::parent_id,
            rollouts::created_by,
            rollouts::created_by_name,
            rollouts::created_at_ms,
            rollouts::started_at_ms,
            rollouts::finished_at_ms,
            rollouts::version,
            (
                rollout_progress::admitted_up_to,
                rollout_progress::admitted,
                rollout_progress::scanned_at_ms,
                rollout_progress::opened,
                rollout_progress::stage_opened_ms,
                rollout_progress::stage_filled_ms,
                rollout_progress::swept_up_to,
                rollout_progress::swept_at_ms,
                rollout_progress::signalled_up_to,
                rollout_progress::withdrawn_up_to,
                rollout_progress::opened_up_to,
            ),
        )
    };
}

/// A rollout's row with its progress.
macro_rules! joined {
    () => {
        rollouts::table.inner_join(rollout_progress::table.on(rollout_progress::rollout_id.eq(rollouts::id)))
    };
}

/// A row that this program cannot read is left alone, and said: nothing of it is offered.
fn stored(row: Row) -> Option<Stored> {
    let read = readable(&row);
    let Some((state, filter, strategy, subject, request)) = read else {
        tracing::error!(rollout = row.id, state = row.state, stage = row.stage, "a rollout's row cannot be read");
        return None;
    };
    Some(Stored {
        id: row.id,
        organization_id: row.organization_id,
        org_path: row.org_path,
        name: row.name,
        subject,
        filter,
        strategy,
        state,
        stage: row.stage,
        state_since_ms: row.state_since_ms,
        deadline_ms: row.deadline_ms,
        assignment_timeout_s: row.assignment_timeout_s,
        retry_max: row.retry_max,
        retry_wait_s: row.retry_wait_s,
        priority: row.priority,
        starts_at_ms: row.starts_at_ms,
        ends_at_ms: row.ends_at_ms,
        targeted: row.targeted,
        target_digest: row.target_digest,
        request,
        parent_id: row.parent_id,
        created_by: row.created_by,
        created_by_name: row.created_by_name,
        created_at_ms: row.created_at_ms,
        started_at_ms: row.started_at_ms,
        finished_at_ms: row.finished_at_ms,
        version: row.version,
        progress: row.progress,
    })
}

type Readable = (State, Filter, Strategy, Subject, Option<Request>);

fn readable(row: &Row) -> Option<Readable> {
    let state = State::from_columns(&row.state, row.stage, &row.why)?;
    let filter = serde_json::from_str(&row.filter).ok()?;
    let strategy = serde_json::from_str(&row.strategy).ok()?;
    let request = match &row.request {
        Some(request) => Some(serde_json::from_str(request).ok()?),
        None => None,
    };
    let subject = match (row.release_id, row.profile_id, &row.layer) {
        (Some(id), None, None) => Subject::Release(id),
        (None, Some(id), Some(layer)) => Subject::Profile { id, layer: serde_json::from_str(layer).ok()? },
        _ => return None,
    };
    Some((state, filter, strategy, subject, request))
}

fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// By primary key, within the scope.
pub(super) fn get(conn: &mut Conn, scope: &Scope, id: i64) -> Result<Option<Stored>, db::Error> {
    let row = joined!()
        .filter(rollouts::id.eq(id))
        .filter(rollouts::org_path.ge(scope.from()))
        .filter(rollouts::org_path.lt(scope.below()))
        .select(columns!())
        .first::<Row>(conn)
        .optional()?;
    Ok(row.and_then(stored))
}

/// By primary key, for the planner, which works for every organization.
pub(super) fn get_any(conn: &mut Conn, id: i64) -> Result<Option<Stored>, db::Error> {
    let row = joined!().filter(rollouts::id.eq(id)).select(columns!()).first::<Row>(conn).optional()?;
    Ok(row.and_then(stored))
}

/// Newest first, before `before`, by primary key; the scope is checked on each row.
pub(super) fn list(
    conn: &mut Conn,
    scope: &Scope,
    filter: &ListFilter,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<Stored>, db::Error> {
    let states = if filter.states.is_empty() { State::NAMES.to_vec() } else { filter.states.clone() };
    let query = joined!()
        .filter(rollouts::org_path.ge(scope.from()))
        .filter(rollouts::org_path.lt(scope.below()))
        .filter(rollouts::state.eq_any(states))
        .filter(rollouts::id.lt(before.unwrap_or(i64::MAX)))
        .order(rollouts::id.desc())
        .limit(limit)
        .select(columns!());
    let rows = match &filter.software {
        None => query.load::<Row>(conn)?,
        Some(software) => {
            let releases = releases_bringing(conn, software)?;
            query.filter(rollouts::release_id.eq_any(releases)).load::<Row>(conn)?
        }
    };
    Ok(rows.into_iter().filter_map(stored).collect())
}

/// Rollouts past their time limit; the table is small.
pub(super) fn overdue(conn: &mut Conn, now: Now) -> Result<Vec<i64>, db::Error> {
    Ok(rollouts::table
        .filter(rollouts::deadline_ms.le(now.0))
        .order(rollouts::id)
        .limit(ROLLOUTS_MAX)
        .select(rollouts::id)
        .load(conn)?)
}

/// Running and paused rollouts whose release is not published any more, by the index `rollouts_by_state`.
pub(super) fn unpublished(conn: &mut Conn) -> Result<Vec<i64>, db::Error> {
    Ok(rollouts::table
        .inner_join(releases::table.on(rollouts::release_id.eq(releases::id.nullable())))
        .filter(rollouts::state.eq_any(["running", "paused"]))
        .filter(releases::state.ne("published"))
        .order(rollouts::id)
        .limit(ROLLOUTS_MAX)
        .select(rollouts::id)
        .load(conn)?)
}

/// Rollouts a pass may have work for, the highest priority first, then the oldest: those that run, and those that still have live assignments.
pub(super) fn at_work(conn: &mut Conn) -> Result<Vec<Stored>, db::Error> {
    let live: Vec<&str> = Phase::ALL.into_iter().filter(|phase| !phase.is_final()).map(Phase::as_str).collect();
    let mut ids: Vec<i64> = rollouts::table
        .filter(rollouts::state.eq("running"))
        .order(rollouts::id)
        .limit(ROLLOUTS_MAX)
        .select(rollouts::id)
        .load(conn)?;
    ids.extend(
        rollout_counts::table
            .filter(rollout_counts::phase.eq_any(live))
            .filter(rollout_counts::n.ne(0))
            .select(rollout_counts::rollout_id)
            .distinct()
            .order(rollout_counts::rollout_id)
            .limit(ROLLOUTS_MAX)
            .load::<i64>(conn)?,
    );
    ids.sort_unstable();
    ids.dedup();
    let rows = joined!()
        .filter(rollouts::id.eq_any(ids))
        .order((rollouts::priority.desc(), rollouts::id))
        .limit(ROLLOUTS_MAX)
        .select(columns!())
        .load::<Row>(conn)?;
    Ok(rows.into_iter().filter_map(stored).collect())
}

/// Assignments by phase, by primary key.
pub(super) fn counts(conn: &mut Conn, rollout_ids: &[i64]) -> Result<Vec<(i64, Phase, i64)>, db::Error> {
    let rows = rollout_counts::table
        .filter(rollout_counts::rollout_id.eq_any(rollout_ids))
        .select((rollout_counts::rollout_id, rollout_counts::phase, rollout_counts::n))
        .load::<(i64, String, i64)>(conn)?;
    Ok(rows.into_iter().filter_map(|(id, phase, n)| Some((id, Phase::parse(&phase)?, n))).collect())
}

/// Rollouts that are to come or on their way and announce dates, by the index `rollouts_by_state`.
pub(super) fn announcing(conn: &mut Conn) -> Result<Vec<Stored>, db::Error> {
    let rows = joined!()
        .filter(rollouts::state.eq_any(["awaiting_approval", "running", "paused", "halted"]))
        .order(rollouts::id.desc())
        .limit(ROLLOUTS_MAX)
        .select(columns!())
        .load::<Row>(conn)?;
    Ok(rows.into_iter().filter_map(stored).filter(|row| !row.strategy.announcements.is_empty()).collect())
}
