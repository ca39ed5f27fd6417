//! Did the update itself work? There is no control group for an installation, so the failed ones are held against a
//! written budget.
//!
//! The denominator is terminals that have *started*, never those that have finished: failures are reported within
//! minutes, successes after a reboot, and a share of the finished stops most good rollouts. A pending terminal counts as
//! good where harm is looked for and as bad where a release is cleared, so neither is ever overstated.

use super::{Settings, mean_exp, number};

/// How the update itself went, over all terminals that accepted the order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// Accepted the order.
    pub started: u64,
    /// Not installed, rolled back, or never came back by the deadline.
    pub failed: u64,
    /// Not known yet; also those that only the server kept from finishing.
    pub pending: u64,
}

/// Evidence that more than the budget fails; 1 when there is no usable budget.
pub fn e_outcome(outcomes: &Outcomes, settings: &Settings) -> f64 {
    /// Ratios that would mean nearly every update fails say nothing that smaller ones do not.
    const RATE_MAX: f64 = 0.95;
    let Some(budget) = budget(settings) else { return 1.0 };
    let (failed, good) = split(outcomes.started, outcomes.failed);
    mean_exp(
        settings
            .harm_ratios
            .iter()
            .filter(|r| *r * budget < RATE_MAX)
            .map(|r| failed * r.ln() + good * ((1.0 - r * budget) / (1.0 - budget)).ln()),
    )
}

/// Evidence that fewer than the tolerated multiple of the budget fail; 1 when there is no usable budget.
pub fn p_outcome(outcomes: &Outcomes, settings: &Settings) -> f64 {
    let tolerated = settings.tolerated_ratio;
    let Some(budget) = budget(settings).filter(|budget| tolerated * budget < 1.0) else { return 1.0 };
    let (bad, good) = split(outcomes.started, outcomes.failed.saturating_add(outcomes.pending));
    mean_exp(
        settings
            .good_ratios
            .iter()
            .map(|r| bad * (r / tolerated).ln() + good * ((1.0 - r * budget) / (1.0 - tolerated * budget)).ln()),
    )
}

fn budget(settings: &Settings) -> Option<f64> {
    settings.outcome_budget.filter(|budget| *budget > 0.0 && *budget < 1.0)
}

/// The bad ones among `started`, and the others.
fn split(started: u64, bad: u64) -> (f64, f64) {
    let bad = bad.min(started);
    (number(bad), number(started - bad))
}
