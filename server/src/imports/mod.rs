//! Imports: files of payments and failures, taken in by a job in the background.
//!
//! An upload becomes a plain table without card data ([`sheet`]) in the blob storage, and a job. A worker ([`pass`]) maps
//! the rows ([`mapping`]) and hands them in blocks to what the kind of import does with them ([`Intake`]). The job's cursor
//! moves in the transaction of the rows, so that a process killed in the middle goes on where it was and no row counts
//! twice. A dry run does the same and gives each block's transaction up. Rows that are refused stay with their line and
//! reason; nothing else is lost for them.

pub mod http;
mod jobs;
pub mod mapping;
pub mod sheet;
mod store;
pub mod values;
mod worker;
mod xlsx;

use serde::{Deserialize, Serialize};
use tillward_protocol::FieldError;

pub use jobs::{
    Import, Preview, Start, State, Upload, cancel, errors_after, errors_export, find, list, preview, save_mapping,
    saved_mapping, start, upload,
};
pub use mapping::{Field, Holds, Mapping, Row};
pub use worker::{LEASE_MS, pass, sweep};

use crate::blobs::BlobError;
use crate::clock::Now;
use crate::db::{self, Conn};
use crate::failures::{feed, imported};
use crate::operators::Scope;
use crate::organizations::{self, Organization};

/// Largest file, bytes: 200,000 rows of every column stay well below.
pub const FILE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Rows of one transaction: some 30 ms, for which a check-in waits at most.
pub const BLOCK_ROWS: usize = 500;

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ImportKind)]
pub enum Kind {
    /// Settled payments as a channel tells them; the source is the channel's number.
    ChannelFeed,
    /// Failures of terminals that cannot report them; the source is any name of yours for where they come from.
    Failures,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::ChannelFeed, Self::Failures];

    /// Name in tables, URLs and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ChannelFeed => "channel_feed",
            Self::Failures => "failures",
        }
    }

    /// The kind of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// What is done with its rows.
    pub fn intake(self) -> &'static dyn Intake {
        match self {
            Self::ChannelFeed => &feed::Intake,
            Self::Failures => &imported::Intake,
        }
    }
}

/// What one kind of import does with its rows.
pub trait Intake: Sync {
    /// The fields that rows of this kind have.
    fn fields(&self) -> &'static [Field];

    /// Checks what a mapping must have beside its required fields.
    ///
    /// # Errors
    /// [`FieldError`] naming the field that lacks a column.
    fn check(&self, mapping: &Mapping) -> Result<(), FieldError> {
        mapping.check(self.fields())
    }

    /// The organization that rows of `source` belong to, asked for by somebody who sees `scope`.
    ///
    /// # Errors
    /// [`Error::Invalid`] when there is no such organization or source.
    fn home(&self, conn: &mut Conn, scope: &Scope, organization_id: i64, source: &str) -> Result<Organization, Error>;

    /// Takes rows in, within the transaction that also moves the job's cursor; says what became of each, in order. The
    /// same row again must come out as [`Outcome::Duplicate`] and change nothing.
    ///
    /// # Errors
    /// [`db::Error`]; the block is then given up and tried again later.
    fn take(&self, conn: &mut Conn, target: &Target, rows: &[Row], now: Now) -> Result<Vec<Outcome>, db::Error>;
}

/// Whose rows they are, and where they come from.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// The job.
    pub import_id: String,
    /// Organization.
    pub organization_id: i64,
    /// Its path: rows may name what is below it, and nothing else.
    pub org_path: String,
    /// Source within its kind.
    pub source: String,
    /// SHA-256 of the file as it was sent.
    pub file_sha256: String,
    /// How the source writes.
    pub mapping: Mapping,
}

impl Target {
    /// What the rows may name.
    pub fn scope(&self) -> Scope {
        Scope::subtree(self.org_path.clone())
    }
}

/// What became of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is new.
    Accepted,
    /// It says more of what was known.
    Changed,
    /// It was known just so.
    Duplicate,
    /// It cannot be taken, and why.
    Refused(FieldError),
}

/// Why something about imports was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such thing in the caller's scope.
    #[error("not found")]
    NotFound,
    /// A field was refused.
    #[error(transparent)]
    Invalid(#[from] FieldError),
    /// Its state does not allow it; the text says what to do.
    #[error("{0}")]
    Conflict(&'static str),
    /// The file could not be kept or read back.
    #[error("the file could not be kept")]
    Blob(#[from] BlobError),
    /// The database failed.
    #[error(transparent)]
    Db(#[from] db::Error),
}

/// The organization that somebody names as the home of rows.
///
/// # Errors
/// [`Error::Invalid`] when it is outside of the scope.
pub fn organization(conn: &mut Conn, scope: &Scope, organization_id: i64) -> Result<Organization, Error> {
    organizations::get(conn, scope, organization_id)?
        .ok_or_else(|| FieldError::new("organization_id", "is not an organization of yours").into())
}
