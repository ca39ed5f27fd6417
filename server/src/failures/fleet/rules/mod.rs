//! The fleet's rules as pure functions over small inputs. Each has its thresholds beside it with their source, says what
//! it saw against which threshold, and answers [`Verdict::Insufficient`] where it has too little to judge by.
//!
//! B0, the unit of all of them: a terminal fails at most once in ten minutes ([`slot`]). Retries of one bad terminal must
//! not look like an outage. B4 (a firmware that fails more) is judged by the gate of its rollout, B7 (parameters that
//! drift) by the check-ins themselves; both open their incidents there.

pub mod area;
pub mod expiry;
pub mod offline;
pub mod outage;
pub mod pool;
pub mod silence;
pub mod suspect;
pub mod switch;

/// Length of a slot, ms.
pub const SLOT_MS: i64 = 600_000;

/// The slot that a moment is in. Fixed, so that the database counts history in the same unit.
pub fn slot(at_ms: i64) -> i64 {
    at_ms.div_euclid(SLOT_MS)
}

/// What a rule says.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict<T> {
    /// It holds.
    Hit(T),
    /// It would hold, but for what is known to happen at this hour: shown, and nobody is woken.
    Info(T),
    /// It does not hold.
    Clear,
    /// There is too little to judge by.
    Insufficient(Missing),
}

impl<T> Verdict<T> {
    /// Name in tables and answers.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Hit(_) => "hit",
            Self::Info(_) => "info",
            Self::Clear => "clear",
            Self::Insufficient(_) => "insufficient",
        }
    }

    /// What it lacks.
    pub fn missing(&self) -> Option<Missing> {
        match self {
            Self::Insufficient(missing) => Some(*missing),
            Self::Hit(_) | Self::Info(_) | Self::Clear => None,
        }
    }
}

/// What a rule lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Weeks that this hour was seen in.
    History,
    /// Terminals.
    Terminals,
    /// Terminals to compare with.
    Peers,
    /// Payments.
    Attempts,
    /// Settlements that were compared.
    Compared,
}

impl Missing {
    /// Every one.
    pub const ALL: [Self; 5] = [Self::History, Self::Terminals, Self::Peers, Self::Attempts, Self::Compared];

    /// Name in tables and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::History => "history",
            Self::Terminals => "terminals",
            Self::Peers => "peers",
            Self::Attempts => "attempts",
            Self::Compared => "compared",
        }
    }
}

/// Which rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// The bank or the switch fails.
    BankOutage,
    /// An area or a carrier fails.
    AreaOutage,
    /// The cards of one pool fell silent.
    SimPool,
    /// One terminal fails far more than its like.
    TerminalSuspect,
    /// Payments arrive under other merchant numbers.
    MerchantSwitch,
    /// Many terminals fell silent at once.
    Offline,
    /// A terminal that must not call in does.
    BlockedCalling,
    /// A certificate or a card runs out.
    Expiry,
}

impl Rule {
    /// Every rule that the pass evaluates, in the order in which it does: parents before what they mask.
    pub const ALL: [Self; 8] = [
        Self::BankOutage,
        Self::AreaOutage,
        Self::SimPool,
        Self::Offline,
        Self::TerminalSuspect,
        Self::MerchantSwitch,
        Self::BlockedCalling,
        Self::Expiry,
    ];

    /// Its short name, as in evidence.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BankOutage => "B1",
            Self::AreaOutage => "B2",
            Self::SimPool => "B3",
            Self::TerminalSuspect => "B5",
            Self::MerchantSwitch => "B6",
            Self::Offline => "offline",
            Self::BlockedCalling => "blocked",
            Self::Expiry => "expiry",
        }
    }

    /// The rule of this short name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.as_str() == name)
    }

    /// What is not seen for this long is over, ms. Three passes could have missed it; a suspect is judged once a day.
    pub fn quiet_ms(self) -> i64 {
        const MINUTE_MS: i64 = 60_000;
        match self {
            Self::BankOutage | Self::AreaOutage | Self::SimPool | Self::Offline => 30 * MINUTE_MS,
            Self::BlockedCalling => 24 * 60 * MINUTE_MS,
            Self::TerminalSuspect | Self::MerchantSwitch | Self::Expiry => 50 * 60 * MINUTE_MS,
        }
    }

    /// Whether it is about terminals that do not call: that is over when they call again, not when nobody looks any more.
    pub fn is_of_silence(self) -> bool {
        match self {
            Self::SimPool | Self::Offline => true,
            Self::BankOutage
            | Self::AreaOutage
            | Self::TerminalSuspect
            | Self::MerchantSwitch
            | Self::BlockedCalling
            | Self::Expiry => false,
        }
    }
}

/// One line of "why": what was observed against which threshold.
#[derive(Debug, Clone, PartialEq)]
pub struct Reason {
    /// Which value.
    pub field: &'static str,
    /// What it was.
    pub observed: f64,
    /// What it is held against.
    pub threshold: f64,
}

impl Reason {
    /// A line.
    pub fn new(field: &'static str, observed: f64, threshold: f64) -> Self {
        Self { field, observed, threshold }
    }
}

/// The lowest organization that contains all of these, as a path; the whole tree for none.
pub fn common_path<'a>(paths: impl IntoIterator<Item = &'a str>) -> String {
    let mut paths = paths.into_iter();
    let Some(first) = paths.next() else { return "/".to_owned() };
    let mut common = first;
    for path in paths {
        while !path.starts_with(common) {
            let shorter = common.trim_end_matches('/').rfind('/').map_or(0, |at| at + 1);
            common = common.get(..shorter).unwrap_or_default();
        }
    }
    if common.is_empty() { "/".to_owned() } else { common.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_common_organization_is_the_lowest_above_all() {
        assert_eq!(common_path(["/1/4/17/", "/1/4/18/"]), "/1/4/");
        assert_eq!(common_path(["/1/4/", "/1/40/"]), "/1/");
        assert_eq!(common_path(["/1/4/17/", "/1/4/"]), "/1/4/");
        assert_eq!(common_path(["/1/4/17/"]), "/1/4/17/");
        assert_eq!(common_path(["/1/", "/2/"]), "/");
        assert_eq!(common_path([]), "/");
    }

    #[test]
    fn a_rule_is_found_by_its_own_name_and_slots_have_ten_minutes() {
        for rule in Rule::ALL {
            assert_eq!(Rule::parse(rule.as_str()), Some(rule));
            assert!(rule.quiet_ms() >= 30 * 60_000);
        }
        assert_eq!(Rule::parse("B9"), None);
        assert_eq!((slot(0), slot(599_999), slot(600_000), slot(-1)), (0, 0, 1, -1));
    }
}
