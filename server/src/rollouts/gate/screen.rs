//! Which failures are evidence: the first of a terminal within its window, and the first of a site.
//!
//! A router that fails takes down every terminal of a store; counted one by one, such hours stop up to half of all good
//! rollouts. The rule only looks back: nothing is retracted and nothing waits. [`fate`] decides from what a server can look
//! up; [`Screen`] remembers that itself, for whole journals. What is not counted is kept and shown with its reason.

use std::collections::HashMap;

use super::Class;

/// Window after the commit in which a failure counts, ms: the one that was simulated.
const WINDOW_MS: i64 = 60 * 60 * 1000;
/// Payments are rarer than check-ins: a day's business after the update is watched, ms.
const PAYMENT_WINDOW_MS: i64 = 24 * 60 * 60 * 1000;
/// A store's router is noticed and back well within this, ms.
const SITE_MS: i64 = 15 * 60 * 1000;

/// Time limits of the screen, ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// After the commit, for hard failures. Silence needs at least its deadline and one interval more.
    pub hard_ms: i64,
    /// After the commit, for payment failures.
    pub payment_ms: i64,
    /// After a site's first failure.
    pub site_ms: i64,
}

impl Default for Windows {
    fn default() -> Self {
        Self { hard_ms: WINDOW_MS, payment_ms: PAYMENT_WINDOW_MS, site_ms: SITE_MS }
    }
}

impl Windows {
    /// The window of a class, ms.
    pub fn of(&self, class: Class) -> i64 {
        match class {
            Class::Hard => self.hard_ms,
            Class::Payment => self.payment_ms,
        }
    }
}

/// A failure as it was reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawFailure {
    /// When.
    pub at_ms: i64,
    /// Its class.
    pub class: Class,
    /// Whose.
    pub terminal_id: i64,
    /// The terminal's site; `None` when it is not known, which the site rule then spares.
    pub site_id: Option<i64>,
    /// When the terminal committed the update; `None` for a control.
    pub updated_at_ms: Option<i64>,
}

/// What happened before a failure, in its class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Before {
    /// The terminal's last failure that was counted or suppressed by its site.
    pub failed_at_ms: Option<i64>,
    /// The last counted failure at the same site, in either arm.
    pub site_counted_at_ms: Option<i64>,
}

/// What becomes of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    /// It is evidence.
    Counted,
    /// Its site failed just before: shown, no evidence; the terminal leaves the risk set all the same.
    SuppressedBySite,
    /// It came too late after the update to be laid at its door.
    OutOfWindow,
    /// The terminal had failed already and was not at risk.
    Repeated,
}

impl Fate {
    /// `counted`, `suppressed_by_site`, `out_of_window` or `repeated`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counted => "counted",
            Self::SuppressedBySite => "suppressed_by_site",
            Self::OutOfWindow => "out_of_window",
            Self::Repeated => "repeated",
        }
    }

    /// Whether the terminal leaves the risk set: an updated one for good, a control for the window.
    pub fn leaves_risk_set(self) -> bool {
        match self {
            Self::Counted | Self::SuppressedBySite => true,
            Self::OutOfWindow | Self::Repeated => false,
        }
    }
}

/// Decides about one failure.
pub fn fate(failure: &RawFailure, before: &Before, windows: &Windows) -> Fate {
    let window_ms = windows.of(failure.class);
    let since = |at_ms: i64| failure.at_ms.saturating_sub(at_ms);
    if failure.updated_at_ms.is_some_and(|updated_at_ms| since(updated_at_ms) > window_ms) {
        return Fate::OutOfWindow;
    }
    let is_repeated = before.failed_at_ms.is_some_and(|failed_at_ms| match failure.updated_at_ms {
        // What it did as a control is forgotten: the update opened a window of its own.
        Some(updated_at_ms) => failed_at_ms >= updated_at_ms,
        None => since(failed_at_ms) < window_ms,
    });
    if is_repeated {
        return Fate::Repeated;
    }
    // One that was reported late may have come first: an outage has two ends.
    let is_near = |at_ms: i64| since(at_ms).saturating_abs() <= windows.site_ms;
    if failure.site_id.is_some() && before.site_counted_at_ms.is_some_and(is_near) {
        return Fate::SuppressedBySite;
    }
    Fate::Counted
}

/// Decides about failures in the order of time, those of the same instant in the order of [`tie_order`].
#[derive(Debug, Clone, Default)]
pub struct Screen {
    windows: Windows,
    failed_at_ms: HashMap<(i64, Class), i64>,
    site_counted_at_ms: HashMap<(i64, Class), i64>,
}

impl Screen {
    /// Nothing has failed yet.
    pub fn new(windows: Windows) -> Self {
        Self { windows, ..Self::default() }
    }

    /// Decides about the next failure and remembers it.
    pub fn admit(&mut self, failure: &RawFailure) -> Fate {
        let terminal = (failure.terminal_id, failure.class);
        let site = failure.site_id.map(|site_id| (site_id, failure.class));
        let before = Before {
            failed_at_ms: self.failed_at_ms.get(&terminal).copied(),
            site_counted_at_ms: site.and_then(|site| self.site_counted_at_ms.get(&site).copied()),
        };
        let fate = fate(failure, &before, &self.windows);
        if fate.leaves_risk_set() {
            self.failed_at_ms.insert(terminal, failure.at_ms);
        }
        if let (Fate::Counted, Some(site)) = (fate, site) {
            self.site_counted_at_ms.insert(site, failure.at_ms);
        }
        fate
    }
}

/// Order among failures of the same instant: a hash of the event's id (64-bit FNV-1a, mixed as in `MurmurHash3`), so that
/// neither arm comes first. The same on every machine and in every version.
pub fn tie_order(event_id: &str) -> u64 {
    let mixed = |hash: u64, factor: u64| (hash ^ (hash >> 33)).wrapping_mul(factor);
    let hash = event_id
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let hash = mixed(mixed(hash, 0xff51_afd7_ed55_8ccd), 0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE_MS: i64 = 60_000;

    fn failure(minute: i64, terminal_id: i64, site_id: i64, updated_minute: Option<i64>) -> RawFailure {
        RawFailure {
            at_ms: minute * MINUTE_MS,
            class: Class::Hard,
            terminal_id,
            site_id: (site_id > 0).then_some(site_id),
            updated_at_ms: updated_minute.map(|minute| minute * MINUTE_MS),
        }
    }

    fn fates(failures: &[RawFailure]) -> Vec<&'static str> {
        let mut screen = Screen::new(Windows::default());
        failures.iter().map(|failure| screen.admit(failure).as_str()).collect()
    }

    #[test]
    fn the_first_failure_of_a_site_counts_and_those_just_after_it_do_not() {
        let rows =
            [failure(0, 1, 7, None), failure(10, 2, 7, Some(0)), failure(15, 3, 7, None), failure(16, 4, 7, None)];
        assert_eq!(fates(&rows), ["counted", "suppressed_by_site", "suppressed_by_site", "counted"]);
        let elsewhere =
            [failure(0, 1, 7, None), failure(1, 2, 8, None), failure(1, 3, 0, None), failure(1, 4, 0, None)];
        assert_eq!(fates(&elsewhere), ["counted"; 4], "other sites, and terminals without one");
        let payment = RawFailure { class: Class::Payment, ..failure(1, 2, 7, None) };
        assert_eq!(fates(&[failure(0, 1, 7, None), payment]), ["counted"; 2], "classes are judged apart");
    }

    #[test]
    fn what_is_reported_late_is_measured_from_both_sides() {
        let rows = [failure(100, 1, 7, None), failure(90, 2, 7, None), failure(20, 3, 7, None)];
        assert_eq!(fates(&rows), ["counted", "suppressed_by_site", "counted"], "an hour before is no part of it");
    }

    #[test]
    fn a_terminal_counts_once_a_window_and_an_update_opens_its_own() {
        let control = [failure(0, 1, 0, None), failure(59, 1, 0, None), failure(60, 1, 0, None)];
        assert_eq!(fates(&control), ["counted", "repeated", "counted"]);
        let updated = [failure(0, 1, 0, None), failure(20, 1, 0, Some(10)), failure(69, 1, 0, Some(10))];
        assert_eq!(fates(&updated), ["counted", "counted", "repeated"]);
        let late = [failure(60, 1, 0, Some(0)), failure(61, 2, 5, Some(0)), failure(62, 3, 5, None)];
        assert_eq!(fates(&late), ["counted", "out_of_window", "counted"], "what is not counted does not hide its site");
        let suppressed = [failure(0, 1, 7, None), failure(1, 2, 7, None), failure(30, 2, 7, None)];
        assert_eq!(fates(&suppressed), ["counted", "suppressed_by_site", "repeated"], "it had left the risk set");
        let payment = RawFailure { class: Class::Payment, ..failure(61, 1, 0, Some(0)) };
        assert_eq!(fates(&[payment]), ["counted"], "payments are watched longer");
    }

    #[test]
    fn the_order_of_ties_is_fixed_and_favours_no_number() {
        assert_eq!(tie_order("event-1"), tie_order("event-1"));
        let rising = (0..1_000).filter(|n| tie_order(&format!("e{n}")) < tie_order(&format!("e{}", n + 1))).count();
        assert!((400..600).contains(&rising), "{rising}");
    }

    proptest! {
        #[test]
        fn what_is_not_counted_changes_nothing_of_what_comes_after(
            rows in proptest::collection::vec((0..200_i64, 1..30_i64, 0..6_i64, any::<bool>()), 0..60),
        ) {
            let mut rows = rows;
            rows.sort_unstable();
            let failures: Vec<_> = rows
                .iter()
                .map(|(minute, terminal, site, is_treated)| failure(*minute, *terminal, *site, is_treated.then_some(minute - 30)))
                .collect();
            let mut screen = Screen::new(Windows::default());
            let fates: Vec<_> = failures.iter().map(|failure| screen.admit(failure)).collect();
            // Replaying only what left the risk set decides the same about it.
            let mut again = Screen::new(Windows::default());
            for (failure, fate) in failures.iter().zip(&fates).filter(|(_, fate)| fate.leaves_risk_set()) {
                prop_assert_eq!(again.admit(failure), *fate);
            }
        }
    }
}
