//! SQL of API keys.

use diesel::prelude::*;

use super::super::{Role, Scope};
use super::ApiKey;
use crate::clock::Now;
use crate::db::schema::api_keys;
use crate::db::{self, Conn};

type Columns = (i64, i64, String, i64, String, String, String, i64, i64, Option<i64>, Option<i64>);

const COLUMNS: (
    api_keys::id,
    api_keys::organization_id,
    api_keys::org_path,
    api_keys::created_by,
    api_keys::name,
    api_keys::role,
    api_keys::key_prefix,
    api_keys::created_at_ms,
    api_keys::expires_at_ms,
    api_keys::last_used_at_ms,
    api_keys::revoked_at_ms,
) = (
    api_keys::id,
    api_keys::organization_id,
    api_keys::org_path,
    api_keys::created_by,
    api_keys::name,
    api_keys::role,
    api_keys::key_prefix,
    api_keys::created_at_ms,
    api_keys::expires_at_ms,
    api_keys::last_used_at_ms,
    api_keys::revoked_at_ms,
);

/// None for a role that this program does not know: such a key can do nothing.
fn api_key(row: Columns) -> Option<ApiKey> {
    let (id, organization_id, org_path, created_by, name, role, prefix, created_at_ms, expires_at_ms, used, revoked) =
        row;
    Some(ApiKey {
        id,
        organization_id,
        name,
        role: Role::parse(&role)?,
        prefix,
        created_by,
        created_at_ms,
        expires_at_ms,
        last_used_at_ms: used,
        revoked_at_ms: revoked,
        org_path,
    })
}

/// By primary key.
pub(super) fn get(conn: &mut Conn, scope: &Scope, id: i64) -> Result<Option<ApiKey>, db::Error> {
    let row = api_keys::table
        .find(id)
        .filter(api_keys::org_path.ge(scope.from()))
        .filter(api_keys::org_path.lt(scope.below()))
        .select(COLUMNS)
        .first::<Columns>(conn)
        .optional()?;
    Ok(row.and_then(api_key))
}

/// A live key, by the unique index on `key_hash`.
pub(super) fn by_hash(conn: &mut Conn, hash: &str, now: Now) -> Result<Option<ApiKey>, db::Error> {
    let row = api_keys::table
        .filter(api_keys::key_hash.eq(hash))
        .filter(api_keys::revoked_at_ms.is_null())
        .filter(api_keys::expires_at_ms.gt(now.0))
        .select(COLUMNS)
        .first::<Columns>(conn)
        .optional()?;
    Ok(row.and_then(api_key))
}

/// By primary key, in the scope's range.
pub(super) fn list(conn: &mut Conn, scope: &Scope, after: Option<i64>, limit: i64) -> Result<Vec<ApiKey>, db::Error> {
    let rows = api_keys::table
        .filter(api_keys::org_path.ge(scope.from()))
        .filter(api_keys::org_path.lt(scope.below()))
        .filter(api_keys::id.gt(after.unwrap_or(0)))
        .order(api_keys::id)
        .limit(limit)
        .select(COLUMNS)
        .load::<Columns>(conn)?;
    Ok(rows.into_iter().filter_map(api_key).collect())
}

/// Live keys that an operator made. A walk of a small table: keys are few, this is rare.
pub(super) fn live_of(conn: &mut Conn, operator_id: i64, now: Now) -> Result<Vec<ApiKey>, db::Error> {
    let rows = api_keys::table
        .filter(api_keys::created_by.eq(operator_id))
        .filter(api_keys::revoked_at_ms.is_null())
        .filter(api_keys::expires_at_ms.gt(now.0))
        .select(COLUMNS)
        .load::<Columns>(conn)?;
    Ok(rows.into_iter().filter_map(api_key).collect())
}

/// Who made a key.
pub(super) fn created_by(conn: &mut Conn, id: i64) -> Result<Option<i64>, db::Error> {
    Ok(api_keys::table.find(id).select(api_keys::created_by).first(conn).optional()?)
}

pub(super) fn count_live(conn: &mut Conn, organization_id: i64, now: Now) -> Result<i64, db::Error> {
    let live = api_keys::table
        .filter(api_keys::organization_id.eq(organization_id))
        .filter(api_keys::revoked_at_ms.is_null())
        .filter(api_keys::expires_at_ms.gt(now.0));
    Ok(live.count().get_result(conn)?)
}

pub(super) fn insert(conn: &mut Conn, key: &ApiKey, hash: &str) -> Result<(), db::Error> {
    diesel::insert_into(api_keys::table)
        .values((
            api_keys::id.eq(key.id),
            api_keys::organization_id.eq(key.organization_id),
            api_keys::org_path.eq(&key.org_path),
            api_keys::created_by.eq(key.created_by),
            api_keys::name.eq(&key.name),
            api_keys::role.eq(key.role.as_str()),
            api_keys::key_hash.eq(hash),
            api_keys::key_prefix.eq(&key.prefix),
            api_keys::created_at_ms.eq(key.created_at_ms),
            api_keys::expires_at_ms.eq(key.expires_at_ms),
        ))
        .execute(conn)?;
    Ok(())
}

/// Returns whether it was live until now.
pub(super) fn end(conn: &mut Conn, id: i64, now: Now) -> Result<bool, db::Error> {
    let row = api_keys::table.find(id).filter(api_keys::revoked_at_ms.is_null());
    Ok(diesel::update(row).set(api_keys::revoked_at_ms.eq(now.0)).execute(conn)? == 1)
}

/// Notes a use unless another server noted one after `unless_after_ms`.
pub(super) fn note_use(conn: &mut Conn, id: i64, now: Now, unless_after_ms: i64) -> Result<(), db::Error> {
    let row = api_keys::table
        .find(id)
        .filter(api_keys::last_used_at_ms.is_null().or(api_keys::last_used_at_ms.le(unless_after_ms)));
    diesel::update(row).set(api_keys::last_used_at_ms.eq(now.0)).execute(conn)?;
    Ok(())
}
