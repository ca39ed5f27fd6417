//! SQL of channels.

use diesel::prelude::*;

use super::super::Level;
use super::super::transport::Transport;
use crate::clock::Now;
use crate::db::schema::alert_channels;
use crate::db::{self, Conn};
use crate::operators::Scope;

/// A channel as it is kept; without a transport when this program cannot read it.
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
}

pub(super) fn stored_channel(row: ChannelRow) -> StoredChannel {
    StoredChannel {
        id: row.id,
        organization_id: row.organization_id,
        org_path: row.org_path,
        name: row.name,
        // Of an unknown level it gets all: rather too many alerts than too few.
        level: Level::parse(&row.level).unwrap_or(Level::P3),
        transport: serde_json::from_str(&row.transport).ok(),
        failures: row.failures,
        last_error: row.last_error,
        created_by: row.created_by,
        created_at_ms: row.created_at_ms,
        is_deleted: row.deleted_at_ms.is_some(),
    }
}

pub(in super::super) fn insert(conn: &mut Conn, channel: &StoredChannel) -> Result<(), db::Error> {
    diesel::insert_into(alert_channels::table)
        .values((
            alert_channels::id.eq(channel.id),
            alert_channels::organization_id.eq(channel.organization_id),
            alert_channels::org_path.eq(&channel.org_path),
            alert_channels::name.eq(&channel.name),
            alert_channels::level.eq(channel.level.as_str()),
            alert_channels::transport.eq(serde_json::to_string(&channel.transport).unwrap_or_default()),
            alert_channels::failures.eq(channel.failures),
            alert_channels::retry_at_ms.eq(0),
            alert_channels::last_error.eq(&channel.last_error),
            alert_channels::created_by.eq(&channel.created_by),
            alert_channels::created_at_ms.eq(channel.created_at_ms),
        ))
        .execute(conn)?;
    Ok(())
}

/// By primary key, within the scope; deleted ones are not there.
pub(in super::super) fn get(conn: &mut Conn, scope: &Scope, id: i64) -> Result<Option<StoredChannel>, db::Error> {
    let row = alert_channels::table
        .find(id)
        .filter(alert_channels::org_path.ge(scope.from()))
        .filter(alert_channels::org_path.lt(scope.below()))
        .filter(alert_channels::deleted_at_ms.is_null())
        .first::<ChannelRow>(conn)
        .optional()?;
    Ok(row.map(stored_channel))
}

/// By `alert_channels_by_org`.
pub(in super::super) fn list(
    conn: &mut Conn,
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
    Ok(rows.into_iter().map(stored_channel).collect())
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
