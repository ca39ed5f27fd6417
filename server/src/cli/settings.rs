//! `tillward config …`.

use clap::Subcommand;

use crate::config::{Config, ConfigError};

/// What to do with the settings.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Says whether the settings are valid.
    Check,
    /// Prints the settings in force, secrets masked.
    Print,
}

/// Runs one command.
///
/// # Errors
/// The first setting that is wrong.
pub fn run(config: Result<Config, ConfigError>, command: &Command) -> anyhow::Result<()> {
    let config = config?;
    match command {
        Command::Check => println!("the settings are valid"),
        Command::Print => print!("{}", toml::to_string(&config.masked())?),
    }
    Ok(())
}
