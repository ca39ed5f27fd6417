//! SQL of rules and hours.

use diesel::prelude::*;

use super::super::hours::Zone;
use super::super::rules::{Party, Quiet, Recipient, Rule, Urgency};
use super::super::{Level, NewAlert, RULES_MAX};
use super::{lineage, models_concerned};
use crate::clock::Now;
use crate::db::schema::{alert_channels, alert_hours, alert_rules};
use crate::db::{self, Conn};
use crate::operators::Scope;

/// Channels that one alert goes to at most: those of each organization above, all of them full.
const CHANNELS_FOR_MAX: i64 = 200;
/// Rules that one alert meets at most: those of some organizations above, all of them full.
const RULES_FOR_MAX: i64 = 500;

/// A rule as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct StoredRule {
    pub id: i64,
    pub organization_id: i64,
    pub org_path: String,
    pub name: String,
    pub rule: Rule,
    pub created_by: String,
    pub created_at_ms: i64,
    pub version: i64,
}

#[derive(Queryable)]
struct RuleRow {
    id: i64,
    organization_id: i64,
    org_path: String,
    name: String,
    is_enabled: i64,
    kinds: String,
    levels: String,
    models: String,
    delivery: String,
    steps: String,
    created_by: String,
    created_at_ms: i64,
    version: i64,
}

fn stored_rule(row: RuleRow) -> StoredRule {
    let levels: Vec<String> = serde_json::from_str(&row.levels).unwrap_or_default();
    StoredRule {
        id: row.id,
        organization_id: row.organization_id,
        org_path: row.org_path,
        name: row.name,
        rule: Rule {
            is_enabled: row.is_enabled != 0,
            kinds: serde_json::from_str(&row.kinds).unwrap_or_default(),
            levels: levels.iter().filter_map(|level| Level::parse(level)).collect(),
            models: serde_json::from_str(&row.models).unwrap_or_default(),
            // Of an unknown way it tells at once: rather too early than never.
            urgency: Urgency::parse(&row.delivery).unwrap_or(Urgency::Now),
            steps: serde_json::from_str(&row.steps).unwrap_or_default(),
        },
        created_by: row.created_by,
        created_at_ms: row.created_at_ms,
        version: row.version,
    }
}

fn json<T: serde::Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn level_names(levels: &[Level]) -> String {
    json(&levels.iter().map(|level| level.as_str()).collect::<Vec<_>>())
}

pub(in super::super) fn insert(conn: &mut Conn, stored: &StoredRule) -> Result<(), db::Error> {
    diesel::insert_into(alert_rules::table)
        .values((
            alert_rules::id.eq(stored.id),
            alert_rules::organization_id.eq(stored.organization_id),
            alert_rules::org_path.eq(&stored.org_path),
            alert_rules::name.eq(&stored.name),
            alert_rules::is_enabled.eq(i64::from(stored.rule.is_enabled)),
            alert_rules::kinds.eq(json(&stored.rule.kinds)),
            alert_rules::levels.eq(level_names(&stored.rule.levels)),
            alert_rules::models.eq(json(&stored.rule.models)),
            alert_rules::delivery.eq(stored.rule.urgency.as_str()),
            alert_rules::steps.eq(json(&stored.rule.steps)),
            alert_rules::created_by.eq(&stored.created_by),
            alert_rules::created_at_ms.eq(stored.created_at_ms),
            alert_rules::version.eq(stored.version),
        ))
        .execute(conn)?;
    Ok(())
}

/// Compare-and-set on `version`; returns whether the row was still the one that was read.
pub(in super::super) fn replace(conn: &mut Conn, version: i64, after: &StoredRule) -> Result<bool, db::Error> {
    let row = alert_rules::table.find(after.id).filter(alert_rules::version.eq(version));
    let written = diesel::update(row)
        .set((
            alert_rules::name.eq(&after.name),
            alert_rules::is_enabled.eq(i64::from(after.rule.is_enabled)),
            alert_rules::kinds.eq(json(&after.rule.kinds)),
            alert_rules::levels.eq(level_names(&after.rule.levels)),
            alert_rules::models.eq(json(&after.rule.models)),
            alert_rules::delivery.eq(after.rule.urgency.as_str()),
            alert_rules::steps.eq(json(&after.rule.steps)),
            alert_rules::version.eq(version.saturating_add(1)),
        ))
        .execute(conn)?;
    Ok(written == 1)
}

pub(in super::super) fn delete(conn: &mut Conn, id: i64) -> Result<(), db::Error> {
    diesel::delete(alert_rules::table.find(id)).execute(conn)?;
    Ok(())
}

/// By primary key, within the scope.
pub(in super::super) fn get(conn: &mut Conn, scope: &Scope, id: i64) -> Result<Option<StoredRule>, db::Error> {
    let row = alert_rules::table
        .find(id)
        .filter(alert_rules::org_path.ge(scope.from()))
        .filter(alert_rules::org_path.lt(scope.below()))
        .first::<RuleRow>(conn)
        .optional()?;
    Ok(row.map(stored_rule))
}

/// By number. By `alert_rules_by_org`.
pub(in super::super) fn list(
    conn: &mut Conn,
    scope: &Scope,
    after: Option<i64>,
    limit: i64,
) -> Result<Vec<StoredRule>, db::Error> {
    let rows = alert_rules::table
        .filter(alert_rules::org_path.ge(scope.from()))
        .filter(alert_rules::org_path.lt(scope.below()))
        .filter(alert_rules::id.gt(after.unwrap_or(0)))
        .order(alert_rules::id)
        .limit(limit)
        .load::<RuleRow>(conn)?;
    Ok(rows.into_iter().map(stored_rule).collect())
}

/// Of one organization alone. By `alert_rules_by_org`.
pub(in super::super) fn of_organization(conn: &mut Conn, org_path: &str) -> Result<Vec<StoredRule>, db::Error> {
    let rules = alert_rules::table.filter(alert_rules::org_path.eq(org_path)).order(alert_rules::id).limit(RULES_MAX);
    Ok(rules.load::<RuleRow>(conn)?.into_iter().map(stored_rule).collect())
}

/// The hours of an organization as they are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct StoredHours {
    pub organization_id: i64,
    pub org_path: String,
    pub time_zone: String,
    pub quiet: Option<Quiet>,
    pub digest_at_min: u16,
    pub version: i64,
}

#[derive(Queryable)]
struct HoursRow {
    organization_id: i64,
    org_path: String,
    time_zone: String,
    quiet_from_min: Option<i64>,
    quiet_until_min: Option<i64>,
    quiet_breaks: String,
    digest_at_min: i64,
    version: i64,
}

fn stored_hours(row: HoursRow) -> StoredHours {
    let minute = |minute: i64| u16::try_from(minute).unwrap_or(0);
    let breaks: Vec<String> = serde_json::from_str(&row.quiet_breaks).unwrap_or_default();
    let quiet = row.quiet_from_min.zip(row.quiet_until_min).map(|(from, until)| Quiet {
        from_min: minute(from),
        until_min: minute(until),
        breaks: breaks.iter().filter_map(|level| Level::parse(level)).collect(),
    });
    StoredHours {
        organization_id: row.organization_id,
        org_path: row.org_path,
        time_zone: row.time_zone,
        quiet,
        digest_at_min: minute(row.digest_at_min),
        version: row.version,
    }
}

/// By primary key.
pub(in super::super) fn hours(conn: &mut Conn, organization_id: i64) -> Result<Option<StoredHours>, db::Error> {
    Ok(alert_hours::table.find(organization_id).first::<HoursRow>(conn).optional()?.map(stored_hours))
}

/// Writes hours over those of `version`, or the first ones over none (0); returns whether that was what stood there.
pub(in super::super) fn put_hours(conn: &mut Conn, hours: &StoredHours) -> Result<bool, db::Error> {
    let quiet = hours.quiet.as_ref();
    let values = (
        alert_hours::time_zone.eq(&hours.time_zone),
        alert_hours::quiet_from_min.eq(quiet.map(|quiet| i64::from(quiet.from_min))),
        alert_hours::quiet_until_min.eq(quiet.map(|quiet| i64::from(quiet.until_min))),
        alert_hours::quiet_breaks.eq(level_names(quiet.map_or(&[], |quiet| quiet.breaks.as_slice()))),
        alert_hours::digest_at_min.eq(i64::from(hours.digest_at_min)),
        alert_hours::version.eq(hours.version.saturating_add(1)),
    );
    let row = alert_hours::table.find(hours.organization_id).filter(alert_hours::version.eq(hours.version));
    if hours.version > 0 {
        return Ok(diesel::update(row).set(values).execute(conn)? == 1);
    }
    let first =
        (alert_hours::organization_id.eq(hours.organization_id), alert_hours::org_path.eq(&hours.org_path), values);
    match diesel::insert_into(alert_hours::table).values(first).execute(conn).map_err(db::Error::from) {
        Ok(_) => Ok(true),
        Err(error) if error.is_unique_violation() => Ok(false),
        Err(error) => Err(error),
    }
}

/// The part of each organization above in telling of an alert, and the models that it concerns. Three statements, and two
/// more where a rule asks for models.
pub(in super::super) fn parties(
    conn: &mut Conn,
    new: &NewAlert<'_>,
    now: Now,
) -> Result<(Vec<Party>, Vec<String>), db::Error> {
    let lineage = lineage(new.org_path);
    let channels: Vec<(String, i64, String)> = alert_channels::table
        .filter(alert_channels::org_path.eq_any(lineage.clone()))
        .filter(alert_channels::deleted_at_ms.is_null())
        .order(alert_channels::id)
        .limit(CHANNELS_FOR_MAX)
        .select((alert_channels::org_path, alert_channels::id, alert_channels::level))
        .load(conn)?;
    if channels.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let rules = alert_rules::table
        .filter(alert_rules::org_path.eq_any(lineage.clone()))
        .order(alert_rules::id)
        .limit(RULES_FOR_MAX)
        .load::<RuleRow>(conn)?;
    let rules: Vec<StoredRule> = rules.into_iter().map(stored_rule).collect();
    let hours = alert_hours::table.filter(alert_hours::org_path.eq_any(lineage.clone())).load::<HoursRow>(conn)?;
    let hours: Vec<StoredHours> = hours.into_iter().map(stored_hours).collect();
    let asks_for_models = rules.iter().any(|stored| stored.rule.is_enabled && !stored.rule.models.is_empty());
    let models = if asks_for_models { models_concerned(conn, new)? } else { Vec::new() };
    let party = |path: &str| {
        let hours = hours.iter().find(|hours| hours.org_path == path);
        let recipient = |(_, id, level): &(String, i64, String)| Recipient {
            id: *id,
            // Of an unknown level it gets all: rather too many alerts than too few.
            level: Level::parse(level).unwrap_or(Level::P3),
        };
        Party {
            rules: rules.iter().filter(|stored| stored.org_path == path).map(|stored| stored.rule.clone()).collect(),
            recipients: channels.iter().filter(|(own, ..)| own == path).map(recipient).collect(),
            quiet: hours.and_then(|hours| hours.quiet.clone()),
            minute: hours.map_or(0, |hours| Zone::of(Some(&hours.time_zone), "UTC").minute(now)),
        }
    };
    Ok((lineage.into_iter().map(party).collect(), models))
}
