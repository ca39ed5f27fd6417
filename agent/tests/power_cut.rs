//! The power goes before, or in the middle of, every single storage operation of a whole update, one after the other.
//! Afterwards the terminal always runs the old or the new firmware whole, and the next start finishes what was begun.
#![allow(clippy::unwrap_used)]

mod support;

use support::fleet::{
    Fleet, OPERATIONS_MAX, UNHEALTHY, counted_once, finish, new_firmware_runs, old_firmware_runs, start_and_cut,
};
use support::server::Server;
use support::terminal::Terminal;

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
    let operations = cut_at_every_operation(UNHEALTHY, false, old_firmware_runs);
    assert!(operations > 50, "only {operations} operations were cut");
}
