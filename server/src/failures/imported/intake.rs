//! Rows of a file as failures: the same as those that come by REST.

use serde::de::DeserializeOwned;
use serde_json::json;
use tillward_protocol::FieldError;
use tillward_protocol::condition::Condition;

use super::fields::{self, FIELDS};
use super::{Fate, NewFailure, Origin, Source};
use crate::clock::Now;
use crate::db::{self, Conn};
use crate::imports::{self, Error, Field, Mapping, Outcome, Row, Target, values};
use crate::operators::Scope;
use crate::organizations::Organization;

/// What is done with the rows of files of failures.
#[derive(Debug)]
pub struct Intake;

impl imports::Intake for Intake {
    fn fields(&self) -> &'static [Field] {
        FIELDS
    }

    fn check(&self, mapping: &Mapping) -> Result<(), FieldError> {
        fields::check(mapping)
    }

    fn home(&self, conn: &mut Conn, scope: &Scope, organization_id: i64, _: &str) -> Result<Organization, Error> {
        imports::organization(conn, scope, organization_id)
    }

    fn take(&self, conn: &mut Conn, target: &Target, rows: &[Row], now: Now) -> Result<Vec<Outcome>, db::Error> {
        let origin = Origin {
            source: Source::File,
            import_id: Some(target.import_id.clone()),
            created_by: target.import_id.clone(),
        };
        let items = rows.iter().map(|row| failure(row, &target.mapping)).collect();
        let fates = super::keep(conn, &target.scope(), &origin, items, now)?;
        let outcome = |fate| match fate {
            Fate::Stored => Outcome::Accepted,
            Fate::Duplicate => Outcome::Duplicate,
            Fate::Refused(error) => Outcome::Refused(error),
        };
        Ok(fates.into_iter().map(outcome).collect())
    }
}

fn failure(row: &Row, mapping: &Mapping) -> Result<NewFailure, FieldError> {
    let text = |field: &str| row.text(field).map(str::to_owned);
    let at_ms = match (row.number("at_ms"), row.text("date")) {
        (Some(at_ms), _) => at_ms,
        (None, Some(date)) => {
            values::moment(date, mapping.utc_offset_min, None).map_err(|problem| FieldError::new("date", problem))?
        }
        (None, None) => return Err(FieldError::new("at_ms", "must not be empty")),
    };
    let version = |field: &str| -> Result<Option<_>, FieldError> {
        let parsed = row.text(field).map(str::parse).transpose();
        parsed.map_err(|error: FieldError| FieldError::new(field, error.problem))
    };
    Ok(NewFailure {
        id: text("id"),
        transaction: word(row, "transaction")?,
        stage: word(row, "stage")?,
        response_code: text("response_code").map(|code| padded(&code)),
        response_source: word(row, "response_source")?,
        entry: word(row, "entry")?,
        amount_fen: row.number("amount_fen"),
        approved_fen: row.number("approved_fen"),
        batch_no: text("batch_no"),
        trace_no: text("trace_no"),
        ref_no: text("ref_no"),
        merchant_no_sent: text("merchant_no_sent"),
        terminal_no_sent: text("terminal_no_sent"),
        note: text("note"),
        firmware: version("firmware")?,
        app: version("app")?,
        condition: Condition { access: word(row, "access")?, ..Condition::default() },
        ..NewFailure::new(text("sn").unwrap_or_default(), at_ms)
    })
}

/// One of our own words as the value it stands for.
fn word<T: DeserializeOwned>(row: &Row, field: &str) -> Result<Option<T>, FieldError> {
    let Some(name) = row.text(field) else { return Ok(None) };
    serde_json::from_value(json!(name)).map(Some).map_err(|_| FieldError::new(field, "does not look like one"))
}

/// Spreadsheets take the zero off `05`.
fn padded(code: &str) -> String {
    if code.len() == 1 && code.bytes().all(|byte| byte.is_ascii_digit()) { format!("0{code}") } else { code.to_owned() }
}
