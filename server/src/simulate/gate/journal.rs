//! What a server would have written down about a run: every failure with its fate, and who was at risk just before it.

use std::collections::VecDeque;

use super::scenario::{ACCESSES, MODELS};
use super::world::{MINUTE_MS, TERMINALS, WINDOW_MIN, World};
use crate::rollouts::gate::{Arm, AtRisk, Class, Event, Fate, RawFailure, ScopeAtRisk, Screen, Windows};

/// Scopes: every model, then every access.
pub const SCOPES: usize = MODELS.len() + ACCESSES.len();
const STRATA: usize = MODELS.len() * ACCESSES.len();

/// One failure that left a trace.
#[derive(Debug)]
pub struct Entry {
    /// When it happened.
    pub at_ms: i64,
    /// Whose.
    pub terminal: usize,
    /// On which side it was.
    pub arm: Arm,
    /// The evidence; `None` when its site had failed just before.
    pub event: Option<Event>,
    /// Terminals updated by then.
    pub started: u64,
}

/// The journal of a run, in order of time: failures of terminals that were at risk.
pub fn journal(world: &World) -> Vec<Entry> {
    let mut screen = Screen::new(Windows::default());
    let mut risk = RiskSet::new(world);
    let mut entries = Vec::new();
    for failure in &world.failures {
        let terminal = &world.terminals[failure.terminal];
        let updated_at_ms = terminal.update.map(|(at_ms, _)| at_ms).filter(|at_ms| *at_ms <= failure.at_ms);
        risk.advance(world, failure.at_ms);
        let fate = screen.admit(&RawFailure {
            at_ms: failure.at_ms,
            class: Class::Hard,
            terminal_id: failure.terminal as i64,
            site_id: Some(terminal.site as i64),
            updated_at_ms,
        });
        if !fate.leaves_risk_set() {
            continue;
        }
        let arm = if updated_at_ms.is_some() { Arm::Treated } else { Arm::Control };
        let event = (fate == Fate::Counted).then(|| risk.event(world, failure.terminal, arm));
        risk.fail(world, failure.terminal, failure.at_ms);
        entries.push(Entry {
            at_ms: failure.at_ms,
            terminal: failure.terminal,
            arm,
            event,
            started: risk.updated as u64,
        });
    }
    entries
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Control,
    /// A control that failed, for the window.
    Out,
    Treated,
    /// Updated, and failed or past its window.
    Left,
}

/// Who is at risk, by stratum, at a moving moment.
struct RiskSet {
    standing: Vec<Standing>,
    counts: [AtRisk; STRATA],
    /// How many of the updates have happened, and of how many the window has passed.
    updated: usize,
    watched: usize,
    /// Controls that come back.
    returning: VecDeque<(i64, usize)>,
}

impl RiskSet {
    fn new(world: &World) -> Self {
        let mut counts = [AtRisk::default(); STRATA];
        (0..TERMINALS).for_each(|terminal| counts[stratum(world, terminal)].control += 1);
        let standing = vec![Standing::Control; TERMINALS];
        Self { standing, counts, updated: 0, watched: 0, returning: VecDeque::new() }
    }

    fn advance(&mut self, world: &World, now_ms: i64) {
        let window_ms = WINDOW_MIN * MINUTE_MS;
        let updated_at_ms =
            |position: usize| world.updates.get(position).and_then(|terminal| world.terminals[*terminal].update);
        while self.returning.front().is_some_and(|(at_ms, _)| *at_ms <= now_ms) {
            if let Some((_, terminal)) = self.returning.pop_front()
                && self.standing[terminal] == Standing::Out
            {
                self.stand(world, terminal, Standing::Control);
            }
        }
        while updated_at_ms(self.updated).is_some_and(|(at_ms, _)| at_ms <= now_ms) {
            self.stand(world, world.updates[self.updated], Standing::Treated);
            self.updated += 1;
        }
        while self.watched < self.updated
            && updated_at_ms(self.watched).is_some_and(|(at_ms, _)| at_ms + window_ms < now_ms)
        {
            self.stand(world, world.updates[self.watched], Standing::Left);
            self.watched += 1;
        }
    }

    fn stand(&mut self, world: &World, terminal: usize, standing: Standing) {
        let counts = &mut self.counts[stratum(world, terminal)];
        match self.standing[terminal] {
            Standing::Control => counts.control -= 1,
            Standing::Treated => counts.treated -= 1,
            Standing::Out | Standing::Left => {}
        }
        match standing {
            Standing::Control => counts.control += 1,
            Standing::Treated => counts.treated += 1,
            Standing::Out | Standing::Left => {}
        }
        self.standing[terminal] = standing;
    }

    fn fail(&mut self, world: &World, terminal: usize, at_ms: i64) {
        if self.standing[terminal] == Standing::Treated {
            self.stand(world, terminal, Standing::Left);
        } else {
            self.stand(world, terminal, Standing::Out);
            self.returning.push_back((at_ms + WINDOW_MIN * MINUTE_MS, terminal));
        }
    }

    fn event(&self, world: &World, terminal: usize, arm: Arm) -> Event {
        let place = world.terminals[terminal].place;
        let stratum = stratum(world, terminal);
        let at_risk = self.counts[stratum];
        // Strata are combinations of scopes, so the whole stratum is in both.
        let scope = |scope: usize| ScopeAtRisk { scope: scope as u16, is_in: true, at_risk };
        let scopes = vec![scope(place.model), scope(MODELS.len() + place.access)];
        Event { class: Class::Hard, arm, stratum: stratum as u16, at_risk, scopes, outside: None }
    }
}

fn stratum(world: &World, terminal: usize) -> usize {
    let place = world.terminals[terminal].place;
    place.model * ACCESSES.len() + place.access
}
