//! An answer as JSON and as text.

use std::io::Write;

use serde_json::{Map, Number, Value, json};

use crate::failures::cells_file::CellsFile;
use crate::failures::localize::{Explanation, Mode, Predicate, Report};

/// The ranked explanations.
pub fn json(file: &CellsFile, report: &Report) -> Value {
    let explanations = report.explanations.iter().map(|found| {
        let also_fits = found
            .aliases
            .iter()
            .map(|(set, overlap)| json!({ "predicates": predicates(file, set), "jaccard": number(*overlap) }));
        json!({
            "predicates": predicates(file, &found.all_of),
            "failures": number(found.k),
            "exposures": number(found.n),
            "expected": number(found.expected),
            "lift": number(found.lift),
            "lift_low": number(found.interval.0),
            "lift_high": number(found.interval.1),
            "coverage": found.coverage.map_or(Value::Null, number),
            "p_adjusted": number(found.p_adjusted),
            "also_fits": also_fits.collect::<Vec<_>>(),
        })
    });
    Value::Array(explanations.collect())
}

fn predicates(file: &CellsFile, set: &[Predicate]) -> Map<String, Value> {
    names(file, set).map(|(name, value)| (name.to_owned(), Value::from(value))).collect()
}

fn names<'a>(file: &'a CellsFile, set: &'a [Predicate]) -> impl Iterator<Item = (&'a str, &'a str)> {
    set.iter().filter_map(|predicate| {
        let attribute = file.cells.attributes.get(predicate.attribute)?;
        Some((attribute.name.as_str(), attribute.values.get(usize::from(predicate.code))?.as_str()))
    })
}

/// Whole counts without a decimal point.
fn number(value: f64) -> Value {
    /// Whole numbers up to here are exact.
    const WHOLE_MAX: f64 = 9e15;
    if value.fract() == 0.0 && (0.0..WHOLE_MAX).contains(&value) {
        return Value::from(value as u64);
    }
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}

/// The answer in sentences.
pub fn text(file: &CellsFile, report: &Report, out: &mut impl Write) -> std::io::Result<()> {
    writeln!(out, "{} of {} exposures failed, {} expected.", count(report.k), count(report.n), count(report.expected))?;
    if report.mode == Mode::Contrast {
        let reason = if file.has_base { "The baseline has fewer than 50 failures" } else { "No baseline" };
        writeln!(out, "{reason}: compared within the window, of low confidence.")?;
    }
    if let Some(lift) = report.fleet_lift {
        writeln!(out, "Everything failed {lift:.1} x as often as expected; the sets below beyond that.")?;
    }
    for attribute in report.dropped.iter().filter_map(|position| file.cells.attributes.get(*position)) {
        writeln!(out, "Left out: {}; whether it is known depends on the outcome.", attribute.name)?;
    }
    if !report.broken.is_empty() {
        writeln!(out, "Set aside: {} terminal(s) on which alone a set rested.", report.broken.len())?;
    }
    if report.explanations.is_empty() {
        let rose = if report.is_fleet_wide { "A rise of the whole fleet: no" } else { "No" };
        return writeln!(out, "{rose} condition stands out.");
    }
    for (number, found) in report.explanations.iter().enumerate() {
        explanation(file, number + 1, found, out)?;
    }
    if let Some(unexplained) = report.unexplained {
        writeln!(out, "\nUnexplained: {:.0} % of the excess.", unexplained * 100.0)?;
    }
    Ok(())
}

fn explanation(file: &CellsFile, number: usize, found: &Explanation, out: &mut impl Write) -> std::io::Result<()> {
    let name = |set: &[Predicate]| {
        let names =
            names(file, set).map(|(name, value)| format!("{name} = {}", if value.is_empty() { "\"\"" } else { value }));
        names.collect::<Vec<_>>().join(" and ")
    };
    let (low, high) = found.interval;
    writeln!(out, "\n{number}. {}", name(&found.all_of))?;
    writeln!(
        out,
        "   {:.1} x expected (95 % interval {low:.1} to {high:.1}): {} of {} failed, {} expected; p {:.1e}",
        found.lift,
        count(found.k),
        count(found.n),
        count(found.expected),
        found.p_adjusted
    )?;
    if let Some(coverage) = found.coverage {
        writeln!(out, "   explains {:.0} % of the excess", coverage * 100.0)?;
    }
    for (attribute, k, expected) in found.drop_one.iter().filter(|_| found.all_of.len() > 1) {
        if let Some(attribute) = file.cells.attributes.get(*attribute) {
            let lift = k / expected.max(1e-6);
            writeln!(
                out,
                "   the same but for {}: {lift:.1} x ({} failed, {} expected)",
                attribute.name,
                count(*k),
                count(*expected)
            )?;
        }
    }
    for (set, overlap) in &found.aliases {
        writeln!(out, "   also fits: {} ({:.0} % of the same exposures)", name(set), overlap * 100.0)?;
    }
    Ok(())
}

/// Whole where it is, else with one decimal.
fn count(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}
