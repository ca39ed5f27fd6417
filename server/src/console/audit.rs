//! The audit log, newest first, and whether its chain is whole.

use actix_web::{HttpResponse, web};
use askama::Template;
use serde::Deserialize;
use serde_json::Value;

use super::shell::{self, Shell};
use super::status::{Status, Tone};
use crate::audit::{self, Entry};
use crate::http::State;
use crate::http::body::{Query, query_pair};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::page::{Page, PageQuery};
use crate::http::problem::Problem;
use crate::operators::{Caller, Permission};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![Endpoint::get("/audit", Access::Page(Permission::AuditRead), "", list)]
}

struct Row {
    seq: i64,
    at: String,
    who: String,
    kind: String,
    action: String,
    /// Its name in the log, for those who search it.
    name: String,
    object: String,
    href: Option<String>,
    /// Names and values.
    facts: Vec<(String, String)>,
}

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditPage {
    shell: Shell,
    chain: Status,
    may_verify: bool,
    head: Option<String>,
    rows: Vec<Row>,
    next: Option<String>,
}

#[derive(Debug, Deserialize)]
struct AuditQuery {
    #[serde(default)]
    after: Option<String>,
    /// Walking the whole chain takes a while on an old server, so it is asked for.
    #[serde(default)]
    verify: Option<u8>,
}

async fn list(
    shell: Shell,
    state: web::Data<State>,
    caller: Caller,
    Query(query): Query<AuditQuery>,
) -> Result<HttpResponse, Problem> {
    let page = PageQuery { after: query.after, size: None };
    let size = page.size()?;
    let may_verify = audit::may_verify(&caller.scope);
    let entries = audit::list(&state.db, caller.scope, page.after::<i64>()?, size + 1).await?;
    let entries = Page::from_rows(entries, size, |entry| entry.seq);
    let (chain, head) = match query.verify.filter(|_| may_verify) {
        None => (Status { tone: Tone::Quiet, word: shell.say("audit-unverified") }, None),
        Some(_) => {
            let verdict = audit::verify(&state.db, None).await?;
            match verdict.broken_at {
                None => {
                    let word = shell.count("audit-whole", &verdict.entries);
                    (Status { tone: Tone::Good, word }, Some(verdict.head))
                }
                Some(seq) => (Status { tone: Tone::Bad, word: shell.with("audit-broken", "seq", seq) }, None),
            }
        }
    };
    let rows = entries.items.into_iter().map(|entry| row(&shell, entry)).collect();
    let next = entries.next.map(|cursor| format!("/audit?{}", query_pair("after", &cursor)));
    shell::ok(&AuditPage { chain, may_verify, head, rows, next, shell })
}

fn row(shell: &Shell, entry: Entry) -> Row {
    let href = match entry.object_kind.as_str() {
        "rollout" => Some(format!("/rollouts/{}", entry.object_id)),
        "incident" => Some(format!("/incidents/{}", entry.object_id)),
        "work_order" => Some(format!("/work-orders/{}", entry.object_id)),
        "release" => Some("/releases".to_owned()),
        "organization" => Some(format!("/terminals?{}", query_pair("organization_id", &entry.object_id))),
        _ => None,
    };
    Row {
        seq: entry.seq,
        at: shell.moments.absolute(entry.at_ms),
        who: entry.actor_name,
        kind: shell.word("actor", &entry.actor_kind),
        action: deed(shell, &entry.action),
        name: entry.action,
        object: format!("{} {}", shell.word("object", &entry.object_kind), entry.object_id),
        href,
        facts: facts(shell, &entry.detail),
    }
}

/// `rollouts.start` in words; a deed without a word keeps its name.
fn deed(shell: &Shell, action: &str) -> String {
    let name = action.replace('.', "-");
    let word = shell.word("deed", &name);
    if word == name { action.to_owned() } else { word }
}

/// The entry's own words, one value after the other; empty ones say nothing.
fn facts(shell: &Shell, detail: &str) -> Vec<(String, String)> {
    let Ok(Value::Object(values)) = serde_json::from_str(detail) else {
        return vec![(String::new(), detail.to_owned())];
    };
    // A value is a word of the family that its field names, where there is one: `role`, `status`, `lifecycle`.
    let facts = values.into_iter().map(|(name, value)| (shell.word("field", &name), shell.word(&name, &said(value))));
    facts.filter(|(_, value)| !value.is_empty()).collect()
}

fn said(value: Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text,
        Value::Array(values) => values.into_iter().map(said).collect::<Vec<_>>().join(", "),
        Value::Object(values) => {
            let pairs = values.into_iter().map(|(name, value)| format!("{name} {}", said(value)));
            pairs.collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}
