//! Thresholds and checklists of organizations.

use actix_web::web;

use super::{CONFIGURE, READ};
use crate::http::State;
use crate::http::auth::Acting;
use crate::http::body::{Json, Path};
use crate::http::endpoints::Endpoint;
use crate::http::problem::Problem;
use crate::maintenance::checklist::Checklist;
use crate::maintenance::orders::Kind;
use crate::maintenance::{self, ChecklistChange, RulesChange, RulesInForce};
use crate::operators::Caller;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/api/v1/maintenance-rules/{id}", READ, "Thresholds in force for an organization", rules)
            .returns::<RulesInForce>(200, "The thresholds"),
        Endpoint::post(
            "/api/v1/maintenance-rules/{id}",
            CONFIGURE,
            "Gives an organization its own thresholds",
            put_rules,
        )
        .body::<RulesChange>()
        .returns::<RulesInForce>(200, "The thresholds"),
        Endpoint::get("/api/v1/checklists/{id}/{kind}", READ, "The checklist in force for an organization", checklist)
            .returns::<Checklist>(200, "The checklist"),
        Endpoint::post(
            "/api/v1/checklists/{id}/{kind}",
            CONFIGURE,
            "A new edition of an organization's own checklist",
            put_checklist,
        )
        .body::<ChecklistChange>()
        .returns::<Checklist>(200, "The checklist"),
    ]
}

async fn rules(
    state: web::Data<State>,
    caller: Caller,
    Path(id): Path<i64>,
) -> Result<web::Json<RulesInForce>, Problem> {
    Ok(web::Json(state.db.read(move |conn| maintenance::rules_in_force(conn, &caller, id)).await?))
}

async fn put_rules(
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Path(id): Path<i64>,
    Json(change): Json<RulesChange>,
) -> Result<web::Json<RulesInForce>, Problem> {
    let (now, acting) = (state.clock.now(), caller.clone());
    state.db.write(move |conn| maintenance::put_rules(conn, &acting, &actor, id, &change, now)).await?;
    Ok(web::Json(state.db.read(move |conn| maintenance::rules_in_force(conn, &caller, id)).await?))
}

fn kind_of(name: &str) -> Result<Kind, Problem> {
    Kind::parse(name).ok_or_else(Problem::not_found)
}

async fn checklist(
    state: web::Data<State>,
    caller: Caller,
    Path((id, kind)): Path<(i64, String)>,
) -> Result<web::Json<Checklist>, Problem> {
    let kind = kind_of(&kind)?;
    Ok(web::Json(state.db.read(move |conn| maintenance::checklist(conn, &caller, id, kind)).await?))
}

async fn put_checklist(
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Path((id, kind)): Path<(i64, String)>,
    Json(change): Json<ChecklistChange>,
) -> Result<web::Json<Checklist>, Problem> {
    let (now, kind, acting) = (state.clock.now(), kind_of(&kind)?, caller.clone());
    state.db.write(move |conn| maintenance::put_checklist(conn, &acting, &actor, (id, kind), &change, now)).await?;
    Ok(web::Json(state.db.read(move |conn| maintenance::checklist(conn, &caller, id, kind)).await?))
}
