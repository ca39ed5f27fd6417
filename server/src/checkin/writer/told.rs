//! Failures that organizations told of before their terminals did (rule R0): stored and counted already. The terminal's own
//! report, which knows the conditions, takes the place of what was told; that is kept beside it, and the failure is judged
//! again.

use std::collections::HashMap;

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{Nullable, Text};
use tillward_protocol::failure::Failure;

use super::Counted;
use super::rows::FailureRow;
use crate::clock::Now;
use crate::db::schema::{failures, imported_failures};
use crate::db::{self, Conn};
use crate::failures::imported::{self, ByTerminal};

/// The event under which a failure is kept, by terminal and the event that the terminal reports.
pub(super) type Told = HashMap<(i64, String), String>;

/// Which of the failures were told of.
pub(super) fn before(conn: &mut Conn, counted: &[Counted<'_>]) -> Result<Told, db::Error> {
    let failures: Vec<ByTerminal<'_>> = counted
        .iter()
        .flat_map(|one| {
            let (terminal_id, utc_offset_min) = (one.registry.id, one.registry.utc_offset_min);
            one.pending.check_in.failures.iter().map(move |failure| ByTerminal { terminal_id, utc_offset_min, failure })
        })
        .collect();
    if failures.is_empty() { Ok(Told::new()) } else { imported::told_before(conn, &failures) }
}

/// Writes the terminals' reports over what was told; three statements for each.
pub(super) fn complete(conn: &mut Conn, counted: &[Counted<'_>], told: &Told, now: Now) -> Result<(), db::Error> {
    if told.is_empty() {
        return Ok(());
    }
    for one in counted {
        for own in &one.pending.check_in.failures {
            if let Some(kept) = told.get(&(one.registry.id, own.id.clone())) {
                replace(conn, one, own, kept, now)?;
            }
        }
    }
    Ok(())
}

fn replace(conn: &mut Conn, of: &Counted<'_>, own: &Failure, kept: &str, now: Now) -> Result<(), db::Error> {
    let place = failures::table.find((of.registry.id, kept));
    let before: Option<String> = place.select(failures::event).first(conn).optional()?;
    // Its mark outlives a failure by hours at most.
    let Some(before) = before else { return Ok(()) };
    // What cannot be read any more is kept beside the report all the same.
    let both = match serde_json::from_str::<Failure>(&before) {
        Ok(told) => imported::completed(own, &told),
        Err(_) => Failure { id: kept.to_owned(), ..own.clone() },
    };
    let event = serde_json::to_string(&both).unwrap_or_default();
    let row = FailureRow::new(of.pending, &of.registry, &both, &event, 0, now);
    diesel::update(place)
        .set((
            failures::occurred_at_ms.eq(row.occurred_at_ms),
            failures::stage.eq(row.stage),
            failures::response_code.eq(row.response_code),
            failures::transaction_type.eq(row.transaction_type),
            failures::amount_fen.eq(row.amount_fen),
            failures::firmware.eq(row.firmware),
            failures::config_hash.eq(row.config_hash),
            failures::access.eq(row.access),
            failures::carrier.eq(row.carrier),
            failures::signal.eq(row.signal),
            failures::event.eq(row.event),
        ))
        .execute(conn)?;
    // A second report of the same transaction leaves what the organization said.
    let first = sql::<Nullable<Text>>("COALESCE(told_event, ").bind::<Text, _>(&before).sql(")");
    diesel::update(imported_failures::table.find((of.registry.id, kept)))
        .set((imported_failures::told_event.eq(first), imported_failures::completed_ms.eq(now.0)))
        .execute(conn)?;
    Ok(())
}
