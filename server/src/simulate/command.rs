//! `tillward simulate`: load against any server, with percentiles as JSON; and the tool that made the built-in table.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use super::admin::{Admin, Login, number, text};
use super::client::{Client, resolve};
use super::fleet::{Download, Fleet};
use super::load::{self, CheckIns, Plan, Summary};
use super::population::{self, Population};
use super::random::Draws;
use super::register::{self, AGENT_MODEL, Registration};
use super::terminal::{Scenario, Terminal};
use crate::clock::Clock;

/// A run is cut into parts no longer than this, s: session tokens are renewed in between.
const PART_S: u64 = 3_000;

/// Arguments of `tillward simulate`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct SimulateArgs {
    #[command(subcommand)]
    tool: Option<Tool>,
    #[command(flatten)]
    load: Option<LoadArgs>,
}

#[derive(Debug, clap::Subcommand)]
enum Tool {
    /// Makes the compact table of places and networks from measured rows, on standard output.
    #[command(hide = true)]
    DerivePopulation {
        /// The rows: access, carrier, region, …, bandwidth_mbps.
        file: PathBuf,
    },
}

/// What to drive, and how.
#[derive(Debug, clap::Args)]
struct LoadArgs {
    /// The server, `http://host:port`.
    #[arg(long, value_name = "URL")]
    server: String,
    /// API key or access token that may register terminals.
    #[arg(long, env = "TILLWARD_TOKEN", hide_env_values = true, conflicts_with = "bootstrap")]
    token: Option<String>,
    /// Bootstrap token of an empty server; the first administrator is made with it.
    #[arg(long, value_name = "TOKEN")]
    bootstrap: Option<String>,
    /// Terminals to register and enrol.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=200_000))]
    terminals: u64,
    /// How long to drive, s.
    #[arg(long, default_value_t = 30, value_name = "S", value_parser = clap::value_parser!(u64).range(1..))]
    duration: u64,
    /// Connections.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    connections: u32,
    /// Threads of the generator.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    threads: u32,
    /// Check-ins per second at fixed times (open loop); as fast as they are answered (closed loop) when absent.
    #[arg(long, value_name = "PER_S")]
    rate: Option<f64>,
    /// Seed of the terminals' keys and places.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Prints the result as JSON.
    #[arg(long)]
    json: bool,
}

/// The result of a run.
#[derive(Debug, Serialize)]
struct Report {
    server: String,
    terminals: u64,
    connections: usize,
    /// `closed` or `open`.
    mode: &'static str,
    rate: Option<f64>,
    seed: u64,
    body_bytes: usize,
    #[serde(flatten)]
    summary: Summary,
    /// Sum of the numbers that the server acknowledged.
    acknowledged: u64,
}

/// Runs the command.
///
/// # Errors
/// What went wrong, in words for the person who started it.
pub async fn run(args: SimulateArgs) -> anyhow::Result<()> {
    match (args.tool, args.load) {
        (Some(Tool::DerivePopulation { file }), _) => {
            print!("{}", population::derive(std::fs::File::open(&file)?)?);
            Ok(())
        }
        (None, Some(load)) => drive(load).await,
        (None, None) => anyhow::bail!("--server is missing"),
    }
}

async fn drive(args: LoadArgs) -> anyhow::Result<()> {
    let connections = usize::try_from(args.connections)?.min(usize::try_from(args.terminals)?);
    let client = Arc::new(Client::new(&args.server, connections.min(64))?);
    let admin = match (&args.token, &args.bootstrap) {
        (Some(token), _) => Admin::new(Arc::clone(&client), token.clone()),
        (None, Some(bootstrap)) => {
            let login = Login { login: "simulate".to_owned(), password: hex::encode(rand::random::<[u8; 9]>()) };
            eprintln!("first administrator: {} with password {}", login.login, login.password);
            Admin::set_up(Arc::clone(&client), bootstrap, &login).await?
        }
        (None, None) => anyhow::bail!("give --token (an API key) or --bootstrap (of an empty server)"),
    };
    eprintln!("registering and enrolling {} terminals", args.terminals);
    let mut fleet = enrolled(&args, &admin, Arc::clone(&client)).await?;
    let (host, address) = resolve(&args.server)?;
    let deal = |tokens: Vec<String>| {
        let mut hands: Vec<Vec<String>> = vec![Vec::new(); connections];
        for (index, token) in tokens.into_iter().enumerate() {
            hands[index % connections].push(token);
        }
        hands
    };
    let mut sources: Vec<CheckIns> = Vec::new();
    let mut measured: Option<load::Measured> = None;
    let mut left_s = args.duration;
    eprintln!("driving {connections} connections for {left_s} s");
    while left_s > 0 {
        let part_s = left_s.min(PART_S);
        left_s -= part_s;
        let hands = deal(fleet.open_sessions().await?);
        let mut next = if sources.is_empty() {
            hands.into_iter().map(|hand| CheckIns::new(&host, hand.into_iter().map(|token| (token, 0)))).collect()
        } else {
            sources.into_iter().zip(hands).map(|(source, hand)| source.renew(&host, hand)).collect::<Vec<_>>()
        }
        .into_iter();
        let threads = usize::try_from(args.threads)?;
        let plan = Plan { connections, threads, duration: Duration::from_secs(part_s), rate: args.rate };
        let part = tokio::task::spawn_blocking(move || {
            load::drive(address, &plan, |_| next.next().unwrap_or_else(|| CheckIns::new("", [])))
        });
        let (part, back) = part.await??;
        sources = back;
        match &mut measured {
            Some(measured) => measured.then(&part)?,
            None => measured = Some(part),
        }
    }
    let measured = measured.ok_or_else(|| anyhow::anyhow!("the duration is zero"))?;
    let report = Report {
        server: args.server.clone(),
        terminals: args.terminals,
        connections,
        mode: if args.rate.is_some() { "open" } else { "closed" },
        rate: args.rate,
        seed: args.seed,
        body_bytes: load::CANONICAL_BODY_BYTES,
        summary: measured.summary(),
        acknowledged: sources.iter().flat_map(CheckIns::counted).map(u64::from).sum(),
    };
    print(&report, args.json)
}

fn print(report: &Report, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        println!("{}", serde_json::to_string(report)?);
        return Ok(());
    }
    let (summary, latency) = (&report.summary, &report.summary.latency_ms);
    println!(
        "{:.0} check-ins/s counted ({} of {} answers in {:.1} s over {} connections, {} errors)\n\
         latency ms: p50 {:.1}  p90 {:.1}  p95 {:.1}  p99 {:.1}  p99.9 {:.1}  max {:.1}",
        summary.succeeded_per_s,
        summary.succeeded,
        summary.answered,
        summary.wall_s,
        report.connections,
        summary.errors,
        latency.p50,
        latency.p90,
        latency.p95,
        latency.p99,
        latency.p999,
        latency.max,
    );
    Ok(())
}

async fn enrolled(args: &LoadArgs, admin: &Admin, client: Arc<Client>) -> anyhow::Result<Fleet> {
    let population = Population::built_in()?;
    let scenario = Arc::new(Scenario {
        seed: args.seed,
        interval_s: 900.0,
        starts_at_ms: Clock::system().now().0,
        firmware: ("4.1.0".parse()?, 41),
        app: "3.8.14".parse()?,
        agent: env!("CARGO_PKG_VERSION").parse()?,
        fault: None,
    });
    // Every run registers terminals of its own, so that counting starts at one.
    let run = hex::encode(rand::random::<[u8; 4]>());
    let terminals = (0..args.terminals).map(|index| {
        let place = population.sample(&mut Draws::of(args.seed, "place", index));
        Ok(Terminal::new(&scenario, index, format!("L{run}{index:07}").parse()?, AGENT_MODEL.parse()?, place))
    });
    let terminals: Vec<Terminal> = terminals.collect::<anyhow::Result<_>>()?;
    let models: Vec<Value> = admin.get("/api/v1/models").await?;
    if !models.iter().any(|model| model["code"] == AGENT_MODEL) {
        let _: Value = admin.post("/api/v1/models", &json!({"code": AGENT_MODEL, "name": AGENT_MODEL})).await?;
    }
    let me: Value = admin.get("/api/v1/me").await?;
    let organization: Value = admin.get(&format!("/api/v1/organizations/{}", number(&me, "organization_id")?)).await?;
    let organization = text(&organization, "short_code")?;
    let registrations: Vec<_> = terminals.iter().map(|terminal| Registration::of(terminal, &organization)).collect();
    register::import(admin, &registrations).await?;
    let ids = register::ids(admin, &format!("L{run}")).await?;
    let ids: Vec<i64> = ids.into_values().collect();
    let codes = register::activation_codes(admin, &ids).await?;
    let mut fleet = Fleet::new(client, terminals, Download::FirstRange);
    fleet.enrol(&codes).await?;
    Ok(fleet)
}
