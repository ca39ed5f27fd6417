//! SQL of the list of what terminals need.

use diesel::prelude::*;

use crate::db::schema::{terminal_care, terminal_states, terminals, work_orders};
use crate::db::{self, Conn};
use crate::maintenance::list::{Device, DueFilter, DueKey, DueTerminal};
use crate::maintenance::orders::State;
use crate::maintenance::reason::{Reason, Urgency};
use crate::operators::Scope;
use crate::terminals::Lifecycle;

/// Rows of an index that one statement goes through: some milliseconds.
const PART_ROWS: i64 = 50_000;
/// Combinations of reasons that are counted: of ten reasons few terminals have more than three.
const COMBINATIONS_MAX: usize = 1_000;

type DueColumns = (
    (i64, String, String, String, Option<String>, Option<String>, Option<String>),
    (i64, String, i64, Option<i64>, Option<String>),
    i64,
);

/// Most urgent first, then the newest terminal. The page's terminals are found in the covering index alone, so that a filter
/// which hardly any terminal meets costs one pass over it; their rows are read by primary keys. The registry's own
/// organization decides: where the copy is old, the page is filled from further down.
pub(in crate::maintenance) fn due(
    conn: &mut Conn,
    scope: &Scope,
    filter: &DueFilter,
    mut after: Option<DueKey>,
    limit: usize,
) -> Result<Vec<DueTerminal>, db::Error> {
    let mut found = Vec::new();
    loop {
        let wanted = limit - found.len();
        let keys = due_keys(conn, scope, filter, after, wanted, PART_ROWS)?;
        let is_last = keys.len() < wanted;
        after = keys.last().copied().or(after);
        found.extend(due_rows(conn, scope, keys.into_iter().map(|(_, id)| id).collect())?);
        if is_last || found.len() >= limit {
            break;
        }
    }
    let ids: Vec<i64> = found.iter().map(|row| row.terminal_id).collect();
    for (terminal_id, order_id) in live_orders(conn, scope, ids)? {
        if let Some(row) = found.iter_mut().find(|row| row.terminal_id == terminal_id) {
            row.work_order_ids.push(order_id);
        }
    }
    Ok(found)
}

/// Part by part, so that no statement goes through all that is due in a fleet.
fn due_keys(
    conn: &mut Conn,
    scope: &Scope,
    filter: &DueFilter,
    mut after: Option<DueKey>,
    limit: usize,
    part_rows: i64,
) -> Result<Vec<DueKey>, db::Error> {
    let mut found = Vec::new();
    loop {
        let end = part_end(conn, filter, after, part_rows)?;
        let wanted = limit.saturating_sub(found.len());
        found.extend(keys_in_part(conn, scope, filter, (after, end), wanted)?);
        if end.is_none() || found.len() >= limit {
            return Ok(found);
        }
        after = end;
    }
}

/// Where the part after `after` ends, in whatever organization; none when it is the last one. By `terminal_care_due`, read
/// backwards.
fn part_end(
    conn: &mut Conn,
    filter: &DueFilter,
    after: Option<DueKey>,
    part_rows: i64,
) -> Result<Option<DueKey>, db::Error> {
    if filter.terminal_id.is_some() {
        // That one is found by its primary key.
        return Ok(None);
    }
    let mut query = terminal_care::table
        .filter(terminal_care::urgency.ge(filter.urgency.unwrap_or(Urgency::Planned).rank()))
        .into_boxed();
    if let Some((urgency, terminal_id)) = after {
        query = query
            .filter(terminal_care::urgency.le(urgency))
            .filter(terminal_care::urgency.lt(urgency).or(terminal_care::terminal_id.lt(terminal_id)));
    }
    let last = query
        .order((terminal_care::urgency.desc(), terminal_care::terminal_id.desc()))
        .offset(part_rows - 1)
        .limit(1)
        .select((terminal_care::urgency, terminal_care::terminal_id))
        .load::<DueKey>(conn)?;
    Ok(last.first().copied())
}

/// After the first of these keys, up to the second. By `terminal_care_due`, read backwards.
fn keys_in_part(
    conn: &mut Conn,
    scope: &Scope,
    filter: &DueFilter,
    (after, end): (Option<DueKey>, Option<DueKey>),
    limit: usize,
) -> Result<Vec<DueKey>, db::Error> {
    let mut query = terminal_care::table
        .filter(terminal_care::urgency.ge(filter.urgency.unwrap_or(Urgency::Planned).rank()))
        .filter(terminal_care::org_path.ge(scope.from()))
        .filter(terminal_care::org_path.lt(scope.below()))
        .into_boxed();
    if let Some(reason) = filter.reason {
        query = query.filter(terminal_care::reasons.like(like(reason)));
    }
    if let Some(terminal_id) = filter.terminal_id {
        query = query.filter(terminal_care::terminal_id.eq(terminal_id));
    }
    if let Some((urgency, terminal_id)) = after {
        // The first condition lets the index begin there; an "or" alone would not.
        query = query
            .filter(terminal_care::urgency.le(urgency))
            .filter(terminal_care::urgency.lt(urgency).or(terminal_care::terminal_id.lt(terminal_id)));
    }
    if let Some((urgency, terminal_id)) = end {
        query = query
            .filter(terminal_care::urgency.ge(urgency))
            .filter(terminal_care::urgency.gt(urgency).or(terminal_care::terminal_id.ge(terminal_id)));
    }
    let keys = query
        .order((terminal_care::urgency.desc(), terminal_care::terminal_id.desc()))
        .limit(i64::try_from(limit).unwrap_or(i64::MAX))
        .select((terminal_care::urgency, terminal_care::terminal_id));
    Ok(keys.load(conn)?)
}

/// By primary keys.
fn due_rows(conn: &mut Conn, scope: &Scope, ids: Vec<i64>) -> Result<Vec<DueTerminal>, db::Error> {
    let rows = terminal_care::table
        .inner_join(terminals::table.on(terminals::id.eq(terminal_care::terminal_id)))
        .inner_join(terminal_states::table.on(terminal_states::terminal_id.eq(terminal_care::terminal_id)))
        .filter(terminal_care::terminal_id.eq_any(ids))
        .filter(terminals::org_path.ge(scope.from()))
        .filter(terminals::org_path.lt(scope.below()))
        .order((terminal_care::urgency.desc(), terminal_care::terminal_id.desc()))
        .select((
            (
                terminals::id,
                terminals::sn,
                terminals::model,
                terminals::org_path,
                terminals::merchant_no,
                terminals::merchant_name,
                terminals::store_name,
            ),
            (
                terminal_care::urgency,
                terminal_care::findings,
                terminal_care::judged_at_ms,
                terminal_care::inspected_at_ms,
                terminal_care::inspected_by,
            ),
            terminal_states::last_seen_ms,
        ))
        .load::<DueColumns>(conn)?;
    Ok(rows.into_iter().filter_map(due_terminal).collect())
}

fn like(reason: Reason) -> String {
    format!("%,{},%", reason.as_str())
}

fn due_terminal((terminal, care, last_seen_ms): DueColumns) -> Option<DueTerminal> {
    let (terminal_id, sn, model, org_path, merchant_no, merchant_name, store_name) = terminal;
    let (urgency, findings, judged_at_ms, inspected_at_ms, inspected_by) = care;
    Some(DueTerminal {
        terminal_id,
        sn,
        model,
        org_path,
        merchant_no,
        merchant_name,
        store_name,
        urgency: Urgency::of_rank(urgency)?,
        findings: serde_json::from_str(&findings).unwrap_or_default(),
        judged_at_ms,
        inspected_at_ms,
        inspected_by,
        last_seen_ms: (last_seen_ms > 0).then_some(last_seen_ms),
        work_order_ids: Vec::new(),
    })
}

/// Orders of these terminals that are not over. By `work_orders_by_terminal`.
fn live_orders(conn: &mut Conn, scope: &Scope, ids: Vec<i64>) -> Result<Vec<(i64, i64)>, db::Error> {
    let rows = work_orders::table
        .filter(work_orders::terminal_id.eq_any(ids))
        .filter(work_orders::state.eq_any(State::LIVE.map(State::as_str)))
        .filter(work_orders::org_path.ge(scope.from()))
        .filter(work_orders::org_path.lt(scope.below()))
        .order(work_orders::id)
        .select((work_orders::terminal_id, work_orders::id));
    Ok(rows.load(conn)?)
}

/// How many terminals of the scope have which reasons, one statement for each combination that there is. By
/// `terminal_care_by_reasons`: only the scope's own rows are counted through.
pub(in crate::maintenance) fn counts(conn: &mut Conn, scope: &Scope) -> Result<Vec<(Vec<Reason>, i64)>, db::Error> {
    let mut counts = Vec::new();
    let mut names = String::new();
    for _ in 0..COMBINATIONS_MAX {
        let next: Option<String> = terminal_care::table
            .filter(terminal_care::reasons.gt(&names))
            .order(terminal_care::reasons)
            .select(terminal_care::reasons)
            .first(conn)
            .optional()?;
        let Some(next) = next else { break };
        names = next;
        let n: i64 = terminal_care::table
            .filter(terminal_care::reasons.eq(&names))
            .filter(terminal_care::org_path.ge(scope.from()))
            .filter(terminal_care::org_path.lt(scope.below()))
            .count()
            .get_result(conn)?;
        if n > 0 {
            counts.push((names.split(',').filter_map(Reason::parse).collect(), n));
        }
    }
    Ok(counts)
}

type DeviceColumns = (
    (i64, String, Option<String>, String, Option<String>, String, String),
    (Option<String>, Option<String>, Option<String>, Option<String>, String),
    (String, i64),
    Option<(Option<i64>, Option<String>, Option<i64>, Option<i64>)>,
);

/// Those of these terminals that are in the scope and were not retired, in the order of their numbers. By primary keys.
pub(in crate::maintenance) fn devices(conn: &mut Conn, scope: &Scope, ids: &[i64]) -> Result<Vec<Device>, db::Error> {
    let rows = terminals::table
        .inner_join(terminal_states::table.on(terminal_states::terminal_id.eq(terminals::id)))
        .left_join(terminal_care::table.on(terminal_care::terminal_id.eq(terminals::id)))
        .filter(terminals::id.eq_any(ids.to_vec()))
        .filter(terminals::org_path.ge(scope.from()))
        .filter(terminals::org_path.lt(scope.below()))
        .filter(terminals::lifecycle.ne_all([Lifecycle::Retired, Lifecycle::Blocked].map(Lifecycle::as_str)))
        .order(terminals::id)
        .select((
            (
                terminals::id,
                terminals::sn,
                terminals::tusn,
                terminals::model,
                terminals::hardware,
                terminals::org_path,
                terminals::lifecycle,
            ),
            (
                terminals::merchant_no,
                terminals::merchant_name,
                terminals::store_name,
                terminals::terminal_no,
                terminals::region,
            ),
            (terminal_states::firmware, terminal_states::last_seen_ms),
            (
                terminal_care::inspected_at_ms,
                terminal_care::inspected_by,
                terminal_care::inspection_order_id,
                terminal_care::inspection_proven,
            )
                .nullable(),
        ))
        .load::<DeviceColumns>(conn)?;
    Ok(rows.into_iter().map(device).collect())
}

fn device((terminal, place, state, inspection): DeviceColumns) -> Device {
    let (terminal_id, sn, tusn, model, hardware, org_path, lifecycle) = terminal;
    let (merchant_no, merchant_name, store_name, terminal_no, region) = place;
    let (firmware, last_seen_ms) = state;
    let (inspected_at_ms, inspected_by, inspection_order_id, proven) = inspection.unwrap_or_default();
    Device {
        terminal_id,
        sn,
        tusn,
        model,
        hardware,
        org_path,
        lifecycle,
        merchant_no,
        merchant_name,
        store_name,
        terminal_no,
        region,
        firmware,
        last_seen_ms: (last_seen_ms > 0).then_some(last_seen_ms),
        inspected_at_ms,
        inspected_by,
        inspection_order_id,
        inspection_proven: proven.map(|proven| proven != 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::{Db, Location};

    /// What is due of a terminal, without the terminal.
    fn plant(conn: &mut Conn, id: i64, org_path: &str, urgency: i64, reasons: &str) {
        diesel::sql_query(format!(
            "INSERT INTO terminal_care (terminal_id, org_path, urgency, reasons, findings, judged_at_ms, version) \
             VALUES ({id}, '{org_path}', {urgency}, '{reasons}', '[]', 1, 1)"
        ))
        .execute(conn)
        .unwrap();
    }

    #[tokio::test]
    async fn what_is_due_is_found_and_counted_part_by_part_as_it_is_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::open(&Location::Sqlite(folder.path().join("db"))).unwrap();
        let read: Result<_, db::Error> = db
            .write(|conn| {
                for id in 1..=9 {
                    plant(conn, id, if id % 4 == 0 { "/1/2/" } else { "/1/3/" }, 1 + id % 3, ",age,");
                }
                plant(conn, 10, "/1/2/", 0, "");
                plant(conn, 11, "/1/2/", 3, ",tamper,age,");
                let (all, filter) = (Scope::subtree("/1/"), DueFilter::default());
                let part = Scope::subtree("/1/2/");
                let mut found = Vec::new();
                for rows in [1, 2, 3, 10, 100] {
                    let whole = due_keys(conn, &all, &filter, None, 100, rows)?;
                    let own = due_keys(conn, &part, &filter, None, 100, rows)?;
                    let rest = due_keys(conn, &all, &filter, Some((2, 7)), 3, rows)?;
                    found.push((whole, own, rest));
                }
                Ok((found, counts(conn, &all)?, counts(conn, &part)?))
            })
            .await;
        let (found, all, part) = read.unwrap();
        let order = [(3, 11), (3, 8), (3, 5), (3, 2), (2, 7), (2, 4), (2, 1), (1, 9), (1, 6), (1, 3)];
        for (whole, own, rest) in found {
            assert_eq!(whole, order);
            assert_eq!(own, [(3, 11), (3, 8), (2, 4)]);
            assert_eq!(rest, [(2, 4), (2, 1), (1, 9)]);
        }
        let age = vec![Reason::Age];
        let both = vec![Reason::Tamper, Reason::Age];
        assert_eq!(all, [(age.clone(), 9), (both.clone(), 1)]);
        assert_eq!(part, [(age, 2), (both, 1)]);
    }
}
