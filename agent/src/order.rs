//! Finds out what is ordered: reads both repositories, agrees them, and decides whether this is the time for it.

use tillward_protocol::checkin::Desired;
use tillward_protocol::condition::Access;
use tillward_protocol::manifest::Component;
use tillward_protocol::phase::{Phase, Reason};
use tillward_protocol::trust::{DirectorOrder, Refused, TerminalFacts};

use crate::agent::{Agent, AgentError, Flow};
use crate::application;
use crate::clock::{self, Moment};
use crate::driver::About;
use crate::journal::Order;
use crate::log::note;
use crate::report::space_bytes;
use crate::tuf::{self, Agreed, Disagreed, Place, Time};
use crate::update::{Action, Event, State};

impl Agent {
    /// Looks at the order when the server has a new one, or goes on with the one under way.
    pub(crate) fn follow(&mut self, desired: &Desired) -> Result<Flow, AgentError> {
        let is_known =
            desired.director <= self.journal.finished || self.journal.refused_desired == Some(desired.director);
        if is_known && self.journal.update == State::Idle {
            return Ok(Flow::On);
        }
        let action = self.look(desired.director)?;
        self.drive(action)
    }

    pub(crate) fn look(&mut self, desired: i64) -> Result<Action, AgentError> {
        if self.damaged {
            let refused = Refused::new(Reason::StateDamaged, "the journal is damaged; enrol this terminal again");
            self.journal.refused_desired = Some(desired);
            let about = About { refused, assignment: Some(desired), finished: None };
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
        let time = Time { clock_s: clock::unix_s(), floor_s: self.journal.time_floor_s };
        match tuf::look(&self.client, &folder, director, image, &facts, time) {
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
        let finished = custom.map(|custom| custom.assignment_version);
        if finished.is_none() {
            self.journal.refused_desired = Some(desired);
        }
        // Without a verified document the order's own number is unknown; the director's is the best there is.
        let under_way = self.journal.order.as_ref().map(|order| order.assignment);
        let assignment = assignment.or(under_way).or(Some(desired));
        let about = About { refused, assignment, finished };
        self.apply(&Event::Refused(reason), Some(about))
    }

    fn agreed(&mut self, agreed: Agreed, desired: i64) -> Result<Action, AgentError> {
        let version = agreed.custom.assignment_version;
        self.journal.director = agreed.director;
        self.journal.image = agreed.image;
        self.journal.director_version = agreed.director_version;
        if agreed.keys_replaced {
            // What the old online keys said, a thief may have said.
            (self.journal.finished, self.journal.time_floor_s) = (0, 0);
        }
        self.journal.time_floor_s = self.journal.time_floor_s.max(agreed.custom.issued_at);
        self.journal.refused_desired = None;
        self.agreed_at = Some(Moment::now());
        let Some(order) = agreed.order else {
            self.journal.finished = self.journal.finished.max(version);
            return self.apply(&Event::Withdrawn, None);
        };
        if version <= self.journal.finished {
            note("update", format_args!("the director still shows order {version}, which is finished with"));
            self.save()?;
            return Ok(Action::Stay);
        }
        let is_it = |component: &Component| {
            component.name == order.matches.component && component.sha256.as_ref() == Some(&order.sha256)
        };
        let installed = self.journal.components.iter().any(is_it);
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
            wifi_only: order.wifi_only,
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
        // The same bits may come under a higher counter.
        self.commit();
        self.save()?;
        Ok(action)
    }

    pub(crate) fn is_free(&self) -> Result<(), Refused> {
        let state = application::state(self.config.application.state_file.as_ref());
        application::is_free(&state, self.config.update.battery_percent_min)
    }

    /// Whether a payload may be fetched over the link in use.
    ///
    /// # Errors
    /// `WifiOnly`; also when nothing says what the link is.
    pub(crate) fn may_fetch(&mut self) -> Result<(), Refused> {
        if !self.config.update.wifi_only && !self.journal.order.as_ref().is_some_and(|order| order.wifi_only) {
            return Ok(());
        }
        match self.probe.condition().access {
            Some(Access::Wifi | Access::Ethernet) => Ok(()),
            access => {
                let text =
                    format!("the payload waits for WiFi, the link is {}", access.map_or("unknown", Access::as_str));
                Err(Refused::new(Reason::WifiOnly, text))
            }
        }
    }

    /// Whether this is the time to fetch what is ordered, and whether there is room.
    fn preflight(&mut self) -> Result<(), Refused> {
        let Some(order) = self.journal.order.clone() else { return Ok(()) };
        let is_here = match &self.journal.update {
            State::Verified { release } | State::Written { release, .. } | State::Trial { release, .. } => {
                *release == order.sha256
            }
            State::Idle | State::Downloading { .. } => false,
        };
        if is_here {
            return Ok(());
        }
        let path = self.slots.payload(self.target_slot(), &order.sha256);
        let here = std::fs::metadata(&path).map_or(0, |found| found.len());
        if here < order.length {
            self.may_fetch()?;
        }
        let folder = path.parent().unwrap_or(&self.config.state_dir);
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
}
