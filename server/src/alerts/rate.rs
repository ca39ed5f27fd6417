//! How fast a channel may be sent to. Pure.
//!
//! A token bucket, kept as one number: the moment at which it will be full again. Robots count the messages of any minute,
//! so that a full bucket and what flows into it within a minute must together stay below the limit.

/// One minute, ms.
const MINUTE_MS: i64 = 60_000;
/// Slowest and fastest rate that a person may set, messages a minute.
pub const RATE_PER_MIN: std::ops::RangeInclusive<i64> = 1..=95;

/// A limit: at most `per_min` messages in any minute, of which `burst` may come at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    per_min: i64,
    burst: i64,
}

impl Rate {
    /// At most `per_min` messages in any minute, a third of them (at most `burst_max`) at once.
    pub fn per_min(per_min: i64, burst_max: i64) -> Self {
        let per_min = per_min.max(1);
        Self { per_min, burst: (per_min / 3).clamp(1, burst_max.max(1)) }
    }

    /// Time in which one message may be sent again, ms.
    fn interval_ms(self) -> i64 {
        // What flows in during a minute is what the full bucket leaves of the limit.
        let flow = (self.per_min - self.burst).max(1);
        (MINUTE_MS + flow - 1) / flow
    }

    /// Takes one message at `now_ms` out of a bucket that will be full at `full_at_ms`: the new moment.
    ///
    /// # Errors
    /// The moment from which on there is one again.
    pub fn take(self, full_at_ms: i64, now_ms: i64) -> Result<i64, i64> {
        let interval_ms = self.interval_ms();
        // A clock that was set back must not close the channel for long.
        let most_ms = now_ms.saturating_add(interval_ms.saturating_mul(self.burst));
        let after_ms = full_at_ms.clamp(now_ms, most_ms).saturating_add(interval_ms);
        if after_ms <= most_ms { Ok(after_ms) } else { Err(now_ms.saturating_add(after_ms - most_ms)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Moments at which messages go out when there is always one waiting.
    fn sent(rate: Rate, until_ms: i64) -> Vec<i64> {
        let (mut full_at_ms, mut now_ms, mut sent) = (0, 1_000_000, Vec::new());
        while now_ms < 1_000_000 + until_ms {
            match rate.take(full_at_ms, now_ms) {
                Ok(after_ms) => {
                    sent.push(now_ms);
                    full_at_ms = after_ms;
                }
                Err(at_ms) => {
                    assert!(at_ms > now_ms);
                    now_ms = at_ms;
                }
            }
        }
        sent
    }

    fn most_within(sent: &[i64], span_ms: i64) -> usize {
        let within = |from: &i64| sent.iter().filter(|at| (*from..*from + span_ms).contains(*at)).count();
        sent.iter().map(within).max().unwrap()
    }

    #[test]
    fn no_minute_has_more_than_the_limit_and_hardly_less_is_sent() {
        for (per_min, burst_max) in [(18, 6), (95, 3), (1, 6), (2, 6), (10, 6)] {
            let sent = sent(Rate::per_min(per_min, burst_max), 600_000);
            let most = most_within(&sent, MINUTE_MS);
            let per_min = usize::try_from(per_min).unwrap();
            assert!(most <= per_min, "{per_min}: {most}");
            assert!(sent.len() * 2 >= per_min * 10, "{per_min}: {}", sent.len());
        }
        assert!(most_within(&sent(Rate::per_min(95, 3), 60_000), 1_000) <= 5, "the limit of a second");
    }

    #[test]
    fn a_burst_is_let_through_and_then_time_must_pass() {
        let rate = Rate::per_min(18, 6);
        let mut full_at_ms = 0;
        for _ in 0..6 {
            full_at_ms = rate.take(full_at_ms, 100_000).unwrap();
        }
        assert_eq!(rate.take(full_at_ms, 100_000), Err(105_000));
        assert!(rate.take(full_at_ms, 105_000).is_ok());
        assert_eq!(rate.take(0, 100_000), Ok(105_000));
    }

    #[test]
    fn a_clock_that_was_set_back_closes_no_channel() {
        let rate = Rate::per_min(18, 6);
        assert_eq!(rate.take(i64::MAX, 100_000), Err(105_000));
    }
}
