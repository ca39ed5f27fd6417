//! The server's device interface over blocking HTTP: enrol, session, check in, fetch.
//!
//! The session token goes to the server's own origin and to nobody else. No redirect is followed. Every answer is read
//! up to a limit and no further.

use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tillward_protocol::enrol::{ChallengeAnswer, ChallengeRequest, EnrolAnswer, EnrolRequest, SessionAnswer};
use tillward_protocol::ids::{Sha256Hex, TerminalId};
use ureq::http::{Response, header};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use crate::config::{Config, seconds};
use crate::identity::Identity;
use crate::meter::Meter;
use crate::storage;

/// Largest answer of the device interface, bytes.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;
/// Largest profile, bytes.
pub const PROFILE_BYTES_MAX: u64 = 1024 * 1024;
/// Longest time one small call may take, all in all: a 2G connection with a full handshake needs half of it.
const CALL_TIMEOUT: Duration = Duration::from_secs(90);
/// Where systems keep the public certificates. None are built in: they would age with the firmware.
const SYSTEM_CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Longest `Retry-After` that is obeyed to the letter.
const RETRY_AFTER_MAX_S: u64 = 24 * 3600;

/// Why a call gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Not reached, cut off, or not understood.
    #[error("{0}")]
    Network(String),
    /// 429 or 503.
    #[error("the server is busy")]
    Busy(Option<Duration>),
    /// 401: the session is over.
    #[error("the server does not accept the session")]
    Unauthorized,
    /// 403: the terminal is blocked.
    #[error("the server refuses this terminal: {0}")]
    Blocked(String),
    /// Any other 4xx: this request can never succeed.
    #[error("refused with status {status}: {detail}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The problem document's title and detail.
        detail: String,
    },
    /// The answer is longer than it may be.
    #[error("the answer is longer than {0} bytes")]
    TooLong(u64),
}

#[derive(Debug, Default, Deserialize)]
struct Problem {
    #[serde(default)]
    title: String,
    #[serde(default)]
    detail: String,
}

/// An HTTP client with a session. Clones share the session.
#[derive(Debug, Clone)]
pub struct Client {
    agent: Agent,
    server: String,
    token: Arc<Mutex<Option<String>>>,
    meter: Meter,
}

/// One answered check-in and how long it took, connecting not counted.
#[derive(Debug)]
pub struct Timed<T> {
    /// The answer.
    pub answer: T,
    /// Time from sending to the whole answer.
    pub round_trip: Duration,
}

impl Client {
    /// A client for `config.server`.
    ///
    /// # Errors
    /// A sentence about the certificate file.
    pub fn new(config: &Config, meter: &Meter) -> Result<Self, String> {
        let secured = [&config.server, &config.image_url(), &config.director_url()].iter().any(|url| is_secured(url));
        let roots = match &config.ca_file {
            Some(path) => certificates(path)?,
            None if secured => certificates(Path::new(SYSTEM_CERTIFICATES))
                .map_err(|problem| format!("{problem}; name the certificates to trust as ca_file"))?,
            None => RootCerts::Specific(Arc::default()),
        };
        let tls = TlsConfig::builder()
            .root_certs(roots)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        let read_timeout = Some(seconds(config.timing.read_timeout_s)).filter(|timeout| !timeout.is_zero());
        let settings = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .tls_config(tls)
            .user_agent(concat!("tillward-agent/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .timeout_connect(Some(seconds(config.timing.connect_timeout_s)).filter(|timeout| !timeout.is_zero()))
            .timeout_per_read(read_timeout)
            .timeout_per_write(read_timeout)
            .max_response_header_size(16 * 1024)
            .input_buffer_size(32 * 1024)
            .output_buffer_size(8 * 1024)
            .max_idle_connections(2)
            .max_idle_connections_per_host(1)
            .build();
        let agent = meter.agent(settings, authority(&config.server));
        Ok(Self { agent, server: config.server.clone(), token: Arc::default(), meter: meter.clone() })
    }

    /// Redeems an activation code.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn enrol(&self, request: &EnrolRequest) -> Result<EnrolAnswer, CallError> {
        self.post("/device/v1/enrol", &json(request)?, None)
    }

    /// Opens a new session.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn open_session(&self, identity: &Identity, terminal_id: TerminalId) -> Result<(), CallError> {
        let challenge: ChallengeAnswer =
            self.post("/device/v1/challenge", &json(&ChallengeRequest { terminal_id })?, None)?;
        let request = identity.session_request(terminal_id, challenge.challenge);
        let session: SessionAnswer = self.post("/device/v1/session", &json(&request)?, None)?;
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(session.token);
        Ok(())
    }

    /// Whether a session was opened.
    pub fn has_session(&self) -> bool {
        self.token().is_some()
    }

    /// Sends the bytes of one check-in.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn check_in<T: DeserializeOwned>(&self, body: &[u8]) -> Result<Timed<T>, CallError> {
        let connecting = self.meter.read().connecting;
        let started = Instant::now();
        let answer = self.post("/device/v1/check-in", body, self.token())?;
        let round_trip = started.elapsed().saturating_sub(self.meter.read().connecting.saturating_sub(connecting));
        Ok(Timed { answer, round_trip })
    }

    /// Fetches the canonical bytes of a profile. The caller checks them against `hash`.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn profile(&self, hash: &Sha256Hex) -> Result<Vec<u8>, CallError> {
        let url = format!("{}/device/v1/configs/{hash}", self.server);
        match self.fetch(&url, PROFILE_BYTES_MAX)? {
            Some(bytes) => Ok(bytes),
            None => Err(CallError::Refused { status: 404, detail: "the server does not have this profile".to_owned() }),
        }
    }

    /// Fetches a whole small file; `None` for 404, and for 403 outside the server's own origin.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn fetch(&self, url: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, CallError> {
        let mut request = self.agent.get(url);
        let own = self.is_own(url);
        if own && let Some(token) = self.token() {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let mut response = request.config().timeout_global(Some(CALL_TIMEOUT)).build().call().map_err(network)?;
        let status = response.status().as_u16();
        if status == 404 || (status == 403 && !own) {
            return Ok(None);
        }
        refuse_unless_ok(&mut response)?;
        read_limited(&mut response, bytes_max).map(Some)
    }

    /// Asks for a payload from `offset` on. The caller reads and judges the answer.
    ///
    /// # Errors
    /// See [`CallError`]; a 4xx other than 416 is an error.
    pub fn open_payload(&self, url: &str, offset: u64, etag: Option<&str>) -> Result<Response<Body>, CallError> {
        let mut request = self.agent.get(url);
        if self.is_own(url)
            && let Some(token) = self.token()
        {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if offset > 0 {
            request = request.header(header::RANGE, format!("bytes={offset}-"));
            if let Some(etag) = etag {
                request = request.header(header::IF_RANGE, etag);
            }
        }
        let mut response = request.call().map_err(network)?;
        if response.status().as_u16() != 416 {
            refuse_unless_ok(&mut response)?;
        }
        Ok(response)
    }

    fn post<T: DeserializeOwned>(&self, path: &str, body: &[u8], token: Option<String>) -> Result<T, CallError> {
        let mut request =
            self.agent.post(format!("{}{path}", self.server)).header(header::CONTENT_TYPE, "application/json");
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let mut response = request.config().timeout_global(Some(CALL_TIMEOUT)).build().send(body).map_err(network)?;
        refuse_unless_ok(&mut response)?;
        let bytes = read_limited(&mut response, ANSWER_BYTES_MAX)?;
        crate::json::parse(&bytes).map_err(|error| CallError::Network(format!("answer not understood: {error}")))
    }

    fn token(&self) -> Option<String> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn is_own(&self, url: &str) -> bool {
        url.strip_prefix(&self.server).is_some_and(|rest| rest.starts_with('/'))
    }
}

/// Host and port of a URL.
fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

fn is_secured(url: &str) -> bool {
    url.starts_with("https://")
}

fn certificates(path: &Path) -> Result<RootCerts, String> {
    let bytes = storage::read(path, 1024 * 1024)
        .ok()
        .flatten()
        .ok_or_else(|| format!("cannot read the certificates in {}", path.display()))?;
    let found: Vec<Certificate<'static>> = ureq::tls::parse_pem(&bytes)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if found.is_empty() {
        return Err(format!("{} holds no certificate", path.display()));
    }
    Ok(RootCerts::Specific(Arc::new(found)))
}

fn json(value: &impl serde::Serialize) -> Result<Vec<u8>, CallError> {
    serde_json::to_vec(value).map_err(|error| CallError::Network(error.to_string()))
}

fn network(error: ureq::Error) -> CallError {
    CallError::Network(error.to_string())
}

fn refuse_unless_ok(response: &mut Response<Body>) -> Result<(), CallError> {
    let status = response.status().as_u16();
    match status {
        200..=299 => Ok(()),
        401 => Err(CallError::Unauthorized),
        429 | 503 => Err(CallError::Busy(retry_after(response))),
        408 | 425 => Err(CallError::Network(format!("the server answered {status}"))),
        400..=499 => {
            let problem = read_limited(response, ANSWER_BYTES_MAX)
                .ok()
                .and_then(|bytes| crate::json::parse::<Problem>(&bytes).ok())
                .unwrap_or_default();
            let detail = [problem.title, problem.detail].join(": ");
            let detail = detail.trim_matches([':', ' ']).to_owned();
            if status == 403 { Err(CallError::Blocked(detail)) } else { Err(CallError::Refused { status, detail }) }
        }
        _ => Err(CallError::Network(format!("the server answered {status}"))),
    }
}

fn retry_after(response: &Response<Body>) -> Option<Duration> {
    let seconds: u64 = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.min(RETRY_AFTER_MAX_S)))
}

fn read_limited(response: &mut Response<Body>, bytes_max: u64) -> Result<Vec<u8>, CallError> {
    let mut bytes = Vec::new();
    let mut reader = response.body_mut().as_reader().take(bytes_max + 1);
    reader.read_to_end(&mut bytes).map_err(|error| CallError::Network(error.to_string()))?;
    if bytes.len() as u64 > bytes_max {
        return Err(CallError::TooLong(bytes_max));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_belongs_to_the_servers_own_origin_only() {
        let client = Client {
            agent: Agent::new_with_defaults(),
            server: "https://till.example".to_owned(),
            token: Arc::default(),
            meter: Meter::default(),
        };
        assert!(client.is_own("https://till.example/tuf/director/t/1"));
        for other in
            ["https://till.example.evil/x", "https://till.example:444/x", "http://till.example/x", "https://mirror/"]
        {
            assert!(!client.is_own(other), "{other}");
        }
        assert_eq!(authority("https://till.example:8443/x"), "till.example:8443");
    }
}
