//! On site, on a phone: find the terminal, see how it is and what to try, work through the checklist, say that it is done.

use std::collections::BTreeMap;

use actix_web::{HttpResponse, web};
use askama::Template;
use serde::Deserialize;

use super::care_words::{self, FindingView};
use super::form::Form;
use super::organizations;
use super::shell::{self, Shell};
use super::status::{Status, Tone};
use super::why::{self, Facts};
use super::work_orders::{self, ItemView, Row};
use crate::failures;
use crate::http::State;
use crate::http::auth::Acting;
use crate::http::body::{Path, Query};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::problem::Problem;
use crate::maintenance::orders::{self, Act, Kind, NOTE_CHARS_MAX, New, State as OrderState, WorkOrder};
use crate::maintenance::{self, DueFilter, Error};
use crate::operators::{Caller, Permission};
use crate::terminals::list::{Filter, Sort, list as find, row};
use crate::terminals::{self, id_of_sn};

pub(super) fn endpoints() -> Vec<Endpoint> {
    let read = Access::Page(Permission::MaintenanceRead);
    let work = Access::Page(Permission::MaintenanceWork);
    vec![
        Endpoint::get("/m", read, "", home),
        Endpoint::get("/m/{sn}", read, "", show),
        Endpoint::post("/m/{sn}/begin", work, "", begin),
        Endpoint::post("/m/{sn}/orders/{id}/done", work, "", done),
    ]
}

/// Terminals that a search lists: a phone's screen.
const FOUND_MAX: usize = 10;
/// Orders that nobody has which are offered.
const OFFERED_MAX: u32 = 10;
/// Orders of one terminal that are shown.
const ORDERS_MAX: u32 = 10;
/// Failures that are looked at for what is the matter.
const FAILURES_MAX: u32 = 20;

struct FoundRow {
    sn: String,
    place: String,
    status: Status,
}

#[derive(Template)]
#[template(path = "field.html")]
struct HomePage {
    shell: Shell,
    q: String,
    found: Option<Vec<FoundRow>>,
    mine: Vec<Row>,
    offered: Vec<Row>,
}

#[derive(Debug, Deserialize)]
struct Sought {
    #[serde(default)]
    q: String,
}

/// A whole serial number, or an end of one that one terminal alone has, leads straight to it.
async fn home(
    shell: Shell,
    state: web::Data<State>,
    caller: Caller,
    Query(Sought { q }): Query<Sought>,
) -> Result<HttpResponse, Problem> {
    let (text, now, scope) = (q.trim().to_owned(), shell.moments.now(), caller.scope.clone());
    let filter = Filter { q: Some(text.clone()).filter(|text| !text.is_empty()), ..Filter::default() };
    let operator_id = caller.id;
    let (found, mine, offered) = state
        .db
        .read(move |conn| {
            let found = match &filter.q {
                None => None,
                Some(_) => Some(find(conn, &scope, &filter, Sort::Id, None, FOUND_MAX, now)?),
            };
            let mine = orders::mine(conn, &scope, operator_id)?;
            let open = orders::Filter { states: vec![OrderState::Open], ..orders::Filter::default() };
            Ok::<_, Problem>((found, mine, orders::list(conn, &scope, &open, None, OFFERED_MAX)?))
        })
        .await?;
    if let Some([only]) = found.as_deref() {
        return Ok(shell::see_other(&format!("/m/{}", only.sn)));
    }
    let tree = organizations::within(&state, caller.scope).await?;
    let rows = |orders: &[WorkOrder]| orders.iter().map(|order| work_orders::row(&shell, &tree, order)).collect();
    let found = found.map(|rows| {
        let row = |row: &terminals::TerminalRow| FoundRow {
            sn: row.sn.clone(),
            place: care_words::place(row.merchant_name.as_deref(), row.store_name.as_deref()),
            status: connection(&shell, row.connection.as_str()),
        };
        rows.iter().map(row).collect()
    });
    shell::ok(&HomePage { q: text, found, mine: rows(&mine), offered: rows(&offered), shell })
}

fn connection(shell: &Shell, name: &str) -> Status {
    Status { tone: Tone::of_connection(name), word: shell.word("connection", name) }
}

/// One order as the phone shows it: open to be worked on, or waiting.
struct OrderCard {
    id: i64,
    what: String,
    status: Status,
    due: String,
    waits: Option<String>,
    items: Vec<ItemView>,
    is_replacement: bool,
    may_done: bool,
}

#[derive(Template)]
#[template(path = "field_terminal.html")]
struct TerminalPage {
    shell: Shell,
    sn: String,
    model: String,
    place: String,
    status: Status,
    seen: String,
    tone: &'static str,
    sentences: Vec<String>,
    findings: Vec<FindingView>,
    orders: Vec<OrderCard>,
    may_begin: bool,
    note_chars_max: usize,
}

async fn show(
    shell: Shell,
    state: web::Data<State>,
    caller: Caller,
    Path(sn): Path<String>,
) -> Result<HttpResponse, Problem> {
    let (now, scope, wanted) = (shell.moments.now(), caller.scope.clone(), sn.clone());
    let (terminal, row, failed, due, details) = state
        .db
        .read(move |conn| {
            let id = id_of_sn(conn, &scope, &wanted)?.ok_or_else(Problem::not_found)?;
            let filter = failures::Filter { terminal_id: Some(id), ..failures::Filter::default() };
            let failed = failures::list(conn, &scope, &filter, None, FAILURES_MAX)?;
            let due = DueFilter { terminal_id: Some(id), ..DueFilter::default() };
            let due = maintenance::list_due(conn, &scope, &due, None, 1)?;
            let live = orders::Filter {
                states: OrderState::LIVE.to_vec(),
                terminal_id: Some(id),
                ..orders::Filter::default()
            };
            let live = orders::list(conn, &scope, &live, None, ORDERS_MAX)?;
            let details =
                live.iter().map(|order| orders::get(conn, &scope, order.id)).collect::<Result<Vec<_>, _>>()?;
            Ok::<_, Problem>((terminals::get(conn, &scope, id)?, row(conn, &scope, id, now)?, failed, due, details))
        })
        .await?;
    let facts = Facts {
        terminal: &terminal,
        row: &row,
        failures: &failed,
        failures_max: usize::try_from(FAILURES_MAX).unwrap_or(usize::MAX),
        latest: None,
        live: None,
    };
    let (tone, sentences) = why::sentences(&shell, &facts);
    let may_work = shell.may(Permission::MaintenanceWork);
    let cards: Vec<OrderCard> = details.iter().map(|detail| card(&shell, detail, may_work)).collect();
    let has_inspection = details.iter().any(|detail| detail.order.kind == Kind::Inspection);
    shell::ok(&TerminalPage {
        sn,
        model: row.model.clone(),
        place: care_words::place(row.merchant_name.as_deref(), row.store_name.as_deref()),
        status: connection(&shell, row.connection.as_str()),
        seen: row.last_seen_ms.map_or_else(|| shell.say("terminal-never-seen"), |at_ms| shell.moments.ago(at_ms)),
        tone,
        sentences,
        findings: due.iter().flat_map(|due| &due.findings).map(|found| care_words::finding(&shell, found)).collect(),
        orders: cards,
        may_begin: may_work && !has_inspection,
        note_chars_max: NOTE_CHARS_MAX,
        shell,
    })
}

fn card(shell: &Shell, detail: &orders::WorkOrderDetail, may_work: bool) -> OrderCard {
    let order = &detail.order;
    let is_waiting = order.state == OrderState::WaitingForProof.as_str();
    OrderCard {
        id: order.id,
        what: shell.word("work", order.kind.as_str()),
        status: care_words::order_status(shell, order),
        due: care_words::due(shell, order),
        waits: is_waiting.then(|| {
            let until = order.deadline_ms.map(|at_ms| shell.moments.absolute(at_ms)).unwrap_or_default();
            shell.with("order-waits", "until", until)
        }),
        items: work_orders::items(shell, detail),
        is_replacement: order.kind == Kind::ReplaceTerminal,
        may_done: may_work && !is_waiting,
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Who stands before a terminal may always inspect it.
async fn begin(
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Path(sn): Path<String>,
    Form(Nothing {}): Form<Nothing>,
) -> Result<HttpResponse, Problem> {
    let (now, wanted) = (state.clock.now(), sn.clone());
    state
        .db
        .write(move |conn| {
            let terminal_id = id_of_sn(conn, &caller.scope, &wanted)?.ok_or(Error::NotFound)?;
            let new = New {
                terminal_id,
                kind: Kind::Inspection,
                reason: None,
                note: String::new(),
                urgency: None,
                due_in_days: None,
                expected_firmware: None,
            };
            let id = orders::open(conn, &caller, &actor, &new, now)?;
            orders::act(conn, &caller, &actor, id, &Act::Start, "", now)
        })
        .await?;
    Ok(shell::see_other(&format!("/m/{sn}?done=order_started")))
}

async fn done(
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Path((sn, id)): Path<(String, i64)>,
    Form(fields): Form<BTreeMap<String, String>>,
) -> Result<HttpResponse, Problem> {
    let (now, acts) = (state.clock.now(), work_orders::done_of(fields)?);
    state.db.write(move |conn| orders::act_all(conn, &caller, &actor, id, &acts, now)).await?;
    Ok(shell::see_other(&format!("/m/{sn}?done=order_done")))
}
