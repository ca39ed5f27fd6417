//! SQL of imports.

use diesel::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Kind, Mapping, State};
use crate::clock::Now;
use crate::db::schema::{import_errors, import_jobs, import_mappings};
use crate::db::{self, Conn};
use crate::on_backend;
use crate::operators::Scope;

/// Jobs that are looked after in one transaction of the sweep.
const SWEPT_MAX: i64 = 100;

/// A row of `import_jobs`.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Insertable)]
#[diesel(table_name = import_jobs)]
pub(super) struct Job {
    pub id: String,
    pub organization_id: i64,
    pub org_path: String,
    pub kind: String,
    pub source: String,
    pub file_name: String,
    pub file_sha256: String,
    pub repeats: Option<String>,
    pub encoding: String,
    pub headings: String,
    pub mapping: String,
    pub dry_run: i64,
    pub state: String,
    pub has_file: i64,
    pub rows_total: i64,
    pub rows_done: i64,
    pub accepted: i64,
    pub changed: i64,
    pub duplicates: i64,
    pub refused: i64,
    pub card_cells: i64,
    pub problem: Option<String>,
    pub created_by: String,
    pub created_at_ms: i64,
    pub started_at_ms: Option<i64>,
    pub finished_at_ms: Option<i64>,
    pub lease_until_ms: i64,
    pub attempts: i64,
}

impl Job {
    /// What it is read by; only this program writes it, from the same type.
    pub(super) fn mapping(&self) -> Mapping {
        serde_json::from_str(&self.mapping).unwrap_or_default()
    }

    /// The file's headings.
    pub(super) fn headings(&self) -> Vec<String> {
        serde_json::from_str(&self.headings).unwrap_or_default()
    }
}

/// One refused row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RefusedRow {
    pub line: u64,
    pub field: String,
    pub problem: String,
    pub cells: Vec<String>,
}

/// The job is somebody else's now: the transaction is given up.
pub(super) fn given_up() -> db::Error {
    db::Error::Query(diesel::result::Error::RollbackTransaction)
}

/// Where a job's plain table lies.
pub(super) fn blob_key(id: &str) -> String {
    format!("imports/{id}")
}

pub(super) fn insert(conn: &mut Conn, job: &Job) -> Result<(), db::Error> {
    diesel::insert_into(import_jobs::table).values(job).execute(conn)?;
    Ok(())
}

/// By primary key, within the scope.
pub(super) fn find(conn: &mut Conn, scope: &Scope, id: &str) -> Result<Option<Job>, db::Error> {
    Ok(import_jobs::table
        .find(id)
        .filter(import_jobs::org_path.ge(scope.from()))
        .filter(import_jobs::org_path.lt(scope.below()))
        .first(conn)
        .optional()?)
}

/// Newest first. By `import_jobs_by_org`.
pub(super) fn list(
    conn: &mut Conn,
    scope: &Scope,
    kind: Option<Kind>,
    before: Option<&str>,
    limit: i64,
) -> Result<Vec<Job>, db::Error> {
    let mut query = import_jobs::table
        .filter(import_jobs::org_path.ge(scope.from()))
        .filter(import_jobs::org_path.lt(scope.below()))
        .into_boxed();
    if let Some(kind) = kind {
        query = query.filter(import_jobs::kind.eq(kind.as_str()));
    }
    if let Some(before) = before {
        query = query.filter(import_jobs::id.lt(before));
    }
    // Numbers grow with time.
    Ok(query.order(import_jobs::id.desc()).limit(limit).load(conn)?)
}

/// The newest earlier import of the same bytes from the same source that was not a mere try. By `import_jobs_by_file`.
pub(super) fn same_file(conn: &mut Conn, job: &Job) -> Result<Option<String>, db::Error> {
    Ok(import_jobs::table
        .filter(import_jobs::file_sha256.eq(&job.file_sha256))
        .filter(import_jobs::organization_id.eq(job.organization_id))
        .filter(import_jobs::kind.eq(&job.kind))
        .filter(import_jobs::source.eq(&job.source))
        .filter(import_jobs::dry_run.eq(0))
        .filter(import_jobs::rows_done.gt(0))
        .order(import_jobs::id.desc())
        .select(import_jobs::id)
        .first(conn)
        .optional()?)
}

/// Sets a held or tried job to be taken in; `false` when somebody was faster.
pub(super) fn restart(conn: &mut Conn, job: &Job, mapping: &Mapping, dry_run: bool) -> Result<bool, db::Error> {
    let row = import_jobs::table
        .find(&job.id)
        .filter(import_jobs::state.eq(&job.state))
        .filter(import_jobs::has_file.eq(1))
        .filter(import_jobs::dry_run.eq(job.dry_run));
    let changed = diesel::update(row)
        .set((
            import_jobs::mapping.eq(serde_json::to_string(mapping).unwrap_or_default()),
            import_jobs::dry_run.eq(i64::from(dry_run)),
            import_jobs::state.eq(State::Waiting.as_str()),
            import_jobs::rows_done.eq(0),
            import_jobs::accepted.eq(0),
            import_jobs::changed.eq(0),
            import_jobs::duplicates.eq(0),
            import_jobs::refused.eq(0),
            import_jobs::problem.eq(None::<String>),
            import_jobs::started_at_ms.eq(None::<i64>),
            import_jobs::finished_at_ms.eq(None::<i64>),
            import_jobs::lease_until_ms.eq(0),
            import_jobs::attempts.eq(0),
        ))
        .execute(conn)?;
    if changed == 1 {
        diesel::delete(import_errors::table.filter(import_errors::import_id.eq(&job.id))).execute(conn)?;
    }
    Ok(changed == 1)
}

/// Gives up a job that has not ended.
pub(super) fn cancel(conn: &mut Conn, id: &str, now: Now) -> Result<bool, db::Error> {
    let live = [State::Draft, State::Waiting, State::Running].map(State::as_str);
    let row = import_jobs::table.find(id).filter(import_jobs::state.eq_any(live));
    let changed = diesel::update(row)
        .set((import_jobs::state.eq(State::Cancelled.as_str()), import_jobs::finished_at_ms.eq(now.0)))
        .execute(conn)?;
    Ok(changed == 1)
}

/// Takes the oldest job that nobody works on, for `lease_ms`. By `import_jobs_by_state`.
pub(super) fn claim(conn: &mut Conn, now: Now, lease_ms: i64) -> Result<Option<Job>, db::Error> {
    let live = [State::Waiting, State::Running].map(State::as_str);
    let found: Option<(String, i64)> = import_jobs::table
        .filter(import_jobs::state.eq_any(live))
        .filter(import_jobs::lease_until_ms.le(now.0))
        .order(import_jobs::id)
        .select((import_jobs::id, import_jobs::lease_until_ms))
        .first(conn)
        .optional()?;
    let Some((id, lease_until_ms)) = found else { return Ok(None) };
    let row = import_jobs::table
        .find(&id)
        .filter(import_jobs::lease_until_ms.eq(lease_until_ms))
        .filter(import_jobs::state.eq_any(live));
    let taken = diesel::update(row)
        .set((
            import_jobs::state.eq(State::Running.as_str()),
            import_jobs::lease_until_ms.eq(now.0 + lease_ms),
            import_jobs::attempts.eq(import_jobs::attempts + 1),
        ))
        .execute(conn)?;
    if taken == 0 {
        return Ok(None);
    }
    let started = import_jobs::table.find(&id).filter(import_jobs::started_at_ms.is_null());
    diesel::update(started).set(import_jobs::started_at_ms.eq(now.0)).execute(conn)?;
    Ok(import_jobs::table.find(&id).first(conn).optional()?)
}

/// What a block added.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub rows: i64,
    pub accepted: i64,
    pub changed: i64,
    pub duplicates: i64,
    pub refused: i64,
}

/// Moves the cursor from `job`'s; `false` when the job was given up or somebody else moved it.
pub(super) fn advance(conn: &mut Conn, job: &Job, rows: i64, lease_until_ms: i64) -> Result<bool, db::Error> {
    let row = import_jobs::table
        .find(&job.id)
        .filter(import_jobs::rows_done.eq(job.rows_done))
        .filter(import_jobs::state.eq(State::Running.as_str()));
    let moved = diesel::update(row)
        .set((
            import_jobs::rows_done.eq(import_jobs::rows_done + rows),
            import_jobs::lease_until_ms.eq(lease_until_ms),
            import_jobs::attempts.eq(0),
        ))
        .execute(conn)?;
    Ok(moved == 1)
}

/// Adds what became of a block's rows.
pub(super) fn count(conn: &mut Conn, id: &str, counts: Counts) -> Result<(), db::Error> {
    diesel::update(import_jobs::table.find(id))
        .set((
            import_jobs::accepted.eq(import_jobs::accepted + counts.accepted),
            import_jobs::changed.eq(import_jobs::changed + counts.changed),
            import_jobs::duplicates.eq(import_jobs::duplicates + counts.duplicates),
            import_jobs::refused.eq(import_jobs::refused + counts.refused),
        ))
        .execute(conn)?;
    Ok(())
}

/// Ends a running job.
pub(super) fn end(
    conn: &mut Conn,
    id: &str,
    state: State,
    problem: Option<String>,
    now: Now,
) -> Result<Option<Job>, db::Error> {
    let row = import_jobs::table.find(id).filter(import_jobs::state.eq(State::Running.as_str()));
    let ended = diesel::update(row)
        .set((
            import_jobs::state.eq(state.as_str()),
            import_jobs::problem.eq(problem),
            import_jobs::finished_at_ms.eq(now.0),
            import_jobs::lease_until_ms.eq(0),
        ))
        .execute(conn)?;
    if ended == 0 {
        return Ok(None);
    }
    Ok(import_jobs::table.find(id).first(conn).optional()?)
}

/// Keeps a block's refused rows.
pub(super) fn insert_errors(conn: &mut Conn, id: &str, block: i64, rows: &[RefusedRow]) -> Result<(), db::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let values = (
        import_errors::import_id.eq(id),
        import_errors::block.eq(block),
        import_errors::refused.eq(serde_json::to_string(rows).unwrap_or_default()),
    );
    diesel::insert_into(import_errors::table).values(values).execute(conn)?;
    Ok(())
}

/// The first block of refused rows after `block`. By primary key.
pub(super) fn errors_after(conn: &mut Conn, id: &str, block: i64) -> Result<Option<(i64, Vec<RefusedRow>)>, db::Error> {
    let found: Option<(i64, String)> = import_errors::table
        .filter(import_errors::import_id.eq(id))
        .filter(import_errors::block.gt(block))
        .order(import_errors::block)
        .select((import_errors::block, import_errors::refused))
        .first(conn)
        .optional()?;
    Ok(found.map(|(block, rows)| (block, serde_json::from_str(&rows).unwrap_or_default())))
}

/// The mapping of a source. By primary key.
pub(super) fn mapping(
    conn: &mut Conn,
    organization_id: i64,
    kind: Kind,
    source: &str,
) -> Result<Option<Mapping>, db::Error> {
    let body: Option<String> = import_mappings::table
        .find((organization_id, kind.as_str(), source))
        .select(import_mappings::mapping)
        .first(conn)
        .optional()?;
    Ok(body.and_then(|body| serde_json::from_str(&body).ok()))
}

/// Keeps the mapping of a source.
pub(super) fn save_mapping(
    conn: &mut Conn,
    organization_id: i64,
    org_path: &str,
    kind: Kind,
    source: &str,
    mapping: &Mapping,
    now: Now,
) -> Result<(), db::Error> {
    let body = serde_json::to_string(mapping).unwrap_or_default();
    let row = (
        import_mappings::organization_id.eq(organization_id),
        import_mappings::kind.eq(kind.as_str()),
        import_mappings::source.eq(source),
        import_mappings::org_path.eq(org_path),
        import_mappings::mapping.eq(&body),
        import_mappings::updated_at_ms.eq(now.0),
    );
    let key = (import_mappings::organization_id, import_mappings::kind, import_mappings::source);
    on_backend!(conn, |c| diesel::insert_into(import_mappings::table)
        .values(row)
        .on_conflict(key)
        .do_update()
        .set((import_mappings::mapping.eq(&body), import_mappings::updated_at_ms.eq(now.0)))
        .execute(c))?;
    Ok(())
}

/// Jobs whose file is not needed any more, and drafts that nobody started since `before_ms`, which end by this.
pub(super) fn files_to_drop(conn: &mut Conn, before_ms: i64, now: Now) -> Result<Vec<String>, db::Error> {
    let stale = import_jobs::table
        .filter(import_jobs::state.eq(State::Draft.as_str()))
        .filter(import_jobs::created_at_ms.lt(before_ms));
    diesel::update(stale)
        .set((import_jobs::state.eq(State::Cancelled.as_str()), import_jobs::finished_at_ms.eq(now.0)))
        .execute(conn)?;
    let ended = [State::Done, State::Failed, State::Cancelled].map(State::as_str);
    let dropped = import_jobs::table
        .filter(import_jobs::has_file.eq(1))
        .filter(import_jobs::state.eq_any(ended))
        .filter(
            import_jobs::dry_run
                .eq(0)
                .or(import_jobs::finished_at_ms.lt(before_ms))
                .or(import_jobs::state.ne(State::Done.as_str())),
        )
        .order(import_jobs::id)
        .limit(SWEPT_MAX)
        .select(import_jobs::id);
    Ok(dropped.load(conn)?)
}

/// Notes that a job's file is gone.
pub(super) fn file_dropped(conn: &mut Conn, id: &str) -> Result<(), db::Error> {
    diesel::update(import_jobs::table.find(id)).set(import_jobs::has_file.eq(0)).execute(conn)?;
    Ok(())
}

/// Deletes jobs that ended before `before_ms`; returns how many went.
pub(super) fn delete_old(conn: &mut Conn, before_ms: i64) -> Result<usize, db::Error> {
    let old: Vec<String> = import_jobs::table
        .filter(import_jobs::finished_at_ms.lt(before_ms))
        .filter(import_jobs::has_file.eq(0))
        .order(import_jobs::id)
        .limit(SWEPT_MAX)
        .select(import_jobs::id)
        .load(conn)?;
    diesel::delete(import_errors::table.filter(import_errors::import_id.eq_any(&old))).execute(conn)?;
    Ok(diesel::delete(import_jobs::table.filter(import_jobs::id.eq_any(&old))).execute(conn)?)
}
