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
