//! Background passes: they take no input, are idempotent and never retry. A pass that fails is logged, and the next one
//! starts anew from what is stored.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::checkin::retention;
use crate::clock::Clock;
use crate::db::Db;
use crate::http::State;
use crate::rollouts::planner;
use crate::{observe, releases};

/// A pass starts at least this often: what another server or a time limit asks for waits no longer.
const INTERVAL: Duration = Duration::from_secs(1);
/// Signed metadata is renewed below half of its life, the shortest of which is a day.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(600);
/// After a pass that failed as a whole the database is left in peace for this long.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(5);

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
    passes: [JoinHandle<()>; 2],
}

impl Workers {
    /// Starts the passes on the current runtime.
    pub fn start(state: Arc<State>) -> Self {
        let planner = plan(state.db.clone(), state.clock.clone(), state.planner.clone());
        Self { passes: [tokio::spawn(planner), tokio::spawn(maintain(state))] }
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
        match retention::sweep(&state.db, now).await {
            Ok(0) => {}
            Ok(rows) => tracing::info!(rows, "deleted what was too old"),
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "old rows could not be deleted"),
        }
    }
}
