//! SQL of terminals that do not call.

use std::time::{Duration, Instant};

use diesel::dsl::{count_star, sql};
use diesel::prelude::*;
use diesel::sql_types::BigInt;

use super::super::silence::{Late, Member};
use crate::clock::Now;
use crate::db::schema::{barred_calls, incident_terminals, incidents, sim_cards, terminal_states, terminals};
use crate::db::{self, Conn};
use crate::on_backend;

/// Terminals that one statement goes through: some milliseconds.
const PART_ROWS: i64 = 10_000;
/// Shortest time that is cut off at once, ms …
const WIDTH_MIN_MS: i64 = 5_000;
/// … and longest.
const WIDTH_MAX_MS: i64 = 2 * 60_000;
/// A part whose end took longer to find is followed by one of half the time, one that took a quarter of this by one of
/// twice the time.
const LOOK: Duration = Duration::from_millis(40);
/// Late terminals read at most, those seen last.
const LATE_MAX: i64 = 50_000;
/// Terminals of one pool read at most.
const MEMBERS_MAX: i64 = 20_000;
/// Terminals that called although they must not, told in one pass.
const BARRED_MAX: i64 = 100;
/// States in which somebody minds that a terminal is silent.
const IN_USE: [&str; 2] = ["bound", "active"];

/// From and before, Unix ms.
pub(in super::super) type Part = (i64, i64);

/// Cuts the time from `since_ms` on into parts, the latest first, in each of which at most about [`PART_ROWS`] terminals
/// were heard last, so that no statement goes through a whole fleet. Each is bounded in time as well: every check-in
/// moves its entry of `terminal_states_by_last_seen` on, and PostgreSQL's index keeps the old ones until they are
/// vacuumed away, where a statement steps over them. One that calls meanwhile may be seen in two parts or in none: of a
/// million, some hundreds.
pub(in super::super) fn parts(conn: &mut Conn, since_ms: i64) -> Result<Vec<Part>, db::Error> {
    parts_of(conn, since_ms, PART_ROWS)
}

fn parts_of(conn: &mut Conn, since_ms: i64, rows: i64) -> Result<Vec<Part>, db::Error> {
    let latest: Option<i64> = terminal_states::table
        .filter(terminal_states::last_seen_ms.ge(since_ms))
        .order(terminal_states::last_seen_ms.desc())
        .select(terminal_states::last_seen_ms)
        .first(conn)
        .optional()?;
    let (mut parts, mut width_ms) = (Vec::new(), WIDTH_MIN_MS);
    let (mut before_ms, mut high_ms) = (i64::MAX, latest.unwrap_or(since_ms));
    while before_ms > since_ms {
        let low_ms = high_ms.saturating_sub(width_ms).max(since_ms);
        let began = Instant::now();
        let full: Option<i64> = terminal_states::table
            .filter(terminal_states::last_seen_ms.ge(low_ms))
            .filter(terminal_states::last_seen_ms.lt(before_ms))
            .order(terminal_states::last_seen_ms.desc())
            .select(terminal_states::last_seen_ms)
            .offset(rows - 1)
            .first(conn)
            .optional()?;
        width_ms = width_after(width_ms, began.elapsed());
        // More than that in one millisecond stay together.
        let from_ms = full.unwrap_or(low_ms);
        parts.push((from_ms, before_ms));
        (before_ms, high_ms) = (from_ms, from_ms);
    }
    Ok(parts)
}

fn width_after(width_ms: i64, took: Duration) -> i64 {
    if took > LOOK {
        (width_ms / 2).max(WIDTH_MIN_MS)
    } else if took < LOOK / 4 {
        (width_ms * 2).min(WIDTH_MAX_MS)
    } else {
        width_ms
    }
}

/// Terminals in use that were heard in these parts.
pub(in super::super) fn count_fleet(conn: &mut Conn, parts: &[Part]) -> Result<u64, db::Error> {
    let mut n = 0;
    for (from_ms, before_ms) in parts {
        n += terminal_states::table
            .filter(terminal_states::last_seen_ms.ge(from_ms))
            .filter(terminal_states::last_seen_ms.lt(before_ms))
            .filter(terminal_states::lifecycle.eq_any(IN_USE))
            .select(count_star())
            .first::<i64>(conn)?;
    }
    Ok(u64::try_from(n).unwrap_or(0))
}

/// Terminals in use that were heard in these parts and are later than one and a half intervals, the latest first. By
/// `terminal_states_by_last_seen`.
pub(in super::super) fn late(conn: &mut Conn, parts: &[Part], now: Now) -> Result<Vec<Late>, db::Error> {
    let mut found = Vec::new();
    for part in parts {
        let left = LATE_MAX - i64::try_from(found.len()).unwrap_or(LATE_MAX);
        if left > 0 {
            found.extend(late_in(conn, *part, left, now)?);
        }
    }
    Ok(found)
}

fn late_in(conn: &mut Conn, part: Part, limit: i64, now: Now) -> Result<Vec<Late>, db::Error> {
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
    part: Part,
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

/// Of the terminals in use in these regions that were heard in these parts: how many, and how many of them call as they
/// should.
pub(in super::super) fn count_online(
    conn: &mut Conn,
    regions: &[String],
    parts: &[Part],
    now: Now,
) -> Result<(u64, u64), db::Error> {
    let online = format!(
        "CAST(COALESCE(SUM(CASE WHEN terminal_states.last_seen_ms + terminal_states.interval_s * 1500 >= {} THEN 1 ELSE 0 END), 0) AS BIGINT)",
        now.0
    );
    let (mut all, mut calling) = (0, 0);
    for (from_ms, before_ms) in parts {
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
                let fleet = parts(conn, 10).and_then(|parts| count_fleet(conn, &parts))?;
                Ok((fleet, parts_of(conn, 10, 2)?, parts_of(conn, 10, 100)?, parts_of(conn, 22, 2)?))
            })
            .await;
        let (fleet, parts, one, none) = read.unwrap();
        assert_eq!(fleet, 9);
        assert_eq!(one, [(10, i64::MAX)]);
        assert_eq!(none, [(22, i64::MAX)]);
        assert_eq!(parts, [(20, i64::MAX), (12, 20), (10, 12)]);
        for at_ms in at.into_iter().filter(|at_ms| *at_ms >= 10) {
            assert_eq!(parts.iter().filter(|(from, before)| (*from..*before).contains(&at_ms)).count(), 1, "{at_ms}");
        }
    }

    #[tokio::test]
    async fn no_part_is_longer_than_its_time_and_together_they_leave_nothing_out() {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::open(&Location::Sqlite(folder.path().join("db"))).unwrap();
        let (day, hour) = (86_400_000, 3_600_000);
        let read: Result<_, db::Error> = db
            .write(move |conn| {
                // A few in the morning, nobody for hours, many a moment ago.
                let many: Vec<i64> = (0..300).map(|at| 20 * hour + at).collect();
                heard(conn, &[vec![hour, hour + 1], many].concat());
                Ok((parts_of(conn, 0, 100)?, parts_of(conn, 0, 100).and_then(|parts| count_fleet(conn, &parts))?))
            })
            .await;
        let (parts, fleet) = read.unwrap();
        assert_eq!(fleet, 302);
        assert_eq!((parts.first().unwrap().1, parts.last().unwrap().0), (i64::MAX, 0));
        assert!(parts.windows(2).all(|pair| pair[0].0 == pair[1].1), "{parts:?}");
        assert!(parts[1..].iter().all(|(from, before)| before - from <= WIDTH_MAX_MS), "{parts:?}");
        assert!(parts.len() < usize::try_from(day / WIDTH_MIN_MS).unwrap(), "{}", parts.len());
    }

    #[test]
    fn a_slow_part_is_followed_by_a_shorter_one_and_a_quick_one_by_a_longer_one() {
        assert_eq!(width_after(60_000, LOOK * 2), 30_000);
        assert_eq!(width_after(60_000, LOOK / 2), 60_000);
        assert_eq!(width_after(60_000, LOOK / 8), 120_000);
        assert_eq!(width_after(WIDTH_MIN_MS, LOOK * 100), WIDTH_MIN_MS);
        assert_eq!(width_after(WIDTH_MAX_MS, Duration::ZERO), WIDTH_MAX_MS);
    }
}
