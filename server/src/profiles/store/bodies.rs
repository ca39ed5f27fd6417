//! SQL of merged bodies: the canonical bytes of what terminals are told, by their hash.

use std::collections::BTreeMap;

use diesel::prelude::*;
use diesel::upsert::excluded;

use crate::clock::Now;
use crate::db::schema::{effective_configs, terminals};
use crate::db::{self, Conn};
use crate::on_backend;

/// Keeps bodies by their hashes. One that is there already is locked against [`forget`] until the transaction ends.
pub(in crate::profiles) fn keep(conn: &mut Conn, bodies: &BTreeMap<&str, &str>, now: Now) -> Result<(), db::Error> {
    for (&hash, &body) in bodies {
        let row = (
            effective_configs::hash.eq(hash),
            effective_configs::body.eq(body),
            effective_configs::used_at_ms.eq(now.0),
        );
        on_backend!(conn, |c| diesel::insert_into(effective_configs::table)
            .values(row)
            .on_conflict(effective_configs::hash)
            .do_update()
            .set(effective_configs::used_at_ms.eq(excluded(effective_configs::used_at_ms)))
            .execute(c))?;
    }
    Ok(())
}

/// By primary key.
pub(in crate::profiles) fn find(conn: &mut Conn, hash: &str) -> Result<Option<String>, db::Error> {
    Ok(effective_configs::table.find(hash).select(effective_configs::body).first(conn).optional()?)
}

macro_rules! is_unused {
    ($before_ms:expr) => {
        effective_configs::used_at_ms.lt($before_ms).and(diesel::dsl::not(diesel::dsl::exists(
            terminals::table.filter(terminals::desired_config_hash.eq(effective_configs::hash.nullable())),
        )))
    };
}

/// Hashes of bodies that no terminal is told and that nobody kept since `before_ms`, oldest first. By
/// `effective_configs_by_use` and `terminals_by_desired_config`.
pub(in crate::profiles) fn unused(conn: &mut Conn, before_ms: i64, limit: i64) -> Result<Vec<String>, db::Error> {
    Ok(effective_configs::table
        .filter(is_unused!(before_ms))
        .order(effective_configs::used_at_ms)
        .limit(limit)
        .select(effective_configs::hash)
        .load(conn)?)
}

/// Deletes those of these bodies that are still unused; returns how many.
pub(in crate::profiles) fn forget(conn: &mut Conn, hashes: &[String], before_ms: i64) -> Result<usize, db::Error> {
    let rows = effective_configs::table.filter(effective_configs::hash.eq_any(hashes)).filter(is_unused!(before_ms));
    Ok(diesel::delete(rows).execute(conn)?)
}
