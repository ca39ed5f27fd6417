//! How many more terminals until the gate decides: expectations, for people and for planning stages.

/// Terminals until a release that fails `ratio` times as often as `base_rate` is stopped, with a large control group.
/// `None` when it never is: no harm, no failures, or rates that are none.
pub fn terminals_until_fail(base_rate: f64, ratio: f64, alpha: f64) -> Option<u64> {
    if !(ratio > 1.0 && alpha > 0.0 && alpha < 1.0) {
        return None;
    }
    whole((1.0 / alpha).ln(), base_rate, ratio * ratio.ln() - ratio + 1.0)
}

/// Terminals until a release that fails as often as `base_rate` is cleared of being `tolerated_ratio` times as bad.
pub fn terminals_until_pass(base_rate: f64, tolerated_ratio: f64, pass_evidence: f64) -> Option<u64> {
    if !(tolerated_ratio > 1.0 && pass_evidence > 1.0) {
        return None;
    }
    whole(pass_evidence.ln(), base_rate, tolerated_ratio - 1.0 - tolerated_ratio.ln())
}

/// Between which bounds a rate lies with 95 % confidence of which `k` of `n` were seen: Wilson's score interval, which
/// stays within 0 to 1 and is right for small numbers, too. `None` for `n` = 0 or more failures than terminals.
pub fn interval(k: u64, n: u64) -> Option<(f64, f64)> {
    /// 97.5 % quantile of the normal distribution.
    const Z: f64 = 1.959_964;
    if n == 0 || k > n {
        return None;
    }
    let is_all = k == n;
    let (share, n) = (super::number(k) / super::number(n), super::number(n));
    let spread = 1.0 + Z * Z / n;
    let middle = (share + Z * Z / (2.0 * n)) / spread;
    let half = Z / spread * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    // Exactly none and exactly all are the bounds themselves, which sums of roundings only nearly reach.
    let (low, high) = (if k == 0 { 0.0 } else { middle - half }, if is_all { 1.0 } else { middle + half });
    Some((low.max(0.0), high.min(1.0)))
}

/// Evidence needed, over the evidence that one terminal brings on average.
fn whole(needed: f64, base_rate: f64, by_failure: f64) -> Option<u64> {
    if !(base_rate > 0.0 && base_rate <= 1.0) {
        return None;
    }
    let terminals = (needed / (base_rate * by_failure)).round();
    // A fleet has no more terminals than that; beyond it the honest answer is "never".
    const TERMINALS_MAX: f64 = 1e12;
    (terminals.is_finite() && terminals < TERMINALS_MAX).then_some(terminals as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_has_bounds_that_hold_for_small_numbers_too() {
        let rounded = |k, n| interval(k, n).map(|(low, high)| ((low * 1e4).round() / 1e4, (high * 1e4).round() / 1e4));
        assert_eq!(rounded(0, 10), Some((0.0, 0.2775)));
        assert_eq!(rounded(10, 10), Some((0.7225, 1.0)));
        assert_eq!(rounded(12, 1_000), Some((0.0069, 0.0209)));
        assert_eq!(rounded(1, 2), Some((0.0945, 0.9055)));
        assert_eq!((interval(0, 0), interval(3, 2)), (None, None));
    }

    #[test]
    fn the_number_of_terminals_until_it_decides_is_that_of_the_table() {
        let fail = |base, ratio| terminals_until_fail(base, ratio, 0.01);
        assert_eq!(
            [fail(0.01, 5.0), fail(0.01, 3.0), fail(0.01, 2.0), fail(0.001, 20.0), fail(0.001, 3.0)],
            [Some(114), Some(355), Some(1_192), Some(113), Some(3_554)]
        );
        let pass = |base, tolerated| terminals_until_pass(base, tolerated, 20.0);
        assert_eq!(
            [pass(0.01, 2.0), pass(0.001, 2.0), pass(0.01, 3.0), pass(0.001, 3.0), pass(0.01, 1.5)],
            [Some(976), Some(9_763), Some(332), Some(3_323), Some(3_169)]
        );
        for never in [fail(0.01, 1.0), fail(0.0, 5.0), fail(f64::NAN, 5.0), fail(0.01, f64::NAN), pass(0.01, 1.0)] {
            assert_eq!(never, None);
        }
    }
}
