//! What must survive a power cut: the update's state, the anti-rollback floors, and what the server has yet to hear.
//!
//! Two files, each `magic · version · generation · length · payload · checksum`. A save overwrites the older one and
//! forces it to the disk; loading takes the valid one with the higher generation. When a terminal that is enrolled has
//! no valid copy its trust state is *damaged*: it keeps checking in and refuses to install until it is provisioned
//! again. Deliberately no repair by guessing: a floor that silently returns to zero is a downgrade.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tillward_protocol::ids::{Sha256Hex, TargetName, Version};
use tillward_protocol::manifest::{Component, Refusal};
use tillward_protocol::phase::{Reason, UpdateReport};

use crate::storage;
use crate::update::State;

const MAGIC: &[u8; 8] = b"TWJRNL\0\x01";
const HEADER_BYTES: usize = 8 + 8 + 4;
const CHECKSUM_BYTES: usize = 16;
/// Largest journal, bytes. About 4 KiB is usual; the state folder has 64 KiB in all.
const JOURNAL_BYTES_MAX: u64 = 32 * 1024;
/// Rolled-back releases that are remembered; the oldest is forgotten first.
pub const TRIED_MAX: usize = 16;

/// Smallest metadata versions of one repository that are still accepted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Floors {
    /// Root; never lowered.
    pub root: u64,
    /// Timestamp.
    pub timestamp: u64,
    /// Snapshot.
    pub snapshot: u64,
    /// Top-level targets.
    pub targets: u64,
    /// Digest over the online keys; when a new root replaces them the three floors above start again.
    pub online_keys: String,
}

/// The order under way, as both repositories agreed on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The server's number of it.
    pub assignment: i64,
    /// Version of the director's order it came with.
    pub assignment_version: i64,
    /// What the check-in said when it was looked at.
    pub desired: i64,
    /// Name of the payload.
    pub name: TargetName,
    /// Exact length, bytes.
    pub length: u64,
    /// Digest.
    pub sha256: Sha256Hex,
    /// Component it replaces.
    pub component: String,
    /// Version that runs afterwards.
    pub version: Version,
    /// Release counter, committed after a healthy start.
    pub release_counter: u64,
    /// Whether the director wants it fetched over WiFi or cable only.
    #[serde(default)]
    pub wifi_only: bool,
    /// Entity tag of the payload, for resuming.
    #[serde(default)]
    pub etag: Option<String>,
    /// Interrupted downloads that were resumed.
    #[serde(default)]
    pub resumed: u32,
}

/// Everything that is kept.
///
/// Fields that are not known are passed over: after new firmware was taken back, an older agent reads what a newer one
/// wrote, and must find its floors in it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Journal {
    /// Where the update stands.
    pub update: State,
    /// The order it works on.
    pub order: Option<Order>,
    /// Highest director order that is finished with, well or badly; only from documents that verified.
    pub finished: i64,
    /// What the check-in said when a document that did not verify was refused: not looked at again while it says the
    /// same. Not a floor, because nobody signed it.
    pub refused_desired: Option<i64>,
    /// Withdrawn release whose payload is kept while nothing is under way.
    pub kept: Option<Sha256Hex>,
    /// What to tell the server.
    pub report: Option<UpdateReport>,
    /// The last refusal, until an update succeeds.
    pub refusal: Option<Refusal>,
    /// Releases that ran here and were taken back: never tried again by the agent itself.
    pub tried: Vec<Sha256Hex>,
    /// Installed components.
    pub components: Vec<Component>,
    /// Highest committed release counter by component.
    pub committed: BTreeMap<String, u64>,
    /// Floors of the image repository.
    pub image: Floors,
    /// Floors of the director.
    pub director: Floors,
    /// Version of the last director document that verified.
    pub director_version: u64,
    /// Latest time that signed metadata proved, Unix s.
    pub time_floor_s: i64,
    /// Counter of the last manifest that was signed.
    pub manifest_counter: u64,
    /// Digest of the last manifest content that the server took note of.
    pub manifest_known: Option<Sha256Hex>,
    /// Highest stream of check-ins ever used.
    pub stream: u32,
    /// Starts of this agent.
    pub starts: u32,
}

impl Journal {
    /// Remembers that `release` was taken back.
    pub fn remember_tried(&mut self, release: &Sha256Hex) {
        if !self.tried.contains(release) {
            self.tried.push(release.clone());
        }
        if self.tried.len() > TRIED_MAX {
            self.tried.remove(0);
        }
    }
}

/// What was found on the disk.
#[derive(Debug, PartialEq)]
pub enum Loaded {
    /// Neither copy exists.
    Missing,
    /// The valid copy with the higher generation.
    Valid(Box<Journal>),
    /// Copies exist and none is valid.
    Damaged,
}

/// The two files.
#[derive(Debug)]
pub struct JournalFiles {
    paths: [PathBuf; 2],
    generations: [u64; 2],
    /// Whether the folder is known to hold this file's name durably: a life before this one may have been cut short.
    named: [bool; 2],
}

impl JournalFiles {
    /// Reads both copies in `folder`.
    ///
    /// # Errors
    /// When the disk cannot be read at all.
    pub fn load(folder: &Path) -> io::Result<(Self, Loaded)> {
        let paths = [folder.join("journal.a"), folder.join("journal.b")];
        let mut generations = [0, 0];
        let mut best: Option<(u64, Journal)> = None;
        let mut exists = false;
        for (path, generation) in paths.iter().zip(&mut generations) {
            let bytes = match storage::read(path, JOURNAL_BYTES_MAX) {
                Ok(Some(bytes)) => bytes,
                Ok(None) => continue,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => Vec::new(),
                Err(error) => return Err(error),
            };
            exists = true;
            if let Some((found, journal)) = decode(&bytes) {
                *generation = found;
                if best.as_ref().is_none_or(|(known, _)| found > *known) {
                    best = Some((found, journal));
                }
            }
        }
        let loaded = match (best, exists) {
            (Some((_, journal)), _) => Loaded::Valid(Box::new(journal)),
            (None, true) => Loaded::Damaged,
            (None, false) => Loaded::Missing,
        };
        Ok((Self { paths, generations, named: [false; 2] }, loaded))
    }

    /// Writes the older copy and forces it to the disk.
    ///
    /// # Errors
    /// Whatever the disk says; the newer copy is untouched.
    pub fn save(&mut self, journal: &Journal) -> io::Result<()> {
        let generation = self.generations[0].max(self.generations[1]).saturating_add(1);
        let older = usize::from(self.generations[1] < self.generations[0]);
        let bytes = encode(generation, journal)?;
        let path = &self.paths[older];
        let mut file = storage::open(path)?;
        storage::overwrite(&mut file, &bytes)?;
        if !self.named[older] {
            storage::sync_parent(path)?;
            self.named[older] = true;
        }
        self.generations[older] = generation;
        Ok(())
    }
}

fn encode(generation: u64, journal: &Journal) -> io::Result<Vec<u8>> {
    let payload = serde_json::to_vec(journal)?;
    let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len() + CHECKSUM_BYTES);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&generation.to_be_bytes());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&payload);
    let checksum = tillward_protocol::crypto::sha256(&bytes);
    bytes.extend_from_slice(&checksum[..CHECKSUM_BYTES]);
    Ok(bytes)
}

fn decode(bytes: &[u8]) -> Option<(u64, Journal)> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let generation = u64::from_be_bytes(rest.get(..8)?.try_into().ok()?);
    let length = usize::try_from(u32::from_be_bytes(rest.get(8..12)?.try_into().ok()?)).ok()?;
    let payload = rest.get(12..12usize.checked_add(length)?)?;
    let checked = bytes.get(..HEADER_BYTES + length)?;
    let checksum = bytes.get(HEADER_BYTES + length..)?;
    if checksum != &tillward_protocol::crypto::sha256(checked)[..CHECKSUM_BYTES] {
        return None;
    }
    Some((generation, read(payload)?))
}

/// Without what is only to be told, when a newer agent used a word for it that this one does not know.
fn read(payload: &[u8]) -> Option<Journal> {
    let mut fields = crate::json::object(payload).ok()?;
    if let Ok(journal) = serde_json::from_value(serde_json::Value::Object(fields.clone())) {
        return Some(journal);
    }
    fields.remove("report");
    fields.remove("refusal");
    if let Some(reason) = fields.get_mut("update").and_then(|update| update.get_mut("taken_back"))
        && serde_json::from_value::<Option<Reason>>(reason.clone()).is_err()
    {
        *reason = Reason::BootFailed.as_str().into();
    }
    serde_json::from_value(serde_json::Value::Object(fields)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tillward_protocol::checkin::Slot;

    fn journal(finished: i64) -> Journal {
        Journal { finished, ..Journal::default() }
    }

    fn load(folder: &Path) -> Loaded {
        JournalFiles::load(folder).unwrap().1
    }

    #[test]
    fn the_newest_valid_copy_wins() {
        let folder = tempfile::tempdir().unwrap();
        let (mut files, loaded) = JournalFiles::load(folder.path()).unwrap();
        assert_eq!(loaded, Loaded::Missing);
        for finished in 1..=5 {
            files.save(&journal(finished)).unwrap();
            assert_eq!(load(folder.path()), Loaded::Valid(Box::new(journal(finished))));
        }
    }

    #[test]
    fn any_damage_to_the_newer_copy_falls_back_to_the_older_one() {
        let folder = tempfile::tempdir().unwrap();
        let (mut files, _) = JournalFiles::load(folder.path()).unwrap();
        files.save(&journal(1)).unwrap();
        files.save(&journal(2)).unwrap();
        let newer = folder.path().join("journal.b");
        let good = std::fs::read(&newer).unwrap();
        for index in 0..good.len() {
            let mut bad = good.clone();
            bad[index] ^= 0x20;
            std::fs::write(&newer, &bad).unwrap();
            assert_eq!(load(folder.path()), Loaded::Valid(Box::new(journal(1))), "byte {index}");
        }
        for length in 0..good.len() {
            std::fs::write(&newer, &good[..length]).unwrap();
            assert_eq!(load(folder.path()), Loaded::Valid(Box::new(journal(1))), "length {length}");
        }
        std::fs::write(&newer, [&good[..], b"x"].concat()).unwrap();
        assert_eq!(load(folder.path()), Loaded::Valid(Box::new(journal(1))));
    }

    #[test]
    fn what_a_newer_agent_wrote_is_read_by_the_one_that_runs_after_a_rollback() {
        let update = State::Trial {
            release: Sha256Hex::of(b"x"),
            slot: Slot::B,
            previous: Slot::A,
            boots_left: 1,
            deadline_s: 9,
            taken_back: Some(Reason::BootFailed),
        };
        let known = Journal { update, finished: 7, time_floor_s: 5, ..Journal::default() };
        let mut newer = crate::json::value(&known);
        newer["surprise"] = serde_json::json!({"a": 1});
        newer["update"]["surprise"] = 1.into();
        newer["update"]["taken_back"] = "new_word".into();
        newer["image"]["surprise"] = 1.into();
        newer["report"] = serde_json::json!({"assignment": 1, "phase": "rolled_back", "reason": "new_word"});
        assert_eq!(read(newer.to_string().as_bytes()), Some(known));
        newer["finished"] = "seven".into();
        assert_eq!(read(newer.to_string().as_bytes()), None);
    }

    #[test]
    fn two_bad_copies_are_damage_and_not_a_fresh_start() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("journal.a"), b"x").unwrap();
        assert_eq!(load(folder.path()), Loaded::Damaged);
    }

    #[test]
    fn a_release_is_remembered_once_and_the_list_is_bounded() {
        let mut journal = Journal::default();
        for n in 0..40_u8 {
            journal.remember_tried(&Sha256Hex::of(&[n]));
            journal.remember_tried(&Sha256Hex::of(&[n]));
        }
        assert_eq!(journal.tried.len(), TRIED_MAX);
        assert_eq!(journal.tried.last(), Some(&Sha256Hex::of(&[39])));
    }
}
