//! Terminals from a file: tried first, then imported; refused rows come back with their reasons.

use actix_web::{HttpResponse, web};
use askama::Template;
use bytes::BytesMut;

use super::problems;
use super::shell::{self, Shell};
use super::upload::Upload;
use crate::audit;
use crate::db::Conn;
use crate::http::State;
use crate::http::auth::Acting;
use crate::http::body::Path;
use crate::http::endpoints::{Access, Endpoint};
use crate::http::problem::Problem;
use crate::operators::{Permission, Scope};
use crate::terminals::import::{FILE_BYTES_MAX, Imported, Request, errors_after, errors_export, run};

pub(super) fn endpoints() -> Vec<Endpoint> {
    let write = Access::Page(Permission::TerminalsWrite);
    vec![
        Endpoint::get("/terminals/import", write, "", ask),
        Endpoint::post("/terminals/import", write, "", import),
        Endpoint::get("/terminals/imports/{id}/errors.csv", write, "", errors),
    ]
}

/// Blocks of refused rows that a download holds at most: as many as the largest file can have.
const BLOCKS_MAX: usize = 10_000;

/// Refused rows that the page itself shows.
const REFUSED_SHOWN: usize = 20;

/// Headings that are understood, as an example.
const COLUMNS: &str = "sn,model,organization,merchant_no,merchant_name,store_name,terminal_no,region,tags";

struct Outcome {
    title: String,
    tone: &'static str,
    facts: Vec<(String, String)>,
    preview: Vec<(String, String, String)>,
    /// The first refused rows: what they begin with, the field, and why.
    refused: Vec<Refused>,
    refused_count: i64,
    errors_href: Option<String>,
    /// Whether all is well and only tried so far.
    may_go_on: bool,
}

struct Refused {
    first_cell: String,
    why: String,
}

#[derive(Template)]
#[template(path = "import.html")]
struct ImportPage {
    shell: Shell,
    result: Option<Outcome>,
    columns: &'static str,
}

async fn ask(shell: Shell) -> Result<HttpResponse, Problem> {
    shell::ok(&ImportPage { shell, result: None, columns: COLUMNS })
}

async fn import(
    shell: Shell,
    state: web::Data<State>,
    acting: Acting,
    mut form: Upload,
) -> Result<HttpResponse, Problem> {
    let _turn = state.imports.take()?;
    let mut file = BytesMut::new();
    while let Some(piece) = form.file.chunk().await.map_err(|error| Problem::bad_request(error.to_string()))? {
        if file.len() + piece.len() > FILE_BYTES_MAX {
            return Err(Problem::too_large(FILE_BYTES_MAX));
        }
        file.extend_from_slice(&piece);
    }
    let Acting { caller, actor } = acting;
    let request = Request {
        // Anything but a clear yes only tries.
        dry_run: form.text("mode") != "import",
        organization_id: caller.organization_id,
        model: None,
    };
    let now = state.clock.now();
    let scope = caller.scope.clone();
    let imported = run(&state.db, actor, caller.name, caller.scope, request, file.freeze(), now).await?;
    let id = imported.id.clone();
    let refused = match imported.invalid {
        0 => String::new(),
        _ => state.db.read(move |conn| refused_rows(conn, &scope, &id, REFUSED_SHOWN)).await?,
    };
    let result = Some(outcome(&shell, imported, &refused));
    shell::ok(&ImportPage { shell, result, columns: COLUMNS })
}

fn outcome(shell: &Shell, imported: Imported, refused: &str) -> Outcome {
    let n = |n: u64| shell.number(&i64::try_from(n).unwrap_or(i64::MAX));
    let encoding = serde_json::to_value(imported.encoding).ok().and_then(|name| name.as_str().map(str::to_owned));
    let mut facts = vec![
        (shell.say("import-encoding"), encoding.unwrap_or_default()),
        (shell.say("import-rows"), n(imported.rows)),
        (shell.say("import-created"), n(imported.created)),
        (shell.say("import-updated"), n(imported.updated)),
        (shell.say("import-unchanged"), n(imported.unchanged)),
        (shell.say("import-invalid"), n(imported.invalid)),
        (shell.say("import-warnings"), n(imported.warnings)),
    ];
    if !imported.ignored_columns.is_empty() {
        facts.push((shell.say("import-ignored"), imported.ignored_columns.join(", ")));
    }
    let preview = imported.preview.into_iter();
    let refused: Vec<Refused> = in_words(shell, refused).into_iter().take(REFUSED_SHOWN).map(Refused::from).collect();
    Outcome {
        refused_count: i64::try_from(refused.len()).unwrap_or(i64::MAX),
        refused,
        may_go_on: imported.dry_run && imported.invalid == 0,
        title: shell.say(if imported.dry_run { "import-result-dry" } else { "import-result" }),
        tone: if imported.invalid > 0 { "warning" } else { "good" },
        facts,
        preview: preview.map(|row| (row.sn, row.model, row.merchant_name.unwrap_or_default())).collect(),
        errors_href: (imported.invalid > 0).then(|| format!("/terminals/imports/{}/errors.csv", imported.id)),
    }
}

/// Refused rows as CSV, block after block until there are at least `rows_min`.
fn refused_rows(conn: &mut Conn, scope: &Scope, id: &str, rows_min: usize) -> Result<String, Problem> {
    let mut csv = String::new();
    let mut last = 0;
    for _ in 0..BLOCKS_MAX {
        let Some((block, rows)) = errors_after(conn, scope, id, last)? else { break };
        csv.push_str(&rows);
        last = block;
        // The headings are a line too.
        if csv.lines().count() > rows_min {
            break;
        }
    }
    Ok(csv)
}

/// The refused rows below their headings, the reason in the last cell as a sentence of the reader's language.
fn in_words(shell: &Shell, refused: &str) -> Vec<Vec<String>> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(refused.as_bytes());
    let rows = reader.records().filter_map(Result::ok);
    let worded = rows.map(|row| {
        let mut cells: Vec<String> = row.iter().map(str::to_owned).collect();
        if let Some(reason) = cells.last_mut() {
            *reason = why(shell, reason);
        }
        cells
    });
    worded.collect()
}

/// `merchant_no: must be 15 digits` in words.
fn why(shell: &Shell, reason: &str) -> String {
    match reason.split_once(": ") {
        Some((field, problem)) => shell.language.with_two(
            "import-reason",
            ("field", &shell.word("field", field)),
            ("problem", &problems::explain(shell, problem).0),
        ),
        None => problems::explain(shell, reason).0,
    }
}

impl From<Vec<String>> for Refused {
    fn from(mut cells: Vec<String>) -> Self {
        let why = cells.pop().unwrap_or_default();
        Self { first_cell: cells.into_iter().next().unwrap_or_default(), why }
    }
}

async fn errors(
    shell: Shell,
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Path(id): Path<String>,
) -> Result<HttpResponse, Problem> {
    let scope = caller.scope.clone();
    let read = move |conn: &mut Conn| {
        let export = errors_export(conn, &scope, &id)?;
        Ok::<_, Problem>((export, refused_rows(conn, &scope, &id, usize::MAX)?))
    };
    let (export, refused) = state.db.read(read).await?;
    audit::export(&state.db, &caller, actor, export, state.clock.now()).await?;
    let headings = refused.lines().next().unwrap_or_default().to_owned();
    let mut writer = csv::WriterBuilder::new().flexible(true).terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    for row in in_words(&shell, &refused) {
        writer.write_record(row).map_err(|error| Problem::internal(&error))?;
    }
    let rows = writer.into_inner().map_err(|error| Problem::internal(&error))?;
    // Sheets tell UTF-8 by its mark.
    let mut csv = format!("\u{feff}{headings}\r\n").into_bytes();
    csv.extend_from_slice(&rows);
    Ok(HttpResponse::Ok()
        .content_type("text/csv; charset=utf-8")
        .insert_header(("Content-Disposition", "attachment; filename=\"refused-terminals.csv\""))
        .insert_header(("Cache-Control", "no-store"))
        .body(csv))
}
