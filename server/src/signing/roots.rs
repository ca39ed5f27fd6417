//! The chain of trust roots of one repository: made on the first start, renewed before it ends, never replaced.

use super::document::{self, Document, DocumentError};
use super::keys::{KeyRole, RoleKeys};
use crate::blobs::{BlobError, Blobs};

/// Longest chain that is walked at start: a root a year lasts longer than any terminal.
const ROOTS_MAX: u64 = 1024;

/// Why there is no trust root to work with.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// The stored root names other keys than this server holds.
    #[error("{0} names other keys than this server holds; restore the key folder that belongs to this storage")]
    Foreign(String),
    /// The chain does not end.
    #[error("{0} holds more than {ROOTS_MAX} roots")]
    Endless(String),
    /// Reading or building a root.
    #[error("signing")]
    Document(#[from] DocumentError),
    /// Storage.
    #[error("storage")]
    Blob(#[from] BlobError),
}

/// Name of a root file.
fn key(folder: &str, version: u64) -> String {
    format!("{folder}/{version}.root.json")
}

/// Reads the newest root in `folder`.
///
/// # Errors
/// Storage, a damaged root.
pub async fn newest(blobs: &Blobs, folder: &str) -> Result<Option<Document>, RootError> {
    let mut found: Option<(String, bytes::Bytes)> = None;
    for version in 1..=ROOTS_MAX {
        let Some(read) = blobs.document(&key(folder, version)).await? else {
            return Ok(found.map(|(name, bytes)| Document::parse(&name, bytes)).transpose()?);
        };
        found = Some((key(folder, version), read.bytes));
    }
    Err(RootError::Endless(folder.to_owned()))
}

/// The newest root in `folder`: made if there is none, followed by a new one if it has less than half of its life left.
///
/// Two servers that start at once agree: one creates the file, the other reads it.
///
/// # Errors
/// [`RootError::Foreign`] when the stored root belongs to other keys; storage.
pub async fn ensure(
    blobs: &Blobs,
    folder: &str,
    keys: &RoleKeys,
    build: &impl Fn(u64, i64) -> Result<Vec<u8>, DocumentError>,
    now_s: i64,
) -> Result<Document, RootError> {
    let newest_root = newest(blobs, folder).await?;
    let version = match &newest_root {
        Some(root) if !root.is_worn(KeyRole::ImageRoot, now_s) => return own(root.clone(), folder, keys),
        Some(root) => own(root.clone(), folder, keys)?.version + 1,
        None => 1,
    };
    let bytes = build(version, now_s.saturating_add(KeyRole::ImageRoot.life_s()))?;
    match blobs.create(&key(folder, version), bytes.into()).await {
        Ok(()) | Err(BlobError::Exists(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let made = newest(blobs, folder).await?.ok_or_else(|| DocumentError::Damaged(key(folder, version)))?;
    own(made, folder, keys)
}

/// A root is ours if it names exactly our root keys.
fn own(root: Document, folder: &str, keys: &RoleKeys) -> Result<Document, RootError> {
    let named: Vec<&str> =
        root.signed["roles"]["root"]["keyids"].as_array().into_iter().flatten().filter_map(|id| id.as_str()).collect();
    let held = keys.keys.iter().map(document::keyid).collect::<Result<Vec<String>, _>>()?;
    if named.len() == held.len() && held.iter().all(|id| named.contains(&id.as_str())) {
        return Ok(root);
    }
    Err(RootError::Foreign(key(folder, root.version)))
}
