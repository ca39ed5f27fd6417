//! What is expected where there is no history: what the conditions do elsewhere in the window.
//!
//! Without history nobody can tell what always was so from what is new. Values of one attribute differ by themselves,
//! within bounds: up to [`EFFECT_MAX`] above its middle value is put down to that. What goes beyond, and what conditions
//! do only together, is worth naming, with low confidence.

use super::Mode;
use super::baseline::{Counts, Start, main_effects};
use super::search::Set;
use super::table::{Column, Table};

/// Values differ by this factor without being a cause. Measured: access types and signal bands differ by up to 1.8.
pub const EFFECT_MAX: f64 = 1.7;
/// Effects of values are drawn towards none as by so many failures: they scatter by about the inverse root of it.
const EFFECT_PRIOR: f64 = 12.0;
/// The same for a first look, in which a cause must not hide behind what it does to the values that it is made of.
pub const EFFECT_FIRST_MAX: f64 = 1.25;
/// Median of the square of a normal variable.
const SQUARE_MEDIAN: f64 = 0.455;
/// Over-dispersion is measured on at least this many rows with an expected failure each.
const DISPERSION_ROWS_MIN: usize = 50;

/// What is expected of each row by the main effects in the rows that are in none of `sets`; none counts more than
/// `effect_max`.
pub fn contrast(table: &Table, sets: &[Set], effect_max: f64) -> Start {
    let (mut n, mut k) = (table.n.clone(), table.k.clone());
    for set in sets {
        for row in table.rows_of(set) {
            (n[row], k[row]) = (0.0, 0.0);
        }
    }
    let mut rate = (k.iter().sum::<f64>() + 0.5) / (n.iter().sum::<f64>() + 1.0);
    let mut effects = main_effects(table, &Counts { n: &n, k: &k }, rate, EFFECT_PRIOR);
    let mut prior = 0.0;
    for (column, effects) in table.columns.iter().zip(&mut effects) {
        let middle = middle(column, effects, &n);
        rate *= middle;
        for effect in effects {
            *effect = (*effect / middle).clamp(1.0 / EFFECT_MAX, effect_max);
            prior += EFFECT_PRIOR * (effect.ln() - *effect + 1.0);
        }
    }
    let mut rates = vec![rate; table.len()];
    for (column, effects) in table.columns.iter().zip(&effects) {
        for (code, rate) in column.codes.iter().zip(&mut rates) {
            *rate *= effects[usize::from(*code)];
        }
    }
    let expected: Vec<f64> = rates.iter().zip(&table.n).map(|(rate, n)| n * rate.min(1.0)).collect();
    let phi = dispersion(&k, &n, &rates);
    Start { rate: rates, expected, phi, mode: Mode::Contrast, weight: Vec::new(), by_value: Vec::new(), prior }
}

/// The effect that half of the exposures are below: a cause on less than half of them does not move it much.
fn middle(column: &Column, effects: &[f64], n: &[f64]) -> f64 {
    let mut weights = vec![0.0; effects.len()];
    for (code, n) in column.codes.iter().zip(n) {
        weights[usize::from(*code)] += n;
    }
    let mut order: Vec<(f64, f64)> = effects.iter().copied().zip(weights).collect();
    order.sort_by(|one, other| one.0.total_cmp(&other.0));
    let half = order.iter().map(|(_, weight)| weight).sum::<f64>() / 2.0;
    let mut below = 0.0;
    for (effect, weight) in order {
        below += weight;
        if weight > 0.0 && below >= half {
            return effect;
        }
    }
    1.0
}

/// How much more rows scatter than chance would, by the median: rows with a cause are among them.
fn dispersion(k: &[f64], n: &[f64], rates: &[f64]) -> f64 {
    let mut squares: Vec<f64> = k
        .iter()
        .zip(n.iter().zip(rates))
        .map(|(k, (n, rate))| (k, n * rate))
        .filter(|(_, expected)| *expected >= 1.0)
        .map(|(k, expected)| (k - expected).powi(2) / expected)
        .collect();
    if squares.len() < DISPERSION_ROWS_MIN {
        return 1.0;
    }
    let middle = squares.len() / 2;
    let (_, median, _) = squares.select_nth_unstable_by(middle, f64::total_cmp);
    (*median / SQUARE_MEDIAN).max(1.0)
}
