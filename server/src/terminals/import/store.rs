//! SQL of imports.

use std::collections::HashMap;

use diesel::prelude::*;

use crate::clock::Now;
use crate::db::schema::{terminal_import_errors, terminal_imports, terminal_states, terminal_tags, terminals};
use crate::db::{self, Conn};
use crate::on_backend;
use crate::operators::Scope;
use crate::organizations::Organization;
use crate::terminals::store::{NewState, Record};

/// Imports that are kept for one organization, with their refused rows.
const KEPT_MAX: i64 = 20;

/// One import.
pub(super) struct Import {
    pub(super) id: String,
    pub(super) file_sha256: String,
    pub(super) dry_run: bool,
    pub(super) created_by: String,
}

/// Notes that an import begins and drops the organization's oldest.
pub(super) fn begin(conn: &mut Conn, import: &Import, owner: &Organization, now: Now) -> Result<(), db::Error> {
    let old: Vec<String> = terminal_imports::table
        .filter(terminal_imports::org_path.eq(&owner.path))
        .order(terminal_imports::created_at_ms.desc())
        .offset(KEPT_MAX - 1)
        .limit(KEPT_MAX)
        .select(terminal_imports::id)
        .load(conn)?;
    diesel::delete(terminal_import_errors::table.filter(terminal_import_errors::import_id.eq_any(&old)))
        .execute(conn)?;
    diesel::delete(terminal_imports::table.filter(terminal_imports::id.eq_any(&old))).execute(conn)?;
    diesel::insert_into(terminal_imports::table)
        .values((
            terminal_imports::id.eq(&import.id),
            terminal_imports::organization_id.eq(owner.id),
            terminal_imports::org_path.eq(&owner.path),
            terminal_imports::file_sha256.eq(&import.file_sha256),
            terminal_imports::dry_run.eq(i64::from(import.dry_run)),
            terminal_imports::result.eq("{}"),
            terminal_imports::created_by.eq(&import.created_by),
            terminal_imports::created_at_ms.eq(now.0),
        ))
        .execute(conn)?;
    Ok(())
}

/// Notes how it ended.
pub(super) fn finish(conn: &mut Conn, id: &str, result: &str) -> Result<(), db::Error> {
    diesel::update(terminal_imports::table.find(id)).set(terminal_imports::result.eq(result)).execute(conn)?;
    Ok(())
}

/// Whether the import is the caller's.
pub(super) fn exists(conn: &mut Conn, scope: &Scope, id: &str) -> Result<bool, db::Error> {
    let found: Option<String> = terminal_imports::table
        .find(id)
        .filter(terminal_imports::org_path.ge(scope.from()))
        .filter(terminal_imports::org_path.lt(scope.below()))
        .select(terminal_imports::id)
        .first(conn)
        .optional()?;
    Ok(found.is_some())
}

/// How the caller's import ended, as [`finish`] keeps it.
pub(super) fn result(conn: &mut Conn, scope: &Scope, id: &str) -> Result<Option<String>, db::Error> {
    Ok(terminal_imports::table
        .find(id)
        .filter(terminal_imports::org_path.ge(scope.from()))
        .filter(terminal_imports::org_path.lt(scope.below()))
        .select(terminal_imports::result)
        .first(conn)
        .optional()?)
}

/// A block of refused rows.
pub(super) fn insert_errors(conn: &mut Conn, id: &str, block: i64, csv: &str) -> Result<(), db::Error> {
    diesel::insert_into(terminal_import_errors::table)
        .values((
            terminal_import_errors::import_id.eq(id),
            terminal_import_errors::block.eq(block),
            terminal_import_errors::csv.eq(csv),
        ))
        .execute(conn)?;
    Ok(())
}

/// The first block after `block`.
pub(super) fn errors_after(conn: &mut Conn, id: &str, block: i64) -> Result<Option<(i64, String)>, db::Error> {
    Ok(terminal_import_errors::table
        .filter(terminal_import_errors::import_id.eq(id))
        .filter(terminal_import_errors::block.gt(block))
        .order(terminal_import_errors::block)
        .select((terminal_import_errors::block, terminal_import_errors::csv))
        .first(conn)
        .optional()?)
}

/// Terminals with one of these serial numbers, whoever they belong to: both numbers are unique over all.
pub(super) fn by_sn(conn: &mut Conn, sns: &[&str]) -> Result<HashMap<String, Record>, db::Error> {
    let records: Vec<Record> = terminals::table.filter(terminals::sn.eq_any(sns)).load(conn)?;
    Ok(records.into_iter().map(|record| (record.sn.clone(), record)).collect())
}

/// Serial numbers of the terminals with one of these TUSNs.
pub(super) fn sn_by_tusn(conn: &mut Conn, tusns: &[&str]) -> Result<HashMap<String, String>, db::Error> {
    let rows: Vec<(Option<String>, String)> =
        terminals::table.filter(terminals::tusn.eq_any(tusns)).select((terminals::tusn, terminals::sn)).load(conn)?;
    Ok(rows.into_iter().filter_map(|(tusn, sn)| Some((tusn?, sn))).collect())
}

/// Tags by terminal.
pub(super) fn tags(conn: &mut Conn, ids: &[i64]) -> Result<HashMap<i64, Vec<String>>, db::Error> {
    let rows: Vec<(i64, String)> = terminal_tags::table
        .filter(terminal_tags::terminal_id.eq_any(ids))
        .order((terminal_tags::terminal_id, terminal_tags::tag))
        .select((terminal_tags::terminal_id, terminal_tags::tag))
        .load(conn)?;
    let mut tags: HashMap<i64, Vec<String>> = HashMap::new();
    for (id, tag) in rows {
        tags.entry(id).or_default().push(tag);
    }
    Ok(tags)
}

/// New terminals with their states and tags, a few statements for all of them.
pub(super) fn insert(conn: &mut Conn, new: &[(Record, Vec<String>)]) -> Result<(), db::Error> {
    let records: Vec<&Record> = new.iter().map(|(record, _)| record).collect();
    let states: Vec<NewState> = new.iter().map(|(record, tags)| NewState::of(record, tags)).collect();
    let tags: Vec<_> = new
        .iter()
        .flat_map(|(record, tags)| {
            tags.iter().map(|tag| (terminal_tags::tag.eq(tag), terminal_tags::terminal_id.eq(record.id)))
        })
        .collect();
    on_backend!(conn, |c| {
        diesel::insert_into(terminals::table).values(records).execute(c)?;
        diesel::insert_into(terminal_states::table).values(states).execute(c)?;
        if !tags.is_empty() {
            diesel::insert_into(terminal_tags::table).values(tags).execute(c)?;
        }
        Ok::<_, diesel::result::Error>(())
    })?;
    Ok(())
}
