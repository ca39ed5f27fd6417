//! Load: many terminals' check-ins over a given number of connections, and what came of them.
//!
//! [`drive`] is the generator that both `tillward simulate` and `tillward bench check-in` use. It runs on threads of its
//! own, so that their CPU time can be told from a server's in the same process. Requests are whole bytes made before;
//! only the sequence number is written into them on the way. In the closed loop each connection sends as soon as it is
//! answered; in the open loop requests have fixed times and latency counts from the time a request was due, so a slow
//! server cannot slow its clients down and so hide its own latency.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::client::{Connection, Head, request};

/// Length of the canonical check-in, bytes: the body that the published rates refer to.
pub const CANONICAL_BODY_BYTES: usize = 633;
/// Longest latency that is told apart, µs.
const LATENCY_US_MAX: u64 = 120_000_000;
/// A connection that was answered 503 pauses for what the server asks, but no longer than this: the run is short.
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// A broken connection is made anew after this long.
const RECONNECT_AFTER: Duration = Duration::from_millis(100);

/// What one connection sends.
pub trait Requests: Send + 'static {
    /// Bytes of the next request.
    fn next(&mut self) -> &[u8];
    /// What came of it; `None` when the connection broke before the answer.
    fn answered(&mut self, head: Option<&Head>, body: &[u8]);
}

/// How to drive.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Connections, all open from the start.
    pub connections: usize,
    /// Threads of the generator; connections are dealt out over them.
    pub threads: usize,
    /// How long.
    pub duration: Duration,
    /// Requests per second over all connections (open loop); as fast as answered (closed loop) without.
    pub rate: Option<f64>,
}

/// What was measured.
#[derive(Debug, Clone)]
pub struct Measured {
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Connections that could not be made or broke.
    pub errors: u64,
    /// Latency of answered requests, µs.
    pub latency_us: Histogram<u64>,
    /// From the first request to the last answer, s.
    pub wall_s: f64,
    /// CPU time of the generator's own threads, s; 0 where the system does not tell.
    pub generator_cpu_s: f64,
}

impl Measured {
    fn new() -> anyhow::Result<Self> {
        let latency_us = Histogram::new_with_bounds(1, LATENCY_US_MAX, 2)?;
        Ok(Self { statuses: BTreeMap::new(), errors: 0, latency_us, wall_s: 0.0, generator_cpu_s: 0.0 })
    }

    fn add(&mut self, other: &Self) -> anyhow::Result<()> {
        for (status, count) in &other.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
        self.errors += other.errors;
        self.latency_us.add(&other.latency_us)?;
        self.wall_s = self.wall_s.max(other.wall_s);
        self.generator_cpu_s += other.generator_cpu_s;
        Ok(())
    }

    /// Adds a later run over the same terminals.
    ///
    /// # Errors
    /// Never for two results of [`drive`]; the histogram's.
    pub fn then(&mut self, later: &Self) -> anyhow::Result<()> {
        let wall_s = self.wall_s + later.wall_s;
        self.add(later)?;
        self.wall_s = wall_s;
        Ok(())
    }

    /// Answered requests.
    pub fn answered(&self) -> u64 {
        self.statuses.values().sum()
    }

    /// Requests answered with success.
    pub fn succeeded(&self) -> u64 {
        self.statuses.range(200..300).map(|(_, count)| count).sum()
    }

    /// The figures to print.
    pub fn summary(&self) -> Summary {
        let ms = |us: u64| us as f64 / 1_000.0;
        let at = |quantile| ms(self.latency_us.value_at_quantile(quantile));
        Summary {
            answered: self.answered(),
            succeeded: self.succeeded(),
            succeeded_per_s: self.succeeded() as f64 / self.wall_s.max(f64::EPSILON),
            statuses: self.statuses.clone(),
            errors: self.errors,
            latency_ms: Latency {
                mean: self.latency_us.mean() / 1_000.0,
                p50: at(0.50),
                p90: at(0.90),
                p95: at(0.95),
                p99: at(0.99),
                p999: at(0.999),
                max: ms(self.latency_us.max()),
            },
            wall_s: self.wall_s,
            generator_cpu_s: self.generator_cpu_s,
        }
    }
}

/// [`Measured`] in figures.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Answered requests.
    pub answered: u64,
    /// Those answered with success.
    pub succeeded: u64,
    /// The same per second.
    pub succeeded_per_s: f64,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Connections that could not be made or broke.
    pub errors: u64,
    /// Latency, ms.
    pub latency_ms: Latency,
    /// Length of the run, s.
    pub wall_s: f64,
    /// CPU time of the generator, s.
    pub generator_cpu_s: f64,
}

/// Percentiles, ms.
#[derive(Debug, Clone, Serialize)]
pub struct Latency {
    /// Mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 90 %.
    pub p90: f64,
    /// 95 %.
    pub p95: f64,
    /// 99 %.
    pub p99: f64,
    /// 99.9 %.
    pub p999: f64,
    /// Largest.
    pub max: f64,
}

/// Drives `address` as planned; `make(i)` gives what connection `i` sends. Blocks until the end: call it from a thread
/// that may wait. Returns the requests too, so that a later run can go on where this one ended.
///
/// # Errors
/// When the generator's threads cannot be started, or not one connection can be made.
pub fn drive<R: Requests>(
    address: SocketAddr,
    plan: &Plan,
    make: impl FnMut(usize) -> R,
) -> anyhow::Result<(Measured, Vec<R>)> {
    let connections = plan.connections.max(1);
    let threads = plan.threads.clamp(1, connections);
    let mut shares: Vec<Vec<(usize, R)>> = (0..threads).map(|_| Vec::new()).collect();
    for (index, requests) in (0..connections).map(make).enumerate() {
        shares[index % threads].push((index, requests));
    }
    // Everybody waits until all connections stand; the clock starts then.
    let ready = std::sync::Barrier::new(threads);
    let results: Vec<_> = std::thread::scope(|scope| {
        let ready = &ready;
        let handles: Vec<_> =
            shares.into_iter().map(|share| scope.spawn(move || drive_thread(address, plan, ready, share))).collect();
        let gone = || Err(anyhow::anyhow!("a generator thread panicked"));
        handles.into_iter().map(|handle| handle.join().unwrap_or_else(|_| gone())).collect()
    });
    let mut measured = Measured::new()?;
    let mut back = Vec::with_capacity(connections);
    for result in results {
        let (part, requests) = result?;
        measured.add(&part)?;
        back.extend(requests);
    }
    back.sort_by_key(|(index, _)| *index);
    anyhow::ensure!(measured.answered() > 0, "nothing was answered by {address}; {} errors", measured.errors);
    Ok((measured, back.into_iter().map(|(_, requests)| requests).collect()))
}

fn drive_thread<R: Requests>(
    address: SocketAddr,
    plan: &Plan,
    ready: &std::sync::Barrier,
    share: Vec<(usize, R)>,
) -> anyhow::Result<(Measured, Vec<(usize, R)>)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let local = tokio::task::LocalSet::new();
    let mut opened = Vec::with_capacity(share.len());
    if let Ok(runtime) = &runtime {
        for (index, requests) in share {
            opened.push((index, requests, runtime.block_on(Connection::open(address)).ok()));
        }
    }
    // Reached by every thread, so that none waits for one that failed.
    ready.wait();
    let runtime = runtime?;
    let cpu_before_s = thread_cpu_s();
    let started = Instant::now();
    let tasks: Vec<_> = opened
        .into_iter()
        .map(|(index, requests, connection)| {
            local.spawn_local(drive_connection(address, plan.clone(), started, index, requests, connection))
        })
        .collect();
    let results = local.block_on(&runtime, async {
        let mut results = Vec::with_capacity(tasks.len());
        for task in tasks {
            results.push(task.await);
        }
        results
    });
    let mut measured = Measured::new()?;
    let mut back = Vec::with_capacity(results.len());
    for result in results {
        let (part, index, requests) = result??;
        measured.add(&part)?;
        back.push((index, requests));
    }
    measured.wall_s = started.elapsed().as_secs_f64();
    measured.generator_cpu_s = thread_cpu_s() - cpu_before_s;
    Ok((measured, back))
}

async fn drive_connection<R: Requests>(
    address: SocketAddr,
    plan: Plan,
    started: Instant,
    index: usize,
    mut requests: R,
    mut connection: Option<Connection>,
) -> anyhow::Result<(Measured, usize, R)> {
    let mut measured = Measured::new()?;
    let ends = started + plan.duration;
    let interval = plan.rate.map(|rate| Duration::from_secs_f64(plan.connections as f64 / rate.max(0.001)));
    // Connections take turns: connection i starts i/n of an interval late.
    let mut due = started + interval.unwrap_or_default().mul_f64(index as f64 / plan.connections as f64);
    loop {
        if interval.is_some() {
            tokio::time::sleep_until(due.into()).await;
        } else {
            due = Instant::now();
        }
        if due >= ends {
            return Ok((measured, index, requests));
        }
        let mut open = match connection.take().filter(Connection::is_open) {
            Some(open) => open,
            None => match Connection::open(address).await {
                Ok(open) => open,
                Err(_) => {
                    measured.errors += 1;
                    tokio::time::sleep(RECONNECT_AFTER).await;
                    due += interval.unwrap_or_default();
                    continue;
                }
            },
        };
        match open.exchange(requests.next()).await {
            Ok(head) => {
                let us = u64::try_from(due.elapsed().as_micros()).unwrap_or(LATENCY_US_MAX);
                measured.latency_us.saturating_record(us.clamp(1, LATENCY_US_MAX));
                *measured.statuses.entry(head.status).or_default() += 1;
                requests.answered(Some(&head), open.body());
                if head.status == 503 {
                    let asked = Duration::from_secs(u64::from(head.retry_after_s.unwrap_or(1)));
                    tokio::time::sleep(asked.min(PAUSE_MAX)).await;
                }
                connection = Some(open);
            }
            Err(_) => {
                measured.errors += 1;
                requests.answered(None, &[]);
            }
        }
        due += interval.unwrap_or_default();
    }
}

/// CPU time of this thread, s.
fn thread_cpu_s() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}

/// Where the sequence number stands in a canonical check-in: ten places, right-aligned (JSON allows the spaces).
const SEQ_PLACES: usize = 10;
const SEQ_MARK: &str = "##########";
/// An ordinary check-in of a handheld 4G terminal: versions, state, radio, latencies, counters; no failures.
const CANONICAL: &str = concat!(
    r#"{"v":1,"stream":1,"seq":##########,"at_ms":1795361000000,"boot_id":"0197c3e4b1a27d60","#,
    r#""software":{"firmware":"4.1.0","slot":"a","agent":"0.1.0","app":"3.8.1"},"#,
    r#""terminal":{"app_state":"idle","signed_in":true,"batch_open":true,"uptime_s":86021,"boot_count":17},"#,
    r#""condition":{"access":"4g","plmn":"46000","tac":28721,"cell_id":119847681,"pci":211,"band":3,"rsrp_dbm":-97,"rsrq_db":-10,"sinr_db":8,"#,
    r#""registration":"ok","dns_ms":92,"tcp_ms":88,"tls_ms":214,"rtt_ms":86,"rtt_p95_ms":112,"loss_percent":1},"#,
    r#""network":{"sent_bytes":3120,"received_bytes":2210},"#,
    r#""device":{"battery_percent":81,"charging":false},"#,
    r#""transactions":{"ok":6,"failed":0}}"#,
);

/// Check-ins of some terminals in turn, as one connection sends them.
///
/// Each terminal's number only grows, and a number that was not acknowledged is sent again, as terminals do.
#[derive(Debug)]
pub struct CheckIns {
    terminals: Vec<Prepared>,
    turn: usize,
}

#[derive(Debug)]
struct Prepared {
    bytes: Vec<u8>,
    seq_at: usize,
    seq: u32,
}

impl CheckIns {
    /// Check-ins with these session tokens to this host; the last number counted of each stands beside its token.
    pub fn new(host: &str, tokens: impl IntoIterator<Item = (String, u32)>) -> Self {
        Self::saying(host, CANONICAL, tokens)
    }

    /// As [`CheckIns::new`], with another body (see [`canonical_with`]).
    pub fn saying(host: &str, body: &str, tokens: impl IntoIterator<Item = (String, u32)>) -> Self {
        let terminals = tokens.into_iter().map(|(token, counted)| {
            let bearer = format!("Bearer {token}");
            let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
            let bytes = request("POST", "/device/v1/check-in", host, &headers, body.as_bytes());
            let in_body = body.find(SEQ_MARK).unwrap_or_default();
            let seq_at = bytes.len() - body.len() + in_body;
            Prepared { bytes, seq_at, seq: counted.saturating_add(1) }
        });
        Self { terminals: terminals.collect(), turn: 0 }
    }

    /// Gives the terminals new session tokens, in the same order.
    pub fn renew(self, host: &str, tokens: impl IntoIterator<Item = String>) -> Self {
        let counted = self.counted();
        Self::new(host, tokens.into_iter().zip(counted))
    }

    /// The last number counted of each terminal.
    pub fn counted(&self) -> Vec<u32> {
        self.terminals.iter().map(|terminal| terminal.seq - 1).collect()
    }
}

impl Requests for CheckIns {
    fn next(&mut self) -> &[u8] {
        let Some(terminal) = self.terminals.get_mut(self.turn) else { return &[] };
        let digits = format!("{:>SEQ_PLACES$}", terminal.seq);
        terminal.bytes[terminal.seq_at..terminal.seq_at + SEQ_PLACES].copy_from_slice(digits.as_bytes());
        &terminal.bytes
    }

    fn answered(&mut self, head: Option<&Head>, _: &[u8]) {
        if head.is_some_and(|head| (200..300).contains(&head.status)) {
            self.terminals[self.turn].seq += 1;
            self.turn = (self.turn + 1) % self.terminals.len();
        } else if head.is_some() {
            // Busy or refused: the others' turn; this one sends the same again later.
            self.turn = (self.turn + 1) % self.terminals.len();
        }
    }
}

/// The canonical check-in with this number, exactly [`CANONICAL_BODY_BYTES`] long.
pub fn canonical_body(seq: u32) -> String {
    CANONICAL.replace(SEQ_MARK, &format!("{seq:>SEQ_PLACES$}"))
}

/// The canonical check-in with one piece in place of another, for [`CheckIns::saying`].
pub fn canonical_with(piece: &str, instead: &str) -> String {
    CANONICAL.replacen(piece, instead, 1)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::{Arc, Mutex};

    use tillward_protocol::Check;
    use tillward_protocol::checkin::CheckIn;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[test]
    fn the_canonical_check_in_is_valid_and_has_the_stated_length() {
        for seq in [1, 4_294_967_294] {
            let body = canonical_body(seq);
            assert_eq!(body.len(), CANONICAL_BODY_BYTES);
            let parsed: CheckIn = serde_json::from_str(&body).unwrap();
            assert_eq!((parsed.check(), parsed.seq.0), (Ok(()), seq));
        }
    }

    /// Answers check-ins on each connection: a number that is the next of its token is counted; every seventh request is
    /// answered 503 and every fiftieth not at all.
    async fn serve(listener: tokio::net::TcpListener, counted: Arc<Mutex<BTreeMap<String, u32>>>) {
        let requests = Arc::new(AtomicU32::new(0));
        loop {
            let Ok((mut stream, _)) = listener.accept().await else { return };
            let (counted, requests) = (Arc::clone(&counted), Arc::clone(&requests));
            tokio::spawn(async move {
                let mut bytes = Vec::new();
                while let Ok(1..) = stream.read_buf(&mut bytes).await {
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                    if body.len() < CANONICAL_BODY_BYTES {
                        continue;
                    }
                    bytes.clear();
                    let token = head.split("Bearer ").nth(1).unwrap().split("\r\n").next().unwrap().to_owned();
                    let seq = serde_json::from_str::<CheckIn>(body).unwrap().seq.0;
                    let number = requests.fetch_add(1, Ordering::Relaxed);
                    if number % 7 == 3 {
                        let busy = b"HTTP/1.1 503 Busy\r\nretry-after: 0\r\ncontent-length: 0\r\n\r\n";
                        stream.write_all(busy).await.unwrap();
                        continue;
                    }
                    {
                        let mut counted = counted.lock().unwrap();
                        let last = counted.entry(token).or_default();
                        assert!(seq == *last + 1 || seq == *last, "{seq} after {last}");
                        *last = seq;
                    }
                    if number % 50 == 9 {
                        return;
                    }
                    stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
                }
            });
        }
    }

    #[test]
    fn every_check_in_counts_once_through_refusals_and_broken_connections() {
        let server = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = server.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let counted = Arc::new(Mutex::new(BTreeMap::new()));
        server.spawn(serve(listener, Arc::clone(&counted)));
        for rate in [None, Some(2_000.0)] {
            counted.lock().unwrap().clear();
            let plan = Plan { connections: 6, threads: 2, duration: Duration::from_millis(400), rate };
            let make = |connection: usize| {
                CheckIns::new("h", (0..3).map(|terminal| (format!("token-{connection}-{terminal}"), 0)))
            };
            let (measured, sources) = drive(address, &plan, make).unwrap();
            // A number whose answer was lost is counted there and not yet acknowledged here: at most one a terminal.
            let acknowledged: u32 = sources.iter().flat_map(CheckIns::counted).sum();
            let at_server: u32 = counted.lock().unwrap().values().sum();
            assert_eq!(u64::from(acknowledged), measured.succeeded());
            assert!(acknowledged > 100 && (acknowledged..=acknowledged + 18).contains(&at_server));
            assert!(measured.statuses[&503] > 0 && measured.errors > 0);
            assert_eq!(measured.latency_us.len(), measured.answered());
        }
    }

    #[test]
    fn a_server_that_is_not_there_is_an_error_and_not_a_result() {
        let plan = Plan { connections: 2, threads: 1, duration: Duration::from_millis(50), rate: None };
        let nowhere = "127.0.0.1:1".parse().unwrap();
        assert!(drive(nowhere, &plan, |_| CheckIns::new("h", [("t".to_owned(), 0)])).is_err());
    }
}
