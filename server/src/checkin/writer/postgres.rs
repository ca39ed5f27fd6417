//! The batch's statements on PostgreSQL: one statement a table, its rows in arrays.

use std::collections::HashSet;

use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{Array, BigInt, Nullable, Text};

use super::rows::{Additions, CellRow, CohortRow, FailureRow, OutcomeRow, PaymentRow, SampleRow, StateRow};
use super::statements as sql;
use crate::db;

/// The array type that PostgreSQL is told for a column.
trait ArrayName {
    const NAME: &'static str;
}

impl ArrayName for BigInt {
    const NAME: &'static str = "::bigint[]";
}

impl ArrayName for Text {
    const NAME: &'static str = "::text[]";
}

impl<T: ArrayName> ArrayName for Nullable<T>
where
    T: diesel::sql_types::SqlType<IsNull = diesel::sql_types::is_nullable::NotNull>,
{
    const NAME: &'static str = T::NAME;
}

/// A statement over many rows: its text, one array for each column, its conflict rule.
macro_rules! statement {
    ($name:ident, $row:ty, $insert:expr, $conflict:expr, $constants:expr, $end:expr,
     [$($column:ident = $value:ident: $kind:ty as $rust:ty),* $(,)?]) => {
        struct $name<'a> {
            $($column: Vec<$rust>,)*
            rows: std::marker::PhantomData<&'a ()>,
        }

        impl<'a> $name<'a> {
            fn new(rows: &[$row]) -> Self {
                Self {
                    $($column: rows.iter().map(|row| row.$value).collect(),)*
                    rows: std::marker::PhantomData,
                }
            }
        }

        impl QueryId for $name<'_> {
            type QueryId = $name<'static>;
            const HAS_STATIC_QUERY_ID: bool = true;
        }

        impl QueryFragment<Pg> for $name<'_> {
            fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
                out.push_sql($insert);
                out.push_sql(" SELECT *");
                out.push_sql($constants);
                let mut lead = " FROM UNNEST(";
                $(
                    out.push_sql(std::mem::replace(&mut lead, ", "));
                    out.push_bind_param::<Array<$kind>, _>(&self.$column)?;
                    out.push_sql(<$kind as ArrayName>::NAME);
                )*
                out.push_sql(") ");
                out.push_sql($conflict);
                out.push_sql($end);
                Ok(())
            }
        }
    };
}

statement!(
    InsertState,
    StateRow<'a>,
    sql::INSERT_STATE,
    sql::ON_STATE_CONFLICT,
    ", 1",
    " RETURNING terminal_id",
    [terminal_id = terminal_id: BigInt as i64, stream = stream: BigInt as i64, seq = seq: BigInt as i64, now_ms = now_ms: BigInt as i64, now_ms_too = now_ms: BigInt as i64, next_check_in_ms = next_check_in_ms: BigInt as i64, interval_s = interval_s: BigInt as i64, sampled_at_ms = sampled_at_ms: BigInt as i64, failures = failures: BigInt as i64, transactions_ok = transactions_ok: BigInt as i64, transactions_failed = transactions_failed: BigInt as i64, firmware = firmware: Text as &'a str, slot = slot: Text as &'a str, agent = agent: Text as &'a str, app = app: Nullable<Text> as Option<&'a str>, config_hash = config_hash: Nullable<Text> as Option<&'a str>, access = access: Text as &'a str, carrier = carrier: Text as &'a str, signal = signal: Text as &'a str, report = report: Text as &'a str, config_told = config_told: Nullable<Text> as Option<&'a str>, config_misses = config_misses: BigInt as i64]
);

statement!(
    InsertSample,
    SampleRow<'a>,
    sql::INSERT_SAMPLE,
    sql::ON_SAMPLE_CONFLICT,
    "",
    "",
    [terminal_id = terminal_id: BigInt as i64, at_ms = at_ms: BigInt as i64, access = access: Text as &'a str, carrier = carrier: Text as &'a str, rsrp_dbm = rsrp_dbm: Nullable<BigInt> as Option<i64>, sinr_db = sinr_db: Nullable<BigInt> as Option<i64>, rssi_dbm = rssi_dbm: Nullable<BigInt> as Option<i64>, rtt_ms = rtt_ms: Nullable<BigInt> as Option<i64>, loss_percent = loss_percent: Nullable<BigInt> as Option<i64>, battery_percent = battery_percent: Nullable<BigInt> as Option<i64>, firmware = firmware: Text as &'a str, transactions_ok = transactions_ok: BigInt as i64, transactions_failed = transactions_failed: BigInt as i64]
);

statement!(
    InsertFailure,
    FailureRow<'a>,
    sql::INSERT_FAILURE,
    sql::ON_FAILURE_CONFLICT,
    "",
    "",
    [terminal_id = terminal_id: BigInt as i64, event_id = event_id: Text as &'a str, occurred_at_ms = occurred_at_ms: BigInt as i64, received_at_ms = received_at_ms: BigInt as i64, org_path = org_path: Text as &'a str, cohort_id = cohort_id: BigInt as i64, stage = stage: Text as &'a str, response_code = response_code: Nullable<Text> as Option<&'a str>, transaction_type = transaction_type: Text as &'a str, amount_fen = amount_fen: Nullable<BigInt> as Option<i64>, firmware = firmware: Text as &'a str, config_hash = config_hash: Nullable<Text> as Option<&'a str>, access = access: Text as &'a str, carrier = carrier: Text as &'a str, signal = signal: Text as &'a str, event = event: Text as &'a str]
);

statement!(
    InsertPayment,
    PaymentRow<'a>,
    sql::INSERT_PAYMENT,
    sql::ON_PAYMENT_CONFLICT,
    "",
    "",
    [terminal_id = terminal_id: BigInt as i64, event_id = event_id: Text as &'a str, occurred_at_ms = occurred_at_ms: BigInt as i64, at_ms = at_ms: BigInt as i64, received_at_ms = received_at_ms: BigInt as i64, org_path = org_path: Text as &'a str, transaction_type = transaction_type: Text as &'a str, amount_fen = amount_fen: BigInt as i64, batch_no = batch_no: Nullable<Text> as Option<&'a str>, trace_no = trace_no: Nullable<Text> as Option<&'a str>, ref_no = ref_no: Nullable<Text> as Option<&'a str>, merchant_no_sent = merchant_no_sent: Nullable<Text> as Option<&'a str>, terminal_no_sent = terminal_no_sent: Nullable<Text> as Option<&'a str>, merchant_no_resp = merchant_no_resp: Nullable<Text> as Option<&'a str>]
);

statement!(
    InsertCohort,
    CohortRow<'a>,
    sql::INSERT_COHORT,
    sql::ON_COHORT_CONFLICT,
    "",
    "",
    [id = id: BigInt as i64, org_path = org_path: Text as &'a str, model = model: Text as &'a str, hardware = hardware: Text as &'a str, firmware = firmware: Text as &'a str, app = app: Text as &'a str, config_hash = config_hash: Text as &'a str, region = region: Text as &'a str, carrier = carrier: Text as &'a str, access = access: Text as &'a str, signal = signal: Text as &'a str, in_update = in_update: Text as &'a str]
);

statement!(
    InsertCell,
    CellRow,
    sql::INSERT_CELL,
    sql::ON_CELL_CONFLICT,
    "",
    "",
    [hour_ms = hour_ms: BigInt as i64, cohort_id = cohort_id: BigInt as i64, check_ins = check_ins: BigInt as i64, transactions_ok = transactions_ok: BigInt as i64, transactions_failed = transactions_failed: BigInt as i64, exposures = exposures: BigInt as i64, failed_exposures = failed_exposures: BigInt as i64, failures = failures: BigInt as i64]
);

statement!(
    InsertOutcome,
    OutcomeRow<'a>,
    sql::INSERT_OUTCOME,
    sql::ON_OUTCOME_CONFLICT,
    "",
    "",
    [hour_ms = hour_ms: BigInt as i64, cohort_id = cohort_id: BigInt as i64, outcome = outcome: Text as &'a str, failures = failures: BigInt as i64]
);

impl Query for InsertState<'_> {
    type SqlType = BigInt;
}

impl RunQueryDsl<PgConnection> for InsertState<'_> {}
impl RunQueryDsl<PgConnection> for InsertSample<'_> {}
impl RunQueryDsl<PgConnection> for InsertFailure<'_> {}
impl RunQueryDsl<PgConnection> for InsertPayment<'_> {}
impl RunQueryDsl<PgConnection> for InsertCohort<'_> {}
impl RunQueryDsl<PgConnection> for InsertCell<'_> {}
impl RunQueryDsl<PgConnection> for InsertOutcome<'_> {}

/// Writes the states and returns whose were newer than what was stored. `rows` hold each terminal once.
pub(super) fn upsert_states(conn: &mut PgConnection, rows: &[StateRow<'_>]) -> Result<HashSet<i64>, db::Error> {
    if rows.is_empty() {
        return Ok(HashSet::new());
    }
    let mut sorted = rows.to_vec();
    sorted.sort_unstable_by_key(|row| row.terminal_id);
    Ok(InsertState::new(&sorted).load::<i64>(conn)?.into_iter().collect())
}

/// Writes the rest of a round.
pub(super) fn add(conn: &mut PgConnection, additions: &Additions<'_>) -> Result<(), db::Error> {
    if !additions.cohorts.is_empty() {
        InsertCohort::new(&additions.cohorts).execute(conn)?;
    }
    if !additions.cells.is_empty() {
        InsertCell::new(&additions.cells).execute(conn)?;
    }
    if !additions.outcomes.is_empty() {
        InsertOutcome::new(&additions.outcomes).execute(conn)?;
    }
    if !additions.samples.is_empty() {
        InsertSample::new(&additions.samples).execute(conn)?;
    }
    if !additions.failures.is_empty() {
        InsertFailure::new(&additions.failures).execute(conn)?;
    }
    if !additions.payments.is_empty() {
        InsertPayment::new(&additions.payments).execute(conn)?;
    }
    Ok(())
}
