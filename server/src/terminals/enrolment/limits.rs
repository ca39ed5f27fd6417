//! How often one address may try about one terminal: guessing codes or signatures is slow for whoever asks, cheap to
//! refuse, and does not shut out the terminal itself, which calls from elsewhere.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::Clock as _;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};

use crate::addresses::customer;
use crate::clock::Clock;

/// Tries at once for one terminal from one address, then one each six seconds: a person who mistypes does not notice.
const BURST: NonZeroU32 = NonZeroU32::MIN.saturating_add(19);
const PER_MINUTE: NonZeroU32 = NonZeroU32::MIN.saturating_add(9);

/// Counts tries in 65,536 buckets, so that no stranger can make it grow.
pub struct Limits {
    hasher: RandomState,
    clock: ServerClock,
    buckets: RateLimiter<u16, DefaultKeyedStateStore<u16>, ServerClock, NoOpMiddleware<Nanos>>,
}

/// The server's clock in the form that the limiter reads.
#[derive(Clone)]
struct ServerClock(Clock);

impl governor::clock::Clock for ServerClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Duration::from_millis(self.0.now().0.max(0).unsigned_abs()).into()
    }
}

impl Limits {
    /// No tries yet.
    pub fn new(clock: Clock) -> Self {
        let quota = Quota::per_minute(PER_MINUTE).allow_burst(BURST);
        let clock = ServerClock(clock);
        let buckets = RateLimiter::new(quota, DefaultKeyedStateStore::default(), clock.clone());
        Self { hasher: RandomState::new(), clock, buckets }
    }

    /// Counts a try about `subject` from `address`.
    ///
    /// # Errors
    /// [`super::Error::TooMany`].
    pub fn check(&self, subject: &str, address: Option<IpAddr>) -> Result<(), super::Error> {
        let asking = (subject, address.map(customer));
        let bucket = u16::try_from(self.hasher.hash_one(asking) >> 48).unwrap_or(0);
        self.buckets.check_key(&bucket).map_err(|until| {
            let wait = until.wait_time_from(self.clock.now());
            super::Error::TooMany { retry_after_s: u32::try_from(wait.as_secs()).unwrap_or(60).saturating_add(1) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_that_tries_too_often_waits_and_others_and_other_terminals_do_not() {
        let limits = Limits::new(Clock::system());
        let stranger = "198.51.100.1".parse().ok();
        let refused = (0..30).filter(|_| limits.check("A1", stranger).is_err()).count();
        assert!((9..=10).contains(&refused), "{refused}");
        // Two of these share a bucket with a chance of 1 in 65,536.
        let others = (0..100).filter(|n| limits.check(&format!("B{n}"), stranger).is_err()).count();
        let itself = (0..100).filter(|n| limits.check("A1", format!("203.0.113.{n}").parse().ok()).is_err()).count();
        assert!(others <= 1 && itself <= 1, "{others} {itself}");
    }
}
