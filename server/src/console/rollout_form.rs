//! The form of a rollout: what a person typed, field by field, and the rollout that it means.
//!
//! Whatever is wrong is said beside its field, and nothing that was typed is lost: the same values fill the form again.
//! Rows (stages, windows, announcements) have numbered fields; empty rows do not count.

mod fill;
mod read;

use std::collections::BTreeMap;

use askama::filters::HtmlSafe;

use super::chart::escaped;
use super::shell::Shell;
use crate::rollouts::strategy::{STAGES_MAX, WINDOWS_MAX};

/// Rows that an empty form shows.
const STAGE_ROWS: usize = 5;
const WINDOW_ROWS: usize = 1;
const ANNOUNCEMENT_ROWS: usize = 1;
/// Announcements that the form takes; REST takes more.
const ANNOUNCEMENT_ROWS_MAX: usize = 20;
/// Rows that one press adds.
const ROWS_ADDED: usize = 2;
/// Units of a span, as the choice has them.
const UNITS: [&str; 4] = ["s", "m", "h", "d"];

/// Fields that stand once.
const FIELDS: [&str; 41] = [
    "name",
    "subject",
    "release_id",
    "profile_id",
    "layer",
    "layer_organization",
    "layer_tag",
    "organization_id",
    "models",
    "firmware",
    "tags",
    "sns",
    "without_tags",
    "without_sns",
    "method",
    "ends",
    "starts",
    "hold_back",
    "soak",
    "soak_unit",
    "in_flight",
    "in_flight_site",
    "wifi_only",
    "retry_max",
    "retry_wait",
    "retry_wait_unit",
    "timeout",
    "timeout_unit",
    "priority",
    "budget",
    "watch",
    "watch_unit",
    "opens_stages",
    "revises",
    "of_rollout",
    "of_phases",
    "stage_rows",
    "window_rows",
    "announcement_rows",
    "add",
    "plan",
];
/// Fields of rows; a number follows.
const ROW_FIELDS: [&str; 7] =
    ["stage_kind_", "stage_", "window_from_", "window_until_", "window_days_", "told_", "told_at_"];

/// A piece of a page that was escaped where it was made.
pub(super) struct Markup(pub(super) String);

impl std::fmt::Display for Markup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl HtmlSafe for Markup {}

/// What a person typed, by the names of the fields, and what is wrong with it.
#[derive(Debug, Clone, Default)]
pub(super) struct Typed {
    values: Vec<(String, String)>,
    wrong: BTreeMap<String, String>,
}

impl Typed {
    /// The fields of a form.
    ///
    /// # Errors
    /// The name of a field that the form does not have.
    pub(super) fn of(values: Vec<(String, String)>) -> Result<Self, String> {
        let is_known = |name: &str| {
            let is_row = |field: &str| {
                name.strip_prefix(field).is_some_and(|row| row.parse::<usize>().is_ok_and(|row| row < STAGES_MAX * 2))
            };
            FIELDS.contains(&name) || ROW_FIELDS.iter().any(|field| is_row(field))
        };
        match values.iter().find(|(name, _)| !is_known(name)) {
            Some((name, _)) => Err(name.clone()),
            None => Ok(Self { values, wrong: BTreeMap::new() }),
        }
    }

    /// An empty form with the strategy that is recommended.
    pub(super) fn recommended() -> Self {
        let mut typed = Self::default();
        typed.set("subject", "release");
        typed.recommend();
        typed
    }

    /// The value of a field; empty when it was left so.
    pub(super) fn value(&self, name: &str) -> &str {
        self.values.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.as_str())
    }

    /// Whether a field has this value, also as one of several.
    pub(super) fn has(&self, name: &str, value: &str) -> bool {
        self.values.iter().any(|(known, each)| known == name && each == value)
    }

    /// As [`Self::value`], of a row.
    pub(super) fn row(&self, field: &str, row: &usize) -> &str {
        self.value(&format!("{field}{row}"))
    }

    /// As [`Self::has`], of a row.
    pub(super) fn row_has(&self, field: &str, row: &usize, value: &str) -> bool {
        self.has(&format!("{field}{row}"), value)
    }

    pub(super) fn set(&mut self, name: &str, value: impl Into<String>) {
        self.values.retain(|(known, _)| known != name);
        self.add_value(name, value);
    }

    fn add_value(&mut self, name: &str, value: impl Into<String>) {
        let value = value.into();
        if !value.is_empty() {
            self.values.push((name.to_owned(), value));
        }
    }

    /// Notes what is wrong with a field.
    pub(super) fn refuse(&mut self, shell: &Shell, field: &str, words: &str) {
        let text = shell.word("rollout-field", words);
        self.wrong.entry(field.to_owned()).or_insert(text);
    }

    /// Notes a sentence about a field.
    pub(super) fn refuse_with(&mut self, field: &str, sentence: String) {
        self.wrong.entry(field.to_owned()).or_insert(sentence);
    }

    pub(super) fn is_good(&self) -> bool {
        self.wrong.is_empty()
    }

    /// Every field with something wrong, in the order of their names, for the list above the form.
    pub(super) fn problems(&self) -> impl Iterator<Item = (&str, &str)> {
        self.wrong.iter().map(|(field, text)| (field.as_str(), text.as_str()))
    }

    /// What ties a field to what is wrong with it.
    pub(super) fn aria(&self, field: &str) -> Markup {
        Markup(match self.wrong.contains_key(field) {
            true => format!(r#" aria-invalid="true" aria-describedby="{0}-wrong""#, escaped(field)),
            false => String::new(),
        })
    }

    /// What is wrong with a field, below it.
    pub(super) fn wrong(&self, field: &str) -> Markup {
        Markup(self.wrong.get(field).map_or_else(String::new, |text| {
            format!(r#"<small class="wrong" id="{}-wrong">{}</small>"#, escaped(field), escaped(text))
        }))
    }

    /// A span of time: a number and its unit.
    pub(super) fn span(&self, shell: &Shell, field: &str) -> Markup {
        let unit_field = format!("{field}_unit");
        let units: String = UNITS
            .into_iter()
            .map(|unit| {
                let chosen = if self.value(&unit_field) == unit { " selected" } else { "" };
                format!(r#"<option value="{unit}"{chosen}>{}</option>"#, escaped(&shell.word("span-unit", unit)))
            })
            .collect();
        Markup(format!(
            r#"<span class="pair"><input id="{field}" name="{field}" value="{}" inputmode="numeric" maxlength="6" autocomplete="off"{}><select name="{unit_field}" aria-label="{}">{units}</select></span>{}"#,
            escaped(self.value(field)),
            self.aria(field),
            escaped(&shell.say("form-unit")),
            self.wrong(field),
        ))
    }

    fn rows(&self, count_field: &str, fields: &[&str], usual: usize, most: usize) -> Vec<usize> {
        let is_used = |row: &usize| fields.iter().any(|field| !self.row(field, row).is_empty());
        let used = (0..most).rev().find(is_used).map_or(0, |row| row + 1);
        let asked = self.value(count_field).parse().unwrap_or(usual);
        (0..used.max(asked).max(1).min(most)).collect()
    }

    /// Rows of stages that the form shows.
    pub(super) fn stage_rows(&self) -> Vec<usize> {
        self.rows("stage_rows", &["stage_"], STAGE_ROWS, STAGES_MAX)
    }

    /// Rows of windows that the form shows.
    pub(super) fn window_rows(&self) -> Vec<usize> {
        self.rows("window_rows", &["window_from_", "window_until_"], WINDOW_ROWS, WINDOWS_MAX)
    }

    /// Rows of announcements that the form shows.
    pub(super) fn announcement_rows(&self) -> Vec<usize> {
        self.rows("announcement_rows", &["told_", "told_at_"], ANNOUNCEMENT_ROWS, ANNOUNCEMENT_ROWS_MAX)
    }

    /// Does what a button of the form asks for that saves nothing: more rows, or another plan.
    pub(super) fn arrange(&mut self) {
        let (count_field, shown) = match self.value("add") {
            "stages" => ("stage_rows", self.stage_rows().len()),
            "windows" => ("window_rows", self.window_rows().len()),
            "announcements" => ("announcement_rows", self.announcement_rows().len()),
            _ => ("", 0),
        };
        if !count_field.is_empty() {
            self.set(count_field, (shown + ROWS_ADDED).to_string());
        }
        match self.value("plan").to_owned().as_str() {
            "recommended" => self.recommend(),
            "at_once" => self.at_once(),
            _ => {}
        }
        self.set("add", "");
        self.set("plan", "");
    }
}

/// The form's field for the name of a field's words.
pub(super) fn field_of_words(words: &str) -> &str {
    match words {
        "subject" => "release_id",
        "organization" => "organization_id",
        "terminals" => "sns",
        "without-terminals" => "without_sns",
        "without-tags" => "without_tags",
        "hold-back" => "hold_back",
        "in-flight" => "in_flight",
        "in-flight-site" => "in_flight_site",
        "retry-max" => "retry_max",
        "retry-wait" => "retry_wait",
        other => other,
    }
}

#[cfg(test)]
mod tests;
