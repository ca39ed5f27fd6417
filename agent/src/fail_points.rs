//! For tests: ends the program at a storage operation of their choice, and writes down what was done before.

use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Done;

/// What a shell says of a program that was killed.
const KILLED: i32 = 137;

static PASSED: AtomicU64 = AtomicU64::new(0);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn fails_at() -> Option<u64> {
    static AT: OnceLock<Option<u64>> = OnceLock::new();
    *AT.get_or_init(|| number("TILLWARD_AGENT_FAIL_AT"))
}

/// Counts one operation; ends the program if it is the one that must not happen.
pub(super) fn pass() {
    if Some(PASSED.fetch_add(1, Ordering::Relaxed) + 1) == fails_at() {
        std::process::exit(KILLED);
    }
}

/// Whether the operation that comes is the last one, and stops half way.
pub(super) fn tears() -> bool {
    number("TILLWARD_AGENT_FAIL_TORN").is_some() && Some(PASSED.load(Ordering::Relaxed) + 1) == fails_at()
}

/// Writes an operation down, one line each, its parts between tabs.
pub(super) fn done(done: &Done<'_>) {
    static TRACE: OnceLock<Option<File>> = OnceLock::new();
    let open = || {
        let path = std::env::var_os("TILLWARD_AGENT_TRACE")?;
        Some(File::options().append(true).create(true).open(path).unwrap_or_else(|error| untraced(&error)))
    };
    let Some(mut trace) = TRACE.get_or_init(open).as_ref() else { return };
    let line = match done {
        Done::Opened { path, emptied } => format!("open\t{}\t{emptied}\n", path.display()),
        Done::Wrote { file, bytes } => {
            let mut at = *file;
            let end = at.stream_position().unwrap_or_else(|error| untraced(&error));
            let at = end.saturating_sub(bytes.len() as u64);
            format!("write\t{}\t{at}\t{}\n", path_of(file).display(), hex::encode(bytes))
        }
        Done::Cut { file, length } => format!("cut\t{}\t{length}\n", path_of(file).display()),
        Done::Forced { file } => format!("force\t{}\n", path_of(file).display()),
        Done::Renamed { from, to } => format!("rename\t{}\t{}\n", from.display(), to.display()),
        Done::Removed { path } => format!("remove\t{}\n", path.display()),
        Done::Folder { path } => format!("folder\t{}\n", path.display()),
    };
    trace.write_all(line.as_bytes()).unwrap_or_else(|error| untraced(&error));
}

fn path_of(file: &File) -> PathBuf {
    std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap_or_else(|error| untraced(&error))
}

/// A trace with holes would prove nothing.
fn untraced(error: &std::io::Error) -> ! {
    eprintln!("tracing storage operations: {error}");
    std::process::exit(1);
}
