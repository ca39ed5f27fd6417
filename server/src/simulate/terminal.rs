//! One simulated terminal: pure, in simulated time. It says what to send next and takes what was answered; the sending
//! is elsewhere.
//!
//! Like the real agent it keeps a sealed report until the server acknowledges its `(stream, seq)` and sends the very same
//! bytes again until then. Unlike it, it does not verify signatures: it believes the director's document. Everything it
//! draws comes from generators of its own, so what it does in round *n* does not depend on the other terminals.

use std::sync::Arc;

use tillward_protocol::checkin::{
    AppState, BootReason, CHECK_IN_VERSION, CheckIn, CheckInAnswer, DeviceHealth, FAILURES_MAX, NetworkCounters,
    Printer, Slot, Software, Tamper, TerminalReport, TransactionCounters,
};
use tillward_protocol::crypto::{SigningKey, sign_hex};
use tillward_protocol::failure::Failure;
use tillward_protocol::ids::{ModelCode, Seq, Sn, Stream, TerminalId, Version};
use tillward_protocol::manifest::{self, Component, Manifest, Refusal, SignedManifest};

use super::course::{Course, Order};
use super::network::{Link, LinkState, Moment};
use super::payments::{self, Fault, Outcome};
use super::population::Place;
use super::random::Draws;

/// What all terminals of a run share.
#[derive(Debug)]
pub struct Scenario {
    /// Everything random follows from it.
    pub seed: u64,
    /// Simulated time between two check-ins, s.
    pub interval_s: f64,
    /// Unix ms at which simulated time starts.
    pub starts_at_ms: i64,
    /// Firmware that terminals come with, and its release counter.
    pub firmware: (Version, u64),
    /// Payment application.
    pub app: Version,
    /// This program's version, reported as the agent's.
    pub agent: Version,
    /// The injected fault.
    pub fault: Option<Fault>,
}

/// Transactions per hour on average, by the hour of the simulated day: shops open at nine, peaks at noon and evening.
const TRANSACTIONS_PER_HOUR: [f64; 24] = [
    0.3, 0.2, 0.1, 0.1, 0.1, 0.2, 0.6, 1.5, 3.0, 5.0, 6.5, 8.0, 9.0, 7.0, 6.0, 5.5, 6.0, 7.5, 9.0, 8.5, 6.5, 4.0, 2.0,
    0.8,
];
/// Hour of the day at which simulated time starts, whatever the clock says: what terminals send must not depend on when
/// the simulation is run.
const STARTS_AT_HOUR: f64 = 22.0;
/// A terminal that cannot reach the network at check-in time looks again after this long, s.
const LOOK_AGAIN_S: f64 = 10.0;
/// Odds that the answer to a check-in is lost on the way and the same bytes go again, by link state.
const ANSWER_LOST_ODDS: [(LinkState, f64); 4] =
    [(LinkState::Dead, 0.0), (LinkState::Poor, 0.10), (LinkState::Weak, 0.03), (LinkState::Good, 0.003)];

/// What a terminal has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Check-ins acknowledged.
    pub check_ins: u64,
    /// Failures in them.
    pub failures: u64,
    /// Check-ins sent again after the answer was lost, or after a refusal.
    pub resent: u64,
}

/// A report whose bytes are fixed.
#[derive(Debug, Clone)]
pub struct Sealed {
    /// Its bytes.
    pub body: Vec<u8>,
    /// How often its answer is lost on the way.
    pub answers_lost: u32,
    failures: u64,
    has_manifest: bool,
}

/// One simulated terminal.
pub struct Terminal {
    /// Its number in the run.
    pub index: u64,
    /// Serial number.
    pub sn: Sn,
    /// Model.
    pub model: ModelCode,
    /// Its key.
    pub key: SigningKey,
    /// Where it is with its update.
    pub course: Course,
    /// What it has done.
    pub tally: Tally,
    scenario: Arc<Scenario>,
    link: Link,
    draws: Draws,
    terminal_id: TerminalId,
    stream: Stream,
    next_seq: u32,
    sealed: Option<Sealed>,
    clock_s: f64,
    round: u64,
    slot: Slot,
    components: Vec<Component>,
    refusal: Option<Refusal>,
    manifest_counter: u64,
    manifest_due: bool,
    director_version: u64,
    boot_count: u32,
    booted_at_s: f64,
    boot_reason: BootReason,
    events: u64,
    battery: f64,
}

impl Terminal {
    /// A terminal as it comes from the factory.
    pub fn new(scenario: &Arc<Scenario>, index: u64, sn: Sn, model: ModelCode, place: Place) -> Self {
        let seed = scenario.seed;
        let mut draws = Draws::of(seed, "terminal", index);
        let (version, release_counter) = scenario.firmware.clone();
        Self {
            index,
            sn,
            model,
            key: SigningKey::from_bytes(&Draws::of(seed, "key", index).bytes()),
            course: Course::new(seed, index),
            tally: Tally::default(),
            scenario: Arc::clone(scenario),
            link: Link::new(place, seed, index),
            terminal_id: TerminalId(0),
            stream: Stream(1),
            next_seq: 1,
            sealed: None,
            clock_s: 0.0,
            round: 0,
            slot: Slot::A,
            components: vec![Component { name: "os".to_owned(), version, sha256: None, release_counter }],
            refusal: None,
            manifest_counter: 0,
            manifest_due: true,
            director_version: 0,
            boot_count: draws.whole(1, 60),
            booted_at_s: -draws.between(600.0, 86_400.0),
            boot_reason: BootReason::PowerOn,
            events: 0,
            battery: draws.between(35.0, 100.0),
            draws,
        }
    }

    /// Where it stands.
    pub fn place(&self) -> &Place {
        self.link.place()
    }

    /// Its number at the server, once enrolled.
    pub fn terminal_id(&self) -> TerminalId {
        self.terminal_id
    }

    /// Takes the number and stream that the server gave it.
    pub fn enrolled(&mut self, terminal_id: TerminalId, stream: Stream) {
        self.terminal_id = terminal_id;
        self.stream = stream;
        self.next_seq = 1;
    }

    /// What runs.
    pub fn firmware(&self) -> &Version {
        &self.components[0].version
    }

    /// The report to send now: the sealed one, or a new one of the next interval.
    pub fn report(&mut self) -> anyhow::Result<Sealed> {
        if let Some(sealed) = &self.sealed {
            return Ok(sealed.clone());
        }
        let check_in = self.next_check_in();
        let last = check_in.condition.rtt_ms.map_or(LinkState::Poor, |_| self.link_state());
        let odds = ANSWER_LOST_ODDS.iter().find(|(state, _)| *state == last).map_or(0.0, |(_, odds)| *odds);
        let sealed = Sealed {
            body: serde_json::to_vec(&check_in)?,
            answers_lost: u32::from(self.draws.chance(odds)),
            failures: check_in.failures.len() as u64,
            has_manifest: check_in.manifest.is_some(),
        };
        self.sealed = Some(sealed.clone());
        Ok(sealed)
    }

    fn link_state(&mut self) -> LinkState {
        self.link.at(self.clock_s).state
    }

    /// Takes the server's answer. Returns whether it acknowledged the sealed report.
    pub fn answered(&mut self, answer: &CheckInAnswer) -> bool {
        let acknowledged = answer.acknowledged;
        if acknowledged.stream > self.stream {
            // The server knows a newer stream: number anew after it, as the agent does.
            self.stream = Stream(acknowledged.stream.0 + 1);
            self.next_seq = 1;
            self.sealed = None;
            return false;
        }
        if (acknowledged.stream, acknowledged.seq) < (self.stream, Seq(self.next_seq)) {
            return false;
        }
        let Some(sealed) = self.sealed.take() else { return false };
        self.next_seq += 1;
        self.tally.check_ins += 1;
        self.tally.failures += sealed.failures;
        if sealed.has_manifest {
            self.manifest_due = false;
        }
        self.manifest_due |= answer.manifest_wanted;
        self.advance();
        true
    }

    /// Takes an order from the director's document of this version, or the news that there is none.
    pub fn directed(&mut self, director: i64, document_version: u64, order: Option<Order>) {
        self.director_version = self.director_version.max(document_version);
        let running = self.components[0].release_counter;
        self.course.directed(director, order, running, self.battery);
    }

    /// Goes on with the update, now that the last report about it is acknowledged.
    fn advance(&mut self) {
        let before = self.course.order().cloned();
        let Some(change) = self.course.advance() else { return };
        match (change, before) {
            (super::course::Change::Restarted, _) => self.restart(BootReason::Ota),
            (super::course::Change::Installed, Some(order)) => {
                self.restart(BootReason::Ota);
                self.slot = if self.slot == Slot::A { Slot::B } else { Slot::A };
                self.components[0] = Component {
                    name: "os".to_owned(),
                    version: order.version,
                    sha256: Some(order.sha256),
                    release_counter: order.release_counter,
                };
                self.refusal = None;
                self.manifest_due = true;
            }
            (super::course::Change::NotInstalled(reason), Some(order)) => {
                let target = order.name.parse().ok();
                self.refusal = Some(Refusal { reason, target, detail: None });
                self.manifest_due = true;
            }
            (super::course::Change::Installed | super::course::Change::NotInstalled(_), None) => {}
        }
    }

    fn restart(&mut self, reason: BootReason) {
        self.boot_count += 1;
        self.booted_at_s = self.clock_s;
        self.boot_reason = reason;
    }

    fn next_check_in(&mut self) -> CheckIn {
        let from_s = self.clock_s;
        let until_s = self.check_in_time();
        let (transactions, failures) = self.trade(from_s, until_s);
        let now = self.reach_network(until_s);
        self.clock_s = self.clock_s.max(until_s);
        self.live_on(until_s - from_s);
        let traffic = 700 + 1_400 * u64::from(transactions.ok + transactions.failed);
        let troubled = now.state != LinkState::Good;
        let (host_rtt_ms, host_rtt_count) = match transactions.ok {
            0 => (None, None),
            count => (now.condition.rtt_ms.map(|rtt| rtt + 35), Some(count)),
        };
        let mut condition = now.condition;
        condition.host_rtt_ms = host_rtt_ms;
        condition.host_rtt_count = host_rtt_count;
        CheckIn {
            v: CHECK_IN_VERSION,
            stream: self.stream,
            seq: Seq(self.next_seq),
            at_ms: self.unix_ms(self.clock_s),
            boot_id: format!("{:08x}{:08x}", self.index, self.boot_count),
            software: self.software(),
            terminal: self.terminal_report(&failures),
            condition,
            network: NetworkCounters {
                sent_bytes: traffic,
                received_bytes: traffic / 2,
                month_bytes: None,
                timeouts: u32::try_from(failures.iter().filter(|f| f.response_code.is_none()).count()).unwrap_or(0),
                reconnects: u32::from(troubled),
                handovers: 0,
            },
            device: self.device_health(),
            transactions,
            update: self.course.report(),
            manifest: self.manifest_due.then(|| self.manifest()).flatten(),
            failures,
            payments: Vec::new(),
        }
    }

    /// When the next check-in is due: a fixed phase in each interval and a little jitter.
    fn check_in_time(&mut self) -> f64 {
        self.round += 1;
        let interval_s = self.scenario.interval_s;
        let phase = (self.index as f64 * 0.618_033_988_75).fract();
        let jitter = self.draws.between(-0.02, 0.02);
        ((self.round as f64 - 1.0 + phase + jitter) * interval_s).max(self.clock_s)
    }

    /// Waits until the link carries something; the check-in is that much later.
    fn reach_network(&mut self, due_s: f64) -> Moment {
        let mut at_s = due_s.max(self.clock_s);
        loop {
            let now = self.link.at(at_s);
            if now.state != LinkState::Dead {
                self.clock_s = at_s;
                return now;
            }
            at_s += LOOK_AGAIN_S;
        }
    }

    /// The interval's transactions, each at its own moment.
    fn trade(&mut self, from_s: f64, until_s: f64) -> (TransactionCounters, Vec<Failure>) {
        let hour = (STARTS_AT_HOUR + until_s / 3_600.0).rem_euclid(24.0);
        let mean = TRANSACTIONS_PER_HOUR[(hour as usize).min(23)] * (until_s - from_s) / 3_600.0;
        let count = self.draws.poisson(mean.min(40.0));
        let mut times: Vec<f64> = (0..count).map(|_| self.draws.between(from_s, until_s)).collect();
        times.sort_by(f64::total_cmp);
        let mut counters = TransactionCounters::default();
        let mut failures = Vec::new();
        let firmware = self.firmware().clone();
        let scenario = Arc::clone(&self.scenario);
        for at_s in times {
            let moment = self.link.at(at_s);
            match payments::attempt(&moment, &firmware, scenario.fault.as_ref(), &mut self.draws) {
                Some(outcome) if failures.len() < FAILURES_MAX => {
                    counters.failed += 1;
                    if let Some((code, _)) = &outcome.answer {
                        *counters.by_code.entry(code.clone()).or_default() += 1;
                    }
                    failures.push(self.failure(at_s, moment, outcome));
                }
                Some(_) | None => counters.ok += 1,
            }
        }
        (counters, failures)
    }

    fn failure(&mut self, at_s: f64, moment: Moment, outcome: Outcome) -> Failure {
        self.events += 1;
        let (transaction, entry) = payments::kind(&mut self.draws);
        let (response_code, response_source) = outcome.answer.unzip();
        let amount_fen = i64::from(self.draws.whole(500, 90_000));
        Failure {
            id: format!("{}-{}", self.stream.0, self.events),
            occurred_at_ms: self.unix_ms(at_s),
            transaction,
            stage: outcome.stage,
            response_code,
            response_source,
            entry: Some(entry),
            amount_fen: Some(amount_fen),
            approved_fen: None,
            batch_no: Some(format!("{:06}", 1 + self.round / 48)),
            trace_no: Some(format!("{:06}", self.events % 1_000_000)),
            ref_no: None,
            retry_of: None,
            merchant_no_sent: None,
            terminal_no_sent: None,
            merchant_no_resp: None,
            merchant_name_resp: None,
            duration_ms: Some(outcome.duration_ms),
            reversal: Some(outcome.reversal),
            operator_action: None,
            note: None,
            condition: moment.condition,
            firmware: Some(self.firmware().clone()),
            app: Some(self.scenario.app.clone()),
            config_hash: None,
            in_update: Some(self.course.is_under_way()),
            battery_percent: Some(self.battery as u8),
        }
    }

    /// Battery and restarts over the last interval.
    fn live_on(&mut self, passed_s: f64) {
        self.battery -= passed_s / 3_600.0 * self.draws.between(1.0, 4.0);
        if self.battery < self.draws.between(8.0, 30.0) {
            self.battery = self.draws.between(85.0, 100.0);
        }
        if self.draws.chance(0.002) {
            self.restart(BootReason::User);
        }
    }

    fn unix_ms(&self, at_s: f64) -> i64 {
        self.scenario.starts_at_ms + (at_s * 1_000.0) as i64
    }

    fn software(&self) -> Software {
        Software {
            firmware: self.firmware().clone(),
            slot: self.slot,
            agent: self.scenario.agent.clone(),
            app: Some(self.scenario.app.clone()),
            boot: None,
            hardware: None,
            config_hash: None,
        }
    }

    fn terminal_report(&self, failures: &[Failure]) -> TerminalReport {
        let pending = failures.iter().filter(|failure| failure.response_code.is_none()).count();
        TerminalReport {
            app_state: Some(AppState::Idle),
            signed_in: Some(true),
            last_sign_in_ms: Some(self.unix_ms(self.booted_at_s)),
            batch_open: Some(true),
            pending_reversals: Some(u32::from(pending > 2)),
            pending_esign: Some(0),
            offline_transactions: Some(0),
            uptime_s: Some((self.clock_s - self.booted_at_s).max(0.0) as u32),
            boot_reason: Some(self.boot_reason),
            boot_count: Some(self.boot_count),
        }
    }

    fn device_health(&mut self) -> DeviceHealth {
        DeviceHealth {
            battery_percent: Some(self.battery.clamp(1.0, 100.0) as u8),
            battery_mv: Some(3_400 + (self.battery * 8.0) as u32),
            charging: Some(self.battery > 84.0),
            temperature_c: Some(27 + (self.draws.unit() * 9.0) as i32),
            coin_mv: Some(3_020),
            memory_free_kib: Some(11_000 + self.draws.whole(0, 900)),
            flash_free_kib: Some(52_400),
            printer: Some(Printer::Na),
            tamper: Some(Tamper::Ok),
            ped_ok: Some(true),
            ..DeviceHealth::default()
        }
    }

    fn manifest(&mut self) -> Option<SignedManifest> {
        self.manifest_counter += 1;
        let manifest = Manifest {
            terminal_id: self.terminal_id,
            counter: self.manifest_counter,
            components: self.components.clone(),
            slot: self.slot,
            image_root: 1,
            director_root: 1,
            director_version: self.director_version,
            refusal: self.refusal.clone(),
        };
        let body = serde_json::to_string(&manifest).ok()?;
        let signature = sign_hex(&self.key, &manifest::signed_bytes(&body));
        Some(SignedManifest { body, signature })
    }
}

#[cfg(test)]
mod tests;
