//! The channel feed: what channels say of payments, by callback and by file.
//!
//! A channel belongs to an organization, has a secret that its callbacks are signed with, and a saved mapping, because
//! every channel writes differently. A payment is known by its channel and number and comes in once, however often it is
//! told; what is under way is taken over when it ends. Nothing is judged here: see [`super::reconcile`].

mod callback;
mod channels;
pub mod fields;
pub mod http;
mod intake;
pub(in crate::failures) mod store;
mod told;
mod twins;

pub use callback::{SIGNATURE_HEADER, TIMESTAMP_HEADER, TIMESTAMP_WINDOW_S, Taken, receive, verify};
pub use channels::{Channel, CreatedChannel, NewChannel, create, delete, find, list, renew_secret};
pub use intake::Intake;
pub(in crate::failures) use twins::{spelled, told_twice};

use serde::{Deserialize, Serialize};

use crate::clock::Now;
use crate::db::{self, Db};

/// Payments are kept this long, ms: thirteen months.
pub const KEPT_MS: i64 = 396 * 86_400_000;
/// What the source of a channel's callbacks ends with.
pub const CALLBACK: &str = "/callback";

/// What a payment shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = SettlementResult)]
pub enum Result {
    /// Not looked at yet.
    Waiting,
    /// It cannot be compared; something is lacking.
    Unchecked,
    /// In order.
    Fine,
    /// The difference is a fee.
    Fee,
    /// Its merchant number waits for a person.
    Review,
    /// S1: it failed.
    Failed,
    /// S2: less arrived than was charged, and fees do not explain it.
    Short,
    /// S3: one side alone knows it.
    Missing,
    /// S4: it was settled under another merchant.
    Switched,
}

impl Result {
    /// Every result.
    pub const ALL: [Self; 9] = [
        Self::Waiting,
        Self::Unchecked,
        Self::Fine,
        Self::Fee,
        Self::Review,
        Self::Failed,
        Self::Short,
        Self::Missing,
        Self::Switched,
    ];

    /// Name in tables, URLs and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Unchecked => "unchecked",
            Self::Fine => "fine",
            Self::Fee => "fee",
            Self::Review => "review",
            Self::Failed => "failed",
            Self::Short => "short",
            Self::Missing => "missing",
            Self::Switched => "switched",
        }
    }

    /// The result of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|result| result.as_str() == name)
    }
}

/// Deletes payments that are too old, in small transactions, and returns how many went. Idempotent.
///
/// # Errors
/// [`db::Error`]; what was deleted before stays deleted.
pub async fn sweep(db: &Db, now: Now) -> std::result::Result<usize, db::Error> {
    let mut deleted = 0;
    loop {
        let step = db.write(move |conn| store::delete_old(conn, now.0 - KEPT_MS)).await?;
        if step == 0 {
            return Ok(deleted);
        }
        deleted += step;
    }
}
