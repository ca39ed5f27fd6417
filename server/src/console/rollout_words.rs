//! Rollouts in words: scope, strategy, stages, what a terminal waits for, and why something was refused.

use super::i18n::grouped;
use super::refusals;
use super::shell::Shell;
use crate::profiles::LayerKey;
use crate::rollouts::filter::Filter;
use crate::rollouts::strategy::{Stage, Strategy, Wait};
use crate::rollouts::{AssignmentRow, Error, Rollout};

/// Marks a literal as the key of a text.
fn key(key: &'static str) -> &'static str {
    key
}

/// What it brings: name and version, for a profile with its layer.
pub(super) fn subject(shell: &Shell, rollout: &Rollout) -> String {
    let named = format!("{} {}", rollout.release_name, rollout.release_version);
    match &rollout.layer {
        None => named,
        Some(layer) => format!("{} · {named} · {}", shell.say("rollout-profile"), layer_word(shell, layer)),
    }
}

/// The layer of a profile.
fn layer_word(shell: &Shell, layer: &LayerKey) -> String {
    let word = shell.word("layer", layer.kind());
    match layer {
        LayerKey::Global | LayerKey::Terminal => word,
        LayerKey::Organization { organization_id } => format!("{word} {organization_id}"),
        LayerKey::Group { organization_id, tag } => format!("{word} {organization_id} {tag}"),
    }
}

/// Which terminals.
pub(super) fn scope(shell: &Shell, filter: &Filter) -> String {
    let mut parts = Vec::new();
    if let Some(id) = filter.organization_id {
        parts.push(format!("{} {id}", shell.say("terminal-organization")));
    }
    for (name, names) in [
        (key("terminal-model"), &filter.models),
        (key("rollout-from-versions"), &filter.firmware),
        (key("terminal-tags"), &filter.tags),
        (key("rollout-without-tags"), &filter.exclude_tags),
    ] {
        if !names.is_empty() {
            parts.push(format!("{} {}", shell.say(name), names.join(" ")));
        }
    }
    let n = |ids: &[i64]| i64::try_from(ids.len()).unwrap_or(i64::MAX);
    if !filter.terminal_ids.is_empty() {
        parts.push(shell.count("rollout-selected", &n(&filter.terminal_ids)));
    }
    if !filter.exclude_terminal_ids.is_empty() {
        parts.push(shell.count("rollout-blocked", &n(&filter.exclude_terminal_ids)));
    }
    if let Some(of) = &filter.of_rollout {
        let phases: Vec<String> = of.phases.iter().map(|phase| shell.word("phase", phase)).collect();
        parts.push(shell.language.with_two(
            "rollout-of-rollout",
            ("id", &of.rollout_id.to_string()),
            ("phases", &phases.join(" / ")),
        ));
    }
    if parts.is_empty() { shell.say("rollout-scope-all") } else { parts.join(" · ") }
}

/// A span of time in the largest unit that divides it.
pub(super) fn span(shell: &Shell, seconds: i64) -> String {
    let (value, unit) = split_span(seconds);
    format!("{} {}", grouped(value), shell.word("span-unit", unit))
}

/// A span of seconds as a whole number of the largest unit.
pub(super) fn split_span(seconds: i64) -> (i64, &'static str) {
    let units = [(86_400, "d"), (3_600, "h"), (60, "m")];
    let unit = units.into_iter().find(|(length, _)| seconds >= *length && seconds % length == 0);
    unit.map_or((seconds, "s"), |(length, name)| (seconds / length, name))
}

/// Seconds of a unit's name.
pub(super) fn seconds_of_unit(unit: &str) -> Option<u32> {
    [("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400)]
        .into_iter()
        .find(|(name, _)| *name == unit)
        .map(|(_, length)| length)
}

/// A budget of 1/10,000 as per cent, without needless zeros.
pub(super) fn budget(bp: u32) -> String {
    match (bp / 100, bp % 100) {
        (whole, 0) => whole.to_string(),
        (whole, rest) if rest % 10 == 0 => format!("{whole}.{}", rest / 10),
        (whole, rest) => format!("{whole}.{rest:02}"),
    }
}

/// What a stage takes in, in a few words.
pub(super) fn stage(shell: &Shell, strategy: &Strategy, stage: u32) -> String {
    let named = usize::try_from(stage).ok().and_then(|at| strategy.stages.get(at));
    match named {
        Some(Stage::Tag(tag)) => shell.with("stage-by-tag", "tag", tag),
        Some(Stage::Count(n)) => shell.count("stage-by-count", &i64::from(*n)),
        Some(Stage::Percent(n)) => format!("{n}%"),
        None if strategy.is_hold_back(stage) => shell.with("stage-held-back", "percent", strategy.hold_back_percent),
        None => shell.say("stage-rest"),
    }
}

/// How it goes about it, one line a setting.
pub(super) fn strategy(shell: &Shell, rollout: &Rollout) -> Vec<(String, String)> {
    let strategy = &rollout.strategy;
    let stages: Vec<String> = (0..strategy.stage_count()).map(|at| stage(shell, strategy, at)).collect();
    let many = |limit: u32| grouped(i64::from(limit));
    let method = if strategy.is_dynamic { shell.say("method-dynamic") } else { shell.say("method-static") };
    let mut lines = vec![
        (key("form-stages"), Some(stages.join(" → "))),
        (key("form-method"), Some(method)),
        (key("form-starts"), rollout.starts_at_ms.map(|at_ms| shell.moments.absolute(at_ms))),
        (key("form-ends"), rollout.ends_at_ms.map(|at_ms| shell.moments.absolute(at_ms))),
        (key("form-soak"), (strategy.soak_s > 0).then(|| span(shell, i64::from(strategy.soak_s)))),
        (key("form-windows"), windows(shell, strategy)),
        (key("form-in-flight"), strategy.in_flight_max.map(many)),
        (key("form-in-flight-site"), strategy.in_flight_per_site_max.map(many)),
        (key("form-network"), strategy.wifi_only.then(|| shell.say("form-wifi-only"))),
        (key("form-timeout"), Some(span(shell, rollout.assignment_timeout_s))),
        (key("form-retries"), retries(shell, rollout)),
        (key("form-priority"), (rollout.priority > 0).then(|| rollout.priority.to_string())),
        (key("form-budget"), Some(format!("{}%", budget(strategy.gate.outcome_budget_bp)))),
        (key("form-watch"), Some(span(shell, i64::from(strategy.gate.watch_s)))),
    ];
    let opens = if strategy.gate.opens_stages { shell.say("opens-by-itself") } else { shell.say("opens-by-hand") };
    lines.push((key("form-next-stage"), (strategy.stage_count() > 1).then_some(opens)));
    let announced = i64::try_from(strategy.announcements.len()).unwrap_or(i64::MAX);
    lines.push((key("form-announcements"), (announced > 0).then(|| shell.count("announced-n", &announced))));
    lines.into_iter().filter_map(|(name, value)| Some((shell.say(name), value?))).collect()
}

fn retries(shell: &Shell, rollout: &Rollout) -> Option<String> {
    (rollout.retry_max > 0).then(|| {
        let wait = span(shell, rollout.retry_wait_s);
        shell.language.with_two("retries-after", ("n", &rollout.retry_max.to_string()), ("wait", &wait))
    })
}

fn windows(shell: &Shell, strategy: &Strategy) -> Option<String> {
    let window = |window: &crate::rollouts::strategy::Window| {
        let days: Vec<String> = window.days.iter().map(|day| shell.word("weekday", &day.to_string())).collect();
        format!("{} {}–{}", days.join(" "), window.from, window.until).trim().to_owned()
    };
    let all: Vec<String> = strategy.windows.iter().map(window).collect();
    (!all.is_empty()).then(|| shell.with("windows-local", "windows", all.join(", ")))
}

/// What a waiting terminal waits for, and until when where that is known.
pub(super) fn waiting(shell: &Shell, rollout: &Rollout, row: &AssignmentRow) -> String {
    let Some(wait) = row.wait else { return shell.word("wait", Wait::Turn.as_str()) };
    let why = match wait {
        // Who stopped it says more than that it is stopped.
        Wait::Stopped => shell.with("wait-stopped-as", "state", shell.word("rollout", &rollout.state)),
        _ => shell.word("wait", wait.as_str()),
    };
    let until_ms = match wait {
        Wait::Scheduled => rollout.starts_at_ms,
        Wait::Window | Wait::Announced | Wait::Retry => row.ready_ms,
        Wait::Stage | Wait::HoldBack | Wait::Site | Wait::Offline | Wait::Capacity | Wait::Stopped | Wait::Turn => None,
    };
    match until_ms.filter(|at_ms| *at_ms > shell.moments.now().0) {
        Some(at_ms) => shell.language.with_two("wait-until", ("why", &why), ("when", &shell.moments.short(at_ms))),
        None => why,
    }
}

/// A refusal in the reader's language.
pub(super) fn refusal(shell: &Shell, error: &Error) -> String {
    if let Error::Field(error) = error {
        return field(shell, &error.field, &error.problem);
    }
    let sentence = error.to_string();
    refusals::translated(shell.language, &sentence).unwrap_or(sentence)
}

/// What a field may hold, in words; the domain's own sentence for one that no form has.
pub(super) fn field(shell: &Shell, path: &str, problem: &str) -> String {
    let name = field_name(path);
    let text = shell.word("rollout-field", name);
    if text != name {
        return text;
    }
    refusals::translated(shell.language, problem).unwrap_or_else(|| problem.to_owned())
}

/// The fields of the form by their paths in the domain. The name is that of the words.
const FIELDS: [(&str, &str); 27] = [
    ("name", "name"),
    ("why", "why"),
    ("release_id", "subject"),
    ("profile_id", "subject"),
    ("layer", "layer"),
    ("filter.organization_id", "organization"),
    ("filter.models", "models"),
    ("filter.firmware", "firmware"),
    ("filter.tags", "tags"),
    ("filter.exclude_tags", "without-tags"),
    ("filter.terminal_ids", "terminals"),
    ("filter.exclude_terminal_ids", "without-terminals"),
    ("strategy.stages", "stages"),
    ("strategy.windows", "windows"),
    ("strategy.hold_back_percent", "hold-back"),
    ("strategy.soak_s", "soak"),
    ("strategy.in_flight_max", "in-flight"),
    ("strategy.in_flight_per_site_max", "in-flight-site"),
    ("strategy.announcements", "announcements"),
    ("strategy.gate.outcome_budget_bp", "budget"),
    ("strategy.gate.watch_s", "watch"),
    ("assignment_timeout_s", "timeout"),
    ("retry_max", "retry-max"),
    ("retry_wait_s", "retry-wait"),
    ("priority", "priority"),
    ("starts_at_ms", "starts"),
    ("ends_at_ms", "ends"),
];

/// Name of the form's field for a path of the domain.
pub(super) fn field_name(path: &str) -> &str {
    let base = path.split('[').next().unwrap_or(path);
    FIELDS.iter().find(|(known, _)| *known == base).map_or(base, |(_, name)| name)
}

/// Names of the fields that have words, for the test of texts.
#[cfg(test)]
pub(super) fn field_names() -> Vec<&'static str> {
    let mut names: Vec<&str> = FIELDS.iter().map(|(_, name)| *name).chain(["confirm"]).collect();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_budgets_take_their_plainest_form() {
        for (seconds, split) in
            [(0, (0, "s")), (30, (30, "s")), (90, (90, "s")), (600, (10, "m")), (86_400, (1, "d")), (5_400, (90, "m"))]
        {
            assert_eq!(split_span(seconds), split, "{seconds}");
            assert_eq!(seconds_of_unit(split.1).map(|unit| i64::from(unit) * split.0), Some(seconds));
        }
        assert_eq!([100, 50, 25, 1, 2_000].map(budget), ["1", "0.5", "0.25", "0.01", "20"]);
    }

    #[test]
    fn a_path_of_the_domain_leads_to_the_forms_field() {
        assert_eq!(field_name("strategy.stages[3]"), "stages");
        assert_eq!(field_name("strategy.windows[0].from"), "windows");
        assert_eq!(field_name("something_new"), "something_new");
    }
}
