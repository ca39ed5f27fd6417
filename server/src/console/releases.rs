//! Packages: uploaded, approved, published, withdrawn.

use actix_web::{HttpMessage, HttpRequest, HttpResponse, web};
use askama::Template;
use serde::Deserialize;
use tillward_protocol::trust::TARGET_BYTES_MAX;

use super::form::Form;
use super::rollout::mebibytes;
use super::rollouts::{Chip, names};
use super::shell::{self, Shell};
use super::sign_in::Nothing;
use super::status::{Status, Tone};
use super::upload::Upload;
use crate::config::Mode;
use crate::http::body::{Path, Query, query_pair};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::page::{Page, PageQuery};
use crate::http::problem::Problem;
use crate::http::{RequestId, State};
use crate::operators::{Caller, Permission};
use crate::releases::{self, Author, Filter, NewRelease, OwnApproval, Release, ReleaseError, ReleaseState};

pub(super) fn endpoints() -> Vec<Endpoint> {
    let page = Access::Page;
    vec![
        Endpoint::get("/releases", page(Permission::ReleasesRead), "", list),
        Endpoint::post("/releases", page(Permission::ReleasesWrite), "", upload),
        Endpoint::post("/releases/{id}/approve", page(Permission::ReleasesApprove), "", approve),
        Endpoint::post("/releases/{id}/publish", page(Permission::ReleasesPublish), "", publish),
        Endpoint::post("/releases/{id}/withdraw", page(Permission::ReleasesPublish), "", withdraw),
    ]
}

/// Digits of a digest that are shown; the whole stands in the title.
const DIGEST_DIGITS: usize = 12;

struct Row {
    id: i64,
    name: String,
    sha256: String,
    digest: String,
    firmware: String,
    component: String,
    counter: i64,
    models: Vec<String>,
    size: String,
    status: Status,
    made_by: String,
    made: String,
    made_at: String,
    verbs: Vec<&'static str>,
    may_roll_out: bool,
}

#[derive(Template)]
#[template(path = "releases.html")]
struct ReleasesPage {
    shell: Shell,
    chips: Vec<Chip>,
    rows: Vec<Row>,
    next: Option<String>,
    may_upload: bool,
}

#[derive(Debug, Default, Deserialize)]
struct ReleaseQuery {
    #[serde(default)]
    state: Option<String>,
    #[serde(default)]
    after: Option<String>,
}

async fn list(
    shell: Shell,
    state: web::Data<State>,
    caller: Caller,
    Query(query): Query<ReleaseQuery>,
) -> Result<HttpResponse, Problem> {
    let page = PageQuery { after: query.after, size: None };
    let (size, before) = (page.size()?, page.after::<i64>()?);
    let chosen = query.state.as_deref().and_then(ReleaseState::parse);
    let filter = Filter { state: chosen, ..Filter::default() };
    let found = releases::list(&state.db, caller.scope, filter, before, size + 1).await?;
    let page = Page::from_rows(found, size, |release| release.id);
    let all = Chip { href: "/releases".to_owned(), word: shell.say("filter-any"), is_current: chosen.is_none() };
    let narrowed = ReleaseState::ALL.into_iter().map(|state| Chip {
        href: format!("/releases?{}", query_pair("state", state.as_str())),
        word: shell.word("release-state", state.as_str()),
        is_current: chosen == Some(state),
    });
    let next = page.next.map(|cursor| {
        let state = chosen.map(|state| format!("{}&", query_pair("state", state.as_str()))).unwrap_or_default();
        format!("/releases?{state}{}", query_pair("after", &cursor))
    });
    shell::ok(&ReleasesPage {
        chips: [all].into_iter().chain(narrowed).collect(),
        rows: page.items.into_iter().map(|release| row(&shell, release)).collect(),
        next,
        may_upload: shell.may(Permission::ReleasesWrite),
        shell,
    })
}

fn row(shell: &Shell, release: Release) -> Row {
    let verb = |verb, permission| shell.may(permission).then_some(verb);
    let verbs = match release.state {
        ReleaseState::Draft => {
            vec![verb("approve", Permission::ReleasesApprove), verb("withdraw", Permission::ReleasesPublish)]
        }
        ReleaseState::Approved => {
            vec![verb("publish", Permission::ReleasesPublish), verb("withdraw", Permission::ReleasesPublish)]
        }
        ReleaseState::Published => vec![verb("withdraw", Permission::ReleasesPublish)],
        ReleaseState::Withdrawn => Vec::new(),
    };
    let state = release.state.as_str();
    Row {
        id: release.id,
        digest: release.sha256.chars().take(DIGEST_DIGITS).collect(),
        size: mebibytes(release.length_bytes),
        status: Status { tone: Tone::of_release(state), word: shell.word("release-state", state) },
        made: shell.moments.ago(release.created_at_ms),
        made_at: shell.moments.absolute(release.created_at_ms),
        verbs: verbs.into_iter().flatten().collect(),
        may_roll_out: release.state == ReleaseState::Published && shell.may(Permission::RolloutsWrite),
        name: release.name,
        sha256: release.sha256,
        firmware: release.firmware_version,
        component: release.component,
        counter: release.release_counter,
        models: release.models,
        made_by: release.created_by_name,
    }
}

async fn upload(
    request: HttpRequest,
    state: web::Data<State>,
    caller: Caller,
    mut form: Upload,
) -> Result<HttpResponse, Problem> {
    // Everything that can be wrong about the small fields is said before a large file is read.
    let counter = form.number("release_counter")?;
    let new = NewRelease {
        name: form.text("name"),
        notes: form.text("notes"),
        component: form.text("component"),
        firmware_version: form.text("firmware_version"),
        release_counter: counter.ok_or_else(|| Problem::invalid("release_counter", "is missing"))?,
        models: names(&form.text("models")),
        min_from_counter: form.number("min_from_counter")?,
        requires: Vec::new(),
        sha256: "0".repeat(64),
    };
    new.clone().check()?;
    let stored = state.signing.blobs.put_stream(&mut form.file, TARGET_BYTES_MAX).await.map_err(ReleaseError::from)?;
    let new = NewRelease { sha256: stored.sha256.to_string(), ..new };
    releases::create(&state.db, &state.signing, &author(&request, &caller), new, state.clock.now()).await?;
    Ok(back("uploaded"))
}

async fn approve(
    request: HttpRequest,
    state: web::Data<State>,
    caller: Caller,
    Path(id): Path<i64>,
    Form(Nothing {}): Form<Nothing>,
) -> Result<HttpResponse, Problem> {
    let own = match state.config.mode {
        Mode::Quickstart => OwnApproval::Allowed,
        Mode::Production => OwnApproval::Refused,
    };
    releases::approve(&state.db, &author(&request, &caller), id, own, state.clock.now()).await?;
    Ok(back("approved"))
}

async fn publish(
    request: HttpRequest,
    state: web::Data<State>,
    caller: Caller,
    Path(id): Path<i64>,
    Form(Nothing {}): Form<Nothing>,
) -> Result<HttpResponse, Problem> {
    releases::publish(&state.db, &state.signing, &author(&request, &caller), id, state.clock.now()).await?;
    Ok(back("published"))
}

async fn withdraw(
    request: HttpRequest,
    state: web::Data<State>,
    caller: Caller,
    Path(id): Path<i64>,
    Form(Nothing {}): Form<Nothing>,
) -> Result<HttpResponse, Problem> {
    releases::withdraw(&state.db, &state.signing, &author(&request, &caller), id, state.clock.now()).await?;
    state.planner.wake();
    Ok(back("withdrawn"))
}

fn author(request: &HttpRequest, caller: &Caller) -> Author {
    let request_id = request.extensions().get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default();
    Author::new(caller, &request_id)
}

fn back(done: &str) -> HttpResponse {
    shell::see_other(&format!("/releases?done={done}"))
}
