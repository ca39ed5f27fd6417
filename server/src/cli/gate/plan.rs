//! How a file is read: which terminals were at risk when, in which strata and scopes.
//!
//! With `start` rows the file says it. Without, each row closes a watch, and how far back the watch reaches is decided from
//! the order of rows alone: see [`Reading`].

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::record::{Record, Row, Unreadable};
use super::words::{self, Outcome};
use crate::rollouts::gate::{Arm, AtRisk, SCOPES_MAX, kept_strata};

/// Rows of a stratum that are compared with each other: about ten controls where one in twenty is held back.
const WATCH_ROWS: usize = 200;
/// A value is a scope when at least so many terminals of each arm have it.
const SCOPE_ARM_MIN: u64 = 10;
/// A column makes strata as long as the strata of their own hold this share of all terminals, in per cent.
const STRATA_SHARE_PERCENT: u64 = 80;

/// What the rows of a file mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Reading {
    /// `start` rows say from when on a terminal can fail.
    Starts,
    /// No `start` rows, and failures come in clusters before the successes: a terminal was watched for the window before
    /// its row.
    Watches,
    /// No `start` rows, failures and successes mixed: each row is a finished trial, compared with those around it.
    Trials,
}

impl Reading {
    /// `starts`, `watches` or `trials`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starts => "starts",
            Self::Watches => "watches",
            Self::Trials => "trials",
        }
    }
}

/// One value of one column.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scope {
    /// Position of the column.
    pub column: usize,
    /// The value.
    pub value: String,
}

/// How a file is read.
#[derive(Debug)]
pub struct Plan {
    /// What its rows mean.
    pub reading: Reading,
    /// The scopes, by number.
    pub scopes: Vec<Scope>,
    /// Names of the columns that make the strata.
    pub strata_columns: Vec<String>,
    /// Number of strata.
    pub strata: usize,
    /// Stratum of each combination.
    pub stratum_of: Vec<usize>,
    /// Scopes of each combination.
    pub scopes_of: Vec<Vec<usize>>,
    /// For each row of a file without starts, when it is compared.
    pub watches: Vec<Option<Watch>>,
}

/// The time in which a row is compared with failures of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watch {
    /// Its begin, ms.
    pub from_ms: i64,
    /// Its end, ms.
    pub until_ms: i64,
    /// Whether it begins where an earlier row of the same terminal ended.
    pub is_again: bool,
}

impl Plan {
    /// Decides. `strata` are the columns that make the strata, `window_ms` is that after an update.
    ///
    /// # Errors
    /// [`Unreadable`] for columns that the file does not have, and a reading that needs `start` rows without any.
    pub fn new(
        record: &Record,
        reading: Option<Reading>,
        strata: Option<&[String]>,
        window_ms: i64,
    ) -> Result<Self, Unreadable> {
        let reading = decide(record, reading)?;
        let sizes = sizes(record);
        let scopes = scopes(record, &sizes);
        let named = strata.map(|names| names.iter().map(|name| column(record, name)).collect::<Result<Vec<_>, _>>());
        let (columns, kept) = strata_keys(record, &sizes, &scopes, named.transpose()?);
        let key = |combination: &[String]| stratum_key(combination, &columns, &scopes);
        let stratum_of: Vec<usize> = record
            .combinations
            .iter()
            .map(|combination| kept.iter().position(|kept| *kept == key(combination)).unwrap_or(kept.len()))
            .collect();
        let scopes_of = record
            .combinations
            .iter()
            .map(|combination| {
                let has = |scope: &Scope| combination[scope.column] == scope.value;
                scopes.iter().enumerate().filter(|(_, scope)| has(scope)).map(|(number, _)| number).collect()
            })
            .collect();
        let watches = match reading {
            Reading::Starts => vec![None; record.rows.len()],
            Reading::Watches => watches(record, &stratum_of, window_ms),
            Reading::Trials => trials(record, &stratum_of),
        };
        Ok(Self {
            reading,
            strata_columns: columns.iter().map(|column| record.columns[*column].clone()).collect(),
            strata: stratum_of.iter().collect::<BTreeSet<_>>().len(),
            scopes,
            stratum_of,
            scopes_of,
            watches,
        })
    }
}

fn column(record: &Record, name: &str) -> Result<usize, Unreadable> {
    let at = record.columns.iter().position(|column| words::plain(column) == words::plain(name));
    at.ok_or_else(|| {
        Unreadable(format!("there is no scope column \"{name}\"; the file has: {}", record.columns.join(", ")))
    })
}

fn decide(record: &Record, asked: Option<Reading>) -> Result<Reading, Unreadable> {
    let has_starts = record.rows.iter().any(|row| row.outcome == Outcome::Start);
    match asked {
        Some(Reading::Starts) if !has_starts => Err(Unreadable("the file has no start rows".into())),
        Some(Reading::Watches | Reading::Trials) if has_starts => {
            Err(Unreadable("the file has start rows, which say what is at risk; remove them or --reading".into()))
        }
        Some(reading) => Ok(reading),
        None if has_starts => Ok(Reading::Starts),
        None if is_clustered(record) => Ok(Reading::Watches),
        None => Ok(Reading::Trials),
    }
}

/// Whether in one of the arms failures follow failures much more often than chance lets them.
fn is_clustered(record: &Record) -> bool {
    [Arm::Treated, Arm::Control].into_iter().any(|arm| {
        let failures: Vec<bool> = record
            .rows
            .iter()
            .filter(|row| row.arm == arm)
            .map(|row| matches!(row.outcome, Outcome::Health(_) | Outcome::Update))
            .collect();
        let failed = failures.iter().filter(|failed| **failed).count() as f64;
        let pairs = failures.windows(2).filter(|pair| pair[0] && pair[1]).count() as f64;
        let expected = failed * (failed - 1.0).max(0.0) / (failures.len().max(1) as f64);
        // Pairs are about Poisson: four deviations and a little for small numbers.
        pairs > expected + 4.0 * expected.sqrt() + 3.0
    })
}

/// Terminals of each arm by combination, as they stand when their watch begins.
fn sizes(record: &Record) -> BTreeMap<usize, AtRisk> {
    let is_start = |row: &&Row| row.outcome == Outcome::Start;
    let started: BTreeSet<usize> = record.rows.iter().filter(is_start).map(|row| row.terminal).collect();
    let mut seen = BTreeSet::new();
    let mut sizes: BTreeMap<usize, AtRisk> = BTreeMap::new();
    for row in record.rows.iter().filter(|row| is_start(row) || !started.contains(&row.terminal)) {
        let is_treated = row.arm == Arm::Treated;
        if seen.insert((row.terminal, row.combination, is_treated)) {
            let arms = sizes.entry(row.combination).or_default();
            *(if is_treated { &mut arms.treated } else { &mut arms.control }) += 1;
        }
    }
    sizes
}

fn sum_by<K: Ord>(sizes: &BTreeMap<usize, AtRisk>, key: impl Fn(usize) -> K) -> BTreeMap<K, AtRisk> {
    let mut sums: BTreeMap<K, AtRisk> = BTreeMap::new();
    for (combination, arms) in sizes {
        let sum = sums.entry(key(*combination)).or_default();
        sum.treated += arms.treated;
        sum.control += arms.control;
    }
    sums
}

fn total(arms: &AtRisk) -> u64 {
    arms.treated + arms.control
}

/// The most common values of columns that have more than one.
fn scopes(record: &Record, sizes: &BTreeMap<usize, AtRisk>) -> Vec<Scope> {
    let mut found: Vec<(Scope, AtRisk)> = Vec::new();
    for column in 0..record.columns.len() {
        let values = sum_by(sizes, |combination| record.combinations[combination][column].clone());
        if values.len() > 1 {
            found.extend(values.into_iter().map(|(value, arms)| (Scope { column, value }, arms)));
        }
    }
    found.retain(|(scope, arms)| {
        !scope.value.is_empty() && arms.treated >= SCOPE_ARM_MIN && arms.control >= SCOPE_ARM_MIN
    });
    found.sort_by(|a, b| total(&b.1).cmp(&total(&a.1)).then_with(|| a.0.cmp(&b.0)));
    found.truncate(SCOPES_MAX);
    let mut scopes: Vec<Scope> = found.into_iter().map(|(scope, _)| scope).collect();
    scopes.sort();
    scopes
}

/// Values of the columns, those that are no scope taken together.
fn stratum_key(combination: &[String], columns: &[usize], scopes: &[Scope]) -> Vec<Option<String>> {
    let is_scope = |column: usize, value: &str| scopes.iter().any(|s| s.column == column && s.value == value);
    columns.iter().map(|column| Some(&combination[*column]).filter(|value| is_scope(*column, value)).cloned()).collect()
}

/// The columns that make strata, and the strata of their own. Unless named, columns are taken in their order while the
/// strata of their own hold nearly all terminals.
fn strata_keys(
    record: &Record,
    sizes: &BTreeMap<usize, AtRisk>,
    scopes: &[Scope],
    named: Option<Vec<usize>>,
) -> (Vec<usize>, Vec<Vec<Option<String>>>) {
    let keys = |columns: &[usize]| {
        let by_key = sum_by(sizes, |combination| stratum_key(&record.combinations[combination], columns, scopes));
        let kept = kept_strata(&by_key);
        let held: u64 = kept.iter().filter_map(|key| by_key.get(key)).map(total).sum();
        (kept, held)
    };
    if let Some(columns) = named {
        let (kept, _) = keys(&columns);
        return (columns, kept);
    }
    let all: u64 = sizes.values().map(total).sum();
    let mut chosen = (Vec::new(), keys(&[]).0);
    for column in (0..record.columns.len()).filter(|column| scopes.iter().any(|scope| scope.column == *column)) {
        let columns = [&chosen.0[..], &[column]].concat();
        let (kept, held) = keys(&columns);
        if held * 100 >= all * STRATA_SHARE_PERCENT {
            chosen = (columns, kept);
        }
    }
    chosen
}

/// Positions of the rows of each stratum.
fn by_stratum(record: &Record, stratum_of: &[usize]) -> HashMap<usize, Vec<usize>> {
    let mut rows: HashMap<usize, Vec<usize>> = HashMap::new();
    for (number, row) in record.rows.iter().enumerate() {
        rows.entry(stratum_of[row.combination]).or_default().push(number);
    }
    rows
}

/// Each row among as many of its stratum before as after it: where the arms' shares drift, what one side gains by it the
/// other loses.
fn trials(record: &Record, stratum_of: &[usize]) -> Vec<Option<Watch>> {
    let mut watches = vec![None; record.rows.len()];
    for rows in by_stratum(record, stratum_of).values() {
        let t_ms = |at: usize| record.rows[rows[at]].t_ms;
        for (at, number) in rows.iter().enumerate() {
            let until = (at + WATCH_ROWS / 2).min(rows.len() - 1);
            let from_ms = t_ms(at.saturating_sub(WATCH_ROWS / 2));
            watches[*number] = Some(Watch { from_ms, until_ms: t_ms(until), is_again: false });
        }
    }
    watches
}

/// Each row closes a watch, which began so many rows of its stratum before, or a window before where that is longer, but
/// not before an earlier row of the same terminal.
fn watches(record: &Record, stratum_of: &[usize], window_ms: i64) -> Vec<Option<Watch>> {
    let first_ms = record.rows.first().map_or(0, |row| row.t_ms);
    let mut watches = vec![None; record.rows.len()];
    for rows in by_stratum(record, stratum_of).values() {
        for (at, number) in rows.iter().enumerate() {
            let until_ms = record.rows[*number].t_ms;
            let rows_back_ms = at.checked_sub(WATCH_ROWS).map_or(first_ms, |at| record.rows[rows[at]].t_ms);
            let from_ms = rows_back_ms.min(until_ms.saturating_sub(window_ms)).max(first_ms);
            watches[*number] = Some(Watch { from_ms, until_ms, is_again: false });
        }
    }
    let mut last: HashMap<usize, i64> = HashMap::new();
    for (row, watch) in record.rows.iter().zip(&mut watches) {
        let before_ms = last.insert(row.terminal, row.t_ms);
        if let (Some(watch), Some(before_ms)) = (watch, before_ms)
            && before_ms >= watch.from_ms
        {
            *watch = Watch { from_ms: before_ms, is_again: true, ..*watch };
        }
    }
    watches
}
