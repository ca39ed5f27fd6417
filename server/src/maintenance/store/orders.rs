//! SQL of work orders.

use std::collections::{HashMap, HashSet};

use diesel::dsl::{exists, sql};
use diesel::prelude::*;
use diesel::sql_types::Bool;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tillward_protocol::checkin::CheckIn;

use crate::clock::Now;
use crate::db::schema::{terminal_states, terminals, work_order_events, work_orders};
use crate::db::{self, Conn, Sequence, next_id};
use crate::maintenance::checklist::{Answers, Checklist};
use crate::maintenance::orders::proof::{Baseline, Check};
use crate::maintenance::orders::{Filter, Kind, Opening, State};
use crate::maintenance::reason::{Reason, Urgency};
use crate::on_backend;
use crate::operators::Scope;

/// Orders that one pass looks at.
const PASS_MAX: i64 = 200;
/// Lines of a history that are shown, the newest.
const HISTORY_MAX: i64 = 200;
/// Orders on one person's own list: more are not done in a week.
const MINE_MAX: i64 = 50;
/// Orders deleted in one transaction: a few milliseconds.
const DELETED_MAX: i64 = 100;

/// That the work was said to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::maintenance) struct Done {
    pub at_ms: i64,
    pub by_id: i64,
    pub by: String,
    pub baseline: Baseline,
}

/// A check-in as it was judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::maintenance) struct Proof {
    pub check_in: i64,
    pub received_at_ms: i64,
    pub checks: Vec<Check>,
}

/// One row.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::maintenance) struct Stored {
    pub id: i64,
    pub org_path: String,
    pub terminal_id: i64,
    pub kind: Kind,
    pub reason: Option<Reason>,
    pub incident_id: Option<i64>,
    pub state: State,
    pub urgency: Urgency,
    pub due_ms: i64,
    pub assignee: Option<(i64, String)>,
    pub opened_by: String,
    pub checklist: Checklist,
    pub answers: Answers,
    pub done: Option<Done>,
    pub proof_terminal_id: Option<i64>,
    pub expected_firmware: Option<String>,
    pub judged: i64,
    pub proof: Option<Proof>,
    pub outcome: Option<String>,
    pub state_since_ms: i64,
    pub deadline_ms: Option<i64>,
    pub reminders: u32,
    pub opened_at_ms: i64,
    pub closed_at_ms: Option<i64>,
    pub version: i64,
}

#[derive(Queryable)]
struct Row {
    id: i64,
    org_path: String,
    terminal_id: i64,
    kind: String,
    _dedup_key: String,
    reason: Option<String>,
    incident_id: Option<i64>,
    state: String,
    urgency: i64,
    due_ms: i64,
    assignee_id: Option<i64>,
    assignee_name: Option<String>,
    opened_by: String,
    checklist: String,
    answers: String,
    done: Option<String>,
    proof_terminal_id: Option<i64>,
    expected_firmware: Option<String>,
    judged: i64,
    proof: Option<String>,
    outcome: Option<String>,
    state_since_ms: i64,
    deadline_ms: Option<i64>,
    reminders: i64,
    opened_at_ms: i64,
    closed_at_ms: Option<i64>,
    version: i64,
    _overdue_told_ms: Option<i64>,
}

/// A row that this program cannot read is left alone, and said.
fn stored(row: Row) -> Option<Stored> {
    let names = (Kind::parse(&row.kind), State::parse(&row.state), Urgency::of_rank(row.urgency));
    let (Some(kind), Some(state), Some(urgency)) = names else {
        tracing::error!(order = row.id, kind = row.kind, state = row.state, "a work order's row cannot be read");
        return None;
    };
    let none = || Checklist { kind, organization_id: None, version: 0, items: Vec::new() };
    Some(Stored {
        id: row.id,
        org_path: row.org_path,
        terminal_id: row.terminal_id,
        kind,
        reason: row.reason.as_deref().and_then(Reason::parse),
        incident_id: row.incident_id,
        state,
        urgency,
        due_ms: row.due_ms,
        assignee: row.assignee_id.zip(row.assignee_name),
        opened_by: row.opened_by,
        checklist: serde_json::from_str(&row.checklist).unwrap_or_else(|_| none()),
        answers: serde_json::from_str(&row.answers).unwrap_or_default(),
        done: row.done.and_then(|text| serde_json::from_str(&text).ok()),
        proof_terminal_id: row.proof_terminal_id,
        expected_firmware: row.expected_firmware,
        judged: row.judged,
        proof: row.proof.and_then(|text| serde_json::from_str(&text).ok()),
        outcome: row.outcome,
        state_since_ms: row.state_since_ms,
        deadline_ms: row.deadline_ms,
        reminders: u32::try_from(row.reminders).unwrap_or(u32::MAX),
        opened_at_ms: row.opened_at_ms,
        closed_at_ms: row.closed_at_ms,
        version: row.version,
    })
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// Inserts an open order; `None` when there is a live one about the same thing already.
pub(in crate::maintenance) fn insert(
    conn: &mut Conn,
    opening: &Opening,
    checklist: &Checklist,
    opened_by: &str,
    now: Now,
) -> Result<Option<i64>, db::Error> {
    let id = next_id(conn, Sequence::WorkOrders)?;
    let state = State::Open;
    let row = (
        (
            work_orders::id.eq(id),
            work_orders::org_path.eq(&opening.org_path),
            work_orders::terminal_id.eq(opening.terminal_id),
            work_orders::kind.eq(opening.kind.as_str()),
            work_orders::dedup_key.eq(&opening.dedup_key),
            work_orders::reason.eq(opening.reason.map(Reason::as_str)),
            work_orders::incident_id.eq(opening.incident_id),
            work_orders::state.eq(state.as_str()),
            work_orders::urgency.eq(opening.urgency.rank()),
            work_orders::due_ms.eq(now.0.saturating_add(opening.due_in_ms)),
        ),
        (
            work_orders::opened_by.eq(opened_by),
            work_orders::checklist.eq(json(checklist)),
            work_orders::answers.eq("{}"),
            work_orders::expected_firmware.eq(&opening.expected_firmware),
            work_orders::judged.eq(0),
            work_orders::state_since_ms.eq(now.0),
            work_orders::deadline_ms.eq(state.time_limit_ms(0).map(|limit_ms| now.0.saturating_add(limit_ms))),
            work_orders::reminders.eq(0),
            work_orders::opened_at_ms.eq(now.0),
            work_orders::version.eq(1),
        ),
    );
    // Not a failure on conflict: on PostgreSQL that would spoil the caller's whole transaction.
    let inserted =
        on_backend!(conn, |c| diesel::insert_into(work_orders::table).values(row).on_conflict_do_nothing().execute(c))?;
    Ok((inserted == 1).then_some(id))
}

/// The live order about one thing at one terminal. By `work_orders_by_terminal`.
pub(in crate::maintenance) fn live(conn: &mut Conn, terminal_id: i64, key: &str) -> Result<Option<i64>, db::Error> {
    let found = work_orders::table
        .filter(work_orders::terminal_id.eq(terminal_id))
        .filter(work_orders::dedup_key.eq(key))
        .filter(work_orders::state.eq_any(State::LIVE.map(State::as_str)))
        .select(work_orders::id)
        .first(conn)
        .optional()?;
    Ok(found)
}

/// Whether an order about one thing at one terminal stands in the way of another: one that is not over, that a person
/// cancelled, or that was closed since `since_ms`. By `work_orders_by_terminal`.
pub(in crate::maintenance) fn stands(
    conn: &mut Conn,
    terminal_id: i64,
    key: &str,
    since_ms: i64,
) -> Result<bool, db::Error> {
    let standing = work_orders::table
        .filter(work_orders::terminal_id.eq(terminal_id))
        .filter(work_orders::dedup_key.eq(key))
        .filter(work_orders::state.ne(State::Closed.as_str()).or(work_orders::closed_at_ms.ge(since_ms)));
    Ok(diesel::select(exists(standing)).get_result(conn)?)
}

/// What these terminals ever had orders about. By `work_orders_by_terminal`.
pub(in crate::maintenance) fn keys_of(conn: &mut Conn, ids: &[i64]) -> Result<HashSet<(i64, String)>, db::Error> {
    if ids.is_empty() {
        return Ok(HashSet::new());
    }
    let rows: Vec<(i64, String)> = work_orders::table
        .filter(work_orders::terminal_id.eq_any(ids.to_vec()))
        .select((work_orders::terminal_id, work_orders::dedup_key))
        .distinct()
        .load(conn)?;
    Ok(rows.into_iter().collect())
}

/// Serial number and organization of a terminal, by primary key.
pub(in crate::maintenance) fn terminal(conn: &mut Conn, id: i64) -> Result<Option<(String, String)>, db::Error> {
    Ok(terminals::table.find(id).select((terminals::sn, terminals::org_path)).first(conn).optional()?)
}

/// An order, locked until the transaction ends. By primary key.
pub(in crate::maintenance) fn hold(conn: &mut Conn, id: i64) -> Result<Option<Stored>, db::Error> {
    // Writing takes the lock on both databases, and the row is read as it is under it.
    diesel::update(work_orders::table.find(id)).set(work_orders::version.eq(work_orders::version + 1)).execute(conn)?;
    Ok(work_orders::table.find(id).first::<Row>(conn).optional()?.and_then(stored))
}

/// By primary key, within the scope.
pub(in crate::maintenance) fn get(conn: &mut Conn, scope: &Scope, id: i64) -> Result<Option<Stored>, db::Error> {
    let row = work_orders::table
        .find(id)
        .filter(work_orders::org_path.ge(scope.from()))
        .filter(work_orders::org_path.lt(scope.below()))
        .first::<Row>(conn)
        .optional()?;
    Ok(row.and_then(stored))
}

/// Compare-and-set on `version`; returns whether the row was still the one that was read.
pub(in crate::maintenance) fn replace(conn: &mut Conn, before: &Stored, after: &Stored) -> Result<bool, db::Error> {
    let row = work_orders::table.find(before.id).filter(work_orders::version.eq(before.version));
    let written = diesel::update(row)
        .set((
            work_orders::state.eq(after.state.as_str()),
            work_orders::assignee_id.eq(after.assignee.as_ref().map(|assignee| assignee.0)),
            work_orders::assignee_name.eq(after.assignee.as_ref().map(|assignee| assignee.1.as_str())),
            work_orders::answers.eq(json(&after.answers)),
            work_orders::done.eq(after.done.as_ref().map(json)),
            work_orders::proof_terminal_id.eq(after.proof_terminal_id),
            work_orders::judged.eq(after.judged),
            work_orders::proof.eq(after.proof.as_ref().map(json)),
            work_orders::outcome.eq(after.outcome.as_deref()),
            work_orders::state_since_ms.eq(after.state_since_ms),
            work_orders::deadline_ms.eq(after.deadline_ms),
            work_orders::reminders.eq(i64::from(after.reminders)),
            work_orders::closed_at_ms.eq(after.closed_at_ms),
            work_orders::version.eq(before.version + 1),
        ))
        .execute(conn)?;
    Ok(written == 1)
}

/// Newest first, before `before`. By `work_orders_by_org`, or by the index of the state, the terminal or the assignee.
pub(in crate::maintenance) fn list(
    conn: &mut Conn,
    scope: &Scope,
    filter: &Filter,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<Stored>, db::Error> {
    let mut query = work_orders::table
        .filter(work_orders::org_path.ge(scope.from()))
        .filter(work_orders::org_path.lt(scope.below()))
        .into_boxed();
    if let Some(before) = before {
        query = query.filter(work_orders::id.lt(before));
    }
    if !filter.states.is_empty() {
        let states: Vec<&str> = filter.states.iter().map(|state| state.as_str()).collect();
        query = query.filter(work_orders::state.eq_any(states));
    }
    if let Some(kind) = filter.kind {
        query = query.filter(work_orders::kind.eq(kind.as_str()));
    }
    if let Some(assignee_id) = filter.assignee_id {
        query = query.filter(work_orders::assignee_id.eq(assignee_id));
    }
    if let Some(terminal_id) = filter.terminal_id {
        query = query.filter(work_orders::terminal_id.eq(terminal_id));
    }
    let rows = query.order(work_orders::id.desc()).limit(limit).load::<Row>(conn)?;
    Ok(rows.into_iter().filter_map(stored).collect())
}

/// What an operator has to do, the soonest due first. By `work_orders_by_assignee`.
pub(in crate::maintenance) fn mine(conn: &mut Conn, scope: &Scope, operator_id: i64) -> Result<Vec<Stored>, db::Error> {
    let rows = work_orders::table
        .filter(work_orders::assignee_id.eq(operator_id))
        .filter(work_orders::state.eq_any(State::LIVE.map(State::as_str)))
        .filter(work_orders::org_path.ge(scope.from()))
        .filter(work_orders::org_path.lt(scope.below()))
        .order((work_orders::due_ms, work_orders::id))
        .limit(MINE_MAX)
        .load::<Row>(conn)?;
    Ok(rows.into_iter().filter_map(stored).collect())
}

/// What people call a terminal.
#[derive(Debug, Clone, Default)]
pub(in crate::maintenance) struct Place {
    pub sn: String,
    pub merchant_name: Option<String>,
    pub store_name: Option<String>,
}

/// By primary key.
pub(in crate::maintenance) fn places(conn: &mut Conn, ids: Vec<i64>) -> Result<HashMap<i64, Place>, db::Error> {
    let rows = terminals::table
        .filter(terminals::id.eq_any(ids))
        .select((terminals::id, terminals::sn, terminals::merchant_name, terminals::store_name))
        .load::<(i64, String, Option<String>, Option<String>)>(conn)?;
    let place = |(id, sn, merchant_name, store_name)| (id, Place { sn, merchant_name, store_name });
    Ok(rows.into_iter().map(place).collect())
}

/// A merchant number and a store, where they are known.
type MerchantAndStore = (Option<String>, Option<String>);

/// Merchant numbers and stores to which terminals are bound. By primary key.
pub(in crate::maintenance) fn stores_of(
    conn: &mut Conn,
    ids: &[i64],
) -> Result<HashMap<i64, MerchantAndStore>, db::Error> {
    let rows = terminals::table
        .filter(terminals::id.eq_any(ids.to_vec()))
        .select((terminals::id, terminals::merchant_no, terminals::store_name))
        .load::<(i64, Option<String>, Option<String>)>(conn)?;
    Ok(rows.into_iter().map(|(id, merchant_no, store_name)| (id, (merchant_no, store_name))).collect())
}

/// What a terminal's last check-in left.
pub(in crate::maintenance) struct Seen {
    pub check_ins: i64,
    pub last_seen_ms: i64,
    pub report: String,
}

/// By primary key.
pub(in crate::maintenance) fn seen(conn: &mut Conn, terminal_id: i64) -> Result<Option<Seen>, db::Error> {
    let row: Option<(i64, i64, String)> = terminal_states::table
        .find(terminal_id)
        .select((terminal_states::check_ins, terminal_states::last_seen_ms, terminal_states::report))
        .first(conn)
        .optional()?;
    Ok(row.map(|(check_ins, last_seen_ms, report)| Seen { check_ins, last_seen_ms, report }))
}

/// How a terminal is before the proof of something is waited for.
pub(in crate::maintenance) fn baseline(conn: &mut Conn, terminal_id: i64) -> Result<Baseline, db::Error> {
    let Some(seen) = seen(conn, terminal_id)? else { return Ok(Baseline::default()) };
    let reported = serde_json::from_str::<CheckIn>(&seen.report).ok().and_then(|check_in| check_in.device.iccid);
    let registered: Option<Option<String>> =
        terminals::table.find(terminal_id).select(terminals::iccid).first(conn).optional()?;
    Ok(Baseline { check_ins: seen.check_ins, iccid: reported.or(registered.flatten()) })
}

/// Orders that wait for a proof and whose terminal called since somebody looked. By `work_orders_by_state`.
pub(in crate::maintenance) fn with_news(conn: &mut Conn) -> Result<Vec<i64>, db::Error> {
    let ids = work_orders::table
        .inner_join(
            terminal_states::table.on(work_orders::proof_terminal_id.eq(terminal_states::terminal_id.nullable())),
        )
        .filter(work_orders::state.eq(State::WaitingForProof.as_str()))
        .filter(terminal_states::check_ins.gt(work_orders::judged))
        .limit(PASS_MAX)
        .select(work_orders::id);
    Ok(ids.load(conn)?)
}

/// Orders whose time limit passed, the longest overdue first. By `work_orders_deadline`.
pub(in crate::maintenance) fn past_deadline(conn: &mut Conn, now: Now) -> Result<Vec<i64>, db::Error> {
    let ids = work_orders::table
        .filter(work_orders::deadline_ms.le(now.0))
        .order(work_orders::deadline_ms)
        .limit(PASS_MAX)
        .select(work_orders::id);
    Ok(ids.load(conn)?)
}

/// Orders that are past their due time, that nobody said to be done, and of which nobody was told; the longest overdue
/// first. By `work_orders_overdue`.
pub(in crate::maintenance) fn overdue(conn: &mut Conn, now: Now) -> Result<Vec<i64>, db::Error> {
    let ids = work_orders::table
        // Written out, so that SQLite sees that the index holds them all.
        .filter(sql::<Bool>(
            "work_orders.overdue_told_ms IS NULL AND work_orders.state NOT IN ('waiting_for_proof', 'closed', 'cancelled')",
        ))
        .filter(work_orders::due_ms.le(now.0))
        .order(work_orders::due_ms)
        .limit(PASS_MAX)
        .select(work_orders::id);
    Ok(ids.load(conn)?)
}

/// Notes that people are told that an order is overdue; whether they were not before. By primary key.
pub(in crate::maintenance) fn tell_overdue(conn: &mut Conn, id: i64, now: Now) -> Result<bool, db::Error> {
    let row = work_orders::table.find(id).filter(work_orders::overdue_told_ms.is_null());
    Ok(diesel::update(row).set(work_orders::overdue_told_ms.eq(now.0)).execute(conn)? == 1)
}

/// Who did something to an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::maintenance) struct Who {
    pub kind: String,
    pub id: i64,
    pub name: String,
}

impl Who {
    /// The server itself.
    pub(in crate::maintenance) fn system(name: &str) -> Self {
        Self { kind: "system".to_owned(), id: 0, name: name.to_owned() }
    }
}

/// One line of a history.
pub(in crate::maintenance) struct Line {
    pub at_ms: i64,
    pub who: Who,
    pub event: String,
    pub note: String,
    pub evidence: Option<Value>,
}

/// Adds a line to the history of an order that the caller has locked.
pub(in crate::maintenance) fn append_event(
    conn: &mut Conn,
    id: i64,
    who: &Who,
    event: &str,
    note: &str,
    evidence: Option<&Value>,
    now: Now,
) -> Result<(), db::Error> {
    let last: Option<i64> = work_order_events::table
        .filter(work_order_events::order_id.eq(id))
        .order(work_order_events::seq.desc())
        .select(work_order_events::seq)
        .first(conn)
        .optional()?;
    diesel::insert_into(work_order_events::table)
        .values((
            work_order_events::order_id.eq(id),
            work_order_events::seq.eq(last.unwrap_or(0) + 1),
            work_order_events::at_ms.eq(now.0),
            work_order_events::actor_kind.eq(&who.kind),
            work_order_events::actor_id.eq(who.id),
            work_order_events::actor_name.eq(&who.name),
            work_order_events::event.eq(event),
            work_order_events::note.eq(note),
            work_order_events::evidence.eq(evidence.map(Value::to_string)),
        ))
        .execute(conn)?;
    Ok(())
}

type Columns = (i64, String, i64, String, String, String, Option<String>);

/// Newest first, by primary key.
pub(in crate::maintenance) fn history(conn: &mut Conn, id: i64) -> Result<Vec<Line>, db::Error> {
    let rows = work_order_events::table
        .filter(work_order_events::order_id.eq(id))
        .order(work_order_events::seq.desc())
        .limit(HISTORY_MAX)
        .select((
            work_order_events::at_ms,
            work_order_events::actor_kind,
            work_order_events::actor_id,
            work_order_events::actor_name,
            work_order_events::event,
            work_order_events::note,
            work_order_events::evidence,
        ))
        .load::<Columns>(conn)?;
    let line = |(at_ms, kind, id, name, event, note, evidence): Columns| Line {
        at_ms,
        who: Who { kind, id, name },
        event,
        note,
        evidence: evidence.and_then(|text| serde_json::from_str(&text).ok()),
    };
    Ok(rows.into_iter().map(line).collect())
}

/// Deletes orders that were over before `before_ms`, at most [`DELETED_MAX`]. By `work_orders_by_state`.
pub(in crate::maintenance) fn delete_over(conn: &mut Conn, before_ms: i64) -> Result<usize, db::Error> {
    let old: Vec<i64> = work_orders::table
        .filter(work_orders::state.eq_any([State::Closed, State::Cancelled].map(State::as_str)))
        .filter(work_orders::closed_at_ms.lt(before_ms))
        .limit(DELETED_MAX)
        .select(work_orders::id)
        .load(conn)?;
    if old.is_empty() {
        return Ok(0);
    }
    diesel::delete(work_order_events::table.filter(work_order_events::order_id.eq_any(old.clone()))).execute(conn)?;
    Ok(diesel::delete(work_orders::table.filter(work_orders::id.eq_any(old))).execute(conn)?)
}
