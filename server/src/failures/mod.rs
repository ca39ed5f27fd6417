//! Failures: the events themselves with the conditions they happened under, which conditions explain a rise, and the
//! incidents under which people deal with them.

mod cells;
pub mod cells_file;
mod explain;
pub mod http;
pub mod incidents;
pub mod localize;
mod store;
mod watch;

use serde::Serialize;

use crate::db::{self, Conn};
use crate::operators::Scope;
pub(crate) use cells::ATTRIBUTES;
pub use explain::{
    BASELINE_WINDOWS, Condition, Explanation, FailingTerminal, Overview, Question, WithoutOne, cells_csv, explain,
    overview,
};
pub use watch::{Found, WATCH_INTERVAL_MS, found, sweep, watch};

/// Longest window of an overview, hours (four weeks).
pub const WINDOW_HOURS_MAX: u32 = 672;
/// One failed transaction, with the condition it happened under.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct FailureRow {
    /// Terminal.
    pub terminal_id: i64,
    /// Its serial number.
    pub sn: String,
    /// The terminal's id of the event.
    pub event_id: String,
    /// Terminal clock, Unix ms.
    pub occurred_at_ms: i64,
    /// Server clock, Unix ms.
    pub received_at_ms: i64,
    /// How far the transaction got.
    pub stage: String,
    /// Response code, if the host answered.
    pub response_code: Option<String>,
    /// Kind of transaction.
    pub transaction_type: String,
    /// Requested amount, fen.
    pub amount_fen: Option<i64>,
    /// Firmware at that moment.
    pub firmware: String,
    /// Config hash at that moment.
    pub config_hash: Option<String>,
    /// Access type at that moment.
    pub access: String,
    /// Carrier at that moment.
    pub carrier: String,
    /// Signal band at that moment.
    pub signal: String,
    /// The whole event as the terminal sent it.
    #[schema(value_type = Object)]
    pub event: serde_json::Value,
}

/// Which failures.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only of this terminal.
    pub terminal_id: Option<i64>,
    /// Received at or after, Unix ms.
    pub from_ms: Option<i64>,
    /// Only with this response code.
    pub response_code: Option<String>,
    /// Only at this stage.
    pub stage: Option<String>,
    /// Only under this firmware.
    pub firmware: Option<String>,
}

/// Where a page of failures ends: received at, terminal, event.
pub type FailureKey = (i64, i64, String);

/// Failures within the scope, newest first, after `after`.
///
/// # Errors
/// [`db::Error`].
pub fn list(
    conn: &mut Conn,
    scope: &Scope,
    filter: &Filter,
    after: Option<&FailureKey>,
    size: u32,
) -> Result<Vec<FailureRow>, db::Error> {
    store::list(conn, scope, filter, after, i64::from(size))
}
