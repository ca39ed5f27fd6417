//! A clock that jumps by a day while a rollout runs.
//!
//! Forwards: a terminal that installs has been silent for a day as far as anybody can know. It ends as timed out, counts
//! against the release, and the gate stops: the safe side, from which a person goes on. What is only offered has its week.
//! Backwards: what was planned for the time that is gone waits until that comes again, a day at most; nothing is offered
//! that was not, and no time limit fires.

use std::collections::BTreeSet;

use super::bare::{BEGIN_MS, Bare, Deed, on_each_bare};
use super::invariants::{Snapshot, Watchdog, snapshot};
use super::*;

const MINUTE_MS: i64 = 60_000;
const TERMINALS: i64 = 20;

/// A rollout whose first stage of five is on its way: one downloads, one installs, one is on trial, two are offered.
fn on_its_way(bare: &Bare) {
    let strategy = json!({"stages": [{"count": 5}], "soak_s": 3600, "in_flight_max": 6});
    bare.starts(TERMINALS, json!({"name": "n", "release_id": 1, "strategy": strategy}));
    bare.does(Deed::Pass, BEGIN_MS);
    let first = ordered(&look(bare));
    let said = [Phase::Downloading, Phase::Installing, Phase::Trial];
    let said = first.iter().zip(said).map(|(&id, phase)| (id, update(id, phase, None), false)).collect();
    bare.does(Deed::Reports(said), BEGIN_MS + MINUTE_MS);
}

fn look(bare: &Bare) -> Snapshot {
    bare.runtime.block_on(bare.one.read(snapshot)).unwrap()
}

/// One rollout over all terminals in the order of their numbers: assignments have the same ones.
fn ordered(seen: &Snapshot) -> Vec<i64> {
    seen.assignments.iter().filter(|one| one.is_ordered()).map(|one| one.id).collect()
}

fn pass(bare: &Bare, now_ms: i64) -> Snapshot {
    bare.does(Deed::Pass, now_ms);
    let seen = look(bare);
    Watchdog::default().check(&seen, &BTreeMap::new(), &BTreeSet::new(), now_ms);
    seen
}

fn phases(seen: &Snapshot) -> BTreeMap<&str, usize> {
    let mut phases = BTreeMap::new();
    seen.assignments.iter().for_each(|one| *phases.entry(one.phase.as_str()).or_default() += 1);
    phases
}

/// Everybody calls each minute and does what it is told; returns the moment at which the rollout ended.
fn carry_on(bare: &Bare, from_ms: i64, until_ms: i64) -> i64 {
    let mut now_ms = from_ms;
    while now_ms < until_ms {
        now_ms += 5 * MINUTE_MS;
        bare.does(Deed::Calls { one_in: 1 }, now_ms);
        let seen = pass(bare, now_ms);
        if seen.rollouts[&1].state == "succeeded" {
            return now_ms;
        }
        let said = ordered(&seen).into_iter().map(|id| (id, update(id, Phase::Succeeded, None), true)).collect();
        bare.does(Deed::Reports(said), now_ms);
    }
    panic!("the rollout did not end: {:?}, {:?}", phases(&look(bare)), look(bare).rollouts);
}

#[test]
fn a_clock_that_jumps_ahead_ends_what_installs_stops_at_the_gate_and_offers_nothing_new() {
    on_each_bare(|bare| {
        on_its_way(bare);
        let seen = pass(bare, BEGIN_MS + DAY_MS + 2 * MINUTE_MS);
        // Two of three that began are lost from sight: too many to go on without a person.
        let lost = BTreeMap::from([("timed_out", 2), ("waiting", 18)]);
        assert_eq!((seen.rollouts[&1].state.as_str(), phases(&seen)), ("halted", lost));
        // The clock is set right. What ended stays so, and nothing begins by itself.
        let seen = pass(bare, BEGIN_MS + 2 * MINUTE_MS);
        assert_eq!((seen.rollouts[&1].state.as_str(), ordered(&seen)), ("halted", vec![]));
    });
}

#[test]
fn a_clock_that_jumps_ahead_before_anybody_installs_costs_nothing() {
    on_each_bare(|bare| {
        let strategy = json!({"stages": [{"count": 5}], "soak_s": 600});
        bare.starts(TERMINALS, json!({"name": "n", "release_id": 1, "strategy": strategy}));
        pass(bare, BEGIN_MS);
        let seen = pass(bare, BEGIN_MS + DAY_MS);
        assert_eq!(seen.rollouts[&1].state, "running");
        assert_eq!(seen.assignments.iter().filter(|one| one.is_final()).count(), 0, "nobody was given up");
        let ended_ms = carry_on(bare, BEGIN_MS + DAY_MS, BEGIN_MS + 2 * DAY_MS);
        assert!(ended_ms < BEGIN_MS + DAY_MS + 120 * MINUTE_MS);
    });
}

#[test]
fn a_clock_that_jumps_back_offers_nothing_more_and_loses_a_day_at_most() {
    on_each_bare(|bare| {
        on_its_way(bare);
        let before = pass(bare, BEGIN_MS + 2 * MINUTE_MS);
        let back_ms = BEGIN_MS - DAY_MS;
        let seen = pass(bare, back_ms);
        assert_eq!((ordered(&seen), phases(&seen)), (ordered(&before), phases(&before)));
        assert_eq!(seen.rollouts[&1].state, "running");
        let ended_ms = carry_on(bare, back_ms, BEGIN_MS + DAY_MS);
        assert!(ended_ms < BEGIN_MS + 180 * MINUTE_MS, "it took until {ended_ms}");
        assert_eq!(phases(&look(bare)), BTreeMap::from([("succeeded", usize::try_from(TERMINALS).unwrap())]));
    });
}

#[test]
fn a_clock_that_was_ahead_and_is_set_right_holds_nobody_for_longer_than_it_was_ahead() {
    on_each_bare(|bare| {
        let windows = json!([{"from": "02:00", "until": "05:00"}]);
        let strategy = json!({"stages": [{"count": 5}], "windows": windows});
        bare.starts(TERMINALS, json!({"name": "n", "release_id": 1, "strategy": strategy}));
        // Wrongly tomorrow at noon: all wait for the night after.
        let seen = pass(bare, BEGIN_MS + DAY_MS + 9 * 60 * MINUTE_MS);
        assert_eq!(ordered(&seen), Vec::<i64>::new());
        let ended_ms = carry_on(bare, BEGIN_MS, BEGIN_MS + 4 * DAY_MS);
        assert!(ended_ms < BEGIN_MS + 2 * DAY_MS + 180 * MINUTE_MS, "it took until {ended_ms}");
    });
}
