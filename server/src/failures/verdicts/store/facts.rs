//! SQL of what the rules want to know about a failure beside the event itself. Every read is bounded.

use std::collections::HashMap;

use diesel::dsl::{max, sql};
use diesel::prelude::*;
use diesel::sql_types::BigInt;

use crate::db::schema::{
    cohort_cells, cohort_outcomes, cohorts, condition_samples, failures, sim_cards, terminal_layers, terminal_states,
    terminals, update_events,
};
use crate::db::{self, Conn};

/// Steps of updates that one batch reads.
const UPDATES_MAX: i64 = 2_000;
/// Failures at one merchant that are counted; beyond, a number says nothing more.
const MERCHANT_MAX: i64 = 200;

/// A terminal as the registry and its last check-in have it.
#[derive(Debug, Clone, PartialEq, Queryable)]
pub(in crate::failures::verdicts) struct Known {
    pub(in crate::failures::verdicts) id: i64,
    pub(in crate::failures::verdicts) sn: String,
    pub(in crate::failures::verdicts) merchant_no: Option<String>,
    pub(in crate::failures::verdicts) iccid: Option<String>,
    pub(in crate::failures::verdicts) imei: Option<String>,
    pub(in crate::failures::verdicts) desired_config_hash: Option<String>,
    pub(in crate::failures::verdicts) utc_offset_min: Option<i64>,
    /// Seen last at, interval, the check-in as JSON.
    pub(in crate::failures::verdicts) state: Option<(i64, i64, String)>,
}

/// By primary key.
pub(in crate::failures::verdicts) fn known(conn: &mut Conn, ids: &[i64]) -> Result<HashMap<i64, Known>, db::Error> {
    let rows: Vec<Known> = terminals::table
        .left_join(terminal_states::table.on(terminal_states::terminal_id.eq(terminals::id)))
        .filter(terminals::id.eq_any(ids))
        .select((
            terminals::id,
            terminals::sn,
            terminals::merchant_no,
            terminals::iccid,
            terminals::imei,
            terminals::desired_config_hash,
            terminals::utc_offset_min,
            (terminal_states::last_seen_ms, terminal_states::interval_s, terminal_states::report).nullable(),
        ))
        .load(conn)?;
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}

/// What these cards may use in a month, MB, as far as they are on record. By primary key.
pub(in crate::failures::verdicts) fn plans(
    conn: &mut Conn,
    iccids: &[&str],
) -> Result<HashMap<String, i64>, db::Error> {
    let rows: Vec<(String, Option<i64>)> = sim_cards::table
        .filter(sim_cards::iccid.eq_any(iccids))
        .select((sim_cards::iccid, sim_cards::plan_mb))
        .load(conn)?;
    Ok(rows.into_iter().filter_map(|(iccid, plan_mb)| Some((iccid, plan_mb?))).collect())
}

/// Steps of these terminals' updates between two moments: terminal, when, phase. By primary key.
pub(in crate::failures::verdicts) fn updates(
    conn: &mut Conn,
    ids: &[i64],
    from_ms: i64,
    to_ms: i64,
) -> Result<Vec<(i64, i64, String)>, db::Error> {
    let rows = update_events::table
        .filter(update_events::terminal_id.eq_any(ids))
        .filter(update_events::at_ms.ge(from_ms))
        .filter(update_events::at_ms.le(to_ms))
        .order(update_events::at_ms.desc())
        .limit(UPDATES_MAX)
        .select((update_events::terminal_id, update_events::at_ms, update_events::phase))
        .load(conn)?;
    Ok(rows)
}

/// An earlier failure: event, when it came, when it happened, stage, code, config hash, the event as JSON.
pub(in crate::failures::verdicts) type Earlier = (String, i64, i64, String, Option<String>, Option<String>, String);

/// The newest failures of a terminal between two moments of receipt, newest first. By `failures_by_terminal`.
pub(in crate::failures::verdicts) fn earlier(
    conn: &mut Conn,
    terminal_id: i64,
    from_ms: i64,
    to_ms: i64,
    limit: i64,
) -> Result<Vec<Earlier>, db::Error> {
    let rows = failures::table
        .filter(failures::terminal_id.eq(terminal_id))
        .filter(failures::received_at_ms.ge(from_ms))
        .filter(failures::received_at_ms.le(to_ms))
        .order((failures::received_at_ms.desc(), failures::event_id.desc()))
        .limit(limit)
        .select((
            failures::event_id,
            failures::received_at_ms,
            failures::occurred_at_ms,
            failures::stage,
            failures::response_code,
            failures::config_hash,
            failures::event,
        ))
        .load(conn)?;
    Ok(rows)
}

/// When these terminals were last told something else on one of their layers. By primary key.
pub(in crate::failures::verdicts) fn told_since(conn: &mut Conn, ids: &[i64]) -> Result<HashMap<i64, i64>, db::Error> {
    let rows: Vec<(i64, Option<i64>)> = terminal_layers::table
        .filter(terminal_layers::terminal_id.eq_any(ids))
        .group_by(terminal_layers::terminal_id)
        .select((terminal_layers::terminal_id, max(terminal_layers::since_ms)))
        .load(conn)?;
    Ok(rows.into_iter().filter_map(|(id, since_ms)| Some((id, since_ms?))).collect())
}

/// When the terminal was last sampled between two moments, and when with another firmware. By primary key.
pub(in crate::failures::verdicts) fn firmware_seen(
    conn: &mut Conn,
    terminal_id: i64,
    firmware: &str,
    from_ms: i64,
    to_ms: i64,
) -> Result<(Option<i64>, Option<i64>), db::Error> {
    let samples = || {
        condition_samples::table
            .filter(condition_samples::terminal_id.eq(terminal_id))
            .filter(condition_samples::at_ms.ge(from_ms))
            .filter(condition_samples::at_ms.le(to_ms))
            .select(max(condition_samples::at_ms))
    };
    let any = samples().first(conn)?;
    let other = samples().filter(condition_samples::firmware.ne(firmware)).first(conn)?;
    Ok((any, other))
}

/// Failures with these codes at an organization's terminals of this merchant, received between two moments. By `terminals_by_merchant_no`
/// and `failures_by_terminal`.
pub(in crate::failures::verdicts) fn merchant_failures(
    conn: &mut Conn,
    org_path: &str,
    merchant_no: &str,
    codes: &[&str],
    from_ms: i64,
    to_ms: i64,
) -> Result<u32, db::Error> {
    let rows: Vec<i64> = failures::table
        .inner_join(terminals::table.on(terminals::id.eq(failures::terminal_id)))
        .filter(terminals::merchant_no.eq(merchant_no))
        .filter(terminals::org_path.eq(org_path))
        .filter(failures::received_at_ms.ge(from_ms))
        .filter(failures::received_at_ms.le(to_ms))
        .filter(failures::response_code.eq_any(codes))
        .limit(MERCHANT_MAX)
        .select(failures::terminal_id)
        .load(conn)?;
    Ok(u32::try_from(rows.len()).unwrap_or(u32::MAX))
}

/// Exposures of a carrier's terminals in one hour, and their failures to get a connection. By primary key.
pub(in crate::failures::verdicts) fn carrier_hour(
    conn: &mut Conn,
    carrier: &str,
    hour_ms: i64,
) -> Result<(i64, i64), db::Error> {
    let exposures: i64 = cohort_cells::table
        .inner_join(cohorts::table)
        .filter(cohort_cells::hour_ms.eq(hour_ms))
        .filter(cohorts::carrier.eq(carrier))
        .select(sql::<BigInt>("CAST(COALESCE(SUM(cohort_cells.exposures), 0) AS BIGINT)"))
        .first(conn)?;
    let failed: i64 = cohort_outcomes::table
        .inner_join(cohorts::table)
        .filter(cohort_outcomes::hour_ms.eq(hour_ms))
        .filter(cohorts::carrier.eq(carrier))
        .filter(cohort_outcomes::outcome.eq_any(["stage:dns", "stage:tcp", "stage:tls", "stage:send"]))
        .select(sql::<BigInt>("CAST(COALESCE(SUM(cohort_outcomes.failures), 0) AS BIGINT)"))
        .first(conn)?;
    Ok((exposures, failed))
}
