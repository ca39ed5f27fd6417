//! Writing rollouts: drafts, steps, requests, and how far the planner got.

use diesel::prelude::*;

use super::{Progress, Stored, Subject, json};
use crate::clock::Now;
use crate::db::schema::{rollout_counts, rollout_progress, rollouts};
use crate::db::{self, Conn, Sequence, next_id};
use crate::rollouts::Request;
use crate::rollouts::assignment::Phase;
use crate::rollouts::filter::Filter;
use crate::rollouts::state::State;
use crate::rollouts::strategy::Strategy;

/// A new draft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::rollouts) struct Draft {
    pub organization_id: i64,
    pub org_path: String,
    pub name: String,
    pub subject: Subject,
    pub filter: Filter,
    pub strategy: Strategy,
    pub assignment_timeout_s: i64,
    pub retry_max: i64,
    pub retry_wait_s: i64,
    pub priority: i64,
    pub starts_at_ms: Option<i64>,
    pub ends_at_ms: Option<i64>,
    pub parent_id: Option<i64>,
    pub created_by: i64,
    pub created_by_name: String,
}

/// Inserts a draft with all its counts at zero; returns its number.
pub(in crate::rollouts) fn insert(conn: &mut Conn, draft: &Draft, now: Now) -> Result<i64, db::Error> {
    let id = next_id(conn, Sequence::Rollouts)?;
    let state = State::Draft;
    let (profile_id, layer) = match &draft.subject {
        Subject::Release(_) => (None, None),
        Subject::Profile { id, layer } => (Some(*id), Some(json(layer))),
    };
    diesel::insert_into(rollouts::table)
        .values((
            rollouts::id.eq(id),
            rollouts::organization_id.eq(draft.organization_id),
            rollouts::org_path.eq(&draft.org_path),
            rollouts::name.eq(&draft.name),
            (
                rollouts::release_id.eq(draft.subject.release_id()),
                rollouts::profile_id.eq(profile_id),
                rollouts::layer.eq(layer),
                rollouts::filter.eq(json(&draft.filter)),
                rollouts::strategy.eq(json(&draft.strategy)),
            ),
            rollouts::state.eq(state.as_str()),
            rollouts::stage.eq(0),
            rollouts::why.eq(state.why()),
            rollouts::state_since_ms.eq(now.0),
            rollouts::deadline_ms.eq(state.time_limit_ms().map(|limit| now.0.saturating_add(limit))),
            (
                rollouts::assignment_timeout_s.eq(draft.assignment_timeout_s),
                rollouts::retry_max.eq(draft.retry_max),
                rollouts::retry_wait_s.eq(draft.retry_wait_s),
                rollouts::priority.eq(draft.priority),
                rollouts::starts_at_ms.eq(draft.starts_at_ms),
                rollouts::ends_at_ms.eq(draft.ends_at_ms),
                rollouts::parent_id.eq(draft.parent_id),
            ),
            rollouts::created_by.eq(draft.created_by),
            rollouts::created_by_name.eq(&draft.created_by_name),
            rollouts::created_at_ms.eq(now.0),
            rollouts::version.eq(1),
        ))
        .execute(conn)?;
    let fresh = Progress::fresh();
    diesel::insert_into(rollout_progress::table)
        .values((
            rollout_progress::rollout_id.eq(id),
            rollout_progress::admitted_up_to.eq(fresh.admitted_up_to),
            rollout_progress::admitted.eq(fresh.admitted),
            rollout_progress::opened.eq(fresh.opened),
            rollout_progress::swept_up_to.eq(fresh.swept_up_to),
            rollout_progress::signalled_up_to.eq(fresh.signalled_up_to),
            rollout_progress::withdrawn_up_to.eq(fresh.withdrawn_up_to),
            rollout_progress::opened_up_to.eq(fresh.opened_up_to),
        ))
        .execute(conn)?;
    for phase in Phase::ALL {
        diesel::insert_into(rollout_counts::table)
            .values((
                rollout_counts::rollout_id.eq(id),
                rollout_counts::phase.eq(phase.as_str()),
                rollout_counts::n.eq(0),
            ))
            .execute(conn)?;
    }
    Ok(id)
}

/// Writes a step if nobody was faster; returns whether it was written. A request that waited is settled by it.
///
/// Every step makes the planner tell the terminals that already install: their director documents changed.
pub(in crate::rollouts) fn swap(conn: &mut Conn, before: &Stored, after: &State, now: Now) -> Result<bool, db::Error> {
    let row = rollouts::table.find(before.id).filter(rollouts::version.eq(before.version));
    let started_at_ms = before.started_at_ms.or_else(|| after.offers().then_some(now.0));
    let request = match after {
        State::AwaitingApproval => before.request.as_ref().map(json),
        State::Draft
        | State::Running { .. }
        | State::Paused { .. }
        | State::Halted { .. }
        | State::Succeeded
        | State::Cancelled { .. } => None,
    };
    let written = diesel::update(row)
        .set((
            rollouts::state.eq(after.as_str()),
            rollouts::stage.eq(after.stage().map_or(before.stage, i64::from)),
            rollouts::why.eq(after.why()),
            rollouts::state_since_ms.eq(now.0),
            rollouts::deadline_ms.eq(after.time_limit_ms().map(|limit| now.0.saturating_add(limit))),
            rollouts::request.eq(request),
            rollouts::started_at_ms.eq(started_at_ms),
            rollouts::finished_at_ms.eq(after.is_final().then_some(now.0)),
            rollouts::version.eq(rollouts::version + 1),
        ))
        .execute(conn)?;
    if written != 1 {
        return Ok(false);
    }
    // Only what the step changes: the planner may have gone on with the rest since this rollout was read.
    let progress = rollout_progress::table.find(before.id);
    if before.state.offers() != after.offers() {
        let anew = (rollout_progress::signalled_up_to.eq(0), rollout_progress::withdrawn_up_to.eq(0));
        diesel::update(progress).set(anew).execute(conn)?;
    }
    if after.stage().is_some() && (after.stage() != before.state.stage() || before.started_at_ms.is_none()) {
        let anew =
            (rollout_progress::stage_opened_ms.eq(Some(now.0)), rollout_progress::stage_filled_ms.eq(None::<i64>));
        diesel::update(progress).set(anew).execute(conn)?;
    }
    Ok(true)
}

/// Writes what a person saw and agreed to, or asks a second one for; returns whether nobody was faster.
pub(in crate::rollouts) fn note_target(
    conn: &mut Conn,
    before: &Stored,
    target: Option<(i64, &str)>,
    request: Option<&Request>,
) -> Result<bool, db::Error> {
    let row = rollouts::table.find(before.id).filter(rollouts::version.eq(before.version));
    let (targeted, digest) = match target {
        Some((count, digest)) => (Some(count), Some(digest)),
        None => (before.targeted, before.target_digest.as_deref()),
    };
    let written = diesel::update(row)
        .set((
            rollouts::targeted.eq(targeted),
            rollouts::target_digest.eq(digest),
            rollouts::request.eq(request.map(json)),
            rollouts::version.eq(rollouts::version + 1),
        ))
        .execute(conn)?;
    Ok(written == 1)
}

/// Keeps everybody else from stepping this rollout until the transaction ends, and writes how far the planner got;
/// returns whether the rollout still is what it was when it was read.
pub(in crate::rollouts) fn hold(conn: &mut Conn, rollout: &Stored, progress: &Progress) -> Result<bool, db::Error> {
    let row = rollouts::table.find(rollout.id).filter(rollouts::version.eq(rollout.version));
    let held = diesel::update(row).set(rollouts::version.eq(rollout.version)).execute(conn)?;
    if held == 1 && *progress != rollout.progress {
        write_progress(conn, rollout.id, progress)?;
    }
    Ok(held == 1)
}

fn write_progress(conn: &mut Conn, id: i64, progress: &Progress) -> Result<(), db::Error> {
    diesel::update(rollout_progress::table.find(id))
        .set((
            rollout_progress::admitted_up_to.eq(progress.admitted_up_to),
            rollout_progress::admitted.eq(progress.admitted),
            rollout_progress::scanned_at_ms.eq(progress.scanned_at_ms),
            rollout_progress::opened.eq(progress.opened),
            rollout_progress::stage_opened_ms.eq(progress.stage_opened_ms),
            rollout_progress::stage_filled_ms.eq(progress.stage_filled_ms),
            rollout_progress::swept_up_to.eq(progress.swept_up_to),
            rollout_progress::swept_at_ms.eq(progress.swept_at_ms),
            rollout_progress::signalled_up_to.eq(progress.signalled_up_to),
            rollout_progress::withdrawn_up_to.eq(progress.withdrawn_up_to),
            rollout_progress::opened_up_to.eq(progress.opened_up_to),
        ))
        .execute(conn)?;
    Ok(())
}
