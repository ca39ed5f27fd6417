//! Migrations of both databases, compiled in. Forward at every start; backward only by command.

use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::{Conn, Error};
use crate::on_backend;

const SQLITE: EmbeddedMigrations = embed_migrations!("../migrations/sqlite");
const POSTGRES: EmbeddedMigrations = embed_migrations!("../migrations/postgres");

/// Which way to migrate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the newest schema.
    Up,
    /// Back to an empty database.
    Down,
}

/// Key of PostgreSQL's advisory lock under which one server migrates at a time ("tillward" in base 36, cut to 63 bits).
const LOCK: i64 = 2_299_513_126_761;

pub(super) fn run(conn: &mut Conn, direction: Direction) -> Result<(), Error> {
    lock(conn)?;
    let result = on_backend!(conn, |c| steps(c, direction));
    unlock(conn)?;
    result
}

fn steps<DB, C>(conn: &mut C, direction: Direction) -> Result<(), Error>
where
    DB: diesel::backend::Backend,
    C: MigrationHarness<DB> + SourceOf,
{
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| Error::Migration(error.to_string());
    let known =
        <EmbeddedMigrations as diesel::migration::MigrationSource<DB>>::migrations(&C::source()).map_err(failed)?;
    let known: Vec<String> = known.iter().map(|migration| migration.name().version().to_string()).collect();
    let applied = conn.applied_migrations().map_err(failed)?;
    if let Some(newer) = applied.iter().find(|version| !known.contains(&version.to_string())) {
        return Err(Error::Migration(format!(
            "the database has migration {newer}, which this program does not know; install the newer program again"
        )));
    }
    match direction {
        Direction::Up => conn.run_pending_migrations(C::source()).map(drop).map_err(failed),
        Direction::Down => conn.revert_all_migrations(C::source()).map(drop).map_err(failed),
    }
}

trait SourceOf {
    fn source() -> EmbeddedMigrations;
}

impl SourceOf for diesel::SqliteConnection {
    fn source() -> EmbeddedMigrations {
        SQLITE
    }
}

impl SourceOf for diesel::PgConnection {
    fn source() -> EmbeddedMigrations {
        POSTGRES
    }
}

fn lock(conn: &mut Conn) -> Result<(), Error> {
    advisory(conn, &format!("SELECT pg_advisory_lock({LOCK})"))
}

fn unlock(conn: &mut Conn) -> Result<(), Error> {
    advisory(conn, &format!("SELECT pg_advisory_unlock({LOCK})"))
}

fn advisory(conn: &mut Conn, sql: &str) -> Result<(), Error> {
    use diesel::connection::SimpleConnection;
    match conn {
        Conn::Sqlite(_) => Ok(()),
        Conn::Postgres(postgres) => postgres.batch_execute(sql).map_err(Error::from),
    }
}
