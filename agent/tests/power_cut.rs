//! The power goes before, or in the middle of, every single storage operation of a whole update, one after the other.
//! Afterwards the terminal always runs the old or the new firmware whole, and the next start finishes what was begun.
#![allow(clippy::unwrap_used)]

mod support;

use support::bench::payload;
use support::server::{Server, World};
use support::signer::{Release, Signer, Tweaks};
use support::terminal::{Terminal, said};

/// More operations than an update has; reaching it means that it never ends.
const OPERATIONS_MAX: u64 = 1_000;
/// Starts that may be needed after one cut.
const STARTS_MAX: usize = 4;

struct Fleet {
    signer: Signer,
    old: Release,
    new: Release,
}

impl Fleet {
    fn new() -> Self {
        let old = Release::new("2.0.0", 2, payload(30_000, 1));
        let new = Release::new("3.0.0", 3, payload(40_000, 2));
        Self { signer: Signer::new(), old, new }
    }

    /// A terminal that runs the old firmware, with a failure and the new firmware waiting for it.
    fn prepare(&mut self, more: &str) -> (Server, Terminal) {
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

    fn publish(&mut self, world: &mut World, release: &Release, order: i64) {
        self.signer.publish(world, Some(release), order, &Tweaks::default());
    }

    fn runs_one_of_both_whole(&self, terminal: &Terminal) -> bool {
        terminal.runs(&self.old) || terminal.runs(&self.new)
    }
}

/// Starts the agent with the power going at operation `n`; says whether it went.
fn start_and_cut(terminal: &Terminal, n: u64, torn: bool) -> bool {
    let mut command = terminal.command(&["run", "--once"]);
    command.env("TILLWARD_AGENT_FAIL_AT", n.to_string());
    if torn {
        command.env("TILLWARD_AGENT_FAIL_TORN", "1");
    }
    let output = command.output().unwrap();
    match output.status.code() {
        Some(137) => true,
        Some(0) => false,
        _ => panic!("operation {n}: {output:?}"),
    }
}

fn finish(terminal: &Terminal, n: u64) {
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

fn counted_once(server: &Server, n: u64) {
    let world = server.world();
    assert_eq!(world.failure_ids(), ["failure-1"], "operation {n}");
    let counters: Vec<u64> = world.manifests().iter().map(|manifest| manifest["counter"].as_u64().unwrap()).collect();
    assert!(counters.windows(2).all(|pair| pair[0] < pair[1]), "operation {n}: {counters:?}");
}

/// Cuts at n = 1, 2, 3 … until an update goes through uncut; checks with `check` after each. Returns how many there were.
fn cut_at_every_operation(more: &str, torn: bool, check: impl Fn(&Fleet, &Server, &Terminal, u64)) -> u64 {
    let mut fleet = Fleet::new();
    for n in 1..OPERATIONS_MAX {
        let (server, terminal) = fleet.prepare(more);
        let cut = start_and_cut(&terminal, n, torn);
        assert!(fleet.runs_one_of_both_whole(&terminal), "operation {n}: neither old nor new runs whole");
        finish(&terminal, n);
        check(&fleet, &server, &terminal, n);
        counted_once(&server, n);
        if !cut {
            return n - 1;
        }
    }
    panic!("an update has more than {OPERATIONS_MAX} storage operations");
}

fn new_firmware_runs(fleet: &Fleet, server: &Server, terminal: &Terminal, n: u64) {
    assert!(terminal.runs(&fleet.new), "operation {n}: {}", terminal.status());
    let status = terminal.status();
    assert_eq!(status["committed"]["os"], 3, "operation {n}");
    let world = server.world();
    let finals = world.counted.iter().filter_map(|check_in| check_in.update.as_ref());
    let finals: Vec<_> =
        finals.filter(|update| update.phase.as_str() == "succeeded").map(|update| update.assignment).collect();
    assert!(!finals.is_empty() && finals.iter().all(|assignment| *assignment == 20), "operation {n}: {finals:?}");
}

#[test]
fn after_a_cut_before_any_operation_of_an_update_the_next_start_finishes_it() {
    let operations = cut_at_every_operation("", false, new_firmware_runs);
    assert!(operations > 50, "only {operations} operations were cut");
}

#[test]
fn after_a_cut_in_the_middle_of_any_write_the_next_start_finishes_the_update() {
    cut_at_every_operation("", true, new_firmware_runs);
}

#[test]
fn after_two_cuts_in_a_row_the_next_start_finishes_the_update() {
    let mut fleet = Fleet::new();
    // Every fifth first cut, with second cuts spread over the whole recovery.
    for first in (1..OPERATIONS_MAX).step_by(5) {
        let (server, terminal) = fleet.prepare("");
        let cut = start_and_cut(&terminal, first, false);
        start_and_cut(&terminal, first * 7 % 61 + 1, first % 2 == 0);
        assert!(fleet.runs_one_of_both_whole(&terminal), "operation {first}: neither old nor new runs whole");
        finish(&terminal, first);
        new_firmware_runs(&fleet, &server, &terminal, first);
        counted_once(&server, first);
        if !cut {
            return;
        }
    }
}

#[test]
fn after_a_cut_before_any_operation_of_a_rollback_the_old_firmware_runs() {
    // Healthy only while the running slot holds version 2.0.0.
    let script = "grep -q 2.0.0 {folder}/slots/$(cat {folder}/slots/current)/slot.json";
    let more = format!("health_command = ['sh', '-c', '{script}']");
    let operations = cut_at_every_operation(&more, false, |fleet, server, terminal, n| {
        assert!(terminal.runs(&fleet.old), "operation {n}: {}", terminal.status());
        assert_eq!(terminal.status()["committed"]["os"], 2, "operation {n}");
        assert_eq!(terminal.status()["tried"][0], fleet.new.sha256().as_str(), "operation {n}");
        let world = server.world();
        let last = world.counted.iter().rev().find_map(|check_in| check_in.update.as_ref()).unwrap();
        assert_eq!((last.phase.as_str(), last.reason.unwrap().as_str()), ("rolled_back", "health_check_failed"));
    });
    assert!(operations > 50, "only {operations} operations were cut");
}
