//! SQL of operators.

use diesel::prelude::*;

use super::{Language, Operator, Role, Scope, Status};
use crate::db::schema::operators;
use crate::db::{self, Conn};

type Columns = (i64, i64, String, String, String, String, String, String, i64, i64);

const COLUMNS: (
    operators::id,
    operators::organization_id,
    operators::org_path,
    operators::login,
    operators::name,
    operators::role,
    operators::status,
    operators::language,
    operators::created_at_ms,
    operators::version,
) = (
    operators::id,
    operators::organization_id,
    operators::org_path,
    operators::login,
    operators::name,
    operators::role,
    operators::status,
    operators::language,
    operators::created_at_ms,
    operators::version,
);

/// None for a role that this program does not know: such an account can do nothing.
fn operator(row: Columns) -> Option<Operator> {
    let (id, organization_id, org_path, login, name, role, status, language, created_at_ms, version) = row;
    let role = Role::parse(&role)?;
    let (status, language) = (Status::parse(&status), Language::parse(&language));
    Some(Operator { id, organization_id, org_path, login, name, role, status, language, created_at_ms, version })
}

/// By primary key.
pub(super) fn get(conn: &mut Conn, scope: &Scope, id: i64) -> Result<Option<Operator>, db::Error> {
    let row = operators::table
        .find(id)
        .filter(operators::org_path.ge(scope.from()))
        .filter(operators::org_path.lt(scope.below()))
        .select(COLUMNS)
        .first::<Columns>(conn)
        .optional()?;
    Ok(row.and_then(operator))
}

/// By the unique index on `login`.
pub(super) fn find_by_login(conn: &mut Conn, scope: &Scope, login: &str) -> Result<Option<Operator>, db::Error> {
    let row = operators::table
        .filter(operators::login.eq(login))
        .filter(operators::org_path.ge(scope.from()))
        .filter(operators::org_path.lt(scope.below()))
        .select(COLUMNS)
        .first::<Columns>(conn)
        .optional()?;
    Ok(row.and_then(operator))
}

/// An account with its password's hash, by the unique index on `login`; a sign-in knows no scope yet.
pub(super) fn credentials(conn: &mut Conn, login: &str) -> Result<Option<(Operator, String)>, db::Error> {
    let row = operators::table
        .filter(operators::login.eq(login))
        .select((COLUMNS, operators::password_hash))
        .first::<(Columns, String)>(conn)
        .optional()?;
    Ok(row.and_then(|(columns, hash)| Some((operator(columns)?, hash))))
}

/// By primary key, in the scope's range.
pub(super) fn list(conn: &mut Conn, scope: &Scope, after: Option<i64>, limit: i64) -> Result<Vec<Operator>, db::Error> {
    let rows = operators::table
        .filter(operators::org_path.ge(scope.from()))
        .filter(operators::org_path.lt(scope.below()))
        .filter(operators::id.gt(after.unwrap_or(0)))
        .order(operators::id)
        .limit(limit)
        .select(COLUMNS)
        .load::<Columns>(conn)?;
    Ok(rows.into_iter().filter_map(operator).collect())
}

pub(super) fn count(conn: &mut Conn) -> Result<i64, db::Error> {
    Ok(operators::table.count().get_result(conn)?)
}

pub(super) fn insert(conn: &mut Conn, operator: &Operator, password_hash: &str) -> Result<(), db::Error> {
    diesel::insert_into(operators::table)
        .values((
            operators::id.eq(operator.id),
            operators::organization_id.eq(operator.organization_id),
            operators::org_path.eq(&operator.org_path),
            operators::login.eq(&operator.login),
            operators::name.eq(&operator.name),
            operators::password_hash.eq(password_hash),
            operators::role.eq(operator.role.as_str()),
            operators::status.eq(operator.status.as_str()),
            operators::language.eq(operator.language.as_str()),
            operators::created_at_ms.eq(operator.created_at_ms),
            operators::version.eq(operator.version),
        ))
        .execute(conn)?;
    Ok(())
}

/// Compare-and-set on `version`; returns whether the row was still the one that was read.
pub(super) fn replace(conn: &mut Conn, after: &Operator, version_before: i64) -> Result<bool, db::Error> {
    let row = operators::table.find(after.id).filter(operators::version.eq(version_before));
    let changed = diesel::update(row)
        .set((
            operators::name.eq(&after.name),
            operators::role.eq(after.role.as_str()),
            operators::status.eq(after.status.as_str()),
            operators::language.eq(after.language.as_str()),
            operators::version.eq(after.version),
        ))
        .execute(conn)?;
    Ok(changed == 1)
}

/// Compare-and-set on `version`.
pub(super) fn set_password(
    conn: &mut Conn,
    id: i64,
    version_before: i64,
    password_hash: &str,
) -> Result<bool, db::Error> {
    let row = operators::table.find(id).filter(operators::version.eq(version_before));
    let changed = diesel::update(row)
        .set((operators::password_hash.eq(password_hash), operators::version.eq(version_before + 1)))
        .execute(conn)?;
    Ok(changed == 1)
}
