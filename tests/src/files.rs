//! A plain file server: a repository as anybody's web server would offer it. Knows ranges, nothing else.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Serves one folder until it is dropped.
pub struct FileServer {
    /// Its address, without a slash at the end.
    pub url: String,
    address: String,
    stopped: Arc<AtomicBool>,
}

impl FileServer {
    /// Starts it.
    ///
    /// # Panics
    /// When there is no port.
    pub fn start(root: PathBuf) -> Self {
        assert!(root.is_dir(), "{} is no folder", root.display());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let stopped = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopped);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let root = root.clone();
                // A client that went away is no matter.
                std::thread::spawn(move || drop(serve(stream, &root)));
            }
        });
        Self { url: format!("http://{address}"), address, stopped }
    }
}

impl Drop for FileServer {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // Wakes the listener; when that fails it is gone already.
        drop(TcpStream::connect(&self.address));
    }
}

fn serve(mut stream: TcpStream, root: &Path) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
    let mut from = 0;
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        let range = line.to_ascii_lowercase();
        if let Some(range) = range.strip_prefix("range: bytes=") {
            from = range.split('-').next().and_then(|from| from.parse().ok()).unwrap_or(0);
        }
    }
    let is_inside = Path::new(&path).components().all(|part| matches!(part, Component::Normal(_)));
    let found = if is_inside { std::fs::read(root.join(&path)).ok() } else { None };
    let (status, extra, body) = match &found {
        None => ("404 Not Found", String::new(), &[][..]),
        Some(bytes) if from == 0 => ("200 OK", String::new(), &bytes[..]),
        Some(bytes) if from < bytes.len() => {
            let total = bytes.len();
            ("206 Partial Content", format!("content-range: bytes {from}-{}/{total}\r\n", total - 1), &bytes[from..])
        }
        Some(bytes) => ("416 Range Not Satisfiable", format!("content-range: bytes */{}\r\n", bytes.len()), &[][..]),
    };
    let length = body.len();
    write!(stream, "HTTP/1.1 {status}\r\n{extra}content-length: {length}\r\nconnection: close\r\n\r\n")?;
    stream.write_all(body)
}
