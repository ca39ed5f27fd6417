//! Why payments fail: the conditions that explain a rise, in sentences that say nothing the numbers do not.

use actix_web::{HttpResponse, web};
use askama::Template;
use serde::Deserialize;
use serde_json::Value;

use super::cause_rollouts::{Mover, movers};
use super::chart::{Part, Svg, stacked_bar};
use super::conditions;
use super::lift_chart::{Pair, pairs};
use super::organizations::{self, Choice};
use super::overview::{WINDOWS, baseline, whole};
use super::shell::{self, Shell};
use crate::failures::{self, Condition, Explanation, Overview, Question};
use crate::http::State;
use crate::http::auth::Acting;
use crate::http::body::{Query, query_pair};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::problem::Problem;
use crate::operators::{Caller, Permission};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/causes", Access::Page(Permission::FailuresRead), "", show),
        Endpoint::get("/failures/cells.csv", Access::Page(Permission::FailuresRead), "", export),
    ]
}

/// An explanation stands beside the first if it covers at least this share of the excess; others are below the fold.
const HEADLINE_COVERAGE: f64 = 0.25;
const CLASSES: [&str; 5] = ["part-1", "part-2", "part-3", "part-4", "part-5"];
/// Terminals named under one explanation.
const TERMINALS_SHOWN: usize = 20;
/// Outcomes that can be chosen.
const OUTCOMES_MAX: usize = 8;

/// One explanation.
struct Cause {
    class: &'static str,
    sentence: String,
    bars: Svg,
    /// What the bars say, in numbers.
    compared: Vec<(String, String)>,
    also_fits: Vec<String>,
    terminals: String,
    sns: Vec<String>,
    /// What is on its way with a version that it names.
    rollouts: Vec<Mover>,
    p: String,
}

#[derive(Template)]
#[template(path = "explain.html")]
struct ExplainPage {
    shell: Shell,
    /// Name, address and whether it is the one shown, of each window.
    windows: Vec<(&'static str, String, bool)>,
    query: ExplainQuery,
    organizations: Vec<Choice>,
    window: &'static str,
    /// Address of the cells behind this.
    cells: String,
    summary: String,
    baseline: String,
    notes: Vec<String>,
    causes: Vec<Cause>,
    lesser: Vec<Cause>,
    strip: Option<Svg>,
    unexplained: String,
    /// Whether the reader may stop the rollouts that bring a cause.
    may_stop: bool,
    /// Name, value and whether it is chosen, of each outcome.
    outcomes: Vec<(String, String, bool)>,
    below: Vec<(String, String)>,
}

/// Filters of the page; an empty one does not narrow.
#[derive(Debug, Clone, Default, Deserialize)]
struct ExplainQuery {
    #[serde(default)]
    window: String,
    #[serde(default)]
    organization_id: String,
    #[serde(default)]
    model: String,
    #[serde(default)]
    firmware: String,
    #[serde(default)]
    region: String,
    #[serde(default)]
    outcome: String,
}

impl ExplainQuery {
    /// The window and the question that are meant.
    fn question(&self) -> (&'static str, Question) {
        let [shortest, ..] = WINDOWS;
        let (window, hours) = WINDOWS.into_iter().find(|(name, _)| self.window == *name).unwrap_or(shortest);
        let given = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        let question = Question {
            hours,
            model: given(&self.model),
            firmware: given(&self.firmware),
            region: given(&self.region),
            outcome: given(&self.outcome),
        };
        (window, question)
    }

    /// This page, or the file behind it, with the same filters.
    fn address(&self, path: &str, window: &str) -> String {
        let filters = [
            ("organization_id", &self.organization_id),
            ("model", &self.model),
            ("firmware", &self.firmware),
            ("region", &self.region),
            ("outcome", &self.outcome),
        ];
        let given = filters.into_iter().filter(|(_, value)| !value.trim().is_empty());
        let mut address = format!("{path}?window={window}");
        for (name, value) in given {
            address.push('&');
            address.push_str(&query_pair(name, value.trim()));
        }
        address
    }

    fn is_filtered(&self) -> bool {
        let filters = [&self.organization_id, &self.model, &self.firmware, &self.region, &self.outcome];
        filters.into_iter().any(|value| !value.trim().is_empty())
    }
}

/// The cells behind the page, as `tillward explain --cells` reads them.
async fn export(
    shell: Shell,
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Query(query): Query<ExplainQuery>,
) -> Result<HttpResponse, Problem> {
    let (_, question) = query.question();
    let scope = organizations::narrowed(&state, caller.scope.clone(), &query.organization_id).await?;
    let file = failures::export_cells(&state.db, &caller, actor, scope, question, shell.moments.now()).await?;
    Ok(HttpResponse::Ok()
        .content_type("text/csv; charset=utf-8")
        .insert_header(("Content-Disposition", "attachment; filename=\"cells.csv\""))
        .body(file))
}

async fn show(
    shell: Shell,
    state: web::Data<State>,
    caller: Caller,
    Query(query): Query<ExplainQuery>,
) -> Result<HttpResponse, Problem> {
    let (window, question) = query.question();
    let scope = organizations::narrowed(&state, caller.scope.clone(), &query.organization_id).await?;
    let answer = failures::explain(&state.db, scope.clone(), question, shell.moments.now()).await?;
    let tree = organizations::within(&state, caller.scope.clone()).await?;
    let moving = movers(&shell, &state, caller.scope, &scope, &tree, &answer.explanations).await?;
    let is_headline = |rank: usize, found: &Explanation| {
        rank == 0 || found.coverage.is_some_and(|coverage| coverage >= HEADLINE_COVERAGE)
    };
    let (mut causes, mut lesser) = (Vec::new(), Vec::new());
    for (rank, (found, rollouts)) in answer.explanations.iter().zip(moving).enumerate() {
        let to = if is_headline(rank, found) { &mut causes } else { &mut lesser };
        to.push(cause(&shell, found, CLASSES.get(rank).copied().unwrap_or("part-6"), rollouts));
    }
    shell::ok(&ExplainPage {
        windows: WINDOWS.map(|(name, _)| (name, query.address("/causes", name), name == window)).into(),
        organizations: organizations::choices(&tree, query.organization_id.trim().parse().ok()),
        cells: query.address("/failures/cells.csv", window),
        summary: shell.language.with_values(
            "explain-summary",
            &[
                ("failures", &whole(answer.failures)),
                ("exposures", &whole(answer.exposures)),
                ("expected", &decimal(answer.expected)),
            ],
        ),
        baseline: baseline(&shell, &answer),
        notes: notes(&shell, &answer),
        strip: strip(&shell, &answer),
        may_stop: shell.may(Permission::RolloutsWrite),
        unexplained: answer.unexplained.map_or_else(|| "–".to_owned(), share),
        outcomes: outcomes(&shell, &answer, query.outcome.trim()),
        below: below(&shell, &answer),
        causes,
        lesser,
        query,
        window,
        shell,
    })
}

/// The most frequent outcomes; the chosen one among them, however rare it is where one looks now.
fn outcomes(shell: &Shell, answer: &Overview, chosen: &str) -> Vec<(String, String, bool)> {
    let mut names: Vec<&str> = answer.outcomes.iter().take(OUTCOMES_MAX).map(|(name, _)| name.as_str()).collect();
    if !chosen.is_empty() && !names.contains(&chosen) {
        names.push(chosen);
    }
    names.into_iter().map(|name| (conditions::outcome(shell, name), name.to_owned(), name == chosen)).collect()
}

fn share(share: f64) -> String {
    format!("{:.0}%", share * 100.0)
}

/// One decimal where it says something.
fn decimal(value: f64) -> String {
    if value < 100.0 && value.fract() != 0.0 { format!("{value:.1}") } else { whole(value) }
}

fn name(shell: &Shell, set: &[Condition]) -> String {
    let parts = set.iter().map(|part| conditions::attribute(shell, &part.attribute, &part.value));
    parts.collect::<Vec<_>>().join(" + ")
}

fn cause(shell: &Shell, found: &Explanation, class: &'static str, rollouts: Vec<Mover>) -> Cause {
    let conditions = name(shell, &found.all_of);
    let coverage = found.coverage.map_or_else(|| "–".to_owned(), share);
    let lift = |value: f64| format!("{value:.1}");
    let sentence = shell.language.with_values(
        "explain-sentence",
        &[
            ("conditions", &conditions),
            ("lift", &lift(found.lift)),
            ("low", &lift(found.lift_low)),
            ("high", &lift(found.lift_high)),
            ("failures", &whole(found.failures)),
            ("exposures", &whole(found.exposures)),
            ("expected", &decimal(found.expected)),
            ("coverage", &coverage),
        ],
    );
    let n = found.exposures.max(1.0);
    let rate = found.expected / n;
    let mut drawn = vec![Pair {
        name: conditions.clone(),
        seen: found.failures / n,
        expected: rate,
        interval: Some((rate * found.lift_low, rate * found.lift_high)),
    }];
    let mut compared = vec![(conditions, counts(shell, found.failures, found.expected))];
    for other in found.without_one.iter().filter(|_| found.all_of.len() > 1) {
        let Some(dropped) = found.all_of.iter().find(|part| part.attribute == other.attribute) else { continue };
        let rest: Vec<Condition> = found.all_of.iter().filter(|part| *part != dropped).cloned().collect();
        let dropped = conditions::attribute(shell, &dropped.attribute, &dropped.value);
        let text = shell.language.with_two("explain-without", ("rest", &name(shell, &rest)), ("dropped", &dropped));
        // Rates of other terminals have another denominator; on the scale of this set the lifts can be compared.
        let seen = rate * other.failures / other.expected.max(1e-6);
        drawn.push(Pair { name: text.clone(), seen, expected: rate, interval: None });
        compared.push((text, counts(shell, other.failures, other.expected)));
    }
    let also_fits = found.also_fits.iter().map(|(set, overlap)| {
        shell.language.with_two("explain-also-fits", ("conditions", &name(shell, set)), ("overlap", &share(*overlap)))
    });
    Cause {
        class,
        sentence,
        bars: pairs(&shell.say("explain-bars"), &drawn),
        compared,
        also_fits: also_fits.collect(),
        terminals: shell.count("explain-terminals", &i64::try_from(found.terminals).unwrap_or(i64::MAX)),
        sns: found.failing.iter().take(TERMINALS_SHOWN).map(|terminal| terminal.sn.clone()).collect(),
        rollouts,
        p: format!("{:.1e}", found.p_adjusted),
    }
}

/// What explains the failures for which a gate stopped a rollout; nothing where nothing does, or was looked for.
pub(super) fn of_halt(shell: &Shell, evidence: &Value) -> Option<String> {
    let found = evidence.get(failures::halts::LOCALIZED)?.as_array()?.first()?;
    let number = |name: &str| found.get(name).and_then(Value::as_f64);
    let lift = |name: &str| number(name).map(|value| format!("{value:.1}"));
    let conditions = conditions::set(shell.language, found.get("conditions")?.as_str()?);
    Some(shell.language.with_values(
        "incident-localized",
        &[
            ("conditions", &conditions),
            ("lift", &lift("lift")?),
            ("low", &lift("lift_low")?),
            ("high", &lift("lift_high")?),
            ("failures", &whole(number("failures")?)),
            ("exposures", &whole(number("exposures")?)),
            ("expected", &decimal(number("expected")?)),
            ("coverage", &number("coverage").map_or_else(|| "–".to_owned(), share)),
        ],
    ))
}

/// `5.0 × · 42 failed, 8.5 expected`.
fn counts(shell: &Shell, failures: f64, expected: f64) -> String {
    shell.language.with_values(
        "explain-counts",
        &[
            ("lift", &format!("{:.1}", failures / expected.max(1e-6))),
            ("failures", &whole(failures)),
            ("expected", &decimal(expected)),
        ],
    )
}

fn notes(shell: &Shell, answer: &Overview) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(lift) = answer.fleet_lift {
        notes.push(shell.with("explain-fleet-lift", "lift", format!("{lift:.1}")));
    } else if answer.is_fleet_wide {
        notes.push(shell.say("explain-fleet-wide"));
    }
    notes
}

/// What each explanation covers, and what none does: that part is always drawn.
fn strip(shell: &Shell, answer: &Overview) -> Option<Svg> {
    let unexplained = answer.unexplained?;
    // Shares in thousandths; the bar knows whole numbers only.
    let thousandths = |share: f64| (share.clamp(0.0, 1.0) * 1_000.0).round() as i64;
    let mut parts: Vec<Part> = answer
        .explanations
        .iter()
        .zip(CLASSES)
        .map(|(found, class)| Part {
            class,
            name: name(shell, &found.all_of),
            n: thousandths(found.coverage.unwrap_or_default()),
        })
        .collect();
    parts.push(Part { class: "part-6", name: shell.say("explain-unexplained"), n: thousandths(unexplained).max(1) });
    Some(stacked_bar(&shell.say("explain-strip"), &parts))
}

fn below(shell: &Shell, answer: &Overview) -> Vec<(String, String)> {
    let attributes = answer.dropped_attributes.iter().map(|attribute| shell.word("attribute", attribute));
    let dropped = attributes.collect::<Vec<_>>().join(" · ");
    let or_none = |text: String| if text.is_empty() { "–".to_owned() } else { text };
    let suspected = i64::try_from(answer.suspected_terminals.len()).unwrap_or(i64::MAX);
    vec![
        (shell.say("explain-phi"), format!("{:.2}", answer.phi)),
        (shell.say("explain-dropped"), or_none(dropped)),
        (shell.say("explain-suspected"), shell.number(&suspected)),
        (shell.say("explain-scanned"), shell.moments.absolute(answer.to_ms)),
    ]
}
