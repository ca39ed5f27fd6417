//! The rules that are compared: when does each stop a run, and how many terminals fail until then?

use super::journal::{Entry, SCOPES};
use super::world::{END_MIN, MINUTE_MS, STAGE_EVERY_MIN, STAGES, WINDOW_MIN, World};
use crate::rollouts::gate::{Arm, Class, Earlier, Evidence, Outcomes, Settings, Soak, Verdict, judge};

/// A failure is known this long after it happened, min.
const SEEN_MIN: i64 = 5;

/// A rule that may stop a rollout.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// Never stops.
    None,
    /// Stops before the next stage when more than this share of a whole stage has failed (as hawkBit does).
    StageShare(f64),
    /// Stops at once when this share of the finished has failed, with at least so many finished (as AWS IoT Jobs does).
    FinishedShare(f64, usize),
    /// The gate, watching these classes; only hard failures occur.
    Gate(&'static [Class]),
}

/// The rules, in the order of the table.
pub const RULES: [(&str, Rule); 6] = [
    ("no gate", Rule::None),
    ("hawkBit-like: errors > 10 % of the whole stage", Rule::StageShare(0.1)),
    ("hawkBit-like: errors > 4 % of the whole stage", Rule::StageShare(0.04)),
    ("AWS-like: >= 5 % of the finished, at least 100", Rule::FinishedShare(0.05, 100)),
    ("Tillward, watching hard failures", Rule::Gate(&[Class::Hard])),
    ("Tillward, watching payment failures as well", Rule::Gate(&[Class::Hard, Class::Payment])),
];

/// What a rule did to one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effect {
    /// Minute of the stop.
    pub stopped_min: Option<i64>,
    /// Updated terminals that fail, those that were updated before the stop and fail after it included.
    pub failing: u64,
    /// The scope that could have been stopped alone.
    pub narrowed_to: Option<u16>,
}

impl Rule {
    /// Applies the rule to one run.
    pub fn apply(self, world: &World, journal: &[Entry]) -> Effect {
        let (stopped_min, narrowed_to) = match self {
            Self::None => (None, None),
            Self::StageShare(share) => (stage_share(world, journal, share), None),
            Self::FinishedShare(share, finished_min) => (finished_share(world, journal, share, finished_min), None),
            Self::Gate(classes) => gate(journal, classes),
        };
        // Updates go on to here.
        let until_min = match (self, stopped_min) {
            (_, None) => END_MIN,
            // The running stage is left alone.
            (Self::StageShare(_), Some(minute)) => (minute / STAGE_EVERY_MIN + 1) * STAGE_EVERY_MIN,
            (_, Some(minute)) => minute,
        };
        let is_updated = |entry: &&Entry| {
            entry.arm == Arm::Treated
                && world.terminals[entry.terminal].update.is_some_and(|(at_ms, _)| at_ms < until_min * MINUTE_MS)
        };
        Effect { stopped_min, failing: journal.iter().filter(is_updated).count() as u64, narrowed_to }
    }
}

/// The minute in which something of this moment is judged.
fn seen_min(at_ms: i64) -> i64 {
    (at_ms + SEEN_MIN * MINUTE_MS + MINUTE_MS - 1) / MINUTE_MS
}

fn stage_share(world: &World, journal: &[Entry], share: f64) -> Option<i64> {
    let mut failed = [0_usize; STAGES.len()];
    for entry in journal.iter().filter(|entry| entry.arm == Arm::Treated) {
        let Some((_, stage)) = world.terminals[entry.terminal].update else { continue };
        failed[stage] += 1;
        if failed[stage] as f64 > share * STAGES[stage] as f64 {
            return Some(seen_min(entry.at_ms));
        }
    }
    None
}

fn finished_share(world: &World, journal: &[Entry], share: f64, finished_min: usize) -> Option<i64> {
    let mut failed_at: Vec<i64> = Vec::new();
    let mut has_failed = vec![false; world.terminals.len()];
    for entry in journal.iter().filter(|entry| entry.arm == Arm::Treated) {
        failed_at.push(seen_min(entry.at_ms));
        has_failed[entry.terminal] = true;
    }
    let succeeded_at: Vec<i64> = world
        .updates
        .iter()
        .filter(|terminal| !has_failed[**terminal])
        .filter_map(|terminal| world.terminals[*terminal].update)
        .map(|(at_ms, _)| seen_min(at_ms + WINDOW_MIN * MINUTE_MS))
        .collect();
    (0..=END_MIN + SEEN_MIN).find(|minute| {
        let failed = failed_at.partition_point(|at| at <= minute);
        let finished = failed + succeeded_at.partition_point(|at| at <= minute);
        finished >= finished_min && failed as f64 >= share * finished as f64
    })
}

fn gate(journal: &[Entry], classes: &'static [Class]) -> (Option<i64>, Option<u16>) {
    let settings = Settings { classes, ..Settings::default() };
    let mut evidence = Evidence::new(SCOPES, &settings);
    let mut earlier = Earlier::default();
    for entry in journal {
        let Some(event) = &entry.event else { continue };
        evidence.add(event);
        // Every update installs well: the harm is in what terminals do afterwards.
        let outcomes = Outcomes { started: entry.started, failed: 0, pending: 0 };
        let judgement = judge(&evidence, &outcomes, &Soak::default(), &settings, &earlier);
        if judgement.verdict == Verdict::Fail {
            return (Some(seen_min(entry.at_ms)), judgement.can_narrow_to);
        }
        earlier.e_max = judgement.e_max;
    }
    (None, None)
}
