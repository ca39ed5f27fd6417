//! The editor of a mapping: which column is which field, and how its cells are written.

use std::collections::BTreeMap;

use super::shell::Shell;
use crate::http::problem::Problem;
use crate::imports::mapping::{Field, Holds, Mapping, Word, plain};
use crate::imports::values::{RateUnit, Unit};

/// One field with its column.
pub(super) struct FieldLine {
    pub(super) name: &'static str,
    pub(super) word: String,
    pub(super) is_required: bool,
    pub(super) value: String,
    pub(super) columns: Vec<(String, bool)>,
}

/// The form as it is filled.
pub(super) struct MappingForm {
    pub(super) lines: Vec<FieldLine>,
    pub(super) units: Vec<(&'static str, bool)>,
    pub(super) rates: Vec<(&'static str, bool)>,
    pub(super) offset_min: i64,
    /// Words as lines of `field:says=means`.
    pub(super) words: String,
    pub(super) rows_path: String,
}

/// For a file: columns are chosen among its headings.
pub(super) fn of_file(shell: &Shell, fields: &'static [Field], mapping: &Mapping, headings: &[String]) -> MappingForm {
    form(shell, fields, mapping, |column| {
        headings
            .iter()
            .map(|heading| (heading.clone(), column.is_some_and(|column| plain(column) == plain(heading))))
            .collect()
    })
}

/// For callbacks: members are named by their paths.
pub(super) fn of_paths(shell: &Shell, fields: &'static [Field], mapping: &Mapping) -> MappingForm {
    form(shell, fields, mapping, |_| Vec::new())
}

fn form(
    shell: &Shell,
    fields: &'static [Field],
    mapping: &Mapping,
    columns: impl Fn(Option<&String>) -> Vec<(String, bool)>,
) -> MappingForm {
    let line = |field: &'static Field| {
        let column = mapping.columns.get(field.name);
        FieldLine {
            name: field.name,
            word: shell.word("feed-field", field.name),
            is_required: field.is_required,
            value: column.cloned().unwrap_or_default(),
            columns: columns(column),
        }
    };
    let word = |word: &Word| format!("{}:{}={}", word.field, word.says, word.means);
    MappingForm {
        lines: fields.iter().map(line).collect(),
        units: vec![("yuan", mapping.unit == Unit::Yuan), ("fen", mapping.unit == Unit::Fen)],
        rates: vec![
            ("percent", mapping.rate_unit == RateUnit::Percent),
            ("fraction", mapping.rate_unit == RateUnit::Fraction),
        ],
        offset_min: mapping.utc_offset_min,
        words: mapping.words.iter().map(word).collect::<Vec<_>>().join("\n"),
        rows_path: mapping.rows_path.clone().unwrap_or_default(),
    }
}

/// The mapping that a form says; `before` where the form says nothing about columns at all.
///
/// # Errors
/// 422 for a number or a line that cannot be read.
pub(super) fn sent(
    sent: &BTreeMap<String, String>,
    fields: &'static [Field],
    before: &Mapping,
) -> Result<Mapping, Problem> {
    if !sent.keys().any(|name| name.starts_with("column_") || name == "unit") {
        return Ok(before.clone());
    }
    let text = |name: &str| sent.get(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let columns =
        fields.iter().filter_map(|field| Some((field.name.to_owned(), text(&format!("column_{}", field.name))?)));
    let number = |name: &'static str, text: String| {
        text.parse::<i64>().map_err(|_| Problem::invalid(name, "is not a whole number"))
    };
    Ok(Mapping {
        columns: columns.collect(),
        unit: if text("unit").as_deref() == Some("fen") { Unit::Fen } else { Unit::Yuan },
        rate_unit: if text("rate_unit").as_deref() == Some("fraction") {
            RateUnit::Fraction
        } else {
            RateUnit::Percent
        },
        utc_offset_min: text("utc_offset_min")
            .map_or(Ok(before.utc_offset_min), |text| number("utc_offset_min", text))?,
        words: text("words").map_or(Ok(Vec::new()), |text| text.lines().map(word).collect())?,
        number_form: before.number_form.clone(),
        rows_path: text("rows_path"),
    })
}

/// `status:S=success`.
fn word(line: &str) -> Result<Word, Problem> {
    let refused = || Problem::invalid("words", "must be lines like status:S=success");
    let (field, rest) = line.trim().split_once(':').ok_or_else(refused)?;
    let (says, means) = rest.rsplit_once('=').ok_or_else(refused)?;
    let trimmed = |text: &str| text.trim().to_owned();
    Ok(Word { field: trimmed(field), says: trimmed(says), means: trimmed(means) })
}

/// A value of a preview as a person reads it: money in yuan, rates in percent, moments as times, and words in the page's
/// language.
pub(super) fn shown(shell: &Shell, fields: &[Field], name: &str, value: String) -> String {
    let known = fields.iter().find(|known| known.name == name);
    let number = value.parse::<i64>();
    match (known.map(|field| field.holds), number) {
        (Some(Holds::Money), Ok(fen)) => yuan(fen),
        (Some(Holds::Rate), Ok(ppm)) => format!("{}.{:04}%", ppm / 10_000, ppm % 10_000),
        (Some(Holds::Moment), Ok(at_ms)) => shell.moments.absolute(at_ms),
        (Some(Holds::Flag), Ok(1)) => shell.say("evidence-yes"),
        (Some(Holds::Flag), Ok(0)) => shell.say("evidence-no"),
        (Some(Holds::Word(_)), _) => match name {
            "transaction" | "stage" | "access" => shell.word(name, &value),
            _ => shell.word(&format!("feed-word-{name}"), &value),
        },
        _ => value,
    }
}

/// `-12.30`.
pub(super) fn yuan(fen: i64) -> String {
    let sign = if fen < 0 { "-" } else { "" };
    let abs = fen.unsigned_abs();
    format!("{sign}{}.{:02}", abs / 100, abs % 100)
}
