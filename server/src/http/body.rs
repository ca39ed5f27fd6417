//! Reading bodies: bounded before and after decompression, and refused by the field's name.

use std::io::Read;

use actix_web::http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use actix_web::web::Payload;
use actix_web::{FromRequest, HttpRequest, dev};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use serde::de::{DeserializeOwned, IgnoredAny};
use tillward_protocol::Check;

use super::problem::Problem;

/// Largest JSON body of REST requests, bytes.
pub const JSON_BYTES_MAX: usize = 1024 * 1024;
/// Deepest nesting of JSON: serde_json's own limit.
pub const JSON_DEPTH_MAX: usize = 128;

/// Reads a whole body of at most `max` bytes, decoded.
///
/// # Errors
/// 413 when it is larger before or after decoding, 415 for an unknown encoding, 400 when it is cut or corrupt.
pub async fn read(headers: &HeaderMap, payload: &mut Payload, max: usize) -> Result<Bytes, Problem> {
    let mut raw = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| Problem::bad_request(format!("The body ended early: {error}.")))?;
        if raw.len() + chunk.len() > max {
            return Err(Problem::too_large(max));
        }
        raw.extend_from_slice(&chunk);
    }
    let encoding = headers.get(CONTENT_ENCODING).map_or("identity", |value| value.to_str().unwrap_or("?"));
    match encoding {
        "identity" | "" => Ok(raw.freeze()),
        "gzip" => decode(flate2::read::MultiGzDecoder::new(raw.as_ref()), max),
        "zstd" => match zstd::Decoder::with_buffer(raw.as_ref()) {
            Ok(mut decoder) => {
                // A window above 8 MiB would let a small body claim much memory.
                let window = decoder.window_log_max(ZSTD_WINDOW_LOG_MAX);
                window.map_err(|error| Problem::bad_request(format!("The zstd body cannot be read: {error}.")))?;
                decode(decoder, max)
            }
            Err(error) => Err(Problem::bad_request(format!("The zstd body cannot be read: {error}."))),
        },
        other => Err(Problem::new(
            actix_web::http::StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_encoding",
            "The body's encoding is not known",
            format!("Content-Encoding `{other}` is not supported; use identity, gzip or zstd."),
        )),
    }
}

/// 8 MiB.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

fn decode(decoder: impl Read, max: usize) -> Result<Bytes, Problem> {
    let mut decoded = Vec::new();
    let cap = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    decoder
        .take(cap)
        .read_to_end(&mut decoded)
        .map_err(|error| Problem::bad_request(format!("The compressed body cannot be read: {error}.")))?;
    if decoded.len() > max { Err(Problem::too_large(max)) } else { Ok(Bytes::from(decoded)) }
}

/// Parses a JSON object; an error names the field.
///
/// # Errors
/// 400 when it is not JSON at all or holds a U+0000, 422 with the field's path otherwise.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    if has_nul_escape(body) {
        return Err(Problem::bad_request("Text must not contain the character U+0000."));
    }
    match serde_json::from_slice(body) {
        // serde also fills a struct from a list, by position; no field is named there, so none could be refused.
        Ok(_) if body.trim_ascii_start().first() != Some(&b'{') => Err(Problem::invalid("body", "must be an object")),
        Ok(value) => Ok(value),
        // Parsed again only to find the path of what was wrong. Some wrong types are reported as wrong syntax.
        Err(error) if error.is_data() || serde_json::from_slice::<IgnoredAny>(body).is_ok() => {
            Err(locate::<T>(body, &error))
        }
        Err(error) => Err(Problem::bad_request(format!("The body is not valid JSON: {error}."))),
    }
}

/// Parses JSON of any form.
///
/// # Errors
/// 400 when it is not JSON or holds a U+0000.
pub fn parse_any(body: &[u8]) -> Result<serde_json::Value, Problem> {
    if has_nul_escape(body) {
        return Err(Problem::bad_request("Text must not contain the character U+0000."));
    }
    serde_json::from_slice(body).map_err(|error| Problem::bad_request(format!("The body is not valid JSON: {error}.")))
}

/// Whether JSON holds an escaped U+0000, the one character that PostgreSQL cannot keep. Unescaped, it is no JSON.
fn has_nul_escape(body: &[u8]) -> bool {
    let mut rest = body;
    while let Some(at) = rest.iter().position(|&byte| byte == b'\\') {
        let escape = rest.get(at + 1..).unwrap_or_default();
        if escape.starts_with(b"u0000") {
            return true;
        }
        // The escaped character belongs to the backslash: `\\u0000` is a backslash and plain text.
        rest = escape.get(1..).unwrap_or_default();
    }
    false
}

fn locate<T: DeserializeOwned>(body: &[u8], error: &serde_json::Error) -> Problem {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let located: Result<T, _> = serde_path_to_error::deserialize(&mut deserializer);
    let message = error.to_string();
    let sentence = message.split(" at line ").next().unwrap_or_default().to_owned();
    let path = located.err().map(|error| error.path().to_string()).unwrap_or_default();
    let named = ["unknown field `", "missing field `"].iter().find_map(|lead| {
        let rest = sentence.strip_prefix(lead)?;
        rest.split('`').next()
    });
    let field = match (path.as_str(), named) {
        ("" | ".", Some(name)) => name.to_owned(),
        ("" | ".", None) => "body".to_owned(),
        (path, Some(name)) if !path.ends_with(name) => format!("{path}.{name}"),
        (path, _) => path.to_owned(),
    };
    Problem::invalid(field, sentence)
}

/// 415.
pub(super) fn not_json() -> Problem {
    Problem::new(
        actix_web::http::StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported_media_type",
        "The body's type is not known",
        "Send JSON with `Content-Type: application/json`.",
    )
}

/// A JSON body, parsed strictly. Use in place of `web::Json`.
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned + 'static> FromRequest for Json<T> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut dev::Payload) -> Self::Future {
        let request = request.clone();
        let payload = Payload::from_request(&request, payload);
        Box::pin(async move {
            let content_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
            if !content_type.starts_with("application/json") {
                return Err(not_json());
            }
            let mut payload =
                payload.await.map_err(|error| Problem::bad_request(format!("The body cannot be read: {error}.")))?;
            let body = read(request.headers(), &mut payload, JSON_BYTES_MAX).await?;
            parse(&body).map(Self)
        })
    }
}

/// A JSON body of a protocol type, parsed and checked.
#[derive(Debug)]
pub struct Checked<T>(pub T);

impl<T: DeserializeOwned + Check + 'static> FromRequest for Checked<T> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut dev::Payload) -> Self::Future {
        let parsed = Json::<T>::from_request(request, payload);
        Box::pin(async move {
            let Json(value) = parsed.await?;
            value.check()?;
            Ok(Self(value))
        })
    }
}

/// Query parameters, refused with a problem instead of the framework's text.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned + 'static> FromRequest for Query<T> {
    type Error = Problem;
    type Future = std::future::Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut dev::Payload) -> Self::Future {
        if request.query_string().contains("%00") {
            return std::future::ready(Err(Problem::invalid("query", "must not contain the character U+0000")));
        }
        let parsed = actix_web::web::Query::<T>::from_query(request.query_string());
        std::future::ready(match parsed {
            Ok(query) => Ok(Self(query.into_inner())),
            Err(error) => Err(Problem::invalid("query", error.to_string())),
        })
    }
}

/// Path parameters; a path that does not parse names nothing, so it answers 404.
#[derive(Debug)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + 'static> FromRequest for Path<T> {
    type Error = Problem;
    type Future = std::future::Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut dev::Payload) -> Self::Future {
        if request.uri().path().contains("%00") {
            return std::future::ready(Err(Problem::not_found()));
        }
        let parsed = actix_web::web::Path::<T>::from_request(request, payload).into_inner();
        std::future::ready(parsed.map(|path| Self(path.into_inner())).map_err(|_| Problem::not_found()))
    }
}

/// One `name=value` of a query string.
pub fn query_pair(name: &str, value: &str) -> String {
    format!("{}={}", percent(name), percent(value))
}

fn percent(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => encoded.push(char::from(byte)),
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_real_escape_of_nul_is_found() {
        for (body, found) in [
            (r#"{"a":"\u0000"}"#, true),
            (r#"{"a":"x\n\u0000"}"#, true),
            (r#"{"a":"\\\u0000"}"#, true),
            (r#"{"a":"\\u0000"}"#, false),
            (r#"{"a":"\u00001"}"#, true),
            (r#"{"a":"\u0001"}"#, false),
            (r#"{"a":"u0000"}"#, false),
            ("\\", false),
        ] {
            assert_eq!(has_nul_escape(body.as_bytes()), found, "{body}");
        }
    }
}
