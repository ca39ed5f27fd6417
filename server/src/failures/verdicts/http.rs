//! REST of verdicts and of the tables they are judged by.

use actix_web::http::Method;
use actix_web::web;
use serde::{Deserialize, Serialize};

use super::{Asked, Causes, Edit, EditError, Reevaluated, TablesView};
use crate::failures::WINDOW_HOURS_MAX;
use crate::http::State;
use crate::http::auth::Acting;
use crate::http::body::{Json, Path, Query};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::problem::{Problem, sentence};
use crate::operators::{Caller, Permission};

const READ: Access = Access::Operator(Permission::FailuresRead);
const WRITE: Access = Access::Operator(Permission::RulesWrite);

/// This part's rows of the endpoint table.
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/api/v1/failures/causes", READ, "How many failures of a window have which cause", causes)
            .query::<CausesQuery>()
            .returns::<Causes>(200, "Counts by cause"),
        Endpoint::post("/api/v1/failures/reevaluate", WRITE, "Judges failures again by the tables now in force", again)
            .body::<Asked>()
            .returns::<Reevaluated>(200, "How many were judged, and how many changed"),
        Endpoint::get(
            "/api/v1/rules/tables/{organization_id}",
            READ,
            "The tables that rules compare with, as they are in force for an organization",
            tables,
        )
        .returns::<TablesView>(200, "Tables, changes and edits"),
        Endpoint::get(
            "/api/v1/rules/versions/{hash}",
            READ,
            "The tables that a verdict of yours was judged by",
            version,
        )
        .returns::<TablesAsUsed>(200, "Each table with its rows"),
        Endpoint::new(
            Method::PUT,
            "/api/v1/rules/tables/{organization_id}",
            WRITE,
            "Replaces an organization's changes to the tables; verdicts stay as they are",
            edit,
        )
        .body::<Edit>()
        .returns::<TablesView>(200, "Tables, changes and edits"),
    ]
}

impl From<EditError> for Problem {
    fn from(error: EditError) -> Self {
        match error {
            EditError::NotFound => Self::not_found(),
            EditError::Field(error) => Self::from(error),
            EditError::Raced => Self::conflict(sentence(&error)),
            EditError::Db(error) => Self::from(error),
        }
    }
}

/// Tables as they were when a verdict was judged by them.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[schema(as = RuleTablesAsUsed)]
struct TablesAsUsed {
    /// Their hash.
    tables_version: String,
    /// By name: columns and rows.
    #[schema(value_type = Object)]
    tables: serde_json::Value,
}

/// Window of the counts.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::IntoParams, utoipa::ToSchema)]
#[into_params(parameter_in = Query)]
struct CausesQuery {
    /// Hours back from now, 1–672; 24 when absent.
    hours: Option<u32>,
}

async fn causes(
    state: web::Data<State>,
    caller: Caller,
    Query(query): Query<CausesQuery>,
) -> Result<web::Json<Causes>, Problem> {
    let hours = query.hours.unwrap_or(24);
    if !(1..=WINDOW_HOURS_MAX).contains(&hours) {
        return Err(Problem::invalid("hours", format!("must be 1 to {WINDOW_HOURS_MAX}")));
    }
    let now = state.clock.now();
    let counted = state.db.read(move |conn| super::causes(conn, &caller.scope, hours, now)).await?;
    Ok(web::Json(counted))
}

async fn again(
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Json(asked): Json<Asked>,
) -> Result<web::Json<Reevaluated>, Problem> {
    let now = state.clock.now();
    Ok(web::Json(super::reevaluate(&state.db, caller, actor, asked, now).await?))
}

async fn answer(state: &State, caller: Caller, id: i64) -> Result<web::Json<TablesView>, Problem> {
    let found = state.db.read(move |conn| super::show(conn, &caller.scope, id)).await?;
    found.map(web::Json).ok_or_else(Problem::not_found)
}

async fn tables(
    state: web::Data<State>,
    caller: Caller,
    Path(id): Path<i64>,
) -> Result<web::Json<TablesView>, Problem> {
    answer(&state, caller, id).await
}

async fn version(
    state: web::Data<State>,
    caller: Caller,
    Path(hash): Path<String>,
) -> Result<web::Json<TablesAsUsed>, Problem> {
    let tables_version = hash.clone();
    let found = state.db.read(move |conn| super::version(conn, &caller.scope, &hash)).await?;
    let tables = found.ok_or_else(Problem::not_found)?;
    Ok(web::Json(TablesAsUsed { tables_version, tables }))
}

async fn edit(
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Path(id): Path<i64>,
    Json(wanted): Json<Edit>,
) -> Result<web::Json<TablesView>, Problem> {
    let (now, acting) = (state.clock.now(), caller.clone());
    state.db.write(move |conn| super::edit(conn, &acting, &actor, id, &wanted, now)).await?;
    answer(&state, caller, id).await
}
