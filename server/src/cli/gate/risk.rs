//! Who is at risk, at a moving moment: the counts just before each failure.

use std::collections::VecDeque;

use super::plan::Plan;
use super::record::Row;
use crate::rollouts::gate::{Arm, AtRisk, Class, Event, ScopeAtRisk};

/// Terminals at risk, by class, stratum and scope.
#[derive(Debug)]
pub struct RiskSet<'a> {
    plan: &'a Plan,
    classes: &'static [Class],
    window_ms: i64,
    terminals: Vec<Standing>,
    /// By class and stratum: the whole stratum, then its part of each scope.
    counts: Vec<Vec<Vec<AtRisk>>>,
    /// Controls that failed and come back: when, which, and in which class.
    returning: VecDeque<(i64, usize, usize)>,
    /// Updated terminals in the order of their starts.
    expiring: VecDeque<(i64, usize)>,
}

/// One terminal.
#[derive(Debug, Clone, Default)]
struct Standing {
    watch: Option<Open>,
    /// By class.
    is_at_risk: [bool; 2],
    /// By class, the last failure that took it out, and on which side it was.
    failed: [Option<(i64, Arm)>; 2],
}

/// A watch that has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open {
    /// Its arm.
    pub arm: Arm,
    /// Its scope values.
    pub combination: usize,
    /// Its site.
    pub site: Option<usize>,
    /// When the update was committed, if that is known.
    pub updated_at_ms: Option<i64>,
}

impl<'a> RiskSet<'a> {
    /// Nobody is at risk yet. Units are terminals, or trials.
    pub fn new(units: usize, plan: &'a Plan, classes: &'static [Class], window_ms: i64) -> Self {
        let strata = plan.stratum_of.iter().max().map_or(1, |stratum| stratum + 1);
        Self {
            plan,
            classes,
            window_ms,
            terminals: vec![Standing::default(); units],
            counts: vec![vec![vec![AtRisk::default(); plan.scopes.len() + 1]; strata]; classes.len()],
            returning: VecDeque::new(),
            expiring: VecDeque::new(),
        }
    }

    /// Passes time: controls come back, windows of updated terminals end.
    pub fn advance(&mut self, now_ms: i64) {
        while self.returning.front().is_some_and(|(at_ms, ..)| *at_ms <= now_ms) {
            if let Some((_, terminal, class)) = self.returning.pop_front()
                && self.terminals[terminal].watch.is_some_and(|open| open.arm == Arm::Control)
            {
                self.set(terminal, class, true);
            }
        }
        while self.expiring.front().is_some_and(|(at_ms, _)| *at_ms < now_ms) {
            if let Some((at_ms, terminal)) = self.expiring.pop_front()
                && self.terminals[terminal].watch.and_then(|open| open.updated_at_ms) == Some(at_ms - self.window_ms)
            {
                (0..self.classes.len()).for_each(|class| self.set(terminal, class, false));
            }
        }
    }

    /// Begins a watch; one that is open ends. What has failed is not at risk at once: a control after the window, an
    /// updated terminal only after another update.
    pub fn enter(&mut self, terminal: usize, open: Open, now_ms: i64) {
        self.leave(terminal);
        self.terminals[terminal].watch = Some(open);
        for class in 0..self.classes.len() {
            let is_out = match self.terminals[terminal].failed[class] {
                Some((at_ms, Arm::Control)) => {
                    open.arm == Arm::Control && now_ms.saturating_sub(at_ms) < self.window_ms
                }
                Some((_, Arm::Treated)) => open.arm == Arm::Treated && open.updated_at_ms.is_none(),
                None => false,
            };
            self.set(terminal, class, !is_out);
        }
        if let Some(updated_at_ms) = open.updated_at_ms {
            self.expiring.push_back((updated_at_ms.saturating_add(self.window_ms), terminal));
        }
    }

    /// Ends the watch.
    pub fn leave(&mut self, terminal: usize) {
        (0..self.classes.len()).for_each(|class| self.set(terminal, class, false));
        self.terminals[terminal].watch = None;
    }

    /// The open watch of a terminal.
    pub fn watch(&self, terminal: usize) -> Option<Open> {
        self.terminals[terminal].watch
    }

    /// Whether the terminal can fail in this class now.
    pub fn is_at_risk(&self, terminal: usize, class: Class) -> bool {
        self.number(class).is_some_and(|class| self.terminals[terminal].is_at_risk[class])
    }

    /// Updated terminals that are still watched.
    pub fn watched(&self) -> u64 {
        let of_class = |strata: &Vec<Vec<AtRisk>>| strata.iter().map(|parts| parts[0].treated).sum();
        self.counts.iter().map(of_class).max().unwrap_or(0)
    }

    /// The evidence in the failure of a terminal that is at risk.
    pub fn event(&self, terminal: usize, class: Class) -> Option<Event> {
        let open = self.terminals[terminal].watch?;
        let stratum = self.plan.stratum_of[open.combination];
        let parts = &self.counts[self.number(class)?][stratum];
        let scopes = parts[1..]
            .iter()
            .enumerate()
            .filter(|(_, at_risk)| **at_risk != AtRisk::default())
            .filter_map(|(scope, at_risk)| {
                let is_in = self.plan.scopes_of[open.combination].contains(&scope);
                Some(ScopeAtRisk { scope: u16::try_from(scope).ok()?, is_in, at_risk: *at_risk })
            })
            .collect();
        Some(Event {
            class,
            arm: open.arm,
            stratum: u16::try_from(stratum).ok()?,
            at_risk: parts[0],
            scopes,
            outside: None,
        })
    }

    /// Takes a terminal that failed out of the risk set: an updated one for good, a control for the window.
    pub fn fail(&mut self, terminal: usize, class: Class, at_ms: i64) {
        let Some(number) = self.number(class) else { return };
        self.set(terminal, number, false);
        let Some(open) = self.terminals[terminal].watch else { return };
        self.terminals[terminal].failed[number] = Some((at_ms, open.arm));
        if open.arm == Arm::Control {
            self.returning.push_back((at_ms.saturating_add(self.window_ms), terminal, number));
        }
    }

    fn number(&self, class: Class) -> Option<usize> {
        self.classes.iter().position(|watched| *watched == class)
    }

    fn set(&mut self, terminal: usize, class: usize, is_at_risk: bool) {
        let standing = &mut self.terminals[terminal];
        let Some(open) = standing.watch else { return };
        if std::mem::replace(&mut standing.is_at_risk[class], is_at_risk) == is_at_risk {
            return;
        }
        let parts = &mut self.counts[class][self.plan.stratum_of[open.combination]];
        let scopes = self.plan.scopes_of[open.combination].iter().map(|scope| scope + 1);
        for part in std::iter::once(0).chain(scopes) {
            let count = match open.arm {
                Arm::Treated => &mut parts[part].treated,
                Arm::Control => &mut parts[part].control,
            };
            *count = if is_at_risk { *count + 1 } else { *count - 1 };
        }
    }
}

impl Open {
    /// The watch that a row opens or closes.
    pub fn of(row: &Row, updated_at_ms: Option<i64>) -> Self {
        Self { arm: row.arm, combination: row.combination, site: row.site, updated_at_ms }
    }
}
