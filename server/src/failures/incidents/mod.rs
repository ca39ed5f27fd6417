//! Incidents: what went wrong, grouped under one cause, with its evidence, an owner and a state.
//!
//! Rules open them with [`open`], inside the transaction of what they did about it; people carry them on with [`act`].
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

use serde_json::{Value, json};

pub use actions::{Act, Error, NOTE_CHARS_MAX, act, assign};
pub use evidence::{EVIDENCE_BYTES_MAX, OMITTED};
pub use filter::{Filter, Folded, UNRESOLVED};
pub use kind::Kind;
pub use masking::{FRESH_MS, subside};
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
/// How often [`open`] looks again when another server is at the same incident.
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
    /// `{rule, field, observed, threshold}` under `reasons` says why. At most [`EVIDENCE_BYTES_MAX`], or its largest
    /// members go.
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
/// log: the log's lock is the last one that a transaction takes, or two of them could wait for each other.
///
/// # Errors
/// [`db::Error`]; the caller's transaction must then be given up.
pub fn open(conn: &mut Conn, new: NewIncident, now: Now) -> Result<i64, db::Error> {
    let new = NewIncident {
        key: cut(&new.key),
        subject: cut(&new.subject),
        evidence: evidence::bounded(new.evidence),
        affected: new.affected.max(u64::try_from(new.terminal_ids.len()).unwrap_or(u64::MAX)),
        ..new
    };
    for _ in 0..ATTEMPTS {
        let parent_id = masking::parent(conn, &new)?;
        let found = store::hold_newest(conn, &new)?;
        if let Some(found) = found.filter(|found| found.state.takes_up(found.resolved_at_ms, now.0)) {
            return take_up(conn, &found, &new, parent_id, now);
        }
        if let Some(id) = store::insert(conn, &new, parent_id, now)? {
            store::add_terminals(conn, id, &new.terminal_ids)?;
            let kind = parent_id.is_none().then_some(AlertKind::IncidentOpened);
            let story = Story { event: "open", evidence: Some(&new.evidence), kind };
            tell(conn, &Told { id, occurrence: 1, level: new.level }, &new, story, now)?;
            return Ok(id);
        }
    }
    Err(store::raced())
}

/// The same thing again.
fn take_up(
    conn: &mut Conn,
    found: &Stored,
    new: &NewIncident,
    parent_id: Option<i64>,
    now: Now,
) -> Result<i64, db::Error> {
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
    let told = Told { id: found.id, occurrence: after.occurrences, level };
    let alert = |kind| parent_id.is_none().then_some(kind);
    if is_reopened {
        let kind = alert(AlertKind::IncidentReopened);
        tell(conn, &told, new, Story { event: "reopen", evidence: Some(&new.evidence), kind }, now)?;
    } else if is_unfolded {
        let kind = Some(AlertKind::IncidentOpened);
        tell(conn, &told, new, Story { event: "unfold", evidence: None, kind }, now)?;
    } else if is_raised {
        let kind = alert(AlertKind::IncidentRaised);
        tell(conn, &told, new, Story { event: "raise", evidence: None, kind }, now)?;
    } else if is_folded {
        tell(conn, &told, new, Story { event: "fold", evidence: None, kind: None }, now)?;
    }
    Ok(found.id)
}

/// What was just written.
struct Told {
    id: i64,
    occurrence: i64,
    level: Level,
}

/// What happened to it.
struct Story<'a> {
    event: &'static str,
    evidence: Option<&'a Value>,
    /// The alert that it raises; none where another incident explains it.
    kind: Option<AlertKind>,
}

/// The timeline, the audit log and the alert of one opening.
fn tell(conn: &mut Conn, told: &Told, new: &NewIncident, story: Story<'_>, now: Now) -> Result<(), db::Error> {
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
