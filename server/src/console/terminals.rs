//! The list of terminals: every filter is in the address.

use actix_web::{HttpResponse, web};
use askama::Template;
use serde::Deserialize;

use super::conditions;
use super::organizations::{self, Choice};
use super::rollout::phase_status;
use super::rollouts::Chip;
use super::shell::{self, Shell};
use super::status::{Status, Tone};
use crate::http::State;
use crate::http::body::{Query, query_pair};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::page::{Page, PageQuery};
use crate::http::problem::Problem;
use crate::operators::{Caller, Permission};
use crate::rollouts;
use crate::terminals::list::{Connection, Filter, Key, Sort, TerminalRow, list as find, list_among};
use crate::terminals::{Lifecycle, Model, id_of_sn, list_models};

pub(super) fn endpoints() -> Vec<Endpoint> {
    let read = Access::Page(Permission::TerminalsRead);
    vec![Endpoint::get("/terminals", read, "", list), Endpoint::get("/search", read, "", search)]
}

/// Filters as the address has them; empty ones are absent.
#[derive(Debug, Clone, Default, Deserialize)]
struct Asked {
    #[serde(default)]
    q: String,
    #[serde(default)]
    connection: String,
    #[serde(default)]
    lifecycle: String,
    #[serde(default)]
    model: String,
    #[serde(default)]
    organization_id: String,
    #[serde(default)]
    firmware: String,
    #[serde(default)]
    tag: String,
    #[serde(default)]
    region: String,
    /// `failed`: the last update ended badly.
    #[serde(default)]
    update: String,
    #[serde(default)]
    after: Option<String>,
}

impl Asked {
    fn pairs(&self) -> Vec<(&'static str, &str)> {
        let all = [
            ("q", &self.q),
            ("connection", &self.connection),
            ("lifecycle", &self.lifecycle),
            ("model", &self.model),
            ("organization_id", &self.organization_id),
            ("firmware", &self.firmware),
            ("tag", &self.tag),
            ("region", &self.region),
            ("update", &self.update),
        ];
        all.into_iter().map(|(name, value)| (name, value.trim())).filter(|(_, value)| !value.is_empty()).collect()
    }

    fn address(&self, after: Option<&str>) -> String {
        let pairs = self.pairs().into_iter().chain(after.map(|cursor| ("after", cursor)));
        let query: Vec<String> = pairs.map(|(name, value)| query_pair(name, value)).collect();
        if query.is_empty() { "/terminals".to_owned() } else { format!("/terminals?{}", query.join("&")) }
    }

    /// Whether only terminals are asked for whose last update ended badly.
    fn is_unsuccessful(&self) -> Result<bool, Problem> {
        match self.update.trim() {
            "" => Ok(false),
            "failed" => Ok(true),
            _ => Err(Problem::invalid("update", "is not a possible value")),
        }
    }

    fn filter(&self) -> Result<Filter, Problem> {
        let text = |value: &str| Some(value.trim().to_owned()).filter(|value| !value.is_empty());
        let connection = match text(&self.connection) {
            None => None,
            Some(name) => {
                let known = Connection::ALL.into_iter().find(|state| state.as_str() == name);
                Some(known.ok_or_else(|| Problem::invalid("connection", "is not a connection state"))?)
            }
        };
        let lifecycle = match text(&self.lifecycle) {
            None => None,
            Some(name) => {
                let known = Lifecycle::parse(&name);
                Some(known.ok_or_else(|| Problem::invalid("lifecycle", "is not a lifecycle state"))?)
            }
        };
        let organization_id = match text(&self.organization_id) {
            None => None,
            Some(id) => Some(id.parse().map_err(|_| Problem::invalid("organization_id", "is not a number"))?),
        };
        Ok(Filter {
            organization_id,
            model: text(&self.model),
            lifecycle,
            region: text(&self.region),
            tag: text(&self.tag),
            firmware: text(&self.firmware),
            connection,
            q: text(&self.q),
        })
    }
}

struct Select {
    name: &'static str,
    label: String,
    options: Vec<Choice>,
}

struct Row {
    connection: Status,
    lifecycle: String,
    sn: String,
    model: String,
    merchant: String,
    store: String,
    organization: String,
    tags: Vec<String>,
    firmware: String,
    /// Version that was ordered and is not reported yet.
    desired: Option<String>,
    has_drift: bool,
    task: Option<Task>,
    network: String,
    seen: String,
    seen_at: String,
}

/// The update that a terminal is in, or that ended badly.
struct Task {
    status: Status,
    /// Why it waits or failed; empty when there is nothing to say.
    why: String,
    href: Option<String>,
}

#[derive(Template)]
#[template(path = "terminals.html")]
struct TerminalsPage {
    shell: Shell,
    filter: Asked,
    is_filtered: bool,
    selects: Vec<Select>,
    chips: Vec<Chip>,
    rows: Vec<Row>,
    first: Option<String>,
    next: Option<String>,
    may_import: bool,
}

async fn list(
    shell: Shell,
    state: web::Data<State>,
    caller: Caller,
    Query(asked): Query<Asked>,
) -> Result<HttpResponse, Problem> {
    let page = PageQuery { after: asked.after.clone(), size: None };
    let (size, after) = (page.size()?, page.after::<Key>()?);
    let (filter, is_unsuccessful) = (asked.filter()?, asked.is_unsuccessful()?);
    let sort = Sort::of(None, &filter)?;
    let now = shell.moments.now();
    let limit = usize::try_from(size).unwrap_or(usize::MAX).saturating_add(1);
    let scope = caller.scope.clone();
    let (found, tasks, models) = state
        .db
        .read(move |conn| {
            let found = if is_unsuccessful {
                let known = rollouts::unsuccessful_terminals(conn, &scope)?;
                list_among(conn, &scope, &filter, &known, sort, after, limit, now)?
            } else {
                find(conn, &scope, &filter, sort, after, limit, now)?
            };
            let ids: Vec<i64> = found.iter().map(|row| row.id).collect();
            Ok::<_, Problem>((found, rollouts::tasks(conn, &ids)?, list_models(conn)?))
        })
        .await?;
    let tree = organizations::within(&state, caller.scope).await?;
    let page = Page::from_rows(found, size, |row| row.key(sort));
    let rows = page.items.into_iter().map(|row| row_of(&shell, tasks.get(&row.id), row)).collect();
    shell::ok(&TerminalsPage {
        is_filtered: !asked.pairs().is_empty(),
        selects: selects(&shell, &asked, &models, organizations::choices(&tree, asked.organization_id.parse().ok())),
        chips: chips(&shell, &asked),
        rows,
        first: asked.after.is_some().then(|| asked.address(None)),
        next: page.next.map(|cursor| asked.address(Some(&cursor))),
        may_import: shell.may(Permission::TerminalsWrite),
        filter: asked,
        shell,
    })
}

fn selects(shell: &Shell, asked: &Asked, models: &[Model], tree: Vec<Choice>) -> Vec<Select> {
    let named = |family: &'static str, name: &'static str, chosen: &str| Choice {
        value: name.to_owned(),
        word: shell.word(family, name),
        is_chosen: name == chosen,
    };
    let connections = Connection::ALL.into_iter().map(|state| named("connection", state.as_str(), &asked.connection));
    let lifecycles = Lifecycle::ALL.into_iter().map(|state| named("lifecycle", state.as_str(), &asked.lifecycle));
    let models = models.iter().map(|model| Choice {
        value: model.code.clone(),
        word: model.code.clone(),
        is_chosen: model.code == asked.model,
    });
    vec![
        Select { name: "connection", label: shell.say("terminal-state"), options: connections.collect() },
        Select { name: "lifecycle", label: shell.say("terminal-lifecycle"), options: lifecycles.collect() },
        Select { name: "model", label: shell.say("terminal-model"), options: models.collect() },
        Select { name: "organization_id", label: shell.say("terminal-organization"), options: tree },
    ]
}

/// The questions of every morning; the one in force leads back to the whole list.
fn chips(shell: &Shell, asked: &Asked) -> Vec<Chip> {
    let chip = |name: &'static str, value: &'static str, chosen: &str, word: String| {
        let is_current = chosen == value;
        let href = if is_current { "/terminals".to_owned() } else { format!("/terminals?{}", query_pair(name, value)) };
        Chip { href, word, is_current }
    };
    let connections = ["offline", "missing", "late"]
        .map(|value| chip("connection", value, &asked.connection, shell.word("connection", value)));
    let failed = shell.may(Permission::RolloutsRead).then(|| {
        let word = shell.say("overview-update-failing");
        chip("update", "failed", &asked.update, word)
    });
    let never = chip("connection", "never", &asked.connection, shell.say("terminals-not-activated"));
    let lifecycles = ["suspended", "repair", "lost"]
        .map(|value| chip("lifecycle", value, &asked.lifecycle, shell.word("lifecycle", value)));
    connections.into_iter().chain(failed).chain([never]).chain(lifecycles).collect()
}

fn row_of(shell: &Shell, task: Option<&rollouts::Task>, row: TerminalRow) -> Row {
    let network = conditions::network(
        shell,
        row.access.as_deref().unwrap_or_default(),
        row.carrier.as_deref().unwrap_or_default(),
        row.signal.as_deref().unwrap_or_default(),
    );
    let connection = row.connection.as_str();
    let has_drift = matches!(
        (&row.desired_config_hash, &row.config_hash),
        (Some(desired), Some(reported)) if desired != reported
    );
    Row {
        connection: Status { tone: Tone::of_connection(connection), word: shell.word("connection", connection) },
        lifecycle: shell.word("lifecycle", row.lifecycle.as_str()),
        model: row.model,
        merchant: row.merchant_name.or(row.merchant_no).unwrap_or_default(),
        store: row.store_name.unwrap_or_default(),
        organization: row.organization_name,
        tags: row.tags,
        desired: task
            .filter(|task| task.is_live && row.firmware.as_deref() != Some(task.release_version.as_str()))
            .map(|task| task.release_version.clone()),
        firmware: row.firmware.filter(|version| !version.is_empty()).unwrap_or_else(|| "–".to_owned()),
        has_drift,
        task: task.and_then(|task| task_of(shell, task)),
        network,
        seen: row.last_seen_ms.map_or_else(|| "–".to_owned(), |at_ms| shell.moments.ago(at_ms)),
        seen_at: row.last_seen_ms.map(|at_ms| shell.moments.absolute(at_ms)).unwrap_or_default(),
        sn: row.sn,
    }
}

/// One that succeeded or was cancelled is history, and stands on the terminal's own page.
fn task_of(shell: &Shell, task: &rollouts::Task) -> Option<Task> {
    if matches!(task.phase.as_str(), "succeeded" | "cancelled") {
        return None;
    }
    Some(Task {
        status: phase_status(shell, &task.phase, task.reason.as_deref()),
        why: task.reason.as_deref().map(|reason| shell.word("reason", reason)).unwrap_or_default(),
        href: shell.may(Permission::RolloutsRead).then(|| format!("/rollouts/{}", task.rollout_id)),
    })
}

#[derive(Debug, Deserialize)]
struct Sought {
    #[serde(default)]
    q: String,
}

/// A whole serial number, or a tail that one terminal alone has, leads straight to it; anything else to the list.
async fn search(
    shell: Shell,
    state: web::Data<State>,
    caller: Caller,
    Query(Sought { q }): Query<Sought>,
) -> Result<HttpResponse, Problem> {
    let text = q.trim().to_owned();
    if text.is_empty() {
        return Ok(shell::see_other("/terminals"));
    }
    let now = shell.moments.now();
    let found = state
        .db
        .read({
            let text = text.clone();
            move |conn| {
                if id_of_sn(conn, &caller.scope, &text)?.is_some() {
                    return Ok(Some(text));
                }
                let filter = Filter { q: Some(text), ..Filter::default() };
                // A text too short to search by is no fault here: the list says what it needs.
                let rows = find(conn, &caller.scope, &filter, Sort::Id, None, 2, now).unwrap_or_default();
                Ok::<_, Problem>(match rows.as_slice() {
                    [only] => Some(only.sn.clone()),
                    _ => None,
                })
            }
        })
        .await?;
    Ok(match found {
        Some(sn) => shell::see_other(&format!("/terminals/{sn}")),
        None => shell::see_other(&format!("/terminals?{}", query_pair("q", &text))),
    })
}
