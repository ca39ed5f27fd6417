//! Which terminals are due, and why: each reason with what was observed and the threshold it crossed. Pure.
//!
//! A signal that a terminal does not report is not available, and never healthy: what was found before stays until the
//! signal is seen again. Thresholds are an organization's own data; the defaults are ours, from the field's habits.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tillward_protocol::FieldError;
use tillward_protocol::checkin::Tamper;

use super::place;
use super::reason::{Reason, Urgency};
use super::window::Windows;

const DAY_MS: i64 = 86_400_000;
/// Models or tags that have an interval of their own, at most: more are no longer read by anybody.
const INTERVALS_MAX: usize = 100;
/// Longest interval and dormancy, days.
const DAYS_MAX: u32 = 3_650;
/// An inspection that is overdue by half of its interval is no longer for the next visit.
const OVERDUE_PERCENT: i64 = 150;

/// Thresholds of one organization.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = MaintenanceRules)]
pub struct Rules {
    /// Days between inspections. PCI DSS 9.5.1.2 wants periodic ones, 9.5.1.2.1 their frequency by risk analysis.
    pub inspection_days: u32,
    /// The same for some models.
    pub inspection_days_by_model: BTreeMap<String, u32>,
    /// The same for terminals with a tag, by which a risk class is told; the shortest that applies counts.
    pub inspection_days_by_tag: BTreeMap<String, u32>,
    /// Days without a call after which the merchant is called: the coin cell drains.
    pub dormant_days: u32,
    /// Days after which that cannot wait.
    pub dormant_now_days: u32,
    /// Share of errors of reader, printer and battery above which they are suspect, percent.
    pub error_percent: u32,
    /// Least tries or check-ins that a share is made from.
    pub error_tries_min: u32,
    /// Battery at or below this counts as low, percent.
    pub battery_percent_min: u32,
    /// Coin cell below this is low, mV. Lithium cells have 3,000 mV when new.
    pub coin_mv_min: u32,
    /// Coin cell below this cannot wait, mV.
    pub coin_mv_now: u32,
    /// Days before an expiry at which it is planned, soon, and cannot wait.
    pub expiry_days: [u32; 3],
    /// Distance from the place of the last inspection that counts as moved, m. Places are known to about 1,200 m.
    pub moved_m: u32,
    /// Reasons for which work orders open by themselves.
    pub open_orders_for: BTreeSet<Reason>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            inspection_days: 180,
            inspection_days_by_model: BTreeMap::new(),
            inspection_days_by_tag: BTreeMap::new(),
            dormant_days: 60,
            dormant_now_days: 80,
            error_percent: 20,
            error_tries_min: 15,
            battery_percent_min: 15,
            coin_mv_min: 2_700,
            coin_mv_now: 2_500,
            expiry_days: [90, 30, 7],
            moved_m: 3_000,
            open_orders_for: BTreeSet::from([
                Reason::Tamper,
                Reason::Moved,
                Reason::Reader,
                Reason::Printer,
                Reason::CoinCell,
            ]),
        }
    }
}

impl Rules {
    /// Refuses thresholds that would never or always be crossed.
    ///
    /// # Errors
    /// [`FieldError`] naming the threshold.
    pub fn check(&self) -> Result<(), FieldError> {
        let within = |field: &str, value: u32, least: u32, most: u32| {
            if (least..=most).contains(&value) {
                return Ok(());
            }
            Err(FieldError::new(field, format!("must be {least} to {most}")))
        };
        within("inspection_days", self.inspection_days, 1, DAYS_MAX)?;
        for (field, intervals) in [
            ("inspection_days_by_model", &self.inspection_days_by_model),
            ("inspection_days_by_tag", &self.inspection_days_by_tag),
        ] {
            if intervals.len() > INTERVALS_MAX {
                return Err(FieldError::new(field, format!("must be at most {INTERVALS_MAX} lines")));
            }
            for (name, days) in intervals {
                if name.is_empty() || name.chars().count() > 64 || name.chars().any(char::is_control) {
                    return Err(FieldError::new(field, "has a name that cannot be"));
                }
                within(field, *days, 1, DAYS_MAX)?;
            }
        }
        within("dormant_days", self.dormant_days, 1, DAYS_MAX)?;
        within("dormant_now_days", self.dormant_now_days, self.dormant_days, DAYS_MAX)?;
        within("error_percent", self.error_percent, 1, 99)?;
        within("error_tries_min", self.error_tries_min, 5, 1_000)?;
        within("battery_percent_min", self.battery_percent_min, 1, 90)?;
        within("coin_mv_min", self.coin_mv_min, 1_000, 6_000)?;
        within("coin_mv_now", self.coin_mv_now, 500, self.coin_mv_min)?;
        let [planned, soon, now] = self.expiry_days;
        within("expiry_days", planned, 1, DAYS_MAX)?;
        within("expiry_days", soon, 1, planned)?;
        within("expiry_days", now, 1, soon)?;
        within("moved_m", self.moved_m, 2_000, 1_000_000)
    }

    /// Days between inspections of a terminal.
    pub fn interval_days(&self, model: &str, tags: &[&str]) -> u32 {
        let by_tag = tags.iter().filter_map(|tag| self.inspection_days_by_tag.get(*tag)).min().copied();
        let own = by_tag.into_iter().chain(self.inspection_days_by_model.get(model).copied()).min();
        own.unwrap_or(self.inspection_days)
    }
}

/// What is known of a terminal. What it does not say is absent, or what was known before.
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts<'a> {
    /// Model code.
    pub model: &'a str,
    /// Its tags.
    pub tags: &'a [&'a str],
    /// Since when its inspections are counted when there was none: enrolled or registered, Unix ms.
    pub since_ms: i64,
    /// Its last inspection, Unix ms.
    pub inspected_at_ms: Option<i64>,
    /// When it called last, Unix ms; 0 for never.
    pub last_seen_ms: i64,
    /// Tamper protection.
    pub tamper: Option<Tamper>,
    /// Coin cell, mV.
    pub coin_mv: Option<u32>,
    /// Earliest expiry of its certificates, Unix ms.
    pub certificate_expires_ms: Option<i64>,
    /// Expiry of its SIM card, Unix ms.
    pub sim_expires_ms: Option<i64>,
    /// Geohash where it is.
    pub place: Option<&'a str>,
    /// Geohash where it was at its last inspection.
    pub inspected_place: Option<&'a str>,
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum Observed {
    /// A moment in Unix ms, a voltage in mV or a distance in m, as the reason has it.
    Number(i64),
    /// Errors among tries.
    Share {
        /// Tries or check-ins with an error.
        errors: u32,
        /// All of them.
        n: u32,
    },
    /// A state by its name.
    Word(String),
}

/// One reason with its evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = InspectionFinding)]
pub struct Finding {
    /// Why.
    pub reason: Reason,
    /// How soon.
    pub urgency: Urgency,
    /// What was observed: a moment for ages, dormancy and expiries, mV, m, a share or a state.
    pub observed: Observed,
    /// The threshold crossed: days for moments, percent for shares, else the unit of what was observed; 0 for states.
    pub threshold: i64,
}

impl Finding {
    fn number(reason: Reason, urgency: Urgency, observed: i64, threshold: u32) -> Self {
        Self { reason, urgency, observed: Observed::Number(observed), threshold: i64::from(threshold) }
    }
}

/// The findings about a terminal, most urgent first; within that in the order of [`Reason::ALL`].
pub fn judge(facts: &Facts<'_>, windows: &Windows, rules: &Rules, now_ms: i64) -> Vec<Finding> {
    let mut found: Vec<Finding> = [
        tamper(facts.tamper),
        moved(facts, rules),
        share(Reason::Reader, windows, rules),
        share(Reason::Printer, windows, rules),
        share(Reason::Battery, windows, rules),
        coin_cell(facts.coin_mv, rules),
        expiry(Reason::Certificate, facts.certificate_expires_ms, rules, now_ms),
        expiry(Reason::Sim, facts.sim_expires_ms, rules, now_ms),
        dormant(facts.last_seen_ms, rules, now_ms),
        age(facts, rules, now_ms),
    ]
    .into_iter()
    .flatten()
    .collect();
    found.sort_by_key(|finding| std::cmp::Reverse(finding.urgency));
    found
}

fn tamper(state: Option<Tamper>) -> Option<Finding> {
    let (urgency, word) = match state {
        Some(Tamper::Triggered) => (Urgency::Now, "triggered"),
        Some(Tamper::Mask) => (Urgency::Soon, "mask"),
        Some(Tamper::Ok) | None => return None,
    };
    Some(Finding { reason: Reason::Tamper, urgency, observed: Observed::Word(word.to_owned()), threshold: 0 })
}

fn moved(facts: &Facts<'_>, rules: &Rules) -> Option<Finding> {
    let distance_m = place::distance_m(facts.inspected_place?, facts.place?)?;
    (distance_m > i64::from(rules.moved_m))
        .then(|| Finding::number(Reason::Moved, Urgency::Now, distance_m, rules.moved_m))
}

fn share(reason: Reason, windows: &Windows, rules: &Rules) -> Option<Finding> {
    let window = windows.of(reason)?;
    let is_suspect = window.n >= rules.error_tries_min
        && u64::from(window.errors) * 100 > u64::from(window.n) * u64::from(rules.error_percent);
    is_suspect.then(|| Finding {
        reason,
        urgency: Urgency::Soon,
        observed: Observed::Share { errors: window.errors, n: window.n },
        threshold: i64::from(rules.error_percent),
    })
}

fn coin_cell(coin_mv: Option<u32>, rules: &Rules) -> Option<Finding> {
    let coin_mv = coin_mv?;
    let found = |urgency, threshold| Finding::number(Reason::CoinCell, urgency, i64::from(coin_mv), threshold);
    if coin_mv < rules.coin_mv_now {
        Some(found(Urgency::Now, rules.coin_mv_now))
    } else if coin_mv < rules.coin_mv_min {
        Some(found(Urgency::Soon, rules.coin_mv_min))
    } else {
        None
    }
}

fn expiry(reason: Reason, expires_ms: Option<i64>, rules: &Rules, now_ms: i64) -> Option<Finding> {
    let expires_ms = expires_ms?;
    let left_ms = expires_ms.saturating_sub(now_ms);
    let [planned, soon, now] = rules.expiry_days;
    let bands = [(now, Urgency::Now), (soon, Urgency::Soon), (planned, Urgency::Planned)];
    let (days, urgency) = bands.into_iter().find(|(days, _)| left_ms <= i64::from(*days) * DAY_MS)?;
    Some(Finding::number(reason, urgency, expires_ms, days))
}

fn dormant(last_seen_ms: i64, rules: &Rules, now_ms: i64) -> Option<Finding> {
    // One that never called has an import for its only source: of that nothing is known.
    if last_seen_ms == 0 {
        return None;
    }
    let silent_ms = now_ms.saturating_sub(last_seen_ms);
    let bands = [(rules.dormant_now_days, Urgency::Now), (rules.dormant_days, Urgency::Soon)];
    let (days, urgency) = bands.into_iter().find(|(days, _)| silent_ms >= i64::from(*days) * DAY_MS)?;
    Some(Finding::number(Reason::Dormant, urgency, last_seen_ms, days))
}

fn age(facts: &Facts<'_>, rules: &Rules, now_ms: i64) -> Option<Finding> {
    let days = rules.interval_days(facts.model, facts.tags);
    let from_ms = facts.inspected_at_ms.unwrap_or(facts.since_ms);
    let age_ms = now_ms.saturating_sub(from_ms);
    let interval_ms = i64::from(days) * DAY_MS;
    if age_ms < interval_ms {
        return None;
    }
    let is_late = age_ms.saturating_mul(100) >= interval_ms.saturating_mul(OVERDUE_PERCENT);
    let urgency = if is_late { Urgency::Soon } else { Urgency::Planned };
    Some(Finding::number(Reason::Age, urgency, from_ms, days))
}

/// `facts` with what only earlier findings know: a signal that is not reported stays as it was seen last.
pub fn remember<'a>(mut facts: Facts<'a>, before: &[Finding]) -> Facts<'a> {
    for finding in before {
        match (finding.reason, &finding.observed) {
            (Reason::Tamper, Observed::Word(word)) => {
                let known = if word == "mask" { Tamper::Mask } else { Tamper::Triggered };
                facts.tamper = facts.tamper.or(Some(known));
            }
            (Reason::CoinCell, Observed::Number(mv)) => facts.coin_mv = facts.coin_mv.or(u32::try_from(*mv).ok()),
            (Reason::Certificate, Observed::Number(at_ms)) => {
                facts.certificate_expires_ms = facts.certificate_expires_ms.or(Some(*at_ms));
            }
            (
                Reason::Tamper
                | Reason::Moved
                | Reason::Reader
                | Reason::Printer
                | Reason::Battery
                | Reason::CoinCell
                | Reason::Certificate
                | Reason::Sim
                | Reason::Dormant
                | Reason::Age,
                _,
            ) => {}
        }
    }
    facts
}

#[cfg(test)]
#[path = "due_tests.rs"]
mod tests;
