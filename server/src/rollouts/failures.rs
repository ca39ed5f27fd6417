//! Failures of terminals, as the check-ins report them, on their way into the gates' journals.

use super::gate::Class;
use super::store::gate as store;
use super::store::journal::{self, NewEvent};
use super::strategy::WATCH_S_MAX;
use crate::clock::Now;
use crate::db::{self, Conn};

/// Something that happened to a terminal and that an update could have caused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TerminalFailure {
    /// The terminal.
    pub terminal_id: i64,
    /// Its kind.
    pub class: Class,
    /// What, once: the same text again is the same event.
    pub event: String,
    /// When, by the server's clock as well as that is known, Unix ms.
    pub at_ms: i64,
}

/// Notes failures in the journals of the rollouts that the terminals take part in, updated or not yet; within the batch's
/// transaction. One read for all, a write for each that is of interest; none without failures.
///
/// # Errors
/// [`db::Error`].
pub fn note_failures(conn: &mut Conn, failures: &[TerminalFailure], now: Now) -> Result<(), db::Error> {
    let mut terminals: Vec<i64> = failures.iter().map(|failure| failure.terminal_id).collect();
    terminals.sort_unstable();
    terminals.dedup();
    if terminals.is_empty() {
        return Ok(());
    }
    let since_ms = now.0.saturating_sub(i64::from(WATCH_S_MAX).saturating_mul(1000));
    let memberships = store::memberships(conn, &terminals, since_ms)?;
    let mut events: Vec<NewEvent> = Vec::new();
    for failure in failures {
        for member in memberships.iter().filter(|member| member.terminal_id == failure.terminal_id) {
            // What happened before the update, or before there was a rollout, is none of its business.
            if failure.at_ms < member.updated_at_ms.unwrap_or(member.started_at_ms) {
                continue;
            }
            events.push(NewEvent {
                rollout_id: member.rollout_id,
                terminal_id: failure.terminal_id,
                event: failure.event.clone(),
                at_ms: failure.at_ms.min(now.0),
                site: member.site,
                cell: member.cell,
                arm: member.arm,
                updated_at_ms: member.updated_at_ms,
                class: failure.class,
            });
        }
    }
    // In the order of their keys: two batches never wait for each other in a circle.
    events.sort_by(|a, b| (a.rollout_id, a.terminal_id, &a.event).cmp(&(b.rollout_id, b.terminal_id, &b.event)));
    journal::note(conn, &events)
}
