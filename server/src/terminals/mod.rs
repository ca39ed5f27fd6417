//! Terminals: the registry of who and whose each is, its life, its enrolment, and the list over all of them.
//!
//! What a terminal reports is written by check-ins and only read here. Every function takes the caller's [`Scope`];
//! what is outside of it does not exist. Changes compare and set the version, so that two people cannot overwrite each
//! other, and write their audit entry in the same transaction.

pub mod bindings;
pub mod enrolment;
pub mod fields;
pub mod http;
pub mod import;
pub mod lifecycle;
pub mod list;
mod models;
mod store;
mod transfer;

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tillward_protocol::FieldError;

pub use fields::{NewTerminal, Registration};
pub use lifecycle::{Action, Lifecycle, Refusal};
pub use list::{Connection, Filter, Overview, Sort, TerminalRow, overview};
pub use models::{Capabilities, Model, NewModel, create_model, list_models};
pub use transfer::{Transfer, Transferred, transfer};

use crate::audit::{self, Actor, Deed};
use crate::clock::Now;
use crate::db::{self, Conn, Sequence, next_id};
use crate::operators::Scope;
use crate::organizations;
use crate::profiles;
use bindings::Why;
use store::Record;

/// Terminals that one bulk request may name: one transaction of well under a second.
pub const BULK_MAX: usize = 1_000;

/// Why something about terminals was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such thing in the caller's scope.
    #[error("not found")]
    NotFound,
    /// A field was refused.
    #[error(transparent)]
    Invalid(#[from] FieldError),
    /// The life of the terminal does not allow it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Something else stands against it; the text says what to do.
    #[error("{0}")]
    Conflict(String),
    /// Somebody changed the terminal since the caller read it.
    #[error("somebody changed this terminal since you read it; read it again")]
    Changed,
    /// As much of this as the server does at one time is under way.
    #[error("others are importing; try again in a minute")]
    Busy,
    /// The database failed.
    #[error(transparent)]
    Db(#[from] db::Error),
}

/// One terminal with all that is recorded of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Terminal {
    /// Number.
    pub id: i64,
    /// Serial number.
    pub sn: String,
    /// UnionPay terminal number.
    pub tusn: Option<String>,
    /// Model code.
    pub model: String,
    /// Hardware revision.
    pub hardware: Option<String>,
    /// Organization.
    pub organization_id: i64,
    /// Organization, as a path.
    pub org_path: String,
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
    /// SIM card number.
    pub iccid: Option<String>,
    /// IMEI.
    pub imei: Option<String>,
    /// Free text.
    pub notes: Option<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// Where it is in its life.
    pub lifecycle: Lifecycle,
    /// When it enrolled last, Unix ms.
    pub enrolled_at_ms: Option<i64>,
    /// SHA-256 of its public key, hex: what two people compare.
    pub key_fingerprint: Option<String>,
    /// Its own interval between check-ins, s.
    pub check_in_interval_s: Option<i64>,
    /// Minutes that its local time is ahead of UTC; China's 480 when absent.
    pub utc_offset_min: Option<i64>,
    /// Config hash of the profile it should apply.
    pub desired_config_hash: Option<String>,
    /// When it was registered, Unix ms.
    pub created_at_ms: i64,
    /// Grows with each change; name it when you change something.
    pub version: i64,
    /// What looked odd about the fields just given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

fn terminal(record: Record, tags: Vec<String>) -> Terminal {
    let fingerprint = |key: String| hex::encode(tillward_protocol::crypto::sha256(key.as_bytes()));
    Terminal {
        lifecycle: record.lifecycle(),
        id: record.id,
        sn: record.sn,
        tusn: record.tusn,
        model: record.model,
        hardware: record.hardware,
        organization_id: record.organization_id,
        org_path: record.org_path,
        merchant_no: record.merchant_no,
        merchant_name: record.merchant_name,
        store_name: record.store_name,
        terminal_no: record.terminal_no,
        region: record.region,
        iccid: record.iccid,
        imei: record.imei,
        notes: record.notes,
        tags,
        enrolled_at_ms: record.enrolled_at_ms,
        key_fingerprint: record.public_key.map(fingerprint),
        check_in_interval_s: record.check_in_interval_s,
        utc_offset_min: record.utc_offset_min,
        desired_config_hash: record.desired_config_hash,
        created_at_ms: record.created_at_ms,
        version: record.version,
        warnings: Vec::new(),
    }
}

/// Registers one terminal, for the organization it names or for `home`.
///
/// # Errors
/// [`Error::Invalid`] for a refused field, an unknown model or organization; [`Error::Conflict`] for a serial number
/// or TUSN that is in use.
pub fn create(
    conn: &mut Conn,
    actor: &Actor,
    scope: &Scope,
    home: i64,
    new: NewTerminal,
    now: Now,
) -> Result<Terminal, Error> {
    let organization_id = new.organization_id.unwrap_or(home);
    let mut given = new.parse()?;
    let owner = organizations::get(conn, scope, organization_id)?
        .ok_or_else(|| FieldError::new("organization_id", "is not an organization of yours"))?;
    if !store::has_model(conn, given.model.as_str())? {
        return Err(FieldError::new("model", "is not a known model; create it first").into());
    }
    if let Some(field) = store::is_taken(conn, given.sn.as_str(), given.tusn.as_deref())? {
        return Err(Error::Conflict(format!("a terminal with this {field} is registered already")));
    }
    let tags = std::mem::take(&mut given.tags);
    let warnings = std::mem::take(&mut given.warnings);
    let record = Record::new(next_id(conn, Sequence::Terminals)?, given, &owner, now);
    store::insert(conn, &record, &tags).map_err(taken_meanwhile)?;
    bindings::note(conn, &[(&record, Why { actor: actor.name(), reason: "registered" })], now)?;
    let detail = json!({"sn": record.sn, "model": record.model});
    audit::append(conn, actor, &deed("terminals.create", &record, detail), now)?;
    profiles::recompute(conn, &[record.id], now)?;
    Ok(Terminal { warnings, ..get(conn, scope, record.id)? })
}

fn taken_meanwhile(error: db::Error) -> Error {
    if error.is_unique_violation() {
        Error::Conflict("a terminal with this sn or tusn is registered already".to_owned())
    } else {
        error.into()
    }
}

fn deed<'a>(action: &'a str, record: &'a Record, detail: serde_json::Value) -> Deed<'a> {
    Deed { action, object_kind: "terminal", object_id: record.id.to_string(), org_path: &record.org_path, detail }
}

/// One terminal.
///
/// # Errors
/// [`Error::NotFound`].
pub fn get(conn: &mut Conn, scope: &Scope, id: i64) -> Result<Terminal, Error> {
    let record = store::find(conn, scope, id)?.ok_or(Error::NotFound)?;
    let tags = store::tags_of(conn, id)?;
    Ok(terminal(record, tags))
}

/// The number of the terminal with this serial number.
///
/// # Errors
/// [`db::Error`].
pub fn id_of_sn(conn: &mut Conn, scope: &Scope, sn: &str) -> Result<Option<i64>, db::Error> {
    store::id_of_sn(conn, scope, sn)
}

/// What others need to know of a terminal that a file or a channel names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// Number.
    pub id: i64,
    /// Serial number.
    pub sn: String,
    /// The channel's number.
    pub terminal_no: Option<String>,
    /// Organization, as a path.
    pub org_path: String,
    /// Model code.
    pub model: String,
    /// Hardware revision.
    pub hardware: Option<String>,
    /// Region.
    pub region: String,
    /// Whether it has ever called: then it counts its own exposures.
    pub calls: bool,
}

/// Terminals of the scope by their serial numbers; one statement.
///
/// # Errors
/// [`db::Error`].
pub fn registered_by_sn(
    conn: &mut Conn,
    scope: &Scope,
    sns: &[&str],
) -> Result<HashMap<String, Registered>, db::Error> {
    let found = store::registered(conn, scope, store::Named::Sn(sns))?;
    Ok(found.into_iter().map(|terminal| (terminal.sn.clone(), terminal)).collect())
}

/// Terminals of the scope by the channel's numbers; `None` for a number that several have.
///
/// # Errors
/// [`db::Error`].
pub fn registered_by_no(
    conn: &mut Conn,
    scope: &Scope,
    terminal_nos: &[&str],
) -> Result<HashMap<String, Option<Registered>>, db::Error> {
    let mut by_no: HashMap<String, Option<Registered>> = HashMap::new();
    for terminal in store::registered(conn, scope, store::Named::TerminalNo(terminal_nos))? {
        let Some(terminal_no) = terminal.terminal_no.clone() else { continue };
        by_no.entry(terminal_no).and_modify(|one| *one = None).or_insert(Some(terminal));
    }
    Ok(by_no)
}

/// What to change of a terminal. A field that is absent stays, one that is `null` is cleared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TerminalChange)]
pub struct Change {
    /// The version that the caller read.
    pub version: i64,
    /// Merchant number.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    pub merchant_no: Option<Option<String>>,
    /// Merchant's name.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    pub merchant_name: Option<Option<String>>,
    /// Store's name.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    pub store_name: Option<Option<String>>,
    /// Channel's number for it.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    pub terminal_no: Option<Option<String>>,
    /// Region.
    #[serde(default)]
    pub region: Option<String>,
    /// Hardware revision.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    pub hardware: Option<Option<String>>,
    /// Free text.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    pub notes: Option<Option<String>>,
    /// All tags.
    #[serde(default)]
    pub tags: Option<Vec<String>>,
    /// Interval between check-ins, s.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<u32>)]
    pub check_in_interval_s: Option<Option<u32>>,
    /// Minutes that its local time is ahead of UTC, -840 to 840.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<i32>)]
    pub utc_offset_min: Option<Option<i32>>,
}

/// Tells a field that is `null` from one that is absent.
fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

/// Changes a terminal's record.
///
/// # Errors
/// [`Error::Changed`] when the version is not the one the caller read.
pub fn update(
    conn: &mut Conn,
    actor: &Actor,
    scope: &Scope,
    id: i64,
    change: Change,
    now: Now,
) -> Result<Terminal, Error> {
    let mut record = store::find(conn, scope, id)?.ok_or(Error::NotFound)?;
    let mut changed = Vec::new();
    let mut set = |name: &'static str, old: &mut Option<String>, new: Option<Option<String>>| {
        if let Some(new) = new.filter(|new| new != old) {
            *old = new;
            changed.push(name);
        }
    };
    set("merchant_no", &mut record.merchant_no, change.merchant_no.map(fields::merchant_no).transpose()?);
    let name = |field, given: Option<Option<String>>| given.map(|text| fields::name(field, text)).transpose();
    set("merchant_name", &mut record.merchant_name, name("merchant_name", change.merchant_name)?);
    set("store_name", &mut record.store_name, name("store_name", change.store_name)?);
    set("terminal_no", &mut record.terminal_no, change.terminal_no.map(fields::terminal_no).transpose()?);
    set("hardware", &mut record.hardware, change.hardware.map(fields::hardware).transpose()?);
    set("notes", &mut record.notes, change.notes.map(fields::notes).transpose()?);
    if let Some(region) = change.region {
        let region = fields::region(Some(region))?.unwrap_or_else(|| store::REGION_UNKNOWN.to_owned());
        if region != record.region {
            record.region = region;
            changed.push("region");
        }
    }
    if let Some(interval) = change.check_in_interval_s.map(fields::interval).transpose()?
        && interval != record.check_in_interval_s
    {
        record.check_in_interval_s = interval;
        changed.push("check_in_interval_s");
    }
    if let Some(offset) = change.utc_offset_min.map(fields::utc_offset).transpose()?
        && offset != record.utc_offset_min
    {
        record.utc_offset_min = offset;
        changed.push("utc_offset_min");
    }
    let tags = change.tags.map(|tags| fields::tags(&tags)).transpose()?;
    if !store::save(conn, &record, change.version)? {
        return Err(Error::Changed);
    }
    bindings::note(conn, &[(&record, Why { actor: actor.name(), reason: "changed" })], now)?;
    if let Some(tags) = tags {
        store::replace_tags(conn, id, &tags)?;
        profiles::recompute(conn, &[id], now)?;
        changed.push("tags");
    }
    // Names of fields, not their values: notes and names may be personal.
    audit::append(conn, actor, &deed("terminals.update", &record, json!({"sn": record.sn, "fields": changed})), now)?;
    get(conn, scope, id)
}

/// A step in a terminal's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LifecycleStep {
    /// What to do.
    pub action: Action,
    /// The version that the caller read.
    pub version: i64,
}

/// Takes a step in a terminal's life. Entering a state that ends sessions raises the session epoch.
///
/// # Errors
/// [`Error::Refused`] when the state does not allow it, [`Error::Changed`] when the version is another one.
pub fn act(
    conn: &mut Conn,
    actor: &Actor,
    scope: &Scope,
    id: i64,
    asked: LifecycleStep,
    now: Now,
) -> Result<Terminal, Error> {
    let mut record = store::find(conn, scope, id)?.ok_or(Error::NotFound)?;
    if record.version != asked.version {
        return Err(Error::Changed);
    }
    match asked.action {
        Action::Allocate | Action::Recall => {
            return Err(Error::Conflict("name the organization: POST /api/v1/terminals/transfer".to_owned()));
        }
        Action::Bind if record.merchant_no.is_none() => {
            return Err(Error::Conflict("it has no merchant number; set merchant_no first".to_owned()));
        }
        _ => {}
    }
    let detail = take(conn, actor, &mut record, asked.action, now)?;
    audit::append(conn, actor, &deed("terminals.lifecycle", &record, detail), now)?;
    get(conn, scope, id)
}

/// One step: decide and write; returns what the audit log shall say of it.
fn take(
    conn: &mut Conn,
    actor: &Actor,
    record: &mut Record,
    action: Action,
    now: Now,
) -> Result<serde_json::Value, Error> {
    let from = record.lifecycle();
    let to = lifecycle::step(from, action)?;
    record.lifecycle = to.as_str().to_owned();
    if to.ends_sessions() {
        record.session_epoch += 1;
    }
    if to == Lifecycle::Unbound {
        record.merchant_no = None;
        record.merchant_name = None;
        record.store_name = None;
        record.terminal_no = None;
    }
    if !store::save(conn, record, record.version)? {
        return Err(Error::Changed);
    }
    if to == Lifecycle::Unbound {
        bindings::note(conn, &[(record, Why { actor: actor.name(), reason: "unbound" })], now)?;
    }
    Ok(json!({"sn": record.sn, "action": action, "from": from, "to": to, "org_path": record.org_path}))
}

/// One terminal that a bulk request left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct NotDone {
    /// The terminal.
    pub id: i64,
    /// Why, for a person.
    pub reason: String,
}

/// Refuses lists that are empty or longer than [`BULK_MAX`].
pub(crate) fn check_bulk(ids: &[i64]) -> Result<(), FieldError> {
    if ids.is_empty() || ids.len() > BULK_MAX {
        return Err(FieldError::new("ids", format!("must name 1 to {BULK_MAX} terminals")));
    }
    Ok(())
}
