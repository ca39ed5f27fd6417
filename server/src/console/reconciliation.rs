//! Reconciliation: counts by symptom with their coverage, payments, and numbers that wait for a person.

use actix_web::{HttpResponse, web};
use askama::Template;
use serde::Deserialize;

use super::form::Form;
use super::mapping::yuan;
use super::organizations::Choice;
use super::shell::{self, Shell};
use super::status::{Status, Tone};
use super::switches::{self, MerchantRow};
use crate::failures::feed::Result as Shows;
use crate::failures::fleet;
use crate::failures::reconcile::{self, Filter, Settlement, SettlementDetail, Summary, http::download};
use crate::http::State;
use crate::http::auth::Acting;
use crate::http::body::{Path, Query, query_pair};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::page::{Page, PageQuery};
use crate::http::problem::Problem;
use crate::merchants::numbers::{self, Act, MerchantNumber, Said, State as NumberState};
use crate::operators::{Caller, Permission};

pub(super) fn endpoints() -> Vec<Endpoint> {
    let read = Access::Page(Permission::SettlementsRead);
    let write = Access::Page(Permission::SettlementsWrite);
    let approve = Access::Page(Permission::AliasesApprove);
    vec![
        Endpoint::get("/reconciliation", read, "", list),
        Endpoint::get("/reconciliation/settlements.csv", read, "", export),
        Endpoint::get("/reconciliation/settlements/{id}", read, "", show),
        Endpoint::post("/merchant-numbers/{id}/request", write, "", request),
        Endpoint::post("/merchant-numbers/{id}/foreign", write, "", foreign),
        Endpoint::post("/merchant-numbers/{id}/approve", approve, "", agree),
        Endpoint::post("/merchant-numbers/{id}/reopen", approve, "", reopen),
    ]
}

/// Days that the counts are of when the address does not say.
const DAYS: i64 = 30;
/// Numbers that the page shows, the newest.
const NUMBERS_MAX: u32 = 50;
/// Merchants with switched payments that the page shows, those with the most.
const MERCHANTS_SHOWN: usize = 50;

struct Figure {
    name: String,
    n: String,
    href: Option<String>,
}

struct Row {
    id: i64,
    at: String,
    sn: String,
    merchant_no: String,
    merchant_name: String,
    amount: String,
    settled: String,
    status: Status,
    note: String,
}

struct NumberRow {
    id: i64,
    bound: String,
    number: String,
    name: String,
    status: Status,
    reason: String,
    payments: i64,
    last: String,
    may_request: bool,
    may_approve: bool,
    may_reopen: bool,
}

#[derive(Template)]
#[template(path = "reconciliation.html")]
struct ReconciliationPage {
    coverage: String,
    figures: Vec<Figure>,
    levels: Vec<(String, String)>,
    lacking: Vec<(String, String)>,
    merchants: Vec<MerchantRow>,
    merchants_lead: String,
    numbers: Vec<NumberRow>,
    days: i64,
    results: Vec<Choice>,
    sn: String,
    merchant_no: String,
    is_filtered: bool,
    rows: Vec<Row>,
    next: Option<String>,
    export: String,
    shell: Shell,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct ReconciliationQuery {
    #[serde(default)]
    days: String,
    #[serde(default)]
    result: String,
    #[serde(default)]
    sn: String,
    #[serde(default)]
    merchant_no: String,
    #[serde(default)]
    after: Option<String>,
}

impl ReconciliationQuery {
    fn days(&self) -> i64 {
        self.days.trim().parse().ok().filter(|days| (1..=reconcile::DAYS_MAX).contains(days)).unwrap_or(DAYS)
    }

    fn filter(&self, from_ms: i64) -> Result<Filter, Problem> {
        let results = match self.result.as_str() {
            "" => Vec::new(),
            name => {
                let unknown = || Problem::invalid("result", "is not something that a payment shows");
                vec![Shows::parse(name).ok_or_else(unknown)?]
            }
        };
        let text = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        Ok(Filter {
            results,
            sn: text(&self.sn),
            merchant_no: text(&self.merchant_no),
            from_ms: Some(from_ms),
            ..Filter::default()
        })
    }

    fn address(&self, path: &str, result: &str, after: Option<&str>) -> String {
        let days = self.days().to_string();
        let pairs = [("days", days.as_str()), ("result", result), ("sn", &self.sn), ("merchant_no", &self.merchant_no)];
        let given = pairs.into_iter().filter(|(_, value)| !value.is_empty());
        let query: Vec<String> =
            given.chain(after.map(|cursor| ("after", cursor))).map(|(name, value)| query_pair(name, value)).collect();
        format!("{path}?{}", query.join("&"))
    }
}

async fn list(
    shell: Shell,
    state: web::Data<State>,
    caller: Caller,
    Query(query): Query<ReconciliationQuery>,
) -> Result<HttpResponse, Problem> {
    let page = PageQuery { after: query.after.clone(), size: None };
    let (size, after) = (page.size()?, page.after::<(i64, i64)>()?);
    let (from_ms, to_ms) = reconcile::last_days(query.days(), state.clock.now());
    let filter = query.filter(from_ms)?;
    let scope = caller.scope.clone();
    let (summary, rows, numbers, merchants) = state
        .db
        .read(move |conn| {
            let summary = reconcile::summary(conn, &scope, from_ms, to_ms)?;
            let rows = reconcile::list(conn, &scope, &filter, after, size + 1)?;
            let numbers = numbers::list(conn, &scope, None, None, NUMBERS_MAX)?;
            Ok::<_, Problem>((summary, rows, numbers, fleet::switches(conn, &scope)?))
        })
        .await?;
    let page = Page::from_rows(rows, size, |row| (row.at_ms, row.id));
    let choice = |shows: Shows| Choice {
        value: shows.as_str().to_owned(),
        word: shell.word("shows", shows.as_str()),
        is_chosen: query.result == shows.as_str(),
    };
    shell::ok(&ReconciliationPage {
        coverage: covered(&shell, &summary),
        figures: figures(&shell, &query, &summary),
        levels: levels(&shell, &summary),
        lacking: summary.lacking.iter().map(|(name, n)| (shell.word("lacking", name), shell.number(n))).collect(),
        merchants: merchants.iter().take(MERCHANTS_SHOWN).map(|merchant| switches::row(&shell, merchant)).collect(),
        merchants_lead: switches::lead(&shell),
        numbers: numbers.into_iter().map(|number| number_row(&shell, &caller, number)).collect(),
        days: query.days(),
        results: Shows::ALL.map(choice).into(),
        sn: query.sn.clone(),
        merchant_no: query.merchant_no.clone(),
        is_filtered: !(query.result.is_empty() && query.sn.is_empty() && query.merchant_no.is_empty()),
        next: page.next.as_deref().map(|cursor| query.address("/reconciliation", &query.result, Some(cursor))),
        rows: page.items.iter().map(|row| row_of(&shell, row)).collect(),
        export: query.address("/reconciliation/settlements.csv", &query.result, None),
        shell,
    })
}

/// "N of M checked", and never that nothing is wrong.
fn covered(shell: &Shell, summary: &Summary) -> String {
    let checked = summary.coverage.first().map_or(0, |level| level.checked);
    let (total, checked) = (shell.number(&summary.settled), shell.number(&checked));
    shell.language.with_two("reconciliation-covered", ("total", &total), ("checked", &checked))
}

fn levels(shell: &Shell, summary: &Summary) -> Vec<(String, String)> {
    let words = |level: &reconcile::Coverage| {
        let (total, checked) = (shell.number(&level.total), shell.number(&level.checked));
        let words = shell.language.with_two("reconciliation-covered", ("total", &total), ("checked", &checked));
        (shell.word("evidence-level", &level.level), words)
    };
    summary.coverage.iter().map(words).collect()
}

fn figures(shell: &Shell, query: &ReconciliationQuery, summary: &Summary) -> Vec<Figure> {
    let of = |shows: Shows, n: i64| Figure {
        name: shell.word("shows", shows.as_str()),
        n: shell.number(&n),
        href: (n > 0).then(|| query.address("/reconciliation", shows.as_str(), None)),
    };
    let plain = |key: &str, n: String| Figure { name: shell.say(key), n, href: None };
    vec![
        plain("reconciliation-payments", shell.number(&summary.payments)),
        of(Shows::Failed, summary.s1_failed),
        of(Shows::Short, summary.s2_short),
        of(Shows::Missing, summary.s3_missing),
        of(Shows::Switched, summary.s4_switched),
        of(Shows::Review, summary.review),
        of(Shows::Fee, summary.fees),
        plain("reconciliation-fees", yuan(summary.fees_fen)),
        of(Shows::Unchecked, summary.unchecked),
        plain("reconciliation-processing", shell.number(&summary.processing)),
    ]
}

fn tone(shows: Shows) -> Tone {
    match shows {
        Shows::Fine => Tone::Good,
        Shows::Fee | Shows::Unchecked => Tone::Quiet,
        Shows::Waiting => Tone::Busy,
        Shows::Review | Shows::Failed | Shows::Missing => Tone::Warning,
        Shows::Short | Shows::Switched => Tone::Bad,
    }
}

fn status(shell: &Shell, row: &Settlement) -> Status {
    Status { tone: tone(row.result), word: shell.word("shows", row.result.as_str()) }
}

fn row_of(shell: &Shell, row: &Settlement) -> Row {
    let fee_fen = row.settle_fen.map(|settled| row.amount_fen - settled);
    let note = match (row.result, &row.lacking, fee_fen) {
        (Shows::Fee, _, Some(fen)) => shell.with("settlement-fee", "amount", yuan(fen)),
        (Shows::Short, _, Some(fen)) => shell.with("settlement-short", "amount", yuan(fen)),
        (_, Some(lacking), _) => shell.word("lacking", lacking),
        (_, None, _) => String::new(),
    };
    Row {
        id: row.id,
        at: shell.moments.absolute(row.at_ms),
        sn: row.sn.clone(),
        merchant_no: row.merchant_no.clone().unwrap_or_default(),
        merchant_name: row.merchant_name.clone().unwrap_or_default(),
        amount: yuan(row.amount_fen),
        settled: row.settle_fen.map(yuan).unwrap_or_default(),
        status: status(shell, row),
        note,
    }
}

fn number_row(shell: &Shell, caller: &Caller, number: MerchantNumber) -> NumberRow {
    let tone = match number.state {
        NumberState::Open => Tone::Warning,
        NumberState::Requested => Tone::Busy,
        NumberState::Alias => Tone::Good,
        NumberState::Foreign => Tone::Bad,
    };
    let may_approve = shell.may(Permission::AliasesApprove);
    let is_own = number.requested_by.as_deref() == Some(caller.name.as_str());
    NumberRow {
        id: number.id,
        status: Status { tone, word: shell.word("number-state", number.state.as_str()) },
        last: number.last_seen_ms.map(|at_ms| shell.moments.ago(at_ms)).unwrap_or_default(),
        may_request: number.state == NumberState::Open && shell.may(Permission::SettlementsWrite),
        may_approve: number.state == NumberState::Requested && may_approve && !is_own,
        may_reopen: number.state != NumberState::Open && may_approve,
        bound: number.bound_no,
        number: number.number,
        name: number.name.unwrap_or_default(),
        reason: number.reason,
        payments: number.payments,
    }
}

async fn export(
    state: web::Data<State>,
    acting: Acting,
    Query(query): Query<ReconciliationQuery>,
) -> Result<HttpResponse, Problem> {
    let (from_ms, _) = reconcile::last_days(query.days(), state.clock.now());
    let filter = query.filter(from_ms)?;
    download(state, acting, filter).await
}

struct ReasonRow {
    rule: String,
    field: String,
    observed: String,
    threshold: String,
}

#[derive(Template)]
#[template(path = "settlement.html")]
struct SettlementPage {
    title: String,
    status: Status,
    facts: Vec<(String, String)>,
    confidence: Option<String>,
    reasons: Vec<ReasonRow>,
    not_checked: Vec<String>,
    shell: Shell,
}

async fn show(
    shell: Shell,
    state: web::Data<State>,
    caller: Caller,
    Path(id): Path<i64>,
) -> Result<HttpResponse, Problem> {
    let found = state.db.read(move |conn| reconcile::find(conn, &caller.scope, id)).await?;
    let SettlementDetail { settlement, judgement } = found.ok_or_else(Problem::not_found)?;
    let verdict = judgement.as_ref().and_then(|judgement| judgement.verdict.as_ref());
    let reasons = verdict.map(|verdict| verdict.reasons.as_slice()).unwrap_or_default();
    let reason = |reason: &crate::failures::classify::Reason| ReasonRow {
        rule: reason.rule.as_str().to_owned(),
        field: shell.word("reason-field", &reason.field),
        observed: reason.observed.clone(),
        threshold: reason.threshold.clone(),
    };
    let not_checked = judgement.as_ref().map(|judgement| judgement.not_checked.as_slice()).unwrap_or_default();
    // The confidence is that the numbers differ, not that anybody did wrong.
    let percent = verdict.map(|verdict| format!("{:.0}%", verdict.confidence * 100.0));
    shell::ok(&SettlementPage {
        title: format!("{} · {}", settlement.sn, yuan(settlement.amount_fen)),
        status: status(&shell, &settlement),
        facts: facts(&shell, &settlement),
        confidence: percent.map(|percent| shell.with("settlement-confidence", "percent", percent)),
        reasons: reasons.iter().map(reason).collect(),
        not_checked: not_checked
            .iter()
            .map(|lack| format!("{} · {}", lack.rule.as_str(), shell.word("reason-field", &lack.missing)))
            .collect(),
        shell,
    })
}

fn facts(shell: &Shell, row: &Settlement) -> Vec<(String, String)> {
    let mut facts = vec![
        (shell.say("reconciliation-at"), shell.moments.absolute(row.at_ms)),
        (shell.say("reconciliation-sn"), row.sn.clone()),
        (shell.say("reconciliation-amount"), yuan(row.amount_fen)),
    ];
    let texts = [
        ("reconciliation-settled", row.settle_fen.map(yuan)),
        ("settlement-fee-taken", row.fee_fen.map(yuan)),
        ("settlement-withdraw", row.withdraw_fen.map(yuan)),
        ("number-settled", row.merchant_no.clone()),
        ("settlement-merchant-name", row.merchant_name.clone()),
        ("settlement-ref", row.ref_no.clone()),
        ("settlement-lacking", row.lacking.as_ref().map(|name| shell.word("lacking", name))),
    ];
    facts.extend(texts.into_iter().filter_map(|(key, text)| Some((shell.say(key), text?))));
    facts.push((shell.say("settlement-match"), shell.word("match", &row.match_quality)));
    facts
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Why {
    #[serde(default)]
    reason: String,
}

/// Nothing but the token.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

async fn request(
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Form(why): Form<Why>,
) -> Result<HttpResponse, Problem> {
    let said = Said { reason: why.reason, valid_from_ms: None, valid_to_ms: None };
    act(&state, acting, id, Act::Request(said), "number_requested").await
}

async fn foreign(
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Form(why): Form<Why>,
) -> Result<HttpResponse, Problem> {
    let said = Said { reason: why.reason, valid_from_ms: None, valid_to_ms: None };
    act(&state, acting, id, Act::Foreign(said), "number_foreign").await
}

async fn agree(
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Form(Nothing {}): Form<Nothing>,
) -> Result<HttpResponse, Problem> {
    act(&state, acting, id, Act::Approve, "number_approved").await
}

async fn reopen(
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Form(Nothing {}): Form<Nothing>,
) -> Result<HttpResponse, Problem> {
    act(&state, acting, id, Act::Reopen, "number_reopened").await
}

async fn act(state: &State, acting: Acting, id: i64, act: Act, done: &str) -> Result<HttpResponse, Problem> {
    // The answer is for programs; a person goes back to the page.
    drop(reconcile::http::act(state, acting, id, act).await?);
    Ok(shell::see_other(&format!("/reconciliation?done={done}")))
}
