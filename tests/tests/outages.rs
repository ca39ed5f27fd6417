//! A rollout in stages while what it stands on goes away: the server is killed, the database stops, the disk is full.
//! Meanwhile nothing new is offered and nothing falls over; afterwards it goes on, and every count is right.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tillward_tests::database::{Cluster, Database};
use tillward_tests::http::Client;
use tillward_tests::server::Server;
use tillward_tests::updating::Updating;
use tillward_tests::{programs, skip, wait_within};

const TERMINALS: usize = 12;

fn seconds(usual: u64) -> Duration {
    Duration::from_secs(std::env::var("TILLWARD_OUTAGE_S").map_or(usual, |text| text.parse().unwrap()))
}

#[test]
fn a_rollout_completes_although_the_server_is_killed_again_and_again_on_sqlite() {
    kill_again_and_again(Database::Sqlite);
}

#[test]
fn a_rollout_completes_although_the_server_is_killed_again_and_again_on_postgresql() {
    if let Some(database) = Database::postgres("killing a server that rolls out") {
        kill_again_and_again(database);
    }
}

fn kill_again_and_again(database: Database) {
    let mut server = Server::start_with(programs::tillward(), database, 900);
    let mut updating = Updating::start(&server, TERMINALS);
    for succeeded in [0, 1, 3, 6, 9] {
        updating.carry_on_until(succeeded);
        server.kill();
        server.start_again();
        updating.check();
    }
    updating.finish();
    assert!(server.tool(&["audit", "verify"]).status.success());
}

#[test]
fn a_rollout_waits_for_a_database_that_is_gone_and_goes_on_with_it() {
    let Some(cluster) = Cluster::start("a database that stops") else { return };
    let mut server = Server::start_with(programs::tillward(), cluster.database(), 900);
    let mut updating = Updating::start(&server, TERMINALS);
    updating.carry_on_until(2);
    let before = updating.ordered();
    cluster.stop_at_once();
    let client = Client::new(Duration::from_secs(40));
    let (gone, length) = (Instant::now(), seconds(5));
    let mut refused = 0;
    while refused == 0 || gone.elapsed() < length {
        let terminal = updating.terminals.values_mut().nth(refused % TERMINALS).unwrap();
        assert_eq!(terminal.try_check_in(), 503);
        refused += 1;
        assert_eq!(client.send("GET", &format!("{}/healthz", server.url), "", "", b"").unwrap().status, 200);
        assert_eq!(client.send("GET", &format!("{}/readyz", server.url), "", "", b"").unwrap().status, 503);
        assert!(server.is_running(), "{}", server.log_end());
    }
    cluster.start_again();
    wait_within(Duration::from_secs(60), "the server has its database again", || {
        client.send("GET", &format!("{}/readyz", server.url), "", "", b"").is_ok_and(|answer| answer.status == 200)
    });
    // Who had an order has it still.
    let after = updating.ordered();
    assert!(before.iter().all(|terminal| after.contains(terminal)), "{before:?} {after:?}");
    updating.check();
    updating.finish();
    assert!(server.tool(&["audit", "verify"]).status.success());
}

/// A small file system of its own.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// At `at`; `None`, and said, where that is not allowed.
    fn mount(at: &Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(at).output();
        if mount.is_ok_and(|output| output.status.success()) {
            return Some(Self(at.to_owned()));
        }
        skip("a full disk", "run as root where file systems may be mounted");
        None
    }

    /// Takes every byte that is left.
    fn fill(&self) {
        let mut file = std::fs::File::options().create(true).append(true).open(self.0.join("filler")).unwrap();
        let block = [0_u8; 4096];
        while file.write_all(&block).is_ok() {}
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The server may still have files open; the folder behind it is the test's own.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_rollout_waits_for_a_full_disk_and_goes_on_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(&folder.path().join("data"), "64m") else { return };
    let mut server = Server::start_in(folder, programs::tillward(), Database::Sqlite, 900, Vec::new());
    let mut updating = Updating::start(&server, TERMINALS);
    updating.carry_on_until(2);
    disk.fill();
    // What the database has room for within its own files still goes; then nothing is taken in any more.
    let started = Instant::now();
    let mut in_a_row = 0;
    while in_a_row < TERMINALS {
        for terminal in updating.terminals.values_mut() {
            match terminal.try_check_in() {
                200 => in_a_row = 0,
                503 => in_a_row += 1,
                status => panic!("a full disk is answered with {status}"),
            }
        }
        disk.fill();
        assert!(started.elapsed() < Duration::from_secs(120), "the disk is never full");
    }
    assert!(server.is_running(), "{}", server.log_end());
    updating.check();
    let before = updating.ordered();
    // Several passes of the planner find no room either.
    std::thread::sleep(seconds(3));
    assert_eq!(updating.ordered(), before, "something was offered that cannot be written");
    disk.free();
    updating.check();
    updating.finish();
    assert!(server.tool(&["audit", "verify"]).status.success());
}
