//! SQL of rollouts themselves; assignments and candidates have their own files below.

pub(super) mod assignments;
pub(super) mod candidates;
pub(super) mod gate;
pub(super) mod journal;
pub(super) mod ledger;
pub(super) mod pages;

use diesel::dsl::sql;
use diesel::expression::SqlLiteral;
use diesel::prelude::*;
use diesel::sql_types::Bool;

use super::Request;
use super::assignment::Phase;
use super::filter::Filter;
use super::state::State;
use super::strategy::{Announcement, Strategy};
use crate::clock::Now;
use crate::db::schema::{
    organizations, profiles, release_models, releases, rollout_counts, rollout_progress, rollouts,
};
use crate::db::{self, Conn, Sequence, next_id};
use crate::operators::Scope;
use crate::profiles::LayerKey;

/// Rows that one statement of a pass reads or writes at most: some milliseconds, so that check-ins are never kept
/// waiting for long, and within SQLite's limit of bound parameters.
pub(super) const CHUNK: usize = 500;
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

/// A new draft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Draft {
    pub organization_id: i64,
    pub org_path: String,
    pub name: String,
    pub subject: Subject,
    pub filter: Filter,
    pub strategy: Strategy,
    pub assignment_timeout_s: i64,
    pub retry_max: i64,
    pub retry_wait_s: i64,
    pub priority: i64,
    pub starts_at_ms: Option<i64>,
    pub ends_at_ms: Option<i64>,
    pub parent_id: Option<i64>,
    pub created_by: i64,
    pub created_by_name: String,
}

/// Inserts a draft with all its counts at zero; returns its number.
pub(super) fn insert(conn: &mut Conn, draft: &Draft, now: Now) -> Result<i64, db::Error> {
    let id = next_id(conn, Sequence::Rollouts)?;
    let state = State::Draft;
    let (profile_id, layer) = match &draft.subject {
        Subject::Release(_) => (None, None),
        Subject::Profile { id, layer } => (Some(*id), Some(json(layer))),
    };
    diesel::insert_into(rollouts::table)
        .values((
            rollouts::id.eq(id),
            rollouts::organization_id.eq(draft.organization_id),
            rollouts::org_path.eq(&draft.org_path),
            rollouts::name.eq(&draft.name),
            (
                rollouts::release_id.eq(draft.subject.release_id()),
                rollouts::profile_id.eq(profile_id),
                rollouts::layer.eq(layer),
                rollouts::filter.eq(json(&draft.filter)),
                rollouts::strategy.eq(json(&draft.strategy)),
            ),
            rollouts::state.eq(state.as_str()),
            rollouts::stage.eq(0),
            rollouts::why.eq(state.why()),
            rollouts::state_since_ms.eq(now.0),
            rollouts::deadline_ms.eq(state.time_limit_ms().map(|limit| now.0.saturating_add(limit))),
            (
                rollouts::assignment_timeout_s.eq(draft.assignment_timeout_s),
                rollouts::retry_max.eq(draft.retry_max),
                rollouts::retry_wait_s.eq(draft.retry_wait_s),
                rollouts::priority.eq(draft.priority),
                rollouts::starts_at_ms.eq(draft.starts_at_ms),
                rollouts::ends_at_ms.eq(draft.ends_at_ms),
                rollouts::parent_id.eq(draft.parent_id),
            ),
            rollouts::created_by.eq(draft.created_by),
            rollouts::created_by_name.eq(&draft.created_by_name),
            rollouts::created_at_ms.eq(now.0),
            rollouts::version.eq(1),
        ))
        .execute(conn)?;
    let fresh = Progress::fresh();
    diesel::insert_into(rollout_progress::table)
        .values((
            rollout_progress::rollout_id.eq(id),
            rollout_progress::admitted_up_to.eq(fresh.admitted_up_to),
            rollout_progress::admitted.eq(fresh.admitted),
            rollout_progress::opened.eq(fresh.opened),
            rollout_progress::swept_up_to.eq(fresh.swept_up_to),
            rollout_progress::signalled_up_to.eq(fresh.signalled_up_to),
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
    state: Option<&str>,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<Stored>, db::Error> {
    let states: Vec<&str> = state.map_or(State::NAMES.to_vec(), |state| vec![state]);
    let rows = joined!()
        .filter(rollouts::org_path.ge(scope.from()))
        .filter(rollouts::org_path.lt(scope.below()))
        .filter(rollouts::state.eq_any(states))
        .filter(rollouts::id.lt(before.unwrap_or(i64::MAX)))
        .order(rollouts::id.desc())
        .limit(limit)
        .select(columns!())
        .load::<Row>(conn)?;
    Ok(rows.into_iter().filter_map(stored).collect())
}

/// Writes a step if nobody was faster; returns whether it was written. A request that waited is settled by it.
///
/// Every step makes the planner tell the terminals that already install: their director documents changed.
pub(super) fn swap(conn: &mut Conn, before: &Stored, after: &State, now: Now) -> Result<bool, db::Error> {
    let row = rollouts::table.find(before.id).filter(rollouts::version.eq(before.version));
    let started_at_ms = before.started_at_ms.or_else(|| after.offers().then_some(now.0));
    let request = match after {
        State::AwaitingApproval => before.request.as_ref().map(json),
        State::Draft
        | State::Running { .. }
        | State::Paused { .. }
        | State::Halted { .. }
        | State::Succeeded
        | State::Cancelled { .. } => None,
    };
    let written = diesel::update(row)
        .set((
            rollouts::state.eq(after.as_str()),
            rollouts::stage.eq(after.stage().map_or(before.stage, i64::from)),
            rollouts::why.eq(after.why()),
            rollouts::state_since_ms.eq(now.0),
            rollouts::deadline_ms.eq(after.time_limit_ms().map(|limit| now.0.saturating_add(limit))),
            rollouts::request.eq(request),
            rollouts::started_at_ms.eq(started_at_ms),
            rollouts::finished_at_ms.eq(after.is_final().then_some(now.0)),
            rollouts::version.eq(rollouts::version + 1),
        ))
        .execute(conn)?;
    if written != 1 {
        return Ok(false);
    }
    // Only what the step changes: the planner may have gone on with the rest since this rollout was read.
    let progress = rollout_progress::table.find(before.id);
    if before.state.offers() != after.offers() {
        diesel::update(progress).set(rollout_progress::signalled_up_to.eq(0)).execute(conn)?;
    }
    if after.stage().is_some() && (after.stage() != before.state.stage() || before.started_at_ms.is_none()) {
        let anew =
            (rollout_progress::stage_opened_ms.eq(Some(now.0)), rollout_progress::stage_filled_ms.eq(None::<i64>));
        diesel::update(progress).set(anew).execute(conn)?;
    }
    Ok(true)
}

/// Writes what a person saw and agreed to, or asks a second one for; returns whether nobody was faster.
pub(super) fn note_target(
    conn: &mut Conn,
    before: &Stored,
    target: Option<(i64, &str)>,
    request: Option<&Request>,
) -> Result<bool, db::Error> {
    let row = rollouts::table.find(before.id).filter(rollouts::version.eq(before.version));
    let (targeted, digest) = match target {
        Some((count, digest)) => (Some(count), Some(digest)),
        None => (before.targeted, before.target_digest.as_deref()),
    };
    let written = diesel::update(row)
        .set((
            rollouts::targeted.eq(targeted),
            rollouts::target_digest.eq(digest),
            rollouts::request.eq(request.map(json)),
            rollouts::version.eq(rollouts::version + 1),
        ))
        .execute(conn)?;
    Ok(written == 1)
}

/// Keeps everybody else from stepping this rollout until the transaction ends, and writes how far the planner got;
/// returns whether the rollout still is what it was when it was read.
pub(super) fn hold(conn: &mut Conn, rollout: &Stored, progress: &Progress) -> Result<bool, db::Error> {
    let row = rollouts::table.find(rollout.id).filter(rollouts::version.eq(rollout.version));
    let held = diesel::update(row).set(rollouts::version.eq(rollout.version)).execute(conn)?;
    if held == 1 && *progress != rollout.progress {
        write_progress(conn, rollout.id, progress)?;
    }
    Ok(held == 1)
}

fn write_progress(conn: &mut Conn, id: i64, progress: &Progress) -> Result<(), db::Error> {
    diesel::update(rollout_progress::table.find(id))
        .set((
            rollout_progress::admitted_up_to.eq(progress.admitted_up_to),
            rollout_progress::admitted.eq(progress.admitted),
            rollout_progress::scanned_at_ms.eq(progress.scanned_at_ms),
            rollout_progress::opened.eq(progress.opened),
            rollout_progress::stage_opened_ms.eq(progress.stage_opened_ms),
            rollout_progress::stage_filled_ms.eq(progress.stage_filled_ms),
            rollout_progress::swept_up_to.eq(progress.swept_up_to),
            rollout_progress::swept_at_ms.eq(progress.swept_at_ms),
            rollout_progress::signalled_up_to.eq(progress.signalled_up_to),
        ))
        .execute(conn)?;
    Ok(())
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

/// A release as rollouts read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Release {
    pub id: i64,
    pub org_path: String,
    pub name: String,
    pub component: String,
    pub firmware_version: String,
    pub length_bytes: i64,
    pub release_counter: i64,
    pub min_from_counter: Option<i64>,
    pub requires: String,
    pub state: String,
    pub models: Vec<String>,
}

/// By primary key; the models by the index `release_models_by_release`.
pub(super) fn release(conn: &mut Conn, id: i64) -> Result<Option<Release>, db::Error> {
    type Columns = (String, String, String, String, i64, i64, Option<i64>, String, String);
    let row: Option<Columns> = releases::table
        .find(id)
        .select((
            releases::org_path,
            releases::name,
            releases::component,
            releases::firmware_version,
            releases::length_bytes,
            releases::release_counter,
            releases::min_from_counter,
            releases::requires,
            releases::state,
        ))
        .first(conn)
        .optional()?;
    let Some((org_path, name, component, firmware_version, length_bytes, counter, least, requires, state)) = row else {
        return Ok(None);
    };
    let models = release_models::table
        .filter(release_models::release_id.eq(id))
        .order(release_models::model)
        .select(release_models::model)
        .load(conn)?;
    Ok(Some(Release {
        id,
        org_path,
        name,
        component,
        firmware_version,
        length_bytes,
        release_counter: counter,
        min_from_counter: least,
        requires,
        state,
        models,
    }))
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

/// The organizations of these announcements: path, date, number; unknown ones are left out.
pub(super) fn announced(conn: &mut Conn, announcements: &[Announcement]) -> Result<Vec<(String, i64, i64)>, db::Error> {
    if announcements.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<i64> = announcements.iter().map(|one| one.organization_id).collect();
    let paths: Vec<(i64, String)> = organizations::table
        .filter(organizations::id.eq_any(ids))
        .select((organizations::id, organizations::path))
        .load(conn)?;
    let date_of = |id: i64| announcements.iter().find(|one| one.organization_id == id).map(|one| one.not_before_ms);
    Ok(paths.into_iter().filter_map(|(id, path)| Some((path, date_of(id)?, id))).collect())
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

/// Name and version of profiles, for lists.
pub(super) fn profile_names(conn: &mut Conn, ids: &[i64]) -> Result<Vec<(i64, String, i64)>, db::Error> {
    let rows =
        profiles::table.filter(profiles::id.eq_any(ids)).select((profiles::id, profiles::name, profiles::version));
    Ok(rows.load(conn)?)
}
