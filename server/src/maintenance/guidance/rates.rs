//! Which failures an operator could have prevented, and whether a store has more of them than like stores. Pure.
//!
//! A rate is compared with that of the other stores with the same model, by an interval and with least numbers: below
//! them it is said to be insufficient, and what is missing.

use serde::{Deserialize, Serialize};
use tillward_protocol::failure::OperatorAction;

/// Attempts that a store must have had.
pub const ATTEMPTS_MIN: i64 = 100;
/// Errors that it must have had to be told apart.
pub const ERRORS_MIN: i64 = 5;
/// Like stores that it is compared with, at least …
pub const PEERS_MIN: i64 = 5;
/// … and their attempts.
pub const PEER_ATTEMPTS_MIN: i64 = 1_000;
/// Only what is so many times as frequent as elsewhere is worth a visit.
pub const RATIO_MIN: f64 = 1.5;
/// Two-sided 99 %: many stores are looked at.
const Z: f64 = 2.576;

/// An operator's error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OperatorError {
    /// Cancelled, or left until it timed out.
    Cancelled,
    /// A wrong PIN.
    Pin,
    /// A wrong amount.
    Amount,
    /// Not signed in.
    NotSignedIn,
    /// The card could not be read.
    Reader,
}

impl OperatorError {
    /// Every error.
    pub const ALL: [Self; 5] = [Self::Cancelled, Self::Pin, Self::Amount, Self::NotSignedIn, Self::Reader];

    /// Name in tables, URLs and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Pin => "pin",
            Self::Amount => "amount",
            Self::NotSignedIn => "not_signed_in",
            Self::Reader => "reader",
        }
    }

    /// The error of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|error| error.as_str() == name)
    }
}

/// What an operator did wrong in a failed transaction, if that is what it says; `code` tells what the host's answer means.
pub fn classify(
    stage: &str,
    code: Option<OperatorError>,
    has_code: bool,
    action: Option<OperatorAction>,
) -> Option<OperatorError> {
    match action {
        Some(OperatorAction::Cancel | OperatorAction::Timeout) if !has_code => return Some(OperatorError::Cancelled),
        Some(OperatorAction::Cancel | OperatorAction::Timeout | OperatorAction::Reenter) | None => {}
    }
    if has_code {
        return code;
    }
    match stage {
        "card_read" => Some(OperatorError::Reader),
        "pin" => Some(OperatorError::Pin),
        _ => None,
    }
}

/// How often something happened among how many attempts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Attempts.
    pub attempts: i64,
    /// Errors among them.
    pub errors: i64,
}

impl Counts {
    /// Errors are told at once and attempts once a day: there are never fewer attempts than errors.
    fn settled(self) -> Self {
        Self { attempts: self.attempts.max(self.errors).max(0), errors: self.errors.max(0) }
    }

    /// Errors by attempt.
    pub fn rate(self) -> Option<f64> {
        let own = self.settled();
        (own.attempts > 0).then(|| as_f64(own.errors) / as_f64(own.attempts))
    }

    /// Wilson's interval of the rate.
    pub fn interval(self) -> Option<(f64, f64)> {
        let own = self.settled();
        let rate = own.rate()?;
        let n = as_f64(own.attempts);
        let middle = rate + Z * Z / (2.0 * n);
        let half = Z * (rate * (1.0 - rate) / n + Z * Z / (4.0 * n * n)).sqrt();
        let below = 1.0 + Z * Z / n;
        Some((((middle - half) / below).max(0.0), ((middle + half) / below).min(1.0)))
    }
}

/// Counts are far below 2^53.
fn as_f64(count: i64) -> f64 {
    #[allow(clippy::cast_precision_loss)]
    let value = count as f64;
    value
}

/// What is missing for a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = GuidanceMissing)]
pub enum Missing {
    /// The store had too few attempts.
    Attempts,
    /// There are too few like stores.
    Peers,
    /// Like stores had too few attempts.
    PeerAttempts,
}

impl Missing {
    /// Every lack.
    pub const ALL: [Self; 3] = [Self::Attempts, Self::Peers, Self::PeerAttempts];

    /// Name in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Attempts => "attempts",
            Self::Peers => "peers",
            Self::PeerAttempts => "peer_attempts",
        }
    }
}

/// What the comparison says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// More frequent than at like stores.
    Above,
    /// Not told apart from them.
    Usual,
    /// Not enough to say.
    Insufficient(Missing),
}

impl Verdict {
    /// Names in URLs and answers.
    pub const NAMES: [&'static str; 3] = ["above", "usual", "insufficient"];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Above => "above",
            Self::Usual => "usual",
            Self::Insufficient(_) => "insufficient",
        }
    }
}

/// Compares a store with `stores` like ones, without it.
pub fn compare(own: Counts, peers: Counts, stores: i64) -> Verdict {
    if own.attempts < ATTEMPTS_MIN {
        return Verdict::Insufficient(Missing::Attempts);
    }
    if stores < PEERS_MIN {
        return Verdict::Insufficient(Missing::Peers);
    }
    if peers.attempts < PEER_ATTEMPTS_MIN {
        return Verdict::Insufficient(Missing::PeerAttempts);
    }
    let (low, usual) = (own.interval().map_or(0.0, |(low, _)| low), peers.rate().unwrap_or(0.0));
    if own.errors >= ERRORS_MIN && low > usual * RATIO_MIN { Verdict::Above } else { Verdict::Usual }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(errors: i64, attempts: i64) -> Counts {
        Counts { attempts, errors }
    }

    #[test]
    fn the_hosts_answer_decides_before_the_stage_and_the_stage_only_without_one() {
        use OperatorAction as A;
        use OperatorError as E;
        for (stage, code, has_code, action, expected) in [
            ("host_resp", Some(E::Pin), true, None, Some(E::Pin)),
            ("host_resp", None, true, None, None),
            ("host_resp", Some(E::Amount), true, Some(A::Cancel), Some(E::Amount)),
            ("pin", None, false, None, Some(E::Pin)),
            ("pin", None, false, Some(A::Timeout), Some(E::Cancelled)),
            ("card_read", None, false, Some(A::Cancel), Some(E::Cancelled)),
            ("card_read", None, false, Some(A::Reenter), Some(E::Reader)),
            ("card_read", None, true, None, None),
            ("tls", None, false, None, None),
            ("wait", None, false, Some(A::Reenter), None),
        ] {
            assert_eq!(classify(stage, code, has_code, action), expected, "{stage} {action:?}");
        }
    }

    #[test]
    fn a_store_is_above_only_when_chance_and_small_differences_do_not_explain_it() {
        let peers = counts(200, 10_000);
        assert_eq!(compare(counts(20, 200), peers, 40), Verdict::Above);
        assert_eq!(compare(counts(8, 200), peers, 40), Verdict::Usual, "twice as many, by chance");
        assert_eq!(compare(counts(1_200, 50_000), peers, 40), Verdict::Usual, "sure, but a little");
        assert_eq!(compare(counts(4, 100), counts(0, 10_000), 40), Verdict::Usual, "four are not five");
        assert_eq!(compare(counts(0, 5_000), peers, 40), Verdict::Usual);
    }

    #[test]
    fn too_little_is_said_to_be_insufficient_and_why() {
        let peers = counts(20, 1_000);
        let insufficient = |own, peers, stores| match compare(own, peers, stores) {
            Verdict::Insufficient(missing) => missing.as_str(),
            Verdict::Above | Verdict::Usual => "enough",
        };
        assert_eq!(insufficient(counts(50, 99), peers, 5), "attempts");
        assert_eq!(insufficient(counts(50, 100), peers, 4), "peers");
        assert_eq!(insufficient(counts(50, 100), counts(20, 999), 5), "peer_attempts");
        assert_eq!(insufficient(counts(50, 100), peers, 5), "enough");
    }

    #[test]
    fn wilsons_interval_is_as_by_hand() {
        // 10 of 100 at z = 2.576, by hand: 0.12489 ± 0.07887.
        let (low, high) = counts(10, 100).interval().unwrap();
        assert!((low - 0.0460).abs() < 0.0001 && (high - 0.2038).abs() < 0.0001, "{low} {high}");
        assert_eq!(counts(0, 0).interval(), None);
        assert_eq!(counts(7, 3).rate(), Some(1.0), "attempts come later than errors");
    }
}
