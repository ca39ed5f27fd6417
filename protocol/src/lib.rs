//! What Tillward's server and agent must agree on: messages, phases, refusals and trust rules.
//!
//! This crate does no I/O, reads no clock and runs no async code. Every value that arrives from the other side is
//! parsed once into the types here and checked with [`Check`]; after that it is valid.

pub mod checkin;
pub mod condition;
pub mod crypto;
pub mod enrol;
pub mod failure;
pub mod ids;
pub mod manifest;
pub mod pan;
pub mod payment;
pub mod phase;
pub mod trust;

mod check;

pub use check::{Check, FieldError};
