//! The `tillward` program: the server and its tools.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tillward_server::app::Server;
use tillward_server::clock::Clock;
use tillward_server::config::Config;
use tillward_server::simulate::command::{self, SimulateArgs};
use tillward_server::simulate::demo::{self, DemoArgs};

#[derive(Parser)]
#[command(name = "tillward", version, about = "Fleet management and signed updates for payment terminals.")]
struct Cli {
    /// Settings file; each setting can also be given as TILLWARD_<NAME> in the environment.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the server.
    Serve,
    /// Shows everything at once: a server, a simulated fleet, real agents, an update with a fault.
    Demo(DemoArgs),
    /// Drives load against a server.
    Simulate(SimulateArgs),
}

fn main() -> ExitCode {
    // The agent reads its own arguments.
    if std::env::args_os().nth(1).is_some_and(|word| word == "agent") {
        return tillward_agent::cli(std::env::args_os().skip(2));
    }
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tillward: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let config = Config::load(cli.config.as_deref(), |name| std::env::var(name).ok())?;
    match cli.command {
        Command::Serve => actix_web::rt::System::new().block_on(async {
            let server = Server::start(config, Clock::system()).await?;
            println!("listening on {}", server.url);
            server.run().await
        }),
        Command::Demo(args) => actix_web::rt::System::new().block_on(demo::run(args)),
        Command::Simulate(args) => actix_web::rt::System::new().block_on(command::run(args)),
    }
}
