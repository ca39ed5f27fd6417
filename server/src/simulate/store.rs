//! What the server counted, read from its tables: the demo compares it with what the terminals sent.

use diesel::prelude::*;

use crate::db::schema::{assignments, cohort_cells, failures, terminal_states};
use crate::db::{self, Conn};

/// Counts of all terminals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// Check-ins, from the terminals' rows.
    pub check_ins: i64,
    /// Check-ins, from the cohort cells; the same by another way.
    pub check_ins_in_cells: i64,
    /// Failures, from the failures themselves.
    pub failures: i64,
    /// Failures, from the cohort cells.
    pub failures_in_cells: i64,
}

/// Counts everything. Reads a row a terminal and a row a cell: for demos and tests, not for large fleets.
///
/// # Errors
/// [`db::Error`].
pub fn counted(conn: &mut Conn) -> Result<Counted, db::Error> {
    let check_ins: Vec<i64> = terminal_states::table.select(terminal_states::check_ins).load(conn)?;
    let cells: Vec<(i64, i64)> =
        cohort_cells::table.select((cohort_cells::check_ins, cohort_cells::failures)).load(conn)?;
    Ok(Counted {
        check_ins: check_ins.iter().sum(),
        check_ins_in_cells: cells.iter().map(|cell| cell.0).sum(),
        failures: failures::table.count().get_result(conn)?,
        failures_in_cells: cells.iter().map(|cell| cell.1).sum(),
    })
}

/// How assignments ended: terminal, phase, reason.
///
/// # Errors
/// [`db::Error`].
pub fn endings(conn: &mut Conn) -> Result<Vec<(i64, String, Option<String>)>, db::Error> {
    let columns = (assignments::terminal_id, assignments::phase, assignments::reason);
    Ok(assignments::table.filter(assignments::live.eq(0)).select(columns).load(conn)?)
}

/// Firmware that these terminals run, as far as they have checked in.
///
/// # Errors
/// [`db::Error`].
pub fn firmware_of(conn: &mut Conn, ids: &[i64]) -> Result<Vec<String>, db::Error> {
    let rows = terminal_states::table.filter(terminal_states::terminal_id.eq_any(ids));
    Ok(rows.select(terminal_states::firmware).load(conn)?)
}
