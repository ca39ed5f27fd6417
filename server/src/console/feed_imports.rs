//! Files of payments and failures: sent, looked at, taken in with a progress bar; refused rows come back.

use std::collections::BTreeMap;

use actix_web::{HttpResponse, web};
use askama::Template;
use bytes::BytesMut;
use serde::Deserialize;

use super::form::Form;
use super::mapping::{self, MappingForm};
use super::problems;
use super::shell::{self, Shell};
use super::status::{Status, Tone};
use super::upload::Upload;
use crate::audit;
use crate::failures::feed;
use crate::http::State;
use crate::http::auth::Acting;
use crate::http::body::{Path, Query, query_pair};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::page::{Page, PageQuery};
use crate::http::problem::Problem;
use crate::imports::mapping::Field;
use crate::imports::{self, FILE_BYTES_MAX, Import, Kind, Start, State as ImportState};
use crate::operators::{Caller, Permission};

pub(super) fn endpoints() -> Vec<Endpoint> {
    let read = Access::Page(Permission::SettlementsRead);
    let write = Access::Page(Permission::SettlementsWrite);
    vec![
        Endpoint::get("/imports", read, "", list),
        Endpoint::post("/imports", write, "", send),
        Endpoint::get("/imports/{id}", read, "", show),
        Endpoint::get("/imports/{id}/progress", read, "", progress),
        Endpoint::post("/imports/{id}/start", write, "", start),
        Endpoint::post("/imports/{id}/cancel", write, "", cancel),
        Endpoint::get("/imports/{id}/errors.csv", read, "", errors),
    ]
}

/// Channels that the form offers.
const CHANNELS_MAX: u32 = 100;
/// Blocks of refused rows that a download holds at most: as many as the largest file can have.
const BLOCKS_MAX: usize = 1_000;

struct Row {
    id: String,
    file: String,
    what: String,
    status: Status,
    done: String,
    refused: i64,
    by: String,
    at: String,
    ago: String,
}

/// A source that files come from: kind and source in one value.
pub(super) struct SourceChoice {
    pub(super) value: String,
    pub(super) word: String,
}

#[derive(Template)]
#[template(path = "feed_imports.html")]
struct ImportsPage {
    shell: Shell,
    rows: Vec<Row>,
    next: Option<String>,
    sources: Vec<SourceChoice>,
    may_write: bool,
}

async fn list(
    shell: Shell,
    state: web::Data<State>,
    caller: Caller,
    Query(page): Query<PageQuery>,
) -> Result<HttpResponse, Problem> {
    let (size, before) = (page.size()?, page.after::<String>()?);
    let scope = caller.scope.clone();
    let (rows, channels) = state
        .db
        .read(move |conn| {
            let rows = imports::list(conn, &scope, None, before.as_deref(), size + 1)?;
            Ok::<_, Problem>((rows, feed::list(conn, &scope, None, CHANNELS_MAX)?))
        })
        .await?;
    let page = Page::from_rows(rows, size, |import| import.id.clone());
    let names: BTreeMap<String, String> =
        channels.iter().map(|channel| (channel.id.to_string(), channel.name.clone())).collect();
    shell::ok(&ImportsPage {
        next: page.next.map(|cursor| format!("/imports?{}", query_pair("after", &cursor))),
        rows: page.items.iter().map(|import| row(&shell, import, &names)).collect(),
        sources: sources(&shell, &names),
        may_write: shell.may(Permission::SettlementsWrite),
        shell,
    })
}

fn sources(shell: &Shell, channels: &BTreeMap<String, String>) -> Vec<SourceChoice> {
    let kinds = Kind::ALL.into_iter().flat_map(|kind| match kind {
        Kind::ChannelFeed => {
            let choice = |(id, name): (&String, &String)| SourceChoice {
                value: format!("{}:{id}", kind.as_str()),
                word: format!("{} · {name}", shell.word("import-kind", kind.as_str())),
            };
            channels.iter().map(choice).collect::<Vec<_>>()
        }
        Kind::Failures => {
            vec![SourceChoice { value: format!("{}:", kind.as_str()), word: shell.word("import-kind", kind.as_str()) }]
        }
    });
    kinds.collect()
}

fn what(shell: &Shell, import: &Import, names: &BTreeMap<String, String>) -> String {
    let kind = shell.word("import-kind", import.kind.as_str());
    let source = names.get(&import.source).unwrap_or(&import.source);
    if source.is_empty() { kind } else { format!("{kind} · {source}") }
}

fn row(shell: &Shell, import: &Import, names: &BTreeMap<String, String>) -> Row {
    Row {
        file: if import.file_name.is_empty() { import.id.chars().take(8).collect() } else { import.file_name.clone() },
        what: what(shell, import, names),
        status: status(shell, import),
        done: format!("{} / {}", shell.number(&import.rows_done), shell.number(&import.rows_total)),
        refused: import.refused,
        by: import.created_by.clone(),
        at: shell.moments.absolute(import.created_at_ms),
        ago: shell.moments.ago(import.created_at_ms),
        id: import.id.clone(),
    }
}

fn status(shell: &Shell, import: &Import) -> Status {
    let tone = match (import.state, import.refused) {
        (ImportState::Done, 0) => Tone::Good,
        (ImportState::Done, _) => Tone::Warning,
        (ImportState::Draft, _) => Tone::Warning,
        (ImportState::Waiting | ImportState::Running, _) => Tone::Busy,
        (ImportState::Failed, _) => Tone::Bad,
        (ImportState::Cancelled, _) => Tone::Quiet,
    };
    let word = shell.word("import-state", import.state.as_str());
    let word = if import.dry_run && import.state != ImportState::Draft {
        format!("{word} · {}", shell.say("feed-import-tried"))
    } else {
        word
    };
    Status { tone, word }
}

async fn send(state: web::Data<State>, acting: Acting, mut form: Upload) -> Result<HttpResponse, Problem> {
    let _turn = state.imports.take()?;
    let mut file = BytesMut::new();
    while let Some(piece) = form.file.chunk().await.map_err(|error| Problem::bad_request(error.to_string()))? {
        if file.len() + piece.len() > FILE_BYTES_MAX {
            return Err(Problem::too_large(FILE_BYTES_MAX));
        }
        file.extend_from_slice(&piece);
    }
    let from = form.text("from");
    let (kind, source) = from.split_once(':').unwrap_or((&from, ""));
    let Acting { caller, actor } = acting;
    let asked = imports::Upload {
        kind: Kind::parse(kind).ok_or_else(|| Problem::invalid("source", "is not the number of a channel of yours"))?,
        source: source.to_owned(),
        organization_id: caller.organization_id,
        file_name: form.file.file_name().unwrap_or_default().to_owned(),
        // The page shows how it is understood; a person starts it.
        start: Start::Hold,
    };
    let now = state.clock.now();
    let import = imports::upload(&state.db, &state.signing.blobs, &caller, actor, asked, file.freeze(), now).await?;
    Ok(shell::see_other(&format!("/imports/{}", import.id)))
}

/// The part of a page that moves on by itself.
struct Progress {
    id: String,
    status: Status,
    is_live: bool,
    done: i64,
    total: i64,
    figures: Vec<(String, String)>,
    note: Option<String>,
    has_errors: bool,
}

fn moving(shell: &Shell, import: &Import) -> Progress {
    let n = |key: &str, n: i64| (shell.say(key), shell.number(&n));
    let problem = import.problem.as_ref().map(|problem| {
        let field = shell.word("field", &problem.field);
        let why = problems::explain(shell, &problem.problem).0;
        shell.language.with_two("import-reason", ("field", &field), ("problem", &why))
    });
    Progress {
        id: import.id.clone(),
        status: status(shell, import),
        is_live: matches!(import.state, ImportState::Waiting | ImportState::Running),
        done: import.rows_done,
        total: import.rows_total,
        figures: vec![
            n("import-rows", import.rows_total),
            n("feed-import-accepted", import.accepted),
            n("feed-import-changed", import.changed),
            n("feed-import-duplicates", import.duplicates),
            n("import-invalid", import.refused),
            n("feed-import-cards", import.card_cells),
        ],
        note: problem,
        has_errors: import.refused > 0,
    }
}

#[derive(Template)]
#[template(path = "feed_import_progress.html")]
struct ProgressPart {
    shell: Shell,
    progress: Progress,
}

async fn progress(
    shell: Shell,
    state: web::Data<State>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<HttpResponse, Problem> {
    let import = state.db.read(move |conn| imports::find(conn, &caller.scope, &id)).await?;
    let progress = moving(&shell, &import);
    shell::ok(&ProgressPart { shell, progress })
}

struct PreviewLine {
    line: u64,
    cells: Vec<String>,
    why: Option<String>,
}

#[derive(Template)]
#[template(path = "feed_import.html")]
struct ImportPage {
    title: String,
    facts: Vec<(String, String)>,
    progress: Progress,
    repeats: Option<String>,
    may_start: bool,
    may_cancel: bool,
    form: MappingForm,
    preview_fields: Vec<String>,
    preview: Vec<PreviewLine>,
    shell: Shell,
}

async fn show(
    shell: Shell,
    state: web::Data<State>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<HttpResponse, Problem> {
    let scope = caller.scope.clone();
    let wanted = id.clone();
    let (import, channels) = state
        .db
        .read(move |conn| {
            let import = imports::find(conn, &scope, &wanted)?;
            Ok::<_, Problem>((import, feed::list(conn, &scope, None, CHANNELS_MAX)?))
        })
        .await?;
    let may_write = shell.may(Permission::SettlementsWrite);
    let is_open = import.state == ImportState::Draft || (import.state == ImportState::Done && import.dry_run);
    let preview = match is_open {
        // A file that is gone by now is no reason to show nothing.
        true => imports::preview(&state.db, &state.signing.blobs, caller.scope, id, None).await.ok(),
        false => None,
    };
    let names = channels.iter().map(|channel| (channel.id.to_string(), channel.name.clone())).collect();
    let known = import.kind.intake().fields();
    let (fields, lines) = preview.map(|preview| read(&shell, known, preview)).unwrap_or_default();
    shell::ok(&ImportPage {
        title: if import.file_name.is_empty() { what(&shell, &import, &names) } else { import.file_name.clone() },
        facts: facts(&shell, &import, &names),
        progress: moving(&shell, &import),
        repeats: import.repeats.clone(),
        may_start: may_write && is_open,
        may_cancel: may_write && !import.state.is_final(),
        form: mapping::of_file(&shell, import.kind.intake().fields(), &import.mapping, &import.headings),
        preview_fields: fields,
        preview: lines,
        shell,
    })
}

fn facts(shell: &Shell, import: &Import, names: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let mut facts = vec![
        (shell.say("feed-import-what"), what(shell, import, names)),
        (shell.say("import-encoding"), import.encoding.clone()),
        (shell.say("feed-import-by"), import.created_by.clone()),
        (shell.say("feed-import-at"), shell.moments.absolute(import.created_at_ms)),
        ("SHA-256".to_owned(), import.file_sha256.chars().take(16).collect()),
    ];
    if !import.ignored.is_empty() {
        facts.push((shell.say("import-ignored"), import.ignored.join(", ")));
    }
    facts
}

fn read(shell: &Shell, known: &[Field], preview: imports::Preview) -> (Vec<String>, Vec<PreviewLine>) {
    let fields: Vec<String> = preview.fields.iter().map(|name| shell.word("feed-field", name)).collect();
    let lines = preview.rows.into_iter().map(|row| {
        let cell = |name: &String| {
            let value = row.values.get(name).cloned().unwrap_or_default();
            mapping::shown(shell, known, name, value)
        };
        let why = row.problem.as_ref().map(|problem| {
            let field = shell.word("feed-field", &problem.field);
            let why = problems::explain(shell, &problem.problem).0;
            shell.language.with_two("import-reason", ("field", &field), ("problem", &why))
        });
        PreviewLine { line: row.line, cells: preview.fields.iter().map(cell).collect(), why }
    });
    (fields, lines.collect())
}

async fn start(
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Path(id): Path<String>,
    Form(sent): Form<BTreeMap<String, String>>,
) -> Result<HttpResponse, Problem> {
    let dry_run = sent.get("mode").is_none_or(|mode| mode != "import");
    let now = state.clock.now();
    let back = format!("/imports/{id}");
    state
        .db
        .write(move |conn| {
            let import = imports::find(conn, &caller.scope, &id)?;
            let mapping = mapping::sent(&sent, import.kind.intake().fields(), &import.mapping)?;
            imports::start(conn, &actor, &caller.scope, &id, Some(mapping), dry_run, now)?;
            Ok::<_, Problem>(())
        })
        .await?;
    state.import_jobs.wake();
    Ok(shell::see_other(&back))
}

/// Nothing but the token.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

async fn cancel(
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Path(id): Path<String>,
    Form(Nothing {}): Form<Nothing>,
) -> Result<HttpResponse, Problem> {
    let now = state.clock.now();
    let back = format!("/imports/{id}");
    state.db.write(move |conn| imports::cancel(conn, &actor, &caller.scope, &id, now)).await?;
    Ok(shell::see_other(&back))
}

async fn errors(
    shell: Shell,
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Path(id): Path<String>,
) -> Result<HttpResponse, Problem> {
    let scope = caller.scope.clone();
    let (export, csv) = state
        .db
        .read(move |conn| {
            let export = imports::errors_export(conn, &scope, &id)?;
            let mut csv = String::from("\u{feff}");
            let mut last = -1;
            for _ in 0..BLOCKS_MAX {
                let Some((block, rows)) = imports::errors_after(conn, &scope, &id, last)? else { break };
                csv.push_str(&rows);
                last = block;
            }
            Ok::<_, Problem>((export, csv))
        })
        .await?;
    audit::export(&state.db, &caller, actor, export, state.clock.now()).await?;
    Ok(HttpResponse::Ok()
        .content_type("text/csv; charset=utf-8")
        .insert_header(("Content-Disposition", "attachment; filename=\"refused-rows.csv\""))
        .insert_header(("Cache-Control", "no-store"))
        .body(in_words(&shell, &csv)))
}

/// The rows with the reason in the last cell as a sentence of the reader's language.
fn in_words(shell: &Shell, csv: &str) -> String {
    let mut reader = csv::ReaderBuilder::new().flexible(true).has_headers(false).from_reader(csv.as_bytes());
    let mut writer = csv::WriterBuilder::new().flexible(true).terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    for record in reader.records().filter_map(Result::ok) {
        let mut cells: Vec<String> = record.iter().map(str::to_owned).collect();
        if let Some(reason) = cells.last_mut()
            && let Some((field, problem)) = reason.split_once(": ")
        {
            let (field, why) = (shell.word("feed-field", field), problems::explain(shell, problem).0);
            *reason = shell.language.with_two("import-reason", ("field", &field), ("problem", &why));
        }
        // Writing to memory does not fail.
        let _ = writer.write_record(cells);
    }
    writer.into_inner().ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
}
