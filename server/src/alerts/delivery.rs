//! Delivering what the outbox holds, at least once.
//!
//! A channel with something to send is claimed by moving its time of retry to the end of a lease; its deliveries then go
//! out in the order of the alerts, each marked in a transaction of its own. A server that dies between an attempt and its
//! mark leaves the delivery pending: after the lease it is sent again, under the same delivery id. A failure backs off the
//! whole channel, so that an endpoint that is away costs one attempt a pause, however much waits for it.

use super::channels::delivery_unknown;
use super::store::outbox::{self as store, Attempt, Claimed};
use super::transport::{Outcome, Sender, TIMEOUT};
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
    let Some(claimed) = db.write(move |conn| store::claim(conn, due, lease_ms)).await? else { return Ok(0) };
    let last_start_ms = lease_ms - i64::try_from(TIMEOUT.as_millis()).unwrap_or(LEASE_MS);
    let mut ended = 0;
    while ended < DELIVERIES_MAX && clock.now().0 < last_start_ms {
        let channel_id = claimed.id;
        let Some(alert) = db.read(move |conn| store::next_pending(conn, channel_id)).await? else { break };
        let outcome = match &claimed.transport {
            _ if claimed.is_deleted => None,
            None => Some(Outcome::Away(None, delivery_unknown())),
            Some(transport) => {
                let delivery = format!("{}-{channel_id}", alert.id);
                Some(sender.send(transport, &alert, &delivery, clock.now()).await)
            }
        };
        let (attempt, goes_on) = judge(outcome, &claimed, alert.created_at_ms, lease_ms, clock.now());
        let alert_id = alert.id;
        let is_final = db.write(move |conn| store::mark(conn, alert_id, channel_id, attempt)).await?;
        ended += usize::from(is_final);
        if !goes_on {
            return Ok(ended);
        }
    }
    db.write(move |conn| store::release(conn, claimed.id, lease_ms)).await?;
    Ok(ended)
}

/// What an attempt means for its delivery and its channel; `None` is a channel that was deleted.
fn judge(outcome: Option<Outcome>, channel: &Claimed, created_at_ms: i64, lease_ms: i64, now: Now) -> (Attempt, bool) {
    let is_old = now.0.saturating_sub(created_at_ms) > KEEP_TRYING_MS;
    let attempt = Attempt {
        lease_ms,
        status: outcome.as_ref().and_then(Outcome::status),
        error: String::new(),
        is_sent: false,
        is_refusal: false,
        is_given_up: false,
        retry_at_ms: None,
        now,
    };
    match outcome {
        None => {
            let error = "the channel was deleted".to_owned();
            (Attempt { error, is_given_up: true, ..attempt }, true)
        }
        Some(Outcome::Accepted(_)) => (Attempt { is_sent: true, ..attempt }, true),
        Some(failed @ (Outcome::Refused(_) | Outcome::Away(..))) => {
            let error = failed.error();
            let is_refusal = matches!(failed, Outcome::Refused(_));
            metrics::counter!("tillward_alert_attempts_failed_total").increment(1);
            tracing::warn!(channel = channel.id, error, "an alert could not be delivered; it is tried again");
            let retry_at_ms = Some(now.0.saturating_add(back_off_ms(channel.failures.saturating_add(1))));
            (Attempt { error, is_refusal, is_given_up: is_old, retry_at_ms, ..attempt }, false)
        }
    }
}

/// Pause after so many failures in a row.
fn back_off_ms(failures: i64) -> i64 {
    let doublings = u32::try_from(failures.clamp(1, 16) - 1).unwrap_or(0);
    (BACK_OFF_MS << doublings).min(BACK_OFF_MS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(failures: i64) -> Claimed {
        Claimed { id: 1, transport: None, is_deleted: false, failures }
    }

    #[test]
    fn pauses_double_up_to_a_quarter_of_an_hour() {
        let pauses: Vec<i64> = [1, 2, 3, 8, 9, 1_000, i64::MAX].map(|failures| back_off_ms(failures) / 1_000).into();
        assert_eq!(pauses, [5, 10, 20, 640, 900, 900, 900]);
        assert_eq!(back_off_ms(0), 5_000);
    }

    #[test]
    fn a_failure_stops_the_channel_and_a_success_goes_on() {
        let now = Now(1_000_000);
        let away = || Some(Outcome::Away(None, "refused".to_owned()));
        let (attempt, goes_on) = judge(away(), &channel(2), now.0, 7, now);
        assert!(!goes_on && !attempt.is_given_up && !attempt.is_sent && !attempt.is_refusal);
        assert_eq!(attempt.retry_at_ms, Some(now.0 + 20_000));
        let (attempt, goes_on) = judge(Some(Outcome::Accepted(204)), &channel(2), now.0, 7, now);
        assert!(goes_on && attempt.is_sent && attempt.retry_at_ms.is_none());
        let (attempt, goes_on) = judge(None, &channel(2), now.0, 7, now);
        assert!(goes_on && attempt.is_given_up);
        let (attempt, _) = judge(Some(Outcome::Refused(400)), &channel(0), now.0, 7, now);
        assert!(attempt.is_refusal && !attempt.is_given_up);
    }

    #[test]
    fn only_what_is_too_old_is_given_up_because_the_endpoint_is_away() {
        let raised = 1_000;
        let at = |age_ms: i64| {
            let away = Some(Outcome::Away(Some(503), String::new()));
            judge(away, &channel(50), raised, 7, Now(raised + age_ms)).0.is_given_up
        };
        assert!(!at(KEEP_TRYING_MS));
        assert!(at(KEEP_TRYING_MS + 1));
    }
}
