//! From single sets to the list: the best is taken, its rows then explain themselves, and the search goes on; in the
//! end every set has to stand against simpler, finer and other ones beside the rest of the list.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::alias::aliases;
use super::baseline::Start;
use super::contrast::{EFFECT_FIRST_MAX, EFFECT_MAX, contrast};
use super::fit::{Fit, Rest};
use super::search::{Candidate, Set, evidence, penalty, search};
use super::table::Table;
use super::{LIFT_MIN, Mode};

/// Most sets in one explanation.
const SETS_MAX: usize = 6;
/// From the second set on, the least share of the excess that it must explain.
const EXCESS_SHARE_MIN: f64 = 0.005;
/// Times that a list is improved at most; each is a strict gain, more than three have not been seen.
const IMPROVED_MAX: usize = 8;
/// A list is better from this many nats on.
const IMPROVEMENT_MIN: f64 = 0.5;
/// Sets of a round that are held against the size of their history, the best first.
const COMPARED_MAX: usize = 500;
/// Everything rose together from this factor on; less is the daily up and down.
const FLEET_FACTOR_MIN: f64 = 1.1;
/// Rounds in which that factor and the sets beside it are found, and how little it still moves then.
const FLEET_ROUNDS: usize = 3;
const FLEET_SETTLED: f64 = 0.01;
/// What lies around a set makes a simpler one worth trying from this evidence and this lift on.
const AROUND_EVIDENCE: f64 = 3.0;
const AROUND_LIFT: f64 = 1.3;

/// A set that was taken.
#[derive(Debug, Clone, PartialEq)]
pub struct Taken {
    /// Which.
    pub set: Set,
    /// Exposures.
    pub n: f64,
    /// Failures.
    pub k: f64,
    /// Failures expected when it was taken.
    pub expected: f64,
    /// Evidence when it was taken, nats.
    pub gain: f64,
    /// Sets of its round that fit as well, with the overlap.
    pub aliases: Vec<(Set, f64)>,
}

/// What a scan has found.
#[derive(Debug)]
pub struct Scanned {
    /// What was expected.
    pub start: Start,
    /// The same after a rise of everything; else the same.
    pub raised: Start,
    /// The sets, in the order of discovery.
    pub taken: Vec<Taken>,
}

/// The sets that explain the excess of `table` over `start`.
pub fn scan(table: &Table, start: Start, gain_min: f64) -> Scanned {
    let plain = Scan::new(table, &start, gain_min);
    let mut sets = plain.list();
    if start.mode == Mode::Contrast {
        let first = Scan { effect_max: EFFECT_FIRST_MAX, ..Scan::new(table, &start, gain_min) };
        let other = plain.improve(plain.grow(plain.prune(first.grow(Vec::new()), Rest::Kept)));
        if plain.worth(&other, Rest::Kept) > plain.worth(&sets, Rest::Kept) {
            sets = other;
        }
        // Figures against what is expected once it is known what stands out.
        let start = contrast(table, &sets, EFFECT_MAX);
        let taken = Scan::new(table, &start, gain_min).replay(sets);
        return Scanned { raised: start.clone(), start, taken };
    }
    if let Some((factor, others)) = risen_together(&plain, &sets) {
        let raised = start.scaled(factor);
        let taken = Scan::new(table, &raised, gain_min).replay(others);
        return Scanned { start, raised, taken };
    }
    let taken = plain.replay(sets);
    Scanned { raised: start.clone(), start, taken }
}

/// By how much everything rose, and the sets that rose beyond that, if this explains more than `sets` do alone: what
/// rose with everything else is no cause, nor does a cause among it make everything rise.
fn risen_together(scan: &Scan<'_>, sets: &[Set]) -> Option<(f64, Vec<Set>)> {
    let Scan { table, start, gain_min, .. } = *scan;
    let kept = scan.prune(sets.to_vec(), Rest::Fitted);
    let [alone, fitted] = [Rest::Kept, Rest::Fitted].map(|rest| Fit::new(table, start, &kept, rest));
    if fitted.rest() < FLEET_FACTOR_MIN || (fitted.evidence - alone.evidence) / start.phi < gain_min {
        return None;
    }
    let mut factor = fitted.rest();
    let mut others = Vec::new();
    for _ in 0..FLEET_ROUNDS {
        others = Scan::new(table, &start.scaled(factor), gain_min).list();
        let next = Fit::new(table, start, &others, Rest::Fitted).rest();
        let is_settled = (next / factor - 1.0).abs() < FLEET_SETTLED;
        factor = next;
        if is_settled {
            break;
        }
    }
    let is_better = scan.worth(&others, Rest::Fitted) > scan.worth(sets, Rest::Kept);
    (factor >= FLEET_FACTOR_MIN && is_better).then_some((factor, others))
}

struct Scan<'a> {
    table: &'a Table,
    start: &'a Start,
    gain_min: f64,
    /// Excess that a set must have from the second on.
    share_min: f64,
    /// Without history: what values differ by without being a cause.
    effect_max: f64,
    /// What was found beside which sets: lists are gone through more than once.
    known: RefCell<HashMap<Vec<Set>, Rc<[Candidate]>>>,
}

impl<'a> Scan<'a> {
    fn new(table: &'a Table, start: &'a Start, gain_min: f64) -> Self {
        let excess = table.k.iter().sum::<f64>() - start.expected.iter().sum::<f64>();
        let share_min = EXCESS_SHARE_MIN * excess.max(1.0);
        Self { table, start, gain_min, share_min, effect_max: EFFECT_MAX, known: RefCell::default() }
    }

    /// The list of sets, grown and improved.
    fn list(&self) -> Vec<Set> {
        self.improve(self.grow(Vec::new()))
    }

    fn improve(&self, mut sets: Vec<Set>) -> Vec<Set> {
        for _ in 0..IMPROVED_MAX {
            let Some(better) = self.improved(&sets) else { break };
            sets = better;
        }
        sets
    }

    /// What is expected while `sets` are named; without history they leave what the others are held against.
    fn start(&self, sets: &[Set]) -> Cow<'_, Start> {
        match self.start.mode {
            Mode::History => Cow::Borrowed(self.start),
            Mode::Contrast => Cow::Owned(contrast(self.table, sets, self.effect_max)),
        }
    }

    /// Log-likelihood of `sets`, up to a constant, over-dispersion taken out.
    fn evidence(&self, sets: &[Set], rest: Rest) -> f64 {
        let start = self.start(sets);
        let fit = Fit::new(self.table, &start, sets, rest);
        let moved = match self.start.mode {
            Mode::History => 0.0,
            // The expectations themselves depend on the sets.
            Mode::Contrast => likelihood(&self.table.k, &start.expected),
        };
        (fit.evidence + moved) / self.start.phi + start.prior
    }

    /// What is expected of each row beside `sets`.
    fn expected(&self, sets: &[Set]) -> Vec<f64> {
        let start = self.start(sets);
        Fit::new(self.table, &start, sets, Rest::Kept).expected(&start)
    }

    /// Every admissible set beside `sets`.
    fn search(&self, sets: &[Set]) -> Rc<[Candidate]> {
        if let Some(found) = self.known.borrow().get(sets) {
            return Rc::clone(found);
        }
        let found: Rc<[Candidate]> = search(self.table, &self.expected(sets), self.start(sets).phi).into();
        self.known.borrow_mut().insert(sets.to_vec(), Rc::clone(&found));
        found
    }

    /// The best set that may stand beside `sets`.
    fn next(&self, sets: &[Set]) -> Option<Set> {
        let may_stand = |candidate: &&Candidate| {
            candidate.gain >= self.gain_min && (sets.is_empty() || candidate.k - candidate.expected >= self.share_min)
        };
        let mut found: Vec<Candidate> = self.search(sets).iter().filter(may_stand).copied().collect();
        found.sort_unstable_by(Candidate::rank);
        let stands = |candidate: &&Candidate| {
            let Candidate { set, k, expected, .. } = **candidate;
            let evidence = self.start.evidence_of_samples(self.table, &set, k, expected);
            evidence - penalty(self.table, &set) >= self.gain_min
        };
        let standing = found.iter().take(COMPARED_MAX).filter(stands).map(|candidate| self.simplest(candidate.set));
        standing.into_iter().find(|set| !sets.contains(set))
    }

    /// The set without the predicates that hold in it anyway.
    fn simplest(&self, mut set: Set) -> Set {
        let exposures = |set: &Set| self.table.rows_of(set).into_iter().map(|row| self.table.n[row]).sum::<f64>();
        let own = exposures(&set);
        while let Some(simpler) = set
            .predicates()
            .iter()
            .filter(|_| set.predicates().len() > 1)
            .map(|&(attribute, _)| set.without(attribute))
            .find(|simpler| exposures(simpler) <= own)
        {
            set = simpler;
        }
        set
    }

    /// Adds sets as long as there is one to add.
    fn grow(&self, mut sets: Vec<Set>) -> Vec<Set> {
        while sets.len() < SETS_MAX {
            let Some(next) = self.next(&sets) else { break };
            sets.push(next);
        }
        sets
    }

    /// Removes sets that the others have made needless, the most needless first.
    fn prune(&self, mut sets: Vec<Set>, rest: Rest) -> Vec<Set> {
        while !sets.is_empty() {
            let whole = self.evidence(&sets, rest);
            let worth = |index: usize| {
                let others = without(&sets, index);
                whole - self.evidence(&others, rest) - penalty(self.table, &sets[index])
            };
            let least =
                (0..sets.len()).map(|index| (index, worth(index))).min_by(|one, other| one.1.total_cmp(&other.1));
            match least {
                Some((index, worth)) if worth < self.gain_min => drop(sets.remove(index)),
                Some(_) | None => break,
            }
        }
        sets
    }

    /// What a list is worth: its evidence, less what it takes to name its sets.
    fn worth(&self, sets: &[Set], rest: Rest) -> f64 {
        let price: f64 = sets.iter().map(|set| penalty(self.table, set) + self.gain_min).sum();
        let everything = if rest == Rest::Fitted { self.gain_min } else { 0.0 };
        self.evidence(sets, rest) - price - everything
    }

    /// A list that is worth more, if one is found.
    fn improved(&self, sets: &[Set]) -> Option<Vec<Set>> {
        let worth = self.worth(sets, Rest::Kept) + IMPROVEMENT_MIN;
        let try_from = |first: Vec<Set>| {
            let list = self.prune(self.grow(first), Rest::Kept);
            (self.worth(&list, Rest::Kept) > worth).then_some(list)
        };
        for simpler in self.simpler(sets) {
            let mut first: Vec<Set> = sets.iter().copied().filter(|set| !set.refines(&simpler)).collect();
            first.push(simpler);
            if let Some(list) = try_from(first) {
                return Some(list);
            }
        }
        // The last set is the best beside the others: that is how it was found.
        for index in 0..sets.len().saturating_sub(1) {
            let others = without(sets, index);
            if let Some(next) = self.next(&others).filter(|next| *next != sets[index]) {
                let list = try_from(others.into_iter().chain([next]).collect());
                if list.is_some() {
                    return list;
                }
            }
        }
        None
    }

    /// Sets with one predicate less than one of the list, around which more failed than the rest of the list explains.
    fn simpler(&self, sets: &[Set]) -> Vec<Set> {
        let mut found: Vec<Set> = Vec::new();
        for set in sets.iter().filter(|set| set.predicates().len() > 1) {
            for &(attribute, value) in set.predicates() {
                let simpler = set.without(attribute);
                if sets.contains(&simpler) || found.contains(&simpler) {
                    continue;
                }
                let rest: Vec<Set> = sets.iter().copied().filter(|other| !other.refines(&simpler)).collect();
                let expected = self.expected(&rest);
                let (mut k, mut e) = (0.0, 0.0);
                for row in self.table.rows_of(&simpler) {
                    if self.table.code(attribute, row) != value {
                        k += self.table.k[row];
                        e += expected[row];
                    }
                }
                if k >= AROUND_LIFT * e && evidence(k, e.max(1e-6)) / self.start.phi >= AROUND_EVIDENCE {
                    found.push(simpler);
                }
            }
        }
        found
    }

    /// Takes the sets one after the other, the best first, with the figures of that moment.
    fn replay(&self, mut left: Vec<Set>) -> Vec<Taken> {
        let mut taken: Vec<Taken> = Vec::new();
        let mut sets: Vec<Set> = Vec::new();
        while !left.is_empty() {
            let (expected, phi) = (self.expected(&sets), self.start(&sets).phi);
            let figures = |set: &Set| Candidate::of(self.table, &expected, phi, *set);
            let Some(best) = left.iter().map(figures).min_by(Candidate::rank) else { break };
            let found = self.search(&sets);
            left.retain(|set| *set != best.set);
            sets.push(best.set);
            // Beside the others a set may be worth less than alone; one that is hardly any is not shown.
            if best.gain >= self.gain_min && best.k >= LIFT_MIN * best.expected {
                taken.push(Taken {
                    set: best.set,
                    n: self.table.rows_of(&best.set).into_iter().map(|row| self.table.n[row]).sum(),
                    k: best.k,
                    expected: best.expected,
                    gain: best.gain,
                    aliases: aliases(self.table, &best, &found),
                });
            }
        }
        taken
    }
}

/// Poisson log-likelihood of all rows, up to a constant.
fn likelihood(k: &[f64], expected: &[f64]) -> f64 {
    k.iter().zip(expected).map(|(k, e)| if *k > 0.0 { k * e.max(1e-9).ln() } else { 0.0 } - e).sum()
}

fn without(sets: &[Set], index: usize) -> Vec<Set> {
    sets.iter().enumerate().filter(|(other, _)| *other != index).map(|(_, set)| *set).collect()
}
