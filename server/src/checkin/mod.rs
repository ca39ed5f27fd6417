//! Check-ins: a bounded queue feeds one writer, which commits whole batches; the answer goes out after the commit.
//!
//! Counted exactly once: a check-in carries `(stream, seq)`, which only grows; the batch's transaction compares it with
//! what the terminal's state row says and drops what was counted before. There is no timer: a lone check-in is
//! written at once, and while one batch is being made durable the next one gathers.

pub mod http;
pub mod retention;
mod store;
mod writer;

use std::sync::Arc;

use serde::Serialize;
use tillward_protocol::checkin::{CheckIn, CheckInAnswer};
use tillward_protocol::failure::Failure;
use tillward_protocol::manifest::{Manifest, SignedManifest};
use tokio::sync::{mpsc, oneshot};

use crate::clock::Clock;
use crate::db::{self, Conn, Db};
use crate::http::tokens::TerminalSession;
use crate::operators::Scope;

/// Most check-ins in one transaction: about 10 ms of work, so that other writes get their turn.
pub const BATCH_MAX: usize = 1_024;
/// Check-ins that may wait for the writer; about a quarter of a second of work. Beyond, the server is overloaded and
/// says so before it touches the database.
pub const QUEUE_MAX: usize = 8_192;
/// When a refused terminal should come back, s; the agent adds its own jitter.
pub const RETRY_AFTER_S: u32 = 30;

/// Sums over everything that was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Totals {
    /// Check-ins in all cohort cells.
    pub check_ins: i64,
    /// Failures in all cohort cells, with those that were imported.
    pub failures: i64,
    /// Check-ins by the terminals' own rows: the same number, counted another way.
    pub state_check_ins: i64,
    /// Failures by the terminals' own rows: what terminals reported.
    pub state_failures: i64,
}

/// Reads the sums. Reads every cell: for tests, benchmarks and the demo, not for pages.
///
/// # Errors
/// [`db::Error`].
pub fn totals(conn: &mut Conn) -> Result<Totals, db::Error> {
    store::totals(conn)
}

/// Something that was paid, or failed, at a terminal that does not call: told by a file or a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot<'a> {
    /// Terminal.
    pub terminal_id: i64,
    /// Its organization, as a path.
    pub org_path: &'a str,
    /// Its model.
    pub model: &'a str,
    /// Its hardware revision by the registry.
    pub hardware: Option<&'a str>,
    /// Its region.
    pub region: &'a str,
    /// When, Unix ms.
    pub at_ms: i64,
    /// Whether it failed.
    pub is_failed: bool,
    /// The failure's outcome (`code:30`) where it is to be counted among the failures, too.
    pub outcome: Option<String>,
}

/// Adds exposures of terminals that do not call to the cells of their hours, within the caller's transaction. The
/// exposure is the terminal's hour and counts once over all sources; each payment must be told once.
///
/// # Errors
/// [`db::Error`].
pub fn note_slots(conn: &mut Conn, slots: &[Slot<'_>]) -> Result<(), db::Error> {
    writer::slots::note(conn, slots)
}

/// A terminal's conditions at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Sample {
    /// Server clock, Unix ms.
    pub at_ms: i64,
    /// Access type.
    pub access: String,
    /// Carrier.
    pub carrier: String,
    /// Signal power, dBm.
    pub rsrp_dbm: Option<i64>,
    /// Signal to noise, dB.
    pub sinr_db: Option<i64>,
    /// Signal strength, dBm.
    pub rssi_dbm: Option<i64>,
    /// Round trip to this server, ms.
    pub rtt_ms: Option<i64>,
    /// Probes lost, percent.
    pub loss_percent: Option<i64>,
    /// Battery, percent.
    pub battery_percent: Option<i64>,
    /// Firmware.
    pub firmware: String,
    /// Transactions since the check-in before.
    pub transactions_ok: i64,
    /// Failed ones.
    pub transactions_failed: i64,
}

/// Samples in one answer at most: a month of one every 5 minutes.
pub const SAMPLES_MAX: i64 = 8_640;

/// A terminal's conditions from `from_ms` to before `to_ms`, oldest first; empty for a terminal outside the scope.
///
/// # Errors
/// [`db::Error`].
pub fn samples(
    conn: &mut Conn,
    scope: &Scope,
    terminal_id: i64,
    from_ms: i64,
    to_ms: i64,
) -> Result<Vec<Sample>, db::Error> {
    store::samples(conn, scope, terminal_id, from_ms, to_ms, SAMPLES_MAX)
}

/// What cells and failures need to know of a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownTerminal {
    /// Number.
    pub id: i64,
    /// Organization, as a path.
    pub org_path: String,
    /// Model.
    pub model: String,
    /// Hardware revision by the registry.
    pub hardware: Option<String>,
    /// Region.
    pub region: String,
    /// Whether it has ever called: then it counts its own exposures.
    pub calls: bool,
}

/// Whether a failure is to be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counting {
    /// It is.
    Due,
    /// It was, when a channel told of it.
    Done,
}

/// A failure that no terminal reported.
#[derive(Debug, Clone, Copy)]
pub struct ImportedFailure<'a> {
    /// Whose it is.
    pub terminal: &'a KnownTerminal,
    /// The failure.
    pub failure: &'a Failure,
    /// The same as JSON.
    pub event: &'a str,
    /// Whether it is to be counted; a failure of a terminal that calls is, whatever a channel told.
    pub counting: Counting,
}

/// Stores failures that no terminal reported and adds them to the cells of their hours, within the caller's transaction.
/// None of them may be stored already.
///
/// # Errors
/// [`db::Error`].
pub fn add_imported(
    conn: &mut Conn,
    imported: &[ImportedFailure<'_>],
    now: crate::clock::Now,
) -> Result<(), db::Error> {
    writer::imported::add(conn, imported, now)
}

/// One check-in on its way into the database.
struct Pending {
    session: TerminalSession,
    check_in: CheckIn,
    /// The check-in without its failures, payments and manifest, as JSON.
    report: String,
    /// Each failure as JSON.
    events: Vec<String>,
    /// The manifest, if one came and its signature holds.
    manifest: Option<VerifiedManifest>,
    done: oneshot::Sender<Result<CheckInAnswer, Refused>>,
}

/// A manifest whose signature was checked against the terminal's key.
#[derive(Debug, Clone)]
pub(crate) struct VerifiedManifest {
    signed: SignedManifest,
    manifest: Manifest,
}

/// Why a check-in was not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The queue is full.
    #[error("too many check-ins are waiting")]
    Busy,
    /// The batch could not be written; nothing of it was counted.
    #[error("the check-in could not be stored")]
    Unavailable,
    /// The session was ended since the token was made.
    #[error("the session has ended")]
    SessionEnded,
    /// The terminal is blocked or retired.
    #[error("the terminal is blocked")]
    Blocked,
}

/// Handle on the queue; cheap to clone.
#[derive(Clone)]
pub struct Queue {
    lanes: Arc<[mpsc::Sender<Pending>]>,
}

/// Whether check-ins are added to cohort cells. A server always keeps them; without them no failure could be explained
/// and no rollout judged. Only the benchmark that measures what they cost leaves them out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cells {
    /// They are.
    Kept,
    /// They are not.
    LeftOut,
}

impl Queue {
    /// Starts the writer over `db`. `interval_s` is the normal interval between check-ins of a terminal.
    ///
    /// SQLite has one lane; PostgreSQL two, each with its own terminals, so that one commits while the other computes.
    pub fn start(db: &Db, clock: &Clock, interval_s: u32, cells: Cells) -> Self {
        let lanes = if db.sqlite_path().is_some() { 1 } else { 2 };
        let lanes = (0..lanes).map(|_| start_lane(db.clone(), clock.clone(), interval_s, cells)).collect();
        Self { lanes }
    }

    /// Queues one check-in and resolves after the commit of its batch.
    async fn submit(
        &self,
        session: TerminalSession,
        check_in: CheckIn,
        report: String,
        manifest: Option<VerifiedManifest>,
    ) -> Result<CheckInAnswer, Refused> {
        let (done, answer) = oneshot::channel();
        let events = check_in.failures.iter().map(|failure| serde_json::to_string(failure).unwrap_or_default());
        let events = events.collect();
        let pending = Pending { session, check_in, report, events, manifest, done };
        let lanes = i64::try_from(self.lanes.len()).unwrap_or(1);
        let lane = usize::try_from(session.terminal_id.0.rem_euclid(lanes)).unwrap_or(0);
        let Some(lane) = self.lanes.get(lane) else { return Err(Refused::Unavailable) };
        match lane.try_send(pending) {
            Ok(()) => answer.await.unwrap_or(Err(Refused::Unavailable)),
            Err(mpsc::error::TrySendError::Full(_)) => {
                metrics::counter!("tillward_check_ins_shed_total").increment(1);
                Err(Refused::Busy)
            }
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Refused::Unavailable),
        }
    }
}

fn start_lane(db: Db, clock: Clock, interval_s: u32, cells: Cells) -> mpsc::Sender<Pending> {
    let (sender, mut queue) = mpsc::channel::<Pending>(QUEUE_MAX);
    tokio::spawn(async move {
        let mut writer = writer::Writer::new(interval_s, cells);
        let mut batch = Vec::with_capacity(BATCH_MAX);
        while queue.recv_many(&mut batch, BATCH_MAX).await > 0 {
            let taken = std::mem::replace(&mut batch, Vec::with_capacity(BATCH_MAX));
            writer = write(&db, clock.now(), writer, taken).await;
        }
    });
    sender
}

/// Writes one batch and answers it; hands the writer back with what it learnt.
async fn write(db: &Db, now: crate::clock::Now, writer: writer::Writer, batch: Vec<Pending>) -> writer::Writer {
    let (interval_s, cells) = (writer.interval_s(), writer.cells());
    let size = batch.len();
    metrics::histogram!("tillward_check_in_batch_size").record(f64::from(u32::try_from(size).unwrap_or(u32::MAX)));
    // The batch moves to the writer's thread and comes back; if the transaction fails it is dropped there, and every
    // terminal hears "unavailable" by its channel's end, keeps its report and sends it again.
    let result: Result<_, db::Error> = db
        .write(move |conn| {
            let mut writer = writer;
            let answers = writer.write(conn, &batch, now)?;
            Ok((writer, batch, answers))
        })
        .await;
    match result {
        Ok((mut writer, batch, answers)) => {
            writer.committed();
            for (pending, answer) in batch.into_iter().zip(answers) {
                // The terminal may have hung up; its check-in is counted and it will send it again.
                let _ = pending.done.send(answer);
            }
            writer
        }
        Err(error) => {
            tracing::error!(%error, size, "a batch of check-ins could not be written");
            metrics::counter!("tillward_check_in_batches_failed_total").increment(1);
            writer::Writer::new(interval_s, cells)
        }
    }
}
