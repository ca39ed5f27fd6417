//! Incidents: the list, what is not over first.

use actix_web::{HttpResponse, web};
use askama::Template;
use serde::Deserialize;

use super::conditions;
use super::organizations::Choice;
use super::rollouts::Chip;
use super::shell::{self, Shell};
use super::status::{Status, Tone};
use crate::failures::incidents::{self, Filter, Folded, Incident, Kind, Level, State as IncidentState, UNRESOLVED};
use crate::http::State;
use crate::http::body::{Query, query_pair};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::page::{Page, PageQuery};
use crate::http::problem::Problem;
use crate::operators::{Caller, Permission};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![Endpoint::get("/incidents", Access::Page(Permission::IncidentsRead), "", list)]
}

/// In an address, for incidents in any state.
const ALL: &str = "all";

struct Row {
    id: i64,
    level: LevelTag,
    title: String,
    status: Status,
    affected: i64,
    owner: String,
    seen: String,
    seen_at: String,
    occurrences: i64,
    folded: i64,
}

/// A level as a tag: `P1` stands out.
pub(super) struct LevelTag {
    pub(super) name: String,
    pub(super) class: &'static str,
}

impl LevelTag {
    pub(super) fn of(name: &str) -> Self {
        let class = match Level::parse(name) {
            Some(Level::P1) => "tag bad",
            Some(Level::P2) => "tag warning",
            Some(Level::P3) | None => "tag",
        };
        Self { name: name.to_owned(), class }
    }
}

#[derive(Template)]
#[template(path = "incidents.html")]
struct IncidentsPage {
    shell: Shell,
    chips: Vec<Chip>,
    state: String,
    rollout: Option<i64>,
    kinds: Vec<Choice>,
    levels: Vec<Choice>,
    is_filtered: bool,
    rows: Vec<Row>,
    next: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct IncidentQuery {
    #[serde(default)]
    state: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    level: String,
    #[serde(default)]
    rollout: String,
    #[serde(default)]
    after: Option<String>,
}

impl IncidentQuery {
    /// The state by its name; what is not over when the address does not say.
    fn state(&self) -> &str {
        if self.state.is_empty() { UNRESOLVED } else { &self.state }
    }

    fn rollout_id(&self) -> Result<Option<i64>, Problem> {
        match self.rollout.trim() {
            "" => Ok(None),
            id => Ok(Some(id.parse().map_err(|_| Problem::invalid("rollout", "is not a number"))?)),
        }
    }

    fn filter(&self) -> Result<Filter, Problem> {
        let state = if self.state() == ALL { "" } else { self.state() };
        let named = Filter::of_names(state, &self.kind, &self.level)?;
        // What another incident explains is found under that one.
        Ok(Filter { rollout_id: self.rollout_id()?, folded: Folded::Hidden, ..named })
    }

    fn address(&self, state: &str, after: Option<&str>) -> String {
        let pairs = [("state", state), ("kind", &self.kind), ("level", &self.level), ("rollout", self.rollout.trim())];
        let given =
            pairs.into_iter().filter(|(_, value)| !value.is_empty()).chain(after.map(|cursor| ("after", cursor)));
        let query: Vec<String> = given.map(|(name, value)| query_pair(name, value)).collect();
        format!("/incidents?{}", query.join("&"))
    }

    fn is_filtered(&self) -> bool {
        !(self.kind.is_empty() && self.level.is_empty() && self.rollout.trim().is_empty())
    }
}

async fn list(
    shell: Shell,
    state: web::Data<State>,
    caller: Caller,
    Query(query): Query<IncidentQuery>,
) -> Result<HttpResponse, Problem> {
    let page = PageQuery { after: query.after.clone(), size: None };
    let (size, before) = (page.size()?, page.after::<i64>()?);
    let filter = query.filter()?;
    let found = state.db.read(move |conn| incidents::list(conn, &caller.scope, &filter, before, size + 1)).await?;
    let page = Page::from_rows(found, size, |incident| incident.id);
    let names = [UNRESOLVED].into_iter().chain(IncidentState::ALL.map(IncidentState::as_str)).chain([ALL]);
    let chip = |name: &str| Chip {
        href: query.address(name, None),
        word: if name == ALL { shell.say("filter-any") } else { shell.word("incident", name) },
        is_current: query.state() == name,
    };
    let choice = |family: &str, name: &str, chosen: &str| Choice {
        value: name.to_owned(),
        word: shell.word(family, name),
        is_chosen: name == chosen,
    };
    shell::ok(&IncidentsPage {
        chips: names.map(chip).collect(),
        state: query.state().to_owned(),
        rollout: query.rollout_id()?,
        kinds: Kind::ALL.map(|kind| choice("incident-kind", kind.as_str(), &query.kind)).into(),
        levels: Level::ALL.map(|level| choice("level", level.as_str(), &query.level)).into(),
        is_filtered: query.is_filtered(),
        next: page.next.as_deref().map(|cursor| query.address(query.state(), Some(cursor))),
        rows: page.items.into_iter().map(|incident| row(&shell, incident)).collect(),
        shell,
    })
}

fn row(shell: &Shell, incident: Incident) -> Row {
    Row {
        id: incident.id,
        level: LevelTag::of(&incident.level),
        title: title(shell, &incident),
        status: status(shell, &incident.state),
        affected: incident.affected,
        owner: incident.owner_name.unwrap_or_else(|| shell.say("incident-nobody")),
        seen: shell.moments.ago(incident.last_seen_ms),
        seen_at: shell.moments.absolute(incident.last_seen_ms),
        occurrences: incident.occurrences,
        folded: incident.folded,
    }
}

/// What happened to what.
pub(super) fn title(shell: &Shell, incident: &Incident) -> String {
    match Kind::parse(&incident.kind) {
        Some(kind) => {
            let values = [("subject", incident.subject.as_str())];
            conditions::title(shell.language, &incidents::title_key(kind), &values)
        }
        None => format!("{} {}", incident.kind, incident.subject),
    }
}

pub(super) fn status(shell: &Shell, state: &str) -> Status {
    Status { tone: Tone::of_incident(state), word: shell.word("incident", state) }
}
