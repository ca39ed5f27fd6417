//! What a terminal's record may hold: cleaned, checked, and then valid. Pure.
//!
//! The PAN guard scans free text only. Serial numbers, IMEI, ICCID, TUSN and merchant numbers are checked by their own
//! format, because many of them look like card numbers by design.

use serde::{Deserialize, Serialize};
use tillward_protocol::FieldError;
use tillward_protocol::ids::{ModelCode, Sn};
use unicode_normalization::UnicodeNormalization;

/// Longest name of a merchant or store, characters.
const NAME_CHARS_MAX: usize = 100;
/// Longest notes, characters.
const NOTES_CHARS_MAX: usize = 1_000;
/// Longest region, characters. A code such as `3101`, or a name.
const REGION_CHARS_MAX: usize = 32;
/// Longest hardware revision, bytes.
const HARDWARE_BYTES_MAX: usize = 32;
/// Most tags of one terminal: they stand in the indexes of the list.
pub const TAGS_MAX: usize = 16;
/// Longest tag, characters.
pub const TAG_CHARS_MAX: usize = 32;
/// Fastest and slowest interval between check-ins that can be asked for, s.
const INTERVAL_S: std::ops::RangeInclusive<u32> = 10..=86_400;

/// A terminal as it is asked for, by REST or by a row of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTerminal {
    /// Serial number: 1–50 letters and digits.
    pub sn: String,
    /// Model code, for example `pax-a920`.
    pub model: String,
    /// The organization that gets it; the caller's own when absent.
    #[serde(default)]
    pub organization_id: Option<i64>,
    /// UnionPay terminal number: 6 digits vendor, 2 digits type, serial.
    #[serde(default)]
    pub tusn: Option<String>,
    /// Hardware revision.
    #[serde(default)]
    pub hardware: Option<String>,
    /// Merchant number, 15 digits.
    #[serde(default)]
    pub merchant_no: Option<String>,
    /// Merchant's name.
    #[serde(default)]
    pub merchant_name: Option<String>,
    /// Store's name.
    #[serde(default)]
    pub store_name: Option<String>,
    /// The channel's number for the terminal, 8 letters or digits. Not the serial number.
    #[serde(default)]
    pub terminal_no: Option<String>,
    /// Region; the organization's when absent.
    #[serde(default)]
    pub region: Option<String>,
    /// SIM card number, 19–20 characters.
    #[serde(default)]
    pub iccid: Option<String>,
    /// IMEI, 15 digits.
    #[serde(default)]
    pub imei: Option<String>,
    /// Free text.
    #[serde(default)]
    pub notes: Option<String>,
    /// Tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Interval between check-ins, s; the server's normal one when absent.
    #[serde(default)]
    pub check_in_interval_s: Option<u32>,
}

/// A terminal's record without its organization; every field is valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Serial number.
    pub sn: Sn,
    /// Model.
    pub model: ModelCode,
    /// UnionPay terminal number.
    pub tusn: Option<String>,
    /// Hardware revision.
    pub hardware: Option<String>,
    /// Merchant number.
    pub merchant_no: Option<String>,
    /// Merchant's name.
    pub merchant_name: Option<String>,
    /// Store's name.
    pub store_name: Option<String>,
    /// Channel's number.
    pub terminal_no: Option<String>,
    /// Region, if given.
    pub region: Option<String>,
    /// SIM card number.
    pub iccid: Option<String>,
    /// IMEI.
    pub imei: Option<String>,
    /// Free text.
    pub notes: Option<String>,
    /// Tags, sorted, each once.
    pub tags: Vec<String>,
    /// Interval, s.
    pub check_in_interval_s: Option<i64>,
    /// What looks odd but was accepted, a sentence each.
    pub warnings: Vec<String>,
}

impl NewTerminal {
    /// Cleans and checks every field.
    ///
    /// # Errors
    /// The first field that cannot be accepted.
    pub fn parse(self) -> Result<Registration, FieldError> {
        let mut warnings = Vec::new();
        let sn = clean_id(&self.sn);
        let tusn = optional_id(self.tusn);
        check_tusn(tusn.as_deref(), &mut warnings)?;
        let iccid = optional_id(self.iccid);
        check_iccid(iccid.as_deref(), &mut warnings)?;
        if sn.len() >= 16 && sn.ends_with("000") {
            warnings.push("sn ends in zeros: was it rounded by a spreadsheet?".to_owned());
        }
        Ok(Registration {
            sn: sn.parse().map_err(|error: FieldError| FieldError::new("sn", error.problem))?,
            model: clean_id(&self.model)
                .to_lowercase()
                .parse()
                .map_err(|error: FieldError| FieldError::new("model", error.problem))?,
            tusn,
            hardware: hardware(self.hardware)?,
            merchant_no: merchant_no(self.merchant_no)?,
            merchant_name: name("merchant_name", self.merchant_name)?,
            store_name: name("store_name", self.store_name)?,
            terminal_no: terminal_no(self.terminal_no)?,
            region: region(self.region)?,
            iccid,
            imei: imei(self.imei)?,
            notes: notes(self.notes)?,
            tags: tags(&self.tags)?,
            check_in_interval_s: interval(self.check_in_interval_s)?,
            warnings,
        })
    }
}

/// An identifier as it was meant: without what spreadsheets and chats wrap around it.
///
/// Full-width digits become plain ones, `="00123"` becomes `00123`, a leading `'` and invisible characters go.
pub fn clean_id(text: &str) -> String {
    let cleaned = clean_text(text);
    let inner = cleaned.strip_prefix("=\"").and_then(|rest| rest.strip_suffix('"')).unwrap_or(&cleaned);
    inner.trim_start_matches('\'').trim().to_owned()
}

/// Text in normal form (NFKC), without invisible characters and outer spaces.
pub fn clean_text(text: &str) -> String {
    // Most cells are plain ASCII and need no tables.
    let normal: String =
        if text.is_ascii() { text.to_owned() } else { text.nfkc().filter(|&c| !is_invisible(c)).collect() };
    normal.trim().to_owned()
}

fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}' | '\u{feff}' | '\u{00ad}')
}

fn optional_id(text: Option<String>) -> Option<String> {
    text.map(|text| clean_id(&text)).filter(|text| !text.is_empty())
}

/// Type codes of UnionPay terminal numbers that are known.
const TUSN_TYPES: std::ops::RangeInclusive<u32> = 1..=11;

fn check_tusn(tusn: Option<&str>, warnings: &mut Vec<String>) -> Result<(), FieldError> {
    let Some(tusn) = tusn else { return Ok(()) };
    let refused =
        || Err(FieldError::new("tusn", "must be 6 digits vendor, 2 digits type and 1 to 42 letters or digits"));
    let Some((head, serial)) = tusn.split_at_checked(8) else { return refused() };
    if !head.bytes().all(|b| b.is_ascii_digit())
        || !(1..=42).contains(&serial.len())
        || !serial.bytes().all(|b| b.is_ascii_alphanumeric())
    {
        return refused();
    }
    let known = head.get(6..).and_then(|kind| kind.parse().ok()).is_some_and(|kind: u32| TUSN_TYPES.contains(&kind));
    if !known {
        warnings.push("tusn has a terminal type that is not known (01 to 11 are)".to_owned());
    }
    Ok(())
}

fn check_iccid(iccid: Option<&str>, warnings: &mut Vec<String>) -> Result<(), FieldError> {
    let Some(iccid) = iccid else { return Ok(()) };
    if iccid.len() > 22 || !iccid.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err(FieldError::new("iccid", "must be at most 22 letters or digits"));
    }
    if !(19..=20).contains(&iccid.len()) || !iccid.starts_with("89") {
        warnings.push("iccid is not 19 or 20 characters that start with 89".to_owned());
    }
    Ok(())
}

/// 15 digits with a right check digit.
pub(super) fn imei(text: Option<String>) -> Result<Option<String>, FieldError> {
    let imei = optional_id(text);
    match imei.as_deref() {
        None => Ok(None),
        Some(digits) if digits.len() != 15 || !digits.bytes().all(|b| b.is_ascii_digit()) => {
            Err(FieldError::new("imei", "must be 15 digits"))
        }
        Some(digits) if !luhn(digits) => Err(FieldError::new("imei", "has a wrong check digit")),
        Some(_) => Ok(imei),
    }
}

fn luhn(digits: &str) -> bool {
    let sum: u32 = digits
        .bytes()
        .rev()
        .enumerate()
        .map(|(index, byte)| {
            let digit = u32::from(byte.wrapping_sub(b'0'));
            let weighted = if index % 2 == 1 { digit * 2 } else { digit };
            weighted / 10 + weighted % 10
        })
        .sum();
    sum.is_multiple_of(10)
}

/// 15 digits: institution, region, category, serial.
pub(super) fn merchant_no(text: Option<String>) -> Result<Option<String>, FieldError> {
    match optional_id(text) {
        Some(no) if no.len() != 15 || !no.bytes().all(|b| b.is_ascii_digit()) => {
            Err(FieldError::new("merchant_no", "must be 15 digits"))
        }
        no => Ok(no),
    }
}

/// 8 letters or digits.
pub(super) fn terminal_no(text: Option<String>) -> Result<Option<String>, FieldError> {
    match optional_id(text) {
        Some(no) if no.len() != 8 || !no.bytes().all(|b| b.is_ascii_alphanumeric()) => {
            Err(FieldError::new("terminal_no", "must be 8 letters or digits; the serial number is `sn`"))
        }
        no => Ok(no),
    }
}

/// A merchant's or store's name.
pub(super) fn name(field: &str, text: Option<String>) -> Result<Option<String>, FieldError> {
    free_text(field, text, NAME_CHARS_MAX)
}

/// A region.
pub(super) fn region(text: Option<String>) -> Result<Option<String>, FieldError> {
    free_text("region", text, REGION_CHARS_MAX)
}

/// Notes.
pub(super) fn notes(text: Option<String>) -> Result<Option<String>, FieldError> {
    free_text("notes", text, NOTES_CHARS_MAX)
}

/// A hardware revision.
pub(super) fn hardware(text: Option<String>) -> Result<Option<String>, FieldError> {
    let hardware = optional_id(text);
    match hardware.as_deref() {
        Some(text) if text.len() > HARDWARE_BYTES_MAX || !text.bytes().all(|b| b.is_ascii_graphic()) => {
            Err(FieldError::new("hardware", format!("must be at most {HARDWARE_BYTES_MAX} visible characters")))
        }
        _ => Ok(hardware),
    }
}

fn free_text(field: &str, text: Option<String>, chars_max: usize) -> Result<Option<String>, FieldError> {
    let Some(text) = text.map(|text| clean_text(&text)).filter(|text| !text.is_empty()) else { return Ok(None) };
    if text.chars().count() > chars_max {
        return Err(FieldError::new(field, format!("must be at most {chars_max} characters")));
    }
    if text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
        return Err(FieldError::new(field, "must not contain control characters"));
    }
    crate::text::guarded(field, &text)?;
    Ok(Some(text))
}

/// Lower-case tags, sorted, each once.
pub(super) fn tags(given: &[String]) -> Result<Vec<String>, FieldError> {
    let mut tags = Vec::with_capacity(given.len());
    for tag in given {
        let tag = clean_text(tag).to_lowercase();
        if tag.is_empty() {
            continue;
        }
        let allowed = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
        if tag.chars().count() > TAG_CHARS_MAX || !tag.chars().all(allowed) {
            let problem = format!("each must be at most {TAG_CHARS_MAX} letters, digits, `-`, `_`, `.` or `:`");
            return Err(FieldError::new("tags", problem));
        }
        crate::text::guarded("tags", &tag)?;
        tags.push(tag);
    }
    tags.sort();
    tags.dedup();
    if tags.len() > TAGS_MAX {
        return Err(FieldError::new("tags", format!("at most {TAGS_MAX}")));
    }
    Ok(tags)
}

/// Interval between check-ins.
pub(super) fn interval(seconds: Option<u32>) -> Result<Option<i64>, FieldError> {
    match seconds {
        Some(seconds) if !INTERVAL_S.contains(&seconds) => Err(FieldError::new(
            "check_in_interval_s",
            format!("must be between {} and {} s", INTERVAL_S.start(), INTERVAL_S.end()),
        )),
        seconds => Ok(seconds.map(i64::from)),
    }
}

/// Farthest that a place's local time is from UTC, minutes.
const UTC_OFFSET_MIN_MAX: i32 = 14 * 60;

/// Minutes that local time is ahead of UTC.
pub(super) fn utc_offset(minutes: Option<i32>) -> Result<Option<i64>, FieldError> {
    match minutes {
        Some(minutes) if !(-UTC_OFFSET_MIN_MAX..=UTC_OFFSET_MIN_MAX).contains(&minutes) => Err(FieldError::new(
            "utc_offset_min",
            format!("must be between -{UTC_OFFSET_MIN_MAX} and {UTC_OFFSET_MIN_MAX} minutes"),
        )),
        minutes => Ok(minutes.map(i64::from)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terminal() -> NewTerminal {
        NewTerminal { sn: "N7NL00604173".to_owned(), model: "newland-me31".to_owned(), ..NewTerminal::default() }
    }

    #[test]
    fn what_spreadsheets_wrap_around_ids_is_taken_off() {
        for (given, meant) in [
            ("  00123 ", "00123"),
            ("'00123", "00123"),
            ("=\"00123\"", "00123"),
            ("００１２３ＡＢ", "00123AB"),
            ("\u{feff}00123\u{200b}", "00123"),
            ("\u{a0}00123\u{a0}", "00123"),
            ("\t00123\t", "00123"),
        ] {
            assert_eq!(clean_id(given), meant, "{given:?}");
        }
    }

    #[test]
    fn a_refused_field_is_named() {
        let text = |text: &str| Some(text.to_owned());
        for (field, new) in [
            ("sn", NewTerminal { sn: String::new(), ..terminal() }),
            ("sn", NewTerminal { sn: "A-1".to_owned(), ..terminal() }),
            ("sn", NewTerminal { sn: "1".repeat(51), ..terminal() }),
            ("model", NewTerminal { model: "a920 pro".to_owned(), ..terminal() }),
            ("tusn", NewTerminal { tusn: text("0000570"), ..terminal() }),
            ("tusn", NewTerminal { tusn: text("ABCDEF02280117638929"), ..terminal() }),
            ("imei", NewTerminal { imei: text("490154203237519"), ..terminal() }),
            ("imei", NewTerminal { imei: text("49015420323751"), ..terminal() }),
            ("merchant_no", NewTerminal { merchant_no: text("85033105311061"), ..terminal() }),
            ("terminal_no", NewTerminal { terminal_no: text("1234567"), ..terminal() }),
            ("iccid", NewTerminal { iccid: text("89-1"), ..terminal() }),
            ("notes", NewTerminal { notes: text("card 4111 1111 1111 1111"), ..terminal() }),
            ("merchant_name", NewTerminal { merchant_name: text("张记 6222021234567890128"), ..terminal() }),
            ("tags", NewTerminal { tags: vec!["a,b".to_owned()], ..terminal() }),
            ("check_in_interval_s", NewTerminal { check_in_interval_s: Some(1), ..terminal() }),
        ] {
            assert_eq!(new.clone().parse().unwrap_err().field, field, "{new:?}");
        }
    }

    #[test]
    fn ids_that_look_like_card_numbers_are_checked_by_their_own_format() {
        let new = NewTerminal {
            sn: "4111111111111111".to_owned(),
            tusn: Some("00005702280117638929".to_owned()),
            imei: Some("490154203237518".to_owned()),
            merchant_no: Some("850331053110612".to_owned()),
            iccid: Some("89860012345678901234".to_owned()),
            ..terminal()
        };
        assert_eq!(new.parse().unwrap().warnings, Vec::<String>::new());
    }

    #[test]
    fn odd_but_possible_values_are_accepted_with_a_warning() {
        let new = NewTerminal {
            sn: "12345678901234500000".to_owned(),
            tusn: Some("00005799280117638929".to_owned()),
            iccid: Some("1234567890".to_owned()),
            ..terminal()
        };
        assert_eq!(new.parse().unwrap().warnings.len(), 3);
    }

    #[test]
    fn tags_are_sorted_lower_case_and_each_once() {
        let given = ["VIP".to_owned(), "lab".to_owned(), "vip".to_owned(), " ".to_owned(), "一店".to_owned()];
        assert_eq!(tags(&given).unwrap(), ["lab", "vip", "一店"]);
    }
}
