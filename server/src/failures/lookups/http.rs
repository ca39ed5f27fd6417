//! REST of look-ups.

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};

use super::{COVERAGE_MS, Coverage, Error, Filter, Lookup, NewLookup};
use crate::http::State;
use crate::http::auth::Acting;
use crate::http::body::{Json, Path, Query};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::page::{Page, PageQuery};
use crate::http::problem::{Problem, sentence};
use crate::operators::{Caller, Permission};

const READ: Access = Access::Operator(Permission::FailuresRead);
const WRITE: Access = Access::Operator(Permission::FailuresWrite);

/// This part's rows of the endpoint table.
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/api/v1/lookups", READ, "What people looked up about transactions, newest first", list)
            .query::<LookupQuery>()
            .returns::<Page<Lookup>>(200, "A page of look-ups"),
        Endpoint::post("/api/v1/lookups", WRITE, "Stores what UnionPay's query or an issuer's bill showed", add)
            .body::<NewLookup>()
            .returns::<Lookup>(201, "The look-up, with the transaction it was matched to"),
        Endpoint::post("/api/v1/lookups/{id}/withdraw", WRITE, "Takes a look-up back that was a mistake", withdraw)
            .returns::<Lookup>(200, "The look-up as it is now"),
        Endpoint::get("/api/v1/lookups/coverage", READ, "How many transactions were checked, of how many", coverage)
            .query::<Span>()
            .returns::<Coverage>(200, "Coverage by level"),
    ]
}

/// Filters and page of the list of look-ups.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::IntoParams, utoipa::ToSchema)]
#[into_params(parameter_in = Query)]
struct LookupQuery {
    /// Only of this terminal.
    terminal_id: Option<i64>,
    /// Only of this transaction of the terminal.
    event_id: Option<String>,
    /// Also those that were taken back.
    with_withdrawn: Option<bool>,
    /// `next` of the page before.
    after: Option<String>,
    /// Rows on the page, 1–100.
    size: Option<u32>,
}

/// A span of time.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::IntoParams, utoipa::ToSchema)]
#[into_params(parameter_in = Query)]
struct Span {
    /// Start, Unix ms; 30 days ago when absent.
    from_ms: Option<i64>,
    /// End, Unix ms; now when absent.
    to_ms: Option<i64>,
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound => Self::not_found(),
            Error::Invalid(error) => Self::from(error),
            Error::Withdrawn => Self::conflict(sentence(&error)),
            Error::Db(error) => Self::from(error),
        }
    }
}

async fn list(
    state: web::Data<State>,
    caller: Caller,
    Query(query): Query<LookupQuery>,
) -> Result<web::Json<Page<Lookup>>, Problem> {
    let page = PageQuery { after: query.after, size: query.size };
    let (size, before) = (page.size()?, page.after::<String>()?);
    let filter = Filter {
        terminal_id: query.terminal_id,
        event_id: query.event_id,
        with_withdrawn: query.with_withdrawn.unwrap_or(false),
    };
    let read = move |conn: &mut crate::db::Conn| super::list(conn, &caller.scope, &filter, before.as_deref(), size + 1);
    let rows = state.db.read(read).await?;
    Ok(web::Json(Page::from_rows(rows, size, |row| row.id.clone())))
}

async fn add(
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Json(new): Json<NewLookup>,
) -> Result<HttpResponse, Problem> {
    let now = state.clock.now();
    let lookup = state.db.write(move |conn| super::add(conn, &caller, &actor, new, now)).await?;
    Ok(HttpResponse::Created().json(lookup))
}

async fn withdraw(
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Path(id): Path<String>,
) -> Result<web::Json<Lookup>, Problem> {
    let now = state.clock.now();
    Ok(web::Json(state.db.write(move |conn| super::withdraw(conn, &caller, &actor, &id, now)).await?))
}

async fn coverage(
    state: web::Data<State>,
    caller: Caller,
    Query(span): Query<Span>,
) -> Result<web::Json<Coverage>, Problem> {
    let to_ms = span.to_ms.unwrap_or(state.clock.now().0.saturating_add(1));
    let from_ms = span.from_ms.unwrap_or(to_ms.saturating_sub(COVERAGE_MS));
    let read = move |conn: &mut crate::db::Conn| super::coverage(conn, &caller.scope, from_ms, to_ms);
    Ok(web::Json(state.db.read(read).await?))
}
