//! The tables that rules compare with, as they are in force for an organization; one row of them can be changed, taken
//! back or taken out, and failures judged again.

use std::collections::BTreeMap;

use actix_web::{HttpResponse, web};
use askama::Template;
use serde::Deserialize;

use super::form::Form;
use super::i18n::Language;
use super::organizations::Choice;
use super::shell::{self, Shell};
use crate::failures::classify::{Override, Row as Columns, Severity, Symptom, TableName};
use crate::failures::verdicts::{self, Asked, Edit, RowOrigin, TableView, TablesView};
use crate::http::State;
use crate::http::auth::Acting;
use crate::http::body::{Query, query_pair};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::problem::Problem;
use crate::merchants::RISK_CLASSES;
use crate::operators::{Caller, Permission};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/rules", Access::Page(Permission::FailuresRead), "", show),
        Endpoint::post("/rules", Access::Page(Permission::RulesWrite), "", edit),
        Endpoint::post("/rules/reevaluate", Access::Page(Permission::RulesWrite), "", again),
    ]
}

/// What the names of a row's fields in the form begin with.
const COLUMN: &str = "c_";
/// How far back the button judges again, ms: a week.
const AGAIN_MS: i64 = 7 * 86_400_000;
/// How sure the source of a row is.
pub(super) const CERTAINTIES: [&str; 3] = ["high", "medium", "low"];
/// What has to hold for the other cause of a response code.
pub(super) const CONDITIONS: [&str; 6] =
    ["repeated_day", "merchant_spike", "version_changed", "not_signed_in", "night", "partial_amount"];
/// Whether a response code proves that the way to the host was whole.
pub(super) const PROVEN: [&str; 2] = ["yes", "no"];

#[derive(Debug, Clone, Default, Deserialize)]
struct RulesQuery {
    #[serde(default)]
    table: String,
    #[serde(default)]
    key: String,
}

/// A heading: the column's name in the table, and its word.
struct Heading {
    name: String,
    word: String,
}

struct Cell {
    text: String,
    is_narrow: bool,
}

struct Line {
    cells: Vec<Cell>,
    origin: String,
    href: String,
    is_own: bool,
}

struct Field {
    name: String,
    word: String,
    value: String,
    /// Empty where anything may be written.
    options: Vec<Choice>,
    is_key: bool,
}

#[derive(Template)]
#[template(path = "rules.html")]
struct RulesPage {
    shell: Shell,
    tables: Vec<Choice>,
    table: String,
    version: i64,
    tables_version: String,
    columns: Vec<Heading>,
    lines: Vec<Line>,
    fields: Vec<Field>,
    is_own: bool,
    may_write: bool,
    edits: Vec<(String, String)>,
}

async fn show(
    shell: Shell,
    state: web::Data<State>,
    caller: Caller,
    Query(query): Query<RulesQuery>,
) -> Result<HttpResponse, Problem> {
    let table = match query.table.as_str() {
        "" => TableName::Thresholds,
        name => TableName::parse(name).ok_or_else(|| Problem::invalid("table", "is not known"))?,
    };
    let view = own_tables(&state, &caller).await?;
    shell::ok(&assemble(shell, &view, table, &query.key))
}

/// The tables in force for the caller's own organization.
async fn own_tables(state: &State, caller: &Caller) -> Result<TablesView, Problem> {
    let (id, scope) = (caller.organization_id, caller.scope.clone());
    let found = state.db.read(move |conn| verdicts::show(conn, &scope, id)).await?;
    found.ok_or_else(Problem::not_found)
}

fn assemble(shell: Shell, view: &TablesView, table: TableName, key: &str) -> RulesPage {
    let empty = TableView { name: table, columns: Vec::new(), rows: Vec::new() };
    let shown = view.tables.iter().find(|found| found.name == table).unwrap_or(&empty);
    let is_own = |key: &str| view.overrides.iter().any(|change| change.table == table && change.key == key);
    let cell = |row: &verdicts::RowView, column: &String| Cell {
        text: said(&shell, table, column, row.row.get(column).map_or("", String::as_str)),
        is_narrow: column == "date",
    };
    let line = |row: &verdicts::RowView| Line {
        cells: shown.columns.iter().map(|column| cell(row, column)).collect(),
        origin: match (&row.origin, is_own(&row.key)) {
            (_, true) => shell.say("rules-own"),
            (RowOrigin::Shipped, false) => shell.say("rules-shipped"),
            (RowOrigin::Organization { .. }, false) => shell.say("rules-above"),
        },
        href: format!("/rules?{}&{}#row", query_pair("table", table.as_str()), query_pair("key", &row.key)),
        is_own: is_own(&row.key),
    };
    let chosen = shown.rows.iter().find(|row| row.key == key);
    let field = |(index, column): (usize, &String)| {
        let value = chosen.and_then(|row| row.row.get(column)).map_or("", String::as_str);
        let options = options(&shell, table, column, value);
        Field {
            name: format!("{COLUMN}{column}"),
            word: shell.word("column", column),
            // What is chosen keeps its name; what is written is read first.
            value: if options.is_empty() { written(&shell, column, value) } else { value.to_owned() },
            options,
            is_key: index == 0,
        }
    };
    let heading = |column: &String| Heading { name: column.clone(), word: shell.word("column", column) };
    RulesPage {
        tables: TableName::ALL
            .map(|name| Choice {
                value: name.as_str().to_owned(),
                word: shell.word("table", name.as_str()),
                is_chosen: name == table,
            })
            .into(),
        table: table.as_str().to_owned(),
        version: view.version,
        tables_version: view.tables_version.chars().take(12).collect(),
        columns: shown.columns.iter().map(heading).collect(),
        lines: shown.rows.iter().map(line).collect(),
        fields: shown.columns.iter().enumerate().map(field).collect(),
        is_own: is_own(key),
        may_write: shell.may(Permission::RulesWrite),
        edits: view
            .edits
            .iter()
            .map(|edit| (shell.moments.absolute(edit.created_at_ms), format!("{} · {}", edit.created_by, edit.note)))
            .collect(),
        shell,
    }
}

/// The values of a column that takes no others, and the family of their words.
fn fixed(table: TableName, column: &str) -> Option<(&'static str, Vec<&'static str>)> {
    match column {
        "source_confidence" => Some(("certainty", CERTAINTIES.to_vec())),
        "severity" | "severity_if" => Some(("severity", Severity::ALL.iter().map(|each| each.as_str()).collect())),
        "symptom" => Some(("symptom", Symptom::ALL.iter().map(|each| each.as_str()).collect())),
        "condition" => Some(("code-condition", CONDITIONS.to_vec())),
        "path_proven" => Some(("path-proven", PROVEN.to_vec())),
        "class" if table == TableName::MccClasses => Some(("merchant-class", RISK_CLASSES.to_vec())),
        _ => None,
    }
}

/// What stands in a cell, with words for what has some.
fn said(shell: &Shell, table: TableName, column: &str, value: &str) -> String {
    match (fixed(table, column), column) {
        (Some((family, _)), _) => shell.word(family, value),
        (None, "carrier") => shell.word("carrier", value),
        (None, _) => written(shell, column, value),
    }
}

/// What is written freely: sources and notes in words, everything else as it is.
fn written(shell: &Shell, column: &str, value: &str) -> String {
    if matches!(column, "source" | "note") { phrases(shell, value) } else { value.to_owned() }
}

/// Sources and notes, part by part: those that come with the program have words; addresses, and what an organization
/// wrote, stay as they are.
fn phrases(shell: &Shell, text: &str) -> String {
    let phrase = |part: &str| {
        let name = phrase_name(part);
        let word = shell.word("phrase", &name);
        if word == name { part.to_owned() } else { word }
    };
    let separator = match shell.language {
        Language::Chinese => "；",
        Language::English => "; ",
    };
    text.split("; ").map(phrase).collect::<Vec<_>>().join(separator)
}

/// The name that a phrase has among the words.
pub(super) fn phrase_name(phrase: &str) -> String {
    phrase.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect()
}

/// What may be chosen for a column; empty where anything may be written.
fn options(shell: &Shell, table: TableName, column: &str, value: &str) -> Vec<Choice> {
    let Some((family, values)) = fixed(table, column) else { return Vec::new() };
    let choice = |name: &str, word: String| Choice { value: name.to_owned(), word, is_chosen: name == value };
    let mut options = vec![choice("", "–".to_owned())];
    options.extend(values.into_iter().map(|name| choice(name, shell.word(family, name))));
    // What is there stays unless somebody changes it, also where it is none of these.
    if options.iter().all(|option| !option.is_chosen) {
        options.push(choice(value, value.to_owned()));
    }
    options
}

/// The fields of the form, which depend on the table: `table`, `version`, `note`, `what` and one for each column.
type Fields = BTreeMap<String, String>;

async fn edit(
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Form(fields): Form<Fields>,
) -> Result<HttpResponse, Problem> {
    let get = |name: &str| fields.get(name).cloned().unwrap_or_default();
    let table = TableName::parse(&get("table")).ok_or_else(|| Problem::invalid("table", "is not known"))?;
    let version = get("version").parse().map_err(|_| Problem::invalid("version", "is not a number"))?;
    let view = own_tables(&state, &caller).await?;
    let shown = view.tables.iter().find(|found| found.name == table);
    let key_column = shown.and_then(|table| table.columns.first()).cloned().unwrap_or_default();
    let key = get(&format!("{COLUMN}{key_column}"));
    let mut overrides = view.overrides;
    overrides.retain(|change| change.table != table || change.key != key);
    match get("what").as_str() {
        "reset" => {}
        "remove" => overrides.push(Override { table, key: key.clone(), row: None }),
        _ => {
            let columns = shown.map(|table| table.columns.clone()).unwrap_or_default();
            // An empty field is one that the form leaves out.
            let row: Columns =
                columns.into_iter().skip(1).map(|column| (column.clone(), get(&format!("{COLUMN}{column}")))).collect();
            overrides.push(Override { table, key: key.clone(), row: Some(row) });
        }
    }
    let wanted = Edit { version, overrides, note: get("note") };
    let (id, now) = (caller.organization_id, state.clock.now());
    state.db.write(move |conn| verdicts::edit(conn, &caller, &actor, id, &wanted, now)).await?;
    Ok(shell::see_other(&format!("/rules?{}&done=rules", query_pair("table", table.as_str()))))
}

/// A form without fields of its own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Week {}

async fn again(
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Form(Week {}): Form<Week>,
) -> Result<HttpResponse, Problem> {
    let now = state.clock.now();
    let asked = Asked { from_ms: now.0 - AGAIN_MS, to_ms: now.0 + 1, terminal_id: None, cause: None, after: None };
    let done = verdicts::reevaluate(&state.db, caller, actor, asked, now).await?;
    let name = if done.next.is_some() { "reevaluated_in_part" } else { "reevaluated" };
    Ok(shell::see_other(&format!("/rules?done={name}")))
}
