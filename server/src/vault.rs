//! Secrets at rest: what the server must be able to read again (addresses of alert channels) is sealed before it is stored.
//!
//! AES-256-GCM under a key that is not in the database: `keys/secrets.key` in the data folder, or the file that
//! `secrets_key_file` names. A database that gets lost gives nothing away. Servers over one database need the same file;
//! the database knows which key it is used with (not the key), so that a second key cannot creep in. Without the key the
//! server works; only what is sealed cannot be read, and nothing new can be sealed.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use zeroize::Zeroizing;

use crate::db::{self, Db, settings};

/// Length of the key, bytes.
const KEY_BYTES: usize = 32;
/// What a sealed text begins with; the key's id follows.
const LEAD: &str = "v1.";
/// Name of the setting that holds the id of the key in use.
const SETTING: &str = "secrets_key_id";

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file of the key.
    #[error("key file {path}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The file holds something else.
    #[error("{0} does not hold a key: 64 hexadecimal digits")]
    NotAKey(PathBuf),
    /// Others can read the file.
    #[error("{path} has mode {mode:o}; it must be readable by its owner alone (chmod 600)")]
    TooOpen {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The database is used with another key.
    #[error("{path} is not the key that this database is used with; copy that key's file here")]
    Foreign {
        /// Which file.
        path: PathBuf,
    },
    /// The database failed.
    #[error("the id of the key could not be read or written")]
    Db(#[from] db::Error),
}

/// The server has no key, or something was sealed with another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this server does not have the key of the stored secrets; restore keys/secrets.key")]
pub struct Locked;

/// Seals and opens; cheap to clone.
#[derive(Clone)]
pub struct Vault {
    key: Option<Arc<Key>>,
}

struct Key {
    id: String,
    cipher: LessSafeKey,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vault").field("is_locked", &self.key.is_none()).finish_non_exhaustive()
    }
}

impl Vault {
    /// A vault with this key.
    pub fn new(secret: &[u8; KEY_BYTES]) -> Self {
        // A key of this length is always taken.
        let cipher = UnboundKey::new(&AES_256_GCM, secret).map(LessSafeKey::new).ok();
        Self { key: cipher.map(|cipher| Arc::new(Key { id: id_of(secret), cipher })) }
    }

    /// A vault without a key: opens and seals nothing.
    pub fn locked() -> Self {
        Self { key: None }
    }

    /// Whether it opens and seals nothing.
    pub fn is_locked(&self) -> bool {
        self.key.is_none()
    }

    /// Opens the key of a database, making it when the database has never had one. Where the key is missing, because it was
    /// lost or because another server made it, the vault stays locked.
    ///
    /// # Errors
    /// A file that is damaged, open to others or not this database's key.
    pub async fn open(db: &Db, file: &Path) -> Result<Self, Error> {
        let known = db.read(|conn| settings::get(conn, SETTING)).await?;
        let is_new = !file.exists();
        if is_new && known.is_some() {
            tracing::error!(file = %file.display(), "the key of the stored secrets is missing; alerts cannot be sent");
            return Ok(Self::locked());
        }
        if is_new {
            make(file)?;
        }
        let secret = read(file)?;
        let id = id_of(secret.as_slice());
        let stands = match known {
            Some(known) => known,
            None => claim(db, id.clone()).await?,
        };
        if stands != id && is_new {
            // Another server over the same database was faster: its key is the one that is needed here.
            fs::remove_file(file).map_err(at(file))?;
            tracing::error!(file = %file.display(), "another server has made the key; copy its file here");
            return Ok(Self::locked());
        }
        if stands != id {
            return Err(Error::Foreign { path: file.to_owned() });
        }
        Ok(Self::new(&secret))
    }

    /// Seals `text`; `place` says where it will be stored, and it opens only there.
    ///
    /// # Errors
    /// [`Locked`].
    pub fn seal(&self, place: &str, text: &str) -> Result<String, Locked> {
        let key = self.key.as_ref().ok_or(Locked)?;
        let nonce: [u8; NONCE_LEN] = rand::random();
        let mut bytes = text.as_bytes().to_vec();
        let sealed =
            key.cipher.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(place), &mut bytes);
        sealed.map_err(|_| Locked)?;
        let body = STANDARD_NO_PAD.encode([&nonce[..], &bytes[..]].concat());
        Ok(format!("{LEAD}{}.{body}", key.id))
    }

    /// Opens what was sealed for `place`.
    ///
    /// # Errors
    /// [`Locked`], also for what was damaged or moved.
    pub fn unseal(&self, place: &str, sealed: &str) -> Result<Zeroizing<String>, Locked> {
        let key = self.key.as_ref().ok_or(Locked)?;
        let (id, body) = sealed.strip_prefix(LEAD).and_then(|rest| rest.split_once('.')).ok_or(Locked)?;
        if id != key.id {
            return Err(Locked);
        }
        let mut bytes = Zeroizing::new(STANDARD_NO_PAD.decode(body).map_err(|_| Locked)?);
        let (nonce, text) = bytes.split_at_mut_checked(NONCE_LEN).ok_or(Locked)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Locked)?;
        let text = key.cipher.open_in_place(nonce, Aad::from(place), text).map_err(|_| Locked)?;
        std::str::from_utf8(text).map(|text| Zeroizing::new(text.to_owned())).map_err(|_| Locked)
    }
}

/// Whether a stored text is sealed; older programs stored it plainly.
pub fn is_sealed(text: &str) -> bool {
    text.starts_with(LEAD)
}

/// Lets a database take a new key, because the old one is lost; returns whether it had one. What was sealed stays unreadable.
///
/// # Errors
/// [`db::Error`].
pub async fn forget(db: &Db) -> Result<bool, db::Error> {
    db.write(|conn| settings::remove(conn, SETTING)).await
}

/// Notes the key as this database's; another server that was faster wins.
async fn claim(db: &Db, id: String) -> Result<String, db::Error> {
    let wanted = id.clone();
    let first = db
        .write(move |conn| match settings::get(conn, SETTING)? {
            Some(known) => Ok(known),
            None => settings::set(conn, SETTING, &wanted).map(|()| wanted),
        })
        .await;
    match first {
        Err(error) if error.is_unique_violation() => {
            Ok(db.read(|conn| settings::get(conn, SETTING)).await?.unwrap_or(id))
        }
        other => other,
    }
}

/// Tells keys apart and gives nothing away.
fn id_of(secret: &[u8]) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), b"tillward secrets key id");
    hex::encode(tag.as_ref().get(..4).unwrap_or_default())
}

fn at(path: &Path) -> impl Fn(std::io::Error) -> Error + '_ {
    |source| Error::Io { path: path.to_owned(), source }
}

fn make(file: &Path) -> Result<(), Error> {
    if let Some(folder) = file.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(at(folder))?;
    }
    let secret = Zeroizing::new(rand::random::<[u8; KEY_BYTES]>());
    let text = Zeroizing::new(format!("{}\n", hex::encode(secret.as_slice())));
    let mut made = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).map_err(at(file))?;
    made.write_all(text.as_bytes()).and_then(|()| made.sync_all()).map_err(at(file))
}

fn read(file: &Path) -> Result<Zeroizing<[u8; KEY_BYTES]>, Error> {
    let mode = fs::metadata(file).map_err(at(file))?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(Error::TooOpen { path: file.to_owned(), mode });
    }
    let text = Zeroizing::new(fs::read_to_string(file).map_err(at(file))?);
    let mut secret = Zeroizing::new([0; KEY_BYTES]);
    hex::decode_to_slice(text.trim(), secret.as_mut_slice()).map_err(|_| Error::NotAKey(file.to_owned()))?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::Location;

    fn vault() -> Vault {
        Vault::new(&[7; KEY_BYTES])
    }

    #[test]
    fn what_is_sealed_opens_only_in_its_place_under_its_key_and_whole() {
        let sealed = vault().seal("channel:1", "https://hooks.example/秘密").unwrap();
        assert!(is_sealed(&sealed) && !sealed.contains("hooks"));
        assert_eq!(*vault().unseal("channel:1", &sealed).unwrap(), "https://hooks.example/秘密");
        assert_ne!(vault().seal("channel:1", "https://hooks.example/秘密").unwrap(), sealed, "a nonce is used once");
        assert_eq!(vault().unseal("channel:2", &sealed), Err(Locked));
        assert_eq!(Vault::new(&[8; KEY_BYTES]).unseal("channel:1", &sealed), Err(Locked));
        assert_eq!(Vault::locked().unseal("channel:1", &sealed), Err(Locked));
        assert_eq!(Vault::locked().seal("channel:1", "x"), Err(Locked));
        let damaged: String = sealed.chars().rev().enumerate().map(|(n, c)| if n == 3 { 'A' } else { c }).collect();
        let damaged: String = damaged.chars().rev().collect();
        for bad in ["", "v1.", "v1.x", "v1.00000000.AAAA", "{\"kind\":\"webhook\"}", damaged.as_str()] {
            assert_eq!(vault().unseal("channel:1", bad), Err(Locked), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_database_keeps_to_its_first_key_and_works_without_it() {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::open(&Location::Sqlite(folder.path().join("db.sqlite3"))).unwrap();
        let file = folder.path().join("keys/secrets.key");
        let sealed = Vault::open(&db, &file).await.unwrap().seal("a", "secret").unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(*Vault::open(&db, &file).await.unwrap().unseal("a", &sealed).unwrap(), "secret");

        let other = folder.path().join("other.key");
        make(&other).unwrap();
        assert!(matches!(Vault::open(&db, &other).await, Err(Error::Foreign { .. })));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Vault::open(&db, &file).await, Err(Error::TooOpen { mode: 0o640, .. })));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&file, "not a key").unwrap();
        assert!(matches!(Vault::open(&db, &file).await, Err(Error::NotAKey(_))));

        fs::remove_file(&file).unwrap();
        let locked = Vault::open(&db, &file).await.unwrap();
        assert_eq!(locked.unseal("a", &sealed), Err(Locked));
        assert!(!file.exists(), "a lost key is not replaced behind people's backs");
        assert!(forget(&db).await.unwrap());
        let anew = Vault::open(&db, &file).await.unwrap();
        assert_eq!(anew.unseal("a", &sealed), Err(Locked));
        assert!(anew.seal("a", "secret").is_ok());
    }
}
