//! The fleet's rules: what no single terminal shows. A bank that is down, an area or a carrier, a pool of SIM cards, one
//! bad terminal among its like, many that fell silent, what runs out, merchants settled under other numbers.
//!
//! A pass reads what check-ins left behind (a bounded piece of it), judges by pure functions ([`rules`]) and writes what it
//! finds: a finding, and an incident unless it is only for information. It takes no input, is idempotent and never
//! retries. Nothing here locks, unbinds or rolls back anything. What it does by itself: it folds incidents under the one
//! that explains them, asks the affected terminals on WiFi or cable to call in more often for an hour, and says when
//! something is not seen any more.

pub mod boost;
mod days;
mod expiry;
pub mod http;
pub mod kpis;
pub mod rules;
mod silence;
pub mod sims;
pub mod statistics;
mod store;
mod switches;
mod window;

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};
use serde::Serialize;
use serde_json::{Value, json};

use crate::clock::Now;
use crate::db::{self, Conn, Db};
use crate::failures::incidents::{self, Kind, Level, NewIncident};
use crate::operators::Scope;
use rules::{Reason, Rule, Verdict};
use statistics::Baseline;
pub use switches::{MERCHANTS_MAX, MerchantSwitches, SplitFound, WINDOW_MS, switches};

/// A pass runs this often, ms.
pub const INTERVAL_MS: i64 = 60_000;
/// What runs out is looked for this often, ms.
const EXPIRY_INTERVAL_MS: i64 = 3_600_000;
/// Settlements are looked through this often, ms.
const SWITCHES_INTERVAL_MS: i64 = 3_600_000;
/// Without a pass for longer than this no server ran, ms.
const AWAY_MS: i64 = 10 * 60_000;
/// Name of the rules among the passes.
const RULES: &str = "rules";
const DAY_MS: i64 = 86_400_000;
const HOUR_MS: i64 = 3_600_000;

/// What a rule said last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = FleetRule)]
pub struct RuleState {
    /// `B1` to `B6`, `offline`, `blocked` or `expiry`.
    pub rule: String,
    /// When, Unix ms.
    pub judged_at_ms: i64,
    /// `hit`, `info`, `clear` or `insufficient`.
    pub verdict: String,
    /// What it lacks to judge: `history`, `terminals`, `peers`, `attempts` or `compared`.
    pub missing: Option<String>,
}

/// What a rule found, over the time that it was seen.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
#[schema(as = FleetFinding)]
pub struct Finding {
    /// Its number.
    pub id: i64,
    /// `B1` to `B6`, `offline`, `blocked` or `expiry`.
    pub rule: String,
    /// Path of the lowest organization that contains all of it.
    pub org_path: String,
    /// What it is about.
    pub subject: String,
    /// `hit`, or `info` for what is expected at that hour.
    pub verdict: String,
    /// Terminals concerned.
    pub affected: i64,
    /// What was seen, the latest.
    #[schema(value_type = Object)]
    pub evidence: Value,
    /// The incident that it became.
    pub incident_id: Option<i64>,
    /// Unix ms.
    pub first_seen_ms: i64,
    /// Unix ms.
    pub last_seen_ms: i64,
    /// Since when it is not seen any more, Unix ms.
    pub ended_at_ms: Option<i64>,
}

/// Something that a rule found just now.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Which rule.
    pub rule: Rule,
    /// `hit` or `info`.
    pub verdict: &'static str,
    /// What it becomes.
    pub kind: Kind,
    /// How urgent it is.
    pub level: Level,
    /// The same thing has the same key.
    pub key: String,
    /// What people call it.
    pub subject: String,
    /// The lowest organization that contains all of it.
    pub org_path: String,
    /// What was seen.
    pub evidence: Value,
    /// Terminals concerned.
    pub terminal_ids: Vec<i64>,
    /// How many.
    pub affected: u64,
}

/// Whether this server runs the pass that is due at `now`: of several one gets it. Notes when passes begin again after no
/// server ran for a while: silence says nothing about terminals then.
///
/// # Errors
/// [`db::Error`].
pub async fn claim(db: &Db, now: Now) -> Result<bool, db::Error> {
    db.write(move |conn| {
        let (before_ms, _) = store::progress(conn, RULES)?;
        let is_ours = store::claim(conn, RULES, INTERVAL_MS * 3 / 4, now)?;
        if is_ours && now.0.saturating_sub(before_ms) > AWAY_MS {
            store::resume(conn, RULES, now)?;
        }
        Ok(is_ours)
    })
    .await
}

/// One pass at `now`, in the time zone of this IANA name. A part that fails does not keep the others from going on; the next
/// pass finds again what it left.
///
/// # Errors
/// The first [`db::Error`].
pub async fn pass(db: &Db, now: Now, zone: &str) -> Result<(), db::Error> {
    let zone = time_zone(zone);
    let offset_ms = offset_ms(&zone, now.0);
    // Parents before what they mask.
    let done = [
        window::learn(db, now).await,
        window::outage(db, now, offset_ms).await,
        window::areas(db, now).await,
        silence::pools_and_offline(db, now).await,
        days::suspects(db, now, offset_ms).await,
        silence::barred(db, now).await,
        expiring(db, now).await,
        switched(db, now, &zone).await,
        subside(db, now).await,
    ];
    done.into_iter().collect()
}

async fn expiring(db: &Db, now: Now) -> Result<(), db::Error> {
    let is_due = db.write(move |conn| store::claim(conn, "expiry", EXPIRY_INTERVAL_MS, now)).await?;
    if is_due { expiry::look(db, now).await } else { Ok(()) }
}

async fn switched(db: &Db, now: Now, zone: &TimeZone) -> Result<(), db::Error> {
    let is_due = db.write(move |conn| store::claim(conn, "switches", SWITCHES_INTERVAL_MS, now)).await?;
    if is_due { switches::look(db, now, zone).await } else { Ok(()) }
}

/// The time zone of this IANA name. China has one fixed offset, whatever the machine knows of time zones.
fn time_zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap_or_else(|_| match name {
        "Asia/Shanghai" => TimeZone::fixed(Offset::constant(8)),
        _ => TimeZone::UTC,
    })
}

/// How far local time is ahead of UTC at this moment, ms.
fn offset_ms(zone: &TimeZone, at_ms: i64) -> i64 {
    Timestamp::from_millisecond(at_ms).map_or(0, |moment| i64::from(zone.to_offset(moment).seconds()) * 1_000)
}

/// Why, as evidence has it.
fn reasons(rule: Rule, reasons: &[Reason]) -> Value {
    let line = |reason: &Reason| {
        json!({
            "rule": rule.as_str(),
            "field": reason.field,
            "observed": reason.observed,
            "threshold": reason.threshold,
        })
    };
    Value::Array(reasons.iter().map(line).collect())
}

/// Notes what a rule said.
async fn note<T>(db: &Db, rule: Rule, verdict: &Verdict<T>, now: Now) -> Result<(), db::Error> {
    let (name, missing) = (verdict.as_str(), verdict.missing());
    db.write(move |conn| store::set_rule(conn, rule, name, missing, now)).await
}

/// Whether what was found is that of an open finding in the organization at `path`: the same thing stays with the people
/// who have it, as long as they see all of it. What runs out each organization is told of its own.
fn belongs(found: &Found, path: &str) -> bool {
    if found.rule == Rule::Expiry { found.org_path == path } else { found.org_path.starts_with(path) }
}

/// Writes what was found, in one transaction: the finding, the boost of its terminals, its incident. The incident comes
/// last, because the audit log's lock is the last that a transaction takes; its number is returned.
async fn report(db: &Db, found: Found, now: Now) -> Result<Option<i64>, db::Error> {
    db.write(move |conn| {
        let mut found = found;
        let open = store::open_about(conn, found.rule, &found.key)?;
        let same = open.into_iter().find(|(_, path)| belongs(&found, path));
        let id = match same {
            Some((id, path)) => {
                found.org_path = path;
                store::refresh(conn, id, &found, now)?;
                id
            }
            None => {
                let id = store::insert(conn, &found, now)?;
                // Where money arrives is nothing that a check-in shows sooner.
                if found.verdict == "hit" && found.rule != Rule::MerchantSwitch {
                    boost::begin(conn, &found.terminal_ids, now)?;
                }
                id
            }
        };
        if found.verdict != "hit" {
            return Ok(None);
        }
        let incident_id = incidents::open(conn, incident(found), now)?;
        store::set_incident(conn, id, incident_id)?;
        Ok(Some(incident_id))
    })
    .await
}

/// What was found before is there still, and nothing new of it came: the finding goes on, its incident stays as people left
/// it. Whether there was such a finding.
async fn keep(db: &Db, mut found: Found, now: Now) -> Result<bool, db::Error> {
    db.write(move |conn| {
        let open = store::open_about(conn, found.rule, &found.key)?;
        let same = open.into_iter().find(|(_, path)| belongs(&found, path));
        let Some((id, path)) = same else { return Ok(false) };
        found.org_path = path;
        store::refresh(conn, id, &found, now)?;
        Ok(true)
    })
    .await
}

fn incident(found: Found) -> NewIncident {
    NewIncident {
        kind: found.kind,
        level: found.level,
        org_path: found.org_path,
        key: found.key,
        subject: found.subject,
        evidence: found.evidence,
        rollout_id: None,
        release_id: None,
        terminal_ids: found.terminal_ids,
        affected: found.affected,
    }
}

/// Ends findings that were not seen for a while, and says so in their incidents. People resolve those.
async fn subside(db: &Db, now: Now) -> Result<(), db::Error> {
    for rule in Rule::ALL {
        let before_ms = now.0 - rule.quiet_ms();
        for quiet in db.read(move |conn| store::quiet(conn, rule, before_ms)).await? {
            db.write(move |conn| subside_one(conn, rule, quiet, now)).await?;
        }
    }
    Ok(())
}

fn subside_one(conn: &mut Conn, rule: Rule, quiet: store::Quiet, now: Now) -> Result<(), db::Error> {
    let Some(incident_id) = quiet.incident_id else { return store::end(conn, quiet.id, now).map(drop) };
    // Who is silent for longer than the rule looks back is silent all the same.
    if rule.is_of_silence() && store::silence::is_silent(conn, incident_id, quiet.first_seen_ms)? {
        return store::go_on(conn, quiet.id, now);
    }
    if store::end(conn, quiet.id, now)? {
        incidents::subside(conn, incident_id, now)?;
    }
    Ok(())
}

/// What each rule said last, by name.
///
/// # Errors
/// [`db::Error`].
pub fn rule_states(conn: &mut Conn) -> Result<Vec<RuleState>, db::Error> {
    store::rules(conn)
}

/// Findings of the scope, newest first, with numbers below `before`. What opens work orders reads those of
/// [`Rule::TerminalSuspect`].
///
/// # Errors
/// [`db::Error`].
pub fn findings(
    conn: &mut Conn,
    scope: &Scope,
    rule: Option<Rule>,
    before: Option<i64>,
    size: u32,
) -> Result<Vec<Finding>, db::Error> {
    store::list(conn, scope, rule, before, i64::from(size))
}

/// Notes within a batch of check-ins that terminals called which must not, in the order of their numbers.
///
/// # Errors
/// [`db::Error`].
pub fn note_barred(conn: &mut Conn, terminal_ids: &[i64], now: Now) -> Result<(), db::Error> {
    store::silence::note_barred(conn, terminal_ids, now)
}

/// Notes until when terminals' certificates hold: number and Unix ms, in the order of their numbers.
///
/// # Errors
/// [`db::Error`].
pub fn note_certificates(conn: &mut Conn, rows: &[(i64, i64)]) -> Result<(), db::Error> {
    store::expiry::note_certificates(conn, rows)
}
