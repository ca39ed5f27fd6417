//! The REST and device surface, through real HTTP, on each database.
//!
//! SQLite always; PostgreSQL when `TILLWARD_TEST_POSTGRES` holds the URL of a server on which databases may be created.

mod frame;
mod harness;
mod rollouts;
