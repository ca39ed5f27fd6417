//! Runs the terminal's own commands: health check, signal source, installer, restart. Never through a shell.

use std::io::{self, Read};
use std::ops::ControlFlow;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::config::Command;

/// Exit code that means "ask again later" (`EX_TEMPFAIL` of sysexits.h).
pub const NOT_YET: i32 = 75;
/// Output of a health command that is put up with, bytes; more of it is a fault.
const HEALTH_BYTES_MAX: usize = 64 * 1024;
/// How often a running command is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Most output that is read at once, bytes.
const BLOCK_BYTES: usize = 16 * 1024;

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its exit code; `None` when a signal ended it or it was stopped for taking too long.
    pub code: Option<i32>,
    /// Its standard output, up to the limit.
    pub output: Vec<u8>,
}

/// The verdict of the health command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Exit code 0.
    Healthy,
    /// Exit code 75, or it took too long.
    NotYet,
    /// Anything else.
    Unhealthy,
}

/// Runs the health command once. Without one, having started is proof enough.
pub fn check(command: Option<&Command>, timeout: Duration) -> Health {
    let Some(command) = command else { return Health::Healthy };
    match run(command, &[], timeout, HEALTH_BYTES_MAX) {
        Ok(Ended { code: Some(0), .. }) => Health::Healthy,
        Ok(Ended { code: Some(NOT_YET) | None, .. }) => Health::NotYet,
        Ok(_) | Err(_) => Health::Unhealthy,
    }
}

/// Runs `command` with further `arguments`, for at most `timeout`, keeping at most `output_bytes_max` of its output.
///
/// # Errors
/// When it cannot be started.
pub fn run(command: &Command, arguments: &[&str], timeout: Duration, output_bytes_max: usize) -> io::Result<Ended> {
    let mut output = Vec::new();
    let code = stream(command, arguments, timeout, |block| {
        let room = output_bytes_max.saturating_sub(output.len());
        output.extend(block.iter().take(room));
        if block.len() > room { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(Ended { code, output })
}

/// Runs `command` and gives its output to `take` block by block, until it ends, `take` breaks off, or `timeout` passes.
///
/// Returns its exit code; `None` when it had to be stopped.
///
/// # Errors
/// When it cannot be started, or its output cannot be read.
pub fn stream(
    command: &Command,
    arguments: &[&str],
    timeout: Duration,
    mut take: impl FnMut(&[u8]) -> ControlFlow<()>,
) -> io::Result<Option<i32>> {
    let deadline = Instant::now() + timeout;
    let (program, first) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut child = std::process::Command::new(program)
        .args(first)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut pipe = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    // A command that hangs with its output open must not hang the agent.
    rustix::fs::fcntl_setfl(&pipe, rustix::fs::OFlags::NONBLOCK)?;
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        match pipe.read(&mut block) {
            Ok(0) => break,
            Ok(count) => {
                if take(block.get(..count).unwrap_or_default()).is_break() {
                    stop(&mut child)?;
                    return Ok(None);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if Instant::now() >= deadline {
                    break;
                }
                std::thread::sleep(LOOK_EVERY);
            }
            Err(error) => return Err(error),
        }
    }
    wait(&mut child, deadline)
}

fn stop(child: &mut Child) -> io::Result<()> {
    child.kill()?;
    child.wait().map(|_| ())
}

fn wait(child: &mut Child, deadline: Instant) -> io::Result<Option<i32>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.code());
        }
        if Instant::now() >= deadline {
            stop(child)?;
            return Ok(None);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        ["sh", "-c", script].map(str::to_owned).to_vec()
    }

    #[test]
    fn exit_codes_are_verdicts() {
        let verdict = |script| check(Some(&shell(script)), Duration::from_secs(10));
        assert_eq!(verdict("exit 0"), Health::Healthy);
        assert_eq!(verdict("exit 75"), Health::NotYet);
        assert_eq!(verdict("exit 1"), Health::Unhealthy);
        assert_eq!(check(Some(&vec!["/nonexistent/health".to_owned()]), Duration::ZERO), Health::Unhealthy);
        assert_eq!(check(None, Duration::ZERO), Health::Healthy);
    }

    #[test]
    fn a_command_that_hangs_is_stopped() {
        let started = Instant::now();
        assert_eq!(check(Some(&shell("exec sleep 60")), Duration::from_millis(50)), Health::NotYet);
        assert!(started.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn output_is_kept_up_to_its_limit() {
        let ended = run(&shell("printf abc"), &[], Duration::from_secs(10), 3).unwrap();
        assert_eq!(ended, Ended { code: Some(0), output: b"abc".to_vec() });
        let ended = run(&shell("printf abcdef"), &[], Duration::from_secs(10), 3).unwrap();
        assert_eq!(ended, Ended { code: None, output: b"abc".to_vec() });
    }
}
