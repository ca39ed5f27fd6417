//! One request of a terminal: heartbeat, report and poll at once; and the server's answer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::check::{digits, in_range, short_ascii};
use crate::condition::Condition;
use crate::failure::Failure;
use crate::ids::{Seq, Sha256Hex, Stream, Version};
use crate::manifest::SignedManifest;
use crate::payment::Payment;
use crate::phase::UpdateReport;
use crate::{Check, FieldError};

/// Version of this message; the only one so far.
pub const CHECK_IN_VERSION: u8 = 1;
/// Latest time that is accepted, Unix ms (the year 2200): anything later is noise, not a clock.
pub const TIME_MS_MAX: i64 = 7_258_118_400_000;
/// Most failures in one check-in; the rest follow in the next one, at once.
pub const FAILURES_MAX: usize = 64;
/// Most payments in one check-in, of about 300 bytes each; the rest follow in the next one.
pub const PAYMENTS_MAX: usize = 256;
/// Most different response codes counted in one check-in.
pub const CODES_MAX: usize = 64;
/// Largest check-in body, bytes, decoded. 64 failures of about 1 KiB, 256 payments and the rest fit once over.
pub const BODY_BYTES_MAX: usize = 256 * 1024;

/// Which slot runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Slot {
    /// First slot.
    A,
    /// Second slot.
    B,
    /// The terminal has one slot only.
    Single,
}

impl Slot {
    /// Name on the wire and in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
            Self::Single => "single",
        }
    }
}

/// What runs on the terminal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Software {
    /// Firmware version.
    pub firmware: Version,
    /// Slot it runs from.
    pub slot: Slot,
    /// Agent version.
    pub agent: Version,
    /// Payment application's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<Version>,
    /// Bootloader version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot: Option<Version>,
    /// Hardware revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hardware: Option<Version>,
    /// Config hash of the profile in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_hash: Option<Sha256Hex>,
}

/// What the payment application is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum AppState {
    /// Waiting.
    Idle,
    /// In a transaction.
    Transaction,
    /// Somebody uses the menu.
    Menu,
    /// Locked.
    Locked,
}

/// Why the terminal started last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum BootReason {
    /// Switched on.
    PowerOn,
    /// Restarted by a person.
    User,
    /// Restarted for an update.
    Ota,
    /// The watchdog fired.
    Watchdog,
    /// The system crashed.
    Panic,
    /// The battery ran out.
    LowBattery,
    /// The tamper switch fired.
    Tamper,
}

/// State of the terminal and its payment application.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TerminalReport {
    /// What the payment application is doing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_state: Option<AppState>,
    /// Whether it is signed in at the acquirer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signed_in: Option<bool>,
    /// Last sign-in, terminal clock, Unix ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_sign_in_ms: Option<i64>,
    /// Whether a batch is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_open: Option<bool>,
    /// Reversals still to be sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_reversals: Option<u32>,
    /// Signatures still to be uploaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_esign: Option<u32>,
    /// Offline transactions still to be sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offline_transactions: Option<u32>,
    /// Time since start, s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uptime_s: Option<u32>,
    /// Why it started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_reason: Option<BootReason>,
    /// Starts since it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_count: Option<u32>,
}

/// Printer state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Printer {
    /// Works.
    Ok,
    /// Paper runs low.
    PaperLow,
    /// No paper.
    Out,
    /// Too hot.
    Hot,
    /// Has none.
    Na,
}

/// Tamper protection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Tamper {
    /// Untouched.
    Ok,
    /// Fired: a security incident.
    Triggered,
    /// Masked by service staff.
    Mask,
}

/// Health of the device itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct DeviceHealth {
    /// Battery charge, percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub battery_percent: Option<u8>,
    /// Battery voltage, mV.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub battery_mv: Option<u32>,
    /// Whether it charges.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub charging: Option<bool>,
    /// Temperature of the board, °C.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature_c: Option<i32>,
    /// Coin cell, mV; an empty one ends in a tamper alarm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coin_mv: Option<u32>,
    /// Free memory, KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_free_kib: Option<u32>,
    /// Free flash, KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flash_free_kib: Option<u32>,
    /// Printer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub printer: Option<Printer>,
    /// Chip reading errors since the last report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icc_errors: Option<u32>,
    /// Magnetic stripe errors since the last report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mag_errors: Option<u32>,
    /// Contactless errors since the last report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nfc_errors: Option<u32>,
    /// Card readings tried since the last report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_tries: Option<u32>,
    /// Tamper protection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tamper: Option<Tamper>,
    /// Whether the PIN pad calls itself secure: its own protection has not locked it. That keys are missing is no reason to
    /// say no.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ped_ok: Option<bool>,
    /// Number of the modem (IMEI), 15 digits; sent on change and daily.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub imei: Option<String>,
    /// SIM card number, 19–20 characters; sent on change and daily.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iccid: Option<String>,
    /// Earliest certificate expiry, Unix ms; sent on change and daily.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_expires_ms: Option<i64>,
    /// Place as a geohash of six characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub geohash6: Option<String>,
}

/// Network counters since the last report.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NetworkCounters {
    /// Bytes sent.
    #[serde(default, skip_serializing_if = "is_zero_u64")]
    pub sent_bytes: u64,
    /// Bytes received.
    #[serde(default, skip_serializing_if = "is_zero_u64")]
    pub received_bytes: u64,
    /// Bytes in this billing month, if the terminal keeps count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub month_bytes: Option<u64>,
    /// Timeouts.
    #[serde(default, skip_serializing_if = "is_zero_u32")]
    pub timeouts: u32,
    /// Reconnects.
    #[serde(default, skip_serializing_if = "is_zero_u32")]
    pub reconnects: u32,
    /// Changes of cell.
    #[serde(default, skip_serializing_if = "is_zero_u32")]
    pub handovers: u32,
}

/// Transactions since the last report: counts, nothing else.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TransactionCounters {
    /// Successful.
    #[serde(default)]
    pub ok: u32,
    /// Failed.
    #[serde(default)]
    pub failed: u32,
    /// Failed and answered, by two-character response code.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_code: BTreeMap<String, u32>,
}

/// Heartbeat, report and poll.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CheckIn {
    /// [`CHECK_IN_VERSION`].
    pub v: u8,
    /// Stream of this report.
    pub stream: Stream,
    /// Number of this report in its stream, from 1.
    pub seq: Seq,
    /// Terminal clock, Unix ms; never trusted, only compared.
    pub at_ms: i64,
    /// Changes with every start, 1–36 visible ASCII characters.
    pub boot_id: String,
    /// What runs.
    pub software: Software,
    /// State of terminal and payment application.
    #[serde(default)]
    pub terminal: TerminalReport,
    /// Network and latencies now.
    #[serde(default)]
    pub condition: Condition,
    /// Network counters since the last report.
    #[serde(default)]
    pub network: NetworkCounters,
    /// Health of the device.
    #[serde(default)]
    pub device: DeviceHealth,
    /// Transactions since the last report.
    #[serde(default)]
    pub transactions: TransactionCounters,
    /// Failures since the last report, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<Failure>,
    /// Successful transactions since the last report, oldest first; only where the terminal's profile asks for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub payments: Vec<Payment>,
    /// The update under way, or the last one while the server has not taken note.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update: Option<UpdateReport>,
    /// What runs and what was refused, signed with the terminal's key; sent only when it changed or was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest: Option<SignedManifest>,
}

/// Most of any counter "since the last report": above it the counter is broken.
const COUNT_MAX: u32 = 1_000_000;

impl Check for CheckIn {
    fn check(&self) -> Result<(), FieldError> {
        if self.v != CHECK_IN_VERSION {
            return Err(FieldError::new("v", format!("must be {CHECK_IN_VERSION}, was {}", self.v)));
        }
        in_range("seq", Some(self.seq.0), 1..=u32::MAX - 1, "")?;
        in_range("stream", Some(self.stream.0), 1..=u32::MAX - 1, "")?;
        in_range("at_ms", Some(self.at_ms), 0..=TIME_MS_MAX, "Unix ms")?;
        short_ascii("boot_id", Some(&self.boot_id), 36)?;
        let terminal = &self.terminal;
        in_range("terminal.last_sign_in_ms", terminal.last_sign_in_ms, 0..=TIME_MS_MAX, "Unix ms")?;
        in_range("terminal.pending_reversals", terminal.pending_reversals, 0..=COUNT_MAX, "")?;
        in_range("terminal.pending_esign", terminal.pending_esign, 0..=COUNT_MAX, "")?;
        in_range("terminal.offline_transactions", terminal.offline_transactions, 0..=COUNT_MAX, "")?;
        self.condition.check().map_err(|error| error.under("condition"))?;
        self.network.check().map_err(|error| error.under("network"))?;
        self.device.check().map_err(|error| error.under("device"))?;
        self.transactions.check().map_err(|error| error.under("transactions"))?;
        if self.failures.len() > FAILURES_MAX {
            let count = self.failures.len();
            return Err(FieldError::new("failures", format!("at most {FAILURES_MAX} in one check-in, were {count}")));
        }
        for (index, failure) in self.failures.iter().enumerate() {
            failure.check().map_err(|error| error.at("failures", index))?;
        }
        if self.payments.len() > PAYMENTS_MAX {
            let count = self.payments.len();
            return Err(FieldError::new("payments", format!("at most {PAYMENTS_MAX} in one check-in, were {count}")));
        }
        for (index, payment) in self.payments.iter().enumerate() {
            payment.check().map_err(|error| error.at("payments", index))?;
        }
        if let Some(update) = &self.update {
            update.check().map_err(|error| error.under("update"))?;
        }
        match &self.manifest {
            Some(manifest) => manifest.check().map_err(|error| error.under("manifest")),
            None => Ok(()),
        }
    }
}

impl Check for NetworkCounters {
    fn check(&self) -> Result<(), FieldError> {
        const BYTES_MAX: u64 = 1 << 40;
        in_range("sent_bytes", Some(self.sent_bytes), 0..=BYTES_MAX, "bytes")?;
        in_range("received_bytes", Some(self.received_bytes), 0..=BYTES_MAX, "bytes")?;
        in_range("month_bytes", self.month_bytes, 0..=BYTES_MAX, "bytes")?;
        in_range("timeouts", Some(self.timeouts), 0..=COUNT_MAX, "")?;
        in_range("reconnects", Some(self.reconnects), 0..=COUNT_MAX, "")?;
        in_range("handovers", Some(self.handovers), 0..=COUNT_MAX, "")
    }
}

impl Check for DeviceHealth {
    fn check(&self) -> Result<(), FieldError> {
        in_range("battery_percent", self.battery_percent, 0..=100, "percent")?;
        in_range("battery_mv", self.battery_mv, 0..=60_000, "mV")?;
        in_range("temperature_c", self.temperature_c, -60..=150, "°C")?;
        in_range("coin_mv", self.coin_mv, 0..=6_000, "mV")?;
        in_range("icc_errors", self.icc_errors, 0..=COUNT_MAX, "")?;
        in_range("mag_errors", self.mag_errors, 0..=COUNT_MAX, "")?;
        in_range("nfc_errors", self.nfc_errors, 0..=COUNT_MAX, "")?;
        in_range("read_tries", self.read_tries, 0..=COUNT_MAX, "")?;
        digits("iccid", self.iccid.as_deref().map(|id| id.trim_end_matches(['F', 'f'])), 18..=20)?;
        digits("imei", self.imei.as_deref(), 15..=15)?;
        in_range("certificate_expires_ms", self.certificate_expires_ms, 0..=TIME_MS_MAX, "Unix ms")?;
        match self.geohash6.as_deref() {
            Some(hash) if hash.len() != 6 || !hash.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) => {
                Err(FieldError::new("geohash6", "must be a geohash of six characters"))
            }
            Some(_) | None => Ok(()),
        }
    }
}

impl Check for TransactionCounters {
    fn check(&self) -> Result<(), FieldError> {
        in_range("ok", Some(self.ok), 0..=COUNT_MAX, "")?;
        in_range("failed", Some(self.failed), 0..=COUNT_MAX, "")?;
        if self.by_code.len() > CODES_MAX {
            let count = self.by_code.len();
            return Err(FieldError::new("by_code", format!("at most {CODES_MAX} codes, were {count}")));
        }
        for (code, &count) in &self.by_code {
            if code.len() != 2 || !code.bytes().all(|b| b.is_ascii_alphanumeric()) {
                return Err(FieldError::new("by_code", "codes must be two letters or digits"));
            }
            in_range("by_code", Some(count), 0..=COUNT_MAX, "")?;
        }
        Ok(())
    }
}

fn is_zero_u32(value: &u32) -> bool {
    *value == 0
}

fn is_zero_u64(value: &u64) -> bool {
    *value == 0
}

/// What the server counted: everything of this terminal up to and including this pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Acknowledged {
    /// Highest stream seen. An agent that is behind starts a new stream after it.
    pub stream: Stream,
    /// Highest sequence number counted in that stream.
    pub seq: Seq,
}

/// A profile the terminal should apply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct DesiredConfig {
    /// Config hash: SHA-256 of the profile's canonical bytes, fetched from `/device/v1/configs/{hash}`.
    pub hash: Sha256Hex,
    /// Above 0 when the server saw that the terminal does not report this hash though it was told: the terminal
    /// fetches and applies the profile again, once for each attempt, also when it believes to have it.
    #[serde(default, skip_serializing_if = "is_zero_u32")]
    pub attempt: u32,
}

/// What the terminal should run. Facts, not commands: the same answer twice changes nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Desired {
    /// Grows whenever the terminal's director document changes; 0 while there is none. The agent reads the director
    /// when this is above the last one it finished with.
    #[serde(default)]
    pub director: i64,
    /// Profile to apply, if the organization assigned one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<DesiredConfig>,
    /// Whether the terminal was reported lost: it locks itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub locked: bool,
}

/// The server's answer, sent after the commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct CheckInAnswer {
    /// What may be dropped from the spool.
    pub acknowledged: Acknowledged,
    /// Server clock, Unix ms.
    pub server_time_ms: i64,
    /// When to call next, s from now; already spread over the fleet.
    pub next_check_in_s: u32,
    /// What to run.
    pub desired: Desired,
    /// Whether the server wants the signed manifest with the next check-in.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub manifest_wanted: bool,
}
