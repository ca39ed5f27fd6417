//! Models of terminals: what a firmware is made for. They are the same for all organizations.

use serde::{Deserialize, Serialize};
use serde_json::json;
use tillward_protocol::FieldError;
use tillward_protocol::ids::ModelCode;

use super::{Error, fields, store};
use crate::audit::{self, Actor, Deed};
use crate::clock::Now;
use crate::db::{self, Conn};
use crate::operators::Scope;

/// What terminals of a model can do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Capabilities {
    /// Two slots: an update leaves the old firmware whole.
    pub ab_slots: bool,
    /// Has a printer.
    pub printer: bool,
    /// Has a battery.
    pub battery: bool,
    /// Wi-Fi.
    pub wifi: bool,
    /// Mobile network.
    pub cell: bool,
    /// Satellite positioning.
    pub gps: bool,
    /// Camera.
    pub camera: bool,
    /// Signature pad.
    pub esign: bool,
    /// `rtos`, `linux` or `android`.
    pub os: String,
    /// Flash, KiB; 0 = not known.
    pub flash_kib: u32,
    /// Largest piece of a download, bytes; 0 = no limit.
    pub chunk_bytes_max: u32,
    /// Least battery for an update, percent.
    pub battery_percent_min: u32,
}

/// A model as it is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewModel {
    /// `vendor-model`: lower-case letters, digits and `-`.
    pub code: String,
    /// What people call it.
    pub name: String,
    /// What it can do.
    #[serde(default)]
    pub capabilities: Capabilities,
}

/// A model of terminal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Model {
    /// `vendor-model`.
    pub code: String,
    /// What people call it.
    pub name: String,
    /// What it can do.
    pub capabilities: Capabilities,
    /// Since when it is known, Unix ms.
    pub created_at_ms: i64,
}

/// Makes a model known.
///
/// # Errors
/// [`Error::Invalid`] for a refused field, [`Error::Conflict`] when the code is known already.
pub fn create_model(conn: &mut Conn, actor: &Actor, scope: &Scope, new: NewModel, now: Now) -> Result<Model, Error> {
    let code: ModelCode = new.code.parse().map_err(|error: FieldError| FieldError::new("code", error.problem))?;
    let is_vendor_model = code
        .as_str()
        .split_once('-')
        .is_some_and(|(vendor, model)| !vendor.is_empty() && !model.is_empty() && !model.ends_with('-'));
    if !is_vendor_model {
        return Err(FieldError::new("code", "must be `vendor-model`, for example `pax-a920`").into());
    }
    let name = fields::name("name", Some(new.name))?.ok_or_else(|| FieldError::new("name", "must not be empty"))?;
    if !["", "rtos", "linux", "android"].contains(&new.capabilities.os.as_str()) {
        return Err(FieldError::new("capabilities.os", "must be rtos, linux or android").into());
    }
    if new.capabilities.battery_percent_min > 100 {
        return Err(FieldError::new("capabilities.battery_percent_min", "must be at most 100").into());
    }
    let known = || Error::Conflict("a model with this code is known already".to_owned());
    if store::has_model(conn, code.as_str())? {
        return Err(known());
    }
    if store::count_models(conn)? >= store::MODELS_MAX {
        return Err(Error::Conflict(format!("there are {} models already, the most there can be", store::MODELS_MAX)));
    }
    let model = Model { code: code.into(), name, capabilities: new.capabilities, created_at_ms: now.0 };
    // Somebody else may have made it just now.
    store::insert_model(conn, &model).map_err(|e| if e.is_unique_violation() { known() } else { e.into() })?;
    let deed = Deed {
        action: "models.create",
        object_kind: "model",
        object_id: model.code.clone(),
        // Models belong to everybody; the entry belongs to whom did it.
        org_path: scope.from(),
        detail: json!({"name": model.name}),
    };
    audit::append(conn, actor, &deed, now)?;
    Ok(model)
}

/// All models, by code.
///
/// # Errors
/// [`db::Error`].
pub fn list_models(conn: &mut Conn) -> Result<Vec<Model>, db::Error> {
    store::models(conn)
}
