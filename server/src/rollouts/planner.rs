//! The pass that carries rollouts on. It takes no input, is idempotent and never retries: what it could not do, the next
//! pass finds again. Whatever it works on it reads anew inside the transaction that changes it, and holds it there, so
//! that a pause or a halt that was committed is always seen. An error anywhere leaves things as they are: nothing is
//! offered that the tables do not say.
//!
//! Each transaction works on at most one chunk of one rollout.

use std::collections::BTreeMap;

use super::assignment::{self, Event as Step, Phase, State as Assigned, Withdrawal};
use super::resolve::{self, Plan};
use super::state::{Event, State};
use super::store::assignments::{Admitted, Assignment, Ledger, Said};
use super::store::{self, CHUNK, PASSED, Stored, assignments};
use super::{Error, advance};
use crate::audit::Actor;
use crate::clock::Now;
use crate::db::{self, Conn, Db};

/// Rounds of one pass, each at most one chunk of everything; then the clock is read again.
const ROUNDS_MAX: usize = 64;

/// What a pass leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Nothing to do for now.
    Nothing,
    /// More of the same.
    More,
}

/// One pass at `now`.
///
/// # Errors
/// [`db::Error`] when the database cannot be read at all; an error with one rollout is logged, and the others go on.
pub async fn pass(db: &Db, now: Now) -> Result<Left, db::Error> {
    for _ in 0..ROUNDS_MAX {
        let mut worked = time_out(db, now).await;
        for id in db.read(move |conn| store::overdue(conn, now)).await? {
            worked |= one(db, id, move |conn, rollout| end(conn, rollout, &Event::Expire, now)).await;
        }
        for id in db.read(store::unpublished).await? {
            let why = "the release is not published any more".to_owned();
            worked |= one(db, id, move |conn, rollout| end(conn, rollout, &Event::Halt { why }, now)).await;
        }
        for id in db.read(at_work).await? {
            worked |= one(db, id, move |conn, rollout| carry_on(conn, rollout, now)).await;
        }
        if !worked {
            return Ok(Left::Nothing);
        }
    }
    Ok(Left::More)
}

/// Does one thing with one rollout in one transaction; returns whether there may be more of it. `work` is called only by
/// the leader, and says itself whether there was something to do.
async fn one<F>(db: &Db, id: i64, work: F) -> bool
where
    F: FnOnce(&mut Conn, &Stored) -> Result<bool, Error> + Send + 'static,
{
    let done = db.write(move |conn| {
        if !store::leads(conn)? {
            return Ok(false);
        }
        match store::get_any(conn, id)? {
            Some(rollout) => work(conn, &rollout),
            None => Ok(false),
        }
    });
    logged(id, done.await)
}

fn logged(rollout: i64, done: Result<bool, Error>) -> bool {
    done.unwrap_or_else(|error| {
        metrics::counter!("tillward_planner_errors_total").increment(1);
        tracing::warn!(
            rollout,
            error = &error as &dyn std::error::Error,
            "the planner left a rollout for its next pass"
        );
        false
    })
}

fn planner() -> Actor {
    Actor::system("planner")
}

/// A time limit or a withdrawn release ends what a person did not.
fn end(conn: &mut Conn, rollout: &Stored, event: &Event, now: Now) -> Result<bool, Error> {
    if *event == Event::Expire && rollout.deadline_ms.is_none_or(|deadline| deadline > now.0) {
        return Ok(false);
    }
    match advance(conn, rollout, event, &planner(), now) {
        Ok(()) => Ok(true),
        // Somebody else already did.
        Err(Error::Refused(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Ends assignments whose time limit passed, of any rollout.
async fn time_out(db: &Db, now: Now) -> bool {
    let due = db.read(move |conn| Ok(assignments::due(conn, now, 1)?)).await;
    if !logged(0, due.map(|due| !due.is_empty())) {
        return false;
    }
    let done = db.write(move |conn| {
        if !store::leads(conn)? {
            return Ok(false);
        }
        let due = assignments::due(conn, now, CHUNK)?;
        step_all(conn, &due, Step::Expire, now)?;
        Ok(due.len() == CHUNK)
    });
    logged(0, done.await)
}

/// Rollouts for which there is something to do now.
fn at_work(conn: &mut Conn) -> Result<Vec<i64>, db::Error> {
    let rollouts = store::at_work(conn)?;
    let ids: Vec<i64> = rollouts.iter().map(|rollout| rollout.id).collect();
    let mut counts: BTreeMap<i64, BTreeMap<Phase, i64>> = BTreeMap::new();
    for (id, phase, n) in store::counts(conn, &ids)? {
        counts.entry(id).or_default().insert(phase, n);
    }
    let is_at_work = |rollout: &&Stored| counts.get(&rollout.id).is_some_and(|counts| has_work(rollout, counts));
    Ok(rollouts.iter().filter(is_at_work).map(|rollout| rollout.id).collect())
}

/// Whether a rollout with these counts has something to do; saves a transaction a second where terminals take their time.
fn has_work(rollout: &Stored, counts: &BTreeMap<Phase, i64>) -> bool {
    let n = |phases: &[Phase]| phases.iter().filter_map(|phase| counts.get(phase)).sum::<i64>();
    let is_unsignalled = rollout.signalled_up_to != PASSED;
    match rollout.state {
        State::Running { .. } => {
            let live = Phase::ALL.into_iter().filter(|phase| !phase.is_final()).collect::<Vec<_>>();
            is_unsignalled || rollout.admitted_up_to != PASSED || n(&[Phase::Waiting]) != 0 || n(&live) == 0
        }
        State::Paused { .. } => is_unsignalled || n(&[Phase::Offered, Phase::Downloading]) != 0,
        State::Halted { .. } | State::Cancelled { .. } => is_unsignalled || n(&BEFORE_INSTALLING) != 0,
        State::Draft | State::AwaitingApproval | State::Succeeded => false,
    }
}

/// Does the first thing there is to do. Taking back comes before offering, and offering before admitting more.
fn carry_on(conn: &mut Conn, rollout: &Stored, now: Now) -> Result<bool, Error> {
    Ok(withdraw(conn, rollout, now)?
        || signal(conn, rollout)?
        || offer(conn, rollout, now)?
        || admit(conn, rollout, now)?
        || finish(conn, rollout, now)?)
}

/// Takes back what is offered but not yet installed, while the rollout does not run.
fn withdraw(conn: &mut Conn, rollout: &Stored, now: Now) -> Result<bool, Error> {
    let (event, phases): (Step, &[Phase]) = match rollout.state {
        State::Paused { .. } => (Step::Withdraw, &[Phase::Offered, Phase::Downloading]),
        State::Halted { .. } => (Step::Cancel(Withdrawal::RolloutHalted), &BEFORE_INSTALLING),
        State::Cancelled { .. } => (Step::Cancel(Withdrawal::RolloutCancelled), &BEFORE_INSTALLING),
        State::Draft | State::AwaitingApproval | State::Running { .. } | State::Succeeded => return Ok(false),
    };
    for &phase in phases {
        let chunk = assignments::in_phase(conn, rollout.id, phase, CHUNK)?;
        if !chunk.is_empty() {
            return held(conn, rollout, |conn| step_all(conn, &chunk, event, now));
        }
    }
    Ok(false)
}

const BEFORE_INSTALLING: [Phase; 3] = [Phase::Waiting, Phase::Offered, Phase::Downloading];

/// After a start or a stop the director says something else to terminals that already install, too. Their version must
/// grow, or they would take the new document for the old one.
fn signal(conn: &mut Conn, rollout: &Stored) -> Result<bool, Error> {
    if rollout.signalled_up_to == PASSED {
        return Ok(false);
    }
    let chunk = assignments::in_flight(conn, rollout.id, rollout.signalled_up_to, CHUNK)?;
    let up_to = if chunk.len() < CHUNK { PASSED } else { chunk.last().map_or(PASSED, |last| last.0) };
    if !store::hold(conn, rollout, rollout.admitted_up_to, up_to)? {
        return Ok(false);
    }
    let mut ledger = Ledger::default();
    for (_, terminal_id) in chunk {
        ledger.note_reordered(terminal_id);
    }
    ledger.write(conn)?;
    Ok(true)
}

/// Gives the next window of terminals their assignments.
fn admit(conn: &mut Conn, rollout: &Stored, now: Now) -> Result<bool, Error> {
    if !rollout.state.offers() || rollout.admitted_up_to == PASSED {
        return Ok(false);
    }
    let plan = Plan::of(conn, rollout)?;
    let length_bytes = store::release(conn, rollout.release_id)?.map_or(0, |release| release.length_bytes);
    let judged = resolve::window(conn, &plan, rollout.admitted_up_to)?;
    if !store::hold(conn, rollout, judged.up_to, rollout.signalled_up_to)? {
        return Ok(false);
    }
    let admitted = judged
        .terminals
        .into_iter()
        .filter(|(_, judged)| judged.is_ok())
        .map(|(terminal, _)| Admitted {
            terminal_id: terminal.id,
            org_path: terminal.org_path,
            firmware: terminal.firmware,
        })
        .collect();
    assignments::insert(conn, rollout.id, rollout.stage, length_bytes, admitted, now)?;
    Ok(true)
}

/// Offers the release to the next terminals that wait.
fn offer(conn: &mut Conn, rollout: &Stored, now: Now) -> Result<bool, Error> {
    if !rollout.state.offers() {
        return Ok(false);
    }
    let chunk = assignments::in_phase(conn, rollout.id, Phase::Waiting, CHUNK)?;
    if chunk.is_empty() {
        return Ok(false);
    }
    held(conn, rollout, |conn| step_all(conn, &chunk, Step::Offer, now))
}

/// Ends a rollout whose terminals all have their outcome.
fn finish(conn: &mut Conn, rollout: &Stored, now: Now) -> Result<bool, Error> {
    if !rollout.state.offers() || rollout.admitted_up_to != PASSED {
        return Ok(false);
    }
    let counts = store::counts(conn, &[rollout.id])?;
    // Missing counts are no evidence that nothing is left.
    let is_known = counts.len() == Phase::ALL.len();
    let is_open = counts.iter().any(|&(_, phase, n)| n != 0 && !phase.is_final());
    if !is_known || is_open {
        return Ok(false);
    }
    advance(conn, rollout, &Event::Finish, &planner(), now)?;
    Ok(true)
}

/// Does `work` while nobody can step the rollout.
fn held(
    conn: &mut Conn,
    rollout: &Stored,
    work: impl FnOnce(&mut Conn) -> Result<(), db::Error>,
) -> Result<bool, Error> {
    if !store::hold(conn, rollout, rollout.admitted_up_to, rollout.signalled_up_to)? {
        return Ok(false);
    }
    work(conn)?;
    Ok(true)
}

/// Steps a chunk of assignments, as few statements as there are different outcomes.
fn step_all(conn: &mut Conn, chunk: &[Assignment], event: Step, now: Now) -> Result<(), db::Error> {
    let mut groups: Vec<(Phase, Assigned, i64, Vec<i64>)> = Vec::new();
    let mut ledger = Ledger::default();
    for assignment in chunk {
        let Ok(after) = assignment::step(assignment.state, event) else { continue };
        let key = (assignment.state.phase(), after, assignment.offer_ms);
        match groups.iter_mut().find(|group| (group.0, group.1, group.2) == key) {
            Some(group) => group.3.push(assignment.id),
            None => groups.push((key.0, key.1, key.2, vec![assignment.id])),
        }
        ledger.note(assignment, after, Said::default(), now);
    }
    for (from, after, offer_ms, ids) in groups {
        assignments::swap_all(conn, from, after, &ids, offer_ms, now)?;
    }
    ledger.write(conn)
}
