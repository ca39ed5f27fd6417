//! Operators: people and programs with an account, bound to one organization's subtree.
//!
//! Accounts here, their sessions in `sessions`, programs' keys in `keys`, the very first account in `bootstrap`.
//! Invariants: nobody gives or touches a role that has more than their own, nobody changes their own role or shuts out
//! themselves, passwords are kept as argon2id and all other secrets as SHA-256.

mod access;
mod accounts;
mod bootstrap;
pub mod http;
pub mod keys;
mod password;
pub mod sessions;
mod store;

use serde::{Deserialize, Serialize};
use tillward_protocol::FieldError;

pub use access::{Caller, CallerKind, Permission, Role, Scope};
pub use accounts::{choose_language, create, find_by_login, get, list, reset_password, update};
pub use bootstrap::{SetUp, bootstrap, is_set_up, set_up};
pub use password::{CHARS_MAX as PASSWORD_CHARS_MAX, CHARS_MIN as PASSWORD_CHARS_MIN};
pub use sessions::{SignInError, SignedIn, sign_in, sign_out};

use crate::clock::Now;
use crate::db::{self, Db};
use crate::organizations;

/// Every API key starts with this, so that scanners recognize a leaked one.
pub const API_KEY_LEAD: &str = "twk_";
/// Every refresh token starts with this.
pub const REFRESH_TOKEN_LEAD: &str = "twr_";
/// Shortest and longest login name, characters.
const LOGIN_CHARS: std::ops::RangeInclusive<usize> = 3..=64;

/// Whether an account may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = OperatorStatus)]
pub enum Status {
    /// It may.
    Active,
    /// It may not; its sessions and the API keys it made have ended.
    Disabled,
}

impl Status {
    /// Name in tables and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
        }
    }

    fn parse(name: &str) -> Self {
        // The table holds one of two names; anything else is treated as shut out.
        if name == Self::Active.as_str() { Self::Active } else { Self::Disabled }
    }
}

/// Language of the console and of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub enum Language {
    /// Simplified Chinese.
    #[default]
    #[serde(rename = "zh-CN")]
    Chinese,
    /// English.
    #[serde(rename = "en")]
    English,
}

impl Language {
    /// Its tag in tables and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chinese => "zh-CN",
            Self::English => "en",
        }
    }

    /// The language of this tag; Chinese for any other.
    pub fn parse(tag: &str) -> Self {
        if tag == Self::English.as_str() { Self::English } else { Self::Chinese }
    }
}

/// A person's account. Its password's hash is not in here and leaves the database for nothing but a sign-in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Operator {
    /// Its number.
    pub id: i64,
    /// The organization it belongs to.
    pub organization_id: i64,
    /// Path of that organization.
    pub org_path: String,
    /// Name to sign in with, unique, lower case.
    pub login: String,
    /// The person's name.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Whether it may be used.
    pub status: Status,
    /// Language of the console.
    pub language: Language,
    /// Since when it exists, Unix ms.
    pub created_at_ms: i64,
    /// Grows with each change; a change names the version it is based on.
    pub version: i64,
}

/// What a new account is made from.
#[derive(Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewOperator {
    /// The organization it belongs to, one of the caller's.
    pub organization_id: i64,
    /// 3–64 letters, digits or `._@-`; kept in lower case.
    pub login: String,
    /// The person's name.
    pub name: String,
    /// First password, 12–128 characters.
    pub password: String,
    /// At most what the caller may do.
    pub role: Role,
    /// Language of the console.
    #[serde(default)]
    pub language: Language,
}

/// A change; what is absent stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = OperatorChange)]
pub struct Change {
    /// The version that was read.
    pub version: i64,
    /// New name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// New role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Disable it, or let it be used again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// New language.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<Language>,
}

/// Why something was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is none in the caller's scope.
    #[error("no such operator or key")]
    NotFound,
    /// Somebody else changed it meanwhile.
    #[error("the account was changed meanwhile; read it again")]
    Changed,
    /// The login name belongs to somebody.
    #[error("the login name is taken")]
    LoginTaken,
    /// The caller may not do this to that.
    #[error("{0}")]
    Denied(&'static str),
    /// Too many of them.
    #[error("{0}")]
    Limit(String),
    /// The organization, or one above it, is suspended.
    #[error("the organization is suspended")]
    Suspended,
    /// The present password that was given is not right.
    #[error("the present password is wrong")]
    WrongPassword,
    /// Too many wrong passwords in a row.
    #[error("too many wrong passwords; try again in {for_s} s")]
    Locked {
        /// When it ends.
        for_s: u32,
    },
    /// The bootstrap token is wrong.
    #[error("the bootstrap token is wrong; the newest one stands in the server's log")]
    WrongBootstrapToken,
    /// There are operators already.
    #[error("this server is set up already; sign in instead")]
    AlreadySetUp,
    /// Too many sign-ins at once.
    #[error("too many sign-ins at once")]
    Busy,
    /// Hashing a password failed.
    #[error("a password could not be hashed")]
    Hash,
    /// A field was refused.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// The database failed.
    #[error("the database failed")]
    Db(#[from] db::Error),
}

/// The operator whose session has this id, if both are still good. Two queries by key.
///
/// # Errors
/// [`db::Error`].
pub async fn caller_of_session(db: &Db, session_id: String, now: Now) -> Result<Option<Caller>, db::Error> {
    db.read(move |conn| {
        let caller = sessions::caller_of_id(conn, &session_id, now)?;
        let Some(caller) = caller else { return Ok(None) };
        Ok(organizations::is_open(conn, caller.scope.from())?.then_some(caller))
    })
    .await
}

/// The operator whose session has this refresh token, if both are still good. Two queries by key.
///
/// # Errors
/// [`db::Error`].
pub async fn caller_of_refresh_token(db: &Db, token: &str, now: Now) -> Result<Option<Caller>, db::Error> {
    let hash = hash_of_secret(token);
    db.read(move |conn| {
        let caller = sessions::caller_of_refresh_hash(conn, &hash, now)?;
        let Some(caller) = caller else { return Ok(None) };
        Ok(organizations::is_open(conn, caller.scope.from())?.then_some(caller))
    })
    .await
}

/// The API key, if it is still good. Two queries by key; at most once a minute its use is noted, after the answer.
///
/// # Errors
/// [`db::Error`].
pub async fn caller_of_api_key(db: &Db, key: &str, now: Now) -> Result<Option<Caller>, db::Error> {
    keys::caller(db, hash_of_secret(key), now).await
}

/// How secrets of at least 128 random bits are kept: SHA-256 in hex. Not for passwords.
pub fn hash_of_secret(secret: &str) -> String {
    hex::encode(tillward_protocol::crypto::sha256(secret.as_bytes()))
}

/// A login name as it is kept: trimmed and in lower case.
fn normal_login(login: &str) -> String {
    login.trim().to_ascii_lowercase()
}

fn checked_login(login: &str) -> Result<String, FieldError> {
    let login = normal_login(login);
    let fits = LOGIN_CHARS.contains(&login.len())
        && login.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._@-".contains(&byte));
    let (least, most) = (LOGIN_CHARS.start(), LOGIN_CHARS.end());
    let problem = format!("must be {least} to {most} letters, digits or `._@-`");
    if !fits {
        return Err(FieldError::new("login", problem));
    }
    crate::text::guarded("login", &login)?;
    Ok(login)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_are_lower_case_and_plain() {
        assert_eq!(checked_login(" Li.Na@hz-1 ").unwrap(), "li.na@hz-1");
        for bad in ["", "ab", "li na", "李娜李娜", "a/b/c", "x\u{0}yz", &"x".repeat(65)] {
            assert_eq!(checked_login(bad).unwrap_err().field, "login", "{bad:?}");
        }
    }
}
