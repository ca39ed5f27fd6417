//! The texts of the batch's statements, the same for both databases but for how the values come in.

pub(super) const INSERT_STATE: &str = "INSERT INTO terminal_states (terminal_id, stream, seq, first_seen_ms, last_seen_ms, \
     next_check_in_ms, interval_s, sampled_at_ms, failures, transactions_ok, transactions_failed, \
     firmware, slot, agent, app, config_hash, access, carrier, signal, report, config_told, config_misses, check_ins)";
/// Keeps the newest pair; an older or equal one changes nothing.
pub(super) const ON_STATE_CONFLICT: &str = "\
     ON CONFLICT (terminal_id) DO UPDATE SET stream = excluded.stream, seq = excluded.seq, last_seen_ms = excluded.last_seen_ms, \
     first_seen_ms = CASE terminal_states.first_seen_ms WHEN 0 THEN excluded.first_seen_ms ELSE terminal_states.first_seen_ms END, \
     next_check_in_ms = excluded.next_check_in_ms, interval_s = excluded.interval_s, sampled_at_ms = excluded.sampled_at_ms, \
     check_ins = terminal_states.check_ins + 1, failures = terminal_states.failures + excluded.failures, \
     transactions_ok = terminal_states.transactions_ok + excluded.transactions_ok, \
     transactions_failed = terminal_states.transactions_failed + excluded.transactions_failed, \
     firmware = excluded.firmware, slot = excluded.slot, agent = excluded.agent, app = excluded.app, \
     config_hash = excluded.config_hash, access = excluded.access, carrier = excluded.carrier, signal = excluded.signal, \
     report = excluded.report, config_told = excluded.config_told, config_misses = excluded.config_misses \
     WHERE (terminal_states.stream, terminal_states.seq) < (excluded.stream, excluded.seq)";

pub(super) const INSERT_SAMPLE: &str = "INSERT INTO condition_samples (terminal_id, at_ms, access, carrier, rsrp_dbm, sinr_db, rssi_dbm, \
     rtt_ms, loss_percent, battery_percent, firmware, transactions_ok, transactions_failed)";
pub(super) const ON_SAMPLE_CONFLICT: &str = "ON CONFLICT DO NOTHING";

pub(super) const INSERT_FAILURE: &str = "INSERT INTO failures (terminal_id, event_id, occurred_at_ms, received_at_ms, org_path, cohort_id, \
     stage, response_code, transaction_type, amount_fen, firmware, config_hash, access, carrier, \
     signal, event)";
/// A terminal that sends an event again in another check-in does not double it.
pub(super) const ON_FAILURE_CONFLICT: &str = "ON CONFLICT DO NOTHING";

pub(super) const INSERT_PAYMENT: &str = "INSERT INTO payments (terminal_id, event_id, occurred_at_ms, at_ms, received_at_ms, org_path, \
     transaction_type, amount_fen, batch_no, trace_no, ref_no, merchant_no_sent, terminal_no_sent, merchant_no_resp)";
/// As with failures.
pub(super) const ON_PAYMENT_CONFLICT: &str = "ON CONFLICT DO NOTHING";

pub(super) const INSERT_COHORT: &str = "INSERT INTO cohorts (id, org_path, model, hardware, firmware, app, config_hash, region, carrier, \
     access, signal, in_update)";
pub(super) const ON_COHORT_CONFLICT: &str = "ON CONFLICT DO NOTHING";

pub(super) const INSERT_CELL: &str = "INSERT INTO cohort_cells (hour_ms, cohort_id, check_ins, transactions_ok, transactions_failed, \
     exposures, failed_exposures, failures)";
/// Counters add up in SQL: two servers may add to one cell.
pub(super) const ON_CELL_CONFLICT: &str = "\
     ON CONFLICT (hour_ms, cohort_id) DO UPDATE SET check_ins = cohort_cells.check_ins + excluded.check_ins, \
     transactions_ok = cohort_cells.transactions_ok + excluded.transactions_ok, \
     transactions_failed = cohort_cells.transactions_failed + excluded.transactions_failed, \
     exposures = cohort_cells.exposures + excluded.exposures, \
     failed_exposures = cohort_cells.failed_exposures + excluded.failed_exposures, \
     failures = cohort_cells.failures + excluded.failures";

pub(super) const INSERT_OUTCOME: &str = "INSERT INTO cohort_outcomes (hour_ms, cohort_id, outcome, failures)";
pub(super) const ON_OUTCOME_CONFLICT: &str =
    "ON CONFLICT (hour_ms, cohort_id, outcome) DO UPDATE SET failures = cohort_outcomes.failures + excluded.failures";
