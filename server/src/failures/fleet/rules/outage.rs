//! B1: the bank or the switch between banks fails, for all carriers and regions alike.

use std::collections::BTreeSet;

use super::super::statistics::{as_f64, poisson_upper};
use super::{Missing, Reason, Verdict};

/// Response codes (8583 field 39) that say so: no answer in time (68, 98), day's cut-over (90), issuer or switch down
/// (91, 92, 96). A wait for the host that timed out without a code says the same.
pub const CODES: [&str; 6] = ["68", "90", "91", "92", "96", "98"];
/// The bank changes its day: not a fault around midnight.
pub const CUTOVER: &str = "90";
/// Minutes of the local day between which the cut-over is expected: 23:00 to 00:30.
const CUTOVER_FROM_MIN: i64 = 23 * 60;
const CUTOVER_TO_MIN: i64 = 30;
/// Chance of as many failures on an ordinary day below which it is no ordinary day.
pub const P_MAX: f64 = 1e-4;
/// Fewest failed slots …
pub const FAILED_MIN: u64 = 5;
/// … and fewest as a share of the terminals in use.
pub const SHARE_MIN: f64 = 0.01;
/// Carriers (or WiFi beside one) and regions that must be hit: else it is the network or the place.
pub const SPREAD_MIN: usize = 2;
/// Fewest failures that are ever expected: an hour that never saw one does not turn the first into proof.
const EXPECTED_MIN: f64 = 0.1;

/// One failed slot of one terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// Terminal.
    pub terminal_id: i64,
    /// Response code; none when the host did not answer.
    pub code: Option<String>,
    /// Carrier, or how the terminal is connected without one (`wifi`, `eth`); empty when not known.
    pub way: String,
    /// Region; empty when not known.
    pub region: String,
}

/// What the rule looks at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Input<'a> {
    /// Failed slots of the window, one for each terminal and slot.
    pub failed: &'a [Failed],
    /// How many there usually are; `None` without history.
    pub expected: Option<f64>,
    /// Terminals in use.
    pub terminals: u64,
    /// Minute of the local day.
    pub minute: i64,
}

/// What it found.
#[derive(Debug, Clone, PartialEq)]
pub struct Outage {
    /// Terminals that failed, by number.
    pub terminal_ids: Vec<i64>,
    /// Failed slots.
    pub failed: u64,
    /// Expected ones.
    pub expected: f64,
    /// Carriers and other ways to the network that are hit.
    pub ways: Vec<String>,
    /// Regions that are hit.
    pub regions: Vec<String>,
    /// Codes seen, `–` for no answer.
    pub codes: Vec<String>,
    /// Why.
    pub reasons: Vec<Reason>,
}

/// Judges a window.
pub fn judge(input: Input<'_>) -> Verdict<Outage> {
    let Some(expected) = input.expected else { return Verdict::Insufficient(Missing::History) };
    let is_cutover = input.minute >= CUTOVER_FROM_MIN || input.minute < CUTOVER_TO_MIN;
    let all: Vec<&Failed> = input.failed.iter().collect();
    if !is_cutover {
        return hit(&all, expected, input.terminals).map_or(Verdict::Clear, Verdict::Hit);
    }
    let others: Vec<&Failed> = input.failed.iter().filter(|failed| failed.code.as_deref() != Some(CUTOVER)).collect();
    match (hit(&others, expected, input.terminals), hit(&all, expected, input.terminals)) {
        (Some(outage), _) => Verdict::Hit(outage),
        (None, Some(cutover)) => Verdict::Info(cutover),
        (None, None) => Verdict::Clear,
    }
}

fn hit(failed: &[&Failed], expected: f64, terminals: u64) -> Option<Outage> {
    let expected = expected.max(EXPECTED_MIN);
    let count = u64::try_from(failed.len()).unwrap_or(u64::MAX);
    let least = as_f64(FAILED_MIN).max(SHARE_MIN * as_f64(terminals));
    let named = |of: fn(&Failed) -> &str| -> Vec<String> {
        let names: BTreeSet<&str> = failed.iter().map(|failed| of(failed)).filter(|name| !name.is_empty()).collect();
        names.into_iter().map(str::to_owned).collect()
    };
    let (ways, regions) = (named(|failed| &failed.way), named(|failed| &failed.region));
    let p = poisson_upper(count, expected);
    if as_f64(count) < least || ways.len() < SPREAD_MIN || regions.len() < SPREAD_MIN || p >= P_MAX {
        return None;
    }
    let terminal_ids: BTreeSet<i64> = failed.iter().map(|failed| failed.terminal_id).collect();
    let reasons = vec![
        Reason::new("failures", as_f64(count), least),
        Reason::new("p_adjusted", p, P_MAX),
        Reason::new("ways", as_f64(ways.len() as u64), as_f64(SPREAD_MIN as u64)),
        Reason::new("regions", as_f64(regions.len() as u64), as_f64(SPREAD_MIN as u64)),
    ];
    Some(Outage {
        terminal_ids: terminal_ids.into_iter().collect(),
        failed: count,
        expected,
        codes: named(|failed| failed.code.as_deref().unwrap_or("–")),
        ways,
        regions,
        reasons,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(id: i64, code: &str, way: &str, region: &str) -> Failed {
        let code = Some(code.to_owned()).filter(|code| !code.is_empty());
        Failed { terminal_id: id, code, way: way.to_owned(), region: region.to_owned() }
    }

    fn many(n: i64, code: &str) -> Vec<Failed> {
        let ways = ["CMCC", "CUCC", "wifi"];
        let place = |id: i64| (ways[usize::try_from(id % 3).unwrap()], if id % 2 == 0 { "3101" } else { "3301" });
        (0..n).map(|id| failed(id, code, place(id).0, place(id).1)).collect()
    }

    const NOON: i64 = 12 * 60;

    fn input(failed: &[Failed]) -> Input<'_> {
        Input { failed, expected: Some(2.0), terminals: 400, minute: NOON }
    }

    #[test]
    fn a_bank_that_is_down_everywhere_is_named() {
        let seen = many(12, "91");
        let Verdict::Hit(outage) = judge(input(&seen)) else { panic!("not seen") };
        assert_eq!((outage.failed, outage.terminal_ids.len()), (12, 12));
        assert_eq!((outage.ways.len(), outage.regions.len(), outage.codes), (3, 2, vec!["91".to_owned()]));
        assert_eq!(outage.reasons.len(), 4);
        let silent = many(12, "");
        assert!(matches!(judge(input(&silent)), Verdict::Hit(outage) if outage.codes == ["–"]), "no answer in time");
    }

    #[test]
    fn too_few_one_carrier_one_region_or_an_ordinary_hour_are_no_outage() {
        assert_eq!(judge(input(&many(4, "91"))), Verdict::Clear, "fewer than five");
        let large = many(12, "91");
        assert_eq!(judge(Input { terminals: 2_000, ..input(&large) }), Verdict::Clear, "less than one percent");
        let one_way: Vec<Failed> = (0..12).map(|id| failed(id, "91", "CMCC", ["a", "b"][id as usize % 2])).collect();
        assert_eq!(judge(input(&one_way)), Verdict::Clear, "that is the carrier");
        let one_region: Vec<Failed> =
            (0..12).map(|id| failed(id, "91", ["CMCC", "CUCC"][id as usize % 2], "a")).collect();
        assert_eq!(judge(input(&one_region)), Verdict::Clear, "that is the place");
        assert_eq!(judge(Input { expected: Some(9.0), ..input(&large) }), Verdict::Clear, "it is always so");
        let unknown: Vec<Failed> = (0..12).map(|id| failed(id, "91", "", "")).collect();
        assert_eq!(judge(input(&unknown)), Verdict::Clear, "an unknown place is not a second one");
    }

    #[test]
    fn without_history_it_does_not_judge() {
        let seen = many(50, "91");
        let judged = judge(Input { expected: None, ..input(&seen) });
        assert_eq!(judged, Verdict::Insufficient(Missing::History));
    }

    #[test]
    fn the_days_end_is_news_and_not_a_fault_and_hides_no_other() {
        let seen = many(12, CUTOVER);
        for (minute, is_night) in [(23 * 60, true), (29, true), (0, true), (22 * 60 + 59, false), (30, false)] {
            let judged = judge(Input { minute, ..input(&seen) });
            assert_eq!(judged.as_str(), if is_night { "info" } else { "hit" }, "{minute}");
        }
        let mut both = many(12, CUTOVER);
        both.extend(many(12, "96"));
        let judged = judge(Input { minute: 5, ..input(&both) });
        assert!(matches!(judged, Verdict::Hit(outage) if outage.failed == 12));
    }

    #[test]
    fn an_hour_without_a_single_failure_before_does_not_make_five_of_them_proof() {
        assert_eq!(judge(Input { expected: Some(0.0), ..input(&many(4, "91")) }), Verdict::Clear);
        assert_eq!(judge(Input { expected: Some(0.0), ..input(&many(6, "91")) }).as_str(), "hit");
    }
}
