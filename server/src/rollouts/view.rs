//! Rollouts as people see them: lists, one rollout with its counts, its terminals, a terminal's timeline. Reads only.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::assignment::Phase;
use super::filter::{Attributes, Filter};
use super::store::{self, Stored, Subject};
use super::strategy::{Planned, Strategy, Wait};
use super::{Error, Evidence, Request};
use crate::clock::Now;
use crate::db::{self, Conn};
use crate::operators::Scope;
use crate::profiles::LayerKey;

/// Lines of a terminal's timeline.
pub const TIMELINE_MAX: i64 = 200;
/// Rollouts whose failures are still somebody's work.
const RECENT_ROLLOUTS_MAX: i64 = 50;
/// Terminals with a failed update that are named: more are not worked through by hand.
pub const UNSUCCESSFUL_MAX: usize = 1_000;

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
    /// Stage it belongs to, -1 while that is not open.
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
    /// While it waits: when it may be offered at the earliest, Unix ms.
    pub ready_ms: Option<i64>,
    /// While it waits: what holds it.
    pub wait: Option<Wait>,
    /// When the terminal first accepted the order, Unix ms.
    pub started_at_ms: Option<i64>,
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
    let phases = [Phase::Failed, Phase::RolledBack, Phase::TimedOut, Phase::Offered];
    let reasons = store::pages::reasons(conn, id, &phases)?;
    let row = store::get(conn, scope, id)?.ok_or(Error::NotFound)?;
    let stage_views = stage_views(conn, &row)?;
    let evidence = store::gate::judgement(conn, id)?;
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
    now: Now,
) -> Result<Vec<AssignmentRow>, Error> {
    let rollout = store::get(conn, scope, id)?.ok_or(Error::NotFound)?;
    let mut rows = store::pages::assignments_of(conn, scope, id, phase, after.unwrap_or(0), i64::from(limit))?;
    for row in rows.iter_mut().filter(|row| row.phase == Phase::Waiting.as_str()) {
        row.wait = Some(why_waiting(&rollout, row, now));
    }
    Ok(rows)
}

/// What holds a waiting terminal, the most general reason first.
fn why_waiting(rollout: &Stored, row: &AssignmentRow, now: Now) -> Wait {
    let last = i64::from(rollout.strategy.stage_count()) - 1;
    let is_held_back = rollout.strategy.hold_back_percent > 0 && rollout.stage + 1 == last;
    if !rollout.state.offers() {
        Wait::Stopped
    } else if rollout.starts_at_ms.is_some_and(|starts| starts > now.0) {
        Wait::Scheduled
    } else {
        match row.ready_ms {
            None if is_held_back => Wait::HoldBack,
            None => Wait::Stage,
            Some(ready_ms) if ready_ms > now.0 => row.wait.unwrap_or(Wait::Turn),
            Some(_) if rollout.strategy.in_flight_max.is_some() => Wait::Capacity,
            Some(_) => Wait::Turn,
        }
    }
}

impl AssignmentRow {
    /// The key by which a list of one phase, or of all, is read on.
    pub fn key(&self, phase: Option<Phase>) -> i64 {
        if phase.is_some() { self.id } else { self.terminal_id }
    }
}

/// The update that a terminal is in the middle of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveAssignment {
    /// The rollout.
    pub rollout: Rollout,
    /// The terminal's part in it.
    pub row: AssignmentRow,
}

/// The update that a terminal within the scope is in the middle of, also one of an organization above: by the unique
/// index on live assignments.
///
/// # Errors
/// [`Error::Db`].
pub fn live_assignment(
    conn: &mut Conn,
    scope: &Scope,
    terminal_id: i64,
    now: Now,
) -> Result<Option<LiveAssignment>, Error> {
    let Some(rollout_id) = store::pages::live_rollout(conn, terminal_id)? else { return Ok(None) };
    let Some(stored) = store::get_any(conn, rollout_id)? else { return Ok(None) };
    let rows = store::pages::assignments_of(conn, scope, rollout_id, None, terminal_id.saturating_sub(1), 1)?;
    let Some(mut row) = rows.into_iter().find(|row| row.terminal_id == terminal_id) else { return Ok(None) };
    if row.phase == Phase::Waiting.as_str() {
        row.wait = Some(why_waiting(&stored, &row, now));
    }
    let rollout = shown(conn, vec![stored])?.pop();
    Ok(rollout.map(|rollout| LiveAssignment { rollout, row }))
}

/// What stopping a part of a rollout alone would do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PartCounts {
    /// Assignments that it would cancel: not offered yet, offered, or downloading.
    pub open: i64,
    /// Terminals that are past that and go on: installing, rebooting or on trial.
    pub installing: i64,
}

/// What stopping this part alone would do now, from counters by cell.
///
/// # Errors
/// [`Error::NotFound`], also out of the scope.
pub fn part_counts(conn: &mut Conn, scope: &Scope, id: i64, attribute: &str, value: &str) -> Result<PartCounts, Error> {
    let rollout = store::get(conn, scope, id)?.ok_or(Error::NotFound)?;
    let cells: BTreeSet<i64> = store::gate::cells(conn, rollout.id)?
        .into_iter()
        .filter(|cell| cell.attributes.value(attribute) == Some(value))
        .map(|cell| cell.cell)
        .collect();
    let mut counts = PartCounts::default();
    for count in store::gate::counts(conn, rollout.id)?.iter().filter(|count| cells.contains(&count.cell)) {
        counts.open += count.waiting;
    }
    let under_way = [Phase::Offered, Phase::Downloading, Phase::Installing, Phase::Rebooting, Phase::Trial];
    for (phase, cell, n) in store::pages::count_by_cell(conn, rollout.id, &under_way)? {
        match Phase::parse(&phase) {
            Some(Phase::Offered | Phase::Downloading) if cells.contains(&cell) => counts.open += n,
            Some(_) if cells.contains(&cell) => counts.installing += n,
            _ => {}
        }
    }
    Ok(counts)
}

/// The last update that a terminal was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Rollout.
    pub rollout_id: i64,
    /// Version ordered.
    pub release_version: String,
    /// Phase it came to.
    pub phase: String,
    /// Why.
    pub reason: Option<String>,
    /// Whether it is still under way.
    pub is_live: bool,
}

/// The last update of each of `terminal_ids`, for one page of a list; two queries. The caller has checked the
/// terminals' scope.
///
/// # Errors
/// [`db::Error`].
pub fn tasks(conn: &mut Conn, terminal_ids: &[i64]) -> Result<BTreeMap<i64, Task>, db::Error> {
    store::pages::tasks(conn, terminal_ids)
}

/// Terminals within the scope whose last update ended badly, in the newest [`RECENT_ROLLOUTS_MAX`] rollouts; at most
/// [`UNSUCCESSFUL_MAX`].
///
/// # Errors
/// [`db::Error`].
pub fn unsuccessful_terminals(conn: &mut Conn, scope: &Scope) -> Result<Vec<i64>, db::Error> {
    store::pages::unsuccessful_terminals(conn, scope, RECENT_ROLLOUTS_MAX, UNSUCCESSFUL_MAX)
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
