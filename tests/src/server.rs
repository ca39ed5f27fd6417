//! The real server as a process, on data that outlives it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::database::Database;
use crate::programs::{self, Process};

/// Longest start of a server: a debug build, an empty database, a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A server with its data.
pub struct Server {
    /// Where it is reached; the same after a restart.
    pub url: String,
    /// What makes the first administrator; taken by [`crate::admin::Admin::set_up`].
    pub bootstrap_token: String,
    folder: TempDir,
    program: PathBuf,
    database: Database,
    address: String,
    check_in_interval_s: u32,
    more: Vec<(&'static str, String)>,
    process: Process,
}

impl Server {
    /// Starts one on SQLite.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start() -> Self {
        Self::start_with(programs::tillward(), Database::Sqlite, 900)
    }

    /// Starts one that asks terminals to check in each so many seconds.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_with(program: PathBuf, database: Database, check_in_interval_s: u32) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), program, database, check_in_interval_s, Vec::new())
    }

    /// Starts one in this folder, with more settings as they stand in the environment.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_in(
        folder: TempDir,
        program: PathBuf,
        database: Database,
        check_in_interval_s: u32,
        more: Vec<(&'static str, String)>,
    ) -> Self {
        // A free port that is the server's own from now on: terminals keep one address over all restarts.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let (process, lines, url) = launch(&program, folder.path(), &database, &address, check_in_interval_s, &more);
        let bootstrap_token = line_after("one-time token: ", &lines, folder.path());
        Self { url, bootstrap_token, folder, program, database, address, check_in_interval_s, more, process }
    }

    /// Ends it as `kill -9` does.
    ///
    /// # Panics
    /// When it ended before by itself.
    pub fn kill(&mut self) {
        assert!(self.process.is_running(), "the server ended by itself: {}", self.log_end());
        self.process.kill();
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// Starts it again on the same data and address.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_again(&mut self) {
        let interval_s = self.check_in_interval_s;
        let (process, _, _) =
            launch(&self.program, self.folder.path(), &self.database, &self.address, interval_s, &self.more);
        self.process = process;
    }

    /// Runs one of the program's commands on the same data.
    ///
    /// # Panics
    /// When it takes longer than a minute.
    pub fn tool(&self, words: &[&str]) -> Output {
        let mut command = settings(&self.program, self.folder.path(), &self.database, &self.address);
        command.envs(self.more.iter().map(|(name, value)| (name, value))).args(words);
        programs::run(command, Duration::from_secs(60))
    }

    /// Its data folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The last lines of its log.
    pub fn log_end(&self) -> String {
        log_end(self.folder.path())
    }

    /// Whether the log has a line with this text.
    pub fn has_logged(&self, text: &str) -> bool {
        std::fs::read_to_string(self.folder.path().join("log")).is_ok_and(|log| log.contains(text))
    }
}

fn settings(program: &Path, folder: &Path, database: &Database, address: &str) -> std::process::Command {
    let mut command = programs::command(program);
    command.env("TILLWARD_LISTEN", address).env("TILLWARD_DATA_DIR", folder.join("data"));
    if let Some(url) = database.url() {
        command.env("TILLWARD_DATABASE_URL", url);
    }
    command
}

/// Starts the program and waits until it says its address.
fn launch(
    program: &Path,
    folder: &Path,
    database: &Database,
    address: &str,
    interval_s: u32,
    more: &[(&'static str, String)],
) -> (Process, Receiver<String>, String) {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.join("log")).unwrap();
    let mut command = settings(program, folder, database, address);
    command.arg("serve").env("TILLWARD_CHECK_IN_INTERVAL_S", interval_s.to_string());
    command.envs(more.iter().map(|(name, value)| (name, value))).stdout(Stdio::piped()).stderr(log);
    let mut process = Process::start(&mut command);
    let lines = process.lines();
    let url = line_after("listening on ", &lines, folder);
    (process, lines, url)
}

/// What follows `mark` in the line that has it.
fn line_after(mark: &str, lines: &Receiver<String>, folder: &Path) -> String {
    let started = Instant::now();
    while let Some(left) = START_LIMIT.checked_sub(started.elapsed()) {
        match lines.recv_timeout(left) {
            Ok(line) => {
                if let Some((_, rest)) = line.split_once(mark) {
                    return rest.trim().to_owned();
                }
            }
            Err(_) => break,
        }
    }
    panic!("the server did not say {mark:?}; its log ends: {}", log_end(folder));
}

fn log_end(folder: &Path) -> String {
    let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
