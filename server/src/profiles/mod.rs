//! Profiles: sets of parameters for the payment application. A profile's canonical bytes have a config hash, by which
//! terminals fetch them, check them and report them. What was created never changes: new content is a new version.
//!
//! Profiles are in force on layers ([`LayerKey`]); a terminal is told the merged parameters of all its layers. One
//! terminal's own layer is set at once; the layers above change by a rollout, which stages and settles.

mod drift;
mod effective;
pub mod http;
mod layers;
mod parameters;
mod staging;
mod store;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tillward_protocol::FieldError;
use tillward_protocol::ids::Sha256Hex;

use crate::audit::{self, Actor, Deed};
use crate::clock::Now;
use crate::db::{self, Conn, Db, Sequence, next_id};
use crate::http::tokens::TerminalSession;
use crate::operators::Scope;
use crate::terminals::{self, Filter};
use crate::{organizations, text};

pub use drift::{
    Change as DriftChange, Drift, DriftState, Noted as DriftNoted, Watch, list as list_drifts, note as note_drifts,
};
pub use effective::{Effective, EffectiveValue, Origin, effective, recompute};
pub use layers::LayerKey;
pub use parameters::Parameter;
pub use staging::{Unstaged, check_layer, settle, spread, stage, unstage};

use parameters::canonical;

/// Merged bodies that nobody is told are kept this long, ms: terminals that report one are shown what it says.
const BODIES_KEPT_MS: i64 = 30 * 86_400_000;
/// Merged bodies that go in one transaction.
const BODIES_FORGOTTEN: i64 = 500;
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

/// Puts a profile in force on terminals' own layers at once, 1,000 to a transaction.
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
    let ids = store::assignable(conn, scope, ids)?;
    let assigned = u64::try_from(stage(conn, &ids, &LayerKey::Terminal, profile.id, now)?.len()).unwrap_or(u64::MAX);
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

/// The canonical bytes of the parameters that this terminal should apply, if `hash` is their hash.
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
    store::bodies::find(conn, hash)?.ok_or(Error::NotFound)
}

/// What is in force on one layer above the terminals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct LayerInForce {
    /// The layer.
    pub layer: LayerKey,
    /// The organization on which it hangs, as a path.
    pub org_path: String,
    /// The profile.
    pub profile_id: i64,
    /// Its name.
    pub profile_name: String,
    /// Its version.
    pub profile_version: i64,
    /// Config hash of the profile alone.
    pub hash: String,
    /// Since when, Unix ms.
    pub since_ms: i64,
    /// Whether terminals on the layer are still to be told.
    pub spreading: bool,
}

/// What is in force on the layers of the scope's organizations, from the top of the tree down, after `after`: path of
/// the organization, name of the layer, name of the profile. What single terminals take is not among it.
///
/// # Errors
/// [`db::Error`].
pub fn list_layers(
    conn: &mut Conn,
    scope: &Scope,
    after: Option<&(String, String, String)>,
    limit: u32,
) -> Result<Vec<LayerInForce>, db::Error> {
    store::layers::list(conn, scope, after, i64::from(limit))
}

/// A parameter that a terminal does not have as it should.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Difference {
    /// Name.
    pub name: String,
    /// As it should be; absent for a parameter that should not be there.
    pub expected: Option<Parameter>,
    /// As the terminal has it; absent for one that it does not have.
    pub reported: Option<Parameter>,
}

/// A terminal's parameters: what it should have and why, and what it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct TerminalConfig {
    /// What it should have, by name, each with its origin.
    pub values: Vec<EffectiveValue>,
    /// The config hash that it is told; absent while nothing is in force for it.
    pub expected_hash: Option<String>,
    /// The one that it reported last.
    pub reported_hash: Option<String>,
    /// What differs; absent when it cannot be known, because the reported hash was never told to a terminal.
    pub differences: Option<Vec<Difference>>,
    /// Its drift, if it was told and goes on reporting another hash.
    pub drift: Option<Drift>,
}

/// A terminal's parameters.
///
/// # Errors
/// [`Error::NotFound`].
pub fn terminal_config(conn: &mut Conn, scope: &Scope, terminal_id: i64) -> Result<TerminalConfig, Error> {
    let hashes = store::layers::hashes(conn, scope, terminal_id)?.ok_or(Error::NotFound)?;
    let (expected_hash, reported_hash) = (hashes.expected, hashes.reported);
    let effective = effective(conn, scope, terminal_id)?;
    let drift = store::drifts::find(conn, scope, terminal_id)?;
    let differences = if reported_hash == effective.hash {
        Some(Vec::new())
    } else {
        let body = match reported_hash.as_deref() {
            Some(hash) => store::bodies::find(conn, hash)?,
            None => None,
        };
        // Only merged parameters are kept there.
        body.and_then(|body| serde_json::from_str(&body).ok()).map(|has| differences(&effective.values, has))
    };
    Ok(TerminalConfig { values: effective.values, expected_hash, reported_hash, differences, drift })
}

fn differences(values: &[EffectiveValue], mut has: BTreeMap<String, Parameter>) -> Vec<Difference> {
    let mut found = Vec::new();
    for EffectiveValue { name, value, .. } in values {
        let reported = has.remove(name);
        if reported.as_ref() != Some(value) {
            found.push(Difference { name: name.clone(), expected: Some(value.clone()), reported });
        }
    }
    found.extend(has.into_iter().map(|(name, value)| Difference { name, expected: None, reported: Some(value) }));
    found
}

/// Deletes merged bodies that no terminal is told any more; returns how many went.
///
/// # Errors
/// [`db::Error`]; what was deleted before stays deleted.
pub async fn forget_unused(db: &Db, now: Now) -> Result<usize, db::Error> {
    let before_ms = now.0 - BODIES_KEPT_MS;
    let hashes = db.read(move |conn| store::bodies::unused(conn, before_ms, BODIES_FORGOTTEN)).await?;
    if hashes.is_empty() {
        return Ok(0);
    }
    db.write(move |conn| store::bodies::forget(conn, &hashes, before_ms)).await
}
