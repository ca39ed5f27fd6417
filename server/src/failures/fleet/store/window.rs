//! SQL of what happened lately: failures, attempts, and the terminals that were seen.

use diesel::dsl::{count_star, sql};
use diesel::prelude::*;
use diesel::sql_types::BigInt;

use super::super::rules::SLOT_MS;
use super::super::rules::outage::CODES;
use super::super::window::{Failure, State};
use crate::db::schema::{cohort_cells, failures, incidents, terminal_states, terminals};
use crate::db::{self, Conn};
use crate::failures::incidents::Kind;

/// Failures read at most, the newest: enough to see any outage, and a tenth of a second.
const FAILURES_MAX: i64 = 20_000;
/// Terminals read at most, those seen last: when there are more it is a sample, because terminals call in spread over
/// time and not by place.
const STATES_MAX: i64 = 50_000;

/// Cells of one hour that one statement goes through: some ten milliseconds.
const CELLS: i64 = 50_000;

/// Stages at which a payment did not get through to the host.
const UNREACHED: [&str; 5] = ["dns", "tcp", "tls", "send", "wait"];

/// Failures received since `from_ms` that are the bank's or the network's, the newest. By `failures_by_time`.
pub(in super::super) fn failed(conn: &mut Conn, from_ms: i64) -> Result<Vec<Failure>, db::Error> {
    type Columns = (i64, i64, i64, String, Option<String>, String, String, String, String);
    let unreached = failures::stage.eq_any(UNREACHED).and(failures::response_code.is_null());
    let rows = failures::table
        .inner_join(terminals::table.on(terminals::id.eq(failures::terminal_id)))
        .filter(failures::received_at_ms.ge(from_ms))
        .filter(failures::response_code.eq_any(CODES).or(unreached))
        .order(failures::received_at_ms.desc())
        .limit(FAILURES_MAX)
        .select((
            failures::terminal_id,
            failures::received_at_ms,
            failures::occurred_at_ms,
            failures::stage,
            failures::response_code,
            failures::access,
            failures::carrier,
            terminals::region,
            terminals::org_path,
        ))
        .load::<Columns>(conn)?;
    let failure = |row: Columns| {
        let (terminal_id, received_at_ms, occurred_at_ms, stage, response_code, access, carrier, region, org_path) =
            row;
        Failure { terminal_id, received_at_ms, occurred_at_ms, stage, response_code, access, carrier, region, org_path }
    };
    Ok(rows.into_iter().map(failure).collect())
}

/// Terminals seen since `from_ms`, the latest, part by part. By `terminal_states_by_last_seen`.
pub(in super::super) fn seen(conn: &mut Conn, from_ms: i64) -> Result<Vec<State>, db::Error> {
    type Columns = (i64, i64, Option<String>, Option<String>, String);
    let mut found: Vec<State> = Vec::new();
    for (from_ms, before_ms) in super::silence::parts(conn, from_ms)? {
        let left = STATES_MAX - i64::try_from(found.len()).unwrap_or(STATES_MAX);
        if left <= 0 {
            break;
        }
        let rows = terminal_states::table
            .filter(terminal_states::last_seen_ms.ge(from_ms))
            .filter(terminal_states::last_seen_ms.lt(before_ms))
            .order(terminal_states::last_seen_ms.desc())
            .limit(left)
            .select((
                terminal_states::terminal_id,
                terminal_states::last_seen_ms,
                terminal_states::org_path,
                terminal_states::region,
                terminal_states::report,
            ))
            .load::<Columns>(conn)?;
        found.extend(rows.into_iter().map(|(terminal_id, last_seen_ms, org_path, region, report)| State {
            terminal_id,
            last_seen_ms,
            org_path: org_path.unwrap_or_default(),
            region,
            report,
        }));
    }
    Ok(found)
}

/// How many terminals were seen since `from_ms`, part by part. By `terminal_states_by_last_seen`.
pub(in super::super) fn count_seen(conn: &mut Conn, from_ms: i64) -> Result<u64, db::Error> {
    let mut n = 0;
    for (from_ms, before_ms) in super::silence::parts(conn, from_ms)? {
        n += terminal_states::table
            .filter(terminal_states::last_seen_ms.ge(from_ms))
            .filter(terminal_states::last_seen_ms.lt(before_ms))
            .select(count_star())
            .first::<i64>(conn)?;
    }
    Ok(u64::try_from(n).unwrap_or(0))
}

/// Cuts the cohorts that have cells in one hour into parts, above and up to, so that no statement goes through more than
/// [`CELLS`] of them. By primary key of the cells.
pub(in super::super) fn cohorts_of(conn: &mut Conn, hour_ms: i64) -> Result<Vec<(i64, i64)>, db::Error> {
    cohorts_in(conn, hour_ms, CELLS)
}

fn cohorts_in(conn: &mut Conn, hour_ms: i64, cells: i64) -> Result<Vec<(i64, i64)>, db::Error> {
    let mut parts = Vec::new();
    let mut above = 0;
    loop {
        let rest = cohort_cells::table
            .filter(cohort_cells::hour_ms.eq(hour_ms))
            .filter(cohort_cells::cohort_id.gt(above))
            .order(cohort_cells::cohort_id)
            .select(cohort_cells::cohort_id);
        let last: Option<i64> = rest.offset(cells - 1).first(conn).optional()?;
        let Some(last) = last else { break };
        parts.push((above, last));
        above = last;
    }
    parts.push((above, i64::MAX));
    Ok(parts)
}

/// Attempts of the whole fleet in one hour, part by part. By primary key of the cells.
pub(in super::super) fn attempts(conn: &mut Conn, hour_ms: i64) -> Result<u64, db::Error> {
    let mut n = 0;
    for (above, up_to) in cohorts_of(conn, hour_ms)? {
        n += cohort_cells::table
            .filter(cohort_cells::hour_ms.eq(hour_ms))
            .filter(cohort_cells::cohort_id.gt(above))
            .filter(cohort_cells::cohort_id.le(up_to))
            .select(sql::<BigInt>("CAST(COALESCE(SUM(exposures), 0) AS BIGINT)"))
            .first::<i64>(conn)?;
    }
    Ok(u64::try_from(n).unwrap_or(0))
}

/// The first hour from `from_ms` on of which there are cells.
pub(in super::super) fn first_hour(conn: &mut Conn, from_ms: i64) -> Result<Option<i64>, db::Error> {
    let hour = cohort_cells::table.filter(cohort_cells::hour_ms.ge(from_ms)).order(cohort_cells::hour_ms);
    Ok(hour.select(cohort_cells::hour_ms).first(conn).optional()?)
}

/// Slots of one hour in which a terminal failed by the bank: one for each terminal and slot, counted slot by slot. By
/// `failures_by_time`.
pub(in super::super) fn failed_slots(conn: &mut Conn, hour_ms: i64) -> Result<u64, db::Error> {
    let mut n = 0;
    for slot in 0..3_600_000 / SLOT_MS {
        let from_ms = hour_ms + slot * SLOT_MS;
        let unanswered = failures::stage.eq("wait").and(failures::response_code.is_null());
        n += failures::table
            .filter(failures::received_at_ms.ge(from_ms))
            .filter(failures::received_at_ms.lt(from_ms + SLOT_MS))
            .filter(failures::response_code.eq_any(CODES).or(unanswered))
            .select(sql::<BigInt>("COUNT(DISTINCT terminal_id)"))
            .first::<i64>(conn)?;
    }
    Ok(u64::try_from(n).unwrap_or(0))
}

/// Whether an outage of the bank was under way in this hour: such an hour is not usual.
pub(in super::super) fn had_outage(conn: &mut Conn, hour_ms: i64) -> Result<bool, db::Error> {
    let found: Option<i64> = incidents::table
        .filter(incidents::kind.eq(Kind::BankOutage.as_str()))
        .filter(incidents::opened_at_ms.lt(hour_ms + 3_600_000))
        .filter(incidents::last_seen_ms.ge(hour_ms))
        .select(incidents::id)
        .first(conn)
        .optional()?;
    Ok(found.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::{Db, Location};

    #[tokio::test]
    async fn the_cells_of_an_hour_are_summed_whole_however_they_are_cut() {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::open(&Location::Sqlite(folder.path().join("db"))).unwrap();
        let read: Result<_, db::Error> = db
            .write(|conn| {
                diesel::sql_query("PRAGMA defer_foreign_keys = ON").execute(conn)?;
                for (hour_ms, cohort_id) in [(0, 1), (0, 3), (0, 4), (0, 7), (0, 9), (1, 2)] {
                    diesel::sql_query(format!(
                        "INSERT INTO cohort_cells (hour_ms, cohort_id, check_ins, transactions_ok, \
                         transactions_failed, exposures, failed_exposures, failures) \
                         VALUES ({hour_ms}, {cohort_id}, 1, 1, 0, {cohort_id}, 0, 0)"
                    ))
                    .execute(conn)?;
                }
                let read = (cohorts_in(conn, 0, 2)?, cohorts_in(conn, 0, 100)?, attempts(conn, 0)?);
                diesel::sql_query("DELETE FROM cohort_cells").execute(conn)?;
                Ok(read)
            })
            .await;
        let (parts, one, attempts) = read.unwrap();
        assert_eq!(parts, [(0, 3), (3, 7), (7, i64::MAX)]);
        assert_eq!((one, attempts), (vec![(0, i64::MAX)], 24));
    }
}
