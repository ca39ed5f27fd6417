//! Which combination of conditions explains a rise of failures: a Poisson scan over conjunctions of one to three
//! attribute values.
//!
//! Pure, deterministic (sums run in a fixed order of rows, whatever order the cells come in), std only. The baseline is a
//! main-effects fit on history with shrinkage, so that what always fails more (2G) is not a cause unless it got worse.
//! Each set that is found explains its own excess away before the next is looked for, which keeps the list minimal.
//! Evidence is counted in nats; the penalty of a set is a weighted Bonferroni correction over all sets of its order.
//! Time is never an attribute, and what is only known of failures must not be one.

mod alias;
mod baseline;
mod contrast;
mod fit;
mod interval;
mod scan;
mod search;
mod table;

use baseline::Start;
use fit::{Fit, Rest};
use scan::{Scanned, Taken};
use search::Set;
use table::Table;

/// Evidence, in nats, from which a set is named: about ln 300, a corrected p of one percent.
pub const GAIN_MIN: f64 = 5.7;
/// Fewest failures and smallest ratio of a set that may be named.
const FAILURES_MIN: f64 = 5.0;
const LIFT_MIN: f64 = 1.5;
/// A rise of everything by this factor, with no set that covers half of it, is a rise of the whole fleet.
const FLEET_LIFT_MIN: f64 = 1.5;
const FLEET_COVERAGE: f64 = 0.5;
/// Terminals that are set aside as broken, at most.
const BROKEN_MAX: usize = 20;

/// Evidence from which a scan names a set when nobody looks at each answer: a false alarm a day stays at one percent
/// over `scans_per_day` scans of `classes` classes of failures.
pub fn gain_min_unattended(scans_per_day: u32, classes: u32) -> f64 {
    GAIN_MIN + (f64::from(scans_per_day.max(1)) * f64::from(classes.max(1))).ln()
}

/// One attribute: its name and the values that the codes stand for.
///
/// The values `""` and `unknown` say that nothing is known; `…` stands for several and is never a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// Name, for example `firmware`.
    pub name: String,
    /// Value of each code.
    pub values: Vec<String>,
}

/// Exposures and failures by combination of attributes, in the window and in its baseline. A combination may stand in
/// several cells; they are added up.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cells {
    /// The attributes.
    pub attributes: Vec<Attribute>,
    /// For each attribute, the code of each cell.
    pub codes: Vec<Vec<u16>>,
    /// Exposures in the window.
    pub n: Vec<f64>,
    /// Failures in the window.
    pub k: Vec<f64>,
    /// Exposures in the baseline.
    pub n0: Vec<f64>,
    /// Failures in the baseline.
    pub k0: Vec<f64>,
}

/// `attribute = value`, as positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Predicate {
    /// Position of the attribute.
    pub attribute: usize,
    /// Code of the value.
    pub code: u16,
}

/// One terminal's part in a set of cells.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// Which terminal.
    pub terminal_id: i64,
    /// For each cell it has a part in: cell, exposures, failures.
    pub cells: Vec<(usize, f64, f64)>,
}

/// What was compared with what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Against history.
    History,
    /// Without history: every cell against what its conditions do elsewhere in the window. Of low confidence, since
    /// what always was so cannot be told from what is new.
    Contrast,
}

/// One set that explains a part of the excess.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// Its predicates, by attribute.
    pub all_of: Vec<Predicate>,
    /// Exposures.
    pub n: f64,
    /// Failures.
    pub k: f64,
    /// Failures expected when the set was taken.
    pub expected: f64,
    /// `k / expected`.
    pub lift: f64,
    /// 95 % interval of the lift.
    pub interval: (f64, f64),
    /// Share of the whole excess; `None` when there is none.
    pub coverage: Option<f64>,
    /// Evidence, nats.
    pub gain: f64,
    /// Corrected p.
    pub p_adjusted: f64,
    /// For each predicate, failures and expectation of the cells that match all others but not it, everything else
    /// explained: near 1 means that the predicate is needed.
    pub drop_one: Vec<(usize, f64, f64)>,
    /// Sets that cannot, or hardly, be told apart, with the overlap of their exposures.
    pub aliases: Vec<(Vec<Predicate>, f64)>,
}

/// The whole answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// What was compared with what.
    pub mode: Mode,
    /// Exposures in the window.
    pub n: f64,
    /// Failures in the window.
    pub k: f64,
    /// Failures expected.
    pub expected: f64,
    /// Over-dispersion: above 5 something is counted twice.
    pub phi: f64,
    /// The sets, in the order of discovery.
    pub explanations: Vec<Explanation>,
    /// Share of the excess that stays unexplained, 0–1.
    pub unexplained: Option<f64>,
    /// By how much everything rose beside the sets, where it did; the sets are held against that.
    pub fleet_lift: Option<f64>,
    /// Everything rose, and no set covers half of it: a bank or a network rather than a condition.
    pub is_fleet_wide: bool,
    /// Attributes that were left out because they are unknown for failures more (or less) than for exposures: they
    /// would explain the outcome by itself.
    pub dropped: Vec<usize>,
    /// Terminals that were set aside because a set rested on them alone.
    pub broken: Vec<i64>,
}

/// Scans `cells` and names the sets with at least `gain_min` nats of evidence. `part_of` names, for a set, the terminal
/// with the most failures in it and its part; without such knowledge it answers `None`, and one broken terminal may
/// then pass for a cause.
///
/// Cost: attributes² / 2 passes over the distinct combinations a round, about two rounds for each set found.
pub fn explain(cells: &Cells, gain_min: f64, mut part_of: impl FnMut(&[Predicate]) -> Option<Part>) -> Report {
    let mut table = Table::new(cells);
    let mut broken: Vec<i64> = Vec::new();
    loop {
        let start = baseline::baseline(&table);
        let Scanned { start, raised, taken } = scan::scan(&table, start, gain_min);
        let lone = if broken.len() < BROKEN_MAX {
            taken.iter().find_map(|found| lone_terminal(&table, &raised, found, gain_min, &mut part_of))
        } else {
            None
        };
        match lone {
            Some(part) if !broken.contains(&part.terminal_id) => {
                table.subtract(&part);
                broken.push(part.terminal_id);
            }
            Some(_) | None => return report(&table, &start, &raised, &taken, broken),
        }
    }
}

/// The terminal without which `found` would not have been named.
fn lone_terminal(
    table: &Table,
    start: &Start,
    found: &Taken,
    gain_min: f64,
    part_of: &mut impl FnMut(&[Predicate]) -> Option<Part>,
) -> Option<Part> {
    let part = part_of(&table.predicates(&found.set))?;
    let (mut k, mut expected) = (found.k, found.expected);
    for &(cell, n, failures) in &part.cells {
        k -= failures;
        expected -= n * table.row_of(cell).and_then(|row| start.rate.get(row)).copied().unwrap_or(0.0);
    }
    let expected = expected.max(1e-6);
    let gain = search::evidence(k, expected) / start.phi - search::penalty(table, &found.set);
    let survives = k >= FAILURES_MIN && k / expected >= LIFT_MIN && gain >= gain_min;
    (!survives).then_some(part)
}

/// `start` is what was expected, `raised` the same after a rise of everything.
fn report(table: &Table, start: &Start, raised: &Start, taken: &[Taken], broken: Vec<i64>) -> Report {
    let (n, k): (f64, f64) = (table.n.iter().sum(), table.k.iter().sum());
    let expected: f64 = start.expected.iter().sum();
    let excess = k - expected;
    let sets: Vec<Set> = taken.iter().map(|found| found.set).collect();
    let last = Fit::new(table, raised, &sets, Rest::Kept).expected(raised);
    let explanations: Vec<Explanation> = taken
        .iter()
        .map(|found| Explanation {
            all_of: table.predicates(&found.set),
            n: found.n,
            k: found.k,
            expected: found.expected,
            lift: found.k / found.expected,
            interval: interval::garwood(found.k / start.phi, found.expected / start.phi),
            coverage: (excess > 0.0).then(|| (found.k - found.expected) / excess),
            gain: found.gain,
            p_adjusted: (3.0 * (-found.gain).exp()).min(1.0),
            drop_one: drop_one(table, &last, &found.set),
            aliases: found.aliases.iter().map(|(set, overlap)| (table.predicates(set), *overlap)).collect(),
        })
        .collect();
    // A rise of everything is no condition: it stays unexplained.
    let rise = raised.expected.iter().sum::<f64>() - expected;
    let left = k - last.iter().sum::<f64>() + rise;
    let covers_half = |found: &Explanation| found.coverage.is_some_and(|coverage| coverage >= FLEET_COVERAGE);
    Report {
        mode: start.mode,
        n,
        k,
        expected,
        phi: start.phi,
        unexplained: (excess > 0.0).then(|| (left / excess).clamp(0.0, 1.0)),
        fleet_lift: (rise > 0.0).then(|| (expected + rise) / expected),
        is_fleet_wide: k >= FAILURES_MIN
            && search::evidence(k, expected.max(1e-6)) / start.phi >= GAIN_MIN
            && k >= FLEET_LIFT_MIN * expected
            && !explanations.iter().any(covers_half),
        explanations,
        dropped: table.dropped.clone(),
        broken,
    }
}

/// For each predicate, failures and expectation where all others hold and it does not.
fn drop_one(table: &Table, expected: &[f64], set: &Set) -> Vec<(usize, f64, f64)> {
    set.predicates()
        .iter()
        .map(|&(dropped, value)| {
            let others = set.without(dropped);
            let (mut k, mut e) = (0.0, 0.0);
            for row in table.rows_of(&others) {
                if table.code(dropped, row) != value {
                    k += table.k[row];
                    e += expected[row];
                }
            }
            (table.input_attribute(dropped), k, e)
        })
        .collect()
}

#[cfg(test)]
mod tests;
