//! Failures that organizations report by themselves, where no program can be put on the terminal: by REST or from a file.
//!
//! They are stored like a terminal's own, marked by their source, and counted in the cells of their hour. The same event
//! comes in once: by its id on the terminal, by batch, trace, day and kind (rule R0), and by reference number and day, also
//! when the terminal itself reported it before; when it does so later, its own report takes the place of what was told, and
//! counts nothing. What a channel told of before is stored, and counted already. A bad item is refused by name and costs no
//! other.

mod fields;
pub mod http;
mod intake;
mod item;
mod store;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::json;
use tillward_protocol::FieldError;
use tillward_protocol::failure::Failure;

pub use intake::Intake;
pub use item::{NewFailure, completed};
pub(super) use store::count_alone;
pub(crate) use store::report_beside;

use crate::audit::{self, Actor, Deed};
use crate::checkin::{self, Counting, ImportedFailure};
use crate::clock::Now;
use crate::db::{self, Conn, Db};
use crate::failures::once;
use crate::operators::{Caller, Scope};
use crate::terminals::fields::clean_id;

/// Failures in one request: one transaction of well under a second.
pub const ITEMS_MAX: usize = 500;
/// Rows deleted in one transaction.
const SWEPT_ROWS: i64 = 500;
/// Failures of a file's terminals that are compared with what a channel tells of, at most.
const BETWEEN_MAX: i64 = 20_000;
/// Events of one terminal in one day that are compared at most: more would be no shop.
const EVENTS_MAX: i64 = 1_000;
/// Minutes ahead of UTC where a terminal says nothing else: China.
const UTC_OFFSET_MIN: i64 = 480;

/// Where failures come from that no terminal reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = FailureSource)]
pub enum Source {
    /// A program sent them.
    Rest,
    /// They were read from a file.
    File,
}

impl Source {
    /// Name in tables and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rest => "rest",
            Self::File => "file",
        }
    }
}

/// Who brings failures, and how.
#[derive(Debug, Clone)]
struct Origin {
    /// How they come.
    source: Source,
    /// The import they belong to.
    import_id: Option<String>,
    /// Who brings them.
    created_by: String,
}

/// One item that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = RefusedFailure)]
pub struct Refused {
    /// Its place in the list, from 0.
    pub index: usize,
    /// The field that was refused.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
}

/// What became of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = FailuresTaken)]
pub struct Taken {
    /// Stored now.
    pub stored: usize,
    /// Known before; nothing was changed.
    pub duplicates: usize,
    /// Not taken, in order.
    pub refused: Vec<Refused>,
}

/// An item that may be stored.
struct Good {
    /// Its place in the list.
    index: usize,
    terminal: usize,
    failure: Failure,
    names: item::Names,
}

/// What became of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    Stored,
    Duplicate,
    Refused(FieldError),
}

/// Stores failures of terminals in the caller's scope, within the caller's transaction, and audits it. A dozen statements
/// and one or two for each item.
///
/// # Errors
/// [`db::Error`]; a refused item is no error.
pub fn take(
    conn: &mut Conn,
    caller: &Caller,
    actor: &Actor,
    items: Vec<NewFailure>,
    now: Now,
) -> Result<Taken, db::Error> {
    let origin = Origin { source: Source::Rest, import_id: None, created_by: caller.name.clone() };
    let fates = keep(conn, &caller.scope, &origin, items.into_iter().map(Ok).collect(), now)?;
    let mut taken = Taken::default();
    for (index, fate) in fates.into_iter().enumerate() {
        match fate {
            Fate::Stored => taken.stored += 1,
            Fate::Duplicate => taken.duplicates += 1,
            Fate::Refused(FieldError { field, problem }) => taken.refused.push(Refused { index, field, problem }),
        }
    }
    if taken.stored > 0 {
        let detail = json!({"stored": taken.stored, "duplicates": taken.duplicates, "refused": taken.refused.len()});
        let deed = Deed {
            action: "failures.import",
            object_kind: "failures",
            object_id: String::new(),
            org_path: caller.scope.from(),
            detail,
        };
        audit::append(conn, actor, &deed, now)?;
    }
    Ok(taken)
}

/// Stores what can be stored of `items`; says what became of each, in order.
fn keep(
    conn: &mut Conn,
    scope: &Scope,
    origin: &Origin,
    items: Vec<Result<NewFailure, FieldError>>,
    now: Now,
) -> Result<Vec<Fate>, db::Error> {
    let sn = |item: &Result<NewFailure, FieldError>| item.as_ref().map_or(String::new(), |item| clean_id(&item.sn));
    let sns: Vec<String> = items.iter().map(sn).collect();
    // Before anything is read: what is not told yet stays so until this transaction is over.
    store::tell_alone(conn)?;
    count_alone(conn)?;
    let terminals = store::terminals(conn, scope, &sns)?;
    let by_sn: HashMap<&str, usize> =
        terminals.iter().enumerate().map(|(index, terminal)| (terminal.sn.as_str(), index)).collect();
    let mut fates = vec![Fate::Duplicate; items.len()];
    let mut good = Vec::with_capacity(items.len());
    for (index, ((item, sn), fate)) in items.into_iter().zip(&sns).zip(&mut fates).enumerate() {
        match item.and_then(|item| judge(index, item, sn, &by_sn, &terminals, now)) {
            Ok(item) => good.push(item),
            Err(error) => *fate = Fate::Refused(error),
        }
    }
    let fresh = fresh(conn, &terminals, good, origin, now)?;
    let events: Vec<String> =
        fresh.iter().map(|good| serde_json::to_string(&good.failure).unwrap_or_default()).collect();
    let mut imported = Vec::with_capacity(fresh.len());
    let settled = settled(conn, &terminals, &fresh)?;
    for ((place, good), event) in fresh.iter().enumerate().zip(&events) {
        let Some(terminal) = terminals.get(good.terminal) else { continue };
        let counting = if settled.contains(&place) { Counting::Done } else { Counting::Due };
        imported.push(ImportedFailure { terminal: &terminal.known, failure: &good.failure, event, counting });
        if let Some(fate) = fates.get_mut(good.index) {
            *fate = Fate::Stored;
        }
    }
    if !imported.is_empty() {
        checkin::add_imported(conn, &imported, now)?;
    }
    Ok(fates)
}

/// Which of these a channel told of, of terminals that do not call: those of others are counted by what they report.
fn settled(conn: &mut Conn, terminals: &[store::Terminal], fresh: &[Good]) -> Result<HashSet<usize>, db::Error> {
    let silent = |good: &Good| terminals.get(good.terminal).filter(|terminal| !terminal.known.calls);
    let mut places = Vec::with_capacity(fresh.len());
    let mut failures: Vec<(i64, &Failure)> = Vec::with_capacity(fresh.len());
    for (place, good) in fresh.iter().enumerate() {
        if let Some(terminal) = silent(good) {
            places.push(place);
            failures.push((terminal.known.id, &good.failure));
        }
    }
    let settled = once::settled(conn, &failures)?;
    Ok(settled.into_iter().filter_map(|at| places.get(at).copied()).collect())
}

fn judge(
    index: usize,
    mut item: NewFailure,
    sn: &str,
    by_sn: &HashMap<&str, usize>,
    terminals: &[store::Terminal],
    now: Now,
) -> Result<Good, FieldError> {
    let unknown = || FieldError::new("sn", "is not a terminal of yours");
    let &place = by_sn.get(sn).ok_or_else(unknown)?;
    let terminal = terminals.get(place).ok_or_else(unknown)?;
    sn.clone_into(&mut item.sn);
    let failure = item.parse(now.0)?;
    let offset_min = terminal.utc_offset_min.unwrap_or(UTC_OFFSET_MIN);
    let names = item::names(&failure, offset_min).of_terminal(terminal.known.id);
    Ok(Good { index, terminal: place, failure, names })
}

/// Those that are not stored yet; they are marked as imported.
fn fresh(
    conn: &mut Conn,
    terminals: &[store::Terminal],
    mut good: Vec<Good>,
    origin: &Origin,
    now: Now,
) -> Result<Vec<Good>, db::Error> {
    // In one order everywhere: two requests with the same items never wait for each other in a circle.
    good.sort_by(|one, other| (one.terminal, &one.failure.id).cmp(&(other.terminal, &other.failure.id)));
    let ids: Vec<(i64, &str)> = good
        .iter()
        .filter_map(|good| Some((terminals.get(good.terminal)?.known.id, good.failure.id.as_str())))
        .collect();
    let mut stored: HashSet<(i64, String)> = store::stored(conn, &ids)?;
    let mut reported = Reported::default();
    let mut fresh = Vec::with_capacity(good.len());
    for good in good {
        let Some(terminal) = terminals.get(good.terminal) else { continue };
        let key = (terminal.known.id, good.failure.id.clone());
        let is_known = stored.contains(&key)
            || reported.has(conn, terminal, &good)?
            || !store::mark(conn, &key, &good.names, origin, now)?;
        if !is_known {
            stored.insert(key);
            reported.add(terminal, &good);
            fresh.push(good);
        }
    }
    Ok(fresh)
}

/// Names of transactions that are stored already, by terminal and day: each is read once.
#[derive(Default)]
struct Reported(HashMap<(i64, i64), HashSet<String>>);

impl Reported {
    /// Whether this transaction is stored under another id, from the terminal itself or from elsewhere.
    fn has(&mut self, conn: &mut Conn, terminal: &store::Terminal, good: &Good) -> Result<bool, db::Error> {
        let offset_min = terminal.utc_offset_min.unwrap_or(UTC_OFFSET_MIN);
        let wanted = item::names_elsewhere(&good.failure, offset_min);
        if wanted == item::Names::default() {
            return Ok(false);
        }
        let day = item::local_day(good.failure.occurred_at_ms, offset_min);
        let key = (terminal.known.id, day);
        let known = match self.0.entry(key) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let from_ms = day * 86_400_000 - offset_min * 60_000;
                let ids = [terminal.known.id];
                let events = store::events_between(conn, &ids, from_ms, from_ms + 86_400_000, EVENTS_MAX)?;
                let known = events.iter().filter_map(|(_, event)| serde_json::from_str::<Failure>(event).ok());
                let names = known.map(|known| item::names(&known, offset_min));
                place.insert(names.flat_map(|names| names.all().map(str::to_owned).collect::<Vec<_>>()).collect())
            }
        };
        Ok(wanted.all().any(|name| known.contains(name)))
    }

    /// It is stored from now on.
    fn add(&mut self, terminal: &store::Terminal, good: &Good) {
        let offset_min = terminal.utc_offset_min.unwrap_or(UTC_OFFSET_MIN);
        let day = item::local_day(good.failure.occurred_at_ms, offset_min);
        if let Some(known) = self.0.get_mut(&(terminal.known.id, day)) {
            known.extend(item::names(&good.failure, offset_min).all().map(str::to_owned));
        }
    }
}

/// A failure as its terminal reports it.
#[derive(Debug, Clone, Copy)]
pub struct ByTerminal<'a> {
    /// Terminal.
    pub terminal_id: i64,
    /// Minutes that its place is ahead of UTC, if that is known.
    pub utc_offset_min: Option<i64>,
    /// The failure.
    pub failure: &'a Failure,
}

/// Whether an organization may have reported this failure: only those with numbers are known again.
pub fn may_be_told(failure: &Failure) -> bool {
    item::has_name(failure)
}

/// Which of these failures, that terminals report by themselves, an organization reported for them before: the event that
/// is kept, by terminal and event. One read for each kind of names that they have, none without numbers.
///
/// # Errors
/// [`db::Error`].
pub fn told_before(conn: &mut Conn, failures: &[ByTerminal<'_>]) -> Result<HashMap<(i64, String), String>, db::Error> {
    let names = |of: &ByTerminal<'_>| {
        let names = item::names_elsewhere(of.failure, of.utc_offset_min.unwrap_or(UTC_OFFSET_MIN));
        names.of_terminal(of.terminal_id)
    };
    let named: Vec<(&ByTerminal<'_>, item::Names)> = failures.iter().map(|of| (of, names(of))).collect();
    let traces: Vec<&str> = named.iter().flat_map(|(_, names)| &names.by_trace).map(String::as_str).collect();
    let references: Vec<&str> = named.iter().filter_map(|(_, names)| names.by_reference.as_deref()).collect();
    let marked = store::marked(conn, &traces, &references)?;
    let told = named.iter().filter_map(|(of, names)| {
        let kept = names.all().find_map(|name| marked.get(name))?;
        Some(((of.terminal_id, of.failure.id.clone()), kept.clone()))
    });
    Ok(told.collect())
}

/// Failures of terminals in a time, as far as they can be read; some thousand at most.
pub(super) fn between(
    conn: &mut Conn,
    terminal_ids: &[i64],
    from_ms: i64,
    to_ms: i64,
) -> Result<Vec<(i64, Failure)>, db::Error> {
    let events = store::events_between(conn, terminal_ids, from_ms, to_ms, BETWEEN_MAX)?;
    Ok(events.into_iter().filter_map(|(id, event)| Some((id, serde_json::from_str(&event).ok()?))).collect())
}

/// Deletes the marks of failures that are gone, in small transactions; returns how many rows went.
///
/// # Errors
/// [`db::Error`].
pub async fn sweep(db: &Db, now: Now) -> Result<usize, db::Error> {
    let mut deleted = 0;
    loop {
        let before_ms = now.0 - checkin::retention::FAILURES_KEPT_MS;
        let step = db.write(move |conn| store::delete_old(conn, before_ms, SWEPT_ROWS)).await?;
        if step == 0 {
            return Ok(deleted);
        }
        deleted += step;
    }
}
