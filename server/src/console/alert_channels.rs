//! Channels of alerts: the list, and one channel with everything that may be done with it.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use askama::Template;
use serde::Deserialize;

use super::alert_channel_form::{self as channel_form, FIELDS};
use super::alerts::{Tab, tabs};
use super::filled::Filled;
use super::form::Form;
use super::organizations::{self, Choice};
use super::problems::explain;
use super::rollouts::Chip;
use super::shell::{self, Shell};
use super::status::{Status, Tone};
use crate::alerts::{self, Change, Channel, Level, TestResult, TransportKind};
use crate::http::State;
use crate::http::auth::Acting;
use crate::http::body::{Path, Query, query_pair};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::page::{PAGE_SIZE_MAX, Page, PageQuery};
use crate::http::problem::Problem;
use crate::operators::{Caller, Permission};
use crate::organizations::Organization;

pub(super) fn endpoints() -> Vec<Endpoint> {
    let read = Access::Page(Permission::IncidentsRead);
    let write = Access::Page(Permission::AlertsWrite);
    vec![
        Endpoint::get("/alerts/channels", read, "", list),
        Endpoint::get("/alerts/channels/new", write, "", blank),
        Endpoint::post("/alerts/channels", write, "", create),
        Endpoint::get("/alerts/channels/{id}", write, "", show),
        Endpoint::post("/alerts/channels/{id}", write, "", save),
        Endpoint::post("/alerts/channels/{id}/test", write, "", test),
        Endpoint::post("/alerts/channels/{id}/pause", write, "", pause),
        Endpoint::post("/alerts/channels/{id}/resume", write, "", resume),
        Endpoint::post("/alerts/channels/{id}/delete", write, "", delete),
    ]
}

struct Row {
    id: i64,
    name: String,
    kind: String,
    target: String,
    organization: String,
    level: String,
    status: Status,
    error: String,
    has_digest: bool,
}

#[derive(Template)]
#[template(path = "alert_channels.html")]
struct ChannelsPage {
    shell: Shell,
    tabs: Vec<Tab>,
    rows: Vec<Row>,
    next: Option<String>,
    may_write: bool,
}

#[derive(Template)]
#[template(path = "alert_channel.html")]
struct ChannelPage {
    shell: Shell,
    form: Filled,
    problems: Vec<(String, String)>,
    /// None for a channel that is to be made.
    known: Option<Known>,
    kind: TransportKind,
    kinds: Vec<Chip>,
    hint: String,
    organizations: Vec<Choice>,
    levels: Vec<Choice>,
    mention_levels: Vec<Choice>,
    languages: Vec<Choice>,
    /// What the last press of the test button brought.
    tested: Option<Tested>,
    /// Shown once.
    secret: Option<String>,
}

struct Known {
    id: i64,
    name: String,
    status: Status,
    facts: Vec<(String, String)>,
    is_paused: bool,
    is_readable: bool,
    error: String,
}

struct Tested {
    is_accepted: bool,
    text: String,
}

async fn list(
    shell: Shell,
    state: web::Data<State>,
    caller: Caller,
    Query(query): Query<PageQuery>,
) -> Result<HttpResponse, Problem> {
    let after: Option<i64> = query.after()?;
    let size = PAGE_SIZE_MAX;
    let found = alerts::list_channels(&state.db, &state.alerts, &caller.scope, after, size + 1).await?;
    let page = Page::from_rows(found, size, |channel| channel.id);
    let tree = organizations::within(&state, caller.scope.clone()).await?;
    let row = |channel: Channel| Row {
        id: channel.id,
        kind: shell.word("channel-kind", &channel.kind),
        organization: name_of(&tree, channel.organization_id),
        level: shell.word("channel-level", channel.level.as_str()),
        status: status(&shell, &channel),
        error: if channel.last_error.is_empty() { String::new() } else { explain(&shell, &channel.last_error).0 },
        has_digest: channel.digest,
        name: channel.name,
        target: channel.target,
    };
    shell::ok(&ChannelsPage {
        tabs: tabs(&shell, "/alerts/channels"),
        rows: page.items.into_iter().map(row).collect(),
        next: page.next.map(|cursor| format!("/alerts/channels?{}", query_pair("after", &cursor))),
        may_write: shell.may(Permission::AlertsWrite),
        shell,
    })
}

pub(super) fn name_of(tree: &[Organization], id: i64) -> String {
    tree.iter().find(|organization| organization.id == id).map_or_else(String::new, |found| found.name.clone())
}

fn status(shell: &Shell, channel: &Channel) -> Status {
    let (tone, name) = match channel {
        Channel { paused_at_ms: Some(_), .. } => (Tone::Quiet, "paused"),
        Channel { kind, .. } if TransportKind::parse(kind).is_none() => (Tone::Bad, "unreadable"),
        Channel { failures: 0, .. } => (Tone::Good, "good"),
        Channel { failures: 1..=2, .. } => (Tone::Warning, "retrying"),
        _ => (Tone::Bad, "failing"),
    };
    Status { tone, word: shell.word("channel-state", name) }
}

/// A form without fields.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

#[derive(Debug, Default, Deserialize)]
struct Start {
    #[serde(default)]
    kind: String,
}

async fn blank(
    shell: Shell,
    state: web::Data<State>,
    caller: Caller,
    Query(start): Query<Start>,
) -> Result<HttpResponse, Problem> {
    let kind = TransportKind::parse(&start.kind).unwrap_or(TransportKind::Wecom);
    let form = channel_form::blank(&shell, kind, caller.organization_id);
    let page = page(shell, &state, &caller, form, kind, None).await?;
    shell::ok(&page)
}

async fn page(
    shell: Shell,
    state: &State,
    caller: &Caller,
    form: Filled,
    kind: TransportKind,
    channel: Option<&Channel>,
) -> Result<ChannelPage, Problem> {
    let tree = organizations::within(state, caller.scope.clone()).await?;
    let chosen = form.value("organization_id").parse().ok();
    let level = |family: &'static str, field: &'static str| {
        let choice = |level: Level| Choice {
            value: level.as_str().to_owned(),
            word: shell.word(family, level.as_str()),
            is_chosen: form.has(field, level.as_str()),
        };
        Level::ALL.map(choice).into_iter().collect::<Vec<_>>()
    };
    let language = |tag: &str| Choice {
        value: tag.to_owned(),
        word: shell.word("language", tag),
        is_chosen: form.has("language", tag),
    };
    let kind_chip = |each: TransportKind| Chip {
        href: format!("/alerts/channels/new?kind={}", each.as_str()),
        word: shell.word("channel-kind", each.as_str()),
        is_current: each == kind,
    };
    Ok(ChannelPage {
        problems: form.problems(),
        known: channel.map(|channel| known(&shell, channel, &tree)),
        kind,
        kinds: TransportKind::ALL.map(kind_chip).into(),
        hint: shell.word("channel-hint", kind.as_str()),
        organizations: organizations::choices(&tree, chosen),
        levels: level("channel-level", "level"),
        mention_levels: level("channel-level", "mention_level"),
        languages: ["zh-CN", "en"].map(language).into(),
        tested: None,
        secret: None,
        form,
        shell,
    })
}

fn known(shell: &Shell, channel: &Channel, tree: &[Organization]) -> Known {
    let mut facts = vec![
        (shell.say("channel-kind"), shell.word("channel-kind", &channel.kind)),
        (shell.say("channel-target"), channel.target.clone()),
        (shell.say("terminal-organization"), name_of(tree, channel.organization_id)),
        (
            shell.say("channel-made"),
            format!("{} · {}", channel.created_by, shell.moments.absolute(channel.created_at_ms)),
        ),
    ];
    if channel.is_signed {
        facts.push((shell.say("channel-signed"), shell.say("channel-signed-yes")));
    }
    Known {
        id: channel.id,
        name: channel.name.clone(),
        status: status(shell, channel),
        facts,
        is_paused: channel.paused_at_ms.is_some(),
        is_readable: TransportKind::parse(&channel.kind).is_some(),
        error: if channel.last_error.is_empty() { String::new() } else { explain(shell, &channel.last_error).0 },
    }
}

async fn create(
    mut shell: Shell,
    state: web::Data<State>,
    acting: Acting,
    Form(fields): Form<Vec<(String, String)>>,
) -> Result<HttpResponse, Problem> {
    let mut form = Filled::of(fields, &FIELDS)?;
    let Acting { caller, actor } = acting;
    let kind =
        TransportKind::parse(form.value("kind")).ok_or_else(|| Problem::invalid("kind", "is not a kind of channel"))?;
    shell.address = format!("/alerts/channels/new?kind={}", kind.as_str());
    let new = channel_form::new_channel(&shell, &mut form, kind);
    if form.is_good() {
        match alerts::create(&state.db, &state.alerts, &caller, &actor, new, state.clock.now()).await {
            Ok(made) if made.secret.is_empty() => {
                return Ok(shell::see_other(&format!("/alerts/channels/{}?done=channel", made.channel.id)));
            }
            Ok(made) => {
                let form = channel_form::of_channel(&made.channel);
                let page = page(shell, &state, &caller, form, kind, Some(&made.channel)).await?;
                return shell::ok(&ChannelPage { secret: Some(made.secret), ..page });
            }
            Err(error) => channel_form::refuse(&shell, &mut form, error)?,
        }
    }
    shell::page(StatusCode::UNPROCESSABLE_ENTITY, &page(shell, &state, &caller, form, kind, None).await?)
}

async fn show(
    shell: Shell,
    state: web::Data<State>,
    caller: Caller,
    Path(id): Path<i64>,
) -> Result<HttpResponse, Problem> {
    let page = page_of(shell, &state, &caller, id).await?;
    shell::ok(&page)
}

async fn page_of(shell: Shell, state: &State, caller: &Caller, id: i64) -> Result<ChannelPage, Problem> {
    let channel = alerts::get_channel(&state.db, &state.alerts, &caller.scope, id).await?;
    let kind = TransportKind::parse(&channel.kind).unwrap_or(TransportKind::Webhook);
    page(shell, state, caller, channel_form::of_channel(&channel), kind, Some(&channel)).await
}

async fn save(
    mut shell: Shell,
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Form(fields): Form<Vec<(String, String)>>,
) -> Result<HttpResponse, Problem> {
    let mut form = Filled::of(fields, &FIELDS)?;
    let Acting { caller, actor } = acting;
    shell.address = format!("/alerts/channels/{id}");
    let channel = alerts::get_channel(&state.db, &state.alerts, &caller.scope, id).await?;
    let kind = TransportKind::parse(&channel.kind).unwrap_or(TransportKind::Webhook);
    let change = channel_form::change(&shell, &mut form, kind);
    if form.is_good() {
        let now = state.clock.now();
        match alerts::update(&state.db, &state.alerts, &caller.scope, &actor, id, change, now).await {
            Ok(_) => return Ok(shell::see_other(&format!("/alerts/channels/{id}?done=saved"))),
            Err(error) => channel_form::refuse(&shell, &mut form, error)?,
        }
    }
    let page = page(shell, &state, &caller, form, kind, Some(&channel)).await?;
    shell::page(StatusCode::UNPROCESSABLE_ENTITY, &page)
}

async fn test(
    mut shell: Shell,
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Form(Nothing {}): Form<Nothing>,
) -> Result<HttpResponse, Problem> {
    let Acting { caller, actor } = acting;
    shell.address = format!("/alerts/channels/{id}");
    let now = state.clock.now();
    let ended = alerts::test(&state.db, &state.alerts, &caller.scope, &actor, id, now).await?;
    let tested = tested(&shell, &ended);
    let page = page_of(shell, &state, &caller, id).await?;
    shell::ok(&ChannelPage { tested: Some(tested), ..page })
}

fn tested(shell: &Shell, ended: &TestResult) -> Tested {
    let text = if ended.accepted {
        shell.say("channel-test-good")
    } else {
        shell.with("channel-test-bad", "why", explain(shell, &ended.error).0)
    };
    Tested { is_accepted: ended.accepted, text }
}

async fn pause(
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Form(Nothing {}): Form<Nothing>,
) -> Result<HttpResponse, Problem> {
    set_paused(&state, acting, id, true).await
}

async fn resume(
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Form(Nothing {}): Form<Nothing>,
) -> Result<HttpResponse, Problem> {
    set_paused(&state, acting, id, false).await
}

async fn set_paused(state: &State, acting: Acting, id: i64, paused: bool) -> Result<HttpResponse, Problem> {
    let Acting { caller, actor } = acting;
    let channel = alerts::get_channel(&state.db, &state.alerts, &caller.scope, id).await?;
    let change = Change { version: channel.version, paused: Some(paused), ..Change::default() };
    alerts::update(&state.db, &state.alerts, &caller.scope, &actor, id, change, state.clock.now()).await?;
    let done = if paused { "channel_paused" } else { "channel_resumed" };
    Ok(shell::see_other(&format!("/alerts/channels/{id}?done={done}")))
}

async fn delete(
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Form(Nothing {}): Form<Nothing>,
) -> Result<HttpResponse, Problem> {
    let Acting { caller, actor } = acting;
    alerts::delete(&state.db, &state.alerts, &caller.scope, &actor, id, state.clock.now()).await?;
    Ok(shell::see_other("/alerts/channels?done=channel_deleted"))
}
