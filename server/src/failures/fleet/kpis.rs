//! The fleet in a few numbers. What a customer's card or PIN was refused for is not the fleet's failure and is not in them.

use serde::Serialize;

use super::store;
use super::{DAY_MS, HOUR_MS};
use crate::clock::Now;
use crate::db::{self, Conn};
use crate::operators::Scope;

/// Payments and failures of this time, ms.
const PAYMENTS_MS: i64 = DAY_MS;
/// Incidents of this time, ms.
const INCIDENTS_MS: i64 = 30 * DAY_MS;
/// Cards that end within this time are counted, ms.
const CARDS_MS: i64 = 30 * DAY_MS;

/// The numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = FleetKpis)]
pub struct Kpis {
    /// Payments of the last 24 hours that were successful.
    pub payments_ok: i64,
    /// Those that failed technically: the outcomes of the class `technical`.
    pub payments_failed: i64,
    /// Failures of the last 24 hours on which the rules came to a verdict …
    pub judged: i64,
    /// … and those whose verdict names a cause.
    pub explained: i64,
    /// Terminals in use that call as they should …
    pub online: i64,
    /// … of those that were heard within 24 hours.
    pub in_use: i64,
    /// Incidents opened in the last 30 days of which it is known when the first failure of their cause came in: rises of
    /// failures, and outages of banks, areas and carriers.
    pub detected: i64,
    /// Mean time to detect those (MTTD), ms: from that first failure, by the server's clock, to the opening of the incident.
    /// Of a rise among usual failures the first is the one from which on they were more than expected. What a channel's
    /// file tells weeks later, and what has no failures of its own, is not in it.
    pub detect_mean_ms: Option<i64>,
    /// Incidents resolved in the last 30 days.
    pub resolved: i64,
    /// Mean time from the opening to the resolution of those, ms.
    pub repair_mean_ms: Option<i64>,
    /// Cards that end within 30 days.
    pub cards_ending: i64,
}

/// The numbers of the scope. Costs as many rows of cells as there were in a day, hour by hour.
///
/// # Errors
/// [`db::Error`].
pub fn kpis(conn: &mut Conn, scope: &Scope, now: Now) -> Result<Kpis, db::Error> {
    let (online, in_use) = store::kpis::online(conn, scope, now.0 - DAY_MS, now)?;
    let (resolved, repair_mean_ms) = store::kpis::repaired(conn, scope, now.0 - INCIDENTS_MS)?;
    let (detected, detect_mean_ms) = store::kpis::detected(conn, scope, now.0 - INCIDENTS_MS)?;
    let mut kpis = Kpis {
        payments_ok: 0,
        payments_failed: 0,
        judged: 0,
        explained: 0,
        online,
        in_use,
        detected,
        detect_mean_ms,
        resolved,
        repair_mean_ms,
        cards_ending: store::kpis::cards_ending(conn, scope, now.0, now.0 + CARDS_MS)?,
    };
    let mut hour_ms = now.hour_ms() + HOUR_MS - PAYMENTS_MS;
    while hour_ms <= now.hour_ms() {
        for part in store::window::cohorts_of(conn, hour_ms)? {
            kpis.payments_ok += store::kpis::payments_ok(conn, scope, hour_ms, part)?;
            kpis.payments_failed += store::kpis::payments_failed(conn, scope, hour_ms, part)?;
        }
        let (judged, explained) = store::kpis::explained(conn, scope, hour_ms)?;
        kpis.judged += judged;
        kpis.explained += explained;
        hour_ms += HOUR_MS;
    }
    Ok(kpis)
}
