//! Import of terminals from a file: many rows, short transactions, a reason for every row that was refused.
//!
//! Rows are read and judged in blocks; each block is one short transaction, so that check-ins go on meanwhile. A dry
//! run judges in the same way and writes nothing but the refused rows. A row that says what is registered already
//! changes nothing, so that a file can be sent again; one that says more changes the record. A row never moves a
//! terminal to another organization and never empties a field.

pub mod http;
mod judge;
mod parse;
mod reading;
mod store;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tillward_protocol::FieldError;

pub use parse::{Encoding, decode};

use super::Error;
use super::bindings::Why;
use super::fields::NewTerminal;
use super::store::Record;
use crate::audit::{self, Actor, Deed, Export};
use crate::clock::Now;
use crate::db::{self, Conn, Db, Sequence, next_ids};
use crate::operators::Scope;
use crate::text::CARD_DATA;
use crate::{guard, organizations, profiles};
use judge::{Registry, Verdict};
use reading::{Reading, Rows};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Largest file, bytes: 100,000 rows of every column stay well below. It is held in memory as it came and, while it is
/// imported, as text: an import takes up to three times this, most of it for a compressed GB18030 file.
pub const FILE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Imports at one time: a bound on what they hold in memory together. Others are told to come back.
const AT_ONCE: usize = 2;
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

/// The places of the imports that run on this server.
pub struct Turns(Semaphore);

impl Default for Turns {
    fn default() -> Self {
        Self(Semaphore::new(AT_ONCE))
    }
}

impl Turns {
    /// A place; to be taken before the file is read, and held to the end.
    ///
    /// # Errors
    /// [`Error::Busy`] when all are taken.
    pub fn take(&self) -> Result<SemaphorePermit<'_>, Error> {
        self.0.try_acquire().map_err(|_| Error::Busy)
    }
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
            Ok::<_, Error>(Registry::new(scope, owner, models))
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
            if request.dry_run { work.judge_only(db, now).await? } else { work.write(db, actor, now).await? };
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
        let (text, encoding) = decode(file.into())?;
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

/// One block on its way into the database.
struct Block {
    number: i64,
    import_id: String,
    rows: Rows,
    registry: Registry,
}

impl Block {
    /// Judges on a reader; only the refused rows are written.
    async fn judge_only(mut self, db: &Db, now: Now) -> Result<(Registry, Outcome), Error> {
        let (block, outcome) = db
            .read(move |conn| {
                let verdicts = self.registry.judge(conn, &self.rows.good)?;
                let (outcome, _) = self.settle(verdicts);
                Ok::<_, Error>((self, outcome))
            })
            .await?;
        let Self { number, import_id, rows, registry } = block;
        if let Some(csv) = errors_csv(&rows, number == 1) {
            let (org_path, card_data) = (registry.owner.path.clone(), card_data(&rows));
            db.write(move |conn| {
                store::insert_errors(conn, &import_id, number, &csv)?;
                guard::report(conn, &org_path, card_data, now)
            })
            .await?;
        }
        Ok((registry, outcome))
    }

    /// Judges and writes in one transaction.
    async fn write(mut self, db: &Db, actor: Actor, now: Now) -> Result<(Registry, Outcome), Error> {
        db.write(move |conn| {
            let verdicts = self.registry.judge(conn, &self.rows.good)?;
            let (outcome, changes) = self.settle(verdicts);
            apply(conn, &actor, changes, now)?;
            if let Some(csv) = errors_csv(&self.rows, self.number == 1) {
                store::insert_errors(conn, &self.import_id, self.number, &csv)?;
            }
            guard::report(conn, &self.registry.owner.path, card_data(&self.rows), now)?;
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

fn apply(conn: &mut Conn, actor: &Actor, changes: Vec<Verdict>, now: Now) -> Result<(), Error> {
    let new = changes.iter().filter(|verdict| matches!(verdict, Verdict::Create(..))).count();
    let mut id = next_ids(conn, Sequence::Terminals, i64::try_from(new).unwrap_or(0))?;
    let mut records = Vec::with_capacity(new);
    let mut written = Vec::with_capacity(changes.len());
    let mut updated = Vec::new();
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
                updated.push(record);
            }
            Verdict::Unchanged | Verdict::Refuse(_) => {}
        }
    }
    if !records.is_empty() {
        store::insert(conn, &records).map_err(super::taken_meanwhile)?;
    }
    let why = Why { actor: actor.name(), reason: "imported" };
    let all = records.iter().map(|(record, _)| record).chain(updated.iter().map(|record| &**record));
    super::bindings::note(conn, &all.map(|record| (record, why)).collect::<Vec<_>>(), now)?;
    Ok(profiles::recompute(conn, &written, now)?)
}

/// How many rows of a block were refused because they looked like card data.
fn card_data(rows: &Rows) -> u64 {
    let refused = rows.refused.iter().filter(|(_, error)| error.problem.contains(CARD_DATA));
    u64::try_from(refused.count()).unwrap_or(u64::MAX)
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

/// What the audit log says when somebody takes the refused rows of the caller's own import along.
///
/// # Errors
/// [`Error::NotFound`].
pub fn errors_export(conn: &mut Conn, scope: &Scope, id: &str) -> Result<Export, Error> {
    let result = store::result(conn, scope, id)?.ok_or(Error::NotFound)?;
    let ended: serde_json::Value = serde_json::from_str(&result).unwrap_or_default();
    let detail = json!({"rows": ended.get("invalid")});
    Ok(Export { action: "terminals.export_refused", object_kind: "import", object_id: id.to_owned(), detail })
}
