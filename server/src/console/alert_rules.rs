//! Rules of alerts: who is told of what, and who next.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use askama::Template;
use serde::Deserialize;

use super::alert_channel_form::refuse;
use super::alert_channels::{Nothing, name_of};
use super::alerts::{Tab, tabs};
use super::filled::Filled;
use super::form::Form;
use super::organizations::{self, Choice};
use super::shell::{self, Shell};
use super::status::{Status, Tone};
use crate::alerts::{self, Channel, Level, NewRule, RuleChange, RuleView, Urgency};
use crate::failures::incidents::Kind;
use crate::http::State;
use crate::http::auth::Acting;
use crate::http::body::{Path, Query, query_pair};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::page::{PAGE_SIZE_MAX, Page, PageQuery};
use crate::http::problem::Problem;
use crate::operators::{Caller, Permission, Scope};
use crate::terminals;

pub(super) fn endpoints() -> Vec<Endpoint> {
    let read = Access::Page(Permission::IncidentsRead);
    let write = Access::Page(Permission::AlertsWrite);
    vec![
        Endpoint::get("/alerts/rules", read, "", list),
        Endpoint::get("/alerts/rules/new", write, "", blank),
        Endpoint::post("/alerts/rules", write, "", create),
        Endpoint::get("/alerts/rules/{id}", write, "", show),
        Endpoint::post("/alerts/rules/{id}", write, "", save),
        Endpoint::post("/alerts/rules/{id}/delete", write, "", delete),
    ]
}

/// Steps that the form has; REST takes more.
const STEPS: [&str; 3] = ["step_1", "step_2", "step_3"];
const FIELDS: [&str; 11] = [
    "version",
    "name",
    "organization_id",
    "enabled",
    "delivery",
    "kinds",
    "levels",
    "models",
    "step_1",
    "step_2",
    "step_3",
];

struct Row {
    id: i64,
    name: String,
    organization: String,
    status: Status,
    about: Vec<String>,
    urgency: String,
    steps: Vec<String>,
}

#[derive(Template)]
#[template(path = "alert_rules.html")]
struct RulesPage {
    shell: Shell,
    tabs: Vec<Tab>,
    rows: Vec<Row>,
    next: Option<String>,
    may_write: bool,
}

struct Step {
    field: &'static str,
    word: String,
    channels: Vec<Choice>,
}

#[derive(Template)]
#[template(path = "alert_rule.html")]
struct RulePage {
    shell: Shell,
    form: Filled,
    problems: Vec<(String, String)>,
    id: Option<i64>,
    organization_id: String,
    organization: String,
    organizations: Vec<Choice>,
    urgencies: Vec<Choice>,
    levels: Vec<Choice>,
    kinds: Vec<Choice>,
    models: Vec<Choice>,
    steps: Vec<Step>,
    has_channels: bool,
}

async fn list(
    shell: Shell,
    state: web::Data<State>,
    caller: Caller,
    Query(query): Query<PageQuery>,
) -> Result<HttpResponse, Problem> {
    let after: Option<i64> = query.after()?;
    let size = PAGE_SIZE_MAX;
    let scope = caller.scope.clone();
    let found = state.db.read(move |conn| alerts::list_rules(conn, &scope, after, size + 1)).await?;
    let page = Page::from_rows(found, size, |rule| rule.id);
    let channels = every_channel(&state, &caller.scope).await?;
    let tree = organizations::within(&state, caller.scope.clone()).await?;
    let rows = page.items.into_iter().map(|rule| {
        let organization = name_of(&tree, rule.organization_id);
        row(&shell, rule, organization, &channels)
    });
    shell::ok(&RulesPage {
        tabs: tabs(&shell, "/alerts/rules"),
        rows: rows.collect(),
        next: page.next.map(|cursor| format!("/alerts/rules?{}", query_pair("after", &cursor))),
        may_write: shell.may(Permission::AlertsWrite),
        shell,
    })
}

/// Pages of channels that are read for their names: of fifty organizations with all they may have.
const CHANNEL_PAGES_MAX: usize = 10;

/// The channels of a scope, for their names.
async fn every_channel(state: &State, scope: &Scope) -> Result<Vec<Channel>, Problem> {
    let mut channels: Vec<Channel> = Vec::new();
    for _ in 0..CHANNEL_PAGES_MAX {
        let after = channels.last().map(|channel| channel.id);
        let page = alerts::list_channels(&state.db, &state.alerts, scope, after, PAGE_SIZE_MAX).await?;
        let is_last = page.len() < usize::try_from(PAGE_SIZE_MAX).unwrap_or(usize::MAX);
        channels.extend(page);
        if is_last {
            break;
        }
    }
    Ok(channels)
}

fn row(shell: &Shell, rule: RuleView, organization: String, channels: &[Channel]) -> Row {
    let name = |id: &i64| {
        let known = channels.iter().find(|channel| channel.id == *id);
        known.map_or_else(|| shell.say("rule-channel-gone"), |channel| channel.name.clone())
    };
    let mut about: Vec<String> = rule.levels.iter().map(|level| level.as_str().to_owned()).collect();
    about.extend(rule.kinds.iter().map(|kind| shell.word("incident-kind", kind)));
    about.extend(rule.models.iter().cloned());
    if about.is_empty() {
        about.push(shell.say("rule-everything"));
    }
    let (tone, state) = if rule.enabled { (Tone::Good, "on") } else { (Tone::Quiet, "off") };
    Row {
        id: rule.id,
        name: rule.name,
        organization,
        status: Status { tone, word: shell.word("rule-state", state) },
        about,
        urgency: shell.word("rule-delivery", &rule.delivery),
        steps: rule.steps.iter().map(|step| step.iter().map(name).collect::<Vec<_>>().join(", ")).collect(),
    }
}

#[derive(Debug, Default, Deserialize)]
struct Start {
    #[serde(default)]
    organization_id: Option<i64>,
}

async fn blank(
    shell: Shell,
    state: web::Data<State>,
    caller: Caller,
    Query(start): Query<Start>,
) -> Result<HttpResponse, Problem> {
    let mut form = Filled::default();
    form.fill("organization_id", start.organization_id.unwrap_or(caller.organization_id).to_string());
    form.fill("enabled", "on");
    form.fill("delivery", Urgency::Now.as_str());
    for level in [Level::P1, Level::P2] {
        form.fill("levels", level.as_str());
    }
    page(shell, &state, &caller, form, None, StatusCode::OK).await
}

async fn page(
    shell: Shell,
    state: &State,
    caller: &Caller,
    form: Filled,
    id: Option<i64>,
    status: StatusCode,
) -> Result<HttpResponse, Problem> {
    let tree = organizations::within(state, caller.scope.clone()).await?;
    let organization_id = form.value("organization_id").to_owned();
    let chosen = tree.iter().find(|organization| organization.id.to_string() == organization_id);
    let own = match chosen {
        // Channels of exactly this organization; its subtree begins with them and may go on for long.
        Some(organization) => {
            let mut own = every_channel(state, &Scope::subtree(organization.path.clone())).await?;
            own.retain(|channel| channel.organization_id == organization.id);
            own
        }
        None => Vec::new(),
    };
    let models = state.db.read(terminals::list_models).await?;
    let choice = |field: &str, value: String, word: String| Choice { is_chosen: form.has(field, &value), value, word };
    let named = |field: &str, family: &str, name: &str| choice(field, name.to_owned(), shell.word(family, name));
    let step = |(at, field): (usize, &'static str)| Step {
        field,
        word: shell.word("rule-step", &(at + 1).to_string()),
        channels: own.iter().map(|channel| choice(field, channel.id.to_string(), channel.name.clone())).collect(),
    };
    let page = RulePage {
        problems: form.problems(),
        id,
        organization: chosen.map(|organization| organization.name.clone()).unwrap_or_default(),
        organizations: organizations::choices(&tree, organization_id.parse().ok()),
        organization_id,
        urgencies: Urgency::ALL.map(|urgency| named("delivery", "rule-delivery", urgency.as_str())).into(),
        levels: Level::ALL.map(|level| named("levels", "level", level.as_str())).into(),
        kinds: Kind::ALL.map(|kind| named("kinds", "incident-kind", kind.as_str())).into(),
        models: models.into_iter().map(|model| choice("models", model.code.clone(), model.code)).collect(),
        steps: STEPS.into_iter().enumerate().map(step).collect(),
        has_channels: !own.is_empty(),
        form,
        shell,
    };
    shell::page(status, &page)
}

/// The rule that the form means. Steps behind an empty one move up.
fn meant(shell: &Shell, form: &mut Filled) -> RuleChange {
    let version = form.number(shell, "version").unwrap_or(0);
    let step = |field: &str| form.all(field).iter().filter_map(|id| id.parse().ok()).collect::<Vec<i64>>();
    RuleChange {
        version,
        name: form.value("name").to_owned(),
        enabled: form.is_ticked("enabled"),
        kinds: form.all("kinds"),
        levels: form.all("levels").iter().filter_map(|level| Level::parse(level)).collect(),
        models: form.all("models"),
        delivery: form.value("delivery").to_owned(),
        steps: STEPS.iter().map(|field| step(field)).filter(|step| !step.is_empty()).collect(),
    }
}

async fn create(
    mut shell: Shell,
    state: web::Data<State>,
    acting: Acting,
    Form(fields): Form<Vec<(String, String)>>,
) -> Result<HttpResponse, Problem> {
    let mut form = Filled::of(fields, &FIELDS)?;
    shell.address = format!("/alerts/rules/new?{}", query_pair("organization_id", form.value("organization_id")));
    let Acting { caller, actor } = acting;
    let rule = meant(&shell, &mut form);
    let new = NewRule {
        name: rule.name,
        organization_id: form.value("organization_id").parse().ok(),
        enabled: rule.enabled,
        kinds: rule.kinds,
        levels: rule.levels,
        models: rule.models,
        delivery: rule.delivery,
        steps: rule.steps,
    };
    match alerts::create_rule(&state.db, &caller, &actor, new, state.clock.now()).await {
        Ok(_) => Ok(shell::see_other("/alerts/rules?done=rule")),
        Err(error) => {
            refuse(&shell, &mut form, error)?;
            page(shell, &state, &caller, form, None, StatusCode::UNPROCESSABLE_ENTITY).await
        }
    }
}

async fn show(
    shell: Shell,
    state: web::Data<State>,
    caller: Caller,
    Path(id): Path<i64>,
) -> Result<HttpResponse, Problem> {
    let scope = caller.scope.clone();
    let rule = state.db.read(move |conn| alerts::get_rule(conn, &scope, id)).await?;
    page(shell, &state, &caller, of_rule(&rule), Some(id), StatusCode::OK).await
}

fn of_rule(rule: &RuleView) -> Filled {
    let mut form = Filled::default();
    form.fill("version", rule.version.to_string());
    form.fill("name", rule.name.clone());
    form.fill("organization_id", rule.organization_id.to_string());
    form.fill("enabled", if rule.enabled { "on" } else { "" });
    form.fill("delivery", rule.delivery.clone());
    rule.kinds.iter().for_each(|kind| form.fill("kinds", kind.clone()));
    rule.levels.iter().for_each(|level| form.fill("levels", level.as_str()));
    rule.models.iter().for_each(|model| form.fill("models", model.clone()));
    for (field, step) in STEPS.iter().zip(&rule.steps) {
        step.iter().for_each(|id| form.fill(field, id.to_string()));
    }
    form
}

async fn save(
    mut shell: Shell,
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Form(fields): Form<Vec<(String, String)>>,
) -> Result<HttpResponse, Problem> {
    let mut form = Filled::of(fields, &FIELDS)?;
    shell.address = format!("/alerts/rules/{id}");
    let Acting { caller, actor } = acting;
    let change = meant(&shell, &mut form);
    match alerts::update_rule(&state.db, &caller.scope, &actor, id, change, state.clock.now()).await {
        Ok(_) => Ok(shell::see_other("/alerts/rules?done=saved")),
        Err(error) => {
            refuse(&shell, &mut form, error)?;
            page(shell, &state, &caller, form, Some(id), StatusCode::UNPROCESSABLE_ENTITY).await
        }
    }
}

async fn delete(
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Form(Nothing {}): Form<Nothing>,
) -> Result<HttpResponse, Problem> {
    let Acting { caller, actor } = acting;
    alerts::delete_rule(&state.db, &caller.scope, &actor, id, state.clock.now()).await?;
    Ok(shell::see_other("/alerts/rules?done=rule_deleted"))
}
