//! What names and notes that people type may look like. Domains check with these before they store anything.

use tillward_protocol::FieldError;

/// Longest name of a thing, characters: two lines of a table's cell.
pub const NAME_CHARS_MAX: usize = 100;

/// A name: trimmed, 1–100 characters, on one line, no card data.
///
/// # Errors
/// [`FieldError`] naming `field`; it never repeats the text.
pub fn name(field: &str, text: &str) -> Result<String, FieldError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(FieldError::new(field, "must not be empty"));
    }
    if text.chars().count() > NAME_CHARS_MAX {
        return Err(FieldError::new(field, format!("must be at most {NAME_CHARS_MAX} characters")));
    }
    if text.chars().any(|c| c.is_control() || is_deceptive(c)) {
        return Err(FieldError::new(field, "must not contain control or direction characters"));
    }
    guarded(field, text)?;
    Ok(text.to_owned())
}

/// What a refusal of card data says; nothing of the text itself is ever repeated.
pub const CARD_DATA: &str = "looks like card data, which is never accepted";

/// Any text that people or programs write freely: no card data. The one way by which the server asks.
///
/// # Errors
/// [`FieldError`] naming `field`; it never repeats the text.
pub fn guarded(field: &str, text: &str) -> Result<(), FieldError> {
    if !tillward_protocol::pan::contains_card_data(text) {
        return Ok(());
    }
    metrics::counter!("tillward_card_data_refused_total").increment(1);
    Err(FieldError::new(field, CARD_DATA))
}

/// Characters that make text read differently from what it is: invisible ones and those that turn its direction.
fn is_deceptive(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_trimmed_and_odd_ones_refused() {
        assert_eq!(name("name", "  张三 Store 1 ").unwrap(), "张三 Store 1");
        let long = "长".repeat(NAME_CHARS_MAX + 1);
        for bad in ["", "   ", "a\nb", "a\u{0}b", "evil\u{202e}txt", "\u{200b}", "4111 1111 1111 1111", long.as_str()] {
            assert_eq!(name("name", bad).unwrap_err().field, "name", "{bad:?}");
        }
        assert!(name("name", &"长".repeat(NAME_CHARS_MAX)).is_ok());
    }
}
