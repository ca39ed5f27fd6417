//! Jobs as people see them: an upload, its preview, its start and its end.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tillward_protocol::FieldError;
use tillward_protocol::crypto::sha256;

use super::mapping::{Reader, plain};
use super::sheet::{self, Sheet};
use super::store::{self, Job};
use super::{Error, FILE_BYTES_MAX, Field, Kind, Mapping};
use crate::audit::{self, Actor, Deed, Export};
use crate::blobs::Blobs;
use crate::clock::Now;
use crate::db::{self, Conn, Db};
use crate::guard;
use crate::operators::{Caller, Scope};

/// Rows that a preview shows.
pub const PREVIEW_ROWS: usize = 10;
/// Longest name of a file, characters.
const FILE_NAME_CHARS_MAX: usize = 100;
/// Longest name of a source, characters.
const SOURCE_CHARS_MAX: usize = 40;

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ImportState)]
pub enum State {
    /// Uploaded; somebody looks at its mapping.
    Draft,
    /// To be taken in.
    Waiting,
    /// Being taken in.
    Running,
    /// Through.
    Done,
    /// Given up by the server; says why.
    Failed,
    /// Given up by a person.
    Cancelled,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 6] = [Self::Draft, Self::Waiting, Self::Running, Self::Done, Self::Failed, Self::Cancelled];

    /// Name in tables and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether nothing more becomes of it by itself.
    pub fn is_final(self) -> bool {
        match self {
            Self::Done | Self::Failed | Self::Cancelled => true,
            Self::Draft | Self::Waiting | Self::Running => false,
        }
    }
}

/// What happens after the upload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ImportStart)]
pub enum Start {
    /// It waits for [`start`].
    Hold,
    /// Rows are judged and not kept.
    Try,
    /// Rows are taken in.
    #[default]
    Import,
}

/// What an uploaded file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// What it holds.
    pub kind: Kind,
    /// Source within the kind: a channel's number, or a name.
    pub source: String,
    /// Organization of the rows, where the source does not say.
    pub organization_id: i64,
    /// Its name, for people.
    pub file_name: String,
    /// What happens next.
    pub start: Start,
}

/// One import with its progress.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Import {
    /// Its number.
    pub id: String,
    /// What the file holds.
    pub kind: Kind,
    /// Source within the kind.
    pub source: String,
    /// Organization of the rows.
    pub organization_id: i64,
    /// Name of the file.
    pub file_name: String,
    /// SHA-256 of the file as it was sent.
    pub file_sha256: String,
    /// An earlier import of the very same file; its rows come out as duplicates.
    pub repeats: Option<String>,
    /// How the file was written: `UTF-8`, `UTF-8 with BOM`, `GB18030` or `XLSX`.
    pub encoding: String,
    /// Its headings.
    pub headings: Vec<String>,
    /// Headings that are not read.
    pub ignored: Vec<String>,
    /// How it is read.
    pub mapping: Mapping,
    /// Whether rows are only judged.
    pub dry_run: bool,
    /// How far it is.
    pub state: State,
    /// Rows below the headings.
    pub rows_total: i64,
    /// Rows that were judged so far.
    pub rows_done: i64,
    /// New rows.
    pub accepted: i64,
    /// Rows that said more of what was known.
    pub changed: i64,
    /// Rows that were known already.
    pub duplicates: i64,
    /// Rows that were refused.
    pub refused: i64,
    /// Cells that held card data; they were masked before anything was kept.
    pub card_cells: i64,
    /// Why it waits or was given up.
    pub problem: Option<FieldProblem>,
    /// Who sent it.
    pub created_by: String,
    /// When, Unix ms.
    pub created_at_ms: i64,
    /// When its rows began to be taken in, Unix ms.
    pub started_at_ms: Option<i64>,
    /// When it ended, Unix ms.
    pub finished_at_ms: Option<i64>,
    /// Where the refused rows can be had with their reasons.
    pub errors_url: Option<String>,
}

/// A field and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = ImportProblem)]
pub struct FieldProblem {
    /// Field.
    pub field: String,
    /// What is wrong.
    pub problem: String,
}

impl From<FieldError> for FieldProblem {
    fn from(error: FieldError) -> Self {
        Self { field: error.field, problem: error.problem }
    }
}

/// The first rows of a file as they are understood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = ImportPreview)]
pub struct Preview {
    /// Fields that columns are read into, in order.
    pub fields: Vec<String>,
    /// One for each row.
    pub rows: Vec<PreviewRow>,
}

/// One row as it is understood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = ImportPreviewRow)]
pub struct PreviewRow {
    /// Its line in the file.
    pub line: u64,
    /// By field: its value; money in fen, rates in millionths, moments in Unix ms.
    pub values: std::collections::BTreeMap<String, String>,
    /// Why it would be refused.
    pub problem: Option<FieldProblem>,
}

/// Takes a file and makes a job of it. Where its mapping is complete and nothing is held back, the worker begins at once.
///
/// # Errors
/// [`Error::Invalid`] for a file or source that cannot be understood; nothing was kept then.
pub async fn upload(
    db: &Db,
    blobs: &Blobs,
    caller: &Caller,
    actor: Actor,
    asked: Upload,
    file: Bytes,
    now: Now,
) -> Result<Import, Error> {
    if file.len() > FILE_BYTES_MAX {
        return Err(sheet::refused(format!("is larger than {FILE_BYTES_MAX} bytes; send it in parts")).into());
    }
    let intake = asked.kind.intake();
    let source = checked_source(&asked.source)?;
    let (scope, named) = (caller.scope.clone(), source.clone());
    let (home, saved) = db
        .read(move |conn| {
            let home = intake.home(conn, &scope, asked.organization_id, &named)?;
            let saved = store::mapping(conn, home.id, asked.kind, &named)?;
            Ok::<_, Error>((home, saved))
        })
        .await?;
    let for_reading = saved.clone();
    let read = tokio::task::spawn_blocking(move || {
        let digest = hex::encode(sha256(&file));
        let sheet = sheet::read(Vec::from(file), intake.fields(), for_reading.as_ref())?;
        Ok::<_, FieldError>((digest, sheet))
    });
    let (file_sha256, Sheet { encoding, headings, rows, card_cells, csv }) =
        read.await.map_err(|_| db::Error::Closed)??;
    let mapping = suited(intake.fields(), saved, &headings);
    let problem = check(asked.kind, &mapping, &headings).err();
    let state = match (asked.start, &problem) {
        (Start::Hold, _) | (_, Some(_)) => State::Draft,
        (Start::Try | Start::Import, None) => State::Waiting,
    };
    let job = Job {
        id: uuid::Uuid::now_v7().to_string(),
        organization_id: home.id,
        org_path: home.path,
        kind: asked.kind.as_str().to_owned(),
        source,
        file_name: file_name(&asked.file_name),
        file_sha256,
        repeats: None,
        encoding: encoding.to_owned(),
        headings: serde_json::to_string(&headings).unwrap_or_default(),
        mapping: serde_json::to_string(&mapping).unwrap_or_default(),
        dry_run: i64::from(asked.start != Start::Import),
        state: state.as_str().to_owned(),
        has_file: 1,
        rows_total: i64::try_from(rows).unwrap_or(i64::MAX),
        rows_done: 0,
        accepted: 0,
        changed: 0,
        duplicates: 0,
        refused: 0,
        card_cells: i64::try_from(card_cells).unwrap_or(i64::MAX),
        problem: problem.map(|error| serde_json::to_string(&FieldProblem::from(error)).unwrap_or_default()),
        created_by: caller.name.clone(),
        created_at_ms: now.0,
        started_at_ms: None,
        finished_at_ms: None,
        lease_until_ms: 0,
        attempts: 0,
    };
    let key = store::blob_key(&job.id);
    blobs.create(&key, Bytes::from(csv)).await?;
    let written = db.write(move |conn| begin(conn, &actor, job, now)).await;
    if written.is_err() {
        // Nobody knows of the file; if this fails too, it is a table without card data that is left behind.
        let _ = blobs.delete(&key).await;
    }
    Ok(shown(written?))
}

fn begin(conn: &mut Conn, actor: &Actor, mut job: Job, now: Now) -> Result<Job, Error> {
    job.repeats = store::same_file(conn, &job)?;
    store::insert(conn, &job)?;
    guard::report(conn, &job.org_path, u64::try_from(job.card_cells).unwrap_or(0), now)?;
    let detail = json!({
        "kind": job.kind, "source": job.source, "file_sha256": job.file_sha256, "rows": job.rows_total,
        "card_cells": job.card_cells, "state": job.state, "dry_run": job.dry_run == 1,
    });
    audit::append(conn, actor, &deed("imports.upload", &job, detail), now)?;
    Ok(job)
}

pub(super) fn deed<'a>(action: &'a str, job: &'a Job, detail: serde_json::Value) -> Deed<'a> {
    Deed { action, object_kind: "import", object_id: job.id.clone(), org_path: &job.org_path, detail }
}

fn checked_source(source: &str) -> Result<String, FieldError> {
    match source.trim() {
        "" => Ok(String::new()),
        source if source.chars().count() > SOURCE_CHARS_MAX => {
            Err(FieldError::new("source", format!("must be at most {SOURCE_CHARS_MAX} characters")))
        }
        source => crate::text::name("source", source),
    }
}

fn file_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let kept: String = last.chars().filter(|c| !c.is_control()).take(FILE_NAME_CHARS_MAX).collect();
    tillward_protocol::pan::mask(kept.trim())
}

/// The saved mapping where the file has its columns, else what its headings say with the saved words. A column that is
/// called otherwise than it was is read by its new heading; headings that were not there before and name their unit are
/// right about it.
fn suited(fields: &'static [Field], saved: Option<Mapping>, headings: &[String]) -> Mapping {
    let guessed = Mapping::of_headings(fields, headings);
    let Some(mut saved) = saved else { return guessed };
    let unit = guessed.named_unit(fields).unwrap_or(saved.unit);
    if Reader::new(fields, &saved, headings).is_err() {
        return Mapping { columns: guessed.columns, unit, ..saved };
    }
    let is_there = |column: &str| headings.iter().any(|heading| plain(heading) == plain(column));
    let read: Vec<String> = saved.columns.values().map(|column| plain(column)).collect();
    for (field, heading) in guessed.columns {
        if read.contains(&plain(&heading)) {
            continue;
        }
        if let Some(column) = saved.columns.get_mut(&field).filter(|column| !is_there(column.as_str())) {
            *column = heading;
            saved.unit = unit;
        }
    }
    saved
}

/// Whether a file of these headings can be read so.
fn check(kind: Kind, mapping: &Mapping, headings: &[String]) -> Result<(), FieldError> {
    kind.intake().check(mapping)?;
    Reader::new(kind.intake().fields(), mapping, headings).map(drop)
}

/// Starts a held job, or one that was only tried. The mapping is remembered for the source's next file.
///
/// # Errors
/// [`Error::Invalid`] for the mapping, [`Error::Conflict`] for a job that is under way or through.
pub fn start(
    conn: &mut Conn,
    actor: &Actor,
    scope: &Scope,
    id: &str,
    mapping: Option<Mapping>,
    dry_run: bool,
    now: Now,
) -> Result<Import, Error> {
    let job = store::find(conn, scope, id)?.ok_or(Error::NotFound)?;
    let state = State::parse(&job.state).unwrap_or(State::Failed);
    let may_start = match state {
        State::Draft => true,
        State::Done => job.dry_run == 1,
        State::Waiting | State::Running | State::Failed | State::Cancelled => false,
    };
    if !may_start || job.has_file == 0 {
        return Err(Error::Conflict("this import was started already; send the file again"));
    }
    let kind = Kind::parse(&job.kind).ok_or(Error::NotFound)?;
    let mapping = mapping.unwrap_or_else(|| job.mapping());
    check(kind, &mapping, &job.headings())?;
    store::save_mapping(conn, job.organization_id, &job.org_path, kind, &job.source, &mapping, now)?;
    if !store::restart(conn, &job, &mapping, dry_run)? {
        return Err(Error::Conflict("somebody changed this import at the same moment; look at it again"));
    }
    let detail = json!({"kind": job.kind, "source": job.source, "dry_run": dry_run});
    audit::append(conn, actor, &deed("imports.start", &job, detail), now)?;
    find(conn, scope, id)
}

/// Gives a job up. Rows that are in already stay.
///
/// # Errors
/// [`Error::Conflict`] when it has ended.
pub fn cancel(conn: &mut Conn, actor: &Actor, scope: &Scope, id: &str, now: Now) -> Result<Import, Error> {
    let job = store::find(conn, scope, id)?.ok_or(Error::NotFound)?;
    if !store::cancel(conn, id, now)? {
        return Err(Error::Conflict("this import has ended already"));
    }
    let detail = json!({"kind": job.kind, "rows_done": job.rows_done});
    audit::append(conn, actor, &deed("imports.cancel", &job, detail), now)?;
    find(conn, scope, id)
}

/// One import.
///
/// # Errors
/// [`Error::NotFound`].
pub fn find(conn: &mut Conn, scope: &Scope, id: &str) -> Result<Import, Error> {
    store::find(conn, scope, id)?.map(shown).ok_or(Error::NotFound)
}

/// Imports of the scope, newest first, with numbers below `before`.
///
/// # Errors
/// [`db::Error`].
pub fn list(
    conn: &mut Conn,
    scope: &Scope,
    kind: Option<Kind>,
    before: Option<&str>,
    size: u32,
) -> Result<Vec<Import>, db::Error> {
    let jobs = store::list(conn, scope, kind, before, i64::from(size))?;
    Ok(jobs.into_iter().map(shown).collect())
}

/// The mapping that was saved for a source.
///
/// # Errors
/// [`Error::Invalid`] for a source that is not the caller's.
pub fn saved_mapping(
    conn: &mut Conn,
    scope: &Scope,
    kind: Kind,
    organization_id: i64,
    source: &str,
) -> Result<Option<Mapping>, Error> {
    let home = kind.intake().home(conn, scope, organization_id, source)?;
    Ok(store::mapping(conn, home.id, kind, source)?)
}

/// Saves how a source writes, for its next file.
///
/// # Errors
/// [`Error::Invalid`] for the mapping, or a source that is not the caller's.
pub fn save_mapping(
    conn: &mut Conn,
    scope: &Scope,
    kind: Kind,
    organization_id: i64,
    source: &str,
    mapping: &Mapping,
    now: Now,
) -> Result<(), Error> {
    let home = kind.intake().home(conn, scope, organization_id, source)?;
    kind.intake().check(mapping)?;
    Ok(store::save_mapping(conn, home.id, &home.path, kind, source, mapping, now)?)
}

/// The first rows of a job's file, as `mapping` or else the job's own reads them.
///
/// # Errors
/// [`Error::NotFound`], also when the file is gone; [`Error::Invalid`] for a mapping that cannot read anything.
pub async fn preview(
    db: &Db,
    blobs: &Blobs,
    scope: Scope,
    id: String,
    mapping: Option<Mapping>,
) -> Result<Preview, Error> {
    let job = db.read(move |conn| store::find(conn, &scope, &id)).await?.ok_or(Error::NotFound)?;
    let kind = Kind::parse(&job.kind).ok_or(Error::NotFound)?;
    let file = super::worker::file(blobs, &job.id).await?.ok_or(Error::NotFound)?;
    let mapping = mapping.unwrap_or_else(|| job.mapping());
    let fields = kind.intake().fields();
    let reader = Reader::loose(fields, &mapping, &job.headings())
        .ok_or_else(|| FieldError::new("mapping", "reads no column of this file"))?;
    let mut records = csv::ReaderBuilder::new().flexible(true).has_headers(false).from_reader(file.as_ref());
    let row = |record: csv::StringRecord| {
        let line = record.get(0).and_then(|line| line.parse().ok()).unwrap_or(0);
        match reader.row(line, |index| record.get(index + 1)) {
            Ok(row) => PreviewRow {
                line,
                values: row.shown(fields).into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
                problem: None,
            },
            Err(error) => PreviewRow { line, values: Default::default(), problem: Some(error.into()) },
        }
    };
    let rows = records.records().filter_map(Result::ok).take(PREVIEW_ROWS).map(row).collect();
    let read = fields.iter().filter(|field| mapping.columns.contains_key(field.name));
    Ok(Preview { fields: read.map(|field| field.name.to_owned()).collect(), rows })
}

/// A block of refused rows as CSV, and the number after which to ask for the next; `None` when there are no more.
///
/// # Errors
/// [`Error::NotFound`].
pub fn errors_after(conn: &mut Conn, scope: &Scope, id: &str, block: i64) -> Result<Option<(i64, String)>, Error> {
    let job = store::find(conn, scope, id)?.ok_or(Error::NotFound)?;
    let Some((number, refused)) = store::errors_after(conn, id, block)? else { return Ok(None) };
    Ok(Some((number, super::worker::errors_csv(&job.headings(), &refused, block < 0))))
}

/// What the audit log says when somebody takes the refused rows of an import along.
///
/// # Errors
/// [`Error::NotFound`].
pub fn errors_export(conn: &mut Conn, scope: &Scope, id: &str) -> Result<Export, Error> {
    let job = store::find(conn, scope, id)?.ok_or(Error::NotFound)?;
    let detail = json!({"file": job.file_name, "rows": job.refused});
    Ok(Export { action: "imports.export_refused", object_kind: "import", object_id: job.id, detail })
}

pub(super) fn shown(job: Job) -> Import {
    let (headings, mapping) = (job.headings(), job.mapping());
    let is_read = |heading: &String| mapping.columns.values().any(|column| plain(column) == plain(heading));
    Import {
        // Only this program writes them, from the same types.
        kind: Kind::parse(&job.kind).unwrap_or(Kind::ChannelFeed),
        state: State::parse(&job.state).unwrap_or(State::Failed),
        ignored: headings.iter().filter(|heading| !is_read(heading)).cloned().collect(),
        errors_url: (job.refused > 0).then(|| format!("/api/v1/imports/{}/errors.csv", job.id)),
        problem: job.problem.and_then(|text| serde_json::from_str(&text).ok()),
        id: job.id,
        source: job.source,
        organization_id: job.organization_id,
        file_name: job.file_name,
        file_sha256: job.file_sha256,
        repeats: job.repeats,
        encoding: job.encoding,
        headings,
        mapping,
        dry_run: job.dry_run == 1,
        rows_total: job.rows_total,
        rows_done: job.rows_done,
        accepted: job.accepted,
        changed: job.changed,
        duplicates: job.duplicates,
        refused: job.refused,
        card_cells: job.card_cells,
        created_by: job.created_by,
        created_at_ms: job.created_at_ms,
        started_at_ms: job.started_at_ms,
        finished_at_ms: job.finished_at_ms,
    }
}
