//! The two signed repositories: what may run (image, offline-signed) and what one terminal shall run (director).
//!
//! Documents are TUF 1.0.34, readable by any TUF client. Nothing here decides *which* release goes to *whom*: `releases`
//! and `rollouts` do, and hand values in. Private keys never leave [`keys`]; no function returns or logs one.

pub mod director;
pub mod document;
pub mod gate;
pub mod image;
pub mod keys;
pub mod policy;
pub mod roots;
pub mod samples;
mod tar;

use std::path::Path;

pub use document::{DocumentError, TargetEntry};
pub use keys::{KeyRing, KeyRole, KeysError, RoleKeys};

use crate::blobs::{BlobError, Blobs};
use crate::clock::Now;
use crate::config::Mode;
use director::Director;
use image::{ImageError, ImageRepository};
use policy::ProductionFacts;

/// An upload that was not written to for this long is given up, ms.
const UPLOAD_ABANDONED_MS: i64 = 24 * 3_600_000;

/// Why the signed repositories could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Production mode found what it must not find; one line each.
    #[error("{}", .0.join("\n"))]
    Production(Vec<String>),
    /// The keys.
    #[error("signing keys")]
    Keys(#[from] KeysError),
    /// The image repository.
    #[error("image repository")]
    Image(#[from] ImageError),
    /// A trust root.
    #[error("trust root")]
    Root(#[from] roots::RootError),
    /// Storage.
    #[error("storage")]
    Blob(#[from] BlobError),
}

/// Both repositories and the storage below them, as the server works with them.
#[derive(Debug)]
pub struct Signing {
    /// Payloads and published files.
    pub blobs: Blobs,
    /// What may run.
    pub image: ImageRepository,
    /// What single terminals shall run.
    pub director: Director,
    keys: KeyRing,
}

impl Signing {
    /// Opens both repositories, in quick-start mode making keys and empty repositories on the first start.
    ///
    /// In production mode no key is on this server: published files are served, and everything that would need a
    /// signature answers an error that says so.
    ///
    /// # Errors
    /// [`OpenError::Production`] with the lines to print, or what could not be read.
    pub async fn open(blobs: Blobs, data_dir: &Path, mode: Mode, now: Now) -> Result<Self, OpenError> {
        let keys = match mode {
            Mode::Quickstart => KeyRing::quickstart(data_dir)?,
            Mode::Production => KeyRing::empty(),
        };
        let image = ImageRepository::new(blobs.clone(), keys.clone());
        let director = Director::new(blobs.clone(), keys.clone());
        let signing = Self { blobs, image, director, keys };
        match mode {
            Mode::Quickstart => signing.renew(now).await?,
            Mode::Production => signing.refuse_what_production_must_not_have(data_dir).await?,
        }
        Ok(signing)
    }

    async fn refuse_what_production_must_not_have(&self, data_dir: &Path) -> Result<(), OpenError> {
        let file = |signed: &document::Document| serde_json::json!({"signed": signed.signed});
        let quickstart = keys::has_quickstart_keys(data_dir).then(|| keys::quickstart_dir(data_dir));
        let facts = ProductionFacts {
            quickstart_keys: quickstart,
            image_root: roots::newest(&self.blobs, image::METADATA).await?.as_ref().map(file),
            director_root: roots::newest(&self.blobs, director::METADATA).await?.as_ref().map(file),
            image_targets: self.image.edition().await?.documents().get("targets").map(file),
        };
        let lines = policy::production_refusals(&facts);
        if lines.is_empty() { Ok(()) } else { Err(OpenError::Production(lines)) }
    }

    /// Whether this server can sign.
    pub fn has_keys(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Inventory of the keys at hand; no private part.
    ///
    /// # Errors
    /// None that Ed25519 keys can cause.
    pub fn report(&self) -> Result<Vec<keys::KeyReport>, DocumentError> {
        keys::report(&self.keys)
    }

    /// Signs again whatever has less than half of its life left. Call at least hourly; without keys it does nothing.
    ///
    /// # Errors
    /// Storage, a root of other keys, a refusal of the gate.
    pub async fn renew(&self, now: Now) -> Result<(), OpenError> {
        if !self.has_keys() {
            return Ok(());
        }
        self.image.renew(now.seconds()).await?;
        self.director.renew(now.seconds()).await?;
        self.blobs.sweep_uploads(now.0.saturating_sub(UPLOAD_ABANDONED_MS)).await?;
        Ok(())
    }
}
