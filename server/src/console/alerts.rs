//! Who was told: the delivery log, and sending again what did not arrive.

use actix_web::{HttpResponse, web};
use askama::Template;
use serde::Deserialize;

use super::conditions;
use super::form::Form;
use super::incidents::LevelTag;
use super::organizations::Choice;
use super::problems::explain;
use super::rollouts::Chip;
use super::shell::{self, Shell};
use super::status::{Status, Tone};
use crate::alerts::{self, AlertKind, DeliveryState, LogEntry, LogFilter, Replay};
use crate::http::State;
use crate::http::auth::Acting;
use crate::http::body::{Query, query_pair};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::page::{PAGE_SIZE_MAX, Page, PageQuery};
use crate::http::problem::Problem;
use crate::operators::{Caller, Permission};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/alerts", Access::Page(Permission::IncidentsRead), "", list),
        Endpoint::post("/alerts/replay", Access::Page(Permission::AlertsWrite), "", replay),
    ]
}

/// In an address, for deliveries in any state.
const ALL: &str = "all";

/// One of the rooms of this menu entry.
pub(super) struct Tab {
    pub(super) href: &'static str,
    pub(super) word: String,
    pub(super) is_current: bool,
}

/// The rooms, the one at `current` marked.
pub(super) fn tabs(shell: &Shell, current: &str) -> Vec<Tab> {
    let rooms = [
        ("/alerts", "alerts-log"),
        ("/alerts/channels", "alerts-channels"),
        ("/alerts/rules", "alerts-rules"),
        ("/alerts/hours", "alerts-hours"),
    ];
    rooms.map(|(href, key)| Tab { href, word: shell.say(key), is_current: href == current }).into()
}

struct Row {
    alert_id: i64,
    channel_id: i64,
    level: LevelTag,
    title: String,
    what: String,
    href: Option<String>,
    channel: String,
    status: Status,
    route: Option<String>,
    attempts: i64,
    error: String,
    is_error_foreign: bool,
    raised: String,
    raised_at: String,
    may_replay: bool,
}

#[derive(Template)]
#[template(path = "alerts.html")]
struct AlertsPage {
    shell: Shell,
    tabs: Vec<Tab>,
    chips: Vec<Chip>,
    state: String,
    channels: Vec<Choice>,
    is_filtered: bool,
    rows: Vec<Row>,
    next: Option<String>,
    may_replay: bool,
    channel: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct LogQuery {
    #[serde(default)]
    state: String,
    #[serde(default)]
    channel: String,
    #[serde(default)]
    after: Option<String>,
}

impl LogQuery {
    fn filter(&self) -> Result<LogFilter, Problem> {
        let state = match self.state.as_str() {
            "" | ALL => None,
            name => Some(
                DeliveryState::parse(name)
                    .ok_or_else(|| Problem::invalid("state", format!("{name:?} is not a state of a delivery")))?,
            ),
        };
        let channel_id = match self.channel.trim() {
            "" => None,
            id => Some(id.parse().map_err(|_| Problem::invalid("channel", "is not a number"))?),
        };
        Ok(LogFilter { state, channel_id, incident_id: None })
    }

    fn address(&self, state: &str, after: Option<&str>) -> String {
        let pairs = [("state", state), ("channel", self.channel.trim())];
        let given =
            pairs.into_iter().filter(|(_, value)| !value.is_empty()).chain(after.map(|cursor| ("after", cursor)));
        let query: Vec<String> = given.map(|(name, value)| query_pair(name, value)).collect();
        format!("/alerts?{}", query.join("&"))
    }
}

async fn list(
    shell: Shell,
    state: web::Data<State>,
    caller: Caller,
    Query(query): Query<LogQuery>,
) -> Result<HttpResponse, Problem> {
    let page = PageQuery { after: query.after.clone(), size: None };
    let (size, before) = (page.size()?, page.after::<(i64, i64)>()?);
    let filter = query.filter()?;
    let scope = caller.scope.clone();
    let found = state.db.read(move |conn| alerts::log(conn, &scope, filter, before, size + 1)).await?;
    let page = Page::from_rows(found, size, |entry| (entry.alert_id, entry.channel_id));
    let channels = alerts::list_channels(&state.db, &state.alerts, &caller.scope, None, PAGE_SIZE_MAX).await?;
    let current = if query.state.is_empty() { ALL } else { query.state.as_str() };
    let chip = |name: &str| Chip {
        href: query.address(name, None),
        word: if name == ALL { shell.say("filter-any") } else { shell.word("alert-state", name) },
        is_current: current == name,
    };
    let names = [ALL].into_iter().chain(DeliveryState::ALL.map(DeliveryState::as_str));
    let choice = |channel: alerts::Channel| Choice {
        is_chosen: query.channel.trim() == channel.id.to_string(),
        value: channel.id.to_string(),
        word: channel.name,
    };
    let may_replay = shell.may(Permission::AlertsWrite);
    shell::ok(&AlertsPage {
        tabs: tabs(&shell, "/alerts"),
        chips: names.map(chip).collect(),
        state: current.to_owned(),
        channels: channels.into_iter().map(choice).collect(),
        is_filtered: filter != LogFilter::default(),
        next: page.next.as_deref().map(|cursor| query.address(current, Some(cursor))),
        rows: page.items.into_iter().map(|entry| row(&shell, entry, may_replay)).collect(),
        may_replay,
        channel: query.channel.trim().to_owned(),
        shell,
    })
}

/// Where the matter of an alert is shown.
fn href(entry: &LogEntry) -> Option<String> {
    if entry.kind == AlertKind::WorkOrderOverdue.as_str() {
        return entry.parameters.get("id").map(|id| format!("/work-orders/{id}"));
    }
    entry.incident_id.map(|id| format!("/incidents/{id}"))
}

fn row(shell: &Shell, entry: LogEntry, may_replay: bool) -> Row {
    let values: Vec<(&str, &str)> =
        entry.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let has_ended = !matches!(DeliveryState::parse(&entry.state), Some(DeliveryState::Pending | DeliveryState::Held));
    let (error, is_error_foreign) =
        if entry.error.is_empty() { (String::new(), false) } else { explain(shell, &entry.error) };
    let href = href(&entry);
    let route = (entry.route != alerts::Route::Direct.as_str()).then(|| shell.word("route", &entry.route));
    Row {
        alert_id: entry.alert_id,
        channel_id: entry.channel_id,
        level: LevelTag::of(&entry.level),
        title: conditions::title(shell.language, &entry.title_key, &values),
        what: shell.word("alert", &entry.kind),
        href,
        channel: entry.channel,
        status: Status { tone: Tone::of_delivery(&entry.state), word: shell.word("alert-state", &entry.state) },
        route,
        attempts: entry.attempts,
        error,
        is_error_foreign,
        raised: shell.moments.ago(entry.created_at_ms),
        raised_at: shell.moments.absolute(entry.created_at_ms),
        may_replay: may_replay && has_ended && !entry.is_channel_deleted,
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplayForm {
    #[serde(default)]
    alert: Option<i64>,
    #[serde(default)]
    channel: Option<i64>,
}

async fn replay(
    state: web::Data<State>,
    acting: Acting,
    Form(form): Form<ReplayForm>,
) -> Result<HttpResponse, Problem> {
    let wanted = Replay { alert_id: form.alert, channel_id: form.channel };
    alerts::replay(&state.db, &acting.caller, &acting.actor, wanted, state.clock.now()).await?;
    Ok(shell::see_other("/alerts?done=replayed"))
}
