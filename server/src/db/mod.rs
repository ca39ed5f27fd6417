//! The database: SQLite by default, PostgreSQL by URL, the same tables and functions on both.
//!
//! `db.read(|conn| …)` and `db.write(|conn| …)` are the whole abstraction. A write is one transaction: on SQLite it runs
//! on the one writer thread under `BEGIN IMMEDIATE` with `synchronous=FULL`, on PostgreSQL on a pooled connection. The
//! future resolves after the commit. Where the dialects differ, [`on_backend!`](crate::on_backend) compiles one body for
//! each.

mod conn;
mod migrate;
mod pool;
pub mod schema;
pub mod settings;
mod sqlite;
pub mod timing;
pub mod types;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use diesel::connection::TransactionManager;
use diesel::prelude::*;
use diesel::r2d2::Pool;

pub use conn::Conn;
pub use migrate::Direction;
pub use sqlite::copy as copy_sqlite;
pub use types::{Sequence, next_id, next_ids};

/// Compiles one body for each database; `$c` is the concrete connection in it.
///
/// For what the common subset lacks: `on_conflict`, multi-row inserts, `returning`.
#[macro_export]
macro_rules! on_backend {
    ($conn:expr, |$c:ident| $body:expr) => {
        match $conn {
            $crate::db::Conn::Sqlite($c) => $body,
            $crate::db::Conn::Postgres($c) => $body,
        }
    };
}

/// A failure of the database itself. A missing row is not one: ask with `optional()`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A statement failed.
    #[error("the database refused a statement")]
    Query(#[from] diesel::result::Error),
    /// No connection could be had in time.
    #[error("no database connection")]
    Pool(#[from] diesel::r2d2::PoolError),
    /// The database could not be opened.
    #[error("cannot open the database: {0}")]
    Open(String),
    /// A migration failed.
    #[error("migration failed: {0}")]
    Migration(String),
    /// The thread that does the work is gone; the process is stopping.
    #[error("the database is closed")]
    Closed,
}

impl Error {
    /// Whether a unique index refused the row.
    pub fn is_unique_violation(&self) -> bool {
        use diesel::result::{DatabaseErrorKind, Error as Diesel};
        matches!(self, Self::Query(Diesel::DatabaseError(DatabaseErrorKind::UniqueViolation, _)))
    }
}

/// Connections that PostgreSQL is asked for at most, per server.
const POSTGRES_CONNECTIONS_MAX: u32 = 12;
/// How long a request waits for a connection before it is refused.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// SQLite readers: as many as can be busy on a small machine.
const SQLITE_READERS: u32 = 4;

/// Where the data is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A SQLite file.
    Sqlite(PathBuf),
    /// A PostgreSQL URL.
    Postgres(String),
}

impl Location {
    /// `postgres://…` or `postgresql://…` is PostgreSQL, anything else the path of a SQLite file.
    pub fn parse(text: &str) -> Self {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            Self::Postgres(text.to_owned())
        } else {
            Self::Sqlite(PathBuf::from(text.strip_prefix("sqlite://").unwrap_or(text)))
        }
    }
}

/// Handle on the database; cheap to clone.
#[derive(Clone)]
pub struct Db {
    inner: Arc<Inner>,
}

enum Inner {
    Sqlite { writer: sqlite::Writer, readers: Pool<pool::Manager>, path: PathBuf },
    Postgres { pool: Pool<pool::Manager> },
}

impl Db {
    /// Opens the database and brings it to the newest schema.
    ///
    /// # Errors
    /// [`Error::Open`] when it cannot be reached, [`Error::Migration`] when its schema is newer than this program or a
    /// migration fails.
    pub fn open(location: &Location) -> Result<Self, Error> {
        let db = Self::open_unmigrated(location)?;
        db.migrate(Direction::Up)?;
        Ok(db)
    }

    /// Opens the database as it is.
    ///
    /// # Errors
    /// [`Error::Open`] when it cannot be reached.
    pub fn open_unmigrated(location: &Location) -> Result<Self, Error> {
        let inner = match location {
            Location::Sqlite(path) => {
                let writer = sqlite::Writer::start(path)?;
                let readers = pool::open(pool::Manager::SqliteReader(path.clone()), SQLITE_READERS)?;
                Inner::Sqlite { writer, readers, path: path.clone() }
            }
            Location::Postgres(url) => {
                let pool = pool::open(pool::Manager::Postgres(url.clone()), POSTGRES_CONNECTIONS_MAX)?;
                Inner::Postgres { pool }
            }
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Runs migrations to the newest schema, or takes all of them back.
    ///
    /// # Errors
    /// [`Error::Migration`].
    pub fn migrate(&self, direction: Direction) -> Result<(), Error> {
        match &*self.inner {
            Inner::Sqlite { writer, .. } => writer.run_blocking(move |conn| migrate::run(conn, direction)),
            Inner::Postgres { pool } => migrate::run(&mut *pool.get()?, direction),
        }
    }

    /// The SQLite file, if that is what this is.
    pub fn sqlite_path(&self) -> Option<&std::path::Path> {
        match &*self.inner {
            Inner::Sqlite { path, .. } => Some(path),
            Inner::Postgres { .. } => None,
        }
    }

    /// Whether the database answers now.
    pub async fn is_reachable(&self) -> bool {
        use diesel::connection::SimpleConnection;
        let asked = self.read(|conn| conn.batch_execute("SELECT 1").map_err(Error::from)).await;
        asked.inspect_err(|error| tracing::warn!(%error, "the database does not answer")).is_ok()
    }

    /// Reads; no transaction is opened, each statement sees the last commit.
    ///
    /// # Errors
    /// What `read` returns, or a failure to get a connection.
    pub async fn read<T, E, F>(&self, read: F) -> Result<T, E>
    where
        F: FnOnce(&mut Conn) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let inner = Arc::clone(&self.inner);
        let work = tokio::task::spawn_blocking(move || {
            let pool = match &*inner {
                Inner::Sqlite { readers, .. } => readers,
                Inner::Postgres { pool } => pool,
            };
            read(&mut *pool.get().map_err(Error::from)?)
        });
        work.await.map_err(|_| E::from(Error::Closed))?
    }

    /// Writes in one transaction and resolves after its commit. An error rolls everything back.
    ///
    /// # Errors
    /// What `write` returns, or a failure of the transaction itself.
    pub async fn write<T, E, F>(&self, write: F) -> Result<T, E>
    where
        F: FnOnce(&mut Conn) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        match &*self.inner {
            Inner::Sqlite { writer, .. } => writer.run(move |conn| in_transaction(conn, write)).await,
            Inner::Postgres { pool } => {
                let pool = pool.clone();
                let work =
                    tokio::task::spawn_blocking(move || in_transaction(&mut *pool.get().map_err(Error::from)?, write));
                work.await.map_err(|_| E::from(Error::Closed))?
            }
        }
    }
}

/// Runs `write` between `BEGIN` and `COMMIT`; on an error, or when the commit fails, everything is rolled back.
fn in_transaction<T, E, F>(conn: &mut Conn, write: F) -> Result<T, E>
where
    F: FnOnce(&mut Conn) -> Result<T, E>,
    E: From<Error>,
{
    match conn {
        // The default deferred transaction fails with "database is locked" when it turns from reading to writing.
        Conn::Sqlite(sqlite) => {
            diesel::connection::AnsiTransactionManager::begin_transaction_sql(sqlite, "BEGIN IMMEDIATE")
        }
        Conn::Postgres(postgres) => diesel::connection::AnsiTransactionManager::begin_transaction(postgres),
    }
    .map_err(|error| E::from(Error::from(error)))?;
    let result = write(conn);
    match result {
        Ok(value) => match finish(conn, Finish::Commit) {
            Ok(()) => Ok(value),
            Err(error) => {
                // A commit that failed (disk full) leaves the transaction open: nothing of it may survive.
                let _ = finish(conn, Finish::RollBack);
                Err(E::from(Error::from(error)))
            }
        },
        Err(error) => {
            if let Err(rollback) = finish(conn, Finish::RollBack) {
                tracing::warn!(error = %rollback, "rollback failed; the connection will be replaced");
            }
            Err(error)
        }
    }
}

enum Finish {
    Commit,
    RollBack,
}

fn finish(conn: &mut Conn, how: Finish) -> QueryResult<()> {
    use diesel::connection::AnsiTransactionManager as Manager;
    match (conn, how) {
        (Conn::Sqlite(c), Finish::Commit) => Manager::commit_transaction(c),
        (Conn::Sqlite(c), Finish::RollBack) => Manager::rollback_transaction(c),
        (Conn::Postgres(c), Finish::Commit) => Manager::commit_transaction(c),
        (Conn::Postgres(c), Finish::RollBack) => Manager::rollback_transaction(c),
    }
}
