//! Look-ups: what people saw of one transaction in UnionPay's records (L2) or on the issuer's bill (L3).
//!
//! They are typed in, never pictures, and pass the card-number guard. Nothing is edited: a mistake is taken back and
//! typed again, and both are audited. A look-up belongs to a terminal and, where the terminal reported it, to one
//! transaction, and with it to the organization that had the terminal then; how much was looked up is always said beside
//! how much there was. What a look-up proves is an incident, the same as that of a channel's row about it; it stays with
//! people when the look-up is taken back. It is judged when it is typed in; one of a payment that failed at its terminal
//! and that may still be reversed, again once the time for that is over.

mod again;
mod entry;
pub mod http;
mod judging;
mod store;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tillward_protocol::FieldError;

pub use again::judge_due;
pub use entry::{NOTE_CHARS_MAX, NewLookup, Source};

use super::classify::Judgement;
use super::contracts::{self, Contracts};
use super::reconcile::matching;
use super::verdicts::{self, InForce, NewVerdict};
use super::{FailureRow, imported};
use crate::audit::{self, Actor, Deed};
use crate::clock::Now;
use crate::db::{self, Conn, Db};
use crate::operators::{Caller, Scope};
use crate::payments::{self, Payment};
use crate::terminals;
use crate::terminals::bindings::Binding;
use crate::terminals::fields::{clean_id, clean_text};

/// How far a remembered time may be off when a transaction is searched by its amount, ms.
const TIME_TOLERANCE_MS: i64 = 600_000;
/// A day: how far a reference number is searched around its time, ms.
const DAY_MS: i64 = 86_400_000;
/// What a coverage is of when nobody says, ms: 30 days.
pub const COVERAGE_MS: i64 = 30 * 86_400_000;
/// Rows deleted in one transaction.
const SWEPT_ROWS: i64 = 500;

/// Why something about look-ups was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such look-up in the caller's scope.
    #[error("not found")]
    NotFound,
    /// A field was refused.
    #[error(transparent)]
    Invalid(#[from] FieldError),
    /// It was taken back already.
    #[error("this look-up was taken back already")]
    Withdrawn,
    /// The database failed.
    #[error(transparent)]
    Db(#[from] db::Error),
}

/// One look-up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Lookup {
    /// Its id.
    pub id: String,
    /// Terminal.
    pub terminal_id: i64,
    /// Its serial number.
    pub sn: String,
    /// The transaction as the terminal reported it, if it did.
    pub event_id: Option<String>,
    /// When the transaction was, Unix ms.
    pub at_ms: i64,
    /// Its amount, fen.
    pub amount_fen: Option<i64>,
    /// Its reference number.
    pub ref_no: Option<String>,
    /// `L2` or `L3`.
    pub level: String,
    /// Where it was seen: `unionpay_app`, `95516` or `issuer_bill`.
    pub source: String,
    /// Merchant's name as shown there.
    pub merchant_name: Option<String>,
    /// Merchant number as shown there.
    pub merchant_no: Option<String>,
    /// Merchant category as shown there.
    pub mcc: Option<String>,
    /// When it was looked up, Unix ms.
    pub looked_up_at_ms: i64,
    /// Free text.
    pub note: String,
    /// What the rules say about it.
    pub judgement: Judgement,
    /// The tables that they compared with, by hash.
    pub tables_hash: String,
    /// Who typed it in.
    pub created_by: String,
    /// When, Unix ms.
    pub created_at_ms: i64,
    /// Who took it back, if somebody did.
    pub withdrawn_by: Option<String>,
    /// When, Unix ms.
    pub withdrawn_at_ms: Option<i64>,
    /// Organization whose the transaction is, as a path.
    pub org_path: String,
}

/// Which look-ups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only of this terminal.
    pub terminal_id: Option<i64>,
    /// Only of this transaction.
    pub event_id: Option<String>,
    /// Also those that were taken back.
    pub with_withdrawn: bool,
}

/// How many transactions were looked at, of how many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = EvidenceCoverage)]
pub struct Coverage {
    /// Start of the time, Unix ms.
    pub from_ms: i64,
    /// End, Unix ms.
    pub to_ms: i64,
    /// Successful transactions that terminals or channels told of; absent where nobody does, which says nothing about how
    /// many there were.
    pub transactions: Option<i64>,
    /// Transactions checked at each level.
    pub levels: Vec<LevelCoverage>,
}

/// Transactions checked at one level.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LevelCoverage {
    /// `L1`, `L2` or `L3`.
    pub level: String,
    /// Different transactions that were compared with the binding.
    pub checked: i64,
}

/// Stores what somebody saw of a transaction of a terminal in their scope.
///
/// # Errors
/// [`Error::Invalid`] for a refused field, an unknown terminal or an unknown transaction.
pub fn add(conn: &mut Conn, caller: &Caller, actor: &Actor, new: NewLookup, now: Now) -> Result<Lookup, Error> {
    let new = new.parse(now.0, clean_id, clean_text)?;
    let unknown = || FieldError::new("sn", "is not a terminal of yours");
    let mut named = terminals::registered_by_sn(conn, &caller.scope, &[new.sn.as_str()])?;
    let terminal = named.remove(&new.sn).ok_or_else(unknown)?;
    let terminal_id = terminal.id;
    let seen = transaction(conn, &caller.scope, terminal_id, &new)?;
    let bound = contracts::bound_at(conn, &caller.scope, terminal_id, seen.at_ms)?;
    // Whose the terminal was then, as far as anybody knows.
    let then = seen.org_path.or_else(|| bound.as_ref().map(|bound| bound.org_path.clone()));
    let org_path = then.unwrap_or(terminal.org_path);
    let in_force = verdicts::in_force(conn, &org_path)?;
    let terminal = judging::Terminal {
        sent: seen.merchant_no_sent.clone(),
        failed_ms: seen.has_failed.then_some(now.0 - seen.at_ms),
    };
    let shown = judging::Shown {
        merchant_no: new.merchant_no.as_deref(),
        merchant_name: new.merchant_name.as_deref(),
        mcc: new.mcc.as_deref(),
        level: new.source.level(),
        at_ms: seen.at_ms,
    };
    let judgement = judge(conn, shown, &org_path, bound.as_ref(), terminal, &in_force)?;
    let missing_ms = seen.at_ms + in_force.tables.thresholds.missing_after_ms();
    let due_ms = (seen.has_failed && now.0 < missing_ms).then_some(missing_ms);
    let lookup = Lookup {
        id: uuid::Uuid::now_v7().simple().to_string(),
        terminal_id,
        event_id: seen.event_id,
        at_ms: seen.at_ms,
        amount_fen: seen.amount_fen,
        ref_no: seen.ref_no,
        level: new.source.level().to_owned(),
        source: new.source.as_str().to_owned(),
        merchant_name: new.merchant_name,
        merchant_no: new.merchant_no,
        mcc: new.mcc,
        looked_up_at_ms: new.looked_up_at_ms.unwrap_or(now.0),
        note: new.note,
        judgement,
        tables_hash: in_force.tables.version.clone(),
        created_by: caller.name.clone(),
        created_at_ms: now.0,
        withdrawn_by: None,
        withdrawn_at_ms: None,
        sn: new.sn,
        org_path,
    };
    store::insert(conn, &lookup, due_ms)?;
    let proof = proof(&lookup, bound, lookup.judgement.clone(), in_force);
    verdicts::open_incidents(conn, std::slice::from_ref(&proof), now)?;
    let detail = json!({"sn": lookup.sn, "level": lookup.level, "source": lookup.source, "event_id": lookup.event_id});
    audit::append(conn, actor, &deed("lookups.add", &lookup, detail), now)?;
    Ok(lookup)
}

/// What the rules say of what was seen of a payment of this organization.
fn judge(
    conn: &mut Conn,
    shown: judging::Shown<'_>,
    org_path: &str,
    bound: Option<&Binding>,
    terminal: judging::Terminal,
    in_force: &InForce,
) -> Result<Judgement, db::Error> {
    let binding = match bound {
        Some(bound) => {
            let known = Contracts::read(conn, std::slice::from_ref(&bound.merchant_no), &[])?;
            Some(known.binding(bound, org_path, shown.at_ms))
        }
        None => None,
    };
    Ok(judging::judge(shown, binding, terminal, &in_force.tables))
}

/// What incidents are made of.
fn proof(lookup: &Lookup, bound: Option<Binding>, judgement: Judgement, tables: Arc<InForce>) -> NewVerdict {
    NewVerdict {
        source: verdicts::Source::Settlement,
        terminal_id: Some(lookup.terminal_id),
        sn: Some(lookup.sn.clone()),
        merchant_no: bound.map(|bound| bound.merchant_no),
        item: format!("lookup:{}", lookup.id),
        org_path: lookup.org_path.clone(),
        received_at_ms: lookup.at_ms,
        response_code: None,
        judgement,
        tables,
    }
}

/// The transaction that was looked up.
struct Seen {
    event_id: Option<String>,
    at_ms: i64,
    amount_fen: Option<i64>,
    ref_no: Option<String>,
    merchant_no_sent: Option<String>,
    org_path: Option<String>,
    /// Whether it failed at the terminal.
    has_failed: bool,
}

impl Seen {
    fn of(payment: Payment) -> Self {
        let Payment { event_id, at_ms, amount_fen, ref_no, merchant_no_sent, org_path, .. } = payment;
        Self {
            event_id: Some(event_id),
            at_ms,
            amount_fen: Some(amount_fen),
            ref_no,
            merchant_no_sent,
            org_path: Some(org_path),
            has_failed: false,
        }
    }

    fn of_failure(failure: FailureRow) -> Self {
        Self {
            at_ms: failure.occurred_at_ms,
            amount_fen: failure.amount_fen,
            ref_no: text(&failure.event, "ref_no"),
            merchant_no_sent: text(&failure.event, "merchant_no_sent"),
            org_path: Some(failure.org_path),
            event_id: Some(failure.event_id),
            has_failed: true,
        }
    }
}

/// Finds it among what the terminal reported: by its id, by its reference number, or alone with its amount within ten
/// minutes. What the terminal did not report stays as it was typed.
fn transaction(conn: &mut Conn, scope: &Scope, terminal_id: i64, new: &NewLookup) -> Result<Seen, Error> {
    if let Some(event_id) = &new.event_id {
        if let Some(payment) = payments::find(conn, scope, terminal_id, event_id)? {
            return Ok(Seen::of(payment));
        }
        let failure = super::find(conn, scope, terminal_id, event_id)?;
        let failure = failure.ok_or_else(|| FieldError::new("event_id", "is not a transaction of this terminal"))?;
        return Ok(Seen::of_failure(failure));
    }
    let typed = Seen {
        event_id: None,
        at_ms: new.at_ms.unwrap_or_default(),
        amount_fen: new.amount_fen,
        ref_no: new.ref_no.clone(),
        merchant_no_sent: None,
        org_path: None,
        has_failed: false,
    };
    let found = match (&new.ref_no, new.amount_fen) {
        (Some(ref_no), _) => {
            let mut found = payments::by_ref_no(conn, scope, ref_no, typed.at_ms - DAY_MS, typed.at_ms + DAY_MS)?;
            found.retain(|payment| payment.terminal_id == terminal_id);
            found
        }
        (None, Some(amount_fen)) => {
            let (from_ms, to_ms) = (typed.at_ms - TIME_TOLERANCE_MS, typed.at_ms + TIME_TOLERANCE_MS);
            let mut found = payments::of_terminal(conn, scope, terminal_id, from_ms, to_ms)?;
            found.retain(|payment| payment.amount_fen == amount_fen);
            found
        }
        (None, None) => Vec::new(),
    };
    // Two that fit are no match.
    match <[Payment; 1]>::try_from(found) {
        Ok([payment]) => Ok(Seen::of(payment)),
        Err(found) if found.is_empty() => Ok(failed(conn, scope, terminal_id, &typed)?.unwrap_or(typed)),
        Err(_) => Ok(typed),
    }
}

/// The failure of the terminal that has the reference number that was typed, if one alone has.
fn failed(conn: &mut Conn, scope: &Scope, terminal_id: i64, typed: &Seen) -> Result<Option<Seen>, Error> {
    let Some(ref_no) = &typed.ref_no else { return Ok(None) };
    let (from_ms, to_ms) = (typed.at_ms - DAY_MS, typed.at_ms + DAY_MS);
    let mut found = imported::between(conn, &[terminal_id], from_ms, to_ms)?;
    found.retain(|(_, failure)| matching::plain(failure.ref_no.as_deref()) == matching::plain(Some(ref_no)));
    let [(_, only)] = found.as_slice() else { return Ok(None) };
    Ok(super::find(conn, scope, terminal_id, &only.id)?.map(Seen::of_failure))
}

fn text(event: &serde_json::Value, name: &str) -> Option<String> {
    event.get(name).and_then(|value| value.as_str()).map(str::to_owned)
}

/// Takes a look-up back: it was a mistake. It stays readable.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Withdrawn`].
pub fn withdraw(conn: &mut Conn, caller: &Caller, actor: &Actor, id: &str, now: Now) -> Result<Lookup, Error> {
    let lookup = store::find(conn, &caller.scope, id)?.ok_or(Error::NotFound)?;
    if !store::withdraw(conn, id, &caller.name, now)? {
        return Err(Error::Withdrawn);
    }
    let detail = json!({"sn": lookup.sn, "event_id": lookup.event_id});
    audit::append(conn, actor, &deed("lookups.withdraw", &lookup, detail), now)?;
    Ok(Lookup { withdrawn_by: Some(caller.name.clone()), withdrawn_at_ms: Some(now.0), ..lookup })
}

fn deed<'a>(action: &'a str, lookup: &'a Lookup, detail: serde_json::Value) -> Deed<'a> {
    Deed { action, object_kind: "lookup", object_id: lookup.id.clone(), org_path: &lookup.org_path, detail }
}

/// Look-ups of transactions of the scope's organizations, newest first, before `before`.
///
/// # Errors
/// [`db::Error`].
pub fn list(
    conn: &mut Conn,
    scope: &Scope,
    filter: &Filter,
    before: Option<&str>,
    size: u32,
) -> Result<Vec<Lookup>, db::Error> {
    store::list(conn, scope, filter, before, i64::from(size))
}

/// How much was checked from `from_ms` to before `to_ms`. Five statements by index.
///
/// # Errors
/// [`db::Error`].
pub fn coverage(conn: &mut Conn, scope: &Scope, from_ms: i64, to_ms: i64) -> Result<Coverage, db::Error> {
    let (settled, compared) = store::compared(conn, scope, from_ms, to_ms)?;
    let transactions = payments::count(conn, scope, from_ms, to_ms)?.max(settled);
    let mut levels = vec![LevelCoverage { level: "L1".to_owned(), checked: compared }];
    for level in ["L2", "L3"] {
        let checked = store::checked(conn, scope, level, from_ms, to_ms)?;
        levels.push(LevelCoverage { level: level.to_owned(), checked });
    }
    Ok(Coverage { from_ms, to_ms, transactions: (transactions > 0).then_some(transactions), levels })
}

/// Deletes look-ups of transactions whose records are gone, in small transactions; returns how many rows went.
///
/// # Errors
/// [`db::Error`].
pub async fn sweep(db: &Db, now: Now) -> Result<usize, db::Error> {
    let mut deleted = 0;
    loop {
        let step = db.write(move |conn| store::delete_old(conn, now.0 - entry::AGE_MS_MAX, SWEPT_ROWS)).await?;
        if step == 0 {
            return Ok(deleted);
        }
        deleted += step;
    }
}
