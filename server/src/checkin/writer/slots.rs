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
    let mut known = known(conn, &hours)?;
    let mut cohorts: BTreeMap<i64, Cohort> = BTreeMap::new();
    let mut cells: BTreeMap<(i64, i64), Cell> = BTreeMap::new();
    let mut new = Vec::new();
    for (&key, hour) in hours.iter().filter(|(key, _)| !known.contains_key(*key)) {
        let cohort = cohort(hour.slot);
        let id = cohort.id();
        cohorts.entry(id).or_insert(cohort);
        new.push((key, id, hour.failed > 0));
    }
    let kept = keep(conn, &new)?;
    if kept.len() < new.len() {
        // Another server told of the rest at the same moment, and its transaction is through by now.
        known.extend(self::known(conn, &hours)?);
    }
    let own: BTreeMap<(i64, i64), i64> = new.iter().map(|(key, id, _)| (*key, *id)).collect();
    for (&(terminal_id, hour_ms), hour) in &hours {
        let key = (terminal_id, hour_ms);
        let is_new = kept.contains(&key);
        let has_failed = hour.failed > 0;
        let told = known.get(&key).filter(|_| !is_new);
        let is_news = match told {
            Some((_, failed)) => has_failed && !failed && now_failed(conn, key)?,
            None => is_new && has_failed,
        };
        let Some(cohort_id) = told.map(|(cohort_id, _)| *cohort_id).or_else(|| own.get(&key).copied()) else {
            continue;
        };
        let (exposures, failed_exposures) = (i64::from(is_new), i64::from(is_news));
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

/// Keeps new slots, in the order of their keys, and returns those that no other server was faster with.
fn keep(conn: &mut Conn, new: &[((i64, i64), i64, bool)]) -> Result<BTreeSet<(i64, i64)>, db::Error> {
    let row = |&((terminal_id, hour_ms), cohort_id, failed): &((i64, i64), i64, bool)| {
        (
            exposure_slots::terminal_id.eq(terminal_id),
            exposure_slots::hour_ms.eq(hour_ms),
            exposure_slots::cohort_id.eq(cohort_id),
            exposure_slots::failed.eq(i64::from(failed)),
        )
    };
    let mut kept = BTreeSet::new();
    for chunk in new.chunks(1_000) {
        let rows: Vec<_> = chunk.iter().map(row).collect();
        match conn {
            // One writer at a time: what was not there a moment ago is not there now.
            Conn::Sqlite(c) => {
                diesel::insert_into(exposure_slots::table).values(rows).execute(c)?;
                kept.extend(chunk.iter().map(|(key, _, _)| *key));
            }
            Conn::Postgres(c) => {
                let inserted: Vec<(i64, i64)> = diesel::insert_into(exposure_slots::table)
                    .values(rows)
                    .on_conflict_do_nothing()
                    .returning((exposure_slots::terminal_id, exposure_slots::hour_ms))
                    .get_results(c)?;
                kept.extend(inserted);
            }
        }
    }
    Ok(kept)
}

/// Says of a slot that it failed; `false` when that was said before, by whomever.
fn now_failed(conn: &mut Conn, key: (i64, i64)) -> Result<bool, db::Error> {
    let slot = exposure_slots::table.find(key).filter(exposure_slots::failed.eq(0));
    Ok(diesel::update(slot).set(exposure_slots::failed.eq(1)).execute(conn)? == 1)
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
