//! Forms of signed-in pages: bounded, strict, and only with the session's own token in them.

use actix_web::http::header::{CONTENT_TYPE, HeaderMap};
use actix_web::web::Payload;
use actix_web::{FromRequest, HttpMessage, HttpRequest, dev};
use futures_util::future::LocalBoxFuture;
use serde::de::DeserializeOwned;
use subtle::ConstantTimeEq;

use crate::http::body;
use crate::http::problem::Problem;
use crate::operators::Caller;

/// Largest form, bytes: a pasted list of some thousand serial numbers.
const FORM_BYTES_MAX: usize = 128 * 1024;
/// Name of the hidden field.
const CSRF_FIELD: &str = "csrf";

/// A form of a signed-in page. Unknown fields are refused where `T` denies them.
#[derive(Debug)]
pub(super) struct Form<T>(pub(super) T);

impl<T: DeserializeOwned + 'static> FromRequest for Form<T> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut dev::Payload) -> Self::Future {
        let request = request.clone();
        let payload = Payload::from_request(&request, payload);
        Box::pin(async move {
            let mut payload = payload.await.map_err(|error| Problem::bad_request(error.to_string()))?;
            let pairs = pairs(request.headers(), &mut payload).await?;
            let (token, fields): (Vec<_>, Vec<_>) = pairs.into_iter().partition(|(name, _)| name == CSRF_FIELD);
            let token = token.into_iter().next().map(|(_, value)| value).unwrap_or_default();
            check_csrf(&request, &token)?;
            parse(fields).map(Self)
        })
    }
}

/// A form of a page that needs no session: signing in, first run, language and theme.
#[derive(Debug)]
pub(super) struct OpenForm<T>(pub(super) T);

impl<T: DeserializeOwned + 'static> FromRequest for OpenForm<T> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut dev::Payload) -> Self::Future {
        let request = request.clone();
        let payload = Payload::from_request(&request, payload);
        Box::pin(async move {
            if !crate::http::auth::is_same_origin(request.headers()) {
                return Err(Problem::forbidden("The request comes from another site."));
            }
            let mut payload = payload.await.map_err(|error| Problem::bad_request(error.to_string()))?;
            let pairs = pairs(request.headers(), &mut payload).await?;
            parse(pairs).map(Self)
        })
    }
}

/// Whether `token` is the one that forms of this session carry.
///
/// # Errors
/// 403 otherwise.
pub(super) fn check_csrf(request: &HttpRequest, token: &str) -> Result<(), Problem> {
    let expected = request.extensions().get::<Caller>().map(|caller| caller.csrf_token.clone()).unwrap_or_default();
    let is_good: bool = token.as_bytes().ct_eq(expected.as_bytes()).into();
    if is_good && !expected.is_empty() {
        Ok(())
    } else {
        Err(Problem::forbidden("The form is stale. Go back, reload the page and send it again."))
    }
}

async fn pairs(headers: &HeaderMap, payload: &mut Payload) -> Result<Vec<(String, String)>, Problem> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    if !content_type.starts_with("application/x-www-form-urlencoded") {
        return Err(Problem::new(
            actix_web::http::StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "The body's type is not known",
            "Send the form as the page does.",
        ));
    }
    let body = body::read(headers, payload, FORM_BYTES_MAX).await?;
    let text = std::str::from_utf8(&body).map_err(|_| Problem::bad_request("The form is not UTF-8."))?;
    decode(text)
}

fn decode(text: &str) -> Result<Vec<(String, String)>, Problem> {
    actix_web::web::Query::<Vec<(String, String)>>::from_query(text)
        .map(actix_web::web::Query::into_inner)
        .map_err(|error| Problem::bad_request(format!("The form cannot be read: {error}.")))
}

/// Fields that were left empty count as absent, so that optional ones need no special type.
fn parse<T: DeserializeOwned>(fields: Vec<(String, String)>) -> Result<T, Problem> {
    let kept = fields.into_iter().map(|(name, value)| (name, value.trim().to_owned()));
    let query: Vec<_> =
        kept.filter(|(_, value)| !value.is_empty()).map(|(name, value)| body::query_pair(&name, &value)).collect();
    let parsed = actix_web::web::Query::<T>::from_query(&query.join("&"));
    parsed.map(actix_web::web::Query::into_inner).map_err(|error| {
        let sentence = error.to_string();
        let named = sentence.split('`').nth(1).unwrap_or("form").to_owned();
        Problem::invalid(named, sentence)
    })
}

/// `path` when it stays on this server, `/` otherwise: nobody is sent elsewhere by a crafted link.
pub(super) fn local_path(path: &str) -> &str {
    let is_local = path.starts_with('/') && !path.starts_with("//") && !path.contains(['\\', '\r', '\n']);
    if is_local { path } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Example {
        name: String,
        #[serde(default)]
        count: Option<u32>,
    }

    #[test]
    fn empty_fields_are_absent_and_unknown_ones_are_refused() {
        let fields = |text: &str| parse::<Example>(decode(text).unwrap());
        assert_eq!(fields("name=%E7%BB%88+x&count=").unwrap(), Example { name: "终 x".to_owned(), count: None });
        assert_eq!(fields("name=a&count=3").unwrap().count, Some(3));
        assert_eq!(fields("name=a&other=1").unwrap_err().field.as_deref(), Some("other"));
        assert_eq!(fields("count=1").unwrap_err().field.as_deref(), Some("name"));
    }

    #[test]
    fn only_paths_of_this_server_are_followed() {
        for (path, followed) in [
            ("/terminals?q=1", "/terminals?q=1"),
            ("//evil.example", "/"),
            ("https://evil.example", "/"),
            ("/\\evil.example", "/"),
            ("", "/"),
        ] {
            assert_eq!(local_path(path), followed, "{path}");
        }
    }
}
