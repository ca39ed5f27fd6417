//! Random bytes from the system, by way of the TLS library's generator.

use std::io;
use std::time::Duration;

/// Fills `bytes`.
///
/// # Errors
/// When the system has no randomness to give.
pub fn fill(bytes: &mut [u8]) -> io::Result<()> {
    rustls::crypto::ring::default_provider()
        .secure_random
        .fill(bytes)
        .map_err(|_| io::Error::other("the system gives no random bytes"))
}

/// A number from 0 to just below 1; 0.5 when the system has no randomness, which only spreads less.
pub fn fraction() -> f64 {
    let mut bytes = [0; 4];
    match fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_be_bytes(bytes)) / (f64::from(u32::MAX) + 1.0),
        Err(_) => 0.5,
    }
}

/// A duration between `low` and `high`.
pub fn between(low: Duration, high: Duration) -> Duration {
    low + high.saturating_sub(low).mul_f64(fraction())
}
