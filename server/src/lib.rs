//! x

pub mod signing;
