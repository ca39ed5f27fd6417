//! B6: settlements arrive under other merchant numbers more than by chance, and under which circumstances. Always said
//! with how much was compared at all: what was not looked at is not clean. A pattern is to be looked at by a person and
//! accuses nobody.

use std::collections::BTreeMap;

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

/// Values of one circumstance beyond which it splits nothing: the column holds something else.
pub const VALUES_MAX: usize = 50;
/// Bands of the amount: what is below so many fen, and its name in yuan.
const BANDS: [(i64, &str); 5] = [
    (10_000, "¥0–100"),
    (30_000, "¥100–300"),
    (100_000, "¥300–1000"),
    (500_000, "¥1000–5000"),
    (2_000_000, "¥5000–20000"),
];
const BAND_ABOVE: &str = "≥ ¥20000";

/// Name of the band that an amount in fen is in.
pub fn band(amount_fen: i64) -> &'static str {
    BANDS.iter().find(|(below_fen, _)| amount_fen < *below_fen).map_or(BAND_ABOVE, |(_, name)| name)
}

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

/// One payment whose settlement was compared with the binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compared<'a> {
    /// Hour of the local day, 0 to 23.
    pub hour: u8,
    /// Amount, fen.
    pub amount_fen: i64,
    /// How it was paid, where the channel says so.
    pub entry: Option<&'a str>,
    /// Channel.
    pub channel: &'a str,
    /// Whether it was settled under a number that is neither the bound one nor an alias.
    pub is_switched: bool,
}

/// One merchant's payments, counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Successful payments, compared or not.
    pub successful: u64,
    /// Those whose settlement was compared with the binding.
    pub compared: u64,
    /// Those that differed.
    pub switched: u64,
    values: BTreeMap<(Split, String), (u64, u64)>,
}

impl Tally {
    /// Counts a successful payment that was not compared, or not decided on.
    pub fn skip(&mut self) {
        self.successful += 1;
    }

    /// Counts a successful payment that was compared.
    pub fn compare(&mut self, payment: Compared<'_>) {
        self.successful += 1;
        self.compared += 1;
        self.switched += u64::from(payment.is_switched);
        let values = [
            (Split::Hour, Some(format!("{:02}:00–{:02}:59", payment.hour, payment.hour))),
            (Split::Amount, Some(band(payment.amount_fen).to_owned())),
            (Split::Entry, payment.entry.map(str::to_owned)),
            (Split::Channel, Some(payment.channel.to_owned())),
        ];
        for (split, value) in values {
            let Some(value) = value else { continue };
            let (compared, switched) = self.values.entry((split, value)).or_default();
            *compared += 1;
            *switched += u64::from(payment.is_switched);
        }
    }

    /// The counts by circumstance; without those that have more than [`VALUES_MAX`] values.
    pub fn groups(&self) -> Vec<Group> {
        let mut sizes: BTreeMap<Split, usize> = BTreeMap::new();
        for (split, _) in self.values.keys() {
            *sizes.entry(*split).or_default() += 1;
        }
        let group = |((split, value), (compared, switched)): (&(Split, String), &(u64, u64))| {
            (sizes.get(split).is_some_and(|size| *size <= VALUES_MAX)).then(|| Group {
                split: *split,
                value: value.clone(),
                compared: *compared,
                switched: *switched,
            })
        };
        self.values.iter().filter_map(group).collect()
    }

    /// Judges what was counted.
    pub fn judge(&self) -> Verdict<Pattern> {
        let groups = self.groups();
        judge(Input { successful: self.successful, compared: self.compared, switched: self.switched, groups: &groups })
    }
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

    fn payment(hour: u8, is_switched: bool) -> Compared<'static> {
        Compared { hour, amount_fen: 9_900, entry: None, channel: "1", is_switched }
    }

    #[test]
    fn what_was_counted_is_judged_by_each_circumstance_that_is_known() {
        let mut tally = Tally::default();
        for n in 0..60 {
            tally.compare(payment(n % 12, false));
        }
        (0..6).for_each(|_| tally.compare(payment(23, true)));
        (0..34).for_each(|_| tally.skip());
        assert_eq!((tally.successful, tally.compared, tally.switched), (100, 66, 6));
        let splits: Vec<Split> = tally.groups().iter().map(|group| group.split).collect();
        assert!(!splits.contains(&Split::Entry), "nothing is said of it");
        let Verdict::Hit(pattern) = tally.judge() else { panic!("not seen") };
        assert_eq!(pattern.coverage, 0.66);
        let found: Vec<_> = pattern.splits.iter().map(|(group, ..)| (group.split, group.value.as_str())).collect();
        assert_eq!(found, [(Split::Hour, "23:00–23:59")], "one channel and one band stand out against nothing");
    }

    #[test]
    fn a_column_with_a_value_for_each_payment_splits_nothing() {
        let mut tally = Tally::default();
        let names: Vec<String> = (0..=VALUES_MAX).map(|n| format!("no {n}")).collect();
        for name in &names {
            tally.compare(Compared { entry: Some(name), ..payment(3, false) });
        }
        assert!(tally.groups().iter().all(|group| group.split != Split::Entry));
        let mut few = Tally::default();
        names.iter().skip(1).for_each(|name| few.compare(Compared { entry: Some(name), ..payment(3, false) }));
        assert_eq!(few.groups().iter().filter(|group| group.split == Split::Entry).count(), VALUES_MAX);
    }

    #[test]
    fn an_amount_is_in_one_band() {
        for (amount_fen, name) in [
            (-1, "¥0–100"),
            (9_999, "¥0–100"),
            (10_000, "¥100–300"),
            (100_000, "¥1000–5000"),
            (1_999_999, "¥5000–20000"),
            (2_000_000, "≥ ¥20000"),
        ] {
            assert_eq!(band(amount_fen), name, "{amount_fen}");
        }
    }

    #[test]
    fn too_few_comparisons_are_no_answer() {
        let groups = [Group { split: Split::Entry, value: "qr".to_owned(), compared: 29, switched: 29 }];
        assert_eq!(judged(&groups), Verdict::Insufficient(Missing::Compared));
    }
}
