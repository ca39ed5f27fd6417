//! What the rules compare with: thresholds, response codes, fees, categories. Pure.
//!
//! Nothing of it is code: each table is a file of rows with source, date, note and confidence, which an organization may
//! override row by row. What is in force for it is the seed with the overrides from the root of the tree down to itself,
//! and the version is the hash of exactly that, so a verdict can always be traced to what it was judged by.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tillward_protocol::ids::Sha256Hex;

use super::thresholds::Thresholds;
use super::verdict::{Cause, Severity, Symptom};

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

    /// The tables as the rules read them.
    ///
    /// # Errors
    /// [`TableError`] naming the first cell that cannot be read.
    pub fn parse(&self) -> Result<Tables, TableError> {
        let thresholds = Thresholds::read(&self.cells(TableName::Thresholds)?)?;
        let codes = self.cells(TableName::ResponseCodes)?;
        let mccs = self.cells(TableName::MccClasses)?;
        let fees = self.cells(TableName::FlatFees)?;
        Ok(Tables {
            version: self.version(),
            thresholds,
            codes: codes
                .iter()
                .map(|cells| Ok((cells.key.to_owned(), CodeRow::read(cells)?)))
                .collect::<Result<_, _>>()?,
            mcc_classes: mccs.iter().map(|cells| Ok((digits(cells, 4)?, class(cells)?))).collect::<Result<_, _>>()?,
            mcc_names: names(&mccs, "name_zh")?,
            flat_fees_fen: fees.iter().map(|cells| cells.integer(cells.key_column)).collect::<Result<_, _>>()?,
            institutions: names(&self.cells(TableName::Institutions)?, "name")?,
            regions: names(&self.cells(TableName::Regions)?, "name")?,
            carriers: names(&self.cells(TableName::Carriers)?, "carrier")?,
            name_suffixes: longest_first(&self.cells(TableName::NameSuffixes)?),
            causes: self.cells(TableName::Causes)?.iter().map(cause).collect::<Result<_, _>>()?,
        })
    }

    fn cells(&self, name: TableName) -> Result<Vec<Cells<'_>>, TableError> {
        let Some(table) = self.0.get(&name) else { return Ok(Vec::new()) };
        let key_column = table.columns.first().map_or("", String::as_str);
        Ok(table.rows.iter().map(|(key, row)| Cells { table: name, key_column, key, row }).collect())
    }
}

/// A row of text with its place, so that what is wrong with it can be said.
pub(super) struct Cells<'a> {
    table: TableName,
    key_column: &'a str,
    pub(super) key: &'a str,
    row: &'a Row,
}

impl Cells<'_> {
    pub(super) fn text(&self, column: &str) -> &str {
        self.row.get(column).map_or("", |text| text.trim())
    }

    pub(super) fn fault(&self, column: &str, problem: &str) -> TableError {
        TableError {
            table: self.table,
            key: self.key.to_owned(),
            column: column.to_owned(),
            problem: problem.to_owned(),
        }
    }

    /// A whole number.
    pub(super) fn integer(&self, column: &str) -> Result<i64, TableError> {
        self.text(column).parse().map_err(|_| self.fault(column, "must be a whole number"))
    }

    /// A value of an enumeration; `None` for an empty cell.
    fn named<T>(&self, column: &str, parse: fn(&str) -> Option<T>) -> Result<Option<T>, TableError> {
        match self.text(column) {
            "" => Ok(None),
            text => parse(text).map(Some).ok_or_else(|| self.fault(column, "is not one of the names known here")),
        }
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

fn names(rows: &[Cells<'_>], column: &str) -> Result<BTreeMap<String, String>, TableError> {
    Ok(rows.iter().map(|cells| (cells.key.to_owned(), cells.text(column).to_owned())).collect())
}

fn longest_first(rows: &[Cells<'_>]) -> Vec<String> {
    let mut suffixes: Vec<String> = rows.iter().map(|cells| cells.key.to_owned()).collect();
    suffixes.sort_by_key(|suffix| std::cmp::Reverse(suffix.chars().count()));
    suffixes
}

fn digits(cells: &Cells<'_>, count: usize) -> Result<String, TableError> {
    if cells.key.len() == count && cells.key.bytes().all(|b| b.is_ascii_digit()) {
        Ok(cells.key.to_owned())
    } else {
        Err(cells.fault(cells.key_column, "must be digits, as many as in the rows shipped"))
    }
}

/// Fee class of a merchant category, the dearest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RiskClass {
    /// 标准.
    Standard,
    /// 优惠.
    Preferential,
    /// 减免/公益: no fee.
    Reduced,
    /// 特殊.
    Special,
}

impl RiskClass {
    /// Name in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Preferential => "preferential",
            Self::Reduced => "reduced",
            Self::Special => "special",
        }
    }

    /// The class of this name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Standard, Self::Preferential, Self::Reduced, Self::Special].into_iter().find(|c| c.as_str() == name)
    }
}

fn class(cells: &Cells<'_>) -> Result<RiskClass, TableError> {
    cells.named("class", RiskClass::parse)?.ok_or_else(|| cells.fault("class", "must not be empty"))
}

/// What has to hold for the other cause of a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeCondition {
    /// Several times on this terminal within a day.
    RepeatedDay,
    /// Several times at this merchant within a day.
    MerchantSpike,
    /// Firmware or payment application changed shortly before.
    VersionChanged,
    /// The terminal was not signed in.
    NotSignedIn,
    /// Around midnight, when the hosts change the day.
    Night,
    /// Less was approved than asked for.
    PartialAmount,
}

impl CodeCondition {
    /// Name in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RepeatedDay => "repeated_day",
            Self::MerchantSpike => "merchant_spike",
            Self::VersionChanged => "version_changed",
            Self::NotSignedIn => "not_signed_in",
            Self::Night => "night",
            Self::PartialAmount => "partial_amount",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        [
            Self::RepeatedDay,
            Self::MerchantSpike,
            Self::VersionChanged,
            Self::NotSignedIn,
            Self::Night,
            Self::PartialAmount,
        ]
        .into_iter()
        .find(|condition| condition.as_str() == name)
    }
}

/// What a response code means.
#[derive(Debug, Clone, PartialEq)]
pub struct CodeRow {
    /// The code, or `stage:` and a stage for failures without one.
    pub code: String,
    /// Meaning, in Chinese.
    pub meaning_zh: String,
    /// Meaning, in English.
    pub meaning_en: String,
    /// A ok, B retry, C failed, D deal with card or terminal, E system.
    pub class: String,
    /// Cause; none for approvals.
    pub cause: Option<Cause>,
    /// When the other cause holds.
    pub condition: Option<CodeCondition>,
    /// The cause then.
    pub cause_if: Option<Cause>,
    /// The severity then.
    pub severity_if: Option<Severity>,
    /// What is seen.
    pub symptom: Symptom,
    /// How much it matters.
    pub severity: Severity,
    /// How sure, 0 to 1.
    pub confidence: f64,
    /// Whether the answer proves that message and line were in order.
    pub path_proven: bool,
    /// What to do, in Chinese.
    pub advice_zh: String,
    /// What to do, in English.
    pub advice_en: String,
}

impl CodeRow {
    fn read(cells: &Cells<'_>) -> Result<Self, TableError> {
        let is_code = cells.key.len() == 2 && cells.key.bytes().all(|b| b.is_ascii_alphanumeric());
        if !is_code && !cells.key.starts_with("stage:") {
            return Err(cells.fault(cells.key_column, "must be two letters or digits, or stage: and a stage"));
        }
        let confidence: f64 =
            cells.text("confidence").parse().map_err(|_| cells.fault("confidence", "must be a number from 0 to 1"))?;
        if !(0.0..=1.0).contains(&confidence) {
            return Err(cells.fault("confidence", "must be a number from 0 to 1"));
        }
        Ok(Self {
            code: cells.key.to_owned(),
            meaning_zh: cells.text("meaning_zh").to_owned(),
            meaning_en: cells.text("meaning_en").to_owned(),
            class: cells.text("class").to_owned(),
            cause: cells.named("cause", Cause::parse)?,
            condition: cells.named("condition", CodeCondition::parse)?,
            cause_if: cells.named("cause_if", Cause::parse)?,
            severity_if: cells.named("severity_if", Severity::parse)?,
            symptom: cells.named("symptom", Symptom::parse)?.unwrap_or(Symptom::Fail),
            severity: cells.named("severity", Severity::parse)?.unwrap_or(Severity::Low),
            confidence,
            path_proven: match cells.text("path_proven") {
                "yes" => true,
                "no" => false,
                _ => return Err(cells.fault("path_proven", "must be yes or no")),
            },
            advice_zh: cells.text("advice_zh").to_owned(),
            advice_en: cells.text("advice_en").to_owned(),
        })
    }
}

/// The tables as the rules read them.
#[derive(Debug, Clone, PartialEq)]
pub struct Tables {
    /// Hash of all rows: what verdicts keep.
    pub version: String,
    /// Numbers with a unit.
    pub thresholds: Thresholds,
    /// By code.
    pub codes: BTreeMap<String, CodeRow>,
    /// Fee class by category.
    pub mcc_classes: BTreeMap<String, RiskClass>,
    /// Name of a category.
    pub mcc_names: BTreeMap<String, String>,
    /// Fixed fees, fen.
    pub flat_fees_fen: BTreeSet<i64>,
    /// Acquiring institution by its three digits.
    pub institutions: BTreeMap<String, String>,
    /// Region by its first two digits.
    pub regions: BTreeMap<String, String>,
    /// Carrier by network code.
    pub carriers: BTreeMap<String, String>,
    /// Endings of names that say nothing, the longest first.
    pub name_suffixes: Vec<String>,
    /// What causes are called, and what to do about them.
    pub causes: BTreeMap<Cause, CauseRow>,
}

/// What a cause is called, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CauseRow {
    /// Name, in Chinese.
    pub name_zh: String,
    /// Name, in English.
    pub name_en: String,
    /// What to do, in Chinese.
    pub advice_zh: String,
    /// What to do, in English.
    pub advice_en: String,
}

fn cause(cells: &Cells<'_>) -> Result<(Cause, CauseRow), TableError> {
    let cause =
        Cause::parse(cells.key).ok_or_else(|| cells.fault(cells.key_column, "is not one of the names known here"))?;
    let text = |column: &str| cells.text(column).to_owned();
    let row = CauseRow {
        name_zh: text("name_zh"),
        name_en: text("name_en"),
        advice_zh: text("advice_zh"),
        advice_en: text("advice_en"),
    };
    Ok((cause, row))
}
