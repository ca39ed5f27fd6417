//! One terminal's part in a rollout. Pure and total: what the server does and what the terminal says are events.
//!
//! Reports may come late, twice and out of order: they never lead back and never leave a final state, and none of them
//! is refused. What the *server* wants and cannot have is a [`Refusal`]. An assignment has succeeded when the terminal
//! says so and its signed manifest shows the release's version and digest; words alone leave it on trial.

use tillward_protocol::phase::{Phase as Said, Reason};

const HOUR_MS: i64 = 3600 * 1000;
/// Longest that an assignment waits for its offer: as long as a rollout may run.
pub const WAITING_MS_MAX: i64 = super::state::RUNNING_MS_MAX;
/// Longest that the terminal writes, boots or tries the new firmware. It does these in minutes; a day covers a shop that
/// switches its terminal off overnight.
pub const IN_FLIGHT_MS_MAX: i64 = 24 * HOUR_MS;

/// Where an assignment is; without the reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Nothing is offered yet, or the offer was withdrawn.
    Waiting,
    /// The director names the release.
    Offered,
    /// The terminal streams the payload.
    Downloading,
    /// The terminal verified everything and writes its boot decision.
    Installing,
    /// The terminal boots into the new slot.
    Rebooting,
    /// The terminal runs the new firmware on trial.
    Trial,
    /// The signed manifest shows the release.
    Succeeded,
    /// Nothing was installed.
    Failed,
    /// The new firmware ran and was taken back.
    RolledBack,
    /// The phase's time limit passed; the result is unknown.
    TimedOut,
    /// The server withdrew it for good.
    Cancelled,
}

impl Phase {
    /// Every phase.
    pub const ALL: [Self; 11] = [
        Self::Waiting,
        Self::Offered,
        Self::Downloading,
        Self::Installing,
        Self::Rebooting,
        Self::Trial,
        Self::Succeeded,
        Self::Failed,
        Self::RolledBack,
        Self::TimedOut,
        Self::Cancelled,
    ];

    /// Name in tables, URLs and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Offered => "offered",
            Self::Downloading => "downloading",
            Self::Installing => "installing",
            Self::Rebooting => "rebooting",
            Self::Trial => "trial",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::RolledBack => "rolled_back",
            Self::TimedOut => "timed_out",
            Self::Cancelled => "cancelled",
        }
    }

    /// The phase of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.as_str() == name)
    }

    /// Whether nothing can happen any more.
    pub fn is_final(self) -> bool {
        match self {
            Self::Succeeded | Self::Failed | Self::RolledBack | Self::TimedOut | Self::Cancelled => true,
            Self::Waiting | Self::Offered | Self::Downloading | Self::Installing | Self::Rebooting | Self::Trial => {
                false
            }
        }
    }

    /// Whether the director names the release for this terminal (while the rollout runs).
    pub fn is_ordered(self) -> bool {
        self != Self::Waiting && !self.is_final()
    }

    /// Whether the server can still take it back: the terminal has not begun to write its boot decision.
    pub fn is_withdrawable(self) -> bool {
        match self {
            Self::Offered | Self::Downloading => true,
            Self::Waiting
            | Self::Installing
            | Self::Rebooting
            | Self::Trial
            | Self::Succeeded
            | Self::Failed
            | Self::RolledBack
            | Self::TimedOut
            | Self::Cancelled => false,
        }
    }

    /// Whether the terminal has accepted the order: it downloads, installs, boots or tries.
    pub fn is_under_way(self) -> bool {
        match self {
            Self::Downloading | Self::Installing | Self::Rebooting | Self::Trial => true,
            Self::Waiting
            | Self::Offered
            | Self::Succeeded
            | Self::Failed
            | Self::RolledBack
            | Self::TimedOut
            | Self::Cancelled => false,
        }
    }

    /// How long it may stay so without a sign of life, ms; `None` for final phases. `offer_ms` is the rollout's own limit
    /// for an offer.
    pub fn time_limit_ms(self, offer_ms: i64) -> Option<i64> {
        match self {
            Self::Waiting => Some(WAITING_MS_MAX),
            Self::Offered | Self::Downloading => Some(offer_ms),
            Self::Installing | Self::Rebooting | Self::Trial => Some(offer_ms.min(IN_FLIGHT_MS_MAX)),
            Self::Succeeded | Self::Failed | Self::RolledBack | Self::TimedOut | Self::Cancelled => None,
        }
    }
}

/// Why the server withdrew an assignment for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Withdrawal {
    /// A person or a time limit cancelled the rollout.
    RolloutCancelled,
    /// A gate halted it.
    RolloutHalted,
    /// The part of the rollout that the terminal belongs to was stopped alone.
    ScopeStopped,
    /// A rollout of a higher priority took the terminal over.
    Superseded,
    /// The terminal is not on the profile's layer any more.
    NotOnLayer,
}

impl Withdrawal {
    /// Every one.
    pub const ALL: [Self; 5] =
        [Self::RolloutCancelled, Self::RolloutHalted, Self::ScopeStopped, Self::Superseded, Self::NotOnLayer];

    /// Name in tables and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RolloutCancelled => "rollout_cancelled",
            Self::RolloutHalted => "rollout_halted",
            Self::ScopeStopped => "scope_stopped",
            Self::Superseded => "superseded",
            Self::NotOnLayer => "not_on_layer",
        }
    }
}

/// Where an assignment is, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing is offered yet, or the offer was withdrawn.
    Waiting,
    /// The director names the release; the terminal may have put it off.
    Offered {
        /// Why the terminal puts it off, if it does.
        deferred: Option<Reason>,
    },
    /// The terminal streams the payload.
    Downloading,
    /// The terminal verified everything and writes its boot decision.
    Installing,
    /// The terminal boots into the new slot.
    Rebooting,
    /// The terminal runs the new firmware on trial.
    Trial,
    /// The signed manifest shows the release.
    Succeeded,
    /// Nothing was installed.
    Failed(Reason),
    /// The new firmware ran and was taken back.
    RolledBack(Reason),
    /// The time limit passed in this phase; the result is unknown.
    TimedOut(Phase),
    /// The server withdrew it for good.
    Cancelled(Withdrawal),
}

/// What may happen to an assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The planner lets the director name the release.
    Offer,
    /// The rollout was paused, or a time window closed: the offer is taken back for a while.
    Withdraw,
    /// An attempt failed and another one is left: the terminal waits for it.
    Again,
    /// The rollout ended before the terminal began to install.
    Cancel(Withdrawal),
    /// The phase's time limit passed.
    Expire,
    /// The terminal says where it is; `Succeeded` counts as a claim.
    Report(Said, Option<Reason>),
    /// The terminal's verified manifest shows the release's version and digest, and it speaks of no update or a finished one.
    Proof,
}

/// The server cannot do this in this phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an assignment that is {} cannot {event}", phase.as_str())]
pub struct Refusal {
    /// The phase.
    pub phase: Phase,
    /// The event's name.
    pub event: &'static str,
}

impl State {
    /// The phase alone.
    pub fn phase(self) -> Phase {
        match self {
            Self::Waiting => Phase::Waiting,
            Self::Offered { .. } => Phase::Offered,
            Self::Downloading => Phase::Downloading,
            Self::Installing => Phase::Installing,
            Self::Rebooting => Phase::Rebooting,
            Self::Trial => Phase::Trial,
            Self::Succeeded => Phase::Succeeded,
            Self::Failed(_) => Phase::Failed,
            Self::RolledBack(_) => Phase::RolledBack,
            Self::TimedOut(_) => Phase::TimedOut,
            Self::Cancelled(_) => Phase::Cancelled,
        }
    }

    /// The reason, for the row. For a timed-out assignment the phase it was last seen in.
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::Waiting | Self::Downloading | Self::Installing | Self::Rebooting | Self::Trial | Self::Succeeded => {
                None
            }
            Self::Offered { deferred } => deferred.map(Reason::as_str),
            Self::Failed(reason) | Self::RolledBack(reason) => Some(reason.as_str()),
            Self::TimedOut(phase) => Some(phase.as_str()),
            Self::Cancelled(why) => Some(why.as_str()),
        }
    }

    /// The state behind a row's columns; `None` when they do not fit together.
    pub fn from_columns(phase: &str, reason: Option<&str>) -> Option<Self> {
        let named = |name: &str| Reason::ALL.into_iter().find(|reason| reason.as_str() == name);
        Some(match Phase::parse(phase)? {
            Phase::Waiting => Self::Waiting,
            Phase::Offered => Self::Offered { deferred: reason.map(named).unwrap_or_default() },
            Phase::Downloading => Self::Downloading,
            Phase::Installing => Self::Installing,
            Phase::Rebooting => Self::Rebooting,
            Phase::Trial => Self::Trial,
            Phase::Succeeded => Self::Succeeded,
            Phase::Failed => Self::Failed(named(reason?)?),
            Phase::RolledBack => Self::RolledBack(named(reason?)?),
            Phase::TimedOut => Self::TimedOut(Phase::parse(reason?)?),
            Phase::Cancelled => {
                let reason = reason?;
                Self::Cancelled(Withdrawal::ALL.into_iter().find(|why| why.as_str() == reason)?)
            }
        })
    }
}

/// Whether an attempt that failed so may succeed when the same files are tried again after a while. What the terminal
/// could not trust, and what ran and was taken back, is never tried again by itself.
pub fn is_worth_another_attempt(reason: Reason) -> bool {
    matches!(reason, Reason::NoSpace | Reason::StorageError | Reason::InstallerFailed)
}

/// The state after `event`; the same state when a report is late, repeated or proves nothing.
///
/// # Errors
/// [`Refusal`] when the server wants what this phase does not allow. Reports and proofs are never refused.
pub fn step(state: State, event: Event) -> Result<State, Refusal> {
    let phase = state.phase();
    let allowed = |allowed: bool, event, next| if allowed { Ok(next) } else { Err(Refusal { phase, event }) };
    match event {
        Event::Offer => allowed(phase == Phase::Waiting, "offer", State::Offered { deferred: None }),
        Event::Withdraw => allowed(phase.is_withdrawable(), "withdraw", State::Waiting),
        Event::Again => allowed(is_before_boot(phase), "try again", State::Waiting),
        Event::Cancel(why) => {
            allowed(phase == Phase::Waiting || phase.is_withdrawable(), "cancel", State::Cancelled(why))
        }
        Event::Expire => allowed(!phase.is_final(), "expire", State::TimedOut(phase)),
        Event::Report(said, reason) => Ok(reported(state, said, reason)),
        Event::Proof => Ok(if phase.is_final() { state } else { State::Succeeded }),
    }
}

/// What a report makes of a state.
fn reported(state: State, said: Said, reason: Option<Reason>) -> State {
    let phase = state.phase();
    if phase.is_final() {
        return state;
    }
    match (said, reason) {
        // A terminal that was told to stop still downloads until it hears of it: that revives nothing.
        (Said::Downloading, _) => match phase {
            Phase::Offered => State::Downloading,
            Phase::Waiting
            | Phase::Downloading
            | Phase::Installing
            | Phase::Rebooting
            | Phase::Trial
            | Phase::Succeeded
            | Phase::Failed
            | Phase::RolledBack
            | Phase::TimedOut
            | Phase::Cancelled => state,
        },
        // From here on the terminal is past the last point where it asks. What it does is true, withdrawn or not.
        (Said::Installing, _) => forward(state, State::Installing),
        (Said::Rebooting, _) => forward(state, State::Rebooting),
        (Said::Trial, _) => forward(state, State::Trial),
        // The proof is a separate event; without it the claim says as much as a trial.
        (Said::Succeeded, _) => forward(state, State::Trial),
        // The order was withdrawn before it was applied: nothing failed. If the rollout is over, the planner ends it.
        (Said::Failed | Said::Deferred, Some(Reason::Cancelled)) => taken_back(state),
        (Said::Failed, Some(reason)) if reason.is_transient() => deferred(state, reason),
        (Said::Failed, Some(reason)) => State::Failed(reason),
        // The new firmware ran and was taken back: offering it again would run it again, whatever the reason.
        (Said::RolledBack, Some(reason)) => State::RolledBack(reason),
        (Said::Deferred, Some(reason)) => deferred(state, reason),
        // The protocol requires a reason with these; without one the report says nothing.
        (Said::Failed | Said::RolledBack | Said::Deferred, None) => state,
    }
}

/// The further one of the two.
fn forward(state: State, next: State) -> State {
    if next.phase() > state.phase() { next } else { state }
}

/// Not now: the offer stands and the terminal tries again by itself. Too late once it boots.
fn deferred(state: State, reason: Reason) -> State {
    if is_before_boot(state.phase()) { State::Offered { deferred: Some(reason) } } else { state }
}

/// The terminal saw that its order is gone and applied nothing. Too late once it boots.
fn taken_back(state: State) -> State {
    if is_before_boot(state.phase()) { State::Waiting } else { state }
}

/// Whether the terminal may still put it off: something is offered, and it has not booted into it.
fn is_before_boot(phase: Phase) -> bool {
    phase.is_withdrawable() || phase == Phase::Installing
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn states() -> Vec<State> {
        vec![
            State::Waiting,
            State::Offered { deferred: None },
            State::Offered { deferred: Some(Reason::NotIdle) },
            State::Downloading,
            State::Installing,
            State::Rebooting,
            State::Trial,
            State::Succeeded,
            State::Failed(Reason::NoSpace),
            State::RolledBack(Reason::BootFailed),
            State::TimedOut(Phase::Trial),
            State::Cancelled(Withdrawal::RolloutCancelled),
        ]
    }

    fn events() -> Vec<Event> {
        vec![
            Event::Offer,
            Event::Withdraw,
            Event::Again,
            Event::Cancel(Withdrawal::RolloutCancelled),
            Event::Cancel(Withdrawal::RolloutHalted),
            Event::Cancel(Withdrawal::ScopeStopped),
            Event::Cancel(Withdrawal::Superseded),
            Event::Expire,
            Event::Report(Said::Downloading, None),
            Event::Report(Said::Installing, None),
            Event::Report(Said::Rebooting, None),
            Event::Report(Said::Trial, None),
            Event::Report(Said::Succeeded, None),
            Event::Report(Said::Failed, Some(Reason::DigestMismatch)),
            Event::Report(Said::Failed, Some(Reason::ServerBusy)),
            Event::Report(Said::Failed, Some(Reason::Cancelled)),
            Event::Report(Said::Failed, None),
            Event::Report(Said::RolledBack, Some(Reason::HealthCheckFailed)),
            Event::Report(Said::RolledBack, None),
            Event::Report(Said::Deferred, Some(Reason::LowBattery)),
            Event::Report(Said::Deferred, None),
            Event::Proof,
        ]
    }

    #[test]
    fn the_whole_table_is_as_agreed() {
        let mut table = String::new();
        for state in states() {
            for event in events() {
                let outcome = match step(state, event) {
                    Ok(next) if next == state => "stays".to_owned(),
                    Ok(next) => format!("{next:?}"),
                    Err(refusal) => format!("refused: {refusal}"),
                };
                table.push_str(&format!("{:<38} {:<40} -> {outcome}\n", format!("{state:?}"), format!("{event:?}")));
            }
        }
        insta::assert_snapshot!(table);
    }

    #[test]
    fn a_state_survives_its_columns() {
        for state in states() {
            assert_eq!(State::from_columns(state.phase().as_str(), state.reason()), Some(state));
        }
        assert_eq!(State::from_columns("failed", None), None);
        assert_eq!(State::from_columns("surprise", None), None);
    }

    #[test]
    fn every_phase_that_is_not_final_has_a_time_limit_and_ends_by_it() {
        for state in states() {
            let phase = state.phase();
            assert_eq!(phase.time_limit_ms(1000).is_none(), phase.is_final(), "{phase:?}");
            assert_eq!(step(state, Event::Expire).is_err(), phase.is_final(), "{phase:?}");
        }
    }

    #[test]
    fn no_transient_reason_ends_an_assignment_that_was_not_rolled_back() {
        for state in states().into_iter().filter(|state| !state.phase().is_final()) {
            for reason in Reason::ALL.into_iter().filter(|reason| reason.is_transient()) {
                for said in [Said::Failed, Said::Deferred] {
                    let next = step(state, Event::Report(said, Some(reason))).unwrap();
                    assert!(!next.phase().is_final(), "{state:?} {said:?} {reason:?}");
                }
            }
        }
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            Just(Event::Offer),
            Just(Event::Withdraw),
            Just(Event::Again),
            prop::sample::select(Withdrawal::ALL.to_vec()).prop_map(Event::Cancel),
            Just(Event::Expire),
            report(),
            report(),
            Just(Event::Proof),
        ]
    }

    fn report() -> impl Strategy<Value = Event> {
        let reason = prop::option::of(prop::sample::select(Reason::ALL.to_vec()));
        (prop::sample::select(Said::ALL.to_vec()), reason).prop_map(|(said, reason)| Event::Report(said, reason))
    }

    proptest! {
        #[test]
        fn final_states_stay(events in prop::collection::vec(event(), 0..60)) {
            let mut state = State::Waiting;
            for event in events {
                let Ok(next) = step(state, event) else { continue };
                prop_assert!(!state.phase().is_final() || next == state, "{state:?} left by {event:?}");
                state = next;
            }
        }

        #[test]
        fn phases_go_back_only_by_deferral_and_withdrawal(events in prop::collection::vec(event(), 0..60)) {
            let mut state = State::Waiting;
            for event in events {
                let Ok(next) = step(state, event) else { continue };
                if next.phase() < state.phase() {
                    let is_excused = match event {
                        Event::Withdraw | Event::Again => next == State::Waiting,
                        Event::Report(Said::Deferred | Said::Failed, Some(Reason::Cancelled)) => next == State::Waiting,
                        Event::Report(Said::Deferred, Some(_)) => next.phase() == Phase::Offered,
                        Event::Report(Said::Failed, Some(reason)) => {
                            reason.is_transient() && next.phase() == Phase::Offered
                        }
                        Event::Offer | Event::Cancel(_) | Event::Expire | Event::Report(..) | Event::Proof => false,
                    };
                    prop_assert!(is_excused, "{state:?} went back to {next:?} by {event:?}");
                }
                state = next;
            }
        }

        #[test]
        fn nothing_that_a_terminal_says_makes_an_offer_or_a_success(reports in prop::collection::vec(report(), 0..60)) {
            let mut state = State::Waiting;
            for report in reports {
                let next = step(state, report).unwrap();
                prop_assert!(next != State::Succeeded, "{report:?} alone is no proof");
                if next.phase().is_withdrawable() {
                    prop_assert!(state.phase().is_ordered(), "{state:?} was offered by {report:?}");
                }
                state = next;
            }
        }

        #[test]
        fn a_report_said_twice_counts_once(state in prop::sample::select(states()), event in event()) {
            if let (Event::Report(..) | Event::Proof, Ok(once)) = (event, step(state, event)) {
                prop_assert_eq!(step(once, event), Ok(once));
            }
        }
    }
}
