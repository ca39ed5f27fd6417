//! The update on one terminal as a pure, total state machine: what happened goes in, what to do next comes out.
//!
//! No clock, no disk, no network. The driver writes the new state to the journal *before* it does what the action says,
//! so after a power cut the same state meets [`Event::Booted`] and goes on. An event that does not belong to a state
//! changes nothing. Once the new firmware has started only its health decides.

use serde::{Deserialize, Serialize};
use tillward_protocol::checkin::Slot;
use tillward_protocol::ids::Sha256Hex;
use tillward_protocol::phase::{Phase, Reason};

/// Starts of new firmware before it is taken back without a verdict of the health command.
pub const BOOTS_MAX: u8 = 3;
/// Tries to get back to the old firmware; after that the terminal stays up as it is instead of restarting for ever.
pub const RETURNS_MAX: u8 = 8;

/// Where the update stands. A release is named by the digest of its payload.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum State {
    /// Nothing to do.
    #[default]
    Idle,
    /// The payload comes in.
    Downloading {
        /// Which release.
        release: Sha256Hex,
        /// Bytes on the terminal when last noted; the file itself is the truth.
        offset: u64,
    },
    /// The payload is complete and its digest holds.
    Verified {
        /// Which release.
        release: Sha256Hex,
    },
    /// The inactive slot holds the payload, read back and hashed again.
    Written {
        /// Which release.
        release: Sha256Hex,
        /// Where it is.
        slot: Slot,
    },
    /// The boot decision is taken; the new firmware has to prove itself, or is being taken back.
    Trial {
        /// Which release.
        release: Sha256Hex,
        /// Where it is.
        slot: Slot,
        /// What ran before and runs again if this fails.
        previous: Slot,
        /// Starts that remain; once it is being taken back, tries to return that remain.
        boots_left: u8,
        /// End of the trial, Unix s; 0 before the first start.
        deadline_s: i64,
        /// Why it is being taken back, if it is.
        taken_back: Option<Reason>,
    },
}

impl State {
    /// The release it is about.
    pub fn release(&self) -> Option<&Sha256Hex> {
        match self {
            Self::Idle => None,
            Self::Downloading { release, .. }
            | Self::Verified { release }
            | Self::Written { release, .. }
            | Self::Trial { release, .. } => Some(release),
        }
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Director and image repository agree on a release that fits and there is room for.
    Ordered {
        /// Which release.
        release: Sha256Hex,
    },
    /// Bytes arrived.
    Received {
        /// Bytes on the terminal.
        offset: u64,
    },
    /// The whole payload is here and its digest holds.
    DigestHolds,
    /// The slot was written, read back, and the digest holds there too.
    SlotHolds {
        /// Which slot.
        slot: Slot,
    },
    /// The server still wants it and the terminal is free: go.
    Approved {
        /// What runs now.
        previous: Slot,
    },
    /// The agent started.
    Booted {
        /// What runs now.
        slot: Slot,
        /// End of a trial that would start now, Unix s.
        deadline_s: i64,
    },
    /// The health command is content and the slot is marked good.
    Healthy,
    /// The health command is not content.
    Unhealthy,
    /// The trial's deadline passed.
    Late,
    /// It cannot be done, for a reason that stays.
    Refused(Reason),
    /// It cannot be done now.
    Postponed(Reason),
    /// The server took the order back.
    Withdrawn,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Stay,
    /// Read both repositories again: the order may have changed meanwhile.
    Look,
    /// Fetch what is missing of the payload, after deleting what is there of any other release.
    Download,
    /// Write the inactive slot, read it back, hash it.
    WriteSlot,
    /// Ask the server whether it still wants it.
    AskServer,
    /// Make the slot the one to start from, then restart.
    Activate(Slot),
    /// Run the health command.
    CheckHealth,
    /// Delete the rejected bytes.
    Discard,
    /// Make the slot unbootable, but keep the payload: a rollout that goes on again orders it again.
    SetAside,
    /// Delete what a power cut left behind in the slot that does not run, if it is not bootable.
    Tidy,
}

/// The answer to an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The new state, to be made durable first.
    pub state: State,
    /// What to do then.
    pub action: Action,
    /// What to tell the server, if it changed.
    pub report: Option<(Phase, Option<Reason>)>,
}

impl Step {
    fn to(state: State, action: Action) -> Self {
        Self { state, action, report: None }
    }

    fn tell(mut self, phase: Phase, reason: Option<Reason>) -> Self {
        self.report = Some((phase, reason));
        self
    }
}

/// The next state.
pub fn step(state: &State, event: &Event) -> Step {
    match state {
        State::Idle => idle(event),
        State::Downloading { release, offset } => downloading(release, *offset, event),
        State::Verified { release } => verified(release, event),
        State::Written { release, slot } => written(release, *slot, event),
        State::Trial { taken_back: None, deadline_s: 0, .. } => about_to_start(state, event),
        State::Trial { taken_back: None, .. } => on_trial(state, event),
        State::Trial { taken_back: Some(reason), .. } => going_back(state, *reason, event),
    }
}

fn idle(event: &Event) -> Step {
    let stay = Step::to(State::Idle, Action::Stay);
    match event {
        Event::Ordered { release } => start(release),
        Event::Refused(reason) => stay.tell(Phase::Failed, Some(*reason)),
        Event::Postponed(reason) => stay.tell(Phase::Deferred, Some(*reason)),
        Event::Booted { .. } => Step::to(State::Idle, Action::Tidy),
        Event::Received { .. }
        | Event::DigestHolds
        | Event::SlotHolds { .. }
        | Event::Approved { .. }
        | Event::Healthy
        | Event::Unhealthy
        | Event::Late
        | Event::Withdrawn => stay,
    }
}

fn start(release: &Sha256Hex) -> Step {
    Step::to(State::Downloading { release: release.clone(), offset: 0 }, Action::Download)
        .tell(Phase::Downloading, None)
}

fn downloading(release: &Sha256Hex, offset: u64, event: &Event) -> Step {
    let same = State::Downloading { release: release.clone(), offset };
    match event {
        Event::Ordered { release: ordered } if ordered == release => {
            Step::to(same, Action::Download).tell(Phase::Downloading, None)
        }
        Event::Received { offset } => {
            let next = State::Downloading { release: release.clone(), offset: *offset };
            Step::to(next, Action::Stay).tell(Phase::Downloading, None)
        }
        Event::DigestHolds => Step::to(State::Verified { release: release.clone() }, Action::WriteSlot),
        Event::Ordered { .. }
        | Event::SlotHolds { .. }
        | Event::Approved { .. }
        | Event::Booted { .. }
        | Event::Healthy
        | Event::Unhealthy
        | Event::Late
        | Event::Refused(_)
        | Event::Postponed(_)
        | Event::Withdrawn => before_the_boot_decision(same, event),
    }
}

fn verified(release: &Sha256Hex, event: &Event) -> Step {
    let same = State::Verified { release: release.clone() };
    match event {
        Event::Ordered { release: ordered } if ordered == release => Step::to(same, Action::WriteSlot),
        Event::SlotHolds { slot } => {
            let next = State::Written { release: release.clone(), slot: *slot };
            Step::to(next, Action::AskServer).tell(Phase::Installing, None)
        }
        Event::Ordered { .. }
        | Event::Received { .. }
        | Event::DigestHolds
        | Event::Approved { .. }
        | Event::Booted { .. }
        | Event::Healthy
        | Event::Unhealthy
        | Event::Late
        | Event::Refused(_)
        | Event::Postponed(_)
        | Event::Withdrawn => before_the_boot_decision(same, event),
    }
}

fn written(release: &Sha256Hex, slot: Slot, event: &Event) -> Step {
    let same = State::Written { release: release.clone(), slot };
    match event {
        Event::Ordered { release: ordered } if ordered == release => {
            Step::to(same, Action::AskServer).tell(Phase::Installing, None)
        }
        Event::Approved { previous } => {
            let next = State::Trial {
                release: release.clone(),
                slot,
                previous: *previous,
                boots_left: BOOTS_MAX,
                deadline_s: 0,
                taken_back: None,
            };
            Step::to(next, Action::Activate(slot)).tell(Phase::Rebooting, None)
        }
        Event::Ordered { .. }
        | Event::Received { .. }
        | Event::DigestHolds
        | Event::SlotHolds { .. }
        | Event::Booted { .. }
        | Event::Healthy
        | Event::Unhealthy
        | Event::Late
        | Event::Refused(_)
        | Event::Postponed(_)
        | Event::Withdrawn => before_the_boot_decision(same, event),
    }
}

/// What is the same in every state before the boot decision: it can still be given up.
fn before_the_boot_decision(same: State, event: &Event) -> Step {
    match event {
        Event::Ordered { release } => start(release),
        Event::Refused(reason) => Step::to(State::Idle, Action::Discard).tell(Phase::Failed, Some(*reason)),
        Event::Withdrawn => Step::to(State::Idle, Action::SetAside).tell(Phase::Failed, Some(Reason::Cancelled)),
        Event::Postponed(reason) => Step::to(same, Action::Stay).tell(Phase::Deferred, Some(*reason)),
        Event::Booted { .. } => Step::to(same, Action::Look),
        Event::Received { .. }
        | Event::DigestHolds
        | Event::SlotHolds { .. }
        | Event::Approved { .. }
        | Event::Healthy
        | Event::Unhealthy
        | Event::Late => Step::to(same, Action::Stay),
    }
}

/// The boot decision was taken and the new firmware has not been seen running. While the old one runs, the permit may be
/// as old as the power cut was long: it is asked for again.
fn about_to_start(state: &State, event: &Event) -> Step {
    let State::Trial { release, slot, boots_left, .. } = state else {
        return Step::to(state.clone(), Action::Stay);
    };
    match event {
        // Costs no start: a terminal that is switched on and off before it may go has not failed to start anything.
        Event::Booted { slot: runs, .. } if runs != slot => Step::to(state.clone(), Action::Look),
        Event::Ordered { release: ordered } if ordered == release => Step::to(state.clone(), Action::AskServer),
        Event::Approved { .. } if *boots_left <= 1 => take_back(state, Reason::BootFailed),
        Event::Approved { .. } => Step::to(one_less(state), Action::Activate(*slot)).tell(Phase::Rebooting, None),
        // The switch itself failed: half of it may be done.
        Event::Refused(Reason::InstallerFailed) | Event::Booted { .. } => on_trial(state, event),
        Event::Ordered { .. }
        | Event::Received { .. }
        | Event::DigestHolds
        | Event::SlotHolds { .. }
        | Event::Healthy
        | Event::Unhealthy
        | Event::Late
        | Event::Refused(_)
        | Event::Postponed(_)
        | Event::Withdrawn => before_the_boot_decision(state.clone(), event),
    }
}

/// The same state with one start less.
fn one_less(state: &State) -> State {
    let mut next = state.clone();
    if let State::Trial { boots_left, .. } = &mut next {
        *boots_left = boots_left.saturating_sub(1);
    }
    next
}

/// The old firmware again, for `reason`.
fn take_back(state: &State, reason: Reason) -> Step {
    let mut next = state.clone();
    let State::Trial { previous, boots_left, taken_back, .. } = &mut next else {
        return Step::to(next, Action::Stay);
    };
    (*boots_left, *taken_back) = (RETURNS_MAX, Some(reason));
    let previous = *previous;
    Step::to(next, Action::Activate(previous)).tell(Phase::RolledBack, Some(reason))
}

fn on_trial(state: &State, event: &Event) -> Step {
    let State::Trial { slot, boots_left, .. } = state else {
        return Step::to(state.clone(), Action::Stay);
    };
    match event {
        Event::Booted { .. } if *boots_left == 0 => take_back(state, Reason::BootFailed),
        Event::Booted { slot: runs, deadline_s: new } if runs == slot => {
            let mut next = one_less(state);
            if let State::Trial { deadline_s: known @ 0, .. } = &mut next {
                *known = *new;
            }
            Step::to(next, Action::CheckHealth).tell(Phase::Trial, None)
        }
        // The new firmware ran before and the boot loader fell back.
        Event::Booted { .. } => Step::to(one_less(state), Action::Activate(*slot)).tell(Phase::Rebooting, None),
        Event::Healthy => Step::to(State::Idle, Action::Stay).tell(Phase::Succeeded, None),
        Event::Unhealthy => take_back(state, Reason::HealthCheckFailed),
        Event::Late => take_back(state, Reason::TrialDeadline),
        Event::Refused(reason) => take_back(state, *reason),
        Event::Ordered { .. }
        | Event::Received { .. }
        | Event::DigestHolds
        | Event::SlotHolds { .. }
        | Event::Approved { .. }
        | Event::Postponed(_)
        | Event::Withdrawn => Step::to(state.clone(), Action::Stay),
    }
}

fn going_back(state: &State, reason: Reason, event: &Event) -> Step {
    let State::Trial { previous, boots_left, .. } = state else {
        return Step::to(state.clone(), Action::Stay);
    };
    match event {
        Event::Booted { slot, .. } if slot == previous => {
            Step::to(State::Idle, Action::Discard).tell(Phase::RolledBack, Some(reason))
        }
        // The old firmware does not start any more: a terminal that is up and says so beats one that restarts for ever.
        Event::Booted { .. } if *boots_left == 0 => Step::to(state.clone(), Action::Stay),
        Event::Booted { .. } => Step::to(one_less(state), Action::Activate(*previous)),
        Event::Ordered { .. }
        | Event::Received { .. }
        | Event::DigestHolds
        | Event::SlotHolds { .. }
        | Event::Approved { .. }
        | Event::Healthy
        | Event::Unhealthy
        | Event::Late
        | Event::Refused(_)
        | Event::Postponed(_)
        | Event::Withdrawn => Step::to(state.clone(), Action::Stay),
    }
}

#[cfg(test)]
#[path = "update_tests.rs"]
mod tests;
