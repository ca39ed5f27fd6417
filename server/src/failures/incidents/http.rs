//! REST of incidents.

use actix_web::web;
use serde::{Deserialize, Serialize};

use super::{Act, Error, Filter, Incident, IncidentDetail};
use crate::http::State;
use crate::http::auth::Acting;
use crate::http::body::{Json, Path, Query};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::page::{Page, PageQuery};
use crate::http::problem::{Problem, sentence};
use crate::operators::{Caller, Permission};

const READ: Access = Access::Operator(Permission::IncidentsRead);
const WRITE: Access = Access::Operator(Permission::IncidentsWrite);

/// This part's rows of the endpoint table.
pub fn endpoints() -> Vec<Endpoint> {
    let detail = |endpoint: Endpoint| endpoint.returns::<IncidentDetail>(200, "The incident as it is now");
    vec![
        Endpoint::get("/api/v1/incidents", READ, "Incidents of your organizations, newest first", list)
            .query::<ListQuery>()
            .returns::<Page<Incident>>(200, "A page of incidents"),
        detail(Endpoint::get("/api/v1/incidents/{id}", READ, "One incident with its evidence and story", get)),
        detail(
            Endpoint::post("/api/v1/incidents/{id}/acknowledge", WRITE, "Takes an incident on", acknowledge)
                .body::<Said>(),
        ),
        detail(
            Endpoint::post("/api/v1/incidents/{id}/mitigate", WRITE, "Says that the harm has stopped", mitigate)
                .body::<Said>(),
        ),
        detail(
            Endpoint::post("/api/v1/incidents/{id}/resolve", WRITE, "Says that an incident is over", resolve)
                .body::<Said>(),
        ),
        detail(
            Endpoint::post("/api/v1/incidents/{id}/note", WRITE, "Adds to an incident's story", note).body::<Said>(),
        ),
        detail(
            Endpoint::post("/api/v1/incidents/{id}/assign", WRITE, "Gives an incident an owner", assign)
                .body::<Assignment>(),
        ),
    ]
}

/// Which incidents.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// `next` of the page before.
    #[serde(default)]
    after: Option<String>,
    /// Rows on the page, 1–100; 20 when absent.
    #[serde(default)]
    size: Option<u32>,
    /// Only in this state; `unresolved` for all but `resolved`.
    #[serde(default)]
    state: Option<String>,
    /// Only of this kind.
    #[serde(default)]
    kind: Option<String>,
    /// Only of this level, `P1` to `P3`.
    #[serde(default)]
    level: Option<String>,
    /// Only about this rollout.
    #[serde(default)]
    rollout_id: Option<i64>,
    /// Only those whose list of terminals has this one.
    #[serde(default)]
    terminal_id: Option<i64>,
    /// Only those that are or were folded under this one.
    #[serde(default)]
    parent_id: Option<i64>,
}

impl ListQuery {
    fn filter(&self) -> Result<Filter, Problem> {
        let name = |value: &Option<String>| value.clone().unwrap_or_default();
        let named = Filter::of_names(&name(&self.state), &name(&self.kind), &name(&self.level))?;
        let Self { rollout_id, terminal_id, parent_id, .. } = *self;
        Ok(Filter { rollout_id, terminal_id, parent_id, ..named })
    }
}

/// What a person says to what they do. Needed to mitigate, to resolve and for a note.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = IncidentNote)]
struct Said {
    /// At most 2,000 characters.
    #[serde(default)]
    note: String,
}

/// Who shall carry an incident on.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = IncidentAssignment)]
struct Assignment {
    /// Number of the operator; absent for oneself.
    #[serde(default)]
    operator_id: Option<i64>,
    /// At most 2,000 characters.
    #[serde(default)]
    note: String,
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound => Self::not_found(),
            Error::Field(error) => Self::from(error),
            Error::Refused(_) | Error::Raced => Self::conflict(sentence(&error)),
            Error::Db(error) => Self::from(error),
        }
    }
}

async fn list(
    state: web::Data<State>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<web::Json<Page<Incident>>, Problem> {
    let filter = query.filter()?;
    let page = PageQuery { after: query.after, size: query.size };
    let (size, before) = (page.size()?, page.after::<i64>()?);
    let rows = state.db.read(move |conn| super::list(conn, &caller.scope, &filter, before, size + 1)).await?;
    Ok(web::Json(Page::from_rows(rows, size, |incident| incident.id)))
}

async fn answer(state: &State, caller: Caller, id: i64) -> Result<web::Json<IncidentDetail>, Problem> {
    Ok(web::Json(state.db.read(move |conn| super::get(conn, &caller.scope, id)).await?))
}

async fn get(
    state: web::Data<State>,
    caller: Caller,
    Path(id): Path<i64>,
) -> Result<web::Json<IncidentDetail>, Problem> {
    answer(&state, caller, id).await
}

async fn acknowledge(
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Json(said): Json<Said>,
) -> Result<web::Json<IncidentDetail>, Problem> {
    act(&state, acting, id, Act::Acknowledge, said.note).await
}

async fn mitigate(
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Json(said): Json<Said>,
) -> Result<web::Json<IncidentDetail>, Problem> {
    act(&state, acting, id, Act::Mitigate, said.note).await
}

async fn resolve(
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Json(said): Json<Said>,
) -> Result<web::Json<IncidentDetail>, Problem> {
    act(&state, acting, id, Act::Resolve, said.note).await
}

async fn note(
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Json(said): Json<Said>,
) -> Result<web::Json<IncidentDetail>, Problem> {
    act(&state, acting, id, Act::Note, said.note).await
}

async fn act(
    state: &State,
    Acting { caller, actor }: Acting,
    id: i64,
    act: Act,
    note: String,
) -> Result<web::Json<IncidentDetail>, Problem> {
    let (now, acting) = (state.clock.now(), caller.clone());
    state.db.write(move |conn| super::act(conn, &acting, &actor, id, &act, &note, now)).await?;
    answer(state, caller, id).await
}

async fn assign(
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Path(id): Path<i64>,
    Json(body): Json<Assignment>,
) -> Result<web::Json<IncidentDetail>, Problem> {
    let now = state.clock.now();
    super::assign(&state.db, caller.clone(), actor, id, body.operator_id, body.note, now).await?;
    answer(&state, caller, id).await
}
