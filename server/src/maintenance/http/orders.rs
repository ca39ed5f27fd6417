//! Work orders and what people do to them.

use std::collections::BTreeMap;

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};

use super::{READ, WORK, WRITE};
use crate::http::State;
use crate::http::auth::Acting;
use crate::http::body::{Json, Path, Query};
use crate::http::endpoints::Endpoint;
use crate::http::page::{Page, PageQuery};
use crate::http::problem::Problem;
use crate::maintenance::checklist::Answer;
use crate::maintenance::orders::{self, Act, Filter, New, WorkOrder, WorkOrderDetail};
use crate::operators::Caller;

pub(super) fn endpoints() -> Vec<Endpoint> {
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

pub(super) async fn created(state: &State, caller: Caller, id: i64) -> Result<HttpResponse, Problem> {
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
    let (now, acting) = (state.clock.now(), caller.clone());
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
