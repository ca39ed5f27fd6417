//! `tillward keys …`.

use clap::Subcommand;

use super::runtime;
use crate::blobs::Blobs;
use crate::clock::Now;
use crate::config::Config;
use crate::signing::Signing;

/// What to do with keys.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Lists the keys at hand, each with its role, id and custody; in quick-start mode makes them first, as the server's
    /// first start does. Never prints a private part.
    Report,
}

/// Runs one command.
///
/// # Errors
/// When storage or keys cannot be read.
pub fn run(config: &Config, command: &Command, now: Now) -> anyhow::Result<()> {
    let Command::Report = command;
    tillward_protocol::crypto::install();
    let (location, s3) = config.blobs()?;
    let blobs = Blobs::open(&location, &s3)?;
    let signing = runtime()?.block_on(Signing::open(blobs, &config.data_dir, config.mode, now))?;
    println!("{}", serde_json::to_string_pretty(&signing.report()?)?);
    Ok(())
}
