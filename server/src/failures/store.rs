//! SQL of failures and cohort cells.

use std::collections::HashMap;

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};

use super::{Class, FailingTerminal, FailureKey, FailureRow, Filter, Found};
use crate::db::schema::{
    cohort_cells, cohort_outcomes, cohorts, explanations, failures, imported_failures, pass_times, terminals,
};
use crate::db::{self, Conn, Sequence, next_id};
use crate::operators::Scope;

/// Ids in one `IN (…)`: below both databases' limit of parameters.
const IDS_MAX: usize = 10_000;
/// Outcomes listed at most.
const OUTCOMES_MAX: i64 = 50;

type Columns = (
    i64,
    String,
    String,
    i64,
    i64,
    String,
    Option<String>,
    String,
    Option<i64>,
    String,
    Option<String>,
    String,
    String,
    String,
    (Option<String>, Option<String>, String, String),
);

/// A row without its verdict.
fn row(columns: Columns) -> FailureRow {
    let (
        terminal_id,
        sn,
        event_id,
        occurred_at_ms,
        received_at_ms,
        stage,
        response_code,
        transaction_type,
        amount_fen,
        firmware,
        config_hash,
        access,
        carrier,
        signal,
        (source, told, event, org_path),
    ) = columns;
    FailureRow {
        terminal_id,
        sn,
        event_id,
        occurred_at_ms,
        received_at_ms,
        stage,
        response_code,
        transaction_type,
        amount_fen,
        firmware,
        config_hash,
        access,
        carrier,
        signal,
        event: serde_json::from_str(&event).unwrap_or_default(),
        told: told.and_then(|told| serde_json::from_str(&told).ok()),
        source,
        verdict: None,
        org_path,
    }
}

macro_rules! columns {
    () => {
        (
            failures::terminal_id,
            terminals::sn,
            failures::event_id,
            failures::occurred_at_ms,
            failures::received_at_ms,
            failures::stage,
            failures::response_code,
            failures::transaction_type,
            failures::amount_fen,
            failures::firmware,
            failures::config_hash,
            failures::access,
            failures::carrier,
            failures::signal,
            (
                imported_failures::source.nullable(),
                imported_failures::told_event.nullable(),
                failures::event,
                failures::org_path,
            ),
        )
    };
}

/// The failures of these keys, in their order. By primary key.
pub(super) fn by_keys(conn: &mut Conn, scope: &Scope, keys: &[FailureKey]) -> Result<Vec<FailureRow>, db::Error> {
    let ids: Vec<i64> = keys.iter().map(|(_, terminal_id, _)| *terminal_id).collect();
    let events: Vec<&str> = keys.iter().map(|(_, _, event)| event.as_str()).collect();
    let rows = failures::table
        .inner_join(terminals::table.on(terminals::id.eq(failures::terminal_id)))
        .left_join(
            imported_failures::table.on(imported_failures::terminal_id
                .eq(failures::terminal_id)
                .and(imported_failures::event_id.eq(failures::event_id))),
        )
        .filter(failures::org_path.ge(scope.from()))
        .filter(failures::org_path.lt(scope.below()))
        .filter(failures::terminal_id.eq_any(ids))
        .filter(failures::event_id.eq_any(events))
        .select(columns!())
        .load::<Columns>(conn)?;
    let mut found: HashMap<(i64, String), FailureRow> =
        rows.into_iter().map(row).map(|found| ((found.terminal_id, found.event_id.clone()), found)).collect();
    Ok(keys.iter().filter_map(|(_, id, event)| found.remove(&(*id, event.clone()))).collect())
}

/// Whose a failure is, as an expression: an index by organization would be taken for it, and all of them sorted by time.
const OWNER: &str = "failures.org_path || ''";

/// Newest first, of organizations in the scope as they were then. By `failures_by_terminal` for one terminal, else by
/// `failures_by_time`: who sees few terminals reads past the failures of the others.
pub(super) fn list(
    conn: &mut Conn,
    scope: &Scope,
    filter: &Filter,
    after: Option<&FailureKey>,
    limit: i64,
) -> Result<Vec<FailureRow>, db::Error> {
    let mut query = failures::table
        .inner_join(terminals::table.on(terminals::id.eq(failures::terminal_id)))
        .left_join(
            imported_failures::table.on(imported_failures::terminal_id
                .eq(failures::terminal_id)
                .and(imported_failures::event_id.eq(failures::event_id))),
        )
        .filter(sql::<Text>(OWNER).ge(scope.from()))
        .filter(sql::<Text>(OWNER).lt(scope.below()))
        .into_boxed();
    if let Some(terminal_id) = filter.terminal_id {
        query = query.filter(failures::terminal_id.eq(terminal_id));
    }
    if let Some(event_id) = &filter.event_id {
        query = query.filter(failures::event_id.eq(event_id));
    }
    if let Some(from_ms) = filter.from_ms {
        query = query.filter(failures::received_at_ms.ge(from_ms));
    }
    if let Some(code) = &filter.response_code {
        query = query.filter(failures::response_code.eq(code));
    }
    if let Some(stage) = &filter.stage {
        query = query.filter(failures::stage.eq(stage));
    }
    if let Some(firmware) = &filter.firmware {
        query = query.filter(failures::firmware.eq(firmware));
    }
    if let Some((at_ms, terminal_id, event_id)) = after {
        query = query.filter(
            failures::received_at_ms.lt(*at_ms).or(failures::received_at_ms.eq(*at_ms).and(
                failures::terminal_id
                    .lt(*terminal_id)
                    .or(failures::terminal_id.eq(*terminal_id).and(failures::event_id.lt(event_id))),
            )),
        );
    }
    let rows = query
        .order((failures::received_at_ms.desc(), failures::terminal_id.desc(), failures::event_id.desc()))
        .limit(limit)
        .select(columns!())
        .load::<Columns>(conn)?;
    Ok(rows.into_iter().map(row).collect())
}

/// Exposures and failed exposures by cohort, over the hours `from_ms..to_ms`. By primary key.
pub(super) fn cells(
    conn: &mut Conn,
    scope: &Scope,
    from_ms: i64,
    to_ms: i64,
) -> Result<HashMap<i64, (i64, i64)>, db::Error> {
    let rows: Vec<(i64, i64, i64)> = cohort_cells::table
        .inner_join(cohorts::table)
        .filter(cohorts::org_path.ge(scope.from()))
        .filter(cohorts::org_path.lt(scope.below()))
        .filter(cohort_cells::hour_ms.ge(from_ms))
        .filter(cohort_cells::hour_ms.lt(to_ms))
        .group_by(cohort_cells::cohort_id)
        .select((
            cohort_cells::cohort_id,
            sql::<BigInt>("CAST(SUM(cohort_cells.exposures) AS BIGINT)"),
            sql::<BigInt>("CAST(SUM(cohort_cells.failed_exposures) AS BIGINT)"),
        ))
        .load(conn)?;
    Ok(rows.into_iter().map(|(id, n, k)| (id, (n, k))).collect())
}

/// Whether there are more than `most` cells since `from_ms`. By primary key.
pub(super) fn has_more_cells(conn: &mut Conn, from_ms: i64, most: i64) -> Result<bool, db::Error> {
    let beyond: Option<i64> = cohort_cells::table
        .filter(cohort_cells::hour_ms.ge(from_ms))
        .order((cohort_cells::hour_ms, cohort_cells::cohort_id))
        .offset(most)
        .select(cohort_cells::cohort_id)
        .first(conn)
        .optional()?;
    Ok(beyond.is_some())
}

/// Narrows a query of `failures` to a class.
macro_rules! of_class {
    ($query:expr, $class:expr) => {{
        let query = $query.into_boxed();
        match $class {
            None => query,
            Some(class) => query.filter(
                failures::response_code
                    .eq_any(owned(&class.codes()))
                    .or(failures::response_code.is_null().and(failures::stage.eq_any(owned(&class.stages())))),
            ),
        }
    }};
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// When failures in these cohorts came in since `from_ms`, and of how many terminals, by minute; of one class alone if
/// that is given. By `failures_by_time`.
pub(super) fn moments(
    conn: &mut Conn,
    cohort_ids: &[i64],
    class: Option<&Class>,
    from_ms: i64,
) -> Result<Vec<(i64, i64)>, db::Error> {
    let mut moments = Vec::new();
    for ids in cohort_ids.chunks(IDS_MAX) {
        let query = failures::table
            .filter(failures::received_at_ms.ge(from_ms))
            .filter(failures::cohort_id.eq_any(ids.to_vec()))
            .group_by(sql::<BigInt>("failures.received_at_ms / 60000"))
            .select((
                sql::<BigInt>("MIN(failures.received_at_ms)"),
                sql::<BigInt>("COUNT(DISTINCT failures.terminal_id)"),
            ));
        moments.extend(of_class!(query, class).load::<(i64, i64)>(conn)?);
    }
    Ok(moments)
}

/// Failure events of these outcomes by cohort, over the hours `from_ms..to_ms`. By primary key.
pub(super) fn cells_of_outcomes(
    conn: &mut Conn,
    scope: &Scope,
    outcomes: &[String],
    from_ms: i64,
    to_ms: i64,
) -> Result<HashMap<i64, i64>, db::Error> {
    let rows: Vec<(i64, i64)> = cohort_outcomes::table
        .inner_join(cohorts::table)
        .filter(cohorts::org_path.ge(scope.from()))
        .filter(cohorts::org_path.lt(scope.below()))
        .filter(cohort_outcomes::hour_ms.ge(from_ms))
        .filter(cohort_outcomes::hour_ms.lt(to_ms))
        .filter(cohort_outcomes::outcome.eq_any(outcomes))
        .group_by(cohort_outcomes::cohort_id)
        .select((cohort_outcomes::cohort_id, sql::<BigInt>("CAST(SUM(cohort_outcomes.failures) AS BIGINT)")))
        .load(conn)?;
    Ok(rows.into_iter().collect())
}

/// The attributes of these cohorts, in the order of [`super::ATTRIBUTES`]. By primary key.
pub(super) fn cohorts(conn: &mut Conn, ids: &[i64]) -> Result<HashMap<i64, [String; 10]>, db::Error> {
    let mut found = HashMap::with_capacity(ids.len());
    for ids in ids.chunks(IDS_MAX) {
        let rows = cohorts::table
            .filter(cohorts::id.eq_any(ids.to_vec()))
            .select((
                cohorts::id,
                (cohorts::firmware, cohorts::model, cohorts::hardware, cohorts::app, cohorts::config_hash),
                (cohorts::region, cohorts::carrier, cohorts::access, cohorts::signal, cohorts::in_update),
            ))
            .load::<(i64, (String, String, String, String, String), (String, String, String, String, String))>(conn)?;
        found.extend(rows.into_iter().map(|(id, (firmware, model, hardware, app, config), place)| {
            let (region, carrier, access, signal, in_update) = place;
            (id, [firmware, model, hardware, app, config, region, carrier, access, signal, in_update])
        }));
    }
    Ok(found)
}

/// Failure events by outcome, most first.
pub(super) fn outcomes(conn: &mut Conn, scope: &Scope, from_ms: i64) -> Result<Vec<(String, i64)>, db::Error> {
    let total = "CAST(SUM(cohort_outcomes.failures) AS BIGINT)";
    let rows = cohort_outcomes::table
        .inner_join(cohorts::table)
        .filter(cohorts::org_path.ge(scope.from()))
        .filter(cohorts::org_path.lt(scope.below()))
        .filter(cohort_outcomes::hour_ms.ge(from_ms))
        .group_by(cohort_outcomes::outcome)
        .select((cohort_outcomes::outcome, sql::<BigInt>(total)))
        .order((sql::<BigInt>(total).desc(), cohort_outcomes::outcome))
        .limit(OUTCOMES_MAX)
        .load(conn)?;
    Ok(rows)
}

/// A terminal and, by cohort, its check-ins with a failure.
type FailedByCohort = (i64, Vec<(i64, i64)>);

/// The terminal with the most check-ins that tell of a failure in these cohorts since `from_ms`, of one class alone if that
/// is given. By `failures_by_time`.
pub(super) fn worst_terminal(
    conn: &mut Conn,
    cohort_ids: Vec<i64>,
    class: Option<&Class>,
    from_ms: i64,
) -> Result<Option<FailedByCohort>, db::Error> {
    let mut by_terminal: HashMap<i64, Vec<(i64, i64)>> = HashMap::new();
    for ids in cohort_ids.chunks(IDS_MAX) {
        let query = failures::table
            .filter(failures::received_at_ms.ge(from_ms))
            .filter(failures::cohort_id.eq_any(ids.to_vec()))
            .group_by((failures::terminal_id, failures::cohort_id))
            .select((
                failures::terminal_id,
                failures::cohort_id,
                sql::<BigInt>("CAST(COUNT(DISTINCT failures.received_at_ms) AS BIGINT)"),
            ));
        let rows: Vec<(i64, i64, i64)> = of_class!(query, class).load(conn)?;
        for (terminal_id, cohort_id, failed) in rows {
            by_terminal.entry(terminal_id).or_default().push((cohort_id, failed));
        }
    }
    let total = |parts: &[(i64, i64)]| parts.iter().map(|(_, failed)| failed).sum::<i64>();
    Ok(by_terminal.into_iter().max_by_key(|(id, parts)| (total(parts), std::cmp::Reverse(*id))))
}

/// Terminals of the scope with a failure in these cohorts since `from_ms`, of one class alone if that is given, those with
/// the most first. By `failures_by_time`.
pub(super) fn failing_terminals(
    conn: &mut Conn,
    scope: &Scope,
    cohort_ids: Vec<i64>,
    class: Option<&Class>,
    from_ms: i64,
) -> Result<Vec<FailingTerminal>, db::Error> {
    let mut by_terminal: HashMap<i64, FailingTerminal> = HashMap::new();
    for ids in cohort_ids.chunks(IDS_MAX) {
        let query = failures::table
            .inner_join(terminals::table.on(terminals::id.eq(failures::terminal_id)))
            .filter(terminals::org_path.ge(scope.from()))
            .filter(terminals::org_path.lt(scope.below()))
            .filter(failures::received_at_ms.ge(from_ms))
            .filter(failures::cohort_id.eq_any(ids.to_vec()))
            .group_by((terminals::id, terminals::sn))
            .select((terminals::id, terminals::sn, sql::<BigInt>("CAST(COUNT(*) AS BIGINT)")));
        let rows: Vec<(i64, String, i64)> = of_class!(query, class).load(conn)?;
        for (id, sn, failures) in rows {
            by_terminal.entry(id).or_insert(FailingTerminal { id, sn, failures: 0 }).failures += failures;
        }
    }
    let mut terminals: Vec<FailingTerminal> = by_terminal.into_values().collect();
    terminals.sort_unstable_by_key(|terminal| (std::cmp::Reverse(terminal.failures), terminal.id));
    Ok(terminals)
}

/// Organizations with failed exposures since `from_ms`, with their number. By primary key.
pub(super) fn failing_organizations(conn: &mut Conn, from_ms: i64) -> Result<Vec<(String, i64)>, db::Error> {
    Ok(cohort_cells::table
        .inner_join(cohorts::table)
        .filter(cohort_cells::hour_ms.ge(from_ms))
        .filter(cohort_cells::failed_exposures.gt(0))
        .group_by(cohorts::org_path)
        .select((cohorts::org_path, sql::<BigInt>("CAST(SUM(cohort_cells.failed_exposures) AS BIGINT)")))
        .load(conn)?)
}

/// Moves the time of a pass on if it is due, and says since when it was; whoever does that, does the pass.
pub(super) fn claim_pass(conn: &mut Conn, pass: &str, now_ms: i64, next_ms: i64) -> Result<Option<i64>, db::Error> {
    let due_ms: Option<i64> = pass_times::table.find(pass).select(pass_times::due_ms).first(conn).optional()?;
    let Some(due_ms) = due_ms.filter(|due_ms| *due_ms <= now_ms) else { return Ok(None) };
    let due = pass_times::table.filter(pass_times::pass.eq(pass)).filter(pass_times::due_ms.eq(due_ms));
    Ok((diesel::update(due).set(pass_times::due_ms.eq(next_ms)).execute(conn)? > 0).then_some(due_ms))
}

/// Keeps what a scan found.
pub(super) fn insert_found(conn: &mut Conn, found: &Found) -> Result<(), db::Error> {
    let id = next_id(conn, Sequence::Explanations)?;
    diesel::insert_into(explanations::table)
        .values((
            explanations::id.eq(id),
            explanations::org_path.eq(&found.org_path),
            explanations::class.eq(&found.class),
            explanations::from_ms.eq(found.from_ms),
            explanations::to_ms.eq(found.to_ms),
            explanations::report.eq(found.report.to_string()),
        ))
        .execute(conn)?;
    Ok(())
}

/// What scans found within the scope, newest first, before the number `before`. By `explanations_by_org`.
pub(super) fn found(conn: &mut Conn, scope: &Scope, before: Option<i64>, limit: i64) -> Result<Vec<Found>, db::Error> {
    let rows: Vec<(i64, String, String, i64, i64, String)> = explanations::table
        .filter(explanations::org_path.ge(scope.from()))
        .filter(explanations::org_path.lt(scope.below()))
        .filter(explanations::id.lt(before.unwrap_or(i64::MAX)))
        .order(explanations::id.desc())
        .limit(limit)
        .load(conn)?;
    let found = |(id, org_path, class, from_ms, to_ms, report): (i64, String, String, i64, i64, String)| Found {
        id,
        org_path,
        class,
        from_ms,
        to_ms,
        report: serde_json::from_str(&report).unwrap_or_default(),
    };
    Ok(rows.into_iter().map(found).collect())
}

/// Deletes what was found before `before_ms`, at most [`IDS_MAX`]. By `explanations_by_time`.
pub(super) fn delete_found(conn: &mut Conn, before_ms: i64) -> Result<usize, db::Error> {
    let old: Vec<i64> = explanations::table
        .filter(explanations::to_ms.lt(before_ms))
        .limit(i64::try_from(IDS_MAX).unwrap_or(i64::MAX))
        .select(explanations::id)
        .load(conn)?;
    Ok(diesel::delete(explanations::table.filter(explanations::id.eq_any(old))).execute(conn)?)
}
