//! Certificates and cards that run out: one incident for each organization and how near the end is.

use std::collections::BTreeMap;

use serde_json::json;

use super::rules::expiry::{AHEAD_MS, Band, OVER_MS_MAX, band};
use super::rules::{Rule, Verdict};
use super::{DAY_MS, Found, note, report, store};
use crate::clock::Now;
use crate::db::{self, Db};
use crate::failures::incidents::{Kind, Level};

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

/// Looks for what runs out.
pub(super) async fn look(db: &Db, now: Now) -> Result<(), db::Error> {
    let (from_ms, to_ms) = (now.0 - OVER_MS_MAX, now.0 + AHEAD_MS);
    let (certificates, cards) = db
        .read(move |conn| {
            let certificates = store::expiry::certificates(conn, from_ms, to_ms)?;
            Ok::<_, db::Error>((certificates, store::expiry::cards(conn, from_ms, to_ms)?))
        })
        .await?;
    let is_any = !certificates.is_empty() || !cards.is_empty();
    let verdict = if is_any { Verdict::Hit(()) } else { Verdict::Clear };
    note(db, Rule::Expiry, &verdict, now).await?;
    for (what, endings) in [("certificate", certificates), ("sim", cards)] {
        let mut groups: BTreeMap<(Band, String), Vec<Ending>> = BTreeMap::new();
        for ending in endings {
            if let Some(band) = band(ending.expires_at_ms, now.0) {
                groups.entry((band, ending.org_path.clone())).or_default().push(ending);
            }
        }
        for ((band, org_path), endings) in groups {
            report(db, found(what, band, org_path, &endings, now), now).await?;
        }
    }
    Ok(())
}

fn found(what: &str, band: Band, org_path: String, endings: &[Ending], now: Now) -> Found {
    let nearest_ms = endings.iter().map(|ending| ending.expires_at_ms).min().unwrap_or(now.0);
    let rows: Vec<_> = endings
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
        terminal_ids: endings.iter().map(|ending| ending.terminal_id).collect(),
        affected: u64::try_from(endings.len()).unwrap_or(u64::MAX),
    }
}
