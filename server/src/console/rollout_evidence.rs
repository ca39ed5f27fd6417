//! What the gate says of a rollout, with the numbers it rests on: verdict first, then how much evidence there is.

use super::chart::Svg;
use super::conditions;
use super::dial::{Dial, Mark, scale};
use super::i18n::grouped;
use super::shell::Shell;
use super::status::Tone;
use crate::rollouts::gate::{Settings, interval};
use crate::rollouts::{ClassEvidence, Evidence, ScopeEvidence};

/// Parts of the fleet that are named; the rest has less evidence than these.
const SCOPES_MAX: usize = 8;
/// Less evidence than this says nothing of a part.
const SCOPE_E_MIN: f64 = 1.5;

pub(super) struct ClassRow {
    pub(super) name: String,
    pub(super) treated: i64,
    pub(super) treated_rate: String,
    pub(super) control: i64,
    pub(super) control_rate: String,
    pub(super) ratio: String,
    pub(super) e: String,
}

pub(super) struct ScopeRow {
    pub(super) name: String,
    pub(super) treated: i64,
    pub(super) control: i64,
    pub(super) e: String,
    pub(super) is_stopped: bool,
}

/// Evidence that clears, of one kind.
pub(super) struct Cleared {
    pub(super) name: String,
    pub(super) of: String,
    pub(super) bar: Svg,
}

pub(super) struct EvidenceView {
    pub(super) tone: &'static str,
    pub(super) verdict: String,
    pub(super) meaning: String,
    pub(super) judged_at: String,
    pub(super) figures: Vec<(String, String)>,
    pub(super) dial: Svg,
    pub(super) words: String,
    pub(super) legend: Vec<(&'static str, String, String)>,
    pub(super) cleared: Vec<Cleared>,
    /// How many more terminals until it is decided, one way or the other.
    pub(super) until: Vec<String>,
    pub(super) missing: Vec<String>,
    pub(super) classes: Vec<ClassRow>,
    pub(super) scopes: Vec<ScopeRow>,
    pub(super) left_out: Vec<(String, i64)>,
}

/// Marks a literal as the key of a text.
fn key(key: &'static str) -> &'static str {
    key
}

/// Evidence as people read it: one digit while it is small, whole numbers after.
pub(super) fn number(e: f64) -> String {
    if !e.is_finite() || e >= 1e9 {
        return "> 10⁹".to_owned();
    }
    let digits = if e < 10.0 { format!("{e:.1}") } else { format!("{e:.0}") };
    let digits = digits.strip_suffix(".0").unwrap_or(&digits).to_owned();
    digits.parse().map_or(digits, grouped)
}

fn whole(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// A share as people read it: no more digits than it has.
pub(super) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    let digits = match percent {
        p if p >= 9.95 => format!("{p:.0}"),
        p if p >= 0.995 => format!("{p:.1}"),
        p => format!("{p:.2}"),
    };
    let digits = if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { &digits };
    format!("{digits}%")
}

/// `k` of `n` as a rate with its interval; empty where there is none to be had.
pub(super) fn rate(shell: &Shell, k: u64, n: u64) -> String {
    let Some((from, to)) = interval(k, n) else { return String::new() };
    let rate = percent(k as f64 / n as f64);
    let bare = |share| percent(share).trim_end_matches('%').to_owned();
    shell.language.with_values("gate-rate", &[("rate", &rate), ("from", &bare(from)), ("to", &percent(to))])
}

/// The tone of a verdict.
pub(super) fn tone(verdict: &str) -> Tone {
    match verdict {
        "pass" => Tone::Good,
        "fail" => Tone::Bad,
        _ => Tone::Quiet,
    }
}

pub(super) fn view(shell: &Shell, evidence: &Evidence) -> EvidenceView {
    let settings = Settings::default();
    let of = |e: f64, most: f64| format!("{} / {}", number(e), number(most));
    let cleared = [(key("gate-outcome"), evidence.p_outcome), (key("gate-health"), evidence.p_health)];
    let cleared = cleared.map(|(name, p)| Cleared {
        name: shell.say(name),
        of: of(p, settings.pass_evidence),
        bar: scale(&shell.say(name), p, settings.pass_evidence),
    });
    EvidenceView {
        tone: tone(&evidence.verdict).class(),
        verdict: shell.word("verdict", &evidence.verdict),
        meaning: shell.word("verdict-meaning", &evidence.verdict),
        judged_at: shell.moments.time(evidence.at_ms),
        figures: [
            (key("gate-started"), evidence.started),
            (key("gate-failed"), evidence.failed),
            (key("gate-pending"), evidence.pending),
            (key("gate-watched"), evidence.watched),
            (key("gate-controls"), evidence.controls),
        ]
        .map(|(name, n)| (shell.say(name), grouped(whole(n))))
        .into_iter()
        .map(|(name, n)| match name == shell.say("gate-failed") {
            true => (name, with_rate(n, rate(shell, evidence.failed, evidence.started))),
            false => (name, n),
        })
        .collect(),
        dial: dial(shell, evidence),
        words: shell.language.with_two(
            "gate-words",
            ("e", &number(evidence.e)),
            ("threshold", &number(evidence.threshold)),
        ),
        legend: vec![
            ("mark-outcome", shell.say("gate-outcome"), number(evidence.e_outcome)),
            ("mark-health", shell.say("gate-health"), number(evidence.e_health)),
            ("mark-scope", shell.say("gate-scopes"), number(most(&evidence.scopes))),
            ("mark-peak", shell.say("gate-peak"), number(evidence.e_max)),
        ],
        cleared: cleared.into(),
        until: if evidence.verdict == "insufficient" { until(shell, evidence) } else { Vec::new() },
        missing: evidence.missing.iter().map(|name| shell.word("missing", name)).collect(),
        classes: evidence.classes.iter().map(|class| class_row(shell, class)).collect(),
        scopes: scope_rows(shell, &evidence.scopes),
        left_out: evidence.left_out.iter().map(|(name, n)| (shell.word("left-out", name), whole(*n))).collect(),
    }
}

fn with_rate(n: String, rate: String) -> String {
    if rate.is_empty() { n } else { format!("{n} · {rate}") }
}

/// What comes first at the rate that was seen: a halt, or else a pass.
fn until(shell: &Shell, evidence: &Evidence) -> Vec<String> {
    let fail = evidence.until_fail.map(|n| shell.count("gate-until-fail", &whole(n)));
    let pass = evidence.until_pass.filter(|n| *n > 0).map(|n| shell.count("gate-until-pass", &whole(n)));
    fail.or(pass).into_iter().collect()
}

fn most(scopes: &[ScopeEvidence]) -> f64 {
    scopes.iter().map(|scope| scope.e).fold(1.0, f64::max)
}

fn class_row(shell: &Shell, class: &ClassEvidence) -> ClassRow {
    let times = |ratio: f64| format!("{ratio:.1}");
    let ratio = match (class.ratio, class.ratio_from, class.ratio_to) {
        (None, Some(from), _) if class.treated > 0 => format!("≥ {}×", times(from)),
        (None, ..) => "–".to_owned(),
        (Some(ratio), Some(from), Some(to)) => format!("{}× ({}–{})", times(ratio), times(from), times(to)),
        (Some(ratio), ..) => format!("{}×", times(ratio)),
    };
    ClassRow {
        name: shell.word("failure-class", &class.class),
        treated: whole(class.treated),
        treated_rate: rate(shell, class.treated, class.treated_at_risk),
        control: whole(class.control),
        control_rate: rate(shell, class.control, class.control_at_risk),
        ratio,
        e: number(class.e),
    }
}

fn scope_rows(shell: &Shell, scopes: &[ScopeEvidence]) -> Vec<ScopeRow> {
    let shown = scopes.iter().filter(|scope| scope.is_stopped || scope.e >= SCOPE_E_MIN).take(SCOPES_MAX);
    let row = |scope: &ScopeEvidence| ScopeRow {
        name: conditions::attribute(shell, &scope.attribute, &scope.value),
        treated: whole(scope.treated),
        control: whole(scope.control),
        e: number(scope.e),
        is_stopped: scope.is_stopped,
    };
    shown.map(row).collect()
}

fn dial(shell: &Shell, evidence: &Evidence) -> Svg {
    let mark = |class: &'static str, name: &str, e: f64| Mark { class, e, text: format!("{name} {}", number(e)) };
    let mut marks = vec![
        mark("mark-outcome", &shell.say("gate-outcome"), evidence.e_outcome),
        mark("mark-health", &shell.say("gate-health"), evidence.e_health),
        mark("mark-peak", &shell.say("gate-peak"), evidence.e_max),
    ];
    let scopes = evidence.scopes.iter().take(SCOPES_MAX);
    marks.extend(scopes.map(|scope| {
        let name = conditions::attribute(shell, &scope.attribute, &scope.value);
        mark("mark-scope", &name, scope.e)
    }));
    // What is no evidence has no mark.
    marks.retain(|mark| mark.e > 1.0);
    Dial {
        e: evidence.e,
        threshold: evidence.threshold,
        tone: tone(&evidence.verdict).class(),
        title: &shell.say("gate-title"),
        description: &shell.say("gate-description"),
        reading: &number(evidence.e),
        below: &format!("/ {}", number(evidence.threshold)),
        marks: &marks,
    }
    .draw()
}

/// Which evidence stopped it, and where it was strongest, in one sentence.
pub(super) fn halted_by(shell: &Shell, evidence: &Evidence) -> String {
    let kind = if evidence.e_outcome >= evidence.e_health { "gate-outcome" } else { "gate-health" };
    let reached = shell.language.with_values(
        "halted-by",
        &[
            ("kind", &shell.say(kind)),
            ("e", &number(evidence.e_max.max(evidence.e))),
            ("threshold", &number(evidence.threshold)),
            ("failed", &grouped(whole(evidence.failed))),
            ("started", &grouped(whole(evidence.started))),
        ],
    );
    let reached = match evidence.classes.iter().max_by(|a, b| a.e.total_cmp(&b.e)) {
        Some(class) if kind == "gate-health" => format!("{reached} {}", compared(shell, class)),
        _ => reached,
    };
    let suspect = Settings::default().scope_suspect_e;
    match evidence.scopes.iter().find(|scope| !scope.is_stopped && scope.e >= suspect) {
        None => reached,
        Some(scope) => {
            let name = conditions::attribute(shell, &scope.attribute, &scope.value);
            let where_ = shell.language.with_two("halted-most", ("scope", &name), ("e", &number(scope.e)));
            format!("{reached} {where_}")
        }
    }
}

/// The two arms of a class, side by side.
fn compared(shell: &Shell, class: &ClassEvidence) -> String {
    let count = |n: u64| grouped(whole(n));
    let share = |k: u64, n: u64| if n == 0 { "–".to_owned() } else { percent(k as f64 / n as f64) };
    shell.language.with_values(
        "halted-health",
        &[
            ("class", &shell.word("failure-class", &class.class)),
            ("treated", &count(class.treated)),
            ("treated_n", &count(class.treated_at_risk)),
            ("treated_rate", &share(class.treated, class.treated_at_risk)),
            ("control", &count(class.control)),
            ("control_n", &count(class.control_at_risk)),
            ("control_rate", &share(class.control, class.control_at_risk)),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_is_written_with_no_more_digits_than_it_has() {
        let written = [1.0, 1.04, 9.26, 12.4, 478.09, 31_415.0, f64::INFINITY].map(number);
        assert_eq!(written, ["1", "1", "9.3", "12", "478", "31,415", "> 10⁹"]);
    }

    #[test]
    fn a_share_is_written_with_no_more_digits_than_it_has() {
        let written = [0.0, 0.000_36, 0.012, 0.09, 0.1234, 1.0].map(percent);
        assert_eq!(written, ["0%", "0.04%", "1.2%", "9%", "12%", "100%"]);
    }
}
