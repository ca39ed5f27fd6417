//! Merchants: what is contracted with them; the list, one that is to be entered, and one with all that may be changed.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use askama::Template;

use super::alert_channels::name_of;
use super::filled::Filled;
use super::form::Form;
use super::organizations::{self, Choice};
use super::shell::{self, Shell};
use crate::http::State;
use crate::http::auth::Acting;
use crate::http::body::{Path, Query, query_pair};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::page::{Page, PageQuery};
use crate::http::problem::Problem;
use crate::imports::values::{self, RateUnit};
use crate::merchants::{self, Error, Merchant, NewMerchant, RATE_PPM_MAX, RISK_CLASSES};
use crate::operators::{Caller, Permission};
use crate::organizations::Organization;

pub(super) fn endpoints() -> Vec<Endpoint> {
    let read = Access::Page(Permission::SettlementsRead);
    let write = Access::Page(Permission::SettlementsWrite);
    vec![
        Endpoint::get("/merchants", read, "", list),
        Endpoint::get("/merchants/new", write, "", blank),
        Endpoint::post("/merchants", write, "", create),
        Endpoint::get("/merchants/{id}", read, "", show),
        Endpoint::post("/merchants/{id}", write, "", save),
    ]
}

/// The fields of the form.
const FIELDS: [&str; 7] = ["version", "merchant_no", "name", "mcc", "rate", "risk_class", "organization_id"];

struct Row {
    id: i64,
    number: String,
    name: String,
    organization: String,
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
    shell::ok(&MerchantsPage {
        next: page.next.map(|cursor| format!("/merchants?{}", query_pair("after", &cursor))),
        rows: page.items.into_iter().map(|merchant| row(&shell, &tree, merchant)).collect(),
        may_write: shell.may(Permission::SettlementsWrite),
        shell,
    })
}

fn row(shell: &Shell, tree: &[Organization], merchant: Merchant) -> Row {
    Row {
        id: merchant.id,
        organization: name_of(tree, merchant.organization_id),
        mcc: category(&merchant),
        rate: merchant.rate_ppm.map(|ppm| format!("{}%", percent(ppm))).unwrap_or_default(),
        class: class(shell, &merchant),
        number: merchant.merchant_no,
        name: merchant.name,
    }
}

/// The category that settlements are compared with: its own, or that of the number.
fn category(merchant: &Merchant) -> String {
    merchant.mcc.clone().or_else(|| merchant.merchant_no.get(7..11).map(str::to_owned)).unwrap_or_default()
}

fn class(shell: &Shell, merchant: &Merchant) -> String {
    let own = merchant.risk_class.as_deref().map(|class| shell.word("merchant-class", class));
    own.unwrap_or_else(|| shell.say("merchant-class-of-mcc"))
}

/// Millionths as per cent, with two places as contracts have them; with four where two would say less.
fn percent(ppm: i64) -> String {
    let (whole, part) = (ppm / 10_000, ppm % 10_000);
    if part % 100 == 0 { format!("{whole}.{:02}", part / 100) } else { format!("{whole}.{part:04}") }
}

#[derive(Template)]
#[template(path = "merchant.html")]
struct MerchantPage {
    shell: Shell,
    form: Filled,
    problems: Vec<(String, String)>,
    /// None for one that is to be entered.
    known: Option<Known>,
    classes: Vec<Choice>,
    organizations: Vec<Choice>,
    may_write: bool,
}

/// A merchant as it is entered now, whatever the form says.
struct Known {
    id: i64,
    name: String,
    facts: Vec<(String, String)>,
}

async fn page(
    shell: Shell,
    state: &State,
    caller: &Caller,
    form: Filled,
    known: Option<&Merchant>,
) -> Result<MerchantPage, Problem> {
    let tree = organizations::within(state, caller.scope.clone()).await?;
    let chosen = form.value("organization_id").parse().unwrap_or(caller.organization_id);
    let class = |name: &str| Choice {
        value: name.to_owned(),
        word: shell.word("merchant-class", name),
        is_chosen: form.value("risk_class") == name,
    };
    Ok(MerchantPage {
        problems: form.problems(),
        known: known.map(|merchant| of_merchant(&shell, &tree, merchant)),
        classes: RISK_CLASSES.map(class).into(),
        organizations: organizations::choices(&tree, Some(chosen)),
        may_write: shell.may(Permission::SettlementsWrite),
        form,
        shell,
    })
}

fn of_merchant(shell: &Shell, tree: &[Organization], merchant: &Merchant) -> Known {
    let rate = merchant.rate_ppm.map_or_else(|| "–".to_owned(), percent);
    let made = format!("{} · {}", merchant.created_by, shell.moments.absolute(merchant.created_at_ms));
    Known {
        id: merchant.id,
        name: merchant.name.clone(),
        facts: vec![
            (shell.say("terminal-merchant-no"), merchant.merchant_no.clone()),
            (shell.word("feed-field", "merchant_name"), merchant.name.clone()),
            (shell.say("terminal-organization"), name_of(tree, merchant.organization_id)),
            (shell.word("feed-field", "mcc"), category(merchant)),
            (shell.say("merchant-rate"), rate),
            (shell.say("merchant-class"), class(shell, merchant)),
            (shell.say("merchant-made"), made),
        ],
    }
}

/// What the form of a known merchant starts with.
fn filled(merchant: &Merchant) -> Filled {
    let mut form = Filled::default();
    form.fill("version", merchant.version.to_string());
    form.fill("name", merchant.name.clone());
    form.fill("mcc", merchant.mcc.clone().unwrap_or_default());
    form.fill("rate", merchant.rate_ppm.map(percent).unwrap_or_default());
    form.fill("risk_class", merchant.risk_class.clone().unwrap_or_default());
    form
}

async fn blank(shell: Shell, state: web::Data<State>, caller: Caller) -> Result<HttpResponse, Problem> {
    shell::ok(&page(shell, &state, &caller, Filled::default(), None).await?)
}

async fn show(
    shell: Shell,
    state: web::Data<State>,
    caller: Caller,
    Path(id): Path<i64>,
) -> Result<HttpResponse, Problem> {
    let merchant = find(&state, &caller, id).await?;
    shell::ok(&page(shell, &state, &caller, filled(&merchant), Some(&merchant)).await?)
}

async fn find(state: &State, caller: &Caller, id: i64) -> Result<Merchant, Problem> {
    let scope = caller.scope.clone();
    Ok(state.db.read(move |conn| merchants::find(conn, &scope, id)).await?)
}

/// What the form means; a rate that is none is noted beside its field.
fn meant(shell: &Shell, form: &mut Filled) -> NewMerchant {
    let organization_id = form.number(shell, "organization_id");
    let given = |name: &str| Some(form.value(name).to_owned()).filter(|text| !text.is_empty());
    let rate = given("rate").map(|text| values::rate(&text, RateUnit::Percent)).transpose();
    let new = NewMerchant {
        organization_id,
        merchant_no: form.value("merchant_no").to_owned(),
        name: form.value("name").to_owned(),
        mcc: given("mcc"),
        rate_ppm: rate.as_ref().ok().copied().flatten(),
        risk_class: given("risk_class"),
        version: None,
    };
    if rate.is_err() {
        refuse_rate(shell, form);
    }
    new
}

/// The form asks for per cent, and so speaks of them.
fn refuse_rate(shell: &Shell, form: &mut Filled) {
    form.refuse(shell, "rate", &format!("must be a rate from 0 to {}%", RATE_PPM_MAX / 10_000));
}

/// Puts a refusal beside the field that it is about; one of the merchant's state beside `conflicting`.
///
/// # Errors
/// What no form can mend.
fn refuse(shell: &Shell, form: &mut Filled, error: Error, conflicting: &str) -> Result<StatusCode, Problem> {
    match error {
        Error::Invalid(refused) if refused.field == "rate_ppm" => refuse_rate(shell, form),
        Error::Invalid(refused) => form.refuse(shell, &refused.field, &refused.problem),
        Error::Conflict(why) => {
            form.refuse(shell, conflicting, why);
            return Ok(StatusCode::CONFLICT);
        }
        Error::NotFound | Error::Db(_) => return Err(error.into()),
    }
    Ok(StatusCode::UNPROCESSABLE_ENTITY)
}

async fn create(
    mut shell: Shell,
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Form(fields): Form<Vec<(String, String)>>,
) -> Result<HttpResponse, Problem> {
    let mut form = Filled::of(fields, &FIELDS)?;
    shell.address = "/merchants/new".to_owned();
    let mut status = StatusCode::UNPROCESSABLE_ENTITY;
    let new = meant(&shell, &mut form);
    if form.is_good() {
        let (now, acting) = (state.clock.now(), caller.clone());
        let written = state.db.write(move |conn| merchants::create(conn, &acting, &actor, new, now)).await;
        match written {
            Ok(_) => return Ok(shell::see_other("/merchants?done=merchant")),
            Err(error) => status = refuse(&shell, &mut form, error, "merchant_no")?,
        }
    }
    shell::page(status, &page(shell, &state, &caller, form, None).await?)
}

async fn save(
    mut shell: Shell,
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Path(id): Path<i64>,
    Form(fields): Form<Vec<(String, String)>>,
) -> Result<HttpResponse, Problem> {
    let mut form = Filled::of(fields, &FIELDS)?;
    shell.address = format!("/merchants/{id}");
    let mut status = StatusCode::UNPROCESSABLE_ENTITY;
    // A form without the version that it was read with changes nothing.
    let version = form.number(&shell, "version").unwrap_or(0);
    let new = NewMerchant { version: Some(version), ..meant(&shell, &mut form) };
    if form.is_good() {
        let (now, scope) = (state.clock.now(), caller.scope.clone());
        let written = state.db.write(move |conn| merchants::update(conn, &actor, &scope, id, new, now)).await;
        match written {
            Ok(_) => return Ok(shell::see_other(&format!("/merchants/{id}?done=saved"))),
            Err(error) => status = refuse(&shell, &mut form, error, "form")?,
        }
    }
    let merchant = find(&state, &caller, id).await?;
    shell::page(status, &page(shell, &state, &caller, form, Some(&merchant)).await?)
}

#[cfg(test)]
mod tests {
    use super::percent;

    #[test]
    fn a_rate_keeps_every_place_that_says_something() {
        for (ppm, shown) in [(6_000, "0.60"), (3_850, "0.3850"), (0, "0.00"), (100_000, "10.00"), (12_345, "1.2345")] {
            assert_eq!(percent(ppm), shown);
        }
    }
}
