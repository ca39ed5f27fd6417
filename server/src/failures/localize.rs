//! Which combination of conditions explains a rise of failures: a Poisson scan over conjunctions of one to three
//! attribute values.
//!
//! Pure, deterministic (sums run in cell order), std only. The baseline is a main-effects fit on history with
//! shrinkage, so that what always fails more (2G) is not a cause unless it got worse. Each set that is found explains
//! its own excess away before the next is looked for, which keeps the list minimal. Evidence is counted in nats; the
//! penalty of a set is a weighted Bonferroni correction over all sets of its order.

use std::cmp::Ordering;

/// Evidence, in nats, from which a set is named: about ln 300, a corrected p of one percent.
pub const GAIN_MIN: f64 = 5.7;
/// Fewest failures and smallest ratio of a set that may be named.
const FAILURES_MIN: f64 = 5.0;
const LIFT_MIN: f64 = 1.5;
/// Below this many failures in the history there is no baseline: permanent differences cannot be told from new causes.
const HISTORY_FAILURES_MIN: f64 = 50.0;
/// Rounds of proportional fitting; the fit is stable well before.
const FIT_ROUNDS: usize = 15;
/// Pairs that are extended to three predicates.
const EXTENDED_PAIRS: usize = 100;
/// Most sets in one explanation.
const SETS_MAX: usize = 6;
/// From the second set on, the least share of the excess that it must explain.
const EXCESS_SHARE_MIN: f64 = 0.02;
/// Terminals that are set aside as broken, at most.
const BROKEN_MAX: usize = 20;

/// One attribute: its name and the values that the codes stand for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// Name, for example `firmware`.
    pub name: String,
    /// Value of each code.
    pub values: Vec<String>,
}

/// Exposures and failures by combination of attributes, in the window and in its baseline.
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
    /// Without history: every cell against the average. One headline at most, of low confidence.
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
    /// Over-dispersion.
    pub phi: f64,
    /// The sets, in the order of discovery.
    pub explanations: Vec<Explanation>,
    /// Share of the excess that stays unexplained, 0–1.
    pub unexplained: Option<f64>,
    /// Terminals that were set aside because a set rested on them alone.
    pub broken: Vec<i64>,
}

/// Scans `cells`. `part_of` names, for a set, the terminal with the most failures in it and its part.
///
/// Cost: attributes² / 2 passes over the cells a round, one round more than sets found.
pub fn explain(cells: &Cells, gain_min: f64, mut part_of: impl FnMut(&[Predicate]) -> Option<Part>) -> Report {
    let mut cells = cells.clone();
    let mut broken = Vec::new();
    loop {
        let (report, start) = scan(&cells, gain_min);
        let lone = (broken.len() < BROKEN_MAX)
            .then(|| {
                report
                    .explanations
                    .iter()
                    .find_map(|found| lone_terminal(&cells, &start, found, &report, gain_min, &mut part_of))
            })
            .flatten();
        match lone {
            Some(part) if !broken.contains(&part.terminal_id) => {
                for &(cell, n, k) in &part.cells {
                    if let (Some(cell_n), Some(cell_k)) = (cells.n.get_mut(cell), cells.k.get_mut(cell)) {
                        *cell_n = (*cell_n - n).max(0.0);
                        *cell_k = (*cell_k - k).max(0.0);
                    }
                }
                broken.push(part.terminal_id);
            }
            Some(_) | None => return Report { broken, ..report },
        }
    }
}

/// The terminal without which `found` would not have been named.
fn lone_terminal(
    cells: &Cells,
    start: &Start,
    found: &Explanation,
    report: &Report,
    gain_min: f64,
    part_of: &mut impl FnMut(&[Predicate]) -> Option<Part>,
) -> Option<Part> {
    let part = part_of(&found.all_of)?;
    let (mut k, mut expected) = (found.k, found.expected);
    for &(cell, n, failures) in &part.cells {
        k -= failures;
        expected -= n * start.rate.get(cell).copied().unwrap_or(0.0);
    }
    let gain = score(k, expected.max(1e-6), report.phi) - penalty(cells, &found.all_of);
    let survives = k >= FAILURES_MIN && k / expected.max(1e-6) >= LIFT_MIN && gain >= gain_min;
    (!survives).then_some(part)
}

/// Where a scan starts: what is expected of each cell.
struct Start {
    rate: Vec<f64>,
    expected: Vec<f64>,
    phi: f64,
    mode: Mode,
}

fn scan(cells: &Cells, gain_min: f64) -> (Report, Start) {
    let start = baseline(cells);
    let mut expected = start.expected.clone();
    let (n, k): (f64, f64) = (cells.n.iter().sum(), cells.k.iter().sum());
    let expected_total: f64 = start.expected.iter().sum();
    let excess = k - expected_total;
    let sets_max = if start.mode == Mode::Contrast { 1 } else { SETS_MAX };
    let mut explanations = Vec::new();
    while explanations.len() < sets_max {
        let found = search(cells, &expected, start.phi);
        let Some(best) = found.first().filter(|best| best.gain >= gain_min).cloned() else { break };
        if !explanations.is_empty() && best.k - best.expected < EXCESS_SHARE_MIN * excess.max(1.0) {
            break;
        }
        explanations.push(Explanation {
            n: matching(cells, &best.predicates).map(|cell| at(&cells.n, cell)).sum(),
            k: best.k,
            expected: best.expected,
            lift: best.k / best.expected,
            interval: interval(best.k, best.expected, start.phi),
            coverage: (excess > 0.0).then(|| (best.k - best.expected) / excess),
            gain: best.gain,
            p_adjusted: (3.0 * (-best.gain).exp()).min(1.0),
            drop_one: Vec::new(),
            aliases: aliases(cells, &best, &found),
            all_of: best.predicates.clone(),
        });
        let factor = best.k / best.expected;
        for cell in matching(cells, &best.predicates).collect::<Vec<_>>() {
            if let Some(value) = expected.get_mut(cell) {
                *value *= factor;
            }
        }
    }
    for explanation in &mut explanations {
        explanation.drop_one = drop_one(cells, &expected, &explanation.all_of);
    }
    let left: f64 = k - expected.iter().sum::<f64>();
    let unexplained = (excess > 0.0).then(|| (left / excess).clamp(0.0, 1.0));
    let report = Report {
        mode: start.mode,
        n,
        k,
        expected: expected_total,
        phi: start.phi,
        explanations,
        unexplained,
        broken: Vec::new(),
    };
    (report, start)
}

fn at(values: &[f64], index: usize) -> f64 {
    values.get(index).copied().unwrap_or(0.0)
}

fn code(cells: &Cells, attribute: usize, cell: usize) -> u16 {
    cells.codes.get(attribute).and_then(|codes| codes.get(cell)).copied().unwrap_or(u16::MAX)
}

fn size(cells: &Cells, attribute: usize) -> usize {
    cells.attributes.get(attribute).map_or(0, |attribute| attribute.values.len())
}

/// Expected failures by main effects fitted on the history (iterative proportional fitting), each cell shrunk towards
/// them with the weight of two expected failures.
fn baseline(cells: &Cells) -> Start {
    let (n0, k0): (f64, f64) = (cells.n0.iter().sum(), cells.k0.iter().sum());
    if k0 < HISTORY_FAILURES_MIN {
        let (n, k): (f64, f64) = (cells.n.iter().sum(), cells.k.iter().sum());
        let rate = if n > 0.0 { k / n } else { 0.0 };
        let expected = cells.n.iter().map(|n| n * rate).collect();
        return Start { rate: vec![rate; cells.n.len()], expected, phi: 1.0, mode: Mode::Contrast };
    }
    let overall = (k0 + 0.5) / (n0 + 1.0);
    // The fitted rate of each cell; also where the history has no exposures.
    let mut fitted = vec![overall; cells.n.len()];
    for _ in 0..FIT_ROUNDS {
        for attribute in 0..cells.attributes.len() {
            let values = size(cells, attribute);
            let (mut failed, mut expected) = (vec![0.0; values], vec![0.0; values]);
            for (cell, rate) in fitted.iter().enumerate() {
                let value = usize::from(code(cells, attribute, cell));
                if let (Some(failed), Some(expected)) = (failed.get_mut(value), expected.get_mut(value)) {
                    *failed += at(&cells.k0, cell);
                    *expected += at(&cells.n0, cell) * rate;
                }
            }
            for (cell, rate) in fitted.iter_mut().enumerate() {
                let value = usize::from(code(cells, attribute, cell));
                *rate *= (at(&failed, value) + 5.0) / (at(&expected, value) + 5.0);
            }
        }
    }
    let phi = dispersion(cells, &fitted);
    let weight = 2.0 / overall;
    let rate: Vec<f64> = fitted
        .iter()
        .enumerate()
        .map(|(cell, q)| ((at(&cells.k0, cell) + weight * q) / (at(&cells.n0, cell) + weight)).min(0.95))
        .collect();
    let expected = rate.iter().enumerate().map(|(cell, rate)| at(&cells.n, cell) * rate).collect();
    Start { rate, expected, phi, mode: Mode::History }
}

/// How much more the history scatters than chance would: failures cluster by terminal.
fn dispersion(cells: &Cells, fitted: &[f64]) -> f64 {
    const CELLS_MIN: usize = 50;
    let squares: Vec<f64> = fitted
        .iter()
        .enumerate()
        .map(|(cell, rate)| (at(&cells.k0, cell), at(&cells.n0, cell) * rate))
        .filter(|(_, expected)| *expected >= 1.0)
        .map(|(failed, expected)| (failed - expected).powi(2) / expected)
        .collect();
    if squares.len() < CELLS_MIN {
        return 1.0;
    }
    (squares.iter().sum::<f64>() / count(squares.len())).max(1.0)
}

fn count(length: usize) -> f64 {
    u32::try_from(length).map_or(f64::from(u32::MAX), f64::from)
}

/// A set with its figures.
#[derive(Debug, Clone, PartialEq)]
struct Candidate {
    predicates: Vec<Predicate>,
    k: f64,
    expected: f64,
    gain: f64,
}

/// Poisson log-likelihood ratio of `k` against `expected`, over-dispersion taken out.
fn score(k: f64, expected: f64, phi: f64) -> f64 {
    if k <= expected { 0.0 } else { (k * (k / expected).ln() - (k - expected)) / phi }
}

/// Code length of a set: which attributes, and which value of each.
fn penalty(cells: &Cells, predicates: &[Predicate]) -> f64 {
    let attributes = count(cells.attributes.len());
    let ways = match predicates.len() {
        1 => attributes,
        2 => attributes * (attributes - 1.0) / 2.0,
        _ => attributes * (attributes - 1.0) * (attributes - 2.0) / 6.0,
    };
    ways.max(1.0).ln() + predicates.iter().map(|p| count(size(cells, p.attribute)).max(1.0).ln()).sum::<f64>()
}

fn candidate(cells: &Cells, predicates: Vec<Predicate>, k: f64, expected: f64, phi: f64) -> Option<Candidate> {
    let expected = expected.max(1e-6);
    if k < FAILURES_MIN || k / expected < LIFT_MIN {
        return None;
    }
    let gain = score(k, expected, phi) - penalty(cells, &predicates);
    Some(Candidate { predicates, k, expected, gain })
}

/// By gain; ties go to the lower order, then to the lower attributes and codes.
fn better(one: &Candidate, other: &Candidate) -> Ordering {
    other
        .gain
        .total_cmp(&one.gain)
        .then_with(|| one.predicates.len().cmp(&other.predicates.len()))
        .then_with(|| one.predicates.cmp(&other.predicates))
}

/// All admissible sets of one and two predicates, and the extensions of the best pairs; best first.
fn search(cells: &Cells, expected: &[f64], phi: f64) -> Vec<Candidate> {
    let attributes = cells.attributes.len();
    let mut found = Vec::new();
    for a in 0..attributes {
        let sums = fold(cells, expected, 0..cells.n.len(), |cell| usize::from(code(cells, a, cell)), size(cells, a));
        found.extend(
            sums.iter().zip(0_u16..).filter_map(|(&(k, e), value)| {
                candidate(cells, vec![Predicate { attribute: a, code: value }], k, e, phi)
            }),
        );
    }
    let mut pairs = Vec::new();
    for a in 0..attributes {
        for b in a + 1..attributes {
            let width = size(cells, b);
            let slot = |cell| usize::from(code(cells, a, cell)) * width + usize::from(code(cells, b, cell));
            let sums = fold(cells, expected, 0..cells.n.len(), slot, size(cells, a) * width);
            for (index, &(k, e)) in sums.iter().enumerate() {
                let value = |number: usize| u16::try_from(number).unwrap_or(u16::MAX);
                let first = Predicate { attribute: a, code: value(index / width.max(1)) };
                let second = Predicate { attribute: b, code: value(index % width.max(1)) };
                pairs.extend(candidate(cells, vec![first, second], k, e, phi));
            }
        }
    }
    pairs.sort_by(better);
    for pair in pairs.iter().take(EXTENDED_PAIRS) {
        extend(cells, expected, phi, pair, &mut found);
    }
    found.extend(pairs);
    found.sort_by(better);
    found.dedup_by(|one, other| one.predicates == other.predicates);
    found
}

fn extend(cells: &Cells, expected: &[f64], phi: f64, pair: &Candidate, found: &mut Vec<Candidate>) {
    let rows: Vec<usize> = matching(cells, &pair.predicates).collect();
    for c in (0..cells.attributes.len()).filter(|c| pair.predicates.iter().all(|p| p.attribute != *c)) {
        let slot = |cell| usize::from(code(cells, c, cell));
        let sums = fold(cells, expected, rows.iter().copied(), slot, size(cells, c));
        for (&(k, e), value) in sums.iter().zip(0_u16..) {
            let mut predicates = pair.predicates.clone();
            predicates.push(Predicate { attribute: c, code: value });
            predicates.sort_unstable();
            found.extend(candidate(cells, predicates, k, e, phi));
        }
    }
}

/// Failures and expectation by slot.
fn fold(
    cells: &Cells,
    expected: &[f64],
    rows: impl Iterator<Item = usize>,
    slot: impl Fn(usize) -> usize,
    slots: usize,
) -> Vec<(f64, f64)> {
    let mut sums = vec![(0.0, 0.0); slots];
    for cell in rows {
        if let Some((k, e)) = sums.get_mut(slot(cell)) {
            *k += at(&cells.k, cell);
            *e += at(expected, cell);
        }
    }
    sums
}

fn matching<'a>(cells: &'a Cells, predicates: &'a [Predicate]) -> impl Iterator<Item = usize> + 'a {
    (0..cells.n.len()).filter(move |&cell| predicates.iter().all(|p| code(cells, p.attribute, cell) == p.code))
}

fn drop_one(cells: &Cells, expected: &[f64], predicates: &[Predicate]) -> Vec<(usize, f64, f64)> {
    predicates
        .iter()
        .map(|dropped| {
            let others: Vec<Predicate> = predicates.iter().copied().filter(|p| p != dropped).collect();
            let (mut k, mut e) = (0.0, 0.0);
            for cell in matching(cells, &others) {
                if code(cells, dropped.attribute, cell) != dropped.code {
                    k += at(&cells.k, cell);
                    e += at(expected, cell);
                }
            }
            (dropped.attribute, k, e)
        })
        .collect()
}

/// Sets that fit nearly as well: the same exposures, or nearly the same gain on half of them.
fn aliases(cells: &Cells, best: &Candidate, found: &[Candidate]) -> Vec<(Vec<Predicate>, f64)> {
    const ALIASES_MAX: usize = 5;
    /// Candidates compared at most; they are sorted by gain.
    const COMPARED_MAX: usize = 200;
    let inside: Vec<bool> = {
        let mut inside = vec![false; cells.n.len()];
        matching(cells, &best.predicates).for_each(|cell| {
            if let Some(flag) = inside.get_mut(cell) {
                *flag = true;
            }
        });
        inside
    };
    let own: f64 = matching(cells, &best.predicates).map(|cell| at(&cells.n, cell)).sum();
    let is_refinement = |set: &Candidate| best.predicates.iter().all(|p| set.predicates.contains(p));
    let mut aliases: Vec<(Vec<Predicate>, f64)> = found
        .iter()
        .take(COMPARED_MAX)
        .filter(|set| set.predicates != best.predicates && !is_refinement(set))
        .filter_map(|set| {
            let (mut theirs, mut both) = (0.0, 0.0);
            for cell in matching(cells, &set.predicates) {
                theirs += at(&cells.n, cell);
                both += if inside.get(cell).copied().unwrap_or(false) { at(&cells.n, cell) } else { 0.0 };
            }
            let jaccard = both / (own + theirs - both).max(1e-9);
            let near = best.gain - set.gain <= 3.0 && jaccard >= 0.5;
            (jaccard >= 0.9 || near).then(|| (set.predicates.clone(), jaccard))
        })
        .collect();
    aliases.sort_by(|one, other| other.1.total_cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    aliases.truncate(ALIASES_MAX);
    aliases
}

/// 95 % interval of `k / expected` (Byar's approximation of Garwood's interval), over-dispersion taken into account.
fn interval(k: f64, expected: f64, phi: f64) -> (f64, f64) {
    const Z: f64 = 1.959_964;
    let (k, expected) = (k / phi, expected / phi);
    let low = k * (1.0 - 1.0 / (9.0 * k) - Z / (3.0 * k.sqrt())).powi(3) / expected;
    let above = k + 1.0;
    let high = above * (1.0 - 1.0 / (9.0 * above) + Z / (3.0 * above.sqrt())).powi(3) / expected;
    (low.max(0.0), high)
}

#[cfg(test)]
mod tests;
