//! Organizations: the reseller tree. Headquarters is its root; resellers, sub-resellers and merchants hang below.
//!
//! An organization's `path` (`/1/4/17/`) names all its ancestors, so that a subtree is a range of paths. Organizations
//! are never moved or deleted: everything that ever happened points at them. They are suspended instead.

pub mod http;
mod store;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tillward_protocol::FieldError;

use crate::audit::{self, Actor, Deed};
use crate::clock::Now;
use crate::db::{self, Conn, Db, Sequence};
use crate::operators::Scope;
use crate::text;

/// Deepest level; headquarters is level 0. Reseller chains in practice have three or four.
pub const LEVEL_MAX: i64 = 7;
/// Most organizations of one installation. Larger trees hold merchants that belong into the terminals' own fields.
pub const ORGANIZATIONS_MAX: i64 = 50_000;
/// Longest short code, characters: it is read out on the telephone and stands in every row of an import.
pub const SHORT_CODE_CHARS_MAX: usize = 32;
/// Short code of headquarters until somebody changes it.
pub const HEADQUARTERS_CODE: &str = "HQ";

/// Whether an organization works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = OrganizationStatus)]
pub enum Status {
    /// It does.
    Active,
    /// Its operators and API keys, and those of all organizations below it, are shut out.
    Suspended,
}

impl Status {
    /// Name in tables and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
        }
    }

    fn parse(name: &str) -> Self {
        // The table holds one of two names; anything else is treated as shut out.
        if name == Self::Active.as_str() { Self::Active } else { Self::Suspended }
    }
}

/// A node of the tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Organization {
    /// Its number.
    pub id: i64,
    /// The organization above; absent for headquarters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_id: Option<i64>,
    /// Numbers from the root down to itself, `/1/4/17/`.
    pub path: String,
    /// Distance from headquarters.
    pub level: i64,
    /// What people call it.
    pub name: String,
    /// Unique short name for imports and searches.
    pub short_code: String,
    /// Where it works, if it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Whether it works.
    pub status: Status,
    /// Since when it exists, Unix ms.
    pub created_at_ms: i64,
    /// Grows with each change; a change names the version it is based on.
    pub version: i64,
}

/// What a new organization is made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewOrganization {
    /// The organization above.
    pub parent_id: i64,
    /// 1–100 characters.
    pub name: String,
    /// 1–32 letters, digits, `-` or `_`; kept in upper case.
    pub short_code: String,
    /// Where it works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
}

/// A change; what is absent stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = OrganizationChange)]
pub struct Change {
    /// The version that was read.
    pub version: i64,
    /// New name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// New short code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub short_code: Option<String>,
    /// New region; empty removes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Suspend it or let it work again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
}

/// Why something was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is none of this number in the caller's scope.
    #[error("no such organization")]
    NotFound,
    /// Somebody else changed it meanwhile.
    #[error("the organization was changed meanwhile; read it again")]
    Changed,
    /// The short code belongs to another.
    #[error("the short code is taken")]
    CodeTaken,
    /// The tree may not grow there.
    #[error("{0}")]
    Limit(String),
    /// Nobody shuts out themselves.
    #[error("nobody suspends the organization they belong to")]
    Own,
    /// A suspended organization gets no new members.
    #[error("the organization is suspended")]
    Suspended,
    /// A field was refused.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// The database failed.
    #[error("the database failed")]
    Db(#[from] db::Error),
}

/// The organization of this number, if it is in `scope`. By primary key.
///
/// # Errors
/// [`db::Error`].
pub fn get(conn: &mut Conn, scope: &Scope, id: i64) -> Result<Option<Organization>, db::Error> {
    store::get(conn, scope, id)
}

/// The part of `scope` that one of its organizations is, with those below it. By primary key.
///
/// # Errors
/// [`db::Error`].
pub fn part(conn: &mut Conn, scope: &Scope, id: i64) -> Result<Option<Scope>, db::Error> {
    Ok(store::get(conn, scope, id)?.map(|organization| Scope::subtree(organization.path)))
}

/// The organization of this short code, if it is in `scope`; upper and lower case are the same. By unique index.
///
/// # Errors
/// [`db::Error`].
pub fn find_by_short_code(conn: &mut Conn, scope: &Scope, code: &str) -> Result<Option<Organization>, db::Error> {
    // What cannot be a short code is not looked for; it may hold what a database refuses.
    match short_code(code) {
        Ok(code) => store::find_by_short_code(conn, scope, &code),
        Err(_) => Ok(None),
    }
}

/// Organizations of `scope` in the order of the tree (each before what is below it), after the path `after`.
///
/// # Errors
/// [`db::Error`].
pub fn list(conn: &mut Conn, scope: &Scope, after: Option<&str>, size: u32) -> Result<Vec<Organization>, db::Error> {
    store::list(conn, scope, after, i64::from(size))
}

/// Whether an organization of this path and all above it work. One query by primary keys.
///
/// # Errors
/// [`db::Error`].
pub fn is_open(conn: &mut Conn, org_path: &str) -> Result<bool, db::Error> {
    let chain: Vec<i64> = org_path.split('/').filter_map(|part| part.parse().ok()).collect();
    store::none_suspended(conn, &chain)
}

/// Whether this path is that of headquarters, which sees everything.
pub fn is_headquarters(org_path: &str) -> bool {
    org_path.split('/').filter(|part| !part.is_empty()).count() == 1
}

/// Headquarters; `None` before the server is set up.
///
/// # Errors
/// [`db::Error`].
pub fn headquarters(conn: &mut Conn) -> Result<Option<Organization>, db::Error> {
    store::headquarters(conn)
}

/// Headquarters, made if there is none yet; within the caller's transaction.
///
/// # Errors
/// [`db::Error`].
pub fn ensure_headquarters(conn: &mut Conn, now: Now) -> Result<Organization, db::Error> {
    if let Some(found) = store::headquarters(conn)? {
        return Ok(found);
    }
    // Taking the number locks the counter: of two servers that start at once, the second one finds the first one's.
    let id = db::next_id(conn, Sequence::Organizations)?;
    if let Some(found) = store::headquarters(conn)? {
        return Ok(found);
    }
    let organization = Organization {
        id,
        parent_id: None,
        path: format!("/{id}/"),
        level: 0,
        name: "Headquarters".to_owned(),
        short_code: HEADQUARTERS_CODE.to_owned(),
        region: None,
        status: Status::Active,
        created_at_ms: now.0,
        version: 1,
    };
    store::insert(conn, &organization)?;
    append(conn, &Actor::system("bootstrap"), "organizations.create", &organization, now)?;
    Ok(organization)
}

/// Makes an organization below one of `scope`.
///
/// # Errors
/// [`Error::NotFound`] when the parent is not in `scope`, [`Error::CodeTaken`], [`Error::Limit`],
/// [`Error::Suspended`], [`Error::Field`], [`Error::Db`].
pub async fn create(
    db: &Db,
    scope: &Scope,
    actor: &Actor,
    new: NewOrganization,
    now: Now,
) -> Result<Organization, Error> {
    let (scope, actor) = (scope.clone(), actor.clone());
    db.write(move |conn| create_in(conn, &scope, &actor, &new, now)).await
}

/// As [`create`], within the caller's transaction.
///
/// # Errors
/// As [`create`].
pub fn create_in(
    conn: &mut Conn,
    scope: &Scope,
    actor: &Actor,
    new: &NewOrganization,
    now: Now,
) -> Result<Organization, Error> {
    let name = text::name("name", &new.name)?;
    let short_code = short_code(&new.short_code)?;
    let region = region(new.region.as_deref())?;
    let parent = store::get(conn, scope, new.parent_id)?.ok_or(Error::NotFound)?;
    if parent.level >= LEVEL_MAX {
        return Err(Error::Limit(format!("the tree has at most {} levels", LEVEL_MAX + 1)));
    }
    if !is_open(conn, &parent.path)? {
        return Err(Error::Suspended);
    }
    if store::count(conn)? >= ORGANIZATIONS_MAX {
        return Err(Error::Limit(format!("there may be at most {ORGANIZATIONS_MAX} organizations")));
    }
    let id = db::next_id(conn, Sequence::Organizations)?;
    let organization = Organization {
        id,
        parent_id: Some(parent.id),
        path: format!("{}{id}/", parent.path),
        level: parent.level + 1,
        name,
        short_code,
        region,
        status: Status::Active,
        created_at_ms: now.0,
        version: 1,
    };
    store::insert(conn, &organization).map_err(code_taken)?;
    append(conn, actor, "organizations.create", &organization, now)?;
    Ok(organization)
}

/// Changes an organization of `scope`. `own_id` is the caller's own, which it cannot suspend.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Changed`] when `change.version` is not the present one, [`Error::CodeTaken`],
/// [`Error::Own`], [`Error::Field`], [`Error::Db`].
pub async fn update(
    db: &Db,
    scope: &Scope,
    actor: &Actor,
    own_id: i64,
    id: i64,
    change: Change,
    now: Now,
) -> Result<Organization, Error> {
    let (scope, actor) = (scope.clone(), actor.clone());
    db.write(move |conn| {
        let before = store::get(conn, &scope, id)?.ok_or(Error::NotFound)?;
        if before.version != change.version {
            return Err(Error::Changed);
        }
        let after = changed(&before, &change)?;
        if after.status == Status::Suspended && (id == own_id || before.parent_id.is_none()) {
            return Err(Error::Own);
        }
        if !store::replace(conn, &after, before.version).map_err(code_taken)? {
            return Err(Error::Changed);
        }
        append(conn, &actor, "organizations.update", &after, now)?;
        Ok(after)
    })
    .await
}

/// Renames an organization to an already checked name, within the caller's transaction; the caller has the right to.
/// Returns whether it was still there and unchanged.
///
/// # Errors
/// [`db::Error`].
pub fn rename_in(conn: &mut Conn, actor: &Actor, id: i64, name: String, now: Now) -> Result<bool, db::Error> {
    let Some(before) = store::get(conn, &Scope::everything(), id)? else { return Ok(false) };
    let after = Organization { name, version: before.version + 1, ..before.clone() };
    if !store::replace(conn, &after, before.version)? {
        return Ok(false);
    }
    append(conn, actor, "organizations.update", &after, now)?;
    Ok(true)
}

fn changed(before: &Organization, change: &Change) -> Result<Organization, FieldError> {
    let mut after = before.clone();
    if let Some(name) = &change.name {
        after.name = text::name("name", name)?;
    }
    if let Some(code) = &change.short_code {
        after.short_code = short_code(code)?;
    }
    if let Some(text) = &change.region {
        after.region = region(Some(text))?;
    }
    after.status = change.status.unwrap_or(before.status);
    after.version = before.version + 1;
    Ok(after)
}

fn short_code(given: &str) -> Result<String, FieldError> {
    let code = given.trim().to_ascii_uppercase();
    let fits = (1..=SHORT_CODE_CHARS_MAX).contains(&code.len())
        && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    let problem = format!("must be 1 to {SHORT_CODE_CHARS_MAX} letters, digits, `-` or `_`");
    if !fits {
        return Err(FieldError::new("short_code", problem));
    }
    text::guarded("short_code", &code)?;
    Ok(code)
}

fn region(text: Option<&str>) -> Result<Option<String>, FieldError> {
    text.filter(|text| !text.trim().is_empty()).map(|text| text::name("region", text)).transpose()
}

fn code_taken(error: db::Error) -> Error {
    if error.is_unique_violation() { Error::CodeTaken } else { Error::Db(error) }
}

fn append(
    conn: &mut Conn,
    actor: &Actor,
    action: &str,
    organization: &Organization,
    now: Now,
) -> Result<(), db::Error> {
    let detail = json!({
        "name": organization.name,
        "short_code": organization.short_code,
        "region": organization.region,
        "status": organization.status,
        "version": organization.version,
    });
    let object_id = organization.id.to_string();
    let deed = Deed { action, object_kind: "organization", object_id, org_path: &organization.path, detail };
    audit::append(conn, actor, &deed, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_codes_are_upper_case_and_plain() {
        assert_eq!(short_code(" hz-01_a ").unwrap(), "HZ-01_A");
        for bad in ["", " ", "a b", "杭州", "a/b", &"x".repeat(SHORT_CODE_CHARS_MAX + 1)] {
            assert_eq!(short_code(bad).unwrap_err().field, "short_code", "{bad:?}");
        }
    }
}
