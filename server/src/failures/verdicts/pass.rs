//! The pass that judges failures, and judging them again on demand. Pure rules decide; here is what is read before and
//! written after.
//!
//! The pass follows the order in which failures were received, a little behind the present, and keeps its place in the
//! transaction of the verdicts: after a crash it goes on where it was. What another server commits late is found by
//! looking again, now and then, for failures without a verdict. A verdict is inserted once, so that two servers at the
//! same failures count none twice.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::json;
use tillward_protocol::FieldError;

use super::gather::{Gathered, gather};
use super::store::{self, Again, CHECKED_AGAIN, CURSOR, FailureIn, Place};
use super::tables::{InForce, in_force};
use super::{NewVerdict, Source};
use crate::audit::{self, Actor, Deed};
use crate::clock::Now;
use crate::db::{self, Conn, Db, settings};
use crate::failures::classify::{Cause, judge_event};
use crate::operators::Caller;

/// Failures in one batch: some ten milliseconds of writing.
const BATCH: i64 = 100;
/// Batches in one pass; what is left is for the next, which begins at once.
const BATCHES_MAX: usize = 20;
/// How far behind the present the pass stays, ms: a batch of check-ins is committed by then, as a rule.
const SETTLED_MS: i64 = 2_000;
/// How often the pass looks for what was committed later than that, ms …
const CHECK_AGAIN_MS: i64 = 60_000;
/// … and how far back, ms: longer than a transaction may wait or servers' clocks may differ.
const LATE_MS_MAX: i64 = 15 * 60_000;
/// Longest pause after a batch.
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// Failures that one request may have judged again.
pub const REEVALUATED_MAX: i64 = 2_000;

/// Whether a pass left something to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// There may be more.
    More,
    /// It is done for now.
    Nothing,
}

/// Judges failures that have no verdict yet, at most some thousand. Idempotent; may be stopped at any point.
///
/// # Errors
/// [`db::Error`]; what was judged before stays judged.
pub async fn pass(db: &Db, now: Now) -> Result<Left, db::Error> {
    for _ in 0..BATCHES_MAX {
        let Some(batch) = db.read(move |conn| read(conn, now)).await? else {
            look_again(db, now).await?;
            return judge_completed(db, now).await;
        };
        let began = Instant::now();
        if !db.write(move |conn| write(conn, &batch, now)).await? {
            // Another server is at it.
            return Ok(Left::Nothing);
        }
        tokio::time::sleep(began.elapsed().min(PAUSE_MAX)).await;
    }
    Ok(Left::More)
}

/// Judged failures with the place that they lead from and to.
struct Batch {
    before: Option<String>,
    after: String,
    verdicts: Vec<NewVerdict>,
}

fn read(conn: &mut Conn, now: Now) -> Result<Option<Batch>, db::Error> {
    let before = settings::get(conn, CURSOR)?;
    let place: Place = before.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let failures = store::next(conn, &place, now.0 - SETTLED_MS, BATCH)?;
    let Some(last) = failures.last() else { return Ok(None) };
    let after: Place = (last.received_at_ms, last.terminal_id, last.event_id.clone());
    let after = serde_json::to_string(&after).unwrap_or_default();
    Ok(Some(Batch { before, after, verdicts: judge(conn, failures)? }))
}

/// Judges failures.
fn judge(conn: &mut Conn, failures: Vec<FailureIn>) -> Result<Vec<NewVerdict>, db::Error> {
    let mut tables: HashMap<String, Arc<InForce>> = HashMap::new();
    let mut verdicts = Vec::with_capacity(failures.len());
    for Gathered { failure, facts, sn, merchant_no } in gather(conn, failures)? {
        let in_force = match tables.get(&failure.org_path) {
            Some(known) => Arc::clone(known),
            None => {
                let found = in_force(conn, &failure.org_path)?;
                tables.insert(failure.org_path.clone(), Arc::clone(&found));
                found
            }
        };
        verdicts.push(NewVerdict {
            source: Source::Failure,
            terminal_id: Some(failure.terminal_id),
            sn,
            merchant_no,
            item: failure.event_id,
            org_path: failure.org_path,
            received_at_ms: failure.received_at_ms,
            response_code: failure.response_code,
            judgement: judge_event(&facts, &in_force.tables),
            tables: in_force,
        });
    }
    Ok(verdicts)
}

/// Writes a batch and moves on; `false` when another server did so first.
fn write(conn: &mut Conn, batch: &Batch, now: Now) -> Result<bool, db::Error> {
    if !store::advance(conn, CURSOR, batch.before.as_deref(), &batch.after)? {
        return Ok(false);
    }
    super::record_all(conn, &batch.verdicts, now)?;
    Ok(true)
}

/// Judges what was committed behind the pass; one server at a time, once a minute.
async fn look_again(db: &Db, now: Now) -> Result<(), db::Error> {
    let found = db
        .read(move |conn| {
            let last = settings::get(conn, CHECKED_AGAIN)?;
            let last_ms = last.as_deref().and_then(|text| text.parse::<i64>().ok()).unwrap_or(0);
            if now.0 - last_ms < CHECK_AGAIN_MS {
                return Ok(None);
            }
            let late = store::overlooked(conn, now.0 - LATE_MS_MAX, now.0 - SETTLED_MS, BATCH)?;
            let after = if i64::try_from(late.len()).is_ok_and(|n| n == BATCH) { last_ms } else { now.0 };
            Ok::<_, db::Error>(Some(Batch { before: last, after: after.to_string(), verdicts: judge(conn, late)? }))
        })
        .await?;
    let Some(batch) = found else { return Ok(()) };
    db.write(move |conn| {
        // The same moment again means that there is more: then nobody has to be first.
        if batch.before.as_deref() != Some(batch.after.as_str())
            && !store::advance(conn, CHECKED_AGAIN, batch.before.as_deref(), &batch.after)?
        {
            return Ok(());
        }
        super::record_all(conn, &batch.verdicts, now)?;
        Ok(())
    })
    .await
}

/// Judges the failures again that an organization had told of before their terminals reported them: in place of what was
/// said of them, which stays beside it, or for the first time where the pass has not come so far.
async fn judge_completed(db: &Db, now: Now) -> Result<Left, db::Error> {
    let found = db.read(|conn| store::completed(conn, BATCH)).await?;
    let left = if i64::try_from(found.len()).is_ok_and(|n| n == BATCH) { Left::More } else { Left::Nothing };
    if found.is_empty() {
        return Ok(left);
    }
    db.write(move |conn| {
        let mut failures = Vec::with_capacity(found.len());
        for (failure, completed_ms) in found {
            // Another server may have been faster, and the terminal may have told more meanwhile.
            if store::judges(conn, &failure, completed_ms)? {
                failures.push(failure);
            }
        }
        let verdicts = judge(conn, failures)?;
        super::put_all(conn, &verdicts, now)?;
        Ok(left)
    })
    .await
}

/// Which failures shall be judged again by the tables now in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ReevaluationAsked)]
pub struct Asked {
    /// Received at or after, Unix ms.
    pub from_ms: i64,
    /// Received before, Unix ms.
    pub to_ms: i64,
    /// Only of this terminal.
    #[serde(default)]
    pub terminal_id: Option<i64>,
    /// Only those whose verdict names this cause.
    #[serde(default)]
    pub cause: Option<String>,
    /// `next` of the answer before.
    #[serde(default)]
    pub after: Option<(i64, i64, String)>,
}

/// What judging again came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = Reevaluation)]
pub struct Reevaluated {
    /// Failures judged again.
    pub judged: i64,
    /// Those whose cause is another one now.
    pub changed: i64,
    /// Where to go on, when there are more than one request may have.
    pub next: Option<(i64, i64, String)>,
}

/// Judges failures of the caller's scope again, at most [`REEVALUATED_MAX`], each batch in a transaction of its own that is
/// written to the audit log. What was said before stays beside the verdict.
///
/// # Errors
/// [`Error`](super::EditError) naming a field that cannot be; a failure of the database, before which everything judged
/// stays judged.
pub async fn reevaluate(
    db: &Db,
    caller: Caller,
    actor: Actor,
    asked: Asked,
    now: Now,
) -> Result<Reevaluated, super::EditError> {
    let cause = match asked.cause.as_deref() {
        None | Some("") => None,
        Some(name) => Some(Cause::parse(name).ok_or_else(|| FieldError::new("cause", "is not known"))?.as_str()),
    };
    if asked.to_ms <= asked.from_ms {
        return Err(FieldError::new("to_ms", "must be after from_ms").into());
    }
    let mut place: Place = asked.after.clone().unwrap_or((asked.from_ms, 0, String::new()));
    let mut done = Reevaluated { judged: 0, changed: 0, next: None };
    while done.judged < REEVALUATED_MAX {
        let which = Again { terminal_id: asked.terminal_id, cause, from_ms: asked.from_ms, to_ms: asked.to_ms };
        let (scope, from) = (caller.scope.clone(), place.clone());
        let read = db.read(move |conn| {
            let failures = store::again(conn, &scope, &which, &from, BATCH)?;
            let last = failures.last().map(|row| (row.received_at_ms, row.terminal_id, row.event_id.clone()));
            Ok::<_, db::Error>((last, judge(conn, failures)?))
        });
        let (last, verdicts) = read.await?;
        let Some(last) = last else { return Ok(done) };
        let n = i64::try_from(verdicts.len()).unwrap_or(0);
        let (actor, org_path) = (actor.clone(), caller.scope.from().to_owned());
        let began = Instant::now();
        let changed = db.write(move |conn| write_again(conn, &verdicts, &actor, &org_path, now)).await?;
        done.judged += n;
        done.changed += changed;
        place = last;
        if n < BATCH {
            return Ok(done);
        }
        tokio::time::sleep(began.elapsed().min(PAUSE_MAX)).await;
    }
    done.next = Some(place);
    Ok(done)
}

fn write_again(
    conn: &mut Conn,
    verdicts: &[NewVerdict],
    actor: &Actor,
    org_path: &str,
    now: Now,
) -> Result<i64, db::Error> {
    let changed = super::replace_all(conn, verdicts, now)?;
    let versions: std::collections::BTreeSet<&str> =
        verdicts.iter().map(|verdict| verdict.tables.tables.version.as_str()).collect();
    let deed = Deed {
        action: "rules.reevaluate",
        object_kind: "failures",
        object_id: verdicts.len().to_string(),
        org_path,
        detail: json!({ "judged": verdicts.len(), "changed": changed, "tables_versions": versions }),
    };
    audit::append(conn, actor, &deed, now)?;
    Ok(changed)
}
