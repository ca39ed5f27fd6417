//! Scans that nobody asked for: every few minutes, for the whole fleet and for each reseller, all failures, the technical
//! ones, and the most frequent outcomes by themselves. What is found is kept and opens an incident; the same conditions
//! found again add to it, and what is not found any more is said to be over. A set that is found for the whole fleet
//! belongs to headquarters and is not told to each reseller as well.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Value, json};

use super::explain::{Condition, Counts, Explanation, Hours, Overview};
use super::incidents::{self, Kind, Level, NewIncident};
use super::question::{Class, Group, Question};
use super::{localize, store};
use crate::clock::Now;
use crate::db::{self, Conn, Db, settings};
use crate::operators::Scope;

/// A scan starts this often, ms.
pub const WATCH_INTERVAL_MS: i64 = 5 * 60_000;
/// Scans a day: what a false alarm a day is reckoned from.
const SCANS_PER_DAY: u32 = 288;
/// Window, hours: short enough that a fault shows within minutes, long enough that a small fleet has failures in it.
const WINDOW_HOURS: u32 = 3;
/// Outcomes that are looked at by themselves, besides all failures and the technical ones.
const OUTCOMES: usize = 3;
/// Fewer failures explain nothing.
const FAILURES_MIN: i64 = 5;
/// Organizations that are looked at in one pass, those with the most failures first.
const ORGANIZATIONS_MAX: usize = 200;
/// A set opens an incident if it is the first or covers this share of the excess.
const COVERAGE_MIN: f64 = 0.25;
/// What was found is kept this long, ms: a quarter of a year.
const KEPT_MS: i64 = 92 * 86_400_000;
/// A rise that was not seen for so long is over by all that is known, ms: a dozen scans, because one that wavers around
/// what chance would bring is not over each time that it is missed.
const QUIET_MS: i64 = 3_600_000;
/// A scan that is later than this, ms, comes after a time without any.
const AWAY_MS: i64 = 2 * WATCH_INTERVAL_MS;
/// Name of the pass.
const PASS: &str = "explain";
/// Setting with the time of the first scan after a time without any.
const RESUMED: &str = "explain.resumed";

/// What an unattended scan found.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Found {
    /// Number.
    pub id: i64,
    /// Path of the organization whose terminals were looked at.
    pub org_path: String,
    /// Which failures: an outcome (`code:91`), `technical`, or empty for all.
    pub class: String,
    /// Start of the window, Unix ms.
    pub from_ms: i64,
    /// End of the window, Unix ms.
    pub to_ms: i64,
    /// The answer as it was then.
    #[schema(value_type = Object)]
    pub report: Value,
}

/// What unattended scans found within the scope, newest first, before the number `before`.
///
/// # Errors
/// [`db::Error`].
pub fn found(conn: &mut Conn, scope: &Scope, before: Option<i64>, size: u32) -> Result<Vec<Found>, db::Error> {
    store::found(conn, scope, before, i64::from(size))
}

/// Deletes what was found long ago, in small transactions; returns how much.
///
/// # Errors
/// [`db::Error`]; what was deleted before stays deleted.
pub async fn sweep(db: &Db, now: Now) -> Result<usize, db::Error> {
    let mut deleted = 0;
    loop {
        let step = db.write(move |conn| store::delete_found(conn, now.0 - KEPT_MS)).await?;
        if step == 0 {
            return Ok(deleted);
        }
        deleted += step;
    }
}

/// Scans if it is time to, on one server only; returns how many incidents it opened or added to.
///
/// # Errors
/// [`db::Error`]; the next pass starts anew.
pub async fn watch(db: &Db, now: Now) -> Result<usize, db::Error> {
    let next_ms = now.0.saturating_add(WATCH_INTERVAL_MS);
    let claim = move |conn: &mut Conn| {
        let due_ms = store::claim_pass(conn, PASS, now.0, next_ms)?;
        if due_ms.is_some_and(|due_ms| now.0.saturating_sub(due_ms) > AWAY_MS) {
            settings::set(conn, RESUMED, &now.0.to_string())?;
        }
        Ok::<_, db::Error>(due_ms.is_some())
    };
    if !db.write(claim).await? {
        return Ok(0);
    }
    let from_ms = now.hour_ms() + 3_600_000 - i64::from(WINDOW_HOURS) * 3_600_000;
    let failing = db.read(move |conn| store::failing_organizations(conn, from_ms)).await?;
    let (tops, mut passed_over) = tops(failing);
    let under_way = db.read(|conn| incidents::classes(conn, Kind::FailureRise)).await?;
    let organizations = u32::try_from(tops.len()).unwrap_or(u32::MAX);
    let at_most = u32::try_from(OUTCOMES + 2).unwrap_or(u32::MAX);
    let gain_min = localize::gain_min_unattended(SCANS_PER_DAY.saturating_mul(organizations), at_most);
    let mut known = BTreeSet::new();
    let mut seen: Vec<(Scope, BTreeSet<String>)> = Vec::new();
    let mut opened = 0;
    for path in tops {
        let scope = Scope::subtree(path.clone());
        let mut seen_here = BTreeSet::new();
        let all = scan(db, &scope, None, gain_min, now).await?;
        let classes = classes(&all, under_way.iter().filter(|(of, _)| *of == path).map(|(_, class)| class));
        let mut reports = vec![(String::new(), all)];
        for class in classes {
            let report = scan(db, &scope, Some(class.clone()), gain_min, now).await?;
            reports.push((class.name(), report));
        }
        // Where all fails at once no set stands out, and what was seen before is not over.
        if reports.iter().any(|(_, report)| report.is_fleet_wide) {
            passed_over.push(path.clone());
        }
        for (class, report) in reports {
            let new = incidents_of(&path, &class, &report, &mut known);
            seen_here.extend(keys(&report));
            if report.explanations.is_empty() && !report.is_fleet_wide {
                continue;
            }
            opened += new.len();
            let found = Found {
                id: 0,
                org_path: path.clone(),
                class,
                from_ms: report.from_ms,
                to_ms: report.to_ms,
                report: serde_json::to_value(&report).unwrap_or_default(),
            };
            db.write(move |conn| {
                store::insert_found(conn, &found)?;
                incidents::open_all(conn, new, now).map(drop)
            })
            .await?;
        }
        seen.push((scope, seen_here));
    }
    subside(db, seen, passed_over, now).await?;
    Ok(opened)
}

/// Says of rises that are not seen any more that they are over. What is seen still goes on, also where it is told of as a
/// part of something larger, under another name or to those above; what nobody looked at stays as it is.
async fn subside(
    db: &Db,
    seen: Vec<(Scope, BTreeSet<String>)>,
    passed_over: Vec<String>,
    now: Now,
) -> Result<(), db::Error> {
    for (scope, keys) in seen.into_iter().filter(|(_, keys)| !keys.is_empty()) {
        let keys: Vec<String> = keys.into_iter().collect();
        db.write(move |conn| incidents::go_on(conn, Kind::FailureRise, &scope, &keys, now)).await?;
    }
    let resumed = db.read(|conn| settings::get(conn, RESUMED)).await?.and_then(|text| text.parse::<i64>().ok());
    let before_ms = now.0 - QUIET_MS;
    // One scan after a time without any is not enough.
    if resumed.is_some_and(|resumed_ms| resumed_ms > before_ms) {
        return Ok(());
    }
    let unseen = db.read(move |conn| incidents::unseen(conn, Kind::FailureRise, before_ms, &passed_over)).await?;
    for id in unseen {
        db.write(move |conn| incidents::subside_unseen(conn, id, before_ms, now)).await?;
    }
    Ok(())
}

/// The classes that are looked at by themselves: the most frequent outcomes, those of rises under way that still occur, and
/// all that is technical where customers' cards were refused as well.
fn classes<'a>(all: &Overview, under_way: impl Iterator<Item = &'a String>) -> Vec<Class> {
    let mut names: Vec<&String> = all.outcomes.iter().take(OUTCOMES).map(|(outcome, _)| outcome).collect();
    for class in under_way {
        if !names.contains(&class) && all.outcomes.iter().any(|(outcome, _)| outcome == class) {
            names.push(class);
        }
    }
    let mut classes: Vec<Class> = names.into_iter().filter_map(|name| Class::parse(name)).collect();
    let technical = Class::Group(Group::Technical);
    let outcomes = technical.outcomes();
    let is_technical = |(outcome, _): &(String, i64)| outcomes.contains(outcome);
    if all.outcomes.iter().any(is_technical) && !all.outcomes.iter().all(is_technical) {
        classes.push(technical);
    }
    classes
}

async fn scan(db: &Db, scope: &Scope, class: Option<Class>, gain_min: f64, now: Now) -> Result<Overview, db::Error> {
    let scope = scope.clone();
    let question = Question { hours: WINDOW_HOURS, class, ..Question::default() };
    db.read(move |conn| Counts::read(conn, &scope, &question, Hours::OfDay, now)?.explain(conn, &scope, gain_min)).await
}

/// Headquarters first, then the resellers right below it, those with enough failures; and those for which there is no time.
fn tops(failing: Vec<(String, i64)>) -> (Vec<String>, Vec<String>) {
    let mut sums: BTreeMap<String, i64> = BTreeMap::new();
    for (path, failures) in failing {
        let mut top = String::from("/");
        for part in path.split('/').filter(|part| !part.is_empty()).take(2) {
            top.push_str(part);
            top.push('/');
            *sums.entry(top.clone()).or_default() += failures;
        }
    }
    let mut tops: Vec<(String, i64)> = sums.into_iter().filter(|(_, failures)| *failures >= FAILURES_MIN).collect();
    let depth = |path: &str| path.matches('/').count();
    tops.sort_by(|one, other| depth(&one.0).cmp(&depth(&other.0)).then(other.1.cmp(&one.1)).then(one.0.cmp(&other.0)));
    let mut tops: Vec<String> = tops.into_iter().map(|(path, _)| path).collect();
    let passed_over = tops.split_off(tops.len().min(ORGANIZATIONS_MAX));
    (tops, passed_over)
}

/// The incidents that a report is worth; what is in `known` is not told again.
fn incidents_of(path: &str, class: &str, report: &Overview, known: &mut BTreeSet<String>) -> Vec<NewIncident> {
    let mut new = Vec::new();
    for (rank, found) in report.explanations.iter().enumerate() {
        let is_headline = rank == 0 || found.coverage.is_some_and(|coverage| coverage >= COVERAGE_MIN);
        let key = key(found);
        if is_headline && known.insert(key.clone()) {
            new.push(incident(path, class, report, found, key));
        }
    }
    new
}

/// All sets that a report names, those that fit as well among them.
fn keys(report: &Overview) -> impl Iterator<Item = String> {
    report.explanations.iter().flat_map(|found| {
        let others = found.also_fits.iter().map(|(set, _)| key_of(set));
        std::iter::once(key(found)).chain(others)
    })
}

fn key(found: &Explanation) -> String {
    key_of(&found.all_of)
}

/// The same conditions have the same key, whatever they are called in the page's language.
fn key_of(conditions: &[Condition]) -> String {
    let parts = conditions.iter().map(|condition| format!("{}={}", condition.attribute, condition.value));
    parts.collect::<Vec<_>>().join(";")
}

/// `firmware=4.2.0 · access=2g`: the words are the reader's.
pub(super) fn named(conditions: &[Condition]) -> String {
    let parts = conditions.iter().map(|condition| format!("{}={}", condition.attribute, condition.value));
    parts.collect::<Vec<_>>().join(" · ")
}

fn incident(path: &str, class: &str, report: &Overview, found: &Explanation, key: String) -> NewIncident {
    let also_fits = found.also_fits.iter().map(|(set, overlap)| json!({"conditions": named(set), "coverage": overlap}));
    NewIncident {
        kind: Kind::FailureRise,
        level: Level::P2,
        org_path: path.to_owned(),
        key,
        subject: named(&found.all_of),
        evidence: json!({
            "class": class,
            "began_at_ms": found.began_at_ms,
            "conditions": found.all_of,
            "failures": found.failures,
            "exposures": found.exposures,
            "expected": found.expected,
            "lift": found.lift,
            "lift_low": found.lift_low,
            "lift_high": found.lift_high,
            "coverage": found.coverage,
            "unexplained": report.unexplained,
            "p_adjusted": found.p_adjusted,
            "baseline": report.mode,
            "without_one": found.without_one,
            "also_fits": also_fits.collect::<Vec<_>>(),
        }),
        rollout_id: None,
        release_id: None,
        terminal_ids: found.failing.iter().map(|terminal| terminal.id).collect(),
        affected: found.terminals,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headquarters_comes_first_and_only_those_with_failures_are_looked_at() {
        let failing = [("/1/5/", 3), ("/1/5/9/", 4), ("/1/6/", 2), ("/1/7/8/", 30), ("/1/", 1)];
        let failing = failing.map(|(path, failures)| (path.to_owned(), failures)).to_vec();
        assert_eq!(tops(failing).0, ["/1/", "/1/7/", "/1/5/"]);
        assert_eq!(tops(Vec::new()), (Vec::new(), Vec::new()));
    }

    #[test]
    fn the_technical_failures_are_looked_at_by_themselves_where_customers_cards_were_refused_as_well() {
        let looked_at = |outcomes: &[(&str, i64)], under_way: &[&str]| -> Vec<String> {
            let outcomes = outcomes.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
            let all = Overview { outcomes, ..nothing() };
            let under_way: Vec<String> = under_way.iter().map(|name| (*name).to_owned()).collect();
            classes(&all, under_way.iter()).iter().map(Class::name).collect()
        };
        let refused = [("code:51", 40), ("code:55", 9), ("code:91", 5), ("code:05", 4), ("stage:tls", 1)];
        assert_eq!(looked_at(&refused, &[]), ["code:51", "code:55", "code:91", "technical"]);
        assert_eq!(
            looked_at(&refused, &["stage:tls", "code:68", "technical"]),
            ["code:51", "code:55", "code:91", "stage:tls", "technical"]
        );
        assert_eq!(looked_at(&refused[2..3], &["technical"]), ["code:91"]);
        assert_eq!(looked_at(&refused[..2], &[]), ["code:51", "code:55"]);
        assert_eq!(looked_at(&[], &[]), Vec::<String>::new());
    }

    fn nothing() -> Overview {
        Overview {
            from_ms: 0,
            to_ms: 0,
            mode: "contrast".to_owned(),
            baseline_from_ms: 0,
            baseline_to_ms: 0,
            exposures: 0.0,
            failures: 0.0,
            expected: 0.0,
            explanations: Vec::new(),
            unexplained: None,
            suspected_terminals: Vec::new(),
            dropped_attributes: Vec::new(),
            phi: 1.0,
            fleet_lift: None,
            is_fleet_wide: false,
            outcomes: Vec::new(),
        }
    }

    #[test]
    fn who_is_passed_over_is_known() {
        let failing = (0..ORGANIZATIONS_MAX).map(|n| (format!("/1/{}/", n + 2), 5)).collect();
        let (tops, passed_over) = tops(failing);
        assert_eq!((tops.len(), passed_over.len()), (ORGANIZATIONS_MAX, 1));
        assert!(!tops.contains(&passed_over[0]));
    }
}
