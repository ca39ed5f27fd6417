//! SQL that walks the terminals in a fixed order, a window at a time: however narrow a filter is, no statement
//! reads more than one window.

use std::collections::{HashMap, HashSet};

use diesel::prelude::*;
use tillward_protocol::crypto::sha256;

use super::CHUNK;
use crate::db::schema::{assignments, releases, rollouts, terminal_states, terminal_tags, terminals};
use crate::db::{self, Conn};
use crate::operators::Scope;
use crate::rollouts::assignment::Phase;
use crate::rollouts::filter::{Attributes, Candidate, OfRollout};

type Columns = (
    (i64, String, String, String, String, Option<i64>),
    (i64, Option<String>, Option<String>, String, Option<String>),
    Option<(String, Option<String>, String, String)>,
);

macro_rules! rows {
    ($states:expr) => {
        terminals::table
            .left_join(terminal_states::table.on(terminal_states::terminal_id.eq(terminals::id).and($states)))
            .order(terminals::id)
            .limit(i64::try_from(CHUNK).unwrap_or(i64::MAX))
            .select((
                (
                    terminals::id,
                    terminals::sn,
                    terminals::model,
                    terminals::org_path,
                    terminals::lifecycle,
                    terminals::enrolled_at_ms,
                ),
                (
                    terminals::organization_id,
                    terminals::merchant_no,
                    terminals::store_name,
                    terminals::region,
                    terminals::hardware,
                ),
                (terminal_states::firmware, terminal_states::app, terminal_states::access, terminal_states::carrier)
                    .nullable(),
            ))
    };
}

/// What stands for an attribute that nobody knows.
const UNKNOWN: &str = "unknown";

fn candidate(row: Columns) -> Candidate {
    let (
        (id, sn, model, org_path, lifecycle, enrolled_at_ms),
        (organization_id, merchant_no, store_name, region, hardware),
        state,
    ) = row;
    let (firmware, app, access, carrier) = match state {
        Some((firmware, app, access, carrier)) => (Some(firmware), app, access, carrier),
        None => (None, None, UNKNOWN.to_owned(), UNKNOWN.to_owned()),
    };
    let site = site(organization_id, merchant_no.as_deref(), store_name.as_deref());
    let hardware = hardware.unwrap_or_else(|| UNKNOWN.to_owned());
    let attributes = Attributes { model: model.clone(), access, carrier, region, hardware };
    let is_enrolled = enrolled_at_ms.is_some();
    Candidate { id, sn, model, org_path, lifecycle, is_enrolled, firmware, app, site, attributes }
}

/// A number for the shop that a terminal stands in: what shares a merchant and a store's name shares a router. 0 where
/// neither is known.
fn site(organization_id: i64, merchant_no: Option<&str>, store_name: Option<&str>) -> i64 {
    if merchant_no.is_none() && store_name.is_none() {
        return 0;
    }
    let text = format!("{organization_id}\n{}\n{}", merchant_no.unwrap_or_default(), store_name.unwrap_or_default());
    let [a, b, c, d, e, f, g, h, ..] = sha256(text.as_bytes());
    (i64::from_be_bytes([a, b, c, d, e, f, g, h]) & i64::MAX).max(1)
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
    // PostgreSQL carries no bound over to the other side of a join, and would read all states from the first one on.
    let rows = rows!(terminal_states::terminal_id.gt(after)).filter(terminals::id.gt(after)).load::<Columns>(conn)?;
    let up_to = if rows.len() < CHUNK { super::PASSED } else { rows.last().map_or(super::PASSED, |row| row.0.0) };
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
    let of_these = terminal_states::terminal_id.eq_any(ids);
    let rows = rows!(of_these).filter(terminals::id.eq_any(ids)).load::<Columns>(conn)?;
    let up_to = if ids.len() < CHUNK { super::PASSED } else { ids.last().copied().unwrap_or(super::PASSED) };
    Ok(Window { candidates: within(rows, scope), up_to })
}

fn within(rows: Vec<Columns>, scope: &Scope) -> Vec<Candidate> {
    rows.into_iter().map(candidate).filter(|candidate| scope.contains(&candidate.org_path)).collect()
}

/// The next window of the terminals that ended so in another rollout: in the order of its assignments, after the one with
/// the number `after`, phase by phase by the index `assignments_by_phase`. By terminal, a few that failed among a million
/// would be looked for in all of them.
pub(in crate::rollouts) fn window_of_rollout(
    conn: &mut Conn,
    scope: &Scope,
    of: &OfRollout,
    after: i64,
) -> Result<Window, db::Error> {
    let mut found: Vec<(i64, i64)> = Vec::new();
    for phase in &of.phases {
        let rows = assignments::table
            .filter(assignments::rollout_id.eq(of.rollout_id))
            .filter(assignments::phase.eq(phase))
            .filter(assignments::id.gt(after))
            .order(assignments::id)
            .limit(i64::try_from(CHUNK).unwrap_or(i64::MAX))
            .select((assignments::id, assignments::terminal_id));
        found.extend(rows.load::<(i64, i64)>(conn)?);
    }
    found.sort_unstable();
    found.dedup();
    found.truncate(CHUNK);
    let up_to = if found.len() < CHUNK { super::PASSED } else { found.last().map_or(super::PASSED, |row| row.0) };
    let ids: Vec<i64> = found.into_iter().map(|(_, terminal_id)| terminal_id).collect();
    let of_these = terminal_states::terminal_id.eq_any(&ids);
    let rows = rows!(of_these).filter(terminals::id.eq_any(&ids)).load::<Columns>(conn)?;
    Ok(Window { candidates: within(rows, scope), up_to })
}

/// Which of these tags each of these terminals has, by primary key.
pub(in crate::rollouts) fn tags_of(
    conn: &mut Conn,
    terminal_ids: &[i64],
    tags: &[&str],
) -> Result<HashMap<i64, HashSet<String>>, db::Error> {
    let mut found: HashMap<i64, HashSet<String>> = HashMap::new();
    if tags.is_empty() {
        return Ok(found);
    }
    let rows = terminal_tags::table
        .filter(terminal_tags::tag.eq_any(tags))
        .filter(terminal_tags::terminal_id.eq_any(terminal_ids))
        .select((terminal_tags::terminal_id, terminal_tags::tag))
        .load::<(i64, String)>(conn)?;
    for (id, tag) in rows {
        found.entry(id).or_default().insert(tag);
    }
    Ok(found)
}

/// A live assignment that stands in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::rollouts) struct Busy {
    pub assignment_id: i64,
    pub rollout_id: i64,
    pub phase: Phase,
    pub priority: i64,
    /// Whether its rollout ended or was halted: the assignment only waits for the planner to cancel it.
    pub is_over: bool,
}

impl Busy {
    /// Whether a rollout of this priority may take the terminal over.
    pub(in crate::rollouts) fn gives_way_to(&self, priority: i64) -> bool {
        let is_cancellable = self.phase == Phase::Waiting || self.phase.is_withdrawable();
        (self.phase == Phase::Waiting && self.priority < priority) || (self.is_over && is_cancellable)
    }
}

/// The live assignments of these terminals, by the index `assignments_by_terminal`.
pub(in crate::rollouts) fn busy(conn: &mut Conn, terminal_ids: &[i64]) -> Result<HashMap<i64, Busy>, db::Error> {
    let rows = assignments::table
        .inner_join(rollouts::table.on(rollouts::id.eq(assignments::rollout_id)))
        .filter(assignments::terminal_id.eq_any(terminal_ids))
        .filter((assignments::live + 0).eq(1))
        .select((
            assignments::terminal_id,
            assignments::id,
            assignments::rollout_id,
            assignments::phase,
            rollouts::priority,
            rollouts::state,
        ))
        .load::<(i64, i64, i64, String, i64, String)>(conn)?;
    Ok(rows
        .into_iter()
        .map(|(terminal_id, assignment_id, rollout_id, phase, priority, state)| {
            // A phase that this program does not know is none that gives way.
            let phase = Phase::parse(&phase).unwrap_or(Phase::Installing);
            let is_over = matches!(state.as_str(), "cancelled" | "halted");
            (terminal_id, Busy { assignment_id, rollout_id, phase, priority, is_over })
        })
        .collect())
}

/// Which of these terminals take part in this rollout already, in whatever phase, by the index
/// `assignments_by_terminal`.
pub(in crate::rollouts) fn members(
    conn: &mut Conn,
    rollout_id: i64,
    terminal_ids: &[i64],
) -> Result<HashSet<i64>, db::Error> {
    let rows = assignments::table
        .filter((assignments::rollout_id + 0).eq(rollout_id))
        .filter(assignments::terminal_id.eq_any(terminal_ids))
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

/// The largest release counter of each of these versions of a component; versions that no release has are absent. The
/// table of releases is small.
pub(in crate::rollouts) fn counters(
    conn: &mut Conn,
    component: &str,
    versions: &[&str],
) -> Result<HashMap<String, i64>, db::Error> {
    let rows = releases::table
        .filter(releases::component.eq(component))
        .filter(releases::firmware_version.eq_any(versions))
        .order(releases::release_counter)
        .select((releases::firmware_version, releases::release_counter));
    Ok(rows.load::<(String, i64)>(conn)?.into_iter().collect())
}
