//! SQL of terminals that do not call.

use diesel::dsl::{count_star, sql};
use diesel::prelude::*;
use diesel::sql_types::BigInt;

use super::super::silence::{Late, Member};
use crate::clock::Now;
use crate::db::schema::{barred_calls, incident_terminals, incidents, sim_cards, terminal_states, terminals};
use crate::db::{self, Conn};
use crate::on_backend;

/// Terminals that one statement goes through: some ten milliseconds.
const PART_ROWS: i64 = 50_000;
/// Late terminals read at most, those seen last.
const LATE_MAX: i64 = 50_000;
/// Terminals of one pool read at most.
const MEMBERS_MAX: i64 = 20_000;
/// Terminals that called although they must not, told in one pass.
const BARRED_MAX: i64 = 100;
/// States in which somebody minds that a terminal is silent.
const IN_USE: [&str; 2] = ["bound", "active"];

/// Cuts the time from `since_ms` on into parts, from and before, Unix ms, in each of which about [`PART_ROWS`] terminals
/// were heard last, so that no statement goes through a whole fleet. One that calls meanwhile may be seen in two parts or
/// in none: of a million, some hundreds. By `terminal_states_by_last_seen`.
pub(in super::super) fn parts(conn: &mut Conn, since_ms: i64) -> Result<Vec<(i64, i64)>, db::Error> {
    parts_of(conn, since_ms, PART_ROWS)
}

fn parts_of(conn: &mut Conn, since_ms: i64, rows: i64) -> Result<Vec<(i64, i64)>, db::Error> {
    let mut parts = Vec::new();
    let mut from_ms = since_ms;
    loop {
        let heard = terminal_states::table
            .filter(terminal_states::last_seen_ms.ge(from_ms))
            .order(terminal_states::last_seen_ms)
            .select(terminal_states::last_seen_ms);
        let next: Option<i64> = heard.offset(rows).first(conn).optional()?;
        let Some(next) = next else { break };
        // More than that in one millisecond stay together.
        let before_ms = next.max(from_ms + 1);
        parts.push((from_ms, before_ms));
        from_ms = before_ms;
    }
    parts.push((from_ms, i64::MAX));
    Ok(parts)
}

/// Terminals in use that were heard within a day.
pub(in super::super) fn count_fleet(conn: &mut Conn, since_ms: i64) -> Result<u64, db::Error> {
    let mut n = 0;
    for (from_ms, before_ms) in parts(conn, since_ms)? {
        n += terminal_states::table
            .filter(terminal_states::last_seen_ms.ge(from_ms))
            .filter(terminal_states::last_seen_ms.lt(before_ms))
            .filter(terminal_states::lifecycle.eq_any(IN_USE))
            .select(count_star())
            .first::<i64>(conn)?;
    }
    Ok(u64::try_from(n).unwrap_or(0))
}

/// Terminals in use that were heard since `since_ms` and are later than one and a half intervals, the latest first. By
/// `terminal_states_by_last_seen`.
pub(in super::super) fn late(conn: &mut Conn, since_ms: i64, now: Now) -> Result<Vec<Late>, db::Error> {
    let mut found = Vec::new();
    for (from_ms, before_ms) in parts(conn, since_ms)?.into_iter().rev() {
        let left = LATE_MAX - i64::try_from(found.len()).unwrap_or(LATE_MAX);
        if left > 0 {
            found.extend(late_in(conn, (from_ms, before_ms), left, now)?);
        }
    }
    Ok(found)
}

fn late_in(conn: &mut Conn, part: (i64, i64), limit: i64, now: Now) -> Result<Vec<Late>, db::Error> {
    type Columns = (i64, i64, i64, i64, String, String, String, Option<String>, Option<String>);
    let (from_ms, before_ms) = part;
    let rows = terminal_states::table
        .inner_join(terminals::table.on(terminals::id.eq(terminal_states::terminal_id)))
        .left_join(sim_cards::table.on(sim_cards::iccid.nullable().eq(terminals::iccid)))
        .filter(terminal_states::last_seen_ms.ge(from_ms))
        .filter(terminal_states::last_seen_ms.lt(before_ms))
        .filter((terminal_states::last_seen_ms + terminal_states::interval_s * 1_500).lt(now.0))
        .filter(terminal_states::lifecycle.eq_any(IN_USE))
        .order(terminal_states::last_seen_ms.desc())
        .limit(limit)
        .select((
            terminal_states::terminal_id,
            terminal_states::last_seen_ms,
            terminal_states::next_check_in_ms,
            terminal_states::interval_s,
            terminal_states::access,
            terminals::region,
            terminals::org_path,
            terminals::iccid,
            sim_cards::pool.nullable(),
        ))
        .load::<Columns>(conn)?;
    let late = |row: Columns| {
        let (terminal_id, heard_ms, due_ms, interval_s, access, region, org_path, iccid, pool) = row;
        Late { terminal_id, heard_ms, due_ms, interval_s, access, region, org_path, iccid, pool }
    };
    Ok(rows.into_iter().map(late).collect())
}

/// Terminals in use of one part that are as late: when each was heard, its interval in s and its organization. From
/// `terminal_states_by_last_seen` alone.
pub(in super::super) fn late_of(
    conn: &mut Conn,
    part: (i64, i64),
    now: Now,
) -> Result<Vec<(i64, i64, Option<String>)>, db::Error> {
    let (from_ms, before_ms) = part;
    let rows = terminal_states::table
        .filter(terminal_states::last_seen_ms.ge(from_ms))
        .filter(terminal_states::last_seen_ms.lt(before_ms))
        .filter((terminal_states::last_seen_ms + terminal_states::interval_s * 1_500).lt(now.0))
        .filter(terminal_states::lifecycle.eq_any(IN_USE))
        .select((terminal_states::last_seen_ms, terminal_states::interval_s, terminal_states::org_path));
    Ok(rows.load(conn)?)
}

/// Terminals on the cards of a pool that were heard since `since_ms`: those on record by `sim_cards_by_pool`, else the
/// cards whose numbers begin with it, by `terminals_by_iccid`.
pub(in super::super) fn members(
    conn: &mut Conn,
    pool: &str,
    is_on_record: bool,
    since_ms: i64,
) -> Result<Vec<Member>, db::Error> {
    let mut query = terminals::table
        .inner_join(terminal_states::table.on(terminal_states::terminal_id.eq(terminals::id)))
        .left_join(sim_cards::table.on(sim_cards::iccid.nullable().eq(terminals::iccid)))
        .filter(terminal_states::last_seen_ms.ge(since_ms))
        .filter(terminal_states::lifecycle.eq_any(IN_USE))
        .into_boxed();
    query = if is_on_record {
        query.filter(sim_cards::pool.eq(pool))
    } else {
        // ':' follows '9'.
        query
            .filter(terminals::iccid.ge(pool))
            .filter(terminals::iccid.lt(format!("{pool}:")))
            .filter(sim_cards::pool.is_null())
    };
    let rows = query
        .limit(MEMBERS_MAX)
        .select((
            terminals::id,
            terminal_states::last_seen_ms,
            terminal_states::interval_s,
            terminal_states::access,
            terminals::region,
        ))
        .load::<(i64, i64, i64, String, String)>(conn)?;
    let member = |(terminal_id, heard_ms, interval_s, access, region)| Member {
        terminal_id,
        heard_ms,
        interval_s,
        access,
        region,
    };
    Ok(rows.into_iter().map(member).collect())
}

/// Of the terminals in use in these regions that were heard since `since_ms`: how many, and how many of them call as they
/// should.
pub(in super::super) fn count_online(
    conn: &mut Conn,
    regions: &[String],
    since_ms: i64,
    now: Now,
) -> Result<(u64, u64), db::Error> {
    let online = format!(
        "CAST(COALESCE(SUM(CASE WHEN terminal_states.last_seen_ms + terminal_states.interval_s * 1500 >= {} THEN 1 ELSE 0 END), 0) AS BIGINT)",
        now.0
    );
    let (mut all, mut calling) = (0, 0);
    for (from_ms, before_ms) in parts(conn, since_ms)? {
        let counts: (i64, i64) = terminal_states::table
            .filter(terminal_states::last_seen_ms.ge(from_ms))
            .filter(terminal_states::last_seen_ms.lt(before_ms))
            .filter(terminal_states::lifecycle.eq_any(IN_USE))
            .filter(terminal_states::region.eq_any(regions.to_vec()))
            .select((count_star(), sql::<BigInt>(&online)))
            .first(conn)?;
        (all, calling) = (all + counts.0, calling + counts.1);
    }
    Ok((u64::try_from(all).unwrap_or(0), u64::try_from(calling).unwrap_or(0)))
}

/// Whether most of the terminals in use that an unresolved incident lists were not heard since `since_ms`. By primary
/// keys, of at most as many terminals as an incident lists.
pub(in super::super) fn is_silent(conn: &mut Conn, incident_id: i64, since_ms: i64) -> Result<bool, db::Error> {
    let heard: Vec<i64> = incident_terminals::table
        .inner_join(incidents::table.on(incidents::id.eq(incident_terminals::incident_id)))
        .inner_join(terminal_states::table.on(terminal_states::terminal_id.eq(incident_terminals::terminal_id)))
        .filter(incident_terminals::incident_id.eq(incident_id))
        .filter(incidents::state.ne("resolved"))
        .filter(terminal_states::lifecycle.eq_any(IN_USE))
        .select(terminal_states::last_seen_ms)
        .load(conn)?;
    let silent = heard.iter().filter(|heard_ms| **heard_ms <= since_ms).count();
    Ok(silent * 2 > heard.len())
}

/// Notes that terminals called which must not. In the order of their numbers.
pub(in super::super) fn note_barred(conn: &mut Conn, terminal_ids: &[i64], now: Now) -> Result<(), db::Error> {
    for id in terminal_ids {
        let row = (
            barred_calls::terminal_id.eq(id),
            barred_calls::first_ms.eq(now.0),
            barred_calls::last_ms.eq(now.0),
            barred_calls::calls.eq(1),
        );
        on_backend!(conn, |c| diesel::insert_into(barred_calls::table)
            .values(row)
            .on_conflict(barred_calls::terminal_id)
            .do_update()
            .set((barred_calls::last_ms.eq(now.0), barred_calls::calls.eq(barred_calls::calls + 1)))
            .execute(c))?;
    }
    Ok(())
}

/// A terminal that called although it must not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Barred {
    pub terminal_id: i64,
    pub sn: String,
    pub org_path: String,
    pub lifecycle: String,
    pub calls: i64,
    pub first_ms: i64,
}

/// Those that called since `since_ms`: refused ones by `barred_calls_by_time`, lost ones by
/// `terminal_states_by_last_seen`.
pub(in super::super) fn barred(conn: &mut Conn, since_ms: i64) -> Result<Vec<Barred>, db::Error> {
    type Columns = (i64, String, String, String, i64, i64);
    let mut rows = barred_calls::table
        .inner_join(terminals::table.on(terminals::id.eq(barred_calls::terminal_id)))
        .filter(barred_calls::last_ms.ge(since_ms))
        .filter(terminals::lifecycle.eq_any(["blocked", "retired"]))
        .order(barred_calls::last_ms.desc())
        .limit(BARRED_MAX)
        .select((
            terminals::id,
            terminals::sn,
            terminals::org_path,
            terminals::lifecycle,
            barred_calls::calls,
            barred_calls::first_ms,
        ))
        .load::<Columns>(conn)?;
    let lost = terminal_states::table
        .inner_join(terminals::table.on(terminals::id.eq(terminal_states::terminal_id)))
        .filter(terminal_states::last_seen_ms.ge(since_ms))
        .filter(terminal_states::lifecycle.eq("lost"))
        .order(terminal_states::last_seen_ms.desc())
        .limit(BARRED_MAX)
        .select((
            terminals::id,
            terminals::sn,
            terminals::org_path,
            terminals::lifecycle,
            terminal_states::check_ins,
            terminal_states::last_seen_ms,
        ))
        .load::<Columns>(conn)?;
    rows.extend(lost);
    let barred = |(terminal_id, sn, org_path, lifecycle, calls, first_ms): Columns| Barred {
        terminal_id,
        sn,
        org_path,
        lifecycle,
        calls,
        first_ms,
    };
    Ok(rows.into_iter().map(barred).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::{Db, Location};

    /// Terminals in use that were heard last at these moments.
    fn heard(conn: &mut Conn, at: &[i64]) {
        for (id, at_ms) in (1..).zip(at) {
            diesel::sql_query(format!(
                "INSERT INTO terminal_states (terminal_id, stream, seq, first_seen_ms, last_seen_ms, next_check_in_ms, \
                 interval_s, sampled_at_ms, check_ins, failures, transactions_ok, transactions_failed, firmware, slot, \
                 agent, access, carrier, signal, lifecycle, report) \
                 VALUES ({id}, 1, 1, 1, {at_ms}, 0, 900, 0, 1, 0, 0, 0, '', '', '', '', '', '', 'active', '')"
            ))
            .execute(conn)
            .unwrap();
        }
    }

    #[tokio::test]
    async fn each_terminal_is_in_one_part_however_many_were_heard_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::open(&Location::Sqlite(folder.path().join("db"))).unwrap();
        let at = [5, 10, 11, 12, 12, 12, 12, 13, 20, 21];
        let read: Result<_, db::Error> = db
            .write(move |conn| {
                heard(conn, &at);
                let fleet = count_fleet(conn, 10)?;
                Ok((fleet, parts_of(conn, 10, 2)?, parts_of(conn, 10, 100)?, parts_of(conn, 22, 2)?))
            })
            .await;
        let (fleet, parts, one, none) = read.unwrap();
        assert_eq!(fleet, 9);
        assert_eq!(one, [(10, i64::MAX)]);
        assert_eq!(none, [(22, i64::MAX)]);
        assert_eq!(parts, [(10, 12), (12, 13), (13, 21), (21, i64::MAX)]);
        for at_ms in at.into_iter().filter(|at_ms| *at_ms >= 10) {
            assert_eq!(parts.iter().filter(|(from, before)| (*from..*before).contains(&at_ms)).count(), 1, "{at_ms}");
        }
    }
}
