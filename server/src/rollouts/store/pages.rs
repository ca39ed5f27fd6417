//! SQL of what people look at: assignments of a rollout, reasons, a terminal's timeline.

use std::collections::BTreeMap;

use diesel::dsl::sql;
use diesel::expression::SqlLiteral;
use diesel::prelude::*;
use diesel::sql_types::Bool;

use crate::db::schema::{assignments, releases, rollout_reasons, rollouts, terminal_states, terminals, update_events};
use crate::db::{self, Conn};
use crate::operators::Scope;
use crate::rollouts::assignment::Phase;
use crate::rollouts::strategy::Wait;
use crate::rollouts::{AssignmentRow, ReasonCount, Task, TimelineEvent};

/// Values that one statement binds: below every database's limit.
const BOUND_MAX: usize = 500;

type AssignmentColumns = (
    (i64, i64, String, String, Option<String>, Option<String>, i64),
    (i64, i64, i64, Option<String>, i64, i64, Option<i64>, Option<i64>),
    (Option<i64>, Option<i64>, Option<String>),
    (Option<i64>, Option<String>, Option<i64>),
);

/// Assignments of a rollout. In one phase in the order of their ids, by the index `assignments_by_phase`; in all phases
/// in the order of their terminals, by the unique index on both; `after` is the last one's key. The caller has checked
/// that the rollout is within its scope; a terminal that has left the scope is not shown.
pub(in crate::rollouts) fn assignments_of(
    conn: &mut Conn,
    scope: &Scope,
    rollout_id: i64,
    phase: Option<Phase>,
    after: i64,
    limit: i64,
) -> Result<Vec<AssignmentRow>, db::Error> {
    // PostgreSQL carries no bound over to the other sides of a join, and would read those from the first row on.
    let above = if phase.is_none() { after } else { 0 };
    let state = terminal_states::terminal_id.eq(assignments::terminal_id).and(terminal_states::terminal_id.gt(above));
    let rows = assignments::table
        .inner_join(terminals::table.on(terminals::id.eq(assignments::terminal_id)))
        .left_join(terminal_states::table.on(state))
        .filter(assignments::rollout_id.eq(rollout_id))
        .filter(terminals::id.gt(above))
        .filter(terminals::org_path.ge(scope.from()))
        .filter(terminals::org_path.lt(scope.below()))
        .limit(limit)
        .select((
            (
                assignments::id,
                assignments::terminal_id,
                terminals::sn,
                assignments::phase,
                assignments::reason,
                assignments::detail,
                assignments::stage,
            ),
            (
                assignments::attempts,
                assignments::bytes_done,
                assignments::bytes_total,
                assignments::from_firmware,
                assignments::created_at_ms,
                assignments::phase_since_ms,
                assignments::deadline_ms,
                assignments::finished_at_ms,
            ),
            (
                terminal_states::last_seen_ms.nullable(),
                terminal_states::next_check_in_ms.nullable(),
                terminal_states::firmware.nullable(),
            ),
            (assignments::ready_ms, assignments::wait, assignments::started_at_ms),
        ));
    let rows = match phase {
        Some(phase) => rows
            .filter(assignments::phase.eq(phase.as_str()))
            .filter(assignments::id.gt(after))
            .order(assignments::id)
            .load::<AssignmentColumns>(conn)?,
        None => rows
            .filter(assignments::terminal_id.gt(after))
            .order(assignments::terminal_id)
            .load::<AssignmentColumns>(conn)?,
    };
    Ok(rows.into_iter().map(assignment_row).collect())
}

fn assignment_row(row: AssignmentColumns) -> AssignmentRow {
    let (
        (id, terminal_id, sn, phase, reason, detail, stage),
        (attempts, bytes_done, bytes_total, from_firmware, created_at_ms, phase_since_ms, deadline_ms, finished_at_ms),
        (last_seen_ms, next_check_in_ms, firmware),
        (ready_ms, wait, started_at_ms),
    ) = row;
    AssignmentRow {
        id,
        terminal_id,
        sn,
        phase,
        reason,
        detail,
        stage,
        attempts,
        bytes_done,
        bytes_total,
        from_firmware,
        firmware,
        created_at_ms,
        phase_since_ms,
        deadline_ms,
        finished_at_ms,
        last_seen_ms,
        next_check_in_ms,
        ready_ms,
        wait: wait.as_deref().and_then(Wait::parse),
        started_at_ms,
    }
}

/// The rollout of a terminal's live assignment, by the unique index on live assignments.
pub(in crate::rollouts) fn live_rollout(conn: &mut Conn, terminal_id: i64) -> Result<Option<i64>, db::Error> {
    Ok(assignments::table
        .filter(assignments::terminal_id.eq(terminal_id))
        .filter(assignments::live.eq(1))
        .select(assignments::rollout_id)
        .first(conn)
        .optional()?)
}

/// Assignments of a rollout in these phases by phase, reason and cell, by primary key: kept with every step, so that no
/// page counts.
fn reasons_of(
    conn: &mut Conn,
    rollout_id: i64,
    phases: &[Phase],
) -> Result<Vec<(String, String, i64, i64)>, db::Error> {
    let phases: Vec<&str> = phases.iter().map(|phase| phase.as_str()).collect();
    Ok(rollout_reasons::table
        .filter(rollout_reasons::rollout_id.eq(rollout_id))
        .filter(rollout_reasons::phase.eq_any(phases))
        .filter(rollout_reasons::n.ne(0))
        .select((rollout_reasons::phase, rollout_reasons::reason, rollout_reasons::cell, rollout_reasons::n))
        .load(conn)?)
}

/// Assignments of a rollout in these phases by phase and cell.
pub(in crate::rollouts) fn count_by_cell(
    conn: &mut Conn,
    rollout_id: i64,
    phases: &[Phase],
) -> Result<Vec<(String, i64, i64)>, db::Error> {
    let rows = reasons_of(conn, rollout_id, phases)?;
    Ok(rows.into_iter().map(|(phase, _, cell, n)| (phase, cell, n)).collect())
}

/// How often each reason stands in these phases of a rollout, most frequent first.
pub(in crate::rollouts) fn reasons(
    conn: &mut Conn,
    rollout_id: i64,
    phases: &[Phase],
) -> Result<Vec<ReasonCount>, db::Error> {
    let mut sums: BTreeMap<(String, String), i64> = BTreeMap::new();
    for (phase, reason, _, n) in reasons_of(conn, rollout_id, phases)? {
        if !reason.is_empty() {
            *sums.entry((phase, reason)).or_default() += n;
        }
    }
    let mut reasons: Vec<ReasonCount> =
        sums.into_iter().map(|((phase, reason), n)| ReasonCount { phase, reason, n }).collect();
    reasons.sort_by(|a, b| b.n.cmp(&a.n).then_with(|| (&a.phase, &a.reason).cmp(&(&b.phase, &b.reason))));
    Ok(reasons)
}

/// Whether the terminal is within the scope, by primary key.
pub(in crate::rollouts) fn has_terminal(conn: &mut Conn, scope: &Scope, terminal_id: i64) -> Result<bool, db::Error> {
    let found: Option<i64> = terminals::table
        .filter(terminals::id.eq(terminal_id))
        .filter(terminals::org_path.ge(scope.from()))
        .filter(terminals::org_path.lt(scope.below()))
        .select(terminals::id)
        .first(conn)
        .optional()?;
    Ok(found.is_some())
}

type EventColumns = (i64, i64, i64, String, Option<String>, String, Option<String>, Option<String>, Option<String>);

/// The newest assignment of each terminal: their numbers from the index `assignments_by_terminal` alone, then the rows
/// by primary key.
pub(in crate::rollouts) fn tasks(conn: &mut Conn, terminal_ids: &[i64]) -> Result<BTreeMap<i64, Task>, db::Error> {
    let newest: Vec<Option<i64>> = assignments::table
        .filter(assignments::terminal_id.eq_any(terminal_ids))
        .group_by(assignments::terminal_id)
        .select(diesel::dsl::max(assignments::id))
        .load(conn)?;
    let newest: Vec<i64> = newest.into_iter().flatten().collect();
    type Columns = (i64, i64, Option<String>, String, Option<String>, i64);
    let rows: Vec<Columns> = assignments::table
        .inner_join(rollouts::table.on(rollouts::id.eq(assignments::rollout_id)))
        .left_join(releases::table.on(rollouts::release_id.eq(releases::id.nullable())))
        .filter(assignments::id.eq_any(newest))
        .select((
            assignments::terminal_id,
            assignments::rollout_id,
            releases::firmware_version.nullable(),
            assignments::phase,
            assignments::reason,
            assignments::live,
        ))
        .load(conn)?;
    let task = |(terminal_id, rollout_id, version, phase, reason, live): (i64, i64, Option<String>, _, _, i64)| {
        let release_version = version.unwrap_or_default();
        (terminal_id, Task { rollout_id, release_version, phase, reason, is_live: live == 1 })
    };
    Ok(rows.into_iter().map(task).collect())
}

/// Terminals whose newest assignment ended badly, in the newest rollouts, those of each by the index
/// `assignments_ended_badly`: never more rows than are asked for, however many failed elsewhere.
pub(in crate::rollouts) fn unsuccessful_terminals(
    conn: &mut Conn,
    scope: &Scope,
    rollouts_max: i64,
    limit: usize,
) -> Result<Vec<i64>, db::Error> {
    let recent: Vec<i64> =
        rollouts::table.order(rollouts::id.desc()).limit(rollouts_max).select(rollouts::id).load(conn)?;
    let mut terminals = Vec::new();
    for rollout_id in recent {
        let left = limit.saturating_sub(terminals.len());
        if left == 0 {
            break;
        }
        let failed: Vec<(i64, i64)> = assignments::table
            .filter(assignments::rollout_id.eq(rollout_id))
            .filter(ended_badly())
            .filter(assignments::org_path.ge(scope.from()))
            .filter(assignments::org_path.lt(scope.below()))
            .order((assignments::org_path, assignments::id))
            .limit(i64::try_from(left).unwrap_or(i64::MAX))
            .select((assignments::id, assignments::terminal_id))
            .load(conn)?;
        for chunk in failed.chunks(BOUND_MAX) {
            let ids: Vec<i64> = chunk.iter().map(|(_, terminal_id)| *terminal_id).collect();
            let newest: Vec<Option<i64>> = assignments::table
                .filter(assignments::terminal_id.eq_any(ids))
                .group_by(assignments::terminal_id)
                .select(diesel::dsl::max(assignments::id))
                .load(conn)?;
            let is_newest = |id: &i64| newest.contains(&Some(*id));
            terminals.extend(chunk.iter().filter(|(id, _)| is_newest(id)).map(|(_, terminal_id)| *terminal_id));
        }
    }
    Ok(terminals)
}

/// As the partial index says it.
fn ended_badly() -> SqlLiteral<Bool> {
    sql("assignments.phase IN ('failed', 'rolled_back', 'timed_out')")
}

/// A terminal's update timeline, newest first, by primary key.
pub(in crate::rollouts) fn timeline(
    conn: &mut Conn,
    terminal_id: i64,
    limit: i64,
) -> Result<Vec<TimelineEvent>, db::Error> {
    let rows = update_events::table
        .inner_join(assignments::table.on(assignments::id.eq(update_events::assignment_id)))
        .inner_join(rollouts::table.on(rollouts::id.eq(assignments::rollout_id)))
        .left_join(releases::table.on(rollouts::release_id.eq(releases::id.nullable())))
        .filter(update_events::terminal_id.eq(terminal_id))
        .order((update_events::assignment_id.desc(), update_events::at_ms.desc()))
        .limit(limit)
        .select((
            update_events::at_ms,
            update_events::assignment_id,
            rollouts::id,
            rollouts::name,
            releases::firmware_version.nullable(),
            update_events::phase,
            update_events::reason,
            update_events::detail,
            update_events::firmware,
        ))
        .load::<EventColumns>(conn)?;
    Ok(rows
        .into_iter()
        .map(|(at_ms, assignment, rollout_id, rollout, release_version, phase, reason, detail, firmware)| {
            let release_version = release_version.unwrap_or_default();
            TimelineEvent { at_ms, assignment, rollout_id, rollout, release_version, phase, reason, detail, firmware }
        })
        .collect())
}
