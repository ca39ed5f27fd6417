//! Callbacks of channels: signed, fresh, and read by the channel's own mapping.
//!
//! The signature is HMAC-SHA256 over `{timestamp}.{body}`. A callback that is sent again finds its payments there already,
//! so that a replay within the window changes nothing.

use hmac::{Hmac, KeyInit, Mac};
use serde::Serialize;
use serde_json::Value;
use sha2::Sha256;
use tillward_protocol::{FieldError, pan};

use super::CALLBACK;
use super::channels::unreadable;
use super::fields::FIELDS;
use super::intake::{Source, take};
use super::store;
use crate::clock::Now;
use crate::db::{self, Conn, Db};
use crate::guard;
use crate::imports::mapping::Reader;
use crate::imports::{self, Error, Kind, Mapping, Outcome, Row};
use crate::operators::Scope;

/// Header with the Unix seconds at which the callback was signed.
pub const TIMESTAMP_HEADER: &str = "x-tillward-timestamp";
/// Header with the signature, hex.
pub const SIGNATURE_HEADER: &str = "x-tillward-signature";
/// How far the timestamp may be from the server's clock, s.
pub const TIMESTAMP_WINDOW_S: i64 = 300;
/// Payments of one callback.
const ROWS_MAX: usize = 500;
/// Deepest member that is looked at for card data.
const DEPTH_MAX: usize = 16;

/// What became of a callback's payments.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = CallbackTaken)]
pub struct Taken {
    /// New ones.
    pub accepted: u32,
    /// Known ones of which more was said.
    pub changed: u32,
    /// Known ones.
    pub duplicates: u32,
    /// Refused ones, each with its place from 1 and the reason.
    pub refused: Vec<Refused>,
    /// Members that held card data; they were not read.
    pub card_members: u32,
}

/// One payment that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = CallbackRefused)]
pub struct Refused {
    /// Its place in the callback, from 1.
    pub place: u64,
    /// Field.
    pub field: String,
    /// What is wrong.
    pub problem: String,
}

/// Whether a callback comes from the channel of this number, now.
///
/// # Errors
/// [`db::Error`].
pub async fn verify(
    db: &Db,
    channel_id: i64,
    timestamp: &str,
    signature: &str,
    body: &[u8],
    now: Now,
) -> Result<bool, db::Error> {
    let is_fresh = timestamp.parse::<i64>().is_ok_and(|at_s| (now.seconds() - at_s).abs() <= TIMESTAMP_WINDOW_S);
    let Some(signature) = hex::decode(signature).ok().filter(|_| is_fresh) else { return Ok(false) };
    // The signature itself says whose it is; nobody's scope narrows it.
    let channel = db.read(move |conn| store::channel(conn, &Scope::everything(), channel_id)).await?;
    let Some(secret) = channel.map(|channel| channel.secret).filter(|secret| !secret.is_empty()) else {
        return Ok(false);
    };
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return Ok(false) };
    mac.update(timestamp.as_bytes());
    mac.update(b".");
    mac.update(body);
    // Compares in constant time.
    Ok(mac.verify_slice(&signature).is_ok())
}

/// Takes the payments of a callback in, in one transaction. Bad ones beside good ones are named in the answer.
///
/// # Errors
/// [`Error::Conflict`] while no mapping is saved for the channel's callbacks; [`Error::Invalid`] for a body in which the
/// mapping finds not one payment that can be read.
pub async fn receive(db: &Db, channel_id: i64, body: Value, now: Now) -> Result<Taken, Error> {
    db.write(move |conn| take_body(conn, channel_id, &body, now)).await
}

fn take_body(conn: &mut Conn, channel_id: i64, body: &Value, now: Now) -> Result<Taken, Error> {
    let everything = Scope::everything();
    let channel = store::channel(conn, &everything, channel_id)?.ok_or(Error::NotFound)?;
    let source = format!("{channel_id}{CALLBACK}");
    let mapping = imports::saved_mapping(conn, &everything, Kind::ChannelFeed, channel.organization_id, &source)?
        .ok_or(Error::Conflict("no mapping is saved for the callbacks of this channel; save one first"))?;
    let items = items(body, &mapping)?;
    let (rows, mut taken) = read(&items, &mapping)?;
    if rows.is_empty() {
        let first = taken.refused.into_iter().next();
        let first = first.map(|refused| FieldError::new(refused.field, refused.problem));
        return Err(first.map_or_else(|| unreadable("must hold 1 to 500 payments, each an object"), Error::from));
    }
    let from = Source { channel_id, org_path: &channel.org_path, import_id: None };
    for (row, outcome) in rows.iter().zip(take(conn, from, &mapping, &rows, now)?) {
        match outcome {
            Outcome::Accepted => taken.accepted += 1,
            Outcome::Changed => taken.changed += 1,
            Outcome::Duplicate => taken.duplicates += 1,
            Outcome::Refused(error) => taken.refused.push(refused(row.line, error)),
        }
    }
    taken.refused.sort_by_key(|refused| refused.place);
    guard::report(conn, &channel.org_path, u64::from(taken.card_members), now)?;
    Ok(taken)
}

fn refused(place: u64, error: FieldError) -> Refused {
    Refused { place, field: error.field, problem: error.problem }
}

/// The payments of a body: itself, or the list that the mapping names or that it is.
fn items<'a>(body: &'a Value, mapping: &Mapping) -> Result<Vec<&'a Value>, Error> {
    let place = match mapping.rows_path.as_deref() {
        Some(path) => {
            member(body, path).ok_or_else(|| unreadable("has no member where the mapping says that payments are"))?
        }
        None => body,
    };
    let items: Vec<&Value> = match place {
        Value::Array(items) => items.iter().collect(),
        one => vec![one],
    };
    if items.is_empty() || items.len() > ROWS_MAX || !items.iter().all(|item| item.is_object()) {
        return Err(unreadable("must hold 1 to 500 payments, each an object"));
    }
    Ok(items)
}

/// `data.amount`, `list.0.sn`.
fn member<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(value, |value, name| match value {
        Value::Object(members) => members.get(name),
        Value::Array(items) => items.get(name.parse::<usize>().ok()?),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    })
}

fn read(items: &[&Value], mapping: &Mapping) -> Result<(Vec<Row>, Taken), Error> {
    let paths: Vec<String> = mapping.columns.values().cloned().collect();
    let reader = Reader::exact(FIELDS, mapping, &paths)?;
    let mut taken = Taken::default();
    let mut rows = Vec::with_capacity(items.len());
    for (item, place) in items.iter().zip(1..) {
        let texts: Vec<Option<String>> = paths.iter().map(|path| member(item, path).and_then(text)).collect();
        taken.card_members = taken.card_members.saturating_add(card_members(item, "", &paths, 0));
        match reader.row(place, |index| texts.get(index).and_then(Option::as_deref)) {
            Ok(row) => rows.push(row),
            Err(error) => taken.refused.push(refused(place, error)),
        }
    }
    Ok((rows, taken))
}

/// A member as a cell.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(is_true) => Some(is_true.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Members that no field is read from and that hold card data.
fn card_members(value: &Value, path: &str, read: &[String], depth: usize) -> u32 {
    if depth > DEPTH_MAX || read.iter().any(|known| known == path) {
        return 0;
    }
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Object(members) => {
            members.iter().map(|(name, inner)| card_members(inner, &below(name), read, depth + 1)).sum()
        }
        Value::Array(items) => {
            let items = items.iter().enumerate();
            items.map(|(index, inner)| card_members(inner, &below(&index.to_string()), read, depth + 1)).sum()
        }
        Value::String(text) => u32::from(pan::contains_card_data(text)),
        Value::Number(number) => u32::from(pan::contains_card_data(&number.to_string())),
        Value::Null | Value::Bool(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    fn mapping() -> Mapping {
        let pairs = [("sn", "device.sn"), ("amount_fen", "amount"), ("at_ms", "time"), ("merchant_no", "merchantNo")];
        let columns: BTreeMap<String, String> =
            pairs.iter().map(|(field, path)| ((*field).to_owned(), (*path).to_owned())).collect();
        Mapping { columns, utc_offset_min: 480, rows_path: Some("data.list".to_owned()), ..Mapping::default() }
    }

    #[test]
    fn payments_are_found_by_paths_and_card_numbers_elsewhere_are_only_counted() {
        let body = json!({"data": {"list": [
            {"device": {"sn": "A1"}, "amount": 12.3, "time": "2026-11-22 18:05:00", "card": {"no": "4111111111111111"},
             "merchantNo": "850331053110612"},
            {"device": {}, "amount": "1", "time": 1_795_341_900_000_i64, "other": [6_222_021_234_567_890_128_i64]},
        ]}});
        let items = items(&body, &mapping()).unwrap();
        let (rows, taken) = read(&items, &mapping()).unwrap();
        let row = rows.first().unwrap();
        assert_eq!((row.text("sn"), row.number("amount_fen")), (Some("A1"), Some(1_230)));
        assert_eq!(row.number("at_ms"), Some(1_795_341_900_000));
        assert_eq!((rows.len(), taken.card_members), (2, 2));
    }

    #[test]
    fn a_body_without_payments_is_refused() {
        for body in [json!({}), json!({"data": {"list": []}}), json!({"data": {"list": [1]}}), json!([])] {
            assert!(items(&body, &mapping()).is_err(), "{body}");
        }
    }
}
