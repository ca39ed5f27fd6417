//! SQL of drifts. What a terminal reports is in its state row, not here.

use diesel::prelude::*;

use crate::clock::Now;
use crate::db::schema::{config_drifts, terminal_states, terminals};
use crate::db::{self, Conn};
use crate::operators::Scope;
use crate::profiles::drift::{Drift, DriftState};
use crate::terminals::Lifecycle;

/// A terminal's serial number, by primary key.
pub(in crate::profiles) fn sn(conn: &mut Conn, terminal_id: i64) -> Result<Option<String>, db::Error> {
    Ok(terminals::table.find(terminal_id).select(terminals::sn).first(conn).optional()?)
}

/// Terminals that drift from now on. One that is there already, because two servers saw it, stays as it is.
pub(in crate::profiles) fn begin(conn: &mut Conn, drifts: &[(i64, &str)], now: Now) -> Result<(), db::Error> {
    let rows: Vec<_> = drifts
        .iter()
        .map(|&(terminal_id, expected)| {
            (
                config_drifts::terminal_id.eq(terminal_id),
                config_drifts::expected.eq(expected),
                config_drifts::since_ms.eq(now.0),
                config_drifts::state.eq(DriftState::Watching.as_str()),
                config_drifts::state_since_ms.eq(now.0),
            )
        })
        .collect();
    match conn {
        // SQLite's dialect has no conflict clause on many rows; one row a statement costs it no round trip.
        Conn::Sqlite(c) => {
            for row in rows {
                diesel::insert_into(config_drifts::table).values(row).on_conflict_do_nothing().execute(c)?;
            }
        }
        Conn::Postgres(_) if rows.is_empty() => {}
        Conn::Postgres(c) => {
            diesel::insert_into(config_drifts::table).values(rows).on_conflict_do_nothing().execute(c)?;
        }
    }
    Ok(())
}

/// Terminals whose drift got further.
pub(in crate::profiles) fn enter(conn: &mut Conn, ids: &[i64], state: DriftState, now: Now) -> Result<(), db::Error> {
    if !ids.is_empty() {
        diesel::update(config_drifts::table.filter(config_drifts::terminal_id.eq_any(ids)))
            .set((config_drifts::state.eq(state.as_str()), config_drifts::state_since_ms.eq(now.0)))
            .execute(conn)?;
    }
    Ok(())
}

/// Terminals that drift no longer.
pub(in crate::profiles) fn end(conn: &mut Conn, ids: &[i64]) -> Result<(), db::Error> {
    if !ids.is_empty() {
        diesel::delete(config_drifts::table.filter(config_drifts::terminal_id.eq_any(ids))).execute(conn)?;
    }
    Ok(())
}

/// Terminals in these states never call again.
const SILENT: [Lifecycle; 2] = [Lifecycle::Retired, Lifecycle::Blocked];

type Columns = (i64, String, String, String, String, Option<String>, i64, i64);

macro_rules! rows {
    ($scope:expr) => {
        config_drifts::table
            .inner_join(terminals::table.on(terminals::id.eq(config_drifts::terminal_id)))
            .left_join(terminal_states::table.on(terminal_states::terminal_id.eq(config_drifts::terminal_id)))
            .filter(terminals::org_path.ge($scope.from()))
            .filter(terminals::org_path.lt($scope.below()))
            .filter(terminals::lifecycle.ne_all(SILENT.map(Lifecycle::as_str)))
            .select((
                config_drifts::terminal_id,
                terminals::sn,
                terminals::org_path,
                config_drifts::state,
                config_drifts::expected,
                terminal_states::config_hash.nullable(),
                config_drifts::since_ms,
                config_drifts::state_since_ms,
            ))
    };
}

fn drift((terminal_id, sn, org_path, state, expected, reported, since_ms, state_since_ms): Columns) -> Drift {
    let state = DriftState::parse(&state);
    Drift { terminal_id, sn, org_path, state, expected, reported, since_ms, state_since_ms }
}

/// One terminal's drift, by primary key.
pub(in crate::profiles) fn find(conn: &mut Conn, scope: &Scope, terminal_id: i64) -> Result<Option<Drift>, db::Error> {
    let row = rows!(scope).filter(config_drifts::terminal_id.eq(terminal_id)).first::<Columns>(conn).optional()?;
    Ok(row.map(drift))
}

/// By primary key, or by `config_drifts_by_state`.
pub(in crate::profiles) fn list(
    conn: &mut Conn,
    scope: &Scope,
    state: Option<DriftState>,
    after: i64,
    limit: i64,
) -> Result<Vec<Drift>, db::Error> {
    let rows = rows!(scope).filter(config_drifts::terminal_id.gt(after)).order(config_drifts::terminal_id).limit(limit);
    let rows = match state {
        Some(state) => rows.filter(config_drifts::state.eq(state.as_str())).load::<Columns>(conn)?,
        None => rows.load::<Columns>(conn)?,
    };
    Ok(rows.into_iter().map(drift).collect())
}
