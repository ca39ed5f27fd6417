//! Operators: people and programs with an account, bound to one organization's subtree.

mod access;
pub mod http;
mod store;

pub use access::{Caller, CallerKind, Permission, Role, Scope};

use crate::clock::Now;
use crate::db::{self, Db};

/// Every API key starts with this, so that scanners recognize a leaked one.
pub const API_KEY_LEAD: &str = "twk_";

/// The operator whose session has this id, if both are still good.
///
/// # Errors
/// [`db::Error`].
pub async fn caller_of_session(db: &Db, session_id: String, now: Now) -> Result<Option<Caller>, db::Error> {
    db.read(move |conn| store::caller_of_session(conn, &session_id, now)).await
}

/// The operator whose session has this refresh token, if both are still good.
///
/// # Errors
/// [`db::Error`].
pub async fn caller_of_refresh_token(db: &Db, token: &str, now: Now) -> Result<Option<Caller>, db::Error> {
    let hash = hash_of_secret(token);
    db.read(move |conn| store::caller_of_refresh_hash(conn, &hash, now)).await
}

/// The API key, if it is still good.
///
/// # Errors
/// [`db::Error`].
pub async fn caller_of_api_key(db: &Db, key: &str, now: Now) -> Result<Option<Caller>, db::Error> {
    let hash = hash_of_secret(key);
    db.read(move |conn| store::caller_of_key_hash(conn, &hash, now)).await
}

/// How secrets of at least 128 random bits are kept: SHA-256 in hex. Not for passwords.
pub fn hash_of_secret(secret: &str) -> String {
    hex::encode(tillward_protocol::crypto::sha256(secret.as_bytes()))
}
