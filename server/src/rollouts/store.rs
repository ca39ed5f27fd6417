//! SQL of rollouts.

pub(super) mod assignments;
pub(super) mod director;

use crate::db;

/// Rows that one statement of a pass reads or writes at most: some milliseconds, so that check-ins are never kept
/// waiting for long, and within SQLite's limit of bound parameters.
pub(super) const CHUNK: usize = 500;

/// Another writer was faster; the transaction is given up and the next pass looks anew.
pub(super) fn raced() -> db::Error {
    db::Error::Query(diesel::result::Error::RollbackTransaction)
}
