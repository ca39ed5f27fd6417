//! First run, signing in and out. The cookie is the session's refresh token.

use actix_web::cookie::{Cookie, SameSite, time::Duration};
use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use serde::Deserialize;

use super::form::{Form, OpenForm, local_path};
use super::shell::{self, Shell};
use crate::http::State;
use crate::http::auth::{Acting, cookie_name};
use crate::http::body::Query;
use crate::http::endpoints::{Access, Endpoint};
use crate::http::problem::Problem;
use crate::operators::{self, Permission, SetUp, SignInError, SignedIn};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/setup", Access::Public, "", ask_set_up),
        Endpoint::post("/setup", Access::Public, "", set_up),
        Endpoint::get("/login", Access::Public, "", ask_login),
        Endpoint::post("/login", Access::Public, "", login),
        Endpoint::post("/logout", Access::Page(Permission::Own), "", logout),
    ]
}

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage {
    shell: Shell,
    login: String,
    next: String,
    error: Option<String>,
}

#[derive(Template)]
#[template(path = "setup.html")]
struct SetUpPage {
    shell: Shell,
    organization_name: String,
    name: String,
    login: String,
    error: Option<String>,
}

#[derive(Debug, Deserialize)]
struct LoginQuery {
    #[serde(default)]
    next: Option<String>,
}

async fn ask_login(
    shell: Shell,
    state: web::Data<State>,
    Query(query): Query<LoginQuery>,
) -> Result<HttpResponse, Problem> {
    if !state.db.read(operators::is_set_up).await? {
        return Ok(shell::see_other("/setup"));
    }
    let next = local_path(query.next.as_deref().unwrap_or("/")).to_owned();
    shell::ok(&LoginPage { shell, login: String::new(), next, error: None })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    #[serde(default)]
    login: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    next: Option<String>,
}

async fn login(
    request: HttpRequest,
    shell: Shell,
    state: web::Data<State>,
    OpenForm(form): OpenForm<Login>,
) -> Result<HttpResponse, Problem> {
    let next = local_path(form.next.as_deref().unwrap_or("/")).to_owned();
    let agent = user_agent(&request);
    let signed_in = match state.sign_in_limit.check(state.client_address(&request)) {
        Ok(()) => operators::sign_in(&state.db, &form.login, &form.password, agent, state.clock.now()).await,
        Err(error) => Err(error),
    };
    let (status, error) = match signed_in {
        Ok(signed_in) => return with_session(&state, &signed_in, &next),
        Err(SignInError::Wrong) => (StatusCode::UNPROCESSABLE_ENTITY, shell.say("login-wrong")),
        Err(SignInError::Locked { for_s } | SignInError::TooOften { for_s }) => {
            (StatusCode::TOO_MANY_REQUESTS, shell.with("login-locked", "seconds", for_s))
        }
        Err(SignInError::Suspended) => (StatusCode::UNPROCESSABLE_ENTITY, shell.say("login-suspended")),
        Err(SignInError::Failed(error)) => return Err(error.into()),
    };
    shell::page(status, &LoginPage { shell, login: form.login, next, error: Some(error) })
}

async fn ask_set_up(shell: Shell, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    if state.db.read(operators::is_set_up).await? {
        return Ok(shell::see_other("/login"));
    }
    let (organization_name, name, login) = Default::default();
    shell::ok(&SetUpPage { shell, organization_name, name, login, error: None })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetUpForm {
    #[serde(default)]
    bootstrap_token: String,
    #[serde(default)]
    organization_name: Option<String>,
    #[serde(default)]
    name: String,
    #[serde(default)]
    login: String,
    #[serde(default)]
    password: String,
}

async fn set_up(
    request: HttpRequest,
    shell: Shell,
    state: web::Data<State>,
    OpenForm(form): OpenForm<SetUpForm>,
) -> Result<HttpResponse, Problem> {
    let now = state.clock.now();
    let wanted = SetUp {
        bootstrap_token: form.bootstrap_token,
        login: form.login.clone(),
        name: form.name.clone(),
        password: form.password.clone(),
        organization_name: form.organization_name.clone(),
        language: operators::Language::parse(shell.language.tag()),
    };
    if let Err(error) = operators::set_up(&state.db, wanted, now).await {
        let problem = Problem::from(error);
        if problem.status >= 500 {
            return Err(problem);
        }
        let field = problem.field.as_deref().map(|field| format!("{} ", shell.word("field", field)));
        let (detail, _) = super::problems::explain(&shell, &problem.detail);
        let page = SetUpPage {
            organization_name: form.organization_name.unwrap_or_default(),
            name: form.name,
            login: form.login,
            error: Some(format!("{}{detail}", field.unwrap_or_default())),
            shell,
        };
        return shell::page(problem.status_code(), &page);
    }
    match operators::sign_in(&state.db, &form.login, &form.password, user_agent(&request), now).await {
        Ok(signed_in) => with_session(&state, &signed_in, "/"),
        // The account exists; signing in by hand says what is wrong.
        Err(_) => Ok(shell::see_other("/login")),
    }
}

async fn logout(
    state: web::Data<State>,
    acting: Acting,
    Form(Nothing {}): Form<Nothing>,
) -> Result<HttpResponse, Problem> {
    operators::sign_out(&state.db, &acting.caller, &acting.actor, state.clock.now()).await?;
    let mut response = shell::see_other("/login");
    let mut cookie = session_cookie(&state, String::new());
    cookie.make_removal();
    response.add_cookie(&cookie).map_err(|error| Problem::internal(&error))?;
    Ok(response)
}

/// A form with nothing but its token.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

fn user_agent(request: &HttpRequest) -> &str {
    request.headers().get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or("")
}

fn with_session(state: &State, signed_in: &SignedIn, next: &str) -> Result<HttpResponse, Problem> {
    let mut response = shell::see_other(next);
    let left_ms = signed_in.expires_at_ms.saturating_sub(state.clock.now().0);
    let mut cookie = session_cookie(state, signed_in.refresh_token.clone());
    cookie.set_max_age(Duration::milliseconds(left_ms));
    response.add_cookie(&cookie).map_err(|error| Problem::internal(&error))?;
    Ok(response)
}

fn session_cookie(state: &State, token: String) -> Cookie<'static> {
    let is_secure = state.config.is_secure();
    Cookie::build(cookie_name(is_secure), token)
        .path("/")
        .http_only(true)
        .secure(is_secure)
        .same_site(SameSite::Lax)
        .finish()
}
