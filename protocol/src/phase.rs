//! The phases of one terminal's update as the terminal reports them, and the names of refusals and deferrals.

use serde::{Deserialize, Serialize};

use crate::check::{free_text, in_range};
use crate::{Check, FieldError};

/// Where the terminal is with its current update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(as = UpdatePhase))]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Streams the payload into the inactive slot.
    Downloading,
    /// Everything is verified; about to write the boot decision.
    Installing,
    /// Boots into the new slot.
    Rebooting,
    /// Runs the new firmware on trial.
    Trial,
    /// The new firmware is committed.
    Succeeded,
    /// Nothing was installed; `reason` says why.
    Failed,
    /// The new firmware ran and was taken back; `reason` says why.
    RolledBack,
    /// Not now; `reason` says why. The terminal tries again by itself.
    Deferred,
}

impl Phase {
    /// Every phase.
    pub const ALL: [Self; 8] = [
        Self::Downloading,
        Self::Installing,
        Self::Rebooting,
        Self::Trial,
        Self::Succeeded,
        Self::Failed,
        Self::RolledBack,
        Self::Deferred,
    ];

    /// Name on the wire and in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Downloading => "downloading",
            Self::Installing => "installing",
            Self::Rebooting => "rebooting",
            Self::Trial => "trial",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::RolledBack => "rolled_back",
            Self::Deferred => "deferred",
        }
    }
}

/// Why a terminal refused, failed, took back or put off an update. One name for each cause, the same everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(as = UpdateReason))]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A role is signed only by keys that the role does not have.
    WrongKey,
    /// A role has fewer good signatures than its threshold.
    BelowThreshold,
    /// One key signed a role twice, or stands in it under two names.
    DuplicateSignature,
    /// The payload's digest differs from the signed one.
    DigestMismatch,
    /// The payload ends before its stated length.
    Truncated,
    /// The payload or a document goes on after its stated length.
    TooLong,
    /// The release is for other hardware.
    WrongModel,
    /// The release counter or a metadata version goes back.
    Downgrade,
    /// A document is past its expiry.
    ExpiredMetadata,
    /// Director and image repository name different files.
    DirectorImageDisagree,
    /// The director's document is for another terminal, or malformed.
    WrongDirectorDocument,
    /// A document is not valid metadata.
    MalformedMetadata,
    /// The trust root was made in quick-start mode, which this build does not accept.
    QuickstartRoot,
    /// Another component must be updated first.
    RequirementMissing,
    /// The running version is older than the release allows to start from.
    StartingVersionTooOld,
    /// The terminal's own trust state is damaged; it must be provisioned again.
    StateDamaged,
    /// Not enough space in the slot.
    NoSpace,
    /// Reading or writing storage failed.
    StorageError,
    /// The network failed; the terminal goes on later.
    NetworkError,
    /// The server answered 429 or 503; the terminal goes on later.
    ServerBusy,
    /// The installer command failed.
    InstallerFailed,
    /// The new firmware did not boot.
    BootFailed,
    /// The health command failed on trial.
    HealthCheckFailed,
    /// The trial's deadline passed without a healthy report.
    TrialDeadline,
    /// This release was rolled back on this terminal before.
    RolledBackBefore,
    /// A transaction is running or the terminal is in use.
    NotIdle,
    /// A reversal or an upload is pending.
    TransactionPending,
    /// The battery is low.
    LowBattery,
    /// The release waits for WiFi.
    WifiOnly,
    /// The server withdrew the order before it was applied.
    Cancelled,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 30] = [
        Self::WrongKey,
        Self::BelowThreshold,
        Self::DuplicateSignature,
        Self::DigestMismatch,
        Self::Truncated,
        Self::TooLong,
        Self::WrongModel,
        Self::Downgrade,
        Self::ExpiredMetadata,
        Self::DirectorImageDisagree,
        Self::WrongDirectorDocument,
        Self::MalformedMetadata,
        Self::QuickstartRoot,
        Self::RequirementMissing,
        Self::StartingVersionTooOld,
        Self::StateDamaged,
        Self::NoSpace,
        Self::StorageError,
        Self::NetworkError,
        Self::ServerBusy,
        Self::InstallerFailed,
        Self::BootFailed,
        Self::HealthCheckFailed,
        Self::TrialDeadline,
        Self::RolledBackBefore,
        Self::NotIdle,
        Self::TransactionPending,
        Self::LowBattery,
        Self::WifiOnly,
        Self::Cancelled,
    ];

    /// Name on the wire, in tables, and of the folder with a sample that provokes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WrongKey => "wrong_key",
            Self::BelowThreshold => "below_threshold",
            Self::DuplicateSignature => "duplicate_signature",
            Self::DigestMismatch => "digest_mismatch",
            Self::Truncated => "truncated",
            Self::TooLong => "too_long",
            Self::WrongModel => "wrong_model",
            Self::Downgrade => "downgrade",
            Self::ExpiredMetadata => "expired_metadata",
            Self::DirectorImageDisagree => "director_image_disagree",
            Self::WrongDirectorDocument => "wrong_director_document",
            Self::MalformedMetadata => "malformed_metadata",
            Self::QuickstartRoot => "quickstart_root",
            Self::RequirementMissing => "requirement_missing",
            Self::StartingVersionTooOld => "starting_version_too_old",
            Self::StateDamaged => "state_damaged",
            Self::NoSpace => "no_space",
            Self::StorageError => "storage_error",
            Self::NetworkError => "network_error",
            Self::ServerBusy => "server_busy",
            Self::InstallerFailed => "installer_failed",
            Self::BootFailed => "boot_failed",
            Self::HealthCheckFailed => "health_check_failed",
            Self::TrialDeadline => "trial_deadline",
            Self::RolledBackBefore => "rolled_back_before",
            Self::NotIdle => "not_idle",
            Self::TransactionPending => "transaction_pending",
            Self::LowBattery => "low_battery",
            Self::WifiOnly => "wifi_only",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether trying the same files again can succeed. Such a cause never ends an assignment.
    pub fn is_transient(self) -> bool {
        match self {
            Self::NetworkError
            | Self::ServerBusy
            | Self::NotIdle
            | Self::TransactionPending
            | Self::LowBattery
            | Self::WifiOnly => true,
            Self::WrongKey
            | Self::BelowThreshold
            | Self::DuplicateSignature
            | Self::DigestMismatch
            | Self::Truncated
            | Self::TooLong
            | Self::WrongModel
            | Self::Downgrade
            | Self::ExpiredMetadata
            | Self::DirectorImageDisagree
            | Self::WrongDirectorDocument
            | Self::MalformedMetadata
            | Self::QuickstartRoot
            | Self::RequirementMissing
            | Self::StartingVersionTooOld
            | Self::StateDamaged
            | Self::NoSpace
            | Self::StorageError
            | Self::InstallerFailed
            | Self::BootFailed
            | Self::HealthCheckFailed
            | Self::TrialDeadline
            | Self::RolledBackBefore
            | Self::Cancelled => false,
        }
    }

    /// Whether the terminal refused what it was offered because it could not trust it.
    pub fn is_refusal(self) -> bool {
        matches!(
            self,
            Self::WrongKey
                | Self::BelowThreshold
                | Self::DuplicateSignature
                | Self::DigestMismatch
                | Self::Truncated
                | Self::TooLong
                | Self::WrongModel
                | Self::Downgrade
                | Self::ExpiredMetadata
                | Self::DirectorImageDisagree
                | Self::WrongDirectorDocument
                | Self::MalformedMetadata
                | Self::QuickstartRoot
        )
    }
}

/// What the terminal says of its current update. Sent with each check-in while there is one to speak of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct UpdateReport {
    /// The director's order this is about ([`crate::trust::DirectorOrder::assignment`]).
    pub assignment: i64,
    /// Where the terminal is.
    pub phase: Phase,
    /// Why, for failed, rolled-back and deferred updates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// One sentence for a person; never card data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Bytes of the payload on the terminal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Size of the payload in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_total: Option<u64>,
    /// Interrupted downloads that were resumed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resumed: Option<u32>,
}

/// Longest detail sentence, bytes.
pub const DETAIL_BYTES_MAX: usize = 300;

impl Check for UpdateReport {
    fn check(&self) -> Result<(), FieldError> {
        in_range("assignment", Some(self.assignment), 1..=i64::from(i32::MAX), "")?;
        in_range("bytes", self.bytes, 0..=crate::trust::TARGET_BYTES_MAX, "bytes")?;
        in_range("bytes_total", self.bytes_total, 0..=crate::trust::TARGET_BYTES_MAX, "bytes")?;
        free_text("detail", self.detail.as_deref(), DETAIL_BYTES_MAX)?;
        match (self.phase, self.reason) {
            (Phase::Failed | Phase::RolledBack | Phase::Deferred, None) => {
                Err(FieldError::new("reason", format!("is required with phase {}", self.phase.as_str())))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_on_the_wire_are_the_names_in_tables() {
        for reason in Reason::ALL {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
        }
        for phase in Phase::ALL {
            assert_eq!(serde_json::to_value(phase).unwrap(), phase.as_str());
        }
    }

    #[test]
    fn nothing_that_may_pass_is_a_refusal() {
        assert!(Reason::ALL.iter().all(|reason| !(reason.is_transient() && reason.is_refusal())));
    }
}
