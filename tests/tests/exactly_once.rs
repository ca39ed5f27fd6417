//! Check-ins and failures are counted exactly once, also when the server is killed under load, again and again.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use serde_json::json;
use tillward_tests::admin::{Admin, Totals};
use tillward_tests::agent::{Agent, Provision};
use tillward_tests::database::Database;
use tillward_tests::server::Server;
use tillward_tests::{fleet, programs, wait_until};

const TERMINALS: usize = 96;
const CHECK_INS_EACH: u64 = 60;

/// Shares of the load, percent, after which the server is killed.
const KILLS: [u64; 5] = [5, 25, 45, 65, 85];

#[test]
fn a_server_killed_five_times_under_load_counts_each_check_in_once_on_sqlite() {
    kill_under_load(Database::Sqlite);
}

#[test]
fn a_server_killed_five_times_under_load_counts_each_check_in_once_on_postgresql() {
    if let Some(database) = Database::postgres("exactly once") {
        kill_under_load(database);
    }
}

fn kill_under_load(database: Database) {
    let mut server = Server::start_with(programs::tillward(), database, 900);
    let admin = Admin::set_up(&server);
    let registered = fleet::register(&admin, TERMINALS);
    let load = fleet::start(&server.url, &registered, CHECK_INS_EACH, 1);
    for percent in KILLS {
        load.wait_for(percent);
        server.kill();
        server.start_again();
    }
    let sent = load.finish();
    assert!(sent.repeated > 0, "the kills met no check-in under way: nothing was tried here");
    let counted = Admin::of(&server).totals();
    let expected = Totals {
        check_ins: sent.check_ins,
        failures: sent.failures,
        state_check_ins: sent.check_ins,
        state_failures: sent.failures,
    };
    assert_eq!(counted, expected);
    let audit = server.tool(&["audit", "verify"]);
    assert!(audit.status.success(), "{audit:?}");
}

/// Times that the agent is killed.
const AGENT_KILLS: u64 = 8;
/// Failures that the payment application leaves before each kill.
const FAILURES_EACH: u64 = 12;

#[test]
fn an_agent_killed_again_and_again_loses_no_failure_and_repeats_none() {
    let server = Server::start();
    let admin = Admin::set_up(&server);
    admin.add_model("demo-p1");
    let registered = admin.add_terminal("KILLED0001", "demo-p1");
    let provision = Provision { poll_max_s: 0.01, ..Provision::of(&admin, &server.url) };
    let mut agent = Agent::prepare(&provision, &registered);
    for kill in 0..AGENT_KILLS {
        let before = admin.totals().state_check_ins;
        agent.start();
        for number in 0..FAILURES_EACH {
            agent.leave_failure(&json!({
                "id": format!("f-{kill}-{number}"), "occurred_at_ms": 1_790_000_000_000_i64, "transaction": "sale",
                "stage": "wait",
            }));
        }
        wait_until("the agent checks in again", || admin.totals().state_check_ins > before + kill % 3);
        // At another moment of its work each time: this is what is tried here, not a wait for something.
        std::thread::sleep(Duration::from_millis(kill * 7));
        agent.stop();
    }
    agent.rounds_until("the spool is empty", |agent| {
        let spool = &agent.status()["spool"];
        spool["failures_waiting"] == 0 && spool["unacknowledged"].is_null()
    });
    let totals = admin.totals();
    assert_eq!(totals.state_failures, AGENT_KILLS * FAILURES_EACH);
    assert_eq!(totals.failures, totals.state_failures);
    assert_eq!(totals.check_ins, totals.state_check_ins);
    assert_eq!(agent.status()["spool"]["last_seq"], totals.state_check_ins);
}
