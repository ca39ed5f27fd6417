//! REST of activation codes, and the device side of enrolment.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, web};
use serde::Deserialize;
use tillward_protocol::enrol::{
    ChallengeAnswer, ChallengeRequest, EnrolAnswer, EnrolRequest, SessionAnswer, SessionRequest,
};

use super::{CodesRequest, Error, IssuedCode, IssuedCodes};
use crate::audit::Actor;
use crate::failures::fleet;
use crate::http::body::{Checked, Json, Path};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::problem::{Problem, sentence};
use crate::http::{RequestId, State};
use crate::operators::{Caller, Permission};

/// This part's rows of the endpoint table.
pub(in crate::terminals) fn endpoints() -> Vec<Endpoint> {
    let activate = Access::Operator(Permission::TerminalsActivate);
    vec![
        Endpoint::post(
            "/api/v1/terminals/{id}/activation-codes",
            activate,
            "Makes a one-time activation code for a terminal; an unused one from before is void",
            issue_one,
        )
        .body::<Validity>()
        .returns::<IssuedCode>(201, "The code, shown this once"),
        Endpoint::post(
            "/api/v1/terminals/activation-codes",
            activate,
            "Makes one-time activation codes for many terminals",
            issue_many,
        )
        .body::<CodesRequest>()
        .returns::<IssuedCodes>(201, "The codes, shown this once"),
        Endpoint::post("/device/v1/enrol", Access::Public, "Redeems an activation code", enrol)
            .body::<EnrolRequest>()
            .returns::<EnrolAnswer>(200, "The terminal's number and its stream")
            .returns_empty(401, "The signature or the code is not good")
            .returns_empty(403, "The terminal is blocked, lost or retired"),
        Endpoint::post("/device/v1/challenge", Access::Public, "A challenge to sign", challenge)
            .body::<ChallengeRequest>()
            .returns::<ChallengeAnswer>(200, "The challenge"),
        Endpoint::post("/device/v1/session", Access::Public, "Opens a session", session)
            .body::<SessionRequest>()
            .returns::<SessionAnswer>(200, "The session's token")
            .returns_empty(401, "The signature does not hold")
            .returns_empty(403, "The terminal is blocked or retired"),
    ]
}

/// How long a code is to be good.
#[derive(Debug, Clone, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Validity {
    /// Days, 1–90; 7 when absent.
    #[serde(default)]
    valid_days: Option<u32>,
}

async fn issue_one(
    state: web::Data<State>,
    caller: Caller,
    request_id: web::ReqData<RequestId>,
    Path(id): Path<i64>,
    Json(asked): Json<Validity>,
) -> Result<(web::Json<IssuedCode>, StatusCode), Problem> {
    let asked = CodesRequest { ids: vec![id], valid_days: asked.valid_days };
    let mut issued = issue(&state, &caller, &request_id, asked).await?;
    match (issued.codes.pop(), issued.refused.pop()) {
        (Some(code), _) => Ok((web::Json(code), StatusCode::CREATED)),
        (None, Some(refused)) if refused.reason != super::NOT_FOUND => Err(Problem::conflict(refused.reason)),
        (None, _) => Err(Problem::not_found()),
    }
}

async fn issue_many(
    state: web::Data<State>,
    caller: Caller,
    request_id: web::ReqData<RequestId>,
    Json(asked): Json<CodesRequest>,
) -> Result<(web::Json<IssuedCodes>, StatusCode), Problem> {
    Ok((web::Json(issue(&state, &caller, &request_id, asked).await?), StatusCode::CREATED))
}

async fn issue(
    state: &State,
    caller: &Caller,
    request_id: &RequestId,
    asked: CodesRequest,
) -> Result<IssuedCodes, Problem> {
    let actor = Actor::from(caller).in_request(&request_id.0);
    let scope = caller.scope.clone();
    let now = state.clock.now();
    let issued = state.db.write(move |conn| super::issue_codes(conn, &actor, &scope, &asked, now)).await?;
    Ok(issued)
}

async fn enrol(
    state: web::Data<State>,
    asking: HttpRequest,
    Checked(request): Checked<EnrolRequest>,
) -> Result<web::Json<EnrolAnswer>, Problem> {
    state.enrolment_limits.check(request.sn.as_str(), state.client_address(&asking))?;
    if !super::is_proven(&request) {
        return Err(Error::NotProven.into());
    }
    let now = state.clock.now();
    // A stranger's code costs a read, and not a turn of the writer.
    let asked = request.clone();
    state.db.read(move |conn| super::check_code(conn, &asked)).await?;
    Ok(web::Json(state.db.write(move |conn| super::enrol(conn, &request, now)).await?))
}

async fn challenge(
    state: web::Data<State>,
    Json(request): Json<ChallengeRequest>,
) -> Result<web::Json<ChallengeAnswer>, Problem> {
    // Also for terminals that do not exist: nobody learns from it which do.
    let challenge = state.tokens.challenge(request.terminal_id, state.clock.now());
    Ok(web::Json(ChallengeAnswer { challenge }))
}

async fn session(
    state: web::Data<State>,
    asking: HttpRequest,
    Checked(request): Checked<SessionRequest>,
) -> Result<web::Json<SessionAnswer>, Problem> {
    state.enrolment_limits.check(&request.terminal_id.to_string(), state.client_address(&asking))?;
    let now = state.clock.now();
    let shared = state.clone();
    let terminal_id = request.terminal_id.0;
    let open = move |conn: &mut _| super::open_session(conn, &shared.tokens, &request, now);
    let opened = state.db.read(open).await;
    if let Err(Error::Barred(_)) = &opened {
        // It proved with its key that it is that terminal.
        let noted = state.db.write(move |conn| fleet::note_barred(conn, &[terminal_id], now)).await;
        let _: () = noted.map_err(Error::Db)?;
    }
    Ok(web::Json(opened?))
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let detail = sentence(&error);
        match error {
            Error::NotProven | Error::BadCode => Self::unauthorized(detail),
            Error::Barred(_) => Self::forbidden(detail),
            Error::Changed => Self::conflict(detail),
            Error::TooMany { retry_after_s } => {
                let detail = format!("Try again in {retry_after_s} s.");
                let mut problem = Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many", "Too many tries", detail);
                problem.retry_after_s = Some(retry_after_s);
                problem
            }
            Error::Token => Self::internal(&error),
            Error::Db(error) => error.into(),
        }
    }
}
