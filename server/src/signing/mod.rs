//! The two signed repositories: what may run (image, offline-signed) and what one terminal shall run (director).
//!
//! Documents are TUF 1.0.34, readable by any TUF client. Nothing here decides *which* release goes to *whom*: `releases`
//! and `rollouts` do, and hand values in. Private keys never leave [`keys`]; no function returns or logs one.

pub mod director;
pub mod document;
pub mod gate;
pub mod image;
pub mod keys;
pub mod roots;
pub mod samples;
mod tar;

pub use document::DocumentError;
pub use keys::{KeyRing, KeyRole, KeysError, RoleKeys};
