//! The tables in force for an organization: as shipped, with the changes from the root of the tree down to itself.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use serde::{Deserialize, Serialize};
use serde_json::json;
use tillward_protocol::FieldError;

use super::store::tables::{self as store, EditRow};
use crate::audit::{self, Actor, Deed};
use crate::clock::Now;
use crate::db::{self, Conn};
use crate::failures::classify::{OVERRIDES_MAX, Override, RawTables, Row, TableError, TableName, Tables};
use crate::operators::{Caller, Scope};
use crate::organizations;
use crate::text;

/// Edits of an organization that are listed.
const HISTORY_MAX: i64 = 50;

/// What verdicts of an organization are judged by.
#[derive(Debug, Clone, PartialEq)]
pub struct InForce {
    /// As the rules read them.
    pub tables: Tables,
    raw: RawTables,
}

/// The tables without anybody's changes.
static SHIPPED: LazyLock<Result<Arc<InForce>, TableError>> = LazyLock::new(|| {
    let raw = RawTables::seed()?;
    Ok(Arc::new(InForce { tables: raw.parse()?, raw }))
});

pub(super) fn shipped() -> Result<Arc<InForce>, db::Error> {
    SHIPPED.clone().map_err(|error| db::Error::Open(format!("the tables shipped are damaged: {error}")))
}

/// The tables in force for the organization of this path; two or three reads by primary key for each level above it.
///
/// Changes that this program cannot read, because it is older than they are, are left out, and said.
///
/// # Errors
/// [`db::Error`].
pub fn in_force(conn: &mut Conn, org_path: &str) -> Result<Arc<InForce>, db::Error> {
    let edits = store::newest(conn, &chain(org_path))?;
    if edits.is_empty() {
        return shipped();
    }
    let mut raw = shipped()?.raw.clone();
    for edit in &edits {
        raw = applied(raw, edit);
    }
    match raw.parse() {
        Ok(tables) => Ok(Arc::new(InForce { tables, raw })),
        Err(error) => {
            tracing::error!(org_path, %error, "an organization's tables cannot be read; those shipped are in force");
            shipped()
        }
    }
}

fn applied(raw: RawTables, edit: &EditRow) -> RawTables {
    let overrides: Vec<Override> = serde_json::from_str(&edit.overrides).unwrap_or_default();
    let changed = raw.clone().with(&overrides).and_then(|changed| changed.parse().map(|_| changed));
    changed.unwrap_or_else(|error| {
        tracing::error!(organization = edit.organization_id, %error, "changed tables cannot be read and are left out");
        raw
    })
}

/// The numbers of an organization and all above it, from the root down.
fn chain(org_path: &str) -> Vec<i64> {
    org_path.split('/').filter_map(|part| part.parse().ok()).collect()
}

/// Keeps the tables under their hash, once.
pub(super) fn keep(conn: &mut Conn, in_force: &InForce, now: Now) -> Result<(), db::Error> {
    let hash = &in_force.tables.version;
    if store::is_kept(conn, hash)? {
        return Ok(());
    }
    let body = serde_json::to_string(&in_force.raw).unwrap_or_default();
    store::keep(conn, hash, &body, now)
}

/// Where a row comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum RowOrigin {
    /// As shipped.
    Shipped,
    /// Changed or added by this organization.
    Organization {
        /// Its path.
        org_path: String,
    },
}

/// One row in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = RuleTableRow)]
pub struct RowView {
    /// Key: what stands in the first column.
    pub key: String,
    /// Its columns.
    #[schema(value_type = std::collections::HashMap<String, String>)]
    pub row: Row,
    /// Where it comes from.
    pub origin: RowOrigin,
}

/// One table in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = RuleTable)]
pub struct TableView {
    /// Its name.
    pub name: TableName,
    /// Its columns in order; the first is the key.
    pub columns: Vec<String>,
    /// Its rows in the order of their keys.
    pub rows: Vec<RowView>,
}

/// One edit of an organization.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = RuleTableEdit)]
pub struct Edited {
    /// Its version, from 1.
    pub version: i64,
    /// Why.
    pub note: String,
    /// Who.
    pub created_by: String,
    /// When, Unix ms.
    pub created_at_ms: i64,
}

/// The tables in force for an organization, and its own part in them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = RuleTables)]
pub struct TablesView {
    /// Organization.
    pub organization_id: i64,
    /// Hash of what is in force: what verdicts name.
    pub tables_version: String,
    /// Version of the organization's own changes; 0 when it has none.
    pub version: i64,
    /// All that it changes.
    pub overrides: Vec<Override>,
    /// Its edits, newest first.
    pub edits: Vec<Edited>,
    /// What is in force.
    pub tables: Vec<TableView>,
}

/// The tables in force for an organization of the scope; `None` when there is none of this number.
///
/// # Errors
/// [`db::Error`].
pub fn show(conn: &mut Conn, scope: &Scope, organization_id: i64) -> Result<Option<TablesView>, db::Error> {
    let Some(organization) = organizations::get(conn, scope, organization_id)? else { return Ok(None) };
    let edits = store::newest(conn, &chain(&organization.path))?;
    let mut raw = shipped()?.raw.clone();
    let mut origins: BTreeMap<(TableName, String), String> = BTreeMap::new();
    for edit in &edits {
        let before = raw.clone();
        raw = applied(raw, edit);
        for name in TableName::ALL {
            let rows = raw.table(name).into_iter().flat_map(|table| &table.rows);
            for (key, row) in rows {
                if before.table(name).and_then(|table| table.rows.get(key)) != Some(row) {
                    origins.insert((name, key.clone()), edit.org_path.clone());
                }
            }
        }
    }
    let own = edits.last().filter(|edit| edit.organization_id == organization_id);
    let table = |name: TableName| {
        let table = raw.table(name)?;
        let rows = table.rows.iter().map(|(key, row)| RowView {
            key: key.clone(),
            row: row.clone(),
            origin: match origins.get(&(name, key.clone())) {
                Some(org_path) => RowOrigin::Organization { org_path: org_path.clone() },
                None => RowOrigin::Shipped,
            },
        });
        Some(TableView { name, columns: table.columns.clone(), rows: rows.collect() })
    };
    let history = store::history(conn, organization_id, HISTORY_MAX)?;
    Ok(Some(TablesView {
        organization_id,
        tables_version: raw.version(),
        version: own.map_or(0, |edit| edit.version),
        overrides: own.and_then(|edit| serde_json::from_str(&edit.overrides).ok()).unwrap_or_default(),
        edits: history.into_iter().map(edited).collect(),
        tables: TableName::ALL.into_iter().filter_map(table).collect(),
    }))
}

fn edited(row: EditRow) -> Edited {
    Edited { version: row.version, note: row.note, created_by: row.created_by, created_at_ms: row.created_at_ms }
}

/// The tables of this hash as JSON, if a verdict of the scope was judged by them.
///
/// # Errors
/// [`db::Error`].
pub fn version(conn: &mut Conn, scope: &Scope, hash: &str) -> Result<Option<serde_json::Value>, db::Error> {
    Ok(store::body(conn, scope, hash)?.and_then(|body| serde_json::from_str(&body).ok()))
}

/// All that an organization wants to have changed from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RuleTablesEdit)]
pub struct Edit {
    /// Version of the changes that this replaces; 0 for the first.
    pub version: i64,
    /// The changes, at most 500 rows; what is not named is as the organizations above have it.
    pub overrides: Vec<Override>,
    /// Why; at most 100 characters.
    pub note: String,
}

/// Why tables were not changed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// No such organization in the caller's scope.
    #[error("there is no such organization")]
    NotFound,
    /// A row or the note cannot be.
    #[error("{0}")]
    Field(#[from] FieldError),
    /// Somebody else changed them meanwhile.
    #[error("somebody else changed these tables meanwhile; look at them again")]
    Raced,
    /// The database failed.
    #[error(transparent)]
    Db(#[from] db::Error),
}

/// Replaces an organization's changes, within the caller's transaction. Verdicts stay as they are.
///
/// # Errors
/// [`EditError`].
pub fn edit(
    conn: &mut Conn,
    caller: &Caller,
    actor: &Actor,
    organization_id: i64,
    edit: &Edit,
    now: Now,
) -> Result<(), EditError> {
    let organization = organizations::get(conn, &caller.scope, organization_id)?.ok_or(EditError::NotFound)?;
    let note = text::name("note", &edit.note)?;
    check(&edit.overrides)?;
    let above = organization.path.strip_suffix(&format!("{organization_id}/")).unwrap_or_default();
    let inherited = in_force(conn, above)?;
    let raw = inherited.raw.clone().with(&edit.overrides).map_err(refused)?;
    raw.parse().map_err(refused)?;
    let row = EditRow {
        organization_id,
        version: edit.version.saturating_add(1),
        org_path: organization.path.clone(),
        overrides: serde_json::to_string(&edit.overrides).unwrap_or_default(),
        note: note.clone(),
        created_by: caller.name.clone(),
        created_at_ms: now.0,
    };
    let newest = store::newest(conn, &[organization_id])?.first().map_or(0, |newest| newest.version);
    if newest != edit.version || !store::add(conn, &row)? {
        return Err(EditError::Raced);
    }
    let deed = Deed {
        action: "rules.edit",
        object_kind: "organization",
        object_id: organization_id.to_string(),
        org_path: &organization.path,
        detail: json!({
            "version": row.version, "note": note, "rows": edit.overrides.len(), "tables_version": raw.version(),
        }),
    };
    audit::append(conn, actor, &deed, now)?;
    Ok(())
}

/// Number of rows, and no card data in any of them.
fn check(overrides: &[Override]) -> Result<(), FieldError> {
    if overrides.len() > OVERRIDES_MAX {
        return Err(FieldError::new("overrides", format!("must be at most {OVERRIDES_MAX} rows")));
    }
    for (index, change) in overrides.iter().enumerate() {
        let texts = change.row.iter().flat_map(|row| row.values()).chain([&change.key]);
        for value in texts {
            text::guarded("row", value).map_err(|error| error.at("overrides", index))?;
        }
    }
    Ok(())
}

fn refused(error: TableError) -> FieldError {
    FieldError::new(format!("{}.{}.{}", error.table.as_str(), error.key, error.column), error.problem)
}
