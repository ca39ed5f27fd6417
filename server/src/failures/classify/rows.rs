//! The tables as the rules read them, and how their cells are read. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::tables::{RawTables, Row, TableError, TableName};
use super::thresholds::Thresholds;
use super::verdict::{Cause, Severity, Symptom};

impl RawTables {
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
        let Some(table) = self.table(name) else { return Ok(Vec::new()) };
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
