//! The condition the terminal is in: what the agent measured itself, joined with what the radio says.
//!
//! A value that cannot have been measured is dropped and counted, it never stops a check-in.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::{Map, Value};
use tillward_protocol::Check;
use tillward_protocol::checkin::NetworkCounters;
use tillward_protocol::condition::{CLOCK_OFFSET_MS_MAX, Condition};

use crate::config::SignalConfig;
use crate::health::{self, Ended};
use crate::log::note;
use crate::meter::Meter;
use crate::storage;

/// Requests that the percentiles and the loss are taken over.
const WINDOW: usize = 32;
/// Largest output of a signal source, bytes.
const SIGNAL_BYTES_MAX: usize = 16 * 1024;
/// Longest time a signal command may take.
const SIGNAL_TIMEOUT: Duration = Duration::from_secs(5);

/// Collects measurements between check-ins.
#[derive(Debug)]
pub struct Probe {
    meter: Meter,
    signal: SignalConfig,
    round_trips_ms: VecDeque<u32>,
    requests: VecDeque<bool>,
    timeouts: u32,
    had_connection: bool,
    clock_offset_ms: Option<i64>,
    /// Radio values dropped because they cannot have been measured.
    pub dropped: u64,
}

impl Probe {
    /// A probe over `meter` that reads radio values from `signal`.
    pub fn new(meter: Meter, signal: SignalConfig) -> Self {
        Self {
            meter,
            signal,
            round_trips_ms: VecDeque::new(),
            requests: VecDeque::new(),
            timeouts: 0,
            had_connection: false,
            clock_offset_ms: None,
            dropped: 0,
        }
    }

    /// Notes a check-in that was answered.
    pub fn answered(&mut self, round_trip: Duration, clock_offset_ms: i64) {
        push(&mut self.round_trips_ms, milliseconds(round_trip));
        push(&mut self.requests, true);
        // More is no clock's error but nonsense, and must not cost the rest of the condition.
        let is_possible = (-CLOCK_OFFSET_MS_MAX..=CLOCK_OFFSET_MS_MAX).contains(&clock_offset_ms);
        self.clock_offset_ms = is_possible.then_some(clock_offset_ms);
    }

    /// Notes a request that the network lost.
    pub fn lost(&mut self, problem: &str) {
        push(&mut self.requests, false);
        if problem.contains("timeout") {
            self.timeouts = self.timeouts.saturating_add(1);
        }
    }

    /// The condition now.
    pub fn condition(&mut self) -> Condition {
        let mut condition = self.signal();
        let measured = self.meter.read();
        condition.dns_ms = measured.dns.map(milliseconds);
        condition.tcp_ms = measured.tcp.map(milliseconds);
        condition.tls_ms = measured.tls.map(milliseconds);
        condition.ip_version = condition.ip_version.or(measured.ip_version);
        condition.rtt_ms = percentile(&self.round_trips_ms, 50);
        condition.rtt_p95_ms = percentile(&self.round_trips_ms, 95);
        condition.clock_offset_ms = self.clock_offset_ms;
        condition.loss_percent = loss_percent(&self.requests);
        condition
    }

    /// The counters since the last call; they start again at zero.
    pub fn take_counters(&mut self) -> NetworkCounters {
        let (sent_bytes, received_bytes, connections) = self.meter.take_counts();
        // The first connection of a run is not a re-connection.
        let reconnects = if self.had_connection { connections } else { connections.saturating_sub(1) };
        self.had_connection |= connections > 0;
        let timeouts = std::mem::take(&mut self.timeouts);
        NetworkCounters { sent_bytes, received_bytes, timeouts, reconnects, ..NetworkCounters::default() }
    }

    fn signal(&mut self) -> Condition {
        let text = match (&self.signal.command, &self.signal.file) {
            (Some(command), _) => match health::run(command, &[], SIGNAL_TIMEOUT, SIGNAL_BYTES_MAX) {
                Ok(Ended { code: Some(0), output }) => output,
                Ok(ended) => return self.no_signal(&format!("the command ended with {:?}", ended.code)),
                Err(error) => return self.no_signal(&error.to_string()),
            },
            (None, Some(path)) => match storage::read(path, SIGNAL_BYTES_MAX as u64) {
                Ok(Some(bytes)) => bytes,
                Ok(None) => return Condition::default(),
                Err(error) => return self.no_signal(&error.to_string()),
            },
            (None, None) => return Condition::default(),
        };
        match crate::json::object(&text) {
            Ok(fields) => self.possible(fields),
            Err(error) => self.no_signal(&error.to_string()),
        }
    }

    fn no_signal(&mut self, problem: &str) -> Condition {
        note("signal", format_args!("{problem}"));
        self.dropped = self.dropped.saturating_add(1);
        Condition::default()
    }

    /// The condition of those fields whose values are possible.
    fn possible(&mut self, fields: Map<String, Value>) -> Condition {
        let mut kept = Map::new();
        let mut condition = Condition::default();
        for (name, value) in fields {
            kept.insert(name.clone(), value);
            let parsed = serde_json::from_value::<Condition>(Value::Object(kept.clone()));
            match parsed.ok().filter(|parsed| parsed.check().is_ok()) {
                Some(parsed) => condition = parsed,
                None => {
                    kept.remove(&name);
                    self.dropped = self.dropped.saturating_add(1);
                }
            }
        }
        condition
    }
}

fn push<T>(window: &mut VecDeque<T>, value: T) {
    if window.len() == WINDOW {
        window.pop_front();
    }
    window.push_back(value);
}

/// Whole milliseconds, at most ten minutes (longer is a hang and not a latency).
fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX).min(600_000)
}

fn percentile(window: &VecDeque<u32>, percent: usize) -> Option<u32> {
    let mut sorted: Vec<u32> = window.iter().copied().collect();
    sorted.sort_unstable();
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(index).copied()
}

fn loss_percent(requests: &VecDeque<bool>) -> Option<u8> {
    let lost = requests.iter().filter(|answered| !**answered).count();
    (lost * 100).checked_div(requests.len()).and_then(|percent| u8::try_from(percent).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tillward_protocol::condition::Access;

    fn probe(signal: &str) -> (Probe, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("signal.json");
        std::fs::write(&path, signal).unwrap();
        (Probe::new(Meter::default(), SignalConfig { command: None, file: Some(path) }), folder)
    }

    #[test]
    fn impossible_and_unknown_radio_values_are_dropped_and_counted() {
        let (mut probe, _folder) = probe(r#"{"access":"4g","rsrp_dbm":12,"plmn":"46000","surprise":1,"rsrq_db":-9}"#);
        let condition = probe.condition();
        assert_eq!(condition.access, Some(Access::FourG));
        assert_eq!((condition.rsrp_dbm, condition.rsrq_db), (None, Some(-9)));
        assert_eq!((condition.plmn.as_deref(), probe.dropped), (Some("46000"), 2));
    }

    #[test]
    fn a_broken_signal_source_leaves_the_rest_of_the_condition() {
        let (mut probe, _folder) = probe("not json");
        probe.answered(Duration::from_millis(40), -7);
        let condition = probe.condition();
        assert_eq!((condition.rtt_ms, condition.clock_offset_ms, probe.dropped), (Some(40), Some(-7), 1));
    }

    #[test]
    fn percentiles_and_loss_come_from_the_last_requests() {
        let (mut probe, _folder) = probe("{}");
        assert_eq!(probe.condition().loss_percent, None);
        for n in 1..=100 {
            probe.answered(Duration::from_millis(n), 0);
        }
        for _ in 0..8 {
            probe.lost("timeout: connect");
        }
        let condition = probe.condition();
        assert_eq!((condition.rtt_ms, condition.rtt_p95_ms, condition.loss_percent), (Some(84), Some(99), Some(25)));
        assert_eq!(probe.take_counters().timeouts, 8);
        assert_eq!(probe.take_counters(), NetworkCounters::default());
    }
}
