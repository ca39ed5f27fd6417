//! A network that does to requests what mobile networks do: cuts them short, swallows answers, holds them up, and
//! delivers them twice, at once or much later.
//!
//! It stands between terminals and server, reads whole HTTP messages and decides for each request by a seeded draw.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::http::message_length;

/// Longest message that is held in memory, bytes.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// Old requests that may still turn up.
const LATE_MAX: usize = 64;

/// How often each thing happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// Delivered as sent.
    pub passed: u32,
    /// Requests that ended half way.
    pub cut_requests: u32,
    /// Requests that arrived whole and whose answer ended half way or never came.
    pub cut_answers: u32,
    /// Requests or answers that came late.
    pub delayed: u32,
    /// Requests that arrived twice at once.
    pub doubled: u32,
    /// Requests that arrived again after later ones.
    pub replayed: u32,
}

impl Faults {
    /// Whether each of them happened.
    pub fn is_complete(&self) -> bool {
        let Self { passed, cut_requests, cut_answers, delayed, doubled, replayed } = *self;
        [passed, cut_requests, cut_answers, delayed, doubled, replayed].iter().all(|&count| count > 0)
    }
}

enum Fault {
    None,
    CutRequest { per_mille: usize },
    CutAnswer { per_mille: usize },
    Delay { request_ms: u64, answer_ms: u64 },
    Double,
    Replay,
}

struct World {
    random: StdRng,
    faults: Faults,
    /// Requests seen, some of which turn up again.
    late: Vec<Vec<u8>>,
}

/// A running proxy; it stops with this value.
pub struct Proxy {
    /// What terminals take for the server.
    pub url: String,
    world: Arc<Mutex<World>>,
    stopped: Arc<AtomicBool>,
    address: String,
}

impl Proxy {
    /// Starts one before the server at `upstream`.
    ///
    /// # Panics
    /// When there is no port.
    pub fn start(upstream: &str, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let world = World { random: StdRng::seed_from_u64(seed), faults: Faults::default(), late: Vec::new() };
        let world = Arc::new(Mutex::new(world));
        let stopped = Arc::new(AtomicBool::new(false));
        let upstream = upstream.trim_start_matches("http://").to_owned();
        std::thread::spawn({
            let (world, stopped) = (Arc::clone(&world), Arc::clone(&stopped));
            move || {
                for client in listener.incoming().map_while(Result::ok) {
                    if stopped.load(Ordering::Relaxed) {
                        return;
                    }
                    let (world, upstream) = (Arc::clone(&world), upstream.clone());
                    // A broken connection is what this is for.
                    std::thread::spawn(move || drop(serve(client, &upstream, &world)));
                }
            }
        });
        Self { url: format!("http://{address}"), world, stopped, address }
    }

    /// What happened so far.
    pub fn faults(&self) -> Faults {
        locked(&self.world).faults
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // Wakes the listener; when that fails it is gone already.
        drop(TcpStream::connect(&self.address));
    }
}

fn locked(world: &Mutex<World>) -> std::sync::MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One connection of a terminal: request after request until a fault ends it.
fn serve(mut client: TcpStream, upstream: &str, world: &Mutex<World>) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut unread = Vec::new();
    while let Some(request) = read_message(&mut client, &mut unread)? {
        let fault = locked(world).draw(&request);
        match fault {
            Fault::None => client.write_all(&exchange(upstream, &request)?)?,
            Fault::CutRequest { per_mille } => {
                let mut server = connect(upstream)?;
                server.write_all(&request[..cut(request.len(), per_mille)])?;
                server.shutdown(Shutdown::Both)?;
                return client.shutdown(Shutdown::Both);
            }
            Fault::CutAnswer { per_mille } => {
                let answer = exchange(upstream, &request)?;
                client.write_all(&answer[..cut(answer.len(), per_mille)])?;
                return client.shutdown(Shutdown::Both);
            }
            Fault::Delay { request_ms, answer_ms } => {
                std::thread::sleep(Duration::from_millis(request_ms));
                let answer = exchange(upstream, &request)?;
                std::thread::sleep(Duration::from_millis(answer_ms));
                client.write_all(&answer)?;
            }
            Fault::Double => {
                let twin = std::thread::spawn({
                    let (upstream, request) = (upstream.to_owned(), request.clone());
                    move || exchange(&upstream, &request)
                });
                let answer = exchange(upstream, &request);
                // Which of the two the server took first is its own affair; the terminal gets one answer.
                drop(twin.join());
                client.write_all(&answer?)?;
            }
            Fault::Replay => {
                let answer = exchange(upstream, &request)?;
                let old = locked(world).take_late();
                if let Some(old) = old {
                    // Nobody waits for the answer to an old request.
                    drop(exchange(upstream, &old));
                }
                client.write_all(&answer)?;
            }
        }
    }
    Ok(())
}

impl World {
    fn draw(&mut self, request: &[u8]) -> Fault {
        let fault = match self.random.random_range(0..100) {
            0..10 => Fault::CutRequest { per_mille: self.random.random_range(0..1_000) },
            10..20 => Fault::CutAnswer { per_mille: self.random.random_range(0..1_000) },
            20..30 => {
                Fault::Delay { request_ms: self.random.random_range(0..60), answer_ms: self.random.random_range(0..60) }
            }
            30..40 => Fault::Double,
            40..50 if !self.late.is_empty() => Fault::Replay,
            _ => Fault::None,
        };
        let counter = match fault {
            Fault::None => &mut self.faults.passed,
            Fault::CutRequest { .. } => &mut self.faults.cut_requests,
            Fault::CutAnswer { .. } => &mut self.faults.cut_answers,
            Fault::Delay { .. } => &mut self.faults.delayed,
            Fault::Double => &mut self.faults.doubled,
            Fault::Replay => &mut self.faults.replayed,
        };
        *counter += 1;
        if self.late.len() < LATE_MAX && self.random.random_bool(0.3) {
            self.late.push(request.to_vec());
        }
        fault
    }

    fn take_late(&mut self) -> Option<Vec<u8>> {
        let count = self.late.len();
        (count > 0).then(|| self.late.swap_remove(self.random.random_range(0..count)))
    }
}

/// Where a message of this length breaks off: never after its end.
fn cut(length: usize, per_mille: usize) -> usize {
    length * per_mille / 1_000
}

fn connect(upstream: &str) -> io::Result<TcpStream> {
    let server = TcpStream::connect(upstream)?;
    server.set_nodelay(true)?;
    server.set_read_timeout(Some(Duration::from_secs(30)))?;
    Ok(server)
}

/// One request on a connection of its own, and the whole answer to it.
fn exchange(upstream: &str, request: &[u8]) -> io::Result<Vec<u8>> {
    let mut server = connect(upstream)?;
    server.write_all(request)?;
    read_message(&mut server, &mut Vec::new())?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// The next whole message; `unread` keeps what came after it. `None` when the other side is done.
fn read_message(stream: &mut TcpStream, unread: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    let mut block = [0; 16 * 1024];
    let mut ended = false;
    loop {
        if let Some(length) = message_length(unread, ended) {
            let rest = unread.split_off(length);
            return Ok(Some(std::mem::replace(unread, rest)));
        }
        if ended || unread.len() > MESSAGE_BYTES_MAX {
            return Ok(None);
        }
        match stream.read(&mut block)? {
            0 => ended = true,
            length => unread.extend_from_slice(&block[..length]),
        }
    }
}
