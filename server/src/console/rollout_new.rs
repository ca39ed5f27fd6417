//! A new rollout, and a draft written anew: one form, which keeps what was typed until everything in it is possible.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use askama::Template;
use serde::Deserialize;

use super::form::Form;
use super::organizations::{self, Choice};
use super::rollout_form::{Typed, field_of_words};
use super::rollout_words;
use super::rollouts::names;
use super::shell::{self, Shell};
use crate::db::Conn;
use crate::http::State;
use crate::http::auth::Acting;
use crate::http::body::Query;
use crate::http::endpoints::{Access, Endpoint};
use crate::http::problem::Problem;
use crate::operators::{Caller, Permission, Scope};
use crate::releases::{self, ReleaseState};
use crate::rollouts::filter::TERMINALS_MAX;
use crate::rollouts::{self, NewRollout, Rollout};
use crate::{profiles, terminals};

pub(super) fn endpoints() -> Vec<Endpoint> {
    let write = Access::Page(Permission::RolloutsWrite);
    vec![
        Endpoint::get("/rollouts/new", write, "", blank),
        Endpoint::post("/rollouts/new", write, "", arrange),
        Endpoint::post("/rollouts", write, "", create),
    ]
}

/// Releases and profiles that the form offers: the newest ones.
const OFFERED_MAX: u32 = 50;

#[derive(Template)]
#[template(path = "rollout_form.html")]
struct FormPage {
    shell: Shell,
    form: Typed,
    revises: Option<String>,
    of_rollout: Option<String>,
    problems: Vec<(String, String)>,
    releases: Vec<Choice>,
    profiles: Vec<Choice>,
    layers: [&'static str; 4],
    models: Vec<String>,
    organizations: Vec<Choice>,
    stage_rows: Vec<usize>,
    stage_kinds: [&'static str; 3],
    window_rows: Vec<usize>,
    weekdays: [&'static str; 7],
    announcement_rows: Vec<usize>,
}

/// What the form starts with.
#[derive(Debug, Default, Deserialize)]
struct Start {
    /// A release to roll out.
    #[serde(default)]
    release: Option<i64>,
    /// A profile to roll out.
    #[serde(default)]
    profile: Option<i64>,
    /// A rollout to make another of.
    #[serde(default)]
    from: Option<i64>,
}

async fn blank(
    shell: Shell,
    state: web::Data<State>,
    caller: Caller,
    Query(start): Query<Start>,
) -> Result<HttpResponse, Problem> {
    let form = match start.from {
        Some(id) => of_rollout(&shell, &state, &caller, id).await?,
        None => {
            let mut form = Typed::recommended();
            if let Some(id) = start.profile {
                form.set("subject", "profile");
                form.set("profile_id", id.to_string());
            }
            form.set("release_id", start.release.map(|id| id.to_string()).unwrap_or_default());
            form
        }
    };
    page(shell, &state, &caller, form, StatusCode::OK).await
}

/// The form of a rollout that is known; that of a draft writes it anew.
async fn of_rollout(shell: &Shell, state: &State, caller: &Caller, id: i64) -> Result<Typed, Problem> {
    let scope = caller.scope.clone();
    let read = move |conn: &mut Conn| {
        let rollout = rollouts::get(conn, &scope, id)?.rollout;
        let meant = sns_of(conn, &scope, &rollout.filter.terminal_ids)?;
        let left_out = sns_of(conn, &scope, &rollout.filter.exclude_terminal_ids)?;
        Ok::<_, Problem>((rollout, meant, left_out))
    };
    let (rollout, meant, left_out): (Rollout, String, String) = state.db.read(read).await?;
    let mut form = Typed::like(&rollout, &shell.moments);
    form.set("sns", meant);
    form.set("without_sns", left_out);
    if rollout.state == "draft" {
        form.set("revises", id.to_string());
    }
    Ok(form)
}

/// One a line; a terminal that has left the scope is not named.
fn sns_of(conn: &mut Conn, scope: &Scope, ids: &[i64]) -> Result<String, Problem> {
    let mut sns = Vec::with_capacity(ids.len());
    for id in ids {
        match terminals::get(conn, scope, *id) {
            Ok(terminal) => sns.push(terminal.sn),
            Err(terminals::Error::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(sns.join("\n"))
}

async fn page(
    shell: Shell,
    state: &State,
    caller: &Caller,
    form: Typed,
    status: StatusCode,
) -> Result<HttpResponse, Problem> {
    let published = releases::Filter { state: Some(ReleaseState::Published), ..releases::Filter::default() };
    let releases = releases::list(&state.db, caller.scope.clone(), published, None, OFFERED_MAX).await?;
    let scope = caller.scope.clone();
    let may_profiles = shell.may(Permission::ProfilesRead);
    let (profiles, models) = state
        .db
        .read(move |conn| {
            let profiles = if may_profiles { profiles::list(conn, &scope, None, OFFERED_MAX)? } else { Vec::new() };
            Ok::<_, Problem>((profiles, terminals::list_models(conn)?))
        })
        .await?;
    let tree = organizations::within(state, caller.scope.clone()).await?;
    let of_rollout = match form.value("of_rollout") {
        "" => None,
        id => Some(shell.language.with_two("rollout-of-rollout", ("id", id), ("phases", &phases(&shell, &form)))),
    };
    let releases = releases.into_iter().map(|release| {
        let models = release.models.join(" ");
        let word = format!("{} · {} {} · {models}", release.name, release.component, release.firmware_version);
        Choice { is_chosen: form.has("release_id", &release.id.to_string()), value: release.id.to_string(), word }
    });
    let profiles = profiles.into_iter().map(|profile| Choice {
        is_chosen: form.has("profile_id", &profile.id.to_string()),
        value: profile.id.to_string(),
        word: format!("{} · v{}", profile.name, profile.version),
    });
    shell::page(
        status,
        &FormPage {
            revises: Some(form.value("revises").to_owned()).filter(|id| !id.is_empty()),
            of_rollout,
            problems: form.problems().map(|(field, text)| (field.to_owned(), text.to_owned())).collect(),
            releases: releases.collect(),
            profiles: profiles.collect(),
            layers: ["global", "organization", "group", "terminal"],
            models: models.into_iter().map(|model| model.code).collect(),
            organizations: organizations::choices(&tree, None),
            stage_rows: form.stage_rows(),
            stage_kinds: ["percent", "count", "tag"],
            window_rows: form.window_rows(),
            weekdays: ["1", "2", "3", "4", "5", "6", "7"],
            announcement_rows: form.announcement_rows(),
            form,
            shell,
        },
    )
}

fn phases(shell: &Shell, form: &Typed) -> String {
    let words: Vec<String> = names(form.value("of_phases")).iter().map(|phase| shell.word("phase", phase)).collect();
    words.join(" / ")
}

fn typed(fields: Vec<(String, String)>) -> Result<Typed, Problem> {
    Typed::of(fields).map_err(|name| Problem::invalid(name, "is not a field of this form"))
}

/// More rows or another plan: nothing is saved.
async fn arrange(
    shell: Shell,
    state: web::Data<State>,
    acting: Acting,
    Form(fields): Form<Vec<(String, String)>>,
) -> Result<HttpResponse, Problem> {
    let mut form = typed(fields)?;
    form.arrange();
    page(shell, &state, &acting.caller, form, StatusCode::OK).await
}

async fn create(
    mut shell: Shell,
    state: web::Data<State>,
    acting: Acting,
    Form(fields): Form<Vec<(String, String)>>,
) -> Result<HttpResponse, Problem> {
    shell.address = "/rollouts/new".to_owned();
    let mut form = typed(fields)?;
    let mut new = form.read(&shell);
    let Acting { caller, actor } = acting;
    read_lists(&shell, &state, &caller, &mut form, &mut new).await?;
    if !form.is_good() {
        return page(shell, &state, &caller, form, StatusCode::UNPROCESSABLE_ENTITY).await;
    }
    let (now, maker) = (state.clock.now(), caller.clone());
    let revises: Option<i64> = form.value("revises").parse().ok();
    let made = state
        .db
        .write(move |conn| match revises {
            Some(id) => rollouts::revise(conn, &maker, id, new, &actor, now),
            None => rollouts::create(conn, &maker, new, &actor, now),
        })
        .await;
    match made {
        Ok(id) => Ok(shell::see_other(&format!("/rollouts/{id}?done=draft"))),
        Err(error @ (rollouts::Error::NotFound | rollouts::Error::Db(_))) => Err(error.into()),
        Err(error) => {
            let field = match &error {
                rollouts::Error::Field(error) => field_of_words(rollout_words::field_name(&error.field)).to_owned(),
                rollouts::Error::Profile(profiles::Error::Invalid(_)) => "layer".to_owned(),
                rollouts::Error::Profile(_) => "profile_id".to_owned(),
                rollouts::Error::ReleaseNotPublished(_) => "release_id".to_owned(),
                _ => "form".to_owned(),
            };
            form.refuse_with(&field, rollout_words::refusal(&shell, &error));
            page(shell, &state, &caller, form, StatusCode::UNPROCESSABLE_ENTITY).await
        }
    }
}

/// Terminals that are named by serial number, to update and to leave out.
async fn read_lists(
    shell: &Shell,
    state: &State,
    caller: &Caller,
    form: &mut Typed,
    new: &mut NewRollout,
) -> Result<(), Problem> {
    let (meant, left_out) = (names(form.value("sns")), names(form.value("without_sns")));
    let too_many = [("sns", &meant, "terminals"), ("without_sns", &left_out, "without-terminals")]
        .into_iter()
        .find(|(_, list, _)| list.len() > TERMINALS_MAX);
    if let Some((field, _, words)) = too_many {
        form.refuse(shell, field, words);
        return Ok(());
    }
    let scope = caller.scope.clone();
    let found = state
        .db
        .read(move |conn| {
            let mut ids = |sns: &[String]| {
                let mut ids = Vec::with_capacity(sns.len());
                for sn in sns {
                    match terminals::id_of_sn(conn, &scope, sn)? {
                        Some(id) => ids.push(id),
                        None => return Ok(Err(sn.clone())),
                    }
                }
                Ok::<_, Problem>(Ok(ids))
            };
            Ok::<_, Problem>((ids(&meant)?, ids(&left_out)?))
        })
        .await?;
    for (field, found, list) in
        [("sns", found.0, &mut new.filter.terminal_ids), ("without_sns", found.1, &mut new.filter.exclude_terminal_ids)]
    {
        match found {
            Ok(ids) => *list = ids,
            Err(sn) => form.refuse_with(field, shell.with("refusal-rollout-sn", "sn", sn)),
        }
    }
    Ok(())
}
