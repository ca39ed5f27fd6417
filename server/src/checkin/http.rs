//! The device's check-in over HTTP.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, web};
use tillward_protocol::checkin::{BODY_BYTES_MAX, CheckIn, CheckInAnswer};
use tillward_protocol::ids::TerminalId;
use tillward_protocol::manifest::{Manifest, SignedManifest, signed_bytes};
use tillward_protocol::{Check, crypto};

use serde::{Deserialize, Serialize};

use super::{RETRY_AFTER_S, Refused, Sample, Totals, VerifiedManifest};
use crate::http::State;
use crate::http::body::{self, Path, Query};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::problem::Problem;
use crate::http::tokens::TerminalSession;
use crate::operators::{Caller, Permission};
use crate::{organizations, terminals};

/// This domain's rows of the endpoint table.
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::post("/device/v1/check-in", Access::Terminal, "Heartbeat, report and poll in one", check_in)
            .body::<CheckIn>()
            .returns::<CheckInAnswer>(200, "What was counted and what to run; sent after the commit"),
        Endpoint::get(
            "/api/v1/check-ins/totals",
            Access::Operator(Permission::AuditRead),
            "What was counted on this server, summed two ways; headquarters only",
            totals,
        )
        .returns::<Totals>(200, "Sums over all cohort cells and over all terminals"),
        Endpoint::get(
            "/api/v1/terminals/{id}/conditions",
            Access::Operator(Permission::TerminalsRead),
            "A terminal's network and device conditions over time, oldest first",
            conditions,
        )
        .query::<Span>()
        .returns_list::<Sample>(200, "Samples"),
    ]
}

async fn totals(state: web::Data<State>, caller: Caller) -> Result<web::Json<Totals>, Problem> {
    // The sums are over everybody's terminals; who sees only a part of the tree gets what it may not see: nothing.
    if !organizations::is_headquarters(caller.scope.from()) {
        return Err(Problem::not_found());
    }
    Ok(web::Json(state.db.read(super::totals).await?))
}

/// A span of time.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::IntoParams, utoipa::ToSchema)]
#[into_params(parameter_in = Query)]
struct Span {
    /// Start, Unix ms; 24 hours ago when absent.
    from_ms: Option<i64>,
    /// End, Unix ms; now when absent.
    to_ms: Option<i64>,
}

async fn conditions(
    state: web::Data<State>,
    caller: Caller,
    Path(id): Path<i64>,
    Query(span): Query<Span>,
) -> Result<web::Json<Vec<Sample>>, Problem> {
    let now = state.clock.now();
    let to_ms = span.to_ms.unwrap_or(now.0.saturating_add(1));
    let from_ms = span.from_ms.unwrap_or(now.0 - 86_400_000);
    let samples: Result<_, terminals::Error> = state
        .db
        .read(move |conn| {
            terminals::get(conn, &caller.scope, id)?;
            Ok(super::samples(conn, &caller.scope, id, from_ms, to_ms)?)
        })
        .await;
    Ok(web::Json(samples?))
}

async fn check_in(
    state: web::Data<State>,
    session: TerminalSession,
    request: HttpRequest,
    mut payload: web::Payload,
) -> Result<web::Json<CheckInAnswer>, Problem> {
    let body = body::read(request.headers(), &mut payload, BODY_BYTES_MAX).await?;
    let mut check_in: CheckIn = body::parse(&body)?;
    check_in.check()?;
    let manifest = match check_in.manifest.take() {
        Some(signed) => Some(verify(&state, session.terminal_id, signed).await?),
        None => None,
    };
    let report = report(&mut check_in, &body, manifest.is_some());
    let answer = state.check_ins.submit(session, check_in, report, manifest).await;
    answer.map(web::Json).map_err(problem)
}

/// The JSON that the state row keeps: the body as it came, unless it held more than the row should.
fn report(check_in: &mut CheckIn, body: &[u8], had_manifest: bool) -> String {
    match std::str::from_utf8(body) {
        Ok(text) if check_in.failures.is_empty() && check_in.payments.is_empty() && !had_manifest => text.to_owned(),
        _ => {
            let failures = std::mem::take(&mut check_in.failures);
            let payments = std::mem::take(&mut check_in.payments);
            let text = serde_json::to_string(&check_in).unwrap_or_default();
            check_in.failures = failures;
            check_in.payments = payments;
            text
        }
    }
}

/// Checks the manifest against the terminal's key, which the token alone does not prove.
async fn verify(state: &State, terminal: TerminalId, signed: SignedManifest) -> Result<VerifiedManifest, Problem> {
    let key = super::writer::public_key(&state.db, terminal).await?;
    let good = key.is_some_and(|key| crypto::verify_hex(&key, &signed_bytes(&signed.body), &signed.signature));
    if !good {
        return Err(Problem::invalid("manifest.signature", "does not verify under this terminal's key"));
    }
    let manifest: Manifest =
        body::parse(signed.body.as_bytes()).map_err(|problem| Problem::invalid("manifest.body", problem.detail))?;
    manifest.check().map_err(|error| error.under("manifest.body"))?;
    if manifest.terminal_id != terminal {
        return Err(Problem::invalid("manifest.body.terminal_id", "is another terminal's"));
    }
    Ok(VerifiedManifest { signed, manifest })
}

fn problem(refused: Refused) -> Problem {
    match refused {
        Refused::Busy | Refused::Unavailable => Problem::busy(RETRY_AFTER_S),
        Refused::SessionEnded => Problem::unauthorized("This session has ended. Open a new one."),
        Refused::Blocked => Problem::new(
            StatusCode::FORBIDDEN,
            "blocked",
            "This terminal is blocked",
            "Its organization blocked or retired it. Ask there.",
        ),
    }
}
