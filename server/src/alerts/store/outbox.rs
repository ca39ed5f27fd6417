//! SQL of deliveries: claiming a channel, reading what waits for it, noting how an attempt ended.

use diesel::prelude::*;

use super::super::delivery::REFUSALS_MAX;
use super::super::transport::Transport;
use super::super::{Alert, AlertState};
use super::channels::{ChannelRow, stored_channel};
use super::{Columns, alert, columns};
use crate::clock::Now;
use crate::db::schema::{alert_channels, alert_deliveries, alerts};
use crate::db::{self, Conn};

/// A channel that may be claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    channel_id: i64,
    retry_at_ms: i64,
}

/// A channel that belongs to this server for a while.
pub(in super::super) struct Claimed {
    pub id: i64,
    pub transport: Option<Transport>,
    pub is_deleted: bool,
    pub failures: i64,
}

/// Channels for which something waits now, the longest waiting first. By `alert_deliveries_by_state`.
pub(in super::super) fn channels_due(conn: &mut Conn, now: Now, limit: i64) -> Result<Vec<Due>, db::Error> {
    let waiting =
        alert_deliveries::table.filter(alert_deliveries::state.eq("pending")).select(alert_deliveries::channel_id);
    let rows = alert_channels::table
        .filter(alert_channels::id.eq_any(waiting))
        .filter(alert_channels::retry_at_ms.le(now.0))
        .order((alert_channels::retry_at_ms, alert_channels::id))
        .limit(limit)
        .select((alert_channels::id, alert_channels::retry_at_ms))
        .load::<(i64, i64)>(conn)?;
    Ok(rows.into_iter().map(|(channel_id, retry_at_ms)| Due { channel_id, retry_at_ms }).collect())
}

/// Compare-and-set on the time of retry; `None` when another server was faster.
pub(in super::super) fn claim(conn: &mut Conn, due: Due, lease_ms: i64) -> Result<Option<Claimed>, db::Error> {
    let row = alert_channels::table.find(due.channel_id).filter(alert_channels::retry_at_ms.eq(due.retry_at_ms));
    if diesel::update(row).set(alert_channels::retry_at_ms.eq(lease_ms)).execute(conn)? == 0 {
        return Ok(None);
    }
    let row = alert_channels::table.find(due.channel_id).first::<ChannelRow>(conn).optional()?;
    Ok(row.map(stored_channel).map(|channel| Claimed {
        id: channel.id,
        transport: channel.transport,
        is_deleted: channel.is_deleted,
        failures: channel.failures,
    }))
}

/// Gives a claim back, if it still is this server's.
pub(in super::super) fn release(conn: &mut Conn, channel_id: i64, lease_ms: i64) -> Result<(), db::Error> {
    let row = alert_channels::table.find(channel_id).filter(alert_channels::retry_at_ms.eq(lease_ms));
    diesel::update(row).set(alert_channels::retry_at_ms.eq(0)).execute(conn)?;
    Ok(())
}

/// The oldest alert that waits for a channel. By `alert_deliveries_by_state`.
pub(in super::super) fn next_pending(conn: &mut Conn, channel_id: i64) -> Result<Option<Alert>, db::Error> {
    let row = alerts::table
        .inner_join(alert_deliveries::table.on(alert_deliveries::alert_id.eq(alerts::id)))
        .filter(alert_deliveries::channel_id.eq(channel_id))
        .filter(alert_deliveries::state.eq("pending"))
        .order(alert_deliveries::alert_id)
        .select(columns!())
        .first::<Columns>(conn)
        .optional()?;
    Ok(row.map(alert))
}

/// How an attempt ended.
pub(in super::super) struct Attempt {
    pub lease_ms: i64,
    pub status: Option<u16>,
    pub error: String,
    pub is_sent: bool,
    pub is_refusal: bool,
    pub is_given_up: bool,
    pub retry_at_ms: Option<i64>,
    pub now: Now,
}

/// Notes an attempt on its delivery, its channel and, when it was the last one, its alert; returns whether the delivery
/// has ended.
pub(in super::super) fn mark(
    conn: &mut Conn,
    alert_id: i64,
    channel_id: i64,
    attempt: Attempt,
) -> Result<bool, db::Error> {
    let key = (alert_id, channel_id);
    let refusals: Option<i64> = alert_deliveries::table
        .find(key)
        .filter(alert_deliveries::state.eq("pending"))
        .select(alert_deliveries::refusals)
        .first(conn)
        .optional()?;
    let Some(refusals) = refusals else { return Ok(false) };
    let refusals = refusals + i64::from(attempt.is_refusal);
    let state = match (attempt.is_sent, attempt.is_given_up || refusals >= REFUSALS_MAX) {
        (true, _) => "sent",
        (false, true) => "failed",
        (false, false) => "pending",
    };
    let is_final = state != "pending";
    diesel::update(alert_deliveries::table.find(key))
        .set((
            alert_deliveries::state.eq(state),
            alert_deliveries::attempts.eq(alert_deliveries::attempts + 1),
            alert_deliveries::refusals.eq(refusals),
            alert_deliveries::status.eq(attempt.status.map(i64::from)),
            alert_deliveries::error.eq(&attempt.error),
            alert_deliveries::attempted_at_ms.eq(attempt.now.0),
            alert_deliveries::finished_at_ms.eq(is_final.then_some(attempt.now.0)),
        ))
        .execute(conn)?;
    if is_final {
        settle(conn, alert_id)?;
    }
    note_on_channel(conn, channel_id, &attempt)?;
    Ok(is_final)
}

fn note_on_channel(conn: &mut Conn, channel_id: i64, attempt: &Attempt) -> Result<(), db::Error> {
    let row = alert_channels::table.find(channel_id);
    if attempt.is_sent {
        diesel::update(row).set((alert_channels::failures.eq(0), alert_channels::last_error.eq(""))).execute(conn)?;
    }
    if let Some(retry_at_ms) = attempt.retry_at_ms {
        // Only while the claim is still this server's.
        diesel::update(row.filter(alert_channels::retry_at_ms.eq(attempt.lease_ms)))
            .set((
                alert_channels::failures.eq(alert_channels::failures + 1),
                alert_channels::last_error.eq(&attempt.error),
                alert_channels::retry_at_ms.eq(retry_at_ms),
            ))
            .execute(conn)?;
    }
    Ok(())
}

/// An alert whose deliveries have all ended was sent, or failed; one that was acknowledged stays so. By primary key.
fn settle(conn: &mut Conn, alert_id: i64) -> Result<(), db::Error> {
    // Two channels of one alert may end at the same moment: the second one to write sees what the first one wrote.
    let row = alerts::table.find(alert_id).filter(alerts::state.eq(AlertState::Pending.as_str()));
    diesel::update(row).set(alerts::state.eq(AlertState::Pending.as_str())).execute(conn)?;
    let states: Vec<String> = alert_deliveries::table
        .filter(alert_deliveries::alert_id.eq(alert_id))
        .select(alert_deliveries::state)
        .distinct()
        .load(conn)?;
    let has = |state: &str| states.iter().any(|known| known == state);
    let state = match (has("pending"), has("failed")) {
        (true, _) => return Ok(()),
        (false, true) => AlertState::Failed,
        (false, false) => AlertState::Sent,
    };
    diesel::update(row).set(alerts::state.eq(state.as_str())).execute(conn)?;
    Ok(())
}
