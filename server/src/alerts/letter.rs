//! A message as people read it, before it takes the form that a medium wants. Pure.
//!
//! Letters leave the server's own pages: they say what happened and where to look, with serial numbers cut to their tails
//! and without anything about a person. What others wrote (names of rollouts, of organizations) cannot become formatting,
//! a link or a mention.

use super::level::Level;

/// Longest line, bytes: a title with a long name in it.
const LINE_BYTES_MAX: usize = 400;
/// A run of letters and digits as long as this, with as many digits, is taken for a number that names one terminal.
const NUMBER_CHARS: usize = 8;
const NUMBER_DIGITS: usize = 6;
/// What is left of it.
const TAIL_CHARS: usize = 4;

/// One line below the title.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    /// A name and its value.
    Fact(String),
    /// Over the items that follow.
    Heading(String),
    /// One of several.
    Item(String),
}

impl Line {
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Fact(text) | Self::Heading(text) | Self::Item(text) => text,
        }
    }
}

/// What is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Letter {
    /// One line.
    pub(super) title: String,
    /// How urgent the most urgent thing in it is; none for digests and tests.
    pub(super) level: Option<Level>,
    /// What follows.
    pub(super) lines: Vec<Line>,
    /// Where to look: what the link says, and its address.
    pub(super) link: Option<(String, String)>,
}

/// `text` with every number of a terminal or a person cut to its tail: `NW881207301` as `…7301`.
pub(super) fn tailed(text: &str) -> String {
    let mut tailed = String::with_capacity(text.len());
    let mut run = String::new();
    for c in text.chars().chain(['\n']) {
        if c.is_ascii_alphanumeric() {
            run.push(c);
            continue;
        }
        let digits = run.chars().filter(char::is_ascii_digit).count();
        if run.len() >= NUMBER_CHARS && digits >= NUMBER_DIGITS {
            tailed.push('…');
            tailed.push_str(run.get(run.len() - TAIL_CHARS..).unwrap_or_default());
        } else {
            tailed.push_str(&run);
        }
        run.clear();
        tailed.push(c);
    }
    tailed.pop();
    tailed
}

/// `text` on one line, with the characters that media give a meaning replaced by ones that look alike.
pub(super) fn tamed(text: &str) -> String {
    let tame = |c: char| match c {
        '<' => '‹',
        '>' => '›',
        '[' => '［',
        ']' => '］',
        '*' => '＊',
        '`' => '＇',
        '#' => '＃',
        '@' => '＠',
        '~' => '～',
        '\\' => '＼',
        c if c.is_control() => ' ',
        c => c,
    };
    cut(&text.chars().map(tame).collect::<String>(), LINE_BYTES_MAX)
}

/// At most `bytes_max` bytes of `text`, cut between characters; what was cut ends with `…`.
pub(super) fn cut(text: &str, bytes_max: usize) -> String {
    const MARK: &str = "…";
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let room = bytes_max.saturating_sub(MARK.len());
    let end = text.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= room).last();
    let kept = text.get(..end.unwrap_or(0)).unwrap_or_default();
    if bytes_max < MARK.len() { String::new() } else { format!("{kept}{MARK}") }
}

/// Head, as many whole lines as fit, and tail, in at most `bytes_max` bytes. The tail, which is the link, is never cut off by
/// lines.
pub(super) fn fitted(head: &str, lines: &[String], tail: &str, bytes_max: usize) -> String {
    const MORE: &str = "…\n";
    let mut text = head.to_owned();
    let mut left = lines.iter().peekable();
    while let Some(line) = left.next() {
        let mark = if left.peek().is_some() { MORE.len() } else { 0 };
        if text.len() + line.len() + mark + tail.len() > bytes_max {
            text.push_str(MORE);
            break;
        }
        text.push_str(line);
    }
    text.push_str(tail);
    cut(&text, bytes_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_name_a_terminal_are_cut_to_their_tails() {
        for (text, expected) in [
            ("NW881207301", "…7301"),
            ("参数漂移：NW881207301、ZQXSN000001。", "参数漂移：…7301、…0001。"),
            ("4.2 spring", "4.2 spring"),
            ("firmware 4.2.0 on demo-p1", "firmware 4.2.0 on demo-p1"),
            ("iccid 89860000000000000001", "iccid …0001"),
            ("13800001111", "…1111"),
            ("1234567", "1234567"),
            ("abcdefgh12345", "abcdefgh12345"),
            ("", ""),
        ] {
            assert_eq!(tailed(text), expected);
        }
    }

    #[test]
    fn names_cannot_become_formatting_links_or_mentions() {
        assert_eq!(
            tamed("[x](http://evil) <at id=all> @all *b* `c`\n# d"),
            "［x］(http://evil) ‹at id=all› ＠all ＊b＊ ＇c＇ ＃ d"
        );
        assert!(tamed(&"名".repeat(1_000)).len() <= LINE_BYTES_MAX);
    }

    #[test]
    fn text_is_cut_by_bytes_between_characters() {
        let text = "离线告警";
        assert_eq!(cut(text, 12), text);
        for (bytes, expected) in [(11, "离线…"), (9, "离线…"), (8, "离…"), (3, "…"), (2, ""), (0, "")] {
            assert_eq!(cut(text, bytes), expected, "{bytes}");
            assert!(cut(text, bytes).len() <= bytes);
        }
    }

    #[test]
    fn lines_give_way_to_the_link() {
        let lines: Vec<String> = (0..10).map(|n| format!("第{n}行\n")).collect();
        let all = fitted("标题\n", &lines, "[查看](u)", 1_000);
        assert!(all.contains("第9行") && !all.contains('…'));
        let some = fitted("标题\n", &lines, "[查看](u)", 60);
        assert!(some.len() <= 60 && some.starts_with("标题\n第0行\n") && some.ends_with("…\n[查看](u)"), "{some}");
        let exact = fitted("标题\n", &lines, "[查看](u)", all.len());
        assert_eq!(exact, all, "the last line needs no room for a mark");
        assert!(fitted(&"长".repeat(100), &lines, "t", 50).len() <= 50);
    }
}
