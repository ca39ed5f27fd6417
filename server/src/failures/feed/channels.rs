//! Channels as people see them.

use serde::{Deserialize, Serialize};
use serde_json::json;
use tillward_protocol::FieldError;

use super::store::{self, StoredChannel};
use crate::audit::{self, Actor, Deed};
use crate::clock::Now;
use crate::db::{self, Conn, Sequence, next_id};
use crate::imports::{self, Error};
use crate::operators::{Caller, Scope};

/// Channels of one organization: nobody has more acquirers.
const CHANNELS_MAX: i64 = 20;

/// Where settled payments come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = FeedChannel)]
pub struct Channel {
    /// Its number: the source of its imports, and of its callbacks as `{id}/callback`.
    pub id: i64,
    /// Organization whose payments it tells.
    pub organization_id: i64,
    /// Organization, as a path.
    pub org_path: String,
    /// Its name.
    pub name: String,
    /// Where its callbacks go.
    pub callback_path: String,
    /// Who made it.
    pub created_by: String,
    /// When, Unix ms.
    pub created_at_ms: i64,
    /// When it told something last, Unix ms.
    pub last_row_at_ms: Option<i64>,
}

/// A channel to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewFeedChannel)]
pub struct NewChannel {
    /// Its name, 1–100 characters.
    pub name: String,
    /// Organization; the caller's own when absent.
    #[serde(default)]
    pub organization_id: Option<i64>,
}

/// A channel with the secret of its callbacks, which is never shown again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = CreatedFeedChannel)]
pub struct CreatedChannel {
    /// The channel.
    pub channel: Channel,
    /// Key of the callbacks' HMAC-SHA256.
    pub secret: String,
}

/// Makes a channel.
///
/// # Errors
/// [`Error::Invalid`] for the name or an organization that is not the caller's; [`Error::Conflict`] for too many.
pub fn create(
    conn: &mut Conn,
    caller: &Caller,
    actor: &Actor,
    new: NewChannel,
    now: Now,
) -> Result<CreatedChannel, Error> {
    let name = crate::text::name("name", &new.name)?;
    let organization_id = new.organization_id.unwrap_or(caller.organization_id);
    let home = imports::organization(conn, &caller.scope, organization_id)?;
    if store::count_channels(conn, &home.path)? >= CHANNELS_MAX {
        return Err(Error::Conflict("this organization has as many channels as it may have; delete one"));
    }
    let channel = StoredChannel {
        id: next_id(conn, Sequence::FeedChannels)?,
        organization_id: home.id,
        org_path: home.path,
        name,
        secret: new_secret(),
        created_by: caller.name.clone(),
        created_at_ms: now.0,
        last_row_at_ms: None,
        deleted_at_ms: None,
    };
    store::insert_channel(conn, &channel)?;
    note(conn, actor, "feed.channel.create", &channel, now)?;
    let secret = channel.secret.clone();
    Ok(CreatedChannel { channel: channel.into(), secret })
}

fn new_secret() -> String {
    hex::encode(rand::random::<[u8; 32]>())
}

fn note(conn: &mut Conn, actor: &Actor, action: &str, channel: &StoredChannel, now: Now) -> Result<(), db::Error> {
    let deed = Deed {
        action,
        object_kind: "feed_channel",
        object_id: channel.id.to_string(),
        org_path: &channel.org_path,
        detail: json!({"name": channel.name}),
    };
    audit::append(conn, actor, &deed, now)
}

/// One channel.
///
/// # Errors
/// [`Error::NotFound`].
pub fn find(conn: &mut Conn, scope: &Scope, id: i64) -> Result<Channel, Error> {
    Ok(store::channel(conn, scope, id)?.ok_or(Error::NotFound)?.into())
}

/// Channels of the scope, by number, above `after`.
///
/// # Errors
/// [`db::Error`].
pub fn list(conn: &mut Conn, scope: &Scope, after: Option<i64>, size: u32) -> Result<Vec<Channel>, db::Error> {
    Ok(store::channels(conn, scope, after, i64::from(size))?.into_iter().map(Channel::from).collect())
}

/// Gives a channel a new secret; the old one is good for nothing from then on.
///
/// # Errors
/// [`Error::NotFound`].
pub fn renew_secret(conn: &mut Conn, actor: &Actor, scope: &Scope, id: i64, now: Now) -> Result<CreatedChannel, Error> {
    let channel = store::channel(conn, scope, id)?.ok_or(Error::NotFound)?;
    let secret = new_secret();
    store::set_secret(conn, id, &secret)?;
    note(conn, actor, "feed.channel.secret", &channel, now)?;
    Ok(CreatedChannel { channel: channel.into(), secret })
}

/// Deletes a channel. What it told stays.
///
/// # Errors
/// [`Error::NotFound`].
pub fn delete(conn: &mut Conn, actor: &Actor, scope: &Scope, id: i64, now: Now) -> Result<(), Error> {
    let channel = store::channel(conn, scope, id)?.ok_or(Error::NotFound)?;
    store::delete_channel(conn, id, now)?;
    note(conn, actor, "feed.channel.delete", &channel, now)?;
    Ok(())
}

/// Refuses what names no field that a callback could have.
pub(super) fn unreadable(problem: &str) -> Error {
    FieldError::new("body", problem).into()
}
