//! Failures: the events themselves with the conditions they happened under, which conditions explain a rise, and the
//! incidents under which people deal with them.

pub mod classify;
pub mod feed;
pub mod http;
pub mod imported;
pub mod incidents;
pub mod localize;
pub mod lookups;
pub mod pack;
pub mod reconcile;
mod store;
pub mod verdicts;

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::clock::Now;
use crate::db::{self, Conn, Db};
use crate::operators::Scope;
use classify::{Cause, Symptom};
use localize::{Attribute, Cells, Mode, Part, Predicate};
use verdicts::{VerdictFilter, VerdictView};

/// Longest window of an overview, hours (four weeks).
pub const WINDOW_HOURS_MAX: u32 = 672;
/// Values of one attribute that are told apart: the scan keeps a table for each pair of attributes, and versions and
/// hashes are whatever terminals report. The rest, those with the fewest exposures, count as one value.
const VALUES_MAX: usize = 400;
/// What stands for the rest.
const OTHER: &str = "…";
/// The baseline reaches back this many windows before the window itself.
pub const BASELINE_WINDOWS: i64 = 5;

/// One failed transaction, with the condition it happened under.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct FailureRow {
    /// Terminal.
    pub terminal_id: i64,
    /// Its serial number.
    pub sn: String,
    /// The terminal's id of the event.
    pub event_id: String,
    /// Terminal clock, Unix ms.
    pub occurred_at_ms: i64,
    /// Server clock, Unix ms.
    pub received_at_ms: i64,
    /// How far the transaction got.
    pub stage: String,
    /// Response code, if the host answered.
    pub response_code: Option<String>,
    /// Kind of transaction.
    pub transaction_type: String,
    /// Requested amount, fen.
    pub amount_fen: Option<i64>,
    /// Firmware at that moment.
    pub firmware: String,
    /// Config hash at that moment.
    pub config_hash: Option<String>,
    /// Access type at that moment.
    pub access: String,
    /// Carrier at that moment.
    pub carrier: String,
    /// Signal band at that moment.
    pub signal: String,
    /// How it came when no terminal reported it: `rest` or `file`.
    pub source: Option<String>,
    /// The whole event as the terminal sent it.
    #[schema(value_type = Object)]
    pub event: serde_json::Value,
    /// What the rules say about it; absent while it is not judged yet.
    pub verdict: Option<VerdictView>,
}

/// Which failures.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only of this terminal.
    pub terminal_id: Option<i64>,
    /// Only the event of this id.
    pub event_id: Option<String>,
    /// Received at or after, Unix ms.
    pub from_ms: Option<i64>,
    /// Only with this response code.
    pub response_code: Option<String>,
    /// Only at this stage.
    pub stage: Option<String>,
    /// Only under this firmware.
    pub firmware: Option<String>,
    /// Only with a verdict of this cause.
    pub cause: Option<Cause>,
    /// Only with a verdict of this symptom.
    pub symptom: Option<Symptom>,
}

/// Where a page of failures ends: received at, terminal, event.
pub type FailureKey = (i64, i64, String);

/// Failures within the scope, newest first, after `after`.
///
/// # Errors
/// [`db::Error`].
pub fn list(
    conn: &mut Conn,
    scope: &Scope,
    filter: &Filter,
    after: Option<&FailureKey>,
    size: u32,
) -> Result<Vec<FailureRow>, db::Error> {
    let found = if filter.cause.is_none() && filter.symptom.is_none() {
        store::list(conn, scope, filter, after, i64::from(size))?
    } else {
        let by_verdict = VerdictFilter {
            cause: filter.cause,
            symptom: filter.symptom,
            response_code: filter.response_code.clone(),
            terminal_id: filter.terminal_id,
            from_ms: filter.from_ms,
            stage: filter.stage.clone(),
            firmware: filter.firmware.clone(),
        };
        let keys = verdicts::keys(conn, scope, &by_verdict, after, size)?;
        store::by_keys(conn, scope, &keys)?
    };
    let of: Vec<verdicts::Of<'_>> = found
        .iter()
        .map(|(row, org_path)| {
            (row.terminal_id, row.event_id.as_str(), org_path.as_str(), row.response_code.as_deref())
        })
        .collect();
    let verdicts = verdicts::attach(conn, &of)?;
    let rows = found.into_iter().zip(verdicts).map(|((row, _), verdict)| FailureRow { verdict, ..row });
    Ok(rows.collect())
}

/// One failure of a terminal in the scope, with its verdict. One read by primary key, and its verdict's.
///
/// # Errors
/// [`db::Error`].
pub fn find(conn: &mut Conn, scope: &Scope, terminal_id: i64, event_id: &str) -> Result<Option<FailureRow>, db::Error> {
    let filter = Filter { terminal_id: Some(terminal_id), event_id: Some(event_id.to_owned()), ..Filter::default() };
    Ok(list(conn, scope, &filter, None, 1)?.into_iter().next())
}

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
}

/// Failures of a window and what explains them.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Overview {
    /// Start of the window, Unix ms (a full hour).
    pub from_ms: i64,
    /// End, Unix ms.
    pub to_ms: i64,
    /// `history`, or `contrast` when there is no history to compare with: then only one headline, of low confidence.
    pub mode: String,
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
    /// Failure events by outcome (`code:91`, `stage:tls`), most first.
    pub outcomes: Vec<(String, i64)>,
}

/// What failed in the last `hours` hours within the scope, and under which conditions it failed more than expected.
///
/// Reads cohort cells only; cost grows with cohorts and hours, not with check-ins.
///
/// # Errors
/// [`db::Error`].
pub async fn overview(db: &Db, scope: Scope, hours: u32, now: Now) -> Result<Overview, db::Error> {
    let window_ms = i64::from(hours.clamp(1, WINDOW_HOURS_MAX)) * 3_600_000;
    let from_ms = now.hour_ms() + 3_600_000 - window_ms;
    db.read(move |conn| {
        let baseline_ms = from_ms - BASELINE_WINDOWS * window_ms;
        let window = store::cells(conn, &scope, from_ms, i64::MAX)?;
        let baseline = store::cells(conn, &scope, baseline_ms, from_ms)?;
        let ids: HashSet<i64> = window.keys().chain(baseline.keys()).copied().collect();
        let ids: Vec<i64> = ids.into_iter().collect();
        let cohorts = store::cohorts(conn, &ids)?;
        let (cells, cohorts_of_cell) = tabulate(&cohorts, &window, &baseline);
        let mut failed: Result<(), db::Error> = Ok(());
        let report = localize::explain(&cells, localize::GAIN_MIN, |set| {
            worst_terminal(conn, &cells, &cohorts_of_cell, set, from_ms).unwrap_or_else(|error| {
                failed = Err(error);
                None
            })
        });
        failed?;
        let outcomes = store::outcomes(conn, &scope, from_ms)?;
        Ok(overview_of(&cells, report, from_ms, now, outcomes))
    })
    .await
}

/// Names of the attributes that may explain a failure: each is recorded for every exposure, failed or not.
pub(crate) const ATTRIBUTES: [&str; 10] =
    ["firmware", "model", "hardware", "app", "config", "region", "carrier", "access", "signal", "in_update"];

/// Codes the attributes and gives each distinct combination one row; also which cohorts are in each row.
fn tabulate(
    cohorts: &HashMap<i64, [String; 10]>,
    window: &HashMap<i64, (i64, i64)>,
    baseline: &HashMap<i64, (i64, i64)>,
) -> (Cells, Vec<Vec<i64>>) {
    let common = common_values(cohorts, window, baseline);
    let mut rows: BTreeMap<[&str; 10], Vec<i64>> = BTreeMap::new();
    for (id, values) in cohorts {
        let mut row = [OTHER; 10];
        for ((slot, value), common) in row.iter_mut().zip(values).zip(&common) {
            if common.as_ref().is_none_or(|common| common.contains(value.as_str())) {
                *slot = value;
            }
        }
        rows.entry(row).or_default().push(*id);
    }
    let mut cells = Cells { codes: vec![Vec::new(); ATTRIBUTES.len()], ..Cells::default() };
    let mut codes: Vec<BTreeMap<&str, u16>> = vec![BTreeMap::new(); ATTRIBUTES.len()];
    let sum = |counts: &HashMap<i64, (i64, i64)>, ids: &[i64]| {
        let (n, k) = ids.iter().filter_map(|id| counts.get(id)).fold((0, 0), |sum, row| (sum.0 + row.0, sum.1 + row.1));
        (as_f64(n), as_f64(k))
    };
    for (values, ids) in &rows {
        for ((column, codes), value) in cells.codes.iter_mut().zip(&mut codes).zip(values) {
            let next = u16::try_from(codes.len()).unwrap_or(u16::MAX);
            column.push(*codes.entry(*value).or_insert(next));
        }
        let ((n, k), (n0, k0)) = (sum(window, ids), sum(baseline, ids));
        cells.n.push(n);
        cells.k.push(k);
        cells.n0.push(n0);
        cells.k0.push(k0);
    }
    cells.attributes = ATTRIBUTES
        .iter()
        .zip(&codes)
        .map(|(name, codes)| {
            let mut values = vec![String::new(); codes.len()];
            for (value, code) in codes {
                if let Some(slot) = values.get_mut(usize::from(*code)) {
                    *slot = (*value).to_owned();
                }
            }
            Attribute { name: (*name).to_owned(), values }
        })
        .collect();
    let cohorts_of_cell = rows.into_values().collect();
    (cells, cohorts_of_cell)
}

/// For each attribute, the [`VALUES_MAX`] values with the most exposures; `None` where there are no more than that.
fn common_values<'a>(
    cohorts: &'a HashMap<i64, [String; 10]>,
    window: &HashMap<i64, (i64, i64)>,
    baseline: &HashMap<i64, (i64, i64)>,
) -> Vec<Option<HashSet<&'a str>>> {
    let exposures = |id| [window, baseline].iter().filter_map(|counts| counts.get(&id)).map(|(n, _)| n).sum::<i64>();
    let common = |attribute: usize| {
        let mut by_value: BTreeMap<&str, i64> = BTreeMap::new();
        for (&id, values) in cohorts {
            if let Some(value) = values.get(attribute) {
                *by_value.entry(value).or_default() += exposures(id);
            }
        }
        if by_value.len() <= VALUES_MAX {
            return None;
        }
        let mut by_value: Vec<(&str, i64)> = by_value.into_iter().collect();
        by_value.sort_by(|(one, few), (other, many)| many.cmp(few).then(one.cmp(other)));
        Some(by_value.into_iter().take(VALUES_MAX - 1).map(|(value, _)| value).collect())
    };
    (0..ATTRIBUTES.len()).map(common).collect()
}

/// Counts are far below 2^53.
fn as_f64(count: i64) -> f64 {
    #[allow(clippy::cast_precision_loss)]
    let value = count as f64;
    value
}

/// The terminal with the most failures in a set, with its failed check-ins by cell. Its exposures are at least those.
fn worst_terminal(
    conn: &mut Conn,
    cells: &Cells,
    cohorts_of_cell: &[Vec<i64>],
    set: &[Predicate],
    from_ms: i64,
) -> Result<Option<Part>, db::Error> {
    let matches = |cell: usize| {
        set.iter().all(|p| cells.codes.get(p.attribute).and_then(|codes| codes.get(cell)) == Some(&p.code))
    };
    let cell_of: HashMap<i64, usize> = cohorts_of_cell
        .iter()
        .enumerate()
        .filter(|(cell, _)| matches(*cell))
        .flat_map(|(cell, ids)| ids.iter().map(move |id| (*id, cell)))
        .collect();
    let Some((terminal_id, by_cohort)) = store::worst_terminal(conn, cell_of.keys().copied().collect(), from_ms)?
    else {
        return Ok(None);
    };
    let mut parts: BTreeMap<usize, f64> = BTreeMap::new();
    for (cohort, failed) in by_cohort {
        if let Some(cell) = cell_of.get(&cohort) {
            *parts.entry(*cell).or_default() += as_f64(failed);
        }
    }
    Ok(Some(Part { terminal_id, cells: parts.into_iter().map(|(cell, k)| (cell, k, k)).collect() }))
}

fn overview_of(
    cells: &Cells,
    report: localize::Report,
    from_ms: i64,
    now: Now,
    outcomes: Vec<(String, i64)>,
) -> Overview {
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
        also_fits: found.aliases.iter().map(|(set, overlap)| (set.iter().map(condition).collect(), *overlap)).collect(),
    });
    Overview {
        from_ms,
        to_ms: now.0,
        mode: match report.mode {
            Mode::History => "history".to_owned(),
            Mode::Contrast => "contrast".to_owned(),
        },
        exposures: report.n,
        failures: report.k,
        expected: report.expected,
        explanations: explanations.collect(),
        unexplained: report.unexplained,
        suspected_terminals: report.broken,
        outcomes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cohort(app: String) -> [String; 10] {
        let mut values: [String; 10] = std::array::from_fn(|_| "x".to_owned());
        values[3] = app;
        values
    }

    #[test]
    fn however_many_values_are_reported_the_tables_stay_small_and_nothing_is_left_out() {
        let many = i64::try_from(VALUES_MAX).unwrap() * 20;
        let cohorts: HashMap<i64, [String; 10]> = (0..many).map(|id| (id, cohort(format!("v{id:05}")))).collect();
        // The higher its number, the more a value is exposed.
        let window: HashMap<i64, (i64, i64)> = (0..many).map(|id| (id, (id, 1))).collect();
        let (cells, cohorts_of_cell) = tabulate(&cohorts, &window, &HashMap::new());
        assert_eq!(cells.attributes[3].values.len(), VALUES_MAX);
        assert!(cells.attributes[3].values.contains(&format!("v{:05}", many - 1)));
        assert!(cells.attributes[3].values.contains(&OTHER.to_owned()));
        assert_eq!(cells.n.iter().sum::<f64>(), as_f64(many * (many - 1) / 2));
        assert_eq!(cells.k.iter().sum::<f64>(), as_f64(many));
        assert_eq!(cohorts_of_cell.iter().map(Vec::len).sum::<usize>(), cohorts.len());
        let few: HashMap<i64, [String; 10]> = (0..3).map(|id| (id, cohort(format!("v{id}")))).collect();
        assert_eq!(tabulate(&few, &window, &HashMap::new()).0.attributes[3].values, ["v0", "v1", "v2"]);
    }
}
