//! Many simulated terminals over real HTTP: enrolment, sessions, check-ins until they are acknowledged, director
//! documents and payloads by range. A few connections carry them all.
//!
//! Time: one *round* is one interval of simulated time, in which each terminal checks in once. Rounds follow each other as
//! fast as the server answers, so a simulated day takes seconds; nothing that a terminal does depends on how fast.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream;
use serde_json::Value;
use tillward_protocol::checkin::CheckInAnswer;
use tillward_protocol::crypto::{public_hex, sha256, sign_hex};
use tillward_protocol::enrol::{
    ChallengeAnswer, ChallengeRequest, EnrolAnswer, EnrolRequest, SessionAnswer, SessionRequest, enrol_bytes,
    session_bytes,
};
use tillward_protocol::ids::Sha256Hex;
use tillward_protocol::phase::Reason;
use tillward_protocol::trust::Match;

use super::client::{Answer, Client};
use super::course::Order;
use super::terminal::{Tally, Terminal};

/// Terminals that are under way at the same time.
const AT_ONCE: usize = 64;
/// Longest that one terminal tries to get one thing done: a server that is restarted comes back within it.
const PATIENCE: Duration = Duration::from_secs(90);
/// First pause after a failure, doubled up to the longest one.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Bytes of a payload asked for at once; embedded modems have small buffers.
const RANGE_BYTES: u64 = 32 * 1024;

/// How much of a payload simulated terminals fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Download {
    /// All of it, and its digest is compared.
    Whole,
    /// The first range only, to spare the generator's CPU under load.
    FirstRange,
}

/// One terminal and its session.
struct Member {
    terminal: Terminal,
    token: String,
}

/// All simulated terminals of a run.
pub struct Fleet {
    client: Arc<Client>,
    members: Vec<Member>,
    download: Download,
}

impl Fleet {
    /// These terminals at this server.
    pub fn new(client: Arc<Client>, terminals: impl IntoIterator<Item = Terminal>, download: Download) -> Self {
        let members = terminals.into_iter().map(|terminal| Member { terminal, token: String::new() }).collect();
        Self { client, members, download }
    }

    /// The terminals.
    pub fn terminals(&self) -> impl Iterator<Item = &Terminal> {
        self.members.iter().map(|member| &member.terminal)
    }

    /// Redeems each terminal's activation code (by serial number).
    ///
    /// # Errors
    /// The first terminal that has no code or is refused, with the server's words.
    pub async fn enrol(&mut self, codes: &HashMap<String, String>) -> anyhow::Result<()> {
        let client = &self.client;
        each(&mut self.members, async |member| {
            let sn = &member.terminal.sn;
            let code = codes.get(sn.as_str()).ok_or_else(|| anyhow::anyhow!("no activation code for {sn}"))?;
            enrol(client, &mut member.terminal, code).await
        })
        .await
    }

    /// Each terminal checks in once, and does what it is told.
    ///
    /// # Errors
    /// The first terminal that is refused, or not answered for [`PATIENCE`].
    pub async fn round(&mut self) -> anyhow::Result<()> {
        let (client, download) = (&self.client, self.download);
        each(&mut self.members, async |member| member.round(client, download).await).await
    }

    /// Opens a session for each terminal; gives the tokens in order.
    ///
    /// # Errors
    /// As [`Self::round`].
    pub async fn open_sessions(&mut self) -> anyhow::Result<Vec<String>> {
        let client = &self.client;
        each(&mut self.members, async |member| member.open_session(client).await).await?;
        Ok(self.members.iter().map(|member| member.token.clone()).collect())
    }

    /// What they have done together.
    pub fn tally(&self) -> Tally {
        self.terminals().fold(Tally::default(), |sum, terminal| Tally {
            check_ins: sum.check_ins + terminal.tally.check_ins,
            failures: sum.failures + terminal.tally.failures,
            resent: sum.resent + terminal.tally.resent,
        })
    }
}

/// Runs `act` on all of them, some at a time; the first error wins.
async fn each(members: &mut [Member], act: impl AsyncFn(&mut Member) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let act = &act;
    let mut results = stream::iter(members.iter_mut())
        .map(|member| async move {
            let done = act(member).await;
            done.map_err(|error| error.context(format!("terminal {}", member.terminal.sn)))
        })
        .buffer_unordered(AT_ONCE);
    while let Some(result) = results.next().await {
        result?;
    }
    Ok(())
}

async fn enrol(client: &Client, terminal: &mut Terminal, code: &str) -> anyhow::Result<()> {
    let public_key = public_hex(&terminal.key);
    let proof = sign_hex(&terminal.key, &enrol_bytes(&terminal.sn, code, &public_key));
    let sn = terminal.sn.clone();
    let request = EnrolRequest { sn, activation_code: code.to_owned(), public_key, proof };
    let body = serde_json::to_vec(&request)?;
    // Repeating it with the same key gives the same answer.
    let answer: EnrolAnswer = patiently(client, "POST", "/device/v1/enrol", "", &body).await?.json()?;
    terminal.enrolled(answer.terminal_id, answer.stream);
    Ok(())
}

/// Sends until the server answers with something other than "busy".
async fn patiently(client: &Client, method: &str, path: &str, token: &str, body: &[u8]) -> anyhow::Result<Answer> {
    let bearer = format!("Bearer {token}");
    let headers = [("content-type", "application/json"), ("authorization", bearer.as_str())];
    let headers = &headers[..if token.is_empty() { 1 } else { 2 }];
    with_patience(
        async || client.send(method, path, headers, body).await,
        |answer| answer.status < 500 && answer.status != 429,
    )
    .await
}

/// Tries until the answer is acceptable; connection errors and other answers are tried again.
async fn with_patience(
    send: impl AsyncFn() -> std::io::Result<Answer>,
    is_final: impl Fn(&Answer) -> bool,
) -> anyhow::Result<Answer> {
    let started = Instant::now();
    let mut pause = PAUSE;
    loop {
        let result = send().await;
        match result {
            Ok(answer) if is_final(&answer) => return Ok(answer),
            Ok(answer) if started.elapsed() > PATIENCE => return Ok(answer),
            Err(error) if started.elapsed() > PATIENCE => return Err(error.into()),
            Ok(_) | Err(_) => {}
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

impl Member {
    async fn open_session(&mut self, client: &Client) -> anyhow::Result<()> {
        let terminal_id = self.terminal.terminal_id();
        let body = serde_json::to_vec(&ChallengeRequest { terminal_id })?;
        let answer = patiently(client, "POST", "/device/v1/challenge", "", &body).await?;
        let ChallengeAnswer { challenge } = answer.json()?;
        let proof = sign_hex(&self.terminal.key, &session_bytes(terminal_id, &challenge));
        let body = serde_json::to_vec(&SessionRequest { terminal_id, challenge, proof })?;
        let answer: SessionAnswer = patiently(client, "POST", "/device/v1/session", "", &body).await?.json()?;
        self.token = answer.token;
        Ok(())
    }

    /// As [`patiently`] with this terminal's session, opened anew when it ended.
    async fn send(&mut self, client: &Client, method: &str, path: &str, body: &[u8]) -> anyhow::Result<Answer> {
        const SESSIONS_MAX: usize = 3;
        for _ in 0..SESSIONS_MAX {
            if self.token.is_empty() {
                self.open_session(client).await?;
            }
            let answer = patiently(client, method, path, &self.token, body).await?;
            if answer.status != 401 {
                return Ok(answer);
            }
            self.token.clear();
        }
        anyhow::bail!("the server refuses sessions that it has just opened")
    }

    async fn round(&mut self, client: &Client, download: Download) -> anyhow::Result<()> {
        const PATH: &str = "/device/v1/check-in";
        let already = self.terminal.tally.check_ins;
        while self.terminal.tally.check_ins == already {
            let sealed = self.terminal.report()?;
            for _ in 0..sealed.answers_lost {
                // Counted by the server, but the terminal never hears of it: the same bytes go again.
                self.send(client, "POST", PATH, &sealed.body).await?;
                self.terminal.tally.resent += 1;
            }
            let answer: CheckInAnswer = self.send(client, "POST", PATH, &sealed.body).await?.json()?;
            if !self.terminal.answered(&answer) {
                self.terminal.tally.resent += 1;
                continue;
            }
            if self.terminal.course.wants_director(answer.desired.director) {
                self.read_director(client, answer.desired.director).await?;
            }
            if let Some(order) = self.terminal.course.wants_payload().cloned() {
                self.fetch(client, &order, download).await?;
            }
        }
        Ok(())
    }

    async fn read_director(&mut self, client: &Client, director: i64) -> anyhow::Result<()> {
        const TRIES: usize = 5;
        let base = format!("/tuf/director/t/{}/metadata", self.terminal.terminal_id());
        for _ in 0..TRIES {
            let timestamp: Value = self.send(client, "GET", &format!("{base}/timestamp.json"), b"").await?.json()?;
            let version = timestamp["signed"]["version"].as_u64().unwrap_or(0);
            let answer = self.send(client, "GET", &format!("{base}/{version}.targets.json"), b"").await?;
            // The order changed between the two requests: the timestamp names another version now.
            if answer.status == 404 {
                continue;
            }
            let targets: Value = answer.json()?;
            self.terminal.directed(director, version, order(&targets["signed"]));
            return Ok(());
        }
        anyhow::bail!("the director's documents do not fit together")
    }

    /// Fetches the payload in ranges. A range that breaks is asked for again, and counts as an interruption.
    async fn fetch(&mut self, client: &Client, order: &Order, download: Download) -> anyhow::Result<()> {
        let path = format!("/tuf/image/targets/{}.{}", order.sha256, order.name);
        let mut payload = Vec::new();
        let mut resumed = 0;
        let started = Instant::now();
        while (payload.len() as u64) < order.length {
            let from = payload.len() as u64;
            let to = (from + RANGE_BYTES).min(order.length) - 1;
            let range = format!("bytes={from}-{to}");
            match client.send("GET", &path, &[("range", range.as_str())], b"").await {
                Ok(answer) if answer.status == 206 || (answer.status == 200 && from == 0) => {
                    payload.extend_from_slice(&answer.body);
                }
                Ok(answer) if answer.status < 500 => {
                    let _: Value = answer.json()?;
                    anyhow::bail!("the server answered a range of {path} with {}", answer.status);
                }
                Ok(_) | Err(_) if started.elapsed() < PATIENCE => {
                    resumed += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                Ok(answer) => anyhow::bail!("the server answered {} for {path}", answer.status),
                Err(error) => return Err(error.into()),
            }
            if download == Download::FirstRange {
                self.terminal.course.downloaded(resumed);
                return Ok(());
            }
        }
        if payload.len() as u64 == order.length && Sha256Hex::from_bytes(sha256(&payload)) == order.sha256 {
            self.terminal.course.downloaded(resumed);
        } else {
            self.terminal.course.refused(Reason::DigestMismatch);
        }
        Ok(())
    }
}

/// The first order in a director's targets document.
fn order(signed: &Value) -> Option<Order> {
    let (name, entry) = signed["targets"].as_object()?.iter().next()?;
    let matches: Match = serde_json::from_value(entry["custom"]["match"].clone()).ok()?;
    Some(Order {
        assignment: entry["custom"]["assignment"].as_i64()?,
        name: name.clone(),
        length: entry["length"].as_u64()?,
        sha256: entry["hashes"]["sha256"].as_str()?.parse().ok()?,
        version: matches.version,
        release_counter: matches.release_counter,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_order_is_read_from_a_director_document() {
        let digest = Sha256Hex::of(b"x");
        let signed = json!({"version": 7, "targets": {"demo-p1.os.4.2.0-42.bin": {
            "length": 10, "hashes": {"sha256": digest},
            "custom": {"assignment": 5, "match": {"hardware_ids": ["demo-p1"], "component": "os", "version": "4.2.0",
                                                  "release_counter": 42}}}}});
        let order = order(&signed).unwrap();
        assert_eq!((order.assignment, order.length, order.release_counter), (5, 10, 42));
        assert_eq!((order.sha256, order.version.as_str()), (digest, "4.2.0"));
        assert_eq!(super::order(&json!({"targets": {}})), None);
    }
}
