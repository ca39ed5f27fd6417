//! The PAN guard: finds card numbers and track data in free text, so that they are refused and never stored.
//!
//! Deliberately field-aware: typed fields (serial numbers, IMEI, ICCID, merchant numbers) are checked by their own
//! format instead, because many of them are Luhn-valid by design. Only whole runs of digits count; no window slides
//! inside a longer run.

/// Shortest and longest card number, in digits (ISO/IEC 7812).
const PAN_DIGITS: std::ops::RangeInclusive<usize> = 13..=19;

/// Whether `text` holds something that looks like a card number, magnetic track or card TLV.
pub fn contains_card_data(text: &str) -> bool {
    digit_runs(text).any(|run| is_card_number(&run)) || has_track(text)
}

/// `text`; where it holds card data, with every digit replaced by an asterisk.
pub fn mask(text: &str) -> String {
    if !contains_card_data(text) {
        return text.to_owned();
    }
    let masked: String = text.chars().map(|c| if c.is_ascii_digit() { '*' } else { c }).collect();
    masked
}

/// Maximal runs of digits; single spaces or dashes between digits do not end a run.
fn digit_runs(text: &str) -> impl Iterator<Item = Vec<u8>> {
    let bytes = text.as_bytes();
    let mut runs = Vec::new();
    let mut run = Vec::new();
    for (index, &byte) in bytes.iter().enumerate() {
        if byte.is_ascii_digit() {
            run.push(byte - b'0');
            continue;
        }
        let joins =
            matches!(byte, b' ' | b'-') && !run.is_empty() && bytes.get(index + 1).is_some_and(u8::is_ascii_digit);
        if !joins && !run.is_empty() {
            runs.push(std::mem::take(&mut run));
        }
    }
    if !run.is_empty() {
        runs.push(run);
    }
    runs.into_iter()
}

fn is_card_number(digits: &[u8]) -> bool {
    PAN_DIGITS.contains(&digits.len()) && has_issuer_prefix(digits) && luhn(digits)
}

/// Issuer prefixes of the card schemes in use: 34/37, 35, 4, 51–55, 2221–2720, 60, 62, 65.
fn has_issuer_prefix(digits: &[u8]) -> bool {
    let number = |count: usize| digits.iter().take(count).fold(0u32, |sum, &d| sum * 10 + u32::from(d));
    let length = digits.len();
    match number(2) {
        34 | 37 => length == 15,
        _ if length == 15 => false,
        35 => length == 16,
        40..=49 | 51..=55 | 60 | 62 | 65 => true,
        _ => (2221..=2720).contains(&number(4)),
    }
}

fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(index, &digit)| {
            let digit = u32::from(digit);
            match (index % 2, digit * 2) {
                (0, _) => digit,
                (_, doubled) if doubled > 9 => doubled - 9,
                (_, doubled) => doubled,
            }
        })
        .sum();
    sum.is_multiple_of(10)
}

/// Track 1 (`%B…^`) and track 2 (`;digits=digits`).
fn has_track(text: &str) -> bool {
    let track_1 = text.split("%B").skip(1).any(|rest| {
        rest.find('^').is_some_and(|end| end >= 12 && rest[..end].bytes().all(|b| b.is_ascii_digit() || b == b' '))
    });
    let track_2 = text
        .split(';')
        .skip(1)
        .any(|rest| rest.find('=').is_some_and(|end| end >= 12 && rest[..end].bytes().all(|b| b.is_ascii_digit())));
    track_1 || track_2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn card_numbers_are_found_in_any_common_writing() {
        for text in [
            "card 6222021234567890128 declined",
            "4111 1111 1111 1111",
            "4111-1111-1111-1111",
            "378282246310005",
            ";4111111111111111=2512",
            "%B4111111111111111^DOE/J^",
        ] {
            assert!(contains_card_data(text), "{text}");
            assert!(!mask(text).contains("1111"), "{text}");
        }
    }

    #[test]
    fn identifiers_that_only_look_like_cards_pass() {
        for text in [
            "imei 490154203237518",      // Luhn-valid, 15 digits
            "tusn 00005702280117638929", // 20 digits
            "merchant 850331053110612",  // 15 digits
            "4111111111111112",          // fails Luhn
            "error 1234567890123",       // no issuer prefix
            "",
        ] {
            assert!(!contains_card_data(text), "{text}");
        }
    }
}
