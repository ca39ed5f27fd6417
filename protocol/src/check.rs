//! Range and shape checks that name the field they refuse.

use std::fmt::{Debug, Display};
use std::ops::RangeInclusive;

/// One field that was refused: where it is and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct FieldError {
    /// Path of the field in the message, for example `failures[2].condition.rsrp_dbm`.
    pub field: String,
    /// What is wrong and what would be right.
    pub problem: String,
}

impl FieldError {
    /// An error at `field`.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }

    /// The same error one level further out: `parent.field`.
    pub fn under(mut self, parent: &str) -> Self {
        self.field = format!("{parent}.{}", self.field);
        self
    }

    /// The same error inside element `index` of a list: `parent[index].field`.
    pub fn at(mut self, parent: &str, index: usize) -> Self {
        self.field = format!("{parent}[{index}].{}", self.field);
        self
    }
}

/// A message part that knows which of its values are possible.
pub trait Check {
    /// Checks every field.
    ///
    /// # Errors
    /// The first field whose value is impossible, by its path relative to `self`.
    fn check(&self) -> Result<(), FieldError>;
}

pub(crate) fn in_range<T>(field: &str, value: Option<T>, range: RangeInclusive<T>, unit: &str) -> Result<(), FieldError>
where
    T: PartialOrd + Display + Copy + Debug,
{
    match value {
        Some(value) if !range.contains(&value) => {
            let space = if unit.is_empty() { "" } else { " " };
            Err(FieldError::new(
                field,
                format!("must be between {} and {}{space}{unit}, was {value}", range.start(), range.end()),
            ))
        }
        Some(_) | None => Ok(()),
    }
}

/// Short machine-made text: at most `max` bytes of visible ASCII.
pub(crate) fn short_ascii(field: &str, value: Option<&str>, max: usize) -> Result<(), FieldError> {
    match value {
        Some(text) if text.len() > max => {
            Err(FieldError::new(field, format!("must be at most {max} bytes, was {}", text.len())))
        }
        Some(text) if !text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) => {
            Err(FieldError::new(field, "must be visible ASCII"))
        }
        Some(_) | None => Ok(()),
    }
}

/// Exactly `digits` decimal digits, at least `digits.start()` and at most `digits.end()`.
pub(crate) fn digits(field: &str, value: Option<&str>, count: RangeInclusive<usize>) -> Result<(), FieldError> {
    match value {
        Some(text) if !count.contains(&text.len()) || !text.bytes().all(|byte| byte.is_ascii_digit()) => {
            Err(FieldError::new(field, format!("must be {} to {} digits", count.start(), count.end())))
        }
        Some(_) | None => Ok(()),
    }
}

/// Free text: bounded, without control characters, without card data.
pub(crate) fn free_text(field: &str, value: Option<&str>, max: usize) -> Result<(), FieldError> {
    let Some(text) = value else { return Ok(()) };
    if text.len() > max {
        return Err(FieldError::new(field, format!("must be at most {max} bytes, was {}", text.len())));
    }
    if text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
        return Err(FieldError::new(field, "must not contain control characters"));
    }
    if crate::pan::contains_card_data(text) {
        // The value itself is never repeated.
        return Err(FieldError::new(field, "looks like card data, which is never accepted; mask it on the terminal"));
    }
    Ok(())
}
