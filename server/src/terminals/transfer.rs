//! 划拨 and 回拨: terminals move one step up or down the tree of organizations.

use serde::{Deserialize, Serialize};
use tillward_protocol::FieldError;

use super::bindings::{self, Why};
use super::lifecycle::Action;
use super::store::{self, Record};
use super::{Error, NotDone, check_bulk, deed, take};
use crate::audit::{self, Actor};
use crate::clock::Now;
use crate::db::Conn;
use crate::operators::Scope;
use crate::organizations::{self, Organization};
use crate::profiles;

/// 划拨 and 回拨: which terminals go to which organization.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Transfer {
    /// Terminals, at most 1,000.
    pub ids: Vec<i64>,
    /// A direct child of the organization that has them, or its parent.
    pub organization_id: i64,
}

/// What became of a transfer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Transferred {
    /// Terminals that moved.
    pub moved: Vec<i64>,
    /// Terminals that stay, each with the reason.
    pub refused: Vec<NotDone>,
}

/// Moves terminals one step up or down the tree, each or not; what stays says why.
///
/// # Errors
/// [`Error::Invalid`] for too many terminals or an organization outside the caller's scope.
pub fn transfer(
    conn: &mut Conn,
    actor: &Actor,
    scope: &Scope,
    asked: &Transfer,
    now: Now,
) -> Result<Transferred, Error> {
    check_bulk(&asked.ids)?;
    let to = organizations::get(conn, scope, asked.organization_id)?
        .ok_or_else(|| FieldError::new("organization_id", "is not an organization of yours"))?;
    let mut done = Transferred::default();
    let mut moved = Vec::new();
    // In the order of their numbers, and the audit log last: it is locked from its first entry to the commit, and nobody
    // may wait for a terminal while others wait for the log.
    let mut ids = asked.ids.clone();
    ids.sort_unstable();
    for id in ids {
        match move_one(conn, actor, scope, id, &to, now) {
            Ok(step) => moved.push(step),
            Err(Error::Db(error)) => return Err(error.into()),
            Err(error) => done.refused.push(NotDone { id, reason: error.to_string() }),
        }
    }
    // A merchant that is in the record moves along; whose it was ends here.
    let why = Why { actor: actor.name(), reason: "transferred" };
    let noted: Vec<(&Record, Why<'_>)> = moved.iter().map(|(record, _)| (record, why)).collect();
    bindings::note(conn, &noted, now)?;
    let ids: Vec<i64> = moved.iter().map(|(record, _)| record.id).collect();
    profiles::recompute(conn, &ids, now)?;
    for (record, detail) in moved {
        audit::append(conn, actor, &deed("terminals.lifecycle", &record, detail), now)?;
        done.moved.push(record.id);
    }
    Ok(done)
}

fn move_one(
    conn: &mut Conn,
    actor: &Actor,
    scope: &Scope,
    id: i64,
    to: &Organization,
    now: Now,
) -> Result<(Record, serde_json::Value), Error> {
    let mut record = store::find(conn, scope, id)?.ok_or(Error::NotFound)?;
    let from = organizations::get(conn, scope, record.organization_id)?.ok_or(Error::NotFound)?;
    let action = if to.parent_id == Some(from.id) {
        Action::Allocate
    } else if from.parent_id == Some(to.id) {
        Action::Recall
    } else {
        let why = "terminals move only between an organization and its direct child";
        return Err(Error::Conflict(why.to_owned()));
    };
    record.organization_id = to.id;
    record.org_path.clone_from(&to.path);
    let detail = take(conn, actor, &mut record, action, now)?;
    Ok((record, detail))
}
