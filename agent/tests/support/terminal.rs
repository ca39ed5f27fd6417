//! A terminal on disk that runs the real agent.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use tillward_protocol::ids::Sha256Hex;

use super::server::Server;
use super::signer::{Release, Signer};

pub struct Terminal {
    pub folder: TempDir,
    config: PathBuf,
}

impl Terminal {
    pub fn new(server: &Server, signer: &Signer) -> Self {
        Self::with(server, signer, "")
    }

    /// A terminal with more configuration: lines of `[update]`, then whole tables; `{folder}` is the terminal's folder.
    pub fn with(server: &Server, signer: &Signer, more: &str) -> Self {
        // In memory where there is such a place: a program that is killed loses nothing that an fsync would have kept,
        // and these tests force thousands of writes.
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let config = folder.path().join("agent.toml");
        std::fs::write(folder.path().join("image.json"), signer.root("image")).unwrap();
        std::fs::write(folder.path().join("director.json"), signer.root("director")).unwrap();
        let text = format!(
            r#"
server = "{}"
state_dir = "state"
sn = "SN0001"
model = "demo-p1"
activation_code = "code-1"
[trust]
image_root = "image.json"
director_root = "director.json"
[slots]
kind = "directory"
dir = "slots"
initial_version = "1.0.0"
[timing]
poll_min_s = 0
boot_delay_min_s = 0
boot_delay_max_s = 0
first_retry_max_s = 0
retry_min_s = 0
retry_max_s = 0.05
jitter_percent = 0
drop_scan_s = 0.02
[update]
reserve_bytes = 0
health_retry_s = 0
{more}
"#,
            server.url
        );
        let text = text.replace("{folder}", folder.path().to_str().unwrap());
        std::fs::write(&config, text).unwrap();
        Self { folder, config }
    }

    /// Changes the configuration for the starts to come.
    pub fn reconfigure(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(&self.config).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(&self.config, text.replace(from, to)).unwrap();
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(agent());
        let (first, rest) = words.split_first().unwrap();
        command.arg(first).arg("--config").arg(&self.config).args(rest);
        command.env_remove("TILLWARD_AGENT_FAIL_AT").env_remove("TILLWARD_AGENT_FAIL_TORN");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// One round that must be answered; returns what the agent said.
    pub fn round(&self) -> String {
        let output = self.command(&["run", "--once"]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        said(&output)
    }

    /// One round, however it ends.
    pub fn try_round(&self) -> Output {
        self.command(&["run", "--once"]).output().unwrap()
    }

    pub fn status(&self) -> Value {
        let output = self.command(&["status", "--json"]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    pub fn slots(&self) -> PathBuf {
        self.folder.path().join("slots")
    }

    /// The slot that runs, and its version.
    pub fn running(&self) -> (String, String) {
        let slot = std::fs::read_to_string(self.slots().join("current")).unwrap().trim().to_owned();
        let text = std::fs::read(self.slots().join(&slot).join("slot.json")).unwrap();
        let description: Value = serde_json::from_slice(&text).unwrap();
        (slot, description["version"].as_str().unwrap().to_owned())
    }

    /// Whether the running slot holds `release`, whole.
    pub fn runs(&self, release: &Release) -> bool {
        let (slot, version) = self.running();
        let payload = std::fs::read(self.slots().join(slot).join("firmware.bin")).unwrap_or_default();
        version == release.version && Sha256Hex::of(&payload) == release.sha256()
    }

    pub fn drop_file(&self, name: &str, text: &str) {
        let folder = self.state().join("drop");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(name), text).unwrap();
    }

    pub fn drop_payment(&self, id: &str) {
        let payment = format!(
            r#"{{"id":"{id}","occurred_at_ms":1700000000000,"transaction":"sale","amount_fen":990,"trace_no":"000001"}}"#
        );
        self.drop_file(&format!("{id}.json"), &format!(r#"{{"payment":{payment}}}"#));
    }

    pub fn drop_failure(&self, id: &str) {
        let text = format!(r#"{{"id":"{id}","occurred_at_ms":1700000000000,"transaction":"sale","stage":"wait"}}"#);
        self.drop_file(&format!("{id}.json"), &text);
    }
}

/// The agent under test; `TILLWARD_TEST_AGENT` names another build of it, to measure what goes onto terminals.
fn agent() -> OsString {
    std::env::var_os("TILLWARD_TEST_AGENT").unwrap_or_else(|| env!("CARGO_BIN_EXE_tillward-agent").into())
}

pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Names in a folder.
pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .map(|entries| entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect())
        .unwrap_or_default();
    names.sort();
    names
}
