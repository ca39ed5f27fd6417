//! Which column is which field, how its cells are written, and one row made of it. Pure.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use tillward_protocol::{FieldError, pan};

use super::values::{self, RateUnit, UTC_OFFSET_MIN_MAX, Unit};
use crate::terminals::fields::clean_text;

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// A number or code that stands for something: checked by its own form and never scanned for card numbers.
    Id {
        /// Longest, characters.
        chars_max: usize,
    },
    /// What people wrote; card data in it is masked.
    Text {
        /// Longest, characters; more is cut.
        chars_max: usize,
    },
    /// Money, kept in fen.
    Money,
    /// A rate, kept in millionths.
    Rate,
    /// A moment, kept in Unix ms.
    Moment,
    /// A day, kept as `2026-11-22`.
    Day,
    /// Yes or no, kept as 1 or 0.
    Flag,
    /// A whole number from 0.
    Count,
    /// One of some words, each with its usual writings.
    Word(&'static [(&'static str, &'static [&'static str])]),
}

/// A field that a kind of import knows.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Name in mappings.
    pub name: &'static str,
    /// What it holds.
    pub holds: Holds,
    /// Whether a file without it cannot be read.
    pub is_required: bool,
    /// Headings by which it is recognised: lower case, without spaces and signs.
    pub headings: &'static [&'static str],
}

/// A word of a channel for one of ours: its `S` for `success`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ImportWord)]
pub struct Word {
    /// Field.
    pub field: String,
    /// What the file says.
    pub says: String,
    /// What it means.
    pub means: String,
}

/// How transaction numbers of a channel look. Mappings that were saved with it stay good; numbers are kept as hashes
/// whatever they look like, because nothing could tell one from a card number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NumberForm {
    /// Length, characters.
    pub length: usize,
    /// What they begin with.
    #[serde(default)]
    pub prefix: String,
}

/// How one source writes its rows; saved, so that the next file of it needs no questions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ImportMapping)]
pub struct Mapping {
    /// By field: the heading of its column, or in callbacks the path of its member (`data.amount`).
    #[serde(default)]
    pub columns: BTreeMap<String, String>,
    /// How money is written.
    #[serde(default)]
    pub unit: Unit,
    /// How rates are written.
    #[serde(default)]
    pub rate_unit: RateUnit,
    /// Minutes that times without their own offset are ahead of UTC; China's 480 when absent.
    #[serde(default = "china_min")]
    pub utc_offset_min: i64,
    /// Words of the source for ours, at most 50.
    #[serde(default)]
    pub words: Vec<Word>,
    /// Form of the source's transaction numbers, if known.
    #[serde(default)]
    pub number_form: Option<NumberForm>,
    /// In callbacks: the path of the list of payments, when the body is not one payment or a list of them.
    #[serde(default)]
    pub rows_path: Option<String>,
}

/// China's offset from UTC, minutes.
pub fn china_min() -> i64 {
    480
}

/// Most words of one mapping.
const WORDS_MAX: usize = 50;
/// Longest heading, path or word, characters.
const NAME_CHARS_MAX: usize = 100;

/// A heading as it is compared.
pub fn plain(heading: &str) -> String {
    let kept =
        |c: &char| !c.is_whitespace() && !matches!(c, '_' | '-' | '*' | '.' | '(' | ')' | '/' | '\'' | '"' | ':');
    clean_text(heading).to_lowercase().chars().filter(kept).collect()
}

/// A heading without the unit that it may end with, and the unit.
fn without_unit(plain: &str) -> (&str, Option<Unit>) {
    for (end, unit) in [("元", Unit::Yuan), ("分", Unit::Fen)] {
        if let Some(rest) = plain.strip_suffix(end).filter(|rest| !rest.is_empty()) {
            return (rest, Some(unit));
        }
    }
    (plain, None)
}

impl Mapping {
    /// What the headings of a file say by themselves.
    pub fn of_headings(fields: &[Field], headings: &[String]) -> Self {
        let mut mapping = Self { utc_offset_min: china_min(), ..Self::default() };
        for heading in headings {
            let plain = plain(heading);
            let (bare, unit) = without_unit(&plain);
            let known = |name: &str| fields.iter().find(|field| field.headings.contains(&name));
            let Some(field) = known(&plain).or_else(|| known(bare)) else { continue };
            if mapping.columns.contains_key(field.name) {
                continue;
            }
            if let Some(unit) = unit.filter(|_| field.holds == Holds::Money) {
                mapping.unit = unit;
            }
            mapping.columns.insert(field.name.to_owned(), heading.clone());
        }
        // A lone column of dates mostly has the time in it.
        let has_moment = fields.iter().any(|field| field.name == "at_ms" && field.holds == Holds::Moment);
        if has_moment && !mapping.columns.contains_key("at_ms") {
            mapping.columns.remove("date").map(|column| mapping.columns.insert("at_ms".to_owned(), column));
        }
        mapping
    }

    /// The unit that the headings of its columns of money name, if any does.
    pub fn named_unit(&self, fields: &[Field]) -> Option<Unit> {
        let money = fields.iter().filter(|field| field.holds == Holds::Money);
        let mut columns = money.filter_map(|field| self.columns.get(field.name));
        columns.find_map(|column| without_unit(&plain(column)).1)
    }

    /// Checks a mapping that came from outside against the fields of its kind.
    ///
    /// # Errors
    /// [`FieldError`] for a field that is not known, a required one without a column, or a value out of bounds.
    pub fn check(&self, fields: &[Field]) -> Result<(), FieldError> {
        let refuse = |field: &str, problem: String| Err(FieldError::new(field, problem));
        for (name, column) in &self.columns {
            if !fields.iter().any(|field| field.name == name) {
                return refuse("mapping", format!("{name} is not a field of this kind of import"));
            }
            if column.trim().is_empty() || column.chars().count() > NAME_CHARS_MAX {
                return refuse(name, format!("must name a column with at most {NAME_CHARS_MAX} characters"));
            }
        }
        if let Some(field) = fields.iter().find(|field| field.is_required && !self.columns.contains_key(field.name)) {
            return refuse(field.name, "has no column; say which one it is".to_owned());
        }
        if !(-UTC_OFFSET_MIN_MAX..=UTC_OFFSET_MIN_MAX).contains(&self.utc_offset_min) {
            return refuse(
                "utc_offset_min",
                format!("must be between -{UTC_OFFSET_MIN_MAX} and {UTC_OFFSET_MIN_MAX} minutes"),
            );
        }
        if self.rows_path.as_ref().is_some_and(|path| path.chars().count() > NAME_CHARS_MAX) {
            return refuse("rows_path", format!("must be at most {NAME_CHARS_MAX} characters"));
        }
        if self.words.len() > WORDS_MAX {
            return refuse("words", format!("must be at most {WORDS_MAX}"));
        }
        for word in &self.words {
            let known = fields.iter().find(|field| field.name == word.field).map(|field| field.holds);
            let Some(Holds::Word(meanings)) = known else {
                return refuse("words", format!("{} is not a field that holds words", word.field));
            };
            if !meanings.iter().any(|(name, _)| *name == word.means) {
                return refuse("words", format!("{} cannot be {}", word.field, word.means));
            }
            if word.says.trim().is_empty() || word.says.chars().count() > NAME_CHARS_MAX {
                return refuse("words", format!("must each have 1 to {NAME_CHARS_MAX} characters"));
            }
        }
        match &self.number_form {
            Some(form) if !(6..=64).contains(&form.length) || form.prefix.len() > form.length => {
                refuse("number_form", "must have a length of 6 to 64 and a prefix that fits into it".to_owned())
            }
            _ => Ok(()),
        }
    }
}

/// A value of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Text(String),
    Number(i64),
}

/// One row as its fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Where it stands in the file, from 1 with the headings; 1 for what came alone.
    pub line: u64,
    values: HashMap<&'static str, Value>,
}

impl Row {
    /// What a field says, for ids, texts, words and days.
    pub fn text(&self, field: &str) -> Option<&str> {
        match self.values.get(field)? {
            Value::Text(text) => Some(text),
            Value::Number(_) => None,
        }
    }

    /// What a field counts, for money (fen), rates (millionths), moments (Unix ms), flags and counts.
    pub fn number(&self, field: &str) -> Option<i64> {
        match self.values.get(field)? {
            Value::Number(number) => Some(*number),
            Value::Text(_) => None,
        }
    }

    /// Fields with their values as a person reads them, in the order of `fields`.
    pub fn shown(&self, fields: &[Field]) -> Vec<(&'static str, String)> {
        let shown = fields.iter().filter_map(|field| {
            let text = match self.values.get(field.name)? {
                Value::Text(text) => text.clone(),
                Value::Number(number) => number.to_string(),
            };
            Some((field.name, text))
        });
        shown.collect()
    }
}

/// A mapping made ready for one file: which column each field is read from.
#[derive(Debug, Clone)]
pub struct Reader {
    fields: &'static [Field],
    /// Field, index of its column.
    columns: Vec<(Field, usize)>,
    mapping: Mapping,
}

impl Reader {
    /// # Errors
    /// [`FieldError`] for a mapping that is wrong in itself, for a column that the file does not have, and for columns of
    /// money whose headings name two units.
    pub fn new(fields: &'static [Field], mapping: &Mapping, headings: &[String]) -> Result<Self, FieldError> {
        mapping.check(fields)?;
        let plain_headings: Vec<String> = headings.iter().map(|heading| plain(heading)).collect();
        let mut columns = Vec::new();
        for (name, column) in &mapping.columns {
            let Some(field) = fields.iter().find(|field| field.name == name) else { continue };
            match plain_headings.iter().position(|heading| *heading == plain(column)) {
                Some(index) => columns.push((*field, index)),
                None if !field.is_required => {}
                None => return Err(FieldError::new(name, "has no such column in this file")),
            }
        }
        one_unit(&columns, &plain_headings)?;
        // Days first: a time of day is read with them.
        columns.sort_by_key(|(field, _)| field.holds != Holds::Day);
        Ok(Self { fields, columns, mapping: mapping.clone() })
    }

    /// The same for columns that are called exactly so: paths of members.
    ///
    /// # Errors
    /// [`FieldError`] for a mapping that is wrong in itself.
    pub fn exact(fields: &'static [Field], mapping: &Mapping, paths: &[String]) -> Result<Self, FieldError> {
        mapping.check(fields)?;
        let place = |(name, path): (&String, &String)| {
            let field = fields.iter().find(|field| field.name == name)?;
            Some((*field, paths.iter().position(|known| known == path)?))
        };
        let mut columns: Vec<(Field, usize)> = mapping.columns.iter().filter_map(place).collect();
        columns.sort_by_key(|(field, _)| field.holds != Holds::Day);
        Ok(Self { fields, columns, mapping: mapping.clone() })
    }

    /// The same for a mapping that may lack required fields, to know which columns it reads.
    pub fn loose(fields: &'static [Field], mapping: &Mapping, headings: &[String]) -> Option<Self> {
        let plain_headings: Vec<String> = headings.iter().map(|heading| plain(heading)).collect();
        let place = |(name, column): (&String, &String)| {
            let field = fields.iter().find(|field| field.name == name)?;
            Some((*field, plain_headings.iter().position(|heading| *heading == plain(column))?))
        };
        let columns: Vec<(Field, usize)> = mapping.columns.iter().filter_map(place).collect();
        (!columns.is_empty()).then(|| Self { fields, columns, mapping: mapping.clone() })
    }

    /// Whether the cells of this column are read by their own form, and not scanned for card numbers.
    pub fn is_id(&self, index: usize) -> bool {
        self.columns.iter().any(|(field, at)| *at == index && !matches!(field.holds, Holds::Text { .. }))
    }

    /// One row.
    ///
    /// # Errors
    /// [`FieldError`] for the first cell that cannot be read, or for a required one that is empty.
    pub fn row<'a>(&self, line: u64, cell: impl Fn(usize) -> Option<&'a str>) -> Result<Row, FieldError> {
        let mut row = Row { line, values: HashMap::with_capacity(self.columns.len()) };
        for (field, index) in &self.columns {
            let Some(text) = cell(*index).filter(|text| !is_empty(text)) else { continue };
            let value = self.value(field, text, row.text("date"));
            match value.map_err(|problem| FieldError::new(field.name, problem))? {
                Value::Text(text) if text.is_empty() => {}
                value => _ = row.values.insert(field.name, value),
            }
        }
        match self.fields.iter().find(|field| field.is_required && !row.values.contains_key(field.name)) {
            Some(field) => Err(FieldError::new(field.name, "must not be empty")),
            None => Ok(row),
        }
    }

    fn value(&self, field: &Field, cell: &str, date: Option<&str>) -> Result<Value, String> {
        Ok(match field.holds {
            Holds::Id { chars_max } => Value::Text(values::id(cell, chars_max)?),
            Holds::Text { chars_max } => Value::Text(pan::mask(&values::text(cell, chars_max))),
            Holds::Money => Value::Number(values::money(cell, self.mapping.unit)?),
            Holds::Rate => Value::Number(values::rate(cell, self.mapping.rate_unit)?),
            Holds::Moment => Value::Number(values::moment(cell, self.mapping.utc_offset_min, date)?),
            Holds::Day => Value::Text(values::date(cell)?),
            Holds::Flag => Value::Number(i64::from(values::flag(cell)?)),
            Holds::Count => Value::Number(values::count(cell)?),
            Holds::Word(meanings) => Value::Text(self.word(field, meanings, cell)?.to_owned()),
        })
    }

    fn word<'b>(&'b self, field: &Field, meanings: &[(&'static str, &[&str])], cell: &str) -> Result<&'b str, String> {
        let said = clean_text(cell);
        if let Some(word) = self.mapping.words.iter().find(|word| word.field == field.name && word.says.trim() == said)
        {
            return Ok(&word.means);
        }
        let said = said.to_lowercase();
        let meant = meanings.iter().find(|(name, writings)| *name == said || writings.contains(&said.as_str()));
        meant
            .map(|(name, _)| *name)
            .ok_or_else(|| "is a word that is not known; say in the mapping what it means".to_owned())
    }
}

/// A file is read in one unit: headings that name two are no such file.
fn one_unit(columns: &[(Field, usize)], plain_headings: &[String]) -> Result<(), FieldError> {
    let mut named = None;
    for (field, index) in columns.iter().filter(|(field, _)| field.holds == Holds::Money) {
        let Some(unit) = plain_headings.get(*index).and_then(|heading| without_unit(heading).1) else { continue };
        if *named.get_or_insert(unit) != unit {
            return Err(FieldError::new(
                field.name,
                "is in another unit than other amounts; choose columns of one unit",
            ));
        }
    }
    Ok(())
}

/// What spreadsheets and channels write where there is nothing.
fn is_empty(text: &str) -> bool {
    matches!(text.trim(), "" | "-" | "--" | "null" | "NULL" | "'" | "\\N")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: &[Field] = &[
        Field { name: "sn", holds: Holds::Id { chars_max: 50 }, is_required: true, headings: &["sn", "机具号"] },
        Field { name: "amount_fen", holds: Holds::Money, is_required: true, headings: &["amount", "交易金额"] },
        Field { name: "fee_fen", holds: Holds::Money, is_required: false, headings: &["手续费"] },
        Field { name: "date", holds: Holds::Day, is_required: false, headings: &["交易日期"] },
        Field { name: "at_ms", holds: Holds::Moment, is_required: false, headings: &["交易时间"] },
        Field {
            name: "status",
            holds: Holds::Word(&[("success", &["成功"]), ("failure", &["失败"])]),
            is_required: false,
            headings: &["状态"],
        },
        Field { name: "name", holds: Holds::Text { chars_max: 10 }, is_required: false, headings: &["商户名称"] },
    ];

    fn headings(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn read(mapping: &Mapping, names: &[&str], cells: &[&str]) -> Result<Row, FieldError> {
        let reader = Reader::new(FIELDS, mapping, &headings(names))?;
        reader.row(2, |index| cells.get(index).copied())
    }

    #[test]
    fn usual_headings_need_no_mapping_and_name_the_unit() {
        let names = ["机具号*", "交易金额（元）", "交易日期", "交易时间", "状态", "颜色"];
        let mapping = Mapping::of_headings(FIELDS, &headings(&names));
        assert_eq!(mapping.unit, Unit::Yuan);
        let row = read(&mapping, &names, &["'0012", "6,181.87", "2026/11/22", "18:05:00", "成功", "red"]).unwrap();
        assert_eq!((row.text("sn"), row.number("amount_fen")), (Some("0012"), Some(618_187)));
        assert_eq!((row.text("status"), row.number("at_ms")), (Some("success"), Some(1_795_341_900_000)));
        let in_fen = Mapping::of_headings(FIELDS, &headings(&["SN", "交易金额(分)"]));
        assert_eq!((in_fen.unit, in_fen.named_unit(FIELDS)), (Unit::Fen, Some(Unit::Fen)));
        assert_eq!(Mapping::of_headings(FIELDS, &headings(&["SN", "交易金额"])).named_unit(FIELDS), None);
    }

    #[test]
    fn headings_that_name_two_units_are_read_in_neither() {
        let names = headings(&["SN", "交易金额(元)", "手续费(分)"]);
        let mapping = Mapping::of_headings(FIELDS, &names);
        assert_eq!(Reader::new(FIELDS, &mapping, &names).unwrap_err().field, "fee_fen");
        let mut columns = mapping.columns.clone();
        columns.remove("fee_fen");
        assert!(Reader::new(FIELDS, &Mapping { columns, ..mapping }, &names).is_ok());
    }

    #[test]
    fn a_bad_cell_is_refused_by_its_fields_name() {
        let names = ["sn", "amount", "交易时间", "状态"];
        let mapping = Mapping::of_headings(FIELDS, &headings(&names));
        for (cells, field) in [
            (["5.7E+18", "1", "", ""], "sn"),
            (["", "1", "", ""], "sn"),
            (["A1", "1.234", "", ""], "amount_fen"),
            (["A1", "1", "soon", ""], "at_ms"),
            (["A1", "1", "", "perhaps"], "status"),
        ] {
            assert_eq!(read(&mapping, &names, &cells).unwrap_err().field, field, "{cells:?}");
        }
    }

    #[test]
    fn a_mapping_from_outside_is_checked() {
        let good = Mapping::of_headings(FIELDS, &headings(&["sn", "amount"]));
        assert_eq!(good.check(FIELDS), Ok(()));
        let word =
            |field: &str, means: &str| Word { field: field.to_owned(), says: "S".to_owned(), means: means.to_owned() };
        let without = |name: &str| {
            let mut columns = good.columns.clone();
            columns.remove(name);
            Mapping { columns, ..good.clone() }
        };
        let mut unknown = good.clone();
        unknown.columns.insert("colour".to_owned(), "颜色".to_owned());
        for (mapping, field) in [
            (without("sn"), "sn"),
            (unknown, "mapping"),
            (Mapping { utc_offset_min: 900, ..good.clone() }, "utc_offset_min"),
            (Mapping { words: vec![word("sn", "x")], ..good.clone() }, "words"),
            (Mapping { words: vec![word("status", "maybe")], ..good.clone() }, "words"),
            (
                Mapping { number_form: Some(NumberForm { length: 3, prefix: String::new() }), ..good.clone() },
                "number_form",
            ),
        ] {
            assert_eq!(mapping.check(FIELDS).unwrap_err().field, field);
        }
    }

    #[test]
    fn words_of_the_source_are_understood_when_the_mapping_has_them_and_card_numbers_in_text_are_masked() {
        let names = ["sn", "amount", "状态", "商户名称"];
        let mapping = Mapping {
            words: vec![Word { field: "status".to_owned(), says: "S".to_owned(), means: "success".to_owned() }],
            ..Mapping::of_headings(FIELDS, &headings(&names))
        };
        let row = read(&mapping, &names, &["A1", "1", "S", "张记"]).unwrap();
        assert_eq!((row.text("status"), row.text("name")), (Some("success"), Some("张记")));
    }
}
