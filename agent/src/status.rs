//! Tells a person what the agent is doing and why, from what lies on the disk: no agent has to run for it.

use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tillward_protocol::checkin::CheckInAnswer;
use tillward_protocol::ids::Stream;

use crate::client::CallError;
use crate::clock;
use crate::config::Config;
use crate::identity::Enrolment;
use crate::journal::{Journal, JournalFiles, Loaded};
use crate::json;
use crate::profile::Profile;
use crate::report::{agent_version, ago, sentence};
use crate::slots;
use crate::spool::Spool;
use crate::storage;
use crate::update::State;

const STATUS_FILE: &str = "status.json";

/// What only the running agent knows; written after each check-in, and lost without harm.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// Last check-in that was answered, Unix ms.
    pub last_check_in_ms: Option<i64>,
    /// Next check-in, Unix ms.
    pub next_check_in_ms: Option<i64>,
    /// Why the last try failed, if it did.
    pub last_error: Option<String>,
    /// Tries that failed since the last answer.
    pub failed_tries: u32,
    /// Check-ins answered since the agent started.
    pub check_ins: u64,
    /// What the server said of the last report it refused.
    pub last_refused_report: Option<String>,
    /// Events of the payment application that could not be taken since the agent started.
    pub events_refused: u64,
    /// Radio and sensor values left out since the agent started.
    pub radio_values_dropped: u64,
}

impl Status {
    /// The status left by the last life of the agent, its counters at zero.
    pub fn new(config: &Config) -> Self {
        let last = Self::load(&config.state_dir);
        Self {
            last_check_in_ms: last.last_check_in_ms,
            last_refused_report: last.last_refused_report,
            ..Self::default()
        }
    }

    fn load(folder: &Path) -> Self {
        let bytes = storage::read(&folder.join(STATUS_FILE), 64 * 1024).ok().flatten();
        bytes.and_then(|bytes| json::parse(&bytes).ok()).unwrap_or_default()
    }

    /// Notes an answer; the next check-in comes in `wait`.
    pub fn answered(&mut self, answer: &CheckInAnswer, wait: Duration) {
        let now = clock::unix_ms();
        self.last_check_in_ms = Some(now);
        self.next_check_in_ms = Some(later(now, wait));
        self.last_error = answer.desired.locked.then(|| "the server says that this terminal is lost".to_owned());
        self.failed_tries = 0;
        self.check_ins = self.check_ins.saturating_add(1);
    }

    /// Notes a try that failed; the next one comes in `wait`.
    pub fn failed(&mut self, error: &CallError, wait: Duration) {
        self.next_check_in_ms = Some(later(clock::unix_ms(), wait));
        self.last_error = Some(sentence(&error.to_string()));
        self.failed_tries = self.failed_tries.saturating_add(1);
    }

    /// Notes a report that the server will never take.
    pub fn report_refused(&mut self, detail: &str) {
        self.last_refused_report = Some(sentence(detail));
    }

    /// Leaves it for [`describe`].
    ///
    /// # Errors
    /// When the disk cannot be written.
    pub fn publish(&self, folder: &Path) -> io::Result<()> {
        storage::replace_unforced(&folder.join(STATUS_FILE), &serde_json::to_vec(self)?)
    }
}

fn later(now_ms: i64, wait: Duration) -> i64 {
    now_ms.saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX))
}

/// Everything there is to say, as one JSON object.
///
/// # Errors
/// When the state folder cannot be read.
pub fn describe(config: &Config) -> io::Result<Value> {
    let folder = &config.state_dir;
    let status = Status::load(folder);
    let enrolment = Enrolment::load(folder)?;
    let (_, loaded) = JournalFiles::load(folder)?;
    let (journal, journal_state) = match loaded {
        Loaded::Valid(journal) => (*journal, "valid"),
        Loaded::Missing if enrolment.is_none() => (Journal::default(), "not made yet"),
        Loaded::Missing | Loaded::Damaged => (Journal::default(), "damaged"),
    };
    let (spool, spool_state) = Spool::load(folder, Stream(1))?;
    let running = enrolment.as_ref().and_then(|_| slots::look(&config.slots, folder).running().ok());
    let (failures_dropped, reports_refused) = spool.losses();
    Ok(json!({
        "agent": agent_version(),
        "server": config.server,
        "sn": config.sn,
        "model": config.model,
        "terminal_id": enrolment.as_ref().map(|enrolment| enrolment.terminal_id),
        "enrolled_at_ms": enrolment.as_ref().map(|enrolment| enrolment.enrolled_at_ms),
        "last_check_in_ms": status.last_check_in_ms,
        "next_check_in_ms": status.next_check_in_ms,
        "last_error": status.last_error,
        "failed_tries": status.failed_tries,
        "check_ins": status.check_ins,
        "locked": folder.join("locked").exists(),
        "journal": journal_state,
        "slot": running.as_ref().map(|running| running.slot.as_str()),
        "firmware": running.as_ref().map(|running| &running.version),
        "components": json::value(&journal.components),
        "committed": json::value(&journal.committed),
        "update": json::value(&journal.update),
        "order": json::value(&journal.order),
        "finished_order": journal.finished,
        "report": json::value(&journal.report),
        "last_refusal": json::value(&journal.refusal),
        "tried": json::value(&journal.tried),
        "image_root": journal.image.root,
        "director_root": journal.director.root,
        "director_version": journal.director_version,
        "config_hash": Profile::load(folder)?.hash(),
        "spool": {
            "state": format!("{spool_state:?}").to_lowercase(),
            "bytes": spool.bytes(),
            "stream": spool.stream(),
            "last_seq": spool.last_seq(),
            "unacknowledged": spool.sealed().map(|sealed| sealed.seq),
            "failures_waiting": spool.waiting(),
            "failures_dropped": failures_dropped,
            "payments_waiting": spool.payments_waiting(),
            "payments_dropped": spool.payments_dropped(),
            "reports_refused": reports_refused,
        },
        "last_refused_report": status.last_refused_report,
        "events_refused": status.events_refused,
        "radio_values_dropped": status.radio_values_dropped,
    }))
}

/// The same in sentences.
///
/// # Errors
/// When the state folder cannot be read.
pub fn explain(config: &Config) -> io::Result<String> {
    let said = describe(config)?;
    let text = |field: &str| match &said[field] {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a string does not fail.
        let _ = writeln!(out, "{name:<16}{value}");
    };
    match &said["terminal_id"] {
        Value::Null => line("enrolled", format!("no; serial number {}, run `tillward-agent enrol`", text("sn"))),
        id => line("enrolled", format!("terminal {id}, serial number {}, model {}", text("sn"), text("model"))),
    }
    line("server", text("server"));
    line("last check-in", moment(&said["last_check_in_ms"], "never"));
    line("next check-in", moment(&said["next_check_in_ms"], "as soon as the agent runs"));
    if !said["last_error"].is_null() {
        line("trouble", format!("{} ({} tries failed)", text("last_error"), text("failed_tries")));
    }
    line("firmware", format!("{} from slot {}", text("firmware"), text("slot")));
    let state: State = serde_json::from_value(said["update"].clone()).unwrap_or_default();
    line("update", update_sentence(&state, &said));
    if let Some(refusal) = said["last_refusal"].as_object() {
        let part = |name: &str| refusal.get(name).and_then(Value::as_str).unwrap_or("-").to_owned();
        line("last refusal", format!("{} ({}): {}", part("reason"), part("target"), part("detail")));
    }
    line("config hash", text("config_hash"));
    let spool = &said["spool"];
    line(
        "spool",
        format!(
            "{} bytes, {} failures waiting, report {} not acknowledged",
            spool["bytes"], spool["failures_waiting"], spool["unacknowledged"]
        ),
    );
    if spool["failures_dropped"] != 0 || spool["reports_refused"] != 0 {
        line(
            "losses",
            format!(
                "{} failures dropped for want of space, {} reports refused by the server",
                spool["failures_dropped"], spool["reports_refused"]
            ),
        );
    }
    if said["journal"] == "damaged" {
        line("journal", "damaged: nothing is installed until this terminal is enrolled again".to_owned());
    }
    if said["locked"] == true {
        line("locked", "the server says that this terminal is lost".to_owned());
    }
    Ok(out)
}

fn update_sentence(state: &State, said: &Value) -> String {
    let order = &said["order"];
    let what = format!("{} (order {})", order["version"].as_str().unwrap_or("?"), order["assignment"]);
    let now = match state {
        State::Idle => "nothing to do".to_owned(),
        State::Downloading { .. } => {
            let here = said["report"]["bytes"].as_u64().unwrap_or(0);
            format!("downloading {what}, {here} of {} bytes when last noted", order["length"])
        }
        State::Verified { .. } => format!("{what} is downloaded and verified, to be written"),
        State::Written { slot, .. } => format!("{what} is in slot {}, waiting to be started", slot.as_str()),
        State::Trial { taken_back: Some(reason), .. } => format!("{what} is being taken back: {}", reason.as_str()),
        State::Trial { slot, boots_left, .. } => {
            format!("{what} is on trial in slot {}, {boots_left} starts left", slot.as_str())
        }
    };
    match (said["report"]["phase"].as_str(), said["report"]["reason"].as_str()) {
        (Some(phase), Some(reason)) => {
            format!("{now}; {phase}: {reason} ({})", said["report"]["detail"].as_str().unwrap_or("-"))
        }
        _ => now,
    }
}

fn moment(unix_ms: &Value, otherwise: &str) -> String {
    let Some(ms) = unix_ms.as_i64() else { return otherwise.to_owned() };
    let apart = clock::unix_ms() - ms;
    let distance = ago(Duration::from_millis(apart.unsigned_abs()));
    let time = jiff::Timestamp::from_second(ms / 1000).map_or_else(|_| ms.to_string(), |time| time.to_string());
    if apart >= 0 { format!("{time}, {distance} ago") } else { format!("{time}, in {distance}") }
}
