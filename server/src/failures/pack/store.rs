//! SQL of evidence packs.

use std::collections::HashMap;

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Text;

use super::content::residual;
use super::{Filter, Pack, Settled};
use crate::db::schema::{channel_transactions, evidence_packs, feed_channels, verdicts};
use crate::db::{self, Conn};
use crate::failures::classify::Judgement;
use crate::failures::verdicts::Source;
use crate::operators::Scope;

/// How far a channel's record may be from the transaction, ms: a day.
const SETTLED_AWAY_MS: i64 = 86_400_000;
/// Records of one transaction: several channels may tell of it.
const SETTLED_MAX: i64 = 5;

type Columns = (String, i64, String, String, String, i64, String);

/// A pack with its content as it is stored; `None` when that cannot be read any more.
fn pack(row: Columns) -> Option<(Pack, String)> {
    let (id, terminal_id, event_id, sha256, created_by, created_at_ms, text) = row;
    let content = serde_json::from_str(&text).ok()?;
    Some((Pack { id, terminal_id, event_id, sha256, created_by, created_at_ms, content }, text))
}

/// Whose a pack is, as an expression: an index by organization would be taken for it, and all of them sorted by id.
const OWNER: &str = "evidence_packs.org_path || ''";

/// Packs of transactions of organizations in the scope.
macro_rules! within {
    ($scope:expr) => {
        evidence_packs::table
            .filter(sql::<Text>(OWNER).ge($scope.from()))
            .filter(sql::<Text>(OWNER).lt($scope.below()))
            .select((
                evidence_packs::id,
                evidence_packs::terminal_id,
                evidence_packs::event_id,
                evidence_packs::sha256,
                evidence_packs::created_by,
                evidence_packs::created_at_ms,
                evidence_packs::content,
            ))
    };
}

pub(super) fn insert(conn: &mut Conn, pack: &Pack, text: &str, org_path: &str) -> Result<(), db::Error> {
    diesel::insert_into(evidence_packs::table)
        .values((
            evidence_packs::id.eq(&pack.id),
            evidence_packs::org_path.eq(org_path),
            evidence_packs::terminal_id.eq(pack.terminal_id),
            evidence_packs::event_id.eq(&pack.event_id),
            evidence_packs::content.eq(text),
            evidence_packs::sha256.eq(&pack.sha256),
            evidence_packs::created_by.eq(&pack.created_by),
            evidence_packs::created_at_ms.eq(pack.created_at_ms),
        ))
        .execute(conn)?;
    Ok(())
}

/// A channel's record of a transaction.
pub(super) struct Found {
    id: i64,
    /// Organization of the channel, as a path.
    pub(super) home: String,
    pub(super) settled: Settled,
}

impl Found {
    /// Its key among the verdicts.
    pub(super) fn item(&self) -> String {
        format!("feed:{}", self.id)
    }
}

type SettledColumns = (
    (i64, String),
    (i64, String, i64, Option<i64>, Option<i64>, Option<i64>, Option<String>),
    (Option<i64>, Option<i64>, Option<String>, Option<String>, Option<String>),
);

/// Settled payments of a terminal that are this transaction: matched to it, or with its reference number and within a day
/// of it, of organizations in the scope. By `channel_transactions_by_terminal`.
pub(super) fn settled(
    conn: &mut Conn,
    scope: &Scope,
    terminal_id: i64,
    event_id: &str,
    ref_no: Option<&str>,
    at_ms: i64,
) -> Result<Vec<Found>, db::Error> {
    let rows: Vec<SettledColumns> = channel_transactions::table
        .inner_join(feed_channels::table.on(feed_channels::id.eq(channel_transactions::channel_id)))
        .filter(channel_transactions::terminal_id.eq(terminal_id))
        .filter(channel_transactions::org_path.ge(scope.from()))
        .filter(channel_transactions::org_path.lt(scope.below()))
        .filter(channel_transactions::at_ms.between(at_ms - SETTLED_AWAY_MS, at_ms + SETTLED_AWAY_MS))
        .filter(channel_transactions::status.eq("success"))
        .filter(
            channel_transactions::matched_event.eq(event_id).or(channel_transactions::ref_no.eq(ref_no.unwrap_or("-"))),
        )
        .order(channel_transactions::id)
        .limit(SETTLED_MAX)
        .select((
            (channel_transactions::id, feed_channels::org_path),
            (
                channel_transactions::at_ms,
                channel_transactions::match_quality,
                channel_transactions::amount_fen,
                channel_transactions::settle_fen,
                channel_transactions::fee_fen,
                channel_transactions::withdraw_fen,
                channel_transactions::second_orders,
            ),
            (
                channel_transactions::rate_ppm,
                channel_transactions::capped,
                channel_transactions::merchant_no,
                channel_transactions::merchant_name,
                channel_transactions::mcc,
            ),
        ))
        .load(conn)?;
    Ok(rows.into_iter().map(found).collect())
}

fn found(row: SettledColumns) -> Found {
    #[derive(serde::Deserialize)]
    struct Order {
        kind: String,
        amount_fen: i64,
    }
    let ((id, home), (at_ms, match_quality, amount_fen, settle_fen, fee_fen, withdraw_fen, orders), merchant) = row;
    let (rate_ppm, capped, merchant_no, merchant_name, mcc) = merchant;
    let says_second_orders = orders.is_some();
    let orders: Vec<Order> = orders.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let second_orders: Vec<(String, i64)> = orders.into_iter().map(|order| (order.kind, order.amount_fen)).collect();
    let settled = Settled {
        residual_fen: residual(amount_fen, settle_fen, fee_fen, withdraw_fen, &second_orders),
        at_ms,
        // By its reference number, where nobody has matched it yet.
        match_quality: if match_quality == "none" { "ref".to_owned() } else { match_quality },
        amount_fen,
        settle_fen,
        fee_fen,
        withdraw_fen,
        second_orders,
        says_second_orders,
        rate_ppm,
        capped: capped.map(|capped| capped == 1),
        merchant_no,
        merchant_name,
        mcc,
    };
    Found { id, home, settled }
}

/// What was said about settlements of a terminal, by item, each with the hash of the tables. By primary key.
pub(super) fn said(
    conn: &mut Conn,
    terminal_id: i64,
    items: &[String],
) -> Result<HashMap<String, (Judgement, String)>, db::Error> {
    let rows: Vec<(String, String, String)> = verdicts::table
        .filter(verdicts::source.eq(Source::Settlement.as_str()))
        .filter(verdicts::terminal_id.eq(terminal_id))
        .filter(verdicts::item.eq_any(items))
        .select((verdicts::item, verdicts::judgement, verdicts::tables_hash))
        .load(conn)?;
    let said = |(item, judgement, tables_hash): (String, String, String)| {
        Some((item, (serde_json::from_str::<Judgement>(&judgement).ok()?, tables_hash)))
    };
    Ok(rows.into_iter().filter_map(said).collect())
}

/// By `evidence_packs_by_event`.
pub(super) fn count(conn: &mut Conn, terminal_id: i64, event_id: &str) -> Result<i64, db::Error> {
    Ok(evidence_packs::table
        .filter(evidence_packs::terminal_id.eq(terminal_id))
        .filter(evidence_packs::event_id.eq(event_id))
        .count()
        .get_result(conn)?)
}

/// By primary key.
pub(super) fn find(conn: &mut Conn, scope: &Scope, id: &str) -> Result<Option<(Pack, String)>, db::Error> {
    let row = within!(scope).filter(evidence_packs::id.eq(id)).first::<Columns>(conn).optional()?;
    Ok(row.and_then(pack))
}

/// Newest first; ids grow with time. By `evidence_packs_by_event`, `evidence_packs_by_hash` or the primary key.
pub(super) fn list(
    conn: &mut Conn,
    scope: &Scope,
    filter: &Filter,
    before: Option<&str>,
    limit: i64,
) -> Result<Vec<Pack>, db::Error> {
    let mut query = within!(scope).into_boxed();
    if let Some(terminal_id) = filter.terminal_id {
        query = query.filter(evidence_packs::terminal_id.eq(terminal_id));
    }
    if let Some(event_id) = &filter.event_id {
        query = query.filter(evidence_packs::event_id.eq(event_id));
    }
    if let Some(sha256) = &filter.sha256 {
        query = query.filter(evidence_packs::sha256.eq(sha256));
    }
    if let Some(before) = before {
        query = query.filter(evidence_packs::id.lt(before));
    }
    let rows = query.order(evidence_packs::id.desc()).limit(limit).load::<Columns>(conn)?;
    Ok(rows.into_iter().filter_map(pack).map(|(pack, _)| pack).collect())
}

/// At most `limit` rows made before `before_ms`. By `evidence_packs_by_time`.
pub(super) fn delete_old(conn: &mut Conn, before_ms: i64, limit: i64) -> Result<usize, db::Error> {
    let oldest: Vec<String> = evidence_packs::table
        .filter(evidence_packs::created_at_ms.lt(before_ms))
        .order(evidence_packs::created_at_ms)
        .limit(limit)
        .select(evidence_packs::id)
        .load(conn)?;
    Ok(diesel::delete(evidence_packs::table.filter(evidence_packs::id.eq_any(oldest))).execute(conn)?)
}
