//! What two do at the same moment, and what is said twice: each of these once left a wrong number or a brake that was late.

use std::collections::BTreeSet;

use tillward_server::profiles;

use super::bare::{BEGIN_MS, Bare, Deed, on_bare_postgres, on_each_bare, perform, walker};
use super::invariants::{Snapshot, Watchdog, snapshot};
use super::*;
use crate::harness::is_anybody_waiting;

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

/// A report holds the assignment `number`, and a pass of the planner comes to wait for it. Then the report wants `further`:
/// if the planner held any of that, the two would wait for each other.
fn yields_to_a_report(bare: &Bare, number: i64, further: String, now_ms: i64) {
    let (planners, watching, handle) = (bare.one.clone(), bare.one.clone(), bare.runtime.handle().clone());
    let reported = bare.two.write(move |conn| {
        conn.batch_execute(&format!("SELECT id FROM assignments WHERE id = {number} FOR NO KEY UPDATE"))?;
        let pass = handle.spawn(async move { planner::pass(&planners, Now(now_ms)).await });
        wait_until("the planner waits", || handle.block_on(watching.read(is_anybody_waiting)).unwrap());
        conn.batch_execute(&format!("{further} FOR NO KEY UPDATE"))?;
        Ok::<_, Error>(pass)
    });
    let pass = bare.runtime.block_on(reported);
    let pass =
        pass.unwrap_or_else(|error| panic!("the planner waits for one and holds what comes after it: {error:?}"));
    bare.runtime.block_on(pass).unwrap().unwrap();
}

#[test]
fn a_pass_that_puts_terminals_off_and_a_report_never_wait_for_each_other() {
    on_bare_postgres(|bare| {
        let strategy = json!({"windows": [{"from": "02:00", "until": "05:00"}]});
        bare.plants(6);
        bare.runs("UPDATE terminals SET utc_offset_min = 240".to_owned());
        bare.rolls_out(json!({"name": "n", "release_id": 1, "strategy": strategy}));
        // It is eleven at night where they are, and their turn comes three hours later.
        bare.does(Deed::Pass, BEGIN_MS);
        let later_ms = BEGIN_MS + 3 * HOUR_MS;
        // By then they are further west: some are put off for an hour, and those with the lower numbers for two.
        bare.runs("UPDATE terminals SET utc_offset_min = CASE WHEN id <= 3 THEN 120 ELSE 180 END".to_owned());
        yields_to_a_report(bare, 1, "SELECT id FROM assignments WHERE id > 1".to_owned(), later_ms);
        assert_eq!(phases(&check(bare, later_ms)), BTreeMap::from([("waiting", 6)]));
    });
}

#[test]
fn a_pass_that_opens_a_stage_and_a_report_never_wait_for_each_other() {
    on_bare_postgres(|bare| {
        let windows = json!([{"from": "02:00", "until": "05:00"}]);
        let strategy = json!({"stages": [{"count": 2}], "soak_s": 3600, "windows": windows});
        bare.starts(8, json!({"name": "n", "release_id": 1, "strategy": strategy}));
        bare.does(Deed::Pass, BEGIN_MS);
        let unopened = assignments::table.filter(assignments::phase.eq("waiting"));
        let unopened = unopened.order(assignments::rank).select(assignments::id);
        let read = bare.one.read(move |conn| Ok::<_, Error>(unopened.load::<i64>(conn)?));
        let unopened = bare.runtime.block_on(read).unwrap();
        assert_eq!(unopened.len(), 6);
        // The first in turn and the highest number may be offered now; the others only in their own night.
        let (first, last) = (unopened[0], unopened.iter().copied().max().unwrap());
        let low = unopened.iter().copied().filter(|id| ![first, last].contains(id)).min().unwrap();
        bare.runs(format!("UPDATE terminals SET utc_offset_min = 240 WHERE id NOT IN ({first}, {last})"));
        let now_ms = BEGIN_MS + 1;
        bare.does(Deed::Act { rollout: 1, verb: "advance", part: ("", "") }, now_ms);
        yields_to_a_report(bare, low, format!("SELECT id FROM assignments WHERE id > {low}"), now_ms);
        assert_eq!(look(bare).assignments.iter().filter(|one| one.stage == 1).count(), 6);
    });
}

#[test]
fn a_pass_that_takes_a_profile_back_and_a_report_never_wait_for_each_other() {
    on_bare_postgres(|bare| {
        bare.plants(4);
        let new = serde_json::from_value(json!({"name": "base", "parameters": {"apn": "cmnet"}})).unwrap();
        let made = bare.one.write(move |conn| {
            let (actor, scope) = (audit::Actor::from(&walker()), Scope::subtree("/1/"));
            profiles::create(conn, &actor, "root", &scope, 1, new, Now(BEGIN_MS))
        });
        let profile = bare.runtime.block_on(made).unwrap().id;
        bare.rolls_out(json!({"name": "n", "profile_id": profile, "layer": {"kind": "global"}}));
        bare.does(Deed::Pass, BEGIN_MS);
        assert_eq!(phases(&look(bare)), BTreeMap::from([("offered", 4)]));
        bare.does(Deed::Act { rollout: 1, verb: "pause", part: ("", "") }, BEGIN_MS + 1);
        // A report that is taken in goes on to its terminal's own row.
        yields_to_a_report(bare, 1, "SELECT id FROM terminals".to_owned(), BEGIN_MS + 1);
        assert_eq!(phases(&check(bare, BEGIN_MS + 1)), BTreeMap::from([("waiting", 4)]));
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
