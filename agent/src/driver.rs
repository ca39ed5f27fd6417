//! Drives the update: each event goes through the state machine, the new state is made durable, then the action is done.

use tillward_protocol::manifest::{Component, Refusal};
use tillward_protocol::phase::{Phase, Reason, UpdateReport};
use tillward_protocol::trust::Refused;

use crate::agent::{Agent, AgentError, Flow};
use crate::log::note;
use crate::report::{sentence, space_bytes};
use crate::update::{self, Action, Event, State};

/// What an event is about, when the journal does not say.
#[derive(Debug, Clone)]
pub(crate) struct About {
    pub(crate) refused: Refused,
    /// The server's number of the order, as far as it is known.
    pub(crate) assignment: Option<i64>,
    /// The director's order that is finished with by this; from a document that verified.
    pub(crate) finished: Option<i64>,
}

impl From<Refused> for About {
    fn from(refused: Refused) -> Self {
        Self { refused, assignment: None, finished: None }
    }
}

impl Agent {
    /// Puts `event` through the state machine and makes the outcome durable.
    pub(crate) fn apply(&mut self, event: &Event, about: Option<About>) -> Result<Action, AgentError> {
        let before = self.journal.update.clone();
        let step = update::step(&before, event);
        self.journal.update = step.state;
        if step.action == Action::SetAside {
            self.journal.kept = before.release().cloned();
        } else if self.journal.update != State::Idle {
            self.journal.kept = None;
        }
        if let Some((phase, reason)) = step.report {
            self.tell(phase, reason, about);
            match phase {
                Phase::Succeeded => self.commit(),
                Phase::Failed => self.finish(),
                Phase::RolledBack => self.note_taken_back(&before),
                Phase::Downloading | Phase::Installing | Phase::Rebooting | Phase::Trial | Phase::Deferred => {}
            }
        }
        self.save()?;
        Ok(step.action)
    }

    pub(crate) fn tell(&mut self, phase: Phase, reason: Option<Reason>, about: Option<About>) {
        let same = self.journal.report.as_ref().is_some_and(|told| (told.phase, told.reason) == (phase, reason));
        if same && about.is_none() && phase != Phase::Downloading {
            return;
        }
        let order = self.journal.order.as_ref();
        let detail = about.as_ref().map(|about| sentence(&about.refused.detail));
        let assignment = about.as_ref().and_then(|about| about.assignment).or(order.map(|order| order.assignment));
        if let (Phase::Failed | Phase::RolledBack, Some(reason)) = (phase, reason) {
            let target = about.as_ref().and_then(|about| about.refused.target.clone());
            let target = target.or(order.map(|order| order.name.clone()));
            self.journal.refusal = Some(Refusal { reason, target, detail: detail.clone() });
        }
        let text = detail.as_deref().unwrap_or_default();
        note("update", format_args!("{} {} {text}", phase.as_str(), reason.map_or("", Reason::as_str)));
        if let Some(finished) = about.as_ref().and_then(|about| about.finished) {
            self.journal.finished = self.journal.finished.max(finished);
        }
        let bytes = match (&self.journal.update, order) {
            (State::Downloading { offset, .. }, Some(_)) => Some(*offset),
            (State::Verified { .. } | State::Written { .. } | State::Trial { .. }, Some(order)) => Some(order.length),
            (State::Idle, _) | (_, None) => None,
        };
        self.journal.report = assignment.map(|assignment| UpdateReport {
            assignment,
            phase,
            reason,
            detail,
            bytes,
            bytes_total: order.map(|order| order.length),
            resumed: order.map(|order| order.resumed).filter(|resumed| *resumed > 0),
        });
    }

    /// The order is over: its number is finished with.
    pub(crate) fn finish(&mut self) {
        if let Some(order) = self.journal.order.take() {
            self.journal.finished = self.journal.finished.max(order.assignment_version);
        }
    }

    pub(crate) fn commit(&mut self) {
        self.journal.refusal = None;
        if let Some(order) = self.journal.order.clone() {
            let highest = self.journal.committed.entry(order.component.clone()).or_default();
            *highest = (*highest).max(order.release_counter);
            let installed = Component {
                name: order.component,
                version: order.version,
                sha256: Some(order.sha256),
                release_counter: order.release_counter,
            };
            self.journal.components.retain(|component| component.name != installed.name);
            self.journal.components.push(installed);
        }
        self.finish();
    }

    /// Remembered before the restart that takes the firmware back.
    fn note_taken_back(&mut self, before: &State) {
        if let State::Trial { release, .. } = before {
            self.journal.remember_tried(release);
        }
        if self.journal.update == State::Idle {
            self.finish();
        }
    }

    /// Does `action` and what follows from it.
    pub(crate) fn drive(&mut self, mut action: Action) -> Result<Flow, AgentError> {
        loop {
            action = match action {
                Action::Stay | Action::Look => return Ok(Flow::On),
                Action::Download => self.download()?,
                Action::WriteSlot => self.write_slot()?,
                Action::AskServer => self.ask_server()?,
                Action::CheckHealth => self.prove()?,
                Action::Activate(slot) => match self.activate(slot)? {
                    Some(next) => next,
                    None => return Ok(Flow::Restart),
                },
                Action::Discard => {
                    self.clear(self.slots.discard(self.target_slot()));
                    return Ok(Flow::On);
                }
                Action::SetAside | Action::Tidy => {
                    let slot = self.target_slot();
                    self.clear(match &self.journal.kept {
                        Some(release) => self.slots.set_aside(slot, release),
                        None => self.slots.tidy(slot),
                    });
                    return Ok(Flow::On);
                }
            };
        }
    }

    /// What is kept of a withdrawn release gives way when space runs short.
    pub(crate) fn make_room(&mut self) -> Result<(), AgentError> {
        let Some(release) = &self.journal.kept else { return Ok(()) };
        let path = self.slots.payload(self.target_slot(), release);
        let folder = path.parent().unwrap_or(&self.config.state_dir);
        if space_bytes(folder).is_ok_and(|free| free >= self.config.update.reserve_bytes) {
            return Ok(());
        }
        note("update", format_args!("space is short: release {release}, kept since it was withdrawn, is deleted"));
        self.journal.kept = None;
        self.save()?;
        self.clear(self.slots.discard(self.target_slot()));
        Ok(())
    }
}
