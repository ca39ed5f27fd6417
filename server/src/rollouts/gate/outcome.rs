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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_finished_would_stop_good_rollouts_and_a_share_of_the_started_does_not() {
        // 1,000 good terminals over half an hour, 1 % fail as budgeted: failures after 2 min, successes after 10 to 30.
        let (runs, mut stopped_by_finished, mut stopped_by_started) = (400, 0, 0);
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut unit = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        for _ in 0..runs {
            let terminals: Vec<(f64, f64, bool)> = (0..1_000)
                .map(|number| {
                    let start = 30.0 * f64::from(number) / 1_000.0;
                    let is_bad = unit() < 0.01;
                    (start, start + if is_bad { 2.0 } else { 10.0 + 20.0 * unit() }, is_bad)
                })
                .collect();
            let exceeds = |minute: u32, by_finished: bool| {
                let now = f64::from(minute);
                let count = |of: &dyn Fn(&(f64, f64, bool)) -> bool| terminals.iter().filter(|t| of(t)).count() as u64;
                let failed = count(&|t| t.2 && t.1 <= now);
                let started = if by_finished { count(&|t| t.1 <= now) } else { count(&|t| t.0 <= now) };
                e_outcome(&Outcomes { started, failed, pending: 0 }, &Settings::default()) >= 100.0
            };
            stopped_by_finished += u32::from((0..=60).any(|minute| exceeds(minute, true)));
            stopped_by_started += u32::from((0..=60).any(|minute| exceeds(minute, false)));
        }
        assert!(stopped_by_finished > runs / 2, "{stopped_by_finished} of {runs}");
        assert!(stopped_by_started <= runs / 100, "{stopped_by_started} of {runs}");
    }
}
