//! Where channels lead, with their secrets: what a person may enter, and what of it is shown again.
//!
//! The address of a webhook or a robot is itself a secret: who knows it can write to the group. It is sealed in the
//! database, shown only by its host and its last characters, and never logged.

use std::fmt::Write as _;

use reqwest::Url;
use serde::{Deserialize, Serialize};
use tillward_protocol::FieldError;

use super::mail;
use super::rate::Rate;
use super::robots::{Mention, Robot};
use crate::text;

/// Longest address, bytes.
const URL_BYTES_MAX: usize = 1_000;
/// Longest secret of a robot, bytes.
const SECRET_BYTES_MAX: usize = 200;
/// Every webhook secret starts with this, so that scanners recognize a leaked one.
const SECRET_LEAD: &str = "twh_";
/// Recipients of one mail channel, and people that one robot calls: more are a mailing list or a group.
const PEOPLE_MAX: usize = 20;
/// Longest keyword before messages, characters.
const PREFIX_CHARS_MAX: usize = 40;
/// Characters of a robot's key that are shown.
const TAIL_CHARS: usize = 4;

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
    /// A group robot of 企业微信.
    Wecom {
        /// The robot's address, as its settings show it.
        url: String,
        /// Keyword before each message.
        #[serde(default)]
        prefix: String,
        /// Who is called.
        #[serde(default)]
        mention: Mention,
    },
    /// A group robot of 钉钉.
    Dingtalk {
        /// The robot's address, as its settings show it.
        url: String,
        /// The robot's signing secret, `SEC…`; empty when it does not check signatures.
        #[serde(default)]
        secret: String,
        /// Keyword before each message.
        #[serde(default)]
        prefix: String,
        /// Who is called.
        #[serde(default)]
        mention: Mention,
    },
    /// A group robot of 飞书.
    Feishu {
        /// The robot's address, as its settings show it.
        url: String,
        /// The robot's signing secret; empty when it does not check signatures.
        #[serde(default)]
        secret: String,
        /// Keyword before each message.
        #[serde(default)]
        prefix: String,
    },
    /// Mail.
    Email {
        /// Addresses.
        to: Vec<String>,
        /// Keyword before each subject.
        #[serde(default)]
        prefix: String,
    },
}

/// Kinds of channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransportKind {
    /// A signed `POST` to an address.
    Webhook,
    /// A group robot of 企业微信.
    Wecom,
    /// A group robot of 钉钉.
    Dingtalk,
    /// A group robot of 飞书.
    Feishu,
    /// Mail.
    Email,
}

impl TransportKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Wecom, Self::Dingtalk, Self::Feishu, Self::Email, Self::Webhook];

    /// Name in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Wecom => "wecom",
            Self::Dingtalk => "dingtalk",
            Self::Feishu => "feishu",
            Self::Email => "email",
        }
    }

    /// The kind of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Whether it is addressed by a URL.
    pub fn has_url(self) -> bool {
        !matches!(self, Self::Email)
    }

    /// Whether its owner may enter a signing secret.
    pub fn has_secret(self) -> bool {
        matches!(self, Self::Dingtalk | Self::Feishu)
    }

    /// Whether it can call people by name.
    pub fn has_mention(self) -> bool {
        matches!(self, Self::Wecom | Self::Dingtalk)
    }

    /// Whether people read what it is sent: then several alerts become one message.
    pub fn is_read_by_people(self) -> bool {
        !matches!(self, Self::Webhook)
    }
}

/// A change of where a channel leads; what is absent stays. A field that its kind does not have is refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TransportChange {
    pub(super) url: Option<String>,
    pub(super) secret: Option<String>,
    pub(super) prefix: Option<String>,
    pub(super) mention: Option<Mention>,
    pub(super) to: Option<Vec<String>>,
}

/// How to reach a channel, with its secrets. Kept sealed in the database, shown by nothing; it has no `Debug` so that no log
/// shows it either.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Transport {
    Webhook { url: String, secret: String },
    Wecom { token: String, prefix: String, mention: Mention },
    Dingtalk { token: String, secret: Option<String>, prefix: String, mention: Mention },
    Feishu { token: String, secret: Option<String>, prefix: String },
    Email { to: Vec<String>, prefix: String },
}

impl Transport {
    /// Checks what was asked for and makes a webhook's secret, which is returned beside it, to be shown once.
    pub(super) fn new(new: &NewTransport) -> Result<(Self, String), FieldError> {
        let made = match new {
            NewTransport::Webhook { url } => {
                let url = checked_url(url)?.to_string();
                let secret = format!("{SECRET_LEAD}{}", hex::encode(rand::random::<[u8; 32]>()));
                return Ok((Self::Webhook { url, secret: secret.clone() }, secret));
            }
            NewTransport::Wecom { url, prefix, mention } => Self::Wecom {
                token: checked_token(Robot::Wecom, url)?,
                prefix: checked_prefix(prefix)?,
                mention: checked_mention(mention)?,
            },
            NewTransport::Dingtalk { url, secret, prefix, mention } => Self::Dingtalk {
                token: checked_token(Robot::Dingtalk, url)?,
                secret: checked_secret(secret)?,
                prefix: checked_prefix(prefix)?,
                mention: checked_mention(mention)?,
            },
            NewTransport::Feishu { url, secret, prefix } => Self::Feishu {
                token: checked_token(Robot::Feishu, url)?,
                secret: checked_secret(secret)?,
                prefix: checked_prefix(prefix)?,
            },
            NewTransport::Email { to, prefix } => {
                Self::Email { to: checked_recipients(to)?, prefix: checked_prefix(prefix)? }
            }
        };
        Ok((made, String::new()))
    }

    /// This with a change applied.
    pub(super) fn changed(&self, change: &TransportChange) -> Result<Self, FieldError> {
        let kind = self.kind();
        let refused = |field: &str| Err(FieldError::new(field, "is not a field of this kind of channel"));
        match change {
            TransportChange { url: Some(_), .. } if !kind.has_url() => return refused("url"),
            TransportChange { secret: Some(_), .. } if !kind.has_secret() => return refused("secret"),
            TransportChange { mention: Some(_), .. } if !kind.has_mention() => return refused("mention"),
            TransportChange { prefix: Some(_), .. } if !kind.is_read_by_people() => return refused("prefix"),
            TransportChange { to: Some(_), .. } if kind != TransportKind::Email => return refused("to"),
            _ => {}
        }
        let mut after = self.clone();
        if let Some(address) = &change.url {
            match &mut after {
                Self::Webhook { url, .. } => *url = checked_url(address)?.to_string(),
                Self::Wecom { token, .. } => *token = checked_token(Robot::Wecom, address)?,
                Self::Dingtalk { token, .. } => *token = checked_token(Robot::Dingtalk, address)?,
                Self::Feishu { token, .. } => *token = checked_token(Robot::Feishu, address)?,
                Self::Email { .. } => {}
            }
        }
        if let (Some(new), Self::Dingtalk { secret, .. } | Self::Feishu { secret, .. }) = (&change.secret, &mut after) {
            *secret = checked_secret(new)?;
        }
        if let (Some(new), Some(prefix)) = (&change.prefix, after.prefix_mut()) {
            *prefix = checked_prefix(new)?;
        }
        if let (Some(new), Self::Wecom { mention, .. } | Self::Dingtalk { mention, .. }) = (&change.mention, &mut after)
        {
            let mobiles = unmasked(&new.mobiles, &mention.mobiles, masked_mobile);
            *mention = checked_mention(&Mention { mobiles, ..new.clone() })?;
        }
        if let (Some(new), Self::Email { to, .. }) = (&change.to, &mut after) {
            *to = checked_recipients(&unmasked(new, to, masked_address))?;
        }
        Ok(after)
    }

    pub(super) fn kind(&self) -> TransportKind {
        match self {
            Self::Webhook { .. } => TransportKind::Webhook,
            Self::Wecom { .. } => TransportKind::Wecom,
            Self::Dingtalk { .. } => TransportKind::Dingtalk,
            Self::Feishu { .. } => TransportKind::Feishu,
            Self::Email { .. } => TransportKind::Email,
        }
    }

    pub(super) fn robot(&self) -> Option<Robot> {
        match self {
            Self::Wecom { .. } => Some(Robot::Wecom),
            Self::Dingtalk { .. } => Some(Robot::Dingtalk),
            Self::Feishu { .. } => Some(Robot::Feishu),
            Self::Webhook { .. } | Self::Email { .. } => None,
        }
    }

    /// How fast it may be sent to; a webhook as fast as it takes it, unless its owner set a limit.
    pub(super) fn rate(&self, per_min: Option<i64>) -> Option<Rate> {
        match self {
            Self::Webhook { .. } => per_min.map(|per_min| Rate::per_min(per_min, per_min)),
            Self::Email { .. } => Some(mail::rate(per_min)),
            Self::Wecom { .. } | Self::Dingtalk { .. } | Self::Feishu { .. } => {
                self.robot().map(|robot| robot.rate(per_min))
            }
        }
    }

    /// Scheme, host and port; empty for mail. The rest of the address is secret.
    pub(super) fn origin(&self) -> String {
        match (self, self.robot()) {
            (Self::Webhook { url, .. }, _) => {
                Url::parse(url).map(|url| url.origin().ascii_serialization()).unwrap_or_default()
            }
            (_, Some(robot)) => format!("https://{}", robot.host()),
            (_, None) => String::new(),
        }
    }

    /// Where it leads, so that people can tell channels apart and nobody can use it: `…a1b2`, `z***@example.com`.
    pub(super) fn masked(&self) -> String {
        match self {
            Self::Webhook { .. } => self.origin(),
            Self::Wecom { token, .. } | Self::Dingtalk { token, .. } | Self::Feishu { token, .. } => {
                format!("…{}", token.get(token.len().saturating_sub(TAIL_CHARS)..).unwrap_or_default())
            }
            Self::Email { to, .. } => to.iter().map(|address| masked_address(address)).collect::<Vec<_>>().join(", "),
        }
    }

    pub(super) fn has_secret(&self) -> bool {
        match self {
            Self::Webhook { .. } => true,
            Self::Dingtalk { secret, .. } | Self::Feishu { secret, .. } => secret.is_some(),
            Self::Wecom { .. } | Self::Email { .. } => false,
        }
    }

    pub(super) fn prefix(&self) -> &str {
        match self {
            Self::Webhook { .. } => "",
            Self::Wecom { prefix, .. }
            | Self::Dingtalk { prefix, .. }
            | Self::Feishu { prefix, .. }
            | Self::Email { prefix, .. } => prefix,
        }
    }

    fn prefix_mut(&mut self) -> Option<&mut String> {
        match self {
            Self::Webhook { .. } => None,
            Self::Wecom { prefix, .. }
            | Self::Dingtalk { prefix, .. }
            | Self::Feishu { prefix, .. }
            | Self::Email { prefix, .. } => Some(prefix),
        }
    }

    /// Who is called, their numbers masked.
    pub(super) fn mention(&self) -> Option<Mention> {
        match self {
            Self::Wecom { mention, .. } | Self::Dingtalk { mention, .. } => {
                let mobiles = mention.mobiles.iter().map(|mobile| masked_mobile(mobile)).collect();
                Some(Mention { mobiles, ..mention.clone() })
            }
            Self::Webhook { .. } | Self::Feishu { .. } | Self::Email { .. } => None,
        }
    }
}

/// `given` with masks replaced by what they were shown for: who sends back what was shown keeps it.
fn unmasked(given: &[String], known: &[String], mask: fn(&str) -> String) -> Vec<String> {
    let meant = |one: &String| {
        let shown: Vec<String> = known.iter().filter(|known| mask(known) == one.trim()).cloned().collect();
        if shown.is_empty() { vec![one.clone()] } else { shown }
    };
    given.iter().flat_map(meant).collect()
}

/// `138****1111`.
fn masked_mobile(mobile: &str) -> String {
    match (mobile.get(..3), mobile.get(mobile.len().saturating_sub(TAIL_CHARS)..)) {
        (Some(head), Some(tail)) => format!("{head}****{tail}"),
        _ => "****".to_owned(),
    }
}

pub(super) fn masked_address(address: &str) -> String {
    let (name, domain) = address.rsplit_once('@').unwrap_or((address, ""));
    let mut masked: String = name.chars().take(1).collect();
    // Writing to a text does not fail.
    let _ = write!(masked, "***@{domain}");
    masked
}

fn checked_url(address: &str) -> Result<Url, FieldError> {
    let refused = |problem: &str| FieldError::new("transport.url", problem);
    if address.len() > URL_BYTES_MAX {
        return Err(refused("is too long"));
    }
    let url = Url::parse(address.trim()).map_err(|_| refused("is not an address"))?;
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

fn checked_token(robot: Robot, address: &str) -> Result<String, FieldError> {
    robot.token(address).map_err(|problem| FieldError::new("transport.url", problem))
}

fn checked_secret(secret: &str) -> Result<Option<String>, FieldError> {
    let secret = secret.trim();
    if secret.is_empty() {
        return Ok(None);
    }
    if secret.len() > SECRET_BYTES_MAX || secret.chars().any(|c| !c.is_ascii_graphic()) {
        return Err(FieldError::new("transport.secret", "is not a robot's signing secret"));
    }
    Ok(Some(secret.to_owned()))
}

fn checked_prefix(prefix: &str) -> Result<String, FieldError> {
    if prefix.trim().is_empty() {
        return Ok(String::new());
    }
    let prefix = text::name("transport.prefix", prefix)?;
    if prefix.chars().count() > PREFIX_CHARS_MAX {
        return Err(FieldError::new("transport.prefix", format!("must be at most {PREFIX_CHARS_MAX} characters")));
    }
    Ok(prefix)
}

fn checked_mention(mention: &Mention) -> Result<Mention, FieldError> {
    let refused = |problem: String| FieldError::new("transport.mention", problem);
    if mention.mobiles.len() > PEOPLE_MAX {
        return Err(refused(format!("must name at most {PEOPLE_MAX} people")));
    }
    let mut mobiles = Vec::new();
    for mobile in &mention.mobiles {
        let mobile = mobile.trim();
        let is_mobile = mobile.len() == 11 && mobile.starts_with('1') && mobile.chars().all(|c| c.is_ascii_digit());
        if !is_mobile {
            return Err(refused("must be mobile numbers of 11 digits".to_owned()));
        }
        if !mobiles.iter().any(|known| known == mobile) {
            mobiles.push(mobile.to_owned());
        }
    }
    Ok(Mention { mobiles, ..mention.clone() })
}

fn checked_recipients(to: &[String]) -> Result<Vec<String>, FieldError> {
    let refused = |problem: String| FieldError::new("transport.to", problem);
    let mut recipients: Vec<String> = Vec::new();
    for address in to.iter().map(|address| address.trim()).filter(|address| !address.is_empty()) {
        if !mail::is_address(address) {
            return Err(refused("must be mail addresses, one a line".to_owned()));
        }
        if !recipients.iter().any(|known| known == address) {
            recipients.push(address.to_owned());
        }
    }
    if recipients.is_empty() || recipients.len() > PEOPLE_MAX {
        return Err(refused(format!("must name 1 to {PEOPLE_MAX} recipients")));
    }
    Ok(recipients)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DINGTALK: &str = "https://oapi.dingtalk.com/robot/send?access_token=0123456789abcdef";

    fn dingtalk() -> Transport {
        let mention = Mention { mobiles: vec!["13800001111".to_owned()], everybody: false, level: None };
        let new = NewTransport::Dingtalk {
            url: DINGTALK.to_owned(),
            secret: "SEC1".to_owned(),
            prefix: String::new(),
            mention,
        };
        Transport::new(&new).unwrap().0
    }

    #[test]
    fn addresses_with_credentials_or_other_schemes_are_refused() {
        for good in ["https://hooks.example.com/a?b=c", "http://10.0.0.8:8080/x", " https://[::1]:9/ "] {
            assert!(checked_url(good).is_ok(), "{good}");
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
            assert_eq!(checked_url(bad).unwrap_err().field, "transport.url", "{bad}");
        }
    }

    #[test]
    fn a_channel_shows_its_origin_and_not_its_secrets() {
        let new = NewTransport::Webhook { url: "https://hooks.example.com:8443/robot/TOKEN?key=K".to_owned() };
        let (transport, secret) = Transport::new(&new).unwrap();
        assert_eq!(transport.origin(), "https://hooks.example.com:8443");
        assert_eq!(transport.masked(), "https://hooks.example.com:8443");
        assert!(secret.starts_with(SECRET_LEAD) && secret.len() == SECRET_LEAD.len() + 64);
        assert_ne!(Transport::new(&new).unwrap().1, secret);
        let robot = dingtalk();
        assert_eq!((robot.origin(), robot.masked()), ("https://oapi.dingtalk.com".to_owned(), "…cdef".to_owned()));
        assert_eq!(robot.mention().unwrap().mobiles, ["138****1111"]);
        let new = NewTransport::Email { to: vec![" zhang.san@example.com ".to_owned()], prefix: String::new() };
        let mail = Transport::new(&new).unwrap().0;
        assert_eq!((mail.origin(), mail.masked()), (String::new(), "z***@example.com".to_owned()));
    }

    #[test]
    fn a_change_keeps_what_it_does_not_name() {
        let change = TransportChange { prefix: Some("拉卡拉".to_owned()), ..TransportChange::default() };
        let after = dingtalk().changed(&change).unwrap();
        assert!(matches!(&after, Transport::Dingtalk { token, secret: Some(secret), prefix, mention }
            if token == "0123456789abcdef" && secret == "SEC1" && prefix == "拉卡拉" && mention.mobiles.len() == 1));
        let change = TransportChange { secret: Some(String::new()), ..TransportChange::default() };
        assert!(!dingtalk().changed(&change).unwrap().has_secret(), "an empty secret removes it");
        let mobiles = vec!["138****1111".to_owned(), "13900002222".to_owned()];
        let mention = Mention { mobiles, everybody: true, level: None };
        let after =
            dingtalk().changed(&TransportChange { mention: Some(mention), ..TransportChange::default() }).unwrap();
        assert!(
            matches!(&after, Transport::Dingtalk { mention, .. }
            if mention.mobiles == ["13800001111", "13900002222"] && mention.everybody),
            "what was shown masked is kept"
        );
        let foreign = TransportChange { to: Some(vec![]), ..TransportChange::default() };
        assert_eq!(dingtalk().changed(&foreign).err().unwrap().field, "to");
        let elsewhere = TransportChange { url: Some("https://evil.example/".to_owned()), ..TransportChange::default() };
        assert_eq!(dingtalk().changed(&elsewhere).err().unwrap().field, "transport.url");
    }

    #[test]
    fn people_are_named_as_they_can_be_reached() {
        let mobiles = |list: &[&str]| {
            checked_mention(&Mention { mobiles: list.iter().map(|m| (*m).to_owned()).collect(), ..Mention::default() })
        };
        assert_eq!(mobiles(&[" 13800001111", "13800001111"]).unwrap().mobiles, ["13800001111"]);
        for bad in [&["1380000111"][..], &["23800001111"], &["@all"], &["1380000111x"], &["13800001111"; 21]] {
            assert_eq!(mobiles(bad).unwrap_err().field, "transport.mention", "{bad:?}");
        }
        let to = |list: &[&str]| checked_recipients(&list.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>());
        assert_eq!(to(&["a@example.com", "", "a@example.com"]).unwrap(), ["a@example.com"]);
        for bad in [&[][..], &["nobody"], &["a@b.c\r\nBcc: x@y.z"], &["Name <a@example.com>"]] {
            assert_eq!(to(bad).unwrap_err().field, "transport.to", "{bad:?}");
        }
    }
}
