//! A lean HTTP/1.1 client: keep-alive connections over plain TCP, requests built once, answers parsed as little as is
//! correct. The load generator lives on the same machine as the server that it measures, so it must cost little.
//!
//! It speaks no TLS and follows no redirects: point it at the server itself, behind any proxy.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Mutex;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// Longest head of an answer, bytes; the server's own stay below 1 KiB.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Longest body of an answer, bytes: the largest sample firmware and room to spare.
const BODY_BYTES_MAX: usize = 64 << 20;
/// A simulated terminal gives up on one exchange after this long.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(60);

/// What the head of an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Status code.
    pub status: u16,
    /// `Retry-After`, s.
    pub retry_after_s: Option<u32>,
    body: Body,
    closes: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    Sized(usize),
    Chunked,
    UntilClose,
}

/// One connection, used again for the next request.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Where the next answer starts in `buffer`: what the last one did not use.
    start: usize,
    body: Vec<u8>,
    is_open: bool,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(2_048), start: 0, body: Vec::new(), is_open: true })
    }

    /// Whether it can carry another request.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// Body of the last answer.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Sends one request and reads the whole answer; its body is then in [`Self::body`].
    ///
    /// # Errors
    /// When the connection broke or the answer is not HTTP; the connection is of no more use then.
    pub async fn exchange(&mut self, request: &[u8]) -> io::Result<Head> {
        self.is_open = false;
        self.stream.write_all(request).await?;
        let head = self.read_head().await?;
        self.read_body(head.body).await?;
        self.is_open = !head.closes;
        Ok(head)
    }

    async fn read_head(&mut self) -> io::Result<Head> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let mut searched = 0;
        loop {
            if let Some(at) = find(&self.buffer[searched..], b"\r\n\r\n") {
                let end = searched + at + 4;
                let head = parse_head(&self.buffer[..end])?;
                self.start = end;
                // An informational answer precedes the real one.
                if (100..200).contains(&head.status) {
                    self.buffer.drain(..end);
                    (self.start, searched) = (0, 0);
                    continue;
                }
                return Ok(head);
            }
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(malformed("the head of the answer does not end"));
            }
            searched = self.buffer.len().saturating_sub(3);
            self.fill().await?;
        }
    }

    async fn read_body(&mut self, form: Body) -> io::Result<()> {
        self.body.clear();
        match form {
            Body::Sized(length) if length > BODY_BYTES_MAX => Err(malformed("the body is too long")),
            Body::Sized(length) => self.take(length).await,
            Body::Chunked => loop {
                let line = self.take_line().await?;
                let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
                let text = std::str::from_utf8(digits).map_err(|_| malformed("a chunk has no length"))?;
                let length = usize::from_str_radix(text.trim(), 16).map_err(|_| malformed("a chunk has no length"))?;
                if length == 0 {
                    while !self.take_line().await?.is_empty() {}
                    return Ok(());
                }
                if length > BODY_BYTES_MAX || self.body.len() > BODY_BYTES_MAX {
                    return Err(malformed("the body is too long"));
                }
                self.take(length).await?;
                self.take_line().await?;
            },
            Body::UntilClose => loop {
                self.body.extend_from_slice(&self.buffer[self.start..]);
                self.start = self.buffer.len();
                match self.fill().await {
                    Ok(()) if self.body.len() > BODY_BYTES_MAX => return Err(malformed("the body is too long")),
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
                    Err(error) => return Err(error),
                }
            },
        }
    }

    /// Moves `length` bytes to the body.
    async fn take(&mut self, length: usize) -> io::Result<()> {
        let mut missing = length;
        loop {
            let have = missing.min(self.buffer.len() - self.start);
            self.body.extend_from_slice(&self.buffer[self.start..self.start + have]);
            self.start += have;
            missing -= have;
            if missing == 0 {
                return Ok(());
            }
            self.buffer.clear();
            self.start = 0;
            self.fill().await?;
        }
    }

    async fn take_line(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(at) = find(&self.buffer[self.start..], b"\r\n") {
                let line = self.buffer[self.start..self.start + at].to_vec();
                self.start += at + 2;
                return Ok(line);
            }
            if self.buffer.len() - self.start > HEAD_BYTES_MAX {
                return Err(malformed("a line of the answer does not end"));
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::Error::new(ErrorKind::UnexpectedEof, "the server closed the connection")),
            _ => Ok(()),
        }
    }

    /// Whether the server has closed this idle connection, or sent what nobody asked for.
    fn is_stale(&self) -> bool {
        let mut byte = [0];
        !matches!(self.stream.try_read(&mut byte), Err(error) if error.kind() == ErrorKind::WouldBlock)
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

fn parse_head(head: &[u8]) -> io::Result<Head> {
    let text = std::str::from_utf8(head).map_err(|_| malformed("the head is not text"))?;
    let mut lines = text.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let status = status_line.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).and_then(|code| code.parse().ok());
    let status: u16 = status.ok_or_else(|| malformed("the answer is not HTTP/1"))?;
    let mut head = Head { status, retry_after_s: None, body: Body::UntilClose, closes: false };
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            head.body = Body::Sized(value.parse().map_err(|_| malformed("the length is not a number"))?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            head.body = Body::Chunked;
        } else if name.eq_ignore_ascii_case("retry-after") {
            head.retry_after_s = value.parse().ok();
        } else if name.eq_ignore_ascii_case("connection") {
            head.closes = value.eq_ignore_ascii_case("close");
        }
    }
    if status < 200 || matches!(status, 204 | 304) {
        head.body = Body::Sized(0);
    }
    head.closes |= head.body == Body::UntilClose;
    Ok(head)
}

/// The host, its address and its port in `http://host:port`.
///
/// # Errors
/// When it is another kind of address or the host is not known.
pub fn resolve(url: &str) -> anyhow::Result<(String, SocketAddr)> {
    let host = url
        .strip_prefix("http://")
        .ok_or_else(|| anyhow::anyhow!("{url}: simulated terminals speak plain HTTP; give http://host:port"))?
        .trim_end_matches('/');
    anyhow::ensure!(!host.contains('/'), "{url}: give http://host:port without a path");
    let with_port = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    let address = with_port
        .to_socket_addrs()
        .map_err(|error| anyhow::anyhow!("{host}: {error}"))?
        .next()
        .ok_or_else(|| anyhow::anyhow!("{host} has no address"))?;
    Ok((host.to_owned(), address))
}

/// The bytes of one request.
pub fn request(method: &str, path: &str, host: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n").into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    if !body.is_empty() || !matches!(method, "GET" | "HEAD" | "DELETE") {
        bytes.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

/// One whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// `Retry-After`, s.
    pub retry_after_s: Option<u32>,
    /// Body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON of this type.
    ///
    /// # Errors
    /// When the status is no success or the body is something else; with the server's own words.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> anyhow::Result<T> {
        let words = || String::from_utf8_lossy(&self.body[..self.body.len().min(600)]).into_owned();
        anyhow::ensure!((200..300).contains(&self.status), "the server answered {}: {}", self.status, words());
        serde_json::from_slice(&self.body).map_err(|error| anyhow::anyhow!("{error} in {}", words()))
    }
}

/// A few connections that many terminals share.
pub struct Client {
    host: String,
    address: SocketAddr,
    idle: Mutex<Vec<Connection>>,
    permits: Semaphore,
}

impl Client {
    /// A client with at most this many connections at once.
    ///
    /// # Errors
    /// As [`resolve`].
    pub fn new(url: &str, connections: usize) -> anyhow::Result<Self> {
        let (host, address) = resolve(url)?;
        Ok(Self { host, address, idle: Mutex::default(), permits: Semaphore::new(connections.max(1)) })
    }

    /// Host and port as they stand in requests.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Sends a request and reads the answer. Waits for a free connection first.
    ///
    /// # Errors
    /// When the connection breaks or nothing comes for a minute. The server may or may not have acted on the request.
    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Answer> {
        let _permit = self.permits.acquire().await.map_err(io::Error::other)?;
        let bytes = request(method, path, &self.host, headers, body);
        let exchange = async {
            let mut connection = match self.take_idle() {
                Some(connection) => connection,
                None => Connection::open(self.address).await?,
            };
            let head = connection.exchange(&bytes).await?;
            Ok::<_, io::Error>((connection, head))
        };
        let timed = tokio::time::timeout(EXCHANGE_TIMEOUT, exchange).await;
        let (mut connection, head) = timed.map_err(|_| io::Error::from(ErrorKind::TimedOut))??;
        let body = std::mem::take(&mut connection.body);
        if connection.is_open() {
            self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(connection);
        }
        Ok(Answer { status: head.status, retry_after_s: head.retry_after_s, body })
    }

    fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        while let Some(connection) = idle.pop() {
            if !connection.is_stale() {
                return Some(connection);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Answers each request on one connection with the next of `answers`, cut into pieces of `piece` bytes.
    async fn answer_with(answers: Vec<&'static [u8]>, piece: usize) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            for answer in answers {
                let mut request = [0; 1_024];
                assert!(stream.read(&mut request).await.unwrap() > 0);
                for part in answer.chunks(piece) {
                    stream.write_all(part).await.unwrap();
                    tokio::task::yield_now().await;
                }
            }
        });
        address
    }

    async fn check(piece: usize) {
        let address = answer_with(
            vec![
                b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nx: y\r\n\r\nhello",
                b"HTTP/1.1 204 No Content\r\n\r\n",
                b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n",
                b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nB;x=1\r\n01234567890\r\n0\r\n\r\n",
                b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
            ],
            piece,
        )
        .await;
        let mut connection = Connection::open(address).await.unwrap();
        let mut seen = Vec::new();
        for _ in 0..5 {
            let head = connection.exchange(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
            let body = String::from_utf8(connection.body().to_vec()).unwrap();
            seen.push((head.status, head.retry_after_s, body, connection.is_open()));
        }
        let row = |status, retry, body: &str, open| (status, retry, body.to_owned(), open);
        assert_eq!(
            seen,
            [
                row(200, None, "hello", true),
                row(204, None, "", true),
                row(503, Some(7), "", true),
                row(200, None, "abc01234567890", true),
                row(200, None, "until the end", false),
            ]
        );
    }

    #[tokio::test]
    async fn answers_of_every_form_are_read_however_they_are_cut() {
        for piece in [1, 2, 7, 4_096] {
            check(piece).await;
        }
    }

    #[tokio::test]
    async fn what_is_not_http_or_breaks_off_is_an_error() {
        for answer in [&b"SSH-2.0-x\r\n\r\n"[..], b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort", b""] {
            let address = answer_with(vec![answer], 4_096).await;
            let mut connection = Connection::open(address).await.unwrap();
            assert!(connection.exchange(b"GET / HTTP/1.1\r\n\r\n").await.is_err());
            assert!(!connection.is_open());
        }
    }

    #[test]
    fn only_plain_http_addresses_are_taken() {
        assert_eq!(resolve("http://127.0.0.1:8420/").unwrap().0, "127.0.0.1:8420");
        for bad in ["https://127.0.0.1", "127.0.0.1:80", "http://127.0.0.1:1/x", "http://127.0.0.1:notaport"] {
            assert!(resolve(bad).is_err(), "{bad}");
        }
    }
}
