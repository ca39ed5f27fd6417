//! The REST and device surface, through real HTTP, on each database.
//!
//! SQLite always; PostgreSQL when `TILLWARD_TEST_POSTGRES` holds the URL of a server on which databases may be created.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod access_table;
mod alert_channels;
mod alert_console;
mod alert_rules;
mod alerts;
mod bad_input;
mod check_in;
mod config;
mod console;
mod console_rollouts;
mod enrolment;
mod evidence;
mod explain;
mod exports;
mod failures;
mod feed;
mod fixtures;
mod fleet;
mod frame;
mod harness;
mod import;
mod imported_failures;
mod incidents;
mod interop;
mod mailbox;
mod maintenance;
mod merchants;
mod operators;
mod organizations;
mod payments;
mod profiles;
mod recalled;
mod receiver;
mod releases;
mod rollouts;
mod seed;
mod terminals;
mod told_first;
mod verdicts;
mod world;
