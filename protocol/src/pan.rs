//! The PAN guard: finds card numbers, track data and card TLVs in free text, so that they are refused or masked and never
//! stored.
//!
//! Deliberately field-aware: typed fields (serial numbers, IMEI, ICCID, merchant numbers) are checked by their own
//! format instead, because many of them are Luhn-valid by design. Only whole runs of digits count: no window slides
//! inside a longer run, so that a serial number of 20 digits is no card number. Digits may be full-width, and stand in
//! groups.

use std::ops::Range;

/// Shortest and longest card number, in digits (ISO/IEC 7812).
const PAN_DIGITS: std::ops::RangeInclusive<usize> = 13..=19;
/// Characters between two groups of one number, at most.
const GAP_CHARS_MAX: usize = 2;

/// Whether `text` holds something that looks like a card number, magnetic track or card TLV.
pub fn contains_card_data(text: &str) -> bool {
    contains_card_data_beside(text, &[])
}

/// As [`contains_card_data`], in a text about something whose own numbers `own` are known and are no card data: its serial
/// number, TUSN, IMEI, ICCID, merchant number.
pub fn contains_card_data_beside(text: &str, own: &[&str]) -> bool {
    !found(text, own).is_empty()
}

/// `text` with every digit of what looks like card data replaced by an asterisk: neither beginning nor end of a number
/// is left.
pub fn mask(text: &str) -> String {
    let places = found(text, &[]);
    let is_hidden = |at: usize| places.iter().any(|place| place.contains(&at));
    let hide = |(at, c): (usize, char)| {
        let is_value = digit(c).is_some() || c.is_ascii_hexdigit();
        if is_value && is_hidden(at) { '*' } else { c }
    };
    text.char_indices().map(hide).collect()
}

/// Where card data stands, as ranges of bytes.
fn found(text: &str, own: &[&str]) -> Vec<Range<usize>> {
    let mut places = Vec::new();
    for run in runs(text) {
        places.extend(numbers(&run, own));
    }
    places.extend(tracks(text));
    places.extend(tlvs(text));
    places
}

/// Digits without anything between them.
struct Group {
    digits: Vec<u8>,
    place: Range<usize>,
}

/// ASCII digits and full-width ones.
fn digit(c: char) -> Option<u8> {
    let value = match c {
        '０'..='９' => u32::from(c) - u32::from('０'),
        _ => c.to_digit(10)?,
    };
    u8::try_from(value).ok()
}

/// What stands between the groups of one number: blanks and dashes of any width.
fn is_gap(c: char) -> bool {
    matches!(c, ' ' | '\u{a0}' | '\u{3000}' | '-' | '‐' | '‑' | '–' | '—' | '－')
}

/// Maximal runs of groups with at most [`GAP_CHARS_MAX`] characters between them.
fn runs(text: &str) -> Vec<Vec<Group>> {
    let mut runs: Vec<Vec<Group>> = Vec::new();
    let mut gap = usize::MAX;
    let mut in_group = false;
    for (at, c) in text.char_indices() {
        let end = at + c.len_utf8();
        match digit(c) {
            Some(value) => {
                let begins_run = gap > GAP_CHARS_MAX;
                match runs.last_mut() {
                    Some(run) if !begins_run => match run.last_mut() {
                        Some(group) if in_group => {
                            group.digits.push(value);
                            group.place.end = end;
                        }
                        _ => run.push(Group { digits: vec![value], place: at..end }),
                    },
                    _ => runs.push(vec![Group { digits: vec![value], place: at..end }]),
                }
                (in_group, gap) = (true, 0);
            }
            None => {
                in_group = false;
                gap = if is_gap(c) { gap.saturating_add(1) } else { usize::MAX };
            }
        }
    }
    runs
}

/// Card numbers in one run: the run as a whole, each of its groups, and neighbours in it that are grouped as cards are.
fn numbers(run: &[Group], own: &[&str]) -> Vec<Range<usize>> {
    let mut places = Vec::new();
    let mut consider = |groups: &[Group]| {
        let digits: Vec<u8> = groups.iter().flat_map(|group| group.digits.iter().copied()).collect();
        if let (Some(first), Some(last)) = (groups.first(), groups.last())
            && is_card_number(&digits)
            && !is_own(&digits, own)
        {
            places.push(first.place.start..last.place.end);
        }
    };
    consider(run);
    if run.len() > 1 {
        run.iter().for_each(|group| consider(std::slice::from_ref(group)));
        for start in 0..run.len() {
            for count in 3..=5 {
                if let Some(groups) = run.get(start..start + count).filter(|groups| is_grouped_as_cards(groups)) {
                    consider(groups);
                }
            }
        }
    }
    places
}

/// 4-4-4-4 with a rest of up to three, or 4-6-5 and 4-6-4.
fn is_grouped_as_cards(groups: &[Group]) -> bool {
    let sizes: Vec<usize> = groups.iter().map(|group| group.digits.len()).collect();
    matches!(sizes.as_slice(), [4, 6, 4 | 5] | [4, 4, 4, 1..=4] | [4, 4, 4, 4, 1..=3])
}

fn is_own(digits: &[u8], own: &[&str]) -> bool {
    own.iter().any(|id| id.len() == digits.len() && id.bytes().zip(digits).all(|(a, b)| a == b + b'0'))
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

/// Track 1 (`%B…^`) and track 2 (`;…=…`), from their beginning to their end.
fn tracks(text: &str) -> Vec<Range<usize>> {
    let mut places = Vec::new();
    for (begins, ends) in [("%B", '^'), ("%b", '^'), (";", '=')] {
        for (at, _) in text.match_indices(begins) {
            let rest = text.get(at + begins.len()..).unwrap_or_default();
            let number = rest.find(ends).and_then(|end| rest.get(..end)).unwrap_or_default();
            let digits = number.chars().filter(|c| digit(*c).is_some()).count();
            let is_number = number.chars().all(|c| digit(c).is_some() || is_gap(c));
            if is_number && (12..=19).contains(&digits) {
                // Name, expiry and the rest go with it.
                let end = rest.find(['?', '\n', '\r']).unwrap_or(rest.len());
                places.push(at..at + begins.len() + end);
            }
        }
    }
    places
}

/// Most bytes of a value of the tags below: 19 digits and what follows them in track 2.
const TLV_BYTES_MAX: usize = 19;

/// Tags `57` (track 2) and `5A` (card number) in hex dumps: tag, length, value.
fn tlvs(text: &str) -> Vec<Range<usize>> {
    let hex: Vec<(usize, u8)> = text
        .char_indices()
        .filter_map(|(at, c)| u8::try_from(c).ok().map(|byte| (at, byte.to_ascii_uppercase())))
        .filter(|(_, byte)| byte.is_ascii_hexdigit() || matches!(byte, b' ' | b':'))
        .collect();
    let mut places = Vec::new();
    for dump in hex.chunk_by(|(one, _), (other, _)| one + 1 == *other) {
        let nibbles: Vec<(usize, u8)> = dump.iter().copied().filter(|(_, byte)| byte.is_ascii_hexdigit()).collect();
        for start in 0..nibbles.len() {
            if let Some(place) = tlv(nibbles.get(start..).unwrap_or_default()) {
                places.push(place);
            }
        }
    }
    places
}

/// The place of a tag with a card number in it, if one begins here.
fn tlv(nibbles: &[(usize, u8)]) -> Option<Range<usize>> {
    let byte = |at: usize| {
        let (high, low) = (nibbles.get(at)?.1, nibbles.get(at + 1)?.1);
        u8::from_str_radix(std::str::from_utf8(&[high, low]).ok()?, 16).ok()
    };
    let (tag, length) = (byte(0)?, usize::from(byte(2)?));
    if !matches!(tag, 0x57 | 0x5a) || length == 0 || length > TLV_BYTES_MAX {
        return None;
    }
    let value: Vec<u8> = nibbles.get(4..4 + length * 2)?.iter().map(|(_, nibble)| *nibble).collect();
    let digits: Vec<u8> = value.iter().take_while(|b| b.is_ascii_digit()).map(|b| b - b'0').collect();
    let after = value.get(digits.len()).copied();
    let is_whole = match tag {
        // Filled up with F.
        0x5a => value.iter().skip(digits.len()).all(|nibble| *nibble == b'F'),
        _ => after == Some(b'D'),
    };
    let is_number = (12..=19).contains(&digits.len()) && luhn(&digits);
    (is_whole && is_number).then(|| {
        let (start, end) = (nibbles.first().map_or(0, |n| n.0), nibbles.get(3 + length * 2).map_or(0, |n| n.0));
        start..end + 1
    })
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
            "4111 - 1111",
            "4111–1111–1111–1111",
            "4111  1111  1111  1111",
            "４１１１１１１１１１１１１１１１",
            "卡号4111111111111111，密码",
            "378282246310005",
            "3782 822463 10005",
            "3530111333300000",
            "2223003122003222",
            "5555555555554444",
            "6011111111111117",
            "6212345678901232",
            "amount 100 4111 1111 1111 1111",
            "terminal 12345678 4111111111111111",
            "850331053110612 4111111111111111",
            "%B4111111111111111^DOE/J^25121010000000000?",
            ";4111111111111111=25121010000000000?",
            "9F02065A0841111111111111115F2401",
            "5a 08 41 11 11 11 11 11 11 11",
            "57 11 41 11 11 11 11 11 11 11 D2 51 21 01 00 00 00 00 0F",
            "5A0A6222021234567890128F",
        ] {
            let is_pair = text == "4111 - 1111";
            assert_ne!(contains_card_data(text), is_pair, "{text}");
            assert!(is_pair || !mask(text).contains("1111"), "{text}: {}", mask(text));
        }
    }

    #[test]
    fn identifiers_that_only_look_like_cards_pass() {
        for text in [
            "imei 490154203237518",      // Luhn-valid, 15 digits
            "356938035643809",           // another IMEI, with the prefix of a 16-digit scheme
            "iccid 8986001234567890128", // prefix 89
            "89860012345678901234",      // 20 digits
            "tusn 00005702280117638929", // 20 digits
            "41111111111111111111",      // 20 digits: nothing is looked for inside
            "411111111111111111111111",  // 24 digits
            "merchant 850331053110612",  // 15 digits
            "merchant 622000053110615",  // 15 digits, whatever their beginning
            "4111111111111112",          // fails Luhn
            "error 1234567890123",       // no issuer prefix
            "330106199003071233",        // an identity number of another province
            "2026-11-23 10:15:30 1763800000000",
            "13800138000 13900139000",
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "5A08 is a tag and 57 another",
            ";a=b; c=d",
            "",
        ] {
            assert!(!contains_card_data(text), "{text}");
            assert_eq!(mask(text), text);
        }
    }

    #[test]
    fn an_identity_number_that_looks_like_a_card_is_masked_and_that_is_wanted() {
        let text = "身份证 620102199003071232";
        let found = contains_card_data(text);
        assert!(found, "eighteen digits, 62, Luhn-valid");
        assert_eq!(mask(text), "身份证 ******************");
    }

    #[test]
    fn what_is_masked_is_the_number_alone() {
        assert_eq!(mask("卡 4111 1111 1111 1111 失败 3 次"), "卡 **** **** **** **** 失败 3 次");
        assert_eq!(mask("sn 12345678, ;4111111111111111=2512?"), "sn 12345678, ;****************=****?");
        assert_eq!(mask("no card here 42"), "no card here 42");
    }

    #[test]
    fn a_thing_s_own_numbers_are_no_card_data() {
        let sn = "6222021234567890128";
        let text = format!("终端 {sn} 无法开机");
        assert!(contains_card_data(&text));
        assert!(!contains_card_data_beside(&text, &["850331053110612", sn]));
        let both = format!("{sn} 4111111111111111");
        assert!(contains_card_data_beside(&both, &[sn]), "another number beside it is one");
    }

    #[test]
    fn the_boundaries_of_the_schemes_are_kept() {
        // A number of this beginning and length that is Luhn-valid.
        let number = |prefix: &str, length: usize| {
            let mut digits: Vec<u8> = prefix.bytes().map(|b| b - b'0').collect();
            digits.resize(length, 0);
            let last = length - 1;
            digits[last] = (0..10)
                .find(|d| {
                    digits[last] = *d;
                    luhn(&digits)
                })
                .unwrap();
            digits.iter().map(|d| char::from(b'0' + d)).collect::<String>()
        };
        for (prefix, length, is_card) in [
            ("34", 15, true),
            ("37", 15, true),
            ("34", 16, false),
            ("36", 15, false),
            ("35", 16, true),
            ("35", 15, false),
            ("35", 17, false),
            ("4", 13, true),
            ("4", 19, true),
            ("4", 12, false),
            ("4", 15, false),
            ("4", 20, false),
            ("50", 16, false),
            ("51", 16, true),
            ("55", 16, true),
            ("56", 16, false),
            ("2220", 16, false),
            ("2221", 16, true),
            ("2720", 16, true),
            ("2721", 16, false),
            ("60", 16, true),
            ("61", 16, false),
            ("62", 13, true),
            ("62", 19, true),
            ("62", 15, false),
            ("65", 16, true),
            ("89", 19, false),
        ] {
            assert_eq!(contains_card_data(&number(prefix, length)), is_card, "{prefix} of {length}");
        }
    }
}
