//! SQL of alerts; of channels, of rules and of the work on deliveries in the files below.

pub(super) mod channels;
pub(super) mod digest;
pub(super) mod log;
pub(super) mod outbox;
pub(super) mod rules;

use std::collections::{BTreeMap, HashMap};

use diesel::prelude::*;

use super::rules::Route;
use super::{Alert, AlertState, Delivery, Filter, NewAlert};
use crate::clock::Now;
use crate::db::schema::{alert_channels, alert_deliveries, alerts, incident_terminals, release_models, terminals};
use crate::db::{self, Conn, Sequence, next_id};
use crate::on_backend;
use crate::operators::Scope;

/// Models that one alert concerns at most: a release for more is for all of them.
const MODELS_MAX: i64 = 100;
/// Alerts deleted in one transaction: a few milliseconds.
const DELETED_MAX: i64 = 500;

/// An organization and all above it: `/1/`, `/1/4/`, `/1/4/17/`.
fn lineage(org_path: &str) -> Vec<&str> {
    org_path.match_indices('/').skip(1).filter_map(|(at, _)| org_path.get(..=at)).collect()
}

/// Models of the terminals that an alert's incident lists, and of the release that it is about. By primary key.
fn models_concerned(conn: &mut Conn, new: &NewAlert<'_>) -> Result<Vec<String>, db::Error> {
    let mut models: Vec<String> = Vec::new();
    if let Some(incident_id) = new.incident_id {
        models = incident_terminals::table
            .inner_join(terminals::table.on(terminals::id.eq(incident_terminals::terminal_id)))
            .filter(incident_terminals::incident_id.eq(incident_id))
            .select(terminals::model)
            .distinct()
            .limit(MODELS_MAX)
            .load(conn)?;
    }
    if let (true, Some(release_id)) = (models.is_empty(), new.release_id) {
        models = release_models::table
            .filter(release_models::release_id.eq(release_id))
            .select(release_models::model)
            .limit(MODELS_MAX)
            .load(conn)?;
    }
    Ok(models)
}

/// Inserts an alert; `None` when its key is taken.
pub(super) fn insert(
    conn: &mut Conn,
    new: &NewAlert<'_>,
    state: AlertState,
    now: Now,
) -> Result<Option<i64>, db::Error> {
    let id = next_id(conn, Sequence::Alerts)?;
    let parameters: BTreeMap<&str, &str> = new.parameters.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let row = (
        alerts::id.eq(id),
        alerts::org_path.eq(new.org_path),
        alerts::kind.eq(new.kind.as_str()),
        alerts::level.eq(new.level.as_str()),
        alerts::incident_id.eq(new.incident_id),
        alerts::title_key.eq(&new.title_key),
        alerts::parameters.eq(serde_json::to_string(&parameters).unwrap_or_default()),
        alerts::dedup_key.eq(&new.dedup_key),
        alerts::state.eq(state.as_str()),
        alerts::created_at_ms.eq(now.0),
    );
    let inserted =
        on_backend!(conn, |c| diesel::insert_into(alerts::table).values(row).on_conflict_do_nothing().execute(c))?;
    Ok((inserted == 1).then_some(id))
}

pub(super) fn insert_deliveries(
    conn: &mut Conn,
    alert_id: i64,
    routes: &[(i64, Route)],
    now: Now,
) -> Result<(), db::Error> {
    let row = |(channel_id, route): &(i64, Route)| {
        (
            alert_deliveries::alert_id.eq(alert_id),
            alert_deliveries::channel_id.eq(*channel_id),
            alert_deliveries::state.eq(if route.is_held() { "held" } else { "pending" }),
            alert_deliveries::route.eq(route.as_str()),
            alert_deliveries::attempts.eq(0),
            alert_deliveries::refusals.eq(0),
            alert_deliveries::error.eq(""),
            alert_deliveries::queued_at_ms.eq(now.0),
        )
    };
    let rows: Vec<_> = routes.iter().map(row).collect();
    if !rows.is_empty() {
        on_backend!(conn, |c| diesel::insert_into(alert_deliveries::table).values(&rows).execute(c))?;
    }
    Ok(())
}

/// Takes back what has not gone out of the alerts about an incident. By `alerts_by_incident`.
pub(super) fn withdraw(conn: &mut Conn, incident_id: i64, now: Now) -> Result<(), db::Error> {
    let about = alerts::table.filter(alerts::incident_id.eq(incident_id)).order(alerts::id).select(alerts::id);
    let about: Vec<i64> = about.load(conn)?;
    let waiting = alert_deliveries::table
        .filter(alert_deliveries::alert_id.eq_any(about))
        .filter(alert_deliveries::state.eq_any(["pending", "held"]));
    diesel::update(waiting)
        .set((alert_deliveries::state.eq("withdrawn"), alert_deliveries::finished_at_ms.eq(now.0)))
        .execute(conn)?;
    acknowledge(conn, incident_id)
}

/// By `alerts_by_incident`.
pub(super) fn acknowledge(conn: &mut Conn, incident_id: i64) -> Result<(), db::Error> {
    diesel::update(alerts::table.filter(alerts::incident_id.eq(incident_id)))
        .set(alerts::state.eq(AlertState::Acknowledged.as_str()))
        .execute(conn)?;
    Ok(())
}

type Columns = (i64, String, String, String, Option<i64>, String, String, String, i64);

/// The columns of [`Columns`], in its order.
macro_rules! columns {
    () => {
        (
            alerts::id,
            alerts::org_path,
            alerts::kind,
            alerts::level,
            alerts::incident_id,
            alerts::title_key,
            alerts::parameters,
            alerts::state,
            alerts::created_at_ms,
        )
    };
}

use columns;

fn alert(row: Columns) -> Alert {
    let (id, org_path, kind, level, incident_id, title_key, parameters, state, created_at_ms) = row;
    let parameters = serde_json::from_str(&parameters).unwrap_or_default();
    let deliveries = Vec::new();
    Alert { id, org_path, kind, level, incident_id, title_key, parameters, state, created_at_ms, deliveries }
}

/// Newest first, before `before`, with the deliveries to channels of the scope. By `alerts_by_org` or
/// `alerts_by_incident`.
pub(super) fn list(
    conn: &mut Conn,
    scope: &Scope,
    filter: Filter,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<Alert>, db::Error> {
    let mut query = alerts::table
        .filter(alerts::org_path.ge(scope.from()))
        .filter(alerts::org_path.lt(scope.below()))
        .filter(alerts::id.lt(before.unwrap_or(i64::MAX)))
        .into_boxed();
    if let Some(state) = filter.state {
        query = query.filter(alerts::state.eq(state.as_str()));
    }
    if let Some(incident_id) = filter.incident_id {
        query = query.filter(alerts::incident_id.eq(incident_id));
    }
    let rows = query.order(alerts::id.desc()).limit(limit).select(columns!()).load::<Columns>(conn)?;
    let mut found: Vec<Alert> = rows.into_iter().map(alert).collect();
    let ids: Vec<i64> = found.iter().map(|alert| alert.id).collect();
    let mut deliveries = deliveries(conn, scope, &ids)?;
    for alert in &mut found {
        alert.deliveries = deliveries.remove(&alert.id).unwrap_or_default();
    }
    Ok(found)
}

type DeliveryColumns = (i64, i64, String, String, String, i64, Option<i64>, String, Option<i64>, Option<i64>);

/// By primary key. A channel of an organization above is that organization's business.
fn deliveries(conn: &mut Conn, scope: &Scope, alerts: &[i64]) -> Result<HashMap<i64, Vec<Delivery>>, db::Error> {
    let rows = alert_deliveries::table
        .inner_join(alert_channels::table.on(alert_channels::id.eq(alert_deliveries::channel_id)))
        .filter(alert_deliveries::alert_id.eq_any(alerts.to_vec()))
        .filter(alert_channels::org_path.ge(scope.from()))
        .filter(alert_channels::org_path.lt(scope.below()))
        .order((alert_deliveries::alert_id, alert_deliveries::channel_id))
        .select((
            alert_deliveries::alert_id,
            alert_deliveries::channel_id,
            alert_channels::name,
            alert_deliveries::state,
            alert_deliveries::route,
            alert_deliveries::attempts,
            alert_deliveries::status,
            alert_deliveries::error,
            alert_deliveries::attempted_at_ms,
            alert_deliveries::finished_at_ms,
        ))
        .load::<DeliveryColumns>(conn)?;
    let mut found: HashMap<i64, Vec<Delivery>> = HashMap::new();
    for (alert_id, channel_id, channel, state, route, attempts, status, error, attempted_at_ms, finished_at_ms) in rows
    {
        let delivery =
            Delivery { channel_id, channel, state, route, attempts, status, error, attempted_at_ms, finished_at_ms };
        found.entry(alert_id).or_default().push(delivery);
    }
    Ok(found)
}

/// Deletes the oldest alerts if they are older than `before_ms`. By primary key: numbers grow with time.
pub(super) fn delete_old(conn: &mut Conn, before_ms: i64) -> Result<usize, db::Error> {
    let oldest = alerts::table.order(alerts::id).limit(DELETED_MAX).select((alerts::id, alerts::created_at_ms));
    let oldest: Vec<(i64, i64)> = oldest.load(conn)?;
    let old: Vec<i64> = oldest.into_iter().filter(|(_, at_ms)| *at_ms < before_ms).map(|(id, _)| id).collect();
    if old.is_empty() {
        return Ok(0);
    }
    diesel::delete(alert_deliveries::table.filter(alert_deliveries::alert_id.eq_any(old.clone()))).execute(conn)?;
    Ok(diesel::delete(alerts::table.filter(alerts::id.eq_any(old))).execute(conn)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_organization_has_all_above_it_in_its_lineage() {
        assert_eq!(lineage("/1/4/17/"), ["/1/", "/1/4/", "/1/4/17/"]);
        assert_eq!(lineage("/1/"), ["/1/"]);
        assert!(lineage("/").is_empty());
    }
}
