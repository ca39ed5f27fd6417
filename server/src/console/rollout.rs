//! One rollout: the verdict and its evidence, its stages, why terminals wait or failed, and what may be done.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use askama::Template;
use serde::Deserialize;

use super::chart::{Part, Svg, stacked_bar};
use super::i18n::grouped;
use super::rollout_acts::{Acts, PartQuestion, Refused};
use super::rollout_evidence::{self, EvidenceView};
use super::rollout_words as words;
use super::rollouts::{self as list, Chip};
use super::shell::{self, Shell};
use super::status::{Status, Tone};
use crate::db::Conn;
use crate::failures::incidents;
use crate::http::State;
use crate::http::body::{Path, Query, query_pair};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::page::{Page, PageQuery};
use crate::http::problem::Problem;
use crate::operators::{Caller, Permission, Scope};
use crate::rollouts::assignment::Phase;
use crate::rollouts::strategy::{Planned, Strategy};
use crate::rollouts::{self, AssignmentRow, Preview, Rollout, RolloutDetail, StageView};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![Endpoint::get("/rollouts/{id}", Access::Page(Permission::RolloutsRead), "", show)]
}

/// Phases of terminals that an end or a halt cannot stop any more.
const INSTALLING: [&str; 3] = ["installing", "rebooting", "trial"];

/// What a page and its stream of events are made from.
pub(super) struct Look {
    pub(super) detail: RolloutDetail,
    /// The newest incident about it, where the reader may see incidents.
    incident: Option<i64>,
}

impl Look {
    /// # Errors
    /// 404, also out of the scope; 503 or 500 when the database fails.
    pub(super) fn at(conn: &mut Conn, scope: &Scope, id: i64, may_incidents: bool) -> Result<Self, Problem> {
        let detail = rollouts::get(conn, scope, id)?;
        let may_be = may_incidents && (detail.rollout.state == "halted" || !detail.stops.is_empty());
        let incident = if may_be {
            let about = incidents::Filter { rollout_id: Some(id), ..incidents::Filter::default() };
            incidents::list(conn, scope, &about, None, 1)?.first().map(|incident| incident.id)
        } else {
            None
        };
        Ok(Self { detail, incident })
    }
}

/// One stage of a rollout that was started.
struct StageRow {
    label: String,
    status: Status,
    is_current: bool,
    is_hold_back: bool,
    up_to: String,
    bar: Svg,
    numbers: Vec<(String, String)>,
    soak: Option<String>,
}

/// Why nothing is offered any more.
struct Halt {
    by: String,
    at: String,
    in_flight: String,
    incident: Option<i64>,
}

/// A part that was stopped alone.
struct StopRow {
    part: String,
    why: String,
    by: String,
    at: String,
}

/// The part of the page that moves; also what the stream of events carries.
#[derive(Template)]
#[template(path = "rollout_progress.html")]
pub(super) struct Progress {
    shell: Shell,
    status: Status,
    why: String,
    summary: String,
    bar: Svg,
    parts: Vec<Part>,
    halt: Option<Halt>,
    evidence: Option<EvidenceView>,
    stages: Vec<StageRow>,
    stops: Vec<StopRow>,
}

impl Progress {
    pub(super) fn of(shell: &Shell, look: &Look) -> Self {
        let RolloutDetail { rollout, evidence, stops, .. } = &look.detail;
        let parts = list::parts(shell, rollout);
        let is_halted = rollout.state == "halted";
        let halt = is_halted.then(|| halt(shell, look));
        let stops = stops.iter().map(|stop| StopRow {
            part: super::conditions::attribute(shell, &stop.attribute, &stop.value),
            // The gate's own words are the evidence above, in digits.
            why: if stop.why.starts_with(rollouts::BY_GATE) { shell.say("stopped-by-gate") } else { stop.why.clone() },
            by: stop.by.clone(),
            at: shell.moments.absolute(stop.at_ms),
        });
        let is_started = rollout.started_at_ms.is_some();
        Self {
            status: list::status(shell, &rollout.state),
            why: if is_halted { String::new() } else { why(shell, &rollout.why) },
            summary: list::summary(shell, rollout.clone()).summary,
            bar: stacked_bar(&shell.say("rollout-progress"), &parts),
            parts,
            halt,
            evidence: evidence.as_ref().filter(|_| is_started).map(|found| rollout_evidence::view(shell, found)),
            stages: if is_started && rollout.stages > 1 { stages(shell, &look.detail) } else { Vec::new() },
            stops: stops.collect(),
            shell: shell.clone(),
        }
    }
}

impl askama::filters::HtmlSafe for Progress {}

/// A person's reason as it was typed; the server's own in the reader's language.
fn why(shell: &Shell, why: &str) -> String {
    match why.strip_prefix("revised as ") {
        Some(id) => shell.with("why-revised", "id", id),
        None if why == rollouts::state::WHY_EXPIRED => shell.say("why-expired"),
        None => why.to_owned(),
    }
}

fn halt(shell: &Shell, look: &Look) -> Halt {
    let RolloutDetail { rollout, evidence, .. } = &look.detail;
    let n: i64 = INSTALLING.iter().filter_map(|phase| rollout.counts.get(*phase)).sum();
    Halt {
        by: match (evidence, rollout.why.strip_prefix(rollouts::BY_GATE)) {
            (_, Some(rollouts::UNREADABLE)) => shell.say("halted-unreadable"),
            (Some(evidence), Some(_)) => rollout_evidence::halted_by(shell, evidence),
            (_, None) if rollout.why == rollouts::WHY_UNPUBLISHED => shell.say("halted-unpublished"),
            _ => rollout.why.clone(),
        },
        at: shell.moments.absolute(rollout.state_since_ms),
        in_flight: shell.count("halted-in-flight", &n),
        incident: look.incident,
    }
}

fn stages(shell: &Shell, detail: &RolloutDetail) -> Vec<StageRow> {
    let rollout = &detail.rollout;
    let mut before = 0;
    detail
        .stage_views
        .iter()
        .map(|view| {
            let planned = view.up_to.map(|up_to| i64::try_from(up_to).unwrap_or(i64::MAX));
            let adds = planned.map(|up_to| (up_to - before).max(0));
            before = planned.unwrap_or(before).max(before);
            let up_to = planned.map(|_| before);
            stage_row(shell, rollout, view, (adds, up_to))
        })
        .collect()
}

/// `adds` is how many terminals it is to take in, `up_to` how many are in then; unknown for those that a tag names.
fn stage_row(
    shell: &Shell,
    rollout: &Rollout,
    view: &StageView,
    (adds, up_to): (Option<i64>, Option<i64>),
) -> StageRow {
    let stage = i64::from(view.stage);
    let is_over = matches!(rollout.state.as_str(), "succeeded" | "cancelled" | "halted");
    let is_current = stage == rollout.stage && rollout.state != "succeeded";
    let (tone, word) = if stage > rollout.stage {
        (Tone::Quiet, "closed")
    } else if !is_current {
        (Tone::Good, "passed")
    } else if is_over {
        (Tone::Bad, "stopped")
    } else {
        (Tone::Busy, "open")
    };
    let busy = (view.started - view.finished).max(0);
    let good = (view.finished - view.failed).max(0);
    let rest = (adds.unwrap_or(0) - view.started - view.waiting).max(0);
    let part = |class, key: &str, n| Part { class, name: shell.say(key), n };
    let parts = [
        part("part-good", "stage-succeeded", good),
        part("part-bad", "stage-failed", view.failed),
        part("part-busy", "stage-busy", busy),
        part("part-waiting", "stage-waiting", view.waiting),
        part("part-none", "stage-not-open", rest),
    ];
    let numbers = [
        ("stage-planned", adds),
        ("stage-waiting", Some(view.waiting)),
        ("stage-started", Some(view.started)),
        ("stage-finished", Some(view.finished)),
        ("stage-failed", Some(view.failed)),
    ];
    let label = words::stage(shell, &rollout.strategy, view.stage);
    let count = |n: i64| u64::try_from(n).unwrap_or(0);
    let failed = rollout_evidence::rate(shell, count(view.failed), count(view.started));
    let mut numbers: Vec<(String, String)> =
        numbers.into_iter().filter_map(|(key, n)| Some((shell.say(key), grouped(n?)))).collect();
    if let Some((_, last)) = numbers.last_mut().filter(|_| view.failed > 0 && !failed.is_empty()) {
        *last = format!("{last} · {failed}");
    }
    StageRow {
        bar: stacked_bar(&label, &parts),
        status: Status { tone, word: shell.word("stage-state", word) },
        is_current,
        is_hold_back: view.is_hold_back,
        up_to: up_to.map_or_else(String::new, |up_to| shell.with("stage-up-to", "n", grouped(up_to))),
        numbers,
        soak: (is_current && !is_over).then(|| soak(shell, rollout)).flatten(),
        label,
    }
}

fn soak(shell: &Shell, rollout: &Rollout) -> Option<String> {
    let until_ms = rollout.soak_until_ms.filter(|_| rollout.strategy.soak_s > 0)?;
    Some(if until_ms > shell.moments.now().0 {
        shell.language.with_two(
            "soak-until",
            ("when", &shell.moments.short(until_ms)),
            ("left", &shell.moments.ahead(until_ms)),
        )
    } else {
        shell.say("soak-over")
    })
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
