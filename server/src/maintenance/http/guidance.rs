//! Operators' errors by store, and the work order to teach its people.

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};

use super::orders::created;
use super::{READ, WRITE};
use crate::audit;
use crate::http::auth::Acting;
use crate::http::body::{Json, Query};
use crate::http::endpoints::Endpoint;
use crate::http::page::{Page, PageQuery};
use crate::http::problem::Problem;
use crate::http::{State, csv};
use crate::maintenance::guidance::{self, Key, StoreGuidance, StoreOf};
use crate::maintenance::orders::WorkOrderDetail;
use crate::operators::Caller;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/api/v1/guidance", READ, "Operators' errors by store, compared with like stores", stores)
            .query::<GuidanceQuery>()
            .returns::<Page<StoreGuidance>>(200, "A page of stores"),
        Endpoint::get("/api/v1/guidance.csv", READ, "The same as a table", store_table)
            .query::<GuidanceQuery>()
            .returns_empty(200, "CSV in UTF-8 with a byte order mark"),
        Endpoint::post("/api/v1/guidance/teach", WRITE, "Opens a work order to teach the people of a store", teach)
            .body::<StoreOf>()
            .returns::<WorkOrderDetail>(201, "The work order"),
    ]
}

/// Which stores.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct GuidanceQuery {
    /// `next` of the page before.
    #[serde(default)]
    after: Option<String>,
    /// Rows on the page, 1–100; 20 when absent.
    #[serde(default)]
    size: Option<u32>,
    /// Only with this verdict: `above`, `usual` or `insufficient`.
    #[serde(default)]
    verdict: Option<String>,
    /// Only of this organization and all below it.
    #[serde(default)]
    organization_id: Option<i64>,
}

impl GuidanceQuery {
    fn filter(&self) -> Result<guidance::Filter, Problem> {
        let named = guidance::Filter::of_names(self.verdict.as_deref().unwrap_or_default())?;
        Ok(guidance::Filter { organization_id: self.organization_id, ..named })
    }
}

async fn stores(
    state: web::Data<State>,
    caller: Caller,
    Query(query): Query<GuidanceQuery>,
) -> Result<web::Json<Page<StoreGuidance>>, Problem> {
    let filter = query.filter()?;
    let page = PageQuery { after: query.after, size: query.size };
    let (size, after, now) = (page.size()?, page.after::<Key>()?, state.clock.now());
    let rows = state
        .db
        .read(move |conn| guidance::stores(conn, &caller.scope, &filter, after.as_ref(), size + 1, now))
        .await?;
    Ok(web::Json(Page::from_rows(rows, size, StoreGuidance::key)))
}

async fn store_table(
    state: web::Data<State>,
    acting: Acting,
    Query(query): Query<GuidanceQuery>,
) -> Result<HttpResponse, Problem> {
    const HEADINGS: [&str; 12] = [
        "org_path",
        "merchant_no",
        "store_name",
        "model",
        "attempts",
        "error",
        "errors",
        "rate",
        "rate_low",
        "rate_high",
        "usual_rate",
        "verdict",
    ];
    let row = |row: &StoreGuidance| {
        let share = |share: Option<f64>| share.map(|share| format!("{share:.5}")).unwrap_or_default();
        let line = |rate: &guidance::ErrorRate| {
            csv::line(&[
                row.org_path.clone(),
                row.merchant_no.clone(),
                row.store_name.clone(),
                row.model.clone(),
                row.attempts.to_string(),
                rate.error.as_str().to_owned(),
                rate.errors.to_string(),
                share(rate.rate),
                share(rate.rate_low),
                share(rate.rate_high),
                share(rate.usual_rate),
                rate.verdict.clone(),
            ])
        };
        row.by_error.iter().map(line).collect::<String>()
    };
    guidance_file(&state, acting, query.filter()?, csv::line(&HEADINGS), row).await
}

/// The comparison of stores as a file, the lines of each store written by `row`; who takes it along is noted first.
///
/// # Errors
/// 422 for an organization outside the caller's.
async fn guidance_file(
    state: &web::Data<State>,
    Acting { caller, actor }: Acting,
    filter: guidance::Filter,
    heading: String,
    row: impl Fn(&StoreGuidance) -> String,
) -> Result<HttpResponse, Problem> {
    let (now, scope, asked) = (state.clock.now(), caller.scope.clone(), filter.clone());
    // The comparison has read all of them anyway.
    let rows = state.db.read(move |conn| guidance::stores(conn, &scope, &filter, None, u32::MAX, now)).await?;
    audit::export(&state.db, &caller, actor, asked.export(rows.len()), now).await?;
    let lines: String = rows.iter().map(row).collect();
    let lines = std::cell::RefCell::new(Some(lines));
    Ok(csv::download("operator-errors.csv", heading, move |_: Option<()>| {
        let block = lines.take().map(|lines| ((), lines));
        async move { Ok::<_, crate::db::Error>(block) }
    }))
}

async fn teach(
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Json(asked): Json<StoreOf>,
) -> Result<HttpResponse, Problem> {
    let (now, acting) = (state.clock.now(), caller.clone());
    let id = state.db.write(move |conn| guidance::open_teaching(conn, &acting, &actor, &asked, now)).await?;
    created(&state, caller, id).await
}
