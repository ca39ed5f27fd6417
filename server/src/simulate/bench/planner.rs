//! `tillward bench planner`: a rollout over a large fleet beside the check-ins of that fleet, in one run.
//!
//! The server is the real one with its own planner; the fleet is written into its tables. Check-ins come from the
//! generator of `bench check-in`, as fast as they are answered, first without and then with a planner at work. All that
//! happens shares the same processors: quote the ratio. Nothing is downloaded: terminals stay at what they are offered,
//! so that the tables are as large as they can be.

mod gate;

use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

pub use self::gate::GateTimes;
use super::parts::{Driven, part};
pub use super::parts::{Part, Percentiles, Slow};
use super::store::{self, MODELS, OwnDatabase, Reached};
use super::{CheckIns, Running};
use crate::audit::Actor;
use crate::db::{Conn, timing};
use crate::operators::{Caller, Scope};
use crate::organizations::{self, NewOrganization};
use crate::rollouts::filter::Filter;
use crate::rollouts::strategy::Strategy;
use crate::rollouts::{self, NewRollout};
use crate::terminals::{self, NewModel};
use tillward_protocol::ids::TerminalId;

/// Provinces, each with a reseller …
const PROVINCES: i64 = 31;
/// … and each of these with as many below.
const RESELLERS: i64 = 8;
/// Terminals that check in; the rest of the fleet is silent for the length of a run.
const SPEAKING: i64 = 10_000;
/// How often the tables are asked how far the rollout got.
const POLL: Duration = Duration::from_millis(20);
/// A page of the rollout is loaded this often, as an open console does.
const PAGE: Duration = Duration::from_secs(2);
/// What takes longer than this has failed.
const LIMIT: Duration = Duration::from_secs(1_800);
/// A pause between two parts, so that what one left behind does not count for the next.
const WARM_UP: Duration = Duration::from_secs(2);

/// How to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Terminals of the fleet.
    pub terminals: i64,
    /// Length of the parts in which nothing is waited for, s.
    pub seconds: u64,
    /// Connections of the generator.
    pub connections: usize,
    /// A PostgreSQL server to measure as well; a database is made there and dropped.
    pub postgres: Option<String>,
    /// Whether to leave SQLite out.
    pub postgres_only: bool,
}

/// A stage's opening.
#[derive(Debug, Clone, Serialize)]
pub struct StageTimes {
    /// From 0.
    pub stage: u32,
    /// Terminals that are in when it is full.
    pub terminals: i64,
    /// From the decision to the first new offer, s.
    pub first_offer_s: f64,
    /// From the decision until every one of its terminals has its offer, s.
    pub full_s: f64,
}

/// One database.
#[derive(Debug, Clone, Serialize)]
pub struct Measurement {
    /// `sqlite` or `postgresql`.
    pub database: &'static str,
    /// Making the fleet, s.
    pub fill_s: f64,
    /// Resolving all terminals for the preview, s.
    pub preview_s: f64,
    /// Giving all terminals their assignments, s.
    pub admission_s: f64,
    /// Assignments made.
    pub admitted: i64,
    /// The stages.
    pub stages: Vec<StageTimes>,
    /// A stage that the gate opened; absent for a fleet that is too small to be cleared.
    pub gate: Option<GateTimes>,
    /// Check-ins a second while the planner works over those without.
    pub ratio: f64,
    /// The longest statement of the run, the making of the fleet aside, ms.
    pub longest_statement_ms: f64,
    /// Its name.
    pub longest_statement: String,
    /// The longest write transaction, ms.
    pub longest_transaction_ms: f64,
    /// The parts of the run.
    pub parts: Vec<Part>,
}

/// The whole run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Terminals.
    pub terminals: i64,
    /// Connections.
    pub connections: usize,
    /// Processors of this machine, shared by server, generator and databases.
    pub processors: usize,
    /// One for each database.
    pub results: Vec<Measurement>,
}

/// Measures SQLite, and PostgreSQL if it is given.
///
/// # Errors
/// When a server cannot be started, or the rollout does not get on.
pub fn run(options: &Options) -> anyhow::Result<Report> {
    anyhow::ensure!(options.terminals >= 200, "stages of one per cent need at least 200 terminals");
    timing::watch()?;
    let mut results = Vec::new();
    if !options.postgres_only {
        results.push(measure("sqlite", None, options)?);
    }
    if let Some(url) = &options.postgres {
        let own = OwnDatabase::create(url)?;
        results.push(measure("postgresql", Some(own.url()), options)?);
    }
    Ok(Report {
        terminals: options.terminals,
        connections: options.connections,
        processors: std::thread::available_parallelism().map_or(1, usize::from),
        results,
    })
}

fn measure(database: &'static str, url: Option<String>, options: &Options) -> anyhow::Result<Measurement> {
    let folder = tempfile::tempdir()?;
    let began = Instant::now();
    let mut run = Run::prepare(folder.path(), url, options)?;
    let fill_s = began.elapsed().as_secs_f64();
    timing::take();
    let (preview_s, count) = run.preview()?;
    anyhow::ensure!(count == u64::try_from(options.terminals)?, "{count} of {} terminals", options.terminals);
    run.driven("(warm-up)", |_| {
        std::thread::sleep(WARM_UP);
        Ok(())
    })?;
    run.parts.pop();
    let length = Duration::from_secs(options.seconds);
    run.driven("check-ins alone", |_| {
        std::thread::sleep(length);
        Ok(())
    })?;
    let (admission_s, mut stages) = run.driven("admission", |run| run.admit(count))?;
    for stage in 0..4 {
        let times = run.driven(&format!("stage {stage}"), |run| run.stage(stage))?;
        stages.push(times);
    }
    run.driven("watching", |_| {
        std::thread::sleep(length);
        Ok(())
    })?;
    run.driven("taking back", Run::cancel)?;
    let admitted = run.reached()?.admitted;
    let gate = match options.terminals >= gate::TERMINALS_MIN {
        true => Some(run.gate()?),
        false => None,
    };
    let measurement = run.measurement(database, fill_s, preview_s, (admission_s, admitted), stages);
    Ok(Measurement { gate, ..measurement })
}

/// One server with its fleet and its rollout.
struct Run {
    server: Running,
    caller: Caller,
    rollout: i64,
    shares: Vec<CheckIns>,
    connections: usize,
    parts: Vec<Part>,
}

impl Run {
    fn prepare(folder: &Path, url: Option<String>, options: &Options) -> anyhow::Result<Self> {
        let server = Running::durable(folder, url, crate::checkin::Cells::Kept)?;
        let now = server.state()?.clock.now();
        let terminals = options.terminals;
        let (home, first) = server.write(move |conn| plant(conn, now))?;
        for (from, count) in store::chunks(terminals) {
            let leaves = (first, PROVINCES * RESELLERS);
            server.write(move |conn| Ok(store::fill(conn, from, count, leaves, now)?))?;
        }
        server.write(|conn| Ok(store::analyze(conn)?))?;
        let caller =
            Caller { organization_id: home.id, scope: Scope::subtree(home.path.clone()), ..Caller::command("bench") };
        let (maker, path) = (caller.clone(), home.path);
        let rollout = server.write(move |conn| {
            let release_id = store::publish(conn, (maker.organization_id, &path), "4.2.0", now)?;
            let stages = serde_json::json!([{"percent": 1}, {"percent": 10}, {"percent": 50}, {"percent": 100}]);
            let gate = serde_json::json!({"opens_stages": false});
            let strategy: Strategy =
                serde_json::from_value(serde_json::json!({"stages": stages, "hold_back_percent": 5, "gate": gate}))?;
            let new = NewRollout {
                name: "bench".to_owned(),
                release_id: Some(release_id),
                filter: Filter::default(),
                strategy,
                ..NewRollout::default()
            };
            Ok(rollouts::create(conn, &maker, new, &Actor::system("bench"), now)?)
        })?;
        let shares = server.shares(terminals, options.connections)?;
        Ok(Self { server, caller, rollout, shares, connections: options.connections, parts: Vec::new() })
    }

    fn preview(&mut self) -> anyhow::Result<(f64, u64)> {
        let began = Instant::now();
        let (scope, id) = (self.caller.scope.clone(), self.rollout);
        let preview = self.server.read(move |conn| Ok(rollouts::preview(conn, &scope, id)?))?;
        let seconds = began.elapsed().as_secs_f64();
        self.parts.push(part("preview", began, None));
        Ok((seconds, preview.count))
    }

    /// Does `work` while check-ins go on, and notes what happened as a part.
    fn driven<T>(&mut self, name: &str, work: impl FnOnce(&mut Self) -> anyhow::Result<T>) -> anyhow::Result<T> {
        let driven = Driven::start(self.server.address, std::mem::take(&mut self.shares));
        let began = Instant::now();
        let done = work(self);
        let (measured, shares) = driven.stop()?;
        self.shares = shares;
        let log = self.server.state()?.db.sqlite_path().map(|path| format!("{}-wal", path.display()));
        let log = log.and_then(|path| std::fs::metadata(path).ok()).map(|file| file.len() >> 20);
        let part = Part { log_mib: log, ..part(name, began, measured.as_ref()) };
        part.say();
        self.parts.push(part);
        done
    }

    fn reached(&self) -> anyhow::Result<Reached> {
        let id = self.rollout;
        self.server.read(move |conn| Ok(store::reached(conn, id)?))
    }

    /// Waits until the rollout got where `is_there` says, and loads its page from time to time.
    fn wait(&self, what: &str, is_there: impl Fn(&Reached) -> bool) -> anyhow::Result<Duration> {
        let (began, mut shown) = (Instant::now(), Instant::now());
        loop {
            let reached = self.reached()?;
            if is_there(&reached) {
                return Ok(began.elapsed());
            }
            anyhow::ensure!(began.elapsed() < LIMIT, "{what} takes longer than {LIMIT:?}: {reached:?}");
            if shown.elapsed() > PAGE {
                let (scope, id) = (self.caller.scope.clone(), self.rollout);
                self.server.read(move |conn| Ok(rollouts::get(conn, &scope, id).map(drop)?))?;
                shown = Instant::now();
            }
            std::thread::sleep(POLL);
        }
    }

    fn admit(&mut self, count: u64) -> anyhow::Result<(f64, Vec<StageTimes>)> {
        let state = self.server.state()?;
        let (scope, actor, now) = (self.caller.scope.clone(), Actor::system("bench"), state.clock.now());
        let start = rollouts::start(&state.db, scope, self.rollout, count, u64::MAX, actor, now);
        self.server.runtime.block_on(start)?;
        state.planner.wake();
        let took = self.wait("admission", |reached| reached.is_admitted)?;
        Ok((took.as_secs_f64(), Vec::new()))
    }

    /// Decides that `stage` opens, and waits until all of it is offered; the first opens by itself.
    fn stage(&mut self, stage: u32) -> anyhow::Result<StageTimes> {
        let (caller, id) = (self.caller.clone(), self.rollout);
        let now = self.server.state()?.clock.now();
        let shown = self.server.read(move |conn| Ok(rollouts::get(conn, &caller.scope, id)?))?;
        let planned = shown.stage_views.iter().find(|view| view.stage == stage).and_then(|view| view.up_to);
        let terminals = i64::try_from(planned.ok_or_else(|| anyhow::anyhow!("there is no stage {stage}"))?)?;
        let before = if stage == 0 { 0 } else { self.reached()?.offered };
        let began = Instant::now();
        if stage > 0 {
            let (caller, actor) = (self.caller.clone(), Actor::system("bench"));
            self.server
                .write(move |conn| Ok(rollouts::advance_stage(conn, &caller, id, "bench", u64::MAX, &actor, now)?))?;
            self.server.state()?.planner.wake();
        }
        self.wait("the first offer", |reached| reached.offered > before)?;
        let first_offer_s = began.elapsed().as_secs_f64();
        self.wait("the stage", |reached| reached.opened >= terminals && reached.offered >= terminals)?;
        let times = StageTimes { stage, terminals, first_offer_s, full_s: began.elapsed().as_secs_f64() };
        eprintln!("stage {stage}: first offer after {first_offer_s:.2} s, all {terminals} after {:.1} s", times.full_s);
        Ok(times)
    }

    /// Ends the rollout and waits until no terminal waits or is offered anything.
    fn cancel(&mut self) -> anyhow::Result<()> {
        let (scope, actor, id) = (self.caller.scope.clone(), Actor::system("bench"), self.rollout);
        let now = self.server.state()?.clock.now();
        self.server.write(move |conn| Ok(rollouts::cancel(conn, &scope, id, "bench", &actor, now)?))?;
        self.server.state()?.planner.wake();
        self.wait("the end", |reached| reached.waiting == 0 && reached.offered == 0).map(drop)
    }

    fn measurement(
        mut self,
        database: &'static str,
        fill_s: f64,
        preview_s: f64,
        (admission_s, admitted): (f64, i64),
        stages: Vec<StageTimes>,
    ) -> Measurement {
        let mut parts = std::mem::take(&mut self.parts);
        let alone = parts.iter().find(|part| part.name == "check-ins alone").and_then(|part| part.check_ins_per_s);
        let at_work = ["admission", "stage 0", "stage 1", "stage 2", "stage 3"];
        let (mut seconds, mut counted) = (0.0, 0.0);
        for part in &mut parts {
            part.ratio = part.check_ins_per_s.zip(alone).map(|(rate, alone)| rate / alone);
            if let Some(rate) = part.check_ins_per_s.filter(|_| at_work.contains(&part.name.as_str())) {
                (seconds, counted) = (seconds + part.seconds, counted + rate * part.seconds);
            }
        }
        let longest = parts.iter().flat_map(|part| &part.slow).max_by(|a, b| a.max_ms.total_cmp(&b.max_ms));
        Measurement {
            database,
            fill_s,
            preview_s,
            admission_s,
            admitted,
            stages,
            gate: None,
            ratio: counted / f64::max(seconds, f64::EPSILON) / alone.unwrap_or(f64::INFINITY),
            longest_statement_ms: longest.map_or(0.0, |slow| slow.max_ms),
            longest_statement: longest.map(|slow| slow.statement.clone()).unwrap_or_default(),
            longest_transaction_ms: parts.iter().map(|part| part.transactions.max_ms).fold(0.0, f64::max),
            parts,
        }
    }
}

/// Headquarters, a reseller for each province and eight below each, and the models. Returns headquarters and the number
/// of the first of those below; they are numbered in a row.
fn plant(conn: &mut Conn, now: crate::clock::Now) -> anyhow::Result<(organizations::Organization, i64)> {
    let home = organizations::ensure_headquarters(conn, now)?;
    let (actor, scope) = (Actor::system("bench"), Scope::subtree(home.path.clone()));
    let mut make = |parent_id: i64, code: String, province: i64| {
        let region = Some(format!("{}0000", 11 + province));
        let new = NewOrganization { parent_id, name: format!("reseller {code}"), short_code: code, region };
        organizations::create_in(conn, &scope, &actor, &new, now).map(|made| made.id)
    };
    let provinces: Vec<i64> =
        (0..PROVINCES).map(|province| make(home.id, format!("P{province}"), province)).collect::<Result<_, _>>()?;
    let mut first = None;
    for (province, parent) in (0..).zip(provinces) {
        for below in 0..RESELLERS {
            let id = make(parent, format!("P{province}-{below}"), province)?;
            first = first.or(Some(id));
        }
    }
    for (code, _) in MODELS {
        let model = NewModel { code: code.to_owned(), name: code.to_owned(), ..NewModel::default() };
        terminals::create_model(conn, &actor, &scope, model, now)?;
    }
    Ok((home, first.unwrap_or_default()))
}

impl Running {
    fn state(&self) -> anyhow::Result<&crate::http::State> {
        self.state.as_deref().ok_or_else(|| anyhow::anyhow!("the bare server has no state")).map(|state| &**state)
    }

    fn write<T, F>(&self, write: F) -> anyhow::Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Conn) -> anyhow::Result<T> + Send + 'static,
    {
        self.runtime.block_on(self.state()?.db.write(write))
    }

    fn read<T, F>(&self, read: F) -> anyhow::Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Conn) -> anyhow::Result<T> + Send + 'static,
    {
        self.runtime.block_on(self.state()?.db.read(read))
    }

    /// The check-ins of terminals from all over the fleet, dealt out over the connections.
    fn shares(&self, terminals: i64, connections: usize) -> anyhow::Result<Vec<CheckIns>> {
        let state = self.state()?;
        let now = state.clock.now();
        let speaking = terminals.min(SPEAKING);
        let ids = (0..speaking).map(|at| 1 + at * (terminals / speaking));
        let tokens: Vec<String> = ids.filter_map(|id| state.tokens.issue_terminal(TerminalId(id), 0, now)).collect();
        let host = self.address.to_string();
        Ok((0..connections)
            .map(|at| CheckIns::new(&host, tokens.iter().skip(at).step_by(connections).map(|t| (t.clone(), 0))))
            .collect())
    }
}
