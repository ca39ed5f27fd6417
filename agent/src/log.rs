//! One line per thing worth knowing, on standard error; whoever starts the agent decides where it goes.

use std::fmt::Arguments;

/// Writes one line: what part of the agent, and what happened.
pub fn note(part: &str, what: Arguments<'_>) {
    eprintln!("{} {part}: {what}", jiff::Timestamp::from_second(crate::clock::unix_s()).unwrap_or_default());
}
