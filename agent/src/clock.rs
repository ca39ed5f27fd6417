//! The terminal's clock. It may be wrong by decades; nothing trusts it alone.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Unix ms; 0 for a clock before 1970.
pub fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Unix s.
pub fn unix_s() -> i64 {
    unix_ms() / 1000
}

/// A moment by both clocks: one can be set, the other stands still while the terminal sleeps.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    steady: Instant,
    unix_ms: i64,
}

impl Moment {
    /// Now.
    pub fn now() -> Self {
        Self { steady: Instant::now(), unix_ms: unix_ms() }
    }

    /// Time since, by the clock that cannot be set.
    pub fn elapsed(self) -> Duration {
        self.steady.elapsed()
    }

    /// Whether both clocks say that at most `limit` has passed since. A clock that was set, either way, says no.
    pub fn is_within(self, limit: Duration) -> bool {
        self.was_within(limit, Self::now())
    }

    fn was_within(self, limit: Duration, now: Self) -> bool {
        let steady = now.steady.saturating_duration_since(self.steady);
        let passed = u64::try_from(now.unix_ms.saturating_sub(self.unix_ms)).map(Duration::from_millis);
        steady <= limit && passed.is_ok_and(|passed| passed <= limit)
    }

    /// Whether the wall clock has gone on since as the steady one did, give or take `tolerance`.
    pub fn is_unset_since(self, tolerance: Duration) -> bool {
        self.was_unset_since(tolerance, Self::now())
    }

    fn was_unset_since(self, tolerance: Duration, now: Self) -> bool {
        let steady = now.steady.saturating_duration_since(self.steady);
        let passed = u64::try_from(now.unix_ms.saturating_sub(self.unix_ms)).map(Duration::from_millis);
        passed.is_ok_and(|passed| passed.abs_diff(steady) <= tolerance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn later(moment: Moment, steady_s: u64, clock_s: i64) -> Moment {
        Moment { steady: moment.steady + Duration::from_secs(steady_s), unix_ms: moment.unix_ms + clock_s * 1000 }
    }

    #[test]
    fn a_moment_is_recent_only_when_both_clocks_say_so() {
        let then = Moment::now();
        let limit = Duration::from_secs(1800);
        let cases = [
            (0, 0, true),
            (1800, 1800, true),
            (1801, 1801, false),
            (10, -1, false),     // set back
            (10, 86_400, false), // set ahead, or slept
            (1801, 10, false),   // set back to just after
            (5, -1_700_000_000, false),
        ];
        for (steady_s, clock_s, expected) in cases {
            assert_eq!(then.was_within(limit, later(then, steady_s, clock_s)), expected, "{steady_s} {clock_s}");
        }
    }

    #[test]
    fn a_clock_that_was_set_is_noticed() {
        let then = Moment::now();
        for (steady_s, clock_s, expected) in
            [(60, 60, true), (60, 65, true), (60, 100, false), (60, 0, false), (1, -5, false)]
        {
            let now = later(then, steady_s, clock_s);
            assert_eq!(then.was_unset_since(Duration::from_secs(10), now), expected, "{steady_s} {clock_s}");
        }
    }
}
