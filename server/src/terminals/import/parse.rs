//! Files of terminals as spreadsheets write them: encoding, headings, cells. Pure.

use csv::StringRecord;
use tillward_protocol::{FieldError, pan};

use crate::terminals::fields::{NewTerminal, Registration, clean_id, clean_text};
use crate::text;

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub enum Encoding {
    /// UTF-8 that says so.
    #[serde(rename = "UTF-8 with BOM")]
    Utf8Bom,
    /// UTF-8.
    #[serde(rename = "UTF-8")]
    Utf8,
    /// GB18030, which holds all of GBK.
    #[serde(rename = "GB18030")]
    Gb18030,
}

/// The text of a file: with a byte order mark or valid UTF-8 it is UTF-8, anything else GB18030.
///
/// # Errors
/// [`FieldError`] when it is neither.
pub fn decode(mut bytes: Vec<u8>) -> Result<(String, Encoding), FieldError> {
    let neither = || FieldError::new("body", "is neither UTF-8 nor GB18030 text; save the sheet as CSV");
    // A large file is not copied where it is text as it stands.
    if bytes.starts_with(MARK) {
        bytes.drain(..MARK.len());
        return String::from_utf8(bytes).map(|text| (text, Encoding::Utf8Bom)).map_err(|_| neither());
    }
    let bytes = match String::from_utf8(bytes) {
        Ok(text) => return Ok((text, Encoding::Utf8)),
        Err(error) => error.into_bytes(),
    };
    let text = encoding_rs::GB18030.decode_without_bom_handling_and_without_replacement(&bytes).ok_or_else(neither)?;
    Ok((text.into_owned(), Encoding::Gb18030))
}

/// The byte order mark of UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Sn,
    Model,
    Organization,
    MerchantNo,
    MerchantName,
    StoreName,
    TerminalNo,
    Region,
    Tags,
    Iccid,
    Imei,
    Tusn,
    Hardware,
    Notes,
}

/// Headings as they are met, in lower case without spaces, dashes and underscores. 终端号 is the channel's number, not
/// the serial number.
const HEADINGS: [(Column, &[&str]); 14] = [
    (
        Column::Sn,
        &[
            "sn",
            "serial",
            "serialno",
            "serialnumber",
            "机具号",
            "机具序列号",
            "序列号",
            "设备序列号",
            "终端序列号",
            "机具sn",
            "机身号",
        ],
    ),
    (Column::Model, &["model", "modelcode", "型号", "机型", "设备型号", "终端型号", "机具型号"]),
    (
        Column::Organization,
        &[
            "org",
            "orgcode",
            "organization",
            "organizationcode",
            "机构",
            "机构号",
            "机构编号",
            "机构编码",
            "机构代码",
            "代理商",
            "代理商编号",
        ],
    ),
    (Column::MerchantNo, &["merchantno", "merchantnumber", "merchantid", "商户号", "商户编号"]),
    (Column::MerchantName, &["merchant", "merchantname", "商户", "商户名", "商户名称"]),
    (Column::StoreName, &["store", "storename", "门店", "门店名", "门店名称"]),
    (Column::TerminalNo, &["terminalno", "terminalnumber", "终端号", "终端编号"]),
    (Column::Region, &["region", "地区", "区域"]),
    (Column::Tags, &["tag", "tags", "标签"]),
    (Column::Iccid, &["iccid", "sim", "sim卡号", "流量卡号"]),
    (Column::Imei, &["imei"]),
    (Column::Tusn, &["tusn", "银联终端序列号"]),
    (Column::Hardware, &["hardware", "硬件版本"]),
    (Column::Notes, &["note", "notes", "remark", "remarks", "备注"]),
];

/// Most columns of a file.
const COLUMNS_MAX: usize = 100;

/// Which column is what.
#[derive(Debug, Clone)]
pub(super) struct Columns {
    headings: StringRecord,
    kinds: Vec<Option<Column>>,
}

impl Columns {
    /// Reads the first row.
    ///
    /// # Errors
    /// [`FieldError`] when the serial number has no column, or a field has two.
    pub(super) fn new(headings: &StringRecord, has_model: bool) -> Result<Self, FieldError> {
        if headings.len() > COLUMNS_MAX {
            return Err(FieldError::new("body", format!("has more than {COLUMNS_MAX} columns")));
        }
        let kinds: Vec<Option<Column>> = headings.iter().map(kind_of).collect();
        for (column, names) in HEADINGS {
            let name = names.first().copied().unwrap_or_default();
            match kinds.iter().filter(|&&kind| kind == Some(column)).count() {
                0 if column == Column::Sn || (column == Column::Model && !has_model) => {
                    let known = names.join(", ");
                    return Err(FieldError::new(name, format!("has no column; its heading may be {known}")));
                }
                0 | 1 => {}
                _ => return Err(FieldError::new(name, "has two columns; leave one of them out")),
            }
        }
        Ok(Self { headings: headings.clone(), kinds })
    }

    /// Headings that nothing is known of; their cells are not stored.
    pub(super) fn ignored(&self) -> Vec<String> {
        let pairs = self.headings.iter().zip(&self.kinds);
        pairs.filter(|(_, kind)| kind.is_none()).map(|(heading, _)| clean_text(heading)).collect()
    }

    /// The heading row of the file of refused rows.
    pub(super) fn headings(&self) -> &StringRecord {
        &self.headings
    }

    /// The cells of a refused row as they may be handed back: card data masked, formulas made harmless.
    pub(super) fn safe_cells(&self, record: &StringRecord, refused: &str) -> Vec<String> {
        let cell = |(index, cell): (usize, &str)| {
            let kind = self.kinds.get(index).copied().flatten();
            let is_good_id = kind.is_some_and(|kind| is_id(kind) && field_of(kind) != refused);
            let cell = if is_good_id { cell.to_owned() } else { pan::mask(cell) };
            harmless(cell)
        };
        record.iter().enumerate().map(cell).collect()
    }

    /// One row.
    ///
    /// # Errors
    /// [`FieldError`] for the first cell that cannot be accepted.
    pub(super) fn row(&self, record: &StringRecord, model: Option<&str>) -> Result<Row, FieldError> {
        let mut new = NewTerminal { model: model.unwrap_or_default().to_owned(), ..NewTerminal::default() };
        let mut organization = None;
        for (index, cell) in record.iter().enumerate() {
            let Some(kind) = self.kinds.get(index).copied().flatten() else {
                if text::guarded("column", cell).is_err() {
                    let column = index + 1;
                    let problem = format!("column {column} looks like card data, which is never accepted");
                    return Err(FieldError::new("column", problem));
                }
                continue;
            };
            if is_id(kind) && is_rounded(&clean_id(cell)) {
                let problem = "was rounded by a spreadsheet (like 5.7E+18); format the column as text and copy again";
                return Err(FieldError::new(field_of(kind), problem));
            }
            let text = Some(cell).filter(|cell| !cell.trim().is_empty()).map(unquoted);
            match kind {
                Column::Sn => new.sn = text.unwrap_or_default(),
                Column::Model => new.model = text.unwrap_or(new.model),
                Column::Organization => organization = text.map(|code| clean_id(&code)),
                Column::MerchantNo => new.merchant_no = text,
                Column::MerchantName => new.merchant_name = text,
                Column::StoreName => new.store_name = text,
                Column::TerminalNo => new.terminal_no = text,
                Column::Region => new.region = text,
                Column::Tags => {
                    let split =
                        |text: String| text.split([',', '，', ';', '；', '、', '|']).map(str::to_owned).collect();
                    new.tags = text.map(split).unwrap_or_default();
                }
                Column::Iccid => new.iccid = text,
                Column::Imei => new.imei = text,
                Column::Tusn => new.tusn = text,
                Column::Hardware => new.hardware = text,
                Column::Notes => new.notes = text,
            }
        }
        let preview = new.clone();
        Ok(Row { registration: new.parse()?, organization, preview })
    }
}

/// One good row.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) registration: Registration,
    /// Short code of the organization, if the row names one.
    pub(super) organization: Option<String>,
    pub(super) preview: NewTerminal,
}

fn kind_of(heading: &str) -> Option<Column> {
    let plain: String = clean_text(heading)
        .to_lowercase()
        .chars()
        .filter(|c| !matches!(c, ' ' | '_' | '-' | '*' | '.' | '(' | ')' | '/' | '\'' | '"'))
        .collect();
    HEADINGS.iter().find(|(_, names)| names.contains(&plain.as_str())).map(|&(column, _)| column)
}

fn field_of(column: Column) -> &'static str {
    match column {
        Column::Sn => "sn",
        Column::Model => "model",
        Column::Organization => "organization",
        Column::MerchantNo => "merchant_no",
        Column::MerchantName => "merchant_name",
        Column::StoreName => "store_name",
        Column::TerminalNo => "terminal_no",
        Column::Region => "region",
        Column::Tags => "tags",
        Column::Iccid => "iccid",
        Column::Imei => "imei",
        Column::Tusn => "tusn",
        Column::Hardware => "hardware",
        Column::Notes => "notes",
    }
}

fn is_id(column: Column) -> bool {
    match column {
        Column::Sn | Column::MerchantNo | Column::TerminalNo | Column::Iccid | Column::Imei | Column::Tusn => true,
        Column::Model
        | Column::Organization
        | Column::MerchantName
        | Column::StoreName
        | Column::Region
        | Column::Tags
        | Column::Hardware
        | Column::Notes => false,
    }
}

/// A leading `'`, with which spreadsheets mark text, is not part of it; nor is it when it makes a formula harmless.
fn unquoted(cell: &str) -> String {
    cell.trim().trim_start_matches('\'').to_owned()
}

/// `5.70228E+18`.
fn is_rounded(text: &str) -> bool {
    let Some((mantissa, exponent)) = text.split_once(['E', 'e']) else { return false };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    // `12E5` may be a serial number; with a point or a plus it is none.
    is_number(mantissa)
        && exponent.trim_start_matches('+').bytes().all(|b| b.is_ascii_digit())
        && (mantissa.contains('.') || exponent.starts_with('+'))
}

/// A cell that no spreadsheet takes for a formula.
fn harmless(cell: String) -> String {
    if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{cell}") } else { cell }
}

/// The column separator of a file: what its first line has most of.
pub(super) fn delimiter(text: &str) -> u8 {
    let first = text.lines().next().unwrap_or_default();
    let count = |separator: u8| first.bytes().filter(|&b| b == separator).count();
    // The last of equal counts is taken: a comma where there is nothing to choose.
    [b'\t', b';', b','].into_iter().max_by_key(|&separator| count(separator)).unwrap_or(b',')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_encoding_that_spreadsheets_write_is_told_apart() {
        let text = "机具号,型号\n1,a-b\n";
        let gbk = encoding_rs::GB18030.encode(text).0.into_owned();
        let bom = [b"\xef\xbb\xbf", text.as_bytes()].concat();
        for (bytes, encoding) in
            [(gbk, Encoding::Gb18030), (bom, Encoding::Utf8Bom), (text.as_bytes().to_vec(), Encoding::Utf8)]
        {
            assert_eq!(decode(bytes).unwrap(), (text.to_owned(), encoding));
        }
        assert!(decode(b"\xef\xbb\xbf\xff".to_vec()).is_err());
        assert!(decode(b"\xff\xff\x00".to_vec()).is_err());
    }

    #[test]
    fn headings_are_known_in_chinese_and_english() {
        let headings = StringRecord::from(vec!["机具序列号", "型 号*", "ORG_CODE", "商户号", "终端号", "颜色"]);
        let columns = Columns::new(&headings, false).unwrap();
        let kinds = [Column::Sn, Column::Model, Column::Organization, Column::MerchantNo, Column::TerminalNo];
        assert_eq!(columns.kinds.iter().flatten().copied().collect::<Vec<_>>(), kinds);
        assert_eq!(columns.ignored(), ["颜色"]);
        let field = |headings: &[&str]| Columns::new(&StringRecord::from(headings.to_vec()), false).unwrap_err().field;
        assert_eq!(field(&["终端号", "型号"]), "sn");
        assert_eq!(field(&["SN"]), "model");
        assert_eq!(field(&["SN", "机具号", "model"]), "sn");
    }

    #[test]
    fn rounded_numbers_are_refused_and_serial_numbers_with_an_e_are_not() {
        for rounded in ["5.70228E+18", "5.7e18", "5E+18"] {
            assert!(is_rounded(rounded), "{rounded}");
        }
        for serial in ["12E5", "E500", "A5E", "570228", ""] {
            assert!(!is_rounded(serial), "{serial}");
        }
    }

    #[test]
    fn what_is_handed_back_holds_no_card_data_and_no_formula() {
        let headings = StringRecord::from(vec!["SN", "型号", "备注", "颜色"]);
        let columns = Columns::new(&headings, false).unwrap();
        let row = StringRecord::from(vec!["4111111111111111", "a-b", "4111 1111 1111 1111", "=cmd()"]);
        assert_eq!(columns.safe_cells(&row, "notes"), ["4111111111111111", "a-b", "**** **** **** ****", "'=cmd()"]);
        assert_eq!(columns.safe_cells(&row, "sn").first().unwrap(), "****************");
    }

    #[test]
    fn the_separator_is_what_the_first_line_has_most_of() {
        for (text, separator) in [("a,b\n", b','), ("a;b;c,d\n", b';'), ("a\tb", b'\t'), ("a", b','), ("", b',')] {
            assert_eq!(delimiter(text), separator, "{text}");
        }
    }
}
