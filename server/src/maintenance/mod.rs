//! Maintenance: which terminals somebody should look at and why, the work orders for that, and what operators should be
//! taught.
//!
//! A pass judges every terminal by what its check-ins left ([`due`]) and keeps the findings. Work orders are opened by
//! people, by findings or by incidents; said to be done they wait for a check-in that proves it, and go on when it shows
//! the fault still. Nothing here locks, unbinds or changes a terminal. Locks are taken in this order: a pass's cursor, work
//! orders, what is kept of terminals, the audit log.

pub mod checklist;
pub mod due;
pub mod guidance;
pub mod http;
mod list;
pub mod orders;
mod place;
pub mod reason;
mod refresh;
mod rules;
mod store;
pub mod window;

use tillward_protocol::FieldError;

pub use list::{BLOCK_ROWS, Device, DueFilter, DueKey, DueTerminal, count_due, devices, devices_export, list_due};
pub use orders::{ForIncident, open_for_incident};
pub use reason::{Reason, Urgency};
pub use refresh::{ROUND_MS, refresh};
pub use rules::{ChecklistChange, RulesChange, RulesInForce, checklist, put_checklist, put_rules, rules_in_force};

use crate::clock::Now;
use crate::db::{self, Db};

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such thing, or the caller may not know.
    #[error("there is no such work order, terminal or organization")]
    NotFound,
    /// A field has an impossible value.
    #[error("{0}")]
    Field(#[from] FieldError),
    /// The state does not allow it.
    #[error(transparent)]
    Refused(#[from] orders::state::Refusal),
    /// There is one about the same thing.
    #[error("work order {0} about this is open already")]
    Exists(i64),
    /// Somebody changed it at the same moment.
    #[error("somebody changed this at the same moment; look at it again")]
    Raced,
    /// The database failed.
    #[error("the maintenance records could not be read or written")]
    Db(#[from] db::Error),
}

impl From<crate::terminals::Error> for Error {
    fn from(error: crate::terminals::Error) -> Self {
        match error {
            crate::terminals::Error::Db(error) => Self::Db(error),
            crate::terminals::Error::Invalid(error) => Self::Field(error),
            _ => Self::NotFound,
        }
    }
}

/// Deletes what is too old: work orders that were over long ago, and weeks of stores. Returns how many rows went.
///
/// # Errors
/// [`db::Error`]; what was deleted before stays deleted.
pub async fn sweep(db: &Db, now: Now) -> Result<usize, db::Error> {
    Ok(orders::sweep(db, now).await? + guidance::sweep(db, now).await?)
}
