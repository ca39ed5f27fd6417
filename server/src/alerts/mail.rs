//! Mail over SMTP, with the server's own settings. One connection a message: alerts are few.
//!
//! A message goes to all recipients together. When the server does not take it so, each gets it by himself: one mailbox
//! that is gone must not keep an alert from the others.

use std::time::Duration;

use lettre::address::Envelope;
use lettre::message::header::ContentType;
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Tokio1Executor};

use super::letter::{Letter, Line};
use super::outcome::Outcome;
use super::rate::Rate;
use super::transport::masked_address;
use crate::config::{Smtp, SmtpTls};

/// Mails a minute at most: what a mailbox provider takes from one sender without a second look.
pub(super) const PER_MIN: i64 = 20;
/// Of these at once.
pub(super) const BURST_MAX: i64 = 6;

/// How fast a mail channel may be sent to.
pub(super) fn rate(per_min: Option<i64>) -> Rate {
    Rate::per_min(per_min.unwrap_or(PER_MIN).min(PER_MIN), BURST_MAX)
}

/// Sends mail; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    /// For one attempt, all recipients together.
    timeout: Duration,
}

/// How far an attempt has come.
#[derive(Debug, Default)]
struct Handed {
    /// Code with which the server took the message for somebody.
    code: Option<u16>,
    /// Recipients who do not have it.
    missed: Vec<String>,
    /// How the attempt for all of them together ended.
    failure: Option<Outcome>,
}

impl Handed {
    fn outcome(self) -> Outcome {
        let missed: Vec<String> = self.missed.iter().map(|address| masked_address(address)).collect();
        match self.code {
            Some(code) if missed.is_empty() => Outcome::Accepted(code),
            Some(code) => {
                let why = format!("the others have it; the mail server did not take it for {}", missed.join(", "));
                Outcome::Partly(code, why)
            }
            None => {
                self.failure.unwrap_or_else(|| Outcome::Away(None, "the mail server did not answer in time".to_owned()))
            }
        }
    }
}

impl Mailer {
    /// A mailer for these settings, with `timeout` for one attempt; nothing is connected yet.
    ///
    /// # Errors
    /// What is wrong with the settings, or that this machine has no TLS roots.
    pub(super) fn new(settings: &Smtp, timeout: Duration) -> Result<Self, String> {
        let parameters = || TlsParameters::new(settings.host.clone()).map_err(|error| error.to_string());
        let tls = match settings.tls {
            SmtpTls::Tls => Tls::Wrapper(parameters()?),
            SmtpTls::Starttls => Tls::Required(parameters()?),
            SmtpTls::None => Tls::None,
        };
        let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(settings.host.clone())
            .port(settings.port)
            .timeout(Some(timeout))
            .tls(tls);
        if let Some((user, password)) = &settings.credentials {
            transport = transport.credentials(Credentials::new(user.clone(), password.to_string()));
        }
        let from = settings.from.parse().map_err(|_| "smtp_from is not an address".to_owned())?;
        Ok(Self { transport: transport.build(), from, timeout })
    }

    /// One attempt. `id` is the same in every attempt of one delivery, so that mail programs show it once.
    pub(super) async fn send(&self, to: &[String], subject: &str, letter: &Letter, id: &str) -> Outcome {
        let Some(message) = self.message(to, subject, letter, id) else {
            return Outcome::Away(None, "the mail could not be written; check the recipients".to_owned());
        };
        let (envelope, mail) = (message.envelope().clone(), message.formatted());
        let mut handed = Handed::default();
        // What was handed in until then stays handed in.
        let _ = tokio::time::timeout(self.timeout, self.hand_in(&envelope, &mail, &mut handed)).await;
        handed.outcome()
    }

    /// To all together, or, when that may be about one of them, to each.
    async fn hand_in(&self, envelope: &Envelope, mail: &[u8], handed: &mut Handed) {
        match self.transport.send_raw(envelope, mail).await {
            Ok(answer) => {
                handed.code = Some(answer.code().into());
                return;
            }
            Err(error) => handed.failure = Some(failed(&error)),
        }
        // Mailboxes that are full, gone, or not to be written to.
        let is_about_people = matches!(handed.failure, Some(Outcome::Away(Some(450..=452 | 550..=554), _)));
        if envelope.to().len() < 2 || !is_about_people {
            return;
        }
        handed.missed = envelope.to().iter().map(ToString::to_string).collect();
        for address in envelope.to() {
            let Ok(one) = Envelope::new(envelope.from().cloned(), vec![address.clone()]) else { continue };
            if let Ok(answer) = self.transport.send_raw(&one, mail).await {
                handed.code = Some(answer.code().into());
                let address = address.to_string();
                handed.missed.retain(|missed| *missed != address);
            }
        }
    }

    fn message(&self, to: &[String], subject: &str, letter: &Letter, id: &str) -> Option<Message> {
        let domain = self.from.email.domain();
        let mut message = Message::builder()
            .from(self.from.clone())
            .subject(subject)
            .message_id(Some(format!("<tillward-{id}@{domain}>")))
            .header(ContentType::TEXT_PLAIN);
        for address in to {
            message = message.to(Mailbox::new(None, address.parse().ok()?));
        }
        message.body(body(letter)).ok()
    }
}

/// Whether mail can be sent to this text.
pub(super) fn is_address(text: &str) -> bool {
    text.parse::<Address>().is_ok()
}

fn body(letter: &Letter) -> String {
    let mut body = format!("{}\n\n", letter.title);
    for line in &letter.lines {
        body.push_str(&match line {
            Line::Fact(text) => format!("{text}\n"),
            Line::Heading(text) => format!("\n{text}\n"),
            Line::Item(text) => format!("  - {text}\n"),
        });
    }
    if let Some((word, url)) = &letter.link {
        body.push_str(&format!("\n{word}: {url}\n"));
    }
    body
}

/// What a failure means: never that the message is wrong. It is about recipients, the sender or the server, which people
/// mend. The text of the server's answer may name a recipient, so only its code is kept.
fn failed(error: &lettre::transport::smtp::Error) -> Outcome {
    match error.status().map(u16::from) {
        // These mailboxes do not exist or do not take it.
        Some(code @ 550..=553) => Outcome::Away(Some(code), format!("the mail server refused it with {code}")),
        Some(code) => Outcome::Away(Some(code), format!("the mail server answered {code}")),
        None if error.is_timeout() => Outcome::Away(None, "the mail server did not answer in time".to_owned()),
        None => Outcome::Away(None, "the mail server cannot be reached".to_owned()),
    }
}
