//! Forms with a file: the small fields first, the file last and never whole in memory.

use std::collections::BTreeMap;

use actix_web::http::header::CONTENT_TYPE;
use actix_web::{FromRequest, HttpRequest, dev, web};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream;
use tokio::sync::mpsc;

use super::form::check_csrf;
use crate::http::problem::Problem;

/// Largest field that is not the file, bytes.
const FIELD_BYTES_MAX: usize = 16 * 1024;
/// Most fields before the file.
const FIELDS_MAX: usize = 32;
/// Pieces of the body that wait to be read.
const PIECES: usize = 4;

/// The fields, and the file that is still to be read.
pub(super) struct Upload {
    fields: BTreeMap<String, String>,
    /// Streams the file's bytes.
    pub(super) file: multer::Field<'static>,
    // Keeps the body readable while the file streams.
    _rest: multer::Multipart<'static>,
}

impl Upload {
    /// A field, trimmed; empty when it was not sent.
    pub(super) fn text(&self, name: &str) -> String {
        self.fields.get(name).map(|text| text.trim().to_owned()).unwrap_or_default()
    }

    /// A field that holds a number, absent when empty.
    ///
    /// # Errors
    /// 422 with the field's name.
    pub(super) fn number(&self, name: &str) -> Result<Option<i64>, Problem> {
        match self.text(name).as_str() {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| Problem::invalid(name, "is not a whole number")),
        }
    }
}

impl FromRequest for Upload {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut dev::Payload) -> Self::Future {
        let request = request.clone();
        let payload = web::Payload::from_request(&request, payload);
        Box::pin(async move {
            let content_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
            let boundary = multer::parse_boundary(content_type).map_err(|_| {
                Problem::new(
                    actix_web::http::StatusCode::UNSUPPORTED_MEDIA_TYPE,
                    "unsupported_media_type",
                    "The body's type is not known",
                    "Send the form as the page does.",
                )
            })?;
            let payload = payload.await.map_err(|error| Problem::bad_request(error.to_string()))?;
            read_fields(&request, multer::Multipart::new(sendable(payload), boundary)).await
        })
    }
}

/// The body as a stream that may move between threads, as the reader of forms asks; the reading itself stays here.
fn sendable(mut payload: web::Payload) -> impl stream::Stream<Item = Result<Bytes, std::io::Error>> + Send {
    let (sender, receiver) = mpsc::channel(PIECES);
    actix_web::rt::spawn(async move {
        while let Some(piece) = payload.next().await {
            let piece = piece.map_err(|error| std::io::Error::other(error.to_string()));
            let is_broken = piece.is_err();
            if sender.send(piece).await.is_err() || is_broken {
                return;
            }
        }
    });
    stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) })
}

async fn read_fields(request: &HttpRequest, mut form: multer::Multipart<'static>) -> Result<Upload, Problem> {
    let mut fields = BTreeMap::new();
    while let Some(mut field) = form.next_field().await.map_err(unreadable)? {
        let name = field.name().unwrap_or_default().to_owned();
        if field.file_name().is_some() {
            check_csrf(request, fields.get("csrf").map_or("", String::as_str))?;
            return Ok(Upload { fields, file: field, _rest: form });
        }
        if fields.len() >= FIELDS_MAX {
            return Err(Problem::bad_request("The form has too many fields."));
        }
        let mut value = Vec::new();
        while let Some(piece) = field.chunk().await.map_err(unreadable)? {
            if value.len() + piece.len() > FIELD_BYTES_MAX {
                return Err(Problem::too_large(FIELD_BYTES_MAX));
            }
            value.extend_from_slice(&piece);
        }
        let value = String::from_utf8(value).map_err(|_| Problem::invalid(name.clone(), "is not UTF-8"))?;
        fields.insert(name, value);
    }
    Err(Problem::invalid("file", "no file was sent"))
}

fn unreadable(error: multer::Error) -> Problem {
    Problem::bad_request(format!("The form cannot be read: {error}."))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn every_form_with_a_file_has_it_last_since_what_follows_is_not_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates");
        let mut forms = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            for form in text.split("<form").skip(1).filter_map(|rest| rest.split("</form>").next()) {
                let Some((_, behind)) = form.split_once("type=\"file\"") else { continue };
                let is_field = |tag: &str| behind.contains(tag);
                assert!(!["<input", "<select", "<textarea"].into_iter().any(is_field), "{}", path.display());
                forms += 1;
            }
        }
        assert!(forms >= 2, "the forms with files were not found");
    }
}
