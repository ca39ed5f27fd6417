//! A file of past events, read and checked row by row.

use std::collections::{BTreeSet, HashMap};

use super::words::{self, Outcome};
use crate::rollouts::gate::Arm;

/// Why a file cannot be judged. The text says where, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(pub String);

/// A file, read.
#[derive(Debug)]
pub struct Record {
    /// Names of the scope columns, in their order.
    pub columns: Vec<String>,
    /// Different combinations of scope values; rows name one by its position.
    pub combinations: Vec<Vec<String>>,
    /// Number of different terminals.
    pub terminals: usize,
    /// Whether there is a column of sites.
    pub has_sites: bool,
    /// In the order of the file, which is that of time.
    pub rows: Vec<Row>,
}

/// One row.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Where it stands in the file, from 1.
    pub line: u64,
    /// When, ms.
    pub t_ms: i64,
    /// The terminal, by number.
    pub terminal: usize,
    /// Its arm.
    pub arm: Arm,
    /// Its site, by number; `None` when the field is empty.
    pub site: Option<usize>,
    /// Its scope values.
    pub combination: usize,
    /// What happened.
    pub outcome: Outcome,
    /// Order among rows of the same instant.
    pub tie: u64,
}

/// Positions of the columns.
struct Columns {
    time: usize,
    terminal: usize,
    arm: usize,
    outcome: usize,
    site: Option<usize>,
    scopes: Vec<usize>,
}

/// Reads a file: UTF-8 (with or without byte order mark) or GB18030, separated by comma, semicolon or tab.
///
/// # Errors
/// [`Unreadable`] for the first thing that cannot be understood.
pub fn read(bytes: &[u8]) -> Result<Record, Unreadable> {
    let text = decode(bytes)?;
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter(&text))
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let mut records = reader.records();
    let header = next(&mut records)?.ok_or_else(|| Unreadable("the file is empty; it needs a header".into()))?;
    let header: Vec<String> = header.iter().map(str::to_owned).collect();
    let columns = columns(&header)?;
    let mut names = Names::default();
    let mut rows = Vec::new();
    let mut control_updates = BTreeSet::new();
    let mut update_words = Vec::new();
    while let Some(record) = next(&mut records)? {
        let line = record.position().map_or(0, csv::Position::line);
        if record.iter().all(str::is_empty) {
            continue;
        }
        let row = names.row(&record, line, &header, &columns)?;
        if rows.last().is_some_and(|last: &Row| last.t_ms > row.t_ms) {
            return Err(at(line, "is earlier than the row above it; sort the file by its time"));
        }
        if row.outcome == Outcome::Update {
            let word = words::plain(record.get(columns.outcome).unwrap_or_default());
            if row.arm == Arm::Control {
                control_updates.insert(word.clone());
            }
            update_words.push((rows.len(), word));
        }
        rows.push(row);
    }
    if rows.is_empty() {
        return Err(Unreadable("the file has a header and no rows".into()));
    }
    // Nothing is installed on controls: what happens to them as well is no outcome of the update.
    for (position, _) in update_words.iter().filter(|(_, word)| control_updates.contains(word)) {
        rows[*position].outcome = Outcome::Health(crate::rollouts::gate::Class::Hard);
    }
    Ok(Record {
        columns: columns.scopes.iter().map(|column| header[*column].clone()).collect(),
        combinations: names.combinations.in_order(),
        terminals: names.terminals.numbers.len(),
        has_sites: columns.site.is_some(),
        rows,
    })
}

fn at(line: u64, problem: impl std::fmt::Display) -> Unreadable {
    Unreadable(format!("line {line}: {problem}"))
}

fn next(records: &mut csv::StringRecordsIter<'_, &[u8]>) -> Result<Option<csv::StringRecord>, Unreadable> {
    records.next().transpose().map_err(|error| {
        let line = error.position().map_or(0, csv::Position::line);
        at(line, format!("is no CSV: {error}"))
    })
}

fn decode(bytes: &[u8]) -> Result<String, Unreadable> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Ok(text.to_owned());
    }
    encoding_rs::GB18030
        .decode_without_bom_handling_and_without_replacement(bytes)
        .map(std::borrow::Cow::into_owned)
        .ok_or_else(|| Unreadable("the file is neither UTF-8 nor GB18030 text; save it as CSV".into()))
}

/// The separator: whichever the header has most of.
fn delimiter(text: &str) -> u8 {
    let header = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let count = |separator: u8| header.bytes().filter(|byte| *byte == separator).count();
    [b'\t', b';', b','].into_iter().max_by_key(|separator| count(*separator)).unwrap_or(b',')
}

fn columns(header: &[String]) -> Result<Columns, Unreadable> {
    let plain: Vec<String> = header.iter().map(|name| words::plain(name)).collect();
    for (position, name) in plain.iter().enumerate() {
        if !name.is_empty() && plain[..position].contains(name) {
            return Err(at(1, format!("the column \"{}\" stands there twice; rename or remove one", header[position])));
        }
    }
    let find = |names: &[&str]| names.iter().find_map(|name| plain.iter().position(|column| column == name));
    let need = |names: &[&str]| {
        find(names).ok_or_else(|| {
            let found = header.join(", ");
            at(1, format!("there is no column \"{}\" (also read: {}); found: {found}", names[0], names[1..].join(", ")))
        })
    };
    let (time, terminal) = (need(words::TIME)?, need(words::TERMINAL)?);
    let (arm, outcome, site) = (need(words::ARM)?, need(words::OUTCOME)?, find(words::SITE));
    let taken = [Some(time), Some(terminal), Some(arm), Some(outcome), site];
    let scopes = (0..header.len()).filter(|at| !plain[*at].is_empty() && !taken.contains(&Some(*at))).collect();
    Ok(Columns { time, terminal, arm, outcome, site, scopes })
}

/// Texts by number.
#[derive(Debug)]
struct Numbered<K> {
    numbers: HashMap<K, usize>,
}

impl<K> Default for Numbered<K> {
    fn default() -> Self {
        Self { numbers: HashMap::new() }
    }
}

impl<K: std::hash::Hash + Eq + Clone> Numbered<K> {
    fn number(&mut self, key: K) -> usize {
        let next = self.numbers.len();
        *self.numbers.entry(key).or_insert(next)
    }

    fn in_order(self) -> Vec<K> {
        let mut keys: Vec<_> = self.numbers.into_iter().collect();
        keys.sort_by_key(|(_, number)| *number);
        keys.into_iter().map(|(key, _)| key).collect()
    }
}

#[derive(Debug, Default)]
struct Names {
    terminals: Numbered<String>,
    sites: Numbered<String>,
    combinations: Numbered<Vec<String>>,
}

impl Names {
    fn row(
        &mut self,
        record: &csv::StringRecord,
        line: u64,
        header: &[String],
        columns: &Columns,
    ) -> Result<Row, Unreadable> {
        let surplus = record.iter().skip(header.len()).any(|field| !field.is_empty());
        if record.len() < header.len() || surplus {
            return Err(at(line, format!("has {} fields, the header {}", record.len(), header.len())));
        }
        let field = |column: usize| record.get(column).unwrap_or_default();
        let terminal = field(columns.terminal);
        if terminal.is_empty() {
            return Err(at(line, "names no terminal"));
        }
        let (arm_word, outcome_word) = (field(columns.arm), field(columns.outcome));
        let arm = words::arm(&words::plain(arm_word))
            .ok_or_else(|| at(line, format!("the arm \"{arm_word}\" is not known; use {}", words::arms())))?;
        let outcome = words::outcome(&words::plain(outcome_word)).ok_or_else(|| {
            at(line, format!("the outcome \"{outcome_word}\" is not known; use {}", words::outcomes()))
        })?;
        let site = columns.site.map(field).filter(|site| !site.is_empty());
        Ok(Row {
            line,
            t_ms: time(field(columns.time)).ok_or_else(|| {
                at(line, format!("the time \"{}\" is no number of milliseconds", field(columns.time)))
            })?,
            terminal: self.terminals.number(terminal.to_owned()),
            arm,
            site: site.map(|site| self.sites.number(site.to_owned())),
            combination: self
                .combinations
                .number(columns.scopes.iter().map(|column| field(*column).to_owned()).collect()),
            outcome,
            tie: crate::rollouts::gate::tie_order(&format!("{line}/{terminal}")),
        })
    }
}

/// Milliseconds; decimals are rounded.
fn time(text: &str) -> Option<i64> {
    /// Whole numbers up to here are exact in a decimal.
    const DECIMAL_MAX: f64 = 9e15;
    text.parse().ok().or_else(|| {
        let time = text.parse::<f64>().ok().filter(|time| time.abs() < DECIMAL_MAX)?;
        Some(time.round() as i64)
    })
}
