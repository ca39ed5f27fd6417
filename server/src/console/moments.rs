//! Moments and spans as people read them: absolute in the console's time zone, relative to now. Pure.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};

use super::i18n::Language;
use crate::clock::Now;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

/// Writes moments in one zone and one language.
#[derive(Debug, Clone)]
pub struct Moments {
    zone: TimeZone,
    language: Language,
    now: Now,
}

impl Moments {
    /// In the zone of this IANA name; UTC when the machine does not know it.
    pub fn new(zone: &str, language: Language, now: Now) -> Self {
        let zone = TimeZone::get(zone).unwrap_or_else(|_| match zone {
            // The default must not depend on the machine's zone files; China has one fixed offset.
            "Asia/Shanghai" => TimeZone::fixed(Offset::constant(8)),
            _ => TimeZone::UTC,
        });
        Self { zone, language, now }
    }

    /// The same, at another present moment.
    pub fn at(&self, now: Now) -> Self {
        Self { now, ..self.clone() }
    }

    /// The present moment.
    pub fn now(&self) -> Now {
        self.now
    }

    /// `2026-11-23 09:30:00`.
    pub fn absolute(&self, at_ms: i64) -> String {
        self.formatted(at_ms, "%Y-%m-%d %H:%M:%S")
    }

    /// `11-23 09:30`.
    pub fn minute(&self, at_ms: i64) -> String {
        self.formatted(at_ms, "%m-%d %H:%M")
    }

    /// `09:30:00`.
    pub fn time(&self, at_ms: i64) -> String {
        self.formatted(at_ms, "%H:%M:%S")
    }

    /// `09:30`, as a chart's axis has it.
    pub fn hour_and_minute(&self, at_ms: i64) -> String {
        self.formatted(at_ms, "%H:%M")
    }

    /// `11-23`, as a chart's axis has it.
    pub fn month_and_day(&self, at_ms: i64) -> String {
        self.formatted(at_ms, "%m-%d")
    }

    /// `11-23 09:30`, for plans of the next days.
    pub fn short(&self, at_ms: i64) -> String {
        self.formatted(at_ms, "%m-%d %H:%M")
    }

    /// `2026-11-23`.
    pub fn day(&self, at_ms: i64) -> String {
        self.formatted(at_ms, "%Y-%m-%d")
    }

    /// Day of the week, 1 = Monday … 7 = Sunday.
    pub fn weekday(&self, at_ms: i64) -> String {
        self.formatted(at_ms, "%u")
    }

    /// `2026-11-23T09:30`, as a form's field for a moment has it.
    pub fn field(&self, at_ms: i64) -> String {
        self.formatted(at_ms, "%Y-%m-%dT%H:%M")
    }

    /// The moment that a form's field names in the console's zone, Unix ms.
    pub fn of_field(&self, text: &str) -> Option<i64> {
        let local: DateTime = text.parse().ok()?;
        local.to_zoned(self.zone.clone()).ok().map(|moment| moment.timestamp().as_millisecond())
    }

    /// How long ago, in the largest unit that fits: `3 分钟前`.
    pub fn ago(&self, at_ms: i64) -> String {
        let elapsed_ms = self.now.0.saturating_sub(at_ms);
        if elapsed_ms < 5_000 { self.language.say("moment-now") } else { self.counted("moment-ago", elapsed_ms) }
    }

    /// How far ahead, or that it has passed: `12 分钟后`.
    pub fn ahead(&self, at_ms: i64) -> String {
        let left_ms = at_ms.saturating_sub(self.now.0);
        if left_ms <= 0 { self.language.say("moment-due") } else { self.counted("moment-in", left_ms) }
    }

    /// Start of the local day or hour grid that `at_ms` is in, for grids of whole `step_ms`.
    pub fn floor(&self, at_ms: i64, step_ms: i64) -> i64 {
        let offset_ms = Timestamp::from_millisecond(at_ms)
            .map_or(0, |moment| i64::from(self.zone.to_offset(moment).seconds()) * 1_000);
        (at_ms + offset_ms).div_euclid(step_ms) * step_ms - offset_ms
    }

    fn counted(&self, family: &str, span_ms: i64) -> String {
        let (unit, n) = match span_ms {
            ms if ms < MINUTE_MS => ("seconds", ms / 1_000),
            ms if ms < HOUR_MS => ("minutes", ms / MINUTE_MS),
            ms if ms < 2 * DAY_MS => ("hours", ms / HOUR_MS),
            ms => ("days", ms / DAY_MS),
        };
        self.language.count(&format!("{family}-{unit}"), n)
    }

    fn formatted(&self, at_ms: i64, format: &str) -> String {
        match Timestamp::from_millisecond(at_ms) {
            Ok(moment) => moment.to_zoned(self.zone.clone()).strftime(format).to_string(),
            Err(_) => at_ms.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // 2026-11-23 01:30:00 UTC.
    const NOW: Now = Now(1_795_397_400_000);

    #[test]
    fn moments_are_written_in_the_consoles_zone() {
        let moments = Moments::new("Asia/Shanghai", Language::Chinese, NOW);
        assert_eq!(moments.absolute(NOW.0), "2026-11-23 09:30:00");
        assert_eq!(moments.hour_and_minute(NOW.0), "09:30");
        assert_eq!(moments.absolute(moments.floor(NOW.0, DAY_MS)), "2026-11-23 00:00:00");
        let unknown = Moments::new("No/Where", Language::English, NOW);
        assert_eq!(unknown.absolute(NOW.0), "2026-11-23 01:30:00");
    }

    #[test]
    fn a_moment_survives_the_way_through_a_form() {
        let moments = Moments::new("Asia/Shanghai", Language::Chinese, NOW);
        assert_eq!(moments.field(NOW.0), "2026-11-23T09:30");
        assert_eq!(moments.of_field("2026-11-23T09:30"), Some(NOW.0));
        assert_eq!(moments.of_field("tomorrow"), None);
        assert_eq!((moments.short(NOW.0), moments.weekday(NOW.0)), ("11-23 09:30".to_owned(), "1".to_owned()));
        assert_eq!(moments.at(Now(NOW.0 + 60_000)).ago(NOW.0), "1 分钟前");
    }

    #[test]
    fn spans_take_the_largest_unit_that_fits() {
        let english = Moments::new("UTC", Language::English, NOW);
        for (before_ms, text) in [
            (0, "just now"),
            (42_000, "42 seconds ago"),
            (60_000, "1 minute ago"),
            (3 * HOUR_MS, "3 hours ago"),
            (47 * HOUR_MS, "47 hours ago"),
            (9 * DAY_MS, "9 days ago"),
        ] {
            assert_eq!(english.ago(NOW.0 - before_ms), text);
        }
        assert_eq!(english.ahead(NOW.0 + 90_000), "in 1 minute");
        assert_eq!(english.ahead(NOW.0 - 1), "due now");
        let chinese = Moments::new("UTC", Language::Chinese, NOW);
        assert_eq!(chinese.ago(NOW.0 - 60_000), "1 分钟前");
    }
}
