//! What explains a halt: when a gate stops a rollout, the conditions under which payments failed then are added to its
//! incident. They are looked for beside the planner, never in its transaction, and within bounds of rows and time: the
//! brake waits for nothing.

use std::time::Duration;

use serde_json::{Value, json};

use super::explain::{Counts, Explanation, Hours, Overview};
use super::incidents::{self, Kind};
use super::localize::GAIN_MIN;
use super::question::Question;
use super::{store, watch};
use crate::clock::Now;
use crate::db::{self, Db};
use crate::operators::Scope;

/// Member of an incident's evidence with what was found: a list of one object, or one of the words below.
pub const LOCALIZED: &str = "localized";
/// Nothing stands out beyond what chance would bring.
pub const NOTHING: &str = "nothing";
/// There was too much to be looked through.
pub const TOO_MUCH: &str = "too_much";
/// A halt is explained within so long, ms: what failed then is past the window later.
const HALTED_MS: i64 = 2 * 3_600_000;
/// Windows, hours: the longest whose cells are few enough …
const HOURS: [u32; 3] = [24, 6, 1];
/// … with those that it is compared with: about a second of reading.
const CELLS_MAX: i64 = 300_000;
/// One look takes no longer.
const TIME_MAX: Duration = Duration::from_secs(20);

/// Adds to the incidents of halts what explains the failures of that time; returns to how many. Idempotent: what has its
/// explanation is left alone, also by several servers.
///
/// # Errors
/// [`db::Error`]; the next pass starts anew.
pub async fn explain_halts(db: &Db, now: Now) -> Result<usize, db::Error> {
    let kinds = [Kind::RolloutHalted, Kind::RolloutScopeStopped];
    let since_ms = now.0 - HALTED_MS;
    let halts = db.read(move |conn| incidents::lacking(conn, &kinds, LOCALIZED, since_ms)).await?;
    let mut explained = 0;
    for (id, org_path) in halts {
        let found = match tokio::time::timeout(TIME_MAX, look(db, Scope::subtree(org_path), now)).await {
            Ok(found) => found?.map_or_else(|| json!(TOO_MUCH), |(hours, overview)| told(hours, &overview)),
            Err(_) => json!(TOO_MUCH),
        };
        let added = db.write(move |conn| incidents::add_evidence(conn, id, LOCALIZED, found, now)).await?;
        explained += usize::from(added);
    }
    Ok(explained)
}

/// What explains the failures of the longest window that is small enough, with its hours; `None` where none is.
async fn look(db: &Db, scope: Scope, now: Now) -> Result<Option<(u32, Overview)>, db::Error> {
    db.read(move |conn| {
        for hours in HOURS {
            let from_ms = now.hour_ms() - i64::from(hours) * (super::BASELINE_WINDOWS + 1) * 3_600_000;
            if store::has_more_cells(conn, from_ms, CELLS_MAX)? {
                continue;
            }
            let question = Question { hours, ..Question::default() };
            let counts = Counts::read(conn, &scope, &question, Hours::Before, now)?;
            return Ok(Some((hours, counts.explain(conn, &scope, GAIN_MIN)?)));
        }
        Ok(None)
    })
    .await
}

/// The headline, as evidence has it.
fn told(hours: u32, overview: &Overview) -> Value {
    match overview.explanations.first() {
        Some(headline) => json!([row(hours, overview, headline)]),
        None => json!(NOTHING),
    }
}

fn row(hours: u32, overview: &Overview, headline: &Explanation) -> Value {
    json!({
        "conditions": watch::named(&headline.all_of),
        "failures": headline.failures,
        "exposures": headline.exposures,
        "expected": headline.expected,
        "lift": headline.lift,
        "lift_low": headline.lift_low,
        "lift_high": headline.lift_high,
        "coverage": headline.coverage,
        "affected": headline.terminals,
        "baseline": overview.mode,
        "hours": hours,
    })
}
