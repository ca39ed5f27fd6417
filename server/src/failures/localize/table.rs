//! The cells as the scan works on them: rare values as one, attributes that leak the outcome left out, every
//! combination once, in an order that does not depend on that of the cells.
//!
//! Every column has one entry a row and every code is below the size of its attribute: [`Table::new`] makes sure, so
//! the other files index by row and code.

use super::search::Set;
use super::{Cells, Part, Predicate};

/// Values with less than this share of the exposures and of the failures count as one.
const RARE_SHARE: f64 = 0.001;
/// An attribute with more values than this is an identifier (a site, a cell, a merchant).
const IDENTIFIER_VALUES: usize = 1_000;
/// Values of an identifier that are told apart.
const IDENTIFIER_KEPT: usize = 256;
/// What identifiers are paired with.
const PARTNERS: [&str; 2] = ["firmware", "fw"];
/// Names of the value that says that nothing is known.
const UNKNOWN: [&str; 2] = ["", "unknown"];
/// The value that stands for several.
const OTHER: &str = "…";
/// Unknown leaks the outcome when its shares of failures and of exposures differ by this factor …
const LEAK_FACTOR: f64 = 2.0;
/// … and by more than chance: nats of evidence.
const LEAK_EVIDENCE: f64 = 8.0;
/// No such row.
const NOWHERE: u32 = u32::MAX;

/// One attribute of the table.
#[derive(Debug, Clone)]
pub struct Column {
    /// Position among the attributes of the cells.
    pub input: usize,
    /// Code in the cells of each code here; `None` for the one that stands for several.
    pub values: Vec<Option<u16>>,
    /// Has so many values that it is looked at alone and with a partner only.
    pub is_identifier: bool,
    /// May be paired with identifiers.
    pub is_partner: bool,
    /// Code of each row.
    pub codes: Vec<u16>,
}

/// All of it.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// The attributes that take part.
    pub columns: Vec<Column>,
    /// Exposures in the window.
    pub n: Vec<f64>,
    /// Failures in the window.
    pub k: Vec<f64>,
    /// Exposures in the baseline.
    pub n0: Vec<f64>,
    /// Failures in the baseline.
    pub k0: Vec<f64>,
    /// Attributes of the cells that leak the outcome.
    pub dropped: Vec<usize>,
    /// Row of each cell.
    rows: Vec<u32>,
}

impl Table {
    /// Prepares cells for scanning.
    pub fn new(cells: &Cells) -> Self {
        let mut table = Self::default();
        for (input, attribute) in cells.attributes.iter().enumerate() {
            let Some(codes) = cells.codes.get(input) else { continue };
            let sums = Sums::of(cells, codes, attribute.values.len());
            if sums.leaks(&attribute.values) {
                table.dropped.push(input);
                continue;
            }
            let (code_of, values) = sums.kept(&attribute.values);
            let last = u16::try_from(values.len().saturating_sub(1)).unwrap_or(u16::MAX);
            table.columns.push(Column {
                input,
                is_identifier: attribute.values.len() > IDENTIFIER_VALUES,
                is_partner: PARTNERS.contains(&attribute.name.as_str()),
                codes: codes.iter().map(|code| code_of.get(usize::from(*code)).copied().unwrap_or(last)).collect(),
                values,
            });
        }
        table.collapse(cells);
        table
    }

    /// Makes every combination one row.
    fn collapse(&mut self, cells: &Cells) {
        let length = cells.n.len();
        let width = self.columns.len();
        for column in &mut self.columns {
            column.codes.resize(length, 0);
        }
        let at = |values: &[f64], cell: usize| values.get(cell).copied().unwrap_or(0.0);
        let mut seen = Combinations::new(width);
        let mut tuple = vec![0_u16; width];
        self.rows = vec![NOWHERE; length];
        for cell in 0..length {
            if at(&cells.n, cell) <= 0.0 && at(&cells.n0, cell) <= 0.0 {
                continue;
            }
            for (code, column) in tuple.iter_mut().zip(&self.columns) {
                *code = column.codes[cell];
            }
            self.rows[cell] = seen.number(&tuple);
        }
        let (order, rank) = seen.sorted();
        for (position, column) in self.columns.iter_mut().enumerate() {
            column.codes = order.iter().map(|&number| seen.tuple(number)[position]).collect();
        }
        let zero = vec![0.0; order.len()];
        (self.n, self.k, self.n0, self.k0) = (zero.clone(), zero.clone(), zero.clone(), zero);
        for (cell, number) in self.rows.iter_mut().enumerate() {
            if *number == NOWHERE {
                continue;
            }
            *number = rank[*number as usize];
            let row = *number as usize;
            self.n[row] += at(&cells.n, cell);
            self.k[row] += at(&cells.k, cell);
            self.n0[row] += at(&cells.n0, cell);
            self.k0[row] += at(&cells.k0, cell);
        }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.n.len()
    }

    /// The row that a cell was added to.
    pub fn row_of(&self, cell: usize) -> Option<usize> {
        self.rows.get(cell).filter(|row| **row != NOWHERE).map(|row| *row as usize)
    }

    /// Takes a terminal's part out of the window.
    pub fn subtract(&mut self, part: &Part) {
        for &(cell, n, k) in &part.cells {
            if let Some(row) = self.row_of(cell) {
                self.n[row] = (self.n[row] - n).max(0.0);
                self.k[row] = (self.k[row] - k).max(0.0);
            }
        }
    }

    /// Code of `attribute` in `row`.
    pub fn code(&self, attribute: u8, row: usize) -> u16 {
        self.columns[usize::from(attribute)].codes[row]
    }

    /// Position of `attribute` among the attributes of the cells.
    pub fn input_attribute(&self, attribute: u8) -> usize {
        self.columns[usize::from(attribute)].input
    }

    /// Whether a value may be a condition: what stands for several may not.
    pub fn is_named(&self, attribute: usize, code: usize) -> bool {
        self.columns[attribute].values[code].is_some()
    }

    /// A set in the positions and codes of the cells.
    pub fn predicates(&self, set: &Set) -> Vec<Predicate> {
        let mut predicates: Vec<Predicate> = set
            .predicates()
            .iter()
            .filter_map(|&(attribute, code)| {
                let column = &self.columns[usize::from(attribute)];
                Some(Predicate { attribute: column.input, code: column.values[usize::from(code)]? })
            })
            .collect();
        predicates.sort_unstable();
        predicates
    }

    /// The rows in which all predicates of `set` hold, in order.
    pub fn rows_of(&self, set: &Set) -> Vec<usize> {
        let column = |&(attribute, code): &(u8, u16)| (self.columns[usize::from(attribute)].codes.as_slice(), code);
        match set.predicates() {
            [] => (0..self.len()).collect(),
            [one] => {
                let (codes, code) = column(one);
                (0..self.len()).filter(|&row| codes[row] == code).collect()
            }
            [one, rest @ ..] => {
                let (codes, code) = column(one);
                let rest: Vec<_> = rest.iter().map(column).collect();
                (0..self.len()).filter(|&row| codes[row] == code && rest.iter().all(|(c, v)| c[row] == *v)).collect()
            }
        }
    }
}

/// Exposures and failures by value of one attribute.
struct Sums {
    n: Vec<f64>,
    k: Vec<f64>,
    is_seen: Vec<bool>,
}

impl Sums {
    fn of(cells: &Cells, codes: &[u16], values: usize) -> Self {
        let mut sums = Self { n: vec![0.0; values], k: vec![0.0; values], is_seen: vec![false; values] };
        for (cell, code) in codes.iter().enumerate() {
            let code = usize::from(*code);
            let at = |values: &[f64]| values.get(cell).copied().unwrap_or(0.0);
            if code < values && (at(&cells.n) > 0.0 || at(&cells.n0) > 0.0) {
                sums.n[code] += at(&cells.n);
                sums.k[code] += at(&cells.k);
                sums.is_seen[code] = true;
            }
        }
        sums
    }

    /// Whether the outcome decides if the attribute is known.
    fn leaks(&self, values: &[String]) -> bool {
        let unknown = |sums: &[f64]| -> f64 {
            let named = values.iter().zip(sums).filter(|(value, _)| UNKNOWN.contains(&value.as_str()));
            named.map(|(_, sum)| sum).sum()
        };
        let (n, k): (f64, f64) = (self.n.iter().sum(), self.k.iter().sum());
        let (failures, expected) = (unknown(&self.k), unknown(&self.n) * k / n.max(1.0));
        let evidence = if failures > 0.0 { failures * (failures / expected.max(1e-6)).ln() } else { 0.0 };
        let differs = failures > LEAK_FACTOR * expected || failures * LEAK_FACTOR < expected;
        // Where every value is unknown the shares are the same; where there is no failure nothing can differ.
        differs && evidence - (failures - expected) >= LEAK_EVIDENCE
    }

    /// The new code of each value, and which value each new code stands for.
    fn kept(&self, values: &[String]) -> (Vec<u16>, Vec<Option<u16>>) {
        let (n, k): (f64, f64) = (self.n.iter().sum(), self.k.iter().sum());
        let is_rare = |code: usize| self.n[code] < RARE_SHARE * n && self.k[code] < RARE_SHARE * k;
        let mut common: Vec<usize> = (0..values.len())
            .filter(|&code| self.is_seen[code] && values[code] != OTHER && (!is_rare(code) || n <= 0.0))
            .collect();
        if values.len() > IDENTIFIER_VALUES && common.len() > IDENTIFIER_KEPT {
            // Those with the most failures: only they can be named.
            common.sort_by(|&one, &other| {
                self.k[other].total_cmp(&self.k[one]).then(self.n[other].total_cmp(&self.n[one])).then(one.cmp(&other))
            });
            common.truncate(IDENTIFIER_KEPT);
            common.sort_unstable();
        }
        let code = |number: usize| u16::try_from(number).unwrap_or(u16::MAX);
        let mut kept: Vec<Option<u16>> = common.iter().map(|&value| Some(code(value))).collect();
        let other = code(kept.len());
        let mut code_of = vec![other; values.len()];
        for (new, &old) in common.iter().enumerate() {
            code_of[old] = code(new);
        }
        if (0..values.len()).any(|value| self.is_seen[value] && code_of[value] == other) || kept.is_empty() {
            kept.push(None);
        }
        (code_of, kept)
    }
}

/// Combinations by number: a hash table with open addressing over tuples that lie one behind the other.
struct Combinations {
    width: usize,
    tuples: Vec<u16>,
    count: u32,
    slots: Vec<u32>,
}

impl Combinations {
    fn new(width: usize) -> Self {
        Self { width, tuples: Vec::new(), count: 0, slots: vec![NOWHERE; 1 << 12] }
    }

    fn tuple(&self, number: u32) -> &[u16] {
        &self.tuples[number as usize * self.width..][..self.width]
    }

    fn number(&mut self, tuple: &[u16]) -> u32 {
        if self.count as usize * 2 >= self.slots.len() {
            self.grow();
        }
        let slot = self.slot(tuple);
        if self.slots[slot] == NOWHERE {
            self.slots[slot] = self.count;
            self.tuples.extend_from_slice(tuple);
            self.count += 1;
        }
        self.slots[slot]
    }

    /// Where `tuple` stands or belongs.
    fn slot(&self, tuple: &[u16]) -> usize {
        let mut hash = 0_u64;
        for code in tuple {
            // Multiplication by a large odd number mixes upwards, the rotation brings it back down.
            hash = (hash ^ u64::from(*code)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        }
        let mask = self.slots.len() - 1;
        let mut slot = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) as usize >> 7 & mask;
        while self.slots[slot] != NOWHERE && self.tuple(self.slots[slot]) != tuple {
            slot = (slot + 1) & mask;
        }
        slot
    }

    fn grow(&mut self) {
        self.slots = vec![NOWHERE; self.slots.len() * 4];
        for number in 0..self.count {
            let slot = self.slot(self.tuple(number));
            self.slots[slot] = number;
        }
    }

    /// The numbers in the order of their tuples, and the rank of each number.
    fn sorted(&self) -> (Vec<u32>, Vec<u32>) {
        let mut order: Vec<u32> = (0..self.count).collect();
        order.sort_unstable_by(|&one, &other| self.tuple(one).cmp(self.tuple(other)));
        let mut rank = vec![0; order.len()];
        for (place, &number) in (0..).zip(&order) {
            rank[number as usize] = place;
        }
        (order, rank)
    }
}
