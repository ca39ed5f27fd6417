//! The texts are whole: the same keys and values in both languages, none unused, none undefined, and no literal text
//! in a template.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use fluent_bundle::FluentResource;
use tillward_protocol::condition::Access;
use tillward_protocol::failure::Stage;
use tillward_protocol::phase::Reason;

use super::*;
use crate::operators::Role;

/// Calls whose first argument is a key.
const CALLS: [&str; 7] = ["say(\"", "with(\"", "with_two(\"", "with_values(\"", "count(\"", "key: \"", "key(\""];

/// Keys that are made from names the server keeps.
fn families() -> BTreeMap<&'static str, Vec<String>> {
    let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    BTreeMap::from([
        ("language", names(&["zh-CN", "en"])),
        ("theme", names(&["auto", "light", "dark"])),
        ("role", Role::ALL.iter().map(|role| role.as_str().to_owned()).collect()),
        ("stage", Stage::ALL.iter().map(|stage| stage.as_str().to_owned()).collect()),
        ("reason", Reason::ALL.iter().map(|reason| reason.as_str().to_owned()).collect()),
        ("access", Access::ALL.iter().map(|access| access.as_str().to_owned()).chain(["unknown".to_owned()]).collect()),
        ("moment-ago", names(&["seconds", "minutes", "hours", "days"])),
        ("moment-in", names(&["seconds", "minutes", "hours", "days"])),
        ("problem-title", super::super::problems::names()),
        ("problem-advice", super::super::problems::names()),
    ])
}

fn keys(language: Language) -> BTreeMap<String, BTreeSet<String>> {
    let resource = FluentResource::try_new(language.source().to_owned()).map_err(|(_, errors)| errors).unwrap();
    drop(resource);
    let mut keys: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut current = String::new();
    for line in language.source().lines() {
        if let Some((key, _)) = line.split_once(" = ").filter(|(key, _)| !key.starts_with([' ', '#', '[', '*'])) {
            current = key.to_owned();
            assert!(keys.insert(current.clone(), BTreeSet::new()).is_none(), "{current} is given twice");
        }
        for part in line.split("{ $").skip(1) {
            let name = part.split([' ', '}']).next().unwrap().to_owned();
            keys.get_mut(&current).unwrap().insert(name);
        }
    }
    keys
}

fn files(folder: &str, extension: &str) -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let wanted = paths.filter(|path| path.extension().is_some_and(|found| found == extension));
    wanted.map(|path| (path.clone(), std::fs::read_to_string(&path).unwrap())).collect()
}

/// Keys that templates and pages name, the families' included.
fn used() -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for (path, text) in files("templates", "html").into_iter().chain(files("src/console", "rs")) {
        if path.ends_with("i18n_tests.rs") {
            continue;
        }
        let text = text.replace("(\n", "(").replace("( ", "(");
        for call in CALLS {
            for rest in text.split(call).skip(1) {
                used.insert(rest.split('"').next().unwrap().to_owned());
            }
        }
        for word in text.split('"').filter(|word| word.starts_with("nav-")) {
            used.insert(word.to_owned());
        }
    }
    for (family, names) in families() {
        used.extend(names.iter().map(|name| format!("{family}-{name}")));
    }
    used
}

#[test]
fn both_languages_have_the_same_keys_with_the_same_values() {
    let (chinese, english) = (keys(Language::Chinese), keys(Language::English));
    let missing = |from: &BTreeMap<String, _>, to: &BTreeMap<String, _>| -> Vec<String> {
        from.keys().filter(|key| !to.contains_key(*key)).cloned().collect()
    };
    assert_eq!(missing(&chinese, &english), Vec::<String>::new(), "not in en.ftl");
    assert_eq!(missing(&english, &chinese), Vec::<String>::new(), "not in zh-CN.ftl");
    // `n` only chooses a plural form and `count` shows it: either may stand alone.
    let values = |names: &BTreeSet<String>| names.iter().filter(|name| *name != "n").cloned().collect::<Vec<_>>();
    for (key, names) in &chinese {
        assert_eq!(values(names), values(&english[key]), "{key}");
    }
}

#[test]
fn every_key_that_is_used_exists_and_every_key_that_exists_is_used() {
    let defined: BTreeSet<_> = keys(Language::Chinese).into_keys().collect();
    let used = used();
    assert_eq!(used.difference(&defined).collect::<Vec<_>>(), Vec::<&String>::new(), "used but not defined");
    assert_eq!(defined.difference(&used).collect::<Vec<_>>(), Vec::<&String>::new(), "defined but not used");
}

#[test]
fn the_sources_have_no_errors() {
    for language in Language::ALL {
        assert!(FluentResource::try_new(language.source().to_owned()).is_ok(), "{}", language.tag());
    }
}

/// The name of the program, and units that are the same in every language.
const SAME_EVERYWHERE: [&str; 5] = ["Tillward", "dBm", "ms", "SN", "ID"];

#[test]
fn templates_hold_no_literal_text() {
    for (path, text) in files("templates", "html") {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        for word in literal_words(&text) {
            assert!(SAME_EVERYWHERE.contains(&word.as_str()), "{name} says {word:?} by itself");
        }
    }
}

/// Words outside tags and template code, and in attributes that people read.
fn literal_words(template: &str) -> Vec<String> {
    let mut plain = template.to_owned();
    for (open, close) in [("{#", "#}"), ("{%", "%}"), ("{{", "}}")] {
        while let Some(start) = plain.find(open) {
            let end = plain[start..].find(close).map_or(plain.len(), |end| start + end + close.len());
            plain.replace_range(start..end, " ");
        }
    }
    let mut readable = String::new();
    for attribute in ["placeholder=\"", "title=\"", "aria-label=\"", "alt=\""] {
        for rest in plain.split(attribute).skip(1) {
            readable.push_str(rest.split('"').next().unwrap());
            readable.push(' ');
        }
    }
    for part in plain.split('<') {
        readable.push_str(part.split_once('>').map_or(part, |(_, after)| after));
        readable.push(' ');
    }
    let readable = readable.replace("&nbsp;", " ");
    let words = readable.split(|c: char| !c.is_alphabetic());
    words.filter(|word| word.chars().count() > 1 || word.chars().any(|c| !c.is_ascii())).map(str::to_owned).collect()
}

#[test]
fn literal_text_is_found_where_people_would_read_it() {
    let template = r#"{% if x %}<p class="card" title="Hello">{{ y }} 终端</p>{% endif %}"#;
    assert_eq!(literal_words(template), ["Hello", "终端"]);
}

#[test]
fn templates_hold_nothing_that_the_security_policy_kills_silently() {
    for (path, text) in files("templates", "html") {
        for forbidden in
            [" style=", "hx-on", "|safe", "| safe", "javascript:", " onclick=", " onchange=", " onsubmit=", "js:"]
        {
            assert!(!text.contains(forbidden), "{} contains {forbidden:?}", path.display());
        }
        for script in text.split("<script").skip(1) {
            assert!(script.starts_with(" src="), "{} has an inline script", path.display());
        }
    }
}

#[test]
fn a_header_chooses_the_first_known_language() {
    for (header, language) in [
        ("zh-CN,zh;q=0.9,en;q=0.8", Language::Chinese),
        ("en-US,en;q=0.9", Language::English),
        ("fr, en;q=0.5", Language::English),
        ("fr", Language::Chinese),
        ("", Language::Chinese),
    ] {
        assert_eq!(Language::of_header(header), language, "{header}");
    }
}

#[test]
fn numbers_are_grouped_and_plurals_follow_the_language() {
    assert_eq!([0, 999, 1_000, -1_234_567].map(grouped), ["0", "999", "1,000", "-1,234,567"]);
    assert_eq!(Language::English.count("moment-ago-hours", 1), "1 hour ago");
    assert_eq!(Language::English.count("moment-ago-hours", 1_200), "1,200 hours ago");
    assert_eq!(Language::Chinese.word("role", "something_new"), "something_new");
}
