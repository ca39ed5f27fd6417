//! Admission: which terminals take part. Every one gets its assignment at the start, waiting; later matches of a dynamic
//! rollout get theirs when they are found.

use super::super::Error;
use super::super::assignment::{Event as Step, Withdrawal};
use super::super::filter::Attributes;
use super::super::resolve::{self, Found, Plan};
use super::super::store::assignments::{Admitted, Bulk};
use super::super::store::{self, PASSED, Progress, Stored, assignments, gate as gate_store};
use super::super::strategy::Strategy;
use super::{is_admitting, is_begun, step_all};
use crate::clock::Now;
use crate::db::{self, Conn};

/// Gives the next window of terminals their assignments.
pub(super) fn admit(conn: &mut Conn, rollout: &Stored, now: Now) -> Result<bool, Error> {
    if !rollout.state.offers() || !is_begun(rollout, now) || !is_admitting(rollout, now) {
        return Ok(false);
    }
    let is_anew = rollout.progress.admitted_up_to == PASSED;
    let after = if is_anew { 0 } else { rollout.progress.admitted_up_to };
    // Only what walks again meets its own.
    let is_once = !rollout.strategy.is_dynamic && !is_anew && rollout.filter.of_rollout.is_none();
    let plan = if is_once { Plan::of_first_walk(conn, rollout)? } else { Plan::of(conn, rollout)? };
    let length_bytes = match rollout.subject.release_id() {
        Some(id) => store::release(conn, id)?.map_or(0, |release| release.length_bytes),
        None => 0,
    };
    let judged = resolve::window(conn, &plan, after)?;
    let found: Vec<Found> = judged.terminals.into_iter().filter(|found| found.judged.is_ok()).collect();
    let count = i64::try_from(found.len()).unwrap_or(i64::MAX);
    let rank = |found: &Found| Strategy::rank(rollout.id, found.candidate.id, found.named_by);
    let first = found.iter().map(rank).min().unwrap_or(i64::MAX);
    let progress = Progress {
        admitted_up_to: judged.up_to,
        admitted: rollout.progress.admitted.saturating_add(count),
        scanned_at_ms: if after == 0 { Some(now.0) } else { rollout.progress.scanned_at_ms },
        opened_up_to: rollout.progress.opened_up_to.min(first),
        ..rollout.progress.clone()
    };
    if !store::hold(conn, rollout, &progress)? {
        return Ok(false);
    }
    supersede(conn, &found, now)?;
    let attributes: Vec<&Attributes> = found.iter().map(|found| &found.candidate.attributes).collect();
    let cells = gate_store::number_cells(conn, rollout.id, &attributes)?;
    let admitted: Vec<Admitted> = found
        .into_iter()
        .map(|found| {
            let cell = cells.get(&found.candidate.attributes).copied().unwrap_or(gate_store::POOLED);
            Admitted {
                terminal_id: found.candidate.id,
                rank: rank(&found),
                is_hand_picked: found.named_by.is_some(),
                org_path: found.candidate.org_path,
                firmware: found.candidate.firmware,
                site: found.candidate.site,
                cell,
            }
        })
        .collect();
    assignments::insert(conn, rollout.id, length_bytes, admitted, now)?;
    Ok(true)
}

/// What waits in a rollout of a lower priority gives way.
fn supersede(conn: &mut Conn, found: &[Found], now: Now) -> Result<(), db::Error> {
    let ids: Vec<i64> = found.iter().filter_map(|found| found.supersedes).collect();
    if ids.is_empty() {
        return Ok(());
    }
    let waiting = assignments::by_ids(conn, &ids)?;
    let event = Step::Cancel(Withdrawal::Superseded);
    step_all(conn, &waiting, event, |one, after| Bulk::of(one, after, None, None, now), now)
}
