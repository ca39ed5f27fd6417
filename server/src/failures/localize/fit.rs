//! The factors of several sets together: each row fails as often as expected times the factor of every set it is in.
//!
//! Sets overlap, and where they do their factors multiply. Fitted one after the other, the first would take a part of
//! the second's excess and leave remains that look like further causes; fitted together they do not.

use super::baseline::Start;
use super::search::Set;
use super::table::Table;

/// Rounds of proportional fitting at most; few are needed unless sets overlap nearly wholly.
const ROUNDS_MAX: usize = 50;
/// The fit is good enough when no factor moves by more.
const MOVE_MIN: f64 = 1e-9;

/// Some sets, fitted.
#[derive(Debug, Clone)]
pub struct Fit {
    /// What is expected of each row, these sets explained.
    pub expected: Vec<f64>,
    /// Log-likelihood ratio against no set, over-dispersion not taken out.
    pub evidence: f64,
}

/// Fits the factors of `sets` so that each has as many failures as expected.
pub fn fit(table: &Table, start: &Start, sets: &[Set]) -> Fit {
    let mut expected = start.expected.clone();
    let members: Vec<(Vec<usize>, f64)> = sets
        .iter()
        .map(|set| {
            let rows = table.rows_of(set);
            let k = rows.iter().map(|&row| table.k[row]).sum();
            (rows, k)
        })
        .collect();
    for _ in 0..ROUNDS_MAX {
        let mut moved = 0.0_f64;
        for (rows, k) in &members {
            let e: f64 = rows.iter().map(|&row| expected[row]).sum();
            // A set without failures would be expected to have none ever after; it is never taken.
            let factor = k.max(1e-6) / e.max(1e-6);
            moved = moved.max((factor - 1.0).abs());
            for &row in rows {
                expected[row] *= factor;
            }
        }
        if sets.len() < 2 || moved < MOVE_MIN {
            break;
        }
    }
    let evidence = table
        .k
        .iter()
        .zip(expected.iter().zip(&start.expected))
        .filter(|(_, (now, before))| now != before && **now > 0.0 && **before > 0.0)
        .map(|(k, (now, before))| k * (now / before).ln() - (now - before))
        .sum();
    Fit { expected, evidence }
}
