//! Judges a file of past events as the gate would have judged it at the time.
//!
//! Within one instant terminals first enter, then fail, in an order that favours neither arm, then leave: who leaves at
//! the same moment was at risk just before.

use std::collections::{BTreeMap, HashSet};

use super::plan::{Plan, Reading};
use super::record::{Record, Row};
use super::risk::{Open, RiskSet};
use super::words::Outcome;
use crate::rollouts::gate::{
    Arm, Class, Earlier, Evidence, Fate, Judgement, Outcomes, RawFailure, Screen, Settings, Soak, Verdict, Windows,
    judge,
};

/// What came out.
#[derive(Debug)]
pub struct Replay {
    /// The first judgement, each that differs from the one before it, and the last.
    pub verdicts: Vec<Moment>,
    /// When the gate failed the rollout.
    pub stopped: Option<Moment>,
    /// Updated terminals that had failed by then; all that failed when it was not stopped.
    pub failing_before_stop: u64,
    /// Failures that were no evidence, by reason.
    pub suppressed: BTreeMap<&'static str, u64>,
    /// Failures that were.
    pub counted: u64,
    /// Outcomes of the update.
    pub outcomes: Outcomes,
    /// Updated terminals that failed, in their work or their update.
    pub failing: u64,
}

/// A judgement, and when.
#[derive(Debug, Clone)]
pub struct Moment {
    /// Time of the row, ms.
    pub t_ms: i64,
    /// Its line.
    pub line: u64,
    /// The judgement.
    pub judgement: Judgement,
}

/// Judges a file. Without controls there is nobody to compare with, and every failure is held against the budget.
pub fn replay(record: &Record, plan: &Plan, settings: &Settings, windows: Windows) -> Replay {
    let mut run = Run::new(record, plan, settings, windows);
    for instant in steps(record, plan).chunk_by(|a, b| a.t_ms == b.t_ms) {
        let was_watched = run.risk.watched() > 0;
        run.risk.advance(instant[0].t_ms);
        instant.iter().for_each(|step| run.take(step));
        let is_first = run.replay.verdicts.is_empty();
        if is_first || was_watched != (run.risk.watched() > 0) {
            run.judge();
        }
    }
    run.finish()
}

/// What a row does, in the order in which things happen at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Enter,
    Fail,
    Leave,
    /// The end of the time in which a trial is compared.
    Close,
    /// A watch that begins where an earlier one of the same terminal ended.
    EnterAgain,
}

#[derive(Debug, Clone, Copy)]
struct Step {
    t_ms: i64,
    kind: Kind,
    /// Position of the row.
    row: usize,
}

/// Rows and the begins of their watches, in order.
fn steps(record: &Record, plan: &Plan) -> Vec<Step> {
    let first_ms = record.rows.first().map_or(0, |row| row.t_ms);
    let started: HashSet<usize> =
        record.rows.iter().filter(|row| row.outcome == Outcome::Start).map(|row| row.terminal).collect();
    let mut entered: HashSet<usize> = HashSet::new();
    let mut steps = Vec::with_capacity(record.rows.len() * 2);
    for (number, (row, watch)) in record.rows.iter().zip(&plan.watches).enumerate() {
        let begin = match watch {
            Some(watch) if watch.is_again => Some((watch.from_ms, Kind::EnterAgain)),
            Some(watch) => Some((watch.from_ms, Kind::Enter)),
            // Among starts, a terminal without any was at risk all the time.
            None => {
                (!started.contains(&row.terminal) && entered.insert(row.terminal)).then_some((first_ms, Kind::Enter))
            }
        };
        steps.extend(begin.map(|(t_ms, kind)| Step { t_ms, kind, row: number }));
        let kind = match row.outcome {
            Outcome::Start => Kind::Enter,
            Outcome::Health(_) | Outcome::Update => Kind::Fail,
            Outcome::Good | Outcome::End => Kind::Leave,
        };
        steps.push(Step { t_ms: row.t_ms, kind, row: number });
        if let Some(watch) = watch.filter(|_| plan.reading == Reading::Trials) {
            steps.push(Step { t_ms: watch.until_ms, kind: Kind::Close, row: number });
        }
    }
    steps.sort_by_key(|step| {
        let tie = if step.kind == Kind::Fail { record.rows[step.row].tie } else { 0 };
        (step.t_ms, step.kind, tie)
    });
    steps
}

struct Run<'a> {
    record: &'a Record,
    plan: &'a Plan,
    settings: &'a Settings,
    windows: Windows,
    screen: Screen,
    risk: RiskSet<'a>,
    evidence: Evidence,
    /// Updated terminals: whether their update is known to have worked or failed.
    updates: Vec<Option<Update>>,
    failing: HashSet<usize>,
    outcomes: Outcomes,
    earlier: Earlier,
    last: Option<Row>,
    has_controls: bool,
    replay: Replay,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Update {
    Pending,
    Worked,
    Failed,
}

impl<'a> Run<'a> {
    fn new(record: &'a Record, plan: &'a Plan, settings: &'a Settings, windows: Windows) -> Self {
        // A trial is compared for itself, also when its terminal has others at the same time.
        let units = if plan.reading == Reading::Trials { record.rows.len() } else { record.terminals };
        Self {
            record,
            plan,
            settings,
            windows,
            screen: Screen::new(windows),
            risk: RiskSet::new(units, plan, settings.classes, windows.hard_ms),
            evidence: Evidence::new(plan.scopes.len(), settings),
            updates: vec![None; record.terminals],
            failing: HashSet::new(),
            outcomes: Outcomes::default(),
            earlier: Earlier::default(),
            last: None,
            has_controls: record.rows.iter().any(|row| row.arm == Arm::Control),
            replay: Replay {
                verdicts: Vec::new(),
                stopped: None,
                failing_before_stop: 0,
                suppressed: BTreeMap::new(),
                counted: 0,
                outcomes: Outcomes::default(),
                failing: 0,
            },
        }
    }

    fn take(&mut self, step: &Step) {
        let row = self.record.rows[step.row];
        let unit = if self.plan.reading == Reading::Trials { step.row } else { row.terminal };
        if step.t_ms == row.t_ms {
            self.last = Some(row);
        }
        match (step.kind, row.outcome) {
            (Kind::Enter | Kind::EnterAgain, outcome) => {
                let is_told = outcome == Outcome::Start && row.arm == Arm::Treated;
                self.risk.enter(unit, Open::of(&row, is_told.then_some(row.t_ms)), step.t_ms);
                if row.arm == Arm::Treated {
                    self.started(row.terminal);
                }
            }
            (Kind::Close, _) => self.risk.leave(unit),
            (Kind::Fail | Kind::Leave, Outcome::Health(class)) => {
                self.health(&row, unit, class);
                if self.plan.reading == Reading::Watches {
                    self.risk.leave(unit);
                }
            }
            (Kind::Fail | Kind::Leave, Outcome::Update) => self.update_failed(&row, unit),
            (Kind::Fail | Kind::Leave, outcome) => {
                if outcome == Outcome::Good {
                    self.resolve(&row, Update::Worked);
                }
                if self.plan.reading != Reading::Trials {
                    self.risk.leave(unit);
                }
            }
        }
    }

    fn started(&mut self, terminal: usize) {
        if self.updates[terminal].is_none() {
            self.updates[terminal] = Some(Update::Pending);
            self.outcomes.started += 1;
            self.outcomes.pending += 1;
        }
    }

    /// Notes what became of an update; what is known is not taken back but for the worse.
    fn resolve(&mut self, row: &Row, update: Update) {
        if row.arm == Arm::Control {
            return;
        }
        self.started(row.terminal);
        let before = self.updates[row.terminal];
        if before == Some(Update::Pending) {
            self.outcomes.pending -= 1;
        }
        if update == Update::Failed && before != Some(Update::Failed) {
            self.outcomes.failed += 1;
        }
        if before != Some(Update::Failed) {
            self.updates[row.terminal] = Some(update);
        }
    }

    fn update_failed(&mut self, row: &Row, unit: usize) {
        self.resolve(row, Update::Failed);
        self.failing.insert(row.terminal);
        self.risk.leave(unit);
        self.judge();
    }

    fn health(&mut self, row: &Row, unit: usize, class: Class) {
        if !self.has_controls {
            return self.update_failed(row, unit);
        }
        // What fails in its work has been installed.
        self.resolve(row, Update::Worked);
        let open = self.risk.watch(unit).filter(|open| open.arm == row.arm);
        let Some(open) = open.filter(|_| self.risk.is_at_risk(unit, class)) else {
            let reason = self.not_at_risk(row, open);
            *self.replay.suppressed.entry(reason).or_default() += 1;
            return;
        };
        if row.arm == Arm::Treated {
            self.failing.insert(row.terminal);
        }
        let fate = self.screen.admit(&RawFailure {
            at_ms: row.t_ms,
            class,
            terminal_id: id(row.terminal),
            site_id: row.site.or(open.site).map(id),
            updated_at_ms: open.updated_at_ms,
        });
        let event = (fate == Fate::Counted).then(|| self.risk.event(unit, class)).flatten();
        if self.plan.reading != Reading::Trials {
            self.risk.fail(unit, class, row.t_ms);
        }
        match event {
            Some(event) => {
                self.evidence.add(&event);
                self.replay.counted += 1;
                self.judge();
            }
            None => *self.replay.suppressed.entry(fate.as_str()).or_default() += 1,
        }
    }

    /// Why a failure of a terminal that is not at risk is no evidence.
    fn not_at_risk(&self, row: &Row, open: Option<Open>) -> &'static str {
        match open {
            None => "not_at_risk",
            Some(Open { updated_at_ms: Some(updated_at_ms), .. })
                if row.t_ms.saturating_sub(updated_at_ms) > self.windows.hard_ms =>
            {
                Fate::OutOfWindow.as_str()
            }
            Some(_) => Fate::Repeated.as_str(),
        }
    }

    fn judge(&mut self) {
        let Some(last) = self.last else { return };
        let moment = self.moment(&last);
        let verdict = moment.judgement.verdict;
        if verdict == Verdict::Fail && self.replay.stopped.is_none() {
            self.replay.stopped = Some(moment.clone());
            self.replay.failing_before_stop = self.failing.len() as u64;
        }
        if self.replay.verdicts.last().is_none_or(|before| before.judgement.verdict != verdict) {
            self.replay.verdicts.push(moment);
        }
    }

    fn moment(&mut self, last: &Row) -> Moment {
        let watched = self.risk.watched();
        let soak = Soak { is_over: watched == 0, watched };
        let judgement = judge(&self.evidence, &self.outcomes, &soak, self.settings, &self.earlier);
        self.earlier.e_max = judgement.e_max;
        Moment { t_ms: last.t_ms, line: last.line, judgement }
    }

    fn finish(mut self) -> Replay {
        if let Some(last) = self.last {
            // The last word is always there, even where the verdict did not change.
            let moment = self.moment(&last);
            if self.replay.verdicts.last().is_some_and(|before| before.line == last.line) {
                self.replay.verdicts.pop();
            }
            self.replay.verdicts.push(moment);
        }
        self.replay.outcomes = self.outcomes;
        self.replay.failing = self.failing.len() as u64;
        if self.replay.stopped.is_none() {
            self.replay.failing_before_stop = self.replay.failing;
        }
        self.replay
    }
}

fn id(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
