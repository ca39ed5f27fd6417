//! Sample firmware: small real images and repositories, good ones and one for each refusal.
//!
//! Everything is derived from fixed seeds, so that the checked-in folder can be made again byte for byte and a change of
//! the format shows as a difference. The keys are public knowledge: the roots carry the quick-start marker.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tillward_protocol::crypto::{SigningKey, sha256};
use tillward_protocol::ids::{ModelCode, Sha256Hex, TerminalId, Version};
use tillward_protocol::phase::Reason;
use tillward_protocol::trust::Match;

use super::director::{self, Desired, Order, Validity};
use super::document::{self, DocumentError, TargetEntry};
use super::image;
use super::keys::{KeyRing, KeyRole, RoleKeys};
use super::tar;

/// The model that the sample terminal has.
pub const MODEL: &str = "demo-p1";
/// The sample terminal's number.
pub const TERMINAL: TerminalId = TerminalId(1);
/// When the samples say they were signed: 2026-11-01T00:00:00Z.
const ISSUED_AT_S: i64 = 1_793_491_200;
/// When they end: 2046-01-01T00:00:00Z.
const EXPIRES_S: i64 = 2_398_377_600;
/// When the expired one ended: 2026-01-01T00:00:00Z.
const EXPIRED_S: i64 = 1_767_225_600;
/// Size of the part of a payload that stands for firmware, bytes.
const BLOB_BYTES: usize = 44 * 1024;

const README: &str = include_str!("../../../firmware-samples/README.md");

/// Why samples could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SamplesError {
    /// A document.
    #[error("sample document")]
    Document(#[from] DocumentError),
    /// A name that the protocol does not allow.
    #[error("sample value")]
    Value(#[from] tillward_protocol::FieldError),
    /// A file.
    #[error("sample file {path}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// One file of the sample folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sample {
    /// Its bytes.
    File(Vec<u8>),
    /// A symbolic link, relative to its own folder.
    Link(String),
}

/// Every file of the sample folder, by its path in it.
pub type Samples = BTreeMap<String, Sample>;

/// Writes all samples into `out`, over what is there.
///
/// # Errors
/// A file that cannot be written.
pub fn write(out: &Path) -> Result<usize, SamplesError> {
    let samples = generate()?;
    for (name, sample) in &samples {
        let path = out.join(name);
        let done = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| match sample {
            Sample::File(bytes) => fs::write(&path, bytes),
            Sample::Link(to) => match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => symlink(to, &path),
            },
        });
        done.map_err(|source| SamplesError::Io { path, source })?;
    }
    Ok(samples.len())
}

/// Builds all samples in memory.
///
/// # Errors
/// None that the fixed inputs can cause.
pub fn generate() -> Result<Samples, SamplesError> {
    let ring = ring();
    let mut samples = Samples::new();
    let mut put = |name: String, bytes: Vec<u8>| samples.insert(name, Sample::File(bytes));
    put("README.md".to_owned(), README.as_bytes().to_vec());
    put("trust/image.root.json".to_owned(), image::root(&ring, 1, EXPIRES_S)?);
    put("trust/director.root.json".to_owned(), director::root(&ring, 1, EXPIRES_S)?);
    for firmware in Firmware::ALL {
        put(format!("payload/{}.bin", firmware.version), firmware.payload());
    }
    let good = release(MODEL, &Firmware::HEALTHY)?;
    add(&mut samples, &ring, &Repository::new("good/4.2.0", 1, vec![good.clone()]))?;
    let unhealthy = release(MODEL, &Firmware::UNHEALTHY)?;
    add(&mut samples, &ring, &Repository::new("good/4.3.0-unhealthy", 2, vec![good, unhealthy]))?;
    for bad in bad_repositories()? {
        add(&mut samples, &ring, &bad)?;
    }
    Ok(samples)
}

/// One sample firmware.
struct Firmware {
    version: &'static str,
    counter: u64,
    healthy: bool,
}

impl Firmware {
    const OLD: Self = Self { version: "4.0.0", counter: 40, healthy: true };
    const RUNNING: Self = Self { version: "4.1.0", counter: 41, healthy: true };
    const HEALTHY: Self = Self { version: "4.2.0", counter: 42, healthy: true };
    const UNHEALTHY: Self = Self { version: "4.3.0", counter: 43, healthy: false };
    const ALL: [Self; 4] = [Self::OLD, Self::RUNNING, Self::HEALTHY, Self::UNHEALTHY];

    /// A tar archive: the version, the command that is run on trial, and something to carry.
    fn payload(&self) -> Vec<u8> {
        let version = format!("{}\n", self.version);
        let check = if self.healthy {
            format!(
                "cd \"$(dirname \"$0\")\" || exit 1\n[ \"$(cat version)\" = \"{}\" ] || exit 1\n[ \"$(wc -c < blob)\" \
                 -eq {BLOB_BYTES} ] || exit 1\n",
                self.version
            )
        } else {
            "echo 'payment application did not start' >&2\nexit 1\n".to_owned()
        };
        let health = format!("#!/bin/sh\n# Exit 0 says that this firmware works on this terminal.\n{check}");
        let files: [(&str, u32, &[u8]); 3] = [
            ("version", 0o644, version.as_bytes()),
            ("health.sh", 0o755, health.as_bytes()),
            ("blob", 0o644, &self.blob()),
        ];
        tar::archive(&files)
    }

    fn blob(&self) -> Vec<u8> {
        let block = |at: usize| sha256(format!("tillward sample firmware {} block {at}", self.version).as_bytes());
        (0..BLOB_BYTES / 32).flat_map(block).collect()
    }
}

/// A key that anybody can derive.
fn key(name: &str) -> SigningKey {
    SigningKey::from_bytes(&sha256(format!("tillward sample key {name}").as_bytes()))
}

/// Keys as a small user would have them: two of three officers for firmware and roots, two of two for delegations.
fn ring() -> KeyRing {
    let of = |role: KeyRole| {
        let (keys, threshold) = match role {
            KeyRole::ImageRoot | KeyRole::DirectorRoot | KeyRole::ImageFirmware => (3, 2),
            KeyRole::ImageTargets => (2, 2),
            KeyRole::ImageSnapshot
            | KeyRole::ImageTimestamp
            | KeyRole::DirectorTargets
            | KeyRole::DirectorSnapshot
            | KeyRole::DirectorTimestamp => (1, 1),
        };
        let keys = (1..=keys).map(|n| key(&format!("{} {n}", role.as_str()))).collect();
        (role, RoleKeys { keys, threshold })
    };
    KeyRing::new(KeyRole::ALL.into_iter().map(of).collect())
}

/// The keys that a good release is signed with: two of the three.
fn officers() -> Vec<SigningKey> {
    ring().role(KeyRole::ImageFirmware).keys.iter().take(2).cloned().collect()
}

/// A released file: its signed entry and its bytes.
#[derive(Clone)]
struct Release {
    entry: TargetEntry,
    payload: Sample,
}

/// `firmware` for `model`, whole and stored once.
fn release(model: &str, firmware: &Firmware) -> Result<Release, SamplesError> {
    let payload = firmware.payload();
    let entry = TargetEntry {
        name: format!("{model}.os.{}-{}.bin", firmware.version, firmware.counter).parse()?,
        length: u64::try_from(payload.len()).unwrap_or(u64::MAX),
        sha256: Sha256Hex::of(&payload),
        matches: Match {
            hardware_ids: vec![model.parse::<ModelCode>()?],
            component: "os".to_owned(),
            version: firmware.version.parse::<Version>()?,
            release_counter: firmware.counter,
            min_from_counter: None,
            requires: Vec::new(),
        },
    };
    Ok(Release { entry, payload: Sample::Link(format!("../../../../payload/{}.bin", firmware.version)) })
}

/// Both repositories of one folder, with every place where a bad one differs from a good one.
struct Repository {
    folder: String,
    /// Version of every document, also number of the order.
    version: u64,
    releases: Vec<Release>,
    /// Who signs the firmware roles.
    signers: Vec<SigningKey>,
    timestamp_expires_s: i64,
    /// What the director orders.
    order: TargetEntry,
}

impl Repository {
    /// A good one; the last release is the ordered one.
    fn new(folder: &str, version: u64, releases: Vec<Release>) -> Self {
        let order = releases[releases.len() - 1].entry.clone();
        let signers = officers();
        let folder = folder.to_owned();
        Self { folder, version, releases, signers, timestamp_expires_s: EXPIRES_S, order }
    }

    /// Models that have a firmware role: the sample terminal's always, so that no role ever vanishes.
    fn models(&self) -> BTreeSet<&str> {
        let released = self.releases.iter().flat_map(|release| &release.entry.matches.hardware_ids);
        released.map(ModelCode::as_str).chain([MODEL]).collect()
    }
}

/// One repository for each refusal, each different from a good one in a single point.
fn bad_repositories() -> Result<Vec<Repository>, SamplesError> {
    let good = release(MODEL, &Firmware::HEALTHY)?;
    let whole = Firmware::HEALTHY.payload();
    let bad = |reason: Reason| Repository::new(&format!("bad/{}", reason.as_str()), 3, vec![good.clone()]);
    let with_payload = |reason: Reason, bytes: Vec<u8>| {
        let mut repository = bad(reason);
        repository.releases[0].payload = Sample::File(bytes);
        repository
    };

    let mut wrong_key = bad(Reason::WrongKey);
    wrong_key.signers = vec![key("stranger 1"), key("stranger 2")];
    let mut below_threshold = bad(Reason::BelowThreshold);
    below_threshold.signers.truncate(1);
    let mut duplicate_signature = bad(Reason::DuplicateSignature);
    duplicate_signature.signers[1] = duplicate_signature.signers[0].clone();

    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    let truncated = whole[..whole.len() / 2].to_vec();
    let mut too_long = whole.clone();
    too_long.extend_from_slice(&[0; 1024]);

    let wrong_model = Repository::new("bad/wrong_model", 3, vec![release("demo-p9", &Firmware::HEALTHY)?]);
    let downgrade = Repository::new("bad/downgrade", 3, vec![release(MODEL, &Firmware::OLD)?]);
    let mut expired = bad(Reason::ExpiredMetadata);
    expired.timestamp_expires_s = EXPIRED_S;
    let mut disagree = bad(Reason::DirectorImageDisagree);
    disagree.order.sha256 = Sha256Hex::of(&Firmware::UNHEALTHY.payload());

    Ok(vec![
        wrong_key,
        below_threshold,
        duplicate_signature,
        with_payload(Reason::DigestMismatch, flipped),
        with_payload(Reason::Truncated, truncated),
        with_payload(Reason::TooLong, too_long),
        wrong_model,
        downgrade,
        expired,
        disagree,
    ])
}

fn add(samples: &mut Samples, ring: &KeyRing, repository: &Repository) -> Result<(), SamplesError> {
    let mut files = image_metadata(ring, repository)?;
    files.extend(director_metadata(ring, repository)?);
    for (name, bytes) in files {
        samples.insert(format!("{}/{name}", repository.folder), Sample::File(bytes));
    }
    for release in &repository.releases {
        let path = format!("{}/image/targets/{}.{}", repository.folder, release.entry.sha256, release.entry.name);
        samples.insert(path, release.payload.clone());
    }
    Ok(())
}

fn image_metadata(ring: &KeyRing, repository: &Repository) -> Result<BTreeMap<String, Vec<u8>>, DocumentError> {
    let version = repository.version;
    let at = |name: String| format!("image/metadata/{name}");
    let mut files = BTreeMap::from([(at("1.root.json".to_owned()), image::root(ring, 1, EXPIRES_S)?)]);
    let mut pins = BTreeMap::new();
    let models = repository.models();
    let roles: Vec<String> = models.iter().map(|model| format!("fw-{model}")).collect();
    for (model, role) in models.iter().zip(&roles) {
        let of_model = |release: &&Release| release.entry.matches.hardware_ids.iter().any(|id| id.as_str() == *model);
        let listed = repository.releases.iter().filter(of_model);
        let entries = listed.map(|r| (r.entry.name.to_string(), r.entry.image_json())).collect();
        let firmware = document::sign(&document::targets(version, EXPIRES_S, &entries)?, &repository.signers)?;
        pins.insert(format!("{role}.json"), document::pin(version, &firmware));
        files.insert(at(format!("{version}.{role}.json")), firmware);
    }
    let mut signed = document::targets(version, EXPIRES_S, &BTreeMap::new())?;
    let delegated = roles.iter().map(String::as_str).zip(models.iter().copied());
    signed["delegations"] = document::delegations(delegated, ring.role(KeyRole::ImageFirmware))?;
    let targets = document::sign(&signed, &ring.role(KeyRole::ImageTargets).keys)?;
    pins.insert("targets.json".to_owned(), document::pin(version, &targets));
    let signed = document::snapshot(version, EXPIRES_S, &pins)?;
    let snapshot = document::sign(&signed, &ring.role(KeyRole::ImageSnapshot).keys)?;
    let signed = document::timestamp(version, repository.timestamp_expires_s, document::pin(version, &snapshot))?;
    let timestamp = document::sign(&signed, &ring.role(KeyRole::ImageTimestamp).keys)?;
    files.insert(at(format!("{version}.targets.json")), targets);
    files.insert(at(format!("{version}.snapshot.json")), snapshot);
    files.insert(at("timestamp.json".to_owned()), timestamp);
    Ok(files)
}

fn director_metadata(ring: &KeyRing, repository: &Repository) -> Result<BTreeMap<String, Vec<u8>>, DocumentError> {
    let number = i64::try_from(repository.version).unwrap_or(i64::MAX);
    let desired = Desired {
        terminal_id: TERMINAL,
        assignment_version: number,
        orders: vec![Order { assignment: number, entry: repository.order.clone(), wifi_only: false }],
    };
    let validity = director::validity(TERMINAL, number, ISSUED_AT_S, None);
    let made = director::sign_for(ring, &desired, Validity { expires_at: EXPIRES_S, ..validity })?;
    let at = |name: String| format!("director/t/{TERMINAL}/metadata/{name}");
    Ok(BTreeMap::from([
        (at("1.root.json".to_owned()), director::root(ring, 1, EXPIRES_S)?),
        (at(format!("{}.targets.json", made.version)), made.targets),
        (at(format!("{}.snapshot.json", made.version)), made.snapshot),
        (at("timestamp.json".to_owned()), made.timestamp),
    ]))
}

#[cfg(test)]
mod tests;
