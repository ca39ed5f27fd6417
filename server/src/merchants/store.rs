//! SQL of merchants and their other numbers.

use diesel::prelude::*;

use super::Merchant;
use super::numbers::{MerchantNumber, Seen, State, Stored};
use crate::db::schema::{merchant_numbers, merchants};
use crate::db::{self, Conn};
use crate::on_backend;
use crate::operators::Scope;

#[derive(Queryable, Insertable)]
#[diesel(table_name = merchants)]
struct Row {
    id: i64,
    organization_id: i64,
    org_path: String,
    merchant_no: String,
    name: String,
    mcc: Option<String>,
    rate_ppm: Option<i64>,
    risk_class: Option<String>,
    created_by: String,
    created_at_ms: i64,
    version: i64,
}

impl From<Row> for Merchant {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            organization_id: row.organization_id,
            merchant_no: row.merchant_no,
            name: row.name,
            mcc: row.mcc,
            rate_ppm: row.rate_ppm,
            risk_class: row.risk_class,
            created_by: row.created_by,
            created_at_ms: row.created_at_ms,
            version: row.version,
        }
    }
}

/// By the unique index on organization and number.
pub(super) fn has(conn: &mut Conn, organization_id: i64, merchant_no: &str) -> Result<bool, db::Error> {
    let found: Option<i64> = merchants::table
        .filter(merchants::organization_id.eq(organization_id))
        .filter(merchants::merchant_no.eq(merchant_no))
        .select(merchants::id)
        .first(conn)
        .optional()?;
    Ok(found.is_some())
}

pub(super) fn insert(conn: &mut Conn, merchant: &Merchant, org_path: &str) -> Result<(), db::Error> {
    let merchant = merchant.clone();
    let row = Row {
        id: merchant.id,
        organization_id: merchant.organization_id,
        org_path: org_path.to_owned(),
        merchant_no: merchant.merchant_no,
        name: merchant.name,
        mcc: merchant.mcc,
        rate_ppm: merchant.rate_ppm,
        risk_class: merchant.risk_class,
        created_by: merchant.created_by,
        created_at_ms: merchant.created_at_ms,
        version: merchant.version,
    };
    diesel::insert_into(merchants::table).values(&row).execute(conn)?;
    Ok(())
}

/// Compare-and-set on `version`.
pub(super) fn replace(conn: &mut Conn, merchant: &Merchant, expected: i64) -> Result<bool, db::Error> {
    let row = merchants::table.find(merchant.id).filter(merchants::version.eq(expected));
    let changed = diesel::update(row)
        .set((
            merchants::name.eq(&merchant.name),
            merchants::mcc.eq(&merchant.mcc),
            merchants::rate_ppm.eq(merchant.rate_ppm),
            merchants::risk_class.eq(&merchant.risk_class),
            merchants::version.eq(merchant.version),
        ))
        .execute(conn)?;
    Ok(changed == 1)
}

/// By primary key, within the scope.
pub(super) fn find(conn: &mut Conn, scope: &Scope, id: i64) -> Result<Option<(Merchant, String)>, db::Error> {
    let row: Option<Row> = merchants::table
        .find(id)
        .filter(merchants::org_path.ge(scope.from()))
        .filter(merchants::org_path.lt(scope.below()))
        .first(conn)
        .optional()?;
    Ok(row.map(with_path))
}

fn with_path(row: Row) -> (Merchant, String) {
    let org_path = row.org_path.clone();
    (row.into(), org_path)
}

/// Newest first. By `merchants_by_org`.
pub(super) fn list(
    conn: &mut Conn,
    scope: &Scope,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<Merchant>, db::Error> {
    let rows: Vec<Row> = merchants::table
        .filter(merchants::org_path.ge(scope.from()))
        .filter(merchants::org_path.lt(scope.below()))
        .filter(merchants::id.lt(before.unwrap_or(i64::MAX)))
        .order(merchants::id.desc())
        .limit(limit)
        .load(conn)?;
    Ok(rows.into_iter().map(Merchant::from).collect())
}

/// By `merchants_by_no`.
pub(super) fn of_numbers(
    conn: &mut Conn,
    scope: &Scope,
    numbers: &[String],
) -> Result<Vec<(Merchant, String)>, db::Error> {
    let rows: Vec<Row> = merchants::table
        .filter(merchants::merchant_no.eq_any(numbers))
        .filter(merchants::org_path.ge(scope.from()))
        .filter(merchants::org_path.lt(scope.below()))
        .load(conn)?;
    Ok(rows.into_iter().map(with_path).collect())
}

#[derive(Queryable)]
struct NumberRow {
    id: i64,
    org_path: String,
    bound_no: String,
    number: String,
    name: Option<String>,
    state: String,
    payments: i64,
    first_seen_ms: Option<i64>,
    last_seen_ms: Option<i64>,
    reason: String,
    valid_from_ms: Option<i64>,
    valid_to_ms: Option<i64>,
    requested_by_kind: Option<String>,
    requested_by_id: Option<i64>,
    requested_by: Option<String>,
    decided_by: Option<String>,
    decided_at_ms: Option<i64>,
    version: i64,
}

impl From<NumberRow> for Stored {
    fn from(row: NumberRow) -> Self {
        let number = MerchantNumber {
            id: row.id,
            org_path: row.org_path,
            bound_no: row.bound_no,
            number: row.number,
            name: row.name,
            // The table's own check lets no other name in; under review is the safe answer.
            state: State::parse(&row.state).unwrap_or(State::Open),
            payments: row.payments,
            first_seen_ms: row.first_seen_ms,
            last_seen_ms: row.last_seen_ms,
            reason: row.reason,
            valid_from_ms: row.valid_from_ms,
            valid_to_ms: row.valid_to_ms,
            requested_by: row.requested_by,
            decided_by: row.decided_by,
            decided_at_ms: row.decided_at_ms,
            version: row.version,
        };
        Self { number, requested_by: row.requested_by_kind.zip(row.requested_by_id) }
    }
}

/// A number under review; `false` when the pair is known.
pub(super) fn insert_number(conn: &mut Conn, id: i64, seen: &Seen<'_>) -> Result<bool, db::Error> {
    let row = (
        merchant_numbers::id.eq(id),
        merchant_numbers::org_path.eq(seen.org_path),
        merchant_numbers::bound_no.eq(seen.bound_no),
        merchant_numbers::number.eq(seen.number),
        merchant_numbers::name.eq(seen.name),
        merchant_numbers::state.eq(State::Open.as_str()),
        merchant_numbers::payments.eq(i64::from(seen.at_ms.is_some())),
        merchant_numbers::first_seen_ms.eq(seen.at_ms),
        merchant_numbers::last_seen_ms.eq(seen.at_ms),
        merchant_numbers::reason.eq(""),
        merchant_numbers::version.eq(1),
    );
    // Not a failure on conflict: on PostgreSQL that would spoil the caller's whole transaction.
    let inserted = on_backend!(conn, |c| diesel::insert_into(merchant_numbers::table)
        .values(row)
        .on_conflict_do_nothing()
        .execute(c))?;
    Ok(inserted == 1)
}

/// One payment more under a known pair; `false` when it is not known.
pub(super) fn count_number(conn: &mut Conn, seen: &Seen<'_>) -> Result<bool, db::Error> {
    let row = merchant_numbers::table
        .filter(merchant_numbers::org_path.eq(seen.org_path))
        .filter(merchant_numbers::bound_no.eq(seen.bound_no))
        .filter(merchant_numbers::number.eq(seen.number));
    type Columns = (i64, Option<i64>, Option<i64>);
    let found: Option<Columns> = row
        .select((merchant_numbers::id, merchant_numbers::first_seen_ms, merchant_numbers::last_seen_ms))
        .first(conn)
        .optional()?;
    let Some((id, first_ms, last_ms)) = found else { return Ok(false) };
    let first_ms = [first_ms, seen.at_ms].into_iter().flatten().min();
    let last_ms = [last_ms, seen.at_ms].into_iter().flatten().max();
    diesel::update(merchant_numbers::table.find(id))
        .set((
            merchant_numbers::payments.eq(merchant_numbers::payments + i64::from(seen.at_ms.is_some())),
            merchant_numbers::first_seen_ms.eq(first_ms),
            merchant_numbers::last_seen_ms.eq(last_ms),
        ))
        .execute(conn)?;
    if let Some(name) = seen.name {
        diesel::update(merchant_numbers::table.find(id)).set(merchant_numbers::name.eq(name)).execute(conn)?;
    }
    Ok(true)
}

/// By primary key, within the scope.
pub(super) fn number(conn: &mut Conn, scope: &Scope, id: i64) -> Result<Option<Stored>, db::Error> {
    let row: Option<NumberRow> = merchant_numbers::table
        .find(id)
        .filter(merchant_numbers::org_path.ge(scope.from()))
        .filter(merchant_numbers::org_path.lt(scope.below()))
        .first(conn)
        .optional()?;
    Ok(row.map(Stored::from))
}

/// Newest first. By `merchant_numbers_by_state`.
pub(super) fn numbers(
    conn: &mut Conn,
    scope: &Scope,
    state: Option<State>,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<MerchantNumber>, db::Error> {
    let mut query = merchant_numbers::table
        .filter(merchant_numbers::org_path.ge(scope.from()))
        .filter(merchant_numbers::org_path.lt(scope.below()))
        .filter(merchant_numbers::id.lt(before.unwrap_or(i64::MAX)))
        .into_boxed();
    if let Some(state) = state {
        query = query.filter(merchant_numbers::state.eq(state.as_str()));
    }
    let rows: Vec<NumberRow> = query.order(merchant_numbers::id.desc()).limit(limit).load(conn)?;
    Ok(rows.into_iter().map(|row| Stored::from(row).number).collect())
}

/// Of these bound numbers.
pub(super) fn numbers_of_bound(conn: &mut Conn, bound: &[String]) -> Result<Vec<MerchantNumber>, db::Error> {
    let rows: Vec<NumberRow> = merchant_numbers::table.filter(merchant_numbers::bound_no.eq_any(bound)).load(conn)?;
    Ok(rows.into_iter().map(|row| Stored::from(row).number).collect())
}

/// Compare-and-set on `version`.
pub(super) fn replace_number(conn: &mut Conn, after: &Stored, expected: i64) -> Result<bool, db::Error> {
    let number = &after.number;
    let row = merchant_numbers::table.find(number.id).filter(merchant_numbers::version.eq(expected));
    let changed = diesel::update(row)
        .set((
            merchant_numbers::state.eq(number.state.as_str()),
            merchant_numbers::reason.eq(&number.reason),
            merchant_numbers::valid_from_ms.eq(number.valid_from_ms),
            merchant_numbers::valid_to_ms.eq(number.valid_to_ms),
            merchant_numbers::requested_by_kind.eq(after.requested_by.as_ref().map(|by| by.0.as_str())),
            merchant_numbers::requested_by_id.eq(after.requested_by.as_ref().map(|by| by.1)),
            merchant_numbers::requested_by.eq(&number.requested_by),
            merchant_numbers::decided_by.eq(&number.decided_by),
            merchant_numbers::decided_at_ms.eq(number.decided_at_ms),
            merchant_numbers::version.eq(number.version),
        ))
        .execute(conn)?;
    Ok(changed == 1)
}
