//! The HTTP surface: one table of endpoints, one guard, one form of error.

pub mod auth;
pub mod body;
pub mod endpoints;
pub mod openapi;
pub mod page;
pub mod problem;
pub mod tokens;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::middleware::{ErrorHandlerResponse, Next, from_fn};
use actix_web::{HttpMessage, HttpRequest, HttpResponse, Responder, web};
use serde::Serialize;

use crate::addresses;
use crate::clock::Clock;
use crate::config::Config;
use crate::db::Db;
use crate::operators::sessions::AddressLimit;
use crate::signing::Signing;
use crate::workers::Signal;
use endpoints::{Access, Endpoint};
use problem::Problem;
use tokens::Tokens;

/// What handlers work with.
pub struct State {
    /// The database.
    pub db: Db,
    /// The clock.
    pub clock: Clock,
    /// The settings.
    pub config: Arc<Config>,
    /// Session tokens.
    pub tokens: Tokens,
    /// How often one address may try to sign in.
    pub sign_in_limit: AddressLimit,
    /// Where check-ins wait for the writer.
    pub check_ins: crate::checkin::Queue,
    /// Both signed repositories and the payloads.
    pub signing: Signing,
    /// The imports that run.
    pub imports: crate::terminals::import::Turns,
    /// How often terminals may try to enrol or to open a session.
    pub enrolment_limits: crate::terminals::enrolment::Limits,
    /// Wakes the planner after a change of a rollout.
    pub planner: Signal,
    /// Wakes the worker of imports after an upload.
    pub import_jobs: Signal,
    /// Wakes the reconciliation after a callback or an import.
    pub reconciling: Signal,
    /// Sends alerts.
    pub alerts: crate::alerts::Sender,
    /// Counts what was refused because it looked like card data.
    pub guard: crate::guard::Guard,
}

impl State {
    /// The address of the client, who may be behind trusted proxies; none for a request that came by no network.
    pub fn client_address(&self, request: &HttpRequest) -> Option<IpAddr> {
        let forwarded = request.headers().get_all("x-forwarded-for").filter_map(|value| value.to_str().ok());
        let peer = request.peer_addr()?.ip();
        Some(addresses::client(peer, forwarded, &self.config.trusted_proxies))
    }
}

/// Routes every endpoint of the table, each behind its guard; anything else answers 404 or 405 as a problem.
pub fn configure(service: &mut web::ServiceConfig) {
    let mut by_path: BTreeMap<&'static str, Vec<Endpoint>> = BTreeMap::new();
    for endpoint in endpoints::table() {
        by_path.entry(endpoint.path).or_default().push(endpoint);
    }
    // Literal parts before parameters, so that `/terminals/import` is not taken for a serial number.
    let mut paths: Vec<_> = by_path.into_iter().collect();
    paths.sort_by_key(|(path, _)| (path.matches('{').count(), std::cmp::Reverse(path.len())));
    for (path, rows) in paths {
        let mut resource = web::resource(path);
        for row in rows {
            let access = row.access;
            resource =
                resource.route(row.route().wrap(from_fn(move |request, next| auth::guard(access, request, next))));
        }
        service.service(resource.default_service(web::to(|| async { method_not_allowed() })));
    }
}

fn method_not_allowed() -> Problem {
    let detail = "This address knows other methods; see /api/openapi.json.";
    Problem::new(actix_web::http::StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Wrong method", detail)
}

/// Gives answers that the framework made itself the form of a problem.
///
/// # Errors
/// Never; the type is the framework's.
pub fn as_problem<B>(response: ServiceResponse<B>) -> actix_web::Result<ErrorHandlerResponse<B>> {
    let is_problem = response
        .headers()
        .get(actix_web::http::header::CONTENT_TYPE)
        .is_some_and(|value| !value.as_bytes().starts_with(b"text/plain"));
    if is_problem {
        return Ok(ErrorHandlerResponse::Response(response.map_into_left_body()));
    }
    let status = response.status();
    let problem = match status.as_u16() {
        404 => Problem::not_found(),
        413 => Problem::too_large(body::JSON_BYTES_MAX),
        code => Problem::new(status, "refused", "The request was refused", format!("Status {code}.")),
    };
    let (request, _) = response.into_parts();
    let answer = actix_web::ResponseError::error_response(&problem);
    Ok(ErrorHandlerResponse::Response(ServiceResponse::new(request, answer).map_into_right_body()))
}

/// State of one part of the server.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Readiness {
    /// `ready` or `degraded`.
    status: &'static str,
    /// This program's version.
    version: &'static str,
    /// `quickstart` or `production`.
    mode: crate::config::Mode,
    /// Whether the database answers.
    database: bool,
}

fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/healthz", Access::Public, "Whether the process lives", healthz).returns_empty(200, "It does"),
        Endpoint::new(Method::HEAD, "/healthz", Access::Public, "Whether the process lives", healthz),
        Endpoint::get("/readyz", Access::Public, "Whether the server can work", readyz)
            .returns::<Readiness>(200, "It can")
            .returns::<Readiness>(503, "A part is missing"),
        Endpoint::get("/metrics", Access::Public, "Metrics for Prometheus", metrics)
            .returns_empty(200, "Prometheus' text form"),
        Endpoint::get("/api/openapi.json", Access::Public, "This document", openapi::document)
            .returns_empty(200, "OpenAPI 3.1"),
    ]
}

async fn healthz() -> impl Responder {
    HttpResponse::Ok().content_type("text/plain; charset=utf-8").body("ok\n")
}

async fn metrics(request: HttpRequest) -> Result<HttpResponse, Problem> {
    // Figures of the fleet are for this machine's own collector. A proxy on this machine passes on what anybody asks.
    let is_passed_on = ["x-forwarded-for", "forwarded"].iter().any(|name| request.headers().contains_key(*name));
    if is_passed_on || !request.peer_addr().is_some_and(|peer| peer.ip().to_canonical().is_loopback()) {
        return Err(Problem::not_found());
    }
    Ok(HttpResponse::Ok().content_type("text/plain; version=0.0.4").body(crate::observe::render()))
}

async fn readyz(state: web::Data<State>) -> impl Responder {
    let database = state.db.is_reachable().await;
    let readiness = Readiness {
        status: if database { "ready" } else { "degraded" },
        version: env!("CARGO_PKG_VERSION"),
        mode: state.config.mode,
        database,
    };
    let mut response = if database { HttpResponse::Ok() } else { HttpResponse::ServiceUnavailable() };
    response.json(readiness)
}

/// Name of the header with the request's id.
const REQUEST_ID: &str = "x-request-id";

/// The id of a request: in its answer's `x-request-id`, in the log and in audit entries.
#[derive(Debug, Clone)]
pub struct RequestId(pub String);

/// Gives every request an id and every answer the header that says it.
///
/// # Errors
/// What the request itself ends with.
pub async fn with_request_id<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> actix_web::Result<ServiceResponse<B>> {
    let id = uuid::Uuid::now_v7().simple().to_string();
    request.extensions_mut().insert(RequestId(id.clone()));
    let mut response = next.call(request).await?;
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(HeaderName::from_static(REQUEST_ID), value);
    }
    Ok(response)
}
