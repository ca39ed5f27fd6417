//! REST of the fleet's rules.

use actix_web::web;
use serde::Deserialize;

use super::kpis::{Kpis, kpis};
use super::rules::Rule;
use super::{Finding, MerchantSwitches, RuleState, sims};
use crate::http::State;
use crate::http::body::Query;
use crate::http::endpoints::{Access, Endpoint};
use crate::http::page::{Page, PageQuery};
use crate::http::problem::Problem;
use crate::operators::{Caller, Permission};

/// This part's rows of the endpoint table.
pub fn endpoints() -> Vec<Endpoint> {
    let read = Access::Operator(Permission::IncidentsRead);
    let mut endpoints = vec![
        Endpoint::get("/api/v1/fleet/rules", read, "What each rule over the whole fleet said last", rules)
            .returns_list::<RuleState>(200, "The rules that were judged"),
        Endpoint::get(
            "/api/v1/fleet/findings",
            read,
            "What the rules found about your organizations, newest first, with the incidents it became",
            findings,
        )
        .query::<FindingQuery>()
        .returns::<Page<Finding>>(200, "A page of findings"),
        Endpoint::get("/api/v1/fleet/kpis", read, "Your organizations' terminals in a few numbers", numbers)
            .returns::<Kpis>(200, "The numbers"),
        Endpoint::get(
            "/api/v1/reconciliation/merchants",
            Access::Operator(Permission::SettlementsRead),
            "Merchants with payments settled under another number: share, interval, coverage and patterns to be reviewed",
            switches,
        )
        .returns_list::<MerchantSwitches>(200, "Those with the most first, as of the latest round"),
    ];
    endpoints.extend(sims::http::endpoints());
    endpoints
}

async fn rules(state: web::Data<State>, _: Caller) -> Result<web::Json<Vec<RuleState>>, Problem> {
    Ok(web::Json(state.db.read(super::rule_states).await?))
}

async fn switches(state: web::Data<State>, caller: Caller) -> Result<web::Json<Vec<MerchantSwitches>>, Problem> {
    Ok(web::Json(state.db.read(move |conn| super::switches(conn, &caller.scope)).await?))
}

async fn numbers(state: web::Data<State>, caller: Caller) -> Result<web::Json<Kpis>, Problem> {
    let now = state.clock.now();
    Ok(web::Json(state.db.read(move |conn| kpis(conn, &caller.scope, now)).await?))
}

/// Which findings.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct FindingQuery {
    /// Only of this rule.
    rule: Option<String>,
    /// `next` of the page before.
    after: Option<String>,
    /// Rows on the page, 1–100; 20 when absent.
    size: Option<u32>,
}

async fn findings(
    state: web::Data<State>,
    caller: Caller,
    Query(query): Query<FindingQuery>,
) -> Result<web::Json<Page<Finding>>, Problem> {
    let rule = match query.rule.as_deref() {
        None | Some("") => None,
        Some(name) => Some(Rule::parse(name).ok_or_else(|| Problem::invalid("rule", "is not known"))?),
    };
    let page = PageQuery { after: query.after, size: query.size };
    let (size, before) = (page.size()?, page.after::<i64>()?);
    let rows = state.db.read(move |conn| super::findings(conn, &caller.scope, rule, before, size + 1)).await?;
    Ok(web::Json(Page::from_rows(rows, size, |finding| finding.id)))
}
