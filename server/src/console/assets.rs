//! Style sheet, scripts and icons, compiled in and served under addresses that contain their hash.

use actix_web::http::header;
use actix_web::{HttpResponse, web};

use crate::http::body::Path;
use crate::http::endpoints::{Access, Endpoint};
use crate::http::problem::Problem;

#[derive(rust_embed::Embed)]
#[folder = "static/"]
struct Files;

/// Digits of the SHA-256 in an address: enough that two versions of a file never share one.
const HASH_DIGITS: usize = 16;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![Endpoint::get("/static/{hash}/{file}", Access::Public, "", serve)]
}

/// The address of a file by its name without folder; changes with its content, so browsers may keep it for ever.
pub(super) fn address(name: &str) -> String {
    match find(name) {
        Some(file) => format!("/static/{}/{name}", short_hash(&file)),
        None => format!("/static/missing/{name}"),
    }
}

fn find(name: &str) -> Option<rust_embed::EmbeddedFile> {
    Files::get(name).or_else(|| Files::get(&format!("vendor/{name}")))
}

fn short_hash(file: &rust_embed::EmbeddedFile) -> String {
    let mut hash = hex::encode(file.metadata.sha256_hash());
    hash.truncate(HASH_DIGITS);
    hash
}

async fn serve(Path((hash, name)): Path<(String, String)>) -> Result<HttpResponse, Problem> {
    let content_type = content_type(&name).ok_or_else(Problem::not_found)?;
    let file = find(&name).filter(|file| short_hash(file) == hash).ok_or_else(Problem::not_found)?;
    Ok(HttpResponse::Ok()
        .content_type(content_type)
        .insert_header((header::CACHE_CONTROL, "public, max-age=31536000, immutable"))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .body(web::Bytes::from(file.data.into_owned())))
}

/// Nothing but what pages load is served.
fn content_type(name: &str) -> Option<&'static str> {
    match name.rsplit('.').next() {
        Some("css") => Some("text/css; charset=utf-8"),
        Some("js") => Some("text/javascript; charset=utf-8"),
        Some("svg") => Some("image/svg+xml"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_has_an_address_that_contains_its_hash() {
        for name in ["console.css", "console.js", "favicon.svg", "htmx.min.js", "sse.min.js"] {
            let file = find(name).unwrap();
            assert_eq!(address(name), format!("/static/{}/{name}", short_hash(&file)));
        }
        assert_eq!(address("no.js"), "/static/missing/no.js");
    }

    #[test]
    fn vendored_files_are_the_ones_that_their_table_names() {
        let table = include_str!("../../static/vendor/README.md");
        for name in ["htmx.min.js", "sse.min.js"] {
            let row = table.lines().find(|line| line.starts_with(&format!("| `{name}`"))).unwrap();
            let stated = row.trim_end_matches(" |").rsplit(" | ").next().unwrap().trim_matches('`');
            assert_eq!(hex::encode(find(name).unwrap().metadata.sha256_hash()), stated, "{name}");
        }
    }
}
