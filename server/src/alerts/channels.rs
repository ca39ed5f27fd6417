//! Channels: where an organization's alerts go. Administrators make, try and delete them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tillward_protocol::FieldError;

use super::store::channels::{self as store, StoredChannel};
use super::transport::{NewTransport, Sender, Transport};
use super::{Alert, Level};
use crate::audit::{self, Actor, Deed};
use crate::clock::Now;
use crate::db::{self, Conn, Db};
use crate::operators::{Caller, Scope};
use crate::{organizations, text};

/// Channels of one organization: each alert is sent to every one.
pub const CHANNELS_MAX: i64 = 20;

/// Why something was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is none in the caller's scope.
    #[error("no such channel")]
    NotFound,
    /// Too many of them.
    #[error("an organization may have at most {CHANNELS_MAX} channels; delete one")]
    Limit,
    /// A field was refused.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// The database failed.
    #[error("the channels could not be read or written")]
    Db(#[from] db::Error),
}

/// What a new channel is made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewAlertChannel)]
pub struct NewChannel {
    /// What people call it.
    pub name: String,
    /// The organization it belongs to; the caller's own when absent. It gets the alerts of that one and of all below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization_id: Option<i64>,
    /// The least urgent level that it gets; `P3`, and so all of them, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// Where it leads.
    pub transport: NewTransport,
}

/// A channel, without its secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = AlertChannel)]
pub struct Channel {
    /// Its number.
    pub id: i64,
    /// The organization it belongs to.
    pub organization_id: i64,
    /// What people call it.
    pub name: String,
    /// The least urgent level that it gets.
    pub level: Level,
    /// `webhook`.
    pub kind: String,
    /// Scheme and host that it leads to; the path is kept secret.
    pub origin: String,
    /// Attempts that failed in a row.
    pub failures: i64,
    /// What went wrong last; empty when the last attempt was good.
    pub last_error: String,
    /// Who made it.
    pub created_by: String,
    /// When it was made, Unix ms.
    pub created_at_ms: i64,
}

/// A new channel with its secret, which is never shown again.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[schema(as = CreatedAlertChannel)]
pub struct CreatedChannel {
    /// The channel.
    pub channel: Channel,
    /// The receiver needs it to check signatures.
    pub secret: String,
}

/// How a trial ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = AlertChannelTest)]
pub struct TestResult {
    /// Whether the endpoint took it.
    pub accepted: bool,
    /// Its HTTP status, if it answered.
    pub status: Option<u16>,
    /// What went wrong; empty when nothing did.
    pub error: String,
}

fn shown(stored: StoredChannel) -> Channel {
    let kind = stored.transport.as_ref().map_or("unknown", |transport| transport.kind().as_str());
    Channel {
        id: stored.id,
        organization_id: stored.organization_id,
        name: stored.name,
        level: stored.level,
        kind: kind.to_owned(),
        origin: stored.transport.as_ref().map(Transport::origin).unwrap_or_default(),
        failures: stored.failures,
        last_error: stored.last_error,
        created_by: stored.created_by,
        created_at_ms: stored.created_at_ms,
    }
}

/// Makes a channel in one of the caller's organizations. It gets what is raised from now on.
///
/// # Errors
/// [`Error::Field`], [`Error::Limit`], [`Error::Db`].
pub async fn create(
    db: &Db,
    caller: &Caller,
    actor: &Actor,
    new: NewChannel,
    now: Now,
) -> Result<CreatedChannel, Error> {
    let name = text::name("name", &new.name)?;
    let (transport, secret) = Transport::new(&new.transport)?;
    let (caller, actor) = (caller.clone(), actor.clone());
    db.write(move |conn| {
        let organization_id = new.organization_id.unwrap_or(caller.organization_id);
        let organization = organizations::get(conn, &caller.scope, organization_id)?
            .ok_or_else(|| FieldError::new("organization_id", "is not an organization that you may see"))?;
        if store::count(conn, &organization.path)? >= CHANNELS_MAX {
            return Err(Error::Limit);
        }
        let channel = StoredChannel {
            id: db::next_id(conn, db::Sequence::AlertChannels)?,
            organization_id,
            org_path: organization.path,
            name,
            level: new.level.unwrap_or(Level::P3),
            transport: Some(transport),
            failures: 0,
            last_error: String::new(),
            created_by: caller.name,
            created_at_ms: now.0,
            is_deleted: false,
        };
        store::insert(conn, &channel)?;
        append(conn, &actor, "alert_channels.create", &channel, now)?;
        Ok(CreatedChannel { channel: shown(channel), secret })
    })
    .await
}

/// Channels of the scope by number, after the number `after`.
///
/// # Errors
/// [`db::Error`].
pub async fn list(db: &Db, scope: &Scope, after: Option<i64>, size: u32) -> Result<Vec<Channel>, db::Error> {
    let scope = scope.clone();
    let rows = db.read(move |conn| store::list(conn, &scope, after, i64::from(size))).await?;
    Ok(rows.into_iter().map(shown).collect())
}

/// Deletes a channel with its secrets; what it has not got yet is given up. Its delivery log stays.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Db`].
pub async fn delete(db: &Db, scope: &Scope, actor: &Actor, id: i64, now: Now) -> Result<(), Error> {
    let (scope, actor) = (scope.clone(), actor.clone());
    db.write(move |conn| {
        let channel = store::get(conn, &scope, id)?.ok_or(Error::NotFound)?;
        store::delete(conn, id, now)?;
        append(conn, &actor, "alert_channels.delete", &channel, now)?;
        Ok(())
    })
    .await
}

/// Sends a test message now, once, and says how it ended.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Db`].
pub async fn test(
    db: &Db,
    sender: &Sender,
    scope: &Scope,
    actor: &Actor,
    id: i64,
    now: Now,
) -> Result<TestResult, Error> {
    let (scope, actor) = (scope.clone(), actor.clone());
    let channel = db
        .write(move |conn| {
            let channel = store::get(conn, &scope, id)?.ok_or(Error::NotFound)?;
            append(conn, &actor, "alert_channels.test", &channel, now)?;
            Ok::<_, Error>(channel)
        })
        .await?;
    let Some(transport) = &channel.transport else {
        return Ok(TestResult { accepted: false, status: None, error: delivery_unknown() });
    };
    let alert = Alert {
        id: 0,
        org_path: channel.org_path.clone(),
        kind: "test".to_owned(),
        level: channel.level.as_str().to_owned(),
        incident_id: None,
        title_key: "test".to_owned(),
        parameters: BTreeMap::new(),
        state: String::new(),
        created_at_ms: now.0,
        deliveries: Vec::new(),
    };
    let outcome = sender.send(transport, &alert, &format!("test-{id}-{}", now.0), now).await;
    let error = outcome.error();
    Ok(TestResult { accepted: error.is_empty(), status: outcome.status(), error })
}

/// Of a channel whose row another version of this program wrote.
pub(super) fn delivery_unknown() -> String {
    "this version of the server does not know this kind of channel".to_owned()
}

fn append(conn: &mut Conn, actor: &Actor, action: &str, channel: &StoredChannel, now: Now) -> Result<(), db::Error> {
    let origin = channel.transport.as_ref().map(Transport::origin).unwrap_or_default();
    let detail = json!({"name": channel.name, "level": channel.level.as_str(), "origin": origin});
    let object_id = channel.id.to_string();
    let deed = Deed { action, object_kind: "alert_channel", object_id, org_path: &channel.org_path, detail };
    audit::append(conn, actor, &deed, now)
}
