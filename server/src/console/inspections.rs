//! What is due: terminals that somebody should look at, each with its reasons; and the list of devices.

use actix_web::{HttpResponse, web};
use askama::Template;
use serde::Deserialize;

use super::care_words::{self, FindingView};
use super::form::Form;
use super::organizations::{self, Choice};
use super::rollouts::Chip;
use super::shell::{self, Shell};
use crate::audit;
use crate::http::auth::Acting;
use crate::http::body::{Query, query_pair};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::page::{Page, PageQuery};
use crate::http::problem::Problem;
use crate::http::{State, csv};
use crate::maintenance::orders::{self, Kind, New};
use crate::maintenance::{self, BLOCK_ROWS, Device, DueFilter, DueKey, DueTerminal, Error, Reason, Urgency};
use crate::operators::{Caller, Permission};
use crate::organizations::Organization;

pub(super) fn endpoints() -> Vec<Endpoint> {
    let read = Access::Page(Permission::MaintenanceRead);
    vec![
        Endpoint::get("/inspections", read, "", list),
        Endpoint::get("/inspections.csv", read, "", due_table),
        Endpoint::get("/devices.csv", read, "", device_table),
        Endpoint::post("/inspections/order", Access::Page(Permission::MaintenanceWrite), "", order),
    ]
}

/// Filters as the address has them; empty ones are absent.
#[derive(Debug, Clone, Default, Deserialize)]
struct Asked {
    #[serde(default)]
    reason: String,
    #[serde(default)]
    urgency: String,
    #[serde(default)]
    organization_id: String,
    #[serde(default)]
    after: Option<String>,
}

impl Asked {
    fn query(&self, reason: &str, after: Option<&str>) -> String {
        let pairs = [("reason", reason), ("urgency", &self.urgency), ("organization_id", self.organization_id.trim())];
        let given =
            pairs.into_iter().filter(|(_, value)| !value.is_empty()).chain(after.map(|cursor| ("after", cursor)));
        let query: Vec<String> = given.map(|(name, value)| query_pair(name, value)).collect();
        if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) }
    }

    fn filter(&self) -> Result<DueFilter, Problem> {
        let organization_id = match self.organization_id.trim() {
            "" => None,
            id => Some(id.parse().map_err(|_| Problem::invalid("organization_id", "is not a number"))?),
        };
        Ok(DueFilter { organization_id, ..DueFilter::of_names(&self.reason, &self.urgency)? })
    }

    fn is_filtered(&self) -> bool {
        !(self.reason.is_empty() && self.urgency.is_empty() && self.organization_id.trim().is_empty())
    }
}

struct Row {
    terminal_id: i64,
    sn: String,
    model: String,
    place: String,
    organization: String,
    findings: Vec<FindingView>,
    inspected: String,
    inspected_by: String,
    seen: String,
    orders: Vec<i64>,
    /// Reason of its most urgent finding, and the work that this usually asks for.
    reason: &'static str,
    kind: &'static str,
    kind_word: String,
}

#[derive(Template)]
#[template(path = "inspections.html")]
struct InspectionsPage {
    shell: Shell,
    chips: Vec<Chip>,
    reason: String,
    urgencies: Vec<Choice>,
    organizations: Vec<Choice>,
    is_filtered: bool,
    rows: Vec<Row>,
    next: Option<String>,
    table: String,
    may_order: bool,
    may_configure: bool,
}

async fn list(
    shell: Shell,
    state: web::Data<State>,
    caller: Caller,
    Query(asked): Query<Asked>,
) -> Result<HttpResponse, Problem> {
    let page = PageQuery { after: asked.after.clone(), size: None };
    let (size, after) = (page.size()?, page.after::<DueKey>()?);
    let filter = asked.filter()?;
    let scope = caller.scope.clone();
    let (found, counts) = state
        .db
        .read(move |conn| {
            let found = maintenance::list_due(conn, &scope, &filter, after, size + 1)?;
            Ok::<_, Error>((found, maintenance::count_due(conn, &scope)?))
        })
        .await?;
    let tree = organizations::within(&state, caller.scope).await?;
    let page = Page::from_rows(found, size, DueTerminal::key);
    let chip = |name: &str, word: String| Chip {
        href: format!("/inspections{}", asked.query(name, None)),
        word,
        is_current: asked.reason == name,
    };
    let by_reason = counts.into_iter().filter(|(reason, n)| *n > 0 || asked.reason == reason.as_str());
    let by_reason: Vec<Chip> = by_reason
        .map(|(reason, n)| {
            chip(reason.as_str(), format!("{} {}", shell.word("due", reason.as_str()), shell.number(&n)))
        })
        .collect();
    let urgency = |urgency: Urgency| Choice {
        value: urgency.as_str().to_owned(),
        word: shell.word("urgency", urgency.as_str()),
        is_chosen: urgency.as_str() == asked.urgency,
    };
    shell::ok(&InspectionsPage {
        chips: [chip("", shell.say("filter-any"))].into_iter().chain(by_reason).collect(),
        reason: asked.reason.clone(),
        urgencies: Urgency::ALL.map(urgency).into(),
        organizations: organizations::choices(&tree, asked.organization_id.trim().parse().ok()),
        is_filtered: asked.is_filtered(),
        next: page.next.map(|cursor| format!("/inspections{}", asked.query(&asked.reason, Some(&cursor)))),
        table: format!("/inspections.csv{}", asked.query(&asked.reason, None)),
        rows: page.items.into_iter().map(|row| row_of(&shell, &tree, row)).collect(),
        may_order: shell.may(Permission::MaintenanceWrite),
        may_configure: shell.may(Permission::MaintenanceConfigure),
        shell,
    })
}

fn row_of(shell: &Shell, tree: &[Organization], row: DueTerminal) -> Row {
    let first = row.findings.first().map_or(Reason::Age, |finding| finding.reason);
    let kind = Kind::of_reason(first);
    Row {
        findings: row.findings.iter().map(|found| care_words::finding(shell, found)).collect(),
        place: care_words::place(
            row.merchant_name.as_deref().or(row.merchant_no.as_deref()),
            row.store_name.as_deref(),
        ),
        organization: organization(tree, &row.org_path),
        inspected: row
            .inspected_at_ms
            .map_or_else(|| shell.say("due-never-inspected"), |at_ms| shell.moments.day(at_ms)),
        inspected_by: row.inspected_by.unwrap_or_default(),
        seen: row.last_seen_ms.map_or_else(|| "–".to_owned(), |at_ms| shell.moments.ago(at_ms)),
        terminal_id: row.terminal_id,
        sn: row.sn,
        model: row.model,
        orders: row.work_order_ids,
        reason: first.as_str(),
        kind: kind.as_str(),
        kind_word: shell.word("work", kind.as_str()),
    }
}

/// Name of the organization at a path.
pub(super) fn organization(tree: &[Organization], org_path: &str) -> String {
    tree.iter().find(|found| found.path == org_path).map(|found| found.name.clone()).unwrap_or_default()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ordered {
    terminal_id: i64,
    kind: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    note: String,
}

async fn order(
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Form(asked): Form<Ordered>,
) -> Result<HttpResponse, Problem> {
    let new = New {
        terminal_id: asked.terminal_id,
        kind: Kind::parse(&asked.kind).ok_or_else(|| Problem::invalid("kind", "is not known"))?,
        reason: Reason::parse(&asked.reason),
        note: asked.note,
        urgency: None,
        due_in_days: None,
        expected_firmware: None,
    };
    let now = state.clock.now();
    let id = state.db.write(move |conn| orders::open(conn, &caller, &actor, &new, now)).await?;
    Ok(shell::see_other(&format!("/work-orders/{id}?done=order_opened")))
}

async fn due_table(
    shell: Shell,
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Query(asked): Query<Asked>,
) -> Result<HttpResponse, Problem> {
    let filter = asked.filter()?;
    let (scope, first) = (caller.scope.clone(), filter.clone());
    state.db.read(move |conn| maintenance::list_due(conn, &scope, &first, None, 1)).await?;
    audit::export(&state.db, &caller, actor, filter.export(), state.clock.now()).await?;
    let tree = organizations::within(&state, caller.scope.clone()).await?;
    let headings = [
        "SN".to_owned(),
        shell.say("terminal-model"),
        shell.say("terminal-organization"),
        shell.say("terminal-merchant-no"),
        shell.say("terminal-merchant-name"),
        shell.say("terminal-store"),
        shell.say("due-urgency"),
        shell.say("due-why"),
        shell.say("due-inspected"),
        shell.say("due-inspected-by"),
    ];
    let heading = csv::line(&headings);
    let line = move |row: &DueTerminal| due_line(&shell, &tree, row);
    let line = std::rc::Rc::new(line);
    Ok(csv::download("inspections.csv", heading, move |after: Option<DueKey>| {
        let (state, scope, filter, line) = (state.clone(), caller.scope.clone(), filter.clone(), line.clone());
        async move {
            let rows =
                state.db.read(move |conn| maintenance::list_due(conn, &scope, &filter, after, BLOCK_ROWS)).await?;
            let last = rows.last().map(DueTerminal::key);
            Ok::<_, Error>(last.map(|key| (key, rows.iter().map(|row| line(row)).collect())))
        }
    }))
}

fn due_line(shell: &Shell, tree: &[Organization], row: &DueTerminal) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let why: Vec<String> = row
        .findings
        .iter()
        .map(|found| care_words::finding(shell, found))
        .map(|found| format!("{}: {}", found.reason, found.sentence))
        .collect();
    csv::line(&[
        row.sn.clone(),
        row.model.clone(),
        organization(tree, &row.org_path),
        text(&row.merchant_no),
        text(&row.merchant_name),
        text(&row.store_name),
        shell.word("urgency", row.urgency.as_str()),
        why.join("; "),
        row.inspected_at_ms.map(|at_ms| shell.moments.absolute(at_ms)).unwrap_or_default(),
        text(&row.inspected_by),
    ])
}

async fn device_table(
    shell: Shell,
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
) -> Result<HttpResponse, Problem> {
    audit::export(&state.db, &caller, actor, maintenance::devices_export(), state.clock.now()).await?;
    let tree = organizations::within(&state, caller.scope.clone()).await?;
    let headings = [
        shell.say("terminal-model"),
        "SN".to_owned(),
        shell.say("terminal-tusn"),
        shell.say("terminal-organization"),
        shell.say("terminal-merchant-no"),
        shell.say("terminal-merchant-name"),
        shell.say("terminal-store"),
        shell.say("terminal-terminal-no"),
        shell.say("terminal-region"),
        shell.say("terminal-lifecycle"),
        shell.say("terminal-firmware"),
        shell.say("terminal-last-seen"),
        shell.say("due-inspected"),
        shell.say("due-inspected-by"),
        shell.say("due-proof"),
    ];
    let heading = csv::line(&headings);
    let line = std::rc::Rc::new(move |device: &Device| device_line(&shell, &tree, device));
    Ok(csv::download("devices.csv", heading, move |after: Option<i64>| {
        let (state, scope, line) = (state.clone(), caller.scope.clone(), line.clone());
        async move {
            let (after, now) = (after.unwrap_or(0), state.clock.now());
            let rows = state.db.read(move |conn| maintenance::devices(conn, &scope, after, BLOCK_ROWS, now)).await?;
            let last = rows.last().map(|device| device.terminal_id);
            Ok::<_, Error>(last.map(|key| (key, rows.iter().map(|row| line(row)).collect())))
        }
    }))
}

fn device_line(shell: &Shell, tree: &[Organization], device: &Device) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let moment = |at_ms: Option<i64>| at_ms.map(|at_ms| shell.moments.absolute(at_ms)).unwrap_or_default();
    let proof = match (device.inspection_order_id, device.inspection_proven) {
        (Some(id), Some(true)) => shell.with("due-proven-by", "id", id),
        (Some(id), _) => shell.with("due-unproven-by", "id", id),
        (None, _) => String::new(),
    };
    let model = match &device.hardware {
        Some(hardware) => format!("{} {hardware}", device.model),
        None => device.model.clone(),
    };
    csv::line(&[
        model,
        device.sn.clone(),
        text(&device.tusn),
        organization(tree, &device.org_path),
        text(&device.merchant_no),
        text(&device.merchant_name),
        text(&device.store_name),
        text(&device.terminal_no),
        device.region.clone(),
        shell.word("lifecycle", &device.lifecycle),
        device.firmware.clone(),
        moment(device.last_seen_ms),
        moment(device.inspected_at_ms),
        text(&device.inspected_by),
        proof,
    ])
}
