//! Network advice: stores, the worst network first, with the reason and what to change.

use actix_web::{HttpResponse, web};
use askama::Template;
use serde::Deserialize;

use super::chart::percent;
use super::conditions;
use super::organizations;
use super::shell::{self, Shell};
use crate::failures::advice::judge::{Advice, Part};
use crate::failures::advice::{self, StoreKey, StoreNetwork};
use crate::http::State;
use crate::http::body::{Query, query_pair};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::page::{Page, PageQuery};
use crate::http::problem::Problem;
use crate::operators::{Caller, Permission};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![Endpoint::get("/network-advice", Access::Page(Permission::FailuresRead), "", list)]
}

/// Scores below these stand out, and stand out much.
const FAIR: i64 = 70;
const POOR: i64 = 40;

/// What is said of one store's network.
pub(super) struct View {
    pub(super) score: String,
    pub(super) class: &'static str,
    pub(super) reason: String,
    /// What to change, and what it rests on.
    pub(super) advice: Vec<(String, String)>,
    /// Said where there is nothing to advise.
    pub(super) nothing: String,
    pub(super) parts: Vec<(String, String)>,
}

struct Row {
    name: String,
    merchant: String,
    search: String,
    organization: String,
    region: String,
    terminals: String,
    failed: String,
    view: View,
}

#[derive(Template)]
#[template(path = "network_advice.html")]
struct AdvicePage {
    shell: Shell,
    rows: Vec<Row>,
    next: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct AdviceQuery {
    #[serde(default)]
    after: Option<String>,
}

async fn list(
    shell: Shell,
    state: web::Data<State>,
    caller: Caller,
    Query(query): Query<AdviceQuery>,
) -> Result<HttpResponse, Problem> {
    let page = PageQuery { after: query.after, size: None };
    let (size, after) = (page.size()?, page.after::<StoreKey>()?);
    let scope = caller.scope.clone();
    let found = state.db.read(move |conn| advice::list(conn, &scope, after, size + 1)).await?;
    let page = Page::from_rows(found, size, StoreNetwork::key);
    let tree = organizations::within(&state, caller.scope.clone()).await?;
    let row = |store: StoreNetwork| Row {
        name: store.store_name.clone().or_else(|| store.merchant_name.clone()).unwrap_or_else(|| "–".to_owned()),
        merchant: store.merchant_name.clone().filter(|_| store.store_name.is_some()).unwrap_or_default(),
        search: format!("/terminals?{}", query_pair("q", &searched(&store))),
        organization: organizations::chain(&tree, &store.org_path).last().cloned().unwrap_or_default(),
        region: store.region.clone(),
        terminals: shell.count("advice-terminals-n", &store.terminals),
        failed: format!("{} / {}", shell.number(&store.failed), shell.number(&store.attempts)),
        view: view(&shell, &store),
    };
    shell::ok(&AdvicePage {
        rows: page.items.into_iter().map(row).collect(),
        next: page.next.map(|cursor| format!("/network-advice?{}", query_pair("after", &cursor))),
        shell,
    })
}

/// What finds a store's terminals.
fn searched(store: &StoreNetwork) -> String {
    let names = [&store.store_name, &store.merchant_no, &store.merchant_name];
    names.into_iter().flatten().next().cloned().unwrap_or_default()
}

pub(super) fn view(shell: &Shell, store: &StoreNetwork) -> View {
    let judged = &store.judged;
    let nothing = match judged.score {
        None => shell.say("advice-insufficient"),
        Some(_) if judged.lacks_peers => shell.say("advice-no-peers"),
        Some(_) => shell.say("advice-none"),
    };
    View {
        score: judged.score.map_or_else(|| "–".to_owned(), |score| score.to_string()),
        class: match judged.score {
            Some(score) if score < POOR => "tag bad",
            Some(score) if score < FAIR => "tag warning",
            Some(_) | None => "tag",
        },
        reason: match judged.parts.first() {
            Some(part) if part.score < 100 => part_words(shell, part),
            Some(_) => shell.say("advice-all-good"),
            None => shell.say("advice-insufficient"),
        },
        parts: judged.parts.iter().map(|part| (part.score.to_string(), part_words(shell, part))).collect(),
        advice: judged.advice.iter().map(|advice| advice_words(shell, store, advice)).collect(),
        nothing,
    }
}

/// `4G · 移动：弱信号占 62.0%（312 次测量）`.
fn part_words(shell: &Shell, part: &Part) -> String {
    let link = conditions::network(shell, &part.access, &part.carrier, "");
    let of = i64::try_from(part.of).unwrap_or(i64::MAX);
    let observed = match part.name.as_str() {
        "loss" => format!("{:.1}%", part.observed),
        _ => format!("{:.1}%", part.observed * 100.0),
    };
    let said = shell.language.with_two(
        &format!("advice-part-{}", part.name),
        ("observed", &observed),
        ("of", &shell.number(&of)),
    );
    format!("{link}：{said}")
}

/// What to change and what it would have saved; what that rests on.
fn advice_words(shell: &Shell, store: &StoreNetwork, advice: &Advice) -> (String, String) {
    let count = |n: u64| shell.number(&i64::try_from(n).unwrap_or(i64::MAX));
    let share = |failed: u64, of: u64| {
        percent(i64::try_from(failed).unwrap_or(i64::MAX), i64::try_from(of).unwrap_or(i64::MAX))
    };
    let to = conditions::network(shell, &advice.to_access, &advice.to_carrier, "");
    let change = shell.with(&format!("advice-change-{}", advice.change.as_str()), "to", &to);
    let saved = shell.language.with_values(
        "advice-saved",
        &[
            ("saved", &count(advice.saved)),
            ("failed", &shell.number(&store.failed)),
            ("low", &count(advice.saved_low)),
            ("high", &count(advice.saved_high)),
        ],
    );
    let rates = [
        ("now", share(advice.now.failed, advice.now.attempts)),
        ("then", share(advice.then.failed, advice.then.attempts)),
        ("terminals", count(advice.terminals)),
        ("attempts", count(advice.then.attempts)),
    ];
    let values: Vec<(&'static str, &str)> = rates.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let because = if advice.terminals == 0 {
        shell.language.with_values("advice-because-own", &values)
    } else {
        shell.language.with_values("advice-because-region", &values)
    };
    (format!("{change}。{saved}"), because)
}
