//! SQL of imported failures.

use std::collections::{HashMap, HashSet};

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Bool;

use super::{Origin, item};
use crate::checkin::KnownTerminal;
use crate::clock::Now;
use crate::db::schema::{failures, imported_failures, terminal_states, terminals};
use crate::db::{self, Conn};
use crate::on_backend;
use crate::operators::Scope;

/// Keys of one statement: a full batch of check-ins after an outage has more than SQLite's 32,766 parameters.
const KEYS_MAX: usize = 10_000;

/// What is needed of a terminal to take its failures.
#[derive(Debug, Clone)]
pub(super) struct Terminal {
    pub(super) sn: String,
    pub(super) utc_offset_min: Option<i64>,
    pub(super) known: KnownTerminal,
}

/// The terminals in scope with one of these serial numbers. By the unique index on `sn`.
pub(super) fn terminals(conn: &mut Conn, scope: &Scope, sns: &[String]) -> Result<Vec<Terminal>, db::Error> {
    type Row = (i64, String, Option<i64>, String, String, Option<String>, String, Option<i64>);
    let rows: Vec<Row> = terminals::table
        .left_join(terminal_states::table.on(terminal_states::terminal_id.eq(terminals::id)))
        .filter(terminals::sn.eq_any(sns))
        .filter(terminals::org_path.ge(scope.from()))
        .filter(terminals::org_path.lt(scope.below()))
        .select((
            terminals::id,
            terminals::sn,
            terminals::utc_offset_min,
            terminals::org_path,
            terminals::model,
            terminals::hardware,
            terminals::region,
            terminal_states::first_seen_ms.nullable(),
        ))
        .load(conn)?;
    let terminal = |(id, sn, utc_offset_min, org_path, model, hardware, region, first_seen_ms): Row| Terminal {
        sn,
        utc_offset_min,
        known: KnownTerminal {
            id,
            org_path,
            model,
            hardware,
            region,
            calls: first_seen_ms.is_some_and(|at_ms| at_ms > 0),
        },
    };
    Ok(rows.into_iter().map(terminal).collect())
}

/// Which of these events are stored. By primary key.
pub(super) fn stored(conn: &mut Conn, ids: &[(i64, &str)]) -> Result<HashSet<(i64, String)>, db::Error> {
    let terminal_ids: Vec<i64> = ids.iter().map(|(terminal_id, _)| *terminal_id).collect();
    let event_ids: Vec<&str> = ids.iter().map(|(_, event_id)| *event_id).collect();
    let rows: Vec<(i64, String)> = failures::table
        .filter(failures::terminal_id.eq_any(terminal_ids))
        .filter(failures::event_id.eq_any(event_ids))
        .select((failures::terminal_id, failures::event_id))
        .load(conn)?;
    Ok(rows.into_iter().collect())
}

/// Events of terminals from `from_ms` to before `to_ms`, as JSON, at most `limit`. By primary key: all of the terminals.
pub(super) fn events_between(
    conn: &mut Conn,
    terminal_ids: &[i64],
    from_ms: i64,
    to_ms: i64,
    limit: i64,
) -> Result<Vec<(i64, String)>, db::Error> {
    Ok(failures::table
        .filter(failures::terminal_id.eq_any(terminal_ids))
        .filter(failures::occurred_at_ms.ge(from_ms))
        .filter(failures::occurred_at_ms.lt(to_ms))
        .limit(limit)
        .select((failures::terminal_id, failures::event))
        .load(conn)?)
}

/// PostgreSQL's advisory lock under which organizations tell of failures ("told" in base 36).
const TOLD_LOCK: i64 = 1_384_897;
/// The same, under which payments are counted of terminals that do not call ("count" in base 36).
const COUNT_LOCK: i64 = 21_314_873;

/// Nobody else tells of failures, and no terminal reports numbered ones, until this transaction is over: one that is told
/// by both at two servers would be counted twice. To be taken before anything is read. On SQLite the one writer thread is
/// lock enough.
pub(super) fn tell_alone(conn: &mut Conn) -> Result<(), db::Error> {
    wait_for(conn, "pg_advisory_xact_lock", TOLD_LOCK)
}

/// Nobody else counts what channels and organizations tell of terminals that do not call, until this transaction is over.
/// Who [tells](tell_alone) takes that lock first.
///
/// # Errors
/// [`db::Error`].
pub(in crate::failures) fn count_alone(conn: &mut Conn) -> Result<(), db::Error> {
    wait_for(conn, "pg_advisory_xact_lock", COUNT_LOCK)
}

/// Terminals report numbered failures beside each other, but not while somebody [tells](tell_alone) of them.
///
/// # Errors
/// [`db::Error`].
pub(crate) fn report_beside(conn: &mut Conn) -> Result<(), db::Error> {
    wait_for(conn, "pg_advisory_xact_lock_shared", TOLD_LOCK)
}

fn wait_for(conn: &mut Conn, take: &str, lock: i64) -> Result<(), db::Error> {
    if let Conn::Postgres(c) = conn {
        let _: bool = diesel::select(sql::<Bool>(&format!("{take}({lock}) IS NOT NULL"))).get_result(c)?;
    }
    Ok(())
}

/// The events that are marked by these names. By `imported_failures_by_key` and `imported_failures_by_ref`.
pub(super) fn marked(
    conn: &mut Conn,
    traces: &[&str],
    references: &[&str],
) -> Result<HashMap<String, String>, db::Error> {
    let mut marked: HashMap<String, String> = HashMap::new();
    let mut keep = |rows: Vec<(Option<String>, String)>| {
        marked.extend(rows.into_iter().filter_map(|(name, event_id)| Some((name?, event_id))));
    };
    for names in traces.chunks(KEYS_MAX) {
        let rows = imported_failures::table
            .filter(imported_failures::dedup_key.eq_any(names))
            .select((imported_failures::dedup_key, imported_failures::event_id));
        keep(rows.load(conn)?);
    }
    for names in references.chunks(KEYS_MAX) {
        let rows = imported_failures::table
            .filter(imported_failures::ref_key.eq_any(names))
            .select((imported_failures::ref_key, imported_failures::event_id));
        keep(rows.load(conn)?);
    }
    Ok(marked)
}

/// Marks an event as imported; `false` when it, or the same transaction, is marked already.
pub(super) fn mark(
    conn: &mut Conn,
    (terminal_id, event_id): &(i64, String),
    names: &item::Names,
    origin: &Origin,
    now: Now,
) -> Result<bool, db::Error> {
    let values = (
        imported_failures::terminal_id.eq(terminal_id),
        imported_failures::event_id.eq(event_id),
        imported_failures::source.eq(origin.source.as_str()),
        imported_failures::dedup_key.eq(names.by_trace.first()),
        imported_failures::ref_key.eq(&names.by_reference),
        imported_failures::import_id.eq(&origin.import_id),
        imported_failures::created_by.eq(&origin.created_by),
        imported_failures::created_at_ms.eq(now.0),
    );
    let inserted = on_backend!(conn, |c| diesel::insert_into(imported_failures::table)
        .values(values)
        .on_conflict_do_nothing()
        .execute(c))?;
    Ok(inserted > 0)
}

/// At most `limit` marks made before `before_ms`. By `imported_failures_by_time`.
pub(super) fn delete_old(conn: &mut Conn, before_ms: i64, limit: i64) -> Result<usize, db::Error> {
    let oldest: Vec<(i64, String)> = imported_failures::table
        .filter(imported_failures::created_at_ms.lt(before_ms))
        .order(imported_failures::created_at_ms)
        .limit(limit)
        .select((imported_failures::terminal_id, imported_failures::event_id))
        .load(conn)?;
    let mut deleted = 0;
    for (terminal_id, event_id) in oldest {
        deleted += diesel::delete(imported_failures::table.find((terminal_id, event_id))).execute(conn)?;
    }
    Ok(deleted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::{Db, Location};
    use crate::failures::imported::Source;

    #[tokio::test]
    async fn more_keys_than_a_statement_takes_parameters_are_looked_up_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::open(&Location::Sqlite(folder.path().join("db"))).unwrap();
        let found = db
            .write(|conn| {
                let origin = Origin { source: Source::Rest, import_id: None, created_by: "somebody".to_owned() };
                let keys: Vec<String> = (0..40_000).map(|n| format!("key{n}")).collect();
                let references: Vec<String> = (0..40_000).map(|n| format!("ref{n}")).collect();
                for n in [0, 9_999, 10_000, 39_999] {
                    let names = item::Names {
                        by_trace: keys.get(n).cloned().into_iter().collect(),
                        by_reference: references.get(n).cloned(),
                    };
                    assert!(mark(conn, &(7, format!("event{n}")), &names, &origin, Now(1))?);
                    let other = item::Names { by_trace: vec![format!("other{n}")], ..names };
                    assert!(
                        !mark(conn, &(7, format!("other{n}")), &other, &origin, Now(1))?,
                        "one of both names is enough"
                    );
                }
                let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
                let references: Vec<&str> = references.iter().map(String::as_str).collect();
                marked(conn, &keys, &references)
            })
            .await;
        let found: Result<HashMap<String, String>, db::Error> = found;
        let expected = [0, 9_999, 10_000, 39_999]
            .into_iter()
            .flat_map(|n| ["key", "ref"].map(|kind| (format!("{kind}{n}"), format!("event{n}"))));
        assert_eq!(found.unwrap(), expected.collect());
    }
}
