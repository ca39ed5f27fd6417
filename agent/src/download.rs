//! Streams a payload to its place while hashing it. Resumes where an earlier try ended, after hashing again what is
//! already there; a saved hash state is never trusted. Fixed memory, whatever the size.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use tillward_protocol::ids::{Sha256Hex, TargetName};
use tillward_protocol::phase::Reason;
use tillward_protocol::trust::Refused;
use ureq::Body;
use ureq::http::{Response, header};

use crate::client::Client;
use crate::slots::{Hash, in_blocks};
use crate::storage;
use crate::tuf::call_refusal;

/// Bytes written at once.
const BLOCK_BYTES: usize = 16 * 1024;
/// Bytes between two forced writes: what a power cut can cost.
const SYNC_BYTES: u64 = 4 * 1024 * 1024;
/// The speed is looked at over this long.
const SPEED_WINDOW: Duration = Duration::from_secs(60);
/// Slower than this is an attack or a line that is no use, bytes per second (GPRS gives ten times as much).
const SPEED_MIN_BYTES_PER_S: u64 = 200;
/// Longest time for one try.
const TRY_MAX: Duration = Duration::from_secs(12 * 3600);

/// What to fetch.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// Where it is.
    pub url: &'a str,
    /// Its name, for refusals.
    pub name: &'a TargetName,
    /// Its exact length, bytes.
    pub length: u64,
    /// Its digest.
    pub sha256: &'a Sha256Hex,
    /// Entity tag of the earlier try.
    pub etag: Option<String>,
}

/// Why a payload did not become complete.
#[derive(Debug)]
pub enum Incomplete {
    /// Refused, or not now.
    Refused(Refused),
    /// The caller broke it off.
    Stopped,
}

impl From<Refused> for Incomplete {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

/// What the caller hears while a payload comes in.
pub trait Listener {
    /// The server names this entity tag.
    fn tagged(&mut self, etag: &str);
    /// So many bytes are here; break off?
    fn received(&mut self, offset: u64) -> ControlFlow<()>;
}

/// Makes the file at `path` the whole payload.
///
/// # Errors
/// A refusal (the bytes are then useless and the caller deletes them), a transient reason (they stay, to be resumed), or
/// that the caller broke off.
pub fn fetch(client: &Client, wanted: &Wanted<'_>, path: &Path, listener: &mut dyn Listener) -> Result<(), Incomplete> {
    let mut part = Part::open(path, wanted.length).map_err(|error| storage_error(&error))?;
    let resumed = part.hash.seen > 0;
    if part.hash.seen < wanted.length || wanted.length == 0 {
        part.receive(client, wanted, listener)?;
    }
    let holds = part.finish(wanted);
    if let (Err(Incomplete::Refused(refused)), true) = (&holds, resumed)
        && refused.reason == Reason::DigestMismatch
    {
        // What was there before may have gone bad. Once more, from the start.
        let mut part = Part::open(path, 0).map_err(|error| storage_error(&error))?;
        part.receive(client, wanted, listener)?;
        return part.finish(wanted);
    }
    holds
}

fn storage_error(error: &io::Error) -> Refused {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Refused::new(Reason::NoSpace, error.to_string()),
        _ => Refused::new(Reason::StorageError, error.to_string()),
    }
}

/// The file, hashed as far as it goes.
struct Part {
    file: File,
    hash: Hash,
    unforced: u64,
}

impl Part {
    /// Opens the file and hashes what is there; more than `length` bytes are of no use and dropped.
    fn open(path: &Path, length: u64) -> io::Result<Self> {
        let mut file = storage::open(path)?;
        storage::sync_parent(path)?;
        let mut hash = Hash::default();
        if file.metadata()?.len() > length {
            storage::truncate(&file, 0)?;
        }
        in_blocks(&mut file, u64::MAX, |block| hash.add(block))?;
        // Whoever wrote this may have been ended before it was forced to the disk.
        let unforced = hash.seen;
        Ok(Self { file, hash, unforced })
    }

    fn start_over(&mut self) -> io::Result<()> {
        storage::truncate(&self.file, 0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.hash = Hash::default();
        Ok(())
    }

    fn receive(&mut self, client: &Client, wanted: &Wanted<'_>, listener: &mut dyn Listener) -> Result<(), Incomplete> {
        let refuse = |reason, what: String| Refused::new(reason, what).about(wanted.name);
        let mut response = self.request(client, wanted)?;
        if let Some(etag) = text(&response, header::ETAG)
            && wanted.etag.as_deref() != Some(etag)
        {
            listener.tagged(etag);
        }
        let declared = response.body().content_length();
        let (started, mut window) = (Instant::now(), (Instant::now(), self.hash.seen));
        let mut block = vec![0; BLOCK_BYTES];
        let mut body = response.body_mut().as_reader();
        loop {
            let count = match body.read(&mut block) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) => return Err(refuse(Reason::NetworkError, error.to_string()).into()),
            };
            let taken = block.get(..count).unwrap_or_default();
            if self.hash.seen + count as u64 > wanted.length {
                let text = format!("goes on after its {} bytes", wanted.length);
                return Err(refuse(Reason::TooLong, text).into());
            }
            self.take(taken).map_err(|error| storage_error(&error))?;
            if listener.received(self.hash.seen).is_break() {
                return Err(Incomplete::Stopped);
            }
            check_speed(&mut window, started, self.hash.seen).map_err(|text| refuse(Reason::NetworkError, text))?;
        }
        if self.hash.seen == wanted.length {
            return Ok(());
        }
        let text = format!("ends after {} of {} bytes", self.hash.seen, wanted.length);
        // With a stated length the connection was cut; without one this is all there is.
        let reason = if declared.is_some() { Reason::NetworkError } else { Reason::Truncated };
        Err(refuse(reason, text).into())
    }

    fn take(&mut self, block: &[u8]) -> io::Result<()> {
        storage::write(&mut self.file, block)?;
        self.hash.add(block);
        self.unforced += block.len() as u64;
        if self.unforced >= SYNC_BYTES {
            storage::sync(&self.file)?;
            self.unforced = 0;
        }
        Ok(())
    }

    /// Asks for what is missing; starts over when the server will not go on from here.
    fn request(&mut self, client: &Client, wanted: &Wanted<'_>) -> Result<Response<Body>, Incomplete> {
        let call = |offset, etag: Option<&str>| {
            client.open_payload(wanted.url, offset, etag).map_err(|error| call_refusal("payload", &error))
        };
        let offset = self.hash.seen;
        let response = call(offset, wanted.etag.as_deref())?;
        if offset > 0 {
            match (response.status().as_u16(), text(&response, header::CONTENT_RANGE).and_then(content_range)) {
                (206, Some((first, total))) if first == offset => {
                    check_length(total, wanted)?;
                    check_encoding(&response, wanted)?;
                    return Ok(response);
                }
                _ => self.start_over().map_err(|error| storage_error(&error))?,
            }
        }
        let response = if response.status().as_u16() == 200 { response } else { call(0, None)? };
        if response.status().as_u16() != 200 {
            let text = format!("the server answered {} to a whole request", response.status().as_u16());
            return Err(Refused::new(Reason::NetworkError, text).about(wanted.name).into());
        }
        check_encoding(&response, wanted)?;
        if let Some(length) = response.body().content_length() {
            check_length(length, wanted)?;
        }
        Ok(response)
    }

    fn finish(mut self, wanted: &Wanted<'_>) -> Result<(), Incomplete> {
        if self.unforced > 0 {
            storage::sync(&self.file).map_err(|error| storage_error(&error))?;
        }
        match std::mem::take(&mut self.hash).finish(wanted.length) {
            (digest, true) if digest == *wanted.sha256 => Ok(()),
            (digest, _) => {
                let text = format!("digest {digest} is not the signed {}", wanted.sha256);
                Err(Refused::new(Reason::DigestMismatch, text).about(wanted.name).into())
            }
        }
    }
}

fn check_speed(window: &mut (Instant, u64), started: Instant, seen: u64) -> Result<(), String> {
    let elapsed = window.0.elapsed();
    if started.elapsed() > TRY_MAX {
        return Err("took too long".to_owned());
    }
    if elapsed < SPEED_WINDOW {
        return Ok(());
    }
    let slow = seen.saturating_sub(window.1) < SPEED_MIN_BYTES_PER_S * elapsed.as_secs();
    *window = (Instant::now(), seen);
    if slow { Err(format!("slower than {SPEED_MIN_BYTES_PER_S} bytes per second")) } else { Ok(()) }
}

/// The length the server states must be the signed one; nothing else is worth a byte.
fn check_length(stated: u64, wanted: &Wanted<'_>) -> Result<(), Refused> {
    let reason = match stated.cmp(&wanted.length) {
        std::cmp::Ordering::Equal => return Ok(()),
        std::cmp::Ordering::Less => Reason::Truncated,
        std::cmp::Ordering::Greater => Reason::TooLong,
    };
    let text = format!("the server has {stated} bytes, signed are {}", wanted.length);
    Err(Refused::new(reason, text).about(wanted.name))
}

fn check_encoding(response: &Response<Body>, wanted: &Wanted<'_>) -> Result<(), Refused> {
    match text(response, header::CONTENT_ENCODING) {
        None | Some("identity") => Ok(()),
        Some(encoding) => {
            let text = format!("the server encoded the payload as {encoding:?}, unasked");
            Err(Refused::new(Reason::NetworkError, text).about(wanted.name))
        }
    }
}

fn text(response: &Response<Body>, name: header::HeaderName) -> Option<&str> {
    response.headers().get(name)?.to_str().ok().map(str::trim)
}

/// First byte and total length of `bytes <first>-<last>/<total>`.
fn content_range(value: &str) -> Option<(u64, u64)> {
    let (range, total) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, total): (u64, u64, u64) = (first.parse().ok()?, last.parse().ok()?, total.parse().ok()?);
    (first <= last && last.checked_add(1) == Some(total)).then_some((first, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_range_is_taken_only_to_the_very_end() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, 10)));
        for bad in
            ["bytes 5-8/10", "bytes 5-9/*", "bytes */10", "5-9/10", "bytes 9-5/10", "bytes 5-18446744073709551615/0"]
        {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_on_the_disk_is_hashed_again_and_too_much_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.part");
        std::fs::write(&path, b"0123456789").unwrap();
        let part = Part::open(&path, 10).unwrap();
        assert_eq!(part.hash.finish(10), (Sha256Hex::of(b"0123456789"), true));
        let part = Part::open(&path, 9).unwrap();
        assert_eq!((part.hash.seen, std::fs::metadata(&path).unwrap().len()), (0, 0));
    }

    #[test]
    fn a_drip_is_too_slow_and_a_slow_line_is_not() {
        let minute_ago = Instant::now().checked_sub(SPEED_WINDOW).unwrap();
        assert!(check_speed(&mut (minute_ago, 0), Instant::now(), 60).is_err());
        assert!(check_speed(&mut (minute_ago, 0), Instant::now(), 60 * 1000).is_ok());
        assert!(check_speed(&mut (Instant::now(), 0), Instant::now(), 0).is_ok());
    }
}
