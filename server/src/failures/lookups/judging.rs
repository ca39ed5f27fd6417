//! What the rules say about a look-up: whose number cleared, compared with the bound one. Pure.
//!
//! A look-up says nothing about money, so that only the rules about merchants speak.

use super::entry::NewLookup;
use crate::failures::classify::{
    Binding, EvidenceLevel, FeedRow, FeedStatus, Judgement, Rule, SettlementFacts, Tables, TerminalSide,
    judge_settlement,
};

/// Judges what was seen. `sent` is the merchant number that the terminal itself sent, if it reported the transaction.
pub(super) fn judge(seen: &NewLookup, binding: Option<Binding>, sent: Option<String>, tables: &Tables) -> Judgement {
    let row = FeedRow {
        status: FeedStatus::Success,
        merchant_no: seen.merchant_no.clone(),
        merchant_name: seen.merchant_name.clone(),
        mcc_cleared: seen.mcc.clone(),
        amount_fen: None,
        settle_amount_fen: None,
        fee_fen: None,
        withdraw_fee_fen: None,
        rate_ppm: None,
        capped: None,
        second_orders: None,
        success_at_ms: seen.at_ms,
    };
    let facts = SettlementFacts {
        row: Some(row),
        level: EvidenceLevel::parse(seen.source.level()),
        binding,
        merchant_no_sent: sent,
        terminal: Some(TerminalSide::Succeeded),
        ..SettlementFacts::default()
    };
    let mut judgement = judge_settlement(&facts, tables);
    judgement.not_checked.retain(|lack| matches!(lack.rule, Rule::R1 | Rule::R1a | Rule::R1b | Rule::R1c));
    judgement
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failures::classify::{Cause, RawTables, Standing, Symptom};
    use crate::failures::lookups::Source;

    const BOUND: &str = "850331053110612";

    fn judged(merchant_no: Option<&str>, name: Option<&str>, sent: Option<&str>) -> Judgement {
        let seen = NewLookup {
            sn: "SN1".to_owned(),
            event_id: None,
            at_ms: Some(1),
            amount_fen: None,
            ref_no: None,
            source: Source::UnionPayApp,
            merchant_name: name.map(str::to_owned),
            merchant_no: merchant_no.map(str::to_owned),
            mcc: None,
            looked_up_at_ms: None,
            note: String::new(),
        };
        let binding = Binding {
            merchant_no: BOUND.to_owned(),
            merchant_name: Some("杭州好味餐饮店".to_owned()),
            ..Binding::default()
        };
        let tables = RawTables::seed().unwrap().parse().unwrap();
        judge(&seen, Some(binding), sent.map(str::to_owned), &tables)
    }

    #[test]
    fn the_bound_number_is_in_order_and_another_one_is_a_suspicion_with_its_reasons() {
        assert_eq!(judged(Some(BOUND), Some("杭州好味餐饮店"), None).verdict, None);
        let judgement = judged(Some("850100059980612"), None, Some(BOUND));
        let verdict = judgement.verdict.unwrap();
        assert_eq!((verdict.symptom, verdict.cause), (Symptom::Switch, Cause::ChnSwitch));
        assert_eq!(verdict.standing, Standing::Proven);
        assert!(verdict.reasons.iter().any(|reason| reason.field == "merchant_no_settled"));
    }

    #[test]
    fn a_terminal_that_sent_the_wrong_number_itself_comes_first() {
        let judgement = judged(Some("850100059980612"), None, Some("850100059980612"));
        assert_eq!(judgement.verdict.unwrap().cause, Cause::UpgConfigDrift);
    }

    #[test]
    fn without_a_number_it_is_not_checked_and_never_in_order() {
        let judgement = judged(None, Some("别的店"), None);
        assert_eq!(judgement.verdict, None);
        assert!(!judgement.not_checked.is_empty());
    }
}
