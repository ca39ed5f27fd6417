//! B5: one terminal fails far more than others of its model and firmware on its carrier, on more than one day.

use super::super::statistics::{PEERS_MIN, Spread, as_f64};
use super::{Missing, Reason, Verdict};

/// Robust standard deviations above the median.
pub const Z_MIN: f64 = 4.0;
/// Fewest payments of a terminal in a day.
pub const ATTEMPTS_MIN: u64 = 10;
/// Days on which it must stand out …
pub const DAYS_MIN: usize = 2;
/// … of the last so many.
pub const DAYS_OF: i64 = 3;
/// Fewest failed slots of such a day: two bad moments are chance.
pub const FAILED_MIN: u64 = 3;
/// Smallest deviation of a failure rate, two in a hundred: most terminals fail never, and their deviation is zero.
pub const FLOOR: f64 = 0.02;

/// One terminal's day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Day {
    /// Terminal.
    pub terminal_id: i64,
    /// Payments.
    pub attempts: u64,
    /// Slots with a failure that the terminal itself can be the cause of.
    pub failed: u64,
}

impl Day {
    fn rate(self) -> f64 {
        as_f64(self.failed) / as_f64(self.attempts.max(1))
    }
}

/// A terminal that stands out on a day.
#[derive(Debug, Clone, PartialEq)]
pub struct Suspect {
    /// Its day.
    pub day: Day,
    /// Robust standard deviations above the median.
    pub z: f64,
    /// Median of its like.
    pub median: f64,
    /// How many of them.
    pub peers: u64,
    /// Why.
    pub reasons: Vec<Reason>,
}

/// Judges one day of terminals of one model and firmware on one carrier.
pub fn judge(days: &[Day]) -> Verdict<Vec<Suspect>> {
    let enough: Vec<Day> = days.iter().copied().filter(|day| day.attempts >= ATTEMPTS_MIN).collect();
    let rates: Vec<f64> = enough.iter().map(|day| day.rate()).collect();
    let Some(spread) = Spread::of(&rates, FLOOR) else {
        let is_idle = days.len() >= PEERS_MIN;
        return Verdict::Insufficient(if is_idle { Missing::Attempts } else { Missing::Peers });
    };
    let peers = u64::try_from(enough.len()).unwrap_or(u64::MAX);
    let suspects: Vec<Suspect> = enough
        .into_iter()
        .filter(|day| day.failed >= FAILED_MIN && spread.z(day.rate()) > Z_MIN)
        .map(|day| Suspect {
            day,
            z: spread.z(day.rate()),
            median: spread.median,
            peers,
            reasons: vec![
                Reason::new("z", spread.z(day.rate()), Z_MIN),
                Reason::new("attempts", as_f64(day.attempts), as_f64(ATTEMPTS_MIN)),
                Reason::new("failed", as_f64(day.failed), as_f64(FAILED_MIN)),
            ],
        })
        .collect();
    if suspects.is_empty() { Verdict::Clear } else { Verdict::Hit(suspects) }
}

/// Whether the days on which a terminal stood out, as numbers of days, are enough of the last ones up to `today`.
pub fn persists(days: &[i64], today: i64) -> bool {
    let mut recent: Vec<i64> = days.iter().copied().filter(|day| (today - DAYS_OF + 1..=today).contains(day)).collect();
    recent.sort_unstable();
    recent.dedup();
    recent.len() >= DAYS_MIN
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleet(n: i64, attempts: u64) -> Vec<Day> {
        (0..n).map(|terminal_id| Day { terminal_id, attempts, failed: u64::from(terminal_id % 9 == 0) }).collect()
    }

    #[test]
    fn a_terminal_that_fails_far_more_than_its_like_stands_out() {
        let mut days = fleet(50, 40);
        days[7].failed = 12;
        let Verdict::Hit(found) = judge(&days) else { panic!("not seen") };
        assert_eq!(found.iter().map(|suspect| suspect.day.terminal_id).collect::<Vec<_>>(), [7]);
        assert!((found[0].z - 15.0).abs() < 1e-9, "{}", found[0].z);
        assert_eq!(found[0].peers, 50);
    }

    #[test]
    fn a_few_failures_few_payments_or_a_fleet_that_fails_alike_do_not() {
        let mut days = fleet(50, 40);
        days[7].failed = 3;
        assert_eq!(judge(&days), Verdict::Clear, "three of forty are 3.75 deviations");
        days[7] = Day { terminal_id: 7, attempts: 9, failed: 9 };
        assert_eq!(judge(&days), Verdict::Clear, "nine payments");
        days[7] = Day { terminal_id: 7, attempts: 10, failed: 2 };
        assert_eq!(judge(&days), Verdict::Clear, "two bad moments");
        let alike: Vec<Day> =
            (0..50).map(|id| Day { terminal_id: id, attempts: 40, failed: 10 + (id % 5) as u64 }).collect();
        assert_eq!(judge(&alike), Verdict::Clear);
    }

    #[test]
    fn with_too_few_of_its_like_it_does_not_judge() {
        let mut days = fleet(9, 40);
        days[7].failed = 30;
        assert_eq!(judge(&days), Verdict::Insufficient(Missing::Peers));
        assert_eq!(judge(&fleet(30, 9)), Verdict::Insufficient(Missing::Attempts));
    }

    #[test]
    fn one_bad_day_is_none_and_two_of_three_are() {
        assert!(persists(&[10, 12], 12) && persists(&[11, 12], 12) && persists(&[10, 11], 12));
        assert!(!persists(&[12], 12) && !persists(&[12, 12], 12) && !persists(&[9, 12], 12) && !persists(&[], 12));
    }
}
