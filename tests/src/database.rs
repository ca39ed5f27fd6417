//! Both databases: SQLite in the server's folder, and a PostgreSQL database made for one test and dropped after it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

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
        let what = format!("{suite} on PostgreSQL");
        let Ok(server) = std::env::var("TILLWARD_TEST_POSTGRES") else {
            crate::skip(&what, "set TILLWARD_TEST_POSTGRES=postgres://… or use ./tests/run, which starts one");
            return None;
        };
        if Command::new("psql").arg("--version").output().is_err() {
            crate::skip(&what, "the program psql, which makes the database, is not installed");
            return None;
        }
        Some(Self::on(&server))
    }

    /// A new database on the PostgreSQL server at this URL.
    fn on(server: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("tillward_real_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let made = Postgres { server: server.to_owned(), name };
        made.psql(&format!("CREATE DATABASE {}", made.name));
        Self::Postgres(made)
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

/// A PostgreSQL server of the test's own, which it may stop; gone with this value.
pub struct Cluster {
    folder: TempDir,
    programs: PathBuf,
    port: u16,
}

impl Cluster {
    /// Starts one; `None`, and said, where PostgreSQL is not installed.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(suite: &str) -> Option<Self> {
        let Some(programs) = programs() else {
            crate::skip(suite, "install PostgreSQL (Debian: postgresql)");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let cluster = Self { folder, programs, port };
        if is_root() {
            // PostgreSQL refuses to run as root; its package made a user for it.
            let owned = Command::new("chown").arg("postgres").arg(cluster.folder.path()).status().unwrap();
            assert!(owned.success());
        }
        let data = cluster.data();
        cluster.run("initdb", &["-D", &data, "-A", "trust", "-U", "postgres", "--no-sync"]);
        cluster.start_again();
        Some(cluster)
    }

    /// A new database on it.
    ///
    /// # Panics
    /// When it refuses.
    pub fn database(&self) -> Database {
        Database::on(&format!("postgres://postgres@127.0.0.1:{}", self.port))
    }

    /// Ends it as a crash does: nothing is written back, every connection breaks.
    ///
    /// # Panics
    /// When it does not end.
    pub fn stop_at_once(&self) {
        self.run("pg_ctl", &["-D", &self.data(), "-m", "immediate", "-w", "stop"]);
    }

    /// Starts it again on the same data.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_again(&self) {
        let folder = self.folder.path().display();
        let log = format!("{folder}/log");
        let settings = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c max_connections=60 -c fsync=off",
            self.port
        );
        self.run("pg_ctl", &["-D", &self.data(), "-l", &log, "-w", "-o", &settings, "start"]);
    }

    fn data(&self) -> String {
        self.folder.path().join("data").to_string_lossy().into_owned()
    }

    fn run(&self, program: &str, words: &[&str]) {
        let program = self.programs.join(program);
        let mut command = if is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        // Not piped: the server that it starts would keep the pipe open.
        let said = std::fs::File::create(self.folder.path().join("said")).unwrap();
        command.args(words).current_dir("/").stdout(said.try_clone().unwrap()).stderr(said);
        let status = command.status().unwrap();
        let said = std::fs::read_to_string(self.folder.path().join("said")).unwrap_or_default();
        assert!(status.success() || std::thread::panicking(), "{words:?}: {said}");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if Path::new(&self.data()).join("postmaster.pid").exists() {
            self.stop_at_once();
        }
    }
}

fn is_root() -> bool {
    let asked = Command::new("id").arg("-u").output();
    asked.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// Where the newest PostgreSQL has its programs.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut found: Vec<PathBuf> = versions.flatten().map(|version| version.path().join("bin")).collect();
    found.retain(|folder| folder.join("initdb").is_file());
    found.sort();
    found.pop()
}
