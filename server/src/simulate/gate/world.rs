//! One run: a fleet of 10,000 terminals, the times of their updates, and when each fails.
//!
//! Terminals with and without the update fail by the same mechanism, a constant hazard, so that a harmless scenario is
//! harmless exactly. The run goes on to its end; a rule that stops earlier is looked up in it, since what happened before
//! the stop is the same.

use super::super::random::Draws;
use super::scenario::{Order, Place, Scenario, Unit};

/// Terminals of a fleet, five a site.
pub const TERMINALS: usize = 10_000;
const SITE_TERMINALS: usize = 5;
/// Terminals that are not updated.
const HOLD_BACK: usize = 500;
/// Sizes of the stages.
pub const STAGES: [usize; 5] = [50, 200, 750, 2_000, 6_500];
pub const MINUTE_MS: i64 = 60_000;
/// A stage begins this long after the one before, min.
pub const STAGE_EVERY_MIN: i64 = 90;
/// Updates of a stage are spread over this, min.
const STAGE_SPREAD_MIN: f64 = 30.0;
/// Window after an update, min.
pub const WINDOW_MIN: i64 = 60;
/// The last update is at minute 390, and its window is watched.
pub const END_MIN: i64 = 450;
/// Shares of the models, and of terminals on 2G.
const MODEL_SHARES: [f64; 3] = [0.6, 0.3, 0.1];
const SLOW_SHARE: f64 = 0.2;
const OUTAGE_MIN: f64 = 45.0;

/// One terminal.
#[derive(Debug, Clone, Copy)]
pub struct Terminal {
    /// Its site.
    pub site: usize,
    /// Its attributes.
    pub place: Place,
    /// When it is updated, and in which stage; `None` for the hold-back.
    pub update: Option<(i64, usize)>,
}

/// One failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Failure {
    /// When.
    pub at_ms: i64,
    /// Order within the same instant.
    pub tie: u64,
    /// Whose.
    pub terminal: usize,
}

/// A whole run.
#[derive(Debug)]
pub struct World {
    /// By number.
    pub terminals: Vec<Terminal>,
    /// Terminals in the order of their updates.
    pub updates: Vec<usize>,
    /// In order of time.
    pub failures: Vec<Failure>,
}

impl World {
    /// Draws a run.
    pub fn draw(scenario: &Scenario, draws: &mut Draws) -> Self {
        let mut terminals = Self::fleet(draws);
        let mut order = Self::order(scenario.order, &terminals, draws);
        order.truncate(TERMINALS - HOLD_BACK);
        let mut updates = order.iter();
        for (stage, size) in STAGES.into_iter().enumerate() {
            for (position, terminal) in updates.by_ref().take(size).enumerate() {
                let start = STAGE_EVERY_MIN as f64 * stage as f64;
                let minute = start + STAGE_SPREAD_MIN * position as f64 / size as f64;
                terminals[*terminal].update = Some((ms(minute), stage));
            }
        }
        let outage = Outage::draw(scenario.outage_factor, draws);
        let mut failures = match scenario.unit {
            Unit::Terminal => each_for_itself(scenario, &terminals, &outage, draws),
            Unit::Site => whole_sites(scenario, &outage, draws),
        };
        failures.sort_unstable();
        Self { terminals, updates: order, failures }
    }

    fn fleet(draws: &mut Draws) -> Vec<Terminal> {
        (0..TERMINALS / SITE_TERMINALS)
            .flat_map(|site| {
                let model = draws.weighted(&MODEL_SHARES);
                let place = Place { model, access: usize::from(!draws.chance(SLOW_SHARE)) };
                [Terminal { site, place, update: None }; SITE_TERMINALS]
            })
            .collect()
    }

    /// All terminals in the order of updating, the hold-back, drawn at random, last.
    fn order(order: Order, terminals: &[Terminal], draws: &mut Draws) -> Vec<usize> {
        let by_site = order != Order::Terminals;
        let units = if by_site { TERMINALS / SITE_TERMINALS } else { TERMINALS };
        let held_back = if by_site { HOLD_BACK / SITE_TERMINALS } else { HOLD_BACK };
        let mut unit_order: Vec<usize> = (0..units).collect();
        for left in (1..units).rev() {
            // An index below 2³², and at most `left`.
            let with = ((left + 1) as f64 * draws.unit()) as usize;
            unit_order.swap(left, with.min(left));
        }
        if !by_site {
            return unit_order;
        }
        if order == Order::SlowSitesFirst {
            let (updated, _) = unit_order.split_at_mut(units - held_back);
            let mut keyed: Vec<(f64, usize)> = updated
                .iter()
                .map(|site| {
                    let is_slow = terminals[site * SITE_TERMINALS].place.access == 0;
                    (draws.unit() - if is_slow { 0.8 } else { 0.0 }, *site)
                })
                .collect();
            keyed.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
            updated.iter_mut().zip(keyed).for_each(|(place, (_, site))| *place = site);
        }
        unit_order.into_iter().flat_map(|site| (0..SITE_TERMINALS).map(move |n| site * SITE_TERMINALS + n)).collect()
    }
}

fn each_for_itself(scenario: &Scenario, terminals: &[Terminal], outage: &Outage, draws: &mut Draws) -> Vec<Failure> {
    let mut failures = Vec::new();
    for (number, terminal) in terminals.iter().enumerate() {
        let updated = terminal.update.map(|(at_ms, _)| at_ms as f64 / MINUTE_MS as f64);
        let until = updated.unwrap_or(END_MIN as f64);
        let mut fail = |minute: f64, draws: &mut Draws| {
            failures.push(Failure { at_ms: ms(minute), tie: tie(draws), terminal: number });
        };
        let mut minute = outage.after(0.0, hazard((scenario.base)(terminal.place)), draws);
        while minute < until {
            fail(minute, draws);
            minute = outage.after(minute + WINDOW_MIN as f64, hazard((scenario.base)(terminal.place)), draws);
        }
        if let Some(updated) = updated {
            let minute = outage.after(updated, hazard((scenario.updated)(terminal.place)), draws);
            if minute < updated + WINDOW_MIN as f64 {
                fail(minute, draws);
            }
        }
    }
    failures
}

fn whole_sites(scenario: &Scenario, outage: &Outage, draws: &mut Draws) -> Vec<Failure> {
    let mut failures = Vec::new();
    let hazard = hazard((scenario.base)(Place { model: 0, access: 1 }));
    for site in 0..TERMINALS / SITE_TERMINALS {
        let mut minute = outage.after(0.0, hazard, draws);
        while minute < END_MIN as f64 {
            for number in 0..SITE_TERMINALS {
                let terminal = site * SITE_TERMINALS + number;
                failures.push(Failure { at_ms: ms(minute), tie: tie(draws), terminal });
            }
            minute = outage.after(minute, hazard, draws);
        }
    }
    failures
}

/// The constant hazard, per minute, that makes `share` fail within the window.
fn hazard(share: f64) -> f64 {
    -(1.0 - share).ln() / WINDOW_MIN as f64
}

fn ms(minute: f64) -> i64 {
    (minute * MINUTE_MS as f64) as i64
}

fn tie(draws: &mut Draws) -> u64 {
    draws.unit().to_bits()
}

/// A time in which everything fails more often.
struct Outage {
    from: f64,
    to: f64,
    factor: f64,
}

impl Outage {
    fn draw(factor: f64, draws: &mut Draws) -> Self {
        let from = draws.between(100.0, 250.0);
        Self { from, to: from + OUTAGE_MIN, factor }
    }

    /// When something with this hazard, per minute, next happens.
    fn after(&self, minute: f64, hazard: f64, draws: &mut Draws) -> f64 {
        let mut wait = -(1.0 - draws.unit()).ln() / hazard;
        let mut now = minute;
        for (end, factor) in [(self.from, 1.0), (self.to, self.factor)] {
            if now < end {
                if now + wait / factor <= end {
                    return now + wait / factor;
                }
                wait -= (end - now) * factor;
                now = end;
            }
        }
        now + wait
    }
}
