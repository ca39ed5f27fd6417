//! The look for silent terminals, updated ones and those not yet updated alike: who was heard of lately is a control, and
//! who falls silent goes into the gate's journal, on both sides by the same rule. Who falls silent while it installs has
//! an unknown result, and ends as timed out.

use std::collections::BTreeMap;

use super::super::Error;
use super::super::assignment::{Event as Step, Phase};
use super::super::gate::{Arm, Class};
use super::super::judging;
use super::super::store::assignments::{self, Bulk};
use super::super::store::gate::{self as gate_store, Heard};
use super::super::store::journal::{self, NewEvent};
use super::super::store::{self, PASSED, Progress, Stored};
use super::offers::silent_at_ms;
use super::step_all;
use crate::clock::Now;
use crate::db::Conn;

/// A look begins this long after the last one began, ms.
const LOOK_MS: i64 = 60_000;
/// Terminals of one step: some milliseconds of reading.
const LOOK_CHUNK: usize = 1_000;
/// A terminal that restarts for its update may be silent for this much longer, ms.
const REBOOT_ALLOWANCE_MS: i64 = 600_000;
/// Phases that a look goes through, one after the other.
const PHASES: [Phase; 5] = [Phase::Waiting, Phase::Succeeded, Phase::Installing, Phase::Rebooting, Phase::Trial];
/// Bits of a place that are the assignment; above them stands the phase.
const ID_BITS: u32 = 56;

/// Where a look is: the phase, and the last assignment that was looked at. Kept in one column.
fn place(column: i64) -> Option<(usize, i64)> {
    if column == PASSED {
        return None;
    }
    let at = usize::try_from(column >> ID_BITS).ok()?;
    Some((at, column & ((1 << ID_BITS) - 1)))
}

fn column(at: usize, after: i64) -> i64 {
    if at >= PHASES.len() {
        return PASSED;
    }
    i64::try_from(at).map_or(PASSED, |at| at << ID_BITS | after)
}

/// Whether there is something to look at.
pub(super) fn is_due(rollout: &Stored, now: Now) -> bool {
    let progress = &rollout.progress;
    let is_time = progress.swept_at_ms.is_none_or(|at| now.0 >= at.saturating_add(LOOK_MS) || now.0 < at);
    progress.admitted_up_to == PASSED
        && progress.stage_opened_ms.is_some()
        && (is_time || place(progress.swept_up_to).is_some())
}

/// Looks at the next terminals.
pub(super) fn look(conn: &mut Conn, rollout: &Stored, now: Now) -> Result<bool, Error> {
    if !rollout.state.offers() || !is_due(rollout, now) {
        return Ok(false);
    }
    let is_going_on = rollout.progress.swept_at_ms.is_some();
    let going_on = place(rollout.progress.swept_up_to).filter(|_| is_going_on);
    let (at, after) = going_on.unwrap_or((0, 0));
    let Some(&phase) = PHASES.get(at) else { return Ok(false) };
    let looked = gate_store::heard(conn, rollout.id, phase, after, LOOK_CHUNK)?;
    let (heard, is_last, last) = (looked.heard, looked.is_over, looked.last.unwrap_or(after));
    let progress = Progress {
        swept_up_to: if is_last { column(at + 1, 0) } else { column(at, last) },
        swept_at_ms: if going_on.is_none() { Some(now.0) } else { rollout.progress.swept_at_ms },
        ..rollout.progress.clone()
    };
    if !store::hold(conn, rollout, &progress)? {
        return Ok(false);
    }
    match phase {
        Phase::Waiting => {
            note_controls(conn, rollout, &heard, is_last, now)?;
            note_silent(conn, rollout, &heard, phase, now)?;
        }
        Phase::Succeeded => note_silent(conn, rollout, &heard, phase, now)?,
        Phase::Installing | Phase::Rebooting | Phase::Trial => time_out(conn, &heard, now)?,
        Phase::Offered
        | Phase::Downloading
        | Phase::Failed
        | Phase::RolledBack
        | Phase::TimedOut
        | Phase::Cancelled => {}
    }
    Ok(true)
}

/// Counts who was heard of lately and could be updated, by cell.
fn note_controls(conn: &mut Conn, rollout: &Stored, heard: &[Heard], is_last: bool, now: Now) -> Result<(), Error> {
    let mut controls: BTreeMap<i64, i64> = BTreeMap::new();
    for one in heard {
        let is_heard = silent_at_ms(one.last_seen_ms, one.interval_s) > now.0;
        if is_heard && one.started_at_ms.is_none() && one.hand_picked == 0 {
            *controls.entry(one.cell).or_default() += 1;
        }
    }
    gate_store::see_controls(conn, rollout.id, &controls)?;
    if is_last {
        gate_store::settle_controls(conn, rollout.id)?;
    }
    Ok(())
}

/// Notes in the gate's journal who fell silent.
fn note_silent(conn: &mut Conn, rollout: &Stored, heard: &[Heard], phase: Phase, now: Now) -> Result<(), Error> {
    let silent = heard.iter().filter(|one| one.hand_picked == 0);
    let mut events: Vec<NewEvent> = silent.filter_map(|one| fell_silent(rollout, one, phase, now)).collect();
    if events.is_empty() {
        return Ok(());
    }
    // What was taken in is not said again: its line may have been cleared away.
    let terminals: Vec<i64> = events.iter().map(|event| event.terminal_id).collect();
    let known = journal::silences(conn, rollout.id, &terminals)?;
    events.retain(|event| known.get(&event.terminal_id).is_none_or(|at_ms| *at_ms < event.at_ms));
    Ok(journal::note(conn, &events)?)
}

/// The journal's line of a terminal that fell silent after the rollout began, or within the time it is watched after its
/// update.
fn fell_silent(rollout: &Stored, one: &Heard, phase: Phase, now: Now) -> Option<NewEvent> {
    let silent_at_ms = silent_at_ms(one.last_seen_ms, one.interval_s);
    if silent_at_ms > now.0 {
        return None;
    }
    let (arm, updated_at_ms) = if phase == Phase::Waiting {
        let began = rollout.started_at_ms?;
        if one.started_at_ms.is_some() || silent_at_ms < began {
            return None;
        }
        (Arm::Control, None)
    } else {
        let updated_at_ms = one.finished_at_ms?;
        let watch_ms = judging::windows(rollout).hard_ms;
        if silent_at_ms < updated_at_ms || silent_at_ms > updated_at_ms.saturating_add(watch_ms) {
            return None;
        }
        (Arm::Treated, Some(updated_at_ms))
    };
    Some(NewEvent {
        rollout_id: rollout.id,
        terminal_id: one.terminal_id,
        event: format!("{}{}", journal::SILENT_EVENT, one.last_seen_ms),
        at_ms: silent_at_ms,
        site: one.site,
        cell: one.cell,
        arm,
        updated_at_ms,
        class: Class::Hard,
    })
}

/// Ends who fell silent while it wrote, booted or tried the update. A report that was taken in is a sign of life, too.
fn time_out(conn: &mut Conn, heard: &[Heard], now: Now) -> Result<(), Error> {
    let is_silent = |one: &&Heard| {
        let last_sign = one.last_seen_ms.max(one.phase_since_ms);
        silent_at_ms(last_sign, one.interval_s).saturating_add(REBOOT_ALLOWANCE_MS) <= now.0
    };
    let ids: Vec<i64> = heard.iter().filter(is_silent).map(|one| one.assignment_id).collect();
    if ids.is_empty() {
        return Ok(());
    }
    let silent = assignments::by_ids(conn, &ids)?;
    step_all(conn, &silent, Step::Expire, |one, after| Bulk::of(one, after, None, None, now), now)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_survives_its_column() {
        for at in 0..PHASES.len() {
            for after in [0, 1, 1_000_000_007] {
                assert_eq!(place(column(at, after)), Some((at, after)));
            }
        }
        assert_eq!(place(column(PHASES.len(), 0)), None);
    }
}
