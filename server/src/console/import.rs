//! Terminals from a file: tried first, then imported; refused rows come back with their reasons.

use actix_web::{HttpResponse, web};
use askama::Template;
use bytes::BytesMut;

use super::shell::{self, Shell};
use super::upload::Upload;
use crate::http::State;
use crate::http::auth::Acting;
use crate::http::body::Path;
use crate::http::endpoints::{Access, Endpoint};
use crate::http::problem::Problem;
use crate::operators::{Caller, Permission};
use crate::terminals::import::{FILE_BYTES_MAX, Imported, Request, errors_after, run};

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

/// Headings that are understood, as an example.
const COLUMNS: &str = "sn,model,organization,merchant_no,merchant_name,store_name,terminal_no,region,tags";

struct Outcome {
    title: String,
    tone: &'static str,
    facts: Vec<(String, String)>,
    preview: Vec<(String, String, String)>,
    errors_href: Option<String>,
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
    let imported = run(&state.db, actor, caller.name, caller.scope, request, file.freeze(), now).await?;
    let result = Some(outcome(&shell, imported));
    shell::ok(&ImportPage { shell, result, columns: COLUMNS })
}

fn outcome(shell: &Shell, imported: Imported) -> Outcome {
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
    Outcome {
        title: shell.say(if imported.dry_run { "import-result-dry" } else { "import-result" }),
        tone: if imported.invalid > 0 { "warning" } else { "good" },
        facts,
        preview: preview.map(|row| (row.sn, row.model, row.merchant_name.unwrap_or_default())).collect(),
        errors_href: (imported.invalid > 0).then(|| format!("/terminals/imports/{}/errors.csv", imported.id)),
    }
}

async fn errors(state: web::Data<State>, caller: Caller, Path(id): Path<String>) -> Result<HttpResponse, Problem> {
    let csv = state
        .db
        .read(move |conn| {
            let mut csv = String::from("\u{feff}");
            let mut last = 0;
            for _ in 0..BLOCKS_MAX {
                let Some((block, rows)) = errors_after(conn, &caller.scope, &id, last)? else { break };
                csv.push_str(&rows);
                last = block;
            }
            Ok::<_, Problem>(csv)
        })
        .await?;
    Ok(HttpResponse::Ok()
        .content_type("text/csv; charset=utf-8")
        .insert_header(("Content-Disposition", "attachment; filename=\"refused-terminals.csv\""))
        .insert_header(("Cache-Control", "no-store"))
        .body(csv))
}
