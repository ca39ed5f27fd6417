//! Starts the server that production runs, on port 0 and a fresh database, and calls it over HTTP.

use std::io::Write;
use std::sync::OnceLock;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use actix_web::web::Data;
use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection, RunQueryDsl};
use serde_json::Value;
use tillward_server::app::Server;
use tillward_server::clock::Clock;
use tillward_server::config::Config;
use tillward_server::db::{self, Conn};
use tillward_server::http::State;

/// One answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: ureq::http::HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON; panics with the text when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The answer itself when it has this status; panics with its body otherwise.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }
}

/// A running server; stops when dropped.
pub struct TestServer {
    pub url: String,
    pub state: Data<State>,
    pub clock: Clock,
    pub data_dir: tempfile::TempDir,
    http: ureq::Agent,
    runtime: tokio::runtime::Runtime,
    handle: actix_web::dev::ServerHandle,
    thread: Option<JoinHandle<()>>,
    database: Option<PostgresDatabase>,
}

impl TestServer {
    /// Starts on SQLite.
    pub fn sqlite() -> Self {
        Self::start(None, |_| {})
    }

    fn start(database: Option<PostgresDatabase>, change: impl FnOnce(&mut Config)) -> Self {
        let data_dir = tempfile::tempdir().unwrap();
        let clock = Clock::system();
        let mut config = Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            data_dir: data_dir.path().to_owned(),
            database_url: database.as_ref().map(|database| database.url.clone()),
            workers: 1,
            ..Config::default()
        };
        change(&mut config);
        let (started, starting) = mpsc::channel();
        let thread = std::thread::spawn({
            let clock = clock.clone();
            move || {
                actix_web::rt::System::new().block_on(async move {
                    let server = Server::start(config, clock).await.unwrap();
                    started.send((server.url.clone(), server.state.clone(), server.handle())).unwrap();
                    server.run().await.unwrap();
                });
            }
        });
        let (url, state, handle) = starting.recv_timeout(Duration::from_secs(60)).expect("the server starts");
        let http = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(Duration::from_secs(60)))
            .build()
            .new_agent();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { url, state, clock, data_dir, http, runtime, handle, thread: Some(thread), database }
    }

    /// Runs a future of the server's own functions, for example `state.db.read(…)`.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// `GET path`, with a bearer token if not empty.
    pub fn get(&self, path: &str, token: &str) -> Answer {
        self.send("GET", path, token, &[], b"")
    }

    /// `POST path` with JSON.
    pub fn post(&self, path: &str, token: &str, body: &Value) -> Answer {
        self.send("POST", path, token, &[("content-type", "application/json")], body.to_string().as_bytes())
    }

    /// Any request.
    pub fn send(&self, method: &str, path: &str, token: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let mut response = if body.is_empty() && matches!(method, "GET" | "HEAD" | "DELETE") {
            self.http.run(request.body(()).unwrap()).unwrap()
        } else {
            self.http.run(request.body(body).unwrap()).unwrap()
        };
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let body = response.body_mut().with_config().limit(256 << 20).read_to_vec().unwrap_or_default();
        Answer { status, headers, body }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.runtime.block_on(self.handle.stop(false));
        if let Some(thread) = self.thread.take() {
            // A panic inside the server has already failed the test that saw its answer.
            let _ = thread.join();
        }
        drop(self.database.take());
    }
}

/// Runs `test` against a fresh server on SQLite and, where it is to be had, against one on PostgreSQL.
pub fn on_each_database(test: impl Fn(&TestServer)) {
    on_each_database_with(|_| {}, test);
}

/// As [`on_each_database`], with changed settings.
pub fn on_each_database_with(change: impl Fn(&mut Config), test: impl Fn(&TestServer)) {
    test(&TestServer::start(None, &change));
    if let Some(database) = PostgresDatabase::create() {
        test(&TestServer::start(Some(database), &change));
    }
}

/// Waits until `condition` holds; panics with `what` after 30 s.
pub fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(30), "never happened: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether anybody waits for a lock in this database; never on SQLite, where one writes at a time.
pub fn is_anybody_waiting(conn: &mut Conn) -> Result<bool, db::Error> {
    let Conn::Postgres(conn) = conn else { return Ok(false) };
    let waits =
        "EXISTS (SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')";
    Ok(diesel::select(diesel::dsl::sql::<diesel::sql_types::Bool>(waits)).get_result::<bool>(conn)?)
}

/// A database of its own for one test; dropped with it.
pub struct PostgresDatabase {
    server: String,
    name: String,
    pub url: String,
}

impl PostgresDatabase {
    pub fn create() -> Option<Self> {
        static SAID: OnceLock<()> = OnceLock::new();
        let Ok(server) = std::env::var("TILLWARD_TEST_POSTGRES") else {
            // Past the test harness's capture: a skipped suite is always said.
            SAID.get_or_init(|| {
                let _ = writeln!(
                    std::io::stderr(),
                    "SKIPPED on PostgreSQL: set TILLWARD_TEST_POSTGRES=postgres://… or use ./tests/run, which starts one"
                );
            });
            return None;
        };
        let name = format!("tillward_{}", uuid::Uuid::now_v7().simple());
        let mut conn = PgConnection::establish(&format!("{server}/postgres")).expect("PostgreSQL can be reached");
        conn.batch_execute(&format!("CREATE DATABASE {name}")).unwrap();
        let url = format!("{server}/{name}");
        Some(Self { server, name, url })
    }
}

impl Drop for PostgresDatabase {
    fn drop(&mut self) {
        if let Ok(mut conn) = PgConnection::establish(&format!("{}/postgres", self.server)) {
            let _ = conn.batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", self.name));
        }
    }
}
