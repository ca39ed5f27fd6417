//! Pooled connections: SQLite readers that cannot write, and PostgreSQL.

use std::path::PathBuf;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::r2d2::{ManageConnection, Pool};

use super::{CONNECTION_TIMEOUT, Conn, Error, sqlite};

/// Makes and checks pooled connections.
pub(super) enum Manager {
    SqliteReader(PathBuf),
    Postgres(String),
}

pub(super) fn open(manager: Manager, size_max: u32) -> Result<Pool<Manager>, Error> {
    Pool::builder()
        .max_size(size_max)
        .min_idle(Some(1))
        .connection_timeout(CONNECTION_TIMEOUT)
        .error_handler(Box::new(LogErrors))
        .build(manager)
        .map_err(|error| Error::Open(error.to_string()))
}

/// Plans are made for the values at hand and for the table as large as it is: one that was kept from when a table was
/// empty reads all of it, and none that must hold for every value uses a partial index.
fn open_postgres(url: &str) -> ConnectionResult<PgConnection> {
    let mut conn = PgConnection::establish(url)?;
    conn.batch_execute("SET plan_cache_mode = force_custom_plan")
        .map_err(ConnectionError::CouldntSetupConfiguration)?;
    Ok(conn)
}

#[derive(Debug)]
struct LogErrors;

impl diesel::r2d2::HandleError<diesel::r2d2::Error> for LogErrors {
    fn handle_error(&self, error: diesel::r2d2::Error) {
        tracing::warn!(%error, "a database connection failed");
    }
}

impl ManageConnection for Manager {
    type Connection = Conn;
    type Error = diesel::r2d2::Error;

    fn connect(&self) -> Result<Conn, Self::Error> {
        match self {
            Self::SqliteReader(path) => sqlite::open_reader(path).map(Conn::Sqlite),
            Self::Postgres(url) => open_postgres(url).map(Conn::Postgres),
        }
        .map_err(diesel::r2d2::Error::ConnectionError)
    }

    fn is_valid(&self, conn: &mut Conn) -> Result<(), Self::Error> {
        conn.batch_execute("SELECT 1").map_err(diesel::r2d2::Error::QueryError)
    }

    fn has_broken(&self, conn: &mut Conn) -> bool {
        std::thread::panicking() || diesel::r2d2::R2D2Connection::is_broken(conn)
    }
}
