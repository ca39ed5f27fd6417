//! What several sets explain together.
//!
//! Sets overlap. Explained one after the other, the first would take a part of the second's excess and leave remains
//! that look like further causes. So rows are told apart by which of the sets they are in, and each group of rows
//! explains itself: right however the causes work together, whether their factors multiply, add up or the larger wins.

use super::baseline::Start;
use super::search::Set;
use super::table::Table;

/// Some sets, fitted.
#[derive(Debug, Clone)]
pub struct Fit {
    /// The sets that each row is in, one bit each.
    groups: Vec<u8>,
    /// Failures over expectation of each group.
    factors: Vec<f64>,
    /// Log-likelihood ratio against no set, over-dispersion not taken out.
    pub evidence: f64,
}

/// Whether rows in no set keep their expectation or explain themselves too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// As expected.
    Kept,
    /// Everything may have risen together.
    Fitted,
}

impl Fit {
    /// Fits `sets`, of which there are eight at most.
    pub fn new(table: &Table, start: &Start, sets: &[Set], rest: Rest) -> Self {
        let mut groups = vec![0_u8; table.len()];
        for (set, bit) in sets.iter().zip(0..u8::BITS) {
            for row in table.rows_of(set) {
                groups[row] |= 1 << bit;
            }
        }
        let mut sums = vec![[0.0; 2]; 1 << sets.len().min(8)];
        for ((group, k), e) in groups.iter().zip(&table.k).zip(&start.expected) {
            let sum = &mut sums[usize::from(*group)];
            sum[0] += k;
            sum[1] += e;
        }
        let (mut factors, mut evidence) = (vec![1.0; sums.len()], 0.0);
        for (group, [k, e]) in sums.into_iter().enumerate() {
            if e > 0.0 && (group > 0 || rest == Rest::Fitted) {
                factors[group] = k / e;
                evidence += if k > 0.0 { k * (k / e).ln() } else { 0.0 } - (k - e);
            }
        }
        Self { groups, factors, evidence }
    }

    /// What is expected of each row now.
    pub fn expected(&self, start: &Start) -> Vec<f64> {
        self.groups.iter().zip(&start.expected).map(|(group, e)| e * self.factors[usize::from(*group)]).collect()
    }

    /// Failures over expectation of the rows in no set.
    pub fn rest(&self) -> f64 {
        self.factors.first().copied().unwrap_or(1.0)
    }
}
