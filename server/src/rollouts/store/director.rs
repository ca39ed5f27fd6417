//! SQL behind a terminal's director document.

use diesel::prelude::*;

use crate::db::schema::{assignments, release_models, releases, rollouts, terminals};
use crate::db::{self, Conn};
use crate::rollouts::assignment::Phase;

/// One order's columns: assignment, file name, length, digest, component, version, counter, smallest starting
/// counter, requirements, models.
pub(in crate::rollouts) type OrderColumns =
    (i64, String, i64, String, String, String, i64, Option<i64>, String, String);

/// The terminal's director version; `None` for an unknown terminal. By primary key.
pub(in crate::rollouts) fn version(conn: &mut Conn, terminal_id: i64) -> Result<Option<i64>, db::Error> {
    let row = terminals::table.find(terminal_id).select(terminals::assignment_version);
    Ok(row.first(conn).optional()?)
}

/// What the terminal is ordered to install: its live assignment, offered or further, of a running rollout of a release
/// that is still published. By the index `assignments_live`.
pub(in crate::rollouts) fn orders(conn: &mut Conn, terminal_id: i64) -> Result<Vec<OrderColumns>, db::Error> {
    let rows = assignments::table
        .inner_join(rollouts::table.on(rollouts::id.eq(assignments::rollout_id)))
        .inner_join(releases::table.on(rollouts::release_id.eq(releases::id.nullable())))
        .inner_join(terminals::table.on(terminals::id.eq(assignments::terminal_id)))
        .inner_join(
            release_models::table
                .on(release_models::release_id.eq(releases::id).and(release_models::model.eq(terminals::model))),
        )
        .filter(assignments::terminal_id.eq(terminal_id))
        .filter(assignments::live.eq(1))
        .filter(assignments::phase.ne(Phase::Waiting.as_str()))
        .filter(rollouts::state.eq("running"))
        .filter(releases::state.eq("published"))
        .order(assignments::id)
        .select((
            assignments::id,
            release_models::target_name,
            releases::length_bytes,
            releases::sha256,
            releases::component,
            releases::firmware_version,
            releases::release_counter,
            releases::min_from_counter,
            releases::requires,
            releases::models,
        ))
        .load(conn)?;
    Ok(rows)
}
