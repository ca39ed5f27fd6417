//! The rules for one failure: R3 to R10. Pure.

use tillward_protocol::checkin::{BootReason, Tamper};
use tillward_protocol::condition::{Access, Registration};
use tillward_protocol::failure::{OperatorAction, ResponseSource, Stage};

use super::facts::{EventFacts, Happened, OwnUpdate};
use super::seen;
use super::tables::{CodeCondition, CodeRow, Tables};
use super::verdict::{Cause, Finding, FindingKind, Judgement, Reason, Rule, Severity, Standing, Symptom, Verdict};

/// Judges one failure.
///
/// None of these rules speaks of merchants or settled amounts: what a terminal sees cannot show them.
pub fn judge_event(facts: &EventFacts, tables: &Tables) -> Judgement {
    let mut judgement = Judgement::default();
    let rules: [fn(&EventFacts, &Tables, &mut Judgement) -> Option<Verdict>; 9] =
        [in_update, weak_link, good_link, no_answer, answer, reader, reset, tamper, operator];
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
fn failed(rule: Rule, cause: Cause, confidence: f64, severity: Severity, reasons: Vec<Reason>) -> Verdict {
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

/// How the terminal reached the network, as far as the rules tell it apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Cellular,
    Wifi,
    Wired,
    Unknown,
}

fn link(facts: &EventFacts) -> Link {
    let condition = &facts.condition;
    match condition.access {
        Some(Access::FiveG | Access::FourG | Access::ThreeG | Access::TwoG) => Link::Cellular,
        Some(Access::Wifi) => Link::Wifi,
        Some(Access::Ethernet | Access::BluetoothPhone) => Link::Wired,
        // Only a mobile network has these.
        None if condition.rsrp_dbm.is_some() || condition.sinr_db.is_some() => Link::Cellular,
        None => Link::Unknown,
    }
}

/// The stage, when it failed before anything was sent or while sending, and no host answered.
fn connecting(facts: &EventFacts) -> Option<Stage> {
    facts
        .stage
        .filter(|stage| matches!(stage, Stage::Dns | Stage::Tcp | Stage::Tls | Stage::Send))
        .filter(|_| facts.response_code.is_none())
}

/// Within `limit_s` seconds before the event.
fn lately(happened: Happened, limit_s: i64) -> Option<i64> {
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

/// R4: no connection, and the link was bad.
fn weak_link(facts: &EventFacts, tables: &Tables, judgement: &mut Judgement) -> Option<Verdict> {
    let stage = connecting(facts)?;
    let (condition, limits, link) = (&facts.condition, &tables.thresholds, link(facts));
    let mut reasons = Vec::new();
    let mut below = |field: &str, value: Option<i32>, limit: i64, weight: f64| match value {
        None => judgement.lacks(Rule::R4, field),
        Some(value) if i64::from(value) < limit => {
            reasons.push(seen(Rule::R4, field, value, format!("≥ {limit}"), weight));
        }
        Some(_) => {}
    };
    match link {
        Link::Cellular => {
            below("rsrp_dbm", condition.rsrp_dbm, limits.weak_rsrp_dbm, 1.0);
            below("sinr_db", condition.sinr_db, limits.weak_sinr_db, 0.8);
            match condition.registration {
                None => judgement.lacks(Rule::R4, "registration"),
                Some(Registration::Ok) => {}
                Some(state) => {
                    let state = format!("{state:?}").to_lowercase();
                    reasons.push(seen(Rule::R4, "registration", state, "ok", 1.0));
                }
            }
        }
        Link::Wifi => below("rssi_dbm", condition.rssi_dbm, limits.weak_wifi_rssi_dbm, 1.0),
        Link::Wired => {}
        Link::Unknown => judgement.lacks(Rule::R4, "access"),
    }
    match facts.reconnects_10min {
        None => judgement.lacks(Rule::R4, "reconnects_10min"),
        Some(n) if i64::from(n) >= limits.reconnects_min => {
            reasons.push(seen(Rule::R4, "reconnects_10min", n, format!("< {}", limits.reconnects_min), 0.7));
        }
        Some(_) => {}
    }
    if reasons.is_empty() {
        return None;
    }
    reasons.push(seen(Rule::R4, "stage", stage.as_str(), "dns, tcp, tls, send", 0.5));
    let cause = match link {
        Link::Cellular => Cause::NetSignal,
        Link::Wifi => Cause::NetWifi,
        // A cable has no signal; it loses what it carries.
        Link::Wired | Link::Unknown => Cause::NetUplinkLoss,
    };
    Some(failed(Rule::R4, cause, 0.9, Severity::Low, reasons))
}

/// The reasons why the radio is good; `None` when it is not, or not known to be.
fn good_radio(facts: &EventFacts, tables: &Tables, judgement: &mut Judgement) -> Option<Vec<Reason>> {
    let (condition, limits) = (&facts.condition, &tables.thresholds);
    let mut above = |field: &str, value: Option<i32>, limit: i64| match value {
        None => {
            judgement.lacks(Rule::R4a, field);
            None
        }
        Some(value) if i64::from(value) > limit => Some(seen(Rule::R4a, field, value, format!("> {limit}"), 0.5)),
        Some(_) => None,
    };
    match link(facts) {
        Link::Cellular => {
            let rsrp = above("rsrp_dbm", condition.rsrp_dbm, limits.good_rsrp_dbm);
            let sinr = above("sinr_db", condition.sinr_db, limits.good_sinr_db);
            Some(vec![rsrp?, sinr?])
        }
        Link::Wifi => Some(vec![above("rssi_dbm", condition.rssi_dbm, limits.good_wifi_rssi_dbm)?]),
        Link::Wired => Some(vec![seen(Rule::R4a, "access", "cable", "no radio", 0.3)]),
        Link::Unknown => {
            judgement.lacks(Rule::R4a, "access");
            None
        }
    }
}

/// R4a: no connection over a good link.
fn good_link(facts: &EventFacts, tables: &Tables, judgement: &mut Judgement) -> Option<Verdict> {
    let stage = connecting(facts)?;
    let mut reasons = good_radio(facts, tables, judgement)?;
    let limits = &tables.thresholds;
    let (cause, why) =
        if let Some(found) = (stage == Stage::Tls).then(|| trust(facts, limits.clock_offset_s, judgement)).flatten() {
            found
        } else if let Some(found) = without_data(facts, judgement) {
            found
        } else {
            let at = seen(Rule::R4a, "stage", stage.as_str(), "dns, tls", 1.0);
            match (stage, facts.all_hosts_unreachable) {
                (Stage::Dns, _) => (Cause::NetDns, at),
                (Stage::Tls, _) => (Cause::NetTls, at),
                (_, Some(true)) => (Cause::NetUplinkLoss, seen(Rule::R4a, "all_hosts_unreachable", true, false, 1.0)),
                (_, Some(false)) => return None,
                (_, None) => {
                    judgement.lacks(Rule::R4a, "all_hosts_unreachable");
                    return None;
                }
            }
        };
    reasons.insert(0, why);
    let severity = match cause {
        Cause::UpgCert | Cause::NetSimSuspended => Severity::High,
        Cause::DevClock => Severity::Medium,
        _ => Severity::Low,
    };
    Some(failed(Rule::R4a, cause, 0.85, severity, reasons))
}

/// What makes certificates fail: a wrong clock, or their end.
fn trust(facts: &EventFacts, clock_offset_s: i64, judgement: &mut Judgement) -> Option<(Cause, Reason)> {
    match facts.condition.clock_offset_ms {
        None => judgement.lacks(Rule::R4a, "clock_offset_ms"),
        Some(ms) if ms.unsigned_abs() > clock_offset_s.unsigned_abs().saturating_mul(1000) => {
            let limit = format!("≤ {clock_offset_s}");
            return Some((Cause::DevClock, seen(Rule::R4a, "clock_offset_s", ms / 1000, limit, 1.0)));
        }
        Some(_) => {}
    }
    match facts.certificate_expired_ms {
        None => judgement.lacks(Rule::R4a, "certificate_expires_ms"),
        Some(ms) if ms > 0 => {
            return Some((Cause::UpgCert, seen(Rule::R4a, "certificate_expired_s", ms / 1000, "≤ 0", 1.0)));
        }
        Some(_) => {}
    }
    None
}

/// Registered with the network, and yet no data: the card's contract.
fn without_data(facts: &EventFacts, judgement: &mut Judgement) -> Option<(Cause, Reason)> {
    if link(facts) != Link::Cellular {
        return None;
    }
    match (facts.month_bytes, facts.quota_bytes) {
        (Some(used), Some(quota)) if used >= quota => {
            let why = seen(Rule::R4a, "month_bytes", used, format!("< {quota}"), 1.0);
            return Some((Cause::NetSimSuspended, why));
        }
        (Some(_), Some(_)) => {}
        (None, _) => judgement.lacks(Rule::R4a, "month_bytes"),
        (_, None) => judgement.lacks(Rule::R4a, "quota_bytes"),
    }
    if facts.condition.registration != Some(Registration::Ok) {
        if facts.condition.registration.is_none() {
            judgement.lacks(Rule::R4a, "registration");
        }
        return None;
    }
    if facts.condition.apn_ok == Some(false) {
        return Some((Cause::NetSimSuspended, seen(Rule::R4a, "apn_ok", false, true, 1.0)));
    }
    (facts.all_hosts_unreachable == Some(true))
        .then(|| (Cause::NetSimSuspended, seen(Rule::R4a, "all_hosts_unreachable", true, false, 1.0)))
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

/// R6: what the code says, or the stage when there is none.
fn answer(facts: &EventFacts, tables: &Tables, judgement: &mut Judgement) -> Option<Verdict> {
    let Some(code) = facts.response_code.as_deref() else {
        let stage = facts.stage?.as_str();
        let row = tables.codes.get(&format!("stage:{stage}"))?;
        let reasons = vec![
            seen(Rule::R6, "response_code", "none", "a code", 1.0),
            seen(Rule::R6, "stage", stage, &row.code, 1.0),
        ];
        return row.cause.map(|cause| failed(Rule::R6, cause, row.confidence, row.severity, reasons));
    };
    let Some(row) = tables.codes.get(code) else {
        // Shown as it is, never guessed.
        let reasons = vec![seen(Rule::R6, "response_code", code, "unmapped", 1.0)];
        return Some(failed(Rule::R6, Cause::Unknown, 0.0, Severity::Low, reasons));
    };
    let mut reasons = vec![seen(Rule::R6, "response_code", code, format!("{code}: {}", row.meaning_zh), 1.0)];
    let met = row.condition.and_then(|condition| met(condition, facts, tables, judgement));
    let (cause, severity) = match met {
        Some(reason) => {
            reasons.push(reason);
            (row.cause_if.or(row.cause), row.severity_if.unwrap_or(row.severity))
        }
        None => (row.cause, row.severity),
    };
    let cause = cause?;
    let standing = if row.cause == Some(Cause::Unknown) { Standing::Suspected } else { Standing::Proven };
    let symptom = if cause == Cause::BnkPartial { Symptom::Amount } else { symptom(row) };
    Some(Verdict { standing, symptom, ..failed(Rule::R6, cause, row.confidence, severity, reasons) })
}

/// What the table says is seen; a terminal sees neither merchants nor settled amounts, whatever a row may say.
fn symptom(row: &CodeRow) -> Symptom {
    match row.symptom {
        Symptom::Switch | Symptom::Amount | Symptom::Fee => Symptom::Fail,
        Symptom::Fail | Symptom::Missing | Symptom::None => row.symptom,
    }
}

/// Why the other cause of a code holds; `None` when it does not, or is not known to.
fn met(condition: CodeCondition, facts: &EventFacts, tables: &Tables, judgement: &mut Judgement) -> Option<Reason> {
    let limits = &tables.thresholds;
    let mut at_least = |field: &str, value: Option<u32>, limit: i64| match value {
        None => {
            judgement.lacks(Rule::R6, field);
            None
        }
        Some(n) => (i64::from(n) >= limit).then(|| seen(Rule::R6, field, n, format!("< {limit}"), 1.0)),
    };
    match condition {
        CodeCondition::RepeatedDay => at_least("same_code_day", facts.same_code_day, limits.code_repeats_day_min),
        CodeCondition::MerchantSpike => {
            at_least("merchant_code_day", facts.merchant_code_day, limits.merchant_spike_day_min)
        }
        CodeCondition::VersionChanged => match facts.version_changed {
            None => {
                judgement.lacks(Rule::R6, "version_changed");
                None
            }
            Some(changed) => lately(changed, limits.version_changed_s)
                .map(|s| seen(Rule::R6, "version_changed_s", s, format!("> {}", limits.version_changed_s), 1.0)),
        },
        CodeCondition::NotSignedIn => match facts.signed_in {
            None => {
                judgement.lacks(Rule::R6, "signed_in");
                None
            }
            Some(is_signed_in) => (!is_signed_in).then(|| seen(Rule::R6, "signed_in", false, true, 1.0)),
        },
        CodeCondition::Night => {
            let Some(minute) = facts.local_minute.map(i64::from) else {
                judgement.lacks(Rule::R6, "local_minute");
                return None;
            };
            let (from, to) = (limits.cutover_from_min, limits.cutover_to_min);
            let is_night = if from <= to { (from..=to).contains(&minute) } else { minute >= from || minute <= to };
            let clock = |minute: i64| format!("{:02}:{:02}", minute / 60, minute % 60);
            let span = format!("{}–{}", clock(from), clock(to));
            is_night.then(|| seen(Rule::R6, "local_minute", clock(minute), span, 1.0))
        }
        CodeCondition::PartialAmount => match (facts.amount_fen, facts.approved_fen) {
            (Some(asked), Some(approved)) => {
                (approved < asked).then(|| seen(Rule::R6, "approved_fen", approved, asked, 1.0))
            }
            _ => {
                judgement.lacks(Rule::R6, "approved_fen");
                None
            }
        },
    }
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
                let threshold = format!("≤ {} %", limits.reader_error_share_percent);
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

/// R4b: another SIM card, or the card in another modem, lies behind a failure of the mobile link.
fn annotate(facts: &EventFacts, tables: &Tables, judgement: &mut Judgement) {
    let is_mobile = link(facts) == Link::Cellular;
    let is_link_failure = judgement.matches().any(|v| matches!(v.rule, Rule::R4 | Rule::R4a));
    if !is_mobile || !is_link_failure {
        return;
    }
    let limit_s = tables.thresholds.sim_swap_s;
    let mut reasons = Vec::new();
    for (field, missing, changed) in
        [("iccid_changed_s", "iccid", facts.iccid_changed), ("imei_changed_s", "imei", facts.imei_changed)]
    {
        match changed {
            None => judgement.lacks(Rule::R4b, missing),
            Some(changed) => {
                if let Some(s) = lately(changed, limit_s) {
                    reasons.push(seen(Rule::R4b, field, s, format!("> {limit_s}"), 0.9));
                }
            }
        }
    }
    if reasons.is_empty() {
        return;
    }
    for verdict in judgement.verdict.iter_mut().chain(&mut judgement.alternatives) {
        let is_net = verdict.cause.family() == super::verdict::Family::Net;
        if is_net && matches!(verdict.rule, Rule::R4 | Rule::R4a) {
            verdict.root = Some(Cause::OprSimSwap);
            verdict.reasons.extend(reasons.iter().cloned());
        }
    }
}
