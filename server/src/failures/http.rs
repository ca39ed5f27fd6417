//! REST of failures.

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};

use super::classify::{Cause, Symptom};
use super::{Class, FailureRow, Filter, Found, Only, Overview, Question, WINDOW_HOURS_MAX};
use crate::http::State;
use crate::http::auth::Acting;
use crate::http::body::Query;
use crate::http::endpoints::{Access, Endpoint};
use crate::http::page::{Page, PageQuery};
use crate::http::problem::Problem;
use crate::operators::{Caller, Permission, Scope};
use crate::organizations;

/// This domain's rows of the endpoint table.
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get(
            "/api/v1/failures",
            Access::Operator(Permission::FailuresRead),
            "Failures of your organizations' terminals, newest first, each with its condition",
            list,
        )
        .query::<FailureQuery>()
        .returns::<Page<FailureRow>>(200, "A page of failures"),
        Endpoint::get(
            "/api/v1/failures/overview",
            Access::Operator(Permission::FailuresRead),
            "What failed in a window, and which conditions explain it",
            overview,
        )
        .query::<OverviewQuery>()
        .returns::<Overview>(200, "Counts and explanations"),
        Endpoint::get(
            "/api/v1/failures/explain",
            Access::Operator(Permission::FailuresRead),
            "Which conditions explain the failures of a part of the fleet",
            explain,
        )
        .query::<ExplainQuery>()
        .returns::<Overview>(200, "Counts and explanations"),
        Endpoint::get(
            "/api/v1/failures/cells.csv",
            Access::Operator(Permission::FailuresRead),
            "The counts behind that, as a table for `tillward explain --cells`",
            cells,
        )
        .query::<ExplainQuery>()
        .returns_empty(200, "CSV: one column for each attribute, then the counts"),
        Endpoint::get(
            "/api/v1/failures/explanations",
            Access::Operator(Permission::FailuresRead),
            "What unattended scans found, newest first",
            explanations,
        )
        .query::<FoundQuery>()
        .returns::<Page<Found>>(200, "A page of answers"),
    ]
}

/// Filters and page of the list of failures.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::IntoParams, utoipa::ToSchema)]
#[into_params(parameter_in = Query)]
struct FailureQuery {
    /// Only of this terminal.
    terminal_id: Option<i64>,
    /// Received at or after, Unix ms.
    from_ms: Option<i64>,
    /// Only with this response code.
    response_code: Option<String>,
    /// Only at this stage.
    stage: Option<String>,
    /// Only under this firmware.
    firmware: Option<String>,
    /// Only with a verdict of this cause, for example `NET.SIGNAL`.
    cause: Option<String>,
    /// Only with a verdict of this symptom, for example `S1`.
    symptom: Option<String>,
    /// `next` of the page before.
    after: Option<String>,
    /// Rows on the page, 1–100.
    size: Option<u32>,
}

/// A value by its name; an empty name does not narrow.
fn named<T>(field: &str, name: Option<&str>, parse: fn(&str) -> Option<T>) -> Result<Option<T>, Problem> {
    match name.filter(|name| !name.is_empty()) {
        None => Ok(None),
        Some(name) => parse(name).map(Some).ok_or_else(|| Problem::invalid(field, "is not known")),
    }
}

async fn list(
    state: web::Data<State>,
    caller: Caller,
    Query(query): Query<FailureQuery>,
) -> Result<web::Json<Page<FailureRow>>, Problem> {
    let page = PageQuery { after: query.after, size: query.size };
    let (size, after) = (page.size()?, page.after()?);
    let filter = Filter {
        terminal_id: query.terminal_id,
        event_id: None,
        from_ms: query.from_ms,
        response_code: query.response_code,
        stage: query.stage,
        firmware: query.firmware,
        cause: named("cause", query.cause.as_deref(), Cause::parse)?,
        symptom: named("symptom", query.symptom.as_deref(), Symptom::parse)?,
    };
    let rows = state.db.read(move |conn| super::list(conn, &caller.scope, &filter, after.as_ref(), size + 1)).await?;
    Ok(web::Json(Page::from_rows(rows, size, |row| (row.received_at_ms, row.terminal_id, row.event_id.clone()))))
}

/// Window of an overview.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::IntoParams, utoipa::ToSchema)]
#[into_params(parameter_in = Query)]
struct OverviewQuery {
    /// Hours back from now, 1–672; 24 when absent.
    hours: Option<u32>,
}

async fn overview(
    state: web::Data<State>,
    caller: Caller,
    Query(query): Query<OverviewQuery>,
) -> Result<web::Json<Overview>, Problem> {
    let hours = query.hours.unwrap_or(24);
    if !(1..=WINDOW_HOURS_MAX).contains(&hours) {
        return Err(Problem::invalid("hours", format!("must be 1 to {WINDOW_HOURS_MAX}")));
    }
    let now = state.clock.now();
    Ok(web::Json(super::overview(&state.db, caller.scope, hours, now).await?))
}

/// Which failures are to be explained.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::IntoParams, utoipa::ToSchema)]
#[into_params(parameter_in = Query)]
struct ExplainQuery {
    /// Hours back from now, 1–672; 24 when absent.
    hours: Option<u32>,
    /// Only of this organization and those below it.
    organization_id: Option<i64>,
    /// Only under this firmware. Like each of the next nine: a value, or `!value` for all others.
    firmware: Option<String>,
    /// Only of this model.
    model: Option<String>,
    /// Only of this hardware revision.
    hardware: Option<String>,
    /// Only under this application.
    app: Option<String>,
    /// Only with this config hash.
    config: Option<String>,
    /// Only of this region.
    region: Option<String>,
    /// Only of this carrier: `CMCC`, `CUCC`, `CTCC`, `CBN`, `unknown`.
    carrier: Option<String>,
    /// Only over this access: `5g`, `4g`, `3g`, `2g`, `wifi`, `eth`, `bt_phone`, `unknown`.
    access: Option<String>,
    /// Only with this signal: `good`, `fair`, `poor`, `bad`, `unknown`.
    signal: Option<String>,
    /// Only inside (`yes`) or outside (`no`) an update.
    in_update: Option<String>,
    /// Only this outcome (`code:91`, `stage:tls`), or those that are `technical`; or of the `link`, the `host`, the
    /// `terminal`, the `binding` alone.
    outcome: Option<String>,
}

impl ExplainQuery {
    /// The question, and the part of the caller's organizations that it is about.
    async fn question(self, state: &State, scope: Scope) -> Result<(Scope, Question), Problem> {
        let hours = self.hours.unwrap_or(24);
        if !(1..=WINDOW_HOURS_MAX).contains(&hours) {
            return Err(Problem::invalid("hours", format!("must be 1 to {WINDOW_HOURS_MAX}")));
        }
        let scope = match self.organization_id {
            None => scope,
            Some(id) => state
                .db
                .read(move |conn| organizations::part(conn, &scope, id))
                .await?
                .ok_or_else(|| Problem::invalid("organization_id", "is not an organization of yours"))?,
        };
        let class = named("outcome", self.outcome.as_deref(), Class::parse)?;
        let asked = [
            ("firmware", &self.firmware),
            ("model", &self.model),
            ("hardware", &self.hardware),
            ("app", &self.app),
            ("config", &self.config),
            ("region", &self.region),
            ("carrier", &self.carrier),
            ("access", &self.access),
            ("signal", &self.signal),
            ("in_update", &self.in_update),
        ];
        let only = Only::new(asked.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?))));
        Ok((scope, Question { hours, only, class }))
    }
}

async fn explain(
    state: web::Data<State>,
    caller: Caller,
    Query(query): Query<ExplainQuery>,
) -> Result<web::Json<Overview>, Problem> {
    let (scope, question) = query.question(&state, caller.scope).await?;
    Ok(web::Json(super::explain(&state.db, scope, question, state.clock.now()).await?))
}

async fn cells(
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Query(query): Query<ExplainQuery>,
) -> Result<HttpResponse, Problem> {
    let (scope, question) = query.question(&state, caller.scope.clone()).await?;
    let file = super::export_cells(&state.db, &caller, actor, scope, question, state.clock.now()).await?;
    Ok(HttpResponse::Ok()
        .content_type("text/csv; charset=utf-8")
        .insert_header(("Content-Disposition", "attachment; filename=\"cells.csv\""))
        .body(file))
}

/// Page of what unattended scans found.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::IntoParams, utoipa::ToSchema)]
#[into_params(parameter_in = Query)]
struct FoundQuery {
    /// `next` of the page before.
    after: Option<String>,
    /// Rows on the page, 1–100.
    size: Option<u32>,
}

async fn explanations(
    state: web::Data<State>,
    caller: Caller,
    Query(query): Query<FoundQuery>,
) -> Result<web::Json<Page<Found>>, Problem> {
    let page = PageQuery { after: query.after, size: query.size };
    let (size, after) = (page.size()?, page.after()?);
    let rows = state.db.read(move |conn| super::found(conn, &caller.scope, after, size + 1)).await?;
    Ok(web::Json(Page::from_rows(rows, size, |row| row.id)))
}
