//! The rules for one settlement: R1b, R1, R1a, R1c, R2, R2a, R2b and R11. Pure.
//!
//! Their inputs are the channel's row, the binding valid at the time and what the terminal sent. No condition of network
//! or device is among them.

use super::facts::{Binding, FeedRow, FeedStatus, NumberKnown, SettlementFacts, TerminalSide};
use super::money::money;
use super::rows::{RiskClass, Tables};
use super::verdict::{
    Cause, EvidenceLevel, Finding, FindingKind, Judgement, Reason, Rule, Segment, Severity, Standing, Symptom, Verdict,
};
use super::{names, seen};

/// Judges one settlement. A row that is not settled yet, or failed, has neither merchant nor amount to compare.
pub fn judge_settlement(facts: &SettlementFacts, tables: &Tables) -> Judgement {
    let mut judgement = Judgement::default();
    if let Some(row) = facts.row.as_ref().filter(|row| row.status == FeedStatus::Success) {
        merchant(facts, row, tables, &mut judgement);
        money(facts, row, tables, &mut judgement);
    }
    missing(facts, tables, &mut judgement);
    judgement
}

pub(super) fn verdict(rule: Rule, symptom: Symptom, cause: Cause, confidence: f64, reasons: Vec<Reason>) -> Verdict {
    Verdict {
        rule,
        symptom,
        cause,
        confidence,
        severity: Severity::Info,
        standing: Standing::Proven,
        root: None,
        segments: Vec::new(),
        reasons,
    }
}

pub(super) fn finding(kind: FindingKind, verdict: &Verdict) -> Finding {
    Finding { kind, severity: verdict.severity, reasons: verdict.reasons.clone() }
}

/// R1b, R1, R1a and R1c: number, category, name.
fn merchant(facts: &SettlementFacts, row: &FeedRow, tables: &Tables, judgement: &mut Judgement) {
    const RULES: [Rule; 4] = [Rule::R1b, Rule::R1, Rule::R1a, Rule::R1c];
    let Some(binding) = &facts.binding else {
        RULES.into_iter().for_each(|rule| judgement.lacks(rule, "binding"));
        return;
    };
    let Some(settled) = row.merchant_no.as_deref() else {
        RULES.into_iter().for_each(|rule| judgement.lacks(rule, "merchant_no_settled"));
        return;
    };
    if belongs(binding, settled) {
        if !category(row, binding, settled, tables, judgement) {
            name(row, binding, tables, judgement);
        }
        return;
    }
    let difference = Difference::of(facts, binding, settled, tables);
    // The terminal's own parameters come first: else the channel would be blamed for them.
    if let Some(drift) = sent_wrong(facts, binding, &difference, judgement) {
        judgement.findings.push(finding(FindingKind::ConfigDrift, &drift));
        judgement.matched(drift);
    }
    let switch = difference.verdict(Rule::R1, Cause::ChnSwitch, 0.97);
    if judgement.verdict.is_none() {
        let kind = match switch.standing {
            Standing::Proven | Standing::Suspected => FindingKind::MerchantSwitch,
            Standing::Review => FindingKind::ReviewNumber,
        };
        judgement.findings.push(finding(kind, &switch));
    }
    judgement.matched(switch);
}

/// Whether a number is the bound one or an alias that was valid then.
fn belongs(binding: &Binding, number: &str) -> bool {
    binding.merchant_no == number || binding.aliases.iter().any(|alias| alias == number)
}

fn is_merchant_no(number: &str) -> bool {
    number.len() == 15 && number.bytes().all(|b| b.is_ascii_digit())
}

/// How a settled number differs from the bound one.
struct Difference {
    segments: Vec<Segment>,
    severity: Severity,
    standing: Standing,
    reasons: Vec<Reason>,
}

impl Difference {
    fn of(facts: &SettlementFacts, binding: &Binding, settled: &str, tables: &Tables) -> Self {
        let bound = binding.merchant_no.as_str();
        let rule = Rule::R1;
        let mut reasons = vec![seen(rule, "merchant_no_settled", settled, bound, 1.0)];
        if !binding.aliases.is_empty() {
            reasons.push(seen(rule, "aliases", binding.aliases.len(), "none of them", 0.3));
        }
        if let Some(level) = facts.level {
            reasons.push(seen(rule, "evidence_level", level.as_str(), "L1, L2, L3", 0.5));
        }
        let closer = matches!(facts.level, Some(EvidenceLevel::L2 | EvidenceLevel::L3));
        let standing = match facts.number_known {
            Some(NumberKnown::Foreign | NumberKnown::OtherMerchant) => Standing::Proven,
            _ if closer && is_merchant_no(settled) => Standing::Proven,
            // First seen, and maybe the channel's own number or an alias nobody entered: no accusation.
            Some(NumberKnown::Unjudged) | None => Standing::Review,
        };
        if !is_merchant_no(settled) || !is_merchant_no(bound) {
            reasons.push(seen(rule, "merchant_no_form", settled.len(), "15 digits", 0.5));
            return Self { segments: Vec::new(), severity: Severity::Low, standing, reasons };
        }
        let parts =
            [(Segment::Institution, 0..3), (Segment::Region, 3..7), (Segment::Mcc, 7..11), (Segment::Serial, 11..15)];
        let segments: Vec<Segment> = parts
            .iter()
            .filter(|(_, at)| settled.get(at.clone()) != bound.get(at.clone()))
            .map(|part| part.0)
            .collect();
        for (segment, at) in parts {
            if segments.contains(&segment) {
                let (one, other) = (settled.get(at.clone()).unwrap_or(""), bound.get(at).unwrap_or(""));
                reasons.push(seen(rule, &format!("segment_{}", segment.as_str().to_lowercase()), one, other, 0.5));
            }
        }
        let class_was = class_of(binding, bound, tables);
        let class_is = settled.get(7..11).and_then(|mcc| tables.mcc_classes.get(mcc)).copied();
        if segments.contains(&Segment::Mcc) {
            reasons.push(seen(rule, "fee_class", class_name(class_is), class_name(class_was), 0.8));
        }
        let elsewhere = segments.contains(&Segment::Region) || segments.contains(&Segment::Institution);
        let by_class = if segments.contains(&Segment::Mcc) { class_move(class_was, class_is) } else { Severity::Low };
        let severity = if elsewhere { by_class.max(Severity::High) } else { by_class };
        Self { segments, severity, standing, reasons }
    }

    fn verdict(&self, rule: Rule, cause: Cause, confidence: f64) -> Verdict {
        let reasons = self.reasons.iter().map(|reason| Reason { rule, ..reason.clone() }).collect();
        Verdict {
            severity: self.severity,
            standing: self.standing,
            segments: self.segments.clone(),
            ..verdict(rule, Symptom::Switch, cause, confidence, reasons)
        }
    }
}

/// The merchant's class: as recorded, else that of its category.
fn class_of(binding: &Binding, bound: &str, tables: &Tables) -> Option<RiskClass> {
    let recorded = binding.risk_class.as_deref().and_then(RiskClass::parse);
    let mcc = binding.mcc.as_deref().or_else(|| bound.get(7..11));
    recorded.or_else(|| mcc.and_then(|mcc| tables.mcc_classes.get(mcc)).copied())
}

fn class_name(class: Option<RiskClass>) -> &'static str {
    class.map_or("未收录", RiskClass::as_str)
}

/// How bad it is when a payment clears under another class.
fn class_move(was: Option<RiskClass>, is: Option<RiskClass>) -> Severity {
    match (was, is) {
        (Some(RiskClass::Standard), Some(RiskClass::Reduced)) => Severity::Critical,
        (Some(RiskClass::Standard), Some(RiskClass::Preferential)) => Severity::High,
        (Some(RiskClass::Preferential), Some(RiskClass::Reduced)) => Severity::High,
        // The same class, a dearer one, or one that nobody entered yet.
        _ => Severity::Medium,
    }
}

/// R1b: the terminal had sent a number that is not the merchant's.
fn sent_wrong(
    facts: &SettlementFacts,
    binding: &Binding,
    difference: &Difference,
    judgement: &mut Judgement,
) -> Option<Verdict> {
    let mut drift = difference.verdict(Rule::R1b, Cause::UpgConfigDrift, 0.97);
    drift.severity = Severity::High;
    match (facts.merchant_no_sent.as_deref(), facts.config_drift) {
        (Some(sent), _) if belongs(binding, sent) => None,
        (Some(sent), _) => {
            drift.standing = Standing::Proven;
            drift.reasons.insert(0, seen(Rule::R1b, "merchant_no_sent", sent, &binding.merchant_no, 1.0));
            Some(drift)
        }
        // The value sent was not seen: what is left is the hash of the parameters.
        (None, Some(true)) => {
            judgement.lacks(Rule::R1b, "merchant_no_sent");
            drift.confidence = 0.6;
            drift.standing = Standing::Suspected;
            drift.reasons.insert(0, seen(Rule::R1b, "config_hash", "differs", "as expected", 0.6));
            Some(drift)
        }
        (None, Some(false)) => {
            judgement.lacks(Rule::R1b, "merchant_no_sent");
            None
        }
        (None, None) => {
            judgement.lacks(Rule::R1b, "merchant_no_sent");
            judgement.lacks(Rule::R1b, "config_hash");
            None
        }
    }
}

/// R1a: the number is right, the category at clearing is not. Whether it matched.
fn category(row: &FeedRow, binding: &Binding, settled: &str, tables: &Tables, judgement: &mut Judgement) -> bool {
    let Some(cleared) = row.mcc_cleared.as_deref() else {
        judgement.lacks(Rule::R1a, "mcc_cleared");
        return false;
    };
    let of_number = settled.get(7..11).filter(|_| is_merchant_no(settled));
    if binding.mcc.is_none() {
        judgement.lacks(Rule::R1a, "merchant_mcc");
    }
    let known: Vec<&str> = of_number.into_iter().chain(binding.mcc.as_deref()).collect();
    if known.is_empty() || known.contains(&cleared) {
        return false;
    }
    let class_was = class_of(binding, settled, tables);
    let class_is = tables.mcc_classes.get(cleared).copied();
    let reasons = vec![
        seen(Rule::R1a, "mcc_cleared", cleared, known.join(", "), 1.0),
        seen(Rule::R1a, "fee_class", class_name(class_is), class_name(class_was), 0.8),
    ];
    let found = Verdict {
        severity: class_move(class_was, class_is),
        standing: if binding.mcc.is_some() { Standing::Proven } else { Standing::Suspected },
        segments: vec![Segment::Mcc],
        ..verdict(Rule::R1a, Symptom::Switch, Cause::ChnMcc, 0.95, reasons)
    };
    judgement.findings.push(finding(FindingKind::MerchantSwitch, &found));
    judgement.matched(found);
    true
}

/// R1c: number and category are right, the name is not.
fn name(row: &FeedRow, binding: &Binding, tables: &Tables, judgement: &mut Judgement) {
    let (Some(settled), Some(bound)) = (&row.merchant_name, &binding.merchant_name) else {
        let lacking = if row.merchant_name.is_none() { "merchant_name_settled" } else { "merchant_name" };
        judgement.lacks(Rule::R1c, lacking);
        return;
    };
    let limit = tables.thresholds.name_similarity_percent;
    let plain = |name: &str| names::normalized(name, &tables.name_suffixes);
    let similarity = names::similarity_percent(&plain(settled), &plain(bound));
    if similarity >= limit {
        return;
    }
    let reasons = vec![
        seen(Rule::R1c, "merchant_name_settled", settled, bound, 1.0),
        seen(Rule::R1c, "name_similarity_percent", similarity, format!("≥ {limit}"), 1.0),
    ];
    let found = verdict(Rule::R1c, Symptom::Switch, Cause::ChnSwitch, 0.6, reasons);
    judgement.matched(Verdict { severity: Severity::Low, standing: Standing::Suspected, ..found });
}

/// R11: one side alone knows the payment, or its reversal never went out.
fn missing(facts: &SettlementFacts, tables: &Tables, judgement: &mut Judgement) {
    let limits = &tables.thresholds;
    let mut reasons = Vec::new();
    let status = facts.row.as_ref().map(|row| row.status);
    let in_feed = status == Some(FeedStatus::Success);
    let pair = match (facts.terminal, status) {
        // Under way: nothing to compare yet.
        (_, Some(FeedStatus::Processing)) => None,
        (None, _) => {
            judgement.lacks(Rule::R11, "terminal_successes");
            None
        }
        (Some(TerminalSide::Succeeded), _) if !in_feed => Some(("succeeded", "in the feed")),
        (Some(TerminalSide::NotSeen), _) if in_feed => Some(("not_seen", "at the terminal")),
        (Some(TerminalSide::Failed(_)), _) if in_feed => Some(("failed", "succeeded at the terminal")),
        (Some(_), _) => None,
    };
    if let Some((observed, threshold)) = pair {
        match facts.age_ms {
            None => judgement.lacks(Rule::R11, "age"),
            Some(age_ms) if age_ms >= limits.missing_after_ms() => {
                reasons.push(seen(Rule::R11, "terminal", observed, threshold, 1.0));
                let limit = format!("≤ {} h", limits.missing_after_s / 3600);
                reasons.push(seen(Rule::R11, "age", format!("{} h", age_ms / 3_600_000), limit, 1.0));
            }
            Some(_) => {}
        }
    }
    if let Some(ms) = facts.reversal_pending_ms.filter(|ms| *ms > limits.reversal_overdue_s.saturating_mul(1000)) {
        let limit = format!("≤ {} h", limits.reversal_overdue_s / 3600);
        reasons.push(seen(Rule::R11, "reversal_pending", format!("{} h", ms / 3_600_000), limit, 1.0));
    }
    if reasons.is_empty() {
        return;
    }
    let cause = match facts.terminal {
        Some(TerminalSide::Failed(Some(cause))) => cause,
        Some(TerminalSide::Failed(None) | TerminalSide::Succeeded | TerminalSide::NotSeen) | None => Cause::Unknown,
    };
    let found = verdict(Rule::R11, Symptom::Missing, cause, 0.7, reasons);
    let found = Verdict { severity: Severity::Medium, standing: Standing::Suspected, ..found };
    judgement.findings.push(finding(FindingKind::SettlementMissing, &found));
    judgement.matched(found);
}
