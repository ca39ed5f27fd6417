//! Import of terminals from a file: many rows, short transactions, a reason for every row that was refused.
//!
//! Rows are read and judged in blocks; each block is one short transaction, so that check-ins go on meanwhile. A dry
//! run judges in the same way and writes nothing but the refused rows. A row that says what is registered already
//! changes nothing, so that a file can be sent again; one that says more changes the record. A row never moves a
//! terminal to another organization and never empties a field.

pub mod http;
mod parse;
mod store;

use std::collections::HashMap;

use bytes::Bytes;
use csv::StringRecord;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tillward_protocol::FieldError;

pub use parse::Encoding;

use super::fields::{NewTerminal, Registration};
use super::store::Record;
use super::{Error, Model};
use crate::audit::{self, Actor, Deed};
use crate::clock::Now;
use crate::db::{self, Conn, Db, Sequence, next_ids};
use crate::operators::Scope;
use crate::organizations::{self, Organization};
use crate::profiles;
use parse::{Columns, Row};

/// Largest file, bytes: 100,000 rows of every column stay well below.
pub const FILE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Most rows of one file.
pub const ROWS_MAX: u64 = 200_000;
/// Rows of one transaction: some 30 ms, for which a check-in waits at most.
const BLOCK_ROWS: usize = 500;
/// Rows that the answer shows as they were understood.
const PREVIEW_ROWS: usize = 10;

/// What to do with a file.
#[derive(Debug, Clone)]
pub struct Request {
    /// Judge only.
    pub dry_run: bool,
    /// The organization of rows that name none.
    pub organization_id: i64,
    /// The model of files without that column.
    pub model: Option<String>,
}

/// What became of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Imported {
    /// Number of the import.
    pub id: String,
    /// Whether it was only judged; the counts say what would have been.
    pub dry_run: bool,
    /// How the file was written.
    pub encoding: Encoding,
    /// SHA-256 of the file.
    pub file_sha256: String,
    /// Rows below the headings.
    pub rows: u64,
    /// Terminals that were registered.
    pub created: u64,
    /// Terminals that were known and changed.
    pub updated: u64,
    /// Terminals that were known just so.
    pub unchanged: u64,
    /// Rows that were refused.
    pub invalid: u64,
    /// Accepted rows with something odd.
    pub warnings: u64,
    /// Headings that nothing is known of.
    pub ignored_columns: Vec<String>,
    /// The first good rows as they were understood.
    pub preview: Vec<NewTerminal>,
    /// Where the refused rows can be had with their reasons, to be mended and sent again.
    pub errors_url: Option<String>,
}

/// Imports `file`, block by block.
///
/// # Errors
/// [`Error::Invalid`] when the file as a whole cannot be read; nothing was written then. A failure of the database
/// leaves the blocks before it; the file can be sent again.
pub async fn run(
    db: &Db,
    actor: Actor,
    created_by: String,
    scope: Scope,
    request: Request,
    file: Bytes,
    now: Now,
) -> Result<Imported, Error> {
    let (mut reading, mut imported) = open(file, &request).await?;
    let id = imported.id.clone();
    let import = store::Import {
        id: id.clone(),
        file_sha256: imported.file_sha256.clone(),
        dry_run: request.dry_run,
        created_by,
    };
    let mut registry = {
        let scope = scope.clone();
        db.write(move |conn| {
            let owner = organizations::get(conn, &scope, request.organization_id)?
                .ok_or_else(|| FieldError::new("organization_id", "is not an organization of yours"))?;
            store::begin(conn, &import, &owner, now)?;
            let models = super::list_models(conn)?;
            Ok::<_, Error>(Registry { scope, owner, models, by_code: HashMap::new() })
        })
        .await?
    };
    for block_number in 1.. {
        let (given_back, block) = blocking(move || {
            let block = reading.next_block()?;
            Ok::<_, Error>((reading, block))
        })
        .await?;
        reading = given_back;
        let is_last = block.is_last;
        let work = Block { number: block_number, import_id: id.clone(), rows: block, registry };
        let actor = actor.clone();
        let (back, outcome) =
            if request.dry_run { work.judge_only(db).await? } else { work.write(db, actor, now).await? };
        registry = back;
        imported.add(outcome);
        if is_last {
            break;
        }
    }
    if imported.invalid > 0 {
        imported.errors_url = Some(format!("/api/v1/terminals/imports/{id}/errors.csv"));
    }
    let result = serde_json::to_string(&imported).unwrap_or_default();
    db.write(move |conn| store::finish(conn, &id, &result)).await?;
    Ok(imported)
}

/// Runs work that takes longer than a request's thread may be held.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Db(db::Error::Closed))?
}

async fn open(file: Bytes, request: &Request) -> Result<(Reading, Imported), Error> {
    let (dry_run, model) = (request.dry_run, request.model.clone());
    blocking(move || {
        let file_sha256 = hex::encode(tillward_protocol::crypto::sha256(&file));
        let (text, encoding) = parse::decode(&file)?;
        drop(file);
        let reading = Reading::new(text, model)?;
        let imported = Imported {
            id: uuid::Uuid::now_v7().simple().to_string(),
            dry_run,
            encoding,
            file_sha256,
            rows: 0,
            created: 0,
            updated: 0,
            unchanged: 0,
            invalid: 0,
            warnings: 0,
            ignored_columns: reading.columns.ignored(),
            preview: Vec::new(),
            errors_url: None,
        };
        Ok((reading, imported))
    })
    .await
}

impl Imported {
    fn add(&mut self, outcome: Outcome) {
        self.rows += outcome.rows;
        self.created += outcome.created;
        self.updated += outcome.updated;
        self.unchanged += outcome.unchanged;
        self.invalid += outcome.invalid;
        self.warnings += outcome.warnings;
        let room = PREVIEW_ROWS.saturating_sub(self.preview.len());
        self.preview.extend(outcome.preview.into_iter().take(room));
    }
}

/// A file that is being read.
struct Reading {
    reader: csv::Reader<std::io::Cursor<Vec<u8>>>,
    columns: Columns,
    model: Option<String>,
    rows: u64,
    /// Where each serial number and TUSN stood first.
    seen: HashMap<String, u64>,
}

/// Some rows of it.
struct Rows {
    /// Good so far.
    good: Vec<(StringRecord, Row)>,
    refused: Vec<(StringRecord, FieldError)>,
    columns: Columns,
    is_last: bool,
}

impl Reading {
    fn new(text: String, model: Option<String>) -> Result<Self, FieldError> {
        let delimiter = parse::delimiter(&text);
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(delimiter)
            .flexible(true)
            .from_reader(std::io::Cursor::new(text.into_bytes()));
        let headings = reader.headers().map_err(|error| unreadable(&error))?;
        let columns = Columns::new(headings, model.is_some())?;
        Ok(Self { reader, columns, model, rows: 0, seen: HashMap::new() })
    }

    fn next_block(&mut self) -> Result<Rows, FieldError> {
        let mut rows = Rows { good: Vec::new(), refused: Vec::new(), columns: self.columns.clone(), is_last: false };
        while rows.good.len() + rows.refused.len() < BLOCK_ROWS {
            let mut record = StringRecord::new();
            if !self.reader.read_record(&mut record).map_err(|error| unreadable(&error))? {
                rows.is_last = true;
                break;
            }
            // Spreadsheets end files with rows of empty cells.
            if record.iter().all(|cell| cell.trim().is_empty()) {
                continue;
            }
            self.rows += 1;
            if self.rows > ROWS_MAX {
                return Err(FieldError::new("body", format!("has more than {ROWS_MAX} rows; send it in parts")));
            }
            let row = self.columns.row(&record, self.model.as_deref());
            match row.and_then(|row| self.once(&row.registration).map(|()| row)) {
                Ok(row) => rows.good.push((record, row)),
                Err(error) => rows.refused.push((record, error)),
            }
        }
        Ok(rows)
    }

    /// Refuses a number that stood in an earlier row.
    fn once(&mut self, registration: &Registration) -> Result<(), FieldError> {
        let row = self.rows + 1;
        let mut note = |field: &str, key: String| match self.seen.insert(key.clone(), row) {
            None => Ok(()),
            Some(earlier) => {
                self.seen.insert(key, earlier);
                Err(FieldError::new(field, format!("stands in line {earlier} of this file already")))
            }
        };
        note("sn", registration.sn.as_str().to_owned())?;
        // No serial number holds a colon.
        registration.tusn.as_ref().map_or(Ok(()), |tusn| note("tusn", format!("tusn:{tusn}")))
    }
}

fn unreadable(error: &csv::Error) -> FieldError {
    let line = error.position().map_or(String::new(), |position| format!(" in line {}", position.line()));
    FieldError::new("body", format!("is not a CSV file{line}"))
}

/// What rows are judged by.
struct Registry {
    scope: Scope,
    owner: Organization,
    models: Vec<Model>,
    by_code: HashMap<String, Option<Organization>>,
}

/// One row, judged.
enum Verdict {
    Create(Box<Registration>, Organization),
    Update(Box<Record>, Vec<String>),
    Unchanged,
    Refuse(FieldError),
}

#[derive(Default)]
struct Outcome {
    rows: u64,
    created: u64,
    updated: u64,
    unchanged: u64,
    invalid: u64,
    warnings: u64,
    preview: Vec<NewTerminal>,
}

impl Registry {
    fn judge(&mut self, conn: &mut Conn, rows: &[(StringRecord, Row)]) -> Result<Vec<Verdict>, db::Error> {
        let sns: Vec<&str> = rows.iter().map(|(_, row)| row.registration.sn.as_str()).collect();
        let tusns: Vec<&str> = rows.iter().filter_map(|(_, row)| row.registration.tusn.as_deref()).collect();
        let known = store::by_sn(conn, &sns)?;
        let tusn_of = store::sn_by_tusn(conn, &tusns)?;
        let ids: Vec<i64> = known.values().map(|record| record.id).collect();
        let tags = store::tags(conn, &ids)?;
        let mut verdicts = Vec::with_capacity(rows.len());
        for (_, row) in rows {
            let given = &row.registration;
            let owner = self.owner_of(conn, row)?;
            let taken =
                given.tusn.as_ref().and_then(|tusn| tusn_of.get(tusn)).is_some_and(|sn| sn != given.sn.as_str());
            verdicts.push(match (owner, known.get(given.sn.as_str())) {
                (Err(error), _) => Verdict::Refuse(error),
                _ if taken => Verdict::Refuse(FieldError::new("tusn", "belongs to another terminal")),
                (Ok(owner), None) => match self.models.iter().any(|model| model.code == given.model.as_str()) {
                    true => Verdict::Create(Box::new(given.clone()), owner),
                    false => Verdict::Refuse(FieldError::new("model", "is not a known model; create it first")),
                },
                (Ok(owner), Some(record)) => {
                    let old_tags = tags.get(&record.id).map(Vec::as_slice).unwrap_or_default();
                    let owner = row.organization.is_some().then_some(&owner);
                    merged(&self.scope, record, old_tags, owner, given)
                }
            });
        }
        Ok(verdicts)
    }

    fn owner_of(&mut self, conn: &mut Conn, row: &Row) -> Result<Result<Organization, FieldError>, db::Error> {
        let Some(code) = &row.organization else { return Ok(Ok(self.owner.clone())) };
        if !self.by_code.contains_key(code) {
            let found = organizations::find_by_short_code(conn, &self.scope, code)?;
            self.by_code.insert(code.clone(), found);
        }
        let found = self.by_code.get(code).cloned().flatten();
        Ok(found.ok_or_else(|| FieldError::new("organization", "is not the short code of an organization of yours")))
    }
}

/// What a row changes of a terminal that is known.
fn merged(
    scope: &Scope,
    record: &Record,
    old_tags: &[String],
    named: Option<&Organization>,
    given: &Registration,
) -> Verdict {
    let refuse = |field, problem: &str| Verdict::Refuse(FieldError::new(field, problem));
    if !scope.contains(&record.org_path) {
        return refuse("sn", "is registered already");
    }
    if record.model != given.model.as_str() {
        return refuse("model", "differs from the registered one");
    }
    if given.tusn.is_some() && record.tusn.is_some() && given.tusn != record.tusn {
        return refuse("tusn", "differs from the registered one");
    }
    if named.is_some_and(|owner| owner.id != record.organization_id) {
        return refuse("organization", "is another one; move terminals by a transfer");
    }
    let mut new = record.clone();
    let fill = |old: &mut Option<String>, given: &Option<String>| {
        if given.is_some() {
            old.clone_from(given);
        }
    };
    fill(&mut new.tusn, &given.tusn);
    fill(&mut new.hardware, &given.hardware);
    fill(&mut new.merchant_no, &given.merchant_no);
    fill(&mut new.merchant_name, &given.merchant_name);
    fill(&mut new.store_name, &given.store_name);
    fill(&mut new.terminal_no, &given.terminal_no);
    fill(&mut new.iccid, &given.iccid);
    fill(&mut new.imei, &given.imei);
    fill(&mut new.notes, &given.notes);
    if let Some(region) = &given.region {
        new.region.clone_from(region);
    }
    let tags = if given.tags.is_empty() { old_tags } else { &given.tags };
    if new == *record && tags == old_tags { Verdict::Unchanged } else { Verdict::Update(Box::new(new), tags.to_vec()) }
}

/// One block on its way into the database.
struct Block {
    number: i64,
    import_id: String,
    rows: Rows,
    registry: Registry,
}

impl Block {
    /// Judges on a reader; only the refused rows are written.
    async fn judge_only(mut self, db: &Db) -> Result<(Registry, Outcome), Error> {
        let (block, outcome) = db
            .read(move |conn| {
                let verdicts = self.registry.judge(conn, &self.rows.good)?;
                let (outcome, _) = self.settle(verdicts);
                Ok::<_, Error>((self, outcome))
            })
            .await?;
        let Self { number, import_id, rows, registry } = block;
        if let Some(csv) = errors_csv(&rows, number == 1) {
            db.write(move |conn| store::insert_errors(conn, &import_id, number, &csv)).await?;
        }
        Ok((registry, outcome))
    }

    /// Judges and writes in one transaction.
    async fn write(mut self, db: &Db, actor: Actor, now: Now) -> Result<(Registry, Outcome), Error> {
        db.write(move |conn| {
            let verdicts = self.registry.judge(conn, &self.rows.good)?;
            let (outcome, changes) = self.settle(verdicts);
            apply(conn, changes, now)?;
            if let Some(csv) = errors_csv(&self.rows, self.number == 1) {
                store::insert_errors(conn, &self.import_id, self.number, &csv)?;
            }
            if outcome.created + outcome.updated > 0 {
                let deed = Deed {
                    action: "terminals.import",
                    object_kind: "import",
                    object_id: self.import_id.clone(),
                    org_path: &self.registry.owner.path,
                    detail: json!({"block": self.number, "created": outcome.created, "updated": outcome.updated}),
                };
                audit::append(conn, &actor, &deed, now)?;
            }
            Ok((self.registry, outcome))
        })
        .await
    }

    /// Counts the verdicts, moves what was refused to the refused, and returns what is to be written.
    fn settle(&mut self, verdicts: Vec<Verdict>) -> (Outcome, Vec<Verdict>) {
        let mut outcome = Outcome::default();
        let mut changes = Vec::new();
        let good = std::mem::take(&mut self.rows.good);
        for ((record, row), verdict) in good.into_iter().zip(verdicts) {
            outcome.rows += 1;
            outcome.warnings += u64::from(!row.registration.warnings.is_empty());
            match verdict {
                Verdict::Refuse(error) => {
                    outcome.rows -= 1;
                    self.rows.refused.push((record, error));
                    continue;
                }
                Verdict::Unchanged => outcome.unchanged += 1,
                Verdict::Create(..) => {
                    outcome.created += 1;
                    changes.push(verdict);
                }
                Verdict::Update(..) => {
                    outcome.updated += 1;
                    changes.push(verdict);
                }
            }
            if outcome.preview.len() < PREVIEW_ROWS {
                outcome.preview.push(row.preview);
            }
        }
        outcome.invalid = u64::try_from(self.rows.refused.len()).unwrap_or(u64::MAX);
        outcome.rows += outcome.invalid;
        (outcome, changes)
    }
}

fn apply(conn: &mut Conn, changes: Vec<Verdict>, now: Now) -> Result<(), Error> {
    let new = changes.iter().filter(|verdict| matches!(verdict, Verdict::Create(..))).count();
    let mut id = next_ids(conn, Sequence::Terminals, i64::try_from(new).unwrap_or(0))?;
    let mut records = Vec::with_capacity(new);
    let mut written = Vec::with_capacity(changes.len());
    for verdict in changes {
        match verdict {
            Verdict::Create(mut given, owner) => {
                let tags = std::mem::take(&mut given.tags);
                records.push((Record::new(id, *given, &owner, now), tags));
                written.push(id);
                id += 1;
            }
            Verdict::Update(record, tags) => {
                if !super::store::save(conn, &record, record.version)? {
                    return Err(Error::Changed);
                }
                super::store::replace_tags(conn, record.id, &tags)?;
                written.push(record.id);
            }
            Verdict::Unchanged | Verdict::Refuse(_) => {}
        }
    }
    if !records.is_empty() {
        store::insert(conn, &records).map_err(super::taken_meanwhile)?;
    }
    Ok(profiles::recompute(conn, &written, now)?)
}

/// The refused rows of a block, with a reason each; nothing when there are none. The first block of a file has the
/// headings, also when none of its rows was refused.
fn errors_csv(rows: &Rows, is_first: bool) -> Option<String> {
    if rows.refused.is_empty() && !is_first {
        return None;
    }
    let mut writer = csv::WriterBuilder::new().flexible(true).terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    let mut write = |cells: Vec<String>| writer.write_record(cells);
    let mut done = Ok(());
    if is_first {
        let nothing = String::new();
        let headings = rows.columns.safe_cells(rows.columns.headings(), &nothing);
        done = write(headings.into_iter().chain(["reason".to_owned()]).collect());
    }
    let width = rows.columns.headings().len();
    for (record, error) in &rows.refused {
        let mut cells = rows.columns.safe_cells(record, &error.field);
        cells.resize(width, String::new());
        cells.push(error.to_string());
        done = done.and_then(|()| write(cells));
    }
    // Writing to memory does not fail; what could not be read as text cannot be here.
    done.ok()?;
    String::from_utf8(writer.into_inner().ok()?).ok()
}

/// The next block of refused rows after `block` (0 to begin), for the caller's own imports.
///
/// # Errors
/// [`Error::NotFound`].
pub fn errors_after(conn: &mut Conn, scope: &Scope, id: &str, block: i64) -> Result<Option<(i64, String)>, Error> {
    if !store::exists(conn, scope, id)? {
        return Err(Error::NotFound);
    }
    Ok(store::errors_after(conn, id, block)?)
}
