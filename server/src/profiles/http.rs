//! REST of profiles, and where terminals fetch theirs.

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};

use serde::Deserialize;

use super::{Assign, Assigned, Drift, DriftState, Error, LayerInForce, NewProfile, Profile, TerminalConfig};
use crate::audit::Actor;
use crate::db;
use crate::http::body::{Json, Path, Query};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::page::{Page, PageQuery};
use crate::http::problem::Problem;
use crate::http::tokens::TerminalSession;
use crate::http::{RequestId, State};
use crate::operators::{Caller, Permission};

const READ: Access = Access::Operator(Permission::ProfilesRead);
const READ_TERMINALS: Access = Access::Operator(Permission::TerminalsRead);
const WRITE: Access = Access::Operator(Permission::ProfilesWrite);

/// This domain's rows of the endpoint table.
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/api/v1/profiles", READ, "Profiles of your organizations, newest first", list)
            .query::<PageQuery>()
            .returns::<Page<Profile>>(200, "A page of profiles"),
        Endpoint::post("/api/v1/profiles", WRITE, "Creates a profile, or a new version of one", create)
            .body::<NewProfile>()
            .returns::<Profile>(201, "The profile"),
        Endpoint::get("/api/v1/profiles/{id}", READ, "One profile", get).returns::<Profile>(200, "The profile"),
        Endpoint::post(
            "/api/v1/profiles/{id}/assign",
            WRITE,
            "Puts a profile in force on terminals' own layers",
            assign,
        )
        .body::<Assign>()
        .returns::<Assigned>(200, "How many terminals"),
        Endpoint::get(
            "/api/v1/config/layers",
            READ,
            "What is in force on the layers of your organizations, from the top down",
            layers,
        )
        .query::<PageQuery>()
        .returns::<Page<LayerInForce>>(200, "A page of layers"),
        Endpoint::get(
            "/api/v1/config/drifts",
            READ_TERMINALS,
            "Terminals that go on reporting another config hash than the one they were told",
            drifts,
        )
        .query::<DriftQuery>()
        .returns::<Page<Drift>>(200, "A page of drifts, by terminal"),
        Endpoint::get(
            "/api/v1/terminals/{id}/config",
            READ_TERMINALS,
            "A terminal's parameters: what it should have, from which layer, and what it has",
            terminal_config,
        )
        .returns::<TerminalConfig>(200, "The parameters"),
        Endpoint::get(
            "/device/v1/configs/{hash}",
            Access::Terminal,
            "The parameters this terminal should apply: canonical bytes whose SHA-256 is the hash",
            config,
        )
        .returns_empty(200, "Canonical JSON")
        .returns_empty(304, "The terminal has it")
        .returns_empty(404, "It is not what this terminal should apply"),
    ]
}

async fn list(
    state: web::Data<State>,
    caller: Caller,
    Query(page): Query<PageQuery>,
) -> Result<web::Json<Page<Profile>>, Problem> {
    let (size, before) = (page.size()?, page.after::<i64>()?);
    let rows = state.db.read(move |conn| super::list(conn, &caller.scope, before, size + 1)).await?;
    Ok(web::Json(Page::from_rows(rows, size, |profile| profile.id)))
}

async fn create(
    state: web::Data<State>,
    caller: Caller,
    request_id: web::ReqData<RequestId>,
    Json(new): Json<NewProfile>,
) -> Result<(web::Json<Profile>, StatusCode), Problem> {
    let actor = Actor::from(&caller).in_request(&request_id.0);
    let now = state.clock.now();
    let create = move |conn: &mut db::Conn| {
        super::create(conn, &actor, &caller.name, &caller.scope, caller.organization_id, new, now)
    };
    Ok((web::Json(state.db.write(create).await?), StatusCode::CREATED))
}

async fn get(state: web::Data<State>, caller: Caller, Path(id): Path<i64>) -> Result<web::Json<Profile>, Problem> {
    Ok(web::Json(state.db.read(move |conn| super::get(conn, &caller.scope, id)).await?))
}

async fn assign(
    state: web::Data<State>,
    caller: Caller,
    request_id: web::ReqData<RequestId>,
    Path(id): Path<i64>,
    Json(asked): Json<Assign>,
) -> Result<web::Json<Assigned>, Problem> {
    let actor = Actor::from(&caller).in_request(&request_id.0);
    let now = state.clock.now();
    Ok(web::Json(super::assign(&state.db, actor, caller.scope, id, asked, now).await?))
}

async fn layers(
    state: web::Data<State>,
    caller: Caller,
    Query(page): Query<PageQuery>,
) -> Result<web::Json<Page<LayerInForce>>, Problem> {
    let (size, after) = (page.size()?, page.after()?);
    let rows = state.db.read(move |conn| super::list_layers(conn, &caller.scope, after.as_ref(), size + 1)).await?;
    Ok(web::Json(Page::from_rows(rows, size, |row| (row.org_path.clone(), row.layer.text(), row.profile_name.clone()))))
}

/// Filter and page of the list of drifts.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams, utoipa::ToSchema)]
#[into_params(parameter_in = Query)]
struct DriftQuery {
    /// Only those that got this far: `watching`, `repairing` or `alarmed`.
    state: Option<DriftState>,
    /// `next` of the page before.
    after: Option<String>,
    /// Rows on the page, 1–100.
    size: Option<u32>,
}

async fn drifts(
    state: web::Data<State>,
    caller: Caller,
    Query(query): Query<DriftQuery>,
) -> Result<web::Json<Page<Drift>>, Problem> {
    let page = PageQuery { after: query.after, size: query.size };
    let (size, after) = (page.size()?, page.after()?);
    let list = move |conn: &mut db::Conn| super::list_drifts(conn, &caller.scope, query.state, after, size + 1);
    Ok(web::Json(Page::from_rows(state.db.read(list).await?, size, |row| row.terminal_id)))
}

async fn terminal_config(
    state: web::Data<State>,
    caller: Caller,
    Path(id): Path<i64>,
) -> Result<web::Json<TerminalConfig>, Problem> {
    Ok(web::Json(state.db.read(move |conn| super::terminal_config(conn, &caller.scope, id)).await?))
}

async fn config(
    state: web::Data<State>,
    session: TerminalSession,
    request: HttpRequest,
    Path(hash): Path<String>,
) -> Result<HttpResponse, Problem> {
    let etag = format!("\"{hash}\"");
    let body = state.db.read(move |conn| super::desired_by(conn, &session, &hash)).await?;
    let known = request.headers().get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let is_known = known.is_some_and(|known| known.split(',').any(|tag| tag.trim() == etag));
    let mut response = if is_known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response.insert_header((header::ETAG, etag)).insert_header((header::CACHE_CONTROL, "private, no-cache"));
    Ok(if is_known { response.finish() } else { response.content_type("application/json").body(body) })
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound => Self::not_found(),
            Error::SessionEnded => Self::unauthorized("The session was ended. Open a new one."),
            Error::Invalid(error) => error.into(),
            Error::Terminals(error) => error.into(),
            Error::Db(error) => error.into(),
        }
    }
}
