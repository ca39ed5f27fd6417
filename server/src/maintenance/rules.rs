//! What an organization changes: thresholds and checklists. The nearest organization above a terminal decides.

use serde::{Deserialize, Serialize};
use serde_json::json;
use tillward_protocol::FieldError;

use super::Error;
use super::checklist::{self, Checklist, Item};
use super::due::Rules;
use super::orders::Kind;
use super::store::settings;
use crate::audit::{self, Actor, Deed};
use crate::clock::Now;
use crate::db::Conn;
use crate::operators::Caller;
use crate::organizations::{self, Organization};

/// Thresholds as they are in force for one organization.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
#[schema(as = MaintenanceRulesInForce)]
pub struct RulesInForce {
    /// The organization that was asked about.
    pub organization_id: i64,
    /// Whose they are; absent for those that come with the program.
    pub from_organization_id: Option<i64>,
    /// The organization's own version, which a change names; 0 while it has none of its own.
    pub version: i64,
    /// Who changed them last.
    pub changed_by: Option<String>,
    /// When, Unix ms.
    pub changed_at_ms: Option<i64>,
    /// The thresholds.
    pub rules: Rules,
}

/// New thresholds of an organization.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = MaintenanceRulesChange)]
pub struct RulesChange {
    /// The version that was read; 0 for the first ones.
    pub version: i64,
    /// All of them; what is left out gets its default.
    pub rules: Rules,
}

/// A new edition of a checklist.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChecklistChange {
    /// The organization's own version that was read; 0 for the first one.
    pub version: i64,
    /// All items, in order.
    pub items: Vec<Item>,
}

fn organization(conn: &mut Conn, caller: &Caller, id: i64) -> Result<Organization, Error> {
    organizations::get(conn, &caller.scope, id)?.ok_or(Error::NotFound)
}

/// The thresholds in force for an organization of the caller's.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Db`].
pub fn rules_in_force(conn: &mut Conn, caller: &Caller, organization_id: i64) -> Result<RulesInForce, Error> {
    let organization = organization(conn, caller, organization_id)?;
    let found = settings::rules_for(conn, &organization.path)?;
    let own = found.as_ref().filter(|own| own.organization_id == organization_id);
    Ok(RulesInForce {
        organization_id,
        version: own.map_or(0, |own| own.version),
        from_organization_id: found.as_ref().map(|found| found.organization_id),
        changed_by: found.as_ref().map(|found| found.changed_by.clone()),
        changed_at_ms: found.as_ref().map(|found| found.changed_at_ms),
        rules: found.map(|found| found.rules).unwrap_or_default(),
    })
}

/// Gives an organization thresholds of its own, in force for it and all below it from the next round of the pass on.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Field`], [`Error::Raced`] when the version is another one, [`Error::Db`].
pub fn put_rules(
    conn: &mut Conn,
    caller: &Caller,
    actor: &Actor,
    organization_id: i64,
    change: &RulesChange,
    now: Now,
) -> Result<(), Error> {
    let organization = organization(conn, caller, organization_id)?;
    change.rules.check()?;
    check_version(change.version)?;
    if !settings::put_rules(conn, &organization, &change.rules, change.version, &caller.name, now)? {
        return Err(Error::Raced);
    }
    let deed = Deed {
        action: "maintenance.rules",
        object_kind: "organization",
        object_id: organization_id.to_string(),
        org_path: &organization.path,
        detail: json!(change.rules),
    };
    audit::append(conn, actor, &deed, now)?;
    Ok(())
}

fn check_version(version: i64) -> Result<(), FieldError> {
    if (0..i64::MAX).contains(&version) { Ok(()) } else { Err(FieldError::new("version", "is not a version")) }
}

/// The checklist in force for an organization of the caller's.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Db`].
pub fn checklist(conn: &mut Conn, caller: &Caller, organization_id: i64, kind: Kind) -> Result<Checklist, Error> {
    let organization = organization(conn, caller, organization_id)?;
    Ok(in_force(conn, &organization.path, kind)?)
}

/// The checklist in force at a place in the tree.
pub(super) fn in_force(conn: &mut Conn, org_path: &str, kind: Kind) -> Result<Checklist, crate::db::Error> {
    Ok(settings::checklist_for(conn, org_path, kind)?.unwrap_or_else(|| checklist::seed(kind)))
}

/// Gives an organization a new edition of its own checklist. Orders that are open keep theirs.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Field`], [`Error::Raced`] when the version is another one, [`Error::Db`].
pub fn put_checklist(
    conn: &mut Conn,
    caller: &Caller,
    actor: &Actor,
    (organization_id, kind): (i64, Kind),
    change: &ChecklistChange,
    now: Now,
) -> Result<(), Error> {
    let organization = organization(conn, caller, organization_id)?;
    checklist::check_items(&change.items)?;
    check_version(change.version)?;
    let newest = settings::own_checklist(conn, organization_id, kind)?.map_or(0, |list| list.version);
    let version = newest + 1;
    let is_based_on_newest = change.version == newest;
    if !is_based_on_newest
        || !settings::add_checklist(conn, &organization, kind, version, &change.items, &caller.name, now)?
    {
        return Err(Error::Raced);
    }
    let deed = Deed {
        action: "maintenance.checklist",
        object_kind: "organization",
        object_id: organization_id.to_string(),
        org_path: &organization.path,
        detail: json!({"kind": kind.as_str(), "version": version, "items": change.items.len()}),
    };
    audit::append(conn, actor, &deed, now)?;
    Ok(())
}
