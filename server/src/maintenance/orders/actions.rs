//! What people do with a work order: one driver steps it, compares and sets, writes the history and the audit log.

use serde_json::json;
use tillward_protocol::FieldError;

use super::state::{Event, State, step};
use super::{Kind, deed, record_inspection, who};
use crate::audit::{self, Actor};
use crate::clock::Now;
use crate::db::{Conn, Db};
use crate::maintenance::checklist::Answers;
use crate::maintenance::store::orders::{self as store, Done, Stored};
use crate::maintenance::{Error, orders};
use crate::operators::{self, Caller, CallerKind, Permission, Scope};
use crate::terminals;
use crate::text;

/// Longest note, characters: some paragraphs.
pub const NOTE_CHARS_MAX: usize = 2_000;

/// What a person does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Gives it to somebody: number and login name.
    Assign(i64, String),
    /// Begins; who does so has it if nobody did.
    Start,
    /// Answers items of its checklist; the others stay as they are.
    Answer(Answers),
    /// Says that it is done; for another terminal in its place, its serial number.
    Done(Option<String>),
    /// Closes it without a proof, and says why.
    CloseUnproven,
    /// Says that it shall not be done, and why.
    Cancel,
    /// Adds to its story.
    Note,
}

impl Act {
    fn event(&self) -> Event {
        match self {
            Self::Assign(..) => Event::Assign,
            Self::Start => Event::Start,
            Self::Answer(_) => Event::Answer,
            Self::Done(_) => Event::Done,
            Self::CloseUnproven => Event::CloseUnproven,
            Self::Cancel => Event::Cancel,
            Self::Note => Event::Note,
        }
    }

    /// Whether it says nothing without a note.
    fn needs_note(&self) -> bool {
        match self {
            Self::CloseUnproven | Self::Cancel | Self::Note => true,
            Self::Assign(..) | Self::Start | Self::Answer(_) | Self::Done(_) => false,
        }
    }
}

/// Does `act` to an order of the caller's organizations, within the caller's transaction.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Field`], [`Error::Refused`], [`Error::Raced`], [`Error::Db`].
pub fn act(
    conn: &mut Conn,
    caller: &Caller,
    actor: &Actor,
    id: i64,
    act: &Act,
    note: &str,
    now: Now,
) -> Result<(), Error> {
    let before = store::get(conn, &caller.scope, id)?.ok_or(Error::NotFound)?;
    let note = text::note("note", note, NOTE_CHARS_MAX)?;
    if note.is_empty() && act.needs_note() {
        return Err(FieldError::new("note", "must not be empty: say what was done").into());
    }
    let event = act.event();
    let state = step(before.state, event)?;
    let after = after(conn, &before, caller, act, state, now)?;
    if !store::replace(conn, &before, &after)? {
        return Err(Error::Raced);
    }
    let said = match act {
        Act::Assign(_, login) if note.is_empty() => login.clone(),
        Act::Assign(_, login) => format!("{login}: {note}"),
        Act::Start | Act::Answer(_) | Act::Done(_) | Act::CloseUnproven | Act::Cancel | Act::Note => note,
    };
    store::append_event(conn, id, &who(caller), event.as_str(), &said, None, now)?;
    if state == State::Closed && before.state != State::Closed {
        record_inspection(conn, &after, false, now)?;
    }
    let detail = json!({"from": before.state.as_str(), "to": state.as_str(), "note": said});
    audit::append(conn, actor, &deed(event.as_str(), id, &before.org_path, detail), now)?;
    Ok(())
}

/// Does several things to an order at once, as somebody does who stands before the terminal: all of them or none.
///
/// # Errors
/// As [`act`].
pub fn act_all(
    conn: &mut Conn,
    caller: &Caller,
    actor: &Actor,
    id: i64,
    acts: &[(Act, String)],
    now: Now,
) -> Result<(), Error> {
    acts.iter().try_for_each(|(what, note)| act(conn, caller, actor, id, what, note, now))
}

/// The order in the state that it enters, or as it was.
pub(super) fn entered(before: &Stored, state: State, now: Now) -> Stored {
    if state == before.state {
        return before.clone();
    }
    Stored {
        state,
        state_since_ms: now.0,
        reminders: 0,
        deadline_ms: state.time_limit_ms(0).map(|limit_ms| now.0.saturating_add(limit_ms)),
        closed_at_ms: state.is_over().then_some(now.0),
        ..before.clone()
    }
}

fn after(
    conn: &mut Conn,
    before: &Stored,
    caller: &Caller,
    act: &Act,
    state: State,
    now: Now,
) -> Result<Stored, Error> {
    let mut after = entered(before, state, now);
    match act {
        Act::Assign(id, login) => after.assignee = Some((*id, login.clone())),
        Act::Start => take(&mut after, caller),
        Act::Answer(answers) => {
            before.checklist.check_answers(answers)?;
            after.answers.extend(answers.clone());
        }
        Act::Done(replacement) => {
            take(&mut after, caller);
            if let Some(item) = before.checklist.unanswered(&before.answers) {
                return Err(FieldError::new("answers", format!("lack the required item {}", item.id)).into());
            }
            let proof_id = proof_terminal(conn, before, caller, replacement.as_deref())?;
            let baseline = store::baseline(conn, proof_id)?;
            after.proof_terminal_id = Some(proof_id);
            after.judged = baseline.check_ins;
            after.done = Some(Done { at_ms: now.0, by_id: caller.id, by: caller.name.clone(), baseline });
            after.proof = None;
        }
        Act::CloseUnproven => after.outcome = Some(orders::view::UNPROVEN.to_owned()),
        Act::Cancel | Act::Note => {}
    }
    Ok(after)
}

/// Who works on what nobody has, has it.
fn take(order: &mut Stored, caller: &Caller) {
    if order.assignee.is_none() && caller.kind == CallerKind::Operator {
        order.assignee = Some((caller.id, caller.name.clone()));
    }
}

/// Whose check-ins are the proof.
fn proof_terminal(conn: &mut Conn, order: &Stored, caller: &Caller, replacement: Option<&str>) -> Result<i64, Error> {
    let sn = replacement.map(str::trim).filter(|sn| !sn.is_empty());
    match (order.kind, sn) {
        (Kind::ReplaceTerminal, Some(sn)) => {
            let found = terminals::id_of_sn(conn, &caller.scope, sn)?.filter(|id| *id != order.terminal_id);
            let refused = || FieldError::new("replacement_sn", "is not another terminal of yours");
            let id = found.ok_or_else(refused)?;
            // As long as the registry names a store for the old one. Any terminal in use calls: only one that stands there
            // proves anything.
            let stores = store::stores_of(conn, &[order.terminal_id, id])?;
            let old = stores.get(&order.terminal_id).filter(|(merchant, store)| merchant.is_some() || store.is_some());
            if old.is_some_and(|old| stores.get(&id) != Some(old)) {
                return Err(FieldError::new("replacement_sn", "is not bound to the same merchant and store").into());
            }
            Ok(id)
        }
        (Kind::ReplaceTerminal, None) => {
            Err(FieldError::new("replacement_sn", "is needed: which terminal stands there now").into())
        }
        (_, Some(_)) => Err(FieldError::new("replacement_sn", "is only for replacing a terminal").into()),
        (_, None) => Ok(order.terminal_id),
    }
}

/// Gives an order to somebody: the operator of this number, or the caller in person.
///
/// # Errors
/// [`Error::Field`] when that is nobody who may see the order and do the work; else as [`act`].
pub async fn assign(
    db: &Db,
    caller: Caller,
    actor: Actor,
    id: i64,
    operator_id: Option<i64>,
    note: String,
    now: Now,
) -> Result<(), Error> {
    let refused = |problem: &str| Error::Field(FieldError::new("operator_id", problem));
    let scope = caller.scope.clone();
    let order = db.read(move |conn| store::get(conn, &scope, id)).await?.ok_or(Error::NotFound)?;
    let operator_id = match (operator_id, caller.kind) {
        (Some(operator_id), _) => operator_id,
        (None, CallerKind::Operator) => caller.id,
        (None, CallerKind::ApiKey) => return Err(refused("is needed: an API key does no work")),
    };
    let operator = operators::get(db, &caller.scope, operator_id).await?;
    let operator = operator.ok_or_else(|| refused("is not an operator that you may see"))?;
    let is_able = operator.status == operators::Status::Active && operator.role.allows(Permission::MaintenanceWork);
    if !is_able || !Scope::subtree(operator.org_path).contains(&order.org_path) {
        return Err(refused("is nobody who could do this work"));
    }
    let given = Act::Assign(operator_id, operator.login);
    db.write(move |conn| act(conn, &caller, &actor, id, &given, &note, now)).await
}
