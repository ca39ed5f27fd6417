//! SQL of the terminal list.

use diesel::dsl::{IntoBoxed, Select, count_star, sql};
use diesel::prelude::*;
use diesel::sql_types::BigInt;

use super::{Connection, Count, DORMANT_MS, Key, MISSING_MS, OFFLINE_GRACE_MS, Sort, TerminalRow, Wanted};
use crate::clock::Now;
use crate::db::schema::{organizations, terminal_states, terminals};
use crate::db::{self, Conn};
use crate::operators::Scope;
use crate::terminals::lifecycle::Lifecycle;

type Backend = <Conn as diesel::Connection>::Backend;
type States<'a> = IntoBoxed<'a, terminal_states::table, Backend>;
type Seen = (terminal_states::last_seen_ms, terminal_states::terminal_id);

/// Keys of terminals in the order of `sort`, after `after`: by `terminal_states_by_id` or
/// `terminal_states_by_last_seen`, never by the rows.
pub(super) fn ids(
    conn: &mut Conn,
    wanted: &Wanted,
    sort: Sort,
    after: Option<Key>,
    limit: usize,
) -> Result<Vec<Key>, db::Error> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    match sort {
        Sort::Id => {
            let rows = by_id(wanted, after, limit).load::<i64>(conn)?;
            Ok(rows.into_iter().map(|id| Key { sort, last_seen_ms: 0, id }).collect())
        }
        Sort::LastSeen => {
            let rows = by_last_seen(wanted, after, limit).load::<(i64, i64)>(conn)?;
            Ok(rows.into_iter().map(|(last_seen_ms, id)| Key { sort, last_seen_ms, id }).collect())
        }
    }
}

/// Of `ids`, the keys of those that are wanted; in no order.
pub(super) fn among(conn: &mut Conn, wanted: &Wanted, sort: Sort, ids: &[i64]) -> Result<Vec<Key>, db::Error> {
    /// Values that one statement binds: below every database's limit.
    const BOUND_MAX: usize = 500;
    let mut keys = Vec::new();
    for chunk in ids.chunks(BOUND_MAX) {
        let query = narrowed(terminal_states::table.into_boxed(), wanted)
            .filter(terminal_states::terminal_id.eq_any(chunk.to_vec()))
            .select((terminal_states::last_seen_ms, terminal_states::terminal_id));
        let rows = query.load::<(i64, i64)>(conn)?;
        keys.extend(rows.into_iter().map(|(last_seen_ms, id)| {
            let last_seen_ms = if sort == Sort::Id { 0 } else { last_seen_ms };
            Key { sort, last_seen_ms, id }
        }));
    }
    Ok(keys)
}

/// Only the number is selected: with any other column the database would rather read the rows.
fn by_id<'a>(wanted: &'a Wanted, after: Option<Key>, limit: i64) -> Select<States<'a>, terminal_states::terminal_id> {
    narrowed(terminal_states::table.into_boxed(), wanted)
        .filter(terminal_states::terminal_id.gt(after.map_or(0, |key| key.id)))
        .order(terminal_states::terminal_id)
        .limit(limit)
        .select(terminal_states::terminal_id)
}

fn by_last_seen<'a>(wanted: &'a Wanted, after: Option<Key>, limit: i64) -> Select<States<'a>, Seen> {
    let mut query = narrowed(terminal_states::table.into_boxed(), wanted);
    if let Some(Key { last_seen_ms, id, .. }) = after {
        // The first condition gives the index its range, the second leaves out the rows before the key within it.
        query = query
            .filter(terminal_states::last_seen_ms.le(last_seen_ms))
            .filter(terminal_states::last_seen_ms.lt(last_seen_ms).or(terminal_states::terminal_id.lt(id)));
    }
    query
        .order((terminal_states::last_seen_ms.desc(), terminal_states::terminal_id.desc()))
        .limit(limit)
        .select((terminal_states::last_seen_ms, terminal_states::terminal_id))
}

/// Every condition but the search text.
fn narrowed<'a>(query: States<'a>, wanted: &'a Wanted) -> States<'a> {
    let filter = &wanted.filter;
    let mut query = query
        .filter(terminal_states::org_path.ge(wanted.scope.from()))
        .filter(terminal_states::org_path.lt(wanted.scope.below()));
    if let Some(model) = &filter.model {
        query = query.filter(terminal_states::model.eq(model));
    }
    if let Some(lifecycle) = filter.lifecycle {
        query = query.filter(terminal_states::lifecycle.eq(lifecycle.as_str()));
    }
    if let Some(region) = &filter.region {
        query = query.filter(terminal_states::region.eq(region));
    }
    if let Some(firmware) = &filter.firmware {
        query = query.filter(terminal_states::firmware.eq(firmware));
    }
    if let Some(tag) = &filter.tag {
        query = query.filter(terminal_states::tags.like(whole_tag(tag)).escape('\\'));
    }
    match filter.connection {
        Some(connection) => connected(query, connection, wanted.now),
        None => query,
    }
}

fn whole_tag(tag: &str) -> String {
    let escaped = tag.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    format!("%,{escaped},%")
}

/// The thresholds of [`Connection::of`], as ranges of the index where they do not depend on the interval.
fn connected(query: States<'_>, connection: Connection, now: Now) -> States<'_> {
    let dormant_before = now.0 - DORMANT_MS;
    let missing_before = now.0 - MISSING_MS;
    let seen = terminal_states::last_seen_ms;
    match connection {
        Connection::Never => query.filter(seen.eq(0)),
        Connection::Dormant => query.filter(seen.gt(0)).filter(seen.lt(dormant_before)),
        Connection::Missing => query.filter(seen.ge(dormant_before.max(1))).filter(seen.lt(missing_before)),
        Connection::Offline => query
            .filter(seen.ge(missing_before.max(1)))
            .filter((seen + terminal_states::interval_s * 3_000).lt(now.0 - OFFLINE_GRACE_MS)),
        Connection::Late => query
            .filter(seen.ge(missing_before.max(1)))
            .filter((seen + terminal_states::interval_s * 3_000).ge(now.0 - OFFLINE_GRACE_MS))
            .filter((seen + terminal_states::interval_s * 1_500).lt(now.0)),
        Connection::Online => query
            .filter(seen.ge(missing_before.max(1)))
            .filter((seen + terminal_states::interval_s * 3_000).ge(now.0 - OFFLINE_GRACE_MS))
            .filter((seen + terminal_states::interval_s * 1_500).ge(now.0)),
    }
}

#[derive(Queryable)]
struct Registered {
    id: i64,
    sn: String,
    tusn: Option<String>,
    model: String,
    organization_id: i64,
    org_path: String,
    merchant_no: Option<String>,
    merchant_name: Option<String>,
    store_name: Option<String>,
    terminal_no: Option<String>,
    region: String,
    lifecycle: String,
    enrolled_at_ms: Option<i64>,
    desired_config_hash: Option<String>,
    version: i64,
}

#[derive(Queryable)]
struct Reported {
    last_seen_ms: i64,
    next_check_in_ms: i64,
    interval_s: i64,
    check_ins: i64,
    failures: i64,
    firmware: String,
    slot: String,
    agent: String,
    app: Option<String>,
    config_hash: Option<String>,
    access: String,
    carrier: String,
    signal: String,
    tags: Option<String>,
}

/// Rows by primary key, in the order of `ids`; what is outside `scope` is left out.
pub(super) fn rows(conn: &mut Conn, scope: &Scope, ids: &[i64], now: Now) -> Result<Vec<TerminalRow>, db::Error> {
    let found: Vec<(Registered, Reported, String)> = terminals::table
        .inner_join(terminal_states::table.on(terminal_states::terminal_id.eq(terminals::id)))
        .inner_join(organizations::table.on(organizations::id.eq(terminals::organization_id)))
        .filter(terminals::id.eq_any(ids))
        .filter(terminals::org_path.ge(scope.from()))
        .filter(terminals::org_path.lt(scope.below()))
        .select((
            (
                terminals::id,
                terminals::sn,
                terminals::tusn,
                terminals::model,
                terminals::organization_id,
                terminals::org_path,
                terminals::merchant_no,
                terminals::merchant_name,
                terminals::store_name,
                terminals::terminal_no,
                terminals::region,
                terminals::lifecycle,
                terminals::enrolled_at_ms,
                terminals::desired_config_hash,
                terminals::version,
            ),
            (
                terminal_states::last_seen_ms,
                terminal_states::next_check_in_ms,
                terminal_states::interval_s,
                terminal_states::check_ins,
                terminal_states::failures,
                terminal_states::firmware,
                terminal_states::slot,
                terminal_states::agent,
                terminal_states::app,
                terminal_states::config_hash,
                terminal_states::access,
                terminal_states::carrier,
                terminal_states::signal,
                terminal_states::tags,
            ),
            organizations::name,
        ))
        .load(conn)?;
    let mut rows: Vec<TerminalRow> =
        found.into_iter().map(|(known, reported, organization)| row(known, reported, organization, now)).collect();
    rows.sort_by_key(|row| ids.iter().position(|&id| id == row.id));
    Ok(rows)
}

fn row(known: Registered, reported: Reported, organization_name: String, now: Now) -> TerminalRow {
    let given = |text: String| Some(text).filter(|text| !text.is_empty());
    let seen = |ms: i64| Some(ms).filter(|_| reported.last_seen_ms > 0);
    TerminalRow {
        id: known.id,
        sn: known.sn,
        tusn: known.tusn,
        model: known.model,
        organization_id: known.organization_id,
        organization_name,
        org_path: known.org_path,
        merchant_no: known.merchant_no,
        merchant_name: known.merchant_name,
        store_name: known.store_name,
        terminal_no: known.terminal_no,
        region: known.region,
        tags: reported.tags.unwrap_or_default().split(',').filter(|tag| !tag.is_empty()).map(str::to_owned).collect(),
        // The table's own check lets no other name in.
        lifecycle: Lifecycle::parse(&known.lifecycle).unwrap_or(Lifecycle::Blocked),
        enrolled_at_ms: known.enrolled_at_ms,
        desired_config_hash: known.desired_config_hash,
        version: known.version,
        connection: Connection::of(reported.last_seen_ms, reported.interval_s, now),
        last_seen_ms: seen(reported.last_seen_ms),
        next_check_in_ms: seen(reported.next_check_in_ms),
        firmware: given(reported.firmware),
        slot: given(reported.slot),
        agent: given(reported.agent),
        app: reported.app,
        config_hash: reported.config_hash,
        access: given(reported.access),
        carrier: given(reported.carrier),
        signal: given(reported.signal),
        check_ins: reported.check_ins,
        failures: reported.failures,
    }
}

/// Fields that a search text may be the beginning of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Searched {
    /// `terminals_sn` (unique).
    Sn,
    /// `terminals_sn_reversed` (unique).
    SnReversed,
    /// `terminals_by_merchant_no`.
    MerchantNo,
    /// `terminals_by_terminal_no`.
    TerminalNo,
    /// `terminals_by_merchant_name`.
    MerchantName,
    /// `terminals_by_store_name`.
    StoreName,
}

/// Numbers of up to `limit` terminals whose field begins with `start`, from that field's index alone. The scope is
/// applied later: an index that began with it could not serve a search over the whole tree.
pub(super) fn beginning_with(conn: &mut Conn, field: Searched, start: &str, limit: i64) -> Result<Vec<i64>, db::Error> {
    // No character sorts after this one.
    let end = format!("{start}\u{10ffff}");
    let ids = terminals::table.select(terminals::id).limit(limit).into_boxed();
    let ids = match field {
        Searched::Sn => ids.filter(terminals::sn.ge(start)).filter(terminals::sn.lt(end)),
        Searched::SnReversed => ids.filter(terminals::sn_reversed.ge(start)).filter(terminals::sn_reversed.lt(end)),
        Searched::MerchantNo => ids.filter(terminals::merchant_no.ge(start)).filter(terminals::merchant_no.lt(end)),
        Searched::TerminalNo => ids.filter(terminals::terminal_no.ge(start)).filter(terminals::terminal_no.lt(end)),
        Searched::MerchantName => {
            ids.filter(terminals::merchant_name.ge(start)).filter(terminals::merchant_name.lt(end))
        }
        Searched::StoreName => ids.filter(terminals::store_name.ge(start)).filter(terminals::store_name.lt(end)),
    };
    Ok(ids.load(conn)?)
}

/// One pass over `terminal_states_by_last_seen`. The thresholds are those of [`Connection::of`].
pub(super) fn count_connections(conn: &mut Conn, scope: &Scope, now: Now) -> Result<Vec<Count>, db::Error> {
    // Numbers of ours, not text of anybody: they need no binding.
    let count = |condition: String| sql::<BigInt>(&format!("COUNT(CASE WHEN {condition} THEN 1 END)"));
    let dormant_before = now.0 - DORMANT_MS;
    let missing_before = now.0 - MISSING_MS;
    let offline_before = now.0 - OFFLINE_GRACE_MS;
    let recent = format!("last_seen_ms > 0 AND last_seen_ms >= {missing_before}");
    let in_time = format!("last_seen_ms + interval_s * 3000 >= {offline_before}");
    let (total, never, dormant, missing, offline, late): (i64, i64, i64, i64, i64, i64) = terminal_states::table
        .filter(terminal_states::org_path.ge(scope.from()))
        .filter(terminal_states::org_path.lt(scope.below()))
        .select((
            count_star(),
            count("last_seen_ms = 0".to_owned()),
            count(format!("last_seen_ms > 0 AND last_seen_ms < {dormant_before}")),
            count(format!("last_seen_ms > 0 AND last_seen_ms >= {dormant_before} AND last_seen_ms < {missing_before}")),
            count(format!("{recent} AND last_seen_ms + interval_s * 3000 < {offline_before}")),
            count(format!("{recent} AND {in_time} AND last_seen_ms + interval_s * 1500 < {}", now.0)),
        ))
        .first(conn)?;
    let terminals = |connection| match connection {
        Connection::Never => never,
        Connection::Dormant => dormant,
        Connection::Missing => missing,
        Connection::Offline => offline,
        Connection::Late => late,
        Connection::Online => total - never - dormant - missing - offline - late,
    };
    let all = Connection::ALL.into_iter();
    Ok(all.map(|state| Count { value: state.as_str().to_owned(), terminals: terminals(state) }).collect())
}

/// One pass over `terminal_states_by_id`.
pub(super) fn count_lifecycles(conn: &mut Conn, scope: &Scope) -> Result<Vec<Count>, db::Error> {
    let rows: Vec<(Option<String>, i64)> = terminal_states::table
        .filter(terminal_states::org_path.ge(scope.from()))
        .filter(terminal_states::org_path.lt(scope.below()))
        .group_by(terminal_states::lifecycle)
        .select((terminal_states::lifecycle, count_star()))
        .order(terminal_states::lifecycle)
        .load(conn)?;
    Ok(rows.into_iter().map(|(value, terminals)| Count { value: value.unwrap_or_default(), terminals }).collect())
}

/// One pass over `terminal_states_by_id`. There are as many rows as versions, a few dozen.
pub(super) fn count_firmwares(conn: &mut Conn, scope: &Scope) -> Result<Vec<Count>, db::Error> {
    let rows: Vec<(String, i64)> = terminal_states::table
        .filter(terminal_states::org_path.ge(scope.from()))
        .filter(terminal_states::org_path.lt(scope.below()))
        .group_by(terminal_states::firmware)
        .select((terminal_states::firmware, count_star()))
        .load(conn)?;
    Ok(rows.into_iter().map(|(value, terminals)| Count { value, terminals }).collect())
}

#[cfg(test)]
mod tests {
    use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
    use diesel::sql_types::{Integer, Text};

    use super::*;
    use crate::db::{Db, Location};
    use crate::terminals::list::Filter;

    struct Explained<Q>(Q);

    impl<Q> QueryId for Explained<Q> {
        type QueryId = ();
        const HAS_STATIC_QUERY_ID: bool = false;
    }

    impl<Q> Query for Explained<Q> {
        type SqlType = (Integer, Integer, Integer, Text);
    }

    impl<Q: QueryFragment<Backend>> QueryFragment<Backend> for Explained<Q> {
        fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Backend>) -> QueryResult<()> {
            out.unsafe_to_cache_prepared();
            out.push_sql("EXPLAIN QUERY PLAN ");
            self.0.walk_ast(out)
        }
    }

    impl<Q> RunQueryDsl<Conn> for Explained<Q> {}

    fn filters() -> Vec<Filter> {
        let text = || Some("x".to_owned());
        let mut filters = vec![
            Filter::default(),
            Filter { model: text(), ..Filter::default() },
            Filter { lifecycle: Some(Lifecycle::Active), ..Filter::default() },
            Filter { region: text(), ..Filter::default() },
            Filter { tag: text(), ..Filter::default() },
            Filter { firmware: text(), ..Filter::default() },
            Filter { model: text(), region: text(), tag: text(), firmware: text(), ..Filter::default() },
        ];
        let connections = Connection::ALL.into_iter();
        filters.extend(connections.map(|state| Filter {
            connection: Some(state),
            firmware: text(),
            ..Filter::default()
        }));
        filters
    }

    #[test]
    fn no_order_of_the_list_sorts_or_reads_rows_that_it_does_not_show() {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::open(&Location::Sqlite(folder.path().join("db"))).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let plans = runtime.block_on(db.read(|conn| {
            let mut plans = Vec::new();
            for filter in filters() {
                let scope = Scope::subtree("/1/");
                let wanted = Wanted { scope, filter, now: Now(1_800_000_000_000) };
                for last_seen_ms in [None, Some(1_790_000_000_000)] {
                    let key = |sort| last_seen_ms.map(|last_seen_ms| Key { sort, last_seen_ms, id: 7 });
                    let mut explained: Vec<(i32, i32, i32, String)> =
                        Explained(by_last_seen(&wanted, key(Sort::LastSeen), 21)).load(conn)?;
                    if wanted.filter.connection.is_none() {
                        explained.extend(
                            Explained(by_id(&wanted, key(Sort::Id), 21)).load::<(i32, i32, i32, String)>(conn)?,
                        );
                    }
                    plans.extend(explained.into_iter().map(|(_, _, _, plan)| (wanted.filter.clone(), plan)));
                }
            }
            Ok::<_, db::Error>(plans)
        }));
        let plans = plans.unwrap();
        assert!(plans.len() > 30);
        for (filter, plan) in plans {
            assert!(plan.contains("COVERING INDEX terminal_states_by_"), "{plan} for {filter:?}");
            assert!(!plan.contains("TEMP B-TREE"), "{plan} for {filter:?}");
        }
    }
}
