//! The states of a work order. Pure and total: every event in every state has an answer, and the whole table is a snapshot.
//!
//! Work that is said to be done is not done before a check-in proves it. Waiting for that ends by itself: without a
//! check-in the work goes on. The other states end by people alone, and are reminded of.

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// A terminal that works calls at least daily; one that does not within two days was not mended.
pub const PROOF_MS_MAX: i64 = 48 * HOUR_MS;
/// No pause between two reminders is longer.
pub const REMINDER_MS_MAX: i64 = 30 * DAY_MS;
/// Each reminder that changes nothing doubles the pause to the next, at most this often.
const DOUBLINGS_MAX: u32 = 10;

/// Where a work order is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Nobody has taken it on.
    Open,
    /// Somebody shall do it.
    Assigned,
    /// Somebody is at it.
    InProgress,
    /// Said to be done; a check-in must show it.
    WaitingForProof,
    /// Done.
    Closed,
    /// Not to be done.
    Cancelled,
}

/// What may happen to a work order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// It gets somebody who shall do it.
    Assign,
    /// That one begins.
    Start,
    /// Somebody answers its checklist.
    Answer,
    /// The work is said to be done.
    Done,
    /// A later check-in shows that it is.
    Prove,
    /// A later check-in shows the fault still.
    Fault,
    /// A person closes it without that, with a reason.
    CloseUnproven,
    /// A person decides that it shall not be done.
    Cancel,
    /// The reason that a rule opened it for is gone.
    Vanish,
    /// Somebody adds to its story.
    Note,
    /// Its time limit passed.
    Remind,
}

impl Event {
    /// Every event.
    pub const ALL: [Self; 11] = [
        Self::Assign,
        Self::Start,
        Self::Answer,
        Self::Done,
        Self::Prove,
        Self::Fault,
        Self::CloseUnproven,
        Self::Cancel,
        Self::Vanish,
        Self::Note,
        Self::Remind,
    ];

    /// Its name, for refusals, the history and the audit log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Assign => "assign",
            Self::Start => "start",
            Self::Answer => "answer",
            Self::Done => "done",
            Self::Prove => "prove",
            Self::Fault => "fault",
            Self::CloseUnproven => "close_unproven",
            Self::Cancel => "cancel",
            Self::Vanish => "vanish",
            Self::Note => "note",
            Self::Remind => "remind",
        }
    }
}

/// The event cannot happen in this state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a work order that is {state} cannot take the step {event}")]
pub struct Refusal {
    /// The state's name.
    pub state: &'static str,
    /// The event's name.
    pub event: &'static str,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 6] =
        [Self::Open, Self::Assigned, Self::InProgress, Self::WaitingForProof, Self::Closed, Self::Cancelled];
    /// Those in which something is still to be done.
    pub const LIVE: [Self; 4] = [Self::Open, Self::Assigned, Self::InProgress, Self::WaitingForProof];

    /// Name in tables, URLs and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Assigned => "assigned",
            Self::InProgress => "in_progress",
            Self::WaitingForProof => "waiting_for_proof",
            Self::Closed => "closed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether nothing is to be done any more.
    pub fn is_over(self) -> bool {
        match self {
            Self::Closed | Self::Cancelled => true,
            Self::Open | Self::Assigned | Self::InProgress | Self::WaitingForProof => false,
        }
    }

    /// How long it may stay so before [`Event::Remind`], ms, when `reminders` came already; `None` once it is over.
    pub fn time_limit_ms(self, reminders: u32) -> Option<i64> {
        let first_ms = match self {
            Self::Open | Self::Assigned => 7 * DAY_MS,
            Self::InProgress => 3 * DAY_MS,
            Self::WaitingForProof => return Some(PROOF_MS_MAX),
            Self::Closed | Self::Cancelled => return None,
        };
        Some((first_ms << reminders.min(DOUBLINGS_MAX)).min(REMINDER_MS_MAX))
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
        (S::Open | S::Assigned | S::InProgress, E::Assign) => Ok(S::Assigned),
        (S::Open | S::Assigned, E::Start) => Ok(S::InProgress),
        (S::Open | S::Assigned | S::InProgress, E::Answer) => Ok(state),
        // Who stands before the terminal does not press three buttons.
        (S::Open | S::Assigned | S::InProgress, E::Done) => Ok(S::WaitingForProof),
        (S::WaitingForProof, E::Prove) => Ok(S::Closed),
        (S::WaitingForProof, E::Fault | E::Remind) => Ok(S::InProgress),
        (S::Open | S::Assigned | S::InProgress | S::WaitingForProof, E::CloseUnproven) => Ok(S::Closed),
        (S::Open | S::Assigned | S::InProgress | S::WaitingForProof, E::Cancel) => Ok(S::Cancelled),
        // Nobody is sent away from work that was begun.
        (S::Open | S::Assigned, E::Vanish) => Ok(S::Cancelled),
        (S::Open | S::Assigned | S::InProgress | S::WaitingForProof | S::Closed | S::Cancelled, E::Note)
        | (S::Open | S::Assigned | S::InProgress, E::Remind) => Ok(state),
        (S::InProgress, E::Start | E::Vanish)
        | (S::Open | S::Assigned | S::InProgress, E::Prove | E::Fault)
        | (S::WaitingForProof, E::Assign | E::Start | E::Answer | E::Done | E::Vanish)
        | (
            S::Closed | S::Cancelled,
            E::Assign
            | E::Start
            | E::Answer
            | E::Done
            | E::Prove
            | E::Fault
            | E::CloseUnproven
            | E::Cancel
            | E::Vanish
            | E::Remind,
        ) => Err(Refusal { state: state.as_str(), event: event.as_str() }),
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
                table.push_str(&format!("{:<17} {:<14} -> {outcome}\n", state.as_str(), event.as_str()));
            }
        }
        for state in State::ALL {
            let limit = |reminders| match state.time_limit_ms(reminders) {
                Some(ms) => format!("{} h", ms / HOUR_MS),
                None => "never".to_owned(),
            };
            let limits = [0, 1, 2, 60].map(limit).join(", ");
            table.push_str(&format!("{:<17} time limit {limits}\n", state.as_str()));
        }
        insta::assert_snapshot!(table);
    }

    #[test]
    fn a_state_survives_its_name_and_only_the_last_two_are_over() {
        for state in State::ALL {
            assert_eq!(State::parse(state.as_str()), Some(state));
            assert_eq!(state.is_over(), !State::LIVE.contains(&state));
            assert_eq!(state.time_limit_ms(0).is_none(), state.is_over());
            assert_eq!(step(state, Event::Remind).is_err(), state.is_over());
        }
        assert_eq!(State::parse("surprise"), None);
    }

    proptest! {
        #[test]
        fn nothing_leaves_the_end_and_only_proof_or_a_persons_word_closes(
            picks in prop::collection::vec(0_usize..11, 0..60),
        ) {
            let mut state = State::Open;
            for pick in picks {
                let event = Event::ALL[pick];
                let Ok(next) = step(state, event) else { continue };
                if state.is_over() {
                    prop_assert_eq!((event, next), (Event::Note, state));
                } else if next == State::Closed {
                    prop_assert!(event == Event::CloseUnproven || (event, state) == (Event::Prove, State::WaitingForProof));
                }
                state = next;
            }
        }
    }
}
