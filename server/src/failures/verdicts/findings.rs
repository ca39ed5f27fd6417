//! What a judgement asks to be done beside being stored: incidents, one for a merchant, terminal and day.

use serde_json::json;

use super::NewVerdict;
use crate::failures::classify::{Finding, FindingKind, Severity, Standing};
use crate::failures::incidents::{Kind, Level, NewIncident};

const DAY_MS: i64 = 86_400_000;

/// The incidents that the findings ask for.
pub(super) fn incidents(new: &NewVerdict) -> impl Iterator<Item = NewIncident> {
    new.judgement.findings.iter().filter_map(|finding| incident(new, finding))
}

/// The incident of a finding; `None` for a merchant number that a person has to look at first.
fn incident(new: &NewVerdict, finding: &Finding) -> Option<NewIncident> {
    let kind = match finding.kind {
        FindingKind::Tamper => Kind::Tamper,
        FindingKind::MerchantSwitch => Kind::MerchantSwitch,
        FindingKind::ConfigDrift => Kind::ConfigDrift,
        FindingKind::AmountShort => Kind::AmountShort,
        FindingKind::SettlementMissing => Kind::SettlementMissing,
        FindingKind::ReviewNumber => return None,
    };
    let terminal = new.terminal_id.map(|id| format!("terminal:{id}"));
    let merchant = new.merchant_no.as_ref().map(|number| format!("merchant:{number}"));
    let day = new.received_at_ms.div_euclid(DAY_MS);
    let key = match finding.kind {
        // The terminal is the matter, today and tomorrow.
        FindingKind::Tamper => terminal?,
        _ => [merchant, terminal, Some(format!("day:{day}"))].into_iter().flatten().collect::<Vec<_>>().join(" "),
    };
    let subject = match (&new.sn, &new.merchant_no) {
        (Some(sn), Some(merchant)) if finding.kind != FindingKind::Tamper => format!("{merchant} · {sn}"),
        (Some(sn), _) => sn.clone(),
        (None, Some(merchant)) => merchant.clone(),
        (None, None) => new.item.clone(),
    };
    let verdict = new.judgement.verdict.as_ref();
    Some(NewIncident {
        kind,
        level: level(new, finding),
        org_path: new.org_path.clone(),
        key,
        subject,
        evidence: json!({
            "cause": new.judgement.cause().as_str(),
            "severity": finding.severity.as_str(),
            "confidence": verdict.map(|verdict| verdict.confidence),
            "reasons": finding.reasons,
            "not_checked": new.judgement.not_checked,
            "item": new.item,
            "tables_version": new.tables.tables.version,
        }),
        rollout_id: None,
        release_id: None,
        terminal_ids: new.terminal_id.into_iter().collect(),
        affected: 1,
    })
}

/// How urgent: tampering and a proven move to the fee-free class are for everybody at once.
fn level(new: &NewVerdict, finding: &Finding) -> Level {
    let is_proven = new.judgement.matches().any(|verdict| {
        verdict.standing == Standing::Proven
            && verdict.severity == finding.severity
            && verdict.reasons == finding.reasons
    });
    match (finding.kind, finding.severity) {
        (FindingKind::Tamper, _) => Level::P1,
        (FindingKind::MerchantSwitch, Severity::Critical) if is_proven => Level::P1,
        (_, Severity::Critical | Severity::High) => Level::P2,
        (_, Severity::Medium | Severity::Low | Severity::Info) => Level::P3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failures::classify::{
        Binding, EventFacts, FeedRow, FeedStatus, Judgement, NumberKnown, RawTables, SettlementFacts, judge_event,
        judge_settlement,
    };
    use crate::failures::verdicts::Source;

    fn verdict(judgement: Judgement) -> NewVerdict {
        NewVerdict {
            source: Source::Settlement,
            terminal_id: Some(7),
            sn: Some("SN7".to_owned()),
            merchant_no: Some("850331053110612".to_owned()),
            item: "row:1".to_owned(),
            org_path: "/1/".to_owned(),
            received_at_ms: 86_400_000 * 5 + 1,
            response_code: None,
            judgement,
            tables: crate::failures::verdicts::tables::shipped().unwrap(),
        }
    }

    fn settled(number: &str, known: Option<NumberKnown>) -> Judgement {
        let row = FeedRow {
            status: FeedStatus::Success,
            merchant_no: Some(number.to_owned()),
            merchant_name: None,
            mcc_cleared: None,
            amount_fen: None,
            settle_amount_fen: None,
            fee_fen: None,
            withdraw_fee_fen: None,
            rate_ppm: None,
            capped: None,
            second_orders: None,
            success_at_ms: None,
        };
        let binding = Binding { merchant_no: "850331053110612".to_owned(), ..Binding::default() };
        let facts = SettlementFacts {
            row: Some(row),
            binding: Some(binding),
            number_known: known,
            ..SettlementFacts::default()
        };
        judge_settlement(&facts, &RawTables::seed().unwrap().parse().unwrap())
    }

    #[test]
    fn a_proven_switch_is_one_incident_a_merchant_terminal_and_day_and_a_new_number_is_none() {
        let incident_of = |judgement: Judgement| {
            let new = verdict(judgement);
            new.judgement.findings.first().and_then(|finding| incident(&new, finding))
        };
        let critical = incident_of(settled("850331083980612", Some(NumberKnown::Foreign))).unwrap();
        assert_eq!((critical.kind, critical.level), (Kind::MerchantSwitch, Level::P1));
        assert_eq!(critical.key, "merchant:850331053110612 terminal:7 day:5");
        assert_eq!(critical.subject, "850331053110612 · SN7");
        let other = incident_of(settled("850331053990612", Some(NumberKnown::Foreign))).unwrap();
        assert_eq!((other.kind, other.level), (Kind::MerchantSwitch, Level::P3));
        assert_eq!(incident_of(settled("850331083980612", None)), None, "first seen");
        assert_eq!(incident_of(settled("M0001", Some(NumberKnown::Unjudged))), None, "the channel's own number");
    }

    #[test]
    fn tampering_is_one_incident_for_each_terminal_whatever_the_verdict() {
        let facts = EventFacts {
            response_code: Some("51".to_owned()),
            tamper: Some(tillward_protocol::checkin::Tamper::Triggered),
            ..EventFacts::default()
        };
        let judgement = judge_event(&facts, &RawTables::seed().unwrap().parse().unwrap());
        let new = verdict(judgement);
        let found = incident(&new, &new.judgement.findings[0]).unwrap();
        assert_eq!((found.kind, found.level, found.key.as_str()), (Kind::Tamper, Level::P1, "terminal:7"));
        assert_eq!(found.subject, "SN7");
    }
}
