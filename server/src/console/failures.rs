//! Failures with what the rules say about each: by cause, symptom and code, and how many of each cause there are.

use actix_web::{HttpResponse, web};
use askama::Template;
use serde::Deserialize;

use super::conditions::{self, FailureView};
use super::organizations::Choice;
use super::rollouts::Chip;
use super::shell::{self, Shell};
use crate::failures::classify::{Cause, Symptom, Tables};
use crate::failures::verdicts::{self, Causes};
use crate::failures::{self, FailureRow, Filter};
use crate::http::State;
use crate::http::body::{Query, query_pair};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::page::{Page, PageQuery};
use crate::http::problem::Problem;
use crate::operators::{Caller, Permission};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![Endpoint::get("/failures", Access::Page(Permission::FailuresRead), "", list)]
}

/// Hours that the counts by cause are of: a week.
const COUNTED_HOURS: u32 = 168;
/// Causes that are offered as chips: the most frequent.
const CHIPS_MAX: usize = 12;

struct Row {
    sn: String,
    view: FailureView,
}

#[derive(Template)]
#[template(path = "failures.html")]
struct FailuresPage {
    shell: Shell,
    chips: Vec<Chip>,
    counted: String,
    causes: Vec<Choice>,
    symptoms: Vec<Choice>,
    code: String,
    is_filtered: bool,
    rows: Vec<Row>,
    next: Option<String>,
    may_edit: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct FailureQuery {
    #[serde(default)]
    cause: String,
    #[serde(default)]
    symptom: String,
    #[serde(default)]
    code: String,
    #[serde(default)]
    after: Option<String>,
}

impl FailureQuery {
    fn filter(&self) -> Result<Filter, Problem> {
        let unknown = |field: &str| Problem::invalid(field, "is not known");
        let cause = match self.cause.as_str() {
            "" => None,
            name => Some(Cause::parse(name).ok_or_else(|| unknown("cause"))?),
        };
        let symptom = match self.symptom.as_str() {
            "" => None,
            name => Some(Symptom::parse(name).ok_or_else(|| unknown("symptom"))?),
        };
        let code = self.code.trim();
        let response_code = (!code.is_empty()).then(|| code.to_owned());
        Ok(Filter { cause, symptom, response_code, ..Filter::default() })
    }

    fn address(&self, cause: &str, after: Option<&str>) -> String {
        let pairs = [("cause", cause), ("symptom", self.symptom.as_str()), ("code", self.code.trim())];
        let given =
            pairs.into_iter().filter(|(_, value)| !value.is_empty()).chain(after.map(|cursor| ("after", cursor)));
        let query: Vec<String> = given.map(|(name, value)| query_pair(name, value)).collect();
        format!("/failures?{}", query.join("&"))
    }

    fn is_filtered(&self) -> bool {
        !(self.cause.is_empty() && self.symptom.is_empty() && self.code.trim().is_empty())
    }
}

async fn list(
    shell: Shell,
    state: web::Data<State>,
    caller: Caller,
    Query(query): Query<FailureQuery>,
) -> Result<HttpResponse, Problem> {
    let page = PageQuery { after: query.after.clone(), size: None };
    let (size, after) = (page.size()?, page.after()?);
    let (filter, now) = (query.filter()?, shell.moments.now());
    let (rows, causes, in_force) = state
        .db
        .read(move |conn| {
            let rows = failures::list(conn, &caller.scope, &filter, after.as_ref(), size + 1)?;
            let causes = verdicts::causes(conn, &caller.scope, COUNTED_HOURS, now)?;
            let in_force = verdicts::in_force(conn, caller.scope.from())?;
            Ok::<_, crate::db::Error>((rows, causes, in_force))
        })
        .await?;
    let page = Page::from_rows(rows, size, |row| (row.received_at_ms, row.terminal_id, row.event_id.clone()));
    let names = |cause: Cause| name(&shell, &in_force.tables, cause);
    let symptom = |symptom: &Symptom| Choice {
        value: symptom.as_str().to_owned(),
        word: shell.word("symptom", symptom.as_str()),
        is_chosen: symptom.as_str() == query.symptom,
    };
    let cause = |cause: &Cause| Choice {
        value: cause.as_str().to_owned(),
        word: names(*cause),
        is_chosen: cause.as_str() == query.cause,
    };
    shell::ok(&FailuresPage {
        chips: chips(&query, &causes, names),
        counted: shell.count("failures-judged", &causes.judged),
        causes: Cause::ALL.iter().map(cause).collect(),
        symptoms: Symptom::ALL.iter().map(symptom).collect(),
        code: query.code.trim().to_owned(),
        is_filtered: query.is_filtered(),
        next: page.next.as_deref().map(|cursor| query.address(&query.cause, Some(cursor))),
        rows: page.items.iter().map(|row| view(&shell, row)).collect(),
        may_edit: shell.may(Permission::FailuresRead),
        shell,
    })
}

fn view(shell: &Shell, row: &FailureRow) -> Row {
    Row { sn: row.sn.clone(), view: conditions::failure(shell, row) }
}

/// What a cause is called in the reader's language.
fn name(shell: &Shell, tables: &Tables, cause: Cause) -> String {
    let named = tables.causes.get(&cause);
    let word = named.map(|row| match shell.language {
        super::i18n::Language::Chinese => row.name_zh.clone(),
        super::i18n::Language::English => row.name_en.clone(),
    });
    word.unwrap_or_else(|| cause.as_str().to_owned())
}

/// The most frequent causes of the window with their counts.
fn chips(query: &FailureQuery, causes: &Causes, name: impl Fn(Cause) -> String) -> Vec<Chip> {
    let mut counts: Vec<(Cause, i64)> = Vec::new();
    for row in &causes.causes {
        let cause = Cause::parse(&row.cause).unwrap_or(Cause::Unknown);
        match counts.iter_mut().find(|(known, _)| *known == cause) {
            Some((_, n)) => *n += row.count,
            None => counts.push((cause, row.count)),
        }
    }
    counts.sort_by_key(|(cause, n)| (std::cmp::Reverse(*n), *cause));
    let chip = |(cause, n): (Cause, i64)| Chip {
        href: query.address(cause.as_str(), None),
        word: format!("{} {}", name(cause), super::i18n::grouped(n)),
        is_current: cause.as_str() == query.cause,
    };
    counts.into_iter().take(CHIPS_MAX).map(chip).collect()
}
