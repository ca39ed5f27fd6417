//! `tillward release …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::runtime;
use crate::blobs::Blobs;
use crate::clock::Now;
use crate::config::{Config, ConfigError};
use crate::db::Db;
use crate::releases::{self, Author, NewRelease};
use crate::signing::{Signing, samples};

/// What to do with releases.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Makes a draft of a payload file; it is approved and published in the console or by REST.
    Add(Add),
    /// Walks a repository with the terminals' own verifier.
    Verify {
        /// Folder with metadata files, or the address of one.
        source: String,
        /// The trusted root to start from.
        #[arg(long, value_name = "FILE")]
        root: PathBuf,
    },
    /// Writes the sample firmware with good and bad repositories, always the same bytes.
    Samples {
        /// Folder to write to.
        #[arg(long, value_name = "DIR", default_value = "firmware-samples")]
        out: PathBuf,
    },
}

/// A draft from a file.
#[derive(Debug, Clone, Args)]
pub struct Add {
    /// The payload.
    file: PathBuf,
    /// Model it fits; may be given more than once.
    #[arg(long, required = true)]
    model: Vec<String>,
    /// Version that runs after the installation.
    #[arg(long)]
    version: String,
    /// Higher than that of every earlier release.
    #[arg(long)]
    counter: i64,
    /// Component.
    #[arg(long, default_value = "os")]
    component: String,
    /// Name for people.
    #[arg(long, default_value = "")]
    name: String,
}

/// Runs one command; the settings are only needed by `add`.
///
/// # Errors
/// What was refused, as a sentence.
pub fn run(config: impl FnOnce() -> Result<Config, ConfigError>, command: Command, now: Now) -> anyhow::Result<()> {
    tillward_protocol::crypto::install();
    // A second call finds the provider already there.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match command {
        Command::Add(add) => {
            let config = config()?;
            let db = Db::open(&config.database())?;
            runtime()?.block_on(async {
                let (location, s3) = config.blobs()?;
                let signing = Signing::open(Blobs::open(&location, &s3)?, &config.data_dir, config.mode, now).await?;
                let author = Author::system(&db, "tillward release").await?;
                let new = NewRelease {
                    name: add.name,
                    notes: String::new(),
                    component: add.component,
                    firmware_version: add.version,
                    release_counter: add.counter,
                    models: add.model,
                    min_from_counter: None,
                    requires: Vec::new(),
                    sha256: String::new(),
                };
                let release = releases::add_file(&db, &signing, &author, &add.file, new, now).await?;
                println!("draft {}: {} bytes, sha256 {}", release.id, release.length_bytes, release.sha256);
                Ok(())
            })
        }
        Command::Verify { source, root } => {
            let verified = runtime()?.block_on(releases::verify(&source, &root, now))?;
            println!("{}", serde_json::to_string_pretty(&verified)?);
            Ok(())
        }
        Command::Samples { out } => {
            let files = samples::write(&out)?;
            println!("{files} files in {}", out.display());
            Ok(())
        }
    }
}
