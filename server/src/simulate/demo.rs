//! `tillward demo`: a server, a fleet and two days of its life in one command.
//!
//! The embedded server's clock starts two days back and is moved on by one interval before each round of check-ins, so
//! that hours, windows and charts are those of real time; when the simulated part is over it shows the present, and the
//! real agents join. How many rounds there are is fixed, so what the terminals send follows from the seed alone.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tillward_protocol::ids::Version;

use super::admin::{Admin, Login, number, text};
use super::agents::{self, Agent, Provision};
use super::channel;
use super::client::Client;
use super::course::CHECK_INS_MAX;
use super::fleet::{Download, Fleet};
use super::outcome::{self, Totals};
use super::payments::Fault;
use super::population::Population;
use super::random::Draws;
use super::register::{self, AGENT_MODEL, AGENT_TAG, Firmware, MODELS, Registration};
use super::terminal::{Scenario, Terminal};
use crate::app::Server;
use crate::cli::serve::stop_signal;
use crate::clock::Clock;
use crate::config::{Config, Mode};
use crate::http::State;
use crate::operators::{self, Scope};
use crate::{checkin, failures};

/// Simulated time between two check-ins, s.
const INTERVAL_S: i64 = 1_800;
/// Rounds before the update: enough history to compare with, five times the window after it.
const ROUNDS_BEFORE: u32 = 64;
/// Rounds of the update itself, a few more than the longest course.
const ROUNDS_UPDATE: u32 = CHECK_INS_MAX + 4;
/// Rounds on the new firmware.
const ROUNDS_AFTER: u32 = 20;
/// The window of the summary, hours: since the rollout began. Hours after it in the history would teach that the fault
/// is nothing new.
const WINDOW_HOURS: u32 = (ROUNDS_UPDATE + ROUNDS_AFTER) * INTERVAL_S as u32 / 3_600;
/// All of the simulated time, and the hour that it ends in, hours.
const HISTORY_HOURS: u32 = (ROUNDS_BEFORE + ROUNDS_UPDATE + ROUNDS_AFTER) * INTERVAL_S as u32 / 3_600 + 1;
/// How the serial numbers of the real agents start.
const AGENT_SN_PREFIX: &str = "AGENT";
/// Real agents.
const AGENTS: usize = 3;
/// Check-ins that each real agent makes in all. It does what is to be done in about ten.
const AGENT_CHECK_INS: i64 = 24;
/// Failures that each agent's payment application leaves.
const AGENT_FAILURES: usize = 4;
/// Connections of the simulated fleet.
const CONNECTIONS: usize = 32;
/// Longest that the server may take to offer a rollout, or real agents to end one.
const PATIENCE: Duration = Duration::from_secs(120);
/// Address that a person would expect; another port where it is taken.
const PORT: u16 = 8420;

const BEFORE: (&str, u64) = ("4.1.0", 41);
const UPDATE: Firmware = Firmware {
    version: "4.2.0",
    release_counter: 42,
    name: "4.2.0 faster message handling",
    payload: include_bytes!("../../../firmware-samples/payload/4.2.0.bin"),
};
const UNHEALTHY: Firmware = Firmware {
    version: "4.3.0",
    release_counter: 43,
    name: "4.3.0 does not pass its own health check",
    payload: include_bytes!("../../../firmware-samples/payload/4.3.0.bin"),
};

/// Arguments of `tillward demo`.
#[derive(Debug, Clone, clap::Args)]
pub struct DemoArgs {
    /// Simulated terminals; three real agents come on top.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub terminals: u64,
    /// The same seed sends the same.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Stops when the rollouts ended, instead of serving the console until Ctrl-C.
    #[arg(long)]
    pub until_done: bool,
    /// Prints the totals as one JSON object on the last line.
    #[arg(long)]
    pub json: bool,
    /// Folder for the database, firmware and agents; a temporary one when absent.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Measured places and networks to draw from, instead of the built-in table.
    #[arg(long, value_name = "FILE")]
    pub population: Option<PathBuf>,
    /// Port of the console; 8420 or, where that is taken, any free one when absent.
    #[arg(long)]
    pub port: Option<u16>,
}

/// Runs the demo. Call it in an actix system: the server runs beside it.
///
/// # Errors
/// What went wrong, in words for the person who started it.
pub async fn run(args: DemoArgs) -> anyhow::Result<()> {
    let started = Instant::now();
    let temporary = if args.data.is_none() { Some(tempfile::tempdir()?) } else { None };
    let folder = match (&args.data, &temporary) {
        (Some(folder), _) => folder.clone(),
        (None, Some(temporary)) => temporary.path().to_owned(),
        (None, None) => anyhow::bail!("no folder"),
    };
    std::fs::create_dir_all(&folder)?;
    let folder = folder.canonicalize()?;
    anyhow::ensure!(
        !folder.join("tillward.sqlite3").exists(),
        "{} already holds a database; give --data an empty folder",
        folder.display()
    );
    let clock = Clock::system();
    clock.advance_ms(-i64::from(ROUNDS_BEFORE + ROUNDS_UPDATE + ROUNDS_AFTER) * INTERVAL_S * 1_000);
    let config = Config {
        listen: std::net::SocketAddr::from(([127, 0, 0, 1], args.port.unwrap_or_else(usual_port))),
        data_dir: folder.clone(),
        mode: Mode::Quickstart,
        check_in_interval_s: u32::try_from(INTERVAL_S)?,
        ..Config::default()
    };
    // There is one administrator, and nobody to approve what is for many terminals.
    let approval_from_terminals = config.approval_from_terminals.max(args.terminals + AGENTS as u64 + 1);
    let config = Config { approval_from_terminals, ..config };
    let server = Server::start(config, clock.clone()).await?;
    let handle = server.handle();
    let state = server.state.clone();
    let url = server.url.clone();
    let serving = tokio::task::spawn_local(server.run());
    let mut demo = Demo::set_up(&args, &folder, url, &state, clock, started).await?;
    tokio::select! {
        played = demo.play() => played?,
        () = stop_signal() => anyhow::bail!("stopped before the end"),
    }
    if !args.until_done {
        demo.live_on().await?;
    }
    drop(demo);
    handle.stop(true).await;
    serving.await?
}

fn usual_port() -> u16 {
    match std::net::TcpListener::bind(("127.0.0.1", PORT)) {
        Ok(_) => PORT,
        Err(_) => 0,
    }
}

/// A running demo.
struct Demo<'a> {
    args: &'a DemoArgs,
    url: String,
    state: &'a State,
    clock: Clock,
    started: Instant,
    admin: Admin,
    fleet: Fleet,
    agents: Vec<Agent>,
    rollouts: Vec<i64>,
    /// What the channel's file shows.
    settled: String,
}

impl<'a> Demo<'a> {
    /// First administrator, organizations, models, terminals, enrolment, releases.
    async fn set_up(
        args: &'a DemoArgs,
        folder: &Path,
        url: String,
        state: &'a State,
        clock: Clock,
        started: Instant,
    ) -> anyhow::Result<Self> {
        let client = Arc::new(Client::new(&url, CONNECTIONS)?);
        let login = Login { login: "admin".to_owned(), password: hex::encode(rand::random::<[u8; 9]>()) };
        let token = operators::bootstrap(&state.db, clock.now()).await?;
        let token = token.ok_or_else(|| anyhow::anyhow!("the server is set up already"))?;
        let admin = Admin::set_up(Arc::clone(&client), &token, &login).await?;
        println!("console   {url}\nlogin     {}\npassword  {}\n", login.login, login.password);
        let organizations = register::organizations(&admin).await?;
        register::models(&admin).await?;
        let terminals = terminals(args, &clock)?;
        let mut registrations: Vec<Registration> = terminals
            .iter()
            .map(|terminal| Registration::of(terminal, &organizations[terminal.index as usize % organizations.len()]))
            .collect();
        let agent_sns: Vec<String> = (1..=AGENTS).map(|number| format!("{AGENT_SN_PREFIX}{number:04}")).collect();
        registrations.extend(agent_sns.iter().map(|sn| Registration {
            sn: sn.clone(),
            model: AGENT_MODEL.to_owned(),
            region: "上海".to_owned(),
            organization: organizations[0].clone(),
            tags: vec![AGENT_TAG.to_owned()],
        }));
        register::import(&admin, &registrations).await?;
        let mut ids = register::ids(&admin, &sn_prefix(args.seed)).await?;
        ids.extend(register::ids(&admin, AGENT_SN_PREFIX).await?);
        register::put_into_use(&admin, ids.values().copied()).await?;
        let numbers: Vec<i64> = ids.values().copied().collect();
        let codes = register::activation_codes(&admin, &numbers).await?;
        let mut demo = Self {
            args,
            url,
            state,
            clock,
            started,
            admin,
            fleet: Fleet::new(client, terminals, Download::Whole),
            agents: Vec::new(),
            rollouts: Vec::new(),
            settled: String::new(),
        };
        demo.say(&format!("{} terminals registered in {} organizations", ids.len(), organizations.len()));
        demo.fleet.enrol(&codes).await?;
        demo.say("simulated terminals enrolled, each with its own key");
        demo.prepare_agents(folder, &agent_sns, &codes).await?;
        Ok(demo)
    }

    async fn prepare_agents(
        &mut self,
        folder: &Path,
        sns: &[String],
        codes: &std::collections::HashMap<String, String>,
    ) -> anyhow::Result<()> {
        let provision = Provision {
            url: self.url.clone(),
            model: AGENT_MODEL.to_owned(),
            firmware: BEFORE.0.to_owned(),
            image_root: self.admin.bytes("/tuf/image/metadata/1.root.json").await?,
            director_root: self.admin.bytes("/tuf/director/metadata/1.root.json").await?,
        };
        for sn in sns {
            let code = codes.get(sn).ok_or_else(|| anyhow::anyhow!("no activation code for {sn}"))?;
            let folder = folder.join("agents").join(sn);
            self.agents.push(Agent::prepare(folder, &provision, sn, code)?);
        }
        Ok(())
    }

    async fn play(&mut self) -> anyhow::Result<()> {
        self.rounds(ROUNDS_BEFORE, &format!("firmware {}", BEFORE.0)).await?;
        let release = register::publish(&self.admin, &UPDATE).await?;
        self.say(&format!("release {} signed and published", UPDATE.version));
        let rollout = self.start_rollout("4.2.0 for everybody", release, json!({"firmware": [BEFORE.0]})).await?;
        self.wait_for_offers(rollout).await?;
        self.rounds(ROUNDS_UPDATE, "rollout of 4.2.0").await?;
        self.wait_for_end(rollout).await?;
        self.rounds(ROUNDS_AFTER, "firmware 4.2.0, with a fault under weak 2G and 4G signal").await?;
        self.settle().await?;
        self.play_agents(release).await?;
        self.conclude().await
    }

    /// The channel tells what it settled in the simulated time.
    async fn settle(&mut self) -> anyhow::Result<()> {
        let sns: Vec<String> = self.fleet.terminals().map(|terminal| terminal.sn.to_string()).collect();
        let to_ms = self.clock.now().0;
        let from_ms = to_ms - i64::from(ROUNDS_BEFORE + ROUNDS_UPDATE + ROUNDS_AFTER - 1) * INTERVAL_S * 1_000;
        self.settled = channel::tell(&self.admin, self.args.seed, &sns, (from_ms, to_ms), PATIENCE).await?;
        self.say("the channel's file of settled payments imported and compared");
        Ok(())
    }

    /// The totals and what they mean.
    async fn conclude(&self) -> anyhow::Result<()> {
        let agents: Vec<Value> = self.agents.iter().map(Agent::status).collect::<anyhow::Result<_>>()?;
        let mut rollouts = Vec::new();
        for id in &self.rollouts {
            rollouts.push(self.rollout(*id).await?);
        }
        let counted = self.state.db.read(checkin::totals).await?;
        let left = AGENT_FAILURES as u64;
        let seconds = self.started.elapsed().as_secs_f64();
        let totals = Totals::new(self.args.terminals, self.fleet.tally(), &agents, left, counted, &rollouts, seconds)?;
        let now = self.clock.now();
        let overview = failures::overview(&self.state.db, Scope::everything(), WINDOW_HOURS, now).await?;
        let causes = self.causes(totals.failures_counted).await?;
        let explained = outcome::explain(&overview, WINDOW_HOURS);
        println!("\n{}\n{explained}\n{causes}\n{}", totals.sentences(), self.settled);
        if self.args.json {
            println!("{}", serde_json::to_string(&totals)?);
        }
        Ok(())
    }

    /// What the rules say of each failure, once they have looked at all of them.
    async fn causes(&self, failures: i64) -> anyhow::Result<String> {
        let path = format!("/api/v1/failures/causes?hours={HISTORY_HOURS}");
        let started = Instant::now();
        loop {
            let counted: Value = self.admin.get(&path).await?;
            let causes = outcome::Causes::of(&counted)?;
            if causes.judged() >= failures || started.elapsed() > PATIENCE {
                return Ok(causes.sentence(failures));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Keeps the fleet alive in real time until somebody stops it.
    async fn live_on(&mut self) -> anyhow::Result<()> {
        // Not on standard output: with `--json` the totals are its last line.
        eprintln!("\nThe server runs on at {} until Ctrl-C.", self.url);
        for agent in &mut self.agents {
            agent.start()?;
        }
        loop {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(INTERVAL_S.unsigned_abs())) => self.fleet.round().await?,
                () = stop_signal() => return Ok(()),
            }
        }
    }

    /// So many intervals of simulated time.
    async fn rounds(&mut self, count: u32, what: &str) -> anyhow::Result<()> {
        for _ in 0..count {
            self.clock.advance_ms(INTERVAL_S * 1_000);
            self.fleet.round().await?;
        }
        let tally = self.fleet.tally();
        self.say(&format!(
            "{} hours of {what}: {} check-ins, {} failures so far, {} sent again after a lost answer",
            i64::from(count) * INTERVAL_S / 3_600,
            tally.check_ins,
            tally.failures,
            tally.resent,
        ));
        Ok(())
    }

    async fn start_rollout(&mut self, name: &str, release: i64, filter: Value) -> anyhow::Result<i64> {
        let body = json!({"name": name, "release_id": release, "filter": filter});
        let rollout: Value = self.admin.post("/api/v1/rollouts", &body).await?;
        let id = number(&rollout, "id")?;
        let preview: Value = self.admin.get(&format!("/api/v1/rollouts/{id}/preview")).await?;
        let confirmed = number(&preview, "count")?;
        self.rollouts.push(id);
        let body = json!({"confirm_count": confirmed});
        let _: Value = self.admin.post(&format!("/api/v1/rollouts/{id}/start"), &body).await?;
        self.say(&format!("rollout {name:?} started for {confirmed} terminals"));
        Ok(id)
    }

    async fn rollout(&self, id: i64) -> anyhow::Result<Value> {
        self.admin.get(&format!("/api/v1/rollouts/{id}")).await
    }

    /// Waits until the planner has offered the release to all: then each terminal hears of it in the same round.
    async fn wait_for_offers(&self, rollout: i64) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            let now = self.rollout(rollout).await?;
            let waiting = now["counts"]["waiting"].as_i64().unwrap_or(0);
            if now["is_admitted"] == true && waiting == 0 {
                return Ok(());
            }
            anyhow::ensure!(started.elapsed() < PATIENCE, "the planner does not offer the release: {now}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The real agents take the good firmware and then get the bad one, which they take back.
    async fn play_agents(&mut self, good: i64) -> anyhow::Result<()> {
        let bad = register::publish(&self.admin, &UNHEALTHY).await?;
        for (number, agent) in self.agents.iter_mut().enumerate() {
            for failure in 0..AGENT_FAILURES {
                agent.leave_failure(&agents::failure(number, failure, self.clock.now().0))?;
            }
            agent.start()?;
        }
        self.say(&format!("{AGENTS} real agents started"));
        self.wait_for_agents("check in", async |demo| {
            demo.agents.iter().try_fold(true, |all, agent| Ok(all && agent.check_ins()? > 0))
        })
        .await?;
        let filter = json!({"tags": [AGENT_TAG]});
        let rollout = self.start_rollout("4.2.0 for the real agents", good, filter.clone()).await?;
        self.wait_for_end(rollout).await?;
        self.say("real agents downloaded, verified, installed and committed 4.2.0");
        let rollout = self.start_rollout("4.3.0 for the real agents", bad, filter).await?;
        self.wait_for_end(rollout).await?;
        self.say("real agents tried 4.3.0, found it unhealthy and took it back");
        self.settle_agents().await
    }

    async fn wait_for_end(&mut self, rollout: i64) -> anyhow::Result<()> {
        self.wait_for_agents("end the rollout", async |demo| {
            let now = demo.rollout(rollout).await?;
            // What installs when the gate halts a rollout goes on to its end.
            let at_it = ["downloading", "installing", "rebooting", "trial"];
            let is_quiet = at_it.iter().all(|phase| now["counts"][phase] == 0);
            Ok(match text(&now, "state")?.as_str() {
                "succeeded" | "cancelled" => true,
                "halted" => is_quiet,
                _ => false,
            })
        })
        .await?;
        let now = self.rollout(rollout).await?;
        if text(&now, "state")? == "halted" {
            self.say(&format!("rollout {:?} halted by {}", text(&now, "name")?, text(&now, "why")?));
        }
        Ok(())
    }

    async fn wait_for_agents(
        &mut self,
        what: &str,
        is_done: impl AsyncFn(&Self) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let started = Instant::now();
        while !is_done(self).await? {
            if let Some(died) = self.agents.iter_mut().find_map(|agent| agent.has_died().then(|| agent.folder())) {
                anyhow::bail!("a real agent ended by itself; see {}/agent.log", died.display());
            }
            anyhow::ensure!(started.elapsed() < PATIENCE, "the real agents do not {what}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Ends the agents' processes and lets each check in until it has made its number of check-ins.
    async fn settle_agents(&mut self) -> anyhow::Result<()> {
        let agents = std::mem::take(&mut self.agents);
        let tasks: Vec<_> = agents
            .into_iter()
            .map(|agent| tokio::task::spawn_blocking(move || agent.live_until(AGENT_CHECK_INS, PATIENCE)))
            .collect();
        for task in tasks {
            self.agents.push(task.await??);
        }
        Ok(())
    }

    fn say(&self, what: &str) {
        println!("[{:>5.1} s] {what}", self.started.elapsed().as_secs_f64());
    }
}

fn sn_prefix(seed: u64) -> String {
    format!("D{:02}N", seed % 100)
}

/// The simulated terminals, each with its own place.
fn terminals(args: &DemoArgs, clock: &Clock) -> anyhow::Result<Vec<Terminal>> {
    let population = match &args.population {
        Some(path) => Population::from_file(path)?,
        None => Population::built_in()?,
    };
    let updated: Version = UPDATE.version.parse()?;
    let scenario = Arc::new(Scenario {
        seed: args.seed,
        interval_s: INTERVAL_S as f64,
        starts_at_ms: clock.now().0,
        firmware: (BEFORE.0.parse()?, BEFORE.1),
        app: "3.8.14".parse()?,
        agent: env!("CARGO_PKG_VERSION").parse()?,
        fault: Some(Fault::demo(updated)),
    });
    (0..args.terminals)
        .map(|index| {
            let place = population.sample(&mut Draws::of(args.seed, "place", index));
            let model = MODELS[Draws::of(args.seed, "model", index).weighted(&MODELS.map(|(_, _, share)| share))].0;
            let sn = format!("{}{index:08}", sn_prefix(args.seed));
            Ok(Terminal::new(&scenario, index, sn.parse()?, model.parse()?, place))
        })
        .collect()
}
