//! The audit log, newest first, and whether its chain is whole.

use actix_web::{HttpResponse, web};
use askama::Template;
use serde::Deserialize;
use serde_json::Value;

use super::conditions;
use super::rollout_words;
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
        "evidence_pack" => Some(format!("/evidence-packs/{}", entry.object_id)),
        "merchant" => Some(format!("/merchants/{}", entry.object_id)),
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
    let facts = values.into_iter().map(|(name, value)| (field(shell, &name), said(shell, &name, value)));
    facts.filter(|(_, value)| !value.is_empty()).collect()
}

/// What a field is called; some have the word that the form has by which they are set.
fn field(shell: &Shell, name: &str) -> String {
    match name {
        "strategy" => shell.say("form-step-how"),
        "stages" => shell.say("form-stages"),
        "percent" => shell.word("stage-kind", name),
        "hold_back_percent" => shell.say("form-hold-back"),
        "soak_s" => shell.say("form-soak"),
        "windows" => shell.say("form-windows"),
        "in_flight_max" => shell.say("form-in-flight"),
        "in_flight_per_site_max" => shell.say("form-in-flight-site"),
        "wifi_only" => shell.say("form-wifi-only"),
        "announcements" => shell.say("form-announcements"),
        "gate" => shell.say("form-step-gate"),
        "outcome_budget_bp" => shell.say("form-budget-percent"),
        "watch_s" => shell.say("form-watch"),
        "opens_stages" => shell.say("form-opens-stages"),
        "layer" => shell.say("form-layer"),
        "bound_no" => shell.say("number-bound"),
        "number" => shell.say("number-settled"),
        "rows" => shell.say("import-rows"),
        "created" => shell.say("import-created"),
        "updated" => shell.say("import-updated"),
        "accepted" | "stored" => shell.say("feed-import-accepted"),
        "changed" => shell.say("feed-import-changed"),
        "duplicates" => shell.say("feed-import-duplicates"),
        "refused" => shell.say("import-refused"),
        "terminals" => shell.say("nav-terminals"),
        "level" => shell.say("incident-level"),
        "shows" => shell.word("field", "result"),
        "due" => shell.say("due-why"),
        "guidance" => shell.say("guidance-verdict"),
        "outcome" => shell.say("explain-outcome"),
        "target" => shell.say("channel-target"),
        "steps" => shell.say("rule-steps"),
        "quiet" => shell.say("hours-quiet"),
        _ => shell.word("field", name),
    }
}

/// A value of the field of this name: a word of the family that the field names, where there is one (`role`, `status`,
/// `lifecycle`); spans and moments as people say them.
fn said(shell: &Shell, name: &str, value: Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(holds) => shell.say(if holds { "proof-yes" } else { "proof-no" }),
        Value::String(text) if name == "outcome" => conditions::outcome(shell, &text),
        Value::String(text) => shell.word(name, &text),
        Value::Number(number) => match number.as_i64() {
            Some(seconds) if name.ends_with("_s") => rollout_words::span(shell, seconds),
            Some(at_ms) if name.ends_with("at_ms") || ["from_ms", "to_ms"].contains(&name) => {
                shell.moments.absolute(at_ms)
            }
            Some(bp) if name.ends_with("_bp") => rollout_words::budget(u32::try_from(bp).unwrap_or(u32::MAX)),
            _ => number.to_string(),
        },
        Value::Array(values) => {
            let words = values.into_iter().map(|value| said(shell, name, value));
            words.collect::<Vec<_>>().join(", ")
        }
        Value::Object(values) => {
            let pairs = values.into_iter().map(|(name, value)| (field(shell, &name), said(shell, &name, value)));
            let known = pairs.filter(|(_, value)| !value.is_empty());
            known.map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ")
        }
    }
}
