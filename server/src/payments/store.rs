//! SQL of payments.

use diesel::prelude::*;

use super::{CANDIDATES_MAX, Filter, Payment, PaymentKey};
use crate::db::schema::{payments, terminals};
use crate::db::{self, Conn};
use crate::operators::Scope;

type Columns = (
    (i64, String, String, i64, i64, i64, String, i64),
    (Option<String>, Option<String>, Option<String>, Option<String>, Option<String>, Option<String>, String),
);

fn payment(row: Columns) -> Payment {
    let ((terminal_id, sn, event_id, occurred_at_ms, at_ms, received_at_ms, transaction_type, amount_fen), numbers) =
        row;
    let (batch_no, trace_no, ref_no, merchant_no_sent, terminal_no_sent, merchant_no_resp, org_path) = numbers;
    Payment {
        terminal_id,
        sn,
        event_id,
        occurred_at_ms,
        at_ms,
        received_at_ms,
        transaction_type,
        amount_fen,
        batch_no,
        trace_no,
        ref_no,
        merchant_no_sent,
        terminal_no_sent,
        merchant_no_resp,
        org_path,
    }
}

/// Payments of organizations in the scope, as they were then, with the columns of a [`Payment`].
macro_rules! within {
    ($scope:expr) => {
        payments::table
            .inner_join(terminals::table.on(terminals::id.eq(payments::terminal_id)))
            .filter(payments::org_path.ge($scope.from()))
            .filter(payments::org_path.lt($scope.below()))
            .select((
                (
                    payments::terminal_id,
                    terminals::sn,
                    payments::event_id,
                    payments::occurred_at_ms,
                    payments::at_ms,
                    payments::received_at_ms,
                    payments::transaction_type,
                    payments::amount_fen,
                ),
                (
                    payments::batch_no,
                    payments::trace_no,
                    payments::ref_no,
                    payments::merchant_no_sent,
                    payments::terminal_no_sent,
                    payments::merchant_no_resp,
                    payments::org_path,
                ),
            ))
    };
}

/// Newest first. By `payments_by_terminal` or `payments_by_ref` where the filter names one, else by `payments_by_org`.
pub(super) fn list(
    conn: &mut Conn,
    scope: &Scope,
    filter: &Filter,
    after: Option<&PaymentKey>,
    limit: i64,
) -> Result<Vec<Payment>, db::Error> {
    let mut query = within!(scope).into_boxed();
    if let Some(terminal_id) = filter.terminal_id {
        query = query.filter(payments::terminal_id.eq(terminal_id));
    }
    if let Some(ref_no) = &filter.ref_no {
        query = query.filter(payments::ref_no.eq(ref_no));
    }
    if let Some(from_ms) = filter.from_ms {
        query = query.filter(payments::at_ms.ge(from_ms));
    }
    if let Some(to_ms) = filter.to_ms {
        query = query.filter(payments::at_ms.lt(to_ms));
    }
    if let Some((at_ms, terminal_id, event_id)) = after {
        query = query.filter(
            payments::at_ms.lt(*at_ms).or(payments::at_ms.eq(*at_ms).and(
                payments::terminal_id
                    .lt(*terminal_id)
                    .or(payments::terminal_id.eq(*terminal_id).and(payments::event_id.lt(event_id))),
            )),
        );
    }
    let rows = query
        .order((payments::at_ms.desc(), payments::terminal_id.desc(), payments::event_id.desc()))
        .limit(limit)
        .load::<Columns>(conn)?;
    Ok(rows.into_iter().map(payment).collect())
}

/// By primary key.
pub(super) fn find(
    conn: &mut Conn,
    scope: &Scope,
    terminal_id: i64,
    event_id: &str,
) -> Result<Option<Payment>, db::Error> {
    let row = within!(scope)
        .filter(payments::terminal_id.eq(terminal_id))
        .filter(payments::event_id.eq(event_id))
        .first::<Columns>(conn)
        .optional()?;
    Ok(row.map(payment))
}

/// By `payments_by_ref`.
pub(super) fn by_ref_no(
    conn: &mut Conn,
    scope: &Scope,
    ref_no: &str,
    from_ms: i64,
    to_ms: i64,
) -> Result<Vec<Payment>, db::Error> {
    let rows = within!(scope)
        .filter(payments::ref_no.eq(ref_no))
        .filter(payments::at_ms.ge(from_ms))
        .filter(payments::at_ms.lt(to_ms))
        .order((payments::at_ms, payments::terminal_id, payments::event_id))
        .limit(CANDIDATES_MAX)
        .load::<Columns>(conn)?;
    Ok(rows.into_iter().map(payment).collect())
}

/// By `payments_by_terminal`.
pub(super) fn of_terminal(
    conn: &mut Conn,
    scope: &Scope,
    terminal_id: i64,
    from_ms: i64,
    to_ms: i64,
) -> Result<Vec<Payment>, db::Error> {
    let rows = within!(scope)
        .filter(payments::terminal_id.eq(terminal_id))
        .filter(payments::at_ms.ge(from_ms))
        .filter(payments::at_ms.lt(to_ms))
        .order((payments::at_ms, payments::event_id))
        .limit(CANDIDATES_MAX)
        .load::<Columns>(conn)?;
    Ok(rows.into_iter().map(payment).collect())
}

/// By `payments_by_org`.
pub(super) fn count(conn: &mut Conn, scope: &Scope, from_ms: i64, to_ms: i64) -> Result<i64, db::Error> {
    Ok(payments::table
        .filter(payments::org_path.ge(scope.from()))
        .filter(payments::org_path.lt(scope.below()))
        .filter(payments::at_ms.ge(from_ms))
        .filter(payments::at_ms.lt(to_ms))
        .count()
        .get_result(conn)?)
}

/// At most `limit` rows received before `before_ms`. By `payments_by_time`.
pub(super) fn delete_old(conn: &mut Conn, before_ms: i64, limit: i64) -> Result<usize, db::Error> {
    let oldest: Vec<(i64, String)> = payments::table
        .filter(payments::received_at_ms.lt(before_ms))
        .order(payments::received_at_ms)
        .limit(limit)
        .select((payments::terminal_id, payments::event_id))
        .load(conn)?;
    let mut deleted = 0;
    for (terminal_id, event_id) in oldest {
        deleted += diesel::delete(payments::table.find((terminal_id, event_id))).execute(conn)?;
    }
    Ok(deleted)
}
