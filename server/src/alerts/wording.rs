//! Puts alerts into the words of a channel's language. The words themselves are the console's; they are handed in.

use std::collections::BTreeMap;

use super::digest::{Item, Summary};
use super::hours::Zone;
use super::letter::{Letter, Line, tailed, tamed};
use super::store::outbox::Waiting;
use super::{Alert, Level};

/// Says the text of a key, with values, in the language of a tag.
pub type Say = fn(&str, &str, &[(&str, &str)]) -> String;

/// Keys of the texts in messages, after `message-`.
pub const MESSAGES: [&str; 22] = [
    "fact",
    "what",
    "level",
    "organization",
    "when",
    "open",
    "batch",
    "item",
    "more",
    "test",
    "test-body",
    "digest",
    "digest-opened",
    "digest-unresolved",
    "digest-waiting",
    "digest-offline",
    "digest-offline-of",
    "digest-expiring",
    "digest-top",
    "digest-held",
    "digest-calm",
    "subject",
];

/// Alerts that a batch or a digest lists one by one; the others are counted.
const LISTED_MAX: usize = 20;

/// Writes letters for one channel.
pub(super) struct Writer<'a> {
    pub(super) say: Say,
    pub(super) language: &'a str,
    pub(super) public_url: Option<&'a str>,
    pub(super) zone: Zone,
}

impl Writer<'_> {
    fn text(&self, key: &str, values: &[(&str, &str)]) -> String {
        (self.say)(self.language, &format!("message-{key}"), values)
    }

    fn fact(&self, label: &str, value: &str) -> Line {
        Line::Fact(self.text("fact", &[("label", &self.text(label, &[])), ("value", value)]))
    }

    fn link(&self, path: &str) -> Option<(String, String)> {
        self.public_url.map(|base| (self.text("open", &[]), format!("{base}{path}")))
    }

    /// What happened to what, without whole serial numbers.
    fn title(&self, key: &str, parameters: &BTreeMap<String, String>) -> String {
        let values: Vec<(&str, String)> =
            parameters.iter().map(|(name, value)| (name.as_str(), tamed(&tailed(value)))).collect();
        let values: Vec<(&str, &str)> = values.iter().map(|(name, value)| (*name, value.as_str())).collect();
        (self.say)(self.language, key, &values)
    }

    fn kind(&self, kind: &str) -> String {
        (self.say)(self.language, &format!("alert-{kind}"), &[])
    }

    /// What one delivery, or several at once, say.
    pub(super) fn letter(&self, waiting: &[Waiting]) -> Letter {
        match waiting {
            [one] => match Summary::of(&one.alert) {
                Some(summary) => self.digest(&summary, &one.organization, one.alert.created_at_ms),
                None => self.single(&one.alert, &one.organization),
            },
            many => self.batch(many),
        }
    }

    fn single(&self, alert: &Alert, organization: &str) -> Letter {
        let level = Level::parse(&alert.level);
        let level_word = (self.say)(self.language, &format!("level-{}", alert.level), &[]);
        let path = alert.incident_id.map_or_else(|| "/alerts".to_owned(), |id| format!("/incidents/{id}"));
        Letter {
            title: format!("{} {}", alert.level, self.title(&alert.title_key, &alert.parameters)),
            level,
            lines: vec![
                self.fact("what", &self.kind(&alert.kind)),
                self.fact("level", &level_word),
                self.fact("organization", &tamed(organization)),
                self.fact("when", &self.zone.written(alert.created_at_ms)),
            ],
            link: self.link(&path),
        }
    }

    fn batch(&self, waiting: &[Waiting]) -> Letter {
        let item = |one: &Waiting| Item::of(&one.alert, &one.organization);
        let items: Vec<Item> = waiting.iter().map(item).collect();
        let level = items.iter().filter_map(|item| Level::parse(&item.level)).min();
        Letter {
            title: self.text("batch", &[("count", &waiting.len().to_string()), ("levels", &levels_of(&items))]),
            level,
            lines: self.items(&items, items.len()),
            link: self.link("/incidents"),
        }
    }

    /// The first items, and how many more there are.
    fn items(&self, items: &[Item], total: usize) -> Vec<Line> {
        let line = |item: &Item| {
            let title = self.title(&item.title_key, &item.parameters);
            let (what, organization) = (self.kind(&item.kind), tamed(&item.organization));
            let values =
                [("level", item.level.as_str()), ("what", &what), ("title", &title), ("organization", &organization)];
            Line::Item(self.text("item", &values))
        };
        let mut lines: Vec<Line> = items.iter().take(LISTED_MAX).map(line).collect();
        let beyond = total.saturating_sub(lines.len());
        if beyond > 0 {
            lines.push(Line::Item(self.text("more", &[("count", &beyond.to_string())])));
        }
        lines
    }

    fn digest(&self, summary: &Summary, organization: &str, at_ms: i64) -> Letter {
        let mut lines = vec![
            self.fact("digest-opened", &counts(summary.opened)),
            self.fact("digest-unresolved", &counts(summary.unresolved)),
            self.fact("digest-waiting", &summary.waiting.to_string()),
        ];
        let terminals = [("offline", summary.offline.to_string()), ("total", summary.terminals.to_string())];
        let terminals = terminals.each_ref().map(|(name, value)| (*name, value.as_str()));
        lines.push(self.fact("digest-offline", &self.text("digest-offline-of", &terminals)));
        lines.push(self.fact("digest-expiring", &summary.expiring.to_string()));
        for (heading, items, total) in
            [("digest-top", &summary.top, summary.top.len()), ("digest-held", &summary.held, summary.held_count)]
        {
            if !items.is_empty() {
                lines.push(Line::Heading(self.text(heading, &[])));
                lines.extend(self.items(items, total));
            }
        }
        if summary.top.is_empty() && summary.held.is_empty() {
            lines.push(Line::Fact(self.text("digest-calm", &[])));
        }
        let title = [("day", self.zone.day(at_ms)), ("organization", tamed(organization))];
        let title = title.each_ref().map(|(name, value)| (*name, value.as_str()));
        Letter { title: self.text("digest", &title), level: None, lines, link: self.link("/incidents") }
    }

    /// What the test button sends.
    pub(super) fn test(&self, channel: &str) -> Letter {
        Letter {
            title: self.text("test", &[]),
            level: None,
            lines: vec![Line::Fact(self.text("test-body", &[("channel", &tamed(channel))]))],
            link: self.link("/alerts"),
        }
    }

    /// The subject of a mail: its title, so that programs sort it.
    pub(super) fn subject(&self, prefix: &str, letter: &Letter) -> String {
        let subject = self.text("subject", &[("title", &letter.title)]);
        if prefix.is_empty() { subject } else { format!("{prefix} {subject}") }
    }
}

/// `P1 1 · P2 3`: how many of each level.
fn levels_of(items: &[Item]) -> String {
    let count = |level: Level| items.iter().filter(|item| item.level == level.as_str()).count();
    let present = Level::ALL.map(|level| (level, count(level))).into_iter().filter(|(_, n)| *n > 0);
    present.map(|(level, n)| format!("{} {n}", level.as_str())).collect::<Vec<_>>().join(" · ")
}

fn counts(of_levels: [i64; 3]) -> String {
    let pairs = Level::ALL.into_iter().zip(of_levels);
    pairs.map(|(level, n)| format!("{} {n}", level.as_str())).collect::<Vec<_>>().join(" · ")
}
