//! The terminal list: filters, two orders, keyset paging; and the counts of the overview.
//!
//! A page is made in two steps. The first finds its terminals' numbers in one of two covering indexes, so that a
//! filter which hardly any terminal meets costs one pass over a narrow index. The second reads the page's rows by
//! primary key. A search text is resolved to numbers first, through the index of each field it may be the beginning
//! (or, for serial numbers, the end) of.

mod search;
mod store;

use serde::{Deserialize, Serialize};
use tillward_protocol::FieldError;

use super::fields::clean_text;
use super::{Error, Lifecycle};
use crate::clock::Now;
use crate::db::{self, Conn};
use crate::operators::Scope;
use crate::organizations;

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 86_400_000;
/// Terminals not seen for longer are missing.
pub const MISSING_MS: i64 = DAY_MS;
/// Terminals not seen for longer are dormant.
pub const DORMANT_MS: i64 = 30 * DAY_MS;
/// A terminal is offline after three intervals and this.
pub const OFFLINE_GRACE_MS: i64 = 5 * MINUTE_MS;
/// Firmware versions that the overview names; the rest are counted together.
const OVERVIEW_FIRMWARES_MAX: usize = 50;

/// Whether a terminal calls as it should, by the server's own clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = TerminalConnection)]
pub enum Connection {
    /// Never called.
    Never,
    /// Called within one and a half intervals.
    Online,
    /// Later than that.
    Late,
    /// Later than three intervals and five minutes.
    Offline,
    /// Not for 24 hours.
    Missing,
    /// Not for 30 days.
    Dormant,
}

impl Connection {
    /// Every state, from best to worst, unknown last.
    pub const ALL: [Self; 6] = [Self::Online, Self::Late, Self::Offline, Self::Missing, Self::Dormant, Self::Never];

    /// Name in requests and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Online => "online",
            Self::Late => "late",
            Self::Offline => "offline",
            Self::Missing => "missing",
            Self::Dormant => "dormant",
        }
    }

    /// The state of a terminal seen last at `last_seen_ms` (0 = never) and told to call each `interval_s`. Evaluated
    /// from the longest threshold down.
    pub fn of(last_seen_ms: i64, interval_s: i64, now: Now) -> Self {
        let age_ms = now.0.saturating_sub(last_seen_ms);
        let interval_ms = interval_s.saturating_mul(1_000);
        if last_seen_ms == 0 {
            Self::Never
        } else if age_ms > DORMANT_MS {
            Self::Dormant
        } else if age_ms > MISSING_MS {
            Self::Missing
        } else if age_ms > interval_ms.saturating_mul(3).saturating_add(OFFLINE_GRACE_MS) {
            Self::Offline
        } else if age_ms.saturating_mul(2) > interval_ms.saturating_mul(3) {
            Self::Late
        } else {
            Self::Online
        }
    }
}

/// Which terminals. All that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = TerminalFilter)]
pub struct Filter {
    /// An organization and all below it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organization_id: Option<i64>,
    /// Model code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Where it is in its life.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<Lifecycle>,
    /// Region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// One of its tags.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Firmware version it reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firmware: Option<String>,
    /// Whether it calls as it should.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection: Option<Connection>,
    /// Beginning or end of the serial number, or beginning of merchant number, terminal number or a name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub q: Option<String>,
}

impl Filter {
    /// Without empty values, as forms send them.
    fn tidied(&self) -> Self {
        let text = |text: &Option<String>| text.as_deref().map(clean_text).filter(|text| !text.is_empty());
        Self {
            model: text(&self.model),
            region: text(&self.region),
            tag: text(&self.tag).map(|tag| tag.to_lowercase()),
            firmware: text(&self.firmware),
            q: text(&self.q),
            ..self.clone()
        }
    }
}

/// In which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = TerminalSort)]
pub enum Sort {
    /// As they were registered.
    #[serde(rename = "id")]
    Id,
    /// Seen last first; those never seen at the end.
    #[serde(rename = "-last_seen")]
    LastSeen,
}

impl Sort {
    /// The order of a list for which none was asked. By connection there is only the order of when they were seen:
    /// that is the index which knows.
    pub fn of(asked: Option<Self>, filter: &Filter) -> Result<Self, FieldError> {
        match (asked, filter.connection) {
            (Some(Self::Id), Some(_)) => Err(FieldError::new("sort", "must be -last_seen with a filter by connection")),
            (None, Some(_)) => Ok(Self::LastSeen),
            (asked, _) => Ok(asked.unwrap_or(Self::Id)),
        }
    }
}

/// Where a page ended: the next one begins after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Order of the list.
    pub sort: Sort,
    /// When the last row was seen; 0 by [`Sort::Id`].
    pub last_seen_ms: i64,
    /// Number of the last row.
    pub id: i64,
}

/// One terminal in a list: what is registered of it and what it reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TerminalRow {
    /// Number.
    pub id: i64,
    /// Serial number.
    pub sn: String,
    /// UnionPay terminal number.
    pub tusn: Option<String>,
    /// Model code.
    pub model: String,
    /// Organization.
    pub organization_id: i64,
    /// Its name.
    pub organization_name: String,
    /// Its path.
    pub org_path: String,
    /// Merchant number.
    pub merchant_no: Option<String>,
    /// Merchant's name.
    pub merchant_name: Option<String>,
    /// Store's name.
    pub store_name: Option<String>,
    /// Channel's number for it.
    pub terminal_no: Option<String>,
    /// Region.
    pub region: String,
    /// Tags.
    pub tags: Vec<String>,
    /// Where it is in its life.
    pub lifecycle: Lifecycle,
    /// When it enrolled last, Unix ms.
    pub enrolled_at_ms: Option<i64>,
    /// Config hash of the profile it should apply.
    pub desired_config_hash: Option<String>,
    /// Version of its record.
    pub version: i64,
    /// Whether it calls as it should.
    pub connection: Connection,
    /// When it called last, Unix ms.
    pub last_seen_ms: Option<i64>,
    /// When it should call next, Unix ms.
    pub next_check_in_ms: Option<i64>,
    /// Firmware it reported.
    pub firmware: Option<String>,
    /// Slot it runs from.
    pub slot: Option<String>,
    /// Agent version.
    pub agent: Option<String>,
    /// Payment application's version.
    pub app: Option<String>,
    /// Config hash it reported.
    pub config_hash: Option<String>,
    /// How it was connected.
    pub access: Option<String>,
    /// Whose network.
    pub carrier: Option<String>,
    /// Signal, as a band.
    pub signal: Option<String>,
    /// Check-ins counted.
    pub check_ins: i64,
    /// Failures counted.
    pub failures: i64,
}

impl TerminalRow {
    /// Where a page that ends with this row ends.
    pub fn key(&self, sort: Sort) -> Key {
        let last_seen_ms = match sort {
            Sort::Id => 0,
            Sort::LastSeen => self.last_seen_ms.unwrap_or(0),
        };
        Key { sort, last_seen_ms, id: self.id }
    }
}

/// Up to `limit` terminals in the order of `sort`, after `after`. A key of another order begins anew.
///
/// Costs one pass over a narrow index at worst, 20 ms for 100,000 terminals, and one lookup a row.
///
/// # Errors
/// [`Error::Invalid`] for an organization outside the scope or a search text that is too short or too common.
pub fn list(
    conn: &mut Conn,
    scope: &Scope,
    filter: &Filter,
    sort: Sort,
    after: Option<Key>,
    limit: usize,
    now: Now,
) -> Result<Vec<TerminalRow>, Error> {
    let after = after.filter(|key| key.sort == sort);
    let wanted = Wanted::new(conn, scope, filter, now)?;
    let ids = match &wanted.filter.q {
        None => store::ids(conn, &wanted, sort, after, limit)?.into_iter().map(|key| key.id).collect(),
        Some(text) => search::ids(conn, &wanted, text, sort, after, limit)?,
    };
    Ok(store::rows(conn, &wanted.scope, &ids, now)?)
}

/// As [`list`], of the terminals `known` only: a few hundred that another domain names.
///
/// # Errors
/// As [`list`].
#[expect(clippy::too_many_arguments, reason = "those of `list` and one more")]
pub fn list_among(
    conn: &mut Conn,
    scope: &Scope,
    filter: &Filter,
    known: &[i64],
    sort: Sort,
    after: Option<Key>,
    limit: usize,
    now: Now,
) -> Result<Vec<TerminalRow>, Error> {
    let after = after.filter(|key| key.sort == sort);
    let wanted = Wanted::new(conn, scope, filter, now)?;
    let ids = search::among(conn, &wanted, known, sort, after, limit)?;
    Ok(store::rows(conn, &wanted.scope, &ids, now)?)
}

/// Numbers of up to `limit` terminals above `after`, in order: for work on all terminals of a filter, in chunks.
///
/// # Errors
/// As [`list`]; also [`Error::Invalid`] for a filter by connection, which changes while the work goes on.
pub fn ids_after(
    conn: &mut Conn,
    scope: &Scope,
    filter: &Filter,
    after: i64,
    limit: usize,
    now: Now,
) -> Result<Vec<i64>, Error> {
    if filter.connection.is_some() {
        return Err(FieldError::new("filter.connection", "cannot be part of a bulk change").into());
    }
    let after = Some(Key { sort: Sort::Id, last_seen_ms: 0, id: after });
    let wanted = Wanted::new(conn, scope, filter, now)?;
    match &wanted.filter.q {
        None => Ok(store::ids(conn, &wanted, Sort::Id, after, limit)?.into_iter().map(|key| key.id).collect()),
        Some(text) => search::ids(conn, &wanted, text, Sort::Id, after, limit),
    }
}

/// One terminal as a row of the list.
///
/// # Errors
/// [`Error::NotFound`].
pub fn row(conn: &mut Conn, scope: &Scope, id: i64, now: Now) -> Result<TerminalRow, Error> {
    store::rows(conn, scope, &[id], now)?.pop().ok_or(Error::NotFound)
}

/// A filter that was resolved for one caller.
struct Wanted {
    /// The caller's scope, or the part of it that was asked for.
    scope: Scope,
    filter: Filter,
    now: Now,
}

impl Wanted {
    fn new(conn: &mut Conn, scope: &Scope, filter: &Filter, now: Now) -> Result<Self, Error> {
        let scope = match filter.organization_id {
            None => scope.clone(),
            Some(id) => organizations::get(conn, scope, id)?
                .map(|organization| Scope::subtree(organization.path))
                .ok_or_else(|| FieldError::new("organization_id", "is not an organization of yours"))?,
        };
        Ok(Self { scope, filter: filter.tidied(), now })
    }
}

/// How many terminals have one value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = TerminalCount)]
pub struct Count {
    /// The value; empty for terminals that reported none, `…` for all the rest.
    pub value: String,
    /// Terminals.
    pub terminals: i64,
}

/// The fleet in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = TerminalOverview)]
pub struct Overview {
    /// Terminals.
    pub total: i64,
    /// By whether they call as they should; every state.
    pub connections: Vec<Count>,
    /// By where they are in their life; states with terminals.
    pub lifecycles: Vec<Count>,
    /// By reported firmware, most first; the 50 most common.
    pub firmwares: Vec<Count>,
}

/// The fleet in numbers. Three passes over one covering index, 60 ms for 100,000 terminals.
///
/// # Errors
/// [`db::Error`].
pub fn overview(conn: &mut Conn, scope: &Scope, now: Now) -> Result<Overview, db::Error> {
    let connections = store::count_connections(conn, scope, now)?;
    let lifecycles = store::count_lifecycles(conn, scope)?;
    let mut firmwares = store::count_firmwares(conn, scope)?;
    firmwares.sort_by(|a, b| (b.terminals, &a.value).cmp(&(a.terminals, &b.value)));
    let rest: i64 = firmwares.iter().skip(OVERVIEW_FIRMWARES_MAX).map(|count| count.terminals).sum();
    if rest > 0 {
        firmwares.truncate(OVERVIEW_FIRMWARES_MAX);
        firmwares.push(Count { value: "…".to_owned(), terminals: rest });
    }
    Ok(Overview { total: connections.iter().map(|count| count.terminals).sum(), connections, lifecycles, firmwares })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_is_judged_from_the_longest_threshold_down() {
        let now = Now(1_800_000_000_000);
        let minutes = |minutes: i64| now.0 - minutes * MINUTE_MS;
        for (last_seen_ms, interval_s, expected) in [
            (0, 900, Connection::Never),
            (now.0 + 5_000, 900, Connection::Online),
            (minutes(22), 900, Connection::Online),
            (minutes(23), 900, Connection::Late),
            (minutes(50), 900, Connection::Late),
            (minutes(51), 900, Connection::Offline),
            (minutes(24 * 60), 900, Connection::Offline),
            (minutes(24 * 60 + 1), 900, Connection::Missing),
            (minutes(30 * 24 * 60), 900, Connection::Missing),
            (minutes(30 * 24 * 60 + 1), 900, Connection::Dormant),
            (minutes(24 * 60 + 1), 86_400, Connection::Missing),
            (minutes(6), 0, Connection::Offline),
        ] {
            assert_eq!(Connection::of(last_seen_ms, interval_s, now), expected, "{last_seen_ms} {interval_s}");
        }
    }
}
