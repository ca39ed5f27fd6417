//! Problems of pages, shown inside the shell in the reader's language.

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::{StatusCode, header};
use actix_web::middleware::Next;
use actix_web::{HttpMessage, HttpRequest};
use askama::Template;

use super::i18n::Language;
use super::refusals;
use super::shell::{self, Shell};
use crate::http::RequestId;
use crate::http::problem::Problem;

/// Roots whose callers are programs: they get the problem document itself.
const PROGRAM_ROOTS: [&str; 6] = ["/api/", "/device/", "/tuf/", "/healthz", "/readyz", "/metrics"];

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage {
    shell: Shell,
    status: u16,
    title: String,
    advice: String,
    /// What exactly; in English where no other words are known.
    detail: String,
    is_detail_foreign: bool,
    field: Option<String>,
    request_id: String,
}

/// Turns a problem document into a page when a browser asked for a page.
///
/// # Errors
/// What the request itself ends with.
pub async fn as_pages<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> actix_web::Result<ServiceResponse<BoxBody>> {
    let is_page = !PROGRAM_ROOTS.iter().any(|root| request.path().starts_with(root)) && wants_html(&request);
    let response = next.call(request).await?.map_into_boxed_body();
    let Some(problem) = is_page.then(|| problem_of(&response)).flatten() else { return Ok(response) };
    let Some(shell) = Shell::of(response.request()) else { return Ok(response) };
    let request_id = request_id(response.request());
    let Ok(page) = shell::page(problem.status_code(), &page_of(shell, problem, request_id)) else {
        return Ok(response);
    };
    let retry_after = response.headers().get(header::RETRY_AFTER).cloned();
    let mut response = response.into_response(page);
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    Ok(response)
}

fn request_id(request: &HttpRequest) -> String {
    request.extensions().get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default()
}

fn wants_html(request: &ServiceRequest) -> bool {
    let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
}

fn problem_of(response: &ServiceResponse<BoxBody>) -> Option<Problem> {
    response.response().extensions().get::<Problem>().cloned()
}

/// The kinds of problems that have words of their own; others are named by their status class.
const NAMED: [StatusCode; 8] = [
    StatusCode::BAD_REQUEST,
    StatusCode::FORBIDDEN,
    StatusCode::NOT_FOUND,
    StatusCode::METHOD_NOT_ALLOWED,
    StatusCode::CONFLICT,
    StatusCode::PAYLOAD_TOO_LARGE,
    StatusCode::UNPROCESSABLE_ENTITY,
    StatusCode::SERVICE_UNAVAILABLE,
];

fn page_of(shell: Shell, problem: Problem, request_id: String) -> ProblemPage {
    let name = if NAMED.contains(&problem.status_code()) { problem.status.to_string() } else { "other".to_owned() };
    let (detail, is_detail_foreign) = match problem.status {
        // There the advice says all there is to say, or all that may be said.
        404 | 405 | 500.. => (String::new(), false),
        _ => explain(&shell, &problem.detail),
    };
    // Behind the name of a field the sentence goes on; by itself it begins.
    let detail = if problem.field.is_some() { detail } else { capitalized(&detail) };
    ProblemPage {
        title: shell.word("problem-title", &name),
        advice: shell.word("problem-advice", &name),
        status: problem.status,
        detail,
        is_detail_foreign,
        field: problem.field.map(|field| shell.word("field", &field)),
        request_id,
        shell,
    }
}

/// A refusal as a sentence of the reader's language, and whether it had to stay in English.
pub(super) fn explain(shell: &Shell, detail: &str) -> (String, bool) {
    match refusals::translated(shell.language, detail) {
        Some(text) => (text, false),
        None => (detail.to_owned(), shell.language != Language::English),
    }
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// Names of the problems that have words of their own, for the test of texts.
#[cfg(test)]
pub(super) fn names() -> Vec<String> {
    NAMED.iter().map(|status| status.as_u16().to_string()).chain(["other".to_owned()]).collect()
}
