//! API keys: how programs call. A key belongs to an organization, has a role and an end, and is shown once.

pub(super) mod http;
mod store;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tillward_protocol::FieldError;

use super::{API_KEY_LEAD, Caller, CallerKind, Error, Role, Scope, hash_of_secret};
use crate::audit::{self, Actor, Deed};
use crate::clock::Now;
use crate::db::{self, Conn, Db, Sequence};
use crate::{organizations, text};

/// Longest life of a key, days: a year and a month to renew it in.
pub const DAYS_MAX: u32 = 400;
/// Live keys of one organization.
pub const KEYS_MAX: i64 = 100;
/// The use of a key is noted at most this often, ms.
const USE_NOTED_MS: i64 = 60_000;
/// Characters of a key that stay readable in lists, its lead included.
const PREFIX_CHARS: usize = 12;
const DAY_MS: i64 = 86_400_000;

/// A key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ApiKey {
    /// Its number.
    pub id: i64,
    /// The organization it belongs to.
    pub organization_id: i64,
    /// What it is for.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Its first characters, to tell keys apart.
    pub prefix: String,
    /// Number of the operator who made it.
    pub created_by: i64,
    /// When it was made, Unix ms.
    pub created_at_ms: i64,
    /// When it ends, Unix ms.
    pub expires_at_ms: i64,
    /// When it was last used, to the minute, Unix ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at_ms: Option<i64>,
    /// When it was revoked, Unix ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at_ms: Option<i64>,
    #[serde(skip)]
    org_path: String,
}

/// What a new key is made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewApiKey {
    /// What it is for.
    pub name: String,
    /// At most what the caller may do.
    pub role: Role,
    /// The organization it belongs to; the caller's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization_id: Option<i64>,
    /// Days until it ends, 1–400.
    pub expires_in_days: u32,
}

/// A new key with its secret, which is never shown again.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CreatedKey {
    /// The key.
    pub api_key: ApiKey,
    /// Send it as `Authorization: Bearer …`.
    pub secret: String,
}

/// Makes a key in one of the caller's organizations.
///
/// # Errors
/// [`Error::Denied`] when the role has more than the caller's or the caller is a key itself, [`Error::Suspended`],
/// [`Error::Limit`], [`Error::Field`], [`Error::Db`].
pub async fn create(db: &Db, caller: &Caller, actor: &Actor, new: NewApiKey, now: Now) -> Result<CreatedKey, Error> {
    if caller.kind != CallerKind::Operator {
        return Err(Error::Denied("only a person makes API keys"));
    }
    if !caller.role.may_grant(new.role) {
        return Err(Error::Denied("this role may do more than your own"));
    }
    let name = text::name("name", &new.name)?;
    if !(1..=DAYS_MAX).contains(&new.expires_in_days) {
        return Err(FieldError::new("expires_in_days", format!("must be 1 to {DAYS_MAX}")).into());
    }
    let secret = format!("{API_KEY_LEAD}{}", hex::encode(rand::random::<[u8; 32]>()));
    let (caller, actor) = (caller.clone(), actor.clone());
    db.write(move |conn| {
        let organization_id = new.organization_id.unwrap_or(caller.organization_id);
        let organization = organizations::get(conn, &caller.scope, organization_id)?
            .ok_or_else(|| FieldError::new("organization_id", "is not an organization that you may see"))?;
        if !organizations::is_open(conn, &organization.path)? {
            return Err(Error::Suspended);
        }
        if store::count_live(conn, organization.id, now)? >= KEYS_MAX {
            return Err(Error::Limit(format!("an organization may have at most {KEYS_MAX} keys; revoke one")));
        }
        let api_key = ApiKey {
            id: db::next_id(conn, Sequence::ApiKeys)?,
            organization_id: organization.id,
            name,
            role: new.role,
            prefix: secret.chars().take(PREFIX_CHARS).collect(),
            created_by: caller.id,
            created_at_ms: now.0,
            expires_at_ms: now.0 + i64::from(new.expires_in_days) * DAY_MS,
            last_used_at_ms: None,
            revoked_at_ms: None,
            org_path: organization.path,
        };
        store::insert(conn, &api_key, &hash_of_secret(&secret))?;
        append(conn, &actor, "api_keys.create", &api_key, now)?;
        Ok(CreatedKey { api_key, secret })
    })
    .await
}

/// Whether two callers, each by kind and number as the audit log has them, are one person: a key acts for the person who
/// made it, and does not make two of one.
///
/// # Errors
/// [`db::Error`].
pub fn is_same_person(conn: &mut Conn, one: (&str, i64), other: (&str, i64)) -> Result<bool, db::Error> {
    let mut person = |(kind, id): (&str, i64)| match kind == CallerKind::ApiKey.as_str() {
        true => store::created_by(conn, id),
        false => Ok(Some(id)),
    };
    Ok(one == other || matches!((person(one)?, person(other)?), (Some(one), Some(other)) if one == other))
}

/// Keys of `scope` by number, after the number `after`.
///
/// # Errors
/// [`db::Error`].
pub async fn list(db: &Db, scope: &Scope, after: Option<i64>, size: u32) -> Result<Vec<ApiKey>, db::Error> {
    let scope = scope.clone();
    db.read(move |conn| store::list(conn, &scope, after, i64::from(size))).await
}

/// Revokes a key of the caller's organizations; doing so twice is no error.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Denied`] when its role has more than the caller's, [`Error::Db`].
pub async fn revoke(db: &Db, caller: &Caller, actor: &Actor, id: i64, now: Now) -> Result<(), Error> {
    let (caller, actor) = (caller.clone(), actor.clone());
    db.write(move |conn| {
        let key = store::get(conn, &caller.scope, id)?.ok_or(Error::NotFound)?;
        if !caller.role.may_grant(key.role) {
            return Err(Error::Denied("this role may do more than your own"));
        }
        if store::end(conn, id, now)? {
            append(conn, &actor, "api_keys.revoke", &key, now)?;
        }
        Ok(())
    })
    .await
}

/// Ends all keys that an operator made, within the caller's transaction.
pub(super) fn end_all(conn: &mut Conn, operator_id: i64, now: Now) -> Result<(), db::Error> {
    for key in store::live_of(conn, operator_id, now)? {
        store::end(conn, key.id, now)?;
    }
    Ok(())
}

/// Ends those keys of an operator that may do more than `role`, within the caller's transaction.
pub(super) fn end_beyond(conn: &mut Conn, operator_id: i64, role: Role, now: Now) -> Result<(), db::Error> {
    for key in store::live_of(conn, operator_id, now)? {
        if !role.may_grant(key.role) {
            store::end(conn, key.id, now)?;
        }
    }
    Ok(())
}

/// The key with this hash, if it and its organization are good.
pub(super) async fn caller(db: &Db, hash: String, now: Now) -> Result<Option<Caller>, db::Error> {
    let found = db
        .read(move |conn| {
            let found = store::by_hash(conn, &hash, now)?;
            let Some(key) = found else { return Ok(None) };
            Ok::<_, db::Error>(organizations::is_open(conn, &key.org_path)?.then_some(key))
        })
        .await?;
    let Some(key) = found else { return Ok(None) };
    if key.last_used_at_ms.is_none_or(|at| now.0 - at >= USE_NOTED_MS) {
        let (db, id) = (db.clone(), key.id);
        // Nobody waits for it; that it gets lost when the server stops just now does no harm.
        tokio::spawn(async move {
            let noted = db.write(move |conn| store::note_use(conn, id, now, now.0 - USE_NOTED_MS)).await;
            if let Err(error) = noted {
                tracing::warn!(%error, api_key = id, "the use of an API key could not be noted");
            }
        });
    }
    Ok(Some(Caller {
        kind: CallerKind::ApiKey,
        id: key.id,
        name: key.name,
        role: key.role,
        organization_id: key.organization_id,
        scope: Scope::subtree(key.org_path),
        language: "en".to_owned(),
        session_id: None,
        csrf_token: String::new(),
    }))
}

fn append(conn: &mut Conn, actor: &Actor, action: &str, key: &ApiKey, now: Now) -> Result<(), db::Error> {
    let detail = json!({
        "name": key.name,
        "role": key.role,
        "prefix": key.prefix,
        "expires_at_ms": key.expires_at_ms,
    });
    let object_id = key.id.to_string();
    let deed = Deed { action, object_kind: "api_key", object_id, org_path: &key.org_path, detail };
    audit::append(conn, actor, &deed, now)
}
