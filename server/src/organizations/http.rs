//! REST of organizations.

use actix_web::http::{Method, StatusCode};
use actix_web::{HttpResponse, web};

use super::{Change, Error, NewOrganization, Organization};
use crate::http::State;
use crate::http::auth::Acting;
use crate::http::body::{Json, Path, Query};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::page::{Page, PageQuery};
use crate::http::problem::{Problem, sentence};
use crate::operators::{Caller, Permission};

/// This domain's rows of the endpoint table.
pub fn endpoints() -> Vec<Endpoint> {
    let read = Access::Operator(Permission::OrganizationsRead);
    let write = Access::Operator(Permission::OrganizationsWrite);
    vec![
        Endpoint::get(
            "/api/v1/organizations",
            read,
            "Your organization and all below it, in the order of the tree",
            list,
        )
        .query::<PageQuery>()
        .returns::<Page<Organization>>(200, "A page of organizations"),
        Endpoint::post("/api/v1/organizations", write, "Creates an organization below one of yours", create)
            .body::<NewOrganization>()
            .returns::<Organization>(201, "The new organization"),
        Endpoint::get("/api/v1/organizations/{id}", read, "One organization", get)
            .returns::<Organization>(200, "The organization"),
        Endpoint::new(
            Method::PATCH,
            "/api/v1/organizations/{id}",
            write,
            "Renames, suspends or reopens an organization",
            update,
        )
        .body::<Change>()
        .returns::<Organization>(200, "As it is now"),
    ]
}

async fn list(
    state: web::Data<State>,
    caller: Caller,
    Query(page): Query<PageQuery>,
) -> Result<web::Json<Page<Organization>>, Problem> {
    let size = page.size()?;
    let after = page.after::<String>()?;
    let rows = state.db.read(move |conn| super::list(conn, &caller.scope, after.as_deref(), size + 1)).await?;
    Ok(web::Json(Page::from_rows(rows, size, |organization| organization.path.clone())))
}

async fn create(
    state: web::Data<State>,
    acting: Acting,
    Json(new): Json<NewOrganization>,
) -> Result<HttpResponse, Problem> {
    let made = super::create(&state.db, &acting.caller.scope, &acting.actor, new, state.clock.now()).await;
    let made = made.map_err(|error| match error {
        // The address is right; the field names what the caller may not know.
        Error::NotFound => Problem::invalid("parent_id", "is not an organization that you may see"),
        other => other.into(),
    })?;
    Ok(HttpResponse::Created().json(made))
}

async fn get(state: web::Data<State>, caller: Caller, Path(id): Path<i64>) -> Result<web::Json<Organization>, Problem> {
    let found = state.db.read(move |conn| super::get(conn, &caller.scope, id)).await?;
    found.map(web::Json).ok_or_else(Problem::not_found)
}

async fn update(
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Json(change): Json<Change>,
) -> Result<web::Json<Organization>, Problem> {
    let Acting { caller, actor } = acting;
    let now = state.clock.now();
    let after = super::update(&state.db, &caller.scope, &actor, caller.organization_id, id, change, now).await?;
    Ok(web::Json(after))
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let text = sentence(&error);
        match error {
            Error::NotFound => Self::not_found(),
            Error::Changed | Error::Suspended | Error::Limit(_) => Self::conflict(text),
            Error::CodeTaken => {
                let mut problem = Self::new(StatusCode::CONFLICT, "taken", "The name is taken", text);
                problem.field = Some("short_code".to_owned());
                problem
            }
            Error::Own => Self::forbidden(text),
            Error::Field(field) => field.into(),
            Error::Db(error) => error.into(),
        }
    }
}
