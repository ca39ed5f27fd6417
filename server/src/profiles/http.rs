//! REST of this domain.

use crate::http::endpoints::Endpoint;

/// This domain's rows of the endpoint table.
pub fn endpoints() -> Vec<Endpoint> {
    Vec::new()
}
