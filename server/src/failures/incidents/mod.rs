//! Incidents: what went wrong, grouped under one cause, with its evidence, an owner and a state.
//!
//! Rules open them with [`open`] and [`open_all`], inside the transaction of what they did about it; people carry them on
//! with [`act`].
//! The same thing seen again (same organization, kind and key) adds to its incident, or opens it anew, and never makes a
//! second one beside it. Whatever opens an incident raises an alert in the same transaction; nobody is told of what was
//! rolled back, and nothing that happened goes untold. What an incident under way explains is folded under it instead
//! ([`mask`]): that is told when it goes on after its parent ended.

mod actions;
mod evidence;
mod filter;
pub mod http;
mod kind;
pub mod mask;
mod masking;
mod reminders;
pub mod state;
mod store;
mod view;

use std::collections::BTreeMap;

use serde_json::{Value, json};

pub use actions::{Act, Error, NOTE_CHARS_MAX, act, assign};
pub use evidence::{EVIDENCE_BYTES_MAX, OMITTED};
pub use filter::{Filter, Folded, UNRESOLVED};
pub use kind::Kind;
pub use masking::{FRESH_MS, classes, go_on, subside, subside_unseen, unseen};
pub use reminders::{INCIDENTS_KEPT_MS, remind, sweep};
pub use state::State;
pub use view::{Incident, IncidentDetail, TimelineEntry, UNACKNOWLEDGED_SHOWN_MAX, get, list, unacknowledged};

use crate::alerts::{self, AlertKind, NewAlert};
use crate::audit::{self, Actor, Deed};
use crate::clock::Now;
use crate::db::{self, Conn};
use crate::operators::Scope;
use state::{Event, step};
use store::Stored;

pub use crate::alerts::Level;

/// Longest key and subject, characters.
pub const TEXT_CHARS_MAX: usize = 200;
/// Terminals that one incident lists: what a person can look at. How many are concerned is counted beside.
pub const TERMINALS_MAX: usize = 100;
/// How often [`open_all`] looks again when another server is at the same incident.
const ATTEMPTS: usize = 3;
/// Name of the rules in the audit log and the timeline.
const ACTOR: &str = "incidents";

/// What a rule found.
#[derive(Debug, Clone, PartialEq)]
pub struct NewIncident {
    /// Which rule.
    pub kind: Kind,
    /// How urgent.
    pub level: Level,
    /// Organization whose people deal with it.
    pub org_path: String,
    /// What it is about, within its organization and kind: `rollout:12`, `terminal:7`. The same thing has the same key.
    pub key: String,
    /// What people call that: the rollout's name, the serial number, `4.2.0 · 2g`. Never card data.
    pub subject: String,
    /// What was seen: an object. Its numbers and texts are shown as a list, its lists of objects as tables; a list of
    /// `{rule, field, observed, threshold}` under `reasons` says why; a number `began_at_ms` says when the first failure of
    /// its cause came in, by the server's clock. At most [`EVIDENCE_BYTES_MAX`], or its largest members go.
    pub evidence: Value,
    /// The rollout it is about.
    pub rollout_id: Option<i64>,
    /// The release it is about.
    pub release_id: Option<i64>,
    /// Terminals concerned; the first [`TERMINALS_MAX`] are kept.
    pub terminal_ids: Vec<i64>,
    /// How many terminals are concerned, listed or not.
    pub affected: u64,
}

/// Opens an incident within the caller's transaction, or adds to the one about the same thing, and returns its number.
///
/// Opening, and opening again, is written to the audit log and raises an alert; so does a more urgent level. A mere
/// repetition is counted and shows the newest evidence: one that repeats each minute must not fill the logs. What another
/// incident explains is folded under that one, and raises no alert.
///
/// Costs four statements for a repetition, about a dozen for an opening. Call it before the caller's own entry in the audit
/// log: the log's lock is the last one that a transaction takes, or two of them could wait for each other. A transaction
/// that opens several calls [`open_all`].
///
/// # Errors
/// [`db::Error`]; the caller's transaction must then be given up.
pub fn open(conn: &mut Conn, new: NewIncident, now: Now) -> Result<i64, db::Error> {
    open_all(conn, vec![new], now)?.first().copied().ok_or_else(store::raced)
}

/// As [`open`], for all that a transaction opens; their numbers in the same order. None of them explains another.
///
/// Rows that are there already are locked first, in the order of their numbers; then the counter of incidents, that of
/// alerts, and the audit log last: two transactions that open several never wait for each other in a circle. Nothing for
/// none.
///
/// # Errors
/// [`db::Error`]; the caller's transaction must then be given up.
pub fn open_all(conn: &mut Conn, new: Vec<NewIncident>, now: Now) -> Result<Vec<i64>, db::Error> {
    let new: Vec<NewIncident> = new.into_iter().map(within_bounds).collect();
    let written = write(conn, &new, now)?;
    for (told, new) in written.iter().zip(&new) {
        tell(conn, told, new, now)?;
    }
    for (told, new) in written.iter().zip(&new) {
        log(conn, told, new, now)?;
    }
    Ok(written.iter().map(|told| told.id).collect())
}

fn within_bounds(new: NewIncident) -> NewIncident {
    NewIncident {
        key: cut(&new.key),
        subject: cut(&new.subject),
        evidence: evidence::bounded(new.evidence),
        affected: new.affected.max(u64::try_from(new.terminal_ids.len()).unwrap_or(u64::MAX)),
        ..new
    }
}

/// Writes the rows; what became of each, in the same order.
fn write<'a>(conn: &mut Conn, new: &'a [NewIncident], now: Now) -> Result<Vec<Told<'a>>, db::Error> {
    let mut newest: Vec<(Option<i64>, usize, &'a NewIncident)> = Vec::with_capacity(new.len());
    for (at, new) in new.iter().enumerate() {
        newest.push((store::newest(conn, new)?, at, new));
    }
    newest.sort_by_key(|(id, at, _)| (*id, *at));
    let mut written: BTreeMap<usize, Told<'a>> = BTreeMap::new();
    let mut unknown: Vec<(usize, &'a NewIncident, Option<i64>)> = Vec::new();
    for (id, at, new) in newest {
        let parent_id = masking::parent(conn, new)?;
        match again(conn, id, new, parent_id, now)? {
            Some(told) => {
                written.insert(at, told);
            }
            None => unknown.push((at, new, parent_id)),
        }
    }
    for (at, new, parent_id) in unknown {
        written.insert(at, begin(conn, new, parent_id, now)?);
    }
    Ok(written.into_values().collect())
}

/// Adds to the incident `id`, the newest about the same thing; `None` where there is none, or where it was over too long
/// ago.
fn again<'a>(
    conn: &mut Conn,
    id: Option<i64>,
    new: &'a NewIncident,
    parent_id: Option<i64>,
    now: Now,
) -> Result<Option<Told<'a>>, db::Error> {
    let Some(id) = id else { return Ok(None) };
    let found = store::hold(conn, id)?.filter(|found| found.state.takes_up(found.resolved_at_ms, now.0));
    found.map(|found| take_up(conn, &found, new, parent_id, now)).transpose()
}

/// Makes a new incident, or adds to the one that another server made at the same moment.
fn begin<'a>(conn: &mut Conn, new: &'a NewIncident, parent_id: Option<i64>, now: Now) -> Result<Told<'a>, db::Error> {
    for _ in 0..ATTEMPTS {
        if let Some(id) = store::insert(conn, new, parent_id, now)? {
            store::add_terminals(conn, id, &new.terminal_ids)?;
            let kind = parent_id.is_none().then_some(AlertKind::IncidentOpened);
            let story = Story { event: "open", evidence: Some(&new.evidence), kind };
            return Ok(Told { id, occurrence: 1, level: new.level, is_folded: false, story: Some(story) });
        }
        let newest = store::newest(conn, new)?;
        if let Some(told) = again(conn, newest, new, parent_id, now)? {
            return Ok(told);
        }
    }
    Err(store::raced())
}

/// The same thing again.
fn take_up<'a>(
    conn: &mut Conn,
    found: &Stored,
    new: &'a NewIncident,
    parent_id: Option<i64>,
    now: Now,
) -> Result<Told<'a>, db::Error> {
    // `Recur` is possible in every state; if that ever changes, the incident stays as it is.
    let state = step(found.state, Event::Recur).unwrap_or(found.state);
    let level = found.level.min(new.level);
    let is_reopened = state != found.state;
    let is_raised = level != found.level;
    // What somebody looks after already is not taken out of sight.
    let parent_id = parent_id.filter(|_| state == State::Open);
    let is_unfolded = found.masked_since_ms.is_some() && parent_id.is_none();
    let is_folded = found.masked_since_ms.is_none() && parent_id.is_some();
    let (state_since_ms, reminders) = if is_reopened { (now.0, 0) } else { (found.state_since_ms, found.reminders) };
    let limit_ms = state.time_limit_ms(level, reminders).map(|limit_ms| now.0.saturating_add(limit_ms));
    let due_ms = if parent_id.is_some() {
        None
    } else if is_reopened || is_unfolded {
        limit_ms
    } else if is_raised {
        // Sooner than before, never later.
        found.due_ms.min(limit_ms).or(limit_ms)
    } else {
        found.due_ms
    };
    let after = Stored {
        state,
        level,
        subject: new.subject.clone(),
        evidence: new.evidence.clone(),
        rollout_id: new.rollout_id.or(found.rollout_id),
        release_id: new.release_id.or(found.release_id),
        affected: i64::try_from(new.affected).unwrap_or(i64::MAX),
        occurrences: found.occurrences + 1,
        reminders,
        last_seen_ms: now.0,
        state_since_ms,
        resolved_at_ms: found.resolved_at_ms.filter(|_| !is_reopened),
        due_ms,
        parent_id: parent_id.or(found.parent_id),
        masked_since_ms: parent_id.and(found.masked_since_ms.or(Some(now.0))),
        ..found.clone()
    };
    if !store::replace(conn, found, &after)? {
        return Err(store::raced());
    }
    store::add_terminals(conn, found.id, &new.terminal_ids)?;
    let alert = |kind| parent_id.is_none().then_some(kind);
    let story = if is_reopened {
        let kind = alert(AlertKind::IncidentReopened);
        Some(Story { event: "reopen", evidence: Some(&new.evidence), kind })
    } else if is_unfolded {
        Some(Story { event: "unfold", evidence: None, kind: Some(AlertKind::IncidentOpened) })
    } else if is_raised {
        Some(Story { event: "raise", evidence: None, kind: alert(AlertKind::IncidentRaised) })
    } else {
        is_folded.then_some(Story { event: "fold", evidence: None, kind: None })
    };
    Ok(Told { id: found.id, occurrence: after.occurrences, level, is_folded, story })
}

/// What was just written.
struct Told<'a> {
    id: i64,
    occurrence: i64,
    level: Level,
    /// Another incident explains it from now on.
    is_folded: bool,
    /// None for a mere repetition.
    story: Option<Story<'a>>,
}

/// What happened to it.
struct Story<'a> {
    event: &'static str,
    evidence: Option<&'a Value>,
    /// The alert that it raises; none where another incident explains it.
    kind: Option<AlertKind>,
}

/// The timeline and the alert of one opening.
fn tell(conn: &mut Conn, told: &Told<'_>, new: &NewIncident, now: Now) -> Result<(), db::Error> {
    let Some(story) = &told.story else { return Ok(()) };
    if told.is_folded {
        // Nobody needs to hear of it any more: what waits, for a digest or an endpoint that is away, is taken back.
        alerts::mask(conn, told.id, now)?;
    }
    store::append_event(conn, told.id, &store::Who::system(ACTOR), story.event, "", story.evidence, now)?;
    if let Some(kind) = story.kind {
        let alert = NewAlert {
            org_path: &new.org_path,
            kind,
            level: told.level,
            incident_id: Some(told.id),
            incident_kind: Some(new.kind.as_str()),
            release_id: new.release_id,
            unanswered: 0,
            title_key: title_key(new.kind),
            parameters: parameters(&new.subject),
            dedup_key: format!("incident:{}:{}:{}", told.id, story.event, told.occurrence),
        };
        alerts::raise(conn, &alert, now)?;
    }
    Ok(())
}

/// The audit log's entry of one opening, after everything else that all of them write.
fn log(conn: &mut Conn, told: &Told<'_>, new: &NewIncident, now: Now) -> Result<(), db::Error> {
    let Some(story) = &told.story else { return Ok(()) };
    let deed = Deed {
        action: &format!("incidents.{}", story.event),
        object_kind: "incident",
        object_id: told.id.to_string(),
        org_path: &new.org_path,
        detail: json!({
            "kind": new.kind.as_str(),
            "level": told.level.as_str(),
            "subject": new.subject,
            "key": new.key,
            "occurrence": told.occurrence,
            "rollout_id": new.rollout_id,
            "release_id": new.release_id,
        }),
    };
    audit::append(conn, &Actor::system(ACTOR), &deed, now)?;
    metrics::counter!("tillward_incidents_opened_total", "kind" => new.kind.as_str()).increment(1);
    Ok(())
}

/// Incidents of these kinds that go on, were seen since `since_ms` and whose evidence has no member of this name: number and
/// organization, the newest first, some twenty. For [`add_evidence`].
///
/// # Errors
/// [`db::Error`].
pub fn lacking(conn: &mut Conn, kinds: &[Kind], member: &str, since_ms: i64) -> Result<Vec<(i64, String)>, db::Error> {
    store::lacking(conn, kinds, member, since_ms)
}

/// Adds to what was seen of an incident what was found out about it later, and says so in its story; whether there was
/// none of it yet. Nobody is told: whoever opens it sees it.
///
/// # Errors
/// [`db::Error`]; the caller's transaction must then be given up.
pub fn add_evidence(conn: &mut Conn, id: i64, member: &str, found: Value, now: Now) -> Result<bool, db::Error> {
    let Some(before) = store::hold(conn, id)? else { return Ok(false) };
    let Value::Object(mut members) = before.evidence.clone() else { return Ok(false) };
    if members.contains_key(member) {
        return Ok(false);
    }
    members.insert(member.to_owned(), found);
    let after = Stored { evidence: evidence::bounded(Value::Object(members)), ..before.clone() };
    if !store::replace(conn, &before, &after)? {
        return Err(store::raced());
    }
    store::append_event(conn, id, &store::Who::system(ACTOR), "evidence", "", None, now)?;
    Ok(true)
}

/// When failures rose within the scope or above it since `from_ms`: from when to when, Unix ms. What happened then is
/// not normal.
///
/// # Errors
/// [`db::Error`].
pub fn rises(conn: &mut Conn, scope: &Scope, from_ms: i64) -> Result<Vec<(i64, i64)>, db::Error> {
    store::rises(conn, scope, from_ms)
}

/// The text that names an incident of this kind, with the subject in it.
pub fn title_key(kind: Kind) -> String {
    format!("incident-title-{}", kind.as_str())
}

fn parameters(subject: &str) -> Vec<(&'static str, String)> {
    vec![("subject", subject.to_owned())]
}

/// The beginning of a text, at most as long as the table keeps it.
fn cut(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}
