//! Drives the update: each event goes through the state machine, the new state is made durable, then the action is done.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tillward_protocol::checkin::{Desired, Slot};
use tillward_protocol::manifest::{Component, Refusal};
use tillward_protocol::phase::{Phase, Reason, UpdateReport};
use tillward_protocol::trust::{DirectorOrder, Refused, TerminalFacts};

use crate::agent::{Agent, AgentError, Flow};
use crate::client::CallError;
use crate::download::{self, Incomplete, Listener, Wanted};
use crate::health::{self, Health};
use crate::journal::Order;
use crate::log::note;
use crate::report::{sentence, space_bytes};
use crate::slots::{self, Firmware};
use crate::tuf::{self, Agreed, Disagreed, Place};
use crate::update::{self, Action, Event, State};
use crate::{application, clock};

/// Tries to go on at once after a cut, as long as each brought something.
const RESUMES_MAX: u32 = 5;
/// Time given to the command that restarts the terminal.
const REBOOT_TIMEOUT: Duration = Duration::from_secs(120);

/// What an event is about, when the journal does not say.
#[derive(Debug, Clone)]
pub(crate) struct About {
    refused: Refused,
    /// The server's number of the order, as far as it is known.
    assignment: Option<i64>,
    /// The director's order that is finished with by this.
    finished: Option<i64>,
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

    fn tell(&mut self, phase: Phase, reason: Option<Reason>, about: Option<About>) {
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
    fn finish(&mut self) {
        if let Some(order) = self.journal.order.take() {
            self.journal.finished = self.journal.finished.max(order.assignment_version);
        }
    }

    fn commit(&mut self) {
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
                Action::Tidy => {
                    self.clear(self.slots.tidy(self.target_slot()));
                    return Ok(Flow::On);
                }
            };
        }
    }

    /// Looks at the order when the server has a new one, or goes on with the one under way.
    pub(crate) fn follow(&mut self, desired: &Desired) -> Result<Flow, AgentError> {
        if desired.director <= self.journal.finished && self.journal.update == State::Idle {
            return Ok(Flow::On);
        }
        let action = self.look(desired.director)?;
        self.drive(action)
    }

    fn look(&mut self, desired: i64) -> Result<Action, AgentError> {
        if self.damaged {
            let refused = Refused::new(Reason::StateDamaged, "the journal is damaged; enrol this terminal again");
            self.journal.finished = desired;
            let about = About { refused, assignment: Some(desired), finished: Some(desired) };
            return self.apply(&Event::Refused(Reason::StateDamaged), Some(about));
        }
        if self.journal.update == State::Idle {
            self.journal.order = None;
        }
        let image_url = format!("{}/metadata", self.config.image_url());
        let director_url = format!("{}/t/{}/metadata", self.config.director_url(), self.enrolment.terminal_id);
        let facts = TerminalFacts {
            terminal_id: self.enrolment.terminal_id,
            model: self.config.model.clone(),
            committed: self.journal.committed.clone(),
            director_floor: self.journal.director_version,
        };
        let director = Place {
            name: "director",
            metadata_url: &director_url,
            factory_root: &self.config.trust.director_root,
            floors: &self.journal.director,
        };
        let image = Place {
            name: "image",
            metadata_url: &image_url,
            factory_root: &self.config.trust.image_root,
            floors: &self.journal.image,
        };
        let folder = self.config.state_dir.join("metadata");
        match tuf::look(&self.client, &folder, director, image, &facts, self.now_s()) {
            Ok(agreed) => self.agreed(agreed, desired),
            Err(disagreed) => self.disagreed(disagreed, desired),
        }
    }

    fn disagreed(&mut self, disagreed: Disagreed, desired: i64) -> Result<Action, AgentError> {
        let Disagreed { refused, custom, assignment } = disagreed;
        let reason = refused.reason;
        if reason.is_transient() {
            let about = About { refused, assignment, finished: None };
            return self.apply(&Event::Postponed(reason), Some(about));
        }
        // Without a verified document the order's own number is unknown; the director's is the best there is.
        let finished = custom.map_or(desired, |custom| custom.assignment_version);
        let under_way = self.journal.order.as_ref().map(|order| order.assignment);
        let assignment = assignment.or(under_way).or(Some(desired));
        let about = About { refused, assignment, finished: Some(finished) };
        self.apply(&Event::Refused(reason), Some(about))
    }

    fn agreed(&mut self, agreed: Agreed, desired: i64) -> Result<Action, AgentError> {
        let version = agreed.custom.assignment_version;
        self.journal.director = agreed.director;
        self.journal.image = agreed.image;
        self.journal.director_version = agreed.director_version;
        self.journal.time_floor_s = self.journal.time_floor_s.max(agreed.custom.issued_at);
        let Some(order) = agreed.order else {
            self.journal.finished = self.journal.finished.max(version);
            return self.apply(&Event::Withdrawn, None);
        };
        if version <= self.journal.finished {
            note("update", format_args!("the director still shows order {version}, which is finished with"));
            self.save()?;
            return Ok(Action::Stay);
        }
        let installed =
            self.journal.components.iter().any(|component| component.sha256.as_ref() == Some(&order.sha256));
        let release = order.sha256.clone();
        let was_tried = self.journal.tried.contains(&release);
        self.adopt(order, version, desired);
        if installed {
            return self.already_installed();
        }
        if was_tried {
            let refused = Refused::new(Reason::RolledBackBefore, "this release was taken back here before");
            return self.apply(&Event::Refused(Reason::RolledBackBefore), Some(refused.into()));
        }
        match self.preflight() {
            Ok(()) => self.apply(&Event::Ordered { release }, None),
            Err(refused) if refused.reason.is_transient() => {
                self.apply(&Event::Postponed(refused.reason), Some(refused.into()))
            }
            Err(refused) => self.apply(&Event::Refused(refused.reason), Some(refused.into())),
        }
    }

    /// Makes `order` the one under way, keeping what is known of its download.
    fn adopt(&mut self, order: DirectorOrder, assignment_version: i64, desired: i64) {
        let known = self.journal.order.take().filter(|known| known.sha256 == order.sha256);
        let (etag, resumed) = known.map_or((None, 0), |known| (known.etag, known.resumed));
        self.journal.order = Some(Order {
            assignment: order.assignment,
            assignment_version,
            desired,
            name: order.name,
            length: order.length,
            sha256: order.sha256,
            component: order.matches.component,
            version: order.matches.version,
            release_counter: order.matches.release_counter,
            etag,
            resumed,
        });
    }

    /// What is ordered runs already: say so.
    fn already_installed(&mut self) -> Result<Action, AgentError> {
        let action = match self.journal.update {
            State::Idle => Action::Stay,
            State::Downloading { .. } | State::Verified { .. } | State::Written { .. } => Action::Discard,
            State::Trial { .. } => return Ok(Action::Stay),
        };
        self.journal.update = State::Idle;
        self.tell(Phase::Succeeded, None, None);
        self.finish();
        self.journal.refusal = None;
        self.save()?;
        Ok(action)
    }

    fn target_slot(&self) -> Slot {
        slots::other(self.running.slot)
    }

    fn is_free(&self) -> Result<(), Refused> {
        let state = application::state(self.config.application.state_file.as_ref());
        application::is_free(&state, self.config.update.battery_percent_min)
    }

    /// Whether this is the time, and whether there is room.
    fn preflight(&self) -> Result<(), Refused> {
        self.is_free()?;
        let Some(order) = &self.journal.order else { return Ok(()) };
        let path = self.slots.payload(self.target_slot(), &order.sha256);
        let folder = path.parent().unwrap_or(&self.config.state_dir);
        let here = std::fs::metadata(&path).map_or(0, |found| found.len());
        // What the slot holds of an older release is deleted first and gives its room back.
        let given_back: u64 = std::fs::read_dir(folder).map_or(0, |entries| {
            let others = entries.filter_map(Result::ok).filter(|entry| entry.path() != path);
            others.filter_map(|entry| entry.metadata().ok()).map(|found| found.len()).sum()
        });
        let needed = order.length.saturating_sub(here).saturating_add(self.config.update.reserve_bytes);
        let free = space_bytes(folder).map_err(|error| Refused::new(Reason::StorageError, error.to_string()))?;
        if free.saturating_add(given_back) < needed {
            let text = format!("{needed} bytes are needed, {free} are free");
            return Err(Refused::new(Reason::NoSpace, text).about(&order.name));
        }
        Ok(())
    }

    fn download(&mut self) -> Result<Action, AgentError> {
        let Some(order) = self.journal.order.clone() else { return Ok(Action::Stay) };
        let slot = self.target_slot();
        if let Err(error) = self.slots.prepare(slot, &order.sha256) {
            return self.refuse(Reason::StorageError, &error.to_string());
        }
        let path = self.slots.payload(slot, &order.sha256);
        let url = format!("{}/targets/{}.{}", self.config.image_url(), order.sha256, order.name);
        for _ in 0..=RESUMES_MAX {
            let before = std::fs::metadata(&path).map_or(0, |found| found.len());
            match self.fetch(&order, &url, &path)? {
                Ok(()) => return self.apply(&Event::DigestHolds, None),
                Err(Stop::Order(desired)) => return self.look(desired),
                Err(Stop::Refused(refused)) if !refused.reason.is_transient() => {
                    return self.apply(&Event::Refused(refused.reason), Some(refused.into()));
                }
                Err(Stop::Refused(refused)) => {
                    let after = std::fs::metadata(&path).map_or(0, |found| found.len());
                    if after > 0
                        && let Some(order) = &mut self.journal.order
                    {
                        order.resumed = order.resumed.saturating_add(1);
                    }
                    if after <= before || refused.reason == Reason::ServerBusy {
                        return self.apply(&Event::Postponed(refused.reason), Some(refused.into()));
                    }
                    note("download", format_args!("{}; going on from byte {after}", refused.detail));
                }
            }
        }
        let refused = Refused::new(Reason::NetworkError, "cut off again and again");
        self.apply(&Event::Postponed(Reason::NetworkError), Some(refused.into()))
    }

    fn fetch(&mut self, order: &Order, url: &str, path: &PathBuf) -> Result<Result<(), Stop>, AgentError> {
        let etag = self.journal.order.as_ref().and_then(|order| order.etag.clone());
        let wanted = Wanted { url, name: &order.name, length: order.length, sha256: &order.sha256, etag };
        let client = self.client.clone();
        let mut listener = Progress { agent: self, desired: order.desired, changed: None, error: None };
        let fetched = download::fetch(&client, &wanted, path, &mut listener);
        let (changed, error) = (listener.changed, listener.error);
        if let Some(error) = error {
            return Err(error);
        }
        Ok(match fetched {
            Ok(()) => Ok(()),
            Err(Incomplete::Refused(refused)) => Err(Stop::Refused(refused)),
            Err(Incomplete::Stopped) => Err(Stop::Order(changed.unwrap_or(order.desired))),
        })
    }

    fn write_slot(&mut self) -> Result<Action, AgentError> {
        let Some(order) = self.journal.order.clone() else { return Ok(Action::Stay) };
        let slot = self.target_slot();
        if let Err(error) = self.slots.write(slot, &order.sha256, &order.version) {
            return self.refuse(Reason::InstallerFailed, &error.to_string());
        }
        match self.slots.read_back(slot, order.length) {
            Ok((digest, true)) if digest == order.sha256 => {}
            Ok((digest, _)) => {
                let text = format!("the slot reads back as {digest}, signed is {}", order.sha256);
                return self.refuse(Reason::DigestMismatch, &text);
            }
            Err(error) => return self.refuse(Reason::InstallerFailed, &error.to_string()),
        }
        let firmware = Firmware { version: order.version, sha256: Some(order.sha256), length: order.length };
        if let Err(error) = self.slots.mark_bootable(slot, &firmware) {
            return self.refuse(Reason::StorageError, &error.to_string());
        }
        self.apply(&Event::SlotHolds { slot }, None)
    }

    fn refuse(&mut self, reason: Reason, what: &str) -> Result<Action, AgentError> {
        self.apply(&Event::Refused(reason), Some(Refused::new(reason, what).into()))
    }

    /// The last moment at which the server, or the person at the terminal, can say no.
    fn ask_server(&mut self) -> Result<Action, AgentError> {
        let Some(desired) = self.journal.order.as_ref().map(|order| order.desired) else { return Ok(Action::Stay) };
        match self.check_in()? {
            Ok(answer) if answer.desired.director == desired => match self.is_free() {
                Ok(()) => self.apply(&Event::Approved { previous: self.running.slot }, None),
                Err(refused) => self.apply(&Event::Postponed(refused.reason), Some(refused.into())),
            },
            Ok(answer) => self.look(answer.desired.director),
            Err(error) => {
                let reason =
                    if matches!(error, CallError::Busy(_)) { Reason::ServerBusy } else { Reason::NetworkError };
                let refused = Refused::new(reason, format!("asking before the installation: {error}"));
                self.apply(&Event::Postponed(reason), Some(refused.into()))
            }
        }
    }

    /// Makes `slot` the one to start from and restarts. `None` when the agent itself has to start over.
    fn activate(&mut self, slot: Slot) -> Result<Option<Action>, AgentError> {
        let going_back = matches!(self.journal.update, State::Trial { taken_back: Some(_), .. });
        // Best effort: the server likes to know, the decision is taken. A firmware that failed is not asked to report.
        if !going_back && let Err(error) = self.check_in()? {
            note("update", format_args!("restarting without having told the server: {error}"));
        }
        if let Err(error) = self.slots.activate(slot) {
            note("update", format_args!("activating slot {} failed: {error}", slot.as_str()));
            if going_back {
                self.wait(Duration::from_secs(self.config.update.health_retry_s), false)?;
                return Ok(None);
            }
            return self.refuse(Reason::InstallerFailed, &error.to_string()).map(Some);
        }
        if let Some(command) = &self.config.update.reboot_command {
            match health::run(command, &[], REBOOT_TIMEOUT, 4096) {
                // The terminal goes down; if it does not, starting over is the next best thing.
                Ok(_) => std::thread::sleep(REBOOT_TIMEOUT),
                Err(error) => note("update", format_args!("restart command: {error}")),
            }
        }
        Ok(None)
    }

    /// Runs the trial of firmware that has just started.
    fn prove(&mut self) -> Result<Action, AgentError> {
        let State::Trial { slot, deadline_s, .. } = self.journal.update else { return Ok(Action::Stay) };
        if let Err(error) = self.check_in()? {
            note("update", format_args!("on trial without having told the server: {error}"));
        }
        let started = Instant::now();
        let longest = Duration::from_secs(self.config.update.trial_deadline_s);
        let timeout = Duration::from_secs(self.config.update.health_timeout_s);
        loop {
            match health::check(self.config.update.health_command.as_ref(), timeout) {
                Health::Healthy => match self.slots.commit(slot) {
                    Ok(()) => return self.apply(&Event::Healthy, None),
                    Err(error) => return self.refuse(Reason::InstallerFailed, &error.to_string()),
                },
                Health::Unhealthy => {
                    let refused = Refused::new(Reason::HealthCheckFailed, "the health command is not content");
                    return self.apply(&Event::Unhealthy, Some(refused.into()));
                }
                // Both clocks: the wall clock survives a restart, the other one cannot be set.
                Health::NotYet if clock::unix_s() >= deadline_s || started.elapsed() >= longest => {
                    let refused = Refused::new(Reason::TrialDeadline, "not healthy before the end of the trial");
                    return self.apply(&Event::Late, Some(refused.into()));
                }
                Health::NotYet => self.wait(Duration::from_secs(self.config.update.health_retry_s), false)?,
            }
        }
    }

    /// Deleting is not worth stopping for: the next download starts with it.
    fn clear(&self, cleared: std::io::Result<()>) {
        if let Err(error) = cleared {
            note("update", format_args!("deleting what was not installed: {error}"));
        }
    }
}

/// Why a download ended early.
enum Stop {
    Refused(Refused),
    /// The server's order changed to this.
    Order(i64),
}

/// Keeps checking in while a long download runs.
struct Progress<'a> {
    agent: &'a mut Agent,
    desired: i64,
    changed: Option<i64>,
    error: Option<AgentError>,
}

impl Progress<'_> {
    fn look_up(&mut self, offset: u64) -> Result<(), AgentError> {
        self.agent.apply(&Event::Received { offset }, None)?;
        self.agent.collect()?;
        if let Ok(answer) = self.agent.check_in()?
            && answer.desired.director != self.desired
        {
            self.changed = Some(answer.desired.director);
        }
        Ok(())
    }
}

impl Listener for Progress<'_> {
    fn tagged(&mut self, etag: &str) {
        const ETAG_BYTES_MAX: usize = 200;
        if etag.len() > ETAG_BYTES_MAX {
            return;
        }
        if let Some(order) = &mut self.agent.journal.order {
            order.etag = Some(etag.to_owned());
        }
        self.error = self.agent.save().err();
    }

    fn received(&mut self, offset: u64) -> ControlFlow<()> {
        if self.error.is_none() && Instant::now() >= self.agent.next_check_in {
            self.error = self.look_up(offset).err();
        }
        if self.error.is_some() || self.changed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}
