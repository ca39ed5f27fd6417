//! TUF documents: built as JSON values, signed over canonical JSON.
//!
//! Ed25519 is deterministic and maps are written in sorted order, so the same values and keys give the same bytes on
//! every replica. What a document says is the caller's business; this file knows its form.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Map, Value, json};
use tillward_protocol::crypto::{SigningKey, public_hex, sign_hex};
use tillward_protocol::ids::{Sha256Hex, TargetName};
use tillward_protocol::trust::{MODE_FIELD, MODE_QUICKSTART, Match};

use super::keys::{Custody, KeyRole, RoleKeys};

/// The version of the specification that every document names.
pub const SPEC_VERSION: &str = "1.0.34";

/// Why a document could not be built.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// The value has no canonical form.
    #[error("the document has no canonical form")]
    Canonical(#[from] sigstore_tuf::Error),
    /// The value is not JSON.
    #[error("the document cannot be written as JSON")]
    Json(#[from] serde_json::Error),
    /// A time beyond the calendar.
    #[error("unix time {0} s is no date that a document can carry")]
    Time(i64),
    /// A stored document that is not readable.
    #[error("the stored document {0} is damaged; restore it from a backup")]
    Damaged(String),
    /// A role without keys at hand.
    #[error("there is no key to sign {0} with")]
    NoKey(String),
}

/// `expires` for a Unix time, without fractions of a second: stock clients refuse them.
///
/// # Errors
/// A time outside the years −9999 to 9999.
pub fn expires(unix_s: i64) -> Result<String, DocumentError> {
    let at = jiff::Timestamp::from_second(unix_s).map_err(|_| DocumentError::Time(unix_s))?;
    Ok(at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// The public half of a key as documents list it.
pub fn public_key(key: &SigningKey) -> Value {
    json!({"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": public_hex(key)}})
}

/// Id of a key as securesystemslib computes it: SHA-256 of the canonical key object.
///
/// # Errors
/// Never for Ed25519; the canonical encoder's type says it may.
pub fn keyid(key: &SigningKey) -> Result<String, DocumentError> {
    let canonical = sigstore_tuf::canonical_json::to_canonical_bytes(&public_key(key))?;
    Ok(Sha256Hex::of(&canonical).to_string())
}

/// Signs `signed` with every key given, in order, and returns the whole file.
///
/// # Errors
/// A value that has no canonical form (floats), or no key.
pub fn sign<'a>(signed: &Value, keys: impl IntoIterator<Item = &'a SigningKey>) -> Result<Vec<u8>, DocumentError> {
    let canonical = sigstore_tuf::canonical_json::to_canonical_bytes(signed)?;
    let mut signatures = Vec::new();
    for key in keys {
        signatures.push(json!({"keyid": keyid(key)?, "sig": sign_hex(key, &canonical)}));
    }
    if signatures.is_empty() {
        return Err(DocumentError::NoKey(signed["_type"].as_str().unwrap_or_default().to_owned()));
    }
    Ok(serde_json::to_vec(&json!({"signatures": signatures, "signed": signed}))?)
}

fn header(kind: &str, version: u64, expires_s: i64) -> Result<Map<String, Value>, DocumentError> {
    let mut map = Map::new();
    map.insert("_type".to_owned(), json!(kind));
    map.insert("spec_version".to_owned(), json!(SPEC_VERSION));
    map.insert("version".to_owned(), json!(version));
    map.insert("expires".to_owned(), json!(expires(expires_s)?));
    Ok(map)
}

/// Keys of the four top-level roles of one repository.
#[derive(Clone, Copy)]
pub struct TopRoles<'a> {
    /// Keys of `root`.
    pub root: &'a RoleKeys,
    /// Keys of `targets`.
    pub targets: &'a RoleKeys,
    /// Keys of `snapshot`.
    pub snapshot: &'a RoleKeys,
    /// Keys of `timestamp`.
    pub timestamp: &'a RoleKeys,
}

fn key_block(role: &RoleKeys, keys: &mut Map<String, Value>) -> Result<Vec<String>, DocumentError> {
    let mut ids = Vec::new();
    for key in &role.keys {
        let id = keyid(key)?;
        keys.insert(id.clone(), public_key(key));
        ids.push(id);
    }
    Ok(ids)
}

/// A root document. Roots whose keys lie on the server carry the marker that real terminals refuse.
///
/// # Errors
/// A date out of range.
pub fn root(version: u64, expires_s: i64, roles: TopRoles<'_>, custody: Custody) -> Result<Value, DocumentError> {
    let mut map = header("root", version, expires_s)?;
    let mut keys = Map::new();
    let mut blocks = Map::new();
    let named = [
        ("root", roles.root),
        ("targets", roles.targets),
        ("snapshot", roles.snapshot),
        ("timestamp", roles.timestamp),
    ];
    for (name, role) in named {
        let ids = key_block(role, &mut keys)?;
        blocks.insert(name.to_owned(), json!({"keyids": ids, "threshold": role.threshold}));
    }
    map.insert("consistent_snapshot".to_owned(), json!(true));
    map.insert("keys".to_owned(), Value::Object(keys));
    map.insert("roles".to_owned(), Value::Object(blocks));
    match custody {
        Custody::Quickstart => map.insert(MODE_FIELD.to_owned(), json!(MODE_QUICKSTART)),
    };
    Ok(Value::Object(map))
}

/// A targets document without delegations.
///
/// # Errors
/// A date out of range.
pub fn targets(version: u64, expires_s: i64, entries: &BTreeMap<String, Value>) -> Result<Value, DocumentError> {
    let mut map = header("targets", version, expires_s)?;
    map.insert("targets".to_owned(), json!(entries));
    Ok(Value::Object(map))
}

/// The `delegations` block that gives each of `roles` the paths `<prefix>.*`, terminating, all with the same keys.
///
/// # Errors
/// Never for Ed25519 keys.
pub fn delegations<'a>(
    roles: impl IntoIterator<Item = (&'a str, &'a str)>,
    keys: &RoleKeys,
) -> Result<Value, DocumentError> {
    let mut block = Map::new();
    let ids = key_block(keys, &mut block)?;
    let roles: Vec<Value> = roles
        .into_iter()
        .map(|(name, prefix)| {
            json!({"name": name, "keyids": ids, "threshold": keys.threshold, "terminating": true,
                   "paths": [format!("{prefix}.*")]})
        })
        .collect();
    Ok(json!({"keys": block, "roles": roles}))
}

/// One target file: its length, its one digest (a second would need a second copy of the file) and its conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetEntry {
    /// Flat name.
    pub name: TargetName,
    /// Exact length, bytes.
    pub length: u64,
    /// Digest.
    pub sha256: Sha256Hex,
    /// Signed conditions.
    pub matches: Match,
}

impl TargetEntry {
    /// The entry as the image repository lists it.
    pub fn image_json(&self) -> Value {
        self.json(json!({"match": self.matches}))
    }

    /// The entry as a director document orders it.
    pub fn director_json(&self, assignment: i64) -> Value {
        self.json(json!({"match": self.matches, "assignment": assignment, "action": "install"}))
    }

    fn json(&self, custom: Value) -> Value {
        json!({"length": self.length, "hashes": {"sha256": self.sha256}, "custom": custom})
    }
}

/// Pin of one metadata file: version, length and digest.
pub fn pin(version: u64, bytes: &[u8]) -> Value {
    json!({"version": version, "length": bytes.len(), "hashes": {"sha256": Sha256Hex::of(bytes)}})
}

/// A snapshot document over pins by file name (`targets.json`, `fw-….json`).
///
/// # Errors
/// A date out of range.
pub fn snapshot(version: u64, expires_s: i64, pins: &BTreeMap<String, Value>) -> Result<Value, DocumentError> {
    let mut map = header("snapshot", version, expires_s)?;
    map.insert("meta".to_owned(), json!(pins));
    Ok(Value::Object(map))
}

/// A timestamp document over the snapshot's pin.
///
/// # Errors
/// A date out of range.
pub fn timestamp(version: u64, expires_s: i64, snapshot: Value) -> Result<Value, DocumentError> {
    let mut map = header("timestamp", version, expires_s)?;
    map.insert("meta".to_owned(), json!({"snapshot.json": snapshot}));
    Ok(Value::Object(map))
}

/// One signed file, parsed.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// `signed.version`.
    pub version: u64,
    /// `signed.expires`, Unix s.
    pub expires_s: i64,
    /// The signed part.
    pub signed: Value,
    /// The whole file.
    pub bytes: Bytes,
}

impl Document {
    /// Reads a file of our own; nothing is verified here.
    ///
    /// # Errors
    /// [`DocumentError::Damaged`] with `name`.
    pub fn parse(name: &str, bytes: Bytes) -> Result<Self, DocumentError> {
        let damaged = || DocumentError::Damaged(name.to_owned());
        let mut file: Value = serde_json::from_slice(&bytes).map_err(|_| damaged())?;
        let signed = file["signed"].take();
        let version = signed["version"].as_u64().ok_or_else(damaged)?;
        let expires = signed["expires"].as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
        Ok(Self { version, expires_s: expires.ok_or_else(damaged)?.as_second(), signed, bytes })
    }

    /// Whether less than half of the role's life is left.
    pub fn is_worn(&self, role: KeyRole, now_s: i64) -> bool {
        self.expires_s.saturating_sub(now_s) < role.life_s() / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    #[test]
    fn a_key_id_is_the_one_securesystemslib_computes() {
        // SSlibKey("…", "ed25519", "ed25519", {"public": …}) of python securesystemslib hashes exactly this text.
        let public = public_hex(&key(1));
        let text = format!(r#"{{"keytype":"ed25519","keyval":{{"public":"{public}"}},"scheme":"ed25519"}}"#);
        assert_eq!(keyid(&key(1)).unwrap(), Sha256Hex::of(text.as_bytes()).to_string());
    }

    #[test]
    fn expiry_dates_carry_no_fraction() {
        assert_eq!(expires(0).unwrap(), "1970-01-01T00:00:00Z");
        assert_eq!(expires(1_795_392_000).unwrap(), "2026-11-23T00:00:00Z");
        assert!(matches!(expires(i64::MAX), Err(DocumentError::Time(_))));
    }

    #[test]
    fn signing_twice_gives_the_same_bytes_and_without_a_key_nothing() {
        let signed = timestamp(3, 1_795_392_000, pin(2, b"{}")).unwrap();
        assert_eq!(sign(&signed, [&key(1)]).unwrap(), sign(&signed, [&key(1)]).unwrap());
        assert!(matches!(sign(&signed, []), Err(DocumentError::NoKey(role)) if role == "timestamp"));
        assert!(matches!(sign(&json!({"_type": "root", "x": 1.5}), [&key(1)]), Err(DocumentError::Canonical(_))));
    }
}
