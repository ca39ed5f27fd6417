//! Rollouts of a simulated fleet under several rules: how often is a good release stopped, and how many terminals fail
//! before a bad one is?
//!
//! 10,000 terminals at 2,000 sites of five, models A, B and C (60, 30, 10 %) and a fifth on 2G, by site; 500 are held
//! back. Stages of 50, 200, 750, 2,000 and 6,500, each spread over 30 min, every 90 min. An updated terminal that fails does
//! so within 60 min, and that is seen 5 min later; the others fail at the same hazard all the time. Six scenarios are
//! harmless, four do harm. All rules are applied to the same runs. Seeded: the same seed and number of runs give the
//! same table.

mod events;
mod journal;
mod rules;
mod scenario;
mod world;

use std::io::Write;

use serde::Serialize;

use super::random::Draws;
pub use events::write_events;
use journal::journal;
use rules::{Effect, RULES};
pub use scenario::{SCENARIOS, Scenario};
use world::World;

/// The whole comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Runs of each scenario.
    pub runs: u32,
    /// Seed.
    pub seed: u64,
    /// The scenarios, the harmless first.
    pub scenarios: Vec<ScenarioReport>,
}

/// All rules in one scenario.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScenarioReport {
    /// Short name.
    pub name: &'static str,
    /// What it is.
    pub text: &'static str,
    /// Whether the update does harm.
    pub is_harm: bool,
    /// The rules, in the order of the table.
    pub rules: Vec<RuleReport>,
}

/// One rule in one scenario.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RuleReport {
    /// Name.
    pub rule: &'static str,
    /// Runs that were stopped, %; false stops where the update is harmless.
    pub stopped_percent: f64,
    /// Updated terminals that fail, on average.
    pub failing_mean: f64,
    /// The same, 95th percentile.
    pub failing_p95: u64,
    /// Minute of the stop, median; absent when no run was stopped.
    pub stopped_min_median: Option<i64>,
    /// Runs in which one scope could have been stopped alone, %.
    pub narrowed_percent: f64,
}

/// Runs `scenarios`, each `runs` times.
pub fn run(scenarios: &[Scenario], runs: u32, seed: u64) -> Report {
    Report { runs, seed, scenarios: scenarios.iter().map(|scenario| run_scenario(scenario, runs, seed)).collect() }
}

fn run_scenario(scenario: &Scenario, runs: u32, seed: u64) -> ScenarioReport {
    let mut effects: Vec<Vec<Effect>> = vec![Vec::new(); RULES.len()];
    for number in 0..runs {
        let world = draw(scenario, seed, number);
        let journal = journal(&world);
        for ((_, rule), effects) in RULES.iter().zip(&mut effects) {
            effects.push(rule.apply(&world, &journal));
        }
    }
    let rules = RULES.iter().zip(effects).map(|((name, _), effects)| summarize(name, &effects)).collect();
    ScenarioReport { name: scenario.name, text: scenario.text, is_harm: scenario.is_harm, rules }
}

fn draw(scenario: &Scenario, seed: u64, number: u32) -> World {
    World::draw(scenario, &mut Draws::of(seed, scenario.name, u64::from(number)))
}

fn summarize(rule: &'static str, effects: &[Effect]) -> RuleReport {
    let runs = effects.len().max(1) as f64;
    let percent = |is: &dyn Fn(&&Effect) -> bool| 100.0 * effects.iter().filter(is).count() as f64 / runs;
    let mut failing: Vec<u64> = effects.iter().map(|effect| effect.failing).collect();
    failing.sort_unstable();
    let mut stops: Vec<i64> = effects.iter().filter_map(|effect| effect.stopped_min).collect();
    stops.sort_unstable();
    RuleReport {
        rule,
        stopped_percent: percent(&|effect| effect.stopped_min.is_some()),
        failing_mean: failing.iter().sum::<u64>() as f64 / runs,
        failing_p95: failing.get(failing.len() * 95 / 100).copied().unwrap_or(0),
        stopped_min_median: stops.get(stops.len() / 2).copied(),
        narrowed_percent: percent(&|effect| effect.narrowed_to.is_some()),
    }
}

/// Writes the comparison as a table.
///
/// # Errors
/// When `out` cannot be written.
pub fn write_table(report: &Report, out: &mut impl Write) -> std::io::Result<()> {
    let (harms, nulls): (Vec<_>, Vec<_>) = report.scenarios.iter().partition(|scenario| scenario.is_harm);
    let names = |scenarios: &[&ScenarioReport]| scenarios.iter().map(|s| s.name).collect::<Vec<_>>().join(" / ");
    writeln!(out, "{} runs a scenario, seed {}", report.runs, report.seed)?;
    writeln!(
        out,
        "| rule | false stops %, {} | failing terminals {}: mean, p95 (never stopped %) |\n|---|---|---|",
        names(&nulls),
        names(&harms)
    )?;
    for (number, (name, _)) in RULES.iter().enumerate() {
        let false_stops: Vec<_> =
            nulls.iter().map(|scenario| format!("{:.2}", scenario.rules[number].stopped_percent)).collect();
        let failing: Vec<_> = harms
            .iter()
            .map(|scenario| {
                let rule = &scenario.rules[number];
                let never = 100.0 - rule.stopped_percent;
                format!("{:.1}, {} ({never:.1})", rule.failing_mean, rule.failing_p95)
            })
            .collect();
        writeln!(out, "| {name} | {} | {} |", false_stops.join(" / "), failing.join(" / "))?;
    }
    for scenario in &report.scenarios {
        writeln!(out, "{}: {}", scenario.name, scenario.text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
