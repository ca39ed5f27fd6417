//! `kill -9` at every write: a process that carries a rollout on is killed before its n-th write or right after its n-th
//! commit, for n = 1, 2, 3 … until it completes. Each time another one goes on with what is in the database.
//!
//! The process is this test program itself. `TILLWARD_KILL_EVERY=1` tries each n; usually about fifteen are.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};

use tillward_server::db::{Db, Location};
use tillward_server::rollouts::planner::Left;

use super::bare::{BEGIN_MS, Bare, Deed, Place, perform, walker};
use super::faults::Faults;
use super::invariants::{AssignmentRow, Watchdog, snapshot};
use super::*;
use crate::harness::PostgresDatabase;

const TERMINALS: i64 = 10;
const MINUTE_MS: i64 = 60_000;
/// Its database, its number of writes, and its first moment: what the process is told.
const DATABASE: &str = "TILLWARD_KILL_DATABASE";
const WRITES: &str = "TILLWARD_KILL_WRITES";
const NOW: &str = "TILLWARD_KILL_NOW";
const SIGKILL: i32 = 9;

/// Runs the process; `writes` are those that it may begin, all of them if absent.
fn carry_on(database: &str, writes: Option<i64>, now_ms: i64) -> ExitStatus {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "rollouts::kills::process", "--ignored", "--quiet"]);
    command.env(DATABASE, database).env(NOW, now_ms.to_string()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Some(writes) = writes {
        command.env(WRITES, writes.to_string());
    }
    command.status().unwrap()
}

#[test]
#[ignore = "is the process that the others kill"]
fn process() {
    let database = std::env::var(DATABASE).expect("it is started by another test");
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<i64>().unwrap());
    let faults = Faults::of(&database);
    faults.count_writes();
    let db = Db::open(&Location::parse(&database)).unwrap();
    if let Some(writes) = number(WRITES) {
        faults.after(writes, || {
            let me = std::process::id().to_string();
            Command::new("kill").args(["-KILL", &me]).status().unwrap();
            std::thread::park();
        });
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut now_ms = number(NOW).unwrap();
    // What does not end in an hour never does.
    for _ in 0..60 {
        now_ms += MINUTE_MS;
        let seen = runtime.block_on(db.read(snapshot)).unwrap();
        let said = seen.assignments.iter().filter(|one| one.is_ordered()).map(says).collect();
        runtime.block_on(perform(db.clone(), walker(), Deed::Calls { one_in: 1 }, Now(now_ms))).unwrap();
        runtime.block_on(perform(db.clone(), walker(), Deed::Reports(said), Now(now_ms))).unwrap();
        assert_eq!(runtime.block_on(planner::pass(&db, Now(now_ms))).unwrap(), Left::Nothing);
        if seen.rollouts[&1].state == "succeeded" {
            return;
        }
    }
    panic!("the rollout did not end");
}

/// A terminal's next word; every third has no room at its first attempt.
fn says(one: &AssignmentRow) -> (i64, UpdateReport, bool) {
    let (phase, reason) = match one.phase.as_str() {
        "offered" => (Phase::Downloading, None),
        "downloading" if one.terminal_id % 3 == 0 && one.attempts == 0 => (Phase::Failed, Some(Reason::NoSpace)),
        "downloading" => (Phase::Installing, None),
        "installing" => (Phase::Trial, None),
        _ => (Phase::Succeeded, None),
    };
    (one.terminal_id, update(one.id, phase, reason), phase == Phase::Succeeded)
}

fn begin(bare: &Bare) {
    let strategy = json!({"stages": [{"count": 2}, {"percent": 50}], "in_flight_max": 4});
    bare.starts(
        TERMINALS,
        json!({"name": "n", "release_id": 1, "strategy": strategy, "retry_max": 1, "retry_wait_s": 60}),
    );
}

/// What holds after any end of the process.
fn check(bare: &Bare, now_ms: i64) -> (String, Counts) {
    let seen = bare.runtime.block_on(bare.one.read(snapshot)).unwrap();
    Watchdog::default().check(&seen, &BTreeMap::new(), &BTreeSet::new(), now_ms);
    let verdict = bare.runtime.block_on(audit::verify(&bare.one, None)).unwrap();
    assert_eq!(verdict.problem, None);
    (seen.rollouts[&1].state.clone(), bare.runtime.block_on(bare.one.read(kept)).unwrap())
}

/// Kills the process after `writes`, then lets another one end the rollout. Returns whether there was such a write.
fn kill_once(place: &Place<'_>, database: &str, writes: i64) -> bool {
    let is_killed = carry_on(database, Some(writes), BEGIN_MS).signal() == Some(SIGKILL);
    let bare = Bare::open(place);
    let later_ms = BEGIN_MS + 30 * MINUTE_MS;
    check(&bare, later_ms);
    if is_killed {
        assert!(carry_on(database, None, later_ms).success(), "it does not go on after a kill at write {writes}");
    }
    let ended = (1, "succeeded".to_owned());
    let (state, counts) = check(&bare, later_ms);
    assert_eq!((state.as_str(), counts), ("succeeded", Counts::from([(ended, TERMINALS)])), "killed at write {writes}");
    is_killed
}

fn every(usual: i64) -> i64 {
    std::env::var("TILLWARD_KILL_EVERY").map_or(usual, |text| text.parse().unwrap())
}

#[test]
fn a_planner_killed_at_any_write_leaves_what_the_next_one_completes_on_sqlite() {
    let template = tempfile::tempdir().unwrap();
    begin(&Bare::open(&Place::Sqlite(template.path())));
    let mut writes = 0;
    loop {
        let folder = tempfile::tempdir().unwrap();
        for file in std::fs::read_dir(template.path()).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
        }
        let database = folder.path().join("db");
        if !kill_once(&Place::Sqlite(folder.path()), database.to_str().unwrap(), writes) {
            break;
        }
        writes += every(41);
    }
    assert!(writes > 200, "the rollout has only {writes} writes");
}

#[test]
fn a_planner_killed_at_any_write_leaves_what_the_next_one_completes_on_postgresql() {
    let mut writes = 3;
    loop {
        let Some(database) = PostgresDatabase::create() else { return };
        begin(&Bare::open(&Place::Postgres(&database.url)));
        if !kill_once(&Place::Postgres(&database.url), &database.url, writes) {
            break;
        }
        writes += every(199);
    }
    assert!(writes > 100, "the rollout has only {writes} writes");
}
