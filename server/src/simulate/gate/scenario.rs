//! The fleets that are simulated: six in which the update does nothing, four in which it does harm.

/// Models, by number; C is the rare one.
pub const MODELS: [&str; 3] = ["A", "B", "C"];
/// Ways to the network, by number.
pub const ACCESSES: [&str; 2] = ["2g", "4g"];

/// What failing depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Position in [`MODELS`].
    pub model: usize,
    /// Position in [`ACCESSES`].
    pub access: usize,
}

impl Place {
    fn is_2g(self) -> bool {
        self.access == 0
    }
}

/// In which order terminals are updated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// At random.
    Terminals,
    /// Whole sites, at random.
    Sites,
    /// Whole sites, those on 2G mostly first.
    SlowSitesFirst,
}

/// What fails together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Each terminal for itself.
    Terminal,
    /// All terminals of a site at once.
    Site,
}

/// One fleet and its rollout.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// Short name.
    pub name: &'static str,
    /// What it is, in a few words.
    pub text: &'static str,
    /// Whether the update does harm.
    pub is_harm: bool,
    /// Chance that a terminal without the update fails within the window.
    pub base: fn(Place) -> f64,
    /// The same with the update.
    pub updated: fn(Place) -> f64,
    /// How many times as much everything fails during an outage of 45 min somewhere in minutes 100–250.
    pub outage_factor: f64,
    /// The order of updates.
    pub order: Order,
    /// What fails together.
    pub unit: Unit,
}

const fn null(name: &'static str, text: &'static str, base: fn(Place) -> f64) -> Scenario {
    Scenario {
        name,
        text,
        is_harm: false,
        base,
        updated: base,
        outage_factor: 1.0,
        order: Order::Terminals,
        unit: Unit::Terminal,
    }
}

const fn harm(name: &'static str, text: &'static str, base: fn(Place) -> f64, updated: fn(Place) -> f64) -> Scenario {
    Scenario { is_harm: true, updated, ..null(name, text, base) }
}

fn one_percent(_: Place) -> f64 {
    0.01
}

fn one_per_mille(_: Place) -> f64 {
    0.001
}

fn slow_fails_more(place: Place) -> f64 {
    if place.is_2g() { 0.03 } else { 0.005 }
}

fn rare_model_fails(place: Place) -> f64 {
    if place.model == 2 { 0.1 } else { 0.01 }
}

/// All of them, the harmless first.
pub const SCENARIOS: [Scenario; 10] = [
    null("N1", "each for itself, 1 %", one_percent),
    Scenario { outage_factor: 8.0, ..null("N2", "an outage: everything x 8 for 45 min", one_percent) },
    Scenario { order: Order::SlowSitesFirst, ..null("N3", "3 % on 2G, 0.5 % elsewhere, 2G first", slow_fails_more) },
    Scenario {
        order: Order::Sites,
        unit: Unit::Site,
        ..null("N4", "whole sites fail, updated site by site", one_percent)
    },
    Scenario { unit: Unit::Site, ..null("N5", "whole sites fail, updated in random order", one_percent) },
    null("N6", "each for itself, 0.1 %", one_per_mille),
    harm("H1", "1 % becomes 5 %", one_percent, |_| 0.05),
    harm("H2", "1 % becomes 3 %", one_percent, |_| 0.03),
    harm("H3", "1 % becomes 10 % on model C", one_percent, rare_model_fails),
    harm("H4", "0.1 % becomes 2 %", one_per_mille, |_| 0.02),
];
