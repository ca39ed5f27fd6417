//! `/tuf/*`: signed metadata and payloads, for our agents and for any other TUF client.
//!
//! A file that does not exist answers 404, never a page and never a redirect: clients find the end of the root chain
//! that way. Everything but the timestamps is immutable.

use actix_web::body::SizedStream;
use actix_web::http::{Method, StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures_util::stream;
use tillward_protocol::ids::Sha256Hex;

use super::{Wanted, names_tag, wanted};
use crate::blobs::{BLOCK_BYTES, Blobs};
use crate::http::State;
use crate::http::body::Path;
use crate::http::endpoints::{Access, Endpoint};
use crate::http::problem::Problem;
use crate::http::tokens::TerminalSession;
use crate::signing::director::validity;
use crate::signing::image::Payload;

const IMMUTABLE: &str = "public, max-age=31536000, immutable";
/// A timestamp may be a minute old: a new release is seen that much later, and a cache takes the load.
const TIMESTAMP: &str = "public, max-age=60";
/// A terminal's own documents: kept by nobody else, asked for each time.
const OWN: &str = "private, no-cache";

/// Rows of the endpoint table.
pub(in crate::releases) fn endpoints() -> Vec<Endpoint> {
    let rows = |verb: Method| {
        [
            Endpoint::new(
                verb.clone(),
                "/tuf/image/metadata/{file}",
                Access::Public,
                "Signed metadata of the image repository",
                image_metadata,
            )
            .returns_empty(200, "TUF metadata, JSON"),
            Endpoint::new(
                verb.clone(),
                "/tuf/image/targets/{file}",
                Access::Public,
                "A published payload, `<sha256>.<name>`; ranges welcome",
                image_target,
            )
            .returns_empty(200, "The payload")
            .returns_empty(206, "The part asked for")
            .returns_empty(416, "No such part"),
            Endpoint::new(
                verb.clone(),
                "/tuf/director/metadata/{file}",
                Access::Public,
                "Trust roots of the director",
                director_root,
            )
            .returns_empty(200, "TUF metadata, JSON"),
            Endpoint::new(
                verb,
                "/tuf/director/t/{terminal_id}/metadata/{file}",
                Access::Terminal,
                "What this terminal shall run, signed for it alone",
                director_file,
            )
            .returns_empty(200, "TUF metadata, JSON"),
        ]
    };
    [Method::GET, Method::HEAD].into_iter().flat_map(rows).collect()
}

fn text(request: &HttpRequest, name: header::HeaderName) -> Option<&str> {
    request.headers().get(name).and_then(|value| value.to_str().ok())
}

/// A small file with its tag, or 304 when the client has it.
fn document(request: &HttpRequest, bytes: Bytes, etag: &str, caching: &str) -> HttpResponse {
    if names_tag(text(request, header::IF_NONE_MATCH), etag) {
        return not_modified(etag, caching);
    }
    HttpResponse::Ok()
        .insert_header((header::ETAG, etag))
        .insert_header((header::CACHE_CONTROL, caching))
        .content_type("application/json")
        .body(bytes)
}

fn not_modified(etag: &str, caching: &str) -> HttpResponse {
    HttpResponse::NotModified()
        .insert_header((header::ETAG, etag))
        .insert_header((header::CACHE_CONTROL, caching))
        .finish()
}

fn tag_of(bytes: &[u8]) -> String {
    format!("\"{}\"", Sha256Hex::of(bytes))
}

async fn image_metadata(
    state: web::Data<State>,
    request: HttpRequest,
    Path(file): Path<String>,
) -> Result<HttpResponse, Problem> {
    let found = state.signing.image.metadata(&file).await.map_err(|error| Problem::internal(&error))?;
    let bytes = found.ok_or_else(Problem::not_found)?;
    let caching = if file == "timestamp.json" { TIMESTAMP } else { IMMUTABLE };
    let etag = tag_of(&bytes);
    Ok(document(&request, bytes, &etag, caching))
}

async fn director_root(
    state: web::Data<State>,
    request: HttpRequest,
    Path(file): Path<String>,
) -> Result<HttpResponse, Problem> {
    root_of_director(&state, &request, &file).await?.ok_or_else(Problem::not_found)
}

async fn root_of_director(state: &State, request: &HttpRequest, file: &str) -> Result<Option<HttpResponse>, Problem> {
    let found = state.signing.director.root_file(file).await.map_err(|error| Problem::internal(&error))?;
    Ok(found.map(|bytes| {
        let etag = tag_of(&bytes);
        document(request, bytes, &etag, IMMUTABLE)
    }))
}

async fn director_file(
    state: web::Data<State>,
    session: TerminalSession,
    request: HttpRequest,
    Path((terminal_id, file)): Path<(i64, String)>,
) -> Result<HttpResponse, Problem> {
    if terminal_id != session.terminal_id.0 {
        return Err(Problem::not_found());
    }
    if file.ends_with(".root.json") {
        return root_of_director(&state, &request, &file).await?.ok_or_else(Problem::not_found);
    }
    if !state.signing.has_keys() {
        let error = "This server holds no signing keys (production mode) and cannot give orders.";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no_keys", "No signing keys", error));
    }
    let desired = crate::releases::desired(&state.db, session).await?;
    let desired = desired.ok_or_else(|| Problem::unauthorized("The session is over. Open a new one."))?;
    let now_s = state.clock.now().seconds();
    // The version stands for the whole content: a client that has it gets its answer without a signature.
    let is_timestamp = file == "timestamp.json";
    let seen = if is_timestamp { crate::releases::seen_version(&state.db, desired.terminal_id).await? } else { None };
    let version = validity(desired.terminal_id, desired.assignment_version, now_s, seen).version;
    let etag = if is_timestamp { format!("\"{version}\"") } else { format!("\"{file}\"") };
    if names_tag(text(&request, header::IF_NONE_MATCH), &etag) {
        return Ok(not_modified(&etag, OWN));
    }
    let made = state.signing.director.file(&desired, &file, now_s, seen).map_err(|error| Problem::internal(&error))?;
    let bytes = made.ok_or_else(Problem::not_found)?;
    Ok(document(&request, bytes.into(), &etag, OWN))
}

async fn image_target(
    state: web::Data<State>,
    request: HttpRequest,
    Path(file): Path<String>,
) -> Result<HttpResponse, Problem> {
    let found = state.signing.image.payload(&file).await.map_err(|error| Problem::internal(&error))?;
    let payload = found.ok_or_else(Problem::not_found)?;
    let etag = format!("\"{}\"", payload.sha256);
    if names_tag(text(&request, header::IF_NONE_MATCH), &etag) {
        return Ok(not_modified(&etag, IMMUTABLE));
    }
    // A range of another file than the client began with would be mixed into it.
    let is_same = text(&request, header::IF_RANGE).is_none_or(|tag| names_tag(Some(tag), &etag));
    let range = text(&request, header::RANGE).filter(|_| is_same);
    let mut response = match wanted(range, payload.length) {
        Wanted::Unsatisfiable => {
            return Ok(HttpResponse::RangeNotSatisfiable()
                .insert_header((header::CONTENT_RANGE, format!("bytes */{}", payload.length)))
                .content_type("application/problem+json")
                .body(r#"{"status":416,"code":"no_such_range","title":"The payload ends before this range"}"#));
        }
        Wanted::Whole => (HttpResponse::Ok(), 0, payload.length),
        Wanted::Part { first, last } => {
            let mut response = HttpResponse::PartialContent();
            let range = format!("bytes {first}-{last}/{}", payload.length);
            response.insert_header((header::CONTENT_RANGE, range));
            (response, first, last + 1)
        }
    };
    let (builder, first, end) = (&mut response.0, response.1, response.2);
    builder
        .insert_header((header::ETAG, etag))
        .insert_header((header::CACHE_CONTROL, IMMUTABLE))
        .insert_header((header::ACCEPT_RANGES, "bytes"))
        .content_type("application/octet-stream");
    Ok(builder.body(SizedStream::new(end - first, blocks(state.signing.blobs.clone(), payload, first, end))))
}

/// The bytes `first..end` of a payload in blocks, read as the connection takes them.
fn blocks(
    blobs: Blobs,
    payload: Payload,
    first: u64,
    end: u64,
) -> impl futures_util::Stream<Item = Result<Bytes, crate::blobs::BlobError>> {
    stream::try_unfold(first, move |at| {
        let (blobs, key) = (blobs.clone(), payload.key.clone());
        async move {
            if at >= end {
                return Ok(None);
            }
            let next = end.min(at + BLOCK_BYTES);
            let block = blobs.get_range(&key, at..next).await?;
            Ok(Some((block, next)))
        }
    })
}
