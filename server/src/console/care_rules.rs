//! Thresholds and checklists of an organization.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use actix_web::{HttpResponse, web};
use askama::Template;
use serde::Deserialize;
use tillward_protocol::FieldError;

use super::form::Form;
use super::i18n::Language;
use super::organizations::{self, Choice};
use super::rollouts::Chip;
use super::shell::{self, Shell};
use crate::http::State;
use crate::http::auth::Acting;
use crate::http::body::{Query, query_pair};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::problem::Problem;
use crate::maintenance::checklist::{self, Item};
use crate::maintenance::due::Rules;
use crate::maintenance::orders::Kind;
use crate::maintenance::{self, ChecklistChange, Error, Reason, RulesChange};
use crate::operators::{Caller, Permission};

pub(super) fn endpoints() -> Vec<Endpoint> {
    let configure = Access::Page(Permission::MaintenanceConfigure);
    vec![
        Endpoint::get("/inspections/rules", configure, "", show),
        Endpoint::post("/inspections/rules", configure, "", save_rules),
        Endpoint::post("/inspections/checklist", configure, "", save_checklist),
    ]
}

#[derive(Debug, Deserialize)]
struct Asked {
    #[serde(default)]
    organization_id: String,
    #[serde(default)]
    kind: String,
}

/// One threshold on the form.
struct Number {
    name: &'static str,
    label: String,
    value: u32,
}

struct ReasonChoice {
    name: &'static str,
    word: String,
    is_chosen: bool,
}

#[derive(Template)]
#[template(path = "care_rules.html")]
struct RulesPage {
    shell: Shell,
    organization_id: i64,
    organizations: Vec<Choice>,
    origin: String,
    version: i64,
    numbers: Vec<Number>,
    by_model: String,
    by_tag: String,
    reasons: Vec<ReasonChoice>,
    kinds: Vec<Chip>,
    kind: &'static str,
    kind_word: String,
    checklist: String,
    checklist_version: i64,
    checklist_origin: String,
    source: &'static str,
    source_date: &'static str,
}

async fn show(
    shell: Shell,
    state: web::Data<State>,
    caller: Caller,
    Query(asked): Query<Asked>,
) -> Result<HttpResponse, Problem> {
    let organization_id = match asked.organization_id.trim() {
        "" => caller.organization_id,
        id => id.parse().map_err(|_| Problem::invalid("organization_id", "is not a number"))?,
    };
    let kind = match asked.kind.as_str() {
        "" => Kind::Inspection,
        name => Kind::parse(name).ok_or_else(|| Problem::invalid("kind", "is not known"))?,
    };
    let reader = caller.clone();
    let (found, list) = state
        .db
        .read(move |conn| {
            let found = maintenance::rules_in_force(conn, &reader, organization_id)?;
            Ok::<_, Error>((found, maintenance::checklist(conn, &reader, organization_id, kind)?))
        })
        .await?;
    let tree = organizations::within(&state, caller.scope).await?;
    let origin = |id: Option<i64>| match id {
        None => shell.say("care-built-in"),
        Some(id) => tree.iter().find(|found| found.id == id).map_or_else(|| id.to_string(), |found| found.name.clone()),
    };
    let tab = |other: Kind| Chip {
        href: format!(
            "/inspections/rules?{}&{}#checklist",
            query_pair("organization_id", &organization_id.to_string()),
            query_pair("kind", other.as_str())
        ),
        word: shell.word("work", other.as_str()),
        is_current: other == kind,
    };
    let (source, source_date) = checklist::provenance(shell.language == Language::Chinese);
    shell::ok(&RulesPage {
        organization_id,
        organizations: organizations::choices(&tree, Some(organization_id)),
        origin: origin(found.from_organization_id),
        version: found.version,
        numbers: numbers(&shell, &found.rules),
        by_model: pairs(&found.rules.inspection_days_by_model),
        by_tag: pairs(&found.rules.inspection_days_by_tag),
        reasons: Reason::ALL
            .map(|reason| ReasonChoice {
                name: reason.as_str(),
                word: shell.word("due", reason.as_str()),
                is_chosen: found.rules.open_orders_for.contains(&reason),
            })
            .into(),
        kinds: Kind::ALL.map(tab).into(),
        kind: kind.as_str(),
        kind_word: shell.word("work", kind.as_str()),
        checklist: lines(&list.items),
        checklist_version: if list.organization_id == Some(organization_id) { list.version } else { 0 },
        checklist_origin: origin(list.organization_id),
        source,
        source_date,
        shell,
    })
}

fn numbers(shell: &Shell, rules: &Rules) -> Vec<Number> {
    let [planned, soon, now] = rules.expiry_days;
    [
        ("inspection_days", rules.inspection_days),
        ("dormant_days", rules.dormant_days),
        ("dormant_now_days", rules.dormant_now_days),
        ("error_percent", rules.error_percent),
        ("error_tries_min", rules.error_tries_min),
        ("battery_percent_min", rules.battery_percent_min),
        ("coin_mv_min", rules.coin_mv_min),
        ("coin_mv_now", rules.coin_mv_now),
        ("expiry_planned", planned),
        ("expiry_soon", soon),
        ("expiry_now", now),
        ("moved_m", rules.moved_m),
    ]
    .map(|(name, value)| Number { name, label: shell.word("rule", name), value })
    .into()
}

/// One name and its days a line.
fn pairs(days: &BTreeMap<String, u32>) -> String {
    days.iter().map(|(name, days)| format!("{name} {days}")).collect::<Vec<_>>().join("\n")
}

fn of_pairs(field: &str, text: &str) -> Result<BTreeMap<String, u32>, FieldError> {
    let refused = || FieldError::new(field, "must be a name and a number of days in each line");
    let pair = |line: &str| {
        let (name, days) = line.trim().rsplit_once(char::is_whitespace).ok_or_else(refused)?;
        Ok((name.trim().to_owned(), days.parse().map_err(|_| refused())?))
    };
    text.lines().filter(|line| !line.trim().is_empty()).map(pair).collect()
}

/// One item a line: its name, a star if it is required, Chinese, English, with bars between.
fn lines(items: &[Item]) -> String {
    let line = |item: &Item| {
        let star = if item.required { "*" } else { "" };
        format!("{}{star} | {} | {}", item.id, item.zh, item.en)
    };
    items.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn of_lines(text: &str) -> Result<Vec<Item>, FieldError> {
    let refused = || FieldError::new("items", "must have name, Chinese and English in each line, with | between");
    let item = |line: &str| {
        let mut parts = line.splitn(3, '|').map(str::trim);
        let (Some(name), Some(zh), Some(en)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(refused());
        };
        let (id, required) = name.strip_suffix('*').map_or((name, false), |id| (id.trim(), true));
        Ok(Item { id: id.to_owned(), zh: zh.to_owned(), en: en.to_owned(), required })
    };
    text.lines().filter(|line| !line.trim().is_empty()).map(item).collect()
}

fn number<T: FromStr>(fields: &BTreeMap<String, String>, name: &str) -> Result<T, FieldError> {
    let given = fields.get(name).ok_or_else(|| FieldError::new(name, "is missing"))?;
    given.trim().parse().map_err(|_| FieldError::new(name, "is not a number"))
}

async fn save_rules(
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Form(fields): Form<BTreeMap<String, String>>,
) -> Result<HttpResponse, Problem> {
    let organization_id: i64 = number(&fields, "organization_id")?;
    let change = RulesChange { version: number(&fields, "version")?, rules: rules_of(&fields)? };
    let now = state.clock.now();
    state.db.write(move |conn| maintenance::put_rules(conn, &caller, &actor, organization_id, &change, now)).await?;
    Ok(shell::see_other(&format!("/inspections/rules?organization_id={organization_id}&done=care_rules")))
}

fn rules_of(fields: &BTreeMap<String, String>) -> Result<Rules, FieldError> {
    let text = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
    let reasons: BTreeSet<Reason> =
        Reason::ALL.into_iter().filter(|reason| fields.contains_key(&format!("open.{}", reason.as_str()))).collect();
    Ok(Rules {
        inspection_days: number(fields, "inspection_days")?,
        inspection_days_by_model: of_pairs("inspection_days_by_model", text("by_model"))?,
        inspection_days_by_tag: of_pairs("inspection_days_by_tag", text("by_tag"))?,
        dormant_days: number(fields, "dormant_days")?,
        dormant_now_days: number(fields, "dormant_now_days")?,
        error_percent: number(fields, "error_percent")?,
        error_tries_min: number(fields, "error_tries_min")?,
        battery_percent_min: number(fields, "battery_percent_min")?,
        coin_mv_min: number(fields, "coin_mv_min")?,
        coin_mv_now: number(fields, "coin_mv_now")?,
        expiry_days: [number(fields, "expiry_planned")?, number(fields, "expiry_soon")?, number(fields, "expiry_now")?],
        moved_m: number(fields, "moved_m")?,
        open_orders_for: reasons,
    })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Edited {
    organization_id: i64,
    kind: String,
    version: i64,
    #[serde(default)]
    items: String,
}

async fn save_checklist(
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Form(edited): Form<Edited>,
) -> Result<HttpResponse, Problem> {
    let kind = Kind::parse(&edited.kind).ok_or_else(|| Problem::invalid("kind", "is not known"))?;
    let change = ChecklistChange { version: edited.version, items: of_lines(&edited.items)? };
    let (now, id) = (state.clock.now(), edited.organization_id);
    state.db.write(move |conn| maintenance::put_checklist(conn, &caller, &actor, (id, kind), &change, now)).await?;
    Ok(shell::see_other(&format!("/inspections/rules?organization_id={id}&kind={}&done=care_checklist", kind.as_str())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checklist_survives_its_way_through_the_form() {
        for kind in Kind::ALL {
            let items = checklist::seed(kind).items;
            assert_eq!(of_lines(&lines(&items)).unwrap(), items, "{kind:?}");
        }
        assert_eq!(of_lines("a | 只有中文").unwrap_err().field, "items");
    }

    #[test]
    fn intervals_survive_theirs_and_half_lines_are_refused() {
        let days = BTreeMap::from([("high risk".to_owned(), 90), ("pax-a920".to_owned(), 400)]);
        assert_eq!(of_pairs("x", &pairs(&days)).unwrap(), days);
        for bad in ["pax-a920", "pax-a920 often"] {
            assert_eq!(of_pairs("x", bad).unwrap_err().field, "x");
        }
    }
}
