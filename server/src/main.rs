//! The `tillward` program: the server and its tools.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tillward_server::app::Server;
use tillward_server::clock::Clock;
use tillward_server::config::Config;

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
}

fn main() -> ExitCode {
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
    }
}
