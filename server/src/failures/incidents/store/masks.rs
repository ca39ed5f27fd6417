//! SQL of incidents that mask others.

use std::collections::HashMap;

use diesel::dsl::count_star;
use diesel::prelude::*;
use serde::Deserialize;
use tillward_protocol::condition::Condition as Network;

use super::super::mask;
use super::super::{Kind, Level, NewIncident, State};
use super::{Stored, hold};
use crate::db::schema::{incidents, sim_cards, terminal_states, terminals};
use crate::db::{self, Conn};

/// Incidents of one kind that are looked at as parents: the newest.
const PARENTS_MAX: i64 = 20;
/// Incidents released at once when what masked them is over; the rest follow when they are seen again.
const CHILDREN_MAX: i64 = 200;

/// An incident that may explain another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Parent {
    pub id: i64,
    pub kind: Kind,
    pub level: Level,
    pub key: String,
}

/// Incidents under way of these kinds whose organization contains `org_path`, in the order of the kinds, the newest first.
/// By `incidents_by_state`.
pub(in super::super) fn parents(conn: &mut Conn, kinds: &[Kind], org_path: &str) -> Result<Vec<Parent>, db::Error> {
    let lineage: Vec<&str> = org_path.match_indices('/').filter_map(|(at, _)| org_path.get(..=at)).collect();
    let masking = State::ALL.into_iter().filter(|state| mask::is_masking(*state)).map(State::as_str);
    let rows = incidents::table
        .filter(incidents::state.eq_any(masking.collect::<Vec<_>>()))
        .filter(incidents::org_path.eq_any(lineage))
        .filter(incidents::kind.eq_any(kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>()))
        .order(incidents::id.desc())
        .limit(PARENTS_MAX)
        .select((incidents::id, incidents::kind, incidents::level, incidents::dedup_key))
        .load::<(i64, String, String, String)>(conn)?;
    let parent = |(id, kind, level, key): (i64, String, String, String)| {
        Some(Parent { id, kind: Kind::parse(&kind)?, level: Level::parse(&level)?, key })
    };
    let mut found: Vec<Parent> = rows.into_iter().filter_map(parent).collect();
    found.sort_by_key(|parent| kinds.iter().position(|kind| *kind == parent.kind));
    Ok(found)
}

/// The level of the unresolved incident about the same thing. By `incidents_by_key`.
pub(in super::super) fn level_so_far(conn: &mut Conn, new: &NewIncident) -> Result<Option<Level>, db::Error> {
    let level: Option<String> = incidents::table
        .filter(incidents::org_path.eq(&new.org_path))
        .filter(incidents::kind.eq(new.kind.as_str()))
        .filter(incidents::dedup_key.eq(&new.key))
        .filter(incidents::state.ne(State::Resolved.as_str()))
        .order(incidents::id.desc())
        .select(incidents::level)
        .first(conn)
        .optional()?;
    Ok(level.and_then(|level| Level::parse(&level)))
}

/// The part of a report that says where a terminal is.
#[derive(Deserialize)]
struct Report {
    #[serde(default)]
    condition: Network,
}

/// How many of these terminals are in the place: in the region of the registry, on the cards of the pool, or by their
/// latest report at the operator, area, cell or access point. By primary key.
pub(in super::super) fn count_in_place(
    conn: &mut Conn,
    field: &str,
    value: &str,
    terminal_ids: &[i64],
) -> Result<usize, db::Error> {
    let rows = terminals::table
        .inner_join(terminal_states::table.on(terminal_states::terminal_id.eq(terminals::id)))
        .left_join(sim_cards::table.on(sim_cards::iccid.nullable().eq(terminals::iccid)))
        .filter(terminals::id.eq_any(terminal_ids.to_vec()))
        .select((terminals::region, terminals::iccid, sim_cards::pool.nullable(), terminal_states::report))
        .load::<(String, Option<String>, Option<String>, String)>(conn)?;
    let is_in = |(region, iccid, pool, report): &(String, Option<String>, Option<String>, String)| match field {
        "region" => region == value,
        "pool" => pool.as_deref() == Some(value) || (pool.is_none() && is_of_batch(iccid.as_deref(), value)),
        _ => serde_json::from_str::<Report>(report).is_ok_and(|report| is_at(&report.condition, field, value)),
    };
    Ok(rows.iter().filter(|row| is_in(row)).count())
}

fn is_of_batch(iccid: Option<&str>, pool: &str) -> bool {
    iccid.is_some_and(|iccid| iccid.starts_with(pool))
}

fn is_at(network: &Network, field: &str, value: &str) -> bool {
    let with_operator = |number: Option<u64>| Some(format!("{}-{}", network.plmn.as_deref()?, number?));
    let place = match field {
        "plmn" => network.plmn.clone(),
        "tac" => with_operator(network.tac.map(u64::from)),
        "cell" => with_operator(network.cell_id),
        "bssid_hash" => network.bssid_hash.clone(),
        _ => None,
    };
    place.as_deref() == Some(value)
}

/// How many incidents that are not over are folded under each of these. By `incidents_by_parent`.
pub(in super::super) fn count_folded(conn: &mut Conn, ids: &[i64]) -> Result<HashMap<i64, i64>, db::Error> {
    let rows: Vec<(Option<i64>, i64)> = incidents::table
        .filter(incidents::parent_id.eq_any(ids.to_vec()))
        .filter(incidents::masked_since_ms.is_not_null())
        .group_by(incidents::parent_id)
        .select((incidents::parent_id, count_star()))
        .load(conn)?;
    Ok(rows.into_iter().filter_map(|(id, n)| Some((id?, n))).collect())
}

/// What is folded under an incident, each locked until the transaction ends, by number. By `incidents_by_parent`.
pub(in super::super) fn hold_children(conn: &mut Conn, parent_id: i64) -> Result<Vec<Stored>, db::Error> {
    let ids: Vec<i64> = incidents::table
        .filter(incidents::parent_id.eq(parent_id))
        .filter(incidents::masked_since_ms.is_not_null())
        .filter(incidents::state.ne(State::Resolved.as_str()))
        .order(incidents::id)
        .limit(CHILDREN_MAX)
        .select(incidents::id)
        .load(conn)?;
    let mut held = Vec::with_capacity(ids.len());
    for id in ids {
        held.extend(hold(conn, id)?);
    }
    Ok(held)
}
