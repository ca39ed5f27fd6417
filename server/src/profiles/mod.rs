//! Profiles: sets of parameters for the payment application. A profile's canonical bytes have a config hash, by which
//! terminals fetch them, check them and report them. What was created never changes: new content is a new version.

pub mod http;
mod store;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tillward_protocol::FieldError;
use tillward_protocol::ids::Sha256Hex;
use tillward_protocol::pan;

use crate::audit::{self, Actor, Deed};
use crate::clock::Now;
use crate::db::{self, Conn, Db, Sequence, next_id};
use crate::http::tokens::TerminalSession;
use crate::operators::Scope;
use crate::terminals::{self, Filter};
use crate::{organizations, text};

/// Most parameters of one profile.
const PARAMETERS_MAX: usize = 256;
/// Longest name of a parameter, bytes.
const KEY_BYTES_MAX: usize = 64;
/// Longest text of a parameter, bytes.
const TEXT_BYTES_MAX: usize = 1_024;
/// Most canonical bytes: a terminal with little memory reads them at once.
const BODY_BYTES_MAX: usize = 32 * 1_024;
/// Largest and smallest number: what every JSON reader on a terminal holds exactly.
const INTEGER_MAX: i64 = (1 << 53) - 1;
/// Terminals of one transaction when a profile is assigned to many.
const ASSIGN_CHUNK: usize = 1_000;

/// Why something about profiles was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such profile, or not for this caller.
    #[error("not found")]
    NotFound,
    /// The terminal's session was ended.
    #[error("the session was ended; open a new one")]
    SessionEnded,
    /// A field was refused.
    #[error(transparent)]
    Invalid(#[from] FieldError),
    /// The terminals to assign to could not be found.
    #[error(transparent)]
    Terminals(#[from] terminals::Error),
    /// The database failed.
    #[error(transparent)]
    Db(#[from] db::Error),
}

/// The value of a parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum Parameter {
    /// Yes or no.
    Flag(bool),
    /// A whole number.
    Integer(i64),
    /// Text.
    Text(String),
}

/// A profile as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewProfile {
    /// What people call it; the same name again makes a new version.
    pub name: String,
    /// The organization it belongs to; the caller's own when absent.
    #[serde(default)]
    pub organization_id: Option<i64>,
    /// The parameters, flat.
    pub parameters: BTreeMap<String, Parameter>,
}

/// One version of a profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Profile {
    /// Number.
    pub id: i64,
    /// Organization.
    pub organization_id: i64,
    /// What people call it.
    pub name: String,
    /// Version among those of the same name, from 1.
    pub version: i64,
    /// Config hash: SHA-256 of the canonical bytes.
    pub hash: String,
    /// The parameters.
    pub parameters: BTreeMap<String, Parameter>,
    /// Who created it.
    pub created_by: String,
    /// When, Unix ms.
    pub created_at_ms: i64,
}

/// Checks the parameters and returns their canonical bytes.
fn canonical(parameters: &BTreeMap<String, Parameter>) -> Result<String, FieldError> {
    let refused = |key: &str, problem: &str| Err(FieldError::new(format!("parameters.{key}"), problem));
    if parameters.len() > PARAMETERS_MAX {
        return Err(FieldError::new("parameters", format!("at most {PARAMETERS_MAX}")));
    }
    for (key, value) in parameters {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        if key.is_empty() || key.len() > KEY_BYTES_MAX || !key.bytes().all(allowed) {
            let problem = format!("names must be 1 to {KEY_BYTES_MAX} letters, digits, `_`, `.` or `-`");
            return Err(FieldError::new("parameters", problem));
        }
        match value {
            Parameter::Flag(_) => {}
            Parameter::Integer(number) if !(-INTEGER_MAX..=INTEGER_MAX).contains(number) => {
                return refused(key, "must be between -(2^53 - 1) and 2^53 - 1");
            }
            Parameter::Integer(_) => {}
            Parameter::Text(text) if text.len() > TEXT_BYTES_MAX => {
                return refused(key, &format!("must be at most {TEXT_BYTES_MAX} bytes"));
            }
            Parameter::Text(text) if text.chars().any(char::is_control) => {
                return refused(key, "must not contain control characters");
            }
            Parameter::Text(text) if pan::contains_card_data(text) => {
                return refused(key, "looks like card data, which is never accepted");
            }
            Parameter::Text(_) => {}
        }
    }
    let unwritable = || FieldError::new("parameters", "cannot be written as canonical JSON");
    let value = serde_json::to_value(parameters).map_err(|_| unwritable())?;
    let bytes = sigstore_tuf::canonical_json::to_canonical_bytes(&value).map_err(|_| unwritable())?;
    if bytes.len() > BODY_BYTES_MAX {
        return Err(FieldError::new("parameters", format!("at most {BODY_BYTES_MAX} bytes together")));
    }
    String::from_utf8(bytes).map_err(|_| unwritable())
}

/// Creates a profile, or the next version of the one with this name. The newest version again changes nothing.
///
/// # Errors
/// [`Error::Invalid`].
pub fn create(
    conn: &mut Conn,
    actor: &Actor,
    created_by: &str,
    scope: &Scope,
    home: i64,
    new: NewProfile,
    now: Now,
) -> Result<Profile, Error> {
    let name = text::name("name", &new.name)?;
    let body = canonical(&new.parameters)?;
    let hash = Sha256Hex::of(body.as_bytes());
    let owner = organizations::get(conn, scope, new.organization_id.unwrap_or(home))?
        .ok_or_else(|| FieldError::new("organization_id", "is not an organization of yours"))?;
    let newest = store::newest(conn, owner.id, &name)?;
    if let Some(same) = newest.as_ref().filter(|newest| newest.hash == hash.as_str()) {
        return Ok(same.clone());
    }
    let profile = Profile {
        id: next_id(conn, Sequence::Profiles)?,
        organization_id: owner.id,
        name,
        version: newest.map_or(1, |newest| newest.version + 1),
        hash: hash.into(),
        parameters: new.parameters,
        created_by: created_by.to_owned(),
        created_at_ms: now.0,
    };
    store::insert(conn, &profile, &owner.path, &body)?;
    let deed = Deed {
        action: "profiles.create",
        object_kind: "profile",
        object_id: profile.id.to_string(),
        org_path: &owner.path,
        detail: json!({"name": profile.name, "version": profile.version, "hash": profile.hash}),
    };
    audit::append(conn, actor, &deed, now)?;
    Ok(profile)
}

/// One profile.
///
/// # Errors
/// [`Error::NotFound`].
pub fn get(conn: &mut Conn, scope: &Scope, id: i64) -> Result<Profile, Error> {
    store::find(conn, scope, id)?.ok_or(Error::NotFound)
}

/// Profiles, newest first, before `before`.
///
/// # Errors
/// [`db::Error`].
pub fn list(conn: &mut Conn, scope: &Scope, before: Option<i64>, limit: u32) -> Result<Vec<Profile>, db::Error> {
    store::list(conn, scope, before.unwrap_or(i64::MAX), i64::from(limit))
}

/// To which terminals: a list or a filter, not both.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Assign {
    /// Terminals, at most 1,000.
    #[serde(default)]
    pub ids: Option<Vec<i64>>,
    /// All terminals that it fits.
    #[serde(default)]
    pub filter: Option<Filter>,
}

/// What became of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Assigned {
    /// Terminals that should apply the profile now.
    pub assigned: u64,
    /// Terminals of a list that are not the caller's, or lost, retired or blocked. A filter passes over them.
    pub refused: u64,
}

/// Sets what terminals should apply, 1,000 to a transaction.
///
/// # Errors
/// [`Error::NotFound`] for the profile, [`Error::Invalid`] for a list that is too long or a filter that cannot be
/// resolved. Terminals before a failure keep what they got; assigning again changes nothing for them.
pub async fn assign(db: &Db, actor: Actor, scope: Scope, id: i64, asked: Assign, now: Now) -> Result<Assigned, Error> {
    let profile = {
        let scope = scope.clone();
        db.read(move |conn| get(conn, &scope, id)).await?
    };
    match (asked.ids, asked.filter) {
        (Some(ids), None) => {
            terminals::check_bulk(&ids)?;
            let asked = u64::try_from(ids.len()).unwrap_or(u64::MAX);
            let assigned = db.write(move |conn| assign_chunk(conn, &actor, &scope, &profile, &ids, now)).await?;
            Ok(Assigned { assigned, refused: asked.saturating_sub(assigned) })
        }
        (None, Some(filter)) => {
            let mut done = Assigned::default();
            let mut after = 0;
            loop {
                let (scope, filter) = (scope.clone(), filter.clone());
                let (actor, profile) = (actor.clone(), profile.clone());
                let step = move |conn: &mut Conn| {
                    let ids = terminals::list::ids_after(conn, &scope, &filter, after, ASSIGN_CHUNK, now)?;
                    let assigned = assign_chunk(conn, &actor, &scope, &profile, &ids, now)?;
                    Ok::<_, Error>((ids.last().copied(), ids.len(), assigned))
                };
                let (last, found, assigned) = db.write(step).await?;
                done.assigned += assigned;
                match last {
                    Some(last) if found == ASSIGN_CHUNK => after = last,
                    _ => return Ok(done),
                }
            }
        }
        _ => Err(FieldError::new("ids", "name either ids or a filter").into()),
    }
}

fn assign_chunk(
    conn: &mut Conn,
    actor: &Actor,
    scope: &Scope,
    profile: &Profile,
    ids: &[i64],
    now: Now,
) -> Result<u64, Error> {
    let assigned = store::assign(conn, scope, &profile.hash, ids)?;
    if assigned > 0 {
        let deed = Deed {
            action: "profiles.assign",
            object_kind: "profile",
            object_id: profile.id.to_string(),
            org_path: scope.from(),
            detail: json!({"hash": profile.hash, "terminals": assigned, "first": ids.first(), "last": ids.last()}),
        };
        audit::append(conn, actor, &deed, now)?;
    }
    Ok(assigned)
}

/// The canonical bytes of the profile that this terminal should apply, if `hash` is its hash.
///
/// # Errors
/// [`Error::NotFound`] for any other hash, [`Error::SessionEnded`].
pub fn desired_by(conn: &mut Conn, session: &TerminalSession, hash: &str) -> Result<String, Error> {
    let (epoch, desired) = store::desired(conn, session.terminal_id.0)?.ok_or(Error::SessionEnded)?;
    if epoch != session.epoch {
        return Err(Error::SessionEnded);
    }
    if desired.as_deref() != Some(hash) {
        return Err(Error::NotFound);
    }
    store::body(conn, hash)?.ok_or(Error::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(json: &str) -> BTreeMap<String, Parameter> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn the_same_parameters_have_the_same_bytes_in_any_order() {
        let one = canonical(&parameters(r#"{"b": true, "a": "x", "c": -3}"#)).unwrap();
        assert_eq!(one, r#"{"a":"x","b":true,"c":-3}"#);
        assert_eq!(canonical(&parameters(r#"{"c":-3,"a":"x","b":true}"#)).unwrap(), one);
    }

    #[test]
    fn impossible_parameters_are_refused_by_name() {
        for (json, field) in [
            (r#"{"a b": 1}"#.to_owned(), "parameters"),
            (format!(r#"{{"{}": 1}}"#, "k".repeat(65)), "parameters"),
            (r#"{"n": 9007199254740992}"#.to_owned(), "parameters.n"),
            (format!(r#"{{"t": "{}"}}"#, "x".repeat(1_025)), "parameters.t"),
            (r#"{"t": "a\nb"}"#.to_owned(), "parameters.t"),
            (r#"{"t": "4111111111111111"}"#.to_owned(), "parameters.t"),
        ] {
            assert_eq!(canonical(&parameters(&json)).unwrap_err().field, field, "{json}");
        }
        let many: BTreeMap<String, Parameter> = (0..257).map(|n| (format!("k{n}"), Parameter::Integer(n))).collect();
        assert_eq!(canonical(&many).unwrap_err().field, "parameters");
        assert!(serde_json::from_str::<Parameter>("1.5").is_err());
        assert!(serde_json::from_str::<Parameter>("{}").is_err());
    }
}
