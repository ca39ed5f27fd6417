//! B6: settlements arrive under other merchant numbers more than by chance, and under which circumstances. Always said
//! with how much was compared at all: what was not looked at is not clean.

use super::super::statistics::{Table, Z_95, as_f64, benjamini_hochberg, wilson};
use super::{Missing, Reason, Verdict};

/// Fewest settlements that were compared.
pub const COMPARED_MIN: u64 = 30;
/// Fewest of them that differed.
pub const SWITCHED_MIN: u64 = 3;
/// How many times as often in one circumstance as in the others.
pub const RATIO_MIN: f64 = 3.0;
/// False discovery rate over all circumstances.
pub const Q_MAX: f64 = 0.05;

/// A circumstance by which settlements are split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Split {
    /// Hour of the local day.
    Hour,
    /// Band of the amount.
    Amount,
    /// How the card was presented.
    Entry,
    /// Channel.
    Channel,
}

impl Split {
    /// Name in evidence.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Amount => "amount",
            Self::Entry => "entry",
            Self::Channel => "channel",
        }
    }
}

/// One value of a circumstance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Which circumstance.
    pub split: Split,
    /// Which value.
    pub value: String,
    /// Settlements that were compared.
    pub compared: u64,
    /// Those that differed.
    pub switched: u64,
}

/// One merchant's settlements of a window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Input<'a> {
    /// Successful payments, compared or not.
    pub successful: u64,
    /// Those whose settlement was compared with the binding.
    pub compared: u64,
    /// Those that differed.
    pub switched: u64,
    /// The same by circumstance.
    pub groups: &'a [Group],
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Pattern {
    /// Share that differed.
    pub share: f64,
    /// Its 95 % interval.
    pub interval: (f64, f64),
    /// Share of the payments that was compared.
    pub coverage: f64,
    /// Circumstances in which it happens far more, with the ratio and the corrected p value.
    pub splits: Vec<(Group, f64, f64)>,
    /// Why.
    pub reasons: Vec<Reason>,
}

/// Judges one merchant: a pattern is where a circumstance stands out.
pub fn judge(input: Input<'_>) -> Verdict<Pattern> {
    if input.compared < COMPARED_MIN {
        return Verdict::Insufficient(Missing::Compared);
    }
    let Some(interval) = wilson(input.switched, input.compared, Z_95) else {
        return Verdict::Insufficient(Missing::Compared);
    };
    if input.switched < SWITCHED_MIN {
        return Verdict::Clear;
    }
    let tables: Vec<Table> = input
        .groups
        .iter()
        .map(|group| {
            let hit_in = group.switched.min(group.compared);
            let hit_out = input.switched.saturating_sub(hit_in);
            let outside = input.compared.saturating_sub(group.compared);
            Table { hit_in, spared_in: group.compared - hit_in, hit_out, spared_out: outside.saturating_sub(hit_out) }
        })
        .collect();
    let q = benjamini_hochberg(&tables.iter().map(|table| table.fisher()).collect::<Vec<_>>());
    let mut splits: Vec<(Group, f64, f64)> = Vec::new();
    for ((group, table), q) in input.groups.iter().zip(tables).zip(q) {
        let Some(ratio) = table.risk_ratio() else { continue };
        if table.hit_in >= SWITCHED_MIN && ratio >= RATIO_MIN && q < Q_MAX {
            splits.push((group.clone(), ratio, q));
        }
    }
    splits.sort_by(|one, other| one.2.total_cmp(&other.2).then_with(|| one.0.value.cmp(&other.0.value)));
    let Some((_, ratio, q)) = splits.first() else { return Verdict::Clear };
    let reasons = vec![
        Reason::new("switched", as_f64(input.switched), as_f64(SWITCHED_MIN)),
        Reason::new("lift", *ratio, RATIO_MIN),
        Reason::new("p_adjusted", *q, Q_MAX),
    ];
    Verdict::Hit(Pattern {
        share: as_f64(input.switched) / as_f64(input.compared),
        interval,
        coverage: as_f64(input.compared) / as_f64(input.successful.max(input.compared)),
        splits,
        reasons,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(switched_at: &[(usize, u64)]) -> Vec<Group> {
        (0..24)
            .map(|hour| {
                let switched = switched_at.iter().find(|(at, _)| *at == hour).map_or(0, |(_, n)| *n);
                Group { split: Split::Hour, value: format!("{hour:02}"), compared: 50, switched }
            })
            .collect()
    }

    fn judged(groups: &[Group]) -> Verdict<Pattern> {
        let compared = groups.iter().map(|group| group.compared).sum();
        let switched = groups.iter().map(|group| group.switched).sum();
        judge(Input { successful: compared * 2, compared, switched, groups })
    }

    #[test]
    fn switches_at_one_hour_are_a_pattern_with_its_coverage() {
        let Verdict::Hit(pattern) = judged(&hours(&[(23, 12), (4, 1)])) else { panic!("not seen") };
        assert_eq!(pattern.splits.iter().map(|(group, ..)| group.value.as_str()).collect::<Vec<_>>(), ["23"]);
        assert_eq!(pattern.coverage, 0.5);
        assert!(pattern.interval.0 < pattern.share && pattern.share < pattern.interval.1);
    }

    #[test]
    fn switches_without_a_circumstance_or_only_two_are_none() {
        let even: Vec<(usize, u64)> = (0..24).map(|hour| (hour, 1)).collect();
        assert_eq!(judged(&hours(&even)), Verdict::Clear);
        assert_eq!(judged(&hours(&[(23, 2)])), Verdict::Clear);
        assert_eq!(judged(&hours(&[])), Verdict::Clear);
    }

    #[test]
    fn too_few_comparisons_are_no_answer() {
        let groups = [Group { split: Split::Entry, value: "qr".to_owned(), compared: 29, switched: 29 }];
        assert_eq!(judged(&groups), Verdict::Insufficient(Missing::Compared));
    }
}
