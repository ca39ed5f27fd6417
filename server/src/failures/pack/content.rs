//! What an evidence pack says about one transaction: values and codes, no words. Pure.
//!
//! It is what a merchant may be shown: the end of the serial number alone, no person, no card. It never says who is to
//! blame: it says what was seen, what it was compared with, what that excludes, and how much was checked.

use serde::{Deserialize, Serialize};
use tillward_protocol::condition::{Access, Condition};
use tillward_protocol::failure::{Failure, Stage};

use crate::failures::classify::{EvidenceLevel, Judgement};

/// Version of this form.
pub const CONTENT_VERSION: u8 = 1;
/// Characters of the serial number that are shown.
const TAIL_CHARS: usize = 4;

/// Everything in a pack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = EvidencePackContent)]
pub struct Content {
    /// [`CONTENT_VERSION`].
    pub v: u8,
    /// When it was put together, Unix ms.
    pub made_at_ms: i64,
    /// The transaction.
    pub transaction: Transaction,
    /// Whose the terminal is.
    pub bound: Bound,
    /// Terminal and network at that moment.
    pub moment: Moment,
    /// What that excludes and what it does not.
    pub parts: Vec<PartFinding>,
    /// What the channel settled.
    pub settled: Vec<Settled>,
    /// What people looked up.
    pub lookups: Vec<Seen>,
    /// What the rules say.
    pub judgements: Vec<Judged>,
    /// How much of the terminal's organization was checked, around that time.
    pub coverage: Vec<Checked>,
    /// Transactions that the coverage is of; absent where nobody reports them.
    pub coverage_of: Option<i64>,
    /// Days around the transaction that the coverage is of.
    pub coverage_days: i64,
}

/// Whether the transaction failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = EvidenceOutcome)]
pub enum Outcome {
    /// It failed at the terminal.
    Failed,
    /// It succeeded at the terminal.
    Succeeded,
}

/// The transaction as it was reported.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = EvidenceTransaction)]
pub struct Transaction {
    /// How it ended at the terminal.
    pub outcome: Outcome,
    /// The terminal's id of it.
    pub event_id: String,
    /// The last characters of the serial number.
    pub sn_tail: String,
    /// When, by the terminal's clock, Unix ms.
    pub occurred_at_ms: i64,
    /// Who reported it: `terminal`, `rest` or `file`.
    pub reported_by: String,
    /// Kind of transaction.
    pub transaction_type: String,
    /// How far it got, if it failed.
    pub stage: Option<String>,
    /// Response code.
    pub response_code: Option<String>,
    /// Who gave it.
    pub response_source: Option<String>,
    /// Requested amount, fen.
    pub amount_fen: Option<i64>,
    /// Batch number.
    pub batch_no: Option<String>,
    /// Trace number.
    pub trace_no: Option<String>,
    /// Reference number.
    pub ref_no: Option<String>,
    /// Merchant number sent.
    pub merchant_no_sent: Option<String>,
    /// Merchant number in the answer.
    pub merchant_no_resp: Option<String>,
    /// Merchant name as printed.
    pub merchant_name_resp: Option<String>,
}

/// Whose the terminal is by the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = EvidenceBinding)]
pub struct Bound {
    /// Merchant number.
    pub merchant_no: Option<String>,
    /// Merchant's name.
    pub merchant_name: Option<String>,
    /// Store.
    pub store_name: Option<String>,
    /// Channel's number of the terminal.
    pub terminal_no: Option<String>,
    /// Model.
    pub model: String,
    /// Config hash that it should report.
    pub config_expected: Option<String>,
}

/// Where the circumstances are known from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = EvidenceMomentSource)]
pub enum MomentSource {
    /// The event itself carried them.
    Event,
    /// The nearest check-in, so many ms away.
    Sample {
        /// How far it is from the transaction, ms.
        away_ms: i64,
    },
    /// They are not available.
    None,
}

/// Terminal and network at the moment of the transaction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = EvidenceMoment)]
pub struct Moment {
    /// Where it is known from.
    pub source: MomentSource,
    /// Firmware.
    pub firmware: Option<String>,
    /// Payment application.
    pub app: Option<String>,
    /// Config hash.
    pub config_hash: Option<String>,
    /// Whether an update was under way.
    pub in_update: Option<bool>,
    /// Battery, percent.
    pub battery_percent: Option<i64>,
    /// Access type, carrier and signal.
    pub condition: Condition,
    /// Carrier by name, as the conditions say.
    pub carrier: String,
}

/// A part of the way that may have failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = EvidencePart)]
pub enum Part {
    /// Network.
    Network,
    /// The device itself.
    Device,
    /// Firmware and updates.
    Update,
    /// Parameters.
    Config,
}

/// What is known about a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = EvidenceStanding)]
pub enum Known {
    /// It cannot have been this.
    Excluded,
    /// It may have been this.
    Possible,
    /// Nobody can tell.
    NotChecked,
}

/// One observed value beside what it is compared with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = EvidenceValue)]
pub struct Value {
    /// Field.
    pub field: String,
    /// What was seen.
    pub observed: String,
    /// What it was compared with.
    pub threshold: String,
}

/// What is known about one part, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = EvidencePartFinding)]
pub struct PartFinding {
    /// The part.
    pub part: Part,
    /// What is known.
    pub known: Known,
    /// Why: a code that has words.
    pub why: String,
    /// The values it rests on.
    pub values: Vec<Value>,
}

/// What a channel settled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = EvidenceSettlement)]
pub struct Settled {
    /// When, Unix ms.
    pub at_ms: i64,
    /// How surely it is this transaction: `ref`, `trace` or `weak`.
    pub match_quality: String,
    /// Amount, fen.
    pub amount_fen: i64,
    /// Settled, fen.
    pub settle_fen: Option<i64>,
    /// Fee, fen.
    pub fee_fen: Option<i64>,
    /// Fee for paying out, fen.
    pub withdraw_fen: Option<i64>,
    /// Orders inside: kind and amount in fen.
    pub second_orders: Vec<(String, i64)>,
    /// Rate, millionths.
    pub rate_ppm: Option<i64>,
    /// Whether the fee reached its cap.
    pub capped: Option<bool>,
    /// Whether the channel says anything about orders inside.
    pub says_second_orders: bool,
    /// What is left when everything named is taken off, fen.
    pub residual_fen: Option<i64>,
    /// Merchant number.
    pub merchant_no: Option<String>,
    /// Merchant's name.
    pub merchant_name: Option<String>,
    /// Merchant category.
    pub mcc: Option<String>,
}

/// What a person saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = EvidenceLookup)]
pub struct Seen {
    /// `L2` or `L3`.
    pub level: String,
    /// Where.
    pub source: String,
    /// When, Unix ms.
    pub looked_up_at_ms: i64,
    /// Merchant's name.
    pub merchant_name: Option<String>,
    /// Merchant number.
    pub merchant_no: Option<String>,
    /// Merchant category.
    pub mcc: Option<String>,
}

/// What the rules say about one thing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = EvidenceJudgement)]
pub struct Judged {
    /// How close to the cardholder it was seen; absent for what the terminal itself saw.
    pub level: Option<EvidenceLevel>,
    /// The judgement.
    pub judgement: Judgement,
    /// Hash of the tables that it compared with.
    pub tables_hash: String,
}

/// How many transactions were checked at one level.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = EvidenceChecked)]
pub struct Checked {
    /// `L1`, `L2` or `L3`.
    pub level: String,
    /// Checked at this level.
    pub checked: i64,
}

/// The end of a serial number.
pub fn tail(sn: &str) -> String {
    let skipped = sn.chars().count().saturating_sub(TAIL_CHARS);
    sn.chars().skip(skipped).collect()
}

/// Numbers that cleared instead of what fees explain: what is left of the difference between amount and settlement.
pub fn residual(
    amount_fen: i64,
    settle_fen: Option<i64>,
    fee_fen: Option<i64>,
    withdraw_fen: Option<i64>,
    second_orders: &[(String, i64)],
) -> Option<i64> {
    let named =
        fee_fen.unwrap_or(0) + withdraw_fen.unwrap_or(0) + second_orders.iter().map(|(_, fen)| fen).sum::<i64>();
    // Without a fee nothing is known about what the difference is made of.
    fee_fen?;
    Some(amount_fen - settle_fen? - named)
}

/// What is known about each part of the way, from the transaction and the moment. `failure` is absent for a success.
pub fn parts(failure: Option<&Failure>, moment: &Moment, transaction: &Transaction, bound: &Bound) -> Vec<PartFinding> {
    vec![network(failure, moment), device(failure), update(moment), config(moment, transaction, bound)]
}

fn finding(part: Part, known: Known, why: &str, values: Vec<Value>) -> PartFinding {
    PartFinding { part, known, why: why.to_owned(), values }
}

fn value(field: &str, observed: impl ToString, threshold: &str) -> Value {
    Value { field: field.to_owned(), observed: observed.to_string(), threshold: threshold.to_owned() }
}

/// The merchant's number is decided upstream: no signal changes it. An answer that came back went through the network.
fn network(failure: Option<&Failure>, moment: &Moment) -> PartFinding {
    let values = radio(&moment.condition);
    let (known, why) = match failure.map(|failure| failure.stage) {
        None => (Known::Excluded, "succeeded"),
        Some(Stage::CardRead | Stage::Pin | Stage::Pack) => (Known::Excluded, "nothing_sent"),
        Some(Stage::Dns | Stage::Tcp | Stage::Tls | Stage::Send | Stage::Wait) => (Known::Possible, "on_the_way"),
        Some(Stage::HostResp | Stage::MacVerify) => (Known::Excluded, "answered"),
        // After the answer; the upload is a way of its own.
        Some(Stage::Esign) => (Known::Excluded, "answered"),
        Some(Stage::Upload) => (Known::Possible, "on_the_way"),
    };
    finding(Part::Network, known, why, values)
}

/// Measured values of the link in use, beside what counts as weak.
fn radio(condition: &Condition) -> Vec<Value> {
    let mut values = Vec::new();
    if let Some(rsrp) = condition.rsrp_dbm {
        values.push(value("rsrp_dbm", rsrp, "< -115"));
    }
    if let Some(sinr) = condition.sinr_db {
        values.push(value("sinr_db", sinr, "< -3"));
    }
    if let (Some(Access::Wifi), Some(rssi)) = (condition.access, condition.rssi_dbm) {
        values.push(value("rssi_dbm", rssi, "< -80"));
    }
    if let Some(loss) = condition.loss_percent {
        values.push(value("loss_percent", loss, "> 0"));
    }
    values
}

fn device(failure: Option<&Failure>) -> PartFinding {
    let (known, why) = match failure.map(|failure| failure.stage) {
        None => (Known::Excluded, "succeeded"),
        Some(Stage::CardRead | Stage::Pack | Stage::MacVerify | Stage::Esign) => (Known::Possible, "at_the_terminal"),
        Some(Stage::Pin) => (Known::Possible, "at_the_counter"),
        // The card was read and the message made; what came later was elsewhere.
        Some(Stage::Dns | Stage::Tcp | Stage::Tls | Stage::Send | Stage::Wait | Stage::Upload) => {
            (Known::NotChecked, "message_made")
        }
        Some(Stage::HostResp) => (Known::Excluded, "answered"),
    };
    finding(Part::Device, known, why, Vec::new())
}

fn update(moment: &Moment) -> PartFinding {
    let (known, why) = match moment.in_update {
        Some(true) => (Known::Possible, "update_under_way"),
        Some(false) => (Known::Excluded, "no_update"),
        None => (Known::NotChecked, "not_available"),
    };
    let values = moment.firmware.iter().map(|firmware| value("firmware", firmware, "")).collect();
    finding(Part::Update, known, why, values)
}

/// What the terminal sent says more than the hash of its parameters.
fn config(moment: &Moment, transaction: &Transaction, bound: &Bound) -> PartFinding {
    if let (Some(sent), Some(expected)) = (&transaction.merchant_no_sent, &bound.merchant_no) {
        let values = vec![value("merchant_no_sent", sent, expected)];
        return if sent == expected {
            finding(Part::Config, Known::Excluded, "sent_bound_number", values)
        } else {
            finding(Part::Config, Known::Possible, "sent_other_number", values)
        };
    }
    match (&moment.config_hash, &bound.config_expected) {
        (Some(reported), Some(expected)) => {
            let short = |hash: &str| hash.chars().take(16).collect::<String>();
            let values = vec![value("config_hash", short(reported), &short(expected))];
            if reported == expected {
                finding(Part::Config, Known::Excluded, "config_as_told", values)
            } else {
                finding(Part::Config, Known::Possible, "config_differs", values)
            }
        }
        (None, _) | (_, None) => finding(Part::Config, Known::NotChecked, "not_available", Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: &str = "850331053110612";

    fn failure(stage: Stage) -> Failure {
        let json = r#"{"id":"e","occurred_at_ms":1,"transaction":"sale","stage":"wait","condition":{}}"#;
        Failure { stage, ..serde_json::from_str(json).unwrap() }
    }

    fn moment() -> Moment {
        Moment {
            source: MomentSource::Event,
            firmware: Some("4.1.0".to_owned()),
            app: None,
            config_hash: Some("aa".to_owned()),
            in_update: Some(false),
            battery_percent: None,
            condition: Condition { rsrp_dbm: Some(-120), ..Condition::default() },
            carrier: "CMCC".to_owned(),
        }
    }

    fn transaction(sent: Option<&str>) -> Transaction {
        Transaction {
            outcome: Outcome::Succeeded,
            event_id: "e".to_owned(),
            sn_tail: "8929".to_owned(),
            occurred_at_ms: 1,
            reported_by: "terminal".to_owned(),
            transaction_type: "sale".to_owned(),
            stage: None,
            response_code: None,
            response_source: None,
            amount_fen: Some(100),
            batch_no: None,
            trace_no: None,
            ref_no: None,
            merchant_no_sent: sent.map(str::to_owned),
            merchant_no_resp: None,
            merchant_name_resp: None,
        }
    }

    fn bound() -> Bound {
        Bound {
            merchant_no: Some(BOUND.to_owned()),
            merchant_name: None,
            store_name: None,
            terminal_no: None,
            model: "demo-p1".to_owned(),
            config_expected: Some("aa".to_owned()),
        }
    }

    fn known(parts: &[PartFinding], part: Part) -> Known {
        parts.iter().find(|finding| finding.part == part).unwrap().known
    }

    #[test]
    fn a_weak_network_is_excluded_wherever_the_answer_came_back() {
        for (failure, expected) in [
            (None, Known::Excluded),
            (Some(failure(Stage::HostResp)), Known::Excluded),
            (Some(failure(Stage::CardRead)), Known::Excluded),
            (Some(failure(Stage::Wait)), Known::Possible),
            (Some(failure(Stage::Tls)), Known::Possible),
        ] {
            let parts = parts(failure.as_ref(), &moment(), &transaction(None), &bound());
            assert_eq!(known(&parts, Part::Network), expected, "{failure:?}");
            // The values stand beside it either way.
            assert_eq!(parts[0].values[0].observed, "-120");
        }
    }

    #[test]
    fn what_the_terminal_sent_decides_about_its_parameters() {
        let config = |sent: Option<&str>, moment: &Moment, bound: &Bound| {
            known(&parts(None, moment, &transaction(sent), bound), Part::Config)
        };
        let other = Moment { config_hash: Some("bb".to_owned()), ..moment() };
        assert_eq!(config(Some(BOUND), &other, &bound()), Known::Excluded);
        assert_eq!(config(Some("850100059980612"), &moment(), &bound()), Known::Possible);
        assert_eq!(config(None, &moment(), &bound()), Known::Excluded);
        assert_eq!(config(None, &other, &bound()), Known::Possible);
        assert_eq!(config(None, &moment(), &Bound { config_expected: None, ..bound() }), Known::NotChecked);
    }

    #[test]
    fn what_is_not_available_is_not_checked_and_never_healthy() {
        let nothing = Moment { in_update: None, config_hash: None, source: MomentSource::None, ..moment() };
        let parts = parts(None, &nothing, &transaction(None), &bound());
        assert_eq!(known(&parts, Part::Update), Known::NotChecked);
        assert_eq!(known(&parts, Part::Config), Known::NotChecked);
    }

    #[test]
    fn fees_are_taken_off_before_anything_is_called_missing() {
        let orders = vec![("sim".to_owned(), 9_900)];
        assert_eq!(residual(618_187, Some(604_578), Some(3_709), None, &orders), Some(0));
        assert_eq!(residual(618_187, Some(604_577), Some(3_709), None, &orders), Some(1));
        assert_eq!(residual(100, Some(90), None, None, &[]), None, "without a fee nothing is said");
        assert_eq!(residual(100, None, Some(1), None, &[]), None);
    }

    #[test]
    fn only_the_end_of_a_serial_number_is_shown() {
        assert_eq!(tail("00005702280117638929"), "8929");
        assert_eq!(tail("12"), "12");
    }
}
