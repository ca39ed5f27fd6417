//! What happens after card data was refused: it is counted, and the organization's people hear of it, once a day and by
//! numbers alone. The text itself is gone by then; see [`crate::text::guarded`], by which everything asks.
//!
//! A refused request writes nothing, so that nobody can make the server write by being refused: requests are only counted
//! here, in memory, and a pass tells what was counted. Imports tell within their own transactions.

mod store;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde_json::json;

use crate::clock::Now;
use crate::db::{self, Conn, Db};
use crate::failures::incidents::{self, Kind, Level, NewIncident};

const DAY_MS: i64 = 86_400_000;
/// Senders that are remembered between two passes; those beyond are counted in the metrics only.
const SENDERS_MAX: usize = 1_000;

/// Who sent what was refused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sender {
    /// An operator or a program of the organization with this path.
    Organization(String),
    /// A terminal.
    Terminal(i64),
}

/// Requests that were refused and not told yet.
#[derive(Debug, Default)]
pub struct Guard {
    refused: Mutex<BTreeMap<Sender, u64>>,
}

impl Guard {
    /// Counts one refused request.
    pub fn note(&self, sender: Sender) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.len() < SENDERS_MAX || refused.contains_key(&sender) {
            let n = refused.entry(sender).or_default();
            *n = n.saturating_add(1);
        }
    }

    fn take(&self) -> BTreeMap<Sender, u64> {
        std::mem::take(&mut *self.refused.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn put_back(&self, untold: BTreeMap<Sender, u64>) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        for (sender, n) in untold {
            let known = refused.entry(sender).or_default();
            *known = known.saturating_add(n);
        }
    }

    /// Tells what was counted since the last call.
    ///
    /// # Errors
    /// [`db::Error`]; what could not be told is told by the next call.
    pub async fn tell(&self, db: &Db, now: Now) -> Result<(), db::Error> {
        let refused = self.take();
        if refused.is_empty() {
            return Ok(());
        }
        let counted = refused.clone();
        let told = db.write(move |conn| {
            let mut by_organization: BTreeMap<String, u64> = BTreeMap::new();
            for (sender, n) in counted {
                let org_path = match sender {
                    Sender::Organization(path) => Some(path),
                    Sender::Terminal(id) => store::org_path(conn, id)?,
                };
                if let Some(org_path) = org_path {
                    *by_organization.entry(org_path).or_default() += n;
                }
            }
            let mut new = Vec::with_capacity(by_organization.len());
            for (org_path, n) in by_organization {
                new.push(incident(conn, &org_path, n, now)?);
            }
            incidents::open_all(conn, new, now).map(drop)
        });
        told.await.inspect_err(|_| self.put_back(refused))
    }
}

/// Tells an organization's people that `refused` texts or rows were refused because they looked like card data; within the
/// caller's transaction, before its own entry in the audit log. Nothing for none.
///
/// # Errors
/// [`db::Error`].
pub fn report(conn: &mut Conn, org_path: &str, refused: u64, now: Now) -> Result<(), db::Error> {
    if refused == 0 {
        return Ok(());
    }
    let new = incident(conn, org_path, refused, now)?;
    incidents::open(conn, new, now).map(drop)
}

/// The incident of this day.
fn incident(conn: &mut Conn, org_path: &str, refused: u64, now: Now) -> Result<NewIncident, db::Error> {
    let name = store::name(conn, org_path)?.unwrap_or_else(|| org_path.to_owned());
    Ok(NewIncident {
        kind: Kind::CardData,
        level: Level::P2,
        org_path: org_path.to_owned(),
        key: format!("day:{}", now.0.div_euclid(DAY_MS)),
        subject: name,
        evidence: json!({ "refused": refused }),
        rollout_id: None,
        release_id: None,
        terminal_ids: Vec::new(),
        affected: 0,
    })
}
