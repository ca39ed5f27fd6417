//! Who is in a rollout, cell by cell, and who of them could have been the next to fail at a moment.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::db::{self, Conn};
use crate::rollouts::filter::Attributes;
use crate::rollouts::gate::{self, Arm, AtRisk, Class, Fold};
use crate::rollouts::store::gate::{self as store, Cell, Counts, Stop};
use crate::rollouts::store::ledger::MINUTE_MS;
use crate::rollouts::store::minutes::{self, Loss};

/// Pieces into which a window is cut: what happened within one of them is taken together.
const PIECES: i64 = 60;

/// Who is in a rollout, and what was counted of them.
pub(super) struct Fleet {
    cells: BTreeMap<i64, Cell>,
    counts: Vec<Counts>,
    /// Not yet offered, by cell.
    waiting: BTreeMap<i64, i64>,
    /// Cells of each stratum; those in none of the common strata share the last.
    strata: BTreeMap<u16, Vec<i64>>,
    /// Parts that are watched on their own, as `attribute=value`, with the cells that belong to them.
    scopes: Vec<(String, Vec<i64>)>,
    stops: Vec<Stop>,
    /// Whether the evidence so far judges what is outside the stopped parts by itself.
    is_aside: bool,
}

impl Fleet {
    /// Reads it. The scopes that the evidence so far speaks of are watched for good.
    pub(super) fn load(conn: &mut Conn, rollout_id: i64, so_far: &Fold) -> Result<Self, db::Error> {
        let cells: BTreeMap<i64, Cell> =
            store::cells(conn, rollout_id)?.into_iter().map(|cell| (cell.cell, cell)).collect();
        let counts = store::counts(conn, rollout_id)?;
        let stops = store::stops(conn, rollout_id)?;
        let (mut populations, mut waiting) = (BTreeMap::<i64, u64>::new(), BTreeMap::<i64, i64>::new());
        for count in &counts {
            *waiting.entry(count.cell).or_default() += count.waiting;
            let n = u64::try_from(count.waiting.saturating_add(count.started)).unwrap_or(0);
            *populations.entry(count.cell).or_default() += n;
        }
        let strata = strata(&cells, &populations);
        let scopes = scopes(&cells, &populations, so_far.scopes());
        Ok(Self { cells, counts, waiting, strata, scopes, stops, is_aside: so_far.is_aside() })
    }

    pub(super) fn cells(&self) -> impl Iterator<Item = &Cell> {
        self.cells.values()
    }

    pub(super) fn counts(&self) -> impl Iterator<Item = &Counts> {
        self.counts.iter()
    }

    pub(super) fn scope_names(&self) -> Vec<String> {
        self.scopes.iter().map(|(name, _)| name.clone()).collect()
    }

    /// How many parts were stopped alone.
    pub(super) fn stops(&self) -> u64 {
        u64::try_from(self.stops.len()).unwrap_or(u64::MAX)
    }

    /// Whether a scope was stopped alone.
    pub(super) fn is_stopped(&self, name: &str) -> bool {
        self.stops.iter().any(|stop| is_named(name, &stop.attribute, &stop.value))
    }

    /// Whether a cell belongs to a part that was stopped.
    pub(super) fn is_cell_stopped(&self, cell: i64) -> bool {
        self.cells.get(&cell).is_some_and(|cell| self.stops.iter().any(|stop| stop.stops(&cell.attributes)))
    }

    /// How many parts were stopped, where what is outside of them is judged by itself. Of one scope the evidence of the
    /// rest is kept from the beginning on; of several, or of a part that is no scope, it is not.
    pub(super) fn aside(&self) -> Option<u16> {
        let is_scope = |stop: &Stop| self.scopes.iter().any(|(name, _)| is_named(name, &stop.attribute, &stop.value));
        match self.stops.as_slice() {
            [] => None,
            [one] if is_scope(one) && !self.is_aside => None,
            several => Some(u16::try_from(several.len()).unwrap_or(u16::MAX)),
        }
    }

    /// Terminals at risk in the failing one's stratum just before `at_ms`, as a whole and by scope.
    pub(super) fn risks(&self, moved: &Moved, failing: Failing) -> Risks {
        let alone = [failing.cell];
        let found = self.strata.iter().find(|(_, cells)| cells.contains(&failing.cell));
        let (stratum, cells) = found.map_or((u16::MAX, &alone[..]), |(stratum, cells)| (*stratum, cells.as_slice()));
        let at_risk: BTreeMap<i64, AtRisk> =
            cells.iter().map(|cell| (*cell, self.at_risk(moved, *cell, failing))).collect();
        let sum = |of: &mut dyn Iterator<Item = &AtRisk>| {
            of.fold((0, 0), |sum: (u64, u64), one| (sum.0 + one.treated, sum.1 + one.control))
        };
        let mut scopes = BTreeMap::new();
        for (name, within) in &self.scopes {
            let mut inside = within.iter().filter_map(|cell| at_risk.get(cell)).peekable();
            if inside.peek().is_some() {
                let (treated, control) = sum(&mut inside);
                scopes.insert(name.clone(), (treated, control, within.contains(&failing.cell)));
            }
        }
        let outside = self.aside().map(|stops| {
            let (treated, control) =
                sum(&mut at_risk.iter().filter(|(cell, _)| !self.is_cell_stopped(**cell)).map(|(_, one)| one));
            (stops, !self.is_cell_stopped(failing.cell), treated, control)
        });
        let watched = u16::try_from(self.scopes.len()).unwrap_or(u16::MAX);
        Risks { stratum, all: sum(&mut at_risk.values()), scopes, watched, outside }
    }

    /// Terminals of one cell that could fail next.
    fn at_risk(&self, moved: &Moved, cell: i64, failing: Failing) -> AtRisk {
        let Failing { class, arm, at_ms, .. } = failing;
        let waiting = self.waiting.get(&cell).copied().unwrap_or(0);
        let controls = self.cells.get(&cell).map_or(0, |cell| cell.controls).min(waiting);
        let number = |n: i64| u64::try_from(n).unwrap_or(0);
        let mut at_risk = AtRisk {
            treated: number(moved.commits(cell, at_ms).saturating_sub(moved.losses(cell, Arm::Treated, class, at_ms))),
            control: number(controls.saturating_sub(moved.losses(cell, Arm::Control, class, at_ms))),
        };
        if cell == failing.cell {
            // The one that failed was at risk, whatever the counters say a moment later.
            match arm {
                Arm::Treated => at_risk.treated = at_risk.treated.max(1),
                Arm::Control => at_risk.control = at_risk.control.max(1),
            }
        }
        at_risk
    }
}

fn is_named(name: &str, attribute: &str, value: &str) -> bool {
    name.split_once('=') == Some((attribute, value))
}

/// Cells by stratum: model and access, the rare ones together.
fn strata(cells: &BTreeMap<i64, Cell>, populations: &BTreeMap<i64, u64>) -> BTreeMap<u16, Vec<i64>> {
    let mut sizes: BTreeMap<(String, String), AtRisk> = BTreeMap::new();
    for cell in cells.values() {
        let n = populations.get(&cell.cell).copied().unwrap_or(0);
        let size = sizes.entry((cell.attributes.model.clone(), cell.attributes.access.clone())).or_default();
        *size = AtRisk { treated: size.treated + n, control: size.control + n };
    }
    let kept = gate::kept_strata(&sizes);
    let number = |at: usize| u16::try_from(at).unwrap_or(u16::MAX);
    let mut strata: BTreeMap<u16, Vec<i64>> = BTreeMap::new();
    for Cell { cell, attributes, .. } in cells.values() {
        let at = kept.iter().position(|(m, a)| *m == attributes.model && *a == attributes.access);
        strata.entry(number(at.unwrap_or(kept.len()))).or_default().push(*cell);
    }
    strata
}

/// The parts of the fleet that are watched on their own: those known already, then the values of every attribute that has
/// more than one, the weightiest attributes and the most frequent values first, while there is room.
fn scopes(cells: &BTreeMap<i64, Cell>, populations: &BTreeMap<i64, u64>, known: &[String]) -> Vec<(String, Vec<i64>)> {
    let mut names: Vec<String> = known.to_vec();
    for attribute in Attributes::NAMES {
        let mut values: BTreeMap<&str, u64> = BTreeMap::new();
        for cell in cells.values() {
            let Some(value) = cell.attributes.value(attribute) else { continue };
            *values.entry(value).or_default() += populations.get(&cell.cell).copied().unwrap_or(0);
        }
        if values.len() < 2 {
            continue;
        }
        let mut values: Vec<(&str, u64)> = values.into_iter().collect();
        values.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        let new = values.into_iter().map(|(value, _)| format!("{attribute}={value}"));
        names.extend(new.filter(|name| !known.contains(name)));
    }
    names.truncate(gate::SCOPES_MAX.max(known.len()));
    let within = |name: &str| {
        let is_in = |cell: &&Cell| {
            let of = name.split_once('=');
            of.is_some_and(|(attribute, value)| cell.attributes.value(attribute) == Some(value))
        };
        cells.values().filter(is_in).map(|cell| cell.cell).collect()
    };
    names.into_iter().map(|name| (within(&name), name)).map(|(cells, name)| (name, cells)).collect()
}

/// The failure that is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failing {
    pub cell: i64,
    pub arm: Arm,
    pub class: Class,
    pub at_ms: i64,
}

/// What moved terminals into the risk set and out of it, of the time that a judgement needs.
pub(super) struct Moved {
    windows: gate::Windows,
    /// Commits by cell and piece of time.
    commits: BTreeMap<i64, BTreeMap<i64, i64>>,
    losses: HashMap<(i64, Arm, Class), BTreeMap<i64, i64>>,
}

impl Moved {
    /// Reads what failures since `since_ms` need.
    pub(super) fn load(
        conn: &mut Conn,
        rollout_id: i64,
        windows: gate::Windows,
        since_ms: i64,
    ) -> Result<Self, db::Error> {
        let longest_ms = windows.payment_ms.max(windows.hard_ms);
        let since_ms = since_ms.saturating_sub(longest_ms).saturating_sub(MINUTE_MS);
        let mut moved = Self { windows, commits: BTreeMap::new(), losses: HashMap::new() };
        for (minute_ms, cell, n) in minutes::commits(conn, rollout_id, since_ms)? {
            let piece_ms = moved.piece_ms(longest_ms, minute_ms);
            *moved.commits.entry(cell).or_default().entry(piece_ms).or_default() += n;
        }
        for loss in minutes::losses(conn, rollout_id, since_ms)? {
            let (Some(arm), Some(class)) = (arm(&loss.arm), class(&loss.class)) else { continue };
            moved.lose(loss.cell, arm, class, loss.minute_ms, loss.n);
        }
        Ok(moved)
    }

    /// Notes that so many left the risk set.
    pub(super) fn lose(&mut self, cell: i64, arm: Arm, class: Class, at_ms: i64, n: i64) {
        let piece_ms = self.piece_ms(self.windows.of(class), at_ms);
        *self.losses.entry((cell, arm, class)).or_default().entry(piece_ms).or_default() += n;
    }

    /// The piece of a window of this length in which a moment lies.
    fn piece_ms(&self, window_ms: i64, at_ms: i64) -> i64 {
        let length_ms = (window_ms / PIECES).max(MINUTE_MS);
        at_ms.div_euclid(length_ms) * length_ms
    }

    fn within(&self, pieces: Option<&BTreeMap<i64, i64>>, window_ms: i64, at_ms: i64) -> i64 {
        let length_ms = (window_ms / PIECES).max(MINUTE_MS);
        // A piece is in as long as its end is.
        let from = at_ms.saturating_sub(window_ms).saturating_sub(length_ms).saturating_add(2);
        pieces.map_or(0, |pieces| pieces.range(from.min(at_ms)..=at_ms).map(|(_, n)| n).sum())
    }

    /// Terminals of a cell that committed within the window before `at_ms`.
    fn commits(&self, cell: i64, at_ms: i64) -> i64 {
        let window_ms = self.windows.payment_ms.max(self.windows.hard_ms);
        self.within(self.commits.get(&cell), window_ms, at_ms)
    }

    fn losses(&self, cell: i64, arm: Arm, class: Class, at_ms: i64) -> i64 {
        self.within(self.losses.get(&(cell, arm, class)), self.windows.of(class), at_ms)
    }
}

/// The arm of this name.
pub(super) fn arm(name: &str) -> Option<Arm> {
    [Arm::Treated, Arm::Control].into_iter().find(|arm| arm.as_str() == name)
}

/// The class of this name.
pub(super) fn class(name: &str) -> Option<Class> {
    gate::CLASSES.iter().copied().find(|class| class.as_str() == name)
}

/// A loss as it is kept.
pub(super) fn loss(cell: i64, arm: Arm, class: Class, at_ms: i64) -> Loss {
    let minute_ms = at_ms.div_euclid(MINUTE_MS) * MINUTE_MS;
    Loss { minute_ms, cell, arm: arm.as_str().to_owned(), class: class.as_str().to_owned(), n: 1 }
}

/// Who was at risk, as a journal line keeps it: treated and control, then whether the failing one is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::rollouts) struct Risks {
    pub(super) stratum: u16,
    pub(super) all: (u64, u64),
    pub(super) scopes: BTreeMap<String, (u64, u64, bool)>,
    /// How many scopes were watched then.
    #[serde(default)]
    pub(super) watched: u16,
    /// How many parts had been stopped, whether the failing one is outside of them, and who else is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) outside: Option<(u16, bool, u64, u64)>,
}

impl Risks {
    /// The same failure with nobody to compare it with.
    pub(super) fn of_nobody(self) -> Self {
        let scopes = self.scopes.into_iter().map(|(name, (.., is_in))| (name, (0, 0, is_in))).collect();
        let outside = self.outside.map(|(stops, is_in, ..)| (stops, is_in, 0, 0));
        Self { all: (0, 0), scopes, outside, ..self }
    }
}
