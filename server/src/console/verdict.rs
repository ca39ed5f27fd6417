//! A verdict in words: what it is, why, what else it may be and what could not be checked (为什么这样判断).

use super::i18n::Language;
use super::shell::Shell;
use super::status::{Status, Tone};
use crate::failures::classify::{NotChecked, Reason, Rule, Standing, Symptom};
use crate::failures::verdicts::{AdviceView, VerdictView};

/// Fields of reasons that have words of their own; others are shown as they are.
pub(super) const FACTS: [&str; 46] = [
    "stage",
    "access",
    "response_code",
    "rsrp_dbm",
    "sinr_db",
    "rssi_dbm",
    "registration",
    "apn_ok",
    "rtt_ms",
    "clock_offset_s",
    "clock_offset_ms",
    "reconnects_10min",
    "all_hosts_unreachable",
    "certificate_expired_s",
    "certificate_expires_ms",
    "month_bytes",
    "quota_bytes",
    "iccid_changed_s",
    "imei_changed_s",
    "iccid",
    "imei",
    "own_update",
    "own_update_ended_s",
    "config_changed",
    "config_changed_s",
    "version_changed",
    "version_changed_s",
    "peers_fine",
    "bank_outage",
    "same_code_day",
    "merchant_code_day",
    "signed_in",
    "local_minute",
    "approved_fen",
    "card_read_run",
    "card_read_entries",
    "reader",
    "reader_errors",
    "boot_reason",
    "booted_before_s",
    "tamper",
    "ped_state",
    "operator_action",
    "merchant_no_settled",
    "merchant_no_sent",
    "residual_fen",
];

/// What is shown of one verdict.
pub(super) struct VerdictPanel {
    /// The cause in the reader's language.
    pub(super) status: Status,
    /// Symptom, family, standing and confidence.
    pub(super) facts: Vec<(String, String)>,
    /// What the response code means.
    pub(super) meaning: Option<String>,
    pub(super) advice: String,
    pub(super) reasons: Vec<ReasonRow>,
    pub(super) alternatives: Vec<String>,
    pub(super) not_checked: Vec<String>,
    /// Said when other tables are in force now.
    pub(super) stale: Option<String>,
    pub(super) earlier: Vec<String>,
}

/// One condition that held.
pub(super) struct ReasonRow {
    pub(super) rule: String,
    pub(super) field: String,
    pub(super) observed: String,
    pub(super) threshold: String,
}

/// A verdict as the reader's language says it.
pub(super) fn panel(shell: &Shell, verdict: &VerdictView) -> VerdictPanel {
    let name = |advice: &AdviceView| chosen(shell, &advice.name_zh, &advice.name_en);
    let cause = verdict.advice.as_ref().map_or_else(|| verdict.cause.as_str().to_owned(), name);
    let advice = verdict.advice.as_ref();
    let mut facts = vec![
        (shell.say("verdict-symptom"), shell.word("symptom", &verdict.symptom)),
        (shell.say("verdict-family"), shell.word("family", verdict.family)),
    ];
    if let (Some(rule), Some(confidence)) = (verdict.rule, verdict.confidence) {
        let is_of_numbers = matches!(rule, Rule::R1 | Rule::R1a | Rule::R1b | Rule::R1c);
        // How sure it is that the numbers differ; never that anybody did wrong.
        let key = if is_of_numbers { shell.say("verdict-confidence-differs") } else { shell.say("verdict-confidence") };
        facts.push((shell.say("verdict-rule"), format!("{} · {}", rule.as_str(), shell.word("rule", rule.as_str()))));
        facts.push((key, format!("{:.0}%", confidence * 100.0)));
        facts.push((shell.say("verdict-standing"), shell.word("standing", &verdict.standing)));
    }
    if let Some(root) = verdict.root {
        facts.push((shell.say("verdict-root"), root.as_str().to_owned()));
    }
    facts.push((shell.say("verdict-tables"), verdict.tables_version.chars().take(12).collect()));
    VerdictPanel {
        status: Status { tone: tone(verdict), word: cause },
        facts,
        meaning: advice.and_then(|advice| {
            let (zh, en) = (advice.meaning_zh.as_ref()?, advice.meaning_en.as_ref()?);
            Some(chosen(shell, zh, en))
        }),
        advice: advice.map(|advice| chosen(shell, &advice.advice_zh, &advice.advice_en)).unwrap_or_default(),
        reasons: verdict.reasons.iter().map(|reason| reason_row(shell, reason)).collect(),
        alternatives: verdict
            .alternatives
            .iter()
            .map(|other| format!("{} · {}", other.cause.as_str(), shell.word("rule", other.rule.as_str())))
            .collect(),
        not_checked: not_checked(shell, &verdict.not_checked),
        stale: (!verdict.is_current).then(|| shell.say("verdict-stale")),
        earlier: verdict
            .earlier
            .iter()
            .map(|earlier| format!("{} · {}", shell.moments.absolute(earlier.judged_at_ms), earlier.cause))
            .collect(),
    }
}

fn chosen(shell: &Shell, zh: &str, en: &str) -> String {
    match shell.language {
        Language::Chinese => zh.to_owned(),
        Language::English => en.to_owned(),
    }
}

/// A fee and what is in order are no faults; what is only suspected does not shout.
fn tone(verdict: &VerdictView) -> Tone {
    let (symptom, standing) = (Symptom::parse(&verdict.symptom), Standing::parse(&verdict.standing));
    match (symptom, verdict.severity.as_str(), standing) {
        (Some(Symptom::Fee | Symptom::None), _, _) => Tone::Quiet,
        (_, "critical" | "high", Some(Standing::Review)) => Tone::Warning,
        (_, "critical" | "high", _) => Tone::Bad,
        (_, "medium", _) => Tone::Warning,
        _ => Tone::Quiet,
    }
}

fn fact(shell: &Shell, name: &str) -> String {
    if FACTS.contains(&name) { shell.word("fact", name) } else { name.to_owned() }
}

fn reason_row(shell: &Shell, reason: &Reason) -> ReasonRow {
    let observed = match reason.field.as_str() {
        "stage" => shell.word("stage", &reason.observed),
        "access" => shell.word("access", &reason.observed),
        _ => reason.observed.clone(),
    };
    let threshold =
        if reason.threshold == "unmapped" { shell.say("verdict-unmapped") } else { reason.threshold.clone() };
    ReasonRow { rule: reason.rule.as_str().to_owned(), field: fact(shell, &reason.field), observed, threshold }
}

/// `R4：RSRP、注册状态`, one line a rule.
fn not_checked(shell: &Shell, lacks: &[NotChecked]) -> Vec<String> {
    let mut lines: Vec<(Rule, Vec<String>)> = Vec::new();
    for lack in lacks {
        let word = fact(shell, &lack.missing);
        match lines.iter_mut().find(|(rule, _)| *rule == lack.rule) {
            Some((_, words)) => words.push(word),
            None => lines.push((lack.rule, vec![word])),
        }
    }
    lines.into_iter().map(|(rule, words)| format!("{} · {}", rule.as_str(), words.join(" · "))).collect()
}
