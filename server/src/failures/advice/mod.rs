//! Network advice: how good each store's network is, what to change about it, and what that would have saved.
//!
//! A pass goes round the terminals, folds the last month of each into its links ([`measure`]) and judges its store
//! ([`judge`]). What it is compared with are sums over terminals of the region, whoever they belong to: rates of at
//! least ten terminals, and nothing that names one. Pages read what the pass wrote.

pub mod http;
pub mod judge;
pub mod measure;
mod store;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tillward_protocol::crypto::sha256;

use crate::clock::Now;
use crate::db::{self, Conn, Db};
use crate::operators::Scope;
use judge::{Judged, Peer, Thresholds};
use measure::Link;

/// What advice rests on, ms: the last month, which is what conditions are kept for.
pub const WINDOW_MS: i64 = 30 * 86_400_000;
/// A round over all terminals begins this long after the one before began, ms.
const ROUND_MS: i64 = 3_600_000;
/// Terminals folded at a time.
const TERMINALS: i64 = 20;
/// Samples read in one pass, about: a second or so each minute, and a million terminals in some days.
const SAMPLES_MAX: usize = 300_000;
/// In place of a score where there is too little to judge by: after all scores.
const UNKNOWN: i64 = 1_000;

/// One store's network.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct StoreNetwork {
    /// Its number.
    pub id: i64,
    /// Path of the organization that it belongs to.
    pub org_path: String,
    /// Merchant number.
    pub merchant_no: Option<String>,
    /// Merchant's name.
    pub merchant_name: Option<String>,
    /// Store's name.
    pub store_name: Option<String>,
    /// Region.
    pub region: String,
    /// Terminals with measurements.
    pub terminals: i64,
    /// Payments of the last 30 days that were reported with conditions.
    pub attempts: i64,
    /// Those that did not get through to the host.
    pub failed: i64,
    /// How each access and carrier was.
    pub links: Vec<Link>,
    /// The score, its reasons, and what to change.
    pub judged: Judged,
    /// When it was judged, Unix ms.
    pub computed_at_ms: i64,
}

/// Where a page of stores ends: score and number.
pub type StoreKey = (i64, i64);

impl StoreNetwork {
    /// Its place in the list, the worst first.
    pub fn key(&self) -> StoreKey {
        (self.judged.score.unwrap_or(UNKNOWN), self.id)
    }
}

/// What the table keeps as JSON.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Body {
    links: Vec<Link>,
    judged: Judged,
}

/// What a store is told apart by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct StoreId {
    org_path: String,
    merchant_no: Option<String>,
    store_name: Option<String>,
}

impl StoreId {
    /// A hash, the same on every server; 63 bits.
    fn number(&self) -> i64 {
        let parts = [self.org_path.as_str(), or_empty(&self.merchant_no), or_empty(&self.store_name)];
        let [a, b, c, d, e, f, g, h, ..] = sha256(parts.join("\n").as_bytes());
        i64::from_be_bytes([a, b, c, d, e, f, g, h]) & i64::MAX
    }

    /// Whether it is a store at all: a terminal that nobody bound is in none.
    fn is_named(&self) -> bool {
        self.merchant_no.is_some() || self.store_name.is_some()
    }
}

fn or_empty(text: &Option<String>) -> &str {
    text.as_deref().unwrap_or_default()
}

/// One pass at `now`: a bounded piece of the round over all terminals. Idempotent. What a round does not come by, however
/// long it takes, is gone after it.
///
/// # Errors
/// [`db::Error`]; what was written before stays.
pub async fn pass(db: &Db, now: Now) -> Result<(), db::Error> {
    let Some(mut after) = db.write(move |conn| store::begin(conn, now, ROUND_MS)).await? else { return Ok(()) };
    let mut peers = BTreeMap::new();
    let mut read = 0;
    while read < SAMPLES_MAX {
        let terminals = db.read(move |conn| store::terminals(conn, after, TERMINALS)).await?;
        let Some(last) = terminals.last().map(|terminal| terminal.id) else { return end(db, after).await };
        let (folded, samples) = db
            .read(move |conn| {
                let mut folded = Vec::with_capacity(terminals.len());
                let mut samples = 0;
                for terminal in terminals {
                    let (links, n) = links(conn, terminal.id, now)?;
                    samples += n;
                    folded.push((terminal, links));
                }
                Ok::<_, db::Error>((folded, samples))
            })
            .await?;
        read += samples + folded.len();
        let stores = db
            .write(move |conn| {
                let mut stores = BTreeSet::new();
                for (terminal, links) in folded {
                    store::replace_links(conn, terminal.id, &terminal.region, &links, now)?;
                    if terminal.store.is_named() {
                        stores.insert((terminal.store, terminal.region));
                    }
                }
                store::delete_passed_over(conn, after, last, now)?;
                Ok::<_, db::Error>(stores)
            })
            .await?;
        let judged = judge_stores(db, stores, &mut peers, now).await?;
        db.write(move |conn| {
            judged.into_iter().try_for_each(|store| store::write_store(conn, store))?;
            store::reach(conn, last)
        })
        .await?;
        after = last;
    }
    Ok(())
}

/// The round is done with the terminal `last`: what it did not come by is gone.
async fn end(db: &Db, last: i64) -> Result<(), db::Error> {
    while db.write(move |conn| store::delete_above(conn, last)).await? > 0 {}
    while db.write(store::delete_stores).await? > 0 {}
    db.write(|conn| store::reach(conn, 0)).await
}

/// A terminal's last month by access and carrier, and how many samples that was.
fn links(conn: &mut Conn, terminal_id: i64, now: Now) -> Result<(Vec<Link>, usize), db::Error> {
    let from_ms = now.0 - WINDOW_MS;
    let samples = store::samples(conn, terminal_id, from_ms)?;
    let unreached = store::unreached(conn, terminal_id, from_ms)?;
    Ok((measure::fold(&samples, &unreached), samples.len()))
}

/// Judges stores, each in its region. What regions are compared with is read once in a pass, and nothing of it while
/// others wait to write.
async fn judge_stores(
    db: &Db,
    stores: BTreeSet<(StoreId, String)>,
    peers: &mut BTreeMap<String, Vec<Peer>>,
    now: Now,
) -> Result<Vec<StoreNetwork>, db::Error> {
    let regions: BTreeSet<String> = stores.iter().map(|(_, region)| region.clone()).collect();
    for region in regions.into_iter().filter(|region| !peers.contains_key(region)).collect::<Vec<_>>() {
        let of = region.clone();
        let found = db.read(move |conn| store::peers(conn, &of)).await?;
        peers.insert(region, found);
    }
    let measured = db
        .read(move |conn| {
            let mut measured = Vec::with_capacity(stores.len());
            for (id, region) in stores {
                let links = store::links_of_store(conn, &id)?;
                measured.push((id, region, links));
            }
            Ok::<_, db::Error>(measured)
        })
        .await?;
    let mut judged = Vec::with_capacity(measured.len());
    for (id, region, links) in measured {
        if let Some(of_region) = peers.get(&region) {
            judged.extend(judge_store(&id, region, links, of_region, now));
        }
    }
    Ok(judged)
}

/// Judges a store by how many of its terminals are measured, its merchant's name and their links; `None` without any.
fn judge_store(
    id: &StoreId,
    region: String,
    (terminals, merchant_name, rows): (i64, Option<String>, Vec<Link>),
    peers: &[Peer],
    now: Now,
) -> Option<StoreNetwork> {
    let mut links: Vec<Link> = Vec::new();
    for row in rows {
        match links.iter_mut().find(|link| link.access == row.access && link.carrier == row.carrier) {
            Some(link) => link.merge(&row),
            None => links.push(row),
        }
    }
    if links.is_empty() {
        return None;
    }
    let judged = judge::judge(&links, peers, &Thresholds::default());
    let all = links.iter().fold(measure::Tally::default(), |sum, link| sum.plus(link.all()));
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    Some(StoreNetwork {
        id: id.number(),
        org_path: id.org_path.clone(),
        merchant_no: id.merchant_no.clone(),
        merchant_name,
        store_name: id.store_name.clone(),
        region,
        terminals,
        attempts: count(all.attempts),
        failed: count(all.failed),
        links,
        judged,
        computed_at_ms: now.0,
    })
}

/// Stores of the scope, the worst network first, those that cannot be judged last, after `after`.
///
/// # Errors
/// [`db::Error`].
pub fn list(
    conn: &mut Conn,
    scope: &Scope,
    after: Option<StoreKey>,
    size: u32,
) -> Result<Vec<StoreNetwork>, db::Error> {
    store::list(conn, scope, after, i64::from(size))
}

/// One store of the scope.
///
/// # Errors
/// [`db::Error`].
pub fn get(conn: &mut Conn, scope: &Scope, id: i64) -> Result<Option<StoreNetwork>, db::Error> {
    store::get(conn, scope, id)
}

/// The store of a terminal of the scope, if it is in one that was judged.
///
/// # Errors
/// [`db::Error`].
pub fn of_terminal(conn: &mut Conn, scope: &Scope, terminal_id: i64) -> Result<Option<StoreNetwork>, db::Error> {
    match store::store_of(conn, scope, terminal_id)? {
        Some(id) => store::get(conn, scope, id.number()),
        None => Ok(None),
    }
}
