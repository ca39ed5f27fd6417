//! REST of operators; of sessions and API keys in their own folders.

use actix_web::http::{Method, StatusCode};
use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};

use super::{Caller, Change, Error, NewOperator, Operator, Permission, SetUp, keys, sessions};
use crate::http::State;
use crate::http::auth::Acting;
use crate::http::body::{Json, Path, Query};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::page::{Page, PageQuery};
use crate::http::problem::{Problem, sentence};

/// This domain's rows of the endpoint table.
pub fn endpoints() -> Vec<Endpoint> {
    let read = Access::Operator(Permission::OperatorsRead);
    let write = Access::Operator(Permission::OperatorsWrite);
    let mut rows = vec![
        Endpoint::post("/api/v1/setup", Access::Public, "Makes the first operator with the bootstrap token", set_up)
            .body::<SetUp>()
            .returns::<Operator>(201, "The first operator, a platform administrator"),
        Endpoint::get("/api/v1/operators", read, "Operators of your organizations", list)
            .query::<PageQuery>()
            .returns::<Page<Operator>>(200, "A page of operators"),
        Endpoint::post("/api/v1/operators", write, "Creates an operator", create)
            .body::<NewOperator>()
            .returns::<Operator>(201, "The new operator"),
        Endpoint::get("/api/v1/operators/{id}", read, "One operator", get).returns::<Operator>(200, "The operator"),
        Endpoint::new(
            Method::PATCH,
            "/api/v1/operators/{id}",
            write,
            "Changes an operator's name, role, language or status",
            update,
        )
        .body::<Change>()
        .returns::<Operator>(200, "As it is now"),
        Endpoint::post(
            "/api/v1/operators/{id}/password",
            write,
            "Gives an operator a new password and ends their sessions",
            reset_password,
        )
        .body::<NewPassword>()
        .returns_empty(204, "Done"),
    ];
    rows.extend(sessions::http::endpoints());
    rows.extend(keys::http::endpoints());
    rows
}

/// A new password.
#[derive(Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct NewPassword {
    /// 12–128 characters.
    password: String,
}

async fn set_up(state: web::Data<State>, Json(body): Json<SetUp>) -> Result<HttpResponse, Problem> {
    let operator = super::set_up(&state.db, body, state.clock.now()).await?;
    Ok(HttpResponse::Created().json(operator))
}

async fn list(
    state: web::Data<State>,
    caller: Caller,
    Query(page): Query<PageQuery>,
) -> Result<web::Json<Page<Operator>>, Problem> {
    let size = page.size()?;
    let rows = super::list(&state.db, &caller.scope, page.after::<i64>()?, size + 1).await?;
    Ok(web::Json(Page::from_rows(rows, size, |operator| operator.id)))
}

async fn create(
    state: web::Data<State>,
    acting: Acting,
    Json(new): Json<NewOperator>,
) -> Result<HttpResponse, Problem> {
    let operator = super::create(&state.db, &acting.caller, &acting.actor, new, state.clock.now()).await?;
    Ok(HttpResponse::Created().json(operator))
}

async fn get(state: web::Data<State>, caller: Caller, Path(id): Path<i64>) -> Result<web::Json<Operator>, Problem> {
    let found = super::get(&state.db, &caller.scope, id).await?;
    found.map(web::Json).ok_or_else(Problem::not_found)
}

async fn update(
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Json(change): Json<Change>,
) -> Result<web::Json<Operator>, Problem> {
    let after = super::update(&state.db, &acting.caller, &acting.actor, id, change, state.clock.now()).await?;
    Ok(web::Json(after))
}

async fn reset_password(
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Json(new): Json<NewPassword>,
) -> Result<HttpResponse, Problem> {
    let now = state.clock.now();
    super::reset_password(&state.db, &acting.caller, &acting.actor, id, new.password, now).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Seconds after which a server that is busy hashing may be asked again.
const BUSY_S: u32 = 5;

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let text = sentence(&error);
        match error {
            Error::NotFound => Self::not_found(),
            Error::Changed | Error::Limit(_) | Error::Suspended | Error::AlreadySetUp => Self::conflict(text),
            Error::LoginTaken => {
                let mut problem = Self::new(StatusCode::CONFLICT, "taken", "The name is taken", text);
                problem.field = Some("login".to_owned());
                problem
            }
            Error::Denied(_) => Self::forbidden(text),
            Error::WrongPassword => Self::invalid("present_password", "is wrong"),
            Error::Locked { for_s } => Self::locked(text, for_s),
            Error::WrongBootstrapToken => Self::unauthorized(text),
            Error::Busy => Self::busy(BUSY_S),
            Error::Hash => Self::internal(&error),
            Error::Field(field) => field.into(),
            Error::Db(error) => error.into(),
        }
    }
}

impl Problem {
    /// 429: too many wrong passwords.
    pub(super) fn locked(detail: String, for_s: u32) -> Self {
        let mut problem = Self::new(StatusCode::TOO_MANY_REQUESTS, "locked", "Locked for a while", detail);
        problem.retry_after_s = Some(for_s);
        problem
    }
}
