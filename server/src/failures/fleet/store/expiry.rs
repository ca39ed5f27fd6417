//! SQL of what runs out.

use diesel::prelude::*;

use super::super::expiry::Ending;
use super::super::rules::Rule;
use crate::db::schema::{fleet_findings, sim_cards, terminal_certificates, terminals};
use crate::db::{self, Conn};
use crate::on_backend;

/// Things that run out read by one statement: some ten milliseconds.
const ENDINGS: i64 = 10_000;
/// States in which a terminal is out there.
const OUT_THERE: [&str; 3] = ["bound", "active", "suspended"];

/// Notes until when terminals' certificates hold, in the order of their numbers.
pub(in super::super) fn note_certificates(conn: &mut Conn, rows: &[(i64, i64)]) -> Result<(), db::Error> {
    for (terminal_id, expires_at_ms) in rows {
        let expires = terminal_certificates::expires_at_ms.eq(expires_at_ms);
        on_backend!(conn, |c| diesel::insert_into(terminal_certificates::table)
            .values((terminal_certificates::terminal_id.eq(terminal_id), expires))
            .on_conflict(terminal_certificates::terminal_id)
            .do_update()
            .set(expires)
            .execute(c))?;
    }
    Ok(())
}

type Columns = (i64, String, String, i64);

fn endings(rows: Vec<Columns>) -> Vec<Ending> {
    let ending = |(terminal_id, sn, org_path, expires_at_ms)| Ending { terminal_id, sn, org_path, expires_at_ms };
    rows.into_iter().map(ending).collect()
}

/// Certificates of terminals that are out there which end up to a moment, from after `after`, which is an end and a
/// terminal, in this order; some of them, none at the end. By `terminal_certificates_by_expiry`.
pub(in super::super) fn certificates(conn: &mut Conn, after: (i64, i64), to_ms: i64) -> Result<Vec<Ending>, db::Error> {
    let (from_ms, terminal_id) = after;
    let is_after = terminal_certificates::expires_at_ms.gt(from_ms).or(terminals::id.gt(terminal_id));
    let rows = terminal_certificates::table
        .inner_join(terminals::table.on(terminals::id.eq(terminal_certificates::terminal_id)))
        .filter(terminal_certificates::expires_at_ms.ge(from_ms))
        .filter(terminal_certificates::expires_at_ms.le(to_ms))
        .filter(is_after)
        .filter(terminals::lifecycle.eq_any(OUT_THERE))
        .order((terminal_certificates::expires_at_ms, terminals::id))
        .limit(ENDINGS)
        .select((terminals::id, terminals::sn, terminals::org_path, terminal_certificates::expires_at_ms));
    Ok(endings(rows.load(conn)?))
}

/// Cards in such terminals, likewise. By `sim_cards_by_expiry` and `terminals_by_iccid`.
pub(in super::super) fn cards(conn: &mut Conn, after: (i64, i64), to_ms: i64) -> Result<Vec<Ending>, db::Error> {
    let (from_ms, terminal_id) = after;
    let is_after = sim_cards::expires_at_ms.gt(from_ms).or(terminals::id.gt(terminal_id));
    let rows = sim_cards::table
        .inner_join(terminals::table.on(terminals::iccid.eq(sim_cards::iccid.nullable())))
        .filter(sim_cards::expires_at_ms.ge(from_ms))
        .filter(sim_cards::expires_at_ms.le(to_ms))
        .filter(is_after)
        .filter(terminals::lifecycle.eq_any(OUT_THERE))
        .order((sim_cards::expires_at_ms, terminals::id))
        .limit(ENDINGS)
        .select((terminals::id, terminals::sn, terminals::org_path, sim_cards::expires_at_ms.assume_not_null()));
    Ok(endings(rows.load(conn)?))
}

/// How many terminals the open finding about one thing in one organization has, and when it was seen last, Unix ms. By
/// `fleet_findings_by_key`.
pub(in super::super) fn before(conn: &mut Conn, key: &str, org_path: &str) -> Result<Option<(i64, i64)>, db::Error> {
    let row = fleet_findings::table
        .filter(fleet_findings::rule.eq(Rule::Expiry.as_str()))
        .filter(fleet_findings::dedup_key.eq(key))
        .filter(fleet_findings::org_path.eq(org_path))
        .filter(fleet_findings::ended_at_ms.is_null())
        .order(fleet_findings::id)
        .select((fleet_findings::affected, fleet_findings::last_seen_ms));
    Ok(row.first(conn).optional()?)
}
