//! Finds the programs and runs them as children that end with their owner.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// The server's program.
///
/// # Panics
/// When it was not built.
pub fn tillward() -> PathBuf {
    find("tillward", "TILLWARD_BIN")
}

/// The agent's program.
///
/// # Panics
/// When it was not built.
pub fn tillward_agent() -> PathBuf {
    find("tillward-agent", "TILLWARD_AGENT_BIN")
}

/// `name` beside this test, in `target/<profile>`, or where the environment says.
fn find(name: &str, variable: &str) -> PathBuf {
    let path = match std::env::var_os(variable) {
        Some(path) => PathBuf::from(path),
        None => {
            let test = std::env::current_exe().unwrap();
            test.parent().and_then(Path::parent).unwrap().join(name)
        }
    };
    assert!(
        path.is_file(),
        "{} is missing: run ./tests/run, or `cargo build -p tillward -p tillward-agent` first (both at once, so that \
         the agent accepts quick-start roots), or set {variable}",
        path.display()
    );
    path
}

/// A command that knows nothing of the settings in the tester's environment.
pub fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TILLWARD_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// Runs a command to its end, which must come within `limit`.
///
/// # Panics
/// When it cannot be started or takes longer.
pub fn run(mut command: Command, limit: Duration) -> Output {
    let said = format!("{command:?}");
    let mut child = Process::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
    let (stdout, stderr) = (gather(child.0.stdout.take()), gather(child.0.stderr.take()));
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.0.try_wait().unwrap() {
            break status;
        }
        assert!(started.elapsed() < limit, "{said} takes longer than {limit:?}");
        std::thread::sleep(Duration::from_millis(5));
    };
    Output { status, stdout: stdout.recv().unwrap(), stderr: stderr.recv().unwrap() }
}

fn gather(source: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut source) = source {
            // What came before a read error is all there is.
            let _ = source.read_to_end(&mut bytes);
        }
        // The owner may have given up.
        let _ = sender.send(bytes);
    });
    receiver
}

/// A child that is killed when its owner is dropped.
pub struct Process(pub Child);

impl Process {
    /// Starts it.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(command: &mut Command) -> Self {
        match command.spawn() {
            Ok(child) => Self(child),
            Err(error) => panic!("{command:?}: {error}"),
        }
    }

    /// Lines of its standard output as they come.
    ///
    /// # Panics
    /// When standard output was not piped.
    pub fn lines(&mut self) -> Receiver<String> {
        let stdout = self.0.stdout.take().expect("standard output is piped");
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            // Reads on when nobody listens any more: a full pipe would stop the child.
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        receiver
    }

    /// Ends it at once, as `kill -9` does, and waits until it is gone.
    ///
    /// # Panics
    /// When the system does not let it.
    pub fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Whether it still runs.
    ///
    /// # Panics
    /// When the system does not say.
    pub fn is_running(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    /// A line of `/proc/<pid>/status` such as `VmHWM`, KiB.
    ///
    /// # Panics
    /// When the process is gone or the system has no such line.
    pub fn memory_kib(&self, line: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let found = status.lines().find_map(|candidate| candidate.strip_prefix(line)?.strip_prefix(':'));
        found.and_then(|text| text.trim().strip_suffix(" kB")?.trim().parse().ok()).expect("the line is there")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
