//! The overview: how the fleet is, what failed where and on what, and which rollouts move.

use actix_web::{HttpResponse, web};
use askama::Template;
use serde::Deserialize;

use super::chart::{Part, Svg, percent, stacked_bar};
use super::rollouts::{self as rollout_list, Summary};
use super::shell::{self, Shell};
use super::status::{Status, Tone};
use super::{conditions, organizations};
use crate::failures::{self, Explanation};
use crate::http::State;
use crate::http::body::{Query, query_pair};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::problem::Problem;
use crate::operators::{Caller, Permission};
use crate::rollouts::{self, ListFilter};
use crate::terminals::list::{Overview, overview};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![Endpoint::get("/", Access::Page(Permission::TerminalsRead), "", show)]
}

/// Windows of the failures that may be chosen: name and hours. What is normal is learnt from the time before, so a
/// fault that is older than a short window shows only in a longer one.
pub(super) const WINDOWS: [(&str, u32); 3] = [("24h", 24), ("3d", 72), ("7d", 168)];
/// Rollouts shown of each state that somebody may have to act on.
const ROLLOUTS_MAX: u32 = 5;
/// These states, the most urgent first.
const ACTIVE: [&str; 4] = ["halted", "awaiting_approval", "running", "paused"];
/// Announced updates shown.
const TOLD_MAX: usize = 6;
/// Versions with a colour of their own.
const VERSIONS_MAX: usize = 5;
const VERSION_CLASSES: [&str; VERSIONS_MAX] = ["part-1", "part-2", "part-3", "part-4", "part-5"];
/// Outcomes named below the table.
const OUTCOMES_MAX: usize = 8;

struct Tile {
    href: String,
    status: Status,
    n: i64,
    share: Option<String>,
    is_alert: bool,
}

struct Combination {
    parts: Vec<String>,
    failed_of: String,
    rate: String,
    expected: String,
    lift: String,
    lift_range: String,
    coverage: String,
}

struct Version {
    class: &'static str,
    name: String,
    href: Option<String>,
    n: i64,
    share: String,
}

#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage {
    shell: Shell,
    tiles: Vec<Tile>,
    is_empty: bool,
    may_import: bool,
    /// Name of each window, and whether it is the one shown.
    windows: Vec<(&'static str, bool)>,
    failures_summary: String,
    window: &'static str,
    may_explain: bool,
    /// What the window was compared with.
    baseline: String,
    combinations: Vec<Combination>,
    outcomes: Vec<(String, i64)>,
    rollouts: Vec<Summary>,
    days: Vec<rollout_list::Day>,
    may_see_rollouts: bool,
    versions: Vec<Version>,
    versions_bar: Svg,
}

#[derive(Debug, Default, Deserialize)]
struct OverviewQuery {
    #[serde(default)]
    window: Option<String>,
}

async fn show(
    shell: Shell,
    state: web::Data<State>,
    caller: Caller,
    Query(query): Query<OverviewQuery>,
) -> Result<HttpResponse, Problem> {
    let [shortest, ..] = WINDOWS;
    let (window, hours) =
        WINDOWS.into_iter().find(|(name, _)| query.window.as_deref() == Some(*name)).unwrap_or(shortest);
    let now = shell.moments.now();
    let may_see_rollouts = shell.may(Permission::RolloutsRead);
    let scope = caller.scope.clone();
    let (fleet, active, announced, unsuccessful) = state
        .db
        .read(move |conn| {
            let fleet = overview(conn, &scope, now)?;
            let unsuccessful = if may_see_rollouts { rollouts::unsuccessful_terminals(conn, &scope)?.len() } else { 0 };
            let mut active = Vec::new();
            let mut announced = (Vec::new(), Vec::new());
            if may_see_rollouts {
                for name in ACTIVE {
                    active.extend(rollouts::list(conn, &scope, &ListFilter::in_state(Some(name)), None, ROLLOUTS_MAX)?);
                }
                announced = rollout_list::announced_to(conn, &scope)?;
            }
            Ok::<_, Problem>((fleet, active, announced, unsuccessful))
        })
        .await?;
    let (mut told, own) = announced;
    told.truncate(TOLD_MAX);
    let tree = if told.is_empty() { Vec::new() } else { organizations::within(&state, caller.scope.clone()).await? };
    let failed = failures::overview(&state.db, caller.scope, hours, now).await?;
    let versions = versions(&shell, &fleet);
    let parts: Vec<Part> = versions
        .iter()
        .map(|version| Part { class: version.class, name: version.name.clone(), n: version.n })
        .collect();
    let outcomes = failed.outcomes.iter().take(OUTCOMES_MAX);
    shell::ok(&OverviewPage {
        tiles: tiles(&shell, &fleet, may_see_rollouts.then_some(unsuccessful)),
        is_empty: fleet.total == 0,
        may_import: shell.may(Permission::TerminalsWrite),
        failures_summary: shell.language.with_two(
            "overview-failures-summary",
            ("failed", &whole(failed.failures)),
            ("total", &whole(failed.exposures)),
        ),
        windows: WINDOWS.into_iter().map(|(name, _)| (name, name == window)).collect(),
        window,
        may_explain: shell.may(Permission::FailuresRead),
        baseline: baseline(&shell, &failed),
        combinations: failed.explanations.iter().map(|found| combination(&shell, found)).collect(),
        outcomes: outcomes.map(|(name, n)| (conditions::outcome(&shell, name), *n)).collect(),
        days: rollout_list::days(&shell, told, &own, &tree),
        rollouts: active.into_iter().map(|rollout| rollout_list::summary(&shell, rollout)).collect(),
        may_see_rollouts,
        versions_bar: stacked_bar(&shell.say("overview-versions"), &parts),
        versions,
        shell,
    })
}

/// What counts as normal here, so that nobody takes silence for health.
pub(super) fn baseline(shell: &Shell, failed: &failures::Overview) -> String {
    if failed.mode == "contrast" {
        return shell.say("overview-contrast");
    }
    let (from, to) = (shell.moments.minute(failed.baseline_from_ms), shell.moments.minute(failed.baseline_to_ms));
    shell.language.with_two("overview-baseline", ("from", &from), ("to", &to))
}

fn tiles(shell: &Shell, fleet: &Overview, unsuccessful: Option<usize>) -> Vec<Tile> {
    let all = Tile {
        href: "/terminals".to_owned(),
        status: Status { tone: Tone::Quiet, word: shell.say("overview-all") },
        n: fleet.total,
        share: None,
        is_alert: false,
    };
    let connections = fleet.connections.iter().map(|count| Tile {
        href: format!("/terminals?{}", query_pair("connection", &count.value)),
        status: Status {
            tone: calm(Tone::of_connection(&count.value), count.terminals),
            word: shell.word("connection", &count.value),
        },
        n: count.terminals,
        share: Some(percent(count.terminals, fleet.total)),
        is_alert: false,
    });
    let mut tiles: Vec<Tile> = [all].into_iter().chain(connections).collect();
    if let Some(n) = unsuccessful {
        let n = i64::try_from(n).unwrap_or(i64::MAX);
        tiles.push(Tile {
            href: "/terminals?update=failed".to_owned(),
            status: Status { tone: calm(Tone::Bad, n), word: shell.say("overview-update-failing") },
            n,
            share: Some(percent(n, fleet.total)),
            is_alert: n > 0,
        });
    }
    tiles
}

/// Nothing to see is nothing to colour.
fn calm(tone: Tone, n: i64) -> Tone {
    if n == 0 { Tone::Quiet } else { tone }
}

fn combination(shell: &Shell, found: &Explanation) -> Combination {
    let rate = |failures: f64| if found.exposures > 0.0 { failures * 100.0 / found.exposures } else { 0.0 };
    Combination {
        parts: found.all_of.iter().map(|part| conditions::attribute(shell, &part.attribute, &part.value)).collect(),
        failed_of: format!("{} / {}", whole(found.failures), whole(found.exposures)),
        rate: format!("{:.1}%", rate(found.failures)),
        expected: format!("{:.1}%", rate(found.expected)),
        lift: format!("{:.1}×", found.lift),
        lift_range: shell.language.with_two(
            "overview-lift-range",
            ("low", &format!("{:.1}", found.lift_low)),
            ("high", &format!("{:.1}", found.lift_high)),
        ),
        coverage: found.coverage.map_or_else(|| "–".to_owned(), |share| format!("{:.0}%", share * 100.0)),
    }
}

/// A count that statistics carry as a fraction.
pub(super) fn whole(count: f64) -> String {
    let digits = format!("{count:.0}");
    digits.parse().map_or(digits, super::i18n::grouped)
}

/// The most frequent versions by themselves, all others as one.
fn versions(shell: &Shell, fleet: &Overview) -> Vec<Version> {
    let reported: Vec<_> = fleet.firmwares.iter().filter(|count| !count.value.is_empty()).collect();
    let total: i64 = reported.iter().map(|count| count.terminals).sum();
    let named = reported.iter().zip(VERSION_CLASSES).filter(|(count, _)| count.value != "…");
    let mut versions: Vec<Version> = named
        .map(|(count, class)| Version {
            class,
            href: Some(format!("/terminals?{}", query_pair("firmware", &count.value))),
            name: count.value.clone(),
            n: count.terminals,
            share: percent(count.terminals, total),
        })
        .collect();
    let rest = total - versions.iter().map(|version| version.n).sum::<i64>();
    if rest > 0 {
        versions.push(Version {
            class: "part-6",
            name: shell.say("overview-other-versions"),
            href: None,
            n: rest,
            share: percent(rest, total),
        });
    }
    versions
}
