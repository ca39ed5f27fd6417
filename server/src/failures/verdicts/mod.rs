//! Verdicts: what the rules say about each failure and each settlement, kept with everything that it rests on.
//!
//! Failures are judged by a pass of its own, off the path of check-ins; settlements by whoever compares them, with
//! [`record_all`]. A verdict names the tables it was judged by. An edit of the tables changes none: what was judged before is
//! judged again only when somebody asks for it, and what was said earlier stays beside it.

mod findings;
mod gather;
pub mod http;
mod pass;
mod store;
mod tables;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::clock::Now;
use crate::db::{self, Conn, Db};
use crate::failures::classify::{Judgement, Severity, Standing, Symptom};
use crate::failures::incidents;

pub use gather::{PEERS_EXPOSURES_MIN, PEERS_FAILED_PERCENT_MAX, peers_fine};
pub use pass::{Asked, Left, REEVALUATED_MAX, Reevaluated, pass, reevaluate};
pub use tables::{
    Edit, EditError, Edited, InForce, RowOrigin, RowView, TableView, TablesView, edit, in_force, show, version,
};
pub use view::{AdviceView, CauseCount, Causes, EarlierVerdict, Of, VerdictFilter, VerdictView, attach, causes, keys};

/// Verdicts of failures are kept as long as failures, ms.
pub const FAILURE_VERDICTS_KEPT_MS: i64 = crate::checkin::retention::FAILURES_KEPT_MS;
/// Verdicts of settlements are kept as long as settlements (thirteen months), ms.
pub const SETTLEMENT_VERDICTS_KEPT_MS: i64 = crate::checkin::retention::CELLS_KEPT_MS;
/// What was said earlier is kept up to so many times.
const EARLIER_MAX: usize = 5;

/// What was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// A failure that a terminal reported or somebody imported.
    Failure,
    /// A settlement: a row of a channel's feed, or what a query or a bill says.
    Settlement,
}

impl Source {
    /// Name in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::Settlement => "settlement",
        }
    }
}

/// A judgement with what it is about.
#[derive(Debug, Clone)]
pub struct NewVerdict {
    /// What was judged.
    pub source: Source,
    /// Terminal; `None` when none of ours is known.
    pub terminal_id: Option<i64>,
    /// Its serial number, for people.
    pub sn: Option<String>,
    /// The bound merchant number, by which incidents of settlements are grouped.
    pub merchant_no: Option<String>,
    /// Of a failure its event, of a settlement the feed's own key: unique with source and terminal.
    pub item: String,
    /// Organization whose it is, as a path.
    pub org_path: String,
    /// When it came in, Unix ms.
    pub received_at_ms: i64,
    /// Response code, to look for.
    pub response_code: Option<String>,
    /// What the rules say.
    pub judgement: Judgement,
    /// The tables it was judged by, from [`in_force`].
    pub tables: Arc<InForce>,
}

/// Stores verdicts within the caller's transaction, each once, and returns how many were new. Opens the incidents that
/// their findings ask for; a number to be reviewed is none, its list is the caller's.
///
/// Costs a statement for each verdict, one for each hour, organization and cause among them, and an incident's where there
/// is one. Call it before the caller's own entry in the audit log. Rows are written in the order of their keys, so that
/// transactions never wait for each other in a circle.
///
/// # Errors
/// [`db::Error`]; the caller's transaction must then be given up.
pub fn record_all(conn: &mut Conn, new: &[NewVerdict], now: Now) -> Result<usize, db::Error> {
    let mut sorted: Vec<&NewVerdict> = new.iter().collect();
    sorted.sort_by_key(|one| (one.source, one.terminal_id, &one.item));
    keep_tables(conn, &sorted, now)?;
    let mut counts: BTreeMap<CountKey, i64> = BTreeMap::new();
    let mut fresh = Vec::with_capacity(sorted.len());
    for one in sorted {
        if store::insert(conn, one, now)? {
            *counts.entry(CountKey::of(one)).or_default() += 1;
            fresh.push(one);
        }
    }
    settle(conn, counts, &fresh, now)?;
    Ok(fresh.len())
}

/// Stores what the rules say now, within the caller's transaction, in place of what they said before where there was
/// something. Opens incidents for what was not said before, and in all else does as [`record_all`].
///
/// # Errors
/// [`db::Error`]; the caller's transaction must then be given up.
pub fn put_all(conn: &mut Conn, new: &[NewVerdict], now: Now) -> Result<(), db::Error> {
    put(conn, new, Unjudged::Insert, now).map(drop)
}

/// Stores what the rules say now about things that were judged before; returns how many have another cause.
fn replace_all(conn: &mut Conn, new: &[NewVerdict], now: Now) -> Result<i64, db::Error> {
    put(conn, new, Unjudged::Skip, now)
}

/// What happens to a verdict about something that was not judged before.
#[derive(Clone, Copy)]
enum Unjudged {
    Insert,
    /// It is gone by now and needs none.
    Skip,
}

fn put(conn: &mut Conn, new: &[NewVerdict], unjudged: Unjudged, now: Now) -> Result<i64, db::Error> {
    let mut sorted: Vec<&NewVerdict> = new.iter().collect();
    sorted.sort_by_key(|one| (one.source, one.terminal_id, &one.item));
    keep_tables(conn, &sorted, now)?;
    let mut counts: BTreeMap<CountKey, i64> = BTreeMap::new();
    let mut news: Vec<&NewVerdict> = Vec::new();
    let mut changed = 0;
    for one in sorted {
        match (store::find(conn, one)?, unjudged) {
            // What was said earlier stays beside the verdict; the same again is nothing earlier.
            (Some(before), _) if before.is_same(one) => continue,
            (Some(before), _) => {
                store::replace(conn, &before, one, now)?;
                *counts.entry(before.count_key(one.source)).or_default() -= 1;
                changed += i64::from(before.cause != one.judgement.cause().as_str());
                // Another look that finds the same tells nobody: what people closed stays closed.
                news.extend(before.is_news(one).then_some(one));
            }
            (None, Unjudged::Insert) if store::insert(conn, one, now)? => {
                changed += 1;
                news.push(one);
            }
            (None, Unjudged::Insert | Unjudged::Skip) => continue,
        }
        *counts.entry(CountKey::of(one)).or_default() += 1;
    }
    settle(conn, counts, &news, now)?;
    Ok(changed)
}

/// Opens the incidents that these verdicts ask for, within the caller's transaction, and stores none of them: what is kept
/// elsewhere makes the same incidents as a settlement about the same merchant, terminal and day. Call it before the
/// caller's own entry in the audit log.
///
/// # Errors
/// [`db::Error`]; the caller's transaction must then be given up.
pub fn open_incidents(conn: &mut Conn, new: &[NewVerdict], now: Now) -> Result<Vec<i64>, db::Error> {
    incidents::open_all(conn, new.iter().flat_map(findings::incidents).collect(), now)
}

/// Takes back, within the caller's transaction, what was said of these things while no terminal was known for them.
///
/// # Errors
/// [`db::Error`]; the caller's transaction must then be given up.
pub fn take_back_unknown(conn: &mut Conn, source: Source, items: &[String]) -> Result<(), db::Error> {
    let mut counts: BTreeMap<CountKey, i64> = BTreeMap::new();
    for before in store::take_back_unknown(conn, source, items)? {
        *counts.entry(before.count_key(source)).or_default() -= 1;
    }
    for (key, by) in counts {
        store::count(conn, &key, by)?;
    }
    Ok(())
}

/// Counts, in the order of the keys, and the incidents of what is news.
fn settle(conn: &mut Conn, counts: BTreeMap<CountKey, i64>, news: &[&NewVerdict], now: Now) -> Result<(), db::Error> {
    for (key, by) in counts {
        if by != 0 {
            store::count(conn, &key, by)?;
        }
    }
    incidents::open_all(conn, news.iter().flat_map(|one| findings::incidents(one)).collect(), now)?;
    news.iter().for_each(|one| counted(one));
    Ok(())
}

/// Keeps the tables that these verdicts name.
fn keep_tables(conn: &mut Conn, new: &[&NewVerdict], now: Now) -> Result<(), db::Error> {
    let by_version: BTreeMap<&str, &InForce> =
        new.iter().map(|one| (one.tables.tables.version.as_str(), one.tables.as_ref())).collect();
    for in_force in by_version.values() {
        tables::keep(conn, in_force, now)?;
    }
    Ok(())
}

/// What a verdict is counted under.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct CountKey {
    source: Source,
    hour_ms: i64,
    org_path: String,
    cause: String,
    symptom: String,
}

impl CountKey {
    fn of(new: &NewVerdict) -> Self {
        Self {
            source: new.source,
            hour_ms: Now(new.received_at_ms).hour_ms(),
            org_path: new.org_path.clone(),
            cause: new.judgement.cause().as_str().to_owned(),
            symptom: Summary::of(new).symptom.as_str().to_owned(),
        }
    }
}

fn counted(new: &NewVerdict) {
    let cause = new.judgement.cause();
    metrics::counter!("tillward_verdicts_total", "source" => new.source.as_str(), "cause" => cause.as_str())
        .increment(1);
    let is_unmapped = new.judgement.matches().any(|verdict| {
        verdict.reasons.iter().any(|reason| reason.field == "response_code" && reason.threshold == "unmapped")
    });
    if is_unmapped {
        metrics::counter!("tillward_response_codes_unmapped_total").increment(1);
    }
}

/// What is kept of a judgement in columns of their own.
struct Summary {
    rule: Option<&'static str>,
    symptom: Symptom,
    severity: Severity,
    standing: Standing,
    confidence_percent: i64,
}

impl Summary {
    /// A failure without a match is still one; a settlement without a match is in order.
    fn of(new: &NewVerdict) -> Self {
        match &new.judgement.verdict {
            Some(verdict) => Self {
                rule: Some(verdict.rule.as_str()),
                symptom: verdict.symptom,
                severity: verdict.severity,
                standing: verdict.standing,
                #[allow(clippy::cast_possible_truncation)] // Between 0 and 1.
                confidence_percent: (verdict.confidence * 100.0).round() as i64,
            },
            None => Self {
                rule: None,
                symptom: match new.source {
                    Source::Failure => Symptom::Fail,
                    Source::Settlement => Symptom::None,
                },
                severity: Severity::Info,
                standing: Standing::Suspected,
                confidence_percent: 0,
            },
        }
    }
}

/// Deletes verdicts whose failures and settlements are gone, in small transactions; returns how many went.
///
/// # Errors
/// [`db::Error`]; what was deleted before stays deleted.
pub async fn sweep(db: &Db, now: Now) -> Result<usize, db::Error> {
    let mut deleted = 0;
    for (source, kept_ms) in
        [(Source::Failure, FAILURE_VERDICTS_KEPT_MS), (Source::Settlement, SETTLEMENT_VERDICTS_KEPT_MS)]
    {
        loop {
            let step = db.write(move |conn| store::delete_old(conn, source, now.0 - kept_ms)).await?;
            if step == 0 {
                break;
            }
            deleted += step;
        }
    }
    Ok(deleted)
}
