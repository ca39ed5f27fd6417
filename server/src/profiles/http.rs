//! REST of profiles, and where terminals fetch theirs.

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};

use super::{Assign, Assigned, Error, NewProfile, Profile};
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
        Endpoint::post("/api/v1/profiles/{id}/assign", WRITE, "Sets what terminals should apply", assign)
            .body::<Assign>()
            .returns::<Assigned>(200, "How many terminals"),
        Endpoint::get(
            "/device/v1/configs/{hash}",
            Access::Terminal,
            "The profile this terminal should apply: canonical bytes whose SHA-256 is the hash",
            config,
        )
        .returns_empty(200, "Canonical JSON")
        .returns_empty(304, "The terminal has it")
        .returns_empty(404, "It is not this terminal's desired profile"),
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
