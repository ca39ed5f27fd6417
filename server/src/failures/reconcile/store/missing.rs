//! SQL of the look for payments that one side alone knows.

use diesel::prelude::*;

use super::super::matching::{DAY_MS, Event};
use super::{PaymentColumns, payment};
use crate::clock::Now;
use crate::db::schema::{channel_transactions, payments, verdicts};
use crate::db::{self, Conn};
use crate::failures::classify::Symptom;
use crate::failures::feed::{self, store::Transaction};
use crate::failures::verdicts::Source;

/// Rows without an event, and payments said to be missing, that one step compares with.
const COMPARED_MAX: i64 = 2_000;

/// When a row came, its number, its terminal, and when the payment was.
type ToldRow = (i64, i64, Option<i64>, i64);

/// Rows of channels that came after `after` and up to `until_ms`, in the order in which they came. By
/// `channel_transactions_by_time`.
pub(in crate::failures::reconcile) fn told_after(
    conn: &mut Conn,
    (received_at_ms, id): (i64, i64),
    until_ms: i64,
    limit: i64,
) -> Result<Vec<ToldRow>, db::Error> {
    let same = channel_transactions::received_at_ms.eq(received_at_ms).and(channel_transactions::id.gt(id));
    Ok(channel_transactions::table
        .filter(channel_transactions::received_at_ms.ge(received_at_ms))
        .filter(channel_transactions::received_at_ms.le(until_ms))
        .filter(channel_transactions::received_at_ms.gt(received_at_ms).or(same))
        .order((channel_transactions::received_at_ms, channel_transactions::id))
        .limit(limit)
        .select((
            channel_transactions::received_at_ms,
            channel_transactions::id,
            channel_transactions::terminal_id,
            channel_transactions::at_ms,
        ))
        .load(conn)?)
}

/// When the last payment of a terminal before `before_ms` was that a channel told of. By
/// `channel_transactions_by_terminal`.
pub(in crate::failures::reconcile) fn told_before(
    conn: &mut Conn,
    terminal_id: i64,
    before_ms: i64,
) -> Result<Option<i64>, db::Error> {
    Ok(channel_transactions::table
        .filter(channel_transactions::terminal_id.eq(terminal_id))
        .filter(channel_transactions::at_ms.lt(before_ms))
        .order(channel_transactions::at_ms.desc())
        .select(channel_transactions::at_ms)
        .first(conn)
        .optional()?)
}

/// Payments that a terminal reported after a moment and event and up to `until_ms`, oldest first, with the organization
/// that had it. By `payments_by_terminal`.
pub(in crate::failures::reconcile) fn reported_by(
    conn: &mut Conn,
    terminal_id: i64,
    (at_ms, event_id): &(i64, String),
    until_ms: i64,
    limit: i64,
) -> Result<Vec<(Event, String)>, db::Error> {
    let same = payments::at_ms.eq(*at_ms).and(payments::event_id.gt(event_id));
    let rows: Vec<(PaymentColumns, String)> = payments::table
        .filter(payments::terminal_id.eq(terminal_id))
        .filter(payments::at_ms.ge(*at_ms))
        .filter(payments::at_ms.le(until_ms))
        .filter(payments::at_ms.gt(*at_ms).or(same))
        .order((payments::at_ms, payments::event_id))
        .limit(limit)
        .select((super::payment_columns!(), payments::org_path))
        .load(conn)?;
    Ok(rows.into_iter().map(|(columns, org_path)| (payment(columns), org_path)).collect())
}

/// Whether rows of these terminals are still to be compared. By `channel_transactions_due`.
pub(in crate::failures::reconcile) fn is_any_due(
    conn: &mut Conn,
    terminals: &[i64],
    now: Now,
) -> Result<bool, db::Error> {
    let due: Option<i64> = channel_transactions::table
        .filter(channel_transactions::due_ms.le(now.0))
        .filter(channel_transactions::terminal_id.eq_any(terminals))
        .select(channel_transactions::id)
        .first(conn)
        .optional()?;
    Ok(due.is_some())
}

/// Rows that no event was found for and that may be these payments, by amount or reference number within a day. By
/// `channel_transactions_by_terminal`.
pub(in crate::failures::reconcile) fn unmatched(
    conn: &mut Conn,
    events: &[&Event],
) -> Result<Vec<Transaction>, db::Error> {
    let terminals: Vec<i64> = events.iter().map(|event| event.terminal_id).collect();
    let amounts: Vec<i64> = events.iter().filter_map(|event| event.amount_fen).collect();
    let refs = events.iter().filter_map(|event| event.ref_no.as_deref());
    let refs: Vec<String> = refs.flat_map(|number| feed::spelled(number, 12)).collect();
    let from_ms = events.iter().map(|event| event.at_ms).min().unwrap_or(0) - DAY_MS;
    let to_ms = events.iter().map(|event| event.at_ms).max().unwrap_or(0) + DAY_MS;
    Ok(channel_transactions::table
        .filter(channel_transactions::terminal_id.eq_any(terminals))
        .filter(channel_transactions::at_ms.ge(from_ms))
        .filter(channel_transactions::at_ms.le(to_ms))
        .filter(channel_transactions::matched_event.is_null())
        .filter(channel_transactions::status.ne("processing"))
        .filter(channel_transactions::amount_fen.eq_any(amounts).or(channel_transactions::ref_no.eq_any(refs)))
        .order(channel_transactions::id)
        .limit(COMPARED_MAX)
        .load(conn)?)
}

/// A row is to be compared again.
pub(in crate::failures::reconcile) fn make_due(conn: &mut Conn, id: i64, now: Now) -> Result<(), db::Error> {
    let row = channel_transactions::table.find(id);
    diesel::update(row).set(channel_transactions::due_ms.eq(now.0)).execute(conn)?;
    Ok(())
}

/// Payments that terminals reported and that are said to be missing, around these rows, with the organizations of their
/// verdicts. By `verdicts_by_symptom`.
pub(in crate::failures::reconcile) fn said_around(
    conn: &mut Conn,
    rows: &[&Transaction],
) -> Result<Vec<(Event, String)>, db::Error> {
    let terminals: Vec<i64> = rows.iter().filter_map(|row| row.terminal_id).collect();
    let from_ms = rows.iter().map(|row| row.at_ms).min().unwrap_or(0) - DAY_MS;
    let to_ms = rows.iter().map(|row| row.at_ms).max().unwrap_or(0) + DAY_MS;
    let said: Vec<(i64, String, String)> = verdicts::table
        .filter(verdicts::source.eq(Source::Settlement.as_str()))
        .filter(verdicts::symptom.eq(Symptom::Missing.as_str()))
        .filter(verdicts::received_at_ms.ge(from_ms))
        .filter(verdicts::received_at_ms.le(to_ms))
        .filter(verdicts::terminal_id.eq_any(&terminals))
        .filter(verdicts::item.like("payment:%"))
        .order((verdicts::received_at_ms, verdicts::terminal_id, verdicts::item))
        .limit(COMPARED_MAX)
        .select((verdicts::terminal_id, verdicts::item, verdicts::org_path))
        .load(conn)?;
    if said.is_empty() {
        return Ok(Vec::new());
    }
    let events: Vec<&str> = said.iter().filter_map(|(_, item, _)| item.strip_prefix("payment:")).collect();
    let reported: Vec<PaymentColumns> = payments::table
        .filter(payments::terminal_id.eq_any(&terminals))
        .filter(payments::event_id.eq_any(events))
        .select(super::payment_columns!())
        .load(conn)?;
    let org_path = |event: &Event| {
        let its_own = |(id, item, _): &&(i64, String, String)| {
            *id == event.terminal_id && item.strip_prefix("payment:") == Some(event.event_id.as_str())
        };
        said.iter().find(its_own).map(|(_, _, org_path)| org_path.clone())
    };
    let events = reported.into_iter().map(payment);
    Ok(events.filter_map(|event| org_path(&event).map(|org_path| (event, org_path))).collect())
}
