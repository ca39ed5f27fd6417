//! An update or a rollback that power cuts disturb, and what must hold afterwards.

use std::process::Command;

use super::bench::payload;
use super::server::{Server, World};
use super::signer::{Release, Signer, Tweaks};
use super::terminal::{Terminal, said};

/// Configuration in which only the old firmware is healthy.
pub const UNHEALTHY: &str =
    "health_command = ['sh', '-c', 'grep -q 2.0.0 {folder}/slots/$(cat {folder}/slots/current)/slot.json']";
/// More operations than an update has; reaching it means that it never ends.
pub const OPERATIONS_MAX: u64 = 1_000;
/// Starts that may be needed after one cut.
pub const STARTS_MAX: usize = 4;

/// A terminal that runs the old firmware and is offered the new one.
pub struct Fleet {
    pub signer: Signer,
    pub old: Release,
    pub new: Release,
}

impl Fleet {
    pub fn new() -> Self {
        let old = Release::new("2.0.0", 2, payload(30_000, 1));
        let new = Release::new("3.0.0", 3, payload(40_000, 2));
        Self { signer: Signer::new(), old, new }
    }

    /// A terminal that runs the old firmware, with a failure and the new firmware waiting for it.
    pub fn prepare(&mut self, more: &str) -> (Server, Terminal) {
        self.signer = Signer::new();
        let server = Server::start();
        let terminal = Terminal::with(&server, &self.signer, more);
        self.publish(&mut server.world(), &self.old.clone(), 1);
        terminal.round();
        assert!(terminal.runs(&self.old));
        self.publish(&mut server.world(), &self.new.clone(), 2);
        terminal.drop_failure("failure-1");
        server.world().counted.clear();
        (server, terminal)
    }

    pub fn publish(&mut self, world: &mut World, release: &Release, order: i64) {
        self.signer.publish(world, Some(release), order, &Tweaks::default());
    }

    pub fn runs_one_of_both_whole(&self, terminal: &Terminal) -> bool {
        terminal.runs(&self.old) || terminal.runs(&self.new)
    }
}

/// Starts the agent with the power going at operation `n`; says whether it went.
pub fn start_and_cut(terminal: &Terminal, n: u64, torn: bool) -> bool {
    let mut command = terminal.command(&["run", "--once"]);
    command.env("TILLWARD_AGENT_FAIL_AT", n.to_string());
    if torn {
        command.env("TILLWARD_AGENT_FAIL_TORN", "1");
    }
    was_cut(command, n)
}

/// Runs the agent; says whether the power went.
pub fn was_cut(mut command: Command, n: u64) -> bool {
    let output = command.output().unwrap();
    match output.status.code() {
        Some(137) => true,
        Some(0) => false,
        _ => panic!("operation {n}: {output:?}"),
    }
}

pub fn finish(terminal: &Terminal, n: u64) {
    for _ in 0..STARTS_MAX {
        let output = terminal.try_round();
        assert!(output.status.success(), "operation {n}: {}", said(&output));
        let status = terminal.status();
        if status["update"]["state"] == "idle" && status["report"].is_null() && status["finished_order"] == 2 {
            return;
        }
    }
    panic!("operation {n}: not finished: {}", terminal.status());
}

pub fn counted_once(server: &Server, n: u64) {
    let world = server.world();
    assert_eq!(world.failure_ids(), ["failure-1"], "operation {n}");
    let counters: Vec<u64> = world.manifests().iter().map(|manifest| manifest["counter"].as_u64().unwrap()).collect();
    assert!(counters.windows(2).all(|pair| pair[0] < pair[1]), "operation {n}: {counters:?}");
}

pub fn new_firmware_runs(fleet: &Fleet, server: &Server, terminal: &Terminal, n: u64) {
    assert!(terminal.runs(&fleet.new), "operation {n}: {}", terminal.status());
    let status = terminal.status();
    assert_eq!(status["committed"]["os"], 3, "operation {n}");
    let world = server.world();
    let finals = world.counted.iter().filter_map(|check_in| check_in.update.as_ref());
    let finals: Vec<_> =
        finals.filter(|update| update.phase.as_str() == "succeeded").map(|update| update.assignment).collect();
    assert!(!finals.is_empty() && finals.iter().all(|assignment| *assignment == 20), "operation {n}: {finals:?}");
}

pub fn old_firmware_runs(fleet: &Fleet, server: &Server, terminal: &Terminal, n: u64) {
    assert!(terminal.runs(&fleet.old), "operation {n}: {}", terminal.status());
    assert_eq!(terminal.status()["committed"]["os"], 2, "operation {n}");
    assert_eq!(terminal.status()["tried"][0], fleet.new.sha256().as_str(), "operation {n}");
    let world = server.world();
    let last = world.counted.iter().rev().find_map(|check_in| check_in.update.as_ref()).unwrap();
    assert_eq!((last.phase.as_str(), last.reason.unwrap().as_str()), ("rolled_back", "health_check_failed"));
}
