//! Parts of a run: what happened while check-ins were driven, or while they were not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::super::load::{CheckIns, Measured, Plan, drive};
use crate::db::timing;

/// The generator looks this often whether it is to stop.
const STRETCH: Duration = Duration::from_secs(1);
/// Slow statements that are shown of each part.
const SLOW_SHOWN: usize = 5;

/// Percentiles, ms.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Percentiles {
    /// How many.
    pub count: u64,
    /// Median.
    pub p50_ms: f64,
    /// 99 %.
    pub p99_ms: f64,
    /// Largest.
    pub max_ms: f64,
}

impl Percentiles {
    fn of(us: &Histogram<u64>) -> Self {
        let ms = |us: u64| us as f64 / 1_000.0;
        let at = |quantile| ms(us.value_at_quantile(quantile));
        Self { count: us.len(), p50_ms: at(0.50), p99_ms: at(0.99), max_ms: ms(us.max()) }
    }
}

/// A slow statement.
#[derive(Debug, Clone, Serialize)]
pub struct Slow {
    /// Its text without values and lists.
    pub statement: String,
    /// How often it took more than some milliseconds.
    pub count: u64,
    /// The longest, ms.
    pub max_ms: f64,
}

/// One part of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Part {
    /// What went on.
    pub name: String,
    /// How long, s.
    pub seconds: f64,
    /// Counted check-ins a second; absent where none were driven.
    pub check_ins_per_s: Option<f64>,
    /// The same over that of the part without a planner at work.
    pub ratio: Option<f64>,
    /// Latency of check-ins.
    pub latency: Percentiles,
    /// Answers other than 2xx, and broken connections.
    pub failed: u64,
    /// Statements, commits among them.
    pub statements: Percentiles,
    /// Write transactions from their begin to their commit.
    pub transactions: Percentiles,
    /// The slowest statements, the longest first.
    pub slow: Vec<Slow>,
    /// Memory of the process, generator included, MiB.
    pub resident_mib: u64,
    /// Length of SQLite's log at the end, MiB.
    pub log_mib: Option<u64>,
}

impl Part {
    /// Says on standard error what came out: a run over a million terminals takes an hour, and its report comes last.
    pub(super) fn say(&self) {
        let rate = self.check_ins_per_s.map_or(String::new(), |rate| format!(", {rate:.0} check-ins/s"));
        let longest = self.slow.first().map_or(String::new(), |slow| format!(": {}", slow.statement));
        eprintln!(
            "{}: {:.1} s{rate}, longest transaction {:.0} ms, longest statement {:.0} ms{longest}",
            self.name, self.seconds, self.transactions.max_ms, self.statements.max_ms
        );
    }
}

/// The part that ends now; `load` is what was driven in it.
pub(super) fn part(name: impl Into<String>, began: Instant, load: Option<&Measured>) -> Part {
    let timings = timing::take();
    let percentiles = |of: fn(&timing::Timings) -> &Histogram<u64>| {
        timings.as_ref().map(|timings| Percentiles::of(of(timings))).unwrap_or_default()
    };
    let mut slow: Vec<Slow> = timings
        .iter()
        .flat_map(|timings| &timings.slow)
        .map(|(statement, (count, longest))| Slow {
            statement: statement.clone(),
            count: *count,
            max_ms: longest.as_secs_f64() * 1_000.0,
        })
        .collect();
    slow.sort_by(|a, b| b.max_ms.total_cmp(&a.max_ms));
    slow.truncate(SLOW_SHOWN);
    Part {
        name: name.into(),
        seconds: began.elapsed().as_secs_f64(),
        check_ins_per_s: load.map(|load| load.succeeded() as f64 / load.wall_s.max(f64::EPSILON)),
        ratio: None,
        latency: load.map(|load| Percentiles::of(&load.latency_us)).unwrap_or_default(),
        failed: load.map_or(0, |load| load.answered() - load.succeeded() + load.errors),
        statements: percentiles(|timings| &timings.statements),
        transactions: percentiles(|timings| &timings.transactions),
        slow,
        resident_mib: resident_mib(),
        log_mib: None,
    }
}

/// Resident memory of this process, MiB.
fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|text| text.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) / 1_024
}

/// Check-ins that go on on a thread of their own until they are stopped.
pub(super) struct Driven {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<(Option<Measured>, Vec<CheckIns>)>>,
}

impl Driven {
    /// Starts to send `shares`, one connection each.
    pub(super) fn start(address: SocketAddr, shares: Vec<CheckIns>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let plan = Plan { connections: shares.len(), threads: 1, duration: STRETCH, rate: None };
            let (mut all, mut shares): (Option<Measured>, _) = (None, shares);
            while !is_over.load(Ordering::Relaxed) {
                let mut given = shares.into_iter();
                let host = address.to_string();
                let (measured, back) =
                    drive(address, &plan, |_| given.next().unwrap_or_else(|| CheckIns::new(&host, [])))?;
                shares = back;
                match &mut all {
                    Some(all) => all.then(&measured)?,
                    None => all = Some(measured),
                }
            }
            Ok((all, shares))
        });
        Self { stop, thread }
    }

    /// Ends them; what was measured, and the requests, so that a later part can go on.
    pub(super) fn stop(self) -> anyhow::Result<(Option<Measured>, Vec<CheckIns>)> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the generator panicked"))?
    }
}
