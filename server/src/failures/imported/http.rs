//! REST of imported failures.

use actix_web::web;
use serde::{Deserialize, Serialize};

use super::{ITEMS_MAX, NewFailure, Taken};
use crate::http::State;
use crate::http::auth::Acting;
use crate::http::body::Json;
use crate::http::endpoints::{Access, Endpoint};
use crate::http::problem::Problem;
use crate::operators::Permission;

/// This part's rows of the endpoint table.
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::post(
            "/api/v1/failures",
            Access::Operator(Permission::FailuresWrite),
            "Takes failures of terminals that cannot report them; the same one again changes nothing",
            take,
        )
        .body::<NewFailures>()
        .returns::<Taken>(200, "What was stored, what was known, and what was refused and why"),
    ]
}

/// Failures that no terminal reported.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct NewFailures {
    /// At most 500.
    failures: Vec<NewFailure>,
}

async fn take(
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Json(body): Json<NewFailures>,
) -> Result<web::Json<Taken>, Problem> {
    let items = body.failures;
    if items.len() > ITEMS_MAX {
        return Err(Problem::invalid("failures", format!("at most {ITEMS_MAX} in one request, were {}", items.len())));
    }
    let now = state.clock.now();
    let taken = state.db.write(move |conn| super::take(conn, &caller, &actor, items, now)).await?;
    Ok(web::Json(taken))
}
