//! The statistics of the fleet's rules. Pure: numbers in, numbers out.
//!
//! Each function says from how many observations on it judges, and answers `None` below: a statistic on less would only
//! look like one. Sources: Poisson and hypergeometric tails are summed exactly, with factorials as logarithms (Lanczos);
//! Benjamini and Hochberg 1995; Wilson 1927; the median absolute deviation after Hampel 1974.

/// Two-sided 95 % of the normal distribution.
pub const Z_95: f64 = 1.959_964;
/// Makes the median absolute deviation of normal values their standard deviation.
const MAD_TO_SIGMA: f64 = 1.4826;
/// Fewest like values that one value is compared with.
pub const PEERS_MIN: usize = 10;
/// Weight of the newest week in a baseline.
pub const EWMA_ALPHA: f64 = 0.1;
/// Weeks that a baseline must have seen the hour in.
pub const WEEKS_MIN: u32 = 3;

/// Coefficients of Lanczos' approximation of the gamma function, g = 7; relative error below 1e-15.
const LANCZOS: [f64; 8] = [
    676.520_368_121_885_1,
    -1_259.139_216_722_402_8,
    771.323_428_777_653_1,
    -176.615_029_162_140_6,
    12.507_343_278_686_905,
    -0.138_571_095_265_720_12,
    9.984_369_578_019_572e-6,
    1.505_632_735_149_311_6e-7,
];

/// Counts are far below 2^53.
pub fn as_f64(count: u64) -> f64 {
    #[allow(clippy::cast_precision_loss)]
    let value = count as f64;
    value
}

/// ln n!.
pub fn ln_factorial(n: u64) -> f64 {
    if n < 2 {
        return 0.0;
    }
    let x = as_f64(n);
    let mut sum = 0.999_999_999_999_809_9;
    let mut place = x;
    for coefficient in LANCZOS {
        place += 1.0;
        sum += coefficient / place;
    }
    let t = x + 7.5;
    0.5 * (2.0 * std::f64::consts::PI).ln() + (x + 0.5) * t.ln() - t + sum.ln()
}

/// P(X ≥ k) for X Poisson with mean `mean` ≥ 0.
pub fn poisson_upper(k: u64, mean: f64) -> f64 {
    if k == 0 {
        return 1.0;
    }
    if mean <= 0.0 {
        return 0.0;
    }
    let term = |k: u64| (as_f64(k) * mean.ln() - mean - ln_factorial(k)).exp();
    if as_f64(k) > mean {
        // The terms fall from here on.
        let (mut sum, mut last, mut at) = (0.0, term(k), k);
        while last > sum * 1e-17 && last > 0.0 {
            sum += last;
            at += 1;
            last *= mean / as_f64(at);
        }
        return sum.min(1.0);
    }
    let (mut sum, mut last, mut at) = (0.0, term(k - 1), k - 1);
    while last > sum * 1e-17 && last > 0.0 {
        sum += last;
        if at == 0 {
            break;
        }
        last *= as_f64(at) / mean;
        at -= 1;
    }
    (1.0 - sum).clamp(0.0, 1.0)
}

/// Two groups, each with the count of those it happened to and of those it did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table {
    /// In the first group, it happened.
    pub hit_in: u64,
    /// In the first group, it did not.
    pub spared_in: u64,
    /// In the second group, it happened.
    pub hit_out: u64,
    /// In the second group, it did not.
    pub spared_out: u64,
}

impl Table {
    /// Fisher's exact test, one-sided: the chance of at least as many hits in the first group, margins given.
    pub fn fisher(self) -> f64 {
        let (row, column) = (self.hit_in + self.spared_in, self.hit_in + self.hit_out);
        let total = row + self.hit_out + self.spared_out;
        let constant =
            ln_factorial(row) + ln_factorial(total - row) + ln_factorial(column) + ln_factorial(total - column)
                - ln_factorial(total);
        let most = row.min(column);
        let mut sum = 0.0;
        for hits in self.hit_in..=most {
            // Not below zero: there are not more hits than terminals outside.
            let Some(others) = (total - row).checked_sub(column - hits) else { continue };
            let ln = constant
                - ln_factorial(hits)
                - ln_factorial(row - hits)
                - ln_factorial(column - hits)
                - ln_factorial(others);
            sum += ln.exp();
        }
        f64::min(sum, 1.0)
    }

    /// How many times as often it happens in the first group; half a hit is added where there is none outside.
    /// `None` for a group without members.
    pub fn risk_ratio(self) -> Option<f64> {
        let (inside, outside) = (self.hit_in + self.spared_in, self.hit_out + self.spared_out);
        if inside == 0 || outside == 0 {
            return None;
        }
        let hits_out = if self.hit_out == 0 { 0.5 } else { as_f64(self.hit_out) };
        Some((as_f64(self.hit_in) / as_f64(inside)) / (hits_out / as_f64(outside)))
    }
}

/// The q value of each p value, in their order: the smallest false discovery rate at which it would be reported.
pub fn benjamini_hochberg(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    let value = |index: usize| p.get(index).copied().unwrap_or(1.0);
    order.sort_by(|&one, &other| value(other).total_cmp(&value(one)));
    let mut q = vec![1.0; p.len()];
    let (tests, mut least) = (p.len(), 1.0_f64);
    for (passed, &index) in order.iter().enumerate() {
        let rank = tests - passed;
        least = least.min(value(index) * as_f64(tests as u64) / as_f64(rank as u64));
        if let Some(slot) = q.get_mut(index) {
            *slot = least;
        }
    }
    q
}

/// Where like values lie.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// Half of them are below.
    pub median: f64,
    /// Robust standard deviation: 1.4826 × the median absolute deviation, at least the floor.
    pub scale: f64,
}

impl Spread {
    /// The spread of `values`; `floor` stands for a deviation of zero, which most rates of rare things have. `None` below
    /// [`PEERS_MIN`] values or without a floor above zero.
    pub fn of(values: &[f64], floor: f64) -> Option<Self> {
        if values.len() < PEERS_MIN || floor <= 0.0 {
            return None;
        }
        let median = median(values.to_vec());
        let deviation = self::median(values.iter().map(|value| (value - median).abs()).collect());
        Some(Self { median, scale: (MAD_TO_SIGMA * deviation).max(floor) })
    }

    /// How many robust standard deviations a value lies above the median.
    pub fn z(self, value: f64) -> f64 {
        (value - self.median) / self.scale
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let at = |index: usize| values.get(index).copied().unwrap_or(0.0);
    if values.len() % 2 == 1 { at(middle) } else { f64::midpoint(at(middle.saturating_sub(1)), at(middle)) }
}

/// Wilson's interval of a share, `z` standard deviations to each side; `None` of nothing.
pub fn wilson(hits: u64, of: u64, z: f64) -> Option<(f64, f64)> {
    if of == 0 || hits > of {
        return None;
    }
    let (n, share) = (as_f64(of), as_f64(hits) / as_f64(of));
    let weight = z * z / n;
    let middle = (share + weight / 2.0) / (1.0 + weight);
    let half = z / (1.0 + weight) * (share * (1.0 - share) / n + weight / (4.0 * n)).sqrt();
    Some(((middle - half).max(0.0), (middle + half).min(1.0)))
}

/// What is usual in one hour of the week: an exponentially weighted mean over weeks.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Baseline {
    /// Failed slots an attempt.
    pub rate: f64,
    /// Weeks that were folded in.
    pub weeks: u32,
}

impl Baseline {
    /// After one more week, in which `failed` of `attempts` failed; a week without attempts says nothing.
    pub fn folded(self, failed: u64, attempts: u64) -> Self {
        if attempts == 0 {
            return self;
        }
        let seen = as_f64(failed) / as_f64(attempts);
        let rate = if self.weeks == 0 { seen } else { self.rate + EWMA_ALPHA * (seen - self.rate) };
        Self { rate, weeks: self.weeks.saturating_add(1) }
    }

    /// Failures expected among `attempts`; `None` before [`WEEKS_MIN`] weeks.
    pub fn expected(self, attempts: u64) -> Option<f64> {
        (self.weeks >= WEEKS_MIN).then(|| self.rate * as_f64(attempts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(value: f64, reference: f64) {
        assert!((value - reference).abs() <= 1e-6 * reference.abs().max(1e-12), "{value} is not {reference}");
    }

    #[test]
    fn factorials_are_those_of_the_tables() {
        assert_eq!([0, 1].map(ln_factorial), [0.0, 0.0]);
        close(ln_factorial(5), 120.0_f64.ln());
        close(ln_factorial(20), 2_432_902_008_176_640_000.0_f64.ln());
        close(ln_factorial(170), 706.573_062_245_787_4);
        close(ln_factorial(1_000_000), 12_815_518.384_658_17);
    }

    #[test]
    fn poisson_tails_are_those_of_the_tables() {
        close(poisson_upper(1, 1.0), 1.0 - (-1.0_f64).exp());
        close(poisson_upper(5, 2.0), 0.052_653_017_343_711_12);
        close(poisson_upper(10, 10.0), 0.542_070_285_528_147_7);
        close(poisson_upper(20, 5.0), 3.452_135_820_914e-7);
        close(poisson_upper(3, 10.0), 0.997_230_604_284_488_4);
        assert_eq!(poisson_upper(0, 3.0), 1.0);
        assert_eq!(poisson_upper(5, 0.0), 0.0);
        assert_eq!(poisson_upper(1_000, 1.0), 0.0, "too small for a number");
    }

    #[test]
    fn fishers_test_is_the_tea_ladys() {
        let tea = Table { hit_in: 3, spared_in: 1, hit_out: 1, spared_out: 3 };
        close(tea.fisher(), 17.0 / 70.0);
        close(Table { hit_in: 4, spared_in: 0, hit_out: 0, spared_out: 4 }.fisher(), 1.0 / 70.0);
        close(Table { hit_in: 10, spared_in: 10, hit_out: 20, spared_out: 960 }.fisher(), 1.749_669_177_471e-11);
        close(Table { hit_in: 0, spared_in: 5, hit_out: 3, spared_out: 5 }.fisher(), 1.0);
        close(Table { hit_in: 10, spared_in: 10, hit_out: 20, spared_out: 980 }.risk_ratio().unwrap(), 25.0);
        close(Table { hit_in: 3, spared_in: 3, hit_out: 0, spared_out: 100 }.risk_ratio().unwrap(), 100.0);
        assert_eq!(Table { hit_in: 3, spared_in: 3, hit_out: 0, spared_out: 0 }.risk_ratio(), None);
    }

    #[test]
    fn false_discoveries_are_bounded_over_all_tests() {
        let q = benjamini_hochberg(&[0.01, 0.04, 0.03, 0.005]);
        for (value, reference) in q.into_iter().zip([0.02, 0.04, 0.04, 0.02]) {
            close(value, reference);
        }
        assert_eq!(benjamini_hochberg(&[]), Vec::<f64>::new());
        assert_eq!(benjamini_hochberg(&[1.0, 0.9]), [1.0, 1.0]);
    }

    #[test]
    fn a_spread_needs_ten_and_a_deviation_of_zero_has_a_floor() {
        let values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 100.0];
        let spread = Spread::of(&values, 0.1).unwrap();
        close(spread.median, 5.5);
        close(spread.scale, 1.4826 * 2.5);
        assert!(spread.z(100.0) > 4.0 && spread.z(9.0) < 4.0);
        assert_eq!(Spread::of(&values[..9], 0.1), None);
        assert_eq!(Spread::of(&values, 0.0), None);
        let flat = Spread::of(&[0.0; 50], 0.02).unwrap();
        close(flat.z(0.1), 5.0);
    }

    #[test]
    fn wilsons_interval_stays_inside() {
        let (low, high) = wilson(5, 10, Z_95).unwrap();
        close(low, 0.236_593_089_011);
        close(high, 0.763_406_910_989);
        let (low, high) = wilson(0, 20, Z_95).unwrap();
        assert_eq!(low, 0.0);
        close(high, 0.161_125_160_185);
        assert_eq!(wilson(0, 0, Z_95), None);
        assert_eq!(wilson(3, 2, Z_95), None);
    }

    #[test]
    fn a_baseline_judges_from_the_third_week_on() {
        let mut baseline = Baseline::default();
        baseline = baseline.folded(10, 1_000).folded(0, 0).folded(20, 1_000);
        assert_eq!((baseline.weeks, baseline.expected(1_000)), (2, None));
        close(baseline.rate, 0.011);
        baseline = baseline.folded(1, 1_000);
        close(baseline.expected(1_000).unwrap(), 10.0);
    }
}
