//! The pass over all terminals: judges each by what its check-ins left, keeps what it found, opens the work orders that an
//! organization wants by itself and withdraws those whose reason is gone. What a certificate's end is said to be goes on to the
//! fleet's list of what runs out.
//!
//! It goes in the order of numbers, some hundred at a time; its cursor moves in the transaction of what it wrote, so that
//! several servers share one round. A terminal that a person wrote meanwhile is left for the next round.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::due::{self, Facts, Rules};
use super::guidance;
use super::orders::{self, Opening};
use super::reason::Reason;
use super::store::care::{self, Care, Visit};
use super::store::settings::{self, OwnRules};
use super::store::{self, passes};
use super::window::Windows;
use crate::audit::{self, Actor, Deed};
use crate::clock::Now;
use crate::db::{self, Conn, Db};
use crate::failures::fleet;

/// Name of the pass's cursor, and of the rules in the audit log.
pub(super) const NAME: &str = "maintenance";
/// Terminals in one step: some milliseconds.
const STEP: i64 = 500;
/// A round begins so long after the one before, ms. A check-in each quarter of an hour is still seen: signals that are
/// sent daily are in one of them.
pub const ROUND_MS: i64 = 10 * 60_000;

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Cursor {
    /// Terminals up to this number are judged.
    after: i64,
    /// When the round began, Unix ms.
    began_ms: i64,
    /// Whether it has ended.
    is_over: bool,
}

/// What one step is going to write.
struct Step {
    version: Option<i64>,
    next: Cursor,
    visits: Vec<Visit>,
    /// What is kept of each of them from now on.
    cares: Vec<Care>,
    /// Reasons for which orders open by themselves, of each.
    wanted: Vec<Vec<Reason>>,
    /// Until when certificates hold, Unix ms, of those that say something new.
    certificates: Vec<(i64, i64)>,
}

/// One step of the pass; returns whether there is more to do at once.
///
/// # Errors
/// [`db::Error`]; the step is done again by the next call.
pub async fn refresh(db: &Db, now: Now) -> Result<bool, db::Error> {
    let Some(step) = db.read(move |conn| read(conn, now)).await? else { return Ok(false) };
    let is_more = !step.next.is_over;
    db.write(move |conn| write(conn, &step, now)).await?;
    Ok(is_more)
}

fn read(conn: &mut Conn, now: Now) -> Result<Option<Step>, db::Error> {
    let (cursor, version) = passes::cursor(conn, NAME)?.unzip();
    let cursor: Cursor = cursor.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let cursor = if !cursor.is_over && version.is_some() {
        cursor
    } else if now.0.saturating_sub(cursor.began_ms) >= ROUND_MS {
        Cursor { began_ms: now.0, ..Cursor::default() }
    } else {
        return Ok(None);
    };
    let visits = care::visits(conn, cursor.after, STEP)?;
    let is_over = i64::try_from(visits.len()).is_ok_and(|n| n < STEP);
    let after = visits.last().map_or(cursor.after, |visit| visit.terminal_id);
    let own = settings::all_rules(conn)?;
    let rules = Nearest::new(&own);
    let cares = visits.iter().map(|visit| judged(visit, rules.of(&visit.org_path), now)).collect();
    let wanted =
        visits.iter().map(|visit| rules.of(&visit.org_path).open_orders_for.iter().copied().collect()).collect();
    let certificates = visits.iter().filter_map(new_certificate).collect();
    Ok(Some(Step { version, next: Cursor { after, is_over, ..cursor }, visits, cares, wanted, certificates }))
}

/// Until when a terminal says that its certificate holds, where that is not noted yet.
fn new_certificate(visit: &Visit) -> Option<(i64, i64)> {
    let expires_ms = visit.report.as_ref()?.device.certificate_expires_ms?;
    (visit.certificate_expires_ms != Some(expires_ms)).then_some((visit.terminal_id, expires_ms))
}

/// Thresholds by organization.
struct Nearest<'a> {
    own: HashMap<&'a str, &'a Rules>,
    default: Rules,
}

impl<'a> Nearest<'a> {
    fn new(own: &'a [OwnRules]) -> Self {
        Self { own: own.iter().map(|own| (own.org_path.as_str(), &own.rules)).collect(), default: Rules::default() }
    }

    /// Of an organization: its own, or those of the nearest above it.
    fn of(&self, org_path: &str) -> &Rules {
        let mut path = org_path;
        loop {
            if let Some(rules) = self.own.get(path) {
                return rules;
            }
            let above = path.trim_end_matches('/').rfind('/');
            match above {
                Some(end) if end > 0 => path = path.get(..=end).unwrap_or_default(),
                Some(_) | None => return &self.default,
            }
        }
    }
}

/// What is to be kept of a terminal from now on.
pub(super) fn judged(visit: &Visit, rules: &Rules, now: Now) -> Care {
    let before = &visit.care;
    let windows = match &visit.report {
        Some(check_in) => before.windows.with(check_in, visit.check_ins, rules, now.0),
        None => before.windows,
    };
    // Nothing is written of a terminal without errors each time it calls.
    let windows = if windows.is_empty() { Windows::default() } else { windows };
    let tags: Vec<&str> = visit.tags.split(',').filter(|tag| !tag.is_empty()).collect();
    let device = visit.report.as_ref().map(|check_in| &check_in.device);
    let facts = Facts {
        model: &visit.model,
        tags: &tags,
        since_ms: visit.since_ms,
        inspected_at_ms: before.inspected_at_ms,
        last_seen_ms: visit.last_seen_ms,
        tamper: device.and_then(|device| device.tamper),
        coin_mv: device.and_then(|device| device.coin_mv),
        certificate_expires_ms: device.and_then(|device| device.certificate_expires_ms),
        sim_expires_ms: visit.sim_expires_ms,
        place: device.and_then(|device| device.geohash6.as_deref()),
        inspected_place: before.inspected_place.as_deref(),
    };
    let findings = if visit.is_in_field {
        due::judge(&due::remember(facts, &before.findings), &windows, rules, now.0)
    } else {
        Vec::new()
    };
    Care { findings, windows, org_path: visit.org_path.clone(), ..before.clone() }
}

/// Where a terminal is, as its last report says.
pub(super) fn place_of(visit: &Visit) -> Option<String> {
    visit.report.as_ref().and_then(|check_in| check_in.device.geohash6.clone())
}

fn write(conn: &mut Conn, step: &Step, now: Now) -> Result<(), db::Error> {
    let next = serde_json::to_string(&step.next).unwrap_or_default();
    if !passes::move_cursor(conn, NAME, step.version, &next)? {
        // Another server was faster: this step is done.
        return Ok(());
    }
    let orders = orders_for(conn, step, now)?;
    for (visit, care) in step.visits.iter().zip(&step.cares) {
        if is_news(&visit.care, care) {
            care::save(conn, visit.terminal_id, care, now.0)?;
        }
    }
    fleet::note_certificates(conn, &step.certificates)?;
    guidance::count_attempts(conn, &step.visits, now)?;
    for (id, org_path, action, detail) in orders {
        let object_id = id.to_string();
        let deed = Deed { action, object_kind: "work_order", object_id, org_path: &org_path, detail };
        audit::append(conn, &Actor::system(NAME), &deed, now)?;
    }
    Ok(())
}

/// Whether there is something to write: a healthy terminal has no row until something happens to it.
fn is_news(before: &Care, after: &Care) -> bool {
    let is_nothing = before.version == 0 && after.findings.is_empty() && after.windows == Windows::default();
    !is_nothing && before != after
}

/// An order that was opened or withdrawn, for the audit log.
type Told = (i64, String, &'static str, serde_json::Value);

fn orders_for(conn: &mut Conn, step: &Step, now: Now) -> Result<Vec<Told>, db::Error> {
    let mut told = Vec::new();
    let mut gone: Vec<(i64, Reason)> = Vec::new();
    let mut asked: Vec<(&Visit, Opening)> = Vec::new();
    for ((visit, care), wanted) in step.visits.iter().zip(&step.cares).zip(&step.wanted) {
        let had = |reason: Reason| visit.care.findings.iter().any(|finding| finding.reason == reason);
        let has = |reason: Reason| care.findings.iter().any(|finding| finding.reason == reason);
        gone.extend(
            Reason::ALL
                .into_iter()
                .filter(|reason| reason.may_vanish() && had(*reason) && !has(*reason))
                .map(|reason| (visit.terminal_id, reason)),
        );
        let findings = care.findings.iter().filter(|finding| wanted.contains(&finding.reason));
        asked.extend(findings.map(|finding| (visit, Opening::of_finding(visit.terminal_id, &visit.org_path, finding))));
    }
    for (terminal_id, reason) in gone {
        told.extend(orders::withdraw(conn, terminal_id, reason, now)?);
    }
    let terminals: Vec<i64> = asked.iter().map(|(visit, _)| visit.terminal_id).collect();
    let known: HashSet<(i64, String)> = store::orders::keys_of(conn, &terminals)?;
    for (visit, opening) in asked {
        // What a person closed or cancelled while the finding stayed is not opened again; what comes anew is.
        let is_new = !visit.care.findings.iter().any(|finding| Some(finding.reason) == opening.reason);
        if is_new || !known.contains(&(visit.terminal_id, opening.dedup_key.clone())) {
            told.extend(orders::open_by_rule(conn, &opening, now)?);
        }
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_organization_with_thresholds_decides() {
        let own = |path: &str, days: u32| OwnRules {
            organization_id: 1,
            org_path: path.to_owned(),
            rules: Rules { inspection_days: days, ..Rules::default() },
            changed_by: String::new(),
            changed_at_ms: 0,
            version: 1,
        };
        let own = [own("/1/", 100), own("/1/4/", 50)];
        let nearest = Nearest::new(&own);
        for (path, days) in [("/1/4/17/", 50), ("/1/4/", 50), ("/1/40/", 100), ("/1/", 100), ("/2/", 180), ("", 180)] {
            assert_eq!(nearest.of(path).inspection_days, days, "{path}");
        }
    }
}
