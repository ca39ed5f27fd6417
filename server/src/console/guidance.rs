//! What operators should be taught: stores with more errors than like ones first, each with what to teach.

use actix_web::{HttpResponse, web};
use askama::Template;
use serde::Deserialize;

use super::form::Form;
use super::i18n::Language;
use super::inspections;
use super::organizations::{self, Choice};
use super::rollouts::Chip;
use super::shell::{self, Shell};
use super::status::{Status, Tone};
use crate::audit;
use crate::http::auth::Acting;
use crate::http::body::{Query, query_pair};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::page::{Page, PageQuery};
use crate::http::problem::Problem;
use crate::http::{State, csv};
use crate::maintenance::guidance::{
    self, ATTEMPTS_MIN, ErrorRate, Filter, Key, PEERS_MIN, StoreGuidance, StoreOf, Verdict, WEEKS,
};
use crate::operators::{Caller, Permission};
use crate::organizations::Organization;

pub(super) fn endpoints() -> Vec<Endpoint> {
    let read = Access::Page(Permission::MaintenanceRead);
    vec![
        Endpoint::get("/guidance", read, "", list),
        Endpoint::get("/guidance.csv", read, "", table),
        Endpoint::post("/guidance/teach", Access::Page(Permission::MaintenanceWrite), "", teach),
    ]
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Asked {
    #[serde(default)]
    verdict: String,
    #[serde(default)]
    organization_id: String,
    #[serde(default)]
    after: Option<String>,
}

impl Asked {
    fn filter(&self) -> Result<Filter, Problem> {
        let organization_id = match self.organization_id.trim() {
            "" => None,
            id => Some(id.parse().map_err(|_| Problem::invalid("organization_id", "is not a number"))?),
        };
        Ok(Filter { organization_id, ..Filter::of_names(&self.verdict)? })
    }

    fn query(&self, verdict: &str, after: Option<&str>) -> String {
        let pairs = [("verdict", verdict), ("organization_id", self.organization_id.trim())];
        let given =
            pairs.into_iter().filter(|(_, value)| !value.is_empty()).chain(after.map(|cursor| ("after", cursor)));
        let query: Vec<String> = given.map(|(name, value)| query_pair(name, value)).collect();
        if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) }
    }
}

struct ErrorView {
    word: String,
    /// `12 · 6.0% (3.1% – 11.2%)`.
    shown: String,
    usual: String,
    status: Status,
    lessons: &'static [String],
}

struct Row {
    place: String,
    organization: String,
    model: String,
    attempts: i64,
    like_stores: i64,
    errors: Vec<ErrorView>,
    org_path: String,
    merchant_no: String,
    store_name: String,
    note: String,
}

#[derive(Template)]
#[template(path = "guidance.html")]
struct GuidancePage {
    shell: Shell,
    verdict: String,
    chips: Vec<Chip>,
    organizations: Vec<Choice>,
    rows: Vec<Row>,
    next: Option<String>,
    table: String,
    may_order: bool,
    explained: String,
    source: &'static str,
    source_date: &'static str,
}

async fn list(
    shell: Shell,
    state: web::Data<State>,
    caller: Caller,
    Query(asked): Query<Asked>,
) -> Result<HttpResponse, Problem> {
    let page = PageQuery { after: asked.after.clone(), size: None };
    let (size, after, now) = (page.size()?, page.after::<Key>()?, shell.moments.now());
    let (filter, scope) = (asked.filter()?, caller.scope.clone());
    let found =
        state.db.read(move |conn| guidance::stores(conn, &scope, &filter, after.as_ref(), size + 1, now)).await?;
    let tree = organizations::within(&state, caller.scope).await?;
    let page = Page::from_rows(found, size, StoreGuidance::key);
    let chip = |name: &str| Chip {
        href: format!("/guidance{}", asked.query(name, None)),
        word: if name.is_empty() { shell.say("filter-any") } else { shell.word("guidance", name) },
        is_current: asked.verdict == name,
    };
    let (weeks, attempts, peers) = (WEEKS.to_string(), ATTEMPTS_MIN.to_string(), PEERS_MIN.to_string());
    let limits = [("weeks", weeks.as_str()), ("attempts", attempts.as_str()), ("peers", peers.as_str())];
    let (source, source_date) = guidance::provenance(shell.language == Language::Chinese);
    shell::ok(&GuidancePage {
        verdict: asked.verdict.clone(),
        chips: [""].into_iter().chain(Verdict::NAMES).map(chip).collect(),
        organizations: organizations::choices(&tree, asked.organization_id.trim().parse().ok()),
        next: page.next.map(|cursor| format!("/guidance{}", asked.query(&asked.verdict, Some(&cursor)))),
        table: format!("/guidance.csv{}", asked.query(&asked.verdict, None)),
        rows: page.items.iter().map(|row| row_of(&shell, &tree, row)).collect(),
        may_order: shell.may(Permission::MaintenanceWrite),
        explained: shell.language.with_values("guidance-explained", &limits),
        source,
        source_date,
        shell,
    })
}

fn row_of(shell: &Shell, tree: &[Organization], row: &StoreGuidance) -> Row {
    let shown: Vec<&ErrorRate> = row.by_error.iter().filter(|rate| rate.errors > 0).collect();
    let above: Vec<String> = shown
        .iter()
        .filter(|rate| rate.verdict == "above")
        .map(|rate| shell.word("operator-error", rate.error.as_str()))
        .collect();
    Row {
        place: super::care_words::place(Some(&row.merchant_no), Some(&row.store_name)),
        organization: inspections::organization(tree, &row.org_path),
        model: row.model.clone(),
        attempts: row.attempts,
        like_stores: row.like_stores,
        errors: shown.into_iter().map(|rate| error_view(shell, rate)).collect(),
        org_path: row.org_path.clone(),
        merchant_no: row.merchant_no.clone(),
        store_name: row.store_name.clone(),
        note: above.join(", "),
    }
}

fn error_view(shell: &Shell, rate: &ErrorRate) -> ErrorView {
    let tone = match rate.verdict.as_str() {
        "above" => Tone::Bad,
        "usual" => Tone::Good,
        _ => Tone::Quiet,
    };
    let word = match rate.missing {
        Some(missing) => shell.with("guidance-lacks", "what", shell.word("guidance-missing", missing.as_str())),
        None => shell.word("guidance", &rate.verdict),
    };
    let is_chinese = shell.language == Language::Chinese;
    ErrorView {
        word: shell.word("operator-error", rate.error.as_str()),
        shown: shown(rate),
        usual: percent(rate.usual_rate),
        status: Status { tone, word },
        lessons: if rate.verdict == "above" { guidance::teach(rate.error, is_chinese) } else { &[] },
    }
}

/// How often, with the interval of the rate.
fn shown(rate: &ErrorRate) -> String {
    match (rate.rate, rate.rate_low, rate.rate_high) {
        (Some(share), Some(low), Some(high)) => {
            let (share, low, high) = (percent(Some(share)), percent(Some(low)), percent(Some(high)));
            format!("{} · {share} ({low} – {high})", rate.errors)
        }
        _ => rate.errors.to_string(),
    }
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "–".to_owned(), |share| format!("{:.1}%", share * 100.0))
}

async fn table(
    shell: Shell,
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Query(asked): Query<Asked>,
) -> Result<HttpResponse, Problem> {
    let (filter, scope, now) = (asked.filter()?, caller.scope.clone(), shell.moments.now());
    let narrowed = filter.clone();
    let rows = state.db.read(move |conn| guidance::stores(conn, &scope, &filter, None, u32::MAX, now)).await?;
    audit::export(&state.db, &caller, actor, narrowed.export(rows.len()), now).await?;
    let tree = organizations::within(&state, caller.scope).await?;
    let headings = [
        shell.say("terminal-organization"),
        shell.say("terminal-merchant-no"),
        shell.say("terminal-store"),
        shell.say("terminal-model"),
        shell.say("guidance-attempts"),
        shell.say("guidance-error"),
        shell.say("guidance-rate"),
        shell.say("guidance-usual"),
        shell.say("guidance-verdict"),
    ];
    let line = |row: &StoreGuidance| {
        let organization = inspections::organization(&tree, &row.org_path);
        let line = |rate: &ErrorRate| {
            let view = error_view(&shell, rate);
            csv::line(&[
                organization.clone(),
                row.merchant_no.clone(),
                row.store_name.clone(),
                row.model.clone(),
                row.attempts.to_string(),
                view.word,
                view.shown,
                view.usual,
                view.status.word,
            ])
        };
        row.by_error.iter().filter(|rate| rate.errors > 0).map(line).collect::<String>()
    };
    let lines: String = rows.iter().map(line).collect();
    let lines = std::cell::RefCell::new(Some(lines));
    Ok(csv::download("operator-errors.csv", csv::line(&headings), move |_: Option<()>| {
        let block = lines.take().map(|lines| ((), lines));
        async move { Ok::<_, crate::db::Error>(block) }
    }))
}

async fn teach(
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Form(asked): Form<StoreOf>,
) -> Result<HttpResponse, Problem> {
    let now = state.clock.now();
    let id = state.db.write(move |conn| guidance::open_teaching(conn, &caller, &actor, &asked, now)).await?;
    Ok(shell::see_other(&format!("/work-orders/{id}?done=order_opened")))
}
