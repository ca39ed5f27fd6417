//! Evidence of an incident, which rules write as JSON, as people read it: numbers and texts as a list, lists of objects as
//! tables. Names have words where the console knows them; what it does not know is shown as it is, never left out. Pure but
//! for the words.

use serde_json::{Map, Value};

use super::conditions;
use super::i18n::grouped;
use super::shell::Shell;
use crate::failures;

/// Names in evidence that have words of their own, in the order in which they are shown; attributes have theirs already.
pub(super) const WORDS: &[&str] = &[
    "verdict",
    "cause",
    "confidence",
    "severity",
    "why",
    "reason",
    "reasons",
    "rule",
    "field",
    "scope",
    "place",
    "stage",
    "arm",
    "conditions",
    "attribute",
    "value",
    "observed",
    "threshold",
    "weight",
    "affected",
    "started",
    "exposures",
    "failed",
    "failures",
    "expected",
    "silent",
    "rate",
    "treated",
    "control",
    "lift",
    "lift_low",
    "lift_high",
    "coverage",
    "unexplained",
    "class",
    "baseline",
    "without_one",
    "also_fits",
    "localized",
    "hours",
    "p_adjusted",
    "alpha",
    "outcomes",
    "cells",
    "groups",
    "group",
    "omitted",
    "ways",
    "regions",
    "baseline",
    "usual",
    "silent_share",
    "peers",
    "peers_online",
    "median",
    "attempts",
    "z",
    "days",
    "days_left",
    "p_value",
    "also",
    "pool",
    "carriers",
    "calls",
    "lifecycle",
    "terminals",
    "in",
    "out",
    "switched",
    "compared",
    "successful",
    "under_review",
    "share",
    "share_low",
    "share_high",
    "began_at_ms",
    "judged_at_ms",
    "splits",
    "split",
    "ratio",
    "not_checked",
    "missing",
];
/// What says something to programs alone: it stands in what was recorded, and not among the facts.
const BEHIND: [&str; 2] = ["item", "tables_version"];
/// Verdicts that have words.
pub(super) const VERDICTS: [&str; 3] = ["pass", "fail", "insufficient"];
/// What failures are compared with, in words.
pub(super) const BASELINES: [&str; 2] = ["history", "contrast"];
/// Numbers that are parts of a whole, shown in per cent.
const SHARES: [&str; 8] =
    ["confidence", "coverage", "unexplained", "share", "share_low", "share_high", "silent_share", "usual"];
/// Rows of one table that are shown.
const ROWS_MAX: usize = 50;
/// Columns of one table that are shown.
const COLUMNS_MAX: usize = 11;

/// A list of objects.
pub(super) struct Table {
    pub(super) title: String,
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
}

/// What is shown of one piece of evidence.
pub(super) struct EvidenceView {
    pub(super) facts: Vec<(String, String)>,
    pub(super) tables: Vec<Table>,
    /// The whole, as it was written.
    pub(super) raw: String,
}

impl EvidenceView {
    pub(super) fn is_empty(&self) -> bool {
        self.facts.is_empty() && self.tables.is_empty()
    }
}

pub(super) fn view(shell: &Shell, evidence: &Value) -> EvidenceView {
    let empty = Map::new();
    let mut members: Vec<(&String, &Value)> = evidence.as_object().unwrap_or(&empty).iter().collect();
    members.retain(|(name, _)| !BEHIND.contains(&name.as_str()));
    members.sort_by_key(|(name, _)| rank(name));
    let groups: Vec<(&String, &Map<String, Value>)> =
        members.iter().filter_map(|(name, value)| Some((*name, value.as_object()?))).collect();
    let mut view = EvidenceView {
        facts: Vec::new(),
        tables: Vec::new(),
        raw: serde_json::to_string_pretty(evidence).unwrap_or_default(),
    };
    for (name, value) in members {
        match value {
            Value::Array(items) if !items.is_empty() && items.iter().all(Value::is_object) => {
                let rows: Vec<&Map<String, Value>> = items.iter().filter_map(Value::as_object).collect();
                let mut table = table(shell, name, &rows);
                // Sets that differ only in terminals read the same.
                table.rows.dedup();
                view.tables.push(table);
            }
            Value::Object(inner) if groups.len() == 1 => {
                let named = |(inner_name, value): (&String, &Value)| {
                    (format!("{} · {}", word(shell, name), word(shell, inner_name)), text(shell, inner_name, value))
                };
                view.facts.extend(inner.iter().map(named));
            }
            Value::Object(_) => {}
            value => view.facts.push((word(shell, name), text(shell, name, value))),
        }
    }
    if groups.len() > 1 {
        view.tables.push(compared(shell, &groups));
    }
    view
}

/// Objects side by side, one a row: those who were updated and those who were not.
fn compared(shell: &Shell, groups: &[(&String, &Map<String, Value>)]) -> Table {
    let rows: Vec<&Map<String, Value>> = groups.iter().map(|(_, members)| *members).collect();
    let mut table = table(shell, "groups", &rows);
    table.columns.insert(0, word(shell, "group"));
    for (row, (name, _)) in table.rows.iter_mut().zip(groups) {
        row.insert(0, word(shell, name));
    }
    table
}

fn table(shell: &Shell, name: &str, items: &[&Map<String, Value>]) -> Table {
    let mut columns: Vec<&String> = Vec::new();
    for column in items.iter().flat_map(|item| item.keys()) {
        if !columns.contains(&column) {
            columns.push(column);
        }
    }
    columns.sort_by_key(|column| rank(column));
    columns.truncate(COLUMNS_MAX);
    let cell = |item: &Map<String, Value>, column: &str| match (column, item.get("attribute"), item.get(column)) {
        ("value", Some(Value::String(attribute)), Some(Value::String(value))) => measured(shell, attribute, value),
        (_, _, Some(value)) => text(shell, column, value),
        (_, _, None) => String::new(),
    };
    Table {
        title: word(shell, name),
        rows: items
            .iter()
            .take(ROWS_MAX)
            .map(|item| columns.iter().map(|column| cell(item, column)).collect())
            .collect(),
        columns: columns.into_iter().map(|column| word(shell, column)).collect(),
    }
}

/// Attributes say where, and so stand before the numbers; after them come names that have no place.
fn rank(name: &str) -> usize {
    let place = WORDS.iter().position(|known| *known == name);
    let is_attribute = failures::ATTRIBUTES.contains(&name);
    place.map_or(if is_attribute { ATTRIBUTES_RANK } else { WORDS.len() }, |place| place)
}

/// Attributes stand where conditions do.
const ATTRIBUTES_RANK: usize = 13;

fn word(shell: &Shell, name: &str) -> String {
    if WORDS.contains(&name) {
        return shell.word("evidence", name);
    }
    // What rules look at: in a failure, and in a settlement.
    let families = ["attribute", "fact", "reason-field"];
    let known = families.into_iter().map(|family| shell.word(family, name)).find(|word| word != name);
    known.unwrap_or_else(|| name.replace('_', " "))
}

fn text(shell: &Shell, name: &str, value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        Value::Bool(true) => shell.say("evidence-yes"),
        Value::Bool(false) => shell.say("evidence-no"),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(at_ms), _) if name.ends_with("_at_ms") => shell.moments.absolute(at_ms),
            (Some(n), _) => grouped(n),
            (None, Some(n)) if SHARES.contains(&name) => format!("{}%", rounded(n * 100.0)),
            (None, Some(n)) => rounded(n),
            (None, None) => number.to_string(),
        },
        Value::String(text) => match name {
            "verdict" if VERDICTS.contains(&text.as_str()) => shell.word("evidence", text),
            "field" | "attribute" | "missing" => word(shell, text),
            "class" => conditions::outcome(shell, text),
            "localized" if text == failures::halts::NOTHING => shell.say("incident-localized-nothing"),
            "localized" if text == failures::halts::TOO_MUCH => shell.say("incident-localized-too-much"),
            "baseline" if BASELINES.contains(&text.as_str()) => shell.word("evidence", text),
            "conditions" => conditions::set(shell.language, text),
            "group" if WORDS.contains(&text.as_str()) => word(shell, text),
            "carrier" | "access" | "signal" | "split" | "severity" => shell.word(name, text),
            _ => text.clone(),
        },
        Value::Array(items) => items.iter().map(|item| text(shell, name, item)).collect::<Vec<_>>().join(" · "),
        Value::Object(_) => value.to_string(),
    }
}

/// The value of an attribute whose name stands beside it.
fn measured(shell: &Shell, attribute: &str, value: &str) -> String {
    match (attribute, value) {
        ("access" | "carrier" | "signal", _) => shell.word(attribute, value),
        ("in_update", "yes") => shell.say("evidence-yes"),
        ("in_update", "no") => shell.say("evidence-no"),
        (_, "unknown" | "") => shell.say("evidence-unknown"),
        _ => value.to_owned(),
    }
}

/// Three figures, as far as they say something: `0.00123`, `8.5`, `120.4`.
fn rounded(n: f64) -> String {
    let size = n.abs();
    if size != 0.0 && !(1e-6..1e9).contains(&size) {
        return format!("{n:.2e}");
    }
    let decimals = match size {
        size if size >= 100.0 => 1,
        size if size >= 1.0 || size == 0.0 => 2,
        size if size >= 0.01 => 3,
        _ => 6,
    };
    let text = format!("{n:.decimals$}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_what_says_something() {
        for (n, text) in [
            (8.5, "8.5"),
            (120.44, "120.4"),
            (0.0123, "0.012"),
            (0.00123, "0.00123"),
            (0.0, "0"),
            (-3.0, "-3"),
            (1.5e-9, "1.50e-9"),
            (2e12, "2.00e12"),
        ] {
            assert_eq!(rounded(n), text);
        }
    }
}
