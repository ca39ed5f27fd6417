//! REST of maintenance: what is due, work orders, checklists and thresholds, operators' guidance.

use std::collections::BTreeMap;

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};

use super::checklist::{Answer, Checklist};
use super::due::{Finding, Observed};
use super::guidance::{self, Key, StoreGuidance, StoreOf};
use super::list::BLOCK_ROWS;
use super::orders::{self, Act, Filter, Kind, New, WorkOrder, WorkOrderDetail};
use super::{ChecklistChange, Device, DueFilter, DueKey, DueTerminal, Error, RulesChange, RulesInForce};
use crate::audit;
use crate::clock::Now;
use crate::http::auth::Acting;
use crate::http::body::{Json, Path, Query};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::page::{Page, PageQuery};
use crate::http::problem::{Problem, sentence};
use crate::http::{State, csv};
use crate::operators::{Caller, Permission};

const READ: Access = Access::Operator(Permission::MaintenanceRead);
const WORK: Access = Access::Operator(Permission::MaintenanceWork);
const WRITE: Access = Access::Operator(Permission::MaintenanceWrite);
const CONFIGURE: Access = Access::Operator(Permission::MaintenanceConfigure);

/// This domain's rows of the endpoint table.
pub fn endpoints() -> Vec<Endpoint> {
    [due_endpoints(), order_endpoints(), settings_endpoints(), guidance_endpoints()].into_iter().flatten().collect()
}

fn due_endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/api/v1/inspections", READ, "Terminals that are due for inspection, most urgent first", due)
            .query::<DueQuery>()
            .returns::<Page<DueTerminal>>(200, "A page of terminals, each with its findings"),
        Endpoint::get("/api/v1/inspections.csv", READ, "The same as a table", due_table)
            .query::<DueQuery>()
            .returns_empty(200, "CSV in UTF-8 with a byte order mark"),
        Endpoint::get(
            "/api/v1/device-list",
            READ,
            "Every device with place and last inspection (PCI DSS 9.5.1.1)",
            devices,
        )
        .query::<PageQuery>()
        .returns::<Page<Device>>(200, "A page of devices"),
        Endpoint::get("/api/v1/device-list.csv", READ, "The same as a table", device_table)
            .returns_empty(200, "CSV in UTF-8 with a byte order mark"),
    ]
}

fn order_endpoints() -> Vec<Endpoint> {
    let detail = |endpoint: Endpoint| endpoint.returns::<WorkOrderDetail>(200, "The work order as it is now");
    vec![
        Endpoint::get("/api/v1/work-orders", READ, "Work orders of your organizations, newest first", list)
            .query::<OrderQuery>()
            .returns::<Page<WorkOrder>>(200, "A page of work orders"),
        Endpoint::post("/api/v1/work-orders", WRITE, "Opens a work order", open)
            .body::<New>()
            .returns::<WorkOrderDetail>(201, "The work order"),
        detail(Endpoint::get("/api/v1/work-orders/{id}", READ, "One work order with its story and proof", get)),
        detail(
            Endpoint::post("/api/v1/work-orders/{id}/assign", WRITE, "Gives a work order to somebody", assign)
                .body::<Assignment>(),
        ),
        detail(Endpoint::post("/api/v1/work-orders/{id}/start", WORK, "Begins the work", start).body::<Said>()),
        detail(
            Endpoint::post("/api/v1/work-orders/{id}/answer", WORK, "Answers checklist items", answer)
                .body::<Answered>(),
        ),
        detail(
            Endpoint::post(
                "/api/v1/work-orders/{id}/done",
                WORK,
                "Says that it is done; a check-in must prove it",
                done,
            )
            .body::<SaidDone>(),
        ),
        detail(
            Endpoint::post("/api/v1/work-orders/{id}/close-unproven", WRITE, "Closes it without a proof", close)
                .body::<Said>(),
        ),
        detail(Endpoint::post("/api/v1/work-orders/{id}/cancel", WRITE, "Cancels a work order", cancel).body::<Said>()),
        detail(Endpoint::post("/api/v1/work-orders/{id}/note", WORK, "Adds to its story", note).body::<Said>()),
    ]
}

fn settings_endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/api/v1/maintenance-rules/{id}", READ, "Thresholds in force for an organization", rules)
            .returns::<RulesInForce>(200, "The thresholds"),
        Endpoint::post(
            "/api/v1/maintenance-rules/{id}",
            CONFIGURE,
            "Gives an organization its own thresholds",
            put_rules,
        )
        .body::<RulesChange>()
        .returns::<RulesInForce>(200, "The thresholds"),
        Endpoint::get("/api/v1/checklists/{id}/{kind}", READ, "The checklist in force for an organization", checklist)
            .returns::<Checklist>(200, "The checklist"),
        Endpoint::post(
            "/api/v1/checklists/{id}/{kind}",
            CONFIGURE,
            "A new edition of an organization's own checklist",
            put_checklist,
        )
        .body::<ChecklistChange>()
        .returns::<Checklist>(200, "The checklist"),
    ]
}

fn guidance_endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/api/v1/guidance", READ, "Operators' errors by store, compared with like stores", stores)
            .query::<GuidanceQuery>()
            .returns::<Page<StoreGuidance>>(200, "A page of stores"),
        Endpoint::get("/api/v1/guidance.csv", READ, "The same as a table", store_table)
            .query::<GuidanceQuery>()
            .returns_empty(200, "CSV in UTF-8 with a byte order mark"),
        Endpoint::post("/api/v1/guidance/teach", WRITE, "Opens a work order to teach the people of a store", teach)
            .body::<StoreOf>()
            .returns::<WorkOrderDetail>(201, "The work order"),
    ]
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound => Self::not_found(),
            Error::Field(error) => Self::from(error),
            Error::Refused(_) | Error::Exists(_) | Error::Raced => Self::conflict(sentence(&error)),
            Error::Db(error) => Self::from(error),
        }
    }
}

/// Which terminals that are due.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct DueQuery {
    /// `next` of the page before.
    #[serde(default)]
    after: Option<String>,
    /// Rows on the page, 1–100; 20 when absent.
    #[serde(default)]
    size: Option<u32>,
    /// Only for this reason: `tamper`, `moved`, `reader`, `printer`, `battery`, `coin_cell`, `certificate`, `sim`, `dormant`
    /// or `age`.
    #[serde(default)]
    reason: Option<String>,
    /// At least so urgent: `planned`, `soon` or `now`.
    #[serde(default)]
    urgency: Option<String>,
    /// Only of this organization and all below it.
    #[serde(default)]
    organization_id: Option<i64>,
}

impl DueQuery {
    fn filter(&self) -> Result<DueFilter, Problem> {
        let name = |value: &Option<String>| value.clone().unwrap_or_default();
        let named = DueFilter::of_names(&name(&self.reason), &name(&self.urgency))?;
        Ok(DueFilter { organization_id: self.organization_id, ..named })
    }
}

async fn due(
    state: web::Data<State>,
    caller: Caller,
    Query(query): Query<DueQuery>,
) -> Result<web::Json<Page<DueTerminal>>, Problem> {
    let filter = query.filter()?;
    let page = PageQuery { after: query.after, size: query.size };
    let (size, after) = (page.size()?, page.after::<DueKey>()?);
    let rows = state.db.read(move |conn| super::list_due(conn, &caller.scope, &filter, after, size + 1)).await?;
    Ok(web::Json(Page::from_rows(rows, size, DueTerminal::key)))
}

async fn due_table(
    state: web::Data<State>,
    acting: Acting,
    Query(query): Query<DueQuery>,
) -> Result<HttpResponse, Problem> {
    const HEADINGS: [&str; 10] = [
        "sn",
        "model",
        "org_path",
        "merchant_no",
        "merchant_name",
        "store_name",
        "urgency",
        "findings",
        "inspected_at_ms",
        "inspected_by",
    ];
    let row = |row: &DueTerminal| {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let findings: Vec<String> = row.findings.iter().map(finding).collect();
        csv::line(&[
            row.sn.clone(),
            row.model.clone(),
            row.org_path.clone(),
            text(&row.merchant_no),
            text(&row.merchant_name),
            text(&row.store_name),
            row.urgency.as_str().to_owned(),
            findings.join("; "),
            number(row.inspected_at_ms),
            text(&row.inspected_by),
        ])
    };
    due_file(&state, acting, query.filter()?, csv::line(&HEADINGS), row).await
}

fn number(value: Option<i64>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

fn finding(finding: &Finding) -> String {
    let observed = match &finding.observed {
        Observed::Number(number) => number.to_string(),
        Observed::Share { errors, n } => format!("{errors}/{n}"),
        Observed::Word(word) => word.clone(),
    };
    format!("{} {observed} ({})", finding.reason.as_str(), finding.threshold)
}

/// The list of what is due as a file, each row written by `row`; who takes it along is noted first.
///
/// # Errors
/// 422 for an organization outside the caller's.
async fn due_file(
    state: &web::Data<State>,
    Acting { caller, actor }: Acting,
    filter: DueFilter,
    heading: String,
    row: impl Fn(&DueTerminal) -> String + Clone + 'static,
) -> Result<HttpResponse, Problem> {
    let (scope, asked) = (caller.scope.clone(), filter.clone());
    state.db.read(move |conn| super::list_due(conn, &scope, &asked, None, 1)).await?;
    audit::export(&state.db, &caller, actor, filter.export(), state.clock.now()).await?;
    let state = state.clone();
    Ok(csv::download("inspections.csv", heading, move |after: Option<DueKey>| {
        let (state, scope, filter, row) = (state.clone(), caller.scope.clone(), filter.clone(), row.clone());
        async move {
            let rows = state.db.read(move |conn| super::list_due(conn, &scope, &filter, after, BLOCK_ROWS)).await?;
            Ok::<_, Error>(rows.last().map(DueTerminal::key).map(|key| (key, rows.iter().map(row).collect())))
        }
    }))
}

async fn devices(
    state: web::Data<State>,
    caller: Caller,
    Query(page): Query<PageQuery>,
) -> Result<web::Json<Page<Device>>, Problem> {
    let (size, after) = (page.size()?, page.after::<i64>()?.unwrap_or(0));
    let now = state.clock.now();
    let rows = state.db.read(move |conn| super::devices(conn, &caller.scope, after, size + 1, now)).await?;
    Ok(web::Json(Page::from_rows(rows, size, |device| device.terminal_id)))
}

async fn device_table(state: web::Data<State>, Acting { caller, actor }: Acting) -> Result<HttpResponse, Problem> {
    const HEADINGS: [&str; 17] = [
        "model",
        "hardware",
        "sn",
        "tusn",
        "org_path",
        "merchant_no",
        "merchant_name",
        "store_name",
        "terminal_no",
        "region",
        "lifecycle",
        "firmware",
        "last_seen_ms",
        "inspected_at_ms",
        "inspected_by",
        "work_order_id",
        "proven",
    ];
    let row = |device: &Device| {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        csv::line(&[
            device.model.clone(),
            text(&device.hardware),
            device.sn.clone(),
            text(&device.tusn),
            device.org_path.clone(),
            text(&device.merchant_no),
            text(&device.merchant_name),
            text(&device.store_name),
            text(&device.terminal_no),
            device.region.clone(),
            device.lifecycle.clone(),
            device.firmware.clone(),
            number(device.last_seen_ms),
            number(device.inspected_at_ms),
            text(&device.inspected_by),
            number(device.inspection_order_id),
            device.inspection_proven.map(|proven| proven.to_string()).unwrap_or_default(),
        ])
    };
    audit::export(&state.db, &caller, actor, super::devices_export(), state.clock.now()).await?;
    Ok(device_file(&state, caller, csv::line(&HEADINGS), row))
}

/// The list of devices as a file, each row written by `row`.
fn device_file(
    state: &web::Data<State>,
    caller: Caller,
    heading: String,
    row: impl Fn(&Device) -> String + Clone + 'static,
) -> HttpResponse {
    let state = state.clone();
    csv::download("devices.csv", heading, move |after: Option<i64>| {
        let (state, scope, row) = (state.clone(), caller.scope.clone(), row.clone());
        async move {
            let (after, now) = (after.unwrap_or(0), state.clock.now());
            let rows = state.db.read(move |conn| super::devices(conn, &scope, after, BLOCK_ROWS, now)).await?;
            let last = rows.last().map(|device| device.terminal_id);
            Ok::<_, Error>(last.map(|key| (key, rows.iter().map(row).collect())))
        }
    })
}

/// Which work orders.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct OrderQuery {
    /// `next` of the page before.
    #[serde(default)]
    after: Option<String>,
    /// Rows on the page, 1–100; 20 when absent.
    #[serde(default)]
    size: Option<u32>,
    /// Only in this state; `live` for all that are not over.
    #[serde(default)]
    state: Option<String>,
    /// Only of this kind.
    #[serde(default)]
    kind: Option<String>,
    /// Only those given to this operator.
    #[serde(default)]
    assignee_id: Option<i64>,
    /// Only at this terminal.
    #[serde(default)]
    terminal_id: Option<i64>,
    /// Only of this organization and all below it.
    #[serde(default)]
    organization_id: Option<i64>,
}

async fn list(
    state: web::Data<State>,
    caller: Caller,
    Query(query): Query<OrderQuery>,
) -> Result<web::Json<Page<WorkOrder>>, Problem> {
    let name = |value: &Option<String>| value.clone().unwrap_or_default();
    let named = Filter::of_names(&name(&query.state), &name(&query.kind))?;
    let filter = Filter {
        assignee_id: query.assignee_id,
        terminal_id: query.terminal_id,
        organization_id: query.organization_id,
        ..named
    };
    let page = PageQuery { after: query.after, size: query.size };
    let (size, before) = (page.size()?, page.after::<i64>()?);
    let rows = state.db.read(move |conn| orders::list(conn, &caller.scope, &filter, before, size + 1)).await?;
    Ok(web::Json(Page::from_rows(rows, size, |order| order.id)))
}

async fn answer_with(state: &State, caller: Caller, id: i64) -> Result<web::Json<WorkOrderDetail>, Problem> {
    Ok(web::Json(state.db.read(move |conn| orders::get(conn, &caller.scope, id)).await?))
}

async fn get(
    state: web::Data<State>,
    caller: Caller,
    Path(id): Path<i64>,
) -> Result<web::Json<WorkOrderDetail>, Problem> {
    answer_with(&state, caller, id).await
}

async fn open(
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Json(new): Json<New>,
) -> Result<HttpResponse, Problem> {
    let (now, acting) = (state.clock.now(), caller.clone());
    let id = state.db.write(move |conn| orders::open(conn, &acting, &actor, &new, now)).await?;
    created(&state, caller, id).await
}

async fn created(state: &State, caller: Caller, id: i64) -> Result<HttpResponse, Problem> {
    let web::Json(detail) = answer_with(state, caller, id).await?;
    Ok(HttpResponse::Created().json(detail))
}

/// What a person says to what they do. Needed to close without a proof, to cancel and for a note.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = WorkOrderNote)]
struct Said {
    /// At most 2,000 characters.
    #[serde(default)]
    note: String,
}

/// Answers to checklist items; the others stay as they are.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = WorkOrderAnswers)]
struct Answered {
    /// By item.
    answers: BTreeMap<String, Answer>,
}

/// That the work is done.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = WorkOrderSaidDone)]
struct SaidDone {
    /// At most 2,000 characters.
    #[serde(default)]
    note: String,
    /// Answers that are given with it.
    #[serde(default)]
    answers: BTreeMap<String, Answer>,
    /// Serial number of the terminal that stands there now; for `replace_terminal` alone.
    #[serde(default)]
    replacement_sn: Option<String>,
}

/// Who shall do the work.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = WorkOrderAssignment)]
struct Assignment {
    /// Number of the operator; absent for oneself.
    #[serde(default)]
    operator_id: Option<i64>,
    /// At most 2,000 characters.
    #[serde(default)]
    note: String,
}

async fn assign(
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Path(id): Path<i64>,
    Json(body): Json<Assignment>,
) -> Result<web::Json<WorkOrderDetail>, Problem> {
    let now = state.clock.now();
    orders::assign(&state.db, caller.clone(), actor, id, body.operator_id, body.note, now).await?;
    answer_with(&state, caller, id).await
}

async fn act(
    state: &State,
    Acting { caller, actor }: Acting,
    id: i64,
    acts: Vec<(Act, String)>,
) -> Result<web::Json<WorkOrderDetail>, Problem> {
    let (now, acting): (Now, Caller) = (state.clock.now(), caller.clone());
    state.db.write(move |conn| orders::act_all(conn, &acting, &actor, id, &acts, now)).await?;
    answer_with(state, caller, id).await
}

async fn start(
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Json(said): Json<Said>,
) -> Result<web::Json<WorkOrderDetail>, Problem> {
    act(&state, acting, id, vec![(Act::Start, said.note)]).await
}

async fn answer(
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Json(body): Json<Answered>,
) -> Result<web::Json<WorkOrderDetail>, Problem> {
    act(&state, acting, id, vec![(Act::Answer(body.answers), String::new())]).await
}

async fn done(
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Json(body): Json<SaidDone>,
) -> Result<web::Json<WorkOrderDetail>, Problem> {
    act(&state, acting, id, orders::done_with(body.answers, body.replacement_sn, body.note)).await
}

async fn close(
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Json(said): Json<Said>,
) -> Result<web::Json<WorkOrderDetail>, Problem> {
    act(&state, acting, id, vec![(Act::CloseUnproven, said.note)]).await
}

async fn cancel(
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Json(said): Json<Said>,
) -> Result<web::Json<WorkOrderDetail>, Problem> {
    act(&state, acting, id, vec![(Act::Cancel, said.note)]).await
}

async fn note(
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Json(said): Json<Said>,
) -> Result<web::Json<WorkOrderDetail>, Problem> {
    act(&state, acting, id, vec![(Act::Note, said.note)]).await
}

async fn rules(
    state: web::Data<State>,
    caller: Caller,
    Path(id): Path<i64>,
) -> Result<web::Json<RulesInForce>, Problem> {
    Ok(web::Json(state.db.read(move |conn| super::rules_in_force(conn, &caller, id)).await?))
}

async fn put_rules(
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Path(id): Path<i64>,
    Json(change): Json<RulesChange>,
) -> Result<web::Json<RulesInForce>, Problem> {
    let (now, acting) = (state.clock.now(), caller.clone());
    state.db.write(move |conn| super::put_rules(conn, &acting, &actor, id, &change, now)).await?;
    Ok(web::Json(state.db.read(move |conn| super::rules_in_force(conn, &caller, id)).await?))
}

fn kind_of(name: &str) -> Result<Kind, Problem> {
    Kind::parse(name).ok_or_else(Problem::not_found)
}

async fn checklist(
    state: web::Data<State>,
    caller: Caller,
    Path((id, kind)): Path<(i64, String)>,
) -> Result<web::Json<Checklist>, Problem> {
    let kind = kind_of(&kind)?;
    Ok(web::Json(state.db.read(move |conn| super::checklist(conn, &caller, id, kind)).await?))
}

async fn put_checklist(
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Path((id, kind)): Path<(i64, String)>,
    Json(change): Json<ChecklistChange>,
) -> Result<web::Json<Checklist>, Problem> {
    let (now, kind, acting) = (state.clock.now(), kind_of(&kind)?, caller.clone());
    state.db.write(move |conn| super::put_checklist(conn, &acting, &actor, (id, kind), &change, now)).await?;
    Ok(web::Json(state.db.read(move |conn| super::checklist(conn, &caller, id, kind)).await?))
}

/// Which stores.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct GuidanceQuery {
    /// `next` of the page before.
    #[serde(default)]
    after: Option<String>,
    /// Rows on the page, 1–100; 20 when absent.
    #[serde(default)]
    size: Option<u32>,
    /// Only with this verdict: `above`, `usual` or `insufficient`.
    #[serde(default)]
    verdict: Option<String>,
    /// Only of this organization and all below it.
    #[serde(default)]
    organization_id: Option<i64>,
}

impl GuidanceQuery {
    fn filter(&self) -> Result<guidance::Filter, Problem> {
        let named = guidance::Filter::of_names(self.verdict.as_deref().unwrap_or_default())?;
        Ok(guidance::Filter { organization_id: self.organization_id, ..named })
    }
}

async fn stores(
    state: web::Data<State>,
    caller: Caller,
    Query(query): Query<GuidanceQuery>,
) -> Result<web::Json<Page<StoreGuidance>>, Problem> {
    let filter = query.filter()?;
    let page = PageQuery { after: query.after, size: query.size };
    let (size, after, now) = (page.size()?, page.after::<Key>()?, state.clock.now());
    let rows = state
        .db
        .read(move |conn| guidance::stores(conn, &caller.scope, &filter, after.as_ref(), size + 1, now))
        .await?;
    Ok(web::Json(Page::from_rows(rows, size, StoreGuidance::key)))
}

async fn store_table(
    state: web::Data<State>,
    acting: Acting,
    Query(query): Query<GuidanceQuery>,
) -> Result<HttpResponse, Problem> {
    const HEADINGS: [&str; 12] = [
        "org_path",
        "merchant_no",
        "store_name",
        "model",
        "attempts",
        "error",
        "errors",
        "rate",
        "rate_low",
        "rate_high",
        "usual_rate",
        "verdict",
    ];
    let row = |row: &StoreGuidance| {
        let share = |share: Option<f64>| share.map(|share| format!("{share:.5}")).unwrap_or_default();
        let line = |rate: &guidance::ErrorRate| {
            csv::line(&[
                row.org_path.clone(),
                row.merchant_no.clone(),
                row.store_name.clone(),
                row.model.clone(),
                row.attempts.to_string(),
                rate.error.as_str().to_owned(),
                rate.errors.to_string(),
                share(rate.rate),
                share(rate.rate_low),
                share(rate.rate_high),
                share(rate.usual_rate),
                rate.verdict.clone(),
            ])
        };
        row.by_error.iter().map(line).collect::<String>()
    };
    guidance_file(&state, acting, query.filter()?, csv::line(&HEADINGS), row).await
}

/// The comparison of stores as a file, the lines of each store written by `row`; who takes it along is noted first.
///
/// # Errors
/// 422 for an organization outside the caller's.
async fn guidance_file(
    state: &web::Data<State>,
    Acting { caller, actor }: Acting,
    filter: guidance::Filter,
    heading: String,
    row: impl Fn(&StoreGuidance) -> String,
) -> Result<HttpResponse, Problem> {
    let (now, scope, asked) = (state.clock.now(), caller.scope.clone(), filter.clone());
    // The comparison has read all of them anyway.
    let rows = state.db.read(move |conn| guidance::stores(conn, &scope, &filter, None, u32::MAX, now)).await?;
    audit::export(&state.db, &caller, actor, asked.export(rows.len()), now).await?;
    let lines: String = rows.iter().map(row).collect();
    let lines = std::cell::RefCell::new(Some(lines));
    Ok(csv::download("operator-errors.csv", heading, move |_: Option<()>| {
        let block = lines.take().map(|lines| ((), lines));
        async move { Ok::<_, crate::db::Error>(block) }
    }))
}

async fn teach(
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Json(asked): Json<StoreOf>,
) -> Result<HttpResponse, Problem> {
    let (now, acting) = (state.clock.now(), caller.clone());
    let id = state.db.write(move |conn| guidance::open_teaching(conn, &acting, &actor, &asked, now)).await?;
    created(&state, caller, id).await
}
