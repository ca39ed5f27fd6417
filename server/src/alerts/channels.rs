//! Channels: where an organization's alerts go. Administrators make, change, try and delete them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tillward_protocol::FieldError;

use super::delivery::unreadable;
use super::rate::RATE_PER_MIN;
use super::robots::Mention;
use super::sender::{Sender, Style};
use super::store::channels::{self as store, Failed, StoredChannel};
use super::store::{outbox, rules};
use super::transport::{NewTransport, Transport, TransportChange};
use super::{Alert, Level};
use crate::audit::{self, Actor, Deed};
use crate::clock::Now;
use crate::db::{self, Conn, Db};
use crate::operators::{Caller, Scope};
use crate::vault::Locked;
use crate::{organizations, text};

/// Channels of one organization: each alert is sent to every one.
pub const CHANNELS_MAX: i64 = 20;
/// Longest time that alerts wait for company, s: an hour is what people call at once.
const BATCH_S_MAX: i64 = 3_600;
/// Languages of messages, by tag.
const LANGUAGES: [&str; 2] = ["zh-CN", "en"];
/// How often a trial looks for its turn when another one took it.
const ATTEMPTS: usize = 3;

/// Why something was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is none in the caller's scope.
    #[error("no such channel")]
    NotFound,
    /// Too many of them.
    #[error("{0}")]
    Limit(String),
    /// Somebody else changed it meanwhile.
    #[error("it was changed meanwhile; read it again")]
    Changed,
    /// The server has no key to seal secrets with.
    #[error(transparent)]
    Locked(#[from] Locked),
    /// A field was refused.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// The database failed.
    #[error("the channels could not be read or written")]
    Db(#[from] db::Error),
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Locked => Self::Locked(Locked),
            Failed::Db(error) => Self::Db(error),
        }
    }
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
    /// In which language it is written to, `zh-CN` or `en`; Chinese when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// How long alerts below P1 wait for company, s, 0–3600; 0 when absent. Webhooks get each alert by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_s: Option<i64>,
    /// Messages a minute at most, 1–95; never above what its kind takes, which is also the rate when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_per_min: Option<i64>,
    /// Whether it gets a digest each day; no when absent.
    #[serde(default)]
    pub digest: bool,
    /// Where it leads.
    pub transport: NewTransport,
}

/// A change of a channel; what is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = AlertChannelChange)]
pub struct Change {
    /// The version that was read.
    pub version: i64,
    /// New name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The least urgent level that it gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// `zh-CN` or `en`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// How long alerts below P1 wait for company, s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_s: Option<i64>,
    /// Messages a minute at most; 0 for what its kind takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_per_min: Option<i64>,
    /// Whether it gets a digest each day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<bool>,
    /// While it is paused nothing is sent, and what comes waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    /// Another address, of the same kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Another signing secret of a robot; empty for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Another keyword before each message; empty for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Who is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mention: Option<Mention>,
    /// Other recipients of mail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Vec<String>>,
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
    /// `webhook`, `wecom`, `dingtalk`, `feishu` or `email`; `unknown` when this server cannot read how it is reached.
    pub kind: String,
    /// Scheme and host that it leads to; the path is kept secret. Empty for mail.
    pub origin: String,
    /// Where it leads, masked: `…a1b2`, `z***@example.com`.
    pub target: String,
    /// Whether messages are signed.
    pub is_signed: bool,
    /// Keyword before each message.
    pub prefix: String,
    /// Who is called, numbers masked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mention: Option<Mention>,
    /// In which language it is written to.
    pub language: String,
    /// How long alerts below P1 wait for company, s.
    pub batch_s: i64,
    /// Messages a minute at most, if its owner set a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_per_min: Option<i64>,
    /// Whether it gets a digest each day.
    pub digest: bool,
    /// Since when nothing is sent, Unix ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused_at_ms: Option<i64>,
    /// Attempts that failed in a row.
    pub failures: i64,
    /// What went wrong last; empty when the last attempt was good.
    pub last_error: String,
    /// Who made it.
    pub created_by: String,
    /// When it was made, Unix ms.
    pub created_at_ms: i64,
    /// Grows with each change; a change names the version it is based on.
    pub version: i64,
}

/// A new channel with its secret, which is never shown again.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[schema(as = CreatedAlertChannel)]
pub struct CreatedChannel {
    /// The channel.
    pub channel: Channel,
    /// The receiver of a webhook needs it to check signatures; empty for other kinds.
    pub secret: String,
}

/// How a trial ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = AlertChannelTest)]
pub struct TestResult {
    /// Whether the endpoint took it.
    pub accepted: bool,
    /// Its status, if it answered.
    pub status: Option<u16>,
    /// What went wrong; empty when nothing did.
    pub error: String,
}

fn shown(stored: StoredChannel) -> Channel {
    let transport = stored.transport.as_ref();
    let kind = transport.map_or("unknown", |transport| transport.kind().as_str());
    Channel {
        id: stored.id,
        organization_id: stored.organization_id,
        level: stored.level,
        kind: kind.to_owned(),
        origin: transport.map(Transport::origin).unwrap_or_default(),
        target: transport.map(Transport::masked).unwrap_or_default(),
        is_signed: transport.is_some_and(Transport::has_secret),
        prefix: transport.map(|transport| transport.prefix().to_owned()).unwrap_or_default(),
        mention: transport.and_then(Transport::mention),
        name: stored.name,
        language: stored.language,
        batch_s: stored.batch_s,
        rate_per_min: stored.rate_per_min,
        digest: stored.digest_since_ms.is_some(),
        paused_at_ms: stored.paused_at_ms,
        failures: stored.failures,
        last_error: stored.last_error,
        created_by: stored.created_by,
        created_at_ms: stored.created_at_ms,
        version: stored.version,
    }
}

fn checked_language(tag: Option<&str>) -> Result<String, FieldError> {
    let tag = tag.unwrap_or("zh-CN");
    if LANGUAGES.contains(&tag) { Ok(tag.to_owned()) } else { Err(FieldError::new("language", "must be zh-CN or en")) }
}

fn checked_batch(batch_s: i64) -> Result<i64, FieldError> {
    if (0..=BATCH_S_MAX).contains(&batch_s) {
        Ok(batch_s)
    } else {
        Err(FieldError::new("batch_s", format!("must be 0 to {BATCH_S_MAX}")))
    }
}

fn checked_rate(per_min: i64) -> Result<i64, FieldError> {
    if RATE_PER_MIN.contains(&per_min) {
        Ok(per_min)
    } else {
        let (least, most) = (RATE_PER_MIN.start(), RATE_PER_MIN.end());
        Err(FieldError::new("rate_per_min", format!("must be {least} to {most}")))
    }
}

/// Makes a channel in one of the caller's organizations. It gets what is raised from now on.
///
/// # Errors
/// [`Error::Field`], [`Error::Limit`], [`Error::Locked`], [`Error::Db`].
pub async fn create(
    db: &Db,
    sender: &Sender,
    caller: &Caller,
    actor: &Actor,
    new: NewChannel,
    now: Now,
) -> Result<CreatedChannel, Error> {
    let name = text::name("name", &new.name)?;
    let (transport, secret) = Transport::new(&new.transport)?;
    let language = checked_language(new.language.as_deref())?;
    let batch_s = checked_batch(new.batch_s.unwrap_or(0))?;
    let rate_per_min = new.rate_per_min.map(checked_rate).transpose()?;
    let (caller, actor, vault) = (caller.clone(), actor.clone(), sender.vault().clone());
    db.write(move |conn| {
        let organization_id = new.organization_id.unwrap_or(caller.organization_id);
        let organization = organizations::get(conn, &caller.scope, organization_id)?
            .ok_or_else(|| FieldError::new("organization_id", "is not an organization that you may see"))?;
        if store::count(conn, &organization.path)? >= CHANNELS_MAX {
            return Err(Error::Limit(format!("an organization may have at most {CHANNELS_MAX} channels; delete one")));
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
            language,
            paused_at_ms: None,
            batch_s,
            rate_per_min,
            rate_at_ms: 0,
            digest_since_ms: new.digest.then_some(now.0),
            version: 1,
        };
        store::insert(conn, &vault, &channel)?;
        append(conn, &actor, "alert_channels.create", &channel, now)?;
        Ok(CreatedChannel { channel: shown(channel), secret })
    })
    .await
}

/// Changes a channel of the caller's organizations. Another address is tried at once.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Changed`], [`Error::Field`], [`Error::Locked`], [`Error::Db`].
pub async fn update(
    db: &Db,
    sender: &Sender,
    scope: &Scope,
    actor: &Actor,
    id: i64,
    change: Change,
    now: Now,
) -> Result<Channel, Error> {
    let (scope, actor, vault) = (scope.clone(), actor.clone(), sender.vault().clone());
    db.write(move |conn| {
        let before = store::get(conn, &vault, &scope, id)?.ok_or(Error::NotFound)?;
        if before.version != change.version {
            return Err(Error::Changed);
        }
        let after = changed(&before, &change, now)?;
        if !store::replace(conn, &vault, &before, &after)? {
            return Err(Error::Changed);
        }
        if before.paused_at_ms.is_some() && after.paused_at_ms.is_none() {
            outbox::queue_anew(conn, id, now)?;
        }
        append(conn, &actor, "alert_channels.update", &after, now)?;
        Ok(shown(StoredChannel { version: before.version.saturating_add(1), ..after }))
    })
    .await
}

fn changed(before: &StoredChannel, change: &Change, now: Now) -> Result<StoredChannel, Error> {
    let leads = TransportChange {
        url: change.url.clone(),
        secret: change.secret.clone(),
        prefix: change.prefix.clone(),
        mention: change.mention.clone(),
        to: change.to.clone(),
    };
    let transport = match &before.transport {
        Some(transport) => Some(transport.changed(&leads)?),
        None if leads == TransportChange::default() => None,
        None => return Err(Locked.into()),
    };
    let mut after = StoredChannel { transport, ..before.clone() };
    if let Some(name) = &change.name {
        after.name = text::name("name", name)?;
    }
    if let Some(level) = change.level {
        after.level = level;
    }
    if let Some(language) = &change.language {
        after.language = checked_language(Some(language))?;
    }
    if let Some(batch_s) = change.batch_s {
        after.batch_s = checked_batch(batch_s)?;
    }
    match change.rate_per_min {
        None => {}
        Some(0) => after.rate_per_min = None,
        Some(per_min) => after.rate_per_min = Some(checked_rate(per_min)?),
    }
    if let Some(digest) = change.digest {
        after.digest_since_ms = digest.then_some(before.digest_since_ms.unwrap_or(now.0));
    }
    if let Some(paused) = change.paused {
        after.paused_at_ms = paused.then_some(before.paused_at_ms.unwrap_or(now.0));
    }
    Ok(after)
}

/// Channels of the scope by number, after the number `after`.
///
/// # Errors
/// [`db::Error`].
pub async fn list(
    db: &Db,
    sender: &Sender,
    scope: &Scope,
    after: Option<i64>,
    size: u32,
) -> Result<Vec<Channel>, db::Error> {
    let (scope, vault) = (scope.clone(), sender.vault().clone());
    let rows = db.read(move |conn| store::list(conn, &vault, &scope, after, i64::from(size))).await?;
    Ok(rows.into_iter().map(shown).collect())
}

/// One channel.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Db`].
pub async fn get(db: &Db, sender: &Sender, scope: &Scope, id: i64) -> Result<Channel, Error> {
    let (scope, vault) = (scope.clone(), sender.vault().clone());
    let found = db.read(move |conn| store::get(conn, &vault, &scope, id)).await?;
    found.map(shown).ok_or(Error::NotFound)
}

/// Deletes a channel with its secrets; what it has not got yet is given up. Its delivery log stays.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Db`].
pub async fn delete(db: &Db, sender: &Sender, scope: &Scope, actor: &Actor, id: i64, now: Now) -> Result<(), Error> {
    let (scope, actor, vault) = (scope.clone(), actor.clone(), sender.vault().clone());
    db.write(move |conn| {
        let channel = store::get(conn, &vault, &scope, id)?.ok_or(Error::NotFound)?;
        store::delete(conn, id, now)?;
        append(conn, &actor, "alert_channels.delete", &channel, now)?;
        Ok(())
    })
    .await
}

/// Sends a test message now, once, and says how it ended. It counts for the channel's rate like any other.
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
    let (scope, actor, vault) = (scope.clone(), actor.clone(), sender.vault().clone());
    let (channel, time_zone, has_turn) = db
        .write(move |conn| {
            let mut channel = store::get(conn, &vault, &scope, id)?.ok_or(Error::NotFound)?;
            let mut has_turn = false;
            for _ in 0..ATTEMPTS {
                has_turn = take_turn(conn, &channel, now)?;
                if has_turn {
                    break;
                }
                channel = store::get(conn, &vault, &scope, id)?.ok_or(Error::NotFound)?;
            }
            let hours = rules::hours(conn, channel.organization_id)?;
            append(conn, &actor, "alert_channels.test", &channel, now)?;
            Ok::<_, Error>((channel, hours.map(|hours| hours.time_zone), has_turn))
        })
        .await?;
    let failed = |error: String| TestResult { accepted: false, status: None, error };
    let Some(transport) = &channel.transport else { return Ok(failed(unreadable())) };
    if !has_turn {
        return Ok(failed("too many messages within a minute; try again later".to_owned()));
    }
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
    let style = Style { language: &channel.language, time_zone: time_zone.as_deref() };
    let delivery = format!("test-{id}-{}", now.0);
    let outcome = sender.test(transport, &style, &channel.name, &alert, &delivery, now).await;
    let error = outcome.error();
    Ok(TestResult { accepted: error.is_empty(), status: outcome.status(), error })
}

/// Takes one message out of a channel's rate.
fn take_turn(conn: &mut Conn, channel: &StoredChannel, now: Now) -> Result<bool, db::Error> {
    let rate = channel.transport.as_ref().and_then(|transport| transport.rate(channel.rate_per_min));
    match rate.map(|rate| rate.take(channel.rate_at_ms, now.0)) {
        None => Ok(true),
        Some(Ok(after_ms)) => store::take_turn(conn, channel.id, channel.rate_at_ms, after_ms),
        Some(Err(_)) => Ok(false),
    }
}

/// Seals what older programs stored plainly; returns how many channels. Without a key they stay as they are, and unused.
///
/// # Errors
/// [`Error::Locked`], [`Error::Db`].
pub async fn seal_plain(db: &Db, sender: &Sender) -> Result<usize, Error> {
    let mut sealed = 0;
    loop {
        let vault = sender.vault().clone();
        let step = db.write(move |conn| store::seal_plain(conn, &vault).map_err(Error::from)).await?;
        if step == 0 {
            return Ok(sealed);
        }
        sealed += step;
    }
}

fn append(conn: &mut Conn, actor: &Actor, action: &str, channel: &StoredChannel, now: Now) -> Result<(), db::Error> {
    let kind = channel.transport.as_ref().map_or("unknown", |transport| transport.kind().as_str());
    let detail = json!({
        "name": channel.name,
        "level": channel.level.as_str(),
        "kind": kind,
        "origin": channel.transport.as_ref().map(Transport::origin).unwrap_or_default(),
        "target": channel.transport.as_ref().map(Transport::masked).unwrap_or_default(),
        "language": channel.language,
        "batch_s": channel.batch_s,
        "rate_per_min": channel.rate_per_min,
        "digest": channel.digest_since_ms.is_some(),
        "paused": channel.paused_at_ms.is_some(),
    });
    let object_id = channel.id.to_string();
    let deed = Deed { action, object_kind: "alert_channel", object_id, org_path: &channel.org_path, detail };
    audit::append(conn, actor, &deed, now)
}
