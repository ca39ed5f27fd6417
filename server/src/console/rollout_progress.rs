//! The part of a rollout's page that moves: where its stages stand, why it was halted.

use askama::Template;

use super::chart::{Part, Svg, stacked_bar};
use super::i18n::grouped;
use super::rollout_evidence::{self, EvidenceView};
use super::rollout_words as words;
use super::rollouts as list;
use super::shell::Shell;
use super::status::{Status, Tone};
use crate::db::Conn;
use crate::failures::incidents;
use crate::http::problem::Problem;
use crate::operators::Scope;
use crate::rollouts::{self, Rollout, RolloutDetail, StageView};

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
