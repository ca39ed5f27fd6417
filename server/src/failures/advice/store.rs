//! SQL of network advice.

use diesel::prelude::*;

use super::judge::Peer;
use super::measure::{Link, Sample, Tally, Unreached};
use super::{Body, StoreId, StoreKey, StoreNetwork};
use crate::clock::Now;
use crate::db::schema::{condition_samples, failures, fleet_passes, store_networks, terminal_networks, terminals};
use crate::db::{self, Conn};
use crate::on_backend;
use crate::operators::Scope;

/// Name of the round among the passes.
const ROUND: &str = "networks";
/// Samples of one terminal: a month of one each five minutes.
const SAMPLES_MAX: i64 = 8_640;
/// Failures of one terminal's month.
const FAILURES_MAX: i64 = 5_000;
/// Terminals of one store.
const STORE_TERMINALS_MAX: i64 = 200;
/// Ways to be connected that are told apart in one region.
const PEERS_MAX: usize = 100;
/// Terminals of a region that stand for all that are connected in their way: of more a rate is no surer.
const PEER_TERMINALS_MAX: i64 = 10_000;
/// Old rows deleted in one transaction.
const DELETED_MAX: i64 = 500;
/// Stages at which a payment did not get through.
const UNREACHED: [&str; 5] = ["dns", "tcp", "tls", "send", "wait"];

/// Where the round goes on: after which terminal; `None` when it was done and the next one is not due.
pub(super) fn begin(conn: &mut Conn, now: Now, every_ms: i64) -> Result<Option<i64>, db::Error> {
    let row = fleet_passes::table.find(ROUND);
    let found: Option<(i64, i64)> = row.select((fleet_passes::at_ms, fleet_passes::reached)).first(conn).optional()?;
    match found {
        None => Ok(None),
        Some((_, reached)) if reached > 0 => Ok(Some(reached)),
        Some((at_ms, _)) if (now.0 - every_ms..=now.0).contains(&at_ms) => Ok(None),
        Some(_) => {
            diesel::update(row).set(fleet_passes::at_ms.eq(now.0)).execute(conn)?;
            Ok(Some(0))
        }
    }
}

/// The round got to this terminal.
pub(super) fn reach(conn: &mut Conn, terminal_id: i64) -> Result<(), db::Error> {
    diesel::update(fleet_passes::table.find(ROUND)).set(fleet_passes::reached.eq(terminal_id)).execute(conn)?;
    Ok(())
}

/// Deletes the links of terminals above `after` and up to `last` that the pass at `now` did not write: they are in use no
/// more. By primary key.
pub(super) fn delete_passed_over(conn: &mut Conn, after: i64, last: i64, now: Now) -> Result<(), db::Error> {
    let passed_over = terminal_networks::table
        .filter(terminal_networks::terminal_id.gt(after))
        .filter(terminal_networks::terminal_id.le(last))
        .filter(terminal_networks::computed_at_ms.ne(now.0));
    diesel::delete(passed_over).execute(conn)?;
    Ok(())
}

/// Deletes links of terminals above the last one of the round, some of them; returns how many went. By primary key.
pub(super) fn delete_above(conn: &mut Conn, last: i64) -> Result<usize, db::Error> {
    let above: Vec<i64> = terminal_networks::table
        .filter(terminal_networks::terminal_id.gt(last))
        .order(terminal_networks::terminal_id)
        .limit(DELETED_MAX)
        .select(terminal_networks::terminal_id)
        .load(conn)?;
    Ok(diesel::delete(terminal_networks::table.filter(terminal_networks::terminal_id.eq_any(above))).execute(conn)?)
}

/// Deletes stores that were not judged since the round began, some of them; returns how many went. By
/// `store_networks_by_age`.
pub(super) fn delete_stores(conn: &mut Conn) -> Result<usize, db::Error> {
    let began_ms: i64 = fleet_passes::table.find(ROUND).select(fleet_passes::at_ms).first(conn)?;
    let old: Vec<i64> = store_networks::table
        .filter(store_networks::computed_at_ms.lt(began_ms))
        .order(store_networks::computed_at_ms)
        .limit(DELETED_MAX)
        .select(store_networks::id)
        .load(conn)?;
    Ok(diesel::delete(store_networks::table.filter(store_networks::id.eq_any(old))).execute(conn)?)
}

/// A terminal on the round.
#[derive(Debug, Clone)]
pub(super) struct Visited {
    pub id: i64,
    pub region: String,
    pub store: StoreId,
}

/// Terminals in use with numbers above `after`. By primary key.
pub(super) fn terminals(conn: &mut Conn, after: i64, limit: i64) -> Result<Vec<Visited>, db::Error> {
    let rows = terminals::table
        .filter(terminals::id.gt(after))
        .filter(terminals::lifecycle.eq_any(["bound", "active"]))
        .order(terminals::id)
        .limit(limit)
        .select((terminals::id, terminals::region, terminals::org_path, terminals::merchant_no, terminals::store_name))
        .load::<(i64, String, String, Option<String>, Option<String>)>(conn)?;
    let visited = |(id, region, org_path, merchant_no, store_name)| Visited {
        id,
        region,
        store: StoreId { org_path, merchant_no, store_name },
    };
    Ok(rows.into_iter().map(visited).collect())
}

/// A terminal's conditions since `from_ms`, by primary key.
pub(super) fn samples(conn: &mut Conn, terminal_id: i64, from_ms: i64) -> Result<Vec<Sample>, db::Error> {
    type Columns = (i64, String, String, (Option<i64>, Option<i64>, Option<i64>, Option<i64>), i64);
    let rows = condition_samples::table
        .filter(condition_samples::terminal_id.eq(terminal_id))
        .filter(condition_samples::at_ms.ge(from_ms))
        .order(condition_samples::at_ms.desc())
        .limit(SAMPLES_MAX)
        .select((
            condition_samples::at_ms,
            condition_samples::access,
            condition_samples::carrier,
            (
                condition_samples::rsrp_dbm,
                condition_samples::sinr_db,
                condition_samples::rssi_dbm,
                condition_samples::loss_percent,
            ),
            condition_samples::transactions_ok + condition_samples::transactions_failed,
        ))
        .load::<Columns>(conn)?;
    let sample = |(at_ms, access, carrier, measured, attempts): Columns| {
        let (rsrp_dbm, sinr_db, rssi_dbm, loss_percent) = measured;
        let attempts = u64::try_from(attempts).unwrap_or(0);
        Sample { at_ms, access, carrier, rsrp_dbm, sinr_db, rssi_dbm, loss_percent, attempts }
    };
    Ok(rows.into_iter().map(sample).collect())
}

/// A terminal's payments since `from_ms` that did not get through, by `failures_by_terminal`.
pub(super) fn unreached(conn: &mut Conn, terminal_id: i64, from_ms: i64) -> Result<Vec<Unreached>, db::Error> {
    let rows = failures::table
        .filter(failures::terminal_id.eq(terminal_id))
        .filter(failures::received_at_ms.ge(from_ms))
        .filter(failures::response_code.is_null())
        .filter(failures::stage.eq_any(UNREACHED))
        .order(failures::received_at_ms.desc())
        .limit(FAILURES_MAX)
        .select((failures::received_at_ms, failures::stage));
    let rows: Vec<(i64, String)> = rows.load(conn)?;
    Ok(rows.into_iter().map(|(received_at_ms, stage)| Unreached { received_at_ms, stage }).collect())
}

/// Writes a terminal's links in place of those before.
pub(super) fn replace_links(
    conn: &mut Conn,
    terminal_id: i64,
    region: &str,
    links: &[Link],
    now: Now,
) -> Result<(), db::Error> {
    let own = terminal_networks::table.filter(terminal_networks::terminal_id.eq(terminal_id));
    diesel::delete(own).execute(conn)?;
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    for link in links {
        diesel::insert_into(terminal_networks::table)
            .values((
                terminal_networks::terminal_id.eq(terminal_id),
                terminal_networks::access.eq(&link.access),
                terminal_networks::carrier.eq(&link.carrier),
                terminal_networks::region.eq(region),
                terminal_networks::attempts_strong.eq(count(link.strong.attempts)),
                terminal_networks::failed_strong.eq(count(link.strong.failed)),
                terminal_networks::attempts_weak.eq(count(link.weak.attempts)),
                terminal_networks::failed_weak.eq(count(link.weak.failed)),
                terminal_networks::attempts_other.eq(count(link.other.attempts)),
                terminal_networks::failed_other.eq(count(link.other.failed)),
                terminal_networks::measured.eq(serde_json::to_string(link).unwrap_or_default()),
                terminal_networks::computed_at_ms.eq(now.0),
            ))
            .execute(conn)?;
    }
    Ok(())
}

/// How many terminals of a store are measured, its merchant's name, and their links. By `terminals_by_merchant_no` or
/// `terminals_by_store_name`.
pub(super) fn links_of_store(conn: &mut Conn, id: &StoreId) -> Result<(i64, Option<String>, Vec<Link>), db::Error> {
    let mut query = terminals::table.filter(terminals::org_path.eq(&id.org_path)).into_boxed();
    query = match &id.merchant_no {
        Some(merchant_no) => query.filter(terminals::merchant_no.eq(merchant_no)),
        None => query.filter(terminals::merchant_no.is_null()),
    };
    query = match &id.store_name {
        Some(store_name) => query.filter(terminals::store_name.eq(store_name)),
        None => query.filter(terminals::store_name.is_null()),
    };
    let own: Vec<(i64, Option<String>)> = query
        .order(terminals::id)
        .limit(STORE_TERMINALS_MAX)
        .select((terminals::id, terminals::merchant_name))
        .load(conn)?;
    let ids: Vec<i64> = own.iter().map(|(id, _)| *id).collect();
    let rows: Vec<(i64, String)> = terminal_networks::table
        .filter(terminal_networks::terminal_id.eq_any(ids))
        .order((terminal_networks::terminal_id, terminal_networks::access, terminal_networks::carrier))
        .select((terminal_networks::terminal_id, terminal_networks::measured))
        .load(conn)?;
    let measured: std::collections::BTreeSet<i64> = rows.iter().map(|(id, _)| *id).collect();
    let links = rows.iter().filter_map(|(_, measured)| serde_json::from_str(measured).ok());
    let name = own.into_iter().find_map(|(_, name)| name);
    Ok((i64::try_from(measured.len()).unwrap_or(i64::MAX), name, links.collect()))
}

/// How the terminals of a region are connected and how they fare: sums over each access and carrier. By
/// `terminal_networks_by_region`, one way after the other.
pub(super) fn peers(conn: &mut Conn, region: &str) -> Result<Vec<Peer>, db::Error> {
    let mut peers: Vec<Peer> = Vec::new();
    while peers.len() < PEERS_MAX {
        let Some((access, carrier)) = next_way(conn, region, peers.last())? else { break };
        peers.push(peer(conn, region, access, carrier)?);
    }
    Ok(peers)
}

/// The next access and carrier in their order after those of `last`: two look-ups in the index, however many terminals
/// there are.
fn next_way(conn: &mut Conn, region: &str, last: Option<&Peer>) -> Result<Option<(String, String)>, db::Error> {
    let way = (terminal_networks::access, terminal_networks::carrier);
    let (mut from, mut same) = (String::new(), None);
    if let Some(last) = last {
        from.clone_from(&last.access);
        same = terminal_networks::table
            .filter(terminal_networks::region.eq(region))
            .filter(terminal_networks::access.eq(&last.access))
            .filter(terminal_networks::carrier.gt(&last.carrier))
            .order(terminal_networks::carrier)
            .select(way)
            .first::<(String, String)>(conn)
            .optional()?;
    }
    if same.is_some() {
        return Ok(same);
    }
    let next = terminal_networks::table
        .filter(terminal_networks::region.eq(region))
        .filter(terminal_networks::access.gt(from))
        .order(way)
        .select(way);
    Ok(next.first::<(String, String)>(conn).optional()?)
}

fn peer(conn: &mut Conn, region: &str, access: String, carrier: String) -> Result<Peer, db::Error> {
    type Columns = (i64, i64, i64, i64, i64, i64);
    let rows: Vec<Columns> = terminal_networks::table
        .filter(terminal_networks::region.eq(region))
        .filter(terminal_networks::access.eq(&access))
        .filter(terminal_networks::carrier.eq(&carrier))
        .limit(PEER_TERMINALS_MAX)
        .select((
            terminal_networks::attempts_strong,
            terminal_networks::failed_strong,
            terminal_networks::attempts_weak,
            terminal_networks::failed_weak,
            terminal_networks::attempts_other,
            terminal_networks::failed_other,
        ))
        .load(conn)?;
    let count = |n: i64| u64::try_from(n).unwrap_or(0);
    let tally = |attempts, failed| Tally { attempts: count(attempts), failed: count(failed) };
    let mut peer = Peer { access, carrier, ..Peer::default() };
    for (strong, failed_strong, weak, failed_weak, other, failed_other) in rows {
        peer.terminals += 1;
        peer.strong = peer.strong.plus(tally(strong, failed_strong));
        peer.all = peer.all.plus(tally(strong + weak + other, failed_strong + failed_weak + failed_other));
    }
    Ok(peer)
}

/// Writes a store in place of what it was.
pub(super) fn write_store(conn: &mut Conn, store: StoreNetwork) -> Result<(), db::Error> {
    let (score, id) = store.key();
    let body = Body { links: store.links, judged: store.judged };
    let values = (
        store_networks::org_path.eq(store.org_path),
        store_networks::merchant_no.eq(store.merchant_no),
        store_networks::merchant_name.eq(store.merchant_name),
        store_networks::store_name.eq(store.store_name),
        store_networks::region.eq(store.region),
        store_networks::terminals.eq(store.terminals),
        store_networks::attempts.eq(store.attempts),
        store_networks::failed.eq(store.failed),
        store_networks::score.eq(score),
        store_networks::body.eq(serde_json::to_string(&body).unwrap_or_default()),
        store_networks::computed_at_ms.eq(store.computed_at_ms),
    );
    on_backend!(conn, |c| diesel::insert_into(store_networks::table)
        .values((store_networks::id.eq(id), values.clone()))
        .on_conflict(store_networks::id)
        .do_update()
        .set(values)
        .execute(c))?;
    Ok(())
}

#[derive(Queryable)]
struct Row {
    id: i64,
    org_path: String,
    merchant_no: Option<String>,
    merchant_name: Option<String>,
    store_name: Option<String>,
    region: String,
    terminals: i64,
    attempts: i64,
    failed: i64,
    _score: i64,
    body: String,
    computed_at_ms: i64,
}

fn network(row: Row) -> StoreNetwork {
    let body: Body = serde_json::from_str(&row.body).unwrap_or_default();
    StoreNetwork {
        id: row.id,
        org_path: row.org_path,
        merchant_no: row.merchant_no,
        merchant_name: row.merchant_name,
        store_name: row.store_name,
        region: row.region,
        terminals: row.terminals,
        attempts: row.attempts,
        failed: row.failed,
        links: body.links,
        judged: body.judged,
        computed_at_ms: row.computed_at_ms,
    }
}

/// The worst first, after `after`. By `store_networks_by_score`.
pub(super) fn list(
    conn: &mut Conn,
    scope: &Scope,
    after: Option<StoreKey>,
    limit: i64,
) -> Result<Vec<StoreNetwork>, db::Error> {
    let mut query = store_networks::table
        .filter(store_networks::org_path.ge(scope.from()))
        .filter(store_networks::org_path.lt(scope.below()))
        .into_boxed();
    if let Some((score, id)) = after {
        query = query
            .filter(store_networks::score.ge(score))
            .filter(store_networks::score.gt(score).or(store_networks::id.gt(id)));
    }
    let rows = query.order((store_networks::score, store_networks::id)).limit(limit).load::<Row>(conn)?;
    Ok(rows.into_iter().map(network).collect())
}

/// By primary key, within the scope.
pub(super) fn get(conn: &mut Conn, scope: &Scope, id: i64) -> Result<Option<StoreNetwork>, db::Error> {
    let row = store_networks::table
        .find(id)
        .filter(store_networks::org_path.ge(scope.from()))
        .filter(store_networks::org_path.lt(scope.below()))
        .first::<Row>(conn)
        .optional()?;
    Ok(row.map(network))
}

/// What tells a terminal's store apart, by primary key, within the scope.
pub(super) fn store_of(conn: &mut Conn, scope: &Scope, terminal_id: i64) -> Result<Option<StoreId>, db::Error> {
    let row: Option<(String, Option<String>, Option<String>)> = terminals::table
        .find(terminal_id)
        .filter(terminals::org_path.ge(scope.from()))
        .filter(terminals::org_path.lt(scope.below()))
        .select((terminals::org_path, terminals::merchant_no, terminals::store_name))
        .first(conn)
        .optional()?;
    let id = row.map(|(org_path, merchant_no, store_name)| StoreId { org_path, merchant_no, store_name });
    Ok(id.filter(StoreId::is_named))
}
