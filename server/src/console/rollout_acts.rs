//! What may be done with a rollout, and what each of it would do.

use actix_web::http::StatusCode;

use super::conditions;
use super::organizations::Choice;
use super::shell::Shell;
use crate::db::Conn;
use crate::http::State;
use crate::http::body::query_pair;
use crate::http::problem::Problem;
use crate::operators::{Caller, Permission, Scope};
use crate::releases::{self, Release, ReleaseState};
use crate::rollouts::{self, PartCounts, RolloutDetail};

/// Releases among which the way back is looked for: the newest ones.
const RELEASES_SEEN: u32 = 100;

/// An action that could not be done, with what was typed.
pub(super) struct Refused {
    pub(super) verb: &'static str,
    pub(super) status: StatusCode,
    pub(super) text: String,
    pub(super) why: String,
}

/// A part of the rollout that could be stopped alone.
pub(super) struct PartLink {
    pub(super) href: String,
    pub(super) word: String,
    pub(super) is_stopped: bool,
    pub(super) is_asked: bool,
}

/// The parts of one attribute.
pub(super) struct PartGroup {
    pub(super) name: String,
    pub(super) parts: Vec<PartLink>,
}

/// What stopping the part that was asked about would do.
pub(super) struct PartQuestion {
    pub(super) attribute: String,
    pub(super) value: String,
    counts: PartCounts,
}

impl PartQuestion {
    /// The part that an address names as `attribute=value`; `None` for one that the rollout does not have.
    pub(super) fn of(
        conn: &mut Conn,
        scope: &Scope,
        detail: &RolloutDetail,
        asked: Option<&str>,
    ) -> Result<Option<Self>, Problem> {
        let Some((attribute, value)) = asked.and_then(|asked| asked.split_once('=')) else { return Ok(None) };
        let is_known = detail.parts.get(attribute).is_some_and(|values| values.iter().any(|known| known == value));
        if !is_known {
            return Ok(None);
        }
        let counts = rollouts::part_counts(conn, scope, detail.rollout.id, attribute, value)?;
        Ok(Some(Self { attribute: attribute.to_owned(), value: value.to_owned(), counts }))
    }
}

/// A part that somebody is about to stop.
pub(super) struct PartAsked {
    pub(super) attribute: String,
    pub(super) value: String,
    pub(super) word: String,
    pub(super) cancels: String,
    pub(super) installing: String,
}

/// What the state and the reader's role allow.
pub(super) struct Acts {
    pub(super) revise: bool,
    pub(super) copy: bool,
    pub(super) pause: bool,
    pub(super) resume: bool,
    pub(super) cancel: bool,
    /// Ending it is for good for terminals that wait: it is typed.
    pub(super) cancel_is_typed: bool,
    pub(super) advance: bool,
    pub(super) override_halt: bool,
    pub(super) stop_part: bool,
    pub(super) retry: Option<String>,
    pub(super) undo: Option<Undo>,
    pub(super) parts: Vec<PartGroup>,
    pub(super) part: Option<PartAsked>,
}

impl Acts {
    pub(super) async fn of(
        shell: &Shell,
        state: &State,
        caller: &Caller,
        detail: &RolloutDetail,
        asked: Option<PartQuestion>,
    ) -> Result<Self, Problem> {
        let rollout = &detail.rollout;
        let may_write = shell.may(Permission::RolloutsWrite);
        let is_in = |states: &[&str]| may_write && states.contains(&rollout.state.as_str());
        let n = |phases: &[&str]| phases.iter().filter_map(|phase| rollout.counts.get(*phase)).sum::<i64>();
        let is_free = rollout.request.is_none();
        let (again, updated) = (n(&["failed", "timed_out"]), n(&["succeeded"]));
        let may_undo = may_write && updated > 0;
        let stop_part = is_in(&["running", "paused", "halted"]) && detail.parts.values().any(|of| of.len() > 1);
        Ok(Self {
            revise: is_in(&["draft"]),
            copy: may_write && rollout.state != "draft",
            pause: is_in(&["running"]),
            resume: is_in(&["paused"]),
            cancel: is_in(&["draft", "awaiting_approval", "running", "paused", "halted"]),
            cancel_is_typed: matches!(rollout.state.as_str(), "running" | "paused" | "halted"),
            advance: is_in(&["running"]) && is_free && rollout.stage + 1 < i64::from(rollout.stages),
            override_halt: is_in(&["halted"]) && is_free,
            stop_part,
            retry: (may_write && again > 0).then(|| shell.count("retry-n", &again)),
            undo: match rollout.release_id.filter(|_| may_undo) {
                Some(release_id) => Some(Undo::of(shell, state, caller, release_id, updated).await?),
                None => None,
            },
            parts: if stop_part { parts(shell, detail, asked.as_ref()) } else { Vec::new() },
            part: asked.filter(|_| stop_part).map(|part| PartAsked {
                word: conditions::attribute(shell, &part.attribute, &part.value),
                cancels: shell.count("part-cancels", &part.counts.open),
                installing: shell.count("part-installing", &part.counts.installing),
                attribute: part.attribute,
                value: part.value,
            }),
        })
    }

    /// Whether there is anything beside pausing and ending it.
    pub(super) fn has_more(&self) -> bool {
        self.advance || self.override_halt || self.stop_part || self.retry.is_some() || self.undo.is_some()
    }
}

fn parts(shell: &Shell, detail: &RolloutDetail, asked: Option<&PartQuestion>) -> Vec<PartGroup> {
    let id = detail.rollout.id;
    let group = |(attribute, values): (&String, &Vec<String>)| PartGroup {
        name: shell.word("attribute", attribute),
        parts: values
            .iter()
            .map(|value| PartLink {
                href: format!("/rollouts/{id}?{}#stop-part", query_pair("part", &format!("{attribute}={value}"))),
                word: conditions::attribute(shell, attribute, value),
                is_stopped: detail.stops.iter().any(|stop| stop.attribute == *attribute && stop.value == *value),
                is_asked: asked.is_some_and(|part| part.attribute == *attribute && part.value == *value),
            })
            .collect(),
    };
    detail.parts.iter().filter(|(_, values)| values.len() > 1).map(group).collect()
}

/// The way back for what was updated.
pub(super) struct Undo {
    pub(super) words: String,
    /// Published releases that go forward to it.
    pub(super) ready: Vec<Choice>,
    /// Those that somebody has to approve or publish first.
    pub(super) pending: Vec<String>,
    /// Earlier firmware that can be published again, the newest first.
    pub(super) earlier: Vec<Choice>,
}

impl Undo {
    async fn of(shell: &Shell, state: &State, caller: &Caller, release_id: i64, updated: i64) -> Result<Self, Problem> {
        let words = shell.count("undo-n", &updated);
        let mut undo = Self { words, ready: Vec::new(), pending: Vec::new(), earlier: Vec::new() };
        let Ok(bad) = releases::get(&state.db, caller.scope.clone(), release_id).await else { return Ok(undo) };
        let filter = releases::Filter { component: Some(bad.component), ..releases::Filter::default() };
        let found = releases::list(&state.db, caller.scope.clone(), filter, None, RELEASES_SEEN).await?;
        let fits = |release: &Release| release.models.iter().any(|model| bad.models.contains(model));
        let mut earlier: Vec<Release> = Vec::new();
        for release in found.into_iter().filter(|release| release.id != release_id && fits(release)) {
            let is_later = release.release_counter > bad.release_counter;
            let is_other = release.firmware_version != bad.firmware_version;
            match release.state {
                ReleaseState::Published if is_later => undo.ready.push(choice(&release)),
                ReleaseState::Published if is_other => earlier.push(release),
                ReleaseState::Draft | ReleaseState::Approved if is_later => {
                    let word = shell.word("release-state", release.state.as_str());
                    undo.pending.push(format!("{} · {word}", described(&release)));
                }
                ReleaseState::Published | ReleaseState::Draft | ReleaseState::Approved | ReleaseState::Withdrawn => {}
            }
        }
        if shell.may(Permission::ReleasesWrite) {
            earlier.sort_by_key(|release| std::cmp::Reverse(release.release_counter));
            undo.earlier = earlier.iter().map(choice).collect();
        }
        Ok(undo)
    }
}

fn described(release: &Release) -> String {
    format!("{} · {} · {}", release.name, release.firmware_version, release.release_counter)
}

fn choice(release: &Release) -> Choice {
    Choice { value: release.id.to_string(), word: described(release), is_chosen: false }
}
