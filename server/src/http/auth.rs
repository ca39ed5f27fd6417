//! The guard in front of every route, and the extractors that hand its finding to handlers.

use std::future::{Ready, ready};

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::{Method, header};
use actix_web::middleware::Next;
use actix_web::{Error, FromRequest, HttpMessage, HttpRequest, HttpResponse, web};

use super::endpoints::Access;
use super::problem::Problem;
use super::tokens::TerminalSession;
use super::{RequestId, State, body};
use crate::audit::Actor;
use crate::failures::feed;
use crate::guard::Sender;
use crate::operators::{self, Caller, Permission};
use crate::text::CARD_DATA;

/// Name of the console's session cookie; over TLS it carries the `__Host-` prefix.
pub fn cookie_name(secure: bool) -> &'static str {
    if secure { "__Host-tillward" } else { "tillward" }
}

/// Lets a request through to its handler, or answers it.
///
/// # Errors
/// A [`Problem`] (401, 403) or, for pages, a redirect to the login page.
pub(super) async fn guard<B: MessageBody + 'static>(
    access: Access,
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let state = request.app_data::<web::Data<State>>().cloned();
    let Some(state) = state else { return Err(Problem::not_found().into()) };
    let found = match access {
        Access::Public => Ok(()),
        Access::Terminal => terminal(&state, &request),
        Access::Channel => channel(&state, &mut request).await,
        Access::Operator(permission) => operator(&state, &request, permission).await,
        Access::Page(permission) => match page(&state, &request, permission).await {
            Err(problem) if problem.status == 401 && !wants_json(&request) => {
                let answer = to_login(&request);
                return Ok(request.into_response(answer));
            }
            other => other,
        },
    };
    match found {
        Ok(()) => {
            let response = next.call(request).await?.map_into_boxed_body();
            note_card_data(&state, &response);
            Ok(response)
        }
        Err(problem) => Ok(request.error_response(problem)),
    }
}

/// Counts a request that was refused because it looked like card data, by whoever sent it.
fn note_card_data(state: &State, response: &ServiceResponse<BoxBody>) {
    let is_refused = {
        let extensions = response.response().extensions();
        extensions.get::<Problem>().is_some_and(|problem| problem.detail.contains(CARD_DATA))
    };
    if is_refused {
        let extensions = response.request().extensions();
        let caller = extensions.get::<Caller>().map(|caller| Sender::Organization(caller.scope.from().to_owned()));
        let terminal = extensions.get::<TerminalSession>().map(|session| Sender::Terminal(session.terminal_id.0));
        if let Some(sender) = caller.or(terminal) {
            state.guard.note(sender);
        }
    }
}

fn wants_json(request: &ServiceRequest) -> bool {
    request
        .headers()
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|accept| accept.contains("application/json"))
}

/// To the login page, which leads back to a page that was asked for.
fn to_login(request: &ServiceRequest) -> HttpResponse {
    let asked = request.uri().path_and_query().map_or("/", |asked| asked.as_str());
    let location = if is_safe(request.method()) && asked != "/" {
        format!("/login?{}", body::query_pair("next", asked))
    } else {
        "/login".to_owned()
    };
    // htmx follows HX-Redirect with a full page load and never sees it beside a 303; browsers follow Location.
    let mut response = if request.headers().contains_key("hx-request") {
        let mut response = HttpResponse::NoContent();
        response.insert_header(("HX-Redirect", location));
        response
    } else {
        let mut response = HttpResponse::SeeOther();
        response.insert_header((header::LOCATION, location));
        response
    };
    response.insert_header((header::CACHE_CONTROL, "no-store")).finish()
}

fn bearer(request: &ServiceRequest) -> Option<&str> {
    request.headers().get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

fn terminal(state: &State, request: &ServiceRequest) -> Result<(), Problem> {
    let session = bearer(request).and_then(|token| state.tokens.verify_terminal(token, state.clock.now()));
    match session {
        Some(session) => {
            request.extensions_mut().insert(session);
            Ok(())
        }
        None => Err(Problem::unauthorized("Open a session at /device/v1/session and send its token.")),
    }
}

/// A body whose signature was verified: what the handler gets in place of the payload.
#[derive(Debug, Clone)]
pub struct SignedBody(pub bytes::Bytes);

impl FromRequest for SignedBody {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let body = request.extensions().get::<Self>().cloned();
        ready(body.ok_or_else(|| Problem::unauthorized("Sign the request first.")))
    }
}

/// Reads the body, verifies its signature, and keeps it for the handler.
async fn channel(state: &State, request: &mut ServiceRequest) -> Result<(), Problem> {
    let refused =
        || Problem::unauthorized("Sign the callback with the channel's secret and send it within five minutes.");
    let header = |name: &str| request.headers().get(name)?.to_str().ok().map(str::to_owned);
    let (timestamp, signature) = (header(feed::TIMESTAMP_HEADER), header(feed::SIGNATURE_HEADER));
    let id = request.match_info().get("id").and_then(|id| id.parse::<i64>().ok());
    let (Some(timestamp), Some(signature)) = (timestamp, signature) else { return Err(refused()) };
    let id = id.ok_or_else(Problem::not_found)?;
    let mut payload = request.take_payload();
    let payload = web::Payload::from_request(request.request(), &mut payload).await;
    let mut payload = payload.map_err(|error| Problem::bad_request(error.to_string()))?;
    let body = body::read(request.headers(), &mut payload, body::JSON_BYTES_MAX).await?;
    if !feed::verify(&state.db, id, &timestamp, &signature, &body, state.clock.now()).await? {
        return Err(refused());
    }
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if !content_type.is_some_and(|content_type| content_type.starts_with("application/json")) {
        return Err(body::not_json());
    }
    request.extensions_mut().insert(SignedBody(body));
    Ok(())
}

async fn operator(state: &State, request: &ServiceRequest, permission: Permission) -> Result<(), Problem> {
    let token = bearer(request).map(str::to_owned);
    let Some(token) = token else {
        return Err(Problem::unauthorized("Send an access token or an API key as `Authorization: Bearer …`."));
    };
    let now = state.clock.now();
    let caller = if token.starts_with(operators::API_KEY_LEAD) {
        operators::caller_of_api_key(&state.db, &token, now).await?
    } else {
        match state.tokens.verify_operator(&token, now) {
            Some(claims) => operators::caller_of_session(&state.db, claims.sid, now).await?,
            None => None,
        }
    };
    admit(request, caller, permission)
}

async fn page(state: &State, request: &ServiceRequest, permission: Permission) -> Result<(), Problem> {
    let name = cookie_name(state.config.is_secure());
    let Some(token) = request.cookie(name).map(|cookie| cookie.value().to_owned()) else {
        return Err(Problem::unauthorized("Sign in at /login."));
    };
    if !is_safe(request.method()) && !is_same_origin(request.headers()) {
        return Err(Problem::forbidden("The request comes from another site."));
    }
    let caller = operators::caller_of_refresh_token(&state.db, &token, state.clock.now()).await?;
    admit(request, caller, permission)
}

fn admit(request: &ServiceRequest, caller: Option<Caller>, permission: Permission) -> Result<(), Problem> {
    match caller {
        None => Err(Problem::unauthorized("The token is unknown, expired or revoked. Sign in again.")),
        Some(caller) if !caller.role.allows(permission) => {
            let (role, lacks) = (caller.role.as_str(), permission.as_str());
            let refusal = Problem::forbidden(format!("The role {role} does not have the permission {lacks}."));
            // The page that says so is still this person's page: with their navigation and in their language.
            request.extensions_mut().insert(caller);
            Err(refusal)
        }
        Some(caller) => {
            request.extensions_mut().insert(caller);
            Ok(())
        }
    }
}

fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// Browsers send `Sec-Fetch-Site` or at least `Origin` with every request that changes something.
pub(crate) fn is_same_origin(headers: &header::HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match (text("sec-fetch-site"), text("origin"), text("host")) {
        (Some(site), _, _) => site == "same-origin",
        (None, Some(origin), Some(host)) => origin.split("://").nth(1) == Some(host),
        (None, _, _) => false,
    }
}

impl FromRequest for Caller {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let caller = request.extensions().get::<Caller>().cloned();
        ready(caller.ok_or_else(|| Problem::unauthorized("Sign in first.")))
    }
}

/// Who calls, and the same for the audit log with this request's id. For handlers that change something.
#[derive(Debug, Clone)]
pub struct Acting {
    /// Role, scope, organization.
    pub caller: Caller,
    /// Goes into audit entries.
    pub actor: Actor,
}

impl FromRequest for Acting {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let caller = Caller::from_request(request, payload).into_inner();
        ready(caller.map(|caller| {
            let request_id = request.extensions().get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default();
            let actor = Actor::from(&caller).in_request(&request_id);
            Self { caller, actor }
        }))
    }
}

impl FromRequest for TerminalSession {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let session = request.extensions().get::<TerminalSession>().copied();
        ready(session.ok_or_else(|| Problem::unauthorized("Open a session first.")))
    }
}
