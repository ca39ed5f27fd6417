//! A transaction that a channel tells of and an organization reports by itself as a failure, at a terminal that does not
//! call: it is counted once, as told by whoever was first. Only where its numbers say for certain that it is one.

use std::collections::{BTreeSet, HashSet};

use tillward_protocol::failure::Failure;

use super::feed;
use super::feed::store::{Near, Transaction};
use super::imported;
use super::reconcile;
use super::reconcile::matching::{self, DAY_MS, Event, Quality, Sought};
use crate::db::{self, Conn};

/// Minutes ahead of UTC of the days in files: China.
const UTC_OFFSET_MIN: i64 = 480;

/// Nobody else counts what channels and organizations tell until this transaction is over. To be called before anything is
/// read.
///
/// # Errors
/// [`db::Error`].
pub(super) fn count_alone(conn: &mut Conn) -> Result<(), db::Error> {
    imported::count_alone(conn)
}

/// Which of these payments of channels an organization reported before, by their places in the list.
///
/// # Errors
/// [`db::Error`].
pub(super) fn reported(conn: &mut Conn, payments: &[&Transaction]) -> Result<HashSet<usize>, db::Error> {
    let numbered: Vec<&Transaction> = payments
        .iter()
        .filter(|payment| payment.ref_no.is_some() || (payment.trace_no.is_some() && payment.batch_no.is_some()))
        .copied()
        .collect();
    let terminals: BTreeSet<i64> = numbered.iter().filter_map(|payment| payment.terminal_id).collect();
    if terminals.is_empty() {
        return Ok(HashSet::new());
    }
    let at_ms = || numbered.iter().map(|payment| payment.at_ms);
    let (from_ms, to_ms) = (at_ms().min().unwrap_or(0) - DAY_MS, at_ms().max().unwrap_or(0) + DAY_MS);
    let terminals: Vec<i64> = terminals.into_iter().collect();
    let failures = imported::between(conn, &terminals, from_ms, to_ms)?;
    let events: Vec<Event> = failures.iter().map(|(terminal_id, failure)| event(*terminal_id, failure)).collect();
    let is_known = |payment: &Transaction| is_certain(payment, &events);
    Ok(payments.iter().enumerate().filter(|(_, payment)| is_known(payment)).map(|(place, _)| place).collect())
}

/// Which of these failures of terminals a channel told of before, so that they are counted; by their places in the list.
///
/// # Errors
/// [`db::Error`].
pub(super) fn settled(conn: &mut Conn, failures: &[(i64, &Failure)]) -> Result<HashSet<usize>, db::Error> {
    let numbered = || {
        let has =
            |failure: &Failure| failure.ref_no.is_some() || (failure.trace_no.is_some() && failure.batch_no.is_some());
        failures.iter().filter(move |(_, failure)| has(failure))
    };
    let terminals: BTreeSet<i64> = numbered().map(|(terminal_id, _)| *terminal_id).collect();
    if terminals.is_empty() {
        return Ok(HashSet::new());
    }
    let at_ms = || numbered().map(|(_, failure)| failure.occurred_at_ms);
    let spelled = |text: fn(&Failure) -> Option<&str>, digits: usize| -> Vec<String> {
        numbered().filter_map(|(_, failure)| text(failure)).flat_map(|text| feed::spelled(text, digits)).collect()
    };
    let near = Near {
        channel_id: None,
        terminals: terminals.into_iter().collect(),
        from_ms: at_ms().min().unwrap_or(0) - DAY_MS,
        to_ms: at_ms().max().unwrap_or(0) + DAY_MS,
        moments: Vec::new(),
        refs: spelled(|failure| failure.ref_no.as_deref(), 12),
        traces: spelled(|failure| failure.trace_no.as_deref(), 6),
    };
    let mut told = feed::store::near(conn, &near)?;
    // What is under way is counted when it ends.
    told.retain(|payment| payment.status != "processing");
    let is_known = |terminal_id: i64, failure: &Failure| {
        let event = [event(terminal_id, failure)];
        told.iter().any(|payment| is_certain(payment, &event))
    };
    let known = failures.iter().enumerate().filter(|(_, (terminal_id, failure))| is_known(*terminal_id, failure));
    Ok(known.map(|(place, _)| place).collect())
}

/// Whether one of the events is the payment, by its numbers.
fn is_certain(payment: &Transaction, events: &[Event]) -> bool {
    let Some(terminal_id) = payment.terminal_id else { return false };
    let sought = reconcile::sought(payment, terminal_id);
    matching::find(&sought, events).0 >= Quality::Trace || is_of_that_day(&sought, events)
}

/// Whether a file that tells the day alone means one of the events of that day, by its numbers.
fn is_of_that_day(sought: &Sought<'_>, events: &[Event]) -> bool {
    let local_ms = |at_ms: i64| at_ms + UTC_OFFSET_MIN * 60_000;
    let is_day_alone = local_ms(sought.at_ms).rem_euclid(DAY_MS) == 0;
    let of_day = |event: &&Event| {
        let since_ms = event.at_ms - sought.at_ms;
        (0..DAY_MS).contains(&since_ms)
    };
    is_day_alone
        && events.iter().filter(of_day).any(|event| {
            let at_its_moment = Sought { at_ms: event.at_ms, ..sought.clone() };
            matching::find(&at_its_moment, std::slice::from_ref(event)).0 >= Quality::Trace
        })
}

fn event(terminal_id: i64, failure: &Failure) -> Event {
    Event {
        terminal_id,
        event_id: failure.id.clone(),
        at_ms: failure.occurred_at_ms,
        amount_fen: failure.amount_fen,
        ref_no: failure.ref_no.clone(),
        trace_no: failure.trace_no.clone(),
        batch_no: failure.batch_no.clone(),
        merchant_no_sent: None,
        succeeded: false,
    }
}
