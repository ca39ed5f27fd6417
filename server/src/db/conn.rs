//! One connection type over both databases.

#![allow(missing_docs)] // The derive makes items that it does not document.

use diesel::prelude::*;

/// One connection, to either database.
#[derive(diesel::MultiConnection)]
pub enum Conn {
    /// Embedded SQLite.
    Sqlite(SqliteConnection),
    /// PostgreSQL.
    Postgres(PgConnection),
}
