//! From a filter to terminals, a window at a time: the preview and the admission read the same judgement.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use super::filter::{Candidate, Exclusion, Facts, Filter, Obstacles, ReleaseFacts, Requirement, judge};
use super::state::State;
use super::store::candidates::Busy;
use super::store::gate::Stop;
use super::store::{self, Stored, Subject, candidates};
use super::strategy::Strategy;
use super::{Error, field};
use crate::db::{self, Conn};
use crate::operators::Scope;

/// Terminals that a preview shows by name.
pub const SAMPLE: usize = 20;

/// What a rollout would do if it were started now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Preview {
    /// Terminals that would be updated; to be confirmed at the start.
    pub count: u64,
    /// SHA-256 over their numbers in the order of the walk: another set has another digest.
    pub digest: String,
    /// Terminals that the filter means and that would not be, by reason.
    pub excluded: Vec<Excluded>,
    /// The first of those that would be.
    pub sample: Vec<SampleTerminal>,
}

/// Terminals left out for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Excluded {
    /// Reason.
    pub reason: Exclusion,
    /// Terminals.
    pub count: u64,
}

/// A terminal that would be updated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SampleTerminal {
    /// Its number.
    pub id: i64,
    /// Serial number.
    pub sn: String,
    /// Model.
    pub model: String,
    /// Firmware it runs.
    pub firmware: Option<String>,
}

/// The terminals that `filter` may mean at all: its organization's, if that is within `scope`.
pub(super) fn scope(conn: &mut Conn, scope: &Scope, filter: &Filter) -> Result<Option<Scope>, db::Error> {
    let Some(id) = filter.organization_id else { return Ok(Some(scope.clone())) };
    let path = store::organization_path(conn, id)?;
    Ok(path.filter(|path| scope.contains(path)).map(Scope::subtree))
}

/// What does not change from window to window.
pub(super) struct Plan {
    rollout_id: i64,
    scope: Scope,
    filter: Filter,
    strategy: Strategy,
    priority: i64,
    release_id: Option<i64>,
    facts: Facts,
    stops: Vec<Stop>,
    /// Whether terminals that are still to be walked may have a part in it already.
    has_members: bool,
}

impl Plan {
    /// The plan of a rollout.
    pub(super) fn of(conn: &mut Conn, rollout: &Stored) -> Result<Self, Error> {
        let owner = Scope::subtree(rollout.org_path.clone());
        let scope = scope(conn, &owner, &rollout.filter)?;
        let scope = scope.ok_or_else(|| field("filter.organization_id", "is not known"))?;
        let facts = match &rollout.subject {
            Subject::Release(id) => {
                let release = store::release(conn, *id)?.ok_or_else(|| field("release_id", "is not known"))?;
                Facts::Release(ReleaseFacts {
                    models: release.models,
                    component: release.component,
                    firmware_version: release.firmware_version,
                    min_from_counter: release.min_from_counter,
                    requires: serde_json::from_str(&release.requires).unwrap_or_default(),
                })
            }
            Subject::Profile { .. } => Facts::Profile,
        };
        Ok(Self {
            rollout_id: rollout.id,
            scope,
            filter: rollout.filter.clone(),
            strategy: rollout.strategy.clone(),
            priority: rollout.priority,
            release_id: rollout.subject.release_id(),
            facts,
            stops: store::gate::stops(conn, rollout.id)?,
            has_members: !matches!(rollout.state, State::Draft | State::AwaitingApproval),
        })
    }

    /// The plan of a rollout that walks all terminals once: none before it has met them.
    pub(super) fn of_first_walk(conn: &mut Conn, rollout: &Stored) -> Result<Self, Error> {
        Ok(Self { has_members: false, ..Self::of(conn, rollout)? })
    }
}

/// A terminal that the filter means, with what was found out about it.
pub(super) struct Found {
    /// The terminal.
    pub(super) candidate: Candidate,
    /// The first stage that names it by tag.
    pub(super) named_by: Option<u32>,
    /// A waiting assignment of a lower priority that is cancelled if this one is made.
    pub(super) supersedes: Option<i64>,
    /// Whether it gets an assignment.
    pub(super) judged: Result<(), Exclusion>,
}

/// One window's terminals that the filter means, each with its judgement.
pub(super) struct Judged {
    /// Them.
    pub(super) terminals: Vec<Found>,
    /// Where the next window starts; [`store::PASSED`] after the last.
    pub(super) up_to: i64,
}

/// Judges the next window after the place `after`: some short reads.
pub(super) fn window(conn: &mut Conn, plan: &Plan, after: i64) -> Result<Judged, db::Error> {
    let filter = &plan.filter;
    let window = match &filter.of_rollout {
        Some(of) => candidates::window_of_rollout(conn, &plan.scope, of, after)?,
        None if !filter.terminal_ids.is_empty() => {
            candidates::window_of_list(conn, &plan.scope, &filter.terminal_ids, after)?
        }
        None => candidates::window(conn, &plan.scope, after)?,
    };
    let ids: Vec<i64> = window.candidates.iter().map(|candidate| candidate.id).collect();
    let named: Vec<(u32, &str)> = plan.strategy.tags().collect();
    let mut tags: Vec<&str> = filter.tags.iter().chain(&filter.exclude_tags).map(String::as_str).collect();
    tags.extend(named.iter().map(|(_, tag)| tag));
    let tags = candidates::tags_of(conn, &ids, &tags)?;
    let has_one_of = |id: i64, names: &[String]| {
        tags.get(&id).is_some_and(|found| names.iter().any(|name| found.contains(name.as_str())))
    };
    let meant: Vec<Candidate> =
        window.candidates.into_iter().filter(|c| filter.matches(c, has_one_of(c.id, &filter.tags))).collect();
    if meant.is_empty() {
        return Ok(Judged { terminals: Vec::new(), up_to: window.up_to });
    }
    let known = Known::of(conn, plan, &meant)?;
    let terminals = meant
        .into_iter()
        .map(|candidate| {
            let stage_of = |&(stage, tag): &(u32, &str)| {
                tags.get(&candidate.id).is_some_and(|found| found.contains(tag)).then_some(stage)
            };
            let named_by = named.iter().find_map(stage_of);
            let is_blocked = filter.blocks(&candidate, has_one_of(candidate.id, &filter.exclude_tags));
            let (obstacles, supersedes) = known.obstacles(plan, &candidate, is_blocked);
            let judged = judge(&candidate, &plan.facts, obstacles);
            Found { candidate, named_by, supersedes, judged }
        })
        .collect();
    Ok(Judged { terminals, up_to: window.up_to })
}

/// What the tables say of one window's terminals.
struct Known {
    members: HashSet<i64>,
    busy: HashMap<i64, Busy>,
    rolled_back: HashSet<i64>,
    /// Release counters by component and version.
    counters: HashMap<(String, String), i64>,
}

impl Known {
    fn of(conn: &mut Conn, plan: &Plan, meant: &[Candidate]) -> Result<Self, db::Error> {
        let ids: Vec<i64> = meant.iter().map(|candidate| candidate.id).collect();
        let rolled_back = match plan.release_id {
            Some(release_id) => candidates::rolled_back(conn, &ids, release_id)?,
            None => HashSet::new(),
        };
        let mut counters = HashMap::new();
        if let Facts::Release(release) = &plan.facts {
            let least = release.min_from_counter.map(|_| release.component.as_str());
            for component in least.into_iter().chain(release.requires.iter().map(|r| r.component.as_str())) {
                let versions: BTreeSet<&str> = meant.iter().filter_map(|c| c.runs(component)).collect();
                let versions: Vec<&str> = versions.into_iter().collect();
                for (version, counter) in candidates::counters(conn, component, &versions)? {
                    counters.insert((component.to_owned(), version), counter);
                }
            }
        }
        let members = match plan.has_members {
            true => candidates::members(conn, plan.rollout_id, &ids)?,
            false => HashSet::new(),
        };
        Ok(Self { members, busy: candidates::busy(conn, &ids)?, rolled_back, counters })
    }

    fn counter(&self, candidate: &Candidate, component: &str) -> Option<i64> {
        let version = candidate.runs(component)?;
        self.counters.get(&(component.to_owned(), version.to_owned())).copied()
    }

    /// What stands in the way of `candidate`, and the waiting assignment that gives way.
    fn obstacles(&self, plan: &Plan, candidate: &Candidate, is_blocked: bool) -> (Obstacles, Option<i64>) {
        let busy = self.busy.get(&candidate.id).filter(|busy| busy.rollout_id != plan.rollout_id);
        let gives_way = busy.filter(|busy| busy.gives_way_to(plan.priority));
        let (runs_counter, lacks_requirement) = match &plan.facts {
            Facts::Release(release) => {
                let lacks = |required: &Requirement| {
                    self.counter(candidate, &required.component).is_some_and(|has| has < required.release_counter)
                };
                (self.counter(candidate, &release.component), release.requires.iter().any(lacks))
            }
            Facts::Profile => (None, false),
        };
        let obstacles = Obstacles {
            is_blocked,
            is_in: self.members.contains(&candidate.id),
            is_stopped: plan.stops.iter().any(|stop| stop.stops(&candidate.attributes)),
            is_busy: busy.is_some() && gives_way.is_none(),
            was_rolled_back: self.rolled_back.contains(&candidate.id),
            runs_counter,
            lacks_requirement,
        };
        (obstacles, gives_way.map(|busy| busy.assignment_id))
    }
}

/// Judges every terminal.
pub(super) fn preview(conn: &mut Conn, rollout: &Stored) -> Result<Preview, Error> {
    let plan = Plan::of(conn, rollout)?;
    let mut preview = Preview { count: 0, digest: String::new(), excluded: Vec::new(), sample: Vec::new() };
    let mut excluded: BTreeMap<Exclusion, u64> = BTreeMap::new();
    let mut digest = sha2::Sha256::new();
    let mut after = 0;
    while after < store::PASSED {
        let judged = window(conn, &plan, after)?;
        after = judged.up_to;
        for Found { candidate, judged, .. } in judged.terminals {
            match judged {
                Ok(()) => {
                    preview.count += 1;
                    digest.update(candidate.id.to_be_bytes());
                    if preview.sample.len() < SAMPLE {
                        let Candidate { id, sn, model, firmware, .. } = candidate;
                        preview.sample.push(SampleTerminal { id, sn, model, firmware });
                    }
                }
                Err(reason) => *excluded.entry(reason).or_default() += 1,
            }
        }
    }
    preview.digest = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    preview.excluded = excluded.into_iter().map(|(reason, count)| Excluded { reason, count }).collect();
    Ok(preview)
}
