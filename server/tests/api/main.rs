//! The REST and device surface, through real HTTP, on each database.
//!
//! SQLite always; PostgreSQL when `TILLWARD_TEST_POSTGRES` holds the URL of a server on which databases may be created.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod access_table;
mod bad_input;
mod check_in;
mod check_in;
mod enrolment;
mod enrolment;
mod failures;
mod failures;
mod fixtures;
mod frame;
mod harness;
mod interop;
mod operators;
mod organizations;
mod releases;
mod rollouts;
mod import;
mod profiles;
mod seed;
mod terminals;
mod world;
