//! One failure as an organization reports it by itself: checked, and then the same as a terminal's. Pure.

use serde::{Deserialize, Serialize};
use tillward_protocol::checkin::TIME_MS_MAX;
use tillward_protocol::condition::Condition;
use tillward_protocol::crypto::sha256;
use tillward_protocol::failure::{
    Entry, Failure, OperatorAction, ResponseSource, ReversalState, Stage, TransactionType,
};
use tillward_protocol::ids::{Sha256Hex, Version};
use tillward_protocol::{Check, FieldError, pan};

/// How far ahead of the server's a clock may be, ms.
const AHEAD_MS_MAX: i64 = 3_600_000;
/// Oldest failure that is taken, ms before now: as long as failures are kept.
pub const AGE_MS_MAX: i64 = 180 * 86_400_000;
/// Response codes of approved transactions.
const APPROVED: [&str; 8] = ["00", "10", "11", "16", "A2", "A4", "A5", "A6"];

/// Every kind of transaction.
const KINDS: [TransactionType; 7] = [
    TransactionType::Sale,
    TransactionType::Void,
    TransactionType::Refund,
    TransactionType::Preauth,
    TransactionType::SignIn,
    TransactionType::Settle,
    TransactionType::Other,
];

/// A failed transaction that no terminal reported.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewFailure {
    /// Serial number of the terminal.
    pub sn: String,
    /// Your own id of this event, unique on the terminal, 1–36 visible ASCII characters. Without one it is known again by
    /// its content.
    #[serde(default)]
    pub id: Option<String>,
    /// When it failed, Unix ms.
    pub occurred_at_ms: i64,
    /// Kind of transaction; `other` when absent.
    #[serde(default)]
    pub transaction: Option<TransactionType>,
    /// How far it got. May be absent where the host answered with a code.
    #[serde(default)]
    pub stage: Option<Stage>,
    /// Two-character response code (8583 field 39).
    #[serde(default)]
    pub response_code: Option<String>,
    /// Who gave the code.
    #[serde(default)]
    pub response_source: Option<ResponseSource>,
    /// How card or code were presented.
    #[serde(default)]
    pub entry: Option<Entry>,
    /// Requested amount, fen.
    #[serde(default)]
    pub amount_fen: Option<i64>,
    /// Approved amount, fen, where it is another than the requested one.
    #[serde(default)]
    pub approved_fen: Option<i64>,
    /// Batch number, up to 6 digits.
    #[serde(default)]
    pub batch_no: Option<String>,
    /// Trace number (8583 field 11), up to 6 digits.
    #[serde(default)]
    pub trace_no: Option<String>,
    /// Retrieval reference number (8583 field 37), 12 characters.
    #[serde(default)]
    pub ref_no: Option<String>,
    /// Id of the event this one retries.
    #[serde(default)]
    pub retry_of: Option<String>,
    /// Merchant number sent, 15 digits.
    #[serde(default)]
    pub merchant_no_sent: Option<String>,
    /// Terminal number sent, 8 characters.
    #[serde(default)]
    pub terminal_no_sent: Option<String>,
    /// Merchant number in the answer, 15 digits.
    #[serde(default)]
    pub merchant_no_resp: Option<String>,
    /// Merchant name as printed.
    #[serde(default)]
    pub merchant_name_resp: Option<String>,
    /// What became of the reversal.
    #[serde(default)]
    pub reversal: Option<ReversalState>,
    /// What the operator did.
    #[serde(default)]
    pub operator_action: Option<OperatorAction>,
    /// Free text; refused if it looks like card data.
    #[serde(default)]
    pub note: Option<String>,
    /// Network at the moment of the failure, as far as it is known.
    #[serde(default)]
    pub condition: Condition,
    /// Firmware at that moment.
    #[serde(default)]
    pub firmware: Option<Version>,
    /// Payment application's version at that moment.
    #[serde(default)]
    pub app: Option<Version>,
    /// Config hash at that moment.
    #[serde(default)]
    pub config_hash: Option<Sha256Hex>,
}

impl NewFailure {
    /// A failure of the terminal `sn` at a time, of which nothing else is known yet.
    pub fn new(sn: String, occurred_at_ms: i64) -> Self {
        Self {
            sn,
            id: None,
            occurred_at_ms,
            transaction: None,
            stage: None,
            response_code: None,
            response_source: None,
            entry: None,
            amount_fen: None,
            approved_fen: None,
            batch_no: None,
            trace_no: None,
            ref_no: None,
            retry_of: None,
            merchant_no_sent: None,
            terminal_no_sent: None,
            merchant_no_resp: None,
            merchant_name_resp: None,
            reversal: None,
            operator_action: None,
            note: None,
            condition: Condition::default(),
            firmware: None,
            app: None,
            config_hash: None,
        }
    }

    /// Checks every field.
    ///
    /// # Errors
    /// The first field that cannot be accepted; never its value, where that may be card data.
    pub fn parse(self, now_ms: i64) -> Result<Failure, FieldError> {
        if !(0..=TIME_MS_MAX).contains(&self.occurred_at_ms) {
            return Err(FieldError::new("occurred_at_ms", format!("must be between 0 and {TIME_MS_MAX} Unix ms")));
        }
        if self.occurred_at_ms > now_ms.saturating_add(AHEAD_MS_MAX) {
            return Err(FieldError::new("occurred_at_ms", "is in the future"));
        }
        if self.occurred_at_ms < now_ms.saturating_sub(AGE_MS_MAX) {
            return Err(FieldError::new("occurred_at_ms", "is longer ago than failures are kept (180 days)"));
        }
        for (field, id) in [("id", &self.id), ("retry_of", &self.retry_of)] {
            if id.as_deref().is_some_and(pan::contains_card_data) {
                return Err(FieldError::new(field, "looks like card data, which is never accepted"));
            }
        }
        let failure = Failure { id: self.event_id(), stage: self.known_stage()?, ..self.rest() };
        failure.check()?;
        Ok(failure)
    }

    /// A code is an answer of the host; without either nothing is known of the failure.
    fn known_stage(&self) -> Result<Stage, FieldError> {
        match (self.stage, self.response_code.as_deref()) {
            (Some(stage), _) => Ok(stage),
            (None, Some(code)) if APPROVED.contains(&code) && !self.is_partial() => Err(FieldError::new(
                "response_code",
                "says that the transaction was approved; this list takes failures",
            )),
            (None, Some(_)) => Ok(Stage::HostResp),
            (None, None) => Err(FieldError::new("stage", "must be given where there is no response code")),
        }
    }

    /// Less was approved than asked for: somebody has to collect the rest.
    fn is_partial(&self) -> bool {
        self.approved_fen.zip(self.amount_fen).is_some_and(|(approved, asked)| approved < asked)
    }

    fn event_id(&self) -> String {
        if let Some(id) = &self.id {
            return id.clone();
        }
        let stage = self.stage.map(Stage::as_str);
        let parts = [
            Some(self.sn.as_str()),
            self.transaction.map(TransactionType::as_str),
            stage,
            self.response_code.as_deref(),
            self.batch_no.as_deref(),
            self.trace_no.as_deref(),
            self.ref_no.as_deref(),
        ];
        let numbers = (self.occurred_at_ms, self.amount_fen);
        // Text in quotes, `null` where there is none: no two contents have the same encoding.
        let content = format!("{parts:?} {numbers:?}");
        let digest = hex::encode(sha256(content.as_bytes()));
        format!("imp-{}", digest.get(..32).unwrap_or(&digest))
    }

    fn rest(self) -> Failure {
        Failure {
            id: String::new(),
            occurred_at_ms: self.occurred_at_ms,
            transaction: self.transaction.unwrap_or(TransactionType::Other),
            stage: Stage::HostResp,
            response_code: self.response_code,
            response_source: self.response_source,
            entry: self.entry,
            amount_fen: self.amount_fen,
            approved_fen: self.approved_fen,
            batch_no: self.batch_no,
            trace_no: self.trace_no,
            ref_no: self.ref_no,
            retry_of: self.retry_of,
            merchant_no_sent: self.merchant_no_sent,
            terminal_no_sent: self.terminal_no_sent,
            merchant_no_resp: self.merchant_no_resp,
            merchant_name_resp: self.merchant_name_resp,
            duration_ms: None,
            reversal: self.reversal,
            operator_action: self.operator_action,
            note: self.note,
            condition: self.condition,
            firmware: self.firmware,
            app: self.app,
            config_hash: self.config_hash,
            in_update: None,
            battery_percent: None,
        }
    }
}

/// The day of a moment at a place that is `utc_offset_min` ahead of UTC: days since 1970.
pub fn local_day(at_ms: i64, utc_offset_min: i64) -> i64 {
    at_ms.saturating_add(utc_offset_min.saturating_mul(60_000)).div_euclid(86_400_000)
}

/// What a transaction is called among those of its terminal, as far as its numbers are known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// By batch, trace, day and kind (rule R0), the surer name; several where the kind may be another one.
    pub by_trace: Vec<String>,
    /// By reference number and day.
    pub by_reference: Option<String>,
}

impl Names {
    /// All of them, the surer ones first.
    pub fn all(&self) -> impl Iterator<Item = &str> {
        self.by_trace.iter().chain(&self.by_reference).map(String::as_str)
    }

    /// The same among the transactions of all terminals.
    pub fn of_terminal(self, terminal_id: i64) -> Self {
        let full = |name: String| format!("{terminal_id}|{name}");
        Self { by_trace: self.by_trace.into_iter().map(full).collect(), by_reference: self.by_reference.map(full) }
    }
}

/// What a transaction is called.
pub fn names(failure: &Failure, utc_offset_min: i64) -> Names {
    let day = local_day(failure.occurred_at_ms, utc_offset_min);
    let by_trace = numbers(failure).map(|numbers| traced(numbers, day, failure.transaction));
    Names { by_trace: by_trace.into_iter().collect(), by_reference: by_reference(failure, day) }
}

/// What the same transaction may be called by others: who does not know its kind calls it another one, which is no kind.
pub fn names_elsewhere(failure: &Failure, utc_offset_min: i64) -> Names {
    let day = local_day(failure.occurred_at_ms, utc_offset_min);
    let kinds = match failure.transaction {
        TransactionType::Other => KINDS.to_vec(),
        known => vec![known, TransactionType::Other],
    };
    let by_trace = numbers(failure).map(|numbers| kinds.into_iter().map(move |kind| traced(numbers, day, kind)));
    Names { by_trace: by_trace.into_iter().flatten().collect(), by_reference: by_reference(failure, day) }
}

/// A failure as its terminal reports it, with what only the organization knew that told of it before. How far it got and
/// the code with it are the terminal's: a host's answer that never arrived is no answer there.
pub fn completed(own: &Failure, told: &Failure) -> Failure {
    let text = |own: &Option<String>, told: &Option<String>| own.clone().or_else(|| told.clone());
    let transaction = match own.transaction {
        TransactionType::Other => told.transaction,
        known => known,
    };
    Failure {
        id: told.id.clone(),
        transaction,
        entry: own.entry.or(told.entry),
        amount_fen: own.amount_fen.or(told.amount_fen),
        approved_fen: own.approved_fen.or(told.approved_fen),
        batch_no: text(&own.batch_no, &told.batch_no),
        trace_no: text(&own.trace_no, &told.trace_no),
        ref_no: text(&own.ref_no, &told.ref_no),
        retry_of: text(&own.retry_of, &told.retry_of),
        merchant_no_sent: text(&own.merchant_no_sent, &told.merchant_no_sent),
        terminal_no_sent: text(&own.terminal_no_sent, &told.terminal_no_sent),
        merchant_no_resp: text(&own.merchant_no_resp, &told.merchant_no_resp),
        merchant_name_resp: text(&own.merchant_name_resp, &told.merchant_name_resp),
        reversal: own.reversal.or(told.reversal),
        operator_action: own.operator_action.or(told.operator_action),
        note: text(&own.note, &told.note),
        ..own.clone()
    }
}

/// Batch and trace. Leading zeros are a matter of who wrote the number; zeros alone are no trace.
fn numbers(failure: &Failure) -> Option<(&str, &str)> {
    let (batch, trace) = (failure.batch_no.as_deref()?, failure.trace_no.as_deref()?);
    let (batch, trace) = (batch.trim_start_matches('0'), trace.trim_start_matches('0'));
    (!trace.is_empty()).then_some((batch, trace))
}

fn traced((batch, trace): (&str, &str), day: i64, kind: TransactionType) -> String {
    format!("{batch}|{trace}|{day}|{}", kind.as_str())
}

fn by_reference(failure: &Failure, day: i64) -> Option<String> {
    reference(failure).map(|number| format!("ref|{number}|{day}"))
}

fn reference(failure: &Failure) -> Option<&str> {
    failure.ref_no.as_deref().map(|number| number.trim_start_matches('0')).filter(|number| !number.is_empty())
}

/// Whether a transaction has any [name](names); makes none, and so costs nothing.
pub fn has_name(failure: &Failure) -> bool {
    numbers(failure).is_some() || reference(failure).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_790_000_000_000;

    fn item() -> NewFailure {
        NewFailure { response_code: Some("51".to_owned()), ..NewFailure::new("SN1".to_owned(), NOW_MS - 60_000) }
    }

    #[test]
    fn little_is_enough_and_what_is_not_said_stays_unknown() {
        let failure = item().parse(NOW_MS).unwrap();
        assert_eq!((failure.stage, failure.transaction), (Stage::HostResp, TransactionType::Other));
        assert_eq!((failure.firmware, failure.in_update, failure.condition), (None, None, Condition::default()));
        let stage = NewFailure { stage: Some(Stage::Tls), ..NewFailure::new("SN1".to_owned(), NOW_MS) };
        assert_eq!(stage.parse(NOW_MS).unwrap().stage, Stage::Tls);
    }

    #[test]
    fn what_was_approved_in_part_is_taken_and_what_was_in_full_is_not() {
        let approved = |approved_fen| {
            let code = Some("10".to_owned());
            NewFailure { response_code: code, amount_fen: Some(9_900), approved_fen, ..item() }.parse(NOW_MS)
        };
        assert_eq!(approved(Some(5_000)).unwrap().approved_fen, Some(5_000));
        for other in [None, Some(9_900)] {
            assert_eq!(approved(other).unwrap_err().field, "response_code");
        }
    }

    #[test]
    fn the_same_content_has_the_same_id_and_other_content_another() {
        let id = |item: NewFailure| item.parse(NOW_MS).unwrap().id;
        assert_eq!(id(item()), id(item()));
        let others = [
            NewFailure { sn: "SN2".to_owned(), ..item() },
            NewFailure { occurred_at_ms: NOW_MS - 60_001, ..item() },
            NewFailure { amount_fen: Some(1), ..item() },
            NewFailure { trace_no: Some("1".to_owned()), ..item() },
            NewFailure { batch_no: Some("1".to_owned()), ..item() },
            NewFailure { response_code: Some("05".to_owned()), ..item() },
        ];
        let mut ids: Vec<String> = others.into_iter().map(id).chain([id(item())]).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 7);
        assert_eq!(id(NewFailure { id: Some("own-1".to_owned()), ..item() }), "own-1");
        assert!(id(item()).len() <= tillward_protocol::failure::EVENT_ID_BYTES_MAX);
    }

    #[test]
    fn what_cannot_be_is_refused_by_name_and_card_data_never_repeated() {
        let card = || Some("4111111111111111".to_owned());
        for (item, field) in [
            (NewFailure { occurred_at_ms: NOW_MS + AHEAD_MS_MAX + 1, ..item() }, "occurred_at_ms"),
            (NewFailure { occurred_at_ms: NOW_MS - AGE_MS_MAX - 1, ..item() }, "occurred_at_ms"),
            (NewFailure { occurred_at_ms: i64::MIN, ..item() }, "occurred_at_ms"),
            (NewFailure { response_code: None, ..item() }, "stage"),
            (NewFailure { response_code: Some("00".to_owned()), ..item() }, "response_code"),
            (NewFailure { approved_fen: Some(-1), ..item() }, "approved_fen"),
            (NewFailure { response_code: Some("5".to_owned()), ..item() }, "response_code"),
            (NewFailure { id: card(), ..item() }, "id"),
            (NewFailure { id: Some(String::new()), ..item() }, "id"),
            (NewFailure { retry_of: card(), ..item() }, "retry_of"),
            (NewFailure { note: card(), ..item() }, "note"),
            (NewFailure { merchant_name_resp: card(), ..item() }, "merchant_name_resp"),
            (NewFailure { merchant_no_sent: Some("1".to_owned()), ..item() }, "merchant_no_sent"),
        ] {
            let error = item.parse(NOW_MS).unwrap_err();
            assert_eq!(error.field, field);
            assert!(!error.to_string().contains("4111"), "{error}");
        }
    }

    #[test]
    fn who_does_not_know_the_kind_means_the_same_transaction_and_another_kind_is_another() {
        let of = |transaction, ref_no: Option<&str>| {
            let (batch_no, trace_no) = (Some("1".to_owned()), Some("2".to_owned()));
            let ref_no = ref_no.map(str::to_owned);
            NewFailure { transaction, batch_no, trace_no, ref_no, ..item() }.parse(NOW_MS).unwrap()
        };
        let is_known = |new: &Failure, kept: &Failure| {
            let kept = names(kept, 480);
            names_elsewhere(new, 480).all().any(|name| kept.all().any(|kept| kept == name))
        };
        let (sale, void) = (of(Some(TransactionType::Sale), None), of(Some(TransactionType::Void), None));
        let unsaid = of(None, None);
        assert!(is_known(&sale, &sale) && is_known(&sale, &unsaid) && is_known(&unsaid, &sale));
        assert!(!is_known(&sale, &void) && !is_known(&void, &sale));
        let by_ref = NewFailure { ref_no: Some("032616123456".to_owned()), ..item() }.parse(NOW_MS).unwrap();
        assert!(is_known(&by_ref, &of(Some(TransactionType::Sale), Some("032616123456"))));
        assert!(!is_known(&by_ref, &of(Some(TransactionType::Sale), Some("032616123457"))));
    }

    #[test]
    fn the_terminals_own_report_stands_first_and_what_it_does_not_know_is_kept() {
        let told = NewFailure {
            id: Some("own-1".to_owned()),
            transaction: Some(TransactionType::Sale),
            amount_fen: Some(12_300),
            ref_no: Some("032616123456".to_owned()),
            merchant_name_resp: Some("shop".to_owned()),
            note: Some("customer says so".to_owned()),
            ..item()
        };
        let told = told.parse(NOW_MS).unwrap();
        let own = NewFailure {
            id: Some("e1".to_owned()),
            occurred_at_ms: NOW_MS - 55_000,
            response_code: None,
            stage: Some(Stage::HostResp),
            note: Some("no answer".to_owned()),
            ..item()
        };
        let own = Failure { duration_ms: Some(60_000), in_update: Some(false), ..own.parse(NOW_MS).unwrap() };
        let both = completed(&own, &told);
        let expected = Failure {
            id: "own-1".to_owned(),
            transaction: TransactionType::Sale,
            amount_fen: Some(12_300),
            ref_no: told.ref_no.clone(),
            merchant_name_resp: told.merchant_name_resp.clone(),
            ..own
        };
        assert_eq!(both, expected, "moment, stage, code, note and condition are the terminal's");
        both.check().unwrap();
    }

    #[test]
    fn one_transaction_is_known_again_whoever_wrote_its_numbers() {
        let numbered = |batch: &str, trace: &str, at_ms| {
            let (batch_no, trace_no) = (Some(batch.to_owned()), Some(trace.to_owned()));
            NewFailure { batch_no, trace_no, occurred_at_ms: at_ms, ..item() }.parse(NOW_MS).unwrap()
        };
        let one = numbered("000012", "000345", NOW_MS - 60_000);
        let key = names(&one, 480);
        assert_eq!(key.all().count(), 1);
        assert_eq!(names(&numbered("12", "345", NOW_MS - 90_000), 480), key);
        assert_ne!(names(&numbered("12", "346", NOW_MS - 60_000), 480), key);
        assert_ne!(names(&numbered("12", "345", NOW_MS - 86_460_000), 480), key);
        assert_eq!(names(&item().parse(NOW_MS).unwrap(), 480), Names::default());
        assert_eq!(names(&numbered("12", "000000", NOW_MS), 480), Names::default(), "no trace was given yet");
        let by_ref = |ref_no: &str| NewFailure { ref_no: Some(ref_no.to_owned()), ..item() }.parse(NOW_MS).unwrap();
        let zeros = numbered("12", "000000", NOW_MS);
        for failure in [one, zeros, by_ref("032616123456"), by_ref("000000000000"), item().parse(NOW_MS).unwrap()] {
            assert_eq!(has_name(&failure), names(&failure, 480) != Names::default(), "{failure:?}");
        }
        // 15:59:59 and 16:00:00 UTC are two days in China.
        assert_ne!(local_day(57_599_000, 480), local_day(57_600_000, 480));
    }
}
