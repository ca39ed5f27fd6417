//! REST of SIM cards.

use actix_web::{HttpRequest, web};
use serde::Deserialize;

use super::{Card, Error, FILE_BYTES_MAX, Imported};
use crate::audit::Actor;
use crate::http::body::{self, Query};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::page::{Page, PageQuery};
use crate::http::problem::Problem;
use crate::http::{RequestId, State};
use crate::operators::{Caller, Permission};

/// This part's rows of the endpoint table.
pub(in crate::failures::fleet) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get(
            "/api/v1/sim-cards",
            Access::Operator(Permission::TerminalsRead),
            "SIM cards of your organizations, by number",
            list,
        )
        .query::<CardQuery>()
        .returns::<Page<Card>>(200, "A page of cards"),
        Endpoint::post(
            "/api/v1/sim-cards/import",
            Access::Operator(Permission::TerminalsWrite),
            "Registers SIM cards with their pools and ends from a CSV file (UTF-8 or GB18030), 16 MiB at most",
            import,
        )
        .query::<ImportQuery>()
        .body_file("text/csv", "The file, with a row of headings")
        .returns::<Imported>(200, "What became of the rows"),
    ]
}

/// Which cards.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct CardQuery {
    /// Only of this pool.
    pool: Option<String>,
    /// `next` of the page before.
    after: Option<String>,
    /// Rows on the page, 1–100; 20 when absent.
    size: Option<u32>,
}

async fn list(
    state: web::Data<State>,
    caller: Caller,
    Query(query): Query<CardQuery>,
) -> Result<web::Json<Page<Card>>, Problem> {
    let page = PageQuery { after: query.after, size: query.size };
    let (size, after) = (page.size()?, page.after::<String>()?);
    let pool = query.pool;
    let read = move |conn: &mut _| super::list(conn, &caller.scope, pool.as_deref(), after.as_deref(), size + 1);
    let rows = state.db.read(read).await?;
    Ok(web::Json(Page::from_rows(rows, size, |card| card.iccid.clone())))
}

/// Whose cards they are.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct ImportQuery {
    /// The organization; the caller's own when absent.
    organization_id: Option<i64>,
}

async fn import(
    state: web::Data<State>,
    caller: Caller,
    request_id: web::ReqData<RequestId>,
    Query(query): Query<ImportQuery>,
    request: HttpRequest,
    mut payload: web::Payload,
) -> Result<web::Json<Imported>, Problem> {
    let _turn = state.imports.take()?;
    let file = body::read(request.headers(), &mut payload, FILE_BYTES_MAX).await?;
    let actor = Actor::from(&caller).in_request(&request_id.0);
    let organization_id = query.organization_id.unwrap_or(caller.organization_id);
    let now = state.clock.now();
    let imported = super::import(&state.db, actor, caller.scope, organization_id, file.into(), now).await?;
    Ok(web::Json(imported))
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Field(error) => error.into(),
            Error::Db(error) => error.into(),
        }
    }
}
