//! The pass that compares payments: due ones in batches, each batch one transaction; what is due again is noted with it.

use std::collections::HashMap;
use std::sync::Arc;

use super::gather::{Gathered, Known};
use super::store::{self, Compared};
use super::{again, late, missing};
use crate::clock::Now;
use crate::db::{self, Conn, Db};
use crate::failures::classify::{
    FindingKind, Judgement, Severity, Standing, Symptom, TerminalSide, Thresholds, judge_settlement,
};
use crate::failures::feed::Result as Shows;
use crate::failures::feed::store::Transaction;
use crate::failures::once;
use crate::failures::verdicts::{self, InForce, NewVerdict, Source};
use crate::merchants::numbers::{self, Seen};

/// Payments of one batch: some 50 ms of writing.
const BATCH: i64 = 200;
/// A payment whose terminal is not known, or has not reported since, is looked at again so long after it came, ms: the
/// terminal may be registered late, or be out of reach for days.
const UNKNOWN_KEPT_MS: i64 = 7 * 86_400_000;
/// How often, ms.
const UNKNOWN_AGAIN_MS: i64 = 86_400_000;

/// Compares payments that are due; `true` when there may be more. Idempotent; may be stopped at any point.
///
/// # Errors
/// [`db::Error`]; what was compared before stays compared.
pub async fn pass(db: &Db, now: Now) -> Result<bool, db::Error> {
    db.write(move |conn| batch(conn, now)).await
}

fn batch(conn: &mut Conn, now: Now) -> Result<bool, db::Error> {
    if !store::leads(conn)? {
        return Ok(false);
    }
    if again::step(conn, now)? {
        return Ok(true);
    }
    let mut due = store::due(conn, now, BATCH)?;
    if due.is_empty() {
        return Ok(false);
    }
    if due.iter().any(|payment| payment.terminal_id.is_none()) {
        once::count_alone(conn)?;
    }
    late::resolve(conn, &mut due)?;
    let known = Known::read(conn, &due)?;
    let mut found: Vec<(i64, String)> = Vec::new();
    let mut alone: Vec<&Transaction> = Vec::new();
    let mut tables: HashMap<String, Arc<InForce>> = HashMap::new();
    let mut new = Vec::new();
    for payment in &due {
        let in_force = match tables.get(&payment.org_path) {
            Some(known) => Arc::clone(known),
            None => {
                let read = verdicts::in_force(conn, &payment.org_path)?;
                tables.insert(payment.org_path.clone(), Arc::clone(&read));
                read
            }
        };
        let gathered = known.gather(payment, now);
        let judgement = judge_settlement(&gathered.facts, &in_force.tables);
        let due_ms = due_again(payment, &gathered, &in_force.tables.thresholds, now);
        if !store::compared(conn, payment, &compared(payment, &gathered, &judgement, due_ms))? {
            continue;
        }
        review(conn, payment, &gathered, &judgement, &known)?;
        found.extend(payment.terminal_id.zip(gathered.matched_event.clone()));
        alone.extend(is_news_of_missing(payment, &gathered, &judgement).then_some(payment));
        if judgement.verdict.is_some() || is_judged(payment) {
            new.push(verdict(payment, gathered, judgement, in_force));
        }
    }
    new.extend(missing::no_more_missing(conn, &found)?);
    new.extend(missing::said_by_rows(conn, &alone)?);
    verdicts::put_all(conn, &new, now)?;
    Ok(i64::try_from(due.len()).unwrap_or(0) == BATCH)
}

/// Whether it is said for the first time that the terminal does not know this payment.
fn is_news_of_missing(payment: &Transaction, gathered: &Gathered, judgement: &Judgement) -> bool {
    gathered.facts.terminal == Some(TerminalSide::NotSeen)
        && payment.result != Shows::Missing.as_str()
        && shows(payment, gathered, judgement) == Shows::Missing
}

/// A payment that a terminal reported, among the verdicts.
pub(super) fn reported_item(event_id: &str) -> String {
    format!("payment:{event_id}")
}

/// Whether a verdict may stand there from an earlier look.
fn is_judged(payment: &Transaction) -> bool {
    match Shows::parse(&payment.result) {
        Some(Shows::Fee | Shows::Review | Shows::Short | Shows::Missing | Shows::Switched) => true,
        Some(Shows::Waiting | Shows::Unchecked | Shows::Fine | Shows::Failed) | None => false,
    }
}

/// The first sight of a number opens its review; nobody is accused by it.
fn review(
    conn: &mut Conn,
    payment: &Transaction,
    gathered: &Gathered,
    judgement: &Judgement,
    known: &Known,
) -> Result<(), db::Error> {
    let asks = judgement.findings.iter().any(|finding| finding.kind == FindingKind::ReviewNumber);
    if !asks {
        return Ok(());
    }
    let (Some(bound_no), Some(number)) = (&gathered.bound_no, &payment.merchant_no) else { return Ok(()) };
    // Counted once: a payment that is looked at again under review was counted before, unless its number was corrected.
    if payment.result == Shows::Review.as_str() && known.is_noted(bound_no, number, payment) {
        return Ok(());
    }
    let org_path = known.channels.get(&payment.channel_id).unwrap_or(&payment.org_path);
    let name = payment.merchant_name.as_deref();
    numbers::note(conn, &Seen { org_path, bound_no, number, name, at_ms: Some(payment.at_ms) })
}

fn compared(payment: &Transaction, gathered: &Gathered, judgement: &Judgement, due_ms: Option<i64>) -> Compared {
    let shows = shows(payment, gathered, judgement);
    let severity = judgement.verdict.as_ref().map_or(Severity::Info, |verdict| verdict.severity);
    Compared {
        quality: gathered.quality.as_str(),
        matched_event: gathered.matched_event.clone(),
        result: shows.as_str(),
        lacking: gathered.lacking,
        severity: severity.as_str(),
        due_ms,
    }
}

fn shows(payment: &Transaction, gathered: &Gathered, judgement: &Judgement) -> Shows {
    let Some(verdict) = &judgement.verdict else {
        return match payment.status.as_str() {
            "failure" => Shows::Failed,
            _ if gathered.lacking.is_some() && payment.settle_fen.is_none() => Shows::Unchecked,
            _ => Shows::Fine,
        };
    };
    match (verdict.symptom, verdict.standing) {
        (Symptom::Switch, Standing::Review) => Shows::Review,
        (Symptom::Switch, Standing::Proven | Standing::Suspected) => Shows::Switched,
        (Symptom::Amount, _) => Shows::Short,
        (Symptom::Missing, _) => Shows::Missing,
        (Symptom::Fee, _) => Shows::Fee,
        (Symptom::Fail, _) => Shows::Failed,
        (Symptom::None, _) => Shows::Fine,
    }
}

/// When a payment is looked at next: while its terminal is unknown or may still tell of it, and when one side alone has
/// known it for too long.
fn due_again(payment: &Transaction, gathered: &Gathered, limits: &Thresholds, now: Now) -> Option<i64> {
    let again_ms = now.0 + UNKNOWN_AGAIN_MS;
    if payment.terminal_id.is_none() || gathered.is_awaited {
        let until_ms = payment.received_at_ms.max(payment.at_ms) + UNKNOWN_KEPT_MS;
        return (again_ms < until_ms).then_some(again_ms);
    }
    let missing_ms = payment.at_ms + limits.missing_after_ms();
    let is_one_sided = gathered.facts.terminal.is_some() && now.0 < missing_ms;
    is_one_sided.then_some(missing_ms)
}

fn verdict(payment: &Transaction, gathered: Gathered, judgement: Judgement, tables: Arc<InForce>) -> NewVerdict {
    NewVerdict {
        source: Source::Settlement,
        terminal_id: payment.terminal_id,
        sn: payment.terminal_id.map(|_| payment.sn.clone()),
        merchant_no: gathered.bound_no,
        item: item(payment.id),
        org_path: payment.org_path.clone(),
        // The day of the payment groups its incident, whenever the file came.
        received_at_ms: payment.at_ms,
        response_code: None,
        judgement,
        tables,
    }
}

/// A payment among the verdicts.
pub(super) fn item(id: i64) -> String {
    format!("feed:{id}")
}
