//! The form of a channel: what a person typed, and the channel or the change that it means.

use super::filled::Filled;
use super::shell::Shell;
use crate::alerts::{Change, Channel, Error, Level, Mention, NewChannel, NewTransport, TransportKind};
use crate::http::problem::Problem;

/// The fields.
pub(super) const FIELDS: [&str; 17] = [
    "kind",
    "version",
    "name",
    "organization_id",
    "level",
    "language",
    "url",
    "secret",
    "no_secret",
    "prefix",
    "mobiles",
    "everybody",
    "mention_level",
    "to",
    "batch_s",
    "rate_per_min",
    "digest",
];

/// Most seconds that the form offers to collect alerts are the domain's business; this is what it starts with for chats, s.
const BATCH_S: i64 = 30;

/// What the form of a new channel starts with.
pub(super) fn blank(shell: &Shell, kind: TransportKind, organization_id: i64) -> Filled {
    let mut form = Filled::default();
    form.fill("organization_id", organization_id.to_string());
    form.fill("level", Level::P3.as_str());
    form.fill("language", shell.language.tag());
    form.fill("mention_level", Level::P1.as_str());
    if kind.is_read_by_people() {
        form.fill("batch_s", BATCH_S.to_string());
        form.fill("digest", "on");
    }
    form
}

/// What the form of a known channel starts with; secrets are not in it.
pub(super) fn of_channel(channel: &Channel) -> Filled {
    let mut form = Filled::default();
    form.fill("version", channel.version.to_string());
    form.fill("name", channel.name.clone());
    form.fill("organization_id", channel.organization_id.to_string());
    form.fill("level", channel.level.as_str());
    form.fill("language", channel.language.clone());
    form.fill("prefix", channel.prefix.clone());
    form.fill("batch_s", channel.batch_s.to_string());
    form.fill("rate_per_min", channel.rate_per_min.map(|per_min| per_min.to_string()).unwrap_or_default());
    form.fill("digest", if channel.digest { "on" } else { "" });
    if channel.kind == TransportKind::Email.as_str() {
        form.fill("to", channel.target.replace(", ", "\n"));
    }
    let mention = channel.mention.clone().unwrap_or_default();
    form.fill("mobiles", mention.mobiles.join("\n"));
    form.fill("everybody", if mention.everybody { "on" } else { "" });
    form.fill("mention_level", mention.level.unwrap_or(Level::P1).as_str());
    form
}

fn mention(form: &Filled) -> Mention {
    Mention {
        mobiles: form.list("mobiles"),
        everybody: form.is_ticked("everybody"),
        level: Level::parse(form.value("mention_level")),
    }
}

/// The channel that the form means.
pub(super) fn new_channel(shell: &Shell, form: &mut Filled, kind: TransportKind) -> NewChannel {
    let batch_s = form.number(shell, "batch_s");
    let rate_per_min = form.number(shell, "rate_per_min");
    let text = |name: &str| form.value(name).to_owned();
    let (url, secret, prefix) = (text("url"), text("secret"), text("prefix"));
    let transport = match kind {
        TransportKind::Webhook => NewTransport::Webhook { url },
        TransportKind::Wecom => NewTransport::Wecom { url, prefix, mention: mention(form) },
        TransportKind::Dingtalk => NewTransport::Dingtalk { url, secret, prefix, mention: mention(form) },
        TransportKind::Feishu => NewTransport::Feishu { url, secret, prefix },
        TransportKind::Email => NewTransport::Email { to: form.list("to"), prefix },
    };
    NewChannel {
        name: text("name"),
        organization_id: form.value("organization_id").parse().ok(),
        level: Level::parse(form.value("level")),
        language: Some(text("language")).filter(|tag| !tag.is_empty()),
        batch_s,
        rate_per_min,
        digest: form.is_ticked("digest"),
        transport,
    }
}

/// The change that the form means. An address or a secret that was left empty stays as it is.
pub(super) fn change(shell: &Shell, form: &mut Filled, kind: TransportKind) -> Change {
    let version = form.number(shell, "version").unwrap_or(0);
    let batch_s = form.number(shell, "batch_s");
    let rate_per_min = form.number(shell, "rate_per_min").unwrap_or(0);
    let given = |name: &str| Some(form.value(name).to_owned()).filter(|text| !text.is_empty());
    let secret = if form.is_ticked("no_secret") { Some(String::new()) } else { given("secret") };
    Change {
        version,
        name: Some(form.value("name").to_owned()),
        level: Level::parse(form.value("level")),
        language: given("language"),
        batch_s: Some(batch_s.unwrap_or(0)),
        rate_per_min: Some(rate_per_min),
        digest: Some(form.is_ticked("digest")),
        paused: None,
        url: given("url").filter(|_| kind.has_url()),
        secret: secret.filter(|_| kind.has_secret()),
        prefix: Some(form.value("prefix").to_owned()).filter(|_| kind.is_read_by_people()),
        mention: Some(mention(form)).filter(|_| kind.has_mention()),
        to: Some(form.list("to")).filter(|_| kind == TransportKind::Email),
    }
}

/// Puts a refusal beside the field that it is about.
///
/// # Errors
/// What no form can mend.
pub(super) fn refuse(shell: &Shell, form: &mut Filled, error: Error) -> Result<(), Problem> {
    match error {
        Error::Field(refused) => {
            let field = match refused.field.strip_prefix("transport.").unwrap_or(&refused.field) {
                "mention" => "mobiles",
                "quiet.from" => "quiet_from",
                "quiet.until" => "quiet_until",
                field => field,
            };
            form.refuse(shell, field, &refused.problem);
            Ok(())
        }
        Error::Limit(_) | Error::Changed | Error::Locked(_) => {
            form.refuse(shell, "form", &error.to_string());
            Ok(())
        }
        Error::NotFound | Error::Db(_) => Err(error.into()),
    }
}
