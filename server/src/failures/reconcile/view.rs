//! Payments and their counts as people see them. Coverage always stands beside the counts: what was not compared is never
//! called in order.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::store;
use crate::audit::Export;
use crate::clock::Now;
use crate::db::{self, Conn};
use crate::failures::classify::Judgement;
use crate::failures::feed::Result as Shows;
use crate::failures::feed::store::Transaction;
use crate::operators::Scope;

/// Longest time of one summary, days.
pub const DAYS_MAX: i64 = 396;
const DAY_MS: i64 = 86_400_000;

/// Which payments; what is empty or absent does not narrow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only those that show one of these.
    pub results: Vec<Shows>,
    /// Only of this channel.
    pub channel_id: Option<i64>,
    /// Only of this terminal.
    pub terminal_id: Option<i64>,
    /// Only of this serial number.
    pub sn: Option<String>,
    /// Only settled under this merchant number.
    pub merchant_no: Option<String>,
    /// At or after, Unix ms.
    pub from_ms: Option<i64>,
    /// Before, Unix ms.
    pub to_ms: Option<i64>,
}

impl Filter {
    /// What the audit log says when somebody takes these payments along. How many they are is known when they were sent.
    pub fn export(&self) -> Export {
        let shows: Vec<&str> = self.results.iter().map(|result| result.as_str()).collect();
        let asked = [
            ("shows", json!(shows)),
            ("channel_id", json!(self.channel_id)),
            ("terminal_id", json!(self.terminal_id)),
            ("sn", json!(self.sn)),
            ("merchant_no", json!(self.merchant_no)),
            ("from_ms", json!(self.from_ms)),
            ("to_ms", json!(self.to_ms)),
        ];
        Export::table("settlements.export", "settlements", &asked, None)
    }
}

/// One group of payments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// `processing`, `success` or `failure`.
    pub status: String,
    /// What they show.
    pub result: String,
    /// How many.
    pub rows: i64,
    /// Those whose merchant was compared.
    pub merchant_checked: i64,
    /// Those whose settled amount is known.
    pub money_known: i64,
    /// Those that the terminal reported, too.
    pub matched: i64,
    /// Those that show a fee: their differences, fen.
    pub fees_fen: i64,
}

/// How much of the settled payments was compared at one level of evidence: N of M.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = SettlementCoverage)]
pub struct Coverage {
    /// `L1` channel, `L2` UnionPay query, `L3` issuer's bill.
    pub level: String,
    /// Settled payments, M.
    pub total: i64,
    /// Those whose merchant was compared at this level, N.
    pub checked: i64,
}

/// What a time's payments show, and how much of them was compared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = SettlementSummary)]
pub struct Summary {
    /// From, Unix ms.
    pub from_ms: i64,
    /// To, Unix ms.
    pub to_ms: i64,
    /// Payments that channels told of.
    pub payments: i64,
    /// Settled ones.
    pub settled: i64,
    /// Those still under way: not compared yet.
    pub processing: i64,
    /// S1: failed by the channel.
    pub s1_failed: i64,
    /// S2: less arrived, and fees do not explain it.
    pub s2_short: i64,
    /// S3: one side alone knows them; also what terminals reported and no channel told of.
    pub s3_missing: i64,
    /// S4: settled under another merchant.
    pub s4_switched: i64,
    /// The difference is a fee: no fault.
    pub fees: i64,
    /// What those differences come to, fen.
    pub fees_fen: i64,
    /// Their merchant number waits for a person: no accusation.
    pub review: i64,
    /// Compared and in order.
    pub fine: i64,
    /// Not compared.
    pub unchecked: i64,
    /// Not looked at yet.
    pub waiting: i64,
    /// Settled payments whose settled amount is known.
    pub money_known: i64,
    /// Settled payments that the terminal reported, too.
    pub matched: i64,
    /// How much was compared, by level of evidence.
    pub coverage: Vec<Coverage>,
    /// What keeps merchants from being compared, with how often: `terminal`, `binding`, `merchant_no`.
    pub lacking: BTreeMap<String, i64>,
}

/// Counts and coverage of a time.
///
/// # Errors
/// [`db::Error`].
pub fn summary(conn: &mut Conn, scope: &Scope, from_ms: i64, to_ms: i64) -> Result<Summary, db::Error> {
    let mut summary = Summary { from_ms, to_ms, ..Summary::default() };
    let mut checked = 0;
    for group in store::counts(conn, scope, from_ms, to_ms)? {
        summary.payments += group.rows;
        match group.status.as_str() {
            "success" => {
                summary.settled += group.rows;
                summary.money_known += group.money_known;
                summary.matched += group.matched;
                summary.fees_fen += group.fees_fen;
                // What nobody has looked at is not checked, whatever it has.
                if group.result != Shows::Waiting.as_str() {
                    checked += group.merchant_checked;
                }
            }
            "processing" => {
                summary.processing += group.rows;
                continue;
            }
            _ => {}
        }
        let slot = match Shows::parse(&group.result) {
            Some(Shows::Failed) => &mut summary.s1_failed,
            Some(Shows::Short) => &mut summary.s2_short,
            Some(Shows::Missing) => &mut summary.s3_missing,
            Some(Shows::Switched) => &mut summary.s4_switched,
            Some(Shows::Fee) => &mut summary.fees,
            Some(Shows::Review) => &mut summary.review,
            Some(Shows::Fine) => &mut summary.fine,
            Some(Shows::Unchecked) => &mut summary.unchecked,
            Some(Shows::Waiting) | None => &mut summary.waiting,
        };
        *slot += group.rows;
    }
    let level = |level: &str, checked| Coverage { level: level.to_owned(), total: summary.settled, checked };
    summary.s3_missing += store::missing_at_channels(conn, scope, from_ms, to_ms)?;
    let looked_up = store::looked_up(conn, scope, from_ms, to_ms)?;
    let by_people = |name: &str| looked_up.get(name).copied().unwrap_or(0);
    summary.coverage = vec![level("L1", checked), level("L2", by_people("L2")), level("L3", by_people("L3"))];
    summary.lacking = store::lacking(conn, scope, from_ms, to_ms)?.into_iter().collect();
    Ok(summary)
}

/// The last `days` days.
pub fn last_days(days: i64, now: Now) -> (i64, i64) {
    (now.0 - days.clamp(1, DAYS_MAX) * DAY_MS, now.0 + DAY_MS)
}

/// One payment as a channel told it, with what it shows.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Settlement {
    /// Its number.
    pub id: i64,
    /// Channel that told it.
    pub channel_id: i64,
    /// Organization, as a path.
    pub org_path: String,
    /// Terminal, if it is registered.
    pub terminal_id: Option<i64>,
    /// Serial number.
    pub sn: String,
    /// When, Unix ms.
    pub at_ms: i64,
    /// `processing`, `success` or `failure`.
    pub status: String,
    /// Amount, fen.
    pub amount_fen: i64,
    /// What was settled, fen.
    pub settle_fen: Option<i64>,
    /// Fee, fen.
    pub fee_fen: Option<i64>,
    /// Fee for paying out, fen.
    pub withdraw_fen: Option<i64>,
    /// Orders inside: kind and amount in fen.
    #[schema(value_type = Object)]
    pub second_orders: Option<Value>,
    /// Rate, millionths.
    pub rate_ppm: Option<i64>,
    /// Merchant number that settled.
    pub merchant_no: Option<String>,
    /// Merchant name that settled.
    pub merchant_name: Option<String>,
    /// Category that cleared.
    pub mcc: Option<String>,
    /// Reference number.
    pub ref_no: Option<String>,
    /// How surely the terminal's own event was found: `none`, `weak`, `trace` or `ref`.
    pub match_quality: String,
    /// The terminal's number of that event.
    pub matched_event: Option<String>,
    /// What it shows.
    pub result: Shows,
    /// What keeps its merchant from being compared.
    pub lacking: Option<String>,
    /// How much it matters.
    pub severity: String,
    /// The import that brought it.
    pub import_id: Option<String>,
    /// When it came, Unix ms.
    pub received_at_ms: i64,
    /// Kinds of payment and order, response code, settlement date.
    #[schema(value_type = Object)]
    pub detail: Value,
}

impl From<Transaction> for Settlement {
    fn from(row: Transaction) -> Self {
        Self {
            // Only this program writes it, from the same type.
            result: Shows::parse(&row.result).unwrap_or(Shows::Waiting),
            second_orders: row.second_orders.and_then(|text| serde_json::from_str(&text).ok()),
            detail: serde_json::from_str(&row.detail).unwrap_or_default(),
            id: row.id,
            channel_id: row.channel_id,
            org_path: row.org_path,
            terminal_id: row.terminal_id,
            sn: row.sn,
            at_ms: row.at_ms,
            status: row.status,
            amount_fen: row.amount_fen,
            settle_fen: row.settle_fen,
            fee_fen: row.fee_fen,
            withdraw_fen: row.withdraw_fen,
            rate_ppm: row.rate_ppm,
            merchant_no: row.merchant_no,
            merchant_name: row.merchant_name,
            mcc: row.mcc,
            ref_no: row.ref_no,
            match_quality: row.match_quality,
            matched_event: row.matched_event,
            lacking: row.lacking,
            severity: row.severity,
            import_id: row.import_id,
            received_at_ms: row.received_at_ms,
        }
    }
}

/// Where a page of payments ends: when, number.
pub type SettlementKey = (i64, i64);

/// Payments of the scope, newest first.
///
/// # Errors
/// [`db::Error`].
pub fn list(
    conn: &mut Conn,
    scope: &Scope,
    filter: &Filter,
    after: Option<SettlementKey>,
    size: u32,
) -> Result<Vec<Settlement>, db::Error> {
    let rows = store::list(conn, scope, filter, after, i64::from(size))?;
    Ok(rows.into_iter().map(Settlement::from).collect())
}

/// One payment with why it was judged so.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct SettlementDetail {
    /// The payment.
    pub settlement: Settlement,
    /// What the rules said, if anything: verdict, reasons, what could not be checked.
    pub judgement: Option<Judgement>,
}

/// One payment; `None` when it is not the caller's.
///
/// # Errors
/// [`db::Error`].
pub fn find(conn: &mut Conn, scope: &Scope, id: i64) -> Result<Option<SettlementDetail>, db::Error> {
    let Some(row) = store::find(conn, scope, id)? else { return Ok(None) };
    let item = super::pass::item(row.id);
    let judgement = store::judgement(conn, row.terminal_id, &item)?;
    Ok(Some(SettlementDetail { settlement: row.into(), judgement }))
}
