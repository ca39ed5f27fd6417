//! SQL of the delivery log.

use diesel::prelude::*;

use super::super::AlertState;
use super::super::delivery::LEASE_MS;
use super::super::log::{LogEntry, LogFilter};
use crate::clock::Now;
use crate::db::schema::{alert_channels, alert_deliveries, alerts};
use crate::db::{self, Conn};
use crate::operators::Scope;

type Columns = (
    (i64, i64, String, Option<i64>),
    (String, String, String, String, Option<i64>, i64),
    (String, String, i64, Option<i64>, String, Option<i64>, Option<i64>),
);

fn entry((channel, alert, delivery): Columns) -> LogEntry {
    let (alert_id, channel_id, channel, deleted_at_ms) = channel;
    let (kind, level, title_key, parameters, incident_id, created_at_ms) = alert;
    let (state, route, attempts, status, error, attempted_at_ms, finished_at_ms) = delivery;
    LogEntry {
        alert_id,
        channel_id,
        channel,
        is_channel_deleted: deleted_at_ms.is_some(),
        kind,
        level,
        title_key,
        parameters: serde_json::from_str(&parameters).unwrap_or_default(),
        incident_id,
        state,
        route,
        attempts,
        status,
        error,
        created_at_ms,
        attempted_at_ms,
        finished_at_ms,
    }
}

/// Newest first, before a line. By primary key, or by `alert_deliveries_by_channel` or `alert_deliveries_by_state`.
pub(in super::super) fn list(
    conn: &mut Conn,
    scope: &Scope,
    filter: LogFilter,
    before: Option<(i64, i64)>,
    limit: i64,
) -> Result<Vec<LogEntry>, db::Error> {
    let mut query = alert_deliveries::table
        .inner_join(alerts::table.on(alerts::id.eq(alert_deliveries::alert_id)))
        .inner_join(alert_channels::table.on(alert_channels::id.eq(alert_deliveries::channel_id)))
        .filter(alert_channels::org_path.ge(scope.from()))
        .filter(alert_channels::org_path.lt(scope.below()))
        .into_boxed();
    if let Some((alert_id, channel_id)) = before {
        let same = alert_deliveries::alert_id.eq(alert_id).and(alert_deliveries::channel_id.lt(channel_id));
        query = query.filter(alert_deliveries::alert_id.lt(alert_id).or(same));
    }
    if let Some(channel_id) = filter.channel_id {
        query = query.filter(alert_deliveries::channel_id.eq(channel_id));
    }
    if let Some(state) = filter.state {
        query = query.filter(alert_deliveries::state.eq(state.as_str()));
    }
    if let Some(incident_id) = filter.incident_id {
        query = query.filter(alerts::incident_id.eq(incident_id));
    }
    let rows = query
        .order((alert_deliveries::alert_id.desc(), alert_deliveries::channel_id.desc()))
        .limit(limit)
        .select((
            (
                alert_deliveries::alert_id,
                alert_deliveries::channel_id,
                alert_channels::name,
                alert_channels::deleted_at_ms,
            ),
            (
                alerts::kind,
                alerts::level,
                alerts::title_key,
                alerts::parameters,
                alerts::incident_id,
                alerts::created_at_ms,
            ),
            (
                alert_deliveries::state,
                alert_deliveries::route,
                alert_deliveries::attempts,
                alert_deliveries::status,
                alert_deliveries::error,
                alert_deliveries::attempted_at_ms,
                alert_deliveries::finished_at_ms,
            ),
        ))
        .load::<Columns>(conn)?;
    Ok(rows.into_iter().map(entry).collect())
}

/// One delivery, if it has ended and its channel is there. By primary key.
pub(in super::super) fn ended(
    conn: &mut Conn,
    scope: &Scope,
    alert_id: i64,
    channel_id: i64,
) -> Result<Vec<(i64, i64)>, db::Error> {
    let found = alert_deliveries::table
        .inner_join(alert_channels::table.on(alert_channels::id.eq(alert_deliveries::channel_id)))
        .filter(alert_deliveries::alert_id.eq(alert_id))
        .filter(alert_deliveries::channel_id.eq(channel_id))
        .filter(alert_deliveries::state.eq_any(["sent", "failed", "withdrawn"]))
        .filter(alert_channels::deleted_at_ms.is_null())
        .filter(alert_channels::org_path.ge(scope.from()))
        .filter(alert_channels::org_path.lt(scope.below()))
        .select((alert_deliveries::alert_id, alert_deliveries::channel_id));
    Ok(found.load(conn)?)
}

/// Deliveries that failed, the oldest first. By `alert_deliveries_by_state`.
pub(in super::super) fn failed(
    conn: &mut Conn,
    scope: &Scope,
    channel_id: Option<i64>,
    limit: i64,
) -> Result<Vec<(i64, i64)>, db::Error> {
    let mut query = alert_deliveries::table
        .inner_join(alert_channels::table.on(alert_channels::id.eq(alert_deliveries::channel_id)))
        .filter(alert_deliveries::state.eq("failed"))
        .filter(alert_channels::deleted_at_ms.is_null())
        .filter(alert_channels::org_path.ge(scope.from()))
        .filter(alert_channels::org_path.lt(scope.below()))
        .into_boxed();
    if let Some(channel_id) = channel_id {
        query = query.filter(alert_deliveries::channel_id.eq(channel_id));
    }
    let found = query
        .order((alert_deliveries::alert_id, alert_deliveries::channel_id))
        .limit(limit)
        .select((alert_deliveries::alert_id, alert_deliveries::channel_id));
    Ok(found.load(conn)?)
}

/// Puts one delivery back into the outbox, under another name than before; its channel is tried at once.
pub(in super::super) fn queue_again(
    conn: &mut Conn,
    alert_id: i64,
    channel_id: i64,
    now: Now,
) -> Result<(), db::Error> {
    let key = (alert_id, channel_id);
    let replays = alert_deliveries::table.find(key).select(alert_deliveries::replays);
    let replays: Option<Option<i64>> = replays.first(conn).optional()?;
    diesel::update(alert_deliveries::table.find(key))
        .set((
            alert_deliveries::replays.eq(replays.flatten().unwrap_or(0) + 1),
            alert_deliveries::state.eq("pending"),
            alert_deliveries::route.eq("direct"),
            alert_deliveries::refusals.eq(0),
            alert_deliveries::queued_at_ms.eq(now.0),
            alert_deliveries::digest_id.eq(None::<i64>),
            alert_deliveries::finished_at_ms.eq(None::<i64>),
        ))
        .execute(conn)?;
    let ended = [AlertState::Sent, AlertState::Failed].map(AlertState::as_str);
    diesel::update(alerts::table.find(alert_id).filter(alerts::state.eq_any(ended)))
        .set(alerts::state.eq(AlertState::Pending.as_str()))
        .execute(conn)?;
    // A rest that is longer than a lease; what is shorter may be a lease, and ends soon.
    let rests_ms = now.0.saturating_add(LEASE_MS);
    let resting = alert_channels::table.find(channel_id).filter(alert_channels::retry_at_ms.gt(rests_ms));
    diesel::update(resting).set((alert_channels::failures.eq(0), alert_channels::retry_at_ms.eq(0))).execute(conn)?;
    Ok(())
}
