//! Reading assignments; how they are written is in the file beside this one.

use std::collections::HashMap;
use std::ops::Range;

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Bool;

pub(in crate::rollouts) use super::steps::{
    Admitted, Bulk, Said, insert, lock, lock_terminals, open, put_off, renew, swap, swap_all,
};
use super::{CHANGED, CHUNK, is_live, is_waiting};
use crate::clock::Now;
use crate::db::schema::{assignments, releases, rollouts, terminal_states, terminals};
use crate::db::{self, Conn};
use crate::rollouts::assignment::{Phase, State};

/// An assignment with what its steps need of its rollout and release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::rollouts) struct Assignment {
    pub id: i64,
    pub rollout_id: i64,
    pub terminal_id: i64,
    pub state: State,
    pub stage: i64,
    pub cell: i64,
    pub site: i64,
    pub attempts: i64,
    pub ready_ms: Option<i64>,
    pub give_up_ms: Option<i64>,
    pub window_ends_ms: Option<i64>,
    pub started_at_ms: Option<i64>,
    pub bytes_done: i64,
    pub bytes_total: i64,
    pub phase_since_ms: i64,
    pub deadline_ms: Option<i64>,
    pub version: i64,
    /// The rollout's limit for an offer, ms.
    pub offer_ms: i64,
    /// Attempts after the first that the rollout grants, and the first pause, s.
    pub retry_max: i64,
    pub retry_wait_s: i64,
    pub target: Target,
}

impl Assignment {
    /// Whether its stage is open, or it went on without that.
    pub(in crate::rollouts) fn is_open(&self) -> bool {
        self.state != State::Waiting || self.ready_ms.is_some()
    }
}

/// What a terminal must show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::rollouts) enum Target {
    /// In its signed manifest.
    Release { component: String, version: String, sha256: String },
    /// In its check-in: the config hash that it is told to apply.
    Config,
}

type Columns = (
    (i64, i64, i64, String, Option<String>, i64, i64, i64),
    (i64, Option<i64>, Option<i64>, Option<i64>, Option<i64>),
    (i64, i64, i64, Option<i64>, i64),
    (i64, i64, i64),
    Option<(String, String, String)>,
);

fn assignment(row: Columns) -> Option<Assignment> {
    let (
        (id, rollout_id, terminal_id, phase, reason, stage, cell, site),
        (attempts, ready_ms, give_up_ms, window_ends_ms, started_at_ms),
        (bytes_done, bytes_total, phase_since_ms, deadline_ms, version),
        (timeout_s, retry_max, retry_wait_s),
        release,
    ) = row;
    let Some(state) = State::from_columns(&phase, reason.as_deref()) else {
        tracing::error!(assignment = id, %phase, ?reason, "an assignment's phase and reason do not fit together");
        return None;
    };
    Some(Assignment {
        id,
        rollout_id,
        terminal_id,
        state,
        stage,
        cell,
        site,
        attempts,
        ready_ms,
        give_up_ms,
        window_ends_ms,
        started_at_ms,
        bytes_done,
        bytes_total,
        phase_since_ms,
        deadline_ms,
        version,
        offer_ms: timeout_s.saturating_mul(1000),
        retry_max,
        retry_wait_s,
        target: release.map_or(Target::Config, |(component, version, sha256)| Target::Release {
            component,
            version,
            sha256,
        }),
    })
}

macro_rules! columns {
    () => {
        (
            (
                assignments::id,
                assignments::rollout_id,
                assignments::terminal_id,
                assignments::phase,
                assignments::reason,
                assignments::stage,
                assignments::cell,
                assignments::site,
            ),
            (
                assignments::attempts,
                assignments::ready_ms,
                assignments::give_up_ms,
                assignments::window_ends_ms,
                assignments::started_at_ms,
            ),
            (
                assignments::bytes_done,
                assignments::bytes_total,
                assignments::phase_since_ms,
                assignments::deadline_ms,
                assignments::version,
            ),
            (rollouts::assignment_timeout_s, rollouts::retry_max, rollouts::retry_wait_s),
            (releases::component, releases::firmware_version, releases::sha256).nullable(),
        )
    };
}

macro_rules! joined {
    () => {
        assignments::table
            .inner_join(rollouts::table.on(rollouts::id.eq(assignments::rollout_id)))
            .left_join(releases::table.on(rollouts::release_id.eq(releases::id.nullable())))
            .select(columns!())
    };
}

/// These assignments, by primary key; unknown ids are left out.
pub(in crate::rollouts) fn by_ids(conn: &mut Conn, ids: &[i64]) -> Result<Vec<Assignment>, db::Error> {
    let mut found = Vec::with_capacity(ids.len());
    for ids in ids.chunks(CHUNK) {
        found.extend(
            joined!().filter(assignments::id.eq_any(ids)).load::<Columns>(conn)?.into_iter().filter_map(assignment),
        );
    }
    Ok(found)
}

/// The live assignments of these terminals, by the index `assignments_live`.
pub(in crate::rollouts) fn live_of(conn: &mut Conn, terminals: &[i64]) -> Result<Vec<Assignment>, db::Error> {
    let mut found = Vec::new();
    for terminals in terminals.chunks(CHUNK) {
        let rows =
            joined!().filter(assignments::terminal_id.eq_any(terminals)).filter(is_live()).load::<Columns>(conn)?;
        found.extend(rows.into_iter().filter_map(assignment));
    }
    Ok(found)
}

/// The next assignments of a rollout in `phase` after the number `after`, by the index `assignments_by_phase`.
pub(in crate::rollouts) fn in_phase(
    conn: &mut Conn,
    rollout_id: i64,
    phase: Phase,
    after: i64,
    limit: usize,
) -> Result<Vec<Assignment>, db::Error> {
    let rows = joined!()
        .filter(assignments::rollout_id.eq(rollout_id))
        .filter(assignments::phase.eq(phase.as_str()))
        .filter(assignments::id.gt(after))
        .order(assignments::id)
        .limit(i64::try_from(limit).unwrap_or(i64::MAX))
        .load::<Columns>(conn)?;
    Ok(rows.into_iter().filter_map(assignment).collect())
}

/// The next assignments of a rollout whose stage is not open yet, each after its rank and in the order of these, of these
/// ranks only; by the index `assignments_unopened`.
pub(in crate::rollouts) fn unopened(
    conn: &mut Conn,
    rollout_id: i64,
    ranks: Range<i64>,
    limit: usize,
) -> Result<Vec<(i64, Assignment)>, db::Error> {
    let rows = joined!()
        .filter(assignments::rollout_id.eq(rollout_id))
        .filter(is_waiting())
        .filter(assignments::ready_ms.is_null())
        .filter(assignments::rank.ge(ranks.start))
        .filter(assignments::rank.lt(ranks.end))
        .order(assignments::rank)
        .limit(i64::try_from(limit).unwrap_or(i64::MAX))
        .select((assignments::rank, columns!()))
        .load::<(i64, Columns)>(conn)?;
    Ok(rows.into_iter().filter_map(|(rank, row)| Some((rank, assignment(row)?))).collect())
}

/// The next assignments of a rollout that may be offered now, those ready longest first, by the index
/// `assignments_ready`.
pub(in crate::rollouts) fn ready(
    conn: &mut Conn,
    rollout_id: i64,
    now: Now,
    limit: usize,
) -> Result<Vec<Assignment>, db::Error> {
    let rows = joined!()
        .filter(assignments::rollout_id.eq(rollout_id))
        .filter(is_waiting())
        .filter(assignments::ready_ms.le(now.0))
        .order(assignments::ready_ms)
        .limit(i64::try_from(limit).unwrap_or(i64::MAX))
        .load::<Columns>(conn)?;
    Ok(rows.into_iter().filter_map(assignment).collect())
}

/// Whether something may be offered now, by the index `assignments_ready`. In its order: without, PostgreSQL may go through
/// all that wait for their stage.
pub(in crate::rollouts) fn is_ready(conn: &mut Conn, rollout_id: i64, now: Now) -> Result<bool, db::Error> {
    let first: Option<i64> = assignments::table
        .filter(assignments::rollout_id.eq(rollout_id))
        .filter(is_waiting())
        .filter(assignments::ready_ms.le(now.0))
        .order(assignments::ready_ms)
        .select(assignments::id)
        .first(conn)
        .optional()?;
    Ok(first.is_some())
}

/// The next live assignments of a rollout that belong to these cells and have not begun to install, by the index
/// `assignments_in_cell`.
pub(in crate::rollouts) fn in_cells(
    conn: &mut Conn,
    rollout_id: i64,
    cells: &[i64],
    limit: usize,
) -> Result<Vec<Assignment>, db::Error> {
    let rows = joined!()
        .filter(assignments::rollout_id.eq(rollout_id))
        .filter(assignments::cell.eq_any(cells))
        .filter(is_live())
        .filter(assignments::phase.eq_any(["waiting", "offered", "downloading"]))
        .limit(i64::try_from(limit).unwrap_or(i64::MAX))
        .load::<Columns>(conn)?;
    Ok(rows.into_iter().filter_map(assignment).collect())
}

/// What the offer of these terminals depends on, by primary keys.
pub(in crate::rollouts) fn circumstances(
    conn: &mut Conn,
    terminal_ids: &[i64],
) -> Result<HashMap<i64, Circumstances>, db::Error> {
    type Columns = (i64, String, Option<i64>, Option<i64>, Option<i64>);
    let mut found = HashMap::new();
    // Rows of two tables, each somewhere else in a large fleet's.
    for ids in terminal_ids.chunks(CHANGED) {
        let rows: Vec<Columns> = terminals::table
            .left_join(terminal_states::table.on(terminal_states::terminal_id.eq(terminals::id)))
            .filter(terminals::id.eq_any(ids))
            .select((
                terminals::id,
                terminals::org_path,
                terminals::utc_offset_min,
                terminal_states::last_seen_ms.nullable(),
                terminal_states::interval_s.nullable(),
            ))
            .load(conn)?;
        found.extend(rows.into_iter().map(|(id, org_path, utc_offset_min, last_seen_ms, interval_s)| {
            (id, Circumstances { org_path, utc_offset_min, last_seen_ms, interval_s })
        }));
    }
    Ok(found)
}

/// The config hashes that these terminals reported last, by primary key.
pub(in crate::rollouts) fn reported_configs(
    conn: &mut Conn,
    terminal_ids: &[i64],
) -> Result<HashMap<i64, String>, db::Error> {
    let rows = terminal_states::table
        .filter(terminal_states::terminal_id.eq_any(terminal_ids))
        .select((terminal_states::terminal_id, terminal_states::config_hash))
        .load::<(i64, Option<String>)>(conn)?;
    Ok(rows.into_iter().filter_map(|(id, hash)| Some((id, hash?))).collect())
}

/// Where a terminal is, and when it called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::rollouts) struct Circumstances {
    pub org_path: String,
    pub utc_offset_min: Option<i64>,
    pub last_seen_ms: Option<i64>,
    pub interval_s: Option<i64>,
}

/// How many of each of these sites are at an update now, of any rollout, by the index `assignments_at_site`.
pub(in crate::rollouts) fn at_sites(conn: &mut Conn, sites: &[i64]) -> Result<HashMap<i64, i64>, db::Error> {
    let rows = assignments::table
        .filter(assignments::site.eq_any(sites))
        .filter(sql::<Bool>("assignments.live = 1 AND assignments.site <> 0 AND assignments.phase <> 'waiting'"))
        .group_by(assignments::site)
        .select((assignments::site, diesel::dsl::count_star()))
        .load::<(i64, i64)>(conn)?;
    Ok(rows.into_iter().collect())
}

/// Live assignments whose time is over, by the index `assignments_due`.
pub(in crate::rollouts) fn due(conn: &mut Conn, now: Now, limit: usize) -> Result<Vec<Assignment>, db::Error> {
    let rows = joined!()
        .filter(is_live())
        .filter(assignments::deadline_ms.le(now.0))
        .order(assignments::deadline_ms)
        .limit(i64::try_from(limit).unwrap_or(i64::MAX))
        .load::<Columns>(conn)?;
    Ok(rows.into_iter().filter_map(assignment).collect())
}

/// The next assignments that write, boot or try the firmware, after `after`, in the order of their ids. Phase by phase:
/// over several at once the index `assignments_by_phase` would be read whole and sorted for each chunk.
pub(in crate::rollouts) fn in_flight(
    conn: &mut Conn,
    rollout_id: i64,
    after: i64,
    limit: usize,
) -> Result<Vec<(i64, i64)>, db::Error> {
    let mut found = Vec::new();
    for phase in [Phase::Installing, Phase::Rebooting, Phase::Trial] {
        let rows = assignments::table
            .filter(assignments::rollout_id.eq(rollout_id))
            .filter(assignments::phase.eq(phase.as_str()))
            .filter(assignments::id.gt(after))
            .order(assignments::id)
            .limit(i64::try_from(limit).unwrap_or(i64::MAX))
            .select((assignments::id, assignments::terminal_id));
        found.extend(rows.load::<(i64, i64)>(conn)?);
    }
    found.sort_unstable();
    found.truncate(limit);
    Ok(found)
}
