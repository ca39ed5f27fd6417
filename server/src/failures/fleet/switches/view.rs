//! What is said of merchants, as people see it: how much was compared always stands beside how much differed.

use serde::{Deserialize, Serialize};

use super::super::statistics::{Z_95, as_f64, wilson};
use super::super::store::switches::{self as store, Kept};
use super::MERCHANTS_MAX;
use crate::db::{self, Conn};
use crate::operators::Scope;

/// A circumstance in which payments are settled under another number far more than elsewhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = MerchantSwitchSplit)]
pub struct SplitFound {
    /// `hour` of the local day, `amount`, `entry` (how it was paid, as the channel writes it) or `channel`.
    pub split: String,
    /// Which hour, band, way or channel.
    pub value: String,
    /// Payments compared there.
    pub compared: u64,
    /// Those that differed.
    pub switched: u64,
    /// How many times as often as elsewhere.
    pub ratio: f64,
    /// The p value, corrected for the number of circumstances (false discovery rate).
    pub p_adjusted: f64,
}

/// How much of a merchant's payments was compared, and how much of that was settled under another number. A pattern is to
/// be looked at and says nothing of who caused it.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct MerchantSwitches {
    /// The bound merchant number.
    pub merchant_no: String,
    /// Merchant's name.
    pub merchant_name: Option<String>,
    /// Path of the lowest organization that contains all of its payments.
    pub org_path: String,
    /// From, Unix ms.
    pub from_ms: i64,
    /// To, Unix ms: when it was judged.
    pub to_ms: i64,
    /// Successful payments that a channel or a terminal told of.
    pub successful: i64,
    /// Those whose merchant number was compared and decided on.
    pub compared: i64,
    /// Those settled under a number that is neither the bound one nor an alias.
    pub switched: i64,
    /// Those under numbers that wait for a person: not in `compared`.
    pub review: i64,
    /// `switched` of `compared`, 0 to 1; absent when nothing was compared.
    pub share: Option<f64>,
    /// Lower end of its 95 % interval (Wilson).
    pub share_low: Option<f64>,
    /// Upper end.
    pub share_high: Option<f64>,
    /// `compared` of `successful`, 0 to 1.
    pub coverage: f64,
    /// `hit`: a circumstance stands out. `clear`: none does in what was compared. `insufficient`: too little was compared.
    pub verdict: String,
    /// What it lacks to judge.
    pub missing: Option<String>,
    /// The circumstances that stand out.
    pub splits: Vec<SplitFound>,
    /// The incident that it became.
    pub incident_id: Option<i64>,
}

impl From<Kept> for MerchantSwitches {
    fn from(row: Kept) -> Self {
        let count = |n: i64| u64::try_from(n).unwrap_or(0);
        let (switched, compared) = (count(row.switched), count(row.compared));
        let interval = wilson(switched, compared, Z_95);
        Self {
            share: interval.map(|_| as_f64(switched) / as_f64(compared)),
            share_low: interval.map(|(low, _)| low),
            share_high: interval.map(|(_, high)| high),
            coverage: as_f64(compared) / as_f64(count(row.successful).max(1)),
            // Only this program writes it, from the same type.
            splits: serde_json::from_str(&row.splits).unwrap_or_default(),
            merchant_no: row.merchant_no,
            merchant_name: row.merchant_name,
            org_path: row.org_path,
            from_ms: row.from_ms,
            to_ms: row.to_ms,
            successful: row.successful,
            compared: row.compared,
            switched: row.switched,
            review: row.review,
            verdict: row.verdict,
            missing: row.missing,
            incident_id: row.incident_id,
        }
    }
}

/// Merchants of the scope with payments that were settled under another number, those with the most first, at most
/// [`MERCHANTS_MAX`], as of the latest round.
///
/// # Errors
/// [`db::Error`].
pub fn switches(conn: &mut Conn, scope: &Scope) -> Result<Vec<MerchantSwitches>, db::Error> {
    let limit = i64::try_from(MERCHANTS_MAX).unwrap_or(i64::MAX);
    Ok(store::list(conn, scope, limit)?.into_iter().map(MerchantSwitches::from).collect())
}
