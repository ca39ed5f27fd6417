//! How often one terminal may try: guessing codes or signatures is slow for whoever asks, and cheap to refuse.

use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU32;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

/// Tries at once for one terminal, then one each six seconds: a person who mistypes does not notice.
const BURST: NonZeroU32 = NonZeroU32::MIN.saturating_add(19);
const PER_MINUTE: NonZeroU32 = NonZeroU32::MIN.saturating_add(9);

/// Counts tries in 65,536 buckets, so that no stranger can make it grow.
pub struct Limits {
    hasher: RandomState,
    buckets: DefaultKeyedRateLimiter<u16>,
}

impl Default for Limits {
    fn default() -> Self {
        let quota = Quota::per_minute(PER_MINUTE).allow_burst(BURST);
        Self { hasher: RandomState::new(), buckets: RateLimiter::keyed(quota) }
    }
}

impl Limits {
    /// Counts a try about `subject`.
    ///
    /// # Errors
    /// [`super::Error::TooMany`].
    pub fn check(&self, subject: &str) -> Result<(), super::Error> {
        let bucket = u16::try_from(self.hasher.hash_one(subject) >> 48).unwrap_or(0);
        self.buckets.check_key(&bucket).map_err(|until| {
            let wait = until.wait_time_from(DefaultClock::default().now());
            super::Error::TooMany { retry_after_s: u32::try_from(wait.as_secs()).unwrap_or(60).saturating_add(1) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_terminal_that_tries_too_often_waits_and_another_does_not() {
        let limits = Limits::default();
        let refused = (0..30).filter(|_| limits.check("A1").is_err()).count();
        assert!((9..=10).contains(&refused), "{refused}");
        // Two subjects share a bucket with a chance of 1 in 65,536.
        let others = (0..100).filter(|n| limits.check(&format!("B{n}")).is_err()).count();
        assert!(others <= 1, "{others}");
    }
}
