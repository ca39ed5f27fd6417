//! Folds failures and the terminals' counters into the weeks of stores. Each failure is counted once: the cursor moves in
//! the transaction of what it counted.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tillward_protocol::failure::OperatorAction;

use super::rates::{OperatorError, classify};
use super::{texts, week};
use crate::clock::Now;
use crate::db::{self, Conn, Db};
use crate::maintenance::store::care::Visit;
use crate::maintenance::store::guidance::{self as store, Failed, StoreKey};
use crate::maintenance::store::passes;

/// Name of the cursor.
const NAME: &str = "operator_errors";
/// Failures in one step: some milliseconds.
const STEP: i64 = 2_000;
/// A batch of check-ins commits within this of the moment that its failures bear, ms; what is younger waits.
const SETTLED_MS: i64 = 60_000;
/// Weeks of stores are kept so long: a year and a month.
pub const KEPT_WEEKS: i64 = 57;
const DAY_MS: i64 = 86_400_000;

/// Up to where failures are counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::maintenance) struct Cursor {
    pub received_at_ms: i64,
    pub terminal_id: i64,
    pub event_id: String,
}

/// The part of an event that says what the operator did.
#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    operator_action: Option<OperatorAction>,
}

/// One step; returns whether there is more to do at once. What failed before the first step is not counted, since nobody
/// counted the attempts.
///
/// # Errors
/// [`db::Error`]; the step is done again by the next call.
pub async fn fold(db: &Db, now: Now) -> Result<bool, db::Error> {
    let (cursor, version) = db.read(|conn| passes::cursor(conn, NAME)).await?.unzip();
    let cursor: Option<Cursor> = cursor.and_then(|text| serde_json::from_str(&text).ok());
    let Some(cursor) = cursor else {
        let first = Cursor { received_at_ms: now.0, ..Cursor::default() };
        let text = serde_json::to_string(&first).unwrap_or_default();
        db.write(move |conn| passes::move_cursor(conn, NAME, version, &text)).await?;
        return Ok(false);
    };
    let until_ms = now.0 - SETTLED_MS;
    let failed = db.read(move |conn| store::failed_after(conn, &cursor, until_ms, STEP)).await?;
    let Some(last) = failed.last().map(|failed| failed.key.clone()) else { return Ok(false) };
    let is_more = i64::try_from(failed.len()).is_ok_and(|n| n == STEP);
    let counted = count(&failed);
    db.write(move |conn| {
        let next = serde_json::to_string(&last).unwrap_or_default();
        // Else another server was faster, and has counted these.
        if passes::move_cursor(conn, NAME, version, &next)? {
            for (key, errors) in &counted {
                store::add(conn, key, 0, *errors)?;
            }
        }
        Ok::<_, db::Error>(())
    })
    .await?;
    Ok(is_more)
}

/// Errors by store, in the order of stores.
fn count(failed: &[Failed]) -> BTreeMap<StoreKey, [i64; 5]> {
    let mut counted: BTreeMap<StoreKey, [i64; 5]> = BTreeMap::new();
    for failed in failed {
        let said: Option<Said> = serde_json::from_str(&failed.event).ok();
        let code = failed.response_code.as_deref();
        let action = said.and_then(|said| said.operator_action);
        let error = classify(&failed.stage, code.and_then(texts::of_code), code.is_some(), action);
        let (Some(error), Some(key)) = (error, store_key(failed, failed.key.received_at_ms)) else { continue };
        let errors = counted.entry(key).or_default();
        for (known, n) in OperatorError::ALL.into_iter().zip(errors.iter_mut()) {
            *n += i64::from(known == error);
        }
    }
    counted
}

/// The store's week; none for a terminal that is bound to nobody.
fn store_key(failed: &Failed, at_ms: i64) -> Option<StoreKey> {
    StoreKey::of(
        week(at_ms),
        &failed.org_path,
        failed.merchant_no.as_deref(),
        failed.store_name.as_deref(),
        &failed.model,
    )
}

/// Adds what terminals did since they were counted last, once a day each. What one did before it was first seen here is not
/// counted: nobody knows when that was.
pub(in crate::maintenance) fn count_attempts(conn: &mut Conn, visits: &[Visit], now: Now) -> Result<(), db::Error> {
    let day = now.0.div_euclid(DAY_MS);
    let ids: Vec<i64> = visits.iter().filter(|visit| visit.check_ins > 0).map(|visit| visit.terminal_id).collect();
    let counted = store::counted(conn, &ids)?;
    let mut attempts: BTreeMap<StoreKey, i64> = BTreeMap::new();
    for visit in visits.iter().filter(|visit| visit.check_ins > 0) {
        match counted.get(&visit.terminal_id) {
            Some((known, _)) if *known == day => continue,
            Some((_, transactions)) => {
                let (merchant_no, store_name) = (visit.merchant_no.as_deref(), visit.store_name.as_deref());
                let key = StoreKey::of(week(now.0), &visit.org_path, merchant_no, store_name, &visit.model);
                let new = visit.transactions.saturating_sub(*transactions).max(0);
                if let Some(key) = key.filter(|_| new > 0) {
                    *attempts.entry(key).or_default() += new;
                }
            }
            None => {}
        }
        store::put_counted(conn, visit.terminal_id, day, visit.transactions, counted.contains_key(&visit.terminal_id))?;
    }
    for (key, attempts) in attempts {
        store::add(conn, &key, attempts, [0; 5])?;
    }
    Ok(())
}

/// Deletes weeks that are too old, in small transactions; returns how many rows went.
///
/// # Errors
/// [`db::Error`]; what was deleted before stays deleted.
pub async fn sweep(db: &Db, now: Now) -> Result<usize, db::Error> {
    let before = week(now.0) - KEPT_WEEKS;
    let mut deleted = 0;
    loop {
        let step = db.write(move |conn| store::delete_oldest(conn, before)).await?;
        if step == 0 {
            return Ok(deleted);
        }
        deleted += step;
    }
}
