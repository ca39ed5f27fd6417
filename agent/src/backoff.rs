//! When to call next: the server's interval with a random part on top, and after failures ever longer waits.
//!
//! The random part only adds. Waiting stops growing at a cap and is spread *after* the cap, so that a fleet does not
//! come back as one. An error never makes the agent call sooner than success would.

use std::time::Duration;

use crate::config::{Timing, seconds};

/// How a try to check in ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Answered; the server's interval.
    Answered(Duration),
    /// The network or the server failed.
    Failed,
    /// Answered 429 or 503, with its `Retry-After` if it had one.
    Busy(Option<Duration>),
    /// Answered 403, or 401 again with a fresh session.
    Blocked,
}

/// Memory of the last waits.
#[derive(Debug, Clone, Default)]
pub struct Backoff {
    failures: u32,
    last: Duration,
}

impl Backoff {
    /// The wait after `outcome`. `random` gives numbers from 0 to just below 1.
    pub fn wait(&mut self, outcome: Outcome, timing: &Timing, mut random: impl FnMut() -> f64) -> Duration {
        let mut spread = |low: Duration, high: Duration| low + high.saturating_sub(low).mul_f64(random());
        match outcome {
            Outcome::Answered(interval) => {
                self.failures = 0;
                let interval =
                    interval.clamp(seconds(timing.poll_min_s), seconds(timing.poll_max_s.max(timing.poll_min_s)));
                self.last = interval;
                interval + spread(Duration::ZERO, interval.mul_f64(timing.jitter_percent / 100.0))
            }
            Outcome::Blocked => {
                let blocked = seconds(timing.blocked_s);
                blocked + spread(Duration::ZERO, blocked.mul_f64(timing.jitter_percent / 100.0))
            }
            Outcome::Busy(Some(after)) => {
                let after = after.max(seconds(timing.poll_min_s));
                after + spread(Duration::ZERO, after.mul_f64(timing.jitter_percent / 100.0))
            }
            Outcome::Busy(None) | Outcome::Failed => {
                self.failures = self.failures.saturating_add(1);
                if self.failures == 1 {
                    self.last = seconds(timing.retry_min_s);
                    return seconds(timing.poll_min_s) + spread(Duration::ZERO, seconds(timing.first_retry_max_s));
                }
                let low = seconds(timing.retry_min_s);
                let cap = seconds(timing.retry_max_s).max(low);
                self.last = spread(low, self.last.saturating_mul(3)).clamp(low, cap);
                self.last + spread(Duration::ZERO, self.last.mul_f64(0.25))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn waits_after_failures_stay_between_minimum_and_cap_with_spread(randoms in prop::collection::vec(0.0..1.0_f64, 64)) {
            let timing = Timing::default();
            let mut backoff = Backoff::default();
            let mut source = randoms.into_iter().cycle();
            let first = backoff.wait(Outcome::Failed, &timing, || source.next().unwrap());
            prop_assert!(first <= Duration::from_secs(125));
            for _ in 0..20 {
                let wait = backoff.wait(Outcome::Failed, &timing, || source.next().unwrap());
                prop_assert!(wait >= Duration::from_secs(30) && wait <= Duration::from_secs(1800 + 450), "{wait:?}");
            }
        }

        #[test]
        fn an_answer_is_never_followed_sooner_than_the_server_asked(interval in 5_u64..7200, random in 0.0..1.0_f64) {
            let wait = Backoff::default().wait(Outcome::Answered(Duration::from_secs(interval)), &Timing::default(), || random);
            prop_assert!(wait >= Duration::from_secs(interval) && wait <= Duration::from_secs(interval).mul_f64(1.1));
        }

        #[test]
        fn retry_after_is_obeyed(after in 5_u64..100_000, random in 0.0..1.0_f64) {
            let busy = Outcome::Busy(Some(Duration::from_secs(after)));
            prop_assert!(Backoff::default().wait(busy, &Timing::default(), || random) >= Duration::from_secs(after));
        }
    }

    #[test]
    fn two_terminals_at_the_cap_do_not_wait_equally_long() {
        let at_the_cap = |random: f64| {
            let mut backoff = Backoff::default();
            (0..30)
                .map(|n| backoff.wait(Outcome::Failed, &Timing::default(), || if n < 20 { 0.999 } else { random }))
                .last()
        };
        assert_ne!(at_the_cap(0.6), at_the_cap(0.9));
    }

    #[test]
    fn after_a_success_the_waits_start_small_again() {
        let mut backoff = Backoff::default();
        let timing = Timing::default();
        for _ in 0..10 {
            backoff.wait(Outcome::Failed, &timing, || 0.99);
        }
        backoff.wait(Outcome::Answered(Duration::from_secs(60)), &timing, || 0.0);
        assert!(backoff.wait(Outcome::Failed, &timing, || 0.5) <= Duration::from_secs(125));
    }

    #[test]
    fn a_blocked_terminal_slows_to_hourly() {
        assert!(Backoff::default().wait(Outcome::Blocked, &Timing::default(), || 0.0) >= Duration::from_secs(3600));
    }
}
