//! What a row tells of a payment beside what is known of it: by what it is known again, what stays, what is news. Pure but
//! for the row that is kept.

use serde_json::{Map, Value};
use tillward_protocol::crypto::sha256;

use super::store::Transaction;
use crate::clock::Now;
use crate::imports::{Row, values};

/// What one row tells of a payment.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) payment: Transaction,
    /// By what it may be known already, see [`keys`].
    pub(super) keys: Vec<String>,
    /// Whether the row itself says where the payment stands.
    pub(super) has_status: bool,
    /// Whether the row itself names a serial number.
    pub(super) has_sn: bool,
}

impl Told {
    /// The payment as it is known after this row: of what the row does not say stays what was told before.
    pub(super) fn beside(self, before: &Transaction, utc_offset_min: i64, now: Now) -> Transaction {
        let Self { mut payment, keys, has_status, has_sn } = self;
        payment.ref_key.clone_from(&before.ref_key);
        // What is listed without a word on it was settled; that it failed was a word.
        if !has_status && before.status == "failure" {
            payment.status.clone_from(&before.status);
        }
        // A day alone says less than a moment of that day.
        let day = |at_ms: i64| values::day_of(at_ms, utc_offset_min);
        let is_day_alone = |at_ms: i64| (at_ms + utc_offset_min * 60_000).rem_euclid(86_400_000) == 0;
        // Told under another name, it keeps its moment: two clocks would move it to and fro.
        let is_renamed = !keys.contains(&before.ref_key);
        if (is_day_alone(payment.at_ms) && day(payment.at_ms) == day(before.at_ms))
            || (is_renamed && !is_day_alone(before.at_ms))
        {
            payment.at_ms = before.at_ms;
        }
        if payment.terminal_id.is_none() && before.terminal_id.is_some() && (!has_sn || payment.sn == before.sn) {
            payment.terminal_id = before.terminal_id;
            payment.sn.clone_from(&before.sn);
            payment.org_path.clone_from(&before.org_path);
        }
        let text = |told: &mut Option<String>, before: &Option<String>| {
            if told.is_none() {
                told.clone_from(before);
            }
        };
        text(&mut payment.second_orders, &before.second_orders);
        text(&mut payment.merchant_no, &before.merchant_no);
        text(&mut payment.merchant_name, &before.merchant_name);
        text(&mut payment.mcc, &before.mcc);
        text(&mut payment.ref_no, &before.ref_no);
        text(&mut payment.trace_no, &before.trace_no);
        text(&mut payment.batch_no, &before.batch_no);
        payment.settle_fen = payment.settle_fen.or(before.settle_fen);
        payment.fee_fen = payment.fee_fen.or(before.fee_fen);
        payment.withdraw_fen = payment.withdraw_fen.or(before.withdraw_fen);
        payment.rate_ppm = payment.rate_ppm.or(before.rate_ppm);
        payment.capped = payment.capped.or(before.capped);
        // Each source has its own words for the same kind.
        let (one, other) =
            if is_renamed { (&payment.detail, &before.detail) } else { (&before.detail, &payment.detail) };
        payment.detail = with_detail(one, other);
        finish(&mut payment, now);
        payment
    }
}

/// What two rows tell beside the columns; of the same thing what the second says.
fn with_detail(one: &str, other: &str) -> String {
    let members = |text: &str| serde_json::from_str::<Map<String, Value>>(text).unwrap_or_default();
    let mut all = members(one);
    all.extend(members(other));
    Value::Object(all).to_string()
}

/// What follows from the columns of a payment.
pub(super) fn finish(payment: &mut Transaction, now: Now) {
    payment.digest = digest(payment);
    // What is under way is not compared yet.
    payment.due_ms = (payment.status != "processing").then_some(now.0);
}

/// What tells a payment from the others of its channel, as a row writes it; first of all the key of a payment that is new,
/// then those under which it may be kept already.
///
/// Nothing that people edit is part of the first: neither the mapping, whose callbacks and files differ, nor which terminal
/// a number stands for. A transaction number is never kept as it is, for nothing tells one from a card number.
pub(super) fn keys(row: &Row, payment: &Transaction, terminal_no: Option<&str>, utc_offset_min: i64) -> Vec<String> {
    if let Some(number) = row.text("trans_no") {
        // Numbers of a known form were once kept as they are.
        return vec![format!("h:{}", hashed(&[number])), format!("t:{number}")];
    }
    let mut keys = Vec::new();
    // The other names are those by which files and callbacks beside this one may call the same terminal.
    for name in [row.text("sn"), row.text("terminal_no"), Some(payment.sn.as_str()), terminal_no].into_iter().flatten()
    {
        let key = key_beside(row, payment, name, utc_offset_min);
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

/// The key of a payment without a number, at the terminal that is called so.
fn key_beside(row: &Row, payment: &Transaction, name: &str, utc_offset_min: i64) -> String {
    let day = values::day_of(payment.at_ms, utc_offset_min);
    if let Some(ref_no) = &payment.ref_no {
        return format!("r:{}", hashed(&[ref_no, &day, name]));
    }
    let (at, amount) = (payment.at_ms.to_string(), payment.amount_fen.to_string());
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let order_type = row.text("order_type").unwrap_or_default();
    let parts = [name, &at, &amount, &text(&payment.trace_no), &text(&payment.batch_no), order_type];
    format!("c:{}", hashed(&parts))
}

/// 128 bits: no two payments of a channel collide.
fn hashed(parts: &[&str]) -> String {
    let digest = hex::encode(sha256(parts.join("\n").as_bytes()));
    digest.get(..32).unwrap_or_default().to_owned()
}

fn digest(payment: &Transaction) -> String {
    let number = |number: Option<i64>| number.map(|number| number.to_string()).unwrap_or_default();
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let parts = [
        payment.sn.clone(),
        payment.at_ms.to_string(),
        payment.status.clone(),
        payment.amount_fen.to_string(),
        number(payment.settle_fen),
        number(payment.fee_fen),
        number(payment.withdraw_fen),
        text(&payment.second_orders),
        number(payment.rate_ppm),
        number(payment.capped),
        text(&payment.merchant_no),
        text(&payment.merchant_name),
        text(&payment.mcc),
        text(&payment.ref_no),
        text(&payment.trace_no),
        text(&payment.batch_no),
        payment.detail.clone(),
    ];
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    hashed(&parts)
}
