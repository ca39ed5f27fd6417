//! SQL of releases.

use diesel::prelude::*;
use tillward_protocol::ids::{Sha256Hex, TargetName};

use super::{CheckedRelease, Filter, Release, ReleaseState};
use crate::clock::Now;
use crate::db::schema::{
    assignments, models, organizations, release_models, releases, rollouts, terminal_manifests, terminals,
};
use crate::db::{self, Conn};
use crate::operators::Scope;

#[derive(Queryable, Selectable)]
#[diesel(table_name = releases)]
struct Row {
    id: i64,
    organization_id: i64,
    org_path: String,
    name: String,
    component: String,
    firmware_version: String,
    release_counter: i64,
    models: String,
    min_from_counter: Option<i64>,
    requires: String,
    sha256: String,
    length_bytes: i64,
    notes: String,
    state: String,
    created_by: i64,
    created_by_name: String,
    approved_by: Option<i64>,
    created_at_ms: i64,
    published_at_ms: Option<i64>,
    version: i64,
}

/// A column that this program did not write.
fn damaged(column: &str, id: i64) -> db::Error {
    let message = format!("release {id}: column {column} is damaged");
    db::Error::Query(diesel::result::Error::DeserializationError(message.into()))
}

fn release(row: Row) -> Result<Release, db::Error> {
    let id = row.id;
    Ok(Release {
        id,
        organization_id: row.organization_id,
        org_path: row.org_path,
        name: row.name,
        component: row.component,
        firmware_version: row.firmware_version,
        release_counter: row.release_counter,
        models: serde_json::from_str(&row.models).map_err(|_| damaged("models", id))?,
        min_from_counter: row.min_from_counter,
        requires: serde_json::from_str(&row.requires).map_err(|_| damaged("requires", id))?,
        sha256: row.sha256,
        length_bytes: row.length_bytes,
        notes: row.notes,
        state: ReleaseState::parse(&row.state).ok_or_else(|| damaged("state", id))?,
        created_by: row.created_by,
        created_by_name: row.created_by_name,
        approved_by: row.approved_by,
        created_at_ms: row.created_at_ms,
        published_at_ms: row.published_at_ms,
        version: row.version,
    })
}

/// Who makes a release, and whose it is.
pub(super) struct Maker {
    pub(super) organization_id: i64,
    pub(super) org_path: String,
    pub(super) id: i64,
    pub(super) name: String,
}

/// First of `codes` that is no known model. By primary key.
pub(super) fn unknown_model(conn: &mut Conn, codes: &[String]) -> Result<Option<String>, db::Error> {
    let known: Vec<String> = models::table.filter(models::code.eq_any(codes)).select(models::code).load(conn)?;
    Ok(codes.iter().find(|code| !known.contains(code)).cloned())
}

/// Highest counter that any release of `component` has on one of `codes`. By primary key.
pub(super) fn highest_counter(
    conn: &mut Conn,
    codes: &[String],
    component: &str,
) -> Result<Option<(String, i64)>, db::Error> {
    let highest = release_models::table
        .filter(release_models::model.eq_any(codes))
        .filter(release_models::component.eq(component))
        .order(release_models::release_counter.desc())
        .select((release_models::model, release_models::release_counter))
        .first(conn);
    Ok(highest.optional()?)
}

/// Inserts a draft and its model rows.
pub(super) fn insert(
    conn: &mut Conn,
    id: i64,
    maker: &Maker,
    new: &CheckedRelease,
    length_bytes: i64,
    names: &[TargetName],
    now: Now,
) -> Result<(), db::Error> {
    let list = |value: serde_json::Result<String>| value.map_err(|_| damaged("models", id));
    diesel::insert_into(releases::table)
        .values((
            releases::id.eq(id),
            releases::organization_id.eq(maker.organization_id),
            releases::org_path.eq(&maker.org_path),
            releases::name.eq(&new.name),
            releases::component.eq(&new.component),
            releases::firmware_version.eq(new.firmware_version.as_str()),
            releases::release_counter.eq(new.release_counter),
            releases::models.eq(list(serde_json::to_string(&new.models))?),
            releases::min_from_counter.eq(new.min_from_counter),
            releases::requires.eq(list(serde_json::to_string(&new.requires))?),
            releases::sha256.eq(new.sha256.as_str()),
            releases::length_bytes.eq(length_bytes),
            releases::notes.eq(&new.notes),
            releases::state.eq(ReleaseState::Draft.as_str()),
            releases::created_by.eq(maker.id),
            releases::created_by_name.eq(&maker.name),
            releases::approved_by.eq(None::<i64>),
            releases::created_at_ms.eq(now.0),
            releases::published_at_ms.eq(None::<i64>),
            releases::version.eq(1_i64),
        ))
        .execute(conn)?;
    for (model, name) in new.models.iter().zip(names) {
        diesel::insert_into(release_models::table)
            .values((
                release_models::model.eq(model.as_str()),
                release_models::component.eq(&new.component),
                release_models::release_counter.eq(new.release_counter),
                release_models::release_id.eq(id),
                release_models::target_name.eq(name.as_str()),
            ))
            .execute(conn)?;
    }
    Ok(())
}

/// By primary key, within the scope.
pub(super) fn get(conn: &mut Conn, scope: &Scope, id: i64) -> Result<Option<Release>, db::Error> {
    let row = releases::table
        .find(id)
        .filter(releases::org_path.ge(scope.from()))
        .filter(releases::org_path.lt(scope.below()))
        .select(Row::as_select())
        .first(conn)
        .optional()?;
    row.map(release).transpose()
}

/// Newest first, by primary key or `releases_by_org`.
pub(super) fn list(
    conn: &mut Conn,
    scope: &Scope,
    filter: &Filter,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<Release>, db::Error> {
    let mut query = releases::table
        .filter(releases::org_path.ge(scope.from()))
        .filter(releases::org_path.lt(scope.below()))
        .filter(releases::id.lt(before.unwrap_or(i64::MAX)))
        .order(releases::id.desc())
        .limit(limit)
        .select(Row::as_select())
        .into_boxed();
    if let Some(state) = filter.state {
        query = query.filter(releases::state.eq(state.as_str()));
    }
    if let Some(component) = &filter.component {
        query = query.filter(releases::component.eq(component));
    }
    if let Some(model) = &filter.model {
        let of_model =
            release_models::table.filter(release_models::model.eq(model.as_str())).select(release_models::release_id);
        query = query.filter(releases::id.eq_any(of_model));
    }
    query.load(conn)?.into_iter().map(release).collect()
}

/// What a step changes.
pub(super) struct Change {
    pub(super) state: ReleaseState,
    pub(super) approved_by: Option<i64>,
    pub(super) published_at_ms: Option<i64>,
}

/// Compares the version and sets the state; answers whether it was still the same.
pub(super) fn set_state(conn: &mut Conn, before: &Release, change: &Change) -> Result<bool, db::Error> {
    let row = releases::table.find(before.id).filter(releases::version.eq(before.version));
    let changed = diesel::update(row)
        .set((
            releases::state.eq(change.state.as_str()),
            releases::approved_by.eq(change.approved_by),
            releases::published_at_ms.eq(change.published_at_ms),
            releases::version.eq(before.version + 1),
        ))
        .execute(conn)?;
    Ok(changed == 1)
}

/// Signed files of withdrawn releases, newest first. By `release_models_by_release`.
pub(super) fn withdrawn_files(conn: &mut Conn, limit: i64) -> Result<Vec<(TargetName, Sha256Hex)>, db::Error> {
    let rows: Vec<(String, String)> = release_models::table
        .inner_join(releases::table.on(releases::id.eq(release_models::release_id)))
        .filter(releases::state.eq(ReleaseState::Withdrawn.as_str()))
        .order(releases::id.desc())
        .limit(limit)
        .select((release_models::target_name, releases::sha256))
        .load(conn)?;
    Ok(rows.into_iter().filter_map(|(name, sha256)| Some((name.parse().ok()?, sha256.parse().ok()?))).collect())
}

/// The organization at the top of the tree.
pub(super) fn top_organization(conn: &mut Conn) -> Result<Option<(i64, String)>, db::Error> {
    let top = organizations::table
        .filter(organizations::parent_id.is_null())
        .order(organizations::id)
        .select((organizations::id, organizations::path))
        .first(conn);
    Ok(top.optional()?)
}

/// What the director says to one terminal, as rows.
pub(super) struct DesiredRow {
    pub(super) assignment_version: i64,
    pub(super) model: String,
    /// Number of the assignment and its release, if one is offered or under way.
    pub(super) order: Option<(i64, Release)>,
}

/// The terminal's live assignment, offered or further, of a running rollout of a published release. Two reads by primary
/// key and by `assignments_live`: the version first, so that no old order gets a new version.
///
/// Whoever changes what is read here raises `assignment_version`: that number stands for the whole answer. The rollouts
/// do, in the transaction of each step; after a rollout stops or its release is withdrawn their planner follows, in chunks.
pub(super) fn desired(conn: &mut Conn, terminal_id: i64, epoch: i64) -> Result<Option<DesiredRow>, db::Error> {
    let terminal: Option<(i64, String)> = terminals::table
        .find(terminal_id)
        .filter(terminals::session_epoch.eq(epoch))
        .select((terminals::assignment_version, terminals::model))
        .first(conn)
        .optional()?;
    let Some((assignment_version, model)) = terminal else { return Ok(None) };
    let order: Option<(i64, Row)> = assignments::table
        .inner_join(rollouts::table.on(rollouts::id.eq(assignments::rollout_id)))
        .inner_join(releases::table.on(rollouts::release_id.eq(releases::id.nullable())))
        .filter(assignments::terminal_id.eq(terminal_id))
        .filter(assignments::live.eq(1))
        .filter(assignments::phase.ne("waiting"))
        .filter(rollouts::state.eq("running"))
        .filter(releases::state.eq(ReleaseState::Published.as_str()))
        .select((assignments::id, Row::as_select()))
        .first(conn)
        .optional()?;
    let order = order.map(|(id, row)| release(row).map(|release| (id, release))).transpose()?;
    Ok(Some(DesiredRow { assignment_version, model, order }))
}

/// The terminal's newest signed manifest, JSON. By primary key.
pub(super) fn manifest(conn: &mut Conn, terminal_id: i64) -> Result<Option<String>, db::Error> {
    let row = terminal_manifests::table.find(terminal_id).select(terminal_manifests::body);
    Ok(row.first(conn).optional()?)
}
