//! SQL of incidents; of those that mask others, in the file below.

pub(super) mod masks;

use diesel::prelude::*;
use serde_json::Value;

use super::state::{Event, State, step};
use super::{Filter, Folded, Kind, Level, NewIncident, TERMINALS_MAX};
use crate::clock::Now;
use crate::db::schema::{incident_events, incident_terminals, incidents, terminals};
use crate::db::{self, Conn, Sequence, next_id};
use crate::on_backend;
use crate::operators::Scope;

/// Lines of a timeline that are shown, the newest.
const TIMELINE_MAX: i64 = 200;
/// Reminders that one pass sends.
const DUE_MAX: i64 = 100;
/// Rises that are looked at; more within some weeks leave nothing normal anyway.
const RISES_MAX: i64 = 200;
/// Incidents that one look ends, or finds going on; the rest follow with the next.
const UNSEEN_MAX: i64 = 200;
/// Incidents to whose evidence one pass adds.
const LACKING_MAX: i64 = 20;

/// Incidents deleted in one transaction: a few milliseconds.
const DELETED_MAX: i64 = 100;

/// Another writer was faster; the transaction is given up.
pub(super) fn raced() -> db::Error {
    db::Error::Query(diesel::result::Error::RollbackTransaction)
}

/// One row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stored {
    pub id: i64,
    pub org_path: String,
    pub kind: Kind,
    pub level: Level,
    pub state: State,
    pub subject: String,
    pub evidence: Value,
    pub rollout_id: Option<i64>,
    pub release_id: Option<i64>,
    pub affected: i64,
    pub owner: Option<(i64, String)>,
    pub occurrences: i64,
    pub reminders: u32,
    pub opened_at_ms: i64,
    pub last_seen_ms: i64,
    pub state_since_ms: i64,
    pub resolved_at_ms: Option<i64>,
    pub due_ms: Option<i64>,
    pub version: i64,
    /// What explains it, or did.
    pub parent_id: Option<i64>,
    /// Since when it is folded under that; `None` when it is not.
    pub masked_since_ms: Option<i64>,
}

#[derive(Queryable)]
struct Row {
    id: i64,
    org_path: String,
    kind: String,
    _dedup_key: String,
    level: String,
    state: String,
    subject: String,
    evidence: String,
    rollout_id: Option<i64>,
    release_id: Option<i64>,
    affected: i64,
    owner_id: Option<i64>,
    owner_name: Option<String>,
    occurrences: i64,
    reminders: i64,
    opened_at_ms: i64,
    last_seen_ms: i64,
    state_since_ms: i64,
    resolved_at_ms: Option<i64>,
    due_ms: Option<i64>,
    version: i64,
    parent_id: Option<i64>,
    masked_since_ms: Option<i64>,
    _began_at_ms: Option<i64>,
}

/// A row that this program cannot read is left alone, and said.
fn stored(row: Row) -> Option<Stored> {
    let names = (Kind::parse(&row.kind), Level::parse(&row.level), State::parse(&row.state));
    let (Some(kind), Some(level), Some(state)) = names else {
        tracing::error!(incident = row.id, kind = row.kind, state = row.state, "an incident's row cannot be read");
        return None;
    };
    Some(Stored {
        id: row.id,
        org_path: row.org_path,
        kind,
        level,
        state,
        subject: row.subject,
        evidence: serde_json::from_str(&row.evidence).unwrap_or_default(),
        rollout_id: row.rollout_id,
        release_id: row.release_id,
        affected: row.affected,
        owner: row.owner_id.zip(row.owner_name),
        occurrences: row.occurrences,
        reminders: u32::try_from(row.reminders).unwrap_or(u32::MAX),
        opened_at_ms: row.opened_at_ms,
        last_seen_ms: row.last_seen_ms,
        state_since_ms: row.state_since_ms,
        resolved_at_ms: row.resolved_at_ms,
        due_ms: row.due_ms,
        version: row.version,
        parent_id: row.parent_id,
        masked_since_ms: row.masked_since_ms,
    })
}

/// Inserts an open incident, folded under `parent_id` if there is one: then nobody is reminded of it. `None` when there is
/// an unresolved one about the same thing already.
pub(super) fn insert(
    conn: &mut Conn,
    new: &NewIncident,
    parent_id: Option<i64>,
    now: Now,
) -> Result<Option<i64>, db::Error> {
    let id = next_id(conn, Sequence::Incidents)?;
    let state = State::Open;
    let limit_ms = state.time_limit_ms(new.level, 0).filter(|_| parent_id.is_none());
    let row = (
        incidents::id.eq(id),
        incidents::org_path.eq(&new.org_path),
        incidents::kind.eq(new.kind.as_str()),
        incidents::dedup_key.eq(&new.key),
        incidents::level.eq(new.level.as_str()),
        incidents::state.eq(state.as_str()),
        incidents::subject.eq(&new.subject),
        incidents::evidence.eq(new.evidence.to_string()),
        incidents::rollout_id.eq(new.rollout_id),
        incidents::release_id.eq(new.release_id),
        incidents::affected.eq(i64::try_from(new.affected).unwrap_or(i64::MAX)),
        incidents::occurrences.eq(1),
        incidents::reminders.eq(0),
        incidents::opened_at_ms.eq(now.0),
        incidents::last_seen_ms.eq(now.0),
        incidents::state_since_ms.eq(now.0),
        incidents::due_ms.eq(limit_ms.map(|limit_ms| now.0.saturating_add(limit_ms))),
        incidents::version.eq(1),
        incidents::parent_id.eq(parent_id),
        incidents::masked_since_ms.eq(parent_id.map(|_| now.0)),
        // Nothing is seen before it begins.
        incidents::began_at_ms.eq(new.evidence.get("began_at_ms").and_then(Value::as_i64).map(|at| at.min(now.0))),
    );
    // Not a failure on conflict: on PostgreSQL that would spoil the caller's whole transaction.
    let inserted =
        on_backend!(conn, |c| diesel::insert_into(incidents::table).values(row).on_conflict_do_nothing().execute(c))?;
    Ok((inserted == 1).then_some(id))
}

/// The number of the newest incident about the same thing. By `incidents_by_key`.
pub(super) fn newest(conn: &mut Conn, new: &NewIncident) -> Result<Option<i64>, db::Error> {
    Ok(incidents::table
        .filter(incidents::org_path.eq(&new.org_path))
        .filter(incidents::kind.eq(new.kind.as_str()))
        .filter(incidents::dedup_key.eq(&new.key))
        .order(incidents::id.desc())
        .select(incidents::id)
        .first(conn)
        .optional()?)
}

/// An incident, locked until the transaction ends. By primary key.
pub(super) fn hold(conn: &mut Conn, id: i64) -> Result<Option<Stored>, db::Error> {
    // Writing takes the lock on both databases, and the row is read as it is under it.
    diesel::update(incidents::table.find(id)).set(incidents::version.eq(incidents::version + 1)).execute(conn)?;
    Ok(incidents::table.find(id).first::<Row>(conn).optional()?.and_then(stored))
}

/// Compare-and-set on `version`; returns whether the row was still the one that was read.
pub(super) fn replace(conn: &mut Conn, before: &Stored, after: &Stored) -> Result<bool, db::Error> {
    let row = incidents::table.find(before.id).filter(incidents::version.eq(before.version));
    let written = diesel::update(row)
        .set((
            incidents::level.eq(after.level.as_str()),
            incidents::state.eq(after.state.as_str()),
            incidents::subject.eq(&after.subject),
            incidents::evidence.eq(after.evidence.to_string()),
            incidents::rollout_id.eq(after.rollout_id),
            incidents::release_id.eq(after.release_id),
            incidents::affected.eq(after.affected),
            incidents::owner_id.eq(after.owner.as_ref().map(|owner| owner.0)),
            incidents::owner_name.eq(after.owner.as_ref().map(|owner| owner.1.as_str())),
            incidents::occurrences.eq(after.occurrences),
            incidents::reminders.eq(i64::from(after.reminders)),
            incidents::last_seen_ms.eq(after.last_seen_ms),
            incidents::state_since_ms.eq(after.state_since_ms),
            incidents::resolved_at_ms.eq(after.resolved_at_ms),
            incidents::due_ms.eq(after.due_ms),
            incidents::version.eq(before.version + 1),
            incidents::parent_id.eq(after.parent_id),
            incidents::masked_since_ms.eq(after.masked_since_ms),
        ))
        .execute(conn)?;
    Ok(written == 1)
}

/// Adds terminals to the list of an incident that the caller has locked, up to its bound.
pub(super) fn add_terminals(conn: &mut Conn, id: i64, terminal_ids: &[i64]) -> Result<(), db::Error> {
    if terminal_ids.is_empty() {
        return Ok(());
    }
    let listed = terminals_of(conn, id)?;
    let room = TERMINALS_MAX.saturating_sub(listed.len());
    let mut added: Vec<i64> = Vec::new();
    for terminal_id in terminal_ids {
        if added.len() < room && !listed.contains(terminal_id) && !added.contains(terminal_id) {
            added.push(*terminal_id);
        }
    }
    let row = |terminal_id| (incident_terminals::incident_id.eq(id), incident_terminals::terminal_id.eq(terminal_id));
    let rows: Vec<_> = added.into_iter().map(row).collect();
    if !rows.is_empty() {
        on_backend!(conn, |c| diesel::insert_into(incident_terminals::table).values(&rows).execute(c))?;
    }
    Ok(())
}

/// By primary key.
fn terminals_of(conn: &mut Conn, id: i64) -> Result<Vec<i64>, db::Error> {
    let listed = incident_terminals::table
        .filter(incident_terminals::incident_id.eq(id))
        .order(incident_terminals::terminal_id)
        .limit(i64::try_from(TERMINALS_MAX).unwrap_or(i64::MAX))
        .select(incident_terminals::terminal_id);
    Ok(listed.load(conn)?)
}

/// Numbers and serial numbers of an incident's terminals that are in the scope.
pub(super) fn terminals(conn: &mut Conn, scope: &Scope, id: i64) -> Result<Vec<(i64, String)>, db::Error> {
    let ids = terminals_of(conn, id)?;
    let rows = terminals::table
        .filter(terminals::id.eq_any(ids))
        .filter(terminals::org_path.ge(scope.from()))
        .filter(terminals::org_path.lt(scope.below()))
        .order(terminals::id)
        .select((terminals::id, terminals::sn));
    Ok(rows.load(conn)?)
}

/// Who did something to an incident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Who {
    pub kind: String,
    pub id: i64,
    pub name: String,
}

impl Who {
    /// The server itself.
    pub(super) fn system(name: &str) -> Self {
        Self { kind: "system".to_owned(), id: 0, name: name.to_owned() }
    }
}

/// One line of a timeline.
pub(super) struct Line {
    pub at_ms: i64,
    pub who: Who,
    pub event: String,
    pub note: String,
    pub evidence: Option<Value>,
}

/// Adds a line to the timeline of an incident that the caller has locked.
pub(super) fn append_event(
    conn: &mut Conn,
    id: i64,
    who: &Who,
    event: &str,
    note: &str,
    evidence: Option<&Value>,
    now: Now,
) -> Result<(), db::Error> {
    let last: Option<i64> = incident_events::table
        .filter(incident_events::incident_id.eq(id))
        .order(incident_events::seq.desc())
        .select(incident_events::seq)
        .first(conn)
        .optional()?;
    diesel::insert_into(incident_events::table)
        .values((
            incident_events::incident_id.eq(id),
            incident_events::seq.eq(last.unwrap_or(0) + 1),
            incident_events::at_ms.eq(now.0),
            incident_events::actor_kind.eq(&who.kind),
            incident_events::actor_id.eq(who.id),
            incident_events::actor_name.eq(&who.name),
            incident_events::event.eq(event),
            incident_events::note.eq(note),
            incident_events::evidence.eq(evidence.map(Value::to_string)),
        ))
        .execute(conn)?;
    Ok(())
}

type Columns = (i64, String, i64, String, String, String, Option<String>);

/// Newest first, by primary key.
pub(super) fn timeline(conn: &mut Conn, id: i64) -> Result<Vec<Line>, db::Error> {
    let rows = incident_events::table
        .filter(incident_events::incident_id.eq(id))
        .order(incident_events::seq.desc())
        .limit(TIMELINE_MAX)
        .select((
            incident_events::at_ms,
            incident_events::actor_kind,
            incident_events::actor_id,
            incident_events::actor_name,
            incident_events::event,
            incident_events::note,
            incident_events::evidence,
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

/// By primary key, within the scope.
pub(super) fn get(conn: &mut Conn, scope: &Scope, id: i64) -> Result<Option<Stored>, db::Error> {
    let row = incidents::table
        .find(id)
        .filter(incidents::org_path.ge(scope.from()))
        .filter(incidents::org_path.lt(scope.below()))
        .first::<Row>(conn)
        .optional()?;
    Ok(row.and_then(stored))
}

/// Newest first, before `before`. By `incidents_by_org`, or by the index of the rollout or the terminal.
pub(super) fn list(
    conn: &mut Conn,
    scope: &Scope,
    filter: &Filter,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<Stored>, db::Error> {
    let mut query = incidents::table
        .filter(incidents::org_path.ge(scope.from()))
        .filter(incidents::org_path.lt(scope.below()))
        .filter(incidents::id.lt(before.unwrap_or(i64::MAX)))
        .into_boxed();
    if !filter.states.is_empty() {
        let names: Vec<&str> = filter.states.iter().map(|state| state.as_str()).collect();
        query = query.filter(incidents::state.eq_any(names));
    }
    if let Some(kind) = filter.kind {
        query = query.filter(incidents::kind.eq(kind.as_str()));
    }
    if let Some(level) = filter.level {
        query = query.filter(incidents::level.eq(level.as_str()));
    }
    if let Some(rollout_id) = filter.rollout_id {
        query = query.filter(incidents::rollout_id.eq(rollout_id));
    }
    if let Some(terminal_id) = filter.terminal_id {
        let about = incident_terminals::table
            .filter(incident_terminals::terminal_id.eq(terminal_id))
            .select(incident_terminals::incident_id);
        query = query.filter(incidents::id.eq_any(about));
    }
    if let Some(parent_id) = filter.parent_id {
        query = query.filter(incidents::parent_id.eq(parent_id));
    }
    match filter.folded {
        Folded::Shown => {}
        Folded::Hidden => query = query.filter(incidents::masked_since_ms.is_null()),
    }
    let rows = query.order(incidents::id.desc()).limit(limit).load::<Row>(conn)?;
    Ok(rows.into_iter().filter_map(stored).collect())
}

/// How many incidents of the scope are open and not folded under another one, counted up to `most`. By
/// `incidents_by_state`.
pub(super) fn count_open(conn: &mut Conn, scope: &Scope, most: i64) -> Result<usize, db::Error> {
    let open: Vec<i64> = incidents::table
        .filter(incidents::state.eq(State::Open.as_str()))
        .filter(incidents::masked_since_ms.is_null())
        .filter(incidents::org_path.ge(scope.from()))
        .filter(incidents::org_path.lt(scope.below()))
        .limit(most)
        .select(incidents::id)
        .load(conn)?;
    Ok(open.len())
}

/// Incidents that somebody should be reminded of, the longest overdue first. By `incidents_due`.
pub(super) fn due(conn: &mut Conn, now: Now) -> Result<Vec<i64>, db::Error> {
    let due = incidents::table
        .filter(incidents::due_ms.le(now.0))
        .order(incidents::due_ms)
        .limit(DUE_MAX)
        .select(incidents::id);
    Ok(due.load(conn)?)
}

/// When failures rose in the scope, or above it, since `from_ms`: first and last seen, at most [`RISES_MAX`].
pub(super) fn rises(conn: &mut Conn, scope: &Scope, from_ms: i64) -> Result<Vec<(i64, i64)>, db::Error> {
    let rows: Vec<(String, i64, i64)> = incidents::table
        .filter(incidents::kind.eq(Kind::FailureRise.as_str()))
        .filter(incidents::last_seen_ms.ge(from_ms))
        .order(incidents::id.desc())
        .limit(RISES_MAX)
        .select((incidents::org_path, incidents::opened_at_ms, incidents::last_seen_ms))
        .load(conn)?;
    let concerns = |path: &str| scope.contains(path) || Scope::subtree(path).contains(scope.from());
    Ok(rows.into_iter().filter(|(path, ..)| concerns(path)).map(|(_, from, to)| (from, to)).collect())
}

/// Names of the states in which an incident goes on until something ends it.
fn going_on() -> Vec<&'static str> {
    State::ALL.into_iter().filter(|state| step(*state, Event::Mitigate).is_ok()).map(State::as_str).collect()
}

/// Incidents of this kind that go on and were last seen before `before_ms`, but none of the organizations in
/// `passed_over`; the longest unseen first. By `incidents_by_state`.
pub(super) fn unseen(
    conn: &mut Conn,
    kind: Kind,
    before_ms: i64,
    passed_over: &[String],
) -> Result<Vec<i64>, db::Error> {
    Ok(incidents::table
        .filter(incidents::state.eq_any(going_on()))
        .filter(incidents::kind.eq(kind.as_str()))
        .filter(incidents::last_seen_ms.lt(before_ms))
        .filter(incidents::org_path.ne_all(passed_over))
        .order((incidents::last_seen_ms, incidents::id))
        .limit(UNSEEN_MAX)
        .select(incidents::id)
        .load(conn)?)
}

/// Organization and class (see the evidence of a rise) of the incidents of this kind that go on, the newest. By
/// `incidents_by_state`.
pub(super) fn classes(conn: &mut Conn, kind: Kind) -> Result<Vec<(String, String)>, db::Error> {
    let rows: Vec<(String, String)> = incidents::table
        .filter(incidents::state.eq_any(going_on()))
        .filter(incidents::kind.eq(kind.as_str()))
        .order(incidents::id.desc())
        .limit(UNSEEN_MAX)
        .select((incidents::org_path, incidents::evidence))
        .load(conn)?;
    let class = |evidence: &str| {
        let evidence: Value = serde_json::from_str(evidence).ok()?;
        evidence.get("class")?.as_str().filter(|class| !class.is_empty()).map(str::to_owned)
    };
    Ok(rows.into_iter().filter_map(|(path, evidence)| Some((path, class(&evidence)?))).collect())
}

/// Incidents of these kinds that go on, were seen since `since_ms` and have no such member in their evidence, the newest.
/// By `incidents_by_state`.
pub(super) fn lacking(
    conn: &mut Conn,
    kinds: &[Kind],
    member: &str,
    since_ms: i64,
) -> Result<Vec<(i64, String)>, db::Error> {
    let kinds: Vec<&str> = kinds.iter().map(|kind| kind.as_str()).collect();
    Ok(incidents::table
        .filter(incidents::state.eq_any(going_on()))
        .filter(incidents::kind.eq_any(kinds))
        .filter(incidents::last_seen_ms.ge(since_ms))
        .filter(incidents::evidence.not_like(format!("%\"{member}\":%")))
        .order(incidents::id.desc())
        .limit(LACKING_MAX)
        .select((incidents::id, incidents::org_path))
        .load(conn)?)
}

/// Incidents of the scope, of this kind and about these things, that go on and were seen before `now`, by number. By
/// `incidents_by_state`.
pub(super) fn under_way(
    conn: &mut Conn,
    kind: Kind,
    scope: &Scope,
    keys: &[String],
    now: Now,
) -> Result<Vec<i64>, db::Error> {
    Ok(incidents::table
        .filter(incidents::state.eq_any(going_on()))
        .filter(incidents::org_path.ge(scope.from()))
        .filter(incidents::org_path.lt(scope.below()))
        .filter(incidents::kind.eq(kind.as_str()))
        .filter(incidents::dedup_key.eq_any(keys))
        .filter(incidents::last_seen_ms.lt(now.0))
        .order(incidents::id)
        .limit(UNSEEN_MAX)
        .select(incidents::id)
        .load(conn)?)
}

/// Deletes incidents that were resolved before `before_ms`, at most [`DELETED_MAX`]. By `incidents_by_state`.
pub(super) fn delete_resolved(conn: &mut Conn, before_ms: i64) -> Result<usize, db::Error> {
    let old: Vec<i64> = incidents::table
        .filter(incidents::state.eq(State::Resolved.as_str()))
        .filter(incidents::resolved_at_ms.lt(before_ms))
        .limit(DELETED_MAX)
        .select(incidents::id)
        .load(conn)?;
    if old.is_empty() {
        return Ok(0);
    }
    diesel::delete(incident_events::table.filter(incident_events::incident_id.eq_any(old.clone()))).execute(conn)?;
    diesel::delete(incident_terminals::table.filter(incident_terminals::incident_id.eq_any(old.clone())))
        .execute(conn)?;
    Ok(diesel::delete(incidents::table.filter(incidents::id.eq_any(old))).execute(conn)?)
}
