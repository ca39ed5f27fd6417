//! Stages: which terminals are in, and when the next stage opens.

use super::super::assignment::Phase;
use super::super::gate::Verdict;
use super::super::judging;
use super::super::state::Event;
use super::super::store::assignments::{Assignment, Circumstances};
use super::super::store::ledger::Ledger;
use super::super::store::{self, CHUNK, PASSED, Stored, assignments};
use super::super::strategy::{Opening, Planned, UTC_OFFSET_MIN, Wait};
use super::super::{Error, advance};
use super::{is_begun, lock, planner};
use crate::clock::Now;
use crate::db::{self, Conn};

/// Without a verdict a rollout goes on by itself up to this many terminals …
const UNJUDGED_MAX: u64 = 1_000;
/// … or this share of them, whichever is more: rare failures cannot be cleared on a small fleet.
const UNJUDGED_PERCENT: u64 = 10;

fn number(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

fn stage(rollout: &Stored) -> u32 {
    u32::try_from(rollout.stage).unwrap_or(u32::MAX)
}

/// Whether the running stage has not taken in all that it is to.
pub(super) fn is_open_to_more(rollout: &Stored) -> bool {
    let progress = &rollout.progress;
    if progress.admitted_up_to != PASSED {
        return false;
    }
    match rollout.strategy.plan(stage(rollout), number(progress.admitted)) {
        Planned::Below(_) => progress.stage_filled_ms.is_none(),
        Planned::UpTo(n) => progress.stage_filled_ms.is_none() || number(progress.opened) < n,
    }
}

/// The stage that opens after the running one: the next that adds anybody, or else the last. A stage that adds nobody has
/// nothing to show, and is not waited for.
pub(in crate::rollouts) fn next(conn: &mut Conn, rollout: &Stored) -> Result<u32, db::Error> {
    let mut next = stage(rollout).saturating_add(1);
    while next.saturating_add(1) < rollout.strategy.stage_count() && adds_nobody(conn, rollout, next)? {
        next = next.saturating_add(1);
    }
    Ok(next)
}

/// Whether opening this stage would open nothing; never before all terminals are known.
fn adds_nobody(conn: &mut Conn, rollout: &Stored, stage: u32) -> Result<bool, db::Error> {
    let progress = &rollout.progress;
    if progress.admitted_up_to != PASSED {
        return Ok(false);
    }
    match rollout.strategy.plan(stage, number(progress.admitted)) {
        Planned::UpTo(n) => Ok(n <= number(progress.opened)),
        Planned::Below(bound) => {
            Ok(assignments::unopened(conn, rollout.id, progress.opened_up_to..bound, 1)?.is_empty())
        }
    }
}

/// Opens the running stage for the next chunk of terminals, in the order of their rank.
pub(super) fn open(conn: &mut Conn, rollout: &Stored, now: Now) -> Result<bool, Error> {
    if !rollout.state.offers() || !is_begun(rollout, now) || !is_open_to_more(rollout) {
        return Ok(false);
    }
    let is_first = rollout.progress.opened == 0 && rollout.progress.admitted > 0;
    let has_next = stage(rollout).saturating_add(1) < rollout.strategy.stage_count();
    if is_first && has_next && adds_nobody(conn, rollout, stage(rollout))? {
        // Nobody was updated so far: there is nothing that a gate could say first.
        advance(conn, rollout, &Event::OpenStage, &planner(), now)?;
        return Ok(true);
    }
    let mut progress = rollout.progress.clone();
    let (bound, room) = match rollout.strategy.plan(stage(rollout), number(progress.admitted)) {
        Planned::Below(bound) => (Some(bound), CHUNK),
        Planned::UpTo(n) => {
            let room = n.saturating_sub(number(progress.opened));
            (None, usize::try_from(room).unwrap_or(usize::MAX).min(CHUNK))
        }
    };
    // Not from the first: before the next, PostgreSQL's index has the entries of all that were opened until they are
    // vacuumed away.
    let ranks = progress.opened_up_to..bound.unwrap_or(i64::MAX);
    let chunk = if room == 0 { Vec::new() } else { assignments::unopened(conn, rollout.id, ranks, room)? };
    progress.opened_up_to = chunk.last().map_or(progress.opened_up_to, |(rank, _)| *rank);
    let chunk: Vec<Assignment> = chunk.into_iter().map(|(_, one)| one).collect();
    if chunk.is_empty() {
        progress.stage_filled_ms = progress.stage_filled_ms.or(Some(now.0));
    }
    if chunk.is_empty() && room > 0 && bound.is_none() {
        // Nobody is left: what is missing was taken over by another rollout.
        progress.opened = progress.admitted;
    }
    progress.opened = progress.opened.saturating_add(i64::try_from(chunk.len()).unwrap_or(0));
    if progress == rollout.progress {
        return Ok(false);
    }
    if !store::hold(conn, rollout, &progress)? {
        return Ok(false);
    }
    lock(conn, &chunk)?;
    let ids: Vec<i64> = chunk.iter().map(|one| one.terminal_id).collect();
    let promised = store::announced(conn, &rollout.strategy.announcements)?;
    let known = assignments::circumstances(conn, &ids)?;
    let mut groups: Vec<(Ready, Vec<i64>)> = Vec::new();
    let mut ledger = Ledger::default();
    for one in &chunk {
        let turn = match known.get(&one.terminal_id) {
            Some(circumstances) => turn(rollout, circumstances, &promised, now),
            None => Turn::Now(None),
        };
        let ready = match turn {
            Turn::Now(_) => (now.0, None),
            Turn::Later(at_ms, wait) => (at_ms, Some(wait)),
        };
        match groups.iter_mut().find(|group| group.0 == ready) {
            Some(group) => group.1.push(one.id),
            None => groups.push((ready, vec![one.id])),
        }
        ledger.note_opened(one, rollout.stage);
    }
    for ((ready_ms, wait), ids) in groups {
        assignments::open(conn, rollout.stage, &ids, ready_ms, wait)?;
    }
    ledger.write(conn)?;
    Ok(true)
}

/// When an assignment may be offered at the earliest, Unix ms, and what holds it until then.
type Ready = (i64, Option<Wait>);

/// When a terminal may be offered the update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Now, until the window closes.
    Now(Option<i64>),
    /// From a moment on, and why not before.
    Later(i64, Wait),
}

/// When a terminal in these circumstances may be offered the update, as far as dates and windows say.
pub(super) fn turn(rollout: &Stored, circumstances: &Circumstances, promised: &[(String, i64, i64)], now: Now) -> Turn {
    let offset = circumstances.utc_offset_min.and_then(|min| i32::try_from(min).ok()).unwrap_or(UTC_OFFSET_MIN);
    let not_before = promised
        .iter()
        .filter(|(path, ..)| circumstances.org_path.starts_with(path.as_str()))
        .max_by_key(|(path, ..)| path.len())
        .map_or(now.0, |(_, at_ms, _)| *at_ms);
    let Opening { from_ms, until_ms } = rollout.strategy.opening(now.0.max(not_before), offset);
    if not_before > now.0 {
        Turn::Later(from_ms, Wait::Announced)
    } else if from_ms > now.0 {
        Turn::Later(from_ms, Wait::Window)
    } else {
        Turn::Now(until_ms)
    }
}

/// Whether the next stage opens by itself after this verdict.
pub(super) fn may_open_next(conn: &mut Conn, rollout: &Stored, verdict: Verdict, now: Now) -> Result<bool, db::Error> {
    let strategy = &rollout.strategy;
    let next = next(conn, rollout)?;
    if next >= strategy.stage_count() || !strategy.gate.opens_stages || is_open_to_more(rollout) {
        return Ok(false);
    }
    let total = number(rollout.progress.admitted);
    let would_be_open = match strategy.plan(next, total) {
        Planned::UpTo(n) => n,
        Planned::Below(_) => number(rollout.progress.opened),
    };
    let is_small = would_be_open <= UNJUDGED_MAX.max(total.saturating_mul(UNJUDGED_PERCENT) / 100);
    match verdict {
        Verdict::Pass => Ok(true),
        Verdict::Insufficient if is_small && judging::is_soaked(rollout, now) => is_settled(conn, rollout),
        Verdict::Insufficient | Verdict::Fail => Ok(false),
    }
}

/// Whether the stage's terminals have shown what they will show: nobody is at it any more, and without a soak time
/// nobody is still to answer either.
fn is_settled(conn: &mut Conn, rollout: &Stored) -> Result<bool, db::Error> {
    let counts = store::counts(conn, &[rollout.id])?;
    let n = |wanted: fn(Phase) -> bool| counts.iter().filter(|row| wanted(row.1)).map(|row| row.2).sum::<i64>();
    // Missing counts are no evidence that nothing is left.
    if counts.len() != Phase::ALL.len() || n(Phase::is_under_way) != 0 {
        return Ok(false);
    }
    let unopened = rollout.progress.admitted.saturating_sub(rollout.progress.opened);
    let is_answered = n(|phase| phase == Phase::Offered) == 0 && n(|phase| phase == Phase::Waiting) <= unopened;
    Ok(rollout.strategy.soak_s > 0 || is_answered)
}
