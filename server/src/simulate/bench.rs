//! `tillward bench check-in`: what a durable check-in costs against a bare handler, in one run on one machine.
//!
//! Both servers get the same 633-byte body from the same generator over the same number of connections, in turn. The
//! bare one parses it and answers 204. The real one checks the token, counts the check-in, writes state, samples and
//! cells in one transaction with every commit synced, and answers after the commit. Quote the ratio: the machine's own
//! speed is in both rates.

pub mod feed;
mod parts;
pub mod planner;
mod store;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use actix_web::{App, HttpResponse, HttpServer, web};
use serde::Serialize;
use tillward_protocol::checkin::CheckIn;
use tillward_protocol::ids::TerminalId;

use super::load::{CANONICAL_BODY_BYTES, CheckIns, Measured, Plan, drive};
use crate::app::Server;
use crate::audit::Actor;
use crate::checkin::{self, Totals};
use crate::clock::Clock;
use crate::config::Config;
use crate::operators::Scope;
use crate::terminals::{self, NewModel, NewTerminal};
use crate::{db, organizations};

/// How to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Connections of the generator.
    pub connections: usize,
    /// Length of each measured part, s.
    pub seconds: u64,
    /// Times that bare and real server are driven in turn.
    pub rounds: usize,
    /// Terminals that check in.
    pub terminals: usize,
    /// A PostgreSQL database to measure as well; its tables are made and filled.
    pub postgres: Option<String>,
}

/// One server's figures, medians over the rounds.
#[derive(Debug, Clone, Serialize)]
pub struct Rate {
    /// Answered requests a second of wall time.
    pub per_second: f64,
    /// CPU time of the server, s, for each measured second.
    pub server_cpu: f64,
    /// Answered requests a second of the server's CPU time.
    pub per_cpu_second: f64,
    /// Median latency, ms.
    pub p50_ms: f64,
    /// 99th percentile of the latency, ms.
    pub p99_ms: f64,
    /// Answers other than 2xx, and broken connections.
    pub failed: u64,
}

/// A durable server against the bare one.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// `sqlite` or `postgresql`.
    pub database: &'static str,
    /// The durable server.
    pub durable: Rate,
    /// The bare handler in the same rounds.
    pub bare: Rate,
    /// Rate of the durable server over that of the bare one; the median of the rounds.
    pub ratio: f64,
    /// The smallest and the largest ratio of a round.
    pub ratio_range: (f64, f64),
    /// The same of requests a CPU second.
    pub ratio_per_cpu_second: f64,
    /// Check-ins that the database holds after the run, minus those that the generator saw acknowledged. Below zero
    /// would mean a lost one; above are answers that were still on their way at the end of a part.
    pub counted_minus_acknowledged: i64,
}

/// The whole run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Length of the body, bytes.
    pub body_bytes: usize,
    /// Connections.
    pub connections: usize,
    /// Terminals.
    pub terminals: usize,
    /// Length of each part, s.
    pub seconds: u64,
    /// Rounds.
    pub rounds: usize,
    /// Processors of this machine, shared by server and generator.
    pub processors: usize,
    /// One for each database.
    pub results: Vec<Comparison>,
}

/// Measures SQLite, and PostgreSQL if it is given.
///
/// # Errors
/// When a server cannot be started or nothing is answered.
pub fn run(options: &Options) -> anyhow::Result<Report> {
    let mut results = vec![compare("sqlite", None, options)?];
    if let Some(url) = &options.postgres {
        results.push(compare("postgresql", Some(url.clone()), options)?);
    }
    Ok(Report {
        body_bytes: CANONICAL_BODY_BYTES,
        connections: options.connections,
        terminals: options.terminals,
        seconds: options.seconds,
        rounds: options.rounds,
        processors: std::thread::available_parallelism().map_or(1, usize::from),
        results,
    })
}

fn compare(database: &'static str, url: Option<String>, options: &Options) -> anyhow::Result<Comparison> {
    let folder = tempfile::tempdir()?;
    let plan = Plan {
        connections: options.connections,
        threads: 1,
        duration: Duration::from_secs(options.seconds),
        rate: None,
    };
    let bare = Running::bare()?;
    let durable = Running::durable(folder.path(), url)?;
    let tokens = durable.register(options.terminals)?;
    let host = durable.address.to_string();
    let shares: Vec<CheckIns> = (0..options.connections)
        .map(|connection| {
            let own = tokens.iter().skip(connection).step_by(options.connections);
            CheckIns::new(&host, own.map(|token| (token.clone(), 0)))
        })
        .collect();
    let mut shares: Vec<Option<CheckIns>> = shares.into_iter().map(Some).collect();
    let (mut bare_rates, mut durable_rates) = (Vec::new(), Vec::new());
    let mut acknowledged = 0;
    for round in 0..=options.rounds {
        let part = |address, shares: &mut Vec<Option<CheckIns>>| -> anyhow::Result<(Rate, u64)> {
            let cpu_before_s = process_cpu_s();
            let (measured, back) = drive(address, &plan, |index| {
                shares.get_mut(index).and_then(Option::take).unwrap_or_else(|| CheckIns::new(&host, []))
            })?;
            *shares = back.into_iter().map(Some).collect();
            Ok((rate(&measured, process_cpu_s() - cpu_before_s), measured.succeeded()))
        };
        let mut to_bare: Vec<Option<CheckIns>> = (0..options.connections)
            .map(|index| tokens.get(index).map(|token| CheckIns::new(&host, [(token.clone(), 0)])))
            .collect();
        let (bare_rate, _) = part(bare.address, &mut to_bare)?;
        let (durable_rate, succeeded) = part(durable.address, &mut shares)?;
        acknowledged += i64::try_from(succeeded)?;
        // The first round warms caches up and is not counted.
        if round > 0 {
            bare_rates.push(bare_rate);
            durable_rates.push(durable_rate);
        }
    }
    let counted = durable.counted()?;
    let mut ratios: Vec<f64> =
        durable_rates.iter().zip(&bare_rates).map(|(durable, bare)| durable.per_second / bare.per_second).collect();
    ratios.sort_by(f64::total_cmp);
    let (durable_rate, bare_rate) = (medians(&durable_rates), medians(&bare_rates));
    Ok(Comparison {
        database,
        ratio: median(ratios.clone()),
        ratio_range: (ratios.first().copied().unwrap_or(0.0), ratios.last().copied().unwrap_or(0.0)),
        ratio_per_cpu_second: durable_rate.per_cpu_second / bare_rate.per_cpu_second,
        durable: durable_rate,
        bare: bare_rate,
        counted_minus_acknowledged: counted - acknowledged,
    })
}

fn rate(measured: &Measured, process_cpu_s: f64) -> Rate {
    let summary = measured.summary();
    let server_cpu_s = (process_cpu_s - measured.generator_cpu_s).max(1e-9);
    let succeeded = as_f64(measured.succeeded());
    Rate {
        per_second: succeeded / measured.wall_s.max(1e-9),
        server_cpu: server_cpu_s / measured.wall_s.max(1e-9),
        per_cpu_second: succeeded / server_cpu_s,
        p50_ms: summary.latency_ms.p50,
        p99_ms: summary.latency_ms.p99,
        failed: measured.answered() - measured.succeeded() + measured.errors,
    }
}

fn as_f64(count: u64) -> f64 {
    u32::try_from(count).map_or(f64::MAX, f64::from)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

fn medians(rates: &[Rate]) -> Rate {
    let of = |pick: fn(&Rate) -> f64| median(rates.iter().map(pick).collect());
    Rate {
        per_second: of(|rate| rate.per_second),
        server_cpu: of(|rate| rate.server_cpu),
        per_cpu_second: of(|rate| rate.per_cpu_second),
        p50_ms: of(|rate| rate.p50_ms),
        p99_ms: of(|rate| rate.p99_ms),
        failed: rates.iter().map(|rate| rate.failed).sum(),
    }
}

/// CPU time of this process so far, s.
fn process_cpu_s() -> f64 {
    // Fields 14 and 15 of /proc/self/stat are user and system time in ticks of 10 ms.
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: f64 = after_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    ticks / 100.0
}

/// A server on its own threads.
struct Running {
    address: SocketAddr,
    state: Option<web::Data<crate::http::State>>,
    handle: actix_web::dev::ServerHandle,
    runtime: tokio::runtime::Runtime,
}

impl Running {
    fn bare() -> anyhow::Result<Self> {
        Self::start(|| async {
            let server = HttpServer::new(|| App::new().route("/device/v1/check-in", web::post().to(bare)))
                .disable_signals()
                .bind(("127.0.0.1", 0))?;
            let address = server.addrs().first().copied().ok_or_else(|| anyhow::anyhow!("no address"))?;
            let server = server.run();
            let handle = server.handle();
            actix_web::rt::spawn(server);
            Ok((address, None, handle))
        })
    }

    fn durable(folder: &Path, url: Option<String>) -> anyhow::Result<Self> {
        let config = Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            data_dir: folder.to_owned(),
            database_url: url,
            ..Config::default()
        };
        Self::start(|| async {
            let server = Server::start(config, Clock::system()).await?;
            let address = server.url.trim_start_matches("http://").parse()?;
            let (state, handle) = (server.state.clone(), server.handle());
            actix_web::rt::spawn(server.run());
            Ok((address, Some(state), handle))
        })
    }

    fn start<F, Fut>(start: F) -> anyhow::Result<Self>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = anyhow::Result<Started>>,
    {
        let (sender, started) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let started = start().await;
                let failed = started.is_err();
                // The other side waits for this; it cannot be gone.
                let _ = sender.send(started);
                if !failed {
                    std::future::pending::<()>().await;
                }
            });
        });
        let (address, state, handle) = started.recv()??;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { address, state, handle, runtime })
    }

    /// Registers terminals and gives each a session token.
    fn register(&self, count: usize) -> anyhow::Result<Vec<String>> {
        let state = self.state.clone().ok_or_else(|| anyhow::anyhow!("the bare server knows no terminals"))?;
        let now = state.clock.now();
        let ids: Result<Vec<i64>, terminals::Error> = self.runtime.block_on(state.db.write(move |conn| {
            let home = organizations::ensure_headquarters(conn, now)?;
            let (actor, scope) = (Actor::system("bench"), Scope::subtree(home.path));
            let model = NewModel { code: "demo-p1".to_owned(), name: "P1".to_owned(), ..NewModel::default() };
            terminals::create_model(conn, &actor, &scope, model, now)?;
            (0..count)
                .map(|index| {
                    let new = NewTerminal {
                        sn: format!("BENCH{index:07}"),
                        model: "demo-p1".to_owned(),
                        region: Some(format!("region {}", index % 31)),
                        ..NewTerminal::default()
                    };
                    terminals::create(conn, &actor, &scope, home.id, new, now).map(|terminal| terminal.id)
                })
                .collect()
        }));
        let tokens = ids?.into_iter().filter_map(|id| state.tokens.issue_terminal(TerminalId(id), 0, now));
        Ok(tokens.collect())
    }

    fn counted(&self) -> anyhow::Result<i64> {
        let state = self.state.clone().ok_or_else(|| anyhow::anyhow!("the bare server counts nothing"))?;
        let totals: Result<Totals, db::Error> = self.runtime.block_on(state.db.read(checkin::totals));
        Ok(totals?.check_ins)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.runtime.block_on(self.handle.stop(false));
    }
}

type Started = (SocketAddr, Option<web::Data<crate::http::State>>, actix_web::dev::ServerHandle);

async fn bare(check_in: web::Json<CheckIn>) -> HttpResponse {
    std::hint::black_box(check_in);
    HttpResponse::NoContent().finish()
}
