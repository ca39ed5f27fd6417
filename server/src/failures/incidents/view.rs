//! Incidents as REST and the console show them.

use serde::Serialize;

use super::Filter;
use super::actions::Error;
use super::store::{self, Stored};
use crate::alerts::{self, Alert};
use crate::db::{self, Conn};
use crate::operators::Scope;

/// Unacknowledged incidents are counted up to this many: beyond, a number says nothing more.
pub const UNACKNOWLEDGED_SHOWN_MAX: usize = 100;

/// One incident in a list.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Incident {
    /// Its number.
    pub id: i64,
    /// Path of the organization that deals with it.
    pub org_path: String,
    /// Which rule found it: `rollout_halted`, `config_drift`, …
    pub kind: String,
    /// `P1`, `P2` or `P3`.
    pub level: String,
    /// `open`, `acknowledged`, `mitigated` or `resolved`.
    pub state: String,
    /// What it is about, for people.
    pub subject: String,
    /// The rollout it is about.
    pub rollout_id: Option<i64>,
    /// The release it is about.
    pub release_id: Option<i64>,
    /// Terminals concerned.
    pub affected: i64,
    /// Number of the operator who carries it on.
    pub owner_id: Option<i64>,
    /// Login name of that operator.
    pub owner_name: Option<String>,
    /// How often it was seen.
    pub occurrences: i64,
    /// When it was seen first, Unix ms.
    pub opened_at_ms: i64,
    /// When it was seen last, Unix ms.
    pub last_seen_ms: i64,
    /// Since when it is in its state, Unix ms.
    pub state_since_ms: i64,
    /// When it was resolved, Unix ms.
    pub resolved_at_ms: Option<i64>,
    /// When people are reminded of it, Unix ms.
    pub due_ms: Option<i64>,
    /// The incident that explains it, or did.
    pub parent_id: Option<i64>,
    /// Since when it is folded under that one, and nobody is told of it, Unix ms.
    pub masked_since_ms: Option<i64>,
    /// Incidents that are folded under this one.
    pub folded: i64,
}

/// One thing that happened to an incident.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct TimelineEntry {
    /// When, Unix ms.
    pub at_ms: i64,
    /// `operator`, `api_key` or `system`.
    pub actor_kind: String,
    /// Who.
    pub actor_name: String,
    /// `open`, `reopen`, `raise`, `acknowledge`, `mitigate`, `resolve`, `assign`, `note`, `remind`, `fold`, `unfold`,
    /// `subside` or `evidence`.
    pub event: String,
    /// What the person said.
    pub note: String,
    /// Evidence as it was then.
    #[schema(value_type = Option<Object>)]
    pub evidence: Option<serde_json::Value>,
}

/// A terminal that an incident lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct IncidentTerminal {
    /// Its number.
    pub id: i64,
    /// Its serial number.
    pub sn: String,
}

/// One incident with its evidence and story.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct IncidentDetail {
    /// The incident.
    pub incident: Incident,
    /// What was seen, the latest.
    #[schema(value_type = Object)]
    pub evidence: serde_json::Value,
    /// Terminals concerned, the first hundred of those in the caller's organizations.
    pub terminals: Vec<IncidentTerminal>,
    /// What happened, newest first.
    pub timeline: Vec<TimelineEntry>,
    /// Alerts about it, newest first, with their deliveries.
    pub alerts: Vec<Alert>,
}

fn shown(stored: Stored, folded: i64) -> Incident {
    let (owner_id, owner_name) = stored.owner.unzip();
    Incident {
        id: stored.id,
        org_path: stored.org_path,
        kind: stored.kind.as_str().to_owned(),
        level: stored.level.as_str().to_owned(),
        state: stored.state.as_str().to_owned(),
        subject: stored.subject,
        rollout_id: stored.rollout_id,
        release_id: stored.release_id,
        affected: stored.affected,
        owner_id,
        owner_name,
        occurrences: stored.occurrences,
        opened_at_ms: stored.opened_at_ms,
        last_seen_ms: stored.last_seen_ms,
        state_since_ms: stored.state_since_ms,
        resolved_at_ms: stored.resolved_at_ms,
        due_ms: stored.due_ms,
        parent_id: stored.parent_id,
        masked_since_ms: stored.masked_since_ms,
        folded,
    }
}

/// One incident of the scope with all that is known about it.
///
/// # Errors
/// [`Error::NotFound`], also out of the scope; [`Error::Db`].
pub fn get(conn: &mut Conn, scope: &Scope, id: i64) -> Result<IncidentDetail, Error> {
    let stored = store::get(conn, scope, id)?.ok_or(Error::NotFound)?;
    let terminals = store::terminals(conn, scope, id)?;
    let timeline = store::timeline(conn, id)?.into_iter().map(|line| TimelineEntry {
        at_ms: line.at_ms,
        actor_kind: line.who.kind,
        actor_name: line.who.name,
        event: line.event,
        note: line.note,
        evidence: line.evidence,
    });
    let folded = store::masks::count_folded(conn, &[id])?.get(&id).copied().unwrap_or(0);
    Ok(IncidentDetail {
        evidence: stored.evidence.clone(),
        incident: shown(stored, folded),
        terminals: terminals.into_iter().map(|(id, sn)| IncidentTerminal { id, sn }).collect(),
        timeline: timeline.collect(),
        alerts: alerts::of_incident(conn, scope, id)?,
    })
}

/// Incidents of the scope, newest first, with numbers below `before`.
///
/// # Errors
/// [`db::Error`].
pub fn list(
    conn: &mut Conn,
    scope: &Scope,
    filter: &Filter,
    before: Option<i64>,
    size: u32,
) -> Result<Vec<Incident>, db::Error> {
    let rows = store::list(conn, scope, filter, before, i64::from(size))?;
    let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    let folded = store::masks::count_folded(conn, &ids)?;
    Ok(rows
        .into_iter()
        .map(|row| (folded.get(&row.id).copied().unwrap_or(0), row))
        .map(|(n, row)| shown(row, n))
        .collect())
}

/// How many incidents of the scope nobody has taken on yet, counted up to [`UNACKNOWLEDGED_SHOWN_MAX`].
///
/// # Errors
/// [`db::Error`].
pub fn unacknowledged(conn: &mut Conn, scope: &Scope) -> Result<usize, db::Error> {
    store::count_open(conn, scope, i64::try_from(UNACKNOWLEDGED_SHOWN_MAX).unwrap_or(i64::MAX))
}
