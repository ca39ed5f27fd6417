//! The gate of a rollout: has the update done harm, is it cleared, or can nobody say yet?
//!
//! Pure, std only, a fold: a time-ordered journal of counted failures and the counts of outcomes make a [`Judgement`].
//! Evidence is an e-process, which may be looked at after every event: the chance that a harmless release *ever* reaches
//! the threshold is at most [`Settings::alpha`], whatever the base rate, its daily curve or an outage that hits updated and
//! waiting terminals alike. Health ([`Evidence`]) compares updated terminals with like terminals not yet updated; the
//! update's own outcome ([`Outcomes`]) is compared with a written budget. Which failures are evidence at all is decided
//! by [`fate`]. Nothing here knows a database, a clock or a name: scopes and strata are numbers.
//!
//! Invariants: every rate has a denominator counted like its numerator; splitting a fold changes no bit of it, and neither
//! does keeping it in between ([`Fold`]); a fail is never taken back ([`Earlier::e_max`]); without controls, counts or time
//! the verdict is insufficient, never pass. A class of failures in which nothing failed says nothing about a pass; the first
//! failure makes it one that must be cleared.

mod estimate;
mod fold;
mod health;
mod outcome;
mod screen;
mod strata;
mod verdict;

pub use estimate::{interval, terminals_until_fail, terminals_until_pass};
pub use fold::{FOLD_VERSION, Fold, Told};
pub use health::{Evidence, fold};
pub use outcome::{Outcomes, e_outcome, p_outcome};
pub use screen::{Before, Fate, RawFailure, Screen, Windows, fate, tie_order};
pub use strata::{STRATA_MAX, kept_strata};
pub use verdict::{ClassEvidence, Earlier, Judgement, Missing, ScopeEvidence, Soak, Verdict, judge};

/// Hazard ratios of the harm that is looked for: from "half as much again" to a brick.
pub const HARM_RATIOS: &[f64] = &[1.5, 2.0, 3.0, 4.0, 6.0, 9.0, 14.0, 20.0, 35.0, 60.0];
/// Hazard ratios of a release that is no worse, for the evidence that clears it.
pub const GOOD_RATIOS: &[f64] = &[0.5, 0.7, 1.0];
/// Most scopes that are watched: with 20, harm in one of them needs 1.8 times the evidence of harm everywhere.
pub const SCOPES_MAX: usize = 20;
/// Both classes of health failures.
pub const CLASSES: &[Class] = &[Class::Hard, Class::Payment];

/// Which side of the comparison a terminal is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Arm {
    /// Updated, within the window after its commit.
    Treated,
    /// Eligible and not yet updated, at the same moment.
    Control,
}

impl Arm {
    /// `treated` or `control`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Treated => "treated",
            Self::Control => "control",
        }
    }
}

/// Kinds of health failures, judged apart and then averaged: payment failures are so frequent that they drown crashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Boot loop, crash, silence.
    Hard,
    /// A payment that failed for a cause the terminal can have.
    Payment,
}

impl Class {
    /// `hard` or `payment`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hard => "hard",
            Self::Payment => "payment",
        }
    }
}

/// Terminals that could have been the next to fail, just before one did; the failing one is among them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AtRisk {
    /// Updated ones.
    pub treated: u64,
    /// Ones not yet updated.
    pub control: u64,
}

/// One counted failure of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its class.
    pub class: Class,
    /// The failing terminal's arm.
    pub arm: Arm,
    /// The failing terminal's stratum. Evidence is summed over strata, so this only names what `at_risk` counts.
    pub stratum: u16,
    /// At risk in the stratum.
    pub at_risk: AtRisk,
    /// The scopes that have terminals at risk in this stratum; one that is absent has none.
    pub scopes: Vec<ScopeAtRisk>,
    /// The stratum's share outside the parts that had been stopped by then, where that is judged by itself.
    pub outside: Option<Outside>,
}

/// A stratum's share outside all the parts that were stopped alone, just before a failure in that stratum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outside {
    /// How many parts had been stopped; another number begins anew.
    pub stops: u16,
    /// Whether the failing terminal is outside all of them.
    pub is_in: bool,
    /// At risk outside all of them.
    pub at_risk: AtRisk,
}

/// A scope's share of a stratum, just before a failure in that stratum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScopeAtRisk {
    /// Its number, from 0.
    pub scope: u16,
    /// Whether the failing terminal belongs to it.
    pub is_in: bool,
    /// At risk in both the stratum and the scope.
    pub at_risk: AtRisk,
}

/// What is held against the evidence. The defaults are those that were simulated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Bound of the chance that a harmless release is ever stopped; it fails at `1 / alpha`.
    pub alpha: f64,
    /// Share of updates that may fail by themselves, 0–1. It must not be too low: take a written budget or the upper
    /// bound of past rollouts, never their average. `None`: the outcome is not judged (a record that does not tell it).
    pub outcome_budget: Option<f64>,
    /// A release is cleared when it is shown not to be this many times as bad; 2 needs 976 terminals at 1 %.
    pub tolerated_ratio: f64,
    /// Harm up to this ratio is accepted and no evidence; 1 accepts none.
    pub accepted_ratio: f64,
    /// Health classes that are watched. Fixed before the rollout starts: the evidence is their average.
    pub classes: &'static [Class],
    /// Ratios of harm looked for.
    pub harm_ratios: &'static [f64],
    /// Ratios of a good release.
    pub good_ratios: &'static [f64],
    /// Evidence that clears a release: a wrong pass has at most 1 chance in this many.
    pub pass_evidence: f64,
    /// Fewest started terminals of a pass: rare bricks hide in fewer.
    pub pass_started_min: u64,
    /// No pass while a scope has this much evidence of harm: harm in one model hides in a good average.
    pub scope_suspect_e: f64,
    /// Evidence that clears the rest, from which a failing scope may be stopped alone.
    pub narrow_evidence: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            alpha: 0.01,
            outcome_budget: Some(0.01),
            tolerated_ratio: 2.0,
            accepted_ratio: 1.0,
            classes: CLASSES,
            harm_ratios: HARM_RATIOS,
            good_ratios: GOOD_RATIOS,
            pass_evidence: 20.0,
            pass_started_min: 100,
            scope_suspect_e: 10.0,
            narrow_evidence: 3.0,
        }
    }
}

impl Settings {
    /// Evidence from which a rollout fails.
    pub fn fail_evidence(&self) -> f64 {
        1.0 / self.alpha
    }
}

/// Largest exponent that is reported as it is, so that evidence stays a number that can be stored and sent.
const EXPONENT_MAX: f64 = 690.0;

/// `mean of exp(x)`, computed without overflow; 1 (no evidence) for an empty grid.
fn mean_exp(logarithms: impl Iterator<Item = f64> + Clone) -> f64 {
    let largest = logarithms.clone().fold(f64::NEG_INFINITY, f64::max);
    if largest == f64::NEG_INFINITY {
        return if logarithms.count() == 0 { 1.0 } else { 0.0 };
    }
    let (sum, n) = logarithms.fold((0.0, 0.0), |(sum, n), x| (sum + (x - largest).exp(), n + 1.0));
    (largest + (sum / n).ln()).min(EXPONENT_MAX).exp()
}

/// A count as a number. Counts of terminals stay far below 2⁵³, where this is exact.
fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests;
