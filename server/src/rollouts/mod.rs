//! Rollouts: a release or a profile on its way to a set of terminals.
//!
//! People and the planner act on a rollout through one driver: load, [`state::step`], compare and set, audit, in one
//! transaction. Terminals act on their assignments through [`apply_report`]. What is offered is read from these tables by
//! [`releases::desired`](crate::releases::desired) alone, and it reads nothing from a rollout that does not run.

mod actions;
mod approval;
pub mod assignment;
mod failures;
pub mod filter;
pub mod gate;
pub mod http;
mod judging;
pub mod planner;
mod report;
mod resolve;
pub mod state;
mod store;
pub mod strategy;
mod view;

use serde::{Deserialize, Serialize};
use tillward_protocol::FieldError;

pub use actions::{advance_stage, cancel, override_halt, pause, resume, retry, revise, stop_scope, undo};
pub use approval::{Kind as RequestKind, Request, approve, reject, start, submit};
pub use failures::{TerminalFailure, note_failures};
pub use judging::{ClassEvidence, Evidence, Forgiven, ForgivenCell, ScopeEvidence};
pub use report::{Report, apply_report, apply_reports};
pub use resolve::{Excluded, Preview, SampleTerminal};
pub use view::{
    Announced, AssignmentRow, ListFilter, LiveAssignment, PartCounts, ReasonCount, Rollout, RolloutDetail, Software,
    SoftwarePart, StageView, StopView, TIMELINE_MAX, Task, TimelineEvent, UNSUCCESSFUL_MAX, announcements, assignments,
    get, is_known, list, live_assignment, part_counts, tasks, timeline, timeline_in, unsuccessful_terminals,
};

use crate::audit::{self, Actor, Deed};
use crate::clock::Now;
use crate::db::{self, Conn};
use crate::failures::incidents::{self, Level, NewIncident};
use crate::operators::{Caller, Scope};
use crate::profiles::{self, LayerKey};
use filter::Filter;
use state::{Event, step};
use store::gate::Stop;
use store::{Draft, Release, Stored, Subject};
use strategy::Strategy;

/// Longest name or reason, bytes.
pub const TEXT_BYTES_MAX: usize = 200;
/// An offer's time limit when none is given, s (7 d): a terminal that is off for a holiday week still gets its turn.
pub const ASSIGNMENT_TIMEOUT_S: u32 = 7 * 24 * 3600;
/// Shortest and longest time limit of an offer, s.
pub const ASSIGNMENT_TIMEOUTS_S: std::ops::RangeInclusive<u32> = 30..=60 * 24 * 3600;
/// Pause before the first further attempt when none is given, s.
pub const RETRY_WAIT_S: u32 = 600;
/// Highest priority; 0 is the lowest and the usual one.
pub const PRIORITY_MAX: u32 = 100;
/// Latest start and end that may be planned, ms from now (a year).
pub const PLANNED_MS_MAX: i64 = 365 * 24 * 3_600_000;
/// A confirmed count may differ from the resolved one by this many terminals …
pub const CONFIRM_SLACK: u64 = 5;
/// … or by this many per cent, whichever is more: fleets move while a person reads.
pub const CONFIRM_SLACK_PERCENT: u64 = 1;
/// How the reasons begin that the gate gives.
pub const BY_GATE: &str = "the gate: ";
/// The gate's reason when it cannot judge any more.
pub const UNREADABLE: &str = "its evidence cannot be read, and its journal does not reach back to its beginning";
/// Why a rollout was halted whose release was taken back.
pub const WHY_UNPUBLISHED: &str = "the release is not published any more";

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such rollout, or the caller may not know.
    #[error("there is no such rollout")]
    NotFound,
    /// A field has an impossible value.
    #[error("{0}")]
    Field(FieldError),
    /// The state does not allow it.
    #[error(transparent)]
    Refused(#[from] state::Refusal),
    /// The release is not published (any more).
    #[error("the release is {0}; only a published release can be rolled out")]
    ReleaseNotPublished(String),
    /// The preview has no terminal.
    #[error("the filter means no terminal that could be updated; see the preview for why each is left out")]
    NothingToUpdate,
    /// The confirmed count is not what the filter means now.
    #[error("{confirmed} terminals were confirmed, the filter means {resolved} now; look at the preview again")]
    CountDiffers {
        /// What the person typed.
        confirmed: u64,
        /// What the filter means.
        resolved: u64,
    },
    /// So many terminals need a second person.
    #[error("{count} terminals would be updated; from {from} on somebody else has to approve it: submit it instead")]
    NeedsApproval {
        /// Terminals.
        count: u64,
        /// From how many on.
        from: u64,
    },
    /// Nobody approves what they asked for themselves.
    #[error("nobody approves their own request; ask somebody else with the right to approve rollouts")]
    OwnRequest,
    /// Nothing waits for approval.
    #[error("nothing waits for approval here")]
    NothingRequested,
    /// The terminals are not those that were to be approved.
    #[error(
        "the request was for {then} terminals, the filter means {now} now or other ones; it went back to its maker, who \
         has to look at the preview and submit it again"
    )]
    SetChanged {
        /// Then.
        then: i64,
        /// Now.
        now: u64,
    },
    /// There is no stage after this one.
    #[error("the last stage is open already")]
    LastStage,
    /// Nothing to try again or to take back.
    #[error("no terminal of this rollout ended so")]
    NoSuchTerminals,
    /// The profiles refused.
    #[error(transparent)]
    Profile(#[from] profiles::Error),
    /// Somebody changed it at the same moment.
    #[error("somebody changed the rollout at the same moment; look at it again")]
    Raced,
    /// The database failed.
    #[error("the rollouts could not be read or written")]
    Db(#[from] db::Error),
}

fn field(name: &str, problem: impl Into<String>) -> Error {
    Error::Field(FieldError::new(name, problem))
}

/// What a new rollout is made from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRollout {
    /// Name, for people.
    pub name: String,
    /// The release to roll out; or a profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release_id: Option<i64>,
    /// The version of a profile to roll out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile_id: Option<i64>,
    /// The layer on which the profile shall be in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<LayerKey>,
    /// Which terminals.
    #[serde(default)]
    pub filter: Filter,
    /// How: stages, windows, limits, gate. Absent: everybody at once.
    #[serde(default)]
    pub strategy: Strategy,
    /// An offer that a terminal does not finish ends after this, s; 7 days when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignment_timeout_s: Option<u32>,
    /// Attempts after the first that a terminal gets, 0–5; none when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_max: Option<u32>,
    /// Pause before the first of them, s, doubled with each; 600 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_wait_s: Option<u32>,
    /// Where two rollouts want the same waiting terminal the higher one gets it, 0–100; 0 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// Nothing is offered before this, Unix ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts_at_ms: Option<i64>,
    /// Until when later matches are taken in, Unix ms; for dynamic rollouts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at_ms: Option<i64>,
}

/// Writes down a draft; it offers nothing until it is started. Returns its number.
///
/// # Errors
/// [`Error::Field`] for impossible values, releases, profiles and organizations out of sight;
/// [`Error::ReleaseNotPublished`].
pub fn create(conn: &mut Conn, caller: &Caller, new: NewRollout, actor: &Actor, now: Now) -> Result<i64, Error> {
    create_child(conn, caller, new, None, actor, now)
}

/// As [`create`], for one that tries again or undoes `parent_id`.
fn create_child(
    conn: &mut Conn,
    caller: &Caller,
    new: NewRollout,
    parent_id: Option<i64>,
    actor: &Actor,
    now: Now,
) -> Result<i64, Error> {
    let name = checked_text("name", &new.name)?;
    let filter = new.filter.checked().map_err(Error::Field)?;
    let strategy = new.strategy.checked().map_err(Error::Field)?;
    let assignment_timeout_s = new.assignment_timeout_s.unwrap_or(ASSIGNMENT_TIMEOUT_S);
    if !ASSIGNMENT_TIMEOUTS_S.contains(&assignment_timeout_s) {
        let (least, most) = (ASSIGNMENT_TIMEOUTS_S.start(), ASSIGNMENT_TIMEOUTS_S.end());
        return Err(field("assignment_timeout_s", format!("must be {least} to {most} s")));
    }
    for (name, value, most) in [
        ("retry_max", new.retry_max, strategy::RETRIES_MAX),
        ("retry_wait_s", new.retry_wait_s, strategy::RETRY_WAIT_S_MAX),
        ("priority", new.priority, PRIORITY_MAX),
    ] {
        if value.is_some_and(|value| value > most) {
            return Err(field(name, format!("at most {most}")));
        }
    }
    check_dates(&new.starts_at_ms, &new.ends_at_ms, &strategy, now)?;
    check_sight(conn, caller, &filter, &strategy)?;
    let subject = match (new.release_id, new.profile_id, new.layer) {
        (Some(id), None, None) => Subject::Release(published(conn, &caller.scope, id)?.id),
        (None, Some(id), Some(layer)) => {
            profiles::check_layer(conn, &caller.scope, &layer, id)?;
            Subject::Profile { id, layer }
        }
        _ => return Err(field("release_id", "name a release, or a profile with its layer")),
    };
    let draft = Draft {
        organization_id: caller.organization_id,
        org_path: caller.scope.from().to_owned(),
        name,
        subject,
        filter,
        strategy,
        assignment_timeout_s: i64::from(assignment_timeout_s),
        retry_max: i64::from(new.retry_max.unwrap_or(0)),
        retry_wait_s: i64::from(new.retry_wait_s.unwrap_or(RETRY_WAIT_S)),
        priority: i64::from(new.priority.unwrap_or(0)),
        starts_at_ms: new.starts_at_ms,
        ends_at_ms: new.ends_at_ms,
        parent_id,
        created_by: caller.id,
        created_by_name: caller.name.clone(),
    };
    let id = store::insert(conn, &draft, now)?;
    let detail = serde_json::json!({
        "name": draft.name,
        "release_id": new.release_id,
        "profile_id": new.profile_id,
        "filter": draft.filter,
        "strategy": draft.strategy,
        "parent_id": parent_id,
    });
    append(conn, actor, "rollouts.create", id, &draft.org_path, detail, now)?;
    Ok(id)
}

fn check_dates(starts: &Option<i64>, ends: &Option<i64>, strategy: &Strategy, now: Now) -> Result<(), Error> {
    let latest = now.0.saturating_add(PLANNED_MS_MAX);
    for (name, at_ms) in [("starts_at_ms", starts), ("ends_at_ms", ends)] {
        if at_ms.is_some_and(|at_ms| at_ms < now.0 || at_ms > latest) {
            return Err(field(name, "must be within the next year"));
        }
    }
    if strategy.is_dynamic && ends.is_none() {
        return Err(field("ends_at_ms", "a dynamic rollout needs an end"));
    }
    if !strategy.is_dynamic && ends.is_some() {
        return Err(field("ends_at_ms", "only a dynamic rollout has an end"));
    }
    if starts.zip(*ends).is_some_and(|(starts, ends)| ends <= starts) {
        return Err(field("ends_at_ms", "must be after the start"));
    }
    Ok(())
}

/// Everything that a rollout names must be the caller's: out of sight it would only show as an empty preview.
fn check_sight(conn: &mut Conn, caller: &Caller, filter: &Filter, strategy: &Strategy) -> Result<(), Error> {
    resolve::scope(conn, &caller.scope, filter)?.ok_or_else(|| field("filter.organization_id", "is not known"))?;
    if let Some(of) = &filter.of_rollout {
        store::get(conn, &caller.scope, of.rollout_id)?
            .ok_or_else(|| field("filter.of_rollout.rollout_id", "is not known"))?;
    }
    for (at, announcement) in strategy.announcements.iter().enumerate() {
        let path = store::organization_path(conn, announcement.organization_id)?;
        path.filter(|path| caller.scope.contains(path))
            .ok_or_else(|| field(&format!("strategy.announcements[{at}].organization_id"), "is not known"))?;
    }
    Ok(())
}

/// The release, if it is visible from `scope` and published.
fn published(conn: &mut Conn, scope: &Scope, release_id: i64) -> Result<Release, Error> {
    let release = store::release(conn, release_id)?.filter(|release| is_visible(scope, &release.org_path));
    let release = release.ok_or_else(|| field("release_id", "is not known"))?;
    if release.state != "published" {
        return Err(Error::ReleaseNotPublished(release.state));
    }
    Ok(release)
}

/// Releases of one's own organizations and of those above may be used.
fn is_visible(scope: &Scope, org_path: &str) -> bool {
    scope.contains(org_path) || scope.from().starts_with(org_path)
}

/// A text that a person typed, without blanks around it and without card data.
fn checked_text(name: &str, text: &str) -> Result<String, Error> {
    let text = text.trim();
    if text.is_empty() || text.len() > TEXT_BYTES_MAX {
        return Err(field(name, format!("must be 1 to {TEXT_BYTES_MAX} bytes")));
    }
    if text.chars().any(char::is_control) {
        return Err(field(name, "must not contain control characters"));
    }
    crate::text::guarded(name, text).map_err(Error::Field)?;
    Ok(text.to_owned())
}

/// Which terminals a rollout would update now, and which not and why. Walks all terminals in windows: on a fleet of a
/// million this takes seconds, in many short reads.
///
/// # Errors
/// [`Error::NotFound`], also out of the scope.
pub fn preview(conn: &mut Conn, scope: &Scope, id: i64) -> Result<Preview, Error> {
    let rollout = store::get(conn, scope, id)?.ok_or(Error::NotFound)?;
    resolve::preview(conn, &rollout)
}

/// The one driver: step, compare and set, audit, within the caller's transaction.
fn advance(conn: &mut Conn, rollout: &Stored, event: &Event, actor: &Actor, now: Now) -> Result<(), Error> {
    let mut after = step(&rollout.state, event)?;
    if *event == Event::OpenStage {
        let next = planner::next_stage(conn, rollout)?;
        while after.stage().is_some_and(|stage| stage < next) {
            after = step(&after, event)?;
        }
    }
    if !store::swap(conn, rollout, &after, now)? {
        return Err(Error::Raced);
    }
    if *event == Event::Override {
        judging::forgive(conn, rollout, now)?;
    }
    let action = format!("rollouts.{}", event.as_str());
    let detail = serde_json::json!({"from": rollout.state.as_str(), "to": after.as_str(), "why": after.why()});
    append(conn, actor, &action, rollout.id, &rollout.org_path, detail, now)?;
    Ok(())
}

/// What is rolled out must still be published.
fn check_subject(conn: &mut Conn, rollout: &Stored) -> Result<(), Error> {
    match &rollout.subject {
        Subject::Release(id) => published(conn, &Scope::subtree(rollout.org_path.clone()), *id).map(drop),
        Subject::Profile { .. } => Ok(()),
    }
}

/// Stops a part of a rollout alone, within the caller's transaction; the planner cancels what belongs to it.
fn stop_part(conn: &mut Conn, rollout: &Stored, stop: &Stop, actor: &Actor, now: Now) -> Result<(), Error> {
    if !store::gate::stop(conn, rollout.id, stop)? {
        return Ok(());
    }
    let detail = serde_json::json!({"attribute": stop.attribute, "value": stop.value, "why": stop.why});
    Ok(append(conn, actor, "rollouts.stop_scope", rollout.id, &rollout.org_path, detail, now)?)
}

/// Opens an incident with the evidence on which the gate stopped a rollout or a part of it.
fn alarm(conn: &mut Conn, rollout: &Stored, evidence: &Evidence, part: Option<&Stop>, now: Now) -> Result<(), Error> {
    let (kind, level, key) = match part {
        Some(stop) => (
            incidents::Kind::RolloutScopeStopped,
            Level::P2,
            format!("rollout:{}:{}={}", rollout.id, stop.attribute, stop.value),
        ),
        None => (incidents::Kind::RolloutHalted, Level::P1, format!("rollout:{}", rollout.id)),
    };
    let incident = NewIncident {
        kind,
        level,
        org_path: rollout.org_path.clone(),
        key,
        subject: rollout.name.clone(),
        evidence: serde_json::to_value(evidence.clone().told()).unwrap_or_default(),
        rollout_id: Some(rollout.id),
        release_id: rollout.subject.release_id(),
        terminal_ids: Vec::new(),
        affected: evidence.failed,
    };
    incidents::open(conn, incident, now)?;
    Ok(())
}

fn append(
    conn: &mut Conn,
    actor: &Actor,
    action: &str,
    id: i64,
    org_path: &str,
    detail: serde_json::Value,
    now: Now,
) -> Result<(), db::Error> {
    let deed = Deed { action, object_kind: "rollout", object_id: id.to_string(), org_path, detail };
    audit::append(conn, actor, &deed, now)
}
