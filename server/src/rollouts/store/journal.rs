//! SQL of the gate's journal: its lines, what was folded of them, and what decides about later ones.

use std::collections::HashMap;

use diesel::prelude::*;
use diesel::upsert::excluded;

use super::CHUNK;
use super::gate::json;
use crate::db::schema::{gate_events, gate_failed, gate_folds, gate_losses, gate_sites, rollouts};
use crate::db::{self, Conn};
use crate::on_backend;
use crate::rollouts::gate::{Arm, Class, Fate};
use crate::rollouts::judging::Risks;

/// A failure that may be evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::rollouts) struct NewEvent {
    pub rollout_id: i64,
    pub terminal_id: i64,
    pub event: String,
    pub at_ms: i64,
    pub site: i64,
    pub cell: i64,
    pub arm: Arm,
    pub updated_at_ms: Option<i64>,
    pub class: Class,
}

/// Writes failures into the journals; what stands there already stays.
pub(in crate::rollouts) fn note(conn: &mut Conn, events: &[NewEvent]) -> Result<(), db::Error> {
    for event in events {
        let values = (
            gate_events::rollout_id.eq(event.rollout_id),
            gate_events::terminal_id.eq(event.terminal_id),
            gate_events::event.eq(&event.event),
            gate_events::at_ms.eq(event.at_ms),
            gate_events::site.eq(event.site),
            gate_events::cell.eq(event.cell),
            gate_events::arm.eq(event.arm.as_str()),
            gate_events::updated_at_ms.eq(event.updated_at_ms),
            gate_events::class.eq(event.class.as_str()),
        );
        on_backend!(conn, |c| {
            diesel::insert_into(gate_events::table).values(values).on_conflict_do_nothing().execute(c)
        })?;
    }
    Ok(())
}

/// One line of a journal.
#[derive(Debug, Clone, PartialEq, Eq, Queryable)]
pub(in crate::rollouts) struct Line {
    pub terminal_id: i64,
    pub event: String,
    pub at_ms: i64,
    pub site: i64,
    pub cell: i64,
    pub arm: String,
    pub updated_at_ms: Option<i64>,
    pub class: String,
    pub judged: Option<i64>,
    pub verdict: Option<String>,
    pub at_risk: Option<String>,
}

macro_rules! lines {
    ($rollout_id:expr) => {
        gate_events::table.filter(gate_events::rollout_id.eq($rollout_id)).select((
            gate_events::terminal_id,
            gate_events::event,
            gate_events::at_ms,
            gate_events::site,
            gate_events::cell,
            gate_events::arm,
            gate_events::updated_at_ms,
            gate_events::class,
            gate_events::judged,
            gate_events::verdict,
            gate_events::at_risk,
        ))
    };
}

/// Lines that are judged, after the number `after`, in the order of judging, by the index `gate_events_judged`.
pub(in crate::rollouts) fn judged(
    conn: &mut Conn,
    rollout_id: i64,
    after: i64,
    limit: i64,
) -> Result<Vec<Line>, db::Error> {
    let lines = lines!(rollout_id).filter(gate_events::judged.is_not_null()).filter(gate_events::judged.gt(after));
    Ok(lines.order(gate_events::judged).limit(limit).load(conn)?)
}

/// Number of the last judged line; 0 while there is none. By the index `gate_events_judged`.
pub(in crate::rollouts) fn judged_up_to(conn: &mut Conn, rollout_id: i64) -> Result<i64, db::Error> {
    let last: Option<Option<i64>> = gate_events::table
        .filter(gate_events::rollout_id.eq(rollout_id))
        .filter(gate_events::judged.is_not_null())
        .order(gate_events::judged.desc())
        .select(gate_events::judged)
        .first(conn)
        .optional()?;
    Ok(last.flatten().unwrap_or(0))
}

/// Lines still to be judged, oldest first, by the index `gate_events_new`.
pub(in crate::rollouts) fn unjudged(conn: &mut Conn, rollout_id: i64, limit: i64) -> Result<Vec<Line>, db::Error> {
    let lines = lines!(rollout_id).filter(gate_events::judged.is_null());
    Ok(lines.order((gate_events::at_ms, gate_events::event)).limit(limit).load(conn)?)
}

/// Writes what became of a line; returns who was at risk, as it is written.
pub(in crate::rollouts) fn settle(
    conn: &mut Conn,
    rollout_id: i64,
    line: &Line,
    judged: i64,
    fate: Fate,
    at_risk: Option<&Risks>,
) -> Result<Option<String>, db::Error> {
    let at_risk = at_risk.map(json).transpose()?;
    diesel::update(gate_events::table.find((rollout_id, line.terminal_id, &line.event)))
        .set((
            gate_events::judged.eq(judged),
            gate_events::verdict.eq(fate.as_str()),
            gate_events::at_risk.eq(&at_risk),
        ))
        .execute(conn)?;
    Ok(at_risk)
}

/// The folded evidence of a journal, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Queryable)]
pub(in crate::rollouts) struct Saved {
    pub version: i64,
    /// The last line in it.
    pub up_to: i64,
    /// The last line before it: what a person answered for.
    pub since: i64,
    /// The last line that was cleared away.
    pub cleared_up_to: i64,
    pub state: String,
}

/// By primary key.
pub(in crate::rollouts) fn saved(conn: &mut Conn, rollout_id: i64) -> Result<Option<Saved>, db::Error> {
    let row = gate_folds::table.find(rollout_id).select((
        gate_folds::version,
        gate_folds::up_to,
        gate_folds::since,
        gate_folds::cleared_up_to,
        gate_folds::state,
    ));
    Ok(row.first(conn).optional()?)
}

/// Keeps `next` in place of `before`; returns whether nobody was faster.
pub(in crate::rollouts) fn keep(
    conn: &mut Conn,
    rollout_id: i64,
    before: Option<&Saved>,
    next: &Saved,
) -> Result<bool, db::Error> {
    let values = (
        gate_folds::version.eq(next.version),
        gate_folds::up_to.eq(next.up_to),
        gate_folds::since.eq(next.since),
        gate_folds::cleared_up_to.eq(next.cleared_up_to),
        gate_folds::state.eq(&next.state),
    );
    let written = match before {
        Some(before) => diesel::update(
            gate_folds::table
                .find(rollout_id)
                .filter(gate_folds::version.eq(before.version))
                .filter(gate_folds::up_to.eq(before.up_to))
                .filter(gate_folds::since.eq(before.since))
                .filter(gate_folds::cleared_up_to.eq(before.cleared_up_to)),
        )
        .set(values)
        .execute(conn)?,
        None => on_backend!(conn, |c| {
            diesel::insert_into(gate_folds::table)
                .values((gate_folds::rollout_id.eq(rollout_id), values))
                .on_conflict_do_nothing()
                .execute(c)
        })?,
    };
    Ok(written == 1)
}

/// Clears away the lines after `after`, up to `up_to`, by the index `gate_events_judged`.
pub(in crate::rollouts) fn clear_lines(
    conn: &mut Conn,
    rollout_id: i64,
    after: i64,
    up_to: i64,
) -> Result<(), db::Error> {
    let lines = gate_events::table.filter(gate_events::rollout_id.eq(rollout_id));
    let lines = lines.filter(gate_events::judged.is_not_null());
    diesel::delete(lines.filter(gate_events::judged.gt(after)).filter(gate_events::judged.le(up_to))).execute(conn)?;
    Ok(())
}

/// When something was noted last, and by which line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::rollouts) struct Noted {
    pub at_ms: i64,
    pub judged: i64,
}

/// What is known of these terminals or sites, by class.
pub(in crate::rollouts) type Memory = HashMap<(i64, String), Noted>;

/// When these terminals left the risk set last, by class, by primary key.
pub(in crate::rollouts) fn failed(conn: &mut Conn, rollout_id: i64, terminal_ids: &[i64]) -> Result<Memory, db::Error> {
    let mut known = Memory::new();
    for ids in terminal_ids.chunks(CHUNK) {
        let rows = gate_failed::table
            .filter(gate_failed::rollout_id.eq(rollout_id))
            .filter(gate_failed::terminal_id.eq_any(ids))
            .select((gate_failed::terminal_id, gate_failed::class, gate_failed::at_ms, gate_failed::judged))
            .load::<(i64, String, i64, i64)>(conn)?;
        known.extend(rows.into_iter().map(|(id, class, at_ms, judged)| ((id, class), Noted { at_ms, judged })));
    }
    Ok(known)
}

/// When a failure at these sites was counted last, by class, by primary key.
pub(in crate::rollouts) fn sites(conn: &mut Conn, rollout_id: i64, sites: &[i64]) -> Result<Memory, db::Error> {
    let mut known = Memory::new();
    for ids in sites.chunks(CHUNK) {
        let rows = gate_sites::table
            .filter(gate_sites::rollout_id.eq(rollout_id))
            .filter(gate_sites::site.eq_any(ids))
            .select((gate_sites::site, gate_sites::class, gate_sites::at_ms, gate_sites::judged))
            .load::<(i64, String, i64, i64)>(conn)?;
        known.extend(rows.into_iter().map(|(site, class, at_ms, judged)| ((site, class), Noted { at_ms, judged })));
    }
    Ok(known)
}

/// Which silence of these terminals stands in the journal already, by primary key.
pub(in crate::rollouts) fn silences(
    conn: &mut Conn,
    rollout_id: i64,
    terminal_ids: &[i64],
) -> Result<HashMap<i64, i64>, db::Error> {
    let known = failed(conn, rollout_id, terminal_ids)?;
    let silent = known.into_iter().filter(|((_, class), _)| class == SILENT);
    Ok(silent.map(|((terminal_id, _), noted)| (terminal_id, noted.at_ms)).collect())
}

/// The class under which silences are remembered.
pub(in crate::rollouts) const SILENT: &str = "silent";
/// How the events of silent terminals begin.
pub(in crate::rollouts) const SILENT_EVENT: &str = "silent:";

/// Remembers what is newly known of terminals and of sites, each in the order of its keys.
pub(in crate::rollouts) fn remember(
    conn: &mut Conn,
    rollout_id: i64,
    terminals: &[((i64, String), Noted)],
    sites: &[((i64, String), Noted)],
) -> Result<(), db::Error> {
    for ((terminal_id, class), noted) in terminals {
        let values = (
            gate_failed::rollout_id.eq(rollout_id),
            gate_failed::terminal_id.eq(terminal_id),
            gate_failed::class.eq(class),
            gate_failed::at_ms.eq(noted.at_ms),
            gate_failed::judged.eq(noted.judged),
        );
        on_backend!(conn, |c| {
            diesel::insert_into(gate_failed::table)
                .values(values)
                .on_conflict((gate_failed::rollout_id, gate_failed::terminal_id, gate_failed::class))
                .do_update()
                .set((
                    gate_failed::at_ms.eq(excluded(gate_failed::at_ms)),
                    gate_failed::judged.eq(excluded(gate_failed::judged)),
                ))
                .execute(c)
        })?;
    }
    for ((site, class), noted) in sites {
        let values = (
            gate_sites::rollout_id.eq(rollout_id),
            gate_sites::site.eq(site),
            gate_sites::class.eq(class),
            gate_sites::at_ms.eq(noted.at_ms),
            gate_sites::judged.eq(noted.judged),
        );
        on_backend!(conn, |c| {
            diesel::insert_into(gate_sites::table)
                .values(values)
                .on_conflict((gate_sites::rollout_id, gate_sites::site, gate_sites::class))
                .do_update()
                .set((
                    gate_sites::at_ms.eq(excluded(gate_sites::at_ms)),
                    gate_sites::judged.eq(excluded(gate_sites::judged)),
                ))
                .execute(c)
        })?;
    }
    Ok(())
}

/// A rollout that ended before `before_ms` and whose journal still stands, by primary key of the few that have one.
pub(in crate::rollouts) fn ended(conn: &mut Conn, before_ms: i64) -> Result<Option<i64>, db::Error> {
    Ok(gate_folds::table
        .inner_join(rollouts::table.on(rollouts::id.eq(gate_folds::rollout_id)))
        .filter(rollouts::finished_at_ms.lt(before_ms))
        .order(gate_folds::rollout_id)
        .select(gate_folds::rollout_id)
        .first(conn)
        .optional()?)
}

/// Clears away the next of an ended rollout's journal and of what was remembered of it, a chunk of each, all by primary
/// key; its last judgement stays. The fold goes last, and with it the rollout from [`ended`].
pub(in crate::rollouts) fn clear(conn: &mut Conn, rollout_id: i64) -> Result<(), db::Error> {
    let limit = i64::try_from(CHUNK).unwrap_or(i64::MAX);
    /// Deletes the rows of a rollout up to the key of the `limit`-th; returns whether there were any.
    macro_rules! clear {
        ($table:ident, $key:ident) => {{
            let is_of = $table::rollout_id.eq(rollout_id);
            let keys: Vec<i64> =
                $table::table.filter(is_of).order($table::$key).limit(limit).select($table::$key).load(conn)?;
            if let Some(last) = keys.last() {
                diesel::delete($table::table.filter(is_of).filter($table::$key.le(last))).execute(conn)?;
            }
            !keys.is_empty()
        }};
    }
    let is_left = clear!(gate_events, terminal_id)
        || clear!(gate_failed, terminal_id)
        || clear!(gate_sites, site)
        || clear!(gate_losses, minute_ms);
    if !is_left {
        diesel::delete(gate_folds::table.find(rollout_id)).execute(conn)?;
    }
    Ok(())
}
