//! Whose a terminal was, and when: the history of its merchant number, terminal number and store.
//!
//! One open binding a terminal, ended and begun anew whenever one of them changes. What was paid is compared with the
//! binding of that moment. The first binding that is known of a terminal holds for the time before it as well, since
//! nobody says otherwise; whoever knows better enters it with [`correct`]. A binding is of the organization that had the
//! terminal then: whoever gets the terminal later sees nothing of it.

pub mod http;
mod store;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tillward_protocol::FieldError;

use super::store::Record;
use super::{Error, fields};
use crate::audit::{self, Actor, Deed};
use crate::clock::Now;
use crate::db::{self, Conn};
use crate::failures::reconcile;
use crate::operators::Scope;

/// Bindings of one terminal that are shown, the newest.
const SHOWN_MAX: i64 = 100;
/// Longest reason, characters.
const REASON_CHARS_MAX: usize = 200;

/// One binding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = TerminalBinding)]
pub struct Binding {
    /// Terminal.
    pub terminal_id: i64,
    /// Merchant number, 15 digits.
    pub merchant_no: String,
    /// Merchant's name.
    pub merchant_name: Option<String>,
    /// The channel's number for the terminal.
    pub terminal_no: Option<String>,
    /// Store's name.
    pub store_name: Option<String>,
    /// Since when, Unix ms; 0 for the first that is known.
    pub from_ms: i64,
    /// Until when, Unix ms; absent while it is open.
    pub to_ms: Option<i64>,
    /// Who bound it.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// Organization that had the terminal then, as a path.
    pub org_path: String,
}

impl Binding {
    /// Whether it was in force at this moment.
    pub fn holds_at(&self, at_ms: i64) -> bool {
        self.from_ms <= at_ms && self.to_ms.is_none_or(|to_ms| at_ms < to_ms)
    }
}

/// Who changed a terminal's record, and by what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Why<'a> {
    pub(super) actor: &'a str,
    pub(super) reason: &'a str,
}

/// Takes over what the records say now; nothing for those whose binding is as it was.
pub(super) fn note(conn: &mut Conn, records: &[(&Record, Why<'_>)], now: Now) -> Result<(), db::Error> {
    let ids: Vec<i64> = records.iter().map(|(record, _)| record.id).collect();
    let open = store::open(conn, &ids)?;
    let known = store::ever_bound(conn, &ids)?;
    let mut ended = Vec::new();
    let mut begun = Vec::new();
    for (record, why) in records {
        let before = open.get(&record.id);
        if before.is_some_and(|before| is_same(before, record)) || (before.is_none() && record.merchant_no.is_none()) {
            continue;
        }
        ended.extend(before.map(|_| record.id));
        let Some(merchant_no) = &record.merchant_no else { continue };
        begun.push(Binding {
            terminal_id: record.id,
            merchant_no: merchant_no.clone(),
            merchant_name: record.merchant_name.clone(),
            terminal_no: record.terminal_no.clone(),
            store_name: record.store_name.clone(),
            from_ms: if known.contains(&record.id) { now.0 } else { 0 },
            to_ms: None,
            actor: why.actor.to_owned(),
            reason: why.reason.to_owned(),
            org_path: record.org_path.clone(),
        });
    }
    store::end(conn, &ended, now)?;
    store::insert(conn, &begun)?;
    // What was paid before anybody said whose these terminals are can be compared now.
    let first: Vec<i64> =
        begun.iter().filter(|binding| binding.from_ms == 0).map(|binding| binding.terminal_id).collect();
    reconcile::compare_terminals_again(conn, &first)
}

fn is_same(before: &Binding, record: &Record) -> bool {
    Some(&before.merchant_no) == record.merchant_no.as_ref()
        && before.merchant_name == record.merchant_name
        && before.terminal_no == record.terminal_no
        && before.store_name == record.store_name
        && before.org_path == record.org_path
}

/// The bindings of these terminals, oldest first, for whoever compares.
///
/// # Errors
/// [`db::Error`].
pub fn of_terminals(conn: &mut Conn, ids: &[i64]) -> Result<Vec<Binding>, db::Error> {
    store::of_terminals(conn, ids)
}

/// Terminals that are or were bound to this merchant number, after `after`, in order, at most `limit`.
///
/// # Errors
/// [`db::Error`].
pub fn terminals_of(conn: &mut Conn, merchant_no: &str, after: i64, limit: i64) -> Result<Vec<i64>, db::Error> {
    store::terminals_of(conn, merchant_no, after, limit)
}

/// Bindings to this merchant number that ended after `from_ms` or are open, by terminal, at most `limit`. For whoever looks
/// at one merchant over all organizations. By `terminal_bindings_by_merchant`.
///
/// # Errors
/// [`db::Error`].
pub fn of_merchant(conn: &mut Conn, merchant_no: &str, from_ms: i64, limit: i64) -> Result<Vec<Binding>, db::Error> {
    store::of_merchant(conn, merchant_no, from_ms, limit)
}

/// Of these merchant numbers, those that terminals are or were bound to, each with the path of an organization that had
/// such a terminal then. For whoever compares over all organizations and then looks at each one's own only.
///
/// # Errors
/// [`db::Error`].
pub fn bound_numbers(conn: &mut Conn, numbers: &[String]) -> Result<Vec<(String, String)>, db::Error> {
    store::bound_numbers(conn, numbers)
}

/// The newest bindings of one terminal while organizations of the scope had it.
///
/// # Errors
/// [`Error::NotFound`].
pub fn list(conn: &mut Conn, scope: &Scope, terminal_id: i64) -> Result<Vec<Binding>, Error> {
    super::get(conn, scope, terminal_id)?;
    Ok(store::list(conn, scope, terminal_id, SHOWN_MAX)?)
}

/// A binding of the past that somebody knows of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PastBinding)]
pub struct Past {
    /// Merchant number, 15 digits.
    pub merchant_no: String,
    /// Merchant's name.
    #[serde(default)]
    pub merchant_name: Option<String>,
    /// The channel's number for the terminal.
    #[serde(default)]
    pub terminal_no: Option<String>,
    /// Since when, Unix ms; 0 for as long as anybody knows.
    pub from_ms: i64,
    /// Until when, Unix ms; before the first binding that is known begins.
    pub to_ms: i64,
    /// How it is known.
    pub reason: String,
}

/// Enters a binding of the past before all that are known; the earliest known one begins where it ends.
///
/// # Errors
/// [`Error::Invalid`] for a field or a time that is known already.
pub fn correct(
    conn: &mut Conn,
    actor: &Actor,
    scope: &Scope,
    terminal_id: i64,
    past: Past,
    now: Now,
) -> Result<Vec<Binding>, Error> {
    let terminal = super::get(conn, scope, terminal_id)?;
    let merchant_no = fields::merchant_no(Some(past.merchant_no))?
        .ok_or_else(|| FieldError::new("merchant_no", "must be 15 digits"))?;
    let reason = crate::text::name("reason", past.reason.get(..).unwrap_or_default())?;
    if reason.chars().count() > REASON_CHARS_MAX || past.from_ms < 0 || past.to_ms <= past.from_ms || past.to_ms > now.0
    {
        return Err(FieldError::new("to_ms", "must lie behind the beginning and not in the future").into());
    }
    let known = store::of_terminals(conn, &[terminal_id])?;
    let first = known.first();
    // Only the one whose beginning nobody knew gives way, and none that another organization has entered.
    let may_begin = first.is_none_or(|first| {
        scope.contains(&first.org_path) && first.from_ms == 0 && first.to_ms.is_none_or(|to_ms| past.to_ms < to_ms)
    });
    if !may_begin {
        return Err(FieldError::new("to_ms", "must end before the bindings that are known").into());
    }
    let org_path = first.map_or_else(|| terminal.org_path.clone(), |first| first.org_path.clone());
    if first.is_some() {
        store::begin_first_at(conn, terminal_id, past.to_ms)?;
    }
    let binding = Binding {
        terminal_id,
        merchant_no,
        merchant_name: fields::name("merchant_name", past.merchant_name)?,
        terminal_no: fields::terminal_no(past.terminal_no)?,
        store_name: None,
        from_ms: past.from_ms,
        to_ms: Some(past.to_ms),
        actor: actor.name().to_owned(),
        reason,
        org_path,
    };
    store::insert(conn, std::slice::from_ref(&binding))?;
    reconcile::compare_terminals_again(conn, &[terminal_id])?;
    let deed = Deed {
        action: "terminals.binding",
        object_kind: "terminal",
        object_id: terminal_id.to_string(),
        org_path: &terminal.org_path,
        detail: json!({"merchant_no": binding.merchant_no, "from_ms": binding.from_ms, "to_ms": binding.to_ms}),
    };
    audit::append(conn, actor, &deed, now)?;
    Ok(store::list(conn, scope, terminal_id, SHOWN_MAX)?)
}
