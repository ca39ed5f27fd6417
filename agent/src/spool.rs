//! The reports the server has not counted yet. Nothing in here is lost by a power cut, and nothing is counted twice.
//!
//! A report is *sealed* with `(stream, seq)` before its first try and its very bytes are sent again until the server's
//! `acknowledged` covers them; at most one is sealed. Everything new waits for the next one. One file, replaced as a
//! whole; when it is damaged, counting starts in a new stream.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tillward_protocol::checkin::{Acknowledged, CODES_MAX, CheckIn, FAILURES_MAX, PAYMENTS_MAX, TransactionCounters};
use tillward_protocol::failure::Failure;
use tillward_protocol::ids::{Seq, Sha256Hex, Stream};
use tillward_protocol::payment::Payment;
use tillward_protocol::phase::UpdateReport;

use crate::storage::{self, Readers};

/// Largest spool, bytes: about a thousand failures. The oldest payments make room, then the oldest failures, and both
/// are counted.
const SPOOL_BYTES_MAX: usize = 1024 * 1024;
/// Most payments that wait: a busy day without a network. Each event replaces the whole file, so that more would wear out
/// the flash. The oldest make room, and are counted.
pub(crate) const PAYMENTS_WAITING_MAX: usize = 1_000;
/// Events that are remembered so that a file left behind by a power cut is not counted again.
const RECENT_MAX: usize = 256;
/// Highest counter the server takes; the rest goes into the next report.
const COUNT_MAX: u32 = 1_000_000;
/// Refused reports that are kept for a person to look at.
const REFUSED_FILES_MAX: usize = 16;
/// Streams that the server may be ahead: one for each enrolment and each lost spool. Further is no memory of ours, and
/// following it would soon use up all numbers.
const STREAMS_AHEAD_MAX: u32 = 1 << 16;
const HEADER: &str = "tillward spool 1 ";

/// A report whose bytes are fixed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sealed {
    /// Its number.
    pub seq: Seq,
    /// Its bytes.
    pub body: String,
    /// What it says of the update.
    pub update: Option<UpdateReport>,
    /// Digest of the manifest content in it.
    pub manifest: Option<Sha256Hex>,
}

/// Something the payment application reported.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A failed transaction.
    Failure(Box<Failure>),
    /// Counts since its last such report, with an id.
    Counters(String, TransactionCounters),
    /// A successful transaction.
    Payment(Box<Payment>),
}

impl Event {
    fn id(&self) -> &str {
        match self {
            Self::Failure(failure) => &failure.id,
            Self::Counters(id, _) => id,
            Self::Payment(payment) => &payment.id,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Content {
    stream: Stream,
    last_seq: Seq,
    sealed: Option<Sealed>,
    transactions: TransactionCounters,
    failures: VecDeque<Failure>,
    recent: VecDeque<String>,
    dropped: u64,
    refused: u64,
    // An older agent's spool has none of these.
    #[serde(default)]
    payments: VecDeque<Payment>,
    #[serde(default)]
    payments_dropped: u64,
}

/// What goes into one report.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Load {
    /// Counters.
    pub transactions: TransactionCounters,
    /// The oldest failures.
    pub failures: Vec<Failure>,
    /// The oldest payments.
    pub payments: Vec<Payment>,
}

/// What an acknowledgement meant.
#[derive(Debug, Clone, PartialEq)]
pub enum Taken {
    /// The sealed report is counted.
    Counted(Sealed),
    /// The server knows a newer stream: the report got a new number and must be sent again.
    Renumbered,
    /// The report is not counted yet.
    NotYet,
}

/// The spool of one terminal.
#[derive(Debug)]
pub struct Spool {
    path: PathBuf,
    refused_folder: PathBuf,
    content: Content,
    bytes: usize,
}

impl Spool {
    /// Reads the spool in `folder`; without a usable one, starts stream `fresh`.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn load(folder: &Path, fresh: Stream) -> io::Result<(Self, Found)> {
        let path = folder.join("spool.json");
        let (content, found, bytes) = match storage::read(&path, 2 * SPOOL_BYTES_MAX as u64) {
            Ok(Some(bytes)) => match decode(&bytes) {
                Some(content) => (content, Found::Valid, bytes.len()),
                None => (empty(fresh), Found::Damaged, 0),
            },
            Ok(None) => (empty(fresh), Found::Missing, 0),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => (empty(fresh), Found::Damaged, 0),
            Err(error) => return Err(error),
        };
        Ok((Self { path, refused_folder: folder.join("refused"), content, bytes }, found))
    }

    /// Starts counting in `stream`, keeping what waits.
    ///
    /// # Errors
    /// When the disk cannot be written.
    pub fn start_stream(&mut self, stream: Stream) -> io::Result<()> {
        self.change(|content| renumber(content, stream))
    }

    /// The stream in use.
    pub fn stream(&self) -> Stream {
        self.content.stream
    }

    /// Keeps new events; those that are known already change nothing. Returns how many were new.
    ///
    /// # Errors
    /// When the disk cannot be written; then none was taken.
    pub fn add(&mut self, events: Vec<Event>) -> io::Result<usize> {
        let mut content = self.content.clone();
        let mut added = 0;
        for event in events {
            if content.recent.iter().any(|id| id == event.id()) {
                continue;
            }
            content.recent.push_back(event.id().to_owned());
            if content.recent.len() > RECENT_MAX {
                content.recent.pop_front();
            }
            match event {
                Event::Failure(failure) => content.failures.push_back(*failure),
                Event::Counters(_, counters) => add_counters(&mut content.transactions, counters),
                Event::Payment(payment) => content.payments.push_back(*payment),
            }
            added += 1;
        }
        let surplus = content.payments.len().saturating_sub(PAYMENTS_WAITING_MAX);
        drop_payments(&mut content, surplus);
        if added > 0 {
            self.save(content)?;
        }
        Ok(added)
    }

    /// The report that waits for its acknowledgement.
    pub fn sealed(&self) -> Option<&Sealed> {
        self.content.sealed.as_ref()
    }

    /// Seals the next report. `build` gets its number and what goes into it.
    ///
    /// # Errors
    /// When the disk cannot be written; then nothing is sealed.
    pub fn seal(
        &mut self,
        manifest: Option<Sha256Hex>,
        build: impl FnOnce(Stream, Seq, Load) -> CheckIn,
    ) -> io::Result<()> {
        let mut content = self.content.clone();
        let seq = Seq(content.last_seq.0.saturating_add(1));
        let count = content.failures.len().min(FAILURES_MAX);
        let failures = content.failures.drain(..count).collect();
        let count = content.payments.len().min(PAYMENTS_MAX);
        let payments = content.payments.drain(..count).collect();
        let transactions = take_counters(&mut content.transactions);
        let check_in = build(content.stream, seq, Load { transactions, failures, payments });
        let body = serde_json::to_string(&check_in)?;
        content.last_seq = seq;
        content.sealed = Some(Sealed { seq, body, update: check_in.update, manifest });
        self.save(content)
    }

    /// Applies the server's acknowledgement.
    ///
    /// # Errors
    /// When the disk cannot be written; then nothing changes.
    pub fn acknowledge(&mut self, acknowledged: Acknowledged) -> io::Result<Taken> {
        let Some(sealed) = self.content.sealed.clone() else { return Ok(Taken::NotYet) };
        let ours = (self.content.stream, sealed.seq);
        let theirs = (acknowledged.stream, acknowledged.seq);
        if theirs == ours {
            self.change(|content| content.sealed = None)?;
            return Ok(Taken::Counted(sealed));
        }
        if theirs > ours {
            if acknowledged.stream.0.saturating_sub(ours.0.0) > STREAMS_AHEAD_MAX {
                return Ok(Taken::NotYet);
            }
            // More was counted than this agent ever sent: it lost its memory of a newer stream.
            let next = Stream(acknowledged.stream.0.saturating_add(1));
            self.change(|content| renumber(content, next))?;
            return Ok(Taken::Renumbered);
        }
        Ok(Taken::NotYet)
    }

    /// Puts the sealed report aside: the server will never take it.
    ///
    /// # Errors
    /// When the disk cannot be written.
    pub fn refuse(&mut self) -> io::Result<()> {
        let Some(sealed) = self.content.sealed.clone() else { return Ok(()) };
        let name = format!("report-{}-{}.json", self.content.stream.0, sealed.seq.0);
        put_aside(&self.refused_folder, &name, sealed.body.as_bytes())?;
        self.change(|content| {
            content.sealed = None;
            content.refused = content.refused.saturating_add(1);
        })
    }

    /// Takes the payments out of the sealed report, which keeps its number: a server from before there were any refuses
    /// the whole. Returns whether there were some. A report that was refused was never counted.
    ///
    /// # Errors
    /// When the disk cannot be written; then nothing changes.
    pub fn strip_payments(&mut self) -> io::Result<bool> {
        let Some(sealed) = self.content.sealed.clone() else { return Ok(false) };
        let Ok(mut report) = crate::json::object(sealed.body.as_bytes()) else { return Ok(false) };
        let Some(payments) = report.remove("payments") else { return Ok(false) };
        let count = payments.as_array().map_or(0, Vec::len) as u64;
        let body = serde_json::to_string(&report)?;
        self.change(|content| {
            content.sealed = Some(Sealed { body, ..sealed });
            content.payments_dropped = content.payments_dropped.saturating_add(count);
        })?;
        Ok(true)
    }

    /// Forgets the payments that wait: they are not wanted any more. Does nothing when there are none.
    ///
    /// # Errors
    /// When the disk cannot be written; then nothing changes.
    pub fn forget_payments(&mut self) -> io::Result<()> {
        if self.content.payments.is_empty() {
            return Ok(());
        }
        self.change(|content| content.payments.clear())
    }

    /// Number of the last report that was sealed in this stream; 0 before the first.
    pub fn last_seq(&self) -> Seq {
        self.content.last_seq
    }

    /// Failures that wait for a report.
    pub fn waiting(&self) -> usize {
        self.content.failures.len()
    }

    /// Payments that wait for a report.
    pub fn payments_waiting(&self) -> usize {
        self.content.payments.len()
    }

    /// Payments dropped for want of space or because the server did not know what they are, since the spool was made.
    pub fn payments_dropped(&self) -> u64 {
        self.content.payments_dropped
    }

    /// Failures dropped for want of space, and reports the server refused, since the spool was made.
    pub fn losses(&self) -> (u64, u64) {
        (self.content.dropped, self.content.refused)
    }

    /// Size on the disk, bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn change(&mut self, change: impl FnOnce(&mut Content)) -> io::Result<()> {
        let mut content = self.content.clone();
        change(&mut content);
        self.save(content)
    }

    fn save(&mut self, mut content: Content) -> io::Result<()> {
        let mut bytes = encode(&content)?;
        while bytes.len() > SPOOL_BYTES_MAX && !content.payments.is_empty() {
            let too_many = content.payments.len().div_ceil(16);
            drop_payments(&mut content, too_many);
            bytes = encode(&content)?;
        }
        while bytes.len() > SPOOL_BYTES_MAX && !content.failures.is_empty() {
            let too_many = content.failures.len().div_ceil(16);
            content.failures.drain(..too_many);
            content.dropped = content.dropped.saturating_add(too_many as u64);
            bytes = encode(&content)?;
        }
        storage::replace(&self.path, &bytes, Readers::Anyone)?;
        self.content = content;
        self.bytes = bytes.len();
        Ok(())
    }
}

/// What was on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Missing,
    /// A usable spool.
    Valid,
    /// Something that cannot be used.
    Damaged,
}

/// Keeps `bytes` in `folder` for a person to look at; of the files there, the oldest make room.
///
/// # Errors
/// When the disk cannot be written.
pub fn put_aside(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    storage::create_folder(folder)?;
    let mut files: Vec<_> = std::fs::read_dir(folder)?
        .filter_map(Result::ok)
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    files.sort();
    let surplus = (files.len() + 1).saturating_sub(REFUSED_FILES_MAX);
    for (_, path) in files.iter().take(surplus) {
        storage::remove(path)?;
    }
    storage::replace(&folder.join(name), bytes, Readers::Anyone)
}

fn empty(stream: Stream) -> Content {
    Content {
        stream,
        last_seq: Seq(0),
        sealed: None,
        transactions: TransactionCounters::default(),
        failures: VecDeque::new(),
        recent: VecDeque::new(),
        dropped: 0,
        refused: 0,
        payments: VecDeque::new(),
        payments_dropped: 0,
    }
}

/// Drops the oldest `count` payments, and counts them.
fn drop_payments(content: &mut Content, count: usize) {
    content.payments.drain(..count);
    content.payments_dropped = content.payments_dropped.saturating_add(count as u64);
}

fn renumber(content: &mut Content, stream: Stream) {
    content.stream = stream;
    content.last_seq = Seq(0);
    let Some(sealed) = content.sealed.take() else { return };
    if let Ok(mut report) = crate::json::object(sealed.body.as_bytes()) {
        report.insert("stream".to_owned(), stream.0.into());
        report.insert("seq".to_owned(), 1.into());
        if let Ok(body) = serde_json::to_string(&report) {
            content.last_seq = Seq(1);
            content.sealed = Some(Sealed { seq: Seq(1), body, ..sealed });
        }
    }
}

fn add_counters(sum: &mut TransactionCounters, more: TransactionCounters) {
    sum.ok = sum.ok.saturating_add(more.ok);
    sum.failed = sum.failed.saturating_add(more.failed);
    for (code, count) in more.by_code {
        let known = sum.by_code.entry(code).or_default();
        *known = known.saturating_add(count);
    }
}

/// As much of the counters as one report may carry; the rest stays.
fn take_counters(sum: &mut TransactionCounters) -> TransactionCounters {
    let take = |count: &mut u32| {
        let taken = (*count).min(COUNT_MAX);
        *count -= taken;
        taken
    };
    let mut taken = TransactionCounters { ok: take(&mut sum.ok), failed: take(&mut sum.failed), ..Default::default() };
    let codes: Vec<String> = sum.by_code.keys().take(CODES_MAX).cloned().collect();
    for code in codes {
        if let Some(count) = sum.by_code.get_mut(&code) {
            taken.by_code.insert(code, take(count));
        }
    }
    sum.by_code.retain(|_, count| *count > 0);
    taken
}

fn encode(content: &Content) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(content)?;
    let mut bytes = format!("{HEADER}{}\n", Sha256Hex::of(&json)).into_bytes();
    bytes.extend_from_slice(&json);
    Ok(bytes)
}

fn decode(bytes: &[u8]) -> Option<Content> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let (header, json) = (std::str::from_utf8(bytes.get(..end)?).ok()?, bytes.get(end + 1..)?);
    let digest = header.strip_prefix(HEADER)?;
    if digest != Sha256Hex::of(json).as_str() {
        return None;
    }
    let mut fields = crate::json::object(json).ok()?;
    if let Ok(content) = serde_json::from_value(Value::Object(fields.clone())) {
        return Some(content);
    }
    // A newer agent wrote this before its firmware was taken back: what this one has no words for is left out, and counted.
    if let Some(sealed) = fields.get_mut("sealed").and_then(Value::as_object_mut) {
        sealed.remove("update");
    }
    let mut unknown = 0;
    if let Some(failures) = fields.get_mut("failures").and_then(Value::as_array_mut) {
        let before = failures.len();
        failures.retain(|failure| serde_json::from_value::<Failure>(failure.clone()).is_ok());
        unknown = (before - failures.len()) as u64;
    }
    let mut unknown_payments = 0;
    if let Some(payments) = fields.get_mut("payments").and_then(Value::as_array_mut) {
        let before = payments.len();
        payments.retain(|payment| serde_json::from_value::<Payment>(payment.clone()).is_ok());
        unknown_payments = (before - payments.len()) as u64;
    }
    let mut content: Content = serde_json::from_value(Value::Object(fields)).ok()?;
    content.payments_dropped = content.payments_dropped.saturating_add(unknown_payments);
    content.dropped = content.dropped.saturating_add(unknown);
    Some(content)
}

#[cfg(test)]
#[path = "spool_tests.rs"]
mod tests;
