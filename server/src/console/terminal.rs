//! One terminal: what is the matter with it, its conditions over time, its failures and updates.

use actix_web::{HttpResponse, web};
use askama::Template;
use serde::Deserialize;

use super::chart::{self, ConditionChart, Mark, Svg};
use super::conditions::{self, FailureView};
use super::config::{self, ConfigView};
use super::form::Form;
use super::network_advice;
use super::organizations;
use super::rollout::{self, phase_status};
use super::shell::{self, Shell};
use super::sign_in::Nothing;
use super::status::{Status, Tone};
use super::why::{self, Facts};
use crate::checkin::{self, Sample};
use crate::failures::advice::{self, StoreNetwork};
use crate::failures::{self, FailureRow};
use crate::http::State;
use crate::http::auth::Acting;
use crate::http::body::{Path, Query};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::problem::Problem;
use crate::operators::{Caller, Permission};
use crate::organizations::Organization;
use crate::profiles::{self, TerminalConfig};
use crate::rollouts::{self, LiveAssignment, TimelineEvent};
use crate::terminals::enrolment::{CodesRequest, IssuedCode, issue_codes};
use crate::terminals::lifecycle::step;
use crate::terminals::list::{TerminalRow, row};
use crate::terminals::{self, Action, LifecycleStep, Terminal};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/terminals/{sn}", Access::Page(Permission::TerminalsRead), "", show),
        Endpoint::post("/terminals/{sn}/lifecycle", Access::Page(Permission::TerminalsWrite), "", act),
        Endpoint::post("/terminals/{sn}/activation-code", Access::Page(Permission::TerminalsActivate), "", activate),
    ]
}

const HOUR_MS: i64 = 3_600_000;
/// Rows of the chart's table: the newest ones.
const SAMPLE_ROWS_MAX: usize = 100;
/// Failures with their conditions.
const FAILURES_MAX: u32 = 20;
/// Failures marked in the chart.
const MARKS_MAX: u32 = 300;
/// Lines of the update timeline.
const TIMELINE_MAX: usize = 30;

/// How much time the chart shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Span {
    Day,
    Week,
}

impl Span {
    const ALL: [Self; 2] = [Self::Day, Self::Week];

    fn name(self) -> &'static str {
        match self {
            Self::Day => "24h",
            Self::Week => "7d",
        }
    }

    fn length_ms(self) -> i64 {
        match self {
            Self::Day => 24 * HOUR_MS,
            Self::Week => 7 * 24 * HOUR_MS,
        }
    }

    fn tick_ms(self) -> i64 {
        match self {
            Self::Day => 4 * HOUR_MS,
            Self::Week => 24 * HOUR_MS,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
struct TerminalQuery {
    #[serde(default)]
    span: Option<String>,
}

struct SampleRow {
    at: String,
    network: String,
    signal: String,
    sinr: String,
    rtt: String,
    loss: String,
    firmware: String,
    transactions: String,
}

struct UpdateLine {
    status: Status,
    rollout_id: i64,
    rollout: String,
    at: String,
    detail: String,
}

#[derive(Template)]
#[template(path = "terminal.html")]
struct TerminalPage {
    shell: Shell,
    sn: String,
    sn_tail: String,
    version: i64,
    chain: Vec<String>,
    connection: Status,
    lifecycle: Status,
    model: String,
    seen: String,
    seen_at: String,
    next_check_in: Option<String>,
    why: Vec<String>,
    why_tone: &'static str,
    spans: Vec<(&'static str, bool)>,
    has_conditions: bool,
    chart: Svg,
    samples: Vec<SampleRow>,
    failures_note: String,
    failures: Vec<FailureView>,
    config: ConfigView,
    network: Option<network_advice::View>,
    software: Vec<(String, String)>,
    record: Vec<(String, String)>,
    timeline: Vec<UpdateLine>,
    actions: Vec<&'static str>,
    may_activate: bool,
    activation_code: Option<String>,
    activation_note: String,
}

/// Everything the page is made from, read at one moment.
struct Read {
    terminal: Terminal,
    row: TerminalRow,
    samples: Vec<Sample>,
    failures: Vec<FailureRow>,
    marked: Vec<FailureRow>,
    timeline: Vec<TimelineEvent>,
    live: Option<LiveAssignment>,
    config: TerminalConfig,
    network: Option<StoreNetwork>,
}

async fn show(
    shell: Shell,
    state: web::Data<State>,
    caller: Caller,
    Path(sn): Path<String>,
    Query(query): Query<TerminalQuery>,
) -> Result<HttpResponse, Problem> {
    let span = Span::ALL.into_iter().find(|span| query.span.as_deref() == Some(span.name())).unwrap_or(Span::Day);
    page(shell, &state, caller, sn, span, None).await
}

async fn page(
    shell: Shell,
    state: &State,
    caller: Caller,
    sn: String,
    span: Span,
    code: Option<IssuedCode>,
) -> Result<HttpResponse, Problem> {
    let now = shell.moments.now();
    let from_ms = now.0 - span.length_ms();
    let scope = caller.scope.clone();
    let read = state
        .db
        .read(move |conn| {
            let id = terminals::id_of_sn(conn, &scope, &sn)?.ok_or_else(Problem::not_found)?;
            let of_terminal = failures::Filter { terminal_id: Some(id), ..failures::Filter::default() };
            let in_span = failures::Filter { from_ms: Some(from_ms), ..of_terminal.clone() };
            Ok::<_, Problem>(Read {
                terminal: terminals::get(conn, &scope, id)?,
                row: row(conn, &scope, id, now)?,
                samples: checkin::samples(conn, &scope, id, from_ms, now.0 + 1)?,
                failures: failures::list(conn, &scope, &of_terminal, None, FAILURES_MAX)?,
                marked: failures::list(conn, &scope, &in_span, None, MARKS_MAX)?,
                timeline: rollouts::timeline(conn, id)?,
                live: rollouts::live_assignment(conn, &scope, id, now)?,
                config: profiles::terminal_config(conn, &scope, id)?,
                network: advice::of_terminal(conn, &scope, id)?,
            })
        })
        .await?;
    let tree = organizations::within(state, caller.scope).await?;
    shell::ok(&assemble(shell, read, &tree, span, code))
}

fn assemble(shell: Shell, read: Read, tree: &[Organization], span: Span, code: Option<IssuedCode>) -> TerminalPage {
    let Read { terminal, row, samples, failures, marked, timeline, live, config, network } = read;
    let connection = row.connection.as_str();
    let lifecycle = terminal.lifecycle.as_str();
    let latest = timeline.first();
    let facts = Facts {
        terminal: &terminal,
        row: &row,
        failures: &failures,
        failures_max: usize::try_from(FAILURES_MAX).unwrap_or(usize::MAX),
        latest,
        live: live.as_ref(),
    };
    let (why_tone, why) = why::sentences(&shell, &facts);
    let chart = draw(&shell, &terminal.sn, span, &samples, &marked);
    let may_write = shell.may(Permission::TerminalsWrite);
    let tail = terminal.sn.chars().rev().take(TAIL_CHARS).collect::<Vec<_>>().into_iter().rev().collect();
    TerminalPage {
        sn_tail: tail,
        version: terminal.version,
        chain: organizations::chain(tree, &terminal.org_path),
        connection: Status { tone: Tone::of_connection(connection), word: shell.word("connection", connection) },
        lifecycle: Status { tone: Tone::of_lifecycle(lifecycle), word: shell.word("lifecycle", lifecycle) },
        model: terminal.model.clone(),
        seen: match row.last_seen_ms {
            Some(at_ms) => shell.with("terminal-seen", "ago", shell.moments.ago(at_ms)),
            None => shell.say("terminal-never-seen"),
        },
        seen_at: row.last_seen_ms.map(|at_ms| shell.moments.absolute(at_ms)).unwrap_or_default(),
        next_check_in: row
            .next_check_in_ms
            .filter(|_| row.last_seen_ms.is_some())
            .map(|at_ms| shell.with("terminal-next", "when", shell.moments.ahead(at_ms))),
        why,
        why_tone,
        spans: Span::ALL.into_iter().map(|each| (each.name(), each == span)).collect(),
        has_conditions: !samples.is_empty() || !marked.is_empty(),
        chart,
        samples: samples.iter().rev().take(SAMPLE_ROWS_MAX).map(|sample| sample_row(&shell, sample)).collect(),
        failures_note: match i64::try_from(failures.len()) {
            Ok(0) | Err(_) => String::new(),
            Ok(n) => shell.count("terminal-failures-note", &n),
        },
        failures: failures.iter().map(|row| conditions::failure(&shell, row)).collect(),
        config: config::view(&shell, config, tree),
        network: network
            .filter(|_| shell.may(Permission::FailuresRead))
            .map(|store| network_advice::view(&shell, &store)),
        software: software(&shell, &row, latest),
        record: record(&shell, &terminal, &row),
        timeline: timeline.into_iter().take(TIMELINE_MAX).map(|event| update_line(&shell, event)).collect(),
        actions: if may_write { actions(&terminal) } else { Vec::new() },
        may_activate: shell.may(Permission::TerminalsActivate),
        activation_note: code
            .as_ref()
            .map(|code| shell.with("activation-expires", "when", shell.moments.ahead(code.expires_at_ms)))
            .unwrap_or_default(),
        activation_code: code.map(|code| code.code),
        sn: terminal.sn,
        shell,
    }
}

fn draw(shell: &Shell, sn: &str, span: Span, samples: &[Sample], marked: &[FailureRow]) -> Svg {
    let to_ms = shell.moments.now().0;
    let from_ms = to_ms - span.length_ms();
    let tick_ms = span.tick_ms();
    let mut ticks = Vec::new();
    let mut at_ms = shell.moments.floor(from_ms, tick_ms) + tick_ms;
    while at_ms < to_ms {
        let label = match span {
            Span::Day => shell.moments.hour_and_minute(at_ms),
            Span::Week => shell.moments.month_and_day(at_ms),
        };
        ticks.push((at_ms, label));
        at_ms += tick_ms;
    }
    let points: Vec<chart::Sample> = samples
        .iter()
        .map(|sample| chart::Sample {
            at_ms: sample.at_ms,
            signal_dbm: sample.rsrp_dbm.or(sample.rssi_dbm),
            rtt_ms: sample.rtt_ms,
        })
        .collect();
    let mark = |row: &FailureRow| {
        let view = conditions::failure(shell, row);
        Mark { at_ms: row.occurred_at_ms, text: format!("{} {}", view.at, view.what) }
    };
    let marks: Vec<Mark> = marked.iter().map(mark).collect();
    ConditionChart {
        from_ms,
        to_ms,
        samples: &points,
        failures: &marks,
        ticks: &ticks,
        title: &shell.with("chart-title", "sn", sn),
        description: &shell.language.with_two(
            "chart-description",
            ("from", &shell.moments.absolute(from_ms)),
            ("to", &shell.moments.absolute(to_ms)),
        ),
        signal_name: &shell.say("chart-signal"),
        rtt_name: &shell.say("chart-rtt"),
        failures_name: &shell.say("chart-failures"),
    }
    .draw()
}

fn sample_row(shell: &Shell, sample: &Sample) -> SampleRow {
    let measured = |value: Option<i64>| value.map_or_else(|| "–".to_owned(), |value| value.to_string());
    SampleRow {
        at: shell.moments.absolute(sample.at_ms),
        network: conditions::network(shell, &sample.access, &sample.carrier, ""),
        signal: measured(sample.rsrp_dbm.or(sample.rssi_dbm)),
        sinr: measured(sample.sinr_db),
        rtt: measured(sample.rtt_ms),
        loss: sample.loss_percent.map_or_else(|| "–".to_owned(), |percent| format!("{percent}%")),
        firmware: sample.firmware.clone(),
        transactions: format!("{} / {}", sample.transactions_ok, sample.transactions_failed),
    }
}

/// Names and values; what is not known is left out.
fn known(shell: &Shell, facts: Vec<(&str, Option<String>)>) -> Vec<(String, String)> {
    let given = facts.into_iter().filter_map(|(name, value)| Some((name, value.filter(|value| !value.is_empty())?)));
    given.map(|(name, value)| (shell.say(name), value)).collect()
}

fn short(hash: &str) -> String {
    hash.chars().take(16).collect()
}

/// Ordered and reported stand beside each other and are never merged.
fn software(shell: &Shell, row: &TerminalRow, latest: Option<&TimelineEvent>) -> Vec<(String, String)> {
    let ordered = latest.filter(|event| why::is_live(&event.phase)).map(|event| event.release_version.clone());
    let facts = vec![
        (key("terminal-desired"), ordered.or_else(|| row.firmware.clone())),
        (key("terminal-reported"), row.firmware.clone()),
        (key("terminal-slot"), row.slot.clone()),
        (key("attribute-app"), row.app.clone()),
        (key("terminal-agent"), row.agent.clone()),
        (key("terminal-config-desired"), row.desired_config_hash.as_deref().map(short)),
        (key("terminal-config"), row.config_hash.as_deref().map(short)),
        (key("terminal-check-ins"), Some(shell.number(&row.check_ins))),
    ];
    known(shell, facts)
}

fn record(shell: &Shell, terminal: &Terminal, row: &TerminalRow) -> Vec<(String, String)> {
    let facts = vec![
        (key("terminal-organization"), Some(row.organization_name.clone())),
        (key("terminal-merchant-no"), terminal.merchant_no.clone()),
        (key("terminal-merchant-name"), terminal.merchant_name.clone()),
        (key("terminal-store"), terminal.store_name.clone()),
        (key("terminal-terminal-no"), terminal.terminal_no.clone()),
        (key("terminal-region"), Some(terminal.region.clone())),
        (key("terminal-tags"), Some(terminal.tags.join(" "))),
        (key("terminal-tusn"), terminal.tusn.clone()),
        (key("terminal-iccid"), terminal.iccid.clone()),
        (key("terminal-imei"), terminal.imei.clone()),
        (key("terminal-enrolled"), terminal.enrolled_at_ms.map(|at_ms| shell.moments.absolute(at_ms))),
        (key("terminal-key"), terminal.key_fingerprint.as_deref().map(short)),
        (key("terminal-notes"), terminal.notes.clone()),
    ];
    known(shell, facts)
}

/// Marks a literal as the key of a text.
fn key(key: &'static str) -> &'static str {
    key
}

fn update_line(shell: &Shell, event: TimelineEvent) -> UpdateLine {
    let reason = event.reason.as_deref().map(|name| rollout::reason(shell, &event.phase, name));
    let detail: Vec<String> = [reason, event.detail].into_iter().flatten().collect();
    UpdateLine {
        status: phase_status(shell, &event.phase, event.reason.as_deref()),
        rollout_id: event.rollout_id,
        rollout: format!("{} · {}", event.rollout, event.release_version),
        at: shell.moments.absolute(event.at_ms),
        detail: detail.join(" — "),
    }
}

/// What may be done in its present state; moving between organizations needs a destination and is not among them.
fn actions(terminal: &Terminal) -> Vec<&'static str> {
    let offered = Action::ALL.into_iter().filter(|action| !matches!(action, Action::Allocate | Action::Recall));
    let allowed = offered.filter(|action| step(terminal.lifecycle, *action).is_ok());
    allowed.filter(|action| *action != Action::Bind || terminal.merchant_no.is_some()).map(Action::as_str).collect()
}

/// Characters of the serial number that are typed to confirm.
const TAIL_CHARS: usize = 4;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    action: Action,
    version: i64,
    confirm: String,
}

async fn act(
    state: web::Data<State>,
    acting: Acting,
    Path(sn): Path<String>,
    Form(asked): Form<Asked>,
) -> Result<HttpResponse, Problem> {
    let is_confirmed = asked.confirm.chars().count() >= TAIL_CHARS.min(sn.chars().count())
        && sn.to_uppercase().ends_with(&asked.confirm.to_uppercase());
    if !is_confirmed {
        return Err(Problem::invalid("confirm", "is not the end of the serial number"));
    }
    let Acting { caller, actor } = acting;
    let now = state.clock.now();
    let wanted = LifecycleStep { action: asked.action, version: asked.version };
    let location = format!("/terminals/{sn}?done=lifecycle");
    state
        .db
        .write(move |conn| {
            let id = terminals::id_of_sn(conn, &caller.scope, &sn)?.ok_or_else(Problem::not_found)?;
            terminals::act(conn, &actor, &caller.scope, id, wanted, now)?;
            Ok::<_, Problem>(())
        })
        .await?;
    Ok(shell::see_other(&location))
}

/// The code is in this one answer and nowhere else.
async fn activate(
    shell: Shell,
    state: web::Data<State>,
    acting: Acting,
    Path(sn): Path<String>,
    Form(Nothing {}): Form<Nothing>,
) -> Result<HttpResponse, Problem> {
    let Acting { caller, actor } = acting;
    let now = state.clock.now();
    let scope = caller.scope.clone();
    let code = state
        .db
        .write({
            let sn = sn.clone();
            move |conn| {
                let id = terminals::id_of_sn(conn, &scope, &sn)?.ok_or_else(Problem::not_found)?;
                let asked = CodesRequest { ids: vec![id], valid_days: None };
                let issued = issue_codes(conn, &actor, &scope, &asked, now)?;
                match (issued.codes.into_iter().next(), issued.refused.into_iter().next()) {
                    (Some(code), _) => Ok(code),
                    (None, Some(refused)) => Err(Problem::conflict(refused.reason)),
                    (None, None) => Err(Problem::not_found()),
                }
            }
        })
        .await?;
    page(shell, &state, caller, sn, Span::Day, Some(code)).await
}
