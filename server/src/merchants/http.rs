//! REST of merchants.

use actix_web::http::Method;
use actix_web::{HttpResponse, web};

use super::{Error, Merchant, NewMerchant};
use crate::db;
use crate::http::State;
use crate::http::auth::Acting;
use crate::http::body::{Json, Path, Query};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::page::{Page, PageQuery};
use crate::http::problem::{Problem, sentence};
use crate::operators::{Caller, Permission};

const READ: Access = Access::Operator(Permission::SettlementsRead);
const WRITE: Access = Access::Operator(Permission::SettlementsWrite);

/// This domain's rows of the endpoint table.
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/api/v1/merchants", READ, "Merchants of your organizations, newest first", list)
            .query::<PageQuery>()
            .returns::<Page<Merchant>>(200, "A page of merchants"),
        Endpoint::post("/api/v1/merchants", WRITE, "Enters what is contracted with a merchant", create)
            .body::<NewMerchant>()
            .returns::<Merchant>(201, "The merchant"),
        Endpoint::get("/api/v1/merchants/{id}", READ, "One merchant", get).returns::<Merchant>(200, "The merchant"),
        Endpoint::new(Method::PATCH, "/api/v1/merchants/{id}", WRITE, "Changes what is contracted", update)
            .body::<NewMerchant>()
            .returns::<Merchant>(200, "The merchant"),
    ]
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound => Self::not_found(),
            Error::Invalid(error) => error.into(),
            Error::Conflict(_) => Self::conflict(sentence(&error)),
            Error::Db(error) => error.into(),
        }
    }
}

async fn list(
    state: web::Data<State>,
    caller: Caller,
    Query(page): Query<PageQuery>,
) -> Result<web::Json<Page<Merchant>>, Problem> {
    let (size, before) = (page.size()?, page.after::<i64>()?);
    let rows = state.db.read(move |conn| super::list(conn, &caller.scope, before, size + 1)).await?;
    Ok(web::Json(Page::from_rows(rows, size, |merchant| merchant.id)))
}

async fn create(
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Json(new): Json<NewMerchant>,
) -> Result<HttpResponse, Problem> {
    let now = state.clock.now();
    let made = state.db.write(move |conn| super::create(conn, &caller, &actor, new, now)).await?;
    Ok(HttpResponse::Created().json(made))
}

async fn get(state: web::Data<State>, caller: Caller, Path(id): Path<i64>) -> Result<web::Json<Merchant>, Problem> {
    Ok(web::Json(state.db.read(move |conn| super::find(conn, &caller.scope, id)).await?))
}

async fn update(
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Path(id): Path<i64>,
    Json(new): Json<NewMerchant>,
) -> Result<web::Json<Merchant>, Problem> {
    let now = state.clock.now();
    let write = move |conn: &mut db::Conn| super::update(conn, &actor, &caller.scope, id, new, now);
    Ok(web::Json(state.db.write(write).await?))
}
