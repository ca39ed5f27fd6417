//! SQL of the registry: models, terminals, tags. The list's copy of a terminal's attributes in `terminal_states` is
//! written here, together with what it is a copy of.

use diesel::prelude::*;

use super::lifecycle::Lifecycle;
use super::{Model, Registered, Registration};
use crate::clock::Now;
use crate::db::schema::{models, terminal_states, terminal_tags, terminals};
use crate::db::{self, Conn};
use crate::operators::Scope;
use crate::organizations::Organization;

/// A row of `terminals`.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Insertable)]
#[diesel(table_name = terminals)]
pub(super) struct Record {
    pub(super) id: i64,
    pub(super) sn: String,
    pub(super) sn_reversed: String,
    pub(super) tusn: Option<String>,
    pub(super) model: String,
    pub(super) hardware: Option<String>,
    pub(super) organization_id: i64,
    pub(super) org_path: String,
    pub(super) merchant_no: Option<String>,
    pub(super) merchant_name: Option<String>,
    pub(super) store_name: Option<String>,
    pub(super) terminal_no: Option<String>,
    pub(super) region: String,
    pub(super) iccid: Option<String>,
    pub(super) imei: Option<String>,
    pub(super) notes: Option<String>,
    pub(super) lifecycle: String,
    pub(super) session_epoch: i64,
    pub(super) public_key: Option<String>,
    pub(super) enrolled_at_ms: Option<i64>,
    pub(super) stream: i64,
    pub(super) check_in_interval_s: Option<i64>,
    pub(super) assignment_version: i64,
    pub(super) desired_config_hash: Option<String>,
    pub(super) created_at_ms: i64,
    pub(super) version: i64,
    pub(super) utc_offset_min: Option<i64>,
}

/// Where neither the terminal nor its organization has a region.
pub(super) const REGION_UNKNOWN: &str = "unknown";

impl Record {
    /// The row of a new terminal.
    pub(super) fn new(id: i64, given: Registration, owner: &Organization, now: Now) -> Self {
        let sn: String = given.sn.into();
        Self {
            id,
            sn_reversed: sn.chars().rev().collect(),
            sn,
            tusn: given.tusn,
            model: given.model.into(),
            hardware: given.hardware,
            organization_id: owner.id,
            org_path: owner.path.clone(),
            merchant_no: given.merchant_no,
            merchant_name: given.merchant_name,
            store_name: given.store_name,
            terminal_no: given.terminal_no,
            region: given.region.or_else(|| owner.region.clone()).unwrap_or_else(|| REGION_UNKNOWN.to_owned()),
            iccid: given.iccid,
            imei: given.imei,
            notes: given.notes,
            lifecycle: Lifecycle::Stocked.as_str().to_owned(),
            session_epoch: 0,
            public_key: None,
            enrolled_at_ms: None,
            stream: 0,
            check_in_interval_s: given.check_in_interval_s,
            assignment_version: 0,
            desired_config_hash: None,
            created_at_ms: now.0,
            version: 1,
            utc_offset_min: None,
        }
    }

    /// The state; the table's own check lets no other name in.
    pub(super) fn lifecycle(&self) -> Lifecycle {
        Lifecycle::parse(&self.lifecycle).unwrap_or(Lifecycle::Blocked)
    }
}

/// The state of a terminal that never called.
#[derive(Debug, Clone, Insertable)]
#[diesel(table_name = terminal_states)]
pub(super) struct NewState {
    terminal_id: i64,
    stream: i64,
    seq: i64,
    first_seen_ms: i64,
    last_seen_ms: i64,
    next_check_in_ms: i64,
    interval_s: i64,
    sampled_at_ms: i64,
    check_ins: i64,
    failures: i64,
    transactions_ok: i64,
    transactions_failed: i64,
    firmware: String,
    slot: String,
    agent: String,
    app: Option<String>,
    config_hash: Option<String>,
    access: String,
    carrier: String,
    signal: String,
    org_path: Option<String>,
    model: Option<String>,
    lifecycle: Option<String>,
    region: Option<String>,
    tags: Option<String>,
    report: String,
}

impl NewState {
    pub(super) fn of(record: &Record, tags: &[String]) -> Self {
        Self {
            terminal_id: record.id,
            stream: 0,
            seq: 0,
            first_seen_ms: 0,
            last_seen_ms: 0,
            next_check_in_ms: 0,
            interval_s: 0,
            sampled_at_ms: 0,
            check_ins: 0,
            failures: 0,
            transactions_ok: 0,
            transactions_failed: 0,
            firmware: String::new(),
            slot: String::new(),
            agent: String::new(),
            app: None,
            config_hash: None,
            access: String::new(),
            carrier: String::new(),
            signal: String::new(),
            org_path: Some(record.org_path.clone()),
            model: Some(record.model.clone()),
            lifecycle: Some(record.lifecycle.clone()),
            region: Some(record.region.clone()),
            tags: Some(joined(tags)),
            report: "{}".to_owned(),
        }
    }
}

/// Tags as the list's indexes hold them: `,one,two,`, so that `,one,` is found whole.
pub(super) fn joined(tags: &[String]) -> String {
    if tags.is_empty() { String::new() } else { format!(",{},", tags.join(",")) }
}

/// By primary key, within `scope`.
pub(super) fn find(conn: &mut Conn, scope: &Scope, id: i64) -> Result<Option<Record>, db::Error> {
    Ok(terminals::table
        .find(id)
        .filter(terminals::org_path.ge(scope.from()))
        .filter(terminals::org_path.lt(scope.below()))
        .first(conn)
        .optional()?)
}

/// By the unique index on `sn`, within `scope`.
pub(super) fn id_of_sn(conn: &mut Conn, scope: &Scope, sn: &str) -> Result<Option<i64>, db::Error> {
    Ok(terminals::table
        .filter(terminals::sn.eq(sn))
        .filter(terminals::org_path.ge(scope.from()))
        .filter(terminals::org_path.lt(scope.below()))
        .select(terminals::id)
        .first(conn)
        .optional()?)
}

/// How terminals are named.
pub(super) enum Named<'a> {
    /// By serial number.
    Sn(&'a [&'a str]),
    /// By the channel's number.
    TerminalNo(&'a [&'a str]),
}

/// Terminals of the scope. By the unique index on `sn` or by `terminals_by_terminal_no`.
pub(super) fn registered(conn: &mut Conn, scope: &Scope, named: Named<'_>) -> Result<Vec<Registered>, db::Error> {
    let mut query = terminals::table
        .left_join(terminal_states::table.on(terminal_states::terminal_id.eq(terminals::id)))
        .filter(terminals::org_path.ge(scope.from()))
        .filter(terminals::org_path.lt(scope.below()))
        .into_boxed();
    query = match named {
        Named::Sn(sns) => query.filter(terminals::sn.eq_any(sns)),
        Named::TerminalNo(numbers) => query.filter(terminals::terminal_no.eq_any(numbers)),
    };
    type Columns = (Option<String>, i64, String, String, String, Option<String>, String, Option<i64>);
    let rows: Vec<Columns> = query
        .select((
            terminals::terminal_no,
            terminals::id,
            terminals::sn,
            terminals::org_path,
            terminals::model,
            terminals::hardware,
            terminals::region,
            terminal_states::first_seen_ms.nullable(),
        ))
        .load(conn)?;
    let terminal = |(terminal_no, id, sn, org_path, model, hardware, region, first_seen_ms): Columns| {
        let calls = first_seen_ms.is_some_and(|at_ms| at_ms > 0);
        Registered { id, sn, terminal_no, org_path, model, hardware, region, calls }
    };
    Ok(rows.into_iter().map(terminal).collect())
}

/// Whether the serial number or the TUSN is in use anywhere: both are unique over all organizations.
pub(super) fn is_taken(conn: &mut Conn, sn: &str, tusn: Option<&str>) -> Result<Option<&'static str>, db::Error> {
    let by_sn: Option<i64> =
        terminals::table.filter(terminals::sn.eq(sn)).select(terminals::id).first(conn).optional()?;
    if by_sn.is_some() {
        return Ok(Some("sn"));
    }
    let Some(tusn) = tusn else { return Ok(None) };
    let by_tusn: Option<i64> =
        terminals::table.filter(terminals::tusn.eq(tusn)).select(terminals::id).first(conn).optional()?;
    Ok(by_tusn.map(|_| "tusn"))
}

/// The terminal, its state and its tags.
pub(super) fn insert(conn: &mut Conn, record: &Record, tags: &[String]) -> Result<(), db::Error> {
    diesel::insert_into(terminals::table).values(record).execute(conn)?;
    diesel::insert_into(terminal_states::table).values(NewState::of(record, tags)).execute(conn)?;
    insert_tags(conn, record.id, tags)
}

/// Writes what operators may change, if the version is still `expected`, and the list's copy of it.
pub(super) fn save(conn: &mut Conn, record: &Record, expected: i64) -> Result<bool, db::Error> {
    lock_state(conn, record.id)?;
    let row = terminals::table.filter(terminals::id.eq(record.id)).filter(terminals::version.eq(expected));
    let changed = diesel::update(row)
        .set((
            terminals::tusn.eq(&record.tusn),
            terminals::hardware.eq(&record.hardware),
            terminals::organization_id.eq(record.organization_id),
            terminals::org_path.eq(&record.org_path),
            terminals::merchant_no.eq(&record.merchant_no),
            terminals::merchant_name.eq(&record.merchant_name),
            terminals::store_name.eq(&record.store_name),
            terminals::terminal_no.eq(&record.terminal_no),
            terminals::region.eq(&record.region),
            terminals::iccid.eq(&record.iccid),
            terminals::imei.eq(&record.imei),
            terminals::notes.eq(&record.notes),
            terminals::lifecycle.eq(&record.lifecycle),
            terminals::session_epoch.eq(record.session_epoch),
            terminals::check_in_interval_s.eq(record.check_in_interval_s),
            terminals::utc_offset_min.eq(record.utc_offset_min),
            terminals::version.eq(expected.saturating_add(1)),
        ))
        .execute(conn)?;
    if changed == 0 {
        return Ok(false);
    }
    diesel::update(terminal_states::table.find(record.id))
        .set((
            terminal_states::org_path.eq(&record.org_path),
            terminal_states::lifecycle.eq(&record.lifecycle),
            terminal_states::region.eq(&record.region),
        ))
        .execute(conn)?;
    Ok(true)
}

/// Check-ins write a terminal's state before its record, so everybody takes the two in this order: who began with the
/// record would wait for a check-in that waits for the record. SQLite has one writer and nothing to lock.
fn lock_state(conn: &mut Conn, id: i64) -> Result<(), db::Error> {
    if let Conn::Postgres(conn) = conn {
        let row = terminal_states::table.find(id).select(terminal_states::terminal_id);
        row.for_update().first::<i64>(conn).optional()?;
    }
    Ok(())
}

/// Replaces a terminal's tags, in both places.
pub(super) fn replace_tags(conn: &mut Conn, id: i64, tags: &[String]) -> Result<(), db::Error> {
    diesel::delete(terminal_tags::table.filter(terminal_tags::terminal_id.eq(id))).execute(conn)?;
    insert_tags(conn, id, tags)?;
    diesel::update(terminal_states::table.find(id)).set(terminal_states::tags.eq(joined(tags))).execute(conn)?;
    Ok(())
}

fn insert_tags(conn: &mut Conn, id: i64, tags: &[String]) -> Result<(), db::Error> {
    for tag in tags {
        diesel::insert_into(terminal_tags::table)
            .values((terminal_tags::tag.eq(tag), terminal_tags::terminal_id.eq(id)))
            .execute(conn)?;
    }
    Ok(())
}

/// By `terminal_tags_by_terminal`.
pub(super) fn tags_of(conn: &mut Conn, id: i64) -> Result<Vec<String>, db::Error> {
    Ok(terminal_tags::table
        .filter(terminal_tags::terminal_id.eq(id))
        .order(terminal_tags::tag)
        .select(terminal_tags::tag)
        .load(conn)?)
}

/// Models there can be at most: every page and every file reads all of them.
pub(super) const MODELS_MAX: i64 = 1_000;

type ModelColumns = (String, String, String, i64);

/// All models, by code.
pub(super) fn models(conn: &mut Conn) -> Result<Vec<Model>, db::Error> {
    let rows = models::table.order(models::code).limit(MODELS_MAX).load::<ModelColumns>(conn)?;
    Ok(rows.into_iter().map(model).collect())
}

fn model((code, name, capabilities, created_at_ms): ModelColumns) -> Model {
    // Only `insert_model` writes them, from the same type.
    let capabilities = serde_json::from_str(&capabilities).unwrap_or_default();
    Model { code, name, capabilities, created_at_ms }
}

/// Whether there is such a model.
pub(super) fn has_model(conn: &mut Conn, code: &str) -> Result<bool, db::Error> {
    Ok(models::table.find(code).select(models::code).first::<String>(conn).optional()?.is_some())
}

/// A model more.
pub(super) fn insert_model(conn: &mut Conn, model: &Model) -> Result<(), db::Error> {
    diesel::insert_into(models::table)
        .values((
            models::code.eq(&model.code),
            models::name.eq(&model.name),
            models::capabilities.eq(serde_json::to_string(&model.capabilities).unwrap_or_default()),
            models::created_at_ms.eq(model.created_at_ms),
        ))
        .execute(conn)?;
    Ok(())
}

/// How many models there are.
pub(super) fn count_models(conn: &mut Conn) -> Result<i64, db::Error> {
    Ok(models::table.count().get_result(conn)?)
}
