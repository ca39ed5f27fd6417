//! The documents of one terminal: what it shall run, signed when asked for.
//!
//! A document is a pure function of one row (terminal, assignment version, orders) and a time window, so every replica
//! gives byte-identical files and nothing but the row is stored. The director can only *choose*: terminals install
//! nothing that the image repository does not list in the same words.
//!
//! Changing [`WINDOW_S`] must raise every assignment version: the version's lower part is counted in windows.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Value, json};
use tillward_protocol::ids::TerminalId;
use tillward_protocol::trust::DirectorCustom;

use super::document::{self, DocumentError, TargetEntry};
use super::image::is_metadata_name;
use super::keys::{KeyRing, KeyRole};
use super::roots::{self, RootError};
use crate::blobs::{BlobError, Blobs};

/// Where the director's roots lie, in the store and below the server's address.
pub const METADATA: &str = "tuf/director/metadata";

/// How long one signature is reused, s (12 h): 10 million terminals then renew at 231 documents a second.
pub const WINDOW_S: i64 = 12 * 3600;
/// How long a document is good for from its window's start, s: two windows, so that a poll in between always finds time left.
pub const LIFE_S: i64 = 2 * WINDOW_S;
/// Versions are `assignment_version * 2^20 + window`; windows of 12 h stay below 2^20 for fourteen centuries.
const WINDOW_BITS: u32 = 20;

/// One thing a terminal shall install.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The server's number of the order.
    pub assignment: i64,
    /// The file, in the image repository's words.
    pub entry: TargetEntry,
}

/// The row that a terminal's documents are made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// The terminal.
    pub terminal_id: TerminalId,
    /// Rises with every change of the orders; starts at 1.
    pub assignment_version: i64,
    /// What to install; empty = nothing.
    pub orders: Vec<Order>,
}

/// One terminal's director repository, as files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Documents {
    /// Version of all three documents.
    pub version: u64,
    /// `<version>.targets.json`.
    pub targets: Vec<u8>,
    /// `<version>.snapshot.json`.
    pub snapshot: Vec<u8>,
    /// `timestamp.json`.
    pub timestamp: Vec<u8>,
}

/// Version and validity of a terminal's documents at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// Version of all three documents.
    pub version: u64,
    /// Start of the window, Unix s.
    pub issued_at: i64,
    /// Unix s.
    pub expires_at: i64,
}

/// Where a terminal's windows start: spreads renewals evenly over the window.
fn phase_s(terminal: TerminalId) -> i64 {
    let digest = tillward_protocol::crypto::sha256(&terminal.0.to_be_bytes());
    let mut head = [0_u8; 8];
    head.copy_from_slice(&digest[..8]);
    i64::try_from(u64::from_be_bytes(head) % WINDOW_S.unsigned_abs()).unwrap_or(0)
}

/// The window that `now_s` lies in.
fn window_at(terminal: TerminalId, now_s: i64) -> i64 {
    now_s.saturating_add(phase_s(terminal)).div_euclid(WINDOW_S).clamp(0, (1 << WINDOW_BITS) - 1)
}

/// Assignment version and window of a document version.
fn parts(version: u64) -> (u64, i64) {
    (version >> WINDOW_BITS, i64::try_from(version & ((1 << WINDOW_BITS) - 1)).unwrap_or(0))
}

fn in_window(terminal: TerminalId, assignment_version: i64, window: i64) -> Validity {
    let issued_at = window * WINDOW_S - phase_s(terminal);
    let version = (assignment_version.max(0).unsigned_abs() << WINDOW_BITS) + window.unsigned_abs();
    Validity { version, issued_at, expires_at: issued_at + LIFE_S }
}

/// Version and validity of the documents of `terminal` at `now_s`.
///
/// `seen` is the highest version that the terminal says it has. A replica whose clock is a little behind then signs one
/// window ahead, at most, instead of offering what looks like a step back.
pub fn validity(terminal: TerminalId, assignment_version: i64, now_s: i64, seen: Option<u64>) -> Validity {
    let own = window_at(terminal, now_s);
    let next = (assignment_version.unsigned_abs(), own + 1);
    let is_one_behind = seen.is_some_and(|version| parts(version) == next);
    in_window(terminal, assignment_version, if is_one_behind { own + 1 } else { own })
}

/// Signs the documents of one terminal.
///
/// # Errors
/// Missing keys or a time out of the calendar.
pub fn documents(keys: &KeyRing, desired: &Desired, now_s: i64, seen: Option<u64>) -> Result<Documents, DocumentError> {
    sign_for(keys, desired, validity(desired.terminal_id, desired.assignment_version, now_s, seen))
}

/// Signs the documents of one terminal for a validity chosen by the caller. [`documents`] is the way for live terminals.
///
/// # Errors
/// Missing keys or a time out of the calendar.
pub fn sign_for(keys: &KeyRing, desired: &Desired, validity: Validity) -> Result<Documents, DocumentError> {
    let entries: BTreeMap<String, Value> = desired
        .orders
        .iter()
        .map(|order| (order.entry.name.to_string(), order.entry.director_json(order.assignment)))
        .collect();
    let Validity { version, issued_at, expires_at } = validity;
    let mut signed = document::targets(version, expires_at, &entries)?;
    signed["custom"] = json!(DirectorCustom {
        terminal_id: desired.terminal_id,
        assignment_version: desired.assignment_version,
        issued_at,
    });
    let targets = document::sign(&signed, &keys.role(KeyRole::DirectorTargets).keys)?;
    let pins = BTreeMap::from([("targets.json".to_owned(), document::pin(version, &targets))]);
    let signed = document::snapshot(version, expires_at, &pins)?;
    let snapshot = document::sign(&signed, &keys.role(KeyRole::DirectorSnapshot).keys)?;
    let signed = document::timestamp(version, expires_at, document::pin(version, &snapshot))?;
    let timestamp = document::sign(&signed, &keys.role(KeyRole::DirectorTimestamp).keys)?;
    Ok(Documents { version, targets, snapshot, timestamp })
}

/// The director's root document, shared by the fleet.
///
/// # Errors
/// Missing keys or a time out of the calendar.
pub fn root(keys: &KeyRing, version: u64, expires_s: i64) -> Result<Vec<u8>, DocumentError> {
    let roles = document::TopRoles {
        root: keys.role(KeyRole::DirectorRoot),
        targets: keys.role(KeyRole::DirectorTargets),
        snapshot: keys.role(KeyRole::DirectorSnapshot),
        timestamp: keys.role(KeyRole::DirectorTimestamp),
    };
    document::sign(&document::root(version, expires_s, roles, keys.custody())?, &roles.root.keys)
}

/// The director: its root in storage, and the keys for everybody's documents.
#[derive(Debug)]
pub struct Director {
    blobs: Blobs,
    keys: KeyRing,
}

impl Director {
    /// The director over `blobs`. Its first renewal makes the root where there is none.
    pub fn new(blobs: Blobs, keys: KeyRing) -> Self {
        Self { blobs, keys }
    }

    /// Follows the root by a new one when less than half of its life is left.
    ///
    /// # Errors
    /// A root of other keys, storage.
    pub async fn renew(&self, now_s: i64) -> Result<(), RootError> {
        let build = |version, expires_s| root(&self.keys, version, expires_s);
        roots::ensure(&self.blobs, METADATA, self.keys.role(KeyRole::DirectorRoot), &build, now_s).await?;
        Ok(())
    }

    /// A root of the director by its published name (`3.root.json`); `None` for any other name.
    ///
    /// # Errors
    /// Storage.
    pub async fn root_file(&self, name: &str) -> Result<Option<Bytes>, BlobError> {
        let version = name.strip_suffix(".root.json").filter(|_| is_metadata_name(name));
        let version = version.and_then(|version| version.parse::<u64>().ok());
        let Some(version) = version else { return Ok(None) };
        Ok(self.blobs.document(&format!("{METADATA}/{version}.root.json")).await?.map(|found| found.bytes))
    }

    /// A file of one terminal's repository but its roots: `timestamp.json`, `<n>.snapshot.json`, `<n>.targets.json`.
    ///
    /// `seen` is that of [`validity`]. Numbered files are made again for the neighbouring windows too, so that a client
    /// that read the timestamp at the end of a window finds the rest of it.
    ///
    /// # Errors
    /// Signing.
    pub fn file(
        &self,
        desired: &Desired,
        name: &str,
        now_s: i64,
        seen: Option<u64>,
    ) -> Result<Option<Vec<u8>>, DocumentError> {
        if name == "timestamp.json" {
            return Ok(Some(documents(&self.keys, desired, now_s, seen)?.timestamp));
        }
        let Some((version, kind)) = name.split_once('.').filter(|_| is_metadata_name(name)) else { return Ok(None) };
        let Ok(version) = version.parse::<u64>() else { return Ok(None) };
        let (assignment_version, window) = parts(version);
        let is_near = (window - window_at(desired.terminal_id, now_s)).abs() <= 1;
        if assignment_version != desired.assignment_version.unsigned_abs() || !is_near {
            return Ok(None);
        }
        let validity = in_window(desired.terminal_id, desired.assignment_version, window);
        let made = sign_for(&self.keys, desired, validity)?;
        Ok(match kind {
            "targets.json" => Some(made.targets),
            "snapshot.json" => Some(made.snapshot),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signing::gate;
    use crate::signing::keys::tests_support::ring;
    use std::collections::BTreeMap;

    const NOW_S: i64 = 1_795_392_000;

    fn desired(version: i64) -> Desired {
        let entry = TargetEntry {
            name: "demo-p1.os.4.2.0-42.bin".parse().unwrap(),
            length: 3,
            sha256: tillward_protocol::ids::Sha256Hex::of(b"abc"),
            matches: serde_json::from_value(json!({"hardware_ids":["demo-p1"],"component":"os","version":"4.2.0",
                "release_counter":42}))
            .unwrap(),
        };
        Desired {
            terminal_id: TerminalId(7),
            assignment_version: version,
            orders: vec![Order { assignment: 9, entry }],
        }
    }

    #[test]
    fn two_replicas_give_the_same_bytes_within_one_window() {
        let start = validity(TerminalId(7), 1, NOW_S, None).issued_at;
        let one = documents(&ring(), &desired(1), start, None).unwrap();
        assert_eq!(one, documents(&ring(), &desired(1), start + WINDOW_S - 1, None).unwrap());
        assert_ne!(one, documents(&ring(), &desired(1), start + WINDOW_S, None).unwrap());
    }

    #[test]
    fn the_version_rises_with_every_window_and_every_change_of_orders() {
        let at = |version, now| validity(TerminalId(7), version, now, None).version;
        assert_eq!(at(1, NOW_S + WINDOW_S), at(1, NOW_S) + 1);
        assert!(at(2, NOW_S) > at(1, NOW_S + 10_000 * WINDOW_S));
    }

    #[test]
    fn a_document_has_at_least_half_of_its_life_left_whenever_it_is_signed() {
        for terminal in 1..200 {
            let validity = validity(TerminalId(terminal), 1, NOW_S, None);
            assert!(validity.issued_at <= NOW_S && validity.expires_at - NOW_S >= WINDOW_S);
        }
    }

    #[test]
    fn a_replica_whose_clock_is_behind_follows_the_terminal_one_window_and_no_further() {
        let own = validity(TerminalId(7), 3, NOW_S, None);
        assert_eq!(validity(TerminalId(7), 3, NOW_S, Some(own.version + 1)).version, own.version + 1);
        assert_eq!(validity(TerminalId(7), 3, NOW_S, Some(own.version + 2)), own);
        assert_eq!(validity(TerminalId(7), 3, NOW_S, Some(own.version - 1)), own);
        // A version of an older order says nothing of this one.
        assert_eq!(validity(TerminalId(7), 4, NOW_S, Some(own.version + 1)).version, own.version + (1 << 20));
    }

    #[test]
    fn terminals_renew_at_different_times() {
        let starts: std::collections::BTreeSet<i64> =
            (1..=1000).map(|id| validity(TerminalId(id), 1, NOW_S, None).issued_at % WINDOW_S).collect();
        assert!(starts.len() > 950);
    }

    #[tokio::test]
    async fn a_client_that_crosses_the_end_of_a_window_still_finds_what_the_timestamp_named() {
        let director = Director::new(Blobs::in_memory(), ring());
        let start = validity(TerminalId(7), 1, NOW_S, None);
        let end = start.issued_at + WINDOW_S;
        let made = documents(&ring(), &desired(1), end - 1, None).unwrap();
        let name = |kind: &str| format!("{}.{kind}.json", start.version);
        for now in [start.issued_at, end - 1, end, end + WINDOW_S - 1] {
            assert_eq!(director.file(&desired(1), &name("targets"), now, None).unwrap(), Some(made.targets.clone()));
            assert_eq!(director.file(&desired(1), &name("snapshot"), now, None).unwrap(), Some(made.snapshot.clone()));
        }
        assert_eq!(director.file(&desired(1), &name("targets"), end + WINDOW_S, None).unwrap(), None);
        assert_eq!(director.file(&desired(2), &name("targets"), end, None).unwrap(), None, "the order changed");
        for other in ["x.targets.json", "targets.json", &name("root"), "", ".", "1.root.json"] {
            assert_eq!(director.file(&desired(1), other, end, None).unwrap(), None, "{other}");
        }
    }

    #[tokio::test]
    async fn servers_that_share_storage_share_one_root_and_renew_it_in_a_chain() {
        let blobs = Blobs::in_memory();
        let one = Director::new(blobs.clone(), ring());
        let two = Director::new(blobs, ring());
        one.renew(NOW_S).await.unwrap();
        two.renew(NOW_S + 9).await.unwrap();
        let first = one.root_file("1.root.json").await.unwrap().unwrap();
        assert_eq!(two.root_file("1.root.json").await.unwrap().unwrap(), first);
        assert_eq!(two.root_file("2.root.json").await.unwrap(), None);
        two.renew(NOW_S + 200 * 86_400).await.unwrap();
        let second = one.root_file("2.root.json").await.unwrap().unwrap();
        tillward_protocol::crypto::install();
        let mut trusted = sigstore_tuf::TrustedMetadataSet::from_root(&first).unwrap();
        trusted.update_root(&second).unwrap();
        for other in ["timestamp.json", "root.json", "x.root.json", "../1.root.json", "+1.root.json"] {
            assert_eq!(one.root_file(other).await.unwrap(), None, "{other}");
        }
    }

    #[tokio::test]
    async fn a_stock_client_accepts_the_documents_and_finds_terminal_and_order_in_them() {
        tillward_protocol::crypto::install();
        let root = root(&ring(), 1, NOW_S + 1000).unwrap();
        let made = documents(&ring(), &desired(5), NOW_S, None).unwrap();
        let files = BTreeMap::from([
            (format!("{}.targets.json", made.version), made.targets),
            (format!("{}.snapshot.json", made.version), made.snapshot),
            ("timestamp.json".to_owned(), made.timestamp),
        ]);
        let mut updater = sigstore_tuf::Updater::new(gate::Files::new(files), &root).unwrap();
        updater.refresh(jiff::Timestamp::from_second(NOW_S).unwrap()).await.unwrap();
        let targets = updater.trusted().targets_role("targets").unwrap();
        let custom: DirectorCustom = serde_json::from_value(targets.extra["custom"].clone()).unwrap();
        assert_eq!((custom.terminal_id, custom.assignment_version), (TerminalId(7), 5));
        assert!(targets.delegations.is_none());
        let entry = targets.target("demo-p1.os.4.2.0-42.bin").unwrap();
        assert_eq!(entry.custom.as_ref().unwrap()["assignment"], 9);
        assert_eq!(updater.trusted().root().extra["x-tillward-mode"], "quickstart");
    }
}
