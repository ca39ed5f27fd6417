//! The configuration file: one TOML file, strict. Parsed and checked once; inside, a value is valid.
//!
//! Paths are relative to the file's own folder. Commands are lists of words, started directly and never by a shell.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use tillward_protocol::checkin::Slot;
use tillward_protocol::ids::{ModelCode, Sn, Version};

use crate::{storage, toml};

/// Largest configuration file, bytes.
const CONFIG_BYTES_MAX: u64 = 64 * 1024;

/// Longest validity of an order's verification, s: a director's document lives no longer.
const ORDER_VALID_S_MAX: u64 = 24 * 3600;

/// A command and its arguments.
pub type Command = Vec<String>;

/// What is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("{path}: {problem}")]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and where.
        problem: String,
    },
}

/// All settings.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Base URL of the server, without a slash at the end.
    pub server: String,
    /// Folder for all that the agent keeps.
    pub state_dir: PathBuf,
    /// Serial number.
    pub sn: Sn,
    /// `vendor-model`.
    pub model: ModelCode,
    /// One-time code; redeemed at the first start.
    pub activation_code: Option<String>,
    /// Certificates to trust instead of the system's, PEM.
    pub ca_file: Option<PathBuf>,
    /// Image repository, if it is not `<server>/tuf/image`.
    pub image_url: Option<String>,
    /// Director, if it is not `<server>/tuf/director`.
    pub director_url: Option<String>,
    /// Hardware revision, for the report.
    pub hardware: Option<Version>,
    /// Trust roots.
    pub trust: Trust,
    /// Where firmware lives.
    pub slots: SlotsConfig,
    /// How updates are proven.
    #[serde(default)]
    pub update: UpdateConfig,
    /// Where radio values come from.
    #[serde(default)]
    pub signal: SignalConfig,
    /// How the payment application talks to the agent.
    #[serde(default)]
    pub application: ApplicationConfig,
    /// Waiting times.
    #[serde(default)]
    pub timing: Timing,
}

/// Files with the first trusted roots.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trust {
    /// Root of the image repository.
    pub image_root: PathBuf,
    /// Root of the director.
    pub director_root: PathBuf,
    /// Release counter of the firmware the terminal came with; nothing below it is ever installed.
    #[serde(default)]
    pub factory_counter: u64,
}

/// Where firmware lives.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, tag = "kind", rename_all = "snake_case")]
pub enum SlotsConfig {
    /// Two folders; a file names the one to start from.
    Directory {
        /// Folder that holds them.
        dir: PathBuf,
        /// Version the terminal came with.
        initial_version: Version,
        /// Slot it came in.
        #[serde(default = "slot_a")]
        initial_slot: Slot,
    },
    /// The terminal's own installer.
    Command {
        /// Called with a verb and its arguments.
        command: Command,
        /// Longest time one call may take, s.
        #[serde(default = "installer_timeout_s")]
        timeout_s: u64,
    },
}

/// How updates are proven.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UpdateConfig {
    /// Exit code 0: healthy; 75: not yet; anything else: unhealthy. Absent: starting is proof enough.
    pub health_command: Option<Command>,
    /// Longest time one call of it may take, s.
    pub health_timeout_s: u64,
    /// Time between calls while it says "not yet", s.
    pub health_retry_s: u64,
    /// Longest trial, s.
    pub trial_deadline_s: u64,
    /// Restarts the terminal. Absent: the agent starts over by itself.
    pub reboot_command: Option<Command>,
    /// Space that must stay free, bytes.
    pub reserve_bytes: u64,
    /// Smallest battery charge for an installation, percent.
    pub battery_percent_min: u8,
    /// Whether every payload waits for WiFi or cable; the director may ask for it for one.
    pub wifi_only: bool,
    /// How old the verification of an order may be when it is applied, s; an older one is verified again first.
    pub order_valid_s: u64,
}

impl Default for UpdateConfig {
    fn default() -> Self {
        Self {
            health_command: None,
            health_timeout_s: 60,
            health_retry_s: 5,
            trial_deadline_s: 600,
            reboot_command: None,
            reserve_bytes: 4 * 1024 * 1024,
            battery_percent_min: 30,
            wifi_only: false,
            order_valid_s: 30 * 60,
        }
    }
}

/// Where radio values come from: a command's output or a file, both JSON with fields of a condition.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SignalConfig {
    /// Prints the JSON.
    pub command: Option<Command>,
    /// Holds the JSON.
    pub file: Option<PathBuf>,
}

/// How the payment application talks to the agent.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ApplicationConfig {
    /// Folder where it leaves failures and counters, one JSON file each; `<state_dir>/drop` if absent.
    pub drop_dir: Option<PathBuf>,
    /// JSON file with its state. When it is set and cannot be read, nothing is installed.
    pub state_file: Option<PathBuf>,
}

/// Waiting times. The server sets the interval; these bound the rest. All may be zero.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timing {
    /// Shortest time between two check-ins, whatever the server says, s.
    pub poll_min_s: f64,
    /// Longest time between two check-ins, whatever the server says, s.
    pub poll_max_s: f64,
    /// Shortest wait after a start, s: a whole mall gets its mains back at once.
    pub boot_delay_min_s: f64,
    /// Longest wait after a start, s.
    pub boot_delay_max_s: f64,
    /// Longest wait after the first failure, s.
    pub first_retry_max_s: f64,
    /// Shortest wait after further failures, s.
    pub retry_min_s: f64,
    /// Where waiting stops growing, s; the random part comes on top.
    pub retry_max_s: f64,
    /// Random part that is added to the server's interval, percent of it.
    pub jitter_percent: f64,
    /// Wait after the server said that the terminal is blocked, s.
    pub blocked_s: f64,
    /// How often the drop folder is looked at, s.
    pub drop_scan_s: f64,
    /// Connecting may take this long, s: 2G takes its time.
    pub connect_timeout_s: f64,
    /// Silence on an open connection that counts as broken, s.
    pub read_timeout_s: f64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            poll_min_s: 5.0,
            poll_max_s: 86_400.0,
            boot_delay_min_s: 5.0,
            boot_delay_max_s: 90.0,
            first_retry_max_s: 120.0,
            retry_min_s: 30.0,
            retry_max_s: 1_800.0,
            jitter_percent: 10.0,
            blocked_s: 3_600.0,
            drop_scan_s: 2.0,
            connect_timeout_s: 30.0,
            read_timeout_s: 30.0,
        }
    }
}

impl Timing {
    fn problem(&self) -> Option<String> {
        let values = [
            ("poll_min_s", self.poll_min_s),
            ("poll_max_s", self.poll_max_s),
            ("boot_delay_min_s", self.boot_delay_min_s),
            ("boot_delay_max_s", self.boot_delay_max_s),
            ("first_retry_max_s", self.first_retry_max_s),
            ("retry_min_s", self.retry_min_s),
            ("retry_max_s", self.retry_max_s),
            ("jitter_percent", self.jitter_percent),
            ("blocked_s", self.blocked_s),
            ("drop_scan_s", self.drop_scan_s),
            ("connect_timeout_s", self.connect_timeout_s),
            ("read_timeout_s", self.read_timeout_s),
        ];
        values
            .iter()
            .find(|(_, value)| !(0.0..=1_000_000.0).contains(value))
            .map(|(name, value)| format!("timing.{name} must be between 0 and 1000000, was {value}"))
    }
}

/// `seconds` as a duration; values are checked when the file is read.
pub fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

fn slot_a() -> Slot {
    Slot::A
}

fn installer_timeout_s() -> u64 {
    600
}

impl Config {
    /// Reads and checks `path`.
    ///
    /// # Errors
    /// One sentence that names the file and what is wrong in it.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let read = |source| ConfigError::Read { path: path.to_owned(), source };
        let bytes = storage::read(path, CONFIG_BYTES_MAX)
            .map_err(read)?
            .ok_or_else(|| read(std::io::ErrorKind::NotFound.into()))?;
        let invalid = |problem: String| ConfigError::Invalid { path: path.to_owned(), problem };
        let text = String::from_utf8(bytes).map_err(|_| invalid("is not UTF-8".to_owned()))?;
        let mut config: Self = toml::parse(&text)
            .and_then(|value| serde_json::from_value(value).map_err(|error| error.to_string()))
            .map_err(invalid)?;
        config.problem().map_or(Ok(()), |problem| Err(invalid(problem)))?;
        let folder = std::path::absolute(path).map_err(read)?;
        config.resolve(folder.parent().unwrap_or(Path::new("/")));
        Ok(config)
    }

    fn problem(&self) -> Option<String> {
        let urls = [
            ("server", Some(&self.server)),
            ("image_url", self.image_url.as_ref()),
            ("director_url", self.director_url.as_ref()),
        ];
        for (name, url) in urls {
            if let Some(url) = url
                && (!(url.starts_with("http://") || url.starts_with("https://")) || url.ends_with('/'))
            {
                return Some(format!(
                    "{name} must start with http:// or https:// and not end with a slash, was {url:?}"
                ));
            }
        }
        let commands = [
            ("update.health_command", self.update.health_command.as_ref()),
            ("update.reboot_command", self.update.reboot_command.as_ref()),
            ("signal.command", self.signal.command.as_ref()),
            (
                "slots.command",
                match &self.slots {
                    SlotsConfig::Command { command, .. } => Some(command),
                    SlotsConfig::Directory { .. } => None,
                },
            ),
        ];
        if let Some((name, _)) = commands.iter().find(|(_, command)| command.is_some_and(Vec::is_empty)) {
            return Some(format!("{name} must name a program"));
        }
        if self.signal.command.is_some() && self.signal.file.is_some() {
            return Some("signal has either a command or a file, not both".to_owned());
        }
        if self.update.battery_percent_min > 100 {
            return Some("update.battery_percent_min must be between 0 and 100".to_owned());
        }
        if !(1..=ORDER_VALID_S_MAX).contains(&self.update.order_valid_s) {
            return Some(format!("update.order_valid_s must be between 1 and {ORDER_VALID_S_MAX}"));
        }
        if let SlotsConfig::Directory { initial_slot: Slot::Single, .. } = self.slots {
            return Some("slots.initial_slot must be \"a\" or \"b\"".to_owned());
        }
        self.timing.problem()
    }

    fn resolve(&mut self, folder: &Path) {
        let paths = [
            Some(&mut self.state_dir),
            self.ca_file.as_mut(),
            Some(&mut self.trust.image_root),
            Some(&mut self.trust.director_root),
            self.signal.file.as_mut(),
            self.application.drop_dir.as_mut(),
            self.application.state_file.as_mut(),
            match &mut self.slots {
                SlotsConfig::Directory { dir, .. } => Some(dir),
                SlotsConfig::Command { .. } => None,
            },
        ];
        for path in paths.into_iter().flatten() {
            *path = folder.join(&*path);
        }
    }

    /// Base URL of the image repository.
    pub fn image_url(&self) -> String {
        self.image_url.clone().unwrap_or_else(|| format!("{}/tuf/image", self.server))
    }

    /// Base URL of the director.
    pub fn director_url(&self) -> String {
        self.director_url.clone().unwrap_or_else(|| format!("{}/tuf/director", self.server))
    }

    /// Folder where the payment application leaves its events.
    pub fn drop_dir(&self) -> PathBuf {
        self.application.drop_dir.clone().unwrap_or_else(|| self.state_dir.join("drop"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        server = "http://127.0.0.1:1"
        state_dir = "state"
        sn = "SN1"
        model = "demo-p1"
        [trust]
        image_root = "image.json"
        director_root = "director.json"
        [slots]
        kind = "directory"
        dir = "slots"
        initial_version = "1.0.0"
    "#;

    fn load(text: &str) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let config = load(GOOD).unwrap();
        assert!(config.state_dir.is_absolute() && config.state_dir.ends_with("state"));
        assert_eq!(config.image_url(), "http://127.0.0.1:1/tuf/image");
    }

    #[test]
    fn the_example_is_valid() {
        let config = load(include_str!("../agent.example.toml")).unwrap();
        assert_eq!(config.model.as_str(), "pax-a920");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            ("[timing]\nsurprise = 1\n", "surprise"),
            ("[timing]\nretry_min_s = -1.0\n", "retry_min_s"),
            ("[update]\nhealth_command = []\n", "update.health_command"),
            ("[update]\nbattery_percent_min = 101\n", "battery_percent_min"),
            ("[update]\norder_valid_s = 0\n", "order_valid_s"),
            ("[update]\norder_valid_s = 86401\n", "order_valid_s"),
            ("[signal]\nfile = 'x'\ncommand = ['y']\n", "either a command or a file"),
        ];
        for (addition, named) in cases {
            let problem = load(&format!("{GOOD}\n{addition}")).unwrap_err();
            assert!(problem.contains(named), "{problem}");
        }
        assert!(load(&GOOD.replace("http:", "ftp:")).unwrap_err().contains("server"));
        assert!(load(&GOOD.replace("SN1", "SN 1")).unwrap_err().contains("letters or digits"));
        assert!(load(&GOOD.replace("sn = \"SN1\"", "")).unwrap_err().contains("sn"));
    }
}
