//! One life of the agent, from a start of the terminal to the next: load, go on with the update, check in, wait, again.
//!
//! One thread. Everything that must survive is in the journal and the spool; a restart is the normal path.

use std::io;
use std::time::{Duration, Instant};

use tillward_protocol::checkin::{CheckInAnswer, Desired, FAILURES_MAX};
use tillward_protocol::ids::Stream;
use tillward_protocol::manifest::Component;
use tillward_protocol::phase::Phase;

use crate::backoff::{Backoff, Outcome};
use crate::client::{CallError, Client};
use crate::clock::Moment;
use crate::config::{Config, ConfigError, seconds};
use crate::identity::{Enrolment, Identity};
use crate::journal::{Journal, JournalFiles, Loaded};
use crate::log::note;
use crate::meter::Meter;
use crate::probe::Probe;
use crate::profile::Profile;
use crate::slots::{self, Running, Slots};
use crate::spool::{Found, Spool};
use crate::status::Status;
use crate::update::Event;
use crate::{application, clock, random, spool, storage};

/// Component name of the firmware the terminal came with.
const FACTORY_COMPONENT: &str = "os";
/// Check-ins in one round at most: what waits longer waits for the next round.
const ROUND_MAX: usize = 32;

/// Why the agent stopped.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The state folder cannot be used.
    #[error("storage: {0}")]
    Storage(#[from] io::Error),
    /// There is no enrolment and no code to get one.
    #[error("this terminal is not enrolled; run `tillward-agent enrol --config FILE --code CODE` once")]
    NotEnrolled,
    /// Enrolling failed.
    #[error("enrolment: {0}")]
    Enrolment(CallError),
    /// Something in the configuration cannot be used.
    #[error("{0}")]
    Unusable(String),
}

/// How long to live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Until the terminal is switched off.
    Forever,
    /// One round: check in, do what is to be done, report it.
    Once,
}

/// How a life ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The terminal, or at least the agent, starts again.
    Restarted,
    /// Its one round is over; whether the server answered.
    Done(bool),
}

/// Whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    /// Go on.
    On,
    /// A restart is due.
    Restart,
}

/// The agent and all it holds.
pub struct Agent {
    pub(crate) config: Config,
    pub(crate) identity: Identity,
    pub(crate) enrolment: Enrolment,
    pub(crate) client: Client,
    pub(crate) probe: Probe,
    pub(crate) slots: Box<dyn Slots>,
    pub(crate) running: Running,
    pub(crate) journal: Journal,
    pub(crate) damaged: bool,
    pub(crate) spool: Spool,
    pub(crate) profile: Profile,
    pub(crate) boot_id: String,
    pub(crate) next_check_in: Instant,
    /// When both repositories last agreed on the order under way; not since the agent started: `None`.
    pub(crate) agreed_at: Option<Moment>,
    pub(crate) status: Status,
    files: JournalFiles,
    backoff: Backoff,
}

/// Runs with `config` until told to stop; restarts within this process where no command restarts the terminal.
///
/// # Errors
/// What makes going on impossible; whoever started the agent starts it again.
pub fn run(config: &Config, mode: Mode) -> Result<bool, AgentError> {
    let mut delay = seconds_between(config.timing.boot_delay_min_s, config.timing.boot_delay_max_s);
    loop {
        let mut agent = Agent::start(config.clone(), mode)?;
        match agent.live(mode, delay)? {
            End::Restarted => delay = Duration::ZERO,
            End::Done(answered) => return Ok(answered),
        }
    }
}

fn seconds_between(low: f64, high: f64) -> Duration {
    random::between(seconds(low), seconds(high))
}

/// Enrols with `code`, also again after the trust state was damaged.
///
/// # Errors
/// See [`AgentError`].
pub fn enrol(config: &Config, code: &str) -> Result<Enrolment, AgentError> {
    storage::create_folder(&config.state_dir)?;
    let identity = Identity::load_or_create(&config.state_dir)?;
    let client = Client::new(config, &Meter::default()).map_err(AgentError::Unusable)?;
    let (mut files, loaded) = JournalFiles::load(&config.state_dir)?;
    let answer = client.enrol(&identity.enrol_request(&config.sn, code)).map_err(AgentError::Enrolment)?;
    if !matches!(loaded, Loaded::Valid(_)) {
        // Both copies exist before the enrolment does: from then on a missing journal is damage.
        for _ in 0..2 {
            files.save(&Journal::default())?;
        }
    }
    let enrolment = Enrolment::store(&config.state_dir, &config.sn, &answer)?;
    note("enrolment", format_args!("terminal {} enrolled as {}", enrolment.terminal_id, enrolment.sn));
    Ok(enrolment)
}

impl Agent {
    /// Loads everything, enrolling first if that is still to be done.
    ///
    /// # Errors
    /// See [`AgentError`].
    fn start(config: Config, mode: Mode) -> Result<Self, AgentError> {
        storage::create_folder(&config.state_dir)?;
        storage::create_folder(&config.drop_dir())?;
        let enrolment = match Enrolment::load(&config.state_dir)? {
            Some(enrolment) => enrolment,
            None => enrol_patiently(&config, mode)?,
        };
        let identity = Identity::load_or_create(&config.state_dir)?;
        let meter = Meter::default();
        let client = Client::new(&config, &meter).map_err(AgentError::Unusable)?;
        let (files, loaded) = JournalFiles::load(&config.state_dir)?;
        let (mut journal, damaged) = match loaded {
            Loaded::Valid(journal) => (*journal, false),
            Loaded::Missing | Loaded::Damaged => (Journal::default(), true),
        };
        let slots = slots::open(&config.slots, &config.state_dir)?;
        let running = slots.running()?;
        provide_factory_firmware(&mut journal, &running, config.trust.factory_counter);
        journal.starts = journal.starts.saturating_add(1);
        let fresh = if journal.stream == 0 { enrolment.stream } else { Stream(journal.stream.saturating_add(1)) };
        let (spool, found) = Spool::load(&config.state_dir, fresh)?;
        let mut boot_id = [0; 8];
        random::fill(&mut boot_id)?;
        let mut agent = Self {
            probe: Probe::new(meter, config.signal.clone()),
            profile: Profile::load(&config.state_dir)?,
            status: Status::new(&config),
            boot_id: hex::encode(boot_id),
            next_check_in: Instant::now(),
            agreed_at: None,
            backoff: Backoff::default(),
            config,
            identity,
            enrolment,
            client,
            slots,
            running,
            journal,
            damaged,
            spool,
            files,
        };
        agent.settle_stream(found)?;
        Ok(agent)
    }

    /// Sees to it that the stream in use is one that no lost report was ever sent in.
    fn settle_stream(&mut self, found: Found) -> Result<(), AgentError> {
        match found {
            Found::Valid if self.spool.stream() < self.enrolment.stream => {
                self.spool.start_stream(self.enrolment.stream)?
            }
            Found::Valid | Found::Missing => {}
            Found::Damaged => {
                let next = Stream(self.journal.stream.max(self.enrolment.stream.0).saturating_add(1));
                note(
                    "spool",
                    format_args!("damaged; what was in it is lost, counting starts again in stream {}", next.0),
                );
                self.spool.start_stream(next)?;
            }
        }
        self.journal.stream = self.journal.stream.max(self.spool.stream().0);
        Ok(())
    }

    /// Makes the journal durable. A damaged one is never written: its floors are unknown.
    pub(crate) fn save(&mut self) -> Result<(), AgentError> {
        if self.damaged {
            return Ok(());
        }
        Ok(self.files.save(&self.journal)?)
    }

    fn live(&mut self, mode: Mode, delay: Duration) -> Result<End, AgentError> {
        if self.damaged {
            note("journal", format_args!("damaged: nothing is installed until this terminal is enrolled again"));
        }
        // Never 0, which is a trial that has not begun.
        let deadline_s = self.now_s().saturating_add_unsigned(self.config.update.trial_deadline_s).max(1);
        let action = self.apply(&Event::Booted { slot: self.running.slot, deadline_s }, None)?;
        if self.drive(action)? == Flow::Restart {
            return Ok(End::Restarted);
        }
        if mode == Mode::Forever {
            self.wait(delay, false)?;
        }
        loop {
            self.collect()?;
            let (flow, answered) = self.round(mode)?;
            if flow == Flow::Restart {
                return Ok(End::Restarted);
            }
            if mode == Mode::Once {
                return Ok(End::Done(answered));
            }
            let remaining = self.next_check_in.saturating_duration_since(Instant::now());
            self.wait(remaining, answered)?;
        }
    }

    /// Checks in and does what the answer asks for; says whether the server answered.
    fn round(&mut self, mode: Mode) -> Result<(Flow, bool), AgentError> {
        let mut answered = false;
        for _ in 0..ROUND_MAX {
            let more;
            match self.check_in()? {
                Ok(answer) => {
                    answered = true;
                    // A report takes all that waits, up to its limit.
                    more = self.spool.waiting() > 0 || self.spool.payments_waiting() > 0;
                    if self.act_on(&answer)? == Flow::Restart {
                        return Ok((Flow::Restart, true));
                    }
                }
                Err(error) => {
                    self.failed(&error, mode)?;
                    return Ok((Flow::On, answered));
                }
            }
            if !more && !self.has_result() {
                break;
            }
        }
        Ok((Flow::On, answered))
    }

    /// Notes a try that failed and sets the time of the next one.
    pub(crate) fn failed(&mut self, error: &CallError, mode: Mode) -> Result<(), AgentError> {
        let outcome = match error {
            CallError::Busy(after) => Outcome::Busy(*after),
            CallError::Blocked(_) | CallError::Unauthorized => Outcome::Blocked,
            CallError::Network(_) | CallError::Refused { .. } | CallError::TooLong(_) => Outcome::Failed,
        };
        let wait = self.backoff.wait(outcome, &self.config.timing, random::fraction);
        self.next_check_in = Instant::now() + wait;
        if mode == Mode::Forever {
            note("check-in", format_args!("{error}; again in {} s", wait.as_secs()));
        } else {
            note("check-in", format_args!("{error}"));
        }
        self.status.failed(error, wait);
        self.publish_status()
    }

    /// Whether a final result waits to be heard by the server.
    fn has_result(&self) -> bool {
        self.journal.report.as_ref().is_some_and(|report| match report.phase {
            Phase::Succeeded | Phase::Failed | Phase::RolledBack => true,
            Phase::Downloading | Phase::Installing | Phase::Rebooting | Phase::Trial | Phase::Deferred => false,
        })
    }

    /// Sets the time of the next check-in from the server's interval.
    pub(crate) fn schedule(&mut self, answer: &CheckInAnswer) -> Result<(), AgentError> {
        let interval = Duration::from_secs(answer.next_check_in_s.into());
        let wait = self.backoff.wait(Outcome::Answered(interval), &self.config.timing, random::fraction);
        self.next_check_in = Instant::now() + wait;
        self.status.answered(answer, wait);
        self.publish_status()
    }

    fn act_on(&mut self, answer: &CheckInAnswer) -> Result<Flow, AgentError> {
        self.lock(&answer.desired)?;
        self.make_room()?;
        self.take_profile(&answer.desired)?;
        self.follow(&answer.desired)
    }

    /// A terminal that was reported lost locks itself: the payment application watches for this file.
    fn lock(&mut self, desired: &Desired) -> Result<(), AgentError> {
        let mark = self.config.state_dir.join("locked");
        match (desired.locked, mark.exists()) {
            (true, false) => storage::replace(&mark, b"", storage::Readers::Anyone)?,
            (false, true) => storage::remove(&mark)?,
            (true, true) | (false, false) => {}
        }
        Ok(())
    }

    fn take_profile(&mut self, desired: &Desired) -> Result<(), AgentError> {
        let Some(wanted) = &desired.config else { return Ok(()) };
        if !self.profile.is_due(wanted) {
            return Ok(());
        }
        let taken = match self.client.profile(&wanted.hash) {
            Ok(bytes) => self.profile.apply(wanted, &bytes).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match taken {
            Ok(()) => note("profile", format_args!("{} is in force", wanted.hash)),
            Err(problem) => note("profile", format_args!("{} not taken: {problem}", wanted.hash)),
        }
        Ok(())
    }

    /// Waits, keeping what the payment application leaves meanwhile. With `hurry` a full report ends the wait.
    pub(crate) fn wait(&mut self, duration: Duration, hurry: bool) -> Result<(), AgentError> {
        let until = Instant::now() + duration;
        let scan = seconds(self.config.timing.drop_scan_s).max(Duration::from_millis(10));
        loop {
            self.collect()?;
            let remaining = until.saturating_duration_since(Instant::now());
            if remaining.is_zero() || (hurry && self.spool.waiting() > FAILURES_MAX) {
                return Ok(());
            }
            std::thread::sleep(remaining.min(scan));
        }
    }

    /// Takes what the payment application left: durable in the spool first, then removed.
    pub(crate) fn collect(&mut self) -> Result<(), AgentError> {
        let folder = self.config.drop_dir();
        loop {
            let mut context = None;
            let mut complete = |fields: &mut serde_json::Map<String, serde_json::Value>| {
                let context = context.get_or_insert_with(|| self.failure_context());
                for (name, value) in &*context {
                    fields.entry(name.clone()).or_insert_with(|| value.clone());
                }
            };
            let dropped = application::collect(&folder, &mut complete)?;
            if dropped.is_empty() {
                return Ok(());
            }
            let mut events = Vec::new();
            for file in &dropped {
                match &file.event {
                    // Nobody asked for it: it is kept nowhere.
                    Ok(spool::Event::Payment(_)) if !self.profile.wants_payments() => {}
                    Ok(event) => events.push(event.clone()),
                    Err(problem) => self.put_aside(&file.path, problem)?,
                }
            }
            self.spool.add(events)?;
            for file in &dropped {
                storage::remove(&file.path)?;
            }
            storage::sync_parent(&folder.join("x"))?;
        }
    }

    fn put_aside(&mut self, path: &std::path::Path, problem: &str) -> Result<(), AgentError> {
        note("drop folder", format_args!("{} not taken: {problem}", path.display()));
        self.status.events_refused = self.status.events_refused.saturating_add(1);
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("event.json");
        // Only what can be shown to a person: an event with card data is not kept anywhere.
        let text = format!("{{\"file\":{},\"problem\":{}}}", serde_json::json!(name), serde_json::json!(problem));
        Ok(spool::put_aside(&self.config.state_dir.join("refused"), &format!("event-{name}"), text.as_bytes())?)
    }

    pub(crate) fn publish_status(&mut self) -> Result<(), AgentError> {
        self.status.radio_values_dropped = self.probe.dropped;
        Ok(self.status.publish(&self.config.state_dir)?)
    }

    /// The time that metadata is judged by: the clock, but never before what signed metadata proved.
    pub(crate) fn now_s(&self) -> i64 {
        clock::unix_s().max(self.journal.time_floor_s)
    }
}

/// What the terminal came with is its first component, and its counter the first floor.
fn provide_factory_firmware(journal: &mut Journal, running: &Running, release_counter: u64) {
    let name = FACTORY_COMPONENT.to_owned();
    if journal.components.is_empty() {
        let version = running.version.clone();
        journal.components.push(Component { name: name.clone(), version, sha256: None, release_counter });
    }
    if release_counter > 0 {
        let floor = journal.committed.entry(name).or_default();
        *floor = (*floor).max(release_counter);
    }
}

/// Enrols with the code in the configuration; in [`Mode::Forever`] again and again, ever slower.
fn enrol_patiently(config: &Config, mode: Mode) -> Result<Enrolment, AgentError> {
    let code = config.activation_code.as_deref().ok_or(AgentError::NotEnrolled)?;
    let mut backoff = Backoff::default();
    loop {
        let error = match enrol(config, code) {
            Err(AgentError::Enrolment(error)) if mode == Mode::Forever => error,
            other => return other,
        };
        let outcome = match &error {
            CallError::Busy(after) => Outcome::Busy(*after),
            CallError::Network(_) | CallError::TooLong(_) => Outcome::Failed,
            CallError::Blocked(_) | CallError::Unauthorized | CallError::Refused { .. } => Outcome::Blocked,
        };
        let wait = backoff.wait(outcome, &config.timing, random::fraction);
        note("enrolment", format_args!("{error}; again in {} s", wait.as_secs()));
        std::thread::sleep(wait);
    }
}
