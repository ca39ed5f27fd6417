//! Work orders: something to be done at one terminal, until a check-in proves it.
//!
//! At most one live order for one thing at one terminal. Rules and incidents open them with [`open_by_rule`] and
//! [`open_for_incident`], people with [`open`]; people carry them on with [`act`], check-ins close them in [`prove`].

mod actions;
mod kind;
mod passes;
pub mod proof;
pub mod state;
mod view;

use serde::Deserialize;
use serde_json::json;
use tillward_protocol::FieldError;
use tillward_protocol::ids::Version;

pub use actions::{Act, NOTE_CHARS_MAX, act, act_all, assign};
pub use kind::Kind;
pub use passes::{KEPT_MS, prove, remind, sweep, tell_overdue};
pub use proof::Signal;
pub use state::State;
pub use view::{DoneView, Filter, HistoryEntry, LIVE, ProofView, WorkOrder, WorkOrderDetail, get, list, mine};

use super::checklist::Answers;
use super::due::Finding;
use super::reason::{Reason, Urgency};
use super::{Error, refresh, rules, store};
use crate::audit::{self, Actor, Deed};
use crate::clock::Now;
use crate::db::{self, Conn};
use crate::operators::{Caller, CallerKind};
use crate::terminals;
use crate::text;
use store::orders::{Stored, Who};

const DAY_MS: i64 = 86_400_000;
/// What an incident shows goes back at most so far, ms: what it shows sooner after an order was closed may be from before
/// the work.
const SEEN_MS_MAX: i64 = DAY_MS;
/// Latest day that an order may be due, days from now.
const DUE_DAYS_MAX: u32 = 366;

/// What a person asks for.
#[derive(Debug, Clone, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewWorkOrder)]
pub struct New {
    /// The terminal.
    pub terminal_id: i64,
    /// Kind of work.
    pub kind: Kind,
    /// The due reason it is for; the proof then asks for that signal.
    #[serde(default)]
    pub reason: Option<Reason>,
    /// What is wrong, at most 2,000 characters.
    #[serde(default)]
    pub note: String,
    /// How soon; `soon` when absent.
    #[serde(default)]
    pub urgency: Option<Urgency>,
    /// In how many days it is due, 0–366; by its urgency when absent.
    #[serde(default)]
    pub due_in_days: Option<u32>,
    /// The firmware that the terminal must run afterwards.
    #[serde(default)]
    pub expected_firmware: Option<String>,
}

/// What somebody does who says that it is done, the answers first.
pub fn done_with(answers: Answers, replacement_sn: Option<String>, note: String) -> Vec<(Act, String)> {
    let answered = (!answers.is_empty()).then(|| (Act::Answer(answers), String::new()));
    answered.into_iter().chain([(Act::Done(replacement_sn), note)]).collect()
}

/// What an incident asks for.
#[derive(Debug, Clone)]
pub struct ForIncident<'a> {
    /// The terminal.
    pub terminal_id: i64,
    /// The incident.
    pub incident_id: i64,
    /// Kind of work.
    pub kind: Kind,
    /// The due reason that fits it; the proof then asks for that signal.
    pub reason: Option<Reason>,
    /// How soon.
    pub urgency: Urgency,
    /// What was found, for people. Never card data.
    pub note: &'a str,
}

/// Everything that a new order is made from.
#[derive(Debug, Clone)]
pub(super) struct Opening {
    pub terminal_id: i64,
    pub org_path: String,
    pub kind: Kind,
    pub dedup_key: String,
    pub reason: Option<Reason>,
    pub incident_id: Option<i64>,
    pub urgency: Urgency,
    pub due_in_ms: i64,
    pub expected_firmware: Option<String>,
    pub note: String,
}

/// Key of the order that a finding opens.
fn key_of(reason: Reason) -> String {
    format!("due:{}", reason.as_str())
}

impl Opening {
    /// The order that a finding asks for.
    pub(super) fn of_finding(terminal_id: i64, org_path: &str, finding: &Finding) -> Self {
        Self {
            terminal_id,
            org_path: org_path.to_owned(),
            kind: Kind::of_reason(finding.reason),
            dedup_key: key_of(finding.reason),
            reason: Some(finding.reason),
            incident_id: None,
            urgency: finding.urgency,
            due_in_ms: finding.urgency.due_in_ms(),
            expected_firmware: None,
            note: String::new(),
        }
    }

    fn detail(&self, sn: &str) -> serde_json::Value {
        json!({
            "sn": sn, "kind": self.kind.as_str(), "reason": self.reason.map(Reason::as_str),
            "incident_id": self.incident_id, "urgency": self.urgency.as_str(),
        })
    }
}

/// Opens an order that a person asks for, and returns its number.
///
/// # Errors
/// [`Error::NotFound`] for a terminal outside the scope, [`Error::Field`], [`Error::Exists`], [`Error::Db`].
pub fn open(conn: &mut Conn, caller: &Caller, actor: &Actor, new: &New, now: Now) -> Result<i64, Error> {
    let terminal = terminals::get(conn, &caller.scope, new.terminal_id)?;
    let note = text::note("note", &new.note, NOTE_CHARS_MAX)?;
    let urgency = new.urgency.unwrap_or(Urgency::Soon);
    let due_in_ms = match new.due_in_days {
        None => urgency.due_in_ms(),
        Some(days) if days <= DUE_DAYS_MAX => i64::from(days) * DAY_MS,
        Some(_) => return Err(FieldError::new("due_in_days", format!("must be 0 to {DUE_DAYS_MAX}")).into()),
    };
    let firmware = new.expected_firmware.as_deref().map(str::parse::<Version>).transpose();
    let firmware = firmware.map_err(|_| FieldError::new("expected_firmware", "is not a version"))?;
    let opening = Opening {
        terminal_id: terminal.id,
        org_path: terminal.org_path.clone(),
        kind: new.kind,
        dedup_key: new.reason.map_or_else(|| format!("person:{}", new.kind.as_str()), key_of),
        reason: new.reason,
        incident_id: None,
        urgency,
        due_in_ms,
        expected_firmware: firmware.map(Into::into),
        note,
    };
    let id = insert(conn, &opening, &who(caller), now)?;
    let Some(id) = id else {
        let live = store::orders::live(conn, opening.terminal_id, &opening.dedup_key)?;
        return Err(live.map_or(Error::Raced, Error::Exists));
    };
    audit::append(conn, actor, &deed("open", id, &opening.org_path, opening.detail(&terminal.sn)), now)?;
    Ok(id)
}

/// Opens an order for an incident within the caller's transaction; `None` when there is one for it that is not over, when a
/// person cancelled one, when one was closed within a day, or without such a terminal. Call it before the caller's own
/// entry in the audit log.
///
/// # Errors
/// [`db::Error`]; the caller's transaction must then be given up.
pub fn open_for_incident(conn: &mut Conn, asked: &ForIncident<'_>, now: Now) -> Result<Option<i64>, db::Error> {
    let Some((sn, org_path)) = store::orders::terminal(conn, asked.terminal_id)? else { return Ok(None) };
    let opening = Opening {
        terminal_id: asked.terminal_id,
        org_path,
        kind: asked.kind,
        dedup_key: format!("incident:{}", asked.incident_id),
        reason: asked.reason,
        incident_id: Some(asked.incident_id),
        urgency: asked.urgency,
        due_in_ms: asked.urgency.due_in_ms(),
        expected_firmware: None,
        note: asked.note.chars().take(NOTE_CHARS_MAX).collect(),
    };
    let since_ms = now.0.saturating_sub(SEEN_MS_MAX);
    if store::orders::stands(conn, asked.terminal_id, &opening.dedup_key, since_ms)? {
        return Ok(None);
    }
    let Some(id) = insert(conn, &opening, &Who::system(refresh::NAME), now)? else { return Ok(None) };
    let told = deed("open", id, &opening.org_path, opening.detail(&sn));
    audit::append(conn, &Actor::system(refresh::NAME), &told, now)?;
    Ok(Some(id))
}

/// Opens an order that a rule asks for; what there is to tell the audit log, unless there is one already.
pub(super) fn open_by_rule(
    conn: &mut Conn,
    opening: &Opening,
    now: Now,
) -> Result<Option<(i64, String, &'static str, serde_json::Value)>, db::Error> {
    let Some(id) = insert(conn, opening, &Who::system(refresh::NAME), now)? else { return Ok(None) };
    let sn = store::orders::terminal(conn, opening.terminal_id)?.map(|(sn, _)| sn).unwrap_or_default();
    Ok(Some((id, opening.org_path.clone(), "work_orders.open", opening.detail(&sn))))
}

/// Withdraws the order that a rule opened and nobody has begun, its reason being gone.
pub(super) fn withdraw(
    conn: &mut Conn,
    terminal_id: i64,
    reason: Reason,
    now: Now,
) -> Result<Option<(i64, String, &'static str, serde_json::Value)>, db::Error> {
    let Some(id) = store::orders::live(conn, terminal_id, &key_of(reason))? else { return Ok(None) };
    let Some(before) = store::orders::hold(conn, id)? else { return Ok(None) };
    let is_by_rule = before.opened_by == refresh::NAME;
    let Some(state) = state::step(before.state, state::Event::Vanish).ok().filter(|_| is_by_rule) else {
        return Ok(None);
    };
    let after = actions::entered(&before, state, now);
    if !store::orders::replace(conn, &before, &after)? {
        return Err(store::raced());
    }
    let event = state::Event::Vanish.as_str();
    store::orders::append_event(conn, id, &Who::system(refresh::NAME), event, "", None, now)?;
    let detail = json!({"from": before.state.as_str(), "to": state.as_str(), "reason": reason.as_str()});
    Ok(Some((id, before.org_path, "work_orders.vanish", detail)))
}

fn insert(conn: &mut Conn, opening: &Opening, who: &Who, now: Now) -> Result<Option<i64>, db::Error> {
    let checklist = rules::in_force(conn, &opening.org_path, opening.kind)?;
    let Some(id) = store::orders::insert(conn, opening, &checklist, &who.name, now)? else { return Ok(None) };
    store::orders::append_event(conn, id, who, "open", &opening.note, None, now)?;
    metrics::counter!("tillward_work_orders_opened_total", "kind" => opening.kind.as_str()).increment(1);
    Ok(Some(id))
}

fn who(caller: &Caller) -> Who {
    let kind = match caller.kind {
        CallerKind::Operator => "operator",
        CallerKind::ApiKey => "api_key",
    };
    Who { kind: kind.to_owned(), id: caller.id, name: caller.name.clone() }
}

fn deed<'a>(event: &str, id: i64, org_path: &'a str, detail: serde_json::Value) -> Deed<'a> {
    let action = match event {
        "open" => "work_orders.open",
        "assign" => "work_orders.assign",
        "start" => "work_orders.start",
        "answer" => "work_orders.answer",
        "done" => "work_orders.done",
        "prove" => "work_orders.prove",
        "fault" => "work_orders.fault",
        "close_unproven" => "work_orders.close_unproven",
        "cancel" => "work_orders.cancel",
        "note" => "work_orders.note",
        _ => "work_orders.remind",
    };
    Deed { action, object_kind: "work_order", object_id: id.to_string(), org_path, detail }
}

/// Remembers an inspection that was done, and judges its terminal anew.
fn record_inspection(conn: &mut Conn, order: &Stored, is_proven: bool, now: Now) -> Result<(), db::Error> {
    let Some(done) = order.done.as_ref().filter(|_| order.kind == Kind::Inspection) else { return Ok(()) };
    let Some(mut visit) = store::care::hold(conn, order.terminal_id)? else { return Ok(()) };
    let place = refresh::place_of(&visit);
    visit.care.inspected_at_ms = Some(done.at_ms);
    visit.care.inspected_by = Some(done.by.clone());
    visit.care.inspection_order_id = Some(order.id);
    visit.care.inspection_proven = Some(is_proven);
    visit.care.inspected_place = place.or(visit.care.inspected_place);
    judge_anew(conn, &visit, now)
}

/// Forgets the errors that a proven repair has mended, and judges its terminal anew.
fn settle(conn: &mut Conn, order: &Stored, now: Now) -> Result<(), db::Error> {
    let Some(mut visit) = store::care::hold(conn, order.terminal_id)? else { return Ok(()) };
    match order.reason {
        Some(Reason::Reader) => visit.care.windows.reader = None,
        Some(Reason::Printer) => visit.care.windows.printer = None,
        Some(Reason::Battery) => visit.care.windows.battery = None,
        Some(
            Reason::Tamper
            | Reason::Moved
            | Reason::CoinCell
            | Reason::Certificate
            | Reason::Sim
            | Reason::Dormant
            | Reason::Age,
        )
        | None => {}
    }
    judge_anew(conn, &visit, now)
}

fn judge_anew(conn: &mut Conn, visit: &store::care::Visit, now: Now) -> Result<(), db::Error> {
    let own = store::settings::rules_for(conn, &visit.org_path)?;
    let rules = own.map(|own| own.rules).unwrap_or_default();
    let care = refresh::judged(visit, &rules, now);
    // Only a first row that somebody else wrote at the same moment is in the way.
    if store::care::save(conn, visit.terminal_id, &care, now.0)? { Ok(()) } else { Err(store::raced()) }
}
