//! One simulated fleet: its terminals, what fails there anyway, and the causes that were put in.

use std::collections::HashMap;

use super::super::random::Draws;
use super::Form;
use super::draw::{binomial, dirichlet, gamma, hypergeometric};
use crate::failures::localize::{Attribute, Cells, Part, Predicate};

/// Exposures of the history over those of the window.
const HISTORY_FACTOR: f64 = 5.0;
/// Rate of failures where nothing is special.
const RATE: f64 = 0.006;
/// No terminal fails more often, whatever comes together.
const RATE_MAX: f64 = 0.9;
/// A broken terminal fails this often.
const RATE_BROKEN: f64 = 0.7;
/// Factors of values scatter by this (of their logarithm).
const EFFECT_DEVIATION: f64 = 0.12;
/// What makes a cause worth finding, and possible to find.
const EXCESS_MIN: f64 = 40.0;
const SHARE_MAX: f64 = 0.4;
const GROWTH_MIN: f64 = 1.3;
const OVERLAP_MAX: f64 = 0.3;
/// Draws of a cause that are tried.
const TRIES_MAX: usize = 2_000;
/// Positions of the attributes that others depend on.
const REGION: usize = 0;
const MODEL: usize = 1;
const OPERATOR: usize = 3;
const NET: usize = 4;
const SIGNAL: usize = 5;
/// Name and number of values; the first six are the short form.
const ATTRIBUTES: [(&str, usize); 12] = [
    ("region", 12),
    ("model", 8),
    ("firmware", 14),
    ("operator", 5),
    ("net", 4),
    ("signal", 5),
    ("agent", 48),
    ("config", 24),
    ("app", 6),
    ("window", 3),
    ("sim", 10),
    ("acquirer", 6),
];
const NETS: [&str; 4] = ["wifi", "4g", "3g", "2g"];

/// A cause that was put in.
#[derive(Debug, Clone, PartialEq)]
pub struct Cause {
    /// Where it acts.
    pub all_of: Vec<Predicate>,
    /// By how much it raises the rate.
    pub lift: f64,
}

/// A terminal's counts.
#[derive(Debug, Clone, Default, PartialEq)]
struct Terminal {
    values: Vec<u16>,
    rate: f64,
    n: u32,
    k: u32,
    n0: u32,
    k0: u32,
}

/// One instance.
#[derive(Debug)]
pub struct World {
    /// What was put in.
    pub causes: Vec<Cause>,
    /// What is seen.
    pub cells: Cells,
    terminals: Vec<Terminal>,
    cell_of: Vec<usize>,
}

impl World {
    /// Draws an instance.
    pub fn draw(form: &Form, draws: &mut Draws) -> Self {
        let width = if form.twelve { ATTRIBUTES.len() } else { 6 };
        let mut terminals = population(form, width, draws);
        let mut causes = Vec::new();
        if form.null {
            split_history(form, &mut terminals, draws);
        } else {
            causes = draw_causes(form, &terminals, width, draws);
            count(form, &mut terminals, &causes, draws);
        }
        for _ in 0..form.broken {
            let lone = draws.whole(0, form.terminals() - 1) as usize;
            terminals[lone].k = binomial(draws, terminals[lone].n, RATE_BROKEN);
        }
        if form.no_base {
            for terminal in &mut terminals {
                (terminal.n0, terminal.k0) = (0, 0);
            }
        }
        let (cells, cell_of) = collapse(&terminals, width);
        Self { causes, cells, terminals, cell_of }
    }

    /// What was put in, in words, one cause each.
    pub fn causes(&self) -> impl Iterator<Item = String> {
        self.causes.iter().map(|cause| {
            let name = |p: &Predicate| {
                let attribute = &self.cells.attributes[p.attribute];
                format!("{} = {}", attribute.name, attribute.values[usize::from(p.code)])
            };
            format!("{}: {:.1} x", cause.all_of.iter().map(name).collect::<Vec<_>>().join(" and "), cause.lift)
        })
    }

    /// The terminal with the most failures where all of `set` hold.
    pub fn worst_terminal(&self, set: &[Predicate]) -> Option<Part> {
        let holds = |terminal: &Terminal| set.iter().all(|p| terminal.values[p.attribute] == p.code);
        let (index, worst) =
            self.terminals.iter().enumerate().rev().filter(|(_, terminal)| holds(terminal)).max_by_key(|(_, t)| t.k)?;
        let part = (self.cell_of[index], f64::from(worst.n), f64::from(worst.k));
        Some(Part { terminal_id: i64::try_from(index).ok()?, cells: vec![part] })
    }
}

/// The terminals with their values, rates and exposures; and, for the null, with their history.
fn population(form: &Form, width: usize, draws: &mut Draws) -> Vec<Terminal> {
    let regions = dirichlet(draws, 12, 2.0);
    let models = dirichlet(draws, 8, 2.0);
    let firmwares: Vec<[u16; 3]> = (0..8).map(|_| three_of_fourteen(draws)).collect();
    let operators: Vec<Vec<f64>> = (0..12).map(|_| dirichlet(draws, 5, 1.5)).collect();
    let nets: Vec<Vec<f64>> = (0..8).map(|_| dirichlet(draws, 4, 1.5)).collect();
    let apps = dirichlet(draws, 6, 1.0);
    let acquirers = dirichlet(draws, 6, 2.0);
    let effects: Vec<Vec<f64>> = ATTRIBUTES
        .iter()
        .take(width)
        .map(|(_, values)| (0..*values).map(|_| draws.normal(0.0, EFFECT_DEVIATION).exp()).collect())
        .collect();
    let frailty = if form.heavy { 1.5 } else { 0.3 };
    (0..form.terminals())
        .map(|_| {
            let region = draws.weighted(&regions);
            let model = draws.weighted(&models);
            let firmware = usize::from(firmwares[model][draws.weighted(&[0.6, 0.3, 0.1])]);
            let operator = draws.weighted(&operators[region]);
            let net = draws.weighted(&nets[model]);
            let signals = if net == 3 { [0.3, 0.3, 0.2, 0.1, 0.1] } else { [0.08, 0.12, 0.2, 0.3, 0.3] };
            let mut values = vec![region, model, firmware, operator, net, draws.weighted(&signals)];
            if width > values.len() {
                let agent = 4 * region + draws.whole(0, 3) as usize;
                let config = 3 * model + draws.weighted(&[0.7, 0.2, 0.1]);
                let (app, window) = (draws.weighted(&apps), draws.weighted(&[0.05, 0.15, 0.8]));
                let sim = operator + 5 * draws.whole(0, 1) as usize;
                values.extend([agent, config, app, window, sim, draws.weighted(&acquirers)]);
            }
            let rate = base_rate(&values, &effects) * gamma(draws, 1.0 / frailty, frailty);
            Terminal {
                values: values.into_iter().filter_map(|value| u16::try_from(value).ok()).collect(),
                rate,
                n: draws.poisson(form.exposures()),
                n0: draws.poisson(form.exposures() * HISTORY_FACTOR),
                ..Terminal::default()
            }
        })
        .collect()
}

fn three_of_fourteen(draws: &mut Draws) -> [u16; 3] {
    let mut all: Vec<u16> = (0..14).collect();
    [13, 12, 11].map(|last| all.swap_remove(draws.whole(0, last) as usize))
}

/// What always fails more: 2G and 3G, bad signal, and every value by a little.
fn base_rate(values: &[usize], effects: &[Vec<f64>]) -> f64 {
    let net = [0.0, 0.0, 0.4, 0.6][values[NET]];
    let signal = [0.5, 0.2, 0.0, 0.0, 0.0][values[SIGNAL]];
    let own: f64 = values.iter().zip(effects).map(|(value, effects)| effects[*value]).product();
    RATE * f64::exp(net + signal) * own
}

/// No cause: window and history are one sample, divided by chance.
fn split_history(form: &Form, terminals: &mut [Terminal], draws: &mut Draws) {
    for terminal in terminals {
        terminal.k0 = binomial(draws, terminal.n0, terminal.rate.min(RATE_MAX));
        terminal.n = binomial(draws, terminal.n0, 1.0 / 6.0);
        terminal.k = hypergeometric(draws, terminal.n0, terminal.k0, terminal.n);
        terminal.n0 -= terminal.n;
        terminal.k0 -= terminal.k;
        if form.rise > 0 {
            terminal.k = binomial(draws, terminal.n, (terminal.rate * form.rise()).min(RATE_MAX));
        }
    }
}

fn count(form: &Form, terminals: &mut [Terminal], causes: &[Cause], draws: &mut Draws) {
    for terminal in terminals {
        let lifts = causes.iter().filter(|cause| holds(&cause.all_of, terminal)).map(|cause| cause.lift);
        let lift = form.rise() * lifts.product::<f64>();
        terminal.k = binomial(draws, terminal.n, (terminal.rate * lift).min(RATE_MAX));
        terminal.k0 = binomial(draws, terminal.n0, terminal.rate.min(RATE_MAX));
    }
}

fn holds(all_of: &[Predicate], terminal: &Terminal) -> bool {
    all_of.iter().all(|predicate| terminal.values[predicate.attribute] == predicate.code)
}

/// One to three causes, each worth finding and possible to tell apart.
fn draw_causes(form: &Form, terminals: &[Terminal], width: usize, draws: &mut Draws) -> Vec<Cause> {
    let wanted = 1 + draws.weighted(&[0.6, 0.3, 0.1]);
    let mut causes: Vec<Cause> = Vec::new();
    let mut sets: Vec<Vec<usize>> = Vec::new();
    for _ in 0..TRIES_MAX {
        if causes.len() == wanted {
            break;
        }
        let order = 1 + draws.weighted(&[0.35, 0.45, 0.2]);
        let like = &terminals[draws.whole(0, form.terminals() - 1) as usize];
        let mut attributes: Vec<usize> = (0..width).collect();
        let mut all_of: Vec<Predicate> = (0..order)
            .map(|_| {
                let last = u32::try_from(attributes.len() - 1).unwrap_or(0);
                let attribute = attributes.swap_remove(draws.whole(0, last) as usize);
                Predicate { attribute, code: like.values[attribute] }
            })
            .collect();
        all_of.sort_unstable();
        let cause = Cause { all_of, lift: draws.between(2.5, 8.0) };
        let set = members(terminals, &cause.all_of);
        if is_accepted(terminals, &cause, &set, &sets) {
            causes.push(cause);
            sets.push(set);
        }
    }
    causes
}

fn members(terminals: &[Terminal], all_of: &[Predicate]) -> Vec<usize> {
    terminals.iter().enumerate().filter(|(_, terminal)| holds(all_of, terminal)).map(|(index, _)| index).collect()
}

fn is_accepted(terminals: &[Terminal], cause: &Cause, set: &[usize], earlier: &[Vec<usize>]) -> bool {
    let size = |set: &[usize]| set.len() as f64;
    let failures: f64 = set.iter().map(|&index| f64::from(terminals[index].n) * terminals[index].rate).sum();
    let grows = (0..cause.all_of.len()).all(|dropped| {
        let mut others = cause.all_of.clone();
        others.remove(dropped);
        size(&members(terminals, &others)) > GROWTH_MIN * size(set)
    });
    let is_apart = earlier.iter().all(|other| {
        let both = set.iter().filter(|index| other.binary_search(index).is_ok()).count();
        (both as f64) < OVERLAP_MAX * size(set).min(size(other))
    });
    failures * (cause.lift - 1.0) >= EXCESS_MIN && size(set) < SHARE_MAX * size_of(terminals) && grows && is_apart
}

fn size_of(terminals: &[Terminal]) -> f64 {
    terminals.len() as f64
}

/// The cells, and the cell of each terminal.
fn collapse(terminals: &[Terminal], width: usize) -> (Cells, Vec<usize>) {
    let mut cells = Cells { codes: vec![Vec::new(); width], ..Cells::default() };
    cells.attributes =
        ATTRIBUTES.iter().take(width).enumerate().map(|(at, (name, count))| attribute(at, name, *count)).collect();
    let mut known: HashMap<&[u16], usize> = HashMap::new();
    let mut cell_of = Vec::with_capacity(terminals.len());
    for terminal in terminals {
        let next = known.len();
        let cell = *known.entry(&terminal.values).or_insert(next);
        if cell == next {
            for (codes, value) in cells.codes.iter_mut().zip(&terminal.values) {
                codes.push(*value);
            }
            for sums in [&mut cells.n, &mut cells.k, &mut cells.n0, &mut cells.k0] {
                sums.push(0.0);
            }
        }
        cells.n[cell] += f64::from(terminal.n);
        cells.k[cell] += f64::from(terminal.k);
        cells.n0[cell] += f64::from(terminal.n0);
        cells.k0[cell] += f64::from(terminal.k0);
        cell_of.push(cell);
    }
    (cells, cell_of)
}

fn attribute(at: usize, name: &str, count: usize) -> Attribute {
    let value = |code: usize| match at {
        NET => NETS[code].to_owned(),
        REGION | MODEL | OPERATOR => format!("{}{}", &name[..1], code + 1),
        _ => format!("{name} {}", code + 1),
    };
    Attribute { name: name.to_owned(), values: (0..count).map(value).collect() }
}
