//! A file of terminals, read row by row in blocks.

use std::collections::HashMap;
use std::io::Cursor;

use csv::{ByteRecord, StringRecord};
use tillward_protocol::FieldError;

use super::parse::{self, Columns, Row};
use super::{BLOCK_ROWS, ROWS_MAX};
use crate::terminals::fields::Registration;

/// A file that is being read.
pub(super) struct Reading {
    reader: csv::Reader<Cursor<Vec<u8>>>,
    pub(super) columns: Columns,
    model: Option<String>,
    rows: u64,
    /// Where each serial number and TUSN stood first.
    seen: HashMap<String, u64>,
}

/// Some rows of it.
pub(super) struct Rows {
    /// Good so far.
    pub(super) good: Vec<(StringRecord, Row)>,
    pub(super) refused: Vec<(StringRecord, FieldError)>,
    pub(super) columns: Columns,
    pub(super) is_last: bool,
}

impl Reading {
    /// Begins to read `text`.
    ///
    /// # Errors
    /// [`FieldError`] for headings that cannot be understood, and for more than [`ROWS_MAX`] rows: all are counted before
    /// the first is taken, so that what is refused was not half imported.
    pub(super) fn new(text: String, model: Option<String>) -> Result<Self, FieldError> {
        let delimiter = parse::delimiter(&text);
        let mut options = csv::ReaderBuilder::new();
        options.delimiter(delimiter).flexible(true);
        check_rows(&mut options.from_reader(text.as_bytes()))?;
        let mut reader = options.from_reader(Cursor::new(text.into_bytes()));
        let headings = reader.headers().map_err(|error| unreadable(&error))?;
        let columns = Columns::new(headings, model.is_some())?;
        Ok(Self { reader, columns, model, rows: 0, seen: HashMap::new() })
    }

    /// The next rows, at most [`BLOCK_ROWS`].
    pub(super) fn next_block(&mut self) -> Result<Rows, FieldError> {
        let mut rows = Rows { good: Vec::new(), refused: Vec::new(), columns: self.columns.clone(), is_last: false };
        while rows.good.len() + rows.refused.len() < BLOCK_ROWS {
            let mut record = StringRecord::new();
            if !self.reader.read_record(&mut record).map_err(|error| unreadable(&error))? {
                rows.is_last = true;
                break;
            }
            // Spreadsheets end files with rows of empty cells.
            if record.iter().all(|cell| cell.trim().is_empty()) {
                continue;
            }
            self.rows += 1;
            let row = self.columns.row(&record, self.model.as_deref());
            match row.and_then(|row| self.once(&row.registration).map(|()| row)) {
                Ok(row) => rows.good.push((record, row)),
                Err(error) => rows.refused.push((record, error)),
            }
        }
        Ok(rows)
    }

    /// Refuses a number that stood in an earlier row.
    fn once(&mut self, registration: &Registration) -> Result<(), FieldError> {
        let row = self.rows + 1;
        let mut note = |field: &str, key: String| match self.seen.insert(key.clone(), row) {
            None => Ok(()),
            Some(earlier) => {
                self.seen.insert(key, earlier);
                Err(FieldError::new(field, format!("stands in line {earlier} of this file already")))
            }
        };
        note("sn", registration.sn.as_str().to_owned())?;
        // No serial number holds a colon.
        registration.tusn.as_ref().map_or(Ok(()), |tusn| note("tusn", format!("tusn:{tusn}")))
    }
}

fn check_rows(reader: &mut csv::Reader<&[u8]>) -> Result<(), FieldError> {
    let mut record = ByteRecord::new();
    let mut rows = 0;
    while reader.read_byte_record(&mut record).map_err(|error| unreadable(&error))? {
        rows += u64::from(record.iter().any(|cell| !cell.trim_ascii().is_empty()));
        if rows > ROWS_MAX {
            return Err(FieldError::new("body", format!("has more than {ROWS_MAX} rows; send it in parts")));
        }
    }
    Ok(())
}

fn unreadable(error: &csv::Error) -> FieldError {
    let line = error.position().map_or(String::new(), |position| format!(" in line {}", position.line()));
    FieldError::new("body", format!("is not a CSV file{line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_counted_before_any_is_taken_and_empty_ones_are_none() {
        let file = |rows: u64| {
            let mut text = "sn\n".to_owned();
            for row in 0..rows {
                text.push_str(&format!("A{row}\n"));
            }
            text.push_str(&"  ,\n".repeat(10));
            Reading::new(text, Some("a-b".to_owned())).map(drop)
        };
        assert_eq!(file(ROWS_MAX), Ok(()));
        let refused = file(ROWS_MAX + 1).unwrap_err();
        assert_eq!(refused.field, "body");
        assert!(refused.problem.contains("send it in parts"), "{refused}");
    }
}
