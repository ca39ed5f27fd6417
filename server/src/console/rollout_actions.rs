//! What people do with a rollout: its forms, what each of them is told before, and what is said when it cannot be.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use serde::Deserialize;

use super::conditions;
use super::form::Form;
use super::organizations::Choice;
use super::rollout::{RolloutQuery, page};
use super::rollout_words as words;
use super::shell::{self, Shell};
use super::sign_in::Nothing;
use crate::db::Conn;
use crate::http::State;
use crate::http::auth::Acting;
use crate::http::body::{Path, query_pair};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::problem::Problem;
use crate::operators::{Caller, Permission, Scope};
use crate::releases::{self, ReleaseState};
use crate::rollouts::{self, Error, PartCounts, RolloutDetail};

pub(super) fn endpoints() -> Vec<Endpoint> {
    let write = Access::Page(Permission::RolloutsWrite);
    let approve_ = Access::Page(Permission::RolloutsApprove);
    vec![
        Endpoint::post("/rollouts/{id}/start", write, "", start),
        Endpoint::post("/rollouts/{id}/submit", write, "", submit),
        Endpoint::post("/rollouts/{id}/approve", approve_, "", approve),
        Endpoint::post("/rollouts/{id}/reject", approve_, "", reject),
        Endpoint::post("/rollouts/{id}/pause", write, "", pause),
        Endpoint::post("/rollouts/{id}/resume", write, "", resume),
        Endpoint::post("/rollouts/{id}/cancel", write, "", cancel),
        Endpoint::post("/rollouts/{id}/advance", write, "", advance),
        Endpoint::post("/rollouts/{id}/override", write, "", override_halt),
        Endpoint::post("/rollouts/{id}/stop-scope", write, "", stop_scope),
        Endpoint::post("/rollouts/{id}/retry", write, "", retry),
        Endpoint::post("/rollouts/{id}/undo", write, "", undo),
    ]
}

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
    pub(super) undo: Option<String>,
    pub(super) undo_releases: Vec<Choice>,
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
        let may_undo = may_write && updated > 0 && rollout.release_id.is_some();
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
            undo: may_undo.then(|| shell.count("undo-n", &updated)),
            undo_releases: if may_undo { ways_back(state, caller, rollout.release_id).await? } else { Vec::new() },
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

/// Releases that could bring terminals back: of the same component, with a higher counter.
async fn ways_back(state: &State, caller: &Caller, release_id: Option<i64>) -> Result<Vec<Choice>, Problem> {
    let Some(release_id) = release_id else { return Ok(Vec::new()) };
    let Ok(bad) = releases::get(&state.db, caller.scope.clone(), release_id).await else { return Ok(Vec::new()) };
    let filter = releases::Filter { state: Some(ReleaseState::Published), ..releases::Filter::default() };
    let found = releases::list(&state.db, caller.scope.clone(), filter, None, RELEASES_SEEN).await?;
    let back =
        found.into_iter().filter(|one| one.component == bad.component && one.release_counter > bad.release_counter);
    Ok(back
        .map(|release| Choice {
            value: release.id.to_string(),
            word: format!("{} · {} · {}", release.name, release.firmware_version, release.release_counter),
            is_chosen: false,
        })
        .collect())
}

/// What a form asks for and who sent it.
struct Asked {
    shell: Shell,
    state: web::Data<State>,
    acting: Acting,
    id: i64,
    verb: &'static str,
    why: String,
    part: Option<String>,
}

impl Asked {
    /// On to `location` when it was done; the page with the reason beside the form otherwise.
    async fn answer(self, result: Result<String, Error>) -> Result<HttpResponse, Problem> {
        match result {
            Ok(location) => {
                self.state.planner.wake();
                Ok(shell::see_other(&location))
            }
            Err(error @ (Error::NotFound | Error::Db(_))) => Err(error.into()),
            Err(error) => {
                let text = words::refusal(&self.shell, &error);
                let status = match error {
                    Error::Field(_) => StatusCode::UNPROCESSABLE_ENTITY,
                    _ => StatusCode::CONFLICT,
                };
                self.refuse(status, text).await
            }
        }
    }

    async fn refuse(mut self, status: StatusCode, text: String) -> Result<HttpResponse, Problem> {
        // A form's own address can only be posted to.
        self.shell.address = format!("/rollouts/{}", self.id);
        let refused = Refused { verb: self.verb, status, text, why: self.why };
        let query = RolloutQuery::of_part(self.part);
        page(self.shell, &self.state, self.acting.caller, self.id, query, Some(refused)).await
    }

    /// Something was not typed as it must be.
    async fn refuse_field(self, field: &str) -> Result<HttpResponse, Problem> {
        let text = self.shell.word("rollout-field", field);
        self.refuse(StatusCode::UNPROCESSABLE_ENTITY, text).await
    }

    /// Does `work` in one transaction; `done` is what the page says after it.
    async fn write(
        self,
        done: &str,
        work: impl FnOnce(&mut Conn, &Acting) -> Result<(), Error> + Send + 'static,
    ) -> Result<HttpResponse, Problem> {
        let location = format!("/rollouts/{}?done={done}", self.id);
        let acting = self.acting.clone();
        let result = self.state.db.write(move |conn| work(conn, &acting)).await;
        self.answer(result.map(|()| location)).await
    }

    /// As [`Self::write`], for what makes another draft.
    async fn draft(
        self,
        work: impl FnOnce(&mut Conn, &Acting) -> Result<i64, Error> + Send + 'static,
    ) -> Result<HttpResponse, Problem> {
        let acting = self.acting.clone();
        let result = self.state.db.write(move |conn| work(conn, &acting)).await;
        self.answer(result.map(|id| format!("/rollouts/{id}?done=draft"))).await
    }
}

fn asked(shell: Shell, state: web::Data<State>, acting: Acting, id: i64, verb: &'static str, why: &str) -> Asked {
    Asked { shell, state, acting, id, verb, why: why.to_owned(), part: None }
}

/// The resolved count as a person typed it, with or without separators.
fn typed_count(text: &str) -> Option<u64> {
    let digits: String = text.chars().filter(|c| !matches!(c, ',' | '，' | ' ')).collect();
    digits.parse().ok()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Confirmed {
    #[serde(default)]
    count: String,
    #[serde(default)]
    why: String,
}

async fn start(
    shell: Shell,
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Form(form): Form<Confirmed>,
) -> Result<HttpResponse, Problem> {
    let asked = asked(shell, state, acting, id, "start", &form.why);
    let Some(count) = typed_count(&form.count) else { return asked.refuse_field("count").await };
    let Acting { caller, actor } = asked.acting.clone();
    let (from, now) = (asked.state.config.approval_from_terminals, asked.state.clock.now());
    let result = rollouts::start(&asked.state.db, caller.scope, id, count, from, actor, now).await;
    asked.answer(result.map(|()| format!("/rollouts/{id}?done=started"))).await
}

async fn submit(
    shell: Shell,
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Form(form): Form<Confirmed>,
) -> Result<HttpResponse, Problem> {
    let asked = asked(shell, state, acting, id, "submit", &form.why);
    let Some(count) = typed_count(&form.count) else { return asked.refuse_field("count").await };
    let Acting { caller, actor } = asked.acting.clone();
    let now = asked.state.clock.now();
    let result = rollouts::submit(&asked.state.db, caller, id, count, &form.why, actor, now).await;
    asked.answer(result.map(|()| format!("/rollouts/{id}?done=submitted"))).await
}

async fn approve(
    shell: Shell,
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Form(Nothing {}): Form<Nothing>,
) -> Result<HttpResponse, Problem> {
    let asked = asked(shell, state, acting, id, "approve", "");
    let Acting { caller, actor } = asked.acting.clone();
    let now = asked.state.clock.now();
    let result = rollouts::approve(&asked.state.db, caller, id, actor, now).await;
    asked.answer(result.map(|()| format!("/rollouts/{id}?done=agreed"))).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Why {
    #[serde(default)]
    why: String,
}

async fn reject(
    shell: Shell,
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Form(Why { why }): Form<Why>,
) -> Result<HttpResponse, Problem> {
    let (asked, now) = (asked(shell, state.clone(), acting, id, "reject", &why), state.clock.now());
    asked.write("rejected", move |conn, by| rollouts::reject(conn, &by.caller.scope, id, &why, &by.actor, now)).await
}

async fn pause(
    shell: Shell,
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Form(Why { why }): Form<Why>,
) -> Result<HttpResponse, Problem> {
    let (asked, now) = (asked(shell, state.clone(), acting, id, "pause", &why), state.clock.now());
    asked.write("paused", move |conn, by| rollouts::pause(conn, &by.caller.scope, id, &why, &by.actor, now)).await
}

async fn resume(
    shell: Shell,
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Form(Nothing {}): Form<Nothing>,
) -> Result<HttpResponse, Problem> {
    let (asked, now) = (asked(shell, state.clone(), acting, id, "resume", ""), state.clock.now());
    asked.write("resumed", move |conn, by| rollouts::resume(conn, &by.caller.scope, id, &by.actor, now)).await
}

/// A reason, and for what cannot be taken back the rollout's number typed again.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Typed {
    #[serde(default)]
    why: String,
    #[serde(default)]
    confirm: String,
}

async fn cancel(
    shell: Shell,
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Form(form): Form<Typed>,
) -> Result<HttpResponse, Problem> {
    let (asked, now) = (asked(shell, state.clone(), acting, id, "cancel", &form.why), state.clock.now());
    let scope = asked.acting.caller.scope.clone();
    let rollout = state.db.read(move |conn| rollouts::get(conn, &scope, id)).await?.rollout;
    let is_typed = matches!(rollout.state.as_str(), "running" | "paused" | "halted");
    if is_typed && form.confirm != id.to_string() {
        return asked.refuse_field("confirm").await;
    }
    let why = form.why;
    asked.write("cancelled", move |conn, by| rollouts::cancel(conn, &by.caller.scope, id, &why, &by.actor, now)).await
}

async fn advance(
    shell: Shell,
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Form(Why { why }): Form<Why>,
) -> Result<HttpResponse, Problem> {
    let (asked, now) = (asked(shell, state.clone(), acting, id, "advance", &why), state.clock.now());
    let from = state.config.approval_from_terminals;
    asked
        .write("advanced", move |conn, by| rollouts::advance_stage(conn, &by.caller, id, &why, from, &by.actor, now))
        .await
}

async fn override_halt(
    shell: Shell,
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Form(form): Form<Typed>,
) -> Result<HttpResponse, Problem> {
    let (asked, now) = (asked(shell, state.clone(), acting, id, "override", &form.why), state.clock.now());
    if form.confirm != id.to_string() {
        return asked.refuse_field("confirm").await;
    }
    let (from, why) = (state.config.approval_from_terminals, form.why);
    asked
        .write("overridden", move |conn, by| rollouts::override_halt(conn, &by.caller, id, &why, from, &by.actor, now))
        .await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StopPart {
    attribute: String,
    value: String,
    #[serde(default)]
    why: String,
    /// The part's value, typed again.
    #[serde(default)]
    confirm: String,
}

async fn stop_scope(
    shell: Shell,
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Form(form): Form<StopPart>,
) -> Result<HttpResponse, Problem> {
    let (asked, now) = (asked(shell, state.clone(), acting, id, "stop-part", &form.why), state.clock.now());
    let asked = Asked { part: Some(format!("{}={}", form.attribute, form.value)), ..asked };
    if form.confirm != form.value {
        return asked.refuse_field("confirm").await;
    }
    asked
        .write("part_stopped", move |conn, by| {
            let part = (form.attribute.as_str(), form.value.as_str(), form.why.as_str());
            rollouts::stop_scope(conn, &by.caller, id, part, &by.actor, now)
        })
        .await
}

async fn retry(
    shell: Shell,
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Form(Nothing {}): Form<Nothing>,
) -> Result<HttpResponse, Problem> {
    let (asked, now) = (asked(shell, state.clone(), acting, id, "retry", ""), state.clock.now());
    asked.draft(move |conn, by| rollouts::retry(conn, &by.caller, id, &by.actor, now)).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Back {
    release_id: i64,
}

async fn undo(
    shell: Shell,
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Form(Back { release_id }): Form<Back>,
) -> Result<HttpResponse, Problem> {
    let (asked, now) = (asked(shell, state.clone(), acting, id, "undo", ""), state.clock.now());
    asked.draft(move |conn, by| rollouts::undo(conn, &by.caller, id, release_id, &by.actor, now)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_may_be_typed_as_it_is_shown() {
        let typed = ["12,345", "12，345", "12 345", "0", "all"];
        assert_eq!(typed.map(typed_count), [Some(12_345), Some(12_345), Some(12_345), Some(0), None]);
    }
}
