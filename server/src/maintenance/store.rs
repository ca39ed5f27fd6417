//! SQL of maintenance.

pub(super) mod care;
pub(super) mod due;
pub(super) mod guidance;
pub(super) mod orders;
pub(super) mod passes;
pub(super) mod settings;

use crate::db;

/// Another writer was faster; the transaction is given up.
pub(super) fn raced() -> db::Error {
    db::Error::Query(diesel::result::Error::RollbackTransaction)
}
