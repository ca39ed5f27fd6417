//! Alerts: an outbox of what people must be told, and the channels that carry it.
//!
//! [`raise`] writes an alert and its deliveries in the transaction of what it tells of; a worker ([`deliver`]) sends them
//! afterwards, at least once each. An endpoint that is away is tried again for days with growing pauses, in the order of
//! the alerts; it holds up no other channel and no check-in. Rules say who is told at once, who when nobody took it on, and
//! who once a day. Texts are keys with parameters: each reader gets them in their own language. Secrets of channels are
//! sealed, and opened for deliveries and for nothing else.

mod channels;
mod delivery;
mod digest;
mod hours;
pub mod http;
mod letter;
mod level;
mod log;
mod mail;
mod outcome;
mod rate;
mod robots;
mod rulebook;
mod rules;
mod sender;
mod store;
mod transport;
mod wording;

use std::collections::BTreeMap;

use serde::Serialize;

pub use channels::{
    CHANNELS_MAX, Change, Channel, CreatedChannel, Error, NewChannel, TestResult, create, delete, get as get_channel,
    list as list_channels, seal_plain, test, update,
};
pub use delivery::{BACK_OFF_MS_MAX, BATCH_MAX, Due, KEEP_TRYING_MS, LEASE_MS, REFUSALS_MAX, deliver, due};
pub use digest::{DIGEST_AT_MIN, digests};
pub use level::Level;
pub use log::{DeliveryState, LogEntry, LogFilter, REPLAY_MAX, Replay, Replayed, log, replay};
pub use rate::RATE_PER_MIN;
pub use robots::Mention;
pub use rulebook::{
    Hours, HoursChange, NewRule, QuietHours, RULES_MAX, RuleChange, RuleView, create_rule, delete_rule, get_rule,
    hours_of, list_rules, set_hours, update_rule,
};
pub use rules::{DAY_MIN, Route, Urgency};
pub use sender::Sender;
pub use transport::{NewTransport, TransportKind};
pub use wording::{MESSAGES, Say};

use crate::clock::Now;
use crate::db::{self, Conn, Db};
use crate::operators::Scope;

/// What an alert tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AlertKind {
    /// An incident opened.
    IncidentOpened,
    /// What was over came back.
    IncidentReopened,
    /// An incident became more urgent.
    IncidentRaised,
    /// Nobody carried an incident on for longer than its time limit.
    IncidentOverdue,
    /// A work order is past its due time.
    WorkOrderOverdue,
    /// How things stand, once a day.
    Digest,
}

impl AlertKind {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::IncidentOpened,
        Self::IncidentReopened,
        Self::IncidentRaised,
        Self::IncidentOverdue,
        Self::WorkOrderOverdue,
        Self::Digest,
    ];

    /// Name in tables and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::IncidentOpened => "incident_opened",
            Self::IncidentReopened => "incident_reopened",
            Self::IncidentRaised => "incident_raised",
            Self::IncidentOverdue => "incident_overdue",
            Self::WorkOrderOverdue => "work_order_overdue",
            Self::Digest => "digest",
        }
    }
}

/// How far an alert is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AlertState {
    /// No channel wants it: it is seen in the console alone.
    Unrouted,
    /// On its way to at least one channel.
    Pending,
    /// Every channel has it.
    Sent,
    /// At least one channel was given up.
    Failed,
    /// A person has seen what it tells; deliveries that are still under way go on.
    Acknowledged,
}

impl AlertState {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Unrouted, Self::Pending, Self::Sent, Self::Failed, Self::Acknowledged];

    /// Name in tables, URLs and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unrouted => "unrouted",
            Self::Pending => "pending",
            Self::Sent => "sent",
            Self::Failed => "failed",
            Self::Acknowledged => "acknowledged",
        }
    }

    /// The state of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// What is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAlert<'a> {
    /// Organization it concerns; it and all above tell their people.
    pub org_path: &'a str,
    /// What it tells.
    pub kind: AlertKind,
    /// How urgent.
    pub level: Level,
    /// The incident it is about.
    pub incident_id: Option<i64>,
    /// That incident's kind.
    pub incident_kind: Option<&'a str>,
    /// The release it is about: its models are concerned where the incident lists no terminals.
    pub release_id: Option<i64>,
    /// How often its time limit passed without anybody taking it on; each time the next step of the rules is told as well.
    pub unanswered: u32,
    /// Key of its title among the console's texts.
    pub title_key: String,
    /// Values in that text.
    pub parameters: Vec<(&'static str, String)>,
    /// Raising two alerts with one key is raising one.
    pub dedup_key: String,
}

/// One alert with how far it got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Alert {
    /// Its number.
    pub id: i64,
    /// Path of the organization it concerns.
    pub org_path: String,
    /// `incident_opened`, `incident_reopened`, `incident_raised`, `incident_overdue`, `work_order_overdue` or `digest`.
    pub kind: String,
    /// `P1`, `P2` or `P3`.
    pub level: String,
    /// The incident it is about.
    pub incident_id: Option<i64>,
    /// Key of its title.
    pub title_key: String,
    /// Values in the title.
    pub parameters: BTreeMap<String, String>,
    /// `unrouted`, `pending`, `sent`, `failed` or `acknowledged`.
    pub state: String,
    /// When it was raised, Unix ms.
    pub created_at_ms: i64,
    /// One for each channel of the caller's organizations that gets it.
    pub deliveries: Vec<Delivery>,
}

/// One alert on its way to one channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = AlertDelivery)]
pub struct Delivery {
    /// The channel.
    pub channel_id: i64,
    /// Its name.
    pub channel: String,
    /// `pending`, `held` (for the digest), `sent`, `failed` or `withdrawn`.
    pub state: String,
    /// `direct`, `escalation`, or `quiet` and `digest` for what was held back.
    pub route: String,
    /// How often it was tried.
    pub attempts: i64,
    /// HTTP status of the last answer.
    pub status: Option<i64>,
    /// What went wrong last.
    pub error: String,
    /// When it was tried last, Unix ms.
    pub attempted_at_ms: Option<i64>,
    /// When it arrived or was given up, Unix ms.
    pub finished_at_ms: Option<i64>,
}

/// Writes an alert and its deliveries within the caller's transaction; returns its number, or `None` when the same was
/// raised before.
///
/// # Errors
/// [`db::Error`].
pub fn raise(conn: &mut Conn, new: &NewAlert<'_>, now: Now) -> Result<Option<i64>, db::Error> {
    let (parties, models) = store::rules::parties(conn, new, now)?;
    let matter =
        rules::Matter { kind: new.incident_kind, level: new.level, models: &models, unanswered: new.unanswered };
    let routes: Vec<(i64, Route)> = parties.iter().flat_map(|party| rules::route(&matter, party)).collect();
    let state = if routes.is_empty() { AlertState::Unrouted } else { AlertState::Pending };
    let Some(id) = store::insert(conn, new, state, now)? else { return Ok(None) };
    store::insert_deliveries(conn, id, &routes, now)?;
    metrics::counter!("tillward_alerts_raised_total", "level" => new.level.as_str()).increment(1);
    Ok(Some(id))
}

/// Another incident explains this one: what was not sent yet is taken back, and nobody else is told, within the caller's
/// transaction. Whoever masks an incident calls this, and raises nothing about it while it is masked.
///
/// # Errors
/// [`db::Error`].
pub fn mask(conn: &mut Conn, incident_id: i64, now: Now) -> Result<(), db::Error> {
    store::withdraw(conn, incident_id, now)
}

/// A person has seen the incident that these alerts tell of.
///
/// # Errors
/// [`db::Error`].
pub fn acknowledge(conn: &mut Conn, incident_id: i64) -> Result<(), db::Error> {
    store::acknowledge(conn, incident_id)
}

/// Which alerts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only in this state.
    pub state: Option<AlertState>,
    /// Only about this incident.
    pub incident_id: Option<i64>,
}

/// Alerts of the scope, newest first, with numbers below `before`.
///
/// # Errors
/// [`db::Error`].
pub fn list(
    conn: &mut Conn,
    scope: &Scope,
    filter: Filter,
    before: Option<i64>,
    size: u32,
) -> Result<Vec<Alert>, db::Error> {
    store::list(conn, scope, filter, before, i64::from(size))
}

/// Alerts and their delivery log are kept this long, ms: thirteen months, to compare with last year's month.
pub const ALERTS_KEPT_MS: i64 = 396 * 86_400_000;

/// Deletes alerts that are too old, in small transactions, and returns how many went. Idempotent.
///
/// # Errors
/// [`db::Error`]; what was deleted before stays deleted.
pub async fn sweep(db: &Db, now: Now) -> Result<usize, db::Error> {
    let mut deleted = 0;
    loop {
        let step = db.write(move |conn| store::delete_old(conn, now.0 - ALERTS_KEPT_MS)).await?;
        if step == 0 {
            return Ok(deleted);
        }
        deleted += step;
    }
}

/// Alerts about one incident that are shown with it.
const OF_INCIDENT_MAX: i64 = 50;

/// The newest alerts about an incident.
///
/// # Errors
/// [`db::Error`].
pub fn of_incident(conn: &mut Conn, scope: &Scope, incident_id: i64) -> Result<Vec<Alert>, db::Error> {
    let filter = Filter { incident_id: Some(incident_id), ..Filter::default() };
    store::list(conn, scope, filter, None, OF_INCIDENT_MAX)
}
