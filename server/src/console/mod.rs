//! The web console.

use crate::http::endpoints::Endpoint;

/// The pages.
pub fn endpoints() -> Vec<Endpoint> {
    Vec::new()
}
