//! What happened lately: the bank (B1) and places (B2); and what is usual, learnt hour by hour.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::Deserialize;
use serde_json::json;
use tillward_protocol::condition::Condition;

use super::rules::area::{self, Field, Place, Seen};
use super::rules::outage::{self, CODES, Failed};
use super::rules::{Rule, Verdict, common_path, slot};
use super::statistics::as_f64;
use super::{DAY_MS, Found, HOUR_MS, note, reasons, report, store};
use crate::clock::Now;
use crate::db::{self, Conn, Db};
use crate::failures::incidents::{Kind, Level};
use crate::failures::onset;

/// Name of the bank's codes in the baselines.
const BANK: &str = "bank";
/// Hours learnt in one pass.
const HOURS_LEARNT: usize = 48;
/// How far back what is usual is learnt when there is nothing yet, ms: four weeks.
const LEARN_BACK_MS: i64 = 28 * DAY_MS;
/// Attempts of an hour below which it says nothing.
const ATTEMPTS_LEARNT: u64 = 30;
/// Of the running hour at least this much is looked at, else the one before it as well, ms.
const WINDOW_MS_MIN: i64 = 15 * 60_000;
/// Hours of the week that must be known for the highest of them to stand for one that is not.
const HOURS_KNOWN_MIN: usize = 24;
/// Terminals seen within this time are looked at for places, ms: those on SIM cards call hourly.
const SEEN_MS: i64 = 65 * 60_000;
/// What happened longer ago than this before it was received says nothing about now, ms.
const LATE_MS: i64 = 2 * HOUR_MS;

/// One failure of the window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub terminal_id: i64,
    pub received_at_ms: i64,
    pub occurred_at_ms: i64,
    pub stage: String,
    pub response_code: Option<String>,
    pub access: String,
    pub carrier: String,
    pub region: String,
    pub org_path: String,
}

impl Failure {
    fn is_the_banks(&self) -> bool {
        match self.response_code.as_deref() {
            Some(code) => CODES.contains(&code),
            None => self.stage == "wait",
        }
    }

    /// Whether it is of now: not handed in by a terminal that was cut off for hours.
    fn is_recent(&self) -> bool {
        self.received_at_ms.saturating_sub(self.occurred_at_ms) <= LATE_MS
    }

    /// The carrier, or the access of what has no part in one; empty when not known.
    fn way(&self) -> String {
        let way = match self.access.as_str() {
            "wifi" | "eth" | "bt_phone" => &self.access,
            _ => &self.carrier,
        };
        if way == "unknown" { String::new() } else { way.clone() }
    }
}

/// One terminal as it called last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    pub terminal_id: i64,
    pub last_seen_ms: i64,
    pub org_path: String,
    pub region: Option<String>,
    pub report: String,
}

/// Hour of the week, 0 to 167, as Unix time began.
fn hour_of_week(hour_ms: i64) -> i64 {
    (hour_ms / HOUR_MS).rem_euclid(168)
}

/// Folds hours that are over into what is usual, each once.
pub(super) async fn learn(db: &Db, now: Now) -> Result<(), db::Error> {
    for _ in 0..HOURS_LEARNT {
        let is_more = db.write(move |conn| learn_one(conn, now)).await?;
        if !is_more {
            break;
        }
    }
    Ok(())
}

/// Folds one hour; whether there may be more.
fn learn_one(conn: &mut Conn, now: Now) -> Result<bool, db::Error> {
    let (_, reached) = store::progress(conn, "hours")?;
    let from_ms = reached.max(now.hour_ms() - LEARN_BACK_MS);
    let Some(hour_ms) = store::window::first_hour(conn, from_ms)?.filter(|hour_ms| *hour_ms < now.hour_ms()) else {
        return Ok(false);
    };
    if !store::reach(conn, "hours", reached, hour_ms + HOUR_MS, now)? {
        return Ok(false);
    }
    let attempts = store::window::attempts(conn, hour_ms)?;
    if attempts >= ATTEMPTS_LEARNT && !store::window::had_outage(conn, hour_ms)? {
        let failed = store::window::failed_slots(conn, hour_ms)?;
        let hour = hour_of_week(hour_ms);
        let usual = store::baseline(conn, BANK, hour)?.folded(failed, attempts);
        store::set_baseline(conn, BANK, hour, usual)?;
    }
    Ok(true)
}

/// Start of the window in which the bank is judged: whole hours, as attempts are counted by the hour.
fn window_from_ms(now: Now) -> i64 {
    let hour_ms = now.hour_ms();
    if now.0 - hour_ms >= WINDOW_MS_MIN { hour_ms } else { hour_ms - HOUR_MS }
}

/// What is usually to be expected of the window, and how that is known.
fn expected(conn: &mut Conn, from_ms: i64, now: Now) -> Result<Option<(f64, &'static str)>, db::Error> {
    let (mut sum, mut attempts, mut is_known) = (0.0, 0, true);
    let mut hour_ms = from_ms;
    while hour_ms <= now.hour_ms() {
        let of_hour = store::window::attempts(conn, hour_ms)?;
        match store::baseline(conn, BANK, hour_of_week(hour_ms))?.expected(of_hour) {
            Some(usual) => sum += usual,
            None => is_known = false,
        }
        attempts += of_hour;
        hour_ms += HOUR_MS;
    }
    if is_known {
        return Ok(Some((sum, "weeks")));
    }
    // In the first weeks the worst of the hours seen so far stands for all: it finds less, and nothing that is not there.
    let (hours, rate) = store::highest(conn, BANK)?;
    Ok((hours >= HOURS_KNOWN_MIN).then(|| (rate * as_f64(attempts), "highest")))
}

/// B1.
pub(super) async fn outage(db: &Db, now: Now, offset_ms: i64) -> Result<(), db::Error> {
    let from_ms = window_from_ms(now);
    let (failures, expected, terminals) = db
        .read(move |conn| {
            let failures = store::window::failed(conn, from_ms)?;
            let expected = expected(conn, from_ms, now)?;
            Ok::<_, db::Error>((failures, expected, store::window::count_seen(conn, now.0 - DAY_MS)?))
        })
        .await?;
    let mut slots: BTreeMap<(i64, i64), &Failure> = BTreeMap::new();
    for failure in failures.iter().filter(|failure| failure.is_the_banks() && failure.is_recent()) {
        slots.entry((failure.terminal_id, slot(failure.received_at_ms))).or_insert(failure);
    }
    let failed: Vec<Failed> = slots
        .values()
        .map(|failure| Failed {
            terminal_id: failure.terminal_id,
            code: failure.response_code.clone(),
            way: failure.way(),
            region: failure.region.clone(),
        })
        .collect();
    let minute = (now.0 + offset_ms).rem_euclid(DAY_MS) / 60_000;
    let verdict =
        outage::judge(outage::Input { failed: &failed, expected: expected.map(|known| known.0), terminals, minute });
    note(db, Rule::BankOutage, &verdict, now).await?;
    let name = verdict.as_str();
    let (Verdict::Hit(found) | Verdict::Info(found)) = verdict else { return Ok(()) };
    let ids: HashSet<i64> = found.terminal_ids.iter().copied().collect();
    // The first of each slot: failures come newest first.
    let mut moments: BTreeMap<(i64, i64), i64> = BTreeMap::new();
    for failure in failures.iter().filter(|failure| failure.is_the_banks() && failure.is_recent()) {
        moments.insert((failure.terminal_id, slot(failure.received_at_ms)), failure.received_at_ms);
    }
    let moments: Vec<(i64, i64)> = moments.into_values().map(|at_ms| (at_ms, 1)).collect();
    let hit = failures.iter().filter(|failure| ids.contains(&failure.terminal_id));
    let found = Found {
        rule: Rule::BankOutage,
        verdict: name,
        kind: Kind::BankOutage,
        level: Level::P2,
        key: "bank".to_owned(),
        subject: found.codes.join(" · "),
        org_path: common_path(hit.map(|failure| failure.org_path.as_str())),
        evidence: json!({
            "reasons": reasons(Rule::BankOutage, &found.reasons),
            "began_at_ms": onset::onset(&moments, (from_ms, now.0), found.expected),
            "failures": found.failed,
            "expected": found.expected,
            "baseline": expected.map(|known| known.1),
            "outcomes": found.codes,
            "ways": found.ways,
            "regions": found.regions,
        }),
        affected: u64::try_from(found.terminal_ids.len()).unwrap_or(u64::MAX),
        terminal_ids: found.terminal_ids,
    };
    report(db, found, now).await.map(drop)
}

/// The part of a report that says where a terminal is and whether it had payments.
#[derive(Debug, Default, Deserialize)]
struct Report {
    #[serde(default)]
    condition: Condition,
    #[serde(default)]
    transactions: Counters,
}

#[derive(Debug, Default, Deserialize)]
struct Counters {
    #[serde(default)]
    ok: u32,
    #[serde(default)]
    failed: u32,
}

/// Where a terminal was when it called last.
fn places(condition: &Condition, region: Option<&str>) -> Vec<Place> {
    let plmn = condition.plmn.as_deref();
    let with_operator = |number: Option<u64>| Some(format!("{}-{}", plmn?, number?));
    let places = [
        (Field::Bssid, condition.bssid_hash.clone()),
        (Field::Cell, with_operator(condition.cell_id)),
        (Field::Tac, with_operator(condition.tac.map(u64::from))),
        (Field::Plmn, plmn.map(str::to_owned)),
        (Field::Region, region.filter(|region| !region.is_empty() && *region != "unknown").map(str::to_owned)),
    ];
    places.into_iter().filter_map(|(field, value)| Some((field, value?))).collect()
}

/// B2. A terminal counts once, by its latest check-in: where it was and whether a payment did not get through are both of
/// that one, or places whose terminals call more often would look worse.
pub(super) async fn areas(db: &Db, now: Now) -> Result<(), db::Error> {
    let from_ms = now.0 - SEEN_MS;
    let failures = db.read(move |conn| store::window::failed(conn, from_ms)).await?;
    let unreached: HashSet<(i64, i64)> = failures
        .iter()
        .filter(|failure| failure.response_code.is_none() && failure.is_recent())
        .map(|failure| (failure.terminal_id, failure.received_at_ms))
        .collect();
    let terminals: BTreeSet<i64> = unreached.iter().map(|(id, _)| *id).collect();
    if u64::try_from(terminals.len()).unwrap_or(u64::MAX) < area::FAILING_MIN {
        return note(db, Rule::AreaOutage, &Verdict::<()>::Clear, now).await;
    }
    let states = db.read(move |conn| store::window::seen(conn, from_ms)).await?;
    let mut seen = Vec::new();
    for state in &states {
        let failed = unreached.contains(&(state.terminal_id, state.last_seen_ms));
        let report: Report = serde_json::from_str(&state.report).unwrap_or_default();
        if failed || report.transactions.ok > 0 || report.transactions.failed > 0 {
            let places = places(&report.condition, state.region.as_deref());
            seen.push(Seen { terminal_id: state.terminal_id, failed, places });
        }
    }
    let verdict = area::judge(&seen);
    note(db, Rule::AreaOutage, &verdict, now).await?;
    let Verdict::Hit(areas) = verdict else { return Ok(()) };
    let mut first: HashMap<i64, i64> = HashMap::new();
    for failure in failures.iter().filter(|failure| failure.response_code.is_none() && failure.is_recent()) {
        let at_ms = first.entry(failure.terminal_id).or_insert(failure.received_at_ms);
        *at_ms = failure.received_at_ms.min(*at_ms);
    }
    let paths: HashMap<i64, &str> = states.iter().map(|state| (state.terminal_id, state.org_path.as_str())).collect();
    for area in areas {
        let began_at_ms = area.terminal_ids.iter().filter_map(|id| first.get(id)).min().copied();
        report(db, found_area(area, began_at_ms, &paths), now).await?;
    }
    Ok(())
}

fn found_area(area: area::Area, began_at_ms: Option<i64>, paths: &HashMap<i64, &str>) -> Found {
    let (field, value) = &area.place;
    let of_terminals = area.terminal_ids.iter().filter_map(|id| paths.get(id).copied());
    let shown: String = value.chars().take(24).collect();
    let also: Vec<String> = area.also.iter().map(|(field, value)| format!("{} {value}", field.as_str())).collect();
    let table = area.table;
    Found {
        rule: Rule::AreaOutage,
        verdict: "hit",
        kind: Kind::AreaOutage,
        level: Level::P2,
        key: format!("area:{}:{value}", field.as_str()),
        subject: format!("{} {shown}", field.as_str()),
        org_path: common_path(of_terminals.filter(|path| !path.is_empty())),
        evidence: json!({
            "reasons": reasons(Rule::AreaOutage, &area.reasons),
            "began_at_ms": began_at_ms,
            "place": field.as_str(),
            "value": value,
            "lift": area.ratio,
            "also": also,
            "groups": [
                {"group": "in", "failed": table.hit_in, "started": table.hit_in + table.spared_in},
                {"group": "out", "failed": table.hit_out, "started": table.hit_out + table.spared_out},
            ],
        }),
        affected: table.hit_in,
        terminal_ids: area.terminal_ids,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_has_whole_hours_and_at_least_a_quarter_of_one() {
        let hour = 1_790_000_000_000 / HOUR_MS * HOUR_MS;
        assert_eq!(window_from_ms(Now(hour + WINDOW_MS_MIN)), hour);
        assert_eq!(window_from_ms(Now(hour + WINDOW_MS_MIN - 1)), hour - HOUR_MS);
    }

    #[test]
    fn hours_of_the_week_come_round() {
        assert_eq!(hour_of_week(0), 0);
        assert_eq!(hour_of_week(168 * HOUR_MS), 0);
        assert_eq!(hour_of_week(167 * HOUR_MS), 167);
    }

    #[test]
    fn a_place_without_its_operator_is_none() {
        let bare = Condition { cell_id: Some(7), ..Condition::default() };
        assert_eq!(places(&bare, Some("unknown")), []);
        let whole =
            Condition { plmn: Some("46000".to_owned()), cell_id: Some(7), tac: Some(3), ..Condition::default() };
        let named: Vec<String> = places(&whole, Some("3101")).into_iter().map(|(_, value)| value).collect();
        assert_eq!(named, ["46000-7", "46000-3", "46000", "3101"]);
    }
}
