//! Background passes: they take no input, are idempotent and never retry. A pass that fails is logged, and the next one
//! starts anew from what is stored.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};

use crate::alerts;
use crate::checkin::retention;
use crate::clock::Clock;
use crate::db::{self, Db};
use crate::failures::{self, advice, feed, fleet, imported, incidents, lookups, pack, reconcile, verdicts};
use crate::http::State;
use crate::imports;
use crate::maintenance::{self, guidance, orders};
use crate::payments;
use crate::profiles;
use crate::rollouts::planner;
use crate::{observe, releases};

/// A pass starts at least this often: what another server or a time limit asks for waits no longer.
const INTERVAL: Duration = Duration::from_secs(1);
/// Signed metadata is renewed below half of its life, the shortest of which is a day.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(600);
/// After a pass that failed as a whole the database is left in peace for this long.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(5);

/// Whether failures are to be explained is asked this often; that is one statement.
const EXPLAIN_ASKED: Duration = Duration::from_secs(10);
/// Channels that are sent to at the same time: more would only wait for the same uplink.
const CHANNELS_AT_ONCE: usize = 16;

/// Wakes the planner; cheap to clone. Waking it twice before it looks is waking it once.
#[derive(Debug, Clone, Default)]
pub struct Signal(Arc<Notify>);

impl Signal {
    /// There may be something to do now.
    pub fn wake(&self) {
        self.0.notify_one();
    }
}

/// The running passes; they end when this is dropped. A transaction that has begun still ends by itself.
#[derive(Debug)]
pub struct Workers {
    passes: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts the passes on the current runtime.
    pub fn start(state: Arc<State>) -> Self {
        let planner = plan(state.db.clone(), state.clock.clone(), state.planner.clone());
        let reminders = remind(Arc::clone(&state));
        let alerts = deliver(Arc::clone(&state));
        let spread = spread(state.db.clone(), state.clock.clone());
        let imports = import(Arc::clone(&state));
        let reconciled = reconcile(Arc::clone(&state));
        let judge = judge(state.db.clone(), state.clock.clone());
        let fleet = judge_fleet(Arc::clone(&state));
        let passes = vec![
            tokio::spawn(planner),
            tokio::spawn(reminders),
            tokio::spawn(alerts),
            tokio::spawn(spread),
            tokio::spawn(imports),
            tokio::spawn(reconciled),
            tokio::spawn(judge),
            tokio::spawn(explain(state.db.clone(), state.clock.clone())),
            tokio::spawn(fleet),
            tokio::spawn(care(state.db.clone(), state.clock.clone())),
            tokio::spawn(maintain(state)),
        ];
        Self { passes }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.passes.iter().for_each(JoinHandle::abort);
    }
}

async fn plan(db: Db, clock: Clock, signal: Signal) {
    loop {
        let pause = match planner::pass(&db, clock.now()).await {
            Ok(planner::Left::More) => continue,
            Ok(planner::Left::Nothing) => INTERVAL,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a planner pass failed; nothing new is offered"
                );
                PAUSE_AFTER_ERROR
            }
        };
        tokio::select! {
            () = signal.0.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Reminds people of incidents that nobody carries on, tells them each day how things stand, and what was refused because
/// it looked like card data.
async fn remind(state: Arc<State>) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        if let Err(error) = state.guard.tell(&state.db, state.clock.now()).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "nobody could be told of refused card data");
        }
        if let Err(error) = alerts::digests(&state.db, &state.alerts, state.clock.now()).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "digests could not be written");
            tokio::time::sleep(PAUSE_AFTER_ERROR).await;
        }
        if let Err(error) = incidents::remind(&state.db, state.clock.now()).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "nobody could be reminded of incidents");
            tokio::time::sleep(PAUSE_AFTER_ERROR).await;
        }
    }
}

/// Sends alerts, each channel in a task of its own: one that is away holds up no other.
async fn deliver(state: Arc<State>) {
    let mut under_way = JoinSet::new();
    loop {
        tokio::time::sleep(INTERVAL).await;
        while let Some(ended) = under_way.try_join_next() {
            if let Ok(Err(error)) = ended {
                let error: db::Error = error;
                tracing::warn!(error = &error as &dyn std::error::Error, "a delivery could not be noted");
            }
        }
        if state.alerts.is_locked() {
            continue;
        }
        let room = CHANNELS_AT_ONCE.saturating_sub(under_way.len());
        match alerts::due(&state.db, state.clock.now(), room).await {
            Ok(due) => {
                for channel in due {
                    let (db, sender, clock) = (state.db.clone(), state.alerts.clone(), state.clock.clone());
                    under_way.spawn(alerts::deliver(db, sender, clock, channel));
                }
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the outbox of alerts could not be read");
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
            }
        }
    }
}

/// Takes files in, one after the other.
async fn import(state: Arc<State>) {
    loop {
        let pause = match imports::pass(&state.db, &state.signing.blobs, &state.clock).await {
            Ok(true) => {
                state.reconciling.wake();
                continue;
            }
            Ok(false) => INTERVAL,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a file could not be taken in; it is tried again"
                );
                PAUSE_AFTER_ERROR
            }
        };
        tokio::select! {
            () = state.import_jobs.0.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Compares what channels settled with what is known of it.
async fn reconcile(state: Arc<State>) {
    loop {
        let pause = match reconcile::pass(&state.db, state.clock.now()).await {
            Ok(true) => continue,
            Ok(false) => INTERVAL,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "settlements could not be compared");
                PAUSE_AFTER_ERROR
            }
        };
        tokio::select! {
            () = state.reconciling.0.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Tells terminals what was settled for their layers.
async fn spread(db: Db, clock: Clock) {
    loop {
        let pause = match profiles::spread(&db, clock.now()).await {
            Ok(true) => continue,
            Ok(false) => INTERVAL,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "terminals could not be told what was settled");
                PAUSE_AFTER_ERROR
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Judges the failures that came in.
async fn judge(db: Db, clock: Clock) {
    loop {
        let pause = match verdicts::pass(&db, clock.now()).await {
            Ok(verdicts::Left::More) => continue,
            Ok(verdicts::Left::Nothing) => INTERVAL,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "failures could not be judged");
                PAUSE_AFTER_ERROR
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Looks for what explains the failures of the last hours, and those for which a rollout was halted. One server at a time
/// does; the others only ask whether it is time.
async fn explain(db: Db, clock: Clock) {
    loop {
        tokio::time::sleep(EXPLAIN_ASKED).await;
        match failures::watch(&db, clock.now()).await {
            Ok(0) => {}
            Ok(incidents) => tracing::info!(incidents, "failures rose, and conditions explain it"),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "failures could not be explained");
            }
        }
        if let Err(error) = failures::halts::explain_halts(&db, clock.now()).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "what explains a halt could not be looked for");
        }
    }
}

/// Looks for what no single terminal shows, and learns how terminals' networks are.
async fn judge_fleet(state: Arc<State>) {
    let interval = Duration::from_millis(u64::try_from(fleet::INTERVAL_MS).unwrap_or(u64::MAX));
    loop {
        tokio::time::sleep(interval).await;
        let now = state.clock.now();
        let done = match fleet::claim(&state.db, now).await {
            Ok(true) => {
                let judged = fleet::pass(&state.db, now, &state.config.time_zone).await;
                judged.and(advice::pass(&state.db, now).await)
            }
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            metrics::counter!("tillward_fleet_passes_failed_total").increment(1);
            tracing::warn!(error = &error as &dyn std::error::Error, "the fleet's rules could not be judged");
        }
    }
}

/// Judges terminals by what check-ins left, and work orders by what came since.
async fn care(db: Db, clock: Clock) {
    let mut pause = INTERVAL;
    loop {
        tokio::time::sleep(pause).await;
        let began = Instant::now();
        let done = care_once(&db, &clock).await;
        if let Err(error) = &done {
            tracing::warn!(error = error as &dyn std::error::Error, "terminals could not be judged for maintenance");
        }
        pause = rest(&done, began.elapsed());
    }
}

/// Returns whether there is more to do at once.
async fn care_once(db: &Db, clock: &Clock) -> Result<bool, db::Error> {
    orders::prove(db, clock.now()).await?;
    orders::remind(db, clock.now()).await?;
    orders::tell_overdue(db, clock.now()).await?;
    // One step each: work orders are not kept waiting by a round over the whole fleet.
    let is_more = maintenance::refresh(db, clock.now()).await?;
    Ok(guidance::fold(db, clock.now()).await? || is_more)
}

/// Pause after one step of a pass over the whole fleet, which `took` so long: while there is more to do it goes on, and has
/// the database half of the time at most, because check-ins go first.
fn rest(done: &Result<bool, db::Error>, took: Duration) -> Duration {
    match done {
        Ok(true) => took,
        Ok(false) => INTERVAL,
        Err(_) => PAUSE_AFTER_ERROR,
    }
}

/// Re-signs what is worn, deletes what is too old, folds what was measured.
async fn maintain(state: Arc<State>) {
    loop {
        tokio::time::sleep(MAINTENANCE_INTERVAL).await;
        observe::keep_up();
        let now = state.clock.now();
        if let Err(error) = releases::maintain(&state.db, &state.signing, now).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "signed metadata could not be renewed");
            metrics::counter!("tillward_maintenance_failed_total").increment(1);
        }
        loop {
            match reconcile::look_for_missing(&state.db, now).await {
                Ok(true) => continue,
                Ok(false) => break,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "missing settlements could not be looked for");
                    break;
                }
            }
        }
        loop {
            match lookups::judge_due(&state.db, now).await {
                Ok(true) => continue,
                Ok(false) => break,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "look-ups could not be judged again");
                    break;
                }
            }
        }
        match profiles::forget_unused(&state.db, now).await {
            Ok(0) => {}
            Ok(bodies) => tracing::info!(bodies, "deleted parameters that no terminal is told"),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "unused parameters could not be deleted");
            }
        }
        if let Err(error) = imports::sweep(&state.db, &state.signing.blobs, now).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "old imports could not be deleted");
        }
        let swept = [
            feed::sweep(&state.db, now).await,
            reconcile::sweep(&state.db, now).await,
            retention::sweep(&state.db, now).await,
            alerts::sweep(&state.db, now).await,
            incidents::sweep(&state.db, now).await,
            verdicts::sweep(&state.db, now).await,
            payments::sweep(&state.db, now).await,
            imported::sweep(&state.db, now).await,
            lookups::sweep(&state.db, now).await,
            pack::sweep(&state.db, now).await,
            failures::sweep(&state.db, now).await,
            maintenance::sweep(&state.db, now).await,
        ];
        for swept in swept {
            match swept {
                Ok(0) => {}
                Ok(rows) => tracing::info!(rows, "deleted what was too old"),
                Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "old rows could not be deleted"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_that_has_more_to_do_rests_no_longer_than_it_worked() {
        let took = Duration::from_millis(30);
        assert_eq!(rest(&Ok(true), took), took);
        assert_eq!(rest(&Ok(false), took), INTERVAL);
        assert_eq!(rest(&Err(db::Error::Closed), took), PAUSE_AFTER_ERROR);
    }
}
