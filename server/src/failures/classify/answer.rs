//! The rule for response codes, and for stages without one: R6. Pure.

use super::event::{failed, lately};
use super::facts::EventFacts;
use super::rows::{CodeCondition, CodeRow, Tables};
use super::seen;
use super::verdict::{Cause, Judgement, Reason, Rule, Severity, Standing, Symptom, Verdict};

/// R6: what the code says, or the stage when there is none.
pub(super) fn answer(facts: &EventFacts, tables: &Tables, judgement: &mut Judgement) -> Option<Verdict> {
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
