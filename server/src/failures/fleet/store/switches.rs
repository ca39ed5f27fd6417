//! SQL of merchants whose payments arrive under other numbers.

use std::collections::{HashMap, HashSet};

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Bool;

use super::super::switches::{Before, Reported, Settled};
use crate::clock::Now;
use crate::db::schema::{channel_transactions, feed_channels, merchant_switches, payments, verdicts};
use crate::db::{self, Conn};
use crate::failures::verdicts::Source;
use crate::on_backend;
use crate::operators::Scope;

/// Payments that differ looked at for their merchants, the newest.
const SWITCHED_MAX: i64 = 10_000;
/// Items of one statement.
const ITEMS_MAX: usize = 500;
/// Newest payments by which is known whether anything is compared at all.
const LOOKED_AT: i64 = 1_000;
/// Rows of merchants deleted in one transaction.
const DELETED_MAX: i64 = 500;
/// The rule by which a payment was settled under another number: not by its class or name, nor by what the terminal sent.
const BY_NUMBER: &str = "R1";

/// A row of what is said of a merchant.
#[derive(Debug, Clone, PartialEq, Eq, Queryable)]
pub(in super::super) struct Kept {
    pub home: String,
    pub merchant_no: String,
    pub merchant_name: Option<String>,
    pub org_path: String,
    pub from_ms: i64,
    pub to_ms: i64,
    pub successful: i64,
    pub compared: i64,
    pub switched: i64,
    pub review: i64,
    pub newest_id: i64,
    pub verdict: String,
    pub missing: Option<String>,
    pub splits: String,
    pub incident_id: Option<i64>,
}

/// Terminals of payments since `from_ms` that were settled under another merchant, with when, the newest. By
/// `channel_transactions_switched`.
pub(in super::super) fn switched(conn: &mut Conn, from_ms: i64) -> Result<Vec<(i64, i64)>, db::Error> {
    let rows: Vec<(Option<i64>, i64)> = channel_transactions::table
        // Written out, so that SQLite sees that the index holds them all.
        .filter(sql::<Bool>("channel_transactions.result = 'switched'"))
        .filter(channel_transactions::at_ms.ge(from_ms))
        .order(channel_transactions::at_ms.desc())
        .limit(SWITCHED_MAX)
        .select((channel_transactions::terminal_id, channel_transactions::at_ms))
        .load(conn)?;
    Ok(rows.into_iter().filter_map(|(terminal_id, at_ms)| Some((terminal_id?, at_ms))).collect())
}

/// What is read of a channel's detail.
#[derive(serde::Deserialize)]
struct Detail {
    #[serde(default)]
    pay_type: Option<String>,
}

type Columns = (i64, i64, String, Option<i64>, i64, i64, String, Option<String>, String, Option<String>);

/// Settled payments of these terminals since `from_ms`, newest first. By `channel_transactions_by_terminal`.
pub(in super::super) fn settled(
    conn: &mut Conn,
    terminals: &[i64],
    from_ms: i64,
    limit: i64,
) -> Result<Vec<Settled>, db::Error> {
    let rows: Vec<Columns> = channel_transactions::table
        .filter(channel_transactions::terminal_id.eq_any(terminals))
        .filter(channel_transactions::at_ms.ge(from_ms))
        .filter(channel_transactions::status.eq("success"))
        .order((channel_transactions::at_ms.desc(), channel_transactions::id.desc()))
        .limit(limit)
        .select((
            channel_transactions::id,
            channel_transactions::channel_id,
            channel_transactions::org_path,
            channel_transactions::terminal_id,
            channel_transactions::at_ms,
            channel_transactions::amount_fen,
            channel_transactions::detail,
            channel_transactions::matched_event,
            channel_transactions::result,
            channel_transactions::lacking,
        ))
        .load(conn)?;
    let settled = |row: Columns| {
        let (id, channel_id, org_path, terminal_id, at_ms, amount_fen, detail, matched_event, result, lacking) = row;
        let detail: Option<Detail> = serde_json::from_str(&detail).ok();
        Some(Settled {
            id,
            channel_id,
            org_path,
            terminal_id: terminal_id?,
            at_ms,
            amount_fen,
            entry: detail.and_then(|detail| detail.pay_type),
            matched_event,
            result,
            is_lacking: lacking.is_some(),
        })
    };
    Ok(rows.into_iter().filter_map(settled).collect())
}

/// Of these payments (terminal and number), the numbers of those that differ by their merchant number. By primary key.
pub(in super::super) fn by_number(conn: &mut Conn, found: &[(i64, i64)]) -> Result<HashSet<i64>, db::Error> {
    let mut differing = HashSet::new();
    for some in found.chunks(ITEMS_MAX) {
        let ids: HashMap<String, i64> = some.iter().map(|(_, id)| (format!("feed:{id}"), *id)).collect();
        let items: Vec<String> = verdicts::table
            .filter(verdicts::source.eq(Source::Settlement.as_str()))
            .filter(verdicts::terminal_id.eq_any(some.iter().map(|(terminal_id, _)| *terminal_id)))
            .filter(verdicts::item.eq_any(ids.keys()))
            .filter(verdicts::rule.eq(BY_NUMBER))
            .select(verdicts::item)
            .load(conn)?;
        differing.extend(items.iter().filter_map(|item| ids.get(item)));
    }
    Ok(differing)
}

/// Payments that these terminals reported since `from_ms`, newest first. By `payments_by_terminal`.
pub(in super::super) fn reported(
    conn: &mut Conn,
    terminals: &[i64],
    from_ms: i64,
    limit: i64,
) -> Result<Vec<Reported>, db::Error> {
    let rows: Vec<(i64, String, i64, String)> = payments::table
        .filter(payments::terminal_id.eq_any(terminals))
        .filter(payments::at_ms.ge(from_ms))
        .order((payments::at_ms.desc(), payments::terminal_id, payments::event_id))
        .limit(limit)
        .select((payments::terminal_id, payments::event_id, payments::at_ms, payments::org_path))
        .load(conn)?;
    let reported = |(terminal_id, event_id, at_ms, org_path)| Reported { terminal_id, event_id, at_ms, org_path };
    Ok(rows.into_iter().map(reported).collect())
}

/// Organizations of these channels, as paths, and their names.
pub(in super::super) fn channels(
    conn: &mut Conn,
    ids: &HashSet<i64>,
) -> Result<HashMap<i64, (String, String)>, db::Error> {
    let rows: Vec<(i64, String, String)> = feed_channels::table
        .filter(feed_channels::id.eq_any(ids))
        .select((feed_channels::id, feed_channels::org_path, feed_channels::name))
        .load(conn)?;
    Ok(rows.into_iter().map(|(id, org_path, name)| (id, (org_path, name))).collect())
}

/// How many of the newest payments since `from_ms` were compared with their merchant. By `channel_transactions_by_time`.
pub(in super::super) fn compared_lately(conn: &mut Conn, from_ms: i64) -> Result<usize, db::Error> {
    let rows: Vec<(String, String, Option<String>)> = channel_transactions::table
        .filter(channel_transactions::received_at_ms.ge(from_ms))
        .order(channel_transactions::received_at_ms.desc())
        .limit(LOOKED_AT)
        .select((channel_transactions::status, channel_transactions::result, channel_transactions::lacking))
        .load(conn)?;
    let is_compared = |(status, result, lacking): &&(String, String, Option<String>)| {
        status == "success" && lacking.is_none() && !matches!(result.as_str(), "waiting" | "unchecked" | "review")
    };
    Ok(rows.iter().filter(is_compared).count())
}

/// What was said of a merchant before. By primary key.
pub(in super::super) fn before(conn: &mut Conn, home: &str, merchant_no: &str) -> Result<Option<Before>, db::Error> {
    let row: Option<(i64, i64, String, Option<i64>)> = merchant_switches::table
        .find((home, merchant_no))
        .select((
            merchant_switches::newest_id,
            merchant_switches::switched,
            merchant_switches::verdict,
            merchant_switches::incident_id,
        ))
        .first(conn)
        .optional()?;
    Ok(row.map(|(newest_id, switched, verdict, incident_id)| Before {
        newest_id,
        switched,
        was_hit: verdict == "hit",
        incident_id,
    }))
}

/// Writes what is said of a merchant now.
pub(in super::super) fn put(conn: &mut Conn, row: &Kept) -> Result<(), db::Error> {
    let values = (
        merchant_switches::merchant_name.eq(&row.merchant_name),
        merchant_switches::org_path.eq(&row.org_path),
        merchant_switches::from_ms.eq(row.from_ms),
        merchant_switches::to_ms.eq(row.to_ms),
        merchant_switches::successful.eq(row.successful),
        merchant_switches::compared.eq(row.compared),
        merchant_switches::switched.eq(row.switched),
        merchant_switches::review.eq(row.review),
        merchant_switches::newest_id.eq(row.newest_id),
        merchant_switches::verdict.eq(&row.verdict),
        merchant_switches::missing.eq(&row.missing),
        merchant_switches::splits.eq(&row.splits),
        merchant_switches::incident_id.eq(row.incident_id),
    );
    let key = (merchant_switches::home.eq(&row.home), merchant_switches::merchant_no.eq(&row.merchant_no));
    on_backend!(conn, |c| diesel::insert_into(merchant_switches::table)
        .values((key, values))
        .on_conflict((merchant_switches::home, merchant_switches::merchant_no))
        .do_update()
        .set(values)
        .execute(c))?;
    Ok(())
}

/// Deletes what the round that began at `now` did not say; returns how many rows went. By `merchant_switches_by_time`.
pub(in super::super) fn delete_older(conn: &mut Conn, now: Now) -> Result<usize, db::Error> {
    let old: Vec<(String, String)> = merchant_switches::table
        .filter(merchant_switches::to_ms.lt(now.0))
        .order(merchant_switches::to_ms)
        .limit(DELETED_MAX)
        .select((merchant_switches::home, merchant_switches::merchant_no))
        .load(conn)?;
    for (home, merchant_no) in &old {
        diesel::delete(merchant_switches::table.find((home, merchant_no))).execute(conn)?;
    }
    Ok(old.len())
}

/// Merchants of the scope, those with the most payments that differ first. By `merchant_switches_by_org`.
pub(in super::super) fn list(conn: &mut Conn, scope: &Scope, limit: i64) -> Result<Vec<Kept>, db::Error> {
    Ok(merchant_switches::table
        .filter(merchant_switches::org_path.ge(scope.from()))
        .filter(merchant_switches::org_path.lt(scope.below()))
        .order((merchant_switches::switched.desc(), merchant_switches::merchant_no, merchant_switches::home))
        .limit(limit)
        .load(conn)?)
}
