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
mod view;

use serde::{Deserialize, Serialize};
use tillward_protocol::FieldError;
use tillward_protocol::pan::contains_card_data;

pub use director::{DirectorRow, OrderedTarget, director_order};
pub use report::{Report, apply_report, apply_reports};
pub use resolve::{Excluded, Preview, SampleTerminal};
pub use view::{
    AssignmentRow, ReasonCount, Rollout, RolloutDetail, TIMELINE_MAX, Task, TimelineEvent, UNSUCCESSFUL_MAX,
    assignments, get, list, tasks, timeline, timeline_in, unsuccessful_terminals,
};

use crate::audit::{self, Actor, Deed};
use crate::clock::Now;
use crate::db::{self, Conn, Db};
use crate::operators::{Caller, Scope};
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
