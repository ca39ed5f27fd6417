//! What the payment application tells the agent: a state file, and a drop folder for failures, counters and payments.
//!
//! Each file in the drop folder is one JSON object: a failure, `{"id": …, "transactions": {…}}`, or, for a successful
//! transaction, `{"payment": {…}}`. It is removed after the spool has it durably; what cannot be taken is put aside. The application writes under another name
//! (a leading dot or a suffix other than `.json`) and renames.

use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};
use tillward_protocol::checkin::{AppState, DeviceHealth, TerminalReport, TransactionCounters};
use tillward_protocol::failure::{EVENT_ID_BYTES_MAX, Failure};
use tillward_protocol::ids::Version;
use tillward_protocol::payment::Payment;
use tillward_protocol::phase::Reason;
use tillward_protocol::trust::Refused;
use tillward_protocol::{Check, FieldError};

use crate::spool::Event;
use crate::storage;

/// Files taken at once; the rest follow in the next look.
const FILES_MAX: usize = 64;
/// Largest event, bytes.
pub const EVENT_BYTES_MAX: u64 = 16 * 1024;

/// State of the payment application.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Application {
    /// Its version.
    pub app: Option<Version>,
    /// Its state and the terminal's.
    pub terminal: TerminalReport,
    /// Health of the device, as far as it knows.
    pub device: DeviceHealth,
}

/// Reads the state file. `None` when none is configured.
///
/// # Errors
/// A sentence; the terminal counts as in use then.
pub fn state(path: Option<&PathBuf>) -> Result<Option<Application>, String> {
    let Some(path) = path else { return Ok(None) };
    match storage::read(path, EVENT_BYTES_MAX) {
        Ok(Some(bytes)) => crate::json::parse(&bytes).map(Some).map_err(|error| error.to_string()),
        Ok(None) => Err(format!("{} is not there", path.display())),
        Err(error) => Err(error.to_string()),
    }
}

/// Whether an installation may disturb the terminal now.
///
/// # Errors
/// `NotIdle`, `TransactionPending` or `LowBattery`.
pub fn is_free(state: &Result<Option<Application>, String>, battery_percent_min: u8) -> Result<(), Refused> {
    let state = match state {
        Ok(None) => return Ok(()),
        Ok(Some(state)) => state,
        Err(problem) => return Err(Refused::new(Reason::NotIdle, format!("state of the application: {problem}"))),
    };
    match state.terminal.app_state {
        Some(AppState::Idle | AppState::Locked) => {}
        None => return Err(Refused::new(Reason::NotIdle, "the application does not say whether it is idle")),
        Some(AppState::Transaction | AppState::Menu) => {
            return Err(Refused::new(Reason::NotIdle, "the terminal is in use"));
        }
    }
    let pending = [
        ("reversals", state.terminal.pending_reversals),
        ("signatures", state.terminal.pending_esign),
        ("offline transactions", state.terminal.offline_transactions),
    ];
    if let Some((what, _)) = pending.iter().find(|(_, count)| count.is_some_and(|count| count > 0)) {
        return Err(Refused::new(Reason::TransactionPending, format!("{what} wait to be sent")));
    }
    match state.device.battery_percent {
        Some(percent) if percent < battery_percent_min && state.device.charging != Some(true) => {
            Err(Refused::new(Reason::LowBattery, format!("battery at {percent} percent, not charging")))
        }
        Some(_) | None => Ok(()),
    }
}

/// One file of the drop folder.
#[derive(Debug)]
pub struct Dropped {
    /// Where it is.
    pub path: PathBuf,
    /// Its content, or what is wrong with it.
    pub event: Result<Event, String>,
}

/// Reads the drop folder, oldest name first. `complete` fills in what a failure lacks.
///
/// # Errors
/// When the folder cannot be read.
pub fn collect(folder: &Path, mut complete: impl FnMut(&mut Map<String, Value>)) -> io::Result<Vec<Dropped>> {
    let mut paths: Vec<PathBuf> = match std::fs::read_dir(folder) {
        Ok(entries) => {
            // A folder cannot be read nor removed as an event: left alone, or it would end the agent at every start.
            let files =
                entries.filter_map(Result::ok).filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
            files.map(|entry| entry.path()).filter(|path| is_event(path)).collect()
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    paths.sort();
    paths.truncate(FILES_MAX);
    let read = |path: PathBuf| {
        let event = match storage::read(&path, EVENT_BYTES_MAX) {
            Ok(Some(bytes)) => parse(&bytes, &mut complete),
            Ok(None) => Err("is gone".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        Dropped { path, event }
    };
    Ok(paths.into_iter().map(read).collect())
}

fn is_event(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "json")
        && path.file_name().and_then(|name| name.to_str()).is_some_and(|name| !name.starts_with('.'))
}

/// One event from its JSON.
///
/// # Errors
/// What is wrong with it, naming the field; never its value.
pub fn parse(bytes: &[u8], complete: &mut impl FnMut(&mut Map<String, Value>)) -> Result<Event, String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Counters {
        id: String,
        transactions: TransactionCounters,
    }
    let mut fields: Map<String, Value> = crate::json::object(bytes).map_err(|error| shape(&error))?;
    let named = |error: FieldError| error.to_string();
    if fields.contains_key("transactions") {
        let counters: Counters = serde_json::from_value(Value::Object(fields)).map_err(|error| shape(&error))?;
        if counters.id.is_empty() || counters.id.len() > EVENT_ID_BYTES_MAX {
            return Err(format!("id: must be 1 to {EVENT_ID_BYTES_MAX} bytes"));
        }
        counters.transactions.check().map_err(named)?;
        return Ok(Event::Counters(counters.id, counters.transactions));
    }
    if fields.contains_key("payment") {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Paid {
            payment: Payment,
        }
        let Paid { payment } = serde_json::from_value(Value::Object(fields)).map_err(|error| shape(&error))?;
        payment.check().map_err(|error| named(error.under("payment")))?;
        return Ok(Event::Payment(Box::new(payment)));
    }
    complete(&mut fields);
    let failure: Failure = serde_json::from_value(Value::Object(fields)).map_err(|error| shape(&error))?;
    failure.check().map_err(named)?;
    Ok(Event::Failure(Box::new(failure)))
}

/// What serde says, without any digits that could be part of a value.
fn shape(error: &serde_json::Error) -> String {
    error.to_string().chars().map(|c| if c.is_ascii_digit() { '#' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(json: &str) -> Option<Reason> {
        let state = serde_json::from_str(json).map(Some).map_err(|error| error.to_string());
        is_free(&state, 30).err().map(|refused| refused.reason)
    }

    #[test]
    fn a_terminal_in_use_pending_or_low_on_battery_is_not_free() {
        assert_eq!(is_free(&Ok(None), 30), Ok(()));
        let cases = [
            (r#"{"terminal":{"app_state":"idle","pending_reversals":0},"device":{"battery_percent":80}}"#, None),
            (r#"{"terminal":{"app_state":"transaction"}}"#, Some(Reason::NotIdle)),
            (r#"{"terminal":{"app_state":"menu"}}"#, Some(Reason::NotIdle)),
            (r#"{"terminal":{"app_state":"locked"}}"#, None),
            (r#"{"terminal":{"pending_reversals":0}}"#, Some(Reason::NotIdle)),
            (r#"{"terminal":{"app_state":"idle","pending_reversals":1}}"#, Some(Reason::TransactionPending)),
            (r#"{"terminal":{"app_state":"idle","pending_esign":1}}"#, Some(Reason::TransactionPending)),
            (r#"{"terminal":{"app_state":"idle","offline_transactions":2}}"#, Some(Reason::TransactionPending)),
            (r#"{"terminal":{"app_state":"idle"},"device":{"battery_percent":29}}"#, Some(Reason::LowBattery)),
            (r#"{"terminal":{"app_state":"idle"},"device":{"battery_percent":30}}"#, None),
            (r#"{"terminal":{"app_state":"idle"},"device":{"battery_percent":29,"charging":true}}"#, None),
            ("not json", Some(Reason::NotIdle)),
        ];
        for (json, expected) in cases {
            assert_eq!(reason(json), expected, "{json}");
        }
        let missing = PathBuf::from("/nonexistent/state.json");
        assert_eq!(is_free(&state(Some(&missing)), 30).unwrap_err().reason, Reason::NotIdle);
    }

    #[test]
    fn what_a_failure_lacks_is_filled_in_and_what_it_has_stays() {
        let mut complete = |fields: &mut Map<String, Value>| {
            fields.entry("condition").or_insert_with(|| serde_json::json!({"access": "4g"}));
            fields.entry("firmware").or_insert_with(|| "1.0".into());
        };
        let json = br#"{"id":"e1","occurred_at_ms":5,"transaction":"sale","stage":"wait","firmware":"0.9"}"#;
        let Event::Failure(failure) = parse(json, &mut complete).unwrap() else { panic!("not a failure") };
        assert_eq!(failure.firmware.unwrap().as_str(), "0.9");
        assert_eq!(failure.condition.access.unwrap().as_str(), "4g");
    }

    #[test]
    fn events_that_cannot_be_taken_are_named_without_their_values() {
        let refuse = |json: &str| parse(json.as_bytes(), &mut |_| {}).unwrap_err();
        assert!(refuse(r#"{"id":"c","transactions":{"ok":1,"by_code":{"123":1}}}"#).contains("by_code"));
        let card = r#"{"id":"e","occurred_at_ms":5,"transaction":"sale","stage":"wait","condition":{},"note":"4111111111111111"}"#;
        let said = refuse(card);
        assert!(said.contains("note") && !said.contains("4111"), "{said}");
        let said = refuse(r#"{"id":"e","pan":"4111111111111111"}"#);
        assert!(said.contains("pan") && !said.contains("4111"), "{said}");
    }

    #[test]
    fn a_payment_is_told_apart_and_gets_no_context() {
        let json = br#"{"payment":{"id":"p1","occurred_at_ms":5,"transaction":"sale","amount_fen":100}}"#;
        let Event::Payment(payment) = parse(json, &mut |_| panic!("needs no context")).unwrap() else {
            panic!("not a payment")
        };
        assert_eq!((payment.id.as_str(), payment.amount_fen), ("p1", 100));
        let refuse = |json: &str| parse(json.as_bytes(), &mut |_| {}).unwrap_err();
        let said = refuse(r#"{"payment":{"id":"p","occurred_at_ms":5,"transaction":"sale","amount_fen":-1}}"#);
        assert!(said.starts_with("payment.amount_fen"), "{said}");
        let said = refuse(r#"{"payment":{"id":"p","pan":"4111111111111111"}}"#);
        assert!(said.contains("pan") && !said.contains("4111"), "{said}");
        assert!(refuse(r#"{"payment":{},"id":"p"}"#).contains("id"));
    }

    #[test]
    fn files_still_being_written_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        for name in [".a.json", "b.json.new", "c.json", "d.txt"] {
            std::fs::write(folder.path().join(name), "{}").unwrap();
        }
        std::fs::create_dir(folder.path().join("folder.json")).unwrap();
        let found = collect(folder.path(), |_| {}).unwrap();
        assert_eq!(found.len(), 1);
        assert!(found[0].path.ends_with("c.json"));
        assert!(collect(&folder.path().join("none"), |_| {}).unwrap().is_empty());
    }
}
