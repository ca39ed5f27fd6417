//! The power goes, and with it what was never forced to the disk: each such write kept, lost or torn, each such name made
//! or not. The real agent runs up to the cut; the disk it leaves is worked out from what it did.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;

use support::disk::Disk;
use support::fleet::{
    Fleet, OPERATIONS_MAX, UNHEALTHY, counted_once, finish, new_firmware_runs, old_firmware_runs, was_cut,
};
use support::terminal::Terminal;

/// Unforced operations up to which every outcome is tried.
const EXHAUSTIVE_MAX: usize = 3;
/// Outcomes that are tried where there are more.
const SAMPLES: u64 = 6;

/// Numbers that follow from a seed.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

/// Goes through every combination of choices.
#[derive(Default)]
struct Every {
    /// Each choice that was asked for, and out of how many.
    taken: Vec<(usize, usize)>,
    next: usize,
}

impl Every {
    fn choose(&mut self, choices: usize) -> usize {
        if self.next == self.taken.len() {
            self.taken.push((0, choices));
        }
        self.next += 1;
        self.taken[self.next - 1].0
    }

    /// Turns to the next combination; says whether there is one.
    fn turn(&mut self) -> bool {
        self.next = 0;
        while let Some((taken, choices)) = self.taken.pop() {
            if taken + 1 < choices {
                self.taken.push((taken + 1, choices));
                return true;
            }
        }
        false
    }
}

/// Starts the agent, ends it before operation `n`, and tells `disk` what it did; says whether it was ended.
fn start_traced(terminal: &Terminal, disk: &mut Disk, n: u64) -> bool {
    let trace = tempfile::NamedTempFile::new().unwrap();
    let mut command = terminal.command(&["run", "--once"]);
    command.env("TILLWARD_AGENT_FAIL_AT", n.to_string()).env("TILLWARD_AGENT_TRACE", trace.path());
    let cut = was_cut(command, n);
    disk.replay(&std::fs::read_to_string(trace.path()).unwrap());
    cut
}

fn identity(terminal: &Terminal) -> Vec<u8> {
    std::fs::read(terminal.state().join("identity.key")).unwrap()
}

/// What holds at once, before the agent has done anything about it.
fn nothing_is_broken(fleet: &Fleet, terminal: &Terminal, key: &[u8], what: &str) {
    assert!(fleet.runs_one_of_both_whole(terminal), "{what}: neither old nor new runs whole");
    assert_eq!(identity(terminal), key, "{what}");
    let status = terminal.status();
    assert_eq!(status["journal"], "valid", "{what}: {status}");
    assert_eq!(status["spool"]["state"], "valid", "{what}: {status}");
    assert!(status["committed"]["os"].as_u64().unwrap() >= 2, "{what}: {status}");
}

/// No more files than before, but for one that stands beside each that was being replaced.
fn no_space_is_lost(folder: &Path, before: usize, what: &str) {
    let count = |folder: &Path| -> usize {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.extension().is_none_or(|extension| extension != "new")).count()
    };
    let slots: usize = ["a", "b"].iter().map(|slot| count(&folder.join(slot))).sum();
    assert!(slots <= before, "{what}: {slots} files in the slots");
}

#[test]
fn whatever_of_the_unforced_writes_of_an_update_is_lost_nothing_breaks_and_it_is_finished() {
    let mut fleet = Fleet::new();
    let mut outcomes = 0;
    for n in 1..OPERATIONS_MAX {
        let (server, terminal) = fleet.prepare("");
        let key = identity(&terminal);
        let mut disk = Disk::of(terminal.folder.path());
        let cut = start_traced(&terminal, &mut disk, n);
        let what = |outcome: &str| format!("operation {n}, {outcome}");
        if disk.unforced() <= EXHAUSTIVE_MAX {
            let mut every = Every::default();
            loop {
                disk.cut_power(&mut |choices| every.choose(choices));
                nothing_is_broken(&fleet, &terminal, &key, &what(&format!("{:?}", every.taken)));
                outcomes += 1;
                if !every.turn() {
                    break;
                }
            }
        }
        for sample in 0..SAMPLES {
            let mut draw = Draw(n << 32 | sample);
            disk.cut_power(&mut |choices| draw.below(choices));
            nothing_is_broken(&fleet, &terminal, &key, &what(&format!("sample {sample}")));
            outcomes += 1;
            if disk.unforced() == 0 {
                break;
            }
        }
        finish(&terminal, n);
        new_firmware_runs(&fleet, &server, &terminal, n);
        counted_once(&server, n);
        no_space_is_lost(&terminal.slots(), 4, &what("finished"));
        if !cut {
            println!("{n} operations, {outcomes} outcomes");
            assert!(outcomes > 300, "only {outcomes} outcomes were tried");
            return;
        }
    }
    panic!("an update has more than {OPERATIONS_MAX} storage operations");
}

#[test]
fn what_an_agent_that_was_killed_left_unforced_is_not_taken_for_safe_by_the_next_one() {
    const RUNS: u64 = 60;
    let mut fleet = Fleet::new();
    let mut lost = 0;
    for run in 0..RUNS {
        let mut draw = Draw(run);
        let (server, terminal) = fleet.prepare("");
        let key = identity(&terminal);
        let mut disk = Disk::of(terminal.folder.path());
        // Killed: the system goes on, and with it what it holds in memory. Then the power goes.
        let (killed_at, cut_at) = (draw.below(150) as u64 + 1, draw.below(150) as u64 + 1);
        start_traced(&terminal, &mut disk, killed_at);
        start_traced(&terminal, &mut disk, cut_at);
        lost += disk.unforced();
        disk.cut_power(&mut |choices| draw.below(choices));
        nothing_is_broken(&fleet, &terminal, &key, &format!("run {run}: killed at {killed_at}, cut at {cut_at}"));
        finish(&terminal, run);
        new_firmware_runs(&fleet, &server, &terminal, run);
        counted_once(&server, run);
    }
    assert!(lost > 0, "no run left anything unforced");
}

#[test]
fn whatever_of_the_unforced_writes_of_a_rollback_is_lost_the_old_firmware_runs() {
    let mut fleet = Fleet::new();
    for n in (1..OPERATIONS_MAX).step_by(3) {
        let (server, terminal) = fleet.prepare(UNHEALTHY);
        let key = identity(&terminal);
        let mut disk = Disk::of(terminal.folder.path());
        let cut = start_traced(&terminal, &mut disk, n);
        let mut draw = Draw(n);
        disk.cut_power(&mut |choices| draw.below(choices));
        nothing_is_broken(&fleet, &terminal, &key, &format!("operation {n}"));
        finish(&terminal, n);
        old_firmware_runs(&fleet, &server, &terminal, n);
        counted_once(&server, n);
        if !cut {
            return;
        }
    }
    panic!("a rollback has more than {OPERATIONS_MAX} storage operations");
}

#[test]
fn a_payload_that_a_killed_agent_completed_is_forced_by_the_next_one() {
    let mut fleet = Fleet::new();
    for n in 1..OPERATIONS_MAX {
        let (server, terminal) = fleet.prepare("");
        let mut disk = Disk::of(terminal.folder.path());
        assert!(start_traced(&terminal, &mut disk, n), "no operation comes right after the payload's last byte");
        let length = fleet.new.payload.len() as u64;
        let part = format!("{}.part", fleet.new.sha256());
        let here = ["a", "b"].map(|slot| std::fs::metadata(terminal.slots().join(slot).join(&part)));
        if !here.into_iter().flatten().any(|found| found.len() == length) {
            continue;
        }
        assert!(!start_traced(&terminal, &mut disk, u64::MAX));
        disk.cut_power(&mut |_| 0);
        assert!(terminal.runs(&fleet.new), "the payload was never forced");
        finish(&terminal, n);
        new_firmware_runs(&fleet, &server, &terminal, n);
        return;
    }
}
