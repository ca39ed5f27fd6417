//! Who this terminal is: its Ed25519 key, which never leaves it, and the number the server gave it.

use std::io;
use std::path::Path;

use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};
use tillward_protocol::enrol::{EnrolAnswer, EnrolRequest, SessionRequest, enrol_bytes, session_bytes};
use tillward_protocol::ids::{Sn, Stream, TerminalId};
use tillward_protocol::{crypto, manifest};

use crate::random;
use crate::storage::{self, Readers};

const KEY_FILE: &str = "identity.key";
const ENROLMENT_FILE: &str = "identity.json";

/// The terminal's key.
pub struct Identity {
    key: SigningKey,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("public_key", &crypto::public_hex(&self.key)).finish_non_exhaustive()
    }
}

/// What the server said when the terminal enrolled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolment {
    /// Number of the terminal.
    pub terminal_id: TerminalId,
    /// Serial number it enrolled with.
    pub sn: Sn,
    /// Stream to start with.
    pub stream: Stream,
    /// Server clock at that moment, Unix ms.
    pub enrolled_at_ms: i64,
}

impl Identity {
    /// The key in `folder`; a new one the first time.
    ///
    /// # Errors
    /// When the file cannot be read or written, or holds something else.
    pub fn load_or_create(folder: &Path) -> io::Result<Self> {
        let path = folder.join(KEY_FILE);
        if let Some(bytes) = storage::read(&path, 64)? {
            let seed: [u8; 32] = hex::decode(bytes)
                .ok()
                .and_then(|seed| seed.try_into().ok())
                .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{} is damaged", path.display())))?;
            return Ok(Self { key: SigningKey::from_bytes(&seed) });
        }
        let mut seed = [0; 32];
        random::fill(&mut seed)?;
        storage::replace(&path, hex::encode(seed).as_bytes(), Readers::Owner)?;
        Ok(Self { key: SigningKey::from_bytes(&seed) })
    }

    /// The request that redeems `code`. The same code gives the same request.
    pub fn enrol_request(&self, sn: &Sn, code: &str) -> EnrolRequest {
        let public_key = crypto::public_hex(&self.key);
        let proof = crypto::sign_hex(&self.key, &enrol_bytes(sn, code, &public_key));
        EnrolRequest { sn: sn.clone(), activation_code: code.to_owned(), public_key, proof }
    }

    /// The answer to a challenge.
    pub fn session_request(&self, terminal_id: TerminalId, challenge: String) -> SessionRequest {
        let proof = crypto::sign_hex(&self.key, &session_bytes(terminal_id, &challenge));
        SessionRequest { terminal_id, challenge, proof }
    }

    /// `body` with this terminal's signature.
    pub fn sign_manifest(&self, body: String) -> manifest::SignedManifest {
        let signature = crypto::sign_hex(&self.key, &manifest::signed_bytes(&body));
        manifest::SignedManifest { body, signature }
    }
}

impl Enrolment {
    /// The enrolment in `folder`, if there is one.
    ///
    /// # Errors
    /// When the file cannot be read or holds something else.
    pub fn load(folder: &Path) -> io::Result<Option<Self>> {
        match storage::read(&folder.join(ENROLMENT_FILE), 4096)? {
            Some(bytes) => Ok(Some(crate::json::parse(&bytes)?)),
            None => Ok(None),
        }
    }

    /// Keeps `answer`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn store(folder: &Path, sn: &Sn, answer: &EnrolAnswer) -> io::Result<Self> {
        let enrolment = Self {
            terminal_id: answer.terminal_id,
            sn: sn.clone(),
            stream: answer.stream,
            enrolled_at_ms: answer.server_time_ms,
        };
        storage::replace(&folder.join(ENROLMENT_FILE), &serde_json::to_vec(&enrolment)?, Readers::Anyone)?;
        Ok(enrolment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_key_is_made_once_and_only_its_owner_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let sn: Sn = "SN1".parse().unwrap();
        let first = Identity::load_or_create(folder.path()).unwrap().enrol_request(&sn, "code");
        let again = Identity::load_or_create(folder.path()).unwrap().enrol_request(&sn, "code");
        assert_eq!(first, again);
        let proven = enrol_bytes(&sn, "code", &first.public_key);
        assert!(crypto::verify_hex(&first.public_key, &proven, &first.proof));
        let mode = std::fs::metadata(folder.path().join(KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_key_is_an_error_and_not_a_new_key() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(KEY_FILE), "00").unwrap();
        assert!(Identity::load_or_create(folder.path()).is_err());
    }
}
