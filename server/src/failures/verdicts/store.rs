//! SQL of verdicts.

pub(super) mod facts;
pub(super) mod tables;

use std::collections::BTreeSet;

use diesel::dsl::{exists, not, sql};
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use serde_json::Value;

use super::view::{VerdictFilter, VerdictKey};
use super::{CountKey, EARLIER_MAX, NewVerdict, Source, Summary};
use crate::clock::Now;
use crate::db::schema::{failures, imported_failures, settings, terminals, verdict_counts, verdicts};
use crate::db::{self, Conn};
use crate::failures::classify::{FindingKind, Judgement, Severity};
use crate::on_backend;
use crate::operators::Scope;

const HOUR_MS: i64 = 3_600_000;
/// Verdicts deleted in one transaction: a few milliseconds.
const DELETED_MAX: i64 = 500;

/// Where the pass is: the failure that it judged last.
pub(super) const CURSOR: &str = "verdicts_cursor";
/// When it last looked for what came late.
pub(super) const CHECKED_AGAIN: &str = "verdicts_checked_again_ms";

/// Moves the pass from `before` on, unless another server was faster; returns whether it did.
pub(super) fn advance(conn: &mut Conn, key: &str, before: Option<&str>, after: &str) -> Result<bool, db::Error> {
    let moved = match before {
        Some(before) => {
            let row = settings::table.find(key).filter(settings::value.eq(before));
            diesel::update(row).set(settings::value.eq(after)).execute(conn)?
        }
        None => {
            let row = (settings::key.eq(key), settings::value.eq(after));
            on_backend!(conn, |c| diesel::insert_into(settings::table).values(row).on_conflict_do_nothing().execute(c))?
        }
    };
    Ok(moved == 1)
}

/// A failure as the pass reads it.
#[derive(Debug, Clone, PartialEq, Eq, Queryable)]
pub(super) struct FailureIn {
    pub(super) terminal_id: i64,
    pub(super) event_id: String,
    pub(super) occurred_at_ms: i64,
    pub(super) received_at_ms: i64,
    pub(super) org_path: String,
    pub(super) stage: String,
    pub(super) response_code: Option<String>,
    pub(super) firmware: String,
    pub(super) config_hash: Option<String>,
    pub(super) carrier: String,
    pub(super) event: String,
}

macro_rules! failure_columns {
    () => {
        (
            failures::terminal_id,
            failures::event_id,
            failures::occurred_at_ms,
            failures::received_at_ms,
            failures::org_path,
            failures::stage,
            failures::response_code,
            failures::firmware,
            failures::config_hash,
            failures::carrier,
            failures::event,
        )
    };
}

/// A place in the order in which failures came: received at, terminal, event.
pub(super) type Place = (i64, i64, String);

/// Failures after `place`, up to `until_ms`, oldest first. By `failures_by_time`.
pub(super) fn next(conn: &mut Conn, place: &Place, until_ms: i64, limit: i64) -> Result<Vec<FailureIn>, db::Error> {
    let (at_ms, terminal_id, event_id) = place;
    let rows = failures::table
        .filter(failures::received_at_ms.ge(*at_ms))
        .filter(failures::received_at_ms.le(until_ms))
        .filter(
            failures::received_at_ms.gt(*at_ms).or(failures::terminal_id
                .gt(*terminal_id)
                .or(failures::terminal_id.eq(*terminal_id).and(failures::event_id.gt(event_id)))),
        )
        .order((failures::received_at_ms, failures::terminal_id, failures::event_id))
        .limit(limit)
        .select(failure_columns!())
        .load(conn)?;
    Ok(rows)
}

/// Failures received from `from_ms` to `until_ms` that have no verdict: what was committed behind the pass. By
/// `failures_by_time` and the verdicts' primary key.
pub(super) fn overlooked(
    conn: &mut Conn,
    from_ms: i64,
    until_ms: i64,
    limit: i64,
) -> Result<Vec<FailureIn>, db::Error> {
    let its_own = verdicts::table
        .filter(verdicts::source.eq(Source::Failure.as_str()))
        .filter(verdicts::terminal_id.eq(failures::terminal_id))
        .filter(verdicts::item.eq(failures::event_id));
    let rows = failures::table
        .filter(failures::received_at_ms.ge(from_ms))
        .filter(failures::received_at_ms.le(until_ms))
        .filter(not(exists(its_own)))
        .order((failures::received_at_ms, failures::terminal_id, failures::event_id))
        .limit(limit)
        .select(failure_columns!())
        .load(conn)?;
    Ok(rows)
}

/// Failures that an organization had told of and that their terminals have reported since, in the order of their keys, each
/// with when it was. By `imported_failures_completed`.
pub(super) fn completed(conn: &mut Conn, limit: i64) -> Result<Vec<(FailureIn, i64)>, db::Error> {
    let own = imported_failures::terminal_id
        .eq(failures::terminal_id)
        .and(imported_failures::event_id.eq(failures::event_id));
    let rows: Vec<(FailureIn, Option<i64>)> = imported_failures::table
        .inner_join(failures::table.on(own))
        .filter(imported_failures::completed_ms.is_not_null())
        .order((imported_failures::terminal_id, imported_failures::event_id))
        .limit(limit)
        .select((failure_columns!(), imported_failures::completed_ms))
        .load(conn)?;
    Ok(rows.into_iter().filter_map(|(failure, at_ms)| Some((failure, at_ms?))).collect())
}

/// Takes such a failure on to be judged; `false` when it is judged by now, or has been reported once more.
pub(super) fn judges(conn: &mut Conn, failure: &FailureIn, completed_ms: i64) -> Result<bool, db::Error> {
    let mark = imported_failures::table
        .find((failure.terminal_id, &failure.event_id))
        .filter(imported_failures::completed_ms.eq(completed_ms));
    let taken = diesel::update(mark).set(imported_failures::completed_ms.eq(None::<i64>)).execute(conn)?;
    Ok(taken == 1)
}

/// Which failures are judged again.
pub(super) struct Again {
    pub(super) terminal_id: Option<i64>,
    pub(super) cause: Option<&'static str>,
    pub(super) from_ms: i64,
    pub(super) to_ms: i64,
}

/// Failures of the scope's terminals with their verdicts, after `place`, oldest first. By `failures_by_time`, or by
/// `failures_by_terminal` for one terminal.
pub(super) fn again(
    conn: &mut Conn,
    scope: &Scope,
    which: &Again,
    place: &Place,
    limit: i64,
) -> Result<Vec<FailureIn>, db::Error> {
    let (at_ms, after_terminal, after_event) = place;
    let its_own = verdicts::source
        .eq(Source::Failure.as_str())
        .and(verdicts::terminal_id.eq(failures::terminal_id))
        .and(verdicts::item.eq(failures::event_id));
    let mut query = failures::table
        .inner_join(terminals::table.on(terminals::id.eq(failures::terminal_id)))
        .inner_join(verdicts::table.on(its_own))
        .filter(terminals::org_path.ge(scope.from()))
        .filter(terminals::org_path.lt(scope.below()))
        .filter(failures::received_at_ms.ge(which.from_ms.max(*at_ms)))
        .filter(failures::received_at_ms.lt(which.to_ms))
        .filter(
            failures::received_at_ms.gt(*at_ms).or(failures::terminal_id
                .gt(*after_terminal)
                .or(failures::terminal_id.eq(*after_terminal).and(failures::event_id.gt(after_event)))),
        )
        .into_boxed();
    if let Some(id) = which.terminal_id {
        query = query.filter(failures::terminal_id.eq(id));
    }
    if let Some(cause) = which.cause {
        query = query.filter(verdicts::cause.eq(cause));
    }
    let rows = query
        .order((failures::received_at_ms, failures::terminal_id, failures::event_id))
        .limit(limit)
        .select(failure_columns!())
        .load(conn)?;
    Ok(rows)
}

/// Inserts a verdict; `false` when there is one already.
pub(super) fn insert(conn: &mut Conn, new: &NewVerdict, now: Now) -> Result<bool, db::Error> {
    let summary = Summary::of(new);
    let row = (
        verdicts::source.eq(new.source.as_str()),
        verdicts::terminal_id.eq(new.terminal_id.unwrap_or(0)),
        verdicts::item.eq(&new.item),
        verdicts::org_path.eq(&new.org_path),
        verdicts::received_at_ms.eq(new.received_at_ms),
        verdicts::response_code.eq(&new.response_code),
        verdicts::rule.eq(summary.rule),
        verdicts::symptom.eq(summary.symptom.as_str()),
        verdicts::cause.eq(new.judgement.cause().as_str()),
        verdicts::severity.eq(summary.severity.as_str()),
        verdicts::standing.eq(summary.standing.as_str()),
        verdicts::confidence_percent.eq(summary.confidence_percent),
        verdicts::judgement.eq(json(&new.judgement)),
        verdicts::tables_hash.eq(&new.tables.tables.version),
        verdicts::judged_at_ms.eq(now.0),
        verdicts::revision.eq(1),
        verdicts::earlier.eq("[]"),
    );
    let inserted =
        on_backend!(conn, |c| diesel::insert_into(verdicts::table).values(row).on_conflict_do_nothing().execute(c))?;
    Ok(inserted == 1)
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// A verdict as it stands.
#[derive(Debug, Clone, PartialEq, Queryable)]
pub(super) struct Stored {
    pub(super) terminal_id: i64,
    pub(super) item: String,
    pub(super) org_path: String,
    pub(super) received_at_ms: i64,
    pub(super) rule: Option<String>,
    pub(super) symptom: String,
    pub(super) cause: String,
    pub(super) severity: String,
    pub(super) standing: String,
    pub(super) judgement: String,
    pub(super) tables_hash: String,
    pub(super) judged_at_ms: i64,
    pub(super) revision: i64,
    pub(super) earlier: String,
}

macro_rules! stored_columns {
    () => {
        (
            verdicts::terminal_id,
            verdicts::item,
            verdicts::org_path,
            verdicts::received_at_ms,
            verdicts::rule,
            verdicts::symptom,
            verdicts::cause,
            verdicts::severity,
            verdicts::standing,
            verdicts::judgement,
            verdicts::tables_hash,
            verdicts::judged_at_ms,
            verdicts::revision,
            verdicts::earlier,
        )
    };
}

impl Stored {
    /// What it is counted under.
    pub(super) fn count_key(&self, source: Source) -> CountKey {
        CountKey {
            source,
            hour_ms: Now(self.received_at_ms).hour_ms(),
            org_path: self.org_path.clone(),
            cause: self.cause.clone(),
            symptom: self.symptom.clone(),
        }
    }

    /// Whether `new` says the very same of the same payment or failure, by the same tables.
    pub(super) fn is_same(&self, new: &NewVerdict) -> bool {
        self.judgement == json(&new.judgement)
            && self.tables_hash == new.tables.tables.version
            && self.org_path == new.org_path
            && self.received_at_ms == new.received_at_ms
    }

    /// Whether `new` says what nobody was told yet: another rule, cause, severity or standing, another finding, or to
    /// another organization. An age that grew is no news.
    pub(super) fn is_news(&self, new: &NewVerdict) -> bool {
        let summary = Summary::of(new);
        let says_the_same = self.rule.as_deref() == summary.rule
            && self.cause == new.judgement.cause().as_str()
            && self.severity == summary.severity.as_str()
            && self.standing == summary.standing.as_str()
            && self.org_path == new.org_path;
        let before: Judgement = serde_json::from_str(&self.judgement).unwrap_or_default();
        !says_the_same || !found(&new.judgement).is_subset(&found(&before))
    }
}

/// A finding, with what was seen first and what it was held against.
type Shown<'a> = (FindingKind, Severity, Option<(&'a str, &'a str)>);

/// The findings of a judgement, each with what shows it first.
fn found(judgement: &Judgement) -> BTreeSet<Shown<'_>> {
    let findings = judgement.findings.iter().map(|finding| {
        let shown = finding.reasons.first().map(|reason| (reason.observed.as_str(), reason.threshold.as_str()));
        (finding.kind, finding.severity, shown)
    });
    findings.collect()
}

/// The verdict about the same thing, by primary key.
pub(super) fn find(conn: &mut Conn, new: &NewVerdict) -> Result<Option<Stored>, db::Error> {
    let key = (new.source.as_str(), new.terminal_id.unwrap_or(0), &new.item);
    Ok(verdicts::table.find(key).select(stored_columns!()).first(conn).optional()?)
}

/// Verdicts of these failures. By primary key.
pub(super) fn of_failures(conn: &mut Conn, keys: &[(i64, &str)]) -> Result<Vec<Stored>, db::Error> {
    let terminals: Vec<i64> = keys.iter().map(|(terminal_id, _)| *terminal_id).collect();
    let items: Vec<&str> = keys.iter().map(|(_, item)| *item).collect();
    let rows = verdicts::table
        .filter(verdicts::source.eq(Source::Failure.as_str()))
        .filter(verdicts::terminal_id.eq_any(terminals))
        .filter(verdicts::item.eq_any(items))
        .select(stored_columns!())
        .load(conn)?;
    Ok(rows)
}

/// Puts the new judgement in the place of the old, which stays beside it. Compare-and-set on the revision.
pub(super) fn replace(conn: &mut Conn, before: &Stored, new: &NewVerdict, now: Now) -> Result<(), db::Error> {
    let summary = Summary::of(new);
    let mut earlier: Vec<Value> = serde_json::from_str(&before.earlier).unwrap_or_default();
    earlier.insert(
        0,
        serde_json::json!({
            "rule": before.rule, "cause": before.cause, "symptom": before.symptom,
            "tables_version": before.tables_hash, "judged_at_ms": before.judged_at_ms,
        }),
    );
    earlier.truncate(EARLIER_MAX);
    let row = verdicts::table
        .find((new.source.as_str(), new.terminal_id.unwrap_or(0), &new.item))
        .filter(verdicts::revision.eq(before.revision));
    let written = diesel::update(row)
        .set((
            verdicts::org_path.eq(&new.org_path),
            verdicts::received_at_ms.eq(new.received_at_ms),
            verdicts::rule.eq(summary.rule),
            verdicts::symptom.eq(summary.symptom.as_str()),
            verdicts::cause.eq(new.judgement.cause().as_str()),
            verdicts::severity.eq(summary.severity.as_str()),
            verdicts::standing.eq(summary.standing.as_str()),
            verdicts::confidence_percent.eq(summary.confidence_percent),
            verdicts::judgement.eq(json(&new.judgement)),
            verdicts::tables_hash.eq(&new.tables.tables.version),
            verdicts::judged_at_ms.eq(now.0),
            verdicts::revision.eq(before.revision + 1),
            verdicts::earlier.eq(json(&earlier)),
        ))
        .execute(conn)?;
    if written == 1 { Ok(()) } else { Err(db::Error::Query(diesel::result::Error::RollbackTransaction)) }
}

/// Deletes the verdicts about these things that name no terminal, and returns them. By primary key.
pub(super) fn take_back_unknown(conn: &mut Conn, source: Source, items: &[String]) -> Result<Vec<Stored>, db::Error> {
    let taken: Vec<Stored> = verdicts::table
        .filter(verdicts::source.eq(source.as_str()))
        .filter(verdicts::terminal_id.eq(0))
        .filter(verdicts::item.eq_any(items))
        .select(stored_columns!())
        .load(conn)?;
    for row in &taken {
        diesel::delete(verdicts::table.find((source.as_str(), row.terminal_id, &row.item))).execute(conn)?;
    }
    Ok(taken)
}

/// Adds to a count.
pub(super) fn count(conn: &mut Conn, key: &CountKey, by: i64) -> Result<(), db::Error> {
    let row = (
        verdict_counts::source.eq(key.source.as_str()),
        verdict_counts::hour_ms.eq(key.hour_ms),
        verdict_counts::org_path.eq(&key.org_path),
        verdict_counts::cause.eq(&key.cause),
        verdict_counts::symptom.eq(&key.symptom),
        verdict_counts::n.eq(by),
    );
    on_backend!(conn, |c| diesel::insert_into(verdict_counts::table)
        .values(row)
        .on_conflict((
            verdict_counts::source,
            verdict_counts::hour_ms,
            verdict_counts::org_path,
            verdict_counts::cause,
            verdict_counts::symptom
        ))
        .do_update()
        .set(verdict_counts::n.eq(verdict_counts::n + by))
        .execute(c))?;
    Ok(())
}

/// Verdicts by cause and symptom since `from_ms`, most first. By primary key.
pub(super) fn causes(
    conn: &mut Conn,
    scope: &Scope,
    source: Source,
    from_ms: i64,
) -> Result<Vec<(String, String, i64)>, db::Error> {
    let total = "CAST(SUM(verdict_counts.n) AS BIGINT)";
    let rows: Vec<(String, String, i64)> = verdict_counts::table
        .filter(verdict_counts::source.eq(source.as_str()))
        .filter(verdict_counts::hour_ms.ge(from_ms))
        .filter(verdict_counts::org_path.ge(scope.from()))
        .filter(verdict_counts::org_path.lt(scope.below()))
        .group_by((verdict_counts::cause, verdict_counts::symptom))
        .select((verdict_counts::cause, verdict_counts::symptom, sql::<BigInt>(total)))
        .order((sql::<BigInt>(total).desc(), verdict_counts::cause, verdict_counts::symptom))
        .load(conn)?;
    Ok(rows.into_iter().filter(|(_, _, n)| *n > 0).collect())
}

/// Failures by what their verdicts say, newest first, of terminals that are in the scope now. By `verdicts_by_cause` or
/// `verdicts_by_symptom`.
pub(super) fn keys(
    conn: &mut Conn,
    scope: &Scope,
    filter: &VerdictFilter,
    after: Option<&VerdictKey>,
    limit: i64,
) -> Result<Vec<VerdictKey>, db::Error> {
    let its_own = failures::terminal_id.eq(verdicts::terminal_id).and(failures::event_id.eq(verdicts::item));
    let mut query = verdicts::table
        .inner_join(terminals::table.on(terminals::id.eq(verdicts::terminal_id)))
        .inner_join(failures::table.on(its_own))
        .filter(verdicts::source.eq(Source::Failure.as_str()))
        .filter(terminals::org_path.ge(scope.from()))
        .filter(terminals::org_path.lt(scope.below()))
        .into_boxed();
    if let Some(cause) = filter.cause {
        query = query.filter(verdicts::cause.eq(cause.as_str()));
    }
    if let Some(symptom) = filter.symptom {
        query = query.filter(verdicts::symptom.eq(symptom.as_str()));
    }
    if let Some(code) = &filter.response_code {
        query = query.filter(verdicts::response_code.eq(code));
    }
    if let Some(stage) = &filter.stage {
        query = query.filter(failures::stage.eq(stage));
    }
    if let Some(firmware) = &filter.firmware {
        query = query.filter(failures::firmware.eq(firmware));
    }
    if let Some(id) = filter.terminal_id {
        query = query.filter(verdicts::terminal_id.eq(id));
    }
    if let Some(from_ms) = filter.from_ms {
        query = query.filter(verdicts::received_at_ms.ge(from_ms));
    }
    if let Some((at_ms, terminal_id, item)) = after {
        query = query.filter(
            verdicts::received_at_ms.lt(*at_ms).or(verdicts::received_at_ms.eq(*at_ms).and(
                verdicts::terminal_id
                    .lt(*terminal_id)
                    .or(verdicts::terminal_id.eq(*terminal_id).and(verdicts::item.lt(item))),
            )),
        );
    }
    let rows = query
        .order((verdicts::received_at_ms.desc(), verdicts::terminal_id.desc(), verdicts::item.desc()))
        .limit(limit)
        .select((verdicts::received_at_ms, verdicts::terminal_id, verdicts::item))
        .load(conn)?;
    Ok(rows)
}

/// Deletes at most [`DELETED_MAX`] verdicts received before `before_ms`, and the counts of whole hours before it. By
/// `verdicts_by_time`.
pub(super) fn delete_old(conn: &mut Conn, source: Source, before_ms: i64) -> Result<usize, db::Error> {
    let oldest: Vec<(i64, String)> = verdicts::table
        .filter(verdicts::source.eq(source.as_str()))
        .filter(verdicts::received_at_ms.lt(before_ms))
        .order((verdicts::received_at_ms, verdicts::terminal_id, verdicts::item))
        .limit(DELETED_MAX)
        .select((verdicts::terminal_id, verdicts::item))
        .load(conn)?;
    let mut deleted = 0;
    for (terminal_id, item) in oldest {
        deleted += diesel::delete(verdicts::table.find((source.as_str(), terminal_id, item))).execute(conn)?;
    }
    let counts = verdict_counts::table
        .filter(verdict_counts::source.eq(source.as_str()))
        .filter(verdict_counts::hour_ms.lt(before_ms - HOUR_MS));
    deleted += diesel::delete(counts).execute(conn)?;
    Ok(deleted)
}
