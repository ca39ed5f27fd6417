//! Enrolment and sessions: a terminal proves that it holds its private key, which never leaves it.

use serde::{Deserialize, Serialize};

use crate::check::short_ascii;
use crate::ids::{Sn, Stream, TerminalId};
use crate::{Check, FieldError};

/// `POST /device/v1/enrol`: redeems a one-time activation code for this serial number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct EnrolRequest {
    /// Serial number.
    pub sn: Sn,
    /// One-time activation code, as handed out with the terminal.
    pub activation_code: String,
    /// Ed25519 public key, 64 hex digits.
    pub public_key: String,
    /// Signature over [`enrol_bytes`], hex.
    pub proof: String,
}

impl Check for EnrolRequest {
    fn check(&self) -> Result<(), FieldError> {
        short_ascii("activation_code", Some(&self.activation_code), 64)?;
        hex_of_length("public_key", &self.public_key, 64)?;
        hex_of_length("proof", &self.proof, 128)
    }
}

/// Answer to an enrolment. Repeating the request with the same key gives the same answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct EnrolAnswer {
    /// The terminal's number from now on.
    pub terminal_id: TerminalId,
    /// Stream to start with, at sequence 1.
    pub stream: Stream,
    /// Server clock, Unix ms.
    pub server_time_ms: i64,
}

/// `POST /device/v1/challenge`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ChallengeRequest {
    /// Which terminal.
    pub terminal_id: TerminalId,
}

/// A challenge to sign; valid for about a minute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ChallengeAnswer {
    /// Opaque text.
    pub challenge: String,
}

/// `POST /device/v1/session`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SessionRequest {
    /// Which terminal.
    pub terminal_id: TerminalId,
    /// The challenge it was given.
    pub challenge: String,
    /// Signature over [`session_bytes`], hex.
    pub proof: String,
}

impl Check for SessionRequest {
    fn check(&self) -> Result<(), FieldError> {
        short_ascii("challenge", Some(&self.challenge), 200)?;
        hex_of_length("proof", &self.proof, 128)
    }
}

/// A short-lived session token, sent as `Authorization: Bearer …` on `/device/v1/*` and `/tuf/director/*`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SessionAnswer {
    /// The token.
    pub token: String,
    /// How long it is good for, s.
    pub expires_in_s: u32,
    /// Server clock, Unix ms.
    pub server_time_ms: i64,
}

/// What a terminal signs to prove possession at enrolment.
pub fn enrol_bytes(sn: &Sn, activation_code: &str, public_key: &str) -> Vec<u8> {
    format!("tillward enrol v1\n{sn}\n{activation_code}\n{public_key}").into_bytes()
}

/// What a terminal signs to open a session.
pub fn session_bytes(terminal_id: TerminalId, challenge: &str) -> Vec<u8> {
    format!("tillward session v1\n{terminal_id}\n{challenge}").into_bytes()
}

fn hex_of_length(field: &str, text: &str, length: usize) -> Result<(), FieldError> {
    if text.len() == length && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
        Ok(())
    } else {
        Err(FieldError::new(field, format!("must be {length} lower-case hex digits")))
    }
}
