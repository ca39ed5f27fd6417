//! What rollouts name: releases, profiles, organizations.

use diesel::prelude::*;

use crate::db::schema::{organizations, profiles, release_models, releases};
use crate::db::{self, Conn};
use crate::rollouts::strategy::Announcement;
use crate::rollouts::{Software, SoftwarePart};

/// A release as rollouts read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::rollouts) struct Release {
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

/// Releases of one version that are read.
const SAME_VERSION_MAX: i64 = 500;

/// Releases that bring a version, newest first, to the model where one is named. The table is small.
pub(in crate::rollouts) fn releases_bringing(conn: &mut Conn, software: &Software) -> Result<Vec<i64>, db::Error> {
    let is_app = software.part == SoftwarePart::App;
    let mut query = releases::table
        .inner_join(release_models::table.on(release_models::release_id.eq(releases::id)))
        .filter(releases::firmware_version.eq(&software.version))
        .filter(releases::component.eq("app").eq(is_app))
        .order(releases::id.desc())
        .limit(SAME_VERSION_MAX)
        .select(releases::id)
        .distinct()
        .into_boxed();
    if let Some(model) = &software.model {
        query = query.filter(release_models::model.eq(model));
    }
    Ok(query.load(conn)?)
}

/// By primary key; the models by the index `release_models_by_release`.
pub(in crate::rollouts) fn release(conn: &mut Conn, id: i64) -> Result<Option<Release>, db::Error> {
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
pub(in crate::rollouts) fn release_names(
    conn: &mut Conn,
    ids: &[i64],
) -> Result<Vec<(i64, String, String)>, db::Error> {
    let rows = releases::table.filter(releases::id.eq_any(ids)).select((
        releases::id,
        releases::name,
        releases::firmware_version,
    ));
    Ok(rows.load(conn)?)
}

/// Path of an organization, by primary key.
pub(in crate::rollouts) fn organization_path(conn: &mut Conn, id: i64) -> Result<Option<String>, db::Error> {
    Ok(organizations::table.find(id).select(organizations::path).first(conn).optional()?)
}

/// The organizations of these announcements: path, date, number; unknown ones are left out.
pub(in crate::rollouts) fn announced(
    conn: &mut Conn,
    announcements: &[Announcement],
) -> Result<Vec<(String, i64, i64)>, db::Error> {
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

/// Name and version of profiles, for lists.
pub(in crate::rollouts) fn profile_names(conn: &mut Conn, ids: &[i64]) -> Result<Vec<(i64, String, i64)>, db::Error> {
    let rows =
        profiles::table.filter(profiles::id.eq_any(ids)).select((profiles::id, profiles::name, profiles::version));
    Ok(rows.load(conn)?)
}
