//! When the people of an organization are told: quiet hours, and the time of the daily digest.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use askama::Template;
use serde::Deserialize;

use super::alert_channel_form::refuse;
use super::alerts::{Tab, tabs};
use super::filled::Filled;
use super::form::Form;
use super::organizations::{self, Choice};
use super::shell::{self, Shell};
use crate::alerts::{self, Hours, HoursChange, Level, QuietHours};
use crate::http::State;
use crate::http::auth::Acting;
use crate::http::body::{Query, query_pair};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::problem::Problem;
use crate::operators::{Caller, Permission};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/alerts/hours", Access::Page(Permission::IncidentsRead), "", show),
        Endpoint::post("/alerts/hours", Access::Page(Permission::AlertsWrite), "", save),
    ]
}

const FIELDS: [&str; 7] =
    ["version", "organization_id", "time_zone", "quiet_from", "quiet_until", "breaks", "digest_at"];

#[derive(Template)]
#[template(path = "alert_hours.html")]
struct HoursPage {
    shell: Shell,
    tabs: Vec<Tab>,
    form: Filled,
    problems: Vec<(String, String)>,
    organizations: Vec<Choice>,
    levels: Vec<Choice>,
    may_write: bool,
}

#[derive(Debug, Default, Deserialize)]
struct HoursQuery {
    #[serde(default)]
    organization_id: String,
}

async fn show(
    shell: Shell,
    state: web::Data<State>,
    caller: Caller,
    Query(query): Query<HoursQuery>,
) -> Result<HttpResponse, Problem> {
    let organization_id = match query.organization_id.trim() {
        "" => None,
        id => Some(id.parse().map_err(|_| Problem::invalid("organization_id", "is not a number"))?),
    };
    let (asking, zone) = (caller.clone(), state.config.time_zone.clone());
    let hours = state.db.read(move |conn| alerts::hours_of(conn, &asking, organization_id, &zone)).await?;
    page(shell, &state, &caller, of_hours(hours), StatusCode::OK).await
}

fn of_hours(hours: Hours) -> Filled {
    let mut form = Filled::default();
    form.fill("version", hours.version.to_string());
    form.fill("organization_id", hours.organization_id.to_string());
    form.fill("time_zone", hours.time_zone);
    form.fill("digest_at", hours.digest_at);
    match hours.quiet {
        Some(quiet) => {
            form.fill("quiet_from", quiet.from);
            form.fill("quiet_until", quiet.until);
            quiet.breaks.iter().for_each(|level| form.fill("breaks", level.as_str()));
        }
        // Whoever fills in the times would not want to miss these.
        None => form.fill("breaks", Level::P1.as_str()),
    }
    form
}

async fn page(
    shell: Shell,
    state: &State,
    caller: &Caller,
    form: Filled,
    status: StatusCode,
) -> Result<HttpResponse, Problem> {
    let tree = organizations::within(state, caller.scope.clone()).await?;
    let level = |level: Level| Choice {
        value: level.as_str().to_owned(),
        word: shell.word("level", level.as_str()),
        is_chosen: form.has("breaks", level.as_str()),
    };
    let page = HoursPage {
        tabs: tabs(&shell, "/alerts/hours"),
        problems: form.problems(),
        organizations: organizations::choices(&tree, form.value("organization_id").parse().ok()),
        levels: Level::ALL.map(level).into(),
        may_write: shell.may(Permission::AlertsWrite),
        form,
        shell,
    };
    shell::page(status, &page)
}

async fn save(
    mut shell: Shell,
    state: web::Data<State>,
    acting: Acting,
    Form(fields): Form<Vec<(String, String)>>,
) -> Result<HttpResponse, Problem> {
    let mut form = Filled::of(fields, &FIELDS)?;
    let address = format!("/alerts/hours?{}", query_pair("organization_id", form.value("organization_id")));
    shell.address = address.clone();
    let Acting { caller, actor } = acting;
    let given = |name: &str| Some(form.value(name).to_owned()).filter(|text| !text.is_empty());
    // One time without the other is refused by name; none at all means no quiet hours.
    let quiet = (given("quiet_from").is_some() || given("quiet_until").is_some()).then(|| QuietHours {
        from: form.value("quiet_from").to_owned(),
        until: form.value("quiet_until").to_owned(),
        breaks: form.all("breaks").iter().filter_map(|level| Level::parse(level)).collect(),
    });
    let change = HoursChange {
        organization_id: form.value("organization_id").parse().ok(),
        version: form.value("version").parse().unwrap_or(0),
        time_zone: given("time_zone"),
        quiet,
        digest_at: given("digest_at"),
    };
    let zone = &state.config.time_zone;
    match alerts::set_hours(&state.db, &caller, &actor, change, zone, state.clock.now()).await {
        Ok(_) => Ok(shell::see_other(&format!("{address}&done=saved"))),
        Err(error) => {
            refuse(&shell, &mut form, error)?;
            page(shell, &state, &caller, form, StatusCode::UNPROCESSABLE_ENTITY).await
        }
    }
}
