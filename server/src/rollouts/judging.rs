//! From the tables to the gate and back: who was at risk when a terminal failed, what the gate says of a rollout, and the
//! evidence as it is shown.
//!
//! The gate itself is pure ([`super::gate`]). What is read here is only counted: cells, commits, journal lines.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::filter::Attributes;
use super::gate::{
    self, Arm, AtRisk, Before, Class, Earlier, Event, Fate, Judgement, Missing, Outcomes, RawFailure, ScopeAtRisk,
    Settings, Soak, Verdict, Windows,
};
use super::store::Stored;
use super::store::gate::{self as store, Cell, Counts, Line};
use super::store::ledger::MINUTE_MS;
use crate::clock::Now;
use crate::db::{self, Conn};

/// Journal lines that one judgement takes in at most; the rest follows with the next.
const LINES_MAX: i64 = 500;
/// Lines that a journal may have since a person last went on. Beyond, a rollout cannot be judged any more, and is halted.
const JOURNAL_MAX: i64 = 20_000;

/// The gate's newest judgement of a rollout, with the numbers behind it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Evidence {
    /// `pass`, `fail` or `insufficient`.
    pub verdict: String,
    /// When it was judged, Unix ms.
    pub at_ms: i64,
    /// Evidence of harm; a fail from `threshold` on.
    pub e: f64,
    /// The highest that it ever was.
    pub e_max: f64,
    /// Evidence from which a rollout fails.
    pub threshold: f64,
    /// Evidence that the update itself fails more often than its budget.
    pub e_outcome: f64,
    /// Evidence that updated terminals fail more often than those not yet updated.
    pub e_health: f64,
    /// Evidence that the outcome is no worse than tolerated; enough from 20 on.
    pub p_outcome: f64,
    /// Evidence that health is no worse than tolerated; enough from 20 on.
    pub p_health: f64,
    /// Terminals that accepted the order.
    pub started: u64,
    /// Of these, where the update failed, was rolled back, or the terminal fell silent.
    pub failed: u64,
    /// Of these, not ended yet.
    pub pending: u64,
    /// Terminals inside the time in which they are watched after the update.
    pub watched: u64,
    /// Terminals not yet updated that they are compared with.
    pub controls: u64,
    /// By class of failures.
    pub classes: Vec<ClassEvidence>,
    /// By part of the fleet, most evidence first.
    pub scopes: Vec<ScopeEvidence>,
    /// What a pass lacks.
    pub missing: Vec<String>,
    /// Failures in the journal that are no evidence, by reason.
    pub left_out: BTreeMap<String, u64>,
    /// The part that could be stopped alone, as `attribute=value`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub can_narrow_to: Option<String>,
    /// About how many more terminals it takes to clear the release, if it does no harm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_pass: Option<u64>,
    /// What a person looked at when they went on after a halt: it is no evidence any more.
    #[serde(default)]
    pub forgiven: Forgiven,
}

/// Evidence that a person answered for when they went on after a halt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Forgiven {
    /// Journal lines up to this number.
    pub lines: i64,
    /// Terminals that had ended by then.
    pub finished: u64,
    /// Of these, failed.
    pub failed: u64,
    /// When, Unix ms; 0 = never.
    pub at_ms: i64,
}

/// What one class of failures says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ClassEvidence {
    /// `hard` or `payment`.
    pub class: String,
    /// Evidence of harm.
    pub e: f64,
    /// Failures of updated terminals.
    pub treated: u64,
    /// Failures of terminals not yet updated.
    pub control: u64,
    /// How many times as often updated ones fail, estimated.
    pub ratio: Option<f64>,
}

/// What the failures of one part of the fleet say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ScopeEvidence {
    /// `model`, `access`, `carrier`, `region` or `hardware`.
    pub attribute: String,
    /// Its value.
    pub value: String,
    /// Evidence of harm.
    pub e: f64,
    /// Evidence of harm in the rest of the fleet.
    pub e_rest: f64,
    /// Failures of updated terminals.
    pub treated: u64,
    /// Failures of terminals not yet updated.
    pub control: u64,
    /// Whether it was stopped alone.
    pub is_stopped: bool,
}

/// What a judgement asks the planner to do.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Judged {
    pub verdict: Verdict,
    pub evidence: Evidence,
    /// The part to stop alone instead of everything.
    pub narrow_to: Option<(String, String)>,
    /// Whether the journal is full: later failures would be no evidence.
    pub is_full: bool,
}

/// One attribute with one value.
type Scope = (&'static str, String);

/// Who is in a rollout, cell by cell, and what was counted of them.
struct Fleet {
    cells: BTreeMap<i64, Cell>,
    /// Stratum of each cell; cells in none of the common strata share the last.
    strata: BTreeMap<i64, u16>,
    scopes: Vec<Scope>,
    counts: Vec<Counts>,
    commits: Vec<(i64, i64, i64)>,
    /// Failures that took a terminal out of the risk set: when, whose cell, which arm, which class.
    failed: Vec<(i64, i64, Arm, Class)>,
}

impl Fleet {
    fn load(conn: &mut Conn, rollout: &Stored, windows: &Windows, now: Now) -> Result<Self, db::Error> {
        let cells: BTreeMap<i64, Cell> =
            store::cells(conn, rollout.id)?.into_iter().map(|cell| (cell.cell, cell)).collect();
        let counts = store::counts(conn, rollout.id)?;
        let since = now.0.saturating_sub(windows.payment_ms.max(windows.hard_ms)).saturating_sub(MINUTE_MS);
        let commits = store::commits(conn, rollout.id, since)?;
        let mut sizes: BTreeMap<(String, String), AtRisk> = BTreeMap::new();
        let mut populations: BTreeMap<i64, u64> = BTreeMap::new();
        for count in &counts {
            let n = u64::try_from(count.waiting.saturating_add(count.started)).unwrap_or(0);
            *populations.entry(count.cell).or_default() += n;
        }
        for cell in cells.values() {
            let n = populations.get(&cell.cell).copied().unwrap_or(0);
            let key = (cell.attributes.model.clone(), cell.attributes.access.clone());
            let size = sizes.entry(key).or_default();
            *size = AtRisk { treated: size.treated + n, control: size.control + n };
        }
        let kept = gate::kept_strata(&sizes);
        let pool = u16::try_from(kept.len()).unwrap_or(u16::MAX);
        let strata = cells
            .values()
            .map(|cell| {
                let attributes = &cell.attributes;
                let at = kept.iter().position(|(m, a)| *m == attributes.model && *a == attributes.access);
                (cell.cell, at.and_then(|at| u16::try_from(at).ok()).unwrap_or(pool))
            })
            .collect();
        let scopes = scopes(&cells, &populations);
        Ok(Self { cells, strata, scopes, counts, commits, failed: Vec::new() })
    }

    fn stratum(&self, cell: i64) -> u16 {
        self.strata.get(&cell).copied().unwrap_or(u16::MAX)
    }

    fn is_in(&self, cell: i64, scope: &Scope) -> bool {
        self.cells.get(&cell).is_some_and(|cell| cell.attributes.value(scope.0) == Some(scope.1.as_str()))
    }

    /// Terminals of one cell that could fail next, just before `at_ms`.
    fn at_risk(&self, cell: i64, class: Class, window_ms: i64, at_ms: i64) -> AtRisk {
        let since = at_ms.saturating_sub(window_ms);
        let is_within = |ms: i64| ms > since && ms <= at_ms;
        let updated: i64 = self
            .commits
            .iter()
            .filter(|(minute_ms, of, _)| *of == cell && is_within(minute_ms.saturating_add(MINUTE_MS - 1).min(at_ms)))
            .map(|(.., n)| n)
            .sum();
        let gone = |arm: Arm| {
            let is_gone =
                |(ms, of, a, c): &&(i64, i64, Arm, Class)| *of == cell && *a == arm && *c == class && is_within(*ms);
            i64::try_from(self.failed.iter().filter(is_gone).count()).unwrap_or(i64::MAX)
        };
        let waiting: i64 = self.counts.iter().filter(|count| count.cell == cell).map(|count| count.waiting).sum();
        let controls = self.cells.get(&cell).map_or(0, |cell| cell.controls).min(waiting);
        let number = |n: i64| u64::try_from(n).unwrap_or(0);
        AtRisk {
            treated: number(updated.saturating_sub(gone(Arm::Treated))),
            control: number(controls.saturating_sub(gone(Arm::Control))),
        }
    }

    /// Terminals at risk in the failing one's stratum, as a whole and by scope.
    fn risks(&self, line: &Line, arm: Arm, class: Class, window_ms: i64) -> Risks {
        let stratum = self.stratum(line.cell);
        let mut risks = Risks { stratum, all: (0, 0), scopes: BTreeMap::new() };
        for &cell in self.strata.iter().filter(|(_, of)| **of == stratum).map(|(cell, _)| cell) {
            let mut at_risk = self.at_risk(cell, class, window_ms, line.at_ms);
            if cell == line.cell {
                // The one that failed was at risk, whatever the counters say a moment later.
                match arm {
                    Arm::Treated => at_risk.treated = at_risk.treated.max(1),
                    Arm::Control => at_risk.control = at_risk.control.max(1),
                }
            }
            risks.all = (risks.all.0 + at_risk.treated, risks.all.1 + at_risk.control);
            for scope in self.scopes.iter().filter(|scope| self.is_in(cell, scope)) {
                let name = format!("{}={}", scope.0, scope.1);
                let share = risks.scopes.entry(name).or_insert((0, 0, false));
                *share = (share.0 + at_risk.treated, share.1 + at_risk.control, share.2 || cell == line.cell);
            }
        }
        risks
    }
}

/// The parts of the fleet that are watched on their own: the values of every attribute that has more than one, the
/// weightiest attributes and the most frequent values first.
fn scopes(cells: &BTreeMap<i64, Cell>, populations: &BTreeMap<i64, u64>) -> Vec<Scope> {
    let mut scopes = Vec::new();
    for name in Attributes::NAMES {
        let mut values: BTreeMap<&str, u64> = BTreeMap::new();
        for cell in cells.values() {
            let Some(value) = cell.attributes.value(name) else { continue };
            *values.entry(value).or_default() += populations.get(&cell.cell).copied().unwrap_or(0);
        }
        if values.len() < 2 {
            continue;
        }
        let mut values: Vec<(&str, u64)> = values.into_iter().collect();
        values.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        scopes.extend(values.into_iter().map(|(value, _)| (name, value.to_owned())));
    }
    scopes.truncate(gate::SCOPES_MAX);
    scopes
}

/// Who was at risk, as a journal line keeps it: treated and control, then whether the failing one is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Risks {
    stratum: u16,
    all: (u64, u64),
    scopes: BTreeMap<String, (u64, u64, bool)>,
}

fn arm(line: &Line) -> Arm {
    if line.arm == Arm::Treated.as_str() { Arm::Treated } else { Arm::Control }
}

fn class(line: &Line) -> Class {
    if line.class == Class::Hard.as_str() { Class::Hard } else { Class::Payment }
}

/// The windows of a rollout: failures are watched for as long as its gate says.
pub(super) fn windows(rollout: &Stored) -> Windows {
    let watch_ms = i64::from(rollout.strategy.gate.watch_s).saturating_mul(1000);
    Windows { hard_ms: watch_ms, payment_ms: watch_ms, ..Windows::default() }
}

/// Judges a rollout, takes in what is new in its journal, and keeps the judgement.
///
/// # Errors
/// [`db::Error`]; then nothing is known, and nothing new may be offered on the strength of it.
pub(super) fn judge(conn: &mut Conn, rollout: &Stored, now: Now) -> Result<Judged, db::Error> {
    let windows = windows(rollout);
    let mut fleet = Fleet::load(conn, rollout, &windows, now)?;
    let last = store::judgement(conn, rollout.id)?.unwrap_or_default();
    let forgiven = last.forgiven;
    let journal = take_in(conn, rollout, &mut fleet, &windows, forgiven.lines)?;
    let is_full = i64::try_from(journal.len()).unwrap_or(i64::MAX) >= JOURNAL_MAX;
    let budget = f64::from(rollout.strategy.gate.outcome_budget_bp) / 10_000.0;
    let settings = Settings { outcome_budget: Some(budget), ..Settings::default() };
    let mut folded = gate::Evidence::new(fleet.scopes.len(), &settings);
    let mut left_out: BTreeMap<String, u64> = BTreeMap::new();
    for line in &journal {
        match event(&fleet, line)? {
            Some(event) => folded.add(&event),
            None => *left_out.entry(line.verdict.clone().unwrap_or_default()).or_default() += 1,
        }
    }
    let stops = store::stops(conn, rollout.id)?;
    let is_stopped =
        |cell: i64| fleet.cells.get(&cell).is_some_and(|cell| stops.iter().any(|stop| stop.stops(&cell.attributes)));
    let stopped_scope = fleet
        .scopes
        .iter()
        .position(|(attribute, value)| stops.iter().any(|s| s.attribute == *attribute && s.value == *value));
    let stops_then = last.scopes.iter().filter(|scope| scope.is_stopped).count();
    let earlier = Earlier {
        // What was found before a part was stopped was found of that part, too.
        e_max: if stops.len() > stops_then { 0.0 } else { last.e_max },
        stopped_scope: stopped_scope.and_then(|at| u16::try_from(at).ok()),
    };
    let mut sums = sums(&fleet, &windows, now, is_stopped);
    sums.outcomes.started = sums.outcomes.started.saturating_sub(forgiven.finished);
    sums.outcomes.failed = sums.outcomes.failed.saturating_sub(forgiven.failed);
    let soak = Soak { is_over: is_soaked(rollout, now), watched: sums.watched.saturating_add(sums.outcomes.pending) };
    let judgement = gate::judge(&folded, &sums.outcomes, &soak, &settings, &earlier);
    let evidence = evidence(&judgement, &sums, &fleet, &settings, left_out, |scope| {
        stops.iter().any(|stop| stop.attribute == scope.0 && stop.value == scope.1)
    });
    let narrow_to = judgement.can_narrow_to.and_then(|at| fleet.scopes.get(usize::from(at)));
    let narrow_to = narrow_to.map(|(attribute, value)| ((*attribute).to_owned(), value.clone()));
    let evidence = Evidence { at_ms: now.0, forgiven, ..evidence };
    store::keep_judgement(conn, rollout.id, rollout.stage, &evidence)?;
    Ok(Judged { verdict: judgement.verdict, evidence, narrow_to, is_full })
}

/// A person goes on after a halt: what stopped the rollout is theirs to answer for, and only what comes on top of it is
/// evidence from now on.
pub(super) fn forgive(conn: &mut Conn, rollout: &Stored, now: Now) -> Result<(), db::Error> {
    let Some(last) = store::judgement(conn, rollout.id)? else { return Ok(()) };
    let number = |n: i64| u64::try_from(n).unwrap_or(0);
    let counts = store::counts(conn, rollout.id)?;
    let lines = store::judged_up_to(conn, rollout.id)?;
    let forgiven = Forgiven {
        lines,
        finished: number(counts.iter().map(|count| count.finished).sum()),
        failed: number(counts.iter().map(|count| count.failed).sum()),
        at_ms: now.0,
    };
    let verdict = Verdict::Insufficient.as_str().to_owned();
    let evidence = Evidence { verdict, at_ms: now.0, e: 1.0, e_max: 0.0, forgiven, ..last };
    store::keep_judgement(conn, rollout.id, rollout.stage, &evidence)
}

/// Whether the running stage's soak time has passed since all of it was open.
pub(super) fn is_soaked(rollout: &Stored, now: Now) -> bool {
    let soak_ms = i64::from(rollout.strategy.soak_s).saturating_mul(1000);
    rollout.progress.stage_filled_ms.is_some_and(|filled| now.0 >= filled.saturating_add(soak_ms))
}

/// Decides about the journal's new lines and returns all decided ones after the number `after`, in the order of judging.
fn take_in(
    conn: &mut Conn,
    rollout: &Stored,
    fleet: &mut Fleet,
    windows: &Windows,
    after: i64,
) -> Result<Vec<Line>, db::Error> {
    let mut journal = store::judged(conn, rollout.id, after, JOURNAL_MAX)?;
    let mut before: HashMap<(i64, Class), i64> = HashMap::new();
    let mut at_site: HashMap<(i64, Class), i64> = HashMap::new();
    for line in &journal {
        remember(line, &mut before, &mut at_site, fleet);
    }
    let room = JOURNAL_MAX.saturating_sub(i64::try_from(journal.len()).unwrap_or(i64::MAX));
    let mut fresh = store::unjudged(conn, rollout.id, LINES_MAX.min(room))?;
    fresh.sort_by_key(|line| (line.at_ms, gate::tie_order(&line.event)));
    let next = journal.last().and_then(|line| line.judged).unwrap_or(after).saturating_add(1);
    for (number, mut line) in (next..).zip(fresh) {
        let (arm, class) = (arm(&line), class(&line));
        let failure = RawFailure {
            at_ms: line.at_ms,
            class,
            terminal_id: line.terminal_id,
            site_id: (line.site != 0).then_some(line.site),
            updated_at_ms: line.updated_at_ms,
        };
        let known = Before {
            failed_at_ms: before.get(&(line.terminal_id, class)).copied(),
            site_counted_at_ms: at_site.get(&(line.site, class)).copied(),
        };
        let fate = gate::fate(&failure, &known, windows);
        let at_risk = (fate == Fate::Counted).then(|| fleet.risks(&line, arm, class, windows.of(class)));
        line.at_risk = store::settle(conn, rollout.id, &line, number, fate, at_risk.as_ref())?;
        line.judged = Some(number);
        line.verdict = Some(fate.as_str().to_owned());
        remember(&line, &mut before, &mut at_site, fleet);
        journal.push(line);
    }
    Ok(journal)
}

/// Remembers of a decided line what decides later ones.
fn remember(
    line: &Line,
    before: &mut HashMap<(i64, Class), i64>,
    at_site: &mut HashMap<(i64, Class), i64>,
    fleet: &mut Fleet,
) {
    let class = class(line);
    let verdict = line.verdict.as_deref().unwrap_or_default();
    let is_counted = verdict == Fate::Counted.as_str();
    if is_counted || verdict == Fate::SuppressedBySite.as_str() {
        before.insert((line.terminal_id, class), line.at_ms);
        fleet.failed.push((line.at_ms, line.cell, arm(line), class));
    }
    if is_counted && line.site != 0 {
        at_site.insert((line.site, class), line.at_ms);
    }
}

/// A counted line as the gate reads it; nothing for one that is no evidence.
fn event(fleet: &Fleet, line: &Line) -> Result<Option<Event>, db::Error> {
    let Some(text) = line.at_risk.as_deref() else { return Ok(None) };
    let risks: Risks = store::read(text)?;
    let scopes = (0..)
        .zip(&fleet.scopes)
        .filter_map(|(scope, (attribute, value))| {
            let (treated, control, is_in) = *risks.scopes.get(&format!("{attribute}={value}"))?;
            Some(ScopeAtRisk { scope, is_in, at_risk: AtRisk { treated, control } })
        })
        .collect();
    Ok(Some(Event {
        class: class(line),
        arm: arm(line),
        stratum: risks.stratum,
        at_risk: AtRisk { treated: risks.all.0, control: risks.all.1 },
        scopes,
    }))
}

/// Sums over the cells that were not stopped.
struct Sums {
    outcomes: Outcomes,
    watched: u64,
    controls: u64,
}

fn sums(fleet: &Fleet, windows: &Windows, now: Now, is_stopped: impl Fn(i64) -> bool) -> Sums {
    let number = |n: i64| u64::try_from(n).unwrap_or(0);
    let mut outcomes = Outcomes::default();
    for count in fleet.counts.iter().filter(|count| !is_stopped(count.cell)) {
        outcomes.started += number(count.started);
        outcomes.failed += number(count.failed);
        outcomes.pending += number(count.started.saturating_sub(count.finished));
    }
    let since = now.0.saturating_sub(windows.hard_ms.max(windows.payment_ms));
    let is_watched = |(minute_ms, cell, _): &&(i64, i64, i64)| *minute_ms > since && !is_stopped(*cell);
    let watched = fleet.commits.iter().filter(is_watched).map(|(.., n)| number(*n)).sum();
    let controls = fleet.cells.values().filter(|cell| !is_stopped(cell.cell)).map(|cell| number(cell.controls)).sum();
    Sums { outcomes, watched, controls }
}

fn evidence(
    judgement: &Judgement,
    sums: &Sums,
    fleet: &Fleet,
    settings: &Settings,
    left_out: BTreeMap<String, u64>,
    is_stopped: impl Fn(&Scope) -> bool,
) -> Evidence {
    let name = |at: u16| fleet.scopes.get(usize::from(at)).map(|(attribute, value)| format!("{attribute}={value}"));
    let mut scopes: Vec<ScopeEvidence> = judgement
        .scopes
        .iter()
        .filter_map(|scope| {
            let of = fleet.scopes.get(usize::from(scope.scope))?;
            Some(ScopeEvidence {
                attribute: of.0.to_owned(),
                value: of.1.clone(),
                e: scope.e,
                e_rest: scope.e_rest,
                treated: scope.treated,
                control: scope.control,
                is_stopped: is_stopped(of),
            })
        })
        .collect();
    scopes.sort_by(|a, b| b.e.total_cmp(&a.e));
    Evidence {
        verdict: judgement.verdict.as_str().to_owned(),
        at_ms: 0,
        e: judgement.e,
        e_max: judgement.e_max,
        threshold: settings.fail_evidence(),
        e_outcome: judgement.e_outcome.unwrap_or(1.0),
        e_health: judgement.e_health,
        p_outcome: judgement.p_outcome.unwrap_or(1.0),
        p_health: judgement.p_health,
        started: sums.outcomes.started,
        failed: sums.outcomes.failed,
        pending: sums.outcomes.pending,
        watched: sums.watched,
        controls: sums.controls,
        classes: judgement
            .classes
            .iter()
            .map(|class| ClassEvidence {
                class: class.class.as_str().to_owned(),
                e: class.e,
                treated: class.treated,
                control: class.control,
                ratio: class.ratio,
            })
            .collect(),
        scopes,
        missing: judgement.why.iter().map(Missing::as_str).map(str::to_owned).collect(),
        left_out,
        can_narrow_to: judgement.can_narrow_to.and_then(name),
        forgiven: Forgiven::default(),
        until_pass: settings
            .outcome_budget
            .and_then(|budget| gate::terminals_until_pass(budget, settings.tolerated_ratio, settings.pass_evidence))
            .map(|n| n.saturating_sub(sums.outcomes.started)),
    }
}
