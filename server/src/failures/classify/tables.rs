//! What the rules compare with: thresholds, response codes, fees, categories. Pure.
//!
//! Nothing of it is code: each table is a file of rows with source, date, note and confidence, which an organization may
//! override row by row. What is in force for it is the seed with the overrides from the root of the tree down to itself,
//! and the version is the hash of exactly that, so a verdict can always be traced to what it was judged by.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tillward_protocol::ids::Sha256Hex;

/// One row: its columns by name.
pub type Row = BTreeMap<String, String>;

/// Longest text in one column, characters.
pub const CELL_CHARS_MAX: usize = 400;
/// Most rows that one organization may override.
pub const OVERRIDES_MAX: usize = 500;

/// A table that may be overridden.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TableName {
    /// Response codes (8583 field 39) and, as `stage:dns`, failures without one.
    ResponseCodes,
    /// Numbers with a unit.
    Thresholds,
    /// Fees of a fixed amount.
    FlatFees,
    /// Merchant categories and their fee class.
    MccClasses,
    /// Acquiring institutions.
    Institutions,
    /// Regions, by their first two digits.
    Regions,
    /// Carriers, by network code.
    Carriers,
    /// Endings of merchant names that say nothing.
    NameSuffixes,
    /// What causes are called, and what to do about them.
    Causes,
}

impl TableName {
    /// Every table.
    pub const ALL: [Self; 9] = [
        Self::ResponseCodes,
        Self::Thresholds,
        Self::FlatFees,
        Self::MccClasses,
        Self::Institutions,
        Self::Regions,
        Self::Carriers,
        Self::NameSuffixes,
        Self::Causes,
    ];

    /// Name in URLs and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ResponseCodes => "response_codes",
            Self::Thresholds => "thresholds",
            Self::FlatFees => "flat_fees",
            Self::MccClasses => "mcc_classes",
            Self::Institutions => "institutions",
            Self::Regions => "regions",
            Self::Carriers => "carriers",
            Self::NameSuffixes => "name_suffixes",
            Self::Causes => "causes",
        }
    }

    /// The table of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.as_str() == name)
    }

    /// The rows as shipped.
    fn seed(self) -> &'static str {
        match self {
            Self::ResponseCodes => include_str!("../../../data/response_codes.csv"),
            Self::Thresholds => include_str!("../../../data/thresholds.csv"),
            Self::FlatFees => include_str!("../../../data/flat_fees.csv"),
            Self::MccClasses => include_str!("../../../data/mcc_classes.csv"),
            Self::Institutions => include_str!("../../../data/institutions.csv"),
            Self::Regions => include_str!("../../../data/regions.csv"),
            Self::Carriers => include_str!("../../../data/carriers.csv"),
            Self::NameSuffixes => include_str!("../../../data/name_suffixes.csv"),
            Self::Causes => include_str!("../../../data/causes.csv"),
        }
    }
}

/// Columns that say where a row comes from; every table has them.
pub const PROVENANCE: [&str; 4] = ["source", "date", "note", "source_confidence"];

/// What is wrong with a table, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{table}, row {key}, {column}: {problem}", table = .table.as_str())]
pub struct TableError {
    /// Which table.
    pub table: TableName,
    /// Key of the row.
    pub key: String,
    /// Column.
    pub column: String,
    /// What is wrong with it and what would be right.
    pub problem: String,
}

/// One row that an organization changed: another one, or none at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Override {
    /// Which table.
    pub table: TableName,
    /// Key of the row: what stands in the table's first column.
    pub key: String,
    /// The columns that differ; those not named stay as they are. `null`: the row does not hold here.
    pub row: Option<Row>,
}

/// Every table as rows of text: what is edited, and what the version is the hash of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawTables(BTreeMap<TableName, RawTable>);

/// One table: its columns in order, and its rows by key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawTable {
    /// Columns in order; the first is the key.
    pub columns: Vec<String>,
    /// Rows by key.
    pub rows: BTreeMap<String, Row>,
}

impl RawTables {
    /// The tables as shipped.
    ///
    /// # Errors
    /// [`TableError`] when a seed file is malformed, which a test rules out.
    pub fn seed() -> Result<Self, TableError> {
        TableName::ALL
            .into_iter()
            .map(|table| Ok((table, read(table, table.seed())?)))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// These tables with an organization's changes.
    ///
    /// # Errors
    /// [`TableError`] for a column that the table does not have, and for texts that are too long.
    pub fn with(mut self, overrides: &[Override]) -> Result<Self, TableError> {
        for change in overrides {
            let Some(table) = self.0.get_mut(&change.table) else { continue };
            let Some(columns) = &change.row else {
                table.rows.remove(&change.key);
                continue;
            };
            let fault = |column: &str, problem: &str| TableError {
                table: change.table,
                key: change.key.clone(),
                column: column.to_owned(),
                problem: problem.to_owned(),
            };
            let key_column = table.columns.first().cloned().unwrap_or_default();
            if change.key.is_empty() || change.key.chars().count() > CELL_CHARS_MAX {
                return Err(fault(&key_column, "must not be empty, nor longer than a cell"));
            }
            let row = table.rows.entry(change.key.clone()).or_default();
            row.insert(key_column.clone(), change.key.clone());
            for (column, value) in columns {
                if !table.columns.contains(column) {
                    return Err(fault(column, "is no column of this table"));
                }
                if value.chars().count() > CELL_CHARS_MAX {
                    return Err(fault(column, "is too long"));
                }
                if *column != key_column {
                    row.insert(column.clone(), value.clone());
                }
            }
        }
        Ok(self)
    }

    /// One table.
    pub fn table(&self, name: TableName) -> Option<&RawTable> {
        self.0.get(&name)
    }

    /// Hash of everything in them: the version that verdicts keep.
    pub fn version(&self) -> String {
        let mut text = String::new();
        for (name, table) in &self.0 {
            for (key, row) in &table.rows {
                // Lengths keep two different rows from reading the same.
                for part in
                    [name.as_str(), key].into_iter().chain(row.iter().flat_map(|(c, v)| [c.as_str(), v.as_str()]))
                {
                    text.push_str(&format!("{}:{part};", part.len()));
                }
            }
        }
        Sha256Hex::of(text.as_bytes()).as_str().to_owned()
    }
}

/// Reads one seed file.
fn read(table: TableName, text: &str) -> Result<RawTable, TableError> {
    let fault = |key: &str, problem: String| TableError { table, key: key.to_owned(), column: String::new(), problem };
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let columns: Vec<String> =
        reader.headers().map_err(|error| fault("", error.to_string()))?.iter().map(str::to_owned).collect();
    let mut rows = BTreeMap::new();
    for record in reader.records() {
        let record = record.map_err(|error| fault("", error.to_string()))?;
        let key = record.get(0).unwrap_or_default().to_owned();
        let row = columns.iter().cloned().zip(record.iter().map(str::to_owned)).collect();
        if rows.insert(key.clone(), row).is_some() {
            return Err(fault(&key, "stands there twice".to_owned()));
        }
    }
    Ok(RawTable { columns, rows })
}
