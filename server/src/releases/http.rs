//! REST of releases: payloads in, drafts made, approved, published, withdrawn.

use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_ENCODING;
use actix_web::{HttpMessage, HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use tillward_protocol::ids::ModelCode;
use tillward_protocol::trust::TARGET_BYTES_MAX;

use super::new::check_component;
use super::{Author, Filter, NewRelease, OwnApproval, Release, ReleaseError, ReleaseState};
use crate::blobs::BlobError;
use crate::config::Mode;
use crate::http::body::{Json, Path, Query};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::page::{Page, PageQuery};
use crate::http::problem::{Problem, sentence};
use crate::http::{RequestId, State};
use crate::operators::{Caller, Permission};
use crate::signing::image::ImageError;

/// A payload that was stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
struct StoredPayload {
    /// SHA-256, hex: names the payload when a release is made of it.
    sha256: String,
    /// Length, bytes.
    length_bytes: u64,
}

/// Which releases.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// `draft`, `approved`, `published` or `withdrawn`.
    #[param(inline)]
    state: Option<ReleaseState>,
    /// `os`, `app`, …
    component: Option<String>,
    /// Model code.
    model: Option<String>,
    /// `next` of the page before.
    after: Option<String>,
    /// Rows on the page, 1–100; 20 when absent.
    size: Option<u32>,
}

/// This domain's rows of the endpoint table.
pub fn endpoints() -> Vec<Endpoint> {
    use Permission as P;
    let operator = Access::Operator;
    let mut rows = vec![
        Endpoint::get("/api/v1/releases", operator(P::ReleasesRead), "Releases, newest first", list)
            .query::<ListQuery>()
            .returns::<Page<Release>>(200, "A page of releases"),
        Endpoint::post(
            "/api/v1/releases",
            operator(P::ReleasesWrite),
            "Makes a draft of a payload that was uploaded before",
            create,
        )
        .body::<NewRelease>()
        .returns::<Release>(201, "The draft"),
        Endpoint::post(
            "/api/v1/releases/payloads",
            operator(P::ReleasesWrite),
            "Uploads a payload: the body is the file, stored while it is hashed",
            upload,
        )
        .body_file("application/octet-stream", "The payload as it is, without Content-Encoding")
        .returns::<StoredPayload>(201, "Stored under its digest"),
        Endpoint::get("/api/v1/releases/{id}", operator(P::ReleasesRead), "One release", one)
            .returns::<Release>(200, "The release"),
    ];
    let approve = Endpoint::post(
        "/api/v1/releases/{id}/approve",
        operator(P::ReleasesApprove),
        "Approves a draft of somebody else",
        approve,
    );
    let publish = Endpoint::post(
        "/api/v1/releases/{id}/publish",
        operator(P::ReleasesPublish),
        "Publishes an approved release in the image repository",
        publish,
    );
    let withdraw = Endpoint::post(
        "/api/v1/releases/{id}/withdraw",
        operator(P::ReleasesPublish),
        "Withdraws a release for ever",
        withdraw,
    );
    rows.extend([approve, publish, withdraw].map(|row| {
        row.returns::<Release>(200, "The release as it is now").returns_empty(409, "Its state does not allow that")
    }));
    rows.extend(super::tuf::http::endpoints());
    rows
}

fn author(request: &HttpRequest, caller: &Caller) -> Author {
    let id = request.extensions().get::<RequestId>().map(|id| id.0.clone());
    Author::new(caller, &id.unwrap_or_default())
}

async fn list(
    state: web::Data<State>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<web::Json<Page<Release>>, Problem> {
    let page = PageQuery { after: query.after, size: query.size };
    let size = page.size()?;
    if let Some(component) = &query.component {
        check_component("component", component)?;
    }
    let model = query.model.as_deref().map(str::parse::<ModelCode>).transpose();
    let model = model.map_err(|error| Problem::invalid("model", error.problem))?;
    let filter = Filter { state: query.state, component: query.component, model };
    let rows = super::list(&state.db, caller.scope, filter, page.after::<i64>()?, size + 1).await?;
    Ok(web::Json(Page::from_rows(rows, size, |release| release.id)))
}

async fn one(state: web::Data<State>, caller: Caller, Path(id): Path<i64>) -> Result<web::Json<Release>, Problem> {
    Ok(web::Json(super::get(&state.db, caller.scope, id).await?))
}

async fn upload(
    state: web::Data<State>,
    _: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let encoding = request.headers().get(CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| encoding != "identity") {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_encoding",
            "A payload is not decoded",
            "Send the file as it is, without Content-Encoding: its digest is what gets signed.",
        ));
    }
    let stored = state.signing.blobs.put_stream(payload, TARGET_BYTES_MAX).await.map_err(ReleaseError::from)?;
    let answer = StoredPayload { sha256: stored.sha256.to_string(), length_bytes: stored.length };
    Ok(HttpResponse::Created().json(answer))
}

async fn create(
    state: web::Data<State>,
    caller: Caller,
    request: HttpRequest,
    Json(new): Json<NewRelease>,
) -> Result<HttpResponse, Problem> {
    let author = author(&request, &caller);
    let release = super::create(&state.db, &state.signing, &author, new, state.clock.now()).await?;
    Ok(HttpResponse::Created().json(release))
}

async fn approve(
    state: web::Data<State>,
    caller: Caller,
    request: HttpRequest,
    Path(id): Path<i64>,
) -> Result<web::Json<Release>, Problem> {
    let own = match state.config.mode {
        Mode::Quickstart => OwnApproval::Allowed,
        Mode::Production => OwnApproval::Refused,
    };
    let author = author(&request, &caller);
    Ok(web::Json(super::approve(&state.db, &author, id, own, state.clock.now()).await?))
}

async fn publish(
    state: web::Data<State>,
    caller: Caller,
    request: HttpRequest,
    Path(id): Path<i64>,
) -> Result<web::Json<Release>, Problem> {
    let author = author(&request, &caller);
    Ok(web::Json(super::publish(&state.db, &state.signing, &author, id, state.clock.now()).await?))
}

async fn withdraw(
    state: web::Data<State>,
    caller: Caller,
    request: HttpRequest,
    Path(id): Path<i64>,
) -> Result<web::Json<Release>, Problem> {
    let author = author(&request, &caller);
    let withdrawn = super::withdraw(&state.db, &state.signing, &author, id, state.clock.now()).await?;
    state.planner.wake();
    Ok(web::Json(withdrawn))
}

impl From<ReleaseError> for Problem {
    fn from(error: ReleaseError) -> Self {
        match error {
            ReleaseError::NotFound => Self::not_found(),
            ReleaseError::Field(error) => error.into(),
            ReleaseError::Db(error) => error.into(),
            ReleaseError::Image(ImageError::Busy) => Self::busy(60),
            ReleaseError::Image(error @ (ImageError::NoKeys | ImageError::Taken(_) | ImageError::NoPayload(_))) => {
                Self::conflict(sentence(&error))
            }
            ReleaseError::Blob(BlobError::TooLarge(limit)) => Self::too_large(usize::try_from(limit).unwrap_or(0)),
            ReleaseError::Blob(error @ BlobError::Body(_)) => Self::bad_request(sentence(&error)),
            error @ (ReleaseError::Refused(_) | ReleaseError::Changed | ReleaseError::NoOrganization) => {
                Self::conflict(sentence(&error))
            }
            error @ (ReleaseError::Image(_) | ReleaseError::Blob(_)) => Self::internal(&error),
        }
    }
}
