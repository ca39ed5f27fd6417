//! Rollouts: the list, and the updates that organizations were told of.

use actix_web::{HttpResponse, web};
use askama::Template;
use serde::Deserialize;

use super::chart::{Part, Svg, percent, stacked_bar};
use super::shell::{self, Shell};
use super::status::{Status, Tone};
use super::{organizations, rollout_evidence, rollout_words};
use crate::db::Conn;
use crate::http::State;
use crate::http::body::{Query, query_pair};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::page::{Page, PageQuery};
use crate::http::problem::Problem;
use crate::operators::{Caller, Permission, Scope};
use crate::organizations::Organization;
use crate::rollouts::assignment::Phase;
use crate::rollouts::{self, Announced, ListFilter, Rollout, state};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/rollouts", Access::Page(Permission::RolloutsRead), "", list),
        Endpoint::get("/rollouts/announced", Access::Page(Permission::RolloutsRead), "", announced),
    ]
}

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
    /// Stage, verdict, who is asked: what a row says beside its state.
    pub(super) notes: Vec<Status>,
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
        summary: if total == 0 {
            shell.say("rollout-not-started")
        } else {
            [
                shell.language.with_two(
                    "rollout-done-of",
                    ("done", &shell.number(&done)),
                    ("total", &shell.number(&total)),
                ),
                share,
                shell.count("rollout-failed-n", &failed),
            ]
            .join(" · ")
        },
        id: rollout.id,
        release: rollout_words::subject(shell, &rollout),
        notes: notes(shell, &rollout),
        status: status(shell, &rollout.state),
        owner: rollout.created_by,
        made: shell.moments.ago(rollout.created_at_ms),
        made_at: shell.moments.absolute(rollout.created_at_ms),
        name: rollout.name,
    }
}

fn notes(shell: &Shell, rollout: &Rollout) -> Vec<Status> {
    let mut notes = Vec::new();
    let is_moving = matches!(rollout.state.as_str(), "running" | "paused" | "halted");
    if let Some(verdict) = rollout.verdict.as_deref().filter(|_| is_moving) {
        notes.push(Status { tone: rollout_evidence::tone(verdict), word: shell.word("verdict", verdict) });
    }
    if is_moving && rollout.stages > 1 {
        let (at, of) = ((rollout.stage + 1).to_string(), rollout.stages.to_string());
        let word = shell.language.with_two("rollout-stage-of", ("stage", &at), ("stages", &of));
        notes.push(Status { tone: Tone::Quiet, word });
    }
    if let Some(request) = rollout.request.as_ref().filter(|_| rollout.state != "awaiting_approval") {
        let word = shell.word("request", request.kind.as_str());
        notes.push(Status { tone: Tone::Warning, word });
    }
    notes
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
    announced: i64,
}

#[derive(Debug, Default, Deserialize)]
struct RolloutQuery {
    #[serde(default)]
    state: Option<String>,
    #[serde(default)]
    after: Option<String>,
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
    let (found, announced) = state
        .db
        .read({
            let (scope, filter) = (caller.scope.clone(), ListFilter::in_state(chosen.as_deref()));
            move |conn| {
                let announced = rollouts::announcements(conn, &scope)?.len();
                Ok::<_, Problem>((rollouts::list(conn, &scope, &filter, before, size + 1)?, announced))
            }
        })
        .await?;
    let page = Page::from_rows(found, size, |rollout| rollout.id);
    let may_create = shell.may(Permission::RolloutsWrite);
    let announced = i64::try_from(announced).unwrap_or(i64::MAX);
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
    shell::ok(&RolloutsPage { chips, rows, next, may_create, announced, shell })
}

/// One update that an organization was told of.
pub(super) struct Told {
    pub(super) rollout_id: i64,
    pub(super) name: String,
    pub(super) what: String,
    pub(super) organization: String,
    pub(super) at: String,
    pub(super) ahead: String,
    /// Whether the reader may open the rollout.
    pub(super) is_own: bool,
}

/// Updates that are due on one day.
pub(super) struct Day {
    pub(super) date: String,
    pub(super) weekday: String,
    pub(super) told: Vec<Told>,
}

/// The announced updates by day, the earliest first.
pub(super) fn days(shell: &Shell, announced: Vec<Announced>, own: &[i64], tree: &[Organization]) -> Vec<Day> {
    let mut days: Vec<Day> = Vec::new();
    for one in announced {
        let date = shell.moments.day(one.not_before_ms);
        let organization = tree.iter().find(|organization| organization.id == one.organization_id);
        let told = Told {
            rollout_id: one.rollout_id,
            is_own: own.contains(&one.rollout_id),
            name: one.name,
            what: format!("{} {}", one.release_name, one.release_version),
            organization: organization.map_or_else(|| shell.say("told-above"), |found| found.name.clone()),
            at: shell.moments.hour_and_minute(one.not_before_ms),
            ahead: shell.moments.ahead(one.not_before_ms),
        };
        match days.last_mut().filter(|day| day.date == date) {
            Some(day) => day.told.push(told),
            None => {
                let weekday = shell.word("weekday", &shell.moments.weekday(one.not_before_ms));
                days.push(Day { date, weekday, told: vec![told] });
            }
        }
    }
    days
}

/// What the caller was told of, with the numbers of the rollouts that it may open.
pub(super) fn announced_to(conn: &mut Conn, scope: &Scope) -> Result<(Vec<Announced>, Vec<i64>), Problem> {
    let announced = rollouts::announcements(conn, scope)?;
    let mut own = Vec::new();
    for one in &announced {
        if !own.contains(&one.rollout_id) && rollouts::is_known(conn, scope, one.rollout_id)? {
            own.push(one.rollout_id);
        }
    }
    Ok((announced, own))
}

#[derive(Template)]
#[template(path = "announced.html")]
struct AnnouncedPage {
    shell: Shell,
    days: Vec<Day>,
}

async fn announced(shell: Shell, state: web::Data<State>, caller: Caller) -> Result<HttpResponse, Problem> {
    let scope = caller.scope.clone();
    let (announced, own) = state.db.read(move |conn| announced_to(conn, &scope)).await?;
    let tree = organizations::within(&state, caller.scope).await?;
    shell::ok(&AnnouncedPage { days: days(&shell, announced, &own, &tree), shell })
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
