//! What the clocks of an organization show. The present moment is given; zones are those of the machine.

use jiff::Timestamp;
use jiff::civil::Time;
use jiff::tz::{Offset, TimeZone};

use super::rules::DAY_MIN;
use crate::clock::Now;

/// A time zone.
#[derive(Debug, Clone)]
pub(super) struct Zone(TimeZone);

impl Zone {
    /// The zone of this IANA name.
    pub(super) fn named(name: &str) -> Option<Self> {
        match TimeZone::get(name) {
            Ok(zone) => Some(Self(zone)),
            // The default must not depend on the machine's zone files; China has one fixed offset.
            Err(_) if name == "Asia/Shanghai" => Some(Self(TimeZone::fixed(Offset::constant(8)))),
            Err(_) => None,
        }
    }

    /// The first of these zones that the machine knows; UTC if it knows none.
    pub(super) fn of(own: Option<&str>, usual: &str) -> Self {
        own.and_then(Self::named).or_else(|| Self::named(usual)).unwrap_or(Self(TimeZone::UTC))
    }

    /// Minute of the local day.
    pub(super) fn minute(&self, now: Now) -> u16 {
        let Ok(moment) = Timestamp::from_millisecond(now.0) else { return 0 };
        let time = moment.to_zoned(self.0.clone()).time();
        u16::try_from(i32::from(time.hour()) * 60 + i32::from(time.minute())).unwrap_or(0)
    }

    /// The last moment, not after `now`, at which it was this minute of the local day, Unix ms. Where clocks jump over it,
    /// it is as much later as they jump.
    pub(super) fn last(&self, minute: u16, now: Now) -> Option<i64> {
        let minute = minute % DAY_MIN;
        let time = Time::new(i8::try_from(minute / 60).ok()?, i8::try_from(minute % 60).ok()?, 0, 0).ok()?;
        let today = Timestamp::from_millisecond(now.0).ok()?.to_zoned(self.0.clone()).date();
        let days = [Some(today), today.yesterday().ok()];
        let at = |day: jiff::civil::Date| day.to_datetime(time).to_zoned(self.0.clone()).ok();
        let mut moments = days.into_iter().flatten().filter_map(at).map(|moment| moment.timestamp().as_millisecond());
        moments.find(|at_ms| *at_ms <= now.0)
    }

    /// `11-23 09:30`.
    pub(super) fn written(&self, at_ms: i64) -> String {
        self.formatted(at_ms, "%m-%d %H:%M")
    }

    /// `2026-11-23`.
    pub(super) fn day(&self, at_ms: i64) -> String {
        self.formatted(at_ms, "%Y-%m-%d")
    }

    fn formatted(&self, at_ms: i64, format: &str) -> String {
        match Timestamp::from_millisecond(at_ms) {
            Ok(moment) => moment.to_zoned(self.0.clone()).strftime(format).to_string(),
            Err(_) => at_ms.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // 2026-11-23 01:30:00 UTC.
    const NOW: Now = Now(1_795_397_400_000);
    const HOUR_MS: i64 = 3_600_000;

    #[test]
    fn clocks_show_the_time_of_their_zone() {
        let shanghai = Zone::named("Asia/Shanghai").unwrap();
        assert_eq!(shanghai.minute(NOW), 9 * 60 + 30);
        assert_eq!((shanghai.written(NOW.0), shanghai.day(NOW.0)), ("11-23 09:30".to_owned(), "2026-11-23".to_owned()));
        assert_eq!(Zone::of(None, "Asia/Shanghai").minute(NOW), 9 * 60 + 30);
        assert_eq!(Zone::of(Some("No/Where"), "Asia/Shanghai").minute(NOW), 9 * 60 + 30);
        assert_eq!(Zone::of(Some("UTC"), "Asia/Shanghai").minute(NOW), 90);
        assert!(Zone::named("No/Where").is_none());
    }

    #[test]
    fn the_last_half_past_eight_is_todays_or_yesterdays() {
        let shanghai = Zone::named("Asia/Shanghai").unwrap();
        let half_past_eight = 8 * 60 + 30;
        let today_ms = NOW.0 - HOUR_MS;
        assert_eq!(shanghai.last(half_past_eight, NOW), Some(today_ms));
        assert_eq!(shanghai.last(half_past_eight, Now(today_ms)), Some(today_ms), "the moment itself counts");
        assert_eq!(shanghai.last(half_past_eight, Now(today_ms - 1)), Some(today_ms - 24 * HOUR_MS));
        assert_eq!(shanghai.last(0, NOW), Some(NOW.0 - 9 * HOUR_MS - HOUR_MS / 2));
    }

    #[test]
    fn a_day_with_another_length_has_its_moment_once() {
        let Some(berlin) = Zone::named("Europe/Berlin") else { return };
        // 2026-03-29: clocks go from 02:00 to 03:00. 08:30 is 06:30 UTC that day and 07:30 UTC the day before.
        let after = Now(1_774_771_200_000); // 2026-03-29 08:00 UTC
        assert_eq!(berlin.last(8 * 60 + 30, after), Some(after.0 - HOUR_MS - HOUR_MS / 2));
        assert_eq!(berlin.last(8 * 60 + 30, Now(after.0 - 24 * HOUR_MS)), Some(after.0 - 24 * HOUR_MS - HOUR_MS / 2));
        // 02:30 does not exist on that day; it is taken an hour later.
        assert_eq!(berlin.last(2 * 60 + 30, after), Some(after.0 - 6 * HOUR_MS - HOUR_MS / 2));
    }
}
