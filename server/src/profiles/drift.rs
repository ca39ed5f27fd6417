//! Drift: a terminal that goes on reporting another config hash than the one it was told. It is watched, then asked
//! once to fetch and apply the set again, then there is an alarm. It ends when both agree, or when something else is
//! expected.
//!
//! A check-in is answered with what is expected, and the next one says what came of it: so the first check-in that
//! differs is the one in which the terminal is told, and those after it are misses. The state row of the terminal
//! counts them; a row of `config_drifts` exists from the first miss on.

use serde::{Deserialize, Serialize};

use super::store;
use crate::clock::Now;
use crate::db::{self, Conn};
use crate::failures::incidents::{self, Level, NewIncident};
use crate::operators::Scope;

/// Misses that are waited for: a terminal may be cut off while it fetches.
const MISSES_WATCHED: i64 = 2;
/// Check-ins after the repair was asked for that are waited for.
const MISSES_REPAIRING: i64 = 2;
/// The first miss at which the terminal is asked to apply the set again.
const REPAIR_AT: i64 = MISSES_WATCHED + 1;
/// The first miss at which there is an alarm.
const ALARM_AT: i64 = REPAIR_AT + MISSES_REPAIRING;

/// What is remembered of a terminal between its check-ins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Watch<'a> {
    /// The config hash that it was told while it reported another.
    pub told: Option<&'a str>,
    /// Check-ins since then that reported another one still.
    pub misses: i64,
}

impl<'a> Watch<'a> {
    /// After a check-in that was counted, in the answer to which the terminal is told `expected`.
    pub fn step(self, expected: Option<&'a str>, reported: Option<&str>) -> Self {
        match expected {
            Some(hash) if reported == Some(hash) => Self::default(),
            Some(hash) if self.told == Some(hash) => Self { told: Some(hash), misses: self.misses.saturating_add(1) },
            told => Self { told, misses: 0 },
        }
    }

    /// As it is, if `expected` is what the terminal was told; for check-ins that were counted before.
    pub fn told_still(self, expected: Option<&str>) -> Self {
        if self.told == expected { self } else { Self::default() }
    }

    /// Which attempt at applying the set the terminal is asked for; 0 for none but its own.
    pub fn attempt(self) -> u32 {
        u32::from(self.misses >= REPAIR_AT)
    }

    /// What the step from `self` to `after` means for the terminal's row in `config_drifts`.
    pub fn change(self, after: Self) -> Change {
        match (self.misses, after.misses) {
            (0, 0) => Change::None,
            (_, 0) => Change::Ends,
            (_, 1) => Change::Begins,
            (_, REPAIR_AT) => Change::Repairs,
            (_, ALARM_AT) => Change::Alarms,
            (_, _) => Change::None,
        }
    }
}

/// What a check-in changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// The first miss.
    Begins,
    /// The terminal is asked to apply the set again.
    Repairs,
    /// That did not help.
    Alarms,
    /// Both agree, or something else is expected.
    Ends,
}

/// How far a drift got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DriftState {
    /// It was seen, and may end by itself.
    Watching,
    /// The terminal was asked to fetch and apply the set again.
    Repairing,
    /// That did not help: somebody has to look.
    Alarmed,
}

impl DriftState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Watching, Self::Repairing, Self::Alarmed];

    /// Name in tables and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Watching => "watching",
            Self::Repairing => "repairing",
            Self::Alarmed => "alarmed",
        }
    }

    /// The state of this name; the table's own check lets no other in.
    pub(super) fn parse(name: &str) -> Self {
        Self::ALL.into_iter().find(|state| state.as_str() == name).unwrap_or(Self::Alarmed)
    }
}

/// A terminal that drifts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = ConfigDrift)]
pub struct Drift {
    /// Terminal.
    pub terminal_id: i64,
    /// Its serial number.
    pub sn: String,
    /// Its organization, as a path.
    pub org_path: String,
    /// How far it got.
    pub state: DriftState,
    /// The config hash that it was told.
    pub expected: String,
    /// The one that it reported last.
    pub reported: Option<String>,
    /// When it first reported another one after it was told, Unix ms.
    pub since_ms: i64,
    /// Since when it is in this state, Unix ms.
    pub state_since_ms: i64,
}

/// A check-in that changed something about its terminal's drift.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Noted<'a> {
    /// Terminal.
    pub terminal_id: i64,
    /// Its organization, as a path.
    pub org_path: &'a str,
    /// What it is told.
    pub expected: Option<&'a str>,
    /// What it reported.
    pub reported: Option<&'a str>,
    /// What changed.
    pub change: Change,
}

/// Writes what check-ins changed, in their own transaction. One statement for each kind of change that occurs.
///
/// # Errors
/// [`db::Error`].
pub fn note(conn: &mut Conn, noted: &[Noted<'_>], now: Now) -> Result<(), db::Error> {
    let all = |change: Change| noted.iter().filter(move |each| each.change == change);
    let ids = |change: Change| all(change).map(|each| each.terminal_id).collect::<Vec<_>>();
    store::drifts::end(conn, &ids(Change::Ends))?;
    let begun: Vec<(i64, &str)> =
        all(Change::Begins).filter_map(|each| Some((each.terminal_id, each.expected?))).collect();
    store::drifts::begin(conn, &begun, now)?;
    store::drifts::enter(conn, &ids(Change::Repairs), DriftState::Repairing, now)?;
    store::drifts::enter(conn, &ids(Change::Alarms), DriftState::Alarmed, now)?;
    let repairs = u64::try_from(all(Change::Repairs).count()).unwrap_or(0);
    metrics::counter!("tillward_config_repairs_total").increment(repairs);
    let mut alarms = Vec::new();
    for each in all(Change::Alarms) {
        alarms.push(alarm(conn, each)?);
    }
    metrics::counter!("tillward_config_alarms_total").increment(u64::try_from(alarms.len()).unwrap_or(0));
    incidents::open_all(conn, alarms, now).map(drop)
}

/// The incident of a terminal that did not take its parameters, also not when it was asked again: one for each drift.
fn alarm(conn: &mut Conn, drift: &Noted<'_>) -> Result<NewIncident, db::Error> {
    let sn = store::drifts::sn(conn, drift.terminal_id)?;
    Ok(NewIncident {
        kind: incidents::Kind::ConfigDrift,
        level: Level::P3,
        org_path: drift.org_path.to_owned(),
        key: format!("terminal:{}", drift.terminal_id),
        subject: sn.unwrap_or_else(|| drift.terminal_id.to_string()),
        evidence: serde_json::json!({"expected": drift.expected, "observed": drift.reported}),
        rollout_id: None,
        release_id: None,
        terminal_ids: vec![drift.terminal_id],
        affected: 1,
    })
}

/// Terminals of the scope that drift, by number, after the terminal `after`.
///
/// # Errors
/// [`db::Error`].
pub fn list(
    conn: &mut Conn,
    scope: &Scope,
    state: Option<DriftState>,
    after: Option<i64>,
    limit: u32,
) -> Result<Vec<Drift>, db::Error> {
    store::drifts::list(conn, scope, state, after.unwrap_or(0), i64::from(limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps through what check-ins reported while `expected` was told; returns misses, attempt and change of each.
    fn walk<'a>(
        watch: &mut Watch<'a>,
        expected: Option<&'a str>,
        reported: &[Option<&str>],
    ) -> Vec<(i64, u32, Change)> {
        let step = |reported: &Option<&str>| {
            let before = *watch;
            *watch = before.step(expected, *reported);
            (watch.misses, watch.attempt(), before.change(*watch))
        };
        reported.iter().map(step).collect()
    }

    #[test]
    fn a_drift_is_watched_then_repaired_once_then_alarmed_and_ends_when_both_agree() {
        let mut watch = Watch::default();
        assert_eq!(
            walk(&mut watch, Some("new"), &[Some("old"); 7]),
            [
                (0, 0, Change::None),
                (1, 0, Change::Begins),
                (2, 0, Change::None),
                (3, 1, Change::Repairs),
                (4, 1, Change::None),
                (5, 1, Change::Alarms),
                (6, 1, Change::None),
            ]
        );
        assert_eq!(walk(&mut watch, Some("new"), &[Some("new"); 2]), [(0, 0, Change::Ends), (0, 0, Change::None)]);
        assert_eq!(watch, Watch::default());
    }

    #[test]
    fn a_terminal_that_takes_what_it_is_told_never_drifts() {
        let mut watch = Watch::default();
        for (expected, before) in [("a", None), ("b", Some("a")), ("c", Some("b"))] {
            let reported = [before, Some(expected), Some(expected)];
            assert_eq!(walk(&mut watch, Some(expected), &reported), [(0, 0, Change::None); 3]);
        }
    }

    #[test]
    fn another_expectation_begins_anew() {
        let mut watch = Watch::default();
        walk(&mut watch, Some("a"), &[None; 5]);
        assert_eq!(watch, Watch { told: Some("a"), misses: 4 });
        assert_eq!(walk(&mut watch, Some("b"), &[None; 2]), [(0, 0, Change::Ends), (1, 0, Change::Begins)]);
        assert_eq!(walk(&mut watch, None, &[None, Some("x")]), [(0, 0, Change::Ends), (0, 0, Change::None)]);
        assert_eq!(watch, Watch::default());
    }
}
