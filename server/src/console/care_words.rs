//! Findings, work orders and their proofs in words.

use super::shell::Shell;
use super::status::{Status, Tone};
use crate::maintenance::due::{Finding, Observed};
use crate::maintenance::orders::proof::Check;
use crate::maintenance::orders::{Signal, WorkOrder};
use crate::maintenance::{Reason, Urgency};

const DAY_MS: i64 = 86_400_000;

/// One finding as people read it.
pub(super) struct FindingView {
    pub(super) reason: String,
    /// Class of its tag.
    pub(super) class: &'static str,
    /// What was observed against which threshold.
    pub(super) sentence: String,
    /// What to try.
    pub(super) advice: String,
}

pub(super) fn finding(shell: &Shell, finding: &Finding) -> FindingView {
    FindingView {
        reason: shell.word("due", finding.reason.as_str()),
        class: class(finding.urgency),
        sentence: sentence(shell, finding),
        advice: shell.word("try", finding.reason.as_str()),
    }
}

/// Class of a tag.
pub(super) fn class(urgency: Urgency) -> &'static str {
    match urgency {
        Urgency::Now => "tag bad",
        Urgency::Soon => "tag warning",
        Urgency::Planned => "tag",
    }
}

fn sentence(shell: &Shell, finding: &Finding) -> String {
    let threshold = shell.number(&finding.threshold);
    match (&finding.observed, finding.reason) {
        (Observed::Word(word), _) => shell.word("tamper", word),
        (Observed::Share { errors, n }, _) => {
            let (errors, n) = (errors.to_string(), n.to_string());
            let values = [("errors", errors.as_str()), ("n", n.as_str()), ("threshold", threshold.as_str())];
            shell.language.with_values("finding-share", &values)
        }
        (Observed::Number(value), reason) => number(shell, reason, *value, &threshold),
    }
}

fn number(shell: &Shell, reason: Reason, value: i64, threshold: &str) -> String {
    let now_ms = shell.moments.now().0;
    let day = shell.moments.day(value);
    let days = shell.number(&((now_ms.saturating_sub(value)).abs() / DAY_MS));
    let dated = |key: &str| {
        let values = [("day", day.as_str()), ("days", days.as_str()), ("threshold", threshold)];
        shell.language.with_values(key, &values)
    };
    match reason {
        Reason::Age => dated(key("finding-age")),
        Reason::Dormant => dated(key("finding-dormant")),
        Reason::Certificate | Reason::Sim if value <= now_ms => dated(key("finding-expired")),
        Reason::Certificate | Reason::Sim => dated(key("finding-expires")),
        Reason::CoinCell => {
            let value = shell.number(&value);
            shell.language.with_two("finding-coin", ("value", &value), ("threshold", threshold))
        }
        Reason::Moved => shell.with("finding-moved", "km", format!("{}.{}", value / 1_000, value % 1_000 / 100)),
        Reason::Tamper | Reason::Reader | Reason::Printer | Reason::Battery => shell.number(&value),
    }
}

/// Marks a key for the test of texts.
fn key(name: &'static str) -> &'static str {
    name
}

/// A work order's state as a dot and a word; one that a person closed without a proof says so.
pub(super) fn order_status(shell: &Shell, order: &WorkOrder) -> Status {
    if order.outcome.as_deref() == Some("unproven") {
        return Status { tone: Tone::Warning, word: shell.say("order-unproven") };
    }
    Status { tone: tone(&order.state), word: shell.word("order", &order.state) }
}

fn tone(state: &str) -> Tone {
    match state {
        "open" => Tone::Bad,
        "assigned" | "in_progress" => Tone::Busy,
        "waiting_for_proof" => Tone::Warning,
        "closed" => Tone::Good,
        _ => Tone::Quiet,
    }
}

/// Of something that happened to a work order.
pub(super) fn event_status(shell: &Shell, event: &str) -> Status {
    let tone = match event {
        "prove" => Tone::Good,
        "fault" | "no_proof" => Tone::Bad,
        "close_unproven" | "remind" => Tone::Warning,
        "assign" | "start" | "answer" | "done" => Tone::Busy,
        _ => Tone::Quiet,
    };
    Status { tone, word: shell.word("order-event", event) }
}

/// Until when it should be done: overdue, or how far ahead.
pub(super) fn due(shell: &Shell, order: &WorkOrder) -> String {
    if order.closed_at_ms.is_some() {
        return "–".to_owned();
    }
    if order.due_ms <= shell.moments.now().0 {
        shell.with("order-overdue", "ago", shell.moments.ago(order.due_ms))
    } else {
        shell.moments.ahead(order.due_ms)
    }
}

/// What a signal of a check-in showed.
pub(super) struct CheckView {
    pub(super) status: Status,
    pub(super) observed: String,
}

pub(super) fn check(shell: &Shell, check: &Check) -> CheckView {
    let tone = match check.healthy {
        Some(true) => Tone::Good,
        Some(false) => Tone::Bad,
        None => Tone::Quiet,
    };
    let observed = match (check.signal, check.healthy) {
        (_, None) => shell.say("proof-not-said"),
        (Signal::Call, _) => String::new(),
        (Signal::Tamper | Signal::Printer, _) => {
            shell.word(if check.signal == Signal::Tamper { "tamper" } else { "printer" }, &check.observed)
        }
        (Signal::Network, _) => shell.word("access", &check.observed),
        (Signal::SignedIn, Some(is_signed_in)) => shell.say(if is_signed_in { "proof-yes" } else { "proof-no" }),
        (Signal::Certificate, _) => {
            check.observed.parse().map_or_else(|_| String::new(), |at_ms| shell.moments.day(at_ms))
        }
        (Signal::Sim, _) => format!("…{}", check.observed),
        (Signal::Battery, _) => format!("{}%", check.observed),
        (Signal::CoinCell, _) => format!("{} mV", check.observed),
        (Signal::Reader | Signal::Firmware | Signal::Payment, _) => check.observed.clone(),
    };
    CheckView { status: Status { tone, word: shell.word("proof", check.signal.as_str()) }, observed }
}

/// A merchant and its store in one line; `–` for a terminal that is bound to nobody.
pub(super) fn place(merchant: Option<&str>, store: Option<&str>) -> String {
    let parts: Vec<&str> = [merchant, store].into_iter().flatten().filter(|part| !part.is_empty()).collect();
    if parts.is_empty() { "–".to_owned() } else { parts.join(" · ") }
}
