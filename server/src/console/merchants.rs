//! Merchants: what is contracted with them.

use actix_web::{HttpResponse, web};
use askama::Template;
use serde::Deserialize;

use super::form::Form;
use super::organizations::{self, Choice};
use super::shell::{self, Shell};
use crate::http::State;
use crate::http::auth::Acting;
use crate::http::body::{Query, query_pair};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::page::{Page, PageQuery};
use crate::http::problem::Problem;
use crate::imports::values::{self, RateUnit};
use crate::merchants::{self, Merchant, NewMerchant, RISK_CLASSES};
use crate::operators::{Caller, Permission};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/merchants", Access::Page(Permission::SettlementsRead), "", list),
        Endpoint::post("/merchants", Access::Page(Permission::SettlementsWrite), "", create),
    ]
}

struct Row {
    number: String,
    name: String,
    mcc: String,
    rate: String,
    class: String,
}

#[derive(Template)]
#[template(path = "merchants.html")]
struct MerchantsPage {
    shell: Shell,
    rows: Vec<Row>,
    next: Option<String>,
    classes: Vec<Choice>,
    organizations: Vec<Choice>,
    may_write: bool,
}

async fn list(
    shell: Shell,
    state: web::Data<State>,
    caller: Caller,
    Query(page): Query<PageQuery>,
) -> Result<HttpResponse, Problem> {
    let (size, before) = (page.size()?, page.after::<i64>()?);
    let scope = caller.scope.clone();
    let rows = state.db.read(move |conn| merchants::list(conn, &scope, before, size + 1)).await?;
    let page = Page::from_rows(rows, size, |merchant| merchant.id);
    let tree = organizations::within(&state, caller.scope).await?;
    let class =
        |name: &str| Choice { value: name.to_owned(), word: shell.word("merchant-class", name), is_chosen: false };
    shell::ok(&MerchantsPage {
        next: page.next.map(|cursor| format!("/merchants?{}", query_pair("after", &cursor))),
        rows: page.items.into_iter().map(|merchant| row(&shell, merchant)).collect(),
        classes: RISK_CLASSES.map(class).into(),
        organizations: organizations::choices(&tree, Some(caller.organization_id)),
        may_write: shell.may(Permission::SettlementsWrite),
        shell,
    })
}

fn row(shell: &Shell, merchant: Merchant) -> Row {
    let class = merchant.risk_class.map(|class| shell.word("merchant-class", &class));
    Row {
        mcc: merchant.mcc.or_else(|| merchant.merchant_no.get(7..11).map(str::to_owned)).unwrap_or_default(),
        number: merchant.merchant_no,
        name: merchant.name,
        rate: merchant.rate_ppm.map(|ppm| format!("{}.{:02}%", ppm / 10_000, ppm % 10_000 / 100)).unwrap_or_default(),
        class: class.unwrap_or_else(|| shell.say("merchant-class-of-mcc")),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewForm {
    merchant_no: String,
    name: String,
    #[serde(default)]
    mcc: Option<String>,
    /// Percent.
    #[serde(default)]
    rate: Option<String>,
    #[serde(default)]
    risk_class: Option<String>,
    organization_id: i64,
}

async fn create(
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Form(form): Form<NewForm>,
) -> Result<HttpResponse, Problem> {
    let rate = form.rate.map(|text| values::rate(&text, RateUnit::Percent)).transpose();
    let new = NewMerchant {
        organization_id: Some(form.organization_id),
        merchant_no: form.merchant_no,
        name: form.name,
        mcc: form.mcc,
        rate_ppm: rate.map_err(|problem| Problem::invalid("rate_ppm", problem))?,
        risk_class: form.risk_class,
        version: None,
    };
    let now = state.clock.now();
    state.db.write(move |conn| merchants::create(conn, &caller, &actor, new, now)).await?;
    Ok(shell::see_other("/merchants?done=merchant"))
}
