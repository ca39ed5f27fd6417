//! Where verified metadata is kept: verbatim bytes, each file replaced durably.
//!
//! The TUF library only logs a failed write and takes a failed read for "absent". Hence the first error is latched
//! here, and the agent asks for it before it installs anything.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use sigstore_tuf::{Error, MetadataStore, Result};

use crate::storage::{self, Readers};

/// Largest stored document, bytes: the library's cap for targets.
const DOCUMENT_BYTES_MAX: u64 = 5_000_000;

/// One repository's folder.
#[derive(Debug)]
pub struct DurableStore {
    folder: PathBuf,
    first_error: Mutex<Option<String>>,
}

impl DurableStore {
    /// The store in `folder`.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, first_error: Mutex::new(None) }
    }

    /// The first error of reading or writing, if there was one.
    pub fn first_error(&self) -> Option<String> {
        self.first_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn path(&self, name: &str) -> Result<PathBuf> {
        let flat = name.strip_prefix("root_history/").unwrap_or(name);
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'%' | b'~');
        if flat.is_empty() || flat.starts_with('.') || !flat.bytes().all(is_plain) {
            return Err(Error::Malformed(format!("no file name: {name:?}")));
        }
        Ok(self.folder.join(name))
    }

    fn latch<T>(&self, what: &str, path: &Path, result: std::io::Result<T>) -> Result<T> {
        result.map_err(|source| {
            let context = format!("{what} {}", path.display());
            let mut first = self.first_error.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert_with(|| format!("{context}: {source}"));
            Error::io(context, source)
        })
    }
}

impl MetadataStore for DurableStore {
    fn load(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = self.path(name)?;
        self.latch("reading", &path, storage::read(&path, DOCUMENT_BYTES_MAX))
    }

    fn store(&self, name: &str, bytes: &[u8]) -> Result<()> {
        if is_versioned_snapshot(name) {
            return Ok(());
        }
        let path = self.path(name)?;
        let known = self.load(name)?;
        if known.as_deref() == Some(bytes) {
            return Ok(());
        }
        if name == "root.json" && known.as_deref().and_then(version) > version(bytes) {
            let lowered = std::io::Error::new(std::io::ErrorKind::InvalidInput, "the root version would go back");
            return self.latch("writing", &path, Err(lowered));
        }
        let folder = path.parent().unwrap_or(&self.folder);
        self.latch("creating", folder, storage::create_folder(folder))?;
        self.latch("writing", &path, storage::replace(&path, bytes, Readers::Anyone))
    }
}

/// `<digits>.snapshot.json`, which the library writes besides `snapshot.json`.
fn is_versioned_snapshot(name: &str) -> bool {
    name.strip_suffix(".snapshot.json").is_some_and(|n| !n.is_empty() && n.bytes().all(|byte| byte.is_ascii_digit()))
}

fn version(bytes: &[u8]) -> Option<u64> {
    serde_json::from_slice::<Value>(bytes).ok()?.get("signed")?.get("version")?.as_u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (DurableStore, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        (DurableStore::new(folder.path().join("image")), folder)
    }

    #[test]
    fn bytes_come_back_verbatim_and_versioned_snapshots_are_dropped() {
        let (store, folder) = store();
        store.store("root_history/2.root.json", b"{ \"x\" : 1 }").unwrap();
        assert_eq!(store.load("root_history/2.root.json").unwrap().as_deref(), Some(&b"{ \"x\" : 1 }"[..]));
        store.store("17.snapshot.json", b"{}").unwrap();
        store.store("a17.snapshot.json", b"{}").unwrap();
        assert!(!folder.path().join("image/17.snapshot.json").exists());
        assert!(folder.path().join("image/a17.snapshot.json").exists());
    }

    #[test]
    fn the_root_version_never_goes_back_and_the_error_stays() {
        let (store, _folder) = store();
        store.store("root.json", br#"{"signed":{"version":3}}"#).unwrap();
        assert!(store.store("root.json", br#"{"signed":{"version":2}}"#).is_err());
        store.store("root.json", br#"{"signed":{"version":4}}"#).unwrap();
        assert!(store.first_error().unwrap().contains("go back"));
    }

    #[test]
    fn names_cannot_leave_the_folder() {
        let (store, _folder) = store();
        for name in ["../x.json", "/x.json", "a/b.json", ".hidden", "root_history/../x", ""] {
            assert!(store.store(name, b"{}").is_err(), "{name}");
        }
    }
}
