//! What a person types in who looked one transaction up: cleaned and checked. Pure.

use serde::{Deserialize, Serialize};
use tillward_protocol::FieldError;
use tillward_protocol::failure::EVENT_ID_BYTES_MAX;
use tillward_protocol::pan::contains_card_data;

/// Longest note, characters.
pub const NOTE_CHARS_MAX: usize = 500;
/// Longest merchant name, characters: what queries and bills print.
const NAME_CHARS_MAX: usize = 100;
/// Oldest transaction that can be looked up, ms: thirteen months, as long as its record is kept.
pub const AGE_MS_MAX: i64 = 396 * 86_400_000;
/// How far ahead of the server's a clock may be, ms.
const AHEAD_MS_MAX: i64 = 3_600_000;
/// Largest amount, fen.
const AMOUNT_FEN_MAX: i64 = 99_999_999_999;

/// Where it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = LookupSource)]
pub enum Source {
    /// UnionPay's own app (云闪付).
    #[serde(rename = "unionpay_app")]
    UnionPayApp,
    /// UnionPay's hotline (95516).
    #[serde(rename = "95516")]
    UnionPayHotline,
    /// The issuer's bill.
    #[serde(rename = "issuer_bill")]
    IssuerBill,
}

impl Source {
    /// Every source.
    pub const ALL: [Self; 3] = [Self::UnionPayApp, Self::UnionPayHotline, Self::IssuerBill];

    /// Name in tables and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnionPayApp => "unionpay_app",
            Self::UnionPayHotline => "95516",
            Self::IssuerBill => "issuer_bill",
        }
    }

    /// The source of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.as_str() == name)
    }

    /// How close to the cardholder it is: `L2` for UnionPay's records, `L3` for the issuer's.
    pub fn level(self) -> &'static str {
        match self {
            Self::UnionPayApp | Self::UnionPayHotline => "L2",
            Self::IssuerBill => "L3",
        }
    }
}

/// One transaction as a person saw it elsewhere. Never a card number, never a picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewLookup {
    /// Serial number of the terminal.
    pub sn: String,
    /// The terminal's id of the transaction, if it reported it.
    #[serde(default)]
    pub event_id: Option<String>,
    /// When the transaction was, Unix ms; may be absent with `event_id`.
    #[serde(default)]
    pub at_ms: Option<i64>,
    /// Its amount, fen.
    #[serde(default)]
    pub amount_fen: Option<i64>,
    /// Its retrieval reference number, up to 12 characters.
    #[serde(default)]
    pub ref_no: Option<String>,
    /// Where it was looked up; that says the level.
    pub source: Source,
    /// Merchant's name as shown there.
    #[serde(default)]
    pub merchant_name: Option<String>,
    /// Merchant number as shown there, 15 digits.
    #[serde(default)]
    pub merchant_no: Option<String>,
    /// Merchant category as shown there, 4 digits.
    #[serde(default)]
    pub mcc: Option<String>,
    /// When it was looked up, Unix ms; now when absent.
    #[serde(default)]
    pub looked_up_at_ms: Option<i64>,
    /// Free text; refused if it looks like card data.
    #[serde(default)]
    pub note: String,
}

impl NewLookup {
    /// The same, cleaned by `clean_id` and `clean_text`, if every field can be accepted.
    ///
    /// # Errors
    /// The first field that cannot be; never its value, where that may be card data.
    pub fn parse(
        self,
        now_ms: i64,
        clean_id: impl Fn(&str) -> String,
        clean_text: impl Fn(&str) -> String,
    ) -> Result<Self, FieldError> {
        let id = |text: Option<String>| text.map(|text| clean_id(&text)).filter(|text| !text.is_empty());
        let merchant_name = self.merchant_name.map(|name| clean_text(&name)).filter(|name| !name.is_empty());
        let cleaned = Self {
            sn: clean_id(&self.sn),
            event_id: self.event_id.filter(|id| !id.is_empty()),
            ref_no: id(self.ref_no),
            merchant_name,
            merchant_no: id(self.merchant_no),
            mcc: id(self.mcc),
            note: clean_text(&self.note),
            ..self
        };
        cleaned.check(now_ms)?;
        Ok(cleaned)
    }

    fn check(&self, now_ms: i64) -> Result<(), FieldError> {
        let refused = |field: &str, problem: &str| Err(FieldError::new(field, problem));
        let digits = |text: &str, count| text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
        if self.event_id.as_deref().is_some_and(|id| id.len() > EVENT_ID_BYTES_MAX || !id.is_ascii()) {
            return refused("event_id", "is not an id that a terminal gives");
        }
        match (self.at_ms, &self.event_id) {
            (None, None) => return refused("at_ms", "must be given where there is no event_id"),
            (Some(at_ms), _) => check_time("at_ms", at_ms, now_ms)?,
            (None, Some(_)) => {}
        }
        if let Some(at_ms) = self.looked_up_at_ms {
            check_time("looked_up_at_ms", at_ms, now_ms)?;
        }
        if self.amount_fen.is_some_and(|amount| !(0..=AMOUNT_FEN_MAX).contains(&amount)) {
            return refused("amount_fen", "must be between 0 and 99999999999 fen");
        }
        if self.ref_no.as_deref().is_some_and(|no| no.len() > 12 || !no.bytes().all(|b| b.is_ascii_alphanumeric())) {
            return refused("ref_no", "must be at most 12 letters or digits");
        }
        if self.merchant_no.as_deref().is_some_and(|no| !digits(no, 15)) {
            return refused("merchant_no", "must be 15 digits");
        }
        if self.mcc.as_deref().is_some_and(|mcc| !digits(mcc, 4)) {
            return refused("mcc", "must be 4 digits");
        }
        check_text("merchant_name", self.merchant_name.as_deref().unwrap_or_default(), NAME_CHARS_MAX)?;
        check_text("note", &self.note, NOTE_CHARS_MAX)?;
        if self.merchant_name.is_none() && self.merchant_no.is_none() && self.mcc.is_none() {
            return refused("merchant_no", "must be given, or the merchant's name or category");
        }
        Ok(())
    }
}

fn check_time(field: &str, at_ms: i64, now_ms: i64) -> Result<(), FieldError> {
    if at_ms > now_ms.saturating_add(AHEAD_MS_MAX) {
        return Err(FieldError::new(field, "is in the future"));
    }
    if at_ms < now_ms.saturating_sub(AGE_MS_MAX) {
        return Err(FieldError::new(field, "is longer ago than records are kept (13 months)"));
    }
    Ok(())
}

fn check_text(field: &str, text: &str, chars_max: usize) -> Result<(), FieldError> {
    if text.chars().count() > chars_max {
        return Err(FieldError::new(field, format!("must be at most {chars_max} characters")));
    }
    if text.chars().any(|c| c.is_control() && c != '\n') {
        return Err(FieldError::new(field, "must not contain control characters"));
    }
    if contains_card_data(text) {
        return Err(FieldError::new(field, "looks like card data, which is never accepted"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_790_000_000_000;

    fn entry() -> NewLookup {
        NewLookup {
            sn: " SN1 ".to_owned(),
            event_id: None,
            at_ms: Some(NOW_MS - 86_400_000),
            amount_fen: Some(9_900),
            ref_no: None,
            source: Source::UnionPayApp,
            merchant_name: Some(" 某某超市 ".to_owned()),
            merchant_no: Some(" 850331053110612 ".to_owned()),
            mcc: None,
            looked_up_at_ms: None,
            note: String::new(),
        }
    }

    fn parse(entry: NewLookup) -> Result<NewLookup, FieldError> {
        entry.parse(NOW_MS, |text| text.trim().to_owned(), |text| text.trim().to_owned())
    }

    #[test]
    fn what_was_typed_is_cleaned_and_the_source_says_the_level() {
        let parsed = parse(entry()).unwrap();
        assert_eq!((parsed.sn.as_str(), parsed.merchant_no.as_deref()), ("SN1", Some("850331053110612")));
        assert_eq!(parsed.merchant_name.as_deref(), Some("某某超市"));
        assert_eq!(Source::ALL.map(Source::level), ["L2", "L2", "L3"]);
        for source in Source::ALL {
            assert_eq!(Source::parse(source.as_str()), Some(source));
            assert_eq!(serde_json::to_string(&source).unwrap(), format!("{:?}", source.as_str()));
        }
        assert!(parse(NewLookup { at_ms: None, event_id: Some("p1".to_owned()), ..entry() }).is_ok());
        assert!(
            parse(NewLookup { merchant_no: None, merchant_name: None, mcc: Some("5411".to_owned()), ..entry() })
                .is_ok()
        );
    }

    #[test]
    fn what_cannot_be_is_refused_by_name_and_card_data_never_repeated() {
        let card = || "6222021234567890128".to_owned();
        for (entry, field) in [
            (NewLookup { at_ms: None, ..entry() }, "at_ms"),
            (NewLookup { at_ms: Some(NOW_MS + AHEAD_MS_MAX + 1), ..entry() }, "at_ms"),
            (NewLookup { at_ms: Some(NOW_MS - AGE_MS_MAX - 1), ..entry() }, "at_ms"),
            (NewLookup { looked_up_at_ms: Some(i64::MAX), ..entry() }, "looked_up_at_ms"),
            (NewLookup { amount_fen: Some(-1), ..entry() }, "amount_fen"),
            (NewLookup { ref_no: Some("1234567890123".to_owned()), ..entry() }, "ref_no"),
            (NewLookup { merchant_no: Some("8503310531106".to_owned()), ..entry() }, "merchant_no"),
            (NewLookup { merchant_no: None, merchant_name: Some("  ".to_owned()), ..entry() }, "merchant_no"),
            (NewLookup { mcc: Some("54110".to_owned()), ..entry() }, "mcc"),
            (NewLookup { merchant_name: Some(card()), ..entry() }, "merchant_name"),
            (NewLookup { note: card(), ..entry() }, "note"),
            (NewLookup { note: "长".repeat(NOTE_CHARS_MAX + 1), ..entry() }, "note"),
            (NewLookup { event_id: Some("x".repeat(37)), ..entry() }, "event_id"),
        ] {
            let error = parse(entry).unwrap_err();
            assert_eq!(error.field, field);
            assert!(!error.to_string().contains("6222"), "{error}");
        }
    }
}
