//! Payments that a channel tells of under two names: its callbacks by the channel's own number, its files by the numbers of
//! the terminal. Which of them are one is said only where it is certain; the rest stays two.

use std::collections::{BTreeSet, HashSet};

use super::store::{self, Kept, Known, Near, Transaction};
use super::told::Told;
use crate::db::{self, Conn};
use crate::imports::values;

const DAY_MS: i64 = 86_400_000;
/// How far the moments of one trace number may be apart, ms.
const TRACE_MS: i64 = 600_000;
/// Minutes ahead of UTC of the days of a payment whose mapping is not at hand: China.
const UTC_OFFSET_MIN: i64 = 480;
/// What keys of payments begin with, and the letter after it: the channel's number, hashed and as it once was kept; the
/// reference number; the rest.
const KINDS: [(&str, &str); 4] = [("h", "i"), ("t", "u"), ("r", "s"), ("c", "d")];

/// Words in the names of orders that give money back.
const TAKING_BACK: [&str; 9] = ["撤销", "冲正", "退货", "退款", "void", "refund", "revers", "cancel", "return"];

/// How surely two payments are one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Alike {
    /// Nothing says so, or something speaks against it.
    No,
    /// The same terminal, moment and amount.
    Moment,
    /// The same terminal, amount and numbers.
    Number,
}

/// Whether two payments are one that the channel tells of under two names. `state` is what is said of where the first
/// one stands, if anything is.
pub(super) fn alike(one: &Transaction, state: Option<&str>, other: &Transaction, utc_offset_min: i64) -> Alike {
    let is_numbered = |payment: &Transaction| payment.ref_key.starts_with("h:") || payment.ref_key.starts_with("t:");
    if one.channel_id != other.channel_id
        || one.terminal_id.is_none()
        || one.terminal_id != other.terminal_id
        || one.amount_fen != other.amount_fen
        || (is_numbered(one) && is_numbered(other))
    {
        return Alike::No;
    }
    let is_ref = compared(&one.ref_no, &other.ref_no);
    let is_trace = compared(&one.trace_no, &other.trace_no);
    let is_batch = compared(&one.batch_no, &other.batch_no);
    if [is_ref, is_trace, is_batch].contains(&Some(false)) {
        return Alike::No;
    }
    let distance_ms = (one.at_ms - other.at_ms).abs();
    if is_ref == Some(true) && distance_ms < DAY_MS {
        return Alike::Number;
    }
    // A payment and its reversal have one trace number, and may have one minute. Each source has its own words for a kind.
    if kind(one).zip(kind(other)).is_some_and(|(one, other)| takes_back(&one) != takes_back(&other)) {
        return Alike::No;
    }
    let is_day_alone = |at_ms: i64| (at_ms + utc_offset_min * 60_000).rem_euclid(DAY_MS) == 0;
    let is_same_day = values::day_of(one.at_ms, utc_offset_min) == values::day_of(other.at_ms, utc_offset_min);
    let is_near = distance_ms <= TRACE_MS || (is_same_day && (is_day_alone(one.at_ms) || is_day_alone(other.at_ms)));
    if is_trace == Some(true) && is_batch == Some(true) && is_near {
        return Alike::Number;
    }
    let is_final = |state: &str| state != "processing";
    let ends_otherwise = state.is_some_and(|state| is_final(state) && is_final(&other.status) && state != other.status);
    if distance_ms == 0 && !is_day_alone(one.at_ms) && !ends_otherwise { Alike::Moment } else { Alike::No }
}

/// Whether two numbers are the same, whoever wrote their leading zeros; `None` where one of them is not known.
fn compared(one: &Option<String>, other: &Option<String>) -> Option<bool> {
    let plain = |number: &Option<String>| {
        let number = number.as_deref().unwrap_or_default().trim_start_matches('0');
        (!number.is_empty()).then(|| number.to_owned())
    };
    plain(one).zip(plain(other)).map(|(one, other)| one == other)
}

/// The kind of order, as the channel calls it.
fn kind(payment: &Transaction) -> Option<String> {
    let detail: serde_json::Value = serde_json::from_str(&payment.detail).ok()?;
    detail.get("order_type").and_then(|kind| kind.as_str()).map(str::to_owned)
}

/// Whether an order of this kind gives money back.
fn takes_back(kind: &str) -> bool {
    let kind = kind.to_lowercase();
    TAKING_BACK.iter().any(|word| kind.contains(word))
}

/// Payments that are kept under other names than those of a block's rows.
pub(super) struct Twins {
    candidates: Vec<Transaction>,
    utc_offset_min: i64,
}

impl Twins {
    /// Reads what rows that are not known by their keys may be about: nothing but a few looks at an index for a channel
    /// that always calls its payments the same.
    pub(super) fn read(
        conn: &mut Conn,
        channel_id: i64,
        rows: &[&Told],
        utc_offset_min: i64,
    ) -> Result<Self, db::Error> {
        let none = Self { candidates: Vec::new(), utc_offset_min };
        let own: BTreeSet<&str> = rows.iter().filter_map(|told| told.payment.ref_key.get(..1)).collect();
        let others = KINDS.iter().filter(|(kind, _)| own.iter().any(|own| may_be_called(own, kind)));
        for (kind, below) in others {
            if store::has_keys(conn, channel_id, kind, below)? {
                let payments: Vec<&Transaction> = rows.iter().map(|told| &told.payment).collect();
                let near = Near { channel_id: Some(channel_id), ..around(&payments) };
                return Ok(Self { candidates: store::near(conn, &near)?, ..none });
            }
        }
        Ok(none)
    }

    /// The payment that a row tells of under another name. Two that fit are no match.
    pub(super) fn find(&self, told: &Told) -> Option<Known> {
        let state = told.has_status.then_some(told.payment.status.as_str());
        let judged = self.candidates.iter().map(|kept| (alike(&told.payment, state, kept, self.utc_offset_min), kept));
        let fitting: Vec<(Alike, &Transaction)> = judged.filter(|(alike, _)| *alike > Alike::No).collect();
        let best = fitting.iter().map(|(alike, _)| *alike).max()?;
        let mut best = fitting.into_iter().filter(|(alike, _)| *alike == best).map(|(_, kept)| kept);
        let only = best.next().filter(|_| best.next().is_none())?;
        Some(Known { kept: Kept::Stored(only.id), payment: only.clone() })
    }

    /// A payment is known otherwise by now.
    pub(super) fn replace(&mut self, payment: &Transaction) {
        if let Some(kept) = self.candidates.iter_mut().find(|kept| kept.ref_key == payment.ref_key) {
            *kept = Transaction { id: kept.id, ..payment.clone() };
        }
    }
}

/// Whether a payment with a key of kind `own` may be kept under one of `other`. By the rest of what is known a payment may
/// be called in more than one way.
fn may_be_called(own: &str, other: &str) -> bool {
    let is_numbered = |kind: &str| matches!(kind, "h" | "t");
    own == "c" || (own != other && !(is_numbered(own) && is_numbered(other)))
}

/// Where what these payments are may be kept.
fn around(payments: &[&Transaction]) -> Near {
    let at_ms = || payments.iter().map(|payment| payment.at_ms);
    let texts = |text: fn(&Transaction) -> &Option<String>, digits: usize| {
        let texts: BTreeSet<String> = payments
            .iter()
            .filter_map(|payment| text(payment).as_deref())
            .flat_map(|text| spelled(text, digits))
            .collect();
        texts.into_iter().collect::<Vec<String>>()
    };
    let terminals: BTreeSet<i64> = payments.iter().filter_map(|payment| payment.terminal_id).collect();
    let moments: BTreeSet<i64> = at_ms().collect();
    Near {
        channel_id: None,
        terminals: terminals.into_iter().collect(),
        from_ms: at_ms().min().unwrap_or(0) - DAY_MS,
        to_ms: at_ms().max().unwrap_or(0) + DAY_MS,
        moments: moments.into_iter().collect(),
        refs: texts(|payment| &payment.ref_no, 12),
        traces: texts(|payment| &payment.trace_no, 6),
    }
}

/// A number as others may have written it: with the zeros that make it so many digits, and without.
pub(in crate::failures) fn spelled(number: &str, digits: usize) -> [String; 3] {
    let plain = number.trim_start_matches('0');
    [number.to_owned(), plain.to_owned(), format!("{plain:0>digits$}")]
}

/// Which of these payments, whose terminals were found just now, are told under another name, too: of each two the later
/// one, and one that stands beside a payment that was not among these. By their places.
///
/// # Errors
/// [`db::Error`].
pub(in crate::failures) fn told_twice(conn: &mut Conn, payments: &[&Transaction]) -> Result<HashSet<usize>, db::Error> {
    if payments.is_empty() {
        return Ok(HashSet::new());
    }
    let kept = store::near(conn, &around(payments))?;
    let own: HashSet<i64> = payments.iter().map(|payment| payment.id).collect();
    let is_twice = |payment: &Transaction| {
        let before = kept.iter().filter(|kept| kept.id < payment.id || !own.contains(&kept.id));
        let mut ended = before.filter(|kept| kept.id != payment.id && kept.status != "processing");
        ended.any(|kept| alike(payment, Some(&payment.status), kept, UTC_OFFSET_MIN) > Alike::No)
    };
    Ok(payments.iter().enumerate().filter(|(_, payment)| is_twice(payment)).map(|(place, _)| place).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-22 18:05:07 in China.
    const AT: i64 = 1_795_341_907_000;

    fn payment(key: &str) -> Transaction {
        Transaction {
            id: 1,
            channel_id: 1,
            org_path: "/1/".to_owned(),
            ref_key: key.to_owned(),
            digest: String::new(),
            terminal_id: Some(7),
            sn: "S7".to_owned(),
            at_ms: AT,
            status: "success".to_owned(),
            amount_fen: 9_900,
            settle_fen: None,
            fee_fen: None,
            withdraw_fen: None,
            second_orders: None,
            rate_ppm: None,
            capped: None,
            merchant_no: None,
            merchant_name: None,
            mcc: None,
            ref_no: None,
            trace_no: None,
            batch_no: None,
            detail: "{}".to_owned(),
            import_id: None,
            received_at_ms: AT,
            match_quality: "none".to_owned(),
            matched_event: None,
            result: "waiting".to_owned(),
            lacking: None,
            severity: "info".to_owned(),
            due_ms: None,
        }
    }

    fn text(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    fn judged(one: &Transaction, other: &Transaction) -> Alike {
        let found = alike(one, Some(&one.status), other, 480);
        assert_eq!(found, alike(other, Some(&other.status), one, 480), "whichever comes first");
        found
    }

    #[test]
    fn a_payment_is_known_by_its_numbers_and_by_its_moment_and_amount() {
        let numbered = payment("h:1");
        let file = payment("r:1");
        assert_eq!(judged(&numbered, &file), Alike::Moment);
        let by_ref = Transaction { ref_no: text("032616123456"), at_ms: AT + 90_000, ..payment("h:1") };
        let kind = |name: &str| format!("{{\"order_type\":\"{name}\"}}");
        let (by_callback, by_file) = (kind("SALE"), kind("消费"));
        let called = Transaction { detail: by_callback, ..payment("h:1") };
        assert_eq!(judged(&called, &Transaction { detail: by_file, ..payment("r:1") }), Alike::Moment);
        let from_sheet = Transaction { ref_no: text("32616123456"), ..payment("r:1") };
        assert_eq!(judged(&by_ref, &from_sheet), Alike::Number, "a spreadsheet took the zero off");
        let traced = Transaction { trace_no: text("000345"), batch_no: text("000012"), ..payment("c:1") };
        let midnight = AT - (AT + 8 * 3_600_000).rem_euclid(DAY_MS);
        let of_day = Transaction { trace_no: text("345"), batch_no: text("12"), at_ms: midnight, ..payment("c:2") };
        assert_eq!(judged(&traced, &of_day), Alike::Number);
        assert_eq!(
            alike(&Transaction { status: "success".to_owned(), ..file }, None, &failed("h:1"), 480),
            Alike::Moment
        );
    }

    fn failed(key: &str) -> Transaction {
        Transaction { status: "failure".to_owned(), ..payment(key) }
    }

    #[test]
    fn what_something_speaks_against_is_two() {
        let numbered = payment("h:1");
        let kind = |name: &str| format!("{{\"order_type\":\"{name}\"}}");
        let midnight = AT - (AT + 8 * 3_600_000).rem_euclid(DAY_MS);
        for (one, other) in [
            (numbered.clone(), payment("h:2")),
            (numbered.clone(), Transaction { channel_id: 2, ..payment("r:1") }),
            (numbered.clone(), Transaction { terminal_id: Some(8), ..payment("r:1") }),
            (Transaction { terminal_id: None, ..payment("h:1") }, Transaction { terminal_id: None, ..payment("r:1") }),
            (numbered.clone(), Transaction { amount_fen: 9_901, ..payment("r:1") }),
            (numbered.clone(), Transaction { at_ms: AT + 1_000, ..payment("r:1") }),
            (numbered, failed("r:1")),
            (Transaction { ref_no: text("1"), ..payment("h:1") }, Transaction { ref_no: text("2"), ..payment("r:1") }),
            (
                Transaction { trace_no: text("1"), ..payment("c:1") },
                Transaction { trace_no: text("2"), ..payment("c:2") },
            ),
            (
                Transaction { detail: kind("消费"), ..payment("c:1") },
                Transaction { detail: kind("撤销"), ..payment("c:2") },
            ),
            (Transaction { at_ms: midnight, ..payment("h:1") }, Transaction { at_ms: midnight, ..payment("c:1") }),
            (
                Transaction { ref_no: text("1"), ..payment("h:1") },
                Transaction { ref_no: text("1"), at_ms: AT + DAY_MS, ..payment("r:1") },
            ),
        ] {
            assert_eq!(judged(&one, &other), Alike::No, "{one:?} {other:?}");
        }
    }

    #[test]
    fn only_a_channel_with_several_kinds_of_names_is_looked_through() {
        let table: Vec<(&str, &str)> = KINDS
            .iter()
            .flat_map(|(own, _)| KINDS.iter().map(move |(other, _)| (*own, *other)))
            .filter(|(own, other)| may_be_called(own, other))
            .collect();
        let of = |own: &str| table.iter().filter(|(one, _)| *one == own).map(|(_, other)| *other).collect::<Vec<_>>();
        assert_eq!(of("h"), ["r", "c"]);
        assert_eq!(of("r"), ["h", "t", "c"]);
        assert_eq!(of("c"), ["h", "t", "r", "c"]);
    }
}
