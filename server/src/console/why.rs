//! What is the matter with a terminal, in at most a handful of plain sentences. Each says what was observed; where a
//! cause is not known, none is named.

use std::collections::BTreeMap;

use super::conditions;
use super::rollout::why_there;
use super::shell::Shell;
use super::status::Tone;
use crate::failures::FailureRow;
use crate::rollouts::filter::LIFECYCLES_UPDATED;
use crate::rollouts::{LiveAssignment, TimelineEvent};
use crate::terminals::list::{Connection, TerminalRow};
use crate::terminals::{Lifecycle, Terminal};

const DAY_MS: i64 = 24 * 3_600_000;

/// What is known of it.
pub(super) struct Facts<'a> {
    pub(super) terminal: &'a Terminal,
    pub(super) row: &'a TerminalRow,
    /// Newest first.
    pub(super) failures: &'a [FailureRow],
    /// How many of them were read at most.
    pub(super) failures_max: usize,
    /// The last thing that happened to an update of it.
    pub(super) latest: Option<&'a TimelineEvent>,
    /// The update that it is in the middle of.
    pub(super) live: Option<&'a LiveAssignment>,
}

/// The sentences, and how grave they are together.
pub(super) fn sentences(shell: &Shell, facts: &Facts<'_>) -> (&'static str, Vec<String>) {
    let mut sentences = vec![connection(shell, facts)];
    let mut tone = match facts.row.connection {
        Connection::Online => Tone::Good,
        Connection::Late => Tone::Warning,
        Connection::Offline | Connection::Missing | Connection::Dormant => Tone::Bad,
        Connection::Never => Tone::Warning,
    };
    if facts.row.connection != Connection::Never {
        let since_ms = shell.moments.now().0 - DAY_MS;
        let recent: Vec<_> = facts.failures.iter().filter(|row| row.received_at_ms >= since_ms).collect();
        match most_frequent_stage(&recent) {
            Some(stage) => {
                tone = if tone == Tone::Good { Tone::Warning } else { tone };
                let count = shell.number(&i64::try_from(recent.len()).unwrap_or(i64::MAX));
                // Only the last few were read: when all of those are recent there may be more.
                let count = if recent.len() >= facts.failures_max { format!("≥ {count}") } else { count };
                let stage = shell.word("stage", stage);
                sentences.push(shell.language.with_two("why-failures", ("count", &count), ("stage", &stage)));
            }
            None => sentences.push(shell.say("why-no-failures")),
        }
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let network =
            conditions::network(shell, &text(&facts.row.access), &text(&facts.row.carrier), &text(&facts.row.signal));
        sentences.push(shell.with("why-signal", "network", network));
    }
    if !is_updated(facts.terminal.lifecycle) {
        let state = shell.word("lifecycle", facts.terminal.lifecycle.as_str());
        sentences.push(shell.with("why-lifecycle", "state", state));
    }
    sentences.extend(update(shell, facts));
    (tone.class(), sentences)
}

/// Whether ordinary updates reach a terminal in this state.
fn is_updated(lifecycle: Lifecycle) -> bool {
    LIFECYCLES_UPDATED.contains(&lifecycle.as_str())
}

fn connection(shell: &Shell, facts: &Facts<'_>) -> String {
    match facts.row.connection {
        Connection::Never if facts.terminal.enrolled_at_ms.is_none() => shell.say("why-not-enrolled"),
        Connection::Never => shell.say("why-never"),
        Connection::Online => shell.say("why-online"),
        Connection::Late => shell.say("why-late"),
        Connection::Offline | Connection::Missing | Connection::Dormant => {
            let seen = facts.row.last_seen_ms.unwrap_or_default();
            shell.with("why-offline", "ago", shell.moments.ago(seen))
        }
    }
}

fn most_frequent_stage<'a>(failures: &[&'a FailureRow]) -> Option<&'a str> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for row in failures {
        *counts.entry(row.stage.as_str()).or_default() += 1;
    }
    counts.into_iter().max_by_key(|(_, n)| *n).map(|(stage, _)| stage)
}

/// Whether an update in this phase is still under way.
pub(super) fn is_live(phase: &str) -> bool {
    !matches!(phase, "succeeded" | "failed" | "rolled_back" | "timed_out" | "cancelled")
}

/// The live update in one sentence: what, how far, what it waits for, and when the terminal calls next.
fn live_update(shell: &Shell, live: &LiveAssignment) -> Vec<String> {
    let LiveAssignment { rollout, row } = live;
    let is_put_off = row.phase == "offered" && row.reason.is_some();
    let phase = shell.word("phase", if is_put_off { "deferred" } else { &row.phase });
    let version = format!("{} {}", rollout.release_name, rollout.release_version);
    let reason = why_there(shell, rollout, row);
    let sentence = if reason.is_empty() {
        shell.language.with_two("why-update", ("version", &version), ("phase", &phase))
    } else {
        shell.language.with_values("why-live", &[("version", &version), ("phase", &phase), ("reason", &reason)])
    };
    let next = row.next_check_in_ms.map(|at_ms| {
        if at_ms < shell.moments.now().0 {
            shell.with("why-overdue", "ago", shell.moments.ago(at_ms))
        } else {
            shell.with("why-next-call", "when", shell.moments.ahead(at_ms))
        }
    });
    [Some(sentence), next].into_iter().flatten().collect()
}

/// Why it is not updated yet, and when it goes on.
fn update(shell: &Shell, facts: &Facts<'_>) -> Vec<String> {
    if let Some(live) = facts.live {
        return live_update(shell, live);
    }
    let Some(event) = facts.latest else { return Vec::new() };
    if event.phase == "succeeded" {
        return vec![shell.say("why-current")];
    }
    let is_put_off = event.phase == "offered" && event.reason.is_some();
    let phase = shell.word("phase", if is_put_off { "deferred" } else { &event.phase });
    let sentence = match &event.reason {
        Some(reason) => shell.language.with_values(
            "why-update-reason",
            &[("version", &event.release_version), ("phase", &phase), ("reason", &shell.word("reason", reason))],
        ),
        None => shell.language.with_two("why-update", ("version", &event.release_version), ("phase", &phase)),
    };
    let next = facts.row.next_check_in_ms.filter(|_| is_live(&event.phase));
    let next = next.map(|at_ms| shell.with("why-update-next", "when", shell.moments.ahead(at_ms)));
    [Some(sentence), next].into_iter().flatten().collect()
}
