//! Cells of spreadsheets and members of callbacks as values: ids, money, rates, moments, words. Pure.
//!
//! What a cell says is never guessed silently: what fits no known writing is refused with a sentence that a person can act
//! on, and a number that a spreadsheet rounded is refused rather than taken.

use tillward_protocol::pan;

use crate::terminals::fields::{clean_id, clean_text};

/// What is wrong with a cell: a sentence about it.
pub type Problem = String;

/// How money is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = MoneyUnit)]
pub enum Unit {
    /// 元, with up to two decimals.
    #[default]
    Yuan,
    /// 分, whole.
    Fen,
}

/// How rates are written where no percent sign says it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RateUnit {
    /// `0.6` is 0.6 %.
    #[default]
    Percent,
    /// `0.006` is 0.6 %.
    Fraction,
}

/// Farthest that a place's local time is from UTC, minutes.
pub const UTC_OFFSET_MIN_MAX: i64 = 14 * 60;
/// Most fen that one cell may hold: more than any payment, far below what overflows.
const FEN_MAX: i64 = 1_000_000_000_000;
/// Shortest card number, digits (ISO/IEC 7812).
const CARD_DIGITS_MIN: usize = 13;
/// Longest card number, digits.
const CARD_DIGITS_MAX: usize = 19;
/// One day, ms.
const DAY_MS: i64 = 86_400_000;
/// Day number of 1970-01-01 in spreadsheets whose day 1 is 1900-01-01.
const SERIAL_OF_EPOCH: i64 = 25_569;
/// Serial day numbers that are taken for dates: 2000-01-01 to 2099-12-31.
const SERIALS: std::ops::RangeInclusive<i64> = 36_526..=73_050;

/// An id: cleaned, 1 to `chars_max` visible ASCII characters.
///
/// # Errors
/// A number that was rounded by a spreadsheet, and what no id looks like.
pub fn id(cell: &str, chars_max: usize) -> Result<String, Problem> {
    let id = clean_id(cell);
    if is_rounded(&id) {
        return Err("was rounded by a spreadsheet (like 5.7E+18); format the column as text and copy again".to_owned());
    }
    if id.len() > chars_max || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("must be at most {chars_max} letters, digits or signs, without spaces"));
    }
    Ok(id)
}

/// Free text: cleaned, on one line, cut to `chars_max`.
pub fn text(cell: &str, chars_max: usize) -> String {
    let cleaned = clean_text(cell);
    cleaned.trim_start_matches('\'').chars().filter(|c| !c.is_control()).take(chars_max).collect()
}

/// `5.70228E+18`: what a spreadsheet makes of a long number.
pub fn is_rounded(text: &str) -> bool {
    let Some((mantissa, exponent)) = text.split_once(['E', 'e']) else { return false };
    // Digits that were masked are still those of a number.
    let is_number =
        |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'*'));
    // `12E5` may be a serial number; with a point or a plus it is none.
    is_number(mantissa)
        && exponent.trim_start_matches('+').bytes().all(|b| b.is_ascii_digit())
        && (mantissa.contains('.') || exponent.starts_with('+'))
}

/// Whether a cell holds card data: as [`pan::contains_card_data`] says, or as a rounded number.
pub fn has_card_data(cell: &str) -> bool {
    is_rounded_card(cell) || (cell.len() >= CARD_DIGITS_MIN && pan::contains_card_data(cell))
}

/// Whether a cell is a rounded number (`4.11111111111111E+15`) that is as long as a card number and begins like one. Its
/// check digit may be among those that were lost, and then says nothing.
pub fn is_rounded_card(cell: &str) -> bool {
    let cleaned = clean_id(cell);
    if !is_rounded(&cleaned) {
        return false;
    }
    let Some((mantissa, exponent)) = cleaned.split_once(['E', 'e']) else { return false };
    let Ok(exponent) = exponent.trim_start_matches('+').parse::<usize>() else { return false };
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let length = whole.len().saturating_add(exponent);
    if length > CARD_DIGITS_MAX {
        return false;
    }
    let digits: String = whole.chars().chain(part.chars()).chain(std::iter::repeat('0')).take(length).collect();
    let Some(first) = digits.get(..length.saturating_sub(1)) else { return false };
    ('0'..='9').any(|last| pan::contains_card_data(&format!("{first}{last}")))
}

/// A cell without the card data in it. A rounded number is still seen to be one.
pub fn masked(cell: &str) -> String {
    if !is_rounded_card(cell) {
        return pan::mask(cell);
    }
    let cleaned = clean_id(cell);
    let (mantissa, exponent) = cleaned.split_once(['E', 'e']).unwrap_or((cleaned.as_str(), ""));
    let hidden: String = mantissa.chars().map(|c| if c == '.' { c } else { '*' }).collect();
    format!("{hidden}E{exponent}")
}

/// Money in fen.
///
/// # Errors
/// What is no amount, has parts of a fen, or is larger than any payment.
pub fn money(cell: &str, unit: Unit) -> Result<i64, Problem> {
    let cleaned = clean_id(cell);
    let bare = cleaned.trim_start_matches(['¥', '￥']).trim_end_matches(['元', '分']).replace([',', ' '], "");
    let refused = || match unit {
        Unit::Yuan => "must be an amount in yuan with at most two decimals".to_owned(),
        Unit::Fen => "must be an amount in fen, a whole number".to_owned(),
    };
    let (places, most) = match unit {
        Unit::Yuan => (2, FEN_MAX),
        Unit::Fen => (0, FEN_MAX),
    };
    let fen = decimal(&bare, places).ok_or_else(refused)?;
    if fen.abs() > most { Err(refused()) } else { Ok(fen) }
}

/// A rate in millionths: 0.6 % is 6,000.
///
/// # Errors
/// What is no rate from 0 to 100 %.
pub fn rate(cell: &str, unit: RateUnit) -> Result<i64, Problem> {
    let cleaned = clean_id(cell);
    let percent = cleaned.strip_suffix('%');
    let ppm = match (percent, unit) {
        (Some(bare), _) => decimal(bare.trim(), 4),
        (None, RateUnit::Percent) => decimal(&cleaned, 4),
        (None, RateUnit::Fraction) => decimal(&cleaned, 6),
    };
    ppm.filter(|ppm| (0..=1_000_000).contains(ppm)).ok_or_else(|| "must be a rate from 0 to 100%".to_owned())
}

/// A decimal number as a whole number of its `places`-th decimals; zeros beyond are allowed.
fn decimal(text: &str, places: usize) -> Option<i64> {
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && part.is_empty() {
        return None;
    }
    let kept: String = part.chars().chain(std::iter::repeat('0')).take(places).collect();
    let is_fine = part.bytes().skip(places).all(|digit| digit == b'0');
    let all = format!("{whole}{kept}");
    if !is_fine || !all.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number: i64 = if all.is_empty() { 0 } else { all.parse().ok()? };
    Some(if is_negative { -number } else { number })
}

/// A whole number from 0.
///
/// # Errors
/// What is none.
pub fn count(cell: &str) -> Result<i64, Problem> {
    let number = decimal(&clean_id(cell), 0).filter(|number| *number >= 0);
    number.ok_or_else(|| "must be a whole number".to_owned())
}

/// Yes or no.
///
/// # Errors
/// Any other word.
pub fn flag(cell: &str) -> Result<bool, Problem> {
    match clean_id(cell).to_lowercase().as_str() {
        "1" | "y" | "yes" | "true" | "t" | "是" | "有" | "封顶" => Ok(true),
        "0" | "n" | "no" | "false" | "f" | "否" | "无" | "不封顶" | "-" => Ok(false),
        _ => Err("must be yes or no".to_owned()),
    }
}

/// A day, `2026-11-22`.
///
/// # Errors
/// What is no day.
pub fn date(cell: &str) -> Result<String, Problem> {
    let refused = || "must be a date like 2026-11-22".to_owned();
    let cleaned = clean_id(cell);
    if let Some(serial) = serial_ms(&cleaned) {
        return Ok(day_text(serial.div_euclid(DAY_MS)));
    }
    let (days, _) = day_and_rest(&cleaned).ok_or_else(refused)?;
    Ok(day_text(days))
}

/// A moment, Unix ms: a date with a time in the offset, an ISO time with its own, a spreadsheet's serial number, Unix
/// seconds or milliseconds; a bare time of day when `date` says of which day.
///
/// # Errors
/// What is no moment.
pub fn moment(cell: &str, utc_offset_min: i64, date: Option<&str>) -> Result<i64, Problem> {
    let refused = || "must be a time like 2026-11-22 18:05:00".to_owned();
    let cleaned = clean_text(cell);
    let cleaned = cleaned.trim_start_matches('\'').trim();
    let offset_ms = utc_offset_min * 60_000;
    if let Some(unix_ms) = unix_ms(cleaned) {
        return Ok(unix_ms);
    }
    if let Some(local_ms) = serial_ms(cleaned) {
        return Ok(local_ms - offset_ms);
    }
    if let Some(days) = date.and_then(|date| day_and_rest(date)).map(|(days, _)| days)
        && let Some(of_day_ms) = time_of_day(cleaned)
    {
        return Ok(days * DAY_MS + of_day_ms - offset_ms);
    }
    let (days, rest) = day_and_rest(cleaned).ok_or_else(refused)?;
    let rest = rest.trim_start_matches(['T', 't']).trim();
    let (clock, own_offset_ms) = split_offset(rest).ok_or_else(refused)?;
    let of_day_ms = if clock.is_empty() { 0 } else { time_of_day(clock).ok_or_else(refused)? };
    Ok(days * DAY_MS + of_day_ms - own_offset_ms.unwrap_or(offset_ms))
}

/// Unix seconds (10 digits) or milliseconds (13 digits).
fn unix_ms(text: &str) -> Option<i64> {
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    match text.len() {
        // Ten digits are seconds until the year 2286.
        10 => text.parse::<i64>().ok().map(|seconds| seconds * 1_000),
        13 => text.parse().ok(),
        _ => None,
    }
}

/// A spreadsheet's day number with its fraction, as local ms since 1970.
fn serial_ms(text: &str) -> Option<i64> {
    let (days, part) = text.split_once('.').unwrap_or((text, ""));
    let is_number = days.len() == 5 && days.bytes().chain(part.bytes()).all(|b| b.is_ascii_digit());
    let days: i64 = if is_number { days.parse().ok()? } else { return None };
    if !SERIALS.contains(&days) || part.len() > 15 {
        return None;
    }
    // Nine decimals are finer than a tenth of a millisecond.
    let nano: i64 = format!("{part:0<9}").get(..9)?.parse().ok()?;
    let of_day_s = (nano * 86_400 + 500_000_000) / 1_000_000_000;
    Some((days - SERIAL_OF_EPOCH) * DAY_MS + of_day_s * 1_000)
}

/// The days since 1970 that a text begins with, and what follows them.
fn day_and_rest(text: &str) -> Option<(i64, &str)> {
    if text.len() >= 8 && text.get(..8).is_some_and(|day| day.bytes().all(|b| b.is_ascii_digit())) {
        let day = text.get(..8)?;
        let number = |range: std::ops::Range<usize>| day.get(range).and_then(|digits| digits.parse::<i64>().ok());
        return Some((days_from_civil(number(0..4)?, number(4..6)?, number(6..8)?)?, text.get(8..)?));
    }
    let is_between = |c: char| matches!(c, '-' | '/' | '.' | '年' | '月');
    let (year, rest) = text.split_once(is_between)?;
    let (month, rest) = rest.split_once(is_between)?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (day, rest) = rest.split_at_checked(end)?;
    if year.len() != 4 || month.len() > 2 || day.is_empty() || day.len() > 2 {
        return None;
    }
    let days = days_from_civil(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?)?;
    Some((days, rest.strip_prefix('日').unwrap_or(rest).trim_start()))
}

/// `18:05`, `18:05:00`, `18:05:00.250`, `180500`, as ms of the day.
fn time_of_day(text: &str) -> Option<i64> {
    let text = text.trim();
    let (clock, part) = text.split_once('.').unwrap_or((text, ""));
    let parts: Vec<i64> = if clock.len() == 6 && clock.bytes().all(|b| b.is_ascii_digit()) {
        [0..2, 2..4, 4..6].into_iter().map(|at| clock.get(at)?.parse().ok()).collect::<Option<_>>()?
    } else {
        let pieces = clock.split([':', '：', '时', '分', '秒']).filter(|piece| !piece.is_empty());
        pieces.map(|piece| (piece.len() <= 2).then(|| piece.parse().ok()).flatten()).collect::<Option<_>>()?
    };
    let (hour, minute, second) = match parts.as_slice() {
        [hour, minute] => (*hour, *minute, 0),
        [hour, minute, second] => (*hour, *minute, *second),
        _ => return None,
    };
    let ms: i64 = if part.is_empty() { 0 } else { format!("{part:0<3}").get(..3)?.parse().ok()? };
    let is_time = (0..24).contains(&hour) && (0..60).contains(&minute) && (0..61).contains(&second);
    is_time.then_some(((hour * 60 + minute) * 60 + second) * 1_000 + ms)
}

/// A time and the offset that it ends with, ms, if it names one.
fn split_offset(text: &str) -> Option<(&str, Option<i64>)> {
    if let Some(clock) = text.strip_suffix(['Z', 'z']) {
        return Some((clock, Some(0)));
    }
    let Some(at) = text.rfind(['+', '-']) else { return Some((text, None)) };
    let (clock, offset) = text.split_at_checked(at)?;
    let digits: String = offset.chars().filter(char::is_ascii_digit).collect();
    let minutes = match digits.len() {
        2 => digits.parse::<i64>().ok()? * 60,
        4 => digits.get(..2)?.parse::<i64>().ok()? * 60 + digits.get(2..)?.parse::<i64>().ok()?,
        _ => return None,
    };
    let sign = if offset.starts_with('-') { -1 } else { 1 };
    (minutes <= UTC_OFFSET_MIN_MAX).then_some((clock.trim_end(), Some(sign * minutes * 60_000)))
}

/// Days since 1970-01-01; `None` for a day that no calendar has (Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms").
fn days_from_civil(year: i64, month: i64, day: i64) -> Option<i64> {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if is_leap => 29,
        2 => 28,
        _ => return None,
    };
    if !(1970..=9999).contains(&year) || !(1..=length).contains(&day) {
        return None;
    }
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let of_era = shifted - era * 400;
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

/// `2026-11-22` of days since 1970 (the inverse of [`days_from_civil`], same source).
pub fn day_text(days: i64) -> String {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted - era * 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_part = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_part + 2) / 5 + 1;
    let month = if month_part < 10 { month_part + 3 } else { month_part - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// The local day of a moment.
pub fn day_of(at_ms: i64, utc_offset_min: i64) -> String {
    day_text((at_ms + utc_offset_min * 60_000).div_euclid(DAY_MS))
}

/// A cell that no spreadsheet takes for a formula.
pub fn harmless(cell: &str) -> String {
    if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) && cell.parse::<f64>().is_err() {
        format!("'{cell}")
    } else {
        cell.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_lose_what_spreadsheets_wrap_around_them_and_rounded_ones_are_refused() {
        for (given, meant) in [
            ("'00123", "00123"),
            ("=\"00123\"", "00123"),
            ("\t００１２３ＡＢ\t", "00123AB"),
            ("\u{a0}00123\u{200b}", "00123"),
        ] {
            assert_eq!(id(given, 20).unwrap(), meant, "{given:?}");
        }
        for rounded in ["5.70228E+18", "5.7e18", "5E+18"] {
            assert!(id(rounded, 50).unwrap_err().contains("rounded"), "{rounded}");
        }
        assert!(id("12E5", 10).is_ok());
        assert!(id("a b", 10).is_err());
        assert!(id("123456", 5).is_err());
    }

    #[test]
    fn a_rounded_number_that_may_be_a_card_number_is_masked_and_still_seen_to_be_rounded() {
        for card in [
            "4.111111111111111E+15",
            "4.11111111111111E+15",
            "6.22202123456789E+18",
            "6.22202E+18",
            "'5.5555555555554E+15",
            "3.78282246310005E+14",
        ] {
            assert!(has_card_data(card), "{card}");
            let hidden = masked(card);
            assert!(!hidden.split('E').next().unwrap().contains(|c: char| c.is_ascii_digit()), "{hidden}");
            assert!(id(&hidden, 50).unwrap_err().contains("rounded"), "{hidden}");
        }
        for other in ["5.70228E+18", "8.50331053110612E+14", "4.1E+3", "4.1E+21", "8.9860012345678E+18", "4.E", "99.5"]
        {
            assert!(!has_card_data(other), "{other}");
            assert_eq!(masked(other), other);
        }
        assert_eq!(masked("卡 4111111111111111"), "卡 ****************");
    }

    #[test]
    fn money_is_read_in_its_unit_and_never_rounded() {
        for (given, fen) in [
            ("99", 9_900),
            ("6,181.87", 618_187),
            ("¥0.5", 50),
            ("１２.3０元", 1_230),
            ("-12.30", -1_230),
            ("12.300", 1_230),
            (".5", 50),
        ] {
            assert_eq!(money(given, Unit::Yuan), Ok(fen), "{given}");
        }
        for refused in ["12.345", "1.2.3", "abc", "--1", "1e3", "9999999999999", "."] {
            assert!(money(refused, Unit::Yuan).is_err(), "{refused}");
        }
        assert_eq!(money("618187", Unit::Fen), Ok(618_187));
        assert_eq!(money("618187.0", Unit::Fen), Ok(618_187));
        assert!(money("0.5", Unit::Fen).is_err());
    }

    #[test]
    fn rates_are_millionths() {
        for (given, unit, ppm) in [
            ("0.6", RateUnit::Percent, 6_000),
            ("0.63%", RateUnit::Fraction, 6_300),
            ("0.0038", RateUnit::Fraction, 3_800),
            ("0", RateUnit::Percent, 0),
        ] {
            assert_eq!(rate(given, unit), Ok(ppm), "{given}");
        }
        assert!(rate("101", RateUnit::Percent).is_err());
        assert!(rate("-1", RateUnit::Percent).is_err());
    }

    #[test]
    fn one_moment_in_every_writing() {
        const AT: i64 = 1_795_341_900_000; // 2026-11-22 18:05:00 +08:00
        for text in [
            "2026-11-22 18:05:00",
            "2026/11/22 18:05",
            "2026.11.22 18:05:00",
            "2026年11月22日 18:05:00",
            "20261122180500",
            "20261122 180500",
            "2026-11-22T18:05:00+08:00",
            "2026-11-22T10:05:00Z",
            "2026-11-22T10:05:00.000Z",
            "1795341900",
            "1795341900000",
            "46348.753472222",
            "'2026-11-22 18:05:00",
        ] {
            assert_eq!(moment(text, 480, None), Ok(AT), "{text}");
        }
        assert_eq!(moment("18:05:00", 480, Some("2026-11-22")), Ok(AT));
        assert_eq!(moment("180500", 480, Some("2026-11-22")), Ok(AT));
        assert_eq!(moment("2026/11/22", 480, None), Ok(AT - 65_100_000));
        for refused in ["", "yesterday", "2026-13-01", "2026-02-30 10:00", "2026-11-22 25:00", "18:05", "46348x"] {
            assert!(moment(refused, 480, None).is_err(), "{refused:?}");
        }
    }

    #[test]
    fn days_are_written_one_way() {
        for text in ["2026/11/22", "20261122", "2026-11-22", "46348", "2026年11月22日", "2026/11/22 10:00"] {
            assert_eq!(date(text).unwrap(), "2026-11-22", "{text}");
        }
        assert_eq!(day_text(0), "1970-01-01");
        assert_eq!(day_of(1_795_341_900_000, 480), "2026-11-22");
        for days in (0..60_000).step_by(37) {
            assert_eq!(day_and_rest(&day_text(days)).map(|(days, _)| days), Some(days));
        }
    }

    #[test]
    fn formulas_are_made_harmless_and_numbers_stay() {
        for (given, written) in
            [("=cmd()", "'=cmd()"), ("@x", "'@x"), ("-12.30", "-12.30"), ("+86", "+86"), ("a=b", "a=b")]
        {
            assert_eq!(harmless(given), written);
        }
    }
}
