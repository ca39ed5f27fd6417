//! Sessions of operators: signing in, renewing, signing out; one's own password.
//!
//! A sign-in answers the same for an unknown login as for a wrong password, also in time and in its lock. A refresh
//! token is good once; an old one used again means that somebody has a copy, and ends the session.

pub(super) mod http;
mod limit;
mod store;

use serde_json::json;
use uuid::Uuid;

use super::{Caller, CallerKind, Error, Operator, REFRESH_TOKEN_LEAD, Status, accounts};
use super::{checked_login, hash_of_secret, normal_login};
use super::{password, store as accounts_store};
use crate::audit::{self, Actor, Deed};
use crate::clock::Now;
use crate::db::{self, Conn, Db};
use crate::organizations;

pub use limit::AddressLimit;

/// A session ends after this, however often it was renewed, ms: one working day.
pub const SESSION_MS: i64 = 12 * 3_600_000;
/// Wrong passwords in a row after which a login is locked.
pub const FAILURES_MAX: i64 = 8;
/// How long it stays locked, and after how long without another try failures are forgotten, ms. Eight tries a quarter
/// of an hour are 280,000 a year: too few against twelve characters.
pub const LOCK_MS: i64 = 15 * 60_000;
/// Live sessions of one operator; one more ends the oldest. More than browsers and phones of one person.
const SESSIONS_MAX: i64 = 20;
/// Longest user agent that is kept, characters.
const USER_AGENT_CHARS_MAX: usize = 200;
/// Hex digits of the family in a refresh token: 128 bits.
const FAMILY_DIGITS: usize = 32;

/// An opened or renewed session.
pub struct SignedIn {
    /// Who, with the session's id and its token against forged forms.
    pub caller: Caller,
    /// Its account.
    pub operator: Operator,
    /// Renews the session, and is the console's cookie. Kept nowhere.
    pub refresh_token: String,
    /// When the session ends, Unix ms.
    pub expires_at_ms: i64,
}

/// Why a sign-in was refused.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// The login is unknown or disabled, or the password is wrong.
    #[error("the login name or the password is wrong")]
    Wrong,
    /// Too many failures in a row.
    #[error("too many failed sign-ins; try again in {for_s} s")]
    Locked {
        /// When it ends, s.
        for_s: u32,
    },
    /// Too many tries from one address.
    #[error("too many sign-ins from your address; try again in {for_s} s")]
    TooOften {
        /// When the next one is let through, s.
        for_s: u32,
    },
    /// The password was right, but the organization or one above it is suspended.
    #[error("the organization is suspended; ask the organization above it")]
    Suspended,
    /// It could not be judged.
    #[error(transparent)]
    Failed(#[from] Error),
}

impl From<db::Error> for SignInError {
    fn from(error: db::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// Opens a session.
///
/// # Errors
/// [`SignInError`].
pub async fn sign_in(
    db: &Db,
    login: &str,
    password: &str,
    user_agent: &str,
    now: Now,
) -> Result<SignedIn, SignInError> {
    let login = normal_login(login);
    let found = judge(db, &login, password, now).await?;
    let Some((operator, password_hash)) = found else { return Err(SignInError::Wrong) };
    // Whatever a program calls itself is stored.
    let user_agent = tillward_protocol::pan::mask(user_agent);
    let user_agent: String = user_agent.chars().filter(|c| !c.is_control()).take(USER_AGENT_CHARS_MAX).collect();
    db.write(move |conn| {
        // Judged again: it may have been locked, disabled or changed while the password was hashed.
        check_lock(conn, &login, now)?;
        match accounts_store::credentials(conn, &login)? {
            Some((present, hash)) if present.status == Status::Active && hash == password_hash => {}
            Some(_) | None => return Err(SignInError::Wrong),
        }
        if !organizations::is_open(conn, &operator.org_path)? {
            return Err(SignInError::Suspended);
        }
        forget_failures(conn, &login)?;
        Ok(open(conn, operator, &user_agent, now)?)
    })
    .await
}

/// The account whose password this is, with its hash. Counts a failure for any other, known or not.
async fn judge(db: &Db, login: &str, password: &str, now: Now) -> Result<Option<(Operator, String)>, SignInError> {
    let kept = db
        .read({
            let login = login.to_owned();
            move |conn| {
                check_lock(conn, &login, now)?;
                // What cannot be a login is looked for no further; it may hold what a database refuses.
                if checked_login(&login).is_err() {
                    return Ok(None);
                }
                Ok::<_, SignInError>(accounts_store::credentials(conn, &login)?)
            }
        })
        .await?;
    // A longer one cannot be right; the hash is made of its beginning so that the time stays the same.
    let tried: String = password.chars().take(super::PASSWORD_CHARS_MAX + 1).collect();
    let hash = kept.as_ref().map(|(_, hash)| hash.clone());
    let right = password::verify(tried, hash).await?;
    match kept {
        Some((operator, hash)) if right && operator.status == Status::Active => Ok(Some((operator, hash))),
        Some(_) | None => {
            note_failure(db, login, now).await?;
            Ok(None)
        }
    }
}

fn check_lock(conn: &mut Conn, login: &str, now: Now) -> Result<(), SignInError> {
    let left_ms = store::locked_until_ms(conn, &hash_of_secret(login))? - now.0;
    if left_ms <= 0 {
        return Ok(());
    }
    Err(SignInError::Locked { for_s: u32::try_from(left_ms.saturating_add(999) / 1_000).unwrap_or(u32::MAX) })
}

async fn note_failure(db: &Db, login: &str, now: Now) -> Result<(), db::Error> {
    let once = || {
        let hash = hash_of_secret(login);
        db.write(move |conn| store::note_failure(conn, &hash, now))
    };
    match once().await {
        // Two first failures at the same moment: the other one made the row.
        Err(error) if error.is_unique_violation() => once().await,
        other => other,
    }
}

/// Removes the lock of a login and its failures, within the caller's transaction.
pub(super) fn forget_failures(conn: &mut Conn, login: &str) -> Result<(), db::Error> {
    store::forget_failures(conn, &hash_of_secret(login))
}

fn open(conn: &mut Conn, operator: Operator, user_agent: &str, now: Now) -> Result<SignedIn, db::Error> {
    let family = hex::encode(rand::random::<[u8; 16]>());
    let refresh_token = token_of(&family);
    let session = store::NewSession {
        id: Uuid::now_v7().to_string(),
        operator_id: operator.id,
        family_hash: hash_of_secret(&family),
        refresh_hash: hash_of_secret(&refresh_token),
        csrf_token: hex::encode(rand::random::<[u8; 16]>()),
        user_agent: user_agent.to_owned(),
        created_at_ms: now.0,
        expires_at_ms: now.0 + SESSION_MS,
    };
    store::tidy(conn, operator.id, SESSIONS_MAX - 1, now)?;
    store::insert(conn, &session)?;
    let caller = Caller {
        kind: CallerKind::Operator,
        id: operator.id,
        name: operator.login.clone(),
        role: operator.role,
        organization_id: operator.organization_id,
        scope: super::Scope::subtree(operator.org_path.clone()),
        language: operator.language.as_str().to_owned(),
        session_id: Some(session.id.clone()),
        csrf_token: session.csrf_token,
    };
    append(conn, &Actor::from(&caller), "sessions.open", &caller, &session.id, now)?;
    Ok(SignedIn { caller, operator, refresh_token, expires_at_ms: session.expires_at_ms })
}

/// A new refresh token of a family: 256 random bits after the part that stays.
fn token_of(family: &str) -> String {
    format!("{REFRESH_TOKEN_LEAD}{family}{}", hex::encode(rand::random::<[u8; 32]>()))
}

/// Renews a session: gives a new refresh token and voids the one given. `None` when it is unknown, ended, or was used
/// before; the last ends the session for whoever else has it.
///
/// # Errors
/// [`db::Error`].
pub async fn refresh(db: &Db, token: &str, now: Now) -> Result<Option<SignedIn>, db::Error> {
    let family = token.strip_prefix(REFRESH_TOKEN_LEAD).and_then(|rest| rest.get(..FAMILY_DIGITS));
    let Some(family) = family.map(str::to_owned) else { return Ok(None) };
    let given_hash = hash_of_secret(token);
    db.write(move |conn| {
        let Some(session) = store::by_family(conn, &hash_of_secret(&family), now)? else { return Ok(None) };
        let caller = store::caller_of_id(conn, &session.id, now)?;
        let Some(caller) = caller else { return Ok(None) };
        if !organizations::is_open(conn, caller.scope.from())? {
            return Ok(None);
        }
        let refresh_token = token_of(&family);
        if !store::rotate(conn, &session.id, &given_hash, &hash_of_secret(&refresh_token))? {
            store::end(conn, &session.id, now)?;
            append(conn, &Actor::system("sessions"), "sessions.token_reused", &caller, &session.id, now)?;
            return Ok(None);
        }
        let operator = accounts_store::get(conn, &caller.scope, caller.id)?;
        let expires_at_ms = session.expires_at_ms;
        Ok(operator.map(|operator| SignedIn { caller, operator, refresh_token, expires_at_ms }))
    })
    .await
}

/// Ends the caller's session; an API key has none.
///
/// # Errors
/// [`db::Error`].
pub async fn sign_out(db: &Db, caller: &Caller, actor: &Actor, now: Now) -> Result<(), db::Error> {
    let Some(session_id) = caller.session_id.clone() else { return Ok(()) };
    let (caller, actor) = (caller.clone(), actor.clone());
    db.write(move |conn| {
        store::end(conn, &session_id, now)?;
        append(conn, &actor, "sessions.close", &caller, &session_id, now)
    })
    .await
}

/// Changes the caller's own password and ends all their other sessions.
///
/// # Errors
/// [`Error::Denied`] for an API key, [`Error::WrongPassword`], [`Error::Locked`], [`Error::Field`], [`Error::Changed`],
/// [`Error::Busy`], [`Error::Db`].
pub async fn change_own_password(
    db: &Db,
    caller: &Caller,
    actor: &Actor,
    present: &str,
    new: String,
    now: Now,
) -> Result<(), Error> {
    if caller.kind != CallerKind::Operator {
        return Err(Error::Denied("an API key has no password"));
    }
    password::check(&new, &caller.name)?;
    let operator = match judge(db, &caller.name, present, now).await {
        Ok(Some((operator, _))) => operator,
        Ok(None) | Err(SignInError::Wrong | SignInError::Suspended) => return Err(Error::WrongPassword),
        Err(SignInError::Locked { for_s } | SignInError::TooOften { for_s }) => return Err(Error::Locked { for_s }),
        Err(SignInError::Failed(error)) => return Err(error),
    };
    let password_hash = password::hash(new).await?;
    let (session_id, actor) = (caller.session_id.clone(), actor.clone());
    db.write(move |conn| {
        accounts::set_password(conn, &operator, &password_hash)?;
        end_all(conn, operator.id, session_id.as_deref(), now)?;
        forget_failures(conn, &operator.login)?;
        accounts::append(conn, &actor, "operators.change_password", &operator, now)?;
        Ok(())
    })
    .await
}

/// Ends all sessions of an operator but `kept`, within the caller's transaction.
pub(super) fn end_all(conn: &mut Conn, operator_id: i64, kept: Option<&str>, now: Now) -> Result<(), db::Error> {
    store::end_all(conn, operator_id, kept.unwrap_or(""), now)
}

/// The operator whose session has this id.
pub(super) fn caller_of_id(conn: &mut Conn, id: &str, now: Now) -> Result<Option<Caller>, db::Error> {
    store::caller_of_id(conn, id, now)
}

/// The operator whose session has this refresh token's hash.
pub(super) fn caller_of_refresh_hash(conn: &mut Conn, hash: &str, now: Now) -> Result<Option<Caller>, db::Error> {
    store::caller_of_refresh_hash(conn, hash, now)
}

fn append(
    conn: &mut Conn,
    actor: &Actor,
    action: &str,
    whose: &Caller,
    session_id: &str,
    now: Now,
) -> Result<(), db::Error> {
    let (object_id, org_path) = (whose.id.to_string(), whose.scope.from());
    let detail = json!({ "login": whose.name, "session": session_id });
    audit::append(conn, actor, &Deed { action, object_kind: "operator", object_id, org_path, detail }, now)
}
