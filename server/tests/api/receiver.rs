//! An endpoint that alerts are sent to: a small real HTTP server.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

/// An address at which nobody listens: the discard service, refused everywhere.
pub const NOWHERE: Address = Address(9);

/// A port of this machine.
#[derive(Debug, Clone, Copy)]
pub struct Address(pub u16);

impl Address {
    /// A free port, at which nobody listens for now.
    pub fn free() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port())
    }

    /// What a new channel that leads here says.
    pub fn transport(self) -> Value {
        json!({ "kind": "webhook", "url": format!("http://127.0.0.1:{}/hook/TOKEN?a=b", self.0) })
    }
}

/// One request.
#[derive(Debug, Clone)]
pub struct Received {
    pub head: String,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

impl Received {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn delivery(&self) -> &str {
        &self.headers["tillward-delivery"]
    }

    /// Whether it was signed with this secret, computed from the documentation alone.
    pub fn is_signed_with(&self, secret: &str) -> bool {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(format!("{}.", self.headers["tillward-timestamp"]).as_bytes());
        mac.update(&self.body);
        let hex = self.headers["tillward-signature"].strip_prefix("v1=").unwrap();
        mac.verify_slice(&hex::decode(hex).unwrap()).is_ok()
    }
}

/// What the endpoint does with its n-th request.
pub enum Reply {
    Status(u16),
    /// 200 with this body.
    Json(Value),
    /// Reads it and never answers.
    Silence,
}

/// A running endpoint; stops when dropped.
pub struct Receiver {
    pub address: Address,
    received: Arc<Mutex<Vec<Received>>>,
    is_stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Receiver {
    pub fn start(at: Address, reply: impl Fn(usize, &Received) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", at.0)).unwrap();
        let received = Arc::new(Mutex::new(Vec::new()));
        let is_stopping = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (received, is_stopping) = (Arc::clone(&received), Arc::clone(&is_stopping));
            move || {
                let mut silent = Vec::new();
                for stream in listener.incoming() {
                    if is_stopping.load(Ordering::SeqCst) {
                        return;
                    }
                    let mut stream = stream.unwrap();
                    let Some(request) = read(&stream) else { continue };
                    let reply = {
                        let mut received = received.lock().unwrap();
                        received.push(request.clone());
                        reply(received.len(), &request)
                    };
                    match reply {
                        Reply::Status(status) => {
                            let answer =
                                format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                            let _ = stream.write_all(answer.as_bytes());
                        }
                        Reply::Json(body) => {
                            let body = body.to_string();
                            let answer = format!(
                                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                                body.len()
                            );
                            let _ = stream.write_all(answer.as_bytes());
                        }
                        Reply::Silence => silent.push(stream),
                    }
                }
            }
        });
        Self { address: at, received, is_stopping, thread: Some(thread) }
    }

    /// Starts one that takes everything.
    pub fn willing() -> Self {
        Self::start(Address::free(), |_, _| Reply::Status(204))
    }

    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.is_stopping.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.address.0));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn read(stream: &TcpStream) -> Option<Received> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    reader.read_line(&mut head).ok()?;
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length: usize = headers.get("content-length")?.parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Received { head: head.trim_end().to_owned(), headers, body })
}
