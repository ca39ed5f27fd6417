//! The light program on a payment terminal: checks in, reports failures, installs only what it can verify.
//!
//! One thread, blocking, no async runtime. Two things must never be wrong: new firmware runs only after both signed
//! repositories agreed on it and it was read back from its slot; and every report is counted exactly once. Both hold
//! across a power cut at any moment, because what comes next is written down before it is done.
//!
//! Deliberately absent: a way to force an installation, to go back to an older release, or to run a command that the
//! server sends.

mod agent;
mod application;
mod backoff;
mod cli;
mod client;
mod clock;
mod config;
mod download;
mod driver;
mod gate;
mod health;
mod identity;
mod install;
mod journal;
mod json;
mod log;
mod metadata_store;
mod meter;
mod order;
mod probe;
mod profile;
mod random;
mod report;
mod slots;
mod spool;
mod status;
mod storage;
mod toml;
mod tuf;
mod update;

pub use cli::cli;
