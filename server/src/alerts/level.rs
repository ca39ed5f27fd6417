//! How urgent something is. Pure.

use serde::{Deserialize, Serialize};

/// How urgent; the most urgent is the smallest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
pub enum Level {
    /// Now: a stopped rollout, tampering, a twentieth of the fleet gone.
    P1,
    /// Within the hour.
    P2,
    /// Within the day.
    P3,
}

impl Level {
    /// Every level, the most urgent first.
    pub const ALL: [Self; 3] = [Self::P1, Self::P2, Self::P3];

    /// Name in tables, URLs and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::P1 => "P1",
            Self::P2 => "P2",
            Self::P3 => "P3",
        }
    }

    /// How long nobody may take it on before the next ones are told, ms.
    pub fn acknowledge_ms(self) -> i64 {
        const MINUTE_MS: i64 = 60_000;
        match self {
            Self::P1 => 15 * MINUTE_MS,
            Self::P2 => 60 * MINUTE_MS,
            Self::P3 => 24 * 60 * MINUTE_MS,
        }
    }

    /// The level of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == name)
    }
}
