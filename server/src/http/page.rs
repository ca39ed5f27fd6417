//! Keyset paging: a list is read in the order of a key, from where the last page ended.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder};
use utoipa::openapi::{Ref, RefOr, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use super::problem::Problem;

/// Rows on a page when the caller does not say.
pub const PAGE_SIZE: u32 = 20;
/// Most rows on a page: more would not be read by a person, and a program asks for the next page.
pub const PAGE_SIZE_MAX: u32 = 100;

/// One page of a list.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Pass as `after` to read on; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl<T: ToSchema> PartialSchema for Page<T> {
    fn schema() -> RefOr<Schema> {
        let rows = ArrayBuilder::new().items(Ref::from_schema_name(T::name())).description(Some("The rows"));
        let next = ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("Pass as `after` to read on; absent on the last page"));
        ObjectBuilder::new().property("items", rows).required("items").property("next", next).into()
    }
}

/// By hand, because the derived name would be the same for the pages of all things.
impl<T: ToSchema> ToSchema for Page<T> {
    fn name() -> Cow<'static, str> {
        format!("{}Page", T::name()).into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        T::schemas(schemas);
        schemas.push((T::name().into_owned(), T::schema()));
    }
}

/// Which part of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::IntoParams, utoipa::ToSchema)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Rows on the page, 1–100; 20 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u32>,
}

impl PageQuery {
    /// Rows to read for this page.
    ///
    /// # Errors
    /// A 422 problem for sizes outside 1–100.
    pub fn size(&self) -> Result<u32, Problem> {
        match self.size.unwrap_or(PAGE_SIZE) {
            size @ 1..=PAGE_SIZE_MAX => Ok(size),
            _ => Err(Problem::invalid("size", format!("must be 1 to {PAGE_SIZE_MAX}"))),
        }
    }

    /// The key after which to read.
    ///
    /// # Errors
    /// A 422 problem when the cursor was not made by [`cursor`].
    pub fn after<K: DeserializeOwned>(&self) -> Result<Option<K>, Problem> {
        let Some(text) = self.after.as_deref().filter(|text| !text.is_empty()) else { return Ok(None) };
        let bytes = URL_SAFE_NO_PAD.decode(text).ok();
        match bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
            Some(key) => Ok(Some(key)),
            None => Err(Problem::invalid("after", "is not a cursor of this list; start again without it")),
        }
    }
}

/// The opaque text that stands for `key`.
pub fn cursor<K: Serialize>(key: &K) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(key).unwrap_or_default())
}

impl<T> Page<T> {
    /// Cuts `rows` (read with one more than `size`) to the page and makes the cursor from the last row's key.
    pub fn from_rows<K: Serialize>(mut rows: Vec<T>, size: u32, key: impl Fn(&T) -> K) -> Self {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if rows.len() <= size {
            return Self { items: rows, next: None };
        }
        rows.truncate(size);
        let next = rows.last().map(|row| cursor(&key(row)));
        Self { items: rows, next }
    }
}
