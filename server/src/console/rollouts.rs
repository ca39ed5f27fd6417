//! Rollouts: the list, and a new draft.

use actix_web::{HttpResponse, web};
use askama::Template;
use serde::Deserialize;

use super::chart::{Part, Svg, percent, stacked_bar};
use super::form::Form;
use super::organizations::{self, Choice};
use super::shell::{self, Shell};
use super::status::{Status, Tone};
use crate::http::State;
use crate::http::auth::Acting;
use crate::http::body::{Query, query_pair};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::page::{Page, PageQuery};
use crate::http::problem::Problem;
use crate::operators::{Caller, Permission};
use crate::releases::{self, ReleaseState};
use crate::rollouts::assignment::Phase;
use crate::rollouts::filter::Filter;
use crate::rollouts::{self, NewRollout, Rollout, state};
use crate::terminals;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/rollouts", Access::Page(Permission::RolloutsRead), "", list),
        Endpoint::post("/rollouts", Access::Page(Permission::RolloutsWrite), "", create),
    ]
}

/// Releases that the form offers: the newest ones.
const RELEASES_OFFERED: u32 = 50;

/// A link that narrows the list.
pub(super) struct Chip {
    pub(super) href: String,
    pub(super) word: String,
    pub(super) is_current: bool,
}

/// One rollout as lists and the overview show it.
pub(super) struct Summary {
    pub(super) id: i64,
    pub(super) name: String,
    pub(super) release: String,
    pub(super) status: Status,
    pub(super) bar: Svg,
    pub(super) summary: String,
    pub(super) owner: String,
    pub(super) made: String,
    pub(super) made_at: String,
}

pub(super) fn summary(shell: &Shell, rollout: Rollout) -> Summary {
    let total: i64 = rollout.counts.values().sum();
    let n = |phase: Phase| rollout.counts.get(phase.as_str()).copied().unwrap_or(0);
    let done = n(Phase::Succeeded);
    let failed = n(Phase::Failed) + n(Phase::RolledBack) + n(Phase::TimedOut);
    let share = percent(done, total);
    Summary {
        bar: stacked_bar(&shell.say("rollout-progress"), &parts(shell, &rollout)),
        summary: [
            shell.language.with_two(
                "rollout-done-of",
                ("done", &shell.number(&done)),
                ("total", &shell.number(&total)),
            ),
            share,
            shell.count("rollout-failed-n", &failed),
        ]
        .join(" · "),
        id: rollout.id,
        release: format!("{} {}", rollout.release_name, rollout.release_version),
        status: status(shell, &rollout.state),
        owner: rollout.created_by,
        made: shell.moments.ago(rollout.created_at_ms),
        made_at: shell.moments.absolute(rollout.created_at_ms),
        name: rollout.name,
    }
}

pub(super) fn status(shell: &Shell, state: &str) -> Status {
    Status { tone: Tone::of_rollout(state), word: shell.word("rollout", state) }
}

/// The phases in the order of a bar, with what is done first.
pub(super) fn parts(shell: &Shell, rollout: &Rollout) -> Vec<Part> {
    let class = |phase| match phase {
        Phase::Succeeded => "part-good",
        Phase::Trial | Phase::Rebooting | Phase::Installing => "part-busy",
        Phase::Downloading => "part-busy-2",
        Phase::Offered => "part-1",
        Phase::Waiting => "part-waiting",
        Phase::TimedOut => "part-warning",
        Phase::RolledBack => "part-4",
        Phase::Failed => "part-bad",
        Phase::Cancelled => "part-quiet",
    };
    const ORDER: [Phase; 11] = [
        Phase::Succeeded,
        Phase::Trial,
        Phase::Rebooting,
        Phase::Installing,
        Phase::Downloading,
        Phase::Offered,
        Phase::Waiting,
        Phase::TimedOut,
        Phase::RolledBack,
        Phase::Failed,
        Phase::Cancelled,
    ];
    let part = |phase: Phase| Part {
        class: class(phase),
        name: shell.word("phase", phase.as_str()),
        n: rollout.counts.get(phase.as_str()).copied().unwrap_or(0),
    };
    ORDER.into_iter().map(part).filter(|part| part.n > 0).collect()
}

#[derive(Template)]
#[template(path = "rollouts.html")]
struct RolloutsPage {
    shell: Shell,
    chips: Vec<Chip>,
    rows: Vec<Summary>,
    next: Option<String>,
    may_create: bool,
    releases: Vec<Choice>,
    organizations: Vec<Choice>,
}

#[derive(Debug, Default, Deserialize)]
struct RolloutQuery {
    #[serde(default)]
    state: Option<String>,
    #[serde(default)]
    after: Option<String>,
    /// Chosen in the form for a new one.
    #[serde(default)]
    release: Option<i64>,
}

async fn list(
    shell: Shell,
    state: web::Data<State>,
    caller: Caller,
    Query(query): Query<RolloutQuery>,
) -> Result<HttpResponse, Problem> {
    let page = PageQuery { after: query.after, size: None };
    let (size, before) = (page.size()?, page.after::<i64>()?);
    let chosen = query.state.filter(|name| state::State::NAMES.contains(&name.as_str()));
    let found = state
        .db
        .read({
            let (scope, chosen) = (caller.scope.clone(), chosen.clone());
            move |conn| rollouts::list(conn, &scope, chosen.as_deref(), before, size + 1)
        })
        .await?;
    let page = Page::from_rows(found, size, |rollout| rollout.id);
    let may_create = shell.may(Permission::RolloutsWrite);
    let (releases, organizations) = if may_create {
        let tree = organizations::within(&state, caller.scope.clone()).await?;
        (published(&state, &caller, query.release).await?, organizations::choices(&tree, None))
    } else {
        (Vec::new(), Vec::new())
    };
    let address = |state: &str| format!("/rollouts?{}", query_pair("state", state));
    let all = Chip { href: "/rollouts".to_owned(), word: shell.say("filter-any"), is_current: chosen.is_none() };
    let narrowed = state::State::NAMES.into_iter().map(|name| Chip {
        href: address(name),
        word: shell.word("rollout", name),
        is_current: chosen.as_deref() == Some(name),
    });
    let chips = [all].into_iter().chain(narrowed).collect();
    let next = page.next.map(|cursor| {
        let state = chosen.as_deref().map(|name| format!("{}&", query_pair("state", name))).unwrap_or_default();
        format!("/rollouts?{state}{}", query_pair("after", &cursor))
    });
    let rows = page.items.into_iter().map(|rollout| summary(&shell, rollout)).collect();
    shell::ok(&RolloutsPage { chips, rows, next, may_create, releases, organizations, shell })
}

async fn published(state: &State, caller: &Caller, chosen: Option<i64>) -> Result<Vec<Choice>, Problem> {
    let filter = releases::Filter { state: Some(ReleaseState::Published), ..releases::Filter::default() };
    let found = releases::list(&state.db, caller.scope.clone(), filter, None, RELEASES_OFFERED).await?;
    let choice = |release: releases::Release| Choice {
        value: release.id.to_string(),
        word: format!(
            "{} · {} {} · {}",
            release.name,
            release.component,
            release.firmware_version,
            release.models.join(" ")
        ),
        is_chosen: chosen == Some(release.id),
    };
    Ok(found.into_iter().map(choice).collect())
}

/// A new rollout as the form sends it; several names of one kind are set apart by blanks or commas.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Draft {
    release_id: i64,
    name: String,
    #[serde(default)]
    organization_id: Option<i64>,
    #[serde(default)]
    model: String,
    #[serde(default)]
    firmware: String,
    #[serde(default)]
    tag: String,
    #[serde(default)]
    sns: String,
}

async fn create(state: web::Data<State>, acting: Acting, Form(draft): Form<Draft>) -> Result<HttpResponse, Problem> {
    let Acting { caller, actor } = acting;
    let now = state.clock.now();
    let id = state
        .db
        .write(move |conn| {
            let mut terminal_ids = Vec::new();
            for sn in names(&draft.sns) {
                match terminals::id_of_sn(conn, &caller.scope, &sn)? {
                    Some(id) => terminal_ids.push(id),
                    None => return Err(Problem::invalid("sns", format!("{sn} is not one of your terminals"))),
                }
            }
            let filter = Filter {
                organization_id: draft.organization_id,
                models: names(&draft.model),
                firmware: names(&draft.firmware),
                tags: names(&draft.tag),
                terminal_ids,
                ..Filter::default()
            };
            let release_id = Some(draft.release_id);
            let new = NewRollout { name: draft.name, release_id, filter, ..NewRollout::default() };
            Ok(rollouts::create(conn, &caller, new, &actor, now)?)
        })
        .await?;
    Ok(shell::see_other(&format!("/rollouts/{id}?done=draft")))
}

/// The names in a text, as people paste them: set apart by blanks, commas, `、` or lines, each once, in their order.
pub(super) fn names(text: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for name in text.split(|c: char| c.is_whitespace() || matches!(c, ',' | '，' | '、' | ';' | '；')) {
        if !name.is_empty() && !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pasted_list_is_read_however_it_is_set_apart() {
        assert_eq!(names("SN1、SN2, SN3\nSN2；SN4  "), ["SN1", "SN2", "SN3", "SN4"]);
        assert_eq!(names(" \n"), Vec::<String>::new());
    }
}
