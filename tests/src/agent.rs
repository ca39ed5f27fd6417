//! The real agent on a terminal that is a folder: two slots, a health command that asks the installed firmware.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::admin::{Admin, Registered};
use crate::programs::{self, Process};

/// Longest round of an agent: a check-in and a download on a busy machine.
const ROUND_LIMIT: Duration = Duration::from_secs(60);
/// Rounds within which any update here ends.
const ROUNDS_MAX: usize = 12;

/// Unpacks the running slot's payload and asks it. The firmware a terminal came with has no payload and is healthy.
const HEALTH: &str = r#"#!/bin/sh
# Usage: health SLOTS_FOLDER. Exit 0: the running firmware works.
slot="$1/$(cat "$1/current")" || exit 75
[ -f "$slot/firmware.bin" ] || exit 0
unpacked="$1/unpacked"
rm -rf "$unpacked" && mkdir -p "$unpacked" && tar -xf "$slot/firmware.bin" -C "$unpacked" || exit 75
exec sh "$unpacked/health.sh"
"#;

/// What an agent is given.
#[derive(Debug, Clone)]
pub struct Provision {
    /// The server.
    pub url: String,
    /// Model code.
    pub model: String,
    /// Firmware it comes with.
    pub firmware: String,
    /// Release counter of that firmware.
    pub factory_counter: u64,
    /// Image repository, if it is not the server's.
    pub image_url: Option<String>,
    /// Director, if it is not the server's.
    pub director_url: Option<String>,
    /// Longest time between two check-ins, s.
    pub poll_max_s: f64,
    /// Trust root of the image repository.
    pub image_root: Vec<u8>,
    /// Trust root of the director.
    pub director_root: Vec<u8>,
}

impl Provision {
    /// For terminals that trust the server's own repositories.
    pub fn of(admin: &Admin, url: &str) -> Self {
        Self {
            url: url.to_owned(),
            model: "demo-p1".to_owned(),
            firmware: "4.1.0".to_owned(),
            factory_counter: 41,
            image_url: None,
            director_url: None,
            poll_max_s: 0.2,
            image_root: admin.bytes("/tuf/image/metadata/1.root.json"),
            director_root: admin.bytes("/tuf/director/metadata/1.root.json"),
        }
    }
}

/// One agent with its terminal.
pub struct Agent {
    folder: TempDir,
    program: PathBuf,
    running: Option<Process>,
}

impl Agent {
    /// Prepares a terminal whose agent will redeem this code.
    ///
    /// # Panics
    /// When the folder cannot be written.
    pub fn prepare(provision: &Provision, registered: &Registered) -> Self {
        Self::prepare_with(programs::tillward_agent(), provision, registered)
    }

    /// As [`Self::prepare`], with another build of the agent.
    ///
    /// # Panics
    /// As [`Self::prepare`].
    pub fn prepare_with(program: PathBuf, provision: &Provision, registered: &Registered) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
        write("image.root.json", &provision.image_root);
        write("director.root.json", &provision.director_root);
        write("health", HEALTH.as_bytes());
        write("signal.json", br#"{"access":"4g","plmn":"46000","rsrp_dbm":-88,"rsrq_db":-9,"sinr_db":12}"#);
        write("agent.toml", configuration(folder.path(), provision, registered).as_bytes());
        Self { folder, program, running: None }
    }

    /// One round: a check-in and what follows from its answer.
    ///
    /// # Panics
    /// When the check-in is not answered.
    pub fn round(&self) -> String {
        let output = self.try_round();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// One round, however it ends.
    pub fn try_round(&self) -> Output {
        let mut command = self.command("run");
        command.arg("--once");
        programs::run(command, ROUND_LIMIT)
    }

    /// Rounds until `condition` holds.
    ///
    /// # Panics
    /// With `what` and what the agent said when it does not come true.
    pub fn rounds_until(&self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        let mut said = Vec::new();
        for _ in 0..ROUNDS_MAX {
            said.push(self.round());
            if condition(self) {
                return;
            }
        }
        panic!(
            "did not happen in {ROUNDS_MAX} rounds: {what}; the agent said:\n{}\n{}",
            said.join("---\n"),
            self.status()
        );
    }

    /// Starts it for good; its log goes to a file.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(&mut self) {
        let path = self.folder.path().join("agent.log");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        let mut command = self.command("run");
        command.stdout(Stdio::null()).stderr(log);
        self.running = Some(Process::start(&mut command));
    }

    /// Cuts its power.
    pub fn stop(&mut self) {
        self.running = None;
    }

    /// Its process, while it runs for good.
    pub fn process(&self) -> Option<&Process> {
        self.running.as_ref()
    }

    /// What it says of itself.
    ///
    /// # Panics
    /// When it cannot be asked.
    pub fn status(&self) -> Value {
        let mut command = self.command("status");
        command.arg("--json");
        let output = programs::run(command, ROUND_LIMIT);
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Version that runs.
    pub fn firmware(&self) -> String {
        self.status()["firmware"].as_str().unwrap_or_default().to_owned()
    }

    /// Bytes in the slot that runs; none for the firmware it came with.
    ///
    /// # Panics
    /// When no slot is marked as the one that runs.
    pub fn payload(&self) -> Vec<u8> {
        let slots = self.folder.path().join("slots");
        let slot = std::fs::read_to_string(slots.join("current")).unwrap();
        std::fs::read(slots.join(slot.trim()).join("firmware.bin")).unwrap_or_default()
    }

    /// Leaves a failure where the payment application does, for the next check-in.
    ///
    /// # Panics
    /// When the agent refuses it.
    pub fn leave_failure(&self, failure: &Value) {
        let drop = self.folder.path().join("state").join("drop");
        std::fs::create_dir_all(&drop).unwrap();
        let name = failure["id"].as_str().unwrap();
        let hidden = drop.join(format!(".{name}"));
        std::fs::write(&hidden, failure.to_string()).unwrap();
        std::fs::rename(hidden, drop.join(format!("{name}.json"))).unwrap();
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = programs::command(&self.program);
        command.arg(verb).arg("--config").arg(self.folder.path().join("agent.toml"));
        command
    }
}

/// The agent's configuration: as on a real terminal, but impatient.
fn configuration(folder: &Path, provision: &Provision, registered: &Registered) -> String {
    let Provision { url, model, firmware, factory_counter, image_url, director_url, poll_max_s, .. } = provision;
    let address = |name: &str, url: &Option<String>| match url {
        Some(url) => format!("{name} = \"{url}\"\n"),
        None => String::new(),
    };
    let folder = folder.display();
    let (sn, code) = (&registered.sn, &registered.code);
    let elsewhere = address("image_url", image_url) + &address("director_url", director_url);
    format!(
        r#"
server = "{url}"
state_dir = "state"
sn = "{sn}"
model = "{model}"
activation_code = "{code}"
{elsewhere}
[trust]
image_root = "image.root.json"
director_root = "director.root.json"
factory_counter = {factory_counter}
[slots]
kind = "directory"
dir = "slots"
initial_version = "{firmware}"
[update]
health_command = ["sh", "{folder}/health", "{folder}/slots"]
health_timeout_s = 20
health_retry_s = 0
trial_deadline_s = 60
reserve_bytes = 0
[signal]
file = "signal.json"
[timing]
poll_min_s = 0.0
poll_max_s = {poll_max_s}
boot_delay_min_s = 0.0
boot_delay_max_s = 0.0
first_retry_max_s = 0.2
retry_min_s = 0.05
retry_max_s = 0.5
jitter_percent = 0.0
drop_scan_s = 0.05
read_timeout_s = 5.0
"#
    )
}
