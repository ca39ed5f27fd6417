//! Why somebody should look at a terminal, and how urgently. Pure.

use serde::{Deserialize, Serialize};

/// Which rule found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = InspectionReason)]
pub enum Reason {
    /// Its tamper protection fired or is masked.
    Tamper,
    /// It reports another place than at its last inspection.
    Moved,
    /// Its card reader fails too often.
    Reader,
    /// Its printer fails too often.
    Printer,
    /// Its battery is low too often.
    Battery,
    /// Its coin cell is low; an empty one ends in a tamper alarm.
    CoinCell,
    /// A certificate expires or has expired.
    Certificate,
    /// Its SIM card expires or has expired.
    Sim,
    /// It has not called for so long that its coin cell may be draining.
    Dormant,
    /// Its last inspection was too long ago.
    Age,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 10] = [
        Self::Tamper,
        Self::Moved,
        Self::Reader,
        Self::Printer,
        Self::Battery,
        Self::CoinCell,
        Self::Certificate,
        Self::Sim,
        Self::Dormant,
        Self::Age,
    ];

    /// Name in tables, URLs and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tamper => "tamper",
            Self::Moved => "moved",
            Self::Reader => "reader",
            Self::Printer => "printer",
            Self::Battery => "battery",
            Self::CoinCell => "coin_cell",
            Self::Certificate => "certificate",
            Self::Sim => "sim",
            Self::Dormant => "dormant",
            Self::Age => "age",
        }
    }

    /// The reason of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }

    /// Whether a work order that nobody has begun is moot once the reason is gone. What may be an attack is looked at all
    /// the same.
    pub fn may_vanish(self) -> bool {
        match self {
            Self::Tamper | Self::Moved => false,
            Self::Reader
            | Self::Printer
            | Self::Battery
            | Self::CoinCell
            | Self::Certificate
            | Self::Sim
            | Self::Dormant
            | Self::Age => true,
        }
    }
}

/// How soon somebody should look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Urgency {
    /// With the next visit.
    Planned,
    /// Within a week.
    Soon,
    /// At once.
    Now,
}

impl Urgency {
    /// Every one, least first.
    pub const ALL: [Self; 3] = [Self::Planned, Self::Soon, Self::Now];

    /// Name in URLs and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Soon => "soon",
            Self::Now => "now",
        }
    }

    /// The urgency of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|urgency| urgency.as_str() == name)
    }

    /// As a number in tables: larger is sooner, 0 is nothing.
    pub fn rank(self) -> i64 {
        match self {
            Self::Planned => 1,
            Self::Soon => 2,
            Self::Now => 3,
        }
    }

    /// The urgency of this number; none for 0.
    pub fn of_rank(rank: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|urgency| urgency.rank() == rank)
    }

    /// Until when a work order should be done, ms after it opened.
    pub fn due_in_ms(self) -> i64 {
        const DAY_MS: i64 = 86_400_000;
        match self {
            Self::Planned => 30 * DAY_MS,
            Self::Soon => 7 * DAY_MS,
            Self::Now => 2 * DAY_MS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_lead_back() {
        for reason in Reason::ALL {
            assert_eq!(Reason::parse(reason.as_str()), Some(reason));
        }
        for urgency in Urgency::ALL {
            assert_eq!(Urgency::parse(urgency.as_str()), Some(urgency));
            assert_eq!(Urgency::of_rank(urgency.rank()), Some(urgency));
        }
        assert_eq!((Reason::parse("x"), Urgency::parse("x"), Urgency::of_rank(0)), (None, None, None));
    }
}
