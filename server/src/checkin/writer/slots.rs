//! Exposures of terminals that do not call: an hour in which something was paid is one slot of a terminal, as the
//! interval between two check-ins is for those that do. Each slot counts once, whoever tells of it and how often.

use std::collections::{BTreeMap, BTreeSet};

use diesel::prelude::*;

use super::super::Slot;
use super::cohort::{Cell, Cohort, UNKNOWN};
use super::rows::{Additions, CellRow, CohortRow, OutcomeRow};
use super::{postgres, sqlite};
use crate::clock::Now;
use crate::db::schema::exposure_slots;
use crate::db::{self, Conn};
use crate::on_backend;

/// What a batch says of one terminal's hour.
struct Hour<'a> {
    slot: &'a Slot<'a>,
    ok: i64,
    failed: i64,
    outcomes: BTreeMap<&'a str, i64>,
}

/// Adds `slots` to the cells of their hours.
pub(crate) fn note(conn: &mut Conn, slots: &[Slot<'_>]) -> Result<(), db::Error> {
    if slots.is_empty() {
        return Ok(());
    }
    let hours = by_hour(slots);
    let known = known(conn, &hours)?;
    let mut cohorts: BTreeMap<i64, Cohort> = BTreeMap::new();
    let mut cells: BTreeMap<(i64, i64), Cell> = BTreeMap::new();
    let mut new = Vec::new();
    let mut now_failed = Vec::new();
    for (&(terminal_id, hour_ms), hour) in &hours {
        let has_failed = hour.failed > 0;
        let (cohort_id, exposures, failed_exposures) = match known.get(&(terminal_id, hour_ms)) {
            None => {
                let cohort = cohort(hour.slot);
                let id = cohort.id();
                cohorts.entry(id).or_insert(cohort);
                new.push((terminal_id, hour_ms, id, has_failed));
                (id, 1, i64::from(has_failed))
            }
            Some(&(cohort_id, failed)) => {
                let is_news = has_failed && !failed;
                if is_news {
                    now_failed.push((terminal_id, hour_ms));
                }
                (cohort_id, 0, i64::from(is_news))
            }
        };
        let cell = cells.entry((hour_ms, cohort_id)).or_default();
        cell.exposures += exposures;
        cell.failed_exposures += failed_exposures;
        cell.transactions_ok += hour.ok;
        cell.transactions_failed += hour.failed;
        for (outcome, count) in &hour.outcomes {
            cell.failures += count;
            *cell.outcomes.entry((*outcome).to_owned()).or_default() += count;
        }
    }
    keep(conn, &new, &now_failed)?;
    add(conn, &cohorts, &cells)
}

fn by_hour<'a>(slots: &'a [Slot<'a>]) -> BTreeMap<(i64, i64), Hour<'a>> {
    let mut hours: BTreeMap<(i64, i64), Hour<'a>> = BTreeMap::new();
    for slot in slots {
        let key = (slot.terminal_id, Now(slot.at_ms).hour_ms());
        let hour = hours.entry(key).or_insert_with(|| Hour { slot, ok: 0, failed: 0, outcomes: BTreeMap::new() });
        hour.ok += i64::from(!slot.is_failed);
        hour.failed += i64::from(slot.is_failed);
        if let Some(outcome) = &slot.outcome {
            *hour.outcomes.entry(outcome).or_default() += 1;
        }
    }
    hours
}

/// Cohort of a slot that is counted already, and whether it failed.
type KnownSlots = BTreeMap<(i64, i64), (i64, bool)>;

/// By primary key: the terminals' slots within the hours of the batch.
fn known(conn: &mut Conn, hours: &BTreeMap<(i64, i64), Hour<'_>>) -> Result<KnownSlots, db::Error> {
    let terminals: Vec<i64> =
        hours.keys().map(|(terminal_id, _)| *terminal_id).collect::<BTreeSet<_>>().into_iter().collect();
    let at: Vec<i64> = hours.keys().map(|(_, hour_ms)| *hour_ms).collect::<BTreeSet<_>>().into_iter().collect();
    let rows: Vec<(i64, i64, i64, i64)> = exposure_slots::table
        .filter(exposure_slots::terminal_id.eq_any(terminals))
        .filter(exposure_slots::hour_ms.eq_any(at))
        .select((
            exposure_slots::terminal_id,
            exposure_slots::hour_ms,
            exposure_slots::cohort_id,
            exposure_slots::failed,
        ))
        .load(conn)?;
    Ok(rows.into_iter().map(|(terminal, hour, cohort, failed)| ((terminal, hour), (cohort, failed == 1))).collect())
}

pub(super) fn cohort(slot: &Slot<'_>) -> Cohort {
    Cohort {
        org_path: slot.org_path.to_owned(),
        model: slot.model.to_owned(),
        hardware: slot.hardware.unwrap_or(UNKNOWN).to_owned(),
        firmware: UNKNOWN.to_owned(),
        app: UNKNOWN.to_owned(),
        config_hash: UNKNOWN.to_owned(),
        region: slot.region.to_owned(),
        carrier: UNKNOWN,
        access: UNKNOWN,
        signal: UNKNOWN,
        in_update: UNKNOWN,
    }
}

fn keep(conn: &mut Conn, new: &[(i64, i64, i64, bool)], now_failed: &[(i64, i64)]) -> Result<(), db::Error> {
    let row = |&(terminal_id, hour_ms, cohort_id, failed): &(i64, i64, i64, bool)| {
        (
            exposure_slots::terminal_id.eq(terminal_id),
            exposure_slots::hour_ms.eq(hour_ms),
            exposure_slots::cohort_id.eq(cohort_id),
            exposure_slots::failed.eq(i64::from(failed)),
        )
    };
    for rows in new.chunks(1_000) {
        let rows: Vec<_> = rows.iter().map(row).collect();
        on_backend!(conn, |c| diesel::insert_into(exposure_slots::table).values(rows).execute(c))?;
    }
    for key in now_failed {
        diesel::update(exposure_slots::table.find(*key)).set(exposure_slots::failed.eq(1)).execute(conn)?;
    }
    Ok(())
}

fn add(conn: &mut Conn, cohorts: &BTreeMap<i64, Cohort>, cells: &BTreeMap<(i64, i64), Cell>) -> Result<(), db::Error> {
    let outcomes = cells.iter().flat_map(|(&(hour_ms, cohort_id), cell)| {
        cell.outcomes.iter().map(move |(outcome, &failures)| OutcomeRow { hour_ms, cohort_id, outcome, failures })
    });
    let additions = Additions {
        cohorts: cohorts.iter().map(|(&id, cohort)| CohortRow::new(id, cohort)).collect(),
        cells: cells.iter().map(|(&(hour_ms, id), cell)| CellRow::new(hour_ms, id, cell)).collect(),
        outcomes: outcomes.collect(),
        ..Additions::default()
    };
    match conn {
        Conn::Sqlite(sqlite) => sqlite::add(sqlite, &additions),
        Conn::Postgres(postgres) => postgres::add(postgres, &additions),
    }
}
