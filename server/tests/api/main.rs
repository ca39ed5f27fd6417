//! The REST and device surface, through real HTTP, on each database.
//!
//! SQLite always; PostgreSQL when `TILLWARD_TEST_POSTGRES` holds the URL of a server on which databases may be created.

mod check_in;
mod enrolment;
mod failures;
mod frame;
mod harness;
mod import;
mod profiles;
mod seed;
mod terminals;
