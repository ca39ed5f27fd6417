//! Health against control: a safe log-rank test for each class of failures, over everything, over each scope, and over
//! what is outside each scope.
//!
//! Given that one of the terminals at risk failed, how much likelier is it that *this* one failed if updated terminals
//! fail r times as often than if they fail equally often? The product of these ratios is the evidence. Its expected
//! factor is at most 1 when the update does no harm.

use super::estimate::interval;
use super::{Arm, AtRisk, Class, Event, Outside, ScopeAtRisk, Settings, mean_exp, number};

/// What the failures so far say. Add events in the order of the journal; the same events make the same bits, however
/// they are split over calls.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    pub(super) settings: Settings,
    pub(super) classes: Vec<(Class, ClassWalks)>,
    pub(super) e_health_max: f64,
    pub(super) rest: Option<Rest>,
}

/// Folds a journal.
pub fn fold<'a>(events: impl Iterator<Item = &'a Event>, scopes: usize, settings: &Settings) -> Evidence {
    let mut evidence = Evidence::new(scopes, settings);
    events.for_each(|event| evidence.add(event));
    evidence
}

impl Evidence {
    /// No evidence yet, for scopes numbered from 0.
    pub fn new(scopes: usize, settings: &Settings) -> Self {
        let walks = ClassWalks::new(scopes, settings);
        let classes = settings.classes.iter().map(|class| (*class, walks.clone())).collect();
        Self { settings: *settings, classes, e_health_max: 1.0, rest: None }
    }

    /// Takes in the next failure; one of a class that is not watched changes nothing.
    pub fn add(&mut self, event: &Event) {
        let Some(at) = self.classes.iter().position(|(class, _)| *class == event.class) else { return };
        self.classes[at].1.add(event, &self.settings);
        self.e_health_max = self.e_health_max.max(self.e_health());
        if let Some(outside) = event.outside {
            self.set_aside(outside.stops);
            if let Some(rest) = &mut self.rest {
                rest.add(at, event.arm, &outside, &self.settings);
            }
        }
    }

    /// Watches as many scopes from now on; never fewer. The weight of those that come later is taken from the others, and
    /// is no more than they were worth together: looking at more never makes more evidence out of nothing.
    pub fn widen(&mut self, scopes: usize) {
        let settings = self.settings;
        self.classes.iter_mut().for_each(|(_, walks)| walks.widen(scopes, &settings));
    }

    /// From now on `stops` parts are stopped: what is outside all of them is judged from the last stop on. What failed
    /// before cannot be told apart any more where parts overlap.
    pub fn set_aside(&mut self, stops: u16) {
        if self.rest.as_ref().is_none_or(|rest| rest.stops < stops) {
            let walks = vec![Walk::new(&self.settings); self.classes.len()];
            self.rest = Some(Rest { stops, walks, e_max: 1.0 });
        }
    }

    /// Evidence of harm to health now: the average of the classes.
    pub fn e_health(&self) -> f64 {
        self.mean_of_classes(ClassWalks::e)
    }

    /// The highest that [`Evidence::e_health`] was after any event.
    pub fn e_health_max(&self) -> f64 {
        self.e_health_max
    }

    /// Number of scopes.
    pub fn scopes(&self) -> usize {
        self.classes.first().map_or(0, |(_, walks)| walks.scopes.len())
    }

    /// What each watched class says.
    pub(super) fn classes(&self) -> impl Iterator<Item = (Class, &ClassWalks)> {
        self.classes.iter().map(|(class, walks)| (*class, walks))
    }

    /// The average over the watched classes; 1 (no evidence) without any.
    pub(super) fn mean_of_classes(&self, of: impl Fn(&ClassWalks) -> f64) -> f64 {
        if self.classes.is_empty() {
            return 1.0;
        }
        self.classes.iter().map(|(_, walks)| of(walks)).sum::<f64>() / self.classes.len() as f64
    }

    /// What is outside the parts that were stopped, if that is judged by itself.
    pub(super) fn rest(&self) -> Option<&Rest> {
        self.rest.as_ref()
    }
}

/// The least of what clears, over those that say anything: every class in which something failed must be cleared. A
/// class without a failure in either arm has nothing to say, neither for nor against; 1 (nothing is cleared) when none has.
pub(super) fn least_cleared<'a>(walks: impl Iterator<Item = &'a Walk>) -> f64 {
    walks.filter(|walk| !walk.is_silent()).map(Walk::p).reduce(f64::min).unwrap_or(1.0)
}

/// What is outside all the parts that were stopped alone, by class, since the last of these stops.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rest {
    /// How many were stopped.
    pub(super) stops: u16,
    /// In the order of the classes.
    pub(super) walks: Vec<Walk>,
    /// The highest that [`Rest::e`] was.
    pub(super) e_max: f64,
}

impl Rest {
    fn add(&mut self, class: usize, arm: Arm, outside: &Outside, settings: &Settings) {
        if outside.stops != self.stops || !outside.is_in {
            return;
        }
        if let Some(walk) = self.walks.get_mut(class) {
            walk.add(arm, outside.at_risk, &Step::new(arm, outside.at_risk, settings));
        }
        self.e_max = self.e_max.max(self.e());
    }

    /// Evidence of harm: the average of the classes.
    pub(super) fn e(&self) -> f64 {
        if self.walks.is_empty() {
            return 1.0;
        }
        self.walks.iter().map(Walk::e).sum::<f64>() / self.walks.len() as f64
    }
}

/// One class of failures.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ClassWalks {
    /// Over all strata.
    pub(super) all: Walk,
    /// Over each scope, and over what is outside it.
    pub(super) scopes: Vec<ScopeWalks>,
}

/// A scope and the rest.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ScopeWalks {
    /// Its weight among the scopes; together they weigh 1 at most.
    pub(super) share: f64,
    pub(super) inside: Walk,
    pub(super) rest: Walk,
}

impl ClassWalks {
    fn new(scopes: usize, settings: &Settings) -> Self {
        let mut walks = Self { scopes: Vec::new(), all: Walk::new(settings) };
        walks.widen(scopes, settings);
        walks
    }

    fn widen(&mut self, scopes: usize, settings: &Settings) {
        let before = self.scopes.len();
        if scopes <= before {
            return;
        }
        let worth = if before == 0 { self.all.e() } else { self.e_scopes() };
        let (kept, each) = (before as f64 / scopes as f64, 1.0 / scopes as f64);
        self.scopes.iter_mut().for_each(|walks| walks.share *= kept);
        // Nothing failed in it so far: the rest is everything.
        let new = ScopeWalks { share: each * worth.min(1.0), inside: Walk::new(settings), rest: self.all.clone() };
        self.scopes.resize(scopes, new);
    }

    fn e_scopes(&self) -> f64 {
        self.scopes.iter().map(|walks| walks.share * walks.inside.e()).sum()
    }

    fn add(&mut self, event: &Event, settings: &Settings) {
        let whole = Step::new(event.arm, event.at_risk, settings);
        self.all.add(event.arm, event.at_risk, &whole);
        for (number, walks) in self.scopes.iter_mut().enumerate() {
            let share = event.scopes.iter().find(|share| usize::from(share.scope) == number);
            let (walk, at_risk) = match share {
                Some(ScopeAtRisk { is_in: true, at_risk, .. }) => (&mut walks.inside, *at_risk),
                Some(ScopeAtRisk { is_in: false, at_risk, .. }) => (&mut walks.rest, event.at_risk.without(*at_risk)),
                None => (&mut walks.rest, event.at_risk),
            };
            if at_risk == event.at_risk {
                walk.add(event.arm, at_risk, &whole);
            } else {
                walk.add(event.arm, at_risk, &Step::new(event.arm, at_risk, settings));
            }
        }
    }

    /// Evidence of harm everywhere or in one scope: half the weight each.
    pub(super) fn e(&self) -> f64 {
        let all = self.all.e();
        if self.scopes.is_empty() {
            return all;
        }
        0.5 * all + 0.5 * self.e_scopes()
    }
}

/// Evidence over one part of the fleet, as logarithms by ratio.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Walk {
    /// `ln E_r` for each ratio of harm.
    pub(super) ln_e: Vec<f64>,
    /// `ln P_r` for each ratio of a good release.
    pub(super) ln_p: Vec<f64>,
    /// Failures of updated terminals that were weighed.
    pub(super) treated: u64,
    /// Failures of controls that were weighed.
    pub(super) control: u64,
    /// Of all these, how many would be of updated terminals if the update changed nothing.
    pub(super) treated_expected: f64,
    /// Failures that taught nothing, because one arm was empty.
    pub(super) unweighed: u64,
    /// Updated terminals and controls at risk, summed over the weighed failures.
    pub(super) at_risk: (u64, u64),
}

impl Walk {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            ln_e: vec![0.0; harm_ratios(settings).count()],
            ln_p: vec![0.0; settings.good_ratios.len()],
            treated: 0,
            control: 0,
            treated_expected: 0.0,
            unweighed: 0,
            at_risk: (0, 0),
        }
    }

    /// Whether nothing failed.
    fn is_silent(&self) -> bool {
        self.treated == 0 && self.control == 0 && self.unweighed == 0
    }

    fn add(&mut self, arm: Arm, at_risk: AtRisk, step: &Step) {
        if step.ln_e.is_empty() && step.ln_p.is_empty() {
            self.unweighed += 1;
            return;
        }
        self.ln_e.iter_mut().zip(&step.ln_e).for_each(|(sum, x)| *sum += x);
        self.ln_p.iter_mut().zip(&step.ln_p).for_each(|(sum, x)| *sum += x);
        self.treated_expected += step.treated_share;
        self.at_risk = (self.at_risk.0.saturating_add(at_risk.treated), self.at_risk.1.saturating_add(at_risk.control));
        match arm {
            Arm::Treated => self.treated += 1,
            Arm::Control => self.control += 1,
        }
    }

    /// Evidence of harm.
    pub(super) fn e(&self) -> f64 {
        mean_exp(self.ln_e.iter().copied())
    }

    /// Evidence that it is not the tolerated ratio or worse.
    pub(super) fn p(&self) -> f64 {
        mean_exp(self.ln_p.iter().copied())
    }

    /// How many times as often updated terminals fail, estimated; `None` without failures in both arms.
    pub(super) fn ratio(&self) -> Option<f64> {
        let (treated, control) = (number(self.treated), number(self.control));
        let control_expected = treated + control - self.treated_expected;
        let ratio = (treated * control_expected) / (control * self.treated_expected);
        (self.control > 0 && ratio.is_finite()).then_some(ratio)
    }

    /// Between which bounds that lies with 95 % confidence: which share of the failures is of updated terminals, as odds
    /// over what it would be if the update changed nothing. `None` where nobody failed or nobody could be compared.
    pub(super) fn ratio_interval(&self) -> Option<(f64, f64)> {
        let failures = self.treated.saturating_add(self.control);
        let expected = self.treated_expected / number(failures);
        let (low, high) = interval(self.treated, failures)?;
        let ratio = |share: f64| (share / (1.0 - share)) / (expected / (1.0 - expected));
        let (low, high) = (ratio(low), ratio(high));
        (low.is_finite() && !high.is_nan()).then_some((low, high))
    }

    /// Updated terminals and controls that were at risk at a failure, on average.
    pub(super) fn mean_at_risk(&self) -> AtRisk {
        let failures = self.treated.saturating_add(self.control).max(1);
        let mean = |sum: u64| sum.saturating_add(failures / 2) / failures;
        AtRisk { treated: mean(self.at_risk.0), control: mean(self.at_risk.1) }
    }
}

/// What one failure adds; empty when one arm is.
struct Step {
    ln_e: Vec<f64>,
    ln_p: Vec<f64>,
    treated_share: f64,
}

impl Step {
    fn new(arm: Arm, at_risk: AtRisk, settings: &Settings) -> Self {
        if at_risk.treated == 0 || at_risk.control == 0 {
            return Self { ln_e: Vec::new(), ln_p: Vec::new(), treated_share: 0.0 };
        }
        let (treated, control) = (number(at_risk.treated), number(at_risk.control));
        // ln of the likelihood of "r times" over that of "r0 times", for the arm that failed.
        let against = |r: f64, r0: f64| {
            let arm = match arm {
                Arm::Treated => (r / r0).ln(),
                Arm::Control => 0.0,
            };
            arm - ((r * treated + control) / (r0 * treated + control)).ln()
        };
        Self {
            ln_e: harm_ratios(settings).map(|r| against(r, settings.accepted_ratio)).collect(),
            ln_p: settings.good_ratios.iter().map(|r| against(*r, settings.tolerated_ratio)).collect(),
            treated_share: treated / (treated + control),
        }
    }
}

/// The ratios that are worse than what is accepted.
fn harm_ratios(settings: &Settings) -> impl Iterator<Item = f64> {
    let accepted = settings.accepted_ratio;
    settings.harm_ratios.iter().copied().filter(move |r| *r > accepted)
}

impl AtRisk {
    /// Those that are not in `part`.
    fn without(self, part: Self) -> Self {
        Self { treated: self.treated.saturating_sub(part.treated), control: self.control.saturating_sub(part.control) }
    }
}
