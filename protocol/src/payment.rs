//! The short form of a successful transaction. Sent only where the organization asks for it: settlement at another
//! merchant, and records that are missing, can be seen on successful transactions alone. Never card data.

use serde::{Deserialize, Serialize};

use crate::check::{digits, in_range, short_ascii};
use crate::failure::{EVENT_ID_BYTES_MAX, TransactionType};
use crate::{Check, FieldError, pan};

/// The profile parameter that asks a terminal for its payments; only the flag `true` does.
pub const POLICY_PARAMETER: &str = "tillward.report_payments";

/// Largest amount, fen.
const AMOUNT_FEN_MAX: i64 = 99_999_999_999;

/// One successful transaction, with what it takes to find it in the channel's records.
///
/// `occurred_at_ms` is the terminal's clock (Unix ms). The id is made by the terminal and is unique on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Payment {
    /// The terminal's own id of this event, 1–36 visible ASCII characters.
    pub id: String,
    /// Terminal clock, Unix ms.
    pub occurred_at_ms: i64,
    /// Kind of transaction.
    pub transaction: TransactionType,
    /// Requested amount, fen.
    pub amount_fen: i64,
    /// Batch number, up to 6 digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_no: Option<String>,
    /// Trace number (8583 field 11), up to 6 digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_no: Option<String>,
    /// Retrieval reference number (8583 field 37), 12 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ref_no: Option<String>,
    /// Merchant number sent (8583 field 42), 15 digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merchant_no_sent: Option<String>,
    /// Terminal number sent (8583 field 41), 8 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminal_no_sent: Option<String>,
    /// Merchant number in the answer, 15 digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merchant_no_resp: Option<String>,
}

impl Check for Payment {
    fn check(&self) -> Result<(), FieldError> {
        if self.id.is_empty() {
            return Err(FieldError::new("id", "must not be empty"));
        }
        short_ascii("id", Some(&self.id), EVENT_ID_BYTES_MAX)?;
        if pan::contains_card_data(&self.id) {
            return Err(FieldError::new("id", "looks like card data, which is never accepted"));
        }
        in_range("occurred_at_ms", Some(self.occurred_at_ms), 0..=crate::checkin::TIME_MS_MAX, "Unix ms")?;
        in_range("amount_fen", Some(self.amount_fen), 0..=AMOUNT_FEN_MAX, "fen")?;
        digits("batch_no", self.batch_no.as_deref(), 1..=6)?;
        digits("trace_no", self.trace_no.as_deref(), 1..=6)?;
        short_ascii("ref_no", self.ref_no.as_deref(), 12)?;
        digits("merchant_no_sent", self.merchant_no_sent.as_deref(), 15..=15)?;
        short_ascii("terminal_no_sent", self.terminal_no_sent.as_deref(), 8)?;
        digits("merchant_no_resp", self.merchant_no_resp.as_deref(), 15..=15)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"id":"p1","occurred_at_ms":5,"transaction":"sale","amount_fen":1200,"batch_no":"000012",
        "trace_no":"000345","ref_no":"032616123456","merchant_no_sent":"850331053110612","terminal_no_sent":"12345678",
        "merchant_no_resp":"850331053110612"}"#;

    fn read(json: &str) -> Result<Payment, String> {
        let payment: Payment = serde_json::from_str(json).map_err(|error| error.to_string())?;
        payment.check().map_err(|error| error.to_string())?;
        Ok(payment)
    }

    #[test]
    fn a_payment_needs_an_id_a_time_a_kind_and_an_amount_only() {
        assert!(read(GOOD).is_ok());
        let short = read(r#"{"id":"p1","occurred_at_ms":5,"transaction":"sale","amount_fen":0}"#).unwrap();
        assert_eq!(serde_json::to_string(&short).unwrap().matches("null").count(), 0);
        for missing in ["id", "occurred_at_ms", "transaction", "amount_fen"] {
            let mut fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(GOOD).unwrap();
            fields.remove(missing);
            let said = read(&serde_json::to_string(&fields).unwrap()).unwrap_err();
            assert!(said.contains(missing), "{said}");
        }
    }

    #[test]
    fn what_is_impossible_or_has_no_place_here_is_refused_by_name() {
        for (from, to, field) in [
            (r#""p1""#, r#""""#, "id"),
            (r#""p1""#, r#""4111111111111111""#, "id"),
            ("1200", "-1", "amount_fen"),
            ("1200", "100000000000", "amount_fen"),
            (r#""000345""#, r#""0003456""#, "trace_no"),
            (r#""032616123456""#, r#""0326161234567""#, "ref_no"),
            (r#""850331053110612","terminal"#, r#""85033105311061","terminal"#, "merchant_no_sent"),
            (r#""id""#, r#""pan":"4111111111111111","id""#, "pan"),
            (r#""id""#, r#""note":"x","id""#, "note"),
        ] {
            let json = GOOD.replacen(from, to, 1);
            assert_ne!(json, GOOD, "{from}");
            let said = read(&json).unwrap_err();
            assert!(said.contains(field) && !said.contains("4111"), "{field}: {said}");
        }
    }
}
