//! The course of one simulated update: put off, download, install, restart, trial, and how it ends.
//!
//! One step for each acknowledged check-in. What will become of it is drawn when the order arrives, from the terminal's
//! own generator, so the same seed gives the same course whenever the order arrives.

use tillward_protocol::ids::{Sha256Hex, Version};
use tillward_protocol::phase::{Phase, Reason, UpdateReport};

use super::random::Draws;

/// What the director's document orders.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// The server's number of it.
    pub assignment: i64,
    /// Name of the file.
    pub name: String,
    /// Its length, bytes.
    pub length: u64,
    /// Its digest.
    pub sha256: Sha256Hex,
    /// Version that runs afterwards.
    pub version: Version,
    /// Its release counter.
    pub release_counter: u64,
}

/// Odds of the ways an update goes wrong (our assumption: what fleets of embedded devices see, rounded up so that a demo
/// of some hundred terminals shows each).
const ODDS: [(Fate, f64); 5] = [
    (Fate::Succeeds, 0.945),
    (Fate::Fails(Reason::NoSpace), 0.015),
    (Fate::Fails(Reason::StorageError), 0.010),
    (Fate::Fails(Reason::DigestMismatch), 0.015),
    (Fate::TakenBack(Reason::BootFailed), 0.015),
];
/// Odds that an update is put off first, and the longest that it is, check-ins.
const DEFERRAL_ODDS: f64 = 0.12;
const DEFERRALS_MAX: u32 = 2;
/// Below this charge an update waits for the charger, percent.
const BATTERY_PERCENT_MIN: f64 = 20.0;
/// Check-ins from the order to the end at most: put off, then downloading, installing, rebooting, trial, result.
pub const CHECK_INS_MAX: u32 = DEFERRALS_MAX + 6;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Succeeds,
    Fails(Reason),
    TakenBack(Reason),
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Idle,
    Deferred { left: u32, reason: Reason },
    Downloading,
    Installing,
    Rebooting,
    Trial,
    Ended(Phase, Option<Reason>),
}

/// What an acknowledged step changes on the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It started again.
    Restarted,
    /// The new firmware is committed.
    Installed,
    /// The old firmware stays.
    NotInstalled(Reason),
}

/// Where a terminal is with its update.
#[derive(Debug)]
pub struct Course {
    step: Step,
    order: Option<Order>,
    fate: Fate,
    finished: i64,
    director: i64,
    downloaded: bool,
    resumed: u32,
    draws: Draws,
}

impl Course {
    /// Nothing to do yet.
    pub fn new(seed: u64, index: u64) -> Self {
        Self {
            step: Step::Idle,
            order: None,
            fate: Fate::Succeeds,
            finished: 0,
            director: 0,
            downloaded: false,
            resumed: 0,
            draws: Draws::of(seed, "course", index),
        }
    }

    /// Whether this number means that the director's document should be read.
    pub fn wants_director(&self, desired: i64) -> bool {
        self.step == Step::Idle && desired > self.finished
    }

    /// The order that is to be downloaded now, if one is.
    pub fn wants_payload(&self) -> Option<&Order> {
        self.order.as_ref().filter(|_| self.step == Step::Downloading && !self.downloaded)
    }

    /// The order that is followed.
    pub fn order(&self) -> Option<&Order> {
        self.order.as_ref()
    }

    /// Whether an update is being installed or on trial.
    pub fn is_under_way(&self) -> bool {
        matches!(self.step, Step::Installing | Step::Rebooting | Step::Trial)
    }

    /// Takes what the director's document says, for a terminal that runs release counter `running`.
    pub fn directed(&mut self, director: i64, order: Option<Order>, running: u64, battery_percent: f64) {
        self.director = director;
        let Some(order) = order.filter(|order| order.release_counter > running) else {
            self.finished = director;
            return;
        };
        self.fate = ODDS[self.draws.weighted(&ODDS.map(|(_, odds)| odds))].0;
        let (puts_off, left) = (self.draws.chance(DEFERRAL_ODDS), self.draws.whole(1, DEFERRALS_MAX));
        let why = self.draws.weighted(&[0.6, 0.4]);
        self.step = if battery_percent < BATTERY_PERCENT_MIN {
            Step::Deferred { left, reason: Reason::LowBattery }
        } else if puts_off {
            Step::Deferred { left, reason: [Reason::NotIdle, Reason::TransactionPending][why] }
        } else {
            Step::Downloading
        };
        self.order = Some(order);
        self.downloaded = false;
        self.resumed = 0;
    }

    /// Notes that the payload arrived whole after `resumed` interruptions.
    pub fn downloaded(&mut self, resumed: u32) {
        self.downloaded = true;
        self.resumed = resumed;
    }

    /// Notes that the payload is not what was ordered.
    pub fn refused(&mut self, reason: Reason) {
        self.fate = Fate::Fails(reason);
        self.downloaded = true;
    }

    /// What to report with the next check-in.
    pub fn report(&self) -> Option<UpdateReport> {
        let order = self.order.as_ref()?;
        let (phase, reason) = match self.step {
            Step::Idle => return None,
            Step::Deferred { reason, .. } => (Phase::Deferred, Some(reason)),
            Step::Downloading => (Phase::Downloading, None),
            Step::Installing => (Phase::Installing, None),
            Step::Rebooting => (Phase::Rebooting, None),
            Step::Trial => (Phase::Trial, None),
            Step::Ended(phase, reason) => (phase, reason),
        };
        let bytes = match self.step {
            Step::Idle | Step::Deferred { .. } => 0,
            Step::Downloading if !self.downloaded => order.length / 3,
            Step::Downloading | Step::Installing | Step::Rebooting | Step::Trial | Step::Ended(..) => order.length,
        };
        Some(UpdateReport {
            assignment: order.assignment,
            phase,
            reason,
            detail: None,
            bytes: Some(bytes),
            bytes_total: Some(order.length),
            resumed: (self.resumed > 0).then_some(self.resumed),
        })
    }

    /// The report was acknowledged: goes one step on.
    ///
    /// `Installed` comes with the step to the final report, so that this report and the signed manifest that proves it
    /// travel together.
    pub fn advance(&mut self) -> Option<Change> {
        let (next, change) = match (&self.step, self.fate) {
            (Step::Idle, _) => return None,
            (Step::Deferred { left: 0 | 1, .. }, _) => (Step::Downloading, None),
            (Step::Deferred { left, reason }, _) => (Step::Deferred { left: left - 1, reason: *reason }, None),
            // The payload is still to be fetched.
            (Step::Downloading, _) if !self.downloaded => return None,
            (Step::Downloading, Fate::Fails(reason)) => {
                (Step::Ended(Phase::Failed, Some(reason)), Some(Change::NotInstalled(reason)))
            }
            (Step::Downloading, Fate::Succeeds | Fate::TakenBack(_)) => (Step::Installing, None),
            (Step::Installing, _) => (Step::Rebooting, None),
            (Step::Rebooting, Fate::TakenBack(reason)) => {
                (Step::Ended(Phase::RolledBack, Some(reason)), Some(Change::NotInstalled(reason)))
            }
            (Step::Rebooting, Fate::Succeeds | Fate::Fails(_)) => (Step::Trial, Some(Change::Restarted)),
            (Step::Trial, _) => (Step::Ended(Phase::Succeeded, None), Some(Change::Installed)),
            (Step::Ended(..), _) => {
                self.finished = self.director;
                self.order = None;
                (Step::Idle, None)
            }
        };
        self.step = next;
        change
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order() -> Order {
        Order {
            assignment: 9,
            name: "demo-p1.os.4.2.0-42.bin".to_owned(),
            length: 48_640,
            sha256: Sha256Hex::of(b"x"),
            version: "4.2.0".parse().unwrap(),
            release_counter: 42,
        }
    }

    /// Phases that a terminal reports, and what changed on it.
    fn run(index: u64) -> (Vec<Phase>, Vec<Change>) {
        let mut course = Course::new(1, index);
        course.directed(3, Some(order()), 41, 80.0);
        let (mut phases, mut changes) = (Vec::new(), Vec::new());
        while let Some(report) = course.report() {
            phases.push(report.phase);
            if course.wants_payload().is_some() {
                course.downloaded(0);
            }
            changes.extend(course.advance());
        }
        assert!(!course.wants_director(3) && course.wants_director(4));
        (phases, changes)
    }

    #[test]
    fn every_course_ends_within_its_limit_and_ends_are_of_every_kind() {
        let runs: Vec<_> = (0..2_000).map(run).collect();
        for (phases, _) in &runs {
            assert!(phases.len() <= CHECK_INS_MAX as usize, "{phases:?}");
        }
        let ended = |phase| runs.iter().filter(|(phases, _)| phases.last() == Some(&phase)).count();
        let (good, failed, back) = (ended(Phase::Succeeded), ended(Phase::Failed), ended(Phase::RolledBack));
        assert_eq!(good + failed + back, 2_000);
        assert!(good > 1_800 && (30..150).contains(&failed) && (10..70).contains(&back), "{good} {failed} {back}");
        assert!(runs.iter().any(|(phases, _)| phases[0] == Phase::Deferred));
        for (phases, changes) in &runs {
            assert_eq!(changes.contains(&Change::Installed), phases.last() == Some(&Phase::Succeeded));
        }
    }

    #[test]
    fn an_order_that_goes_back_or_is_gone_is_not_followed() {
        let mut course = Course::new(1, 0);
        course.directed(5, Some(order()), 42, 80.0);
        assert!(course.report().is_none() && !course.wants_director(5) && course.wants_director(6));
        course.directed(6, None, 42, 80.0);
        assert!(course.report().is_none() && !course.wants_director(6));
    }

    #[test]
    fn a_payload_that_is_not_what_was_ordered_is_refused() {
        let mut course = Course::new(1, 0);
        course.directed(1, Some(order()), 41, 80.0);
        course.refused(Reason::DigestMismatch);
        while course.report().is_some_and(|report| report.phase != Phase::Failed) {
            assert_ne!(course.advance(), Some(Change::Installed));
        }
        assert_eq!(course.report().unwrap().reason, Some(Reason::DigestMismatch));
    }
}
