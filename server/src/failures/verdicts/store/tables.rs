//! SQL of the tables that rules compare with.

use diesel::prelude::*;

use crate::clock::Now;
use crate::db::schema::{rule_table_edits, rule_table_versions, verdicts};
use crate::db::{self, Conn};
use crate::on_backend;
use crate::operators::Scope;

/// One organization's changes.
#[derive(Debug, Clone, PartialEq, Eq, Queryable)]
pub(in crate::failures::verdicts) struct EditRow {
    pub(in crate::failures::verdicts) organization_id: i64,
    pub(in crate::failures::verdicts) version: i64,
    pub(in crate::failures::verdicts) org_path: String,
    pub(in crate::failures::verdicts) overrides: String,
    pub(in crate::failures::verdicts) note: String,
    pub(in crate::failures::verdicts) created_by: String,
    pub(in crate::failures::verdicts) created_at_ms: i64,
}

/// The newest edit of each of these organizations, in the order of the numbers given. By primary key.
pub(in crate::failures::verdicts) fn newest(conn: &mut Conn, chain: &[i64]) -> Result<Vec<EditRow>, db::Error> {
    let mut found = Vec::new();
    for &id in chain {
        let row: Option<EditRow> = rule_table_edits::table
            .filter(rule_table_edits::organization_id.eq(id))
            .order(rule_table_edits::version.desc())
            .first(conn)
            .optional()?;
        found.extend(row);
    }
    Ok(found)
}

/// The newest edits of an organization, newest first. By primary key.
pub(in crate::failures::verdicts) fn history(
    conn: &mut Conn,
    organization_id: i64,
    limit: i64,
) -> Result<Vec<EditRow>, db::Error> {
    let rows = rule_table_edits::table
        .filter(rule_table_edits::organization_id.eq(organization_id))
        .order(rule_table_edits::version.desc())
        .limit(limit)
        .load(conn)?;
    Ok(rows)
}

/// Adds an edit; `false` when that version is there already.
pub(in crate::failures::verdicts) fn add(conn: &mut Conn, row: &EditRow) -> Result<bool, db::Error> {
    let values = (
        rule_table_edits::organization_id.eq(row.organization_id),
        rule_table_edits::version.eq(row.version),
        rule_table_edits::org_path.eq(&row.org_path),
        rule_table_edits::overrides.eq(&row.overrides),
        rule_table_edits::note.eq(&row.note),
        rule_table_edits::created_by.eq(&row.created_by),
        rule_table_edits::created_at_ms.eq(row.created_at_ms),
    );
    let inserted = on_backend!(conn, |c| diesel::insert_into(rule_table_edits::table)
        .values(values)
        .on_conflict_do_nothing()
        .execute(c))?;
    Ok(inserted == 1)
}

/// Whether the tables of this hash are kept.
pub(in crate::failures::verdicts) fn is_kept(conn: &mut Conn, hash: &str) -> Result<bool, db::Error> {
    let found: Option<String> =
        rule_table_versions::table.find(hash).select(rule_table_versions::hash).first(conn).optional()?;
    Ok(found.is_some())
}

/// Keeps the tables of this hash.
pub(in crate::failures::verdicts) fn keep(conn: &mut Conn, hash: &str, body: &str, now: Now) -> Result<(), db::Error> {
    let row = (
        rule_table_versions::hash.eq(hash),
        rule_table_versions::body.eq(body),
        rule_table_versions::created_at_ms.eq(now.0),
    );
    on_backend!(conn, |c| diesel::insert_into(rule_table_versions::table)
        .values(row)
        .on_conflict_do_nothing()
        .execute(c))?;
    Ok(())
}

/// The tables of this hash, if a verdict of the scope was judged by them. By `verdicts_by_tables`.
pub(in crate::failures::verdicts) fn body(
    conn: &mut Conn,
    scope: &Scope,
    hash: &str,
) -> Result<Option<String>, db::Error> {
    let user: Option<String> = verdicts::table
        .filter(verdicts::tables_hash.eq(hash))
        .filter(verdicts::org_path.ge(scope.from()))
        .filter(verdicts::org_path.lt(scope.below()))
        .select(verdicts::tables_hash)
        .first(conn)
        .optional()?;
    if user.is_none() {
        return Ok(None);
    }
    Ok(rule_table_versions::table.find(hash).select(rule_table_versions::body).first(conn).optional()?)
}
