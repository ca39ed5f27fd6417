//! SQL of the comparison.

pub(super) mod again;
pub(super) mod missing;

use std::collections::{HashMap, HashSet};

use diesel::dsl::sql;
use diesel::expression::SqlLiteral;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Nullable};

use super::matching::{DAY_MS, Event};
use super::view::{Counted, Filter};
use crate::clock::Now;
use crate::db::schema::{
    channel_transactions, exposure_slots, failures, feed_channels, lookups, payments, terminals, verdicts,
};
use crate::db::{self, Conn};
use crate::failures::classify::{Judgement, Symptom};
use crate::failures::feed::store::Transaction;
use crate::failures::verdicts::Source;
use crate::operators::Scope;

/// Failures, and successes, that one statement reads.
const EVENTS_MAX: i64 = 20_000;
/// Slots deleted in one transaction.
const DELETED_MAX: i64 = 2_000;

/// PostgreSQL's advisory lock under which payments are compared ("settled" in base 36).
const LOCK: i64 = 61_846_521_493;

/// Whether this transaction may compare payments: one server does at a time. On SQLite the one writer thread is lock
/// enough.
pub(super) fn leads(conn: &mut Conn) -> Result<bool, db::Error> {
    match conn {
        Conn::Sqlite(_) => Ok(true),
        Conn::Postgres(c) => {
            Ok(diesel::select(sql::<Bool>(&format!("pg_try_advisory_xact_lock({LOCK})"))).get_result(c)?)
        }
    }
}

/// Waits for the same lock: what a person decides comes before or after a batch, never between its rows.
pub(super) fn wait_to_lead(conn: &mut Conn) -> Result<(), db::Error> {
    if let Conn::Postgres(c) = conn {
        let ask = format!("pg_advisory_xact_lock({LOCK}) IS NOT NULL");
        let _: bool = diesel::select(sql::<Bool>(&ask)).get_result(c)?;
    }
    Ok(())
}

/// Payments that are due, the longest first. By `channel_transactions_due`.
pub(super) fn due(conn: &mut Conn, now: Now, limit: i64) -> Result<Vec<Transaction>, db::Error> {
    Ok(channel_transactions::table
        .filter(channel_transactions::due_ms.le(now.0))
        .order((channel_transactions::due_ms, channel_transactions::id))
        .limit(limit)
        .load(conn)?)
}

/// Writes down whose a payment is that came before its terminal was registered; `false` when a channel told something else
/// of it meanwhile.
pub(super) fn resolve(
    conn: &mut Conn,
    payment: &Transaction,
    terminal_id: i64,
    org_path: &str,
) -> Result<bool, db::Error> {
    let as_read = channel_transactions::table
        .find(payment.id)
        .filter(channel_transactions::digest.eq(&payment.digest))
        .filter(channel_transactions::terminal_id.is_null());
    let written = diesel::update(as_read)
        .set((channel_transactions::terminal_id.eq(terminal_id), channel_transactions::org_path.eq(org_path)))
        .execute(conn)?;
    Ok(written == 1)
}

/// Paths of the channels' organizations.
pub(super) fn channel_paths(conn: &mut Conn, ids: &[i64]) -> Result<HashMap<i64, String>, db::Error> {
    let rows: Vec<(i64, String)> = feed_channels::table
        .filter(feed_channels::id.eq_any(ids))
        .select((feed_channels::id, feed_channels::org_path))
        .load(conn)?;
    Ok(rows.into_iter().collect())
}

/// What an event's JSON says beside its columns.
#[derive(serde::Deserialize)]
struct Numbers {
    #[serde(default)]
    ref_no: Option<String>,
    #[serde(default)]
    trace_no: Option<String>,
    #[serde(default)]
    batch_no: Option<String>,
    #[serde(default)]
    merchant_no_sent: Option<String>,
}

macro_rules! payment_columns {
    () => {
        (
            payments::terminal_id,
            payments::event_id,
            payments::at_ms,
            payments::amount_fen,
            payments::ref_no,
            payments::trace_no,
            payments::batch_no,
            payments::merchant_no_sent,
        )
    };
}

/// The terminals' own events in a time; `None` when there are more than [`EVENTS_MAX`]. By `failures_by_terminal` and
/// `payments_by_terminal`.
pub(super) fn events(
    conn: &mut Conn,
    terminals: &[i64],
    from_ms: i64,
    to_ms: i64,
) -> Result<Option<Vec<Event>>, db::Error> {
    type Columns = (i64, String, i64, Option<i64>, String);
    let rows: Vec<Columns> = failures::table
        .filter(failures::terminal_id.eq_any(terminals))
        .filter(failures::occurred_at_ms.ge(from_ms))
        .filter(failures::occurred_at_ms.lt(to_ms))
        .order((failures::terminal_id, failures::received_at_ms))
        .limit(EVENTS_MAX + 1)
        .select((
            failures::terminal_id,
            failures::event_id,
            failures::occurred_at_ms,
            failures::amount_fen,
            failures::event,
        ))
        .load(conn)?;
    if is_cut(&rows) {
        return Ok(None);
    }
    let failed = rows.into_iter().filter_map(|(terminal_id, event_id, at_ms, amount_fen, event)| {
        let numbers: Numbers = serde_json::from_str(&event).ok()?;
        Some(Event {
            terminal_id,
            event_id,
            at_ms,
            amount_fen,
            ref_no: numbers.ref_no,
            trace_no: numbers.trace_no,
            batch_no: numbers.batch_no,
            merchant_no_sent: numbers.merchant_no_sent,
            succeeded: false,
        })
    });
    let mut events: Vec<Event> = failed.collect();
    let rows = payments::table
        .filter(payments::terminal_id.eq_any(terminals))
        .filter(payments::at_ms.ge(from_ms))
        .filter(payments::at_ms.lt(to_ms))
        .order((payments::terminal_id, payments::at_ms))
        .limit(EVENTS_MAX + 1)
        .select(payment_columns!())
        .load::<PaymentColumns>(conn)?;
    if is_cut(&rows) {
        return Ok(None);
    }
    events.extend(rows.into_iter().map(payment));
    Ok(Some(events))
}

fn is_cut<T>(rows: &[T]) -> bool {
    i64::try_from(rows.len()).is_ok_and(|n| n > EVENTS_MAX)
}

use payment_columns;

type PaymentColumns = (i64, String, i64, i64, Option<String>, Option<String>, Option<String>, Option<String>);

fn payment(columns: PaymentColumns) -> Event {
    let (terminal_id, event_id, at_ms, amount_fen, ref_no, trace_no, batch_no, merchant_no_sent) = columns;
    Event {
        terminal_id,
        event_id,
        at_ms,
        amount_fen: Some(amount_fen),
        ref_no,
        trace_no,
        batch_no,
        merchant_no_sent,
        succeeded: true,
    }
}

/// Payments that terminals reported after `after` and before `until_ms`, oldest first, in the order of the payments' own
/// time. By `payments_by_moment`.
pub(super) fn reported(
    conn: &mut Conn,
    (at_ms, terminal_id, event_id): &(i64, i64, String),
    until_ms: i64,
    limit: i64,
) -> Result<Vec<(Event, String)>, db::Error> {
    let same = payments::at_ms.eq(*at_ms);
    let later = payments::at_ms.gt(*at_ms).or(same.and(
        payments::terminal_id
            .gt(*terminal_id)
            .or(payments::terminal_id.eq(*terminal_id).and(payments::event_id.gt(event_id))),
    ));
    let rows: Vec<(PaymentColumns, String)> = payments::table
        .filter(payments::at_ms.ge(*at_ms))
        .filter(payments::at_ms.lt(until_ms))
        .filter(later)
        .order((payments::at_ms, payments::terminal_id, payments::event_id))
        .limit(limit)
        .select((payment_columns!(), payments::org_path))
        .load(conn)?;
    Ok(rows.into_iter().map(|(columns, org_path)| (payment(columns), org_path)).collect())
}

/// From when to when channels told of each of these terminals. By `channel_transactions_by_terminal`.
pub(super) fn told_of(conn: &mut Conn, terminals: &[i64]) -> Result<HashMap<i64, (i64, i64)>, db::Error> {
    // Of each terminal two looks at the index, not all of its rows.
    let end = |end: &str| {
        let rows = "FROM channel_transactions WHERE channel_transactions.terminal_id = terminals.id";
        sql::<Nullable<BigInt>>(&format!("(SELECT {end}(channel_transactions.at_ms) {rows})"))
    };
    ends(conn, terminals, end("MIN"), end("MAX"))
}

/// Two ends of each of these terminals, by terminal; none for those that have none.
fn ends(
    conn: &mut Conn,
    terminals: &[i64],
    from: SqlLiteral<Nullable<BigInt>>,
    to: SqlLiteral<Nullable<BigInt>>,
) -> Result<HashMap<i64, (i64, i64)>, db::Error> {
    let rows: Vec<(i64, Option<i64>, Option<i64>)> =
        terminals::table.filter(terminals::id.eq_any(terminals)).select((terminals::id, from, to)).load(conn)?;
    Ok(rows.into_iter().filter_map(|(id, from_ms, to_ms)| Some((id, (from_ms?, to_ms?)))).collect())
}

/// Which of these events a channel's row was found for; both are less than a day apart. By
/// `channel_transactions_by_terminal`.
pub(super) fn matched(
    conn: &mut Conn,
    terminals: &[i64],
    events: &[&Event],
) -> Result<HashSet<(i64, String)>, db::Error> {
    let moments = || events.iter().map(|event| event.at_ms);
    let (from_ms, to_ms) = (moments().min().unwrap_or(0) - DAY_MS, moments().max().unwrap_or(0) + DAY_MS);
    let events: Vec<&str> = events.iter().map(|event| event.event_id.as_str()).collect();
    let rows: Vec<(Option<i64>, Option<String>)> = channel_transactions::table
        .filter(channel_transactions::terminal_id.eq_any(terminals))
        .filter(channel_transactions::at_ms.ge(from_ms))
        .filter(channel_transactions::at_ms.le(to_ms))
        .filter(channel_transactions::matched_event.eq_any(events))
        .select((channel_transactions::terminal_id, channel_transactions::matched_event))
        .load(conn)?;
    Ok(rows.into_iter().filter_map(|(id, event)| id.zip(event)).collect())
}

/// Serial numbers by terminal.
pub(super) fn sns(conn: &mut Conn, terminals: &[i64]) -> Result<HashMap<i64, String>, db::Error> {
    let rows: Vec<(i64, String)> =
        terminals::table.filter(terminals::id.eq_any(terminals)).select((terminals::id, terminals::sn)).load(conn)?;
    Ok(rows.into_iter().collect())
}

/// Of these payments that terminals reported, those that are said to be missing: terminal, item, organization, when. By
/// primary key.
pub(super) fn said_missing(
    conn: &mut Conn,
    terminals: &[i64],
    items: &[String],
) -> Result<Vec<(i64, String, String, i64)>, db::Error> {
    Ok(verdicts::table
        .filter(verdicts::source.eq(Source::Settlement.as_str()))
        .filter(verdicts::terminal_id.eq_any(terminals))
        .filter(verdicts::item.eq_any(items))
        .filter(verdicts::symptom.eq(Symptom::Missing.as_str()))
        .select((verdicts::terminal_id, verdicts::item, verdicts::org_path, verdicts::received_at_ms))
        .load(conn)?)
}

/// Payments of terminals that no channel told of, within a time.
pub(super) fn missing_at_channels(conn: &mut Conn, scope: &Scope, from_ms: i64, to_ms: i64) -> Result<i64, db::Error> {
    Ok(verdicts::table
        .filter(verdicts::source.eq(Source::Settlement.as_str()))
        .filter(verdicts::symptom.eq(Symptom::Missing.as_str()))
        .filter(verdicts::received_at_ms.ge(from_ms))
        .filter(verdicts::received_at_ms.lt(to_ms))
        .filter(verdicts::item.like("payment:%"))
        .filter(verdicts::org_path.ge(scope.from()))
        .filter(verdicts::org_path.lt(scope.below()))
        .count()
        .get_result(conn)?)
}

/// Payments that people looked up, by level of evidence.
pub(super) fn looked_up(
    conn: &mut Conn,
    scope: &Scope,
    from_ms: i64,
    to_ms: i64,
) -> Result<HashMap<String, i64>, db::Error> {
    let rows: Vec<(String, i64)> = lookups::table
        .filter(lookups::org_path.ge(scope.from()))
        .filter(lookups::org_path.lt(scope.below()))
        .filter(lookups::at_ms.ge(from_ms))
        .filter(lookups::at_ms.lt(to_ms))
        .filter(lookups::withdrawn_at_ms.is_null())
        .group_by(lookups::level)
        .select((lookups::level, sql::<BigInt>("CAST(COUNT(*) AS BIGINT)")))
        .load(conn)?;
    Ok(rows.into_iter().collect())
}

/// What a look at a payment found.
pub(super) struct Compared {
    pub quality: &'static str,
    pub matched_event: Option<String>,
    pub result: &'static str,
    pub lacking: Option<&'static str>,
    pub severity: &'static str,
    pub due_ms: Option<i64>,
}

/// Writes it; `false` when a channel told something else of the payment meanwhile, which is then still due.
pub(super) fn compared(conn: &mut Conn, payment: &Transaction, found: &Compared) -> Result<bool, db::Error> {
    let as_read = channel_transactions::table.find(payment.id).filter(channel_transactions::digest.eq(&payment.digest));
    let written = diesel::update(as_read)
        .set((
            channel_transactions::match_quality.eq(found.quality),
            channel_transactions::matched_event.eq(&found.matched_event),
            channel_transactions::result.eq(found.result),
            channel_transactions::lacking.eq(found.lacking),
            channel_transactions::severity.eq(found.severity),
            channel_transactions::due_ms.eq(found.due_ms),
        ))
        .execute(conn)?;
    Ok(written == 1)
}

/// Counts of a time, by state and what payments show. By `channel_transactions_by_org`.
pub(super) fn counts(conn: &mut Conn, scope: &Scope, from_ms: i64, to_ms: i64) -> Result<Vec<Counted>, db::Error> {
    type Columns = (String, String, i64, i64, i64, i64, i64);
    let sum = |column: &str| sql::<BigInt>(&format!("CAST(COALESCE(SUM({column}), 0) AS BIGINT)"));
    let rows: Vec<Columns> = channel_transactions::table
        .filter(channel_transactions::org_path.ge(scope.from()))
        .filter(channel_transactions::org_path.lt(scope.below()))
        .filter(channel_transactions::at_ms.ge(from_ms))
        .filter(channel_transactions::at_ms.lt(to_ms))
        .group_by((channel_transactions::status, channel_transactions::result))
        .select((
            channel_transactions::status,
            channel_transactions::result,
            sql::<BigInt>("CAST(COUNT(*) AS BIGINT)"),
            sum("CASE WHEN channel_transactions.lacking IS NULL THEN 1 ELSE 0 END"),
            sum("CASE WHEN channel_transactions.settle_fen IS NULL THEN 0 ELSE 1 END"),
            sum("CASE WHEN channel_transactions.match_quality = 'none' THEN 0 ELSE 1 END"),
            // What is shown as a fee is the whole difference, whichever columns the channel tells it in.
            sum("CASE WHEN channel_transactions.result = 'fee' \
                 THEN channel_transactions.amount_fen - channel_transactions.settle_fen END"),
        ))
        .load(conn)?;
    let counted = |(status, result, rows, merchant_checked, money_known, matched, fees_fen): Columns| Counted {
        status,
        result,
        rows,
        merchant_checked,
        money_known,
        matched,
        fees_fen,
    };
    Ok(rows.into_iter().map(counted).collect())
}

/// What keeps merchants from being compared, most frequent first.
pub(super) fn lacking(
    conn: &mut Conn,
    scope: &Scope,
    from_ms: i64,
    to_ms: i64,
) -> Result<Vec<(String, i64)>, db::Error> {
    let rows: Vec<(Option<String>, i64)> = channel_transactions::table
        .filter(channel_transactions::org_path.ge(scope.from()))
        .filter(channel_transactions::org_path.lt(scope.below()))
        .filter(channel_transactions::at_ms.ge(from_ms))
        .filter(channel_transactions::at_ms.lt(to_ms))
        .filter(channel_transactions::status.eq("success"))
        .filter(channel_transactions::lacking.is_not_null())
        .group_by(channel_transactions::lacking)
        .select((channel_transactions::lacking, sql::<BigInt>("CAST(COUNT(*) AS BIGINT)")))
        .load(conn)?;
    let mut rows: Vec<(String, i64)> = rows.into_iter().filter_map(|(name, count)| Some((name?, count))).collect();
    rows.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    Ok(rows)
}

/// Newest first. By `channel_transactions_by_org`, by the terminal's index where one is named.
pub(super) fn list(
    conn: &mut Conn,
    scope: &Scope,
    filter: &Filter,
    after: Option<(i64, i64)>,
    limit: i64,
) -> Result<Vec<Transaction>, db::Error> {
    let mut query = channel_transactions::table
        .filter(channel_transactions::org_path.ge(scope.from()))
        .filter(channel_transactions::org_path.lt(scope.below()))
        .into_boxed();
    if !filter.results.is_empty() {
        let names: Vec<&str> = filter.results.iter().map(|result| result.as_str()).collect();
        query = query.filter(channel_transactions::result.eq_any(names));
    }
    if let Some(channel_id) = filter.channel_id {
        query = query.filter(channel_transactions::channel_id.eq(channel_id));
    }
    if let Some(terminal_id) = filter.terminal_id {
        query = query.filter(channel_transactions::terminal_id.eq(terminal_id));
    }
    if let Some(sn) = &filter.sn {
        query = query.filter(channel_transactions::sn.eq(sn));
    }
    if let Some(merchant_no) = &filter.merchant_no {
        query = query.filter(channel_transactions::merchant_no.eq(merchant_no));
    }
    if let Some(from_ms) = filter.from_ms {
        query = query.filter(channel_transactions::at_ms.ge(from_ms));
    }
    if let Some(to_ms) = filter.to_ms {
        query = query.filter(channel_transactions::at_ms.lt(to_ms));
    }
    if let Some((at_ms, id)) = after {
        let same = channel_transactions::at_ms.eq(at_ms).and(channel_transactions::id.lt(id));
        query = query.filter(channel_transactions::at_ms.lt(at_ms).or(same));
    }
    Ok(query.order((channel_transactions::at_ms.desc(), channel_transactions::id.desc())).limit(limit).load(conn)?)
}

/// By primary key, within the scope.
pub(super) fn find(conn: &mut Conn, scope: &Scope, id: i64) -> Result<Option<Transaction>, db::Error> {
    Ok(channel_transactions::table
        .find(id)
        .filter(channel_transactions::org_path.ge(scope.from()))
        .filter(channel_transactions::org_path.lt(scope.below()))
        .first(conn)
        .optional()?)
}

/// What the rules said about a payment. By primary key.
pub(super) fn judgement(conn: &mut Conn, terminal_id: Option<i64>, item: &str) -> Result<Option<Judgement>, db::Error> {
    let body: Option<String> = verdicts::table
        .find((Source::Settlement.as_str(), terminal_id.unwrap_or(0), item))
        .select(verdicts::judgement)
        .first(conn)
        .optional()?;
    Ok(body.and_then(|body| serde_json::from_str(&body).ok()))
}

/// From when to when each of these terminals reported successes; none for those that do not. By `payments_by_terminal`.
pub(super) fn reporting(conn: &mut Conn, terminals: &[i64]) -> Result<HashMap<i64, (i64, i64)>, db::Error> {
    let end = |end: &str| {
        let rows = "FROM payments WHERE payments.terminal_id = terminals.id";
        sql::<Nullable<BigInt>>(&format!("(SELECT {end}(payments.at_ms) {rows})"))
    };
    ends(conn, terminals, end("MIN"), end("MAX"))
}

/// Deletes slots of hours before `before_ms`; returns how many went. By `exposure_slots_by_time`.
pub(super) fn delete_old_slots(conn: &mut Conn, before_ms: i64) -> Result<usize, db::Error> {
    let old: Vec<(i64, i64)> = exposure_slots::table
        .filter(exposure_slots::hour_ms.lt(before_ms))
        .order(exposure_slots::hour_ms)
        .limit(DELETED_MAX)
        .select((exposure_slots::terminal_id, exposure_slots::hour_ms))
        .load(conn)?;
    for key in &old {
        diesel::delete(exposure_slots::table.find(*key)).execute(conn)?;
    }
    Ok(old.len())
}
