//! Sets that cannot, or hardly, be told apart from one that was found.

use super::search::{Candidate, Set};
use super::table::Table;

/// Named at most.
const ALIASES_MAX: usize = 5;
/// The same exposures, nearly.
const SAME_OVERLAP: f64 = 0.9;
/// Half the exposures, and nearly the same evidence.
const NEAR_OVERLAP: f64 = 0.5;
const NEAR_GAIN: f64 = 3.0;
/// Sets of three predicates that are compared, the best by gain: they have not all been looked at anyway.
const TRIPLES_MAX: usize = 200;

/// The aliases of `best` among the sets of its round, with the overlap of their exposures (Jaccard), most overlap first.
/// A set that is another alias and what holds everywhere in it says nothing more than that alias.
pub fn aliases(table: &Table, best: &Candidate, found: &[Candidate]) -> Vec<(Set, f64)> {
    let rows = table.rows_of(&best.set);
    let own: f64 = rows.iter().map(|&row| table.n[row]).sum();
    let mut is_inside = vec![false; table.len()];
    for &row in &rows {
        is_inside[row] = true;
    }
    let mut triples = 0;
    let mut ranked: Vec<&Candidate> = found
        .iter()
        .filter(|candidate| !candidate.set.refines(&best.set))
        // What overlaps by half has at least a third of the failures within, and not many times as many.
        .filter(|candidate| (best.k / 4.0..=best.k * 4.0).contains(&candidate.k))
        .collect();
    ranked.sort_by(|one, other| one.rank(other));
    let mut aliases: Vec<(Set, f64)> = ranked
        .into_iter()
        .filter(|candidate| {
            triples += usize::from(candidate.set.predicates().len() > 2);
            candidate.set.predicates().len() <= 2 || triples <= TRIPLES_MAX
        })
        .filter_map(|candidate| {
            let (mut theirs, mut both) = (0.0, 0.0);
            for row in table.rows_of(&candidate.set) {
                theirs += table.n[row];
                both += if is_inside[row] { table.n[row] } else { 0.0 };
            }
            let overlap = both / (own + theirs - both).max(1e-9);
            let is_near = best.gain - candidate.gain <= NEAR_GAIN && overlap >= NEAR_OVERLAP;
            (overlap >= SAME_OVERLAP || is_near).then_some((candidate.set, overlap))
        })
        .collect();
    // The sort is stable: of equal overlaps the better gain comes first.
    aliases.sort_by(|one, other| other.1.total_cmp(&one.1));
    let mut told: Vec<(Set, f64)> = Vec::new();
    for (set, overlap) in aliases {
        if told.len() < ALIASES_MAX
            && told.iter().all(|(other, same)| !(set.refines(other) && same.total_cmp(&overlap).is_eq()))
        {
            told.push((set, overlap));
        }
    }
    told
}
