//! REST of alerts, of channels and of the delivery log; that of rules and hours below.

mod rules;

use actix_web::http::{Method, header};
use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};

use super::{
    Alert, AlertState, Change, Channel, CreatedChannel, DeliveryState, Error, Filter, LogEntry, LogFilter, NewChannel,
    Replay, Replayed, TestResult,
};
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
    let mut endpoints = vec![
        Endpoint::get("/api/v1/alerts", READ, "Alerts of your organizations with their deliveries, newest first", list)
            .query::<ListQuery>()
            .returns::<Page<Alert>>(200, "A page of alerts"),
        Endpoint::get("/api/v1/alert-channels", READ, "Channels that alerts go to", list_channels)
            .query::<PageQuery>()
            .returns::<Page<Channel>>(200, "A page of channels"),
        Endpoint::post("/api/v1/alert-channels", WRITE, "Makes a channel; its secret is shown only now", create)
            .body::<NewChannel>()
            .returns::<CreatedChannel>(201, "The channel and its secret"),
        Endpoint::get("/api/v1/alert-channels/{id}", READ, "One channel", get)
            .returns::<Channel>(200, "The channel, without its secrets"),
        Endpoint::new(Method::PATCH, "/api/v1/alert-channels/{id}", WRITE, "Changes or pauses a channel", update)
            .body::<Change>()
            .returns::<Channel>(200, "The channel as it is now"),
        Endpoint::new(Method::DELETE, "/api/v1/alert-channels/{id}", WRITE, "Deletes a channel", delete)
            .returns_empty(204, "It is deleted"),
        Endpoint::post("/api/v1/alert-channels/{id}/test", WRITE, "Sends a test message to a channel, once", test)
            .returns::<TestResult>(200, "How it ended"),
        Endpoint::get("/api/v1/alert-deliveries", READ, "What was sent where, newest first", log)
            .query::<LogQuery>()
            .returns::<Page<LogEntry>>(200, "A page of the delivery log"),
        Endpoint::post(
            "/api/v1/alert-deliveries/replay",
            WRITE,
            "Sends one delivery again, or the oldest thousand that failed",
            replay,
        )
        .body::<Replay>()
        .returns::<Replayed>(200, "How many wait again"),
    ];
    endpoints.extend(rules::endpoints());
    endpoints
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

/// Which deliveries.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct LogQuery {
    /// `next` of the page before.
    #[serde(default)]
    after: Option<String>,
    /// Rows on the page, 1–100; 20 when absent.
    #[serde(default)]
    size: Option<u32>,
    /// Only `pending`, `held`, `sent`, `failed` or `withdrawn` ones.
    #[serde(default)]
    state: Option<String>,
    /// Only to this channel.
    #[serde(default)]
    channel_id: Option<i64>,
    /// Only of alerts about this incident.
    #[serde(default)]
    incident_id: Option<i64>,
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound => Self::not_found(),
            Error::Limit(_) | Error::Changed | Error::Locked(_) => Self::conflict(sentence(&error)),
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
    let (size, after) = (page.size()?, page.after::<i64>()?);
    let rows = super::list_channels(&state.db, &state.alerts, &caller.scope, after, size + 1).await?;
    Ok(web::Json(Page::from_rows(rows, size, |channel| channel.id)))
}

async fn create(state: web::Data<State>, acting: Acting, Json(new): Json<NewChannel>) -> Result<HttpResponse, Problem> {
    let Acting { caller, actor } = acting;
    let now = state.clock.now();
    let made: CreatedChannel = super::create(&state.db, &state.alerts, &caller, &actor, new, now).await?;
    Ok(HttpResponse::Created().insert_header((header::CACHE_CONTROL, "no-store")).json(made))
}

async fn get(state: web::Data<State>, caller: Caller, Path(id): Path<i64>) -> Result<web::Json<Channel>, Problem> {
    Ok(web::Json(super::get_channel(&state.db, &state.alerts, &caller.scope, id).await?))
}

async fn update(
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Json(change): Json<Change>,
) -> Result<web::Json<Channel>, Problem> {
    let Acting { caller, actor } = acting;
    let now = state.clock.now();
    let changed = super::update(&state.db, &state.alerts, &caller.scope, &actor, id, change, now).await?;
    Ok(web::Json(changed))
}

async fn delete(state: web::Data<State>, acting: Acting, Path(id): Path<i64>) -> Result<HttpResponse, Problem> {
    let Acting { caller, actor } = acting;
    super::delete(&state.db, &state.alerts, &caller.scope, &actor, id, state.clock.now()).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn test(state: web::Data<State>, acting: Acting, Path(id): Path<i64>) -> Result<web::Json<TestResult>, Problem> {
    let now = state.clock.now();
    let ended = super::test(&state.db, &state.alerts, &acting.caller.scope, &acting.actor, id, now).await?;
    Ok(web::Json(ended))
}

async fn log(
    state: web::Data<State>,
    caller: Caller,
    Query(query): Query<LogQuery>,
) -> Result<web::Json<Page<LogEntry>>, Problem> {
    let wanted = match query.state.as_deref().filter(|name| !name.is_empty()) {
        None => None,
        Some(name) => Some(
            DeliveryState::parse(name)
                .ok_or_else(|| Problem::invalid("state", format!("{name:?} is not a state of a delivery")))?,
        ),
    };
    let filter = LogFilter { channel_id: query.channel_id, state: wanted, incident_id: query.incident_id };
    let page = PageQuery { after: query.after, size: query.size };
    let (size, before) = (page.size()?, page.after::<(i64, i64)>()?);
    let rows = state.db.read(move |conn| super::log(conn, &caller.scope, filter, before, size + 1)).await?;
    Ok(web::Json(Page::from_rows(rows, size, |entry| (entry.alert_id, entry.channel_id))))
}

async fn replay(
    state: web::Data<State>,
    acting: Acting,
    Json(wanted): Json<Replay>,
) -> Result<web::Json<Replayed>, Problem> {
    let Acting { caller, actor } = acting;
    Ok(web::Json(super::replay(&state.db, &caller, &actor, wanted, state.clock.now()).await?))
}
