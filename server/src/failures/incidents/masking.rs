//! What happens to incidents that another one explains: they are folded under it, and told when they outlast it. And what
//! becomes of incidents that are not seen any more.

use serde_json::json;

use super::mask::{self, Condition};
use super::state::{Event, State, step};
use super::store::{self, Stored, Who};
use super::{ACTOR, Kind, NewIncident, parameters, title_key};
use crate::alerts::{self, AlertKind, NewAlert};
use crate::audit::{self, Actor, Deed};
use crate::clock::Now;
use crate::db::{self, Conn};
use crate::operators::Scope;

/// What was seen within this time goes on, ms: some passes of the rules.
pub const FRESH_MS: i64 = 10 * 60_000;

/// The incident under way that explains `new`, if one does that is at least as urgent as it and as its incident so far.
/// One query for kinds that can be explained, none for others; one more where there are candidates, and one for each
/// candidate that is about a place.
pub(super) fn parent(conn: &mut Conn, new: &NewIncident) -> Result<Option<i64>, db::Error> {
    let kinds = mask::parents(new.kind);
    if kinds.is_empty() {
        return Ok(None);
    }
    let found = store::masks::parents(conn, kinds, &new.org_path)?;
    if found.is_empty() {
        return Ok(None);
    }
    let level = store::masks::level_so_far(conn, new)?.map_or(new.level, |before| before.min(new.level));
    for parent in found.into_iter().filter(|parent| mask::is_as_urgent(parent.level, level)) {
        let explains = match mask::condition(parent.kind, &parent.key, new.kind) {
            Condition::Always => true,
            Condition::Never => false,
            Condition::BankCodes => mask::is_the_banks(&new.evidence),
            Condition::Place(field, value) => {
                let listed = new.terminal_ids.get(..super::TERMINALS_MAX).unwrap_or(&new.terminal_ids);
                let inside = store::masks::count_in_place(conn, &field, &value, listed)?;
                !listed.is_empty() && inside * 2 >= listed.len()
            }
        };
        if explains {
            return Ok(Some(parent.id));
        }
    }
    Ok(None)
}

/// An incident masks nothing any more: what of its children was seen lately goes on, and people are told; the others are
/// over by all that is known. Takes the locks of all of them before the audit log's.
pub(super) fn release(conn: &mut Conn, parent_id: i64, now: Now) -> Result<(), db::Error> {
    let mut released: Vec<(Stored, &'static str)> = Vec::new();
    for child in store::masks::hold_children(conn, parent_id)? {
        let goes_on = now.0.saturating_sub(child.last_seen_ms) <= FRESH_MS;
        let (state, event) = if goes_on {
            (child.state, "unfold")
        } else {
            (step(child.state, Event::Mitigate).unwrap_or(child.state), "subside")
        };
        let after = Stored { masked_since_ms: None, ..moved(&child, state, now) };
        if !store::replace(conn, &child, &after)? {
            return Err(store::raced());
        }
        released.push((after, event));
    }
    for (child, event) in &released {
        tell(conn, child, event, now)?;
    }
    for (child, event) in &released {
        log(conn, child, event, now)?;
    }
    Ok(())
}

/// The rules do not see this any more: an incident that nobody resolved is mitigated, and its story says so. Returns
/// whether anything changed. What it masked is released.
///
/// # Errors
/// [`db::Error`]; the caller's transaction must then be given up.
pub fn subside(conn: &mut Conn, id: i64, now: Now) -> Result<bool, db::Error> {
    store::hold(conn, id)?.map_or(Ok(false), |found| end(conn, &found, now))
}

/// As [`subside`], unless it was seen at or after `before_ms`.
///
/// # Errors
/// [`db::Error`]; the caller's transaction must then be given up.
pub fn subside_unseen(conn: &mut Conn, id: i64, before_ms: i64, now: Now) -> Result<bool, db::Error> {
    let found = store::hold(conn, id)?.filter(|found| found.last_seen_ms < before_ms);
    found.map_or(Ok(false), |found| end(conn, &found, now))
}

/// Incidents of this kind that nobody ended and that were not seen since `before_ms`, the longest unseen first, some
/// hundred; none of the organizations in `passed_over`. For [`subside_unseen`].
///
/// # Errors
/// [`db::Error`].
pub fn unseen(conn: &mut Conn, kind: Kind, before_ms: i64, passed_over: &[String]) -> Result<Vec<i64>, db::Error> {
    store::unseen(conn, kind, before_ms, passed_over)
}

/// Organization and class of the failures of the incidents of this kind that nobody ended, some hundred.
///
/// # Errors
/// [`db::Error`].
pub fn classes(conn: &mut Conn, kind: Kind) -> Result<Vec<(String, String)>, db::Error> {
    store::classes(conn, kind)
}

/// What these incidents are about is seen still, and nothing new of it came: they stay as people left them. Only those of
/// the scope that nobody ended.
///
/// # Errors
/// [`db::Error`]; the caller's transaction must then be given up.
pub fn go_on(conn: &mut Conn, kind: Kind, scope: &Scope, keys: &[String], now: Now) -> Result<(), db::Error> {
    for id in store::under_way(conn, kind, scope, keys, now)? {
        let Some(found) = store::hold(conn, id)?.filter(|found| found.last_seen_ms < now.0) else { continue };
        let after = Stored { last_seen_ms: now.0, ..found.clone() };
        if !store::replace(conn, &found, &after)? {
            return Err(store::raced());
        }
    }
    Ok(())
}

/// An incident that is held is mitigated, where it can be.
fn end(conn: &mut Conn, found: &Stored, now: Now) -> Result<bool, db::Error> {
    let id = found.id;
    let Ok(state) = step(found.state, Event::Mitigate) else { return Ok(false) };
    let after = Stored { masked_since_ms: None, ..moved(found, state, now) };
    if !store::replace(conn, found, &after)? {
        return Err(store::raced());
    }
    if mask::is_masking(found.state) && !mask::is_masking(state) {
        release(conn, id, now)?;
    }
    tell(conn, &after, "subside", now)?;
    log(conn, &after, "subside", now)?;
    Ok(true)
}

/// The incident in `state`, with the time limit that goes with it.
fn moved(before: &Stored, state: State, now: Now) -> Stored {
    let limit_ms = state.time_limit_ms(before.level, 0);
    Stored {
        state,
        state_since_ms: if state == before.state { before.state_since_ms } else { now.0 },
        reminders: 0,
        due_ms: limit_ms.map(|limit_ms| now.0.saturating_add(limit_ms)),
        ..before.clone()
    }
}

/// The timeline; an alert for what goes on.
fn tell(conn: &mut Conn, incident: &Stored, event: &str, now: Now) -> Result<(), db::Error> {
    store::append_event(conn, incident.id, &Who::system(ACTOR), event, "", None, now)?;
    if event == "unfold" {
        let alert = NewAlert {
            org_path: &incident.org_path,
            kind: AlertKind::IncidentOpened,
            level: incident.level,
            incident_id: Some(incident.id),
            incident_kind: Some(incident.kind.as_str()),
            release_id: incident.release_id,
            unanswered: 0,
            title_key: title_key(incident.kind),
            parameters: parameters(&incident.subject),
            dedup_key: format!("incident:{}:released:{}", incident.id, incident.version),
        };
        alerts::raise(conn, &alert, now)?;
    }
    Ok(())
}

/// The audit log's entry, after everything else that all of them write.
fn log(conn: &mut Conn, incident: &Stored, event: &str, now: Now) -> Result<(), db::Error> {
    let deed = Deed {
        action: &format!("incidents.{event}"),
        object_kind: "incident",
        object_id: incident.id.to_string(),
        org_path: &incident.org_path,
        detail: json!({"kind": incident.kind.as_str(), "state": incident.state.as_str(), "subject": incident.subject}),
    };
    audit::append(conn, &Actor::system(ACTOR), &deed, now)
}
