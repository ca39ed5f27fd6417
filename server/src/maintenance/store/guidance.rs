//! SQL of operators' errors by store and week.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::BigInt;

use crate::db::schema::{counted_attempts, failures, store_weeks, terminals};
use crate::db::{self, Conn};
use crate::maintenance::guidance::{Cursor, StoreCounts, StoreOf};
use crate::on_backend;
use crate::operators::Scope;

/// Stores that one comparison reads, those with the most errors.
const STORES_MAX: i64 = 50_000;
/// Rows deleted in one transaction: some milliseconds.
const DELETED_MAX: i64 = 500;

/// One store, model and week.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::maintenance) struct StoreKey {
    week: i64,
    org_path: String,
    merchant_no: String,
    store_name: String,
    model: String,
}

impl StoreKey {
    /// None where there is neither a merchant nor a store.
    pub(in crate::maintenance) fn of(
        week: i64,
        org_path: &str,
        merchant_no: Option<&str>,
        store_name: Option<&str>,
        model: &str,
    ) -> Option<Self> {
        let (merchant_no, store_name) = (merchant_no.unwrap_or_default(), store_name.unwrap_or_default());
        if merchant_no.is_empty() && store_name.is_empty() {
            return None;
        }
        Some(Self {
            week,
            org_path: org_path.to_owned(),
            merchant_no: merchant_no.to_owned(),
            store_name: store_name.to_owned(),
            model: model.to_owned(),
        })
    }
}

/// A failed transaction with the store it happened at.
pub(in crate::maintenance) struct Failed {
    pub key: Cursor,
    pub stage: String,
    pub response_code: Option<String>,
    pub event: String,
    pub org_path: String,
    pub merchant_no: Option<String>,
    pub store_name: Option<String>,
    pub model: String,
}

type FailedColumns =
    ((i64, i64, String, String, Option<String>, String), (String, Option<String>, Option<String>, String));

/// Failures after `after` that were received before `until_ms`, oldest first. By `failures_by_time`.
pub(in crate::maintenance) fn failed_after(
    conn: &mut Conn,
    after: &Cursor,
    until_ms: i64,
    limit: i64,
) -> Result<Vec<Failed>, db::Error> {
    let rows = failures::table
        .inner_join(terminals::table.on(terminals::id.eq(failures::terminal_id)))
        .filter(failures::received_at_ms.ge(after.received_at_ms))
        .filter(failures::received_at_ms.lt(until_ms))
        .filter(
            failures::received_at_ms.gt(after.received_at_ms).or(failures::terminal_id
                .gt(after.terminal_id)
                .or(failures::terminal_id.eq(after.terminal_id).and(failures::event_id.gt(&after.event_id)))),
        )
        .order((failures::received_at_ms, failures::terminal_id, failures::event_id))
        .limit(limit)
        .select((
            (
                failures::received_at_ms,
                failures::terminal_id,
                failures::event_id,
                failures::stage,
                failures::response_code,
                failures::event,
            ),
            (terminals::org_path, terminals::merchant_no, terminals::store_name, terminals::model),
        ))
        .load::<FailedColumns>(conn)?;
    let failed = |(event, place): FailedColumns| {
        let (received_at_ms, terminal_id, event_id, stage, response_code, event) = event;
        let (org_path, merchant_no, store_name, model) = place;
        let key = Cursor { received_at_ms, terminal_id, event_id };
        Failed { key, stage, response_code, event, org_path, merchant_no, store_name, model }
    };
    Ok(rows.into_iter().map(failed).collect())
}

/// Adds to one store's week. By primary key.
pub(in crate::maintenance) fn add(
    conn: &mut Conn,
    key: &StoreKey,
    attempts: i64,
    errors: [i64; 5],
) -> Result<(), db::Error> {
    let [cancelled, pin, amount, not_signed_in, reader] = errors;
    let zeros = (
        store_weeks::week.eq(key.week),
        store_weeks::org_path.eq(&key.org_path),
        store_weeks::merchant_no.eq(&key.merchant_no),
        store_weeks::store_name.eq(&key.store_name),
        store_weeks::model.eq(&key.model),
        store_weeks::attempts.eq(0),
        store_weeks::cancelled.eq(0),
        store_weeks::pin.eq(0),
        store_weeks::amount.eq(0),
        store_weeks::not_signed_in.eq(0),
        store_weeks::reader.eq(0),
    );
    on_backend!(conn, |c| diesel::insert_into(store_weeks::table).values(zeros).on_conflict_do_nothing().execute(c))?;
    let row = store_weeks::table.find((key.week, &key.org_path, &key.merchant_no, &key.store_name, &key.model));
    diesel::update(row)
        .set((
            store_weeks::attempts.eq(store_weeks::attempts + attempts),
            store_weeks::cancelled.eq(store_weeks::cancelled + cancelled),
            store_weeks::pin.eq(store_weeks::pin + pin),
            store_weeks::amount.eq(store_weeks::amount + amount),
            store_weeks::not_signed_in.eq(store_weeks::not_signed_in + not_signed_in),
            store_weeks::reader.eq(store_weeks::reader + reader),
        ))
        .execute(conn)?;
    Ok(())
}

/// Day and transactions up to which terminals are counted. By primary key.
pub(in crate::maintenance) fn counted(conn: &mut Conn, ids: &[i64]) -> Result<HashMap<i64, (i64, i64)>, db::Error> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = counted_attempts::table
        .filter(counted_attempts::terminal_id.eq_any(ids.to_vec()))
        .load::<(i64, i64, i64)>(conn)?;
    Ok(rows.into_iter().map(|(id, day, transactions)| (id, (day, transactions))).collect())
}

/// Moves a terminal's own cursor.
pub(in crate::maintenance) fn put_counted(
    conn: &mut Conn,
    terminal_id: i64,
    day: i64,
    transactions: i64,
    is_known: bool,
) -> Result<(), db::Error> {
    let values = (counted_attempts::day.eq(day), counted_attempts::transactions.eq(transactions));
    if is_known {
        diesel::update(counted_attempts::table.find(terminal_id)).set(values).execute(conn)?;
    } else {
        let row = (counted_attempts::terminal_id.eq(terminal_id), values);
        diesel::insert_into(counted_attempts::table).values(row).execute(conn)?;
    }
    Ok(())
}

type Sums = (String, String, String, String, (i64, i64, i64, i64, i64, i64));

/// Every store's counts in these weeks, those with the most errors first. By primary key: each week is named, so that only
/// the scope's own rows of it are read.
pub(in crate::maintenance) fn stores(
    conn: &mut Conn,
    scope: &Scope,
    weeks: RangeInclusive<i64>,
) -> Result<Vec<StoreCounts>, db::Error> {
    let rows = store_weeks::table
        .filter(store_weeks::week.eq_any(weeks.collect::<Vec<_>>()))
        .filter(store_weeks::org_path.ge(scope.from()))
        .filter(store_weeks::org_path.lt(scope.below()))
        .group_by((store_weeks::org_path, store_weeks::merchant_no, store_weeks::store_name, store_weeks::model))
        .order(sql::<BigInt>("SUM(cancelled + pin + amount + not_signed_in + reader) DESC"))
        .limit(STORES_MAX)
        .select((
            store_weeks::org_path,
            store_weeks::merchant_no,
            store_weeks::store_name,
            store_weeks::model,
            (
                sql::<BigInt>("CAST(SUM(attempts) AS BIGINT)"),
                sql::<BigInt>("CAST(SUM(cancelled) AS BIGINT)"),
                sql::<BigInt>("CAST(SUM(pin) AS BIGINT)"),
                sql::<BigInt>("CAST(SUM(amount) AS BIGINT)"),
                sql::<BigInt>("CAST(SUM(not_signed_in) AS BIGINT)"),
                sql::<BigInt>("CAST(SUM(reader) AS BIGINT)"),
            ),
        ))
        .load::<Sums>(conn)?;
    let counts = |(org_path, merchant_no, store_name, model, sums): Sums| {
        let (attempts, cancelled, pin, amount, not_signed_in, reader) = sums;
        let errors = [cancelled, pin, amount, not_signed_in, reader];
        StoreCounts { org_path, merchant_no, store_name, model, attempts, errors }
    };
    Ok(rows.into_iter().map(counts).collect())
}

/// One terminal of a store. By `terminals_by_merchant_no` or `terminals_by_store_name`.
pub(in crate::maintenance) fn terminal_of(
    conn: &mut Conn,
    scope: &Scope,
    store: &StoreOf,
) -> Result<Option<i64>, db::Error> {
    if store.merchant_no.is_empty() && store.store_name.is_empty() {
        return Ok(None);
    }
    let mut query = terminals::table
        .filter(terminals::org_path.ge(scope.from()))
        .filter(terminals::org_path.lt(scope.below()))
        .filter(terminals::org_path.eq(&store.org_path))
        .into_boxed();
    query = match store.merchant_no.as_str() {
        "" => query.filter(terminals::merchant_no.is_null()),
        number => query.filter(terminals::merchant_no.eq(number.to_owned())),
    };
    query = match store.store_name.as_str() {
        "" => query.filter(terminals::store_name.is_null()),
        name => query.filter(terminals::store_name.eq(name.to_owned())),
    };
    Ok(query.order(terminals::id).select(terminals::id).first(conn).optional()?)
}

/// Deletes the oldest rows of weeks before `before`, at most [`DELETED_MAX`]; returns how many went. By primary key.
pub(in crate::maintenance) fn delete_oldest(conn: &mut Conn, before: i64) -> Result<usize, db::Error> {
    let oldest: Vec<(i64, String, String, String, String)> = store_weeks::table
        .filter(store_weeks::week.lt(before))
        .order((
            store_weeks::week,
            store_weeks::org_path,
            store_weeks::merchant_no,
            store_weeks::store_name,
            store_weeks::model,
        ))
        .limit(DELETED_MAX)
        .select((
            store_weeks::week,
            store_weeks::org_path,
            store_weeks::merchant_no,
            store_weeks::store_name,
            store_weeks::model,
        ))
        .load(conn)?;
    let mut deleted = 0;
    for (week, org_path, merchant_no, store_name, model) in &oldest {
        let row = store_weeks::table.find((*week, org_path, merchant_no, store_name, model));
        deleted += diesel::delete(row).execute(conn)?;
    }
    Ok(deleted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::{Db, Location};

    #[tokio::test]
    async fn old_weeks_go_in_small_steps_and_a_scope_reads_its_own_rows_of_the_weeks_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::open(&Location::Sqlite(folder.path().join("db"))).unwrap();
        let most = usize::try_from(DELETED_MAX).unwrap();
        let read: Result<_, db::Error> = db
            .write(move |conn| {
                for n in 0..=DELETED_MAX {
                    let key = StoreKey::of(1, "/1/", None, Some(&format!("store {n}")), "M").unwrap();
                    add(conn, &key, 10, [0; 5])?;
                }
                for (week, org_path) in [(2, "/1/"), (3, "/1/"), (3, "/2/"), (4, "/1/")] {
                    add(conn, &StoreKey::of(week, org_path, Some("M1"), None, "M").unwrap(), 10, [0, 1, 0, 0, 0])?;
                }
                let deleted = [delete_oldest(conn, 2)?, delete_oldest(conn, 2)?, delete_oldest(conn, 2)?];
                Ok((deleted, stores(conn, &Scope::subtree("/1/"), 2..=3)?))
            })
            .await;
        let (deleted, counted) = read.unwrap();
        assert_eq!(deleted, [most, 1, 0]);
        assert_eq!(counted.len(), 1);
        assert_eq!(
            (counted[0].org_path.as_str(), counted[0].attempts, counted[0].errors),
            ("/1/", 20, [0, 2, 0, 0, 0])
        );
    }
}
