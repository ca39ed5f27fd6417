//! Builds the server, binds it, runs it. Tests build the same thing on port 0.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::middleware::{DefaultHeaders, ErrorHandlers, from_fn};
use actix_web::{App, HttpServer, web};
use anyhow::Context;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::alerts::Sender;
use crate::blobs::Blobs;
use crate::checkin::Queue;
use crate::clock::Clock;
use crate::config::Config;
use crate::db::Db;
use crate::guard::Guard;
use crate::http::tokens::Tokens;
use crate::http::{self, State};
use crate::operators::sessions::AddressLimit;
use crate::settings;
use crate::signing::Signing;
use crate::terminals::{enrolment, import};
use crate::workers::{Signal, Workers};

/// Connections that may wait to be accepted: a whole mall coming back after a power cut.
const BACKLOG: u32 = 4_096;
/// Connections one server holds at most.
const CONNECTIONS_MAX: usize = 50_000;
/// A terminal on 2G needs this long for a request's head.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(15);
/// An idle connection is kept this long for the next request.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// Running requests may finish for this long after a stop.
const SHUTDOWN_S: u64 = 30;

/// A server that listens.
pub struct Server {
    /// `http://127.0.0.1:8420`, or `https` where it speaks TLS itself, with the port that was really bound.
    pub url: String,
    /// What its handlers work with.
    pub state: web::Data<State>,
    running: actix_web::dev::Server,
    workers: Workers,
}

impl Server {
    /// Opens everything the configuration names and binds.
    ///
    /// # Errors
    /// When the database, the blobs or the address cannot be had; the text says which.
    pub async fn start(config: Config, clock: Clock) -> anyhow::Result<Self> {
        tillward_protocol::crypto::install();
        // A second call finds the provider already there.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let location = config.database();
        let db = tokio::task::spawn_blocking(move || Db::open(&location)).await??;
        let secret = settings::token_secret(&db).await?;
        let (location, s3) = config.blobs()?;
        let blobs = Blobs::open(&location, &s3)?;
        let signing = Signing::open(blobs, &config.data_dir, config.mode, clock.now()).await?;
        let config = Arc::new(config);
        let check_ins = Queue::start(&db, &clock, config.check_in_interval_s);
        let tokens = Tokens::new(&secret);
        let enrolment_limits = enrolment::Limits::new(clock.clone());
        let state = web::Data::new(State {
            db,
            clock,
            config: Arc::clone(&config),
            tokens,
            sign_in_limit: AddressLimit::default(),
            check_ins,
            signing,
            imports: import::Turns::default(),
            enrolment_limits,
            planner: Signal::default(),
            import_jobs: Signal::default(),
            reconciling: Signal::default(),
            alerts: Sender::new(config.public_url.as_deref()),
            guard: Guard::default(),
        });
        let workers = Workers::start(state.clone().into_inner());
        let shared = state.clone();
        let mut server = HttpServer::new(move || {
            App::new()
                .app_data(shared.clone())
                .wrap(from_fn(crate::console::problems::as_pages))
                .wrap(ErrorHandlers::new().default_handler(http::as_problem))
                .wrap(DefaultHeaders::new().add(("X-Content-Type-Options", "nosniff")))
                .wrap(from_fn(http::with_request_id))
                .configure(http::configure)
                .default_service(web::to(|| async { http::problem::Problem::not_found() }))
        })
        .backlog(BACKLOG)
        .max_connections(CONNECTIONS_MAX)
        .client_request_timeout(CLIENT_TIMEOUT)
        .keep_alive(KEEP_ALIVE)
        .shutdown_timeout(SHUTDOWN_S)
        .disable_signals();
        if config.workers > 0 {
            server = server.workers(config.workers);
        }
        let (server, scheme) = match tls(&config)? {
            Some(tls) => (server.bind_rustls_0_23(config.listen, tls)?, "https"),
            None => (server.bind(config.listen)?, "http"),
        };
        let address = server.addrs().first().copied().unwrap_or(config.listen);
        let url = format!("{scheme}://{address}");
        Ok(Self { url, state, running: server.run(), workers })
    }

    /// Stops it from elsewhere.
    pub fn handle(&self) -> ServerHandle {
        self.running.handle()
    }

    /// Runs until stopped.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn run(self) -> anyhow::Result<()> {
        let ended = self.running.await;
        drop(self.workers);
        Ok(ended?)
    }
}

/// What the server needs to speak TLS itself, if it is to.
fn tls(config: &Config) -> anyhow::Result<Option<rustls::ServerConfig>> {
    let (Some(certificate), Some(key)) = (&config.tls_certificate, &config.tls_key) else { return Ok(None) };
    let unreadable = |path: &Path| format!("cannot read {} as PEM", path.display());
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| unreadable(certificate))?;
    anyhow::ensure!(!chain.is_empty(), "{} holds no certificate", certificate.display());
    let private = PrivateKeyDer::from_pem_file(key).with_context(|| unreadable(key))?;
    let tls = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, private);
    tls.map(Some).with_context(|| format!("{} does not fit {}", key.display(), certificate.display()))
}
