//! SQL of bindings.

use std::collections::{HashMap, HashSet};

use diesel::prelude::*;

use super::Binding;
use crate::clock::Now;
use crate::db::schema::terminal_bindings;
use crate::db::{self, Conn, Sequence, next_ids};
use crate::on_backend;
use crate::operators::Scope;

/// Rows of one insert: below SQLite's 32,766 parameters.
const INSERTED_MAX: usize = 1_000;

#[derive(Queryable)]
struct Row {
    _id: i64,
    terminal_id: i64,
    merchant_no: String,
    merchant_name: Option<String>,
    terminal_no: Option<String>,
    store_name: Option<String>,
    from_ms: i64,
    to_ms: Option<i64>,
    actor: String,
    reason: String,
    org_path: String,
}

impl From<Row> for Binding {
    fn from(row: Row) -> Self {
        Self {
            terminal_id: row.terminal_id,
            merchant_no: row.merchant_no,
            merchant_name: row.merchant_name,
            terminal_no: row.terminal_no,
            store_name: row.store_name,
            from_ms: row.from_ms,
            to_ms: row.to_ms,
            actor: row.actor,
            reason: row.reason,
            org_path: row.org_path,
        }
    }
}

/// Open bindings by terminal. By `terminal_bindings_by_terminal`.
pub(super) fn open(conn: &mut Conn, ids: &[i64]) -> Result<HashMap<i64, Binding>, db::Error> {
    let rows: Vec<Row> = terminal_bindings::table
        .filter(terminal_bindings::terminal_id.eq_any(ids))
        .filter(terminal_bindings::to_ms.is_null())
        .load(conn)?;
    Ok(rows.into_iter().map(|row| (row.terminal_id, row.into())).collect())
}

/// By `terminal_bindings_by_merchant`.
pub(super) fn of_merchant(
    conn: &mut Conn,
    merchant_no: &str,
    from_ms: i64,
    limit: i64,
) -> Result<Vec<Binding>, db::Error> {
    let rows: Vec<Row> = terminal_bindings::table
        .filter(terminal_bindings::merchant_no.eq(merchant_no))
        .filter(terminal_bindings::to_ms.is_null().or(terminal_bindings::to_ms.gt(from_ms)))
        .order((terminal_bindings::terminal_id, terminal_bindings::from_ms))
        .limit(limit)
        .load(conn)?;
    Ok(rows.into_iter().map(Binding::from).collect())
}

/// Terminals after `after` that are or were bound to this number, in order. By `terminal_bindings_by_merchant`.
pub(super) fn terminals_of(conn: &mut Conn, merchant_no: &str, after: i64, limit: i64) -> Result<Vec<i64>, db::Error> {
    Ok(terminal_bindings::table
        .filter(terminal_bindings::merchant_no.eq(merchant_no))
        .filter(terminal_bindings::terminal_id.gt(after))
        .select(terminal_bindings::terminal_id)
        .distinct()
        .order(terminal_bindings::terminal_id)
        .limit(limit)
        .load(conn)?)
}

/// Which of these terminals have any binding.
pub(super) fn ever_bound(conn: &mut Conn, ids: &[i64]) -> Result<HashSet<i64>, db::Error> {
    let rows: Vec<i64> = terminal_bindings::table
        .filter(terminal_bindings::terminal_id.eq_any(ids))
        .select(terminal_bindings::terminal_id)
        .distinct()
        .load(conn)?;
    Ok(rows.into_iter().collect())
}

/// Ends the open bindings of these terminals.
pub(super) fn end(conn: &mut Conn, ids: &[i64], now: Now) -> Result<(), db::Error> {
    if ids.is_empty() {
        return Ok(());
    }
    let open = terminal_bindings::table
        .filter(terminal_bindings::terminal_id.eq_any(ids))
        .filter(terminal_bindings::to_ms.is_null());
    diesel::update(open).set(terminal_bindings::to_ms.eq(now.0)).execute(conn)?;
    Ok(())
}

/// New bindings.
pub(super) fn insert(conn: &mut Conn, new: &[Binding]) -> Result<(), db::Error> {
    if new.is_empty() {
        return Ok(());
    }
    let first = next_ids(conn, Sequence::TerminalBindings, i64::try_from(new.len()).unwrap_or(0))?;
    let row = |(id, binding): (i64, &Binding)| {
        (
            terminal_bindings::id.eq(id),
            terminal_bindings::terminal_id.eq(binding.terminal_id),
            terminal_bindings::merchant_no.eq(binding.merchant_no.clone()),
            terminal_bindings::merchant_name.eq(binding.merchant_name.clone()),
            terminal_bindings::terminal_no.eq(binding.terminal_no.clone()),
            terminal_bindings::store_name.eq(binding.store_name.clone()),
            terminal_bindings::from_ms.eq(binding.from_ms),
            terminal_bindings::to_ms.eq(binding.to_ms),
            terminal_bindings::actor.eq(binding.actor.clone()),
            terminal_bindings::reason.eq(binding.reason.clone()),
            terminal_bindings::org_path.eq(binding.org_path.clone()),
        )
    };
    let rows: Vec<_> = (first..).zip(new).map(row).collect();
    for rows in rows.chunks(INSERTED_MAX) {
        on_backend!(conn, |c| diesel::insert_into(terminal_bindings::table).values(rows.to_vec()).execute(c))?;
    }
    Ok(())
}

/// Oldest first. By `terminal_bindings_by_terminal`.
pub(super) fn of_terminals(conn: &mut Conn, ids: &[i64]) -> Result<Vec<Binding>, db::Error> {
    let rows: Vec<Row> = terminal_bindings::table
        .filter(terminal_bindings::terminal_id.eq_any(ids))
        .order((terminal_bindings::terminal_id, terminal_bindings::from_ms))
        .load(conn)?;
    Ok(rows.into_iter().map(Binding::from).collect())
}

/// Those of the scope, newest first. By `terminal_bindings_by_terminal`.
pub(super) fn list(conn: &mut Conn, scope: &Scope, terminal_id: i64, limit: i64) -> Result<Vec<Binding>, db::Error> {
    let rows: Vec<Row> = terminal_bindings::table
        .filter(terminal_bindings::terminal_id.eq(terminal_id))
        .filter(terminal_bindings::org_path.ge(scope.from()))
        .filter(terminal_bindings::org_path.lt(scope.below()))
        .order(terminal_bindings::from_ms.desc())
        .limit(limit)
        .load(conn)?;
    Ok(rows.into_iter().map(Binding::from).collect())
}

/// The binding without a known beginning begins at `from_ms`.
pub(super) fn begin_first_at(conn: &mut Conn, terminal_id: i64, from_ms: i64) -> Result<(), db::Error> {
    let first = terminal_bindings::table
        .filter(terminal_bindings::terminal_id.eq(terminal_id))
        .filter(terminal_bindings::from_ms.eq(0));
    diesel::update(first).set(terminal_bindings::from_ms.eq(from_ms)).execute(conn)?;
    Ok(())
}

/// Of these numbers, those that terminals are or were bound to, each with the organizations that had these terminals then.
/// By `terminal_bindings_by_merchant`.
pub(super) fn bound_numbers(conn: &mut Conn, numbers: &[String]) -> Result<Vec<(String, String)>, db::Error> {
    Ok(terminal_bindings::table
        .filter(terminal_bindings::merchant_no.eq_any(numbers))
        .select((terminal_bindings::merchant_no, terminal_bindings::org_path))
        .distinct()
        .load(conn)?)
}
