//! REST of terminals and models.

use actix_web::http::{Method, StatusCode};
use actix_web::web;
use serde::Deserialize;

use super::list::Key;
use super::{
    Change, Connection, Error, Filter, Lifecycle, LifecycleStep, Model, NewModel, NewTerminal, Overview, Sort,
    Terminal, TerminalRow, Transfer, Transferred, bindings, enrolment, import,
};
use crate::audit::Actor;
use crate::db;
use crate::http::body::{Json, Path, Query};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::page::{Page, PageQuery};
use crate::http::problem::{Problem, sentence};
use crate::http::{RequestId, State};
use crate::operators::{Caller, Permission};

const READ: Access = Access::Operator(Permission::TerminalsRead);
const WRITE: Access = Access::Operator(Permission::TerminalsWrite);

/// This domain's rows of the endpoint table.
pub fn endpoints() -> Vec<Endpoint> {
    let mut endpoints = vec![
        Endpoint::get("/api/v1/models", READ, "All models of terminals", list_models)
            .returns_list::<Model>(200, "The models, by code"),
        Endpoint::post(
            "/api/v1/models",
            Access::Operator(Permission::ReleasesWrite),
            "Makes a model known",
            create_model,
        )
        .body::<NewModel>()
        .returns::<Model>(201, "The model"),
        Endpoint::post("/api/v1/terminals", WRITE, "Registers one terminal", create)
            .body::<NewTerminal>()
            .returns::<Terminal>(201, "The terminal"),
        Endpoint::get("/api/v1/terminals", READ, "Terminals of your organizations", list)
            .query::<ListQuery>()
            .returns::<Page<TerminalRow>>(200, "A page of terminals"),
        Endpoint::get("/api/v1/terminals/overview", READ, "The fleet in numbers", overview)
            .returns::<Overview>(200, "Counts"),
        Endpoint::get("/api/v1/terminals/{id}", READ, "One terminal", get).returns::<Terminal>(200, "The terminal"),
        Endpoint::new(Method::PATCH, "/api/v1/terminals/{id}", WRITE, "Changes a terminal's record", update)
            .body::<Change>()
            .returns::<Terminal>(200, "The terminal as it is now"),
        Endpoint::post("/api/v1/terminals/{id}/lifecycle", WRITE, "Takes a step in a terminal's life", act)
            .body::<LifecycleStep>()
            .returns::<Terminal>(200, "The terminal as it is now"),
        Endpoint::post(
            "/api/v1/terminals/transfer",
            WRITE,
            "Moves unbound terminals to a direct child, or back to its parent",
            transfer,
        )
        .body::<Transfer>()
        .returns::<Transferred>(200, "What moved and what stays, with reasons"),
    ];
    endpoints.extend(enrolment::http::endpoints());
    endpoints.extend(import::http::endpoints());
    endpoints.extend(bindings::http::endpoints());
    endpoints
}

async fn list_models(state: web::Data<State>, _: Caller) -> Result<web::Json<Vec<Model>>, Problem> {
    Ok(web::Json(state.db.read(super::list_models).await?))
}

async fn create_model(
    state: web::Data<State>,
    caller: Caller,
    request_id: web::ReqData<RequestId>,
    Json(new): Json<NewModel>,
) -> Result<(web::Json<Model>, StatusCode), Problem> {
    let actor = Actor::from(&caller).in_request(&request_id.0);
    let now = state.clock.now();
    let create = move |conn: &mut db::Conn| super::create_model(conn, &actor, &caller.scope, new, now);
    Ok((web::Json(state.db.write(create).await?), StatusCode::CREATED))
}

async fn create(
    state: web::Data<State>,
    caller: Caller,
    request_id: web::ReqData<RequestId>,
    Json(new): Json<NewTerminal>,
) -> Result<(web::Json<Terminal>, StatusCode), Problem> {
    let actor = Actor::from(&caller).in_request(&request_id.0);
    let now = state.clock.now();
    let create =
        move |conn: &mut db::Conn| super::create(conn, &actor, &caller.scope, caller.organization_id, new, now);
    Ok((web::Json(state.db.write(create).await?), StatusCode::CREATED))
}

/// Which terminals, in which order, from where.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// An organization and all below it.
    organization_id: Option<i64>,
    /// Model code.
    model: Option<String>,
    /// Where it is in its life.
    #[param(inline)]
    lifecycle: Option<Lifecycle>,
    /// Region.
    region: Option<String>,
    /// One of its tags.
    tag: Option<String>,
    /// Firmware version it reported.
    firmware: Option<String>,
    /// Whether it calls as it should; the order is then `-last_seen`.
    #[param(inline)]
    connection: Option<Connection>,
    /// Beginning or end of the serial number, or beginning of merchant number, terminal number or a name; 2 characters
    /// at least, 4 for an end.
    q: Option<String>,
    /// `id` or `-last_seen`.
    #[param(inline)]
    sort: Option<Sort>,
    /// `next` of the page before.
    after: Option<String>,
    /// Rows on the page, 1–100; 20 when absent.
    size: Option<u32>,
}

async fn list(
    state: web::Data<State>,
    caller: Caller,
    Query(asked): Query<ListQuery>,
) -> Result<web::Json<Page<TerminalRow>>, Problem> {
    let page = PageQuery { after: asked.after, size: asked.size };
    let filter = Filter {
        organization_id: asked.organization_id,
        model: asked.model,
        lifecycle: asked.lifecycle,
        region: asked.region,
        tag: asked.tag,
        firmware: asked.firmware,
        connection: asked.connection,
        q: asked.q,
    };
    let sort = Sort::of(asked.sort, &filter)?;
    let (size, after, now) = (page.size()?, page.after::<Key>()?, state.clock.now());
    let limit = usize::try_from(size).unwrap_or(usize::MAX).saturating_add(1);
    let read = move |conn: &mut db::Conn| super::list::list(conn, &caller.scope, &filter, sort, after, limit, now);
    let rows = state.db.read(read).await?;
    Ok(web::Json(Page::from_rows(rows, size, |row| row.key(sort))))
}

async fn overview(state: web::Data<State>, caller: Caller) -> Result<web::Json<Overview>, Problem> {
    let now = state.clock.now();
    Ok(web::Json(state.db.read(move |conn| super::overview(conn, &caller.scope, now)).await?))
}

async fn get(state: web::Data<State>, caller: Caller, Path(id): Path<i64>) -> Result<web::Json<Terminal>, Problem> {
    Ok(web::Json(state.db.read(move |conn| super::get(conn, &caller.scope, id)).await?))
}

async fn update(
    state: web::Data<State>,
    caller: Caller,
    request_id: web::ReqData<RequestId>,
    Path(id): Path<i64>,
    Json(change): Json<Change>,
) -> Result<web::Json<Terminal>, Problem> {
    let actor = Actor::from(&caller).in_request(&request_id.0);
    let now = state.clock.now();
    let update = move |conn: &mut db::Conn| super::update(conn, &actor, &caller.scope, id, change, now);
    Ok(web::Json(state.db.write(update).await?))
}

async fn act(
    state: web::Data<State>,
    caller: Caller,
    request_id: web::ReqData<RequestId>,
    Path(id): Path<i64>,
    Json(asked): Json<LifecycleStep>,
) -> Result<web::Json<Terminal>, Problem> {
    let actor = Actor::from(&caller).in_request(&request_id.0);
    let now = state.clock.now();
    let act = move |conn: &mut db::Conn| super::act(conn, &actor, &caller.scope, id, asked, now);
    Ok(web::Json(state.db.write(act).await?))
}

async fn transfer(
    state: web::Data<State>,
    caller: Caller,
    request_id: web::ReqData<RequestId>,
    Json(asked): Json<Transfer>,
) -> Result<web::Json<Transferred>, Problem> {
    let actor = Actor::from(&caller).in_request(&request_id.0);
    let now = state.clock.now();
    let transfer = move |conn: &mut db::Conn| super::transfer(conn, &actor, &caller.scope, &asked, now);
    Ok(web::Json(state.db.write(transfer).await?))
}

/// When to come back while others import, s: most files are through by then.
const IMPORT_RETRY_S: u32 = 60;

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound => Self::not_found(),
            Error::Invalid(error) => error.into(),
            Error::Refused(_) | Error::Conflict(_) | Error::Changed => Self::conflict(sentence(&error)),
            Error::Busy => Self::busy(IMPORT_RETRY_S),
            Error::Db(error) => error.into(),
        }
    }
}
