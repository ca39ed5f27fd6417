//! The rules for one failure: R3 to R10. Pure.

use tillward_protocol::checkin::{BootReason, Tamper};
use tillward_protocol::failure::{OperatorAction, ResponseSource, Stage};

use super::answer::answer;
use super::facts::{EventFacts, Happened, OwnUpdate};
use super::link::{annotate, good_link, weak_link};
use super::rows::Tables;
use super::seen;
use super::verdict::{Cause, Finding, FindingKind, Judgement, Reason, Rule, Severity, Standing, Symptom, Verdict};

/// One rule, or one that asks for several.
type Judge = fn(&EventFacts, &Tables, &mut Judgement) -> Option<Verdict>;

/// Judges one failure.
///
/// None of these rules speaks of merchants or settled amounts: what a terminal sees cannot show them.
pub fn judge_event(facts: &EventFacts, tables: &Tables) -> Judgement {
    let mut judgement = Judgement::default();
    let rules: [Judge; 9] = [in_update, weak_link, good_link, no_answer, answer, reader, reset, tamper, operator];
    for rule in rules {
        if let Some(verdict) = rule(facts, tables, &mut judgement) {
            // The same cause again, by a later rule, is no alternative.
            if judgement.matches().all(|earlier| earlier.cause != verdict.cause) {
                judgement.matched(verdict);
            }
        }
    }
    annotate(facts, tables, &mut judgement);
    judgement
}

/// A failure with a code or a message.
pub(super) fn failed(rule: Rule, cause: Cause, confidence: f64, severity: Severity, reasons: Vec<Reason>) -> Verdict {
    Verdict {
        rule,
        symptom: Symptom::Fail,
        cause,
        confidence,
        severity,
        standing: Standing::Suspected,
        root: None,
        segments: Vec::new(),
        reasons,
    }
}

/// Within `limit_s` seconds before the event.
pub(super) fn lately(happened: Happened, limit_s: i64) -> Option<i64> {
    match happened {
        Happened::BeforeMs(ms) if (0..=limit_s.saturating_mul(1000)).contains(&ms) => Some(ms / 1000),
        Happened::BeforeMs(_) | Happened::Not => None,
    }
}

/// Whether the answer shows that message and line were in order: then no update is to blame.
fn path_is_proven(facts: &EventFacts, tables: &Tables) -> bool {
    let row = facts.response_code.as_deref().and_then(|code| tables.codes.get(code));
    facts.response_source == Some(ResponseSource::Issuer) || row.is_some_and(|row| row.path_proven)
}

/// R3.
fn in_update(facts: &EventFacts, tables: &Tables, judgement: &mut Judgement) -> Option<Verdict> {
    if path_is_proven(facts, tables) {
        return None;
    }
    let limits = &tables.thresholds;
    let mut reasons = Vec::new();
    match facts.own_update {
        None => judgement.lacks(Rule::R3, "own_update"),
        Some(OwnUpdate::Not) => {}
        Some(OwnUpdate::UnderWay) => reasons.push(seen(Rule::R3, "own_update", "under_way", "not under way", 1.0)),
        Some(OwnUpdate::EndedBeforeMs(ms)) => {
            if let Some(s) = lately(Happened::BeforeMs(ms), limits.update_after_s) {
                reasons.push(seen(Rule::R3, "own_update_ended_s", s, format!("> {}", limits.update_after_s), 1.0));
            }
        }
    }
    let is_local = facts.response_source == Some(ResponseSource::Local)
        || facts.stage.is_some_and(|stage| {
            matches!(stage, Stage::CardRead | Stage::Pin | Stage::Pack | Stage::MacVerify | Stage::Esign)
        });
    if is_local {
        match facts.config_changed {
            None => judgement.lacks(Rule::R3, "config_changed"),
            Some(changed) => {
                if let Some(s) = lately(changed, limits.config_changed_s) {
                    let threshold = format!("> {}", limits.config_changed_s);
                    reasons.push(seen(Rule::R3, "config_changed_s", s, threshold, 0.8));
                }
            }
        }
    }
    let is_found = !reasons.is_empty();
    is_found.then(|| failed(Rule::R3, Cause::UpgWindow, 0.85, Severity::Low, reasons))
}

/// R5: no answer in time, while others had one.
fn no_answer(facts: &EventFacts, tables: &Tables, judgement: &mut Judgement) -> Option<Verdict> {
    if facts.stage != Some(Stage::Wait) || facts.response_code.is_some() {
        return None;
    }
    let limit = tables.thresholds.rtt_fine_ms;
    let (Some(peers_fine), Some(rtt_ms), Some(outage)) = (facts.peers_fine, facts.condition.rtt_ms, facts.bank_outage)
    else {
        for (field, is_there) in [
            ("peers_fine", facts.peers_fine.is_some()),
            ("rtt_ms", facts.condition.rtt_ms.is_some()),
            ("bank_outage", facts.bank_outage.is_some()),
        ] {
            if !is_there {
                judgement.lacks(Rule::R5, field);
            }
        }
        return None;
    };
    if !peers_fine || i64::from(rtt_ms) > limit {
        return None;
    }
    let reasons = vec![
        seen(Rule::R5, "peers_fine", true, true, 0.8),
        seen(Rule::R5, "rtt_ms", rtt_ms, format!("≤ {limit}"), 0.8),
        seen(Rule::R5, "bank_outage", outage, true, 1.0),
        seen(Rule::R5, "stage", "wait", "wait", 0.5),
    ];
    let cause = if outage { Cause::BnkHostTimeout } else { Cause::NetUplinkLoss };
    Some(failed(Rule::R5, cause, 0.6, Severity::Low, reasons))
}

/// R7: the card reader; only for failures to read a card.
fn reader(facts: &EventFacts, tables: &Tables, judgement: &mut Judgement) -> Option<Verdict> {
    if facts.stage != Some(Stage::CardRead) {
        return None;
    }
    let limits = &tables.thresholds;
    let mut reasons = Vec::new();
    match facts.card_read_run {
        None => judgement.lacks(Rule::R7, "card_read_run"),
        Some(run)
            if i64::from(run.failures) >= limits.reader_run_min
                && i64::from(run.entries) >= limits.reader_entries_min =>
        {
            reasons.push(seen(Rule::R7, "card_read_run", run.failures, format!("< {}", limits.reader_run_min), 1.0));
            let threshold = format!("< {}", limits.reader_entries_min);
            reasons.push(seen(Rule::R7, "card_read_entries", run.entries, threshold, 1.0));
        }
        Some(_) => {}
    }
    match facts.reader {
        None => judgement.lacks(Rule::R7, "reader"),
        Some(counts) => {
            let (errors, tries) = (i64::from(counts.errors), i64::from(counts.tries));
            if tries >= limits.reader_tries_min && errors * 100 > tries * limits.reader_error_share_percent {
                let threshold = format!("≤ {}%", limits.reader_error_share_percent);
                reasons.push(seen(Rule::R7, "reader_errors", format!("{errors}/{tries}"), threshold, 1.0));
            }
        }
    }
    let is_found = !reasons.is_empty();
    is_found.then(|| failed(Rule::R7, Cause::DevReader, 0.85, Severity::Medium, reasons))
}

/// R8: a crash or a loss of power shortly before.
fn reset(facts: &EventFacts, tables: &Tables, judgement: &mut Judgement) -> Option<Verdict> {
    let Some(boot) = facts.boot else {
        judgement.lacks(Rule::R8, "boot_reason");
        return None;
    };
    let reason = match boot.reason {
        BootReason::Watchdog => "watchdog",
        BootReason::Panic => "panic",
        BootReason::LowBattery => "low_battery",
        BootReason::PowerOn | BootReason::User | BootReason::Ota | BootReason::Tamper => return None,
    };
    let limit_s = tables.thresholds.reset_before_s;
    let s = lately(Happened::BeforeMs(boot.before_ms), limit_s)?;
    let reasons = vec![
        seen(Rule::R8, "boot_reason", reason, "power_on, user, ota", 1.0),
        seen(Rule::R8, "booted_before_s", s, format!("> {limit_s}"), 1.0),
    ];
    Some(failed(Rule::R8, Cause::DevReset, 0.85, Severity::Medium, reasons))
}

/// R9: the tamper protection. It raises its own incident, whatever matched before it.
fn tamper(facts: &EventFacts, _: &Tables, judgement: &mut Judgement) -> Option<Verdict> {
    let mut reasons = Vec::new();
    match facts.tamper {
        None => judgement.lacks(Rule::R9, "tamper"),
        Some(Tamper::Ok) => {}
        Some(Tamper::Triggered) => reasons.push(seen(Rule::R9, "tamper", "triggered", "ok", 1.0)),
        Some(Tamper::Mask) => reasons.push(seen(Rule::R9, "tamper", "mask", "ok", 1.0)),
    }
    match facts.ped_ok {
        None => judgement.lacks(Rule::R9, "ped_state"),
        Some(true) => {}
        Some(false) => reasons.push(seen(Rule::R9, "ped_state", "not ok", "ok", 1.0)),
    }
    if reasons.is_empty() {
        return None;
    }
    judgement.findings.push(Finding {
        kind: FindingKind::Tamper,
        severity: Severity::Critical,
        reasons: reasons.clone(),
    });
    let verdict = failed(Rule::R9, Cause::DevTamper, 0.99, Severity::Critical, reasons);
    Some(Verdict { standing: Standing::Proven, ..verdict })
}

/// R10: what the operator did. PIN codes are R6's by the table; they carry the same cause.
fn operator(facts: &EventFacts, _: &Tables, judgement: &mut Judgement) -> Option<Verdict> {
    let found = |cause, field, observed: &str, threshold: &str| {
        let reasons = vec![seen(Rule::R10, field, observed, threshold, 1.0)];
        let verdict = failed(Rule::R10, cause, 0.9, Severity::Info, reasons);
        Some(Verdict { standing: Standing::Proven, ..verdict })
    };
    match facts.operator_action {
        Some(OperatorAction::Cancel) => return found(Cause::OprCancel, "operator_action", "cancel", "none"),
        Some(OperatorAction::Timeout) => return found(Cause::OprTimeout, "operator_action", "timeout", "none"),
        Some(OperatorAction::Reenter) | None => {}
    }
    match facts.signed_in {
        Some(false) => found(Cause::OprNotSignedIn, "signed_in", "false", "true"),
        Some(true) => None,
        None => {
            judgement.lacks(Rule::R10, "signed_in");
            None
        }
    }
}
