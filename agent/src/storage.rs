//! Every change this program makes to a disk goes through here, one small operation at a time.
//!
//! Whole files are replaced by temporary name, write, fsync, rename, fsync of the folder: after a power cut the old or
//! the new file is there, never a mixture. With the feature `fail-points` a test ends the program before its n-th
//! operation (`TILLWARD_AGENT_FAIL_AT=n`), or in the middle of it (`TILLWARD_AGENT_FAIL_TORN=1`), and learns what was
//! done up to then (`TILLWARD_AGENT_TRACE=file`), to work out what a power cut can make of it.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// One operation that was done. What it says is read by tests only.
#[cfg_attr(not(feature = "fail-points"), allow(dead_code))]
enum Done<'a> {
    Opened { path: &'a Path, emptied: bool },
    Wrote { file: &'a File, bytes: &'a [u8] },
    Cut { file: &'a File, length: u64 },
    Forced { file: &'a File },
    Renamed { from: &'a Path, to: &'a Path },
    Removed { path: &'a Path },
    Folder { path: &'a Path },
}

/// Who may read a new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    /// The system's default.
    Anyone,
    /// Its owner only: keys.
    Owner,
}

/// Replaces `path` by `bytes`, durably.
///
/// # Errors
/// Whatever the disk says; the old file is then still there.
pub fn replace(path: &Path, bytes: &[u8], readers: Readers) -> io::Result<()> {
    let temporary = write_beside(path, bytes, readers)?;
    sync(&File::open(&temporary)?)?;
    rename(&temporary, path)?;
    sync_parent(path)
}

/// Replaces `path` by `bytes` without forcing it to the disk. Another program sees the old or the new content; after a
/// power cut there may be anything, which the reader must take for nothing.
///
/// # Errors
/// Whatever the disk says; the old file is then still there.
pub fn replace_unforced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = write_beside(path, bytes, Readers::Anyone)?;
    rename(&temporary, path)
}

fn write_beside(path: &Path, bytes: &[u8], readers: Readers) -> io::Result<std::path::PathBuf> {
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(".new");
    let temporary = path.with_file_name(name);
    fail_point::pass();
    let mode = match readers {
        Readers::Anyone => 0o644,
        Readers::Owner => 0o600,
    };
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
    fail_point::done(&Done::Opened { path: &temporary, emptied: true });
    write(&mut file, bytes)?;
    Ok(temporary)
}

/// Writes `bytes` where `file` stands.
///
/// # Errors
/// Whatever the disk says.
pub fn write(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    if fail_point::tears() {
        // Half of it reaches the disk, then the power is gone.
        let _ = file.write_all(bytes.get(..bytes.len() / 2).unwrap_or_default());
    }
    fail_point::pass();
    file.write_all(bytes)?;
    fail_point::done(&Done::Wrote { file, bytes });
    Ok(())
}

/// Overwrites `file` from its start with exactly `bytes` and forces them to the disk.
///
/// # Errors
/// Whatever the disk says; the content is then undefined.
pub fn overwrite(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    file.seek(SeekFrom::Start(0))?;
    write(file, bytes)?;
    truncate(file, bytes.len() as u64)?;
    sync(file)
}

/// Opens `path` for reading and writing, creating it if it is not there.
///
/// # Errors
/// Whatever the disk says.
pub fn open(path: &Path) -> io::Result<File> {
    fail_point::pass();
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    fail_point::done(&Done::Opened { path, emptied: false });
    Ok(file)
}

/// Cuts `file` to `length` bytes.
///
/// # Errors
/// Whatever the disk says.
pub fn truncate(file: &File, length: u64) -> io::Result<()> {
    fail_point::pass();
    file.set_len(length)?;
    fail_point::done(&Done::Cut { file, length });
    Ok(())
}

/// Forces `file` to the disk.
///
/// # Errors
/// Whatever the disk says.
pub fn sync(file: &File) -> io::Result<()> {
    fail_point::pass();
    file.sync_all()?;
    fail_point::done(&Done::Forced { file });
    Ok(())
}

/// Renames within one folder.
///
/// # Errors
/// Whatever the disk says.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fail_point::pass();
    std::fs::rename(from, to)?;
    fail_point::done(&Done::Renamed { from, to });
    Ok(())
}

/// Removes a file; one that is not there is removed already.
///
/// # Errors
/// Whatever the disk says.
pub fn remove(path: &Path) -> io::Result<()> {
    fail_point::pass();
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => {
            fail_point::done(&Done::Removed { path });
            Ok(())
        }
    }
}

/// Creates a folder and those above it.
///
/// # Errors
/// Whatever the disk says.
pub fn create_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    if let Some(above) = above {
        create_folder(above)?;
    }
    fail_point::pass();
    match std::fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    fail_point::done(&Done::Folder { path });
    sync_parent(path)
}

/// Forces the entries of the folder that holds `path` to the disk.
///
/// # Errors
/// Whatever the disk says.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    sync(&File::open(folder)?)
}

/// The content of `path`, `None` if it is not there, an error if it is longer than `bytes_max`.
///
/// # Errors
/// Whatever the disk says, and `InvalidData` for a file that is too long.
pub fn read(path: &Path, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
    use io::Read;
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        let text = format!("{} is longer than {bytes_max} bytes", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(Some(bytes))
}

#[cfg(not(feature = "fail-points"))]
#[path = "no_fail_points.rs"]
mod fail_point;
#[cfg(feature = "fail-points")]
#[path = "fail_points.rs"]
mod fail_point;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_has_the_new_content_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        replace(&path, b"old", Readers::Anyone).unwrap();
        replace(&path, b"new", Readers::Owner).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_too_long_is_an_error_and_a_missing_one_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        assert_eq!(read(&path, 2).unwrap(), None);
        std::fs::write(&path, b"abc").unwrap();
        assert_eq!(read(&path, 3).unwrap().as_deref(), Some(&b"abc"[..]));
        assert_eq!(read(&path, 2).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
