//! The commands. Few arguments, read by hand: an argument library would be a tenth of the program.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Map, Value};

use crate::agent::{self, Mode};
use crate::application::{self, EVENT_BYTES_MAX};
use crate::config::Config;
use crate::spool::Event;
use crate::storage::{self, Readers};
use crate::{random, status};

const HELP: &str = "\
tillward-agent: checks in, reports failures, installs only what it can verify

  run --config FILE [--once]              check in and update, for ever or for one round
  enrol --config FILE --code CODE         redeem a one-time activation code
  status --config FILE [--json]           what the agent is doing, and why
  report-failure --config FILE < EVENT    leave a failure (JSON) for the next check-in, as the payment application does
  version
  help
";

/// Runs one command; `args` without the program's own name.
pub fn cli(args: impl Iterator<Item = OsString>) -> ExitCode {
    tillward_protocol::crypto::install();
    match Arguments::parse(args).and_then(|arguments| arguments.run()) {
        Ok(code) => code,
        Err(problem) => {
            eprintln!("tillward-agent: {problem}");
            ExitCode::from(2)
        }
    }
}

#[derive(Debug, Default, PartialEq)]
struct Arguments {
    command: String,
    config: Option<PathBuf>,
    code: Option<String>,
    once: bool,
    json: bool,
}

impl Arguments {
    fn parse(mut args: impl Iterator<Item = OsString>) -> Result<Self, String> {
        let words = |arg: OsString| arg.into_string().map_err(|arg| format!("{arg:?} is not UTF-8"));
        let command = args.next().map_or(Ok("help".to_owned()), words)?;
        let mut parsed = Self { command, ..Self::default() };
        while let Some(arg) = args.next() {
            let arg = words(arg)?;
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
            match (parsed.command.as_str(), arg.as_str()) {
                ("run" | "enrol" | "status" | "report-failure", "--config") => parsed.config = Some(value()?.into()),
                ("enrol", "--code") => parsed.code = Some(words(value()?)?),
                ("run", "--once") => parsed.once = true,
                ("status", "--json") => parsed.json = true,
                (command, arg) => return Err(format!("{command} does not know {arg}; see `tillward-agent help`")),
            }
        }
        Ok(parsed)
    }

    fn run(self) -> Result<ExitCode, String> {
        match self.command.as_str() {
            "run" => self.live(),
            "enrol" => self.enrol(),
            "status" => self.status(),
            "report-failure" => self.report_failure(),
            "version" | "--version" => print(&format!("tillward-agent {}\n", env!("CARGO_PKG_VERSION"))),
            "help" | "--help" | "-h" => print(HELP),
            other => Err(format!("there is no command {other}; see `tillward-agent help`")),
        }
    }

    fn config(&self) -> Result<Config, String> {
        let path = self.config.as_deref().ok_or("--config FILE is missing")?;
        Config::load(path).map_err(|error| error.to_string())
    }

    fn live(self) -> Result<ExitCode, String> {
        let mode = if self.once { Mode::Once } else { Mode::Forever };
        let answered = agent::run(&self.config()?, mode).map_err(|error| error.to_string())?;
        Ok(if answered { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn enrol(self) -> Result<ExitCode, String> {
        let config = self.config()?;
        let code = self.code.as_deref().or(config.activation_code.as_deref()).ok_or("--code CODE is missing")?;
        let enrolment = agent::enrol(&config, code).map_err(|error| error.to_string())?;
        print(&format!("enrolled: {} is terminal {}\n", enrolment.sn, enrolment.terminal_id))
    }

    fn status(self) -> Result<ExitCode, String> {
        let config = self.config()?;
        let said = if self.json {
            status::describe(&config).map(|said| format!("{said}\n"))
        } else {
            status::explain(&config)
        };
        print(&said.map_err(|error| error.to_string())?)
    }

    /// Checks the event first, so that whoever calls learns at once what is wrong with it.
    fn report_failure(self) -> Result<ExitCode, String> {
        let config = self.config()?;
        let mut bytes = Vec::new();
        std::io::stdin().take(EVENT_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        if bytes.len() as u64 > EVENT_BYTES_MAX {
            return Err(format!("an event has at most {EVENT_BYTES_MAX} bytes"));
        }
        let mut lenient = |fields: &mut Map<String, Value>| {
            fields.entry("condition").or_insert_with(|| Value::Object(Map::new()));
        };
        let id = match application::parse(&bytes, &mut lenient)? {
            Event::Failure(failure) => failure.id,
            Event::Counters(id, _) => id,
            Event::Payment(payment) => payment.id,
        };
        drop_event(&config.drop_dir(), &bytes).map_err(|error| error.to_string())?;
        print(&format!("{id} goes with the next check-in\n"))
    }
}

fn drop_event(folder: &Path, bytes: &[u8]) -> std::io::Result<()> {
    storage::create_folder(folder)?;
    let mut name = [0; 8];
    random::fill(&mut name)?;
    let name = format!("{:013}-{}.json", crate::clock::unix_ms(), hex::encode(name));
    storage::replace(&folder.join(name), bytes, Readers::Anyone)
}

/// Writes to standard output; a reader that went away is not an error.
fn print(text: &str) -> Result<ExitCode, String> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.to_string()),
        Ok(()) | Err(_) => Ok(ExitCode::SUCCESS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Arguments, String> {
        Arguments::parse(args.iter().map(OsString::from))
    }

    #[test]
    fn each_command_knows_its_own_arguments_only() {
        let run = parse(&["run", "--config", "x", "--once"]).unwrap();
        assert_eq!((run.config, run.once), (Some(PathBuf::from("x")), true));
        assert_eq!(parse(&["enrol", "--config", "x", "--code", "1"]).unwrap().code.as_deref(), Some("1"));
        assert_eq!(parse(&[]).unwrap().command, "help");
        for bad in [&["run", "--json"][..], &["status", "--once"], &["run", "--config"], &["help", "x"]] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        assert!(parse(&["dance"]).unwrap().run().unwrap_err().contains("dance"));
        assert!(parse(&["run"]).unwrap().run().unwrap_err().contains("--config"));
    }
}
