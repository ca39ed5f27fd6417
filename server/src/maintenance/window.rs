//! Errors counted over some check-ins: one report of a terminal has too few tries to judge by. Pure.
//!
//! A count begins after the first error, without it: what made somebody look must not be evidence as well. It fades by
//! halves, so that what was repaired is believed to be.

use serde::{Deserialize, Serialize};
use tillward_protocol::checkin::{CheckIn, Printer};

use super::due::Rules;
use super::reason::Reason;

/// A count is halved after this, ms: two weeks.
const FADE_MS: i64 = 14 * 86_400_000;
/// Or when it has so many times the least number of tries.
const FADE_TIMES: u32 = 4;

/// Errors among tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Since when, Unix ms.
    pub since_ms: i64,
    /// Tries or check-ins.
    pub n: u32,
    /// With an error.
    pub errors: u32,
}

/// The counts of one terminal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Windows {
    /// Check-ins of the terminal that are counted in here.
    pub check_ins: i64,
    /// Card readings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reader: Option<Window>,
    /// Check-ins that say how the printer is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub printer: Option<Window>,
    /// Check-ins that say how full the battery is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub battery: Option<Window>,
}

impl Windows {
    /// The count that a reason is judged by.
    pub fn of(&self, reason: Reason) -> Option<Window> {
        match reason {
            Reason::Reader => self.reader,
            Reason::Printer => self.printer,
            Reason::Battery => self.battery,
            Reason::Tamper
            | Reason::Moved
            | Reason::CoinCell
            | Reason::Certificate
            | Reason::Sim
            | Reason::Dormant
            | Reason::Age => None,
        }
    }

    /// Whether anything is counted.
    pub fn is_empty(&self) -> bool {
        self.reader.is_none() && self.printer.is_none() && self.battery.is_none()
    }

    /// With one more check-in, the `check_ins`th of the terminal; as it is when that one is counted already.
    pub fn with(self, check_in: &CheckIn, check_ins: i64, rules: &Rules, now_ms: i64) -> Self {
        if check_ins <= self.check_ins {
            return self;
        }
        Self {
            check_ins,
            reader: step(self.reader, reader_errors(check_in), rules, now_ms),
            printer: step(self.printer, printer_errors(check_in), rules, now_ms),
            battery: step(self.battery, battery_errors(check_in, rules), rules, now_ms),
        }
    }
}

/// Tries and errors of the card reader in one report; none when it does not count them.
pub fn reader_errors(check_in: &CheckIn) -> Option<(u32, u32)> {
    let device = &check_in.device;
    let tries = device.read_tries?;
    let errors = [device.icc_errors, device.mag_errors, device.nfc_errors];
    let errors = errors.into_iter().flatten().fold(0, u32::saturating_add);
    Some((tries, errors.min(tries)))
}

fn printer_errors(check_in: &CheckIn) -> Option<(u32, u32)> {
    match check_in.device.printer? {
        Printer::Ok | Printer::PaperLow => Some((1, 0)),
        Printer::Out | Printer::Hot => Some((1, 1)),
        Printer::Na => None,
    }
}

fn battery_errors(check_in: &CheckIn, rules: &Rules) -> Option<(u32, u32)> {
    let percent = u32::from(check_in.device.battery_percent?);
    Some((1, u32::from(percent <= rules.battery_percent_min)))
}

fn step(window: Option<Window>, seen: Option<(u32, u32)>, rules: &Rules, now_ms: i64) -> Option<Window> {
    let Some((n, errors)) = seen else { return window };
    let Some(window) = window else {
        return (errors > 0).then_some(Window { since_ms: now_ms, n: 0, errors: 0 });
    };
    let sum = Window {
        since_ms: window.since_ms,
        n: window.n.saturating_add(n),
        errors: window.errors.saturating_add(errors),
    };
    let is_full = sum.n > rules.error_tries_min.saturating_mul(FADE_TIMES);
    if !is_full && now_ms.saturating_sub(sum.since_ms) <= FADE_MS {
        return Some(sum);
    }
    let faded = Window { since_ms: now_ms, n: sum.n / 2, errors: sum.errors / 2 };
    (faded.errors > 0).then_some(faded)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check_in(device: serde_json::Value) -> CheckIn {
        let body = json!({
            "v": 1, "stream": 1, "seq": 1, "at_ms": 1, "boot_id": "b",
            "software": {"firmware": "1.0.0", "slot": "a", "agent": "0.1.0"}, "device": device,
        });
        serde_json::from_value(body).unwrap()
    }

    fn after(reports: &[serde_json::Value]) -> Windows {
        let rules = Rules::default();
        let numbered = (1_i64..).zip(reports);
        numbered.fold(Windows::default(), |windows, (number, device)| {
            windows.with(&check_in(device.clone()), number, &rules, number)
        })
    }

    #[test]
    fn the_error_that_opens_a_count_is_not_in_it() {
        let reader =
            after(&[json!({"read_tries": 9, "icc_errors": 3}), json!({"read_tries": 10, "mag_errors": 1})]).reader;
        assert_eq!(reader, Some(Window { since_ms: 1, n: 10, errors: 1 }));
        assert!(after(&[json!({"read_tries": 9}), json!({"printer": "ok", "battery_percent": 80})]).is_empty());
    }

    #[test]
    fn what_is_not_said_is_not_counted() {
        let bad = json!({"printer": "out", "battery_percent": 3, "read_tries": 1, "icc_errors": 1});
        let windows = after(&[bad, json!({}), json!({"printer": "na"}), json!({"icc_errors": 4})]);
        let opened = Some(Window { since_ms: 1, n: 0, errors: 0 });
        assert_eq!((windows.printer, windows.battery, windows.reader), (opened, opened, opened));
    }

    #[test]
    fn a_check_in_is_counted_once_and_more_errors_than_tries_are_no_more_than_all() {
        let rules = Rules::default();
        let bad = check_in(json!({"read_tries": 4, "icc_errors": 9, "nfc_errors": 9}));
        let once = Windows::default().with(&bad, 1, &rules, 0).with(&bad, 2, &rules, 0);
        assert_eq!(once.reader, Some(Window { since_ms: 0, n: 4, errors: 4 }));
        assert_eq!(once.with(&bad, 2, &rules, 0), once);
    }

    #[test]
    fn a_count_fades_by_halves_when_it_is_full_or_old_and_ends_without_errors() {
        let rules = Rules::default();
        let start = Some(Window { since_ms: 0, n: 60, errors: 30 });
        assert_eq!(step(start, Some((2, 0)), &rules, 5), Some(Window { since_ms: 5, n: 31, errors: 15 }));
        let old = Some(Window { since_ms: 0, n: 10, errors: 1 });
        assert_eq!(step(old, Some((1, 0)), &rules, FADE_MS), Some(Window { since_ms: 0, n: 11, errors: 1 }));
        assert_eq!(step(old, Some((1, 0)), &rules, FADE_MS + 1), None);
    }
}
