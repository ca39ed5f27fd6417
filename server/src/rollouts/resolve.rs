//! From a filter to terminals, a window at a time: the preview and the admission read the same judgement.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::filter::{Candidate, Exclusion, Filter, Obstacles, ReleaseFacts, judge};
use super::store::{self, Stored, candidates};
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
    scope: Scope,
    filter: Filter,
    release_id: i64,
    release: ReleaseFacts,
}

impl Plan {
    /// The plan of a rollout.
    pub(super) fn of(conn: &mut Conn, rollout: &Stored) -> Result<Self, Error> {
        let owner = Scope::subtree(rollout.org_path.clone());
        let scope = scope(conn, &owner, &rollout.filter)?;
        let scope = scope.ok_or_else(|| field("filter.organization_id", "is not known"))?;
        let release = store::release(conn, rollout.release_id)?.ok_or_else(|| field("release_id", "is not known"))?;
        let facts = ReleaseFacts {
            models: release.models,
            component: release.component,
            firmware_version: release.firmware_version,
        };
        Ok(Self { scope, filter: rollout.filter.clone(), release_id: rollout.release_id, release: facts })
    }
}

/// One window's terminals that the filter means, each with its judgement.
pub(super) struct Judged {
    /// Them.
    pub(super) terminals: Vec<(Candidate, Result<(), Exclusion>)>,
    /// Where the next window starts; [`store::PASSED`] after the last.
    pub(super) up_to: i64,
}

/// Judges the next window after the terminal `after`: at most four short reads.
pub(super) fn window(conn: &mut Conn, plan: &Plan, after: i64) -> Result<Judged, db::Error> {
    let window = if plan.filter.terminal_ids.is_empty() {
        candidates::window(conn, &plan.scope, after)?
    } else {
        candidates::window_of_list(conn, &plan.scope, &plan.filter.terminal_ids, after)?
    };
    let ids: Vec<i64> = window.candidates.iter().map(|candidate| candidate.id).collect();
    let tagged = match plan.filter.tags.as_slice() {
        [] => Default::default(),
        tags => candidates::tagged(conn, &ids, tags)?,
    };
    let meant: Vec<Candidate> =
        window.candidates.into_iter().filter(|c| plan.filter.matches(c, tagged.contains(&c.id))).collect();
    let ids: Vec<i64> = meant.iter().map(|candidate| candidate.id).collect();
    let (busy, rolled_back) = match ids.as_slice() {
        [] => Default::default(),
        ids => (candidates::busy(conn, ids)?, candidates::rolled_back(conn, ids, plan.release_id)?),
    };
    let terminals = meant
        .into_iter()
        .map(|candidate| {
            let obstacles = Obstacles {
                is_busy: busy.contains(&candidate.id),
                was_rolled_back: rolled_back.contains(&candidate.id),
            };
            let judged = judge(&candidate, &plan.release, obstacles);
            (candidate, judged)
        })
        .collect();
    Ok(Judged { terminals, up_to: window.up_to })
}

/// Judges every terminal.
pub(super) fn preview(conn: &mut Conn, rollout: &Stored) -> Result<Preview, Error> {
    let plan = Plan::of(conn, rollout)?;
    let mut preview = Preview { count: 0, excluded: Vec::new(), sample: Vec::new() };
    let mut excluded: BTreeMap<Exclusion, u64> = BTreeMap::new();
    let mut after = 0;
    while after < store::PASSED {
        let judged = window(conn, &plan, after)?;
        after = judged.up_to;
        for (candidate, judged) in judged.terminals {
            match judged {
                Ok(()) => {
                    preview.count += 1;
                    if preview.sample.len() < SAMPLE {
                        let Candidate { id, sn, model, firmware, .. } = candidate;
                        preview.sample.push(SampleTerminal { id, sn, model, firmware });
                    }
                }
                Err(reason) => *excluded.entry(reason).or_default() += 1,
            }
        }
    }
    preview.excluded = excluded.into_iter().map(|(reason, count)| Excluded { reason, count }).collect();
    Ok(preview)
}
