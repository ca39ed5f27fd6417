//! The delivery log: what went where, and sending it again.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::channels::Error;
use super::store::log as store;
use crate::audit::{self, Actor, Deed};
use crate::clock::Now;
use crate::db::{self, Conn, Db};
use crate::operators::{Caller, Scope};

/// Deliveries that are sent again by one request at most; the rest by the next.
pub const REPLAY_MAX: i64 = 1_000;

/// How far a delivery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeliveryState {
    /// It is tried.
    Pending,
    /// It waits for the digest.
    Held,
    /// It arrived.
    Sent,
    /// It was given up.
    Failed,
    /// It was taken back: another incident explains it.
    Withdrawn,
}

impl DeliveryState {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Pending, Self::Held, Self::Sent, Self::Failed, Self::Withdrawn];

    /// Name in tables, URLs and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Held => "held",
            Self::Sent => "sent",
            Self::Failed => "failed",
            Self::Withdrawn => "withdrawn",
        }
    }

    /// The state of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// One line of the delivery log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = AlertLogEntry)]
pub struct LogEntry {
    /// The alert.
    pub alert_id: i64,
    /// The channel.
    pub channel_id: i64,
    /// Its name.
    pub channel: String,
    /// Whether it is deleted: then nothing can be sent again.
    pub is_channel_deleted: bool,
    /// Kind of the alert.
    pub kind: String,
    /// `P1`, `P2` or `P3`.
    pub level: String,
    /// Key of its title.
    pub title_key: String,
    /// Values in the title.
    pub parameters: std::collections::BTreeMap<String, String>,
    /// The incident it is about.
    pub incident_id: Option<i64>,
    /// `pending`, `held`, `sent`, `failed` or `withdrawn`.
    pub state: String,
    /// `direct`, `escalation`, `quiet` or `digest`.
    pub route: String,
    /// How often it was tried.
    pub attempts: i64,
    /// Status of the last answer.
    pub status: Option<i64>,
    /// What went wrong last.
    pub error: String,
    /// When the alert was raised, Unix ms.
    pub created_at_ms: i64,
    /// When it was tried last, Unix ms.
    pub attempted_at_ms: Option<i64>,
    /// When it ended, Unix ms.
    pub finished_at_ms: Option<i64>,
}

/// Which lines of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogFilter {
    /// Only to this channel.
    pub channel_id: Option<i64>,
    /// Only in this state.
    pub state: Option<DeliveryState>,
    /// Only of alerts about this incident.
    pub incident_id: Option<i64>,
}

/// Lines of the log, newest first, before the line of this alert and channel. Only deliveries to channels of the scope.
///
/// # Errors
/// [`db::Error`].
pub fn log(
    conn: &mut Conn,
    scope: &Scope,
    filter: LogFilter,
    before: Option<(i64, i64)>,
    size: u32,
) -> Result<Vec<LogEntry>, db::Error> {
    store::list(conn, scope, filter, before, i64::from(size))
}

/// What to send again: one delivery, or, without an alert, all that failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = AlertReplay)]
pub struct Replay {
    /// The alert; all that failed when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert_id: Option<i64>,
    /// The channel; with an alert it must be named, without one it narrows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_id: Option<i64>,
}

/// How many deliveries wait again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = AlertsReplayed)]
pub struct Replayed {
    /// Deliveries.
    pub count: usize,
}

/// Puts deliveries that ended back into the outbox: one that was sent is sent again, one that failed gets another four days.
/// At most [`REPLAY_MAX`] at a time, the oldest first.
///
/// # Errors
/// [`Error::NotFound`] for one delivery that is not there, waits still or has no channel any more; [`Error::Field`],
/// [`Error::Db`].
pub async fn replay(db: &Db, caller: &Caller, actor: &Actor, wanted: Replay, now: Now) -> Result<Replayed, Error> {
    let (caller, actor) = (caller.clone(), actor.clone());
    db.write(move |conn| {
        let found = match (wanted.alert_id, wanted.channel_id) {
            (Some(alert_id), Some(channel_id)) => store::ended(conn, &caller.scope, alert_id, channel_id)?,
            (Some(_), None) => {
                return Err(tillward_protocol::FieldError::new("channel_id", "must be given with an alert").into());
            }
            (None, channel_id) => store::failed(conn, &caller.scope, channel_id, REPLAY_MAX)?,
        };
        if wanted.alert_id.is_some() && found.is_empty() {
            return Err(Error::NotFound);
        }
        for (alert_id, channel_id) in &found {
            store::queue_again(conn, *alert_id, *channel_id, now)?;
        }
        let object_id = wanted.channel_id.map(|id| id.to_string()).unwrap_or_default();
        let detail = json!({"alert_id": wanted.alert_id, "count": found.len()});
        let org_path = caller.scope.from().to_owned();
        let deed = Deed {
            action: "alert_channels.replay",
            object_kind: "alert_channel",
            object_id,
            org_path: &org_path,
            detail,
        };
        audit::append(conn, &actor, &deed, now)?;
        Ok(Replayed { count: found.len() })
    })
    .await
}
