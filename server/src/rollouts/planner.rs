//! The pass that carries rollouts on. It takes no input, is idempotent and never retries: what it could not do, the next
//! pass finds again. Whatever it works on it reads anew inside the transaction that changes it, and holds it there, so
//! that a pause or a halt that was committed is always seen. An error anywhere leaves things as they are: nothing is
//! offered that the tables do not say.
//!
//! Each transaction works on at most one chunk of one rollout, and is followed by a pause as long as it took. Brakes come
//! before offers: what is withdrawn, judged or stopped is done first.

mod admission;
mod brakes;
mod offers;
mod stages;
mod watch;

pub(super) use stages::next as next_stage;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::assignment::{self, Event as Step, Phase, State as Assigned};
use super::state::{Event, State};
use super::store::assignments::{Assignment, Bulk, Said};
use super::store::ledger::Ledger;
use super::store::{self, CHUNK, PASSED, Stored, Subject, assignments};
use super::strategy::Wait;
use super::{Error, Filter, WHY_UNPUBLISHED, advance};
use crate::audit::Actor;
use crate::clock::Now;
use crate::db::{self, Conn, Db};
use crate::profiles;

/// Rounds of one pass, each at most one chunk of everything; then the clock is read again.
const ROUNDS_MAX: usize = 64;
/// A rollout that takes in later matches walks all terminals this often, ms.
const RESCAN_MS: i64 = 300_000;
/// The gate's journal of a rollout that ended is kept this long, ms (30 d): long enough for whoever asks why it stopped.
const JOURNAL_KEPT_MS: i64 = 30 * 24 * 3_600_000;

/// Longest pause between two transactions.
const PAUSE_MAX: Duration = Duration::from_millis(250);

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
            let why = WHY_UNPUBLISHED.to_owned();
            worked |= one(db, id, move |conn, rollout| end(conn, rollout, &Event::Halt { why }, now)).await;
        }
        for id in db.read(move |conn| at_work(conn, now)).await? {
            worked |= one(db, id, move |conn, rollout| carry_on(conn, rollout, now)).await;
        }
        worked |= clear_away(db, now).await;
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
    let done = in_turn(db, move |conn| match store::get_any(conn, id)? {
        Some(rollout) => work(conn, &rollout),
        None => Ok(false),
    });
    logged(id, done.await)
}

/// One transaction of the leader. What did something is followed by a pause as long as it took itself, so that the
/// planner never has more than half of a database that check-ins wait for.
async fn in_turn<F>(db: &Db, work: F) -> Result<bool, Error>
where
    F: FnOnce(&mut Conn) -> Result<bool, Error> + Send + 'static,
{
    let done: Result<(bool, Instant), Error> = db
        .write(move |conn| {
            let began = Instant::now();
            Ok((store::leads(conn)? && work(conn)?, began))
        })
        .await;
    let (is_done, began) = done?;
    if is_done {
        tokio::time::sleep(began.elapsed().min(PAUSE_MAX)).await;
    }
    Ok(is_done)
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

/// Ends assignments whose time limit passed, of any rollout; where only their window closed, the offer is taken back.
async fn time_out(db: &Db, now: Now) -> bool {
    let due = db.read(move |conn| Ok(assignments::due(conn, now, 1)?)).await;
    if !logged(0, due.map(|due| !due.is_empty())) {
        return false;
    }
    let done = in_turn(db, move |conn| {
        let due = assignments::due(conn, now, CHUNK)?;
        lock(conn, &due)?;
        // What follows goes over their terminals twice.
        let mut terminals: Vec<i64> = due.iter().map(|one| one.terminal_id).collect();
        terminals.sort_unstable();
        assignments::lock_terminals(conn, &terminals)?;
        let (closed, late): (Vec<Assignment>, Vec<Assignment>) = due.iter().cloned().partition(|one| {
            one.state.phase().is_withdrawable()
                && one.window_ends_ms.is_some_and(|ends| ends <= now.0)
                && one.give_up_ms.is_some_and(|give_up| give_up > now.0)
        });
        step_all(conn, &late, Step::Expire, |one, after| Bulk::of(one, after, None, None, now), now)?;
        // Ready at once: the offer finds out itself when the next window opens.
        let ready = Some((now.0, Wait::Window));
        for one in &closed {
            if let Some(rollout) = store::get_any(conn, one.rollout_id)? {
                untell(conn, &rollout, std::slice::from_ref(one), profiles::Unstaged::Follow, now)?;
            }
        }
        step_all(conn, &closed, Step::Withdraw, |one, after| Bulk::of(one, after, ready, None, now), now)?;
        Ok(due.len() == CHUNK)
    });
    logged(0, done.await)
}

/// Clears away the journals of rollouts that ended long ago, a chunk at a time; their last judgements stay.
async fn clear_away(db: &Db, now: Now) -> bool {
    let before_ms = now.0.saturating_sub(JOURNAL_KEPT_MS);
    match db.read(move |conn| store::journal::ended(conn, before_ms)).await {
        Ok(None) => false,
        Ok(Some(id)) => {
            let done = in_turn(db, move |conn| {
                store::journal::clear(conn, id)?;
                Ok(true)
            });
            logged(id, done.await)
        }
        Err(error) => logged(0, Err(error.into())),
    }
}

/// Rollouts for which there is something to do now.
fn at_work(conn: &mut Conn, now: Now) -> Result<Vec<i64>, db::Error> {
    let rollouts = store::at_work(conn)?;
    let ids: Vec<i64> = rollouts.iter().map(|rollout| rollout.id).collect();
    let mut counts: BTreeMap<i64, BTreeMap<Phase, i64>> = BTreeMap::new();
    for (id, phase, n) in store::counts(conn, &ids)? {
        counts.entry(id).or_default().insert(phase, n);
    }
    let mut found = Vec::new();
    for rollout in rollouts {
        let Some(counts) = counts.get(&rollout.id) else { continue };
        if has_work(conn, &rollout, counts, now)? {
            found.push(rollout.id);
        }
    }
    Ok(found)
}

/// Whether a rollout with these counts has something to do; saves a transaction a second where terminals take their time.
fn has_work(conn: &mut Conn, rollout: &Stored, counts: &BTreeMap<Phase, i64>, now: Now) -> Result<bool, db::Error> {
    let n = |phases: &[Phase]| phases.iter().filter_map(|phase| counts.get(phase)).sum::<i64>();
    let is_unsignalled = rollout.progress.signalled_up_to != PASSED;
    Ok(match rollout.state {
        State::Running { .. } => {
            let live = Phase::ALL.into_iter().filter(|phase| !phase.is_final()).collect::<Vec<_>>();
            let is_due = is_unsignalled
                || (is_begun(rollout, now) && (is_admitting(rollout, now) || stages::is_open_to_more(rollout)))
                || n(&live) == 0
                || watch::is_due(rollout, now);
            is_due
                || brakes::is_due(conn, rollout, now)?
                || brakes::has_stopped(conn, rollout)?
                || (n(&[Phase::Waiting]) != 0 && assignments::is_ready(conn, rollout.id, now)?)
        }
        State::Paused { .. } => {
            is_unsignalled || n(&[Phase::Offered, Phase::Downloading]) != 0 || brakes::is_due(conn, rollout, now)?
        }
        State::Halted { .. } => {
            is_unsignalled
                || n(&[Phase::Offered, Phase::Downloading]) != 0
                || (n(&[Phase::Waiting]) != 0 && brakes::is_withdrawn(conn, rollout)?)
        }
        State::Cancelled { .. } => is_unsignalled || n(&BEFORE_INSTALLING) != 0,
        State::Draft | State::AwaitingApproval | State::Succeeded => false,
    })
}

const BEFORE_INSTALLING: [Phase; 3] = [Phase::Waiting, Phase::Offered, Phase::Downloading];

/// Whether the moment has come that the rollout was planned for.
fn is_begun(rollout: &Stored, now: Now) -> bool {
    rollout.starts_at_ms.is_none_or(|starts| starts <= now.0)
}

/// Whether later matches are still taken in.
fn is_dynamic(rollout: &Stored, now: Now) -> bool {
    rollout.strategy.is_dynamic && rollout.ends_at_ms.is_none_or(|ends| now.0 < ends)
}

fn is_admitting(rollout: &Stored, now: Now) -> bool {
    let progress = &rollout.progress;
    progress.admitted_up_to != PASSED
        || (is_dynamic(rollout, now)
            && progress.scanned_at_ms.is_none_or(|at| now.0 >= at.saturating_add(RESCAN_MS) || now.0 < at))
}

/// Does the first thing there is to do. Taking back and judging come before offering, and offering before admitting more.
fn carry_on(conn: &mut Conn, rollout: &Stored, now: Now) -> Result<bool, Error> {
    Ok(brakes::withdraw(conn, rollout, now)?
        || brakes::signal(conn, rollout)?
        || brakes::judge(conn, rollout, now)?
        || brakes::close_stopped(conn, rollout, now)?
        || offers::offer(conn, rollout, now)?
        || open(conn, rollout, now)?
        || admission::admit(conn, rollout, now)?
        || watch::look(conn, rollout, now)?
        || finish(conn, rollout, now)?)
}

/// Opens the stage for a chunk and offers it in the same transaction: the rows are at hand, and written once.
fn open(conn: &mut Conn, rollout: &Stored, now: Now) -> Result<bool, Error> {
    let is_opened = stages::open(conn, rollout, now)?;
    if is_opened {
        offers::offer(conn, rollout, now)?;
    }
    Ok(is_opened)
}

/// Ends a rollout whose terminals all have their outcome.
fn finish(conn: &mut Conn, rollout: &Stored, now: Now) -> Result<bool, Error> {
    let is_open = rollout.state.offers() && is_begun(rollout, now) && rollout.progress.admitted_up_to == PASSED;
    if !is_open || is_dynamic(rollout, now) {
        return Ok(false);
    }
    let counts = store::counts(conn, &[rollout.id])?;
    // Missing counts are no evidence that nothing is left.
    let is_known = counts.len() == Phase::ALL.len();
    let is_live = counts.iter().any(|&(_, phase, n)| n != 0 && !phase.is_final());
    if !is_known || is_live {
        return Ok(false);
    }
    if let Subject::Profile { id, layer } = &rollout.subject {
        // Only what was meant for the whole layer becomes the layer's own.
        let is_whole =
            rollout.filter == Filter { organization_id: rollout.filter.organization_id, ..Filter::default() };
        if is_whole && store::gate::stops(conn, rollout.id)?.is_empty() {
            profiles::settle(conn, &planner(), layer, *id, now)?;
        }
    }
    advance(conn, rollout, &Event::Finish, &planner(), now)?;
    Ok(true)
}

/// A rollout of a profile that takes back what it told these terminals; nothing for a release, whose order the director
/// leaves out by itself.
fn untell(
    conn: &mut Conn,
    rollout: &Stored,
    chunk: &[Assignment],
    how: profiles::Unstaged,
    now: Now,
) -> Result<(), Error> {
    let Subject::Profile { id, layer } = &rollout.subject else { return Ok(()) };
    let told = chunk.iter().filter(|one| one.state.phase().is_ordered());
    let terminals: Vec<i64> = told.map(|one| one.terminal_id).collect();
    if !terminals.is_empty() {
        profiles::unstage(conn, &terminals, layer, *id, how, now)?;
    }
    Ok(())
}

/// Locks all of a chunk's assignments before anything about them is written: in the order of their numbers and before
/// their terminals, as reports do, so that a pass and a batch of check-ins never wait for each other in a circle.
fn lock(conn: &mut Conn, chunk: &[Assignment]) -> Result<(), db::Error> {
    let mut ids: Vec<i64> = chunk.iter().map(|one| one.id).collect();
    ids.sort_unstable();
    assignments::lock(conn, &ids)
}

/// Steps a chunk of assignments, as few statements as there are different outcomes.
fn step_all(
    conn: &mut Conn,
    chunk: &[Assignment],
    event: Step,
    bulk: impl Fn(&Assignment, Assigned) -> Bulk,
    now: Now,
) -> Result<(), db::Error> {
    let mut groups: Vec<(Bulk, Vec<i64>)> = Vec::new();
    let mut ledger = Ledger::default();
    for assignment in chunk {
        let Ok(after) = assignment::step(assignment.state, event) else { continue };
        let bulk = bulk(assignment, after);
        match groups.iter_mut().find(|group| group.0 == bulk) {
            Some(group) => group.1.push(assignment.id),
            None => groups.push((bulk, vec![assignment.id])),
        }
        ledger.note(assignment, after, Said::default(), now);
    }
    lock(conn, chunk)?;
    for (bulk, ids) in groups {
        assignments::swap_all(conn, &bulk, &ids, now)?;
    }
    ledger.write(conn)
}
