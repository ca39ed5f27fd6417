//! Evidence of an incident, which rules write as JSON, as people read it: numbers and texts as a list, lists of objects as
//! tables. Names have words where the console knows them; what it does not know is shown as it is, never left out. Pure but
//! for the words.

use serde_json::{Map, Value};

use super::i18n::grouped;
use super::shell::Shell;

/// Names in evidence that have words of their own; attributes have theirs already.
pub(super) const WORDS: [&str; 34] = [
    "affected",
    "alpha",
    "arm",
    "cells",
    "conditions",
    "control",
    "coverage",
    "expected",
    "exposures",
    "failed",
    "failures",
    "field",
    "lift",
    "lift_high",
    "lift_low",
    "observed",
    "omitted",
    "outcomes",
    "p_adjusted",
    "place",
    "rate",
    "reason",
    "reasons",
    "rule",
    "scope",
    "silent",
    "stage",
    "started",
    "threshold",
    "treated",
    "value",
    "verdict",
    "weight",
    "why",
];
/// Rows of one table that are shown.
const ROWS_MAX: usize = 50;
/// Columns of one table that are shown.
const COLUMNS_MAX: usize = 8;

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
    let members = evidence.as_object().unwrap_or(&empty);
    let mut view = EvidenceView {
        facts: Vec::new(),
        tables: Vec::new(),
        raw: serde_json::to_string_pretty(evidence).unwrap_or_default(),
    };
    for (name, value) in members {
        match value {
            Value::Array(items) if !items.is_empty() && items.iter().all(Value::is_object) => {
                view.tables.push(table(shell, name, items));
            }
            Value::Object(inner) => {
                let named = |(inner_name, value): (&String, &Value)| {
                    (format!("{} · {}", word(shell, name), word(shell, inner_name)), text(shell, inner_name, value))
                };
                view.facts.extend(inner.iter().map(named));
            }
            value => view.facts.push((word(shell, name), text(shell, name, value))),
        }
    }
    // Why it was judged so stands first.
    view.tables.sort_by_key(|table| table.title != word(shell, "reasons"));
    view
}

fn table(shell: &Shell, name: &str, items: &[Value]) -> Table {
    let mut columns: Vec<&String> = Vec::new();
    for column in items.iter().filter_map(Value::as_object).flat_map(Map::keys) {
        if columns.len() < COLUMNS_MAX && !columns.contains(&column) {
            columns.push(column);
        }
    }
    let row = |item: &Value| columns.iter().map(|column| text(shell, column, &item[column.as_str()])).collect();
    Table {
        title: word(shell, name),
        rows: items.iter().take(ROWS_MAX).map(row).collect(),
        columns: columns.into_iter().map(|column| word(shell, column)).collect(),
    }
}

fn word(shell: &Shell, name: &str) -> String {
    if WORDS.contains(&name) {
        return shell.word("evidence", name);
    }
    let attribute = shell.word("attribute", name);
    if attribute == name { name.replace('_', " ") } else { attribute }
}

fn text(shell: &Shell, name: &str, value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        Value::Bool(true) => shell.say("evidence-yes"),
        Value::Bool(false) => shell.say("evidence-no"),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(at_ms), _) if name.ends_with("_at_ms") => shell.moments.absolute(at_ms),
            (Some(n), _) => grouped(n),
            (None, Some(n)) => rounded(n),
            (None, None) => number.to_string(),
        },
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(|item| text(shell, name, item)).collect::<Vec<_>>().join(" · "),
        Value::Object(_) => value.to_string(),
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
