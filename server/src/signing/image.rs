//! tmp
use super::document::{self, DocumentError};
use super::keys::{KeyRing, KeyRole};

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
