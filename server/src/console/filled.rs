//! A form as a person filled it in: its values fill it again, and what is wrong stands beside its field.

use std::collections::BTreeMap;

use super::chart::escaped;
use super::refusals;
use super::rollout_form::Markup;
use super::shell::Shell;
use crate::http::problem::Problem;

/// What was typed, by the names of the fields, and what is wrong with it.
#[derive(Debug, Clone, Default)]
pub(super) struct Filled {
    values: Vec<(String, String)>,
    wrong: BTreeMap<String, String>,
}

impl Filled {
    /// The fields of a form that has these and no others.
    ///
    /// # Errors
    /// 422 naming a field that the form does not have.
    pub(super) fn of(values: Vec<(String, String)>, known: &[&str]) -> Result<Self, Problem> {
        match values.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            Some((name, _)) => Err(Problem::invalid(name.clone(), "is not a field of this form")),
            None => Ok(Self { values, wrong: BTreeMap::new() }),
        }
    }

    /// The value of a field; empty when it was left so.
    pub(super) fn value(&self, name: &str) -> &str {
        self.values.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.as_str())
    }

    /// Every value of a field that may have several.
    pub(super) fn all(&self, name: &str) -> Vec<String> {
        self.values.iter().filter(|(known, _)| known == name).map(|(_, value)| value.clone()).collect()
    }

    /// Whether a field has this value, also as one of several.
    pub(super) fn has(&self, name: &str, value: &str) -> bool {
        self.values.iter().any(|(known, each)| known == name && each == value)
    }

    /// Whether a box is ticked.
    pub(super) fn is_ticked(&self, name: &str) -> bool {
        !self.value(name).is_empty()
    }

    /// A number; `None` when the field is empty. Something else is refused.
    pub(super) fn number(&mut self, shell: &Shell, name: &str) -> Option<i64> {
        let text = self.value(name).to_owned();
        if text.is_empty() {
            return None;
        }
        let number = text.parse().ok();
        if number.is_none() {
            self.refuse(shell, name, "must be a number");
        }
        number
    }

    /// Lines, or what stands between commas and spaces.
    pub(super) fn list(&self, name: &str) -> Vec<String> {
        let parts = self.value(name).split(|c: char| c.is_whitespace() || matches!(c, ',' | ';' | '，' | '；' | '、'));
        parts.filter(|part| !part.is_empty()).map(str::to_owned).collect()
    }

    /// Sets a value that the form starts with.
    pub(super) fn fill(&mut self, name: &str, value: impl Into<String>) {
        let value = value.into();
        if !value.is_empty() {
            self.values.push((name.to_owned(), value));
        }
    }

    /// Notes why a field was refused, in the reader's language.
    pub(super) fn refuse(&mut self, shell: &Shell, field: &str, problem: &str) {
        let text = refusals::translated(shell.language, problem).unwrap_or_else(|| problem.to_owned());
        self.wrong.entry(field.to_owned()).or_insert(text);
    }

    pub(super) fn is_good(&self) -> bool {
        self.wrong.is_empty()
    }

    /// Every field with something wrong, for the list above the form.
    pub(super) fn problems(&self) -> Vec<(String, String)> {
        self.wrong.iter().map(|(field, text)| (field.clone(), text.clone())).collect()
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
}
