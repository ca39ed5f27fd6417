//! What to look at, item by item. Pure: the lists themselves are data.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use tillward_protocol::FieldError;
use tillward_protocol::pan::contains_card_data;

use super::orders::Kind;

/// Items of one list: what is still done on a phone, standing.
pub const ITEMS_MAX: usize = 40;
/// Longest text of an item and longest note on one, characters.
pub const TEXT_CHARS_MAX: usize = 200;
/// Longest name of an item.
const ID_CHARS_MAX: usize = 32;

/// One thing to look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ChecklistItem)]
pub struct Item {
    /// Its name in answers: lower-case letters, digits and `_`.
    pub id: String,
    /// What people read in Chinese.
    pub zh: String,
    /// What people read in English.
    pub en: String,
    /// Whether the work cannot be done without an answer.
    #[serde(default)]
    pub required: bool,
}

/// The list of one kind of work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Checklist {
    /// Kind of work.
    pub kind: Kind,
    /// The organization whose own it is; absent for the one that comes with the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization_id: Option<i64>,
    /// Which edition of that.
    pub version: i64,
    /// In order.
    pub items: Vec<Item>,
}

/// What somebody found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ChecklistFound)]
pub enum Found {
    /// As it should be.
    Ok,
    /// Not as it should be.
    Fault,
    /// Does not apply here.
    Na,
}

impl Found {
    /// Every answer.
    pub const ALL: [Self; 3] = [Self::Ok, Self::Fault, Self::Na];

    /// Name in forms and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Fault => "fault",
            Self::Na => "na",
        }
    }

    /// The answer of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|found| found.as_str() == name)
    }
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ChecklistAnswer)]
pub struct Answer {
    /// What was found.
    pub found: Found,
    /// More about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// Answers by item.
pub type Answers = BTreeMap<String, Answer>;

#[derive(Deserialize, Default)]
struct InBoth {
    zh: String,
    en: String,
}

#[derive(Deserialize)]
struct Seed {
    source: InBoth,
    date: String,
    lists: Vec<Checklist>,
}

static SEED: LazyLock<Seed> = LazyLock::new(|| {
    // A test reads it; a damaged one would leave every order without a list, which is said.
    serde_json::from_str(include_str!("../../data/checklists.json")).unwrap_or_else(|error| {
        tracing::error!(%error, "the checklists that come with the program cannot be read");
        Seed { source: InBoth::default(), date: String::new(), lists: Vec::new() }
    })
});

/// The list that comes with the program.
pub fn seed(kind: Kind) -> Checklist {
    let known = SEED.lists.iter().find(|list| list.kind == kind).cloned();
    known.unwrap_or(Checklist { kind, organization_id: None, version: 0, items: Vec::new() })
}

/// Where those lists come from, in Chinese or in English, and of when they are.
pub fn provenance(is_chinese: bool) -> (&'static str, &'static str) {
    let source = if is_chinese { &SEED.source.zh } else { &SEED.source.en };
    (source, &SEED.date)
}

/// Items as an organization writes them: named once each, in two languages, without card data.
///
/// # Errors
/// [`FieldError`] naming `items`.
pub fn check_items(items: &[Item]) -> Result<(), FieldError> {
    let refused = |problem: String| Err(FieldError::new("items", problem));
    if items.is_empty() || items.len() > ITEMS_MAX {
        return refused(format!("must be 1 to {ITEMS_MAX} items"));
    }
    let mut ids = BTreeSet::new();
    for item in items {
        let is_name = !item.id.is_empty()
            && item.id.len() <= ID_CHARS_MAX
            && item.id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if !is_name {
            return refused("have names of lower-case letters, digits and _, at most 32".to_owned());
        }
        if !ids.insert(item.id.as_str()) {
            return refused("have a name twice".to_owned());
        }
        for text in [&item.zh, &item.en] {
            check_text("items", text)?;
            if text.trim().is_empty() {
                return refused("need a text in both languages".to_owned());
            }
        }
    }
    Ok(())
}

fn check_text(field: &str, text: &str) -> Result<(), FieldError> {
    if text.chars().count() > TEXT_CHARS_MAX {
        return Err(FieldError::new(field, format!("must be at most {TEXT_CHARS_MAX} characters")));
    }
    if text.chars().any(char::is_control) {
        return Err(FieldError::new(field, "must not contain control characters"));
    }
    if contains_card_data(text) {
        return Err(FieldError::new(field, "looks like card data, which is never accepted"));
    }
    Ok(())
}

impl Checklist {
    /// Answers that fit this list.
    ///
    /// # Errors
    /// [`FieldError`] for an item that is not in it and for notes that may not be.
    pub fn check_answers(&self, answers: &Answers) -> Result<(), FieldError> {
        for (id, answer) in answers {
            if !self.items.iter().any(|item| item.id == *id) {
                return Err(FieldError::new("answers", "name an item that is not in the list"));
            }
            check_text("answers", &answer.note)?;
        }
        Ok(())
    }

    /// The first required item without an answer.
    pub fn unanswered(&self, answers: &Answers) -> Option<&Item> {
        self.items.iter().find(|item| item.required && !answers.contains_key(&item.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(id: &str) -> Item {
        Item { id: id.to_owned(), zh: "外壳完好".to_owned(), en: "The case is whole".to_owned(), required: true }
    }

    #[test]
    fn every_kind_of_work_comes_with_a_list_and_it_says_where_it_is_from() {
        for kind in Kind::ALL {
            let list = seed(kind);
            assert_eq!(check_items(&list.items), Ok(()), "{kind:?}");
            assert!(list.version > 0 && list.items.iter().any(|item| item.required), "{kind:?}");
        }
        for is_chinese in [true, false] {
            let (source, date) = provenance(is_chinese);
            assert!(
                source.contains("PCI DSS") && source.is_ascii() != is_chinese && date.starts_with("20"),
                "{source}"
            );
        }
    }

    #[test]
    fn items_are_named_once_and_in_both_languages() {
        assert_eq!(check_items(&[item("a_1"), item("b")]), Ok(()));
        let many: Vec<Item> = (0..=ITEMS_MAX).map(|n| item(&format!("i{n}"))).collect();
        let long = Item { zh: "长".repeat(TEXT_CHARS_MAX + 1), ..item("a") };
        let card = Item { en: "4111 1111 1111 1111".to_owned(), ..item("a") };
        let empty = Item { en: " ".to_owned(), ..item("a") };
        for bad in [
            vec![],
            many,
            vec![item("a"), item("a")],
            vec![item("A")],
            vec![item("")],
            vec![long],
            vec![card],
            vec![empty],
        ] {
            assert_eq!(check_items(&bad).unwrap_err().field, "items");
        }
    }

    #[test]
    fn required_items_need_answers_and_unknown_ones_take_none() {
        let optional = Item { required: false, ..item("b") };
        let list =
            Checklist { kind: Kind::Repair, organization_id: None, version: 1, items: vec![item("a"), optional] };
        let answer = |note: &str| Answer { found: Found::Ok, note: note.to_owned() };
        let answers = |id: &str, note: &str| BTreeMap::from([(id.to_owned(), answer(note))]);
        assert_eq!(list.unanswered(&Answers::new()).map(|item| item.id.as_str()), Some("a"));
        assert_eq!(list.unanswered(&answers("a", "")), None);
        assert_eq!(list.check_answers(&answers("b", "旧卡已收回")), Ok(()));
        for bad in [answers("c", ""), answers("a", "a\u{1b}[1m"), answers("a", "4111111111111111")] {
            assert_eq!(list.check_answers(&bad).unwrap_err().field, "answers");
        }
    }
}
