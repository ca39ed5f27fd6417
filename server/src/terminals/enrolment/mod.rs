//! Enrolment and sessions: how a terminal becomes known by its key.
//!
//! An operator hands out a one-time activation code for one serial number. The terminal makes its key itself, proves
//! that it holds it, and redeems the code. From then on it opens sessions by signing a challenge. Whoever asks about a
//! terminal that does not exist gets the answer of a wrong signature, so that nobody learns which numbers exist.
//! There is no other way in: the demo's terminals enrol as real ones do.

mod code;
pub mod http;
mod limits;
mod store;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tillward_protocol::FieldError;
use tillward_protocol::crypto;
use tillward_protocol::enrol::{EnrolAnswer, EnrolRequest, SessionAnswer, SessionRequest, enrol_bytes, session_bytes};
use tillward_protocol::ids::{Stream, TerminalId};

pub use code::ActivationCode;
pub use limits::Limits;

use super::lifecycle::{CheckIn, Lifecycle};
use super::{NotDone, check_bulk};
use crate::audit::{self, Actor, Deed};
use crate::clock::Now;
use crate::db::{self, Conn};
use crate::http::tokens::{TERMINAL_TOKEN_S, Tokens};
use crate::operators::Scope;
use crate::profiles;

/// How long an activation code is good for when nobody says, days: a week to get the terminal to its place.
const CODE_DAYS: u32 = 7;
/// Longest that a code may be good for, days.
const CODE_DAYS_MAX: u32 = 90;
const DAY_MS: i64 = 86_400_000;
/// The reason for terminals that the caller may not know exist.
const NOT_FOUND: &str = "not found";

/// Why a terminal was turned away.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Wrong signature, or no such terminal; the answer does not say which.
    #[error("the signature does not hold for this terminal")]
    NotProven,
    /// The code is wrong, or for another terminal, or used, or too old.
    #[error("the activation code is not good for this terminal; ask for a new one")]
    BadCode,
    /// The terminal is blocked, lost or retired.
    #[error("this terminal is {}; its operator must release it first", .0.as_str())]
    Barred(Lifecycle),
    /// Another enrolment of the same terminal was quicker.
    #[error("this terminal was changed meanwhile; try again")]
    Changed,
    /// Too many tries.
    #[error("too many tries")]
    TooMany {
        /// When to try again, s.
        retry_after_s: u32,
    },
    /// A session token could not be made.
    #[error("a session token could not be made")]
    Token,
    /// The database failed.
    #[error(transparent)]
    Db(#[from] db::Error),
}

/// For which terminals to hand out codes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CodesRequest {
    /// Terminals, at most 1,000.
    pub ids: Vec<i64>,
    /// How long the codes are good for, days, 1–90; 7 when absent.
    #[serde(default)]
    pub valid_days: Option<u32>,
}

/// A code that was just made. It is shown this once; only its hash is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct IssuedCode {
    /// The terminal.
    pub terminal_id: i64,
    /// Its serial number, to which the code is bound.
    pub sn: String,
    /// The code, in groups of four.
    pub code: String,
    /// Until when it can be redeemed, Unix ms.
    pub expires_at_ms: i64,
}

/// What became of a request for codes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct IssuedCodes {
    /// The codes, in the order asked for.
    pub codes: Vec<IssuedCode>,
    /// Terminals that got none, each with the reason.
    pub refused: Vec<NotDone>,
}

/// Makes a code for each terminal; codes handed out before and not used are void.
///
/// # Errors
/// [`super::Error::Invalid`] for too many terminals or days.
pub fn issue_codes(
    conn: &mut Conn,
    actor: &Actor,
    scope: &Scope,
    asked: &CodesRequest,
    now: Now,
) -> Result<IssuedCodes, super::Error> {
    check_bulk(&asked.ids)?;
    let days = asked.valid_days.unwrap_or(CODE_DAYS);
    if !(1..=CODE_DAYS_MAX).contains(&days) {
        return Err(FieldError::new("valid_days", format!("must be between 1 and {CODE_DAYS_MAX}")).into());
    }
    let expires_at_ms = now.0 + i64::from(days) * DAY_MS;
    let mut known = store::terminals(conn, scope, &asked.ids)?;
    let mut issued = IssuedCodes::default();
    let mut rows = Vec::with_capacity(asked.ids.len());
    for &id in &asked.ids {
        // Taken out, so that a terminal named twice gets one code.
        let reason = match known.remove(&id) {
            None => NOT_FOUND.to_owned(),
            Some(found) if is_barred(found.lifecycle) => format!("it is {}", found.lifecycle.as_str()),
            Some(found) => {
                let code = ActivationCode::random();
                rows.push((code.hash(), id));
                let code = code.to_string();
                issued.codes.push(IssuedCode { terminal_id: id, sn: found.sn, code, expires_at_ms });
                continue;
            }
        };
        issued.refused.push(NotDone { id, reason });
    }
    store::replace_codes(conn, &rows, expires_at_ms, now)?;
    let ids: Vec<i64> = rows.iter().map(|&(_, id)| id).collect();
    let deed = Deed {
        action: "terminals.issue_codes",
        object_kind: "terminal",
        object_id: if let [one] = ids.as_slice() { one.to_string() } else { format!("{} terminals", ids.len()) },
        org_path: scope.from(),
        detail: json!({"ids": ids, "expires_at_ms": expires_at_ms}),
    };
    audit::append(conn, actor, &deed, now)?;
    Ok(issued)
}

/// Lost terminals may check in (to be locked) but not get a new key.
fn is_barred(state: Lifecycle) -> bool {
    state.allowances().check_in != CheckIn::Accepted
}

/// Whether `request` is signed with the key it names. Costs one signature check and no database.
#[must_use]
pub fn is_proven(request: &EnrolRequest) -> bool {
    let message = enrol_bytes(&request.sn, &request.activation_code, &request.public_key);
    crypto::verify_hex(&request.public_key, &message, &request.proof)
}

/// Whether the code of `request` is one for its serial number, used or not.
///
/// # Errors
/// [`Error::BadCode`].
pub fn check_code(conn: &mut Conn, request: &EnrolRequest) -> Result<(), Error> {
    find_code(conn, request).map(drop)
}

fn find_code(conn: &mut Conn, request: &EnrolRequest) -> Result<(String, store::Code), Error> {
    let hash = ActivationCode::parse(&request.activation_code).ok_or(Error::BadCode)?.hash();
    let found = store::code(conn, &hash, request.sn.as_str())?.ok_or(Error::BadCode)?;
    Ok((hash, found))
}

/// Redeems a code, after [`is_proven`]: the key becomes the terminal's, earlier sessions end, a new stream begins.
/// The same request again changes nothing and gives the same answer.
///
/// # Errors
/// [`Error::BadCode`], [`Error::Barred`], [`Error::Changed`].
pub fn enrol(conn: &mut Conn, request: &EnrolRequest, now: Now) -> Result<EnrolAnswer, Error> {
    let (hash, found) = find_code(conn, request)?;
    if is_barred(found.lifecycle) {
        return Err(Error::Barred(found.lifecycle));
    }
    let answer = |stream: i64| EnrolAnswer {
        terminal_id: TerminalId(found.terminal_id),
        stream: Stream(u32::try_from(stream).unwrap_or(u32::MAX)),
        server_time_ms: now.0,
    };
    if let Some(used_by) = &found.used_public_key {
        let is_again = used_by == &request.public_key && found.public_key.as_ref() == Some(used_by);
        return if is_again { Ok(answer(found.stream)) } else { Err(Error::BadCode) };
    }
    if found.expires_at_ms <= now.0 {
        return Err(Error::BadCode);
    }
    // An agent that lost its spool may have begun streams of its own.
    let stream = found.stream.max(found.reported_stream) + 1;
    let is_first = found.public_key.is_none();
    if !store::redeem(conn, &hash, &found, &request.public_key, stream, now)? {
        return Err(Error::Changed);
    }
    profiles::recompute(conn, &[found.terminal_id], now)?;
    let deed = Deed {
        action: "terminals.enrol",
        object_kind: "terminal",
        object_id: found.terminal_id.to_string(),
        org_path: &found.org_path,
        detail: json!({
            "sn": request.sn,
            "key_fingerprint": hex::encode(crypto::sha256(request.public_key.as_bytes())),
            "first": is_first,
        }),
    };
    audit::append(conn, &Actor::terminal(found.terminal_id, request.sn.as_str()), &deed, now)?;
    Ok(answer(stream))
}

/// A public key that belongs to nobody: what is verified for a terminal that does not exist takes as long.
const NOBODY: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

/// Opens a session for a terminal that signed its challenge.
///
/// # Errors
/// [`Error::NotProven`], [`Error::Barred`].
pub fn open_session(
    conn: &mut Conn,
    tokens: &Tokens,
    request: &SessionRequest,
    now: Now,
) -> Result<SessionAnswer, Error> {
    let id = request.terminal_id;
    if !tokens.is_challenge(&request.challenge, id, now) {
        return Err(Error::NotProven);
    }
    let found = store::key(conn, id.0)?;
    let key = found.as_ref().map_or(NOBODY, |found| &found.public_key);
    let holds = crypto::verify_hex(key, &session_bytes(id, &request.challenge), &request.proof);
    let found = found.filter(|_| holds).ok_or(Error::NotProven)?;
    if found.lifecycle.allowances().check_in == CheckIn::Refused {
        return Err(Error::Barred(found.lifecycle));
    }
    let token = tokens.issue_terminal(id, found.session_epoch, now).ok_or(Error::Token)?;
    Ok(SessionAnswer { token, expires_in_s: TERMINAL_TOKEN_S, server_time_ms: now.0 })
}
