//! Parameters: their limits and the canonical bytes whose SHA-256 is the config hash.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tillward_protocol::FieldError;

use crate::text;

/// Most parameters of one profile.
const PARAMETERS_MAX: usize = 256;
/// Longest name of a parameter, bytes.
const KEY_BYTES_MAX: usize = 64;
/// Longest text of a parameter, bytes.
const TEXT_BYTES_MAX: usize = 1_024;
/// Most canonical bytes: a terminal with little memory reads them at once.
const BODY_BYTES_MAX: usize = 32 * 1_024;
/// Most canonical bytes of what all layers give a terminal together; agents read up to 1 MiB.
pub(super) const EFFECTIVE_BYTES_MAX: usize = 128 * 1_024;
/// Largest and smallest number: what every JSON reader on a terminal holds exactly.
const INTEGER_MAX: i64 = (1 << 53) - 1;
/// The value of a parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum Parameter {
    /// Yes or no.
    Flag(bool),
    /// A whole number.
    Integer(i64),
    /// Text.
    Text(String),
}

/// Checks the parameters and returns their canonical bytes.
pub(super) fn canonical(parameters: &BTreeMap<String, Parameter>) -> Result<String, FieldError> {
    let refused = |key: &str, problem: &str| Err(FieldError::new(format!("parameters.{key}"), problem));
    if parameters.len() > PARAMETERS_MAX {
        return Err(FieldError::new("parameters", format!("at most {PARAMETERS_MAX}")));
    }
    for (key, value) in parameters {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        if key.is_empty() || key.len() > KEY_BYTES_MAX || !key.bytes().all(allowed) {
            let problem = format!("names must be 1 to {KEY_BYTES_MAX} letters, digits, `_`, `.` or `-`");
            return Err(FieldError::new("parameters", problem));
        }
        match value {
            Parameter::Flag(_) => {}
            Parameter::Integer(number) if !(-INTEGER_MAX..=INTEGER_MAX).contains(number) => {
                return refused(key, "must be between -(2^53 - 1) and 2^53 - 1");
            }
            Parameter::Integer(_) => {}
            Parameter::Text(value) if value.len() > TEXT_BYTES_MAX => {
                return refused(key, &format!("must be at most {TEXT_BYTES_MAX} bytes"));
            }
            Parameter::Text(value) if value.chars().any(char::is_control) => {
                return refused(key, "must not contain control characters");
            }
            Parameter::Text(value) => text::guarded(&format!("parameters.{key}"), value)?,
        }
    }
    bytes(parameters, BODY_BYTES_MAX)
}

/// The canonical bytes of parameters that were checked, at most `bytes_max` of them.
pub(super) fn bytes(parameters: &BTreeMap<String, Parameter>, bytes_max: usize) -> Result<String, FieldError> {
    let unwritable = || FieldError::new("parameters", "cannot be written as canonical JSON");
    let value = serde_json::to_value(parameters).map_err(|_| unwritable())?;
    let bytes = sigstore_tuf::canonical_json::to_canonical_bytes(&value).map_err(|_| unwritable())?;
    if bytes.len() > bytes_max {
        return Err(FieldError::new("parameters", format!("at most {bytes_max} bytes together")));
    }
    String::from_utf8(bytes).map_err(|_| unwritable())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(json: &str) -> BTreeMap<String, Parameter> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn the_same_parameters_have_the_same_bytes_in_any_order() {
        let one = canonical(&parameters(r#"{"b": true, "a": "x", "c": -3}"#)).unwrap();
        assert_eq!(one, r#"{"a":"x","b":true,"c":-3}"#);
        assert_eq!(canonical(&parameters(r#"{"c":-3,"a":"x","b":true}"#)).unwrap(), one);
    }

    #[test]
    fn impossible_parameters_are_refused_by_name() {
        for (json, field) in [
            (r#"{"a b": 1}"#.to_owned(), "parameters"),
            (format!(r#"{{"{}": 1}}"#, "k".repeat(65)), "parameters"),
            (r#"{"n": 9007199254740992}"#.to_owned(), "parameters.n"),
            (format!(r#"{{"t": "{}"}}"#, "x".repeat(1_025)), "parameters.t"),
            (r#"{"t": "a\nb"}"#.to_owned(), "parameters.t"),
            (r#"{"t": "4111111111111111"}"#.to_owned(), "parameters.t"),
        ] {
            assert_eq!(canonical(&parameters(&json)).unwrap_err().field, field, "{json}");
        }
        let many: BTreeMap<String, Parameter> = (0..257).map(|n| (format!("k{n}"), Parameter::Integer(n))).collect();
        assert_eq!(canonical(&many).unwrap_err().field, "parameters");
        assert!(serde_json::from_str::<Parameter>("1.5").is_err());
        assert!(serde_json::from_str::<Parameter>("{}").is_err());
    }
}
