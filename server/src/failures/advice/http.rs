//! REST of network advice.

use actix_web::web;

use super::{StoreKey, StoreNetwork};
use crate::http::State;
use crate::http::body::{Path, Query};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::page::{Page, PageQuery};
use crate::http::problem::Problem;
use crate::operators::{Caller, Permission};
use crate::terminals;

/// This part's rows of the endpoint table.
pub fn endpoints() -> Vec<Endpoint> {
    let read = Access::Operator(Permission::FailuresRead);
    vec![
        Endpoint::get(
            "/api/v1/network-advice",
            read,
            "Your organizations' stores, the worst network first, with what to change and what it would have saved",
            list,
        )
        .query::<PageQuery>()
        .returns::<Page<StoreNetwork>>(200, "A page of stores"),
        Endpoint::get(
            "/api/v1/terminals/{id}/network-advice",
            read,
            "The network of a terminal's store; empty before it was judged",
            of_terminal,
        )
        .returns_list::<StoreNetwork>(200, "The store, or nothing"),
    ]
}

async fn list(
    state: web::Data<State>,
    caller: Caller,
    Query(page): Query<PageQuery>,
) -> Result<web::Json<Page<StoreNetwork>>, Problem> {
    let (size, after) = (page.size()?, page.after::<StoreKey>()?);
    let rows = state.db.read(move |conn| super::list(conn, &caller.scope, after, size + 1)).await?;
    Ok(web::Json(Page::from_rows(rows, size, StoreNetwork::key)))
}

async fn of_terminal(
    state: web::Data<State>,
    caller: Caller,
    Path(id): Path<i64>,
) -> Result<web::Json<Vec<StoreNetwork>>, Problem> {
    let found: Result<_, terminals::Error> = state
        .db
        .read(move |conn| {
            terminals::get(conn, &caller.scope, id)?;
            Ok(super::of_terminal(conn, &caller.scope, id)?)
        })
        .await;
    Ok(web::Json(found?.into_iter().collect()))
}
