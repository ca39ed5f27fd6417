//! What holds at every moment, whatever happened before: read from the tables themselves and counted anew.

use std::collections::{BTreeMap, BTreeSet};

use diesel::prelude::*;
use tillward_server::db::schema::{
    assignments, gate_cells, gate_commits, gate_counts, rollout_progress, rollout_reasons, rollout_stops, rollouts,
};
use tillward_server::db::{Conn, Error};
use tillward_server::rollouts::strategy::{Planned, Strategy};

use super::journal::{Journals, journals};
use super::{Counts, DAY_MS, MINUTE_MS, kept, recount};

/// A rollout's row.
#[derive(Debug, Clone)]
pub(super) struct RolloutRow {
    pub state: String,
    pub stage: i64,
    pub strategy: Strategy,
    pub starts_at_ms: Option<i64>,
    pub admitted: i64,
    pub opened: i64,
    opened_up_to: i64,
}

/// An assignment's row.
#[derive(Debug, Clone, Queryable)]
pub(super) struct AssignmentRow {
    pub id: i64,
    pub rollout_id: i64,
    pub terminal_id: i64,
    pub phase: String,
    pub reason: Option<String>,
    pub live: i64,
    pub stage: i64,
    pub cell: i64,
    pub site: i64,
    rank: i64,
    pub ready_ms: Option<i64>,
    pub started_at_ms: Option<i64>,
    pub deadline_ms: Option<i64>,
    pub finished_at_ms: Option<i64>,
    pub attempts: i64,
}

impl AssignmentRow {
    pub(super) fn is_final(&self) -> bool {
        matches!(self.phase.as_str(), "succeeded" | "failed" | "rolled_back" | "timed_out" | "cancelled")
    }

    pub(super) fn is_ordered(&self) -> bool {
        self.phase != "waiting" && !self.is_final()
    }

    fn is_withdrawable(&self) -> bool {
        matches!(self.phase.as_str(), "offered" | "downloading")
    }

    fn is_started(&self) -> bool {
        self.started_at_ms.is_some()
            || !matches!(self.phase.as_str(), "waiting" | "offered" | "timed_out" | "cancelled")
    }
}

/// Waiting, started, failed, finished.
type GateCounts = BTreeMap<(i64, i64, i64), [i64; 4]>;
/// By rollout, phase, reason and cell.
type Reasons = BTreeMap<(i64, String, String, i64), i64>;

/// Everything that is checked, as it stands in the tables.
pub(super) struct Snapshot {
    pub rollouts: BTreeMap<i64, RolloutRow>,
    pub assignments: Vec<AssignmentRow>,
    counts: (Counts, Counts),
    gate_counts: GateCounts,
    /// Rollout, minute, cell, how many.
    commits: Vec<(i64, i64, i64, i64)>,
    reasons: Reasons,
    journals: Journals,
    /// Cells that belong to a part that was stopped.
    stopped: BTreeSet<(i64, i64)>,
}

pub(super) fn snapshot(conn: &mut Conn) -> Result<Snapshot, Error> {
    let rows = rollouts::table
        .inner_join(rollout_progress::table.on(rollout_progress::rollout_id.eq(rollouts::id)))
        .select((
            rollouts::id,
            rollouts::state,
            rollouts::stage,
            rollouts::strategy,
            rollouts::starts_at_ms,
            rollout_progress::admitted,
            rollout_progress::opened,
            rollout_progress::opened_up_to,
        ))
        .load::<(i64, String, i64, String, Option<i64>, i64, i64, i64)>(conn)?;
    let rollouts = rows
        .into_iter()
        .map(|(id, state, stage, strategy, starts_at_ms, admitted, opened, opened_up_to)| {
            let strategy = serde_json::from_str(&strategy).unwrap();
            (id, RolloutRow { state, stage, strategy, starts_at_ms, admitted, opened, opened_up_to })
        })
        .collect();
    let assignments = assignments::table
        .order(assignments::id)
        .select((
            assignments::id,
            assignments::rollout_id,
            assignments::terminal_id,
            assignments::phase,
            assignments::reason,
            assignments::live,
            assignments::stage,
            assignments::cell,
            assignments::site,
            assignments::rank,
            assignments::ready_ms,
            assignments::started_at_ms,
            assignments::deadline_ms,
            assignments::finished_at_ms,
            assignments::attempts,
        ))
        .load(conn)?;
    let gate_counts = gate_counts::table
        .select((
            gate_counts::rollout_id,
            gate_counts::stage,
            gate_counts::cell,
            gate_counts::waiting,
            gate_counts::started,
            gate_counts::failed,
            gate_counts::finished,
        ))
        .load::<(i64, i64, i64, i64, i64, i64, i64)>(conn)?
        .into_iter()
        .map(|(rollout, stage, cell, waiting, started, failed, finished)| {
            ((rollout, stage, cell), [waiting, started, failed, finished])
        })
        .filter(|(_, counts)| *counts != [0; 4])
        .collect();
    let rows = gate_commits::table.select((
        gate_commits::rollout_id,
        gate_commits::minute_ms,
        gate_commits::cell,
        gate_commits::n,
    ));
    let commits = rows.load(conn)?;
    let reasons =
        rollout_reasons::table.filter(rollout_reasons::n.ne(0)).load::<(i64, String, String, i64, i64)>(conn)?;
    let reasons = reasons.into_iter().map(|(id, phase, reason, cell, n)| ((id, phase, reason, cell), n)).collect();
    let (stopped, journals) = (stopped(conn)?, journals(conn)?);
    let counts = (recount(conn)?, kept(conn)?);
    Ok(Snapshot { rollouts, assignments, counts, gate_counts, commits, reasons, journals, stopped })
}

fn stopped(conn: &mut Conn) -> Result<BTreeSet<(i64, i64)>, Error> {
    let stops: Vec<(i64, String, String)> = rollout_stops::table
        .select((rollout_stops::rollout_id, rollout_stops::attribute, rollout_stops::value))
        .load(conn)?;
    let cells: Vec<(i64, i64, String, String)> = gate_cells::table
        .select((gate_cells::rollout_id, gate_cells::cell, gate_cells::model, gate_cells::carrier))
        .load(conn)?;
    let is_stopped = |(rollout, _, model, carrier): &(i64, i64, String, String)| {
        stops.iter().any(|(of, attribute, value)| {
            of == rollout
                && match attribute.as_str() {
                    "model" => value == model,
                    "carrier" => value == carrier,
                    other => panic!("nothing is stopped by {other} here"),
                }
        })
    };
    Ok(cells.iter().filter(|cell| is_stopped(cell)).map(|(rollout, cell, ..)| (*rollout, *cell)).collect())
}

/// What the director says to a terminal: the number of its order, if it has one, and the version.
pub(super) type Answers = BTreeMap<i64, (Option<i64>, i64)>;

/// What is remembered from one moment to the next.
#[derive(Default)]
pub(super) struct Watchdog {
    ended: BTreeMap<i64, (String, Option<String>)>,
    rollouts: BTreeMap<i64, (i64, String)>,
    /// The one order that a terminal was ever given under a version.
    ordered: BTreeMap<(i64, i64), i64>,
    /// The answers when there was nothing left to do.
    settled: Answers,
    /// The latest moment so far.
    latest_ms: i64,
}

impl Watchdog {
    /// Checks one moment. `late` are assignments whose terminals went on by themselves after they were told to stop: they
    /// count against no limit.
    pub(super) fn check(&mut self, seen: &Snapshot, answers: &Answers, late: &BTreeSet<i64>, now_ms: i64) {
        self.latest_ms = self.latest_ms.max(now_ms);
        check_counts(seen, (self.latest_ms - DAY_MS).div_euclid(MINUTE_MS) * MINUTE_MS);
        self.check_ends(seen);
        self.check_orders(seen, answers);
        check_limits(seen, late);
    }

    fn check_ends(&mut self, seen: &Snapshot) {
        for one in seen.assignments.iter().filter(|one| one.is_final()) {
            let end = (one.phase.clone(), one.reason.clone());
            let first = self.ended.entry(one.id).or_insert_with(|| end.clone());
            assert_eq!(*first, end, "a final state was left: {one:?}");
        }
        for (id, rollout) in &seen.rollouts {
            let now = (rollout.stage, rollout.state.clone());
            let before = self.rollouts.insert(*id, now.clone()).unwrap_or_else(|| now.clone());
            assert!(now.0 >= before.0, "rollout {id} went back from stage {} to {}", before.0, now.0);
            let was_over = matches!(before.1.as_str(), "succeeded" | "cancelled");
            assert!(!was_over || now.1 == before.1, "rollout {id} was {} and is {}", before.1, now.1);
        }
    }

    /// What the director says is what may be said.
    fn check_orders(&mut self, seen: &Snapshot, answers: &Answers) {
        let by_id: BTreeMap<i64, &AssignmentRow> = seen.assignments.iter().map(|one| (one.id, one)).collect();
        for (terminal, (order, version)) in answers {
            let Some(order) = order else { continue };
            let one = by_id[order];
            let rollout = &seen.rollouts[&one.rollout_id];
            assert_eq!(rollout.state, "running", "{one:?} is ordered");
            assert!(one.is_ordered() && one.terminal_id == *terminal, "{one:?} is ordered of {terminal}");
            assert!(one.stage >= 0 && one.stage <= rollout.stage, "{one:?} is ordered in stage {}", rollout.stage);
            let is_to_come = rollout.starts_at_ms.is_some_and(|starts| self.latest_ms < starts);
            assert!(!is_to_come, "{one:?} is ordered before its rollout begins");
            let first = *self.ordered.entry((*terminal, *version)).or_insert(*order);
            assert_eq!(first, *order, "terminal {terminal} is told two orders under version {version}");
        }
    }

    /// As after a pass that found nothing more to do.
    pub(super) fn check_settled(&mut self, seen: &Snapshot, answers: &Answers, now_ms: i64) {
        for (terminal, (order, version)) in answers {
            if let Some((before, then)) = self.settled.insert(*terminal, (*order, *version)) {
                let grew = if before == *order { *version >= then } else { *version > then };
                assert!(grew, "terminal {terminal} was told {before:?} in {then} and {order:?} in {version}");
            }
        }
        for one in seen.assignments.iter().filter(|one| !one.is_final()) {
            let rollout = &seen.rollouts[&one.rollout_id];
            assert!(one.deadline_ms.is_some_and(|deadline| deadline > now_ms), "{one:?} is past its time at {now_ms}");
            match rollout.state.as_str() {
                "running" => {
                    let is_stopped = seen.stopped.contains(&(one.rollout_id, one.cell));
                    let can_end = one.phase == "waiting" || one.is_withdrawable();
                    assert!(!(is_stopped && can_end), "{one:?} belongs to a part that was stopped");
                }
                // What a gate halted waits for a person.
                "paused" | "halted" => assert!(!one.is_withdrawable(), "{one:?} of a {} rollout", rollout.state),
                "cancelled" => {
                    assert!(!one.is_withdrawable() && one.phase != "waiting", "{one:?} of a {} rollout", rollout.state);
                }
                other => panic!("{one:?} is live in a {other} rollout"),
            }
        }
    }
}

/// What was committed before `since_ms` may have been forgotten: nobody is watched any more.
fn check_counts(seen: &Snapshot, since_ms: i64) {
    assert_eq!(seen.counts.0, seen.counts.1, "the recount by phase and the counts");
    let mut gate: GateCounts = BTreeMap::new();
    let mut commits: BTreeMap<(i64, i64), i64> = BTreeMap::new();
    let mut live: BTreeMap<i64, i64> = BTreeMap::new();
    let mut reasons = Reasons::new();
    for one in &seen.assignments {
        if !matches!(one.phase.as_str(), "waiting" | "succeeded" | "cancelled") {
            let key = (one.rollout_id, one.phase.clone(), one.reason.clone().unwrap_or_default(), one.cell);
            *reasons.entry(key).or_default() += 1;
        }
        let counts = gate.entry((one.rollout_id, one.stage, one.cell)).or_default();
        let is_started = one.is_started();
        counts[0] += i64::from(one.phase == "waiting");
        counts[1] += i64::from(is_started);
        counts[2] += i64::from(is_started && matches!(one.phase.as_str(), "failed" | "rolled_back" | "timed_out"));
        counts[3] += i64::from(is_started && one.is_final());
        if one.phase == "succeeded" && one.finished_at_ms.is_some_and(|at_ms| at_ms >= since_ms) {
            *commits.entry((one.rollout_id, one.cell)).or_default() += 1;
        }
        assert_eq!(one.live == 1, !one.is_final(), "{one:?}");
        assert!(one.phase != "waiting" || (one.stage >= 0) == one.ready_ms.is_some(), "{one:?}");
        *live.entry(one.terminal_id).or_default() += one.live;
    }
    gate.retain(|_, counts| *counts != [0; 4]);
    assert_eq!(gate, seen.gate_counts, "the recount by stage and cell and the gate's counts");
    let mut kept: BTreeMap<(i64, i64), i64> = BTreeMap::new();
    for (rollout, minute_ms, cell, n) in &seen.commits {
        if *minute_ms >= since_ms {
            *kept.entry((*rollout, *cell)).or_default() += n;
        }
    }
    assert_eq!(commits, kept, "the recount of commits and the gate's");
    assert_eq!(reasons, seen.reasons, "the recount by phase, reason and cell and the counts");
    seen.journals.check();
    assert!(live.values().all(|n| *n <= 1), "{live:?}");
    for (id, rollout) in &seen.rollouts {
        let rows = || seen.assignments.iter().filter(|one| one.rollout_id == *id);
        let count = |n: usize| i64::try_from(n).unwrap();
        assert_eq!(rollout.admitted, count(rows().count()), "admitted to rollout {id}");
        let opened = count(rows().filter(|one| one.stage >= 0).count());
        assert!(
            opened <= rollout.opened && rollout.opened <= rollout.admitted,
            "{opened} are open of {id} {rollout:?}"
        );
        let is_passed_over =
            |one: &AssignmentRow| one.phase == "waiting" && one.ready_ms.is_none() && one.rank < rollout.opened_up_to;
        assert!(!rows().any(is_passed_over), "opening goes on above one that waits for it: {id} {rollout:?}");
        assert!(rows().all(|one| one.stage <= rollout.stage), "a later stage of rollout {id} is open");
    }
}

fn check_limits(seen: &Snapshot, late: &BTreeSet<i64>) {
    for (id, rollout) in &seen.rollouts {
        let rows = || seen.assignments.iter().filter(|one| one.rollout_id == *id);
        let stage = u32::try_from(rollout.stage).unwrap();
        let admitted = u64::try_from(rollout.admitted).unwrap();
        // A share of few terminals may be less than an earlier stage's number.
        let plans = (0..=stage).filter_map(|stage| match rollout.strategy.plan(stage, admitted) {
            Planned::UpTo(n) => Some(n),
            Planned::Below(_) => None,
        });
        if let Some(n) = plans.max() {
            // Those that a stage names by tag may be more than the next one's number.
            let named = rollout.strategy.tags().count();
            let drawn = rows().filter(|one| one.stage >= i64::try_from(named).unwrap()).count();
            assert!(u64::try_from(drawn).unwrap() <= n, "{drawn} are open of {n} in rollout {id}: {rollout:?}");
        }
        let at_it: Vec<&AssignmentRow> = rows().filter(|one| one.is_ordered() && !late.contains(&one.id)).collect();
        let most = rollout.strategy.in_flight_max.map_or(usize::MAX, |most| most as usize);
        assert!(at_it.len() <= most, "{} of rollout {id} are at it, {most} may be", at_it.len());
        if let Some(most) = rollout.strategy.in_flight_per_site_max {
            let mut sites: BTreeMap<i64, u32> = BTreeMap::new();
            at_it.iter().filter(|one| one.site != 0).for_each(|one| *sites.entry(one.site).or_default() += 1);
            assert!(sites.values().all(|n| *n <= most), "{sites:?} of rollout {id} are at it, {most} may be");
        }
    }
}
