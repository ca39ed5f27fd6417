//! The configuration profile in force: received, checked against its hash, put in place as a whole.
//!
//! The config hash that is reported is the digest of the file that is there, so the two cannot disagree.

use std::io;
use std::path::{Path, PathBuf};

use tillward_protocol::ids::Sha256Hex;

use crate::client::PROFILE_BYTES_MAX;
use crate::storage::{self, Readers};

/// The profile file of one terminal.
#[derive(Debug)]
pub struct Profile {
    path: PathBuf,
    hash: Option<Sha256Hex>,
}

impl Profile {
    /// Reads the profile in `folder`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn load(folder: &Path) -> io::Result<Self> {
        let path = folder.join("profile.json");
        let hash = storage::read(&path, PROFILE_BYTES_MAX)?.map(|bytes| Sha256Hex::of(&bytes));
        Ok(Self { path, hash })
    }

    /// Config hash of the profile in force.
    pub fn hash(&self) -> Option<&Sha256Hex> {
        self.hash.as_ref()
    }

    /// Puts `bytes` in force if their digest is `hash`.
    ///
    /// # Errors
    /// `InvalidData` when it is not; then, and when the disk fails, the old profile stays.
    pub fn apply(&mut self, hash: &Sha256Hex, bytes: &[u8]) -> io::Result<()> {
        let found = Sha256Hex::of(bytes);
        if found != *hash {
            let text = format!("the profile's digest is {found}, wanted was {hash}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        storage::replace(&self.path, bytes, Readers::Anyone)?;
        self.hash = Some(found);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bytes_with_the_right_digest_come_into_force() {
        let folder = tempfile::tempdir().unwrap();
        let mut profile = Profile::load(folder.path()).unwrap();
        assert_eq!(profile.hash(), None);
        let hash = Sha256Hex::of(b"{}");
        profile.apply(&hash, b"{}").unwrap();
        assert!(profile.apply(&Sha256Hex::of(b"x"), b"y").is_err());
        assert_eq!(Profile::load(folder.path()).unwrap().hash(), Some(&hash));
    }
}
