//! SQL of organizations.

use diesel::prelude::*;

use super::{Organization, Status};
use crate::db::schema::organizations;
use crate::db::{self, Conn};
use crate::operators::Scope;

type Columns = (i64, Option<i64>, String, i64, String, String, Option<String>, String, i64, i64);

fn organization(row: Columns) -> Organization {
    let (id, parent_id, path, level, name, short_code, region, status, created_at_ms, version) = row;
    let status = Status::parse(&status);
    Organization { id, parent_id, path, level, name, short_code, region, status, created_at_ms, version }
}

/// By primary key.
pub(super) fn get(conn: &mut Conn, scope: &Scope, id: i64) -> Result<Option<Organization>, db::Error> {
    let row = organizations::table
        .find(id)
        .filter(organizations::path.ge(scope.from()))
        .filter(organizations::path.lt(scope.below()))
        .first::<Columns>(conn)
        .optional()?;
    Ok(row.map(organization))
}

/// By the unique index on `short_code`.
pub(super) fn find_by_short_code(
    conn: &mut Conn,
    scope: &Scope,
    code: &str,
) -> Result<Option<Organization>, db::Error> {
    let row = organizations::table
        .filter(organizations::short_code.eq(code))
        .filter(organizations::path.ge(scope.from()))
        .filter(organizations::path.lt(scope.below()))
        .first::<Columns>(conn)
        .optional()?;
    Ok(row.map(organization))
}

/// By the unique index on `path`.
pub(super) fn list(
    conn: &mut Conn,
    scope: &Scope,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<Organization>, db::Error> {
    let rows = organizations::table
        .filter(organizations::path.ge(scope.from()))
        .filter(organizations::path.lt(scope.below()))
        .filter(organizations::path.gt(after.unwrap_or("")))
        .order(organizations::path)
        .limit(limit)
        .load::<Columns>(conn)?;
    Ok(rows.into_iter().map(organization).collect())
}

/// By the index `organizations_by_parent`.
pub(super) fn headquarters(conn: &mut Conn) -> Result<Option<Organization>, db::Error> {
    let row = organizations::table
        .filter(organizations::parent_id.is_null())
        .order(organizations::id)
        .first::<Columns>(conn)
        .optional()?;
    Ok(row.map(organization))
}

/// By primary keys. A chain with an unknown member is not open either.
pub(super) fn none_suspended(conn: &mut Conn, chain: &[i64]) -> Result<bool, db::Error> {
    let active: i64 = organizations::table
        .filter(organizations::id.eq_any(chain))
        .filter(organizations::status.eq(Status::Active.as_str()))
        .count()
        .get_result(conn)?;
    Ok(!chain.is_empty() && usize::try_from(active) == Ok(chain.len()))
}

pub(super) fn count(conn: &mut Conn) -> Result<i64, db::Error> {
    Ok(organizations::table.count().get_result(conn)?)
}

pub(super) fn insert(conn: &mut Conn, organization: &Organization) -> Result<(), db::Error> {
    diesel::insert_into(organizations::table)
        .values((
            organizations::id.eq(organization.id),
            organizations::parent_id.eq(organization.parent_id),
            organizations::path.eq(&organization.path),
            organizations::level.eq(organization.level),
            organizations::name.eq(&organization.name),
            organizations::short_code.eq(&organization.short_code),
            organizations::region.eq(organization.region.as_deref()),
            organizations::status.eq(organization.status.as_str()),
            organizations::created_at_ms.eq(organization.created_at_ms),
            organizations::version.eq(organization.version),
        ))
        .execute(conn)?;
    Ok(())
}

/// Compare-and-set on `version`; returns whether the row was still the one that was read.
pub(super) fn replace(conn: &mut Conn, after: &Organization, version_before: i64) -> Result<bool, db::Error> {
    let row = organizations::table.find(after.id).filter(organizations::version.eq(version_before));
    let changed = diesel::update(row)
        .set((
            organizations::name.eq(&after.name),
            organizations::short_code.eq(&after.short_code),
            organizations::region.eq(after.region.as_deref()),
            organizations::status.eq(after.status.as_str()),
            organizations::version.eq(after.version),
        ))
        .execute(conn)?;
    Ok(changed == 1)
}
