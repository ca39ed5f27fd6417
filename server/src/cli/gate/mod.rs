//! `tillward gate …`: judges past rollouts again, and compares the gate with other rules by simulation.

mod plan;
mod print;
mod record;
mod replay;
mod risk;
mod words;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::rollouts::gate::{Arm, CLASSES, Class, Settings, Windows};
use crate::simulate::gate::{self as simulation, SCENARIOS, Scenario};
use plan::{Plan, Reading};
use record::Record;
pub use record::Unreadable;
use words::Outcome;

const MINUTE_MS: i64 = 60_000;
/// Window after an update when the file itself watches no longer, min: the one that was simulated.
const WINDOW_MIN: i64 = 60;

const FORMAT: &str = "\
THE FILE
  A table with a header: CSV separated by comma, semicolon or tab, UTF-8 or GB18030, rows in the order of time. Names of
  columns and words are read in any case and spelling (Hold-back, hold_back).

  t_ms      time, milliseconds from anywhere
  terminal  any name
  arm       treated (updated, treatment, new, t, 1) or control (hold_back, untreated, old, c, 0)
  site      store; of the failures at one site within 15 min only the first is evidence. Empty or no column: no such rule
  outcome   start                       from here on the terminal can fail; a treated start is the update
            ok, success, healthy        watched, and did not fail
            fail, crash, silent, …      it failed in its work; fail_ANYTHING too
            payment, payment_failed     it failed in payments; judged as a class of its own and averaged
            not_installed, rolled_back, timed_out   the update itself failed; where controls have the word too, it means fail
            end, censored               nobody watches it any more
  Every other column is a scope: model, access, carrier, place, hardware, …; as many as there are, or none.

  With start rows, a terminal is at risk from its start until it fails, is ok, ends, or W has passed since its update. A
  control that failed comes back after W; a treated start moves a control over. A terminal without a start is at risk
  from the first row on.

  Without start rows each row is one outcome of one terminal. A failure is compared with the 200 rows of its stratum
  around it (trials). Where failures come in clusters, before the successes, each terminal was at risk for W before its row,
  or for 200 rows of its stratum if that is longer (watches). --reading decides otherwise.

THE VERDICT
  Failures of treated terminals are compared with those of controls at risk at the same moment in the same stratum. Where
  the file names outcomes of the update itself, or has no controls, these are held against the budget, and the two kinds of
  evidence are averaged. Fail: evidence 1/alpha was reached at any time; it is final. Pass: shown not to be twice as bad,
  nobody being watched any more. Otherwise insufficient.

  Exit status: 0 for a judged file, whatever the verdict; 2 for one that cannot be read.";

/// Arguments of `tillward gate`.
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true, after_long_help = FORMAT)]
pub struct GateArgs {
    #[command(subcommand)]
    tool: Option<Tool>,
    #[command(flatten)]
    judge: Option<JudgeArgs>,
}

#[derive(Debug, Clone, Subcommand)]
enum Tool {
    /// Runs rollouts of a simulated fleet, harmless and harmful, under the gate and under other products' rules.
    Simulate(SimulateArgs),
}

/// A past rollout.
#[derive(Debug, Clone, Args)]
struct JudgeArgs {
    /// The events of a past rollout; `--help` describes the file.
    #[arg(long, value_name = "FILE")]
    events: PathBuf,
    /// Bound of the chance that a harmless rollout is ever stopped.
    #[arg(long, default_value_t = 0.01, value_parser = share)]
    alpha: f64,
    /// Share of updates that may fail by themselves.
    #[arg(long, default_value_t = 0.01, value_name = "SHARE", value_parser = share)]
    outcome_budget: f64,
    /// Leaves the outcome of the update out, also where the file tells it.
    #[arg(long)]
    health_only: bool,
    /// W, minutes after an update in which a failure counts [default: 60, or as long as the file watches].
    #[arg(long, value_name = "MIN", value_parser = clap::value_parser!(u32).range(1..))]
    window_min: Option<u32>,
    /// Minutes after the first failure of a site in which others of the site are no evidence.
    #[arg(long, default_value_t = 15, value_name = "MIN")]
    site_min: u32,
    /// Scope columns that make the strata, by comma [default: those that leave enough terminals in each].
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    strata: Option<Vec<String>>,
    /// What rows mean [default: read off the file].
    #[arg(long)]
    reading: Option<Reading>,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Args)]
struct SimulateArgs {
    /// Runs of each scenario.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    runs: u32,
    /// Seed; the same seed and runs give the same table.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only this scenario, N1 to N6 or H1 to H4; may be given more than once.
    #[arg(long, value_name = "NAME")]
    scenario: Vec<String>,
    /// Writes the first run of the scenario as a file for `--events` instead.
    #[arg(long, value_name = "FILE", requires = "scenario")]
    write_events: Option<PathBuf>,
    /// Prints one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// A share between 0 and 1, both excluded.
fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if share > 0.0 && share < 1.0 => Ok(share),
        Ok(_) | Err(_) => Err("must be a number between 0 and 1, for example 0.01".into()),
    }
}

/// Runs the command and writes what it found to `out`.
///
/// # Errors
/// [`Unreadable`] for a file that cannot be judged; what else went wrong, in words.
pub fn run(args: &GateArgs, out: &mut impl Write) -> anyhow::Result<()> {
    match (&args.tool, &args.judge) {
        (Some(Tool::Simulate(args)), _) => simulate(args, out),
        (None, Some(args)) => judge(args, out),
        (None, None) => anyhow::bail!("give --events FILE or the command simulate; see --help"),
    }
}

fn simulate(args: &SimulateArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let mut scenarios: Vec<Scenario> = Vec::new();
    for name in &args.scenario {
        let found = SCENARIOS.iter().find(|scenario| scenario.name.eq_ignore_ascii_case(name));
        scenarios.push(*found.ok_or_else(|| anyhow::anyhow!("there is no scenario {name}; use N1 to N6 or H1 to H4"))?);
    }
    if let (Some(path), [scenario, ..]) = (&args.write_events, &scenarios[..]) {
        let mut file = BufWriter::new(File::create(path)?);
        simulation::write_events(scenario, args.seed, &mut file)?;
        return Ok(file.flush()?);
    }
    let scenarios = if scenarios.is_empty() { &SCENARIOS[..] } else { &scenarios };
    let report = simulation::run(scenarios, args.runs, args.seed);
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&report)?)?;
        return Ok(());
    }
    Ok(simulation::write_table(&report, out)?)
}

fn judge(args: &JudgeArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let unreadable = |problem: String| Unreadable(format!("{}: {problem}", args.events.display()));
    let bytes = std::fs::read(&args.events).map_err(|error| unreadable(error.to_string()))?;
    let record = record::read(&bytes).map_err(|error| unreadable(error.0))?;
    let window_min = args.window_min.map_or_else(|| window_min(&record), i64::from);
    let window_ms = window_min.saturating_mul(MINUTE_MS);
    let plan = Plan::new(&record, args.reading, args.strata.as_deref(), window_ms).map_err(|e| unreadable(e.0))?;
    let settings = settings(args, &record);
    let site_ms = i64::from(args.site_min) * MINUTE_MS;
    let windows = Windows { hard_ms: window_ms, payment_ms: window_ms, site_ms };
    let replay = replay::replay(&record, &plan, &settings, windows);
    let paper = print::Paper { record: &record, plan: &plan, settings: &settings, windows: &windows, replay: &replay };
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&paper.json())?)?;
        return Ok(());
    }
    Ok(paper.text(out)?)
}

/// The window that the file itself has: from an update to its good end, at least an hour.
fn window_min(record: &Record) -> i64 {
    let mut updated_at_ms = std::collections::HashMap::new();
    let mut longest_ms = 0;
    for row in record.rows.iter().filter(|row| row.arm == Arm::Treated) {
        match row.outcome {
            Outcome::Start => drop(updated_at_ms.insert(row.terminal, row.t_ms)),
            Outcome::Good => {
                let watched_ms = updated_at_ms.get(&row.terminal).map_or(0, |at_ms| row.t_ms.saturating_sub(*at_ms));
                longest_ms = longest_ms.max(watched_ms);
            }
            Outcome::Health(_) | Outcome::Update | Outcome::End => {}
        }
    }
    // Rounded up, so that the last terminal is within.
    WINDOW_MIN.max(longest_ms.saturating_add(MINUTE_MS - 1) / MINUTE_MS)
}

/// Only what the file tells is judged and averaged.
fn settings(args: &JudgeArgs, record: &Record) -> Settings {
    let has = |is: &dyn Fn(Outcome) -> bool| record.rows.iter().any(|row| is(row.outcome));
    let has_controls = record.rows.iter().any(|row| row.arm == Arm::Control);
    let tells_updates = has(&|outcome| outcome == Outcome::Update) || !has_controls;
    let class = |class| has(&|outcome| outcome == Outcome::Health(class));
    Settings {
        alpha: args.alpha,
        outcome_budget: (tells_updates && !args.health_only).then_some(args.outcome_budget),
        classes: match (class(Class::Hard), class(Class::Payment)) {
            (true, true) => CLASSES,
            (false, true) => &[Class::Payment],
            (true | false, false) => &[Class::Hard],
        },
        ..Settings::default()
    }
}

#[cfg(test)]
mod tests;
