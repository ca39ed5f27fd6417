//! Verdicts: what the rules say about each failure and each settlement, kept with everything that it rests on.
//!
//! Failures are judged by a pass of its own, off the path of check-ins; settlements by whoever compares them, with
//! [`record`]. A verdict names the tables it was judged by. An edit of the tables changes none: what was judged before is
//! judged again only when somebody asks for it, and what was said earlier stays beside it.

mod findings;
mod gather;
pub mod http;
mod pass;
mod store;
mod tables;
mod view;

use std::sync::Arc;

use crate::clock::Now;
use crate::db::{self, Conn, Db};
use crate::failures::classify::{Judgement, Severity, Standing, Symptom};

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

/// What [`record`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// It was not judged before.
    New,
    /// It was judged before, and what stands there stays.
    Known,
}

/// Stores one verdict within the caller's transaction, once: the same item again changes nothing. Opens the incidents
/// that its findings ask for; a number to be reviewed is none, its list is the caller's.
///
/// Costs three statements, and an incident's where there is one. Write verdicts in the order of
/// `(source, terminal_id, item)`, and before the caller's own entry in the audit log.
///
/// # Errors
/// [`db::Error`]; the caller's transaction must then be given up.
pub fn record(conn: &mut Conn, new: &NewVerdict, now: Now) -> Result<Recorded, db::Error> {
    if !store::insert(conn, new, now)? {
        return Ok(Recorded::Known);
    }
    tables::keep(conn, &new.tables, now)?;
    store::count(conn, new, 1)?;
    findings::open(conn, new, now)?;
    counted(new);
    Ok(Recorded::New)
}

/// Stores what the rules say now about something that was judged before; returns whether the cause is another one.
pub(super) fn replace(conn: &mut Conn, new: &NewVerdict, now: Now) -> Result<bool, db::Error> {
    let Some(before) = store::find(conn, new)? else {
        record(conn, new, now)?;
        return Ok(true);
    };
    tables::keep(conn, &new.tables, now)?;
    store::replace(conn, &before, new, now)?;
    store::count_key(conn, new.source, &before.count_key(), -1)?;
    store::count(conn, new, 1)?;
    findings::open(conn, new, now)?;
    Ok(before.cause != new.judgement.cause().as_str())
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
