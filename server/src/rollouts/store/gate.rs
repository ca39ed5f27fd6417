//! SQL of the gate: cells, counters, judgements, and the parts of a rollout that were stopped alone.

use std::collections::BTreeMap;

use diesel::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::CHUNK;
use crate::db::schema::{
    assignments, gate_cells, gate_counts, gate_judgements, rollout_stops, rollouts, terminal_states,
};
use crate::db::{self, Conn};
use crate::on_backend;
use crate::rollouts::assignment::Phase;
use crate::rollouts::filter::Attributes;
use crate::rollouts::gate::Arm;
use crate::rollouts::judging::Evidence;

/// Combinations of attributes that get a number of their own; later ones share number 0.
const CELLS_MAX: usize = 512;
/// Number of the cell that all share who came too late for an own one.
pub(in crate::rollouts) const POOLED: i64 = 0;

/// One attribute with one value: a part of a rollout that can be looked at and stopped alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::rollouts) struct Stop {
    pub attribute: String,
    pub value: String,
    pub why: String,
    pub stopped_by: String,
    pub stopped_at_ms: i64,
}

impl Stop {
    /// Whether terminals with these attributes belong to it.
    pub(in crate::rollouts) fn stops(&self, attributes: &Attributes) -> bool {
        attributes.value(&self.attribute) == Some(self.value.as_str())
    }
}

impl Attributes {
    /// The names, in the order of their weight for the gate.
    pub(in crate::rollouts) const NAMES: [&'static str; 5] = ["model", "access", "hardware", "carrier", "region"];

    /// The value of an attribute.
    pub(in crate::rollouts) fn value(&self, name: &str) -> Option<&str> {
        match name {
            "model" => Some(&self.model),
            "access" => Some(&self.access),
            "carrier" => Some(&self.carrier),
            "region" => Some(&self.region),
            "hardware" => Some(&self.hardware),
            _ => None,
        }
    }
}

/// The parts of a rollout that were stopped, by primary key.
pub(in crate::rollouts) fn stops(conn: &mut Conn, rollout_id: i64) -> Result<Vec<Stop>, db::Error> {
    let rows = rollout_stops::table
        .filter(rollout_stops::rollout_id.eq(rollout_id))
        .order((rollout_stops::stopped_at_ms, rollout_stops::attribute, rollout_stops::value))
        .select((
            rollout_stops::attribute,
            rollout_stops::value,
            rollout_stops::why,
            rollout_stops::stopped_by,
            rollout_stops::stopped_at_ms,
        ))
        .load::<(String, String, String, String, i64)>(conn)?;
    Ok(rows
        .into_iter()
        .map(|(attribute, value, why, stopped_by, stopped_at_ms)| Stop {
            attribute,
            value,
            why,
            stopped_by,
            stopped_at_ms,
        })
        .collect())
}

/// Stops a part of a rollout; returns whether it was not stopped before.
pub(in crate::rollouts) fn stop(conn: &mut Conn, rollout_id: i64, stop: &Stop) -> Result<bool, db::Error> {
    let values = (
        rollout_stops::rollout_id.eq(rollout_id),
        rollout_stops::attribute.eq(&stop.attribute),
        rollout_stops::value.eq(&stop.value),
        rollout_stops::why.eq(&stop.why),
        rollout_stops::stopped_by.eq(&stop.stopped_by),
        rollout_stops::stopped_at_ms.eq(stop.stopped_at_ms),
    );
    let written = on_backend!(conn, |c| {
        diesel::insert_into(rollout_stops::table).values(values).on_conflict_do_nothing().execute(c)
    })?;
    Ok(written == 1)
}

/// A cell with its counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::rollouts) struct Cell {
    pub cell: i64,
    pub attributes: Attributes,
    /// Not yet updated and heard of lately, as the last look found them.
    pub controls: i64,
}

/// The cells of a rollout, by primary key.
pub(in crate::rollouts) fn cells(conn: &mut Conn, rollout_id: i64) -> Result<Vec<Cell>, db::Error> {
    let rows = gate_cells::table
        .filter(gate_cells::rollout_id.eq(rollout_id))
        .order(gate_cells::cell)
        .select((
            gate_cells::cell,
            gate_cells::model,
            gate_cells::access,
            gate_cells::carrier,
            gate_cells::region,
            gate_cells::hardware,
            gate_cells::controls,
        ))
        .load::<(i64, String, String, String, String, String, i64)>(conn)?;
    Ok(rows
        .into_iter()
        .map(|(cell, model, access, carrier, region, hardware, controls)| Cell {
            cell,
            attributes: Attributes { model, access, carrier, region, hardware },
            controls,
        })
        .collect())
}

/// The number of each of these combinations; new ones get the next numbers while there are any left. Only the planner
/// calls this, one at a time.
pub(in crate::rollouts) fn number_cells(
    conn: &mut Conn,
    rollout_id: i64,
    seen: &[&Attributes],
) -> Result<BTreeMap<Attributes, i64>, db::Error> {
    let mut numbers: BTreeMap<Attributes, i64> =
        cells(conn, rollout_id)?.into_iter().map(|cell| (cell.attributes, cell.cell)).collect();
    for attributes in seen {
        if numbers.contains_key(attributes) || numbers.len() >= CELLS_MAX {
            continue;
        }
        let cell = i64::try_from(numbers.len()).unwrap_or(POOLED) + 1;
        diesel::insert_into(gate_cells::table)
            .values((
                gate_cells::rollout_id.eq(rollout_id),
                gate_cells::cell.eq(cell),
                gate_cells::model.eq(&attributes.model),
                gate_cells::access.eq(&attributes.access),
                gate_cells::carrier.eq(&attributes.carrier),
                gate_cells::region.eq(&attributes.region),
                gate_cells::hardware.eq(&attributes.hardware),
                gate_cells::controls.eq(0),
                gate_cells::controls_seen.eq(0),
            ))
            .execute(conn)?;
        numbers.insert((*attributes).clone(), cell);
    }
    Ok(numbers)
}

/// Adds to the controls that the look under way has seen.
pub(in crate::rollouts) fn see_controls(
    conn: &mut Conn,
    rollout_id: i64,
    seen: &BTreeMap<i64, i64>,
) -> Result<(), db::Error> {
    // Cells that grow by the same go together: a step of the look sees hundreds of cells and few different numbers.
    let mut by_growth: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for (cell, n) in seen {
        by_growth.entry(*n).or_default().push(*cell);
    }
    for (n, cells) in by_growth {
        let rows =
            gate_cells::table.filter(gate_cells::rollout_id.eq(rollout_id)).filter(gate_cells::cell.eq_any(cells));
        diesel::update(rows).set(gate_cells::controls_seen.eq(gate_cells::controls_seen + n)).execute(conn)?;
    }
    Ok(())
}

/// Ends the look under way: what it saw is what is known.
pub(in crate::rollouts) fn settle_controls(conn: &mut Conn, rollout_id: i64) -> Result<(), db::Error> {
    diesel::update(gate_cells::table.filter(gate_cells::rollout_id.eq(rollout_id)))
        .set((gate_cells::controls.eq(gate_cells::controls_seen), gate_cells::controls_seen.eq(0)))
        .execute(conn)?;
    Ok(())
}

/// Counts of one stage and cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Queryable)]
pub(in crate::rollouts) struct Counts {
    pub stage: i64,
    pub cell: i64,
    pub waiting: i64,
    pub started: i64,
    pub failed: i64,
    pub finished: i64,
}

/// The counts of a rollout by stage and cell, by primary key.
pub(in crate::rollouts) fn counts(conn: &mut Conn, rollout_id: i64) -> Result<Vec<Counts>, db::Error> {
    Ok(gate_counts::table
        .filter(gate_counts::rollout_id.eq(rollout_id))
        .order((gate_counts::stage, gate_counts::cell))
        .select((
            gate_counts::stage,
            gate_counts::cell,
            gate_counts::waiting,
            gate_counts::started,
            gate_counts::failed,
            gate_counts::finished,
        ))
        .load(conn)?)
}

/// What a gate reads back must be what it wrote: anything else is an error, and never taken for "no evidence".
pub(in crate::rollouts) fn read<T: DeserializeOwned>(text: &str) -> Result<T, db::Error> {
    serde_json::from_str(text).map_err(|error| diesel::result::Error::DeserializationError(error.into()).into())
}

pub(super) fn json<T: Serialize>(value: &T) -> Result<String, db::Error> {
    serde_json::to_string(value).map_err(|error| diesel::result::Error::SerializationError(error.into()).into())
}

/// When the rollout was judged last, by primary key.
pub(in crate::rollouts) fn judged_at(conn: &mut Conn, rollout_id: i64) -> Result<Option<i64>, db::Error> {
    Ok(gate_judgements::table.find(rollout_id).select(gate_judgements::at_ms).first(conn).optional()?)
}

/// The newest judgement, by primary key.
pub(in crate::rollouts) fn judgement(conn: &mut Conn, rollout_id: i64) -> Result<Option<Evidence>, db::Error> {
    let row = gate_judgements::table.find(rollout_id).select(gate_judgements::evidence);
    row.first::<String>(conn).optional()?.map(|text| read(&text)).transpose()
}

/// The newest verdicts of these rollouts, by primary key.
pub(in crate::rollouts) fn verdicts(conn: &mut Conn, ids: &[i64]) -> Result<BTreeMap<i64, String>, db::Error> {
    let rows = gate_judgements::table
        .filter(gate_judgements::rollout_id.eq_any(ids))
        .select((gate_judgements::rollout_id, gate_judgements::verdict));
    Ok(rows.load::<(i64, String)>(conn)?.into_iter().collect())
}

/// Keeps a judgement in place of the last.
pub(in crate::rollouts) fn keep_judgement(
    conn: &mut Conn,
    rollout_id: i64,
    stage: i64,
    evidence: &Evidence,
) -> Result<(), db::Error> {
    let text = json(evidence)?;
    let values = (
        gate_judgements::at_ms.eq(evidence.at_ms),
        gate_judgements::stage.eq(stage),
        gate_judgements::verdict.eq(&evidence.verdict),
        gate_judgements::evidence.eq(&text),
    );
    on_backend!(conn, |c| {
        diesel::insert_into(gate_judgements::table)
            .values((gate_judgements::rollout_id.eq(rollout_id), values))
            .on_conflict(gate_judgements::rollout_id)
            .do_update()
            .set(values)
            .execute(c)
    })?;
    Ok(())
}

/// Where a failing terminal stands in the rollouts that run or are paused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::rollouts) struct Membership {
    pub rollout_id: i64,
    pub terminal_id: i64,
    pub site: i64,
    pub cell: i64,
    pub arm: Arm,
    pub updated_at_ms: Option<i64>,
    pub started_at_ms: i64,
}

/// In which rollouts these terminals are updated since `since_ms`, or waiting as controls; by the index
/// `assignments_by_terminal`. Those that a stage named by hand are no evidence.
pub(in crate::rollouts) fn memberships(
    conn: &mut Conn,
    terminal_ids: &[i64],
    since_ms: i64,
) -> Result<Vec<Membership>, db::Error> {
    let mut found = Vec::new();
    for ids in terminal_ids.chunks(CHUNK) {
        let rows = assignments::table
            .inner_join(rollouts::table.on(rollouts::id.eq(assignments::rollout_id)))
            .filter(assignments::terminal_id.eq_any(ids))
            .filter(assignments::hand_picked.eq(0))
            .filter(rollouts::state.eq_any(["running", "paused"]))
            .filter(
                assignments::phase
                    .eq("waiting")
                    .and(assignments::started_at_ms.is_null())
                    .or(assignments::phase.eq("succeeded").and(assignments::finished_at_ms.ge(since_ms))),
            )
            .select((
                assignments::rollout_id,
                assignments::terminal_id,
                assignments::site,
                assignments::cell,
                assignments::phase,
                assignments::finished_at_ms,
                rollouts::started_at_ms,
            ))
            .load::<(i64, i64, i64, i64, String, Option<i64>, Option<i64>)>(conn)?;
        found.extend(rows.into_iter().filter_map(membership));
    }
    Ok(found)
}

fn membership(row: (i64, i64, i64, i64, String, Option<i64>, Option<i64>)) -> Option<Membership> {
    let (rollout_id, terminal_id, site, cell, phase, finished_at_ms, started_at_ms) = row;
    let is_control = phase == "waiting";
    Some(Membership {
        rollout_id,
        terminal_id,
        site,
        cell,
        arm: if is_control { Arm::Control } else { Arm::Treated },
        updated_at_ms: if is_control { None } else { finished_at_ms },
        started_at_ms: started_at_ms?,
    })
}

/// A terminal of a rollout with when it called last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::rollouts) struct Heard {
    pub assignment_id: i64,
    pub terminal_id: i64,
    pub site: i64,
    pub cell: i64,
    pub hand_picked: i64,
    pub started_at_ms: Option<i64>,
    pub finished_at_ms: Option<i64>,
    pub phase_since_ms: i64,
    pub last_seen_ms: i64,
    pub interval_s: i64,
}

/// One step of a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::rollouts) struct Looked {
    /// Those that have called at all.
    pub heard: Vec<Heard>,
    /// The last assignment that was looked at.
    pub last: Option<i64>,
    /// Whether none is left.
    pub is_over: bool,
}

/// The next of a rollout's terminals in `phase` after the assignment `after`, with when they called last; by the index
/// `assignments_by_phase`. Terminals that never called are among them, so that no step reads more rows than it returns.
pub(in crate::rollouts) fn heard(
    conn: &mut Conn,
    rollout_id: i64,
    phase: Phase,
    after: i64,
    limit: usize,
) -> Result<Looked, db::Error> {
    type Columns = ((i64, i64, i64, i64, i64), (Option<i64>, Option<i64>, i64), Option<(i64, i64)>);
    let rows: Vec<Columns> = assignments::table
        .left_join(terminal_states::table.on(terminal_states::terminal_id.eq(assignments::terminal_id)))
        .filter(assignments::rollout_id.eq(rollout_id))
        .filter(assignments::phase.eq(phase.as_str()))
        .filter(assignments::id.gt(after))
        .order(assignments::id)
        .limit(i64::try_from(limit).unwrap_or(i64::MAX))
        .select((
            (assignments::id, assignments::terminal_id, assignments::site, assignments::cell, assignments::hand_picked),
            (assignments::started_at_ms, assignments::finished_at_ms, assignments::phase_since_ms),
            (terminal_states::last_seen_ms, terminal_states::interval_s).nullable(),
        ))
        .load(conn)?;
    let (last, is_over) = (rows.last().map(|row| row.0.0), rows.len() < limit);
    let heard = rows.into_iter().filter_map(|(of, times, called)| {
        let (assignment_id, terminal_id, site, cell, hand_picked) = of;
        let (started_at_ms, finished_at_ms, phase_since_ms) = times;
        let (last_seen_ms, interval_s) = called?;
        Some(Heard {
            assignment_id,
            terminal_id,
            site,
            cell,
            hand_picked,
            started_at_ms,
            finished_at_ms,
            phase_since_ms,
            last_seen_ms,
            interval_s,
        })
    });
    Ok(Looked { heard: heard.collect(), last, is_over })
}
