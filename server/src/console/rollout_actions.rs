//! What people do with a rollout: its forms, and what is said when something cannot be done.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use serde::Deserialize;

use super::form::Form;
use super::refusals;
use super::rollout::{RolloutQuery, page};
use super::rollout_acts::Refused;
use super::rollout_words as words;
use super::shell::{self, Shell};
use super::sign_in::Nothing;
use crate::clock::Now;
use crate::db::Conn;
use crate::http::State;
use crate::http::auth::Acting;
use crate::http::body::Path;
use crate::http::endpoints::{Access, Endpoint};
use crate::http::problem::Problem;
use crate::operators::Permission;
use crate::releases::{self, Author};
use crate::rollouts::{self, Error};

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
        Endpoint::post("/rollouts/{id}/again", Access::Page(Permission::ReleasesWrite), "", again),
    ]
}

/// What a form asks for and who sent it.
struct Asked {
    shell: Shell,
    state: web::Data<State>,
    by: Acting,
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
        page(self.shell, &self.state, self.by.caller, self.id, query, Some(refused)).await
    }

    /// Something was not typed as it must be.
    async fn refuse_field(self, field: &str) -> Result<HttpResponse, Problem> {
        let text = self.shell.word("rollout-field", field);
        self.refuse(StatusCode::UNPROCESSABLE_ENTITY, text).await
    }

    /// As [`Self::write`], for what is resolved outside of any write.
    async fn did(self, done: &str, result: Result<(), Error>) -> Result<HttpResponse, Problem> {
        let location = format!("/rollouts/{}?done={done}", self.id);
        self.answer(result.map(|()| location)).await
    }

    /// Does `work` in one transaction; `done` is what the page says after it.
    async fn write(
        self,
        done: &str,
        work: impl FnOnce(&mut Conn, &Acting, Now) -> Result<(), Error> + Send + 'static,
    ) -> Result<HttpResponse, Problem> {
        let (by, now) = (self.by.clone(), self.state.clock.now());
        let result = self.state.db.write(move |conn| work(conn, &by, now)).await;
        self.did(done, result).await
    }

    /// As [`Self::write`], for what makes another draft.
    async fn draft(
        self,
        work: impl FnOnce(&mut Conn, &Acting, Now) -> Result<i64, Error> + Send + 'static,
    ) -> Result<HttpResponse, Problem> {
        let (by, now) = (self.by.clone(), self.state.clock.now());
        let result = self.state.db.write(move |conn| work(conn, &by, now)).await;
        self.answer(result.map(|id| format!("/rollouts/{id}?done=draft"))).await
    }
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

/// The rollout that a form is about, and who sent it.
type Sent = (Shell, web::Data<State>, Acting, Path<i64>);

fn asked((shell, state, by, Path(id)): Sent, verb: &'static str, why: &str) -> Asked {
    Asked { shell, state, by, id, verb, why: why.to_owned(), part: None }
}

async fn start(sent: Sent, Form(form): Form<Confirmed>) -> Result<HttpResponse, Problem> {
    let asked = asked(sent, "start", &form.why);
    let Some(count) = typed_count(&form.count) else { return asked.refuse_field("count").await };
    let Acting { caller, actor } = asked.by.clone();
    let (from, now) = (asked.state.config.approval_from_terminals, asked.state.clock.now());
    let result = rollouts::start(&asked.state.db, caller.scope, asked.id, count, from, actor, now).await;
    asked.did("started", result).await
}

async fn submit(sent: Sent, Form(form): Form<Confirmed>) -> Result<HttpResponse, Problem> {
    let asked = asked(sent, "submit", &form.why);
    let Some(count) = typed_count(&form.count) else { return asked.refuse_field("count").await };
    let (Acting { caller, actor }, now) = (asked.by.clone(), asked.state.clock.now());
    let result = rollouts::submit(&asked.state.db, caller, asked.id, count, &form.why, actor, now).await;
    asked.did("submitted", result).await
}

async fn approve(sent: Sent, Form(Nothing {}): Form<Nothing>) -> Result<HttpResponse, Problem> {
    let asked = asked(sent, "approve", "");
    let (Acting { caller, actor }, now) = (asked.by.clone(), asked.state.clock.now());
    let result = rollouts::approve(&asked.state.db, caller, asked.id, actor, now).await;
    asked.did("agreed", result).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Why {
    #[serde(default)]
    why: String,
}

async fn reject(sent: Sent, Form(Why { why }): Form<Why>) -> Result<HttpResponse, Problem> {
    let asked = asked(sent, "reject", &why);
    let id = asked.id;
    asked
        .write("rejected", move |conn, by, now| rollouts::reject(conn, &by.caller.scope, id, &why, &by.actor, now))
        .await
}

async fn pause(sent: Sent, Form(Why { why }): Form<Why>) -> Result<HttpResponse, Problem> {
    let asked = asked(sent, "pause", &why);
    let id = asked.id;
    asked.write("paused", move |conn, by, now| rollouts::pause(conn, &by.caller.scope, id, &why, &by.actor, now)).await
}

async fn resume(sent: Sent, Form(Nothing {}): Form<Nothing>) -> Result<HttpResponse, Problem> {
    let asked = asked(sent, "resume", "");
    let id = asked.id;
    asked.write("resumed", move |conn, by, now| rollouts::resume(conn, &by.caller.scope, id, &by.actor, now)).await
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

async fn cancel(sent: Sent, Form(Typed { why, confirm }): Form<Typed>) -> Result<HttpResponse, Problem> {
    let asked = asked(sent, "cancel", &why);
    let (id, scope) = (asked.id, asked.by.caller.scope.clone());
    let rollout = asked.state.db.read(move |conn| rollouts::get(conn, &scope, id)).await?.rollout;
    let is_typed = matches!(rollout.state.as_str(), "running" | "paused" | "halted");
    if is_typed && confirm != id.to_string() {
        return asked.refuse_field("confirm").await;
    }
    asked
        .write("cancelled", move |conn, by, now| rollouts::cancel(conn, &by.caller.scope, id, &why, &by.actor, now))
        .await
}

async fn advance(sent: Sent, Form(Why { why }): Form<Why>) -> Result<HttpResponse, Problem> {
    let asked = asked(sent, "advance", &why);
    let (id, from) = (asked.id, asked.state.config.approval_from_terminals);
    asked
        .write("advanced", move |conn, by, now| {
            rollouts::advance_stage(conn, &by.caller, id, &why, from, &by.actor, now)
        })
        .await
}

async fn override_halt(sent: Sent, Form(Typed { why, confirm }): Form<Typed>) -> Result<HttpResponse, Problem> {
    let asked = asked(sent, "override", &why);
    let (id, from) = (asked.id, asked.state.config.approval_from_terminals);
    if confirm != id.to_string() {
        return asked.refuse_field("confirm").await;
    }
    asked
        .write("overridden", move |conn, by, now| {
            rollouts::override_halt(conn, &by.caller, id, &why, from, &by.actor, now)
        })
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

async fn stop_scope(sent: Sent, Form(form): Form<StopPart>) -> Result<HttpResponse, Problem> {
    let asked = asked(sent, "stop-part", &form.why);
    let asked = Asked { part: Some(format!("{}={}", form.attribute, form.value)), ..asked };
    if form.confirm != form.value {
        return asked.refuse_field("confirm").await;
    }
    let id = asked.id;
    asked
        .write("part_stopped", move |conn, by, now| {
            let part = (form.attribute.as_str(), form.value.as_str(), form.why.as_str());
            rollouts::stop_scope(conn, &by.caller, id, part, &by.actor, now)
        })
        .await
}

async fn retry(sent: Sent, Form(Nothing {}): Form<Nothing>) -> Result<HttpResponse, Problem> {
    let asked = asked(sent, "retry", "");
    let id = asked.id;
    asked.draft(move |conn, by, now| rollouts::retry(conn, &by.caller, id, &by.actor, now)).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Back {
    release_id: i64,
}

async fn undo(sent: Sent, Form(Back { release_id }): Form<Back>) -> Result<HttpResponse, Problem> {
    let asked = asked(sent, "undo", "");
    let id = asked.id;
    asked.draft(move |conn, by, now| rollouts::undo(conn, &by.caller, id, release_id, &by.actor, now)).await
}

/// Makes a draft of an earlier firmware under the next release counter; the way back goes on from it once it is published.
async fn again(sent: Sent, Form(Back { release_id }): Form<Back>) -> Result<HttpResponse, Problem> {
    let asked = asked(sent, "undo", "");
    let (Acting { caller, actor }, now) = (asked.by.clone(), asked.state.clock.now());
    let (id, scope) = (asked.id, caller.scope.clone());
    if !asked.state.db.read(move |conn| rollouts::is_known(conn, &scope, id)).await? {
        return Err(Problem::not_found());
    }
    let author = Author {
        id: caller.id,
        name: caller.name,
        organization_id: caller.organization_id,
        scope: caller.scope,
        actor,
    };
    match releases::again(&asked.state.db, &asked.state.signing, &author, release_id, now).await {
        Ok(_) => asked.did("again", Ok(())).await,
        Err(error) => {
            let problem = Problem::from(error);
            let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            if status.is_server_error() || status == StatusCode::NOT_FOUND {
                return Err(problem);
            }
            let text = refusals::translated(asked.shell.language, &problem.detail).unwrap_or(problem.detail);
            asked.refuse(status, text).await
        }
    }
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
