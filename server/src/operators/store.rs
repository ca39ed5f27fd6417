//! SQL of operators, their sessions and API keys.

use diesel::prelude::*;

use super::{Caller, CallerKind, Role, Scope};
use crate::clock::Now;
use crate::db::schema::{api_keys, operator_sessions, operators};
use crate::db::{self, Conn};

type OperatorColumns = (i64, String, String, i64, String, String, String, String);

const OPERATOR_COLUMNS: (
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
pub(super) fn caller_of_session(conn: &mut Conn, session_id: &str, now: Now) -> Result<Option<Caller>, db::Error> {
    let row = operator_sessions::table
        .inner_join(operators::table.on(operators::id.eq(operator_sessions::operator_id)))
        .filter(operator_sessions::id.eq(session_id))
        .filter(operator_sessions::revoked_at_ms.is_null())
        .filter(operator_sessions::expires_at_ms.gt(now.0))
        .filter(operators::status.eq("active"))
        .select(OPERATOR_COLUMNS)
        .first::<OperatorColumns>(conn)
        .optional()?;
    Ok(row.and_then(operator_caller))
}

/// As [`caller_of_session`], by the unique index on `refresh_hash`.
pub(super) fn caller_of_refresh_hash(conn: &mut Conn, hash: &str, now: Now) -> Result<Option<Caller>, db::Error> {
    let row = operator_sessions::table
        .inner_join(operators::table.on(operators::id.eq(operator_sessions::operator_id)))
        .filter(operator_sessions::refresh_hash.eq(hash))
        .filter(operator_sessions::revoked_at_ms.is_null())
        .filter(operator_sessions::expires_at_ms.gt(now.0))
        .filter(operators::status.eq("active"))
        .select(OPERATOR_COLUMNS)
        .first::<OperatorColumns>(conn)
        .optional()?;
    Ok(row.and_then(operator_caller))
}

fn operator_caller(row: OperatorColumns) -> Option<Caller> {
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

/// By the unique index on `key_hash`.
pub(super) fn caller_of_key_hash(conn: &mut Conn, hash: &str, now: Now) -> Result<Option<Caller>, db::Error> {
    let row = api_keys::table
        .filter(api_keys::key_hash.eq(hash))
        .filter(api_keys::revoked_at_ms.is_null())
        .filter(api_keys::expires_at_ms.gt(now.0))
        .select((api_keys::id, api_keys::name, api_keys::role, api_keys::organization_id, api_keys::org_path))
        .first::<(i64, String, String, i64, String)>(conn)
        .optional()?;
    Ok(row.and_then(|(id, name, role, organization_id, org_path)| {
        Some(Caller {
            kind: CallerKind::ApiKey,
            id,
            name,
            role: Role::parse(&role)?,
            organization_id,
            scope: Scope::subtree(org_path),
            language: "en".to_owned(),
            session_id: None,
            csrf_token: String::new(),
        })
    }))
}
