//! What operators should be taught: their errors by store, compared with like stores, over the last four weeks.
//!
//! Errors are folded from stored failures by a cursor, attempts are taken from the terminals' counters once a day; both by
//! the store that the terminal was bound to then. Which answer of the host is an operator's error, and what to teach, is
//! data.

mod fold;
mod rates;
mod texts;

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tillward_protocol::FieldError;

pub use fold::{KEPT_WEEKS, fold, sweep};
pub use rates::{
    ATTEMPTS_MIN, Counts, ERRORS_MIN, Missing, OperatorError, PEER_ATTEMPTS_MIN, PEERS_MIN, RATIO_MIN, Verdict,
};
pub use texts::{provenance, teach};

pub(super) use fold::{Cursor, count_attempts};

use super::orders::{self, Kind};
use super::reason::Urgency;
use super::store::guidance as store;
use super::{Error, list};
use crate::audit::{Actor, Export};
use crate::clock::Now;
use crate::db::Conn;
use crate::operators::{Caller, Scope};

/// Weeks that are compared, the present one included.
pub const WEEKS: i64 = 4;
const WEEK_MS: i64 = 7 * 86_400_000;

/// Which stores.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this organization and all below it.
    pub organization_id: Option<i64>,
    /// With this verdict on any error.
    pub verdict: Option<String>,
}

impl Filter {
    /// What the audit log says when somebody takes the comparison of these stores along.
    pub fn export(&self, stores: usize) -> Export {
        let asked = [("guidance", json!(self.verdict)), ("organization_id", json!(self.organization_id))];
        Export::table("guidance.export", "operator-errors", &asked, Some(stores))
    }

    /// The filter of these names, as an address has them; an empty name does not narrow.
    ///
    /// # Errors
    /// [`FieldError`] for a verdict that is not known.
    pub fn of_names(verdict: &str) -> Result<Self, FieldError> {
        if !verdict.is_empty() && !Verdict::NAMES.contains(&verdict) {
            return Err(FieldError::new("verdict", "is not known"));
        }
        Ok(Self { verdict: Some(verdict.to_owned()).filter(|verdict| !verdict.is_empty()), ..Self::default() })
    }
}

/// One kind of error at a store.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
#[schema(as = OperatorErrorRate)]
pub struct ErrorRate {
    /// Which error.
    pub error: OperatorError,
    /// How often.
    pub errors: i64,
    /// Errors by attempt; absent without attempts.
    pub rate: Option<f64>,
    /// Lower end of its 99 % interval.
    pub rate_low: Option<f64>,
    /// Upper end.
    pub rate_high: Option<f64>,
    /// The rate of like stores, this one left out.
    pub usual_rate: Option<f64>,
    /// `above`, `usual` or `insufficient`.
    pub verdict: String,
    /// What is missing for a verdict.
    pub missing: Option<Missing>,
}

/// The errors at one store with one model.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct StoreGuidance {
    /// Organization, as a path.
    pub org_path: String,
    /// Merchant number; may be empty.
    pub merchant_no: String,
    /// Store's name; may be empty.
    pub store_name: String,
    /// Model code.
    pub model: String,
    /// Attempts in these weeks.
    pub attempts: i64,
    /// Like stores that it is compared with.
    pub like_stores: i64,
    /// Operators' errors of all kinds.
    pub errors: i64,
    /// `above` when one of the kinds is; `insufficient` when none can be told; else `usual`.
    pub verdict: String,
    /// By kind.
    pub by_error: Vec<ErrorRate>,
}

/// Where a page ends: how much its last store wants attention, and which it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key(i64, i64, String, String, String, String);

impl StoreGuidance {
    /// Where a page that ends with this store ends. Those above come first, then those with more errors.
    pub fn key(&self) -> Key {
        let rank = if self.verdict == "above" { 0 } else { 1 };
        let text = |text: &String| text.clone();
        Key(
            rank,
            -self.errors,
            text(&self.org_path),
            text(&self.merchant_no),
            text(&self.store_name),
            text(&self.model),
        )
    }
}

/// One store with one model, as it was counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct StoreCounts {
    pub org_path: String,
    pub merchant_no: String,
    pub store_name: String,
    pub model: String,
    pub attempts: i64,
    /// In the order of [`OperatorError::ALL`].
    pub errors: [i64; 5],
}

/// Stores of the scope with operators' errors, those that want attention first, after `after`.
///
/// Costs one pass over the rows of the scope in [`WEEKS`] weeks.
///
/// # Errors
/// [`Error::Field`] for an organization outside the scope; [`Error::Db`].
pub fn stores(
    conn: &mut Conn,
    scope: &Scope,
    filter: &Filter,
    after: Option<&Key>,
    size: u32,
    now: Now,
) -> Result<Vec<StoreGuidance>, Error> {
    let scope = list::narrowed(conn, scope, filter.organization_id)?;
    let counted = store::stores(conn, &scope, first_week(now)..=week(now.0))?;
    let mut totals: HashMap<&str, (i64, StoreCounts)> = HashMap::new();
    for row in &counted {
        let (stores, total) = totals.entry(row.model.as_str()).or_default();
        *stores += 1;
        total.attempts += row.attempts;
        total.errors.iter_mut().zip(row.errors).for_each(|(sum, n)| *sum += n);
    }
    let judged = counted.iter().filter(|row| row.errors.iter().any(|n| *n > 0)).map(|row| {
        let (stores, total) = totals.get(row.model.as_str()).cloned().unwrap_or_default();
        judge(row, &total, stores - 1)
    });
    let mut found: Vec<StoreGuidance> = judged
        .filter(|row| filter.verdict.as_ref().is_none_or(|verdict| row.verdict == *verdict))
        .filter(|row| after.is_none_or(|after| row.key() > *after))
        .collect();
    found.sort_by_cached_key(StoreGuidance::key);
    found.truncate(usize::try_from(size).unwrap_or(usize::MAX));
    Ok(found)
}

fn first_week(now: Now) -> i64 {
    week(now.0) - WEEKS + 1
}

/// Whole weeks since 1970.
pub(super) fn week(at_ms: i64) -> i64 {
    at_ms.div_euclid(WEEK_MS)
}

fn judge(row: &StoreCounts, total: &StoreCounts, like_stores: i64) -> StoreGuidance {
    let all = OperatorError::ALL.into_iter().zip(row.errors).zip(total.errors);
    let by_error: Vec<ErrorRate> = all
        .map(|((error, errors), sum)| {
            let own = Counts { attempts: row.attempts, errors };
            let others = Counts { attempts: total.attempts - row.attempts, errors: sum - errors };
            let verdict = rates::compare(own, others, like_stores);
            let (rate_low, rate_high) = own.interval().unzip();
            ErrorRate {
                error,
                errors,
                rate: own.rate(),
                rate_low,
                rate_high,
                usual_rate: others.rate(),
                verdict: verdict.as_str().to_owned(),
                missing: match verdict {
                    Verdict::Insufficient(missing) => Some(missing),
                    Verdict::Above | Verdict::Usual => None,
                },
            }
        })
        .collect();
    let has = |name: &str| by_error.iter().any(|rate| rate.verdict == name);
    let verdict = ["above", "insufficient"].into_iter().find(|name| has(name)).unwrap_or("usual");
    StoreGuidance {
        org_path: row.org_path.clone(),
        merchant_no: row.merchant_no.clone(),
        store_name: row.store_name.clone(),
        model: row.model.clone(),
        attempts: row.attempts,
        like_stores,
        errors: row.errors.iter().sum(),
        verdict: verdict.to_owned(),
        by_error,
    }
}

/// A store by what terminals say of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StoreOf {
    /// Organization, as a path.
    pub org_path: String,
    /// Merchant number; empty where terminals have none.
    #[serde(default)]
    pub merchant_no: String,
    /// Store's name; empty where terminals have none.
    #[serde(default)]
    pub store_name: String,
    /// What to teach, at most 2,000 characters.
    #[serde(default)]
    pub note: String,
}

/// Opens an order to teach the people of a store, at one of its terminals, and returns its number.
///
/// # Errors
/// [`Error::NotFound`] when no terminal of the scope is bound to such a store; else as [`orders::open`].
pub fn open_teaching(conn: &mut Conn, caller: &Caller, actor: &Actor, asked: &StoreOf, now: Now) -> Result<i64, Error> {
    let terminal_id = store::terminal_of(conn, &caller.scope, asked)?.ok_or(Error::NotFound)?;
    let new = orders::New {
        terminal_id,
        kind: Kind::TeachOperator,
        reason: None,
        note: asked.note.clone(),
        urgency: Some(Urgency::Soon),
        due_in_days: None,
        expected_firmware: None,
    };
    orders::open(conn, caller, actor, &new, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(name: &str, attempts: i64, pin: i64) -> StoreCounts {
        StoreCounts { store_name: name.to_owned(), attempts, errors: [0, pin, 0, 0, 0], ..StoreCounts::default() }
    }

    #[test]
    fn a_store_is_compared_with_the_others_and_not_with_itself() {
        let own = store("a", 500, 100);
        let total = StoreCounts { attempts: 5_500, errors: [0, 150, 0, 0, 0], ..StoreCounts::default() };
        let judged = judge(&own, &total, 10);
        let pin = &judged.by_error[1];
        assert_eq!((pin.usual_rate, pin.verdict.as_str(), judged.verdict.as_str()), (Some(0.01), "above", "above"));
        assert_eq!(judged.by_error[0].verdict, "usual");
        let alone = judge(&own, &own, 0);
        assert_eq!((alone.verdict.as_str(), alone.by_error[1].missing), ("insufficient", Some(Missing::Peers)));
        assert_eq!(alone.by_error[1].usual_rate, None);
    }

    #[test]
    fn those_above_come_first_and_then_those_with_more_errors() {
        let judged = |name, attempts, pin, above: bool| {
            let verdict = if above { "above" } else { "usual" };
            let mut row = judge(&store(name, attempts, pin), &StoreCounts::default(), 0);
            verdict.clone_into(&mut row.verdict);
            row
        };
        let mut rows = [judged("few", 10, 1, false), judged("many", 10, 9, false), judged("above", 10, 2, true)];
        rows.sort_by_cached_key(StoreGuidance::key);
        assert_eq!(rows.map(|row| row.store_name), ["above", "many", "few"]);
    }
}
