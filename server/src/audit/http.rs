//! REST of the audit log.

use actix_web::web;

use super::{Entry, Verdict};
use crate::http::State;
use crate::http::body::Query;
use crate::http::endpoints::{Access, Endpoint};
use crate::http::page::{Page, PageQuery};
use crate::http::problem::Problem;
use crate::operators::{Caller, Permission};

/// This domain's rows of the endpoint table.
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get(
            "/api/v1/audit",
            Access::Operator(Permission::AuditRead),
            "Audit entries of your organizations, newest first",
            list,
        )
        .query::<PageQuery>()
        .returns::<Page<Entry>>(200, "A page of entries"),
        Endpoint::get(
            "/api/v1/audit/verify",
            Access::Operator(Permission::AuditRead),
            "Walks the hash chain and says whether it is whole; headquarters only",
            verify,
        )
        .returns::<Verdict>(200, "What was found"),
    ]
}

async fn list(
    state: web::Data<State>,
    caller: Caller,
    Query(page): Query<PageQuery>,
) -> Result<web::Json<Page<Entry>>, Problem> {
    let size = page.size()?;
    let rows = super::list(&state.db, caller.scope, page.after::<i64>()?, size + 1).await?;
    Ok(web::Json(Page::from_rows(rows, size, |entry| entry.seq)))
}

async fn verify(state: web::Data<State>, caller: Caller) -> Result<web::Json<Verdict>, Problem> {
    if !super::may_verify(&caller.scope) {
        return Err(Problem::not_found());
    }
    Ok(web::Json(super::verify(&state.db, None).await?))
}
