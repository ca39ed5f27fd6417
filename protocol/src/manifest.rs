//! What a terminal runs and what it refused, signed with the terminal's own key.

use serde::{Deserialize, Serialize};

use crate::check::{free_text, in_range};
use crate::checkin::Slot;
use crate::ids::{Sha256Hex, TargetName, TerminalId, Version};
use crate::phase::{DETAIL_BYTES_MAX, Reason};
use crate::{Check, FieldError};

/// The signed envelope. `body` is the exact text that was signed: nothing is re-encoded before verification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SignedManifest {
    /// JSON of a [`Manifest`].
    pub body: String,
    /// Ed25519 over [`signed_bytes`], hex.
    pub signature: String,
}

/// Longest manifest body, bytes.
pub const MANIFEST_BYTES_MAX: usize = 4096;

impl Check for SignedManifest {
    fn check(&self) -> Result<(), FieldError> {
        if self.body.len() > MANIFEST_BYTES_MAX {
            return Err(FieldError::new("body", format!("must be at most {MANIFEST_BYTES_MAX} bytes")));
        }
        if self.signature.len() != 128 {
            return Err(FieldError::new("signature", "must be 128 hex digits"));
        }
        Ok(())
    }
}

/// One installed component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Component {
    /// `os`, `app`, `sp`, …
    pub name: String,
    /// Its version.
    pub version: Version,
    /// Digest of the payload it was installed from; absent for the factory image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256Hex>,
    /// Its committed release counter.
    pub release_counter: u64,
}

/// The last update that was not installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// What.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetName>,
    /// One sentence for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// What runs, which slot, which refusals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Which terminal.
    pub terminal_id: TerminalId,
    /// Rises with every manifest of this terminal.
    pub counter: u64,
    /// Installed components.
    pub components: Vec<Component>,
    /// Slot that runs.
    pub slot: Slot,
    /// Trusted root version of the image repository.
    pub image_root: u64,
    /// Trusted root version of the director.
    pub director_root: u64,
    /// Version of the last director document that verified.
    pub director_version: u64,
    /// The last refusal, until an update succeeds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
}

impl Check for Manifest {
    fn check(&self) -> Result<(), FieldError> {
        const COMPONENTS_MAX: usize = 16;
        if self.components.len() > COMPONENTS_MAX {
            return Err(FieldError::new("components", format!("at most {COMPONENTS_MAX}")));
        }
        in_range("counter", Some(self.counter), 1..=(1 << 53) - 1, "")?;
        in_range("director_version", Some(self.director_version), 0..=(1 << 53) - 1, "")?;
        match &self.refusal {
            Some(refusal) => free_text("refusal.detail", refusal.detail.as_deref(), DETAIL_BYTES_MAX),
            None => Ok(()),
        }
    }
}

/// The bytes under the signature: a context line, then the body, so that no other signed text can pass as a manifest.
pub fn signed_bytes(body: &str) -> Vec<u8> {
    [b"tillward manifest v1\n", body.as_bytes()].concat()
}
