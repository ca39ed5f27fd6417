//! SQL of where passes are.

use diesel::prelude::*;

use crate::db::schema::maintenance_passes;
use crate::db::{self, Conn};
use crate::on_backend;

/// A pass's cursor and its version; none before the first step.
pub(in crate::maintenance) fn cursor(conn: &mut Conn, name: &str) -> Result<Option<(String, i64)>, db::Error> {
    let row = maintenance_passes::table.find(name);
    Ok(row.select((maintenance_passes::cursor, maintenance_passes::version)).first(conn).optional()?)
}

/// Compare-and-set; returns whether the cursor was still the one that was read.
pub(in crate::maintenance) fn move_cursor(
    conn: &mut Conn,
    name: &str,
    version: Option<i64>,
    cursor: &str,
) -> Result<bool, db::Error> {
    let moved = match version {
        Some(version) => {
            let row = maintenance_passes::table.find(name).filter(maintenance_passes::version.eq(version));
            diesel::update(row)
                .set((maintenance_passes::cursor.eq(cursor), maintenance_passes::version.eq(version + 1)))
                .execute(conn)?
        }
        None => {
            let row = (
                maintenance_passes::name.eq(name),
                maintenance_passes::cursor.eq(cursor),
                maintenance_passes::version.eq(1),
            );
            on_backend!(conn, |c| diesel::insert_into(maintenance_passes::table)
                .values(row)
                .on_conflict_do_nothing()
                .execute(c))?
        }
    };
    Ok(moved == 1)
}
