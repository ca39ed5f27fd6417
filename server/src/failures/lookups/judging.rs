//! What the rules say about a look-up: whose number cleared, compared with the bound one. Pure.
//!
//! A look-up says nothing about money, so that only the rules about merchants speak, and the one about payments that went
//! through elsewhere although they failed at the terminal.

use crate::failures::classify::{
    Binding, EvidenceLevel, FeedRow, FeedStatus, Judgement, Rule, SettlementFacts, Tables, TerminalSide,
    judge_settlement,
};

/// What the terminal itself says about a transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Terminal {
    /// The merchant number that it sent, if it reported the transaction.
    pub(super) sent: Option<String>,
    /// How long ago it failed there, ms, if it did.
    pub(super) failed_ms: Option<i64>,
}

/// What was seen of a transaction elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shown<'a> {
    pub(super) merchant_no: Option<&'a str>,
    pub(super) merchant_name: Option<&'a str>,
    pub(super) mcc: Option<&'a str>,
    /// `L2` or `L3`.
    pub(super) level: &'a str,
    /// When the transaction was, Unix ms.
    pub(super) at_ms: i64,
}

/// Judges what was seen.
pub(super) fn judge(seen: Shown<'_>, binding: Option<Binding>, terminal: Terminal, tables: &Tables) -> Judgement {
    let row = FeedRow {
        status: FeedStatus::Success,
        merchant_no: seen.merchant_no.map(str::to_owned),
        merchant_name: seen.merchant_name.map(str::to_owned),
        mcc_cleared: seen.mcc.map(str::to_owned),
        amount_fen: None,
        settle_amount_fen: None,
        fee_fen: None,
        withdraw_fee_fen: None,
        rate_ppm: None,
        capped: None,
        second_orders: None,
        success_at_ms: Some(seen.at_ms),
    };
    let facts = SettlementFacts {
        row: Some(row),
        level: EvidenceLevel::parse(seen.level),
        binding,
        merchant_no_sent: terminal.sent,
        terminal: Some(terminal.failed_ms.map_or(TerminalSide::Succeeded, |_| TerminalSide::Failed(None))),
        age_ms: terminal.failed_ms,
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

    const BOUND: &str = "850331053110612";

    fn judged(merchant_no: Option<&str>, name: Option<&str>, sent: Option<&str>) -> Judgement {
        judged_of(merchant_no, name, sent, None)
    }

    fn judged_of(
        merchant_no: Option<&str>,
        name: Option<&str>,
        sent: Option<&str>,
        failed_ms: Option<i64>,
    ) -> Judgement {
        let seen = Shown { merchant_no, merchant_name: name, mcc: None, level: "L2", at_ms: 1 };
        let binding = Binding {
            merchant_no: BOUND.to_owned(),
            merchant_name: Some("杭州好味餐饮店".to_owned()),
            ..Binding::default()
        };
        let tables = RawTables::seed().unwrap().parse().unwrap();
        judge(seen, Some(binding), Terminal { sent: sent.map(str::to_owned), failed_ms }, &tables)
    }

    #[test]
    fn what_failed_at_the_terminal_and_went_through_elsewhere_is_one_sided_after_its_time() {
        let found = |failed_ms| judged_of(Some(BOUND), None, None, failed_ms).verdict.map(|verdict| verdict.symptom);
        assert_eq!(found(Some(73 * 3_600_000)), Some(Symptom::Missing));
        assert_eq!(found(Some(3_600_000)), None, "it may still be reversed");
        assert_eq!(found(None), None);
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
