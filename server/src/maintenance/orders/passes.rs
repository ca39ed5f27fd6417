//! What happens to work orders with time: check-ins prove or refute what was said to be done, people are reminded, and
//! those that were over long ago are deleted. The passes take no input, are idempotent and never retry.

use serde_json::json;
use tillward_protocol::checkin::CheckIn;

use super::actions::entered;
use super::proof::{self, Verdict, Wanted};
use super::state::{Event, State, step};
use super::{Kind, deed, record_inspection, settle, view};
use crate::alerts::{self, AlertKind, Level, NewAlert};
use crate::audit::{self, Actor};
use crate::clock::Now;
use crate::db::{self, Conn, Db};
use crate::maintenance::reason::Urgency;
use crate::maintenance::refresh::NAME;
use crate::maintenance::store::orders::{self as store, Proof, Stored, Who};
use crate::maintenance::store::{raced, settings};

/// A work order that is over is kept this long, ms: three years, as incidents and the audit log.
pub const KEPT_MS: i64 = 3 * 366 * 86_400_000;

/// Title of the alert that an order is overdue.
const OVERDUE_TITLE_KEY: &str = "alert-title-work_order_overdue";

/// Looks at the check-ins that came since the work was said to be done, and returns how many orders moved. Each is a
/// transaction of its own and reads the order anew: what a person did meanwhile counts.
///
/// # Errors
/// [`db::Error`]; what moved before stays so.
pub async fn prove(db: &Db, now: Now) -> Result<usize, db::Error> {
    let mut moved = 0;
    for id in db.read(store::with_news).await? {
        moved += usize::from(db.write(move |conn| prove_one(conn, id, now)).await?);
    }
    Ok(moved)
}

fn prove_one(conn: &mut Conn, id: i64, now: Now) -> Result<bool, db::Error> {
    let Some(before) = store::hold(conn, id)?.filter(|order| order.state == State::WaitingForProof) else {
        return Ok(false);
    };
    let Some((done, proof_id)) = before.done.clone().zip(before.proof_terminal_id) else { return Ok(false) };
    let Some(seen) = store::seen(conn, proof_id)?.filter(|seen| seen.check_ins > before.judged) else {
        return Ok(false);
    };
    let Ok(check_in) = serde_json::from_str::<CheckIn>(&seen.report) else {
        return looked(conn, &before, seen.check_ins);
    };
    // Received before, written after: it says nothing of the work.
    if seen.last_seen_ms <= done.at_ms {
        return looked(conn, &before, seen.check_ins);
    }
    let rules = settings::rules_for(conn, &before.org_path)?.map(|own| own.rules).unwrap_or_default();
    let wanted = Wanted {
        kind: before.kind,
        reason: before.reason,
        firmware: before.expected_firmware.as_deref(),
        baseline: &done.baseline,
    };
    let verdict = proof::judge(wanted, &check_in, seen.check_ins, &rules, now.0);
    let (event, checks) = match verdict {
        Verdict::Unclear(checks) => (None, checks),
        Verdict::Healthy(checks) => (Some(Event::Prove), checks),
        Verdict::Faulty(checks) => (Some(Event::Fault), checks),
    };
    let proof = Proof { check_in: seen.check_ins, received_at_ms: seen.last_seen_ms, checks };
    let Some((event, state)) = event.and_then(|event| Some((event, step(before.state, event).ok()?))) else {
        let after = Stored { judged: seen.check_ins, proof: Some(proof), ..before.clone() };
        return if store::replace(conn, &before, &after)? { Ok(false) } else { Err(raced()) };
    };
    let mut after = entered(&before, state, now);
    after.judged = seen.check_ins;
    after.proof = Some(proof.clone());
    after.outcome = (state == State::Closed).then(|| view::PROVEN.to_owned());
    conclude(conn, &before, &after, event, &proof, now)?;
    Ok(true)
}

/// Writes what a check-in decided, with its history and what follows for the terminal.
fn conclude(
    conn: &mut Conn,
    before: &Stored,
    after: &Stored,
    event: Event,
    proof: &Proof,
    now: Now,
) -> Result<(), db::Error> {
    if !store::replace(conn, before, after)? {
        return Err(raced());
    }
    let evidence = serde_json::to_value(proof).unwrap_or_default();
    store::append_event(conn, before.id, &Who::system(NAME), event.as_str(), "", Some(&evidence), now)?;
    if after.state == State::Closed {
        match after.kind {
            Kind::Inspection => record_inspection(conn, after, true, now)?,
            Kind::Repair | Kind::ReplaceSim | Kind::SignIn => settle(conn, after, now)?,
            Kind::ReplaceTerminal | Kind::TeachOperator => {}
        }
    }
    let detail = json!({"from": before.state.as_str(), "to": after.state.as_str(), "proof": evidence});
    audit::append(conn, &Actor::system(NAME), &deed(event.as_str(), before.id, &before.org_path, detail), now)?;
    metrics::counter!("tillward_work_orders_judged_total", "event" => event.as_str()).increment(1);
    Ok(())
}

/// A check-in was looked at and says nothing.
fn looked(conn: &mut Conn, before: &Stored, check_ins: i64) -> Result<bool, db::Error> {
    let after = Stored { judged: check_ins, ..before.clone() };
    if store::replace(conn, before, &after)? { Ok(false) } else { Err(raced()) }
}

/// Passes the time limits of orders and returns for how many: work without a proof goes on, the rest is counted as
/// overdue, later and later.
///
/// # Errors
/// [`db::Error`]; what was reminded of before stays so.
pub async fn remind(db: &Db, now: Now) -> Result<usize, db::Error> {
    let mut reminded = 0;
    for id in db.read(move |conn| store::past_deadline(conn, now)).await? {
        reminded += usize::from(db.write(move |conn| remind_one(conn, id, now)).await?);
    }
    Ok(reminded)
}

fn remind_one(conn: &mut Conn, id: i64, now: Now) -> Result<bool, db::Error> {
    let is_past = |order: &Stored| order.deadline_ms.is_some_and(|deadline_ms| deadline_ms <= now.0);
    let Some(before) = store::hold(conn, id)?.filter(is_past) else { return Ok(false) };
    let Ok(state) = step(before.state, Event::Remind) else { return Ok(false) };
    let mut after = entered(&before, state, now);
    if state == before.state {
        after.reminders = before.reminders.saturating_add(1);
        let limit_ms = state.time_limit_ms(after.reminders);
        after.deadline_ms = limit_ms.map(|limit_ms| now.0.saturating_add(limit_ms));
    }
    if !store::replace(conn, &before, &after)? {
        return Err(raced());
    }
    let event = if state == before.state { Event::Remind.as_str() } else { view::NO_PROOF };
    store::append_event(conn, id, &Who::system(NAME), event, "", None, now)?;
    let detail = json!({"from": before.state.as_str(), "to": state.as_str(), "reminders": after.reminders});
    audit::append(conn, &Actor::system(NAME), &deed(Event::Remind.as_str(), id, &before.org_path, detail), now)?;
    Ok(true)
}

/// Tells people of orders that are past their due time, of each once, and returns of how many. What was said to be done
/// waits for its proof and is not told of.
///
/// # Errors
/// [`db::Error`]; what was told before stays told.
pub async fn tell_overdue(db: &Db, now: Now) -> Result<usize, db::Error> {
    let mut told = 0;
    for id in db.read(move |conn| store::overdue(conn, now)).await? {
        told += usize::from(db.write(move |conn| tell_one_overdue(conn, id, now)).await?);
    }
    Ok(told)
}

fn tell_one_overdue(conn: &mut Conn, id: i64, now: Now) -> Result<bool, db::Error> {
    let is_left = |order: &Stored| {
        order.due_ms <= now.0 && matches!(order.state, State::Open | State::Assigned | State::InProgress)
    };
    let Some(order) = store::hold(conn, id)?.filter(is_left) else { return Ok(false) };
    if !store::tell_overdue(conn, id, now)? {
        return Ok(false);
    }
    let sn = store::terminal(conn, order.terminal_id)?.map_or_else(String::new, |(sn, _)| sn);
    let alert = NewAlert {
        org_path: &order.org_path,
        kind: AlertKind::WorkOrderOverdue,
        level: match order.urgency {
            Urgency::Now => Level::P2,
            Urgency::Soon | Urgency::Planned => Level::P3,
        },
        // Who has seen the incident has not done the work.
        incident_id: None,
        incident_kind: None,
        release_id: None,
        unanswered: 0,
        title_key: OVERDUE_TITLE_KEY.to_owned(),
        parameters: vec![("id", id.to_string()), ("sn", sn)],
        dedup_key: format!("work_order:{id}:overdue"),
    };
    alerts::raise(conn, &alert, now)?;
    Ok(true)
}

/// Deletes orders that were over long ago, with their histories, in small transactions; returns how many went.
///
/// # Errors
/// [`db::Error`]; what was deleted before stays deleted.
pub async fn sweep(db: &Db, now: Now) -> Result<usize, db::Error> {
    let mut deleted = 0;
    loop {
        let step = db.write(move |conn| store::delete_over(conn, now.0 - KEPT_MS)).await?;
        if step == 0 {
            return Ok(deleted);
        }
        deleted += step;
    }
}
