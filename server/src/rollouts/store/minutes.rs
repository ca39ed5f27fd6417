//! SQL of what moves terminals into the risk set and out of it, counted by minute and cell: commits and losses.

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use diesel::upsert::excluded;

use super::ledger::MINUTE_MS;
use crate::db::schema::{gate_commits, gate_losses};
use crate::db::{self, Conn};
use crate::on_backend;

/// Commits from `since_ms` on by minute and cell, by primary key.
pub(in crate::rollouts) fn commits(
    conn: &mut Conn,
    rollout_id: i64,
    since_ms: i64,
) -> Result<Vec<(i64, i64, i64)>, db::Error> {
    Ok(gate_commits::table
        .filter(gate_commits::rollout_id.eq(rollout_id))
        .filter(gate_commits::minute_ms.ge(since_ms))
        .order((gate_commits::minute_ms, gate_commits::cell))
        .select((gate_commits::minute_ms, gate_commits::cell, gate_commits::n))
        .load(conn)?)
}

/// How many committed after `since_ms`, by cell, by primary key.
pub(in crate::rollouts) fn watched(
    conn: &mut Conn,
    rollout_id: i64,
    since_ms: i64,
) -> Result<Vec<(i64, i64)>, db::Error> {
    // The sum of whole numbers is a whole number: so spelt both databases give it as one.
    let sum = sql::<BigInt>("CAST(SUM(n) AS BIGINT)");
    Ok(gate_commits::table
        .filter(gate_commits::rollout_id.eq(rollout_id))
        .filter(gate_commits::minute_ms.gt(since_ms))
        .group_by(gate_commits::cell)
        .select((gate_commits::cell, sum))
        .load(conn)?)
}

/// Terminals that left the risk set, counted by minute.
#[derive(Debug, Clone, PartialEq, Eq, Queryable)]
pub(in crate::rollouts) struct Loss {
    pub minute_ms: i64,
    pub cell: i64,
    pub arm: String,
    pub class: String,
    pub n: i64,
}

/// Losses from `since_ms` on, by primary key.
pub(in crate::rollouts) fn losses(conn: &mut Conn, rollout_id: i64, since_ms: i64) -> Result<Vec<Loss>, db::Error> {
    Ok(gate_losses::table
        .filter(gate_losses::rollout_id.eq(rollout_id))
        .filter(gate_losses::minute_ms.ge(since_ms))
        .select((gate_losses::minute_ms, gate_losses::cell, gate_losses::arm, gate_losses::class, gate_losses::n))
        .load(conn)?)
}

/// Adds losses, row by row in the order of their keys.
pub(in crate::rollouts) fn add_losses(conn: &mut Conn, rollout_id: i64, losses: &[Loss]) -> Result<(), db::Error> {
    for loss in losses {
        let values = (
            gate_losses::rollout_id.eq(rollout_id),
            gate_losses::minute_ms.eq(loss.minute_ms),
            gate_losses::cell.eq(loss.cell),
            gate_losses::arm.eq(&loss.arm),
            gate_losses::class.eq(&loss.class),
            gate_losses::n.eq(loss.n),
        );
        on_backend!(conn, |c| {
            diesel::insert_into(gate_losses::table)
                .values(values)
                .on_conflict((
                    gate_losses::rollout_id,
                    gate_losses::minute_ms,
                    gate_losses::cell,
                    gate_losses::arm,
                    gate_losses::class,
                ))
                .do_update()
                .set(gate_losses::n.eq(gate_losses::n + excluded(gate_losses::n)))
                .execute(c)
        })?;
    }
    Ok(())
}

/// Length of the pieces into which old commits are taken together, ms.
const HOUR_MS: i64 = 3_600_000;

/// Takes the commits of the hour that `at_ms` lies in together, as its last minute: long watches are as many rows as they
/// have hours. Nobody is watched for less time by it. By primary key, an hour's rows.
pub(in crate::rollouts) fn merge_commits(conn: &mut Conn, rollout_id: i64, at_ms: i64) -> Result<(), db::Error> {
    let from_ms = at_ms.div_euclid(HOUR_MS) * HOUR_MS;
    let last_ms = from_ms + HOUR_MS - MINUTE_MS;
    let is_within = gate_commits::rollout_id
        .eq(rollout_id)
        .and(gate_commits::minute_ms.ge(from_ms))
        .and(gate_commits::minute_ms.lt(last_ms));
    let sums: Vec<(i64, i64)> = gate_commits::table
        .filter(is_within)
        .group_by(gate_commits::cell)
        .select((gate_commits::cell, sql::<BigInt>("CAST(SUM(n) AS BIGINT)")))
        .load(conn)?;
    if sums.is_empty() {
        return Ok(());
    }
    diesel::delete(gate_commits::table.filter(is_within)).execute(conn)?;
    for (cell, n) in sums {
        let values = (
            gate_commits::rollout_id.eq(rollout_id),
            gate_commits::minute_ms.eq(last_ms),
            gate_commits::cell.eq(cell),
            gate_commits::n.eq(n),
        );
        on_backend!(conn, |c| {
            diesel::insert_into(gate_commits::table)
                .values(values)
                .on_conflict((gate_commits::rollout_id, gate_commits::minute_ms, gate_commits::cell))
                .do_update()
                .set(gate_commits::n.eq(gate_commits::n + excluded(gate_commits::n)))
                .execute(c)
        })?;
    }
    Ok(())
}

/// Forgets commits and losses before `before_ms`, at most an hour of them at a time: by primary key, oldest first.
pub(in crate::rollouts) fn clear_minutes(conn: &mut Conn, rollout_id: i64, before_ms: i64) -> Result<(), db::Error> {
    /// Of one table.
    macro_rules! clear {
        ($table:ident) => {
            let is_of = $table::rollout_id.eq(rollout_id);
            let oldest: Option<i64> = $table::table
                .filter(is_of)
                .order(($table::minute_ms, $table::cell))
                .select($table::minute_ms)
                .first(conn)
                .optional()?;
            if let Some(oldest) = oldest.filter(|oldest| *oldest < before_ms) {
                let until = before_ms.min(oldest.saturating_add(HOUR_MS));
                diesel::delete($table::table.filter(is_of).filter($table::minute_ms.lt(until))).execute(conn)?;
            }
        };
    }
    clear!(gate_commits);
    clear!(gate_losses);
    Ok(())
}

/// Forgets who left the risk set: a person answered for it.
pub(in crate::rollouts) fn forgive_losses(conn: &mut Conn, rollout_id: i64) -> Result<(), db::Error> {
    diesel::delete(gate_losses::table.filter(gate_losses::rollout_id.eq(rollout_id))).execute(conn)?;
    Ok(())
}
