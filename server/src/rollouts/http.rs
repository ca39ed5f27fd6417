//! REST of rollouts.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};

use super::assignment::Phase;
use super::state::State as RolloutState;
use super::{
    Announced, AssignmentRow, Error, ListFilter, NewRollout, Preview, Rollout, RolloutDetail, Software, SoftwarePart,
    TimelineEvent,
};
use crate::clock::Now;
use crate::db::Conn;
use crate::http::State;
use crate::http::auth::Acting;
use crate::http::body::{Json, Path, Query};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::page::{Page, PageQuery};
use crate::http::problem::Problem;
use crate::operators::{Caller, Permission};

const READ: Access = Access::Operator(Permission::RolloutsRead);
const WRITE: Access = Access::Operator(Permission::RolloutsWrite);
const APPROVE: Access = Access::Operator(Permission::RolloutsApprove);

/// This domain's rows of the endpoint table.
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::post("/api/v1/rollouts", WRITE, "Writes down a draft", create)
            .body::<NewRollout>()
            .returns::<RolloutDetail>(201, "The draft"),
        Endpoint::get("/api/v1/rollouts", READ, "Rollouts of your organizations, newest first", list)
            .query::<ListQuery>()
            .returns::<Page<Rollout>>(200, "A page of rollouts"),
        Endpoint::get("/api/v1/rollouts/{id}", READ, "One rollout with its counts and reasons", get)
            .returns::<RolloutDetail>(200, "The rollout"),
        Endpoint::get(
            "/api/v1/rollouts/{id}/preview",
            READ,
            "Which terminals it would update now, and which not and why",
            preview,
        )
        .returns::<Preview>(200, "Counts, exclusions by reason and a sample"),
        Endpoint::post("/api/v1/rollouts/{id}/start", WRITE, "Starts a draft whose count was confirmed", start)
            .body::<Start>()
            .returns::<RolloutDetail>(200, "The running rollout"),
        Endpoint::post("/api/v1/rollouts/{id}/pause", WRITE, "Stops offering for a while", pause)
            .body::<Why>()
            .returns::<RolloutDetail>(200, "The paused rollout"),
        Endpoint::post("/api/v1/rollouts/{id}/resume", WRITE, "Ends a pause", resume)
            .returns::<RolloutDetail>(200, "The running rollout"),
        Endpoint::post("/api/v1/rollouts/{id}/cancel", WRITE, "Ends a rollout for good", cancel)
            .body::<Why>()
            .returns::<RolloutDetail>(200, "The cancelled rollout"),
        Endpoint::post("/api/v1/rollouts/{id}/submit", WRITE, "Asks for a second person to start a draft", submit)
            .body::<Submit>()
            .returns::<RolloutDetail>(200, "The rollout, waiting for approval"),
        Endpoint::post("/api/v1/rollouts/{id}/approve", APPROVE, "Agrees to what waits, and does it", approve)
            .returns::<RolloutDetail>(200, "The rollout after it"),
        Endpoint::post("/api/v1/rollouts/{id}/reject", APPROVE, "Does not agree to what waits", reject)
            .body::<Why>()
            .returns::<RolloutDetail>(200, "The rollout after it"),
        Endpoint::post("/api/v1/rollouts/{id}/advance", WRITE, "Opens the next stage without the gate", advance)
            .body::<Why>()
            .returns::<RolloutDetail>(200, "The rollout, or with a request for approval"),
        Endpoint::post("/api/v1/rollouts/{id}/override", WRITE, "Goes on after a halt", override_halt)
            .body::<Why>()
            .returns::<RolloutDetail>(200, "The rollout, or with a request for approval"),
        Endpoint::post("/api/v1/rollouts/{id}/stop-scope", WRITE, "Stops one part of a rollout alone", stop_scope)
            .body::<StopScope>()
            .returns::<RolloutDetail>(200, "The rollout without that part"),
        Endpoint::post(
            "/api/v1/rollouts/{id}/retry",
            WRITE,
            "Drafts a rollout to the failed and silent terminals",
            retry,
        )
        .returns::<RolloutDetail>(201, "The draft"),
        Endpoint::post(
            "/api/v1/rollouts/{id}/undo",
            WRITE,
            "Drafts a rollout that brings updated terminals back",
            undo,
        )
        .body::<Undo>()
        .returns::<RolloutDetail>(201, "The draft"),
        Endpoint::get(
            "/api/v1/announcements",
            READ,
            "Updates of which your organizations were told a date",
            announcements,
        )
        .returns::<Vec<Announced>>(200, "The earliest first"),
        Endpoint::get("/api/v1/rollouts/{id}/assignments", READ, "Its terminals and how far they are", assignments)
            .query::<AssignmentsQuery>()
            .returns::<Page<AssignmentRow>>(200, "A page of assignments"),
        Endpoint::get(
            "/api/v1/terminals/{id}/updates",
            Access::Operator(Permission::TerminalsRead),
            "A terminal's update timeline, newest first",
            timeline,
        )
        .returns_list::<TimelineEvent>(200, "The last lines"),
    ]
}

/// Which rollouts.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// `next` of the page before.
    after: Option<String>,
    /// Rows on the page, 1–100; 20 when absent.
    size: Option<u32>,
    /// Only rollouts in this state.
    state: Option<String>,
    /// Only rollouts of releases that bring this firmware version.
    firmware: Option<String>,
}

/// Which assignments.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct AssignmentsQuery {
    /// `next` of the page before.
    after: Option<String>,
    /// Rows on the page, 1–100; 20 when absent.
    size: Option<u32>,
    /// Only assignments in this phase.
    phase: Option<String>,
}

/// A start with the count that a person confirmed.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Start {
    /// The preview's count, typed again.
    confirm_count: u64,
}

/// A reason.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Why {
    /// Reason, for the page and the audit log.
    why: String,
}

/// A request for approval with the count that its maker confirmed.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Submit {
    /// The preview's count, typed again.
    confirm_count: u64,
    /// Why, for the person who approves.
    why: String,
}

/// A part of a rollout.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct StopScope {
    /// `model`, `access`, `carrier`, `region` or `hardware`.
    attribute: String,
    /// Its value.
    value: String,
    /// Reason, for the page and the audit log.
    why: String,
}

/// The way back.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Undo {
    /// A published release of the same component with a higher release counter: the earlier firmware again.
    release_id: i64,
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound => Self::not_found(),
            Error::Field(error) => Self::from(error),
            Error::Refused(_)
            | Error::ReleaseNotPublished(_)
            | Error::NothingToUpdate
            | Error::CountDiffers { .. }
            | Error::NeedsApproval { .. }
            | Error::OwnRequest
            | Error::NothingRequested
            | Error::SetChanged { .. }
            | Error::LastStage
            | Error::NoSuchTerminals
            | Error::Raced => Self::conflict(sentence(&error)),
            Error::Profile(error) => Self::from(error),
            Error::Db(error) => Self::from(error),
        }
    }
}

/// An error's text as a sentence.
fn sentence(error: &Error) -> String {
    let text = error.to_string();
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| format!("{}{}.", first.to_uppercase(), letters.as_str()))
}

async fn answer(state: &State, caller: Caller, id: i64) -> Answered {
    let detail = state.db.read(move |conn| super::get(conn, &caller.scope, id)).await?;
    Ok(web::Json(detail))
}

/// What a rollout is after something was done with it.
type Answered = Result<web::Json<RolloutDetail>, Problem>;

/// Does `work` with the rollout `id` in one transaction, lets the planner know, and says what the rollout is then.
async fn act(
    state: &State,
    by: Acting,
    id: i64,
    work: impl FnOnce(&mut Conn, &Acting, Now) -> Result<(), Error> + Send + 'static,
) -> Answered {
    let now = state.clock.now();
    let maker = by.clone();
    state.db.write(move |conn| work(conn, &maker, now)).await?;
    state.planner.wake();
    answer(state, by.caller, id).await
}

/// As [`act`], for what is resolved outside of any write.
async fn done(state: &State, by: Acting, id: i64, done: impl Future<Output = Result<(), Error>>) -> Answered {
    done.await?;
    state.planner.wake();
    answer(state, by.caller, id).await
}

/// As [`act`], for what makes a draft.
async fn draft(
    state: &State,
    by: Acting,
    work: impl FnOnce(&mut Conn, &Acting, Now) -> Result<i64, Error> + Send + 'static,
) -> Result<HttpResponse, Problem> {
    let now = state.clock.now();
    let maker = by.clone();
    let id = state.db.write(move |conn| work(conn, &maker, now)).await?;
    let detail = answer(state, by.caller, id).await?;
    Ok(HttpResponse::build(StatusCode::CREATED).json(detail))
}

async fn create(state: web::Data<State>, by: Acting, Json(new): Json<NewRollout>) -> Result<HttpResponse, Problem> {
    draft(&state, by, move |conn, by, now| super::create(conn, &by.caller, new, &by.actor, now)).await
}

async fn list(
    state: web::Data<State>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<web::Json<Page<Rollout>>, Problem> {
    let page = PageQuery { after: query.after, size: query.size };
    let (size, before) = (page.size()?, page.after::<i64>()?);
    let wanted = query.state.filter(|state| !state.is_empty());
    if let Some(state) = wanted.as_deref().filter(|state| !RolloutState::NAMES.contains(state)) {
        return Err(Problem::invalid("state", format!("{state:?} is not a state of a rollout")));
    }
    let firmware = query.firmware.filter(|version| !version.is_empty());
    let software = firmware.map(|version| Software { part: SoftwarePart::Firmware, version, model: None });
    let filter = ListFilter { software, ..ListFilter::in_state(wanted.as_deref()) };
    let rows = state.db.read(move |conn| super::list(conn, &caller.scope, &filter, before, size + 1)).await?;
    Ok(web::Json(Page::from_rows(rows, size, |rollout| rollout.id)))
}

async fn get(state: web::Data<State>, caller: Caller, Path(id): Path<i64>) -> Answered {
    answer(&state, caller, id).await
}

async fn preview(state: web::Data<State>, caller: Caller, Path(id): Path<i64>) -> Result<web::Json<Preview>, Problem> {
    Ok(web::Json(state.db.read(move |conn| super::preview(conn, &caller.scope, id)).await?))
}

async fn start(state: web::Data<State>, by: Acting, Path(id): Path<i64>, Json(body): Json<Start>) -> Answered {
    let Acting { caller, actor } = by.clone();
    let (from, now) = (state.config.approval_from_terminals, state.clock.now());
    let start = super::start(&state.db, caller.scope, id, body.confirm_count, from, actor, now);
    done(&state, by, id, start).await
}

async fn submit(state: web::Data<State>, by: Acting, Path(id): Path<i64>, Json(body): Json<Submit>) -> Answered {
    let (Acting { caller, actor }, now) = (by.clone(), state.clock.now());
    let submit = super::submit(&state.db, caller, id, body.confirm_count, &body.why, actor, now);
    done(&state, by, id, submit).await
}

async fn approve(state: web::Data<State>, by: Acting, Path(id): Path<i64>) -> Answered {
    let (Acting { caller, actor }, now) = (by.clone(), state.clock.now());
    done(&state, by, id, super::approve(&state.db, caller, id, actor, now)).await
}

async fn reject(state: web::Data<State>, by: Acting, Path(id): Path<i64>, Json(Why { why }): Json<Why>) -> Answered {
    act(&state, by, id, move |conn, by, now| super::reject(conn, &by.caller.scope, id, &why, &by.actor, now)).await
}

async fn pause(state: web::Data<State>, by: Acting, Path(id): Path<i64>, Json(Why { why }): Json<Why>) -> Answered {
    act(&state, by, id, move |conn, by, now| super::pause(conn, &by.caller.scope, id, &why, &by.actor, now)).await
}

async fn resume(state: web::Data<State>, by: Acting, Path(id): Path<i64>) -> Answered {
    act(&state, by, id, move |conn, by, now| super::resume(conn, &by.caller.scope, id, &by.actor, now)).await
}

async fn cancel(state: web::Data<State>, by: Acting, Path(id): Path<i64>, Json(Why { why }): Json<Why>) -> Answered {
    act(&state, by, id, move |conn, by, now| super::cancel(conn, &by.caller.scope, id, &why, &by.actor, now)).await
}

async fn advance(state: web::Data<State>, by: Acting, Path(id): Path<i64>, Json(Why { why }): Json<Why>) -> Answered {
    let from = state.config.approval_from_terminals;
    let advance =
        move |conn: &mut Conn, by: &Acting, now| super::advance_stage(conn, &by.caller, id, &why, from, &by.actor, now);
    act(&state, by, id, advance).await
}

async fn override_halt(
    state: web::Data<State>,
    by: Acting,
    Path(id): Path<i64>,
    Json(Why { why }): Json<Why>,
) -> Answered {
    let from = state.config.approval_from_terminals;
    let go_on =
        move |conn: &mut Conn, by: &Acting, now| super::override_halt(conn, &by.caller, id, &why, from, &by.actor, now);
    act(&state, by, id, go_on).await
}

async fn stop_scope(
    state: web::Data<State>,
    by: Acting,
    Path(id): Path<i64>,
    Json(StopScope { attribute, value, why }): Json<StopScope>,
) -> Answered {
    let stop = move |conn: &mut Conn, by: &Acting, now| {
        super::stop_scope(conn, &by.caller, id, (&attribute, &value, &why), &by.actor, now)
    };
    act(&state, by, id, stop).await
}

async fn retry(state: web::Data<State>, by: Acting, Path(id): Path<i64>) -> Result<HttpResponse, Problem> {
    draft(&state, by, move |conn, by, now| super::retry(conn, &by.caller, id, &by.actor, now)).await
}

async fn undo(
    state: web::Data<State>,
    by: Acting,
    Path(id): Path<i64>,
    Json(Undo { release_id }): Json<Undo>,
) -> Result<HttpResponse, Problem> {
    draft(&state, by, move |conn, by, now| super::undo(conn, &by.caller, id, release_id, &by.actor, now)).await
}

async fn announcements(state: web::Data<State>, caller: Caller) -> Result<web::Json<Vec<Announced>>, Problem> {
    Ok(web::Json(state.db.read(move |conn| super::announcements(conn, &caller.scope)).await?))
}

async fn assignments(
    state: web::Data<State>,
    caller: Caller,
    Path(id): Path<i64>,
    Query(query): Query<AssignmentsQuery>,
) -> Result<web::Json<Page<AssignmentRow>>, Problem> {
    let page = PageQuery { after: query.after, size: query.size };
    let (size, after, now) = (page.size()?, page.after::<i64>()?, state.clock.now());
    let phase = match query.phase.as_deref().filter(|phase| !phase.is_empty()) {
        None => None,
        Some(name) => Some(
            Phase::parse(name)
                .ok_or_else(|| Problem::invalid("phase", format!("{name:?} is not a phase of an assignment")))?,
        ),
    };
    let rows =
        state.db.read(move |conn| super::assignments(conn, &caller.scope, id, phase, after, size + 1, now)).await?;
    Ok(web::Json(Page::from_rows(rows, size, |row| row.key(phase))))
}

async fn timeline(
    state: web::Data<State>,
    caller: Caller,
    Path(id): Path<i64>,
) -> Result<web::Json<Vec<TimelineEvent>>, Problem> {
    Ok(web::Json(state.db.read(move |conn| super::timeline_in(conn, &caller.scope, id)).await?))
}
