//! SQL of channels. How to reach one is sealed; only the vault opens it.

use diesel::prelude::*;

use super::super::Level;
use super::super::transport::Transport;
use crate::clock::Now;
use crate::db::schema::alert_channels;
use crate::db::{self, Conn};
use crate::operators::Scope;
use crate::vault::{self, Locked, Vault};

/// Tag of the language in which a channel is written to when it does not say.
const LANGUAGE: &str = "zh-CN";
/// Channels whose plain texts are sealed in one transaction.
const SEALED_MAX: i64 = 100;

/// A channel as it is kept; without a transport when this program cannot read it.
#[derive(Clone)]
pub(in super::super) struct StoredChannel {
    pub id: i64,
    pub organization_id: i64,
    pub org_path: String,
    pub name: String,
    pub level: Level,
    pub transport: Option<Transport>,
    pub failures: i64,
    pub last_error: String,
    pub created_by: String,
    pub created_at_ms: i64,
    pub is_deleted: bool,
    pub language: String,
    pub paused_at_ms: Option<i64>,
    pub batch_s: i64,
    pub rate_per_min: Option<i64>,
    pub rate_at_ms: i64,
    pub digest_since_ms: Option<i64>,
    pub version: i64,
}

#[derive(Queryable)]
pub(super) struct ChannelRow {
    id: i64,
    organization_id: i64,
    org_path: String,
    name: String,
    level: String,
    transport: String,
    failures: i64,
    _retry_at_ms: i64,
    last_error: String,
    created_by: String,
    created_at_ms: i64,
    deleted_at_ms: Option<i64>,
    language: Option<String>,
    paused_at_ms: Option<i64>,
    batch_s: Option<i64>,
    rate_per_min: Option<i64>,
    rate_at_ms: Option<i64>,
    digest_since_ms: Option<i64>,
    _digest_done_ms: Option<i64>,
    version: Option<i64>,
}

/// Where a channel's secrets are stored: they open only there.
fn place(id: i64) -> String {
    format!("alert_channels:{id}")
}

fn opened(vault: &Vault, id: i64, text: &str) -> Option<Transport> {
    let plain = vault.unseal(&place(id), text).ok()?;
    serde_json::from_str(&plain).ok()
}

fn sealed(vault: &Vault, id: i64, transport: &Transport) -> Result<String, Locked> {
    let plain = zeroize::Zeroizing::new(serde_json::to_string(transport).map_err(|_| Locked)?);
    vault.seal(&place(id), &plain)
}

pub(super) fn stored_channel(vault: &Vault, row: ChannelRow) -> StoredChannel {
    StoredChannel {
        transport: opened(vault, row.id, &row.transport),
        id: row.id,
        organization_id: row.organization_id,
        org_path: row.org_path,
        name: row.name,
        // Of an unknown level it gets all: rather too many alerts than too few.
        level: Level::parse(&row.level).unwrap_or(Level::P3),
        failures: row.failures,
        last_error: row.last_error,
        created_by: row.created_by,
        created_at_ms: row.created_at_ms,
        is_deleted: row.deleted_at_ms.is_some(),
        language: row.language.unwrap_or_else(|| LANGUAGE.to_owned()),
        paused_at_ms: row.paused_at_ms,
        batch_s: row.batch_s.unwrap_or(0),
        rate_per_min: row.rate_per_min,
        rate_at_ms: row.rate_at_ms.unwrap_or(0),
        digest_since_ms: row.digest_since_ms,
        version: row.version.unwrap_or(1),
    }
}

/// What a channel's row could not be written for.
#[derive(Debug)]
pub(in super::super) enum Failed {
    Locked,
    Db(db::Error),
}

impl From<diesel::result::Error> for Failed {
    fn from(error: diesel::result::Error) -> Self {
        Self::Db(error.into())
    }
}

impl From<Locked> for Failed {
    fn from(_: Locked) -> Self {
        Self::Locked
    }
}

pub(in super::super) fn insert(conn: &mut Conn, vault: &Vault, channel: &StoredChannel) -> Result<(), Failed> {
    let transport = match &channel.transport {
        Some(transport) => sealed(vault, channel.id, transport)?,
        None => "null".to_owned(),
    };
    diesel::insert_into(alert_channels::table)
        .values((
            alert_channels::id.eq(channel.id),
            alert_channels::organization_id.eq(channel.organization_id),
            alert_channels::org_path.eq(&channel.org_path),
            alert_channels::name.eq(&channel.name),
            alert_channels::level.eq(channel.level.as_str()),
            alert_channels::transport.eq(transport),
            alert_channels::failures.eq(channel.failures),
            alert_channels::retry_at_ms.eq(0),
            alert_channels::last_error.eq(&channel.last_error),
            alert_channels::created_by.eq(&channel.created_by),
            alert_channels::created_at_ms.eq(channel.created_at_ms),
            alert_channels::language.eq(&channel.language),
            alert_channels::batch_s.eq(channel.batch_s),
            alert_channels::rate_per_min.eq(channel.rate_per_min),
            alert_channels::digest_since_ms.eq(channel.digest_since_ms),
            alert_channels::version.eq(channel.version),
        ))
        .execute(conn)?;
    Ok(())
}

/// Compare-and-set on `version`; returns whether the row was still the one that was read. Another address than before is
/// tried at once.
pub(in super::super) fn replace(
    conn: &mut Conn,
    vault: &Vault,
    before: &StoredChannel,
    after: &StoredChannel,
) -> Result<bool, Failed> {
    let row = alert_channels::table.find(before.id).filter(alert_channels::deleted_at_ms.is_null());
    let is_current = alert_channels::version.eq(before.version);
    let is_first = alert_channels::version.is_null();
    let written = if before.version == 1 {
        // Channels of older programs have no version yet.
        diesel::update(row.filter(is_current.or(is_first))).set(values(after)).execute(conn)?
    } else {
        diesel::update(row.filter(is_current)).set(values(after)).execute(conn)?
    };
    if written == 0 {
        return Ok(false);
    }
    if let Some(transport) = after.transport.as_ref().filter(|transport| Some(*transport) != before.transport.as_ref())
    {
        let sealed = sealed(vault, before.id, transport)?;
        diesel::update(alert_channels::table.find(before.id))
            .set((
                alert_channels::transport.eq(sealed),
                alert_channels::failures.eq(0),
                alert_channels::last_error.eq(""),
                alert_channels::retry_at_ms.eq(0),
            ))
            .execute(conn)?;
    }
    Ok(true)
}

#[derive(AsChangeset)]
#[diesel(table_name = alert_channels)]
#[diesel(treat_none_as_null = true)]
struct Values {
    name: String,
    level: String,
    language: Option<String>,
    paused_at_ms: Option<i64>,
    batch_s: Option<i64>,
    rate_per_min: Option<i64>,
    digest_since_ms: Option<i64>,
    version: Option<i64>,
}

fn values(channel: &StoredChannel) -> Values {
    Values {
        name: channel.name.clone(),
        level: channel.level.as_str().to_owned(),
        language: Some(channel.language.clone()),
        paused_at_ms: channel.paused_at_ms,
        batch_s: Some(channel.batch_s),
        rate_per_min: channel.rate_per_min,
        digest_since_ms: channel.digest_since_ms,
        version: Some(channel.version.saturating_add(1)),
    }
}

/// By primary key, within the scope; deleted ones are not there.
pub(in super::super) fn get(
    conn: &mut Conn,
    vault: &Vault,
    scope: &Scope,
    id: i64,
) -> Result<Option<StoredChannel>, db::Error> {
    let row = alert_channels::table
        .find(id)
        .filter(alert_channels::org_path.ge(scope.from()))
        .filter(alert_channels::org_path.lt(scope.below()))
        .filter(alert_channels::deleted_at_ms.is_null())
        .first::<ChannelRow>(conn)
        .optional()?;
    Ok(row.map(|row| stored_channel(vault, row)))
}

/// By `alert_channels_by_org`.
pub(in super::super) fn list(
    conn: &mut Conn,
    vault: &Vault,
    scope: &Scope,
    after: Option<i64>,
    limit: i64,
) -> Result<Vec<StoredChannel>, db::Error> {
    let rows = alert_channels::table
        .filter(alert_channels::org_path.ge(scope.from()))
        .filter(alert_channels::org_path.lt(scope.below()))
        .filter(alert_channels::deleted_at_ms.is_null())
        .filter(alert_channels::id.gt(after.unwrap_or(0)))
        .order(alert_channels::id)
        .limit(limit)
        .load::<ChannelRow>(conn)?;
    Ok(rows.into_iter().map(|row| stored_channel(vault, row)).collect())
}

/// Numbers and names of one organization's own channels. By `alert_channels_by_org`.
pub(in super::super) fn names(conn: &mut Conn, org_path: &str) -> Result<Vec<(i64, String)>, db::Error> {
    let channels = alert_channels::table
        .filter(alert_channels::org_path.eq(org_path))
        .filter(alert_channels::deleted_at_ms.is_null())
        .order(alert_channels::id)
        .limit(super::super::CHANNELS_MAX)
        .select((alert_channels::id, alert_channels::name));
    Ok(channels.load(conn)?)
}

/// Of one organization alone. By `alert_channels_by_org`.
pub(in super::super) fn count(conn: &mut Conn, org_path: &str) -> Result<i64, db::Error> {
    let channels = alert_channels::table
        .filter(alert_channels::org_path.eq(org_path))
        .filter(alert_channels::deleted_at_ms.is_null());
    Ok(channels.count().get_result(conn)?)
}

/// Its secrets go at once; what waits for it is given up by the worker.
pub(in super::super) fn delete(conn: &mut Conn, id: i64, now: Now) -> Result<(), db::Error> {
    diesel::update(alert_channels::table.find(id))
        .set((
            alert_channels::transport.eq("null"),
            alert_channels::retry_at_ms.eq(0),
            alert_channels::deleted_at_ms.eq(now.0),
        ))
        .execute(conn)?;
    Ok(())
}

/// Moves the bucket of a channel, if nobody moved it meanwhile; returns whether it did.
pub(in super::super) fn take_turn(conn: &mut Conn, id: i64, before_ms: i64, after_ms: i64) -> Result<bool, db::Error> {
    let row = alert_channels::table.find(id);
    let moved = if before_ms == 0 {
        let untouched = alert_channels::rate_at_ms.is_null().or(alert_channels::rate_at_ms.eq(0));
        diesel::update(row.filter(untouched)).set(alert_channels::rate_at_ms.eq(after_ms)).execute(conn)?
    } else {
        let row = row.filter(alert_channels::rate_at_ms.eq(before_ms));
        diesel::update(row).set(alert_channels::rate_at_ms.eq(after_ms)).execute(conn)?
    };
    Ok(moved == 1)
}

/// Seals what older programs stored plainly, some channels at a time; returns how many. A channel that was changed meanwhile
/// is left to the next call.
pub(in super::super) fn seal_plain(conn: &mut Conn, vault: &Vault) -> Result<usize, Failed> {
    let plain = alert_channels::table
        .filter(alert_channels::transport.like("{%"))
        .order(alert_channels::id)
        .limit(SEALED_MAX)
        .select((alert_channels::id, alert_channels::transport));
    let mut sealed = 0;
    for (id, text) in plain.load::<(i64, String)>(conn)? {
        if vault::is_sealed(&text) {
            continue;
        }
        let row = alert_channels::table.find(id).filter(alert_channels::transport.eq(&text));
        let text = vault.seal(&place(id), &text)?;
        sealed += diesel::update(row).set(alert_channels::transport.eq(text)).execute(conn)?;
    }
    Ok(sealed)
}
