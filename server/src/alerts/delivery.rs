//! Delivering what the outbox holds, at least once.
//!
//! A channel with something to send is claimed by moving its time of retry to the end of a lease; its deliveries then go
//! out in the order of the alerts, each marked in a transaction of its own. A server that dies between an attempt and its
//! mark leaves the delivery pending: after the lease it is sent again, under the same name if nothing was added meanwhile.
//! A failure backs off the whole channel, so that an endpoint that is away costs one attempt a pause, however much waits
//! for it.
//!
//! Where people read a channel, whatever waits when its turn comes becomes one message. Its rate says when that is: robots
//! punish who is too fast.

use std::ops::ControlFlow;

use sha2::{Digest, Sha256};

use super::outcome::Outcome;
use super::sender::{Sender, Style, TIMEOUT};
use super::store::channels::StoredChannel;
use super::store::outbox::{self as store, Attempt, Claimed, Waiting};
use super::{AlertKind, Level};
use crate::clock::{Clock, Now};
use crate::db::{self, Db};

pub use super::store::outbox::Due;

/// A claimed channel belongs to one server for this long, ms.
pub const LEASE_MS: i64 = 60_000;
/// First pause after a failure, ms …
const BACK_OFF_MS: i64 = 5_000;
/// … doubled with each further one up to this.
pub const BACK_OFF_MS_MAX: i64 = 15 * 60_000;
/// An alert that could not be delivered for this long is given up, ms: a long weekend.
pub const KEEP_TRYING_MS: i64 = 4 * 86_400_000;
/// An endpoint that refuses one alert so often will not take it: the next ones must not wait for it.
pub const REFUSALS_MAX: i64 = 5;
/// Deliveries of one claim at most.
const DELIVERIES_MAX: usize = 100;
/// Alerts in one message at most; more become another one.
pub const BATCH_MAX: usize = 50;
/// Hexadecimal digits that name a message with several alerts: 128 bits.
const NAME_CHARS: usize = 32;
const MINUTE_MS: i64 = 60_000;
/// Longest rest of a channel that waits for company or for its turn, ms: something urgent may come meanwhile.
const WAIT_MS_MAX: i64 = 5_000;

/// At most `most` channels for which something waits now.
///
/// # Errors
/// [`db::Error`].
pub async fn due(db: &Db, now: Now, most: usize) -> Result<Vec<Due>, db::Error> {
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    db.read(move |conn| store::channels_due(conn, now, most)).await
}

/// Claims one channel and sends what waits for it, until it fails, nothing is left or the lease runs out. Returns how many
/// deliveries ended. Does nothing when another server was faster.
///
/// # Errors
/// [`db::Error`]; what was sent and not marked is sent again later.
pub async fn deliver(db: Db, sender: Sender, clock: Clock, due: Due) -> Result<usize, db::Error> {
    let lease_ms = clock.now().0.saturating_add(LEASE_MS);
    let vault = sender.vault().clone();
    let Some(claimed) = db.write(move |conn| store::claim(conn, &vault, due, lease_ms)).await? else { return Ok(0) };
    let channel_id = claimed.channel.id;
    let last_start_ms = lease_ms - i64::try_from(TIMEOUT.as_millis()).unwrap_or(LEASE_MS);
    let mut work = Work { db, sender, clock, rate_at_ms: claimed.channel.rate_at_ms, claimed, lease_ms, ended: 0 };
    let mut again_at_ms = 0;
    while work.ended < DELIVERIES_MAX && work.clock.now().0 < last_start_ms {
        match work.step().await? {
            ControlFlow::Continue(()) => {}
            ControlFlow::Break(Pause::Noted) => return Ok(work.ended),
            ControlFlow::Break(Pause::Nothing) => break,
            ControlFlow::Break(Pause::Until(at_ms)) => {
                again_at_ms = at_ms;
                break;
            }
        }
    }
    let Work { db, ended, .. } = work;
    db.write(move |conn| store::release(conn, channel_id, lease_ms, again_at_ms)).await?;
    Ok(ended)
}

/// Why a claim ends.
enum Pause {
    /// Nothing waits.
    Nothing,
    /// Something waits, and not before this moment.
    Until(i64),
    /// An attempt failed, and the channel says until when it rests.
    Noted,
}

/// One claim.
struct Work {
    db: Db,
    sender: Sender,
    clock: Clock,
    claimed: Claimed,
    lease_ms: i64,
    rate_at_ms: i64,
    ended: usize,
}

impl Work {
    /// One attempt, of as many alerts as go into one message.
    async fn step(&mut self) -> Result<ControlFlow<Pause>, db::Error> {
        let channel_id = self.claimed.channel.id;
        let most = i64::try_from(BATCH_MAX).unwrap_or(1);
        let waiting = self.db.read(move |conn| store::waiting(conn, channel_id, most)).await?;
        let waiting = together(&self.claimed.channel, waiting);
        if waiting.is_empty() {
            return Ok(ControlFlow::Break(Pause::Nothing));
        }
        let delivery = name_of(channel_id, &waiting);
        let channel = &self.claimed.channel;
        let now = self.clock.now();
        let mut rate_at_ms = None;
        let outcome = match &channel.transport {
            _ if channel.is_deleted => None,
            None => Some(Outcome::Away(None, unreadable())),
            Some(transport) => {
                match turn(channel, &waiting, self.rate_at_ms, now) {
                    Ok(taken) => rate_at_ms = taken,
                    Err(at_ms) => {
                        let at_ms = at_ms.min(now.0.saturating_add(WAIT_MS_MAX));
                        return Ok(ControlFlow::Break(Pause::Until(at_ms)));
                    }
                }
                let style = Style { language: &channel.language, time_zone: self.claimed.time_zone.as_deref() };
                Some(self.sender.send(transport, &style, &waiting, &delivery, now).await)
            }
        };
        self.rate_at_ms = rate_at_ms.unwrap_or(self.rate_at_ms);
        let (attempt, goes_on) = judge(outcome, channel, self.lease_ms, rate_at_ms, self.clock.now());
        let ids: Vec<i64> = waiting.iter().map(|one| one.alert.id).collect();
        self.ended += self.db.write(move |conn| store::mark(conn, &ids, channel_id, &attempt)).await?;
        Ok(if goes_on { ControlFlow::Continue(()) } else { ControlFlow::Break(Pause::Noted) })
    }
}

/// What a receiver knows these alerts by: the same in every attempt, and another name for other contents. What a person has
/// sent again has another name as well, or a receiver that has seen it would ignore it.
fn name_of(channel_id: i64, waiting: &[Waiting]) -> String {
    let part = |one: &Waiting| match one.replays {
        0 => format!("{}-{channel_id}", one.alert.id),
        replays => format!("{}-{channel_id}-{replays}", one.alert.id),
    };
    match waiting {
        [one] => part(one),
        several => {
            let parts: Vec<String> = several.iter().map(part).collect();
            let digest = hex::encode(Sha256::digest(parts.join(",")));
            format!("{channel_id}-{}", digest.get(..NAME_CHARS).unwrap_or_default())
        }
    }
}

/// The first of what waits, and what goes into the same message. What was refused before goes alone: it may be the reason.
fn together(channel: &StoredChannel, mut waiting: Vec<Waiting>) -> Vec<Waiting> {
    let is_letter = channel.transport.as_ref().is_some_and(|transport| transport.kind().is_read_by_people());
    let is_digest = |one: &Waiting| one.alert.kind == AlertKind::Digest.as_str();
    let is_alone = |one: &Waiting| !is_letter || one.refusals > 0 || is_digest(one);
    let company = match waiting.first() {
        None => 0,
        // Nothing is sent of what is given up.
        Some(_) if channel.is_deleted => waiting.len(),
        Some(first) if is_alone(first) => 1,
        Some(_) => waiting.iter().take_while(|one| !is_alone(one)).count(),
    };
    waiting.truncate(company);
    waiting
}

/// Whether a message may go out now: how far the channel's rate is used up afterwards.
///
/// # Errors
/// The moment to wait for.
fn turn(channel: &StoredChannel, waiting: &[Waiting], rate_at_ms: i64, now: Now) -> Result<Option<i64>, i64> {
    let Some(transport) = &channel.transport else { return Ok(None) };
    let is_urgent = waiting.iter().any(|one| one.alert.level == Level::P1.as_str());
    if !is_urgent && channel.batch_s > 0 && transport.kind().is_read_by_people() {
        // A full message waits for nobody.
        let oldest_ms = waiting.iter().map(|one| one.queued_at_ms).min().unwrap_or(now.0);
        let ready_ms = oldest_ms.saturating_add(channel.batch_s.saturating_mul(1_000));
        if waiting.len() < BATCH_MAX && ready_ms > now.0 {
            return Err(ready_ms);
        }
    }
    if !is_urgent && transport.robot().is_some_and(|robot| robot.avoids(now.0)) {
        return Err((now.0.div_euclid(MINUTE_MS) + 1).saturating_mul(MINUTE_MS));
    }
    let rate = transport.rate(channel.rate_per_min);
    rate.map(|rate| rate.take(rate_at_ms, now.0)).transpose()
}

/// Of a channel whose row another version of this program wrote, or whose key is not here.
pub(super) fn unreadable() -> String {
    "this server cannot read where the channel leads; restore keys/secrets.key, or make the channel anew".to_owned()
}

/// What an attempt means for its deliveries and its channel; `None` is a channel that was deleted.
fn judge(
    outcome: Option<Outcome>,
    channel: &StoredChannel,
    lease_ms: i64,
    rate_at_ms: Option<i64>,
    now: Now,
) -> (Attempt, bool) {
    let attempt = Attempt {
        lease_ms,
        status: outcome.as_ref().and_then(Outcome::status),
        error: String::new(),
        is_sent: false,
        is_refusal: false,
        gives_up_before_ms: now.0.saturating_sub(KEEP_TRYING_MS),
        retry_at_ms: None,
        rate_at_ms,
        now,
    };
    let pause_ms = match &outcome {
        None => {
            let error = "the channel was deleted".to_owned();
            return (Attempt { error, gives_up_before_ms: i64::MAX, ..attempt }, true);
        }
        Some(sent @ (Outcome::Accepted(_) | Outcome::Partly(..))) => {
            return (Attempt { is_sent: true, error: sent.error(), ..attempt }, true);
        }
        Some(Outcome::Refused(..) | Outcome::Away(..)) => 0,
        Some(Outcome::Busy(.., pause_ms)) => *pause_ms,
    };
    let error = outcome.as_ref().map(Outcome::error).unwrap_or_default();
    let is_refusal = matches!(outcome, Some(Outcome::Refused(..)));
    metrics::counter!("tillward_alert_attempts_failed_total").increment(1);
    tracing::warn!(channel = channel.id, error, "an alert could not be delivered; it is tried again");
    let pause_ms = pause_ms.max(back_off_ms(channel.failures.saturating_add(1)));
    (Attempt { error, is_refusal, retry_at_ms: Some(now.0.saturating_add(pause_ms)), ..attempt }, false)
}

/// Pause after so many failures in a row.
fn back_off_ms(failures: i64) -> i64 {
    let doublings = u32::try_from(failures.clamp(1, 16) - 1).unwrap_or(0);
    (BACK_OFF_MS << doublings).min(BACK_OFF_MS_MAX)
}

#[cfg(test)]
#[path = "delivery_tests.rs"]
mod tests;
