//! REST of evidence packs.

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};

use super::{Error, Filter, Pack, Proof};
use crate::http::State;
use crate::http::auth::Acting;
use crate::http::body::{Json, Path, Query};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::page::{Page, PageQuery};
use crate::http::problem::{Problem, sentence};
use crate::operators::{Caller, Permission};

const READ: Access = Access::Operator(Permission::FailuresRead);
const WRITE: Access = Access::Operator(Permission::FailuresWrite);

/// This part's rows of the endpoint table.
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get(
            "/api/v1/evidence-packs",
            READ,
            "Evidence packs of your terminals' transactions, newest first",
            list,
        )
        .query::<PackQuery>()
        .returns::<Page<Pack>>(200, "A page of packs"),
        Endpoint::post("/api/v1/evidence-packs", WRITE, "Puts together what is known about one transaction", make)
            .body::<NewPack>()
            .returns::<Pack>(201, "The pack; its hash is in the audit log"),
        Endpoint::get("/api/v1/evidence-packs/{id}", READ, "One pack, with the proof that it is unchanged", get)
            .returns::<ProvenPack>(200, "The pack and its proof"),
    ]
}

/// Filters and page of the list of packs.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::IntoParams, utoipa::ToSchema)]
#[into_params(parameter_in = Query)]
struct PackQuery {
    /// Only of this terminal.
    terminal_id: Option<i64>,
    /// Only of this transaction of the terminal.
    event_id: Option<String>,
    /// Only with this hash.
    sha256: Option<String>,
    /// `next` of the page before.
    after: Option<String>,
    /// Rows on the page, 1–100.
    size: Option<u32>,
}

/// Which transaction.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewEvidencePack)]
struct NewPack {
    /// Terminal.
    terminal_id: i64,
    /// The terminal's id of a payment or a failure.
    event_id: String,
}

/// A pack and whether it is unchanged.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = ProvenEvidencePack)]
struct ProvenPack {
    /// The pack.
    pack: Pack,
    /// The proof.
    proof: Proof,
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound => Self::not_found(),
            Error::Invalid(error) => Self::from(error),
            Error::TooMany => Self::conflict(sentence(&error)),
            Error::Terminals(error) => Self::from(error),
            Error::Db(error) => Self::from(error),
        }
    }
}

async fn list(
    state: web::Data<State>,
    caller: Caller,
    Query(query): Query<PackQuery>,
) -> Result<web::Json<Page<Pack>>, Problem> {
    let page = PageQuery { after: query.after, size: query.size };
    let (size, before) = (page.size()?, page.after::<String>()?);
    let filter = Filter { terminal_id: query.terminal_id, event_id: query.event_id, sha256: query.sha256 };
    let read = move |conn: &mut crate::db::Conn| super::list(conn, &caller.scope, &filter, before.as_deref(), size + 1);
    let rows = state.db.read(read).await?;
    Ok(web::Json(Page::from_rows(rows, size, |row| row.id.clone())))
}

async fn make(
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Json(new): Json<NewPack>,
) -> Result<HttpResponse, Problem> {
    let now = state.clock.now();
    let made = state
        .db
        .write(move |conn| super::make(conn, &caller, &actor, new.terminal_id, &new.event_id, now))
        .await
        // The address is right; the field names what the caller may not know.
        .map_err(|error| match error {
            Error::NotFound => Problem::invalid("event_id", "is not a transaction of this terminal"),
            other => other.into(),
        })?;
    Ok(HttpResponse::Created().json(made))
}

async fn get(
    state: web::Data<State>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<web::Json<ProvenPack>, Problem> {
    let (pack, proof) = state.db.read(move |conn| super::get(conn, &caller.scope, &id)).await?;
    Ok(web::Json(ProvenPack { pack, proof }))
}
