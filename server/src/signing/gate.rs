//! The publish gate: before anything is visible, the terminals' own verifier must accept it.
//!
//! A client that stands at the published state walks to the staged one, in memory, and looks up what was added and what
//! was withdrawn. What it refuses is not published, whoever signed it.

use std::collections::BTreeMap;

use serde_json::Value;
use sigstore_tuf::transport::FetchFuture;
use sigstore_tuf::{MemoryStore, MetadataStore, Repository, Updater};
use tillward_protocol::ids::TargetName;

use super::document::TargetEntry;

/// A repository in memory: metadata files by their published names.
#[derive(Debug, Clone, Default)]
pub struct Files(BTreeMap<String, Vec<u8>>);

impl Files {
    /// A repository of these files.
    pub fn new(files: BTreeMap<String, Vec<u8>>) -> Self {
        Self(files)
    }
}

impl Repository for Files {
    fn fetch_metadata<'a>(&'a self, name: &'a str, max_length: u64) -> FetchFuture<'a> {
        let found = self.0.get(name).cloned();
        Box::pin(async move {
            match found {
                Some(bytes) if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > max_length => {
                    Err(sigstore_tuf::Error::transport(format!("{name} is longer than {max_length} bytes")))
                }
                other => Ok(other),
            }
        })
    }

    fn fetch_target<'a>(&'a self, _path: &'a str, _max_length: u64) -> FetchFuture<'a> {
        Box::pin(async { Ok(None) })
    }
}

/// What is about to become visible. Files go by their unversioned names (`timestamp.json`, `fw-….json`).
#[derive(Debug, Default)]
pub struct Staged {
    /// The root that clients trust now.
    pub root: Vec<u8>,
    /// What clients hold now; empty before the first publication.
    pub before: BTreeMap<String, Vec<u8>>,
    /// What they shall hold.
    pub after: BTreeMap<String, Vec<u8>>,
    /// How many abandoned versions a file jumps over.
    pub orphans: BTreeMap<String, u64>,
    /// Entries that must be found, word for word.
    pub present: Vec<TargetEntry>,
    /// Names that must not be found.
    pub absent: Vec<TargetName>,
}

/// Why the gate stays shut.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The verifier refuses the staged repository.
    #[error("the terminals' verifier refuses the staged repository")]
    Refused(#[from] sigstore_tuf::Error),
    /// A target is not what was to be published.
    #[error("the staged repository does not list {0} as it was released")]
    Missing(TargetName),
    /// A withdrawn target is still there.
    #[error("the staged repository still lists {0}")]
    StillListed(TargetName),
    /// A version that is not the next one.
    #[error("{name} goes from version {from} to {to}")]
    Step {
        /// File name.
        name: String,
        /// Version that is published.
        from: u64,
        /// Version that is staged.
        to: u64,
    },
    /// One key under two names would count twice.
    #[error("role {0} has one key under two key ids")]
    KeyTwice(String),
}

/// Runs the verifier over `staged` at `now`.
///
/// # Errors
/// The first thing a terminal would refuse.
pub async fn check(staged: &Staged, now: jiff::Timestamp) -> Result<(), GateError> {
    tillward_protocol::crypto::install();
    distinct_keys(staged)?;
    let files = published_names(staged)?;
    let store = MemoryStore::default();
    for (name, bytes) in &staged.before {
        store.store(name, bytes)?;
    }
    let mut updater = Updater::new(Files::new(files), &staged.root)?.with_store(store);
    updater.refresh(now).await?;
    for entry in &staged.present {
        let found = updater.get_target_info(entry.name.as_str(), now).await?;
        let found = found.ok_or_else(|| GateError::Missing(entry.name.clone()))?;
        let listed = serde_json::json!({"length": found.length, "hashes": found.hashes, "custom": found.custom});
        if listed != entry.image_json() {
            return Err(GateError::Missing(entry.name.clone()));
        }
    }
    for name in &staged.absent {
        if updater.get_target_info(name.as_str(), now).await?.is_some() {
            return Err(GateError::StillListed(name.clone()));
        }
    }
    Ok(())
}

/// The staged files as clients will ask for them, each exactly one version on or not changed at all.
fn published_names(staged: &Staged) -> Result<BTreeMap<String, Vec<u8>>, GateError> {
    let version = |bytes: Option<&Vec<u8>>| -> u64 {
        let file = bytes.and_then(|bytes| serde_json::from_slice::<Value>(bytes).ok());
        file.and_then(|file| file["signed"]["version"].as_u64()).unwrap_or(0)
    };
    let mut files = BTreeMap::new();
    for (name, bytes) in &staged.after {
        let before = staged.before.get(name);
        let (from, to) = (version(before), version(Some(bytes)));
        let expected = from + 1 + staged.orphans.get(name).copied().unwrap_or(0);
        if before != Some(bytes) && to != expected {
            return Err(GateError::Step { name: name.clone(), from, to });
        }
        let published = if name == "timestamp.json" { name.clone() } else { format!("{to}.{name}") };
        files.insert(published, bytes.clone());
    }
    Ok(files)
}

/// The verifier counts by key id; a role that lists equal key bytes twice would reach a threshold with one key.
fn distinct_keys(staged: &Staged) -> Result<(), GateError> {
    for bytes in staged.after.values().chain([&staged.root]) {
        let Ok(file) = serde_json::from_slice::<Value>(bytes) else { continue };
        let signed = &file["signed"];
        let top = signed["roles"].as_object().into_iter().flatten().map(|(name, role)| (name.as_str(), role));
        let delegated = signed["delegations"]["roles"].as_array().into_iter().flatten();
        let delegated = delegated.map(|role| (role["name"].as_str().unwrap_or_default(), role));
        let blocks =
            [(&signed["keys"], top.collect::<Vec<_>>()), (&signed["delegations"]["keys"], delegated.collect())];
        for (keys, roles) in blocks {
            for (name, role) in roles {
                let ids = role["keyids"].as_array().into_iter().flatten().filter_map(Value::as_str);
                let mut seen: Vec<String> =
                    ids.filter_map(|id| keys[id]["keyval"]["public"].as_str()).map(str::to_ascii_lowercase).collect();
                let all = seen.len();
                seen.sort_unstable();
                seen.dedup();
                if seen.len() < all {
                    return Err(GateError::KeyTwice(name.to_owned()));
                }
            }
        }
    }
    Ok(())
}
