//! SQL of channels and their payments.

use std::collections::HashMap;

use diesel::prelude::*;

use super::Channel;
use crate::clock::Now;
use crate::db::schema::{channel_transactions, feed_channels};
use crate::db::{self, Conn};
use crate::on_backend;
use crate::operators::Scope;

/// Rows of one insert: below SQLite's 32,766 parameters.
const INSERTED_MAX: usize = 500;
/// Payments that may be those of one block: each of its rows would have ten.
const NEAR_MAX: i64 = 5_000;
/// Rows deleted in one transaction.
const DELETED_MAX: i64 = 2_000;

/// A row of `channel_transactions`.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Insertable)]
#[diesel(table_name = channel_transactions)]
pub(in crate::failures) struct Transaction {
    pub id: i64,
    pub channel_id: i64,
    pub org_path: String,
    pub ref_key: String,
    pub digest: String,
    pub terminal_id: Option<i64>,
    pub sn: String,
    pub at_ms: i64,
    pub status: String,
    pub amount_fen: i64,
    pub settle_fen: Option<i64>,
    pub fee_fen: Option<i64>,
    pub withdraw_fen: Option<i64>,
    pub second_orders: Option<String>,
    pub rate_ppm: Option<i64>,
    pub capped: Option<i64>,
    pub merchant_no: Option<String>,
    pub merchant_name: Option<String>,
    pub mcc: Option<String>,
    pub ref_no: Option<String>,
    pub trace_no: Option<String>,
    pub batch_no: Option<String>,
    pub detail: String,
    pub import_id: Option<String>,
    pub received_at_ms: i64,
    pub match_quality: String,
    pub matched_event: Option<String>,
    pub result: String,
    pub lacking: Option<String>,
    pub severity: String,
    pub due_ms: Option<i64>,
}

impl Transaction {
    /// Outcome under which it is counted among the failures: `code:91`; none for what did not fail.
    pub(in crate::failures) fn outcome(&self) -> Option<String> {
        if self.status != "failure" {
            return None;
        }
        let detail: serde_json::Value = serde_json::from_str(&self.detail).unwrap_or_default();
        let code = detail.get("response_code").and_then(|code| code.as_str());
        Some(code.map_or_else(|| "channel:failure".to_owned(), |code| format!("code:{code}")))
    }
}

/// Where a known payment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// In the block that is being taken in.
    New,
    /// In the table, under this number.
    Stored(i64),
}

/// What is known of a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub kept: Kept,
    pub payment: Transaction,
}

impl Known {
    pub(super) fn new(payment: &Transaction) -> Self {
        Self { kept: Kept::New, payment: payment.clone() }
    }

    /// Whether a row says more than is known: anything else, but never that what has ended is under way again.
    pub(super) fn is_news(&self, payment: &Transaction) -> bool {
        let known = &self.payment;
        known.digest != payment.digest && (payment.status != "processing" || known.status == "processing")
    }
}

/// Payments of these keys. By the unique index on channel and key.
pub(super) fn known(conn: &mut Conn, channel_id: i64, keys: &[&str]) -> Result<HashMap<String, Known>, db::Error> {
    let rows: Vec<Transaction> = channel_transactions::table
        .filter(channel_transactions::channel_id.eq(channel_id))
        .filter(channel_transactions::ref_key.eq_any(keys))
        .load(conn)?;
    let known = |payment: Transaction| (payment.ref_key.clone(), Known { kept: Kept::Stored(payment.id), payment });
    Ok(rows.into_iter().map(known).collect())
}

/// Whether payments of a channel are kept under keys that begin with a letter; `below` is the next one. Letters, because
/// databases sort other characters each in its own way. By the unique index on channel and key.
pub(super) fn has_keys(conn: &mut Conn, channel_id: i64, letter: &str, below: &str) -> Result<bool, db::Error> {
    let found: Option<i64> = channel_transactions::table
        .filter(channel_transactions::channel_id.eq(channel_id))
        .filter(channel_transactions::ref_key.ge(letter))
        .filter(channel_transactions::ref_key.lt(below))
        .select(channel_transactions::id)
        .first(conn)
        .optional()?;
    Ok(found.is_some())
}

/// Where payments are looked for whose keys are not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::failures) struct Near {
    /// Of this channel alone.
    pub channel_id: Option<i64>,
    /// Of these terminals …
    pub terminals: Vec<i64>,
    /// … in this time, Unix ms …
    pub from_ms: i64,
    pub to_ms: i64,
    /// … at one of these moments, Unix ms, or with one of these numbers.
    pub moments: Vec<i64>,
    pub refs: Vec<String>,
    pub traces: Vec<String>,
}

/// Payments that may be meant, at most [`NEAR_MAX`]. By `channel_transactions_by_terminal`.
pub(in crate::failures) fn near(conn: &mut Conn, near: &Near) -> Result<Vec<Transaction>, db::Error> {
    let mut query = channel_transactions::table
        .filter(channel_transactions::terminal_id.eq_any(&near.terminals))
        .filter(channel_transactions::at_ms.ge(near.from_ms))
        .filter(channel_transactions::at_ms.le(near.to_ms))
        .filter(
            channel_transactions::at_ms
                .eq_any(&near.moments)
                .or(channel_transactions::ref_no.eq_any(&near.refs))
                .or(channel_transactions::trace_no.eq_any(&near.traces)),
        )
        .into_boxed();
    if let Some(channel_id) = near.channel_id {
        query = query.filter(channel_transactions::channel_id.eq(channel_id));
    }
    Ok(query.order(channel_transactions::id).limit(NEAR_MAX).load(conn)?)
}

/// New payments, a statement for each [`INSERTED_MAX`].
pub(super) fn insert(conn: &mut Conn, new: &[Transaction]) -> Result<(), db::Error> {
    for rows in new.chunks(INSERTED_MAX) {
        on_backend!(conn, |c| diesel::insert_into(channel_transactions::table).values(rows).execute(c))?;
    }
    Ok(())
}

/// What a channel says now of a payment that is known; it is looked at anew when it is due. What it shows stays until then:
/// by that it is known which payments were judged and counted before.
pub(super) fn update(conn: &mut Conn, id: i64, payment: &Transaction) -> Result<(), db::Error> {
    diesel::update(channel_transactions::table.find(id))
        .set((
            channel_transactions::digest.eq(&payment.digest),
            channel_transactions::org_path.eq(&payment.org_path),
            channel_transactions::terminal_id.eq(payment.terminal_id),
            channel_transactions::sn.eq(&payment.sn),
            channel_transactions::at_ms.eq(payment.at_ms),
            channel_transactions::status.eq(&payment.status),
            channel_transactions::amount_fen.eq(payment.amount_fen),
            channel_transactions::settle_fen.eq(payment.settle_fen),
            channel_transactions::fee_fen.eq(payment.fee_fen),
            channel_transactions::withdraw_fen.eq(payment.withdraw_fen),
            channel_transactions::second_orders.eq(&payment.second_orders),
            channel_transactions::rate_ppm.eq(payment.rate_ppm),
            channel_transactions::capped.eq(payment.capped),
            channel_transactions::merchant_no.eq(&payment.merchant_no),
            channel_transactions::merchant_name.eq(&payment.merchant_name),
            channel_transactions::mcc.eq(&payment.mcc),
        ))
        .execute(conn)?;
    diesel::update(channel_transactions::table.find(id))
        .set((
            channel_transactions::ref_no.eq(&payment.ref_no),
            channel_transactions::trace_no.eq(&payment.trace_no),
            channel_transactions::batch_no.eq(&payment.batch_no),
            channel_transactions::detail.eq(&payment.detail),
            channel_transactions::import_id.eq(&payment.import_id),
            channel_transactions::received_at_ms.eq(payment.received_at_ms),
            channel_transactions::due_ms.eq(payment.due_ms),
        ))
        .execute(conn)?;
    Ok(())
}

/// A channel with its secret.
#[derive(Debug, Clone, Queryable, Insertable)]
#[diesel(table_name = feed_channels)]
pub(super) struct StoredChannel {
    pub id: i64,
    pub organization_id: i64,
    pub org_path: String,
    pub name: String,
    pub secret: String,
    pub created_by: String,
    pub created_at_ms: i64,
    pub last_row_at_ms: Option<i64>,
    pub deleted_at_ms: Option<i64>,
}

impl From<StoredChannel> for Channel {
    fn from(row: StoredChannel) -> Self {
        Self {
            callback_path: format!("/channel/v1/{}/transactions", row.id),
            id: row.id,
            organization_id: row.organization_id,
            org_path: row.org_path,
            name: row.name,
            created_by: row.created_by,
            created_at_ms: row.created_at_ms,
            last_row_at_ms: row.last_row_at_ms,
        }
    }
}

/// A channel more.
pub(super) fn insert_channel(conn: &mut Conn, channel: &StoredChannel) -> Result<(), db::Error> {
    diesel::insert_into(feed_channels::table).values(channel).execute(conn)?;
    Ok(())
}

/// By primary key, within the scope; deleted ones are not there.
pub(super) fn channel(conn: &mut Conn, scope: &Scope, id: i64) -> Result<Option<StoredChannel>, db::Error> {
    Ok(feed_channels::table
        .find(id)
        .filter(feed_channels::org_path.ge(scope.from()))
        .filter(feed_channels::org_path.lt(scope.below()))
        .filter(feed_channels::deleted_at_ms.is_null())
        .first(conn)
        .optional()?)
}

/// By `feed_channels_by_org`.
pub(super) fn channels(
    conn: &mut Conn,
    scope: &Scope,
    after: Option<i64>,
    limit: i64,
) -> Result<Vec<StoredChannel>, db::Error> {
    Ok(feed_channels::table
        .filter(feed_channels::org_path.ge(scope.from()))
        .filter(feed_channels::org_path.lt(scope.below()))
        .filter(feed_channels::deleted_at_ms.is_null())
        .filter(feed_channels::id.gt(after.unwrap_or(0)))
        .order(feed_channels::id)
        .limit(limit)
        .load(conn)?)
}

/// Of one organization alone.
pub(super) fn count_channels(conn: &mut Conn, org_path: &str) -> Result<i64, db::Error> {
    let channels = feed_channels::table
        .filter(feed_channels::org_path.eq(org_path))
        .filter(feed_channels::deleted_at_ms.is_null());
    Ok(channels.count().get_result(conn)?)
}

/// A new secret.
pub(super) fn set_secret(conn: &mut Conn, id: i64, secret: &str) -> Result<(), db::Error> {
    diesel::update(feed_channels::table.find(id)).set(feed_channels::secret.eq(secret)).execute(conn)?;
    Ok(())
}

/// Its secret goes at once; its payments stay.
pub(super) fn delete_channel(conn: &mut Conn, id: i64, now: Now) -> Result<(), db::Error> {
    diesel::update(feed_channels::table.find(id))
        .set((feed_channels::secret.eq(""), feed_channels::deleted_at_ms.eq(now.0)))
        .execute(conn)?;
    Ok(())
}

/// Notes that rows came.
pub(super) fn touch(conn: &mut Conn, id: i64, now: Now) -> Result<(), db::Error> {
    diesel::update(feed_channels::table.find(id)).set(feed_channels::last_row_at_ms.eq(now.0)).execute(conn)?;
    Ok(())
}

/// Deletes payments that came before `before_ms`; returns how many went. By `channel_transactions_by_time`.
pub(super) fn delete_old(conn: &mut Conn, before_ms: i64) -> Result<usize, db::Error> {
    let old: Vec<i64> = channel_transactions::table
        .filter(channel_transactions::received_at_ms.lt(before_ms))
        .order(channel_transactions::received_at_ms)
        .limit(DELETED_MAX)
        .select(channel_transactions::id)
        .load(conn)?;
    Ok(diesel::delete(channel_transactions::table.filter(channel_transactions::id.eq_any(old))).execute(conn)?)
}
