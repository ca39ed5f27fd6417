//! SQL of what organizations changed: thresholds and checklists.

use diesel::prelude::*;

use crate::clock::Now;
use crate::db::schema::{checklists, maintenance_rules};
use crate::db::{self, Conn};
use crate::maintenance::checklist::{Checklist, Item};
use crate::maintenance::due::Rules;
use crate::maintenance::orders::Kind;
use crate::on_backend;
use crate::organizations::Organization;

/// Organizations with thresholds of their own that one pass reads: as many as there can be organizations.
const OWN_RULES_MAX: i64 = 50_000;

/// Thresholds of one organization, as stored.
#[derive(Debug, Clone)]
pub(in crate::maintenance) struct OwnRules {
    pub organization_id: i64,
    pub org_path: String,
    pub rules: Rules,
    pub changed_by: String,
    pub changed_at_ms: i64,
    pub version: i64,
}

type Columns = (i64, String, String, String, i64, i64);

fn own((organization_id, org_path, body, changed_by, changed_at_ms, version): Columns) -> OwnRules {
    // Only `put_rules` writes them, from the same type.
    let rules = serde_json::from_str(&body).unwrap_or_default();
    OwnRules { organization_id, org_path, rules, changed_by, changed_at_ms, version }
}

/// Every organization's own thresholds.
pub(in crate::maintenance) fn all_rules(conn: &mut Conn) -> Result<Vec<OwnRules>, db::Error> {
    let rows = maintenance_rules::table
        .order(maintenance_rules::organization_id)
        .limit(OWN_RULES_MAX)
        .load::<Columns>(conn)?;
    Ok(rows.into_iter().map(own).collect())
}

/// The thresholds in force for an organization: its own, or those of the nearest above it. By primary keys.
pub(in crate::maintenance) fn rules_for(conn: &mut Conn, org_path: &str) -> Result<Option<OwnRules>, db::Error> {
    let rows = maintenance_rules::table
        .filter(maintenance_rules::organization_id.eq_any(chain(org_path)))
        .load::<Columns>(conn)?;
    Ok(rows.into_iter().map(own).max_by_key(|own| own.org_path.len()))
}

/// Numbers of the organizations on a path.
fn chain(org_path: &str) -> Vec<i64> {
    org_path.split('/').filter_map(|part| part.parse().ok()).collect()
}

/// Writes an organization's thresholds if their version is still `version` (0 for none yet).
pub(in crate::maintenance) fn put_rules(
    conn: &mut Conn,
    organization: &Organization,
    rules: &Rules,
    version: i64,
    changed_by: &str,
    now: Now,
) -> Result<bool, db::Error> {
    let body = serde_json::to_string(rules).unwrap_or_default();
    let written = if version == 0 {
        let row = (
            maintenance_rules::organization_id.eq(organization.id),
            maintenance_rules::org_path.eq(&organization.path),
            maintenance_rules::body.eq(body),
            maintenance_rules::changed_by.eq(changed_by),
            maintenance_rules::changed_at_ms.eq(now.0),
            maintenance_rules::version.eq(1),
        );
        on_backend!(conn, |c| diesel::insert_into(maintenance_rules::table)
            .values(row)
            .on_conflict_do_nothing()
            .execute(c))?
    } else {
        let row = maintenance_rules::table.find(organization.id).filter(maintenance_rules::version.eq(version));
        diesel::update(row)
            .set((
                maintenance_rules::body.eq(body),
                maintenance_rules::changed_by.eq(changed_by),
                maintenance_rules::changed_at_ms.eq(now.0),
                maintenance_rules::version.eq(version.saturating_add(1)),
            ))
            .execute(conn)?
    };
    Ok(written == 1)
}

/// The checklist in force for an organization: the newest of its own, or of the nearest above it. By primary keys.
pub(in crate::maintenance) fn checklist_for(
    conn: &mut Conn,
    org_path: &str,
    kind: Kind,
) -> Result<Option<Checklist>, db::Error> {
    let chain = chain(org_path);
    // From the nearest upwards: a chain has eight organizations at most.
    for organization_id in chain.into_iter().rev() {
        if let Some(list) = own_checklist(conn, organization_id, kind)? {
            return Ok(Some(list));
        }
    }
    Ok(None)
}

/// The newest of an organization's own.
pub(in crate::maintenance) fn own_checklist(
    conn: &mut Conn,
    organization_id: i64,
    kind: Kind,
) -> Result<Option<Checklist>, db::Error> {
    let newest: Option<(i64, String)> = checklists::table
        .filter(checklists::organization_id.eq(organization_id))
        .filter(checklists::kind.eq(kind.as_str()))
        .order(checklists::version.desc())
        .select((checklists::version, checklists::body))
        .first(conn)
        .optional()?;
    Ok(newest.map(|(version, body)| {
        let items = serde_json::from_str(&body).unwrap_or_default();
        Checklist { kind, organization_id: Some(organization_id), version, items }
    }))
}

/// One version more; false when somebody else has written it meanwhile.
pub(in crate::maintenance) fn add_checklist(
    conn: &mut Conn,
    organization: &Organization,
    kind: Kind,
    version: i64,
    items: &[Item],
    changed_by: &str,
    now: Now,
) -> Result<bool, db::Error> {
    let row = (
        checklists::organization_id.eq(organization.id),
        checklists::kind.eq(kind.as_str()),
        checklists::version.eq(version),
        checklists::org_path.eq(&organization.path),
        checklists::body.eq(serde_json::to_string(items).unwrap_or_default()),
        checklists::changed_by.eq(changed_by),
        checklists::changed_at_ms.eq(now.0),
    );
    let added =
        on_backend!(conn, |c| diesel::insert_into(checklists::table).values(row).on_conflict_do_nothing().execute(c))?;
    Ok(added == 1)
}
