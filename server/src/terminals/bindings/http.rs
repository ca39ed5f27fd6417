//! REST of bindings.

use actix_web::web;

use super::{Binding, Past};
use crate::db;
use crate::http::State;
use crate::http::auth::Acting;
use crate::http::body::{Json, Path};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::problem::Problem;
use crate::operators::{Caller, Permission};

/// This part's rows of the endpoint table.
pub(in crate::terminals) fn endpoints() -> Vec<Endpoint> {
    let read = Access::Operator(Permission::TerminalsRead);
    let write = Access::Operator(Permission::TerminalsWrite);
    vec![
        Endpoint::get("/api/v1/terminals/{id}/bindings", read, "Whose a terminal was and when, newest first", list)
            .returns_list::<Binding>(200, "The bindings"),
        Endpoint::post(
            "/api/v1/terminals/{id}/bindings",
            write,
            "Enters a binding of the past, before all that are known",
            correct,
        )
        .body::<Past>()
        .returns_list::<Binding>(200, "The bindings"),
    ]
}

async fn list(
    state: web::Data<State>,
    caller: Caller,
    Path(id): Path<i64>,
) -> Result<web::Json<Vec<Binding>>, Problem> {
    Ok(web::Json(state.db.read(move |conn| super::list(conn, &caller.scope, id)).await?))
}

async fn correct(
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Path(id): Path<i64>,
    Json(past): Json<Past>,
) -> Result<web::Json<Vec<Binding>>, Problem> {
    let now = state.clock.now();
    let write = move |conn: &mut db::Conn| super::correct(conn, &actor, &caller.scope, id, past, now);
    Ok(web::Json(state.db.write(write).await?))
}
