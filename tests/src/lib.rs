//! Support for the suites that drive the real programs: `tillward`, `tillward-agent`, a browser.
//!
//! Nothing of the server or the agent is linked in: what these suites know, a stranger on the network knows. Every
//! process, folder and database belongs to one test and goes with it; every wait is for a condition and has an end.
//! A panic is how a suite reports what it found, so the whole crate may panic.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::Write;
use std::time::{Duration, Instant};

pub mod admin;
pub mod agent;
pub mod browser;
pub mod database;
pub mod files;
pub mod fleet;
pub mod http;
pub mod programs;
pub mod proxy;
pub mod python;
pub mod server;
pub mod terminal;
pub mod updating;

/// Says that something was not tested, past the capture of the test harness; fails instead when
/// `TILLWARD_TEST_NO_SKIP` is set, as it is where everything should be at hand.
///
/// # Panics
/// When nothing may be skipped.
pub fn skip(what: &str, remedy: &str) {
    assert!(std::env::var_os("TILLWARD_TEST_NO_SKIP").is_none(), "{what} cannot be tested here: {remedy}");
    // Nobody is left to hear of a closed standard error.
    let _ = writeln!(std::io::stderr(), "SKIPPED {what}: {remedy}");
}

/// Waits until `condition` holds, asking often.
///
/// # Panics
/// With `what` when it does not hold within `limit`.
pub fn wait_within(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < limit, "did not happen within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits up to a minute: long for any of these machines, short for whoever waits for the suite.
///
/// # Panics
/// As [`wait_within`].
pub fn wait_until(what: &str, condition: impl FnMut() -> bool) {
    wait_within(Duration::from_secs(60), what, condition);
}
