//! Many simulated terminals at once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use crate::admin::{Admin, Registered};
use crate::terminal::{Sent, Terminal};

/// Threads that share the terminals: enough that the server always has several check-ins in one batch.
const THREADS: usize = 16;

/// Terminals under load, each on its way through a number of check-ins.
pub struct Load {
    threads: Vec<JoinHandle<Sent>>,
    answered: std::sync::Arc<AtomicU64>,
    total: u64,
}

/// Registers `count` terminals.
pub fn register(admin: &Admin, count: usize) -> Vec<Registered> {
    admin.add_model("demo-p1");
    let sns: Vec<String> = (0..count).map(|index| format!("SIM{index:06}")).collect();
    admin.add_terminals(&sns, "demo-p1")
}

/// Sets all terminals to enrol at `url` and check in so many times each, as fast as they are answered.
pub fn start(url: &str, registered: &[Registered], check_ins_each: u64, seed: u64) -> Load {
    let answered = std::sync::Arc::new(AtomicU64::new(0));
    let total = registered.len() as u64 * check_ins_each;
    let per_thread = registered.len().div_ceil(THREADS);
    let threads = registered
        .chunks(per_thread)
        .enumerate()
        .map(|(group, registered)| {
            let seeds = (0..).map(|index| seed ^ ((group as u64) << 32 | index) << 1);
            let mut terminals: Vec<Terminal> =
                registered.iter().zip(seeds).map(|(registered, seed)| Terminal::new(url, registered, seed)).collect();
            let answered = std::sync::Arc::clone(&answered);
            std::thread::spawn(move || {
                for _ in 0..check_ins_each {
                    for terminal in &mut terminals {
                        terminal.check_in();
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                }
                terminals.iter().fold(Sent::default(), |sum, terminal| Sent {
                    check_ins: sum.check_ins + terminal.sent.check_ins,
                    failures: sum.failures + terminal.sent.failures,
                    repeated: sum.repeated + terminal.sent.repeated,
                })
            })
        })
        .collect();
    Load { threads, answered, total }
}

impl Load {
    /// Waits until this share of all check-ins is answered, percent.
    ///
    /// # Panics
    /// When a terminal gave up, or it takes minutes.
    pub fn wait_for(&self, percent: u64) {
        let wanted = self.total * percent / 100;
        crate::wait_within(std::time::Duration::from_secs(180), "the terminals check in", || {
            // When all ended early, one of them panicked: that is found when it is joined.
            self.answered() >= wanted || self.threads.iter().all(JoinHandle::is_finished)
        });
    }

    /// Check-ins answered so far.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Waits for all terminals to be done; gives what they sent.
    ///
    /// # Panics
    /// When a terminal did.
    pub fn finish(self) -> Sent {
        let mut sum = Sent::default();
        for thread in self.threads {
            let sent = match thread.join() {
                Ok(sent) => sent,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            sum.check_ins += sent.check_ins;
            sum.failures += sent.failures;
            sum.repeated += sent.repeated;
        }
        assert_eq!(sum.check_ins, self.total);
        sum
    }
}
