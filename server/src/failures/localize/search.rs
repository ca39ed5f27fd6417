//! One round of the search: all sets of one and two predicates, and the extensions of the best pairs to three.

use std::cmp::Ordering;

use super::table::Table;
use super::{FAILURES_MIN, LIFT_MIN};

/// Pairs that are extended to three predicates.
const EXTENDED_PAIRS: usize = 100;
/// Most predicates of a set.
pub const ORDER_MAX: usize = 3;

/// A conjunction of up to three `attribute = value`, by attribute; none is everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Set {
    order: u8,
    predicates: [(u8, u16); ORDER_MAX],
}

impl Set {
    /// The set of these predicates (attribute, code); at most three, of different attributes.
    pub fn of(predicates: &[(u8, u16)]) -> Self {
        let mut set = Self::default();
        for (slot, predicate) in set.predicates.iter_mut().zip(predicates) {
            *slot = *predicate;
            set.order += 1;
        }
        let order = usize::from(set.order);
        set.predicates[..order].sort_unstable();
        set
    }

    /// Its predicates.
    pub fn predicates(&self) -> &[(u8, u16)] {
        &self.predicates[..usize::from(self.order)]
    }

    /// The same without the predicate of one attribute.
    pub fn without(&self, attribute: u8) -> Self {
        let others: Vec<_> = self.predicates().iter().copied().filter(|(other, _)| *other != attribute).collect();
        Self::of(&others)
    }

    /// Whether all predicates of `coarse` are among its own.
    pub fn refines(&self, coarse: &Self) -> bool {
        coarse.predicates().iter().all(|predicate| self.predicates().contains(predicate))
    }

    /// Lower order first, then lower attributes, then lower codes.
    fn rank(&self, other: &Self) -> Ordering {
        let attributes = |set: &Self| set.predicates.map(|(attribute, _)| attribute);
        let codes = |set: &Self| set.predicates.map(|(_, code)| code);
        let by_order = self.order.cmp(&other.order);
        by_order.then_with(|| attributes(self).cmp(&attributes(other))).then_with(|| codes(self).cmp(&codes(other)))
    }
}

/// A set with its figures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Which.
    pub set: Set,
    /// Failures.
    pub k: f64,
    /// Expected failures.
    pub expected: f64,
    /// Evidence after penalty, nats.
    pub gain: f64,
}

impl Candidate {
    /// The figures of `set`, admissible or not.
    pub fn of(table: &Table, expected: &[f64], phi: f64, set: Set) -> Self {
        let rows = table.rows_of(&set);
        let k = rows.iter().map(|&row| table.k[row]).sum();
        let expected = rows.iter().map(|&row| expected[row]).sum::<f64>().max(1e-6);
        Self { set, k, expected, gain: evidence(k, expected) / phi - penalty(table, &set) }
    }

    /// By gain, best first; ties go to the lower order, then to the lower attributes and codes.
    pub fn rank(&self, other: &Self) -> Ordering {
        other.gain.total_cmp(&self.gain).then_with(|| self.set.rank(&other.set))
    }
}

/// Poisson log-likelihood ratio of `k` against `expected`; 0 when there is no excess.
pub fn evidence(k: f64, expected: f64) -> f64 {
    if k <= expected { 0.0 } else { k * (k / expected).ln() - (k - expected) }
}

/// Code length of a set: which attributes, and which value of each.
pub fn penalty(table: &Table, set: &Set) -> f64 {
    let values = set.predicates().iter().map(|(attribute, _)| ln_values(table, usize::from(*attribute)));
    ln_ways(table.columns.len())[usize::from(set.order)] + values.sum::<f64>()
}

/// ln of the ways to choose 0 to 3 of so many attributes.
fn ln_ways(attributes: usize) -> [f64; ORDER_MAX + 1] {
    let d = attributes as f64;
    [1.0, d, d * (d - 1.0) / 2.0, d * (d - 1.0) * (d - 2.0) / 6.0].map(|ways: f64| ways.max(1.0).ln())
}

fn ln_values(table: &Table, attribute: usize) -> f64 {
    (table.columns[attribute].values.len().max(1) as f64).ln()
}

/// Looks at all sets against `expected`; the admissible ones, in no order.
pub fn search(table: &Table, expected: &[f64], phi: f64) -> Vec<Candidate> {
    let mut search = Search {
        table,
        rows: table.k.iter().zip(expected).map(|(k, e)| [*k, *e]).collect(),
        phi,
        ln_ways: ln_ways(table.columns.len()),
        ln_values: (0..table.columns.len()).map(|attribute| ln_values(table, attribute)).collect(),
        found: Vec::new(),
    };
    search.singles();
    let first_pair = search.found.len();
    search.pairs();
    let mut pairs = search.found.split_off(first_pair);
    if pairs.len() > EXTENDED_PAIRS {
        pairs.select_nth_unstable_by(EXTENDED_PAIRS, Candidate::rank);
    }
    for pair in pairs.iter().take(EXTENDED_PAIRS) {
        search.extend(pair);
    }
    search.found.append(&mut pairs);
    search.found
}

/// What one round works with.
struct Search<'a> {
    table: &'a Table,
    /// Failures and expectation of each row.
    rows: Vec<[f64; 2]>,
    phi: f64,
    ln_ways: [f64; ORDER_MAX + 1],
    ln_values: Vec<f64>,
    /// Every admissible set that was looked at.
    found: Vec<Candidate>,
}

impl Search<'_> {
    fn consider(&mut self, predicates: &[(u8, u16)], [k, expected]: [f64; 2]) {
        let expected = expected.max(1e-6);
        if k < FAILURES_MIN || k < LIFT_MIN * expected {
            return;
        }
        let values: f64 = predicates.iter().map(|(attribute, _)| self.ln_values[usize::from(*attribute)]).sum();
        let gain = evidence(k, expected) / self.phi - self.ln_ways[predicates.len()] - values;
        self.found.push(Candidate { set: Set::of(predicates), k, expected, gain });
    }

    fn singles(&mut self) {
        for (a, column) in self.table.columns.iter().enumerate() {
            let mut sums = vec![[0.0; 2]; column.values.len()];
            for (code, row) in column.codes.iter().zip(&self.rows) {
                add(&mut sums[usize::from(*code)], row);
            }
            for (code, sum) in sums.into_iter().enumerate() {
                if self.table.is_named(a, code) {
                    self.consider(&[predicate(a, code)], sum);
                }
            }
        }
    }

    fn pairs(&mut self) {
        let mut sums = Vec::new();
        for (a, first) in self.table.columns.iter().enumerate() {
            for (b, second) in self.table.columns.iter().enumerate().skip(a + 1) {
                let is_allowed =
                    (!first.is_identifier || second.is_partner) && (!second.is_identifier || first.is_partner);
                if !is_allowed {
                    continue;
                }
                let width = second.values.len();
                sums.clear();
                sums.resize(first.values.len() * width, [0.0; 2]);
                for ((one, other), row) in first.codes.iter().zip(&second.codes).zip(&self.rows) {
                    add(&mut sums[usize::from(*one) * width + usize::from(*other)], row);
                }
                for (index, sum) in sums.iter().enumerate() {
                    let (one, other) = (index / width, index % width);
                    if sum[0] >= FAILURES_MIN && self.table.is_named(a, one) && self.table.is_named(b, other) {
                        self.consider(&[predicate(a, one), predicate(b, other)], *sum);
                    }
                }
            }
        }
    }

    /// Looks at the sets of three that have `pair` in them, but not at those that a better pair has led to.
    fn extend(&mut self, pair: &Candidate) {
        let &[one, other] = pair.set.predicates() else { return };
        let columns = &self.table.columns;
        if columns[usize::from(one.0)].is_identifier || columns[usize::from(other.0)].is_identifier {
            return;
        }
        let rows = self.table.rows_of(&pair.set);
        for (c, column) in columns.iter().enumerate() {
            if column.is_identifier || c == usize::from(one.0) || c == usize::from(other.0) {
                continue;
            }
            let mut sums = vec![[0.0; 2]; column.values.len()];
            for &row in &rows {
                add(&mut sums[usize::from(column.codes[row])], &self.rows[row]);
            }
            for (code, sum) in sums.into_iter().enumerate() {
                if self.table.is_named(c, code) {
                    self.consider(&[one, other, predicate(c, code)], sum);
                }
            }
        }
    }
}

fn add(sum: &mut [f64; 2], row: &[f64; 2]) {
    sum[0] += row[0];
    sum[1] += row[1];
}

/// Attributes are few and codes are `u16`, so that nothing is cut off.
fn predicate(attribute: usize, code: usize) -> (u8, u16) {
    (attribute as u8, code as u16)
}
