//! Other numbers of merchants: first seen, asked for, approved, or found to be somebody else's.
//!
//! Whoever asks for an alias is not who approves it. A number that was said to be foreign makes its payments a proven
//! switch; until a person has said so they are under review.

use serde::{Deserialize, Serialize};
use serde_json::json;
use tillward_protocol::FieldError;
use tillward_protocol::pan;

use super::{Error, number, store};
use crate::audit::{self, Actor, Deed};
use crate::clock::Now;
use crate::db::{self, Conn, Sequence, next_id};
use crate::operators::{Caller, Scope, keys};
use crate::organizations;

/// Longest reason, characters.
pub const REASON_CHARS_MAX: usize = 200;

/// What is known of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = MerchantNumberState)]
pub enum State {
    /// Seen; nobody has said what it is.
    Open,
    /// Somebody asks to approve it as an alias.
    Requested,
    /// It is another number of the merchant.
    Alias,
    /// It is none of the merchant's.
    Foreign,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Open, Self::Requested, Self::Alias, Self::Foreign];

    /// Name in tables, URLs and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Requested => "requested",
            Self::Alias => "alias",
            Self::Foreign => "foreign",
        }
    }

    /// The state of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// A number that settled in place of a merchant's own, or may.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MerchantNumber {
    /// Its number here.
    pub id: i64,
    /// Organization, as a path.
    pub org_path: String,
    /// The merchant's own number.
    pub bound_no: String,
    /// The other one, as the channel writes it.
    pub number: String,
    /// The name that settled with it.
    pub name: Option<String>,
    /// What is known of it.
    pub state: State,
    /// Payments seen under it.
    pub payments: i64,
    /// First of them, Unix ms.
    pub first_seen_ms: Option<i64>,
    /// Last of them, Unix ms.
    pub last_seen_ms: Option<i64>,
    /// Why somebody asked for it, or said that it is foreign.
    pub reason: String,
    /// As an alias: since when, Unix ms.
    pub valid_from_ms: Option<i64>,
    /// As an alias: until when, Unix ms.
    pub valid_to_ms: Option<i64>,
    /// Who asked for the alias.
    pub requested_by: Option<String>,
    /// Who decided.
    pub decided_by: Option<String>,
    /// When, Unix ms.
    pub decided_at_ms: Option<i64>,
    /// Grows with each change.
    pub version: i64,
}

impl MerchantNumber {
    /// Whether it is an approved alias at this moment.
    pub fn is_alias_at(&self, at_ms: i64) -> bool {
        self.state == State::Alias
            && self.valid_from_ms.is_none_or(|from_ms| from_ms <= at_ms)
            && self.valid_to_ms.is_none_or(|to_ms| at_ms < to_ms)
    }
}

/// A number as it is kept, with who asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    pub number: MerchantNumber,
    /// Kind and number of who asked.
    pub requested_by: Option<(String, i64)>,
}

/// What somebody asks for or says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = MerchantNumberSaid)]
pub struct Said {
    /// Why, 1–200 characters.
    pub reason: String,
    /// For an alias: since when, Unix ms; ever since when absent.
    #[serde(default)]
    pub valid_from_ms: Option<i64>,
    /// For an alias: until when, Unix ms; for good when absent.
    #[serde(default)]
    pub valid_to_ms: Option<i64>,
}

impl Said {
    fn checked(self) -> Result<Self, FieldError> {
        let reason = crate::text::name("reason", &self.reason)?;
        if reason.chars().count() > REASON_CHARS_MAX || pan::contains_card_data(&reason) {
            return Err(FieldError::new("reason", format!("must be at most {REASON_CHARS_MAX} characters")));
        }
        if self.valid_from_ms.zip(self.valid_to_ms).is_some_and(|(from_ms, to_ms)| to_ms <= from_ms) {
            return Err(FieldError::new("valid_to_ms", "must lie behind the beginning"));
        }
        Ok(Self { reason, ..self })
    }
}

/// A number that is entered before it was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewMerchantNumber {
    /// Organization; the caller's own when absent.
    #[serde(default)]
    pub organization_id: Option<i64>,
    /// The merchant's own number, 15 digits.
    pub bound_no: String,
    /// The other one, 1–20 letters or digits.
    pub number: String,
    /// Why, 1–200 characters.
    pub reason: String,
    /// Since when, Unix ms; ever since when absent.
    #[serde(default)]
    pub valid_from_ms: Option<i64>,
    /// Until when, Unix ms; for good when absent.
    #[serde(default)]
    pub valid_to_ms: Option<i64>,
}

/// What a person does with a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Asks to approve it as an alias.
    Request(Said),
    /// Approves what somebody else asked for.
    Approve,
    /// Says that it is none of the merchant's.
    Foreign(Said),
    /// Takes back what was decided or asked: it is under review again.
    Reopen,
}

impl Act {
    fn name(&self) -> &'static str {
        match self {
            Self::Request(_) => "request",
            Self::Approve => "approve",
            Self::Foreign(_) => "foreign",
            Self::Reopen => "reopen",
        }
    }
}

/// Enters a number and asks to approve it as an alias.
///
/// # Errors
/// [`Error::Invalid`] for a field; [`Error::Conflict`] when the pair is known already.
pub fn create(
    conn: &mut Conn,
    caller: &Caller,
    actor: &Actor,
    new: NewMerchantNumber,
    now: Now,
) -> Result<MerchantNumber, Error> {
    number("bound_no", &new.bound_no)?;
    let other = new.number.trim().to_owned();
    if other.is_empty()
        || other.len() > 20
        || !other.bytes().all(|b| b.is_ascii_alphanumeric())
        || other == new.bound_no
    {
        return Err(FieldError::new("number", "must be 1 to 20 letters or digits, and another one").into());
    }
    let said = Said { reason: new.reason, valid_from_ms: new.valid_from_ms, valid_to_ms: new.valid_to_ms }.checked()?;
    let home = organizations::get(conn, &caller.scope, new.organization_id.unwrap_or(caller.organization_id))?
        .ok_or_else(|| FieldError::new("organization_id", "is not an organization of yours"))?;
    let seen = Seen { org_path: &home.path, bound_no: &new.bound_no, number: &other, name: None, at_ms: None };
    let Some(id) = insert(conn, &seen)? else {
        return Err(Error::Conflict("this number is known for that merchant already; look for it in the list"));
    };
    act(conn, caller, actor, id, Act::Request(said), now)
}

/// A settlement under another number than the bound one.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// Organization whose people look at it, as a path.
    pub org_path: &'a str,
    /// The bound number.
    pub bound_no: &'a str,
    /// The one that settled.
    pub number: &'a str,
    /// The name that settled.
    pub name: Option<&'a str>,
    /// When, Unix ms; absent for one that is only entered.
    pub at_ms: Option<i64>,
}

fn insert(conn: &mut Conn, seen: &Seen<'_>) -> Result<Option<i64>, db::Error> {
    let id = next_id(conn, Sequence::MerchantNumbers)?;
    Ok(store::insert_number(conn, id, seen)?.then_some(id))
}

/// Counts a settlement under another number; the first opens the review.
///
/// # Errors
/// [`db::Error`].
pub fn note(conn: &mut Conn, seen: &Seen<'_>) -> Result<(), db::Error> {
    if !store::count_number(conn, seen)? && insert(conn, seen)?.is_none() {
        store::count_number(conn, seen)?;
    }
    Ok(())
}

/// Does `act` to a number of the caller's organizations.
///
/// # Errors
/// [`Error::Conflict`] when its state does not allow it, or when somebody would approve what they asked for themselves.
pub fn act(
    conn: &mut Conn,
    caller: &Caller,
    actor: &Actor,
    id: i64,
    act: Act,
    now: Now,
) -> Result<MerchantNumber, Error> {
    let before = store::number(conn, &caller.scope, id)?.ok_or(Error::NotFound)?;
    let state = before.number.state;
    let mut after = before.clone();
    let name = act.name();
    match act {
        Act::Request(said) if matches!(state, State::Open | State::Requested) => {
            let said = said.checked()?;
            after.number.state = State::Requested;
            after.number.reason = said.reason;
            after.number.valid_from_ms = said.valid_from_ms;
            after.number.valid_to_ms = said.valid_to_ms;
            after.number.requested_by = Some(caller.name.clone());
            after.requested_by = Some((caller.kind.as_str().to_owned(), caller.id));
        }
        Act::Approve if state == State::Requested => {
            let own = (caller.kind.as_str(), caller.id);
            let by = before.requested_by.as_ref().map(|(kind, id)| (kind.as_str(), *id));
            if by.map(|by| keys::is_same_person(conn, by, own)).transpose()?.unwrap_or(false) {
                return Err(Error::Conflict("nobody approves an own request; ask somebody else"));
            }
            after.number.state = State::Alias;
        }
        Act::Foreign(said) if matches!(state, State::Open | State::Requested) => {
            after.number.reason = said.checked()?.reason;
            after.number.state = State::Foreign;
        }
        Act::Reopen if state != State::Open => {
            after.number.state = State::Open;
            after.requested_by = None;
            after.number.requested_by = None;
        }
        Act::Request(_) | Act::Approve | Act::Foreign(_) | Act::Reopen => {
            return Err(Error::Conflict("this number is in another state by now; look at it again"));
        }
    }
    let is_decided = matches!(after.number.state, State::Alias | State::Foreign);
    after.number.decided_by = is_decided.then(|| caller.name.clone());
    after.number.decided_at_ms = is_decided.then_some(now.0);
    after.number.version += 1;
    if !store::replace_number(conn, &after, before.number.version)? {
        return Err(Error::Conflict("this number is in another state by now; look at it again"));
    }
    let deed = Deed {
        action: &format!("merchants.number.{name}"),
        object_kind: "merchant_number",
        object_id: id.to_string(),
        org_path: &before.number.org_path,
        detail: json!({
            "bound_no": before.number.bound_no, "number": before.number.number, "from": state.as_str(),
            "to": after.number.state.as_str(), "reason": after.number.reason,
        }),
    };
    audit::append(conn, actor, &deed, now)?;
    Ok(after.number)
}

/// Numbers of the scope, newest first, below `before`.
///
/// # Errors
/// [`db::Error`].
pub fn list(
    conn: &mut Conn,
    scope: &Scope,
    state: Option<State>,
    before: Option<i64>,
    size: u32,
) -> Result<Vec<MerchantNumber>, db::Error> {
    store::numbers(conn, scope, state, before, i64::from(size))
}

/// One number.
///
/// # Errors
/// [`Error::NotFound`].
pub fn find(conn: &mut Conn, scope: &Scope, id: i64) -> Result<MerchantNumber, Error> {
    store::number(conn, scope, id)?.map(|stored| stored.number).ok_or(Error::NotFound)
}

/// What is known of the pairs of these bound numbers, over all organizations: whoever compares picks its own.
///
/// # Errors
/// [`db::Error`].
pub fn of_bound(conn: &mut Conn, bound: &[String]) -> Result<Vec<MerchantNumber>, db::Error> {
    store::numbers_of_bound(conn, bound)
}
