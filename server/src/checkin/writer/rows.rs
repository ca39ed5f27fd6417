//! The rows that a batch writes, with the texts they borrow from the check-ins.

use tillward_protocol::failure::Failure;
use tillward_protocol::payment::Payment;

use super::super::Pending;
use super::cohort::{Cell, Cohort};
use super::{Registry, SAMPLE_INTERVAL_MS};
use crate::clock::Now;
use crate::profiles::Watch;

/// A row of `terminal_states`; counters are what this check-in adds.
#[derive(Debug, Clone, Copy)]
pub(super) struct StateRow<'a> {
    pub(super) terminal_id: i64,
    pub(super) stream: i64,
    pub(super) seq: i64,
    pub(super) now_ms: i64,
    pub(super) next_check_in_ms: i64,
    pub(super) interval_s: i64,
    pub(super) sampled_at_ms: i64,
    pub(super) failures: i64,
    pub(super) transactions_ok: i64,
    pub(super) transactions_failed: i64,
    pub(super) firmware: &'a str,
    pub(super) slot: &'static str,
    pub(super) agent: &'a str,
    pub(super) app: Option<&'a str>,
    pub(super) config_hash: Option<&'a str>,
    pub(super) access: &'static str,
    pub(super) carrier: &'static str,
    pub(super) signal: &'static str,
    pub(super) report: &'a str,
    pub(super) config_told: Option<&'a str>,
    pub(super) config_misses: i64,
    /// Whether this check-in also becomes a sample of the conditions over time.
    pub(super) is_sampled: bool,
}

impl<'a> StateRow<'a> {
    pub(super) fn new(
        pending: &'a Pending,
        sampled_at_ms: Option<i64>,
        watch: Watch<'a>,
        interval_s: u32,
        next_s: u32,
        now: Now,
    ) -> Self {
        let check_in = &pending.check_in;
        let is_sampled = sampled_at_ms.is_none_or(|at_ms| now.0 - at_ms >= SAMPLE_INTERVAL_MS);
        Self {
            terminal_id: pending.session.terminal_id.0,
            stream: i64::from(check_in.stream.0),
            seq: i64::from(check_in.seq.0),
            now_ms: now.0,
            next_check_in_ms: now.0 + i64::from(next_s) * 1_000,
            interval_s: i64::from(interval_s),
            sampled_at_ms: if is_sampled { now.0 } else { sampled_at_ms.unwrap_or(now.0) },
            failures: i64::try_from(check_in.failures.len()).unwrap_or(0),
            transactions_ok: i64::from(check_in.transactions.ok),
            transactions_failed: i64::from(check_in.transactions.failed),
            firmware: check_in.software.firmware.as_str(),
            slot: check_in.software.slot.as_str(),
            agent: check_in.software.agent.as_str(),
            app: check_in.software.app.as_ref().map(|app| app.as_str()),
            config_hash: check_in.software.config_hash.as_ref().map(|hash| hash.as_str()),
            access: access(&check_in.condition),
            carrier: check_in.condition.carrier(),
            signal: check_in.condition.signal_band().as_str(),
            report: &pending.report,
            config_told: watch.told,
            config_misses: watch.misses,
            is_sampled,
        }
    }
}

fn access(condition: &tillward_protocol::condition::Condition) -> &'static str {
    condition.access.map_or("unknown", |access| access.as_str())
}

/// A row of `condition_samples`.
#[derive(Debug, Clone, Copy)]
pub(super) struct SampleRow<'a> {
    pub(super) terminal_id: i64,
    pub(super) at_ms: i64,
    pub(super) access: &'static str,
    pub(super) carrier: &'static str,
    pub(super) rsrp_dbm: Option<i64>,
    pub(super) sinr_db: Option<i64>,
    pub(super) rssi_dbm: Option<i64>,
    pub(super) rtt_ms: Option<i64>,
    pub(super) loss_percent: Option<i64>,
    pub(super) battery_percent: Option<i64>,
    pub(super) firmware: &'a str,
    pub(super) transactions_ok: i64,
    pub(super) transactions_failed: i64,
}

impl<'a> SampleRow<'a> {
    pub(super) fn new(pending: &'a Pending, now: Now) -> Self {
        let check_in = &pending.check_in;
        let condition = &check_in.condition;
        Self {
            terminal_id: pending.session.terminal_id.0,
            at_ms: now.0,
            access: access(condition),
            carrier: condition.carrier(),
            rsrp_dbm: condition.rsrp_dbm.map(i64::from),
            sinr_db: condition.sinr_db.map(i64::from),
            rssi_dbm: condition.rssi_dbm.map(i64::from),
            rtt_ms: condition.rtt_ms.map(i64::from),
            loss_percent: condition.loss_percent.map(i64::from),
            battery_percent: check_in.device.battery_percent.map(i64::from),
            firmware: check_in.software.firmware.as_str(),
            transactions_ok: i64::from(check_in.transactions.ok),
            transactions_failed: i64::from(check_in.transactions.failed),
        }
    }
}

/// A row of `failures`.
#[derive(Debug, Clone, Copy)]
pub(super) struct FailureRow<'a> {
    pub(super) terminal_id: i64,
    pub(super) event_id: &'a str,
    pub(super) occurred_at_ms: i64,
    pub(super) received_at_ms: i64,
    pub(super) org_path: &'a str,
    pub(super) cohort_id: i64,
    pub(super) stage: &'static str,
    pub(super) response_code: Option<&'a str>,
    pub(super) transaction_type: &'static str,
    pub(super) amount_fen: Option<i64>,
    pub(super) firmware: &'a str,
    pub(super) config_hash: Option<&'a str>,
    pub(super) access: &'static str,
    pub(super) carrier: &'static str,
    pub(super) signal: &'static str,
    pub(super) event: &'a str,
}

impl<'a> FailureRow<'a> {
    pub(super) fn new(
        pending: &'a Pending,
        row: &'a Registry,
        failure: &'a Failure,
        event: &'a str,
        cohort_id: i64,
        now: Now,
    ) -> Self {
        let software = &pending.check_in.software;
        Self {
            terminal_id: pending.session.terminal_id.0,
            event_id: &failure.id,
            occurred_at_ms: failure.occurred_at_ms,
            received_at_ms: now.0,
            org_path: &row.org_path,
            cohort_id,
            stage: failure.stage.as_str(),
            response_code: failure.response_code.as_deref(),
            transaction_type: failure.transaction.as_str(),
            amount_fen: failure.amount_fen,
            firmware: failure.firmware.as_ref().unwrap_or(&software.firmware).as_str(),
            config_hash: failure.config_hash.as_ref().or(software.config_hash.as_ref()).map(|hash| hash.as_str()),
            access: access(&failure.condition),
            carrier: failure.condition.carrier(),
            signal: failure.condition.signal_band().as_str(),
            event,
        }
    }
}

/// A row of `payments`.
#[derive(Debug, Clone, Copy)]
pub(super) struct PaymentRow<'a> {
    pub(super) terminal_id: i64,
    pub(super) event_id: &'a str,
    pub(super) occurred_at_ms: i64,
    pub(super) at_ms: i64,
    pub(super) received_at_ms: i64,
    pub(super) org_path: &'a str,
    pub(super) transaction_type: &'static str,
    pub(super) amount_fen: i64,
    pub(super) batch_no: Option<&'a str>,
    pub(super) trace_no: Option<&'a str>,
    pub(super) ref_no: Option<&'a str>,
    pub(super) merchant_no_sent: Option<&'a str>,
    pub(super) terminal_no_sent: Option<&'a str>,
    pub(super) merchant_no_resp: Option<&'a str>,
}

impl<'a> PaymentRow<'a> {
    pub(super) fn new(pending: &'a Pending, row: &'a Registry, payment: &'a Payment, now: Now) -> Self {
        // How far the terminal's clock was ahead when the report was made; reports may come much later than that.
        let ahead_ms = pending.check_in.condition.clock_offset_ms.unwrap_or(0);
        Self {
            terminal_id: pending.session.terminal_id.0,
            event_id: &payment.id,
            occurred_at_ms: payment.occurred_at_ms,
            at_ms: payment.occurred_at_ms.saturating_sub(ahead_ms),
            received_at_ms: now.0,
            org_path: &row.org_path,
            transaction_type: payment.transaction.as_str(),
            amount_fen: payment.amount_fen,
            batch_no: payment.batch_no.as_deref(),
            trace_no: payment.trace_no.as_deref(),
            ref_no: payment.ref_no.as_deref(),
            merchant_no_sent: payment.merchant_no_sent.as_deref(),
            terminal_no_sent: payment.terminal_no_sent.as_deref(),
            merchant_no_resp: payment.merchant_no_resp.as_deref(),
        }
    }
}

/// A row of `cohorts`.
#[derive(Debug, Clone, Copy)]
pub(super) struct CohortRow<'a> {
    pub(super) id: i64,
    pub(super) org_path: &'a str,
    pub(super) model: &'a str,
    pub(super) hardware: &'a str,
    pub(super) firmware: &'a str,
    pub(super) app: &'a str,
    pub(super) config_hash: &'a str,
    pub(super) region: &'a str,
    pub(super) carrier: &'a str,
    pub(super) access: &'a str,
    pub(super) signal: &'a str,
    pub(super) in_update: &'a str,
}

impl<'a> CohortRow<'a> {
    pub(super) fn new(id: i64, cohort: &'a Cohort) -> Self {
        Self {
            id,
            org_path: &cohort.org_path,
            model: &cohort.model,
            hardware: &cohort.hardware,
            firmware: &cohort.firmware,
            app: &cohort.app,
            config_hash: &cohort.config_hash,
            region: &cohort.region,
            carrier: cohort.carrier,
            access: cohort.access,
            signal: cohort.signal,
            in_update: cohort.in_update,
        }
    }
}

/// What is added to a row of `cohort_cells`.
#[derive(Debug, Clone, Copy)]
pub(super) struct CellRow {
    pub(super) hour_ms: i64,
    pub(super) cohort_id: i64,
    pub(super) check_ins: i64,
    pub(super) transactions_ok: i64,
    pub(super) transactions_failed: i64,
    pub(super) exposures: i64,
    pub(super) failed_exposures: i64,
    pub(super) failures: i64,
}

impl CellRow {
    pub(super) fn new(hour_ms: i64, cohort_id: i64, cell: &Cell) -> Self {
        Self {
            hour_ms,
            cohort_id,
            check_ins: cell.check_ins,
            transactions_ok: cell.transactions_ok,
            transactions_failed: cell.transactions_failed,
            exposures: cell.exposures,
            failed_exposures: cell.failed_exposures,
            failures: cell.failures,
        }
    }
}

/// What is added to a row of `cohort_outcomes`.
#[derive(Debug, Clone, Copy)]
pub(super) struct OutcomeRow<'a> {
    pub(super) hour_ms: i64,
    pub(super) cohort_id: i64,
    pub(super) outcome: &'a str,
    pub(super) failures: i64,
}

/// Everything that a round adds beside the states, each list in the order of its key.
#[derive(Debug, Default)]
pub(super) struct Additions<'a> {
    pub(super) cohorts: Vec<CohortRow<'a>>,
    pub(super) cells: Vec<CellRow>,
    pub(super) outcomes: Vec<OutcomeRow<'a>>,
    pub(super) samples: Vec<SampleRow<'a>>,
    pub(super) failures: Vec<FailureRow<'a>>,
    pub(super) payments: Vec<PaymentRow<'a>>,
}
