//! What terminals say of their updates, taken in with the check-ins that carry it.
//!
//! Runs inside the batch's own transaction and never fails it for what a terminal said: nonsense is counted and left out.
//! A batch in which nobody speaks of an update costs no statement here.

use std::collections::HashMap;

use tillward_protocol::manifest::Manifest;
use tillward_protocol::phase::{Phase as Said, Reason, UpdateReport};

use super::assignment::{Event, Phase, State, is_worth_another_attempt, step};
use super::store::assignments::{self as store, Assignment, Target};
use super::store::ledger::Ledger;
use super::strategy::retry_wait_ms;
use crate::clock::Now;
use crate::db::{self, Conn};

/// How often a step is tried again that somebody else was faster with.
const RACES_MAX: usize = 3;

/// What one check-in says of its terminal's update.
#[derive(Debug, Clone, Copy)]
pub struct Report<'a> {
    /// The terminal that was authenticated.
    pub terminal_id: i64,
    /// What it says.
    pub update: Option<&'a UpdateReport>,
    /// Its newest verified manifest: with an update report the stored or the received one; without, only one just received
    /// (a manifest alone costs a look for a live assignment).
    pub manifest: Option<&'a Manifest>,
    /// The version it runs.
    pub firmware: &'a str,
    /// Whether it reports for the first time that it applied the config hash that it is told to.
    pub is_configured: bool,
}

/// Takes in one report, within the batch's transaction.
///
/// # Errors
/// [`db::Error`]; never for what the terminal said.
pub fn apply_report(conn: &mut Conn, report: &Report<'_>, now: Now) -> Result<(), db::Error> {
    apply_reports(conn, std::slice::from_ref(report), now)
}

/// Takes in the reports of a whole batch, in their order, within its transaction: two reads for all of them, and a write
/// for each that changes something. On PostgreSQL with several servers prefer this to one call a report: shared rows are
/// then written once and in one order.
///
/// # Errors
/// [`db::Error`]; never for what the terminals said.
pub fn apply_reports(conn: &mut Conn, reports: &[Report<'_>], now: Now) -> Result<(), db::Error> {
    let mut named: Vec<i64> = reports.iter().filter_map(|report| Some(report.update?.assignment)).collect();
    let mut speaking: Vec<i64> = reports
        .iter()
        .filter(|r| r.update.is_some() || r.manifest.is_some() || r.is_configured)
        .map(|r| r.terminal_id)
        .collect();
    for ids in [&mut named, &mut speaking] {
        ids.sort_unstable();
        ids.dedup();
    }
    let mut by_id: HashMap<i64, Assignment> = HashMap::new();
    let mut live_of: HashMap<i64, i64> = HashMap::new();
    for found in store::by_ids(conn, &named)? {
        by_id.insert(found.id, found);
    }
    for found in store::live_of(conn, &speaking)? {
        live_of.insert(found.terminal_id, found.id);
        by_id.insert(found.id, found);
    }
    // In the order of the assignments, as everybody writes them; what one terminal said stays in its own order.
    let mut ordered: Vec<(i64, &Report<'_>)> = reports
        .iter()
        .filter_map(|report| {
            let live = live_of.get(&report.terminal_id).copied();
            match report.update.map(|update| update.assignment) {
                Some(id) if by_id.get(&id).is_some_and(|found| found.terminal_id == report.terminal_id) => {
                    Some((id, report))
                }
                // A terminal that cannot trust its director document cannot know the number: it speaks of its live one.
                Some(id) if report.update.is_some_and(|update| update.reason.is_some_and(Reason::is_refusal)) => {
                    Some((live.unwrap_or(id), report))
                }
                Some(id) => Some((id, report)),
                None => Some((live?, report)),
            }
        })
        .collect();
    ordered.sort_by_key(|&(id, _)| id);
    let mut ledger = Ledger::default();
    for (id, report) in ordered {
        match by_id.get_mut(&id) {
            Some(assignment) if assignment.terminal_id == report.terminal_id => {
                take(conn, assignment, report, &mut ledger, now)?;
            }
            Some(_) => refused(report, "another_terminal"),
            None => refused(report, "unknown_assignment"),
        }
    }
    ledger.write(conn)
}

fn refused(report: &Report<'_>, why: &'static str) {
    metrics::counter!("tillward_update_reports_refused_total", "why" => why).increment(1);
    let assignment = report.update.map(|update| update.assignment);
    tracing::debug!(terminal = report.terminal_id, ?assignment, why, "an update report was left out");
}

/// Steps `assignment` by what `report` says, and leaves it as it then is.
fn take(
    conn: &mut Conn,
    assignment: &mut Assignment,
    report: &Report<'_>,
    ledger: &mut Ledger,
    now: Now,
) -> Result<(), db::Error> {
    for _ in 0..RACES_MAX {
        let (after, retry_ms) = heard(assignment, report, now);
        let bytes = progress(assignment, report.update);
        if after == assignment.state {
            if is_renewed(assignment, report.update, bytes, now) {
                *assignment = store::renew(conn, assignment, bytes, now)?;
            }
            return Ok(());
        }
        let detail = report.update.and_then(|update| update.detail.as_deref());
        let said = store::Said { retry_ms, detail, bytes, firmware: Some(report.firmware) };
        if let Some(next) = store::swap(conn, assignment, after, said, now)? {
            ledger.note(assignment, after, said, now);
            *assignment = next;
            return Ok(());
        }
        *assignment = reread(conn, assignment)?;
    }
    // The terminal says it again with its next check-in.
    refused(report, "raced");
    Ok(())
}

fn reread(conn: &mut Conn, assignment: &Assignment) -> Result<Assignment, db::Error> {
    let found = store::by_ids(conn, &[assignment.id])?;
    Ok(found.into_iter().next().unwrap_or_else(|| assignment.clone()))
}

/// The state after what was said, and when the next attempt may begin if this one failed and another is left. Reports
/// are never refused.
fn heard(assignment: &Assignment, report: &Report<'_>, now: Now) -> (State, Option<i64>) {
    let mut state = assignment.state;
    let mut events: Vec<Event> = Vec::with_capacity(2);
    // Before its stage opens nothing was ever offered: whatever the terminal speaks of, it is not this.
    if let Some(update) = report.update.filter(|_| assignment.is_open()) {
        events.push(Event::Report(update.phase, update.reason));
    }
    if is_proven(assignment, report) {
        events.push(Event::Proof);
    }
    for event in events {
        state = step(state, event).unwrap_or(state);
    }
    match state {
        // The attempt that failed is over already, and the next one is not offered yet: the terminal says it again.
        State::Failed(reason)
            if is_worth_another_attempt(reason) && assignment.state == State::Waiting && assignment.attempts > 0 =>
        {
            (State::Waiting, None)
        }
        State::Failed(reason) if is_worth_another_attempt(reason) && assignment.attempts < assignment.retry_max => {
            match step(assignment.state, Event::Again) {
                Ok(waiting) => {
                    let wait_ms = retry_wait_ms(assignment.retry_wait_s, assignment.attempts + 1);
                    (waiting, Some(now.0.saturating_add(wait_ms)))
                }
                Err(_) => (state, None),
            }
        }
        _ => (state, None),
    }
}

/// Whether the terminal shows what the assignment is for.
fn is_proven(assignment: &Assignment, report: &Report<'_>) -> bool {
    match &assignment.target {
        Target::Config => report.is_configured && assignment.state.phase().is_ordered(),
        Target::Release { component, version, sha256 } => {
            let claims = report.update.is_none_or(|update| update.phase == Said::Succeeded);
            claims
                && report.manifest.is_some_and(|manifest| {
                    manifest.terminal_id.0 == assignment.terminal_id
                        && manifest.components.iter().any(|shown| {
                            shown.name == *component
                                && shown.version.as_str() == version
                                && shown.sha256.as_ref().is_some_and(|shown| shown.as_str() == sha256)
                        })
                })
        }
    }
}

/// Bytes done and in all, where the report says more than is known.
fn progress(assignment: &Assignment, update: Option<&UpdateReport>) -> Option<(i64, i64)> {
    let update = update?;
    let done = i64::try_from(update.bytes?).ok()?;
    let total = i64::try_from(update.bytes_total?).ok()?;
    (!assignment.state.phase().is_final() && done > assignment.bytes_done).then_some((done, total))
}

/// Whether a report without a step is a sign of life that moves the time limit: bytes that arrived, or a deferral said
/// again. The latter is written only in the limit's second half, so that most check-ins of a busy terminal write nothing.
fn is_renewed(assignment: &Assignment, update: Option<&UpdateReport>, bytes: Option<(i64, i64)>, now: Now) -> bool {
    let phase = assignment.state.phase();
    let is_deferred = phase == Phase::Offered && update.is_some_and(|update| update.phase == Said::Deferred);
    let left_ms = assignment.deadline_ms.map_or(i64::MAX, |deadline| deadline.saturating_sub(now.0));
    (phase == Phase::Downloading && bytes.is_some()) || (is_deferred && left_ms < assignment.offer_ms / 2)
}
