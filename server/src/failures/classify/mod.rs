//! Why one payment failed, or arrived otherwise than it was sent: the ordered rules R0–R11 as pure functions of what is
//! known.
//!
//! The first rule that matches is the verdict, later ones are kept as alternatives. What is not available is never taken
//! for a match: it is named as not checked. A condition of network or device is an input of no rule that speaks of
//! merchants or money, so that a weak signal cannot explain another merchant's name; a fee is no fault. Duplicates (R0)
//! are gone before: an event is stored once.

mod event;
mod facts;
mod names;
mod settlement;
mod tables;
#[cfg(test)]
mod tests;
mod thresholds;
mod verdict;

pub use event::judge_event;
pub use facts::{
    Binding, Boot, CardReadRun, EventFacts, FeedRow, FeedStatus, Happened, NumberKnown, OwnUpdate, ReaderCounts,
    SecondOrder, SettlementFacts, TerminalSide,
};
pub use names::{normalized, similarity_percent};
pub use settlement::judge_settlement;
pub use tables::{
    CELL_CHARS_MAX, CauseRow, CodeCondition, CodeRow, OVERRIDES_MAX, Override, PROVENANCE, RawTable, RawTables,
    RiskClass, Row, TableError, TableName, Tables,
};
pub use thresholds::Thresholds;
pub use verdict::{
    Cause, EvidenceLevel, Family, Finding, FindingKind, Judgement, NotChecked, Reason, Rule, Segment, Severity,
    Standing, Symptom, Verdict,
};

/// One thing that was looked at.
fn seen(
    rule: Rule,
    field: &str,
    observed: impl std::fmt::Display,
    threshold: impl std::fmt::Display,
    weight: f64,
) -> Reason {
    Reason { rule, field: field.to_owned(), observed: observed.to_string(), threshold: threshold.to_string(), weight }
}
