//! How long statements and transactions take, for benchmarks and for nothing else: without [`watch`] a connection has no
//! instrumentation at all.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use diesel::connection::{Instrumentation, InstrumentationEvent, set_default_instrumentation};
use hdrhistogram::Histogram;

use super::Error;

/// Statements from this on are kept by name; the others are only counted.
const NAMED_FROM: Duration = Duration::from_millis(5);
/// Longest time that is told apart, µs.
const LONGEST_US: u64 = 600_000_000;
/// Longest name of a statement, characters.
const NAME_CHARS_MAX: usize = 160;

/// What was measured since the last [`take`].
#[derive(Debug, Clone)]
pub struct Timings {
    /// Every statement, µs, commits among them.
    pub statements: Histogram<u64>,
    /// Every transaction that was committed, from its begin on, µs.
    pub transactions: Histogram<u64>,
    /// The slow statements by name: how many, and the longest of them.
    pub slow: BTreeMap<String, (u64, Duration)>,
}

static TIMINGS: Mutex<Option<Timings>> = Mutex::new(None);

fn timings() -> MutexGuard<'static, Option<Timings>> {
    // Counts stay counts, whoever panicked between them.
    TIMINGS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Timings {
    fn new() -> Option<Self> {
        let empty = || Histogram::new_with_bounds(1, LONGEST_US, 2).ok();
        Some(Self { statements: empty()?, transactions: empty()?, slow: BTreeMap::new() })
    }

    /// The longest statement and how long it took; `None` when every one was fast.
    pub fn longest(&self) -> Option<(&str, Duration)> {
        self.slow.iter().map(|(name, (_, longest))| (name.as_str(), *longest)).max_by_key(|(_, longest)| *longest)
    }
}

/// Measures all statements of every connection that is opened from now on, in the whole process.
///
/// # Errors
/// Never in practice: a lock that panicked.
pub fn watch() -> Result<(), Error> {
    *timings() = Timings::new();
    Ok(set_default_instrumentation(|| Some(Box::new(Watch::default())))?)
}

/// What was measured since the last call; `None` unless [`watch`] was called.
pub fn take() -> Option<Timings> {
    let mut timings = timings();
    let fresh = timings.is_some().then(Timings::new).flatten();
    std::mem::replace(&mut *timings, fresh)
}

/// One connection's clock.
#[derive(Debug, Default)]
struct Watch {
    statement: Option<Instant>,
    transaction: Option<Instant>,
    is_committing: bool,
}

fn us(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(LONGEST_US)
}

impl Instrumentation for Watch {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        match event {
            InstrumentationEvent::StartQuery { .. } => self.statement = Some(Instant::now()),
            InstrumentationEvent::FinishQuery { query, .. } => {
                let Some(started) = self.statement.take() else { return };
                let taken = started.elapsed();
                let ended = self.transaction.filter(|_| self.is_committing);
                if let Some(timings) = timings().as_mut() {
                    timings.statements.saturating_record(us(started).max(1));
                    if taken >= NAMED_FROM {
                        let (count, longest) = timings.slow.entry(name(&query.to_string())).or_default();
                        (*count, *longest) = (*count + 1, taken.max(*longest));
                    }
                    if let Some(began) = ended {
                        timings.transactions.saturating_record(us(began).max(1));
                    }
                }
                if ended.is_some() {
                    (self.transaction, self.is_committing) = (None, false);
                }
            }
            InstrumentationEvent::BeginTransaction { .. } => {
                (self.transaction, self.is_committing) = (Some(Instant::now()), false);
            }
            InstrumentationEvent::CommitTransaction { .. } => self.is_committing = true,
            InstrumentationEvent::RollbackTransaction { .. } => (self.transaction, self.is_committing) = (None, false),
            _ => {}
        }
    }
}

/// A statement's text without its values, its lists of columns and its lists of parameters.
fn name(sql: &str) -> String {
    let text = sql.split(" -- binds").next().unwrap_or_default().replace(['"', '`'], "");
    let words: Vec<&str> = text.split_whitespace().collect();
    let (first, rest) = words.split_first().map_or(("", &[][..]), |(first, rest)| (*first, rest));
    let end_of_list = match first {
        "SELECT" => "FROM",
        "UPDATE" => "WHERE",
        "INSERT" => "VALUES",
        _ => "",
    };
    let target = if first == "SELECT" { &[][..] } else { rest.get(..rest.len().min(2)).unwrap_or_default() };
    let list_end = rest.iter().position(|word| *word == end_of_list);
    let tail = list_end.and_then(|at| rest.get(at..)).unwrap_or(rest);
    let mut short = first.to_owned();
    let is_parameter = |word: &str| {
        let word = word.trim_matches(['(', ')', ',']);
        word == "?" || word.strip_prefix('$').is_some_and(|digits| digits.parse::<u32>().is_ok())
    };
    let mut was_parameter = false;
    let kept = if list_end.is_some() { target } else { &[] };
    for word in kept.iter().chain(tail) {
        let is_parameter = is_parameter(word);
        if !(is_parameter && was_parameter) {
            short.push(' ');
            short.push_str(word);
        }
        was_parameter = is_parameter;
    }
    short.chars().take(NAME_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_named_by_what_it_touches_and_how_it_finds_it() {
        for (sql, expected) in [
            (
                r#"SELECT "a"."x", "a"."y" FROM "a" WHERE ("a"."id" IN ($1, $2, $3)) -- binds: [1, 2, 3]"#,
                "SELECT FROM a WHERE (a.id IN ($1,",
            ),
            ("UPDATE `a` SET `x` = ?, `y` = ? WHERE (`a`.`id` = ?)", "UPDATE a SET WHERE (a.id = ?)"),
            ("INSERT INTO `a` (`x`, `y`) VALUES (?, ?), (?, ?)", "INSERT INTO a VALUES (?,"),
            ("COMMIT", "COMMIT"),
        ] {
            assert_eq!(name(sql), expected);
        }
        assert_eq!(name(&"x".repeat(1_000)).len(), NAME_CHARS_MAX);
    }
}
