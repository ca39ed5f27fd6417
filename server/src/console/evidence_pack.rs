//! One transaction with what is known about it; and the packs that were made of it, as pages and as PDF.

use std::sync::Arc;

use actix_web::http::header;
use actix_web::{HttpResponse, web};
use askama::Template;
use serde::{Deserialize, Serialize};

use super::form::Form;
use super::i18n::Language;
use super::moments::Moments;
use super::pack_words::{self, Words};
use super::shell::{self, Shell};
use super::sign_in::Nothing;
use crate::audit;
use crate::failures::lookups::{NOTE_CHARS_MAX, Source};
use crate::failures::pack::{self, Pack, Proof};
use crate::failures::verdicts::{self, InForce};
use crate::http::State;
use crate::http::auth::Acting;
use crate::http::body::{Path, Query};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::problem::Problem;
use crate::operators::{Caller, Permission};
use crate::pdf::{self, Block, Document};
use crate::terminals;

pub(super) fn endpoints() -> Vec<Endpoint> {
    let read = Access::Page(Permission::FailuresRead);
    let write = Access::Page(Permission::FailuresWrite);
    vec![
        Endpoint::get("/terminals/{sn}/transactions/{event_id}", read, "", look),
        Endpoint::post("/terminals/{sn}/transactions/{event_id}/pack", write, "", make),
        Endpoint::get("/evidence-packs/{id}", read, "", show),
        Endpoint::get("/evidence-packs/{id}/pdf", read, "", page_pdf),
        Endpoint::get(
            "/api/v1/evidence-packs/{id}/pdf",
            Access::Operator(Permission::FailuresRead),
            "One pack as a PDF that a merchant can be shown",
            rest_pdf,
        )
        .query::<Wanted>()
        .returns_empty(200, "application/pdf"),
    ]
}

/// Packs of one transaction that its page lists.
const PACKS_SHOWN: u32 = 20;

struct PackLine {
    id: String,
    at: String,
    by: String,
    sha256: String,
}

/// What a template shows of a block: it matches on the kind by its name.
pub(super) struct View {
    pub(super) kind: &'static str,
    pub(super) text: String,
    pub(super) facts: Vec<(String, String)>,
    pub(super) headings: Vec<String>,
    pub(super) rows: Vec<Vec<(String, String)>>,
}

impl View {
    fn of(block: Block) -> Self {
        let text = |kind, text| Self { kind, text, facts: Vec::new(), headings: Vec::new(), rows: Vec::new() };
        match block {
            Block::Title(title) => text("title", title),
            Block::Lead(lead) => text("lead", lead),
            Block::Heading(heading) => text("heading", heading),
            Block::Text(paragraph) => text("text", paragraph),
            Block::Strong(paragraph) => text("strong", paragraph),
            Block::Facts(facts) => Self { facts, ..text("facts", String::new()) },
            Block::Table { headings, rows, shares: _ } => {
                let named = |row: Vec<String>| headings.iter().cloned().zip(row).collect();
                let rows = rows.into_iter().map(named).collect();
                Self { rows, headings, ..text("table", String::new()) }
            }
        }
    }
}

#[derive(Template)]
#[template(path = "evidence_pack.html")]
struct PackPage {
    shell: Shell,
    title: String,
    lead: String,
    /// Address of the terminal, where this reader may go there.
    sn: Option<String>,
    blocks: Vec<View>,
    /// The pack that is shown; absent while the transaction is only looked at.
    pack_id: Option<String>,
    /// Where to make one.
    make_at: Option<String>,
    packs: Vec<PackLine>,
    lookup: Option<LookupForm>,
}

/// What the form for a look-up is filled with.
struct LookupForm {
    sn: String,
    event_id: String,
    sources: Vec<(&'static str, String)>,
    note_chars_max: usize,
}

fn words(shell: &Shell) -> Words {
    Words { language: shell.language, moments: shell.moments.clone() }
}

/// Title and line below it, and the rest for the page's body.
fn split(blocks: Vec<Block>) -> (String, String, Vec<View>) {
    let mut blocks = blocks.into_iter().map(View::of);
    let title = blocks.next().map(|view| view.text).unwrap_or_default();
    let lead = blocks.next().map(|view| view.text).unwrap_or_default();
    (title, lead, blocks.collect())
}

/// An address of a transaction: its id may hold any visible character.
pub(super) fn address(sn: &str, event_id: &str) -> String {
    let escaped: String = event_id
        .bytes()
        .map(|byte| match byte {
            b if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~') => char::from(b).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect();
    format!("/terminals/{sn}/transactions/{escaped}")
}

async fn look(
    shell: Shell,
    state: web::Data<State>,
    caller: Caller,
    Path((sn, event_id)): Path<(String, String)>,
) -> Result<HttpResponse, Problem> {
    let now = shell.moments.now();
    let (wanted_sn, wanted_id) = (sn.clone(), event_id.clone());
    let (content, packs, in_force) = state
        .db
        .read(move |conn| {
            let id = terminals::id_of_sn(conn, &caller.scope, &wanted_sn)?.ok_or_else(Problem::not_found)?;
            let content = pack::assemble(conn, &caller.scope, id, &wanted_id, now)?;
            let filter = pack::Filter { terminal_id: Some(id), event_id: Some(wanted_id), ..pack::Filter::default() };
            let packs = pack::list(conn, &caller.scope, &filter, None, PACKS_SHOWN)?;
            Ok::<_, Problem>((content, packs, verdicts::in_force(conn, caller.scope.from())?))
        })
        .await?;
    let (title, lead, blocks) = split(pack_words::blocks(&words(&shell), &in_force.tables, &content, None));
    let line = |pack: Pack| PackLine {
        at: shell.moments.absolute(pack.created_at_ms),
        by: pack.created_by,
        sha256: pack.sha256.chars().take(12).collect(),
        id: pack.id,
    };
    let packs = packs.into_iter().map(line).collect();
    let may_write = shell.may(Permission::FailuresWrite);
    let at = address(&sn, &event_id);
    let lookup = may_write.then(|| LookupForm {
        sn: sn.clone(),
        event_id,
        sources: Source::ALL.map(|source| (source.as_str(), shell.word("lookup-source", source.as_str()))).into(),
        note_chars_max: NOTE_CHARS_MAX,
    });
    shell::ok(&PackPage {
        title,
        lead,
        sn: Some(sn).filter(|_| shell.may(Permission::TerminalsRead)),
        blocks,
        pack_id: None,
        make_at: may_write.then(|| format!("{at}/pack")),
        packs,
        lookup,
        shell,
    })
}

async fn make(
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Path((sn, event_id)): Path<(String, String)>,
    Form(Nothing {}): Form<Nothing>,
) -> Result<HttpResponse, Problem> {
    let now = state.clock.now();
    let made = state
        .db
        .write(move |conn| {
            let id = terminals::id_of_sn(conn, &caller.scope, &sn)?.ok_or_else(Problem::not_found)?;
            Ok::<_, Problem>(pack::make(conn, &caller, &actor, id, &event_id, now)?)
        })
        .await?;
    Ok(shell::see_other(&format!("/evidence-packs/{}?done=packed", made.id)))
}

/// A pack, and the tables that name its causes.
async fn read(state: &State, caller: Caller, id: String) -> Result<(Pack, Proof, Arc<InForce>), Problem> {
    let read = state.db.read(move |conn| {
        let (pack, proof) = pack::get(conn, &caller.scope, &id)?;
        Ok::<_, pack::Error>((pack, proof, verdicts::in_force(conn, caller.scope.from())?))
    });
    Ok(read.await?)
}

async fn show(
    shell: Shell,
    state: web::Data<State>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<HttpResponse, Problem> {
    let (pack, proof, in_force) = read(&state, caller, id).await?;
    let made = Some((&pack, &proof));
    let (title, lead, blocks) = split(pack_words::blocks(&words(&shell), &in_force.tables, &pack.content, made));
    shell::ok(&PackPage {
        title,
        lead,
        sn: None,
        blocks,
        pack_id: Some(pack.id),
        make_at: None,
        packs: Vec::new(),
        lookup: None,
        shell,
    })
}

async fn page_pdf(
    shell: Shell,
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Path(id): Path<String>,
) -> Result<HttpResponse, Problem> {
    let (pack, proof, in_force) = read(&state, caller.clone(), id).await?;
    let download = pack::download(&pack, shell.language.tag());
    audit::export(&state.db, &caller, actor, download, state.clock.now()).await?;
    file(words(&shell), in_force, pack, proof).await
}

/// The language of a file.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Wanted {
    /// `zh-CN` or `en`; Chinese when absent.
    language: Option<String>,
}

async fn rest_pdf(
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Path(id): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Result<HttpResponse, Problem> {
    let language = match wanted.language.as_deref() {
        None => Language::Chinese,
        Some(tag) => Language::of_tag(tag).ok_or_else(|| Problem::invalid("language", "must be zh-CN or en"))?,
    };
    let moments = Moments::new(&state.config.time_zone, language, state.clock.now());
    let (pack, proof, in_force) = read(&state, caller.clone(), id).await?;
    let download = pack::download(&pack, language.tag());
    audit::export(&state.db, &caller, actor, download, state.clock.now()).await?;
    file(Words { language, moments }, in_force, pack, proof).await
}

async fn file(words: Words, in_force: Arc<InForce>, pack: Pack, proof: Proof) -> Result<HttpResponse, Problem> {
    let name = format!("tillward-evidence-{}.pdf", pack.id);
    let set = tokio::task::spawn_blocking(move || {
        pdf::render(&Document {
            title: words.language.say("pack-title"),
            language: words.language.tag(),
            footer: words.language.with_two("pack-footer", ("id", &pack.id), ("sha256", &pack.sha256)),
            blocks: pack_words::blocks(&words, &in_force.tables, &pack.content, Some((&pack, &proof))),
        })
    });
    let bytes = match set.await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(error)) => return Err(Problem::internal(&error)),
        Err(error) => return Err(Problem::internal(&error)),
    };
    Ok(HttpResponse::Ok()
        .content_type("application/pdf")
        .insert_header((header::CONTENT_DISPOSITION, format!("inline; filename=\"{name}\"")))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .body(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_id_of_an_event_makes_an_address_that_leads_to_it_alone() {
        assert_eq!(address("SN1", "e-1_a.~"), "/terminals/SN1/transactions/e-1_a.~");
        assert_eq!(address("SN1", "a/../b?c d%"), "/terminals/SN1/transactions/a%2F..%2Fb%3Fc%20d%25");
    }
}
