//! How often one address may try to sign in: guessing over many logins is slow, and costs the server few hashes.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::SignInError;
use crate::addresses::customer;

/// Tries of one address a minute. An office behind one address stays below it, and so do all people behind one proxy that
/// nobody named in `trusted_proxies`.
const PER_MINUTE: NonZeroU32 = NonZeroU32::MIN.saturating_add(59);
/// Tries of one address at once.
const BURST: NonZeroU32 = NonZeroU32::MIN.saturating_add(119);

/// Counts tries in 65,536 buckets, so that no stranger can make it grow. Each server counts for itself.
pub struct AddressLimit {
    hasher: RandomState,
    buckets: DefaultKeyedRateLimiter<u16>,
}

impl Default for AddressLimit {
    fn default() -> Self {
        let quota = Quota::per_minute(PER_MINUTE).allow_burst(BURST);
        Self { hasher: RandomState::new(), buckets: RateLimiter::keyed(quota) }
    }
}

impl AddressLimit {
    /// Counts a try from `address`; a request without one (a test, a socket) is not counted.
    ///
    /// # Errors
    /// [`SignInError::TooOften`].
    pub fn check(&self, address: Option<IpAddr>) -> Result<(), SignInError> {
        let Some(address) = address else { return Ok(()) };
        let bucket = u16::try_from(self.hasher.hash_one(customer(address)) >> 48).unwrap_or_default();
        self.buckets.check_key(&bucket).map_err(|until| {
            let wait = until.wait_time_from(DefaultClock::default().now());
            SignInError::TooOften { for_s: u32::try_from(wait.as_secs()).unwrap_or(60).saturating_add(1) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_that_tries_too_often_waits_and_others_do_not() {
        let limit = AddressLimit::default();
        let refused = |address: &str| limit.check(Some(address.parse().unwrap())).is_err();
        assert_eq!((0..BURST.get()).filter(|_| refused("192.0.2.1")).count(), 0);
        assert!(refused("192.0.2.1"));
        // Two addresses share a bucket with a chance of 1 in 65,536.
        assert!((1..=100).filter(|n| refused(&format!("198.51.100.{n}"))).count() <= 1);
        for n in 0..BURST.get() {
            assert!(!refused(&format!("2001:db8::{n:x}")), "{n}");
        }
        assert!(refused("2001:db8::ffff"), "the whole /64 is one customer");
        assert!(limit.check(None).is_ok());
    }
}
