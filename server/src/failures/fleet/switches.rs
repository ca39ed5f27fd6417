//! Merchants whose payments arrive under other numbers (B6), once an hour over the last weeks.
//!
//! Only what reconciliation compared says anything: a payment without a terminal, a binding or a number was successful and
//! not compared, and so was one under a number that waits for a person. An approved alias is the merchant's own number; a
//! number that the terminal itself sent wrongly is a matter of its parameters and no switch. Merchants without a single
//! switched payment are not looked at, and nothing is said of them.

mod view;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use jiff::tz::TimeZone;
use serde_json::json;

use super::rules::switch::{COMPARED_MIN, Compared, Pattern, Split, Tally};
use super::rules::{Missing, Rule, Verdict, common_path};
use super::{DAY_MS, Found, HOUR_MS, keep, note, offset_ms, reasons, report, store};
use crate::clock::Now;
use crate::db::{self, Conn, Db};
use crate::failures::incidents::{Kind, Level};
use crate::terminals::bindings::{self, Binding};
use store::switches::Kept;
pub use view::{MerchantSwitches, SplitFound, switches};

/// How far back settlements are looked at, ms: thirty days.
pub const WINDOW_MS: i64 = 30 * DAY_MS;
/// Merchants looked at in one round, those with the most switched payments first.
pub const MERCHANTS_MAX: usize = 500;
/// Bindings of one merchant that are looked at.
const BINDINGS_MAX: i64 = 2_000;
/// Payments of one merchant that are looked at, the newest: where there are more, the window is shorter and says so.
const PAYMENTS_MAX: i64 = 50_000;

/// A settled payment as its channel told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settled {
    pub id: i64,
    pub channel_id: i64,
    pub org_path: String,
    pub terminal_id: i64,
    pub at_ms: i64,
    pub amount_fen: i64,
    pub entry: Option<String>,
    pub matched_event: Option<String>,
    pub result: String,
    pub is_lacking: bool,
}

/// A payment that a terminal reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reported {
    pub terminal_id: i64,
    pub event_id: String,
    pub at_ms: i64,
    pub org_path: String,
}

/// What was said of a merchant in the round before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Before {
    pub newest_id: i64,
    pub switched: i64,
    pub was_hit: bool,
    pub incident_id: Option<i64>,
}

/// One round over the merchants with switched payments.
pub(super) async fn look(db: &Db, now: Now, zone: &TimeZone) -> Result<(), db::Error> {
    let from_ms = now.0 - WINDOW_MS;
    let merchants = db.read(move |conn| merchants(conn, from_ms)).await?;
    let mut said: Option<Verdict<()>> = None;
    for merchant_no in merchants {
        let window = db.read(move |conn| Window::read(conn, merchant_no, from_ms)).await?;
        for (home, counted) in window.counted(zone).into_iter().filter(|(_, counted)| counted.tally.switched > 0) {
            let verdict = counted.tally.judge();
            said = Some(heavier(said, &verdict));
            tell(db, &window, home, counted, verdict, now).await?;
        }
    }
    let said = match said {
        Some(said) => said,
        // Nothing is known to differ: that says something only where anything was compared.
        None => {
            let compared = db.read(move |conn| store::switches::compared_lately(conn, from_ms)).await?;
            if u64::try_from(compared).unwrap_or(u64::MAX) < COMPARED_MIN {
                Verdict::Insufficient(Missing::Compared)
            } else {
                Verdict::Clear
            }
        }
    };
    note(db, Rule::MerchantSwitch, &said, now).await?;
    while db.write(move |conn| store::switches::delete_older(conn, now)).await? > 0 {}
    Ok(())
}

/// What the rule says of all merchants together: a pattern if there is one anywhere, too little only if it is everywhere.
fn heavier(said: Option<Verdict<()>>, verdict: &Verdict<Pattern>) -> Verdict<()> {
    match (said, verdict) {
        (Some(Verdict::Hit(())), _) | (_, Verdict::Hit(_) | Verdict::Info(_)) => Verdict::Hit(()),
        (Some(Verdict::Clear | Verdict::Info(())), _) | (_, Verdict::Clear) => Verdict::Clear,
        (_, Verdict::Insufficient(missing)) => Verdict::Insufficient(*missing),
    }
}

/// Merchant numbers that were bound when a payment was switched, those with the most such payments first.
fn merchants(conn: &mut Conn, from_ms: i64) -> Result<Vec<String>, db::Error> {
    let switched = store::switches::switched(conn, from_ms)?;
    let terminals: BTreeSet<i64> = switched.iter().map(|(terminal_id, _)| *terminal_id).collect();
    let terminals: Vec<i64> = terminals.into_iter().collect();
    let bound = by_terminal(bindings::of_terminals(conn, &terminals)?);
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for (terminal_id, at_ms) in switched {
        let Some(binding) = binding_at(&bound, terminal_id, at_ms) else { continue };
        *counts.entry(binding.merchant_no.clone()).or_default() += 1;
    }
    let mut merchants: Vec<(String, u64)> = counts.into_iter().collect();
    merchants.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    merchants.truncate(MERCHANTS_MAX);
    Ok(merchants.into_iter().map(|(merchant_no, _)| merchant_no).collect())
}

fn by_terminal(bindings: Vec<Binding>) -> HashMap<i64, Vec<Binding>> {
    let mut by_terminal: HashMap<i64, Vec<Binding>> = HashMap::new();
    for binding in bindings {
        by_terminal.entry(binding.terminal_id).or_default().push(binding);
    }
    by_terminal
}

fn binding_at(bound: &HashMap<i64, Vec<Binding>>, terminal_id: i64, at_ms: i64) -> Option<&Binding> {
    bound.get(&terminal_id)?.iter().find(|binding| binding.holds_at(at_ms))
}

/// One merchant's payments of the window.
struct Window {
    merchant_no: String,
    merchant_name: Option<String>,
    from_ms: i64,
    bound: HashMap<i64, Vec<Binding>>,
    settled: Vec<Settled>,
    /// Numbers of those that differ by their merchant number.
    switched: HashSet<i64>,
    reported: Vec<Reported>,
    /// Organizations of the channels and their names.
    channels: HashMap<i64, (String, String)>,
}

/// What the channels of one organization told of a merchant, counted.
#[derive(Default)]
struct Counted {
    tally: Tally,
    review: i64,
    newest_id: i64,
    paths: BTreeSet<String>,
    terminals: BTreeSet<i64>,
}

impl Window {
    fn read(conn: &mut Conn, merchant_no: String, from_ms: i64) -> Result<Self, db::Error> {
        let bindings = bindings::of_merchant(conn, &merchant_no, from_ms, BINDINGS_MAX)?;
        let newest = bindings.iter().max_by_key(|binding| binding.from_ms);
        let merchant_name = newest.and_then(|binding| binding.merchant_name.clone());
        let terminals: BTreeSet<i64> = bindings.iter().map(|binding| binding.terminal_id).collect();
        let terminals: Vec<i64> = terminals.into_iter().collect();
        let settled = store::switches::settled(conn, &terminals, from_ms, PAYMENTS_MAX)?;
        let reported = store::switches::reported(conn, &terminals, from_ms, PAYMENTS_MAX)?;
        let is_full = |n: usize| i64::try_from(n).unwrap_or(i64::MAX) >= PAYMENTS_MAX;
        // Both are looked at over the same time.
        let ends = [
            settled.last().filter(|_| is_full(settled.len())).map(|payment| payment.at_ms),
            reported.last().filter(|_| is_full(reported.len())).map(|payment| payment.at_ms),
        ];
        let from_ms = ends.into_iter().flatten().fold(from_ms, i64::max);
        let found: Vec<(i64, i64)> = settled
            .iter()
            .filter(|payment| payment.result == "switched")
            .map(|payment| (payment.terminal_id, payment.id))
            .collect();
        Ok(Self {
            switched: store::switches::by_number(conn, &found)?,
            channels: store::switches::channels(conn, &settled.iter().map(|payment| payment.channel_id).collect())?,
            bound: by_terminal(bindings),
            merchant_no,
            merchant_name,
            from_ms,
            settled,
            reported,
        })
    }

    /// The counts by the organization whose channels told of the payments.
    fn counted(&self, zone: &TimeZone) -> BTreeMap<String, Counted> {
        let mut counted: BTreeMap<String, Counted> = BTreeMap::new();
        let mut matched: HashSet<(i64, &str)> = HashSet::new();
        for payment in &self.settled {
            matched.extend(payment.matched_event.as_deref().map(|event| (payment.terminal_id, event)));
            let is_ours =
                payment.at_ms >= self.from_ms && binding_at(&self.bound, payment.terminal_id, payment.at_ms).is_some();
            if let Some((home, _)) = self.channels.get(&payment.channel_id).filter(|_| is_ours) {
                self.count(counted.entry(home.clone()).or_default(), payment, zone);
            }
        }
        // What no channel told of was successful, too, and was not compared.
        for payment in &self.reported {
            let is_told = matched.contains(&(payment.terminal_id, payment.event_id.as_str()));
            let is_ours =
                payment.at_ms >= self.from_ms && binding_at(&self.bound, payment.terminal_id, payment.at_ms).is_some();
            if is_ours && !is_told {
                let homes = counted.iter_mut().filter(|(home, _)| payment.org_path.starts_with(home.as_str()));
                homes.for_each(|(_, counted)| counted.tally.skip());
            }
        }
        counted
    }

    fn count(&self, counted: &mut Counted, payment: &Settled, zone: &TimeZone) {
        counted.paths.insert(payment.org_path.clone());
        counted.review += i64::from(payment.result == "review");
        if payment.is_lacking || matches!(payment.result.as_str(), "waiting" | "unchecked" | "review") {
            counted.tally.skip();
            return;
        }
        let is_switched = self.switched.contains(&payment.id);
        if is_switched {
            counted.newest_id = counted.newest_id.max(payment.id);
            counted.terminals.insert(payment.terminal_id);
        }
        let local_ms = payment.at_ms + offset_ms(zone, payment.at_ms);
        counted.tally.compare(Compared {
            hour: u8::try_from(local_ms.rem_euclid(DAY_MS) / HOUR_MS).unwrap_or(0),
            amount_fen: payment.amount_fen,
            entry: payment.entry.as_deref(),
            channel: &payment.channel_id.to_string(),
            is_switched,
        });
    }

    /// The circumstances that stand out, with the names of channels.
    fn splits(&self, pattern: &Pattern) -> Vec<SplitFound> {
        let named = |split: Split, value: &str| match split {
            Split::Channel => {
                let channel = value.parse().ok().and_then(|id: i64| self.channels.get(&id));
                channel.map_or_else(|| value.to_owned(), |(_, name)| name.clone())
            }
            Split::Hour | Split::Amount | Split::Entry => value.to_owned(),
        };
        let found = pattern.splits.iter().map(|(group, ratio, q)| SplitFound {
            split: group.split.as_str().to_owned(),
            value: named(group.split, &group.value),
            compared: group.compared,
            switched: group.switched,
            ratio: *ratio,
            p_adjusted: *q,
        });
        found.collect()
    }
}

/// Keeps what the rule says of one merchant, and opens an incident where that is a pattern and news.
async fn tell(
    db: &Db,
    window: &Window,
    home: String,
    counted: Counted,
    verdict: Verdict<Pattern>,
    now: Now,
) -> Result<(), db::Error> {
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let mut row = Kept {
        merchant_no: window.merchant_no.clone(),
        merchant_name: window.merchant_name.clone(),
        org_path: common_path(counted.paths.iter().map(String::as_str)),
        from_ms: window.from_ms,
        to_ms: now.0,
        successful: count(counted.tally.successful),
        compared: count(counted.tally.compared),
        switched: count(counted.tally.switched),
        review: counted.review,
        newest_id: counted.newest_id,
        verdict: verdict.as_str().to_owned(),
        missing: verdict.missing().map(|missing| missing.as_str().to_owned()),
        splits: "[]".to_owned(),
        incident_id: None,
        home,
    };
    if let Verdict::Hit(pattern) = verdict {
        let splits = window.splits(&pattern);
        row.splits = serde_json::to_string(&splits).unwrap_or_default();
        let (home, merchant_no) = (row.home.clone(), row.merchant_no.clone());
        let before = db.read(move |conn| store::switches::before(conn, &home, &merchant_no)).await?;
        // The same payments tomorrow are no reason to open again what people closed.
        let same = before
            .filter(|before| before.was_hit && row.newest_id <= before.newest_id && row.switched <= before.switched);
        let found = found(&row, &pattern, &splits, counted.terminals);
        row.incident_id = match same {
            Some(before) if keep(db, found.clone(), now).await? => before.incident_id,
            _ => report(db, found, now).await?,
        };
    }
    db.write(move |conn| store::switches::put(conn, &row)).await
}

fn found(row: &Kept, pattern: &Pattern, splits: &[SplitFound], terminals: BTreeSet<i64>) -> Found {
    let subject = match &row.merchant_name {
        Some(name) => format!("{} · {name}", row.merchant_no),
        None => row.merchant_no.clone(),
    };
    Found {
        rule: Rule::MerchantSwitch,
        verdict: "hit",
        kind: Kind::MerchantSwitch,
        level: Level::P3,
        key: format!("merchant:{} feed:{}", row.merchant_no, row.home),
        subject,
        org_path: row.org_path.clone(),
        evidence: json!({
            "reasons": reasons(Rule::MerchantSwitch, &pattern.reasons),
            "switched": row.switched,
            "compared": row.compared,
            "successful": row.successful,
            "under_review": row.review,
            "share": pattern.share,
            "share_low": pattern.interval.0,
            "share_high": pattern.interval.1,
            "coverage": pattern.coverage,
            "began_at_ms": row.from_ms,
            "judged_at_ms": row.to_ms,
            "splits": splits,
        }),
        affected: u64::try_from(terminals.len()).unwrap_or(u64::MAX),
        terminal_ids: terminals.into_iter().collect(),
    }
}
