//! SQL of what runs out.

use diesel::prelude::*;

use super::super::expiry::Ending;
use crate::db::schema::{sim_cards, terminal_certificates, terminals};
use crate::db::{self, Conn};
use crate::on_backend;

/// Things that run out read at most, the nearest end first.
const ENDINGS_MAX: i64 = 10_000;
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

/// Certificates of terminals that are out there which end between two moments. By `terminal_certificates_by_expiry`.
pub(in super::super) fn certificates(conn: &mut Conn, from_ms: i64, to_ms: i64) -> Result<Vec<Ending>, db::Error> {
    let rows = terminal_certificates::table
        .inner_join(terminals::table.on(terminals::id.eq(terminal_certificates::terminal_id)))
        .filter(terminal_certificates::expires_at_ms.ge(from_ms))
        .filter(terminal_certificates::expires_at_ms.le(to_ms))
        .filter(terminals::lifecycle.eq_any(OUT_THERE))
        .order(terminal_certificates::expires_at_ms)
        .limit(ENDINGS_MAX)
        .select((terminals::id, terminals::sn, terminals::org_path, terminal_certificates::expires_at_ms));
    Ok(endings(rows.load(conn)?))
}

/// Cards in such terminals that end between two moments. By `sim_cards_by_expiry` and `terminals_by_iccid`.
pub(in super::super) fn cards(conn: &mut Conn, from_ms: i64, to_ms: i64) -> Result<Vec<Ending>, db::Error> {
    let rows = sim_cards::table
        .inner_join(terminals::table.on(terminals::iccid.eq(sim_cards::iccid.nullable())))
        .filter(sim_cards::expires_at_ms.ge(from_ms))
        .filter(sim_cards::expires_at_ms.le(to_ms))
        .filter(terminals::lifecycle.eq_any(OUT_THERE))
        .order(sim_cards::expires_at_ms)
        .limit(ENDINGS_MAX)
        .select((terminals::id, terminals::sn, terminals::org_path, sim_cards::expires_at_ms.assume_not_null()));
    Ok(endings(rows.load(conn)?))
}
