//! The first start and the first account: no default password anywhere, only a token that is printed once.

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use super::{Error, Language, NewOperator, Operator, Role, Scope, accounts, hash_of_secret, password, store};
use crate::audit::Actor;
use crate::clock::Now;
use crate::db::{self, Conn, Db};
use crate::{organizations, settings};

/// Where the token's hash is kept until it is used.
const SETTING: &str = "bootstrap_token_hash";
/// Random bytes of the token.
const TOKEN_BYTES: usize = 24;

/// What the first account is made from.
#[derive(Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetUp {
    /// The token that the server printed when it started.
    pub bootstrap_token: String,
    /// Name to sign in with.
    pub login: String,
    /// The person's name.
    pub name: String,
    /// 12–128 characters.
    pub password: String,
    /// Name of headquarters; it can be changed later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization_name: Option<String>,
    /// Language of the console.
    #[serde(default)]
    pub language: Language,
}

/// Prepares an empty database: makes headquarters and, while there is no operator, a new one-time token for [`set_up`].
/// An earlier token that was not used is void. `None` when there are operators.
///
/// # Errors
/// [`db::Error`].
pub async fn bootstrap(db: &Db, now: Now) -> Result<Option<String>, db::Error> {
    let first = try_bootstrap(db, now).await;
    match first {
        // Two servers started at once on an empty database; the second attempt sees what the other one made.
        Err(error) if error.is_unique_violation() => try_bootstrap(db, now).await,
        other => other,
    }
}

async fn try_bootstrap(db: &Db, now: Now) -> Result<Option<String>, db::Error> {
    let token = hex::encode(rand::random::<[u8; TOKEN_BYTES]>());
    db.write(move |conn| {
        organizations::ensure_headquarters(conn, now)?;
        if is_set_up(conn)? {
            return Ok(None);
        }
        settings::set(conn, SETTING, &hash_of_secret(&token))?;
        Ok(Some(token))
    })
    .await
}

/// Whether there is an account.
///
/// # Errors
/// [`db::Error`].
pub fn is_set_up(conn: &mut Conn) -> Result<bool, db::Error> {
    Ok(store::count(conn)? > 0)
}

/// Makes the first account, a platform administrator of headquarters, and uses the token up.
///
/// # Errors
/// [`Error::AlreadySetUp`], [`Error::WrongBootstrapToken`], [`Error::Field`], [`Error::Busy`], [`Error::Db`].
pub async fn set_up(db: &Db, set_up: SetUp, now: Now) -> Result<Operator, Error> {
    let hash = hash_of_secret(set_up.bootstrap_token.trim());
    // Before the costly part, so that strangers can make the server neither hash nor write.
    let asked = hash.clone();
    db.read(move |conn| check_token(conn, &asked)).await?;
    let headquarters = db.write(move |conn| organizations::ensure_headquarters(conn, now)).await?;
    let new = NewOperator {
        organization_id: headquarters.id,
        login: set_up.login,
        name: set_up.name,
        password: set_up.password,
        role: Role::PlatformAdmin,
        language: set_up.language,
    };
    let checked = accounts::Checked::of(&new)?;
    let name = set_up.organization_name.map(|name| crate::text::name("organization_name", &name)).transpose()?;
    let password_hash = password::hash(new.password.clone()).await?;
    db.write(move |conn| {
        check_token(conn, &hash)?;
        // The row is gone after this: a second request with the same token finds none.
        if !settings::remove(conn, SETTING)? {
            return Err(Error::AlreadySetUp);
        }
        let actor = Actor::system("bootstrap");
        if let Some(name) = name
            && !organizations::rename_in(conn, &actor, headquarters.id, name, now)?
        {
            return Err(Error::Changed);
        }
        accounts::insert(conn, &Scope::everything(), &actor, &new, checked, &password_hash, now)
    })
    .await
}

fn check_token(conn: &mut Conn, hash: &str) -> Result<(), Error> {
    let kept = settings::get(conn, SETTING)?.unwrap_or_default();
    let same: bool = kept.as_bytes().ct_eq(hash.as_bytes()).into();
    // Asked second: whoever used the token up since then is there by now.
    if is_set_up(conn)? {
        Err(Error::AlreadySetUp)
    } else if same {
        Ok(())
    } else {
        Err(Error::WrongBootstrapToken)
    }
}
