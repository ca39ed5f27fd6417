//! Rollouts as people see them: lists, and one rollout with its counts. Reads only.

mod terminals;

pub use terminals::{
    AssignmentRow, LiveAssignment, PartCounts, TIMELINE_MAX, Task, TimelineEvent, UNSUCCESSFUL_MAX, assignments,
    live_assignment, part_counts, tasks, timeline, timeline_in, unsuccessful_terminals,
};

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::assignment::Phase;
use super::filter::{Attributes, Filter};
use super::state::State;
use super::store::{self, Stored, Subject};
use super::strategy::{Planned, Strategy};
use super::{Error, Evidence, Request};
use crate::db::Conn;
use crate::operators::Scope;
use crate::profiles::LayerKey;

/// One rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Rollout {
    /// Its number.
    pub id: i64,
    /// Organization it belongs to.
    pub organization_id: i64,
    /// Name.
    pub name: String,
    /// The release; absent for a rollout of a profile.
    pub release_id: Option<i64>,
    /// The release's or the profile's name.
    pub release_name: String,
    /// The release's or the profile's version.
    pub release_version: String,
    /// The profile; absent for a rollout of a release.
    pub profile_id: Option<i64>,
    /// The layer on which the profile shall be in force.
    pub layer: Option<LayerKey>,
    /// Which terminals.
    pub filter: Filter,
    /// How.
    pub strategy: Strategy,
    /// How many stages there are, the hold-back included.
    pub stages: u32,
    /// The running stage, from 0.
    pub stage: i64,
    /// Terminals it was started for; absent before.
    pub targeted: Option<i64>,
    /// Terminals that take part by now.
    pub admitted: i64,
    /// Terminals whose stage is open.
    pub opened: i64,
    /// Where two rollouts want the same waiting terminal the higher one gets it.
    pub priority: i64,
    /// Attempts after the first that a terminal gets.
    pub retry_max: i64,
    /// Pause before the first of them, s.
    pub retry_wait_s: i64,
    /// Nothing is offered before this, Unix ms.
    pub starts_at_ms: Option<i64>,
    /// Until when later matches are taken in, Unix ms.
    pub ends_at_ms: Option<i64>,
    /// What waits for a second person.
    pub request: Option<Request>,
    /// The rollout that this one undoes or tries again.
    pub parent_id: Option<i64>,
    /// The gate's last verdict: `pass`, `fail` or `insufficient`; absent before the first.
    pub verdict: Option<String>,
    /// `draft`, `awaiting_approval`, `running`, `paused`, `halted`, `succeeded` or `cancelled`.
    pub state: String,
    /// Why it is paused, halted or cancelled; empty otherwise.
    pub why: String,
    /// Since when it is in this state, Unix ms.
    pub state_since_ms: i64,
    /// When this state's time limit passes, Unix ms; absent in final states.
    pub deadline_ms: Option<i64>,
    /// Until when the running stage is watched, Unix ms; absent before all of it is open.
    pub soak_until_ms: Option<i64>,
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RolloutDetail {
    /// The rollout.
    #[serde(flatten)]
    pub rollout: Rollout,
    /// Why assignments failed, were rolled back, timed out or are put off, most frequent first.
    pub reasons: Vec<ReasonCount>,
    /// Its stages.
    pub stage_views: Vec<StageView>,
    /// The gate's last judgement with its numbers.
    pub evidence: Option<Evidence>,
    /// Parts that were stopped alone.
    pub stops: Vec<StopView>,
    /// Parts that could be stopped alone: the values of each attribute.
    pub parts: BTreeMap<String, Vec<String>>,
}

/// One stage of a rollout.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StageView {
    /// From 0.
    pub stage: u32,
    /// Terminals that are in when it is full, all stages before it included; absent where a tag names them.
    pub up_to: Option<u64>,
    /// The tag that names its terminals.
    pub tag: Option<String>,
    /// Whether it is the hold-back.
    pub is_hold_back: bool,
    /// Terminals that wait in it.
    pub waiting: i64,
    /// Terminals that accepted the order.
    pub started: i64,
    /// Of these, failed.
    pub failed: i64,
    /// Of these, ended.
    pub finished: i64,
}

/// A part of a rollout that was stopped alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StopView {
    /// `model`, `access`, `carrier`, `region` or `hardware`.
    pub attribute: String,
    /// Its value.
    pub value: String,
    /// Why.
    pub why: String,
    /// Who.
    pub by: String,
    /// When, Unix ms.
    pub at_ms: i64,
}

/// An update that an organization was told of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Announced {
    /// Number of the rollout.
    pub rollout_id: i64,
    /// Its name.
    pub name: String,
    /// The release's or profile's name.
    pub release_name: String,
    /// Its version.
    pub release_version: String,
    /// The organization that it was told to.
    pub organization_id: i64,
    /// Not before this, Unix ms.
    pub not_before_ms: i64,
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

/// Which rollouts a list has; the default has all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListFilter {
    /// In one of these states; in any when there is none.
    pub states: Vec<&'static str>,
    /// That bring this.
    pub software: Option<Software>,
}

impl ListFilter {
    /// Rollouts in the state of this name; all when there is no such state.
    pub fn in_state(name: Option<&str>) -> Self {
        let states = State::NAMES.into_iter().filter(|known| Some(*known) == name).collect();
        Self { states, software: None }
    }
}

/// Which part of a terminal's software a version is of, as terminals report it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SoftwarePart {
    /// The payment application.
    App,
    /// Everything else that releases bring.
    Firmware,
}

/// A version as terminals report it, and so as a release brings it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Software {
    /// Of which part.
    pub part: SoftwarePart,
    /// The version.
    pub version: String,
    /// On this model; on any when absent.
    pub model: Option<String>,
}

/// Rollouts in the scope, newest first, before the number `before`.
///
/// # Errors
/// [`Error::Db`].
pub fn list(
    conn: &mut Conn,
    scope: &Scope,
    filter: &ListFilter,
    before: Option<i64>,
    limit: u32,
) -> Result<Vec<Rollout>, Error> {
    let rows = store::list(conn, scope, filter, before, i64::from(limit))?;
    shown(conn, rows)
}

/// One rollout with its counts and reasons.
///
/// # Errors
/// [`Error::NotFound`], also out of the scope.
pub fn get(conn: &mut Conn, scope: &Scope, id: i64) -> Result<RolloutDetail, Error> {
    let row = store::get(conn, scope, id)?.ok_or(Error::NotFound)?;
    let rollout = shown(conn, vec![row])?.pop().ok_or(Error::NotFound)?;
    let phases = [Phase::Failed, Phase::RolledBack, Phase::TimedOut, Phase::Offered];
    let reasons = store::pages::reasons(conn, id, &phases)?;
    let row = store::get(conn, scope, id)?.ok_or(Error::NotFound)?;
    let stage_views = stage_views(conn, &row)?;
    let evidence = store::gate::judgement(conn, id)?.map(Evidence::told);
    let stops = store::gate::stops(conn, id)?;
    let stops = stops
        .into_iter()
        .map(|stop| StopView {
            attribute: stop.attribute,
            value: stop.value,
            why: stop.why,
            by: stop.stopped_by,
            at_ms: stop.stopped_at_ms,
        })
        .collect();
    let mut parts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for cell in store::gate::cells(conn, id)? {
        for name in Attributes::NAMES {
            let values = parts.entry(name.to_owned()).or_default();
            values.extend(cell.attributes.value(name).map(str::to_owned));
        }
    }
    let parts = parts.into_iter().map(|(name, values)| (name, values.into_iter().collect())).collect();
    Ok(RolloutDetail { rollout, reasons, stage_views, evidence, stops, parts })
}

/// Whether there is such a rollout within the scope.
///
/// # Errors
/// [`Error::Db`].
pub fn is_known(conn: &mut Conn, scope: &Scope, id: i64) -> Result<bool, Error> {
    Ok(store::get(conn, scope, id)?.is_some())
}

fn stage_views(conn: &mut Conn, row: &Stored) -> Result<Vec<StageView>, Error> {
    let total = row.progress.admitted.max(row.targeted.unwrap_or(0));
    let total = u64::try_from(total).unwrap_or(0);
    let mut views: Vec<StageView> = (0..row.strategy.stage_count())
        .map(|stage| StageView {
            stage,
            up_to: match row.strategy.plan(stage, total) {
                Planned::UpTo(n) => Some(n),
                Planned::Below(_) => None,
            },
            tag: row.strategy.tags().find(|(at, _)| *at == stage).map(|(_, tag)| tag.to_owned()),
            is_hold_back: row.strategy.is_hold_back(stage),
            ..StageView::default()
        })
        .collect();
    for count in store::gate::counts(conn, row.id)? {
        let view = usize::try_from(count.stage).ok().and_then(|stage| views.get_mut(stage));
        if let Some(view) = view {
            view.waiting += count.waiting;
            view.started += count.started;
            view.failed += count.failed;
            view.finished += count.finished;
        }
    }
    Ok(views)
}

fn shown(conn: &mut Conn, rows: Vec<Stored>) -> Result<Vec<Rollout>, Error> {
    let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    let mut counts: BTreeMap<i64, BTreeMap<String, i64>> = BTreeMap::new();
    for (id, phase, n) in store::counts(conn, &ids)? {
        counts.entry(id).or_default().insert(phase.as_str().to_owned(), n);
    }
    let names = names(conn, &rows)?;
    let mut verdicts = store::gate::verdicts(conn, &ids)?;
    Ok(rows
        .into_iter()
        .zip(names)
        .map(|(row, (release_name, release_version))| {
            let (profile_id, layer) = match &row.subject {
                Subject::Release(_) => (None, None),
                Subject::Profile { id, layer } => (Some(*id), Some(layer.clone())),
            };
            let soak_ms = i64::from(row.strategy.soak_s).saturating_mul(1000);
            let filled_ms = row.progress.stage_filled_ms.filter(|_| row.state.offers());
            let soak_until_ms = filled_ms.map(|filled_ms| filled_ms.saturating_add(soak_ms));
            Rollout {
                state: row.state.as_str().to_owned(),
                why: row.state.why().to_owned(),
                is_admitted: row.progress.admitted_up_to == store::PASSED,
                counts: counts.remove(&row.id).unwrap_or_default(),
                verdict: verdicts.remove(&row.id),
                id: row.id,
                organization_id: row.organization_id,
                name: row.name,
                release_id: row.subject.release_id(),
                release_name,
                release_version,
                profile_id,
                layer,
                stages: row.strategy.stage_count(),
                filter: row.filter,
                strategy: row.strategy,
                stage: row.stage,
                targeted: row.targeted,
                admitted: row.progress.admitted,
                opened: row.progress.opened,
                priority: row.priority,
                retry_max: row.retry_max,
                retry_wait_s: row.retry_wait_s,
                starts_at_ms: row.starts_at_ms,
                ends_at_ms: row.ends_at_ms,
                request: row.request,
                parent_id: row.parent_id,
                state_since_ms: row.state_since_ms,
                deadline_ms: row.deadline_ms,
                soak_until_ms,
                assignment_timeout_s: row.assignment_timeout_s,
                created_by: row.created_by_name,
                created_at_ms: row.created_at_ms,
                started_at_ms: row.started_at_ms,
                finished_at_ms: row.finished_at_ms,
            }
        })
        .collect())
}

/// Name and version of what each of these rollouts brings.
fn names(conn: &mut Conn, rows: &[Stored]) -> Result<Vec<(String, String)>, Error> {
    let release_ids: Vec<i64> = rows.iter().filter_map(|row| row.subject.release_id()).collect();
    let releases: BTreeMap<i64, (String, String)> = store::release_names(conn, &release_ids)?
        .into_iter()
        .map(|(id, name, version)| (id, (name, version)))
        .collect();
    let profile = |subject: &Subject| match subject {
        Subject::Release(_) => None,
        Subject::Profile { id, .. } => Some(*id),
    };
    let profile_ids: Vec<i64> = rows.iter().filter_map(|row| profile(&row.subject)).collect();
    let profiles: BTreeMap<i64, (String, String)> = store::profile_names(conn, &profile_ids)?
        .into_iter()
        .map(|(id, name, version)| (id, (name, format!("v{version}"))))
        .collect();
    let name_of = |row: &Stored| {
        let found = match &row.subject {
            Subject::Release(id) => releases.get(id),
            Subject::Profile { id, .. } => profiles.get(id),
        };
        found.cloned().unwrap_or_default()
    };
    Ok(rows.iter().map(name_of).collect())
}

/// Updates on their way of which the caller's organizations, or those above them, were told a date: also from rollouts
/// of organizations above, which the caller cannot see otherwise.
///
/// # Errors
/// [`Error::Db`].
pub fn announcements(conn: &mut Conn, scope: &Scope) -> Result<Vec<Announced>, Error> {
    let rows = store::announcing(conn)?;
    let names = names(conn, &rows)?;
    let mut found = Vec::new();
    for (row, (release_name, release_version)) in rows.into_iter().zip(names) {
        for (path, not_before_ms, organization_id) in store::announced(conn, &row.strategy.announcements)? {
            if scope.contains(&path) || scope.from().starts_with(&path) {
                found.push(Announced {
                    rollout_id: row.id,
                    name: row.name.clone(),
                    release_name: release_name.clone(),
                    release_version: release_version.clone(),
                    organization_id,
                    not_before_ms,
                });
            }
        }
    }
    found.sort_by_key(|one| (one.not_before_ms, one.rollout_id));
    Ok(found)
}
