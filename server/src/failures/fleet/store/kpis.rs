//! SQL of the fleet's numbers.

use diesel::dsl::{count_star, sql};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable};

use crate::clock::Now;
use crate::db::schema::{
    cohort_cells, cohort_outcomes, cohorts, incidents, sim_cards, terminal_states, verdict_counts,
};
use crate::db::{self, Conn};
use crate::failures::classify::Cause;
use crate::failures::verdicts::Source;
use crate::failures::{Class, Group};
use crate::operators::Scope;

/// Successful payments of one hour and of cohorts above one and up to another. By primary key of the cells.
pub(in super::super) fn payments_ok(
    conn: &mut Conn,
    scope: &Scope,
    hour_ms: i64,
    (above, up_to): (i64, i64),
) -> Result<i64, db::Error> {
    let sum = cohort_cells::table
        .inner_join(cohorts::table)
        .filter(cohort_cells::hour_ms.eq(hour_ms))
        .filter(cohort_cells::cohort_id.gt(above))
        .filter(cohort_cells::cohort_id.le(up_to))
        .filter(cohorts::org_path.ge(scope.from()))
        .filter(cohorts::org_path.lt(scope.below()))
        .select(sql::<BigInt>("CAST(COALESCE(SUM(cohort_cells.transactions_ok), 0) AS BIGINT)"));
    Ok(sum.first(conn)?)
}

/// Technical failures, likewise. By primary key of the outcomes.
pub(in super::super) fn payments_failed(
    conn: &mut Conn,
    scope: &Scope,
    hour_ms: i64,
    (above, up_to): (i64, i64),
) -> Result<i64, db::Error> {
    let sum = cohort_outcomes::table
        .inner_join(cohorts::table)
        .filter(cohort_outcomes::hour_ms.eq(hour_ms))
        .filter(cohort_outcomes::cohort_id.gt(above))
        .filter(cohort_outcomes::cohort_id.le(up_to))
        .filter(cohorts::org_path.ge(scope.from()))
        .filter(cohorts::org_path.lt(scope.below()))
        .filter(cohort_outcomes::outcome.eq_any(Class::Group(Group::Technical).outcomes()))
        .select(sql::<BigInt>("CAST(COALESCE(SUM(cohort_outcomes.failures), 0) AS BIGINT)"));
    Ok(sum.first(conn)?)
}

/// Verdicts on failures of one hour, and those that name a cause. By primary key of the counts.
pub(in super::super) fn explained(conn: &mut Conn, scope: &Scope, hour_ms: i64) -> Result<(i64, i64), db::Error> {
    let named =
        format!("CAST(COALESCE(SUM(CASE WHEN cause <> '{}' THEN n ELSE 0 END), 0) AS BIGINT)", Cause::Unknown.as_str());
    let counts = verdict_counts::table
        .filter(verdict_counts::source.eq(Source::Failure.as_str()))
        .filter(verdict_counts::hour_ms.eq(hour_ms))
        .filter(verdict_counts::org_path.ge(scope.from()))
        .filter(verdict_counts::org_path.lt(scope.below()))
        .select((sql::<BigInt>("CAST(COALESCE(SUM(n), 0) AS BIGINT)"), sql::<BigInt>(&named)));
    Ok(counts.first(conn)?)
}

/// Terminals in use that call as they should, and those heard since `since_ms`. By `terminal_states_by_last_seen`.
pub(in super::super) fn online(
    conn: &mut Conn,
    scope: &Scope,
    since_ms: i64,
    now: Now,
) -> Result<(i64, i64), db::Error> {
    let online = format!(
        "CAST(COALESCE(SUM(CASE WHEN last_seen_ms + interval_s * 1500 >= {} THEN 1 ELSE 0 END), 0) AS BIGINT)",
        now.0
    );
    let (mut calling, mut all) = (0, 0);
    for (from_ms, before_ms) in super::silence::parts(conn, since_ms)? {
        let counts: (i64, i64) = terminal_states::table
            .filter(terminal_states::last_seen_ms.ge(from_ms))
            .filter(terminal_states::last_seen_ms.lt(before_ms))
            .filter(terminal_states::org_path.ge(scope.from()))
            .filter(terminal_states::org_path.lt(scope.below()))
            .filter(terminal_states::lifecycle.eq_any(["bound", "active"]))
            .select((sql::<BigInt>(&online), count_star()))
            .first(conn)?;
        (calling, all) = (calling + counts.0, all + counts.1);
    }
    Ok((calling, all))
}

/// Incidents opened since `since_ms` whose beginning is known, and how long it took on average until they were. By
/// `incidents_by_org`.
pub(in super::super) fn detected(
    conn: &mut Conn,
    scope: &Scope,
    since_ms: i64,
) -> Result<(i64, Option<i64>), db::Error> {
    let mean = sql::<Nullable<BigInt>>("CAST(AVG(opened_at_ms - began_at_ms) AS BIGINT)");
    let row = incidents::table
        .filter(incidents::org_path.ge(scope.from()))
        .filter(incidents::org_path.lt(scope.below()))
        .filter(incidents::opened_at_ms.ge(since_ms))
        .filter(incidents::began_at_ms.is_not_null())
        .select((count_star(), mean));
    Ok(row.first(conn)?)
}

/// Incidents resolved since `since_ms` and how long they took on average. By `incidents_by_state`.
pub(in super::super) fn repaired(
    conn: &mut Conn,
    scope: &Scope,
    since_ms: i64,
) -> Result<(i64, Option<i64>), db::Error> {
    let mean = sql::<Nullable<BigInt>>("CAST(AVG(resolved_at_ms - opened_at_ms) AS BIGINT)");
    let row = incidents::table
        .filter(incidents::state.eq("resolved"))
        .filter(incidents::org_path.ge(scope.from()))
        .filter(incidents::org_path.lt(scope.below()))
        .filter(incidents::resolved_at_ms.ge(since_ms))
        .select((count_star(), mean));
    Ok(row.first(conn)?)
}

/// Cards that end between two moments. By `sim_cards_by_expiry`.
pub(in super::super) fn cards_ending(
    conn: &mut Conn,
    scope: &Scope,
    from_ms: i64,
    to_ms: i64,
) -> Result<i64, db::Error> {
    let count = sim_cards::table
        .filter(sim_cards::expires_at_ms.ge(from_ms))
        .filter(sim_cards::expires_at_ms.le(to_ms))
        .filter(sim_cards::org_path.ge(scope.from()))
        .filter(sim_cards::org_path.lt(scope.below()))
        .select(count_star());
    Ok(count.first(conn)?)
}
