//! SQL of activation codes and keys.

use std::collections::HashMap;

use diesel::prelude::*;

use crate::clock::Now;
use crate::db::schema::{activation_codes, terminal_manifests, terminal_states, terminals};
use crate::db::{self, Conn};
use crate::on_backend;
use crate::operators::Scope;
use crate::terminals::lifecycle::Lifecycle;

/// A terminal that is to get a code.
pub(super) struct Found {
    pub(super) sn: String,
    pub(super) lifecycle: Lifecycle,
}

/// One statement by primary key, within `scope`.
pub(super) fn terminals(conn: &mut Conn, scope: &Scope, ids: &[i64]) -> Result<HashMap<i64, Found>, db::Error> {
    let rows: Vec<(i64, String, String)> = terminals::table
        .filter(terminals::id.eq_any(ids))
        .filter(terminals::org_path.ge(scope.from()))
        .filter(terminals::org_path.lt(scope.below()))
        .select((terminals::id, terminals::sn, terminals::lifecycle))
        .load(conn)?;
    Ok(rows.into_iter().map(|(id, sn, state)| (id, Found { sn, lifecycle: lifecycle(&state) })).collect())
}

/// The table's own check lets no other name in.
fn lifecycle(name: &str) -> Lifecycle {
    Lifecycle::parse(name).unwrap_or(Lifecycle::Blocked)
}

/// Voids what was not used (by `activation_codes_by_terminal`) and stores the new codes.
pub(super) fn replace_codes(
    conn: &mut Conn,
    codes: &[(String, i64)],
    expires_at_ms: i64,
    now: Now,
) -> Result<(), db::Error> {
    let ids: Vec<i64> = codes.iter().map(|&(_, id)| id).collect();
    diesel::delete(
        activation_codes::table
            .filter(activation_codes::terminal_id.eq_any(ids))
            .filter(activation_codes::used_at_ms.is_null()),
    )
    .execute(conn)?;
    let rows: Vec<_> = codes
        .iter()
        .map(|(hash, id)| {
            (
                activation_codes::code_hash.eq(hash),
                activation_codes::terminal_id.eq(id),
                activation_codes::created_at_ms.eq(now.0),
                activation_codes::expires_at_ms.eq(expires_at_ms),
                activation_codes::used_at_ms.eq(None::<i64>),
                activation_codes::used_public_key.eq(None::<String>),
            )
        })
        .collect();
    on_backend!(conn, |c| diesel::insert_into(activation_codes::table).values(&rows).execute(c))?;
    Ok(())
}

/// A code with the terminal it is for.
#[derive(Debug, Clone)]
pub(super) struct Code {
    pub(super) terminal_id: i64,
    pub(super) org_path: String,
    pub(super) lifecycle: Lifecycle,
    pub(super) expires_at_ms: i64,
    pub(super) used_public_key: Option<String>,
    pub(super) public_key: Option<String>,
    pub(super) stream: i64,
    pub(super) reported_stream: i64,
    pub(super) version: i64,
}

type CodeColumns = (i64, String, String, i64, Option<String>, Option<String>, i64, Option<i64>, i64);

/// By primary keys of the code, its terminal and its state.
pub(super) fn code(conn: &mut Conn, hash: &str, sn: &str) -> Result<Option<Code>, db::Error> {
    let row: Option<CodeColumns> = activation_codes::table
        .inner_join(terminals::table.on(terminals::id.eq(activation_codes::terminal_id)))
        .left_join(terminal_states::table.on(terminal_states::terminal_id.eq(activation_codes::terminal_id)))
        .filter(activation_codes::code_hash.eq(hash))
        .filter(terminals::sn.eq(sn))
        .select((
            terminals::id,
            terminals::org_path,
            terminals::lifecycle,
            activation_codes::expires_at_ms,
            activation_codes::used_public_key,
            terminals::public_key,
            terminals::stream,
            terminal_states::stream.nullable(),
            terminals::version,
        ))
        .first(conn)
        .optional()?;
    Ok(row.map(
        |(terminal_id, org_path, state, expires_at_ms, used_public_key, public_key, stream, reported, version)| Code {
            terminal_id,
            org_path,
            lifecycle: lifecycle(&state),
            expires_at_ms,
            used_public_key,
            public_key,
            stream,
            reported_stream: reported.unwrap_or(0),
            version,
        },
    ))
}

/// Uses the code and sets the key, if neither was changed since `found` was read.
pub(super) fn redeem(
    conn: &mut Conn,
    hash: &str,
    found: &Code,
    public_key: &str,
    stream: i64,
    now: Now,
) -> Result<bool, db::Error> {
    let code = activation_codes::table
        .filter(activation_codes::code_hash.eq(hash))
        .filter(activation_codes::used_at_ms.is_null());
    let used = diesel::update(code)
        .set((activation_codes::used_at_ms.eq(now.0), activation_codes::used_public_key.eq(public_key)))
        .execute(conn)?;
    // It was signed with the old key, and a terminal that begins anew counts its manifests from one again. Before the
    // terminal's row, as check-ins write the two, so that neither waits for the other in a circle.
    diesel::delete(terminal_manifests::table.find(found.terminal_id)).execute(conn)?;
    let terminal =
        terminals::table.filter(terminals::id.eq(found.terminal_id)).filter(terminals::version.eq(found.version));
    let set = diesel::update(terminal)
        .set((
            terminals::public_key.eq(public_key),
            terminals::enrolled_at_ms.eq(now.0),
            terminals::stream.eq(stream),
            terminals::session_epoch.eq(terminals::session_epoch + 1),
            terminals::version.eq(found.version + 1),
        ))
        .execute(conn)?;
    Ok(used == 1 && set == 1)
}

/// What a session needs of a terminal that enrolled.
pub(super) struct Key {
    pub(super) public_key: String,
    pub(super) lifecycle: Lifecycle,
    pub(super) session_epoch: i64,
}

/// By primary key.
pub(super) fn key(conn: &mut Conn, id: i64) -> Result<Option<Key>, db::Error> {
    let row: Option<(Option<String>, String, i64)> = terminals::table
        .find(id)
        .select((terminals::public_key, terminals::lifecycle, terminals::session_epoch))
        .first(conn)
        .optional()?;
    Ok(row.and_then(|(public_key, state, session_epoch)| {
        Some(Key { public_key: public_key?, lifecycle: lifecycle(&state), session_epoch })
    }))
}
