//! How a rollout goes about it: stages, soak, windows, limits, retries. Pure: every answer follows from the values and the
//! moment passed in.
//!
//! Terminals are taken in the order of their *rank*, a hash of terminal and rollout: each stage is a random draw, so no
//! site, model or carrier forms a stage of its own unless a stage names it by tag.

use serde::{Deserialize, Serialize};
use tillward_protocol::FieldError;
use tillward_protocol::crypto::sha256;

/// Stages that a person may name; more would each be too small to judge.
pub const STAGES_MAX: usize = 12;
/// Windows a week that may be named.
pub const WINDOWS_MAX: usize = 14;
/// Organizations that may have their own earliest date.
pub const ANNOUNCEMENTS_MAX: usize = 200;
/// Longest soak, s (30 d).
pub const SOAK_S_MAX: u32 = 30 * 24 * 3600;
/// Largest hold-back, per cent: more is no rollout any more.
pub const HOLD_BACK_PERCENT_MAX: u32 = 50;
/// Fewest terminals of a hold-back, so that there is a control at all.
pub const HOLD_BACK_MIN: u64 = 20;
/// Most attempts after the first.
pub const RETRIES_MAX: u32 = 5;
/// Longest pause before an attempt, s (24 h).
pub const RETRY_WAIT_S_MAX: u32 = 24 * 3600;
/// Most that may be in flight when a limit is set at all.
pub const IN_FLIGHT_MAX: u32 = 1_000_000;
/// China has one zone: UTC+8.
pub const UTC_OFFSET_MIN: i32 = 8 * 60;

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;
const DAY_MIN: i64 = 24 * 60;
/// Bits of a rank that are hash; above them stands the stage that names the terminal, or [`DRAWN`].
const HASH_BITS: u32 = 48;
/// Above every stage's number: those that no stage names.
const DRAWN: i64 = 0xff;

/// What a stage takes in; the numbers count from the start of the rollout, not from the stage before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// All terminals with this tag: named by hand, before any draw.
    Tag(String),
    /// Until this many terminals are in.
    Count(u32),
    /// Until this share of the terminals is in, per cent; rounded down, at least one.
    Percent(u32),
}

/// A time of the week, in the terminal's own local time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Days on which it begins, 1 = Monday … 7 = Sunday; every day when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub days: Vec<u8>,
    /// `HH:MM`.
    pub from: String,
    /// `HH:MM`; not after `from` means the next day.
    pub until: String,
}

/// An organization that was promised not to be updated before a date.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Announcement {
    /// The organization, with all below it.
    pub organization_id: i64,
    /// Not before this, Unix ms.
    pub not_before_ms: i64,
}

/// What the gate judges by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GateSettings {
    /// Share of terminals on which an update may fail, 1/10,000.
    pub outcome_budget_bp: u32,
    /// How long a terminal is watched after it committed the update, s.
    pub watch_s: u32,
    /// Whether a pass opens the next stage by itself; otherwise a person does.
    pub opens_stages: bool,
}

impl Default for GateSettings {
    fn default() -> Self {
        Self { outcome_budget_bp: 100, watch_s: 3600, opens_stages: true }
    }
}

/// Smallest and largest budget, 1/10,000: below, one failure would stop everything; above, nothing would.
const OUTCOME_BUDGET_BP: std::ops::RangeInclusive<u32> = 1..=2_000;
/// Shortest and longest watch, s: what the statistics were measured with, up to a week.
const WATCH_S: std::ops::RangeInclusive<u32> = 60..=WATCH_S_MAX;
/// Longest watch, s (7 d).
pub const WATCH_S_MAX: u32 = 7 * 24 * 3600;

/// How a rollout goes about it. What is absent is the plain form: everybody at once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Strategy {
    /// Stages, in order; those by tag come first. A last stage for all the rest is added by itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<Stage>,
    /// Terminals that are updated last, after the verdict, as a control, per cent; at least 20 terminals.
    pub hold_back_percent: u32,
    /// How long a stage is watched after all of it was open, s.
    pub soak_s: u32,
    /// When terminals may be offered the update; any time when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<Window>,
    /// Most terminals that may be at it at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_flight_max: Option<u32>,
    /// Most terminals of one store that may be at it at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_flight_per_site_max: Option<u32>,
    /// Whether terminals wait for WiFi before they download.
    pub wifi_only: bool,
    /// Whether terminals that match later are taken in, until `ends_at_ms`.
    pub is_dynamic: bool,
    /// Earliest dates that organizations were told.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub announcements: Vec<Announcement>,
    /// The gate.
    pub gate: GateSettings,
}

fn refused(field: &str, problem: impl Into<String>) -> FieldError {
    FieldError::new(format!("strategy.{field}"), problem)
}

/// Minutes since midnight of `HH:MM`.
fn minutes(text: &str) -> Option<i64> {
    let (hours, minutes) = text.split_once(':')?;
    let is_pair = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
    if !is_pair(hours) || !is_pair(minutes) {
        return None;
    }
    let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
    (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)
}

impl Strategy {
    /// The same strategy, once every value is possible.
    ///
    /// # Errors
    /// The first field that is not, by its path.
    pub fn checked(self) -> Result<Self, FieldError> {
        self.check_stages()?;
        self.check_windows()?;
        if self.hold_back_percent > HOLD_BACK_PERCENT_MAX {
            return Err(refused("hold_back_percent", format!("at most {HOLD_BACK_PERCENT_MAX}")));
        }
        if self.soak_s > SOAK_S_MAX {
            return Err(refused("soak_s", format!("at most {SOAK_S_MAX} s")));
        }
        for (field, limit) in
            [("in_flight_max", self.in_flight_max), ("in_flight_per_site_max", self.in_flight_per_site_max)]
        {
            if limit.is_some_and(|limit| limit == 0 || limit > IN_FLIGHT_MAX) {
                return Err(refused(field, format!("must be 1 to {IN_FLIGHT_MAX}, or absent")));
            }
        }
        if self.announcements.len() > ANNOUNCEMENTS_MAX {
            return Err(refused("announcements", format!("at most {ANNOUNCEMENTS_MAX}")));
        }
        if !OUTCOME_BUDGET_BP.contains(&self.gate.outcome_budget_bp) {
            let (least, most) = (OUTCOME_BUDGET_BP.start(), OUTCOME_BUDGET_BP.end());
            return Err(refused("gate.outcome_budget_bp", format!("must be {least} to {most} (1/10,000)")));
        }
        if !WATCH_S.contains(&self.gate.watch_s) {
            return Err(refused("gate.watch_s", format!("must be {} to {} s", WATCH_S.start(), WATCH_S.end())));
        }
        Ok(self)
    }

    fn check_stages(&self) -> Result<(), FieldError> {
        if self.stages.len() > STAGES_MAX {
            return Err(refused("stages", format!("at most {STAGES_MAX}")));
        }
        let (mut count, mut percent, mut is_drawn) = (0, 0, false);
        for (at, stage) in self.stages.iter().enumerate() {
            let problem = match stage {
                Stage::Tag(_) if is_drawn => Some("stages by tag come before all others"),
                Stage::Tag(tag) if tag.is_empty() || tag.chars().any(char::is_control) => Some("is not a possible tag"),
                Stage::Tag(_) => None,
                Stage::Count(n) if *n <= count => Some("counts must grow from stage to stage, from 1"),
                Stage::Percent(n) if *n <= percent || *n > 100 => {
                    Some("percentages must grow from stage to stage, from 1 to 100")
                }
                Stage::Count(n) => {
                    (count, is_drawn) = (*n, true);
                    None
                }
                Stage::Percent(n) => {
                    (percent, is_drawn) = (*n, true);
                    None
                }
            };
            if let Some(problem) = problem {
                return Err(refused(&format!("stages[{at}]"), problem));
            }
        }
        Ok(())
    }

    fn check_windows(&self) -> Result<(), FieldError> {
        if self.windows.len() > WINDOWS_MAX {
            return Err(refused("windows", format!("at most {WINDOWS_MAX}")));
        }
        for (at, window) in self.windows.iter().enumerate() {
            for (field, text) in [("from", &window.from), ("until", &window.until)] {
                if minutes(text).is_none() {
                    return Err(refused(&format!("windows[{at}].{field}"), "must be HH:MM, 00:00 to 23:59"));
                }
            }
            if window.days.iter().any(|day| !(1..=7).contains(day)) {
                return Err(refused(&format!("windows[{at}].days"), "must be 1 (Monday) to 7 (Sunday)"));
            }
        }
        Ok(())
    }

    /// How many stages there are, the one for the rest and the hold-back included; at least one.
    pub fn stage_count(&self) -> u32 {
        let named = u32::try_from(self.stages.len()).unwrap_or(u32::MAX);
        let rest = u32::from(self.stages.last() != Some(&Stage::Percent(100)));
        named.saturating_add(rest).saturating_add(u32::from(self.hold_back_percent > 0))
    }

    /// Whether `stage` is the hold-back, which opens last.
    pub fn is_hold_back(&self, stage: u32) -> bool {
        self.hold_back_percent > 0 && stage.saturating_add(1) == self.stage_count()
    }

    /// Terminals held back out of `total`.
    pub fn held_back(&self, total: u64) -> u64 {
        if self.hold_back_percent == 0 {
            return 0;
        }
        let share = total.saturating_mul(u64::from(self.hold_back_percent)) / 100;
        share.max(HOLD_BACK_MIN).min(total / 2)
    }

    /// What `stage` opens of `total` terminals.
    pub fn plan(&self, stage: u32, total: u64) -> Planned {
        let base = total.saturating_sub(self.held_back(total));
        let named = usize::try_from(stage).ok().and_then(|stage| self.stages.get(stage));
        match named {
            Some(Stage::Tag(_)) => Planned::Below(i64::from(stage).saturating_add(1) << HASH_BITS),
            Some(Stage::Count(n)) => Planned::UpTo(u64::from(*n).min(base)),
            Some(Stage::Percent(n)) => {
                let share = base.saturating_mul(u64::from(*n)) / 100;
                Planned::UpTo(share.max(1).min(base))
            }
            None if self.is_hold_back(stage) || stage >= self.stage_count() => Planned::UpTo(total),
            None => Planned::UpTo(base),
        }
    }

    /// Place in the order of admission; smaller is earlier. `named_by` is the first stage whose tag the terminal has.
    pub fn rank(rollout_id: i64, terminal_id: i64, named_by: Option<u32>) -> i64 {
        let mut bytes = [0; 16];
        let (first, second) = bytes.split_at_mut(8);
        first.copy_from_slice(&rollout_id.to_be_bytes());
        second.copy_from_slice(&terminal_id.to_be_bytes());
        let [a, b, c, d, e, f, ..] = sha256(&bytes);
        let hash = i64::from_be_bytes([0, 0, a, b, c, d, e, f]);
        (named_by.map_or(DRAWN, i64::from) << HASH_BITS) | hash
    }

    /// The tags that stages name, each with its stage.
    pub fn tags(&self) -> impl Iterator<Item = (u32, &str)> {
        (0..).zip(&self.stages).filter_map(|(at, stage)| match stage {
            Stage::Tag(tag) => Some((at, tag.as_str())),
            Stage::Count(_) | Stage::Percent(_) => None,
        })
    }

    /// The next moment from `now_ms` on at which a terminal in this zone may be offered the update, and when that ends.
    pub fn opening(&self, now_ms: i64, utc_offset_min: i32) -> Opening {
        if self.windows.is_empty() {
            return Opening { from_ms: now_ms, until_ms: None };
        }
        let local_ms = now_ms.saturating_add(i64::from(utc_offset_min) * MINUTE_MS);
        let today = local_ms.div_euclid(DAY_MS);
        let mut best: Option<(i64, i64)> = None;
        // From yesterday, whose window may reach past midnight, to the same day next week.
        for day in today - 1..=today + 7 {
            // Day 0 of the Unix epoch was a Thursday.
            let weekday = u8::try_from((day + 3).rem_euclid(7) + 1).unwrap_or(1);
            for window in &self.windows {
                let (Some(from), Some(until)) = (minutes(&window.from), minutes(&window.until)) else { continue };
                if !window.days.is_empty() && !window.days.contains(&weekday) {
                    continue;
                }
                let until = if until <= from { until + DAY_MIN } else { until };
                let (from_ms, until_ms) = (day * DAY_MS + from * MINUTE_MS, day * DAY_MS + until * MINUTE_MS);
                let from_ms = from_ms.max(local_ms);
                if until_ms > local_ms && best.is_none_or(|(earliest, _)| from_ms < earliest) {
                    best = Some((from_ms, until_ms));
                }
            }
        }
        let back = i64::from(utc_offset_min) * MINUTE_MS;
        best.map_or(Opening { from_ms: now_ms + DAY_MS, until_ms: Some(now_ms + DAY_MS) }, |(from, until)| Opening {
            from_ms: from - back,
            until_ms: Some(until - back),
        })
    }
}

/// What a stage opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planned {
    /// Everything of a smaller rank: those it names by tag.
    Below(i64),
    /// The next by rank, until this many are open.
    UpTo(u64),
}

/// A time in which updates may be offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opening {
    /// From, Unix ms; now or later.
    pub from_ms: i64,
    /// Until, Unix ms; `None` = without end.
    pub until_ms: Option<i64>,
}

/// The pause before the next attempt, ms: doubled with each, at most a day.
pub fn retry_wait_ms(wait_s: i64, attempts: i64) -> i64 {
    let doublings = u32::try_from(attempts.saturating_sub(1).clamp(0, 20)).unwrap_or(0);
    let wait_s = wait_s.saturating_mul(1_i64 << doublings).min(i64::from(RETRY_WAIT_S_MAX));
    wait_s.max(1).saturating_mul(1000)
}

/// What holds an assignment back while it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Wait {
    /// Its stage is not open yet.
    Stage,
    /// It is held back as a control.
    HoldBack,
    /// The rollout starts later.
    Scheduled,
    /// Its store's time window is closed.
    Window,
    /// Its organization was promised a later date.
    Announced,
    /// A failed attempt is tried again later.
    Retry,
    /// Others of its store are at it.
    Site,
    /// It does not call.
    Offline,
    /// As many as may be are at it.
    Capacity,
    /// The rollout is paused or halted.
    Stopped,
    /// Its turn is now.
    Turn,
}

impl Wait {
    /// Every one.
    pub const ALL: [Self; 11] = [
        Self::Stage,
        Self::HoldBack,
        Self::Scheduled,
        Self::Window,
        Self::Announced,
        Self::Retry,
        Self::Site,
        Self::Offline,
        Self::Capacity,
        Self::Stopped,
        Self::Turn,
    ];

    /// Name in tables and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stage => "stage",
            Self::HoldBack => "hold_back",
            Self::Scheduled => "scheduled",
            Self::Window => "window",
            Self::Announced => "announced",
            Self::Retry => "retry",
            Self::Site => "site",
            Self::Offline => "offline",
            Self::Capacity => "capacity",
            Self::Stopped => "stopped",
            Self::Turn => "turn",
        }
    }

    /// The one of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|wait| wait.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strategy(json: serde_json::Value) -> Strategy {
        serde_json::from_value::<Strategy>(json).unwrap().checked().unwrap()
    }

    fn refusal(json: serde_json::Value) -> String {
        match serde_json::from_value::<Strategy>(json) {
            Ok(strategy) => strategy.checked().unwrap_err().field,
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn nothing_said_means_everybody_at_once() {
        let plain = strategy(serde_json::json!({}));
        assert_eq!(plain, Strategy::default());
        assert_eq!(plain.stage_count(), 1);
        assert_eq!(plain.plan(0, 1_000), Planned::UpTo(1_000));
        assert_eq!(plain.opening(5, 0), Opening { from_ms: 5, until_ms: None });
    }

    #[test]
    fn stages_grow_and_the_hold_back_comes_last() {
        let stages = serde_json::json!([{"tag": "canary"}, {"count": 20}, {"percent": 10}, {"percent": 50}]);
        let staged = strategy(serde_json::json!({"stages": stages, "hold_back_percent": 5}));
        assert_eq!(staged.stage_count(), 6);
        let planned: Vec<Planned> = (0..7).map(|stage| staged.plan(stage, 1_000)).collect();
        let up_to = Planned::UpTo;
        assert_eq!(planned[0], Planned::Below(1 << HASH_BITS));
        assert_eq!(planned[1..], [up_to(20), up_to(95), up_to(475), up_to(950), up_to(1_000), up_to(1_000)]);
        assert!(staged.is_hold_back(5) && !staged.is_hold_back(4));
        assert_eq!(staged.tags().collect::<Vec<_>>(), [(0, "canary")]);
    }

    #[test]
    fn small_fleets_keep_a_control_and_a_stage_of_one() {
        let staged = strategy(serde_json::json!({"stages": [{"percent": 1}], "hold_back_percent": 5}));
        assert_eq!(staged.held_back(100), 20);
        assert_eq!(staged.held_back(10), 5);
        assert_eq!(staged.held_back(0), 0);
        assert_eq!(staged.plan(0, 30), Planned::UpTo(1));
        assert_eq!(staged.plan(0, 0), Planned::UpTo(0));
        assert_eq!(staged.plan(1, 30), Planned::UpTo(15));
        assert_eq!(staged.plan(2, 30), Planned::UpTo(30));
    }

    #[test]
    fn a_hundred_per_cent_needs_no_stage_for_the_rest() {
        let staged = strategy(serde_json::json!({"stages": [{"percent": 10}, {"percent": 100}]}));
        assert_eq!(staged.stage_count(), 2);
        assert_eq!(staged.plan(1, 77), Planned::UpTo(77));
    }

    #[test]
    fn impossible_strategies_are_refused_by_their_field() {
        use serde_json::json;
        for (json, field) in [
            (json!({"stages": [{"count": 5}, {"tag": "x"}]}), "strategy.stages[1]"),
            (json!({"stages": [{"count": 5}, {"count": 5}]}), "strategy.stages[1]"),
            (json!({"stages": [{"percent": 0}]}), "strategy.stages[0]"),
            (json!({"stages": [{"percent": 101}]}), "strategy.stages[0]"),
            (json!({"stages": vec![json!({"tag": "x"}); 13]}), "strategy.stages"),
            (json!({"hold_back_percent": 51}), "strategy.hold_back_percent"),
            (json!({"soak_s": 2_592_001}), "strategy.soak_s"),
            (json!({"windows": [{"from": "2:00", "until": "05:00"}]}), "strategy.windows[0].from"),
            (json!({"windows": [{"from": "02:00", "until": "24:00"}]}), "strategy.windows[0].until"),
            (json!({"windows": [{"from": "02:00", "until": "05:00", "days": [8]}]}), "strategy.windows[0].days"),
            (json!({"in_flight_max": 0}), "strategy.in_flight_max"),
            (json!({"in_flight_per_site_max": 0}), "strategy.in_flight_per_site_max"),
            (json!({"gate": {"outcome_budget_bp": 0}}), "strategy.gate.outcome_budget_bp"),
            (json!({"gate": {"watch_s": 59}}), "strategy.gate.watch_s"),
        ] {
            assert_eq!(refusal(json), field);
        }
        assert!(refusal(json!({"surprise": 1})).contains("surprise"));
    }

    /// 2026-11-23 was a Monday; 00:00 UTC of it.
    const MONDAY_MS: i64 = 1_795_392_000_000;
    const HOUR_MS: i64 = 60 * MINUTE_MS;

    #[test]
    fn a_window_opens_in_the_terminals_own_local_time() {
        let nightly = strategy(serde_json::json!({"windows": [{"from": "02:00", "until": "05:00"}]}));
        // 20:00 UTC on Sunday is 04:00 on Monday in China: open for another hour.
        let at = MONDAY_MS - 4 * HOUR_MS;
        assert_eq!(nightly.opening(at, 480), Opening { from_ms: at, until_ms: Some(at + HOUR_MS) });
        // At the same moment it is 20:00 in London: closed until 02:00.
        let opening = nightly.opening(at, 0);
        assert_eq!(opening, Opening { from_ms: MONDAY_MS + 2 * HOUR_MS, until_ms: Some(MONDAY_MS + 5 * HOUR_MS) });
        // The end itself is outside.
        let end = MONDAY_MS + 5 * HOUR_MS;
        assert_eq!(nightly.opening(end, 0).from_ms, end + 21 * HOUR_MS);
    }

    #[test]
    fn a_window_may_reach_past_midnight_and_be_of_some_days_only() {
        let weekend = strategy(serde_json::json!({"windows": [{"days": [6], "from": "22:00", "until": "01:00"}]}));
        let saturday = MONDAY_MS + 5 * 24 * HOUR_MS;
        let (from, until) = (saturday + 22 * HOUR_MS, saturday + 25 * HOUR_MS);
        assert_eq!(weekend.opening(MONDAY_MS, 0), Opening { from_ms: from, until_ms: Some(until) });
        assert_eq!(weekend.opening(until - 1, 0), Opening { from_ms: until - 1, until_ms: Some(until) });
        assert_eq!(weekend.opening(until, 0).from_ms, from + 7 * 24 * HOUR_MS);
    }

    #[test]
    fn the_named_come_first_and_the_rest_is_drawn_by_lot() {
        let named = Strategy::rank(7, 1, Some(0));
        assert!(named < 1 << HASH_BITS && Strategy::rank(7, 2, Some(1)) > named);
        let drawn: Vec<i64> = (0..1_000).map(|terminal| Strategy::rank(7, terminal, None)).collect();
        assert!(drawn.iter().all(|rank| *rank > Strategy::rank(7, 1, Some(254))));
        assert_eq!(Strategy::rank(7, 5, None), drawn[5]);
        assert_ne!(Strategy::rank(8, 5, None), drawn[5]);
        // Terminals of neighbouring numbers, as one shop has them, do not stand together.
        let mut order: Vec<usize> = (0..1_000).collect();
        order.sort_by_key(|&at| drawn[at]);
        let first_tenth = order[..100].iter().filter(|&&at| at < 500).count();
        assert!((30..=70).contains(&first_tenth), "{first_tenth}");
    }

    #[test]
    fn attempts_are_spaced_out_up_to_a_day() {
        assert_eq!([1, 2, 3].map(|n| retry_wait_ms(600, n)), [600_000, 1_200_000, 2_400_000]);
        assert_eq!(retry_wait_ms(600, i64::MAX), 24 * HOUR_MS);
        assert_eq!(retry_wait_ms(0, 1), 1_000);
    }

    #[test]
    fn every_wait_has_its_own_name() {
        for wait in Wait::ALL {
            assert_eq!(Wait::parse(wait.as_str()), Some(wait));
        }
    }
}
