//! Large bytes outside the database: firmware payloads by digest, signed metadata by published path.
//!
//! A thin coat over an object store: a local folder (written with fsync) or an S3 bucket. What is written is created and
//! never changed; the one exception is [`Blobs::replace`], for the single mutable file of a repository. Nothing is held in
//! memory whole but small documents: payloads stream in and go out in blocks.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, UpdateVersion, WriteMultipart};
use sha2::Digest;
use tillward_protocol::ids::Sha256Hex;

/// Size of a block when a payload goes out, bytes: blocks of 256 KiB to 1 MiB cost the least processor time a byte.
pub const BLOCK_BYTES: u64 = 512 * 1024;
/// Largest document that is read whole, bytes (the TUF clients' own cap for targets metadata).
pub const DOCUMENT_BYTES_MAX: u64 = 5_000_000;
/// Size of an uploaded part, bytes: S3 takes no smaller ones.
const PART_BYTES: usize = 5 * 1024 * 1024;
/// Parts under way at a time, so that an upload holds at most three parts in memory.
const PARTS_AT_A_TIME: usize = 2;
/// Where uploads lie until their digest is known.
pub(crate) const UPLOADS: &str = "uploads";

/// How to reach an S3 bucket, beside its URL.
#[derive(Clone, Default)]
pub struct S3Options {
    /// Another endpoint than Amazon's, for example `https://minio.internal:9000`.
    pub endpoint: Option<String>,
    /// Region; `us-east-1` when absent.
    pub region: Option<String>,
    /// Access key id.
    pub access_key_id: Option<String>,
    /// Secret of the access key. Never shown.
    pub secret_access_key: Option<String>,
}

impl fmt::Debug for S3Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Options")
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("access_key_id", &self.access_key_id)
            .finish_non_exhaustive()
    }
}

/// Why a blob could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The location is neither a folder nor an `s3://` URL.
    #[error("{0} is not a storage location; use a folder or s3://bucket/prefix")]
    Location(String),
    /// The folder cannot be made.
    #[error("storage folder {path}")]
    Folder {
        /// Which folder.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The stream went on after the cap.
    #[error("the upload is larger than {0} bytes")]
    TooLarge(u64),
    /// The stream broke off.
    #[error("the upload broke off: {0}")]
    Body(String),
    /// Another writer created this key with other bytes.
    #[error("{0} exists with other contents")]
    Exists(String),
    /// Another writer replaced this key first.
    #[error("{0} was changed by another writer")]
    Changed(String),
    /// The store itself.
    #[error("object storage")]
    Store(#[from] object_store::Error),
}

/// What a finished upload is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Digest, and with it the address.
    pub sha256: Sha256Hex,
    /// Length, bytes.
    pub length: u64,
}

/// A document together with the mark that [`Blobs::replace`] compares.
#[derive(Debug, Clone)]
pub struct Versioned {
    /// Its bytes.
    pub bytes: Bytes,
    mark: Option<UpdateVersion>,
}

/// What is behind the store, and with it who else writes there.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// A local folder: one server process.
    Folder(PathBuf),
    /// A bucket that several servers share; conditional puts decide.
    Bucket,
}

/// A place for blobs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Blobs {
    store: Arc<dyn ObjectStore>,
    place: Place,
    /// Serialises [`Blobs::replace`] in a local folder, which has no conditional put.
    replacing: Arc<tokio::sync::Mutex<()>>,
}

/// Key of a payload by its digest.
pub fn payload_key(sha256: &Sha256Hex) -> String {
    format!("blobs/{sha256}")
}

impl Blobs {
    /// Opens a folder (made when missing) or `s3://bucket/prefix`.
    ///
    /// # Errors
    /// A location that cannot be understood or made. A bucket is not contacted here.
    pub fn open(location: &str, s3: &S3Options) -> Result<Self, BlobError> {
        if let Some(rest) = location.strip_prefix("s3://") {
            return Self::bucket(location, rest, s3);
        }
        let path = PathBuf::from(location.strip_prefix("file://").unwrap_or(location));
        if location.is_empty() || (location.contains("://") && !location.starts_with("file://")) {
            return Err(BlobError::Location(location.to_owned()));
        }
        std::fs::create_dir_all(&path).map_err(|source| BlobError::Folder { path: path.clone(), source })?;
        let store = Arc::new(LocalFileSystem::new_with_prefix(&path)?.with_fsync(true));
        Ok(Self::over(store, Place::Folder(path)))
    }

    fn bucket(location: &str, rest: &str, s3: &S3Options) -> Result<Self, BlobError> {
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(BlobError::Location(location.to_owned()));
        }
        // The client needs one, whichever command this is; a second call finds it already there.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = AmazonS3Builder::new().with_bucket_name(bucket);
        for (key, value) in [
            (AmazonS3ConfigKey::Endpoint, &s3.endpoint),
            (AmazonS3ConfigKey::Region, &s3.region),
            (AmazonS3ConfigKey::AccessKeyId, &s3.access_key_id),
            (AmazonS3ConfigKey::SecretAccessKey, &s3.secret_access_key),
        ] {
            if let Some(value) = value {
                builder = builder.with_config(key, value);
            }
        }
        let plain = s3.endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://"));
        let bucket = builder.with_allow_http(plain).build()?;
        let store: Arc<dyn ObjectStore> = match prefix.trim_matches('/') {
            "" => Arc::new(bucket),
            prefix => Arc::new(PrefixStore::new(bucket, Path::parse(prefix).map_err(object_store::Error::from)?)),
        };
        Ok(Self::over(store, Place::Bucket))
    }

    fn over(store: Arc<dyn ObjectStore>, place: Place) -> Self {
        Self { store, place, replacing: Arc::default() }
    }

    /// A bucket that lives in memory, with the conditional puts of a real one.
    #[cfg(test)]
    pub(crate) fn in_memory() -> Self {
        Self::over(Arc::new(object_store::memory::InMemory::new()), Place::Bucket)
    }

    /// Whether other processes may write to the same place.
    pub fn is_shared(&self) -> bool {
        self.place == Place::Bucket
    }

    /// Stores a payload under its digest while it streams in. Storing the same bytes twice keeps one copy.
    ///
    /// # Errors
    /// A stream that breaks off or passes `bytes_max`; nothing is kept then.
    pub async fn put_stream<E: fmt::Display>(
        &self,
        mut stream: impl Stream<Item = Result<Bytes, E>> + Unpin,
        bytes_max: u64,
    ) -> Result<Stored, BlobError> {
        let upload = Path::from(format!("{UPLOADS}/{}", uuid::Uuid::now_v7()));
        let mut writer = WriteMultipart::new_with_chunk_size(self.store.put_multipart(&upload).await?, PART_BYTES);
        let mut hasher = sha2::Sha256::new();
        let mut length = 0_u64;
        let fed = loop {
            let chunk = match stream.next().await {
                None => break Ok(()),
                Some(Err(error)) => break Err(BlobError::Body(error.to_string())),
                Some(Ok(chunk)) => chunk,
            };
            length = length.saturating_add(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
            if length > bytes_max {
                break Err(BlobError::TooLarge(bytes_max));
            }
            hasher.update(&chunk);
            if let Err(error) = writer.wait_for_capacity(PARTS_AT_A_TIME).await {
                break Err(error.into());
            }
            writer.put(chunk);
        };
        if let Err(error) = fed {
            // The upload is lost either way; what remains of it is swept later.
            let _ = writer.abort().await;
            return Err(error);
        }
        writer.finish().await?;
        let sha256 = Sha256Hex::from_bytes(hasher.finalize().into());
        let key = Path::from(payload_key(&sha256));
        // The address is the digest: whatever is there already is the same bytes.
        self.store.copy(&upload, &key).await?;
        self.store.delete(&upload).await?;
        Ok(Stored { sha256, length })
    }

    /// Length and age mark of a key, if it exists.
    ///
    /// # Errors
    /// The store.
    pub async fn head(&self, key: &str) -> Result<Option<ObjectMeta>, BlobError> {
        optional(self.store.head(&Path::from(key)).await)
    }

    /// A part of a payload. Ask for [`BLOCK_BYTES`] at a time.
    ///
    /// # Errors
    /// The store, also when the key does not exist or the range lies outside.
    pub async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, BlobError> {
        Ok(self.store.get_range(&Path::from(key), range).await?)
    }

    /// A whole document of at most [`DOCUMENT_BYTES_MAX`], if it exists.
    ///
    /// # Errors
    /// The store, or a document that is too large.
    pub async fn document(&self, key: &str) -> Result<Option<Versioned>, BlobError> {
        let Some(got) = optional(self.store.get(&Path::from(key)).await)? else { return Ok(None) };
        if got.meta.size > DOCUMENT_BYTES_MAX {
            return Err(BlobError::TooLarge(DOCUMENT_BYTES_MAX));
        }
        let mark = UpdateVersion { e_tag: got.meta.e_tag.clone(), version: got.meta.version.clone() };
        Ok(Some(Versioned { bytes: got.bytes().await?, mark: Some(mark) }))
    }

    /// Creates a key. The same bytes again are a success.
    ///
    /// # Errors
    /// [`BlobError::Exists`] when another writer put other bytes there.
    pub async fn create(&self, key: &str, bytes: Bytes) -> Result<(), BlobError> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.store.put_opts(&Path::from(key), bytes.clone().into(), options).await {
            Ok(_) => Ok(()),
            Err(object_store::Error::AlreadyExists { .. }) => match self.document(key).await? {
                Some(there) if there.bytes == bytes => Ok(()),
                _ => Err(BlobError::Exists(key.to_owned())),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// Replaces a key that was read as `before` (`None`: creates it). Readers see the old bytes or the new, never a mix.
    ///
    /// A bucket decides by conditional put. A local folder has none: there one process writes, and it takes turns.
    ///
    /// # Errors
    /// [`BlobError::Changed`] when another writer was first.
    pub async fn replace(&self, key: &str, before: Option<&Versioned>, bytes: Bytes) -> Result<(), BlobError> {
        let Some(before) = before else {
            return match self.create(key, bytes).await {
                Err(BlobError::Exists(key)) => Err(BlobError::Changed(key)),
                other => other,
            };
        };
        let mode = match self.place {
            Place::Bucket => {
                PutMode::Update(before.mark.clone().unwrap_or(UpdateVersion { e_tag: None, version: None }))
            }
            Place::Folder(_) => PutMode::Overwrite,
        };
        let _turn = self.replacing.lock().await;
        if !self.is_shared() {
            let now = self.document(key).await?;
            if now.is_none_or(|now| now.bytes != before.bytes) {
                return Err(BlobError::Changed(key.to_owned()));
            }
        }
        let options = PutOptions { mode, ..PutOptions::default() };
        match self.store.put_opts(&Path::from(key), bytes.into(), options).await {
            Ok(_) => Ok(()),
            Err(object_store::Error::Precondition { .. }) => Err(BlobError::Changed(key.to_owned())),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a key; it is no error if it is not there.
    ///
    /// # Errors
    /// The store.
    pub async fn delete(&self, key: &str) -> Result<(), BlobError> {
        optional(self.store.delete(&Path::from(key)).await).map(|_| ())
    }

    /// Removes uploads that were last written before `before_ms` and never finished; answers how many.
    ///
    /// Parts of an upload to a bucket that broke off are not objects: a life-cycle rule of the bucket removes them.
    ///
    /// # Errors
    /// The store.
    pub async fn sweep_uploads(&self, before_ms: i64) -> Result<usize, BlobError> {
        if let Place::Folder(path) = &self.place {
            // The store's own listing hides files that are still being written.
            return sweep_folder(&path.join(UPLOADS), before_ms);
        }
        let old: Vec<Path> = self
            .store
            .list(Some(&Path::from(UPLOADS)))
            .try_filter_map(|meta| async move {
                Ok((meta.last_modified.timestamp_millis() < before_ms).then_some(meta.location))
            })
            .try_collect()
            .await?;
        for path in &old {
            optional(self.store.delete(path).await)?;
        }
        Ok(old.len())
    }
}

fn sweep_folder(folder: &std::path::Path, before_ms: i64) -> Result<usize, BlobError> {
    let failed = |source| BlobError::Folder { path: folder.to_owned(), source };
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        other => other.map_err(failed)?,
    };
    let mut removed = 0;
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let modified = entry.metadata().and_then(|meta| meta.modified()).map_err(failed)?;
        let age = modified.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        if i64::try_from(age.as_millis()).unwrap_or(i64::MAX) < before_ms {
            std::fs::remove_file(entry.path()).map_err(failed)?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// "Not found" as a value, every other error as an error.
fn optional<T>(result: object_store::Result<T>) -> Result<Option<T>, BlobError> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
