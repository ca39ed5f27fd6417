//! Single terminals, day by day (B5). A day lies between two tallies of the terminals' own counters.

use std::collections::{BTreeMap, HashMap};

use serde_json::json;

use super::rules::suspect::{self, Day, Suspect};
use super::rules::{Missing, Rule, Verdict};
use super::{DAY_MS, Found, HOUR_MS, note, reasons, report, store};
use crate::clock::Now;
use crate::db::{self, Db};
use crate::failures::incidents::{Kind, Level};
use crate::maintenance::{self, ForIncident, Urgency, orders};

/// Two tallies further apart than this do not make a day, ms: the server was away.
const APART_MS_MAX: i64 = 36 * 3_600_000;
/// Findings are kept this long after their end, ms: thirteen months, as alerts are.
const FINDINGS_KEPT_MS: i64 = 396 * DAY_MS;
/// Suspects told in one day, those that stand out most.
const TOLD_MAX: usize = 200;

/// Once a local day: tallies the terminals' counters and judges the day that ended.
pub(super) async fn suspects(db: &Db, now: Now, offset_ms: i64) -> Result<(), db::Error> {
    let today = (now.0 + offset_ms).div_euclid(DAY_MS);
    let (tallied_at_ms, reached) = db.read(|conn| store::progress(conn, "days")).await?;
    if reached >= today {
        return Ok(());
    }
    let mut after = 0;
    while let Some(last) = db.write(move |conn| store::days::tally(conn, today, after)).await? {
        after = last;
    }
    if !db.write(move |conn| store::reach(conn, "days", reached, today, now)).await? {
        return Ok(());
    }
    if reached > 0 && now.0.saturating_sub(tallied_at_ms) <= APART_MS_MAX {
        judge(db, reached, today, tallied_at_ms, now).await?;
    }
    while db.write(move |conn| store::days::delete_old(conn, today)).await? > 0 {}
    while db.write(move |conn| store::delete_old(conn, now.0 - FINDINGS_KEPT_MS)).await? > 0 {}
    Ok(())
}

/// Terminals that are alike, and the day of each.
type Groups = BTreeMap<store::days::Kind, Vec<Day>>;

/// Slots since `from_ms` in which terminals failed by themselves, hour by hour: no slot is in two of them.
async fn failed(db: &Db, from_ms: i64, now: Now) -> Result<HashMap<i64, i64>, db::Error> {
    let mut failed: HashMap<i64, i64> = HashMap::new();
    let mut from_ms = from_ms;
    while from_ms < now.0 {
        let to_ms = (from_ms - from_ms.rem_euclid(HOUR_MS) + HOUR_MS).min(now.0);
        for (terminal_id, slots) in db.read(move |conn| store::days::failed(conn, from_ms, to_ms)).await? {
            *failed.entry(terminal_id).or_default() += slots;
        }
        from_ms = to_ms;
    }
    Ok(failed)
}

/// The day between two tallies, the first of them at `from_ms`: of all terminals, piece by piece.
async fn groups(db: &Db, day: i64, next: i64, from_ms: i64, now: Now) -> Result<Groups, db::Error> {
    let failed = failed(db, from_ms, now).await?;
    let count = |counts: &HashMap<i64, i64>, id: i64| counts.get(&id).copied().unwrap_or(0);
    let mut groups = Groups::new();
    let mut above = 0;
    while let Some((last, kinds)) = db.read(move |conn| store::days::kinds(conn, from_ms, above)).await? {
        let (before, after) = db
            .read(move |conn| {
                let before = store::days::tallies(conn, day, above, last)?;
                Ok::<_, db::Error>((before, store::days::tallies(conn, next, above, last)?))
            })
            .await?;
        for (terminal_id, kind) in kinds {
            let attempts = count(&after, terminal_id).saturating_sub(count(&before, terminal_id));
            let (attempts, failed) = (u64::try_from(attempts).unwrap_or(0), count(&failed, terminal_id));
            let failed = u64::try_from(failed).unwrap_or(0).min(attempts);
            groups.entry(kind).or_default().push(Day { terminal_id, attempts, failed });
        }
        above = last;
    }
    Ok(groups)
}

/// Judges the time between two tallies.
async fn judge(db: &Db, day: i64, next: i64, from_ms: i64, now: Now) -> Result<(), db::Error> {
    let groups = groups(db, day, next, from_ms, now).await?;
    let mut said: Verdict<()> =
        if groups.is_empty() { Verdict::Insufficient(Missing::Terminals) } else { Verdict::Clear };
    let mut found: Vec<(Suspect, [String; 3])> = Vec::new();
    let mut judged = 0;
    for (kind, days) in groups {
        match suspect::judge(&days) {
            Verdict::Hit(suspects) => {
                judged += 1;
                found.extend(suspects.into_iter().map(|suspect| (suspect, kind.clone())));
            }
            Verdict::Insufficient(missing) if judged == 0 => said = Verdict::Insufficient(missing),
            Verdict::Insufficient(_) => {}
            Verdict::Info(_) | Verdict::Clear => judged += 1,
        }
    }
    if judged > 0 {
        said = if found.is_empty() { Verdict::Clear } else { Verdict::Hit(()) };
    }
    note(db, Rule::TerminalSuspect, &said, now).await?;
    found.sort_by(|one, other| other.0.z.total_cmp(&one.0.z));
    found.truncate(TOLD_MAX);
    tell(db, found, day, now).await
}

/// Notes the day for each, and tells of those that stood out on another day as well.
async fn tell(db: &Db, found: Vec<(Suspect, [String; 3])>, day: i64, now: Now) -> Result<(), db::Error> {
    let ids: Vec<i64> = found.iter().map(|(suspect, _)| suspect.day.terminal_id).collect();
    let named = db.read(move |conn| store::days::named(conn, &ids)).await?;
    for (suspect, kind) in found {
        let id = suspect.day.terminal_id;
        let days = db
            .write(move |conn| {
                store::days::suspect(conn, id, day)?;
                store::days::suspicions(conn, id)
            })
            .await?;
        let Some((sn, org_path)) = named.get(&id).filter(|_| suspect::persists(&days, day)) else { continue };
        let [model, firmware, carrier] = kind;
        let recent = days.iter().filter(|each| **each > day - suspect::DAYS_OF).count();
        let found = Found {
            rule: Rule::TerminalSuspect,
            verdict: "hit",
            kind: Kind::TerminalSuspect,
            level: Level::P3,
            key: format!("terminal:{id}"),
            subject: sn.clone(),
            org_path: org_path.clone(),
            evidence: json!({
                "reasons": reasons(Rule::TerminalSuspect, &suspect.reasons),
                "attempts": suspect.day.attempts,
                "failed": suspect.day.failed,
                "median": suspect.median,
                "peers": suspect.peers,
                "days": recent,
                "model": model,
                "firmware": firmware,
                "carrier": carrier,
            }),
            terminal_ids: vec![id],
            affected: 1,
        };
        if let Some(incident_id) = report(db, found, now).await? {
            look_at(db, id, incident_id, now).await?;
        }
    }
    Ok(())
}

/// Asks for somebody to look at the terminal, once for its incident. In a transaction of its own: the incident's has the
/// audit log's lock, and nothing is waited for under that. What is cut off in between is asked for the next day.
async fn look_at(db: &Db, terminal_id: i64, incident_id: i64, now: Now) -> Result<(), db::Error> {
    db.write(move |conn| {
        let (kind, urgency) = (orders::Kind::Repair, Urgency::Soon);
        let asked = ForIncident { terminal_id, incident_id, kind, reason: None, urgency, note: "" };
        maintenance::open_for_incident(conn, &asked, now).map(drop)
    })
    .await
}
