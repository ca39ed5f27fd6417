//! Cohort cells as the scan reads them: attributes coded, and every combination one row.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::localize::{Attribute, Cells, Part, Predicate};
use super::question::Class;
use super::store;
use crate::db::{self, Conn};

/// Values of one attribute that are told apart: the scan keeps a table for each pair of attributes, and versions and
/// hashes are whatever terminals report. The rest, those with the fewest exposures, count as one value.
const VALUES_MAX: usize = 400;
/// What stands for the rest.
const OTHER: &str = "…";

/// Names of the attributes that may explain a failure: each is recorded for every exposure, failed or not.
pub(crate) const ATTRIBUTES: [&str; 10] =
    ["firmware", "model", "hardware", "app", "config", "region", "carrier", "access", "signal", "in_update"];

/// Codes the attributes and gives each distinct combination one row; also which cohorts are in each row.
pub(super) fn tabulate(
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

/// The terminal with the most failures of a class in a set since `from_ms`, with its failed check-ins by cell. Its
/// exposures are at least those.
pub(super) fn worst_terminal(
    conn: &mut Conn,
    cells: &Cells,
    cohorts_of_cell: &[Vec<i64>],
    set: &[Predicate],
    (class, from_ms): (Option<&Class>, i64),
) -> Result<Option<Part>, db::Error> {
    let cell_of = cells_of(cells, cohorts_of_cell, set);
    let Some((terminal_id, by_cohort)) =
        store::worst_terminal(conn, cell_of.keys().copied().collect(), class, from_ms)?
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

/// The cell of each cohort in which all of `set` hold.
pub(super) fn cells_of(cells: &Cells, cohorts_of_cell: &[Vec<i64>], set: &[Predicate]) -> HashMap<i64, usize> {
    let matches = |cell: usize| {
        set.iter().all(|p| cells.codes.get(p.attribute).and_then(|codes| codes.get(cell)) == Some(&p.code))
    };
    let cohorts = cohorts_of_cell.iter().enumerate().filter(|(cell, _)| matches(*cell));
    cohorts.flat_map(|(cell, ids)| ids.iter().map(move |id| (*id, cell))).collect()
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
