//! Merchants: what is contracted with them, and the other numbers under which their payments may settle.
//!
//! A merchant record says what a settlement is compared with: name, category where it is another than the number says,
//! contracted rate, risk class. A number that settles in place of the bound one is a thing of its own ([`numbers`]):
//! nobody is accused by a number that is merely new.

pub mod http;
pub mod numbers;
mod store;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tillward_protocol::FieldError;

use crate::audit::{self, Actor, Deed};
use crate::clock::Now;
use crate::db::{self, Conn, Sequence, next_id};
use crate::failures::reconcile;
use crate::operators::{Caller, Scope};
use crate::organizations;
use crate::text;

/// Fee classes of merchants.
pub const RISK_CLASSES: [&str; 4] = ["standard", "preferential", "reduced", "special"];
/// Highest contracted rate, millionths: 10 %.
pub const RATE_PPM_MAX: i64 = 100_000;

/// Why something about merchants was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such thing in the caller's scope.
    #[error("not found")]
    NotFound,
    /// A field was refused.
    #[error(transparent)]
    Invalid(#[from] FieldError),
    /// Its state does not allow it; the text says what to do.
    #[error("{0}")]
    Conflict(&'static str),
    /// The database failed.
    #[error(transparent)]
    Db(#[from] db::Error),
}

/// What is contracted with a merchant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Merchant {
    /// Its number here.
    pub id: i64,
    /// Organization.
    pub organization_id: i64,
    /// Merchant number, 15 digits.
    pub merchant_no: String,
    /// Name.
    pub name: String,
    /// Category, four digits, where it is another than digits 8 to 11 of the number say.
    pub mcc: Option<String>,
    /// Contracted rate, millionths: 0.6 % is 6,000.
    pub rate_ppm: Option<i64>,
    /// `standard`, `preferential`, `reduced` or `special`; that of the category when absent.
    pub risk_class: Option<String>,
    /// Who entered it.
    pub created_by: String,
    /// When, Unix ms.
    pub created_at_ms: i64,
    /// Grows with each change; name it when you change something.
    pub version: i64,
}

/// A merchant to enter, or what it shall be from now on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewMerchant {
    /// Organization; the caller's own when absent. Kept when changed.
    #[serde(default)]
    pub organization_id: Option<i64>,
    /// Merchant number, 15 digits. Kept when changed.
    pub merchant_no: String,
    /// Name, 1–100 characters.
    pub name: String,
    /// Category, four digits.
    #[serde(default)]
    pub mcc: Option<String>,
    /// Contracted rate, millionths, up to 100,000.
    #[serde(default)]
    pub rate_ppm: Option<i64>,
    /// `standard`, `preferential`, `reduced` or `special`.
    #[serde(default)]
    pub risk_class: Option<String>,
    /// The version that the caller read, when changed.
    #[serde(default)]
    pub version: Option<i64>,
}

impl NewMerchant {
    fn checked(self) -> Result<Self, FieldError> {
        number("merchant_no", &self.merchant_no)?;
        let name = text::name("name", &self.name)?;
        if self.mcc.as_ref().is_some_and(|mcc| mcc.len() != 4 || !mcc.bytes().all(|b| b.is_ascii_digit())) {
            return Err(FieldError::new("mcc", "must be 4 digits"));
        }
        if self.rate_ppm.is_some_and(|rate| !(0..=RATE_PPM_MAX).contains(&rate)) {
            return Err(FieldError::new("rate_ppm", format!("must be 0 to {RATE_PPM_MAX} millionths")));
        }
        if self.risk_class.as_ref().is_some_and(|class| !RISK_CLASSES.contains(&class.as_str())) {
            return Err(FieldError::new("risk_class", "must be standard, preferential, reduced or special"));
        }
        Ok(Self { name, ..self })
    }
}

/// Refuses what is no merchant number.
///
/// # Errors
/// [`FieldError`] naming `field`.
pub(crate) fn number(field: &str, number: &str) -> Result<(), FieldError> {
    if number.len() == 15 && number.bytes().all(|b| b.is_ascii_digit()) {
        Ok(())
    } else {
        Err(FieldError::new(field, "must be 15 digits"))
    }
}

/// Enters a merchant.
///
/// # Errors
/// [`Error::Invalid`] for a field; [`Error::Conflict`] for a number that the organization has already.
pub fn create(conn: &mut Conn, caller: &Caller, actor: &Actor, new: NewMerchant, now: Now) -> Result<Merchant, Error> {
    let new = new.checked()?;
    let organization_id = new.organization_id.unwrap_or(caller.organization_id);
    let home = organizations::get(conn, &caller.scope, organization_id)?
        .ok_or_else(|| FieldError::new("organization_id", "is not an organization of yours"))?;
    if store::has(conn, home.id, &new.merchant_no)? {
        return Err(Error::Conflict("this merchant number is entered already"));
    }
    let merchant = Merchant {
        id: next_id(conn, Sequence::Merchants)?,
        organization_id: home.id,
        merchant_no: new.merchant_no,
        name: new.name,
        mcc: new.mcc,
        rate_ppm: new.rate_ppm,
        risk_class: new.risk_class,
        created_by: caller.name.clone(),
        created_at_ms: now.0,
        version: 1,
    };
    store::insert(conn, &merchant, &home.path)?;
    reconcile::compare_merchant_again(conn, &merchant.merchant_no, &home.path)?;
    note(conn, actor, "merchants.create", &merchant, &home.path, now)?;
    Ok(merchant)
}

/// Changes what is contracted with a merchant.
///
/// # Errors
/// [`Error::Conflict`] when somebody changed it since the caller read it.
pub fn update(
    conn: &mut Conn,
    actor: &Actor,
    scope: &Scope,
    id: i64,
    new: NewMerchant,
    now: Now,
) -> Result<Merchant, Error> {
    let (before, org_path) = store::find(conn, scope, id)?.ok_or(Error::NotFound)?;
    let expected = new.version.unwrap_or(before.version);
    let new = NewMerchant { merchant_no: before.merchant_no.clone(), ..new }.checked()?;
    let merchant = Merchant {
        name: new.name,
        mcc: new.mcc,
        rate_ppm: new.rate_ppm,
        risk_class: new.risk_class,
        version: before.version + 1,
        ..before
    };
    if expected != merchant.version - 1 || !store::replace(conn, &merchant, expected)? {
        return Err(Error::Conflict("somebody changed this merchant since you read it; read it again"));
    }
    reconcile::compare_merchant_again(conn, &merchant.merchant_no, &org_path)?;
    note(conn, actor, "merchants.update", &merchant, &org_path, now)?;
    Ok(merchant)
}

fn note(
    conn: &mut Conn,
    actor: &Actor,
    action: &str,
    merchant: &Merchant,
    org_path: &str,
    now: Now,
) -> Result<(), db::Error> {
    let deed = Deed {
        action,
        object_kind: "merchant",
        object_id: merchant.id.to_string(),
        org_path,
        detail: json!({
            "merchant_no": merchant.merchant_no, "name": merchant.name, "mcc": merchant.mcc,
            "rate_ppm": merchant.rate_ppm, "risk_class": merchant.risk_class,
        }),
    };
    audit::append(conn, actor, &deed, now)
}

/// One merchant.
///
/// # Errors
/// [`Error::NotFound`].
pub fn find(conn: &mut Conn, scope: &Scope, id: i64) -> Result<Merchant, Error> {
    store::find(conn, scope, id)?.map(|(merchant, _)| merchant).ok_or(Error::NotFound)
}

/// Merchants of the scope, newest first, below `before`.
///
/// # Errors
/// [`db::Error`].
pub fn list(conn: &mut Conn, scope: &Scope, before: Option<i64>, size: u32) -> Result<Vec<Merchant>, db::Error> {
    store::list(conn, scope, before, i64::from(size))
}

/// Merchants of the scope with one of these numbers, each with the path of its organization.
///
/// # Errors
/// [`db::Error`].
pub fn of_numbers(conn: &mut Conn, scope: &Scope, numbers: &[String]) -> Result<Vec<(Merchant, String)>, db::Error> {
    store::of_numbers(conn, scope, numbers)
}
