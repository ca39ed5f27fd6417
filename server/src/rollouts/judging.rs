//! From the tables to the gate and back: who was at risk when a terminal failed, what the gate says of a rollout, and the
//! evidence as it is shown.
//!
//! The gate itself is pure ([`super::gate`]). What is read here is only counted: cells, commits, journal lines.

mod fleet;
mod journal;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use self::fleet::Fleet;
pub(super) use self::fleet::Risks;
use self::journal::{Journal, Left};
use super::gate::{self, Earlier, Judgement, Missing, Outcomes, Settings, Soak, Verdict, Windows};
use super::store::Stored;
use super::store::gate as store;
use super::store::journal::judged_up_to;
use super::store::minutes;
use crate::clock::Now;
use crate::db::{self, Conn};

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
    /// Evidence that health is no worse than tolerated, of the least cleared class in which anything failed; enough from
    /// 20 on.
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
    /// About how many more terminals it takes to halt the rollout, if updates go on to fail as they do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_fail: Option<u64>,
    /// What a person looked at when they went on after a halt: it is no evidence any more.
    #[serde(default)]
    pub forgiven: Forgiven,
    /// How many parts had been stopped alone.
    #[serde(default)]
    pub stops: u64,
}

/// Evidence that a person answered for when they went on after a halt.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Forgiven {
    /// Journal lines up to this number.
    pub lines: i64,
    /// Terminals that had ended by then.
    pub finished: u64,
    /// Of these, failed.
    pub failed: u64,
    /// When, Unix ms; 0 = never.
    pub at_ms: i64,
    /// The same by cell, for the next judgement: what is forgiven of a part that was stopped must not be taken off what
    /// the rest does. Nobody is told of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cells: Vec<ForgivenCell>,
}

/// What of one cell a person answered for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ForgivenCell {
    /// The cell.
    pub cell: i64,
    /// Terminals that had ended by then.
    pub finished: u64,
    /// Of these, failed.
    pub failed: u64,
}

impl Evidence {
    /// As people are told of it: without what only the next judgement needs.
    pub(super) fn told(mut self) -> Self {
        self.forgiven.cells.clear();
        self
    }
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
    /// At least so many times as often, with 95 % confidence.
    #[serde(default)]
    pub ratio_from: Option<f64>,
    /// At most; absent while it has no bound because no control failed.
    #[serde(default)]
    pub ratio_to: Option<f64>,
    /// Updated terminals at risk when something failed, on average: what `treated` is to be divided by.
    #[serde(default)]
    pub treated_at_risk: u64,
    /// Terminals not yet updated at risk then: what `control` is to be divided by.
    #[serde(default)]
    pub control_at_risk: u64,
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
    /// Whether lines are left that the next judgement takes in: until then nothing is opened on the strength of this one.
    pub is_behind: bool,
}

/// From this length of the watch on, ms (a day), commits are taken together by the hour …
const LONG_WATCH_MS: i64 = 24 * 3_600_000;
/// … when they are this old, ms: the check-ins write the present minute.
const MERGED_AFTER_MS: i64 = 3 * 3_600_000;

/// Word for a pass that lacks a part of the journal.
const BEHIND: &str = "journal";

/// The windows of a rollout: failures are watched for as long as its gate says.
pub(super) fn windows(rollout: &Stored) -> Windows {
    let watch_ms = i64::from(rollout.strategy.gate.watch_s).saturating_mul(1000);
    Windows { hard_ms: watch_ms, payment_ms: watch_ms, ..Windows::default() }
}

/// What a rollout's gate judges by.
fn settings(rollout: &Stored) -> Settings {
    let budget = f64::from(rollout.strategy.gate.outcome_budget_bp) / 10_000.0;
    Settings { outcome_budget: Some(budget), ..Settings::default() }
}

/// Judges a rollout, takes in what is new in its journal, and keeps the judgement with the evidence so far. Reads what is
/// new, counters by cell and the kept evidence: as much for an old journal as for a young one.
///
/// `None` when the evidence was kept by another version and the journal does not reach back to its beginning any more: the
/// rollout cannot be judged until a person goes on.
///
/// # Errors
/// [`db::Error`]; then nothing is known, and nothing new may be offered on the strength of it.
pub(super) fn judge(conn: &mut Conn, rollout: &Stored, now: Now) -> Result<Option<Judged>, db::Error> {
    let (windows, settings) = (windows(rollout), settings(rollout));
    let last = store::judgement(conn, rollout.id)?.unwrap_or_default();
    let forgiven = last.forgiven;
    let Some(mut journal) = Journal::open(conn, rollout.id, forgiven.lines, &settings)? else { return Ok(None) };
    let fleet = Fleet::load(conn, rollout.id, journal.fold())?;
    let is_behind = journal.read_on(conn, &fleet, &windows, now)? == Left::More;
    journal.keep(conn)?;
    minutes::clear_minutes(conn, rollout.id, journal::horizon_ms(&windows, now))?;
    if windows.hard_ms.max(windows.payment_ms) >= LONG_WATCH_MS {
        minutes::merge_commits(conn, rollout.id, now.0.saturating_sub(MERGED_AFTER_MS))?;
    }
    let (folded, scopes) = journal.fold().judged(&fleet.scope_names(), fleet.aside());
    let is_stopped = |name: &String| fleet.is_stopped(name);
    let earlier = Earlier {
        // What was found before a part was stopped was found of that part, too.
        e_max: if fleet.stops() > last.stops { 0.0 } else { last.e_max },
        stopped_scopes: (0..).zip(&scopes).filter(|(_, name)| is_stopped(name)).map(|(at, _)| at).collect(),
    };
    let sums = sums(conn, rollout, &fleet, &forgiven, &windows, now)?;
    let soak = Soak { is_over: is_soaked(rollout, now), watched: sums.watched.saturating_add(sums.outcomes.pending) };
    let mut judgement = gate::judge(&folded, &sums.outcomes, &soak, &settings, &earlier);
    let mut evidence = evidence(&judgement, &sums, &scopes, &settings, is_stopped);
    if is_behind {
        evidence.missing.push(BEHIND.to_owned());
        if judgement.verdict == Verdict::Pass {
            judgement.verdict = Verdict::Insufficient;
            evidence.verdict = judgement.verdict.as_str().to_owned();
        }
    }
    let narrow_to = judgement.can_narrow_to.and_then(|at| scopes.get(usize::from(at))?.split_once('='));
    let narrow_to = narrow_to.map(|(attribute, value)| (attribute.to_owned(), value.to_owned()));
    let left_out = journal.fold().left_out().clone();
    let evidence = Evidence { at_ms: now.0, forgiven, left_out, stops: fleet.stops(), ..evidence };
    store::keep_judgement(conn, rollout.id, rollout.stage, &evidence)?;
    Ok(Some(Judged { verdict: judgement.verdict, evidence, narrow_to, is_behind }))
}

/// A person goes on after a halt: what stopped the rollout is theirs to answer for, and only what comes on top of it is
/// evidence from now on.
pub(super) fn forgive(conn: &mut Conn, rollout: &Stored, now: Now) -> Result<(), db::Error> {
    let Some(last) = store::judgement(conn, rollout.id)? else { return Ok(()) };
    minutes::forgive_losses(conn, rollout.id)?;
    let number = |n: i64| u64::try_from(n).unwrap_or(0);
    let counts = store::counts(conn, rollout.id)?;
    let lines = judged_up_to(conn, rollout.id)?;
    let mut cells: BTreeMap<i64, ForgivenCell> = BTreeMap::new();
    for count in counts.iter().filter(|count| count.finished != 0) {
        let of = cells.entry(count.cell).or_insert(ForgivenCell { cell: count.cell, ..ForgivenCell::default() });
        of.finished += number(count.finished);
        of.failed += number(count.failed);
    }
    let cells: Vec<ForgivenCell> = cells.into_values().collect();
    let forgiven = Forgiven {
        lines,
        finished: cells.iter().map(|cell| cell.finished).sum(),
        failed: cells.iter().map(|cell| cell.failed).sum(),
        at_ms: now.0,
        cells,
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

/// Sums over the cells that were not stopped, of what nobody answered for yet.
struct Sums {
    outcomes: Outcomes,
    watched: u64,
    controls: u64,
}

fn sums(
    conn: &mut Conn,
    rollout: &Stored,
    fleet: &Fleet,
    forgiven: &Forgiven,
    windows: &Windows,
    now: Now,
) -> Result<Sums, db::Error> {
    let number = |n: i64| u64::try_from(n).unwrap_or(0);
    let mut outcomes = Outcomes::default();
    for count in fleet.counts().filter(|count| !fleet.is_cell_stopped(count.cell)) {
        outcomes.started += number(count.started);
        outcomes.failed += number(count.failed);
        outcomes.pending += number(count.started.saturating_sub(count.finished));
    }
    // Of the very cells that were summed: a stopped part's failures excuse nobody else's.
    for cell in forgiven.cells.iter().filter(|cell| !fleet.is_cell_stopped(cell.cell)) {
        outcomes.started = outcomes.started.saturating_sub(cell.finished);
        outcomes.failed = outcomes.failed.saturating_sub(cell.failed);
    }
    let since = now.0.saturating_sub(windows.hard_ms.max(windows.payment_ms));
    let watched = minutes::watched(conn, rollout.id, since)?;
    let watched = watched.into_iter().filter(|(cell, _)| !fleet.is_cell_stopped(*cell)).map(|(_, n)| number(n)).sum();
    let controls =
        fleet.cells().filter(|cell| !fleet.is_cell_stopped(cell.cell)).map(|cell| number(cell.controls)).sum();
    Ok(Sums { outcomes, watched, controls })
}

fn evidence(
    judgement: &Judgement,
    sums: &Sums,
    names: &[String],
    settings: &Settings,
    is_stopped: impl Fn(&String) -> bool,
) -> Evidence {
    let name = |at: u16| names.get(usize::from(at));
    let mut scopes: Vec<ScopeEvidence> = judgement
        .scopes
        .iter()
        .filter_map(|scope| {
            let of = name(scope.scope)?;
            let (attribute, value) = of.split_once('=')?;
            Some(ScopeEvidence {
                attribute: attribute.to_owned(),
                value: value.to_owned(),
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
                ratio_from: class.ratio_interval.map(|(from, _)| from),
                ratio_to: class.ratio_interval.map(|(_, to)| to).filter(|to| to.is_finite()),
                treated_at_risk: class.at_risk.treated,
                control_at_risk: class.at_risk.control,
            })
            .collect(),
        scopes,
        missing: judgement.why.iter().map(Missing::as_str).map(str::to_owned).collect(),
        left_out: BTreeMap::new(),
        can_narrow_to: judgement.can_narrow_to.and_then(name).cloned(),
        forgiven: Forgiven::default(),
        stops: 0,
        until_fail: until_fail(&sums.outcomes, settings),
        until_pass: settings
            .outcome_budget
            .and_then(|budget| gate::terminals_until_pass(budget, settings.tolerated_ratio, settings.pass_evidence))
            .map(|n| n.saturating_sub(sums.outcomes.started)),
    }
}

/// How many more terminals until updates that go on to fail as they do have halted the rollout.
fn until_fail(outcomes: &Outcomes, settings: &Settings) -> Option<u64> {
    let budget = settings.outcome_budget?;
    if outcomes.started == 0 {
        return None;
    }
    // Counts of terminals stay far below 2⁵³, where this is exact.
    let rate = outcomes.failed as f64 / outcomes.started as f64;
    let all = gate::terminals_until_fail(budget, rate / budget, settings.alpha)?;
    Some(all.saturating_sub(outcomes.started))
}
