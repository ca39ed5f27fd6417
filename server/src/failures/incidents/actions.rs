//! What people do with an incident: one driver steps it, compares and sets, writes the timeline and the audit log.

use serde_json::json;
use tillward_protocol::FieldError;

use super::state::{self, Event, State, step};
use super::store::{self, Stored, Who};
use crate::alerts;
use crate::audit::{self, Actor, Deed};
use crate::clock::Now;
use crate::db::{self, Conn, Db};
use crate::operators::{self, Caller, CallerKind, Permission, Scope};
use crate::text;

/// Longest note, characters: some paragraphs.
pub const NOTE_CHARS_MAX: usize = 2_000;

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such incident, or the caller may not know.
    #[error("there is no such incident")]
    NotFound,
    /// A field has an impossible value.
    #[error("{0}")]
    Field(#[from] FieldError),
    /// The state does not allow it.
    #[error(transparent)]
    Refused(#[from] state::Refusal),
    /// Somebody changed it at the same moment.
    #[error("somebody changed the incident at the same moment; look at it again")]
    Raced,
    /// The database failed.
    #[error("the incidents could not be read or written")]
    Db(#[from] db::Error),
}

/// What a person does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Takes it on; who does so owns it if nobody did.
    Acknowledge,
    /// Says that the harm has stopped, and by what.
    Mitigate,
    /// Says that it is over, and why.
    Resolve,
    /// Adds to its story.
    Note,
    /// Gives it an owner: number and login name.
    Assign(i64, String),
}

impl Act {
    fn event(&self) -> Event {
        match self {
            Self::Acknowledge => Event::Acknowledge,
            Self::Mitigate => Event::Mitigate,
            Self::Resolve => Event::Resolve,
            Self::Note => Event::Note,
            Self::Assign(..) => Event::Assign,
        }
    }

    /// Whether it says nothing without a note.
    fn needs_note(&self) -> bool {
        match self {
            Self::Mitigate | Self::Resolve | Self::Note => true,
            Self::Acknowledge | Self::Assign(..) => false,
        }
    }
}

/// Does `act` to an incident of the caller's organizations, within the caller's transaction.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Field`] for the note, [`Error::Refused`], [`Error::Raced`], [`Error::Db`].
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
    let note = checked_note(note, act.needs_note())?;
    let event = act.event();
    let state = step(before.state, event)?;
    let after = after(&before, caller, act, state, now);
    if !store::replace(conn, &before, &after)? {
        return Err(Error::Raced);
    }
    if before.state == State::Open && state != State::Open {
        alerts::acknowledge(conn, id)?;
    }
    let said = match act {
        Act::Assign(_, login) if note.is_empty() => login.clone(),
        Act::Assign(_, login) => format!("{login}: {note}"),
        Act::Acknowledge | Act::Mitigate | Act::Resolve | Act::Note => note,
    };
    store::append_event(conn, id, &who(caller), event.as_str(), &said, None, now)?;
    let deed = Deed {
        action: &format!("incidents.{}", event.as_str()),
        object_kind: "incident",
        object_id: id.to_string(),
        org_path: &before.org_path,
        detail: json!({"from": before.state.as_str(), "to": state.as_str(), "note": said}),
    };
    audit::append(conn, actor, &deed, now)?;
    Ok(())
}

fn after(before: &Stored, caller: &Caller, act: &Act, state: State, now: Now) -> Stored {
    let owner = match act {
        Act::Assign(owner_id, login) => Some((*owner_id, login.clone())),
        Act::Acknowledge if before.owner.is_none() && caller.kind == CallerKind::Operator => {
            Some((caller.id, caller.name.clone()))
        }
        Act::Acknowledge | Act::Mitigate | Act::Resolve | Act::Note => before.owner.clone(),
    };
    if state == before.state {
        return Stored { owner, ..before.clone() };
    }
    Stored {
        owner,
        state,
        state_since_ms: now.0,
        reminders: 0,
        resolved_at_ms: (state == State::Resolved).then_some(now.0),
        due_ms: state.time_limit_ms(before.level, 0).map(|limit_ms| now.0.saturating_add(limit_ms)),
        ..before.clone()
    }
}

/// Gives an incident an owner: the operator of this number, or the caller in person.
///
/// # Errors
/// [`Error::Field`] when that is nobody who may see the incident and carry it on; else as [`act`].
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
    let incident = db.read(move |conn| store::get(conn, &scope, id)).await?.ok_or(Error::NotFound)?;
    let operator_id = match (operator_id, caller.kind) {
        (Some(operator_id), _) => operator_id,
        (None, CallerKind::Operator) => caller.id,
        (None, CallerKind::ApiKey) => return Err(refused("is needed: an API key owns nothing")),
    };
    let operator = operators::get(db, &caller.scope, operator_id).await?;
    let operator = operator.ok_or_else(|| refused("is not an operator that you may see"))?;
    let is_able = operator.status == operators::Status::Active && operator.role.allows(Permission::IncidentsWrite);
    if !is_able || !Scope::subtree(operator.org_path).contains(&incident.org_path) {
        return Err(refused("is nobody who could carry this incident on"));
    }
    let owner = Act::Assign(operator_id, operator.login);
    db.write(move |conn| act(conn, &caller, &actor, id, &owner, &note, now)).await
}

fn who(caller: &Caller) -> Who {
    let kind = match caller.kind {
        CallerKind::Operator => "operator",
        CallerKind::ApiKey => "api_key",
    };
    Who { kind: kind.to_owned(), id: caller.id, name: caller.name.clone() }
}

/// A note that a person typed: some lines without card data.
fn checked_note(note: &str, is_needed: bool) -> Result<String, FieldError> {
    let note = note.trim().replace("\r\n", "\n");
    if note.is_empty() && is_needed {
        return Err(FieldError::new("note", "must not be empty: say what was done"));
    }
    if note.chars().count() > NOTE_CHARS_MAX {
        return Err(FieldError::new("note", format!("must be at most {NOTE_CHARS_MAX} characters")));
    }
    if note.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
        return Err(FieldError::new("note", "must not contain control characters"));
    }
    text::guarded("note", &note)?;
    Ok(note)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_may_have_lines_and_nothing_that_harms() {
        assert_eq!(checked_note(" 已联系银行\r\n等待恢复 ", true).unwrap(), "已联系银行\n等待恢复");
        assert_eq!(checked_note("", false).unwrap(), "");
        let long = "长".repeat(NOTE_CHARS_MAX + 1);
        for bad in ["", "  \n ", "a\u{0}b", "a\u{1b}[31m", "card 4111 1111 1111 1111", long.as_str()] {
            assert_eq!(checked_note(bad, true).unwrap_err().field, "note", "{bad:?}");
        }
    }
}
