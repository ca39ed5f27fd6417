//! Failures that organizations report by themselves, where no program can be put on the terminal: by REST or from a file.
//!
//! They are stored like a terminal's own, marked by their source, and counted in the cells of their hour. The same event
//! comes in once: by its id on the terminal, and by batch, trace, day and kind (rule R0), also when the terminal itself
//! reported it before. A bad item is refused by name and costs no other.

pub mod http;
mod item;
mod store;

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::json;
use tillward_protocol::FieldError;
use tillward_protocol::failure::Failure;

pub use item::NewFailure;

use crate::audit::{self, Actor, Deed};
use crate::checkin::{self, ImportedFailure, KnownTerminal};
use crate::clock::Now;
use crate::db::{self, Conn, Db};
use crate::operators::Caller;
use crate::terminals::fields::clean_id;

/// Failures in one request: one transaction of well under a second.
pub const ITEMS_MAX: usize = 500;
/// Rows deleted in one transaction.
const SWEPT_ROWS: i64 = 500;
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
pub struct Origin {
    /// How they come.
    pub source: Source,
    /// The import they belong to.
    pub import_id: Option<String>,
    /// Who brings them.
    pub created_by: String,
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
    terminal: usize,
    failure: Failure,
    dedup_key: Option<String>,
}

/// Stores failures of terminals in the caller's scope, within the caller's transaction. A dozen statements and one or two
/// for each item.
///
/// # Errors
/// [`db::Error`]; a refused item is no error.
pub fn take(
    conn: &mut Conn,
    caller: &Caller,
    actor: &Actor,
    origin: &Origin,
    items: Vec<NewFailure>,
    now: Now,
) -> Result<Taken, db::Error> {
    let sns: Vec<String> = items.iter().map(|item| clean_id(&item.sn)).collect();
    let terminals = store::terminals(conn, &caller.scope, &sns)?;
    let by_sn: HashMap<&str, usize> =
        terminals.iter().enumerate().map(|(index, terminal)| (terminal.sn.as_str(), index)).collect();
    let mut taken = Taken::default();
    let mut good = Vec::with_capacity(items.len());
    for (index, (item, sn)) in items.into_iter().zip(&sns).enumerate() {
        match judge(item, sn, &by_sn, &terminals, now) {
            Ok(item) => good.push(item),
            Err(FieldError { field, problem }) => taken.refused.push(Refused { index, field, problem }),
        }
    }
    let fresh = fresh(conn, &terminals, good, origin, &mut taken, now)?;
    let events: Vec<String> =
        fresh.iter().map(|good| serde_json::to_string(&good.failure).unwrap_or_default()).collect();
    let known: Vec<KnownTerminal> = terminals.iter().map(|terminal| terminal.known.clone()).collect();
    let imported: Vec<ImportedFailure<'_>> = fresh
        .iter()
        .zip(&events)
        .filter_map(|(good, event)| {
            Some(ImportedFailure { terminal: known.get(good.terminal)?, failure: &good.failure, event })
        })
        .collect();
    taken.stored = imported.len();
    if imported.is_empty() {
        return Ok(taken);
    }
    checkin::add_imported(conn, &imported, now)?;
    let detail = json!({
        "source": origin.source.as_str(), "stored": taken.stored, "duplicates": taken.duplicates,
        "refused": taken.refused.len(),
    });
    let deed = Deed {
        action: "failures.import",
        object_kind: "failures",
        object_id: origin.import_id.clone().unwrap_or_default(),
        org_path: caller.scope.from(),
        detail,
    };
    audit::append(conn, actor, &deed, now)?;
    Ok(taken)
}

fn judge(
    mut item: NewFailure,
    sn: &str,
    by_sn: &HashMap<&str, usize>,
    terminals: &[store::Terminal],
    now: Now,
) -> Result<Good, FieldError> {
    let unknown = || FieldError::new("sn", "is not a terminal of yours");
    let &index = by_sn.get(sn).ok_or_else(unknown)?;
    let terminal = terminals.get(index).ok_or_else(unknown)?;
    sn.clone_into(&mut item.sn);
    let failure = item.parse(now.0)?;
    let offset_min = terminal.utc_offset_min.unwrap_or(UTC_OFFSET_MIN);
    let dedup_key = item::same_transaction(&failure, offset_min)
        .map(|(batch, trace, day, kind)| format!("{}|{batch}|{trace}|{day}|{}", terminal.known.id, kind.as_str()));
    Ok(Good { terminal: index, failure, dedup_key })
}

/// Those that are not stored yet; they are marked as imported.
fn fresh(
    conn: &mut Conn,
    terminals: &[store::Terminal],
    good: Vec<Good>,
    origin: &Origin,
    taken: &mut Taken,
    now: Now,
) -> Result<Vec<Good>, db::Error> {
    let ids: Vec<(i64, &str)> = good
        .iter()
        .filter_map(|good| Some((terminals.get(good.terminal)?.known.id, good.failure.id.as_str())))
        .collect();
    let mut stored: HashSet<(i64, String)> = store::stored(conn, &ids)?;
    let mut fresh = Vec::with_capacity(good.len());
    for good in good {
        let Some(terminal) = terminals.get(good.terminal) else { continue };
        let key = (terminal.known.id, good.failure.id.clone());
        let is_known = stored.contains(&key)
            || is_reported(conn, terminal, &good)?
            || !store::mark(conn, &key, good.dedup_key.as_deref(), origin, now)?;
        if is_known {
            taken.duplicates += 1;
        } else {
            stored.insert(key);
            fresh.push(good);
        }
    }
    Ok(fresh)
}

/// Whether the terminal itself reported this transaction, under an id of its own.
fn is_reported(conn: &mut Conn, terminal: &store::Terminal, good: &Good) -> Result<bool, db::Error> {
    if good.dedup_key.is_none() {
        return Ok(false);
    }
    let offset_min = terminal.utc_offset_min.unwrap_or(UTC_OFFSET_MIN);
    let day = item::local_day(good.failure.occurred_at_ms, offset_min);
    let from_ms = day * 86_400_000 - offset_min * 60_000;
    let kind = good.failure.transaction.as_str();
    let events = store::events_between(conn, terminal.known.id, kind, from_ms, from_ms + 86_400_000)?;
    let wanted = item::same_transaction(&good.failure, offset_min);
    Ok(events.iter().any(|event| {
        let known: Option<Failure> = serde_json::from_str(event).ok();
        known.is_some_and(|known| item::same_transaction(&known, offset_min) == wanted)
    }))
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
