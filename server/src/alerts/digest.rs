//! The daily digest: what was held back, and how things stand, in one message at half past eight.
//!
//! It goes to each channel that wants one, and to each for which something was held back. It is an alert like others: in the
//! outbox, tried for days, in the log. What it tells of ends as it ends. Once a channel and day, whatever restarts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::hours::Zone;
use super::letter::tailed;
use super::sender::Sender;
use super::store::digest as store;
use super::{Alert, AlertKind, Level, NewAlert};
use crate::clock::Now;
use crate::db::{self, Conn, Db};
use crate::operators::Scope;
use crate::terminals::list::{Connection, overview};

/// When the digest is sent if an organization does not say: 08:30.
pub const DIGEST_AT_MIN: u16 = 8 * 60 + 30;
/// Unresolved incidents that a digest names.
pub(super) const TOP_MAX: i64 = 5;
/// Alerts held back that it names; the others are counted.
pub(super) const HELD_MAX: i64 = 20;
/// What counts as new, ms.
const DAY_MS: i64 = 86_400_000;
/// Value of a digest's alert that holds the [`Summary`].
const SUMMARY: &str = "summary";
/// Text that names a digest.
const TITLE_KEY: &str = "alert-digest";

/// One thing in a batch or a digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Item {
    pub(super) level: String,
    /// Kind of the alert.
    pub(super) kind: String,
    pub(super) title_key: String,
    /// Values in the title; serial numbers by their tails.
    pub(super) parameters: BTreeMap<String, String>,
    /// Name of the organization it concerns.
    pub(super) organization: String,
}

impl Item {
    pub(super) fn of(alert: &Alert, organization: &str) -> Self {
        Self {
            level: alert.level.clone(),
            kind: alert.kind.clone(),
            title_key: alert.title_key.clone(),
            parameters: alert.parameters.iter().map(|(name, value)| (name.clone(), tailed(value))).collect(),
            organization: organization.to_owned(),
        }
    }
}

/// How things stand in an organization and all below it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Summary {
    /// Incidents opened within a day, by level.
    pub(super) opened: [i64; 3],
    /// Incidents that are not over, by level.
    pub(super) unresolved: [i64; 3],
    /// Incidents that nobody has taken on.
    pub(super) waiting: i64,
    /// Terminals.
    pub(super) terminals: i64,
    /// Terminals that do not call.
    pub(super) offline: i64,
    /// Things that run out soon: certificates, keys, cards.
    pub(super) expiring: i64,
    /// The most urgent incidents that are not over.
    pub(super) top: Vec<Item>,
    /// What was held back for this digest.
    pub(super) held: Vec<Item>,
    /// How much was held back, named or not.
    pub(super) held_count: usize,
}

impl Summary {
    /// Of an alert that is a digest.
    pub(super) fn of(alert: &Alert) -> Option<Self> {
        if alert.kind != AlertKind::Digest.as_str() {
            return None;
        }
        serde_json::from_str(alert.parameters.get(SUMMARY)?).ok()
    }
}

/// Writes the digests whose moment has come, and ends what digests that have ended told of. Returns how many were written.
/// Idempotent: a digest that is missing because this server was away is written late, and once.
///
/// # Errors
/// [`db::Error`]; what was written stays.
pub async fn digests(db: &Db, sender: &Sender, now: Now) -> Result<usize, db::Error> {
    let mut written = 0;
    for candidate in db.read(store::candidates).await? {
        let zone = Zone::of(candidate.time_zone.as_deref(), sender.time_zone());
        let at_min = candidate.digest_at_min.unwrap_or(DIGEST_AT_MIN);
        let Some(moment_ms) = zone.last(at_min, now) else { continue };
        if candidate.done_ms.is_some_and(|done_ms| done_ms >= moment_ms) {
            continue;
        }
        let standing = db.read(move |conn| standing(conn, candidate, moment_ms, now)).await?;
        let Some((candidate, summary)) = standing else { continue };
        written += usize::from(db.write(move |conn| write(conn, &candidate, summary, moment_ms, now)).await?);
    }
    while db.write(move |conn| store::end_told(conn, now)).await? > 0 {}
    Ok(written)
}

/// How things stand for a channel that gets a digest now; none for one that does not.
fn standing(
    conn: &mut Conn,
    candidate: store::Candidate,
    moment_ms: i64,
    now: Now,
) -> Result<Option<(store::Candidate, Summary)>, db::Error> {
    let is_wanted = candidate.since_ms.is_some_and(|since_ms| since_ms <= moment_ms);
    if !is_wanted && !store::has_held(conn, candidate.channel_id, moment_ms)? {
        return Ok(None);
    }
    let scope = Scope::subtree(&candidate.org_path);
    let fleet = overview(conn, &scope, now)?;
    let away = [Connection::Offline, Connection::Missing, Connection::Dormant].map(Connection::as_str);
    let offline = fleet.connections.iter().filter(|count| away.contains(&count.value.as_str()));
    let summary = Summary {
        terminals: fleet.total,
        offline: offline.map(|count| count.terminals).sum(),
        ..store::incidents(conn, &scope, now.0 - DAY_MS)?
    };
    Ok(Some((candidate, summary)))
}

/// Puts the digest into the outbox, with what was held back for it.
fn write(
    conn: &mut Conn,
    candidate: &store::Candidate,
    summary: Summary,
    moment_ms: i64,
    now: Now,
) -> Result<bool, db::Error> {
    if !store::take_moment(conn, candidate.channel_id, moment_ms)? {
        return Ok(false);
    }
    let (held, held_count) = store::held(conn, candidate.channel_id, moment_ms)?;
    let summary = Summary { held, held_count, ..summary };
    let alert = NewAlert {
        org_path: &candidate.org_path,
        kind: AlertKind::Digest,
        level: Level::P3,
        incident_id: None,
        incident_kind: None,
        release_id: None,
        unanswered: 0,
        title_key: TITLE_KEY.to_owned(),
        parameters: vec![(SUMMARY, serde_json::to_string(&summary).unwrap_or_default())],
        dedup_key: format!("digest:{}:{moment_ms}", candidate.channel_id),
    };
    store::insert(conn, &alert, candidate.channel_id, moment_ms, now)
}
