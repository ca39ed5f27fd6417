//! Failures: the events themselves with the conditions they happened under, which conditions explain a rise, and the
//! incidents under which people deal with them.

pub mod advice;
mod cells;
pub mod cells_file;
pub mod classify;
mod contracts;
mod explain;
pub mod feed;
pub mod fleet;
pub mod halts;
pub mod http;
pub mod imported;
pub mod incidents;
pub mod localize;
pub mod lookups;
mod once;
mod onset;
pub mod pack;
mod question;
pub mod reconcile;
mod store;
pub mod verdicts;
mod watch;

use serde::Serialize;

use crate::db::{self, Conn};
use crate::operators::Scope;
pub(crate) use cells::ATTRIBUTES;
use classify::{Cause, Symptom};
pub use explain::{
    BASELINE_WINDOWS, Condition, Explanation, FailingTerminal, Overview, WithoutOne, explain, export_cells, overview,
};
pub use question::{Class, Group, Only, Question, all_but, exactly, unwanted};
use verdicts::{VerdictFilter, VerdictView};
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
    /// How an organization told of it, before the terminal did or in its place: `rest` or `file`.
    pub source: Option<String>,
    /// The whole event as the terminal sent it; where nobody but an organization told of it, as that did.
    #[schema(value_type = Object)]
    pub event: serde_json::Value,
    /// What the organization had told, where the terminal reported the failure later by itself.
    #[schema(value_type = Option<Object>)]
    pub told: Option<serde_json::Value>,
    /// What the rules say about it; absent while it is not judged yet.
    pub verdict: Option<VerdictView>,
    /// Organization that had the terminal then, as a path.
    pub org_path: String,
}

/// Which failures.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only of this terminal.
    pub terminal_id: Option<i64>,
    /// Only the event of this id.
    pub event_id: Option<String>,
    /// Received at or after, Unix ms.
    pub from_ms: Option<i64>,
    /// Only with this response code.
    pub response_code: Option<String>,
    /// Only at this stage.
    pub stage: Option<String>,
    /// Only under this firmware.
    pub firmware: Option<String>,
    /// Only with a verdict of this cause.
    pub cause: Option<Cause>,
    /// Only with a verdict of this symptom.
    pub symptom: Option<Symptom>,
}

/// Where a page of failures ends: received at, terminal, event.
pub type FailureKey = (i64, i64, String);

/// Failures of the scope's organizations, as they were then, newest first, after `after`.
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
    let found = if filter.cause.is_none() && filter.symptom.is_none() {
        store::list(conn, scope, filter, after, i64::from(size))?
    } else {
        let by_verdict = VerdictFilter {
            cause: filter.cause,
            symptom: filter.symptom,
            response_code: filter.response_code.clone(),
            terminal_id: filter.terminal_id,
            from_ms: filter.from_ms,
            stage: filter.stage.clone(),
            firmware: filter.firmware.clone(),
        };
        let keys = verdicts::keys(conn, scope, &by_verdict, after, size)?;
        store::by_keys(conn, scope, &keys)?
    };
    let of: Vec<verdicts::Of<'_>> = found
        .iter()
        .map(|row| (row.terminal_id, row.event_id.as_str(), row.org_path.as_str(), row.response_code.as_deref()))
        .collect();
    let verdicts = verdicts::attach(conn, &of)?;
    let rows = found.into_iter().zip(verdicts).map(|(row, verdict)| FailureRow { verdict, ..row });
    Ok(rows.collect())
}

/// One failure of a terminal while an organization of the scope had it, with its verdict. One read by primary key, and its verdict's.
///
/// # Errors
/// [`db::Error`].
pub fn find(conn: &mut Conn, scope: &Scope, terminal_id: i64, event_id: &str) -> Result<Option<FailureRow>, db::Error> {
    let filter = Filter { terminal_id: Some(terminal_id), event_id: Some(event_id.to_owned()), ..Filter::default() };
    Ok(list(conn, scope, &filter, None, 1)?.into_iter().next())
}
