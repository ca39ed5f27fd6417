//! From single sets to the list: the best is taken, its rows then explain themselves, and the search goes on; in the
//! end every set has to stand against simpler, finer and other ones beside the rest of the list.

use super::alias::aliases;
use super::baseline::Start;
use super::fit::{Fit, fit};
use super::search::{Candidate, Search, Set, evidence, penalty};
use super::table::Table;
use super::{Mode, LIFT_MIN};

/// Most sets in one explanation.
const SETS_MAX: usize = 6;
/// From the second set on, the least share of the excess that it must explain.
const EXCESS_SHARE_MIN: f64 = 0.005;
/// Times that a list is improved at most; each is a strict gain, more than three have not been seen.
const IMPROVED_MAX: usize = 8;
/// A list is better from this many nats on.
const IMPROVEMENT_MIN: f64 = 0.5;
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

/// The sets that explain the excess of `table` over `start`.
pub fn scan(table: &Table, start: &Start, gain_min: f64) -> Vec<Taken> {
    let excess = table.k.iter().sum::<f64>() - start.expected.iter().sum::<f64>();
    let scan = Scan { table, start, gain_min, share_min: EXCESS_SHARE_MIN * excess.max(1.0) };
    let mut sets = scan.grow(Vec::new());
    for _ in 0..IMPROVED_MAX {
        let Some(better) = scan.improved(&sets) else { break };
        sets = better;
    }
    scan.replay(sets)
}

struct Scan<'a> {
    table: &'a Table,
    start: &'a Start,
    gain_min: f64,
    /// Excess that a set must have from the second on.
    share_min: f64,
}

impl Scan<'_> {
    fn sets_max(&self) -> usize {
        if self.start.mode == Mode::Contrast { 1 } else { SETS_MAX }
    }

    fn fit(&self, sets: &[Set]) -> Fit {
        fit(self.table, self.start, sets)
    }

    fn search(&self, sets: &[Set]) -> Search<'_> {
        Search::new(self.table, &self.fit(sets).expected, self.start.phi)
    }

    fn may_follow(&self, best: &Candidate, sets: &[Set]) -> bool {
        best.gain >= self.gain_min
            && !sets.contains(&best.set)
            && (sets.is_empty() || best.k - best.expected >= self.share_min)
    }

    /// Adds sets as long as there is one to add.
    fn grow(&self, mut sets: Vec<Set>) -> Vec<Set> {
        while sets.len() < self.sets_max() {
            let best = self.search(&sets).best().filter(|best| self.may_follow(best, &sets));
            let Some(best) = best else { break };
            sets.push(best.set);
        }
        sets
    }

    /// Removes sets that the others have made needless, the most needless first.
    fn prune(&self, mut sets: Vec<Set>) -> Vec<Set> {
        while sets.len() > 1 {
            let whole = self.fit(&sets).evidence;
            let worth = |index: usize| {
                let others = without(&sets, index);
                (whole - self.fit(&others).evidence) / self.start.phi - penalty(self.table, &sets[index])
            };
            let least = (0..sets.len()).map(|index| (index, worth(index))).min_by(|one, other| one.1.total_cmp(&other.1));
            match least {
                Some((index, worth)) if worth < self.gain_min => drop(sets.remove(index)),
                Some(_) | None => break,
            }
        }
        sets
    }

    /// What a list is worth: its evidence, less what it takes to name its sets.
    fn worth(&self, sets: &[Set]) -> f64 {
        let price: f64 = sets.iter().map(|set| penalty(self.table, set) + self.gain_min).sum();
        self.fit(sets).evidence / self.start.phi - price
    }

    /// A list that is worth more, if one is found.
    fn improved(&self, sets: &[Set]) -> Option<Vec<Set>> {
        let worth = self.worth(sets) + IMPROVEMENT_MIN;
        let try_from = |first: Vec<Set>| {
            let list = self.prune(self.grow(first));
            (self.worth(&list) > worth).then_some(list)
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
            let best = self.search(&others).best();
            if let Some(best) = best.filter(|best| best.set != sets[index] && self.may_follow(best, &others)) {
                let list = try_from(others.into_iter().chain([best.set]).collect());
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
                let expected = self.fit(&rest).expected;
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
            let search = self.search(&sets);
            let figures: Vec<Candidate> = left.iter().map(|set| search.figures(set)).collect();
            let Some(best) = figures.into_iter().min_by(Candidate::rank) else { break };
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
                    aliases: aliases(self.table, &best, &search.found),
                });
            }
        }
        taken
    }
}

fn without(sets: &[Set], index: usize) -> Vec<Set> {
    sets.iter().enumerate().filter(|(other, _)| *other != index).map(|(_, set)| *set).collect()
}
