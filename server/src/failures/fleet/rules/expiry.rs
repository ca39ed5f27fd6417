//! Certificates and cards that run out: said 90, 30 and 7 days before.

const DAY_MS: i64 = 86_400_000;

/// How near the end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Band {
    /// It is over.
    Expired,
    /// Within 7 days.
    Days7,
    /// Within 30 days.
    Days30,
    /// Within 90 days.
    Days90,
}

impl Band {
    /// Every band, the nearest first.
    pub const ALL: [Self; 4] = [Self::Expired, Self::Days7, Self::Days30, Self::Days90];

    /// Days ahead that it reaches.
    pub fn days(self) -> i64 {
        match self {
            Self::Expired => 0,
            Self::Days7 => 7,
            Self::Days30 => 30,
            Self::Days90 => 90,
        }
    }
}

/// How far back what ran out is still of interest, ms: a card three months after its end is cancelled anyway.
pub const OVER_MS_MAX: i64 = 90 * DAY_MS;
/// How far ahead it is looked, ms.
pub const AHEAD_MS: i64 = 90 * DAY_MS;

/// The band of something that ends at `expires_at_ms`; `None` when that is far ahead or long over.
pub fn band(expires_at_ms: i64, now_ms: i64) -> Option<Band> {
    let left_ms = expires_at_ms.saturating_sub(now_ms);
    if left_ms < -OVER_MS_MAX {
        return None;
    }
    Band::ALL.into_iter().find(|band| left_ms <= band.days() * DAY_MS)
}

/// When something that ends at `expires_at_ms` came into this band, Unix ms.
pub fn entered_ms(expires_at_ms: i64, band: Band) -> i64 {
    expires_at_ms.saturating_sub(band.days() * DAY_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_a_band_has_entered_it() {
        let now_ms = 1_000 * DAY_MS;
        for left_ms in [-DAY_MS, 0, 1, 7 * DAY_MS, 7 * DAY_MS + 1, 30 * DAY_MS, 90 * DAY_MS] {
            let band_now = band(now_ms + left_ms, now_ms).unwrap();
            let entered_ms = entered_ms(now_ms + left_ms, band_now);
            assert!(entered_ms <= now_ms, "{left_ms}");
            assert_ne!(band(now_ms + left_ms, entered_ms - 1), Some(band_now), "{left_ms}");
        }
    }

    #[test]
    fn the_end_is_said_at_ninety_thirty_and_seven_days() {
        let now_ms = 1_000 * DAY_MS;
        for (days, expected) in [
            (91, None),
            (90, Some(Band::Days90)),
            (31, Some(Band::Days90)),
            (30, Some(Band::Days30)),
            (8, Some(Band::Days30)),
            (7, Some(Band::Days7)),
            (1, Some(Band::Days7)),
            (0, Some(Band::Expired)),
            (-90, Some(Band::Expired)),
            (-91, None),
        ] {
            assert_eq!(band(now_ms + days * DAY_MS, now_ms), expected, "{days}");
        }
    }
}
