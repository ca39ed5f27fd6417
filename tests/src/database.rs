//! Both databases: SQLite in the server's folder, and a PostgreSQL database made for one test and dropped after it.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Where a server keeps its tables.
pub enum Database {
    /// In its data folder.
    Sqlite,
    /// In a database of its own.
    Postgres(Postgres),
}

/// A PostgreSQL database that is dropped with this value.
pub struct Postgres {
    server: String,
    name: String,
}

impl Database {
    /// A new PostgreSQL database on the server that `TILLWARD_TEST_POSTGRES` names; `None`, and said, without one.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn postgres(suite: &str) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let what = format!("{suite} on PostgreSQL");
        let Ok(server) = std::env::var("TILLWARD_TEST_POSTGRES") else {
            crate::skip(&what, "set TILLWARD_TEST_POSTGRES=postgres://… or use ./tests/run, which starts one");
            return None;
        };
        if Command::new("psql").arg("--version").output().is_err() {
            crate::skip(&what, "the program psql, which makes the database, is not installed");
            return None;
        }
        let name = format!("tillward_real_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let made = Postgres { server, name };
        made.psql(&format!("CREATE DATABASE {}", made.name));
        Some(Self::Postgres(made))
    }

    /// Its URL, unless it is the server's own folder.
    pub fn url(&self) -> Option<String> {
        match self {
            Self::Sqlite => None,
            Self::Postgres(postgres) => Some(format!("{}/{}", postgres.server, postgres.name)),
        }
    }
}

impl Postgres {
    fn psql(&self, statement: &str) {
        let url = format!("{}/postgres", self.server);
        let output = Command::new("psql").args(["--no-psqlrc", "--quiet", &url, "-c", statement]).output().unwrap();
        // While a panic unwinds, that is what should be read.
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() || std::thread::panicking(), "{statement}: {said}");
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.psql(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
    }
}
