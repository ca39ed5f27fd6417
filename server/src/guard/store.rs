//! SQL of the guard: whose a sender is.

use diesel::prelude::*;

use crate::db::schema::{organizations, terminals};
use crate::db::{self, Conn};

/// A terminal's organization, by primary key.
pub(super) fn org_path(conn: &mut Conn, terminal_id: i64) -> Result<Option<String>, db::Error> {
    Ok(terminals::table.find(terminal_id).select(terminals::org_path).first(conn).optional()?)
}

/// An organization's name, by unique index.
pub(super) fn name(conn: &mut Conn, org_path: &str) -> Result<Option<String>, db::Error> {
    let row = organizations::table.filter(organizations::path.eq(org_path)).select(organizations::name);
    Ok(row.first(conn).optional()?)
}
