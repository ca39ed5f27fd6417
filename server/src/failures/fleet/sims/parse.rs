//! Lists of SIM cards as their providers write them. Pure.

use csv::StringRecord;
use tillward_protocol::FieldError;

use super::super::rules::pool;
use super::{Card, ROWS_MAX};
use crate::terminals::fields::{clean_id, clean_text};

/// Longest name of a pool or carrier, characters.
const NAME_CHARS_MAX: usize = 64;
/// Largest plan, MB: a terabyte.
const PLAN_MB_MAX: i64 = 1 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Iccid,
    Carrier,
    Pool,
    PlanMb,
    Expires,
}

/// Headings in lower case without spaces, dashes and underscores.
const HEADINGS: [(Column, &[&str]); 5] = [
    (Column::Iccid, &["iccid", "sim", "simno", "卡号", "sim卡号", "流量卡号", "物联卡号"]),
    (Column::Carrier, &["carrier", "operator", "运营商"]),
    (Column::Pool, &["pool", "poolid", "poolname", "流量池", "流量池名称", "池", "所属流量池"]),
    (Column::PlanMb, &["planmb", "plan", "mb", "套餐", "套餐mb", "套餐流量", "套餐流量mb", "套餐(mb)", "套餐流量(mb)"]),
    (
        Column::Expires,
        &["expires", "expiresat", "expiry", "到期", "到期日", "到期时间", "到期日期", "有效期", "有效期至"],
    ),
];

type Row = (u64, Result<Card, FieldError>);

/// The rows of a file with their lines.
///
/// # Errors
/// [`FieldError`] when the file has no column of card numbers or too many rows.
pub(super) fn rows(text: &str) -> Result<Vec<Row>, FieldError> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).has_headers(true).from_reader(text.as_bytes());
    let unreadable = |_| FieldError::new("body", "is not a CSV file with a row of headings");
    let columns: Vec<Option<Column>> = reader.headers().map_err(unreadable)?.iter().map(column).collect();
    if !columns.contains(&Some(Column::Iccid)) {
        return Err(FieldError::new("iccid", "has no column; its heading may be iccid"));
    }
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(unreadable)?;
        if record.iter().all(|cell| cell.trim().is_empty()) {
            continue;
        }
        if rows.len() >= ROWS_MAX {
            return Err(FieldError::new("body", format!("has more than {ROWS_MAX} rows")));
        }
        let line = record.position().map_or(0, csv::Position::line);
        rows.push((line, card(&columns, &record)));
    }
    Ok(rows)
}

fn column(heading: &str) -> Option<Column> {
    let plain: String =
        clean_text(heading).to_lowercase().chars().filter(|c| !c.is_whitespace() && !matches!(c, '-' | '_')).collect();
    HEADINGS.iter().find(|(_, names)| names.contains(&plain.as_str())).map(|(column, _)| *column)
}

fn card(columns: &[Option<Column>], record: &StringRecord) -> Result<Card, FieldError> {
    let mut card = Card { iccid: String::new(), carrier: None, pool: None, plan_mb: None, expires_at_ms: None };
    for (column, cell) in columns.iter().zip(record) {
        let text = clean_id(cell);
        match column {
            None => {}
            Some(Column::Iccid) => card.iccid = text,
            Some(Column::Carrier) => card.carrier = carrier_named(&text)?,
            Some(Column::Pool) => card.pool = name("pool", &text)?,
            Some(Column::PlanMb) => card.plan_mb = plan(&text)?,
            Some(Column::Expires) => card.expires_at_ms = moment(&text)?,
        }
    }
    checked(card)
}

fn checked(mut card: Card) -> Result<Card, FieldError> {
    let iccid = &card.iccid;
    if iccid.contains(['.', '+']) {
        let problem = "was rounded by a spreadsheet (like 5.7E+18); format the column as text and copy again";
        return Err(FieldError::new("iccid", problem));
    }
    if !(18..=22).contains(&iccid.len()) || !iccid.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err(FieldError::new("iccid", "must be 18 to 22 letters or digits"));
    }
    card.carrier = card.carrier.or_else(|| pool::carrier(&card.iccid).map(str::to_owned));
    Ok(card)
}

fn name(field: &str, text: &str) -> Result<Option<String>, FieldError> {
    if text.chars().count() > NAME_CHARS_MAX || text.chars().any(char::is_control) || text.contains(':') {
        return Err(FieldError::new(field, format!("must be at most {NAME_CHARS_MAX} characters without a colon")));
    }
    Ok(Some(text.to_owned()).filter(|text| !text.is_empty()))
}

fn carrier_named(text: &str) -> Result<Option<String>, FieldError> {
    let known = match text.to_uppercase().as_str() {
        "CMCC" | "移动" | "中国移动" => "CMCC",
        "CUCC" | "联通" | "中国联通" => "CUCC",
        "CTCC" | "电信" | "中国电信" => "CTCC",
        "CBN" | "广电" | "中国广电" => "CBN",
        _ => return name("carrier", text),
    };
    Ok(Some(known.to_owned()))
}

/// `30`, `30 MB`, `30M`, `1G`, `1 GB`.
fn plan(text: &str) -> Result<Option<i64>, FieldError> {
    let plain = text.to_uppercase().replace(' ', "");
    if plain.is_empty() {
        return Ok(None);
    }
    let (digits, times) = match plain.trim_end_matches('B') {
        number if number.ends_with('G') => (number.trim_end_matches('G').to_owned(), 1_024),
        number => (number.trim_end_matches('M').to_owned(), 1),
    };
    let mb = digits.parse::<i64>().ok().and_then(|n| n.checked_mul(times)).filter(|mb| (0..=PLAN_MB_MAX).contains(mb));
    mb.map(Some).ok_or_else(|| FieldError::new("plan_mb", "must be a number of MB"))
}

/// `2026-11-22`, `2026/11/22`, `20261122`, each also with a time, which is left out: a card ends with its day, in China.
fn moment(text: &str) -> Result<Option<i64>, FieldError> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let refused = || FieldError::new("expires", "must be a date like 2026-11-22");
    let day = text.split([' ', 'T']).next().unwrap_or_default();
    let parts: Vec<&str> = day.split(['-', '/', '.']).collect();
    let (year, month, date) = match parts.as_slice() {
        [year, month, date] => (*year, *month, *date),
        [whole] if whole.len() == 8 && whole.is_ascii() => whole
            .split_at_checked(4)
            .and_then(|(year, rest)| rest.split_at_checked(2).map(|(month, date)| (year, month, date)))
            .ok_or_else(refused)?,
        _ => return Err(refused()),
    };
    let (Ok(year), Ok(month), Ok(date)) = (year.parse::<i16>(), month.parse::<i8>(), date.parse::<i8>()) else {
        return Err(refused());
    };
    let day = jiff::civil::Date::new(year, month, date).map_err(|_| refused())?;
    let zone = jiff::tz::TimeZone::fixed(jiff::tz::Offset::constant(8));
    let end = day.tomorrow().and_then(|next| next.to_zoned(zone)).map_err(|_| refused())?;
    Ok(Some(end.timestamp().as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_providers_list_is_read_as_it_is() {
        let text = "卡号,运营商,流量池,套餐(MB),到期日期,备注\n\
                    89860012345678901234,中国移动,A1池,30M,2026/11/22,x\n\
                    \"=\"\"89860112345678901234\"\"\",,,1G,20261122 00:00:00,\n\
                    ,,,,,\n";
        let rows = rows(text).unwrap();
        let cards: Vec<Card> = rows.into_iter().map(|(_, row)| row.unwrap()).collect();
        let end = 1_795_363_200_000; // 2026-11-23 00:00 in China
        assert_eq!(
            cards,
            [
                Card {
                    iccid: "89860012345678901234".to_owned(),
                    carrier: Some("CMCC".to_owned()),
                    pool: Some("A1池".to_owned()),
                    plan_mb: Some(30),
                    expires_at_ms: Some(end),
                },
                Card {
                    iccid: "89860112345678901234".to_owned(),
                    carrier: Some("CUCC".to_owned()),
                    pool: None,
                    plan_mb: Some(1_024),
                    expires_at_ms: Some(end),
                },
            ]
        );
    }

    #[test]
    fn a_broken_row_is_named_and_the_others_are_taken() {
        let text = "iccid,pool,plan_mb,expires\n8.98E+19,,,\n898600,,,\n89860012345678901234,,x,\n\
                    89860012345678901234,,,2026-02-30\n89860012345678901234,a:b,,\n89860012345678901235,p,1,\n";
        let rows = rows(text).unwrap();
        let fields: Vec<(u64, String)> =
            rows.iter().filter_map(|(line, row)| Some((*line, row.as_ref().err()?.field.clone()))).collect();
        let named: Vec<(u64, &str)> = fields.iter().map(|(line, field)| (*line, field.as_str())).collect();
        assert_eq!(named, [(2, "iccid"), (3, "iccid"), (4, "plan_mb"), (5, "expires"), (6, "pool")]);
        assert_eq!(rows.len(), 6);
        assert_eq!(super::rows("pool\nx\n").unwrap_err().field, "iccid");
    }
}
