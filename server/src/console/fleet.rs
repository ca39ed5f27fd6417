//! The fleet: its numbers, what each rule over all terminals said last, and what the rules found.

use actix_web::{HttpResponse, web};
use askama::Template;
use serde::Deserialize;

use super::chart::percent;
use super::shell::{self, Shell};
use super::status::{Status, Tone};
use crate::failures::fleet::kpis::{Kpis, kpis};
use crate::failures::fleet::rules::Rule;
use crate::failures::fleet::{self, Finding, RuleState};
use crate::http::State;
use crate::http::body::{Query, query_pair};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::page::{Page, PageQuery};
use crate::http::problem::Problem;
use crate::operators::{Caller, Permission};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![Endpoint::get("/fleet", Access::Page(Permission::IncidentsRead), "", show)]
}

struct RuleRow {
    name: String,
    meaning: String,
    status: Status,
    missing: String,
    judged: String,
}

struct FindingRow {
    rule: String,
    subject: String,
    status: Status,
    affected: i64,
    seen: String,
    seen_at: String,
    incident_id: Option<i64>,
}

#[derive(Template)]
#[template(path = "fleet.html")]
struct FleetPage {
    shell: Shell,
    numbers: Vec<(String, String)>,
    rules: Vec<RuleRow>,
    rows: Vec<FindingRow>,
    next: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct FleetQuery {
    #[serde(default)]
    after: Option<String>,
}

async fn show(
    shell: Shell,
    state: web::Data<State>,
    caller: Caller,
    Query(query): Query<FleetQuery>,
) -> Result<HttpResponse, Problem> {
    let page = PageQuery { after: query.after, size: None };
    let (size, before) = (page.size()?, page.after::<i64>()?);
    let now = shell.moments.now();
    let (numbers, states, found) = state
        .db
        .read(move |conn| {
            let numbers = kpis(conn, &caller.scope, now)?;
            let states = fleet::rule_states(conn)?;
            Ok::<_, Problem>((numbers, states, fleet::findings(conn, &caller.scope, None, before, size + 1)?))
        })
        .await?;
    let page = Page::from_rows(found, size, |finding| finding.id);
    shell::ok(&FleetPage {
        numbers: number_rows(&shell, &numbers),
        rules: Rule::ALL.iter().map(|rule| rule_row(&shell, *rule, &states)).collect(),
        rows: page.items.iter().map(|finding| finding_row(&shell, finding)).collect(),
        next: page.next.map(|cursor| format!("/fleet?{}", query_pair("after", &cursor))),
        shell,
    })
}

fn number_rows(shell: &Shell, kpis: &Kpis) -> Vec<(String, String)> {
    let of = |n: i64, total: i64| format!("{} · {} / {}", percent(n, total), shell.number(&n), shell.number(&total));
    let payments = kpis.payments_ok + kpis.payments_failed;
    let mean = |ms: Option<i64>| {
        let minutes = ms.map(|ms| shell.count("fleet-minutes", &(ms / 60_000)));
        minutes.unwrap_or_else(|| "–".to_owned())
    };
    vec![
        (shell.say("fleet-success"), of(kpis.payments_ok, payments)),
        (shell.say("fleet-explained"), of(kpis.explained, kpis.judged)),
        (shell.say("fleet-online"), of(kpis.online, kpis.in_use)),
        (shell.say("fleet-detect"), mean(kpis.detect_mean_ms)),
        (shell.say("fleet-repair"), mean(kpis.repair_mean_ms)),
        (shell.say("fleet-resolved"), shell.number(&kpis.resolved)),
        (shell.say("fleet-cards"), shell.number(&kpis.cards_ending)),
    ]
}

fn rule_row(shell: &Shell, rule: Rule, states: &[RuleState]) -> RuleRow {
    let state = states.iter().find(|state| state.rule == rule.as_str());
    let verdict = state.map_or("never", |state| state.verdict.as_str());
    RuleRow {
        name: rule.as_str().to_owned(),
        meaning: shell.word("fleet-rule", rule.as_str()),
        status: Status {
            tone: match verdict {
                "hit" => Tone::Bad,
                "clear" if rule == Rule::MerchantSwitch => Tone::Quiet,
                "clear" => Tone::Good,
                "info" => Tone::Busy,
                _ => Tone::Quiet,
            },
            word: match (rule, verdict) {
                // What was not compared is not in order.
                (Rule::MerchantSwitch, "clear") => shell.say("switches-verdict-clear"),
                _ => shell.word("fleet-verdict", verdict),
            },
        },
        missing: state
            .and_then(|state| state.missing.as_deref())
            .map(|missing| shell.word("fleet-missing", missing))
            .unwrap_or_default(),
        judged: state.map(|state| shell.moments.ago(state.judged_at_ms)).unwrap_or_default(),
    }
}

fn finding_row(shell: &Shell, finding: &Finding) -> FindingRow {
    let state = match (finding.ended_at_ms, finding.verdict.as_str()) {
        (Some(_), _) => "ended",
        (None, "info") => "info",
        (None, _) => "hit",
    };
    FindingRow {
        rule: shell.word("fleet-rule", &finding.rule),
        subject: finding.subject.clone(),
        status: Status {
            tone: match state {
                "hit" => Tone::Bad,
                "info" => Tone::Busy,
                _ => Tone::Quiet,
            },
            word: shell.word("fleet-verdict", state),
        },
        affected: finding.affected,
        seen: shell.moments.ago(finding.last_seen_ms),
        seen_at: shell.moments.absolute(finding.last_seen_ms),
        incident_id: finding.incident_id,
    }
}
