//! SQL of profiles.

pub(super) mod bodies;
pub(super) mod drifts;
pub(super) mod layers;

use std::collections::HashMap;

use diesel::prelude::*;

use super::Profile;
use crate::db::schema::{profiles, terminals};
use crate::db::{self, Conn};
use crate::operators::Scope;
use crate::terminals::Lifecycle;

type Columns = (i64, i64, String, i64, String, String, String, i64);

const COLUMNS: (
    profiles::id,
    profiles::organization_id,
    profiles::name,
    profiles::version,
    profiles::hash,
    profiles::body,
    profiles::created_by,
    profiles::created_at_ms,
) = (
    profiles::id,
    profiles::organization_id,
    profiles::name,
    profiles::version,
    profiles::hash,
    profiles::body,
    profiles::created_by,
    profiles::created_at_ms,
);

fn profile((id, organization_id, name, version, hash, body, created_by, created_at_ms): Columns) -> Profile {
    // Only `insert` writes the body, from the same type.
    let parameters = serde_json::from_str(&body).unwrap_or_default();
    Profile { id, organization_id, name, version, hash, parameters, created_by, created_at_ms }
}

/// The newest version of a name. By `profiles_by_name`.
pub(super) fn newest(conn: &mut Conn, organization_id: i64, name: &str) -> Result<Option<Profile>, db::Error> {
    let row = profiles::table
        .filter(profiles::organization_id.eq(organization_id))
        .filter(profiles::name.eq(name))
        .order(profiles::version.desc())
        .select(COLUMNS)
        .first::<Columns>(conn)
        .optional()?;
    Ok(row.map(profile))
}

/// A version more. Two at once are told apart by the unique index on name and version.
pub(super) fn insert(conn: &mut Conn, profile: &Profile, org_path: &str, body: &str) -> Result<(), db::Error> {
    diesel::insert_into(profiles::table)
        .values((
            profiles::id.eq(profile.id),
            profiles::organization_id.eq(profile.organization_id),
            profiles::org_path.eq(org_path),
            profiles::name.eq(&profile.name),
            profiles::hash.eq(&profile.hash),
            profiles::body.eq(body),
            profiles::created_by.eq(&profile.created_by),
            profiles::created_at_ms.eq(profile.created_at_ms),
            profiles::version.eq(profile.version),
        ))
        .execute(conn)?;
    Ok(())
}

/// By primary key, within `scope`.
pub(super) fn find(conn: &mut Conn, scope: &Scope, id: i64) -> Result<Option<Profile>, db::Error> {
    let row = profiles::table
        .find(id)
        .filter(profiles::org_path.ge(scope.from()))
        .filter(profiles::org_path.lt(scope.below()))
        .select(COLUMNS)
        .first::<Columns>(conn)
        .optional()?;
    Ok(row.map(profile))
}

/// Profiles by number, whoever they belong to.
pub(super) fn by_ids(conn: &mut Conn, ids: &[i64]) -> Result<HashMap<i64, Profile>, db::Error> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = profiles::table.filter(profiles::id.eq_any(ids)).select(COLUMNS).load::<Columns>(conn)?;
    Ok(rows.into_iter().map(|row| (row.0, profile(row))).collect())
}

/// Newest first, by primary key; there are few profiles.
pub(super) fn list(conn: &mut Conn, scope: &Scope, before: i64, limit: i64) -> Result<Vec<Profile>, db::Error> {
    let rows = profiles::table
        .filter(profiles::org_path.ge(scope.from()))
        .filter(profiles::org_path.lt(scope.below()))
        .filter(profiles::id.lt(before))
        .order(profiles::id.desc())
        .limit(limit)
        .select(COLUMNS)
        .load::<Columns>(conn)?;
    Ok(rows.into_iter().map(profile).collect())
}

/// States in which a terminal gets no profile of its own.
const WITHOUT_PROFILE: [Lifecycle; 3] = [Lifecycle::Lost, Lifecycle::Retired, Lifecycle::Blocked];

/// Those of these terminals, within `scope`, that may be assigned a profile. By primary key.
pub(super) fn assignable(conn: &mut Conn, scope: &Scope, ids: &[i64]) -> Result<Vec<i64>, db::Error> {
    Ok(terminals::table
        .filter(terminals::id.eq_any(ids))
        .filter(terminals::org_path.ge(scope.from()))
        .filter(terminals::org_path.lt(scope.below()))
        .filter(terminals::lifecycle.ne_all(WITHOUT_PROFILE.map(Lifecycle::as_str)))
        .order(terminals::id)
        .select(terminals::id)
        .load(conn)?)
}

/// A terminal's session epoch and desired hash, by primary key.
pub(super) fn desired(conn: &mut Conn, terminal_id: i64) -> Result<Option<(i64, Option<String>)>, db::Error> {
    Ok(terminals::table
        .find(terminal_id)
        .select((terminals::session_epoch, terminals::desired_config_hash))
        .first(conn)
        .optional()?)
}
