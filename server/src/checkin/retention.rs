//! Old rows go, in small transactions, so that check-ins go on meanwhile.

use super::store::{Cutoffs, delete_old};
use crate::clock::Now;
use crate::db::{self, Db};

const DAY_MS: i64 = 86_400_000;
/// Conditions over time are kept this long.
pub const SAMPLES_KEPT_MS: i64 = 30 * DAY_MS;
/// Failures are kept this long.
pub const FAILURES_KEPT_MS: i64 = 180 * DAY_MS;
/// Cohort cells are kept this long: thirteen months, to compare with last year's month.
pub const CELLS_KEPT_MS: i64 = 396 * DAY_MS;
/// Rows of each table in one transaction: a few milliseconds.
const ROWS: i64 = 500;

/// Deletes what is too old at `now`; returns how many rows went. Idempotent, may be stopped at any point.
///
/// # Errors
/// [`db::Error`]; what was deleted before stays deleted.
pub async fn sweep(db: &Db, now: Now) -> Result<usize, db::Error> {
    let cutoffs = Cutoffs {
        samples_ms: now.0 - SAMPLES_KEPT_MS,
        failures_ms: now.0 - FAILURES_KEPT_MS,
        cells_ms: now.0 - CELLS_KEPT_MS,
    };
    let mut deleted = 0;
    loop {
        let step = db.write(move |conn| delete_old(conn, cutoffs, ROWS)).await?;
        if step == 0 {
            return Ok(deleted);
        }
        deleted += step;
    }
}
