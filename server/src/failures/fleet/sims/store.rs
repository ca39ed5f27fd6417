//! SQL of SIM cards.

use std::collections::HashSet;

use diesel::prelude::*;

use super::Card;
use crate::clock::Now;
use crate::db::schema::sim_cards;
use crate::db::{self, Conn};
use crate::on_backend;
use crate::operators::Scope;
use crate::organizations::Organization;

/// Numbers of those of `cards` that belong to somebody outside the scope. By primary key.
pub(super) fn foreign(conn: &mut Conn, scope: &Scope, cards: &[Card]) -> Result<HashSet<String>, db::Error> {
    let numbers: Vec<&str> = cards.iter().map(|card| card.iccid.as_str()).collect();
    let rows =
        sim_cards::table.filter(sim_cards::iccid.eq_any(numbers)).select((sim_cards::iccid, sim_cards::org_path));
    let rows: Vec<(String, String)> = rows.load(conn)?;
    Ok(rows.into_iter().filter(|(_, path)| !scope.contains(path)).map(|(iccid, _)| iccid).collect())
}

/// Inserts cards or gives them their newest values.
pub(super) fn write(conn: &mut Conn, owner: &Organization, cards: &[&Card], now: Now) -> Result<(), db::Error> {
    for card in cards {
        let values = (
            sim_cards::organization_id.eq(owner.id),
            sim_cards::org_path.eq(&owner.path),
            sim_cards::carrier.eq(card.carrier.as_deref()),
            sim_cards::pool.eq(card.pool.as_deref()),
            sim_cards::plan_mb.eq(card.plan_mb),
            sim_cards::expires_at_ms.eq(card.expires_at_ms),
            sim_cards::changed_at_ms.eq(now.0),
        );
        on_backend!(conn, |c| diesel::insert_into(sim_cards::table)
            .values((sim_cards::iccid.eq(&card.iccid), values))
            .on_conflict(sim_cards::iccid)
            .do_update()
            .set(values)
            .execute(c))?;
    }
    Ok(())
}

type Columns = (String, Option<String>, Option<String>, Option<i64>, Option<i64>);

/// By number, after `after`. By `sim_cards_by_org`, or `sim_cards_by_pool` for one pool.
pub(super) fn list(
    conn: &mut Conn,
    scope: &Scope,
    pool: Option<&str>,
    after: &str,
    limit: i64,
) -> Result<Vec<Card>, db::Error> {
    let mut query = sim_cards::table
        .filter(sim_cards::org_path.ge(scope.from()))
        .filter(sim_cards::org_path.lt(scope.below()))
        .filter(sim_cards::iccid.gt(after))
        .into_boxed();
    if let Some(pool) = pool {
        query = query.filter(sim_cards::pool.eq(pool));
    }
    let rows = query
        .order(sim_cards::iccid)
        .limit(limit)
        .select((sim_cards::iccid, sim_cards::carrier, sim_cards::pool, sim_cards::plan_mb, sim_cards::expires_at_ms))
        .load::<Columns>(conn)?;
    let card = |(iccid, carrier, pool, plan_mb, expires_at_ms)| Card { iccid, carrier, pool, plan_mb, expires_at_ms };
    Ok(rows.into_iter().map(card).collect())
}
