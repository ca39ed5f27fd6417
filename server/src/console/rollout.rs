//! One rollout: the verdict and its evidence, its stages, why terminals wait or failed, and what may be done.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use askama::Template;
use serde::Deserialize;

use super::i18n::grouped;
use super::rollout_acts::{Acts, PartQuestion, Refused};
use super::rollout_progress::{Look, Progress};
use super::rollout_words as words;
use super::rollouts::Chip;
use super::shell::{self, Shell};
use super::status::{Status, Tone};
use crate::http::State;
use crate::http::body::{Path, Query, query_pair};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::page::{Page, PageQuery};
use crate::http::problem::Problem;
use crate::operators::{Caller, Permission};
use crate::rollouts::assignment::Phase;
use crate::rollouts::strategy::{Planned, Strategy};
use crate::rollouts::{self, AssignmentRow, Preview, Rollout};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![Endpoint::get("/rollouts/{id}", Access::Page(Permission::RolloutsRead), "", show)]
}

/// One stage as a draft plans it.
struct PlannedStage {
    label: String,
    up_to: String,
    adds_nobody: bool,
}

struct PreviewView {
    matched: i64,
    exclusions: Vec<(String, i64)>,
    sample: Vec<(String, String)>,
    stages: Vec<PlannedStage>,
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

/// Something that waits for a second person.
struct RequestView {
    kind: String,
    by: String,
    why: String,
    at: String,
    targeted: Option<String>,
    ends: Option<String>,
    is_own: bool,
}

#[derive(Template)]
#[template(path = "rollout.html")]
struct RolloutPage {
    shell: Shell,
    id: i64,
    name: String,
    subject: String,
    scope: String,
    made: String,
    parent: Option<i64>,
    is_live: bool,
    is_draft: bool,
    needs_approval: bool,
    may_write: bool,
    may_approve: bool,
    refused: Option<Refused>,
    request: Option<RequestView>,
    progress: Progress,
    preview: Option<PreviewView>,
    acts: Acts,
    settings: Vec<(String, String)>,
    reasons: Vec<ReasonRow>,
    chips: Vec<Chip>,
    rows: Vec<Row>,
    next: Option<String>,
}

impl RolloutPage {
    /// What was typed as the reason of an action that was refused.
    fn typed(&self, verb: &str) -> &str {
        self.refused.as_ref().filter(|refused| refused.verb == verb).map_or("", |refused| refused.why.as_str())
    }

    /// Whether this action was refused just now.
    fn is_refused(&self, verb: &str) -> bool {
        self.refused.as_ref().is_some_and(|refused| refused.verb == verb)
    }
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct RolloutQuery {
    #[serde(default)]
    phase: Option<String>,
    #[serde(default)]
    after: Option<String>,
    /// A part that may be stopped alone, as `attribute=value`.
    #[serde(default)]
    part: Option<String>,
}

impl RolloutQuery {
    /// The page with a part to stop in view.
    pub(super) fn of_part(part: Option<String>) -> Self {
        Self { part, ..Self::default() }
    }
}

async fn show(
    shell: Shell,
    state: web::Data<State>,
    caller: Caller,
    Path(id): Path<i64>,
    Query(query): Query<RolloutQuery>,
) -> Result<HttpResponse, Problem> {
    page(shell, &state, caller, id, query, None).await
}

/// The page; with what was refused, if anything was just now.
pub(super) async fn page(
    shell: Shell,
    state: &State,
    caller: Caller,
    id: i64,
    query: RolloutQuery,
    refused: Option<Refused>,
) -> Result<HttpResponse, Problem> {
    let asked = PageQuery { after: query.after, size: None };
    let (size, after) = (asked.size()?, asked.after::<i64>()?);
    let phase = query.phase.as_deref().and_then(Phase::parse);
    let may_incidents = shell.may(Permission::IncidentsRead);
    let now = state.clock.now();
    let scope = caller.scope.clone();
    let (look, preview, part, assignments) = state
        .db
        .read(move |conn| {
            let look = Look::at(conn, &scope, id, may_incidents)?;
            let is_planned = matches!(look.detail.rollout.state.as_str(), "draft" | "awaiting_approval");
            let preview = if is_planned { Some(rollouts::preview(conn, &scope, id)?) } else { None };
            let part = PartQuestion::of(conn, &scope, &look.detail, query.part.as_deref())?;
            let assignments = rollouts::assignments(conn, &scope, id, phase, after, size + 1, now)?;
            Ok::<_, Problem>((look, preview, part, assignments))
        })
        .await?;
    let acts = Acts::of(&shell, state, &caller, &look.detail, part).await?;
    let status = refused.as_ref().map_or(StatusCode::OK, |refused| refused.status);
    let needs_approval = preview.as_ref().is_some_and(|preview| preview.count >= state.config.approval_from_terminals);
    let view = Assembled { look, preview, assignments, size, phase, acts, refused, needs_approval };
    shell::page(status, &view.page(shell, &caller))
}

/// Everything that was read for the page.
struct Assembled {
    look: Look,
    preview: Option<Preview>,
    assignments: Vec<AssignmentRow>,
    size: u32,
    phase: Option<Phase>,
    acts: Acts,
    refused: Option<Refused>,
    needs_approval: bool,
}

impl Assembled {
    fn page(self, shell: Shell, caller: &Caller) -> RolloutPage {
        let phase = self.phase;
        let assignments = Page::from_rows(self.assignments, self.size, |row| row.key(phase));
        let progress = Progress::of(&shell, &self.look);
        let detail = self.look.detail;
        let rollout = detail.rollout;
        let id = rollout.id;
        let reasons = detail.reasons.into_iter().map(|row| ReasonRow {
            status: phase_status(&shell, &row.phase, Some(&row.reason)),
            reason: reason(&shell, &row.phase, &row.reason),
            n: row.n,
        });
        let reasons = reasons.collect();
        let next = assignments.next.map(|cursor| {
            let phase = phase.map(|phase| format!("{}&", query_pair("phase", phase.as_str()))).unwrap_or_default();
            format!("/rollouts/{id}?{phase}{}#terminals", query_pair("after", &cursor))
        });
        RolloutPage {
            id,
            subject: words::subject(&shell, &rollout),
            scope: words::scope(&shell, &rollout.filter),
            made: format!("{} · {}", rollout.created_by, shell.moments.absolute(rollout.created_at_ms)),
            parent: rollout.parent_id,
            is_live: matches!(rollout.state.as_str(), "running" | "paused" | "halted"),
            is_draft: rollout.state == "draft",
            needs_approval: self.needs_approval,
            may_write: shell.may(Permission::RolloutsWrite),
            may_approve: shell.may(Permission::RolloutsApprove),
            refused: self.refused,
            request: request(&shell, caller, &rollout),
            progress,
            preview: self.preview.map(|preview| preview_of(&shell, &rollout.strategy, preview)),
            acts: self.acts,
            settings: words::strategy(&shell, &rollout),
            reasons,
            chips: chips(&shell, &rollout, phase),
            rows: assignments.items.into_iter().map(|row| row_of(&shell, &rollout, row)).collect(),
            next,
            name: rollout.name,
            shell,
        }
    }
}

fn request(shell: &Shell, caller: &Caller, rollout: &Rollout) -> Option<RequestView> {
    let request = rollout.request.as_ref()?;
    let is_waiting = rollout.state == "awaiting_approval";
    Some(RequestView {
        kind: shell.word("request", request.kind.as_str()),
        by: request.by.clone(),
        why: request.why.clone(),
        at: shell.moments.absolute(request.at_ms),
        targeted: rollout.targeted.map(|n| shell.count("rollout-matched", &n)),
        ends: rollout
            .deadline_ms
            .filter(|_| is_waiting)
            .map(|at_ms| shell.with("request-ends", "when", shell.moments.absolute(at_ms))),
        is_own: request.by_kind == caller.kind.as_str() && request.by_id == caller.id,
    })
}

fn preview_of(shell: &Shell, strategy: &Strategy, preview: Preview) -> PreviewView {
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    // The reason's name is the one that REST shows.
    let name = |reason| serde_json::to_value(reason).ok().and_then(|name| name.as_str().map(str::to_owned));
    let exclusion =
        |row: rollouts::Excluded| (shell.word("exclusion", &name(row.reason).unwrap_or_default()), count(row.count));
    let mut before = 0;
    let stages = (0..strategy.stage_count()).map(|stage| {
        let label = words::stage(shell, strategy, stage);
        match strategy.plan(stage, preview.count) {
            Planned::Below(_) => PlannedStage { label, up_to: String::new(), adds_nobody: false },
            Planned::UpTo(n) => {
                let adds_nobody = n <= before;
                before = before.max(n);
                PlannedStage { label, up_to: shell.with("stage-up-to", "n", grouped(count(before))), adds_nobody }
            }
        }
    });
    PreviewView {
        matched: count(preview.count),
        stages: stages.collect(),
        exclusions: preview.excluded.into_iter().map(exclusion).collect(),
        sample: preview
            .sample
            .into_iter()
            .map(|terminal| (terminal.sn, format!("{} {}", terminal.model, terminal.firmware.unwrap_or_default())))
            .collect(),
    }
}

/// A terminal that was offered and has a reason puts the update off.
pub(super) fn phase_status(shell: &Shell, phase: &str, reason: Option<&str>) -> Status {
    let shown = if phase == "offered" && reason.is_some() { "deferred" } else { phase };
    Status { tone: Tone::of_phase(shown), word: shell.word("phase", shown) }
}

/// Why an assignment is where it is; of one that ran out of time the phase it was last seen in.
pub(super) fn reason(shell: &Shell, phase: &str, reason: &str) -> String {
    match phase {
        "timed_out" => shell.with("reason-last-seen", "phase", shell.word("phase", reason)),
        "cancelled" => shell.word("withdrawn", reason),
        _ => shell.word("reason", reason),
    }
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

/// What a terminal waits for or why it ended, in a few words; empty while it goes on as it should.
pub(super) fn why_there(shell: &Shell, rollout: &Rollout, row: &AssignmentRow) -> String {
    let reason = row.reason.as_deref().map(|name| reason(shell, &row.phase, name));
    match (row.phase.as_str(), reason, row.last_seen_ms) {
        ("waiting", _, _) => words::waiting(shell, rollout, row),
        (_, Some(reason), _) => match &row.detail {
            Some(detail) => format!("{reason} — {detail}"),
            None => reason,
        },
        ("offered", None, _) if rollout.state == "paused" => shell.say("waiting-paused"),
        ("offered", None, Some(seen)) if seen < row.phase_since_ms => shell.say("waiting-check-in"),
        ("offered", None, None) => shell.say("waiting-check-in"),
        ("offered", None, Some(_)) => shell.say("waiting-download"),
        ("downloading", None, _) => shell.language.with_two(
            "waiting-bytes",
            ("done", &mebibytes(row.bytes_done)),
            ("total", &mebibytes(row.bytes_total)),
        ),
        _ => String::new(),
    }
}

fn row_of(shell: &Shell, rollout: &Rollout, row: AssignmentRow) -> Row {
    let is_live = row.finished_at_ms.is_none();
    let expected = match row.next_check_in_ms.filter(|_| is_live) {
        Some(next) if next < shell.moments.now().0 => shell.with("waiting-overdue", "ago", shell.moments.ago(next)),
        Some(next) => shell.moments.ahead(next),
        None => "–".to_owned(),
    };
    Row {
        status: phase_status(shell, &row.phase, row.reason.as_deref()),
        why: why_there(shell, rollout, &row),
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
