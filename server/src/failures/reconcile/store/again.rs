//! SQL of what is compared again.

use diesel::dsl::exists;
use diesel::prelude::*;

use super::super::again::Which;
use crate::clock::Now;
use crate::db::schema::{channel_transactions, settings, terminals};
use crate::db::{self, Conn};
use crate::on_backend;
use crate::operators::Scope;

/// Keeps what is asked for; what was asked for already begins anew.
pub(in crate::failures::reconcile) fn ask(conn: &mut Conn, key: &str, value: &str) -> Result<(), db::Error> {
    let row = (settings::key.eq(key), settings::value.eq(value));
    on_backend!(conn, |c| diesel::insert_into(settings::table)
        .values(row)
        .on_conflict(settings::key)
        .do_update()
        .set(settings::value.eq(value))
        .execute(c))?;
    Ok(())
}

/// What is asked for: keys and values.
pub(in crate::failures::reconcile) fn asked(
    conn: &mut Conn,
    prefix: &str,
    limit: i64,
) -> Result<Vec<(String, String)>, db::Error> {
    Ok(settings::table
        .filter(settings::key.like(format!("{prefix}%")))
        .order(settings::key)
        .limit(limit)
        .select((settings::key, settings::value))
        .load(conn)?)
}

/// It goes on at `next`, or is done, unless it was asked for anew meanwhile.
pub(in crate::failures::reconcile) fn go_on(
    conn: &mut Conn,
    key: &str,
    before: &str,
    next: Option<&str>,
) -> Result<(), db::Error> {
    let row = settings::table.find(key).filter(settings::value.eq(before));
    match next {
        Some(next) => diesel::update(row).set(settings::value.eq(next)).execute(conn)?,
        None => diesel::delete(row).execute(conn)?,
    };
    Ok(())
}

/// Of these terminals, those that channels told of. By `channel_transactions_by_terminal`.
pub(in crate::failures::reconcile) fn with_payments(conn: &mut Conn, ids: &[i64]) -> Result<Vec<i64>, db::Error> {
    let its_own = channel_transactions::table.filter(channel_transactions::terminal_id.eq(terminals::id.nullable()));
    Ok(terminals::table
        .filter(terminals::id.eq_any(ids))
        .filter(exists(its_own))
        .order(terminals::id)
        .select(terminals::id)
        .load(conn)?)
}

/// Makes payments due, the next after `after`, oldest first, and returns their times and numbers. By
/// `channel_transactions_by_terminal` or `channel_transactions_by_merchant`.
pub(in crate::failures::reconcile) fn mark(
    conn: &mut Conn,
    which: &Which,
    (at_ms, id): (i64, i64),
    limit: i64,
    now: Now,
) -> Result<Vec<(i64, i64)>, db::Error> {
    let same = channel_transactions::at_ms.eq(at_ms).and(channel_transactions::id.gt(id));
    let mut query = channel_transactions::table
        .filter(channel_transactions::at_ms.ge(at_ms))
        .filter(channel_transactions::at_ms.gt(at_ms).or(same))
        .filter(channel_transactions::status.ne("processing"))
        .into_boxed();
    match which {
        Which::Terminal(terminal_id) => query = query.filter(channel_transactions::terminal_id.eq(*terminal_id)),
        Which::Number { number, org_path } => {
            let scope = Scope::subtree(org_path.clone());
            query = query
                .filter(channel_transactions::merchant_no.eq(number.clone()))
                .filter(channel_transactions::org_path.ge(scope.from().to_owned()))
                .filter(channel_transactions::org_path.lt(scope.below().to_owned()));
        }
        // Its terminals are asked for one by one.
        Which::Merchant(_) => return Ok(Vec::new()),
    }
    let rows: Vec<(i64, i64)> = query
        .order((channel_transactions::at_ms, channel_transactions::id))
        .limit(limit)
        .select((channel_transactions::at_ms, channel_transactions::id))
        .load(conn)?;
    let ids: Vec<i64> = rows.iter().map(|(_, id)| *id).collect();
    diesel::update(channel_transactions::table.filter(channel_transactions::id.eq_any(ids)))
        .set(channel_transactions::due_ms.eq(now.0))
        .execute(conn)?;
    Ok(rows)
}
