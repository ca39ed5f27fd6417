//! What two do at the same moment, and what is said twice: each of these once left a wrong number or a brake that was late.

use std::collections::BTreeSet;

use super::bare::{BEGIN_MS, Bare, Deed, on_bare_postgres, on_each_bare, perform, walker};
use super::invariants::{Snapshot, Watchdog, snapshot};
use super::*;

fn look(bare: &Bare) -> Snapshot {
    bare.runtime.block_on(bare.one.read(snapshot)).unwrap()
}

fn check(bare: &Bare, now_ms: i64) -> Snapshot {
    let seen = look(bare);
    Watchdog::default().check(&seen, &BTreeMap::new(), &BTreeSet::new(), now_ms);
    seen
}

fn phases(seen: &Snapshot) -> BTreeMap<&str, usize> {
    let mut phases = BTreeMap::new();
    seen.assignments.iter().for_each(|one| *phases.entry(one.phase.as_str()).or_default() += 1);
    phases
}

fn says(terminal: i64, phase: Phase, reason: Option<Reason>) -> Deed {
    // One rollout over all terminals in the order of their numbers: assignments have the same ones.
    Deed::Reports(vec![(terminal, update(terminal, phase, reason), false)])
}

/// What comes in between, by the other server.
fn after(bare: &Bare, moments: i64, deeds: Vec<Deed>, now_ms: i64) {
    let (db, handle) = (bare.two.clone(), bare.runtime.handle().clone());
    bare.faults.after(moments, move || {
        for deed in deeds {
            handle.block_on(perform(db.clone(), walker(), deed, Now(now_ms))).unwrap();
        }
    });
}

#[test]
fn a_part_that_is_stopped_is_closed_by_the_very_next_pass() {
    on_each_bare(|bare| {
        bare.starts(6, json!({"name": "n", "release_id": 1}));
        // Everything was judged and looked at a moment ago: nothing else is due.
        bare.does(Deed::Pass, BEGIN_MS);
        assert_eq!(phases(&look(bare)), BTreeMap::from([("offered", 6)]));
        bare.does(Deed::Act { rollout: 1, verb: "stop", part: ("carrier", "cmcc") }, BEGIN_MS + 1);
        bare.does(Deed::Pass, BEGIN_MS + 1);
        assert_eq!(phases(&check(bare, BEGIN_MS + 1)), BTreeMap::from([("cancelled", 6)]));
    });
}

#[test]
fn a_pause_leaves_what_the_planner_did_while_it_was_made() {
    on_bare_postgres(|bare| {
        let ends_at_ms = BEGIN_MS + DAY_MS;
        let strategy = json!({"stages": [{"count": 2}], "soak_s": 3600, "is_dynamic": true});
        bare.starts(6, json!({"name": "n", "release_id": 1, "strategy": strategy, "ends_at_ms": ends_at_ms}));
        bare.does(Deed::Pass, BEGIN_MS);
        bare.does(Deed::NewTerminal(7), BEGIN_MS);
        // The rollout was read, and is not written yet: the planner of another server takes the new one in.
        let later_ms = BEGIN_MS + 301_000;
        after(bare, 2, vec![Deed::Pass], later_ms);
        bare.does(Deed::Act { rollout: 1, verb: "pause", part: ("", "") }, later_ms);
        assert!(bare.faults.clear(), "nothing came in between");
        let seen = check(bare, later_ms);
        assert_eq!(seen.rollouts[&1].admitted, 7);
        assert_eq!(seen.rollouts[&1].state, "paused");
    });
}

#[test]
fn an_assignment_that_is_accepted_and_put_off_while_its_time_ends_is_counted_as_what_it_is() {
    on_bare_postgres(|bare| {
        bare.starts(3, json!({"name": "n", "release_id": 1, "assignment_timeout_s": 600}));
        bare.does(Deed::Pass, BEGIN_MS);
        let late_ms = BEGIN_MS + 700_000;
        let deferred = says(1, Phase::Deferred, Some(Reason::NotIdle));
        after(bare, 3, vec![says(1, Phase::Downloading, None), deferred], late_ms);
        bare.does(Deed::Pass, late_ms);
        assert!(bare.faults.clear(), "nothing came in between");
        check(bare, late_ms);
        bare.does(Deed::Pass, late_ms);
        // It showed a sign of life in time; the other two did not.
        assert_eq!(phases(&check(bare, late_ms)), BTreeMap::from([("offered", 1), ("timed_out", 2)]));
    });
}

#[test]
fn an_attempt_that_failed_and_is_said_to_have_failed_again_is_one_attempt() {
    on_each_bare(|bare| {
        bare.starts(1, json!({"name": "n", "release_id": 1, "retry_max": 1, "retry_wait_s": 600}));
        bare.does(Deed::Pass, BEGIN_MS);
        for _ in 0..3 {
            bare.does(says(1, Phase::Failed, Some(Reason::NoSpace)), BEGIN_MS);
            assert_eq!(phases(&check(bare, BEGIN_MS)), BTreeMap::from([("waiting", 1)]));
        }
        bare.does(Deed::Pass, BEGIN_MS + 601_000);
        assert_eq!(phases(&look(bare)), BTreeMap::from([("offered", 1)]));
        bare.does(says(1, Phase::Failed, Some(Reason::NoSpace)), BEGIN_MS + 602_000);
        assert_eq!(phases(&check(bare, BEGIN_MS)), BTreeMap::from([("failed", 1)]));
    });
}

#[test]
fn a_terminal_that_speaks_of_what_was_never_offered_moves_nothing() {
    on_each_bare(|bare| {
        bare.starts(6, json!({"name": "n", "release_id": 1, "strategy": {"stages": [{"count": 2}], "soak_s": 60}}));
        bare.does(Deed::Pass, BEGIN_MS);
        let closed = look(bare).assignments.iter().find(|one| one.stage < 0).map(|one| one.terminal_id).unwrap();
        for (phase, reason) in [
            (Phase::Installing, None),
            (Phase::Trial, None),
            (Phase::Failed, Some(Reason::ExpiredMetadata)),
            (Phase::RolledBack, Some(Reason::BootFailed)),
        ] {
            bare.does(says(closed, phase, reason), BEGIN_MS);
            assert_eq!(phases(&check(bare, BEGIN_MS)), BTreeMap::from([("offered", 2), ("waiting", 4)]), "{phase:?}");
        }
    });
}
