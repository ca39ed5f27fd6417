//! A simulated terminal that keeps to the protocol: its own key, one report after the other under `(stream, seq)`, each
//! sent until it is acknowledged, whatever happens to connections and servers.

use std::thread::sleep;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tillward_protocol::checkin::{
    CHECK_IN_VERSION, CheckIn, CheckInAnswer, DeviceHealth, NetworkCounters, Slot, Software, TerminalReport,
    TransactionCounters,
};
use tillward_protocol::condition::{Access, Condition};
use tillward_protocol::crypto::{self, SigningKey};
use tillward_protocol::enrol::{ChallengeAnswer, EnrolAnswer, SessionAnswer, enrol_bytes, session_bytes};
use tillward_protocol::failure::{Entry, Failure, ResponseSource, Stage, TransactionType};
use tillward_protocol::ids::{Seq, Sn, Stream, TerminalId};
use tillward_protocol::manifest::{Component, Manifest, SignedManifest, signed_bytes};
use tillward_protocol::phase::{Phase, UpdateReport};

use crate::admin::Registered;
use crate::http::{Answer, Client};

/// Longest time that one call may fail before the terminal's test fails.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two tries: shorter than on a real terminal, so that a test ends.
const RETRY: Duration = Duration::from_millis(30);

/// What one terminal did; each report and failure counts once, however often it was sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// Check-ins.
    pub check_ins: u64,
    /// Failures in them.
    pub failures: u64,
    /// Calls that had no answer or none of use, and were made again.
    pub repeated: u64,
}

/// One simulated terminal.
pub struct Terminal {
    /// Its serial number.
    pub sn: Sn,
    /// What it has done.
    pub sent: Sent,
    /// Firmware that it says it runs.
    pub firmware: String,
    code: String,
    key: SigningKey,
    url: String,
    client: Client,
    random: StdRng,
    identity: Option<(TerminalId, Stream)>,
    token: String,
    update: Option<UpdateReport>,
    manifest: Option<SignedManifest>,
}

impl Terminal {
    /// A terminal that has not enrolled; all it does follows from `seed`.
    ///
    /// # Panics
    /// When the serial number is none.
    pub fn new(url: &str, registered: &Registered, seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        Self {
            sn: registered.sn.parse().unwrap(),
            sent: Sent::default(),
            firmware: "1.0.0".to_owned(),
            code: registered.code.clone(),
            key: SigningKey::from_bytes(&random.random()),
            url: url.to_owned(),
            // A swallowed answer costs this long.
            client: Client::new(Duration::from_secs(5)),
            random,
            identity: None,
            token: String::new(),
            update: None,
            manifest: None,
        }
    }

    /// Makes one report with up to three failures and sends it until it is acknowledged; enrols and opens a session
    /// first where that is needed.
    ///
    /// # Panics
    /// When the server refuses, acknowledges what was not sent, or is not reached for minutes.
    pub fn check_in(&mut self) -> CheckInAnswer {
        let failures = [0, 0, 1, 3][self.random.random_range(0..4)];
        self.check_in_with(failures)
    }

    /// As [`Self::check_in`], with so many failures.
    ///
    /// # Panics
    /// As [`Self::check_in`].
    pub fn check_in_with(&mut self, failures: u64) -> CheckInAnswer {
        let (_, stream) = self.identity();
        // The report is made once: what is sent again is the same bytes.
        let seq = Seq(u32::try_from(self.sent.check_ins).unwrap() + 1);
        let report = self.report(stream, seq, failures);
        let body = serde_json::to_value(&report).unwrap();
        let answer: CheckInAnswer = self.call("/device/v1/check-in", &body, true).json();
        let acknowledged = (answer.acknowledged.stream, answer.acknowledged.seq);
        assert_eq!(acknowledged, (stream, seq), "{}: another report was acknowledged than the one sent", self.sn);
        self.sent.check_ins += 1;
        self.sent.failures += failures;
        answer
    }

    /// Makes one report and sends it once; the status of the answer. Without success it counts as not made.
    ///
    /// # Panics
    /// When no answer comes at all, or the terminal has no session.
    pub fn try_check_in(&mut self) -> u16 {
        let (_, stream) = self.identity();
        let seq = Seq(u32::try_from(self.sent.check_ins).unwrap() + 1);
        let body = serde_json::to_value(self.report(stream, seq, 0)).unwrap();
        assert!(!self.token.is_empty(), "{}: has no session", self.sn);
        // Longer than a server waits for its database.
        let client = Client::new(Duration::from_secs(40));
        let answer = client.post(&format!("{}/device/v1/check-in", self.url), &self.token, &body).unwrap();
        if answer.status == 200 {
            self.sent.check_ins += 1;
        }
        answer.status
    }

    /// Acts out an update as far as check-ins tell it: one report for each phase, the last one with the signed manifest
    /// that proves it.
    ///
    /// # Panics
    /// As [`Self::check_in`].
    pub fn act_out_update(&mut self, assignment: i64, installed: &Component) {
        for phase in [Phase::Downloading, Phase::Installing, Phase::Rebooting, Phase::Trial, Phase::Succeeded] {
            if matches!(phase, Phase::Trial | Phase::Succeeded) {
                self.firmware = installed.version.to_string();
            }
            if phase == Phase::Succeeded {
                self.manifest = Some(self.signed_manifest(installed));
            }
            self.update = Some(UpdateReport {
                assignment,
                phase,
                reason: None,
                detail: None,
                bytes: None,
                bytes_total: None,
                resumed: None,
            });
            self.check_in_with(0);
        }
        self.update = None;
    }

    fn signed_manifest(&mut self, installed: &Component) -> SignedManifest {
        let (terminal_id, _) = self.identity();
        let manifest = Manifest {
            terminal_id,
            counter: 1,
            components: vec![installed.clone()],
            slot: Slot::A,
            image_root: 1,
            director_root: 1,
            director_version: 1,
            refusal: None,
        };
        let body = serde_json::to_string(&manifest).unwrap();
        let signature = crypto::sign_hex(&self.key, &signed_bytes(&body));
        SignedManifest { body, signature }
    }

    fn identity(&mut self) -> (TerminalId, Stream) {
        if let Some(identity) = self.identity {
            return identity;
        }
        let public_key = crypto::public_hex(&self.key);
        let proof = crypto::sign_hex(&self.key, &enrol_bytes(&self.sn, &self.code, &public_key));
        let body = json!({
            "sn": self.sn, "activation_code": self.code, "public_key": public_key, "proof": proof,
        });
        let answer: EnrolAnswer = self.call("/device/v1/enrol", &body, false).json();
        let identity = (answer.terminal_id, answer.stream);
        self.identity = Some(identity);
        identity
    }

    fn open_session(&mut self) {
        let (terminal_id, _) = self.identity();
        let challenge: ChallengeAnswer =
            self.call("/device/v1/challenge", &json!({"terminal_id": terminal_id}), false).json();
        let proof = crypto::sign_hex(&self.key, &session_bytes(terminal_id, &challenge.challenge));
        let body = json!({"terminal_id": terminal_id, "challenge": challenge.challenge, "proof": proof});
        let answer: SessionAnswer = self.call("/device/v1/session", &body, false).json();
        self.token = answer.token;
    }

    /// Sends the same body until it is answered with success.
    fn call(&mut self, path: &str, body: &Value, with_session: bool) -> Answer {
        let started = Instant::now();
        let mut sessions = 0;
        loop {
            if with_session && self.token.is_empty() {
                assert!(sessions < 5, "{}: the server takes none of its own tokens", self.sn);
                sessions += 1;
                self.open_session();
            }
            let token = if with_session { self.token.clone() } else { String::new() };
            let what = match self.client.post(&format!("{}{path}", self.url), &token, body) {
                Ok(answer) => match answer.status {
                    200 => return answer,
                    401 if with_session => {
                        self.token.clear();
                        continue;
                    }
                    // Somebody else's write came first, too many tries, a full queue: later. Any other is a fault.
                    409 | 429 | 503 => format!("{} {}", answer.status, answer.text()),
                    status => panic!("{} {path}: refused with {status} {}", self.sn, answer.text()),
                },
                Err(error) => error.to_string(),
            };
            self.sent.repeated += 1;
            assert!(started.elapsed() < PATIENCE, "{} {path}: no answer for {PATIENCE:?}; last: {what}", self.sn);
            sleep(RETRY);
        }
    }

    fn report(&mut self, stream: Stream, seq: Seq, failures: u64) -> CheckIn {
        let at_ms = 1_790_000_000_000 + i64::from(seq.0) * 60_000;
        let failures: Vec<Failure> = (0..failures).map(|index| self.failure(seq, index, at_ms)).collect();
        CheckIn {
            v: CHECK_IN_VERSION,
            stream,
            seq,
            at_ms,
            boot_id: format!("boot-{}", self.sn),
            software: Software {
                firmware: self.firmware.parse().unwrap(),
                slot: Slot::A,
                agent: "0.1.0".parse().unwrap(),
                app: Some("3.8.14".parse().unwrap()),
                boot: None,
                hardware: None,
                config_hash: None,
            },
            terminal: TerminalReport::default(),
            condition: self.condition(),
            network: NetworkCounters::default(),
            device: DeviceHealth::default(),
            transactions: TransactionCounters {
                ok: self.random.random_range(0..40),
                failed: u32::try_from(failures.len()).unwrap(),
                by_code: failures.iter().filter_map(|failure| Some((failure.response_code.clone()?, 1))).collect(),
            },
            failures,
            payments: Vec::new(),
            update: self.update.clone(),
            manifest: self.manifest.take(),
        }
    }

    fn condition(&mut self) -> Condition {
        let access = [Access::FourG, Access::TwoG, Access::Wifi][self.random.random_range(0..3)];
        let is_lte = access == Access::FourG;
        Condition {
            access: Some(access),
            plmn: (access != Access::Wifi).then(|| ["46000", "46001", "46011"][self.random.random_range(0..3)].into()),
            rsrp_dbm: is_lte.then(|| self.random.random_range(-128..=-70)),
            rssi_dbm: (!is_lte).then(|| self.random.random_range(-100..=-50)),
            rtt_ms: Some(self.random.random_range(20..900)),
            loss_percent: Some(0),
            ..Condition::default()
        }
    }

    fn failure(&mut self, seq: Seq, index: u64, at_ms: i64) -> Failure {
        let stage = Stage::ALL[self.random.random_range(0..Stage::ALL.len())];
        let code = (stage == Stage::HostResp).then(|| "51".to_owned());
        Failure {
            id: format!("e-{}-{index}", seq.0),
            occurred_at_ms: at_ms,
            transaction: TransactionType::Sale,
            stage,
            response_source: code.is_some().then_some(ResponseSource::Issuer),
            response_code: code,
            entry: Some(Entry::Nfc),
            amount_fen: Some(self.random.random_range(100..50_000)),
            approved_fen: None,
            batch_no: None,
            trace_no: Some(format!("{:06}", seq.0)),
            ref_no: None,
            retry_of: None,
            merchant_no_sent: None,
            terminal_no_sent: None,
            merchant_no_resp: None,
            merchant_name_resp: None,
            duration_ms: Some(self.random.random_range(500..60_000)),
            reversal: None,
            operator_action: None,
            note: None,
            condition: self.condition(),
            firmware: Some(self.firmware.parse().unwrap()),
            app: None,
            config_hash: None,
            in_update: None,
            battery_percent: None,
        }
    }
}
