//! SQL of operators' sessions and failed sign-ins.

use diesel::prelude::*;

use super::super::{Caller, CallerKind, Role, Scope};
use super::{FAILURES_MAX, LOCK_MS};
use crate::clock::Now;
use crate::db::schema::{operator_sessions, operators, sign_in_failures};
use crate::db::{self, Conn};

type CallerColumns = (i64, String, String, i64, String, String, String, String);

const CALLER_COLUMNS: (
    operators::id,
    operators::login,
    operators::role,
    operators::organization_id,
    operators::org_path,
    operators::language,
    operator_sessions::id,
    operator_sessions::csrf_token,
) = (
    operators::id,
    operators::login,
    operators::role,
    operators::organization_id,
    operators::org_path,
    operators::language,
    operator_sessions::id,
    operator_sessions::csrf_token,
);

/// One read by primary key of the session and one of the operator.
pub(super) fn caller_of_id(conn: &mut Conn, session_id: &str, now: Now) -> Result<Option<Caller>, db::Error> {
    let row = operator_sessions::table
        .inner_join(operators::table.on(operators::id.eq(operator_sessions::operator_id)))
        .filter(operator_sessions::id.eq(session_id))
        .filter(operator_sessions::revoked_at_ms.is_null())
        .filter(operator_sessions::expires_at_ms.gt(now.0))
        .filter(operators::status.eq("active"))
        .select(CALLER_COLUMNS)
        .first::<CallerColumns>(conn)
        .optional()?;
    Ok(row.and_then(caller))
}

/// As [`caller_of_id`], by the unique index on `refresh_hash`.
pub(super) fn caller_of_refresh_hash(conn: &mut Conn, hash: &str, now: Now) -> Result<Option<Caller>, db::Error> {
    let row = operator_sessions::table
        .inner_join(operators::table.on(operators::id.eq(operator_sessions::operator_id)))
        .filter(operator_sessions::refresh_hash.eq(hash))
        .filter(operator_sessions::revoked_at_ms.is_null())
        .filter(operator_sessions::expires_at_ms.gt(now.0))
        .filter(operators::status.eq("active"))
        .select(CALLER_COLUMNS)
        .first::<CallerColumns>(conn)
        .optional()?;
    Ok(row.and_then(caller))
}

fn caller(row: CallerColumns) -> Option<Caller> {
    let (id, login, role, organization_id, org_path, language, session_id, csrf_token) = row;
    Some(Caller {
        kind: CallerKind::Operator,
        id,
        name: login,
        role: Role::parse(&role)?,
        organization_id,
        scope: Scope::subtree(org_path),
        language,
        session_id: Some(session_id),
        csrf_token,
    })
}

/// A row to insert.
pub(super) struct NewSession {
    pub(super) id: String,
    pub(super) operator_id: i64,
    pub(super) family_hash: String,
    pub(super) refresh_hash: String,
    pub(super) csrf_token: String,
    pub(super) user_agent: String,
    pub(super) created_at_ms: i64,
    pub(super) expires_at_ms: i64,
}

pub(super) fn insert(conn: &mut Conn, session: &NewSession) -> Result<(), db::Error> {
    diesel::insert_into(operator_sessions::table)
        .values((
            operator_sessions::id.eq(&session.id),
            operator_sessions::operator_id.eq(session.operator_id),
            operator_sessions::family_hash.eq(&session.family_hash),
            operator_sessions::refresh_hash.eq(&session.refresh_hash),
            operator_sessions::csrf_token.eq(&session.csrf_token),
            operator_sessions::user_agent.eq(&session.user_agent),
            operator_sessions::created_at_ms.eq(session.created_at_ms),
            operator_sessions::expires_at_ms.eq(session.expires_at_ms),
        ))
        .execute(conn)?;
    Ok(())
}

/// Removes an operator's ended sessions and all but the newest `keep`; by the index `operator_sessions_by_operator`.
pub(super) fn tidy(conn: &mut Conn, operator_id: i64, keep: i64, now: Now) -> Result<(), db::Error> {
    let ended = operator_sessions::table
        .filter(operator_sessions::operator_id.eq(operator_id))
        .filter(operator_sessions::expires_at_ms.le(now.0).or(operator_sessions::revoked_at_ms.is_not_null()));
    diesel::delete(ended).execute(conn)?;
    let kept: Vec<String> = operator_sessions::table
        .filter(operator_sessions::operator_id.eq(operator_id))
        .order((operator_sessions::created_at_ms.desc(), operator_sessions::id.desc()))
        .limit(keep)
        .select(operator_sessions::id)
        .load(conn)?;
    let beyond = operator_sessions::table
        .filter(operator_sessions::operator_id.eq(operator_id))
        .filter(operator_sessions::id.ne_all(kept));
    diesel::delete(beyond).execute(conn)?;
    Ok(())
}

/// A live session of a token family.
pub(super) struct Found {
    pub(super) id: String,
    pub(super) expires_at_ms: i64,
}

/// By the unique index on `family_hash`.
pub(super) fn by_family(conn: &mut Conn, family_hash: &str, now: Now) -> Result<Option<Found>, db::Error> {
    let row = operator_sessions::table
        .filter(operator_sessions::family_hash.eq(family_hash))
        .filter(operator_sessions::revoked_at_ms.is_null())
        .filter(operator_sessions::expires_at_ms.gt(now.0))
        .select((operator_sessions::id, operator_sessions::expires_at_ms))
        .first::<(String, i64)>(conn)
        .optional()?;
    Ok(row.map(|(id, expires_at_ms)| Found { id, expires_at_ms }))
}

/// Compare-and-set of the refresh token; returns whether the given one was the newest.
pub(super) fn rotate(conn: &mut Conn, id: &str, given_hash: &str, next_hash: &str) -> Result<bool, db::Error> {
    let row = operator_sessions::table.find(id).filter(operator_sessions::refresh_hash.eq(given_hash));
    Ok(diesel::update(row).set(operator_sessions::refresh_hash.eq(next_hash)).execute(conn)? == 1)
}

pub(super) fn end(conn: &mut Conn, id: &str, now: Now) -> Result<(), db::Error> {
    let row = operator_sessions::table.find(id).filter(operator_sessions::revoked_at_ms.is_null());
    diesel::update(row).set(operator_sessions::revoked_at_ms.eq(now.0)).execute(conn)?;
    Ok(())
}

/// By the index `operator_sessions_by_operator`.
pub(super) fn end_all(conn: &mut Conn, operator_id: i64, kept: &str, now: Now) -> Result<(), db::Error> {
    let rows = operator_sessions::table
        .filter(operator_sessions::operator_id.eq(operator_id))
        .filter(operator_sessions::id.ne(kept))
        .filter(operator_sessions::revoked_at_ms.is_null());
    diesel::update(rows).set(operator_sessions::revoked_at_ms.eq(now.0)).execute(conn)?;
    Ok(())
}

/// 0 when it is not locked. By primary key.
pub(super) fn locked_until_ms(conn: &mut Conn, login_hash: &str) -> Result<i64, db::Error> {
    let until =
        sign_in_failures::table.find(login_hash).select(sign_in_failures::locked_until_ms).first(conn).optional()?;
    Ok(until.unwrap_or(0))
}

/// Counts one failure and locks at the limit. Old rows go first, by the index `sign_in_failures_by_age`, so that the
/// table holds a quarter of an hour at most.
pub(super) fn note_failure(conn: &mut Conn, login_hash: &str, now: Now) -> Result<(), db::Error> {
    let old = sign_in_failures::table.filter(sign_in_failures::failed_at_ms.le(now.0 - LOCK_MS));
    diesel::delete(old).execute(conn)?;
    let row = sign_in_failures::table.find(login_hash);
    let counted = diesel::update(row)
        .set((sign_in_failures::failures.eq(sign_in_failures::failures + 1), sign_in_failures::failed_at_ms.eq(now.0)))
        .execute(conn)?;
    if counted == 0 {
        diesel::insert_into(sign_in_failures::table)
            .values((
                sign_in_failures::login_hash.eq(login_hash),
                sign_in_failures::failures.eq(1_i64),
                sign_in_failures::failed_at_ms.eq(now.0),
                sign_in_failures::locked_until_ms.eq(0_i64),
            ))
            .execute(conn)?;
    }
    diesel::update(row.filter(sign_in_failures::failures.ge(FAILURES_MAX)))
        .set(sign_in_failures::locked_until_ms.eq(now.0 + LOCK_MS))
        .execute(conn)?;
    Ok(())
}

pub(super) fn forget_failures(conn: &mut Conn, login_hash: &str) -> Result<(), db::Error> {
    diesel::delete(sign_in_failures::table.find(login_hash)).execute(conn)?;
    Ok(())
}
