//! REST of API keys.

use actix_web::http::{Method, header};
use actix_web::{HttpResponse, web};

use super::super::{Caller, Permission};
use super::{ApiKey, CreatedKey, NewApiKey};
use crate::http::State;
use crate::http::auth::Acting;
use crate::http::body::{Json, Path, Query};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::page::{Page, PageQuery};
use crate::http::problem::Problem;

pub(in super::super) fn endpoints() -> Vec<Endpoint> {
    let read = Access::Operator(Permission::OperatorsRead);
    let write = Access::Operator(Permission::OperatorsWrite);
    vec![
        Endpoint::get("/api/v1/api-keys", read, "API keys of your organizations", list)
            .query::<PageQuery>()
            .returns::<Page<ApiKey>>(200, "A page of keys"),
        Endpoint::post("/api/v1/api-keys", write, "Makes an API key; its secret is shown only now", create)
            .body::<NewApiKey>()
            .returns::<CreatedKey>(201, "The key and its secret"),
        Endpoint::new(Method::DELETE, "/api/v1/api-keys/{id}", write, "Revokes an API key", revoke)
            .returns_empty(204, "It is revoked"),
    ]
}

async fn list(
    state: web::Data<State>,
    caller: Caller,
    Query(page): Query<PageQuery>,
) -> Result<web::Json<Page<ApiKey>>, Problem> {
    let size = page.size()?;
    let rows = super::list(&state.db, &caller.scope, page.after::<i64>()?, size + 1).await?;
    Ok(web::Json(Page::from_rows(rows, size, |key| key.id)))
}

async fn create(state: web::Data<State>, acting: Acting, Json(new): Json<NewApiKey>) -> Result<HttpResponse, Problem> {
    let made: CreatedKey = super::create(&state.db, &acting.caller, &acting.actor, new, state.clock.now()).await?;
    Ok(HttpResponse::Created().insert_header((header::CACHE_CONTROL, "no-store")).json(made))
}

async fn revoke(state: web::Data<State>, acting: Acting, Path(id): Path<i64>) -> Result<HttpResponse, Problem> {
    super::revoke(&state.db, &acting.caller, &acting.actor, id, state.clock.now()).await?;
    Ok(HttpResponse::NoContent().finish())
}
