//! REST of channels, and their callbacks.

use actix_web::http::{Method, header};
use actix_web::{HttpResponse, web};
use serde::Serialize;
use serde_json::Value;

use super::{Channel, CreatedChannel, NewChannel, Taken};
use crate::db;
use crate::http::State;
use crate::http::auth::{Acting, SignedBody};
use crate::http::body::{self, Json, Path, Query};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::page::{Page, PageQuery};
use crate::http::problem::Problem;
use crate::operators::{Caller, Permission};

const READ: Access = Access::Operator(Permission::SettlementsRead);
const WRITE: Access = Access::Operator(Permission::SettlementsWrite);

/// This domain's rows of the endpoint table.
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/api/v1/feed-channels", READ, "Channels that tell of settled payments", list)
            .query::<PageQuery>()
            .returns::<Page<Channel>>(200, "A page of channels"),
        Endpoint::post("/api/v1/feed-channels", WRITE, "Makes a channel; its secret is shown only now", create)
            .body::<NewChannel>()
            .returns::<CreatedChannel>(201, "The channel and its secret"),
        Endpoint::get("/api/v1/feed-channels/{id}", READ, "One channel", get).returns::<Channel>(200, "The channel"),
        Endpoint::post("/api/v1/feed-channels/{id}/secret", WRITE, "Gives a channel a new secret", renew)
            .returns::<CreatedChannel>(200, "The channel and its new secret"),
        Endpoint::new(Method::DELETE, "/api/v1/feed-channels/{id}", WRITE, "Deletes a channel", delete)
            .returns_empty(204, "It is deleted; what it told stays"),
        Endpoint::post(
            "/channel/v1/{id}/transactions",
            Access::Channel,
            "Payments as the channel tells them: x-tillward-timestamp (Unix s), x-tillward-signature (hex HMAC-SHA256 of \
             timestamp, a point and the body)",
            receive,
        )
        .body::<CallbackBody>()
        .returns::<Taken>(200, "What became of them"),
    ]
}

/// Whatever the channel sends: its saved mapping says where in it the fields are.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[allow(dead_code)] // Documents a body of any form.
struct CallbackBody {
    /// Any members.
    #[serde(flatten)]
    members: std::collections::BTreeMap<String, Value>,
}

async fn list(
    state: web::Data<State>,
    caller: Caller,
    Query(page): Query<PageQuery>,
) -> Result<web::Json<Page<Channel>>, Problem> {
    let (size, after) = (page.size()?, page.after::<i64>()?);
    let rows = state.db.read(move |conn| super::list(conn, &caller.scope, after, size + 1)).await?;
    Ok(web::Json(Page::from_rows(rows, size, |channel| channel.id)))
}

async fn create(
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Json(new): Json<NewChannel>,
) -> Result<HttpResponse, Problem> {
    let now = state.clock.now();
    let made = state.db.write(move |conn| super::create(conn, &caller, &actor, new, now)).await?;
    Ok(HttpResponse::Created().insert_header((header::CACHE_CONTROL, "no-store")).json(made))
}

async fn get(state: web::Data<State>, caller: Caller, Path(id): Path<i64>) -> Result<web::Json<Channel>, Problem> {
    Ok(web::Json(state.db.read(move |conn| super::find(conn, &caller.scope, id)).await?))
}

async fn renew(
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Path(id): Path<i64>,
) -> Result<HttpResponse, Problem> {
    let now = state.clock.now();
    let renew = move |conn: &mut db::Conn| super::renew_secret(conn, &actor, &caller.scope, id, now);
    let made: CreatedChannel = state.db.write(renew).await?;
    Ok(HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(made))
}

async fn delete(
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Path(id): Path<i64>,
) -> Result<HttpResponse, Problem> {
    let now = state.clock.now();
    state.db.write(move |conn| super::delete(conn, &actor, &caller.scope, id, now)).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn receive(
    state: web::Data<State>,
    Path(id): Path<i64>,
    SignedBody(sent): SignedBody,
) -> Result<web::Json<Taken>, Problem> {
    let body: Value = body::parse_any(&sent)?;
    let taken = super::receive(&state.db, id, body, state.clock.now()).await?;
    state.reconciling.wake();
    Ok(web::Json(taken))
}
