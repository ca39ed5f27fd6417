//! A small server that speaks the device contract from memory, and misbehaves on request.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use tillward_protocol::Check;
use tillward_protocol::checkin::{Acknowledged, CheckIn, Desired};
use tillward_protocol::crypto;
use tillward_protocol::enrol::{EnrolRequest, SessionRequest, enrol_bytes, session_bytes};
use tillward_protocol::ids::{Seq, Sha256Hex, Stream, TerminalId};
use tillward_protocol::manifest::signed_bytes;

/// What goes wrong with the next check-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mishap {
    /// It is counted, and the connection cut instead of an answer.
    LoseAnswer,
    /// The connection is cut before it is counted.
    LoseRequest,
    /// 503 with `Retry-After: 0`.
    Busy,
    /// 422.
    Refuse,
    /// 401 once.
    ForgetSession,
    /// Nothing: the mishap is to meet a later one.
    Nothing,
}

#[derive(Default)]
pub struct World {
    /// URL path → bytes.
    pub files: BTreeMap<String, Arc<Vec<u8>>>,
    pub desired: Desired,
    pub next_check_in_s: u32,
    pub activation_code: String,
    pub public_key: Option<String>,
    pub stream: u32,
    pub known: Option<(Stream, Seq)>,
    /// Every check-in that was counted, in order.
    pub counted: Vec<CheckIn>,
    /// Every check-in that arrived, with its exact bytes.
    pub arrived: Vec<String>,
    pub mishaps: VecDeque<Mishap>,
    pub manifest_wanted: bool,
    pub blocked: bool,
    /// Serve and desire this once a check-in reports this phase.
    pub change_at: Option<(&'static str, Box<World>)>,
    /// Serve this, and take so long about it, once a payload is asked for.
    pub change_at_payload: Option<(Duration, Box<World>)>,
    /// What the answers say the time is; the real time if absent.
    pub server_time_ms: Option<i64>,
    /// Cut the connection after so many bytes of a payload, once for each entry.
    pub payload_cuts: VecDeque<usize>,
    /// Serve payloads without saying how long they are.
    pub payload_without_length: bool,
    /// Method, path and `Range` of every request.
    pub requests: Vec<(String, String, Option<String>)>,
    /// Refuse every report with payments, as a server does that has no such field.
    pub knows_no_payments: bool,
    sessions: u32,
}

impl World {
    pub fn phases(&self) -> Vec<String> {
        let mut phases: Vec<String> = Vec::new();
        for check_in in &self.counted {
            if let Some(update) = &check_in.update {
                let phase = update.phase.as_str().to_owned();
                if phases.last() != Some(&phase) {
                    phases.push(phase);
                }
            }
        }
        phases
    }

    /// How often this path was asked for.
    pub fn asked(&self, path: &str) -> usize {
        self.requests.iter().filter(|(_, asked, _)| asked == path).count()
    }

    pub fn failure_ids(&self) -> Vec<String> {
        self.counted.iter().flat_map(|check_in| &check_in.failures).map(|failure| failure.id.clone()).collect()
    }

    pub fn payment_ids(&self) -> Vec<String> {
        self.counted.iter().flat_map(|check_in| &check_in.payments).map(|payment| payment.id.clone()).collect()
    }

    pub fn manifests(&self) -> Vec<Value> {
        let signed = self.counted.iter().filter_map(|check_in| check_in.manifest.as_ref());
        signed
            .map(|manifest| {
                let key = self.public_key.as_deref().unwrap();
                assert!(crypto::verify_hex(key, &signed_bytes(&manifest.body), &manifest.signature));
                serde_json::from_str(&manifest.body).unwrap()
            })
            .collect()
    }
}

pub struct Server {
    pub url: String,
    world: Arc<Mutex<World>>,
    stop: Arc<AtomicBool>,
}

impl Server {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let world = Arc::new(Mutex::new(World {
            activation_code: "code-1".to_owned(),
            stream: 1,
            next_check_in_s: 3600,
            ..World::default()
        }));
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, stopped) = (world.clone(), stop.clone());
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let shared = shared.clone();
                let connection = connection.unwrap();
                std::thread::spawn(move || serve(connection, &shared));
            }
        });
        Self { url: format!("http://{address}"), world, stop }
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.url.trim_start_matches("http://"));
    }
}

struct Request {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    if reader.read_line(&mut line).ok()? == 0 {
        return None;
    }
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { method, path, headers, body })
}

fn serve(connection: TcpStream, world: &Mutex<World>) {
    connection.set_nodelay(true).unwrap();
    let mut writer = connection.try_clone().unwrap();
    let mut reader = BufReader::new(connection);
    while let Some(request) = read_request(&mut reader) {
        let reply = {
            let mut world = world.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let range = request.headers.get("range").cloned();
            world.requests.push((request.method.clone(), request.path.clone(), range));
            handle(&mut world, &request)
        };
        let Some(reply) = reply else { return };
        if reply.write(&mut writer).is_err() || reply.then_close {
            return;
        }
    }
}

struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Arc<Vec<u8>>,
    range: std::ops::Range<usize>,
    cut_after: Option<usize>,
    without_length: bool,
    then_close: bool,
}

impl Reply {
    fn new(status: u16, body: Vec<u8>) -> Self {
        let range = 0..body.len();
        Self {
            status,
            headers: Vec::new(),
            body: Arc::new(body),
            range,
            cut_after: None,
            without_length: false,
            then_close: false,
        }
    }

    fn json(value: &Value) -> Option<Self> {
        Some(Self::new(200, serde_json::to_vec(value).unwrap()))
    }

    fn problem(status: u16, detail: &str) -> Option<Self> {
        let body = json!({"type": "about:blank", "title": "no", "status": status, "detail": detail});
        Some(Self::new(status, serde_json::to_vec(&body).unwrap()))
    }

    fn write(&self, writer: &mut TcpStream) -> std::io::Result<()> {
        let mut head = format!("HTTP/1.1 {} x\r\n", self.status);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if self.without_length {
            head.push_str("connection: close\r\n");
        } else {
            head.push_str(&format!("content-length: {}\r\n", self.range.len()));
        }
        writer.write_all(format!("{head}\r\n").as_bytes())?;
        let body = &self.body[self.range.clone()];
        writer.write_all(&body[..self.cut_after.unwrap_or(body.len()).min(body.len())])?;
        writer.flush()
    }
}

fn handle(world: &mut World, request: &Request) -> Option<Reply> {
    match (request.method.as_str(), request.path.as_str()) {
        ("POST", "/device/v1/enrol") => enrol(world, &request.body),
        ("POST", "/device/v1/challenge") => Reply::json(&json!({"challenge": "prove-it"})),
        ("POST", "/device/v1/session") => session(world, &request.body),
        ("POST", "/device/v1/check-in") => check_in(world, request),
        ("GET", path) => file(world, path, request),
        _ => Reply::problem(404, "no such route"),
    }
}

fn enrol(world: &mut World, body: &[u8]) -> Option<Reply> {
    let request: EnrolRequest = serde_json::from_slice(body).unwrap();
    request.check().unwrap();
    let bytes = enrol_bytes(&request.sn, &request.activation_code, &request.public_key);
    if request.activation_code != world.activation_code
        || !crypto::verify_hex(&request.public_key, &bytes, &request.proof)
    {
        return Reply::problem(422, "the activation code is not known");
    }
    world.public_key = Some(request.public_key);
    Reply::json(&json!({"terminal_id": 1, "stream": world.stream, "server_time_ms": 1_900_000_000_000_i64}))
}

fn session(world: &mut World, body: &[u8]) -> Option<Reply> {
    let request: SessionRequest = serde_json::from_slice(body).unwrap();
    let bytes = session_bytes(TerminalId(1), &request.challenge);
    let key = world.public_key.as_deref().unwrap();
    if world.blocked || !crypto::verify_hex(key, &bytes, &request.proof) {
        return Reply::problem(403, "this terminal is blocked");
    }
    world.sessions += 1;
    Reply::json(&json!({"token": format!("token-{}", world.sessions), "expires_in_s": 900, "server_time_ms": 1}))
}

fn has_session(world: &World, request: &Request) -> bool {
    request.headers.get("authorization") == Some(&format!("Bearer token-{}", world.sessions))
}

fn check_in(world: &mut World, request: &Request) -> Option<Reply> {
    let body = String::from_utf8(request.body.clone()).unwrap();
    let mishap = world.mishaps.front().copied();
    match mishap {
        Some(Mishap::LoseRequest) => {
            world.mishaps.pop_front();
            return None;
        }
        Some(Mishap::Busy) => {
            world.mishaps.pop_front();
            let mut reply = Reply::problem(503, "busy")?;
            reply.headers.push(("retry-after", "0".to_owned()));
            return Some(reply);
        }
        Some(Mishap::ForgetSession) => {
            world.mishaps.pop_front();
            world.sessions += 1;
        }
        Some(Mishap::Refuse) => {
            world.mishaps.pop_front();
            return Reply::problem(422, "condition.rsrp_dbm: must be between -156 and -31");
        }
        Some(Mishap::Nothing) => {
            world.mishaps.pop_front();
        }
        Some(Mishap::LoseAnswer) | None => {}
    }
    if world.blocked {
        return Reply::problem(403, "this terminal is blocked");
    }
    if !has_session(world, request) {
        return Reply::problem(401, "no session");
    }
    if world.knows_no_payments && body.contains("\"payments\"") {
        return Reply::problem(400, "payments: unknown field");
    }
    world.arrived.push(body.clone());
    let report: CheckIn = serde_json::from_str(&body).unwrap();
    report.check().unwrap();
    let number = (report.stream, report.seq);
    if world.known.is_none_or(|known| number > known) {
        let phase = report.update.as_ref().map(|update| update.phase.as_str());
        if let Some((_, later)) = world.change_at.take_if(|(at, _)| Some(*at) == phase) {
            world.files.extend(later.files);
            world.desired = later.desired;
        }
        world.known = Some(number);
        world.counted.push(report);
    }
    if mishap == Some(Mishap::LoseAnswer) {
        world.mishaps.pop_front();
        return None;
    }
    let (stream, seq) = world.known.unwrap();
    let now_ms = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64;
    Reply::json(&json!({
        "acknowledged": Acknowledged { stream, seq },
        "server_time_ms": world.server_time_ms.unwrap_or(now_ms),
        "next_check_in_s": world.next_check_in_s,
        "desired": world.desired,
        "manifest_wanted": std::mem::take(&mut world.manifest_wanted),
    }))
}

fn file(world: &mut World, path: &str, request: &Request) -> Option<Reply> {
    let needs_session = path.starts_with("/tuf/director/t/") || path.starts_with("/device/v1/");
    if needs_session && !has_session(world, request) {
        return Reply::problem(401, "no session");
    }
    let Some(body) = world.files.get(path).cloned() else { return Reply::problem(404, "no such file") };
    let is_payload = path.contains("/targets/");
    if let Some((takes, later)) = world.change_at_payload.take_if(|_| is_payload) {
        world.files.extend(later.files);
        // The time that a download takes, not a wait for something.
        std::thread::sleep(takes);
    }
    let etag = format!("\"{}\"", &Sha256Hex::of(&body[..body.len().min(64)]).as_str()[..16]);
    let mut reply = Reply { body: body.clone(), range: 0..body.len(), ..Reply::new(200, Vec::new()) };
    let wanted =
        request.headers.get("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let current = request.headers.get("if-range").is_none_or(|tag| *tag == etag);
    if let (true, Some(first)) = (current, wanted) {
        if first >= body.len() {
            return Some(Reply::new(416, Vec::new()));
        }
        reply.status = 206;
        reply.range = first..body.len();
        reply.headers.push(("content-range", format!("bytes {first}-{}/{}", body.len() - 1, body.len())));
    }
    reply.headers.push(("etag", etag));
    if is_payload {
        reply.cut_after = world.payload_cuts.pop_front();
        reply.without_length = world.payload_without_length;
        reply.then_close = reply.cut_after.is_some() || reply.without_length;
    }
    Some(reply)
}
