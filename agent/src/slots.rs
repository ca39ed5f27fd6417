//! Where firmware lives: two slots, one of which runs. Behind a small trait, because terminals differ: folders, or a
//! command that calls the terminal's own installer.
//!
//! The slot that runs is never written. A payload is collected under the name of its digest, so that parts of two
//! releases never mix.

use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::Digest;
use tillward_protocol::checkin::Slot;
use tillward_protocol::ids::{Sha256Hex, Version};

use crate::config::{Command, SlotsConfig};
use crate::health;
use crate::storage::{self, Readers};

/// Largest description of a slot, bytes.
const DESCRIPTION_BYTES_MAX: u64 = 4096;

/// What a slot holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Firmware {
    /// Its version.
    pub version: Version,
    /// Digest of its payload; absent for what the terminal came with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256Hex>,
    /// Length of its payload, bytes.
    #[serde(default)]
    pub length: u64,
}

/// What runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// From which slot.
    pub slot: Slot,
    /// Its version.
    pub version: Version,
}

/// The verbs of a terminal's slots. Each may be repeated after a power cut.
pub trait Slots {
    /// What runs now.
    ///
    /// # Errors
    /// When that cannot be found out.
    fn running(&self) -> io::Result<Running>;

    /// Where the payload of `release` for `slot` is collected.
    fn payload(&self, slot: Slot, release: &Sha256Hex) -> PathBuf;

    /// Makes room in `slot` for `release`: removes everything but what is collected of it.
    ///
    /// # Errors
    /// When `slot` runs, or the storage fails.
    fn prepare(&self, slot: Slot, release: &Sha256Hex) -> io::Result<()>;

    /// Puts the collected payload into `slot`.
    ///
    /// # Errors
    /// When the storage or the installer fails.
    fn write(&self, slot: Slot, release: &Sha256Hex, version: &Version) -> io::Result<()>;

    /// Reads `slot` back: a digest, and whether it is one of `length` bytes and the payload ends there.
    ///
    /// # Errors
    /// When it cannot be read.
    fn read_back(&self, slot: Slot, length: u64) -> io::Result<(Sha256Hex, bool)>;

    /// Marks `slot` as one that may be started, after it was read back.
    ///
    /// # Errors
    /// When the storage fails.
    fn mark_bootable(&self, slot: Slot, firmware: &Firmware) -> io::Result<()>;

    /// Makes `slot` the one to start from.
    ///
    /// # Errors
    /// When the storage or the installer fails.
    fn activate(&self, slot: Slot) -> io::Result<()>;

    /// Marks `slot`, which runs, as good.
    ///
    /// # Errors
    /// When the storage or the installer fails.
    fn commit(&self, slot: Slot) -> io::Result<()>;

    /// Deletes what is in `slot` and what was collected for it.
    ///
    /// # Errors
    /// When `slot` runs, or the storage fails.
    fn discard(&self, slot: Slot) -> io::Result<()>;

    /// Sees to it that `slot` cannot be started from and holds nothing but what is collected of `release`, as much of it
    /// as there is.
    ///
    /// # Errors
    /// When `slot` runs, or the storage or the installer fails.
    fn set_aside(&self, slot: Slot, release: &Sha256Hex) -> io::Result<()>;

    /// Deletes what is in `slot` unless it may be started from.
    ///
    /// # Errors
    /// When `slot` runs, or the storage fails.
    fn tidy(&self, slot: Slot) -> io::Result<()>;
}

/// The slot to write while `running` runs.
pub fn other(running: Slot) -> Slot {
    match running {
        Slot::A => Slot::B,
        Slot::B => Slot::A,
        Slot::Single => Slot::Single,
    }
}

/// The slots of this configuration, made ready where they are not yet.
///
/// # Errors
/// When the folders cannot be made.
pub fn open(config: &SlotsConfig, state_dir: &Path) -> io::Result<Box<dyn Slots>> {
    match config {
        SlotsConfig::Directory { dir, initial_version, initial_slot } => {
            DirectorySlots { folder: dir.clone() }.provision(initial_version, *initial_slot)?;
        }
        SlotsConfig::Command { .. } => storage::create_folder(&staging(state_dir))?,
    }
    Ok(look(config, state_dir))
}

/// The slots of this configuration as they are, for those who only look: beside the agent that runs, nobody else may write.
pub fn look(config: &SlotsConfig, state_dir: &Path) -> Box<dyn Slots> {
    match config {
        SlotsConfig::Directory { dir, .. } => Box::new(DirectorySlots { folder: dir.clone() }),
        SlotsConfig::Command { command, timeout_s } => Box::new(CommandSlots {
            command: command.clone(),
            timeout: Duration::from_secs(*timeout_s),
            staging: staging(state_dir),
        }),
    }
}

fn staging(state_dir: &Path) -> PathBuf {
    state_dir.join("staging")
}

/// Two folders, and a file `current` that names the one to start from.
struct DirectorySlots {
    folder: PathBuf,
}

impl DirectorySlots {
    fn provision(&self, version: &Version, slot: Slot) -> io::Result<()> {
        for slot in [Slot::A, Slot::B] {
            storage::create_folder(&self.slot(slot))?;
        }
        if storage::read(&self.current(), 16)?.is_some() {
            return Ok(());
        }
        let description = self.slot(slot).join("slot.json");
        if storage::read(&description, DESCRIPTION_BYTES_MAX)?.is_none() {
            self.mark_bootable(slot, &Firmware { version: version.clone(), sha256: None, length: 0 })?;
        }
        self.activate(slot)
    }

    fn slot(&self, slot: Slot) -> PathBuf {
        self.folder.join(slot.as_str())
    }

    fn current(&self) -> PathBuf {
        self.folder.join("current")
    }

    fn current_slot(&self) -> io::Result<Slot> {
        match storage::read(&self.current(), 16)?.as_deref() {
            Some(b"a\n") => Ok(Slot::A),
            Some(b"b\n") => Ok(Slot::B),
            Some(_) | None => Err(damaged(&self.current())),
        }
    }

    fn refuse_running(&self, slot: Slot) -> io::Result<()> {
        if self.current_slot()? == slot {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "this slot runs and is never written"));
        }
        Ok(())
    }
}

impl Slots for DirectorySlots {
    fn running(&self) -> io::Result<Running> {
        let slot = self.current_slot()?;
        let path = self.slot(slot).join("slot.json");
        let bytes = storage::read(&path, DESCRIPTION_BYTES_MAX)?.ok_or_else(|| damaged(&path))?;
        let firmware: Firmware = crate::json::parse(&bytes)?;
        Ok(Running { slot, version: firmware.version })
    }

    fn payload(&self, slot: Slot, release: &Sha256Hex) -> PathBuf {
        self.slot(slot).join(format!("{release}.part"))
    }

    fn prepare(&self, slot: Slot, release: &Sha256Hex) -> io::Result<()> {
        self.refuse_running(slot)?;
        remove_all_but(&self.slot(slot), Some(&self.payload(slot, release)))
    }

    fn write(&self, slot: Slot, release: &Sha256Hex, _: &Version) -> io::Result<()> {
        self.refuse_running(slot)?;
        let (collected, image) = (self.payload(slot, release), self.slot(slot).join("firmware.bin"));
        if collected.exists() {
            storage::rename(&collected, &image)?;
            storage::sync_parent(&image)?;
        }
        Ok(())
    }

    fn read_back(&self, slot: Slot, length: u64) -> io::Result<(Sha256Hex, bool)> {
        let mut hash = Hash::default();
        let file = std::fs::File::open(self.slot(slot).join("firmware.bin"))?;
        in_blocks(file, length.saturating_add(1), |block| hash.add(block))?;
        Ok(hash.finish(length))
    }

    fn mark_bootable(&self, slot: Slot, firmware: &Firmware) -> io::Result<()> {
        storage::replace(&self.slot(slot).join("slot.json"), &serde_json::to_vec(firmware)?, Readers::Anyone)
    }

    fn activate(&self, slot: Slot) -> io::Result<()> {
        let path = self.slot(slot).join("slot.json");
        if !path.exists() {
            return Err(damaged(&path));
        }
        storage::replace(&self.current(), format!("{}\n", slot.as_str()).as_bytes(), Readers::Anyone)
    }

    fn commit(&self, slot: Slot) -> io::Result<()> {
        if self.current_slot()? == slot { Ok(()) } else { Err(damaged(&self.current())) }
    }

    fn discard(&self, slot: Slot) -> io::Result<()> {
        self.refuse_running(slot)?;
        remove_all_but(&self.slot(slot), None)
    }

    fn set_aside(&self, slot: Slot, release: &Sha256Hex) -> io::Result<()> {
        self.refuse_running(slot)?;
        let (mark, image) = (self.slot(slot).join("slot.json"), self.slot(slot).join("firmware.bin"));
        let collected = self.payload(slot, release);
        let marked: Option<Firmware> =
            storage::read(&mark, DESCRIPTION_BYTES_MAX)?.and_then(|bytes| crate::json::parse(&bytes).ok());
        storage::remove(&mark)?;
        storage::sync_parent(&mark)?;
        let is_of_release = marked.is_none_or(|firmware| firmware.sha256.as_ref() == Some(release));
        if is_of_release && image.exists() && !collected.exists() {
            storage::rename(&image, &collected)?;
            storage::sync_parent(&collected)?;
        }
        remove_all_but(&self.slot(slot), Some(&collected))
    }

    fn tidy(&self, slot: Slot) -> io::Result<()> {
        if self.slot(slot).join("slot.json").exists() { Ok(()) } else { self.discard(slot) }
    }
}

fn damaged(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{} is missing or damaged", path.display()))
}

/// Removes the files in `folder`; the mark that a slot may be started goes first.
fn remove_all_but(folder: &Path, keep: Option<&Path>) -> io::Result<()> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)?.filter_map(Result::ok).map(|entry| entry.path()).collect();
    paths.retain(|path| Some(path.as_path()) != keep);
    paths.sort_by_key(|path| !path.ends_with("slot.json"));
    for path in &paths {
        storage::remove(path)?;
        storage::sync_parent(path)?;
    }
    Ok(())
}

/// The terminal's own installer, called as `<command> <verb> …`:
/// `running` prints `a|b|single <version>`; `write <slot> <file> <version>`; `read <slot>` prints the slot's bytes;
/// `activate <slot>`; `commit <slot>`; `discard <slot>`. Exit code 0 is success.
struct CommandSlots {
    command: Command,
    timeout: Duration,
    staging: PathBuf,
}

impl CommandSlots {
    fn call(&self, arguments: &[&str]) -> io::Result<String> {
        const OUTPUT_BYTES_MAX: usize = 4096;
        let ended = health::run(&self.command, arguments, self.timeout, OUTPUT_BYTES_MAX)?;
        let verb = arguments.first().copied().unwrap_or_default();
        if ended.code != Some(0) {
            return Err(io::Error::other(format!("the installer's {verb} ended with {:?}", ended.code)));
        }
        String::from_utf8(ended.output).map_err(io::Error::other)
    }
}

impl Slots for CommandSlots {
    fn running(&self) -> io::Result<Running> {
        let said = self.call(&["running"])?;
        let not_understood = || io::Error::other(format!("the installer's running said {said:?}"));
        let (slot, version) = said.trim().split_once(' ').ok_or_else(not_understood)?;
        let slot = match slot {
            "a" => Slot::A,
            "b" => Slot::B,
            "single" => Slot::Single,
            _ => return Err(not_understood()),
        };
        Ok(Running { slot, version: version.parse().map_err(|_| not_understood())? })
    }

    fn payload(&self, _: Slot, release: &Sha256Hex) -> PathBuf {
        self.staging.join(format!("{release}.part"))
    }

    fn prepare(&self, slot: Slot, release: &Sha256Hex) -> io::Result<()> {
        remove_all_but(&self.staging, Some(&self.payload(slot, release)))
    }

    fn write(&self, slot: Slot, release: &Sha256Hex, version: &Version) -> io::Result<()> {
        let path = self.payload(slot, release);
        let path = path.to_str().ok_or(io::ErrorKind::InvalidFilename)?;
        self.call(&["write", slot.as_str(), path, version.as_str()]).map(|_| ())
    }

    fn read_back(&self, slot: Slot, length: u64) -> io::Result<(Sha256Hex, bool)> {
        let mut hash = Hash::default();
        let code = health::stream(&self.command, &["read", slot.as_str()], self.timeout, |block| {
            let room = usize::try_from(length.saturating_sub(hash.seen)).unwrap_or(usize::MAX);
            if room < block.len() {
                // A raw partition goes on after the payload; what counts is the payload.
                hash.add(block.get(..room).unwrap_or_default());
                return ControlFlow::Break(());
            }
            hash.add(block);
            ControlFlow::Continue(())
        })?;
        if code.is_some_and(|code| code != 0) {
            return Err(io::Error::other(format!("the installer's read ended with {code:?}")));
        }
        Ok(hash.finish(length))
    }

    fn mark_bootable(&self, _: Slot, _: &Firmware) -> io::Result<()> {
        Ok(())
    }

    fn activate(&self, slot: Slot) -> io::Result<()> {
        self.call(&["activate", slot.as_str()]).map(|_| ())
    }

    fn commit(&self, slot: Slot) -> io::Result<()> {
        self.call(&["commit", slot.as_str()])?;
        remove_all_but(&self.staging, None)
    }

    fn discard(&self, slot: Slot) -> io::Result<()> {
        remove_all_but(&self.staging, None)?;
        self.call(&["discard", slot.as_str()]).map(|_| ())
    }

    fn set_aside(&self, slot: Slot, release: &Sha256Hex) -> io::Result<()> {
        remove_all_but(&self.staging, Some(&self.payload(slot, release)))?;
        self.call(&["discard", slot.as_str()]).map(|_| ())
    }

    fn tidy(&self, _: Slot) -> io::Result<()> {
        remove_all_but(&self.staging, None)
    }
}

/// A running digest and how much went into it.
#[derive(Default)]
pub struct Hash {
    digest: sha2::Sha256,
    /// Bytes so far.
    pub seen: u64,
}

impl Hash {
    /// Takes a block in.
    pub fn add(&mut self, block: &[u8]) {
        self.digest.update(block);
        self.seen += block.len() as u64;
    }

    /// The digest, and whether exactly `length` bytes went in.
    pub fn finish(self, length: u64) -> (Sha256Hex, bool) {
        (Sha256Hex::from_bytes(self.digest.finalize().into()), self.seen == length)
    }
}

/// Reads in fixed blocks and gives each to `take`, up to `length` bytes.
///
/// # Errors
/// Whatever reading says.
pub fn in_blocks(from: impl Read, length: u64, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let mut block = vec![0; 16 * 1024];
    let mut limited = from.take(length);
    loop {
        let count = limited.read(&mut block)?;
        if count == 0 {
            return Ok(());
        }
        take(block.get(..count).unwrap_or_default());
    }
}

#[cfg(test)]
#[path = "slots_tests.rs"]
mod tests;
