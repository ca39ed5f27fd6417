//! The states of an incident. Pure and total: every event in every state has an answer, and the whole table is a snapshot.
//!
//! No state ends by itself: only a person resolves an incident. What its time limit ends is the silence: [`Event::Remind`]
//! tells people again, later and later, until somebody carries it on.

use super::Level;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
/// A mitigation is looked at again after this, whatever the level: it either holds and is resolved, or it does not.
pub const MITIGATED_MS_MAX: i64 = 7 * DAY_MS;
/// No pause between two reminders is longer.
pub const REMINDER_MS_MAX: i64 = 7 * DAY_MS;
/// Each reminder that changes nothing doubles the pause to the next, at most this often.
const DOUBLINGS_MAX: u32 = 10;
/// What comes back within this reopens its incident; later it is another one. A week has every hour of the week in it.
pub const REOPEN_MS_MAX: i64 = 7 * DAY_MS;

/// Where an incident is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Nobody has taken it on.
    Open,
    /// Somebody looks after it.
    Acknowledged,
    /// The harm has stopped; its cause may still be there.
    Mitigated,
    /// Over.
    Resolved,
}

/// What may happen to an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// The same thing was seen again.
    Recur,
    /// Somebody takes it on.
    Acknowledge,
    /// The harm has stopped.
    Mitigate,
    /// It is over.
    Resolve,
    /// It gets an owner.
    Assign,
    /// Somebody adds to its story.
    Note,
    /// Its time limit passed.
    Remind,
}

impl Event {
    /// Every event.
    pub const ALL: [Self; 7] =
        [Self::Recur, Self::Acknowledge, Self::Mitigate, Self::Resolve, Self::Assign, Self::Note, Self::Remind];

    /// Its name, for refusals, the timeline and the audit log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Recur => "recur",
            Self::Acknowledge => "acknowledge",
            Self::Mitigate => "mitigate",
            Self::Resolve => "resolve",
            Self::Assign => "assign",
            Self::Note => "note",
            Self::Remind => "remind",
        }
    }
}

/// The event cannot happen in this state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an incident that is {state} cannot {event}")]
pub struct Refusal {
    /// The state's name.
    pub state: &'static str,
    /// The event's name.
    pub event: &'static str,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Open, Self::Acknowledged, Self::Mitigated, Self::Resolved];

    /// Name in tables, URLs and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Acknowledged => "acknowledged",
            Self::Mitigated => "mitigated",
            Self::Resolved => "resolved",
        }
    }

    /// The state of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// How long it may stay so before people are reminded, ms, when `reminders` have been sent already; `None` once it is
    /// over.
    pub fn time_limit_ms(self, level: Level, reminders: u32) -> Option<i64> {
        let first_ms = match (self, level) {
            (Self::Open, Level::P1) => 15 * MINUTE_MS,
            (Self::Open, Level::P2) => HOUR_MS,
            (Self::Open, Level::P3) => DAY_MS,
            (Self::Acknowledged, Level::P1) => 4 * HOUR_MS,
            (Self::Acknowledged, Level::P2) => DAY_MS,
            (Self::Acknowledged, Level::P3) => 7 * DAY_MS,
            (Self::Mitigated, Level::P1 | Level::P2 | Level::P3) => MITIGATED_MS_MAX,
            (Self::Resolved, Level::P1 | Level::P2 | Level::P3) => return None,
        };
        Some((first_ms << reminders.min(DOUBLINGS_MAX)).min(REMINDER_MS_MAX))
    }

    /// Whether what is seen at `now_ms` still belongs to an incident in this state.
    pub fn takes_up(self, resolved_at_ms: Option<i64>, now_ms: i64) -> bool {
        match self {
            Self::Open | Self::Acknowledged | Self::Mitigated => true,
            Self::Resolved => resolved_at_ms.is_some_and(|at_ms| now_ms.saturating_sub(at_ms) <= REOPEN_MS_MAX),
        }
    }
}

/// The state after `event`.
///
/// # Errors
/// [`Refusal`] when the event cannot happen in this state.
pub fn step(state: State, event: Event) -> Result<State, Refusal> {
    use Event as E;
    use State as S;
    match (state, event) {
        (S::Open, E::Acknowledge) => Ok(S::Acknowledged),
        (S::Open | S::Acknowledged, E::Mitigate) => Ok(S::Mitigated),
        (S::Open | S::Acknowledged | S::Mitigated, E::Resolve) => Ok(S::Resolved),
        // The mitigation does not hold, or it was not over: somebody has to look again.
        (S::Open | S::Mitigated | S::Resolved, E::Recur) => Ok(S::Open),
        (S::Acknowledged, E::Recur) => Ok(S::Acknowledged),
        (S::Open | S::Acknowledged | S::Mitigated, E::Assign | E::Note | E::Remind) | (S::Resolved, E::Note) => {
            Ok(state)
        }
        (S::Acknowledged | S::Mitigated, E::Acknowledge)
        | (S::Mitigated, E::Mitigate)
        | (S::Resolved, E::Acknowledge | E::Mitigate | E::Resolve | E::Assign | E::Remind) => {
            Err(Refusal { state: state.as_str(), event: event.as_str() })
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_whole_table_is_as_agreed() {
        let mut table = String::new();
        for state in State::ALL {
            for event in Event::ALL {
                let outcome = step(state, event).map_or("refused", State::as_str);
                table.push_str(&format!("{:<12} {:<11} -> {outcome}\n", state.as_str(), event.as_str()));
            }
        }
        for state in State::ALL {
            for level in Level::ALL {
                let limit = |reminders| match state.time_limit_ms(level, reminders) {
                    Some(ms) => format!("{} min", ms / MINUTE_MS),
                    None => "never".to_owned(),
                };
                let limits = [0, 1, 2, 60].map(limit).join(", ");
                table.push_str(&format!("{:<12} {}: reminds after {limits}\n", state.as_str(), level.as_str()));
            }
        }
        insta::assert_snapshot!(table);
    }

    #[test]
    fn a_state_survives_its_name() {
        for state in State::ALL {
            assert_eq!(State::parse(state.as_str()), Some(state));
        }
        assert_eq!(State::parse("surprise"), None);
    }

    #[test]
    fn every_state_that_is_not_over_reminds_and_the_last_one_does_not() {
        for state in State::ALL {
            for level in Level::ALL {
                assert_eq!(
                    state.time_limit_ms(level, 0).is_some(),
                    step(state, Event::Remind).is_ok(),
                    "{state:?} {level:?}"
                );
            }
        }
    }

    #[test]
    fn what_comes_back_within_a_week_reopens_and_later_does_not() {
        let resolved = 1_000;
        assert!(State::Resolved.takes_up(Some(resolved), resolved + REOPEN_MS_MAX));
        assert!(!State::Resolved.takes_up(Some(resolved), resolved + REOPEN_MS_MAX + 1));
        assert!(!State::Resolved.takes_up(None, resolved));
        assert!(State::Resolved.takes_up(Some(resolved), 0), "a clock that went back reopens");
        for state in [State::Open, State::Acknowledged, State::Mitigated] {
            assert!(state.takes_up(None, i64::MAX));
        }
    }

    proptest! {
        #[test]
        fn only_a_person_takes_an_incident_further_and_only_recurrence_back(
            picks in prop::collection::vec(0_usize..7, 0..60),
        ) {
            let rank = |state: State| State::ALL.iter().position(|known| *known == state);
            let mut state = State::Open;
            for pick in picks {
                let event = Event::ALL[pick];
                let Ok(next) = step(state, event) else { continue };
                if rank(next) > rank(state) {
                    prop_assert!(matches!(event, Event::Acknowledge | Event::Mitigate | Event::Resolve));
                }
                if rank(next) < rank(state) {
                    prop_assert_eq!((event, next), (Event::Recur, State::Open));
                }
                state = next;
            }
        }

        #[test]
        fn pauses_between_reminders_never_shrink_and_stay_bounded(reminders in 0_u32..1_000) {
            for state in [State::Open, State::Acknowledged, State::Mitigated] {
                for level in Level::ALL {
                    let (this, next) = (state.time_limit_ms(level, reminders), state.time_limit_ms(level, reminders + 1));
                    prop_assert!(this.is_some() && this <= next && next <= Some(REMINDER_MS_MAX));
                }
            }
        }
    }
}
