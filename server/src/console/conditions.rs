//! Conditions and failures in words: what a terminal measured, as people say it.

use serde::Deserialize;
use tillward_protocol::condition::Condition;
use tillward_protocol::failure::Failure;

use super::evidence_pack::address;
use super::i18n::Language;
use super::shell::Shell;
use super::verdict::{self, VerdictPanel};
use crate::failures::incidents::{self, Kind};
use crate::failures::{self, Class, FailureRow};

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
    attribute_in(shell.language, name, value)
}

/// A condition that somebody asked for: a value, or all but one.
pub(super) fn wanted(shell: &Shell, name: &str, value: &str) -> String {
    match failures::unwanted(value) {
        Some(unwanted) => shell.with("condition-not", "condition", attribute(shell, name, unwanted)),
        None => attribute(shell, name, value),
    }
}

fn attribute_in(language: Language, name: &str, value: &str) -> String {
    match name {
        "access" | "carrier" | "signal" => language.word(name, value),
        "in_update" if value == "yes" => language.say("condition-in-update"),
        "in_update" if value == "no" => language.say("condition-not-in-update"),
        _ if value.is_empty() || value == "unknown" => {
            format!("{} {}", language.word("attribute", name), language.say("evidence-unknown"))
        }
        _ => format!("{} {value}", language.word("attribute", name)),
    }
}

/// `model=a · signal=poor` in words; what is no condition stays as it is.
pub(super) fn set(language: Language, text: &str) -> String {
    let condition = |part: &str| match part.split_once('=') {
        Some((name, value)) => attribute_in(language, name, value),
        None => part.to_owned(),
    };
    text.split(" · ").map(condition).collect::<Vec<_>>().join(" · ")
}

/// What happened to what, as the title of an incident or an alert says. A rise of failures is kept with its conditions.
pub(super) fn title(language: Language, key: &str, values: &[(&str, &str)]) -> String {
    if key != incidents::title_key(Kind::FailureRise) {
        return language.with_any(key, values);
    }
    let worded: Vec<(&str, String)> = values.iter().map(|(name, value)| (*name, set(language, value))).collect();
    let worded: Vec<(&str, &str)> = worded.iter().map(|(name, value)| (*name, value.as_str())).collect();
    language.with_any(key, &worded)
}

/// `code:91`, `stage:tls` or a group of outcomes in words.
pub(super) fn outcome(shell: &Shell, name: &str) -> String {
    match name.split_once(':') {
        Some(("code", code)) => shell.with("failure-code", "code", code),
        Some(("stage", stage)) => shell.word("stage", stage),
        None if Class::parse(name).is_some() => shell.word("outcomes", name),
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
    groups.extend(row.told.as_ref().and_then(|told| Some(told_before(shell, &Failure::deserialize(told).ok()?))));
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

fn amount(shell: &Shell, amount_fen: Option<i64>) -> Option<String> {
    let yuan = amount_fen.map(|fen| format!("{}.{:02}", fen / 100, (fen % 100).abs()));
    yuan.map(|yuan| shell.with("failure-yuan", "yuan", yuan))
}

/// What an organization had told of a failure that the terminal reported later.
fn told_before(shell: &Shell, told: &Failure) -> Group {
    Facts::new(shell)
        .add("failure-stage", Some(shell.word("stage", told.stage.as_str())))
        .add("failure-response", told.response_code.clone())
        .add("failure-transaction", Some(shell.word("transaction", told.transaction.as_str())))
        .add("failure-amount", amount(shell, told.amount_fen))
        .add("failure-note", told.note.clone())
        .named("failure-told")
}

fn happened(shell: &Shell, row: &FailureRow, event: Option<&Failure>) -> Group {
    Facts::new(shell)
        .add("failure-stage", Some(shell.word("stage", &row.stage)))
        .add("failure-response", row.response_code.clone())
        .add("failure-transaction", Some(shell.word("transaction", &row.transaction_type)))
        .add("failure-amount", amount(shell, row.amount_fen))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rise_of_failures_is_titled_in_the_readers_words_and_sent_in_the_channels() {
        let key = incidents::title_key(Kind::FailureRise);
        for (language, expected) in [
            (Language::Chinese, "失败交易上升：固件 4.2.0 · 4G · 信号弱"),
            (Language::English, "More payments are failing: Firmware 4.2.0 · 4G · Poor signal"),
        ] {
            let values = [("subject", "firmware=4.2.0 · access=4g · signal=poor")];
            assert_eq!(title(language, &key, &values), expected);
            assert_eq!(crate::console::text(language.tag(), &key, &values), expected);
        }
    }

    #[test]
    fn only_what_is_a_condition_is_put_in_words() {
        let rise = incidents::title_key(Kind::FailureRise);
        assert_eq!(
            title(Language::English, &rise, &[("subject", "4.2.0 · 2g")]),
            "More payments are failing: 4.2.0 · 2g"
        );
        let tamper = incidents::title_key(Kind::Tamper);
        assert!(title(Language::English, &tamper, &[("subject", "access=4g")]).ends_with("access=4g"));
    }
}
