//! How an alert leaves the server.
//!
//! **Signed webhook.** `POST` of a JSON object ([`Message`]) with these headers:
//!
//! | header | value |
//! |---|---|
//! | `tillward-timestamp` | Unix seconds at which this attempt was made |
//! | `tillward-signature` | `v1=` and, in hex, HMAC-SHA256 under the channel's secret of `{timestamp}.{body}` |
//! | `tillward-delivery` | the same in every attempt of one delivery: a receiver that has seen it can ignore it. What a person has sent again has another one |
//!
//! A receiver computes the signature over the bytes it got, compares in constant time, and refuses timestamps that are more
//! than five minutes away. Any 2xx status is taken for received; redirects are not followed.
//!
//! The address of a webhook is chosen by an administrator, and the server calls it from inside its own network: that is
//! wanted, because receivers are usually there. So that nobody can look around with it, answers are not read, and only their
//! status is shown. Robots are on three hosts that are known, over TLS; the beginning of their answers is read.

use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use reqwest::{Client, header, redirect};
use serde::Serialize;
use sha2::Sha256;

use super::hours::Zone;
use super::letter::{Letter, tailed};
use super::mail::Mailer;
use super::outcome::Outcome;
use super::robots::{Mention, Robot};
use super::store::outbox::Waiting;
use super::transport::Transport;
use super::wording::{Say, Writer};
use super::{Alert, AlertKind};
use crate::clock::Now;
use crate::config::{Config, ConfigError};
use crate::vault::Vault;

/// Time for one attempt, connecting and TLS included.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);
/// A robot's answer is a code and a sentence.
const ANSWER_BYTES_MAX: usize = 4_096;

/// What a webhook is sent, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Message<'a> {
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
    /// Values in it; serial numbers by their tails.
    parameters: std::collections::BTreeMap<&'a str, String>,
}

/// In which words a channel is written to.
pub(super) struct Style<'a> {
    /// Tag of its language.
    pub(super) language: &'a str,
    /// Its organization's time zone, if it has its own.
    pub(super) time_zone: Option<&'a str>,
}

/// Sends messages, and keeps the key under which channels are sealed; cheap to clone.
#[derive(Clone)]
pub struct Sender {
    inner: Arc<Inner>,
}

struct Inner {
    /// None when this machine has no TLS roots: nothing can be sent then, and each attempt says so.
    client: Option<Client>,
    /// None when no mail server is set; or why it cannot be used.
    mailer: Option<Result<Mailer, String>>,
    public_url: Option<String>,
    /// In place of `https://` and the host of a robot; only tests set it.
    robots_url: Option<String>,
    time_zone: String,
    say: Say,
    vault: Vault,
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").field("public_url", &self.inner.public_url).finish_non_exhaustive()
    }
}

impl Sender {
    /// Makes the clients. `say` has the words, `vault` the key of the channels.
    ///
    /// # Errors
    /// [`ConfigError`] for the settings of the mail server.
    pub fn new(config: &Config, vault: Vault, say: Say) -> Result<Self, ConfigError> {
        let client = Client::builder()
            .timeout(TIMEOUT)
            .redirect(redirect::Policy::none())
            .user_agent(concat!("tillward/", env!("CARGO_PKG_VERSION")))
            .build();
        let client = client
            .inspect_err(|error| tracing::error!(%error, "no HTTP client could be made; alerts are kept, not sent"));
        let mailer = config.smtp()?.map(|smtp| Mailer::new(&smtp, TIMEOUT));
        if let Some(Err(error)) = &mailer {
            tracing::error!(error, "no mail can be sent; alerts are kept");
        }
        let public_url = config.public_url.as_ref().map(|url| url.trim_end_matches('/').to_owned());
        let inner = Inner {
            client: client.ok(),
            mailer,
            public_url,
            robots_url: config.robots_url.clone(),
            time_zone: config.time_zone.clone(),
            say,
            vault,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The key under which channels are sealed.
    pub(super) fn vault(&self) -> &Vault {
        &self.inner.vault
    }

    /// Whether the key is missing: then another server may be able to send, and this one must not try.
    pub fn is_locked(&self) -> bool {
        self.inner.vault.is_locked()
    }

    /// Time zone of organizations that have none of their own.
    pub(super) fn time_zone(&self) -> &str {
        &self.inner.time_zone
    }

    fn writer<'a>(&'a self, style: &Style<'a>) -> Writer<'a> {
        Writer {
            say: self.inner.say,
            language: style.language,
            public_url: self.inner.public_url.as_deref(),
            zone: Zone::of(style.time_zone, &self.inner.time_zone),
        }
    }

    /// One attempt to send what waits: one alert, or several in one message where people read it.
    pub(super) async fn send(
        &self,
        transport: &Transport,
        style: &Style<'_>,
        waiting: &[Waiting],
        delivery: &str,
        now: Now,
    ) -> Outcome {
        match (transport, waiting) {
            (Transport::Webhook { url, secret }, [one, ..]) => {
                self.post(url, secret, self.message(&one.alert), delivery, now).await
            }
            _ => self.write(transport, &self.writer(style), &self.writer(style).letter(waiting), delivery, now).await,
        }
    }

    /// One attempt to send a test message.
    pub(super) async fn test(
        &self,
        transport: &Transport,
        style: &Style<'_>,
        channel: &str,
        alert: &Alert,
        delivery: &str,
        now: Now,
    ) -> Outcome {
        match transport {
            Transport::Webhook { url, secret } => self.post(url, secret, self.message(alert), delivery, now).await,
            _ => self.write(transport, &self.writer(style), &self.writer(style).test(channel), delivery, now).await,
        }
    }

    async fn write(
        &self,
        transport: &Transport,
        writer: &Writer<'_>,
        letter: &Letter,
        delivery: &str,
        now: Now,
    ) -> Outcome {
        let quiet = Mention::default();
        let prefix = transport.prefix();
        let (robot, request) = match transport {
            Transport::Wecom { token, mention, .. } => {
                (Robot::Wecom, Robot::Wecom.request(token, None, prefix, mention, letter, now.0))
            }
            Transport::Dingtalk { token, secret, mention, .. } => {
                (Robot::Dingtalk, Robot::Dingtalk.request(token, secret.as_deref(), prefix, mention, letter, now.0))
            }
            Transport::Feishu { token, secret, .. } => {
                (Robot::Feishu, Robot::Feishu.request(token, secret.as_deref(), prefix, &quiet, letter, now.0))
            }
            Transport::Email { to, .. } => {
                return self.mail(to, &writer.subject(prefix, letter), letter, delivery).await;
            }
            // It has a form of its own.
            Transport::Webhook { .. } => return Outcome::Away(None, String::new()),
        };
        let base = self.inner.robots_url.clone().unwrap_or_else(|| format!("https://{}", robot.host()));
        let Some(client) = &self.inner.client else { return no_client() };
        let body = serde_json::to_vec(&request.body).unwrap_or_default();
        let sent = client
            .post(format!("{base}{}", request.path))
            .header(header::CONTENT_TYPE, "application/json; charset=utf-8")
            .body(body)
            .send();
        match sent.await {
            Ok(answer) => {
                let status = answer.status().as_u16();
                robot.judge(status, &beginning(answer).await)
            }
            Err(error) => Outcome::Away(None, described(&error.without_url())),
        }
    }

    async fn mail(&self, to: &[String], subject: &str, letter: &Letter, delivery: &str) -> Outcome {
        match &self.inner.mailer {
            None => Outcome::Away(None, "no mail server is set on this server".to_owned()),
            Some(Err(error)) => Outcome::Away(None, format!("the settings of the mail server cannot be used: {error}")),
            Some(Ok(mailer)) => mailer.send(to, subject, letter, delivery).await,
        }
    }

    fn message(&self, alert: &Alert) -> Vec<u8> {
        let base = self.inner.public_url.as_ref();
        // What a digest holds is cut already.
        let shown =
            |value: &str| if alert.kind == AlertKind::Digest.as_str() { value.to_owned() } else { tailed(value) };
        let parameters = alert.parameters.iter().map(|(name, value)| (name.as_str(), shown(value))).collect();
        let message = Message {
            id: alert.id,
            kind: &alert.kind,
            level: &alert.level,
            org_path: &alert.org_path,
            incident_id: alert.incident_id,
            incident_url: base.zip(alert.incident_id).map(|(base, id)| format!("{base}/incidents/{id}")),
            title: Title { key: &alert.title_key, parameters },
            created_at_ms: alert.created_at_ms,
        };
        serde_json::to_vec(&message).unwrap_or_default()
    }

    async fn post(&self, url: &str, secret: &str, body: Vec<u8>, delivery: &str, now: Now) -> Outcome {
        let Some(client) = &self.inner.client else { return no_client() };
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

fn no_client() -> Outcome {
    Outcome::Away(None, "this server cannot make TLS connections; see its log".to_owned())
}

/// The beginning of an answer; what came before it broke off.
async fn beginning(mut answer: reqwest::Response) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        bytes.extend_from_slice(&chunk);
        if bytes.len() >= ANSWER_BYTES_MAX {
            break;
        }
    }
    bytes
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
}
