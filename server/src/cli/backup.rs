//! `tillward backup` and `tillward restore`: database and firmware, with hashes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};
use tillward_protocol::ids::Sha256Hex;

use crate::blobs::UPLOADS;
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
    // The database first: payloads are never removed, so the copy has every file that the database names.
    db::copy_sqlite(&database, &backup.to.join(DATABASE))?;
    let blobs = config.data_dir.join(BLOBS);
    if config.blobs_url.is_none() && blobs.is_dir() {
        copy_folder(&blobs, &backup.to.join(BLOBS))?;
    }
    let manifest = Manifest { version: env!("CARGO_PKG_VERSION").to_owned(), files: digests(&backup.to)? };
    std::fs::write(backup.to.join(MANIFEST), serde_json::to_vec_pretty(&manifest)?)?;
    println!("{} files in {}", manifest.files.len(), backup.to.display());
    if config.blobs_url.is_some() {
        println!("firmware is in the configured object store; copy it with that store's own tools");
    }
    println!("keys are not part of a backup; keep {} elsewhere", config.secrets_key().display());
    println!("without it the addresses of alert channels have to be entered again");
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
    // What a log of another database holds would be written into this one.
    for suffix in ["", "-wal", "-shm"] {
        let file = PathBuf::from(format!("{}{suffix}", database.display()));
        ensure!(!file.exists(), "{} exists; move it away first", file.display());
    }
    let blobs = config.data_dir.join(BLOBS);
    ensure!(!blobs.exists(), "{} exists; move it away first", blobs.display());
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

/// Copies a folder but for the uploads in it: they are not finished, and come and go meanwhile.
fn copy_folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if !entry.file_type()?.is_dir() {
            std::fs::copy(&source, &target).with_context(|| format!("cannot copy {}", source.display()))?;
        } else if entry.file_name() != UPLOADS {
            copy_folder(&source, &target)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::Db;

    fn config(folder: &Path) -> Config {
        Config { data_dir: folder.to_owned(), ..Config::default() }
    }

    /// A server's folder with a database, a payload and half an upload.
    fn data() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        Db::open(&config(folder.path()).database()).unwrap();
        for (name, text) in [("blobs/abc", "payload"), ("uploads/half#1", "half")] {
            let path = folder.path().join(BLOBS).join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    #[test]
    fn a_backup_holds_database_and_payloads_and_is_put_back_only_where_nothing_is() {
        let (data, place) = (data(), tempfile::tempdir().unwrap());
        let to = place.path().join("backup");
        back_up(&config(data.path()), &Backup { to: to.clone() }).unwrap();
        assert!(back_up(&config(data.path()), &Backup { to: to.clone() }).is_err(), "the folder is not empty");
        let names: Vec<String> = digests(&to).unwrap().into_keys().collect();
        assert_eq!(names, ["blobs/blobs/abc", DATABASE]);
        let put_back = |folder: &Path| restore(&config(folder), &Restore { from: to.clone(), verify: false });
        let refused = put_back(data.path()).unwrap_err().to_string();
        assert!(refused.contains("move it away first"), "{refused}");
        for left_behind in ["tillward.sqlite3-wal", "tillward.sqlite3-shm", "blobs"] {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join(left_behind), "of another database").unwrap();
            let refused = put_back(folder.path()).unwrap_err().to_string();
            assert!(refused.contains(left_behind), "{refused}");
        }
        let anew = tempfile::tempdir().unwrap();
        put_back(anew.path()).unwrap();
        assert_eq!(std::fs::read(anew.path().join("blobs/blobs/abc")).unwrap(), b"payload");
        Db::open(&config(anew.path()).database()).unwrap();
        std::fs::write(to.join("blobs/blobs/abc"), "changed").unwrap();
        let refused = put_back(tempfile::tempdir().unwrap().path()).unwrap_err().to_string();
        assert!(refused.contains("differs"), "{refused}");
    }

    #[test]
    fn the_database_is_copied_before_the_files_that_it_names() {
        let (data, place) = (data(), tempfile::tempdir().unwrap());
        // Stops the copying of files.
        std::os::unix::fs::symlink("nowhere", data.path().join(BLOBS).join("dangling")).unwrap();
        assert!(back_up(&config(data.path()), &Backup { to: place.path().to_owned() }).is_err());
        assert!(place.path().join(DATABASE).is_file());
    }
}
