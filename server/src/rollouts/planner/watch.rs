//! The look for silent terminals, updated ones and those not yet updated alike: who was heard of lately is a control, and
//! who falls silent goes into the gate's journal, on both sides by the same rule.

use std::collections::BTreeMap;

use super::super::Error;
use super::super::assignment::Phase;
use super::super::gate::{Arm, Class};
use super::super::judging;
use super::super::store::gate::{self as gate_store, Heard, NewEvent};
use super::super::store::{self, PASSED, Progress, Stored};
use super::offers::silent_at_ms;
use crate::clock::Now;
use crate::db::Conn;

/// A look begins this long after the last one began, ms.
const LOOK_MS: i64 = 60_000;
/// Terminals of one step: some milliseconds of reading.
const LOOK_CHUNK: usize = 1_000;

/// Where a look is: first through those that wait, then through those updated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// After this assignment, through those that wait.
    Waiting(i64),
    /// After this assignment, through those updated.
    Updated(i64),
    /// Over.
    Over,
}

impl Look {
    fn from_column(at: i64) -> Self {
        match at {
            PASSED => Self::Over,
            at if at < 0 => Self::Updated(-1 - at),
            at => Self::Waiting(at),
        }
    }

    fn to_column(self) -> i64 {
        match self {
            Self::Waiting(at) => at,
            Self::Updated(at) => -1 - at,
            Self::Over => PASSED,
        }
    }
}

/// Whether there is something to look at.
pub(super) fn is_due(rollout: &Stored, now: Now) -> bool {
    let progress = &rollout.progress;
    progress.admitted_up_to == PASSED
        && progress.stage_opened_ms.is_some()
        && (progress.swept_at_ms.is_none_or(|at| now.0 >= at.saturating_add(LOOK_MS) || now.0 < at)
            || Look::from_column(progress.swept_up_to) != Look::Over)
}

/// Looks at the next terminals.
pub(super) fn look(conn: &mut Conn, rollout: &Stored, now: Now) -> Result<bool, Error> {
    if !rollout.state.offers() || !is_due(rollout, now) {
        return Ok(false);
    }
    let is_first = rollout.progress.swept_at_ms.is_none();
    let at = match Look::from_column(rollout.progress.swept_up_to) {
        Look::Over => Look::Waiting(0),
        _ if is_first => Look::Waiting(0),
        going_on => going_on,
    };
    let begins = at == Look::Waiting(0);
    let (phase, after) = match at {
        Look::Waiting(after) => (Phase::Waiting, after),
        Look::Updated(after) => (Phase::Succeeded, after),
        Look::Over => return Ok(false),
    };
    let heard = gate_store::heard(conn, rollout.id, phase, after, LOOK_CHUNK)?;
    let is_last = heard.len() < LOOK_CHUNK;
    let last = heard.last().map_or(after, |one| one.assignment_id);
    let next = match (at, is_last) {
        (Look::Waiting(_), false) => Look::Waiting(last),
        (Look::Waiting(_), true) => Look::Updated(0),
        (Look::Updated(_), false) => Look::Updated(last),
        (Look::Updated(_) | Look::Over, _) => Look::Over,
    };
    let progress = Progress {
        swept_up_to: next.to_column(),
        swept_at_ms: if begins { Some(now.0) } else { rollout.progress.swept_at_ms },
        ..rollout.progress.clone()
    };
    if !store::hold(conn, rollout, &progress)? {
        return Ok(false);
    }
    let mut controls: BTreeMap<i64, i64> = BTreeMap::new();
    let mut events = Vec::new();
    for one in &heard {
        let silent_at_ms = silent_at_ms(one.last_seen_ms, one.interval_s);
        let is_silent = silent_at_ms <= now.0;
        if phase == Phase::Waiting && one.started_at_ms.is_none() && one.hand_picked == 0 && !is_silent {
            *controls.entry(one.cell).or_default() += 1;
        }
        if is_silent && one.hand_picked == 0 {
            events.extend(fell_silent(rollout, one, silent_at_ms, phase, now));
        }
    }
    gate_store::see_controls(conn, rollout.id, &controls)?;
    if phase == Phase::Waiting && is_last {
        gate_store::settle_controls(conn, rollout.id)?;
    }
    gate_store::note(conn, &events)?;
    Ok(true)
}

/// The journal's line of a terminal that fell silent after the rollout began, or within the time it is watched after its
/// update.
fn fell_silent(rollout: &Stored, one: &Heard, silent_at_ms: i64, phase: Phase, now: Now) -> Option<NewEvent> {
    let watch_ms = judging::windows(rollout).hard_ms;
    let (arm, updated_at_ms) = if phase == Phase::Waiting {
        let began = rollout.started_at_ms?;
        if one.started_at_ms.is_some() || silent_at_ms < began {
            return None;
        }
        (Arm::Control, None)
    } else {
        let updated_at_ms = one.finished_at_ms?;
        if silent_at_ms < updated_at_ms || silent_at_ms > updated_at_ms.saturating_add(watch_ms) {
            return None;
        }
        (Arm::Treated, Some(updated_at_ms))
    };
    Some(NewEvent {
        rollout_id: rollout.id,
        terminal_id: one.terminal_id,
        event: format!("silent:{}", one.last_seen_ms),
        at_ms: silent_at_ms.min(now.0),
        site: one.site,
        cell: one.cell,
        arm,
        updated_at_ms,
        class: Class::Hard,
    })
}
