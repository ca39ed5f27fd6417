//! How an attempt ended, and what that means for the next one. Pure.

/// Longest description of a failure, characters.
const ERROR_CHARS_MAX: usize = 200;

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The endpoint has it.
    Accepted(u16),
    /// Some of its people have it, and the others are named.
    Partly(u16, String),
    /// The endpoint says no to this very message.
    Refused(u16, String),
    /// The endpoint is away, or its settings do not fit: about no message in particular.
    Away(Option<u16>, String),
    /// The endpoint takes nothing for this long, ms.
    Busy(Option<u16>, String, i64),
}

impl Outcome {
    /// What an HTTP status alone says.
    pub(super) fn of_status(status: u16) -> Self {
        match status {
            200..=299 => Self::Accepted(status),
            // What cannot be read, is too long or cannot be processed is the message.
            400 | 413 | 422 => Self::Refused(status, format!("the endpoint refused it with {status}")),
            // A wrong address, a key that has run out, a gateway: about no message, and mended by people.
            _ => Self::Away(Some(status), format!("the endpoint answered {status}")),
        }
    }

    /// Status of the answer, if there was one.
    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Accepted(status) | Self::Partly(status, _) | Self::Refused(status, _) => Some(*status),
            Self::Away(status, _) | Self::Busy(status, ..) => *status,
        }
    }

    /// What went wrong; empty when nothing did. Never holds a whole address or a secret.
    pub(super) fn error(&self) -> String {
        match self {
            Self::Accepted(_) => String::new(),
            Self::Partly(_, why) | Self::Refused(_, why) | Self::Away(_, why) | Self::Busy(_, why, _) => {
                why.chars().take(ERROR_CHARS_MAX).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_about_the_message_counts_as_a_refusal() {
        for status in [200, 204, 299] {
            assert_eq!(Outcome::of_status(status), Outcome::Accepted(status));
        }
        for status in [400, 413, 422] {
            assert!(matches!(Outcome::of_status(status), Outcome::Refused(known, _) if known == status), "{status}");
        }
        for status in [100, 301, 401, 403, 404, 405, 407, 408, 410, 425, 429, 500, 503, 599] {
            assert!(matches!(Outcome::of_status(status), Outcome::Away(Some(_), _)), "{status}");
        }
    }
}
