//! Payments that one side alone knows: terminals reported them and channels kept silent, or the other way round. One that
//! both sides may mean is said once, and a channel that is late is not held against anybody before it has told.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::gather;
use super::matching::{self, DAY_MS, Event, Quality};
use super::pass::reported_item;
use super::store::{self, missing as sql};
use crate::clock::Now;
use crate::db::{self, Conn, Db, settings};
use crate::failures::classify::{Judgement, SettlementFacts, TerminalSide, judge_settlement};
use crate::failures::feed::store::Transaction;
use crate::failures::verdicts::{self, InForce, NewVerdict, Source};
use crate::terminals::bindings::{self, Binding};

/// Payments, and rows, of one step.
const BATCH: i64 = 200;
/// Payments that terminals reported are looked for so long after they were made, ms: files of channels come weekly. What
/// channels tell of later is looked for when they tell it.
const LOOKED_MS: i64 = 8 * DAY_MS;
/// What a channel told is looked through so long after it came, ms: the rest of its file is in, and compared, by then.
const SETTLED_MS: i64 = 3_600_000;
/// Settings with the places of both looks.
const BY_CLOCK: &str = "reconcile.reported";
const BY_TELLING: &str = "reconcile.told";

/// Says of payments that terminals reported and channels kept silent about, after the time of R11, that one side alone
/// knows them: a week after they were made, and of what channels tell of later than that, once they did. Only of terminals
/// that a channel told of before and afterwards: a feed that is late or absent proves nothing. `true` when there may be
/// more. Idempotent.
///
/// # Errors
/// [`db::Error`].
pub async fn look_for_missing(db: &Db, now: Now) -> Result<bool, db::Error> {
    let is_more = db.write(move |conn| by_clock(conn, now)).await?;
    Ok(db.write(move |conn| by_telling(conn, now)).await? || is_more)
}

/// Where the look by the clock has got: when, terminal, event.
type Place = (i64, i64, String);

fn by_clock(conn: &mut Conn, now: Now) -> Result<bool, db::Error> {
    if !store::leads(conn)? {
        return Ok(false);
    }
    let before = settings::get(conn, BY_CLOCK)?;
    let place: Place = before.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let reported = store::reported(conn, &place, now.0 - LOOKED_MS, BATCH)?;
    let Some((last, _)) = reported.last() else { return Ok(false) };
    let after: Place = (last.at_ms, last.terminal_id, last.event_id.clone());
    if sql::is_any_due(conn, &terminals_of(&reported), now)? {
        return Ok(false);
    }
    // First, because what is said goes to the audit log, whose lock is the last one that a transaction takes.
    settings::set(conn, BY_CLOCK, &serde_json::to_string(&after).unwrap_or_default())?;
    say(conn, &reported, now)?;
    Ok(i64::try_from(reported.len()).unwrap_or(0) == BATCH)
}

/// Where the look by what channels told has got: the rows up to this one (when it came, number), and of those after it the
/// payments of terminals up to this one (terminal, when, event).
type Told = ((i64, i64), (i64, i64, String));

/// Looks for the payments that a channel's rows have passed: they are a week old, and the other look was there before.
fn by_telling(conn: &mut Conn, now: Now) -> Result<bool, db::Error> {
    if !store::leads(conn)? {
        return Ok(false);
    }
    let before = settings::get(conn, BY_TELLING)?;
    let (rows_after, within): Told =
        before.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let rows = sql::told_after(conn, rows_after, now.0 - SETTLED_MS, BATCH)?;
    let Some(last) = rows.last().map(|row| (row.0, row.1)) else { return Ok(false) };
    let mut spans: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    for (_, _, terminal_id, at_ms) in &rows {
        if let Some(id) = terminal_id {
            let span = spans.entry(*id).or_insert((*at_ms, *at_ms));
            *span = (span.0.min(*at_ms), span.1.max(*at_ms));
        }
    }
    let ids: Vec<i64> = spans.keys().copied().collect();
    let reporting = store::reporting(conn, &ids)?;
    let ids: Vec<i64> = ids.into_iter().filter(|id| reporting.contains_key(id)).collect();
    if sql::is_any_due(conn, &ids, now)? {
        return Ok(false);
    }
    let mut passed: Vec<(Event, String)> = Vec::new();
    let mut next: Told = (last, (0, 0, String::new()));
    for (id, (from_ms, to_ms)) in spans.into_iter().filter(|(id, _)| *id >= within.0 && reporting.contains_key(id)) {
        let (done, at_ms, event) = &within;
        // From where the rows before these had passed.
        let begin_ms = sql::told_before(conn, id, from_ms)?.map_or(from_ms - 1, |before_ms| before_ms - DAY_MS);
        let after = if *done == id { (*at_ms, event.clone()) } else { (begin_ms, String::new()) };
        let until_ms = (to_ms - DAY_MS).min(now.0 - LOOKED_MS);
        let room = BATCH - i64::try_from(passed.len()).unwrap_or(BATCH);
        let found = sql::reported_by(conn, id, &after, until_ms, room)?;
        let is_cut = i64::try_from(found.len()).unwrap_or(0) == room;
        passed.extend(found);
        if let Some((event, _)) = passed.last().filter(|_| is_cut) {
            next = (rows_after, (id, event.at_ms, event.event_id.clone()));
            break;
        }
    }
    let is_cut = next.0 == rows_after;
    settings::set(conn, BY_TELLING, &serde_json::to_string(&next).unwrap_or_default())?;
    say(conn, &passed, now)?;
    Ok(is_cut || i64::try_from(rows.len()).unwrap_or(0) == BATCH)
}

fn terminals_of(reported: &[(Event, String)]) -> Vec<i64> {
    let ids: BTreeSet<i64> = reported.iter().map(|(event, _)| event.terminal_id).collect();
    ids.into_iter().collect()
}

/// Says of those among these payments that channels told all around of, and not of them, that they are missing.
fn say(conn: &mut Conn, reported: &[(Event, String)], now: Now) -> Result<(), db::Error> {
    let terminals = terminals_of(reported);
    let events: Vec<&Event> = reported.iter().map(|(event, _)| event).collect();
    let told = store::told_of(conn, &terminals)?;
    let matched = store::matched(conn, &terminals, &events)?;
    let is_told = |event: &Event| {
        let told = told.get(&event.terminal_id);
        told.is_some_and(|(from_ms, to_ms)| *from_ms <= event.at_ms && event.at_ms + DAY_MS <= *to_ms)
    };
    let is_matched = |event: &Event| matched.contains(&(event.terminal_id, event.event_id.clone()));
    let alone: Vec<&(Event, String)> =
        reported.iter().filter(|(event, _)| is_told(event) && !is_matched(event)).collect();
    if alone.is_empty() {
        return Ok(());
    }
    let mut rows = sql::unmatched(conn, &alone.iter().map(|(event, _)| event).collect::<Vec<_>>())?;
    let sns = store::sns(conn, &terminals)?;
    let bound = bindings::of_terminals(conn, &terminals)?;
    let mut tables: HashMap<&String, Arc<InForce>> = HashMap::new();
    let mut new = Vec::new();
    for (event, org_path) in alone {
        match take(event, &mut rows) {
            // It came later than its row was looked at.
            Some((row, Quality::Weak | Quality::Trace | Quality::Ref)) => {
                sql::make_due(conn, row.id, now)?;
                continue;
            }
            // The row says it, and says more.
            Some((_, Quality::None)) => continue,
            None => {}
        }
        let tables = match tables.get(org_path) {
            Some(known) => Arc::clone(known),
            None => {
                let read = verdicts::in_force(conn, org_path)?;
                tables.insert(org_path, Arc::clone(&read));
                read
            }
        };
        let facts = SettlementFacts {
            terminal: Some(TerminalSide::Succeeded),
            age_ms: Some(now.0 - event.at_ms),
            ..SettlementFacts::default()
        };
        new.push(NewVerdict {
            source: Source::Settlement,
            terminal_id: Some(event.terminal_id),
            sn: sns.get(&event.terminal_id).cloned(),
            merchant_no: merchant_no(event, &bound),
            item: reported_item(&event.event_id),
            org_path: org_path.clone(),
            received_at_ms: event.at_ms,
            response_code: None,
            judgement: judge_settlement(&facts, &tables.tables),
            tables,
        });
    }
    new.retain(|verdict| verdict.judgement.verdict.is_some());
    verdicts::record_all(conn, &new, now)?;
    Ok(())
}

/// The bound number, by which the incidents of a channel's rows are grouped, too; else the one that was sent.
fn merchant_no(event: &Event, bound: &[Binding]) -> Option<String> {
    let holds = |binding: &&Binding| binding.terminal_id == event.terminal_id && binding.holds_at(event.at_ms);
    let bound = bound.iter().find(holds).map(|binding| binding.merchant_no.clone());
    bound.or_else(|| event.merchant_no_sent.clone())
}

/// Takes the row that a payment belongs to out of those that belong to none: by what brings both together when the row is
/// looked at again, or one that was said to be missing, too, and may be the same.
fn take(event: &Event, rows: &mut Vec<Transaction>) -> Option<(Transaction, Quality)> {
    let own = std::slice::from_ref(event);
    let quality = |row: &Transaction| match row.terminal_id {
        Some(id) => matching::find(&gather::sought(row, id), own).0,
        None => Quality::None,
    };
    let surest = rows.iter().enumerate().map(|(at, row)| (quality(row), at)).max();
    if let Some((quality, at)) = surest.filter(|(quality, _)| *quality > Quality::None) {
        return Some((rows.swap_remove(at), quality));
    }
    let at = nearest(event, rows)?;
    Some((rows.swap_remove(at), Quality::None))
}

/// The place of the row said to be missing that may be this payment, the nearest.
fn nearest(event: &Event, rows: &[Transaction]) -> Option<usize> {
    let may_be = |row: &Transaction| {
        let id = row.terminal_id;
        row.result == "missing" && id.is_some_and(|id| matching::may_be_one(&gather::sought(row, id), event))
    };
    let fitting = rows.iter().enumerate().filter(|(_, row)| may_be(row));
    fitting.min_by_key(|(_, row)| ((row.at_ms - event.at_ms).abs(), row.id)).map(|(at, _)| at)
}

/// What was said to be missing and was told of after all: nothing is said of it any more.
pub(super) fn no_more_missing(conn: &mut Conn, found: &[(i64, String)]) -> Result<Vec<NewVerdict>, db::Error> {
    let terminals: Vec<i64> = found.iter().map(|(id, _)| *id).collect();
    let items: Vec<String> = found.iter().map(|(_, event)| reported_item(event)).collect();
    let mut new = Vec::new();
    for said in store::said_missing(conn, &terminals, &items)? {
        if found.iter().any(|(id, event)| *id == said.0 && reported_item(event) == said.1) {
            new.push(taken_back(conn, said)?);
        }
    }
    Ok(new)
}

/// Takes back what was said of payments that terminals reported, where it is now said of a channel's row, which may be the
/// same and tells more: of each row one, the nearest.
pub(super) fn said_by_rows(conn: &mut Conn, rows: &[&Transaction]) -> Result<Vec<NewVerdict>, db::Error> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let mut said = sql::said_around(conn, rows)?;
    let mut new = Vec::new();
    for row in rows {
        let Some(id) = row.terminal_id else { continue };
        let sought = gather::sought(row, id);
        let fitting = said.iter().enumerate().filter(|(_, (event, _))| matching::may_be_one(&sought, event));
        let nearest = fitting.min_by_key(|(_, (event, _))| (event.at_ms - row.at_ms).abs()).map(|(at, _)| at);
        if let Some((event, org_path)) = nearest.map(|at| said.swap_remove(at)) {
            let item = reported_item(&event.event_id);
            new.push(taken_back(conn, (event.terminal_id, item, org_path, event.at_ms))?);
        }
    }
    Ok(new)
}

fn taken_back(
    conn: &mut Conn,
    (terminal_id, item, org_path, received_at_ms): (i64, String, String, i64),
) -> Result<NewVerdict, db::Error> {
    Ok(NewVerdict {
        source: Source::Settlement,
        terminal_id: Some(terminal_id),
        sn: None,
        merchant_no: None,
        item,
        received_at_ms,
        response_code: None,
        judgement: Judgement::default(),
        tables: verdicts::in_force(conn, &org_path)?,
        org_path,
    })
}
