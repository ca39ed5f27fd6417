//! x

pub mod blobs;
pub mod signing;
