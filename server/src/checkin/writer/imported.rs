//! Failures that no check-in brought: the same rows and cells as a check-in's, with "unknown" for what nobody said.
//!
//! A cell gets the failure and its outcome in the hour in which it happened. That hour of the terminal is also an exposure
//! that failed, where the terminal does not count its own: beside the hours that a channel's feed tells of, a rate has both
//! its parts.

use std::collections::BTreeMap;

use super::super::{Counting, ImportedFailure, Slot};
use super::cohort::{Cell, Cohort, UNKNOWN, outcome};
use super::rows::{Additions, CellRow, CohortRow, FailureRow, OutcomeRow};
use super::{postgres, slots, sqlite};
use crate::clock::Now;
use crate::db::{self, Conn};

/// Writes `imported`; none of them may be stored already.
pub(crate) fn add(conn: &mut Conn, imported: &[ImportedFailure<'_>], now: Now) -> Result<(), db::Error> {
    let mut cohorts: BTreeMap<i64, Cohort> = BTreeMap::new();
    let mut cells: BTreeMap<(i64, i64), Cell> = BTreeMap::new();
    let mut failures = Vec::with_capacity(imported.len());
    for each in imported {
        let cohort = cohort(each);
        let id = cohort.id();
        cohorts.entry(id).or_insert(cohort);
        let hour_ms = Now(each.failure.occurred_at_ms).hour_ms();
        if each.terminal.calls {
            cells.entry((hour_ms, id)).or_default().add_failure(each.failure);
        }
        failures.push(row(each, id, now));
    }
    let cohort_rows = cohorts.iter().map(|(&id, cohort)| CohortRow::new(id, cohort)).collect();
    let cell_rows = cells.iter().map(|(&(hour_ms, id), cell)| CellRow::new(hour_ms, id, cell)).collect();
    let outcomes = cells.iter().flat_map(|(&(hour_ms, cohort_id), cell)| {
        cell.outcomes.iter().map(move |(outcome, &failures)| OutcomeRow { hour_ms, cohort_id, outcome, failures })
    });
    let outcomes = outcomes.collect();
    let silent = imported.iter().filter(|each| !each.terminal.calls && each.counting == Counting::Due);
    let told: Vec<Slot<'_>> = silent.map(slot).collect();
    slots::note(conn, &told)?;
    let additions = Additions { cohorts: cohort_rows, cells: cell_rows, outcomes, failures, ..Additions::default() };
    match conn {
        Conn::Sqlite(sqlite) => sqlite::add(sqlite, &additions),
        Conn::Postgres(postgres) => postgres::add(postgres, &additions),
    }
}

fn slot<'a>(imported: &ImportedFailure<'a>) -> Slot<'a> {
    let &ImportedFailure { terminal, failure, .. } = imported;
    Slot {
        terminal_id: terminal.id,
        org_path: &terminal.org_path,
        model: &terminal.model,
        hardware: terminal.hardware.as_deref(),
        region: &terminal.region,
        at_ms: failure.occurred_at_ms,
        is_failed: true,
        outcome: Some(outcome(failure)),
    }
}

fn cohort(imported: &ImportedFailure<'_>) -> Cohort {
    let ImportedFailure { terminal, failure, .. } = imported;
    if !terminal.calls {
        return slots::cohort(&slot(imported));
    }
    let version = |version: &Option<tillward_protocol::ids::Version>| {
        version.as_ref().map_or(UNKNOWN, |version| version.as_str()).to_owned()
    };
    Cohort {
        org_path: terminal.org_path.clone(),
        model: terminal.model.clone(),
        hardware: terminal.hardware.clone().unwrap_or_else(|| UNKNOWN.to_owned()),
        firmware: version(&failure.firmware),
        app: version(&failure.app),
        config_hash: failure.config_hash.as_ref().map_or(UNKNOWN, |hash| hash.as_str()).to_owned(),
        region: terminal.region.clone(),
        carrier: failure.condition.carrier(),
        access: failure.condition.access.map_or(UNKNOWN, |access| access.as_str()),
        signal: failure.condition.signal_band().as_str(),
        in_update: match failure.in_update {
            Some(true) => "yes",
            Some(false) => "no",
            None => UNKNOWN,
        },
    }
}

fn row<'a>(imported: &ImportedFailure<'a>, cohort_id: i64, now: Now) -> FailureRow<'a> {
    let &ImportedFailure { terminal, failure, event, .. } = imported;
    FailureRow {
        terminal_id: terminal.id,
        event_id: &failure.id,
        occurred_at_ms: failure.occurred_at_ms,
        received_at_ms: now.0,
        org_path: &terminal.org_path,
        cohort_id,
        stage: failure.stage.as_str(),
        response_code: failure.response_code.as_deref(),
        transaction_type: failure.transaction.as_str(),
        amount_fen: failure.amount_fen,
        firmware: failure.firmware.as_ref().map_or(UNKNOWN, |version| version.as_str()),
        config_hash: failure.config_hash.as_ref().map(|hash| hash.as_str()),
        access: failure.condition.access.map_or(UNKNOWN, |access| access.as_str()),
        carrier: failure.condition.carrier(),
        signal: failure.condition.signal_band().as_str(),
        event,
    }
}
