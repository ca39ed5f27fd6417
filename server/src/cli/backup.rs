//! `tillward backup` and `tillward restore`: database and firmware, with hashes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};
use tillward_protocol::ids::Sha256Hex;

use crate::config::Config;
use crate::db::{self, Location};

/// Name of the list of files with their digests.
const MANIFEST: &str = "backup.json";
/// Name of the database's copy.
const DATABASE: &str = "tillward.sqlite3";
/// Name of the folder with firmware and metadata.
const BLOBS: &str = "blobs";

/// Copies SQLite database and local firmware while the server runs.
#[derive(Debug, Clone, Args)]
pub struct Backup {
    /// An empty or new folder.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

/// Puts a backup into the configured, empty data folder.
#[derive(Debug, Clone, Args)]
pub struct Restore {
    /// The folder that `backup` wrote.
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// Only checks that the backup is whole.
    #[arg(long)]
    verify: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    version: String,
    /// Digest by path within the backup.
    files: BTreeMap<String, Sha256Hex>,
}

/// Writes a backup.
///
/// # Errors
/// When the data is elsewhere than on this machine, or a file cannot be written.
pub fn back_up(config: &Config, backup: &Backup) -> anyhow::Result<()> {
    let database = sqlite_file(config)?;
    std::fs::create_dir_all(&backup.to).with_context(|| format!("cannot create {}", backup.to.display()))?;
    let is_empty = std::fs::read_dir(&backup.to)?.next().is_none();
    ensure!(is_empty, "{} is not empty; name a new folder", backup.to.display());
    // Firmware first: the database must not name a file that the copy lacks.
    let blobs = config.data_dir.join(BLOBS);
    if config.blobs_url.is_none() && blobs.is_dir() {
        copy_folder(&blobs, &backup.to.join(BLOBS))?;
    }
    db::copy_sqlite(&database, &backup.to.join(DATABASE))?;
    let manifest = Manifest { version: env!("CARGO_PKG_VERSION").to_owned(), files: digests(&backup.to)? };
    std::fs::write(backup.to.join(MANIFEST), serde_json::to_vec_pretty(&manifest)?)?;
    println!("{} files in {}", manifest.files.len(), backup.to.display());
    if config.blobs_url.is_some() {
        println!("firmware is in the configured object store; copy it with that store's own tools");
    }
    println!("keys are not part of a backup");
    Ok(())
}

/// Checks a backup and, unless asked only for that, puts it back.
///
/// # Errors
/// A file that is missing or differs, or a data folder that holds data already.
pub fn restore(config: &Config, restore: &Restore) -> anyhow::Result<()> {
    let bytes = std::fs::read(restore.from.join(MANIFEST))
        .with_context(|| format!("{} holds no backup", restore.from.display()))?;
    let manifest: Manifest = serde_json::from_slice(&bytes)?;
    let found = digests(&restore.from)?;
    for (path, digest) in &manifest.files {
        match found.get(path) {
            None => bail!("the backup lacks {path}"),
            Some(other) if other != digest => bail!("{path} differs from what was backed up"),
            Some(_) => {}
        }
    }
    if restore.verify {
        println!("the backup is whole: {} files", manifest.files.len());
        return Ok(());
    }
    let database = sqlite_file(config)?;
    ensure!(!database.exists(), "{} exists; move it away first", database.display());
    std::fs::create_dir_all(&config.data_dir)?;
    for path in manifest.files.keys() {
        let target = if path == DATABASE { database.clone() } else { config.data_dir.join(path) };
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::copy(restore.from.join(path), &target)
            .with_context(|| format!("cannot write {}", target.display()))?;
    }
    println!("{} files restored to {}", manifest.files.len(), config.data_dir.display());
    Ok(())
}

fn sqlite_file(config: &Config) -> anyhow::Result<PathBuf> {
    match config.database() {
        Location::Sqlite(path) => Ok(path),
        Location::Postgres(_) => {
            bail!("this server uses PostgreSQL; back it up with pg_dump or its continuous archive")
        }
    }
}

fn copy_folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

/// Digest of every file below `folder` but the list itself.
fn digests(folder: &Path) -> anyhow::Result<BTreeMap<String, Sha256Hex>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(current) = folders.pop() {
        for entry in std::fs::read_dir(&current)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(folder)?.to_string_lossy().into_owned();
            if name != MANIFEST {
                files.insert(name, digest_of_file(&path)?);
            }
        }
    }
    Ok(files)
}

fn digest_of_file(path: &Path) -> anyhow::Result<Sha256Hex> {
    use sha2::Digest;
    let mut hasher = sha2::Sha256::new();
    let mut file = std::fs::File::open(path)?;
    let mut block = vec![0; 1 << 20];
    loop {
        let read = std::io::Read::read(&mut file, &mut block)?;
        match block.get(..read) {
            None | Some([]) => return Ok(Sha256Hex::from_bytes(hasher.finalize().into())),
            Some(bytes) => hasher.update(bytes),
        }
    }
}
