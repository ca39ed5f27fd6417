//! What the director shall say to one terminal: a pure reading of the tables.

use super::store::director as store;
use crate::db::{self, Conn};

/// The row that a terminal's director document is made from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DirectorRow {
    /// Grows with every change of what follows; 0 while there was none.
    pub assignment_version: i64,
    /// What to install; empty = nothing.
    pub entries: Vec<OrderedTarget>,
}

/// One file to install, with what its signed conditions are made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderedTarget {
    /// Number of the assignment.
    pub assignment: i64,
    /// File for this terminal's model.
    pub target_name: String,
    /// Exact length, bytes.
    pub length_bytes: i64,
    /// Digest, hex.
    pub sha256: String,
    /// Component.
    pub component: String,
    /// Version that runs afterwards.
    pub firmware_version: String,
    /// Release counter.
    pub release_counter: i64,
    /// Smallest counter that may be updated from.
    pub min_from_counter: Option<i64>,
    /// JSON list of requirements, as the release has it.
    pub requires: String,
    /// JSON list of models, as the release has it.
    pub models: String,
}

/// What `terminal_id` is ordered to install now: its live assignment, offered or further, of a running rollout of a
/// published release. Two reads by index; an unknown terminal has an empty row.
///
/// # Errors
/// [`db::Error`].
pub fn director_order(conn: &mut Conn, terminal_id: i64) -> Result<DirectorRow, db::Error> {
    // The version first: read the other way round, a change in between would put old entries under a new version.
    let Some(assignment_version) = store::version(conn, terminal_id)? else { return Ok(DirectorRow::default()) };
    let entries = store::orders(conn, terminal_id)?.into_iter().map(ordered).collect();
    Ok(DirectorRow { assignment_version, entries })
}

fn ordered(row: store::OrderColumns) -> OrderedTarget {
    let (assignment, target_name, length_bytes, sha256, component, firmware_version, counter, least, requires, models) =
        row;
    OrderedTarget {
        assignment,
        target_name,
        length_bytes,
        sha256,
        component,
        firmware_version,
        release_counter: counter,
        min_from_counter: least,
        requires,
        models,
    }
}
