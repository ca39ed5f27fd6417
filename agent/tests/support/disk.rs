//! A disk that loses what was not forced: works out from the operations of a real run what a power cut can leave.
//!
//! Content reaches the disk when its file is forced, names when their folder is. Until then each write may be kept, lost
//! or torn at 512 bytes, each name made, moved or removed or not, all independently of each other: worse than any real
//! file system.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What a disk writes as a whole, bytes.
const SECTOR_BYTES: usize = 512;

/// Decides what becomes of one operation: a number below `choices`.
pub type Choose<'a> = &'a mut dyn FnMut(usize) -> usize;

#[derive(Clone)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Cut { length: usize },
}

#[derive(Clone, Default)]
struct Content {
    is_folder: bool,
    forced: Vec<u8>,
    unforced: Vec<Change>,
}

#[derive(Clone)]
enum Name {
    Made { path: PathBuf, content: usize },
    Moved { from: PathBuf, to: PathBuf },
    Removed { path: PathBuf },
}

impl Name {
    fn folder(&self) -> &Path {
        let (Self::Made { path, .. } | Self::Moved { to: path, .. } | Self::Removed { path }) = self;
        path.parent().unwrap()
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Made { path, content } => {
                names.insert(path.clone(), *content);
            }
            Self::Moved { from, to } => {
                if let Some(content) = names.remove(from) {
                    names.insert(to.clone(), content);
                }
            }
            Self::Removed { path } => {
                names.remove(path);
            }
        }
    }
}

/// The files of one terminal.
#[derive(Clone)]
pub struct Disk {
    root: PathBuf,
    contents: Vec<Content>,
    /// Names as programs see them.
    names: BTreeMap<PathBuf, usize>,
    forced_names: BTreeMap<PathBuf, usize>,
    unforced_names: Vec<Name>,
}

impl Disk {
    /// All that is below `root` now, forced.
    pub fn of(root: &Path) -> Self {
        let mut disk = Self {
            root: root.to_owned(),
            contents: Vec::new(),
            names: BTreeMap::new(),
            forced_names: BTreeMap::new(),
            unforced_names: Vec::new(),
        };
        disk.take_in(root);
        disk.forced_names = disk.names.clone();
        disk
    }

    fn take_in(&mut self, folder: &Path) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let is_folder = path.is_dir();
            let forced = if is_folder { Vec::new() } else { std::fs::read(&path).unwrap() };
            self.names.insert(path.clone(), self.contents.len());
            self.contents.push(Content { is_folder, forced, unforced: Vec::new() });
            if is_folder {
                self.take_in(&path);
            }
        }
    }

    /// Takes in what a program did, from its trace.
    pub fn replay(&mut self, trace: &str) {
        for line in trace.lines() {
            let parts: Vec<&str> = line.split('\t').collect();
            let path = PathBuf::from(parts[1]);
            match parts[0] {
                "open" => {
                    self.make(&path, false);
                    if parts[2] == "true" {
                        self.change(&path, Change::Cut { length: 0 });
                    }
                }
                "write" => {
                    let (at, bytes) = (parts[2].parse().unwrap(), hex::decode(parts[3]).unwrap());
                    self.change(&path, Change::Write { at, bytes });
                }
                "cut" => self.change(&path, Change::Cut { length: parts[2].parse().unwrap() }),
                "force" => self.force(&path),
                "rename" => self.rename(Name::Moved { from: path, to: parts[2].into() }),
                "remove" => self.rename(Name::Removed { path }),
                "folder" => self.make(&path, true),
                other => panic!("the trace says {other:?}"),
            }
        }
    }

    fn make(&mut self, path: &Path, is_folder: bool) {
        if !self.names.contains_key(path) {
            let content = self.contents.len();
            self.contents.push(Content { is_folder, ..Content::default() });
            self.rename(Name::Made { path: path.to_owned(), content });
        }
    }

    fn rename(&mut self, name: Name) {
        name.apply(&mut self.names);
        self.unforced_names.push(name);
    }

    fn change(&mut self, path: &Path, change: Change) {
        let content = &mut self.contents[self.names[path]];
        let is_nothing = matches!(change, Change::Cut { length } if content.seen().len() == length);
        if !is_nothing {
            content.unforced.push(change);
        }
    }

    fn force(&mut self, path: &Path) {
        if path == self.root || self.contents[self.names[path]].is_folder {
            let (forced, rest) =
                std::mem::take(&mut self.unforced_names).into_iter().partition(|name| name.folder() == path);
            self.unforced_names = rest;
            let forced: Vec<Name> = forced;
            forced.iter().for_each(|name| name.apply(&mut self.forced_names));
        } else {
            let content = &mut self.contents[self.names[path]];
            content.forced = content.seen();
            content.unforced.clear();
        }
    }

    /// Operations that a power cut now could undo.
    pub fn unforced(&self) -> usize {
        self.unforced_names.len() + self.contents.iter().map(|content| content.unforced.len()).sum::<usize>()
    }

    /// Puts below the root what a power cut leaves there, as `choose` decides.
    pub fn cut_power(&self, choose: Choose<'_>) {
        let mut names = self.forced_names.clone();
        for name in &self.unforced_names {
            if choose(2) == 1 {
                name.apply(&mut names);
            }
        }
        for entry in std::fs::read_dir(&self.root).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { std::fs::remove_dir_all(&path).unwrap() } else { std::fs::remove_file(&path).unwrap() }
        }
        // Contents are decided in one order, whatever their names are by now.
        let left: Vec<Vec<u8>> = self.contents.iter().map(|content| content.left(choose)).collect();
        for (path, &content) in &names {
            if !path.parent().unwrap().is_dir() {
                // Its folder is lost, and it with it.
            } else if self.contents[content].is_folder {
                std::fs::create_dir(path).unwrap();
            } else {
                std::fs::write(path, &left[content]).unwrap();
            }
        }
    }
}

impl Content {
    /// As programs see it.
    fn seen(&self) -> Vec<u8> {
        self.left(&mut |choices| choices - 1)
    }

    /// What a power cut leaves of it. The last choice keeps a change whole.
    fn left(&self, choose: Choose<'_>) -> Vec<u8> {
        let mut bytes = self.forced.clone();
        for change in &self.unforced {
            match change {
                Change::Cut { length } => {
                    if choose(2) == 1 {
                        bytes.resize(*length, 0);
                    }
                }
                Change::Write { at, bytes: new } => match choose(3) {
                    0 => {}
                    1 => torn(&mut bytes, *at, new),
                    _ => put(&mut bytes, *at, new),
                },
            }
        }
        bytes
    }
}

fn put(bytes: &mut Vec<u8>, at: usize, new: &[u8]) {
    if bytes.len() < at + new.len() {
        bytes.resize(at + new.len(), 0);
    }
    bytes[at..at + new.len()].copy_from_slice(new);
}

/// Every other sector arrives; the length does.
fn torn(bytes: &mut Vec<u8>, at: usize, new: &[u8]) {
    let before = bytes.clone();
    put(bytes, at, new);
    for sector in (at / SECTOR_BYTES..(at + new.len()).div_ceil(SECTOR_BYTES)).skip(1).step_by(2) {
        let (first, end) = ((sector * SECTOR_BYTES).max(at), ((sector + 1) * SECTOR_BYTES).min(at + new.len()));
        for (index, byte) in bytes.iter_mut().enumerate().take(end).skip(first) {
            *byte = before.get(index).copied().unwrap_or(0);
        }
    }
}
