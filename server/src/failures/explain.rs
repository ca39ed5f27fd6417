//! Which conditions explain the failures of a window: on demand over any part of the fleet.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::cells::{cells_of, tabulate, worst_terminal};
use super::localize::{self, Cells, GAIN_MIN, Mode, Predicate};
use super::question::{Class, Question};
use super::{WINDOW_HOURS_MAX, cells_file, incidents, onset, store};
use crate::audit::{self, Actor, Export};
use crate::clock::Now;
use crate::db::{self, Conn, Db};
use crate::operators::{Caller, Scope};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// A rise began up to this long before it was seen, ms.
const UNSEEN_MS: i64 = 2 * HOUR_MS;
/// The baseline reaches back this many windows before the window itself.
pub const BASELINE_WINDOWS: i64 = 5;
/// Terminals with failures that one explanation lists.
pub(super) const TERMINALS_MAX: usize = 100;

/// `attribute = value`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Condition {
    /// Attribute, for example `firmware`.
    pub attribute: String,
    /// Value.
    pub value: String,
}

/// The same set without one of its conditions: a lift near 1 says that the condition is needed.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct WithoutOne {
    /// The condition that was negated.
    pub attribute: String,
    /// Failed exposures.
    pub failures: f64,
    /// Expected ones, all explanations taken into account.
    pub expected: f64,
}

/// One combination of conditions that explains a part of the excess.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Explanation {
    /// Conditions that hold together.
    pub all_of: Vec<Condition>,
    /// Exposures: intervals of terminals with at least one transaction.
    pub exposures: f64,
    /// Those with at least one failure.
    pub failures: f64,
    /// Failures expected.
    pub expected: f64,
    /// Failures over expected.
    pub lift: f64,
    /// Lower end of the 95 % interval.
    pub lift_low: f64,
    /// Upper end of the 95 % interval.
    pub lift_high: f64,
    /// Share of the whole excess.
    pub coverage: Option<f64>,
    /// p, corrected for everything that was looked at.
    pub p_adjusted: f64,
    /// For each condition, the same set without it.
    pub without_one: Vec<WithoutOne>,
    /// Combinations that fit as well, with the share of exposures in common.
    pub also_fits: Vec<(Vec<Condition>, f64)>,
    /// When that began, as far as the window shows it: from this failure on, by the server's clock, there were more than
    /// expected, Unix ms.
    pub began_at_ms: Option<i64>,
    /// Terminals with at least one failure in it.
    pub terminals: u64,
    /// Those of the scope with the most, at most a hundred.
    pub failing: Vec<FailingTerminal>,
}

/// A terminal with failures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct FailingTerminal {
    /// Its number.
    pub id: i64,
    /// Its serial number.
    pub sn: String,
    /// How many.
    pub failures: i64,
}

/// Failures of a window and what explains them.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Overview {
    /// Start of the window, Unix ms (a full hour).
    pub from_ms: i64,
    /// End, Unix ms.
    pub to_ms: i64,
    /// `history`, or `contrast` when there is no history to compare with: then of low confidence.
    pub mode: String,
    /// Start of what it was compared with, Unix ms; hours of unresolved rises are left out.
    pub baseline_from_ms: i64,
    /// End of that, Unix ms.
    pub baseline_to_ms: i64,
    /// Exposures.
    pub exposures: f64,
    /// Exposures with a failure.
    pub failures: f64,
    /// Failures expected.
    pub expected: f64,
    /// What explains the excess, in the order of discovery. Empty: no condition stands out.
    pub explanations: Vec<Explanation>,
    /// Share of the excess that no explanation covers.
    pub unexplained: Option<f64>,
    /// Terminals whose failures were set aside because a combination rested on one of them alone.
    pub suspected_terminals: Vec<i64>,
    /// Attributes that were left out because whether they are known depends on the outcome.
    pub dropped_attributes: Vec<String>,
    /// Over-dispersion: 1 where failures scatter as chance would have them.
    pub phi: f64,
    /// By how much everything rose beside the explanations, where it did.
    pub fleet_lift: Option<f64>,
    /// Everything rose, and no explanation covers half of it: a bank or a network rather than a condition.
    pub is_fleet_wide: bool,
    /// Failure events by outcome (`code:91`, `stage:tls`), most first, of the whole scope.
    pub outcomes: Vec<(String, i64)>,
}

/// What failed in the last `hours` hours within the scope, and under which conditions it failed more than expected.
///
/// Reads cohort cells only; cost grows with cohorts and hours, not with check-ins.
///
/// # Errors
/// [`db::Error`].
pub async fn overview(db: &Db, scope: Scope, hours: u32, now: Now) -> Result<Overview, db::Error> {
    explain(db, scope, Question { hours, ..Question::default() }, now).await
}

/// The answer to a question.
///
/// # Errors
/// [`db::Error`].
pub async fn explain(db: &Db, scope: Scope, question: Question, now: Now) -> Result<Overview, db::Error> {
    db.read(move |conn| Counts::read(conn, &scope, &question, Hours::Before, now)?.explain(conn, &scope, GAIN_MIN))
        .await
}

/// The cells behind that answer, as the file that anybody can recompute it from; who takes it along is noted.
///
/// # Errors
/// [`db::Error`].
pub async fn export_cells(
    db: &Db,
    caller: &Caller,
    actor: Actor,
    scope: Scope,
    question: Question,
    now: Now,
) -> Result<Vec<u8>, db::Error> {
    let org_path = (scope != caller.scope).then(|| scope.from().to_owned());
    let asked = question.clone();
    let counts = db.read(move |conn| Counts::read(conn, &scope, &question, Hours::Before, now)).await?;
    let mut file = Vec::new();
    // Writing to memory does not fail.
    let _ = cells_file::write(&counts.cells, &mut file);
    let class = asked.class.as_ref().map(Class::name);
    let mut said = vec![("hours", json!(asked.hours)), ("org_path", json!(org_path)), ("outcome", json!(class))];
    said.extend(asked.only.given().map(|(name, value)| (name, json!(value))));
    let export = Export::table("failures.export", "cells", &said, Some(counts.cells.n.len()));
    audit::export(db, caller, actor, export, now).await?;
    Ok(file)
}

/// Which hours a window is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hours {
    /// Those just before it.
    Before,
    /// The same hours of the seven days before, if that is enough; else those just before it.
    OfDay,
}

/// Counts of a window and of its baseline.
pub(super) struct Counts {
    pub(super) cells: Cells,
    cohorts_of_cell: Vec<Vec<i64>>,
    from_ms: i64,
    now: Now,
    baseline: (i64, i64),
    class: Option<Class>,
}

impl Counts {
    pub(super) fn read(
        conn: &mut Conn,
        scope: &Scope,
        question: &Question,
        hours: Hours,
        now: Now,
    ) -> Result<Self, db::Error> {
        let window_ms = i64::from(question.hours.clamp(1, WINDOW_HOURS_MAX)) * HOUR_MS;
        let from_ms = now.hour_ms() + HOUR_MS - window_ms;
        let class = question.class.as_ref();
        let window = counts(conn, scope, class, &[(from_ms, i64::MAX)])?;
        let before = [(from_ms - BASELINE_WINDOWS * window_ms, from_ms)];
        let days: Vec<(i64, i64)> =
            (1..=7).rev().map(|day| (from_ms - day * DAY_MS, from_ms - day * DAY_MS + window_ms)).collect();
        let rises: Vec<(i64, i64)> =
            incidents::rises(conn, scope, from_ms - 7 * DAY_MS - BASELINE_WINDOWS * window_ms)?
                .into_iter()
                // A rise is seen some time after it began.
                .map(|(from_ms, to_ms)| (from_ms - UNSEEN_MS, to_ms))
                .collect();
        let exposures = |counts: &HashMap<i64, (i64, i64)>| counts.values().map(|(n, _)| n).sum::<i64>();
        let mut spans = without(&before, &rises);
        let mut baseline = None;
        if hours == Hours::OfDay && window_ms <= DAY_MS {
            let same = without(&days, &rises);
            let counted = counts(conn, scope, class, &same)?;
            if exposures(&counted) >= BASELINE_WINDOWS * exposures(&window) {
                (spans, baseline) = (same, Some(counted));
            }
        }
        let baseline = match baseline {
            Some(counted) => counted,
            None => counts(conn, scope, class, &spans)?,
        };
        let ids: HashSet<i64> = window.keys().chain(baseline.keys()).copied().collect();
        let ids: Vec<i64> = ids.into_iter().collect();
        let mut cohorts = store::cohorts(conn, &ids)?;
        cohorts.retain(|_, values| question.only.holds(values));
        let (cells, cohorts_of_cell) = tabulate(&cohorts, &window, &baseline);
        let baseline = (spans.first().map_or(from_ms, |span| span.0), spans.last().map_or(from_ms, |span| span.1));
        Ok(Self { cells, cohorts_of_cell, from_ms, now, baseline, class: question.class.clone() })
    }

    pub(super) fn explain(self, conn: &mut Conn, scope: &Scope, gain_min: f64) -> Result<Overview, db::Error> {
        let Self { cells, cohorts_of_cell, from_ms, .. } = &self;
        let class = self.class.as_ref();
        let mut failed: Result<(), db::Error> = Ok(());
        let report = localize::explain(cells, gain_min, |set| {
            worst_terminal(conn, cells, cohorts_of_cell, set, (class, *from_ms)).unwrap_or_else(|error| {
                failed = Err(error);
                None
            })
        });
        failed?;
        let outcomes = store::outcomes(conn, scope, *from_ms)?;
        let mut overview = self.overview_of(&report, outcomes);
        for (found, explanation) in report.explanations.iter().zip(&mut overview.explanations) {
            let cohorts: Vec<i64> = cells_of(cells, cohorts_of_cell, &found.all_of).into_keys().collect();
            let moments = store::moments(conn, &cohorts, class, *from_ms)?;
            explanation.began_at_ms = onset::onset(&moments, (*from_ms, self.now.0), found.expected);
            let mut failing = store::failing_terminals(conn, scope, cohorts, class, *from_ms)?;
            explanation.terminals = u64::try_from(failing.len()).unwrap_or(u64::MAX);
            failing.truncate(TERMINALS_MAX);
            explanation.failing = failing;
        }
        Ok(overview)
    }

    fn overview_of(&self, report: &localize::Report, outcomes: Vec<(String, i64)>) -> Overview {
        let cells = &self.cells;
        let condition = |p: &Predicate| {
            let attribute = cells.attributes.get(p.attribute);
            Condition {
                attribute: attribute.map(|a| a.name.clone()).unwrap_or_default(),
                value: attribute.and_then(|a| a.values.get(usize::from(p.code))).cloned().unwrap_or_default(),
            }
        };
        let name = |attribute: usize| cells.attributes.get(attribute).map(|a| a.name.clone()).unwrap_or_default();
        let explanations = report.explanations.iter().map(|found| Explanation {
            all_of: found.all_of.iter().map(condition).collect(),
            exposures: found.n,
            failures: found.k,
            expected: found.expected,
            lift: found.lift,
            lift_low: found.interval.0,
            lift_high: found.interval.1,
            coverage: found.coverage,
            p_adjusted: found.p_adjusted,
            without_one: found
                .drop_one
                .iter()
                .map(|&(attribute, failures, expected)| WithoutOne { attribute: name(attribute), failures, expected })
                .collect(),
            also_fits: found
                .aliases
                .iter()
                .map(|(set, overlap)| (set.iter().map(condition).collect(), *overlap))
                .collect(),
            began_at_ms: None,
            terminals: 0,
            failing: Vec::new(),
        });
        Overview {
            from_ms: self.from_ms,
            to_ms: self.now.0,
            baseline_from_ms: self.baseline.0,
            baseline_to_ms: self.baseline.1,
            mode: match report.mode {
                Mode::History => "history".to_owned(),
                Mode::Contrast => "contrast".to_owned(),
            },
            exposures: report.n,
            failures: report.k,
            expected: report.expected,
            explanations: explanations.collect(),
            unexplained: report.unexplained,
            suspected_terminals: report.broken.clone(),
            dropped_attributes: report.dropped.iter().map(|attribute| name(*attribute)).collect(),
            phi: report.phi,
            fleet_lift: report.fleet_lift,
            is_fleet_wide: report.is_fleet_wide,
            outcomes,
        }
    }
}

/// Exposures and failed ones by cohort, summed over spans of time; failures of one class if it is named.
fn counts(
    conn: &mut Conn,
    scope: &Scope,
    class: Option<&Class>,
    spans: &[(i64, i64)],
) -> Result<HashMap<i64, (i64, i64)>, db::Error> {
    let outcomes = class.map(Class::outcomes);
    let mut sums: HashMap<i64, (i64, i64)> = HashMap::new();
    for &(from_ms, to_ms) in spans {
        let mut cells = store::cells(conn, scope, from_ms, to_ms)?;
        if let Some(outcomes) = &outcomes {
            let events = store::cells_of_outcomes(conn, scope, outcomes, from_ms, to_ms)?;
            // Failures of a class are known as events; an exposure fails once at most, and those that failed are known.
            for (cohort, (_, k)) in &mut cells {
                *k = (*k).min(events.get(cohort).copied().unwrap_or(0));
            }
        }
        for (cohort, (n, k)) in cells {
            let sum = sums.entry(cohort).or_default();
            *sum = (sum.0 + n, sum.1 + k);
        }
    }
    Ok(sums)
}

/// `spans` without the full hours that `gaps` touch.
fn without(spans: &[(i64, i64)], gaps: &[(i64, i64)]) -> Vec<(i64, i64)> {
    let mut left = spans.to_vec();
    for &(from, to) in gaps {
        let (from, to) = (from.div_euclid(HOUR_MS) * HOUR_MS, (to.div_euclid(HOUR_MS) + 1) * HOUR_MS);
        left = left
            .into_iter()
            .flat_map(|(start, end)| [(start, end.min(from)), (start.max(to), end)])
            .filter(|(start, end)| start < end)
            .collect();
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_of_a_known_rise_are_no_baseline() {
        let hour = |n: i64| n * HOUR_MS;
        let day = [(hour(0), hour(24))];
        assert_eq!(without(&day, &[]), day);
        assert_eq!(without(&day, &[(hour(3) + 5, hour(4) + 5)]), [(hour(0), hour(3)), (hour(5), hour(24))]);
        assert_eq!(without(&day, &[(hour(-2), hour(1) - 1), (hour(20), hour(40))]), [(hour(1), hour(20))]);
        assert_eq!(without(&day, &[(hour(-2), hour(40))]), []);
        let two = [(hour(0), hour(2)), (hour(10), hour(12))];
        assert_eq!(without(&two, &[(hour(1) + 1, hour(10) + 1)]), [(hour(0), hour(1)), (hour(11), hour(12))]);
    }
}
