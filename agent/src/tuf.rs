//! Reads and verifies both repositories and agrees them: the wiring around the TUF library.
//!
//! Order: director, its document's own rules, image repository, floors, agreement. Both are refreshed every time, roots
//! included, so that replaced keys arrive without an update. Every failure becomes one [`Reason`]; a failure of the
//! network never becomes a refusal.

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use serde_json::Value;
use sigstore_tuf::transport::FetchFuture;
use sigstore_tuf::{Error, MetadataStore, Repository, Root, TargetFile, Updater, UpdaterConfig};
use tillward_protocol::crypto;
use tillward_protocol::phase::Reason;
use tillward_protocol::trust::{
    self, DirectorCustom, DirectorDocument, DirectorOrder, MODE_FIELD, MODE_QUICKSTART, Refused, SignedTarget,
    TerminalFacts,
};

use crate::client::{CallError, Client};
use crate::gate;
use crate::journal::Floors;
use crate::metadata_store::DurableStore;
use crate::storage;

/// Root versions followed in one refresh; the next refresh goes on from there.
const ROOT_ROTATIONS_MAX: u32 = 256;
/// Largest root in the configuration, bytes: the library's cap.
const ROOT_BYTES_MAX: u64 = 512_000;

/// One repository as the agent reads it.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// `image` or `director`, for people and for the folder's name.
    pub name: &'static str,
    /// URL that file names are appended to.
    pub metadata_url: &'a str,
    /// First trusted root.
    pub factory_root: &'a Path,
    /// Floors known so far.
    pub floors: &'a Floors,
}

/// What the terminal knows of the time.
#[derive(Debug, Clone, Copy)]
pub struct Time {
    /// Its clock, Unix s.
    pub clock_s: i64,
    /// Latest time that the director's documents proved, Unix s.
    pub floor_s: i64,
}

/// What both repositories say, verified.
#[derive(Debug)]
pub struct Agreed {
    /// The order; `None` when there is nothing to do.
    pub order: Option<DirectorOrder>,
    /// The director's block.
    pub custom: DirectorCustom,
    /// Version of the director's document.
    pub director_version: u64,
    /// Whether a new root replaced the director's online keys since its last document.
    pub keys_replaced: bool,
    /// New floors of the director.
    pub director: Floors,
    /// New floors of the image repository.
    pub image: Floors,
}

/// Why there is no agreement, with as much of the order as was verified.
#[derive(Debug)]
pub struct Disagreed {
    /// Why.
    pub refused: Refused,
    /// The director's block, when its document verified.
    pub custom: Option<DirectorCustom>,
    /// The server's number of the order, when the document verified.
    pub assignment: Option<i64>,
}

impl From<Refused> for Disagreed {
    fn from(refused: Refused) -> Self {
        Self { refused, custom: None, assignment: None }
    }
}

/// Reads, verifies and agrees both repositories at one fixed time: the clock, but never before what was proved.
///
/// # Errors
/// One refusal or transient reason.
pub fn look(
    client: &Client,
    folder: &Path,
    director: Place<'_>,
    image: Place<'_>,
    facts: &TerminalFacts,
    time: Time,
) -> Result<Agreed, Disagreed> {
    let online_before = director.floors.online_keys.as_str();
    let is_replaced = |keys: &str| !online_before.is_empty() && keys != online_before;
    // Once a root that replaces the online keys is stored, the time that the old ones proved says nothing any more: they
    // may have been driven far ahead, past the new root's own expiry.
    let stored_keys = stored_online_keys(folder, director);
    let floor_s = if stored_keys.is_some_and(|keys| is_replaced(&keys)) { i64::MIN } else { time.floor_s };
    let now = jiff::Timestamp::from_second(time.clock_s.max(floor_s))
        .map_err(|error| Refused::new(Reason::StateDamaged, format!("clock: {error}")))?;
    let opened = Opened::refresh(client, folder, director, now)?;
    let (document, director_floors) = opened.director_document()?;
    let keys_replaced = is_replaced(&director_floors.online_keys);
    let mut facts = facts.clone();
    if keys_replaced {
        // A version that the old keys were driven up to says nothing any more either.
        facts.director_floor = 0;
    }
    trust::check_director(&document, &facts)?;
    let custom = document.custom.clone();
    let assignment = document.targets.first().and_then(assignment_of);
    drop(opened);
    let agreed = agree(client, folder, image, &facts, &document, now);
    let (order, image_floors) =
        agreed.map_err(|refused| Disagreed { refused, custom: Some(custom.clone()), assignment })?;
    let director_version = document.version;
    Ok(Agreed { order, custom, director_version, keys_replaced, director: director_floors, image: image_floors })
}

fn assignment_of(target: &SignedTarget) -> Option<i64> {
    target.custom.get("assignment").and_then(Value::as_i64)
}

fn agree(
    client: &Client,
    folder: &Path,
    image: Place<'_>,
    facts: &TerminalFacts,
    document: &DirectorDocument,
    now: jiff::Timestamp,
) -> Result<(Option<DirectorOrder>, Floors), Refused> {
    let mut opened = Opened::refresh(client, folder, image, now)?;
    let mut orders = Vec::new();
    for target in &document.targets {
        let listed = opened.target(target, now)?;
        orders.push(trust::agree(target, listed.as_ref(), facts, canonical)?);
    }
    opened.check_store()?;
    if orders.len() > 1 {
        let text = "this agent installs one component at a time, the document orders several";
        return Err(Refused::new(Reason::WrongDirectorDocument, text));
    }
    Ok((orders.pop(), opened.floors))
}

fn canonical(value: &Value) -> Option<Vec<u8>> {
    sigstore_tuf::canonical_json::to_canonical_bytes(value).ok()
}

/// A refreshed repository.
struct Opened {
    name: &'static str,
    updater: Updater,
    store: Arc<DurableStore>,
    fault: Fault,
    floors: Floors,
}

/// The first thing that went wrong below the library, more precise than what it makes of it.
type Fault = Arc<Mutex<Option<Refused>>>;

impl Opened {
    fn refresh(client: &Client, folder: &Path, place: Place<'_>, now: jiff::Timestamp) -> Result<Self, Refused> {
        let store = Arc::new(DurableStore::new(folder.join(place.name)));
        let fault = Fault::default();
        let root = first_root(&store, place)?;
        gate::check("root", &root)?;
        let source = Source { client: client.clone(), url: place.metadata_url.to_owned(), fault: fault.clone() };
        let mut settings = UpdaterConfig::default();
        settings.max_root_rotations = ROOT_ROTATIONS_MAX;
        let updater = Updater::new(source, &root).map_err(|error| refusal(place.name, &error))?;
        let mut opened = Self {
            name: place.name,
            updater: updater.with_config(settings).with_store(store.clone()),
            store,
            fault,
            floors: Floors::default(),
        };
        refuse_quickstart(place.name, opened.updater.trusted().root())?;
        let refreshed = block_on(opened.updater.refresh(now));
        opened.judge(refreshed)?;
        refuse_quickstart(place.name, opened.updater.trusted().root())?;
        opened.check_store()?;
        opened.floors = opened.new_floors(place.floors)?;
        Ok(opened)
    }

    fn judge<T>(&self, result: sigstore_tuf::Result<T>) -> Result<T, Refused> {
        result.map_err(|error| {
            let fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner).take();
            fault.unwrap_or_else(|| refusal(self.name, &error))
        })
    }

    fn check_store(&self) -> Result<(), Refused> {
        match self.store.first_error() {
            Some(error) => Err(Refused::new(Reason::StorageError, error)),
            None => Ok(()),
        }
    }

    /// The versions now trusted, none of them below `known` (unless the online keys were replaced by a new root).
    fn new_floors(&self, known: &Floors) -> Result<Floors, Refused> {
        let trusted = self.updater.trusted();
        let new = Floors {
            root: trusted.root().version,
            timestamp: trusted.timestamp().map_or(0, |timestamp| timestamp.version),
            snapshot: trusted.snapshot().map_or(0, |snapshot| snapshot.version),
            targets: trusted.targets_role("targets").map_or(0, |targets| targets.version),
            online_keys: online_keys(trusted.root()),
        };
        let same_keys = known.online_keys == new.online_keys;
        let pairs = [
            ("root", known.root, new.root, true),
            ("timestamp", known.timestamp, new.timestamp, same_keys),
            ("snapshot", known.snapshot, new.snapshot, same_keys),
            ("targets", known.targets, new.targets, same_keys),
        ];
        match pairs.into_iter().find(|(_, floor, version, counts)| *counts && version < floor) {
            Some((role, floor, version, _)) => Err(Refused::new(
                Reason::Downgrade,
                format!("{} {role} version {version} is below {floor}, accepted before", self.name),
            )),
            None => Ok(new),
        }
    }

    fn director_document(&self) -> Result<(DirectorDocument, Floors), Refused> {
        let wrong = |what: String| Refused::new(Reason::WrongDirectorDocument, what);
        let targets = self
            .updater
            .trusted()
            .targets_role("targets")
            .ok_or_else(|| wrong("there is no targets document".to_owned()))?;
        let custom = targets.extra.get("custom").cloned().unwrap_or(Value::Null);
        let custom: DirectorCustom =
            serde_json::from_value(custom).map_err(|error| wrong(format!("top-level custom: {error}")))?;
        if !(0..=targets.expires.as_second()).contains(&custom.issued_at) {
            return Err(wrong(format!("issued_at {} is not before its own expiry", custom.issued_at)));
        }
        let entries: Result<Vec<SignedTarget>, Refused> =
            targets.targets.iter().map(|(name, file)| signed_target(name, file)).collect();
        let document = DirectorDocument {
            version: targets.version,
            custom,
            has_delegations: targets.delegations.is_some(),
            targets: entries?,
        };
        Ok((document, self.floors.clone()))
    }

    fn target(&mut self, wanted: &SignedTarget, now: jiff::Timestamp) -> Result<Option<SignedTarget>, Refused> {
        let found = block_on(self.updater.get_target_info(wanted.name.as_str(), now));
        match self.judge(found).map_err(|refused| refused.about(&wanted.name))? {
            Some(file) => signed_target(wanted.name.as_str(), &file).map(Some),
            None => Ok(None),
        }
    }
}

fn signed_target(name: &str, file: &TargetFile) -> Result<SignedTarget, Refused> {
    let name =
        name.parse().map_err(|error| Refused::new(Reason::MalformedMetadata, format!("target name: {error}")))?;
    let custom = file.custom.as_ref().and_then(Value::as_object).cloned().unwrap_or_default();
    let matches = custom.get("match").cloned().unwrap_or(Value::Null);
    Ok(SignedTarget {
        name,
        length: file.length,
        hashes: file.hashes.clone(),
        matches,
        custom: custom.into_iter().collect(),
    })
}

/// The stored root, or the one the terminal was provisioned with. The floors in the journal see to it that a lost store
/// does not take the terminal back to an old root.
fn first_root(store: &DurableStore, place: Place<'_>) -> Result<Vec<u8>, Refused> {
    let stored = store.load("root.json").map_err(|error| Refused::new(Reason::StorageError, error.to_string()))?;
    if let Some(root) = stored.filter(|root| gate::check("root.json", root).is_ok()) {
        return Ok(root);
    }
    let unreadable = |what: String| {
        Refused::new(Reason::StateDamaged, format!("trust root {}: {what}", place.factory_root.display()))
    };
    storage::read(place.factory_root, ROOT_BYTES_MAX)
        .map_err(|error| unreadable(error.to_string()))?
        .ok_or_else(|| unreadable("is not there".to_owned()))
}

/// The online keys of the stored root, if there is one that can be read.
fn stored_online_keys(folder: &Path, place: Place<'_>) -> Option<String> {
    let store = DurableStore::new(folder.join(place.name));
    let document = gate::check("root.json", &store.load("root.json").ok()??).ok()?;
    let root: Root = serde_json::from_value(document.get("signed")?.clone()).ok()?;
    Some(online_keys(&root))
}

fn refuse_quickstart(name: &str, root: &Root) -> Result<(), Refused> {
    let marked = root.extra.get(MODE_FIELD).and_then(Value::as_str) == Some(MODE_QUICKSTART);
    if marked && !cfg!(feature = "quickstart") {
        let text = format!("root version {} of the {name} repository was made in quick-start mode", root.version);
        return Err(Refused::new(Reason::QuickstartRoot, text));
    }
    Ok(())
}

/// A digest over the timestamp and snapshot keys.
fn online_keys(root: &Root) -> String {
    let mut keys: Vec<&str> = ["timestamp", "snapshot"]
        .iter()
        .filter_map(|role| root.role(role))
        .flat_map(|role| &role.keyids)
        .filter_map(|id| root.keys.get(id))
        .map(|key| key.keyval.public.as_str())
        .collect();
    keys.sort_unstable();
    keys.dedup();
    hex::encode(crypto::sha256(keys.join("\n").as_bytes()))
}

/// The library's error as a reason.
fn refusal(name: &str, error: &Error) -> Refused {
    let reason = match error {
        Error::ThresholdNotMet { found: 0, .. } => Reason::WrongKey,
        Error::ThresholdNotMet { .. } => Reason::BelowThreshold,
        Error::DuplicateSignature { .. } => Reason::DuplicateSignature,
        Error::Expired { .. } => Reason::ExpiredMetadata,
        Error::Rollback { .. } => Reason::Downgrade,
        Error::BadRootVersion { trusted, new } if new <= trusted => Reason::Downgrade,
        Error::Io { .. } => Reason::StorageError,
        Error::Transport { .. } => Reason::NetworkError,
        _ => Reason::MalformedMetadata,
    };
    let mut detail = format!("{name}: {error}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        detail = format!("{detail}: {cause}");
        source = cause.source();
    }
    Refused::new(reason, detail)
}

/// Drives a future that never waits: all our I/O is blocking.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
}

/// The transport: one base URL, with the gate behind it.
struct Source {
    client: Client,
    url: String,
    fault: Fault,
}

impl Source {
    fn get(&self, name: &str, bytes_max: u64) -> sigstore_tuf::Result<Option<Vec<u8>>> {
        let url = format!("{}/{name}", self.url);
        let fetched = self.client.fetch(&url, bytes_max).map_err(|error| call_refusal(name, &error));
        let checked = fetched.and_then(|bytes| match bytes {
            Some(bytes) => gate::check(name, &bytes).map(|_| Some(bytes)),
            None => Ok(None),
        });
        checked.map_err(|refused| {
            let error = Error::transport(refused.detail.clone());
            *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(refused);
            error
        })
    }
}

/// A failed call as a reason: all but an endless document may pass.
pub fn call_refusal(name: &str, error: &CallError) -> Refused {
    let reason = match error {
        CallError::Busy(_) => Reason::ServerBusy,
        CallError::TooLong(_) => Reason::TooLong,
        CallError::Network(_) | CallError::Unauthorized | CallError::Blocked(_) | CallError::Refused { .. } => {
            Reason::NetworkError
        }
    };
    Refused::new(reason, format!("{name}: {error}"))
}

impl Repository for Source {
    fn fetch_metadata<'a>(&'a self, name: &'a str, max_length: u64) -> FetchFuture<'a> {
        let fetched = self.get(name, max_length);
        Box::pin(async move { fetched })
    }

    fn fetch_target<'a>(&'a self, path: &'a str, _: u64) -> FetchFuture<'a> {
        let refused = Err(Error::transport(format!("{path}: payloads are streamed, not fetched whole")));
        Box::pin(async move { refused })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_verification_failure_has_its_own_reason() {
        let role = || "targets".to_owned();
        let reason = |error: Error| refusal("image", &error).reason;
        assert_eq!(reason(Error::ThresholdNotMet { role: role(), found: 0, threshold: 2 }), Reason::WrongKey);
        assert_eq!(reason(Error::ThresholdNotMet { role: role(), found: 1, threshold: 2 }), Reason::BelowThreshold);
        assert_eq!(reason(Error::DuplicateSignature { role: role(), key_id: role() }), Reason::DuplicateSignature);
        assert_eq!(reason(Error::Rollback { role: role(), trusted: 2, new: 1 }), Reason::Downgrade);
        assert_eq!(reason(Error::BadRootVersion { trusted: 2, new: 2 }), Reason::Downgrade);
        assert_eq!(reason(Error::BadRootVersion { trusted: 2, new: 9 }), Reason::MalformedMetadata);
        assert_eq!(reason(Error::transport("gone")), Reason::NetworkError);
        assert_eq!(
            reason(Error::Expired { role: role(), expires: jiff::Timestamp::UNIX_EPOCH }),
            Reason::ExpiredMetadata
        );
    }

    #[test]
    fn a_call_that_may_pass_later_is_never_a_refusal() {
        let network = CallError::Network("x".to_owned());
        for error in [network, CallError::Busy(None), CallError::Unauthorized, CallError::Blocked(String::new())] {
            assert!(call_refusal("x", &error).reason.is_transient(), "{error}");
        }
        assert_eq!(call_refusal("x", &CallError::TooLong(1)).reason, Reason::TooLong);
    }
}
