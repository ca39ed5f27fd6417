//! JSON in and out by way of [`Value`]: each type's reader then exists once in the program, which keeps it small.

use serde::Serialize;
use serde::de::{DeserializeOwned, Error as _};
use serde_json::{Error, Map, Value};

/// Reads a `T`.
///
/// # Errors
/// What is wrong with the text or its shape.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_value(serde_json::from_slice(bytes)?)
}

/// Reads an object without knowing its fields.
///
/// # Errors
/// When the text is not JSON or not an object.
pub fn object(bytes: &[u8]) -> Result<Map<String, Value>, Error> {
    match serde_json::from_slice(bytes)? {
        Value::Object(fields) => Ok(fields),
        _ => Err(Error::custom("must be an object")),
    }
}

/// `value` as a [`Value`]; null if it has no JSON form.
pub fn value<T: Serialize>(value: &T) -> Value {
    serde_json::to_vec(value).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or(Value::Null)
}
