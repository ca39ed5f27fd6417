//! The batch's statements on SQLite: row by row, each prepared once and kept by diesel under its type.

use std::collections::HashSet;

use diesel::prelude::*;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::sql_types::{BigInt, Nullable, Text};
use diesel::sqlite::Sqlite;

use super::rows::{Additions, CellRow, CohortRow, FailureRow, OutcomeRow, PaymentRow, SampleRow, StateRow};
use super::statements as sql;
use crate::db;

/// A statement over one row: its text, its values in order, its conflict rule.
macro_rules! statement {
    ($name:ident, $row:ty, $insert:expr, $conflict:expr, $end:expr, [$($value:ident: $kind:ty),* $(,)?]) => {
        struct $name<'a>(&'a $row);

        impl QueryId for $name<'_> {
            type QueryId = $name<'static>;
            const HAS_STATIC_QUERY_ID: bool = true;
        }

        impl QueryFragment<Sqlite> for $name<'_> {
            fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
                out.push_sql($insert);
                let mut lead = " VALUES (";
                $(
                    out.push_sql(std::mem::replace(&mut lead, ", "));
                    out.push_bind_param::<$kind, _>(&self.0.$value)?;
                )*
                out.push_sql($end);
                out.push_sql($conflict);
                Ok(())
            }
        }

        impl RunQueryDsl<SqliteConnection> for $name<'_> {}
    };
}

statement!(
    InsertState,
    StateRow<'a>,
    sql::INSERT_STATE,
    sql::ON_STATE_CONFLICT,
    ", 1) ",
    [terminal_id: BigInt, stream: BigInt, seq: BigInt, now_ms: BigInt, now_ms: BigInt, next_check_in_ms: BigInt, interval_s: BigInt, sampled_at_ms: BigInt, failures: BigInt, transactions_ok: BigInt, transactions_failed: BigInt, firmware: Text, slot: Text, agent: Text, app: Nullable<Text>, config_hash: Nullable<Text>, access: Text, carrier: Text, signal: Text, report: Text, config_told: Nullable<Text>, config_misses: BigInt]
);

statement!(
    InsertSample,
    SampleRow<'a>,
    sql::INSERT_SAMPLE,
    sql::ON_SAMPLE_CONFLICT,
    ") ",
    [terminal_id: BigInt, at_ms: BigInt, access: Text, carrier: Text, rsrp_dbm: Nullable<BigInt>, sinr_db: Nullable<BigInt>, rssi_dbm: Nullable<BigInt>, rtt_ms: Nullable<BigInt>, loss_percent: Nullable<BigInt>, battery_percent: Nullable<BigInt>, firmware: Text, transactions_ok: BigInt, transactions_failed: BigInt]
);

statement!(
    InsertFailure,
    FailureRow<'a>,
    sql::INSERT_FAILURE,
    sql::ON_FAILURE_CONFLICT,
    ") ",
    [terminal_id: BigInt, event_id: Text, occurred_at_ms: BigInt, received_at_ms: BigInt, org_path: Text, cohort_id: BigInt, stage: Text, response_code: Nullable<Text>, transaction_type: Text, amount_fen: Nullable<BigInt>, firmware: Text, config_hash: Nullable<Text>, access: Text, carrier: Text, signal: Text, event: Text]
);

statement!(
    InsertPayment,
    PaymentRow<'a>,
    sql::INSERT_PAYMENT,
    sql::ON_PAYMENT_CONFLICT,
    ") ",
    [terminal_id: BigInt, event_id: Text, occurred_at_ms: BigInt, at_ms: BigInt, received_at_ms: BigInt, org_path: Text, transaction_type: Text, amount_fen: BigInt, batch_no: Nullable<Text>, trace_no: Nullable<Text>, ref_no: Nullable<Text>, merchant_no_sent: Nullable<Text>, terminal_no_sent: Nullable<Text>, merchant_no_resp: Nullable<Text>]
);

statement!(
    InsertCohort,
    CohortRow<'a>,
    sql::INSERT_COHORT,
    sql::ON_COHORT_CONFLICT,
    ") ",
    [id: BigInt, org_path: Text, model: Text, hardware: Text, firmware: Text, app: Text, config_hash: Text, region: Text, carrier: Text, access: Text, signal: Text, in_update: Text]
);

statement!(
    InsertCell,
    CellRow,
    sql::INSERT_CELL,
    sql::ON_CELL_CONFLICT,
    ") ",
    [hour_ms: BigInt, cohort_id: BigInt, check_ins: BigInt, transactions_ok: BigInt, transactions_failed: BigInt, exposures: BigInt, failed_exposures: BigInt, failures: BigInt]
);

statement!(
    InsertOutcome,
    OutcomeRow<'a>,
    sql::INSERT_OUTCOME,
    sql::ON_OUTCOME_CONFLICT,
    ") ",
    [hour_ms: BigInt, cohort_id: BigInt, outcome: Text, failures: BigInt]
);

/// Writes the states and returns whose were newer than what was stored.
pub(super) fn upsert_states(conn: &mut SqliteConnection, rows: &[StateRow<'_>]) -> Result<HashSet<i64>, db::Error> {
    let mut applied = HashSet::with_capacity(rows.len());
    for row in rows {
        if InsertState(row).execute(conn)? > 0 {
            applied.insert(row.terminal_id);
        }
    }
    Ok(applied)
}

/// Writes the rest of a round.
pub(super) fn add(conn: &mut SqliteConnection, additions: &Additions<'_>) -> Result<(), db::Error> {
    for row in &additions.cohorts {
        InsertCohort(row).execute(conn)?;
    }
    for row in &additions.cells {
        InsertCell(row).execute(conn)?;
    }
    for row in &additions.outcomes {
        InsertOutcome(row).execute(conn)?;
    }
    for row in &additions.samples {
        InsertSample(row).execute(conn)?;
    }
    for row in &additions.failures {
        InsertFailure(row).execute(conn)?;
    }
    for row in &additions.payments {
        InsertPayment(row).execute(conn)?;
    }
    Ok(())
}
