//! Mail over SMTP, with the server's own settings. One connection a message: alerts are few.

use std::time::Duration;

use lettre::message::header::ContentType;
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Tokio1Executor};

use super::letter::{Letter, Line};
use super::outcome::Outcome;
use super::rate::Rate;
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
}

impl Mailer {
    /// A mailer for these settings; nothing is connected yet.
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
        Ok(Self { transport: transport.build(), from })
    }

    /// One attempt. `id` is the same in every attempt of one delivery, so that mail programs show it once.
    pub(super) async fn send(&self, to: &[String], subject: &str, letter: &Letter, id: &str) -> Outcome {
        let Some(message) = self.message(to, subject, letter, id) else {
            return Outcome::Refused(0, "the mail could not be written; check the recipients".to_owned());
        };
        match self.transport.send(message).await {
            Ok(answer) => Outcome::Accepted(answer.code().into()),
            Err(error) => failed(&error),
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

/// What a failure means. The text of the server's answer may name a recipient, so only its code is kept.
fn failed(error: &lettre::transport::smtp::Error) -> Outcome {
    match error.status().map(u16::from) {
        // These mailboxes do not exist or do not take it; other refusals are about the sender.
        Some(code @ 550..=553) => Outcome::Refused(code, format!("the mail server refused it with {code}")),
        Some(code) => Outcome::Away(Some(code), format!("the mail server answered {code}")),
        None if error.is_timeout() => Outcome::Away(None, "the mail server did not answer in time".to_owned()),
        None => Outcome::Away(None, "the mail server cannot be reached".to_owned()),
    }
}
