//! Rollouts: a release on its way to a set of terminals.
//!
//! People and the planner act on a rollout through one driver: load, [`state::step`], compare and set, audit, in one
//! transaction. Terminals act on their assignments through [`apply_report`]. What is offered is read from these tables by
//! [`director_order`] alone, and it reads nothing from a rollout that does not run.

pub mod assignment;
mod director;
pub mod filter;
pub mod http;
pub mod planner;
mod report;
mod resolve;
pub mod state;
mod store;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tillward_protocol::FieldError;
use tillward_protocol::pan::contains_card_data;

pub use director::{DirectorRow, OrderedTarget, director_order};
pub use report::{Report, apply_report, apply_reports};
pub use resolve::{Excluded, Preview, SampleTerminal};

use crate::audit::{self, Actor, Deed};
use crate::clock::Now;
use crate::db::{self, Conn, Db};
use crate::operators::{Caller, Scope};
use assignment::Phase;
use filter::Filter;
use state::{Event, step};
use store::{Draft, Release, Stored};

/// Longest name or reason, bytes.
pub const TEXT_BYTES_MAX: usize = 200;
/// An offer's time limit when none is given, s (7 d): a terminal that is off for a holiday week still gets its turn.
pub const ASSIGNMENT_TIMEOUT_S: u32 = 7 * 24 * 3600;
/// Shortest and longest time limit of an offer, s.
pub const ASSIGNMENT_TIMEOUTS_S: std::ops::RangeInclusive<u32> = 30..=60 * 24 * 3600;
/// A confirmed count may differ from the resolved one by this many terminals …
pub const CONFIRM_SLACK: u64 = 5;
/// … or by this many per cent, whichever is more: fleets move while a person reads.
pub const CONFIRM_SLACK_PERCENT: u64 = 1;
/// Lines of a terminal's timeline.
pub const TIMELINE_MAX: i64 = 200;
/// Above this many open offers their deferrals are not counted by reason: the page would have to read them all.
const DEFERRALS_COUNTED_MAX: i64 = 50_000;

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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRollout {
    /// Name, for people.
    pub name: String,
    /// The release to roll out.
    pub release_id: i64,
    /// Which terminals.
    #[serde(default)]
    pub filter: Filter,
    /// An offer that a terminal does not finish ends after this, s; 7 days when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignment_timeout_s: Option<u32>,
}

/// One rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Rollout {
    /// Its number.
    pub id: i64,
    /// Organization it belongs to.
    pub organization_id: i64,
    /// Name.
    pub name: String,
    /// The release.
    pub release_id: i64,
    /// The release's name.
    pub release_name: String,
    /// The release's version.
    pub release_version: String,
    /// Which terminals.
    pub filter: Filter,
    /// `draft`, `awaiting_approval`, `running`, `paused`, `halted`, `succeeded` or `cancelled`.
    pub state: String,
    /// Stage, from 0.
    pub stage: i64,
    /// Why it is paused, halted or cancelled; empty otherwise.
    pub why: String,
    /// Since when it is in this state, Unix ms.
    pub state_since_ms: i64,
    /// When this state's time limit passes, Unix ms; absent in final states.
    pub deadline_ms: Option<i64>,
    /// An offer's time limit, s.
    pub assignment_timeout_s: i64,
    /// Whether every terminal that the filter means has its assignment.
    pub is_admitted: bool,
    /// Assignments by phase.
    pub counts: BTreeMap<String, i64>,
    /// Who made it.
    pub created_by: String,
    /// When, Unix ms.
    pub created_at_ms: i64,
    /// When it was started first, Unix ms.
    pub started_at_ms: Option<i64>,
    /// When it ended, Unix ms.
    pub finished_at_ms: Option<i64>,
}

/// One rollout with the reasons of its failures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RolloutDetail {
    /// The rollout.
    #[serde(flatten)]
    pub rollout: Rollout,
    /// Why assignments failed, were rolled back, timed out or are put off, most frequent first.
    pub reasons: Vec<ReasonCount>,
}

/// How often a reason stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReasonCount {
    /// Phase of the assignments.
    pub phase: String,
    /// Reason.
    pub reason: String,
    /// Assignments.
    pub n: i64,
}

/// One terminal's part in a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AssignmentRow {
    /// Its number.
    pub id: i64,
    /// The terminal.
    pub terminal_id: i64,
    /// The terminal's serial number.
    pub sn: String,
    /// Phase.
    pub phase: String,
    /// Why it failed, was rolled back or is put off; the last phase of a timed-out one.
    pub reason: Option<String>,
    /// One sentence from the terminal.
    pub detail: Option<String>,
    /// Stage it belongs to.
    pub stage: i64,
    /// Attempts that failed; what passes by itself burns none.
    pub attempts: i64,
    /// Payload bytes on the terminal.
    pub bytes_done: i64,
    /// Size of the payload, bytes.
    pub bytes_total: i64,
    /// Version it ran when it was admitted.
    pub from_firmware: Option<String>,
    /// Version it runs now.
    pub firmware: Option<String>,
    /// When it was admitted, Unix ms.
    pub created_at_ms: i64,
    /// Since when it is in this phase, Unix ms.
    pub phase_since_ms: i64,
    /// When this phase's time limit passes, Unix ms.
    pub deadline_ms: Option<i64>,
    /// When it ended, Unix ms.
    pub finished_at_ms: Option<i64>,
    /// Last check-in, Unix ms.
    pub last_seen_ms: Option<i64>,
    /// Next expected check-in, Unix ms.
    pub next_check_in_ms: Option<i64>,
}

/// One line of a terminal's update timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TimelineEvent {
    /// When, Unix ms.
    pub at_ms: i64,
    /// Assignment.
    pub assignment: i64,
    /// Rollout.
    pub rollout_id: i64,
    /// The rollout's name.
    pub rollout: String,
    /// The release's version.
    pub release_version: String,
    /// Phase it came to.
    pub phase: String,
    /// Why.
    pub reason: Option<String>,
    /// One sentence from the terminal.
    pub detail: Option<String>,
    /// Version it ran then.
    pub firmware: Option<String>,
}

/// Writes down a draft; it offers nothing until it is started. Returns its number.
///
/// # Errors
/// [`Error::Field`] for impossible values, releases and organizations out of sight; [`Error::ReleaseNotPublished`].
pub fn create(conn: &mut Conn, caller: &Caller, new: NewRollout, actor: &Actor, now: Now) -> Result<i64, Error> {
    let name = checked_text("name", &new.name)?;
    let filter = new.filter.checked().map_err(Error::Field)?;
    let assignment_timeout_s = new.assignment_timeout_s.unwrap_or(ASSIGNMENT_TIMEOUT_S);
    if !ASSIGNMENT_TIMEOUTS_S.contains(&assignment_timeout_s) {
        let (least, most) = (ASSIGNMENT_TIMEOUTS_S.start(), ASSIGNMENT_TIMEOUTS_S.end());
        return Err(field("assignment_timeout_s", format!("must be {least} to {most} s")));
    }
    let release = published(conn, &caller.scope, new.release_id)?;
    // Without this, an organization out of sight would only show as an empty preview.
    resolve::scope(conn, &caller.scope, &filter)?.ok_or_else(|| field("filter.organization_id", "is not known"))?;
    let draft = Draft {
        organization_id: caller.organization_id,
        org_path: caller.scope.from().to_owned(),
        name,
        release_id: release.id,
        filter,
        assignment_timeout_s: i64::from(assignment_timeout_s),
        created_by: caller.id,
        created_by_name: caller.name.clone(),
    };
    let id = store::insert(conn, &draft, now)?;
    let detail = serde_json::json!({"name": draft.name, "release_id": draft.release_id, "filter": draft.filter});
    append(conn, actor, "rollouts.create", id, &draft.org_path, detail, now)?;
    Ok(id)
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
    if contains_card_data(text) {
        return Err(field(name, "looks like card data, which is never accepted"));
    }
    Ok(text.to_owned())
}

/// Rollouts in the scope, newest first, before the number `before`; of one state if given.
///
/// # Errors
/// [`Error::Db`].
pub fn list(
    conn: &mut Conn,
    scope: &Scope,
    state: Option<&str>,
    before: Option<i64>,
    limit: u32,
) -> Result<Vec<Rollout>, Error> {
    let rows = store::list(conn, scope, state, before, i64::from(limit))?;
    shown(conn, rows)
}

/// One rollout with its counts and reasons.
///
/// # Errors
/// [`Error::NotFound`], also out of the scope.
pub fn get(conn: &mut Conn, scope: &Scope, id: i64) -> Result<RolloutDetail, Error> {
    let row = store::get(conn, scope, id)?.ok_or(Error::NotFound)?;
    let rollout = shown(conn, vec![row])?.pop().ok_or(Error::NotFound)?;
    let mut phases = vec![Phase::Failed, Phase::RolledBack, Phase::TimedOut];
    if rollout.counts.get(Phase::Offered.as_str()).is_some_and(|&n| n <= DEFERRALS_COUNTED_MAX) {
        phases.push(Phase::Offered);
    }
    let reasons = store::pages::reasons(conn, id, &phases)?;
    Ok(RolloutDetail { rollout, reasons })
}

fn shown(conn: &mut Conn, rows: Vec<Stored>) -> Result<Vec<Rollout>, Error> {
    let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    let mut counts: BTreeMap<i64, BTreeMap<String, i64>> = BTreeMap::new();
    for (id, phase, n) in store::counts(conn, &ids)? {
        counts.entry(id).or_default().insert(phase.as_str().to_owned(), n);
    }
    let release_ids: Vec<i64> = rows.iter().map(|row| row.release_id).collect();
    let names: BTreeMap<i64, (String, String)> = store::release_names(conn, &release_ids)?
        .into_iter()
        .map(|(id, name, version)| (id, (name, version)))
        .collect();
    Ok(rows
        .into_iter()
        .map(|row| {
            let (release_name, release_version) = names.get(&row.release_id).cloned().unwrap_or_default();
            Rollout {
                state: row.state.as_str().to_owned(),
                why: row.state.why().to_owned(),
                is_admitted: row.admitted_up_to == store::PASSED,
                counts: counts.remove(&row.id).unwrap_or_default(),
                id: row.id,
                organization_id: row.organization_id,
                name: row.name,
                release_id: row.release_id,
                release_name,
                release_version,
                filter: row.filter,
                stage: row.stage,
                state_since_ms: row.state_since_ms,
                deadline_ms: row.deadline_ms,
                assignment_timeout_s: row.assignment_timeout_s,
                created_by: row.created_by_name,
                created_at_ms: row.created_at_ms,
                started_at_ms: row.started_at_ms,
                finished_at_ms: row.finished_at_ms,
            }
        })
        .collect())
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

/// Starts a draft once a person has confirmed how many terminals it is for.
///
/// # Errors
/// [`Error::CountDiffers`] or [`Error::NothingToUpdate`] when the filter means something else now, [`Error::Refused`],
/// [`Error::ReleaseNotPublished`], [`Error::NotFound`].
pub async fn start(db: &Db, scope: Scope, id: i64, confirmed: u64, actor: Actor, now: Now) -> Result<(), Error> {
    // Resolved outside the transaction: it may take seconds, and the slack allows for what changes meanwhile.
    let preview = db
        .read({
            let scope = scope.clone();
            move |conn| {
                let rollout = store::get(conn, &scope, id)?.ok_or(Error::NotFound)?;
                step(&rollout.state, &Event::Start)?;
                resolve::preview(conn, &rollout)
            }
        })
        .await?;
    let resolved = preview.count;
    if confirmed.abs_diff(resolved) > CONFIRM_SLACK.max(resolved * CONFIRM_SLACK_PERCENT / 100) {
        return Err(Error::CountDiffers { confirmed, resolved });
    }
    if resolved == 0 {
        return Err(Error::NothingToUpdate);
    }
    db.write(move |conn| {
        let rollout = store::get(conn, &scope, id)?.ok_or(Error::NotFound)?;
        published(conn, &Scope::subtree(rollout.org_path.clone()), rollout.release_id)?;
        advance(conn, &rollout, &Event::Start, &actor, now)
    })
    .await
}

/// Stops offering until [`resume`]; terminals that already install go on.
///
/// # Errors
/// [`Error::Refused`], [`Error::Field`], [`Error::NotFound`].
pub fn pause(conn: &mut Conn, scope: &Scope, id: i64, why: &str, actor: &Actor, now: Now) -> Result<(), Error> {
    let event = Event::Pause { why: checked_text("why", why)? };
    act(conn, scope, id, &event, actor, now)
}

/// Ends a pause.
///
/// # Errors
/// [`Error::Refused`], [`Error::NotFound`], [`Error::ReleaseNotPublished`].
pub fn resume(conn: &mut Conn, scope: &Scope, id: i64, actor: &Actor, now: Now) -> Result<(), Error> {
    let rollout = store::get(conn, scope, id)?.ok_or(Error::NotFound)?;
    published(conn, &Scope::subtree(rollout.org_path.clone()), rollout.release_id)?;
    advance(conn, &rollout, &Event::Resume, actor, now)
}

/// Ends a rollout; terminals that already install go on.
///
/// # Errors
/// [`Error::Refused`], [`Error::Field`], [`Error::NotFound`].
pub fn cancel(conn: &mut Conn, scope: &Scope, id: i64, why: &str, actor: &Actor, now: Now) -> Result<(), Error> {
    let event = Event::Cancel { why: checked_text("why", why)? };
    act(conn, scope, id, &event, actor, now)
}

fn act(conn: &mut Conn, scope: &Scope, id: i64, event: &Event, actor: &Actor, now: Now) -> Result<(), Error> {
    let rollout = store::get(conn, scope, id)?.ok_or(Error::NotFound)?;
    advance(conn, &rollout, event, actor, now)
}

/// The one driver: step, compare and set, audit, within the caller's transaction.
fn advance(conn: &mut Conn, rollout: &Stored, event: &Event, actor: &Actor, now: Now) -> Result<(), Error> {
    let after = step(&rollout.state, event)?;
    if !store::swap(conn, rollout, &after, now)? {
        return Err(Error::Raced);
    }
    let action = format!("rollouts.{}", event.as_str());
    let detail = serde_json::json!({"from": rollout.state.as_str(), "to": after.as_str(), "why": after.why()});
    append(conn, actor, &action, rollout.id, &rollout.org_path, detail, now)?;
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

/// Assignments of a rollout: in one phase ordered by their number, in all phases by terminal; `after` is the last row's
/// [`AssignmentRow::key`].
///
/// # Errors
/// [`Error::NotFound`], also out of the scope.
pub fn assignments(
    conn: &mut Conn,
    scope: &Scope,
    id: i64,
    phase: Option<Phase>,
    after: Option<i64>,
    limit: u32,
) -> Result<Vec<AssignmentRow>, Error> {
    store::get(conn, scope, id)?.ok_or(Error::NotFound)?;
    Ok(store::pages::assignments_of(conn, scope, id, phase, after.unwrap_or(0), i64::from(limit))?)
}

impl AssignmentRow {
    /// The key by which a list of one phase, or of all, is read on.
    pub fn key(&self, phase: Option<Phase>) -> i64 {
        if phase.is_some() { self.id } else { self.terminal_id }
    }
}

/// A terminal's update timeline, newest first, the last [`TIMELINE_MAX`] lines. The caller has checked the terminal's
/// scope.
///
/// # Errors
/// [`db::Error`].
pub fn timeline(conn: &mut Conn, terminal_id: i64) -> Result<Vec<TimelineEvent>, db::Error> {
    store::pages::timeline(conn, terminal_id, TIMELINE_MAX)
}

/// As [`timeline`], for a terminal within the scope.
///
/// # Errors
/// [`Error::NotFound`], also out of the scope.
pub fn timeline_in(conn: &mut Conn, scope: &Scope, terminal_id: i64) -> Result<Vec<TimelineEvent>, Error> {
    if !store::pages::has_terminal(conn, scope, terminal_id)? {
        return Err(Error::NotFound);
    }
    Ok(timeline(conn, terminal_id)?)
}
