//! SQL of rollouts themselves; assignments and candidates have their own files below.

pub(super) mod assignments;
pub(super) mod candidates;
pub(super) mod pages;

use diesel::prelude::*;

use super::assignment::Phase;
use super::filter::Filter;
use super::state::State;
use crate::clock::Now;
use crate::db::schema::{organizations, release_models, releases, rollout_counts, rollouts};
use crate::db::{self, Conn, Sequence, next_id};
use crate::operators::Scope;

/// Rows that one statement of a pass reads or writes at most: some milliseconds, so that check-ins are never kept
/// waiting for long, and within SQLite's limit of bound parameters.
pub(super) const CHUNK: usize = 500;
/// Rollouts that one pass looks at.
const ROLLOUTS_MAX: i64 = 1_000;
/// A cursor that has passed everything.
pub(super) const PASSED: i64 = i64::MAX;
/// PostgreSQL's advisory lock under which one planner writes at a time ("rollouts" in base 36, cut to 63 bits).
const LEADER_LOCK: i64 = 2_161_985_047_108;

/// Another writer was faster; the transaction is given up and the next pass looks anew.
pub(super) fn raced() -> db::Error {
    db::Error::Query(diesel::result::Error::RollbackTransaction)
}

/// Whether this transaction may do the planner's work. On SQLite the one writer thread is leader enough.
pub(super) fn leads(conn: &mut Conn) -> Result<bool, db::Error> {
    match conn {
        Conn::Sqlite(_) => Ok(true),
        Conn::Postgres(c) => {
            let ask = format!("pg_try_advisory_xact_lock({LEADER_LOCK})");
            Ok(diesel::select(diesel::dsl::sql::<diesel::sql_types::Bool>(&ask)).get_result(c)?)
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
    pub release_id: i64,
    pub filter: Filter,
    pub state: State,
    pub stage: i64,
    pub state_since_ms: i64,
    pub deadline_ms: Option<i64>,
    pub assignment_timeout_s: i64,
    pub admitted_up_to: i64,
    pub signalled_up_to: i64,
    pub created_by_name: String,
    pub created_at_ms: i64,
    pub started_at_ms: Option<i64>,
    pub finished_at_ms: Option<i64>,
    pub version: i64,
}

type Columns = (
    (i64, i64, String, String, i64, String, String, i64, String),
    (i64, Option<i64>, i64, i64, i64),
    (String, i64, Option<i64>, Option<i64>, i64),
);

macro_rules! columns {
    () => {
        (
            (
                rollouts::id,
                rollouts::organization_id,
                rollouts::org_path,
                rollouts::name,
                rollouts::release_id,
                rollouts::filter,
                rollouts::state,
                rollouts::stage,
                rollouts::why,
            ),
            (
                rollouts::state_since_ms,
                rollouts::deadline_ms,
                rollouts::assignment_timeout_s,
                rollouts::admitted_up_to,
                rollouts::signalled_up_to,
            ),
            (
                rollouts::created_by_name,
                rollouts::created_at_ms,
                rollouts::started_at_ms,
                rollouts::finished_at_ms,
                rollouts::version,
            ),
        )
    };
}

/// A row that this program cannot read is left alone, and said: nothing of it is offered.
fn stored(row: Columns) -> Option<Stored> {
    let (
        (id, organization_id, org_path, name, release_id, filter, state, stage, why),
        (state_since_ms, deadline_ms, assignment_timeout_s, admitted_up_to, signalled_up_to),
        (created_by_name, created_at_ms, started_at_ms, finished_at_ms, version),
    ) = row;
    let (Some(state), Ok(filter)) = (State::from_columns(&state, stage, &why), serde_json::from_str(&filter)) else {
        tracing::error!(rollout = id, %state, stage, "a rollout's row cannot be read");
        return None;
    };
    Some(Stored {
        id,
        organization_id,
        org_path,
        name,
        release_id,
        filter,
        state,
        stage,
        state_since_ms,
        deadline_ms,
        assignment_timeout_s,
        admitted_up_to,
        signalled_up_to,
        created_by_name,
        created_at_ms,
        started_at_ms,
        finished_at_ms,
        version,
    })
}

/// A new draft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Draft {
    pub organization_id: i64,
    pub org_path: String,
    pub name: String,
    pub release_id: i64,
    pub filter: Filter,
    pub assignment_timeout_s: i64,
    pub created_by: i64,
    pub created_by_name: String,
}

/// Inserts a draft with all its counts at zero; returns its number.
pub(super) fn insert(conn: &mut Conn, draft: &Draft, now: Now) -> Result<i64, db::Error> {
    let id = next_id(conn, Sequence::Rollouts)?;
    let state = State::Draft;
    diesel::insert_into(rollouts::table)
        .values((
            rollouts::id.eq(id),
            rollouts::organization_id.eq(draft.organization_id),
            rollouts::org_path.eq(&draft.org_path),
            rollouts::name.eq(&draft.name),
            rollouts::release_id.eq(draft.release_id),
            rollouts::filter.eq(serde_json::to_string(&draft.filter).unwrap_or_default()),
            rollouts::state.eq(state.as_str()),
            rollouts::stage.eq(0),
            rollouts::why.eq(state.why()),
            rollouts::state_since_ms.eq(now.0),
            rollouts::deadline_ms.eq(state.time_limit_ms().map(|limit| now.0.saturating_add(limit))),
            rollouts::assignment_timeout_s.eq(draft.assignment_timeout_s),
            rollouts::admitted_up_to.eq(0),
            rollouts::signalled_up_to.eq(PASSED),
            rollouts::created_by.eq(draft.created_by),
            rollouts::created_by_name.eq(&draft.created_by_name),
            rollouts::created_at_ms.eq(now.0),
            rollouts::version.eq(1),
        ))
        .execute(conn)?;
    for phase in Phase::ALL {
        diesel::insert_into(rollout_counts::table)
            .values((
                rollout_counts::rollout_id.eq(id),
                rollout_counts::phase.eq(phase.as_str()),
                rollout_counts::n.eq(0),
            ))
            .execute(conn)?;
    }
    Ok(id)
}

/// By primary key, within the scope.
pub(super) fn get(conn: &mut Conn, scope: &Scope, id: i64) -> Result<Option<Stored>, db::Error> {
    let row = rollouts::table
        .filter(rollouts::id.eq(id))
        .filter(rollouts::org_path.ge(scope.from()))
        .filter(rollouts::org_path.lt(scope.below()))
        .select(columns!())
        .first::<Columns>(conn)
        .optional()?;
    Ok(row.and_then(stored))
}

/// By primary key, for the planner, which works for every organization.
pub(super) fn get_any(conn: &mut Conn, id: i64) -> Result<Option<Stored>, db::Error> {
    Ok(rollouts::table.find(id).select(columns!()).first::<Columns>(conn).optional()?.and_then(stored))
}

/// Newest first, before `before`, by primary key; the scope is checked on each row.
pub(super) fn list(
    conn: &mut Conn,
    scope: &Scope,
    state: Option<&str>,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<Stored>, db::Error> {
    let states: Vec<&str> = state.map_or(State::NAMES.to_vec(), |state| vec![state]);
    let rows = rollouts::table
        .filter(rollouts::org_path.ge(scope.from()))
        .filter(rollouts::org_path.lt(scope.below()))
        .filter(rollouts::state.eq_any(states))
        .filter(rollouts::id.lt(before.unwrap_or(i64::MAX)))
        .order(rollouts::id.desc())
        .limit(limit)
        .select(columns!())
        .load::<Columns>(conn)?;
    Ok(rows.into_iter().filter_map(stored).collect())
}

/// Writes a step if nobody was faster; returns whether it was written.
///
/// Every step makes the planner tell the terminals that already install: their director documents changed.
pub(super) fn swap(conn: &mut Conn, before: &Stored, after: &State, now: Now) -> Result<bool, db::Error> {
    let row = rollouts::table.find(before.id).filter(rollouts::version.eq(before.version));
    let started_at_ms = before.started_at_ms.or_else(|| after.offers().then_some(now.0));
    let is_turned = before.state.offers() != after.offers();
    let written = diesel::update(row)
        .set((
            rollouts::state.eq(after.as_str()),
            rollouts::stage.eq(after.stage().map_or(before.stage, i64::from)),
            rollouts::why.eq(after.why()),
            rollouts::state_since_ms.eq(now.0),
            rollouts::deadline_ms.eq(after.time_limit_ms().map(|limit| now.0.saturating_add(limit))),
            rollouts::signalled_up_to.eq(if is_turned { 0 } else { before.signalled_up_to }),
            rollouts::started_at_ms.eq(started_at_ms),
            rollouts::finished_at_ms.eq(after.is_final().then_some(now.0)),
            rollouts::version.eq(rollouts::version + 1),
        ))
        .execute(conn)?;
    Ok(written == 1)
}

/// Keeps everybody else from stepping this rollout until the transaction ends, and moves its cursors; returns whether it
/// still is what it was when it was read.
pub(super) fn hold(
    conn: &mut Conn,
    rollout: &Stored,
    admitted_up_to: i64,
    signalled_up_to: i64,
) -> Result<bool, db::Error> {
    let row = rollouts::table.find(rollout.id).filter(rollouts::version.eq(rollout.version));
    let held = diesel::update(row)
        .set((rollouts::admitted_up_to.eq(admitted_up_to), rollouts::signalled_up_to.eq(signalled_up_to)))
        .execute(conn)?;
    Ok(held == 1)
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
        .inner_join(releases::table.on(releases::id.eq(rollouts::release_id)))
        .filter(rollouts::state.eq_any(["running", "paused"]))
        .filter(releases::state.ne("published"))
        .order(rollouts::id)
        .limit(ROLLOUTS_MAX)
        .select(rollouts::id)
        .load(conn)?)
}

/// Rollouts a pass may have work for, oldest first: those that run, and those that still have live assignments.
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
    let rows = rollouts::table
        .filter(rollouts::id.eq_any(ids))
        .order(rollouts::id)
        .limit(ROLLOUTS_MAX)
        .select(columns!())
        .load::<Columns>(conn)?;
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

/// A release as rollouts read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Release {
    pub id: i64,
    pub org_path: String,
    pub name: String,
    pub component: String,
    pub firmware_version: String,
    pub length_bytes: i64,
    pub state: String,
    pub models: Vec<String>,
}

/// By primary key; the models by the index `release_models_by_release`.
pub(super) fn release(conn: &mut Conn, id: i64) -> Result<Option<Release>, db::Error> {
    let row: Option<(String, String, String, String, i64, String)> = releases::table
        .find(id)
        .select((
            releases::org_path,
            releases::name,
            releases::component,
            releases::firmware_version,
            releases::length_bytes,
            releases::state,
        ))
        .first(conn)
        .optional()?;
    let Some((org_path, name, component, firmware_version, length_bytes, state)) = row else { return Ok(None) };
    let models = release_models::table
        .filter(release_models::release_id.eq(id))
        .order(release_models::model)
        .select(release_models::model)
        .load(conn)?;
    Ok(Some(Release { id, org_path, name, component, firmware_version, length_bytes, state, models }))
}

/// Name and version of releases, for lists.
pub(super) fn release_names(conn: &mut Conn, ids: &[i64]) -> Result<Vec<(i64, String, String)>, db::Error> {
    let rows = releases::table.filter(releases::id.eq_any(ids)).select((
        releases::id,
        releases::name,
        releases::firmware_version,
    ));
    Ok(rows.load(conn)?)
}

/// Path of an organization, by primary key.
pub(super) fn organization_path(conn: &mut Conn, id: i64) -> Result<Option<String>, db::Error> {
    Ok(organizations::table.find(id).select(organizations::path).first(conn).optional()?)
}
