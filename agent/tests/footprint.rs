//! Memory of the real agent: at the peak of downloading and verifying 64 MiB, and over a thousand check-ins.
//!
//! A debug build is larger than what goes onto terminals; its bound catches what grows, not what is big. To measure
//! the real thing: `cargo build --profile dist -p tillward-agent`, then run this test with
//! `TILLWARD_TEST_AGENT=<target>/dist/tillward-agent` and `--nocapture`.
#![allow(clippy::unwrap_used)]

mod support;

use std::process::Child;
use std::time::{Duration, Instant};

use support::server::Server;
use support::signer::{Release, Signer, Tweaks};
use support::terminal::Terminal;

/// Generous for a debug build.
const DEBUG_PEAK_KIB_MAX: u64 = 12 * 1024;
/// What a terminal gives the agent.
const PEAK_KIB_MAX: u64 = 6 * 1024;
/// What may come on top between the 200th and the 1,000th check-in.
const GROWTH_KIB_MAX: u64 = 256;

fn status_kib(child: &Child, field: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim_start_matches(':').split_whitespace().next()?.parse().ok()
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(300), "waited too long: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn memory_is_bounded_while_64_mib_come_in_and_flat_over_a_thousand_check_ins() {
    let (server, mut signer) = (Server::start(), Signer::new());
    server.world().next_check_in_s = 0;
    let terminal = Terminal::new(&server, &signer);
    let mut child = terminal.command(&["run"]).stderr(std::process::Stdio::null()).spawn().unwrap();
    let count = |server: &Server| server.world().counted.len();
    until("200 check-ins", || count(&server) >= 200);
    let early = status_kib(&child, "VmRSS").unwrap();
    until("1,000 check-ins", || count(&server) >= 1_000);
    let late = status_kib(&child, "VmRSS").unwrap();
    let release =
        Release::new("2.0.0", 2, (0..64 << 20).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect());
    signer.publish(&mut server.world(), Some(&release), 1, &Tweaks::default());
    until("the update", || server.world().phases().last().is_some_and(|phase| phase == "succeeded"));
    let peak = status_kib(&child, "VmHWM").unwrap();
    let threads = status_kib(&child, "Threads").unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    println!(
        "after 200 check-ins {early} KiB, after 1,000 {late} KiB, peak with 64 MiB payload {peak} KiB, {threads} thread"
    );
    assert!(terminal.runs(&release));
    assert_eq!(threads, 1);
    assert!(late <= early + GROWTH_KIB_MAX, "{early} KiB after 200, {late} KiB after 1,000 check-ins");
    let measured = std::env::var_os("TILLWARD_TEST_AGENT").is_some();
    let bound = if measured { PEAK_KIB_MAX } else { DEBUG_PEAK_KIB_MAX };
    assert!(peak <= bound, "{peak} KiB at the peak");
}
