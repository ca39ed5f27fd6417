//! What happens to incidents with time: people are reminded of those that nobody carries on, and those that were over long
//! ago are deleted. Both passes take no input, are idempotent and never retry.

use super::state::{Event, State, step};
use super::store::{self, Stored, Who};
use super::{ACTOR, parameters, title_key};
use crate::alerts::{self, AlertKind, NewAlert};
use crate::clock::Now;
use crate::db::{self, Conn, Db};

/// Raises an alert for each incident whose time limit passed, and returns for how many. Each is a transaction of its own
/// and reads the incident anew: what a person did meanwhile counts.
///
/// # Errors
/// [`db::Error`]; what was reminded of before stays so.
pub async fn remind(db: &Db, now: Now) -> Result<usize, db::Error> {
    let mut reminded = 0;
    for id in db.read(move |conn| store::due(conn, now)).await? {
        reminded += usize::from(db.write(move |conn| one(conn, id, now)).await?);
    }
    Ok(reminded)
}

/// An incident that is over is kept this long, ms: three years, as the audit log.
pub const INCIDENTS_KEPT_MS: i64 = 3 * 366 * 86_400_000;

/// Deletes incidents that were over long ago, with their stories, in small transactions; returns how many went.
///
/// # Errors
/// [`db::Error`]; what was deleted before stays deleted.
pub async fn sweep(db: &Db, now: Now) -> Result<usize, db::Error> {
    let mut deleted = 0;
    loop {
        let step = db.write(move |conn| store::delete_resolved(conn, now.0 - INCIDENTS_KEPT_MS)).await?;
        if step == 0 {
            return Ok(deleted);
        }
        deleted += step;
    }
}

fn one(conn: &mut Conn, id: i64, now: Now) -> Result<bool, db::Error> {
    let Some(found) = store::hold(conn, id)?.filter(|found| found.due_ms.is_some_and(|due_ms| due_ms <= now.0)) else {
        return Ok(false);
    };
    let Ok(state) = step(found.state, Event::Remind) else { return Ok(false) };
    let reminders = found.reminders.saturating_add(1);
    let limit_ms = state.time_limit_ms(found.level, reminders);
    let due_ms = limit_ms.map(|limit_ms| now.0.saturating_add(limit_ms));
    let after = Stored { state, reminders, due_ms, ..found.clone() };
    if !store::replace(conn, &found, &after)? {
        return Err(store::raced());
    }
    store::append_event(conn, id, &Who::system(ACTOR), Event::Remind.as_str(), "", None, now)?;
    let alert = NewAlert {
        org_path: &found.org_path,
        kind: AlertKind::IncidentOverdue,
        level: found.level,
        incident_id: Some(id),
        incident_kind: Some(found.kind.as_str()),
        release_id: found.release_id,
        // Once somebody has taken it on, the others are left alone.
        unanswered: if state == State::Open { reminders } else { 0 },
        title_key: title_key(found.kind),
        parameters: parameters(&found.subject),
        dedup_key: format!("incident:{id}:remind:{}", found.version),
    };
    alerts::raise(conn, &alert, now)?;
    Ok(true)
}
