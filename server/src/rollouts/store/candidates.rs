//! SQL that walks the terminals in the order of their ids, a window at a time: however narrow a filter is, no statement
//! reads more than one window.

use std::collections::HashSet;

use diesel::prelude::*;

use super::CHUNK;
use crate::db::schema::{assignments, rollouts, terminal_states, terminal_tags, terminals};
use crate::db::{self, Conn};
use crate::operators::Scope;
use crate::rollouts::filter::Candidate;

type Columns = (i64, String, String, String, String, Option<i64>, Option<String>, Option<String>);

macro_rules! rows {
    () => {
        terminals::table
            .left_join(terminal_states::table.on(terminal_states::terminal_id.eq(terminals::id)))
            .order(terminals::id)
            .limit(i64::try_from(CHUNK).unwrap_or(i64::MAX))
            .select((
                terminals::id,
                terminals::sn,
                terminals::model,
                terminals::org_path,
                terminals::lifecycle,
                terminals::enrolled_at_ms,
                terminal_states::firmware.nullable(),
                terminal_states::app.nullable(),
            ))
    };
}

fn candidate(row: Columns) -> Candidate {
    let (id, sn, model, org_path, lifecycle, enrolled_at_ms, firmware, app) = row;
    let is_enrolled = enrolled_at_ms.is_some();
    Candidate { id, sn, model, org_path, lifecycle, is_enrolled, firmware, app }
}

/// One window of terminals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::rollouts) struct Window {
    /// Those within the scope.
    pub candidates: Vec<Candidate>,
    /// Where the next window starts; [`super::PASSED`] after the last.
    pub up_to: i64,
}

/// The next window after the terminal `after`. By primary key: the scope is checked on each row, because the index on
/// `org_path` would be read whole for each window.
pub(in crate::rollouts) fn window(conn: &mut Conn, scope: &Scope, after: i64) -> Result<Window, db::Error> {
    let rows = rows!().filter(terminals::id.gt(after)).load::<Columns>(conn)?;
    let up_to = if rows.len() < CHUNK { super::PASSED } else { rows.last().map_or(super::PASSED, |row| row.0) };
    Ok(Window { candidates: within(rows, scope), up_to })
}

/// The next window of a sorted list of terminals.
pub(in crate::rollouts) fn window_of_list(
    conn: &mut Conn,
    scope: &Scope,
    terminal_ids: &[i64],
    after: i64,
) -> Result<Window, db::Error> {
    let start = terminal_ids.partition_point(|&id| id <= after);
    let rest = terminal_ids.get(start..).unwrap_or_default();
    let ids = rest.get(..CHUNK.min(rest.len())).unwrap_or_default();
    let rows = rows!().filter(terminals::id.eq_any(ids)).load::<Columns>(conn)?;
    let up_to = if ids.len() < CHUNK { super::PASSED } else { ids.last().copied().unwrap_or(super::PASSED) };
    Ok(Window { candidates: within(rows, scope), up_to })
}

fn within(rows: Vec<Columns>, scope: &Scope) -> Vec<Candidate> {
    rows.into_iter().map(candidate).filter(|candidate| scope.contains(&candidate.org_path)).collect()
}

/// Which of these terminals have one of these tags, by primary key.
pub(in crate::rollouts) fn tagged(
    conn: &mut Conn,
    terminal_ids: &[i64],
    tags: &[String],
) -> Result<HashSet<i64>, db::Error> {
    let rows = terminal_tags::table
        .filter(terminal_tags::tag.eq_any(tags))
        .filter(terminal_tags::terminal_id.eq_any(terminal_ids))
        .select(terminal_tags::terminal_id);
    Ok(rows.load::<i64>(conn)?.into_iter().collect())
}

/// Which of these terminals have a live assignment, by the index `assignments_live`.
pub(in crate::rollouts) fn busy(conn: &mut Conn, terminal_ids: &[i64]) -> Result<HashSet<i64>, db::Error> {
    let rows = assignments::table
        .filter(assignments::terminal_id.eq_any(terminal_ids))
        .filter(assignments::live.eq(1))
        .select(assignments::terminal_id);
    Ok(rows.load::<i64>(conn)?.into_iter().collect())
}

/// On which of these terminals the release was rolled back before, by the index `assignments_by_terminal`.
pub(in crate::rollouts) fn rolled_back(
    conn: &mut Conn,
    terminal_ids: &[i64],
    release_id: i64,
) -> Result<HashSet<i64>, db::Error> {
    let rows = assignments::table
        .inner_join(rollouts::table.on(rollouts::id.eq(assignments::rollout_id)))
        .filter(assignments::terminal_id.eq_any(terminal_ids))
        .filter(assignments::phase.eq("rolled_back"))
        .filter(rollouts::release_id.eq(release_id))
        .select(assignments::terminal_id);
    Ok(rows.load::<i64>(conn)?.into_iter().collect())
}
