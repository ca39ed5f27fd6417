//! The configuration profile in force: received, checked against its hash, put in place as a whole.
//!
//! The config hash that is reported is the digest of the file that is there, so the two cannot disagree. The parameters
//! are the payment application's; the agent itself obeys one of them, [`POLICY_PARAMETER`].

use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tillward_protocol::checkin::DesiredConfig;
use tillward_protocol::ids::Sha256Hex;
use tillward_protocol::payment::POLICY_PARAMETER;

use crate::client::PROFILE_BYTES_MAX;
use crate::storage::{self, Readers};

/// The profile file of one terminal.
#[derive(Debug)]
pub struct Profile {
    path: PathBuf,
    hash: Option<Sha256Hex>,
    wants_payments: bool,
    /// The last attempt that the server asked for and that was made. Not kept over a restart: making it once more
    /// changes nothing.
    attempt: u32,
}

impl Profile {
    /// Reads the profile in `folder`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn load(folder: &Path) -> io::Result<Self> {
        let path = folder.join("profile.json");
        let bytes = storage::read(&path, PROFILE_BYTES_MAX)?;
        let hash = bytes.as_deref().map(Sha256Hex::of);
        Ok(Self { path, hash, wants_payments: bytes.as_deref().is_some_and(wants_payments), attempt: 0 })
    }

    /// Config hash of the profile in force.
    pub fn hash(&self) -> Option<&Sha256Hex> {
        self.hash.as_ref()
    }

    /// Whether the profile in force asks for successful transactions.
    pub fn wants_payments(&self) -> bool {
        self.wants_payments
    }

    /// Whether `wanted` is to be fetched and applied: it is not in force, or the server asks for another attempt.
    pub fn is_due(&mut self, wanted: &DesiredConfig) -> bool {
        if wanted.attempt == 0 {
            // The server sees no trouble; the next trouble begins with the first attempt again.
            self.attempt = 0;
        }
        self.hash() != Some(&wanted.hash) || wanted.attempt > self.attempt
    }

    /// Puts `bytes` in force if their digest is the wanted one.
    ///
    /// # Errors
    /// `InvalidData` when it is not; then, and when the disk fails, the old profile stays.
    pub fn apply(&mut self, wanted: &DesiredConfig, bytes: &[u8]) -> io::Result<()> {
        let found = Sha256Hex::of(bytes);
        if found != wanted.hash {
            let text = format!("the profile's digest is {found}, wanted was {}", wanted.hash);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        storage::replace(&self.path, bytes, Readers::Anyone)?;
        self.hash = Some(found);
        self.wants_payments = wants_payments(bytes);
        self.attempt = wanted.attempt;
        Ok(())
    }
}

fn wants_payments(bytes: &[u8]) -> bool {
    crate::json::object(bytes).is_ok_and(|parameters| parameters.get(POLICY_PARAMETER) == Some(&Value::Bool(true)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payments_are_wanted_only_while_the_profile_in_force_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let mut profile = Profile::load(folder.path()).unwrap();
        assert!(!profile.wants_payments(), "off without a profile");
        for (bytes, wanted) in [
            (r#"{"apn":"cmnet","tillward.report_payments":true}"#, true),
            (r#"{"tillward.report_payments":"true"}"#, false),
            (r#"{"tillward.report_payments":true}"#, true),
            (r#"{"tillward.report_payments":1}"#, false),
            (r#"{"tillward.report_payments":false}"#, false),
            ("no JSON at all", false),
        ] {
            let hash = Sha256Hex::of(bytes.as_bytes());
            profile.apply(&DesiredConfig { hash, attempt: 0 }, bytes.as_bytes()).unwrap();
            assert_eq!(profile.wants_payments(), wanted, "{bytes}");
            assert_eq!(Profile::load(folder.path()).unwrap().wants_payments(), wanted, "{bytes}");
        }
    }

    #[test]
    fn only_bytes_with_the_right_digest_come_into_force() {
        let folder = tempfile::tempdir().unwrap();
        let mut profile = Profile::load(folder.path()).unwrap();
        assert_eq!(profile.hash(), None);
        let wanted = |bytes: &[u8]| DesiredConfig { hash: Sha256Hex::of(bytes), attempt: 0 };
        profile.apply(&wanted(b"{}"), b"{}").unwrap();
        assert!(profile.apply(&wanted(b"x"), b"y").is_err());
        assert_eq!(Profile::load(folder.path()).unwrap().hash(), Some(&wanted(b"{}").hash));
    }

    #[test]
    fn each_attempt_that_the_server_asks_for_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut profile = Profile::load(folder.path()).unwrap();
        let wanted = |attempt: u32| DesiredConfig { hash: Sha256Hex::of(b"{}"), attempt };
        for (attempt, is_due) in
            [(0, true), (0, false), (1, true), (1, false), (2, true), (1, false), (0, false), (1, true)]
        {
            assert_eq!(profile.is_due(&wanted(attempt)), is_due, "{attempt}");
            if is_due {
                profile.apply(&wanted(attempt), b"{}").unwrap();
            }
        }
        assert!(profile.is_due(&wanted(2)), "an attempt that was not made is still due");
        assert!(profile.is_due(&wanted(2)));
        let other = DesiredConfig { hash: Sha256Hex::of(b"x"), attempt: 0 };
        assert!(profile.is_due(&other));
    }
}
