//! Every sentence with which a page may refuse something has a form, and so words in each language.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::*;

/// What pages call, and what speaks to people through them.
const SOURCES: [&str; 21] = [
    "src/console",
    "src/failures/imported",
    "src/failures/lookups",
    "src/failures/pack",
    "src/organizations",
    "src/operators",
    "src/releases",
    "src/rollouts",
    "src/terminals",
    "src/terminals/enrolment",
    "src/terminals/import",
    "src/terminals/list",
    "src/http/auth.rs",
    "src/http/page.rs",
    "src/text.rs",
    "src/operators/sessions",
    "src/signing/image",
    "src/imports",
    "src/merchants",
    "src/failures/feed",
    "src/terminals/bindings",
];

/// Calls whose last text is a refusal.
const CALLS: [&str; 7] = [
    "FieldError::new(",
    "Problem::conflict(",
    "Problem::invalid(",
    "Problem::forbidden(",
    "Denied(",
    "refused(",
    "#[error(",
];

/// Said to programs alone, or only within an error that no page ends with.
const NEVER_ON_A_PAGE: [&str; 34] = [
    "An API key has no session; revoke it at /api/v1/api-keys.",
    "a field was refused",
    "a model with this code is known already",
    "a password could not be hashed",
    "a session token could not be made",
    "an API key has no password",
    "an assignment that is 7 cannot 7",
    "an organization may have at most 7 keys; revoke one",
    "cannot be part of a bulk change",
    "cannot read 7",
    "image repository",
    "must be at most 100",
    "must be rtos, linux or android",
    "must not contain the character U+0000",
    "must name 1 to 7 terminals",
    "name either ids or a filter",
    "name the organization: POST /api/v1/terminals/transfer",
    "no such operator or key",
    "no such organization",
    "no such release",
    "not found",
    "only a person makes API keys",
    "the database failed",
    "the login name or the password is wrong",
    "the organization is suspended; ask the organization above it",
    "the present password is wrong",
    "the publish gate refused",
    "the release was refused",
    "the repository does not verify",
    "the rollouts could not be read or written",
    "the signature does not hold for this terminal",
    "the stored document 7 is missing; restore it from a backup",
    "there is no such rollout",
    "trust root",
];

fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let paths = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
}

/// The arguments of a call, from behind its bracket to its end.
fn arguments(text: &str) -> &str {
    let mut depth = 1;
    let mut chars = text.char_indices();
    let mut is_text = false;
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' if is_text => _ = chars.next(),
            '"' => is_text = !is_text,
            '(' if !is_text => depth += 1,
            ')' if !is_text => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &text[..at];
        }
    }
    text
}

/// The last text among `arguments`, with 7 for each value in it.
fn said(arguments: &str) -> Option<String> {
    let last = arguments.rsplit('"').nth(1)?;
    let mut said = String::new();
    let mut depth = 0;
    for c in last.chars() {
        match c {
            '{' if depth == 0 => {
                said.push('7');
                depth = 1;
            }
            '{' => depth += 1,
            '}' => depth -= 1,
            _ if depth == 0 => said.push(c),
            _ => {}
        }
    }
    // Words, not names of fields or formats; a text goes on in the next line after a backslash.
    let words: Vec<&str> = said.split_whitespace().filter(|word| *word != "\\").collect();
    (words.len() > 1).then(|| words.join(" "))
}

fn sentences() -> BTreeSet<String> {
    let mut sentences = BTreeSet::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for file in SOURCES.iter().flat_map(|path| files(&root.join(path))) {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        if name.ends_with("_tests.rs") || name == "commands.rs" || name == "models.rs" {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        for call in CALLS {
            sentences.extend(code.split(call).skip(1).filter_map(|rest| said(arguments(rest))));
        }
    }
    sentences
}

#[test]
fn every_refusal_that_a_page_may_show_has_words_in_both_languages() {
    let sentences = sentences();
    assert!(sentences.len() > 80, "the search finds too little: {sentences:#?}");
    let unknown: Vec<_> = sentences
        .iter()
        .filter(|sentence| !NEVER_ON_A_PAGE.contains(&sentence.as_str()))
        .filter(|sentence| translated(Language::Chinese, sentence).is_none())
        .collect();
    assert_eq!(unknown, Vec::<&String>::new(), "without a `refusal-…` text");
}

#[test]
fn the_values_of_a_refusal_survive_its_translation() {
    for (detail, chinese) in [
        ("must be at most 40 characters", "最多 40 个字符"),
        ("The organization is suspended.", "组织已停用"),
        (
            "suspend is not possible while the terminal is lost: report it found first",
            "终端处于“丢失”时不能停用：请先找回",
        ),
        ("The role field does not have the permission audit_read.", "角色“现场维护”没有“查看审计”的权限"),
        (
            "12 terminals were confirmed, the filter means 13 now; look at the preview again",
            "您确认了 12 台，现在符合条件的是 13 台，请重新核对预览",
        ),
    ] {
        assert_eq!(translated(Language::Chinese, detail).as_deref(), Some(chinese));
    }
    assert_eq!(translated(Language::Chinese, "something nobody foresaw"), None);
}

#[test]
fn the_most_particular_form_is_taken() {
    assert_eq!(translated(Language::Chinese, "must be 15 digits").as_deref(), Some("必须是 15 位数字"));
    assert_eq!(translated(Language::Chinese, "must be 6 to 15 digits").as_deref(), Some("必须是 6 到 15 位数字"));
}
