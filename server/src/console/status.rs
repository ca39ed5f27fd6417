//! A state as a dot and a word: never by colour alone.

use std::fmt::{Display, Formatter};

use askama::filters::{Html, HtmlSafe, escape};

/// What a state means to a reader, which decides its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Busy,
    Warning,
    Bad,
    Quiet,
}

impl Tone {
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Busy => "busy",
            Self::Warning => "warning",
            Self::Bad => "bad",
            Self::Quiet => "quiet",
        }
    }

    /// Of a connection state.
    pub(super) fn of_connection(name: &str) -> Self {
        match name {
            "online" => Self::Good,
            "late" => Self::Warning,
            "offline" | "missing" => Self::Bad,
            _ => Self::Quiet,
        }
    }

    /// Of a lifecycle state.
    pub(super) fn of_lifecycle(name: &str) -> Self {
        match name {
            "active" => Self::Good,
            "bound" => Self::Busy,
            "suspended" | "repair" => Self::Warning,
            "lost" | "blocked" => Self::Bad,
            _ => Self::Quiet,
        }
    }

    /// Of a phase of an assignment.
    pub(super) fn of_phase(name: &str) -> Self {
        match name {
            "succeeded" => Self::Good,
            "downloading" | "installing" | "rebooting" | "trial" | "offered" => Self::Busy,
            "deferred" | "timed_out" => Self::Warning,
            "failed" | "rolled_back" => Self::Bad,
            _ => Self::Quiet,
        }
    }

    /// Of a state of a rollout.
    pub(super) fn of_rollout(name: &str) -> Self {
        match name {
            "running" => Self::Busy,
            "succeeded" => Self::Good,
            "paused" | "awaiting_approval" => Self::Warning,
            "halted" => Self::Bad,
            _ => Self::Quiet,
        }
    }

    /// Of a state of a release.
    pub(super) fn of_release(name: &str) -> Self {
        match name {
            "published" => Self::Good,
            "approved" => Self::Busy,
            "withdrawn" => Self::Bad,
            _ => Self::Quiet,
        }
    }

    /// Of a state of an incident.
    pub(super) fn of_incident(name: &str) -> Self {
        match name {
            "open" => Self::Bad,
            "acknowledged" => Self::Busy,
            "mitigated" => Self::Warning,
            "resolved" => Self::Good,
            _ => Self::Quiet,
        }
    }

    /// Of something that happened to an incident.
    pub(super) fn of_incident_event(name: &str) -> Self {
        match name {
            "open" | "reopen" | "raise" | "unfold" => Self::Bad,
            "acknowledge" | "assign" => Self::Busy,
            "mitigate" | "remind" | "subside" => Self::Warning,
            "resolve" => Self::Good,
            _ => Self::Quiet,
        }
    }

    /// Of an alert on its way.
    pub(super) fn of_delivery(name: &str) -> Self {
        match name {
            "sent" => Self::Good,
            "pending" => Self::Busy,
            "failed" => Self::Bad,
            _ => Self::Quiet,
        }
    }
}

/// A dot and a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) tone: Tone,
    pub(super) word: String,
}

impl Display for Status {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let word = escape(&self.word, Html).map_err(|_| std::fmt::Error)?;
        write!(
            f,
            r#"<span class="status {}"><span class="dot" aria-hidden="true"></span>{word}</span>"#,
            self.tone.class()
        )
    }
}

impl HtmlSafe for Status {}
