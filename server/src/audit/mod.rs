//! The audit log: a hash chain of what operators and the system did.
//!
//! Each entry's hash covers all its fields and the hash of the entry before it, so that an edited, deleted or reordered
//! entry is found by [`verify`]. An entry is appended in the transaction of the deed itself.

pub mod http;
mod store;

use serde::Serialize;
use serde_json::{Value, json};
use tillward_protocol::pan;

use crate::clock::Now;
use crate::db::{self, Conn, Db};
use crate::operators::{Caller, CallerKind, Scope};
use crate::organizations;

/// Who did it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// `operator`, `api_key`, `terminal` or `system`.
    kind: &'static str,
    id: i64,
    name: String,
    request_id: String,
}

impl Actor {
    /// The server itself: a pass of the planner, a command on its machine.
    pub fn system(name: &str) -> Self {
        Self { kind: "system", id: 0, name: name.to_owned(), request_id: String::new() }
    }

    /// A terminal.
    pub fn terminal(id: i64, sn: &str) -> Self {
        Self { kind: "terminal", id, name: sn.to_owned(), request_id: String::new() }
    }

    /// What people call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same actor, within the request of this id.
    pub fn in_request(mut self, request_id: &str) -> Self {
        self.request_id = request_id.to_owned();
        self
    }
}

impl From<&Caller> for Actor {
    fn from(caller: &Caller) -> Self {
        let kind = match caller.kind {
            CallerKind::Operator => "operator",
            CallerKind::ApiKey => "api_key",
        };
        Self { kind, id: caller.id, name: caller.name.clone(), request_id: String::new() }
    }
}

/// What was done to what. `action` is `area.verb`, for example `terminals.import`.
#[derive(Debug, Clone, PartialEq)]
pub struct Deed<'a> {
    /// `area.verb`.
    pub action: &'a str,
    /// Kind of the object: `terminal`, `rollout`, …
    pub object_kind: &'a str,
    /// Its number or name.
    pub object_id: String,
    /// Organization it belongs to, as a path; decides who may read the entry.
    pub org_path: &'a str,
    /// What changed. Never secrets, never card data.
    pub detail: Value,
}

/// One link of the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Entry {
    /// Position, from 1, without gaps.
    pub seq: i64,
    /// When, Unix ms.
    pub at_ms: i64,
    /// `operator`, `api_key`, `terminal` or `system`.
    pub actor_kind: String,
    /// Number of the actor.
    pub actor_id: i64,
    /// Name of the actor.
    pub actor_name: String,
    /// Organization.
    pub org_path: String,
    /// `area.verb`.
    pub action: String,
    /// Kind of the object.
    pub object_kind: String,
    /// Number or name of the object.
    pub object_id: String,
    /// What changed, JSON.
    pub detail: String,
    /// Request it happened in.
    pub request_id: String,
    /// Hash of the entry before.
    pub previous_hash: String,
    /// SHA-256 over all the above, hex.
    pub hash: String,
}

impl Entry {
    /// The hash that this entry should have.
    fn expected_hash(&self) -> String {
        // A JSON array of strings is an injective encoding: no field can run into the next.
        let fields = [
            self.seq.to_string(),
            self.at_ms.to_string(),
            self.actor_kind.clone(),
            self.actor_id.to_string(),
            self.actor_name.clone(),
            self.org_path.clone(),
            self.action.clone(),
            self.object_kind.clone(),
            self.object_id.clone(),
            self.detail.clone(),
            self.request_id.clone(),
            self.previous_hash.clone(),
        ];
        let encoded = serde_json::to_vec(&fields).unwrap_or_default();
        hex::encode(tillward_protocol::crypto::sha256(&encoded))
    }
}

/// Appends one entry, within the caller's transaction.
///
/// # Errors
/// [`db::Error`].
pub fn append(conn: &mut Conn, actor: &Actor, deed: &Deed<'_>, now: Now) -> Result<(), db::Error> {
    store::append(conn, |seq, previous_hash| {
        let mut entry = Entry {
            seq,
            at_ms: now.0,
            actor_kind: actor.kind.to_owned(),
            actor_id: actor.id,
            actor_name: actor.name.clone(),
            org_path: deed.org_path.to_owned(),
            action: deed.action.to_owned(),
            object_kind: deed.object_kind.to_owned(),
            object_id: deed.object_id.clone(),
            detail: deed.detail.to_string(),
            request_id: actor.request_id.clone(),
            previous_hash,
            hash: String::new(),
        };
        entry.hash = entry.expected_hash();
        entry
    })
}

/// Longest text of a filter that an entry keeps, characters: no name here is longer.
const ASKED_CHARS_MAX: usize = 100;

/// Data that somebody takes along as a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Export {
    /// `area.verb`.
    pub action: &'static str,
    /// Kind of the object that the file is of; `export` for a table of many.
    pub object_kind: &'static str,
    /// Number or name of the object, or what the table is called.
    pub object_id: String,
    /// By what it was narrowed, and the rows where they are known.
    pub detail: Value,
}

impl Export {
    /// A table: what was asked for by name and value, what was not named aside, and its rows where they are known before
    /// it is sent. Anything may have been asked for: texts are kept short and without card data.
    pub fn table(action: &'static str, name: &str, asked: &[(&str, Value)], rows: Option<usize>) -> Self {
        let is_said = |value: &Value| !(value.is_null() || value == "" || value == &json!([]));
        let kept = |value: &Value| match value {
            Value::String(text) => Value::String(pan::mask(text).chars().take(ASKED_CHARS_MAX).collect()),
            other => other.clone(),
        };
        let filter: serde_json::Map<String, Value> = asked
            .iter()
            .filter(|(_, value)| is_said(value))
            .map(|(name, value)| ((*name).to_owned(), kept(value)))
            .collect();
        let detail = json!({"asked": filter, "rows": rows});
        Self { action, object_kind: "export", object_id: name.to_owned(), detail }
    }
}

/// Notes in a transaction of its own who takes data along, before the first of them leaves: what cannot be noted is not
/// given out. The entry is of the caller's organization, for whose people it was.
///
/// # Errors
/// [`db::Error`].
pub async fn export(db: &Db, caller: &Caller, actor: Actor, export: Export, now: Now) -> Result<(), db::Error> {
    let org_path = caller.scope.from().to_owned();
    db.write(move |conn| {
        let Export { action, object_kind, object_id, detail } = export;
        append(conn, &actor, &Deed { action, object_kind, object_id, org_path: &org_path, detail }, now)
    })
    .await
}

/// What [`verify`] found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = AuditVerdict)]
pub struct Verdict {
    /// Entries read.
    pub entries: i64,
    /// Hash of the last one, to be kept elsewhere: it proves later that nothing was cut off.
    pub head: String,
    /// The first entry that does not fit, if any.
    pub broken_at: Option<i64>,
    /// What is wrong with it.
    pub problem: Option<String>,
}

/// Whether a caller of this scope may have the chain walked: it is everybody's, its length and head say how much
/// everybody does, and the walk costs as much as there is.
pub fn may_verify(scope: &Scope) -> bool {
    organizations::is_headquarters(scope.from())
}

/// Walks the whole chain; entries are read in blocks, memory stays flat. With `expected_head`, a head noted earlier,
/// it also finds that entries were cut off at the end.
///
/// # Errors
/// [`db::Error`].
pub async fn verify(db: &Db, expected_head: Option<&str>) -> Result<Verdict, db::Error> {
    let mut awaited = expected_head.map(str::to_owned);
    db.read(move |conn| {
        let mut verdict = Verdict { entries: 0, head: String::new(), broken_at: None, problem: None };
        loop {
            let block = store::after(conn, verdict.entries, store::BLOCK)?;
            if block.is_empty() {
                if awaited.is_some() {
                    verdict.problem = Some("the chain is whole, but the expected head is not in it".to_owned());
                }
                return Ok(verdict);
            }
            for entry in block {
                let expected = verdict.entries + 1;
                let problem = if entry.seq != expected {
                    Some(format!("entry {expected} is missing"))
                } else if entry.previous_hash != verdict.head {
                    Some("it does not follow the entry before it".to_owned())
                } else if entry.hash != entry.expected_hash() {
                    Some("its content was changed".to_owned())
                } else {
                    None
                };
                if problem.is_some() {
                    verdict.broken_at = Some(expected);
                    verdict.problem = problem;
                    return Ok(verdict);
                }
                verdict.entries = entry.seq;
                verdict.head = entry.hash;
                awaited = awaited.filter(|hash| *hash != verdict.head);
            }
        }
    })
    .await
}

/// Entries about one object, oldest first, at most 100. By `audit_entries_by_object`. For domains that found the object in
/// the caller's scope.
///
/// # Errors
/// [`db::Error`].
pub fn of_object(conn: &mut Conn, object_kind: &str, object_id: &str) -> Result<Vec<Entry>, db::Error> {
    store::of_object(conn, object_kind, object_id)
}

/// Entries of the caller's organizations, newest first, before `before`.
///
/// # Errors
/// [`db::Error`].
pub async fn list(db: &Db, scope: Scope, before: Option<i64>, size: u32) -> Result<Vec<Entry>, db::Error> {
    db.read(move |conn| store::list(conn, &scope, before, i64::from(size))).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_was_asked_for_only_what_was_said_is_kept_short_and_without_card_data() {
        let asked = [
            ("model", json!("P1")),
            ("sn", json!("6222 0212 3456 7890 128")),
            ("region", json!("长".repeat(300))),
            ("firmware", Value::Null),
            ("q", json!("")),
            ("shows", json!([])),
            ("hours", json!(24)),
        ];
        let export = Export::table("failures.export", "cells", &asked, Some(7));
        assert_eq!((export.object_kind, export.object_id.as_str()), ("export", "cells"));
        let filter = &export.detail["asked"];
        let mut names: Vec<&String> = filter.as_object().unwrap().keys().collect();
        names.sort();
        assert_eq!(names, ["hours", "model", "region", "sn"]);
        assert_eq!((&filter["model"], &filter["hours"], &export.detail["rows"]), (&json!("P1"), &json!(24), &json!(7)));
        assert_eq!(filter["region"], "长".repeat(100));
        assert!(!pan::contains_card_data(filter["sn"].as_str().unwrap()), "{filter}");
    }
}
