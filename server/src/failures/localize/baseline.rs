//! What is expected of each row: main effects fitted on the history, and each row's own history shrunk towards them.

use super::Mode;
use super::contrast::{EFFECT_MAX, contrast};
use super::search::{Set, evidence};
use super::table::{Column, Table};

/// Below this many failures in the history there is no baseline: permanent differences cannot be told from new causes.
const HISTORY_FAILURES_MIN: f64 = 50.0;
/// Rounds of proportional fitting; the fit is stable well before.
const FIT_ROUNDS: usize = 15;
/// Failures that are added to both sides of each factor: a value without history has the factor 1.
const FIT_PRIOR: f64 = 5.0;
/// Weight of the main effects against a row's own history, expected failures.
const ROW_PRIOR: f64 = 2.0;
/// No row is expected to fail more often.
const RATE_MAX: f64 = 0.95;
/// Over-dispersion is measured on at least this many rows with an expected failure each.
const DISPERSION_ROWS_MIN: usize = 50;

/// Where a scan starts.
#[derive(Debug, Clone)]
pub struct Start {
    /// Expected rate of each row.
    pub rate: Vec<f64>,
    /// Expected failures of each row in the window.
    pub expected: Vec<f64>,
    /// How much more the history scatters than chance would: failures cluster by terminal.
    pub phi: f64,
    /// What was compared with what.
    pub mode: Mode,
    /// Failures of the history behind the expectation of each row, those that the main effects stand for included.
    pub weight: Vec<f64>,
    /// Failures of the history by attribute and value.
    pub by_value: Vec<Vec<f64>>,
    /// Without history: how likely values differ so much by themselves, ln.
    pub prior: f64,
}

impl Start {
    /// The same with every expectation multiplied.
    pub fn scaled(&self, factor: f64) -> Self {
        let scale = |values: &[f64]| values.iter().map(|value| value * factor).collect();
        Self { rate: scale(&self.rate), expected: scale(&self.expected), ..self.clone() }
    }

    /// Evidence of `k` failures against `expected` of `set`, the history being a sample too: two Poisson counts are
    /// compared instead of one with a rate that is known (Przyborowski and Wilenski 1940). Nats.
    pub fn evidence_of_samples(&self, table: &Table, set: &Set, k: f64, expected: f64) -> f64 {
        if k <= expected {
            return 0.0;
        }
        if self.mode == Mode::Contrast {
            return evidence(k, expected) / self.phi;
        }
        let own: f64 = table.rows_of(set).into_iter().map(|row| self.weight[row]).sum();
        // Each main effect is known no better than its value's history; their relative variances add up.
        let variance: f64 = set
            .predicates()
            .iter()
            .map(|&(attribute, value)| 1.0 / (self.by_value[usize::from(attribute)][usize::from(value)] + 1.0))
            .sum();
        let history = own.min(1.0 / variance.max(1e-12));
        let share = expected / (expected + history);
        let both = k + history;
        let history_part = if history > 0.0 { history * (history / ((1.0 - share) * both)).ln() } else { 0.0 };
        (k * (k / (share * both)).ln() + history_part) / self.phi
    }
}

/// Fits the history of `table`.
pub fn baseline(table: &Table) -> Start {
    let (n0, k0): (f64, f64) = (table.n0.iter().sum(), table.k0.iter().sum());
    if k0 < HISTORY_FAILURES_MIN {
        return contrast(table, &[], EFFECT_MAX);
    }
    let overall = (k0 + 0.5) / (n0 + 1.0);
    let counts = Counts { n: &table.n0, k: &table.k0 };
    let effects = main_effects(table, &counts, overall, FIT_PRIOR);
    let mut fitted = vec![overall; table.len()];
    for (column, effects) in table.columns.iter().zip(&effects) {
        for (code, rate) in column.codes.iter().zip(&mut fitted) {
            *rate *= effects[usize::from(*code)];
        }
    }
    let phi = dispersion(table, &fitted);
    let weight = ROW_PRIOR / overall;
    let rate: Vec<f64> = fitted
        .iter()
        .zip(table.k0.iter().zip(&table.n0))
        .map(|(q, (k0, n0))| ((k0 + weight * q) / (n0 + weight)).min(RATE_MAX))
        .collect();
    let expected = rate.iter().zip(&table.n).map(|(rate, n)| n * rate).collect();
    let weight = fitted.iter().zip(&table.k0).map(|(q, k0)| k0 + weight * q).collect();
    Start { rate, expected, phi, mode: Mode::History, weight, by_value: by_value(table), prior: 0.0 }
}

fn by_value(table: &Table) -> Vec<Vec<f64>> {
    let sums = |column: &Column| {
        let mut sums = vec![0.0; column.values.len()];
        for (code, k0) in column.codes.iter().zip(&table.k0) {
            sums[usize::from(*code)] += k0;
        }
        sums
    };
    table.columns.iter().map(sums).collect()
}

/// Exposures and failures of each row.
pub struct Counts<'a> {
    /// Exposures.
    pub n: &'a [f64],
    /// Failures.
    pub k: &'a [f64],
}

/// The factor of each value of each attribute, by iterative proportional fitting. `prior` failures on both
/// sides of each make small samples differ less.
pub fn main_effects(table: &Table, counts: &Counts<'_>, overall: f64, prior: f64) -> Vec<Vec<f64>> {
    let mut expected: Vec<f64> = counts.n.iter().map(|n| n * overall).collect();
    let mut effects: Vec<Vec<f64>> = table.columns.iter().map(|column| vec![1.0; column.values.len()]).collect();
    for _ in 0..FIT_ROUNDS {
        let mut moved = 0.0_f64;
        for (column, effects) in table.columns.iter().zip(&mut effects) {
            let mut sums = vec![[0.0; 2]; effects.len()];
            for (code, (k, expected)) in column.codes.iter().zip(counts.k.iter().zip(&expected)) {
                let sum = &mut sums[usize::from(*code)];
                sum[0] += k;
                sum[1] += expected;
            }
            let factors: Vec<f64> = sums.iter().map(|[k, e]| (k + prior) / (e + prior)).collect();
            for (effect, factor) in effects.iter_mut().zip(&factors) {
                *effect *= factor;
                moved = moved.max((factor - 1.0).abs());
            }
            for (code, expected) in column.codes.iter().zip(&mut expected) {
                *expected *= factors[usize::from(*code)];
            }
        }
        // Further rounds would change nothing that anybody sees.
        if moved < 1e-9 {
            break;
        }
    }
    effects
}

/// Mean squared scatter of the history around its main effects, at least that of chance.
fn dispersion(table: &Table, fitted: &[f64]) -> f64 {
    let (mut sum, mut rows) = (0.0, 0_u32);
    for (rate, (k0, n0)) in fitted.iter().zip(table.k0.iter().zip(&table.n0)) {
        let expected = n0 * rate;
        if expected >= 1.0 {
            sum += (k0 - expected).powi(2) / expected;
            rows += 1;
        }
    }
    if (rows as usize) < DISPERSION_ROWS_MIN { 1.0 } else { (sum / f64::from(rows)).max(1.0) }
}
