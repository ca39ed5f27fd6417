//! Certificates and cards that run out: one incident for each organization and how near the end is.

use std::collections::{BTreeMap, VecDeque};

use serde_json::json;

use super::rules::expiry::{AHEAD_MS, Band, OVER_MS_MAX, band, entered_ms};
use super::rules::{Rule, Verdict};
use super::{DAY_MS, Found, keep, note, report, store};
use crate::clock::Now;
use crate::db::{self, Conn, Db};
use crate::failures::incidents::{Kind, Level, TERMINALS_MAX};

/// Terminals that evidence lists, the nearest end first.
const LISTED_MAX: usize = 50;

/// Something of a terminal that ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ending {
    pub terminal_id: i64,
    pub sn: String,
    pub org_path: String,
    pub expires_at_ms: i64,
}

/// What one organization has in one band.
#[derive(Debug, Default)]
struct Group {
    terminals: u64,
    /// The latest end of all.
    latest_ms: i64,
    /// Those nearest to now, at most as many as an incident lists.
    nearest: VecDeque<Ending>,
}

impl Group {
    /// Endings come in the order of their ends: of what is over the last ones are nearest, else the first ones.
    fn add(&mut self, band: Band, ending: Ending) {
        self.terminals += 1;
        self.latest_ms = ending.expires_at_ms;
        if band == Band::Expired {
            self.nearest.push_front(ending);
            self.nearest.truncate(TERMINALS_MAX);
        } else if self.nearest.len() < TERMINALS_MAX {
            self.nearest.push_back(ending);
        }
    }
}

/// Looks for what runs out.
pub(super) async fn look(db: &Db, now: Now) -> Result<(), db::Error> {
    let certificates = gather(db, store::expiry::certificates, now).await?;
    let cards = gather(db, store::expiry::cards, now).await?;
    let is_any = !certificates.is_empty() || !cards.is_empty();
    let verdict = if is_any { Verdict::Hit(()) } else { Verdict::Clear };
    note(db, Rule::Expiry, &verdict, now).await?;
    for (what, groups) in [("certificate", certificates), ("sim", cards)] {
        for ((band, org_path), group) in groups {
            tell(db, found(what, band, org_path, &group, now), band, &group, now).await?;
        }
    }
    Ok(())
}

/// Reads a piece of what ends up to a moment, after an end and a terminal.
type Read = fn(&mut Conn, (i64, i64), i64) -> Result<Vec<Ending>, db::Error>;

/// All of one sort that is near its end, piece by piece.
async fn gather(db: &Db, read: Read, now: Now) -> Result<BTreeMap<(Band, String), Group>, db::Error> {
    let mut groups: BTreeMap<(Band, String), Group> = BTreeMap::new();
    let mut after = (now.0 - OVER_MS_MAX, 0);
    loop {
        let endings = db.read(move |conn| read(conn, after, now.0 + AHEAD_MS)).await?;
        let Some(last) = endings.last() else { return Ok(groups) };
        after = (last.expires_at_ms, last.terminal_id);
        for ending in endings {
            if let Some(band) = band(ending.expires_at_ms, now.0) {
                groups.entry((band, ending.org_path.clone())).or_default().add(band, ending);
            }
        }
    }
}

/// The same terminals in an hour are no reason to open again what people closed: it is news when one came into the band
/// since it was looked last, or when there are more than there were, because an end became known late.
async fn tell(db: &Db, found: Found, band: Band, group: &Group, now: Now) -> Result<(), db::Error> {
    let (key, org_path) = (found.key.clone(), found.org_path.clone());
    let before = db.read(move |conn| store::expiry::before(conn, &key, &org_path)).await?;
    let is_known = before.is_some_and(|(terminals, seen_ms)| {
        i64::try_from(group.terminals).unwrap_or(i64::MAX) <= terminals && entered_ms(group.latest_ms, band) <= seen_ms
    });
    if !is_known || !keep(db, found.clone(), now).await? {
        report(db, found, now).await?;
    }
    Ok(())
}

fn found(what: &str, band: Band, org_path: String, group: &Group, now: Now) -> Found {
    let nearest_ms = group.nearest.front().map_or(now.0, |ending| ending.expires_at_ms);
    let rows: Vec<_> = group
        .nearest
        .iter()
        .take(LISTED_MAX)
        .map(|ending| json!({"sn": ending.sn, "expires_at_ms": ending.expires_at_ms}))
        .collect();
    let name = if what == "sim" { "SIM" } else { "TLS" };
    Found {
        rule: Rule::Expiry,
        verdict: "hit",
        kind: Kind::Expiry,
        level: match band {
            Band::Expired | Band::Days7 => Level::P2,
            Band::Days30 | Band::Days90 => Level::P3,
        },
        key: format!("{what}:{}", band.days()),
        subject: format!("{name} ≤ {} d", band.days()),
        org_path,
        evidence: json!({
            "reasons": [{
                "rule": Rule::Expiry.as_str(),
                "field": "days_left",
                "observed": (nearest_ms - now.0).div_euclid(DAY_MS),
                "threshold": band.days(),
            }],
            "terminals": rows,
        }),
        terminal_ids: group.nearest.iter().map(|ending| ending.terminal_id).collect(),
        affected: group.terminals,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_counts_all_and_names_those_nearest_to_now() {
        for (band, first) in [(Band::Expired, 299), (Band::Days7, 0)] {
            let mut group = Group::default();
            for id in 0..300 {
                group.add(
                    band,
                    Ending { terminal_id: id, sn: String::new(), org_path: String::new(), expires_at_ms: id },
                );
            }
            assert_eq!((group.terminals, group.latest_ms, group.nearest.len()), (300, 299, TERMINALS_MAX));
            assert_eq!(group.nearest.front().map(|ending| ending.terminal_id), Some(first), "{band:?}");
        }
    }
}
