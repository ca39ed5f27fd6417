//! The `tillward` program: the server and its tools.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tillward_server::cli;
use tillward_server::clock::Clock;
use tillward_server::config::Config;
use tillward_server::simulate::bench::{self, feed, planner};
use tillward_server::simulate::command::{self, SimulateArgs};
use tillward_server::simulate::demo::{self, DemoArgs};

/// The server takes and frees many small buffers on several threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The allocator's delay before it gives freed memory back, ms. It reads that before `main`, from the environment alone.
const PURGE_DELAY: &str = "MIMALLOC_PURGE_DELAY";
/// Its own second is so long that what a large import freed stays until the same threads are busy again.
const PURGE_DELAY_MS: &str = "10";

#[derive(Parser)]
#[command(name = "tillward", version, about = "Fleet management and signed updates for payment terminals.")]
struct Cli {
    /// Settings file; each setting can also be given as `TILLWARD_NAME` in the environment.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the server until it is told to stop (SIGINT or SIGTERM).
    Serve,
    /// Shows everything at once: a server, a simulated fleet, real agents, an update with a fault.
    Demo(DemoArgs),
    /// Drives load against a server.
    Simulate(SimulateArgs),
    /// Judges past rollouts again, from a file of their events.
    Gate(cli::gate::GateArgs),
    /// Names the conditions that explain the failures in a table of counts.
    Explain(cli::explain::ExplainArgs),
    /// Measures this machine.
    #[command(subcommand)]
    Bench(Bench),
    /// Accounts, without the console.
    #[command(subcommand)]
    Operator(cli::operator::Command),
    /// The audit log.
    #[command(subcommand)]
    Audit(cli::audit::Command),
    /// The database's schema.
    Migrate(cli::migrate::Migrate),
    /// Copies database and firmware into a folder while the server runs.
    Backup(cli::backup::Backup),
    /// Puts a backup back; the server must be stopped.
    Restore(cli::backup::Restore),
    /// The settings.
    #[command(subcommand)]
    Config(cli::settings::Command),
    /// Signed releases.
    #[command(subcommand)]
    Release(cli::release::Command),
    /// The keys that sign.
    #[command(subcommand)]
    Keys(cli::keys::Command),
}

#[derive(Subcommand)]
enum Bench {
    /// A channel's file: taken in, taken in again, compared.
    Feed {
        /// Rows of the file, 200,000 at most.
        #[arg(long, default_value_t = 100_000)]
        rows: i64,
        /// URL of a PostgreSQL server to measure as well; a database is made there and dropped.
        #[arg(long)]
        postgres: Option<String>,
        /// One JSON array instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Durable check-ins against a bare handler, in one run.
    CheckIn {
        /// Connections of the generator.
        #[arg(long, default_value_t = 256)]
        connections: usize,
        /// Length of each part, s.
        #[arg(long, default_value_t = 5)]
        seconds: u64,
        /// Times that both servers are driven in turn.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// Terminals that check in.
        #[arg(long, default_value_t = 10_000)]
        terminals: usize,
        /// An empty PostgreSQL database to measure as well.
        #[arg(long, value_name = "URL")]
        postgres: Option<String>,
        /// Measures a SQLite server without cohort cells beside it: what they cost.
        #[arg(long)]
        without_cells: bool,
        /// Prints one JSON object instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// A rollout over a large fleet beside that fleet's check-ins, in one run.
    Planner {
        /// Terminals of the fleet.
        #[arg(long, default_value_t = 1_000_000)]
        terminals: i64,
        /// Length of the parts in which nothing is waited for, s.
        #[arg(long, default_value_t = 10)]
        seconds: u64,
        /// Connections of the generator.
        #[arg(long, default_value_t = 256)]
        connections: usize,
        /// A PostgreSQL server to measure as well; a database is made there and dropped.
        #[arg(long, value_name = "URL")]
        postgres: Option<String>,
        /// Leaves SQLite out.
        #[arg(long, requires = "postgres")]
        postgres_only: bool,
        /// Prints one JSON object instead of tables.
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    // The agent reads its own arguments.
    if std::env::args_os().nth(1).is_some_and(|word| word == "agent") {
        return tillward_agent::cli(std::env::args_os().skip(2));
    }
    let cli = Cli::parse();
    if matches!(cli.command, Command::Serve) && std::env::var_os(PURGE_DELAY).is_none() {
        start_anew();
    }
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tillward: {error:#}");
            // The same status as for arguments that cannot be read.
            if error.is::<cli::gate::Unreadable>() { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

/// Replaces this program by itself, in the same process, with the allocator's delay set. Where that cannot be done it goes on
/// as it is, and needs some more memory.
fn start_anew() {
    #[cfg(unix)]
    if let Ok(program) = std::env::current_exe() {
        use std::os::unix::process::CommandExt;
        let mut again = std::process::Command::new(program);
        let error = again.args(std::env::args_os().skip(1)).env(PURGE_DELAY, PURGE_DELAY_MS).exec();
        eprintln!("tillward: needs some more memory, because it cannot start itself anew: {error}");
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let config = || Config::load(cli.config.as_deref(), |name| std::env::var(name).ok());
    let clock = Clock::system();
    match cli.command {
        Command::Serve => cli::serve::run(config()?, clock),
        Command::Bench(Bench::CheckIn { connections, seconds, rounds, terminals, postgres, without_cells, json }) => {
            let options = bench::Options { connections, seconds, rounds, terminals, postgres, without_cells };
            cli::bench::run(&options, json)
        }
        Command::Bench(Bench::Planner { terminals, seconds, connections, postgres, postgres_only, json }) => {
            let options = planner::Options { terminals, seconds, connections, postgres, postgres_only };
            cli::bench::run_planner(&options, json)
        }
        Command::Bench(Bench::Feed { rows, postgres, json }) => {
            cli::bench::run_feed(&feed::Options { rows, postgres }, json)
        }
        Command::Gate(args) => cli::gate::run(&args, &mut std::io::stdout().lock()),
        Command::Explain(args) => cli::explain::run(&args, &mut std::io::stdout().lock()),
        Command::Operator(command) => cli::with_database(&config()?, async |db| {
            cli::operator::run(&db, command, std::io::stdin(), &mut std::io::stdout(), clock.now()).await
        }),
        Command::Audit(command) => cli::with_database(&config()?, async |db| cli::audit::run(&db, command).await),
        Command::Migrate(migrate) => cli::migrate::run(&config()?, &migrate),
        Command::Backup(backup) => cli::backup::back_up(&config()?, &backup),
        Command::Restore(restore) => cli::backup::restore(&config()?, &restore),
        Command::Config(command) => cli::settings::run(config(), &command),
        Command::Release(command) => cli::release::run(config, command, clock.now()),
        Command::Keys(command) => cli::keys::run(&config()?, &command, clock.now()),
        Command::Demo(args) => actix_web::rt::System::new().block_on(demo::run(args)),
        Command::Simulate(args) => actix_web::rt::System::new().block_on(command::run(args)),
    }
}
