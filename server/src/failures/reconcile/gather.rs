//! What the rules need to know of a batch of payments: bindings, contracts, other numbers, the terminals' own events.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::matching::{self, Event, Quality, Sought};
use super::store;
use crate::clock::Now;
use crate::db::{self, Conn};
use crate::failures::classify::{
    EvidenceLevel, FeedRow, FeedStatus, NumberKnown, SecondOrder, SettlementFacts, TerminalSide,
};
use crate::failures::contracts::Contracts;
use crate::failures::feed::store::Transaction;
use crate::terminals::bindings::{self, Binding};

/// Terminals whose events are read by one statement: those of one file's days are not many.
const TERMINALS_AT_ONCE: usize = 5;

/// A batch's surroundings.
pub(super) struct Known {
    /// Organizations of the channels, as paths.
    pub(super) channels: HashMap<i64, String>,
    bindings: HashMap<i64, Vec<Binding>>,
    contracts: Contracts,
    events: Events,
    /// Terminals that report successes, each from when to when.
    reporting_ms: HashMap<i64, (i64, i64)>,
}

/// The terminals' own events around the payments of a batch.
#[derive(Default)]
struct Events {
    by_terminal: HashMap<i64, Vec<Event>>,
    /// Terminals with too many of them: what was not found may still be among those that were not read.
    unread: HashSet<i64>,
}

/// What was found out about one payment before it is judged.
pub(super) struct Gathered {
    pub(super) facts: SettlementFacts,
    pub(super) quality: Quality,
    pub(super) matched_event: Option<String>,
    /// What keeps its merchant from being compared.
    pub(super) lacking: Option<&'static str>,
    /// The bound number.
    pub(super) bound_no: Option<String>,
    /// The terminal reported successes before and none since: it may still tell of this one.
    pub(super) is_awaited: bool,
}

impl Known {
    /// Reads all that a batch needs; a few statements for all of it.
    pub(super) fn read(conn: &mut Conn, batch: &[Transaction]) -> Result<Self, db::Error> {
        let channel_ids: Vec<i64> = distinct(batch.iter().map(|payment| payment.channel_id));
        let terminals: Vec<i64> = distinct(batch.iter().filter_map(|payment| payment.terminal_id));
        let mut by_terminal: HashMap<i64, Vec<Binding>> = HashMap::new();
        for binding in bindings::of_terminals(conn, &terminals)? {
            by_terminal.entry(binding.terminal_id).or_default().push(binding);
        }
        let bound: Vec<String> = distinct(by_terminal.values().flatten().map(|binding| binding.merchant_no.clone()));
        let settled: Vec<String> = distinct(batch.iter().filter_map(|payment| payment.merchant_no.clone()));
        Ok(Self {
            channels: store::channel_paths(conn, &channel_ids)?,
            contracts: Contracts::read(conn, &bound, &settled)?,
            reporting_ms: store::reporting(conn, &terminals)?,
            events: Events::around(conn, batch)?,
            bindings: by_terminal,
        })
    }

    /// The facts of one payment.
    pub(super) fn gather(&self, payment: &Transaction, now: Now) -> Gathered {
        let binding = payment.terminal_id.and_then(|id| self.binding(id, payment.at_ms));
        let events = payment.terminal_id.and_then(|id| self.events.by_terminal.get(&id));
        let events = events.map(Vec::as_slice).unwrap_or_default();
        let (quality, event) = match payment.terminal_id {
            Some(terminal_id) => matching::find(&sought(payment, terminal_id), events),
            None => (Quality::None, None),
        };
        let bound = binding.map(|binding| self.contracts.binding(binding, &payment.org_path, payment.at_ms));
        let facts = SettlementFacts {
            row: Some(row(payment)),
            level: Some(EvidenceLevel::L1),
            number_known: binding.and_then(|binding| self.number_known(&binding.merchant_no, payment)),
            binding: bound,
            merchant_no_sent: event.and_then(|event| event.merchant_no_sent.clone()),
            config_drift: None,
            terminal: self.terminal_side(payment, event),
            age_ms: Some(now.0 - payment.at_ms),
            reversal_pending_ms: None,
        };
        let lacking = match (payment.terminal_id, binding, &payment.merchant_no) {
            (None, _, _) => Some("terminal"),
            (_, None, _) => Some("binding"),
            (_, _, None) => Some("merchant_no"),
            (Some(_), Some(_), Some(_)) => None,
        };
        Gathered {
            facts,
            quality,
            matched_event: event.map(|event| event.event_id.clone()),
            lacking,
            bound_no: binding.map(|binding| binding.merchant_no.clone()),
            is_awaited: event.is_none() && self.may_still_report(payment),
        }
    }

    /// The binding at that moment. The first that is known holds for the time before it, too.
    fn binding(&self, terminal_id: i64, at_ms: i64) -> Option<&Binding> {
        self.bindings.get(&terminal_id)?.iter().find(|binding| binding.holds_at(at_ms))
    }

    /// Whether the number that settled is on the list of those to be reviewed, or judged already.
    pub(super) fn is_noted(&self, bound_no: &str, number: &str, payment: &Transaction) -> bool {
        self.contracts.is_noted(bound_no, number, &payment.org_path)
    }

    fn number_known(&self, bound_no: &str, payment: &Transaction) -> Option<NumberKnown> {
        let home = self.channels.get(&payment.channel_id).unwrap_or(&payment.org_path);
        self.contracts.number_known(bound_no, payment.merchant_no.as_deref()?, &payment.org_path, home)
    }

    /// What the terminal says; nothing where it did not report successes around that time, where its events were too many
    /// to be read, and where no failure of it is the payment.
    fn terminal_side(&self, payment: &Transaction, event: Option<&Event>) -> Option<TerminalSide> {
        if let Some(event) = event {
            return Some(if event.succeeded { TerminalSide::Succeeded } else { TerminalSide::Failed(None) });
        }
        let terminal_id = payment.terminal_id.filter(|id| !self.events.unread.contains(id))?;
        let (since_ms, until_ms) = self.reporting_ms.get(&terminal_id)?;
        // The first hours after a policy was switched on say nothing of what was under way; nor does silence after the
        // last report: it may be switched off, or the terminal may not have called yet.
        let is_around = payment.at_ms > since_ms + matching::DAY_MS && payment.at_ms + matching::DAY_MS <= *until_ms;
        is_around.then_some(TerminalSide::NotSeen)
    }

    /// Whether the terminal reported before this payment, and nothing after it.
    fn may_still_report(&self, payment: &Transaction) -> bool {
        let reporting_ms = payment.terminal_id.and_then(|id| self.reporting_ms.get(&id));
        reporting_ms.is_some_and(|(since_ms, until_ms)| {
            payment.at_ms > since_ms + matching::DAY_MS && *until_ms < payment.at_ms + matching::DAY_MS
        })
    }
}

impl Events {
    /// Reads a day before and after each payment: of a few terminals at once, and of fewer payments where those have more
    /// events than one statement may return. An event may be there twice; that changes no match.
    fn around(conn: &mut Conn, batch: &[Transaction]) -> Result<Self, db::Error> {
        let wanted: Vec<(i64, i64)> =
            distinct(batch.iter().filter_map(|payment| Some((payment.terminal_id?, payment.at_ms))));
        let terminals: Vec<i64> = distinct(wanted.iter().map(|(terminal_id, _)| *terminal_id));
        let of = |some: &[i64]| wanted.iter().filter(|(id, _)| some.contains(id)).copied().collect::<Vec<_>>();
        let mut left: Vec<Vec<(i64, i64)>> = terminals.chunks(TERMINALS_AT_ONCE).map(of).collect();
        let mut events = Self::default();
        while let Some(mut payments) = left.pop() {
            let terminals: Vec<i64> = distinct(payments.iter().map(|(terminal_id, _)| *terminal_id));
            let from_ms = payments.iter().map(|(_, at_ms)| *at_ms).min().unwrap_or(0) - matching::DAY_MS;
            let to_ms = payments.iter().map(|(_, at_ms)| *at_ms).max().unwrap_or(0) + matching::DAY_MS;
            match store::events(conn, &terminals, from_ms, to_ms)? {
                Some(found) => {
                    for event in found {
                        events.by_terminal.entry(event.terminal_id).or_default().push(event);
                    }
                }
                None if payments.len() > 1 => {
                    left.push(payments.split_off(payments.len() / 2));
                    left.push(payments);
                }
                None => events.unread.extend(terminals),
            }
        }
        Ok(events)
    }
}

fn distinct<T: Ord>(items: impl Iterator<Item = T>) -> Vec<T> {
    items.collect::<BTreeSet<_>>().into_iter().collect()
}

/// What a row says of a payment of this terminal.
pub(in crate::failures) fn sought(payment: &Transaction, terminal_id: i64) -> Sought<'_> {
    Sought {
        terminal_id,
        at_ms: payment.at_ms,
        amount_fen: payment.amount_fen,
        ref_no: payment.ref_no.as_deref(),
        trace_no: payment.trace_no.as_deref(),
        batch_no: payment.batch_no.as_deref(),
        succeeded: payment.status == "success",
    }
}

fn row(payment: &Transaction) -> FeedRow {
    #[derive(serde::Deserialize)]
    struct Order {
        kind: String,
        amount_fen: i64,
    }
    let orders: Option<Vec<Order>> = payment.second_orders.as_deref().and_then(|text| serde_json::from_str(text).ok());
    FeedRow {
        status: match payment.status.as_str() {
            "success" => FeedStatus::Success,
            "failure" => FeedStatus::Failure,
            _ => FeedStatus::Processing,
        },
        merchant_no: payment.merchant_no.clone(),
        merchant_name: payment.merchant_name.clone(),
        mcc_cleared: payment.mcc.clone(),
        amount_fen: Some(payment.amount_fen),
        settle_amount_fen: payment.settle_fen,
        fee_fen: payment.fee_fen,
        withdraw_fee_fen: payment.withdraw_fen,
        rate_ppm: payment.rate_ppm,
        capped: payment.capped.map(|capped| capped == 1),
        second_orders: orders.map(|orders| {
            orders.into_iter().map(|order| SecondOrder { kind: order.kind, amount_fen: order.amount_fen }).collect()
        }),
        success_at_ms: (payment.status == "success").then_some(payment.at_ms),
    }
}
