//! One incident: what was seen, what happened to it since, who was told, and the verbs that its state allows.

use actix_web::{HttpResponse, web};
use askama::Template;
use serde::Deserialize;
use serde_json::Value;

use super::evidence::{self, EvidenceView};
use super::evidence_pack::address;
use super::explain;
use super::form::Form;
use super::incidents::{LevelTag, status, title};
use super::organizations;
use super::rollout_evidence;
use super::shell::{self, Shell};
use super::status::{Status, Tone};
use super::switches;
use crate::alerts::{Alert, AlertState};
use crate::db::Conn;
use crate::failures::halts;
use crate::failures::incidents::state::{Event, step};
use crate::failures::incidents::{
    self, Act, Filter, Incident, IncidentDetail, Kind, NOTE_CHARS_MAX, State as IncidentState, TimelineEntry,
};
use crate::http::State;
use crate::http::auth::Acting;
use crate::http::body::{Path, query_pair};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::problem::Problem;
use crate::operators::{Caller, Permission, Scope};
use crate::rollouts::Evidence;

pub(super) fn endpoints() -> Vec<Endpoint> {
    let read = Access::Page(Permission::IncidentsRead);
    let write = Access::Page(Permission::IncidentsWrite);
    vec![
        Endpoint::get("/incidents/{id}", read, "", show),
        Endpoint::post("/incidents/{id}/acknowledge", write, "", acknowledge),
        Endpoint::post("/incidents/{id}/take", write, "", take),
        Endpoint::post("/incidents/{id}/mitigate", write, "", mitigate),
        Endpoint::post("/incidents/{id}/resolve", write, "", resolve),
        Endpoint::post("/incidents/{id}/note", write, "", note),
    ]
}

struct Line {
    status: Status,
    who: String,
    note: String,
    at: String,
    ago: String,
    evidence: Option<EvidenceView>,
}

struct Sent {
    status: Status,
    what: String,
    channel: String,
    /// Whether nobody gets it: then the way to the channels stands here.
    is_unrouted: bool,
    at: String,
    error: String,
}

#[derive(Template)]
#[template(path = "incident.html")]
struct IncidentPage {
    shell: Shell,
    id: i64,
    title: String,
    level: LevelTag,
    status: Status,
    summary: String,
    may_acknowledge: bool,
    may_take: bool,
    may_mitigate: bool,
    may_resolve: bool,
    may_note: bool,
    note_chars_max: usize,
    /// What stands above the evidence.
    leads: Vec<String>,
    /// Whether what failed was too much to be explained in time: then the way there stands here.
    is_beyond_looking: bool,
    /// What a gate said that stopped a rollout or a part of it.
    gate: Option<rollout_evidence::EvidenceView>,
    /// The rest.
    evidence: EvidenceView,
    /// Address of the transaction that it is about, where it is one.
    transaction: Option<String>,
    facts: Vec<(String, String)>,
    rollout_id: Option<i64>,
    terminals: Vec<String>,
    terminals_beyond: Option<String>,
    lines: Vec<Line>,
    sent: Vec<Sent>,
    /// The incident that this one is folded under.
    parent: Option<Relative>,
    /// What is or was folded under this one, the newest.
    children: Vec<Relative>,
}

/// An incident that explains this one, or that this one explains.
struct Relative {
    id: i64,
    title: String,
    status: Status,
    is_folded: bool,
}

/// Incidents below this one that are listed.
const CHILDREN_MAX: u32 = 50;

/// What stands above an incident and below it.
struct Family {
    parent: Option<Incident>,
    children: Vec<Incident>,
}

fn family(conn: &mut Conn, scope: &Scope, incident: &Incident) -> Result<Family, incidents::Error> {
    let parent = match incident.parent_id.map(|id| incidents::get(conn, scope, id)) {
        // Who sees a part of the tree may not see what explains it.
        None | Some(Err(incidents::Error::NotFound)) => None,
        Some(Ok(detail)) => Some(detail.incident),
        Some(Err(error)) => return Err(error),
    };
    let below = Filter { parent_id: Some(incident.id), ..Filter::default() };
    Ok(Family { parent, children: incidents::list(conn, scope, &below, None, CHILDREN_MAX)? })
}

fn relative(shell: &Shell, incident: &Incident) -> Relative {
    Relative {
        id: incident.id,
        title: title(shell, incident),
        status: status(shell, &incident.state),
        is_folded: incident.masked_since_ms.is_some(),
    }
}

async fn show(
    shell: Shell,
    state: web::Data<State>,
    caller: Caller,
    Path(id): Path<i64>,
) -> Result<HttpResponse, Problem> {
    let scope = caller.scope.clone();
    let read = move |conn: &mut Conn| {
        let detail = incidents::get(conn, &scope, id)?;
        let family = family(conn, &scope, &detail.incident)?;
        Ok::<_, incidents::Error>((detail, family))
    };
    let (detail, family) = state.db.read(read).await?;
    let tree = organizations::within(&state, caller.scope.clone()).await?;
    let organization = organizations::chain(&tree, &detail.incident.org_path).join(" › ");
    shell::ok(&assemble(shell, &caller, detail, &family, organization))
}

fn assemble(
    shell: Shell,
    caller: &Caller,
    detail: IncidentDetail,
    family: &Family,
    organization: String,
) -> IncidentPage {
    let incident = &detail.incident;
    let may_write = shell.may(Permission::IncidentsWrite);
    let may =
        |event| may_write && IncidentState::parse(&incident.state).is_some_and(|state| step(state, event).is_ok());
    let listed = i64::try_from(detail.terminals.len()).unwrap_or(i64::MAX);
    let beyond = incident.affected.saturating_sub(listed);
    let judged = judged(incident, &detail.evidence);
    let whole = evidence::view(&shell, &detail.evidence);
    let above =
        switches::above_evidence(&shell, &detail.evidence).or_else(|| explain::of_halt(&shell, &detail.evidence));
    IncidentPage {
        id: incident.id,
        title: title(&shell, incident),
        level: LevelTag::of(&incident.level),
        status: status(&shell, &incident.state),
        summary: shell.count("incident-affected-n", &incident.affected),
        may_acknowledge: may(Event::Acknowledge),
        may_take: may(Event::Assign) && incident.owner_id != Some(caller.id),
        may_mitigate: may(Event::Mitigate),
        may_resolve: may(Event::Resolve),
        may_note: may(Event::Note),
        note_chars_max: NOTE_CHARS_MAX,
        leads: judged.iter().map(|gate| rollout_evidence::halted_by(&shell, gate)).chain(above).collect(),
        is_beyond_looking: detail.evidence.get(halts::LOCALIZED).is_some_and(|found| found == halts::TOO_MUCH)
            && shell.may(Permission::FailuresRead),
        gate: judged.as_ref().map(|gate| rollout_evidence::view(&shell, gate)),
        evidence: match &judged {
            None => whole,
            Some(gate) => EvidenceView { raw: whole.raw, ..evidence::view(&shell, &beside(&detail.evidence, gate)) },
        },
        transaction: transaction(&shell, &detail),
        facts: facts(&shell, &detail, organization),
        rollout_id: incident.rollout_id.filter(|_| shell.may(Permission::RolloutsRead)),
        terminals_beyond: (beyond > 0 && listed > 0).then(|| shell.count("incident-terminals-beyond", &beyond)),
        lines: lines(&shell, &detail.timeline),
        sent: detail.alerts.iter().flat_map(|alert| sent(&shell, alert)).collect(),
        parent: family
            .parent
            .as_ref()
            .map(|parent| Relative { is_folded: incident.masked_since_ms.is_some(), ..relative(&shell, parent) }),
        children: family.children.iter().map(|child| relative(&shell, child)).collect(),
        terminals: detail.terminals.into_iter().map(|terminal| terminal.sn).collect(),
        shell,
    }
}

/// Where the transaction stands that a verdict is about: a payment that a channel told, what somebody looked up, or what the
/// terminal reported.
fn transaction(shell: &Shell, detail: &IncidentDetail) -> Option<String> {
    let item = detail.evidence.get("item")?.as_str()?;
    let sn = || detail.terminals.first().map(|terminal| terminal.sn.as_str());
    match item.split_once(':') {
        Some(("feed", id)) => {
            let id: i64 = id.parse().ok()?;
            shell.may(Permission::SettlementsRead).then(|| format!("/reconciliation/settlements/{id}"))
        }
        Some(("lookup", _)) => {
            shell.may(Permission::FailuresRead).then(|| Some(format!("/lookups?{}", query_pair("sn", sn()?))))?
        }
        Some(("payment", event)) => shell.may(Permission::FailuresRead).then(|| Some(address(sn()?, event)))?,
        _ => shell.may(Permission::FailuresRead).then(|| Some(address(sn()?, item)))?,
    }
}

/// The gate's judgement where one stopped something: it is shown as on the rollout's own page.
fn judged(incident: &Incident, evidence: &Value) -> Option<Evidence> {
    let kinds = [Kind::RolloutHalted, Kind::RolloutScopeStopped];
    let is_gates = kinds.iter().any(|kind| kind.as_str() == incident.kind);
    is_gates.then(|| Evidence::deserialize(evidence).ok()).flatten()
}

/// What an incident's evidence says beside the gate's judgement.
fn beside(evidence: &Value, gate: &Evidence) -> Value {
    let shown = serde_json::to_value(gate).unwrap_or_default();
    let members = evidence.as_object().into_iter().flatten();
    members.filter(|(name, _)| shown.get(name).is_none()).map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn facts(shell: &Shell, detail: &IncidentDetail, organization: String) -> Vec<(String, String)> {
    let incident = &detail.incident;
    let moment = |at_ms| format!("{} · {}", shell.moments.absolute(at_ms), shell.moments.ago(at_ms));
    let owner = incident.owner_name.clone().unwrap_or_else(|| shell.say("incident-nobody"));
    let mut facts = vec![
        (shell.say("incident-owner"), owner),
        (shell.say("incident-opened"), moment(incident.opened_at_ms)),
        (shell.say("incident-seen"), moment(incident.last_seen_ms)),
        (shell.say("incident-occurrences"), shell.number(&incident.occurrences)),
    ];
    if let Some(due_ms) = incident.due_ms {
        let due = format!("{} · {}", shell.moments.absolute(due_ms), shell.moments.ahead(due_ms));
        facts.push((shell.say("incident-due"), due));
    }
    if let Some(at_ms) = incident.resolved_at_ms {
        facts.push((shell.say("incident-resolved"), moment(at_ms)));
    }
    if !organization.is_empty() {
        facts.push((shell.say("terminal-organization"), organization));
    }
    facts
}

fn lines(shell: &Shell, timeline: &[TimelineEntry]) -> Vec<Line> {
    let openings = timeline.iter().filter(|entry| entry.evidence.is_some()).count();
    let line = |entry: &TimelineEntry| Line {
        status: Status {
            tone: Tone::of_incident_event(&entry.event),
            word: shell.word("incident-event", &entry.event),
        },
        who: match entry.actor_kind.as_str() {
            "system" => shell.word("actor", "system"),
            _ => entry.actor_name.clone(),
        },
        note: entry.note.clone(),
        at: shell.moments.absolute(entry.at_ms),
        ago: shell.moments.ago(entry.at_ms),
        // With one opening it is the evidence that stands above.
        evidence: entry.evidence.as_ref().filter(|_| openings > 1).map(|then| evidence::view(shell, then)),
    };
    timeline.iter().map(line).collect()
}

/// One line for each delivery, or one for an alert that nobody gets.
fn sent(shell: &Shell, alert: &Alert) -> Vec<Sent> {
    let what = shell.word("alert", &alert.kind);
    let at = shell.moments.absolute(alert.created_at_ms);
    if alert.deliveries.is_empty() {
        let word = shell.word("alert-state", &alert.state);
        let status = Status { tone: Tone::of_delivery(&alert.state), word };
        let is_unrouted = alert.state == AlertState::Unrouted.as_str();
        return vec![Sent { status, what, channel: String::new(), is_unrouted, at, error: String::new() }];
    }
    let line = |delivery: &crate::alerts::Delivery| Sent {
        status: Status { tone: Tone::of_delivery(&delivery.state), word: shell.word("alert-state", &delivery.state) },
        what: what.clone(),
        channel: delivery.channel.clone(),
        is_unrouted: false,
        at: delivery.finished_at_ms.map_or_else(|| at.clone(), |at_ms| shell.moments.absolute(at_ms)),
        error: delivery.error.clone(),
    };
    alert.deliveries.iter().map(line).collect()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    #[serde(default)]
    note: String,
}

async fn acknowledge(
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Form(said): Form<Said>,
) -> Result<HttpResponse, Problem> {
    act(&state, acting, id, Act::Acknowledge, said.note, "acknowledged").await
}

async fn take(
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Path(id): Path<i64>,
    Form(said): Form<Said>,
) -> Result<HttpResponse, Problem> {
    incidents::assign(&state.db, caller, actor, id, None, said.note, state.clock.now()).await?;
    Ok(back(id, "taken"))
}

async fn mitigate(
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Form(said): Form<Said>,
) -> Result<HttpResponse, Problem> {
    act(&state, acting, id, Act::Mitigate, said.note, "mitigated").await
}

async fn resolve(
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Form(said): Form<Said>,
) -> Result<HttpResponse, Problem> {
    act(&state, acting, id, Act::Resolve, said.note, "resolved").await
}

async fn note(
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Form(said): Form<Said>,
) -> Result<HttpResponse, Problem> {
    act(&state, acting, id, Act::Note, said.note, "noted").await
}

async fn act(
    state: &State,
    Acting { caller, actor }: Acting,
    id: i64,
    act: Act,
    note: String,
    done: &str,
) -> Result<HttpResponse, Problem> {
    let now = state.clock.now();
    state.db.write(move |conn| incidents::act(conn, &caller, &actor, id, &act, &note, now)).await?;
    Ok(back(id, done))
}

fn back(id: i64, done: &str) -> HttpResponse {
    shell::see_other(&format!("/incidents/{id}?done={done}"))
}
