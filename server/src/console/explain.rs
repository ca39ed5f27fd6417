//! Why payments fail: the conditions that explain a rise, in sentences that say nothing the numbers do not.

use std::collections::BTreeMap;

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
use crate::failures::{self, ATTRIBUTES, Class, Condition, Explanation, Group, Only, Overview, Question};
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
    compared: Vec<Compared>,
    also_fits: Vec<AlsoFits>,
    terminals: String,
    sns: Vec<String>,
    /// What is on its way with a version that it names.
    rollouts: Vec<Mover>,
    p: String,
}

/// A part of the exposures, with the address of the page about it alone.
struct Compared {
    name: String,
    address: String,
    counts: String,
}

/// Other conditions that fit as well, and what tells them apart: name and address of what only one of them covers.
struct AlsoFits {
    text: String,
    differences: Vec<(String, String)>,
}

/// A condition by which the page is narrowed.
struct Field {
    name: &'static str,
    label: String,
    value: String,
    /// Value, words and whether it is the one chosen, where there are not many.
    options: Vec<(String, String, bool)>,
}

#[derive(Template)]
#[template(path = "explain.html")]
struct ExplainPage {
    shell: Shell,
    /// Name, address and whether it is the one shown, of each window.
    windows: Vec<(&'static str, String, bool)>,
    is_filtered: bool,
    organizations: Vec<Choice>,
    /// Conditions that are often asked for …
    fields: Vec<Field>,
    /// … and the others, with whether one of them is given.
    more: (Vec<Field>, bool),
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
    outcome: String,
    /// Attributes, and whatever else the address has.
    #[serde(flatten)]
    conditions: BTreeMap<String, String>,
}

/// Attributes that have a field of their own on every page; those of the others are folded.
const FIRST: [&str; 3] = ["model", "firmware", "region"];

impl ExplainQuery {
    /// The window and the question that are meant. What is no class of failures narrows nothing.
    fn question(&self) -> (&'static str, Question) {
        let [shortest, ..] = WINDOWS;
        let (window, hours) = WINDOWS.into_iter().find(|(name, _)| self.window == *name).unwrap_or(shortest);
        let only = Only::new(self.conditions.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        (window, Question { hours, only, class: Class::parse(self.outcome.trim()) })
    }

    /// This page, or the file behind it, with the same filters.
    fn address(&self, path: &str, window: &str, only: &Only) -> String {
        let filters = [("organization_id", self.organization_id.trim()), ("outcome", self.outcome.trim())];
        let given = filters.into_iter().filter(|(_, value)| !value.is_empty());
        let mut address = format!("{path}?window={window}");
        for (name, value) in given.chain(only.given()) {
            address.push('&');
            address.push_str(&query_pair(name, value));
        }
        address
    }

    fn is_filtered(&self, only: &Only) -> bool {
        let filters = [&self.organization_id, &self.outcome];
        filters.into_iter().any(|value| !value.trim().is_empty()) || only.given().next().is_some()
    }
}

/// The page about one part of what this page is about.
struct Links<'a> {
    query: &'a ExplainQuery,
    window: &'a str,
    only: &'a Only,
}

impl Links<'_> {
    /// Where all of these hold, and where `but` does not.
    fn to(&self, all_of: &[Condition], but: Option<&Condition>) -> String {
        let excluded = but.map(|but| (but.attribute.as_str(), failures::all_but(&but.value)));
        let asked = self.only.given().map(|(name, value): (&str, &str)| (name, value));
        let asked = asked.chain(all_of.iter().map(|part| (part.attribute.as_str(), failures::exactly(&part.value))));
        let excluded = excluded.as_ref().map(|(name, value)| (*name, value.as_str()));
        self.query.address("/causes", self.window, &Only::new(asked.chain(excluded)))
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
    let only = question.only.clone();
    let scope = organizations::narrowed(&state, caller.scope.clone(), &query.organization_id).await?;
    let answer = failures::explain(&state.db, scope.clone(), question, shell.moments.now()).await?;
    let tree = organizations::within(&state, caller.scope.clone()).await?;
    let moving = movers(&shell, &state, caller.scope, &scope, &tree, &answer.explanations).await?;
    let is_headline = |rank: usize, found: &Explanation| {
        rank == 0 || found.coverage.is_some_and(|coverage| coverage >= HEADLINE_COVERAGE)
    };
    let links = Links { query: &query, window, only: &only };
    let (mut causes, mut lesser) = (Vec::new(), Vec::new());
    for (rank, (found, rollouts)) in answer.explanations.iter().zip(moving).enumerate() {
        let to = if is_headline(rank, found) { &mut causes } else { &mut lesser };
        to.push(cause(&shell, &links, found, CLASSES.get(rank).copied().unwrap_or("part-6"), rollouts));
    }
    shell::ok(&ExplainPage {
        windows: WINDOWS.map(|(name, _)| (name, query.address("/causes", name, &only), name == window)).into(),
        organizations: organizations::choices(&tree, query.organization_id.trim().parse().ok()),
        cells: query.address("/failures/cells.csv", window, &only),
        is_filtered: query.is_filtered(&only),
        fields: FIRST.map(|name| field(&shell, name, &only)).into(),
        more: more(&shell, &only),
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
        window,
        shell,
    })
}

/// Groups of outcomes and the most frequent outcomes; the chosen one among them, however rare it is where one looks now.
fn outcomes(shell: &Shell, answer: &Overview, chosen: &str) -> Vec<(String, String, bool)> {
    let frequent = answer.outcomes.iter().take(OUTCOMES_MAX).map(|(name, _)| name.as_str());
    let mut names: Vec<&str> = Group::ALL.iter().map(|group| group.as_str()).chain(frequent).collect();
    if Class::parse(chosen).is_some() && !names.contains(&chosen) {
        names.push(chosen);
    }
    names.into_iter().map(|name| (conditions::outcome(shell, name), name.to_owned(), name == chosen)).collect()
}

/// The values of an attribute that has few.
fn values(name: &str) -> &'static [&'static str] {
    match name {
        "carrier" => &["CMCC", "CUCC", "CTCC", "CBN", "unknown"],
        "access" => &["5g", "4g", "3g", "2g", "wifi", "eth", "bt_phone", "unknown"],
        "signal" => &["good", "fair", "poor", "bad", "unknown"],
        "in_update" => &["yes", "no"],
        _ => &[],
    }
}

fn field(shell: &Shell, name: &'static str, only: &Only) -> Field {
    let value =
        only.given().find(|(attribute, _)| *attribute == name).map_or_else(String::new, |given| given.1.to_owned());
    let mut options: Vec<(String, String, bool)> = values(name)
        .iter()
        .map(|known| ((*known).to_owned(), conditions::attribute(shell, name, known), *known == value))
        .collect();
    if !options.is_empty() && !value.is_empty() && options.iter().all(|option| !option.2) {
        options.push((value.clone(), conditions::wanted(shell, name, &value), true));
    }
    Field { name, label: shell.word("attribute", name), value, options }
}

fn more(shell: &Shell, only: &Only) -> (Vec<Field>, bool) {
    let names = ATTRIBUTES.into_iter().filter(|name| !FIRST.contains(name));
    let fields: Vec<Field> = names.map(|name| field(shell, name, only)).collect();
    let is_given = fields.iter().any(|field| !field.value.is_empty());
    (fields, is_given)
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

fn cause(shell: &Shell, links: &Links<'_>, found: &Explanation, class: &'static str, rollouts: Vec<Mover>) -> Cause {
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
    let mut compared = vec![Compared {
        name: conditions,
        address: links.to(&found.all_of, None),
        counts: counts(shell, found.failures, found.expected),
    }];
    for other in found.without_one.iter().filter(|_| found.all_of.len() > 1) {
        let Some(dropped) = found.all_of.iter().find(|part| part.attribute == other.attribute) else { continue };
        let rest: Vec<Condition> = found.all_of.iter().filter(|part| *part != dropped).cloned().collect();
        let text = but(shell, &rest, dropped);
        // Rates of other terminals have another denominator; on the scale of this set the lifts can be compared.
        let seen = rate * other.failures / other.expected.max(1e-6);
        drawn.push(Pair { name: text.clone(), seen, expected: rate, interval: None });
        compared.push(Compared {
            name: text,
            address: links.to(&rest, Some(dropped)),
            counts: counts(shell, other.failures, other.expected),
        });
    }
    Cause {
        class,
        sentence,
        bars: pairs(&shell.say("explain-bars"), &drawn),
        compared,
        also_fits: found.also_fits.iter().map(|other| also_fits(shell, links, &found.all_of, other)).collect(),
        terminals: shell.count("explain-terminals", &i64::try_from(found.terminals).unwrap_or(i64::MAX)),
        sns: found.failing.iter().take(TERMINALS_SHOWN).map(|terminal| terminal.sn.clone()).collect(),
        rollouts,
        p: format!("{:.1e}", found.p_adjusted),
    }
}

/// `固件 4.2，但不是2G`.
fn but(shell: &Shell, set: &[Condition], dropped: &Condition) -> String {
    let whole = name(shell, set);
    // Of two values, what is not the one is the other.
    let other = match (dropped.attribute.as_str(), dropped.value.as_str()) {
        ("in_update", "no") => Some("yes"),
        ("in_update", "yes") => Some("no"),
        _ => None,
    };
    if let Some(other) = other {
        return format!("{whole} + {}", conditions::attribute(shell, &dropped.attribute, other));
    }
    let dropped = conditions::attribute(shell, &dropped.attribute, &dropped.value);
    shell.language.with_two("explain-without", ("rest", &whole), ("dropped", &dropped))
}

/// Another set that fits, and what only one of the two covers, where one condition more makes the difference: whether it
/// fails there is how a person tells which of them it is.
fn also_fits(
    shell: &Shell,
    links: &Links<'_>,
    found: &[Condition],
    (other, overlap): &(Vec<Condition>, f64),
) -> AlsoFits {
    let text = shell.language.with_two(
        "explain-also-fits",
        ("conditions", &name(shell, other)),
        ("overlap", &share(*overlap)),
    );
    let differences = [(found, other.as_slice()), (other.as_slice(), found)].into_iter().filter_map(|(one, two)| {
        let mut beyond = two.iter().filter(|part| !one.contains(part));
        let (Some(dropped), None) = (beyond.next(), beyond.next()) else { return None };
        let is_empty = one.iter().any(|part| part.attribute == dropped.attribute);
        (!is_empty).then(|| (but(shell, one, dropped), links.to(one, Some(dropped))))
    });
    AlsoFits { text, differences: differences.collect() }
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
