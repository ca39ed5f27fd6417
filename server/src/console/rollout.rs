//! One rollout: its progress while it moves, why terminals wait or failed, and the verbs that its state allows.

use actix_web::{HttpResponse, web};
use askama::Template;
use serde::Deserialize;

use super::chart::{Part, Svg, stacked_bar};
use super::form::Form;
use super::rollouts::{self as list, Chip};
use super::shell::{self, Shell};
use super::sign_in::Nothing;
use super::status::{Status, Tone};
use crate::http::State;
use crate::http::auth::Acting;
use crate::http::body::{Path, Query, query_pair};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::page::{Page, PageQuery};
use crate::http::problem::Problem;
use crate::operators::{Caller, Permission};
use crate::rollouts::assignment::Phase;
use crate::rollouts::filter::Filter;
use crate::rollouts::{self, AssignmentRow, Preview, Rollout};

pub(super) fn endpoints() -> Vec<Endpoint> {
    let read = Access::Page(Permission::RolloutsRead);
    let write = Access::Page(Permission::RolloutsWrite);
    vec![
        Endpoint::get("/rollouts/{id}", read, "", show),
        Endpoint::post("/rollouts/{id}/start", write, "", start),
        Endpoint::post("/rollouts/{id}/pause", write, "", pause),
        Endpoint::post("/rollouts/{id}/resume", write, "", resume),
        Endpoint::post("/rollouts/{id}/cancel", write, "", cancel),
    ]
}

/// The part of the page that moves; also what the stream of events carries.
#[derive(Template)]
#[template(path = "rollout_progress.html")]
pub(super) struct Progress {
    status: Status,
    why: String,
    summary: String,
    bar: Svg,
    parts: Vec<Part>,
}

impl Progress {
    pub(super) fn of(shell: &Shell, rollout: &Rollout) -> Self {
        let parts = list::parts(shell, rollout);
        Self {
            status: list::status(shell, &rollout.state),
            why: rollout.why.clone(),
            summary: list::summary(shell, rollout.clone()).summary,
            bar: stacked_bar(&shell.say("rollout-progress"), &parts),
            parts,
        }
    }
}

impl askama::filters::HtmlSafe for Progress {}

struct PreviewView {
    matched: i64,
    exclusions: Vec<(String, i64)>,
    sample: Vec<String>,
}

struct ReasonRow {
    status: Status,
    reason: String,
    n: i64,
}

struct Row {
    sn: String,
    status: Status,
    why: String,
    from: String,
    since: String,
    since_at: String,
    expected: String,
}

#[derive(Template)]
#[template(path = "rollout.html")]
struct RolloutPage {
    shell: Shell,
    id: i64,
    name: String,
    release: String,
    scope: String,
    made: String,
    is_live: bool,
    may_pause: bool,
    may_resume: bool,
    may_cancel: bool,
    may_start: bool,
    progress: Progress,
    preview: Option<PreviewView>,
    reasons: Vec<ReasonRow>,
    chips: Vec<Chip>,
    rows: Vec<Row>,
    next: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct RolloutQuery {
    #[serde(default)]
    phase: Option<String>,
    #[serde(default)]
    after: Option<String>,
}

async fn show(
    shell: Shell,
    state: web::Data<State>,
    caller: Caller,
    Path(id): Path<i64>,
    Query(query): Query<RolloutQuery>,
) -> Result<HttpResponse, Problem> {
    let page = PageQuery { after: query.after, size: None };
    let (size, after) = (page.size()?, page.after::<i64>()?);
    let phase = query.phase.as_deref().and_then(Phase::parse);
    let may_write = shell.may(Permission::RolloutsWrite);
    let now = state.clock.now();
    let (detail, preview, assignments) = state
        .db
        .read(move |conn| {
            let scope = &caller.scope;
            let detail = rollouts::get(conn, scope, id)?;
            let is_draft = detail.rollout.state == "draft";
            let preview = if is_draft { Some(rollouts::preview(conn, scope, id)?) } else { None };
            let assignments = rollouts::assignments(conn, scope, id, phase, after, size + 1, now)?;
            Ok::<_, Problem>((detail, preview, assignments))
        })
        .await?;
    let assignments = Page::from_rows(assignments, size, |row| row.key(phase));
    let rollout = detail.rollout;
    let reasons = detail.reasons.into_iter().map(|row| ReasonRow {
        status: phase_status(&shell, &row.phase, Some(&row.reason)),
        reason: shell.word("reason", &row.reason),
        n: row.n,
    });
    let reasons = reasons.collect();
    let is_in = |states: &[&str]| states.contains(&rollout.state.as_str());
    let next = assignments.next.map(|cursor| {
        let phase = phase.map(|phase| format!("{}&", query_pair("phase", phase.as_str()))).unwrap_or_default();
        format!("/rollouts/{id}?{phase}{}#terminals", query_pair("after", &cursor))
    });
    shell::ok(&RolloutPage {
        id,
        release: format!("{} {}", rollout.release_name, rollout.release_version),
        scope: scope_of(&shell, &rollout.filter),
        made: format!("{} · {}", rollout.created_by, shell.moments.absolute(rollout.created_at_ms)),
        is_live: is_in(&["running", "paused"]),
        may_pause: may_write && is_in(&["running"]),
        may_resume: may_write && is_in(&["paused"]),
        may_cancel: may_write && is_in(&["draft", "awaiting_approval", "running", "paused", "halted"]),
        may_start: may_write && is_in(&["draft"]),
        progress: Progress::of(&shell, &rollout),
        preview: preview.map(|preview| preview_of(&shell, preview)),
        reasons,
        chips: chips(&shell, &rollout, phase),
        rows: assignments.items.into_iter().map(|row| row_of(&shell, &rollout, row)).collect(),
        next,
        name: rollout.name,
        shell,
    })
}

/// Which terminals, in words.
fn scope_of(shell: &Shell, filter: &Filter) -> String {
    let mut parts = Vec::new();
    if let Some(id) = filter.organization_id {
        parts.push(format!("{} {id}", shell.say("terminal-organization")));
    }
    for (key, names) in [
        ("terminal-model", &filter.models),
        ("rollout-from-versions", &filter.firmware),
        ("terminal-tags", &filter.tags),
    ] {
        if !names.is_empty() {
            parts.push(format!("{} {}", shell.say(key), names.join(" ")));
        }
    }
    if !filter.terminal_ids.is_empty() {
        parts.push(shell.count("rollout-selected", &i64::try_from(filter.terminal_ids.len()).unwrap_or(i64::MAX)));
    }
    if parts.is_empty() { shell.say("rollout-scope-all") } else { parts.join(" · ") }
}

fn preview_of(shell: &Shell, preview: Preview) -> PreviewView {
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    // The reason's name is the one that REST shows.
    let name = |reason| serde_json::to_value(reason).ok().and_then(|name| name.as_str().map(str::to_owned));
    let exclusion =
        |row: rollouts::Excluded| (shell.word("exclusion", &name(row.reason).unwrap_or_default()), count(row.count));
    PreviewView {
        matched: count(preview.count),
        exclusions: preview.excluded.into_iter().map(exclusion).collect(),
        sample: preview.sample.into_iter().map(|terminal| terminal.sn).collect(),
    }
}

/// A terminal that was offered and has a reason puts the update off.
pub(super) fn phase_status(shell: &Shell, phase: &str, reason: Option<&str>) -> Status {
    let shown = if phase == "offered" && reason.is_some() { "deferred" } else { phase };
    Status { tone: Tone::of_phase(shown), word: shell.word("phase", shown) }
}

fn chips(shell: &Shell, rollout: &Rollout, chosen: Option<Phase>) -> Vec<Chip> {
    let base = format!("/rollouts/{}", rollout.id);
    let all = Chip { href: format!("{base}#terminals"), word: shell.say("filter-any"), is_current: chosen.is_none() };
    let phases = rollout.counts.iter().filter(|(_, n)| **n > 0).map(|(name, n)| Chip {
        href: format!("{base}?{}#terminals", query_pair("phase", name)),
        word: format!("{} {}", shell.word("phase", name), shell.number(n)),
        is_current: chosen.is_some_and(|phase| phase.as_str() == name),
    });
    [all].into_iter().chain(phases).collect()
}

fn row_of(shell: &Shell, rollout: &Rollout, row: AssignmentRow) -> Row {
    let reason = row.reason.as_deref().map(|reason| shell.word("reason", reason));
    let why = match (row.phase.as_str(), reason, row.last_seen_ms) {
        (_, Some(reason), _) => match &row.detail {
            Some(detail) => format!("{reason} — {detail}"),
            None => reason,
        },
        ("waiting" | "offered", None, _) if rollout.state == "paused" => shell.say("waiting-paused"),
        ("waiting", None, _) => shell.say("waiting-admission"),
        ("offered", None, Some(seen)) if seen < row.phase_since_ms => shell.say("waiting-check-in"),
        ("offered", None, None) => shell.say("waiting-check-in"),
        ("offered", None, Some(_)) => shell.say("waiting-download"),
        ("downloading", None, _) => shell.language.with_two(
            "waiting-bytes",
            ("done", &mebibytes(row.bytes_done)),
            ("total", &mebibytes(row.bytes_total)),
        ),
        _ => String::new(),
    };
    let is_live = row.finished_at_ms.is_none();
    let expected = match row.next_check_in_ms.filter(|_| is_live) {
        Some(next) if next < shell.moments.now().0 => shell.with("waiting-overdue", "ago", shell.moments.ago(next)),
        Some(next) => shell.moments.ahead(next),
        None => "–".to_owned(),
    };
    Row {
        status: phase_status(shell, &row.phase, row.reason.as_deref()),
        why,
        from: row.from_firmware.unwrap_or_default(),
        since: shell.moments.ago(row.phase_since_ms),
        since_at: shell.moments.absolute(row.phase_since_ms),
        expected,
        sn: row.sn,
    }
}

/// `12.5 MiB`.
pub(super) fn mebibytes(bytes: i64) -> String {
    let tenths = bytes.saturating_mul(10) / (1 << 20);
    if tenths == 0 && bytes > 0 {
        format!("{} KiB", (bytes / 1_024).max(1))
    } else {
        format!("{}.{} MiB", tenths / 10, tenths % 10)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Confirmed {
    /// The resolved count as the person typed it, with or without separators.
    count: String,
}

async fn start(
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Form(form): Form<Confirmed>,
) -> Result<HttpResponse, Problem> {
    let digits: String = form.count.chars().filter(|c| !matches!(c, ',' | '，' | ' ')).collect();
    let count: u64 = digits.parse().map_err(|_| Problem::invalid("count", "type the number of terminals"))?;
    let Acting { caller, actor } = acting;
    let from = state.config.approval_from_terminals;
    rollouts::start(&state.db, caller.scope, id, count, from, actor, state.clock.now()).await?;
    Ok(back(id, "started"))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Why {
    why: String,
}

async fn pause(
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Form(Why { why }): Form<Why>,
) -> Result<HttpResponse, Problem> {
    let (Acting { caller, actor }, now) = (acting, state.clock.now());
    state.db.write(move |conn| rollouts::pause(conn, &caller.scope, id, &why, &actor, now)).await?;
    Ok(back(id, "paused"))
}

async fn resume(
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Form(Nothing {}): Form<Nothing>,
) -> Result<HttpResponse, Problem> {
    let (Acting { caller, actor }, now) = (acting, state.clock.now());
    state.db.write(move |conn| rollouts::resume(conn, &caller.scope, id, &actor, now)).await?;
    Ok(back(id, "resumed"))
}

async fn cancel(
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Form(Why { why }): Form<Why>,
) -> Result<HttpResponse, Problem> {
    let (Acting { caller, actor }, now) = (acting, state.clock.now());
    state.db.write(move |conn| rollouts::cancel(conn, &caller.scope, id, &why, &actor, now)).await?;
    Ok(back(id, "cancelled"))
}

fn back(id: i64, done: &str) -> HttpResponse {
    shell::see_other(&format!("/rollouts/{id}?done={done}"))
}
