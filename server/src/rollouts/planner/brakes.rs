//! What stops a rollout, as a whole or in part: pauses and halts taking effect, the gate, parts stopped alone.

use super::super::assignment::{Event as Step, Phase, Withdrawal};
use super::super::gate::Verdict;
use super::super::judging::{self, Judged};
use super::super::state::{Event, State};
use super::super::store::assignments::{Assignment, Bulk};
use super::super::store::gate::{self as gate_store, Stop};
use super::super::store::journal;
use super::super::store::ledger::{CLOSED, Ledger};
use super::super::store::{self, CHUNK, PASSED, Progress, Stored, assignments};
use super::super::strategy::Wait;
use super::super::{BY_GATE, Error, UNREADABLE, advance, alarm, stop_part};
use super::{BEFORE_INSTALLING, lock, planner, stages, step_all, untell};
use crate::clock::Now;
use crate::db::{self, Conn};
use crate::profiles;

/// A judgement is made anew at least this often, ms: outcomes and time change it, too.
const JUDGE_MS: i64 = 5_000;

/// Takes back what is offered but not yet installed, while the rollout does not run.
pub(super) fn withdraw(conn: &mut Conn, rollout: &Stored, now: Now) -> Result<bool, Error> {
    let (event, phases): (Step, &[Phase]) = match rollout.state {
        // What a withdrawn release halted never goes on; what a gate halted waits for a person.
        State::Halted { .. } if is_withdrawn(conn, rollout)? => {
            (Step::Cancel(Withdrawal::RolloutHalted), &BEFORE_INSTALLING)
        }
        State::Paused { .. } | State::Halted { .. } => (Step::Withdraw, &[Phase::Offered, Phase::Downloading]),
        State::Cancelled { .. } => (Step::Cancel(Withdrawal::RolloutCancelled), &BEFORE_INSTALLING),
        State::Draft | State::AwaitingApproval | State::Running { .. } | State::Succeeded => return Ok(false),
    };
    for &phase in phases {
        let chunk = next_in(conn, rollout, phase)?;
        if let Some(last) = chunk.last() {
            let progress = Progress { withdrawn_up_to: last.id, ..rollout.progress.clone() };
            // A pause costs a terminal none of its time.
            let bulk = |one: &Assignment, after| {
                let one = Assignment { give_up_ms: None, ..one.clone() };
                Bulk::of(&one, after, Some((now.0, Wait::Stopped)), None, now)
            };
            if !store::hold(conn, rollout, &progress)? {
                return Ok(false);
            }
            lock(conn, &chunk)?;
            untell(conn, rollout, &chunk, profiles::Unstaged::Follow, now)?;
            step_all(conn, &chunk, event, bulk, now)?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// The next of those in `phase` that are to be taken back. From where it went on last: before that PostgreSQL's index has
/// the entries of all that were in this phase until they are vacuumed away. Then anew, as long as the count says that there
/// are some: one that a report moved back meanwhile is not passed over.
fn next_in(conn: &mut Conn, rollout: &Stored, phase: Phase) -> Result<Vec<Assignment>, db::Error> {
    let counted = store::counts(conn, &[rollout.id])?;
    if !counted.iter().any(|(_, of, n)| *of == phase && *n > 0) {
        return Ok(Vec::new());
    }
    let after = rollout.progress.withdrawn_up_to;
    let chunk = assignments::in_phase(conn, rollout.id, phase, after, CHUNK)?;
    if chunk.is_empty() && after > 0 { assignments::in_phase(conn, rollout.id, phase, 0, CHUNK) } else { Ok(chunk) }
}

/// Whether what is rolled out may not be any more, for good.
pub(super) fn is_withdrawn(conn: &mut Conn, rollout: &Stored) -> Result<bool, db::Error> {
    match rollout.subject.release_id() {
        Some(id) => Ok(store::release(conn, id)?.is_none_or(|release| release.state == "withdrawn")),
        None => Ok(false),
    }
}

/// After a start or a stop the director says something else to terminals that already install, too. Their version must
/// grow, or they would take the new document for the old one.
pub(super) fn signal(conn: &mut Conn, rollout: &Stored) -> Result<bool, Error> {
    let after = rollout.progress.signalled_up_to;
    if after == PASSED {
        return Ok(false);
    }
    let chunk = assignments::in_flight(conn, rollout.id, after, CHUNK)?;
    let up_to = if chunk.len() < CHUNK { PASSED } else { chunk.last().map_or(PASSED, |last| last.0) };
    if !store::hold(conn, rollout, &Progress { signalled_up_to: up_to, ..rollout.progress.clone() })? {
        return Ok(false);
    }
    let mut ledger = Ledger::default();
    for (_, terminal_id) in chunk {
        ledger.note_reordered(terminal_id);
    }
    ledger.write(conn)?;
    Ok(true)
}

/// Whether the gate should be asked.
pub(super) fn is_due(conn: &mut Conn, rollout: &Stored, now: Now) -> Result<bool, db::Error> {
    if rollout.progress.admitted_up_to != PASSED || rollout.progress.stage_opened_ms.is_none() {
        return Ok(false);
    }
    if !journal::unjudged(conn, rollout.id, 1)?.is_empty() {
        return Ok(true);
    }
    let last = gate_store::judged_at(conn, rollout.id)?;
    Ok(last.is_none_or(|at_ms| now.0 >= at_ms.saturating_add(JUDGE_MS) || now.0 < at_ms))
}

/// Asks the gate, and does what it says: halts, stops a part, or opens the next stage.
pub(super) fn judge(conn: &mut Conn, rollout: &Stored, now: Now) -> Result<bool, Error> {
    let (is_running, is_paused) = (rollout.state.offers(), matches!(rollout.state, State::Paused { .. }));
    if !(is_running || is_paused) || !is_due(conn, rollout, now)? {
        return Ok(false);
    }
    if !store::hold(conn, rollout, &rollout.progress)? {
        return Ok(false);
    }
    let Some(judged) = judging::judge(conn, rollout, now)? else {
        // Without evidence nothing new is offered: a person looks, and the journal begins anew.
        let evidence = gate_store::judgement(conn, rollout.id)?.unwrap_or_default();
        alarm(conn, rollout, &evidence, None, now)?;
        let why = format!("{BY_GATE}{UNREADABLE}");
        advance(conn, rollout, &Event::Halt { why }, &planner(), now)?;
        return Ok(true);
    };
    match judged.verdict {
        Verdict::Fail => stop(conn, rollout, &judged, now)?,
        Verdict::Pass | Verdict::Insufficient if is_running && !judged.is_behind => {
            if stages::may_open_next(conn, rollout, judged.verdict, now)? {
                advance(conn, rollout, &Event::OpenStage, &planner(), now)?;
            }
        }
        Verdict::Pass | Verdict::Insufficient => {}
    }
    Ok(true)
}

/// Stops the part that does harm, if the rest is cleared of it, else everything.
fn stop(conn: &mut Conn, rollout: &Stored, judged: &Judged, now: Now) -> Result<(), Error> {
    let evidence = &judged.evidence;
    let numbers = format!(
        "{} of {} started terminals failed; evidence {:.0} of {:.0}",
        evidence.failed, evidence.started, evidence.e_max, evidence.threshold
    );
    if let Some((attribute, value)) = &judged.narrow_to {
        let stop = Stop {
            attribute: attribute.clone(),
            value: value.clone(),
            why: format!("{BY_GATE}harm in {attribute} {value} only; {numbers}"),
            stopped_by: "planner".to_owned(),
            stopped_at_ms: now.0,
        };
        // The incident first: the audit log is the last thing that a transaction locks.
        alarm(conn, rollout, evidence, Some(&stop), now)?;
        return stop_part(conn, rollout, &stop, &planner(), now);
    }
    let worst = evidence
        .scopes
        .iter()
        .find(|scope| scope.e >= 1.5)
        .map(|scope| format!("; most of all {} {} ({:.0})", scope.attribute, scope.value, scope.e));
    let why = format!("{BY_GATE}{numbers}{}", worst.unwrap_or_default());
    alarm(conn, rollout, evidence, None, now)?;
    advance(conn, rollout, &Event::Halt { why }, &planner(), now)
}

/// The next assignments that belong to a part of the rollout that was stopped and have not begun to install.
fn stopped(conn: &mut Conn, rollout: &Stored, limit: usize) -> Result<Vec<Assignment>, db::Error> {
    let stops = gate_store::stops(conn, rollout.id)?;
    if stops.is_empty() {
        return Ok(Vec::new());
    }
    let cells: Vec<i64> = gate_store::cells(conn, rollout.id)?
        .into_iter()
        .filter(|cell| stops.iter().any(|stop| stop.stops(&cell.attributes)))
        .map(|cell| cell.cell)
        .collect();
    assignments::in_cells(conn, rollout.id, &cells, limit)
}

/// Whether something belongs to a part of the rollout that was stopped.
pub(super) fn has_stopped(conn: &mut Conn, rollout: &Stored) -> Result<bool, db::Error> {
    Ok(!stopped(conn, rollout, 1)?.is_empty())
}

/// Cancels what belongs to a part of the rollout that was stopped and has not begun to install.
pub(super) fn close_stopped(conn: &mut Conn, rollout: &Stored, now: Now) -> Result<bool, Error> {
    if !rollout.state.offers() {
        return Ok(false);
    }
    let chunk = stopped(conn, rollout, CHUNK)?;
    if chunk.is_empty() {
        return Ok(false);
    }
    // Those whose stage was closed count as opened from now on: the stages' plan counts every assignment once.
    let closed = chunk.iter().filter(|one| one.stage == CLOSED).count();
    let opened = rollout.progress.opened.saturating_add(i64::try_from(closed).unwrap_or(0));
    if !store::hold(conn, rollout, &Progress { opened, ..rollout.progress.clone() })? {
        return Ok(false);
    }
    lock(conn, &chunk)?;
    let event = Step::Cancel(Withdrawal::ScopeStopped);
    // The rest may end well and settle the profile: these keep what they had.
    untell(conn, rollout, &chunk, profiles::Unstaged::Hold, now)?;
    step_all(conn, &chunk, event, |one, after| Bulk::of(one, after, None, None, now), now)?;
    Ok(true)
}
