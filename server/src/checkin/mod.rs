//! Filled in by this domain.

pub mod http;
