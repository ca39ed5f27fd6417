//! The states of a rollout. Pure and total: every event in every state has an answer, and the whole table is a snapshot.
//!
//! A refusal is a value: 409 for a person, a log line for a pass. Nothing here reads a clock; a state's time limit stands
//! in [`State::time_limit_ms`] and passing it is the event [`Event::Expire`].

const DAY_MS: i64 = 24 * 3600 * 1000;
/// A draft that nobody starts is cancelled: its filter and release have aged.
pub const DRAFT_MS_MAX: i64 = 30 * DAY_MS;
/// An unanswered request for approval is cancelled.
pub const APPROVAL_MS_MAX: i64 = 14 * DAY_MS;
/// A rollout that is still running after this is cancelled; what was offered ends by its own time limits.
pub const RUNNING_MS_MAX: i64 = 90 * DAY_MS;
/// A pause that nobody ends is cancelled.
pub const PAUSED_MS_MAX: i64 = 30 * DAY_MS;
/// A halt that nobody overrides is cancelled.
pub const HALTED_MS_MAX: i64 = 30 * DAY_MS;
/// Why of a rollout that its time limit ended.
pub const WHY_EXPIRED: &str = "time limit";

/// Where a rollout is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Written down, offers nothing.
    Draft,
    /// A second person has to agree.
    AwaitingApproval,
    /// Offers up to and including this stage.
    Running {
        /// From 0.
        stage: u32,
    },
    /// A person stopped it for a while; offers nothing.
    Paused {
        /// Stage it goes on from.
        stage: u32,
        /// The person's reason.
        why: String,
    },
    /// A gate stopped it; offers nothing until a person goes on with a reason.
    Halted {
        /// Stage that was stopped.
        stage: u32,
        /// The gate's evidence in a sentence.
        why: String,
    },
    /// Every assignment is final.
    Succeeded,
    /// Ended before that.
    Cancelled {
        /// Reason.
        why: String,
    },
}

/// What may happen to a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Its maker asks for approval.
    Submit,
    /// A second person agrees.
    Approve,
    /// A second person does not agree, or what was to be approved is not the same any more.
    Reject,
    /// Its maker starts it without asking.
    Start,
    /// The next stage opens.
    OpenStage,
    /// A person stops it for a while.
    Pause {
        /// Reason.
        why: String,
    },
    /// A person ends the pause.
    Resume,
    /// A gate stops it.
    Halt {
        /// Evidence.
        why: String,
    },
    /// A person goes on after a halt.
    Override,
    /// Every assignment is final and no more will be made.
    Finish,
    /// A person ends it.
    Cancel {
        /// Reason.
        why: String,
    },
    /// The state's time limit passed.
    Expire,
}

impl Event {
    /// Its name, for refusals and the audit log.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Approve => "approve",
            Self::Reject => "reject",
            Self::Start => "start",
            Self::OpenStage => "open_stage",
            Self::Pause { .. } => "pause",
            Self::Resume => "resume",
            Self::Halt { .. } => "halt",
            Self::Override => "override",
            Self::Finish => "finish",
            Self::Cancel { .. } => "cancel",
            Self::Expire => "expire",
        }
    }
}

/// The event cannot happen in this state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a rollout that is {state} cannot {event}")]
pub struct Refusal {
    /// The state's name.
    pub state: &'static str,
    /// The event's name.
    pub event: &'static str,
}

impl State {
    /// Name in tables, URLs and answers.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::AwaitingApproval => "awaiting_approval",
            Self::Running { .. } => "running",
            Self::Paused { .. } => "paused",
            Self::Halted { .. } => "halted",
            Self::Succeeded => "succeeded",
            Self::Cancelled { .. } => "cancelled",
        }
    }

    /// Every name.
    pub const NAMES: [&'static str; 7] =
        ["draft", "awaiting_approval", "running", "paused", "halted", "succeeded", "cancelled"];

    /// The state behind a row's columns; `None` when the name is unknown.
    pub fn from_columns(name: &str, stage: i64, why: &str) -> Option<Self> {
        let stage = u32::try_from(stage).ok()?;
        match name {
            "draft" => Some(Self::Draft),
            "awaiting_approval" => Some(Self::AwaitingApproval),
            "running" => Some(Self::Running { stage }),
            "paused" => Some(Self::Paused { stage, why: why.to_owned() }),
            "halted" => Some(Self::Halted { stage, why: why.to_owned() }),
            "succeeded" => Some(Self::Succeeded),
            "cancelled" => Some(Self::Cancelled { why: why.to_owned() }),
            _ => None,
        }
    }

    /// Stage, for the row; final states keep the row's.
    pub fn stage(&self) -> Option<u32> {
        match self {
            Self::Running { stage } | Self::Paused { stage, .. } | Self::Halted { stage, .. } => Some(*stage),
            Self::Draft | Self::AwaitingApproval | Self::Succeeded | Self::Cancelled { .. } => None,
        }
    }

    /// Reason, for the row.
    pub fn why(&self) -> &str {
        match self {
            Self::Paused { why, .. } | Self::Halted { why, .. } | Self::Cancelled { why } => why,
            Self::Draft | Self::AwaitingApproval | Self::Running { .. } | Self::Succeeded => "",
        }
    }

    /// Whether terminals may be offered anything: the brake, in one place.
    pub fn offers(&self) -> bool {
        match self {
            Self::Running { .. } => true,
            Self::Draft
            | Self::AwaitingApproval
            | Self::Paused { .. }
            | Self::Halted { .. }
            | Self::Succeeded
            | Self::Cancelled { .. } => false,
        }
    }

    /// Whether nothing can happen any more.
    pub fn is_final(&self) -> bool {
        self.time_limit_ms().is_none()
    }

    /// How long it may stay so, ms; `None` for final states.
    pub fn time_limit_ms(&self) -> Option<i64> {
        match self {
            Self::Draft => Some(DRAFT_MS_MAX),
            Self::AwaitingApproval => Some(APPROVAL_MS_MAX),
            Self::Running { .. } => Some(RUNNING_MS_MAX),
            Self::Paused { .. } => Some(PAUSED_MS_MAX),
            Self::Halted { .. } => Some(HALTED_MS_MAX),
            Self::Succeeded | Self::Cancelled { .. } => None,
        }
    }
}

/// The state after `event`.
///
/// # Errors
/// [`Refusal`] when the event cannot happen in this state.
pub fn step(state: &State, event: &Event) -> Result<State, Refusal> {
    use Event as E;
    use State as S;
    match (state, event) {
        (S::Draft, E::Submit) => Ok(S::AwaitingApproval),
        (S::AwaitingApproval, E::Reject) => Ok(S::Draft),
        (S::Draft, E::Start) | (S::AwaitingApproval, E::Approve) => Ok(S::Running { stage: 0 }),
        (S::Running { stage }, E::OpenStage) => Ok(S::Running { stage: stage.saturating_add(1) }),
        (S::Running { stage }, E::Pause { why }) => Ok(S::Paused { stage: *stage, why: why.clone() }),
        (S::Paused { stage, .. }, E::Resume) | (S::Halted { stage, .. }, E::Override) => {
            Ok(S::Running { stage: *stage })
        }
        // A halt is news to a paused rollout too: resuming it would go on without a look at the evidence.
        (S::Running { stage } | S::Paused { stage, .. }, E::Halt { why }) => {
            Ok(S::Halted { stage: *stage, why: why.clone() })
        }
        (S::Running { .. }, E::Finish) => Ok(S::Succeeded),
        (
            S::Draft | S::AwaitingApproval | S::Running { .. } | S::Paused { .. } | S::Halted { .. },
            E::Cancel { why },
        ) => Ok(S::Cancelled { why: why.clone() }),
        (S::Draft | S::AwaitingApproval | S::Running { .. } | S::Paused { .. } | S::Halted { .. }, E::Expire) => {
            Ok(S::Cancelled { why: WHY_EXPIRED.to_owned() })
        }
        (
            S::Draft,
            E::Approve
            | E::Reject
            | E::OpenStage
            | E::Pause { .. }
            | E::Resume
            | E::Halt { .. }
            | E::Override
            | E::Finish,
        )
        | (
            S::AwaitingApproval,
            E::Submit
            | E::Start
            | E::OpenStage
            | E::Pause { .. }
            | E::Resume
            | E::Halt { .. }
            | E::Override
            | E::Finish,
        )
        | (S::Running { .. }, E::Submit | E::Approve | E::Reject | E::Start | E::Resume | E::Override)
        | (
            S::Paused { .. },
            E::Submit | E::Approve | E::Reject | E::Start | E::OpenStage | E::Pause { .. } | E::Override | E::Finish,
        )
        | (
            S::Halted { .. },
            E::Submit
            | E::Approve
            | E::Reject
            | E::Start
            | E::OpenStage
            | E::Pause { .. }
            | E::Resume
            | E::Halt { .. }
            | E::Finish,
        )
        | (
            S::Succeeded | S::Cancelled { .. },
            E::Submit
            | E::Approve
            | E::Reject
            | E::Start
            | E::OpenStage
            | E::Pause { .. }
            | E::Resume
            | E::Halt { .. }
            | E::Override
            | E::Finish
            | E::Cancel { .. }
            | E::Expire,
        ) => Err(Refusal { state: state.as_str(), event: event.as_str() }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn why() -> String {
        "w".to_owned()
    }

    fn states() -> Vec<State> {
        vec![
            State::Draft,
            State::AwaitingApproval,
            State::Running { stage: 1 },
            State::Paused { stage: 1, why: why() },
            State::Halted { stage: 1, why: why() },
            State::Succeeded,
            State::Cancelled { why: why() },
        ]
    }

    fn events() -> Vec<Event> {
        let why = || "e".to_owned();
        vec![
            Event::Submit,
            Event::Approve,
            Event::Reject,
            Event::Start,
            Event::OpenStage,
            Event::Pause { why: why() },
            Event::Resume,
            Event::Halt { why: why() },
            Event::Override,
            Event::Finish,
            Event::Cancel { why: why() },
            Event::Expire,
        ]
    }

    #[test]
    fn the_whole_table_is_as_agreed() {
        let mut table = String::new();
        for state in states() {
            for event in events() {
                let outcome = match step(&state, &event) {
                    Ok(next) => format!("{next:?}"),
                    Err(_) => "refused".to_owned(),
                };
                table.push_str(&format!("{:<17} {:<10} -> {outcome}\n", state.as_str(), event.as_str()));
            }
        }
        insta::assert_snapshot!(table);
    }

    #[test]
    fn a_state_survives_its_columns() {
        for state in states() {
            let stage = i64::from(state.stage().unwrap_or(1));
            assert_eq!(State::from_columns(state.as_str(), stage, state.why()), Some(state.clone()));
            assert!(State::NAMES.contains(&state.as_str()));
        }
        assert_eq!(State::from_columns("surprise", 0, ""), None);
        assert_eq!(State::from_columns("running", -1, ""), None);
    }

    #[test]
    fn every_state_that_is_not_final_ends_by_its_time_limit() {
        for state in states() {
            assert_eq!(state.time_limit_ms().is_none(), step(&state, &Event::Expire).is_err(), "{state:?}");
        }
    }

    proptest! {
        #[test]
        fn final_states_stay_and_stages_never_go_back(picks in prop::collection::vec(0_usize..12, 0..60)) {
            let events = events();
            let mut state = State::Draft;
            let mut highest = 0;
            for pick in picks {
                let Ok(next) = step(&state, &events[pick]) else { continue };
                prop_assert!(!state.is_final(), "{state:?} left by {:?}", events[pick]);
                if let Some(stage) = next.stage() {
                    prop_assert!(stage >= highest);
                    highest = stage;
                }
                state = next;
            }
        }

        #[test]
        fn only_a_person_or_an_approval_makes_a_rollout_offer_again(picks in prop::collection::vec(0_usize..12, 0..60)) {
            let events = events();
            let mut state = State::Draft;
            for pick in picks {
                let event = &events[pick];
                let Ok(next) = step(&state, event) else { continue };
                if !state.offers() && next.offers() {
                    prop_assert!(
                        matches!(event, Event::Start | Event::Approve | Event::Resume | Event::Override),
                        "{state:?} offers after {event:?}"
                    );
                }
                state = next;
            }
        }
    }
}
