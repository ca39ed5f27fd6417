//! Builds check-ins, sends them, and takes note of what the server counted.

use std::time::Duration;

use serde_json::{Map, Value};
use tillward_protocol::Check;
use tillward_protocol::checkin::{
    CHECK_IN_VERSION, CheckIn, CheckInAnswer, DeviceHealth, NetworkCounters, Software, TerminalReport,
};
use tillward_protocol::condition::Condition;
use tillward_protocol::ids::{Sha256Hex, Version};
use tillward_protocol::manifest::{Manifest, SignedManifest};
use tillward_protocol::phase::DETAIL_BYTES_MAX;

use crate::agent::{Agent, AgentError};
use crate::application::{self, Application};
use crate::client::CallError;
use crate::log::note;
use crate::spool::{Load, Taken};
use crate::storage;
use crate::update::State;
use crate::{clock, json};

/// Reports sent for one check-in at most: an old one, one with a new number, and the fresh one.
const SENDS_MAX: usize = 5;

impl Agent {
    /// Checks in: first what waits from before, byte for byte, then a fresh report.
    ///
    /// # Errors
    /// The outer error is the disk's, the inner one the call's.
    pub(crate) fn check_in(&mut self) -> Result<Result<CheckInAnswer, CallError>, AgentError> {
        // Connecting comes first, so that even the first report of a run carries what was measured on the way.
        if !self.client.has_session()
            && let Err(error) = self.open_session()
        {
            self.probe.lost(&error.to_string());
            return Ok(Err(error));
        }
        for _ in 0..SENDS_MAX {
            let fresh = self.spool.sealed().is_none();
            if fresh {
                self.seal()?;
            }
            let answer = match self.send_sealed() {
                Ok(answer) => answer,
                // A server from before there were payments takes the same report without them.
                Err(CallError::Refused { status: 400 | 413 | 422, detail }) if self.spool.strip_payments()? => {
                    note("check-in", format_args!("report refused; again without its payments: {detail}"));
                    continue;
                }
                Err(CallError::Refused { status: 400 | 413 | 422, detail }) => {
                    note("check-in", format_args!("report refused and put aside: {detail}"));
                    self.status.report_refused(&detail);
                    self.spool.refuse()?;
                    continue;
                }
                Err(error) => {
                    self.probe.lost(&error.to_string());
                    return Ok(Err(error));
                }
            };
            self.schedule(&answer)?;
            match self.spool.acknowledge(answer.acknowledged)? {
                Taken::Counted(sealed) => {
                    let manifest = if answer.manifest_wanted {
                        None
                    } else {
                        sealed.manifest.or(self.journal.manifest_known.clone())
                    };
                    self.heard(sealed.update.as_ref(), manifest)?;
                    if fresh {
                        return Ok(Ok(answer));
                    }
                }
                Taken::Renumbered => {
                    self.journal.stream = self.spool.stream().0;
                    self.save()?;
                    note("check-in", format_args!("the server knows more; going on in stream {}", self.journal.stream));
                }
                Taken::NotYet => break,
            }
        }
        Ok(Err(CallError::Network("the server counts no report".to_owned())))
    }

    /// The server has heard `update`, and knows the manifest content `manifest`, or wants one.
    fn heard(
        &mut self,
        update: Option<&tillward_protocol::phase::UpdateReport>,
        manifest: Option<Sha256Hex>,
    ) -> Result<(), AgentError> {
        let mut changed = self.journal.manifest_known != manifest;
        self.journal.manifest_known = manifest;
        if update.is_some() && update == self.journal.report.as_ref() && self.journal.update == State::Idle {
            self.journal.report = None;
            changed = true;
        }
        if changed { self.save() } else { Ok(()) }
    }

    fn send_sealed(&mut self) -> Result<CheckInAnswer, CallError> {
        let body = self.spool.sealed().map(|sealed| sealed.body.clone()).unwrap_or_default();
        let mut result = self.client.check_in::<CheckInAnswer>(body.as_bytes());
        if matches!(result, Err(CallError::Unauthorized)) {
            self.open_session()?;
            result = self.client.check_in(body.as_bytes());
        }
        let timed = result?;
        let received_ms = clock::unix_ms();
        let half_ms = i64::try_from(timed.round_trip.as_millis() / 2).unwrap_or_default();
        let offset_ms = received_ms.saturating_sub(half_ms).saturating_sub(timed.answer.server_time_ms);
        self.probe.answered(timed.round_trip, offset_ms);
        Ok(timed.answer)
    }

    /// A session that is refused means that the terminal is blocked or unknown: slow down, never give up.
    fn open_session(&mut self) -> Result<(), CallError> {
        self.client.open_session(&self.identity, self.enrolment.terminal_id).map_err(|error| match error {
            CallError::Unauthorized => CallError::Blocked("it gives no session".to_owned()),
            CallError::Refused { detail, .. } => CallError::Blocked(detail),
            CallError::Network(_) | CallError::Busy(_) | CallError::Blocked(_) | CallError::TooLong(_) => error,
        })
    }

    fn seal(&mut self) -> Result<(), AgentError> {
        let application = application::state(self.config.application.state_file.as_ref());
        let application = application.ok().flatten().unwrap_or_default();
        let condition = self.probe.condition();
        let network = self.probe.take_counters();
        let manifest = self.manifest()?;
        let (manifest, digest) = manifest.map_or((None, None), |(manifest, digest)| (Some(manifest), Some(digest)));
        if !self.profile.wants_payments() {
            self.spool.forget_payments()?;
        }
        let frame = self.frame(application, condition, network, manifest);
        let mut dropped = 0;
        let sealed = self.spool.seal(digest, |stream, seq, load| {
            let Load { transactions, failures, payments } = load;
            let mut check_in = CheckIn { stream, seq, transactions, failures, payments, ..frame };
            dropped = drop_impossible(&mut check_in);
            check_in
        });
        self.probe.dropped = self.probe.dropped.saturating_add(dropped);
        Ok(sealed?)
    }

    fn frame(
        &self,
        application: Application,
        condition: Condition,
        network: NetworkCounters,
        manifest: Option<SignedManifest>,
    ) -> CheckIn {
        CheckIn {
            v: CHECK_IN_VERSION,
            stream: self.spool.stream(),
            seq: tillward_protocol::ids::Seq(0),
            at_ms: clock::unix_ms(),
            boot_id: self.boot_id.clone(),
            software: Software {
                firmware: self.running.version.clone(),
                slot: self.running.slot,
                agent: agent_version(),
                app: application.app,
                boot: None,
                hardware: self.config.hardware.clone(),
                config_hash: self.profile.hash().cloned(),
            },
            terminal: TerminalReport {
                uptime_s: application.terminal.uptime_s.or_else(uptime_s),
                ..application.terminal
            },
            condition,
            network,
            device: self.device(application.device),
            transactions: Default::default(),
            failures: Vec::new(),
            payments: Vec::new(),
            update: self.journal.report.clone(),
            manifest,
        }
    }

    fn device(&self, device: DeviceHealth) -> DeviceHealth {
        let kib = |bytes: u64| u32::try_from(bytes / 1024).unwrap_or(u32::MAX);
        DeviceHealth {
            flash_free_kib: device.flash_free_kib.or_else(|| space_bytes(&self.config.state_dir).ok().map(kib)),
            memory_free_kib: device.memory_free_kib.or_else(memory_free_kib),
            ..device
        }
    }

    /// The signed manifest, if it says something new or was asked for; and the digest of what it says.
    fn manifest(&mut self) -> Result<Option<(SignedManifest, Sha256Hex)>, AgentError> {
        if self.damaged {
            return Ok(None);
        }
        let mut manifest = Manifest {
            terminal_id: self.enrolment.terminal_id,
            counter: 0,
            components: self.journal.components.clone(),
            slot: self.running.slot,
            image_root: self.journal.image.root,
            director_root: self.journal.director.root,
            director_version: self.journal.director_version,
            refusal: self.journal.refusal.clone(),
        };
        let digest = Sha256Hex::of(&serde_json::to_vec(&manifest).unwrap_or_default());
        if self.journal.manifest_known.as_ref() == Some(&digest) {
            return Ok(None);
        }
        self.journal.manifest_counter = self.journal.manifest_counter.saturating_add(1);
        self.save()?;
        manifest.counter = self.journal.manifest_counter;
        let body = serde_json::to_string(&manifest).map_err(std::io::Error::other)?;
        Ok(Some((self.identity.sign_manifest(body), digest)))
    }

    /// What a failure gets when the payment application did not say it.
    pub(crate) fn failure_context(&mut self) -> Map<String, Value> {
        let application =
            application::state(self.config.application.state_file.as_ref()).ok().flatten().unwrap_or_default();
        let mut context = Map::new();
        let mut put = |name: &str, value: Value| match value {
            Value::Null => {}
            value => {
                context.insert(name.to_owned(), value);
            }
        };
        put("condition", json::value(&self.probe.condition()));
        put("firmware", json::value(&self.running.version));
        put("app", json::value(&application.app));
        put("config_hash", json::value(&self.profile.hash()));
        put("in_update", (self.journal.update != State::Idle).into());
        put("battery_percent", json::value(&application.device.battery_percent));
        context
    }
}

/// This program's version.
pub fn agent_version() -> Version {
    const UNKNOWN: &str = "0";
    env!("CARGO_PKG_VERSION")
        .parse()
        .or_else(|_| UNKNOWN.parse())
        .unwrap_or_else(|_| unreachable!("\"0\" is a version"))
}

/// `text` as a sentence that may travel: bounded, one line, no card data.
pub(crate) fn sentence(text: &str) -> String {
    let one_line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut masked = tillward_protocol::pan::mask(&one_line);
    let mut end = masked.len().min(DETAIL_BYTES_MAX);
    while !masked.is_char_boundary(end) {
        end -= 1;
    }
    masked.truncate(end);
    masked
}

/// Takes out what cannot be true, so that one bad sensor does not cost the whole report. Returns how much it took out.
fn drop_impossible(check_in: &mut CheckIn) -> u64 {
    let mut dropped = 0;
    while let Err(error) = check_in.check() {
        match error.field.split(['.', '[']).next() {
            Some("terminal") => check_in.terminal = TerminalReport::default(),
            Some("device") => check_in.device = DeviceHealth::default(),
            Some("condition") => check_in.condition = Condition::default(),
            Some("network") => check_in.network = NetworkCounters::default(),
            Some("at_ms") => check_in.at_ms = 0,
            Some("update") => check_in.update = None,
            Some("manifest") => check_in.manifest = None,
            Some("failures") => check_in.failures.retain(|failure| failure.check().is_ok()),
            Some("payments") => check_in.payments.retain(|payment| payment.check().is_ok()),
            // The server says what it does not like about the rest.
            _ => break,
        }
        note("check-in", format_args!("left out: {error}"));
        dropped += 1;
    }
    dropped
}

fn uptime_s() -> Option<u32> {
    let text = storage::read(std::path::Path::new("/proc/uptime"), 256).ok()??;
    std::str::from_utf8(&text).ok()?.split('.').next()?.parse().ok()
}

fn memory_free_kib() -> Option<u32> {
    let text = storage::read(std::path::Path::new("/proc/meminfo"), 16 * 1024).ok()??;
    let line = std::str::from_utf8(&text).ok()?.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Free space where `path` is, bytes.
pub(crate) fn space_bytes(path: &std::path::Path) -> std::io::Result<u64> {
    let found = rustix::fs::statvfs(path)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// How long ago something was, for people.
pub(crate) fn ago(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..=7199 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_is_short_one_line_and_without_card_data() {
        assert_eq!(sentence("a\nb"), "a b");
        assert!(!sentence("card 4111 1111 1111 1111").contains("4111"));
        let long = sentence(&"测".repeat(200));
        assert!(long.len() <= DETAIL_BYTES_MAX && long.chars().all(|c| c == '测'));
    }

    #[test]
    fn one_impossible_part_does_not_cost_the_report() {
        let json = r#"{"v":1,"stream":1,"seq":1,"at_ms":-5,"boot_id":"b",
            "software":{"firmware":"1","slot":"a","agent":"1"},
            "device":{"battery_percent":130},"terminal":{"pending_reversals":4000000},"condition":{"rtt_ms":5},
            "update":{"assignment":0,"phase":"trial"},"transactions":{"ok":3}}"#;
        let mut check_in: CheckIn = serde_json::from_str(json).unwrap();
        assert_eq!(drop_impossible(&mut check_in), 4);
        assert_eq!(check_in.check(), Ok(()));
        assert_eq!((check_in.transactions.ok, check_in.condition.rtt_ms), (3, Some(5)));
    }

    #[test]
    fn the_version_is_the_packages() {
        assert_eq!(agent_version().as_str(), env!("CARGO_PKG_VERSION"));
    }
}
