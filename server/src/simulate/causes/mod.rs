//! Fleets with known causes: how often does the scan name exactly those, and how often does it name something where
//! there is nothing?
//!
//! The fleet is drawn as real ones are built: carriers by region, access and firmware by model, signal by access; every
//! value has a small effect of its own, every terminal its own frailty, the same in history and window. One to three
//! causes of one to three conditions raise the rate 2.5 to 8 times. An answer counts when its set of conditions is
//! exactly that of a cause. The generator is as multiplicative as the model of the scan and so flatters it: it is a
//! regression test, no proof. Seeded: the same seed and number of instances give the same table.

mod draw;
mod world;

use serde::Serialize;

use super::random::Draws;
use crate::failures::localize::{self, GAIN_MIN, Predicate};
pub use world::World;

/// What kind of fleet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Form {
    /// 2,000 terminals with 10 exposures each instead of 20,000 with 40.
    pub small: bool,
    /// Twelve attributes instead of six.
    pub twelve: bool,
    /// Terminals differ more: the variance of their frailty is 1.5 instead of 0.3.
    pub heavy: bool,
    /// No cause at all.
    pub null: bool,
    /// No history.
    pub no_base: bool,
    /// Broken terminals, which fail 70 % of the time.
    pub broken: u32,
    /// Everything fails this much more often in the window, percent.
    pub rise: u32,
}

impl Form {
    fn terminals(self) -> u32 {
        if self.small { 2_000 } else { 20_000 }
    }

    /// Factor of everything in the window.
    fn rise(self) -> f64 {
        1.0 + f64::from(self.rise) / 100.0
    }

    /// Mean exposures of a terminal in the window.
    fn exposures(self) -> f64 {
        if self.small { 10.0 } else { 40.0 }
    }
}

/// How the scan did.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Score {
    /// Instances.
    pub instances: u32,
    /// Causes that were put in.
    pub causes: u32,
    /// Sets that were named.
    pub answers: u32,
    /// Sets that are exactly a cause.
    pub hits: u32,
    /// Instances whose first answer is a cause.
    pub first_right: u32,
    /// Instances in which a set was named that is no cause.
    pub with_false: u32,
    /// Failures in the window, mean.
    pub failures_mean: f64,
}

impl Score {
    /// Share of the answers that are right.
    pub fn precision(&self) -> f64 {
        f64::from(self.hits) / f64::from(self.answers.max(1))
    }

    /// Share of the causes that are found.
    pub fn recall(&self) -> f64 {
        f64::from(self.hits) / f64::from(self.causes.max(1))
    }

    /// Their harmonic mean, pooled over the instances.
    pub fn f1(&self) -> f64 {
        2.0 * f64::from(self.hits) / f64::from((self.causes + self.answers).max(1))
    }

    /// Share of the instances whose first answer is a cause.
    pub fn top_one(&self) -> f64 {
        f64::from(self.first_right) / f64::from(self.instances.max(1))
    }

    /// Share of the instances in which a set was named that is no cause.
    pub fn false_share(&self) -> f64 {
        f64::from(self.with_false) / f64::from(self.instances.max(1))
    }
}

/// Draws instance `number` of the run with this seed.
pub fn draw(form: &Form, seed: u64, number: u32) -> World {
    World::draw(form, &mut Draws::of(seed, "causes", u64::from(number)))
}

/// Runs `instances` fleets of this form.
pub fn run(form: &Form, instances: u32, seed: u64) -> Score {
    let mut score = Score { instances, ..Score::default() };
    for number in 0..instances {
        add(&mut score, &draw(form, seed, number));
    }
    score
}

fn add(score: &mut Score, world: &World) {
    let report = localize::explain(&world.cells, GAIN_MIN, |set| world.worst_terminal(set));
    let is_cause = |set: &[Predicate]| world.causes.iter().any(|cause| cause.all_of == set);
    let hits = report.explanations.iter().filter(|found| is_cause(&found.all_of)).count();
    let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    score.causes += count(world.causes.len());
    score.answers += count(report.explanations.len());
    score.hits += count(hits);
    score.first_right += u32::from(report.explanations.first().is_some_and(|found| is_cause(&found.all_of)));
    score.with_false += u32::from(hits < report.explanations.len());
    score.failures_mean += report.k / f64::from(score.instances.max(1));
}

#[cfg(test)]
mod tests;
