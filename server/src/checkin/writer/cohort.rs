//! Cohorts and their cells: exposures and failures by coarse attributes and hour. Pure.

use std::collections::BTreeMap;

use tillward_protocol::checkin::CheckIn;
use tillward_protocol::crypto::sha256;
use tillward_protocol::failure::Failure;
use tillward_protocol::phase::Phase;

use super::Registry;

/// One combination of attributes. Coarse by design, so that cells stay far fewer than check-ins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cohort {
    pub(super) org_path: String,
    pub(super) model: String,
    pub(super) hardware: String,
    pub(super) firmware: String,
    pub(super) app: String,
    pub(super) config_hash: String,
    pub(super) region: String,
    pub(super) carrier: &'static str,
    pub(super) access: &'static str,
    pub(super) signal: &'static str,
    pub(super) in_update: &'static str,
}

/// What stands for an attribute that was not reported.
pub(super) const UNKNOWN: &str = "unknown";

impl Cohort {
    /// The cohort of everything in one check-in: the same for its exposures and its failures, or a rate would compare
    /// what was counted differently.
    pub(super) fn of_check_in(check_in: &CheckIn, row: &Registry) -> Self {
        let software = &check_in.software;
        let in_update = match check_in.update.as_ref().map(|update| update.phase) {
            Some(Phase::Installing | Phase::Rebooting | Phase::Trial) => "yes",
            Some(Phase::Downloading | Phase::Succeeded | Phase::Failed | Phase::RolledBack | Phase::Deferred)
            | None => "no",
        };
        Self {
            org_path: row.org_path.clone(),
            model: row.model.clone(),
            hardware: software
                .hardware
                .as_ref()
                .map(|hardware| hardware.as_str().to_owned())
                .or_else(|| row.hardware.clone())
                .unwrap_or_else(|| UNKNOWN.to_owned()),
            firmware: software.firmware.as_str().to_owned(),
            app: software.app.as_ref().map_or(UNKNOWN, |app| app.as_str()).to_owned(),
            config_hash: software.config_hash.as_ref().map_or(UNKNOWN, |hash| hash.as_str()).to_owned(),
            region: row.region.clone(),
            carrier: check_in.condition.carrier(),
            access: check_in.condition.access.map_or(UNKNOWN, |access| access.as_str()),
            signal: check_in.condition.signal_band().as_str(),
            in_update,
        }
    }

    /// A hash of the attributes, the same on every server; 63 bits, so that a million cohorts collide with a chance of
    /// one in ten million.
    pub(super) fn id(&self) -> i64 {
        let parts = [
            self.org_path.as_str(),
            &self.model,
            &self.hardware,
            &self.firmware,
            &self.app,
            &self.config_hash,
            &self.region,
            self.carrier,
            self.access,
            self.signal,
            self.in_update,
        ];
        let digest = sha256(parts.join("\n").as_bytes());
        let [a, b, c, d, e, f, g, h, ..] = digest;
        i64::from_be_bytes([a, b, c, d, e, f, g, h]) & i64::MAX
    }
}

/// What one batch adds to one cell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) check_ins: i64,
    pub(super) transactions_ok: i64,
    pub(super) transactions_failed: i64,
    pub(super) exposures: i64,
    pub(super) failed_exposures: i64,
    pub(super) failures: i64,
    /// Failures by outcome, `code:30` or `stage:tls`.
    pub(super) outcomes: BTreeMap<String, i64>,
}

impl Cell {
    pub(super) fn add_check_in(&mut self, check_in: &CheckIn) {
        let counters = &check_in.transactions;
        self.check_ins += 1;
        self.transactions_ok += i64::from(counters.ok);
        self.transactions_failed += i64::from(counters.failed);
        // The interval between two check-ins is the slot, for failures too.
        self.exposures += i64::from(counters.ok > 0 || counters.failed > 0 || !check_in.failures.is_empty());
        self.failed_exposures += i64::from(counters.failed > 0 || !check_in.failures.is_empty());
    }

    pub(super) fn add_failure(&mut self, failure: &Failure) {
        self.failures += 1;
        *self.outcomes.entry(outcome(failure)).or_default() += 1;
    }
}

/// What a failure ended with: `code:30`, or `stage:tls` where the host did not answer.
pub(super) fn outcome(failure: &Failure) -> String {
    match &failure.response_code {
        Some(code) => format!("code:{code}"),
        None => format!("stage:{}", failure.stage.as_str()),
    }
}
