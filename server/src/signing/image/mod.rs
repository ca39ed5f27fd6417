//! The image repository in object storage: what may run, on which model.
//!
//! Keys of objects are the paths of URLs. Every file but `timestamp.json` is created and never changed, and the timestamp
//! is written last, so a publisher that dies half way leaves clients on the old, consistent state. What it left behind is
//! jumped over by the next one. Payloads are stored once, under their digest; a published name is an empty *link* object,
//! because one payload can have a name for each of several models.

mod edition;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tillward_protocol::ids::{Sha256Hex, TargetName};

pub use edition::{Change, Edition, NextVersion, firmware_role};

use super::document::{self, Document, DocumentError, TargetEntry};
use super::gate::{self, GateError};
use super::keys::{KeyRing, KeyRole};
use super::roots::{self, RootError};
use crate::blobs::{BlobError, Blobs, Versioned, payload_key};

/// Where metadata lies, in the store and below the server's address.
pub const METADATA: &str = "tuf/image/metadata";
/// Where the links of published names lie.
const LINKS: &str = "tuf/image/links";
/// Where servers that share a bucket claim the next publication.
const CLAIMS: &str = "tuf/image/claims";
/// A claim older than this belongs to a publisher that died, ms. One that only slept fails at its conditional put.
const ABANDONED_AFTER_MS: i64 = 60_000;
/// Most dead claims on one publication.
const CLAIMS_MAX: u32 = 100;
/// Most abandoned versions that are jumped over before something is plainly wrong.
const ORPHANS_MAX: u64 = 1000;
/// Attempts to publish when another server publishes at the same moment.
const ATTEMPTS: u32 = 5;

/// Why the repository could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A document that another one pins is not there.
    #[error("the stored document {0} is missing; restore it from a backup")]
    Lost(String),
    /// The name is published with other contents.
    #[error("{0} is already published with other contents; raise the release counter")]
    Taken(TargetName),
    /// There is no key to sign with.
    #[error(
        "this server holds no signing keys (production mode): sign elsewhere and put the signed files into its storage"
    )]
    NoKeys,
    /// The payload is not stored, or has another length.
    #[error("the payload of {0} is not in storage as it was uploaded")]
    NoPayload(TargetName),
    /// Another publisher is at work.
    #[error("another server is publishing; try again in a minute")]
    Busy,
    /// Trust root.
    #[error("trust root")]
    Root(#[from] RootError),
    /// Building a document.
    #[error("signing")]
    Document(#[from] DocumentError),
    /// What terminals would refuse.
    #[error("the publish gate refused")]
    Gate(#[from] GateError),
    /// Storage.
    #[error("storage")]
    Blob(#[from] BlobError),
}

/// What a change did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Version of the timestamp that clients see now.
    pub timestamp_version: u64,
    /// Whether anything was written.
    pub is_changed: bool,
}

/// A payload that a published name leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// Key of the bytes.
    pub key: String,
    /// Their digest.
    pub sha256: Sha256Hex,
    /// Their length, bytes.
    pub length: u64,
}

/// The image repository's root document.
///
/// # Errors
/// Missing keys or a time out of the calendar.
pub fn root(keys: &KeyRing, version: u64, expires_s: i64) -> Result<Vec<u8>, DocumentError> {
    let roles = document::TopRoles {
        root: keys.role(KeyRole::ImageRoot),
        targets: keys.role(KeyRole::ImageTargets),
        snapshot: keys.role(KeyRole::ImageSnapshot),
        timestamp: keys.role(KeyRole::ImageTimestamp),
    };
    document::sign(&document::root(version, expires_s, roles, keys.custody())?, &roles.root.keys)
}

/// The image repository with the keys to change it.
#[derive(Debug)]
pub struct ImageRepository {
    blobs: Blobs,
    keys: KeyRing,
    /// One change at a time within this process.
    turn: tokio::sync::Mutex<()>,
}

/// What is published now.
struct Current {
    root: Document,
    edition: Edition,
    /// The timestamp as it was read, to be replaced.
    timestamp: Option<Versioned>,
}

impl ImageRepository {
    /// The repository in `blobs`. Its first renewal makes an empty signed one where there is none.
    pub fn new(blobs: Blobs, keys: KeyRing) -> Self {
        Self { blobs, keys, turn: tokio::sync::Mutex::default() }
    }

    /// Publishes files, all or none. Publishing the same again changes nothing.
    ///
    /// # Errors
    /// [`ImageError::NoPayload`], [`ImageError::Taken`], a refusal of the gate, storage.
    pub async fn publish(&self, entries: Vec<TargetEntry>, now_s: i64) -> Result<Published, ImageError> {
        self.needs_keys()?;
        for entry in &entries {
            let there = self.blobs.head(&payload_key(&entry.sha256)).await?;
            if there.is_none_or(|meta| meta.size != entry.length) {
                return Err(ImageError::NoPayload(entry.name.clone()));
            }
        }
        for entry in &entries {
            self.blobs.create(&link_key(&entry.sha256, &entry.name), Bytes::new()).await?;
        }
        self.change(&Change::Publish(entries), now_s).await
    }

    /// Takes files off the lists, and their links away.
    ///
    /// # Errors
    /// A refusal of the gate, storage.
    pub async fn withdraw(&self, files: &[(TargetName, Sha256Hex)], now_s: i64) -> Result<Published, ImageError> {
        let names = files.iter().map(|(name, _)| name.clone()).collect();
        let done = self.change(&Change::Withdraw(names), now_s).await?;
        for (name, sha256) in files {
            self.blobs.delete(&link_key(sha256, name)).await?;
        }
        Ok(done)
    }

    /// Signs again whatever has less than half of its life left; answers whether anything had.
    ///
    /// # Errors
    /// As [`ImageRepository::publish`].
    pub async fn renew(&self, now_s: i64) -> Result<Published, ImageError> {
        self.change(&Change::Renew, now_s).await
    }

    /// A metadata file by its published name; `None` for a name that does not exist or could not.
    ///
    /// # Errors
    /// Storage.
    pub async fn metadata(&self, name: &str) -> Result<Option<Bytes>, ImageError> {
        if !is_metadata_name(name) {
            return Ok(None);
        }
        Ok(self.blobs.document(&format!("{METADATA}/{name}")).await?.map(|found| found.bytes))
    }

    /// The payload behind `<sha256>.<name>`, if that is published.
    ///
    /// # Errors
    /// Storage.
    pub async fn payload(&self, file: &str) -> Result<Option<Payload>, ImageError> {
        let Some((digest, name)) = file.split_once('.') else { return Ok(None) };
        let (Ok(sha256), Ok(name)) = (digest.parse::<Sha256Hex>(), name.parse::<TargetName>()) else {
            return Ok(None);
        };
        if self.blobs.head(&link_key(&sha256, &name)).await?.is_none() {
            return Ok(None);
        }
        let key = payload_key(&sha256);
        let Some(meta) = self.blobs.head(&key).await? else { return Ok(None) };
        Ok(Some(Payload { key, sha256, length: meta.size }))
    }

    /// What is listed now.
    ///
    /// # Errors
    /// Storage.
    pub async fn edition(&self) -> Result<Edition, ImageError> {
        Ok(self.load().await?.1)
    }

    fn needs_keys(&self) -> Result<(), ImageError> {
        if self.keys.is_empty() { Err(ImageError::NoKeys) } else { Ok(()) }
    }

    async fn change(&self, change: &Change, now_s: i64) -> Result<Published, ImageError> {
        self.needs_keys()?;
        let _turn = self.turn.lock().await;
        let mut attempt = 0;
        loop {
            attempt += 1;
            match self.try_change(change, now_s).await {
                Err(ImageError::Blob(BlobError::Exists(_) | BlobError::Changed(_))) if attempt < ATTEMPTS => {
                    let pause_ms = 100_u64 << attempt;
                    tokio::time::sleep(std::time::Duration::from_millis(pause_ms)).await;
                }
                Err(ImageError::Blob(BlobError::Exists(_) | BlobError::Changed(_))) => return Err(ImageError::Busy),
                other => return other,
            }
        }
    }

    async fn try_change(&self, change: &Change, now_s: i64) -> Result<Published, ImageError> {
        let current = self.current(now_s).await?;
        let touched = current.edition.touched(change, now_s)?;
        if touched.is_empty() {
            let timestamp_version = current.edition.version("timestamp");
            return Ok(Published { timestamp_version, is_changed: false });
        }
        let claim = self.claim(current.edition.version("timestamp") + 1, now_s).await?;
        let done = self.publish_next(&current, change, touched, now_s).await;
        if let Some(claim) = claim {
            self.blobs.delete(&claim).await?;
        }
        done
    }

    async fn publish_next(
        &self,
        current: &Current,
        change: &Change,
        touched: BTreeSet<String>,
        now_s: i64,
    ) -> Result<Published, ImageError> {
        let mut versions = BTreeMap::new();
        for name in touched {
            let next = self.next_version(&name, current.edition.version(&name)).await?;
            versions.insert(name, next);
        }
        let next = current.edition.next(change, &versions, &self.keys, now_s)?;
        let now = jiff::Timestamp::from_second(now_s).map_err(|_| DocumentError::Time(now_s))?;
        gate::check(&current.edition.staged(&next, &current.root, change, &versions), now).await?;
        self.write(current, &next, &versions).await?;
        Ok(Published { timestamp_version: next.version("timestamp"), is_changed: true })
    }

    /// Claims publication number `version`, so that of several servers one writes and none leaves half an edition behind.
    async fn claim(&self, version: u64, now_s: i64) -> Result<Option<String>, ImageError> {
        if !self.blobs.is_shared() {
            return Ok(None);
        }
        for number in 1..=CLAIMS_MAX {
            let key = format!("{CLAIMS}/{version}-{number}");
            match self.blobs.create(&key, Bytes::from(uuid::Uuid::now_v7().to_string())).await {
                Ok(()) => return Ok(Some(key)),
                Err(BlobError::Exists(_)) => {}
                Err(error) => return Err(error.into()),
            }
            let made_ms = self.blobs.head(&key).await?.map_or(i64::MAX, |meta| meta.last_modified.timestamp_millis());
            if now_s.saturating_mul(1000).saturating_sub(made_ms) < ABANDONED_AFTER_MS {
                return Err(BlobError::Exists(key).into());
            }
        }
        Err(ImageError::Busy)
    }

    /// Write order: firmware roles, targets, snapshot, timestamp last.
    async fn write(
        &self,
        current: &Current,
        next: &Edition,
        versions: &BTreeMap<String, NextVersion>,
    ) -> Result<(), ImageError> {
        let mut names: Vec<&String> = versions.keys().collect();
        names.sort_by_key(|name| match name.as_str() {
            "timestamp" => 3,
            "snapshot" => 2,
            "targets" => 1,
            _ => 0,
        });
        for name in names {
            let Some(document) = next.documents().get(name) else { continue };
            if name == "timestamp" {
                let key = format!("{METADATA}/timestamp.json");
                self.blobs.replace(&key, current.timestamp.as_ref(), document.bytes.clone()).await?;
            } else {
                self.blobs.create(&versioned_key(name, document.version), document.bytes.clone()).await?;
            }
        }
        Ok(())
    }

    async fn current(&self, now_s: i64) -> Result<Current, ImageError> {
        let role = self.keys.role(KeyRole::ImageRoot);
        let build = |version, expires_s| root(&self.keys, version, expires_s);
        let root = roots::ensure(&self.blobs, METADATA, role, &build, now_s).await?;
        let (timestamp, edition) = self.load().await?;
        Ok(Current { root, edition, timestamp })
    }

    /// Follows the pins from the timestamp down.
    async fn load(&self) -> Result<(Option<Versioned>, Edition), ImageError> {
        let Some(read) = self.blobs.document(&format!("{METADATA}/timestamp.json")).await? else {
            return Ok((None, Edition::default()));
        };
        let timestamp = Document::parse("timestamp", read.bytes.clone())?;
        let snapshot = self.pinned("snapshot", &timestamp.signed["meta"]["snapshot.json"]).await?;
        let mut documents = BTreeMap::new();
        for (file, pin) in snapshot.signed["meta"].as_object().into_iter().flatten() {
            let name = file.trim_end_matches(".json");
            documents.insert(name.to_owned(), self.pinned(name, pin).await?);
        }
        documents.insert("snapshot".to_owned(), snapshot);
        documents.insert("timestamp".to_owned(), timestamp);
        Ok((Some(read), Edition::new(documents)))
    }

    async fn pinned(&self, name: &str, pin: &serde_json::Value) -> Result<Document, ImageError> {
        let version = pin["version"].as_u64().ok_or_else(|| DocumentError::Damaged(name.to_owned()))?;
        let key = versioned_key(name, version);
        let found = self.blobs.document(&key).await?.ok_or_else(|| ImageError::Lost(key))?;
        Ok(Document::parse(name, found.bytes)?)
    }

    /// The version after `version` that no file has. A file in the way was left by a publisher that died.
    async fn next_version(&self, name: &str, version: u64) -> Result<NextVersion, ImageError> {
        if name == "timestamp" {
            return Ok(NextVersion { version: version + 1, orphans: 0 });
        }
        for orphans in 0..ORPHANS_MAX {
            let next = version + 1 + orphans;
            if self.blobs.head(&versioned_key(name, next)).await?.is_none() {
                return Ok(NextVersion { version: next, orphans });
            }
        }
        Err(DocumentError::Damaged(versioned_key(name, version + ORPHANS_MAX)).into())
    }
}

fn versioned_key(name: &str, version: u64) -> String {
    format!("{METADATA}/{version}.{name}.json")
}

fn link_key(sha256: &Sha256Hex, name: &TargetName) -> String {
    format!("{LINKS}/{sha256}.{name}")
}

/// `timestamp.json` or `<version>.<role>.json`: nothing that could be a path.
pub fn is_metadata_name(name: &str) -> bool {
    let Some(stem) = name.strip_suffix(".json") else { return false };
    let Some((version, role)) = stem.split_once('.') else { return stem == "timestamp" };
    let digits = !version.is_empty() && version.len() <= 16 && version.bytes().all(|b| b.is_ascii_digit());
    let letters = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    digits && !role.is_empty() && role.len() <= 64 && role.bytes().all(letters)
}

#[cfg(test)]
mod tests;
