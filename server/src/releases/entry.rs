//! A release as both repositories list it. Pure.

use tillward_protocol::FieldError;
use tillward_protocol::ids::{ModelCode, Sha256Hex, TargetName, Version};
use tillward_protocol::trust::{Match, Requirement};

use super::{Release, target_name};
use crate::signing::TargetEntry;

/// The signed entry of `release` for one model, the same words in both repositories.
///
/// # Errors
/// A stored value that the protocol does not know.
pub fn image_entry(release: &Release, model: &ModelCode) -> Result<TargetEntry, FieldError> {
    let version: Version = release.firmware_version.parse()?;
    let requires = release.requires.iter().map(|needs| Requirement {
        component: needs.component.clone(),
        release_counter: needs.release_counter.unsigned_abs(),
    });
    Ok(TargetEntry {
        name: target_name(model, &release.component, &version, release.release_counter)?,
        length: release.length_bytes.unsigned_abs(),
        sha256: release.sha256.parse()?,
        matches: Match {
            hardware_ids: vec![model.clone()],
            component: release.component.clone(),
            version,
            release_counter: release.release_counter.unsigned_abs(),
            min_from_counter: release.min_from_counter.map(i64::unsigned_abs),
            requires: requires.collect(),
        },
    })
}

/// The signed entries of `release`, one for each of its models.
///
/// # Errors
/// As [`image_entry`].
pub(super) fn image_entries(release: &Release) -> Result<Vec<TargetEntry>, FieldError> {
    release.models.iter().map(|code| image_entry(release, &code.parse()?)).collect()
}

/// Names and digest of the files of `release`.
///
/// # Errors
/// As [`image_entry`].
pub(super) fn files(release: &Release) -> Result<Vec<(TargetName, Sha256Hex)>, FieldError> {
    Ok(image_entries(release)?.into_iter().map(|entry| (entry.name, entry.sha256)).collect())
}
