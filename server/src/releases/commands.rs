//! What the command line does with releases, on the server's machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use futures_util::TryStreamExt;
use serde::Serialize;
use tillward_protocol::trust::TARGET_BYTES_MAX;
use tokio::io::AsyncReadExt;

use super::{Author, NewRelease, Release, ReleaseError};
use crate::blobs::{BlobError, Blobs, Stored};
use crate::clock::Now;
use crate::db::Db;
use crate::signing::Signing;
use crate::signing::gate::Files;

/// Bytes read from a file at a time.
const READ_BYTES: usize = 256 * 1024;
/// Largest metadata file that [`verify`] reads over HTTP, bytes (the verifier's own largest limit).
const METADATA_BYTES_MAX: usize = 5_000_000;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// A file.
    #[error("cannot read {path}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The release was refused.
    #[error("the release was refused")]
    Release(#[from] ReleaseError),
    /// The repository does not hold.
    #[error("the repository does not verify")]
    Refused(#[from] sigstore_tuf::Error),
}

/// Stores a file as a payload and makes a draft of it; `new.sha256` is filled in here.
///
/// # Errors
/// The file, storage, a refused field.
pub async fn add_file(
    db: &Db,
    signing: &Signing,
    author: &Author,
    file: &Path,
    mut new: NewRelease,
    now: Now,
) -> Result<Release, CommandError> {
    let stored = store_file(&signing.blobs, file).await?;
    new.sha256 = stored.sha256.to_string();
    Ok(super::create(db, signing, author, new, now).await?)
}

async fn store_file(blobs: &Blobs, path: &Path) -> Result<Stored, CommandError> {
    let failed = |source| CommandError::File { path: path.to_owned(), source };
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    let chunks = futures_util::stream::try_unfold(file, |mut file| async move {
        let mut chunk = bytes::BytesMut::with_capacity(READ_BYTES);
        match file.read_buf(&mut chunk).await? {
            0 => Ok::<_, std::io::Error>(None),
            _ => Ok(Some((chunk.freeze(), file))),
        }
    });
    let stored = blobs.put_stream(Box::pin(chunks.into_stream()), TARGET_BYTES_MAX).await;
    stored.map_err(|error| match error {
        BlobError::Body(problem) => failed(std::io::Error::other(problem)),
        other => ReleaseError::from(other).into(),
    })
}

/// What [`verify`] found in a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Version of the root that signs now.
    pub root_version: u64,
    /// Version of the timestamp.
    pub timestamp_version: u64,
    /// When the timestamp ends.
    pub timestamp_expires: String,
    /// Every listed file with its digest.
    pub targets: BTreeMap<String, String>,
}

/// Walks a repository with the terminals' verifier, from a trusted root: a folder with metadata files, or the `http://`
/// address of such a folder.
///
/// # Errors
/// What a terminal would refuse, or a file or address that cannot be read.
pub async fn verify(source: &str, trusted_root: &Path, now: Now) -> Result<Verified, CommandError> {
    tillward_protocol::crypto::install();
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| CommandError::File { path, source }
    };
    let root = std::fs::read(trusted_root).map_err(failed(trusted_root))?;
    let mut updater = if source.starts_with("http://") || source.starts_with("https://") {
        let http = Http { base: source.trim_end_matches('/').to_owned(), client: reqwest::Client::new() };
        sigstore_tuf::Updater::new(http, &root)?
    } else {
        let folder = Path::new(source);
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(folder).map_err(failed(folder))? {
            let path = entry.map_err(failed(folder))?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                files.insert(name, std::fs::read(&path).map_err(failed(&path))?);
            }
        }
        sigstore_tuf::Updater::new(Files::new(files), &root)?
    };
    walk(&mut updater, now).await
}

async fn walk(updater: &mut sigstore_tuf::Updater, now: Now) -> Result<Verified, CommandError> {
    let at = jiff::Timestamp::from_second(now.seconds()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    updater.refresh(at).await?;
    // Looking up a name below each delegated path makes the verifier fetch and check that role.
    let roles: Vec<String> = delegated(updater, "targets");
    let mut targets = listed(updater, "targets");
    for role in roles {
        let probe = format!("{}.-", role.trim_start_matches("fw-"));
        updater.get_target_info(&probe, at).await?;
        targets.extend(listed(updater, &role));
    }
    let trusted = updater.trusted();
    let timestamp = trusted.timestamp();
    Ok(Verified {
        root_version: trusted.root().version,
        timestamp_version: timestamp.map_or(0, |timestamp| timestamp.version),
        timestamp_expires: timestamp.map(|timestamp| timestamp.expires.to_string()).unwrap_or_default(),
        targets,
    })
}

fn delegated(updater: &sigstore_tuf::Updater, role: &str) -> Vec<String> {
    let block = updater.trusted().targets_role(role).and_then(|targets| targets.delegations.as_ref());
    block.into_iter().flat_map(|block| &block.roles).map(|role| role.name.clone()).collect()
}

fn listed(updater: &sigstore_tuf::Updater, role: &str) -> BTreeMap<String, String> {
    let targets = updater.trusted().targets_role(role).into_iter().flat_map(|role| &role.targets);
    targets.map(|(name, file)| (name.clone(), file.hashes.get("sha256").cloned().unwrap_or_default())).collect()
}

/// A repository over HTTP, for the command line.
struct Http {
    base: String,
    client: reqwest::Client,
}

impl Http {
    async fn fetch(&self, name: &str, max_length: u64) -> sigstore_tuf::Result<Option<Vec<u8>>> {
        let url = format!("{}/{name}", self.base);
        let failed = |error: reqwest::Error| sigstore_tuf::Error::transport_with_source(url.clone(), error);
        let mut response = self.client.get(&url).send().await.map_err(failed)?;
        match response.status().as_u16() {
            200 => {}
            403 | 404 => return Ok(None),
            status => return Err(sigstore_tuf::Error::transport(format!("{url} answers {status}"))),
        }
        let limit = usize::try_from(max_length).unwrap_or(METADATA_BYTES_MAX).min(METADATA_BYTES_MAX);
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > limit {
                return Err(sigstore_tuf::Error::transport(format!("{url} is longer than {limit} bytes")));
            }
        }
        Ok(Some(bytes))
    }
}

impl sigstore_tuf::Repository for Http {
    fn fetch_metadata<'a>(&'a self, name: &'a str, max_length: u64) -> sigstore_tuf::transport::FetchFuture<'a> {
        Box::pin(self.fetch(name, max_length))
    }

    fn fetch_target<'a>(&'a self, _path: &'a str, _max_length: u64) -> sigstore_tuf::transport::FetchFuture<'a> {
        Box::pin(async { Ok(None) })
    }
}
