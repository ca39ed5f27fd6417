//! REST of alerts and channels.

use actix_web::http::{Method, header};
use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};

use super::{Alert, AlertState, Channel, CreatedChannel, Error, Filter, NewChannel, TestResult};
use crate::http::State;
use crate::http::auth::Acting;
use crate::http::body::{Json, Path, Query};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::page::{Page, PageQuery};
use crate::http::problem::{Problem, sentence};
use crate::operators::{Caller, Permission};

const READ: Access = Access::Operator(Permission::IncidentsRead);
const WRITE: Access = Access::Operator(Permission::AlertsWrite);

/// This domain's rows of the endpoint table.
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/api/v1/alerts", READ, "Alerts of your organizations with their deliveries, newest first", list)
            .query::<ListQuery>()
            .returns::<Page<Alert>>(200, "A page of alerts"),
        Endpoint::get("/api/v1/alert-channels", READ, "Channels that alerts go to", list_channels)
            .query::<PageQuery>()
            .returns::<Page<Channel>>(200, "A page of channels"),
        Endpoint::post("/api/v1/alert-channels", WRITE, "Makes a channel; its secret is shown only now", create)
            .body::<NewChannel>()
            .returns::<CreatedChannel>(201, "The channel and its secret"),
        Endpoint::new(Method::DELETE, "/api/v1/alert-channels/{id}", WRITE, "Deletes a channel", delete)
            .returns_empty(204, "It is deleted"),
        Endpoint::post("/api/v1/alert-channels/{id}/test", WRITE, "Sends a test message to a channel, once", test)
            .returns::<TestResult>(200, "How it ended"),
    ]
}

/// Which alerts.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// `next` of the page before.
    #[serde(default)]
    after: Option<String>,
    /// Rows on the page, 1–100; 20 when absent.
    #[serde(default)]
    size: Option<u32>,
    /// Only in this state.
    #[serde(default)]
    state: Option<String>,
    /// Only about this incident.
    #[serde(default)]
    incident_id: Option<i64>,
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound => Self::not_found(),
            Error::Limit => Self::conflict(sentence(&error)),
            Error::Field(error) => Self::from(error),
            Error::Db(error) => Self::from(error),
        }
    }
}

async fn list(
    state: web::Data<State>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<web::Json<Page<Alert>>, Problem> {
    let wanted = match query.state.as_deref().filter(|name| !name.is_empty()) {
        None => None,
        Some(name) => Some(
            AlertState::parse(name)
                .ok_or_else(|| Problem::invalid("state", format!("{name:?} is not a state of an alert")))?,
        ),
    };
    let filter = Filter { state: wanted, incident_id: query.incident_id };
    let page = PageQuery { after: query.after, size: query.size };
    let (size, before) = (page.size()?, page.after::<i64>()?);
    let rows = state.db.read(move |conn| super::list(conn, &caller.scope, filter, before, size + 1)).await?;
    Ok(web::Json(Page::from_rows(rows, size, |alert| alert.id)))
}

async fn list_channels(
    state: web::Data<State>,
    caller: Caller,
    Query(page): Query<PageQuery>,
) -> Result<web::Json<Page<Channel>>, Problem> {
    let size = page.size()?;
    let rows = super::list_channels(&state.db, &caller.scope, page.after::<i64>()?, size + 1).await?;
    Ok(web::Json(Page::from_rows(rows, size, |channel| channel.id)))
}

async fn create(state: web::Data<State>, acting: Acting, Json(new): Json<NewChannel>) -> Result<HttpResponse, Problem> {
    let made: CreatedChannel = super::create(&state.db, &acting.caller, &acting.actor, new, state.clock.now()).await?;
    Ok(HttpResponse::Created().insert_header((header::CACHE_CONTROL, "no-store")).json(made))
}

async fn delete(state: web::Data<State>, acting: Acting, Path(id): Path<i64>) -> Result<HttpResponse, Problem> {
    super::delete(&state.db, &acting.caller.scope, &acting.actor, id, state.clock.now()).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn test(state: web::Data<State>, acting: Acting, Path(id): Path<i64>) -> Result<web::Json<TestResult>, Problem> {
    let now = state.clock.now();
    let ended = super::test(&state.db, &state.alerts, &acting.caller.scope, &acting.actor, id, now).await?;
    Ok(web::Json(ended))
}
