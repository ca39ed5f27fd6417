//! Texts in Chinese and English, compiled in. Templates and handlers name keys; words become text only here.
//!
//! Names that the server keeps in tables (states, phases, reasons) are words of a *family*: `lifecycle-active` is the
//! word `active` of the family `lifecycle`. An unknown name is shown as it is, never guessed.

use std::fmt::Display;
use std::sync::LazyLock;

use fluent_bundle::concurrent::FluentBundle;
use fluent_bundle::{FluentArgs, FluentResource, FluentValue};

/// A language of the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// Simplified Chinese, the first language.
    Chinese,
    /// English.
    English,
}

impl Language {
    /// Every language.
    pub const ALL: [Self; 2] = [Self::Chinese, Self::English];

    /// Tag as in `lang` attributes and in the operators' table.
    pub fn tag(self) -> &'static str {
        match self {
            Self::Chinese => "zh-CN",
            Self::English => "en",
        }
    }

    /// The language of this tag.
    pub fn of_tag(tag: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|language| language.tag() == tag)
    }

    /// The first known language of an `Accept-Language` header, Chinese when there is none.
    pub fn of_header(accept: &str) -> Self {
        let wanted = accept.split(',').map(|part| part.split(';').next().unwrap_or_default().trim().to_lowercase());
        let known = wanted.filter_map(|tag| match tag.split('-').next() {
            Some("zh") => Some(Self::Chinese),
            Some("en") => Some(Self::English),
            _ => None,
        });
        known.into_iter().next().unwrap_or(Self::Chinese)
    }

    /// Its texts as they were written.
    pub(super) fn source(self) -> &'static str {
        match self {
            Self::Chinese => include_str!("../../locales/zh-CN.ftl"),
            Self::English => include_str!("../../locales/en.ftl"),
        }
    }

    fn bundle(self) -> &'static FluentBundle<FluentResource> {
        static CHINESE: LazyLock<FluentBundle<FluentResource>> = LazyLock::new(|| load(Language::Chinese));
        static ENGLISH: LazyLock<FluentBundle<FluentResource>> = LazyLock::new(|| load(Language::English));
        match self {
            Self::Chinese => &CHINESE,
            Self::English => &ENGLISH,
        }
    }

    fn has(self, key: &str) -> bool {
        self.bundle().has_message(key)
    }

    /// The text of `key`.
    pub fn say(self, key: &str) -> String {
        self.format(key, None)
    }

    /// The text of `key` with one value in it.
    pub fn with(self, key: &str, name: &'static str, value: impl Display) -> String {
        let mut args = FluentArgs::new();
        args.set(name, value.to_string());
        self.format(key, Some(&args))
    }

    /// The text of `key` with two values in it.
    pub fn with_two(self, key: &str, first: (&'static str, &str), second: (&'static str, &str)) -> String {
        self.with_values(key, &[first, second])
    }

    /// The text of `key` with several values in it.
    pub fn with_values(self, key: &str, values: &[(&'static str, &str)]) -> String {
        let mut args = FluentArgs::new();
        for (name, value) in values {
            args.set(*name, (*value).to_owned());
        }
        self.format(key, Some(&args))
    }

    /// As [`Self::with_values`], for names that are only known at run time.
    pub fn with_any(self, key: &str, values: &[(&str, &str)]) -> String {
        let mut args = FluentArgs::new();
        for (name, value) in values {
            args.set((*name).to_owned(), (*value).to_owned());
        }
        self.format(key, Some(&args))
    }

    /// The text of `key` with the number `n`, in its plural form.
    pub fn count(self, key: &str, n: impl TryInto<i64>) -> String {
        let n: i64 = n.try_into().unwrap_or(i64::MAX);
        let mut args = FluentArgs::new();
        args.set("n", FluentValue::from(n));
        args.set("count", grouped(n));
        self.format(key, Some(&args))
    }

    /// The word for `name` of `family`, or the name itself when the family has no such word.
    pub fn word(self, family: &str, name: &str) -> String {
        let key = format!("{family}-{name}");
        if self.has(&key) { self.say(&key) } else { name.to_owned() }
    }

    fn format(self, key: &str, args: Option<&FluentArgs<'_>>) -> String {
        let bundle = self.bundle();
        let Some(pattern) = bundle.get_message(key).and_then(|message| message.value()) else {
            tracing::warn!(key, language = self.tag(), "a text is missing");
            return key.to_owned();
        };
        let mut errors = Vec::new();
        let text = bundle.format_pattern(pattern, args, &mut errors).into_owned();
        if !errors.is_empty() {
            tracing::warn!(key, ?errors, "a text lacks a value");
        }
        text
    }
}

/// The sources are checked by tests; what a damaged one still yields is used.
fn load(language: Language) -> FluentBundle<FluentResource> {
    let locale = language.tag().parse().ok();
    let mut bundle = FluentBundle::new_concurrent(locale.into_iter().collect());
    // Isolation marks are for mixed writing directions, which neither language has.
    bundle.set_use_isolating(false);
    let resource = FluentResource::try_new(language.source().to_owned()).unwrap_or_else(|(resource, errors)| {
        tracing::error!(language = language.tag(), ?errors, "texts are damaged");
        resource
    });
    if let Err(errors) = bundle.add_resource(resource) {
        tracing::error!(language = language.tag(), ?errors, "texts are given twice");
    }
    bundle
}

/// `1234567` as `1,234,567`.
pub fn grouped(n: i64) -> String {
    let digits = n.unsigned_abs().to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3 + 1);
    if n < 0 {
        text.push('-');
    }
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
#[path = "i18n_tests.rs"]
mod tests;
