//! B2: one place or carrier fails: an operator code, an area, a cell, an access point or a region in which far more
//! terminals fail to reach the host than outside of it.
//!
//! A cell lies in an area, the area in a region, and all of them show one fault. The best place is taken, its terminals
//! are left out, and the rest is looked at again: what only shared those terminals with it does not appear.

use std::collections::{BTreeMap, BTreeSet};

use super::super::statistics::{Table, as_f64, benjamini_hochberg};
use super::{Missing, Reason, Verdict};

/// Largest p value of one place …
pub const P_MAX: f64 = 0.001;
/// … and largest false discovery rate over all places.
pub const Q_MAX: f64 = 0.05;
/// How many times as often terminals must fail inside.
pub const RATIO_MIN: f64 = 3.0;
/// Fewest failing terminals inside.
pub const FAILING_MIN: u64 = 3;
/// Fewest terminals in all, and fewest outside: there is nothing to compare with below.
pub const TERMINALS_MIN: usize = 20;
const OUTSIDE_MIN: u64 = 10;
/// Places that one look names: more at once are not local.
const FOUND_MAX: usize = 6;
/// Others that fit as well are named up to this many.
const ALSO_MAX: usize = 5;

/// A kind of place, the narrowest first: of two that fit alike the narrower is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// WiFi access point, by the hash of its address.
    Bssid,
    /// Cell, with its operator code.
    Cell,
    /// Tracking area, with its operator code.
    Tac,
    /// Operator code.
    Plmn,
    /// Region of the registry.
    Region,
}

impl Field {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Bssid, Self::Cell, Self::Tac, Self::Plmn, Self::Region];

    /// Name in evidence and keys.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bssid => "bssid_hash",
            Self::Cell => "cell",
            Self::Tac => "tac",
            Self::Plmn => "plmn",
            Self::Region => "region",
        }
    }

    /// The kind of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|field| field.as_str() == name)
    }
}

/// Where something is: the kind of place and which.
pub type Place = (Field, String);

/// One terminal by its latest check-in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Terminal.
    pub terminal_id: i64,
    /// Whether a payment in it did not get through to the host.
    pub failed: bool,
    /// Where it is. Places that are not known are absent.
    pub places: Vec<Place>,
}

/// A place that fails.
#[derive(Debug, Clone, PartialEq)]
pub struct Area {
    /// Which.
    pub place: Place,
    /// Failing terminals inside.
    pub terminal_ids: Vec<i64>,
    /// Inside and outside.
    pub table: Table,
    /// How many times as often they fail inside.
    pub ratio: f64,
    /// Other places whose failing terminals are all among these.
    pub also: Vec<Place>,
    /// Why.
    pub reasons: Vec<Reason>,
}

/// Judges the terminals seen in a window.
pub fn judge(seen: &[Seen]) -> Verdict<Vec<Area>> {
    if seen.len() < TERMINALS_MIN {
        return Verdict::Insufficient(Missing::Terminals);
    }
    let mut left: Vec<&Seen> = seen.iter().collect();
    let mut found: Vec<Area> = Vec::new();
    while found.len() < FOUND_MAX {
        let Some(area) = best(&left) else { break };
        left.retain(|seen| !seen.places.contains(&area.place));
        found.push(area);
    }
    if found.is_empty() { Verdict::Clear } else { Verdict::Hit(found) }
}

/// What is known of one place.
#[derive(Debug, Clone, Default)]
struct Count {
    all: u64,
    failing: Vec<i64>,
}

fn best(seen: &[&Seen]) -> Option<Area> {
    let mut counts: BTreeMap<&Place, Count> = BTreeMap::new();
    for one in seen {
        for place in &one.places {
            let count = counts.entry(place).or_default();
            count.all += 1;
            if one.failed {
                count.failing.push(one.terminal_id);
            }
        }
    }
    let total = u64::try_from(seen.len()).unwrap_or(u64::MAX);
    let failing = u64::try_from(seen.iter().filter(|one| one.failed).count()).unwrap_or(u64::MAX);
    let tables: Vec<(&Place, &Count, Table)> = counts
        .iter()
        .map(|(place, count)| {
            let hit_in = u64::try_from(count.failing.len()).unwrap_or(u64::MAX);
            let hit_out = failing.saturating_sub(hit_in);
            let spared_in = count.all.saturating_sub(hit_in);
            let spared_out = total.saturating_sub(count.all).saturating_sub(hit_out);
            (*place, count, Table { hit_in, spared_in, hit_out, spared_out })
        })
        .collect();
    // Every place counts as a test; those that cannot pass need not be computed.
    let p: Vec<f64> =
        tables.iter().map(|(_, _, table)| if table.hit_in < FAILING_MIN { 1.0 } else { table.fisher() }).collect();
    let q = benjamini_hochberg(&p);
    let mut passed: Vec<(f64, f64, f64, &Place, &Count, Table)> = Vec::new();
    for (((place, count, table), p), q) in tables.into_iter().zip(p).zip(q) {
        let Some(ratio) = table.risk_ratio() else { continue };
        let is_comparable = table.hit_out + table.spared_out >= OUTSIDE_MIN;
        if is_comparable && table.hit_in >= FAILING_MIN && p < P_MAX && q < Q_MAX && ratio >= RATIO_MIN {
            passed.push((p, q, ratio, place, count, table));
        }
    }
    passed.sort_by(|one, other| one.0.total_cmp(&other.0).then(one.3.cmp(other.3)));
    let (p, q, ratio, place, count, table) = *passed.first()?;
    let own: BTreeSet<i64> = count.failing.iter().copied().collect();
    let also = passed.iter().skip(1).filter(|other| other.4.failing.iter().all(|id| own.contains(id)));
    Some(Area {
        place: place.clone(),
        terminal_ids: own.iter().copied().collect(),
        table,
        ratio,
        also: also.map(|other| other.3.clone()).take(ALSO_MAX).collect(),
        reasons: vec![
            Reason::new("affected", as_f64(table.hit_in), as_f64(FAILING_MIN)),
            Reason::new("lift", ratio, RATIO_MIN),
            Reason::new("p_value", p, P_MAX),
            Reason::new("p_adjusted", q, Q_MAX),
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(id: i64, failed: bool, places: &[(Field, &str)]) -> Seen {
        let places = places.iter().map(|(field, value)| (*field, (*value).to_owned())).collect();
        Seen { terminal_id: id, failed, places }
    }

    /// 200 terminals in ten cells of four areas; those of which `fails` is true fail.
    fn fleet(fails: impl Fn(i64) -> bool) -> Vec<Seen> {
        let one = |id: i64| {
            let (cell, tac) = (format!("46000-{}", id % 10), format!("46000-{}", id % 4));
            let region = if id % 2 == 0 { "3101" } else { "3301" };
            seen(
                id,
                fails(id),
                &[
                    (Field::Cell, &cell),
                    (Field::Tac, &tac),
                    (Field::Plmn, if id % 3 == 0 { "46001" } else { "46000" }),
                    (Field::Region, region),
                ],
            )
        };
        (0..200).map(one).collect()
    }

    #[test]
    fn a_cell_that_is_down_is_named_once_and_by_its_narrowest_place() {
        let Verdict::Hit(found) = judge(&fleet(|id| id % 10 == 3 || id == 4)) else { panic!("not seen") };
        assert_eq!(found.len(), 1, "{found:?}");
        let area = &found[0];
        assert_eq!(area.place, (Field::Cell, "46000-3".to_owned()));
        assert_eq!((area.terminal_ids.len(), area.table.hit_out), (20, 1));
        assert!(area.ratio > 100.0 && area.reasons.len() == 4);
    }

    #[test]
    fn two_places_are_two_findings() {
        let Verdict::Hit(found) = judge(&fleet(|id| id % 10 == 3 || id % 10 == 6)) else { panic!("not seen") };
        let places: Vec<&str> = found.iter().map(|area| area.place.1.as_str()).collect();
        assert_eq!(places, ["46000-3", "46000-6"]);
    }

    #[test]
    fn failures_that_are_everywhere_have_no_place() {
        assert_eq!(judge(&fleet(|id| id % 7 == 0)), Verdict::Clear);
        assert_eq!(judge(&fleet(|_| true)), Verdict::Clear);
        assert_eq!(judge(&fleet(|_| false)), Verdict::Clear);
    }

    #[test]
    fn two_terminals_are_no_place_and_a_small_excess_is_none() {
        assert_eq!(judge(&fleet(|id| id == 3 || id == 13)), Verdict::Clear, "two terminals");
        let doubled = |id: i64| id / 20 % 5 < if id % 2 == 0 { 2 } else { 1 };
        assert_eq!(judge(&fleet(doubled)), Verdict::Clear, "twice as often is not three times");
    }

    #[test]
    fn few_terminals_are_not_judged() {
        let few: Vec<Seen> =
            (0..19).map(|id| seen(id, id < 5, &[(Field::Region, ["a", "b"][usize::from(id < 5)])])).collect();
        assert_eq!(judge(&few), Verdict::Insufficient(Missing::Terminals));
        let inside: Vec<Seen> =
            (0..40).map(|id| seen(id, id < 20, &[(Field::Region, if id < 35 { "a" } else { "b" })])).collect();
        assert_eq!(judge(&inside), Verdict::Clear, "nine outside are nothing to compare with");
    }
}
