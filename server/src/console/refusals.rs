//! Refusals in the reader's language.
//!
//! Domains say why they refuse once, in English, for programs and logs too. The texts' family `refusal` has each of
//! those sentences with its values as variables: its English side is the form by which a sentence is recognised, its
//! other sides are what people read. A variable named like a family of words (`lifecycle`, `role`) is put into words
//! as well. A sentence of no known form is shown as it is; a test finds those in the sources.

use std::sync::LazyLock;

use super::i18n::Language;

/// What the keys of the forms begin with.
const FAMILY: &str = "refusal-";

/// A sentence with places for values.
struct Form {
    key: &'static str,
    /// Text around the values: one piece more than there are values.
    pieces: Vec<&'static str>,
    values: Vec<&'static str>,
}

static FORMS: LazyLock<Vec<Form>> = LazyLock::new(|| {
    let lines = Language::English.source().lines();
    let mut forms: Vec<Form> = lines.filter_map(form).collect();
    // The most particular form that fits is the right one.
    forms.sort_by_key(|form| std::cmp::Reverse(form.pieces.iter().map(|piece| piece.len()).sum::<usize>()));
    forms
});

fn form(line: &'static str) -> Option<Form> {
    let (key, text) = line.split_once(" = ").filter(|(key, _)| key.starts_with(FAMILY))?;
    let mut places = text.split("{ $");
    let mut pieces = vec![places.next()?];
    let mut values = Vec::new();
    for place in places {
        let (value, piece) = place.split_once(" }")?;
        values.push(value);
        pieces.push(piece);
    }
    Some(Form { key, pieces, values })
}

impl Form {
    /// The values in `sentence`, when it has this form.
    fn values_in<'a>(&self, sentence: &'a str) -> Option<Vec<&'a str>> {
        let (first, others) = self.pieces.split_first()?;
        let mut rest = sentence.strip_prefix(first)?;
        let Some((last, middle)) = others.split_last() else { return rest.is_empty().then(Vec::new) };
        let mut values = Vec::new();
        for piece in middle {
            let (value, after) = rest.split_once(piece)?;
            values.push(value);
            rest = after;
        }
        values.push(rest.strip_suffix(last)?);
        Some(values)
    }
}

/// `detail` in `language`; `None` when it has no known form.
pub(super) fn translated(language: Language, detail: &str) -> Option<String> {
    let sentence = plain(detail);
    let (form, values) = FORMS.iter().find_map(|form| Some((form, form.values_in(&sentence)?)))?;
    let words: Vec<String> = form.values.iter().zip(values).map(|(name, value)| word(language, name, value)).collect();
    let named: Vec<(&'static str, &str)> = form.values.iter().copied().zip(words.iter().map(String::as_str)).collect();
    Some(language.with_values(form.key, &named))
}

/// A value in words: a reason may be a sentence of a known form itself.
fn word(language: Language, name: &str, value: &str) -> String {
    if name == "why" {
        return translated(language, value).unwrap_or_else(|| value.to_owned());
    }
    language.word(name, value)
}

/// Without the capital letter and the full stop that make it a sentence.
fn plain(detail: &str) -> String {
    let text = detail.trim().trim_end_matches('.');
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
#[path = "refusals_tests.rs"]
mod tests;
