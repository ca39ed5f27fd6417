//! The worker: one job at a time, block by block, the cursor in the transaction of the rows.

use std::io::Cursor;

use bytes::Bytes;
use serde_json::json;
use tillward_protocol::FieldError;

use super::jobs::{FieldProblem, deed};
use super::mapping::Reader;
use super::store::{self, Counts, Job, RefusedRow};
use super::values::{harmless, masked};
use super::{BLOCK_ROWS, Error, Kind, Outcome, Row, State, Target};
use crate::audit::{self, Actor};
use crate::blobs::Blobs;
use crate::clock::{Clock, Now};
use crate::db::{self, Conn, Db};

/// How long a job stays with the server that works on it after its last block, ms. After a kill another one, or the same
/// one started again, goes on then.
pub const LEASE_MS: i64 = 15_000;
/// Times in a row that a job is begun without finishing a block before it is given up.
const ATTEMPTS_MAX: i64 = 5;
/// Files of drafts and dry runs are kept this long, ms.
const FILES_KEPT_MS: i64 = 7 * 86_400_000;
/// Imports are remembered this long, ms: thirteen months, like what they brought.
const IMPORTS_KEPT_MS: i64 = 396 * 86_400_000;
/// Name of the worker in the audit log.
const ACTOR: &str = "imports";

/// Works on the oldest job that nobody works on; `false` when there is none.
///
/// # Errors
/// [`db::Error`]; the job goes on later from its last block.
pub async fn pass(db: &Db, blobs: &Blobs, clock: &Clock) -> Result<bool, Error> {
    let now = clock.now();
    let Some(job) = db.write(move |conn| store::claim(conn, now, LEASE_MS)).await? else { return Ok(false) };
    if job.attempts > ATTEMPTS_MAX {
        fail(db, job, FieldError::new("file", "could not be taken in, several times"), now).await?;
        return Ok(true);
    }
    let Some(kind) = Kind::parse(&job.kind) else {
        fail(db, job, FieldError::new("kind", "is not known to this program"), now).await?;
        return Ok(true);
    };
    let Some(bytes) = file(blobs, &job.id).await? else {
        fail(db, job, FieldError::new("file", "is gone; send it again"), now).await?;
        return Ok(true);
    };
    let reader = match Reader::new(kind.intake().fields(), &job.mapping(), &job.headings()) {
        Ok(reader) => reader,
        Err(error) => {
            fail(db, job, error, now).await?;
            return Ok(true);
        }
    };
    let id = job.id.clone();
    let is_real = job.dry_run == 0;
    let mut blocks = Blocks::new(bytes, reader, job);
    while let Some(more) = blocks.next(db, kind, clock).await? {
        blocks = more;
    }
    if is_real {
        drop_file(db, blobs, id).await?;
    }
    Ok(true)
}

async fn fail(db: &Db, job: Job, error: FieldError, now: Now) -> Result<(), db::Error> {
    let problem = serde_json::to_string(&FieldProblem::from(error)).unwrap_or_default();
    db.write(move |conn| {
        if let Some(job) = store::end(conn, &job.id, State::Failed, Some(problem), now)? {
            let detail = json!({"kind": job.kind, "rows_done": job.rows_done});
            audit::append(conn, &Actor::system(ACTOR), &deed("imports.fail", &job, detail), now)?;
        }
        Ok(())
    })
    .await
}

/// The plain table of a job; `None` when it is gone.
pub(super) async fn file(blobs: &Blobs, id: &str) -> Result<Option<Bytes>, Error> {
    let key = store::blob_key(id);
    let Some(meta) = blobs.head(&key).await? else { return Ok(None) };
    // An empty range is an error to some stores.
    if meta.size == 0 {
        return Ok(Some(Bytes::new()));
    }
    Ok(Some(blobs.get_range(&key, 0..meta.size).await?))
}

async fn drop_file(db: &Db, blobs: &Blobs, id: String) -> Result<(), Error> {
    blobs.delete(&store::blob_key(&id)).await?;
    db.write(move |conn| store::file_dropped(conn, &id)).await?;
    Ok(())
}

/// A file that is being taken in.
struct Blocks {
    records: csv::Reader<Cursor<Bytes>>,
    reader: Reader,
    job: Job,
    is_placed: bool,
}

/// Some rows of it.
struct Block {
    rows: Vec<Row>,
    /// For each good row, its cells.
    cells: Vec<Vec<String>>,
    refused: Vec<RefusedRow>,
    is_last: bool,
}

impl Blocks {
    fn new(bytes: Bytes, reader: Reader, job: Job) -> Self {
        let records = csv::ReaderBuilder::new().flexible(true).has_headers(false).from_reader(Cursor::new(bytes));
        Self { records, reader, job, is_placed: false }
    }

    /// Takes the next block in; `None` when that was the last, or the job is not this worker's any more.
    async fn next(mut self, db: &Db, kind: Kind, clock: &Clock) -> Result<Option<Self>, Error> {
        let read = tokio::task::spawn_blocking(move || {
            let block = self.read();
            (self, block)
        });
        let (mut this, block) = read.await.map_err(|_| db::Error::Closed)?;
        let now = clock.now();
        let job = this.job.clone();
        let rows = i64::try_from(block.rows.len() + block.refused.len()).unwrap_or(i64::MAX);
        let is_last = block.is_last;
        if job.dry_run == 1 {
            let tried = match db.write(move |conn| try_block(conn, &job, kind, block, now)).await {
                Err(Tried::Judged(tried)) => *tried,
                Err(Tried::Db(error)) => return Err(error.into()),
                Ok(never) => match never {},
            };
            let job = this.job.clone();
            db.write(move |conn| settle(conn, &job, rows, tried, is_last, now)).await?;
        } else {
            db.write(move |conn| {
                let judged = judge(conn, &job, kind, block, now)?;
                settle(conn, &job, rows, judged, is_last, now)
            })
            .await?;
        }
        this.job.rows_done += rows;
        Ok((!is_last).then_some(this))
    }

    fn read(&mut self) -> Block {
        let mut block = Block { rows: Vec::new(), cells: Vec::new(), refused: Vec::new(), is_last: false };
        let mut record = csv::StringRecord::new();
        if !self.is_placed {
            self.is_placed = true;
            for _ in 0..self.job.rows_done {
                // The table was written by this program; what cannot be read ends it.
                if !self.records.read_record(&mut record).unwrap_or(false) {
                    break;
                }
            }
        }
        while block.rows.len() + block.refused.len() < BLOCK_ROWS {
            if !self.records.read_record(&mut record).unwrap_or(false) {
                block.is_last = true;
                return block;
            }
            let line = record.get(0).and_then(|line| line.parse().ok()).unwrap_or(0);
            let cells = || record.iter().skip(1).map(str::to_owned).collect::<Vec<_>>();
            match self.reader.row(line, |index| record.get(index + 1)) {
                Ok(row) => {
                    block.rows.push(row);
                    block.cells.push(cells());
                }
                Err(error) => block.refused.push(refused(line, cells(), error)),
            }
        }
        let seen = self.job.rows_done + i64::try_from(BLOCK_ROWS).unwrap_or(0);
        block.is_last = seen >= self.job.rows_total;
        block
    }
}

fn refused(line: u64, cells: Vec<String>, error: FieldError) -> RefusedRow {
    // Whatever a cell held, what is handed back holds no card number.
    let cells = cells.iter().map(|cell| masked(cell)).collect();
    RefusedRow { line, field: error.field, problem: error.problem, cells }
}

/// What became of a block.
struct Judged {
    counts: Counts,
    refused: Vec<RefusedRow>,
}

/// How a dry run's transaction ends: always given up.
enum Tried {
    Judged(Box<Judged>),
    Db(db::Error),
}

impl From<db::Error> for Tried {
    fn from(error: db::Error) -> Self {
        Self::Db(error)
    }
}

fn try_block(
    conn: &mut Conn,
    job: &Job,
    kind: Kind,
    block: Block,
    now: Now,
) -> Result<std::convert::Infallible, Tried> {
    let judged = judge(conn, job, kind, block, now)?;
    Err(Tried::Judged(Box::new(judged)))
}

/// Hands the good rows to their kind.
fn judge(conn: &mut Conn, job: &Job, kind: Kind, block: Block, now: Now) -> Result<Judged, db::Error> {
    let target = Target {
        import_id: job.id.clone(),
        organization_id: job.organization_id,
        org_path: job.org_path.clone(),
        source: job.source.clone(),
        file_sha256: job.file_sha256.clone(),
        mapping: job.mapping(),
    };
    let outcomes =
        if block.rows.is_empty() { Vec::new() } else { kind.intake().take(conn, &target, &block.rows, now)? };
    let mut counts = Counts::default();
    let mut all_refused = block.refused;
    for ((row, cells), outcome) in block.rows.iter().zip(block.cells).zip(outcomes) {
        match outcome {
            Outcome::Accepted => counts.accepted += 1,
            Outcome::Changed => counts.changed += 1,
            Outcome::Duplicate => counts.duplicates += 1,
            Outcome::Refused(error) => all_refused.push(refused(row.line, cells, error)),
        }
    }
    all_refused.sort_by_key(|row| row.line);
    counts.refused = i64::try_from(all_refused.len()).unwrap_or(i64::MAX);
    Ok(Judged { counts, refused: all_refused })
}

/// Moves the cursor and writes what became of the rows. When the job is not this worker's any more, the whole transaction
/// is given up by the error.
fn settle(conn: &mut Conn, job: &Job, rows: i64, judged: Judged, is_last: bool, now: Now) -> Result<(), db::Error> {
    if !store::advance(conn, job, rows, now.0 + LEASE_MS)? {
        return Err(store::given_up());
    }
    store::count(conn, &job.id, judged.counts)?;
    store::insert_errors(conn, &job.id, job.rows_done, &judged.refused)?;
    if is_last && let Some(job) = store::end(conn, &job.id, State::Done, None, now)? {
        let detail = json!({
            "kind": job.kind, "source": job.source, "dry_run": job.dry_run == 1, "rows": job.rows_done,
            "accepted": job.accepted, "changed": job.changed, "duplicates": job.duplicates, "refused": job.refused,
        });
        audit::append(conn, &Actor::system(ACTOR), &deed("imports.done", &job, detail), now)?;
    }
    Ok(())
}

/// Refused rows as CSV: line, the cells, the reason.
pub(super) fn errors_csv(headings: &[String], rows: &[RefusedRow], with_headings: bool) -> String {
    let mut writer = csv::WriterBuilder::new().flexible(true).terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    // Writing to memory does not fail.
    if with_headings {
        let cells = headings.iter().map(|heading| harmless(heading));
        let _ = writer.write_record(["line".to_owned()].into_iter().chain(cells).chain(["reason".to_owned()]));
    }
    for row in rows {
        let mut cells: Vec<String> = row.cells.iter().map(|cell| harmless(cell)).collect();
        cells.resize(headings.len(), String::new());
        let reason = format!("{}: {}", row.field, row.problem);
        let _ = writer.write_record([row.line.to_string()].into_iter().chain(cells).chain([reason]));
    }
    writer.into_inner().ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
}

/// Drops files that are not needed any more and forgets old imports; returns how many went. Idempotent.
///
/// # Errors
/// The database or the storage; what was dropped before stays dropped.
pub async fn sweep(db: &Db, blobs: &Blobs, now: Now) -> Result<usize, Error> {
    let dropped = db.write(move |conn| store::files_to_drop(conn, now.0 - FILES_KEPT_MS, now)).await?;
    let count = dropped.len();
    for id in dropped {
        drop_file(db, blobs, id).await?;
    }
    Ok(count + db.write(move |conn| store::delete_old(conn, now.0 - IMPORTS_KEPT_MS)).await?)
}
