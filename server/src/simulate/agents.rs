//! The demo's real agents: this program, started again as `agent run`, each in a folder of its own with two slots.
//!
//! They verify, download, install, start on trial and take back like the agents on real terminals; only the slots are
//! folders and the health command unpacks the payload and runs the `health.sh` inside.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::admin::number;

/// What the agents are given.
#[derive(Debug, Clone)]
pub struct Provision {
    /// The server.
    pub url: String,
    /// Model of all of them.
    pub model: String,
    /// Firmware they come with.
    pub firmware: String,
    /// Trust root of the image repository.
    pub image_root: Vec<u8>,
    /// Trust root of the director.
    pub director_root: Vec<u8>,
}

/// One real agent.
pub struct Agent {
    /// Its serial number.
    pub sn: String,
    folder: PathBuf,
    running: Option<Child>,
}

/// Unpacks the running slot's payload and asks it. The firmware a terminal came with has no payload and is healthy.
const HEALTH: &str = r#"#!/bin/sh
# Usage: health SLOTS_FOLDER. Exit 0: the running firmware works.
slot="$1/$(cat "$1/current")" || exit 75
[ -f "$slot/firmware.bin" ] || exit 0
unpacked="$1/unpacked"
rm -rf "$unpacked" && mkdir -p "$unpacked" && tar -xf "$slot/firmware.bin" -C "$unpacked" || exit 75
exec sh "$unpacked/health.sh"
"#;

impl Agent {
    /// Prepares the folder of an agent that will redeem this code.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn prepare(folder: PathBuf, provision: &Provision, sn: &str, code: &str) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        let write = |name: &str, bytes: &[u8]| std::fs::write(folder.join(name), bytes);
        write("image.root.json", &provision.image_root)?;
        write("director.root.json", &provision.director_root)?;
        write("health", HEALTH.as_bytes())?;
        write("signal.json", br#"{"access":"4g","plmn":"46000","rsrp_dbm":-88,"rsrq_db":-9,"sinr_db":12}"#)?;
        let config = config(&folder, provision, sn, code);
        write("agent.toml", toml::to_string(&config)?.as_bytes())?;
        Ok(Self { sn: sn.to_owned(), folder, running: None })
    }

    /// Starts it; it runs until [`Self::stop`].
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn start(&mut self) -> anyhow::Result<()> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.folder.join("agent.log"))?;
        let child = self.command("run")?.stdout(log.try_clone()?).stderr(log).spawn()?;
        self.running = Some(child);
        Ok(())
    }

    /// Ends the process. A durable spool and journal make that the same as switching the terminal off.
    ///
    /// # Errors
    /// When the process cannot be ended.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(mut child) = self.running.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Whether it ended by itself, which it must not.
    pub fn has_died(&mut self) -> bool {
        self.running.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None)))
    }

    /// One round in a process of its own.
    ///
    /// # Errors
    /// When the process cannot be run or takes longer than a minute.
    pub fn run_once(&self) -> anyhow::Result<()> {
        const LONGEST: Duration = Duration::from_secs(60);
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.folder.join("agent.log"))?;
        let mut child = self.command("run")?.arg("--once").stdout(Stdio::null()).stderr(log).spawn()?;
        let started = Instant::now();
        loop {
            if let Some(status) = child.try_wait()? {
                anyhow::ensure!(status.success(), "agent {}: {status}; see {}", self.sn, self.folder.display());
                return Ok(());
            }
            if started.elapsed() > LONGEST {
                child.kill()?;
                child.wait()?;
                anyhow::bail!("agent {} takes too long; see {}", self.sn, self.folder.display());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What it says of itself.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn status(&self) -> anyhow::Result<Value> {
        let output = self.command("status")?.arg("--json").output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "agent {} says nothing of itself: {}", self.sn, said.trim());
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Check-ins that it has made, by its own books.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn check_ins(&self) -> anyhow::Result<i64> {
        number(&self.status()?["spool"], "last_seq")
    }

    /// Lets it live until it has almost made so many check-ins, ends its process and makes the last ones one by one.
    ///
    /// # Errors
    /// When that takes longer than `patience`, or a round fails.
    pub fn live_until(mut self, check_ins: i64, patience: Duration) -> anyhow::Result<Self> {
        // Each process opens a session, and the server limits how often one terminal may.
        const ONE_BY_ONE: i64 = 3;
        let started = Instant::now();
        while self.check_ins()? < check_ins - ONE_BY_ONE {
            anyhow::ensure!(started.elapsed() < patience, "agent {} does not check in", self.sn);
            std::thread::sleep(Duration::from_millis(150));
        }
        self.stop()?;
        // The report that was under way when the process ended goes first.
        self.run_once()?;
        while self.check_ins()? < check_ins {
            self.run_once()?;
        }
        Ok(self)
    }

    /// Leaves a failure where the payment application does, for the next check-in.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn leave_failure(&self, failure: &Value) -> anyhow::Result<()> {
        let folder = self.folder.join("state").join("drop");
        std::fs::create_dir_all(&folder)?;
        let name = failure["id"].as_str().unwrap_or("failure");
        // Complete before it is seen.
        let hidden = folder.join(format!(".{name}"));
        std::fs::write(&hidden, failure.to_string())?;
        Ok(std::fs::rename(hidden, folder.join(format!("{name}.json")))?)
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn command(&self, verb: &str) -> anyhow::Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["agent", verb, "--config"]).arg(self.folder.join("agent.toml")).stdin(Stdio::null());
        Ok(command)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Nothing is left to tell anybody.
        let _ = self.stop();
    }
}

/// A failure as the payment application of agent number `agent` leaves it.
pub fn failure(agent: usize, failure: usize, now_ms: i64) -> Value {
    let (stage, code) =
        [("host_resp", Some("51")), ("wait", None), ("tls", None), ("host_resp", Some("91"))][failure % 4];
    let mut event = json!({
        "id": format!("demo-{agent}-{failure}"), "occurred_at_ms": now_ms, "transaction": "sale", "stage": stage,
        "entry": "nfc", "amount_fen": 1_200 + 100 * failure, "trace_no": format!("{:06}", failure + 1),
    });
    if let Some(code) = code {
        event["response_code"] = json!(code);
    }
    event
}

/// The agent's configuration: as on a real terminal, but impatient.
fn config(folder: &Path, provision: &Provision, sn: &str, code: &str) -> toml::Table {
    let slots = folder.join("slots");
    let words = |words: &[&dyn AsRef<Path>]| {
        toml::Value::Array(words.iter().map(|word| word.as_ref().to_string_lossy().into_owned().into()).collect())
    };
    let mut config = toml::toml! {
        state_dir = "state"
        [trust]
        image_root = "image.root.json"
        director_root = "director.root.json"
        [slots]
        kind = "directory"
        dir = "slots"
        [update]
        health_timeout_s = 20
        health_retry_s = 1
        trial_deadline_s = 60
        reserve_bytes = 1048576
        [signal]
        file = "signal.json"
        [timing]
        poll_min_s = 0.2
        poll_max_s = 0.5
        boot_delay_min_s = 0.0
        boot_delay_max_s = 0.1
        first_retry_max_s = 0.5
        retry_min_s = 0.2
        retry_max_s = 2.0
        drop_scan_s = 0.2
    };
    config.insert("server".to_owned(), provision.url.clone().into());
    config.insert("sn".to_owned(), sn.into());
    config.insert("model".to_owned(), provision.model.clone().into());
    config.insert("activation_code".to_owned(), code.into());
    let mut set = |section: &str, key: &str, value: toml::Value| {
        if let Some(toml::Value::Table(table)) = config.get_mut(section) {
            table.insert(key.to_owned(), value);
        }
    };
    set("slots", "initial_version", provision.firmware.clone().into());
    set("update", "health_command", words(&[&"sh", &folder.join("health"), &slots]));
    config
}
