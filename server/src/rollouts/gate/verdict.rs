//! The verdict: evidence of harm, evidence that clears, and what is missing.

use super::health::{Rest, Walk, least_cleared};
use super::{AtRisk, Class, Evidence, Outcomes, Settings, e_outcome, p_outcome};

/// What the gate says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Shown to be no worse than tolerated.
    Pass,
    /// Shown to do harm; final.
    Fail,
    /// Neither.
    Insufficient,
}

impl Verdict {
    /// `pass`, `fail` or `insufficient`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Insufficient => "insufficient",
        }
    }
}

/// Where the stage is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Soak {
    /// Whether its soak time has passed.
    pub is_over: bool,
    /// Started terminals still inside the window, or before their deadline.
    pub watched: u64,
}

/// What earlier judgements of the same rollout left behind. The caller keeps it; the default is a first judgement.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Earlier {
    /// [`Judgement::e_max`] of the last judgement: makes a fail final. Starts at 0 again when a part is stopped alone.
    pub e_max: f64,
    /// The scopes that were stopped alone: from then on only the rest is judged, and `Outcomes` must count only the rest.
    /// Where there are several, or parts that are no scope, the rest is what [`Evidence::set_aside`] has begun.
    pub stopped_scopes: Vec<u16>,
}

/// The verdict and everything it rests on.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// Evidence of harm now: the average of outcome and health.
    pub e: f64,
    /// The highest that it was known to be at any time; a fail from `1 / alpha` on.
    pub e_max: f64,
    /// Of the update's own outcome; `None` when that is not judged.
    pub e_outcome: Option<f64>,
    /// Of health, over all classes.
    pub e_health: f64,
    /// Evidence that health is no worse than tolerated: of the least cleared class among those with any failure.
    pub p_health: f64,
    /// Evidence that the outcome is no worse than tolerated; `None` when that is not judged.
    pub p_outcome: Option<f64>,
    /// By class.
    pub classes: Vec<ClassEvidence>,
    /// By scope, in the order of their numbers.
    pub scopes: Vec<ScopeEvidence>,
    /// The scope with the most evidence, if any has more than none.
    pub worst_scope: Option<u16>,
    /// The scope that may be stopped alone, the rest being cleared; only ever with a fail.
    pub can_narrow_to: Option<u16>,
    /// What a pass lacks; empty unless insufficient.
    pub why: Vec<Missing>,
}

/// What one class of failures says, over all strata.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClassEvidence {
    /// The class.
    pub class: Class,
    /// Evidence of harm, scopes included.
    pub e: f64,
    /// Evidence of harm over the whole fleet.
    pub e_all: f64,
    /// Evidence that it is no worse than tolerated.
    pub p: f64,
    /// Weighed failures of updated terminals.
    pub treated: u64,
    /// Weighed failures of controls.
    pub control: u64,
    /// Failures that taught nothing, because there was nobody to compare with.
    pub unweighed: u64,
    /// How many times as often updated terminals fail, estimated.
    pub ratio: Option<f64>,
    /// Between which bounds that lies with 95 % confidence; the upper one is infinite while no control failed.
    pub ratio_interval: Option<(f64, f64)>,
    /// Terminals at risk at a failure, on average: what the failures of each arm are to be divided by.
    pub at_risk: AtRisk,
}

/// What the failures inside and outside one scope say, over all classes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScopeEvidence {
    /// Its number.
    pub scope: u16,
    /// Evidence of harm inside.
    pub e: f64,
    /// The class with the most evidence of harm inside.
    pub worst_class: Class,
    /// Evidence of harm inside, of that class.
    pub e_worst_class: f64,
    /// Evidence of harm outside.
    pub e_rest: f64,
    /// Evidence that what the worst class shows is no worse than tolerated outside.
    pub p_rest: f64,
    /// Weighed failures of updated terminals inside.
    pub treated: u64,
    /// Weighed failures of controls inside.
    pub control: u64,
}

/// One thing that a pass lacks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Missing {
    /// Too few terminals have started.
    Started {
        /// How many have.
        started: u64,
        /// How many must.
        needed: u64,
    },
    /// Health is not cleared.
    Health {
        /// Evidence so far.
        p: f64,
        /// Evidence needed.
        needed: f64,
    },
    /// The update's own outcome is not cleared.
    Outcome {
        /// Evidence so far.
        p: f64,
        /// Evidence needed.
        needed: f64,
    },
    /// Failures came when there was nobody to compare with.
    Controls {
        /// How many.
        failures: u64,
    },
    /// The soak time has not passed.
    Soak,
    /// Started terminals are still inside the window or before their deadline.
    Watched {
        /// How many.
        terminals: u64,
    },
    /// A scope is suspect.
    Scope {
        /// Which.
        scope: u16,
        /// Its evidence of harm.
        e: f64,
    },
}

impl Missing {
    /// One word, for machines.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Started { .. } => "started",
            Self::Health { .. } => "health",
            Self::Outcome { .. } => "outcome",
            Self::Controls { .. } => "controls",
            Self::Soak => "soak",
            Self::Watched { .. } => "watched",
            Self::Scope { .. } => "scope",
        }
    }
}

/// Judges a rollout. Cheap: no logarithm for what was folded before. Judge after every event and every outcome; where
/// that was missed, the highest health evidence of the journal still counts.
pub fn judge(
    evidence: &Evidence,
    outcomes: &Outcomes,
    soak: &Soak,
    settings: &Settings,
    earlier: &Earlier,
) -> Judgement {
    let scopes = scopes(evidence);
    let subject = Subject::of(evidence, &scopes, earlier);
    let e_outcome = settings.outcome_budget.map(|_| e_outcome(outcomes, settings));
    let e_health = subject.e(evidence);
    let e = average(e_outcome, e_health);
    // Whatever the outcomes were when health evidence peaked, they were at least 0. Once a part was stopped alone, the
    // evidence of the rest is held against the threshold by itself.
    let peak = match &subject {
        Subject::All => average(e_outcome.map(|_| 0.0), evidence.e_health_max()),
        Subject::Outside(scope) => scope.e_rest,
        Subject::Rest(rest) => rest.e_max,
    };
    let e_max = e.max(peak).max(earlier.e_max);
    let stopped = earlier.stopped_scopes.as_slice();
    let mut judgement = Judgement {
        verdict: Verdict::Fail,
        e,
        e_max,
        e_outcome,
        e_health,
        p_health: least_cleared(subject.walks(evidence).into_iter()),
        p_outcome: settings.outcome_budget.map(|_| p_outcome(outcomes, settings)),
        classes: classes(evidence),
        worst_scope: worst(&scopes, stopped).map(|scope| scope.scope),
        scopes,
        can_narrow_to: None,
        why: Vec::new(),
    };
    if e_max >= settings.fail_evidence() {
        judgement.can_narrow_to = if subject == Subject::All { narrow(&judgement, settings) } else { None };
        return judgement;
    }
    judgement.why = missing(&judgement, outcomes, soak, settings, stopped);
    judgement.verdict = if judgement.why.is_empty() { Verdict::Pass } else { Verdict::Insufficient };
    judgement
}

/// What is judged.
#[derive(Debug, PartialEq)]
enum Subject<'a> {
    /// Everything.
    All,
    /// What is outside the one scope that was stopped, from the beginning on.
    Outside(ScopeEvidence),
    /// What is outside several parts, since the last of them was stopped.
    Rest(&'a Rest),
}

impl<'a> Subject<'a> {
    fn of(evidence: &'a Evidence, scopes: &[ScopeEvidence], earlier: &Earlier) -> Self {
        if let Some(rest) = evidence.rest() {
            return Self::Rest(rest);
        }
        let stopped = earlier.stopped_scopes.first();
        let scope = stopped.and_then(|stopped| scopes.iter().find(|scope| scope.scope == *stopped));
        scope.map_or(Self::All, |scope| Self::Outside(*scope))
    }

    fn e(&self, evidence: &Evidence) -> f64 {
        match self {
            Self::All => evidence.e_health(),
            Self::Outside(scope) => scope.e_rest,
            Self::Rest(rest) => rest.e(),
        }
    }

    /// One for each class.
    fn walks(&self, evidence: &'a Evidence) -> Vec<&'a Walk> {
        match self {
            Self::All => evidence.classes().map(|(_, walks)| &walks.all).collect(),
            Self::Outside(scope) => {
                evidence.classes().map(|(_, walks)| &walks.scopes[usize::from(scope.scope)].rest).collect()
            }
            Self::Rest(rest) => rest.walks.iter().collect(),
        }
    }
}

/// Averages of e-processes are e-processes, however they depend on each other; products and maxima are not.
fn average(e_outcome: Option<f64>, e_health: f64) -> f64 {
    e_outcome.map_or(e_health, |e_outcome| 0.5 * e_outcome + 0.5 * e_health)
}

fn classes(evidence: &Evidence) -> Vec<ClassEvidence> {
    evidence
        .classes()
        .map(|(class, walks)| ClassEvidence {
            class,
            e: walks.e(),
            e_all: walks.all.e(),
            p: walks.all.p(),
            treated: walks.all.treated,
            control: walks.all.control,
            unweighed: walks.all.unweighed,
            ratio: walks.all.ratio(),
            ratio_interval: walks.all.ratio_interval(),
            at_risk: walks.all.mean_at_risk(),
        })
        .collect()
}

fn scopes(evidence: &Evidence) -> Vec<ScopeEvidence> {
    let sum = |of: &dyn Fn(&super::health::ClassWalks) -> u64| evidence.classes().map(|(_, walks)| of(walks)).sum();
    (0..evidence.scopes())
        .filter_map(|at| {
            let of_classes = evidence.classes().map(|(class, walks)| (class, &walks.scopes[at]));
            let (worst_class, worst) = of_classes.max_by(|a, b| a.1.inside.e().total_cmp(&b.1.inside.e()))?;
            Some(ScopeEvidence {
                scope: u16::try_from(at).ok()?,
                e: evidence.mean_of_classes(|walks| walks.scopes[at].inside.e()),
                worst_class,
                e_worst_class: worst.inside.e(),
                e_rest: evidence.mean_of_classes(|walks| walks.scopes[at].rest.e()),
                p_rest: worst.rest.p(),
                treated: sum(&|walks| walks.scopes[at].inside.treated),
                control: sum(&|walks| walks.scopes[at].inside.control),
            })
        })
        .collect()
}

/// The scope with the most evidence, the stopped ones aside.
fn worst<'a>(scopes: &'a [ScopeEvidence], stopped: &[u16]) -> Option<&'a ScopeEvidence> {
    scopes.iter().filter(|scope| scope.e > 1.0 && !stopped.contains(&scope.scope)).max_by(|a, b| a.e.total_cmp(&b.e))
}

/// The scope that explains the fail, when what is outside it is cleared. A fail of the update's own outcome cannot be
/// narrowed: it is not counted by scope. Nor is there a second scope after the first.
fn narrow(judgement: &Judgement, settings: &Settings) -> Option<u16> {
    let threshold = settings.fail_evidence();
    if judgement.e_outcome.is_some_and(|e| e >= threshold) {
        return None;
    }
    worst(&judgement.scopes, &[])
        .filter(|scope| scope.e >= threshold && scope.p_rest >= settings.narrow_evidence)
        .map(|scope| scope.scope)
}

fn missing(
    judgement: &Judgement,
    outcomes: &Outcomes,
    soak: &Soak,
    settings: &Settings,
    stopped: &[u16],
) -> Vec<Missing> {
    let mut why = Vec::new();
    let needed = settings.pass_evidence;
    if outcomes.started < settings.pass_started_min {
        why.push(Missing::Started { started: outcomes.started, needed: settings.pass_started_min });
    }
    if judgement.p_health < needed {
        why.push(Missing::Health { p: judgement.p_health, needed });
        let failures = judgement.classes.iter().map(|class| class.unweighed).sum();
        if failures > 0 {
            why.push(Missing::Controls { failures });
        }
    }
    if let Some(p) = judgement.p_outcome.filter(|p| *p < needed) {
        why.push(Missing::Outcome { p, needed });
    }
    if !soak.is_over {
        why.push(Missing::Soak);
    }
    if soak.watched > 0 {
        why.push(Missing::Watched { terminals: soak.watched });
    }
    why.extend(
        judgement
            .scopes
            .iter()
            .filter(|scope| !stopped.contains(&scope.scope))
            .filter(|scope| scope.e_worst_class >= settings.scope_suspect_e)
            .map(|scope| Missing::Scope { scope: scope.scope, e: scope.e_worst_class }),
    );
    why
}
