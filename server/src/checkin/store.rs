//! SQL that reads what check-ins left behind.

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::BigInt;

use super::{Sample, Totals};
use crate::db::schema::{cohort_cells, condition_samples, terminal_states, terminals};
use crate::db::{self, Conn};
use crate::operators::Scope;

pub(super) fn totals(conn: &mut Conn) -> Result<Totals, db::Error> {
    let (check_ins, failures) = cohort_cells::table
        .select((
            sql::<BigInt>("CAST(COALESCE(SUM(check_ins), 0) AS BIGINT)"),
            sql::<BigInt>("CAST(COALESCE(SUM(failures), 0) AS BIGINT)"),
        ))
        .first(conn)?;
    let (state_check_ins, state_failures) = terminal_states::table
        .select((
            sql::<BigInt>("CAST(COALESCE(SUM(check_ins), 0) AS BIGINT)"),
            sql::<BigInt>("CAST(COALESCE(SUM(failures), 0) AS BIGINT)"),
        ))
        .first(conn)?;
    Ok(Totals { check_ins, failures, state_check_ins, state_failures })
}

type Columns = (
    i64,
    String,
    String,
    (Option<i64>, Option<i64>, Option<i64>, Option<i64>, Option<i64>, Option<i64>),
    String,
    i64,
    i64,
);

/// Oldest first, by primary key.
pub(super) fn samples(
    conn: &mut Conn,
    scope: &Scope,
    terminal_id: i64,
    from_ms: i64,
    to_ms: i64,
    limit: i64,
) -> Result<Vec<Sample>, db::Error> {
    let rows = condition_samples::table
        .inner_join(terminals::table.on(terminals::id.eq(condition_samples::terminal_id)))
        .filter(terminals::org_path.ge(scope.from()))
        .filter(terminals::org_path.lt(scope.below()))
        .filter(condition_samples::terminal_id.eq(terminal_id))
        .filter(condition_samples::at_ms.ge(from_ms))
        .filter(condition_samples::at_ms.lt(to_ms))
        .order(condition_samples::at_ms)
        .limit(limit)
        .select((
            condition_samples::at_ms,
            condition_samples::access,
            condition_samples::carrier,
            (
                condition_samples::rsrp_dbm,
                condition_samples::sinr_db,
                condition_samples::rssi_dbm,
                condition_samples::rtt_ms,
                condition_samples::loss_percent,
                condition_samples::battery_percent,
            ),
            condition_samples::firmware,
            condition_samples::transactions_ok,
            condition_samples::transactions_failed,
        ))
        .load::<Columns>(conn)?;
    let sample = |row: Columns| {
        let (at_ms, access, carrier, measured, firmware, transactions_ok, transactions_failed) = row;
        let (rsrp_dbm, sinr_db, rssi_dbm, rtt_ms, loss_percent, battery_percent) = measured;
        Sample {
            at_ms,
            access,
            carrier,
            rsrp_dbm,
            sinr_db,
            rssi_dbm,
            rtt_ms,
            loss_percent,
            battery_percent,
            firmware,
            transactions_ok,
            transactions_failed,
        }
    };
    Ok(rows.into_iter().map(sample).collect())
}

/// Which rows are too old.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cutoffs {
    pub(super) samples_ms: i64,
    pub(super) failures_ms: i64,
    pub(super) cells_ms: i64,
}

/// Deletes at most `limit` old rows of each table and returns how many went. By the tables' time indexes.
pub(super) fn delete_old(conn: &mut Conn, cutoffs: Cutoffs, limit: i64) -> Result<usize, db::Error> {
    use crate::db::schema::{cohort_outcomes, failures};
    let mut deleted = 0;
    let oldest: Vec<(i64, i64)> = condition_samples::table
        .filter(condition_samples::at_ms.lt(cutoffs.samples_ms))
        .order(condition_samples::at_ms)
        .limit(limit)
        .select((condition_samples::terminal_id, condition_samples::at_ms))
        .load(conn)?;
    for (terminal_id, at_ms) in oldest {
        deleted += diesel::delete(condition_samples::table.find((terminal_id, at_ms))).execute(conn)?;
    }
    let oldest: Vec<(i64, String)> = failures::table
        .filter(failures::received_at_ms.lt(cutoffs.failures_ms))
        .order(failures::received_at_ms)
        .limit(limit)
        .select((failures::terminal_id, failures::event_id))
        .load(conn)?;
    for (terminal_id, event_id) in oldest {
        deleted += diesel::delete(failures::table.find((terminal_id, event_id))).execute(conn)?;
    }
    // One hour at a time: all its cells, then all its outcomes.
    let hour: Option<i64> = cohort_cells::table
        .filter(cohort_cells::hour_ms.lt(cutoffs.cells_ms))
        .order(cohort_cells::hour_ms)
        .select(cohort_cells::hour_ms)
        .first(conn)
        .optional()?;
    if let Some(hour) = hour {
        deleted += diesel::delete(cohort_outcomes::table.filter(cohort_outcomes::hour_ms.eq(hour))).execute(conn)?;
        deleted += diesel::delete(cohort_cells::table.filter(cohort_cells::hour_ms.eq(hour))).execute(conn)?;
    }
    Ok(deleted)
}
