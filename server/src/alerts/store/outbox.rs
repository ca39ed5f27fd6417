//! SQL of deliveries: claiming a channel, reading what waits for it, noting how an attempt ended.

use std::collections::HashMap;

use diesel::prelude::*;

use super::super::delivery::REFUSALS_MAX;
use super::super::{Alert, AlertState};
use super::channels::{ChannelRow, StoredChannel, stored_channel};
use super::{Columns, alert, columns};
use crate::clock::Now;
use crate::db::schema::{alert_channels, alert_deliveries, alert_hours, alerts, organizations};
use crate::db::{self, Conn};
use crate::vault::Vault;

/// A channel that may be claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    channel_id: i64,
    retry_at_ms: i64,
}

/// A channel that belongs to this server for a while.
pub(in super::super) struct Claimed {
    pub channel: StoredChannel,
    /// Its organization's time zone, if it has its own.
    pub time_zone: Option<String>,
}

/// An alert that waits for a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Waiting {
    pub alert: Alert,
    /// Name of the organization it concerns.
    pub organization: String,
    /// How often the endpoint said no to it.
    pub refusals: i64,
    /// Since when it waits.
    pub queued_at_ms: i64,
    /// How often a person had it sent again.
    pub replays: i64,
}

/// Channels for which something waits now, the longest waiting first; those that are paused only once they are deleted. By
/// `alert_deliveries_by_state`.
pub(in super::super) fn channels_due(conn: &mut Conn, now: Now, limit: i64) -> Result<Vec<Due>, db::Error> {
    let waiting =
        alert_deliveries::table.filter(alert_deliveries::state.eq("pending")).select(alert_deliveries::channel_id);
    let rows = alert_channels::table
        .filter(alert_channels::id.eq_any(waiting))
        .filter(alert_channels::retry_at_ms.le(now.0))
        .filter(alert_channels::paused_at_ms.is_null().or(alert_channels::deleted_at_ms.is_not_null()))
        .order((alert_channels::retry_at_ms, alert_channels::id))
        .limit(limit)
        .select((alert_channels::id, alert_channels::retry_at_ms))
        .load::<(i64, i64)>(conn)?;
    Ok(rows.into_iter().map(|(channel_id, retry_at_ms)| Due { channel_id, retry_at_ms }).collect())
}

/// Compare-and-set on the time of retry; `None` when another server was faster.
pub(in super::super) fn claim(
    conn: &mut Conn,
    vault: &Vault,
    due: Due,
    lease_ms: i64,
) -> Result<Option<Claimed>, db::Error> {
    let row = alert_channels::table.find(due.channel_id).filter(alert_channels::retry_at_ms.eq(due.retry_at_ms));
    if diesel::update(row).set(alert_channels::retry_at_ms.eq(lease_ms)).execute(conn)? == 0 {
        return Ok(None);
    }
    let row = alert_channels::table.find(due.channel_id).first::<ChannelRow>(conn).optional()?;
    let Some(channel) = row.map(|row| stored_channel(vault, row)) else { return Ok(None) };
    let time_zone = alert_hours::table.find(channel.organization_id).select(alert_hours::time_zone);
    let time_zone: Option<String> = time_zone.first(conn).optional()?;
    Ok(Some(Claimed { channel, time_zone }))
}

/// Gives a claim back until `retry_at_ms` (0: at once), if it still is this server's.
pub(in super::super) fn release(
    conn: &mut Conn,
    channel_id: i64,
    lease_ms: i64,
    retry_at_ms: i64,
) -> Result<(), db::Error> {
    let row = alert_channels::table.find(channel_id).filter(alert_channels::retry_at_ms.eq(lease_ms));
    diesel::update(row).set(alert_channels::retry_at_ms.eq(retry_at_ms)).execute(conn)?;
    Ok(())
}

/// The oldest alerts that wait for a channel, in their order. By `alert_deliveries_by_state`.
pub(in super::super) fn waiting(conn: &mut Conn, channel_id: i64, limit: i64) -> Result<Vec<Waiting>, db::Error> {
    let rows = alerts::table
        .inner_join(alert_deliveries::table.on(alert_deliveries::alert_id.eq(alerts::id)))
        .filter(alert_deliveries::channel_id.eq(channel_id))
        .filter(alert_deliveries::state.eq("pending"))
        .order(alert_deliveries::alert_id)
        .limit(limit)
        .select((columns!(), (alert_deliveries::refusals, alert_deliveries::queued_at_ms, alert_deliveries::replays)))
        .load::<(Columns, (i64, i64, Option<i64>))>(conn)?;
    let waiting = |(row, (refusals, queued_at_ms, replays)): (Columns, (i64, i64, Option<i64>))| Waiting {
        alert: alert(row),
        organization: String::new(),
        refusals,
        queued_at_ms,
        replays: replays.unwrap_or(0),
    };
    let mut found: Vec<Waiting> = rows.into_iter().map(waiting).collect();
    let names = organization_names(conn, found.iter().map(|one| one.alert.org_path.clone()).collect())?;
    for one in &mut found {
        one.organization = names.get(&one.alert.org_path).cloned().unwrap_or_default();
    }
    Ok(found)
}

/// Names by path. By the unique index on paths.
pub(in super::super) fn organization_names(
    conn: &mut Conn,
    mut paths: Vec<String>,
) -> Result<HashMap<String, String>, db::Error> {
    paths.sort_unstable();
    paths.dedup();
    let rows = organizations::table
        .filter(organizations::path.eq_any(paths))
        .select((organizations::path, organizations::name))
        .load::<(String, String)>(conn)?;
    Ok(rows.into_iter().collect())
}

/// How an attempt ended.
pub(in super::super) struct Attempt {
    pub lease_ms: i64,
    pub status: Option<u16>,
    pub error: String,
    pub is_sent: bool,
    pub is_refusal: bool,
    /// What has waited since before this is given up.
    pub gives_up_before_ms: i64,
    pub retry_at_ms: Option<i64>,
    /// How far the channel's rate is used up, where it has one.
    pub rate_at_ms: Option<i64>,
    pub now: Now,
}

/// Notes an attempt on its deliveries, its channel and, where it was the last one, its alerts; returns how many deliveries
/// have ended. Alerts in ascending order: two channels that note the same ones lock them in the same order.
pub(in super::super) fn mark(
    conn: &mut Conn,
    alert_ids: &[i64],
    channel_id: i64,
    attempt: &Attempt,
) -> Result<usize, db::Error> {
    let mut ended = 0;
    for alert_id in alert_ids {
        ended += usize::from(mark_one(conn, *alert_id, channel_id, attempt)?);
    }
    note_on_channel(conn, channel_id, attempt)?;
    Ok(ended)
}

fn mark_one(conn: &mut Conn, alert_id: i64, channel_id: i64, attempt: &Attempt) -> Result<bool, db::Error> {
    let key = (alert_id, channel_id);
    let pending: Option<(i64, i64)> = alert_deliveries::table
        .find(key)
        .filter(alert_deliveries::state.eq("pending"))
        .select((alert_deliveries::refusals, alert_deliveries::queued_at_ms))
        .first(conn)
        .optional()?;
    let Some((refusals, queued_at_ms)) = pending else { return Ok(false) };
    let refusals = refusals + i64::from(attempt.is_refusal);
    let state = match (attempt.is_sent, queued_at_ms < attempt.gives_up_before_ms || refusals >= REFUSALS_MAX) {
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
    Ok(is_final)
}

fn note_on_channel(conn: &mut Conn, channel_id: i64, attempt: &Attempt) -> Result<(), db::Error> {
    let row = alert_channels::table.find(channel_id);
    if let Some(rate_at_ms) = attempt.rate_at_ms {
        diesel::update(row).set(alert_channels::rate_at_ms.eq(rate_at_ms)).execute(conn)?;
    }
    if attempt.is_sent {
        // Of several recipients some may have been refused.
        let error = alert_channels::last_error.eq(&attempt.error);
        diesel::update(row).set((alert_channels::failures.eq(0), error)).execute(conn)?;
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
pub(in super::super) fn settle(conn: &mut Conn, alert_id: i64) -> Result<(), db::Error> {
    // Two channels of one alert may end at the same moment: the second one to write sees what the first one wrote.
    let row = alerts::table.find(alert_id).filter(alerts::state.eq(AlertState::Pending.as_str()));
    diesel::update(row).set(alerts::state.eq(AlertState::Pending.as_str())).execute(conn)?;
    let states: Vec<String> = alert_deliveries::table
        .filter(alert_deliveries::alert_id.eq(alert_id))
        .select(alert_deliveries::state)
        .distinct()
        .load(conn)?;
    let has = |state: &str| states.iter().any(|known| known == state);
    let state = match (has("pending") || has("held"), has("failed")) {
        (true, _) => return Ok(()),
        (false, true) => AlertState::Failed,
        (false, false) => AlertState::Sent,
    };
    diesel::update(row).set(alerts::state.eq(state.as_str())).execute(conn)?;
    Ok(())
}

/// What waits for a channel waits from now on: a pause is no reason to give it up.
pub(in super::super) fn queue_anew(conn: &mut Conn, channel_id: i64, now: Now) -> Result<(), db::Error> {
    let waiting = alert_deliveries::table
        .filter(alert_deliveries::state.eq("pending"))
        .filter(alert_deliveries::channel_id.eq(channel_id));
    diesel::update(waiting).set(alert_deliveries::queued_at_ms.eq(now.0)).execute(conn)?;
    Ok(())
}
