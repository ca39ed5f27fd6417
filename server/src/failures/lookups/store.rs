//! SQL of look-ups.

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};

use super::{Filter, Lookup};
use crate::clock::Now;
use crate::db::schema::{channel_transactions, lookups, terminals};
use crate::db::{self, Conn};
use crate::failures::classify::Judgement;
use crate::operators::Scope;

type Columns = (
    (String, i64, String, Option<String>, i64, Option<i64>, Option<String>, String, String),
    (Option<String>, Option<String>, Option<String>, i64, String, String, String),
    (String, i64, Option<String>, Option<i64>, String),
);

fn lookup(row: Columns) -> Lookup {
    let ((id, terminal_id, sn, event_id, at_ms, amount_fen, ref_no, level, source), seen, written) = row;
    let (merchant_name, merchant_no, mcc, looked_up_at_ms, note, judgement, tables_hash) = seen;
    let (created_by, created_at_ms, withdrawn_by, withdrawn_at_ms, org_path) = written;
    Lookup {
        id,
        terminal_id,
        sn,
        event_id,
        at_ms,
        amount_fen,
        ref_no,
        level,
        source,
        merchant_name,
        merchant_no,
        mcc,
        looked_up_at_ms,
        note,
        judgement: serde_json::from_str(&judgement).unwrap_or_default(),
        tables_hash,
        created_by,
        created_at_ms,
        withdrawn_by,
        withdrawn_at_ms,
        org_path,
    }
}

/// Whose a look-up is, as an expression: an index by organization would be taken for it, and all of them sorted by id.
const OWNER: &str = "lookups.org_path || ''";

/// Look-ups of transactions of organizations in the scope, with the columns of a [`Lookup`].
macro_rules! within {
    ($scope:expr) => {
        lookups::table
            .inner_join(terminals::table.on(terminals::id.eq(lookups::terminal_id)))
            .filter(sql::<Text>(OWNER).ge($scope.from()))
            .filter(sql::<Text>(OWNER).lt($scope.below()))
            .select((
                (
                    lookups::id,
                    lookups::terminal_id,
                    terminals::sn,
                    lookups::event_id,
                    lookups::at_ms,
                    lookups::amount_fen,
                    lookups::ref_no,
                    lookups::level,
                    lookups::source,
                ),
                (
                    lookups::merchant_name,
                    lookups::merchant_no,
                    lookups::mcc,
                    lookups::looked_up_at_ms,
                    lookups::note,
                    lookups::judgement,
                    lookups::tables_hash,
                ),
                (
                    lookups::created_by,
                    lookups::created_at_ms,
                    lookups::withdrawn_by,
                    lookups::withdrawn_at_ms,
                    lookups::org_path,
                ),
            ))
    };
}

/// `due_ms`: when it is judged again, Unix ms.
pub(super) fn insert(conn: &mut Conn, lookup: &Lookup, due_ms: Option<i64>) -> Result<(), db::Error> {
    let judgement = serde_json::to_string(&lookup.judgement).unwrap_or_default();
    diesel::insert_into(lookups::table)
        .values((
            (
                lookups::id.eq(&lookup.id),
                lookups::org_path.eq(&lookup.org_path),
                lookups::terminal_id.eq(lookup.terminal_id),
                lookups::event_id.eq(&lookup.event_id),
                lookups::at_ms.eq(lookup.at_ms),
                lookups::amount_fen.eq(lookup.amount_fen),
                lookups::ref_no.eq(&lookup.ref_no),
                lookups::level.eq(&lookup.level),
                lookups::source.eq(&lookup.source),
            ),
            (
                lookups::merchant_name.eq(&lookup.merchant_name),
                lookups::merchant_no.eq(&lookup.merchant_no),
                lookups::mcc.eq(&lookup.mcc),
                lookups::looked_up_at_ms.eq(lookup.looked_up_at_ms),
                lookups::note.eq(&lookup.note),
                lookups::judgement.eq(judgement),
                lookups::tables_hash.eq(&lookup.tables_hash),
                lookups::created_by.eq(&lookup.created_by),
                lookups::created_at_ms.eq(lookup.created_at_ms),
                lookups::due_ms.eq(due_ms),
            ),
        ))
        .execute(conn)?;
    Ok(())
}

/// Those to be judged again, in the order of their moments. By `lookups_due`.
pub(super) fn due(conn: &mut Conn, now: Now, limit: i64) -> Result<Vec<Lookup>, db::Error> {
    let everything = Scope::everything();
    let rows = within!(everything)
        .filter(lookups::due_ms.le(now.0))
        .filter(lookups::withdrawn_at_ms.is_null())
        .order((lookups::due_ms, lookups::id))
        .limit(limit);
    Ok(rows.load::<Columns>(conn)?.into_iter().map(lookup).collect())
}

/// Writes what was said of it anew; `false` when another server was faster, or it was taken back.
pub(super) fn judged(
    conn: &mut Conn,
    lookup: &Lookup,
    judgement: &Judgement,
    tables_hash: &str,
    due_ms: Option<i64>,
    now: Now,
) -> Result<bool, db::Error> {
    let row =
        lookups::table.find(&lookup.id).filter(lookups::due_ms.le(now.0)).filter(lookups::withdrawn_at_ms.is_null());
    let values = (
        lookups::judgement.eq(serde_json::to_string(judgement).unwrap_or_default()),
        lookups::tables_hash.eq(tables_hash),
        lookups::due_ms.eq(due_ms),
    );
    Ok(diesel::update(row).set(values).execute(conn)? == 1)
}

/// By primary key.
pub(super) fn find(conn: &mut Conn, scope: &Scope, id: &str) -> Result<Option<Lookup>, db::Error> {
    Ok(within!(scope).filter(lookups::id.eq(id)).first::<Columns>(conn).optional()?.map(lookup))
}

/// Newest first; ids grow with time. By `lookups_by_terminal` for one terminal, else by primary key.
pub(super) fn list(
    conn: &mut Conn,
    scope: &Scope,
    filter: &Filter,
    before: Option<&str>,
    limit: i64,
) -> Result<Vec<Lookup>, db::Error> {
    let mut query = within!(scope).into_boxed();
    if let Some(terminal_id) = filter.terminal_id {
        query = query.filter(lookups::terminal_id.eq(terminal_id));
    }
    if let Some(event_id) = &filter.event_id {
        query = query.filter(lookups::event_id.eq(event_id));
    }
    if !filter.with_withdrawn {
        query = query.filter(lookups::withdrawn_at_ms.is_null());
    }
    if let Some(before) = before {
        query = query.filter(lookups::id.lt(before));
    }
    let rows = query.order(lookups::id.desc()).limit(limit).load::<Columns>(conn)?;
    Ok(rows.into_iter().map(lookup).collect())
}

/// Takes it back; `false` when it was already.
pub(super) fn withdraw(conn: &mut Conn, id: &str, by: &str, now: Now) -> Result<bool, db::Error> {
    let row = lookups::table.filter(lookups::id.eq(id)).filter(lookups::withdrawn_at_ms.is_null());
    let values = (lookups::withdrawn_by.eq(by), lookups::withdrawn_at_ms.eq(now.0), lookups::due_ms.eq(None::<i64>));
    Ok(diesel::update(row).set(values).execute(conn)? == 1)
}

/// Different transactions looked up at a level, of organizations in the scope as they were then. A transaction is its
/// terminal with its event, or with its time where the terminal did not report it. By `lookups_by_org`.
pub(super) fn checked(conn: &mut Conn, scope: &Scope, level: &str, from_ms: i64, to_ms: i64) -> Result<i64, db::Error> {
    let different = "COUNT(DISTINCT CAST(lookups.terminal_id AS TEXT) || ' ' || \
                     COALESCE(lookups.event_id, CAST(lookups.at_ms AS TEXT)))";
    Ok(lookups::table
        .filter(lookups::org_path.ge(scope.from()))
        .filter(lookups::org_path.lt(scope.below()))
        .filter(lookups::level.eq(level))
        .filter(lookups::at_ms.ge(from_ms))
        .filter(lookups::at_ms.lt(to_ms))
        .filter(lookups::withdrawn_at_ms.is_null())
        .select(sql::<BigInt>(different))
        .first(conn)?)
}

/// Settled payments that channels told of, and those of them that were compared. By `channel_transactions_by_org`.
pub(super) fn compared(conn: &mut Conn, scope: &Scope, from_ms: i64, to_ms: i64) -> Result<(i64, i64), db::Error> {
    let settled = channel_transactions::table
        .filter(channel_transactions::org_path.ge(scope.from()))
        .filter(channel_transactions::org_path.lt(scope.below()))
        .filter(channel_transactions::at_ms.ge(from_ms))
        .filter(channel_transactions::at_ms.lt(to_ms))
        .filter(channel_transactions::status.eq("success"));
    let compared = settled.filter(channel_transactions::result.ne_all(["waiting", "unchecked"]));
    Ok((settled.count().get_result(conn)?, compared.count().get_result(conn)?))
}

/// At most `limit` rows made before `before_ms`. By `lookups_by_time`.
pub(super) fn delete_old(conn: &mut Conn, before_ms: i64, limit: i64) -> Result<usize, db::Error> {
    let oldest: Vec<String> = lookups::table
        .filter(lookups::created_at_ms.lt(before_ms))
        .order(lookups::created_at_ms)
        .limit(limit)
        .select(lookups::id)
        .load(conn)?;
    Ok(diesel::delete(lookups::table.filter(lookups::id.eq_any(oldest))).execute(conn)?)
}
