//! SQL of the fleet's rules: which server runs a pass, what the rules said and found. What they look at is read in the
//! files below.

pub(super) mod days;
pub(super) mod expiry;
pub(super) mod kpis;
pub(super) mod silence;
pub(super) mod switches;
pub(super) mod window;

use diesel::prelude::*;
use serde_json::Value;

use super::rules::{Missing, Rule};
use super::{Baseline, Finding, Found, RuleState};
use crate::clock::Now;
use crate::db::schema::{barred_calls, fleet_baselines, fleet_findings, fleet_passes, fleet_rules, terminal_states};
use crate::db::{self, Conn, Sequence, next_id};
use crate::on_backend;
use crate::operators::Scope;

/// Findings that one pass ends.
const ENDED_MAX: i64 = 200;
/// Old findings deleted in one transaction.
const DELETED_MAX: i64 = 500;
/// Rates are stored in this many parts.
const PARTS: f64 = 1e9;

/// Takes the part of the pass with this name for this server, if it did not run within `every_ms`; a clock that went back
/// by more than that counts as one that ran long ago. By primary key; of several servers one gets it.
pub(super) fn claim(conn: &mut Conn, name: &str, every_ms: i64, now: Now) -> Result<bool, db::Error> {
    let row = fleet_passes::table.find(name).filter(
        fleet_passes::at_ms
            .le(now.0.saturating_sub(every_ms))
            .or(fleet_passes::at_ms.gt(now.0.saturating_add(every_ms))),
    );
    Ok(diesel::update(row).set(fleet_passes::at_ms.eq(now.0)).execute(conn)? == 1)
}

/// When the part of this name ran last and how far it got.
pub(super) fn progress(conn: &mut Conn, name: &str) -> Result<(i64, i64), db::Error> {
    let row = fleet_passes::table.find(name).select((fleet_passes::at_ms, fleet_passes::reached));
    Ok(row.first(conn).optional()?.unwrap_or((0, 0)))
}

/// Moves a part on from `from` to `to`; whether it still was there. Compare-and-set.
pub(super) fn reach(conn: &mut Conn, name: &str, from: i64, to: i64, now: Now) -> Result<bool, db::Error> {
    let row = fleet_passes::table.find(name).filter(fleet_passes::reached.eq(from));
    let set = (fleet_passes::reached.eq(to), fleet_passes::at_ms.eq(now.0));
    Ok(diesel::update(row).set(set).execute(conn)? == 1)
}

/// Notes that a part runs again from now on.
pub(super) fn resume(conn: &mut Conn, name: &str, now: Now) -> Result<(), db::Error> {
    diesel::update(fleet_passes::table.find(name)).set(fleet_passes::reached.eq(now.0)).execute(conn)?;
    Ok(())
}

/// Takes the running hour for what is learnt of it once; of several servers and passes one gets it.
pub(super) fn claim_hour(conn: &mut Conn, now: Now) -> Result<bool, db::Error> {
    let row = fleet_passes::table.find("offline").filter(fleet_passes::reached.lt(now.hour_ms()));
    let set = (fleet_passes::reached.eq(now.hour_ms()), fleet_passes::at_ms.eq(now.0));
    Ok(diesel::update(row).set(set).execute(conn)? == 1)
}

/// What is usual in one hour of the week.
pub(super) fn baseline(conn: &mut Conn, group: &str, hour_of_week: i64) -> Result<Baseline, db::Error> {
    let row = fleet_baselines::table.find((group, hour_of_week));
    let found: Option<(i64, i64)> =
        row.select((fleet_baselines::rate_ppb, fleet_baselines::weeks)).first(conn).optional()?;
    Ok(found.map_or_else(Baseline::default, |(ppb, weeks)| Baseline {
        rate: parts(ppb),
        weeks: u32::try_from(weeks).unwrap_or(u32::MAX),
    }))
}

/// Over all hours of the week: how many are known, and the highest rate of one. At most 168 rows.
pub(super) fn highest(conn: &mut Conn, group: &str) -> Result<(usize, f64), db::Error> {
    let rates: Vec<i64> = fleet_baselines::table
        .filter(fleet_baselines::code_group.eq(group))
        .filter(fleet_baselines::weeks.gt(0))
        .select(fleet_baselines::rate_ppb)
        .load(conn)?;
    Ok((rates.len(), parts(rates.iter().copied().max().unwrap_or(0))))
}

#[allow(clippy::cast_precision_loss)] // A rate has far fewer than 53 bits.
fn parts(ppb: i64) -> f64 {
    ppb as f64 / PARTS
}

/// Writes what is usual.
pub(super) fn set_baseline(
    conn: &mut Conn,
    group: &str,
    hour_of_week: i64,
    baseline: Baseline,
) -> Result<(), db::Error> {
    #[allow(clippy::cast_possible_truncation)] // A rate is at most a few failures an attempt.
    let rate_ppb = (baseline.rate * PARTS).round() as i64;
    let values = (fleet_baselines::rate_ppb.eq(rate_ppb), fleet_baselines::weeks.eq(i64::from(baseline.weeks)));
    let key = (fleet_baselines::code_group.eq(group), fleet_baselines::hour_of_week.eq(hour_of_week));
    on_backend!(conn, |c| diesel::insert_into(fleet_baselines::table)
        .values((key, values))
        .on_conflict((fleet_baselines::code_group, fleet_baselines::hour_of_week))
        .do_update()
        .set(values)
        .execute(c))?;
    Ok(())
}

/// Notes what a rule said.
pub(super) fn set_rule(
    conn: &mut Conn,
    rule: Rule,
    verdict: &str,
    missing: Option<Missing>,
    now: Now,
) -> Result<(), db::Error> {
    let values = (
        fleet_rules::judged_at_ms.eq(now.0),
        fleet_rules::verdict.eq(verdict),
        fleet_rules::missing.eq(missing.map(Missing::as_str)),
    );
    on_backend!(conn, |c| diesel::insert_into(fleet_rules::table)
        .values((fleet_rules::rule.eq(rule.as_str()), values))
        .on_conflict(fleet_rules::rule)
        .do_update()
        .set(values)
        .execute(c))?;
    Ok(())
}

/// What each rule said last; those that never ran are absent.
pub(super) fn rules(conn: &mut Conn) -> Result<Vec<RuleState>, db::Error> {
    let rows: Vec<(String, i64, String, Option<String>)> = fleet_rules::table.order(fleet_rules::rule).load(conn)?;
    let state = |(rule, judged_at_ms, verdict, missing)| RuleState { rule, judged_at_ms, verdict, missing };
    Ok(rows.into_iter().map(state).collect())
}

/// Number, organization and incident of the findings about one thing that are not over. By `fleet_findings_by_key`.
pub(super) fn open_about(conn: &mut Conn, rule: Rule, key: &str) -> Result<Vec<(i64, String)>, db::Error> {
    let rows = fleet_findings::table
        .filter(fleet_findings::rule.eq(rule.as_str()))
        .filter(fleet_findings::dedup_key.eq(key))
        .filter(fleet_findings::ended_at_ms.is_null())
        .order(fleet_findings::id)
        .select((fleet_findings::id, fleet_findings::org_path));
    Ok(rows.load(conn)?)
}

/// Writes a new finding and returns its number.
pub(super) fn insert(conn: &mut Conn, found: &Found, now: Now) -> Result<i64, db::Error> {
    let id = next_id(conn, Sequence::FleetFindings)?;
    diesel::insert_into(fleet_findings::table)
        .values((
            fleet_findings::id.eq(id),
            fleet_findings::rule.eq(found.rule.as_str()),
            fleet_findings::dedup_key.eq(&found.key),
            fleet_findings::org_path.eq(&found.org_path),
            fleet_findings::subject.eq(&found.subject),
            fleet_findings::verdict.eq(found.verdict),
            fleet_findings::affected.eq(i64::try_from(found.affected).unwrap_or(i64::MAX)),
            fleet_findings::evidence.eq(found.evidence.to_string()),
            fleet_findings::first_seen_ms.eq(now.0),
            fleet_findings::last_seen_ms.eq(now.0),
        ))
        .execute(conn)?;
    Ok(id)
}

/// Writes what is seen now of a finding. By primary key.
pub(super) fn refresh(conn: &mut Conn, id: i64, found: &Found, now: Now) -> Result<(), db::Error> {
    diesel::update(fleet_findings::table.find(id))
        .set((
            fleet_findings::subject.eq(&found.subject),
            fleet_findings::verdict.eq(found.verdict),
            fleet_findings::affected.eq(i64::try_from(found.affected).unwrap_or(i64::MAX)),
            fleet_findings::evidence.eq(found.evidence.to_string()),
            fleet_findings::last_seen_ms.eq(now.0),
        ))
        .execute(conn)?;
    Ok(())
}

/// Notes the incident that a finding became.
pub(super) fn set_incident(conn: &mut Conn, id: i64, incident_id: i64) -> Result<(), db::Error> {
    diesel::update(fleet_findings::table.find(id)).set(fleet_findings::incident_id.eq(incident_id)).execute(conn)?;
    Ok(())
}

/// A finding that was not seen for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quiet {
    pub id: i64,
    pub incident_id: Option<i64>,
    pub first_seen_ms: i64,
}

/// Findings of a rule that were not seen since `before_ms`, the longest first. By `fleet_findings_open`.
pub(super) fn quiet(conn: &mut Conn, rule: Rule, before_ms: i64) -> Result<Vec<Quiet>, db::Error> {
    let rows = fleet_findings::table
        .filter(fleet_findings::ended_at_ms.is_null())
        .filter(fleet_findings::last_seen_ms.lt(before_ms))
        .filter(fleet_findings::rule.eq(rule.as_str()))
        .order(fleet_findings::last_seen_ms)
        .limit(ENDED_MAX)
        .select((fleet_findings::id, fleet_findings::incident_id, fleet_findings::first_seen_ms));
    let quiet = |(id, incident_id, first_seen_ms)| Quiet { id, incident_id, first_seen_ms };
    Ok(rows.load::<(i64, Option<i64>, i64)>(conn)?.into_iter().map(quiet).collect())
}

/// Notes that a finding goes on as it was seen last. By primary key.
pub(super) fn go_on(conn: &mut Conn, id: i64, now: Now) -> Result<(), db::Error> {
    diesel::update(fleet_findings::table.find(id)).set(fleet_findings::last_seen_ms.eq(now.0)).execute(conn)?;
    Ok(())
}

/// Ends a finding; whether it was not over yet.
pub(super) fn end(conn: &mut Conn, id: i64, now: Now) -> Result<bool, db::Error> {
    let row = fleet_findings::table.find(id).filter(fleet_findings::ended_at_ms.is_null());
    Ok(diesel::update(row).set(fleet_findings::ended_at_ms.eq(now.0)).execute(conn)? == 1)
}

type Columns = (i64, String, String, String, String, i64, String, Option<i64>, i64, i64, Option<i64>);

/// Newest first, before `before`. By `fleet_findings_by_org`.
pub(super) fn list(
    conn: &mut Conn,
    scope: &Scope,
    rule: Option<Rule>,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<Finding>, db::Error> {
    let mut query = fleet_findings::table
        .filter(fleet_findings::org_path.ge(scope.from()))
        .filter(fleet_findings::org_path.lt(scope.below()))
        .filter(fleet_findings::id.lt(before.unwrap_or(i64::MAX)))
        .into_boxed();
    if let Some(rule) = rule {
        query = query.filter(fleet_findings::rule.eq(rule.as_str()));
    }
    let rows = query
        .order(fleet_findings::id.desc())
        .limit(limit)
        .select((
            fleet_findings::id,
            fleet_findings::rule,
            fleet_findings::org_path,
            fleet_findings::subject,
            fleet_findings::verdict,
            fleet_findings::affected,
            fleet_findings::evidence,
            fleet_findings::incident_id,
            fleet_findings::first_seen_ms,
            fleet_findings::last_seen_ms,
            fleet_findings::ended_at_ms,
        ))
        .load::<Columns>(conn)?;
    let finding = |row: Columns| {
        let (id, rule, org_path, subject, verdict, affected, evidence, incident_id, first_seen_ms, last, ended) = row;
        Finding {
            id,
            rule,
            org_path,
            subject,
            verdict,
            affected,
            evidence: serde_json::from_str(&evidence).unwrap_or(Value::Null),
            incident_id,
            first_seen_ms,
            last_seen_ms: last,
            ended_at_ms: ended,
        }
    };
    Ok(rows.into_iter().map(finding).collect())
}

/// Deletes findings that ended before `before_ms` and calls of barred terminals as old; some of them.
pub(super) fn delete_old(conn: &mut Conn, before_ms: i64) -> Result<usize, db::Error> {
    let old: Vec<i64> = fleet_findings::table
        .filter(fleet_findings::ended_at_ms.lt(before_ms))
        .order(fleet_findings::id)
        .limit(DELETED_MAX)
        .select(fleet_findings::id)
        .load(conn)?;
    let findings = diesel::delete(fleet_findings::table.filter(fleet_findings::id.eq_any(old))).execute(conn)?;
    let calls = barred_calls::table.filter(barred_calls::last_ms.lt(before_ms));
    Ok(findings + diesel::delete(calls).execute(conn)?)
}

/// Asks terminals that are on WiFi or cable by their last check-in to call in more often until `until_ms`. Row by row in
/// the order of their numbers, as check-ins write them, so that nobody waits for another in a circle.
pub(super) fn boost(conn: &mut Conn, terminal_ids: &[i64], until_ms: i64) -> Result<usize, db::Error> {
    let mut boosted = 0;
    for id in terminal_ids {
        let row = terminal_states::table
            .find(id)
            .filter(terminal_states::access.eq_any(super::boost::ACCESSES))
            .filter(terminal_states::last_seen_ms.gt(0));
        boosted += diesel::update(row).set(terminal_states::poll_until_ms.eq(until_ms)).execute(conn)?;
    }
    Ok(boosted)
}
