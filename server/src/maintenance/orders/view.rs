//! Work orders as REST and the console show them.

use std::collections::BTreeMap;

use serde::Serialize;
use tillward_protocol::FieldError;

use super::proof::Check;
use super::{Kind, State};
use crate::db::{self, Conn};
use crate::maintenance::checklist::{Answer, Checklist};
use crate::maintenance::reason::{Reason, Urgency};
use crate::maintenance::store::orders::{self as store, Stored};
use crate::maintenance::{Error, list};
use crate::operators::Scope;

/// Outcome of an order that a check-in closed.
pub(super) const PROVEN: &str = "proven";
/// Outcome of an order that a person closed without that.
pub(super) const UNPROVEN: &str = "unproven";
/// What the history says when no proof came in time.
pub(super) const NO_PROOF: &str = "no_proof";
/// In place of a state: every one that is not over.
pub const LIVE: &str = "live";

/// Which orders; what is empty or absent does not narrow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// In one of these states.
    pub states: Vec<State>,
    /// Of this kind.
    pub kind: Option<Kind>,
    /// Given to this operator.
    pub assignee_id: Option<i64>,
    /// At this terminal.
    pub terminal_id: Option<i64>,
    /// Of this organization and all below it.
    pub organization_id: Option<i64>,
}

impl Filter {
    /// The filter of these names, as an address has them; an empty name does not narrow.
    ///
    /// # Errors
    /// [`FieldError`] naming the name that is not known.
    pub fn of_names(state: &str, kind: &str) -> Result<Self, FieldError> {
        let unknown = |field: &str| FieldError::new(field, "is not known");
        let states = match state {
            "" => Vec::new(),
            LIVE => State::LIVE.to_vec(),
            name => vec![State::parse(name).ok_or_else(|| unknown("state"))?],
        };
        let kind = match kind {
            "" => None,
            name => Some(Kind::parse(name).ok_or_else(|| unknown("kind"))?),
        };
        Ok(Self { states, kind, ..Self::default() })
    }
}

/// One order in a list.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct WorkOrder {
    /// Its number.
    pub id: i64,
    /// Path of the organization whose people do it.
    pub org_path: String,
    /// The terminal.
    pub terminal_id: i64,
    /// Its serial number.
    pub sn: String,
    /// Its store, as registered.
    pub store_name: Option<String>,
    /// Its merchant, as registered.
    pub merchant_name: Option<String>,
    /// Kind of work.
    pub kind: Kind,
    /// The due reason it was opened for.
    pub reason: Option<Reason>,
    /// The incident it was opened for.
    pub incident_id: Option<i64>,
    /// `open`, `assigned`, `in_progress`, `waiting_for_proof`, `closed` or `cancelled`.
    pub state: String,
    /// Since when, Unix ms.
    pub state_since_ms: i64,
    /// How soon.
    pub urgency: Urgency,
    /// Until when it should be done, Unix ms.
    pub due_ms: i64,
    /// When its state's time limit passes, Unix ms.
    pub deadline_ms: Option<i64>,
    /// How often people were reminded in this state.
    pub reminders: i64,
    /// Number of the operator who does it.
    pub assignee_id: Option<i64>,
    /// Login name of that operator.
    pub assignee_name: Option<String>,
    /// Who opened it.
    pub opened_by: String,
    /// When, Unix ms.
    pub opened_at_ms: i64,
    /// When it was over, Unix ms.
    pub closed_at_ms: Option<i64>,
    /// `proven` by a check-in, or `unproven`; absent while it is not closed.
    pub outcome: Option<String>,
}

/// One thing that happened to an order.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
#[schema(as = WorkOrderHistoryEntry)]
pub struct HistoryEntry {
    /// When, Unix ms.
    pub at_ms: i64,
    /// `operator`, `api_key` or `system`.
    pub actor_kind: String,
    /// Who.
    pub actor_name: String,
    /// `open`, `assign`, `start`, `answer`, `done`, `prove`, `fault`, `close_unproven`, `cancel`, `vanish`, `note`, `remind`
    /// or `no_proof`.
    pub event: String,
    /// What the person said.
    pub note: String,
    /// The check-in that decided.
    pub proof: Option<ProofView>,
}

/// A check-in as it was judged.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
#[schema(as = WorkOrderProof)]
pub struct ProofView {
    /// Which of the terminal's check-ins, counted from its first.
    pub check_in: i64,
    /// When it was received, Unix ms.
    pub received_at_ms: i64,
    /// Its signals.
    pub checks: Vec<Check>,
}

/// That the work was said to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = WorkOrderDone)]
pub struct DoneView {
    /// When, Unix ms.
    pub at_ms: i64,
    /// By whom.
    pub by: String,
}

/// One order with everything about it.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct WorkOrderDetail {
    /// The order.
    pub order: WorkOrder,
    /// Its checklist, as it was when the order opened.
    pub checklist: Checklist,
    /// Answers by item.
    pub answers: BTreeMap<String, Answer>,
    /// Whether and by whom it was said to be done.
    pub done: Option<DoneView>,
    /// Serial number of the terminal whose check-ins are the proof, if it is another one.
    pub replacement_sn: Option<String>,
    /// The firmware that must run.
    pub expected_firmware: Option<String>,
    /// The check-in that proved it, or the latest that did not.
    pub proof: Option<ProofView>,
    /// What happened, newest first.
    pub history: Vec<HistoryEntry>,
}

fn shown(stored: &Stored, place: store::Place) -> WorkOrder {
    let (assignee_id, assignee_name) = stored.assignee.clone().unzip();
    WorkOrder {
        id: stored.id,
        org_path: stored.org_path.clone(),
        terminal_id: stored.terminal_id,
        sn: place.sn,
        store_name: place.store_name,
        merchant_name: place.merchant_name,
        kind: stored.kind,
        reason: stored.reason,
        incident_id: stored.incident_id,
        state: stored.state.as_str().to_owned(),
        state_since_ms: stored.state_since_ms,
        urgency: stored.urgency,
        due_ms: stored.due_ms,
        deadline_ms: stored.deadline_ms,
        reminders: i64::from(stored.reminders),
        assignee_id,
        assignee_name,
        opened_by: stored.opened_by.clone(),
        opened_at_ms: stored.opened_at_ms,
        closed_at_ms: stored.closed_at_ms,
        outcome: stored.outcome.clone(),
    }
}

fn proof_view(proof: store::Proof) -> ProofView {
    ProofView { check_in: proof.check_in, received_at_ms: proof.received_at_ms, checks: proof.checks }
}

/// One order of the scope with all that is known about it.
///
/// # Errors
/// [`Error::NotFound`], also out of the scope; [`Error::Db`].
pub fn get(conn: &mut Conn, scope: &Scope, id: i64) -> Result<WorkOrderDetail, Error> {
    let stored = store::get(conn, scope, id)?.ok_or(Error::NotFound)?;
    let places = store::places(conn, [stored.terminal_id].into_iter().chain(stored.proof_terminal_id).collect())?;
    let place = |id: i64| places.get(&id).cloned().unwrap_or_default();
    let history = store::history(conn, id)?.into_iter().map(|line| HistoryEntry {
        at_ms: line.at_ms,
        actor_kind: line.who.kind,
        actor_name: line.who.name,
        event: line.event,
        note: line.note,
        proof: line.evidence.and_then(|value| serde_json::from_value(value).ok()).map(proof_view),
    });
    Ok(WorkOrderDetail {
        order: shown(&stored, place(stored.terminal_id)),
        history: history.collect(),
        done: stored.done.map(|done| DoneView { at_ms: done.at_ms, by: done.by }),
        replacement_sn: stored.proof_terminal_id.filter(|id| *id != stored.terminal_id).map(|id| place(id).sn),
        proof: stored.proof.map(proof_view),
        checklist: stored.checklist,
        answers: stored.answers,
        expected_firmware: stored.expected_firmware,
    })
}

/// Orders of the scope, newest first, with numbers below `before`.
///
/// # Errors
/// [`Error::Field`] for an organization outside the scope; [`Error::Db`].
pub fn list(
    conn: &mut Conn,
    scope: &Scope,
    filter: &Filter,
    before: Option<i64>,
    size: u32,
) -> Result<Vec<WorkOrder>, Error> {
    let scope = list::narrowed(conn, scope, filter.organization_id)?;
    let rows = store::list(conn, &scope, filter, before, i64::from(size))?;
    Ok(with_places(conn, rows)?)
}

/// What an operator has to do, the soonest due first; a screenful.
///
/// # Errors
/// [`db::Error`].
pub fn mine(conn: &mut Conn, scope: &Scope, operator_id: i64) -> Result<Vec<WorkOrder>, db::Error> {
    let rows = store::mine(conn, scope, operator_id)?;
    with_places(conn, rows)
}

fn with_places(conn: &mut Conn, rows: Vec<Stored>) -> Result<Vec<WorkOrder>, db::Error> {
    let mut places = store::places(conn, rows.iter().map(|row| row.terminal_id).collect())?;
    // One terminal may have several orders.
    Ok(rows.iter().map(|row| shown(row, places.entry(row.terminal_id).or_default().clone())).collect())
}
