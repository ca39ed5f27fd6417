//! Random walks over the real databases: people, terminals, clocks, planners and crashes in any order. What must hold is
//! checked after every step (see [`super::invariants`]).
//!
//! A walk follows from its seed. `TILLWARD_WALKS` sets how many are walked on each database, `TILLWARD_WALK_SEED` the
//! first seed: a walk that failed names the one that repeats it. On PostgreSQL two planners at once are not repeatable to
//! the statement; what happens in the middle of one transaction is.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use futures_util::future::{join, join_all};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tillward_server::audit::Actor;
use tillward_server::operators::Caller;
use tillward_server::rollouts::NewRollout;
use tillward_server::rollouts::gate::Class;
use tillward_server::rollouts::planner::Left;

use super::bare::{BEGIN_MS, Bare, Deed, Place, perform, walker};
use super::invariants::{Answers, AssignmentRow, Snapshot, Watchdog, snapshot};
use super::*;
use crate::harness::PostgresDatabase;

const TERMINALS: i64 = 40;
const STEPS: u32 = 120;
/// Walks on each database when nobody asks for more.
const WALKS: u64 = 8;
const HOUR_MS: i64 = 3_600_000;
/// Moments of the longest transaction here, about.
const MOMENTS: i64 = 40;

#[test]
fn no_order_of_events_and_crashes_breaks_a_rollout_on_sqlite() {
    for seed in seeds() {
        let folder = tempfile::tempdir().unwrap();
        walk(seed, &Place::Sqlite(folder.path()));
    }
}

#[test]
fn no_order_of_events_crashes_and_planners_at_once_breaks_a_rollout_on_postgresql() {
    for seed in seeds() {
        let Some(database) = PostgresDatabase::create() else { return };
        walk(seed, &Place::Postgres(&database.url));
    }
}

fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str, usual| std::env::var(name).map_or(usual, |text| text.parse().unwrap());
    let first = number("TILLWARD_WALK_SEED", 1);
    first..first + number("TILLWARD_WALKS", WALKS)
}

fn walk(seed: u64, place: &Place<'_>) {
    let mut walk = Walk::prepare(seed, place);
    let walked = catch_unwind(AssertUnwindSafe(|| walk.whole()));
    if let Err(panic) = walked {
        let at = walk.steps.len();
        let last: Vec<&str> = walk.steps.iter().skip(at.saturating_sub(12)).map(String::as_str).collect();
        eprintln!(
            "walk {seed} broke after {at} steps: TILLWARD_WALKS=1 TILLWARD_WALK_SEED={seed}\n  {}",
            last.join("\n  ")
        );
        resume_unwind(panic);
    }
}

struct Walk {
    random: StdRng,
    bare: Bare,
    now_ms: i64,
    caller: Caller,
    dog: Watchdog,
    /// Assignments whose terminals went on although they were told to stop.
    late: BTreeSet<i64>,
    steps: Vec<String>,
}

impl Walk {
    fn prepare(seed: u64, place: &Place<'_>) -> Self {
        let mut walk = Self {
            random: StdRng::seed_from_u64(seed),
            bare: Bare::open(place),
            now_ms: BEGIN_MS,
            caller: walker(),
            dog: Watchdog::default(),
            late: BTreeSet::new(),
            steps: Vec::new(),
        };
        walk.fill();
        walk
    }

    fn fill(&mut self) {
        let mut statements = prepared();
        statements.push_str(&format!(
            "INSERT INTO releases (id, organization_id, org_path, name, component, firmware_version, release_counter,
                 models, requires, sha256, length_bytes, notes, state, created_by, created_by_name, created_at_ms, version)
             VALUES (5, 1, '/1/', 'r5', 'os', '4.5.0', 5, '[\"demo-p1\"]', '[]', '{SHA256}', 1000, '', 'published', 1,
                 'root', 0, 1);
             INSERT INTO release_models (model, component, release_counter, release_id, target_name)
             VALUES ('demo-p1', 'os', 5, 5, 'demo-p1.os.4.5.0-5.bin');"
        ));
        (1..=TERMINALS).for_each(|id| statements.push_str(&self.terminal(id)));
        let filled = self.bare.one.write(move |conn| Ok::<_, Error>(conn.batch_execute(&statements)?));
        self.bare.runtime.block_on(filled).unwrap();
        for (release, priority) in [(1, 0), (5, 5), (5, 2)] {
            let new = self.draft(release, priority);
            let (caller, now) = (self.caller.clone(), Now(self.now_ms));
            let made = self.bare.one.write(move |conn| {
                let actor = Actor::from(&caller);
                rollouts::create(conn, &caller, new, &actor, now)
            });
            self.bare.runtime.block_on(made).unwrap();
        }
    }

    fn terminal(&mut self, id: i64) -> String {
        let carrier = self.pick(&["cmcc", "cucc"]);
        let store = if self.one_in(2) { format!("'S{}'", self.random.random_range(0..6)) } else { "NULL".to_owned() };
        let mut statements = terminal_sql(id, "/1/", &[]);
        statements.push_str(&format!(
            "UPDATE terminals SET store_name = {store} WHERE id = {id};
             UPDATE terminal_states SET carrier = '{carrier}', last_seen_ms = {} WHERE terminal_id = {id};",
            self.now_ms
        ));
        if self.one_in(10) {
            statements.push_str(&format!("INSERT INTO terminal_tags (tag, terminal_id) VALUES ('canary', {id});"));
        }
        statements
    }

    fn draft(&mut self, release: i64, priority: u32) -> NewRollout {
        let is_dynamic = self.one_in(3);
        let mut strategy = json!({"is_dynamic": is_dynamic, "soak_s": self.pick(&[0, 60, 1800])});
        strategy["stages"] = match self.random.random_range(0..4) {
            0 => json!([]),
            1 => json!([{"tag": "canary"}, {"count": 6}]),
            2 => json!([{"count": 3}, {"count": 9}, {"percent": 60}]),
            _ => json!([{"percent": 10}, {"percent": 50}]),
        };
        if self.one_in(2) {
            strategy["in_flight_max"] = json!(self.random.random_range(2..8));
        }
        if self.one_in(2) {
            strategy["in_flight_per_site_max"] = json!(self.random.random_range(1..3));
        }
        if self.one_in(4) {
            strategy["hold_back_percent"] = json!(10);
        }
        if self.one_in(4) {
            strategy["windows"] = json!([{"from": "02:00", "until": "05:00"}, {"from": "12:00", "until": "14:00"}]);
        }
        let filter = match self.random.random_range(0..3) {
            0 => json!({"terminal_ids": (10..=TERMINALS).collect::<Vec<i64>>()}),
            _ => json!({}),
        };
        let starts_at_ms = self.one_in(4).then_some(self.now_ms + HOUR_MS);
        let ends_at_ms = is_dynamic.then_some(self.now_ms + 3 * DAY_MS);
        let new = json!({
            "name": "walk", "release_id": release, "priority": priority, "strategy": strategy, "filter": filter,
            "starts_at_ms": starts_at_ms, "ends_at_ms": ends_at_ms, "retry_max": self.random.random_range(0..3),
            "assignment_timeout_s": self.pick(&[600, 86_400]),
        });
        serde_json::from_value(new).unwrap()
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.random.random_range(0..n) == 0
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.random.random_range(0..of.len())]
    }

    fn whole(&mut self) {
        let seen = self.look();
        self.check(&seen);
        for rollout in 1..=3 {
            if !self.one_in(4) {
                self.do_plainly(Deed::Act { rollout, verb: "start", part: ("", "") });
            }
        }
        for _ in 0..STEPS {
            self.step();
        }
        self.end();
    }

    fn step(&mut self) {
        let seen = self.look();
        let deed = self.draw(&seen);
        self.note_late(&deed, &seen);
        match self.random.random_range(0..10) {
            0 | 1 => self.do_with_crash(deed),
            2 | 3 if self.bare.is_postgres => {
                let other = self.draw(&seen);
                self.note_late(&other, &seen);
                self.do_with_another_in_between(deed, other);
            }
            4 if self.bare.is_postgres => self.two_planners(),
            5 | 6 => self.move_clock(),
            _ => self.do_plainly(deed),
        }
        let seen = self.look();
        self.check(&seen);
        if self.one_in(3) {
            self.settle();
        }
    }

    /// Passes until there is nothing left to do, and checks what must hold then.
    fn settle(&mut self) {
        for _ in 0..20 {
            match self.bare.runtime.block_on(planner::pass(&self.bare.one, Now(self.now_ms))) {
                Ok(Left::Nothing) => break,
                Ok(Left::More) => {}
                Err(error) => panic!("a pass without a fault failed: {error:?}"),
            }
        }
        self.steps.push("settle".to_owned());
        let seen = self.look();
        let answers = self.check(&seen);
        self.dog.check_settled(&seen, &answers, self.now_ms);
    }

    fn look(&self) -> Snapshot {
        self.bare.runtime.block_on(self.bare.one.read(snapshot)).unwrap()
    }

    fn check(&mut self, seen: &Snapshot) -> Answers {
        let answers = self.bare.runtime.block_on(join_all((1..=TERMINALS).map(|terminal_id| {
            let session = TerminalSession { terminal_id: TerminalId(terminal_id), epoch: 0, expires_s: i64::MAX };
            releases::desired(&self.bare.one, session)
        })));
        let answers: Answers = answers
            .into_iter()
            .map(|answer| {
                let desired = answer.unwrap().unwrap();
                assert!(desired.orders.len() <= 1, "{desired:?}");
                (
                    desired.terminal_id.0,
                    (desired.orders.first().map(|order| order.assignment), desired.assignment_version),
                )
            })
            .collect();
        let is_at_it: BTreeSet<i64> =
            seen.assignments.iter().filter(|one| one.is_ordered()).map(|one| one.id).collect();
        self.late.retain(|id| is_at_it.contains(id));
        self.dog.check(seen, &answers, &self.late, self.now_ms);
        answers
    }

    fn draw(&mut self, seen: &Snapshot) -> Deed {
        match self.random.random_range(0..20) {
            0..=5 => Deed::Pass,
            6..=13 => Deed::Reports(self.draw_reports(&seen.assignments)),
            14..=16 => {
                let usual =
                    ["pause", "resume", "resume", "advance", "advance", "override", "override", "start", "stop"];
                let verb = if self.one_in(25) { "cancel" } else { self.pick(&usual) };
                let part = self.pick(&[("carrier", "cmcc"), ("carrier", "cucc"), ("model", "demo-p1")]);
                Deed::Act { rollout: self.random.random_range(1..=3), verb, part }
            }
            17 => Deed::Calls { one_in: self.random.random_range(1..4) },
            18 => {
                let mut failures = Vec::new();
                for _ in 0..self.random.random_range(1..4) {
                    let class = self.pick(&[Class::Hard, Class::Payment]);
                    failures.push((self.random.random_range(1..=TERMINALS), class));
                }
                Deed::Failures(failures)
            }
            _ => Deed::NewTerminal(self.random.random_range(TERMINALS + 1..TERMINALS + 10)),
        }
    }

    /// What terminals say: mostly the next step of an order, but also anything about anything that was ever theirs.
    fn draw_reports(&mut self, assignments: &[AssignmentRow]) -> Vec<(i64, UpdateReport, bool)> {
        let ordered: Vec<&AssignmentRow> = assignments.iter().filter(|one| one.is_ordered()).collect();
        let mut said = Vec::new();
        for _ in 0..self.random.random_range(1..8) {
            let is_sensible = !self.one_in(4);
            let from = if is_sensible { ordered.len() } else { assignments.len() };
            if from == 0 {
                continue;
            }
            let at = self.random.random_range(0..from);
            let one = if is_sensible { ordered[at] } else { &assignments[at] };
            let phase = match one.phase.as_str() {
                "offered" if is_sensible => self.pick(&[Phase::Downloading, Phase::Downloading, Phase::Deferred]),
                "downloading" if is_sensible => self.pick(&[Phase::Installing, Phase::Installing, Phase::Failed]),
                "installing" if is_sensible => Phase::Rebooting,
                "rebooting" if is_sensible => Phase::Trial,
                "trial" if is_sensible && self.one_in(20) => Phase::RolledBack,
                "trial" if is_sensible => Phase::Succeeded,
                _ => self.pick(&Phase::ALL),
            };
            let reason = match phase {
                Phase::Failed if is_sensible => Some(self.pick(&[Reason::NoSpace, Reason::StorageError])),
                Phase::RolledBack if is_sensible => Some(Reason::HealthCheckFailed),
                Phase::Deferred if is_sensible => Some(Reason::NotIdle),
                _ if is_sensible => None,
                _ => Some(self.pick(&Reason::ALL)),
            };
            let has_proof = phase == Phase::Succeeded && (is_sensible || self.one_in(2));
            let report = (one.terminal_id, update(one.id, phase, reason), has_proof);
            // Everything may be said twice.
            if self.one_in(5) {
                said.push(report.clone());
            }
            said.push(report);
        }
        said
    }

    /// Who says that it goes on with what the server took back is past the last point where it asks.
    fn note_late(&mut self, deed: &Deed, seen: &Snapshot) {
        let Deed::Reports(said) = deed else { return };
        for (_, update, _) in said {
            let waits = |one: &&AssignmentRow| one.id == update.assignment && one.phase == "waiting";
            self.late.extend(seen.assignments.iter().find(waits).map(|one| one.id));
        }
    }

    fn do_plainly(&mut self, deed: Deed) {
        self.steps.push(format!("{} {deed:?}", self.now_ms));
        let done =
            self.bare.runtime.block_on(perform(self.bare.one.clone(), self.caller.clone(), deed, Now(self.now_ms)));
        done.unwrap_or_else(|error| panic!("the database refused without a fault: {error}"));
    }

    fn do_with_crash(&mut self, deed: Deed) {
        let moments = self.random.random_range(0..MOMENTS);
        self.steps.push(format!("{} crash after {moments} in {deed:?}", self.now_ms));
        self.bare.faults.crash_after(moments);
        let done =
            self.bare.runtime.block_on(perform(self.bare.one.clone(), self.caller.clone(), deed, Now(self.now_ms)));
        let has_crashed = self.bare.faults.clear();
        assert!(has_crashed || done.is_ok(), "the database refused without a fault: {done:?}");
    }

    /// `other` is committed by another server while a transaction of `deed` is open.
    fn do_with_another_in_between(&mut self, deed: Deed, other: Deed) {
        let moments = self.random.random_range(0..MOMENTS);
        self.steps.push(format!("{} after {moments} in {deed:?} comes {other:?}", self.now_ms));
        let (db, caller, now) = (self.bare.two.clone(), self.caller.clone(), Now(self.now_ms));
        let handle = self.bare.runtime.handle().clone();
        // Where it needs what the open transaction holds it is refused, as it would have to wait.
        self.bare.faults.after(moments, move || drop(handle.block_on(perform(db, caller, other, now))));
        let done = self.bare.runtime.block_on(perform(self.bare.one.clone(), self.caller.clone(), deed, now));
        self.bare.faults.clear();
        drop(done);
    }

    fn two_planners(&mut self) {
        self.steps.push(format!("{} two planners", self.now_ms));
        let now = Now(self.now_ms);
        let (one, two) =
            self.bare.runtime.block_on(join(planner::pass(&self.bare.one, now), planner::pass(&self.bare.two, now)));
        one.unwrap();
        drop(two);
    }

    fn move_clock(&mut self) {
        let by_ms = match self.random.random_range(0..12) {
            0 => -self.random.random_range(0..60_000),
            1 => -self.random.random_range(0..DAY_MS),
            2 => self.random.random_range(0..DAY_MS),
            3 | 4 => self.random.random_range(0..3 * HOUR_MS),
            _ => self.random.random_range(0..400_000),
        };
        self.steps.push(format!("the clock moves by {by_ms}"));
        self.now_ms += by_ms;
    }

    /// Everything ends when people end it: nothing hangs.
    fn end(&mut self) {
        for rollout in 1..=3 {
            self.do_plainly(Deed::Act { rollout, verb: "cancel", part: ("", "") });
        }
        self.settle();
        // As far as the clock may have gone back, and the longest that an installation may take.
        self.now_ms += 10 * DAY_MS;
        self.settle();
        let seen = self.look();
        let live: Vec<&AssignmentRow> = seen.assignments.iter().filter(|one| !one.is_final()).collect();
        assert!(live.is_empty(), "{live:?}");
        let verdict = self.bare.runtime.block_on(audit::verify(&self.bare.one, None)).unwrap();
        assert_eq!(verdict.problem, None);
        assert!(self.bare.faults.passed() > 0, "no transaction was watched");
    }
}
