//! Which answers are an operator's error, and what to teach: data with its provenance.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde::Deserialize;

use super::OperatorError;

#[derive(Deserialize)]
struct Code {
    code: String,
    error: OperatorError,
}

#[derive(Deserialize)]
struct Lesson {
    error: OperatorError,
    zh: Vec<String>,
    en: Vec<String>,
}

#[derive(Deserialize, Default)]
struct InBoth {
    zh: String,
    en: String,
}

#[derive(Deserialize, Default)]
struct Seed {
    source: InBoth,
    date: String,
    codes: Vec<Code>,
    teach: Vec<Lesson>,
}

static SEED: LazyLock<Seed> = LazyLock::new(|| {
    // A test reads it; a damaged one would teach nothing, which is said.
    serde_json::from_str(include_str!("../../../data/operator_guidance.json")).unwrap_or_else(|error| {
        tracing::error!(%error, "the operators' guidance that comes with the program cannot be read");
        Seed::default()
    })
});

static CODES: LazyLock<HashMap<&'static str, OperatorError>> =
    LazyLock::new(|| SEED.codes.iter().map(|row| (row.code.as_str(), row.error)).collect());

/// The operator's error that a response code stands for.
pub(super) fn of_code(code: &str) -> Option<OperatorError> {
    CODES.get(code).copied()
}

/// What to teach against an error, in Chinese or in English.
pub fn teach(error: OperatorError, is_chinese: bool) -> &'static [String] {
    let lesson = SEED.teach.iter().find(|lesson| lesson.error == error);
    lesson.map_or(&[], |lesson| if is_chinese { &lesson.zh } else { &lesson.en })
}

/// Where this comes from, in Chinese or in English, and of when it is.
pub fn provenance(is_chinese: bool) -> (&'static str, &'static str) {
    let source = if is_chinese { &SEED.source.zh } else { &SEED.source.en };
    (source, &SEED.date)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_is_taught_in_both_languages_and_the_codes_are_those_of_the_table() {
        for error in OperatorError::ALL {
            assert!(!teach(error, true).is_empty(), "{error:?}");
            assert_eq!(teach(error, true).len(), teach(error, false).len(), "{error:?}");
            assert_eq!(OperatorError::parse(error.as_str()), Some(error));
        }
        let known = ["38", "55", "75", "13", "64", "12", "22", "91", "00"].map(of_code);
        use OperatorError::{Amount, NotSignedIn, Pin};
        let (pin, amount, sign_in) = (Some(Pin), Some(Amount), Some(NotSignedIn));
        assert_eq!(known, [pin, pin, pin, amount, amount, sign_in, sign_in, None, None]);
        for is_chinese in [true, false] {
            let (source, date) = provenance(is_chinese);
            assert!(source.contains("8583") && source.is_ascii() != is_chinese && date.starts_with("20"), "{source}");
        }
    }
}
