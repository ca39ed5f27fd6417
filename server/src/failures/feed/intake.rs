//! Rows of a feed as payments: known ones are found again, new ones kept, later words on a payment under way taken over.

use std::collections::{HashMap, HashSet};

use serde_json::json;
use tillward_protocol::{FieldError, pan};

use super::fields::{self, FIELDS};
use super::store::{self, Kept, Known, Transaction};
use super::told::{self, Told, finish};
use super::twins::{Twins, told_twice};
use crate::checkin::{self, Slot};
use crate::clock::Now;
use crate::db::{self, Conn, Sequence, next_ids};
use crate::failures::once;
use crate::imports::{self, Error, Field, Mapping, Outcome, Row, Target, values};
use crate::operators::Scope;
use crate::organizations::Organization;
use crate::terminals::bindings::{self, Binding};
use crate::terminals::{self, Registered};

/// How far ahead of the server a payment may lie, ms: clocks of channels.
const AHEAD_MS_MAX: i64 = 86_400_000;
/// Farthest back that a payment may lie, ms: thirteen months, as long as they are kept.
const BACK_MS_MAX: i64 = super::KEPT_MS;

/// What is done with the rows of channels.
#[derive(Debug)]
pub struct Intake;

impl imports::Intake for Intake {
    fn fields(&self) -> &'static [Field] {
        FIELDS
    }

    fn check(&self, mapping: &Mapping) -> Result<(), FieldError> {
        fields::check(mapping)
    }

    fn home(&self, conn: &mut Conn, scope: &Scope, _: i64, source: &str) -> Result<Organization, Error> {
        let unknown = || FieldError::new("source", "is not the number of a channel of yours");
        let id = channel_of(source).ok_or_else(unknown)?;
        let channel = store::channel(conn, scope, id)?.ok_or_else(unknown)?;
        imports::organization(conn, scope, channel.organization_id)
    }

    fn take(&self, conn: &mut Conn, target: &Target, rows: &[Row], now: Now) -> Result<Vec<Outcome>, db::Error> {
        let Some(channel_id) = channel_of(&target.source) else {
            let refused = || Outcome::Refused(FieldError::new("source", "is not the number of a channel of yours"));
            return Ok(rows.iter().map(|_| refused()).collect());
        };
        let from = Source { channel_id, org_path: &target.org_path, import_id: Some(&target.import_id) };
        take(conn, from, &target.mapping, rows, now)
    }
}

/// The channel that a source names: `12` for its files, `12/callback` for its callbacks.
pub(super) fn channel_of(source: &str) -> Option<i64> {
    source.strip_suffix(super::CALLBACK).unwrap_or(source).parse().ok()
}

/// Where rows come from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a> {
    pub channel_id: i64,
    pub org_path: &'a str,
    pub import_id: Option<&'a str>,
}

/// Takes rows in; says what became of each, in order.
pub(super) fn take(
    conn: &mut Conn,
    from: Source<'_>,
    mapping: &Mapping,
    rows: &[Row],
    now: Now,
) -> Result<Vec<Outcome>, db::Error> {
    // Before anything is read: an organization may be telling of the same failures.
    once::count_alone(conn)?;
    // Then this: its row's lock lets two servers take rows of one channel one after the other, each seeing what is known by then.
    store::touch(conn, from.channel_id, now)?;
    let scope = Scope::subtree(from.org_path);
    let terminals = Terminals::of(conn, &scope, rows)?;
    let mut outcomes = Vec::with_capacity(rows.len());
    let mut fresh: Vec<(usize, Told)> = Vec::with_capacity(rows.len());
    for (index, row) in rows.iter().enumerate() {
        match payment(from, mapping, row, &terminals, now) {
            Ok(told) => fresh.push((index, told)),
            Err(error) => outcomes.push((index, Outcome::Refused(error))),
        }
    }
    let keys: Vec<&str> = fresh.iter().flat_map(|(_, told)| told.keys.iter().map(String::as_str)).collect();
    let mut known = store::known(conn, from.channel_id, &keys)?;
    let unknown: Vec<&Told> = fresh
        .iter()
        .map(|(_, told)| told)
        .filter(|told| !told.keys.iter().any(|key| known.contains_key(key)))
        .collect();
    let mut twins = Twins::read(conn, from.channel_id, &unknown, mapping.utc_offset_min)?;
    let mut new: Vec<Transaction> = Vec::new();
    let mut counted: Vec<Counted> = Vec::new();
    for (index, told) in fresh {
        let by_key = told.keys.iter().find_map(|key| known.get(key)).cloned();
        let before = by_key.or_else(|| twins.find(&told));
        let payment = match &before {
            Some(before) => told.beside(&before.payment, mapping.utc_offset_min, now),
            None => told.payment,
        };
        let outcome = match before {
            None => {
                counted.extend(Counted::of(&payment, None));
                known.insert(payment.ref_key.clone(), Known::new(&payment));
                new.push(payment);
                Outcome::Accepted
            }
            Some(before) if before.is_news(&payment) => {
                counted.extend(Counted::of(&payment, Some(&before)));
                match before.kept {
                    // It stands earlier in this very block.
                    Kept::New => replace(&mut new, &payment),
                    Kept::Stored(id) => store::update(conn, id, &payment)?,
                }
                twins.replace(&payment);
                known.insert(payment.ref_key.clone(), Known { kept: before.kept, payment });
                Outcome::Changed
            }
            Some(_) => Outcome::Duplicate,
        };
        outcomes.push((index, outcome));
    }
    number(conn, &mut new)?;
    store::insert(conn, &new)?;
    count(conn, &counted, &terminals)?;
    outcomes.sort_by_key(|(index, _)| *index);
    Ok(outcomes.into_iter().map(|(_, outcome)| outcome).collect())
}

/// Adds to the cells what nobody told of before, neither under another name nor as a failure of its own.
fn count(conn: &mut Conn, counted: &[Counted], terminals: &Terminals) -> Result<(), db::Error> {
    let of_slots: Vec<&Counted> = counted.iter().filter(|counted| counted.slot(terminals).is_some()).collect();
    let payments: Vec<&Transaction> = of_slots.iter().map(|counted| &counted.payment).collect();
    let reported = once::reported(conn, &payments)?;
    let found: Vec<&Transaction> =
        of_slots.iter().filter(|counted| counted.was_nobodys).map(|counted| &counted.payment).collect();
    let twice: HashSet<i64> =
        told_twice(conn, &found)?.into_iter().filter_map(|place| found.get(place).map(|payment| payment.id)).collect();
    let is_fresh = |place: usize, counted: &Counted| {
        !(reported.contains(&place) || (counted.was_nobodys && twice.contains(&counted.payment.id)))
    };
    let fresh = of_slots.iter().enumerate().filter(|(place, counted)| is_fresh(*place, counted));
    let slots: Vec<Slot<'_>> = fresh.filter_map(|(_, counted)| counted.slot(terminals)).collect();
    checkin::note_slots(conn, &slots)
}

fn replace(new: &mut [Transaction], payment: &Transaction) {
    if let Some(slot) = new.iter_mut().find(|slot| slot.ref_key == payment.ref_key) {
        slot.clone_from(payment);
    }
}

fn number(conn: &mut Conn, new: &mut [Transaction]) -> Result<(), db::Error> {
    if new.is_empty() {
        return Ok(());
    }
    let first = next_ids(conn, Sequence::ChannelTransactions, i64::try_from(new.len()).unwrap_or(0))?;
    for (payment, id) in new.iter_mut().zip(first..) {
        payment.id = id;
    }
    Ok(())
}

/// The terminals that rows name.
struct Terminals {
    by_sn: HashMap<String, Registered>,
    by_no: HashMap<String, Option<Registered>>,
    by_id: HashMap<i64, Registered>,
    bindings: HashMap<i64, Vec<Binding>>,
}

impl Terminals {
    fn of(conn: &mut Conn, scope: &Scope, rows: &[Row]) -> Result<Self, db::Error> {
        let texts = |field: &str| {
            let mut texts: Vec<&str> = rows.iter().filter_map(|row| row.text(field)).collect();
            texts.sort_unstable();
            texts.dedup();
            texts
        };
        let by_sn = terminals::registered_by_sn(conn, scope, &texts("sn"))?;
        let unnamed = rows.iter().any(|row| row.text("sn").is_none_or(|sn| !by_sn.contains_key(sn)));
        let by_no =
            if unnamed { terminals::registered_by_no(conn, scope, &texts("terminal_no"))? } else { HashMap::new() };
        let all = by_sn.values().chain(by_no.values().flatten());
        let by_id: HashMap<i64, Registered> = all.map(|terminal| (terminal.id, terminal.clone())).collect();
        let mut ids: Vec<i64> = by_id.keys().copied().collect();
        ids.sort_unstable();
        let mut bindings: HashMap<i64, Vec<Binding>> = HashMap::new();
        for binding in bindings::of_terminals(conn, &ids)? {
            bindings.entry(binding.terminal_id).or_default().push(binding);
        }
        Ok(Self { by_sn, by_no, by_id, bindings })
    }

    /// The organization of the channel's that had the terminal then: a file of last month tells whoever has it now nothing
    /// of the former one. Without a binding of that time, the one that has it now.
    fn owner<'a>(&'a self, terminal: &'a Registered, from: &Source<'_>, at_ms: i64) -> &'a str {
        let mut known = self.bindings.get(&terminal.id).into_iter().flatten();
        let then = known.find(|binding| binding.holds_at(at_ms) && binding.org_path.starts_with(from.org_path));
        then.map_or(&terminal.org_path, |binding| &binding.org_path)
    }

    fn find(&self, row: &Row) -> Option<&Registered> {
        let by_sn = row.text("sn").and_then(|sn| self.by_sn.get(sn));
        by_sn.or_else(|| row.text("terminal_no").and_then(|no| self.by_no.get(no)).and_then(Option::as_ref))
    }
}

/// A payment that a row tells.
fn payment(
    from: Source<'_>,
    mapping: &Mapping,
    row: &Row,
    terminals: &Terminals,
    now: Now,
) -> Result<Told, FieldError> {
    let terminal = terminals.find(row);
    let named = row.text("sn").or_else(|| row.text("terminal_no")).unwrap_or_default();
    // Only a serial number that is registered may look like a card number.
    if terminal.is_none() && pan::contains_card_data(named) {
        return Err(FieldError::new("sn", "looks like card data, which is never accepted"));
    }
    if named.is_empty() {
        return Err(FieldError::new("sn", "must not be empty"));
    }
    let at_ms = moment(mapping, row, now)?;
    let text = |field: &str| row.text(field).map(str::to_owned);
    let merchant_no = typed(row, "merchant_no", is_merchant_no)?;
    let mcc = typed(row, "mcc", |mcc| mcc.len() == 4 && mcc.bytes().all(|b| b.is_ascii_digit()))?;
    let amount_fen = row.number("amount_fen").ok_or_else(|| FieldError::new("amount_fen", "must not be empty"))?;
    let mut payment = Transaction {
        id: 0,
        channel_id: from.channel_id,
        org_path: terminal.map_or(from.org_path, |terminal| terminals.owner(terminal, &from, at_ms)).to_owned(),
        ref_key: String::new(),
        digest: String::new(),
        terminal_id: terminal.map(|terminal| terminal.id),
        sn: terminal.map_or(named, |terminal| terminal.sn.as_str()).to_owned(),
        at_ms,
        // Files of settled payments often have no such column: what is in them was settled.
        status: row.text("status").unwrap_or("success").to_owned(),
        amount_fen,
        settle_fen: row.number("settle_fen"),
        fee_fen: row.number("fee_fen"),
        withdraw_fen: row.number("withdraw_fen"),
        second_orders: second_orders(row),
        rate_ppm: row.number("rate_ppm"),
        capped: row.number("capped"),
        merchant_no,
        merchant_name: text("merchant_name"),
        mcc,
        ref_no: typed(row, "ref_no", is_short_id)?,
        trace_no: typed(row, "trace_no", is_short_id)?,
        batch_no: typed(row, "batch_no", is_short_id)?,
        detail: detail(row),
        import_id: from.import_id.map(str::to_owned),
        received_at_ms: now.0,
        match_quality: "none".to_owned(),
        matched_event: None,
        result: super::Result::Waiting.as_str().to_owned(),
        lacking: None,
        severity: "info".to_owned(),
        due_ms: None,
    };
    let terminal_no = terminal.and_then(|terminal| terminal.terminal_no.as_deref());
    let keys = told::keys(row, &payment, terminal_no, mapping.utc_offset_min);
    payment.ref_key = keys.first().cloned().unwrap_or_default();
    finish(&mut payment, now);
    Ok(Told { payment, keys, has_status: row.text("status").is_some(), has_sn: row.text("sn").is_some() })
}

/// When it was, within the time that payments are taken for.
fn moment(mapping: &Mapping, row: &Row, now: Now) -> Result<i64, FieldError> {
    let at_ms = match (row.number("at_ms"), row.text("date")) {
        (Some(at_ms), _) => at_ms,
        (None, Some(date)) => {
            values::moment(date, mapping.utc_offset_min, None).map_err(|problem| FieldError::new("date", problem))?
        }
        (None, None) => return Err(FieldError::new("at_ms", "must not be empty")),
    };
    if at_ms > now.0 + AHEAD_MS_MAX {
        return Err(FieldError::new("at_ms", "lies in the future; look at the time zone"));
    }
    if at_ms < now.0 - BACK_MS_MAX {
        return Err(FieldError::new("at_ms", "lies more than thirteen months back"));
    }
    Ok(at_ms)
}

/// Merchant numbers have 15 digits, as some card numbers have; of any other length it is no card number.
fn is_merchant_no(no: &str) -> bool {
    let is_plain = no.len() <= 20 && no.bytes().all(|b| b.is_ascii_alphanumeric());
    is_plain && (no.len() == 15 || !pan::contains_card_data(no))
}

fn is_short_id(id: &str) -> bool {
    id.len() <= 32 && id.bytes().all(|b| b.is_ascii_alphanumeric()) && !pan::contains_card_data(id)
}

fn typed(row: &Row, field: &str, is_good: impl Fn(&str) -> bool) -> Result<Option<String>, FieldError> {
    match row.text(field) {
        Some(text) if !is_good(text) => Err(FieldError::new(field, "does not look like one")),
        text => Ok(text.map(str::to_owned)),
    }
}

/// Orders inside: the one that has a kind, and those that have columns of their own.
fn second_orders(row: &Row) -> Option<String> {
    let kind = row.text("second_kind");
    // A lone column of service fees is what the kind is about.
    let service = kind.filter(|_| row.number("second_fen").is_none());
    let columns = [
        ("second_fen", kind.unwrap_or_default()),
        ("sim_fen", "流量费"),
        ("deposit_fen", "押金"),
        ("service_fen", service.unwrap_or("服务费")),
    ];
    let told: Vec<(&str, i64)> =
        columns.into_iter().filter_map(|(field, kind)| Some((kind, row.number(field)?))).collect();
    let orders = told.iter().filter(|(_, amount_fen)| *amount_fen != 0);
    let orders: Vec<_> = orders.map(|(kind, amount_fen)| json!({"kind": kind, "amount_fen": amount_fen})).collect();
    (!told.is_empty()).then(|| json!(orders).to_string())
}

fn detail(row: &Row) -> String {
    let fields = ["pay_type", "order_type", "settle_date", "response_code"];
    let given = fields.into_iter().filter_map(|field| Some((field.to_owned(), json!(row.text(field)?))));
    serde_json::Value::Object(given.collect()).to_string()
}

/// What a row adds to the cells of its terminal's hour: each payment once, when it has come to its end.
struct Counted {
    payment: Transaction,
    /// Nobody knew its terminal before: it may have been counted under another name since that is known.
    was_nobodys: bool,
}

impl Counted {
    fn of(payment: &Transaction, before: Option<&Known>) -> Option<Self> {
        let is_final = payment.status != "processing";
        // What nobody knew the terminal of was counted for none.
        let was_counted = before.map(|before| &before.payment);
        let was_counted = was_counted.is_some_and(|it| it.status != "processing" && it.terminal_id.is_some());
        let stored = before.and_then(|before| match before.kept {
            Kept::New => None,
            Kept::Stored(id) => Some(id),
        });
        (is_final && !was_counted && payment.terminal_id.is_some()).then(|| Self {
            payment: Transaction { id: stored.unwrap_or(payment.id), ..payment.clone() },
            was_nobodys: stored.is_some() && before.is_some_and(|before| before.payment.terminal_id.is_none()),
        })
    }

    /// Terminals that call count their own exposures.
    fn slot<'a>(&self, terminals: &'a Terminals) -> Option<Slot<'a>> {
        let Self { payment, .. } = self;
        let terminal = terminals.by_id.get(&payment.terminal_id?).filter(|terminal| !terminal.calls)?;
        Some(Slot {
            terminal_id: terminal.id,
            org_path: &terminal.org_path,
            model: &terminal.model,
            hardware: terminal.hardware.as_deref(),
            region: &terminal.region,
            at_ms: payment.at_ms,
            is_failed: payment.status == "failure",
            outcome: payment.outcome(),
        })
    }
}
