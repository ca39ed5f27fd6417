//! `tillward keys …`.

use clap::Subcommand;

use super::runtime;
use crate::blobs::Blobs;
use crate::clock::Now;
use crate::config::Config;
use crate::db::Db;
use crate::signing::Signing;
use crate::vault;

/// What to do with keys.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Lists the keys at hand, each with its role, id and custody; in quick-start mode makes them first, as the server's
    /// first start does. Never prints a private part.
    Report,
    /// Gives up what is sealed under a key that is lost: the next start makes a new key. Alert channels must then be made
    /// anew; the server must not run meanwhile.
    RenewSecrets,
}

/// Runs one command.
///
/// # Errors
/// When storage or keys cannot be read.
pub fn run(config: &Config, command: &Command, now: Now) -> anyhow::Result<()> {
    match command {
        Command::Report => report(config, now),
        Command::RenewSecrets => renew_secrets(config),
    }
}

fn report(config: &Config, now: Now) -> anyhow::Result<()> {
    tillward_protocol::crypto::install();
    let (location, s3) = config.blobs()?;
    let blobs = Blobs::open(&location, &s3)?;
    let signing = runtime()?.block_on(Signing::open(blobs, &config.data_dir, config.mode, now))?;
    println!("{}", serde_json::to_string_pretty(&signing.report()?)?);
    Ok(())
}

fn renew_secrets(config: &Config) -> anyhow::Result<()> {
    let file = config.secrets_key();
    anyhow::ensure!(!file.exists(), "{} is there; move it away first if it is not the right one", file.display());
    let db = Db::open(&config.database())?;
    let was_known = runtime()?.block_on(vault::forget(&db))?;
    println!("{}", if was_known { "the next start makes a new key" } else { "there was no key yet" });
    Ok(())
}
