//! What the rules look at. Pure values: whoever gathers them says `None` for what is not available, and a rule that needs
//! it answers "not checked", never "no".

use tillward_protocol::checkin::{BootReason, Tamper};
use tillward_protocol::condition::Condition;
use tillward_protocol::failure::{
    Entry, Failure, OperatorAction, ResponseSource, ReversalState, Stage, TransactionType,
};

use super::verdict::{Cause, EvidenceLevel};

/// Whether something happened before the event, and how long before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happened {
    /// It did not, as far back as is kept.
    Not,
    /// This long before the event, ms.
    BeforeMs(i64),
}

/// The terminal's own update at the moment of the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnUpdate {
    /// None under way, and none lately.
    Not,
    /// Installing, rebooting or on trial at that moment.
    UnderWay,
    /// It ended this long before the event, ms.
    EndedBeforeMs(i64),
}

/// Why the terminal started last, and how long before the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Boot {
    /// Why.
    pub reason: BootReason,
    /// How long before the event, ms.
    pub before_ms: i64,
}

/// What the card reader did lately, over all entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReaderCounts {
    /// Failed reads.
    pub errors: u32,
    /// Attempts.
    pub tries: u32,
}

/// The latest failures of a terminal that were all in reading the card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CardReadRun {
    /// How many in a row, this one included.
    pub failures: u32,
    /// On how many different entries (chip, stripe, contactless).
    pub entries: u32,
}

/// One failure with what is known about its terminal, its like and its bank at that moment.
///
/// Duplicates (R0) are gone before: an event is stored once.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EventFacts {
    /// Kind of transaction.
    pub transaction: Option<TransactionType>,
    /// How far it got.
    pub stage: Option<Stage>,
    /// Response code (8583 field 39).
    pub response_code: Option<String>,
    /// Who gave it.
    pub response_source: Option<ResponseSource>,
    /// How the card was presented.
    pub entry: Option<Entry>,
    /// Amount asked for, fen.
    pub amount_fen: Option<i64>,
    /// Amount approved, fen, where that is known to be another.
    pub approved_fen: Option<i64>,
    /// What the operator did.
    pub operator_action: Option<OperatorAction>,
    /// What became of the reversal.
    pub reversal: Option<ReversalState>,
    /// Link and latencies at that moment.
    pub condition: Condition,
    /// Minute of the day at the terminal's place, 0–1439.
    pub local_minute: Option<u32>,
    /// Reconnects within the ten minutes before.
    pub reconnects_10min: Option<u32>,
    /// Whether no host at all could be reached.
    pub all_hosts_unreachable: Option<bool>,
    /// Another SIM card was seen than before.
    pub iccid_changed: Option<Happened>,
    /// The modem is another one than the bound one (its IMEI differs).
    pub imei_changed: Option<Happened>,
    /// Data used in this billing month, bytes.
    pub month_bytes: Option<u64>,
    /// Data allowed in a month, bytes.
    pub quota_bytes: Option<u64>,
    /// The configuration in force changed.
    pub config_changed: Option<Happened>,
    /// Firmware or payment application changed.
    pub version_changed: Option<Happened>,
    /// The terminal's own update.
    pub own_update: Option<OwnUpdate>,
    /// Last start.
    pub boot: Option<Boot>,
    /// Tamper protection.
    pub tamper: Option<Tamper>,
    /// Whether the PIN pad is in order.
    pub ped_ok: Option<bool>,
    /// What the card reader did lately.
    pub reader: Option<ReaderCounts>,
    /// Failures to read a card in a row.
    pub card_read_run: Option<CardReadRun>,
    /// Whether the terminal was signed in at the acquirer.
    pub signed_in: Option<bool>,
    /// Whether other terminals of the same carrier got through at that time.
    pub peers_fine: Option<bool>,
    /// Whether a bank outage (B1) was open at that time.
    pub bank_outage: Option<bool>,
    /// How long before the event (negative: after it) the earliest certificate ran out, ms.
    pub certificate_expired_ms: Option<i64>,
    /// Failures of this terminal with the same code within a day, this one included, retries of one another counted once.
    pub same_code_day: Option<u32>,
    /// Failures with this code at the same merchant within a day, this one included, all its terminals together.
    pub merchant_code_day: Option<u32>,
}

impl EventFacts {
    /// The facts that the event itself carries; everything else is not available yet.
    pub fn of(event: &Failure) -> Self {
        Self {
            transaction: Some(event.transaction),
            stage: Some(event.stage),
            response_code: event.response_code.clone(),
            response_source: event.response_source,
            entry: event.entry,
            amount_fen: event.amount_fen,
            approved_fen: event.approved_fen,
            operator_action: event.operator_action,
            reversal: event.reversal,
            condition: event.condition.clone(),
            ..Self::default()
        }
    }
}

/// Where a feed's row stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedStatus {
    /// Not settled yet: nothing is compared.
    Processing,
    /// Settled.
    Success,
    /// Failed.
    Failure,
}

/// An order inside an order: a SIM fee, a deposit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecondOrder {
    /// What the channel calls it.
    pub kind: String,
    /// Amount, fen.
    pub amount_fen: i64,
}

/// One row of a channel's feed, or what was typed in from a query or a bill.
#[derive(Debug, Clone, PartialEq)]
pub struct FeedRow {
    /// Where it stands.
    pub status: FeedStatus,
    /// Merchant number settled; not fifteen digits when it is the channel's own.
    pub merchant_no: Option<String>,
    /// Merchant name settled.
    pub merchant_name: Option<String>,
    /// Merchant category cleared, four digits.
    pub mcc_cleared: Option<String>,
    /// Amount of the transaction, fen.
    pub amount_fen: Option<i64>,
    /// Amount settled, fen.
    pub settle_amount_fen: Option<i64>,
    /// Fee, fen.
    pub fee_fen: Option<i64>,
    /// Fee for paying out, fen.
    pub withdraw_fee_fen: Option<i64>,
    /// Rate, millionths (0.60 % is 6000).
    pub rate_ppm: Option<i64>,
    /// Whether the fee reached its cap.
    pub capped: Option<bool>,
    /// Orders inside; `None` when the feed says nothing about them.
    pub second_orders: Option<Vec<SecondOrder>>,
    /// When it succeeded, Unix ms.
    pub success_at_ms: Option<i64>,
}

/// What the terminal was bound to *at the time of the transaction*.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Binding {
    /// Merchant number, 15 digits.
    pub merchant_no: String,
    /// Merchant name.
    pub merchant_name: Option<String>,
    /// The merchant's category, where it is known to be another than digits 8–11 say.
    pub mcc: Option<String>,
    /// Risk class; `None`: that of the category.
    pub risk_class: Option<String>,
    /// Other numbers of the merchant that were approved and valid then.
    pub aliases: Vec<String>,
    /// Contracted rate, millionths (0.60 % is 6000).
    pub contracted_rate_ppm: Option<i64>,
}

/// What is known about a settled merchant number that is not the bound one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberKnown {
    /// Nobody has judged it: first seen, or under review.
    Unjudged,
    /// Somebody looked and says that it is none of the merchant's.
    Foreign,
    /// It is the number of another merchant of ours.
    OtherMerchant,
}

/// What the terminal says about the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TerminalSide {
    /// It succeeded there.
    Succeeded,
    /// It failed there, for this reason as far as that is known.
    Failed(Option<Cause>),
    /// The terminal reports successes and knows nothing of this one.
    NotSeen,
}

/// One payment as the channel, the terminal and the registry know it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SettlementFacts {
    /// The feed's row; `None` when the feed has none.
    pub row: Option<FeedRow>,
    /// How close to the cardholder the row was seen.
    pub level: Option<EvidenceLevel>,
    /// Binding at the transaction time; `None` when there was none or none is known.
    pub binding: Option<Binding>,
    /// What is known about the number settled, when it is not the bound one.
    pub number_known: Option<NumberKnown>,
    /// Merchant number that the terminal sent, from the matched event.
    pub merchant_no_sent: Option<String>,
    /// Whether the reported config hash differed from the expected one.
    pub config_drift: Option<bool>,
    /// What the terminal says; `None` when it does not report successes.
    pub terminal: Option<TerminalSide>,
    /// Age of the transaction, ms.
    pub age_ms: Option<i64>,
    /// How long its reversal has been pending, ms; `None` when there is none.
    pub reversal_pending_ms: Option<i64>,
}
