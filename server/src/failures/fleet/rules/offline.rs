//! A large part of the fleet fell silent at once. Shops close one after another, and this is no fault: those count that
//! can have fallen silent within one hour, and no hour alarms for what it always does.

use super::super::statistics::as_f64;
use super::silence::{Span, moment};
use super::{Missing, Reason, Verdict};

/// Share of the fleet from which on it is an emergency.
pub const SHARE_MIN: f64 = 0.05;
/// Within this time, ms.
pub const SPAN_MS: i64 = 60 * 60_000;
/// How many times as many as usual in this hour of the week, where that is known.
pub const USUAL_TIMES: f64 = 2.0;
/// Fewest terminals in use.
pub const FLEET_MIN: u64 = 20;
/// Fewest silent ones.
const SILENT_MIN: u64 = 5;

/// What the rule looks at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Input<'a> {
    /// Terminals that were heard within a day and are offline now.
    pub silent: &'a [Span],
    /// Terminals that were heard within a day.
    pub fleet: u64,
    /// Usual share of offline ones in this hour of the week.
    pub usual: Option<f64>,
}

/// What it found.
#[derive(Debug, Clone, PartialEq)]
pub struct Offline {
    /// Terminals that fell silent together …
    pub silent: u64,
    /// … within [`SPAN_MS`] up to this moment, Unix ms.
    pub at_ms: i64,
    /// Their share of the fleet.
    pub share: f64,
    /// Why.
    pub reasons: Vec<Reason>,
}

/// Judges the fleet.
pub fn judge(input: Input<'_>) -> Verdict<Offline> {
    if input.fleet < FLEET_MIN {
        return Verdict::Insufficient(Missing::Terminals);
    }
    let Some((at_ms, silent)) = moment(input.silent, SPAN_MS) else { return Verdict::Clear };
    let share = as_f64(silent) / as_f64(input.fleet);
    let least = SHARE_MIN.max(input.usual.unwrap_or(0.0) * USUAL_TIMES);
    if silent < SILENT_MIN || share < least {
        return Verdict::Clear;
    }
    let reasons =
        vec![Reason::new("silent_share", share, least), Reason::new("silent", as_f64(silent), as_f64(SILENT_MIN))];
    Verdict::Hit(Offline { silent, at_ms, share, reasons })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silent(n: i64, apart_ms: i64) -> Vec<Span> {
        let span = |heard_ms| Span { heard_ms, due_ms: heard_ms + 900_000, terminals: 1 };
        (0..n).map(|id| span(id * apart_ms)).collect()
    }

    #[test]
    fn a_twentieth_of_any_number_is_an_emergency() {
        let spans = [Span { heard_ms: 0, due_ms: 900_000, terminals: 100_000 }];
        let judged = judge(Input { silent: &spans, fleet: 2_000_000, usual: None });
        assert!(matches!(judged, Verdict::Hit(offline) if offline.silent == 100_000));
        assert_eq!(judge(Input { silent: &spans, fleet: 2_000_001, usual: None }), Verdict::Clear);
    }

    #[test]
    fn a_twentieth_at_once_is_an_emergency() {
        let seen = silent(10, 1_000);
        let judged = judge(Input { silent: &seen, fleet: 200, usual: None });
        assert!(matches!(judged, Verdict::Hit(offline) if offline.share == 0.05));
        assert_eq!(judge(Input { silent: &seen, fleet: 201, usual: None }), Verdict::Clear, "less than a twentieth");
        let few = silent(4, 1_000);
        assert_eq!(judge(Input { silent: &few, fleet: 30, usual: None }), Verdict::Clear, "four terminals");
    }

    #[test]
    fn shops_that_close_one_after_another_and_the_usual_night_are_none() {
        let closing = silent(40, 30 * 60_000);
        assert_eq!(judge(Input { silent: &closing, fleet: 400, usual: None }), Verdict::Clear);
        let night = silent(40, 1_000);
        assert_eq!(judge(Input { silent: &night, fleet: 400, usual: Some(0.08) }), Verdict::Clear);
        assert_eq!(judge(Input { silent: &night, fleet: 400, usual: Some(0.04) }).as_str(), "hit");
    }

    #[test]
    fn a_handful_of_terminals_is_no_fleet() {
        let seen = silent(10, 1_000);
        let judged = judge(Input { silent: &seen, fleet: 19, usual: None });
        assert_eq!(judged, Verdict::Insufficient(Missing::Terminals));
    }
}
