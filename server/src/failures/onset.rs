//! When a rise began: the moment from which on failures came more often than expected, most of all. Pure.
//!
//! Where failures are usual, the first of a window is no sign of anything. Of all moments at which one came, that one is
//! taken whose rest of the window is the least likely by chance (the likelihood ratio of Poisson counts, which scan
//! statistics use).

/// Shortest time that is looked at, ms: in none nothing is expected, and one failure would outweigh all others.
const MOMENT_MS: i64 = 1_000;

/// When the rise began, Unix ms: of failures at `moments` (when, how many) in a window from `from_ms` to `to_ms`, in which
/// `expected` of them were to be expected, spread evenly. `None` where there are no more than expected.
pub fn onset(moments: &[(i64, i64)], (from_ms, to_ms): (i64, i64), expected: f64) -> Option<i64> {
    let mut moments: Vec<(i64, i64)> =
        moments.iter().copied().filter(|(at_ms, _)| (from_ms..=to_ms).contains(at_ms)).collect();
    moments.sort_unstable_by_key(|(at_ms, _)| *at_ms);
    let length = as_f64(to_ms.saturating_sub(from_ms)).max(1.0);
    let mut best: Option<(f64, i64)> = None;
    let mut rest: i64 = moments.iter().map(|(_, n)| n).sum();
    for (at_ms, n) in &moments {
        let seen = as_f64(rest);
        rest -= n;
        let usual = (expected.max(0.0) * as_f64((to_ms - at_ms).max(MOMENT_MS)) / length).max(f64::MIN_POSITIVE);
        // Of several at one moment the first stands for all of them.
        let gain = if seen > usual { seen * (seen / usual).ln() - (seen - usual) } else { continue };
        if best.is_none_or(|(most, _)| gain > most) {
            best = Some((gain, *at_ms));
        }
    }
    best.map(|(_, at_ms)| at_ms)
}

/// Times and counts are far below 2^53.
fn as_f64(n: i64) -> f64 {
    #[allow(clippy::cast_precision_loss)]
    let value = n as f64;
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: i64 = 3_600_000;
    const WINDOW: (i64, i64) = (0, 3 * HOUR_MS);

    fn each(times: &[i64]) -> Vec<(i64, i64)> {
        times.iter().map(|at_ms| (*at_ms, 1)).collect()
    }

    #[test]
    fn a_rise_began_when_failures_became_more_than_usual_and_not_with_the_first_of_the_window() {
        // One each ten minutes is usual; from two hours on there is one each minute.
        let usual = (0..18).map(|n| n * 600_000);
        let rise = (0..60).map(|n| 2 * HOUR_MS + n * 60_000);
        let times: Vec<i64> = usual.chain(rise).collect();
        assert_eq!(onset(&each(&times), WINDOW, 18.0), Some(2 * HOUR_MS));
    }

    #[test]
    fn where_nothing_is_usual_the_first_failure_is_the_beginning() {
        assert_eq!(onset(&each(&[700_000, 500_000, 900_000]), WINDOW, 0.0), Some(500_000));
        assert_eq!(onset(&[(500_000, 40)], WINDOW, 2.0), Some(500_000));
    }

    #[test]
    fn what_is_as_usual_has_no_beginning() {
        let times: Vec<i64> = (0..18).map(|n| n * 600_000).collect();
        assert_eq!(onset(&each(&times), WINDOW, 60.0), None);
        assert_eq!(onset(&[], WINDOW, 0.0), None);
        let late: Vec<i64> = (0..60).map(|n| 2 * HOUR_MS + n * 60_000).chain([WINDOW.1]).collect();
        assert_eq!(onset(&each(&late), WINDOW, 18.0), Some(2 * HOUR_MS), "one at the very end is not the beginning");
        assert_eq!(onset(&each(&[-1, 4 * HOUR_MS]), WINDOW, 0.0), None, "outside the window");
    }
}
