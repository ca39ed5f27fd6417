//! One failed (or, by policy, successful) transaction as the payment application reports it. Never card data.

use serde::{Deserialize, Serialize};

use crate::check::{digits, free_text, in_range, short_ascii};
use crate::condition::Condition;
use crate::ids::{Sha256Hex, Version};
use crate::{Check, FieldError};

/// How far the transaction got before it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(as = FailureStage))]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Reading the card or code.
    CardRead,
    /// Entering the PIN.
    Pin,
    /// Building the message.
    Pack,
    /// Resolving the host's name.
    Dns,
    /// Connecting.
    Tcp,
    /// Securing the connection.
    Tls,
    /// Sending.
    Send,
    /// Waiting for the answer.
    Wait,
    /// Checking the answer's authentication code.
    MacVerify,
    /// The host answered with a code.
    HostResp,
    /// Taking the signature.
    Esign,
    /// Uploading the signature.
    Upload,
}

impl Stage {
    /// Every stage, in order.
    pub const ALL: [Self; 12] = [
        Self::CardRead,
        Self::Pin,
        Self::Pack,
        Self::Dns,
        Self::Tcp,
        Self::Tls,
        Self::Send,
        Self::Wait,
        Self::MacVerify,
        Self::HostResp,
        Self::Esign,
        Self::Upload,
    ];

    /// Name on the wire and in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CardRead => "card_read",
            Self::Pin => "pin",
            Self::Pack => "pack",
            Self::Dns => "dns",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Send => "send",
            Self::Wait => "wait",
            Self::MacVerify => "mac_verify",
            Self::HostResp => "host_resp",
            Self::Esign => "esign",
            Self::Upload => "upload",
        }
    }
}

/// Kind of transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum TransactionType {
    /// 消费.
    Sale,
    /// 撤销.
    Void,
    /// 退货.
    Refund,
    /// 预授权.
    Preauth,
    /// 签到.
    SignIn,
    /// 结算.
    Settle,
    /// Anything else.
    Other,
}

impl TransactionType {
    /// Name on the wire and in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sale => "sale",
            Self::Void => "void",
            Self::Refund => "refund",
            Self::Preauth => "preauth",
            Self::SignIn => "sign_in",
            Self::Settle => "settle",
            Self::Other => "other",
        }
    }
}

/// How the card or code was presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(as = CardEntry))]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// Chip.
    Icc,
    /// Magnetic stripe.
    Mag,
    /// Contactless.
    Nfc,
    /// QR code.
    Qr,
}

/// Who gave the response code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ResponseSource {
    /// The card issuer.
    Issuer,
    /// The switch between banks.
    Switch,
    /// The acquirer.
    Acquirer,
    /// The terminal itself.
    Local,
}

/// What became of the reversal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ReversalState {
    /// None was needed.
    None,
    /// Waits to be sent.
    Pending,
    /// Done.
    Done,
    /// Refused.
    Failed,
}

/// What the operator did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum OperatorAction {
    /// Cancelled.
    Cancel,
    /// Let it time out.
    Timeout,
    /// Entered it again.
    Reenter,
}

/// One failure, with the condition it happened under.
///
/// `occurred_at_ms` is the terminal's clock (Unix ms). Amounts are in fen. The event id is made by the terminal and
/// is unique on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// The terminal's own id of this event, 1–36 visible ASCII characters.
    pub id: String,
    /// Terminal clock, Unix ms.
    pub occurred_at_ms: i64,
    /// Kind of transaction.
    pub transaction: TransactionType,
    /// How far it got.
    pub stage: Stage,
    /// Two-character response code (8583 field 39), if the host answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_code: Option<String>,
    /// Who gave the code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_source: Option<ResponseSource>,
    /// How card or code were presented.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<Entry>,
    /// Requested amount, fen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amount_fen: Option<i64>,
    /// Amount approved, fen, where the host approved another than the requested one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approved_fen: Option<i64>,
    /// Batch number, up to 6 digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_no: Option<String>,
    /// Trace number (8583 field 11), up to 6 digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_no: Option<String>,
    /// Retrieval reference number (8583 field 37), 12 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ref_no: Option<String>,
    /// Id of the event this one retries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<String>,
    /// Merchant number sent (8583 field 42), 15 digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merchant_no_sent: Option<String>,
    /// Terminal number sent (8583 field 41), 8 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminal_no_sent: Option<String>,
    /// Merchant number in the answer, 15 digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merchant_no_resp: Option<String>,
    /// Merchant name as printed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merchant_name_resp: Option<String>,
    /// Whole duration, ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u32>,
    /// What became of the reversal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reversal: Option<ReversalState>,
    /// What the operator did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator_action: Option<OperatorAction>,
    /// Free text from the payment application; refused if it looks like card data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Network at the moment of the failure.
    pub condition: Condition,
    /// Firmware running at that moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firmware: Option<Version>,
    /// Payment application's version at that moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<Version>,
    /// Config hash at that moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_hash: Option<Sha256Hex>,
    /// Whether an update was being installed or was on trial.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_update: Option<bool>,
    /// Battery, percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub battery_percent: Option<u8>,
}

/// Longest event id, bytes (a UUID in text).
pub const EVENT_ID_BYTES_MAX: usize = 36;
/// Longest note, bytes.
pub const NOTE_BYTES_MAX: usize = 256;

impl Check for Failure {
    fn check(&self) -> Result<(), FieldError> {
        if self.id.is_empty() {
            return Err(FieldError::new("id", "must not be empty"));
        }
        short_ascii("id", Some(&self.id), EVENT_ID_BYTES_MAX)?;
        in_range("occurred_at_ms", Some(self.occurred_at_ms), 0..=crate::checkin::TIME_MS_MAX, "Unix ms")?;
        match self.response_code.as_deref() {
            Some(code) if code.len() != 2 || !code.bytes().all(|b| b.is_ascii_alphanumeric()) => {
                return Err(FieldError::new("response_code", "must be two letters or digits"));
            }
            Some(_) | None => {}
        }
        in_range("amount_fen", self.amount_fen, 0..=99_999_999_999, "fen")?;
        in_range("approved_fen", self.approved_fen, 0..=99_999_999_999, "fen")?;
        digits("batch_no", self.batch_no.as_deref(), 1..=6)?;
        digits("trace_no", self.trace_no.as_deref(), 1..=6)?;
        short_ascii("ref_no", self.ref_no.as_deref(), 12)?;
        short_ascii("retry_of", self.retry_of.as_deref(), EVENT_ID_BYTES_MAX)?;
        digits("merchant_no_sent", self.merchant_no_sent.as_deref(), 15..=15)?;
        short_ascii("terminal_no_sent", self.terminal_no_sent.as_deref(), 8)?;
        digits("merchant_no_resp", self.merchant_no_resp.as_deref(), 15..=15)?;
        free_text("merchant_name_resp", self.merchant_name_resp.as_deref(), 120)?;
        in_range("duration_ms", self.duration_ms, 0..=3_600_000, "ms")?;
        free_text("note", self.note.as_deref(), NOTE_BYTES_MAX)?;
        in_range("battery_percent", self.battery_percent, 0..=100, "percent")?;
        self.condition.check().map_err(|error| error.under("condition"))
    }
}
