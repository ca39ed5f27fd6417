//! SQL of digests.

use diesel::dsl::exists;
use diesel::prelude::*;

use super::super::digest::{HELD_MAX, Item, Summary, TOP_MAX};
use super::super::rules::Route;
use super::super::{Alert, AlertState, Level, NewAlert};
use super::outbox::{organization_names, settle};
use super::{Columns, alert, columns};
use crate::clock::Now;
use crate::db::schema::{alert_channels, alert_deliveries, alert_hours, alerts, incidents};
use crate::db::{self, Conn};
use crate::operators::Scope;

/// Channels that one pass looks at.
const CANDIDATES_MAX: i64 = 10_000;
/// Deliveries that end with their digest in one transaction.
const ENDED_MAX: i64 = 100;

/// A channel that may get a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Candidate {
    pub channel_id: i64,
    pub org_path: String,
    /// Since when it wants one each day.
    pub since_ms: Option<i64>,
    /// The moment for which it got the last one.
    pub done_ms: Option<i64>,
    /// Its organization's own time zone and time.
    pub time_zone: Option<String>,
    pub digest_at_min: Option<u16>,
}

/// Channels that want a digest, and those for which something is held back. By `alert_deliveries_by_state`.
pub(in super::super) fn candidates(conn: &mut Conn) -> Result<Vec<Candidate>, db::Error> {
    type Row = (i64, String, Option<i64>, Option<i64>, Option<String>, Option<i64>);
    let held = alert_deliveries::table
        .filter(alert_deliveries::state.eq("held"))
        .filter(alert_deliveries::digest_id.is_null())
        .select(alert_deliveries::channel_id);
    let rows = alert_channels::table
        .left_join(alert_hours::table.on(alert_hours::organization_id.eq(alert_channels::organization_id)))
        .filter(alert_channels::deleted_at_ms.is_null())
        .filter(alert_channels::digest_since_ms.is_not_null().or(alert_channels::id.eq_any(held)))
        .order(alert_channels::id)
        .limit(CANDIDATES_MAX)
        .select((
            alert_channels::id,
            alert_channels::org_path,
            alert_channels::digest_since_ms,
            alert_channels::digest_done_ms,
            alert_hours::time_zone.nullable(),
            alert_hours::digest_at_min.nullable(),
        ))
        .load::<Row>(conn)?;
    let candidate = |(channel_id, org_path, since_ms, done_ms, time_zone, digest_at_min): Row| Candidate {
        channel_id,
        org_path,
        since_ms,
        done_ms,
        time_zone,
        digest_at_min: digest_at_min.and_then(|minute| u16::try_from(minute).ok()),
    };
    Ok(rows.into_iter().map(candidate).collect())
}

/// Whether something was held back for a channel before this moment.
pub(in super::super) fn has_held(conn: &mut Conn, channel_id: i64, before_ms: i64) -> Result<bool, db::Error> {
    let held = alert_deliveries::table
        .filter(alert_deliveries::state.eq("held"))
        .filter(alert_deliveries::channel_id.eq(channel_id))
        .filter(alert_deliveries::digest_id.is_null())
        .filter(alert_deliveries::queued_at_ms.le(before_ms));
    Ok(diesel::select(exists(held)).get_result(conn)?)
}

/// Notes that a channel has its digest for this moment; `false` when another server was faster.
pub(in super::super) fn take_moment(conn: &mut Conn, channel_id: i64, moment_ms: i64) -> Result<bool, db::Error> {
    let is_open = alert_channels::digest_done_ms.is_null().or(alert_channels::digest_done_ms.lt(moment_ms));
    let row = alert_channels::table.find(channel_id).filter(alert_channels::deleted_at_ms.is_null()).filter(is_open);
    Ok(diesel::update(row).set(alert_channels::digest_done_ms.eq(moment_ms)).execute(conn)? == 1)
}

/// What was held back for a channel until this moment: the most urgent things, one line for each incident, and how many
/// alerts there are in all.
pub(in super::super) fn held(
    conn: &mut Conn,
    channel_id: i64,
    before_ms: i64,
) -> Result<(Vec<Item>, usize), db::Error> {
    let waiting = || {
        alert_deliveries::table
            .filter(alert_deliveries::state.eq("held"))
            .filter(alert_deliveries::channel_id.eq(channel_id))
            .filter(alert_deliveries::digest_id.is_null())
            .filter(alert_deliveries::queued_at_ms.le(before_ms))
    };
    let count: i64 = waiting().count().get_result(conn)?;
    let rows = waiting()
        .inner_join(alerts::table.on(alerts::id.eq(alert_deliveries::alert_id)))
        .order((alerts::level, alerts::id))
        .limit(HELD_MAX * 2)
        .select(columns!())
        .load::<Columns>(conn)?;
    let mut found: Vec<Alert> = Vec::new();
    for alert in rows.into_iter().map(alert) {
        let is_known = alert.incident_id.is_some() && found.iter().any(|known| known.incident_id == alert.incident_id);
        if !is_known && i64::try_from(found.len()).unwrap_or(i64::MAX) < HELD_MAX {
            found.push(alert);
        }
    }
    let names = organization_names(conn, found.iter().map(|alert| alert.org_path.clone()).collect())?;
    let item = |alert: &Alert| Item::of(alert, names.get(&alert.org_path).map_or("", String::as_str));
    Ok((found.iter().map(item).collect(), usize::try_from(count).unwrap_or(usize::MAX)))
}

/// Counts of the incidents of a scope and the most urgent of them, without those that another one explains; nothing of
/// terminals or of what was held back. Ten statements by `incidents_by_org` and `incidents_by_state`.
pub(in super::super) fn incidents(conn: &mut Conn, scope: &Scope, since_ms: i64) -> Result<Summary, db::Error> {
    let within = || {
        incidents::table
            .filter(incidents::org_path.ge(scope.from()))
            .filter(incidents::org_path.lt(scope.below()))
            .filter(incidents::masked_since_ms.is_null())
    };
    let unresolved = || within().filter(incidents::state.ne("resolved"));
    let mut summary = Summary::default();
    for (at, level) in Level::ALL.into_iter().enumerate() {
        let opened: i64 = within()
            .filter(incidents::opened_at_ms.ge(since_ms))
            .filter(incidents::level.eq(level.as_str()))
            .count()
            .get_result(conn)?;
        let left: i64 = unresolved().filter(incidents::level.eq(level.as_str())).count().get_result(conn)?;
        if let (Some(new), Some(old)) = (summary.opened.get_mut(at), summary.unresolved.get_mut(at)) {
            (*new, *old) = (opened, left);
        }
    }
    summary.waiting = within().filter(incidents::state.eq("open")).count().get_result(conn)?;
    summary.expiring = unresolved().filter(incidents::kind.eq("expiry")).count().get_result(conn)?;
    let top = unresolved()
        .order((incidents::level, incidents::affected.desc(), incidents::id))
        .limit(TOP_MAX)
        .select((incidents::level, incidents::kind, incidents::subject, incidents::org_path))
        .load::<(String, String, String, String)>(conn)?;
    let names = organization_names(conn, top.iter().map(|(.., path)| path.clone()).collect())?;
    let item = |(level, kind, subject, path): (String, String, String, String)| Item {
        level,
        kind: "incident_unresolved".to_owned(),
        title_key: format!("incident-title-{kind}"),
        parameters: [("subject".to_owned(), super::super::letter::tailed(&subject))].into(),
        organization: names.get(&path).cloned().unwrap_or_default(),
    };
    summary.top = top.into_iter().map(item).collect();
    Ok(summary)
}

/// Puts a digest into the outbox for one channel and ties to it what it tells of; `false` when it is there already.
pub(in super::super) fn insert(
    conn: &mut Conn,
    new: &NewAlert<'_>,
    channel_id: i64,
    before_ms: i64,
    now: Now,
) -> Result<bool, db::Error> {
    let Some(id) = super::insert(conn, new, AlertState::Pending, now)? else { return Ok(false) };
    super::insert_deliveries(conn, id, &[(channel_id, Route::Direct)], now)?;
    let told = alert_deliveries::table
        .filter(alert_deliveries::state.eq("held"))
        .filter(alert_deliveries::channel_id.eq(channel_id))
        .filter(alert_deliveries::digest_id.is_null())
        .filter(alert_deliveries::queued_at_ms.le(before_ms));
    diesel::update(told).set(alert_deliveries::digest_id.eq(id)).execute(conn)?;
    Ok(true)
}

/// Ends some deliveries whose digest has ended, and those that were held back for a channel that is gone; returns how many.
/// By `alert_deliveries_by_state`.
pub(in super::super) fn end_told(conn: &mut Conn, now: Now) -> Result<usize, db::Error> {
    let digest = diesel::alias!(alert_deliveries as digest_deliveries);
    let told = alert_deliveries::table
        .inner_join(
            digest.on(digest
                .field(alert_deliveries::alert_id)
                .nullable()
                .eq(alert_deliveries::digest_id)
                .and(digest.field(alert_deliveries::channel_id).eq(alert_deliveries::channel_id))),
        )
        .filter(alert_deliveries::state.eq("held"))
        .filter(digest.field(alert_deliveries::state).eq_any(["sent", "failed", "withdrawn"]))
        .order((alert_deliveries::alert_id, alert_deliveries::channel_id))
        .limit(ENDED_MAX)
        .select((alert_deliveries::alert_id, alert_deliveries::channel_id, digest.field(alert_deliveries::state)))
        .load::<(i64, i64, String)>(conn)?;
    let orphans = alert_deliveries::table
        .inner_join(alert_channels::table.on(alert_channels::id.eq(alert_deliveries::channel_id)))
        .filter(alert_deliveries::state.eq("held"))
        .filter(alert_deliveries::digest_id.is_null())
        .filter(alert_channels::deleted_at_ms.is_not_null())
        .order((alert_deliveries::alert_id, alert_deliveries::channel_id))
        .limit(ENDED_MAX)
        .select((alert_deliveries::alert_id, alert_deliveries::channel_id))
        .load::<(i64, i64)>(conn)?;
    let mut ended: Vec<(i64, i64, &str)> = Vec::with_capacity(told.len() + orphans.len());
    for (alert_id, channel_id, state) in &told {
        ended.push((*alert_id, *channel_id, if state == "sent" { "sent" } else { "failed" }));
    }
    ended.extend(orphans.iter().map(|(alert_id, channel_id)| (*alert_id, *channel_id, "failed")));
    ended.sort_unstable();
    for (alert_id, channel_id, state) in &ended {
        diesel::update(alert_deliveries::table.find((*alert_id, *channel_id)))
            .set((alert_deliveries::state.eq(*state), alert_deliveries::finished_at_ms.eq(now.0)))
            .execute(conn)?;
        settle(conn, *alert_id)?;
    }
    Ok(ended.len())
}
