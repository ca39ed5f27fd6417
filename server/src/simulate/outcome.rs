//! What came of a demo: what was sent against what the server counted, and where and on what failures happened.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value;
use tillward_protocol::phase::Reason;

use super::admin::{number, text};
use super::terminal::Tally;
use crate::checkin;
use crate::failures::Overview;

/// Other conditions that fit as well, with each cause that is printed.
const ALSO_FITS_MAX: usize = 2;

/// The totals that `--json` prints.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Totals {
    /// Terminals, real agents included.
    pub terminals: u64,
    /// Check-ins that terminals and agents sent, each counted once however often it was sent.
    pub check_ins_sent: u64,
    /// Check-ins that the server counted.
    pub check_ins_counted: i64,
    /// Failures in them.
    pub failures_sent: u64,
    /// Failures that the server counted.
    pub failures_counted: i64,
    /// Terminals that run a newer firmware now.
    pub updated: i64,
    /// Terminals that refused what they could not trust.
    pub refused: i64,
    /// Terminals that took a firmware back.
    pub rolled_back: i64,
    /// How long it took, s.
    pub seconds: f64,
}

impl Totals {
    /// Adds up `terminals` simulated terminals and the agents' own books; each agent was left `left` failures.
    ///
    /// # Errors
    /// When a book cannot be read, or the server's two ways of counting differ.
    pub fn new(
        terminals: u64,
        tally: Tally,
        agents: &[Value],
        left: u64,
        counted: checkin::Totals,
        rollouts: &[Value],
        seconds: f64,
    ) -> anyhow::Result<Self> {
        anyhow::ensure!(
            (counted.check_ins, counted.failures) == (counted.state_check_ins, counted.state_failures),
            "the server's own counts differ: {counted:?}"
        );
        let mut totals = Self {
            terminals: terminals + agents.len() as u64,
            check_ins_sent: tally.check_ins,
            check_ins_counted: counted.check_ins,
            failures_sent: tally.failures,
            failures_counted: counted.failures,
            updated: 0,
            refused: 0,
            rolled_back: 0,
            seconds,
        };
        for agent in agents {
            let spool = &agent["spool"];
            let unsent = number(spool, "failures_waiting")? + number(spool, "failures_dropped")?;
            totals.check_ins_sent += u64::try_from(number(spool, "last_seq")?)?;
            totals.failures_sent += left.saturating_sub(u64::try_from(unsent)?);
        }
        for rollout in rollouts {
            totals.updated += rollout["counts"]["succeeded"].as_i64().unwrap_or(0);
            totals.rolled_back += rollout["counts"]["rolled_back"].as_i64().unwrap_or(0);
            totals.refused += refusals(rollout);
        }
        Ok(totals)
    }

    /// The same in sentences.
    pub fn sentences(&self) -> String {
        let verdict = |sent: u64, counted: i64| {
            if i64::try_from(sent) == Ok(counted) { "each counted exactly once" } else { "THESE DIFFER" }
        };
        format!(
            "check-ins  {} sent, {} counted: {}\nfailures   {} sent, {} counted: {}\n\
             terminals  {}: {} updated, {} refused, {} rolled back\ntook {:.1} s\n",
            self.check_ins_sent,
            self.check_ins_counted,
            verdict(self.check_ins_sent, self.check_ins_counted),
            self.failures_sent,
            self.failures_counted,
            verdict(self.failures_sent, self.failures_counted),
            self.terminals,
            self.updated,
            self.refused,
            self.rolled_back,
            self.seconds,
        )
    }
}

/// Terminals of a rollout that refused what they could not trust.
fn refusals(rollout: &Value) -> i64 {
    let is_refusal =
        |name: &Value| Reason::ALL.into_iter().any(|reason| *name == reason.as_str() && reason.is_refusal());
    let reasons = rollout["reasons"].as_array().map(Vec::as_slice).unwrap_or_default();
    let refused = reasons.iter().filter(|row| row["phase"] == "failed" && is_refusal(&row["reason"]));
    refused.filter_map(|row| row["n"].as_i64()).sum()
}

/// Where and on what failures happened in the last `hours` hours, in sentences.
pub fn explain(overview: &Overview, hours: u32) -> String {
    let mut text = format!(
        "Failures of the last {hours} hours: {:.0} of {:.0} active intervals had one, {:.0} were expected.\n",
        overview.failures, overview.exposures, overview.expected
    );
    // Writing to a string does not fail.
    for found in &overview.explanations {
        let conditions = found.all_of.iter().map(|condition| format!("{} = {}", condition.attribute, condition.value));
        let _ = writeln!(
            text,
            "  cause: {}\n         {:.0} intervals with failures instead of {:.0}: {:.1} times as many (95 %: {:.1} to {:.1})",
            conditions.collect::<Vec<_>>().join(" and "),
            found.failures,
            found.expected,
            found.lift,
            found.lift_low,
            found.lift_high,
        );
        for (set, overlap) in found.also_fits.iter().take(ALSO_FITS_MAX) {
            let conditions = set.iter().map(|condition| format!("{} = {}", condition.attribute, condition.value));
            let conditions = conditions.collect::<Vec<_>>().join(" and ");
            let _ = writeln!(text, "         also fits: {conditions} ({:.0} % of the same intervals)", overlap * 100.0);
        }
    }
    if overview.explanations.is_empty() {
        text.push_str("  no condition stands out\n");
    }
    if !overview.suspected_terminals.is_empty() {
        let _ = writeln!(text, "  set aside, because they fail alone: terminals {:?}", overview.suspected_terminals);
    }
    let outcomes = overview.outcomes.iter().take(6).map(|(outcome, count)| format!("{outcome} × {count}"));
    let _ = write!(text, "  most frequent: {}", outcomes.collect::<Vec<_>>().join(", "));
    text
}

/// How many failures the rules give which cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Causes(Vec<(String, i64)>);

impl Causes {
    /// Of the server's answer, the most frequent first.
    ///
    /// # Errors
    /// When it has another shape.
    pub fn of(answer: &Value) -> anyhow::Result<Self> {
        let rows = answer["causes"].as_array().ok_or_else(|| anyhow::anyhow!("causes are missing: {answer}"))?;
        // A cause with two symptoms has two rows.
        let mut by_cause: BTreeMap<String, i64> = BTreeMap::new();
        for row in rows {
            *by_cause.entry(text(row, "cause")?).or_default() += number(row, "count")?;
        }
        let mut causes: Vec<(String, i64)> = by_cause.into_iter().collect();
        causes.sort_by(|(one, few), (other, many)| many.cmp(few).then_with(|| one.cmp(other)));
        Ok(Self(causes))
    }

    /// Failures that have one.
    pub fn judged(&self) -> i64 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    /// The same in a sentence, of all `failures`.
    pub fn sentence(&self, failures: i64) -> String {
        let named: Vec<String> = self.0.iter().take(8).map(|(cause, count)| format!("{cause} × {count}")).collect();
        format!("Causes by the rules, {} of {failures} failures judged:\n  {}", self.judged(), named.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn counted(check_ins: i64) -> checkin::Totals {
        checkin::Totals { check_ins, failures: 3, state_check_ins: 15, state_failures: 3 }
    }

    fn totals(check_ins: i64) -> anyhow::Result<Totals> {
        let tally = Tally { check_ins: 10, failures: 1, resent: 2 };
        let agent = json!({"spool": {"last_seq": 5, "failures_waiting": 1, "failures_dropped": 1}});
        let rollout = json!({"counts": {"succeeded": 4, "rolled_back": 2}, "reasons": [
            {"phase": "failed", "reason": "digest_mismatch", "n": 2}, {"phase": "failed", "reason": "no_space", "n": 7},
            {"phase": "offered", "reason": "wrong_key", "n": 9}]});
        Totals::new(10, tally, &[agent], 4, counted(check_ins), &[rollout], 1.0)
    }

    #[test]
    fn agents_count_by_their_own_books_and_only_distrust_is_a_refusal() {
        let totals = totals(15).unwrap();
        assert_eq!((totals.terminals, totals.check_ins_sent, totals.failures_sent), (11, 15, 3));
        assert_eq!((totals.updated, totals.refused, totals.rolled_back), (4, 2, 2));
        assert!(!totals.sentences().contains("DIFFER"));
    }

    #[test]
    fn a_difference_is_said_and_books_that_disagree_are_an_error() {
        let mut lost = totals(15).unwrap();
        lost.check_ins_counted -= 1;
        assert!(lost.sentences().contains("THESE DIFFER"));
        assert!(totals(14).is_err());
    }

    #[test]
    fn the_most_frequent_cause_comes_first_and_what_is_not_judged_shows() {
        let answer = json!({"causes": [
            {"cause": "NET.SIGNAL", "count": 3}, {"cause": "BNK.CARD", "count": 4}, {"cause": "DEV.RESET", "count": 3},
            {"cause": "BNK.CARD", "count": 1},
        ]});
        let causes = Causes::of(&answer).unwrap();
        assert_eq!(causes.judged(), 11);
        let said = causes.sentence(12);
        assert!(said.contains("11 of 12 failures judged"), "{said}");
        assert!(said.ends_with("BNK.CARD × 5, DEV.RESET × 3, NET.SIGNAL × 3"), "{said}");
        assert!(Causes::of(&json!({})).is_err());
    }
}
