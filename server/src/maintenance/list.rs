//! Lists over all terminals: what is due, and every device with its last inspection.

use serde::Serialize;
use serde_json::json;
use tillward_protocol::FieldError;

use super::due::Finding;
use super::reason::{Reason, Urgency};
use super::{Error, store};
use crate::audit::Export;
use crate::clock::Now;
use crate::db::{self, Conn};
use crate::operators::Scope;
use crate::{organizations, terminals};

/// Terminals read at a time for a file.
pub const BLOCK_ROWS: u32 = 1_000;

/// Which terminals that are due; what is absent does not narrow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DueFilter {
    /// For this reason, perhaps among others.
    pub reason: Option<Reason>,
    /// At least so urgent.
    pub urgency: Option<Urgency>,
    /// Of this organization and all below it.
    pub organization_id: Option<i64>,
    /// This one.
    pub terminal_id: Option<i64>,
}

impl DueFilter {
    /// What the audit log says when somebody takes these terminals along. How many they are is known when they were sent.
    pub fn export(&self) -> Export {
        let asked = [
            ("due", json!(self.reason.map(Reason::as_str))),
            ("urgency", json!(self.urgency.map(Urgency::as_str))),
            ("organization_id", json!(self.organization_id)),
            ("terminal_id", json!(self.terminal_id)),
        ];
        Export::table("inspections.export", "inspections", &asked, None)
    }

    /// The filter of these names, as an address has them; an empty name does not narrow.
    ///
    /// # Errors
    /// [`FieldError`] naming the name that is not known.
    pub fn of_names(reason: &str, urgency: &str) -> Result<Self, FieldError> {
        let unknown = |field: &str| FieldError::new(field, "is not known");
        let reason = match reason {
            "" => None,
            name => Some(Reason::parse(name).ok_or_else(|| unknown("reason"))?),
        };
        let urgency = match urgency {
            "" => None,
            name => Some(Urgency::parse(name).ok_or_else(|| unknown("urgency"))?),
        };
        Ok(Self { reason, urgency, ..Self::default() })
    }
}

/// Where a page ends: urgency as a number, terminal.
pub type DueKey = (i64, i64);

/// A terminal that somebody should look at.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct DueTerminal {
    /// Number.
    pub terminal_id: i64,
    /// Serial number.
    pub sn: String,
    /// Model code.
    pub model: String,
    /// Organization, as a path.
    pub org_path: String,
    /// Merchant number.
    pub merchant_no: Option<String>,
    /// Merchant's name.
    pub merchant_name: Option<String>,
    /// Store's name.
    pub store_name: Option<String>,
    /// Its most urgent finding's.
    pub urgency: Urgency,
    /// Why, most urgent first.
    pub findings: Vec<Finding>,
    /// When it was judged so, Unix ms.
    pub judged_at_ms: i64,
    /// Its last inspection, Unix ms.
    pub inspected_at_ms: Option<i64>,
    /// Who did that.
    pub inspected_by: Option<String>,
    /// When it called last, Unix ms.
    pub last_seen_ms: Option<i64>,
    /// Its work orders that are not over.
    pub work_order_ids: Vec<i64>,
}

impl DueTerminal {
    /// Where a page that ends with this row ends.
    pub fn key(&self) -> DueKey {
        (self.urgency.rank(), self.terminal_id)
    }
}

/// Terminals of the scope that are due, most urgent first, after `after`.
///
/// Costs one pass over a narrow index at worst, and some lookups a row.
///
/// # Errors
/// [`Error::Field`] for an organization outside the scope; [`Error::Db`].
pub fn list_due(
    conn: &mut Conn,
    scope: &Scope,
    filter: &DueFilter,
    after: Option<DueKey>,
    size: u32,
) -> Result<Vec<DueTerminal>, Error> {
    let scope = narrowed(conn, scope, filter.organization_id)?;
    Ok(store::due::due(conn, &scope, filter, after, usize::try_from(size).unwrap_or(usize::MAX))?)
}

/// The scope, or the part of it that is asked for.
pub(super) fn narrowed(conn: &mut Conn, scope: &Scope, organization_id: Option<i64>) -> Result<Scope, Error> {
    let Some(id) = organization_id else { return Ok(scope.clone()) };
    let found = organizations::get(conn, scope, id)?;
    let found = found.ok_or_else(|| FieldError::new("organization_id", "is not an organization of yours"))?;
    Ok(Scope::subtree(found.path))
}

/// How many terminals of the scope are due for each reason. Two lookups in a narrow index for each combination of reasons.
///
/// # Errors
/// [`db::Error`].
pub fn count_due(conn: &mut Conn, scope: &Scope) -> Result<Vec<(Reason, i64)>, db::Error> {
    let counts = store::due::counts(conn, scope)?;
    let of = |reason| counts.iter().filter(|(reasons, _)| reasons.contains(&reason)).map(|(_, n)| n).sum();
    Ok(Reason::ALL.into_iter().map(|reason| (reason, of(reason))).collect())
}

/// One line of the list of devices that PCI DSS 9.5.1.1 asks for: make and model, location, serial number; and when and by
/// whom it was inspected last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Device {
    /// Number.
    pub terminal_id: i64,
    /// Serial number.
    pub sn: String,
    /// UnionPay terminal number.
    pub tusn: Option<String>,
    /// Make and model.
    pub model: String,
    /// Hardware revision.
    pub hardware: Option<String>,
    /// Organization, as a path.
    pub org_path: String,
    /// Where it is in its life.
    pub lifecycle: String,
    /// Merchant number.
    pub merchant_no: Option<String>,
    /// Merchant's name.
    pub merchant_name: Option<String>,
    /// Store's name.
    pub store_name: Option<String>,
    /// Channel's number for it.
    pub terminal_no: Option<String>,
    /// Region.
    pub region: String,
    /// Firmware it reported; empty if it never did.
    pub firmware: String,
    /// When it called last, Unix ms.
    pub last_seen_ms: Option<i64>,
    /// Its last inspection, Unix ms.
    pub inspected_at_ms: Option<i64>,
    /// Who did that.
    pub inspected_by: Option<String>,
    /// The work order of that.
    pub inspection_order_id: Option<i64>,
    /// Whether a check-in proved it.
    pub inspection_proven: Option<bool>,
}

/// What the audit log says when somebody takes the list of devices along.
pub fn devices_export() -> Export {
    Export::table("terminals.export", "devices", &[], None)
}

/// Devices of the scope in the order of their numbers, above `after`.
///
/// # Errors
/// [`Error::Db`].
pub fn devices(conn: &mut Conn, scope: &Scope, mut after: i64, size: u32, now: Now) -> Result<Vec<Device>, Error> {
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let mut found = Vec::new();
    loop {
        let wanted = size - found.len();
        let ids = terminals::list::ids_after(conn, scope, &terminals::Filter::default(), after, wanted, now)?;
        found.extend(store::due::devices(conn, scope, &ids)?);
        after = ids.last().copied().unwrap_or(after);
        // Those that were retired are passed over.
        if ids.len() < wanted || found.len() >= size {
            return Ok(found);
        }
    }
}
