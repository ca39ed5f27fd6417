//! Conditions and failures in words: what a terminal measured, as people say it.

use tillward_protocol::condition::Condition;
use tillward_protocol::failure::Failure;

use super::evidence_pack::address;
use super::shell::Shell;
use super::verdict::{self, VerdictPanel};
use crate::failures::FailureRow;

/// One failure, with a line to read at a glance and everything behind it.
pub(super) struct FailureView {
    pub(super) at: String,
    pub(super) ago: String,
    /// When the server got it.
    pub(super) received: String,
    /// Stage, code, kind of transaction.
    pub(super) what: String,
    /// Network, carrier, signal, firmware.
    pub(super) under: String,
    pub(super) groups: Vec<Group>,
    /// What the rules say; none while it is not judged.
    pub(super) verdict: Option<VerdictPanel>,
    /// Address of what is known about it.
    pub(super) evidence: String,
}

/// Facts that belong together.
pub(super) struct Group {
    pub(super) name: String,
    pub(super) facts: Vec<(String, String)>,
}

/// An attribute of cohort cells and its value: `固件 1.2.0`, `信号弱`.
pub(super) fn attribute(shell: &Shell, name: &str, value: &str) -> String {
    match name {
        "access" | "carrier" | "signal" => shell.word(name, value),
        "in_update" if value == "yes" => shell.say("condition-in-update"),
        "in_update" if value == "no" => shell.say("condition-not-in-update"),
        _ if value.is_empty() || value == "unknown" => {
            format!("{} {}", shell.word("attribute", name), shell.say("evidence-unknown"))
        }
        _ => format!("{} {value}", shell.word("attribute", name)),
    }
}

/// `code:91` or `stage:tls` in words.
pub(super) fn outcome(shell: &Shell, name: &str) -> String {
    match name.split_once(':') {
        Some(("code", code)) => shell.with("failure-code", "code", code),
        Some(("stage", stage)) => shell.word("stage", stage),
        _ => name.to_owned(),
    }
}

/// `4G · 中国移动 · 信号弱`; what is not known is left out.
pub(super) fn network(shell: &Shell, access: &str, carrier: &str, signal: &str) -> String {
    // The SIM card's carrier has no part in a connection over WiFi or cable.
    let carrier = if matches!(access, "wifi" | "eth" | "bt_phone") { "" } else { carrier };
    let parts = [("access", access), ("carrier", carrier), ("signal", signal)];
    let known = parts.into_iter().filter(|(_, value)| !value.is_empty() && *value != "unknown");
    let words: Vec<String> = known.map(|(family, value)| shell.word(family, value)).collect();
    if words.is_empty() { "–".to_owned() } else { words.join(" · ") }
}

pub(super) fn failure(shell: &Shell, row: &FailureRow) -> FailureView {
    let stage = shell.word("stage", &row.stage);
    let code = row.response_code.as_deref().map(|code| shell.with("failure-code", "code", code));
    let kind = shell.word("transaction", &row.transaction_type);
    let what: Vec<String> = [Some(kind), Some(stage), code].into_iter().flatten().collect();
    let network = network(shell, &row.access, &row.carrier, &row.signal);
    let event: Option<Failure> = serde_json::from_value(row.event.clone()).ok();
    let mut groups = vec![happened(shell, row, event.as_ref())];
    if let Some(event) = &event {
        groups.push(radio(shell, &event.condition));
        groups.push(latency(shell, &event.condition));
    }
    groups.push(software(shell, row, event.as_ref()));
    groups.retain(|group| !group.facts.is_empty());
    FailureView {
        at: shell.moments.absolute(row.occurred_at_ms),
        ago: shell.moments.ago(row.occurred_at_ms),
        received: shell.moments.absolute(row.received_at_ms),
        what: what.join(" · "),
        under: firmware(row).map_or_else(|| network.clone(), |version| format!("{network} · {version}")),
        groups,
        verdict: row.verdict.as_ref().map(|verdict| verdict::panel(shell, verdict)),
        evidence: address(&row.sn, &row.event_id),
    }
}

/// The firmware at that moment; none where nobody said.
fn firmware(row: &FailureRow) -> Option<String> {
    (row.firmware != "unknown").then(|| row.firmware.clone())
}

/// Collects the facts that are known.
struct Facts<'a> {
    shell: &'a Shell,
    facts: Vec<(String, String)>,
}

impl<'a> Facts<'a> {
    fn new(shell: &'a Shell) -> Self {
        Self { shell, facts: Vec::new() }
    }

    fn add(mut self, key: &str, value: Option<String>) -> Self {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            self.facts.push((self.shell.say(key), value));
        }
        self
    }

    fn named(self, key: &str) -> Group {
        Group { name: self.shell.say(key), facts: self.facts }
    }
}

fn with_unit<T: std::fmt::Display>(value: Option<T>, unit: &str) -> Option<String> {
    value.map(|value| format!("{value} {unit}"))
}

fn happened(shell: &Shell, row: &FailureRow, event: Option<&Failure>) -> Group {
    let yuan = row.amount_fen.map(|fen| format!("{}.{:02}", fen / 100, (fen % 100).abs()));
    let amount = yuan.map(|yuan| shell.with("failure-yuan", "yuan", yuan));
    Facts::new(shell)
        .add("failure-stage", Some(shell.word("stage", &row.stage)))
        .add("failure-response", row.response_code.clone())
        .add("failure-transaction", Some(shell.word("transaction", &row.transaction_type)))
        .add("failure-amount", amount)
        .add("failure-duration", event.and_then(|event| with_unit(event.duration_ms, "ms")))
        .add("failure-trace", event.and_then(|event| event.trace_no.clone()))
        .add("failure-note", event.and_then(|event| event.note.clone()))
        .add("failure-received", Some(shell.moments.absolute(row.received_at_ms)))
        .named("failure-happened")
}

fn radio(shell: &Shell, condition: &Condition) -> Group {
    let carrier =
        condition.plmn.as_deref().map(|plmn| format!("{} ({plmn})", shell.word("carrier", condition.carrier())));
    Facts::new(shell)
        .add("terminal-network", condition.access.map(|access| shell.word("access", access.as_str())))
        .add("condition-carrier", carrier)
        .add("condition-band", Some(shell.word("signal", condition.signal_band().as_str())))
        .add("condition-rsrp", with_unit(condition.rsrp_dbm, "dBm"))
        .add("condition-rsrq", with_unit(condition.rsrq_db, "dB"))
        .add("condition-sinr", with_unit(condition.sinr_db, "dB"))
        .add("condition-rssi", with_unit(condition.rssi_dbm, "dBm"))
        .add("condition-cell", condition.cell_id.map(|cell| cell.to_string()))
        .named("condition-radio")
}

fn latency(shell: &Shell, condition: &Condition) -> Group {
    Facts::new(shell)
        .add("condition-dns", with_unit(condition.dns_ms, "ms"))
        .add("condition-tcp", with_unit(condition.tcp_ms, "ms"))
        .add("condition-tls", with_unit(condition.tls_ms, "ms"))
        .add("condition-rtt", with_unit(condition.rtt_ms, "ms"))
        .add("condition-host-rtt", with_unit(condition.host_rtt_ms, "ms"))
        .add("condition-loss", condition.loss_percent.map(|percent| format!("{percent}%")))
        .named("condition-latency")
}

fn software(shell: &Shell, row: &FailureRow, event: Option<&Failure>) -> Group {
    let in_update = event
        .and_then(|event| event.in_update)
        .map(|is_in_update| shell.say(if is_in_update { "condition-in-update" } else { "condition-not-in-update" }));
    let short = |hash: &String| hash.chars().take(12).collect::<String>();
    Facts::new(shell)
        .add("terminal-firmware", firmware(row))
        .add("attribute-app", event.and_then(|event| event.app.as_ref().map(ToString::to_string)))
        .add("attribute-config", row.config_hash.as_ref().map(short))
        .add("attribute-in_update", in_update)
        .add("condition-battery", event.and_then(|event| event.battery_percent).map(|percent| format!("{percent}%")))
        .named("terminal-software")
}
