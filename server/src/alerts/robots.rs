//! Group robots of 企业微信, 钉钉 and 飞书: what each is sent, how it is signed, what its answers mean. Pure.
//!
//! An address is taken apart when it is entered and put together again from the robot's own host, so nothing can be sent
//! elsewhere. A robot answers 200 to almost everything: only its own code 0 means that the message is in the group.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::Sha256;

use super::letter::{Letter, Line, cut, fitted};
use super::level::Level;
use super::outcome::Outcome;
use super::rate::Rate;

/// Largest 企业微信 texts, bytes, as its documents say.
const WECOM_TEXT_BYTES_MAX: usize = 2_048;
const WECOM_MARKDOWN_BYTES_MAX: usize = 4_096;
/// 钉钉 says nothing of a limit; far more than people read in a chat.
const DINGTALK_TEXT_BYTES_MAX: usize = 8_192;
/// 飞书 takes bodies of 20 KB; room is left for the card around the text.
const FEISHU_TEXT_BYTES_MAX: usize = 8_192;
/// Longest title, bytes.
const TITLE_BYTES_MAX: usize = 300;
/// Longest and shortest key in a robot's address, characters.
const TOKEN_CHARS: std::ops::RangeInclusive<usize> = 8..=200;
/// 钉钉 mutes a robot that was too fast for ten minutes.
const DINGTALK_MUTED_MS: i64 = 10 * 60_000;
/// The others count minutes.
const MINUTE_MS: i64 = 60_000;

/// A kind of group robot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Robot {
    /// 企业微信.
    Wecom,
    /// 钉钉.
    Dingtalk,
    /// 飞书.
    Feishu,
}

/// Who is called by name when something is urgent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = AlertMention)]
pub struct Mention {
    /// Mobile numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mobiles: Vec<String>,
    /// Everybody in the group.
    #[serde(default)]
    pub everybody: bool,
    /// The least urgent level for which they are called; `P1` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
}

impl Mention {
    fn applies(&self, letter: &Letter) -> bool {
        let is_urgent = letter.level.is_some_and(|level| level <= self.level.unwrap_or(Level::P1));
        is_urgent && (self.everybody || !self.mobiles.is_empty())
    }
}

/// What one request consists of.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Request {
    /// Path and query on the robot's host.
    pub(super) path: String,
    pub(super) body: Value,
}

impl Robot {
    /// The one host on which these robots are.
    pub(super) fn host(self) -> &'static str {
        match self {
            Self::Wecom => "qyapi.weixin.qq.com",
            Self::Dingtalk => "oapi.dingtalk.com",
            Self::Feishu => "open.feishu.cn",
        }
    }

    /// What stands before the key in an address.
    fn lead(self) -> &'static str {
        match self {
            Self::Wecom => "/cgi-bin/webhook/send?key=",
            Self::Dingtalk => "/robot/send?access_token=",
            Self::Feishu => "/open-apis/bot/v2/hook/",
        }
    }

    /// How fast it may be sent to: below its own limit of 20 or 100 a minute and 5 a second.
    pub(super) fn rate(self, per_min: Option<i64>) -> Rate {
        let (most, burst_max) = match self {
            Self::Wecom | Self::Dingtalk => (18, 6),
            Self::Feishu => (95, 3),
        };
        Rate::per_min(per_min.unwrap_or(most).min(most), burst_max)
    }

    /// The key in an address that a person copied from the robot's settings.
    ///
    /// # Errors
    /// What is wrong with the address, for people.
    pub(super) fn token(self, address: &str) -> Result<String, String> {
        let wanted = || format!("must be the robot's address: https://{}{}…", self.host(), self.lead());
        let rest = address.trim().strip_prefix("https://").ok_or_else(wanted)?;
        let rest = rest.strip_prefix(self.host()).ok_or_else(wanted)?;
        let token = rest.strip_prefix(self.lead()).ok_or_else(wanted)?;
        let is_plain = token.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        if is_plain && TOKEN_CHARS.contains(&token.len()) { Ok(token.to_owned()) } else { Err(wanted()) }
    }

    /// The request that carries a letter; `now_ms` is signed where the robot has a secret.
    pub(super) fn request(
        self,
        token: &str,
        secret: Option<&str>,
        prefix: &str,
        mention: &Mention,
        letter: &Letter,
        now_ms: i64,
    ) -> Request {
        let path = format!("{}{token}", self.lead());
        let title =
            cut(&format!("{prefix}{}{}", if prefix.is_empty() { "" } else { " " }, letter.title), TITLE_BYTES_MAX);
        match self {
            Self::Wecom if mention.applies(letter) => Request { path, body: wecom_text(&title, mention, letter) },
            Self::Wecom => Request { path, body: wecom_markdown(&title, letter) },
            Self::Dingtalk => {
                let signed = secret.map(|secret| {
                    let sign = percent(&sign_dingtalk(secret, now_ms));
                    format!("{path}&timestamp={now_ms}&sign={sign}")
                });
                Request { path: signed.unwrap_or(path), body: dingtalk(&title, mention, letter) }
            }
            Self::Feishu => Request { path, body: feishu(&title, secret, letter, now_ms) },
        }
    }

    /// What an answer means.
    pub(super) fn judge(self, status: u16, body: &[u8]) -> Outcome {
        let answer: Answer = serde_json::from_slice(body).unwrap_or_default();
        match answer.code(self) {
            Some(0) => Outcome::of_status(status),
            Some(code) => self.failed(status, code),
            None => match Outcome::of_status(status) {
                Outcome::Accepted(_) => Outcome::Away(Some(status), "the robot's answer cannot be read".to_owned()),
                // A page of something in between says nothing about the message.
                Outcome::Refused(_, why) => Outcome::Away(Some(status), why),
                other => other,
            },
        }
    }

    fn failed(self, status: u16, code: i64) -> Outcome {
        let said = |why: &str| format!("the robot answered {code}: {why}");
        let away = |why| Outcome::Away(Some(status), said(why));
        match (self, code) {
            (Self::Wecom, 45_009) => Outcome::Busy(Some(status), said("too many messages"), MINUTE_MS),
            (Self::Wecom, 93_000) => away("it does not know the key in the address"),
            (Self::Dingtalk, 310_000) => away("signature, keyword or the server's address is not what it wants"),
            (Self::Dingtalk, 130_101) => Outcome::Busy(Some(status), said("too many messages"), DINGTALK_MUTED_MS),
            (Self::Feishu, 19_021) => away("the signature or the server's clock is wrong"),
            (Self::Feishu, 19_022) => away("it does not allow the server's address"),
            (Self::Feishu, 19_024) => away("the keyword is missing"),
            (Self::Feishu, 11_232) => Outcome::Busy(Some(status), said("too many messages"), MINUTE_MS),
            // Form, kind or length of this very message.
            (Self::Wecom, 40_008 | 45_002) | (Self::Dingtalk, 400_105) | (Self::Feishu, 9_499) => {
                Outcome::Refused(status, said("it cannot read the message"))
            }
            // Of an unknown code nobody knows that it is about the message: a robot that was removed has one as well.
            _ => away("see its documentation"),
        }
    }

    /// Whether messages that can wait should not go out in this minute: 飞书 is busiest at the full and the half hour.
    pub(super) fn avoids(self, now_ms: i64) -> bool {
        match self {
            Self::Wecom | Self::Dingtalk => false,
            Self::Feishu => now_ms.div_euclid(MINUTE_MS).rem_euclid(30) == 0,
        }
    }
}

/// The fields in which robots say how it went.
#[derive(Debug, Default, Deserialize)]
struct Answer {
    #[serde(default)]
    errcode: Option<i64>,
    #[serde(default)]
    code: Option<i64>,
    /// Of older 飞书 answers.
    #[serde(default, rename = "StatusCode")]
    status_code: Option<i64>,
}

impl Answer {
    fn code(&self, robot: Robot) -> Option<i64> {
        match robot {
            Robot::Wecom | Robot::Dingtalk => self.errcode,
            Robot::Feishu => self.code.or(self.status_code),
        }
    }
}

fn wecom_text(title: &str, mention: &Mention, letter: &Letter) -> Value {
    let lines: Vec<String> = letter.lines.iter().map(|line| format!("{}\n", line.text())).collect();
    let tail = letter.link.as_ref().map(|(_, url)| url.clone()).unwrap_or_default();
    let content = fitted(&format!("{title}\n"), &lines, &tail, WECOM_TEXT_BYTES_MAX);
    let everybody: &[&str] = if mention.everybody { &["@all"] } else { &[] };
    json!({"msgtype": "text", "text": {
        "content": content, "mentioned_list": everybody, "mentioned_mobile_list": mention.mobiles,
    }})
}

fn wecom_markdown(title: &str, letter: &Letter) -> Value {
    let colour = match letter.level {
        Some(Level::P1 | Level::P2) => "warning",
        Some(Level::P3) | None => "info",
    };
    let head = format!("## <font color=\"{colour}\">{title}</font>\n");
    let content = fitted(&head, &markdown(letter, "\n"), &markdown_link(letter), WECOM_MARKDOWN_BYTES_MAX);
    json!({"msgtype": "markdown", "markdown": {"content": content}})
}

fn dingtalk(title: &str, mention: &Mention, letter: &Letter) -> Value {
    let is_called = mention.applies(letter);
    let mobiles: &[String] = if is_called { &mention.mobiles } else { &[] };
    // A number is only shown as a mention where the text has it as well.
    let called: String = mobiles.iter().map(|mobile| format!(" @{mobile}")).collect();
    let tail = format!("{}{called}", markdown_link(letter));
    let text = fitted(&format!("#### {title}\n\n"), &markdown(letter, "\n\n"), &tail, DINGTALK_TEXT_BYTES_MAX);
    json!({"msgtype": "markdown", "markdown": {"title": title, "text": text},
        "at": {"atMobiles": mobiles, "isAtAll": is_called && mention.everybody}})
}

/// The lines in the Markdown that 企业微信 and 钉钉 share.
fn markdown(letter: &Letter, end: &str) -> Vec<String> {
    let line = |line: &Line| match line {
        Line::Fact(text) => format!("> {text}{end}"),
        Line::Heading(text) => format!("**{text}**{end}"),
        Line::Item(text) => format!("> · {text}{end}"),
    };
    letter.lines.iter().map(line).collect()
}

fn markdown_link(letter: &Letter) -> String {
    letter.link.as_ref().map(|(word, url)| format!("[{word}]({url})")).unwrap_or_default()
}

fn feishu(title: &str, secret: Option<&str>, letter: &Letter, now_ms: i64) -> Value {
    let colour = match letter.level {
        Some(Level::P1) => "red",
        Some(Level::P2) => "orange",
        Some(Level::P3) | None => "blue",
    };
    let line = |line: &Line| match line {
        Line::Fact(text) => format!("{text}\n"),
        Line::Heading(text) => format!("**{text}**\n"),
        Line::Item(text) => format!("· {text}\n"),
    };
    let lines: Vec<String> = letter.lines.iter().map(line).collect();
    let text = fitted("", &lines, "", FEISHU_TEXT_BYTES_MAX);
    let mut elements = vec![json!({"tag": "div", "text": {"tag": "lark_md", "content": text.trim_end()}})];
    if let Some((word, url)) = &letter.link {
        let button =
            json!({"tag": "button", "text": {"tag": "plain_text", "content": word}, "url": url, "type": "primary"});
        elements.push(json!({"tag": "action", "actions": [button]}));
    }
    let header = json!({"template": colour, "title": {"tag": "plain_text", "content": title}});
    let mut body = json!({"msg_type": "interactive", "card": {"header": header, "elements": elements}});
    if let (Some(secret), Value::Object(fields)) = (secret, &mut body) {
        let seconds = now_ms.div_euclid(1_000);
        // Seconds, as a text.
        fields.insert("timestamp".to_owned(), seconds.to_string().into());
        fields.insert("sign".to_owned(), sign_feishu(secret, seconds).into());
    }
    body
}

/// Base64 of HMAC-SHA256 under the secret of `{ms}\n{secret}`.
fn sign_dingtalk(secret: &str, now_ms: i64) -> String {
    hmac_base64(secret.as_bytes(), format!("{now_ms}\n{secret}").as_bytes())
}

/// Base64 of HMAC-SHA256 under `{s}\n{secret}` of nothing.
fn sign_feishu(secret: &str, seconds: i64) -> String {
    hmac_base64(format!("{seconds}\n{secret}").as_bytes(), b"")
}

fn hmac_base64(key: &[u8], message: &[u8]) -> String {
    // A key of any length is taken.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return String::new() };
    mac.update(message);
    STANDARD.encode(mac.finalize().into_bytes())
}

/// Base64 as it stands in a query.
fn percent(base64: &str) -> String {
    base64.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D")
}

#[cfg(test)]
#[path = "robots_tests.rs"]
mod tests;
