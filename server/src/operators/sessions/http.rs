//! REST of sessions and of one's own account.

use actix_web::http::{Method, header};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};

use super::super::{Caller, CallerKind, Operator, Permission, Role};
use super::{SignInError, SignedIn};
use crate::http::State;
use crate::http::auth::Acting;
use crate::http::body::Json;
use crate::http::endpoints::{Access, Endpoint};
use crate::http::problem::{Problem, sentence};
use crate::http::tokens::OPERATOR_TOKEN_S;

pub(in super::super) fn endpoints() -> Vec<Endpoint> {
    let own = Access::Operator(Permission::Own);
    vec![
        Endpoint::post("/api/v1/session", Access::Public, "Signs in with login and password", sign_in)
            .body::<SignIn>()
            .returns::<Session>(200, "The session's tokens"),
        Endpoint::post("/api/v1/session/refresh", Access::Public, "Renews a session's tokens", refresh)
            .body::<Refresh>()
            .returns::<Session>(200, "New tokens; the refresh token that was sent is void"),
        Endpoint::new(Method::DELETE, "/api/v1/session", own, "Signs out", sign_out).returns_empty(204, "Done"),
        Endpoint::get("/api/v1/me", own, "Who you are and what you may do", me).returns::<Me>(200, "You"),
        Endpoint::post(
            "/api/v1/me/password",
            own,
            "Changes your own password and ends your other sessions",
            change_password,
        )
        .body::<PasswordChange>()
        .returns_empty(204, "Done"),
    ]
}

/// What somebody signs in with.
#[derive(Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct SignIn {
    /// Name to sign in with.
    login: String,
    /// Password.
    password: String,
}

/// A session's tokens.
#[derive(Serialize, Deserialize, utoipa::ToSchema)]
struct Session {
    /// Send it as `Authorization: Bearer …`.
    access_token: String,
    /// How long the access token is good for, s.
    expires_in_s: u32,
    /// Gets the next tokens, once.
    refresh_token: String,
    /// When the session ends for good, Unix ms.
    session_expires_at_ms: i64,
    /// Who signed in.
    operator: Operator,
}

/// A refresh token.
#[derive(Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Refresh {
    /// The newest one of the session.
    refresh_token: String,
}

/// Who calls and what they may do.
#[derive(Serialize, Deserialize, utoipa::ToSchema)]
struct Me {
    /// `operator` or `api_key`.
    kind: String,
    /// Number of the operator or key.
    id: i64,
    /// Login name, or name of the key.
    name: String,
    /// Role.
    role: Role,
    /// Organization.
    organization_id: i64,
    /// Path of that organization; everything below it is yours too.
    org_path: String,
    /// Language, `zh-CN` or `en`.
    language: String,
    /// What the role may do.
    permissions: Vec<String>,
}

/// A change of one's own password.
#[derive(Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct PasswordChange {
    /// The password now.
    present_password: String,
    /// 12–128 characters.
    password: String,
}

async fn sign_in(
    state: web::Data<State>,
    request: HttpRequest,
    Json(body): Json<SignIn>,
) -> Result<HttpResponse, Problem> {
    state.sign_in_limit.check(state.client_address(&request))?;
    let agent = request.headers().get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or("");
    let signed_in = super::sign_in(&state.db, &body.login, &body.password, agent, state.clock.now()).await?;
    answer(&state, signed_in)
}

async fn refresh(state: web::Data<State>, Json(body): Json<Refresh>) -> Result<HttpResponse, Problem> {
    match super::refresh(&state.db, &body.refresh_token, state.clock.now()).await? {
        Some(signed_in) => answer(&state, signed_in),
        None => Err(Problem::unauthorized("The refresh token is unknown, ended or was used before. Sign in again.")),
    }
}

fn answer(state: &State, signed_in: SignedIn) -> Result<HttpResponse, Problem> {
    let SignedIn { caller, operator, refresh_token, expires_at_ms } = signed_in;
    let session_id = caller.session_id.unwrap_or_default();
    let access_token = state.tokens.issue_operator(&session_id, state.clock.now()).ok_or_else(|| Problem::busy(1))?;
    let session = Session {
        access_token,
        expires_in_s: OPERATOR_TOKEN_S,
        refresh_token,
        session_expires_at_ms: expires_at_ms,
        operator,
    };
    Ok(HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(session))
}

async fn sign_out(state: web::Data<State>, acting: Acting) -> Result<HttpResponse, Problem> {
    if acting.caller.kind == CallerKind::ApiKey {
        return Err(Problem::forbidden("An API key has no session; revoke it at /api/v1/api-keys."));
    }
    super::sign_out(&state.db, &acting.caller, &acting.actor, state.clock.now()).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn me(caller: Caller) -> web::Json<Me> {
    let permissions = Permission::ALL.iter().filter(|&&permission| caller.role.allows(permission));
    web::Json(Me {
        kind: match caller.kind {
            CallerKind::Operator => "operator".to_owned(),
            CallerKind::ApiKey => "api_key".to_owned(),
        },
        id: caller.id,
        permissions: permissions.map(|permission| permission.as_str().to_owned()).collect(),
        name: caller.name,
        role: caller.role,
        organization_id: caller.organization_id,
        org_path: caller.scope.from().to_owned(),
        language: caller.language,
    })
}

async fn change_password(
    state: web::Data<State>,
    acting: Acting,
    Json(change): Json<PasswordChange>,
) -> Result<HttpResponse, Problem> {
    let Acting { caller, actor } = acting;
    let PasswordChange { present_password, password } = change;
    let now = state.clock.now();
    super::change_own_password(&state.db, &caller, &actor, &present_password, password, now).await?;
    Ok(HttpResponse::NoContent().finish())
}

impl From<SignInError> for Problem {
    fn from(error: SignInError) -> Self {
        let text = sentence(&error);
        match error {
            SignInError::Wrong => Self::unauthorized(text),
            SignInError::Locked { for_s } | SignInError::TooOften { for_s } => Self::locked(text, for_s),
            SignInError::Suspended => Self::forbidden(text),
            SignInError::Failed(error) => error.into(),
        }
    }
}
