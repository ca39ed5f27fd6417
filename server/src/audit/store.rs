//! SQL of the audit log.

use diesel::prelude::*;

use super::Entry;
use crate::db::schema::audit_entries;
use crate::db::{self, Conn, Sequence, next_id};
use crate::operators::Scope;

/// Entries read at a time when the chain is walked.
pub(super) const BLOCK: i64 = 1_000;
/// Entries about one object that are read.
const OF_OBJECT_MAX: i64 = 100;

type Columns = (i64, i64, String, i64, String, String, String, String, String, String, String, String, String);

fn entry(row: Columns) -> Entry {
    let (
        seq,
        at_ms,
        actor_kind,
        actor_id,
        actor_name,
        org_path,
        action,
        object_kind,
        object_id,
        detail,
        request_id,
        previous_hash,
        hash,
    ) = row;
    Entry {
        seq,
        at_ms,
        actor_kind,
        actor_id,
        actor_name,
        org_path,
        action,
        object_kind,
        object_id,
        detail,
        request_id,
        previous_hash,
        hash,
    }
}

/// Taking the number locks the counter's row until the transaction ends: the chain grows one entry at a time.
pub(super) fn append(conn: &mut Conn, make: impl FnOnce(i64, String) -> Entry) -> Result<(), db::Error> {
    let seq = next_id(conn, Sequence::AuditEntries)?;
    let previous: Option<String> =
        audit_entries::table.find(seq - 1).select(audit_entries::hash).first(conn).optional()?;
    let entry = make(seq, previous.unwrap_or_default());
    diesel::insert_into(audit_entries::table)
        .values((
            audit_entries::seq.eq(entry.seq),
            audit_entries::at_ms.eq(entry.at_ms),
            audit_entries::actor_kind.eq(entry.actor_kind),
            audit_entries::actor_id.eq(entry.actor_id),
            audit_entries::actor_name.eq(entry.actor_name),
            audit_entries::org_path.eq(entry.org_path),
            audit_entries::action.eq(entry.action),
            audit_entries::object_kind.eq(entry.object_kind),
            audit_entries::object_id.eq(entry.object_id),
            audit_entries::detail.eq(entry.detail),
            audit_entries::request_id.eq(entry.request_id),
            audit_entries::previous_hash.eq(entry.previous_hash),
            audit_entries::hash.eq(entry.hash),
        ))
        .execute(conn)?;
    Ok(())
}

/// By primary key.
pub(super) fn after(conn: &mut Conn, seq: i64, limit: i64) -> Result<Vec<Entry>, db::Error> {
    let rows = audit_entries::table
        .filter(audit_entries::seq.gt(seq))
        .order(audit_entries::seq)
        .limit(limit)
        .load::<Columns>(conn)?;
    Ok(rows.into_iter().map(entry).collect())
}

/// Newest first, by primary key; the scope is checked on each row.
pub(super) fn list(conn: &mut Conn, scope: &Scope, before: Option<i64>, limit: i64) -> Result<Vec<Entry>, db::Error> {
    let rows = audit_entries::table
        .filter(audit_entries::org_path.ge(scope.from()))
        .filter(audit_entries::org_path.lt(scope.below()))
        .filter(audit_entries::seq.lt(before.unwrap_or(i64::MAX)))
        .order(audit_entries::seq.desc())
        .limit(limit)
        .load::<Columns>(conn)?;
    Ok(rows.into_iter().map(entry).collect())
}

/// About one object, oldest first. By `audit_entries_by_object`.
pub(super) fn of_object(conn: &mut Conn, object_kind: &str, object_id: &str) -> Result<Vec<Entry>, db::Error> {
    let rows = audit_entries::table
        .filter(audit_entries::object_kind.eq(object_kind))
        .filter(audit_entries::object_id.eq(object_id))
        .order(audit_entries::seq)
        .limit(OF_OBJECT_MAX)
        .load::<Columns>(conn)?;
    Ok(rows.into_iter().map(entry).collect())
}
