//! REST of rules and hours.

use actix_web::http::Method;
use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};

use super::super::{self as alerts, Hours, HoursChange, NewRule, RuleChange, RuleView};
use super::{READ, WRITE};
use crate::http::State;
use crate::http::auth::Acting;
use crate::http::body::{Json, Path, Query};
use crate::http::endpoints::Endpoint;
use crate::http::page::{Page, PageQuery};
use crate::http::problem::Problem;
use crate::operators::Caller;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/api/v1/alert-rules", READ, "Rules by which alerts find their channels", list)
            .query::<PageQuery>()
            .returns::<Page<RuleView>>(200, "A page of rules"),
        Endpoint::post("/api/v1/alert-rules", WRITE, "Makes a rule", create)
            .body::<NewRule>()
            .returns::<RuleView>(201, "The rule"),
        Endpoint::get("/api/v1/alert-rules/{id}", READ, "One rule", get).returns::<RuleView>(200, "The rule"),
        Endpoint::new(Method::PUT, "/api/v1/alert-rules/{id}", WRITE, "Writes a rule anew", update)
            .body::<RuleChange>()
            .returns::<RuleView>(200, "The rule as it is now"),
        Endpoint::new(Method::DELETE, "/api/v1/alert-rules/{id}", WRITE, "Deletes a rule", delete)
            .returns_empty(204, "It is deleted"),
        Endpoint::get("/api/v1/alert-hours", READ, "When the people of an organization are told", hours)
            .query::<HoursQuery>()
            .returns::<Hours>(200, "Time zone, quiet hours and time of the digest"),
        Endpoint::new(Method::PUT, "/api/v1/alert-hours", WRITE, "Sets when people are told", set_hours)
            .body::<HoursChange>()
            .returns::<Hours>(200, "The hours as they are now"),
    ]
}

/// Whose hours.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct HoursQuery {
    /// The organization; your own when absent.
    #[serde(default)]
    organization_id: Option<i64>,
}

async fn list(
    state: web::Data<State>,
    caller: Caller,
    Query(page): Query<PageQuery>,
) -> Result<web::Json<Page<RuleView>>, Problem> {
    let (size, after) = (page.size()?, page.after::<i64>()?);
    let rows = state.db.read(move |conn| alerts::list_rules(conn, &caller.scope, after, size + 1)).await?;
    Ok(web::Json(Page::from_rows(rows, size, |rule| rule.id)))
}

async fn create(state: web::Data<State>, acting: Acting, Json(new): Json<NewRule>) -> Result<HttpResponse, Problem> {
    let Acting { caller, actor } = acting;
    let made = alerts::create_rule(&state.db, &caller, &actor, new, state.clock.now()).await?;
    Ok(HttpResponse::Created().json(made))
}

async fn get(state: web::Data<State>, caller: Caller, Path(id): Path<i64>) -> Result<web::Json<RuleView>, Problem> {
    Ok(web::Json(state.db.read(move |conn| alerts::get_rule(conn, &caller.scope, id)).await?))
}

async fn update(
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Json(change): Json<RuleChange>,
) -> Result<web::Json<RuleView>, Problem> {
    let Acting { caller, actor } = acting;
    let changed = alerts::update_rule(&state.db, &caller.scope, &actor, id, change, state.clock.now()).await?;
    Ok(web::Json(changed))
}

async fn delete(state: web::Data<State>, acting: Acting, Path(id): Path<i64>) -> Result<HttpResponse, Problem> {
    let Acting { caller, actor } = acting;
    alerts::delete_rule(&state.db, &caller.scope, &actor, id, state.clock.now()).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn hours(
    state: web::Data<State>,
    caller: Caller,
    Query(query): Query<HoursQuery>,
) -> Result<web::Json<Hours>, Problem> {
    let zone = state.config.time_zone.clone();
    let found = state.db.read(move |conn| alerts::hours_of(conn, &caller, query.organization_id, &zone)).await?;
    Ok(web::Json(found))
}

async fn set_hours(
    state: web::Data<State>,
    acting: Acting,
    Json(change): Json<HoursChange>,
) -> Result<web::Json<Hours>, Problem> {
    let Acting { caller, actor } = acting;
    let zone = &state.config.time_zone;
    Ok(web::Json(alerts::set_hours(&state.db, &caller, &actor, change, zone, state.clock.now()).await?))
}
