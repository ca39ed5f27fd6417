//! The rules for settled amounts: R2, R2a and R2b. Pure. Fees come first: they are no fault.

use super::facts::{FeedRow, SettlementFacts};
use super::rows::Tables;
use super::seen;
use super::settlement::{finding, verdict};
use super::verdict::{Cause, FindingKind, Judgement, Reason, Rule, Severity, Standing, Symptom, Verdict};

/// What a row says about its money, fen.
struct Money {
    difference: i64,
    known: i64,
    fee: Option<i64>,
    residual: i64,
    reasons: Vec<Reason>,
}

impl Money {
    fn of(row: &FeedRow, rule: Rule, judgement: &mut Judgement) -> Option<Self> {
        let (Some(amount), Some(settled)) = (row.amount_fen, row.settle_amount_fen) else {
            let lacking = if row.amount_fen.is_none() { "amount_fen" } else { "settle_amount_fen" };
            for rule in [Rule::R2, Rule::R2a, Rule::R2b] {
                judgement.lacks(rule, lacking);
            }
            return None;
        };
        let seconds = row.second_orders.iter().flatten();
        let second_orders = seconds.fold(0i64, |sum, order| sum.saturating_add(order.amount_fen));
        let withdraw = row.withdraw_fee_fen.unwrap_or(0);
        let difference = amount.saturating_sub(settled);
        let known = row.fee_fen.unwrap_or(0).saturating_add(withdraw).saturating_add(second_orders);
        let mut reasons = vec![seen(rule, "amount_less_settled_fen", difference, known, 1.0)];
        for (field, value) in [
            ("fee_fen", row.fee_fen.unwrap_or(0)),
            ("withdraw_fee_fen", withdraw),
            ("second_orders_fen", second_orders),
        ] {
            if value != 0 {
                reasons.push(seen(rule, field, value, "part of the difference", 0.5));
            }
        }
        let residual = difference.saturating_sub(known);
        Some(Self { difference, known, fee: row.fee_fen, residual, reasons })
    }

    fn reasons(&self, rule: Rule) -> Vec<Reason> {
        self.reasons.iter().map(|reason| Reason { rule, ..reason.clone() }).collect()
    }
}

/// R2, R2a and R2b: fees first, then what looks like one, then the rest.
pub(super) fn money(facts: &SettlementFacts, row: &FeedRow, tables: &Tables, judgement: &mut Judgement) {
    let Some(money) = Money::of(row, Rule::R2, judgement) else { return };
    let tolerance = tables.thresholds.fee_tolerance_fen;
    let is_whole = money.residual.abs() <= tolerance;
    let explained = money.fee.is_some() && is_whole && money.difference != 0 && money.known != 0;
    let rate = rate(facts, row, tables, judgement);
    let fee = || verdict(Rule::R2, Symptom::Fee, Cause::ChnFee, 0.99, money.reasons(Rule::R2));
    match rate {
        // A raised rate explains itself arithmetically; R2 alone would hide it.
        Some(Rate::Raised(found)) => {
            judgement.matched(found);
            if explained {
                judgement.matched(fee());
            }
        }
        Some(Rate::Lower(found)) => {
            if explained {
                judgement.matched(fee());
            }
            judgement.matched(found);
        }
        None if explained => judgement.matched(fee()),
        None => {}
    }
    if explained || is_whole {
        return;
    }
    if let Some(found) = looks_like_a_fee(facts, row, &money, tables) {
        judgement.matched(found);
        return;
    }
    if money.fee.is_none() {
        judgement.lacks(Rule::R2, "fee_fen");
        judgement.lacks(Rule::R2b, "fee_fen");
        return;
    }
    unexplained(row, &money, tolerance, judgement);
}

/// How the rate differs from the contracted one.
enum Rate {
    Raised(Verdict),
    Lower(Verdict),
}

/// R2a, its second half: the rate, which is looked at also when the fee explains the difference.
fn rate(facts: &SettlementFacts, row: &FeedRow, tables: &Tables, judgement: &mut Judgement) -> Option<Rate> {
    let Some(contracted) = facts.binding.as_ref().and_then(|binding| binding.contracted_rate_ppm) else {
        judgement.lacks(Rule::R2a, "contracted_rate");
        return None;
    };
    let (limits, amount) = (&tables.thresholds, row.amount_fen.filter(|amount| *amount > 0)?);
    let Some(fee) = row.fee_fen else {
        judgement.lacks(Rule::R2a, "fee_fen");
        return None;
    };
    let expected = expected_fee(amount, contracted);
    let effective = i64::try_from(i128::from(fee) * 1_000_000 / i128::from(amount)).unwrap_or(i64::MAX);
    // A fee is whole fen: on small amounts one of them moves the rate more than any contract.
    let differs =
        (effective - contracted).abs() > limits.rate_tolerance_ppm && (fee - expected).abs() > limits.fee_tolerance_fen;
    if !differs {
        return None;
    }
    if effective < contracted && row.capped != Some(false) {
        if row.capped.is_none() {
            judgement.lacks(Rule::R2a, "capped");
        }
        return None;
    }
    let threshold = format!("{} ± {}", percent(contracted), percent(limits.rate_tolerance_ppm));
    let reasons = vec![
        seen(Rule::R2a, "effective_rate", percent(effective), threshold, 1.0),
        seen(Rule::R2a, "fee_fen", fee, expected, 0.5),
    ];
    let found = verdict(Rule::R2a, Symptom::Fee, Cause::ChnFeeSuspect, 0.8, reasons);
    let found = Verdict { standing: Standing::Suspected, ..found };
    Some(if effective > contracted {
        Rate::Raised(Verdict { severity: Severity::Low, ..found })
    } else {
        Rate::Lower(found)
    })
}

/// The fee that a rate makes of an amount, rounded to whole fen.
fn expected_fee(amount: i64, rate_ppm: i64) -> i64 {
    i64::try_from((i128::from(amount) * i128::from(rate_ppm) + 500_000) / 1_000_000).unwrap_or(i64::MAX)
}

/// Millionths as percent: `0.6000%` of 6000.
fn percent(ppm: i64) -> String {
    format!("{}.{:04}%", ppm / 10_000, (ppm % 10_000).abs())
}

/// R2a, its first half: what is left over is a flat fee, or, where the feed names no fee, what the contract takes.
fn looks_like_a_fee(facts: &SettlementFacts, row: &FeedRow, money: &Money, tables: &Tables) -> Option<Verdict> {
    let tolerance = tables.thresholds.fee_tolerance_fen;
    let flat = |residual: i64| {
        tables
            .flat_fees_fen
            .range(residual.saturating_sub(tolerance)..=residual.saturating_add(tolerance))
            .next()
            .copied()
    };
    let contracted = facts.binding.as_ref().and_then(|binding| binding.contracted_rate_ppm);
    let by_rate = match (money.fee, row.amount_fen, contracted) {
        (None, Some(amount), Some(rate)) => Some(expected_fee(amount, rate)),
        _ => None,
    };
    let found =
        flat(money.residual).map(|fee| seen(Rule::R2a, "flat_fee_fen", money.residual, fee, 1.0)).or_else(|| {
            let rest = money.residual.saturating_sub(by_rate?);
            if rest.abs() <= tolerance {
                return Some(seen(Rule::R2a, "contracted_fee_fen", money.residual, by_rate?, 1.0));
            }
            flat(rest).map(|fee| seen(Rule::R2a, "flat_fee_fen", rest, fee, 1.0))
        })?;
    let mut reasons = vec![found];
    reasons.extend(money.reasons(Rule::R2a));
    let found = verdict(Rule::R2a, Symptom::Fee, Cause::ChnFeeSuspect, 0.8, reasons);
    Some(Verdict { standing: Standing::Suspected, ..found })
}

/// R2b: no fee explains it.
fn unexplained(row: &FeedRow, money: &Money, tolerance: i64, judgement: &mut Judgement) {
    let mut reasons = vec![seen(Rule::R2b, "residual_fen", money.residual, format!("± {tolerance}"), 1.0)];
    reasons.extend(money.reasons(Rule::R2b));
    let mut found = verdict(Rule::R2b, Symptom::Amount, Cause::Unknown, 0.9, reasons);
    // What the feed does not tell may still be the fee that explains it.
    let untold = [("withdraw_fee_fen", row.withdraw_fee_fen.is_none()), ("second_orders", row.second_orders.is_none())];
    for (field, _) in untold.iter().filter(|(_, is_untold)| *is_untold) {
        judgement.lacks(Rule::R2b, field);
        found.standing = Standing::Suspected;
    }
    found.severity = match (money.residual > 0, found.standing) {
        (false, _) => Severity::Medium,
        (true, Standing::Proven) => Severity::Critical,
        (true, Standing::Suspected | Standing::Review) => Severity::High,
    };
    judgement.findings.push(finding(FindingKind::AmountShort, &found));
    judgement.matched(found);
}
