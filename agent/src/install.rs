//! The steps of an installation: fetch, write the slot, ask once more, start it, prove it.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use tillward_protocol::checkin::Slot;
use tillward_protocol::phase::Reason;
use tillward_protocol::trust::Refused;

use crate::agent::{Agent, AgentError, Mode};
use crate::client::CallError;
use crate::clock::{self, Moment};
use crate::download::{self, Incomplete, Listener, Wanted};
use crate::health::{self, Health};
use crate::journal::Order;
use crate::log::note;
use crate::slots::{self, Firmware};
use crate::update::{Action, Event, State};

/// Tries to go on at once after a cut, as long as each brought something.
const RESUMES_MAX: u32 = 5;
/// Time given to the command that restarts the terminal.
const REBOOT_TIMEOUT: Duration = Duration::from_secs(120);
/// Difference between two clocks over one trial that is drift and not a clock that was set.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(30);

impl Agent {
    /// The slot to write.
    pub(crate) fn target_slot(&self) -> Slot {
        slots::other(self.running.slot)
    }

    pub(crate) fn download(&mut self) -> Result<Action, AgentError> {
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
                    if after <= before || matches!(refused.reason, Reason::ServerBusy | Reason::WifiOnly) {
                        return self.apply(&Event::Postponed(refused.reason), Some(refused.into()));
                    }
                    note("download", format_args!("{}; going on from byte {after}", refused.detail));
                }
            }
        }
        let refused = Refused::new(Reason::NetworkError, "cut off again and again");
        self.apply(&Event::Postponed(Reason::NetworkError), Some(refused.into()))
    }

    fn fetch(&mut self, order: &Order, url: &str, path: &Path) -> Result<Result<(), Stop>, AgentError> {
        let etag = self.journal.order.as_ref().and_then(|order| order.etag.clone());
        let wanted = Wanted { url, name: &order.name, length: order.length, sha256: &order.sha256, etag };
        let client = self.client.clone();
        let mut listener = Progress { agent: self, desired: order.desired, stop: None, error: None };
        let fetched = download::fetch(&client, &wanted, path, &mut listener);
        let (stop, error) = (listener.stop, listener.error);
        if let Some(error) = error {
            return Err(error);
        }
        Ok(match fetched {
            Ok(()) => Ok(()),
            Err(Incomplete::Refused(refused)) => Err(Stop::Refused(refused)),
            Err(Incomplete::Stopped) => Err(stop.unwrap_or(Stop::Order(order.desired))),
        })
    }

    pub(crate) fn write_slot(&mut self) -> Result<Action, AgentError> {
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
    ///
    /// No answer is a no, however new the order: a halt could not have been heard. An order that was verified too long ago
    /// is verified again first, so that a release withdrawn during a long download does not start.
    pub(crate) fn ask_server(&mut self) -> Result<Action, AgentError> {
        let Some(desired) = self.journal.order.as_ref().map(|order| order.desired) else { return Ok(Action::Stay) };
        if let Err(refused) = self.is_free() {
            return self.apply(&Event::Postponed(refused.reason), Some(refused.into()));
        }
        let valid = Duration::from_secs(self.config.update.order_valid_s);
        if !self.agreed_at.is_some_and(|agreed_at| agreed_at.is_within(valid)) {
            return self.look(desired);
        }
        match self.check_in()? {
            // Asked again: the answer may have taken its time.
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
    pub(crate) fn activate(&mut self, slot: Slot) -> Result<Option<Action>, AgentError> {
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
    pub(crate) fn prove(&mut self) -> Result<Action, AgentError> {
        let State::Trial { slot, deadline_s, .. } = self.journal.update else { return Ok(Action::Stay) };
        if let Err(error) = self.check_in()? {
            note("update", format_args!("on trial without having told the server: {error}"));
        }
        let started = Moment::now();
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
                // Both clocks: the wall clock survives a restart, the other one cannot be set. A wall clock that was set
                // meanwhile, as happens after a start with an empty coin cell, ends no trial.
                Health::NotYet
                    if started.elapsed() >= longest
                        || (clock::unix_s() >= deadline_s && started.is_unset_since(CLOCK_TOLERANCE)) =>
                {
                    let refused = Refused::new(Reason::TrialDeadline, "not healthy before the end of the trial");
                    return self.apply(&Event::Late, Some(refused.into()));
                }
                Health::NotYet => self.wait(Duration::from_secs(self.config.update.health_retry_s), false)?,
            }
        }
    }

    /// Deleting is not worth stopping for: the next download starts with it.
    pub(crate) fn clear(&self, cleared: std::io::Result<()>) {
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
    stop: Option<Stop>,
    error: Option<AgentError>,
}

impl Progress<'_> {
    fn look_up(&mut self, offset: u64) -> Result<(), AgentError> {
        self.agent.apply(&Event::Received { offset }, None)?;
        self.agent.collect()?;
        match self.agent.check_in()? {
            Ok(answer) if answer.desired.director != self.desired => {
                self.stop = Some(Stop::Order(answer.desired.director));
            }
            Ok(_) => self.stop = self.agent.may_fetch().err().map(Stop::Refused),
            // The payload may come from elsewhere and goes on; the server is asked again later.
            Err(error) => self.agent.failed(&error, Mode::Forever)?,
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
        if self.error.is_some() || self.stop.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}
