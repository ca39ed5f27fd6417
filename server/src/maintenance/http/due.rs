//! What is due, and every device, as pages and tables.

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};

use super::READ;
use crate::audit;
use crate::http::auth::Acting;
use crate::http::body::Query;
use crate::http::endpoints::Endpoint;
use crate::http::page::{Page, PageQuery};
use crate::http::problem::Problem;
use crate::http::{State, csv};
use crate::maintenance::due::{Finding, Observed};
use crate::maintenance::list::BLOCK_ROWS;
use crate::maintenance::{self, Device, DueFilter, DueKey, DueTerminal, Error};
use crate::operators::Caller;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/api/v1/inspections", READ, "Terminals that are due for inspection, most urgent first", due)
            .query::<DueQuery>()
            .returns::<Page<DueTerminal>>(200, "A page of terminals, each with its findings"),
        Endpoint::get("/api/v1/inspections.csv", READ, "The same as a table", due_table)
            .query::<DueQuery>()
            .returns_empty(200, "CSV in UTF-8 with a byte order mark"),
        Endpoint::get(
            "/api/v1/device-list",
            READ,
            "Every device with place and last inspection (PCI DSS 9.5.1.1)",
            devices,
        )
        .query::<PageQuery>()
        .returns::<Page<Device>>(200, "A page of devices"),
        Endpoint::get("/api/v1/device-list.csv", READ, "The same as a table", device_table)
            .returns_empty(200, "CSV in UTF-8 with a byte order mark"),
    ]
}

/// Which terminals that are due.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct DueQuery {
    /// `next` of the page before.
    #[serde(default)]
    after: Option<String>,
    /// Rows on the page, 1–100; 20 when absent.
    #[serde(default)]
    size: Option<u32>,
    /// Only for this reason: `tamper`, `moved`, `reader`, `printer`, `battery`, `coin_cell`, `certificate`, `sim`, `dormant`
    /// or `age`.
    #[serde(default)]
    reason: Option<String>,
    /// At least so urgent: `planned`, `soon` or `now`.
    #[serde(default)]
    urgency: Option<String>,
    /// Only of this organization and all below it.
    #[serde(default)]
    organization_id: Option<i64>,
}

impl DueQuery {
    fn filter(&self) -> Result<DueFilter, Problem> {
        let name = |value: &Option<String>| value.clone().unwrap_or_default();
        let named = DueFilter::of_names(&name(&self.reason), &name(&self.urgency))?;
        Ok(DueFilter { organization_id: self.organization_id, ..named })
    }
}

async fn due(
    state: web::Data<State>,
    caller: Caller,
    Query(query): Query<DueQuery>,
) -> Result<web::Json<Page<DueTerminal>>, Problem> {
    let filter = query.filter()?;
    let page = PageQuery { after: query.after, size: query.size };
    let (size, after) = (page.size()?, page.after::<DueKey>()?);
    let rows = state.db.read(move |conn| maintenance::list_due(conn, &caller.scope, &filter, after, size + 1)).await?;
    Ok(web::Json(Page::from_rows(rows, size, DueTerminal::key)))
}

async fn due_table(
    state: web::Data<State>,
    acting: Acting,
    Query(query): Query<DueQuery>,
) -> Result<HttpResponse, Problem> {
    const HEADINGS: [&str; 10] = [
        "sn",
        "model",
        "org_path",
        "merchant_no",
        "merchant_name",
        "store_name",
        "urgency",
        "findings",
        "inspected_at_ms",
        "inspected_by",
    ];
    let row = |row: &DueTerminal| {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let findings: Vec<String> = row.findings.iter().map(finding).collect();
        csv::line(&[
            row.sn.clone(),
            row.model.clone(),
            row.org_path.clone(),
            text(&row.merchant_no),
            text(&row.merchant_name),
            text(&row.store_name),
            row.urgency.as_str().to_owned(),
            findings.join("; "),
            number(row.inspected_at_ms),
            text(&row.inspected_by),
        ])
    };
    due_file(&state, acting, query.filter()?, csv::line(&HEADINGS), row).await
}

fn number(value: Option<i64>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

fn finding(finding: &Finding) -> String {
    let observed = match &finding.observed {
        Observed::Number(number) => number.to_string(),
        Observed::Share { errors, n } => format!("{errors}/{n}"),
        Observed::Word(word) => word.clone(),
    };
    format!("{} {observed} ({})", finding.reason.as_str(), finding.threshold)
}

/// The list of what is due as a file, each row written by `row`; who takes it along is noted first.
///
/// # Errors
/// 422 for an organization outside the caller's.
async fn due_file(
    state: &web::Data<State>,
    Acting { caller, actor }: Acting,
    filter: DueFilter,
    heading: String,
    row: impl Fn(&DueTerminal) -> String + Clone + 'static,
) -> Result<HttpResponse, Problem> {
    let (scope, asked) = (caller.scope.clone(), filter.clone());
    state.db.read(move |conn| maintenance::list_due(conn, &scope, &asked, None, 1)).await?;
    audit::export(&state.db, &caller, actor, filter.export(), state.clock.now()).await?;
    let state = state.clone();
    Ok(csv::download("inspections.csv", heading, move |after: Option<DueKey>| {
        let (state, scope, filter, row) = (state.clone(), caller.scope.clone(), filter.clone(), row.clone());
        async move {
            let rows =
                state.db.read(move |conn| maintenance::list_due(conn, &scope, &filter, after, BLOCK_ROWS)).await?;
            Ok::<_, Error>(rows.last().map(DueTerminal::key).map(|key| (key, rows.iter().map(row).collect())))
        }
    }))
}

async fn devices(
    state: web::Data<State>,
    caller: Caller,
    Query(page): Query<PageQuery>,
) -> Result<web::Json<Page<Device>>, Problem> {
    let (size, after) = (page.size()?, page.after::<i64>()?.unwrap_or(0));
    let now = state.clock.now();
    let rows = state.db.read(move |conn| maintenance::devices(conn, &caller.scope, after, size + 1, now)).await?;
    Ok(web::Json(Page::from_rows(rows, size, |device| device.terminal_id)))
}

async fn device_table(state: web::Data<State>, Acting { caller, actor }: Acting) -> Result<HttpResponse, Problem> {
    const HEADINGS: [&str; 17] = [
        "model",
        "hardware",
        "sn",
        "tusn",
        "org_path",
        "merchant_no",
        "merchant_name",
        "store_name",
        "terminal_no",
        "region",
        "lifecycle",
        "firmware",
        "last_seen_ms",
        "inspected_at_ms",
        "inspected_by",
        "work_order_id",
        "proven",
    ];
    let row = |device: &Device| {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        csv::line(&[
            device.model.clone(),
            text(&device.hardware),
            device.sn.clone(),
            text(&device.tusn),
            device.org_path.clone(),
            text(&device.merchant_no),
            text(&device.merchant_name),
            text(&device.store_name),
            text(&device.terminal_no),
            device.region.clone(),
            device.lifecycle.clone(),
            device.firmware.clone(),
            number(device.last_seen_ms),
            number(device.inspected_at_ms),
            text(&device.inspected_by),
            number(device.inspection_order_id),
            device.inspection_proven.map(|proven| proven.to_string()).unwrap_or_default(),
        ])
    };
    audit::export(&state.db, &caller, actor, maintenance::devices_export(), state.clock.now()).await?;
    Ok(device_file(&state, caller, csv::line(&HEADINGS), row))
}

/// The list of devices as a file, each row written by `row`.
fn device_file(
    state: &web::Data<State>,
    caller: Caller,
    heading: String,
    row: impl Fn(&Device) -> String + Clone + 'static,
) -> HttpResponse {
    let state = state.clone();
    csv::download("devices.csv", heading, move |after: Option<i64>| {
        let (state, scope, row) = (state.clone(), caller.scope.clone(), row.clone());
        async move {
            let (after, now) = (after.unwrap_or(0), state.clock.now());
            let rows = state.db.read(move |conn| maintenance::devices(conn, &scope, after, BLOCK_ROWS, now)).await?;
            let last = rows.last().map(|device| device.terminal_id);
            Ok::<_, Error>(last.map(|key| (key, rows.iter().map(row).collect())))
        }
    })
}
