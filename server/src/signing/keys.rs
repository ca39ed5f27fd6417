//! Custody of signing keys, and the rules a role's keys must meet.
//!
//! Quick-start mode keeps one key for each role on the local disk, threshold 1: good for a demonstration and for nothing
//! else, so every root made this way is marked and production mode refuses both the files and the roots. Keys that
//! authorise code in production are made and used away from the server and are not handled here.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey};
use tillward_protocol::crypto::SigningKey;
use zeroize::Zeroizing;

use super::document;

/// What a key may sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyRole {
    /// Names the keys of the image repository.
    ImageRoot,
    /// Delegates models to firmware roles.
    ImageTargets,
    /// Releases firmware: every `fw-<model>` role.
    ImageFirmware,
    /// Pins one version of every role.
    ImageSnapshot,
    /// Says that the snapshot is the newest.
    ImageTimestamp,
    /// Names the keys of the director.
    DirectorRoot,
    /// Orders of single terminals.
    DirectorTargets,
    /// Repeats the director's version for stock clients.
    DirectorSnapshot,
    /// Repeats the director's version for stock clients.
    DirectorTimestamp,
}

impl KeyRole {
    /// Every role.
    pub const ALL: [Self; 9] = [
        Self::ImageRoot,
        Self::ImageTargets,
        Self::ImageFirmware,
        Self::ImageSnapshot,
        Self::ImageTimestamp,
        Self::DirectorRoot,
        Self::DirectorTargets,
        Self::DirectorSnapshot,
        Self::DirectorTimestamp,
    ];

    /// Name in files, reports and errors.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ImageRoot => "image.root",
            Self::ImageTargets => "image.targets",
            Self::ImageFirmware => "image.fw",
            Self::ImageSnapshot => "image.snapshot",
            Self::ImageTimestamp => "image.timestamp",
            Self::DirectorRoot => "director.root",
            Self::DirectorTargets => "director.targets",
            Self::DirectorSnapshot => "director.snapshot",
            Self::DirectorTimestamp => "director.timestamp",
        }
    }

    /// How long a document of this role is good for, s. Offline roles live long, online roles a day or a week.
    pub fn life_s(self) -> i64 {
        const DAY_S: i64 = 86_400;
        match self {
            Self::ImageRoot | Self::DirectorRoot => 365 * DAY_S,
            Self::ImageTargets => 180 * DAY_S,
            Self::ImageFirmware => 90 * DAY_S,
            Self::ImageSnapshot => 7 * DAY_S,
            Self::ImageTimestamp | Self::DirectorTargets | Self::DirectorSnapshot | Self::DirectorTimestamp => DAY_S,
        }
    }
}

/// The keys of one role that are at hand, and how many signatures it takes.
#[derive(Clone)]
pub struct RoleKeys {
    /// Private keys, each distinct.
    pub keys: Vec<SigningKey>,
    /// Signatures needed.
    pub threshold: usize,
}

/// How the keys are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Custody {
    /// On the local disk; roots carry a marker.
    Quickstart,
}

/// A key for every role.
#[derive(Clone)]
pub struct KeyRing {
    roles: BTreeMap<KeyRole, RoleKeys>,
}

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyRing").field("roles", &self.roles.len()).finish_non_exhaustive()
    }
}

/// Why keys could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// A file of the key folder.
    #[error("key file {path}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A file that is no Ed25519 key.
    #[error("{0} is not an Ed25519 private key in PKCS#8 PEM form")]
    NotAKey(PathBuf),
    /// Others can read the file.
    #[error("{path} has mode {mode:o}; it must be readable by its owner alone (chmod 600)")]
    TooOpen {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Some keys are there and some are not: making the missing ones would hide a loss.
    #[error("{dir} holds some keys but not {missing}; restore the file from its backup")]
    Incomplete {
        /// The key folder.
        dir: PathBuf,
        /// First role without a file.
        missing: &'static str,
    },
}

impl KeyRing {
    /// A ring of the given roles. A role that is missing makes [`KeyRing::role`] answer an empty set, which signs nothing.
    pub fn new(roles: BTreeMap<KeyRole, RoleKeys>) -> Self {
        Self { roles }
    }

    /// A ring without keys: signs nothing.
    pub fn empty() -> Self {
        Self { roles: BTreeMap::new() }
    }

    /// Whether there is no key at all.
    pub fn is_empty(&self) -> bool {
        self.roles.is_empty()
    }

    /// Opens the quick-start keys under `data_dir`, making all of them when there is none yet.
    ///
    /// # Errors
    /// Unreadable, too open, damaged or partly missing files.
    pub fn quickstart(data_dir: &Path) -> Result<Self, KeysError> {
        let dir = quickstart_dir(data_dir);
        let present: Vec<bool> = KeyRole::ALL.iter().map(|role| key_path(&dir, *role).exists()).collect();
        if !present.contains(&true) {
            make_folder(&dir)?;
            for role in KeyRole::ALL {
                write_new_key(&key_path(&dir, role))?;
            }
        } else if let Some(at) = present.iter().position(|there| !there) {
            let missing = KeyRole::ALL.get(at).map_or("", |role| role.as_str());
            return Err(KeysError::Incomplete { dir, missing });
        }
        let mut roles = BTreeMap::new();
        for role in KeyRole::ALL {
            roles.insert(role, RoleKeys { keys: vec![read_key(&key_path(&dir, role))?], threshold: 1 });
        }
        Ok(Self { roles })
    }

    /// Keys of `role`.
    pub fn role(&self, role: KeyRole) -> &RoleKeys {
        static NONE: RoleKeys = RoleKeys { keys: Vec::new(), threshold: 1 };
        self.roles.get(&role).unwrap_or(&NONE)
    }

    /// How these keys are kept.
    pub fn custody(&self) -> Custody {
        Custody::Quickstart
    }
}

/// Folder of the quick-start keys below a data folder.
pub fn quickstart_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("keys").join("quickstart")
}

/// Whether any quick-start key lies under `data_dir`.
pub fn has_quickstart_keys(data_dir: &Path) -> bool {
    let dir = quickstart_dir(data_dir);
    KeyRole::ALL.iter().any(|role| key_path(&dir, *role).exists())
}

fn key_path(dir: &Path, role: KeyRole) -> PathBuf {
    dir.join(format!("{}.pem", role.as_str()))
}

fn at(path: &Path) -> impl Fn(io::Error) -> KeysError + '_ {
    |source| KeysError::Io { path: path.to_owned(), source }
}

fn make_folder(dir: &Path) -> Result<(), KeysError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(at(dir))?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(at(dir))
}

fn write_new_key(path: &Path) -> Result<(), KeysError> {
    let seed = Zeroizing::new(rand::random::<[u8; 32]>());
    let pem =
        SigningKey::from_bytes(&seed).to_pkcs8_pem(LineEnding::LF).map_err(|_| KeysError::NotAKey(path.to_owned()))?;
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(at(path))?;
    file.write_all(pem.as_bytes()).and_then(|()| file.sync_all()).map_err(at(path))
}

fn read_key(path: &Path) -> Result<SigningKey, KeysError> {
    let mode = fs::metadata(path).map_err(at(path))?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeysError::TooOpen { path: path.to_owned(), mode });
    }
    let pem = Zeroizing::new(fs::read_to_string(path).map_err(at(path))?);
    SigningKey::from_pkcs8_pem(&pem).map_err(|_| KeysError::NotAKey(path.to_owned()))
}

/// One line of the key inventory.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct KeyReport {
    /// Role name.
    pub role: &'static str,
    /// Key ids as they stand in the documents.
    pub keyids: Vec<String>,
    /// Signatures needed.
    pub threshold: usize,
    /// Where the private half is.
    pub custody: &'static str,
    /// How long a document of the role lives, s.
    pub life_s: i64,
}

/// Inventory of a ring: no private part, fit for printing.
///
/// # Errors
/// A key that has no canonical form (does not happen for Ed25519).
pub fn report(ring: &KeyRing) -> Result<Vec<KeyReport>, document::DocumentError> {
    let custody = match ring.custody() {
        Custody::Quickstart => "quickstart: this server's disk",
    };
    let mut lines = Vec::new();
    for role in KeyRole::ALL {
        let held = ring.role(role);
        let keyids = held.keys.iter().map(document::keyid).collect::<Result<_, _>>()?;
        lines.push(KeyReport {
            role: role.as_str(),
            keyids,
            threshold: held.threshold,
            custody,
            life_s: role.life_s(),
        });
    }
    Ok(lines)
}

#[cfg(test)]
pub(crate) mod tests_support {
    use super::*;

    /// A ring of fixed keys, one for each role.
    pub(crate) fn ring() -> KeyRing {
        let one = |role: KeyRole| {
            let seed = tillward_protocol::crypto::sha256(role.as_str().as_bytes());
            RoleKeys { keys: vec![SigningKey::from_bytes(&seed)], threshold: 1 }
        };
        KeyRing::new(KeyRole::ALL.into_iter().map(|role| (role, one(role))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quickstart_keys_are_made_once_and_kept_private() {
        let data = tempfile::tempdir().unwrap();
        assert!(!has_quickstart_keys(data.path()));
        let first = report(&KeyRing::quickstart(data.path()).unwrap()).unwrap();
        let again = report(&KeyRing::quickstart(data.path()).unwrap()).unwrap();
        assert_eq!(first, again);
        assert!(has_quickstart_keys(data.path()));
        let dir = quickstart_dir(data.path());
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
        let mut keyids = Vec::new();
        for role in KeyRole::ALL {
            assert_eq!(fs::metadata(key_path(&dir, role)).unwrap().permissions().mode() & 0o777, 0o600);
        }
        for line in first {
            keyids.extend(line.keyids);
        }
        keyids.sort();
        keyids.dedup();
        assert_eq!(keyids.len(), KeyRole::ALL.len(), "no key serves two roles");
    }

    #[test]
    fn a_lost_or_readable_or_damaged_key_file_is_an_error_and_not_replaced() {
        let data = tempfile::tempdir().unwrap();
        KeyRing::quickstart(data.path()).unwrap();
        let path = key_path(&quickstart_dir(data.path()), KeyRole::ImageFirmware);
        let good = fs::read(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(KeyRing::quickstart(data.path()), Err(KeysError::TooOpen { .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, b"not a key").unwrap();
        assert!(matches!(KeyRing::quickstart(data.path()), Err(KeysError::NotAKey(_))));
        fs::remove_file(&path).unwrap();
        assert!(matches!(KeyRing::quickstart(data.path()), Err(KeysError::Incomplete { missing: "image.fw", .. })));
        assert!(String::from_utf8(good).unwrap().starts_with("-----BEGIN PRIVATE KEY-----"));
    }
}
