//! Cells as a table that anybody can recompute: CSV with one column for each attribute, then the counts.

use std::collections::{BTreeSet, HashMap};
use std::io::Write;

use super::localize::{Attribute, Cells, Part, Predicate};

/// Attributes of a file: the scan looks at every pair of them.
pub const ATTRIBUTES_MAX: usize = 64;
/// Values of one attribute that are told apart; codes are 16 bits wide. Of more, those with the fewest failures count as
/// one.
const VALUES_MAX: usize = 60_000;
/// What stands for the rest.
const OTHER: &str = "…";
/// Columns of counts, and the one that says which terminal a row is of.
const EXPOSURES: &str = "exposures";
const FAILURES: &str = "failures";
const BASE_EXPOSURES: &str = "base_exposures";
const BASE_FAILURES: &str = "base_failures";
const TERMINAL: &str = "terminal_id";

/// Why a file cannot be read. The text says where, and what to do.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct Unreadable(String);

/// A file, read.
#[derive(Debug)]
pub struct CellsFile {
    /// The rows.
    pub cells: Cells,
    /// Whether it has counts of a baseline.
    pub has_base: bool,
    /// The terminal of each row, by number, where the file tells it.
    terminals: Vec<u32>,
}

impl CellsFile {
    /// The terminal with the most failures where all of `set` hold, where the file tells terminals.
    pub fn worst_terminal(&self, set: &[Predicate]) -> Option<Part> {
        /// Failures of one terminal, and its part in each row.
        type Share = (f64, Vec<(usize, f64, f64)>);
        let mut parts: HashMap<u32, Share> = HashMap::new();
        for (row, terminal) in self.terminals.iter().enumerate() {
            if set.iter().all(|p| self.cells.codes[p.attribute][row] == p.code) {
                let part = parts.entry(*terminal).or_default();
                part.0 += self.cells.k[row];
                part.1.push((row, self.cells.n[row], self.cells.k[row]));
            }
        }
        let (terminal, (_, cells)) =
            parts.into_iter().max_by(|one, other| one.1.0.total_cmp(&other.1.0).then(other.0.cmp(&one.0)))?;
        Some(Part { terminal_id: i64::from(terminal), cells })
    }
}

/// Positions of the columns.
struct Columns {
    attributes: Vec<usize>,
    exposures: usize,
    failures: usize,
    base: Option<(usize, usize)>,
    terminal: Option<usize>,
}

/// Reads a table: UTF-8 with or without byte order mark, comma, semicolon or tab, any line ends, columns in any order.
///
/// # Errors
/// [`Unreadable`] for the first thing that cannot be understood, with its line.
pub fn read(bytes: &[u8]) -> Result<CellsFile, Unreadable> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        Unreadable(format!("line {line}: is no UTF-8 text; save the file as UTF-8 CSV"))
    })?;
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter(text))
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let mut record = csv::StringRecord::new();
    if !next(&mut reader, &mut record)? {
        return Err(Unreadable("the file is empty; it needs a header".into()));
    }
    let header: Vec<String> = record.iter().map(str::to_owned).collect();
    let columns = columns(&header)?;
    let mut dictionaries: Vec<HashMap<String, u32>> = vec![HashMap::new(); columns.attributes.len()];
    let mut numbers: Vec<Vec<u32>> = vec![Vec::new(); columns.attributes.len()];
    let mut terminals: HashMap<String, u32> = HashMap::new();
    let mut file = CellsFile { cells: Cells::default(), has_base: columns.base.is_some(), terminals: Vec::new() };
    while next(&mut reader, &mut record)? {
        let line = record.position().map_or(0, csv::Position::line);
        if record.iter().all(str::is_empty) && record.len() <= 1 {
            continue;
        }
        if record.len() != header.len() {
            return Err(at(line, format!("has {} fields, the header {}", record.len(), header.len())));
        }
        let field = |column: usize| record.get(column).unwrap_or_default();
        let count = |column: usize| count(field(column), line, &header[column]);
        let (n, k) = (count(columns.exposures)?, count(columns.failures)?);
        let (n0, k0) = match columns.base {
            Some((exposures, failures)) => (count(exposures)?, count(failures)?),
            None => (0.0, 0.0),
        };
        for (failures, exposures, [of, out_of]) in
            [(k, n, [FAILURES, EXPOSURES]), (k0, n0, [BASE_FAILURES, BASE_EXPOSURES])]
        {
            if failures > exposures {
                return Err(at(
                    line,
                    format!(
                        "{of} {failures} is more than {out_of} {exposures}; an attempt fails once at most: count attempts, not events, in both"
                    ),
                ));
            }
        }
        for ((numbers, dictionary), column) in numbers.iter_mut().zip(&mut dictionaries).zip(&columns.attributes) {
            numbers.push(number(dictionary, field(*column)));
        }
        if let Some(terminal) = columns.terminal {
            file.terminals.push(number(&mut terminals, field(terminal)));
        }
        let cells = &mut file.cells;
        for (column, value) in [(&mut cells.n, n), (&mut cells.k, k), (&mut cells.n0, n0), (&mut cells.k0, k0)] {
            column.push(value);
        }
    }
    for ((column, dictionary), numbers) in columns.attributes.iter().zip(dictionaries).zip(numbers) {
        let (values, codes) = code(dictionary, &numbers, &file.cells.k);
        file.cells.attributes.push(Attribute { name: header[*column].clone(), values });
        file.cells.codes.push(codes);
    }
    Ok(file)
}

/// Writes cells as [`read`] reads them; combinations without any exposure are left out.
///
/// # Errors
/// When `out` cannot be written.
pub fn write(cells: &Cells, out: impl Write) -> Result<(), csv::Error> {
    let mut writer = csv::Writer::from_writer(out);
    let names = cells.attributes.iter().map(|attribute| attribute.name.as_str());
    writer.write_record(names.chain([EXPOSURES, FAILURES, BASE_EXPOSURES, BASE_FAILURES]))?;
    for row in 0..cells.n.len() {
        if cells.n[row] <= 0.0 && cells.n0[row] <= 0.0 {
            continue;
        }
        let value = |(attribute, codes): (&Attribute, &Vec<u16>)| attribute.values[usize::from(codes[row])].clone();
        let values = cells.attributes.iter().zip(&cells.codes).map(value);
        let counts = [cells.n[row], cells.k[row], cells.n0[row], cells.k0[row]].map(|count| count.to_string());
        writer.write_record(values.chain(counts))?;
    }
    Ok(writer.flush()?)
}

fn at(line: u64, problem: impl std::fmt::Display) -> Unreadable {
    Unreadable(format!("line {line}: {problem}"))
}

fn next(reader: &mut csv::Reader<&[u8]>, record: &mut csv::StringRecord) -> Result<bool, Unreadable> {
    reader.read_record(record).map_err(|error| {
        let line = error.position().map_or(0, csv::Position::line);
        at(line, format!("is no CSV: {error}"))
    })
}

/// The separator: whichever the header has most of.
fn delimiter(text: &str) -> u8 {
    let header = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let count = |separator: u8| header.bytes().filter(|byte| *byte == separator).count();
    [b'\t', b';', b','].into_iter().max_by_key(|separator| count(*separator)).unwrap_or(b',')
}

fn columns(header: &[String]) -> Result<Columns, Unreadable> {
    let mut seen = BTreeSet::new();
    for name in header {
        if name.is_empty() {
            return Err(at(1, "a column has no name; every attribute needs one"));
        }
        if !seen.insert(name.to_lowercase()) {
            return Err(at(1, format!("the column \"{name}\" stands there twice; rename or remove one")));
        }
    }
    let find = |name: &str| header.iter().position(|column| column.eq_ignore_ascii_case(name));
    let need = |name: &str| {
        let found = header.join(", ");
        find(name).ok_or_else(|| at(1, format!("there is no column \"{name}\"; found: {found}")))
    };
    let (exposures, failures) = (need(EXPOSURES)?, need(FAILURES)?);
    let base = match (find(BASE_EXPOSURES), find(BASE_FAILURES)) {
        (Some(exposures), Some(failures)) => Some((exposures, failures)),
        (None, None) => None,
        (Some(_), None) => return Err(at(1, format!("{BASE_EXPOSURES} needs {BASE_FAILURES} beside it"))),
        (None, Some(_)) => return Err(at(1, format!("{BASE_FAILURES} needs {BASE_EXPOSURES} beside it"))),
    };
    let terminal = find(TERMINAL);
    let taken = [Some(exposures), Some(failures), base.map(|base| base.0), base.map(|base| base.1), terminal];
    let attributes: Vec<usize> = (0..header.len()).filter(|column| !taken.contains(&Some(*column))).collect();
    if attributes.len() > ATTRIBUTES_MAX {
        return Err(at(1, format!("there are {} attributes, {ATTRIBUTES_MAX} are read at most", attributes.len())));
    }
    Ok(Columns { attributes, exposures, failures, base, terminal })
}

/// A count: zero or more, also with decimals.
fn count(text: &str, line: u64, name: &str) -> Result<f64, Unreadable> {
    /// Sums of counts stay exact below 2^53.
    const COUNT_MAX: f64 = 1e12;
    match text.parse::<f64>() {
        Ok(count) if (0.0..=COUNT_MAX).contains(&count) => Ok(count),
        Ok(_) | Err(_) => Err(at(
            line,
            format!("{name} is \"{text}\"; it must be a number from 0 to 1000000000000, like 120 or 12.5"),
        )),
    }
}

fn number(dictionary: &mut HashMap<String, u32>, value: &str) -> u32 {
    if let Some(known) = dictionary.get(value) {
        return *known;
    }
    let next = u32::try_from(dictionary.len()).unwrap_or(u32::MAX);
    dictionary.insert(value.to_owned(), next);
    next
}

/// The values of an attribute in the order of their names, and the code of each row.
fn code(dictionary: HashMap<String, u32>, numbers: &[u32], failures: &[f64]) -> (Vec<String>, Vec<u16>) {
    let mut values: Vec<(String, u32)> = dictionary.into_iter().collect();
    let mut has_other = false;
    if values.len() > VALUES_MAX {
        let mut sums = vec![0.0; values.len()];
        for (number, failed) in numbers.iter().zip(failures) {
            sums[*number as usize] += failed;
        }
        let sum = |number: u32| sums[number as usize];
        values.sort_by(|one, other| sum(other.1).total_cmp(&sum(one.1)).then_with(|| one.0.cmp(&other.0)));
        values.truncate(VALUES_MAX);
        has_other = true;
    }
    values.sort();
    let other = u16::try_from(values.len()).unwrap_or(u16::MAX);
    let mut code_of: HashMap<u32, u16> = HashMap::with_capacity(values.len());
    for (code, (_, number)) in (0_u16..).zip(&values) {
        code_of.insert(*number, code);
    }
    let codes = numbers.iter().map(|number| code_of.get(number).copied().unwrap_or(other)).collect();
    let names = values.into_iter().map(|(value, _)| value).chain(has_other.then(|| OTHER.to_owned())).collect();
    (names, codes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        read(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_table_is_read_however_it_was_saved() {
        let plain = "fw,net,exposures,failures,base_exposures,base_failures\n4.2,2g,10,3,100.5,4\n4.1,,20,0,0,0\n";
        let file = read(plain.as_bytes()).unwrap();
        assert!(file.has_base);
        assert_eq!((file.cells.n.as_slice(), file.cells.n0.as_slice()), (&[10.0, 20.0][..], &[100.5, 0.0][..]));
        assert_eq!(file.cells.attributes[0].values, ["4.1", "4.2"]);
        assert_eq!(file.cells.attributes[1].values, ["", "2g"]);
        for other in [
            "\u{feff}Failures;FW;NET;Exposures;Base_Failures;base_exposures\r\n3;4.2;2g;10;4;100.5\r\n\r\n0;4.1;;20;0;0",
            "exposures\tfailures\tfw\tnet\tbase_exposures\tbase_failures\n10\t3\t\"4.2\"\t 2g \t100.5\t4\n20\t0\t4.1\t\t0\t0\n",
        ] {
            let other = read(other.as_bytes()).unwrap();
            assert_eq!(other.cells.codes, file.cells.codes);
            assert_eq!((other.cells.n, other.cells.k0), (file.cells.n.clone(), file.cells.k0.clone()));
        }
        let quoted = read(b"place,exposures,failures\n\"a, \"\"b\"\"\nc\",2,1\n").unwrap();
        assert_eq!(quoted.cells.attributes[0].values, ["a, \"b\"\nc"]);
        assert!(!quoted.has_base);
        assert_eq!(read(b"exposures,failures\n").unwrap().cells.n.len(), 0);
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_its_line_and_what_to_do() {
        for (text, expected) in [
            ("", "the file is empty; it needs a header"),
            ("fw,failures\n", "line 1: there is no column \"exposures\"; found: fw, failures"),
            ("fw,FW,exposures,failures\n", "line 1: the column \"FW\" stands there twice; rename or remove one"),
            ("fw,,exposures,failures\n", "line 1: a column has no name; every attribute needs one"),
            ("exposures,failures,base_failures\n", "line 1: base_failures needs base_exposures beside it"),
            ("fw,exposures,failures\na,1\n", "line 2: has 2 fields, the header 3"),
            ("fw,exposures,failures\na,1,0\nb,x,0\n", "line 3: exposures is \"x\"; it must be a number"),
            ("fw,exposures,failures\na,1,-1\n", "line 2: failures is \"-1\"; it must be a number"),
            ("fw,exposures,failures\na,NaN,0\n", "line 2: exposures is \"NaN\"; it must be a number"),
            ("fw,exposures,failures\na,,0\n", "line 2: exposures is \"\"; it must be a number"),
            ("fw,exposures,failures\na,3,4\n", "line 2: failures 4 is more than exposures 3; an attempt fails once"),
        ] {
            assert!(refusal(text).starts_with(expected), "{text:?}: {}", refusal(text));
        }
        let error = read(b"fw,exposures,failures\na,1,0\n\xff,1,0\n").unwrap_err().to_string();
        assert!(error.starts_with("line 3: is no UTF-8 text"), "{error}");
    }

    #[test]
    fn what_is_written_is_read_back() {
        let text = "fw,place,exposures,failures,base_exposures,base_failures\n\"4,2\",\"a\"\"b\",10,3,100.5,4\n,北京,20,0,0,0\n";
        let cells = read(text.as_bytes()).unwrap().cells;
        let mut out = Vec::new();
        write(&cells, &mut out).unwrap();
        assert_eq!(read(&out).unwrap().cells, cells);
    }

    #[test]
    fn an_attribute_with_more_values_than_codes_keeps_those_that_fail() {
        let mut text = "cell,exposures,failures\n".to_owned();
        for value in 0..70_000 {
            text.push_str(&format!("c{value},1,{}\n", u32::from(value >= 20_000)));
        }
        let cells = read(text.as_bytes()).unwrap().cells;
        assert_eq!(cells.attributes[0].values.len(), VALUES_MAX + 1);
        assert!(cells.attributes[0].values.contains(&"c69999".to_owned()));
        assert_eq!(cells.n.iter().sum::<f64>(), 70_000.0);
    }
}
