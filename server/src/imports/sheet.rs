//! An uploaded file as one plain table: CSV in any usual encoding or XLSX in, CSV in UTF-8 out. Pure.
//!
//! Everything after this reads the plain table only. Card data never gets into it: cells of columns that are not ids are
//! scanned on the way, masked and counted; so are numbers in any column that a spreadsheet rounded. A file with too many
//! rows or columns is refused before anything is kept.

use tillward_protocol::{FieldError, pan};

use super::mapping::{Field, Mapping, Reader, plain};
use super::{values, xlsx};
use crate::terminals::fields::clean_text;

/// Most rows of one file below its headings.
pub const ROWS_MAX: u64 = 200_000;
/// Most columns.
pub const COLUMNS_MAX: usize = 100;
/// Longest cell, characters: longer ones are cut, no field is as long.
const CELL_CHARS_MAX: usize = 2_000;
/// Rows among which the headings are looked for: files begin with titles and dates.
const HEADING_ROWS: usize = 10;
/// The byte order mark of UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// A file as a plain table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sheet {
    /// How it was written: `UTF-8`, `UTF-8 with BOM`, `GB18030`, `XLSX`.
    pub encoding: &'static str,
    /// Headings, cleaned; empty ones are called by their place.
    pub headings: Vec<String>,
    /// Rows below the headings.
    pub rows: u64,
    /// Cells that held card data and were masked.
    pub card_cells: u64,
    /// The rows without the headings: line of the file, then the cells.
    pub csv: Vec<u8>,
}

/// Reads a file.
///
/// # Errors
/// [`FieldError`] on `file` when it is neither CSV nor XLSX, is empty, or is too large.
pub fn read(bytes: Vec<u8>, fields: &'static [Field], saved: Option<&Mapping>) -> Result<Sheet, FieldError> {
    let mut table = Table::new(fields, saved);
    let encoding = if bytes.starts_with(b"PK\x03\x04") {
        xlsx::rows(bytes, &mut |line, cells| table.push(line, cells))?;
        "XLSX"
    } else {
        let (text, encoding) = decode(bytes)?;
        csv_rows(&text, &mut table)?;
        encoding
    };
    table.finish(encoding)
}

pub(super) fn refused(problem: impl Into<String>) -> FieldError {
    FieldError::new("file", problem)
}

/// The text of a file: with a byte order mark or valid UTF-8 it is UTF-8, anything else GB18030, which holds GBK.
fn decode(mut bytes: Vec<u8>) -> Result<(String, &'static str), FieldError> {
    let neither = || refused("is neither XLSX nor UTF-8 or GB18030 text; save the sheet as XLSX or CSV");
    if bytes.starts_with(MARK) {
        bytes.drain(..MARK.len());
        return String::from_utf8(bytes).map(|text| (text, "UTF-8 with BOM")).map_err(|_| neither());
    }
    let bytes = match String::from_utf8(bytes) {
        Ok(text) => return Ok((text, "UTF-8")),
        Err(error) => error.into_bytes(),
    };
    let text = encoding_rs::GB18030.decode_without_bom_handling_and_without_replacement(&bytes).ok_or_else(neither)?;
    Ok((text.into_owned(), "GB18030"))
}

fn csv_rows(text: &str, table: &mut Table) -> Result<(), FieldError> {
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter(text))
        .flexible(true)
        .has_headers(false)
        .from_reader(text.as_bytes());
    let mut record = csv::StringRecord::new();
    loop {
        let more = reader.read_record(&mut record).map_err(|error| {
            let line = error.position().map_or(String::new(), |position| format!(" in line {}", position.line()));
            refused(format!("is not a CSV file{line}"))
        })?;
        if !more {
            return Ok(());
        }
        let line = record.position().map_or(0, csv::Position::line);
        table.push(line, record.iter().map(str::to_owned).collect())?;
    }
}

/// The column separator: what the first lines have most of.
fn delimiter(text: &str) -> u8 {
    let count =
        |separator: u8| text.lines().take(HEADING_ROWS).flat_map(str::bytes).filter(|&b| b == separator).count();
    // The last of equal counts is taken: a comma where there is nothing to choose.
    [b'|', b'\t', b';', b','].into_iter().max_by_key(|&separator| count(separator)).unwrap_or(b',')
}

/// A table that is being read.
struct Table {
    fields: &'static [Field],
    saved: Option<Mapping>,
    /// The first rows, until the headings are among them.
    first: Vec<(u64, Vec<String>)>,
    headings: Vec<String>,
    /// Whether a column is read by its own form.
    is_id: Vec<bool>,
    rows: u64,
    card_cells: u64,
    writer: csv::Writer<Vec<u8>>,
}

impl Table {
    fn new(fields: &'static [Field], saved: Option<&Mapping>) -> Self {
        Self {
            fields,
            saved: saved.cloned(),
            first: Vec::new(),
            headings: Vec::new(),
            is_id: Vec::new(),
            rows: 0,
            card_cells: 0,
            writer: csv::WriterBuilder::new().flexible(true).has_headers(false).from_writer(Vec::new()),
        }
    }

    fn push(&mut self, line: u64, cells: Vec<String>) -> Result<(), FieldError> {
        if cells.len() > COLUMNS_MAX && cells.iter().skip(COLUMNS_MAX).any(|cell| !cell.trim().is_empty()) {
            return Err(refused(format!("has more than {COLUMNS_MAX} columns")));
        }
        // Spreadsheets end files with rows of empty cells.
        if cells.iter().all(|cell| cell.trim().is_empty()) {
            return Ok(());
        }
        if !self.headings.is_empty() {
            return self.write(line, cells);
        }
        self.first.push((line, cells));
        if self.first.len() >= HEADING_ROWS { self.settle() } else { Ok(()) }
    }

    /// Picks the headings among the first rows: the row with the most known ones, the first where none has any.
    fn settle(&mut self) -> Result<(), FieldError> {
        let known = |cells: &[String]| {
            let is_saved = |heading: &str| {
                self.saved
                    .as_ref()
                    .is_some_and(|saved| saved.columns.values().any(|column| plain(column) == plain(heading)))
            };
            let by_words = Mapping::of_headings(self.fields, cells).columns.len();
            by_words.max(cells.iter().filter(|heading| is_saved(heading)).count())
        };
        let counts: Vec<usize> = self.first.iter().map(|(_, cells)| known(cells)).collect();
        let most = counts.iter().copied().max().unwrap_or(0);
        let at = counts.iter().position(|&count| count == most).unwrap_or(0);
        let mut first = std::mem::take(&mut self.first).into_iter().skip(at);
        let Some((_, headings)) = first.next() else { return Err(refused("is empty")) };
        self.headings = named(&headings);
        let mapping = self.saved.clone().unwrap_or_else(|| Mapping::of_headings(self.fields, &self.headings));
        let guessed = Mapping::of_headings(self.fields, &self.headings);
        let readers: Vec<Reader> = [mapping, guessed]
            .iter()
            .filter_map(|mapping| Reader::loose(self.fields, mapping, &self.headings))
            .collect();
        self.is_id = (0..self.headings.len()).map(|index| readers.iter().any(|reader| reader.is_id(index))).collect();
        first.try_for_each(|(line, cells)| self.write(line, cells))
    }

    fn write(&mut self, line: u64, cells: Vec<String>) -> Result<(), FieldError> {
        self.rows += 1;
        if self.rows > ROWS_MAX {
            return Err(refused(format!("has more than {ROWS_MAX} rows; send it in parts")));
        }
        let mut kept = Vec::with_capacity(self.headings.len() + 1);
        kept.push(line.to_string());
        for (index, cell) in cells.into_iter().take(self.headings.len()).enumerate() {
            let cell = if cell.len() > CELL_CHARS_MAX { cell.chars().take(CELL_CHARS_MAX).collect() } else { cell };
            // What was rounded is no id that could be read.
            let is_card = match self.is_id.get(index) {
                Some(true) => values::is_rounded_card(&cell),
                Some(false) | None => values::has_card_data(&cell),
            };
            if is_card {
                self.card_cells += 1;
                kept.push(values::masked(&cell));
            } else {
                kept.push(cell);
            }
        }
        self.writer.write_record(&kept).map_err(|_| refused("could not be read"))
    }

    fn finish(mut self, encoding: &'static str) -> Result<Sheet, FieldError> {
        if self.headings.is_empty() {
            self.settle()?;
        }
        let csv = self.writer.into_inner().map_err(|_| refused("could not be read"))?;
        Ok(Sheet { encoding, headings: self.headings, rows: self.rows, card_cells: self.card_cells, csv })
    }
}

/// Headings as people see them; an empty one is called by its place, one that stands twice gets its place behind it.
fn named(headings: &[String]) -> Vec<String> {
    let mut named: Vec<String> = Vec::with_capacity(headings.len());
    for (index, heading) in headings.iter().take(COLUMNS_MAX).enumerate() {
        let cleaned: String = pan::mask(&clean_text(heading)).chars().filter(|c| !c.is_control()).take(100).collect();
        let is_taken = named.iter().any(|earlier| plain(earlier) == plain(&cleaned));
        named.push(match (cleaned.is_empty(), is_taken) {
            (true, _) => format!("#{}", index + 1),
            (false, true) => format!("{cleaned} #{}", index + 1),
            (false, false) => cleaned,
        });
    }
    named
}

#[cfg(test)]
mod tests {
    use super::super::mapping::Holds;
    use super::*;

    const FIELDS: &[Field] = &[
        Field { name: "sn", holds: Holds::Id { chars_max: 50 }, is_required: true, headings: &["sn", "机具号"] },
        Field { name: "name", holds: Holds::Text { chars_max: 50 }, is_required: false, headings: &["商户名称"] },
    ];

    fn text(sheet: &Sheet) -> String {
        String::from_utf8(sheet.csv.clone()).unwrap()
    }

    #[test]
    fn every_encoding_that_spreadsheets_write_is_told_apart() {
        let file = "机具号,商户名称\n1,张记\n";
        let gbk = encoding_rs::GBK.encode(file).0.into_owned();
        let bom = [MARK, file.as_bytes()].concat();
        for (bytes, encoding) in [(gbk, "GB18030"), (bom, "UTF-8 with BOM"), (file.as_bytes().to_vec(), "UTF-8")] {
            let sheet = read(bytes, FIELDS, None).unwrap();
            assert_eq!((sheet.encoding, sheet.rows, text(&sheet).as_str()), (encoding, 1, "2,1,张记\n"));
            assert_eq!(sheet.headings, ["机具号", "商户名称"]);
        }
        for bad in [&b"\xef\xbb\xbf\xff"[..], b"\xff\xff\x00", b"", b"\n\n,,\n"] {
            assert_eq!(read(bad.to_vec(), FIELDS, None).unwrap_err().field, "file");
        }
    }

    #[test]
    fn titles_above_the_headings_and_empty_rows_are_no_rows() {
        let file = "某某渠道交易明细,,\n2026-11-01 至 2026-11-07,,\n,,\n商户名称;x,机具号,\n张记,A1,\n,,\n李记,A2,\n";
        let sheet = read(file.as_bytes().to_vec(), FIELDS, None).unwrap();
        assert_eq!(sheet.headings, ["商户名称;x", "机具号", "#3"]);
        assert_eq!(text(&sheet), "5,张记,A1,\n7,李记,A2,\n");
    }

    #[test]
    fn card_data_is_counted_and_never_kept_and_ids_are_not_mistaken_for_it() {
        let file = "SN,商户名称,备注\n4111111111111111,张记 4111 1111 1111 1111,6222021234567890128\n";
        let sheet = read(file.as_bytes().to_vec(), FIELDS, None).unwrap();
        assert_eq!(sheet.card_cells, 2);
        let kept = text(&sheet);
        assert!(kept.starts_with("2,4111111111111111,张记 ****"), "{kept}");
        assert!(!kept.contains("6222"), "{kept}");
    }

    #[test]
    fn card_numbers_that_a_spreadsheet_rounded_are_kept_in_no_column() {
        let file = "SN,商户名称,备注\n4.111111111111111E+15,6.22202123456789E+18,4.11111111111111E+15\n5.70228E+18,,\n";
        let sheet = read(file.as_bytes().to_vec(), FIELDS, None).unwrap();
        assert_eq!(sheet.card_cells, 3);
        let kept = text(&sheet);
        assert!(!kept.contains("111") && !kept.contains("222"), "{kept}");
        assert!(kept.contains("3,5.70228E+18,"), "{kept}");
    }

    #[test]
    fn too_much_is_refused() {
        let wide = format!("sn{}\nA{}\n", ",x".repeat(COLUMNS_MAX), ",1".repeat(COLUMNS_MAX));
        assert!(read(wide.into_bytes(), FIELDS, None).unwrap_err().problem.contains("columns"));
        let mut long = "sn\n".to_owned();
        for row in 0..=ROWS_MAX {
            long.push_str(&format!("A{row}\n"));
        }
        assert!(read(long.into_bytes(), FIELDS, None).unwrap_err().problem.contains("send it in parts"));
    }

    #[test]
    fn the_separator_is_what_the_first_lines_have_most_of() {
        for (text, separator) in [("a,b\n", b','), ("t\na;b;c,d\n", b';'), ("a\tb", b'\t'), ("a|b", b'|'), ("", b',')] {
            assert_eq!(delimiter(text), separator, "{text}");
        }
    }
}
