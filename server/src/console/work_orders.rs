//! Work orders: the list, what is not over first; and one order with its checklist, its proof and its story.

use std::collections::BTreeMap;

use actix_web::{HttpResponse, web};
use askama::Template;
use serde::Deserialize;

use super::care_words::{self, CheckView};
use super::form::Form;
use super::inspections;
use super::organizations::{self, Choice};
use super::rollouts::Chip;
use super::shell::{self, Shell};
use super::status::Status;
use crate::http::State;
use crate::http::auth::Acting;
use crate::http::body::{Path, Query, query_pair};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::page::{Page, PageQuery};
use crate::http::problem::Problem;
use crate::maintenance::checklist::{Answer, Answers, Found};
use crate::maintenance::orders::state::{Event, step};
use crate::maintenance::orders::{
    self, Act, Filter, HistoryEntry, Kind, LIVE, NOTE_CHARS_MAX, ProofView, State as OrderState, WorkOrder,
    WorkOrderDetail,
};
use crate::operators::{self, Caller, Operator, Permission, Scope};
use crate::organizations::Organization;

pub(super) fn endpoints() -> Vec<Endpoint> {
    let read = Access::Page(Permission::MaintenanceRead);
    let work = Access::Page(Permission::MaintenanceWork);
    let write = Access::Page(Permission::MaintenanceWrite);
    vec![
        Endpoint::get("/work-orders", read, "", list),
        Endpoint::get("/work-orders/{id}", read, "", show),
        Endpoint::post("/work-orders/{id}/assign", write, "", assign),
        Endpoint::post("/work-orders/{id}/start", work, "", start),
        Endpoint::post("/work-orders/{id}/answer", work, "", answer),
        Endpoint::post("/work-orders/{id}/done", work, "", done),
        Endpoint::post("/work-orders/{id}/close-unproven", write, "", close),
        Endpoint::post("/work-orders/{id}/cancel", write, "", cancel),
        Endpoint::post("/work-orders/{id}/note", work, "", note),
    ]
}

/// In an address, for orders in any state.
const ALL: &str = "all";
/// People that a choice on the form offers.
const PEOPLE_MAX: u32 = 100;
/// What the names of form fields begin with: the answer to an item, and the note on it.
const ANSWER_LEAD: &str = "a.";
const NOTE_LEAD: &str = "n.";

/// One order as lists show it.
pub(super) struct Row {
    pub(super) id: i64,
    pub(super) what: String,
    pub(super) why: String,
    pub(super) class: &'static str,
    pub(super) urgency: String,
    pub(super) status: Status,
    pub(super) sn: String,
    pub(super) place: String,
    pub(super) organization: String,
    pub(super) assignee: String,
    pub(super) due: String,
    pub(super) due_at: String,
}

#[derive(Template)]
#[template(path = "work_orders.html")]
struct OrdersPage {
    shell: Shell,
    chips: Vec<Chip>,
    state: String,
    kinds: Vec<Choice>,
    organizations: Vec<Choice>,
    is_mine: bool,
    is_filtered: bool,
    rows: Vec<Row>,
    next: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Asked {
    #[serde(default)]
    state: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    organization_id: String,
    /// `1`: given to the reader.
    #[serde(default)]
    mine: String,
    #[serde(default)]
    after: Option<String>,
}

impl Asked {
    fn state(&self) -> &str {
        if self.state.is_empty() { LIVE } else { &self.state }
    }

    fn is_mine(&self) -> bool {
        self.mine == "1"
    }

    fn filter(&self, caller: &Caller) -> Result<Filter, Problem> {
        let state = if self.state() == ALL { "" } else { self.state() };
        let organization_id = match self.organization_id.trim() {
            "" => None,
            id => Some(id.parse().map_err(|_| Problem::invalid("organization_id", "is not a number"))?),
        };
        let assignee_id = self.is_mine().then_some(caller.id);
        Ok(Filter { organization_id, assignee_id, ..Filter::of_names(state, &self.kind)? })
    }

    fn address(&self, state: &str, after: Option<&str>) -> String {
        let mine = if self.is_mine() { "1" } else { "" };
        let pairs =
            [("state", state), ("kind", &self.kind), ("organization_id", self.organization_id.trim()), ("mine", mine)];
        let given =
            pairs.into_iter().filter(|(_, value)| !value.is_empty()).chain(after.map(|cursor| ("after", cursor)));
        let query: Vec<String> = given.map(|(name, value)| query_pair(name, value)).collect();
        format!("/work-orders?{}", query.join("&"))
    }
}

async fn list(
    shell: Shell,
    state: web::Data<State>,
    caller: Caller,
    Query(asked): Query<Asked>,
) -> Result<HttpResponse, Problem> {
    let page = PageQuery { after: asked.after.clone(), size: None };
    let (size, before) = (page.size()?, page.after::<i64>()?);
    let filter = asked.filter(&caller)?;
    let scope = caller.scope.clone();
    let found = state.db.read(move |conn| orders::list(conn, &scope, &filter, before, size + 1)).await?;
    let tree = organizations::within(&state, caller.scope).await?;
    let page = Page::from_rows(found, size, |order| order.id);
    let names = [LIVE].into_iter().chain(OrderState::ALL.map(OrderState::as_str)).chain([ALL]);
    let chip = |name: &str| Chip {
        href: asked.address(name, None),
        word: if name == ALL { shell.say("filter-any") } else { shell.word("order", name) },
        is_current: asked.state() == name,
    };
    let kind = |kind: Kind| Choice {
        value: kind.as_str().to_owned(),
        word: shell.word("work", kind.as_str()),
        is_chosen: kind.as_str() == asked.kind,
    };
    shell::ok(&OrdersPage {
        chips: names.map(chip).collect(),
        state: asked.state().to_owned(),
        kinds: Kind::ALL.map(kind).into(),
        organizations: organizations::choices(&tree, asked.organization_id.trim().parse().ok()),
        is_mine: asked.is_mine(),
        is_filtered: !asked.kind.is_empty() || !asked.organization_id.is_empty() || asked.is_mine(),
        next: page.next.map(|cursor| asked.address(asked.state(), Some(&cursor))),
        rows: page.items.iter().map(|order| row(&shell, &tree, order)).collect(),
        shell,
    })
}

pub(super) fn row(shell: &Shell, tree: &[Organization], order: &WorkOrder) -> Row {
    Row {
        id: order.id,
        what: shell.word("work", order.kind.as_str()),
        why: why(shell, order),
        class: care_words::class(order.urgency),
        urgency: shell.word("urgency", order.urgency.as_str()),
        status: care_words::order_status(shell, order),
        sn: order.sn.clone(),
        place: care_words::place(order.merchant_name.as_deref(), order.store_name.as_deref()),
        organization: inspections::organization(tree, &order.org_path),
        assignee: order.assignee_name.clone().unwrap_or_else(|| shell.say("order-nobody")),
        due: care_words::due(shell, order),
        due_at: shell.moments.absolute(order.due_ms),
    }
}

fn why(shell: &Shell, order: &WorkOrder) -> String {
    match (order.reason, order.incident_id) {
        (Some(reason), _) => shell.word("due", reason.as_str()),
        (None, Some(id)) => shell.with("order-for-incident", "id", id),
        (None, None) => String::new(),
    }
}

/// One item of a checklist with what was found.
pub(super) struct ItemView {
    pub(super) id: String,
    pub(super) text: String,
    pub(super) required: bool,
    /// Name, word, whether it is the answer.
    pub(super) answers: Vec<(&'static str, String, bool)>,
    pub(super) note: String,
}

pub(super) fn items(shell: &Shell, detail: &WorkOrderDetail) -> Vec<ItemView> {
    let is_chinese = shell.language == super::i18n::Language::Chinese;
    let item = |item: &crate::maintenance::checklist::Item| {
        let given = detail.answers.get(&item.id);
        let answer = |found: Found| {
            (found.as_str(), shell.word("found", found.as_str()), given.is_some_and(|given| given.found == found))
        };
        ItemView {
            id: item.id.clone(),
            text: if is_chinese { item.zh.clone() } else { item.en.clone() },
            required: item.required,
            answers: Found::ALL.map(answer).into(),
            note: given.map(|given| given.note.clone()).unwrap_or_default(),
        }
    };
    detail.checklist.items.iter().map(item).collect()
}

/// Answers from a form's fields, and what is left of them.
///
/// # Errors
/// 422 for an answer that is none.
pub(super) fn answers(fields: BTreeMap<String, String>) -> Result<(Answers, BTreeMap<String, String>), Problem> {
    let mut answers = Answers::new();
    let mut rest = BTreeMap::new();
    for (name, value) in &fields {
        if let Some(id) = name.strip_prefix(ANSWER_LEAD) {
            let found = Found::parse(value).ok_or_else(|| Problem::invalid("answers", "is not known"))?;
            let note = fields.get(&format!("{NOTE_LEAD}{id}")).cloned().unwrap_or_default();
            answers.insert(id.to_owned(), Answer { found, note });
        } else if !name.starts_with(NOTE_LEAD) {
            rest.insert(name.clone(), value.clone());
        }
    }
    Ok((answers, rest))
}

/// A check-in as it was judged.
struct ProofShown {
    at: String,
    checks: Vec<CheckView>,
}

struct Line {
    status: Status,
    who: String,
    note: String,
    at: String,
    ago: String,
    checks: Vec<CheckView>,
}

#[derive(Template)]
#[template(path = "work_order.html")]
struct OrderPage {
    shell: Shell,
    id: i64,
    title: String,
    status: Status,
    urgency: String,
    class: &'static str,
    due: String,
    sn: String,
    facts: Vec<(String, String)>,
    incident_id: Option<i64>,
    waits: Option<String>,
    proof: Option<ProofShown>,
    items: Vec<ItemView>,
    is_replacement: bool,
    may_assign: bool,
    may_start: bool,
    may_answer: bool,
    may_done: bool,
    may_close: bool,
    may_cancel: bool,
    may_note: bool,
    people: Vec<Choice>,
    note_chars_max: usize,
    lines: Vec<Line>,
}

async fn show(
    shell: Shell,
    state: web::Data<State>,
    caller: Caller,
    Path(id): Path<i64>,
) -> Result<HttpResponse, Problem> {
    let scope = caller.scope.clone();
    let detail = state.db.read(move |conn| orders::get(conn, &scope, id)).await?;
    let tree = organizations::within(&state, caller.scope.clone()).await?;
    let people = if shell.may(Permission::MaintenanceWrite) {
        operators::list(&state.db, &caller.scope, None, PEOPLE_MAX).await?
    } else {
        Vec::new()
    };
    shell::ok(&assemble(shell, detail, &tree, &people))
}

fn assemble(shell: Shell, detail: WorkOrderDetail, tree: &[Organization], people: &[Operator]) -> OrderPage {
    let order = &detail.order;
    let may = |event, permission| {
        shell.may(permission) && OrderState::parse(&order.state).is_some_and(|state| step(state, event).is_ok())
    };
    let (work, write) = (Permission::MaintenanceWork, Permission::MaintenanceWrite);
    let is_waiting = order.state == OrderState::WaitingForProof.as_str();
    let waits = is_waiting.then(|| {
        let until = order.deadline_ms.map(|at_ms| shell.moments.absolute(at_ms)).unwrap_or_default();
        shell.with("order-waits", "until", until)
    });
    let able = |person: &&Operator| {
        person.status == operators::Status::Active
            && person.role.allows(work)
            && Scope::subtree(person.org_path.clone()).contains(&order.org_path)
    };
    let choice = |person: &Operator| Choice {
        value: person.id.to_string(),
        word: format!("{} ({})", person.name, person.login),
        is_chosen: order.assignee_id == Some(person.id),
    };
    OrderPage {
        id: order.id,
        title: shell.word("work", order.kind.as_str()),
        status: care_words::order_status(&shell, order),
        urgency: shell.word("urgency", order.urgency.as_str()),
        class: care_words::class(order.urgency),
        due: care_words::due(&shell, order),
        sn: order.sn.clone(),
        facts: facts(&shell, &detail, tree),
        incident_id: order.incident_id.filter(|_| shell.may(Permission::IncidentsRead)),
        waits,
        proof: detail.proof.as_ref().map(|proof| proof_shown(&shell, proof)),
        items: items(&shell, &detail),
        is_replacement: order.kind == Kind::ReplaceTerminal,
        may_assign: may(Event::Assign, write),
        may_start: may(Event::Start, work),
        may_answer: may(Event::Answer, work),
        may_done: may(Event::Done, work),
        may_close: may(Event::CloseUnproven, write),
        may_cancel: may(Event::Cancel, write),
        may_note: may(Event::Note, work),
        people: people.iter().filter(able).map(choice).collect(),
        note_chars_max: NOTE_CHARS_MAX,
        lines: detail.history.iter().map(|entry| line(&shell, entry)).collect(),
        shell,
    }
}

fn proof_shown(shell: &Shell, proof: &ProofView) -> ProofShown {
    ProofShown {
        at: shell.moments.absolute(proof.received_at_ms),
        checks: proof.checks.iter().map(|check| care_words::check(shell, check)).collect(),
    }
}

fn line(shell: &Shell, entry: &HistoryEntry) -> Line {
    let checks = entry.proof.iter().flat_map(|proof| &proof.checks);
    Line {
        status: care_words::event_status(shell, &entry.event),
        who: match entry.actor_kind.as_str() {
            "system" => shell.word("actor", "system"),
            _ => entry.actor_name.clone(),
        },
        note: entry.note.clone(),
        at: shell.moments.absolute(entry.at_ms),
        ago: shell.moments.ago(entry.at_ms),
        checks: checks.map(|check| care_words::check(shell, check)).collect(),
    }
}

fn facts(shell: &Shell, detail: &WorkOrderDetail, tree: &[Organization]) -> Vec<(String, String)> {
    let order = &detail.order;
    let moment = |at_ms| format!("{} · {}", shell.moments.absolute(at_ms), shell.moments.ago(at_ms));
    let by = if order.opened_by == "maintenance" { shell.say("order-by-rule") } else { order.opened_by.clone() };
    let origin = match detail.checklist.organization_id {
        Some(id) => tree.iter().find(|found| found.id == id).map_or_else(|| id.to_string(), |found| found.name.clone()),
        None => shell.say("care-built-in"),
    };
    let edition = shell.language.with_two(
        "order-checklist-edition",
        ("origin", &origin),
        ("version", &detail.checklist.version.to_string()),
    );
    let mut facts = vec![
        (shell.say("order-why"), why(shell, order)),
        (
            shell.say("terminal-merchant"),
            care_words::place(order.merchant_name.as_deref(), order.store_name.as_deref()),
        ),
        (shell.say("terminal-organization"), inspections::organization(tree, &order.org_path)),
        (shell.say("order-assignee"), order.assignee_name.clone().unwrap_or_else(|| shell.say("order-nobody"))),
        (shell.say("order-opened-by"), by),
        (shell.say("order-opened"), moment(order.opened_at_ms)),
        (shell.say("order-checklist"), edition),
    ];
    if let Some(done) = &detail.done {
        facts.push((shell.say("order-said-done"), format!("{} · {}", done.by, moment(done.at_ms))));
    }
    if let Some(sn) = &detail.replacement_sn {
        facts.push((shell.say("order-replacement"), sn.clone()));
    }
    if let Some(version) = &detail.expected_firmware {
        facts.push((shell.say("order-firmware"), version.clone()));
    }
    if let Some(at_ms) = order.closed_at_ms {
        facts.push((shell.say("order-closed-at"), moment(at_ms)));
    }
    facts.into_iter().filter(|(_, value)| !value.is_empty()).collect()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    #[serde(default)]
    note: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Assigned {
    #[serde(default)]
    operator_id: Option<i64>,
}

async fn assign(
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Path(id): Path<i64>,
    Form(asked): Form<Assigned>,
) -> Result<HttpResponse, Problem> {
    let now = state.clock.now();
    orders::assign(&state.db, caller, actor, id, asked.operator_id, String::new(), now).await?;
    Ok(back(id, "order_assigned"))
}

async fn start(
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Form(said): Form<Said>,
) -> Result<HttpResponse, Problem> {
    act(&state, acting, id, vec![(Act::Start, said.note)], "order_started").await
}

async fn answer(
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Form(fields): Form<BTreeMap<String, String>>,
) -> Result<HttpResponse, Problem> {
    let (answers, rest) = answers(fields)?;
    let said = rest.get("note").map(|note| (Act::Note, note.clone()));
    let acts = [(Act::Answer(answers), String::new())].into_iter().chain(said).collect();
    act(&state, acting, id, acts, "order_answered").await
}

async fn done(
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Form(fields): Form<BTreeMap<String, String>>,
) -> Result<HttpResponse, Problem> {
    act(&state, acting, id, done_of(fields)?, "order_done").await
}

/// What a form says that somebody did who is done: answers, note, and for a replacement the other terminal.
///
/// # Errors
/// 422 for an answer that is none.
pub(super) fn done_of(fields: BTreeMap<String, String>) -> Result<Vec<(Act, String)>, Problem> {
    let (answers, mut rest) = answers(fields)?;
    let note = rest.remove("note").unwrap_or_default();
    Ok(orders::done_with(answers, rest.remove("replacement_sn"), note))
}

async fn close(
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Form(said): Form<Said>,
) -> Result<HttpResponse, Problem> {
    act(&state, acting, id, vec![(Act::CloseUnproven, said.note)], "order_closed").await
}

async fn cancel(
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Form(said): Form<Said>,
) -> Result<HttpResponse, Problem> {
    act(&state, acting, id, vec![(Act::Cancel, said.note)], "order_cancelled").await
}

async fn note(
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Form(said): Form<Said>,
) -> Result<HttpResponse, Problem> {
    act(&state, acting, id, vec![(Act::Note, said.note)], "noted").await
}

async fn act(
    state: &State,
    Acting { caller, actor }: Acting,
    id: i64,
    acts: Vec<(Act, String)>,
    done: &str,
) -> Result<HttpResponse, Problem> {
    let now = state.clock.now();
    state.db.write(move |conn| orders::act_all(conn, &caller, &actor, id, &acts, now)).await?;
    Ok(back(id, done))
}

fn back(id: i64, done: &str) -> HttpResponse {
    shell::see_other(&format!("/work-orders/{id}?done={done}"))
}
