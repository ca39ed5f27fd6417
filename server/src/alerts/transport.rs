//! How an alert leaves the server: one variant a kind of channel.
//!
//! **Signed webhook.** `POST` of a JSON object ([`Message`]) with these headers:
//!
//! | header | value |
//! |---|---|
//! | `tillward-timestamp` | Unix seconds at which this attempt was made |
//! | `tillward-signature` | `v1=` and, in hex, HMAC-SHA256 under the channel's secret of `{timestamp}.{body}` |
//! | `tillward-delivery` | the same in every attempt of one delivery: a receiver that has seen it can ignore it |
//!
//! A receiver computes the signature over the bytes it got, compares in constant time, and refuses timestamps that are more
//! than five minutes away. Any 2xx status is taken for received; redirects are not followed.
//!
//! The address is chosen by an administrator, and the server calls it from inside its own network: that is wanted, because
//! receivers are usually there. So that nobody can look around with it, answers are not read, and only their status is shown.

use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use reqwest::{Client, Url, header, redirect};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use tillward_protocol::FieldError;

use super::Alert;
use crate::clock::Now;

/// Time for one attempt, connecting and TLS included.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest address, bytes.
const URL_BYTES_MAX: usize = 1_000;
/// Longest description of a failure, characters.
const ERROR_CHARS_MAX: usize = 200;
/// Every webhook secret starts with this, so that scanners recognize a leaked one.
const SECRET_LEAD: &str = "twh_";

/// Where a new channel leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[schema(as = NewAlertTransport)]
pub enum NewTransport {
    /// A signed `POST` to an address.
    Webhook {
        /// `https://…`, or `http://…` within one's own network; without user name, password or fragment.
        url: String,
    },
}

/// Kinds of channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransportKind {
    /// A signed `POST` to an address.
    Webhook,
}

impl TransportKind {
    /// Name in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
        }
    }
}

/// How to reach a channel, with its secrets. Kept in the database, shown by nothing.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Transport {
    Webhook { url: String, secret: String },
}

impl Transport {
    /// Checks what was asked for and makes its secret, which is returned beside it, to be shown once.
    pub(super) fn new(new: &NewTransport) -> Result<(Self, String), FieldError> {
        match new {
            NewTransport::Webhook { url } => {
                let url = checked(url)?.to_string();
                let secret = format!("{SECRET_LEAD}{}", hex::encode(rand::random::<[u8; 32]>()));
                Ok((Self::Webhook { url, secret: secret.clone() }, secret))
            }
        }
    }

    pub(super) fn kind(&self) -> TransportKind {
        match self {
            Self::Webhook { .. } => TransportKind::Webhook,
        }
    }

    /// Scheme, host and port: enough to tell channels apart. The path may hold a secret of the receiver.
    pub(super) fn origin(&self) -> String {
        match self {
            Self::Webhook { url, .. } => {
                Url::parse(url).map(|url| url.origin().ascii_serialization()).unwrap_or_default()
            }
        }
    }
}

fn checked(text: &str) -> Result<Url, FieldError> {
    let refused = |problem: &str| FieldError::new("transport.url", problem);
    if text.len() > URL_BYTES_MAX {
        return Err(refused("is too long"));
    }
    let url = Url::parse(text.trim()).map_err(|_| refused("is not an address"))?;
    if !matches!(url.scheme(), "https" | "http") || !url.has_host() {
        return Err(refused("must start with https:// or http:// and name a host"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refused("must not hold a user name or password; the signature says who calls"));
    }
    if url.fragment().is_some() {
        return Err(refused("must not have a fragment"));
    }
    Ok(url)
}

/// What a channel is sent, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Message<'a> {
    /// Number of the alert; 0 for a test.
    id: i64,
    kind: &'a str,
    level: &'a str,
    org_path: &'a str,
    incident_id: Option<i64>,
    /// Page of the incident, if the server knows its own address.
    incident_url: Option<String>,
    title: Title<'a>,
    created_at_ms: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Title<'a> {
    key: &'a str,
    parameters: &'a std::collections::BTreeMap<String, String>,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The endpoint has it.
    Accepted(u16),
    /// The endpoint says no to this very message.
    Refused(u16),
    /// The endpoint is away or asks to wait.
    Away(Option<u16>, String),
}

impl Outcome {
    fn of_status(status: u16) -> Self {
        match status {
            200..=299 => Self::Accepted(status),
            // Timeout, too early, too many: not about the message.
            408 | 425 | 429 => Self::Away(Some(status), format!("the endpoint answered {status}")),
            300..=499 => Self::Refused(status),
            _ => Self::Away(Some(status), format!("the endpoint answered {status}")),
        }
    }

    /// Status of the answer, if there was one.
    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Accepted(status) | Self::Refused(status) => Some(*status),
            Self::Away(status, _) => *status,
        }
    }

    /// What went wrong; empty when nothing did. Never holds the address.
    pub(super) fn error(&self) -> String {
        match self {
            Self::Accepted(_) => String::new(),
            Self::Refused(status) => format!("the endpoint refused it with {status}"),
            Self::Away(_, why) => why.chars().take(ERROR_CHARS_MAX).collect(),
        }
    }
}

/// Sends messages; cheap to clone.
#[derive(Debug, Clone)]
pub struct Sender {
    /// None when this machine has no TLS roots: nothing can be sent then, and each attempt says so.
    client: Option<Client>,
    public_url: Option<String>,
}

impl Sender {
    /// Makes the client; `public_url` leads people from an alert to the console.
    pub fn new(public_url: Option<&str>) -> Self {
        let client = Client::builder()
            .timeout(TIMEOUT)
            .redirect(redirect::Policy::none())
            .user_agent(concat!("tillward/", env!("CARGO_PKG_VERSION")))
            .build();
        let client = client
            .inspect_err(|error| tracing::error!(%error, "no HTTP client could be made; alerts are kept, not sent"));
        let public_url = public_url.map(|url| url.trim_end_matches('/').to_owned());
        Self { client: client.ok(), public_url }
    }

    /// One attempt.
    pub(super) async fn send(&self, transport: &Transport, alert: &Alert, delivery: &str, now: Now) -> Outcome {
        let incident_url =
            self.public_url.as_ref().zip(alert.incident_id).map(|(base, id)| format!("{base}/incidents/{id}"));
        let message = Message {
            id: alert.id,
            kind: &alert.kind,
            level: &alert.level,
            org_path: &alert.org_path,
            incident_id: alert.incident_id,
            incident_url,
            title: Title { key: &alert.title_key, parameters: &alert.parameters },
            created_at_ms: alert.created_at_ms,
        };
        let body = serde_json::to_vec(&message).unwrap_or_default();
        match transport {
            Transport::Webhook { url, secret } => self.post(url, secret, body, delivery, now).await,
        }
    }

    async fn post(&self, url: &str, secret: &str, body: Vec<u8>, delivery: &str, now: Now) -> Outcome {
        let Some(client) = &self.client else {
            return Outcome::Away(None, "this server cannot make TLS connections; see its log".to_owned());
        };
        let timestamp = now.seconds().to_string();
        let request = client
            .post(url)
            .header(header::CONTENT_TYPE, "application/json")
            .header("tillward-timestamp", &timestamp)
            .header("tillward-signature", format!("v1={}", signature(secret, &timestamp, &body)))
            .header("tillward-delivery", delivery)
            .body(body);
        match request.send().await {
            Ok(answer) => Outcome::of_status(answer.status().as_u16()),
            Err(error) => Outcome::Away(None, described(&error.without_url())),
        }
    }
}

/// The innermost reason says most: "connection refused".
fn described(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// Hex of HMAC-SHA256 under the secret's text of `{timestamp}.{body}`.
fn signature(secret: &str, timestamp: &str, body: &[u8]) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else {
        // A key of any length is taken.
        return String::new();
    };
    mac.update(timestamp.as_bytes());
    mac.update(b".");
    mac.update(body);
    hex::encode(mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_the_one_any_other_implementation_makes() {
        // printf '1763800000.{"a":1}' | openssl dgst -sha256 -hmac twh_secret
        assert_eq!(
            signature("twh_secret", "1763800000", br#"{"a":1}"#),
            "698914dc51bc6d6be7debb0395a2d11b2a734e7ce7b75faf11e6d94353634a82"
        );
        assert_ne!(
            signature("twh_secret", "1763800001", br#"{"a":1}"#),
            signature("twh_secret", "1763800000", br#"{"a":1}"#)
        );
    }

    #[test]
    fn addresses_with_credentials_or_other_schemes_are_refused() {
        for good in ["https://hooks.example.com/a?b=c", "http://10.0.0.8:8080/x", " https://[::1]:9/ "] {
            assert!(checked(good).is_ok(), "{good}");
        }
        for bad in [
            "https://user:secret@example.com/",
            "https://user@example.com/",
            "ftp://example.com/",
            "file:///etc/passwd",
            "data:text/plain,x",
            "example.com/x",
            "https://",
            "",
            "https://example.com/#top",
            &format!("https://example.com/{}", "x".repeat(URL_BYTES_MAX)),
        ] {
            assert_eq!(checked(bad).unwrap_err().field, "transport.url", "{bad}");
        }
    }

    #[test]
    fn a_channel_shows_its_origin_and_not_its_path() {
        let new = NewTransport::Webhook { url: "https://hooks.example.com:8443/robot/TOKEN?key=K".to_owned() };
        let (transport, secret) = Transport::new(&new).unwrap();
        assert_eq!(transport.origin(), "https://hooks.example.com:8443");
        assert!(secret.starts_with(SECRET_LEAD) && secret.len() == SECRET_LEAD.len() + 64);
        assert_ne!(Transport::new(&new).unwrap().1, secret);
    }

    #[test]
    fn only_an_answer_about_the_message_counts_as_a_refusal() {
        for status in [200, 204, 299] {
            assert_eq!(Outcome::of_status(status), Outcome::Accepted(status));
        }
        for status in [301, 400, 401, 404, 410, 422] {
            assert_eq!(Outcome::of_status(status), Outcome::Refused(status));
        }
        for status in [100, 408, 425, 429, 500, 503, 599] {
            assert!(matches!(Outcome::of_status(status), Outcome::Away(Some(_), _)), "{status}");
        }
    }
}
