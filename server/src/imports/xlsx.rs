//! Rows of an XLSX file, cell by cell and never as a whole grid. Pure.
//!
//! The parts of the archive are unpacked once only to be counted: a small file that would become a huge one is refused
//! before the reader sees it.

use std::io::{Cursor, Read};

use calamine::{DataRef, Reader as _, Xlsx};
use tillward_protocol::FieldError;

use super::sheet::{COLUMNS_MAX, refused};
use super::values::day_text;

/// Largest archive once unpacked, bytes: the largest table that is taken, as XML.
const UNPACKED_BYTES_MAX: u64 = 768 * 1024 * 1024;
/// Most parts of an archive.
const PARTS_MAX: usize = 1_000;
/// Most rows between two that hold something: a cell at the end of the sheet is not a row of the table.
const LINES_MAX: u32 = 1_048_576;
/// Numbers beyond have lost digits in the spreadsheet already.
const EXACT_MAX: f64 = 999_999_999_999_999.0;

/// Hands each row of the first sheet that has any to `push`, with its line.
///
/// # Errors
/// [`FieldError`] on `file` for what is no such file, and whatever `push` refuses.
pub(super) fn rows(
    bytes: Vec<u8>,
    push: &mut impl FnMut(u64, Vec<String>) -> Result<(), FieldError>,
) -> Result<(), FieldError> {
    check_size(&bytes)?;
    let unreadable = || refused("is not a readable XLSX file; save it again, or as CSV");
    let mut book: Xlsx<_> = calamine::open_workbook_from_rs(Cursor::new(bytes)).map_err(|_| unreadable())?;
    for name in book.sheet_names() {
        let mut cells = book.worksheet_cells_reader(&name).map_err(|_| unreadable())?;
        let mut row: Vec<String> = Vec::new();
        let mut line = 0_u32;
        let mut has_rows = false;
        while let Some(cell) = cells.next_cell().map_err(|_| unreadable())? {
            let (at, column) = cell.get_position();
            if at != line && !row.is_empty() {
                has_rows = true;
                push(u64::from(line) + 1, std::mem::take(&mut row))?;
            }
            if at < line || at > LINES_MAX {
                return Err(unreadable());
            }
            line = at;
            let column = usize::try_from(column).unwrap_or(usize::MAX);
            let text = text_of(cell.get_value());
            if text.is_empty() {
                continue;
            }
            if column >= COLUMNS_MAX {
                return Err(refused(format!("has more than {COLUMNS_MAX} columns")));
            }
            if row.len() <= column {
                row.resize(column + 1, String::new());
            }
            if let Some(slot) = row.get_mut(column) {
                *slot = text;
            }
        }
        if !row.is_empty() {
            has_rows = true;
            push(u64::from(line) + 1, row)?;
        }
        if has_rows {
            return Ok(());
        }
    }
    Ok(())
}

/// A cell as it would stand in a CSV file.
fn text_of(value: &DataRef<'_>) -> String {
    match value {
        DataRef::Int(number) => number.to_string(),
        DataRef::Float(number) => number_text(*number),
        DataRef::String(text) => text.clone(),
        DataRef::SharedString(text) => (*text).to_owned(),
        DataRef::Bool(is_true) => if *is_true { "true" } else { "false" }.to_owned(),
        DataRef::DateTime(moment) if moment.is_datetime() => {
            let (year, month, day, hour, minute, second, ms) = moment.to_ymd_hms_milli();
            // Half a second is rounding of the day's fraction.
            let (second, carry) = if ms >= 500 { (second + 1, second == 59) } else { (second, false) };
            if carry {
                return serial_text(moment.as_f64());
            }
            format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
        }
        DataRef::DateTime(duration) => number_text(duration.as_f64()),
        DataRef::DateTimeIso(text) | DataRef::DurationIso(text) => text.clone(),
        DataRef::Error(_) | DataRef::Empty => String::new(),
    }
}

/// A day with its time, rounded to the second.
fn serial_text(serial: f64) -> String {
    let seconds = (serial * 86_400.0).round();
    // A cast saturates; no day of a spreadsheet comes near.
    #[allow(clippy::cast_possible_truncation)]
    let seconds = seconds as i64;
    let (days, of_day) = (seconds.div_euclid(86_400) - 25_569, seconds.rem_euclid(86_400));
    format!("{} {:02}:{:02}:{:02}", day_text(days), of_day / 3_600, of_day / 60 % 60, of_day % 60)
}

/// A number as people wrote it; one that lost digits stays in the form by which that is seen.
fn number_text(number: f64) -> String {
    if number.abs() > EXACT_MAX {
        return format!("{number:E}").replacen('E', "E+", 1);
    }
    // Fifteen digits are what a spreadsheet keeps: 0.1 + 0.2 is 0.3 again.
    let rounded: f64 = format!("{number:.14e}").parse().unwrap_or(number);
    format!("{rounded}")
}

/// Unpacks every part of the archive and counts.
fn check_size(bytes: &[u8]) -> Result<(), FieldError> {
    let mut left = UNPACKED_BYTES_MAX;
    for (method, packed) in parts(bytes).ok_or_else(|| refused("is not a whole archive"))? {
        let length = match method {
            0 => u64::try_from(packed.len()).unwrap_or(u64::MAX),
            8 => {
                let mut unpacked = flate2::read::DeflateDecoder::new(packed).take(left.saturating_add(1));
                std::io::copy(&mut unpacked, &mut std::io::sink()).map_err(|_| refused("is a damaged archive"))?
            }
            _ => return Err(refused("is packed in a way that is not known; save it again")),
        };
        left = left.checked_sub(length).ok_or_else(|| refused("is too large once unpacked; send it in parts"))?;
    }
    Ok(())
}

/// Method and packed bytes of each part, by the archive's directory (APPNOTE.TXT 4.3.12 and 4.3.16).
fn parts(bytes: &[u8]) -> Option<Vec<(u16, &[u8])>> {
    let two = |at: usize| Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?));
    let four = |at: usize| {
        let field: [u8; 4] = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(field)).ok()
    };
    // The end record has a comment of at most 65,535 bytes behind it.
    let search_from = bytes.len().saturating_sub(65_557);
    let tail = bytes.get(search_from..)?;
    let end = search_from + tail.windows(4).rposition(|window| window == b"PK\x05\x06")?;
    let count = usize::from(two(end + 10)?);
    let mut at = four(end + 16)?;
    if count > PARTS_MAX {
        return None;
    }
    let mut found = Vec::with_capacity(count);
    for _ in 0..count {
        if bytes.get(at..at.checked_add(4)?)? != b"PK\x01\x02" {
            return None;
        }
        let (method, packed_length, header) = (two(at + 10)?, four(at + 20)?, four(at + 42)?);
        let data = header.checked_add(30)? + usize::from(two(header + 26)?) + usize::from(two(header + 28)?);
        found.push((method, bytes.get(data..data.checked_add(packed_length)?)?));
        at = at.checked_add(46)? + usize::from(two(at + 28)?) + usize::from(two(at + 30)?) + usize::from(two(at + 32)?);
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_people_wrote_them_and_rounded_ones_are_seen() {
        for (number, text) in [(99.0, "99"), (6181.87, "6181.87"), (0.1 + 0.2, "0.3"), (0.006, "0.006"), (-1.5, "-1.5")]
        {
            assert_eq!(number_text(number), text);
        }
        assert!(super::super::values::is_rounded(&number_text(5.702_28e18)));
        assert_eq!(serial_text(46_348.753_472_222), "2026-11-22 18:05:00");
    }

    #[test]
    fn what_is_no_archive_is_refused() {
        for bad in [&b"PK\x03\x04"[..], b"PK\x03\x04PK\x05\x06", b""] {
            assert_eq!(rows(bad.to_vec(), &mut |_, _| Ok(())).unwrap_err().field, "file");
        }
    }
}
