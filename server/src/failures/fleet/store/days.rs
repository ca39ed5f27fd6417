//! SQL of single terminals' days.

use std::collections::HashMap;

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::BigInt;

use super::super::rules::SLOT_MS;
use crate::db::schema::{failures, terminal_states, terminal_suspicions, terminal_tallies, terminals};
use crate::db::{self, Conn};

/// Terminals tallied in one transaction: a few milliseconds.
const TALLIED: i64 = 1_000;
/// Terminals whose day is read at once: some ten milliseconds.
const KINDS: i64 = 20_000;
/// Old rows deleted in one transaction.
const DELETED_MAX: i64 = 2_000;
/// Days that tallies are kept, and that suspicions are.
const TALLIES_KEPT: i64 = 3;
const SUSPICIONS_KEPT: i64 = 10;

/// Stages at which the terminal itself or its link can be the cause …
const OWN_STAGES: [&str; 9] = ["card_read", "pack", "dns", "tcp", "tls", "send", "mac_verify", "esign", "upload"];
/// … and response codes that say so: format (30), trace number used twice (94), keys (99, A0, A7 to A9).
const OWN_CODES: [&str; 7] = ["30", "94", "99", "A0", "A7", "A8", "A9"];

/// Notes the payments so far of terminals with numbers above `after`; returns the last number, or `None` at the end. By
/// primary key.
pub(in super::super) fn tally(conn: &mut Conn, day: i64, after: i64) -> Result<Option<i64>, db::Error> {
    let rows: Vec<(i64, i64)> = terminal_states::table
        .filter(terminal_states::terminal_id.gt(after))
        .order(terminal_states::terminal_id)
        .limit(TALLIED)
        .select((terminal_states::terminal_id, terminal_states::transactions_ok + terminal_states::transactions_failed))
        .load(conn)?;
    let last = rows.last().map(|(id, _)| *id);
    let row = |(id, attempts): (i64, i64)| {
        (terminal_tallies::day.eq(day), terminal_tallies::terminal_id.eq(id), terminal_tallies::attempts.eq(attempts))
    };
    match conn {
        // SQLite's dialect has no conflict clause on many rows.
        Conn::Sqlite(c) => {
            for one in rows {
                diesel::insert_into(terminal_tallies::table).values(row(one)).on_conflict_do_nothing().execute(c)?;
            }
        }
        Conn::Postgres(_) if rows.is_empty() => {}
        Conn::Postgres(c) => {
            let rows: Vec<_> = rows.into_iter().map(row).collect();
            diesel::insert_into(terminal_tallies::table).values(rows).on_conflict_do_nothing().execute(c)?;
        }
    }
    Ok(last)
}

/// Payments up to the start of a day of terminals above one and up to another, by terminal. By primary key.
pub(in super::super) fn tallies(
    conn: &mut Conn,
    day: i64,
    above: i64,
    up_to: i64,
) -> Result<HashMap<i64, i64>, db::Error> {
    let rows = terminal_tallies::table
        .filter(terminal_tallies::day.eq(day))
        .filter(terminal_tallies::terminal_id.gt(above))
        .filter(terminal_tallies::terminal_id.le(up_to))
        .select((terminal_tallies::terminal_id, terminal_tallies::attempts));
    Ok(rows.load::<(i64, i64)>(conn)?.into_iter().collect())
}

/// Slots between two moments in which a terminal failed by itself, by terminal. By `failures_by_time`.
pub(in super::super) fn failed(conn: &mut Conn, from_ms: i64, to_ms: i64) -> Result<HashMap<i64, i64>, db::Error> {
    let distinct = format!("COUNT(DISTINCT received_at_ms / {SLOT_MS})");
    let unanswered = failures::response_code.is_null().and(failures::stage.eq_any(OWN_STAGES));
    let rows = failures::table
        .filter(failures::received_at_ms.ge(from_ms))
        .filter(failures::received_at_ms.lt(to_ms))
        .filter(failures::response_code.eq_any(OWN_CODES).or(unanswered))
        .group_by(failures::terminal_id)
        .select((failures::terminal_id, sql::<BigInt>(&distinct)));
    Ok(rows.load::<(i64, i64)>(conn)?.into_iter().collect())
}

/// Terminals that are alike have the same model, firmware and carrier.
pub(in super::super) type Kind = [String; 3];
/// The last number gone through, and terminals up to it with their kinds.
type KindsPart = (i64, Vec<(i64, Kind)>);

/// Of the next terminals above one those in use that were seen since `since_ms`, with their kind; and the last number gone
/// through, `None` at the end. By primary key.
pub(in super::super) fn kinds(conn: &mut Conn, since_ms: i64, above: i64) -> Result<Option<KindsPart>, db::Error> {
    type Columns = (i64, i64, Option<String>, Option<String>, String, String);
    let rows = terminal_states::table
        .filter(terminal_states::terminal_id.gt(above))
        .order(terminal_states::terminal_id)
        .limit(KINDS)
        .select((
            terminal_states::terminal_id,
            terminal_states::last_seen_ms,
            terminal_states::lifecycle,
            terminal_states::model,
            terminal_states::firmware,
            terminal_states::carrier,
        ))
        .load::<Columns>(conn)?;
    let Some(last) = rows.last().map(|row| row.0) else { return Ok(None) };
    let kind = |(id, seen_ms, lifecycle, model, firmware, carrier): Columns| {
        let is_in_use = matches!(lifecycle.as_deref(), Some("bound" | "active"));
        (is_in_use && seen_ms >= since_ms).then(|| (id, [model.unwrap_or_default(), firmware, carrier]))
    };
    Ok(Some((last, rows.into_iter().filter_map(kind).collect())))
}

/// Notes that a terminal stood out on a day.
pub(in super::super) fn suspect(conn: &mut Conn, terminal_id: i64, day: i64) -> Result<(), db::Error> {
    let row = (terminal_suspicions::terminal_id.eq(terminal_id), terminal_suspicions::day.eq(day));
    crate::on_backend!(conn, |c| diesel::insert_into(terminal_suspicions::table)
        .values(row)
        .on_conflict_do_nothing()
        .execute(c))?;
    Ok(())
}

/// Days on which a terminal stood out. By primary key.
pub(in super::super) fn suspicions(conn: &mut Conn, terminal_id: i64) -> Result<Vec<i64>, db::Error> {
    let rows = terminal_suspicions::table.filter(terminal_suspicions::terminal_id.eq(terminal_id));
    Ok(rows.select(terminal_suspicions::day).load(conn)?)
}

/// Serial number and organization of terminals, by primary key.
pub(in super::super) fn named(conn: &mut Conn, ids: &[i64]) -> Result<HashMap<i64, (String, String)>, db::Error> {
    let rows = terminals::table.filter(terminals::id.eq_any(ids.to_vec())).select((
        terminals::id,
        terminals::sn,
        terminals::org_path,
    ));
    let rows: Vec<(i64, String, String)> = rows.load(conn)?;
    Ok(rows.into_iter().map(|(id, sn, path)| (id, (sn, path))).collect())
}

/// Deletes what is too old on `today`, some of it; returns how many rows went.
pub(in super::super) fn delete_old(conn: &mut Conn, today: i64) -> Result<usize, db::Error> {
    let old: Vec<(i64, i64)> = terminal_tallies::table
        .filter(terminal_tallies::day.lt(today - TALLIES_KEPT))
        .limit(DELETED_MAX)
        .select((terminal_tallies::day, terminal_tallies::terminal_id))
        .load(conn)?;
    let mut deleted = 0;
    for key in old {
        deleted += diesel::delete(terminal_tallies::table.find(key)).execute(conn)?;
    }
    let gone = terminal_suspicions::table.filter(terminal_suspicions::day.lt(today - SUSPICIONS_KEPT));
    Ok(deleted + diesel::delete(gone).execute(conn)?)
}
