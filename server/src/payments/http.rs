//! REST of payments.

use actix_web::web;
use serde::{Deserialize, Serialize};

use super::{Filter, Payment};
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
            "/api/v1/payments",
            Access::Operator(Permission::FailuresRead),
            "Successful transactions in short form, newest first, of terminals whose profile asks for them",
            list,
        )
        .query::<PaymentQuery>()
        .returns::<Page<Payment>>(200, "A page of payments"),
    ]
}

/// Filters and page of the list of payments.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::IntoParams, utoipa::ToSchema)]
#[into_params(parameter_in = Query)]
struct PaymentQuery {
    /// Only of this terminal.
    terminal_id: Option<i64>,
    /// Only with this retrieval reference number.
    ref_no: Option<String>,
    /// At or after, Unix ms.
    from_ms: Option<i64>,
    /// Before, Unix ms.
    to_ms: Option<i64>,
    /// `next` of the page before.
    after: Option<String>,
    /// Rows on the page, 1–100.
    size: Option<u32>,
}

async fn list(
    state: web::Data<State>,
    caller: Caller,
    Query(query): Query<PaymentQuery>,
) -> Result<web::Json<Page<Payment>>, Problem> {
    let page = PageQuery { after: query.after, size: query.size };
    let (size, after) = (page.size()?, page.after()?);
    let filter =
        Filter { terminal_id: query.terminal_id, ref_no: query.ref_no, from_ms: query.from_ms, to_ms: query.to_ms };
    let rows = state.db.read(move |conn| super::list(conn, &caller.scope, &filter, after.as_ref(), size + 1)).await?;
    Ok(web::Json(Page::from_rows(rows, size, |row| (row.at_ms, row.terminal_id, row.event_id.clone()))))
}
