//! Payments: the short form of successful transactions, from terminals whose profile asks for them.
//!
//! Check-ins write them, exactly once; here they are read, matched by whoever reconciles, and deleted when too old. Where
//! no profile asks, there are none: then settlement at another merchant and missing records are "not checked". A payment is
//! of the organization that had its terminal when it came; whoever gets the terminal later does not see it.

pub mod http;
mod store;

use serde::Serialize;

use crate::clock::Now;
use crate::db::{self, Conn, Db};
use crate::operators::Scope;

/// Payments are kept this long, ms: 180 days, as failures.
pub const KEPT_MS: i64 = 180 * 86_400_000;
/// Rows deleted in one transaction: a few milliseconds.
const SWEPT_ROWS: i64 = 500;
/// Most payments that one question of a reconciliation gets: more would be no match anyway.
pub const CANDIDATES_MAX: i64 = 200;

/// One successful transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = StoredPayment)]
pub struct Payment {
    /// Terminal.
    pub terminal_id: i64,
    /// Its serial number.
    pub sn: String,
    /// The terminal's id of the event.
    pub event_id: String,
    /// Terminal clock, Unix ms.
    pub occurred_at_ms: i64,
    /// The same moment by the server's clock, as far as the terminal's error was measured, Unix ms.
    pub at_ms: i64,
    /// Server clock, Unix ms.
    pub received_at_ms: i64,
    /// Kind of transaction.
    pub transaction_type: String,
    /// Requested amount, fen.
    pub amount_fen: i64,
    /// Batch number.
    pub batch_no: Option<String>,
    /// Trace number.
    pub trace_no: Option<String>,
    /// Retrieval reference number.
    pub ref_no: Option<String>,
    /// Merchant number sent.
    pub merchant_no_sent: Option<String>,
    /// Terminal number sent.
    pub terminal_no_sent: Option<String>,
    /// Merchant number in the answer.
    pub merchant_no_resp: Option<String>,
    /// Organization that had the terminal then, as a path.
    pub org_path: String,
}

/// Which payments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only of this terminal.
    pub terminal_id: Option<i64>,
    /// Only with this reference number.
    pub ref_no: Option<String>,
    /// At or after, by the server's clock, Unix ms.
    pub from_ms: Option<i64>,
    /// Before, Unix ms.
    pub to_ms: Option<i64>,
}

/// Where a page of payments ends: at, terminal, event.
pub type PaymentKey = (i64, i64, String);

/// Payments of the scope's organizations, newest first, after `after`.
///
/// # Errors
/// [`db::Error`].
pub fn list(
    conn: &mut Conn,
    scope: &Scope,
    filter: &Filter,
    after: Option<&PaymentKey>,
    size: u32,
) -> Result<Vec<Payment>, db::Error> {
    store::list(conn, scope, filter, after, i64::from(size))
}

/// One payment of a terminal while an organization of the scope had it. One read by primary key.
///
/// # Errors
/// [`db::Error`].
pub fn find(conn: &mut Conn, scope: &Scope, terminal_id: i64, event_id: &str) -> Result<Option<Payment>, db::Error> {
    store::find(conn, scope, terminal_id, event_id)
}

/// Payments with this reference number from `from_ms` to before `to_ms`, oldest first, at most [`CANDIDATES_MAX`]. By
/// `payments_by_ref`.
///
/// # Errors
/// [`db::Error`].
pub fn by_ref_no(
    conn: &mut Conn,
    scope: &Scope,
    ref_no: &str,
    from_ms: i64,
    to_ms: i64,
) -> Result<Vec<Payment>, db::Error> {
    store::by_ref_no(conn, scope, ref_no, from_ms, to_ms)
}

/// A terminal's payments from `from_ms` to before `to_ms`, oldest first, at most [`CANDIDATES_MAX`]: trace, batch and
/// amount tell those of some minutes apart. By `payments_by_terminal`.
///
/// # Errors
/// [`db::Error`].
pub fn of_terminal(
    conn: &mut Conn,
    scope: &Scope,
    terminal_id: i64,
    from_ms: i64,
    to_ms: i64,
) -> Result<Vec<Payment>, db::Error> {
    store::of_terminal(conn, scope, terminal_id, from_ms, to_ms)
}

/// How many payments there are from `from_ms` to before `to_ms` of organizations in the scope, as they were then: the M
/// of "N of M checked". By `payments_by_org`.
///
/// # Errors
/// [`db::Error`].
pub fn count(conn: &mut Conn, scope: &Scope, from_ms: i64, to_ms: i64) -> Result<i64, db::Error> {
    store::count(conn, scope, from_ms, to_ms)
}

/// Deletes what is too old at `now`, in small transactions; returns how many rows went.
///
/// # Errors
/// [`db::Error`]; what was deleted before stays deleted.
pub async fn sweep(db: &Db, now: Now) -> Result<usize, db::Error> {
    let mut deleted = 0;
    loop {
        let step = db.write(move |conn| store::delete_old(conn, now.0 - KEPT_MS, SWEPT_ROWS)).await?;
        if step == 0 {
            return Ok(deleted);
        }
        deleted += step;
    }
}
