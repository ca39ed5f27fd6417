//! The words of a file of past events: names of columns, arms and outcomes, in the spellings that people use.

use crate::rollouts::gate::{Arm, Class};

/// What a row says about its terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// From here on it can fail.
    Start,
    /// It was watched and did not fail.
    Good,
    /// It failed in its work.
    Health(Class),
    /// The update itself failed.
    Update,
    /// Nobody watches it any more; nothing is known.
    End,
}

/// Column of times, first its proper name.
pub const TIME: &[&str] = &["t_ms", "time_ms", "at_ms", "ts_ms", "timestamp_ms", "t", "time", "timestamp"];
/// Column of terminals.
pub const TERMINAL: &[&str] = &["terminal", "terminal_id", "device", "device_id", "serial", "id"];
/// Column of arms.
pub const ARM: &[&str] = &["arm", "group", "cohort"];
/// Column of outcomes.
pub const OUTCOME: &[&str] = &["outcome", "result", "status", "event"];
/// Column of sites; the only one that may be absent.
pub const SITE: &[&str] = &["site", "site_id", "store", "store_id"];

const TREATED: &[&str] = &["treated", "t", "1", "updated", "update", "treatment", "test", "new", "canary"];
const CONTROL: &[&str] = &[
    "control",
    "c",
    "0",
    "hold_back",
    "holdback",
    "held_back",
    "not_updated",
    "not_yet_updated",
    "untreated",
    "waiting",
    "baseline",
    "old",
];

const START: &[&str] = &["start", "started", "enter", "entered", "commit", "committed", "at_risk", "pending"];
const GOOD: &[&str] = &["ok", "success", "succeeded", "successful", "healthy", "good", "passed", "completed"];
const END: &[&str] = &["end", "ended", "censored", "censor", "left", "removed", "withdrawn", "cancelled"];
const HARD: &[&str] = &[
    "fail",
    "failed",
    "failure",
    "bad",
    "error",
    "unhealthy",
    "hard",
    "crash",
    "crashed",
    "boot_loop",
    "bootloop",
    "silent",
    "silence",
    "offline",
    "down",
    "dead",
    "hang",
    "brick",
    "bricked",
];
const PAYMENT: &[&str] = &["payment", "payment_fail", "payment_failed", "payment_failure", "payment_error"];
const UPDATE: &[&str] = &[
    "not_installed",
    "install_failed",
    "installation_failed",
    "update_failed",
    "rolled_back",
    "rollback",
    "timed_out",
    "timeout",
    "never_came_back",
];

/// A word as it is compared: lower case, everything but letters and digits one underscore.
pub fn plain(word: &str) -> String {
    let mut plain = String::new();
    for character in word.trim().chars().flat_map(char::to_lowercase) {
        if character.is_alphanumeric() {
            plain.push(character);
        } else if !plain.ends_with('_') {
            plain.push('_');
        }
    }
    plain.trim_matches('_').to_owned()
}

/// The arm that a plain word means.
pub fn arm(plain: &str) -> Option<Arm> {
    match plain {
        word if TREATED.contains(&word) => Some(Arm::Treated),
        word if CONTROL.contains(&word) => Some(Arm::Control),
        _ => None,
    }
}

/// The outcome that a plain word means; `fail_…` is a failure of whatever kind.
pub fn outcome(plain: &str) -> Option<Outcome> {
    let known = [
        (START, Outcome::Start),
        (GOOD, Outcome::Good),
        (END, Outcome::End),
        (HARD, Outcome::Health(Class::Hard)),
        (PAYMENT, Outcome::Health(Class::Payment)),
        (UPDATE, Outcome::Update),
    ];
    if let Some((_, outcome)) = known.into_iter().find(|(words, _)| words.contains(&plain)) {
        return Some(outcome);
    }
    let kind = ["fail_", "failed_", "failure_"].iter().find_map(|prefix| plain.strip_prefix(prefix))?;
    match outcome(kind) {
        Some(Outcome::Health(class)) => Some(Outcome::Health(class)),
        Some(Outcome::Update) => Some(Outcome::Update),
        Some(Outcome::Start | Outcome::Good | Outcome::End) | None => Some(Outcome::Health(Class::Hard)),
    }
}

/// The words for people who used another.
pub fn outcomes() -> String {
    [START, GOOD, HARD, PAYMENT, UPDATE, END].map(|words| words.join(", ")).join("; ")
}

/// The words for arms.
pub fn arms() -> String {
    [TREATED, CONTROL].map(|words| words.join(", ")).join("; ")
}
